//! What policy leaves to grants: a permit with `@grant` permits nothing by itself, but says what may be
//! granted for a while, and for how long at most.
//!
//! Cedar is asked first, as for everything else; so a forbid wins over any grant, the conditions of the
//! permit hold for each request, and a permit that a reload takes away takes its grants along. Grants
//! themselves are kept elsewhere: here is only what they are asked.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::approval::{Approved, Needs};
use crate::policy::{Access, Action, Generation, Limits, Permit, Refusal, Resource, RuleId};

/// Names one grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(pub Uuid);

/// Where a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The target's name.
    pub target: &'a str,
    /// The database; empty for `Connect`, which knows none.
    pub database: &'a str,
}

/// The grants of whoever asks.
pub trait Held {
    /// A grant that covers `access` now, and was issued for no longer than `longest`.
    fn cover(&self, place: Place<'_>, access: &Access, longest: Duration) -> Option<GrantId>;
}

/// Holds no grants.
#[derive(Clone, Copy, Debug)]
pub struct NoGrants;

impl Held for NoGrants {
    fn cover(&self, _place: Place<'_>, _access: &Access, _longest: Duration) -> Option<GrantId> {
        None
    }
}

/// An access that policy permits only with a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Wanted {
    pub(in crate::policy) access: Access,
    /// For how long at most it may be granted; absent where it is left to people alone.
    pub(in crate::policy) longest: Option<Duration>,
    /// Whose word it takes to have such a grant.
    pub(in crate::policy) before: Needs,
    /// Whose word does in place of a grant.
    pub(in crate::policy) needs: Needs,
    /// What the caller is told where it has neither.
    pub(in crate::policy) refusal: Arc<Refusal>,
}

/// What the rules alone say of a request that they do not refuse.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Decided {
    pub(in crate::policy) rules: Arc<[RuleId]>,
    pub(in crate::policy) wanted: Arc<[Wanted]>,
    pub(in crate::policy) limits: Option<Arc<Limits>>,
    pub(in crate::policy) generation: Generation,
}

impl Decided {
    /// A permit, where grants and people's word cover all that wants one.
    pub(in crate::policy) fn settle(
        self,
        place: Place<'_>,
        held: &dyn Held,
        approved: &dyn Approved,
    ) -> Result<Permit, Refusal> {
        let mut grants = Vec::new();
        for wanted in self.wanted.iter() {
            match wanted.covered(place, held) {
                Some(grant) if grants.contains(&grant) => {}
                Some(grant) => grants.push(grant),
                None if !wanted.needs.is_empty() && approved.covers(&wanted.needs) => {}
                None => return Err(Refusal::clone(&wanted.refusal)),
            }
        }
        Ok(Permit {
            rules: self.rules,
            grants: grants.into(),
            generation: self.generation,
            limits: self.limits,
        })
    }

    /// Whose word is missing, beside the grants that are held.
    pub(in crate::policy) fn needs(&self, place: Place<'_>, held: &dyn Held) -> Vec<Needs> {
        let mut all = Vec::new();
        for wanted in self.wanted.iter() {
            if wanted.covered(place, held).is_none() && !all.contains(&wanted.needs) {
                all.push(wanted.needs.clone());
            }
        }
        // Where a grant alone would do, nobody's word helps.
        match all.iter().any(Needs::is_empty) {
            true => Vec::new(),
            false => all,
        }
    }
}

impl Wanted {
    fn covered(&self, place: Place<'_>, held: &dyn Held) -> Option<GrantId> {
        held.cover(place, &self.access, self.longest?)
    }
}

/// What the rules say of granting one action on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantable {
    /// It may be granted.
    For {
        /// For this long at most.
        longest: Duration,
        /// Once one of these has been said; at once where there is none.
        needs: Needs,
        /// By these permits.
        rules: Arc<[RuleId]>,
    },
    /// It is permitted already.
    Permitted,
}

/// The longest time that permits allow which all leave it to a grant: of several, the most generous.
pub(in crate::policy) fn longest(
    grants: impl Iterator<Item = Option<Duration>>,
) -> Option<Duration> {
    let grants: Option<Vec<Duration>> = grants.collect();
    grants?.into_iter().max()
}

/// The command that asks for what is missing.
pub(in crate::policy) fn command(place: Place<'_>, access: &Access, longest: Duration) -> String {
    let mut words = vec![
        "interceptor request --target".to_owned(),
        quoted(place.target),
    ];
    if !place.database.is_empty() && access.action != Action::Connect {
        words.push(format!("--database {}", quoted(place.database)));
    }
    words.push(format!("--action {}", access.action.name()));
    // `table public.orders`, and nothing for the database or the target as a whole.
    if !matches!(access.resource, Resource::Target | Resource::Database)
        && let Some((kind, name)) = access.resource.shown().split_once(' ')
    {
        words.push(format!("--{kind} {}", quoted(name)));
    }
    words.push(format!("--for {} --reason WHY", shown(longest)));
    words.join(" ")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A duration in the one unit that divides it.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        _ if seconds > 0 && seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds > 0 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests;
