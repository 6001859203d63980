//! What is masked for a session: what its target's configuration calls sensitive in its database, less
//! what policy lets this principal see. Asked of policy once, and again where either has changed.

use std::sync::{Arc, Mutex};

use super::{Session, lock};
use crate::clock::{self, BootTime};
use crate::config::Target;
use crate::masking::{Masks, Relation, Sensitive};
use crate::policy::{Covering, Generation, GrantId, Held, Policy, Resource, Seen, Verdicts};

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
    /// When the first of those that do is over: time ends what it was found under, whoever is late.
    until: Option<BootTime>,
    target: Arc<Target>,
    masked: Masked,
}

/// What is masked, and what is not by which grants.
#[derive(Clone, Debug)]
pub(super) struct Masked {
    pub(super) masks: Arc<Masks>,
    /// The grants that reveal something.
    pub(super) revealing: Arc<[GrantId]>,
}

impl Known {
    /// The masks under configuration and policy in force; the same `Arc` as long as they mask the same.
    pub(super) fn now(&self, session: &Session) -> Masked {
        let (services, who) = (&session.services, &session.who);
        let config = services.config.load();
        // A target that was taken out of the configuration is masked as it was last.
        let target = config.targets.get(&who.target.name).unwrap_or(&who.target);
        let mut known = lock(&self.found);
        let grants = services.grants.number(who.flow.scope);
        if let Some(found) = &*known
            && found.generation == services.policy.generation()
            && found.grants == grants
            && lasts(found.until, clock::boot)
            && Arc::ptr_eq(&found.target, target)
        {
            return found.masked.clone();
        }
        let policy = services.policy.current();
        let (mut masks, revealing) = of(
            &policy,
            &session.verdicts,
            (&target.sensitive, &session.database),
            &who.holding(services),
        );
        if let Some(postgres) = target.postgres() {
            masks.functions.clone_from(&postgres.functions);
        }
        let masks = match &*known {
            Some(found) if *found.masked.masks == masks => Arc::clone(&found.masked.masks),
            _ => Arc::new(masks),
        };
        let masked = Masked {
            masks,
            revealing: revealing.iter().map(|one| one.grant).collect(),
        };
        *known = Some(Found {
            generation: policy.generation(),
            grants,
            until: revealing.iter().map(|one| one.until).min(),
            target: Arc::clone(target),
            masked: masked.clone(),
        });
        masked
    }
}

/// What is masked for whom `verdicts` are about: what is sensitive in a database, less what policy lets him
/// see with the grants that he holds; and which of those that takes, each once.
#[must_use]
pub fn of(
    policy: &Policy,
    verdicts: &Verdicts,
    (sensitive, database): (&[Sensitive], &str),
    held: &dyn Held,
) -> (Masks, Vec<Covering>) {
    let sensitive = Masks::of_database(sensitive, database);
    let columns: Vec<_> = sensitive
        .columns()
        .map(|(relation, column, _)| resource(relation, column))
        .collect();
    let seen = match columns.is_empty() {
        true => Vec::new(),
        false => verdicts.revealed(policy, &columns, held),
    };
    let mut revealing: Vec<Covering> = Vec::new();
    for seen in &seen {
        if let Seen::Granted(by) = seen
            && !revealing.contains(by)
        {
            revealing.push(*by);
        }
    }
    let mut seen = seen.into_iter();
    let masks = sensitive.without(|_, _| seen.next().is_some_and(|seen| seen != Seen::Masked));
    (masks, revealing)
}

/// Whether what was found holds still, by the end of the first grant that it takes.
fn lasts(until: Option<BootTime>, now: impl FnOnce() -> BootTime) -> bool {
    until.is_none_or(|until| now() < until)
}

/// A column, as policy names it.
#[must_use]
pub fn resource(relation: &Relation, column: &str) -> Resource {
    Resource::Column {
        schema: relation.schema.clone(),
        table: relation.name.clone(),
        column: column.to_owned(),
    }
}

#[cfg(test)]
mod tests;
