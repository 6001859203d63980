//! The words of `policies/schema.cedarschema` in Rust: types, actions, and how resources are named.
//!
//! An entity's id must mean one resource only: a schema may be called `a.b`, and whoever may create
//! schemas would otherwise be able to name his own tables like somebody else's. Names that hold a
//! delimiter are quoted, so that two resources never have the same id.

mod cluster;
mod named;

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr as _;
use std::sync::LazyLock;

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, Schema};

pub(super) use self::cluster::shown as shown_object;
pub(super) use self::named::shown_path;
use super::{Action, Resource};

/// The schema that the daemon judges by, as text.
pub const SCHEMA: &str = include_str!("../../../policies/schema.cedarschema");

/// The schema, read.
pub(super) static PARSED: LazyLock<Schema> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the text is part of the program, and tested"
    )]
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("the built-in schema reads");
    schema
});

/// Every action with its groups; conditions such as `action in Action::"Read"` look them up.
pub(super) static ACTIONS: LazyLock<Vec<Entity>> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the text is part of the program, and tested"
    )]
    let entities = PARSED
        .action_entities()
        .expect("the built-in schema has actions");
    entities.iter().cloned().collect()
});

/// An action with its groups.
pub(super) fn action(action: Action) -> Option<&'static Entity> {
    static BY_ACTION: LazyLock<HashMap<Action, Entity>> = LazyLock::new(|| {
        let of = |action: Action| {
            let uid = uid(Kind::Action, action.name());
            let entity = ACTIONS.iter().find(|entity| entity.uid() == uid)?;
            Some((action, entity.clone()))
        };
        Action::ALL.into_iter().filter_map(of).collect()
    });
    BY_ACTION.get(&action)
}

/// The types of the schema that the daemon makes entities of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `Target`.
    Target,
    /// `Database`.
    Database,
    /// `Schema`.
    Schema,
    /// `Table`.
    Table,
    /// `Column`.
    Column,
    /// `Function`.
    Function,
    /// `Path`.
    Path,
    /// `Name`.
    Name,
    /// `File`.
    File,
    /// `Forward`.
    Forward,
    /// `KubeNamespace`.
    KubeNamespace,
    /// `KubeObject`.
    KubeObject,
    /// `Agent`.
    Agent,
    /// `User`.
    User,
    /// `Person`.
    Person,
    /// `Group`.
    Group,
    /// `Scope`.
    Scope,
    /// `Host`.
    Host,
    /// `Action`.
    Action,
}

impl Kind {
    /// Every kind, in the order of their discriminants.
    pub(super) const ALL: [Self; 19] = [
        Self::Target,
        Self::Database,
        Self::Schema,
        Self::Table,
        Self::Column,
        Self::Function,
        Self::Path,
        Self::Name,
        Self::File,
        Self::Forward,
        Self::KubeNamespace,
        Self::KubeObject,
        Self::Agent,
        Self::User,
        Self::Person,
        Self::Group,
        Self::Scope,
        Self::Host,
        Self::Action,
    ];

    /// Its name in the schema.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Target => "Target",
            Self::Database => "Database",
            Self::Schema => "Schema",
            Self::Table => "Table",
            Self::Column => "Column",
            Self::Function => "Function",
            Self::Path => "Path",
            Self::Name => "Name",
            Self::File => "File",
            Self::Forward => "Forward",
            Self::KubeNamespace => "KubeNamespace",
            Self::KubeObject => "KubeObject",
            Self::Agent => "Agent",
            Self::User => "User",
            Self::Person => "Person",
            Self::Group => "Group",
            Self::Scope => "Scope",
            Self::Host => "Host",
            Self::Action => "Action",
        }
    }

    /// The kind of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of a resource.
    pub(super) const fn of(resource: &Resource) -> Self {
        match resource {
            Resource::Target => Self::Target,
            Resource::Database => Self::Database,
            Resource::Schema { .. } => Self::Schema,
            Resource::Table { .. } => Self::Table,
            Resource::Column { .. } => Self::Column,
            Resource::Function { .. } => Self::Function,
            Resource::Path { .. } => Self::Path,
            Resource::File { .. } => Self::File,
            Resource::Forward { .. } => Self::Forward,
            Resource::KubeNamespace { .. } => Self::KubeNamespace,
            Resource::KubeObject { .. } => Self::KubeObject,
        }
    }

    /// Whether it is something that agents ask for.
    pub(super) const fn is_data(self) -> bool {
        matches!(
            self,
            Self::Target
                | Self::Database
                | Self::Schema
                | Self::Table
                | Self::Column
                | Self::Function
                | Self::Path
                | Self::File
                | Self::Forward
                | Self::KubeNamespace
                | Self::KubeObject
        )
    }
}

