//! Who asks, as Cedar sees it: entities made once a connection, and once more for its database.
//!
//! Making entities costs more than judging with them, so nothing here is done per request but to add
//! the resources that the request names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};

use super::vocabulary::{self, Kind};
use super::{Ask, Place, Resource};
use crate::identity::{Executable, Identity, Principal, Workload};

/// Facts that cannot be told to Cedar.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entity was not accepted.
    #[error("cannot describe {what} to the policy engine: {cause}")]
    Entity {
        /// What was described.
        what: &'static str,
        /// What the engine said.
        cause: String,
    },
}

impl Error {
    pub(super) fn of(what: &'static str, cause: &dyn std::fmt::Display) -> Self {
        Self::Entity {
            what,
            cause: cause.to_string(),
        }
    }
}

/// A principal, ready to be judged. Made once a connection.
#[derive(Clone, Debug)]
pub struct PrincipalFacts {
    pub(super) agent: Arc<str>,
    pub(super) uid: EntityUid,
    pub(super) entity: Entity,
}

impl PrincipalFacts {
    /// Takes the facts of `principal` that rules may look at.
    ///
    /// # Errors
    /// Where the engine does not accept them; the connection is to be refused.
    pub fn new(principal: &Principal) -> Result<Self, Error> {
        let uid = vocabulary::uid(Kind::Agent, &principal.agent);
        let user = vocabulary::uid(Kind::User, &principal.user.uid.to_string());
        let parents = HashSet::from([user]);
        let entity = Entity::new_with_tags(
            uid.clone(),
            attributes(principal)?,
            parents,
            tags(principal),
        )
        .map_err(|error| Error::of("the principal", &error))?;
        Ok(Self {
            agent: Arc::from(principal.agent.as_str()),
            uid,
            entity,
        })
    }

    /// The agent's name.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.agent
    }
}

/// A principal at a database of a target. Made once a session.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) principal: Arc<PrincipalFacts>,
    pub(super) target: Arc<str>,
    pub(super) database: Arc<str>,
    base: Entities,
}

impl Subject {
    /// Places `principal` at `database` of `target`.
    ///
    /// # Errors
    /// Where the engine does not accept the names; the session is to be refused.
    pub(super) fn new(
        principal: &Arc<PrincipalFacts>,
        target: &str,
        database: &str,
    ) -> Result<Self, Error> {
        let mut base = vec![principal.entity.clone()];
        base.extend(chain_entities(target, database, &Resource::Database)?);
        Ok(Self {
            principal: Arc::clone(principal),
            target: Arc::from(target),
            database: Arc::from(database),
            base: Entities::from_entities(base, None)
                .map_err(|error| Error::of("the session", &error))?,
        })
    }

    /// Where it asks.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            target: &self.target,
            database: &self.database,
        }
    }

    /// Names `resource` as rules name it.
    pub(super) fn resource(&self, resource: &Resource) -> EntityUid {
        let mut chain = vocabulary::chain(&self.target, &self.database, resource);
        let (kind, id) = chain.pop().unwrap_or((Kind::Target, String::new()));
        vocabulary::uid(kind, &id)
    }

    /// The session's entities with the actions and resources of `asks`.
    pub(super) fn entities<'a>(
        &self,
        asks: impl Iterator<Item = &'a Ask>,
    ) -> Result<Entities, Error> {
        let mut added = HashMap::new();
        for access in asks.flat_map(|ask| &ask.accesses) {
            let action = vocabulary::action(access.action)
                .ok_or_else(|| Error::of("the action", &"the schema does not know it"))?;
            added.entry(action.uid()).or_insert_with(|| action.clone());
            if matches!(access.resource, Resource::Target | Resource::Database) {
                continue;
            }
            for entity in chain_entities(&self.target, &self.database, &access.resource)? {
                added.entry(entity.uid()).or_insert(entity);
            }
        }
        self.base
            .clone()
            .add_entities(added.into_values(), None)
            .map_err(|error| Error::of("what is asked for", &error))
    }
}

type Attributes = HashMap<String, RestrictedExpression>;

fn string(value: impl Into<String>) -> RestrictedExpression {
    RestrictedExpression::new_string(value.into())
}

