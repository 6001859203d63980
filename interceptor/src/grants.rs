//! Grants: what a process tree may do for a while, on top of what policy permits for good.
//!
//! Policy says what may be granted (`@grant` on a permit) and is asked anew for every request; a grant
//! says who has been given it, until when, and how often. It ends by time, by use, by the end of the
//! process that it hangs on, or by hand, and with it ends what lives on it. Times are boot time: no
//! change of the clock makes one longer, and none outlives the host's next start.

mod cover;
mod store;
mod table;
mod taken;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use self::cover::Holding;
use self::store::{Kept, Store};
use self::table::{Place, Table};
pub use self::taken::{Footing, Take, Taken};
use crate::clock::{self, BootTime, Lately};
use crate::identity::{Identity, Principal, Process};
use crate::policy::{Action, Budget, GrantId, Needs, Refusal, Resource};
use crate::state::{self, Owed};

/// What can go wrong with grants. Each of them refuses.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be opened or written.
    #[error(transparent)]
    State(#[from] state::Error),
    /// There are too many.
    #[error("the limit of {0} is reached")]
    Full(&'static str),
    /// It was used up meanwhile, or has ended.
    #[error("the grant has been used up or has ended")]
    Spent,
    /// What is left of it is set aside for a request that runs.
    #[error("what is left of the grant is set aside for a request that runs")]
    Busy,
    /// A scope has asked for too many lately.
    #[error("this scope was given {ISSUES} grants in ten minutes; ask again in {wait} s")]
    Often {
        /// In how many seconds.
        wait: u64,
    },
}

/// Grants that one scope is given in [`WINDOW`]: each leaves a row for a while.
const ISSUES: usize = 600;
/// How long one counts.
const WINDOW: Duration = Duration::from_mins(10);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Spent => Self::grant_spent(),
            Error::Busy => Self::grant_busy(),
            Error::Full(what) => Self::limit(what),
            Error::Often { .. } => Self::too_often(&error.to_string()),
            Error::State(_) => {
                tracing::error!(%error, "cannot keep what is taken of a grant");
                Self::storage("the grants cannot be written")
            }
        }
    }
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

/// A process, by what stays the same as long as it lives: number and start. What it executes may change, as that
/// of a shell does when it becomes the last command of its line, and that is no more than what its children
/// may, which are in its tree whatever they execute; rules about executables are judged anew for each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Process id.
    pub pid: u32,
    /// Start time, to a step of the kernel's clock ticks.
    pub started: BootTime,
    /// SHA-256 of what it executed when somebody was named by it: for people and the audit.
    pub sha256: String,
}

impl Holder {
    /// The topmost process of the principal's own tree in its scope, or the scope where the principal
    /// itself is the topmost.
    #[must_use]
    pub fn of(principal: &Principal, scope: u64) -> Self {
        Self {
            agent: principal.agent.clone(),
            scope,
            cgroup: principal.cgroup.scope.clone(),
            root: principal.ancestors.last().map(Root::of),
        }
    }

    /// The same for a grant: a topmost process that goes on has it for itself and what it starts. One that is
    /// only passing has nothing that a grant could hang on, but the scope.
    #[must_use]
    pub fn asking(principal: &Principal, scope: u64, passing: bool) -> Self {
        let of = Self::of(principal, scope);
        let own = || (!passing).then(|| Root::of(&principal.process));
        Self {
            root: of.root.or_else(own),
            ..of
        }
    }

    /// Whether it is the same tree of the same scope.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let Self {
            agent,
            scope,
            cgroup,
            root,
        } = self;
        let is_same = match (root, &other.root) {
            (Some(own), Some(other)) => own.is(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        *agent == other.agent && *scope == other.scope && *cgroup == other.cgroup && is_same
    }
}

/// Start times of ancestors are known to a clock tick, which is at most this long (`USER_HZ` is 100).
const TICK: u64 = 10_000_000;

impl Root {
    fn of(process: &Process) -> Self {
        Self {
            pid: process.pid,
            started: process.started,
            sha256: process.executable.sha256.clone(),
        }
    }

