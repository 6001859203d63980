//! What passes between a client's channel and the server's, both ways at once. Each side is written to
//! before more is read of the other: nothing is kept but what a window holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::{ChannelMsg, ChannelWriteHalf, client};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::inject::backlog::Messages;
use super::super::refuse;
use super::super::server::Event;
use super::super::sftp::{Answers, Done, Files, Step, wire};
use super::{Channel, Gone, STDERR, Shared};
use crate::clock;
use crate::masking::output::{Found, Stream};
use crate::session::{Gate as _, Outcome};

/// Answers of our own that wait for a gap between the server's.
const ANSWERS: usize = 16;
/// How long a terminal is quiet before what is held back of it is shown: a prompt must not wait.
const QUIET: Duration = Duration::from_millis(100);
/// How long a command without one is: who speaks with a program through it may wait, too, but for less than people do.
const LULL: Duration = Duration::from_secs(2);
/// How long a terminal is quiet before it is written what was typed in it.
const SOON: Duration = Duration::from_secs(1);
/// How long a server may take to end what its client has closed, or has broken.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a channel ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) bytes: u64,
    pub(super) status: String,
    pub(super) found: Found,
    /// The server has closed it.
    pub(super) is_closed: bool,
}

/// What passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Passes {
    /// What a command says and hears, to its status.
    Command,
    /// The same of a command whose output is files, not text.
    Copy,
    /// Requests and answers of sftp.
    Files,
    /// Bytes between two programs.
    Forward,
}

/// A channel both ways.
pub(super) struct Passage<'a> {
    channel: &'a mut Channel,
    files: Option<Files>,
    passes: Passes,
    closed: AtomicBool,
    /// The client has said its last.
    asked: AtomicBool,
}

/// Answers to sftp's requests: the server's, and ours in their places between them.
struct Replies {
    theirs: Answers,
    ours: mpsc::Receiver<Ours>,
    next: Option<Ours>,
}

/// An answer of our own, and how many of the server's packets go before it: clients that ask for many
/// things at once count on the order.
struct Ours {
    behind: u64,
    answer: Bytes,
}

impl Replies {
    /// What is to be said now: what the server has said up to the next of ours, and that.
    fn take(&mut self, data: &[u8], files: &Files) -> Result<Bytes, wire::Broken> {
        let mut out = BytesMut::new();
        let mut data = data;
        loop {
            if self.next.is_none() {
                self.next = self.ours.try_recv().ok();
            }
            let until = self.next.as_ref().map(|ours| ours.behind);
            out.extend_from_slice(&self.theirs.pass(data, files, until)?);
            data = &[];
            let is_due = |ours: &mut Ours| ours.behind <= self.theirs.gone_by();
            match self.next.take_if(is_due) {
                Some(ours) => out.extend_from_slice(&ours.answer),
                None => return Ok(out.freeze()),
            }
        }
    }
}

/// The side towards the client.
struct Down<'a> {
    channel: &'a Channel,
    streams: [Stream; 2],
    answers: Option<Replies>,
    ended: Ended,
    exited: Option<String>,
    closed: &'a AtomicBool,
    asked: &'a AtomicBool,
    passes: Passes,
    /// The server has said its last, and the client does not know it yet.
    end_waits: bool,
}

impl<'a> Passage<'a> {
    pub(super) fn new(channel: &'a mut Channel, passes: Passes) -> Self {
        Self {
            channel,
            files: (passes == Passes::Files).then(Files::new),
            passes,
            closed: AtomicBool::new(false),
            asked: AtomicBool::new(false),
        }
    }