static TYPES: LazyLock<Vec<(Kind, EntityTypeName)>> = LazyLock::new(|| {
    Kind::ALL
        .into_iter()
        .map(|kind| {
            #[expect(clippy::expect_used, reason = "constant identifiers, tested")]
            let name = EntityTypeName::from_str(kind.name()).expect("a type name reads");
            (kind, name)
        })
        .collect()
});

/// Names an entity.
pub(super) fn uid(kind: Kind, id: &str) -> EntityUid {
    #[expect(clippy::expect_used, reason = "the table holds every kind")]
    let (_, name) = TYPES
        .iter()
        .find(|(listed, _)| *listed == kind)
        .expect("every kind is listed");
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 67] = [
        Self::Connect,
        Self::Open,
        Self::Select,
        Self::CopyOut,
        Self::Explain,
        Self::Show,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Merge,
        Self::Truncate,
        Self::CopyIn,
        Self::Lock,
        Self::Ddl,
        Self::Grant,
        Self::Maintain,
        Self::System,
        Self::Do,
        Self::Transaction,
        Self::Set,
        Self::Call,
        Self::Notify,
        Self::Replicate,
        Self::FastPath,
        Self::Reveal,
        Self::Unreadable,
        Self::HttpGet,
        Self::HttpHead,
        Self::HttpOptions,
        Self::HttpPost,
        Self::HttpPut,
        Self::HttpPatch,
        Self::HttpDelete,
        Self::HttpOther,
        Self::HttpUpgrade,
        Self::HttpPassThrough,
        Self::Exec,
        Self::Shell,
        Self::Subsystem,
        Self::ListFiles,
        Self::ReadFile,
        Self::WriteFile,
        Self::RemoveFile,
        Self::ForwardTo,
        Self::ForwardFrom,
        Self::ForwardX11,
        Self::ForwardAgent,
        Self::KubeGet,
        Self::KubeList,
        Self::KubeWatch,
        Self::KubeCreate,
        Self::KubeUpdate,
        Self::KubePatch,
        Self::KubeDelete,
        Self::KubeDeleteCollection,
        Self::KubeEvict,
        Self::KubeExec,
        Self::KubeAttach,
        Self::KubePortForward,
        Self::KubeProxy,
        Self::KubeDebug,
        Self::KubeToken,
        Self::KubeBind,
        Self::KubeEscalate,
        Self::KubeImpersonate,
        Self::KubeVisit,
        Self::KubeOther,
    ];

    /// The group that it is in, by its name in the schema.
    #[must_use]
    pub fn group(self) -> Option<&'static str> {
        static GROUPS: LazyLock<Entities> =
            LazyLock::new(|| Entities::from_entities(ACTIONS.clone(), None).unwrap_or_default());
        let own = uid(Kind::Action, self.name());
        const GROUPS_OF: [&str; 14] = [
            "Read",
            "Write",
            "Admin",
            "Session",
            "SshRun",
            "SshRead",
            "SshWrite",
            "SshForward",
            "HttpRead",
            "HttpWrite",
            "KubeRead",
            "KubeWrite",
            "KubeRun",
            "KubeAdmin",
        ];
        GROUPS_OF
            .into_iter()
            .find(|group| GROUPS.is_ancestor_of(&uid(Kind::Action, group), &own))
    }

    /// Its name in the schema.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "Connect",
            Self::Open => "Open",
            Self::Select => "Select",
            Self::CopyOut => "CopyOut",
            Self::Explain => "Explain",
            Self::Show => "Show",
            Self::Insert => "Insert",
            Self::Update => "Update",
            Self::Delete => "Delete",
            Self::Merge => "Merge",
            Self::Truncate => "Truncate",
            Self::CopyIn => "CopyIn",
            Self::Lock => "Lock",
            Self::Ddl => "Ddl",
            Self::Grant => "Grant",
            Self::Maintain => "Maintain",
            Self::System => "System",
            Self::Do => "Do",
            Self::Transaction => "Transaction",
            Self::Set => "Set",
            Self::Call => "Call",
            Self::Notify => "Notify",
            Self::Replicate => "Replicate",
            Self::FastPath => "FastPath",
            Self::Reveal => "Reveal",
            Self::Unreadable => "Unreadable",
            Self::HttpGet => "HttpGet",
            Self::HttpHead => "HttpHead",
            Self::HttpOptions => "HttpOptions",
            Self::HttpPost => "HttpPost",
            Self::HttpPut => "HttpPut",
            Self::HttpPatch => "HttpPatch",
            Self::HttpDelete => "HttpDelete",
            Self::HttpOther => "HttpOther",
            Self::HttpUpgrade => "HttpUpgrade",
            Self::HttpPassThrough => "HttpPassThrough",
            Self::Exec => "Exec",
            Self::Shell => "Shell",
            Self::Subsystem => "Subsystem",
            Self::ListFiles => "ListFiles",
            Self::ReadFile => "ReadFile",
            Self::WriteFile => "WriteFile",
            Self::RemoveFile => "RemoveFile",
            Self::ForwardTo => "ForwardTo",
            Self::ForwardFrom => "ForwardFrom",
            Self::ForwardX11 => "ForwardX11",
            Self::ForwardAgent => "ForwardAgent",
            Self::KubeGet => "KubeGet",
            Self::KubeList => "KubeList",
            Self::KubeWatch => "KubeWatch",
            Self::KubeCreate => "KubeCreate",
            Self::KubeUpdate => "KubeUpdate",
            Self::KubePatch => "KubePatch",
            Self::KubeDelete => "KubeDelete",
            Self::KubeDeleteCollection => "KubeDeleteCollection",
            Self::KubeEvict => "KubeEvict",
            Self::KubeExec => "KubeExec",
            Self::KubeAttach => "KubeAttach",
            Self::KubePortForward => "KubePortForward",
            Self::KubeProxy => "KubeProxy",
            Self::KubeDebug => "KubeDebug",
            Self::KubeToken => "KubeToken",
            Self::KubeBind => "KubeBind",
            Self::KubeEscalate => "KubeEscalate",
            Self::KubeImpersonate => "KubeImpersonate",
            Self::KubeVisit => "KubeVisit",
            Self::KubeOther => "KubeOther",
        }
    }
}

