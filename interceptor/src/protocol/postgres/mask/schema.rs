//! A database's relations as masking needs them: what a name means, and what depends on what.
//!
//! Read from the server's catalog on a fresh session (`inject`). Holds no mask, and decides nothing.

mod copies;
mod hung;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub use self::hung::Hung;

/// What the server's catalog says about relations, functions, operators and casts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// Every relation outside of the system's schemas, by its number.
    pub tables: HashMap<u32, Table>,
    /// Relations that are no more, and on which others hung that are.
    pub gone: HashMap<u32, Table>,
    /// Columns that the configuration calls sensitive, by the schemas and names of their relations.
    pub sensitive: BTreeMap<(String, String), BTreeSet<String>>,
    /// Numbers by schema and name.
    names: HashMap<String, HashMap<String, u32>>,
    /// Names of functions outside of the system's schemas that are written in a language whose code
    /// reads tables, or in C and may do more than compute from their arguments, with their schema.
    pub functions: HashSet<(String, String)>,
    /// Names of functions outside of the system's schemas that compute from their arguments alone, with their
    /// schema: immutable ones in C, and some that are known.
    pub computing: HashSet<(String, String)>,
    /// Operators that one whose code reads tables implements.
    pub operators: HashSet<(String, String)>,
    /// Names of the types that one casts to.
    pub casts: HashSet<String>,
    /// Whether such a cast is done without being asked for.
    pub casts_unasked: bool,
    /// The columns of `pg_attribute`, in their order.
    pub attributes: Vec<String>,
    /// Whether `EXPLAIN ANALYZE` counts pages unless it is told not to: PostgreSQL 18 and later.
    pub counts_pages: bool,
}

/// A relation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its number.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `relkind`: `r`, `p`, `v`, `m`, `f`, `S`.
    pub kind: u8,
    /// Its columns by their number, without those that were dropped.
    pub columns: Vec<Column>,
    /// What it inherits from, or is a partition of.
    pub parents: Vec<u32>,
    /// Of a view: the columns that its query depends on; column 0 is all of them. Of a sequence: those that it
    /// numbers.
    pub depends: Vec<(u32, i16)>,
    /// Of a view: its query.
    pub definition: String,
    /// Whether its query calls a function whose code reads tables.
    pub is_opaque: bool,
    /// Whether what its query selects may be several rows for one.
    pub makes_rows: bool,
    /// Whether a rule rewrites what is written to it.
    pub has_rules: bool,
    /// Whether a trigger whose code reads tables is run by what is written to it, or such a function of an index
    /// or of what it is partitioned by.
    pub has_triggers: bool,
    /// Whether a default or a constraint of it calls a function whose code reads tables, or any expression one
    /// that reads what a text names.
    pub computes: bool,
    /// Columns of other relations that its row-security policies look at; column 0 is all of them.
    pub policed: Vec<(u32, i16)>,
    /// Its own columns that those look at; column 0 is all of them.
    pub sifted: BTreeSet<i16>,
    /// Columns that it is partitioned by; column 0 is an expression, of any of them.
    pub split: HashSet<i16>,
    /// Columns that a constraint, a unique index or an expression of the table is about; column 0 is all of
    /// them.
    pub guarded: HashSet<i16>,
    /// The same, by what they are in together; indexes too.
    pub ties: BTreeMap<String, Tie>,
    /// Its indexes by which rows may be found in their order, by their numbers.
    pub indexes: BTreeMap<u32, Index>,
    /// Columns that hold nothing but what a column of another relation holds, by foreign keys.
    pub references: Vec<(i16, u32, i16)>,
    /// Relations of which a row that goes, or a key that changes, changes rows of this one, by foreign keys.
    pub changed_by: HashSet<u32>,
    /// Generated columns, each with a column that it is made from.
    pub generated: Vec<(i16, i16)>,
    /// Columns whose values are rows of a relation, or hold such, each with the relation.
    pub rows: Vec<(i16, u32)>,
    /// What it hung on before.
    pub hung: Hung,
}

