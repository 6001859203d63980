//! The order of an index: rows that are read from an index alone, or found by it, come in the order of what it holds,
//! which may be masked.
//!
//! An index is enough for a query where it holds all that the query asks for. So each that holds something
//! masked is asked for what it does not hold. By one that is ordered by other columns, too, or that is for some rows
//! alone, rows are found for a condition on these, or for an order of them: a statement that names one has what is shown
//! sorted by what is shown, or these columns in a form that no index knows. Sorted is all that reads a materialized view that was filled in such an order, a table that was
//! put into it, one that another server reads, or a view above them, whatever it makes of the rows: a condition on it
//! may be moved down to them.

mod alone;
mod found;
mod laid;
mod sorted;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub(in super::super) use self::alone::SYSTEM;
use self::alone::{Asked, Views};
use super::expression::identifier;
use crate::masking::Mask;
use crate::protocol::postgres::mask::schema::{Column, Schema, Table};

/// What is asked of a relation that is read in the place of another, so that its rows come in no order of what is
/// masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Condition {
    /// ` WHERE …`, which is always true, or nothing.
    pub(in super::super) text: String,
    /// Whether it asks where a row lies, which takes a right of its own.
    pub(in super::super) asks_place: bool,
    /// Where that is not enough.
    pub(in super::super) order: Order,
}

/// Whether rows may come in the order of something masked, whatever is asked for beside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Order {
    /// They do not.
    #[default]
    None,
    /// Where a statement does more with one of these columns than to show it.
    Found(BTreeSet<String>),
    /// They lie in it.
    Laid,
}

/// How a relation is read in the place of which another stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Way {
    /// As it comes.
    Plain,
    /// By no index of the columns by which its rows are found in such an order.
    Blind,
    /// Sorted by what is shown; conditions choose rows before that.
    Sorted,
    /// The same, and no condition is looked at before that: it may fail for the row that comes first.
    Fenced,
}

impl Condition {
    fn laid() -> Self {
        Self {
            order: Order::Laid,
            ..Self::default()
        }
    }

    /// A query that shows `list`, which is of these columns, of `from`, which is called `"~"`.
    pub(in super::super) fn query<'c>(
        &self,
        (list, columns): (&str, impl Iterator<Item = &'c Column>),
        from: &str,
        way: Way,
    ) -> String {
        let plain = || format!("(SELECT {list} FROM {from}{})", self.text);
        // The server moves no condition below an `OFFSET`.
        let fence = match way {
            Way::Plain => return plain(),
            Way::Blind => {
                let shown: Vec<String> = columns.map(|column| self.blinded(column)).collect();
                return format!("(SELECT {} FROM {} AS \"~\")", shown.join(", "), plain());
            }
            Way::Sorted => "",
            Way::Fenced => " OFFSET 0",
        };
        let by = sorted::by(columns);
        format!("(SELECT * FROM (SELECT {list} FROM {from}) AS \"~\"{by}{fence})")
    }

    /// A column as it is shown where no index is to find rows by it.
    fn blinded(&self, column: &Column) -> String {
        let name = identifier(&column.name);
        match &self.order {
            Order::Found(by) if by.contains(&column.name) => {
                format!("{} AS {name}", blind(&format!("\"~\".{name}")))
            }
            _ => format!("\"~\".{name}"),
        }
    }

    /// Whether it asks for anything.
    pub(in super::super) fn asks(&self) -> bool {
        self.order != Order::None || !self.text.is_empty()
    }
}

/// The value of a column in a form that no index knows, and no planner makes plainer. Its type stays what it is.
pub(in super::super) fn blind(column: &str) -> String {
    format!(
        "(CASE WHEN pg_catalog.num_nulls({column}) OPERATOR(pg_catalog.<>) (-1) THEN {column} ELSE {column} END)"
    )
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
    /// The columns by which rows of a table, or of a child, are found in such an order, by table.
    by: HashMap<u32, BTreeSet<&'a str>>,
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
        let mut orders = Self {
            schema,
            found,
            held: HashMap::new(),
            by: HashMap::new(),
            laid: HashSet::new(),
        };
        let stored = |table: &&Table| matches!(table.kind, b'r' | b'p' | b'm' | b'f');
        for table in schema.tables.values().filter(stored) {
            if found.contains_key(&table.oid) || children.contains_key(&table.oid) {
                orders.of_family(table, &family(schema, &children, table));
            }
        }
        orders
    }

    fn of_family(&mut self, table: &'a Table, family: &[&'a Table]) {
        let mut held = Held::new();
        let mut by = BTreeSet::new();
        for one in family {
            let mut own = BTreeSet::new();
            for shows in found::shown(one, self.found.get(&one.oid)) {
                held.push(shows.holds);
                own.extend(shows.by);
            }
            // One that is made of another may be that one by another name.
            let made = |(made, from): &(i16, i16)| {
                let from = named(one, *from).filter(|name| own.contains(name));
                from.and_then(|_| named(one, *made))
            };
            let made: Vec<&str> = one.generated.iter().filter_map(made).collect();
            by.extend(own.into_iter().chain(made));
        }
        let is_foreign = |table: &&Table| table.kind == b'f';
        let is_masked = |table: &&Table| {
            let masks = self.found.get(&table.oid);
            masks.is_some_and(|masks| !masks.is_empty())
        };
        let is_laid = |table: &&Table| {
            laid::is_clustered(table, self.found.get(&table.oid))
                // In which order another server gives rows is not known.
                || is_foreign(table) && is_masked(table)
        };
        // Where a row lies what is elsewhere does not say.
        let unasked = !held.is_empty() && family.iter().any(is_foreign);
        // What a row-security policy looks at every statement looks at.
        let is_sifted = table.sifted.iter().any(|number| match number {
            0 => !by.is_empty(),
            number => named(table, *number).is_some_and(|name| by.contains(name)),
        });
        if unasked || is_sifted || family.iter().any(is_laid) {
            self.laid.insert(table.oid);
        }
        if !held.is_empty() {
            self.held.insert(table.oid, held);
        }
        if !by.is_empty() {
            self.by.insert(table.oid, by);
        }
    }

    /// What is asked of each that no index which holds a masked column is enough for, and the views for which nothing
    /// is.
    pub(super) fn conditions(&self) -> (HashMap<u32, Condition>, HashSet<u32>) {
        let views = Views::new(self.schema, &self.held, (&self.laid, &self.by));
        let sorted = |table: &Table| views.is_bag(table).then(Condition::laid);
        let (mut conditions, mut closed) = (HashMap::new(), HashSet::new());
        let below: BTreeSet<u32> = self.held.keys().chain(&self.laid).copied().collect();
        let below = below.iter().filter_map(|oid| self.schema.tables.get(oid));
        // What a materialized view is filled with is looked at, and its own indexes as those of a table.
        for table in below.chain(views.all()) {
            views.begin();
            let condition = match self.held.get(&table.oid) {
                _ if views.is_laid(table) => sorted(table),
                Some(held) => Some(self.found(table, held)),
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

    /// What is asked of a table, and by which columns its rows are found in such an order.
    fn found(&self, table: &Table, held: &Held<'_>) -> Condition {
        let by = self.by.get(&table.oid);
        let names = |by: &BTreeSet<&str>| by.iter().map(|name| (*name).to_owned()).collect();
        Condition {
            order: by.map_or(Order::None, |by| Order::Found(names(by))),
            ..self.of_table(table, held)
        }
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
                order: Order::None,
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

fn named(table: &Table, number: i16) -> Option<&str> {
    let mut columns = table.columns.iter();
    let column = columns.find(|column| column.number == number)?;
    Some(&column.name)
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
