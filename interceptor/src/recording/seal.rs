//! What the audit says of a recording: its hashes, so that the log vouches for what is beside it.
//!
//! One line when it begins, one at the end of each segment and of the recording, and one within a minute of
//! what was written since. What is written behind the last of them is vouched for by nothing. No line speaks of
//! what is not on disk: a host that is lost takes what the log does not know, and no more.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use uuid::Uuid;

use super::Error;
use super::format::Hash;
use super::store::{META, Meta, put_prepared};
use super::tail::Done;
use crate::audit::{self, Event, Reservation, Sink};

/// More than the last line of a recording takes.
const LINE_BYTES: u64 = 1024;

/// Where the lines of one recording go.
pub(super) struct Seals {
    audit: Arc<dyn Sink>,
    session: Uuid,
    /// Space for the last line.
    last: Mutex<Option<Reservation>>,
    /// The first error of the threads: nothing more is written or taken.
    failed: OnceLock<Error>,
}

/// A part of a segment, from its beginning.
pub(super) struct Part {
    pub(super) segment: u32,
    pub(super) head: Hash,
    pub(super) tail: Hash,
    pub(super) length: u64,
    pub(super) why: &'static str,
}

/// What the log says of a recording, once all that it is about is on disk.
pub(super) struct Line {
    pub(super) seals: Arc<Seals>,
    /// The recording's directory.
    pub(super) dir: PathBuf,
    /// Files and directories that have to be on disk before.
    pub(super) behind: Vec<PathBuf>,
    pub(super) says: Says,
}

/// What it says.
pub(super) enum Says {
    /// It began: its target, the hashes of its first header, of what it is, and of its key.
    Begun(String, [Hash; 2], Option<Hash>),
    /// How far a segment is.
    Part(Part),
    /// The same at the end, with what the session was, and who waits for it.
    Last(Part, Box<Meta>, Option<Done>),
}

impl Seals {
    /// Sets the space for the last line aside.
    pub(super) fn begin(audit: &Arc<dyn Sink>, session: Uuid) -> Result<Self, Error> {
        let last = audit.reserve(LINE_BYTES).map_err(unwritten)?;
        Ok(Self {
            audit: Arc::clone(audit),
            session,
            last: Mutex::new(Some(last)),
            failed: OnceLock::new(),
        })
    }

    /// Fails once something of it has failed.
    pub(super) fn sound(&self) -> Result<(), Error> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Does what is still worth doing; the first error ends the recording.
    pub(super) fn unless_failed(&self, act: impl FnOnce() -> Result<(), Error>) {
        if self.failed.get().is_none()
            && let Err(error) = act()
        {
            self.fails(error);
        }
    }

    pub(super) fn fails(&self, error: Error) {
        if self.failed.get().is_none() {
            tracing::error!(%error, session = %self.session, "a recording failed: its session ends");
            self.failed.get_or_init(|| error);
        }
    }

    fn begun(
        &self,
        target: &str,
        [head, meta]: &[Hash; 2],
        key: Option<&Hash>,
    ) -> Result<(), Error> {
        let event = Event::RecordingBegun {
            session: self.session,
            target,
            head: &hex::encode(head),
            meta: &hex::encode(meta),
            key: key.map(hex::encode),
        };
        self.audit.append(&event).map(drop).map_err(unwritten)
    }

    /// Says the last of it, into the space that was set aside.
    pub(super) fn last(&self, part: &Part, meta: &Hash) -> Result<(), Error> {
        let room = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.part(part, Some(meta), room)
    }

    fn part(
        &self,
        part: &Part,
        meta: Option<&Hash>,
        room: Option<Reservation>,
    ) -> Result<(), Error> {
        let event = Event::RecordingSealed {
            session: self.session,
            segment: part.segment,
            length: part.length,
            head: &hex::encode(part.head),
            tail: &hex::encode(part.tail),
            why: part.why,
            meta: meta.map(hex::encode),
        };
        let written = match room {
            Some(room) => self.audit.append_reserved(room, &event),
            None => self.audit.append(&event),
        };
        written.map(drop).map_err(unwritten)
    }
}

impl Line {
    /// Writes it. All that it is about is on disk by then.
    pub(super) fn write(self) {
        let Self {
            seals, dir, says, ..
        } = self;
        match says {
            Says::Begun(target, hashes, key) => {
                seals.unless_failed(|| seals.begun(&target, &hashes, key.as_ref()));
            }
            Says::Part(part) => seals.unless_failed(|| seals.part(&part, None, None)),
            Says::Last(part, meta, done) => {
                seals.unless_failed(|| {
                    // The log first: killed between the two, the file is what the log vouched for at the beginning.
                    seals.last(&part, &meta.hash()?)?;
                    if let Err(error) = put_prepared(&dir, META) {
                        tracing::warn!(%error, "cannot note the end of a recording in its meta.json; its last frame tells it");
                    }
                    Ok(())
                });
                // Whoever asked may be gone; the recording is closed all the same.
                drop(done.map(|done| done.send(seals.sound())));
            }
        }
    }
}

fn unwritten(error: audit::Error) -> Error {
    Error::Unsealed(error)
}
