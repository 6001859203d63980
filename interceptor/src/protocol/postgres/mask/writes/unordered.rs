//! Writes to a relation of which the rows lie in the order of something masked.
//!
//! The server looks at one row after the other as they lie, and stops at the first that fails. So that nothing says which
//! that is, what chooses the rows fails for none, and what is set fails for all or for none. Where a row lies is not
//! asked.

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{AExpr, AExprKind, ColumnRef, DeleteStmt, Node, RangeVar, UpdateStmt};

use crate::protocol::postgres::facts::draft::{Draft, Write};
use crate::protocol::postgres::facts::evidence::Role;
use crate::protocol::postgres::mask::cover::SYSTEM;
use crate::protocol::postgres::mask::functions::is_steady;
use crate::protocol::postgres::mask::last;
use crate::protocol::postgres::mask::resolve::Veto;
use crate::protocol::postgres::mask::schema::{Schema, Table};

/// The first number of an object that users make (`access/transam.h`).
const FIRST_OF_USERS: u32 = 16_384;
/// `numeric`, of which a value may be too large for what it is compared with.
const NUMERIC: u32 = 1_700;

/// Whether a write to `relation`, of which the rows lie in the order of what is masked, tells nothing of that order: it
/// gives no rows back, reads nothing else, asks nothing that may fail for one row and not for another, what it sets is
/// the same whichever row comes first, and no row of it may be in the way of another.
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
        let is_told = match write {
            Write::Insert(_) | Write::Copy(_) => false,
            Write::Merge(_) => true,
            Write::Update(update) => {
                varies() || family().is_none_or(|family| !updates_plainly(&family, table, update))
            }
            Write::Delete(delete) => {
                varies() || family().is_none_or(|family| !deletes_plainly(&family, table, delete))
            }
        };
        let returns = || write.returning().is_some() && !matches!(write, Write::Insert(_));
        if table.is_view() || is_told || returns() {
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
        Some(Kind::ColumnRef(own)) => named(own) == Some(name),
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

/// Whether a condition fails for no row: columns compared with constants, joined by `AND`, `OR` and `NOT`. Two columns
/// may have no common collation.
fn never_fails(table: &Table, condition: &Node) -> bool {
    let holds = |node: Option<&Node>| node.is_some_and(|node| never_fails(table, node));
    match &condition.node {
        Some(Kind::BoolExpr(joined)) => joined.args.iter().all(|one| holds(Some(one))),
        Some(Kind::NullTest(test)) => test.arg.as_deref().is_some_and(|of| is_side(table, of)),
        Some(Kind::BooleanTest(test)) => holds(test.arg.as_deref()),
        Some(Kind::AExpr(compared)) => compares(table, compared),
        _ => is_side(table, condition),
    }
}

fn compares(table: &Table, compared: &AExpr) -> bool {
    let operator = match compared.name.as_slice() {
        [name] => last(std::slice::from_ref(name)),
        _ => None,
    };
    let kind = AExprKind::try_from(compared.kind);
    let (Some(left), Some(right)) = (compared.lexpr.as_deref(), compared.rexpr.as_deref()) else {
        return false;
    };
    let is_known = match kind {
        Ok(AExprKind::AexprOp | AExprKind::AexprIn) => {
            operator.is_some_and(|name| ["=", "<>", "<", ">", "<=", ">="].contains(&name))
        }
        Ok(AExprKind::AexprOpAny | AExprKind::AexprOpAll) => {
            operator.is_some_and(|name| ["=", "<>"].contains(&name))
                && matches!(right.node, Some(Kind::ParamRef(_)))
        }
        Ok(
            AExprKind::AexprDistinct
            | AExprKind::AexprNotDistinct
            | AExprKind::AexprBetween
            | AExprKind::AexprNotBetween,
        ) => true,
        _ => false,
    };
    let listed = matches!(
        kind,
        Ok(AExprKind::AexprIn | AExprKind::AexprBetween | AExprKind::AexprNotBetween)
    );
    let mut sides = vec![left];
    match &right.node {
        Some(Kind::List(list)) if listed => sides.extend(&list.items),
        _ if listed => return false,
        _ => sides.push(right),
    }
    let columns = sides.iter().filter_map(|side| match &side.node {
        Some(Kind::ColumnRef(column)) => table.column(named(column)?),
        _ => None,
    });
    let columns: Vec<_> = columns.collect();
    let is_written = |side: &&Node| matches!(side.node, Some(Kind::AConst(_) | Kind::ColumnRef(_)));
    is_known
        && columns.len() <= 1
        && (columns.iter().all(|column| column.type_oid != NUMERIC) || sides.iter().all(is_written))
        && sides.iter().all(|side| is_side(table, side))
}

/// A column of a type of the server's own, a constant or a parameter. What a cast of a text does not take is told
/// before any row is looked at, where its type is the server's own.
fn is_side(table: &Table, side: &Node) -> bool {
    match &side.node {
        Some(Kind::AConst(_) | Kind::ParamRef(_)) => true,
        Some(Kind::ColumnRef(column)) => named(column)
            .and_then(|name| table.column(name))
            .is_some_and(|column| column.type_oid < FIRST_OF_USERS),
        Some(Kind::TypeCast(cast)) => {
            let of = cast.arg.as_deref().and_then(|of| of.node.as_ref());
            let names = cast
                .type_name
                .as_ref()
                .map(|name| (name.names.as_slice(), name.setof));
            let is_text = match of {
                Some(Kind::AConst(constant)) => matches!(
                    constant.val,
                    Some(pg_query::protobuf::a_const::Val::Sval(_))
                ),
                _ => false,
            };
            is_text
                && match names {
                    Some(([schema, _], false)) => {
                        last(std::slice::from_ref(schema)) == Some("pg_catalog")
                    }
                    _ => false,
                }
        }
        _ => false,
    }
}

/// The last word of a column's name, where each is one.
fn named(column: &ColumnRef) -> Option<&str> {
    let words = column.fields.iter();
    let mut words = words.map(|field| last(std::slice::from_ref(field)));
    words.all(|word| word.is_some()).then_some(())?;
    last(&column.fields)
}