/// An index by which rows may be found in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// What it is ordered by: columns by their places from 1 on; 0 is an expression.
    pub keys: BTreeMap<i16, i16>,
    /// Columns that it holds beside, or that its expressions and its condition are about; 0 is the whole row.
    pub others: BTreeSet<i16>,
    /// Whether it holds only some of the rows.
    pub is_partial: bool,
}

/// Columns that one constraint, index or expression is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tie {
    /// What it is.
    pub by: TiedBy,
    /// The columns; 0 is the whole row.
    pub columns: BTreeSet<i16>,
}

/// What ties columns together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TiedBy {
    /// A constraint or a unique index.
    #[default]
    Constraint,
    /// A check that need not hold for a row as it is: it was never looked at, or what it asks changes.
    Mutable,
    /// The primary key, where it holds after each statement.
    PrimaryKey,
    /// A foreign key of another table, or of the same, that refers to them.
    Referred,
    /// The expression or the condition of an index that is not unique, made of what is built in.
    Expression,
    /// The same of any index, with a function or an operator that is not built in.
    Function,
    /// An index of several columns: what it holds of a row may be too long.
    Index,
    /// An index of one column: nothing but the order in which rows may come.
    Order,
    /// An index in the order of which the rows were put: where they lie.
    Place,
}

impl TiedBy {
    /// By the first letter of its name in the catalog's answer; a constraint where it is another.
    fn named(name: &str) -> Self {
        match name.as_bytes().first() {
            Some(b'm') => Self::Mutable,
            Some(b'p') => Self::PrimaryKey,
            Some(b'r') => Self::Referred,
            Some(b'e') => Self::Expression,
            Some(b'f') => Self::Function,
            Some(b'i') => Self::Index,
            Some(b'o') => Self::Order,
            Some(b'l') => Self::Place,
            _ => Self::Constraint,
        }
    }
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Its number.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// The number of its type; of a domain's, that of the type below it.
    pub type_oid: u32,
    /// Its type as the server writes it, with its schema where that is not `pg_catalog`.
    pub type_name: String,
    /// Whether its type is a domain.
    pub is_domain: bool,
    /// Whether it is computed from others.
    pub is_generated: bool,
}

impl Table {
    /// Something of this name, whose first letter says what, is about `column`.
    pub fn guard(&mut self, name: &str, column: i16) {
        let tie = self.ties.entry(name.to_owned()).or_default();
        tie.by = TiedBy::named(name);
        tie.columns.insert(column);
        if !matches!(tie.by, TiedBy::Index | TiedBy::Order | TiedBy::Place) {
            self.guarded.insert(column);
        }
    }

    /// An index of this number has a column at this place of what it is ordered by; at 0, beside.
    pub fn index(&mut self, number: u32, (place, column): (i16, i16), is_partial: bool) {
        let index = self.indexes.entry(number).or_default();
        index.is_partial = is_partial;
        match place {
            0 => _ = index.others.insert(column),
            place => _ = index.keys.insert(place, column),
        }
    }

    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether a constraint, a unique index or an expression of it is about a column.
    #[must_use]
    pub fn guards(&self, column: i16) -> bool {
        self.guarded.contains(&column) || self.guarded.contains(&0)
    }

    /// Whether an index of it holds one of some columns beside others.
    #[must_use]
    pub fn indexes(&self, one: impl Fn(&i16) -> bool) -> bool {
        let mut ties = self.ties.values();
        ties.any(|tie| tie.by == TiedBy::Index && tie.columns.iter().any(&one))
    }

    /// Whether it is a view, materialized or not.
    #[must_use]
    pub fn is_view(&self) -> bool {
        matches!(self.kind, b'v' | b'm')
    }
}

impl Schema {
    /// Takes a relation in.
    pub fn add(&mut self, table: Table) {
        let names = self.names.entry(table.schema.clone()).or_default();
        names.insert(table.name.clone(), table.oid);
        self.tables.insert(table.oid, table);
    }

    /// The relation of this name.
    #[must_use]
    pub fn find(&self, schema: &str, name: &str) -> Option<&Table> {
        let oid = self.names.get(schema)?.get(name)?;
        self.tables.get(oid)
    }
}