    /// Passes all, to the end.
    pub(super) async fn run(self, read: Messages, write: ChannelWriteHalf<client::Msg>) -> Ended {
        let Self {
            channel,
            files,
            passes,
            closed,
            asked,
        } = self;
        let detectors = channel.shared.detectors.as_ref();
        // Files are not text, nor is what two programs say to each other: whoever waits for the rest of a value would
        // have both wait, and a mask is damage.
        let looks = match passes {
            Passes::Command => [detectors, detectors],
            Passes::Copy => [None, detectors],
            Passes::Files | Passes::Forward => [None, None],
        };
        let streams = looks.map(Stream::new);
        let (answer, answers) = mpsc::channel(ANSWERS);
        let channel = &*channel;
        let mut down = Down {
            channel,
            streams,
            answers: files.as_ref().map(|_| Replies {
                theirs: Answers::default(),
                ours: answers,
                next: None,
            }),
            ended: Ended::default(),
            exited: None,
            closed: &closed,
            asked: &asked,
            passes,
            end_waits: false,
        };
        let files = files.as_ref();
        let shared = &channel.shared;
        let broken = CancellationToken::new();
        let up = async {
            let up = Up {
                channel,
                write: &write,
                files,
                answer,
                ended: &asked,
                waiting: BytesMut::new(),
                asked: 0,
            };
            if up.run(&channel.events).await.is_err() {
                // The server is gone, or the client broke the protocol: it is told by the other side.
                drop(write.close().await);
                broken.cancel();
            }
            closed.store(true, Ordering::Release);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = down.run(read, files) => {
                if result.is_err() {
                    drop(timeout(PATIENCE, write.close()).await);
                }
            }
            () = up => {}
            () = patience(&channel.gone, &broken) => {}
        }
        came_out(shared, files.map(Files::left));
        let mut ended = down.ended;
        ended.status = down.exited.unwrap_or_else(|| match ended.is_closed {
            true => "ok".to_owned(),
            false => "lost".to_owned(),
        });
        ended
    }
}

/// Writes how requests of sftp came out.
fn came_out(shared: &Shared, done: Option<Vec<Done>>) {
    for done in done.into_iter().flatten() {
        let outcome = Outcome {
            bytes: done.read,
            written: done.written,
            took: clock::boot().since(done.begun),
            status: done.status,
            ..Outcome::default()
        };
        shared.session.finish(done.request, &outcome);
    }
}

/// Waits for what a server may take behind the end of its client, or of the order between them.
async fn patience(gone: &CancellationToken, broken: &CancellationToken) {
    tokio::select! {
        () = gone.cancelled() => {}
        () = broken.cancelled() => {}
    }
    sleep(PATIENCE).await;
}

/// The side towards the server.
struct Up<'a> {
    channel: &'a Channel,
    write: &'a ChannelWriteHalf<client::Msg>,
    files: Option<&'a Files>,
    answer: mpsc::Sender<Ours>,
    /// Is set when the client has said its last.
    ended: &'a AtomicBool,
    waiting: BytesMut,
    /// Packets that the server has to answer.
    asked: u64,
}

