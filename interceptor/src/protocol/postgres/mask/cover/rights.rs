//! What a role must be able to do on the server, so that statements go through as they are rewritten here.

use std::collections::BTreeSet;

use super::{Masking, subject};
use crate::masking::Mask;
use crate::protocol::postgres::mask::expression;
use crate::protocol::postgres::mask::schema::{Column, Table};
use crate::protocol::postgres::mask::writes::{self, Deed};

/// What may be written of a relation, as long as everything is masked that is masked here.
#[derive(Debug, Default)]
pub struct Writable<'a> {
    /// Columns that an `INSERT` may name.
    pub insert: Vec<&'a Column>,
    /// Columns that an `UPDATE` may set.
    pub update: Vec<&'a Column>,
    /// Whether rows may be deleted.
    pub delete: bool,
}

impl Masking {
    /// Whether something of it is masked.
    #[must_use]
    pub fn is_masked(&self, table: &Table) -> bool {
        self.covers.contains_key(&table.oid) || self.referred.contains_key(&table.oid)
    }

    /// Whether nothing of it is shown: its rows tell what is masked.
    #[must_use]
    pub fn is_closed(&self, table: &Table) -> bool {
        !self.covers.is_empty() && self.opaque.contains(&table.oid)
    }

    /// The columns that are read of it: those that are shown, and those that a mask is computed from. Where
    /// there are none, one that is not hidden: a server asks for a right on one at least.
    #[must_use]
    pub fn reads<'a>(&self, table: &'a Table) -> Vec<&'a Column> {
        let cover = self.covers.get(&table.oid);
        let mask = |column: &Column| cover.and_then(|cover| cover.masks.get(&column.number));
        let is_read = |column: &&Column| {
            mask(column).is_none_or(|mask| expression::is_computed(mask, subject(column)))
        };
        let mut reads: Vec<_> = table.columns.iter().filter(is_read).collect();
        if reads.is_empty() {
            let mut columns = table.columns.iter();
            reads.extend(columns.find(|column| mask(column) != Some(&Mask::Hide)));
        }
        reads
    }

    /// Whether it is asked where its rows lie, which takes a right to the system's column `ctid`.
    #[must_use]
    pub fn asks_place(&self, table: &Table) -> bool {
        let cover = self.covers.get(&table.oid);
        let condition = cover.map(|cover| &cover.condition);
        let condition = condition.or_else(|| self.asked.get(&table.oid));
        condition.is_some_and(|condition| condition.asks_place)
    }

    /// What may be written of it: what a write that is let through can do at most.
    #[must_use]
    pub fn writable<'a>(&self, table: &'a Table) -> Writable<'a> {
        let cover = self.covers.get(&table.oid);
        let is_refused = !self.covers.is_empty()
            && (table.has_rules
                || self.computing.contains(&table.oid)
                || self.through.contains(&table.oid)
                || self.above.contains(&table.oid));
        if is_refused {
            return Writable::default();
        }
        let is_shown =
            |column: &&Column| cover.is_none_or(|cover| !cover.masks.contains_key(&column.number));
        let columns = table.columns.iter().filter(|column| !column.is_generated);
        let shown: Vec<_> = columns.filter(is_shown).collect();
        let keys = [&self.referred, &self.stirring].map(|keys| keys.get(&table.oid));
        let moves = |column: &Column| {
            let by = self.moving.get(&table.oid);
            by.is_some_and(|by| by.contains(&column.name))
        };
        let is_key = |column: &Column| {
            let mut keys = keys.into_iter().flatten();
            keys.any(|keys| moves(column) || keys.contains(&column.name))
        };
        let mut update = shown.clone();
        update.retain(|column| {
            let deed = match moves(column) {
                true => Deed::Add,
                false => Deed::Update,
            };
            !is_key(column) && self.is_silent(table, deed, Some(&column.name))
        });
        let adds = self.is_silent(table, Deed::Add, None);
        Writable {
            insert: if adds { shown } else { Vec::new() },
            update,
            delete: keys == [None; 2] && self.is_silent(table, Deed::Delete, None),
        }
    }

    /// Whether nothing that is about a masked column, of the table or of what a write to it writes into, has a
    /// say in what becomes of one that sets no more than `sets`.
    fn is_silent(&self, table: &Table, deed: Deed, sets: Option<&str>) -> bool {
        let holders = self.guarded.get(&table.oid).into_iter().flatten();
        holders.into_iter().all(|oid| {
            let schema = self.schema.as_ref();
            let holder = schema.and_then(|schema| schema.tables.get(oid));
            let (Some(holder), Some(cover)) = (holder, self.covers.get(oid)) else {
                return false;
            };
            let touches = |columns: &BTreeSet<i16>| {
                sets.is_some_and(|name| {
                    let column = holder.column(name);
                    column.is_none_or(|column| columns.contains(&column.number))
                })
            };
            writes::answered(holder, cover, deed, &touches).is_none()
        })
    }
}
