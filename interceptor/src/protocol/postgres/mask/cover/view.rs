//! Which columns of a view show masked ones.
//!
//! The catalog says what a view's query depends on, not which of its columns does. Of a query that is a
//! plain select list over plain tables this can be read from its text, as the server writes it: every
//! column is named in full. Of any other all columns are masked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{ColumnRef, Node, ResTarget, SelectStmt};

use crate::masking::Mask;
use crate::protocol::postgres::mask::schema::{Schema, Table, TiedBy};

type Found = BTreeMap<u32, BTreeMap<i16, Mask>>;

/// The masks of the columns of `view`, which depends on a masked column.
pub(super) fn columns(schema: &Schema, view: &Table, found: &Found) -> Vec<(i16, Mask)> {
    let parsed = pg_query::parse(&view.definition, pg_query::ParserOptions::DEFAULT).ok();
    let select = parsed.as_ref().and_then(|parsed| {
        let [statement] = parsed.protobuf.stmts.as_slice() else {
            return None;
        };
        match statement.stmt.as_ref()?.node.as_ref()? {
            Kind::SelectStmt(select) => Some(&**select),
            _ => None,
        }
    });
    let plain = select.and_then(|select| plain(schema, view, found, select));
    plain.unwrap_or_else(|| {
        let all = view.columns.iter();
        all.map(|column| (column.number, Mask::Null)).collect()
    })
}

fn plain(
    schema: &Schema,
    view: &Table,
    found: &Found,
    select: &SelectStmt,
) -> Option<Vec<(i16, Mask)>> {
    let is_plain = select.with_clause.is_none()
        && select.larg.is_none()
        && select.rarg.is_none()
        && select.values_lists.is_empty()
        && select.target_list.len() == view.columns.len();
    if !is_plain {
        return None;
    }
    let mut sources = HashMap::new();
    for node in &select.from_clause {
        source(schema, node, &mut sources)?;
    }
    let secret: HashSet<&str> = view
        .depends
        .iter()
        .filter_map(|(oid, _)| Some((schema.tables.get(oid)?, found.get(oid)?)))
        .flat_map(|(table, masks)| {
            let mut columns = table.columns.iter().collect::<Vec<_>>();
            columns.retain(|column| masks.contains_key(&column.number));
            columns.into_iter().map(|column| column.name.as_str())
        })
        .collect();
    let mut masks = Vec::new();
    for (target, column) in select.target_list.iter().zip(&view.columns) {
        let Some(Kind::ResTarget(target)) = &target.node else {
            return None;
        };
        match shown(target, &sources, found, &secret) {
            Shown::Plain => {}
            Shown::Secret(mask) => masks.push((column.number, mask)),
            Shown::Unclear => return None,
        }
    }
    Some(masks)
}

/// Whether masked columns have a say in which rows `view` has, or in their order: where its query names them
/// anywhere but in what it selects, or under another name.
pub(super) fn asks(schema: &Schema, view: &Table, found: &Found) -> bool {
    let parsed = pg_query::parse(&view.definition, pg_query::ParserOptions::DEFAULT).ok();
    let tree = parsed.and_then(|parsed| serde_json::to_value(parsed.protobuf).ok());
    let Some(mut tree) = tree else { return true };
    let mut secret: HashSet<String> = view
        .depends
        .iter()
        .filter_map(|(oid, _)| Some((schema.tables.get(oid)?, found.get(oid)?)))
        .flat_map(|(table, masks)| {
            let columns = table.columns.iter();
            let masked = columns.filter(|column| masks.contains_key(&column.number));
            masked.map(|column| column.name.clone())
        })
        .collect();
    loop {
        let before = secret.len();
        renamed(&tree, &mut secret);
        if secret.len() == before {
            if groups_by_keys(schema, view, found, &secret)
                && let Some(group) = tree.pointer_mut("/stmts/0/stmt/node/SelectStmt/group_clause")
            {
                *group = serde_json::Value::Array(Vec::new());
            }
            return decides(&tree, &secret, view.makes_rows);
        }
    }
}

