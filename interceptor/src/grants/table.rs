//! The live grants in memory, by scope: what every request is looked up in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Ended, Error, Grant, Standing};
use crate::clock::BootTime;
use crate::policy::GrantId;

/// A grant that may still matter: live, or used up while what it admitted may still run.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) grant: Grant,
    used: AtomicU64,
    ended: Mutex<Option<Ended>>,
    /// Cancelled when nothing can stand on it any more.
    gone: CancellationToken,
}

impl Live {
    /// Whether it covers a request now; for one that runs already, also where it took the last use.
    pub(super) fn is_live(&self, now: BootTime, running: bool) -> bool {
        let ended = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = match ended {
            None => running || self.left() != Some(0),
            Some(Ended::Used) => running,
            Some(Ended::Expired | Ended::Exited | Ended::Revoked | Ended::Restarted) => false,
        };
        stands && now < self.grant.until
    }

    fn left(&self) -> Option<u64> {
        let uses = self.grant.uses?;
        Some(uses.saturating_sub(self.used.load(Ordering::SeqCst)))
    }

    fn standing(&self) -> Standing {
        Standing {
            grant: self.grant.clone(),
            used: self.used.load(Ordering::SeqCst),
        }
    }
}

/// Every live grant.
#[derive(Debug, Default)]
pub(super) struct Table {
    held: RwLock<Held>,
    number: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Held {
    by_scope: HashMap<u64, Vec<Arc<Live>>>,
    by_id: HashMap<GrantId, Arc<Live>>,
}

impl Table {
    pub(super) fn enter(&self, grant: Grant, used: u64) {
        let scope = grant.holder.scope;
        let live = Arc::new(Live {
            grant,
            used: AtomicU64::new(used),
            ended: Mutex::new(None),
            gone: CancellationToken::new(),
        });
        let mut held = self.write();
        held.by_id.insert(live.grant.id, Arc::clone(&live));
        held.by_scope.entry(scope).or_default().push(live);
        drop(held);
        self.count_up();
    }

    /// The first grant of a scope that `which` picks.
    pub(super) fn find(&self, scope: u64, which: impl Fn(&Live) -> bool) -> Option<GrantId> {
        let held = self.read();
        let found = held.by_scope.get(&scope)?.iter().find(|live| which(live));
        found.map(|live| live.grant.id)
    }

    /// Uses a grant once: how often it may still be used, `None` where that is not counted.
    pub(super) fn take(&self, id: GrantId, now: BootTime) -> Result<Option<u64>, Error> {
        let live = self.get(id).ok_or(Error::Spent)?;
        if !live.is_live(now, false) {
            return Err(Error::Spent);
        }
        let Some(uses) = live.grant.uses else {
            live.used.fetch_add(1, Ordering::SeqCst);
            return Ok(None);
        };
        let next = |used: u64| (used < uses).then(|| used.saturating_add(1));
        let before = live
            .used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, next)
            .map_err(|_spent| Error::Spent)?;
        Ok(Some(uses.saturating_sub(before).saturating_sub(1)))
    }

    /// Ends a grant; `None` where it has ended. One that is used up stays until its time is over, or it is
    /// ended otherwise, for what it admitted.
    pub(super) fn end(&self, id: GrantId, why: Ended) -> Option<Standing> {
        let live = self.get(id)?;
        let changed = {
            let mut ended = live.ended.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = match *ended {
                None => true,
                // What took the last use may still run.
                Some(Ended::Used) => why != Ended::Used,
                Some(_) => false,
            };
            if changed {
                *ended = Some(why);
            }
            changed
        };
        if why != Ended::Used {
            live.gone.cancel();
            let scope = live.grant.holder.scope;
            let mut held = self.write();
            held.by_id.remove(&id);
            if let Some(grants) = held.by_scope.get_mut(&scope) {
                grants.retain(|other| other.grant.id != id);
                if grants.is_empty() {
                    held.by_scope.remove(&scope);
                }
            }
        }
        self.count_up();
        changed.then(|| live.standing())
    }

    /// Cancelled when nothing can stand on a grant any more; `None` where that is so.
    pub(super) fn gone(&self, id: GrantId) -> Option<CancellationToken> {
        self.get(id).map(|live| live.gone.clone())
    }

    pub(super) fn standing(&self, id: GrantId) -> Option<Standing> {
        self.get(id).map(|live| live.standing())
    }

    pub(super) fn all(&self, scope: Option<u64>) -> Vec<Standing> {
        let held = self.read();
        let grants = held.by_id.values();
        let of = |live: &&Arc<Live>| scope.is_none_or(|scope| scope == live.grant.holder.scope);
        let mut all: Vec<_> = grants.filter(of).map(|live| live.standing()).collect();
        all.sort_by_key(|standing| standing.grant.id);
        all
    }

    pub(super) fn of_scope(&self, scope: u64) -> usize {
        self.read().by_scope.get(&scope).map_or(0, Vec::len)
    }

    pub(super) fn count(&self) -> usize {
        self.read().by_id.len()
    }

    pub(super) fn number(&self) -> u64 {
        *self.number.borrow()
    }

    /// Resolves when anything has changed since.
    pub(super) async fn changed(&self, number: u64) {
        let mut numbers = self.number.subscribe();
        // The sender lives in `self`: it cannot be gone.
        drop(numbers.wait_for(|now| *now != number).await);
    }

    pub(super) fn due(&self, now: BootTime) -> (Vec<GrantId>, Option<BootTime>) {
        let held = self.read();
        let grants = || held.by_id.values().map(|live| &live.grant);
        let over = grants()
            .filter(|grant| grant.until <= now)
            .map(|grant| grant.id)
            .collect();
        let next = grants()
            .map(|grant| grant.until)
            .filter(|until| *until > now)
            .min();
        (over, next)
    }

    fn get(&self, id: GrantId) -> Option<Arc<Live>> {
        self.read().by_id.get(&id).map(Arc::clone)
    }

    fn count_up(&self) {
        self.number
            .send_modify(|number| *number = number.wrapping_add(1));
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}
