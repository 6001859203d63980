//! Relations that hold nothing masked, but tell of what does: by foreign keys, triggers and partitions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::Cover;
use crate::masking::Masked;
use crate::protocol::postgres::mask::schema::{Schema, Table, TiedBy};

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

/// What a row of `table` is written through, where that is among `found`: what it inherits from.
fn written_through(table: &Table, found: &HashSet<u32>) -> Vec<u32> {
    match found.contains(&table.oid) {
        true => table.parents.clone(),
        false => Vec::new(),
    }
}

/// `from`, and all whose writes write to these.
pub(super) fn upwards(schema: &Schema, from: HashSet<u32>) -> HashSet<u32> {
    closure(schema, from, written_through)
}

fn upwards_and_referred(schema: &Schema, from: HashSet<u32>) -> HashSet<u32> {
    closure(schema, from, |table, found| {
        [referred_by(table, found), written_through(table, found)].concat()
    })
}

/// Tables whose writes make the server speak of rows of masked relations, and what is masked there: rows that
/// refer to theirs are changed with them, those of their children with theirs, and a trigger may read anything.
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
    let tables = schema.tables.values();
    let speaks = tables.filter(|table| table.has_triggers || table.computes);
    let mut from: HashSet<u32> = speaks.map(|table| table.oid).collect();
    // What a table is partitioned by is asked of each row of a partition.
    let parted = from.iter().copied().filter(|oid| {
        let table = schema.tables.get(oid);
        table.is_some_and(|table| table.split.contains(&0))
    });
    from.extend(downwards(schema, parted.collect()));
    from.extend(covers.keys());
    upwards_and_referred(schema, from)
        .into_iter()
        .map(|oid| (oid, Arc::clone(&masked)))
        .collect()
}

/// Tables that a masked column refers to, or what does, each with the names of its keys and of its children's.
pub(super) fn referred(schema: &Schema, covers: &Covers) -> HashMap<u32, HashSet<String>> {
    let mut from = HashSet::new();
    for (oid, cover) in covers {
        let Some(table) = schema.tables.get(oid) else {
            continue;
        };
        // A foreign key that acts sets its column, and what ties that to a masked one is asked then.
        let is_masked = |column: &i16| cover.masks.contains_key(column);
        let is_tied = |column: &i16, other: &u32| {
            table.ties.values().any(|tie| {
                let all = tie.columns.contains(&0);
                let may = match tie.by {
                    TiedBy::Order | TiedBy::Place => false,
                    TiedBy::Index => table.changed_by.contains(other),
                    _ => true,
                };
                may && (all || tie.columns.contains(column) && tie.columns.iter().any(is_masked))
            })
        };
        let references = table.references.iter();
        let asking =
            references.filter(|(column, other, _)| is_masked(column) || is_tied(column, other));
        from.extend(asking.map(|(_, other, _)| *other));
    }
    keys_of(schema, from)
}

/// Tables of which a row that goes, or a key that changes, changes rows of others, where a default or a
/// constraint runs a function, or where `stirs` says that it shows: each with the names of its keys and of its children's.
pub(super) fn stirring(
    schema: &Schema,
    stirs: impl Fn(&Table) -> bool,
) -> HashMap<u32, HashSet<String>> {
    let tables = schema.tables.values();
    let tables = tables.filter(|table| table.computes || stirs(table));
    let from = tables.flat_map(|table| table.changed_by.iter().copied());
    keys_of(schema, from.collect())
}

/// What is referred to by `from`, again and again, each with the names of its keys and of its children's.
fn keys_of(schema: &Schema, from: HashSet<u32>) -> HashMap<u32, HashSet<String>> {
    let found = upwards_and_referred(schema, from);
    let mut referred: HashMap<u32, HashSet<String>> =
        found.iter().map(|oid| (*oid, HashSet::new())).collect();
    for table in schema.tables.values() {
        let keys = table.columns.iter();
        let keys = keys.filter(|column| table.guards(column.number));
        let keys: Vec<&String> = keys.map(|column| &column.name).collect();
        for oid in upwards(schema, HashSet::from([table.oid])) {
            if let Some(names) = referred.get_mut(&oid) {
                names.extend(keys.iter().copied().cloned());
            }
        }
    }
    referred
}

