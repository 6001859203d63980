//! One recording on its way to the disk: where its frames will stand, and where its file ends.
//!
//! `Space` is planned by the session, [`Tail`] is written by the thread; what is between the two is
//! queued. A frame gets its place before it is queued, so that it finds its space.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};

use super::format::{CHUNK_HEADER, ENTRY, Hash, Kind, SEGMENT_HEADER, SegmentHeader};
use super::seal::{Line, Part, Says, Seals};
use super::store::{Ended, META, Meta, keys};
use super::sync::Syncer;
use super::tail::{Done, INDEX_EVERY, Piece, Queued, Tail, bound};
use super::writer::press::{Press, SessionKey};
use super::{Error, Settings};
use crate::clock::{self, BootTime};

/// Space is taken in pieces as large as the segment is already, within these bounds, in bytes.
const CHUNK_MIN: u64 = 64 << 10;
const CHUNK_MAX: u64 = 4 << 20;

/// The longest reason that an end frame holds, in bytes.
const REASON_MAX: usize = 64;

/// Space that is always left for the end frame and an index without entries, in bytes.
const END_BYTES: u64 = 256;

/// What both sides of a recording share. Locked in the order of the fields.
pub(super) struct Track {
    dir: PathBuf,
    settings: Settings,
    meta: Meta,
    seals: Arc<Seals>,
    syncer: Arc<Syncer>,
    tail: Mutex<Tail>,
    space: Mutex<Space>,
}

/// What came of writing.
pub(super) struct Written {
    /// For how many bytes it counted in the queue.
    pub(super) room: usize,
    /// When the log has to vouch for what it does not yet, at the latest.
    pub(super) due: Option<BootTime>,
}

/// The session's side: where the frames that are queued will stand.
struct Space {
    file: Arc<File>,
    path: PathBuf,
    number: u32,
    base: BootTime,
    /// Where it ends at most, once all is written.
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

    /// Queues a frame that has its place.
    fn queue(&mut self, kind: Kind, body: &Bytes) {
        self.queued.frame(kind, self.base, body);
    }

    /// What was written took fewer bytes than it might have.
    fn settle(&mut self, number: u32, spared: u64) {
        if self.number == number {
            self.planned = self.planned.saturating_sub(spared);
        }
    }

    /// What the end of the segment takes, with `bytes` more in it.
    fn ending(&self, bytes: u64) -> u64 {
        let planned = self.planned.saturating_add(bytes);
        let entries = (planned / INDEX_EVERY).saturating_add(1);
        END_BYTES
            .saturating_add(to_u64(CHUNK_HEADER))
            .saturating_add(entries.saturating_mul(to_u64(ENTRY)))
    }

