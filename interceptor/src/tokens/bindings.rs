//! Which scope is bound to whom, until when; and which tokens have been used for which scope.
//!
//! One token, one scope; a scope once bound is bound to nobody else until that ends, though the same
//! subject may bring a fresh token. Ends are boot times: no change of the clock makes one later. What is
//! bound outlives the daemon in a file, and ends with the host's boot.

mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::store::Store;
pub(super) use self::store::after;
use super::Error;
use crate::capture::Scope;
use crate::clock::{self, BootTime};
use crate::identity::Identity;
use crate::state::Owed;

/// Scopes that are bound at once.
const MOST: usize = 65_536;

/// A scope that is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Cgroup id of the scope.
    pub scope: u64,
    /// Path of its root.
    pub cgroup: String,
    /// The name that it is tagged with.
    pub agent: String,
    /// To whom.
    pub identity: Arc<Identity>,
    /// The token's own name, or a digest of it: never the token.
    pub token: String,
    /// Until when.
    pub until: BootTime,
}

/// Why a scope is bound no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unbound {
    /// Its token has ended.
    Expired,
    /// An operator took it back.
    Revoked,
    /// The scope is no more, or is another agent's.
    Scope,
    /// The issuer is not configured any more.
    Issuer,
}

/// The scopes that are bound. One for the daemon.
#[derive(Debug)]
pub struct Bindings {
    table: Mutex<HashMap<u64, Arc<Binding>>>,
    changes: watch::Sender<u64>,
    store: Store,
    /// Ends that could not be kept yet.
    owed: Owed<Arc<Binding>>,
    /// Held while one is bound: two of one token would else both find it unused.
    binding: tokio::sync::Mutex<()>,
}

/// Whoever binds, alone.
#[derive(Debug)]
pub struct Binder<'a> {
    bindings: &'a Bindings,
    _alone: tokio::sync::MutexGuard<'a, ()>,
}

