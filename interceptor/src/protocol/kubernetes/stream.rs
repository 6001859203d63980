//! The streams of a command in a container: what it is told, and what it shows on either output, as `exec` and
//! `attach` carry them over WebSocket and SPDY/3.1. Bytes in, bytes out: what was shown is looked at on its way,
//! whatever frames it comes in, and told as a terminal's so that it can be kept as the client saw it.
//!
//! What cannot be read goes no farther. Nothing is kept but the head of a frame and what is looked at.

mod spdy;
mod websocket;
mod words;

use std::time::Duration;

use bytes::Bytes;

use self::spdy::Spdy;
use self::websocket::Frames;
use self::words::{Channel, Said, Size, exit, number_of, of};
use super::facts::Command;
use crate::session::{Direction, Terminal};

/// Bytes of what a server says of a command's end, and of one size of a terminal.
const STATUS_MAX: usize = 64 << 10;
const SIZE_MAX: usize = 256;
/// The size of a terminal that says none.
const SIZE: [u16; 2] = [80, 24];
/// How long a terminal is quiet before what is kept back of it is shown, and how long a command without one.
const QUIET: Duration = Duration::from_millis(100);
const LULL: Duration = Duration::from_secs(2);
/// The protocol of a WebSocket by which a client can close one channel, and the channel that says so.
const CLOSES: &str = "v5.channel.k8s.io";
const CLOSED: u8 = 255;

/// Why nothing more goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// What looks at what a command shows: covers it, letter for letter, or lets no more go by.
pub trait Look {
    /// What may go on of this and of what was kept back; with `last`, all.
    ///
    /// # Errors
    /// Why nothing more goes by.
    fn pass(&mut self, bytes: &[u8], last: bool) -> Result<Vec<u8>, Broken>;

    /// Whether something is kept back until more has come.
    fn holds(&self) -> bool;
}

/// The streams of one command.
#[derive(Debug)]
pub struct Stream<L> {
    wire: Wire,
    command: Command,
    /// What looks at either output, and at what is said of the end; `None` where all goes on as it is.
    looks: Option<[L; 3]>,
    size: Vec<u8>,
    sized: [u16; 2],
    is_opened: bool,
    /// What the server says of the end, until it has said all of it; whether it has.
    status: Vec<u8>,
    is_over: bool,
    exit: Option<u32>,
}

#[derive(Debug)]
enum Wire {
    WebSocket {
        sent: Frames,
        received: Frames,
        coded: bool,
        closes: bool,
    },
    Spdy(Spdy),
}

impl<L: Look> Stream<L> {
    /// Of a command, over what its connection has become; `protocol` as the server has chosen it.
    ///
    /// # Errors
    /// Where that is not read here.
    pub fn new(
        command: Command,
        (became, protocol): (&str, &str),
        looks: Option<[L; 3]>,
    ) -> Result<Self, Broken> {
        let wire = match (became, protocol) {
            ("spdy/3.1", _) => Wire::Spdy(Spdy::default()),
            ("websocket", "" | "channel.k8s.io" | "v4.channel.k8s.io" | CLOSES) => {
                Wire::websocket(false, protocol == CLOSES)
            }
            ("websocket", "base64.channel.k8s.io" | "v4.base64.channel.k8s.io") => {
                Wire::websocket(true, false)
            }
            _ => return Err(Broken("its streams are carried as nothing here reads them")),
        };
        Ok(Self {
            wire,
            command,
            looks,
            size: Vec::new(),
            sized: SIZE,
            is_opened: false,
            status: Vec::new(),
            is_over: false,
            exit: None,
        })
    }