    /// Sees to it that `bytes` more, and an end, find space.
    fn provide(&mut self, bytes: u64) -> Result<(), Error> {
        let ending = self.ending(bytes);
        let end = self.planned.saturating_add(bytes).saturating_add(ending);
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
    /// Takes the first space, writes the first header, and has the audit told.
    pub(super) fn begin(
        dir: PathBuf,
        settings: &Settings,
        meta: Meta,
        (seals, meta_hash, syncer): (Seals, Hash, &Arc<Syncer>),
        key: Option<(SessionKey, Hash)>,
    ) -> Result<Self, Error> {
        let space = Space::begin(named(&dir, 1), 1, meta.started_boot_ns)?;
        let (key, key_hash) = key.unzip();
        let header = SegmentHeader {
            session: meta.session,
            number: 1,
            base: space.base,
            encrypted: key.is_some(),
            before: Hash::default(),
        };
        let tail = Tail::begin(&space.file, &header, key)
            .map_err(|error| Error::io("write", &space.path, error))?;
        let mut behind = vec![space.path.clone(), dir.join(META)];
        behind.extend(key_hash.map(|_| dir.join(keys::FILE)));
        // Itself, its day, and all of them.
        behind.extend(dir.ancestors().take(3).map(Path::to_owned));
        let seals = Arc::new(seals);
        let hashes = [*tail.hash(), meta_hash];
        syncer.put_now(Line {
            seals: Arc::clone(&seals),
            dir: dir.clone(),
            behind,
            says: Says::Begun(meta.target.clone(), hashes, key_hash),
        })?;
        Ok(Self {
            dir,
            settings: settings.clone(),
            tail: Mutex::new(tail),
            space: Mutex::new(space),
            syncer: Arc::clone(syncer),
            seals,
            meta,
        })
    }

    /// Queues a frame. True where nothing was queued before: the thread must be told.
    pub(super) fn add(&self, kind: Kind, body: Bytes) -> Result<bool, Error> {
        self.seals.sound()?;
        // Both directions come here: what is planned first must be queued first.
        let mut space = self.space();
        let first = space.queued.pieces.is_empty();
        self.plan(&mut space, kind, body.len())?;
        space.queue(kind, &body);
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
        space.queue(Kind::End, &Bytes::copy_from_slice(reason.as_bytes()));
        let ends = Piece::Ends(reason.to_owned(), done);
        space.queued.pieces.push(ends);
        Ok(first)
    }

    /// Writes what is queued; the first error ends the recording.
    pub(super) fn write(&self, press: &mut Press) -> Written {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = std::mem::take(&mut self.space().queued);
        let mut room = 0_usize;
        for piece in queued.pieces {
            match piece {
                Piece::Frames(batch) => {
                    room = room.saturating_add(batch.room);
                    self.seals.unless_failed(|| {
                        let written = tail.frames(press, &batch).map_err(|e| self.unwritten(e))?;
                        let spared = batch.bound.saturating_sub(written);
                        self.space().settle(tail.number(), spared);
                        Ok(())
                    });
                }
                Piece::Begins(file, number, base) => self.seals.unless_failed(|| {
                    tail.finish(press).map_err(|e| self.unwritten(e))?;
                    self.vouch(&mut tail, "full", Says::Part);
                    let header = SegmentHeader {
                        session: self.meta.session,
                        number,
                        base,
                        encrypted: tail.is_encrypted(),
                        before: *tail.hash(),
                    };
                    tail.next(&file, &header).map_err(|e| self.unwritten(e))?;
                    std::fs::rename(planned(&self.dir, number), named(&self.dir, number))
                        .map_err(|e| self.unwritten(e))
                }),
                Piece::Ends(reason, done) => {
                    let finish = || tail.finish(press).map_err(|e| self.unwritten(e));
                    self.seals.unless_failed(finish);
                    let meta = Box::new(self.ended(&reason));
                    let says = |part| Says::Last(part, meta, done);
                    self.vouch(&mut tail, "end", says);
                    return Written { room, due: None };
                }
            }
        }
        let due = self.vouch_in_time(&mut tail);
        Written { room, due }
    }

    /// Has the log vouch for what is due; when it is looked again, where anything is left.
    pub(super) fn look(&self) -> Option<BootTime> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        self.vouch_in_time(&mut tail)
    }

    fn vouch_in_time(&self, tail: &mut Tail) -> Option<BootTime> {
        let due = tail.due(self.syncer.every)?;
        if self.seals.sound().is_err() {
            return None;
        }
        if clock::boot() < due {
            return Some(due);
        }
        self.vouch(tail, "time", Says::Part);
        None
    }

    /// Has the log say how far this segment is, once it is on disk.
    fn vouch(&self, tail: &mut Tail, why: &'static str, says: impl FnOnce(Part) -> Says) {
        let mut behind = vec![named(&self.dir, tail.number())];
        // Its name is not, either.
        behind.extend(tail.is_fresh().then(|| self.dir.clone()));
        self.syncer.put(Line {
            seals: Arc::clone(&self.seals),
            dir: self.dir.clone(),
            behind,
            says: says(tail.part(why)),
        });
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of a frame; begins the next segment where this one is full.
    fn plan(&self, space: &mut Space, kind: Kind, body: usize) -> Result<(), Error> {
        if space.closed {
            return Err(Error::Closed);
        }
        let (body, whole) = (to_u64(body), bound(body));
        let (sent, received) = match kind {
            Kind::Sent => (space.sent.saturating_add(body), space.received),
            Kind::Received => (space.sent, space.received.saturating_add(body)),
            Kind::Terminal => (space.sent, space.received.saturating_add(body)),
            Kind::Mark | Kind::End => (space.sent, space.received),
        };
        if let Some(limit) = self.settings.session_bytes
            && sent.saturating_add(received) > limit
        {
            return Err(Error::Bound { limit });
        }
        let end = space
            .planned
            .saturating_add(whole)
            .saturating_add(space.ending(whole));
        let full = end > self.settings.segment_bytes;
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
        next.queued = std::mem::take(&mut space.queued);
        let begins = Piece::Begins(Arc::clone(&next.file), number, next.base);
        next.queued.pieces.push(begins);
        *space = next;
        Ok(())
    }

    fn unwritten(&self, error: io::Error) -> Error {
        // The directory, with a name in it: what is said is where there is no space.
        Error::io("write the recording in", &self.dir.join("meta.json"), error)
    }

    /// What it is, with how it ended.
    fn ended(&self, reason: &str) -> Meta {
        let mut meta = self.meta.clone();
        let space = self.space();
        meta.ended = Some(Ended {
            time: clock::wall(),
            reason: reason.to_owned(),
            sent: space.sent,
            received: space.received,
            segments: space.number,
        });
        meta
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        if self.close("dropped", None).is_ok()
            && let Ok(mut press) = Press::new()
        {
            self.write(&mut press);
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

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