/// Tables to which a write may fail for what a masked column holds: a constraint, an index or an expression of
/// theirs, or of a child's, is about it. Each with where those are.
pub(super) fn guarded(schema: &Schema, covers: &Covers) -> HashMap<u32, BTreeSet<u32>> {
    let mut guarded: HashMap<u32, BTreeSet<u32>> = HashMap::new();
    for (oid, cover) in covers {
        let Some(table) = schema.tables.get(oid) else {
            continue;
        };
        let is_about = |column: &i16| cover.masks.contains_key(column);
        let is_guarded = cover.masks.keys().any(|column| table.guards(*column))
            || table.indexes(is_about)
            || table.generated.iter().any(|(_, from)| is_about(from));
        if is_guarded {
            for above in upwards(schema, HashSet::from([*oid])) {
                guarded.entry(above).or_default().insert(*oid);
            }
        }
    }
    guarded
}

/// The names of the columns by which each table, or one of its family, is partitioned.
pub(super) fn moving(schema: &Schema) -> HashMap<u32, HashSet<String>> {
    let mut moving: HashMap<u32, HashSet<String>> = HashMap::new();
    for table in schema
        .tables
        .values()
        .filter(|table| !table.split.is_empty())
    {
        let by = |number: &i16| table.split.contains(&0) || table.split.contains(number);
        let columns = table.columns.iter().filter(|column| by(&column.number));
        let names: Vec<&String> = columns.map(|column| &column.name).collect();
        let mut family = upwards(schema, HashSet::from([table.oid]));
        family.extend(downwards(schema, HashSet::from([table.oid])));
        for oid in family {
            let known = moving.entry(oid).or_default();
            known.extend(names.iter().copied().cloned());
        }
    }
    moving
}

/// `from`, and all that inherits from these.
fn downwards(schema: &Schema, from: HashSet<u32>) -> HashSet<u32> {
    closure(schema, from, |table, found| {
        match table.parents.iter().any(|parent| found.contains(parent)) {
            true => vec![table.oid],
            false => Vec::new(),
        }
    })
}

/// Views that show who locked rows of what a masked column refers to.
pub(super) fn locked(schema: &Schema, referred: &HashMap<u32, HashSet<String>>) -> Vec<u32> {
    let shows = |table: &&Table| {
        let mut below = table.depends.iter();
        table.is_view() && below.any(|(oid, column)| is_lock(*column) && referred.contains_key(oid))
    };
    let views = schema.tables.values().filter(shows);
    views.map(|table| table.oid).collect()
}

/// `from`, and the views that show something of these.
pub(super) fn seen(schema: &Schema, from: HashSet<u32>) -> HashSet<u32> {
    closure(schema, from, |table, found| {
        let reads = table.depends.iter().any(|(oid, _)| found.contains(oid));
        match table.is_view() && reads {
            true => vec![table.oid],
            false => Vec::new(),
        }
    })
}

/// Whether a column of the system, by its number (`access/sysattr.h`), tells who locked a row: `cmin`, `xmax`
/// and `cmax`.
fn is_lock(column: i16) -> bool {
    (-5..=-3).contains(&column)
}

/// Views, again and again, of which a write may write to one of these relations.
pub(super) fn through(schema: &Schema, to: impl Fn(&Table) -> bool) -> HashSet<u32> {
    let from = schema.tables.values().filter(|table| to(table));
    let from = from.map(|table| table.oid).collect();
    let mut found = closure(schema, from, |table, found| {
        let reads = table.depends.iter().any(|(oid, _)| found.contains(oid));
        match table.kind == b'v' && reads {
            true => vec![table.oid],
            false => Vec::new(),
        }
    });
    found.retain(|oid| {
        let table = schema.tables.get(oid);
        table.is_some_and(|table| table.kind == b'v' && !to(table))
    });
    found
}

/// Tables to which a write runs a function of their own in a default or a constraint, or in a child's.
pub(super) fn computing(schema: &Schema) -> HashSet<u32> {
    let tables = schema.tables.values().filter(|table| table.computes);
    upwards(schema, tables.map(|table| table.oid).collect())
}

/// Tables that are partitioned by a masked column, their partitions, and what these are partitions of: where a
/// row is tells what it holds.
pub(super) fn split(schema: &Schema, covers: &Covers) -> HashSet<u32> {
    let by = |table: &&Table| {
        covers.get(&table.oid).is_some_and(|cover| {
            let mut split = table.split.iter();
            split.any(|column| *column == 0 || cover.masks.contains_key(column))
        })
    };
    let from = schema.tables.values().filter(by).map(|table| table.oid);
    let from: HashSet<u32> = from.collect();
    let mut split = downwards(schema, from.clone());
    split.extend(upwards(schema, from));
    split
}
