//! Which relations of a database are masked, and by what: the configured columns, and all that the
//! server's catalog says is made of them.
//!
//! Partitions and children hold what their parents show, and the other way round; a generated column
//! tells what it is made of; rows in a column what those of their relation do; what refers to a column by
//! a foreign key holds the same values; a view shows what its query reads. Where it cannot be said which
//! column of a view shows a masked one, all of its columns are masked.

mod misfit;
mod order;
mod reach;
mod rights;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use self::order::Orders;
pub(super) use self::order::SYSTEM;
pub(super) use self::order::{Condition, Order, Way, blind};
use super::expression::{self, Subject, identifier};
use super::functions;
use super::resolve::Meaning;
use super::schema::{Column, Schema, Table};
use pg_query::protobuf::RangeVar;

use crate::masking::{Mask, Masked, Masks, Relation};

pub use self::misfit::Misfit;
pub use self::rights::Writable;

/// A database's relations with the masks that are on them, for one principal.
#[derive(Debug)]
pub struct Masking {
    /// What the names mean; `None` where that is not known, and then nothing is let through.
    pub(super) schema: Option<Arc<Schema>>,
    /// What was configured.
    masks: Arc<Masks>,
    /// Names of the relations in `pg_catalog`.
    pub(super) catalog: Arc<HashSet<String>>,
    pub(super) covers: HashMap<u32, Cover>,
    /// Relations that hold nothing masked, and whose rows may come in its order: what is asked of each for that.
    pub(super) asked: HashMap<u32, Condition>,
    /// Names of masked relations, whatever their schema.
    pub(super) names: HashSet<String>,
    /// Relations whose rows, or their places, may tell what is masked.
    pub(super) opaque: HashSet<u32>,
    /// Those of them of which the rows, or their order, are what an index with something masked makes them.
    pub(super) unordered: HashSet<u32>,
    /// Views whose query reads a masked relation, also where it shows nothing of what is masked.
    pub(super) above: HashSet<u32>,
    /// Tables whose writes reach masked relations, by foreign keys or by triggers: the server may speak of these.
    pub(super) reaching: HashMap<u32, Arc<[Masked]>>,
    /// Tables that a masked column refers to: whether a row of theirs can go tells what it holds.
    /// Each with the names of its keys.
    pub(super) referred: HashMap<u32, HashSet<String>>,
    /// Tables of which a constraint or an expression is about a masked column, their own or a child's: where
    /// those are.
    pub(super) guarded: HashMap<u32, BTreeSet<u32>>,
    /// Columns by which a table, or one above or below it, is partitioned: a row of which one is set may go to
    /// another partition, where it is a new one.
    pub(super) moving: HashMap<u32, HashSet<String>>,
    /// Views that pass on what is written to them to a relation of which a write is looked at: the columns that
    /// are set there have other names in them.
    pub(super) through: HashSet<u32>,
    /// Tables of which a default or a constraint, their own or a child's, runs a function.
    pub(super) computing: HashSet<u32>,
    /// Tables of which a row that goes, or a key that changes, has such a function run where it is referred to.
    /// Each with the names of its keys.
    pub(super) stirring: HashMap<u32, HashSet<String>>,
    /// Tables of which a change of what they are made of is checked against masked values, or shows them: what
    /// masked columns refer to, what constraints of children with masked columns look at, all parents.
    pub(super) bound: HashSet<u32>,
    /// Whether a sequence numbers a masked column.
    pub(super) counts: bool,
    /// Tables that are closed because of what is configured for them, each with why.
    pub(super) unfit: HashMap<u32, String>,
}

/// What is masked of one relation.
#[derive(Debug)]
pub(super) struct Cover {
    pub(super) masks: BTreeMap<i16, Mask>,
    /// The select list that stands in for its columns, each under its own name.
    pub(super) list: String,
    /// What stands behind the relation in that query, so that it is not read in the order of what is masked.
    pub(super) condition: Condition,
    /// For the audit.
    pub(super) masked: Vec<Masked>,
}

impl Cover {
    /// The query that stands in for `table`, which is written as `from`.
    pub(super) fn query(&self, table: &Table, from: &str, way: Way) -> String {
        let is_there = |column: &&Column| self.masks.get(&column.number) != Some(&Mask::Hide);
        let columns = table.columns.iter().filter(is_there);
        self.condition.query((&self.list, columns), from, way)
    }
}

