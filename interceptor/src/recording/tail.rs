//! The end of a recording's file: chunks are put behind each other there, by one thread at a time.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Error;
use super::format::{
    CHUNK_FULL, CHUNK_HEADER, FRAME_HEADER, Hash, Holds, INDEX_MAGIC, Kind, SegmentHeader, frame,
};
use super::seal::Part;
use super::writer::press::{Place, Press, SessionKey, TAG};
use crate::clock::{self, BootTime};

/// A place is noted in the index for each so many bytes of a segment.
pub(super) const INDEX_EVERY: u64 = 256 << 10;

/// Who waits for the end of a recording.
pub(super) type Done = oneshot::Sender<Result<(), Error>>;

/// One thing to do at the end of the file.
pub(super) enum Piece {
    /// Frames, for one chunk.
    Frames(Batch),
    /// The next segment begins: its file, its number, and what its times count from.
    Begins(Arc<File>, u32, BootTime),
    /// The last frame is written: why it ends, and who waits for it.
    Ends(String, Option<Done>),
}

/// Frames that wait to be written.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) plain: Vec<u8>,
    /// When the first of them was, in nanoseconds since the segment's base.
    pub(super) first: u64,
    /// Bytes that were taken for them on the disk: no fewer than they need.
    pub(super) bound: u64,
    /// Bytes that they count for in the thread's queue.
    pub(super) room: usize,
}

/// What a frame takes on the disk at most: it may be alone in its chunk.
pub(super) fn bound(body: usize) -> u64 {
    let whole = FRAME_HEADER + CHUNK_HEADER + TAG;
    u64::try_from(whole.saturating_add(body)).unwrap_or(u64::MAX)
}

/// What is planned and not yet written.
#[derive(Default)]
pub(super) struct Queued {
    pub(super) pieces: Vec<Piece>,
}

impl Queued {
    /// Queues one frame; the end counts for nothing in the thread's queue.
    pub(super) fn frame(&mut self, kind: Kind, base: BootTime, body: &Bytes) {
        let is_open = |batch: &Batch| batch.plain.len() < CHUNK_FULL;
        if !matches!(self.pieces.last(), Some(Piece::Frames(batch)) if is_open(batch)) {
            self.pieces.push(Piece::Frames(Batch::default()));
        }
        let Some(Piece::Frames(batch)) = self.pieces.last_mut() else {
            return;
        };
        let is_first = batch.plain.is_empty();
        let at = frame(&mut batch.plain, kind, base, body);
        if is_first {
            batch.first = at;
        }
        batch.bound = batch.bound.saturating_add(bound(body.len()));
        if kind != Kind::End {
            batch.room = batch.room.saturating_add(FRAME_HEADER + body.len());
        }
    }
}

/// Where the file ends.
pub(super) struct Tail {
    file: Arc<File>,
    number: u32,
    length: u64,
    /// The hash of the segment's header.
    head: Hash,
    /// That of its last chunk.
    hash: Hash,
    /// The entries of its index.
    index: Vec<u8>,
    /// Where the last of them points to.
    noted: u64,
    /// When it was last vouched for.
    sealed: BootTime,
    /// How long it was then.
    vouched: u64,
    key: Option<SessionKey>,
}

impl Tail {
    /// Writes the header of the first segment.
    pub(super) fn begin(
        file: &Arc<File>,
        header: &SegmentHeader,
        key: Option<SessionKey>,
    ) -> io::Result<Self> {
        let (bytes, hash) = header.encode();
        (&**file).write_all(&bytes)?;
        Ok(Self {
            file: Arc::clone(file),
            number: header.number,
            length: to_u64(bytes.len()),
            head: hash,
            hash,
            index: Vec::new(),
            noted: 0,
            sealed: clock::boot(),
            vouched: 0,
            key,
        })
    }

    /// Goes on in another file.
    pub(super) fn next(&mut self, file: &Arc<File>, header: &SegmentHeader) -> io::Result<()> {
        let next = Self::begin(file, header, self.key.take())?;
        *self = next;
        Ok(())
    }

    /// The number of the segment.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Whether what is written is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.key.is_some()
    }

    /// The chain's hash at the end.
    pub(super) fn hash(&self) -> &Hash {
        &self.hash
    }

    /// What there is to vouch for.
    pub(super) fn part(&mut self, why: &'static str) -> Part {
        self.sealed = clock::boot();
        self.vouched = self.length;
        Part {
            segment: self.number,
            head: self.head,
            tail: self.hash,
            length: self.length,
            why,
        }
    }

    /// When what is written has to be vouched for at the latest, which is done as often as `every`; none where
    /// all of it is.
    pub(super) fn due(&self, every: Duration) -> Option<BootTime> {
        (self.length > self.vouched).then(|| self.sealed.after(every))
    }

    /// Whether this segment was never vouched for.
    pub(super) fn is_fresh(&self) -> bool {
        self.vouched == 0
    }

    /// Writes frames as one chunk; how many bytes it has.
    pub(super) fn frames(&mut self, press: &mut Press, batch: &Batch) -> io::Result<u64> {
        if self.index.is_empty() || self.length.saturating_sub(self.noted) >= INDEX_EVERY {
            self.noted = self.length;
            self.index.extend_from_slice(&batch.first.to_le_bytes());
            self.index.extend_from_slice(&self.length.to_le_bytes());
            self.index.extend_from_slice(&self.hash);
        }
        self.chunk(press, Holds::Frames, batch.first, &batch.plain)
    }

    /// Writes the index, and gives back what was set aside behind the end.
    pub(super) fn finish(&mut self, press: &mut Press) -> io::Result<()> {
        let mut index = std::mem::take(&mut self.index);
        index.extend_from_slice(&self.length.to_le_bytes());
        index.extend_from_slice(&INDEX_MAGIC);
        self.chunk(press, Holds::Index, u64::MAX, &index)?;
        self.file.set_len(self.length)
    }

    fn chunk(
        &mut self,
        press: &mut Press,
        holds: Holds,
        first: u64,
        plain: &[u8],
    ) -> io::Result<u64> {
        let place = Place {
            segment: self.number,
            offset: self.length,
            before: &self.hash,
            key: self.key.as_ref(),
        };
        let (bytes, hash) = press.chunk(holds, first, plain, &place)?;
        (&*self.file).write_all(bytes)?;
        let written = to_u64(bytes.len());
        self.length = self.length.saturating_add(written);
        self.hash = hash;
        Ok(written)
    }
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
