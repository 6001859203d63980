//! What was asked and what came back: the bytes of a recording as statements and results, for people.
//!
//! Off the path: it reads what was recorded, long after. Both sides of the bytes are hostile, so
//! every length is bounded, nothing is believed, and what cannot be followed ends the transcript with
//! a remark. Frontend/Backend Protocol 3.0 and 3.2, PostgreSQL documentation §54.2 and §54.7.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::BootTime;
use crate::session::{Direction, Phase, RequestId};

mod exchange;
mod follow;
mod message;
#[cfg(test)]
mod tests;

pub use exchange::{Cell, Column, Exchange, Notice, ResultSet};

use follow::Follow;
use message::Messages;

/// What a transcript is made of.
#[derive(Clone, Debug)]
pub enum Piece<'a> {
    /// Bytes of one direction.
    Bytes(Direction, &'a [u8]),
    /// A request of the audit whose text was among the bytes before.
    Mark(RequestId, Phase),
}

/// How much of a recording is kept; what is beyond is counted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows kept of each result.
    pub rows: usize,
    /// Bytes kept of each value and each statement.
    pub value: usize,
    /// Exchanges; a transcript ends there.
    pub exchanges: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 1000,
            value: 64 << 10,
            exchanges: 100_000,
        }
    }
}

/// A recording read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// What was asked and what came back, in the order in which it was asked.
    pub exchanges: Vec<Exchange>,
    /// Why the rest could not be followed, if so.
    pub remark: Option<&'static str>,
}

/// Reads the bytes of a session's request loop, in the order in which they were recorded.
pub fn transcript<'a>(
    pieces: impl IntoIterator<Item = (BootTime, Piece<'a>)>,
    limits: Limits,
) -> Transcript {
    let mut reading = Reading::new(limits);
    for (at, piece) in pieces {
        reading.take(at, &piece);
    }
    reading.finish()
}

/// A recording being read, for whoever has its pieces one after the other.
pub struct Reading {
    sent: Messages,
    received: Messages,
    follow: Follow,
    /// Marks wait here until their message is complete.
    marks: VecDeque<(RequestId, Phase)>,
    remark: Option<&'static str>,
}

/// Marks without a message are not kept beyond this many.
const MARKS: usize = 4096;

impl Reading {
    /// Before the first piece.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            sent: Messages::default(),
            received: Messages::default(),
            follow: Follow::new(limits),
            marks: VecDeque::new(),
            remark: None,
        }
    }

    /// Takes the next piece. After a remark nothing is taken.
    pub fn take(&mut self, at: BootTime, piece: &Piece<'_>) {
        if self.remark.is_some() {
            return;
        }
        let followed = match piece {
            Piece::Mark(request, phase) => {
                if self.marks.len() < MARKS {
                    self.marks.push_back((*request, *phase));
                }
                Ok(())
            }
            Piece::Bytes(Direction::Sent, bytes) => {
                let follow = &mut self.follow;
                self.sent
                    .feed(bytes, |tag, body| follow.sent(at, tag, body))
            }
            Piece::Bytes(Direction::Received, bytes) => {
                let follow = &mut self.follow;
                self.received
                    .feed(bytes, |tag, body| follow.received(at, tag, body))
            }
        };
        self.follow.name(&mut self.marks);
        self.remark = followed.err();
    }

    /// What was asked from the `from`th on, and answered, up to the first that is not.
    #[must_use]
    pub fn answered(&self, from: usize) -> &[Exchange] {
        self.follow.over(from)
    }

    /// What was read, with what was still going on at the end.
    #[must_use]
    pub fn finish(mut self) -> Transcript {
        self.follow.name(&mut self.marks);
        Transcript {
            exchanges: self.follow.finish(),
            remark: self.remark,
        }
    }
}

/// Text of a message, lossily, and no more of it than is kept.
fn text(bytes: &[u8], limit: usize) -> Arc<str> {
    let kept = bytes.get(..limit).unwrap_or(bytes);
    Arc::from(String::from_utf8_lossy(kept))
}