impl PartialEq for Masking {
    /// Whether both mask the same in the same database.
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &Option<Arc<Schema>>, b: &Option<Arc<Schema>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        (Arc::ptr_eq(&self.masks, &other.masks) || self.masks == other.masks)
            && same(&self.schema, &other.schema)
    }
}

impl Masking {
    /// What is masked in a database that looks like `schema`.
    #[must_use]
    pub fn new(
        schema: Option<Arc<Schema>>,
        masks: Arc<Masks>,
        catalog: Arc<HashSet<String>>,
    ) -> Self {
        let mut masking = Self {
            schema: None,
            masks,
            catalog,
            covers: HashMap::new(),
            asked: HashMap::new(),
            names: HashSet::new(),
            opaque: HashSet::new(),
            unordered: HashSet::new(),
            above: HashSet::new(),
            reaching: HashMap::new(),
            referred: HashMap::new(),
            guarded: HashMap::new(),
            moving: HashMap::new(),
            through: HashSet::new(),
            computing: HashSet::new(),
            stirring: HashMap::new(),
            bound: HashSet::new(),
            counts: false,
            unfit: HashMap::new(),
        };
        if let Some(schema) = schema {
            masking.cover(&schema);
            masking.tie(&schema);
            masking.unfit = misfit::all(&schema, &masking.masks)
                .filter_map(|misfit| Some((misfit.closes?, misfit.why)))
                .collect();
            let tables = schema.tables.values();
            let closed = tables.filter(|table| table.hung.is_closed);
            masking.unfit.extend(closed.map(|table| {
                let why = "what its masks hung on has changed so often that it is not kept any more, until the \
                           configuration is read again";
                (table.oid, why.to_owned())
            }));
            masking.schema = Some(schema);
        }
        masking
    }

