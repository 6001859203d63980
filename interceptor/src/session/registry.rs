//! The sessions that are open now: listed, counted, ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use uuid::Uuid;

use super::{EndReason, Session};

/// Every open session, by id. Holds none of them alive.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<HashMap<Uuid, Weak<Session>>>,
}

impl Registry {
    /// Enters a session; it leaves by itself when it is dropped.
    pub(super) fn enter(&self, session: &Arc<Session>) {
        self.lock().insert(session.id(), Arc::downgrade(session));
    }

    pub(super) fn leave(&self, id: Uuid) {
        self.lock().remove(&id);
    }

    /// The sessions open now, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// How many are open now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends every session that `which` picks; returns how many.
    pub fn end(&self, reason: EndReason, which: impl Fn(&Session) -> bool) -> usize {
        let picked: Vec<_> = self
            .all()
            .into_iter()
            .filter(|session| which(session))
            .collect();
        for session in &picked {
            session.end(reason);
        }
        picked.len()
    }

    /// Judges every session again by the policy in force; ends those whose permission is withdrawn.
    pub fn judge_again(&self) -> usize {
        self.end(EndReason::Policy, |session| !session.still_permitted())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Weak<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
