//! Writes to a relation of which the rows lie in the order of something masked.
//!
//! The server looks at one row after the other as they lie, and stops at the first that fails. So that nothing says which
//! that is, what chooses the rows fails for none, and what is set fails for all or for none. Where a row lies is not
//! asked.

use std::collections::BTreeSet;

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{AExprKind, BoolExprType, DeleteStmt, Node, RangeVar, UpdateStmt};

use crate::protocol::postgres::facts::draft::{Draft, Write};
use crate::protocol::postgres::facts::evidence::Role;
use crate::protocol::postgres::mask::cover::SYSTEM;
use crate::protocol::postgres::mask::functions::is_steady;
use crate::protocol::postgres::mask::last;
use crate::protocol::postgres::mask::resolve::Veto;
use crate::protocol::postgres::mask::schema::{Schema, Table, TiedBy};
use crate::protocol::postgres::mask::way::sure::{Column, Sure, named};

/// Whether a write to `relation`, of which the rows lie in the order of what is masked, tells nothing of that order: it
/// gives no rows back, reads nothing else, asks nothing that may fail for one row and not for another, what it sets is
/// the same whichever row comes first, and no row of it may be in the way of another; or it is to one row alone.
pub(in super::super) fn unordered(
    draft: &Draft<'_>,
    relation: &RangeVar,
    (schema, table): (Option<&Schema>, &Table),
) -> Result<(), Veto> {
    let names = draft
        .columns
        .iter()
        .filter_map(|column| last(&column.fields));
    let mut names = names.chain(draft.fields.iter().copied());
    if names.any(|name| SYSTEM.contains(&name)) {
        return Err(Veto::never(&format!(
            "naming a column of the system beside a change of {}, of which the rows lie in the order of what is masked,",
            table.name
        )));
    }
    for write in draft.writes.iter().copied() {
        let written = write.relation();
        if !written.is_some_and(|written| std::ptr::eq(written, relation)) {
            continue;
        }
        // A view may count the rows for which it is asked.
        let reads = || draft.references.iter().any(|one| one.role == Role::Read);
        let varies = || reads() || draft.calls.iter().any(|call| !is_steady(call.name));
        let family = || schema.map(|schema| family(schema, table));
        let is_one = family().is_some_and(|family| family.len() == 1 && is_of_one(table, write));
        let is_told = match write {
            Write::Insert(_) | Write::Copy(_) => false,
            Write::Merge(_) => true,
            Write::Update(_) | Write::Delete(_) if is_one => false,
            Write::Update(update) => {
                varies() || family().is_none_or(|family| !updates_plainly(&family, table, update))
            }
            Write::Delete(delete) => {
                varies() || family().is_none_or(|family| !deletes_plainly(&family, table, delete))
            }
        };
        let returns = || write.returning().is_some() && !matches!(write, Write::Insert(_));
        if table.is_view() || is_told || returns() && !is_one {
            return Err(Veto::never(&format!(
                "changing rows of {}, which lie in the order of what is masked, with RETURNING, MERGE, DEFAULT, \
                 other tables, a trigger, a condition other than columns compared with constants, or setting anything \
                 but the same for each, or a column of a constraint,",
                table.name
            )));
        }
    }
    Ok(())
}

/// Whether a write is to one row at most, whichever way it is found.
fn is_of_one(table: &Table, write: Write<'_>) -> bool {
    let condition = match write {
        Write::Update(update) if update.from_clause.is_empty() && update.with_clause.is_none() => {
            update.where_clause.as_deref()
        }
        Write::Delete(delete) if delete.using_clause.is_empty() && delete.with_clause.is_none() => {
            delete.where_clause.as_deref()
        }
        _ => None,
    };
    condition.is_some_and(|of| never_fails(table, of) && picks_one(table, of))
}

/// A table and all that inherits from it: a write to the one is a write to the others.
fn family<'a>(schema: &'a Schema, table: &'a Table) -> Vec<&'a Table> {
    let mut family = vec![table];
    let mut at = 0;
    while let Some(parent) = family.get(at).map(|parent| parent.oid) {
        let below = schema.tables.values();
        let below = below.filter(|child| child.parents.contains(&parent));
        let is_new = |child: &&Table| family.iter().all(|known| known.oid != child.oid);
        let new: Vec<&Table> = below.filter(is_new).collect();
        family.extend(new);
        at = at.saturating_add(1);
    }
    family
}