    /// Whether it was made of this.
    #[cfg(test)]
    pub(super) fn is_about(&self, schema: Option<&Arc<Schema>>) -> bool {
        match (self.schema.as_ref(), schema) {
            (Some(own), Some(schema)) => Arc::ptr_eq(own, schema),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// What is masked, and what is closed.
    fn cover(&mut self, schema: &Schema) {
        let mut spread = Spread::new(schema, &self.masks);
        spread.run();
        let Spread { found, opaque, .. } = spread;
        let mut closed = opaque;
        let (mut conditions, unordered) = Orders::new(schema, &found).conditions();
        closed.extend(&unordered);
        self.unordered = reach::seen(schema, unordered);
        for (oid, masks) in &found {
            if let Some(table) = schema.tables.get(oid) {
                let condition = conditions.remove(oid).unwrap_or_default();
                self.names.insert(table.name.clone());
                self.covers
                    .insert(*oid, cover(table, masks.clone(), condition));
            }
        }
        conditions.retain(|_, condition| condition.asks());
        self.asked = conditions;
        self.above = above(schema, &self.covers);
        self.referred = reach::referred(schema, &self.covers);
        closed.extend(reach::split(schema, &self.covers));
        closed.extend(reach::locked(schema, &self.referred));
        self.opaque = reach::seen(schema, closed);
        // They must stay what they are called, to be known again.
        for table in self.opaque.iter().filter_map(|oid| schema.tables.get(oid)) {
            self.names.insert(table.name.clone());
            self.counts |= table.kind == b'S';
        }
    }

    /// Of which other relations a write, or a change, tells of that.
    fn tie(&mut self, schema: &Schema) {
        self.reaching = reach::reaching(schema, &self.covers);
        self.guarded = reach::guarded(schema, &self.covers);
        self.moving = reach::moving(schema);
        self.computing = reach::computing(schema);
        self.stirring = reach::stirring(schema, |table| self.is_written_in_order(table));
        self.through = reach::through(schema, |table| {
            table.has_rules || self.is_looked_at(table.oid)
        });
        let speaking = reach::through(schema, |table| self.reaching.contains_key(&table.oid));
        if let Some(masked) = self.reaching.values().next().cloned() {
            let views = speaking.into_iter().map(|oid| (oid, Arc::clone(&masked)));
            self.reaching.extend(views);
        }
        self.bound = reach::upwards(schema, self.covers.keys().copied().collect());
        self.bound.extend(self.referred.keys());
        self.bound.extend(self.guarded.keys());
        self.bound.extend(self.stirring.keys());
        self.bound.extend(&self.computing);
        self.bound.extend(&self.through);
    }

    /// Whether rows of a table are written anew, in the order of what is masked, by a change of what they refer to: the
    /// server finds them by that.
    fn is_written_in_order(&self, table: &Table) -> bool {
        let Order::Found(by) = self.order(table) else {
            return false;
        };
        let mut references = table.references.iter();
        references.any(|(number, other, _)| {
            let mut columns = table.columns.iter();
            let column = columns.find(|column| column.number == *number);
            table.changed_by.contains(other)
                && column.is_some_and(|column| by.contains(&column.name))
        })
    }

    /// Whether a write to a relation may be refused for what it sets, or for what it does at all.
    fn is_looked_at(&self, oid: u32) -> bool {
        self.covers.contains_key(&oid)
            || self.referred.contains_key(&oid)
            || self.stirring.contains_key(&oid)
            || self.guarded.contains_key(&oid)
            || self.computing.contains(&oid)
    }

    /// Whether a view that is made of a relation must not pass on what is written to it: it may be a temporary
    /// one, of which nothing is known later.
    pub(super) fn keeps_to_itself(&self, table: &Table) -> bool {
        table.has_rules
            || self.is_looked_at(table.oid)
            || self.through.contains(&table.oid)
            || self.reaching.contains_key(&table.oid)
    }

    /// Whether rows of a relation may come in the order of what is masked.
    pub(super) fn order(&self, table: &Table) -> &Order {
        let cover = self.covers.get(&table.oid);
        let condition = cover.map(|cover| &cover.condition);
        let condition = condition.or_else(|| self.asked.get(&table.oid));
        condition.map_or(&Order::None, |condition| &condition.order)
    }

    /// Whether they lie in it: whoever reads them as they lie may see it.
    pub(super) fn is_laid(&self, table: &Table) -> bool {
        *self.order(table) == Order::Laid
    }

    /// The relation that is read, where its rows may come in such an order.
    pub(super) fn ordered(&self, relation: &RangeVar, path: Option<&[String]>) -> Option<&Table> {
        let table = match self.resolve(relation, path).ok()? {
            Meaning::Masked(table, _) | Meaning::Plain(table, _) => {
                self.schema.as_ref()?.tables.get(&table.oid)?
            }
            Meaning::System(_) | Meaning::Elsewhere(_) => return None,
        };
        (*self.order(table) != Order::None).then_some(table)
    }

    /// Whether who locks rows of a relation waits for what refers to a row by a masked column.
    pub(super) fn locks_referred(&self, table: &Table) -> bool {
        let from = self.referred.keys().copied().collect();
        let schema = self.schema.as_ref();
        schema.is_some_and(|schema| reach::seen(schema, from).contains(&table.oid))
    }

    /// Whether the configuration says of a function that it computes from its arguments alone.
    pub(super) fn vouches_for(&self, function: &(String, String)) -> bool {
        self.masks.functions.contains(function)
    }

    /// What is configured and does not fit the database, in words.
    #[must_use]
    pub fn misfits(&self) -> Option<String> {
        misfit::said(self.schema.as_ref()?, &self.masks)
    }

    /// The same, one by one.
    pub fn each_misfit(&self) -> impl Iterator<Item = Misfit<'_>> {
        let schema = self.schema.iter();
        schema.flat_map(|schema| misfit::all(schema, &self.masks))
    }

    /// What is closed for the order in which its rows come.
    #[must_use]
    pub fn unordered(&self) -> Vec<&Table> {
        let tables = self.schema.iter().flat_map(|schema| schema.tables.values());
        let mut found: Vec<&Table> = tables
            .filter(|table| self.unordered.contains(&table.oid))
            .collect();
        found.sort_unstable_by_key(|table| (&table.schema, &table.name));
        found
    }

    /// Every masked column, those too that are masked because of another one.
    pub fn masked(&self) -> impl Iterator<Item = &Masked> {
        self.covers.values().flat_map(|cover| &cover.masked)
    }

    /// Every masked column, as the server numbers it in the description of a row.
    pub fn origins(&self) -> impl Iterator<Item = (u32, i16)> + '_ {
        self.covers
            .iter()
            .flat_map(|(oid, cover)| cover.masks.keys().map(|column| (*oid, *column)))
    }
}

fn above(schema: &Schema, covers: &HashMap<u32, Cover>) -> HashSet<u32> {
    let mut above = HashSet::new();
    loop {
        let before = above.len();
        for table in schema.tables.values().filter(|table| table.is_view()) {
            let mut below = table.depends.iter();
            if below.any(|(oid, _)| covers.contains_key(oid) || above.contains(oid)) {
                above.insert(table.oid);
            }
        }
        if above.len() == before {
            return above;
        }
    }
}