/// The ids of a resource and of everything that it lies in, outermost first.
pub(super) fn chain(target: &str, database: &str, resource: &Resource) -> Vec<(Kind, String)> {
    let target_id = part(target).into_owned();
    let mut chain = vec![(Kind::Target, target_id)];
    match resource {
        Resource::Target => return chain,
        Resource::Path { path } => {
            chain.extend(path_ids(target, path));
            return chain;
        }
        Resource::File { path } => return file_chain(chain, path),
        Resource::Forward { host, port } => {
            let id = format!("{}/{}:{port}", part(target), step(host));
            chain.push((Kind::Forward, id));
            return chain;
        }
        Resource::KubeNamespace { namespace } => {
            chain.push((Kind::KubeNamespace, cluster::namespace(target, namespace)));
            return chain;
        }
        Resource::KubeObject {
            namespace,
            resource,
            name,
        } => {
            chain.extend(cluster::object(target, namespace, resource, name));
            return chain;
        }
        Resource::Database
        | Resource::Schema { .. }
        | Resource::Table { .. }
        | Resource::Column { .. }
        | Resource::Function { .. } => {}
    }
    let database_id = format!("{}/{}", part(target), part(database));
    chain.push((Kind::Database, database_id.clone()));
    let schema_id = |schema: &str| format!("{database_id}/{}", part(schema));
    match resource {
        Resource::Target
        | Resource::Database
        | Resource::File { .. }
        | Resource::Forward { .. }
        | Resource::KubeNamespace { .. }
        | Resource::KubeObject { .. }
        | Resource::Path { .. } => {}
        Resource::Schema { schema } => chain.push((Kind::Schema, schema_id(schema))),
        Resource::Table { schema, table } => {
            let outer = schema_id(schema);
            let inner = format!("{outer}.{}", part(table));
            chain.extend([(Kind::Schema, outer), (Kind::Table, inner)]);
        }
        Resource::Column {
            schema,
            table,
            column,
        } => {
            let outer = schema_id(schema);
            let middle = format!("{outer}.{}", part(table));
            let inner = format!("{middle}.{}", part(column));
            chain.extend([
                (Kind::Schema, outer),
                (Kind::Table, middle),
                (Kind::Column, inner),
            ]);
        }
        Resource::Function { schema, function } => {
            let outer = schema_id(schema);
            let inner = format!("{outer}.{}", part(function));
            chain.extend([(Kind::Schema, outer), (Kind::Function, inner)]);
        }
    }
    chain
}

