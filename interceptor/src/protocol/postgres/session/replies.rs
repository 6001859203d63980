//! From the server to the client: each message is held against what is owed, and passed on.
//!
//! Never waits for the client's half. Rows and other data are never held as a whole, nor looked
//! into but by value detectors, where the target has some.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};

use super::super::wire::{HEADER, backend};
use super::ledger::{Ledger, Look, Reply, Room, Unexpected};
use super::pipe::{self, Fate, Pipe};
use super::{Shared, Why};
use crate::session::{Direction, Gate};

/// The server's half of the loop.
pub(super) struct Replies<'a, R, W, G: Gate> {
    pub(super) gate: Arc<G>,
    pub(super) shared: &'a Shared<G>,
    pub(super) upstream: R,
    pub(super) client: W,
    pub(super) pipe: Pipe,
    /// The server has said that it ends the session.
    pub(super) last: Option<String>,
}

impl<R, W, G> Replies<'_, R, W, G>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    G: Gate,
{
    /// Runs until the session ends, and says why.
    pub(super) async fn run(&mut self) -> Why {
        match self.relay().await {
            Ok(why) | Err(why) => why,
        }
    }

    async fn relay(&mut self) -> Result<Why, Why> {
        loop {
            if self.pipe.is_whole() && self.shared.stopping.load(Ordering::Relaxed) {
                self.flush().await?;
                return Ok(Why::Client);
            }
            let need = self.decide()?;
            if self.pipe.is_whole()
                && let Some(sqlstate) = self.last.take()
            {
                self.flush().await?;
                return Ok(Why::Fatal(sqlstate));
            }
            if self.pipe.is_ripe() {
                self.flush().await?;
            }
            if !self.fill(need).await? {
                // A reply of ours may have become due in the meantime.
                self.decide()?;
                self.flush().await?;
                return Ok(Why::Upstream);
            }
        }
    }

    /// Decides the messages that are there; returns how many bytes the next one needs.
    fn decide(&mut self) -> Result<usize, Why> {
        let shared = self.shared;
        let mut ledger = shared.ledger();
        let need = self.decide_all(&mut ledger);
        let (cuts, is_due) = (ledger.has_cut(), ledger.is_due());
        drop(ledger);
        if cuts {
            shared.cut.notify_one();
        }
        if is_due {
            shared.due.notify_one();
        }
        shared.answered.notify_one();
        need
    }

    fn decide_all(&mut self, ledger: &mut Ledger<G>) -> Result<usize, Why> {
        while self.pipe.is_decided() && self.last.is_none() {
            while let Some(reply) = ledger.local() {
                self.pipe.put(reply);
            }
            let (room, ends) = match ledger.room(self.pipe.front()) {
                Room::Any => (usize::MAX, false),
                Room::Up { bytes, ends } => (bytes, ends),
                Room::Need(need) => return Ok(need),
                Room::Drop(size) => {
                    self.pipe.decide(size, Fate::Drop);
                    continue;
                }
            };
            let front = self.pipe.front_mut();
            let room = room.min(front.len());
            match ledger.look(front.get_mut(..room).unwrap_or_default(), ends) {
                Look::Elsewhere => {}
                Look::Decided { bytes, inside } => {
                    self.pipe.pass(bytes, inside);
                    continue;
                }
                Look::Need(need) => return Ok(need),
                Look::Refused(kind) => return Err(Why::Detected(kind)),
            }
            let front = self.pipe.front().get(..room).unwrap_or_default();
            let run = ledger.run(front);
            if run > 0 {
                self.pipe.decide(run, Fate::Pass);
                continue;
            }
            let Some(header) = backend::header(self.pipe.front()).map_err(Unexpected::from)? else {
                break;
            };
            let wanted = ledger.wanted(header);
            let Some(body) = self.pipe.front().get(HEADER..wanted) else {
                return Ok(wanted);
            };
            match ledger.reply(header, body)? {
                Reply::Pass => self.pipe.decide(header.whole(), Fate::Pass),
                Reply::Instead(reply) => {
                    self.pipe.decide(header.whole(), Fate::Drop);
                    self.pipe.put(reply);
                }
                Reply::Swallow => self.pipe.decide(header.whole(), Fate::Drop),
                Reply::Last { sqlstate, instead } => {
                    let fate = instead.as_ref().map_or(Fate::Pass, |_| Fate::Drop);
                    self.pipe.decide(header.whole(), fate);
                    if let Some(reply) = instead {
                        self.pipe.put(reply);
                    }
                    self.last = Some(sqlstate);
                }
            }
        }
        Ok(HEADER)
    }

    /// Reads more, or learns of a reply of ours; what is decided goes to the client first where this
    /// takes time. False at the end.
    async fn fill(&mut self, need: usize) -> Result<bool, Why> {
        let now = pipe::poll_once(pin!(self.pipe.read(&mut self.upstream, need))).await;
        let more = match now {
            Poll::Ready(more) => more,
            Poll::Pending => {
                self.flush().await?;
                tokio::select! {
                    more = self.pipe.await_more(&mut self.upstream, need) => more,
                    () = self.shared.local.notified() => Ok(true),
                }
            }
        };
        more.map_err(Why::UpstreamLost)
    }

    async fn flush(&mut self) -> Result<(), Why> {
        let mut decided = self.pipe.take();
        if decided.goes.is_empty() {
            finish(self.shared);
            return Ok(());
        }
        for bytes in &decided.goes {
            self.shared.count_received(bytes.len());
            self.gate
                .record(Direction::Received, bytes.clone())
                .await
                .map_err(Why::Storage)?;
        }
        self.shared.whole.store(false, Ordering::Relaxed);
        let mut writing = pin!(pipe::write(&mut self.client, &mut decided.goes));
        let written = match pipe::poll_once(writing.as_mut()).await {
            Poll::Ready(written) => written,
            Poll::Pending => {
                // An agent that does not read keeps nothing out of the audit.
                finish(self.shared);
                writing.await
            }
        };
        finish(self.shared);
        written.map_err(Why::ClientLost)?;
        self.shared
            .whole
            .store(self.pipe.is_whole(), Ordering::Relaxed);
        Ok(())
    }
}

/// Writes the ends of the requests that are answered.
fn finish<G: Gate>(shared: &Shared<G>) {
    let finished = shared.ledger().take_finished();
    drop(finished);
}

impl From<Unexpected> for Why {
    fn from(unexpected: Unexpected) -> Self {
        Self::UpstreamViolation(unexpected)
    }
}
