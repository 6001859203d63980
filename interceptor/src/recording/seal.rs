//! What the audit says of a recording: its hashes, so that the log vouches for what is beside it.
//!
//! One line when it begins, one at the end of each segment and of the recording, and one a minute while
//! something is written. What is written behind the last of them is vouched for by nothing.

use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::Error;
use super::format::Hash;
use crate::audit::{self, Event, Reservation, Sink};

/// More than the last line of a recording takes.
const LINE_BYTES: u64 = 1024;

/// Where the lines of one recording go.
pub(super) struct Seals {
    audit: Arc<dyn Sink>,
    session: Uuid,
    /// Space for the last line.
    last: Mutex<Option<Reservation>>,
}

/// A part of a segment, from its beginning.
pub(super) struct Part<'a> {
    pub(super) segment: u32,
    pub(super) head: &'a Hash,
    pub(super) tail: &'a Hash,
    pub(super) length: u64,
    pub(super) why: &'a str,
}

impl Seals {
    /// Sets the space for the last line aside.
    pub(super) fn begin(audit: &Arc<dyn Sink>, session: Uuid) -> Result<Self, Error> {
        let last = audit.reserve(LINE_BYTES).map_err(unwritten)?;
        Ok(Self {
            audit: Arc::clone(audit),
            session,
            last: Mutex::new(Some(last)),
        })
    }

    /// Says that it began: the hash of its first header, of what it is, and of its key.
    pub(super) fn begun(
        &self,
        target: &str,
        hashes: [&Hash; 2],
        key: Option<&Hash>,
    ) -> Result<(), Error> {
        let [head, meta] = hashes;
        let event = Event::RecordingBegun {
            session: self.session,
            target,
            head: &hex::encode(head),
            meta: &hex::encode(meta),
            key: key.map(hex::encode),
        };
        self.audit.append(&event).map(drop).map_err(unwritten)
    }

    /// Says how far a segment is.
    pub(super) fn part(&self, part: &Part<'_>) -> Result<(), Error> {
        self.write(part, None, None)
    }

    /// The same at the end, into the space that was set aside.
    pub(super) fn last(&self, part: &Part<'_>, meta: &Hash) -> Result<(), Error> {
        let room = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.write(part, Some(meta), room)
    }

    fn write(
        &self,
        part: &Part<'_>,
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

fn unwritten(error: audit::Error) -> Error {
    Error::Unsealed(error)
}
