//! The settings of a target as requests of one connection go by them: made once, and anew where a reload has
//! changed them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Http, Target};
use crate::protocol::http::mask::Masks;
use crate::secrets::Secret;

/// What a target says of its requests.
pub(crate) struct Plan {
    pub(crate) target: Arc<Target>,
    pub(crate) http: Arc<Http>,
    pub(crate) masks: Arc<Masks>,
    /// The same for whoever may see masked fields.
    pub(crate) values: Arc<Masks>,
}

/// The plan in force.
pub(super) struct Plans {
    /// What hashes of masked values are keyed by.
    hash_key: Secret,
    known: Mutex<Option<Arc<Plan>>>,
}

impl Plans {
    pub(super) fn new(hash_key: Secret) -> Self {
        Self {
            hash_key,
            known: Mutex::default(),
        }
    }

    /// The plan of a target; `None` where it does not speak HTTP any more, or no key can be made.
    pub(super) fn of(&self, target: &Arc<Target>) -> Option<Arc<Plan>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = known.as_ref()
            && Arc::ptr_eq(&plan.target, target)
        {
            return Some(Arc::clone(plan));
        }
        let http = Arc::clone(target.http()?);
        let masks = Masks::new(&http.mask, &target.detect, &self.hash_key)?;
        let plan = Arc::new(Plan {
            target: Arc::clone(target),
            http,
            values: Arc::new(masks.revealed()),
            masks: Arc::new(masks),
        });
        *known = Some(Arc::clone(&plan));
        Some(plan)
    }
}
