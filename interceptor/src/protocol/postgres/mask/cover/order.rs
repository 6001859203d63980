//! The order of an index: rows that are read from an index alone come in the order of what it holds, which may be
//! masked.
//!
//! An index is enough for a query where it holds all that the query asks for. So each that holds something
//! masked is asked for what it does not hold.

mod alone;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use self::alone::{Asked, Views};
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

/// What each index of a table and of what inherits from it holds together, where something of that is masked.
type Held<'a> = Vec<BTreeSet<&'a str>>;

type Found = BTreeMap<u32, BTreeMap<i16, Mask>>;

/// Relations whose rows may come in the order of what is masked, and what is asked of each so that they do not.
pub(super) struct Orders<'a> {
    schema: &'a Schema,
    found: &'a Found,
    /// By table.
    held: HashMap<u32, Held<'a>>,
}

impl<'a> Orders<'a> {
    pub(super) fn new(schema: &'a Schema, found: &'a Found) -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for table in schema.tables.values() {
            for parent in &table.parents {
                children.entry(*parent).or_default().push(table.oid);
            }
        }
        let mut held = HashMap::new();
        let stored = |table: &&Table| matches!(table.kind, b'r' | b'p' | b'm');
        for table in schema.tables.values().filter(stored) {
            let is_alone = !children.contains_key(&table.oid);
            if is_alone && !found.contains_key(&table.oid) {
                continue;
            }
            let family = family(schema, &children, table);
            // Of what is elsewhere nothing is known but its columns, and where a row lies it does not say.
            if family.iter().any(|table| table.kind == b'f') {
                continue;
            }
            let of = |table: &&'a Table| self::held(table, found.get(&table.oid));
            let all: Held<'_> = family.iter().flat_map(of).collect();
            if !all.is_empty() {
                held.insert(table.oid, all);
            }
        }
        Self {
            schema,
            found,
            held,
        }
    }

    /// A condition for each that no index which holds a masked column is enough for, and the views for which there
    /// is none.
    pub(super) fn conditions(&self) -> (HashMap<u32, Condition>, HashSet<u32>) {
        let tables = self.held.iter();
        let tables = tables.filter_map(|(oid, held)| Some((self.schema.tables.get(oid)?, held)));
        let mut conditions: HashMap<u32, Condition> = tables
            .map(|(table, held)| (table.oid, self.of_table(table, held)))
            .collect();
        let mut closed = HashSet::new();
        let views = Views::new(self.schema, &self.held);
        for view in views.all() {
            match self.of_view(&views, view) {
                Some(condition) => {
                    conditions.insert(view.oid, condition);
                }
                None => {
                    closed.insert(view.oid);
                }
            }
        }
        (conditions, closed)
    }

    fn of_table(&self, table: &Table, held: &Held<'_>) -> Condition {
        let shown = self.shown(table);
        let beside = |held: &[BTreeSet<&str>]| {
            let is_beside = |name: &&&str| held.iter().all(|held| !held.contains(**name));
            let mut shown = shown.iter().map(|(_, name)| name);
            shown.find(is_beside).copied()
        };
        if let Some(one) = beside(held) {
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

    /// One column is asked for, or all of them; `None` where these are not enough.
    fn of_view(&self, views: &Views<'_>, view: &Table) -> Option<Condition> {
        views.begin();
        if views.is_read(view, &Asked::new()) {
            return Some(Condition::default());
        }
        let shown = self.shown(view);
        let is_enough = |(place, _): &&(usize, &str)| views.is_read(view, &Asked::from([*place]));
        if let Some((_, name)) = shown.iter().find(is_enough) {
            return Some(asks(&BTreeSet::from([*name])));
        }
        let all = shown.iter().map(|(place, _)| *place).collect();
        let names = shown.iter().map(|(_, name)| *name).collect();
        views.is_read(view, &all).then(|| asks(&names))
    }

    /// The columns of a relation that are shown, with their places.
    fn shown<'t>(&self, table: &'t Table) -> Vec<(usize, &'t str)> {
        let masks = self.found.get(&table.oid);
        let is_shown = |number: &i16| masks.is_none_or(|masks| !masks.contains_key(number));
        let columns = table.columns.iter().enumerate();
        columns
            .filter(|(_, column)| is_shown(&column.number))
            .map(|(place, column)| (place, column.name.as_str()))
            .collect()
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
