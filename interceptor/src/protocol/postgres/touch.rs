//! What a statement that waits for people would touch: what may be asked of the server about it, beside the
//! session, and in which words.
//!
//! A caller chooses the text, so only what is known to compute from its arguments is asked about; slow it may
//! be, and whoever asks bounds that. The count is of the statement's own condition, byte for byte.

use std::fmt::Write as _;
use std::sync::Arc;

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{InsertStmt, RangeVar, ScanToken, SelectStmt, Token, TypeName};

use super::facts;
use super::facts::draft::Draft;
use super::facts::functions::is_harmless;
use super::inject::Catalog;
use super::mask::expression::{SESSION_KEY, identifier};
use super::mask::{self, Masking};
use crate::session::Looking;

/// Nobody counts on beyond so many rows.
pub const MOST: u64 = 10_000;

/// Harmless, but what they make may be as large as an argument says.
const GROW: [&str; 9] = [
    "array_fill",
    "format",
    "generate_series",
    "lpad",
    "overlay",
    "range_agg",
    "repeat",
    "rpad",
    "string_agg",
];

/// Types of the system whose casts compute from what is cast alone.
const TYPES: [&str; 31] = [
    "bit",
    "bool",
    "bpchar",
    "bytea",
    "char",
    "cidr",
    "date",
    "daterange",
    "float4",
    "float8",
    "inet",
    "int2",
    "int4",
    "int4range",
    "int8",
    "int8range",
    "interval",
    "json",
    "jsonb",
    "macaddr",
    "name",
    "numeric",
    "numrange",
    "oid",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "uuid",
    "varchar",
];

/// Looks at a statement. What it gives bounds itself in time.
pub type Looker = Box<dyn Fn(Asked) -> Looking + Send + Sync>;

/// A statement as it waits.
#[derive(Clone, Debug)]
pub struct Asked {
    /// As the client sent it.
    pub text: Arc<str>,
    /// As it goes upstream.
    pub sent: Arc<str>,
    /// The search path that it is read under; `None` where it depends on none.
    pub path: Option<Arc<Vec<String>>>,
    /// The types that its `Parse` names, as it says them.
    pub types: Arc<[u8]>,
    /// What its `Bind` binds, as it says it, from the formats on.
    pub bound: Option<Arc<[u8]>>,
}

/// What to ask about a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Questions {
    /// What gives its plan.
    pub(super) explain: String,
    /// How its rows are counted.
    pub(super) count: Count,
}

/// How the rows of a statement are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// The text says how many there are.
    Known(u64),
    /// By this, which gives one number, one more than [`MOST`] at most.
    Ask(String),
    /// Not at all, for this reason.
    Not(&'static str),
}

/// What to ask about a statement, where its text lets it.
///
/// # Errors
/// Why it is not asked about, for people.
pub(super) fn questions(asked: &Asked) -> Result<Questions, String> {
    let unread = || "it is not one statement that can be read".to_owned();
    facts::one(&asked.text, |_, _, draft| computes_alone(draft)).ok_or_else(unread)??;
    let is_fixed = |path: &Arc<Vec<String>>| {
        let mut schemas = path.iter();
        !schemas.any(|schema| schema == "pg_catalog" || schema.starts_with("pg_temp"))
    };
    if !asked.path.as_ref().is_none_or(is_fixed) {
        return Err("its search path names the system's schemas".to_owned());
    }
    let sent: &str = &asked.sent;
    facts::one(sent, |kind, tokens, _| {
        let whole = whole(sent, tokens).ok_or_else(unread)?;
        let count = match kind {
            Kind::SelectStmt(select) => selected(select, whole),
            Kind::UpdateStmt(update) => Written {
                relation: update.relation.as_ref(),
                is_joined: !update.from_clause.is_empty() || update.with_clause.is_some(),
                condition: update.where_clause.as_deref(),
            }
            .count(sent, tokens),
            Kind::DeleteStmt(delete) => Written {
                relation: delete.relation.as_ref(),
                is_joined: !delete.using_clause.is_empty() || delete.with_clause.is_some(),
                condition: delete.where_clause.as_deref(),
            }
            .count(sent, tokens),
            Kind::InsertStmt(insert) => inserted(insert),
            Kind::MergeStmt(_) => Count::Not("a MERGE is not counted"),
            _ => return Err("it neither reads nor changes rows".to_owned()),
        };
        Ok(Questions {
            explain: format!("EXPLAIN {whole}"),
            count: match count {
                // Its keys are another session's here.
                Count::Ask(_) if sent.contains(SESSION_KEY) => {
                    Count::Not("what is masked in it is told apart by the session alone")
                }
                Count::Ask(text) if !is_one_read(&text) => Count::Not("its condition is not clear"),
                count => count,
            },
        })
    })
    .ok_or_else(unread)?
}

