//! What the body of a request says, where rules need to know it: GraphQL, the Model Context Protocol, and the
//! model that is asked. A body that says a thing twice, or in another case, says nothing here: servers differ.

use std::collections::BTreeSet;

use hyper::Method;
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use serde_json::Value;

use super::{Facts, Wrong};
use crate::config::Http;
use crate::policy::{GraphqlFacts, McpFacts};
use crate::protocol::http::wire::{is_token, query};

mod graphql;

/// Values of fields of one body.
const VALUES_MAX: usize = 256;
/// Levels of nesting of a body: the reader of JSON has one of its own.
const DEPTH: &str = "the body is not JSON that can be read";

/// What is read of the bodies of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// GraphQL.
    Graphql,
    /// The Model Context Protocol.
    Mcp,
    /// The model that is asked.
    Model,
    /// Fields, by their keys with dots between.
    Fields(&'a [String]),
}

/// What is to be read of the body of a request to this path.
#[must_use]
pub fn wanted<'a>(facts: &Facts, settings: &'a Http) -> Option<Wanted<'a>> {
    let path = &facts.http.path;
    let rows = [
        (Wanted::Graphql, &settings.graphql),
        (Wanted::Mcp, &settings.mcp),
        (Wanted::Model, &settings.models),
    ];
    let mut rows = rows.into_iter();
    let of_path = rows.find(|(_, paths)| paths.iter().any(|one| one == path));
    let fields = || {
        let mut fields = settings.fields.iter();
        fields.find(|fields| fields.path == *path)
    };
    match of_path {
        Some((wanted, _)) => Some(wanted),
        None => fields().map(|fields| Wanted::Fields(&fields.read)),
    }
}

/// Reads a body, or the query where there is none.
///
/// # Errors
/// Why it cannot be read.
pub fn read(
    facts: &mut Facts,
    wanted: Wanted<'_>,
    parts: &Parts,
    body: &[u8],
) -> Result<(), Wrong> {
    if !facts.http.upgrade.is_empty() {
        return Err(Wrong::Unreadable(
            "what is said on a connection that becomes another cannot be read",
        ));
    }
    if !body.is_empty() && !is_json(&parts.headers) {
        return Err(Wrong::Unreadable("the body has to be called JSON"));
    }
    let raw = parts.uri.query().unwrap_or_default();
    let says_nothing = |kinds: &[Method]| body.is_empty() && kinds.contains(&parts.method);
    let nothing = Wrong::Unreadable("there is no body, and it has to be read");
    match wanted {
        Wanted::Graphql => {
            let documents = documents(raw, body)?;
            if documents.is_empty() {
                // A document that the server knows by a name is not seen here.
                let looks = [Method::GET, Method::HEAD, Method::OPTIONS];
                let asks_nothing = raw.is_empty() && says_nothing(&looks);
                return asks_nothing.then_some(()).ok_or(nothing);
            }
            let (read, renames) = documented(&documents)?;
            facts.http.graphql = Some(read);
            facts.around = renames.then_some(Wrong::NotOffered(
                "fields are masked here, and this gives them other names",
                "leave out aliases",
            ));
        }
        Wanted::Mcp | Wanted::Model | Wanted::Fields(_) if body.is_empty() => {
            let without = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE];
            return says_nothing(&without).then_some(()).ok_or(nothing);
        }
        Wanted::Fields(read) => {
            let said = strict(body)?;
            for name in read {
                let keys: Vec<&str> = name.split('.').collect();
                if let Some(first) = keys.first()
                    && query::only(raw, first)?.is_some()
                {
                    return Err(Wrong::Unreadable(
                        "the query names a field that has to be read of the body",
                    ));
                }
                fields(&said, (name, &keys), &mut facts.http.fields)?;
            }
        }
        Wanted::Mcp => facts.http.mcp = Some(message(&strict(body)?)?),
        Wanted::Model => {
            let said = strict(body)?;
            plain(&said, &["model"])?;
            if query::only(raw, "model")?.is_some() {
                return Err(Wrong::Unreadable("the query names a model, too"));
            }
            let model = said.get("model").and_then(Value::as_str);
            facts.http.model = model
                .ok_or(Wrong::Unreadable("the body names no model"))?
                .to_owned();
        }
    }
    Ok(())
}

/// Whether a body is called JSON, and nothing else, in letters that JSON has.
fn is_json(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(said), None) = (said.next(), said.next()) else {
        return false;
    };
    let said = String::from_utf8_lossy(said.as_bytes()).to_ascii_lowercase();
    let mut parts = said.split(';').map(str::trim);
    let kind = parts
        .next()
        .and_then(|kind| kind.strip_prefix("application/"));
    let is_json = kind.is_some_and(|kind| {
        (kind == "json" || kind.ends_with("+json")) && kind.bytes().all(is_token)
    });
    is_json && parts.all(|part| matches!(part, "charset=utf-8" | "charset=\"utf-8\""))
}

/// The documents that a request brings: one in its query, and one, or many, in its body.
fn documents(raw: &str, body: &[u8]) -> Result<Vec<String>, Wrong> {
    let mut documents: Vec<_> = query::only(raw, "query")?.into_iter().collect();
    if body.is_empty() {
        return Ok(documents);
    }
    let said = strict(body)?;
    let each = match &said {
        Value::Array(each) => each.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            std::slice::from_ref(&said)
        }
    };
    let none = Wrong::Unreadable("the body names no document");
    for one in each {
        plain(one, &["query"])?;
        let document = one.get("query").and_then(Value::as_str);
        documents.push(document.ok_or(none)?.to_owned());
    }
    match documents.is_empty() {
        true => Err(none),
        false => Ok(documents),
    }
}