fn cover(table: &Table, masks: BTreeMap<i16, Mask>, condition: Condition) -> Cover {
    let mut list = Vec::new();
    let mut masked = Vec::new();
    for column in &table.columns {
        let name = identifier(&column.name);
        match masks.get(&column.number) {
            None => list.push(name),
            Some(mask) => {
                if let Some(stands) = stand_in(mask, column) {
                    list.push(format!("{stands} AS {name}"));
                }
                masked.push(Masked {
                    relation: Relation {
                        schema: table.schema.clone(),
                        name: table.name.clone(),
                    },
                    column: column.name.clone(),
                    by: mask.clone(),
                });
            }
        }
    }
    Cover {
        masks,
        list: list.join(", "),
        condition,
        masked,
    }
}

/// A column, as masks look at it.
pub(super) fn subject(column: &Column) -> Subject<'_> {
    Subject {
        column: &column.name,
        type_oid: column.type_oid,
        type_name: &column.type_name,
        is_domain: column.is_domain,
    }
}

/// What is in a masked column's place; `None` where the column is hidden.
pub(super) fn stand_in(mask: &Mask, column: &Column) -> Option<String> {
    let subject = subject(column);
    match mask {
        Mask::Hide => None,
        mask => expression::expression(mask, subject)
            .or_else(|| expression::expression(&Mask::Null, subject)),
    }
}

/// Puts the configured masks on a relation; true where one does not fit, or its column is not there.
fn begin(table: &Table, columns: &BTreeMap<String, Mask>, masks: &mut BTreeMap<i16, Mask>) -> bool {
    let mut closes = false;
    for (name, mask) in columns {
        let column = table.column(name);
        let fits = column.filter(|column| expression::objection(mask, subject(column)).is_none());
        if let Some(column) = fits {
            masks.insert(column.number, mask.clone());
            continue;
        }
        closes = true;
        // It may have another name by now, whichever.
        let all = table.columns.iter();
        let meant = all.filter(|one| column.is_none_or(|of| of.number == one.number));
        for column in meant {
            masks.entry(column.number).or_insert(Mask::Null);
        }
    }
    closes
}

/// The masks on their way through the catalog.
struct Spread<'a> {
    schema: &'a Schema,
    found: BTreeMap<u32, BTreeMap<i16, Mask>>,
    opaque: HashSet<u32>,
}

impl<'a> Spread<'a> {
    fn new(schema: &'a Schema, masks: &Masks) -> Self {
        let mut found: BTreeMap<u32, BTreeMap<i16, Mask>> = BTreeMap::new();
        let views = schema.tables.values().filter(|table| {
            table.is_opaque || table.is_view() && functions::shows_closed(&table.definition)
        });
        let mut opaque: HashSet<u32> = views.map(|table| table.oid).collect();
        let all = schema.tables.values().chain(schema.gone.values());
        for table in all.filter(|table| table.hung.is_closed) {
            opaque.insert(table.oid);
            let columns = table.columns.iter();
            let masks = columns.map(|column| (column.number, Mask::Null));
            found.entry(table.oid).or_default().extend(masks);
        }
        for (relation, columns) in &masks.relations {
            for table in schema.named(&relation.schema, &relation.name) {
                let masks = found.entry(table.oid).or_default();
                if begin(table, columns, masks) {
                    opaque.insert(table.oid);
                }
            }
        }
        Self {
            schema,
            found,
            opaque,
        }
    }

    /// Until nothing changes any more. Each round masks at least one more column, so it ends.
    fn run(&mut self) {
        let (tables, gone) = (self.schema.tables.values(), self.schema.gone.values());
        let mut tables: Vec<&Table> = tables.chain(gone).collect();
        tables.sort_unstable_by_key(|table| table.oid);
        loop {
            let mut changed = false;
            for table in &tables {
                changed |= self.family(table);
                changed |= self.generated(table);
                changed |= self.rows(table);
                changed |= self.references(table);
                changed |= self.view(table);
                changed |= self.sequence(table);
                changed |= self.policed(table);
            }
            if !changed {
                break;
            }
        }
    }