/// The tables that it is about, in a database that looks like this.
///
/// # Errors
/// Why it is not asked about, for people.
pub(super) fn tables(
    asked: &Asked,
    masking: &Masking,
    catalog: &Catalog,
) -> Result<Vec<u32>, String> {
    let path = asked.path.as_ref().map(|path| path.as_slice());
    let found = facts::one(&asked.text, |_, _, draft| {
        let mut fields = draft.fields.iter();
        match fields.find(|name| catalog.functions.contains(**name)) {
            Some(name) => Err(format!("{name} may be a function")),
            None => mask::tables(masking, draft, path),
        }
    });
    found.unwrap_or_else(|| Err("it is not one statement that can be read".to_owned()))
}

/// Whether nothing in it runs code of others, as far as its text tells.
fn computes_alone(draft: &Draft<'_>) -> Result<(), String> {
    let is_known = |schema: &str, name: &str| {
        matches!(schema, "" | "pg_catalog")
            && is_harmless("pg_catalog", name)
            && !GROW.contains(&name)
    };
    let mut calls = draft.calls.iter();
    if let Some(call) = calls.find(|call| !is_known(call.schema, call.name)) {
        return Err(format!("it calls {}()", call.name));
    }
    if !draft.types.iter().all(|of| is_built_in(of)) {
        return Err("it casts to a type that is not the server's own".to_owned());
    }
    if !draft.samples.is_empty() || draft.prepares.is_some() || !draft.executes.is_empty() {
        return Err("it is of a form that is not looked at".to_owned());
    }
    Ok(())
}

fn is_built_in(of: &TypeName) -> bool {
    let words: Vec<_> = of
        .names
        .iter()
        .map(|node| match &node.node {
            Some(Kind::String(word)) => word.sval.as_str(),
            _ => "",
        })
        .collect();
    let name = match words.as_slice() {
        [name] | ["pg_catalog", name] => *name,
        _ => return false,
    };
    TYPES.contains(&name) && !of.setof && !of.pct_type
}

/// A statement without what is before, behind and after it.
fn whole<'t>(text: &'t str, tokens: &[ScanToken]) -> Option<&'t str> {
    let mut words = words(text, tokens).filter(|(word, _)| *word != ";");
    let (_, first) = words.next()?;
    let (_, last) = words.last().unwrap_or_else(|| ("", first.clone()));
    text.get(first.start..last.end)
}

/// The words of a text, without comments, and where they are.
fn words<'t>(
    text: &'t str,
    tokens: &[ScanToken],
) -> impl Iterator<Item = (&'t str, std::ops::Range<usize>)> {
    let comments = [i32::from(Token::SqlComment), i32::from(Token::CComment)];
    let words = tokens.iter().filter_map(move |token| {
        let from = usize::try_from(token.start).ok()?;
        let to = usize::try_from(token.end).ok()?;
        let is_comment = comments.contains(&token.token);
        Some((text.get(from..to).filter(|_| !is_comment)?, from..to))
    });
    words.collect::<Vec<_>>().into_iter()
}