    /// What the client said, as it is kept; the bytes themselves go on as they are.
    ///
    /// # Errors
    /// Why they do not.
    pub fn sent(&mut self, mut bytes: &[u8]) -> Result<Vec<Terminal>, Broken> {
        let mut kept = Vec::new();
        while !bytes.is_empty() {
            let mut said = Vec::new();
            let mut take = |channel: Channel, bytes: &[u8]| {
                if !bytes.is_empty() {
                    said.push((channel, Bytes::copy_from_slice(bytes)));
                }
                Ok(())
            };
            bytes = match &mut self.wire {
                Wire::Spdy(spdy) => spdy.sent(bytes, take)?,
                Wire::WebSocket { sent, closes, .. } => {
                    let closes = *closes;
                    sent.feed(bytes, |event| match event {
                        websocket::Event::Control { .. } => Ok(()),
                        websocket::Event::Data { channel, bytes, .. } => match channel {
                            CLOSED if closes => Ok(()),
                            channel => take(of(channel)?, bytes),
                        },
                    })?
                }
            };
            for (channel, bytes) in said {
                match channel {
                    Channel::Input => self.keep(Terminal::Typed(bytes), &mut kept),
                    Channel::Size => self.resized(&bytes, &mut kept)?,
                    Channel::Output | Channel::Errors | Channel::Status => {
                        return Err(Broken("the client speaks where only the server does"));
                    }
                }
            }
        }
        Ok(kept)
    }

    /// Takes what the server said, to the end of a frame: what goes on, into `out`, each
    /// frame by itself, and what that shows; and what is behind it. Some clients wait for the next piece of the connection where they could read on: what a server
    /// sends apart stays apart.
    ///
    /// # Errors
    /// Why it goes no farther; what was put into `out` before may.
    pub fn received<'a>(
        &mut self,
        bytes: &'a [u8],
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(Vec<Terminal>, &'a [u8]), Broken> {
        let mut kept = Vec::new();
        let (said, rest) = self.read(bytes)?;
        let before = out.len();
        for said in said {
            self.answered(said, &mut kept, out)?;
        }
        if self.looks.is_none() {
            out.truncate(before);
            let read = bytes.len().saturating_sub(rest.len());
            out.push(bytes.get(..read).unwrap_or_default().to_vec());
        }
        Ok((kept, rest))
    }

    /// What the server said, piece by piece.
    fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<(Vec<Said>, &'a [u8]), Broken> {
        let mut said = Vec::new();
        let rest = match &mut self.wire {
            Wire::WebSocket {
                received, closes, ..
            } => {
                let closes = *closes;
                received.feed(bytes, |event| {
                    said.push(match event {
                        websocket::Event::Control { kind, bytes } => {
                            Said::Control(kind, bytes.to_vec())
                        }
                        websocket::Event::Data { channel, bytes, .. }
                            if channel == CLOSED && closes =>
                        {
                            Said::Closes(bytes.to_vec())
                        }
                        websocket::Event::Data {
                            channel,
                            bytes,
                            ends,
                        } => Said::data(of(channel)?, bytes, (ends, false)),
                    });
                    Ok(())
                })?
            }
            Wire::Spdy(spdy) => spdy.received(bytes, |channel, event| {
                match (channel, event) {
                    (
                        Some(channel),
                        spdy::Event::Data {
                            bytes, ends, last, ..
                        },
                    ) => said.push(Said::data(channel, bytes, (ends, last))),
                    (_, spdy::Event::Control(frame)) => said.push(Said::Control(0, frame.to_vec())),
                    (None, spdy::Event::Data { .. }) => {}
                }
                Ok(())
            })?,
        };
        Ok((said, rest))
    }

