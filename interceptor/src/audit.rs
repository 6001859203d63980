//! What happened, one JSON object a line, each carrying the hash of the one before.
//!
//! A request's line is with the kernel before its bytes go upstream, and on disk within 50 ms
//! (`durability: strict`: before its bytes go upstream). A full disk refuses; it does not forget:
//! space for a request's end is reserved before the request is forwarded. A request's end is with the
//! kernel before the next line is, or within 20 ms. The log is one
//! directory with one writer; anybody who may read it can check it with [`verify()`], and whoever has the
//! public key can check a copy of it. Nothing here
//! knows a protocol, and no line ever carries a secret.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;

pub use crate::config::Audit as Settings;

mod chain;
pub mod checkpoint;
pub mod event;
mod log;
pub mod read;
mod recover;
mod segment;
mod stamp;
mod sync;
#[cfg(test)]
pub(crate) mod tests;
pub mod verify;

pub use chain::LINE_MAX;
pub use checkpoint::sign::{PublicKey, Signer};
pub use event::Event;
pub use log::Log;
pub(crate) use log::own;
pub use verify::verify;

/// The place of a line in the log: 1 for the first, one more for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// What a finish line needs besides its principal: numbers, names and a bounded status.
const FINISH_BYTES: u64 = 1024 + 32 + 2 * 1536;

/// Bytes to reserve for the `request.finished` line of a connection with this principal.
#[must_use]
pub fn finish_bytes(principal: Option<&RawValue>) -> u64 {
    let principal = principal.map_or(0, |principal| principal.get().len());
    FINISH_BYTES.saturating_add(u64::try_from(principal).unwrap_or(u64::MAX))
}

/// Resolves when a line is as durable as the settings ask.
pub type Settled<'a> = Pin<Box<dyn Future<Output = Result<Sequence, Error>> + Send + 'a>>;

/// Where events go: the log of this host; a fleet's stream drops in here.
pub trait Sink: Send + Sync + 'static {
    /// Writes one line; on return it outlives the daemon. An error means that it is not written.
    fn append(&self, event: &Event<'_>) -> Result<Sequence, Error>;

    /// Writes one line at once, as [`Sink::append`] does; resolves when it may be acted upon: with
    /// `durability: strict` when it is on disk, otherwise at once. The future may be dropped at any
    /// time; the line stays.
    fn append_durable<'a>(&'a self, event: &Event<'_>) -> Settled<'a>;

    /// Sets space aside for one later line; refused when there is none. Dropped, it is given back.
    fn reserve(&self, bytes: u64) -> Result<Reservation, Error>;

    /// Writes a line into space set aside. Never fails for want of space while the line is no longer
    /// than the reservation; any error means that the sink is broken and takes nothing more.
    fn append_reserved(
        &self,
        reservation: Reservation,
        event: &Event<'_>,
    ) -> Result<Sequence, Error>;

    /// Takes a line that nobody waits for: it is written before the next one that is appended, or
    /// within 20 ms, into space set aside, as [`Sink::append_reserved`] does.
    fn append_later(&self, reservation: Reservation, event: &Event<'_>) -> Result<(), Error>;
}

/// Space set aside for one line.
#[derive(Debug)]
#[must_use = "space that is not used is given back at once"]
pub struct Reservation {
    bytes: u64,
    ledger: Arc<Ledger>,
}

impl Reservation {
    /// How long a line it holds, newline included, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Bytes promised and not yet written. Raised under the log's lock only; given back without it.
#[derive(Debug, Default)]
struct Ledger(AtomicU64);

impl Ledger {
    fn promised(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn promise(self: &Arc<Self>, bytes: u64) -> Reservation {
        self.0.fetch_add(bytes, Ordering::AcqRel);
        Reservation {
            bytes,
            ledger: Arc::clone(self),
        }
    }
}

/// Why the log cannot be opened, written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// An operation on a file failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// There is no space left for another line.
    #[error("cannot write the audit log below {}: no space left; free some and it goes on by itself", dir.display())]
    Full {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The file system cannot set space aside.
    #[error("cannot keep the audit log in {}: its file system has no fallocate, so a full disk would lose lines; put it on ext4, XFS, Btrfs or tmpfs", dir.display())]
    Unsuitable {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Another process has the log open.
    #[error("cannot open the audit log {}: another daemon is writing it; stop that one first", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Others than the daemon's user can reach the directory.
    #[error("cannot use {}: {what}; make it a directory of the daemon's user with mode 0700", dir.display())]
    Exposed {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The log was changed where it was already on disk.
    #[error("cannot open the audit log {}: {violation}; run `interceptor audit verify`, keep the directory for whoever looks into it, and start with an empty one", dir.display())]
    Damaged {
        /// The log's directory.
        dir: PathBuf,
        /// Where and what.
        violation: Box<verify::Violation>,
    },
    /// An earlier write or sync failed, or the log was closed.
    #[error("cannot write the audit log: {why}")]
    Broken {
        /// What failed.
        why: Arc<str>,
    },
    /// A line is longer than any reader takes.
    #[error("cannot write an audit line of {bytes} bytes: the limit is {LINE_MAX}")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// The key that signs checkpoints cannot be used, or one that checks them is none.
    #[error("cannot use {}: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// An event could not be made into JSON.
    #[error("cannot make an audit line: {0}")]
    Unserializable(Arc<str>),
}

impl Error {
    fn key(path: &Path, why: String) -> Self {
        Self::Key {
            path: path.to_owned(),
            why: Arc::from(why),
        }
    }

    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

/// Whether an error says that there is no space, by disk or by quota.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