fn updates_plainly(family: &[&Table], table: &Table, update: &UpdateStmt) -> bool {
    let sets = |target: &Node| match &target.node {
        Some(Kind::ResTarget(set)) => {
            set.indirection.is_empty()
                && family.iter().all(|one| is_free(one, &set.name))
                && set
                    .val
                    .as_deref()
                    .is_some_and(|value| is_same(value, &set.name))
        }
        _ => false,
    };
    family.iter().all(|one| !one.has_triggers)
        && update.with_clause.is_none()
        && update.from_clause.is_empty()
        && update.target_list.iter().all(sets)
        && chooses(table, update.where_clause.as_deref())
}

fn deletes_plainly(family: &[&Table], table: &Table, delete: &DeleteStmt) -> bool {
    family.iter().all(|one| !one.has_triggers)
        && delete.with_clause.is_none()
        && delete.using_clause.is_empty()
        && chooses(table, delete.where_clause.as_deref())
}

/// Whether nothing is about a column, so that it fails for one row and not for another: a constraint, a partition, or a
/// column that is made of it.
fn is_free(table: &Table, name: &str) -> bool {
    table.column(name).is_some_and(|column| {
        let is_it = |number: &i16| *number == 0 || *number == column.number;
        !column.is_generated
            && !table.guards(column.number)
            && !table.split.iter().any(is_it)
            && !table.generated.iter().any(|(_, from)| is_it(from))
    })
}

/// Whether a value is the same for each row, or the row's own one; a default may count.
fn is_same(value: &Node, name: &str) -> bool {
    let is_own = match &value.node {
        Some(Kind::ColumnRef(own)) => named(own).is_some_and(|words| words.last() == Some(&name)),
        _ => false,
    };
    let tree = serde_json::to_string(value);
    is_own
        || tree.is_ok_and(|tree| {
            let varies = ["\"SetToDefault\"", "\"ColumnRef\""];
            !varies.iter().any(|kind| tree.contains(kind))
        })
}

fn chooses(table: &Table, condition: Option<&Node>) -> bool {
    condition.is_none_or(|condition| never_fails(table, condition))
}

/// Whether a condition fails for no row of a table.
fn never_fails(table: &Table, condition: &Node) -> bool {
    let mut sure = Sure::default();
    let columns = |words: &[&str]| {
        let column = table.column(words.last()?)?;
        Some(Column(BTreeSet::from([column.type_oid])))
    };
    sure.holds(condition, &columns) && sure.is_certain()
}

/// Whether a condition is true for one row at most, as it says what each column of the primary key is.
fn picks_one(table: &Table, condition: &Node) -> bool {
    let mut said = BTreeSet::new();
    says(table, condition, &mut said);
    let mut ties = table.ties.values();
    ties.any(|tie| {
        tie.by == TiedBy::PrimaryKey && !tie.columns.is_empty() && tie.columns.is_subset(&said)
    })
}

/// The columns that a condition says to be one value.
fn says(table: &Table, condition: &Node, said: &mut BTreeSet<i16>) {
    match &condition.node {
        Some(Kind::BoolExpr(joined)) if joined.boolop() == BoolExprType::AndExpr => {
            joined.args.iter().for_each(|one| says(table, one, said));
        }
        Some(Kind::AExpr(compared)) if compared.kind() == AExprKind::AexprOp => {
            let sides = [&compared.lexpr, &compared.rexpr].map(|side| side.as_deref());
            let columns = sides.map(|side| match side.map(|side| &side.node) {
                Some(Some(Kind::ColumnRef(column))) => named(column),
                _ => None,
            });
            let name = match &columns {
                [Some(words), None] | [None, Some(words)] => words.last(),
                _ => None,
            };
            let is_equal = match compared.name.as_slice() {
                [name] => last(std::slice::from_ref(name)) == Some("="),
                _ => false,
            };
            let column = name
                .filter(|_| is_equal)
                .and_then(|name| table.column(name));
            said.extend(column.map(|column| column.number));
        }
        _ => {}
    }
}
