//! What stands in the tree of a query.

use std::collections::HashSet;

use serde_json::Value;

/// What an expression names, and how much of a tree was looked at for that.
#[derive(Default)]
pub(super) struct Referred<'q> {
    pub(super) columns: Vec<Vec<Option<&'q str>>>,
    pub(super) nodes: usize,
}

/// The names of the columns that are evaluated in an expression; a star is no name. Labels that a query within gives
/// itself are `hidden`.
pub(super) fn referred<'q>(
    tree: &'q Value,
    hidden: &mut HashSet<&'q str>,
    found: &mut Referred<'q>,
) {
    found.nodes = found.nodes.saturating_add(1);
    match tree {
        Value::Object(fields) => {
            for (field, value) in fields {
                match field.as_str() {
                    "NullTest" => {}
                    "SelectStmt" => {
                        let before = hidden.clone();
                        labels(value, hidden);
                        referred(value, hidden, found);
                        *hidden = before;
                    }
                    "ColumnRef" => {
                        let fields: Vec<_> = items(value, "fields").iter().map(string).collect();
                        let first = fields.first().copied().flatten();
                        if first.is_some_and(|label| !hidden.contains(label)) {
                            found.columns.push(fields);
                        }
                    }
                    _ => referred(value, hidden, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|item| referred(item, hidden, found)),
        _ => {}
    }
}

/// All labels that stand in `tree`.
pub(super) fn labels<'q>(tree: &'q Value, found: &mut HashSet<&'q str>) {
    match tree {
        Value::Object(fields) => {
            for field in ["relname", "aliasname"] {
                found.extend(fields.get(field).and_then(Value::as_str));
            }
            fields.values().for_each(|value| labels(value, found));
        }
        Value::Array(all) => all.iter().for_each(|item| labels(item, found)),
        _ => {}
    }
}

/// What an expression calls outside of queries of its own. What is over a window counts as something unknown.
pub(super) fn called<'q>(tree: &'q Value, calls: &mut Vec<&'q str>) {
    match tree {
        Value::Object(fields) => {
            for (field, value) in fields {
                match field.as_str() {
                    "SelectStmt" => continue,
                    "JsonArrayAgg" | "JsonObjectAgg" => calls.push("json_agg"),
                    "FuncCall" if part(value, "over").is_some() => calls.push(""),
                    // One that is not the server's own is unknown, whatever it is called.
                    "FuncCall" => calls.push(builtin(value).unwrap_or_default()),
                    _ => {}
                }
                called(value, calls);
            }
        }
        Value::Array(all) => all.iter().for_each(|item| called(item, calls)),
        _ => {}
    }
}

/// The name of a function that is called, where it is the server's own: another one has its schema before it.
pub(in super::super) fn builtin(call: &Value) -> Option<&str> {
    match items(call, "funcname") {
        [name] => string(name),
        [schema, name] if string(schema) == Some("pg_catalog") => string(name),
        _ => None,
    }
}

/// The queries in an expression, without those in them or in `FROM`.
pub(super) fn sublinks<'q>(tree: &'q Value, links: &mut Vec<&'q Value>) {
    match tree {
        Value::Object(fields) => {
            for (field, value) in fields {
                match field.as_str() {
                    "SubLink" => links.push(value),
                    "SelectStmt" => {}
                    _ => sublinks(value, links),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|item| sublinks(item, links)),
        _ => {}
    }
}

pub(super) fn kind(of: impl Into<i32>) -> i64 {
    of.into().into()
}

/// A field that is there.
pub(in super::super) fn part<'q>(of: &'q Value, field: &str) -> Option<&'q Value> {
    of.get(field).filter(|value| !value.is_null())
}

pub(in super::super) fn items<'q>(of: &'q Value, field: &str) -> &'q [Value] {
    let items = of.get(field).and_then(Value::as_array);
    items.map_or(&[], Vec::as_slice)
}

pub(super) fn word<'q>(of: &'q Value, field: &str) -> Option<&'q str> {
    of.get(field).and_then(Value::as_str)
}

/// The text of a node that is a string.
pub(in super::super) fn string(node: &Value) -> Option<&str> {
    node.pointer("/node/String/sval").and_then(Value::as_str)
}