impl Bindings {
    /// Opens those in `file`; those of this boot live on. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let (store, kept) = Store::open(file)?;
        let table = kept.into_iter().map(|one| (one.scope, Arc::new(one)));
        Ok(Self {
            table: Mutex::new(table.collect()),
            changes: watch::Sender::new(0),
            store,
            owed: Owed::default(),
            binding: tokio::sync::Mutex::default(),
        })
    }

    /// Forgets tokens that nobody could bring any more.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn prune(&self) -> Result<(), Error> {
        self.store.prune().await
    }

    /// Whom a scope is bound to now.
    #[must_use]
    pub fn of(&self, scope: &Scope) -> Option<Arc<Identity>> {
        let found = self.live(scope.id)?;
        let same = found.agent == scope.agent && found.cgroup == scope.path;
        same.then(|| Arc::clone(&found.identity))
    }

    /// Until when a scope is bound to whom it is bound to now.
    #[must_use]
    pub fn until(&self, scope: u64) -> Option<BootTime> {
        self.live(scope).map(|now| now.until)
    }

    /// Whether a scope is bound to somebody of whom the same is said as of `identity`.
    #[must_use]
    pub fn holds(&self, scope: u64, identity: &Arc<Identity>) -> bool {
        self.live(scope)
            .is_some_and(|now| Arc::ptr_eq(&now.identity, identity) || now.identity.is_as(identity))
    }

    /// All of them, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Binding>> {
        self.lock().values().map(Arc::clone).collect()
    }

    /// Those whose time is over, and when the next one's is.
    #[must_use]
    pub fn due(&self, now: BootTime) -> (Vec<Arc<Binding>>, Option<BootTime>) {
        let all = self.all();
        let (over, live): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.until <= now);
        (over, live.iter().map(|one| one.until).min())
    }

    /// Alone with the table, to bind a scope.
    pub async fn binder(&self) -> Binder<'_> {
        Binder {
            bindings: self,
            _alone: self.binding.lock().await,
        }
    }

    /// Ends a binding at once, if it is still this one; keeps that it has ended.
    ///
    /// # Errors
    /// Where it cannot be kept: it has ended all the same, and that is owed until [`Bindings::keep_ends`].
    pub async fn end(&self, binding: &Arc<Binding>) -> Result<bool, Error> {
        let was_live = {
            let mut table = self.lock();
            let is_it = |now: &Arc<Binding>| Arc::ptr_eq(now, binding);
            let is_live = table.get(&binding.scope).is_some_and(is_it);
            is_live && table.remove(&binding.scope).is_some()
        };
        if was_live {
            self.changes.send_modify(|count| *count += 1);
            self.owed.add([Arc::clone(binding)]);
            self.keep_ends().await?;
        }
        Ok(was_live)
    }

    /// Keeps the ends that are not kept yet.
    ///
    /// # Errors
    /// Where one cannot be kept: it is owed until the next time.
    pub async fn keep_ends(&self) -> Result<(), Error> {
        let mut kept = Ok(());
        for binding in self.owed.all() {
            match self.store.ended(&binding).await {
                Ok(()) => self.owed.strike(|one| Arc::ptr_eq(one, &binding)),
                Err(error) => kept = Err(error),
            }
        }
        kept
    }

    /// Whether the end of a binding of this scope is not kept yet.
    #[must_use]
    pub fn owes(&self, scope: u64) -> bool {
        self.owed.any(|one| one.scope == scope)
    }

    /// Whether any is not.
    #[must_use]
    pub fn owes_any(&self) -> bool {
        self.owed.count() > 0
    }

    /// Uses a token of an issuer for a scope; kept when this answers. What is good for `once` only must not
    /// have been used before, anything else not for another scope.
    ///
    /// # Errors
    /// Where it was, or it cannot be kept.
    pub async fn use_up(
        &self,
        named: (&str, &str),
        scope: u64,
        ends: jiff::Timestamp,
        once: bool,
    ) -> Result<(), Error> {
        match self.store.use_up(named, scope, ends, once).await? {
            true => Ok(()),
            false => Err(Error::Replayed),
        }
    }

    /// Counts changes.
    #[must_use]
    pub fn number(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Resolves when something has changed since `number` was read.
    pub async fn changed(&self, number: u64) {
        let mut changes = self.changes.subscribe();
        if changes.wait_for(|now| *now != number).await.is_err() {
            // The sender lives in `self`: it cannot be gone.
            std::future::pending::<()>().await;
        }
    }

    fn live(&self, scope: u64) -> Option<Arc<Binding>> {
        let table = self.lock();
        let found = table.get(&scope)?;
        (found.until > clock::boot()).then(|| Arc::clone(found))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Binding>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Binder<'_> {
    /// Whether a scope may be bound so; the binding that it would renew. What is good for `once` only must
    /// not have been used for the same scope either.
    ///
    /// # Errors
    /// Where its token was used already, or the scope is bound to somebody else.
    pub async fn may(&self, wanted: &Binding, once: bool) -> Result<Option<Arc<Binding>>, Error> {
        let now = self.bindings.live(wanted.scope);
        if let Some(now) = &now
            && !now.identity.is_of(&wanted.identity)
        {
            return Err(Error::Bound {
                subject: super::shown(&now.identity.subject),
            });
        }
        if now.is_none() && self.bindings.lock().len() >= MOST {
            return Err(Error::Store(
                "there are 65,536 bound scopes already".to_owned(),
            ));
        }
        let issuer = &wanted.identity.issuer;
        let store = &self.bindings.store;
        match store.used_for(issuer, &wanted.token).await? {
            Some(scope) if once || scope != wanted.scope => Err(Error::Replayed),
            _ => Ok(now),
        }
    }

    /// Binds: kept when this answers, and in force. Whoever asked [`Binder::may`] before.
    ///
    /// # Errors
    /// Where its token was exchanged for another scope since that, or it cannot be kept.
    pub async fn bind(&self, binding: Binding) -> Result<(), Error> {
        if !self.bindings.store.bound(&binding).await? {
            return Err(Error::Replayed);
        }
        // Its row is another one now.
        self.bindings.owed.strike(|one| one.scope == binding.scope);
        let binding = Arc::new(binding);
        self.bindings.lock().insert(binding.scope, binding);
        self.bindings.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}