/// Whether a resource is another, or lies in it.
#[cfg(test)]
pub(crate) fn lies_in(inner: &Resource, outer: &Resource) -> bool {
    let own = chain("crm", "app", outer).pop();
    own.is_some_and(|own| chain("crm", "app", inner).contains(&own))
}

/// The ids of a path and of everything that it lies in, outermost first: `api/`, `api/v1`.
fn path_ids(target: &str, path: &str) -> Vec<(Kind, String)> {
    let mut id = format!("{}/", part(target));
    let mut ids = vec![(Kind::Path, id.clone())];
    let names = path.split('/').filter(|name| !name.is_empty());
    for (index, name) in names.enumerate() {
        if index > 0 {
            id.push('/');
        }
        id.push_str(&segment(name));
        ids.push((Kind::Path, id.clone()));
    }
    ids
}

/// One part of a path inside an id: a dot delimits nothing there.
fn segment(name: &str) -> Cow<'_, str> {
    let delimits = |c: char| c == '"' || c.is_whitespace() || c.is_control();
    if name.contains(delimits) {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(name)
    }
}

/// Reads a path's id back: the target, and the path's parts.
fn path_names(id: &str) -> Option<Vec<String>> {
    let (target, rest) = read_part(id)?;
    let mut rest = rest.strip_prefix('/')?;
    let mut names = vec![target];
    while !rest.is_empty() {
        let (name, after) = match rest.starts_with('"') {
            true => read_part(rest)?,
            false => {
                let end = rest.find('/').unwrap_or(rest.len());
                let (name, after) = rest.split_at_checked(end)?;
                (name.to_owned(), after)
            }
        };
        if name.contains('/') {
            return None;
        }
        names.push(name);
        rest = match after.strip_prefix('/') {
            Some("") => return None,
            Some(more) => more,
            None if after.is_empty() => "",
            None => return None,
        };
    }
    let path = format!("/{}", names.get(1..)?.join("/"));
    let (_, again) = path_ids(names.first()?, &path).pop()?;
    (again == id).then_some(names)
}

/// A file lies in every directory above it, and the root in the target.
fn file_chain(mut chain: Vec<(Kind, String)>, path: &[String]) -> Vec<(Kind, String)> {
    let target = chain.first().map(|(_, id)| id.clone()).unwrap_or_default();
    chain.push((Kind::File, format!("{target}/")));
    let mut id = target;
    for name in path {
        id.push('/');
        id.push_str(&step(name));
        chain.push((Kind::File, id.clone()));
    }
    chain
}

/// One name inside an id: as it is where it holds no delimiter, quoted as SQL quotes otherwise.
fn part(name: &str) -> Cow<'_, str> {
    let delimits = |c: char| matches!(c, '.' | '/' | '"') || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.contains(delimits) {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(name)
    }
}

/// One name on a path, or a host: its dots delimit nothing.
fn step(name: &str) -> Cow<'_, str> {
    let delimits = |c: char| matches!(c, '/' | '"') || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.contains(delimits) {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(name)
    }
}

