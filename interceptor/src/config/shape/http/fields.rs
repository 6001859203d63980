//! Which fields of requests' bodies policy sees.

use super::super::{Form, Key, Shape, may, must};
use crate::config::Http;
use crate::config::build;
use crate::config::document::Node;

/// Fields that are read of one request; each is looked for by itself.
const FIELDS_MAX: usize = 32;

pub(super) const FIELDS: Key = may(
    "fields",
    Shape::List(1, &READ),
    "none",
    "Paths whose requests are JSON, or calls of gRPC (`/package.Service/Method`, by `grpc`), of which policy sees fields.",
);

static READ: Shape = Shape::Keys(&[
    must(
        "path",
        Shape::Text(Form::RequestPath),
        "The path of the requests.",
    ),
    must(
        "read",
        Shape::List(1, &Shape::Text(Form::Field)),
        "The fields: keys with dots between, each by its name; elements of arrays have their array's name.",
    ),
]);

/// Fields of the bodies of requests to a path, as policy sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The path.
    pub path: String,
    /// Keys with dots between.
    pub read: Vec<String>,
}

pub(super) fn build(http: &Node) -> Vec<Fields> {
    let each = http.under("fields").map(Node::elements).unwrap_or_default();
    let fields = |node: &Node| {
        Some(Fields {
            path: build::text(Some(node), "path")?,
            read: build::texts(node, "read"),
        })
    };
    each.iter().filter_map(fields).collect()
}

/// What is wrong with them, and at which key.
pub(super) fn wrong(http: &Http) -> Option<&'static str> {
    let mut paths: Vec<&String> = http.fields.iter().map(|fields| &fields.path).collect();
    let otherwise = [&http.graphql, &http.mcp, &http.models];
    paths.extend(otherwise.into_iter().flatten());
    paths.sort_unstable();
    let is_twice = paths
        .windows(2)
        .any(|two| matches!(two, [one, other] if one == other));
    let mut read = http.fields.iter().flat_map(|fields| &fields.read);
    let names_many = read.any(|field| field.split('.').any(|key| key.contains('*')));
    match () {
        () if is_twice => {
            Some("expected paths that stand once, here and in `graphql`, `mcp` and `models`")
        }
        () if names_many => Some("expected each field by its name, without `*`"),
        () if http
            .fields
            .iter()
            .any(|fields| fields.read.len() > FIELDS_MAX) =>
        {
            Some("expected at most 32 fields of a path")
        }
        () => None,
    }
}
