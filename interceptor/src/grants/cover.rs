//! What a grant covers: whom, where, and what lies in what.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::table::{Live, Room};
use super::{Grant, Grants, Holder};
use crate::clock::{self, BootTime};
use crate::identity::Principal;
use crate::policy::{Access, Covering, GrantId, Held, Issued, Place, Resource, Want};

/// The grants of one principal.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    grants: &'a Grants,
    principal: &'a Principal,
    scope: u64,
    /// Those that what is judged again stands on; `None` for what is new.
    stood_on: Option<&'a [GrantId]>,
}

impl<'a> Holding<'a> {
    /// What `principal`, caught by `scope`, may use now.
    #[must_use]
    pub fn new(grants: &'a Grants, principal: &'a Principal, scope: u64) -> Self {
        Self {
            grants,
            principal,
            scope,
            stood_on: None,
        }
    }

    /// What something of it may go on with that runs already, and stands on `grants`: with those, however
    /// much of them is left, and of others only with what is not counted, since it has taken nothing of them.
    #[must_use]
    pub fn stood_on(self, grants: &'a [GrantId]) -> Self {
        Self {
            stood_on: Some(grants),
            ..self
        }
    }

    fn room(&self, live: &Live, now: BootTime) -> Option<Room> {
        let Some(grants) = self.stood_on else {
            return live.room(now);
        };
        let goes_on = grants.contains(&live.grant.id) || live.grant.budget.is_empty();
        (goes_on && live.stands(now)).then_some(Room::Free)
    }
}

impl Held for Holding<'_> {
    fn cover(&self, want: &Want<'_>) -> Option<Covering> {
        let now = clock::boot();
        let table = &self.grants.table;
        let within = around(&want.access.resource);
        let at = (want.access.action, want.place.target);
        table.find(self.scope, at, &within, |live: &Live| {
            let grant = &live.grant;
            let issued = Issued {
                time: grant.length(),
                budget: &grant.budget,
                word: &grant.word,
                tree: grant.holder.root.is_some(),
            };
            let covers = want.admits(&issued)
                && covers(grant, want.place, want.access)
                && holds(&grant.holder, self.principal);
            if covers { self.room(live, now) } else { None }
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

/// A part of a database as a number, for what a grant of it can be passed over by; of other resources, and of
/// what is around all parts, none: they are looked at.
pub(super) fn key(resource: &Resource) -> Option<u64> {
    match resource {
        Resource::Schema { schema } => Some(number(&[schema])),
        Resource::Table { schema, table } => Some(number(&[schema, table])),
        Resource::Column {
            schema,
            table,
            column,
        } => Some(number(&[schema, table, column])),
        Resource::Function { schema, function } => Some(number(&[schema, "", function])),
        Resource::Target
        | Resource::Database
        | Resource::Path { .. }
        | Resource::File { .. }
        | Resource::Forward { .. }
        | Resource::KubeNamespace { .. }
        | Resource::KubeObject { .. } => None,
    }
}

/// The numbers of the parts of a database that a resource lies in, itself among them: a grant of another part
/// does not cover it.
fn around(resource: &Resource) -> [Option<u64>; 3] {
    let own = key(resource);
    match resource {
        Resource::Column { schema, table, .. } => {
            [own, Some(number(&[schema, table])), Some(number(&[schema]))]
        }
        Resource::Table { schema, .. } | Resource::Function { schema, .. } => {
            [own, Some(number(&[schema])), None]
        }
        _ => [own, None, None],
    }
}

fn number(names: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    hasher.finish()
}

/// Whether `inner` is `outer` or a part of it, as policy has it.
fn lies_in(inner: &Resource, outer: &Resource) -> bool {
    let schema = |resource: &Resource| match resource {
        Resource::Schema { schema }
        | Resource::Table { schema, .. }
        | Resource::Column { schema, .. }
        | Resource::Function { schema, .. } => Some(schema.clone()),
        _ => None,
    };
    match outer {
        Resource::Target => true,
        Resource::Database => *inner == Resource::Database || schema(inner).is_some(),
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
            _ => false,
        },
        Resource::Path { path: outer } => match inner {
            Resource::Path { path } => path
                .strip_prefix(outer.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            _ => false,
        },
        Resource::File { path: outer } => match inner {
            Resource::File { path: inner } => inner.starts_with(outer),
            _ => false,
        },
        Resource::KubeNamespace { namespace: outer } => match inner {
            Resource::KubeNamespace { namespace } | Resource::KubeObject { namespace, .. } => {
                namespace == outer
            }
            _ => false,
        },
        Resource::KubeObject {
            namespace,
            resource,
            name,
        } => match inner {
            Resource::KubeObject {
                namespace: within,
                resource: kind,
                name: one,
            } => (within, kind) == (namespace, resource) && (name.is_empty() || name == one),
            _ => false,
        },
        Resource::Column { .. } | Resource::Function { .. } | Resource::Forward { .. } => {
            inner == outer
        }
    }
}

/// Whether a principal of the holder's scope is in the tree that the grant hangs on.
pub(super) fn holds(holder: &Holder, principal: &Principal) -> bool {
    // A scope that was tagged anew is another agent's.
    if holder.agent != principal.agent {
        return false;
    }
    let Some(root) = &holder.root else {
        return true;
    };
    std::iter::once(&principal.process)
        .chain(&principal.ancestors)
        .any(|process| root.is_at(process.pid, process.started))
}

#[cfg(test)]
mod tests;