/// What a message of the Model Context Protocol asks for.
fn message(said: &Value) -> Result<McpFacts, Wrong> {
    plain(said, &["method", "params"])?;
    let odd = Wrong::Unreadable("the message is not as the protocol has it");
    let text = |of: Option<&Value>| match of {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(odd),
    };
    let method = text(said.get("method"))?.unwrap_or_default();
    let mut params = match said.get("params") {
        None => None,
        Some(params) => {
            plain(params, &["name", "uri", "ref"])?;
            Some(params)
        }
    };
    if method == "completion/complete"
        && let Some(of) = params.and_then(|params| params.get("ref"))
    {
        plain(of, &["name", "uri"])?;
        params = Some(of);
    }
    let named = |key: &str| text(params.and_then(|params| params.get(key)));
    let name = match (method.as_str(), named("name")?, named("uri")?) {
        (_, Some(_), Some(_)) => return Err(odd),
        (method, _, uri) if method.starts_with("resources/") => uri,
        ("tools/call" | "prompts/get", name, _) => name,
        (_, name, uri) => name.or(uri),
    };
    let name = name.unwrap_or_default();
    Ok(McpFacts { method, name })
}

/// What stands in a field, and in each one of lists on the way: `name=value`.
fn fields(
    of: &Value,
    (name, keys): (&str, &[&str]),
    said: &mut BTreeSet<String>,
) -> Result<(), Wrong> {
    if said.len() >= VALUES_MAX {
        return Err(Wrong::Unreadable(
            "it has more values in fields than are read",
        ));
    }
    let odd = Wrong::Unreadable(
        "a field that has to be read holds other fields, or lies in what has none",
    );
    let text = match (of, keys) {
        (Value::Array(each), _) => {
            return each
                .iter()
                .try_for_each(|one| fields(one, (name, keys), said));
        }
        (Value::Object(object), [key, below @ ..]) => {
            let is_odd = |other: &String| *other != **key && folded(other) == folded(key);
            if object.keys().any(is_odd) {
                return Err(Wrong::Unreadable("a key stands in an odd case"));
            }
            return match object.get(*key) {
                Some(value) => fields(value, (name, below), said),
                None => Ok(()),
            };
        }
        // As the other keys below it, it is not there.
        (Value::Null, [_, ..]) => return Ok(()),
        (Value::Object(_), []) | (_, [_, ..]) => return Err(odd),
        (Value::Null, []) => "null".to_owned(),
        (Value::Bool(flag), []) => flag.to_string(),
        (Value::Number(number), []) => plainly(number),
        (Value::String(text), []) => text.clone(),
    };
    said.insert(format!("{name}={text}"));
    Ok(())
}

/// A number as it is written plainly: `1` for `1.0` and `1e0`.
fn plainly(number: &serde_json::Number) -> String {
    let float = number.as_f64().filter(|_| number.is_f64());
    // Shortest, and without an exponent.
    float.map_or_else(|| number.to_string(), |float| (float + 0.0).to_string())
}

/// Whether an object has no key that a reader may take for one of these words, but the word itself.
fn plain(value: &Value, words: &[&str]) -> Result<(), Wrong> {
    let object = value.as_object();
    let object = object.ok_or(Wrong::Unreadable("the body is not one object"))?;
    let is_odd =
        |key: &String| words.contains(&folded(key).as_str()) && !words.contains(&key.as_str());
    match object.keys().any(is_odd) {
        true => Err(Wrong::Unreadable("a key stands in an odd case")),
        false => Ok(()),
    }
}

/// A key as it is to readers for whom case does not count: some take `ſ` for `s`.
fn folded(key: &str) -> String {
    key.to_uppercase().to_lowercase()
}

/// What documents do, and whether they give fields other names.
fn documented(documents: &[String]) -> Result<(GraphqlFacts, bool), Wrong> {
    let mut facts = GraphqlFacts::default();
    let mut renames = false;
    for document in documents {
        let read = graphql::read(document)
            .ok_or(Wrong::Unreadable("the GraphQL document cannot be read"))?;
        facts.operations.extend(read.operations);
        facts.fields.extend(read.fields);
        renames |= read.renames;
    }
    Ok((facts, renames))
}

/// JSON in which no object says a key twice, also in another case.
fn strict(body: &[u8]) -> Result<Value, Wrong> {
    let text = std::str::from_utf8(body).map_err(|_not_text| Wrong::Unreadable(DEPTH))?;
    let read: Strict = serde_json::from_str(text).map_err(|_not_json| Wrong::Unreadable(DEPTH))?;
    Ok(read.0)
}

struct Strict(Value);

impl<'de> serde::Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = Strict;

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("JSON without a key said twice")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut from: A) -> Result<Strict, A::Error> {
        let mut each = Vec::new();
        while let Some(Strict(one)) = from.next_element()? {
            each.push(one);
        }
        Ok(Strict(Value::Array(each)))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut from: A) -> Result<Strict, A::Error> {
        let mut map = serde_json::Map::new();
        let mut seen = BTreeSet::new();
        while let Some((key, Strict(value))) = from.next_entry::<String, Strict>()? {
            if !seen.insert(folded(&key)) {
                return Err(serde::de::Error::custom("a key is said twice"));
            }
            map.insert(key, value);
        }
        Ok(Strict(Value::Object(map)))
    }
}

#[cfg(test)]
mod tests;
