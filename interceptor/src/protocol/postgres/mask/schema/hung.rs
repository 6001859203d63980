//! What a relation hung on before: a mask that came by a foreign key, by inheritance or by a name does not go
//! because somebody, who may see everything, took that away. The values are still there.
//!
//! Only what leads to something that the configuration names is kept, and not without bound.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::copies::counterparts;
use super::{Schema, Table};

/// What is kept of all relations together at most.
const KEPT_MAX: usize = 10_000;
/// What is kept of one, as long as there is no room for all.
const SHARE: usize = KEPT_MAX / 10;

/// What was so at some time since the configuration was read, and is not any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hung {
    /// Schemas and names that it had.
    pub names: BTreeSet<(String, String)>,
    /// Columns that were one with a column of what it inherited from, or was a partition of, whatever they are called.
    pub parents: BTreeSet<(i16, u32, i16)>,
    /// Columns that held nothing but what a column of another relation held.
    pub references: BTreeSet<(i16, u32, i16)>,
    /// Columns that were generated, each with a column that it was made from.
    pub generated: BTreeSet<(i16, i16)>,
    /// Columns whose values were rows of a relation.
    pub rows: BTreeSet<(i16, u32)>,
    /// Whether it is closed, as that was too much to keep.
    pub is_closed: bool,
}

/// Columns that may be masked, by relation; 0 stands for those that are gone.
type Reached = HashMap<u32, HashSet<i16>>;

impl Hung {
    /// What hung on anything in `old`, or was `one` with a column of a parent, and is not in `new`.
    fn between(old: &Table, one: Vec<(i16, u32, i16)>, new: &Table) -> Self {
        let has = |number: i16| new.columns.iter().any(|column| column.number == number);
        let mut hung = old.hung.clone();
        hung.names.insert((old.schema.clone(), old.name.clone()));
        hung.names
            .retain(|(schema, name)| (schema, name) != (&new.schema, &new.name));
        hung.parents.extend(one);
        hung.parents.retain(|one| has(one.0));
        hung.references.extend(&old.references);
        hung.references
            .retain(|one| has(one.0) && !new.references.contains(one));
        hung.generated.extend(&old.generated);
        hung.generated
            .retain(|one| has(one.0) && !new.generated.contains(one));
        hung.rows.extend(&old.rows);
        hung.rows
            .retain(|one| has(one.0) && !new.rows.contains(one));
        match hung.is_closed {
            true => Self::closed(),
            false => hung,
        }
    }

    fn closed() -> Self {
        Self {
            is_closed: true,
            ..Self::default()
        }
    }

    fn extend(&mut self, more: Self) {
        self.names.extend(more.names);
        self.parents.extend(more.parents);
        self.references.extend(more.references);
        self.generated.extend(more.generated);
        self.rows.extend(more.rows);
        self.is_closed |= more.is_closed;
    }

    /// Lets go of what leads to nothing that may be masked.
    fn narrow(&mut self, (reached, own): (&Reached, u32), schema: &Shape, named: &Named) {
        let has = |oid: u32, column: i16| schema.reaches(reached, oid, column);
        self.names.retain(|name| named.contains_key(name));
        self.parents
            .retain(|one| has(one.1, one.2) || has(own, one.0));
        self.references.retain(|one| has(one.1, one.2));
        self.rows.retain(|one| reached.contains_key(&one.1));
        self.generated.retain(|one| has(own, one.1));
    }

    fn is_empty(&self) -> bool {
        self.count() == 0 && !self.is_closed
    }

    fn count(&self) -> usize {
        [
            self.names.len(),
            self.parents.len(),
            self.references.len(),
            self.generated.len(),
            self.rows.len(),
        ]
        .iter()
        .sum()
    }

    /// The relations that it names.
    fn on(&self) -> impl Iterator<Item = u32> + '_ {
        let references = self.references.iter().map(|(_, other, _)| *other);
        let rows = self.rows.iter().map(|(_, of)| *of);
        let parents = self.parents.iter().map(|(_, parent, _)| *parent);
        parents.chain(references).chain(rows)
    }
}

