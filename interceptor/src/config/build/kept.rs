//! What is kept of what happened: the audit log and the recordings.

use std::collections::BTreeMap;
use std::time::Duration;

use super::outputs::Output;

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// When a request's record is on disk.
    pub durability: Durability,
    /// Size at which a segment is closed and the next begun, in bytes. Default 64 MiB.
    pub segment_bytes: u64,
    /// How often the log itself says, signed, how far it is. Default one minute.
    pub checkpoint: Duration,
    /// Where its lines go besides, by name.
    pub outputs: BTreeMap<String, Output>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            durability: Durability::Relaxed,
            segment_bytes: 64 << 20,
            checkpoint: Duration::from_secs(60),
            outputs: BTreeMap::new(),
        }
    }
}

/// When a request's record is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// With the kernel before the request is forwarded, on disk within 50 ms.
    Relaxed,
    /// On disk before the request is forwarded (group commit).
    Strict,
}

/// How long recordings are kept; for ever where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// As long after their end.
    pub age: Option<Duration>,
    /// The newest of a target, together as many bytes.
    pub bytes: Option<u64>,
}

impl Keep {
    /// What is said here, and of what is not what is said there.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            age: self.age.or(other.age),
            bytes: self.bytes.or(other.bytes),
        }
    }
}

/// The recordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Size at which a segment is closed and the next begun, in bytes. Default 16 MiB.
    pub segment_bytes: u64,
    /// Bytes of one session after which it is ended; `None` for no bound. Default none.
    pub session_bytes: Option<u64>,
    /// Whom they are encrypted to (`age`); none where they are not. Default none.
    pub recipients: Vec<String>,
    /// How long they are kept, where their target says nothing.
    pub keep: Keep,
}