/// Whether `view` groups by masked columns only beside the whole primary key of the table that they are of:
/// the key decides which rows there are, and nothing else.
fn groups_by_keys(schema: &Schema, view: &Table, found: &Found, secret: &HashSet<String>) -> bool {
    let parsed = pg_query::parse(&view.definition, pg_query::ParserOptions::DEFAULT).ok();
    let statement = parsed
        .as_ref()
        .and_then(|parsed| parsed.protobuf.stmts.first());
    let node = statement.and_then(|statement| statement.stmt.as_ref()?.node.as_ref());
    let Some(Kind::SelectStmt(select)) = node else {
        return false;
    };
    let mut sources = HashMap::new();
    let is_plain = select.with_clause.is_none()
        && select.larg.is_none()
        && select
            .from_clause
            .iter()
            .all(|node| source(schema, node, &mut sources).is_some());
    if !is_plain {
        return false;
    }
    let mut grouped: HashMap<&str, BTreeSet<i16>> = HashMap::new();
    for item in &select.group_clause {
        match column_of(item, &sources) {
            Some((label, number)) => {
                grouped.entry(label).or_default().insert(number);
            }
            None => {
                let tree = serde_json::to_value(item).ok();
                if tree.is_none_or(|tree| names_secret(&tree, secret)) {
                    return false;
                }
            }
        }
    }
    grouped.iter().all(|(label, columns)| {
        let Some(table) = sources.get(label) else {
            return false;
        };
        let masks = found.get(&table.oid);
        let is_masked = |number: &i16| masks.is_some_and(|masks| masks.contains_key(number));
        let mut keys = table.ties.values();
        !columns.iter().any(is_masked)
            || keys.any(|tie| {
                tie.by == TiedBy::PrimaryKey
                    && tie.columns.is_subset(columns)
                    && !tie.columns.iter().any(is_masked)
            })
    })
}

/// The source and the number of a column that is named in full.
fn column_of<'a>(node: &'a Node, sources: &HashMap<&'a str, &'a Table>) -> Option<(&'a str, i16)> {
    let Some(Kind::ColumnRef(column)) = &node.node else {
        return None;
    };
    let [label, name] = column.fields.as_slice() else {
        return None;
    };
    match (&label.node, &name.node) {
        (Some(Kind::String(label)), Some(Kind::String(name))) => {
            let column = sources.get(label.sval.as_str())?.column(&name.sval)?;
            Some((&label.sval, column.number))
        }
        _ => None,
    }
}

/// Takes in the names under which `secret` columns are selected.
fn renamed(tree: &serde_json::Value, secret: &mut HashSet<String>) {
    match tree {
        serde_json::Value::Object(fields) => {
            if let Some(target) = fields.get("ResTarget")
                && let Some(name) = target.get("name").and_then(serde_json::Value::as_str)
                && names_secret(target, secret)
            {
                // The server writes no name where it is the one that it gives itself.
                let name = if name.is_empty() { "?column?" } else { name };
                secret.insert(name.to_owned());
            }
            fields.values().for_each(|value| renamed(value, secret));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| renamed(item, secret)),
        _ => {}
    }
}

/// Whether a secret column, or all of a row, is named in `tree`.
fn names_secret(tree: &serde_json::Value, secret: &HashSet<String>) -> bool {
    match tree {
        serde_json::Value::Object(fields) => fields.iter().any(|(key, value)| match key.as_str() {
            "AStar" => true,
            "String" => value
                .get("sval")
                .and_then(serde_json::Value::as_str)
                .is_some_and(|word| secret.contains(word)),
            _ => names_secret(value, secret),
        }),
        serde_json::Value::Array(items) => items.iter().any(|item| names_secret(item, secret)),
        _ => false,
    }
}

/// With `makes_rows` what is selected may be several rows.
fn decides(tree: &serde_json::Value, secret: &HashSet<String>, makes_rows: bool) -> bool {
    match tree {
        serde_json::Value::Object(fields) => fields.iter().any(|(key, value)| match key.as_str() {
            "target_list" => makes_rows && names_secret(value, secret),
            "distinct_clause" | "colnames" | "aliascolnames" => {
                value.as_array().is_none_or(|items| !items.is_empty())
            }
            "SelectStmt" => is_merged(value) || decides(value, secret, makes_rows),
            // A query in a condition may select what is masked: here that is asked about.
            "ColumnRef" | "SubLink" | "using_clause" => names_secret(value, secret),
            _ => decides(value, secret, makes_rows),
        }),
        serde_json::Value::Array(items) => {
            items.iter().any(|item| decides(item, secret, makes_rows))
        }
        _ => false,
    }
}

/// Whether a query puts rows of others together in a way that compares or sorts them.
fn is_merged(select: &serde_json::Value) -> bool {
    let is_set = select.get("larg").is_some_and(|side| !side.is_null());
    let all = select.get("all").and_then(serde_json::Value::as_bool);
    let sorted = select
        .get("sort_clause")
        .and_then(serde_json::Value::as_array);
    let union = i64::from(i32::from(pg_query::protobuf::SetOperation::SetopUnion));
    let op = select.get("op").and_then(serde_json::Value::as_i64);
    let is_plain_union =
        op == Some(union) && all == Some(true) && sorted.is_some_and(Vec::is_empty);
    is_set && !is_plain_union
}