/// The columns of a relation that are one with those of a parent: those of one name.
pub(super) fn ones<'t>(
    child: &'t Table,
    parent: &'t Table,
) -> impl Iterator<Item = (i16, u32, i16)> + 't {
    let columns = parent.columns.iter();
    columns.filter_map(|column| {
        let own = child.column(&column.name)?;
        Some((own.number, parent.oid, column.number))
    })
}

/// Columns by the schemas and names of their relations.
type Named = BTreeMap<(String, String), BTreeSet<String>>;

/// The columns that each relation has.
struct Shape(HashMap<u32, HashSet<i16>>);

impl Shape {
    fn new<'a>(tables: impl Iterator<Item = &'a Table>) -> Self {
        let columns = |table: &Table| table.columns.iter().map(|column| column.number).collect();
        Self(tables.map(|table| (table.oid, columns(table))).collect())
    }

    /// Whether a column may be masked: one that is gone, where its relation has any.
    fn reaches(&self, reached: &Reached, oid: u32, column: i16) -> bool {
        let is_gone = !self.0.get(&oid).is_some_and(|all| all.contains(&column));
        let columns = reached.get(&oid);
        columns.is_some_and(|columns| is_gone || columns.contains(&column))
    }
}

impl Table {
    /// What a mask comes from, now and before.
    fn hangs_on(&self) -> impl Iterator<Item = u32> + '_ {
        let references = self.references.iter().map(|(_, other, _)| *other);
        let rows = self.rows.iter().map(|(_, of)| *of);
        let parents = self.parents.iter().copied();
        parents.chain(references).chain(rows).chain(self.hung.on())
    }

    /// The columns that the configuration names, by the names that it has and had; all of them where one is not there.
    fn named_in(&self, named: &Named) -> Option<HashSet<i16>> {
        let all = || self.columns.iter().map(|column| column.number).chain([0]);
        if self.hung.is_closed {
            return Some(all().collect());
        }
        let own = (self.schema.clone(), self.name.clone());
        let mut found: Option<HashSet<i16>> = None;
        for name in self.hung.names.iter().chain([&own]) {
            let Some(columns) = named.get(name) else {
                continue;
            };
            let found = found.get_or_insert_default();
            for name in columns {
                match self.column(name) {
                    Some(column) => found.extend([column.number]),
                    None => found.extend(all()),
                }
            }
        }
        found
    }
}

impl Schema {
    /// Keeps what hangs on something that is not so any more, of what this server said `before`, and of what
    /// another one said of the same database. Gives back the relations that are closed now, as that is too much.
    #[must_use]
    pub fn keep(&mut self, before: Option<&Self>, elsewhere: Option<&Self>) -> Vec<u32> {
        let others = elsewhere.map(|elsewhere| counterparts(elsewhere, self));
        let own = before.into_iter().flat_map(|before| {
            let all = before.tables.values().chain(before.gone.values());
            all.map(move |table| (table, Some(before)))
        });
        // Those of another server have it with them.
        let others = others.iter().flatten().map(|table| (table, None));
        self.take_over(own.chain(others));
        self.bound()
    }

