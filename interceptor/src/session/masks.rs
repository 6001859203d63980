//! What is masked for a session: what its target's configuration calls sensitive in its database, less
//! what policy lets this principal see. Asked of policy once, and again where either has changed.

use std::sync::{Arc, Mutex};

use super::{Session, lock};
use crate::config::Target;
use crate::masking::{Masks, Relation};
use crate::policy::{Generation, Resource};

/// What was found, and under what.
#[derive(Debug, Default)]
pub(super) struct Known {
    found: Mutex<Option<Found>>,
}

#[derive(Debug)]
struct Found {
    generation: Generation,
    /// Grants may reveal.
    grants: u64,
    target: Arc<Target>,
    masks: Arc<Masks>,
}

impl Known {
    /// The masks under configuration and policy in force; the same `Arc` as long as they mask the same.
    pub(super) fn now(&self, session: &Session) -> Arc<Masks> {
        let (services, who) = (&session.services, &session.who);
        let config = services.config.load();
        // A target that was taken out of the configuration is masked as it was last.
        let target = config.targets.get(&who.target.name).unwrap_or(&who.target);
        let mut known = lock(&self.found);
        if let Some(found) = &*known
            && found.generation == services.policy.generation()
            && found.grants == services.grants.number()
            && Arc::ptr_eq(&found.target, target)
        {
            return Arc::clone(&found.masks);
        }
        let grants = services.grants.number();
        let policy = services.policy.current();
        let sensitive = Masks::of_database(&target.sensitive, &session.database);
        let columns: Vec<_> = sensitive
            .columns()
            .map(|(relation, column, _)| resource(relation, column))
            .collect();
        let mut revealed = match columns.is_empty() {
            true => Vec::new(),
            false => {
                let held = who.holding(services);
                session.verdicts.revealed(&policy, &columns, &held)
            }
        }
        .into_iter();
        let masks = sensitive.without(|_, _| revealed.next().unwrap_or(false));
        let masks = match &*known {
            Some(found) if *found.masks == masks => Arc::clone(&found.masks),
            _ => Arc::new(masks),
        };
        *known = Some(Found {
            generation: policy.generation(),
            grants,
            target: Arc::clone(target),
            masks: Arc::clone(&masks),
        });
        masks
    }
}

fn resource(relation: &Relation, column: &str) -> Resource {
    Resource::Column {
        schema: relation.schema.clone(),
        table: relation.name.clone(),
        column: column.to_owned(),
    }
}