    /// Whether it is the same process.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.is_at(other.pid, other.started)
    }

    fn is_at(&self, pid: u32, started: BootTime) -> bool {
        self.pid == pid && self.started.0 / TICK == started.0 / TICK
    }

    /// For people; the same for what [`Root::is`] the same.
    #[must_use]
    pub fn shown(&self) -> String {
        let ticks = self.started.0 / TICK;
        let (seconds, rest) = (ticks / 100, ticks % 100);
        format!(
            "process {}, started {seconds}.{rest:02} s after the host",
            self.pid
        )
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
    /// When it begins, for people; absent for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<Timestamp>,
    /// When it ends at the latest, for people.
    pub expires: Timestamp,
    /// When it begins, for the daemon.
    pub from: BootTime,
    /// When it ends at the latest, for the daemon.
    pub until: BootTime,
    /// How much of it there is.
    #[serde(flatten)]
    pub budget: Budget,
    /// What for.
    pub reason: String,
    /// The ticket that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Whose word it was issued on; nobody's where it is empty.
    #[serde(default, skip_serializing_if = "Needs::is_empty")]
    pub word: Needs,
    /// In whose name it was asked for; it ends with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Arc<Identity>>,
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
    /// Its scope is intercepted no longer, or as another agent.
    Untagged,
    /// Its agent was killed.
    Killed,
    /// Whoever it was asked for in the name of is not behind its scope any more.
    Identity,
    /// The host was started anew.
    Restarted,
    /// It never came to be: it could not be kept, or the daemon died while it issued it.
    Unissued,
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
            Self::Untagged => "untagged",
            Self::Killed => "killed",
            Self::Identity => "identity",
            Self::Restarted => "restarted",
            Self::Unissued => "unissued",
        }
    }
}

/// How much of something: requests, rows of answers, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Requests.
    pub uses: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of rows, as they are sent.
    pub bytes: u64,
}

impl Amount {
    fn is_nothing(self) -> bool {
        self == Self::default()
    }

    fn and(self, more: Self) -> Self {
        Self {
            uses: self.uses.saturating_add(more.uses),
            rows: self.rows.saturating_add(more.rows),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }

    fn without(self, less: Self) -> Self {
        Self {
            uses: self.uses.saturating_sub(less.uses),
            rows: self.rows.saturating_sub(less.rows),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }

    /// Whether this is all of a budget, or more.
    fn is_all_of(self, budget: &Budget) -> bool {
        self.is_all_uses(budget) || self.is_all_data(budget)
    }

    fn is_all_uses(self, budget: &Budget) -> bool {
        budget.uses.is_some_and(|most| self.uses >= most)
    }

    fn is_all_data(self, budget: &Budget) -> bool {
        budget.rows.is_some_and(|most| self.rows >= most)
            || budget.bytes.is_some_and(|most| self.bytes >= most)
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
    /// How many of its rows were given out or are set aside, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_rows: Option<u64>,
    /// How many of its bytes, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
}

impl Standing {
    /// One of which nothing was taken.
    #[must_use]
    pub fn unused(grant: Grant) -> Self {
        Self::new(grant, Amount::default())
    }

    fn new(grant: Grant, taken: Amount) -> Self {
        let Budget { rows, bytes, .. } = grant.budget;
        Self {
            used: taken.uses,
            used_rows: rows.map(|_| taken.rows),
            used_bytes: bytes.map(|_| taken.bytes),
            grant,
        }
    }
}

/// Room for a grant that is asked for, before anybody's word or token is used up by it. Dropped, it is another's.
#[derive(Debug)]
pub struct Reserved<'a> {
    place: Place<'a>,
    tallied: Tallied<'a>,
}

/// One of those that a scope is given in a while. Dropped, it does not count, unless it leaves a row.
#[derive(Debug)]
struct Tallied<'a> {
    lately: &'a Mutex<Lately<u64>>,
    scope: u64,
    at: BootTime,
    is_kept: bool,
}

impl Drop for Tallied<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
            lately.uncount(&self.scope, self.at);
        }
    }
}

