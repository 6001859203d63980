//! The order of an index: rows that are read from an index alone come in the order of what it holds, which may be
//! masked.
//!
//! An index is enough for a query where it holds all that the query asks for. So each that holds something
//! masked is asked for what it does not hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::expression::identifier;
use crate::masking::Mask;
use crate::protocol::postgres::mask::schema::{Schema, Table};

/// What stands behind a relation that is read in the place of another: a condition that is always true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Condition {
    /// ` WHERE …`, or nothing.
    pub(in super::super) text: String,
    /// Whether it asks where a row lies, which takes a right of its own.
    pub(in super::super) asks_place: bool,
}

/// A condition that no index which holds a masked column is enough for.
pub(super) fn condition(
    schema: &Schema,
    children: &HashMap<u32, Vec<u32>>,
    table: &Table,
    found: &BTreeMap<u32, BTreeMap<i16, Mask>>,
) -> Condition {
    let family = family(schema, children, table);
    // Of what is elsewhere nothing is known but its columns, and where a row lies it does not say.
    let is_elsewhere = |table: &&Table| table.kind == b'f';
    if !matches!(table.kind, b'r' | b'p' | b'm') || family.iter().any(is_elsewhere) {
        return Condition::default();
    }
    let held: Vec<BTreeSet<&str>> = family
        .iter()
        .flat_map(|table| held(table, found.get(&table.oid)))
        .collect();
    let masks = found.get(&table.oid);
    let is_shown = |number: &i16| masks.is_none_or(|masks| !masks.contains_key(number));
    let shown = table
        .columns
        .iter()
        .filter(|column| is_shown(&column.number));
    let shown: Vec<&str> = shown.map(|column| column.name.as_str()).collect();
    let beside = |held: &[BTreeSet<&str>]| {
        let is_beside = |name: &&&str| held.iter().all(|held| !held.contains(**name));
        shown.iter().find(is_beside).copied()
    };
    if held.is_empty() {
        return Condition::default();
    }
    if let Some(one) = beside(&held) {
        return asks(&BTreeSet::from([one]));
    }
    let each: Option<BTreeSet<&str>> = held
        .iter()
        .map(|held| beside(std::slice::from_ref(held)))
        .collect();
    match each {
        Some(each) => asks(&each),
        None => Condition {
            text: " WHERE \"~\".ctid OPERATOR(pg_catalog.<>) CAST('(0,0)' AS pg_catalog.tid)"
                .to_owned(),
            asks_place: true,
        },
    }
}

/// Asks for these columns, whatever they hold. No planner knows the outcome, and each takes it that hardly any
/// row falls out.
fn asks(columns: &BTreeSet<&str>) -> Condition {
    let asked: Vec<String> = columns
        .iter()
        .map(|column| {
            format!(
                "pg_catalog.num_nulls(\"~\".{}) OPERATOR(pg_catalog.<>) (-1)",
                identifier(column)
            )
        })
        .collect();
    Condition {
        text: format!(" WHERE {}", asked.join(" AND ")),
        asks_place: false,
    }
}

/// The relation, and all that inherits from it.
fn family<'a>(
    schema: &'a Schema,
    children: &HashMap<u32, Vec<u32>>,
    table: &'a Table,
) -> Vec<&'a Table> {
    let mut found = BTreeSet::from([table.oid]);
    let mut family = vec![table];
    let mut at = 0;
    while let Some(parent) = family.get(at) {
        let below = children.get(&parent.oid).into_iter().flatten();
        family.extend(
            below
                .filter(|oid| found.insert(**oid))
                .filter_map(|oid| schema.tables.get(oid)),
        );
        at = at.saturating_add(1);
    }
    family
}

/// What each index of a table holds together, where something of that is masked.
fn held<'a>(
    table: &'a Table,
    masks: Option<&'a BTreeMap<i16, Mask>>,
) -> impl Iterator<Item = BTreeSet<&'a str>> {
    let is_masked =
        move |number: &i16| *number == 0 || masks.is_some_and(|masks| masks.contains_key(number));
    let ties = table.ties.values();
    ties.filter(move |tie| tie.columns.iter().any(is_masked))
        .map(move |tie| {
            let is_held = |number: i16| tie.columns.contains(&0) || tie.columns.contains(&number);
            let columns = table.columns.iter();
            columns
                .filter(|column| is_held(column.number))
                .map(|column| column.name.as_str())
                .collect()
        })
}
