//! Writes to a relation of which rows may be found in the order of something masked.
//!
//! In that order they would be given back, and written anew; and the first for which something fails would tell of it. So
//! no such index is to find them.

use std::collections::{BTreeSet, HashSet};

use pg_query::protobuf::{ColumnRef, RangeVar};
use serde_json::Value;

use crate::protocol::postgres::facts::draft::{Draft, Write};
use crate::protocol::postgres::mask::last;
use crate::protocol::postgres::mask::resolve::Veto;
use crate::protocol::postgres::mask::schema::Table;

/// The columns `by` which rows are found, wherever the conditions of a write to `relation` name them.
pub(in super::super) fn found<'a>(
    draft: &Draft<'a>,
    relation: &RangeVar,
    (table, by): (&Table, &BTreeSet<String>),
) -> Result<Vec<&'a ColumnRef>, Veto> {
    let mut places = HashSet::new();
    for write in draft.writes.iter().copied() {
        let written = write.relation();
        if !written.is_some_and(|written| std::ptr::eq(written, relation)) {
            continue;
        }
        let (condition, others) = match write {
            Write::Insert(_) | Write::Copy(_) => continue,
            Write::Update(update) => (
                &update.where_clause,
                serde_json::to_value(&update.from_clause),
            ),
            Write::Delete(delete) => (
                &delete.where_clause,
                serde_json::to_value(&delete.using_clause),
            ),
            Write::Merge(merge) => (
                &merge.join_condition,
                serde_json::to_value(&merge.source_relation),
            ),
        };
        let condition = serde_json::to_value(condition);
        let is_clear = match (condition, others) {
            (Ok(condition), Ok(others)) => {
                columns(&condition, by, &mut places) && !is_lateral(&others)
            }
            _ => false,
        };
        if !is_clear {
            return Err(Veto::never(&format!(
                "changing rows of {}, which an index finds in the order of what is masked, by a condition in this form",
                table.name
            )));
        }
    }
    let named = draft.columns.iter().copied().filter(|column| {
        places.contains(&i64::from(column.location))
            && last(&column.fields).is_some_and(|name| by.contains(name))
    });
    Ok(named.collect())
}

/// Where a tree names columns; false where it may name one of these otherwise: by a row's field, or a star.
fn columns(tree: &Value, by: &BTreeSet<String>, places: &mut HashSet<i64>) -> bool {
    match tree {
        Value::Object(fields) => fields.iter().all(|(field, value)| match field.as_str() {
            "ColumnRef" => {
                places.extend(value.get("location").and_then(Value::as_i64));
                let names = value.get("fields").and_then(Value::as_array);
                let names = names.map_or(&[][..], Vec::as_slice);
                let is_star = |name: &Value| name.pointer("/node/AStar").is_some();
                !names.iter().any(is_star) || names.len() == 1
            }
            "indirection" => {
                let steps = value.as_array().into_iter().flatten();
                let mut fields =
                    steps.filter_map(|step| step.pointer("/node/String/sval")?.as_str());
                !fields.any(|name| by.contains(name)) && columns(value, by, places)
            }
            _ => columns(value, by, places),
        }),
        Value::Array(all) => all.iter().all(|item| columns(item, by, places)),
        _ => true,
    }
}

/// Whether a query in it may name what is written.
fn is_lateral(tree: &Value) -> bool {
    match tree {
        Value::Object(fields) => fields.iter().any(|(field, value)| {
            field == "lateral" && value.as_bool() == Some(true) || is_lateral(value)
        }),
        Value::Array(all) => all.iter().any(is_lateral),
        _ => false,
    }
}