/// Reads an id back: its names, outermost first. `None` where no resource of that kind can have it.
pub(super) fn names(kind: Kind, id: &str) -> Option<Vec<String>> {
    let expected: &[char] = match kind {
        Kind::File => return file_names(id),
        Kind::Forward => return forward_names(id),
        Kind::KubeNamespace | Kind::KubeObject => return cluster::names(kind, id),
        Kind::Path => return path_names(id),
        Kind::Target => &[],
        Kind::Database => &['/'],
        Kind::Schema => &['/', '/'],
        Kind::Table | Kind::Function => &['/', '/', '.'],
        Kind::Column => &['/', '/', '.', '.'],
        Kind::Name
        | Kind::Agent
        | Kind::User
        | Kind::Person
        | Kind::Group
        | Kind::Scope
        | Kind::Host
        | Kind::Action => return None,
    };
    let (first, mut rest) = read_part(id)?;
    let mut names = vec![first];
    for delimiter in expected {
        let (name, after) = read_part(rest.strip_prefix(*delimiter)?)?;
        names.push(name);
        rest = after;
    }
    // What was read must be written the same way: `"a"` in quotes names nothing, `a` does.
    let again: Vec<_> = names.iter().map(|name| part(name)).collect();
    let mut written = String::new();
    for (index, name) in again.iter().enumerate() {
        if let Some(delimiter) = index.checked_sub(1).and_then(|at| expected.get(at)) {
            written.push(*delimiter);
        }
        written.push_str(name);
    }
    (rest.is_empty() && written == id).then_some(names)
}

fn file_names(id: &str) -> Option<Vec<String>> {
    let (target, mut rest) = read_part(id)?;
    let mut names = vec![target];
    if rest != "/" {
        while !rest.is_empty() {
            let (name, after) = read_name(rest.strip_prefix('/')?)?;
            names.push(name);
            rest = after;
        }
        if names.len() < 2 {
            return None;
        }
    }
    let again = file_chain(
        vec![(Kind::Target, part(names.first()?).into_owned())],
        names.get(1..)?,
    );
    (again.last()?.1 == id).then_some(names)
}

fn forward_names(id: &str) -> Option<Vec<String>> {
    let (target, rest) = read_part(id)?;
    let (host, port) = rest.strip_prefix('/')?.rsplit_once(':')?;
    let (host, after) = read_name(host)?;
    let number = port.parse::<u32>().ok()?;
    let written = format!("{}/{}:{number}", part(&target), step(&host));
    (after.is_empty() && written == id).then(|| vec![target, host, number.to_string()])
}

/// Reads a column's name as its id has it, without the target: `schema.table.column`, or
/// `database/schema.table.column`. The database, and the three names.
#[must_use]
pub fn column(text: &str) -> Option<(Option<String>, [String; 3])> {
    let read = |front: &str| names(Kind::Column, &format!("{front}{text}"));
    let (named, names) = match read("t/d/") {
        Some(names) => (false, names),
        None => (true, read("t/")?),
    };
    let [_target, database, schema, table, column] = <[String; 5]>::try_from(names).ok()?;
    Some((named.then_some(database), [schema, table, column]))
}

/// A column's name as [`column()`] reads it.
#[must_use]
pub fn column_name(database: Option<&str>, [schema, table, column]: [&str; 3]) -> String {
    let inner = format!("{}.{}.{}", part(schema), part(table), part(column));
    match database {
        Some(database) => format!("{}/{inner}", part(database)),
        None => inner,
    }
}

/// One name from the start of an id, and what follows it.
fn read_part(text: &str) -> Option<(String, &str)> {
    read_until(text, &['.', '/', '"'])
}

/// The same of a name on a path.
fn read_name(text: &str) -> Option<(String, &str)> {
    read_until(text, &['/', '"'])
}

fn read_until<'a>(text: &'a str, delimiters: &[char]) -> Option<(String, &'a str)> {
    let Some(mut quoted) = text.strip_prefix('"') else {
        let end = text.find(delimiters).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let (before, after) = quoted.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                quoted = more;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests;
