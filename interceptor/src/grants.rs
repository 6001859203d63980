//! Grants: what a process tree may do for a while, on top of what policy permits for good.
//!
//! Policy says what may be granted (`@grant` on a permit) and is asked anew for every request; a grant
//! says who has been given it, until when, and how often. It ends by time, by use, by the end of the
//! process that it hangs on, or by hand, and with it ends what lives on it. Times are boot time: no
//! change of the clock makes one longer, and none outlives the host's next start.

mod cover;
mod store;
mod table;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use self::cover::Holding;
use self::store::Store;
use self::table::Table;
use crate::clock::{self, BootTime};
use crate::identity::Principal;
use crate::policy::{Action, GrantId, Resource};

/// Live grants of one scope.
const OF_ONE: usize = 256;
/// Live grants of all scopes.
const OF_ALL: usize = 65_536;

/// What can go wrong with grants. Each of them refuses.
#[derive(Debug, Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error("cannot open the grants in {path}: {cause}")]
    Open {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        cause: String,
    },
    /// The store cannot be written or read.
    #[error("cannot keep grants: {0}")]
    Store(String),
    /// There are too many.
    #[error("{0}")]
    Full(&'static str),
    /// It was used up meanwhile, or has ended.
    #[error("the grant has been used up or has ended")]
    Spent,
}

/// Whose a grant is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The agent's name.
    pub agent: String,
    /// Cgroup id of its scope.
    pub scope: u64,
    /// Path of the scope's root.
    pub cgroup: String,
    /// The process that it hangs on, with all its descendants; absent for the whole scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
}

/// A process, by what stays the same as long as it lives and executes one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Process id.
    pub pid: u32,
    /// Start time, to a step of the kernel's clock ticks.
    pub started: BootTime,
    /// SHA-256 of what it executes.
    pub sha256: String,
}

impl Holder {
    /// The topmost process of the principal's own tree in its scope, or the scope where the principal
    /// itself is the topmost.
    #[must_use]
    pub fn of(principal: &Principal, scope: u64) -> Self {
        let root = principal.ancestors.last().map(|process| Root {
            pid: process.pid,
            started: process.started,
            sha256: process.executable.sha256.clone(),
        });
        Self {
            agent: principal.agent.clone(),
            scope,
            cgroup: principal.cgroup.scope.clone(),
            root,
        }
    }
}

/// What somebody may do for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its name.
    pub id: GrantId,
    /// Whose it is.
    pub holder: Holder,
    /// The target.
    pub target: String,
    /// The database; absent for all that the target offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What may be done.
    pub actions: BTreeSet<Action>,
    /// To what, and to all that lies in it.
    pub resource: Resource,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends at the latest, for people.
    pub expires: Timestamp,
    /// When it was issued, for the daemon.
    pub from: BootTime,
    /// When it ends at the latest, for the daemon.
    pub until: BootTime,
    /// How many requests it covers; absent for any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
    /// What for.
    pub reason: String,
    /// The ticket that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

impl Grant {
    /// For how long it was issued.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }
}

/// Why a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Its time was over.
    Expired,
    /// It was used as often as it said.
    Used,
    /// The process that it hung on has ended.
    Exited,
    /// Somebody took it back.
    Revoked,
    /// The host was started anew.
    Restarted,
}

impl Ended {
    /// The word for it in the store and in the audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Exited => "exited",
            Self::Revoked => "revoked",
            Self::Restarted => "restarted",
        }
    }
}

/// A grant and what has come of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// The grant.
    #[serde(flatten)]
    pub grant: Grant,
    /// How often it was used.
    pub used: u64,
}

/// The live grants. One for the daemon.
#[derive(Debug)]
pub struct Grants {
    table: Table,
    store: Store,
}

impl Grants {
    /// Opens the grants in `file`; those of this boot that have not ended live on. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let (store, kept) = Store::open(file)?;
        let table = Table::default();
        for (grant, used) in kept {
            table.enter(grant, used);
        }
        Ok(Self { table, store })
    }

    /// Issues a grant: it is in the store when this answers, and in force.
    ///
    /// # Errors
    /// Where there are too many, or it cannot be kept.
    pub async fn issue(&self, grant: Grant) -> Result<(), Error> {
        if self.table.of_scope(grant.holder.scope) >= OF_ONE {
            return Err(Error::Full("the scope has 256 live grants already"));
        }
        if self.table.count() >= OF_ALL {
            return Err(Error::Full("there are 65,536 live grants already"));
        }
        self.store.issue(&grant).await?;
        self.table.enter(grant, 0);
        Ok(())
    }

    /// Uses each of these once: kept before this answers. Those that are not counted cost nothing.
    ///
    /// # Errors
    /// Where one is used up or over; what was taken of the others stays taken.
    pub async fn take(&self, grants: &[GrantId]) -> Result<Vec<GrantId>, Error> {
        let mut counted = Vec::new();
        let mut last = Vec::new();
        let mut spent = Ok(());
        for grant in grants {
            match self.table.take(*grant, clock::boot()) {
                Ok(Some(0)) => {
                    counted.push(*grant);
                    last.push(*grant);
                }
                Ok(Some(_)) => counted.push(*grant),
                Ok(None) => {}
                Err(error) => spent = Err(error),
            }
        }
        if !counted.is_empty() {
            self.store.used(counted).await?;
        }
        spent.map(|()| last)
    }

    /// Ends a grant at once; `None` where it has ended. [`Grants::keep_end`] makes that last.
    #[must_use]
    pub fn end(&self, id: GrantId, why: Ended) -> Option<Standing> {
        self.table.end(id, why)
    }

    /// Keeps the end of a grant, so that it stays ended after a restart.
    ///
    /// # Errors
    /// Where it cannot be kept.
    pub async fn keep_end(&self, id: GrantId, why: Ended) -> Result<(), Error> {
        self.store.ended(id, why).await
    }

    /// Cancelled when nothing can stand on a grant any more; `None` where that is so.
    #[must_use]
    pub fn gone(&self, id: GrantId) -> Option<CancellationToken> {
        self.table.gone(id)
    }

    /// One by its name; `None` where none lives under it.
    #[must_use]
    pub fn get(&self, id: GrantId) -> Option<Standing> {
        self.table.standing(id)
    }

    /// The live grants of one scope, or of all.
    #[must_use]
    pub fn all(&self, scope: Option<u64>) -> Vec<Standing> {
        self.table.all(scope)
    }

    /// How many live now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.count()
    }

    /// Counts issues and ends: what was found under one number holds as long as it is the same.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.table.number()
    }

    /// Those whose time is over, and when the next one's is.
    #[must_use]
    pub fn due(&self, now: BootTime) -> (Vec<GrantId>, Option<BootTime>) {
        self.table.due(now)
    }

    /// Resolves when a grant was issued since `number` was read.
    pub async fn changed(&self, number: u64) {
        self.table.changed(number).await;
    }
}

#[cfg(test)]
mod tests;
