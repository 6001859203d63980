//! What a path means to a cluster's API server: its documented request attributes ("Authorization overview",
//! kubernetes.io), computed as the server computes them. Pure; the path has its escapes resolved already, once.

pub mod protobuf;
pub mod query;

use self::query::Query;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether it is about objects; all but `verb` is empty otherwise.
    pub is_resource: bool,
    /// The verb: the method in lower case where it is not about objects, and empty for a method that means nothing
    /// there.
    pub verb: String,
    /// The group of the API; empty for the core.
    pub group: String,
    /// The version of the API.
    pub version: String,
    /// The namespace; empty where there is none.
    pub namespace: String,
    /// The kind of object, as paths name it.
    pub resource: String,
    /// The part of the object.
    pub subresource: String,
    /// The name of the object.
    pub name: String,
}

/// Prefixes of paths that lead to objects; of the first the group is the core.
const CORE: &str = "api";
const GROUPS: &str = "apis";
/// Verbs that stand in a path.
const IN_PATH: [&str; 2] = ["proxy", "watch"];
/// Parts of a namespace itself; every other name after a namespace's is a kind of object in it.
const OF_NAMESPACE: [&str; 2] = ["status", "finalize"];

/// Reads what a request asks for.
///
/// # Errors
/// Where the server cannot make sense of it either.
pub fn read(method: &str, path: &str, query: &Query) -> Result<Asked, &'static str> {
    let parts: Vec<&str> = path
        .trim_matches('/')
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let other = || Asked {
        verb: method.to_ascii_lowercase(),
        ..Asked::default()
    };
    let (group, version, parts) = match parts.as_slice() {
        [CORE, version, parts @ ..] if !parts.is_empty() => ("", *version, parts),
        [GROUPS, group, version, parts @ ..] if !parts.is_empty() => (*group, *version, parts),
        _ => return Ok(other()),
    };
    let mut asked = Asked {
        is_resource: true,
        verb: verb(method).to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        ..Asked::default()
    };
    let parts = match parts {
        [verb] if IN_PATH.contains(verb) => return Err("the path has a verb, and no object"),
        [verb, parts @ ..] if IN_PATH.contains(verb) => {
            asked.verb = (*verb).to_owned();
            parts
        }
        parts => parts,
    };
    let parts = match parts {
        ["namespaces", namespace, rest @ ..] => {
            asked.namespace = (*namespace).to_owned();
            match rest.first() {
                Some(next) if !OF_NAMESPACE.contains(next) => rest,
                _ => parts,
            }
        }
        parts => parts,
    };
    let at = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
    asked.resource = at(0);
    asked.name = at(1);
    // What is proxied has a path of its own behind the name.
    if asked.verb != "proxy" {
        asked.subresource = at(2);
    }
    if asked.name.is_empty() {
        unnamed(&mut asked, query);
    }
    Ok(asked)
}

fn verb(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// Without a name it is about all of a kind, or those that the query names.
fn unnamed(asked: &mut Asked, query: &Query) {
    match asked.verb.as_str() {
        "get" => {
            let watches = query.first("watch").is_some_and(is_true);
            asked.verb = if watches { "watch" } else { "list" }.to_owned();
            let selector = query.first("fieldSelector").unwrap_or_default();
            asked.name = named(selector).unwrap_or_default();
        }
        "delete" => asked.verb = "deletecollection".to_owned(),
        _ => {}
    }
}

/// A flag of a query: set by whatever does not say no, also by nothing.
#[must_use]
pub fn is_true(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")
}

/// The name that a selector of fields leaves as the only one: `metadata.name=web-0`. A selector with escapes in it
/// names nothing here, which is judged as all of the kind.
fn named(selector: &str) -> Option<String> {
    if selector.contains('\\') {
        return None;
    }
    let mut names = selector.split(',').filter_map(|term| {
        let at = term.find(['=', '!'])?;
        let (field, value) = term.split_at_checked(at)?;
        let value = value
            .strip_prefix("==")
            .or_else(|| value.strip_prefix('='))?;
        (field == "metadata.name").then(|| value.to_owned())
    });
    let name = names.next()?;
    let is_segment = !matches!(name.as_str(), "." | "..") && !name.contains(['/', '%']);
    (is_segment && names.next().is_none_or(|other| other == name)).then_some(name)
}

#[cfg(test)]
mod tests;