    /// The mask of a column; of one that is gone, where its relation has any.
    fn mask(&self, oid: u32, column: i16) -> Option<Mask> {
        let masks = self.found.get(&oid)?;
        let is_there = |table: &Table| table.columns.iter().any(|one| one.number == column);
        let gone = || (!self.schema.ever(oid).is_some_and(is_there)).then_some(Mask::Null);
        let gone = || gone().filter(|_| !masks.is_empty());
        masks.get(&column).cloned().or_else(gone)
    }

    fn put(&mut self, oid: u32, column: i16, mask: &Mask) -> bool {
        let masks = self.found.entry(oid).or_default();
        let is_new = !masks.contains_key(&column);
        masks.entry(column).or_insert_with(|| mask.clone());
        is_new
    }

    /// Columns of parents and children are one by their name, and stay so.
    fn family(&mut self, child: &Table) -> bool {
        let mut changed = false;
        for (own, parent, column) in child.hung.parents.iter().copied() {
            for (from, to) in [
                ((parent, column), (child.oid, own)),
                ((child.oid, own), (parent, column)),
            ] {
                if self.opaque.contains(&from.0) {
                    changed |= self.opaque.insert(to.0);
                }
                if let Some(mask) = self.mask(from.0, from.1) {
                    changed |= self.put(to.0, to.1, &mask);
                }
            }
        }
        for parent in &child.parents {
            let Some(parent) = self.schema.ever(*parent) else {
                continue;
            };
            for (from, to) in [(parent, child), (child, parent)] {
                // Which of its columns is the one that has another name by now is not known.
                if self.opaque.contains(&from.oid) {
                    changed |= self.opaque.insert(to.oid);
                }
                for (number, mask) in self.found.get(&from.oid).cloned().unwrap_or_default() {
                    let mut columns = from.columns.iter();
                    let column = columns.find(|column| column.number == number);
                    if let Some(column) = column.and_then(|column| to.column(&column.name)) {
                        changed |= self.put(to.oid, column.number, &mask);
                    }
                }
            }
        }
        changed
    }

    fn generated(&mut self, table: &Table) -> bool {
        let mut changed = false;
        let hung = table.hung.generated.iter();
        for (column, from) in table.generated.iter().chain(hung) {
            if self.mask(table.oid, *from).is_some() {
                changed |= self.put(table.oid, *column, &Mask::Null);
            }
        }
        changed
    }

    /// A row holds what the columns of its relation hold.
    fn rows(&mut self, table: &Table) -> bool {
        let mut changed = false;
        for (column, of) in table.rows.iter().chain(&table.hung.rows) {
            let is_masked = self.found.get(of).is_some_and(|masks| !masks.is_empty());
            if is_masked {
                changed |= self.put(table.oid, *column, &Mask::Null);
            }
        }
        changed
    }

    /// What refers to a masked column holds the same values, and answers whether there is one.
    fn references(&mut self, table: &Table) -> bool {
        let mut changed = false;
        let hung = table.hung.references.iter();
        for (column, other, referred) in table.references.iter().chain(hung) {
            if let Some(mask) = self.mask(*other, *referred) {
                changed |= self.put(table.oid, *column, &mask);
            }
        }
        changed
    }

    /// Whether something of these columns is masked; column 0 is all of them.
    fn touches(&self, columns: &[(u32, i16)]) -> bool {
        columns.iter().any(|(oid, column)| {
            let masks = self.found.get(oid);
            masks.is_some_and(|masks| *column == 0 || masks.contains_key(column))
        })
    }

    /// Which rows there are is what policies of theirs find in other relations.
    fn policed(&mut self, table: &Table) -> bool {
        let mut asked = table.policed.iter();
        let asks = self.touches(&table.policed) || asked.any(|(oid, _)| self.opaque.contains(oid));
        asks && self.opaque.insert(table.oid)
    }

    /// What a sequence gave out last is what a column that it numbers holds last.
    fn sequence(&mut self, table: &Table) -> bool {
        table.kind == b'S' && self.touches(&table.depends) && self.opaque.insert(table.oid)
    }

    fn view(&mut self, table: &Table) -> bool {
        if !table.is_view() {
            return false;
        }
        let mut changed = false;
        if table
            .depends
            .iter()
            .any(|(oid, _)| self.opaque.contains(oid))
        {
            changed |= self.opaque.insert(table.oid);
        }
        if self.touches(&table.depends) {
            if view::asks(self.schema, table, &self.found) {
                changed |= self.opaque.insert(table.oid);
            }
            for (column, mask) in view::columns(self.schema, table, &self.found) {
                changed |= self.put(table.oid, column, &mask);
            }
        }
        changed
    }
}
