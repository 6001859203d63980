//! One direction's bytes: read, decided message by message, written in runs that are as long as can be.
//!
//! Bounded: a message is held as a whole only where its reader asks for that; of all others the rest
//! passes in pieces. Nothing is copied between reading and writing.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What is kept to read into while nothing comes. Most statements fit.
const READ_IDLE: usize = 1 << 10;
/// How many parts are kept room for meanwhile.
const PARTS_IDLE: usize = 8;
/// The least and the most that is read at once.
const READ_MIN: usize = 4 << 10;
const READ_MAX: usize = 64 << 10;
/// Decided bytes are written before they grow beyond this.
const WRITE_AT: usize = 64 << 10;
/// Slices of one write; `IOV_MAX` is 1,024, and runs are long.
const SLICES: usize = 32;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They go on.
    Pass,
    /// They end here.
    Drop,
}

#[derive(Debug)]
enum Part {
    /// Of the bytes that came.
    Came(Range<usize>),
    /// Made here.
    Made(Bytes),
}

/// Bytes that were decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// As they came, dropped ones too.
    pub(super) came: Bytes,
    /// As they go on.
    pub(super) goes: VecDeque<Bytes>,
}

/// The bytes of one direction between reading and writing.
#[derive(Debug)]
pub(super) struct Pipe {
    buffer: BytesMut,
    /// How many bytes at the buffer's front are decided.
    at: usize,
    /// How many bytes of the last message, whose fate is decided, are still to come.
    rest: usize,
    /// A message was decided in part: another part of it is at the front.
    inside: bool,
    fate: Fate,
    parts: Vec<Part>,
    made: usize,
    /// How much to read at once.
    reach: usize,
    /// The buffer holds, or held, a message that is longer than any reach.
    grown: bool,
    /// The buffer, all of what it may share with bytes that were taken out of it, is a little one.
    small: bool,
}

impl Pipe {
    /// Begins with what was read before.
    pub(super) fn new(buffer: BytesMut) -> Self {
        Self {
            buffer,
            at: 0,
            rest: 0,
            inside: false,
            fate: Fate::Pass,
            parts: Vec::new(),
            made: 0,
            reach: READ_MIN,
            grown: false,
            small: false,
        }
    }

    /// What is not decided, from the front of a message on; empty while a message's rest is to come.
    pub(super) fn front(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Whether the last decided message is complete.
    pub(super) fn is_whole(&self) -> bool {
        self.rest == 0 && !self.inside
    }

    /// The same as [`Self::front`], to be changed in place.
    pub(super) fn front_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.at..).unwrap_or_default()
    }

    /// Whether the last decided message is decided as far as it has come, or only in part.
    pub(super) fn is_decided(&self) -> bool {
        self.rest == 0
    }

    /// Decides the next `size` bytes, which have come, to go on; with `inside`, their message is not
    /// decided to its end.
    pub(super) fn pass(&mut self, size: usize, inside: bool) {
        self.decide(size, Fate::Pass);
        self.inside = inside;
    }

    /// Whether enough is decided for a write of its own.
    pub(super) fn is_ripe(&self) -> bool {
        self.at.saturating_add(self.made) >= WRITE_AT
    }

    /// Decides the next `size` bytes, whether they have come or not.
    pub(super) fn decide(&mut self, size: usize, fate: Fate) {
        let here = size.min(self.front().len());
        let to = self.at.saturating_add(here);
        if fate == Fate::Pass && here > 0 {
            match self.parts.last_mut() {
                Some(Part::Came(run)) if run.end == self.at => run.end = to,
                _ => self.parts.push(Part::Came(self.at..to)),
            }
        }
        self.at = to;
        self.rest = size.saturating_sub(here);
        self.fate = fate;
    }

    /// Puts a message of ours after what is decided.
    pub(super) fn put(&mut self, message: Bytes) {
        self.made = self.made.saturating_add(message.len());
        self.parts.push(Part::Made(message));
    }

    /// Takes what is decided.
    pub(super) fn take(&mut self) -> Decided {
        let came = self.buffer.split_to(self.at).freeze();
        self.at = 0;
        self.made = 0;
        let goes = self
            .parts
            .drain(..)
            .map(|part| match part {
                Part::Came(run) => came.slice(run),
                Part::Made(message) => message,
            })
            .collect();
        if self.grown && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.grown = false;
        }
        Decided { came, goes }
    }

    /// The same where nothing is there yet, which may last: gives back what the last burst needed.
    pub(super) async fn await_more<R>(&mut self, from: &mut R, need: usize) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
    {
        if self.buffer.is_empty() && !self.small {
            self.buffer = BytesMut::new();
            self.parts.shrink_to(PARTS_IDLE);
            self.grown = false;
        }
        self.take_in(from, need, READ_IDLE).await
    }

    /// Reads more, so that in time `need` undecided bytes are there. Returns false at the end.
    /// Dropped before it is ready, it has read nothing.
    pub(super) async fn read<R>(&mut self, from: &mut R, need: usize) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
    {
        self.take_in(from, need, self.reach).await
    }

    async fn take_in<R>(&mut self, from: &mut R, need: usize, reach: usize) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
    {
        let missing = need.saturating_sub(self.front().len());
        let spare = self.buffer.capacity().saturating_sub(self.buffer.len());
        if missing > READ_MAX {
            self.grown = true;
            self.small = false;
            self.buffer.reserve(missing);
        } else if spare < missing.max(reach / 4) {
            self.small = self.buffer.is_empty() && missing.max(reach) <= READ_IDLE;
            self.buffer.reserve(missing.max(reach));
        }
        let spare = self.buffer.capacity().saturating_sub(self.buffer.len());
        let count = from.read_buf(&mut self.buffer).await?;
        if count == spare {
            self.reach = self.reach.saturating_mul(2).min(READ_MAX);
        } else if count < self.reach / 16 {
            self.reach = (self.reach / 2).max(READ_MIN);
        }
        if self.rest > 0 {
            self.decide(self.rest, self.fate);
        }
        Ok(count > 0)
    }
}

/// Writes everything, and flushes.
pub(super) async fn write<W>(to: &mut W, goes: &mut VecDeque<Bytes>) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    while let Some(first) = goes.front_mut() {
        if first.is_empty() {
            goes.pop_front();
            continue;
        }
        let count = poll_fn(|context| {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0_usize;
            for (slice, bytes) in slices.iter_mut().zip(goes.iter()) {
                *slice = IoSlice::new(bytes);
                used = used.saturating_add(1);
            }
            let slices = slices.get(..used).unwrap_or_default();
            Pin::new(&mut *to).poll_write_vectored(context, slices)
        })
        .await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        advance(goes, count);
    }
    to.flush().await
}

fn advance(goes: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(first) = goes.front_mut() {
        if count < first.len() {
            first.advance(count);
            return;
        }
        count = count.saturating_sub(first.len());
        goes.pop_front();
    }
}

/// Polls once; what is not ready goes on later.
pub(super) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

#[cfg(test)]
mod tests;
