//! One database on several servers. A standby has the numbers of its primary; a copy that is made by statements has
//! its own, and the same names. Which of them a server is it does not say: a relation is whatever may be it.

use std::collections::HashMap;

use super::hung::ones;
use super::{Hung, Schema, Table};

/// The relations of `before`, those that are gone too, as they would be in `here`, which another server has said.
pub(super) fn counterparts(before: &Schema, here: &Schema) -> Vec<Table> {
    let copy = Copy::new(before, here);
    let all = before.tables.values().chain(before.gone.values());
    all.flat_map(|table| {
        let numbers = copy.numbers(table.oid);
        numbers.map(|number| copy.table(table, number))
    })
    .collect()
}

struct Copy<'a> {
    before: &'a Schema,
    here: &'a Schema,
    /// What each relation may be.
    numbers: HashMap<u32, Vec<u32>>,
}

impl<'a> Copy<'a> {
    fn new(before: &'a Schema, here: &'a Schema) -> Self {
        let mut free = (0..=u32::MAX)
            .rev()
            .filter(|number| here.ever(*number).is_none() && before.ever(*number).is_none());
        let mut numbers = HashMap::new();
        for table in before.tables.values().chain(before.gone.values()) {
            let (schema, name) = (&table.schema, &table.name);
            // One that is gone has left its name to whoever has it now.
            let has_name = before
                .find(schema, name)
                .is_none_or(|one| one.oid == table.oid);
            let same = here.tables.get(&table.oid);
            let renamed = same.filter(|one| before.find(&one.schema, &one.name).is_none());
            let named = here.find(schema, name).filter(|_| has_name);
            let mut may_be: Vec<u32> = named
                .into_iter()
                .chain(renamed)
                .map(|one| one.oid)
                .collect();
            may_be.dedup();
            if may_be.is_empty() {
                may_be.extend(match same {
                    None => Some(table.oid),
                    Some(_) => free.next(),
                });
            }
            numbers.insert(table.oid, may_be);
        }
        Self {
            before,
            here,
            numbers,
        }
    }

    /// What a relation may be here; itself where nothing is known of it.
    fn numbers(&self, oid: u32) -> impl Iterator<Item = u32> + '_ {
        let known = self.numbers.get(&oid);
        let own = known.is_none().then_some(oid);
        known.into_iter().flatten().copied().chain(own)
    }

    /// A column of `old` by its number here, where that is `new`.
    fn column(&self, old: u32, new: u32, number: i16) -> i16 {
        let mut columns = self
            .before
            .ever(old)
            .into_iter()
            .flat_map(|old| &old.columns);
        let column = columns.find(|column| column.number == number);
        let here = self.here.tables.get(&new).zip(column);
        let here = here.and_then(|(table, column)| table.column(&column.name));
        here.map_or(number, |column| column.number)
    }

    fn table(&self, old: &Table, new: u32) -> Table {
        let own = |number: i16| self.column(old.oid, new, number);
        let references = |all: &mut dyn Iterator<Item = &(i16, u32, i16)>| -> Vec<_> {
            all.flat_map(|(column, other, referred)| {
                let others = self.numbers(*other);
                others.map(|number| {
                    let referred = self.column(*other, number, *referred);
                    (own(*column), number, referred)
                })
            })
            .collect()
        };
        let rows = |all: &mut dyn Iterator<Item = &(i16, u32)>| -> Vec<_> {
            all.flat_map(|(column, of)| self.numbers(*of).map(|number| (own(*column), number)))
                .collect()
        };
        let generated = |all: &mut dyn Iterator<Item = &(i16, i16)>| -> Vec<_> {
            all.map(|(made, from)| (own(*made), own(*from))).collect()
        };
        let above = old.parents.iter().filter_map(|oid| self.before.ever(*oid));
        let ones: Vec<_> = above.flat_map(|parent| ones(old, parent)).collect();
        let hung = Hung {
            names: old.hung.names.clone(),
            parents: references(&mut old.hung.parents.iter().chain(&ones))
                .into_iter()
                .collect(),
            references: references(&mut old.hung.references.iter())
                .into_iter()
                .collect(),
            generated: generated(&mut old.hung.generated.iter())
                .into_iter()
                .collect(),
            rows: rows(&mut old.hung.rows.iter()).into_iter().collect(),
            is_closed: old.hung.is_closed,
        };
        Table {
            oid: new,
            parents: old
                .parents
                .iter()
                .flat_map(|parent| self.numbers(*parent))
                .collect(),
            references: references(&mut old.references.iter()),
            generated: generated(&mut old.generated.iter()),
            rows: rows(&mut old.rows.iter()),
            depends: old
                .depends
                .iter()
                .flat_map(|(oid, column)| self.numbers(*oid).map(|number| (number, *column)))
                .collect(),
            hung,
            ..old.clone()
        }
    }
}