fn selected(select: &SelectStmt, whole: &str) -> Count {
    if !select.locking_clause.is_empty() {
        return Count::Not("it locks what it reads");
    }
    if select.into_clause.is_some() {
        return Count::Not("it makes a table");
    }
    counting(&format!("(\n{whole}\n) AS q"))
}

fn inserted(insert: &InsertStmt) -> Count {
    let source = insert
        .select_stmt
        .as_ref()
        .and_then(|node| node.node.as_ref());
    match (source, &insert.on_conflict_clause) {
        (_, Some(_)) => Count::Not("what it meets may be changed or left"),
        (None, None) => Count::Known(1),
        (Some(Kind::SelectStmt(source)), None) if !source.values_lists.is_empty() => {
            Count::Known(u64::try_from(source.values_lists.len()).unwrap_or(u64::MAX))
        }
        (Some(_), None) => Count::Not("it inserts what it reads"),
    }
}

/// What changes rows that there are.
struct Written<'a> {
    relation: Option<&'a RangeVar>,
    is_joined: bool,
    condition: Option<&'a pg_query::protobuf::Node>,
}

impl Written<'_> {
    fn count(&self, text: &str, tokens: &[ScanToken]) -> Count {
        let Some(name) = self.relation.and_then(named) else {
            return Count::Not("its table is not clear");
        };
        let condition = self.condition.map(|node| &node.node);
        match (self.is_joined, condition) {
            (true, _) => Count::Not("which rows it takes depends on others"),
            (false, Some(Some(Kind::CurrentOfExpr(_)))) => Count::Not("it follows a cursor"),
            (false, None) => counting(&name),
            (false, Some(_)) => match condition_of(text, tokens) {
                Some(condition) => counting(&format!("{name} WHERE (\n{condition}\n)")),
                None => Count::Not("its condition is not clear"),
            },
        }
    }
}

fn counting(rows: &str) -> Count {
    let most = MOST.saturating_add(1);
    Count::Ask(format!(
        "SELECT pg_catalog.count(*)::pg_catalog.text FROM (SELECT FROM {rows} LIMIT {most}) AS c"
    ))
}

/// A table as the text names it.
fn named(relation: &RangeVar) -> Option<String> {
    if !relation.catalogname.is_empty() {
        return None;
    }
    let mut name = String::new();
    if !relation.inh {
        name.push_str("ONLY ");
    }
    if !relation.schemaname.is_empty() {
        name.push_str(&identifier(&relation.schemaname));
        name.push('.');
    }
    name.push_str(&identifier(&relation.relname));
    if let Some(alias) = &relation.alias {
        write!(name, " AS {}", identifier(&alias.aliasname)).ok()?;
    }
    Some(name)
}

/// What stands behind the `WHERE` of an `UPDATE` or a `DELETE` that joins nothing; both words that bound it are
/// reserved, and are names only behind a dot.
fn condition_of<'t>(text: &'t str, tokens: &[ScanToken]) -> Option<&'t str> {
    let (mut depth, mut before) = (0_usize, "");
    let (mut from, mut to) = (None, None);
    for (word, at) in words(text, tokens) {
        let stands = depth == 0 && before != ".";
        match word {
            "(" | "[" => depth = depth.checked_add(1)?,
            ")" | "]" => depth = depth.checked_sub(1)?,
            ";" => break,
            word if stands && word.eq_ignore_ascii_case("where") => {
                let second = from.replace(at.end).is_some();
                (!second).then_some(())?;
            }
            word if stands && word.eq_ignore_ascii_case("returning") => break,
            _ => {}
        }
        (before, to) = (word, Some(at.end));
    }
    let condition = text.get(from?..to?)?.trim();
    (!condition.is_empty()).then_some(condition)
}

/// Whether a text of ours is what it was meant to be.
fn is_one_read(text: &str) -> bool {
    facts::one(text, |kind, _, draft| {
        matches!(kind, Kind::SelectStmt(_)) && draft.writes.is_empty()
    }) == Some(true)
}

#[cfg(test)]
mod tests;