impl Up<'_> {
    async fn run(mut self, events: &super::Events) -> Result<(), Gone> {
        loop {
            match events.next().await {
                Event::Data(data) => match self.files {
                    None => self.send(data.freeze()).await?,
                    Some(files) => self.requests(files, &data).await?,
                },
                Event::Eof => {
                    self.ended.store(true, Ordering::Release);
                    self.write.eof().await?;
                }
                Event::Signal(signal) => self.write.signal(signal).await?,
                Event::Resize([columns, rows, width, height]) => {
                    let Channel { kept, shared, .. } = self.channel;
                    let size = [columns, rows, width, height];
                    kept.resized(shared, size).await?;
                    let write = self.write;
                    write.window_change(columns, rows, width, height).await?;
                }
                Event::Close => {
                    self.write.close().await?;
                    return Ok(());
                }
                // What is asked for while something runs comes to nothing.
                _ => {}
            }
        }
    }

    async fn send(&self, data: Bytes) -> Result<(), Gone> {
        let Channel { kept, shared, .. } = self.channel;
        kept.sent(shared, data.clone()).await?;
        self.write.data_bytes(data).await?;
        Ok(())
    }

    /// A request of sftp that the server is to answer.
    async fn ask(&mut self, packet: Bytes) -> Result<(), Gone> {
        self.asked = self.asked.saturating_add(1);
        self.write.data_bytes(packet).await?;
        Ok(())
    }

    /// An answer of our own, in its place.
    async fn answer(&self, answer: Bytes) -> Result<(), Gone> {
        let behind = self.asked;
        self.answer.send(Ours { behind, answer }).await?;
        Ok(())
    }

    /// sftp's requests, each by itself.
    async fn requests(&mut self, files: &Files, data: &[u8]) -> Result<(), Gone> {
        self.waiting.extend_from_slice(data);
        while let Some(packet) = wire::packet(&mut self.waiting).map_err(|_broken| Gone)? {
            let whole = wire::framed(&packet);
            // As it was asked, whatever becomes of it.
            let Channel { kept, shared, .. } = self.channel;
            kept.sent(shared, whole.clone()).await?;
            let step = files.step(&packet).await;
            let (id, step) = step.map_err(|_broken| Gone)?;
            match step {
                Step::Pass => self.ask(whole).await?,
                Step::Greet => {
                    let greeting = wire::greeting(&packet).map_err(|_broken| Gone)?;
                    self.ask(greeting).await?;
                    self.write.data_bytes(Files::question()).await?;
                    self.asked = self.asked.saturating_add(1);
                }
                Step::Refuse(code, why) => {
                    files.refused(id);
                    let status = wire::status(id, code, why);
                    self.answer(status).await?;
                }
                Step::Judge {
                    operation,
                    said,
                    accesses,
                } => {
                    let asked = self.channel.files(operation, &said, accesses);
                    match self.channel.judge(&asked).await? {
                        Ok(authorized) => {
                            files.goes(id, authorized.request);
                            // Used up by this packet.
                            drop(authorized.permit);
                            self.ask(whole).await?;
                        }
                        Err(refused) => {
                            files.refused(id);
                            let why = refuse::in_a_line(&refused);
                            let status = wire::status(id, wire::PERMISSION_DENIED, &why);
                            self.answer(status).await?;
                            self.channel.tell(&refuse::refused(&refused)).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Down<'_> {
    async fn run(&mut self, mut read: Messages, files: Option<&Files>) -> Result<(), Gone> {
        loop {
            let holds = self.streams.iter().any(Stream::holds);
            let quiet = match self.channel.common.pty {
                true => QUIET,
                false => LULL,
            };
            let ours = async {
                match &mut self.answers {
                    Some(replies) if replies.next.is_none() => replies.ours.recv().await,
                    _ => None,
                }
            };
            let message = tokio::select! {
                message = read.next() => message,
                Some(ours) = ours => {
                    if let (Some(replies), Some(files)) = (&mut self.answers, files) {
                        replies.next = Some(ours);
                        self.answered(&[], files).await?;
                    }
                    continue;
                }
                () = sleep(quiet), if holds => {
                    self.flush().await?;
                    continue;
                }
                () = sleep(QUIET), if self.end_waits && !self.asked.load(Ordering::Acquire) => {
                    self.end().await?;
                    continue;
                }
                () = sleep(SOON), if self.channel.kept.waits() => {
                    self.channel.kept.write(&self.channel.shared, true)?;
                    continue;
                }
            };
            if self.said(message, files).await? {
                return Ok(());
            }
        }
    }

    /// Passes one thing on that the server said; whether it was the last.
    async fn said(
        &mut self,
        message: Option<ChannelMsg>,
        files: Option<&Files>,
    ) -> Result<bool, Gone> {
        match message {
            Some(ChannelMsg::Data { data }) => match files {
                None => self.print(data, false).await?,
                Some(files) => self.answered(&data, files).await?,
            },
            Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => {
                self.print(data, true).await?;
            }
            Some(ChannelMsg::ExtendedData { .. }) => {}
            Some(ChannelMsg::Failure) => {
                self.exited.get_or_insert_with(|| "not begun".to_owned());
                let tell = self.channel.tell("ERROR:  the server does not run it\n");
                tell.await?;
                self.channel.exit(super::FAILED).await?;
            }
            Some(ChannelMsg::Eof) => {
                self.flush().await?;
                self.end_waits = true;
                if self.passes == Passes::Forward {
                    self.end().await?;
                }
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                self.flush().await?;
                self.exited = Some(match exit_status {
                    0 => "ok".to_owned(),
                    status => format!("exit {status}"),
                });
                self.channel.kept.exited(exit_status);
                self.channel.out.exit_status(exit_status).await?;
                self.end().await?;
            }
            Some(ChannelMsg::ExitSignal {
                signal_name,
                core_dumped,
                error_message,
                lang_tag,
            }) => {
                self.flush().await?;
                self.exited = Some(format!("signal {signal_name:?}"));
                let (handle, id) = (&self.channel.shared.handle, self.channel.id);
                let said = handle.exit_signal_request(
                    id,
                    signal_name,
                    core_dumped,
                    error_message,
                    lang_tag,
                );
                said.await.map_err(|()| Gone)?;
                self.end().await?;
            }
            Some(ChannelMsg::Close) | None => {
                self.ended.is_closed = message.is_some();
                if let Some(files) = files {
                    files.close();
                }
                self.flush().await?;
                self.end().await?;
                return Ok(true);
            }
            Some(_) => {}
        }
        Ok(false)
    }

    /// Passes the end of the server's output on. A command's goes behind how it ended: a client that has
    /// heard the end from both sides may close the channel, and the library answers that with its own close
    /// (RFC 4254, section 5.3), behind which no status can be sent. While the client's input is open it waits
    /// for [`QUIET`] only, as the client may wait for it.
    async fn end(&mut self) -> Result<(), Gone> {
        if std::mem::take(&mut self.end_waits) {
            self.channel.out.eof().await?;
        }
        Ok(())
    }

    /// What the server's sftp says.
    async fn answered(&mut self, data: &[u8], files: &Files) -> Result<(), Gone> {
        let Some(replies) = &mut self.answers else {
            return Err(Gone);
        };
        let out = replies.take(data, files);
        came_out(&self.channel.shared, Some(files.done()));
        let Ok(out) = out else {
            tracing::warn!("the server broke the protocol of sftp, or speaks a later one");
            let told = self
                .channel
                .tell("ERROR:  the server's sftp is not one that can be read\n");
            told.await?;
            return Err(Gone);
        };
        self.write(out, false).await
    }

    /// What a command prints.
    async fn print(&mut self, data: Bytes, is_error: bool) -> Result<(), Gone> {
        self.look(data, is_error, false).await
    }

    /// Shows what was held back.
    async fn flush(&mut self) -> Result<(), Gone> {
        for is_error in [false, true] {
            let [output, errors] = &self.streams;
            let stream = if is_error { errors } else { output };
            if stream.holds() {
                self.look(Bytes::new(), is_error, true).await?;
            }
        }
        Ok(())
    }

    async fn look(&mut self, data: Bytes, is_error: bool, last: bool) -> Result<(), Gone> {
        let [output, errors] = &mut self.streams;
        let stream = if is_error { errors } else { output };
        match stream.pass(data, last, &mut self.ended.found) {
            Ok(out) => self.write(out, is_error).await,
            Err(kind) => {
                let kind = kind.word();
                self.exited = Some("detected".to_owned());
                let text = format!("ERROR:  its output has a value that goes no farther: {kind}\n");
                self.channel.tell(&text).await?;
                self.channel.exit(refuse::EXIT).await?;
                Err(Gone)
            }
        }
    }

    async fn write(&mut self, out: Bytes, is_error: bool) -> Result<(), Gone> {
        if out.is_empty() || self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let count = u64::try_from(out.len()).unwrap_or(u64::MAX);
        self.ended.bytes = self.ended.bytes.saturating_add(count);
        let Channel { kept, shared, .. } = self.channel;
        kept.shown(shared, out.clone(), is_error).await?;
        let client = &self.channel.out;
        match is_error {
            false => client.data_bytes(out).await?,
            true => client.extended_data_bytes(STDERR, out).await?,
        }
        Ok(())
    }
}
