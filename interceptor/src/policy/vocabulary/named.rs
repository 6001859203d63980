//! Resources by name, apart from their target: what somebody asks for, and what a refusal tells to ask for.

use super::{Kind, cluster, file_chain, names, part, step};
use crate::policy::Resource;

/// Stands for the target in ids that are made and read here.
const TARGET: &str = "t";

impl Resource {
    /// Reads a resource by its kind and its name as its id has it, without target and database: `table` and
    /// `schema.table`, `object` and `payments/pods/web-0`. Paths, files and hosts may be written as they are.
    #[must_use]
    pub fn named(kind: &str, text: &str) -> Option<Self> {
        match kind {
            "path" => text.starts_with('/').then(|| Self::Path {
                path: text.to_owned(),
            }),
            "file" => Some(Self::File { path: file(text)? }),
            "forward" => {
                let (host, port) = text.rsplit_once(':')?;
                let port = port.parse().ok()?;
                let host = host.to_owned();
                (!host.is_empty()).then_some(Self::Forward { host, port })
            }
            "namespace" | "object" => of_cluster(kind, text),
            _ => in_database(kind, text),
        }
    }

    /// Its kind and its name, as [`Resource::named`] reads them; none for a target or a database as a whole.
    #[must_use]
    pub fn name(&self) -> Option<(&'static str, String)> {
        let joined = |names: &[&String]| {
            let names: Vec<_> = names.iter().map(|name| part(name)).collect();
            names.join(".")
        };
        Some(match self {
            Self::Target | Self::Database => return None,
            Self::Schema { schema } => ("schema", joined(&[schema])),
            Self::Table { schema, table } => ("table", joined(&[schema, table])),
            Self::Column {
                schema,
                table,
                column,
            } => ("column", joined(&[schema, table, column])),
            Self::Function { schema, function } => ("function", joined(&[schema, function])),
            Self::Path { path } => ("path", path.clone()),
            Self::File { path } => ("file", file_name(path)),
            Self::Forward { host, port } => ("forward", format!("{host}:{port}")),
            Self::KubeNamespace { namespace } => ("namespace", step(namespace).into_owned()),
            Self::KubeObject {
                namespace,
                resource,
                name,
            } => {
                let ids = cluster::object(TARGET, namespace, resource, name);
                let (_, id) = ids.into_iter().next_back()?;
                ("object", below_target(&id)?.to_owned())
            }
        })
    }

    /// For people: its kind and its name.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Target => "everything".to_owned(),
            Self::Database => "the database".to_owned(),
            Self::File { path } => format!("file {}", shown_path(path)),
            Self::KubeObject {
                namespace,
                resource,
                name,
            } => cluster::shown(namespace, resource, name),
            Self::Schema { .. }
            | Self::Table { .. }
            | Self::Column { .. }
            | Self::Function { .. }
            | Self::Path { .. }
            | Self::Forward { .. }
            | Self::KubeNamespace { .. } => {
                let name = self.name().map(|(kind, name)| format!("{kind} {name}"));
                name.unwrap_or_default()
            }
        }
    }
}

fn below_target(id: &str) -> Option<&str> {
    id.strip_prefix(TARGET)?.strip_prefix('/')
}

/// What lies in a database.
fn in_database(kind: &str, text: &str) -> Option<Resource> {
    let read = |kind: Kind| names(kind, &format!("{TARGET}/d/{text}"));
    let found = match kind {
        "schema" => read(Kind::Schema)?,
        "table" => read(Kind::Table)?,
        "column" => read(Kind::Column)?,
        "function" => read(Kind::Function)?,
        _ => return None,
    };
    match (kind, found.get(2..)?) {
        ("schema", [schema]) => Some(Resource::Schema {
            schema: schema.clone(),
        }),
        ("table", [schema, table]) => Some(Resource::Table {
            schema: schema.clone(),
            table: table.clone(),
        }),
        ("column", [schema, table, column]) => Some(Resource::Column {
            schema: schema.clone(),
            table: table.clone(),
            column: column.clone(),
        }),
        ("function", [schema, function]) => Some(Resource::Function {
            schema: schema.clone(),
            function: function.clone(),
        }),
        _ => None,
    }
}

