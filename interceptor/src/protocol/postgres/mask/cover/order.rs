//! The order of an index: rows that are read from an index alone come in the order of what it holds, which may be
//! masked.
//!
//! An index is enough for a query where it holds all that the query asks for. So each that holds something
//! masked is asked for what it does not hold. Where that is not enough, as for a materialized view that was filled in
//! such an order, or a table that was put into it, what is shown is sorted by what is shown, and so is each view above
//! them, whatever it makes of the rows: a condition on it may be moved down to them.

mod alone;
mod laid;
mod sorted;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub(in super::super) use self::alone::SYSTEM;
use self::alone::{Asked, Views};
use super::expression::identifier;
use crate::masking::Mask;
use crate::protocol::postgres::mask::schema::{Column, Schema, Table, TiedBy};

/// What is asked of a relation that is read in the place of another, so that its rows come in no order of what is
/// masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Condition {
    /// ` WHERE …`, which is always true, or nothing.
    pub(in super::super) text: String,
    /// Whether it asks where a row lies, which takes a right of its own.
    pub(in super::super) asks_place: bool,
    /// Whether no condition is enough: what is shown is sorted by what is shown.
    pub(in super::super) sorts: bool,
}

impl Condition {
    fn sorted() -> Self {
        Self {
            sorts: true,
            ..Self::default()
        }
    }

    /// A query that shows `list`, which is of these columns, of `from`, which is called `"~"`.
    pub(in super::super) fn query<'c>(
        &self,
        (list, columns): (&str, impl Iterator<Item = &'c Column>),
        from: &str,
    ) -> String {
        let plain = format!("SELECT {list} FROM {from}{}", self.text);
        match self.sorts {
            // The server moves no condition below an `OFFSET`: there it would fail for the row that lies first.
            true => format!(
                "(SELECT * FROM ({plain}) AS \"~\"{} OFFSET 0)",
                sorted::by(columns)
            ),
            false => format!("({plain})"),
        }
    }

    /// Whether it asks for anything.
    pub(in super::super) fn asks(&self) -> bool {
        self.sorts || !self.text.is_empty()
    }
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
    /// Tables of which rows lie in the order of what is masked, or those of a child.
    laid: HashSet<u32>,
}

impl<'a> Orders<'a> {
    pub(super) fn new(schema: &'a Schema, found: &'a Found) -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for table in schema.tables.values() {
            for parent in &table.parents {
                children.entry(*parent).or_default().push(table.oid);
            }
        }
        let (mut held, mut laid) = (HashMap::new(), HashSet::new());
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
            let is_laid = |table: &&Table| laid::is_clustered(table, found.get(&table.oid));
            if family.iter().any(is_laid) {
                laid.insert(table.oid);
            }
        }
        Self {
            schema,
            found,
            held,
            laid,
        }
    }

    /// What is asked of each that no index which holds a masked column is enough for, and the views for which nothing
    /// is.
    pub(super) fn conditions(&self) -> (HashMap<u32, Condition>, HashSet<u32>) {
        let views = Views::new(self.schema, &self.held, &self.laid);
        let sorted = |table: &Table| {
            let can = views.is_bag(table) && sorted::can(self.schema, table);
            can.then(Condition::sorted)
        };
        let (mut conditions, mut closed) = (HashMap::new(), HashSet::new());
        let below = self.held.keys();
        let below = below.filter_map(|oid| self.schema.tables.get(oid));
        // What a materialized view is filled with is looked at, and its own indexes as those of a table.
        for table in below.chain(views.all()) {
            views.begin();
            let condition = match self.held.get(&table.oid) {
                _ if views.is_laid(table) => sorted(table),
                Some(held) => Some(self.of_table(table, held)),
                None if table.kind == b'm' => continue,
                None => self.of_view(&views, table).or_else(|| sorted(table)),
            };
            match condition {
                Some(condition) => {
                    conditions.insert(table.oid, condition);
                }
                None => {
                    closed.insert(table.oid);
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
                sorts: false,
            },
        }
    }

    /// One column is asked for, or all of them; `None` where these are not enough.
    fn of_view(&self, views: &Views<'_>, view: &Table) -> Option<Condition> {
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
        ..Condition::default()
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
    let ties = ties.filter(|tie| tie.by != TiedBy::Place);
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
