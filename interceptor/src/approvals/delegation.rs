//! Delegations: an approver who is away names a stand-in for a while, who answers by the approver's right.
//!
//! It gives nothing of its own: what the approver may say is asked of policy whenever the stand-in speaks, and
//! whenever what was said is used. A stand-in hands nothing on. Of an approver who logged in by an issuer it counts
//! what the issuer said last: nobody can ask it about somebody who is not there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Error, Person};
use crate::clock::BootTime;
use crate::identity::LoggedIn;

/// Delegations of one approver.
const OF_ONE: usize = 8;
/// Delegations of all.
const OF_ALL: usize = 1_024;

/// Who stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandIn {
    /// The user of that name; of an issuer by its name for it, `staff:248289`.
    User(String),
    /// Anybody of the group of that name, as rules have it: `staff:dba`.
    Group(String),
}

impl StandIn {
    /// Whether this is somebody of that name, with those groups.
    #[must_use]
    pub fn is(&self, name: Option<&str>, groups: &[&str]) -> bool {
        match self {
            Self::User(user) => name == Some(user),
            Self::Group(group) => groups.contains(&group.as_str()),
        }
    }
}

/// One delegation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Its name.
    pub id: Uuid,
    /// Whose right it is.
    pub by: Person,
    /// Who stands in.
    pub to: StandIn,
    /// Since when.
    pub issued: Timestamp,
    /// Until when, for people.
    pub expires: Timestamp,
    /// Until when, for the daemon.
    pub until: BootTime,
}

/// In whose place an answer was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    /// The approver, with the groups that count.
    pub of: Person,
    /// By which delegation.
    pub delegation: Uuid,
}

/// Those that live.
#[derive(Debug, Default)]
pub(super) struct Delegations(Mutex<Vec<Arc<Delegation>>>);

impl Delegations {
    pub(super) fn new(kept: Vec<Delegation>) -> Self {
        Self(Mutex::new(kept.into_iter().map(Arc::new).collect()))
    }

    /// Whether there is room for one more.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn room(&self, by: &Person, now: BootTime) -> Result<(), Error> {
        let all = self.live(now);
        if all.iter().filter(|one| one.by.is(by)).count() >= OF_ONE {
            return Err(Error::Full("this user has 8 delegations already"));
        }
        match all.len() < OF_ALL {
            true => Ok(()),
            false => Err(Error::Full("there are too many delegations")),
        }
    }

    pub(super) fn enter(&self, one: Delegation) {
        self.lock().push(Arc::new(one));
    }

    pub(super) fn live(&self, now: BootTime) -> Vec<Arc<Delegation>> {
        let mut all = self.lock();
        all.retain(|one| one.until > now);
        all.clone()
    }

    /// What an issuer says of somebody now, for the delegations by that one; those of which it said something else.
    pub(super) fn renew(&self, login: &LoggedIn) -> Vec<Arc<Delegation>> {
        let mut changed = Vec::new();
        for one in self.lock().iter_mut() {
            let of = one.by.login.as_ref().filter(|of| of.is_of(login));
            if of.is_some_and(|of| !of.identity.is_as(&login.identity)) {
                let mut anew = Delegation::clone(one);
                anew.by.name.clone_from(&login.identity.user);
                anew.by.login = Some(login.clone());
                *one = Arc::new(anew);
                changed.push(Arc::clone(one));
            }
        }
        changed
    }

    pub(super) fn take(&self, id: Uuid) -> Option<Arc<Delegation>> {
        let mut all = self.lock();
        let at = all.iter().position(|one| one.id == id)?;
        Some(all.swap_remove(at))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Delegation>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
