//! What was asked and what came back: the frames of a recording as requests and answers, for people. Off the path;
//! in the shape that statements and their results have, so that one command shows both.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::facts;
use super::sftp::wire::{self, Request, kind};
use super::typing::Typing;
use crate::clock::BootTime;
use crate::protocol::postgres::transcript::{
    Cell, Column, Exchange, Limits, Notice, ResultSet, Transcript,
};
use crate::session::{Direction, Phase, RequestId, Terminal};

/// Bytes of a packet of sftp that is waited for.
const PACKET: usize = 2 * wire::MOST;
/// Operations on files that wait for their answers.
const UNANSWERED: usize = 4_096;

/// A recording being read.
pub struct Reading {
    limits: Limits,
    channels: HashMap<u32, Channel>,
    exchanges: Vec<Exchange>,
    remark: Option<&'static str>,
}

/// A channel that is open.
struct Channel {
    /// Which exchange it is.
    exchange: usize,
    /// The exchange that was asked for last, and is not known to be permitted.
    asked: Option<usize>,
    output: Text,
    errors: Text,
    /// Bytes that came of what is no text.
    carried: u64,
    typing: Option<Typing>,
    files: Option<Files>,
}

/// What one stream showed.
#[derive(Default)]
struct Text {
    kept: Vec<u8>,
    bytes: u64,
}

/// The packets of sftp, as far as they are not whole, and the operations that are not answered.
#[derive(Default)]
struct Files {
    sent: BytesMut,
    received: BytesMut,
    unanswered: HashMap<u32, usize>,
}