/// What lies in a cluster; without a namespace it has an empty one: `""/nodes/n1`.
fn of_cluster(kind: &str, text: &str) -> Option<Resource> {
    let id = format!("{TARGET}/{text}");
    if kind == "namespace" {
        let names = names(Kind::KubeNamespace, &id)?;
        let namespace = names.get(1)?.clone();
        return Some(Resource::KubeNamespace { namespace });
    }
    let names = names(Kind::KubeObject, &id)?;
    let [namespace, resource, rest @ ..] = names.get(1..)? else {
        return None;
    };
    Some(Resource::KubeObject {
        namespace: namespace.clone(),
        resource: resource.clone(),
        name: rest.first().cloned().unwrap_or_default(),
    })
}

/// The names of a path on a server, of which the home has one of its own: `~`.
fn file(text: &str) -> Option<Vec<String>> {
    let text = match text.strip_prefix('~') {
        Some(_) => format!("/{text}"),
        None => text.to_owned(),
    };
    let steps = text.strip_prefix('/')?;
    // Where none is quoted they stand as they are, spaces and all.
    if steps.contains('"') {
        let names = names(Kind::File, &format!("{TARGET}{text}"))?;
        return names.get(1..).map(<[String]>::to_vec);
    }
    let steps = steps.split('/').filter(|name| !name.is_empty());
    Some(steps.map(str::to_owned).collect())
}

fn file_name(path: &[String]) -> String {
    let target = vec![(Kind::Target, TARGET.to_owned())];
    let id = file_chain(target, path).pop();
    let name = id.and_then(|(_, id)| id.strip_prefix(TARGET).map(str::to_owned));
    name.unwrap_or_default()
}

/// A path as people write it.
#[must_use]
pub(in crate::policy) fn shown_path(path: &[String]) -> String {
    match path.split_first() {
        Some((home, rest)) if home == "~" => {
            let rest: Vec<_> = rest.iter().map(String::as_str).collect();
            std::iter::once("~")
                .chain(rest)
                .collect::<Vec<_>>()
                .join("/")
        }
        _ => format!("/{}", path.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_resource_is_called_names_it_again() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let file = |path: &[&str]| Resource::File { path: words(path) };
        let forward = |host: &str, port| Resource::Forward {
            host: host.to_owned(),
            port,
        };
        let path = |path: &str| Resource::Path {
            path: path.to_owned(),
        };
        let object = |namespace: &str, resource: &str, name: &str| Resource::KubeObject {
            namespace: namespace.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
        };
        let namespace = |namespace: &str| Resource::KubeNamespace {
            namespace: namespace.to_owned(),
        };
        for (resource, name) in [
            (path("/"), "path /"),
            (path("/v1/a b/\"c\"/"), "path /v1/a b/\"c\"/"),
            (file(&[]), "file /"),
            (file(&["etc", "motd"]), "file /etc/motd"),
            (file(&["~", "a b"]), "file /~/\"a b\""),
            (file(&["a", "b\"c"]), "file /a/\"b\"\"c\""),
            (forward("db.internal", 5_432), "forward db.internal:5432"),
            (forward("::1", 22), "forward ::1:22"),
            (forward("/run/x y.sock", 0), "forward /run/x y.sock:0"),
            (namespace("payments"), "namespace payments"),
            (object("pay", "pods", "web-0"), "object pay/pods/web-0"),
            (object("pay", "jobs.batch", ""), "object pay/jobs.batch"),
            (object("", "nodes", "n.1"), "object \"\"/nodes/n.1"),
            (object("", "pods", ""), "object \"\"/pods"),
        ] {
            let (kind, told) = resource.name().unwrap();
            assert_eq!(format!("{kind} {told}"), name);
            assert_eq!(Resource::named(kind, &told), Some(resource), "{name}");
        }
        // As people write them.
        assert_eq!(Resource::named("file", "~/a b"), Some(file(&["~", "a b"])));
        for (kind, wrong) in [
            ("path", "v1"),
            ("file", "etc/motd"),
            ("file", "/a/\"b"),
            ("forward", "db"),
            ("forward", ":5432"),
            ("forward", "db:-1"),
            ("namespace", ""),
            ("namespace", "a/b"),
            ("object", "pods"),
            ("object", "pay/pods/web-0/log"),
            ("object", "pay//web-0"),
            ("nothing", "x"),
        ] {
            assert_eq!(Resource::named(kind, wrong), None, "{kind} {wrong}");
        }
    }
}
