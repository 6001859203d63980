//! Writing: sessions plan and queue, two threads write.
//!
//! A session takes space for a frame before it queues it (as the audit does, with
//! `FALLOC_FL_KEEP_SIZE`): a frame that was taken finds its space, and a full disk is told to whoever
//! has a frame. What is queued is bounded in bytes, its sender waits. A thread writes a few milliseconds
//! of all its sessions at once: a killed daemon loses those, and no more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::format::{FRAME_MAX, Kind, encode_mark, hash};
use super::lane::Lane;
use super::seal::Seals;
use super::store::{self, Meta, keys};
use super::sync::Syncer;
use super::track::Track;
use super::{Error, Settings, Terminal};
use crate::audit::Sink;
use crate::clock;
use crate::session::{Direction, Phase, RequestId};

pub(super) mod press;

/// Threads that write; a session stays with one, which keeps its frames in order.
const LANES: usize = 2;

/// So long something may be written before the audit vouches for it.
const SEAL_EVERY: Duration = Duration::from_secs(60);

/// Whom a session is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The session.
    pub session: Uuid,
    /// Its connection.
    pub connection: Uuid,
    /// What the target speaks: `postgres`.
    pub protocol: &'a str,
    /// The target's name.
    pub target: &'a str,
    /// The database, where the protocol has such.
    pub database: Option<&'a str>,
    /// Who, as JSON.
    pub principal: Option<&'a RawValue>,
}

/// Where recordings are made. Cheap to share; its threads end with the last session.
pub struct Recorder {
    root: PathBuf,
    settings: Settings,
    /// Which vouches for the recordings.
    audit: Arc<dyn Sink>,
    lanes: Vec<Arc<Lane>>,
    syncer: Arc<Syncer>,
    turn: AtomicUsize,
    /// Whatever began before it is none of its own.
    since: Timestamp,
}

impl Recorder {
    /// Starts recording below `root`, which is made where it is missing; `audit` is told the hashes.
    pub fn open(root: &Path, settings: &Settings, audit: Arc<dyn Sink>) -> Result<Self, Error> {
        Self::open_with(root, settings, audit, SEAL_EVERY)
    }

    /// The same, with an audit that vouches for what is written as often as `every`.
    pub(super) fn open_with(
        root: &Path,
        settings: &Settings,
        audit: Arc<dyn Sink>,
        every: Duration,
    ) -> Result<Self, Error> {
        crate::audit::own(root).map_err(Error::Directory)?;
        let failed = |error| Error::io("start a recording thread for", root, error);
        let lanes = (0..LANES).map(|_| Lane::start());
        let lanes: Result<Vec<_>, _> = lanes.collect();
        Ok(Self {
            root: root.to_owned(),
            settings: settings.clone(),
            audit,
            lanes: lanes.map_err(failed)?,
            syncer: Arc::new(Syncer::start(root, every).map_err(failed)?),
            turn: AtomicUsize::new(0),
            since: clock::wall(),
        })
    }

    /// When it was opened.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Begins the recording of a session; makes its directory and takes its first space. Blocks on
    /// the file system for some hundred microseconds. Refused when the disk is full.
    pub fn begin(&self, subject: &Subject<'_>) -> Result<Writer, Error> {
        let meta = Meta {
            v: 1,
            session: subject.session,
            connection: subject.connection,
            protocol: subject.protocol.to_owned(),
            target: subject.target.to_owned(),
            database: subject.database.map(str::to_owned),
            principal: subject.principal.map(RawValue::to_owned),
            started: clock::wall(),
            started_boot_ns: clock::boot(),
            ended: None,
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % LANES;
        let lane = Arc::clone(self.lanes.get(turn).ok_or(Error::Closed)?);
        let dir = store::make(&self.root, &meta)?;
        let meta_hash = meta.write(&dir)?;
        let seals = Seals::begin(&self.audit, meta.session)?;
        let key = match self.settings.recipients.as_slice() {
            [] => None,
            recipients => {
                let unkeyed = |why| Error::Unkeyed {
                    why: Arc::from(why),
                };
                let (key, kept) = keys::make(recipients).map_err(|why: String| unkeyed(why))?;
                store::put(&dir, keys::FILE, &kept)?;
                Some((key, hash(&[&kept])))
            }
        };
        let vouching = (seals, meta_hash, &self.syncer);
        let track = Arc::new(Track::begin(dir, &self.settings, meta, vouching, key)?);
        Ok(Writer { lane, track })
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// A session's side of its recording. Dropped without [`Writer::close`], it ends as `dropped`.
pub struct Writer {
    lane: Arc<Lane>,
    track: Arc<Track>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Records bytes. Waits while the disk is behind; an error means that the session must end. May
    /// be dropped while it waits: of bytes longer than a frame a part may be recorded then.
    pub async fn record(&self, direction: Direction, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(FRAME_MAX));
            self.queue(Kind::from(direction), piece).await?;
        }
        Ok(())
    }

    /// Ties a request of the audit to this place: its text is among the bytes recorded before.
    pub async fn mark(&self, request: RequestId, phase: Phase) -> Result<(), Error> {
        let body = Bytes::copy_from_slice(&encode_mark(request, phase));
        self.queue(Kind::Mark, body).await
    }

    /// Records what a terminal shows or is told; longer pieces as several.
    pub async fn terminal(&self, number: u32, what: &Terminal) -> Result<(), Error> {
        // Half a frame, so that what stands before the bytes finds its place too.
        const PIECE: usize = FRAME_MAX / 2;
        let (make, mut bytes): (fn(Bytes) -> Terminal, _) = match what {
            Terminal::Shown(bytes) => (Terminal::Shown, bytes.clone()),
            Terminal::Typed(bytes) => (Terminal::Typed, bytes.clone()),
            Terminal::Erred(bytes) => (Terminal::Erred, bytes.clone()),
            Terminal::Carried(Direction::Sent, bytes) => (
                |piece| Terminal::Carried(Direction::Sent, piece),
                bytes.clone(),
            ),
            Terminal::Carried(Direction::Received, bytes) => (
                |piece| Terminal::Carried(Direction::Received, piece),
                bytes.clone(),
            ),
            other => {
                let body = Bytes::from(other.encode(number));
                return self.queue(Kind::Terminal, body).await;
            }
        };
        while !bytes.is_empty() {
            let piece = make(bytes.split_to(bytes.len().min(PIECE)));
            let body = Bytes::from(piece.encode(number));
            self.queue(Kind::Terminal, body).await?;
        }
        Ok(())
    }

    /// Ends the recording; resolves when all of it is on disk, and the audit says so.
    pub async fn close(&self, reason: &str) -> Result<(), Error> {
        let (done, written) = oneshot::channel();
        if self.track.close(reason, Some(done))? {
            self.lane.put(&self.track);
        }
        self.lane.hurry();
        written.await.map_err(|_gone| Error::Closed)?
    }

    async fn queue(&self, kind: Kind, body: Bytes) -> Result<(), Error> {
        let room = self.lane.room(body.len()).await?;
        if self.track.add(kind, body)? {
            self.lane.put(&self.track);
        }
        // Given back by the thread, once this is written.
        room.forget();
        Ok(())
    }
}
