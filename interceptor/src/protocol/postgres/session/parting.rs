//! What a server says to the cancel with which a session ends: read for the audit, and told to nobody.
//!
//! The server hears that nothing more comes, so that it closes once it has done with what it had. What it
//! says last before that is what came of what ran.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};

use super::super::refuse;
use super::super::wire::error::ErrorFields;
use super::super::wire::{HEADER, backend};
use super::Doing;
use super::pipe::{Fate, Pipe};
use crate::session::{Answered, Gate};

/// How long a server may take to say what came of a cancel.
const SAYS: Duration = Duration::from_secs(1);
/// The longest error that is read for its SQLSTATE.
const ERROR_MAX: usize = 64 << 10;

/// What a server says that waits in no transaction.
const IDLE: &[u8] = b"I";

/// The tag of a ROLLBACK, and of a COMMIT where the transaction has failed: nothing is done by it.
const ROLLBACK: &[u8] = b"ROLLBACK\0";
/// The longest tag that is read; those of servers are shorter (`COMPLETION_TAG_BUFSIZE`).
const TAG_MAX: usize = 64;

/// The server's side of a session that ends.
pub(super) struct Parting<'a, U> {
    pipe: Pipe,
    reads: &'a mut ReadHalf<U>,
    writes: &'a mut WriteHalf<U>,
}

impl<'a, U: AsyncRead + AsyncWrite> Parting<'a, U> {
    /// Goes on where `pipe` has been read to.
    pub(super) fn new(pipe: Pipe, halves: (&'a mut ReadHalf<U>, &'a mut WriteHalf<U>)) -> Self {
        let (reads, writes) = halves;
        Self {
            pipe,
            reads,
            writes,
        }
    }

    /// Waits for the cancel of what runs, and says what the server answered.
    pub(super) async fn cancel<G: Gate>(mut self, gate: &G, cancelling: Doing) {
        cancelling.await;
        let since = Instant::now();
        let answered = timeout(SAYS, self.hear()).await;
        // One that has not closed may still be at it, whatever it said of something else.
        gate.answered(answered.unwrap_or(Answered::Silent), since.elapsed());
    }

    /// What it says last before it closes.
    async fn hear(&mut self) -> Answered {
        let mut said = Said::default();
        // It may have closed already, with something to read.
        drop(self.writes.shutdown().await);
        loop {
            let Some(need) = read(&mut self.pipe, &mut said) else {
                return said.last;
            };
            if !matches!(self.pipe.read(self.reads, need).await, Ok(true)) {
                return said.last;
            }
            drop(self.pipe.take());
        }
    }
}

/// What a server has said so far.
struct Said {
    last: Answered,
    /// What it has done is done: what comes of another message does not take it back.
    is_done: bool,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            last: Answered::Closed,
            is_done: false,
        }
    }
}

impl Said {
    fn says(&mut self, what: Answered) {
        if !self.is_done {
            self.last = what;
        }
    }
}

/// Reads what is there, and says how much the next message needs; `None` where nobody can read on.
fn read(pipe: &mut Pipe, said: &mut Said) -> Option<usize> {
    while pipe.is_decided() {
        // The rest of what was passed on in part cannot be told from what follows.
        let header = match pipe.is_whole() {
            true => backend::header(pipe.front()),
            false => return lost(said),
        };
        let Ok(header) = header else {
            return lost(said);
        };
        let Some(header) = header else {
            return Some(HEADER);
        };
        match header.tag {
            backend::COMMAND_COMPLETE if header.whole() <= HEADER.saturating_add(TAG_MAX) => {
                let Some(tag) = pipe.front().get(HEADER..header.whole()) else {
                    return Some(header.whole());
                };
                if tag != ROLLBACK {
                    said.says(Answered::Finished);
                }
            }
            backend::READY => {
                let Some(body) = pipe.front().get(HEADER..header.whole()) else {
                    return Some(header.whole());
                };
                // In no transaction that is open still, and is rolled back with the session.
                said.is_done |= body == IDLE && said.last == Answered::Finished;
            }
            backend::ERROR if header.whole() <= ERROR_MAX => {
                let Some(body) = pipe.front().get(HEADER..header.whole()) else {
                    return Some(header.whole());
                };
                said.says(failed(body));
            }
            backend::ERROR => said.says(Answered::Failed),
            _ => {}
        }
        pipe.decide(header.whole(), Fate::Drop);
    }
    Some(HEADER)
}

fn lost(said: &mut Said) -> Option<usize> {
    said.last = Answered::Silent;
    None
}

fn failed(body: &[u8]) -> Answered {
    match ErrorFields::read(body) {
        Ok(fields) if fields.sqlstate() == Some(refuse::CANCELLED) => Answered::Cancelled,
        _ => Answered::Failed,
    }
}