    fn answered(
        &mut self,
        said: Said,
        kept: &mut Vec<Terminal>,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(), Broken> {
        match said {
            Said::Data {
                channel: channel @ (Channel::Output | Channel::Errors),
                bytes,
                ends,
                last,
            } => {
                let begins = bytes.is_empty() && ends;
                let shown = self.look(channel, &bytes, last)?;
                // A message of nothing opens a channel, and is waited for.
                if !shown.is_empty() || begins || last {
                    self.write(channel, &shown, last, out);
                }
                self.show(channel, shown, kept);
            }
            Said::Data {
                channel: Channel::Status,
                bytes,
                ends,
                last,
            } => {
                self.status.extend_from_slice(&bytes);
                if self.status.len() > STATUS_MAX {
                    return Err(Broken("what is said of a command's end does not end"));
                }
                // A stream of SPDY is read to its end, whatever frames it comes in.
                let is_all = match &self.wire {
                    Wire::WebSocket { .. } => ends,
                    Wire::Spdy(_) => last,
                };
                if is_all {
                    self.over(last, kept, out)?;
                }
            }
            Said::Data {
                channel: channel @ (Channel::Input | Channel::Size),
                bytes,
                last,
                ..
            } => {
                if !bytes.is_empty() {
                    return Err(Broken("the server speaks where only the client does"));
                }
                self.write(channel, &[], last, out);
            }
            // It names one channel, and has room for nothing else: nobody looks at what stands there.
            Said::Closes(bytes) => match bytes.as_slice() {
                [] => {}
                [channel] if of(*channel).is_ok() => {
                    self.flush(kept, out)?;
                    out.push(websocket::message(CLOSED, &bytes, false));
                }
                _ => return Err(Broken("the server closes what is no channel")),
            },
            Said::Control(kind, bytes) => self.control(kind, &bytes, kept, out)?,
        }
        Ok(())
    }

    fn control(
        &mut self,
        kind: u8,
        bytes: &[u8],
        kept: &mut Vec<Terminal>,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(), Broken> {
        let (ends, is_over) = match &self.wire {
            Wire::WebSocket { .. } => (kind == websocket::CLOSE, kind == websocket::CLOSE),
            Wire::Spdy(spdy) => {
                let status = spdy.stream(Channel::Status);
                (
                    spdy::ends(bytes, None),
                    spdy::ends(bytes, Some(status.unwrap_or(0))),
                )
            }
        };
        match (ends, is_over) {
            (_, true) => self.finish(kept, out)?,
            (true, false) => self.flush(kept, out)?,
            (false, false) => {}
        }
        match &self.wire {
            Wire::WebSocket { .. } => {
                let bytes = self.look(Channel::Status, bytes, true)?;
                out.push(websocket::control(kind, &bytes));
            }
            Wire::Spdy(_) => out.push(bytes.to_vec()),
        }
        Ok(())
    }

    /// How long the server may be quiet before what is kept back is shown, where something is: somebody may wait for
    /// it, in front of a terminal or at the other end of a pipe.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        let mut looks = self.looks.iter().flatten();
        looks
            .any(Look::holds)
            .then_some(match self.command.is_terminal {
                true => QUIET,
                false => LULL,
            })
    }

    /// Shows what was kept back, where no frame is in the middle.
    ///
    /// # Errors
    /// As [`Stream::received`].
    pub fn flush(
        &mut self,
        kept: &mut Vec<Terminal>,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(), Broken> {
        for channel in [Channel::Output, Channel::Errors] {
            let shown = self.look(channel, &[], true)?;
            if !shown.is_empty() {
                self.write(channel, &shown, false, out);
                self.show(channel, shown, kept);
            }
        }
        Ok(())
    }

    /// The same where the server says nothing more: also what it has said of the end so far.
    ///
    /// # Errors
    /// As [`Stream::received`].
    pub fn finish(
        &mut self,
        kept: &mut Vec<Terminal>,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(), Broken> {
        match self.status.is_empty() {
            true => self.flush(kept, out),
            false => self.over(false, kept, out),
        }
    }

    /// Takes what the server has said of the command's end as all of it.
    fn over(
        &mut self,
        last: bool,
        kept: &mut Vec<Terminal>,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(), Broken> {
        self.flush(kept, out)?;
        let status = std::mem::take(&mut self.status);
        // A message of nothing opens a channel.
        if !status.is_empty() && std::mem::replace(&mut self.is_over, true) {
            return Err(Broken("what is said of a command's end is said in pieces"));
        }
        self.exit = self.exit.or_else(|| exit(&status));
        if self.looks.is_some() {
            let status = self.look(Channel::Status, &status, true)?;
            self.write(Channel::Status, &status, last, out);
        }
        Ok(())
    }

    /// Tells the client, in the server's place, that its command has failed, and why: where what goes on is written
    /// here, so that no frame is in the middle.
    pub fn refuse(&self, why: &str, out: &mut Vec<Vec<u8>>) {
        if self.looks.is_none() {
            return;
        }
        let status = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "reason": "Forbidden", "message": format!("interceptor: {why}"), "code": 403,
        });
        self.write(Channel::Status, status.to_string().as_bytes(), true, out);
        if let Wire::WebSocket { .. } = self.wire {
            out.push(websocket::control(
                websocket::CLOSE,
                &1000_u16.to_be_bytes(),
            ));
        }
    }

    /// The exit status, where the server has said one.
    #[must_use]
    pub fn exit(&self) -> Option<u32> {
        self.exit
    }

    fn look(&mut self, channel: Channel, bytes: &[u8], last: bool) -> Result<Vec<u8>, Broken> {
        let Some([output, errors, status]) = &mut self.looks else {
            return Ok(bytes.to_vec());
        };
        match channel {
            Channel::Output => output.pass(bytes, last),
            Channel::Errors => errors.pass(bytes, last),
            Channel::Status | Channel::Input | Channel::Size => status.pass(bytes, last),
        }
    }

    /// Writes bytes of a channel as the server would.
    fn write(&self, channel: Channel, bytes: &[u8], last: bool, out: &mut Vec<Vec<u8>>) {
        match &self.wire {
            Wire::WebSocket { coded, .. } => {
                out.push(websocket::message(number_of(channel), bytes, *coded));
            }
            Wire::Spdy(spdy) => {
                if let Some(stream) = spdy.stream(channel) {
                    out.push(spdy::data(stream, bytes, last));
                }
            }
        }
    }

    fn show(&mut self, channel: Channel, shown: Vec<u8>, kept: &mut Vec<Terminal>) {
        if shown.is_empty() {
            return;
        }
        let shown = Bytes::from(shown);
        let shown = match channel {
            Channel::Errors => Terminal::Erred(shown),
            _ => Terminal::Shown(shown),
        };
        self.keep(shown, kept);
    }

    /// Keeps what happened; before the first of it, that there is a terminal, or what else it is.
    fn keep(&mut self, what: Terminal, kept: &mut Vec<Terminal>) {
        self.open(kept);
        kept.push(match (what, self.command.carries_files) {
            (Terminal::Typed(bytes), true) => Terminal::Carried(Direction::Sent, bytes),
            (Terminal::Shown(bytes), true) => Terminal::Carried(Direction::Received, bytes),
            (what, _) => what,
        });
    }

    /// Says at once what it is where no terminal's size may come first.
    pub fn begin(&mut self, kept: &mut Vec<Terminal>) {
        if !self.command.is_terminal {
            self.open(kept);
        }
    }

    /// Says what it is, where that was not said.
    pub fn open(&mut self, kept: &mut Vec<Terminal>) {
        if std::mem::replace(&mut self.is_opened, true) {
            return;
        }
        let [columns, rows] = match self.command.is_terminal {
            true => self.sized,
            false => [0, 0],
        };
        let command = self.command.words.clone();
        kept.push(match self.command.carries_files {
            true => Terminal::Carries(command),
            false => Terminal::Opened {
                columns,
                rows,
                term: String::new(),
                command,
            },
        });
    }

    /// The client's terminal has another size, as JSON.
    fn resized(&mut self, bytes: &[u8], kept: &mut Vec<Terminal>) -> Result<(), Broken> {
        for byte in bytes {
            self.size.push(*byte);
            if *byte != b'}' {
                continue;
            }
            let size = serde_json::from_slice::<Size>(&std::mem::take(&mut self.size));
            let Ok(Size { width, height }) = size else {
                return Err(Broken("the size of a terminal is none"));
            };
            let said = [width, height].into_iter().zip(SIZE);
            let mut said = said.map(|(said, usual)| if said == 0 { usual } else { said });
            let (Some(columns), Some(rows)) = (said.next(), said.next()) else {
                continue;
            };
            self.sized = [columns, rows];
            if self.is_opened && self.command.is_terminal {
                kept.push(Terminal::Resized { columns, rows });
            }
        }
        match self.size.len() > SIZE_MAX {
            true => Err(Broken("the size of a terminal is none")),
            false => Ok(()),
        }
    }
}

impl Wire {
    fn websocket(coded: bool, closes: bool) -> Self {
        Self::WebSocket {
            sent: Frames::new(true, coded),
            received: Frames::new(false, coded),
            coded,
            closes,
        }
    }
}

/// A number, the highest byte first.
fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter();
    bytes.fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn within(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
}

#[cfg(test)]
mod tests;