/// What a `FROM` holds: tables and their joins, nothing else, and none under other names of columns.
fn source<'a>(
    schema: &'a Schema,
    node: &'a Node,
    sources: &mut HashMap<&'a str, &'a Table>,
) -> Option<()> {
    match node.node.as_ref()? {
        Kind::RangeVar(relation) => {
            let table = schema.find(&relation.schemaname, &relation.relname)?;
            let label = match &relation.alias {
                Some(alias) if alias.colnames.is_empty() => alias.aliasname.as_str(),
                Some(_) => return None,
                None => relation.relname.as_str(),
            };
            sources.insert(label, table).is_none().then_some(())
        }
        Kind::JoinExpr(join) if join.alias.is_none() && join.join_using_alias.is_none() => {
            source(schema, join.larg.as_deref()?, sources)?;
            source(schema, join.rarg.as_deref()?, sources)
        }
        _ => None,
    }
}

enum Shown {
    Plain,
    Secret(Mask),
    Unclear,
}

fn shown(
    target: &ResTarget,
    sources: &HashMap<&str, &Table>,
    found: &Found,
    secret: &HashSet<&str>,
) -> Shown {
    let Some(value) = &target.val else {
        return Shown::Unclear;
    };
    if let Some(Kind::ColumnRef(column)) = &value.node {
        return of_column(column, sources, found, secret);
    }
    // A computed column: what it names is found in the tree's own words.
    let mut names = Vec::new();
    let Ok(tree) = serde_json::to_value(value) else {
        return Shown::Unclear;
    };
    if !names_in(&tree, &mut names) {
        return Shown::Secret(Mask::Null);
    }
    let is_secret = names
        .iter()
        .any(|name| secret.contains(name.as_str()) || sources.contains_key(name.as_str()));
    match is_secret {
        true => Shown::Secret(Mask::Null),
        false => Shown::Plain,
    }
}

fn of_column(
    column: &ColumnRef,
    sources: &HashMap<&str, &Table>,
    found: &Found,
    secret: &HashSet<&str>,
) -> Shown {
    let words: Vec<&str> = column
        .fields
        .iter()
        .filter_map(|field| match &field.node {
            Some(Kind::String(word)) => Some(word.sval.as_str()),
            _ => None,
        })
        .collect();
    if words.len() != column.fields.len() {
        return Shown::Unclear;
    }
    match words.as_slice() {
        [name] if sources.contains_key(name) => Shown::Secret(Mask::Null),
        [name] if secret.contains(name) => {
            let mut masks = sources
                .values()
                .filter_map(|table| mask(table, name, found));
            match (masks.next(), masks.next()) {
                (Some(mask), None) => Shown::Secret(mask),
                _ => Shown::Secret(Mask::Null),
            }
        }
        [_] => Shown::Plain,
        [label, name] => match sources.get(label) {
            None => Shown::Unclear,
            Some(table) if table.column(name).is_none() => Shown::Secret(Mask::Null),
            Some(table) => mask(table, name, found).map_or(Shown::Plain, Shown::Secret),
        },
        _ => Shown::Unclear,
    }
}

fn mask(table: &Table, name: &str, found: &Found) -> Option<Mask> {
    let column = table.column(name)?;
    found.get(&table.oid)?.get(&column.number).cloned()
}

/// Collects the last word of every column that an expression names, and the labels of whole rows. False
/// where it has a query of its own or a star.
fn names_in(tree: &serde_json::Value, names: &mut Vec<String>) -> bool {
    match tree {
        serde_json::Value::Object(fields) => fields.iter().all(|(key, value)| match key.as_str() {
            "SubLink" | "AStar" | "SelectStmt" => false,
            "ColumnRef" => words_in(value, names) && names_in(value, names),
            _ => names_in(value, names),
        }),
        serde_json::Value::Array(items) => items.iter().all(|item| names_in(item, names)),
        _ => true,
    }
}

fn words_in(column: &serde_json::Value, names: &mut Vec<String>) -> bool {
    let fields = column.get("fields").and_then(serde_json::Value::as_array);
    let Some(fields) = fields else { return false };
    let last = fields
        .last()
        .and_then(|field| field.pointer("/node/String/sval"));
    match last.and_then(serde_json::Value::as_str) {
        Some(word) => {
            names.push(word.to_owned());
            true
        }
        None => false,
    }
}
