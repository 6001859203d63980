//! Calls of `set_config` that are as plain as a `SET`, and are read as one.

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::*;

use super::query::plain;
use super::words;
use crate::protocol::postgres::facts::{Effect, listed};

/// `SELECT pg_catalog.set_config('search_path', '…', false)` and nothing else, which is a `SET`: where
/// there is more, the call may not happen.
pub(super) fn sets_search_path(statement: &Node) -> Option<Effect> {
    let Some(Kind::SelectStmt(select)) = &statement.node else {
        return None;
    };
    let [target] = select.target_list.as_slice() else {
        return None;
    };
    let alone = SelectStmt {
        target_list: select.target_list.clone(),
        limit_option: select.limit_option,
        op: select.op,
        ..SelectStmt::default()
    };
    let call = match &target.node {
        Some(Kind::ResTarget(target)) if target.indirection.is_empty() => target.val.as_deref()?,
        Some(_) | None => return None,
    };
    let Some(Kind::FuncCall(call)) = &call.node else {
        return None;
    };
    let ([name, value, local], ["pg_catalog", "set_config"]) =
        (call.args.as_slice(), words(&call.funcname).as_slice())
    else {
        return None;
    };
    let is_named = plain(name)?.eq_ignore_ascii_case("search_path");
    let local = match &local.node {
        Some(Kind::AConst(AConst {
            val: Some(a_const::Val::Boolval(local)),
            ..
        })) => local.boolval,
        Some(_) | None => return None,
    };
    // A cast may make another text of it.
    let is_plain = matches!(value.node, Some(Kind::AConst(_)));
    let to = listed(plain(value).filter(|_| is_plain)?)
        .filter(|to| to.iter().all(|name| name.len() < 63));
    let is_whole = call.agg_filter.is_none() && call.over.is_none();
    (is_named && is_whole && **select == alone).then_some(Effect::SetsSearchPath { to, local })
}

/// What [`of_all_settings`] may name. A relation of the session's own may be called `pg_settings`, with a `name` of
/// a type that takes another one for equal: nothing that matters may be near to it.
const UNSURE: [&str; 1] = ["restrict_nonsystem_relation_kind"];

/// The setting of `SELECT set_config(name, …) FROM pg_settings WHERE name = '…'`, which `pg_dump` sends
/// to servers that may not know it: whatever the rows are, they have this name.
pub(super) fn of_all_settings(statement: &Node) -> Option<&str> {
    let Some(Kind::SelectStmt(select)) = &statement.node else {
        return None;
    };
    let plain = SelectStmt {
        target_list: select.target_list.clone(),
        from_clause: select.from_clause.clone(),
        where_clause: select.where_clause.clone(),
        limit_option: select.limit_option,
        op: select.op,
        ..SelectStmt::default()
    };
    let ([target], [from], Some(condition)) = (
        select.target_list.as_slice(),
        select.from_clause.as_slice(),
        select.where_clause.as_deref(),
    ) else {
        return None;
    };
    let (Some(Kind::ResTarget(target)), Some(Kind::RangeVar(from)), Some(Kind::AExpr(condition))) =
        (&target.node, &from.node, &condition.node)
    else {
        return None;
    };
    let Some(Kind::FuncCall(call)) = &target.val.as_deref()?.node else {
        return None;
    };
    let is_plain = **select == plain
        && from.relname == "pg_settings"
        && from.alias.is_none()
        && condition.kind == i32::from(AExprKind::AexprOp)
        && words(&condition.name) == ["="]
        && is_name(condition.lexpr.as_deref())
        && is_name(call.args.first());
    match &condition.rexpr.as_deref()?.node {
        Some(Kind::AConst(AConst {
            val: Some(a_const::Val::Sval(name)),
            ..
        })) if is_plain && UNSURE.contains(&name.sval.as_str()) => Some(&name.sval),
        Some(_) | None => None,
    }
}

fn is_name(node: Option<&Node>) -> bool {
    match node.and_then(|node| node.node.as_ref()) {
        Some(Kind::ColumnRef(column)) => {
            column.fields.len() == 1 && words(&column.fields) == ["name"]
        }
        Some(_) | None => false,
    }
}
