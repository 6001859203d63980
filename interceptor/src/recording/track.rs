//! One recording on its way to the disk: where its frames will stand, and where its file ends.
//!
//! `Space` is planned by the session, [`Tail`] is written by the thread; what is between the two is
//! queued. A frame gets its place before it is queued, so that it finds its space.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};
use uuid::Uuid;

use super::format::{FRAME_HEADER, FrameHeader, Kind, SEGMENT_HEADER, SegmentHeader};
use super::store::{Ended, Meta};
use super::tail::{Done, Piece, Queued, Tail};
use super::{Error, Settings};
use crate::clock::{self, BootTime};

/// Space is taken in pieces as large as the segment is already, within these bounds, in bytes.
const CHUNK_MIN: u64 = 64 << 10;
const CHUNK_MAX: u64 = 4 << 20;

/// The longest reason that an end frame holds, in bytes.
const REASON_MAX: usize = 64;

/// Space that is always left for the end frame, in bytes.
const END_BYTES: u64 = 128;

/// What both sides of a recording share. Locked in the order of the fields.
pub(super) struct Track {
    dir: PathBuf,
    settings: Settings,
    meta: Meta,
    tail: Mutex<Tail>,
    space: Mutex<Space>,
    /// The first error of the thread: nothing more is written or taken.
    failed: OnceLock<Error>,
}

/// The session's side: where the frames that are queued will stand.
struct Space {
    file: Arc<File>,
    path: PathBuf,
    number: u32,
    base: BootTime,
    /// Of the last frame that is queued.
    checksum: u32,
    /// Where it ends.
    planned: u64,
    allocated: u64,
    sent: u64,
    received: u64,
    closed: bool,
    queued: Queued,
}

impl Space {
    /// Makes a segment's file, and takes space for its header and an end.
    fn begin(path: PathBuf, number: u32, base: BootTime) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|error| Error::io("make", &path, error))?;
        let mut space = Self {
            file: Arc::new(file),
            path,
            number,
            base,
            checksum: 0,
            planned: 0,
            allocated: 0,
            sent: 0,
            received: 0,
            closed: false,
            queued: Queued::default(),
        };
        space.provide(to_u64(SEGMENT_HEADER))?;
        space.planned = to_u64(SEGMENT_HEADER);
        Ok(space)
    }

    /// Its header, behind a segment whose last frame has the checksum `before`.
    fn header(&mut self, session: Uuid, before: u32) -> [u8; SEGMENT_HEADER] {
        let header = SegmentHeader {
            session,
            number: self.number,
            base: self.base,
            before,
        };
        let (bytes, checksum) = header.encode();
        self.checksum = checksum;
        bytes
    }

    /// Queues a frame that has its place.
    fn queue(&mut self, kind: Kind, body: Bytes) {
        let header = FrameHeader::now(kind, self.base, &body);
        let (header, checksum) = header.encode(self.checksum, &body);
        self.checksum = checksum;
        self.queued.frame(&header, body);
    }

    /// Sees to it that `bytes` more, and an end, find space.
    fn provide(&mut self, bytes: u64) -> Result<(), Error> {
        let end = self.planned.saturating_add(bytes).saturating_add(END_BYTES);
        let Some(needed) = end.checked_sub(self.allocated).filter(|needed| *needed > 0) else {
            return Ok(());
        };
        let chunk = needed.max(self.planned.clamp(CHUNK_MIN, CHUNK_MAX));
        self.extend(chunk)
            .or_else(|_| self.extend(needed))
            .map_err(|error| Error::io("set space aside in", &self.path, error))
    }

    fn extend(&mut self, bytes: u64) -> io::Result<()> {
        let offset = i64::try_from(self.allocated).map_err(io::Error::other)?;
        let length = i64::try_from(bytes).map_err(io::Error::other)?;
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&*self.file, keep, offset, length)?;
        self.allocated += bytes;
        Ok(())
    }
}

impl Track {
    /// Takes the first space and writes the first header.
    pub(super) fn begin(dir: PathBuf, settings: &Settings, meta: Meta) -> Result<Self, Error> {
        let mut space = Space::begin(named(&dir, 1), 1, meta.started_boot_ns)?;
        let mut tail = Tail::of(&space.file);
        tail.write(&[&space.header(meta.session, 0)])
            .map_err(|error| Error::io("write", &space.path, error))?;
        Ok(Self {
            dir,
            settings: settings.clone(),
            tail: Mutex::new(tail),
            space: Mutex::new(space),
            failed: OnceLock::new(),
            meta,
        })
    }

    /// Queues a frame. True where nothing was queued before: the thread must be told.
    pub(super) fn add(&self, kind: Kind, body: Bytes) -> Result<bool, Error> {
        self.sound()?;
        // Both directions come here: what is planned first must be queued first.
        let mut space = self.space();
        let first = space.queued.pieces.is_empty();
        self.plan(&mut space, kind, body.len())?;
        space.queue(kind, body);
        Ok(first)
    }

