//! What a relation hung on before: a mask that came by a foreign key, by inheritance or by a name does not go
//! because somebody, who may see everything, took that away. The values are still there.

use std::collections::{BTreeSet, HashMap};

use super::{Schema, Table};

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

    /// The relations that it names.
    fn on(&self) -> impl Iterator<Item = u32> + '_ {
        let references = self.references.iter().map(|(_, other, _)| *other);
        let rows = self.rows.iter().map(|(_, of)| *of);
        self.parents.iter().copied().chain(references).chain(rows)
    }
}

impl Schema {
    /// Keeps of what was known before what hangs on something that is not so any more.
    pub fn keep(&mut self, before: &Self) {
        for (oid, table) in &mut self.tables {
            if let Some(old) = before.tables.get(oid) {
                table.hung = Hung::between(old, table);
            }
        }
        let tables = self.tables.values();
        let mut wanted: Vec<u32> = tables.flat_map(|table| table.hung.on()).collect();
        let mut gone = HashMap::new();
        while let Some(oid) = wanted.pop() {
            let is_here = self.tables.contains_key(&oid) || gone.contains_key(&oid);
            let old = before.tables.get(&oid).or_else(|| before.gone.get(&oid));
            if let Some(old) = old.filter(|_| !is_here) {
                let references = old.references.iter().map(|(_, other, _)| *other);
                let rows = old.rows.iter().map(|(_, of)| *of);
                wanted.extend(old.parents.iter().copied().chain(references).chain(rows));
                wanted.extend(old.hung.on());
                gone.insert(oid, old.clone());
            }
        }
        self.gone = gone;
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
