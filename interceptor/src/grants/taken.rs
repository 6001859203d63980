//! What somebody has taken of a grant, and stands on: a request that runs, a session, a connection.
//!
//! Of what is counted the most that may be needed is set aside first, and what was not needed is given
//! back: so a daemon that dies in between leaves less of a grant, never more.

use std::sync::Arc;

use super::Amount;
use super::table::Live;
use crate::clock::BootTime;
use crate::policy::{GrantId, Limits};

/// What is taken of a grant.
#[derive(Clone, Copy, Debug)]
pub enum Take<'a> {
    /// Nothing: somebody stands on it.
    Hold,
    /// One use.
    Use,
    /// One use, and what is left of rows and bytes, as far as an answer under these limits can need it.
    Answer(Option<&'a Limits>),
}

/// A grant that somebody stands on. Dropped, what was taken stays taken, and a grant that is used up can
/// end.
#[derive(Debug)]
pub struct Taken {
    live: Arc<Live>,
    took: Amount,
}

impl Taken {
    pub(super) fn new(live: Arc<Live>, took: Amount) -> Self {
        Self { live, took }
    }

    /// Of which grant.
    #[must_use]
    pub fn id(&self) -> GrantId {
        self.live.grant.id
    }

    /// How many rows were set aside, where they are counted.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        self.live.grant.budget.rows.map(|_| self.took.rows)
    }

    /// How many bytes were set aside, where they are counted.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.live.grant.budget.bytes.map(|_| self.took.bytes)
    }

    /// Whether the grant is still there.
    #[must_use]
    pub fn stands(&self, now: BootTime) -> bool {
        self.live.stands(now)
    }

    /// What of it must be kept.
    pub(super) fn counted(&self) -> Amount {
        match self.live.grant.budget.uses {
            Some(_) => self.took,
            None => Amount {
                uses: 0,
                ..self.took
            },
        }
    }

    /// What was set aside and not needed.
    pub(super) fn unused(&self, rows: u64, bytes: u64) -> Amount {
        Amount {
            uses: 0,
            rows: self.took.rows.saturating_sub(rows),
            bytes: self.took.bytes.saturating_sub(bytes),
        }
    }

    pub(super) fn give_back(self, unused: Amount) {
        self.live.put_back(unused);
    }

    /// As if it had never been taken: nobody was told of it.
    pub(super) fn undo(self) {
        self.live.put_back(self.took);
    }
}

/// The grants that something stands on as long as it lives.
#[derive(Debug, Default)]
pub struct Footing {
    grants: Box<[GrantId]>,
    taken: Vec<Taken>,
}

impl Footing {
    /// Which.
    #[must_use]
    pub fn grants(&self) -> &[GrantId] {
        &self.grants
    }

    /// The first of them that is no more.
    #[must_use]
    pub fn fallen(&self, now: BootTime) -> Option<GrantId> {
        let mut taken = self.taken.iter();
        taken.find(|one| !one.stands(now)).map(Taken::id)
    }
}

impl From<Vec<Taken>> for Footing {
    fn from(taken: Vec<Taken>) -> Self {
        Self {
            grants: taken.iter().map(Taken::id).collect(),
            taken,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.live.let_go();
    }
}
