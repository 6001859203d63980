//! What a grant covers: whom, where, and what lies in what.

use std::time::Duration;

use super::table::Live;
use super::{Grant, Grants, Holder, Root};
use crate::clock::{self, BootTime};
use crate::identity::{Principal, Process};
use crate::policy::{Access, GrantId, Held, Place, Resource};

/// Ancestors' start times are known to a clock tick, which is at most this long (`USER_HZ` is 100).
const TICK: u64 = 10_000_000;

/// The grants of one principal.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    grants: &'a Grants,
    principal: &'a Principal,
    scope: u64,
    running: bool,
}

impl<'a> Holding<'a> {
    /// What `principal`, caught by `scope`, may use now.
    #[must_use]
    pub fn new(grants: &'a Grants, principal: &'a Principal, scope: u64) -> Self {
        Self {
            grants,
            principal,
            scope,
            running: false,
        }
    }

    /// What its requests may go on with that run already: one that took the last use of a grant does.
    #[must_use]
    pub fn running(self) -> Self {
        Self {
            running: true,
            ..self
        }
    }
}

impl Held for Holding<'_> {
    fn cover(&self, place: Place<'_>, access: &Access, longest: Duration) -> Option<GrantId> {
        let now = clock::boot();
        self.grants.table.find(self.scope, |live: &Live| {
            live.is_live(now, self.running)
                && live.grant.length() <= longest
                && covers(&live.grant, place, access)
                && holds(&live.grant.holder, self.principal)
        })
    }
}

fn covers(grant: &Grant, place: Place<'_>, access: &Access) -> bool {
    grant.target == place.target
        && grant
            .database
            .as_ref()
            .is_none_or(|database| database == place.database)
        && grant.actions.contains(&access.action)
        && lies_in(&access.resource, &grant.resource)
}

/// Whether `inner` is `outer` or a part of it.
fn lies_in(inner: &Resource, outer: &Resource) -> bool {
    let schema = |resource: &Resource| match resource {
        Resource::Target | Resource::Database => None,
        Resource::Schema { schema }
        | Resource::Table { schema, .. }
        | Resource::Column { schema, .. }
        | Resource::Function { schema, .. } => Some(schema.clone()),
    };
    match outer {
        Resource::Target => true,
        Resource::Database => !matches!(inner, Resource::Target),
        Resource::Schema { schema: outer } => schema(inner).as_ref() == Some(outer),
        Resource::Table { schema, table } => match inner {
            Resource::Table {
                schema: inner,
                table: name,
            }
            | Resource::Column {
                schema: inner,
                table: name,
                ..
            } => (inner, name) == (schema, table),
            Resource::Target
            | Resource::Database
            | Resource::Schema { .. }
            | Resource::Function { .. } => false,
        },
        Resource::Column { .. } | Resource::Function { .. } => inner == outer,
    }
}

/// Whether a principal of the holder's scope is in the tree that the grant hangs on.
fn holds(holder: &Holder, principal: &Principal) -> bool {
    // A scope that was tagged anew is another agent's.
    if holder.agent != principal.agent {
        return false;
    }
    let Some(root) = &holder.root else {
        return true;
    };
    std::iter::once(&principal.process)
        .chain(&principal.ancestors)
        .any(|process| is(root, process))
}

fn is(root: &Root, process: &Process) -> bool {
    let tick = |time: BootTime| time.0 / TICK;
    root.pid == process.pid
        && tick(root.started) == tick(process.started)
        && root.sha256 == process.executable.sha256
}

#[cfg(test)]
mod tests;
