//! One recording on its way to the disk: where its frames will stand, and where its file ends.
//!
//! `Space` is planned by the session, `Tail` is written by the thread; what is between the two is in
//! the queue. A frame gets its place before it is queued, so that it finds its space.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::format::{FRAME_HEADER, FrameHeader, Kind, SEGMENT_HEADER, SegmentHeader};
use super::store::{Ended, Meta};
use super::{Error, Settings};
use crate::clock::{self, BootTime};

/// Space is taken in pieces as large as the segment is already, within these bounds, in bytes.
const CHUNK_MIN: u64 = 64 << 10;
const CHUNK_MAX: u64 = 4 << 20;

/// The longest reason that an end frame holds, in bytes.
const REASON_MAX: usize = 64;

/// Space that is always left for the end frame, in bytes.
const END_BYTES: u64 = 128;

/// What both sides of a recording share.
pub(super) struct Track {
    dir: PathBuf,
    settings: Settings,
    meta: Meta,
    space: Mutex<Space>,
    tail: Mutex<Tail>,
    /// The first error of the thread: nothing more is written or taken.
    failed: OnceLock<Error>,
}

/// The session's side: where the frames that are queued will stand.
pub(super) struct Space {
    file: Arc<File>,
    path: PathBuf,
    number: u32,
    base: BootTime,
    /// Where the last frame that is queued ends.
    planned: u64,
    allocated: u64,
    sent: u64,
    received: u64,
    closed: bool,
}

/// The thread's side: where the file ends.
struct Tail {
    file: Arc<File>,
    number: u32,
    base: BootTime,
    /// Of the last frame.
    checksum: u32,
    length: u64,
    ended: bool,
}

pub(super) struct Job {
    pub(super) track: Arc<Track>,
    /// The segment that this frame is the first of.
    pub(super) begins: Option<Begins>,
    pub(super) what: Order,
}

pub(super) enum Order {
    Frame(FrameHeader, Bytes),
    Close(String, oneshot::Sender<Result<(), Error>>),
}

pub(super) struct Begins {
    file: Arc<File>,
    number: u32,
    base: BootTime,
}