fn attributes(principal: &Principal) -> Result<Attributes, Error> {
    let user = &principal.user;
    let mut account = vec![
        (
            "uid".to_owned(),
            RestrictedExpression::new_long(user.uid.into()),
        ),
        (
            "gid".to_owned(),
            RestrictedExpression::new_long(user.gid.into()),
        ),
    ];
    account.extend(
        user.name
            .iter()
            .map(|name| ("name".to_owned(), string(name))),
    );
    let above = || {
        principal
            .ancestors
            .iter()
            .map(|process| &process.executable)
    };
    let ancestors = above().map(executable).collect::<Result<Vec<_>, _>>()?;
    let set = |values: Vec<_>| RestrictedExpression::new_set(values);
    let mut attributes = Attributes::from([
        ("name".to_owned(), string(&principal.agent)),
        ("user".to_owned(), record(account)?),
        (
            "executable".to_owned(),
            executable(&principal.process.executable)?,
        ),
        ("ancestors".to_owned(), set(ancestors)),
        (
            "ancestorPaths".to_owned(),
            set(above().map(|file| string(path(&file.path))).collect()),
        ),
        (
            "ancestorHashes".to_owned(),
            set(above().map(|file| string(&file.sha256)).collect()),
        ),
        ("cgroup".to_owned(), string(&principal.cgroup.path)),
        ("scope".to_owned(), string(&principal.cgroup.scope)),
        (
            "privileged".to_owned(),
            RestrictedExpression::new_bool(principal.privileged),
        ),
    ]);
    if let Some(container) = &principal.container {
        attributes.insert("container".to_owned(), string(container));
    }
    if let Some(known) = &principal.workload {
        attributes.insert("workload".to_owned(), workload(known)?);
    }
    if let Some(bound) = &principal.identity {
        attributes.insert("identity".to_owned(), identity(bound)?);
    }
    Ok(attributes)
}

/// What its container is.
fn workload(known: &Workload) -> Result<RestrictedExpression, Error> {
    let Workload {
        runtime,
        name,
        image,
        image_id,
        digest,
        pod,
        namespace,
        service_account,
    } = known;
    let fields = [
        ("name", name),
        ("image", image),
        ("imageId", image_id),
        ("digest", digest),
        ("pod", pod),
        ("namespace", namespace),
        ("serviceAccount", service_account),
    ];
    let fields = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, string(value.as_ref()?))));
    let all = fields.chain([("runtime", string(runtime))]);
    record(all.map(|(name, value)| (name.to_owned(), value)))
}

/// Whom the scope is bound to, but for the claims.
fn identity(bound: &Identity) -> Result<RestrictedExpression, Error> {
    let set = |words: &BTreeSet<String>| RestrictedExpression::new_set(words.iter().map(string));
    let mut fields = vec![
        ("issuer", string(&bound.issuer)),
        ("subject", string(&bound.subject)),
        ("groups", set(&bound.groups)),
        ("amr", set(&bound.amr)),
        (
            "expires",
            RestrictedExpression::new_long(bound.expires.as_second()),
        ),
    ];
    fields.extend(bound.user.iter().map(|user| ("user", string(user))));
    fields.extend(bound.acr.iter().map(|acr| ("acr", string(acr))));
    record(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    )
}

/// The claims, which have the names that the configuration says and not the schema.
fn tags(principal: &Principal) -> Vec<(String, RestrictedExpression)> {
    let claims = principal.identity.iter().flat_map(|bound| &bound.claims);
    claims
        .map(|(name, value)| (name.clone(), string(value)))
        .collect()
}

fn record(
    fields: impl IntoIterator<Item = (String, RestrictedExpression)>,
) -> Result<RestrictedExpression, Error> {
    RestrictedExpression::new_record(fields).map_err(|error| Error::of("the principal", &error))
}

fn executable(file: &Executable) -> Result<RestrictedExpression, Error> {
    record([
        ("path".to_owned(), string(path(&file.path))),
        ("sha256".to_owned(), string(&file.sha256)),
    ])
}

/// A path as text that no other path has: bytes that are not UTF-8 are escaped, not replaced.
fn path(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => path
            .as_os_str()
            .as_encoded_bytes()
            .escape_ascii()
            .to_string(),
    }
}

