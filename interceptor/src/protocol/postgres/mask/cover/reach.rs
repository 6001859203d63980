//! Relations that hold nothing masked, but tell of what does: by foreign keys, triggers and partitions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Cover;
use crate::masking::Masked;
use crate::protocol::postgres::mask::schema::{Schema, Table};

type Covers = HashMap<u32, Cover>;

/// `from`, and what each of these leads to, again and again.
fn closure(
    schema: &Schema,
    from: HashSet<u32>,
    leads: impl Fn(&Table, &HashSet<u32>) -> Vec<u32>,
) -> HashSet<u32> {
    let mut found = from;
    loop {
        let more: Vec<u32> = schema
            .tables
            .values()
            .flat_map(|table| leads(table, &found))
            .filter(|oid| !found.contains(oid))
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn referred_by(table: &Table, found: &HashSet<u32>) -> Vec<u32> {
    match found.contains(&table.oid) {
        true => table
            .references
            .iter()
            .map(|(_, other, _)| *other)
            .collect(),
        false => Vec::new(),
    }
}

/// Tables whose writes make the server speak of rows of masked relations, and what is masked there: rows that
/// refer to theirs are changed with them, and a trigger may read anything.
pub(super) fn reaching(schema: &Schema, covers: &Covers) -> HashMap<u32, Arc<[Masked]>> {
    if covers.is_empty() {
        return HashMap::new();
    }
    let mut masked: Vec<Masked> = covers
        .values()
        .flat_map(|cover| cover.masked.iter().cloned())
        .collect();
    masked.sort_unstable();
    let masked: Arc<[Masked]> = masked.into();
    let from = covers.keys().copied().collect();
    let mut reaching = closure(schema, from, referred_by);
    let triggers = schema.tables.values().filter(|table| table.has_triggers);
    reaching.extend(triggers.map(|table| table.oid));
    reaching
        .into_iter()
        .map(|oid| (oid, Arc::clone(&masked)))
        .collect()
}

/// Tables that a masked column refers to, or what does.
pub(super) fn referred(schema: &Schema, covers: &Covers) -> HashSet<u32> {
    let mut from = HashSet::new();
    for (oid, cover) in covers {
        let references = schema.tables.get(oid).map(|table| table.references.iter());
        for (column, other, _) in references.into_iter().flatten() {
            if cover.masks.contains_key(column) {
                from.insert(*other);
            }
        }
    }
    closure(schema, from, referred_by)
}

/// Tables that are partitioned by a masked column, and their partitions: where a row is tells what it holds.
pub(super) fn split(schema: &Schema, covers: &Covers) -> HashSet<u32> {
    let by = |table: &&Table| {
        covers.get(&table.oid).is_some_and(|cover| {
            let mut split = table.split.iter();
            split.any(|column| *column == 0 || cover.masks.contains_key(column))
        })
    };
    let from = schema.tables.values().filter(by).map(|table| table.oid);
    closure(schema, from.collect(), |table, found| {
        match table.parents.iter().any(|parent| found.contains(parent)) {
            true => vec![table.oid],
            false => Vec::new(),
        }
    })
}
