//! Scope: what a text's meaning depends on beside itself: the search path, the transaction, whether
//! text can be read at all.
//!
//! What is not certain is unknown, never what it was before. Where a server reports the search path
//! (PostgreSQL 18), its word stands.

use std::sync::Arc;

use super::super::facts::{Effect, listed};
use super::super::wire::backend::Status;

/// Schemas of the search path; `None` where it is not known.
pub(super) type Path = Option<Arc<Vec<String>>>;

/// What texts are read under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    in_transaction: bool,
    readable: bool,
    /// Since the last block that ended, encoding or strings may have been others: leaving a block, or
    /// going back in it, may bring those back.
    wavered: bool,
    /// Now, after a commit, after a rollback.
    path: Path,
    committed: Path,
    rolled_back: Path,
}

impl Scope {
    pub(super) fn new(path: Path, status: Status, readable: bool) -> Self {
        Self {
            in_transaction: status != Status::Idle,
            readable,
            wavered: !readable,
            committed: path.clone(),
            rolled_back: path.clone(),
            path,
        }
    }

    /// The search path now.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an explicit transaction block is open.
    pub(super) fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Whether text is what it looks like: in UTF-8, with standard strings.
    pub(super) fn readable(&self) -> bool {
        self.readable
    }

    /// Whether a commit and a rollback leave the same path.
    pub(super) fn certain(&self) -> bool {
        self.path == self.committed && self.path == self.rolled_back
    }

    /// Whether an effect changes what texts are read under.
    pub(super) fn heeds(effect: &Effect) -> bool {
        match effect {
            Effect::Begin
            | Effect::Commit { .. }
            | Effect::Rollback { .. }
            | Effect::RollbackTo(_)
            | Effect::SetsSearchPath { .. }
            | Effect::ResetsSearchPath { .. }
            | Effect::ResetsAll
            | Effect::SetsEncoding
            | Effect::SetsConformingStrings
            | Effect::DiscardsAll
            | Effect::Unknown => true,
            Effect::Savepoint(_)
            | Effect::Release(_)
            | Effect::Prepares { .. }
            | Effect::Executes { .. }
            | Effect::Deallocates(_)
            | Effect::DeclaresCursor { .. }
            | Effect::ClosesCursor(_)
            | Effect::Stores
            | Effect::CopyIn
            | Effect::CopyOut
            | Effect::CopyHeader
            | Effect::Fetches(_)
            | Effect::CopyBoth => false,
        }
    }

    /// A statement succeeded; `tag` is the server's word for it, where it has one of its own.
    /// `reset` is the path of the session's start.
    pub(super) fn apply(&mut self, effect: &Effect, tag: Option<&str>, reset: &Path) {
        match effect {
            Effect::Begin => self.in_transaction = true,
            Effect::Commit { chain } => self.end(tag, "COMMIT", *chain),
            Effect::Rollback { chain } => self.end(tag.or(Some("ROLLBACK")), "ROLLBACK", *chain),
            Effect::RollbackTo(_) => self.back(),
            Effect::SetsSearchPath { to, local } => {
                self.set_path(to.clone().map(Arc::new), *local);
            }
            Effect::ResetsSearchPath { local } => self.set_path(reset.clone(), *local),
            Effect::ResetsAll => {
                self.set_path(reset.clone(), false);
                self.unreadable();
            }
            Effect::SetsEncoding | Effect::SetsConformingStrings => self.unreadable(),
            Effect::DiscardsAll => {
                self.set_all(reset.clone());
                self.unreadable();
            }
            Effect::Unknown => {
                self.set_all(None);
                self.unreadable();
            }
            _ => {}
        }
    }

    /// The end of a block. A server answers `COMMIT` of a failed one with `ROLLBACK`.
    fn end(&mut self, tag: Option<&str>, asked: &str, chain: bool) {
        let was_open = self.in_transaction;
        self.readable &= !self.wavered;
        match tag {
            _ if self.certain() => {}
            Some("COMMIT") if was_open && asked == "COMMIT" => self.set_all(self.committed.clone()),
            Some("ROLLBACK") if was_open => self.set_all(self.rolled_back.clone()),
            _ => self.set_all(None),
        }
        self.in_transaction = was_open && chain;
    }

    /// Back to a savepoint: whether from before a change or after it is not known.
    fn back(&mut self) {
        self.readable &= !self.wavered;
        if !self.certain() {
            self.path = None;
            self.committed = None;
        }
    }

    fn set_path(&mut self, path: Path, local: bool) {
        self.path = path;
        if !local {
            self.committed = self.path.clone();
        }
    }

    /// Text is not what it looks like from now on.
    pub(super) fn unreadable(&mut self) {
        self.readable = false;
        self.wavered = true;
    }

    /// Nothing is known of what was done to the path.
    pub(super) fn lose(&mut self) {
        self.set_all(None);
    }

    /// The server waits for the next request; `failed` tells whether the last one or its batch did.
    pub(super) fn ready(&mut self, status: Status, failed: bool, readable: bool) {
        self.readable = readable;
        self.in_transaction = status != Status::Idle;
        self.wavered |= !readable;
        if status == Status::Idle {
            self.wavered = !readable;
            self.set_all(if failed {
                self.rolled_back.clone()
            } else {
                self.committed.clone()
            });
        }
    }

    /// The server says what the search path is; `start` is what it said and what that meant at first.
    pub(super) fn reported(&mut self, raw: &[u8], start: (&[u8], &Path)) {
        let said = if raw == start.0 {
            start.1.clone()
        } else {
            std::str::from_utf8(raw).ok().and_then(listed).map(Arc::new)
        };
        if said == self.path {
            return;
        }
        let later = if self.in_transaction {
            None
        } else {
            said.clone()
        };
        self.committed = later.clone();
        self.rolled_back = later;
        self.path = said;
    }

    fn set_all(&mut self, path: Path) {
        self.committed = path.clone();
        self.rolled_back = path.clone();
        self.path = path;
    }
}

#[cfg(test)]
mod tests;