impl Space {
    fn begin(dir: &Path, number: u32, base: BootTime) -> Result<Self, Error> {
        let path = dir.join(format!("{number:06}.rec"));
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
        };
        space.provide(to_u64(SEGMENT_HEADER))?;
        space.planned = to_u64(SEGMENT_HEADER);
        Ok(space)
    }

    /// What the times of frames count from.
    pub(super) fn base(&self) -> BootTime {
        self.base
    }

    /// Nothing more is planned. Fails the second time.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.closed, true) {
            return Err(Error::Closed);
        }
        Ok(())
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
        let space = Space::begin(&dir, 1, meta.started_boot_ns)?;
        let tail = Tail::begin(&space, meta.session, 0)
            .map_err(|error| Error::io("write", &space.path, error))?;
        Ok(Self {
            dir,
            settings: settings.clone(),
            space: Mutex::new(space),
            tail: Mutex::new(tail),
            failed: OnceLock::new(),
            meta,
        })
    }

    /// Fails once the thread has failed.
    pub(super) fn sound(&self) -> Result<(), Error> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(super) fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of a frame; begins the next segment where this one is full.
    pub(super) fn plan(
        &self,
        space: &mut Space,
        kind: Kind,
        body: usize,
    ) -> Result<Option<Begins>, Error> {
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
        let mut begins = None;
        if full && space.planned > to_u64(SEGMENT_HEADER) {
            let mut next = Space::begin(&self.dir, space.number + 1, clock::boot())?;
            if let Err(error) = next.provide(whole) {
                // Nothing was written to it: it must not stay as a segment without a header.
                if let Err(error) = std::fs::remove_file(&next.path) {
                    tracing::warn!(%error, path = %next.path.display(), "cannot remove an empty segment");
                }
                return Err(error);
            }
            *space = next;
            begins = Some(Begins {
                file: Arc::clone(&space.file),
                number: space.number,
                base: space.base,
            });
        } else {
            space.provide(whole)?;
        }
        space.planned = space.planned.saturating_add(whole);
        (space.sent, space.received) = (sent, received);
        Ok(begins)
    }

    /// Writes what is queued of this session; the first error ends the recording.
    pub(super) fn write(&self, jobs: Vec<Job>) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Vec::new();
        for job in jobs {
            if let Some(begins) = job.begins {
                self.note(tail.write(&batch, &self.failed));
                batch.clear();
                self.note(tail.next(&begins, self.meta.session, &self.failed));
            }
            match job.what {
                Order::Frame(header, body) => batch.push((header, body)),
                Order::Close(reason, done) => {
                    self.note(tail.write(&batch, &self.failed));
                    batch.clear();
                    self.note(self.end(&mut tail, &reason));
                    // Whoever asked may be gone; the recording is closed all the same.
                    drop(done.send(self.sound()));
                }
            }
        }
        self.note(tail.write(&batch, &self.failed));
    }

    fn note(&self, written: io::Result<()>) {
        if let Err(error) = written {
            let error = Error::io("write the recording in", &self.dir, error);
            tracing::error!(%error, session = %self.meta.session, "a recording failed: its session ends");
            self.failed.get_or_init(|| error);
        }
    }

    /// Writes the end frame and `meta.json`, and gives back the space behind.
    fn end(&self, tail: &mut Tail, reason: &str) -> io::Result<()> {
        if std::mem::replace(&mut tail.ended, true) {
            return Ok(());
        }
        let (reason, _) = reason.split_at(reason.floor_char_boundary(REASON_MAX));
        let body = Bytes::copy_from_slice(reason.as_bytes());
        let header = FrameHeader::now(Kind::End, tail.base, &body);
        tail.write(&[(header, body)], &self.failed)?;
        tail.file.set_len(tail.length)?;
        if self.failed.get().is_some() {
            return Ok(());
        }
        let mut meta = self.meta.clone();
        let space = self.space();
        meta.ended = Some(Ended {
            time: clock::wall(),
            reason: reason.to_owned(),
            sent: space.sent,
            received: space.received,
            segments: tail.number,
        });
        drop(space);
        if let Err(error) = meta.write(&self.dir) {
            tracing::warn!(%error, "cannot note the end of a recording in its meta.json; its last frame tells it");
        }
        Ok(())
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        self.note(self.end(&mut tail, "dropped"));
    }
}

impl Tail {
    fn begin(space: &Space, session: Uuid, before: u32) -> io::Result<Self> {
        let header = SegmentHeader {
            session,
            number: space.number,
            base: space.base,
            before,
        };
        let (bytes, checksum) = header.encode();
        (&*space.file).write_all(&bytes)?;
        Ok(Self {
            file: Arc::clone(&space.file),
            number: space.number,
            base: space.base,
            checksum,
            length: to_u64(SEGMENT_HEADER),
            ended: false,
        })
    }

    /// Goes on in the next segment.
    fn next(&mut self, begins: &Begins, session: Uuid, failed: &OnceLock<Error>) -> io::Result<()> {
        if failed.get().is_some() {
            return Ok(());
        }
        self.file.set_len(self.length)?;
        let header = SegmentHeader {
            session,
            number: begins.number,
            base: begins.base,
            before: self.checksum,
        };
        let (bytes, checksum) = header.encode();
        (&*begins.file).write_all(&bytes)?;
        *self = Self {
            file: Arc::clone(&begins.file),
            number: begins.number,
            base: begins.base,
            checksum,
            length: to_u64(SEGMENT_HEADER),
            ended: false,
        };
        Ok(())
    }

    /// Writes frames behind each other, in one call where the kernel takes them so.
    fn write(
        &mut self,
        frames: &[(FrameHeader, Bytes)],
        failed: &OnceLock<Error>,
    ) -> io::Result<()> {
        if frames.is_empty() || failed.get().is_some() {
            return Ok(());
        }
        let mut headers = Vec::with_capacity(frames.len());
        for (header, body) in frames {
            let (bytes, checksum) = header.encode(self.checksum, body);
            self.checksum = checksum;
            headers.push(bytes);
        }
        let mut slices: Vec<IoSlice<'_>> = headers
            .iter()
            .zip(frames)
            .flat_map(|(header, (_, body))| [IoSlice::new(header), IoSlice::new(body)])
            .collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            match (&*self.file).write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.length += to_u64(written);
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