impl Reading {
    /// Before the first frame.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            channels: HashMap::new(),
            exchanges: Vec::new(),
            remark: None,
        }
    }

    /// Takes what happened next on one of the channels. After a remark nothing is taken.
    pub fn take(&mut self, at: BootTime, number: u32, what: &Terminal) {
        if self.remark.is_some() {
            return;
        }
        match what {
            Terminal::Opened {
                columns, command, ..
            } => {
                let statement = match command.as_str() {
                    "" => "shell",
                    command => command,
                };
                let typing = (*columns > 0).then(|| Typing::new(u32::from(*columns)));
                self.opened(at, number, statement, typing);
            }
            Terminal::Carries(what) => self.opened(at, number, what, None),
            Terminal::Asked(request) => self.permitted(number, *request),
            Terminal::Shown(bytes) => self.shown(number, bytes, false),
            Terminal::Erred(bytes) => self.shown(number, bytes, true),
            Terminal::Typed(bytes) => self.typed(number, bytes),
            Terminal::Resized { columns, .. } => {
                let channel = self.channels.get_mut(&number);
                if let Some(typing) = channel.and_then(|channel| channel.typing.as_mut()) {
                    typing.resize(u32::from(*columns));
                }
            }
            Terminal::Carried(direction, bytes) => self.carried(at, number, *direction, bytes),
            Terminal::Unrecorded { sent, received } => self.unrecorded(number, [*sent, *received]),
            Terminal::Closed { status } => self.closed(at, number, *status),
        }
    }

    fn begin(&mut self, at: BootTime, statement: &str) -> Option<usize> {
        if self.exchanges.len() >= self.limits.exchanges {
            self.remark = Some("more requests than are shown");
            return None;
        }
        let (kept, _) = statement.split_at(statement.floor_char_boundary(self.limits.value));
        self.exchanges.push(Exchange {
            executed: true,
            ..Exchange::new(at, kept.into())
        });
        Some(self.exchanges.len().saturating_sub(1))
    }

    fn opened(&mut self, at: BootTime, number: u32, statement: &str, typing: Option<Typing>) {
        let Some(exchange) = self.begin(at, statement) else {
            return;
        };
        let channel = Channel {
            exchange,
            asked: Some(exchange),
            output: Text::default(),
            errors: Text::default(),
            carried: 0,
            typing,
            files: (statement == facts::subsystem("sftp")).then(Files::default),
        };
        self.channels.insert(number, channel);
    }

    fn permitted(&mut self, number: u32, request: RequestId) {
        let asked = self.channels.get_mut(&number);
        let asked = asked.and_then(|channel| channel.asked.take());
        if let Some(exchange) = asked.and_then(|asked| self.exchanges.get_mut(asked)) {
            exchange.requests.push((request, Phase::Execute));
        }
    }

    fn shown(&mut self, number: u32, bytes: &Bytes, is_error: bool) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let text = match is_error {
            true => &mut channel.errors,
            false => &mut channel.output,
        };
        text.add(bytes, self.limits.value);
        let exchange = self.exchanges.get_mut(channel.exchange);
        if let (Some(typing), Some(exchange)) = (&mut channel.typing, exchange) {
            let most = self.limits.rows;
            typing.shown(bytes, |line| {
                if exchange.notices.len() < most {
                    exchange.notices.push(typed(&line));
                }
            });
        }
    }

    fn typed(&mut self, number: u32, bytes: &Bytes) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        match &mut channel.typing {
            Some(typing) => typing.typed(bytes),
            None => {
                if let Some(exchange) = self.exchanges.get_mut(channel.exchange) {
                    exchange.copied_in = exchange.copied_in.saturating_add(length(bytes));
                }
            }
        }
    }

    fn carried(&mut self, at: BootTime, number: u32, direction: Direction, bytes: &Bytes) {
        let Some(mut channel) = self.channels.remove(&number) else {
            return;
        };
        match direction {
            Direction::Sent => {
                if let Some(exchange) = self.exchanges.get_mut(channel.exchange) {
                    exchange.copied_in = exchange.copied_in.saturating_add(length(bytes));
                }
            }
            Direction::Received => {
                channel.carried = channel.carried.saturating_add(length(bytes));
            }
        }
        if let Some(mut files) = channel.files.take() {
            let followed = match direction {
                Direction::Sent => self.asked(at, &mut channel, &mut files, bytes),
                Direction::Received => self.answered_by(at, &mut files, bytes),
            };
            // What is no sftp is not followed; its bytes are counted all the same.
            channel.files = followed.is_ok().then_some(files);
        }
        self.channels.insert(number, channel);
    }

    /// What went by and was not recorded counts all the same.
    fn unrecorded(&mut self, number: u32, [sent, received]: [u64; 2]) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        channel.carried = channel.carried.saturating_add(received);
        if let Some(exchange) = self.exchanges.get_mut(channel.exchange) {
            exchange.copied_in = exchange.copied_in.saturating_add(sent);
        }
    }

    /// The client's side of sftp.
    fn asked(
        &mut self,
        at: BootTime,
        channel: &mut Channel,
        files: &mut Files,
        bytes: &Bytes,
    ) -> Result<(), wire::Broken> {
        files.sent.extend_from_slice(bytes);
        while let Some(packet) = wire::packet(&mut files.sent)? {
            // Nothing is said of it, and of a part of a file no more than the head may be kept.
            if wire::kind_of(&packet) == kind::WRITE {
                continue;
            }
            let (id, request) = wire::request(&packet)?;
            let Some(said) = said(&request) else {
                continue;
            };
            let Some(exchange) = self.begin(at, &said) else {
                return Ok(());
            };
            channel.asked = Some(exchange);
            if files.unanswered.len() < UNANSWERED {
                files.unanswered.insert(id, exchange);
            }
        }
        bounded(&files.sent)
    }

    /// The server's.
    fn answered_by(
        &mut self,
        at: BootTime,
        files: &mut Files,
        bytes: &Bytes,
    ) -> Result<(), wire::Broken> {
        files.received.extend_from_slice(bytes);
        while let Some(packet) = wire::packet(&mut files.received)? {
            if wire::kind_of(&packet) == kind::VERSION {
                continue;
            }
            let asked = files.unanswered.remove(&wire::id(&packet)?);
            let Some(exchange) = asked.and_then(|asked| self.exchanges.get_mut(asked)) else {
                continue;
            };
            exchange.ended = Some(at);
            let tag = match wire::kind_of(&packet) {
                kind::STATUS => wire::said(&packet)?,
                _ => "ok".to_owned(),
            };
            exchange.results.push(result(tag));
        }
        bounded(&files.received)
    }

    fn closed(&mut self, at: BootTime, number: u32, status: Option<u32>) {
        let Some(channel) = self.channels.remove(&number) else {
            return;
        };
        let tag = match status {
            Some(status) => format!("exit {status}"),
            None => "closed".to_owned(),
        };
        self.ends(channel, Some((at, tag)));
    }

    fn ends(&mut self, channel: Channel, end: Option<(BootTime, String)>) {
        let rows = self.limits.rows;
        let Some(exchange) = self.exchanges.get_mut(channel.exchange) else {
            return;
        };
        let (ended, tag) = end.unzip();
        exchange.ended = ended;
        if channel.errors.bytes > 0 {
            let mut errors = channel.errors.result(rows);
            errors.columns = vec![Column {
                name: "standard error".into(),
                oid: 0,
                binary: false,
            }];
            errors.tag = Some("".into());
            exchange.results.push(errors);
        }
        let mut output = channel.output.result(rows);
        output.bytes = output.bytes.saturating_add(channel.carried);
        output.tag = tag.map(Arc::from);
        exchange.results.push(output);
    }

    /// What was asked from the `from`th on, and answered, up to the first that is not.
    #[must_use]
    pub fn answered(&self, from: usize) -> Vec<Exchange> {
        let after = self.exchanges.get(from..).unwrap_or_default();
        let over = after.iter().take_while(|one| one.ended.is_some());
        over.cloned().collect()
    }

    /// What was read, with what was still going on at the end.
    #[must_use]
    pub fn finish(mut self) -> Transcript {
        for (_, channel) in mem::take(&mut self.channels) {
            self.ends(channel, None);
        }
        Transcript {
            exchanges: self.exchanges,
            remark: self.remark,
        }
    }
}