/// A grant that is about to be issued: it has its place and a row in the store, and is not in force.
#[derive(Debug)]
pub struct Coming<'a> {
    place: Place<'a>,
    grant: Grant,
}

impl Coming<'_> {
    /// What is to be granted.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
}

/// The live grants. One for the daemon.
#[derive(Debug)]
pub struct Grants {
    table: Table,
    store: Store,
    /// Those that had to end when the store was opened, and that nobody was told of.
    ended: Mutex<Vec<(Standing, Ended)>>,
    /// Ends that could not be kept yet: a daemon that starts anew would not know of them.
    owed: Owed<(GrantId, Ended)>,
    /// What each scope was given lately.
    lately: Mutex<Lately<u64>>,
}

impl Grants {
    /// Opens the grants in `file`; those of this boot that have not ended live on. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let (store, kept) = Store::open(file)?;
        Ok(Self::kept_in(store, kept))
    }

    /// Those that were found in a store.
    fn kept_in(store: Store, kept: Kept) -> Self {
        let table = Table::default();
        for (grant, taken) in kept.live {
            table.enter(grant, taken);
        }
        let ended = kept.ended.into_iter();
        let ended = ended.map(|(grant, taken, why)| (Standing::new(grant, taken), why));
        Self {
            table,
            store,
            ended: Mutex::new(ended.collect()),
            owed: Owed::default(),
            lately: Mutex::new(Lately::new(WINDOW)),
        }
    }

    /// Forgets ended grants that are old, or more than are kept.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn prune(&self) -> Result<(), Error> {
        self.store.prune().await
    }

    /// Makes room for a grant among those of its scope and of all, and among those that the scope is given in a
    /// while.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn reserve(&self, scope: u64) -> Result<Reserved<'_>, Error> {
        let place = self.table.place(scope)?;
        let at = clock::boot();
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = lately.count(scope, ISSUES, at);
        drop(lately);
        counted.map_err(|wait| Error::Often { wait })?;
        let tallied = Tallied {
            lately: &self.lately,
            scope,
            at,
            is_kept: false,
        };
        Ok(Reserved { place, tallied })
    }

    /// Keeps a grant in the room that is `reserved` for its scope, where it counts as one that never came to be
    /// until [`Grants::issue`].
    ///
    /// # Errors
    /// Where it cannot be kept.
    pub async fn prepare<'a>(
        &self,
        reserved: Reserved<'a>,
        grant: Grant,
    ) -> Result<Coming<'a>, Error> {
        let Reserved { place, mut tallied } = reserved;
        self.store.prepare(&grant).await?;
        tallied.is_kept = true;
        Ok(Coming { place, grant })
    }

    /// Issues a grant: it is in the store when this answers, and in force.
    ///
    /// # Errors
    /// Where it cannot be kept; it then never came to be.
    pub async fn issue(&self, coming: Coming<'_>) -> Result<Standing, Error> {
        let Coming { place, grant } = coming;
        self.store.issue(grant.id).await?;
        self.table.enter(grant.clone(), Amount::default());
        drop(place);
        Ok(Standing::unused(grant))
    }

    /// Takes of each of these, all or none: what is counted is kept before this answers. What is not
    /// counted costs nothing.
    ///
    /// # Errors
    /// Where one is used up or over, or cannot be kept.
    pub async fn take(&self, grants: &[GrantId], what: Take<'_>) -> Result<Vec<Taken>, Error> {
        self.take_at(clock::boot(), grants, what).await
    }

    async fn take_at(
        &self,
        now: BootTime,
        grants: &[GrantId],
        what: Take<'_>,
    ) -> Result<Vec<Taken>, Error> {
        let mut taken = Vec::with_capacity(grants.len());
        for grant in grants {
            match self.table.take(*grant, what, now) {
                Ok(one) => taken.push(one),
                Err(error) => {
                    taken.into_iter().for_each(Taken::undo);
                    return Err(error);
                }
            }
        }
        let counted = taken.iter().filter(|one| !one.counted().is_nothing());
        let counted: Vec<_> = counted.map(|one| (one.id(), one.counted())).collect();
        if !counted.is_empty()
            && let Err(error) = self.store.took(counted).await
        {
            // Nothing was given for it; should it be on disk all the same, less is left after a restart.
            taken.into_iter().for_each(Taken::undo);
            return Err(error);
        }
        Ok(taken)
    }

    /// Stands on a grant without taking anything of it; `None` where it has ended.
    #[must_use]
    pub fn hold(&self, id: GrantId) -> Option<Taken> {
        self.hold_at(clock::boot(), id)
    }

    fn hold_at(&self, now: BootTime, id: GrantId) -> Option<Taken> {
        self.table.take(id, Take::Hold, now).ok()
    }

    /// Gives back what was set aside of a grant and was not given out. What cannot be given back in the
    /// store stays taken.
    pub fn settle(&self, taken: Taken, rows: u64, bytes: u64) {
        let unused = taken.unused(rows, bytes);
        if !unused.is_nothing() && self.store.gave_back(taken.id(), unused) {
            taken.give_back(unused);
        }
    }

    /// Lets go of grants at once, all of them before this answers: nothing new can stand on them. Those that
    /// have ended already are left out. [`Grants::keep_ends`] makes it last.
    #[must_use]
    pub fn end(&self, ended: &[(GrantId, Ended)]) -> Vec<(Standing, Ended)> {
        let ended = ended.iter();
        let ended = ended.filter_map(|(id, why)| Some((self.table.end(*id, *why)?, *why)));
        ended.collect()
    }

    /// Keeps ends, so that they last after a restart, and those that could not be kept before.
    ///
    /// # Errors
    /// Where they cannot be kept: they are owed until the next time.
    pub async fn keep_ends(&self, ended: Vec<(GrantId, Ended)>) -> Result<(), Error> {
        self.owed.add(ended);
        let all = self.owed.all();
        if all.is_empty() {
            return Ok(());
        }
        self.store.ended(all.clone()).await?;
        self.owed.strike(|one| all.contains(one));
        Ok(())
    }

    /// How many ends are not kept yet.
    #[must_use]
    pub fn unkept(&self) -> usize {
        self.owed.count()
    }

    /// Whether the end of this one is not kept yet.
    #[must_use]
    pub fn owes(&self, id: GrantId) -> bool {
        self.owed.any(|(owed, _)| *owed == id)
    }

    /// Those that ended while no daemon ran, once.
    #[must_use]
    pub fn ended_unseen(&self) -> Vec<(Standing, Ended)> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
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

    /// The live grants of one scope, or of all, the oldest first.
    #[must_use]
    pub fn all(&self, scope: Option<u64>) -> Vec<Standing> {
        self.table.all(scope)
    }

    /// The live grants of a scope that are of a principal's process tree, or of the whole scope.
    #[must_use]
    pub fn of(&self, principal: &Principal, scope: u64) -> Vec<Standing> {
        let mut all = self.table.all(Some(scope));
        all.retain(|standing| cover::holds(&standing.grant.holder, principal));
        all
    }

    /// How many live now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.count()
    }

    /// Another number after each issue and end in a scope: what was found under one number holds as long
    /// as it is the same, and no grant's time is over.
    #[must_use]
    pub fn number(&self, scope: u64) -> u64 {
        self.table.number(scope)
    }

    /// Those that must end, and why, and when the next one begins or its time is over.
    #[must_use]
    pub fn due(&self, now: BootTime) -> (Vec<(GrantId, Ended)>, Option<BootTime>) {
        self.table.due(now)
    }

    /// Counts what may make one due; see [`Grants::changed`].
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.table.changes()
    }

    /// Resolves when a grant was issued, ended or used up since `changes` were counted.
    pub async fn changed(&self, changes: u64) {
        self.table.changed(changes).await;
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::a_principal;