    fn take_over<'a>(&mut self, before: impl Iterator<Item = (&'a Table, Option<&'a Self>)>) {
        let mut old: HashMap<u32, &Table> = HashMap::new();
        for (table, before) in before {
            old.entry(table.oid).or_insert(table);
            let Some(here) = self.tables.get(&table.oid) else {
                continue;
            };
            let one = before.map(|before| self.parted(here, table, before));
            let hung = Hung::between(table, one.unwrap_or_default(), here);
            if let Some(here) = self.tables.get_mut(&table.oid) {
                here.hung.extend(hung);
            }
        }
        self.rejoin();
        let old = |oid: u32| old.get(&oid).map(|old| Table::clone(old));
        self.gone = self.hung_on(old);
        self.narrow();
    }

    /// The columns that were one with a parent's `before`, where anything of the two is not as it was.
    fn parted(&self, here: &Table, old: &Table, before: &Self) -> Vec<(i16, u32, i16)> {
        let parents = old.parents.iter().filter_map(|oid| before.ever(*oid));
        let changed = parents.filter(|parent| {
            let now = self.tables.get(&parent.oid);
            !here.parents.contains(&parent.oid)
                || here.columns != old.columns
                || now.is_none_or(|now| now.columns != parent.columns)
        });
        changed.flat_map(|parent| ones(old, parent)).collect()
    }

    /// Lets go of what is so again: columns of one name in what inherits from the other.
    fn rejoin(&mut self) {
        let mut again: Vec<(u32, (i16, u32, i16))> = Vec::new();
        for table in self.tables.values() {
            let are_one = |one: &&(i16, u32, i16)| {
                let parent = self.tables.get(&one.1);
                let parent = parent.filter(|parent| table.parents.contains(&parent.oid));
                parent.is_some_and(|parent| ones(table, parent).any(|now| now == **one))
            };
            let ones = table.hung.parents.iter().filter(are_one);
            again.extend(ones.map(|one| (table.oid, *one)));
        }
        for (oid, one) in again {
            if let Some(table) = self.tables.get_mut(&oid) {
                table.hung.parents.remove(&one);
            }
        }
    }

    /// Relations that are no more and on which others hang, as they were.
    fn hung_on(&self, mut old: impl FnMut(u32) -> Option<Table>) -> HashMap<u32, Table> {
        let tables = self.tables.values();
        let mut wanted: Vec<u32> = tables.flat_map(|table| table.hung.on()).collect();
        let mut gone = HashMap::new();
        while let Some(oid) = wanted.pop() {
            if self.tables.contains_key(&oid) || gone.contains_key(&oid) {
                continue;
            }
            if let Some(old) = old(oid) {
                wanted.extend(old.hangs_on());
                gone.insert(oid, old);
            }
        }
        gone
    }

    /// Closes what there is no room for: what has more than its share, and what is new, first.
    fn bound(&mut self) -> Vec<u32> {
        if self.kept(&HashSet::new()) <= KEPT_MAX {
            return Vec::new();
        }
        let tables = self.tables.values().filter(|table| table.hung.count() > 0);
        let share = |table: &Table| (table.hung.count().max(SHARE), table.oid);
        let mut shares: Vec<(usize, u32)> = tables.map(share).collect();
        shares.sort_unstable_by(|one, other| other.cmp(one));
        let order: Vec<u32> = shares.into_iter().map(|(_, oid)| oid).collect();
        // The more are closed, the less is kept.
        let first = |count: usize| order.iter().take(count).copied();
        let (mut too_few, mut enough) = (0_usize, order.len());
        while enough.saturating_sub(too_few) > 1 {
            let middle = too_few.midpoint(enough);
            match self.kept(&first(middle).collect()) > KEPT_MAX {
                true => too_few = middle,
                false => enough = middle,
            }
        }
        let closed: Vec<u32> = first(enough).collect();
        for oid in &closed {
            if let Some(table) = self.tables.get_mut(oid) {
                table.hung = Hung::closed();
            }
        }
        let mut gone = std::mem::take(&mut self.gone);
        self.gone = self.hung_on(|oid| gone.remove(&oid));
        closed
    }

    /// How much is kept where these are closed.
    fn kept(&self, closed: &HashSet<u32>) -> usize {
        let tables = self.tables.values();
        let left = tables.filter(|table| !closed.contains(&table.oid));
        let (mut kept, mut wanted) = (0_usize, Vec::new());
        for table in left {
            kept = kept.saturating_add(table.hung.count());
            wanted.extend(table.hung.on());
        }
        let mut seen = HashSet::new();
        while let Some(oid) = wanted.pop() {
            let gone = self.gone.get(&oid).filter(|_| seen.insert(oid));
            let Some(gone) = gone else { continue };
            kept = kept.saturating_add(gone.hung.count()).saturating_add(1);
            wanted.extend(gone.hangs_on());
        }
        kept
    }

    /// Lets go of what leads to nothing that the configuration names.
    fn narrow(&mut self) {
        if self.gone.is_empty() && self.tables.values().all(|table| table.hung.is_empty()) {
            return;
        }
        let shape = Shape::new(self.tables.values().chain(self.gone.values()));
        let reached = self.reached(&shape);
        self.gone.retain(|oid, _| reached.contains_key(oid));
        for table in self.tables.values_mut().chain(self.gone.values_mut()) {
            let own = (&reached, table.oid);
            table.hung.narrow(own, &shape, &self.sensitive);
        }
    }

    /// What the configuration names, and all that a mask may come to from there.
    fn reached(&self, shape: &Shape) -> Reached {
        let all: Vec<&Table> = self.tables.values().chain(self.gone.values()).collect();
        let mut reached = Reached::new();
        for table in &all {
            if let Some(columns) = table.named_in(&self.sensitive) {
                reached.insert(table.oid, columns);
            }
        }
        loop {
            let before: usize = reached.values().map(HashSet::len).sum();
            for table in &all {
                self.spread(table, shape, &mut reached);
            }
            if reached.values().map(HashSet::len).sum::<usize>() == before {
                return reached;
            }
        }
    }

    /// What a mask comes to by one relation: its columns by what it hangs on, and its parents' that are one with its own.
    fn spread(&self, table: &Table, shape: &Shape, reached: &mut Reached) {
        let has = |reached: &Reached, oid: u32, column: i16| shape.reaches(reached, oid, column);
        let mut found: HashSet<i16> = HashSet::new();
        let references = table.references.iter().chain(&table.hung.references);
        let references = references.filter(|one| has(reached, one.1, one.2));
        found.extend(references.map(|one| one.0));
        let rows = table.rows.iter().chain(&table.hung.rows);
        found.extend(
            rows.filter(|one| reached.contains_key(&one.1))
                .map(|one| one.0),
        );
        let generated = table.generated.iter().chain(&table.hung.generated);
        let generated = generated.filter(|one| has(reached, table.oid, one.1));
        found.extend(generated.map(|one| one.0));
        let mut shows = table.depends.iter();
        if table.is_view() && shows.any(|one| has(reached, one.0, one.1)) {
            found.extend(table.columns.iter().map(|column| column.number));
        }
        for (own, parent, column) in table.hung.parents.iter().copied() {
            if has(reached, parent, column) {
                found.insert(own);
            }
            if has(reached, table.oid, own) {
                reached.entry(parent).or_default().insert(column);
            }
        }
        for parent in &table.parents {
            let Some(parent) = self.ever(*parent) else {
                continue;
            };
            for (from, to) in [(parent, table), (table, parent)] {
                let Some(columns) = reached.get(&from.oid) else {
                    continue;
                };
                let same = from
                    .columns
                    .iter()
                    .filter(|one| columns.contains(&one.number));
                let same = same.filter_map(|one| to.column(&one.name));
                let same: Vec<i16> = same.map(|one| one.number).chain([0]).collect();
                reached.entry(to.oid).or_default().extend(same);
            }
        }
        if !found.is_empty() {
            reached.entry(table.oid).or_default().extend(found);
        }
    }

    /// Every relation of this name, and those that had it and have another one, or are gone.
    pub fn named<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Table> + 'a {
        let had = move |table: &&Table| {
            let mut names = table.hung.names.iter();
            names.any(|had| had.0 == schema && had.1 == name)
        };
        let has = move |table: &&Table| table.schema == schema && table.name == name;
        let here = self.find(schema, name).into_iter();
        let renamed = self.tables.values().filter(had);
        let gone = self.gone.values();
        let gone = gone.filter(move |table| has(table) || had(table));
        here.chain(renamed).chain(gone)
    }

    /// A relation by its number, one that is gone, too.
    pub fn ever(&self, oid: u32) -> Option<&Table> {
        self.tables.get(&oid).or_else(|| self.gone.get(&oid))
    }
}

#[cfg(test)]
mod tests;