impl Text {
    fn add(&mut self, bytes: &[u8], most: usize) {
        self.bytes = self.bytes.saturating_add(length(bytes));
        let room = most.saturating_sub(self.kept.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.kept.extend_from_slice(kept);
    }

    fn result(self, most: usize) -> ResultSet {
        let text = String::from_utf8_lossy(&self.kept);
        let rows: Vec<_> = text
            .split_terminator('\n')
            .map(|line| vec![Cell::Text(line.trim_end_matches('\r').into())])
            .collect();
        ResultSet {
            columns: Vec::new(),
            count: u64::try_from(rows.len()).unwrap_or(u64::MAX),
            rows: rows.into_iter().take(most).collect(),
            bytes: self.bytes,
            tag: None,
        }
    }
}

/// A result of no rows.
fn result(tag: String) -> ResultSet {
    ResultSet {
        tag: Some(tag.into()),
        ..Text::default().result(0)
    }
}

/// A line that was typed.
fn typed(line: &str) -> Notice {
    Notice {
        severity: "TYPED".into(),
        code: "as shown".into(),
        message: line.into(),
        detail: None,
        hint: None,
    }
}

/// An operation of sftp that is judged, in words.
fn said(request: &Request) -> Option<String> {
    match request {
        Request::Open { path, .. } => Some(format!("sftp open {path}")),
        Request::Path(operation, path) => Some(format!("sftp {} {path}", operation.word())),
        Request::Paths(operation, one, other) => {
            Some(format!("sftp {} {one} {other}", operation.word()))
        }
        Request::Handle(operation, _) => Some(format!("sftp f{}", operation.word())),
        Request::Unknown => Some("sftp (not known)".to_owned()),
        Request::NotText => Some("sftp (a path that is no UTF-8)".to_owned()),
        Request::Plain
        | Request::Init(_)
        | Request::Limits
        | Request::Read(_)
        | Request::Write(..)
        | Request::Close(_) => None,
    }
}

/// What is not whole by now never will be.
fn bounded(waiting: &BytesMut) -> Result<(), wire::Broken> {
    match waiting.len() > PACKET {
        true => Err(wire::Broken),
        false => Ok(()),
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