/// The entities of a resource and of everything that it lies in.
pub(super) fn chain_entities(
    target: &str,
    database: &str,
    resource: &Resource,
) -> Result<Vec<Entity>, Error> {
    let mut entities = Vec::new();
    let mut parent: Option<EntityUid> = None;
    for (depth, (kind, id)) in vocabulary::chain(target, database, resource)
        .into_iter()
        .enumerate()
    {
        let uid = vocabulary::uid(kind, &id);
        let entity = Entity::new(
            uid.clone(),
            match kind {
                Kind::File | Kind::Forward => step(target, resource, depth),
                Kind::Path => path_place(target, &id),
                Kind::KubeNamespace | Kind::KubeObject => cluster_place(target, kind, &id),
                Kind::Target
                | Kind::Database
                | Kind::Schema
                | Kind::Table
                | Kind::Column
                | Kind::Function
                | Kind::Name
                | Kind::Agent
                | Kind::User
                | Kind::Person
                | Kind::Group
                | Kind::Scope
                | Kind::Host
                | Kind::Action => place(kind, target, database, resource),
            },
            parent.into_iter().collect(),
        )
        .map_err(|error| Error::of("what is asked for", &error))?;
        entities.push(entity);
        parent = Some(uid);
    }
    Ok(entities)
}

/// The attributes of a path, by its id.
fn path_place(target: &str, id: &str) -> Attributes {
    let names = vocabulary::names(Kind::Path, id).unwrap_or_default();
    let parts = names.get(1..).unwrap_or_default();
    let name = parts.last().map_or("", String::as_str);
    Attributes::from([
        ("name".to_owned(), string(name)),
        ("path".to_owned(), string(format!("/{}", parts.join("/")))),
        ("target".to_owned(), string(target)),
    ])
}

/// The attributes of a namespace or an object of a cluster, by its id.
fn cluster_place(target: &str, kind: Kind, id: &str) -> Attributes {
    let names = vocabulary::names(kind, id).unwrap_or_default();
    let at = |index: usize| names.get(index).map_or("", String::as_str);
    let fields = match kind == Kind::KubeNamespace {
        true => vec![("name", at(1)), ("target", target)],
        false => {
            let (resource, group) = at(2).split_once('.').unwrap_or_else(|| (at(2), ""));
            vec![
                ("namespace", at(1)),
                ("resource", resource),
                ("group", group),
                ("name", at(3)),
                ("target", target),
            ]
        }
    };
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (name.to_owned(), string(value)))
        .collect()
}

/// The attributes of one link of a resource's chain: its name, and the names of what it lies in.
fn place(kind: Kind, target: &str, database: &str, resource: &Resource) -> Attributes {
    let (schema, inner, column) = match resource {
        Resource::Target
        | Resource::Database
        | Resource::File { .. }
        | Resource::Forward { .. }
        | Resource::KubeNamespace { .. }
        | Resource::KubeObject { .. }
        | Resource::Path { .. } => ("", "", ""),
        Resource::Schema { schema } => (schema.as_str(), "", ""),
        Resource::Table { schema, table } => (schema.as_str(), table.as_str(), ""),
        Resource::Function { schema, function } => (schema.as_str(), function.as_str(), ""),
        Resource::Column {
            schema,
            table,
            column,
        } => (schema.as_str(), table.as_str(), column.as_str()),
    };
    let outwards = [
        (Kind::Column, column, "column"),
        (Kind::Table, inner, "table"),
        (Kind::Schema, schema, "schema"),
        (Kind::Database, database, "database"),
        (Kind::Target, target, "target"),
    ];
    // A function lies in a schema as a table does.
    let level = if kind == Kind::Function {
        Kind::Table
    } else {
        kind
    };
    outwards
        .iter()
        .skip_while(|(at, ..)| *at != level)
        .map(|(at, name, field)| {
            let field = if *at == level { "name" } else { field };
            (field.to_owned(), string(*name))
        })
        .collect()
}

/// The attributes of a file that is the `depth`-th link of its chain, or of a forward.
fn step(target: &str, resource: &Resource, depth: usize) -> Attributes {
    let mut attributes = Attributes::from([("target".to_owned(), string(target))]);
    match resource {
        Resource::File { path } => {
            let here = path.get(..depth.saturating_sub(1)).unwrap_or(path);
            let name = here.last().map_or("/", String::as_str);
            attributes.insert("name".to_owned(), string(name));
            attributes.insert("path".to_owned(), string(vocabulary::shown_path(here)));
        }
        Resource::Forward { host, port } => {
            let port = RestrictedExpression::new_long(i64::from(*port));
            attributes.insert("host".to_owned(), string(host));
            attributes.insert("port".to_owned(), port);
        }
        Resource::Target
        | Resource::Database
        | Resource::Schema { .. }
        | Resource::Table { .. }
        | Resource::Column { .. }
        | Resource::Function { .. }
        | Resource::Path { .. }
        | Resource::KubeNamespace { .. }
        | Resource::KubeObject { .. } => {}
    }
    attributes
}

#[cfg(test)]
mod tests;
