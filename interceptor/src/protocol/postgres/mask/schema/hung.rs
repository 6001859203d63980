//! What a relation hung on before: a mask that came by a foreign key, by inheritance or by a name does not go
//! because somebody, who may see everything, took that away. The values are still there.
//!
//! Only what leads to something that the configuration names is kept, and not without bound.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::copies::counterparts;
use super::{Schema, Table};

/// What is kept of all relations together at most.
const KEPT_MAX: usize = 10_000;

/// What was so at some time since the configuration was read, and is not any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hung {
    /// Schemas and names that it had.
    pub names: BTreeSet<(String, String)>,
    /// What it inherited from, or was a partition of.
    pub parents: BTreeSet<u32>,
    /// Columns that held nothing but what a column of another relation held.
    pub references: BTreeSet<(i16, u32, i16)>,
    /// Columns that were generated, each with a column that it was made from.
    pub generated: BTreeSet<(i16, i16)>,
    /// Columns whose values were rows of a relation.
    pub rows: BTreeSet<(i16, u32)>,
}

impl Hung {
    /// What hung on anything in `old`, and does not in `new`.
    fn between(old: &Table, new: &Table) -> Self {
        let has = |number: i16| new.columns.iter().any(|column| column.number == number);
        let mut hung = old.hung.clone();
        hung.names.insert((old.schema.clone(), old.name.clone()));
        hung.names
            .retain(|(schema, name)| (schema, name) != (&new.schema, &new.name));
        hung.parents.extend(&old.parents);
        hung.parents.retain(|parent| !new.parents.contains(parent));
        hung.references.extend(&old.references);
        hung.references
            .retain(|one| has(one.0) && !new.references.contains(one));
        hung.generated.extend(&old.generated);
        hung.generated
            .retain(|one| has(one.0) && !new.generated.contains(one));
        hung.rows.extend(&old.rows);
        hung.rows
            .retain(|one| has(one.0) && !new.rows.contains(one));
        hung
    }

    fn extend(&mut self, more: Self) {
        self.names.extend(more.names);
        self.parents.extend(more.parents);
        self.references.extend(more.references);
        self.generated.extend(more.generated);
        self.rows.extend(more.rows);
    }

    /// Lets go of what leads to nothing that may be masked.
    fn narrow(&mut self, reached: &HashSet<u32>, (is_reached, named): (bool, &Named)) {
        self.names.retain(|name| named.contains(name));
        self.parents.retain(|parent| reached.contains(parent));
        self.references.retain(|one| reached.contains(&one.1));
        self.rows.retain(|one| reached.contains(&one.1));
        if !is_reached {
            self.generated.clear();
        }
    }

    fn is_empty(&self) -> bool {
        self.count() == 0
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
        self.parents.iter().copied().chain(references).chain(rows)
    }
}

/// Schemas and names.
type Named = BTreeSet<(String, String)>;

impl Table {
    /// What a mask comes from, now and before.
    fn hangs_on(&self) -> impl Iterator<Item = u32> + '_ {
        let references = self.references.iter().map(|(_, other, _)| *other);
        let rows = self.rows.iter().map(|(_, of)| *of);
        let parents = self.parents.iter().copied();
        parents.chain(references).chain(rows).chain(self.hung.on())
    }

    fn is_named(&self, named: &Named) -> bool {
        let own = (self.schema.clone(), self.name.clone());
        named.contains(&own) || self.hung.names.iter().any(|name| named.contains(name))
    }
}

impl Schema {
    /// Keeps what hangs on something that is not so any more, of what this server said `before`, and of what
    /// another one said of the same database. False where that is too much.
    #[must_use]
    pub fn keep(&mut self, before: Option<&Self>, elsewhere: Option<&Self>) -> bool {
        let others = elsewhere.map(|elsewhere| counterparts(elsewhere, self));
        let own = before.into_iter();
        let own = own.flat_map(|before| before.tables.values().chain(before.gone.values()));
        self.take_over(own.chain(others.iter().flatten()))
    }

    fn take_over<'a>(&mut self, before: impl Iterator<Item = &'a Table>) -> bool {
        let mut old: HashMap<u32, &Table> = HashMap::new();
        for table in before {
            old.entry(table.oid).or_insert(table);
            if let Some(here) = self.tables.get_mut(&table.oid) {
                let hung = Hung::between(table, here);
                here.hung.extend(hung);
            }
        }
        let tables = self.tables.values();
        let mut wanted: Vec<u32> = tables.flat_map(|table| table.hung.on()).collect();
        let mut gone = HashMap::new();
        while let Some(oid) = wanted.pop() {
            let is_here = self.tables.contains_key(&oid) || gone.contains_key(&oid);
            if let Some(old) = old.get(&oid).filter(|_| !is_here) {
                wanted.extend(old.hangs_on());
                gone.insert(oid, Table::clone(old));
            }
        }
        self.gone = gone;
        self.narrow();
        let hung = self.tables.values().chain(self.gone.values());
        let hung: usize = hung.map(|table| table.hung.count()).sum();
        hung.saturating_add(self.gone.len()) <= KEPT_MAX
    }

    /// Lets go of what leads to nothing that the configuration names.
    fn narrow(&mut self) {
        if self.gone.is_empty() && self.tables.values().all(|table| table.hung.is_empty()) {
            return;
        }
        let reached = self.reached();
        self.gone.retain(|oid, _| reached.contains(oid));
        for table in self.tables.values_mut().chain(self.gone.values_mut()) {
            let is_reached = reached.contains(&table.oid);
            table.hung.narrow(&reached, (is_reached, &self.sensitive));
        }
    }

    /// What the configuration names, and all that a mask may come to from there.
    fn reached(&self) -> HashSet<u32> {
        let all: Vec<&Table> = self.tables.values().chain(self.gone.values()).collect();
        let named = all.iter().filter(|table| table.is_named(&self.sensitive));
        let mut reached: HashSet<u32> = named.map(|table| table.oid).collect();
        loop {
            let before = reached.len();
            for table in &all {
                if reached.contains(&table.oid) {
                    // Parents hold what their children do.
                    reached.extend(table.parents.iter().chain(&table.hung.parents));
                    continue;
                }
                let mut shows = table.depends.iter().map(|(oid, _)| *oid);
                let hangs = table.hangs_on().any(|oid| reached.contains(&oid));
                if hangs || table.is_view() && shows.any(|oid| reached.contains(&oid)) {
                    reached.insert(table.oid);
                }
            }
            if reached.len() == before {
                return reached;
            }
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
