//! What the body of a request says, where rules need to know it: GraphQL, the Model Context Protocol, and the
//! model that is asked. A body that says a thing twice, or in another case, says nothing here: servers differ.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Facts, Wrong};
use crate::config::Http;
use crate::policy::{GraphqlFacts, McpFacts};

mod graphql;

/// Levels of nesting of a body: the reader of JSON has one of its own.
const DEPTH: &str = "the body is not JSON that can be read";

/// What is read of the bodies of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// GraphQL.
    Graphql,
    /// The Model Context Protocol.
    Mcp,
    /// The model that is asked.
    Model,
}

/// What is to be read of the body of a request to this path.
#[must_use]
pub fn wanted(facts: &Facts, settings: &Http) -> Option<Wanted> {
    let path = &facts.http.path;
    let rows = [
        (Wanted::Graphql, &settings.graphql),
        (Wanted::Mcp, &settings.mcp),
        (Wanted::Model, &settings.models),
    ];
    let mut rows = rows.into_iter();
    rows.find(|(_, paths)| paths.iter().any(|one| one == path))
        .map(|(wanted, _)| wanted)
}

/// Reads a body, or the query where there is none.
///
/// # Errors
/// Why it cannot be read.
pub fn read(facts: &mut Facts, wanted: Wanted, body: &[u8]) -> Result<(), Wrong> {
    let without = body.is_empty();
    match wanted {
        Wanted::Graphql => {
            let mut documents = Vec::new();
            let mut parameters = facts.http.parameters.iter();
            documents.extend(
                parameters
                    .find_map(|pair| pair.strip_prefix("query="))
                    .map(str::to_owned),
            );
            let queries = facts
                .http
                .parameters
                .iter()
                .filter(|pair| pair.starts_with("query="));
            if queries.count() > 1 {
                return Err(Wrong::Unreadable("the query has two documents"));
            }
            if !without {
                let said = strict(body)?;
                let each = match &said {
                    Value::Array(each) => each.as_slice(),
                    one => std::slice::from_ref(one),
                };
                for one in each {
                    let document = one.get("query").and_then(Value::as_str);
                    let document =
                        document.ok_or(Wrong::Unreadable("the body names no document"))?;
                    documents.push(document.to_owned());
                }
            }
            facts.http.graphql = Some(documented(&documents)?);
        }
        Wanted::Mcp if without => {}
        Wanted::Mcp => {
            let said = strict(body)?;
            if !said.is_object() {
                return Err(Wrong::Unreadable("the body is not one message"));
            }
            let text = |pointer: &str| {
                let text = said.pointer(pointer).and_then(Value::as_str);
                text.unwrap_or_default().to_owned()
            };
            let name = match text("/params/name") {
                name if name.is_empty() => text("/params/uri"),
                name => name,
            };
            facts.http.mcp = Some(McpFacts {
                method: text("/method"),
                name,
            });
        }
        Wanted::Model if without => {}
        Wanted::Model => {
            let said = strict(body)?;
            let model = said.get("model").and_then(Value::as_str);
            facts.http.model = model
                .ok_or(Wrong::Unreadable("the body names no model"))?
                .to_owned();
        }
    }
    Ok(())
}

fn documented(documents: &[String]) -> Result<GraphqlFacts, Wrong> {
    let mut facts = GraphqlFacts::default();
    for document in documents {
        let read = graphql::read(document)
            .ok_or(Wrong::Unreadable("the GraphQL document cannot be read"))?;
        facts.operations.extend(read.operations);
        facts.fields.extend(read.fields);
    }
    Ok(facts)
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
            if !seen.insert(key.to_lowercase()) {
                return Err(serde::de::Error::custom("a key is said twice"));
            }
            map.insert(key, value);
        }
        Ok(Strict(Value::Object(map)))
    }
}

#[cfg(test)]
mod tests;