    /// Queues the end, into the space that is always left for it. Nothing is taken afterwards; fails
    /// the second time. True where nothing was queued before.
    pub(super) fn close(&self, reason: &str, done: Option<Done>) -> Result<bool, Error> {
        let mut space = self.space();
        if std::mem::replace(&mut space.closed, true) {
            return Err(Error::Closed);
        }
        let first = space.queued.pieces.is_empty();
        let (reason, _) = reason.split_at(reason.floor_char_boundary(REASON_MAX));
        space.queue(Kind::End, Bytes::copy_from_slice(reason.as_bytes()));
        // No room was taken for it.
        space.queued.bytes = space
            .queued
            .bytes
            .saturating_sub(FRAME_HEADER + reason.len());
        let ends = Piece::Ends(reason.to_owned(), done);
        space.queued.pieces.push(ends);
        Ok(first)
    }

    /// Writes what is queued, and says how many bytes of frames that was; the first error ends the
    /// recording.
    pub(super) fn write(&self) -> usize {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = std::mem::take(&mut self.space().queued);
        let mut pieces = queued.pieces.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Made(_) | Piece::Lent(_) => {
                    let mut bytes = vec![piece];
                    while let Some(more) = pieces.next_if(|next| next.bytes().is_some()) {
                        bytes.push(more);
                    }
                    self.unless_failed(|| tail.write(&slices(&bytes)));
                }
                Piece::Begins(file, number) => self.unless_failed(|| {
                    tail.next(&file)?;
                    std::fs::rename(planned(&self.dir, number), named(&self.dir, number))
                }),
                Piece::Ends(reason, done) => {
                    self.unless_failed(|| tail.cut());
                    self.note_end(&reason);
                    // Whoever asked may be gone; the recording is closed all the same.
                    drop(done.map(|done| done.send(self.sound())));
                }
            }
        }
        queued.bytes
    }

    /// Fails once the thread has failed.
    fn sound(&self) -> Result<(), Error> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of a frame; begins the next segment where this one is full.
    fn plan(&self, space: &mut Space, kind: Kind, body: usize) -> Result<(), Error> {
        if space.closed {
            return Err(Error::Closed);
        }
        let (body, whole) = (to_u64(body), to_u64(FRAME_HEADER + body));
        let (sent, received) = match kind {
            Kind::Sent => (space.sent.saturating_add(body), space.received),
            Kind::Received => (space.sent, space.received.saturating_add(body)),
            Kind::Mark | Kind::End => (space.sent, space.received),
        };
        if let Some(limit) = self.settings.session_bytes
            && sent.saturating_add(received) > limit
        {
            return Err(Error::Bound { limit });
        }
        let full = space.planned.saturating_add(whole) > self.settings.segment_bytes;
        if full && space.planned > to_u64(SEGMENT_HEADER) {
            self.begin_next(space, whole)?;
        } else {
            space.provide(whole)?;
        }
        space.planned = space.planned.saturating_add(whole);
        (space.sent, space.received) = (sent, received);
        Ok(())
    }

    /// Begins the next segment, with space for `whole` bytes.
    fn begin_next(&self, space: &mut Space, whole: u64) -> Result<(), Error> {
        let number = space.number + 1;
        let mut next = Space::begin(planned(&self.dir, number), number, clock::boot())?;
        if let Err(error) = next.provide(whole) {
            // Nothing was written to it: it must not stay as a segment without a header.
            if let Err(error) = std::fs::remove_file(&next.path) {
                tracing::warn!(%error, path = %next.path.display(), "cannot remove an empty segment");
            }
            return Err(error);
        }
        let header = next.header(self.meta.session, space.checksum);
        next.queued = std::mem::take(&mut space.queued);
        let begins = Piece::Begins(Arc::clone(&next.file), number);
        next.queued.pieces.push(begins);
        next.queued.copy(&header);
        *space = next;
        Ok(())
    }

    fn unless_failed(&self, mut write: impl FnMut() -> io::Result<()>) {
        if self.failed.get().is_some() {
            return;
        }
        if let Err(error) = write() {
            let error = Error::io("write the recording in", &self.dir, error);
            tracing::error!(%error, session = %self.meta.session, "a recording failed: its session ends");
            self.failed.get_or_init(|| error);
        }
    }

    /// Notes in `meta.json` how it ended.
    fn note_end(&self, reason: &str) {
        if self.failed.get().is_some() {
            return;
        }
        let mut meta = self.meta.clone();
        let space = self.space();
        meta.ended = Some(Ended {
            time: clock::wall(),
            reason: reason.to_owned(),
            sent: space.sent,
            received: space.received,
            segments: space.number,
        });
        drop(space);
        if let Err(error) = meta.write(&self.dir) {
            tracing::warn!(%error, "cannot note the end of a recording in its meta.json; its last frame tells it");
        }
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        if self.close("dropped", None).is_ok() {
            self.write();
        }
    }
}

/// A segment's file.
fn named(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.rec"))
}

/// The file until the segment before is written: where that never comes to be, what was planned behind it
/// is no part of the recording.
fn planned(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.planned"))
}

fn slices(pieces: &[Piece]) -> Vec<&[u8]> {
    pieces.iter().filter_map(Piece::bytes).collect()
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
