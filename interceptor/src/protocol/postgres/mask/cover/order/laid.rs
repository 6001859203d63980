//! Relations of which the rows lie in the order of something masked, so that each way of reading them shows it; and
//! views that show the same rows, whichever way the server reads what is below.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::alone::tree::{builtin, items, part};
use super::alone::{DEPTH_MAX, Views};
use crate::masking::Mask;
use crate::protocol::postgres::mask::functions::is_steady;
use crate::protocol::postgres::mask::schema::{Table, TiedBy};

/// Whether a table was put into the order of an index that holds something masked.
pub(super) fn is_clustered(table: &Table, masks: Option<&BTreeMap<i16, Mask>>) -> bool {
    let is_masked = |number: &i16| {
        masks.is_some_and(|masks| !masks.is_empty() && (*number == 0 || masks.contains_key(number)))
    };
    let mut ties = table.ties.values();
    ties.any(|tie| tie.by == TiedBy::Place && tie.columns.iter().any(is_masked))
}

impl Views<'_> {
    /// Whether the rows of a relation lie in the order of something masked, or those of one that a view reads.
    pub(super) fn is_laid(&self, table: &Table) -> bool {
        self.lies(table, 0)
    }

    fn lies(&self, table: &Table, depth: usize) -> bool {
        if self.laid.contains(&table.oid) || depth > DEPTH_MAX {
            return true;
        }
        if !table.is_view() || !self.queries.contains_key(&table.oid) {
            return false;
        }
        let known = self.lying.borrow().get(&table.oid).copied();
        known.unwrap_or_else(|| {
            // Where it reads itself, which no server lets it, it is.
            self.lying.borrow_mut().insert(table.oid, true);
            let below = table.depends.iter();
            let mut below = below.filter_map(|(oid, _)| self.schema.tables.get(oid));
            let lies = below
                .any(|below| self.lies(below, depth.saturating_add(1)) || self.finds(table, below))
                || table.kind == b'm' && !self.is_filled_plainly(table);
            self.lying.borrow_mut().insert(table.oid, lies);
            lies
        })
    }

    /// Whether rows of a table may be found in such an order by what a view, or a condition on it, looks at.
    fn finds(&self, view: &Table, table: &Table) -> bool {
        let by = self.by.get(&table.oid);
        by.is_some_and(|by| {
            let query = self.queries.get(&view.oid);
            query.is_none_or(|query| names(query, by))
        })
    }

    /// Whether a view has the same rows in whichever order those below it come, so that it may be sorted.
    pub(super) fn is_bag(&self, view: &Table) -> bool {
        let mut seen = HashSet::new();
        let mut wanted = vec![view];
        while let Some(view) = wanted.pop() {
            // Where no index below it holds anything masked, any order is good.
            let Some(query) = self.queries.get(&view.oid) else {
                continue;
            };
            if !seen.insert(view.oid) {
                continue;
            }
            let mut bags = self.bags.borrow_mut();
            let known = bags.entry(view.oid);
            if !*known.or_insert_with(|| query.is_object() && is_bag(query)) {
                return false;
            }
            let below = view.depends.iter();
            let below = below.filter_map(|(oid, _)| self.schema.tables.get(oid));
            wanted.extend(below.filter(|table| table.is_view()));
        }
        true
    }
}

/// Whether a query names one of these columns anywhere, or may by other names.
fn names(tree: &Value, by: &BTreeSet<&str>) -> bool {
    match tree {
        Value::Object(fields) => fields.iter().any(|(field, value)| match field.as_str() {
            "sval" => value.as_str().is_some_and(|name| by.contains(name)),
            "colnames" | "aliascolnames" => value.as_array().is_some_and(|all| !all.is_empty()),
            "AStar" => true,
            _ => names(value, by),
        }),
        Value::Array(all) => all.iter().any(|item| names(item, by)),
        _ => false,
    }
}

/// Whether nothing in a query takes some rows of many, or puts them one after the other.
fn is_bag(tree: &Value) -> bool {
    match tree {
        Value::Object(fields) => fields.iter().all(|(field, value)| {
            let is_good = match field.as_str() {
                "limit_count" | "limit_offset" => value.is_null(),
                "distinct_clause" => items(tree, field)
                    .iter()
                    .all(|one| one.get("node").is_none_or(Value::is_null)),
                "FuncCall" => is_plain_call(value),
                "SubLink" => value.get("sub_link_type").and_then(Value::as_i64) != Some(ARRAY),
                "RangeTableSample" | "JsonArrayAgg" | "JsonObjectAgg" => false,
                _ => true,
            };
            is_good && is_bag(value)
        }),
        Value::Array(all) => all.iter().all(is_bag),
        _ => true,
    }
}

/// `ARRAY(SELECT …)`.
const ARRAY: i64 = pg_query::protobuf::SubLinkType::ArraySublink as i64;

fn is_plain_call(call: &Value) -> bool {
    let name = builtin(call);
    part(call, "over").is_none()
        && name.is_some_and(|name| {
            let collects = name.contains("_agg") || matches!(name, "xmlagg" | "any_value" | "mode");
            is_steady(name) && !collects
        })
}
