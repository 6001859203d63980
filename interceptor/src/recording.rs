//! What the agent sent and saw, as bytes in bounded segments, for replay.
//!
//! One directory a session, `<yyyy-mm-dd>/<session>/`, with `meta.json` and `000001.rec`, `000002.rec`,
//! …; `format` has their layout as a table, `seal` what the audit vouches for. Nothing is lost silently: `record` waits while the disk is
//! behind and fails when it is full, and then the session must end. Knows no protocol; whoever
//! shows a recording decodes it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::config::Recording as Settings;

mod format;
mod lane;
mod reader;
mod seal;
mod store;
mod sync;
mod tail;
mod terminal;
#[cfg(test)]
mod tests;
mod track;
pub mod verify;
mod writer;

pub use format::FRAME_MAX;
pub use reader::{Frame, Reader, What};
pub use store::keys::Identities;
pub use store::retention;
pub use store::{Ended, Filter, Listing, Meta, find, list};
pub use terminal::Terminal;
pub use writer::{Recorder, Subject, Writer};

/// Why a recording cannot be written or read.
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
    /// There is no space left.
    #[error("cannot record below {}: no space left; free some, and new sessions are taken again", dir.display())]
    Full {
        /// Where.
        dir: PathBuf,
    },
    /// The directory of the recordings is not the daemon's alone.
    #[error(transparent)]
    Directory(crate::audit::Error),
    /// The session has sent and received as much as may be recorded of one.
    #[error(
        "cannot record more of this session: it has reached {limit} bytes (`recording.session`)"
    )]
    Bound {
        /// The setting.
        limit: u64,
    },
    /// The audit cannot be told of it.
    #[error("cannot record what the audit does not vouch for: {0}")]
    Unsealed(crate::audit::Error),
    /// It cannot be encrypted to its recipients.
    #[error("cannot encrypt the recording: {why}")]
    Unkeyed {
        /// Why.
        why: Arc<str>,
    },
    /// It is encrypted, and cannot be opened.
    #[error("{}: the recording is encrypted: {why}", dir.display())]
    Sealed {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        why: Arc<str>,
    },
    /// A file of identities has none.
    #[error("{}: no identity of age (AGE-SECRET-KEY-1…) is in it", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
    },
    /// The recording was closed.
    #[error("cannot record: the recording is closed")]
    Closed,
    /// The last frame is not whole: a crash cut it off, or it is being written.
    #[error("{}: the recording is cut off at byte {offset}; what is before it is whole", file.display())]
    Torn {
        /// The segment.
        file: PathBuf,
        /// Where its last whole frame ends.
        offset: u64,
    },
    /// Bytes were changed, or a segment is missing.
    #[error("{}: the recording is damaged at byte {offset}: {what}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// `meta.json` cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Meta {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// No session has this id.
    #[error("cannot find a recording of session {0}; `interceptor sessions ls` lists them")]
    Unknown(String),
    /// More than one has an id that begins so.
    #[error("cannot tell which session {0} is: more than one begins so; give more of its id")]
    Ambiguous(String),
}

impl Error {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        if full {
            return Self::Full {
                dir: path.parent().unwrap_or(path).to_owned(),
            };
        }
        Self::Io {
            doing,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}
