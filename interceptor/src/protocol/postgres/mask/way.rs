//! How a statement reads relations of which rows may come in a hidden order: as they come, where nothing in it chooses or
//! sorts rows by what an index in that order has; sorted, where what chooses them fails for none, or fails alike
//! whichever comes first; and otherwise by no such index, or where they lie in that order sorted before anything is looked
//! at.
//!
//! By the text alone. Literals are not looked at: the outcome is that of each text of the same shape.

pub(super) mod sure;

use std::collections::{BTreeSet, HashSet};

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{Node, SelectStmt, SetOperation, WithClause};
use serde_json::Value;

use self::sure::{Column, Sure};
use super::cover::{Order, Way};
use super::schema::Table;

/// A relation of which rows may come in such an order, and what the statement calls it.
pub(super) struct Candidate<'a> {
    pub(super) label: &'a str,
    pub(super) table: &'a Table,
}

/// What a statement does with relations.
pub(super) struct Reading {
    /// The names that it does more with than to show them; `None` where it may be any.
    names: Option<HashSet<String>>,
    /// Those by which it may choose rows, rather than join or sort them.
    chosen: HashSet<String>,
    /// Whether it chooses rows by what fails for none, or alike for all.
    is_sure: bool,
}

impl Reading {
    /// Of a whole statement.
    pub(super) fn of(statement: Option<&Kind>, candidates: &[Candidate<'_>]) -> Self {
        let mut judge = Judge {
            candidates,
            labels: HashSet::new(),
            sure: Sure::default(),
        };
        let unknown = Self {
            names: None,
            chosen: HashSet::new(),
            is_sure: false,
        };
        let query = |node: &Option<Box<Node>>, judge: &mut Judge<'_, '_>| {
            let node = node.as_ref().and_then(|node| node.node.as_ref());
            match node {
                Some(Kind::SelectStmt(select)) => judge.whole(select),
                _ => None,
            }
        };
        let read = match statement {
            Some(Kind::SelectStmt(select)) => judge.whole(select),
            Some(Kind::DeclareCursorStmt(cursor)) => query(&cursor.query, &mut judge),
            Some(Kind::PrepareStmt(prepare)) => query(&prepare.query, &mut judge),
            Some(Kind::CreateTableAsStmt(made))
                if made.objtype() == pg_query::protobuf::ObjectType::ObjectTable =>
            {
                query(&made.query, &mut judge)
            }
            Some(Kind::CopyStmt(copy)) if copy.query.is_none() => Some(Self {
                names: Some(HashSet::new()),
                chosen: HashSet::new(),
                is_sure: true,
            }),
            Some(Kind::CopyStmt(copy)) => query(&copy.query, &mut judge),
            // What it would cost says how many values there are.
            Some(Kind::ExplainStmt(explain)) => {
                query(&explain.query, &mut judge).map(|read| Self {
                    is_sure: false,
                    ..read
                })
            }
            _ => None,
        };
        read.unwrap_or(unknown)
    }

    /// How a relation is read of which rows may come in this order.
    pub(super) fn way(&self, order: &Order) -> Way {
        let any =
            |of: &HashSet<String>, by: &BTreeSet<String>| by.iter().any(|name| of.contains(name));
        match order {
            Order::None => Way::Plain,
            Order::Found(by) if self.names.as_ref().is_some_and(|names| !any(names, by)) => {
                Way::Plain
            }
            Order::Found(by) => match self.is_sure && any(&self.chosen, by) {
                true => Way::Sorted,
                false => Way::Blind,
            },
            Order::Laid => match self.is_sure {
                true => Way::Sorted,
                false => Way::Fenced,
            },
        }
    }
}

/// The names in a tree, all of them added to those `found`; false where it may be any.
fn names(tree: &Value, found: &mut HashSet<String>) -> bool {
    let mut is_known = true;
    match tree {
        Value::Object(fields) => {
            for (field, value) in fields {
                is_known &= match field.as_str() {
                    "AConst" => true,
                    "AStar" => false,
                    "is_natural" => value.as_bool() != Some(true),
                    "colnames" | "aliascolnames" => value.as_array().is_none_or(Vec::is_empty),
                    "sval" => {
                        found.extend(value.as_str().map(str::to_owned));
                        true
                    }
                    _ => names(value, found),
                };
            }
        }
        Value::Array(all) => {
            for item in all {
                is_known &= names(item, found);
            }
        }
        _ => {}
    }
    is_known
}

struct Judge<'a, 'c> {
    candidates: &'c [Candidate<'a>],
    /// What the statement calls its relations and queries.
    labels: HashSet<String>,
    sure: Sure,
}

impl Judge<'_, '_> {
    /// Of the query that a statement is.
    fn whole(&mut self, select: &SelectStmt) -> Option<Reading> {
        let tree = serde_json::to_value(select).ok()?;
        labels(&tree, &mut self.labels);
        let names = used(select, &tree);
        let is_sure = match is_set(select) {
            true => self.nested(select),
            false => self.one(select) && shows_plainly(&tree),
        };
        let mut chosen = HashSet::new();
        // Where it has queries of its own, by which of all names is another matter.
        match is_set(select) || has_query(&tree) {
            true => _ = self::names(&tree, &mut chosen),
            false => {
                _ = tree
                    .get("where_clause")
                    .map(|tree| self::names(tree, &mut chosen))
            }
        }
        Some(Reading {
            names,
            chosen,
            is_sure: is_sure && self.sure.is_alike(),
        })
    }

    /// Whether what a query chooses rows by is certain; what it shows of them is another matter.
    fn one(&mut self, select: &SelectStmt) -> bool {
        let chooses = [&select.where_clause, &select.having_clause];
        chooses
            .into_iter()
            .flatten()
            .all(|condition| self.condition(condition))
            && select.from_clause.iter().all(|item| self.from(item))
            && self.with(select.with_clause.as_ref())
    }

    fn with(&mut self, with: Option<&WithClause>) -> bool {
        let mut all = with.into_iter().flat_map(|with| &with.ctes);
        all.all(|one| match &one.node {
            Some(Kind::CommonTableExpr(one)) => self.query(one.ctequery.as_deref()),
            _ => false,
        })
    }

    /// Whether all of a query in a query is: what it shows may stand in a condition around it.
    fn nested(&mut self, select: &SelectStmt) -> bool {
        if is_set(select) {
            let mut sides = [&select.larg, &select.rarg].into_iter();
            return sides.all(|side| side.as_deref().is_some_and(|side| self.nested(side)))
                && self.with(select.with_clause.as_ref());
        }
        let shows = |judge: &mut Self| {
            select.target_list.iter().all(|target| match &target.node {
                Some(Kind::ResTarget(target)) => target.val.as_deref().is_some_and(|value| {
                    is_star(value) || is_gathered(value) || judge.value(value)
                }),
                _ => false,
            })
        };
        let cuts = [&select.limit_count, &select.limit_offset];
        select.values_lists.is_empty()
            && shows(self)
            && cuts.into_iter().flatten().all(|cut| self.value(cut))
            && select.group_clause.iter().all(|by| self.value(by))
            && self.one(select)
    }

    fn query(&mut self, node: Option<&Node>) -> bool {
        match node.and_then(|node| node.node.as_ref()) {
            Some(Kind::SelectStmt(select)) => self.nested(select),
            _ => false,
        }
    }

    fn from(&mut self, item: &Node) -> bool {
        match &item.node {
            Some(Kind::RangeVar(_)) => true,
            Some(Kind::JoinExpr(join)) => {
                let mut sides = [&join.larg, &join.rarg].into_iter();
                sides.all(|side| side.as_deref().is_some_and(|side| self.from(side)))
                    && join
                        .quals
                        .as_deref()
                        .is_none_or(|quals| self.condition(quals))
            }
            Some(Kind::RangeSubselect(query)) => self.query(query.subquery.as_deref()),
            _ => false,
        }
    }

    fn condition(&mut self, condition: &Node) -> bool {
        match &condition.node {
            Some(Kind::BoolExpr(joined)) => joined.args.iter().all(|one| self.condition(one)),
            Some(Kind::SubLink(link)) => {
                use pg_query::protobuf::SubLinkType;
                let is_known = match link.sub_link_type() {
                    SubLinkType::ExistsSublink => true,
                    SubLinkType::AnySublink => link.oper_name.is_empty(),
                    _ => false,
                };
                is_known
                    && link.testexpr.as_deref().is_none_or(|side| self.value(side))
                    && self.query(link.subselect.as_deref())
            }
            _ => {
                let (candidates, labels) = (self.candidates, &self.labels);
                let column = |words: &[&str]| column(words, candidates, labels);
                self.sure.holds(condition, &column)
            }
        }
    }

    fn value(&mut self, value: &Node) -> bool {
        let (candidates, labels) = (self.candidates, &self.labels);
        let column = |words: &[&str]| column(words, candidates, labels);
        self.sure.is_side(value, &column)
    }
}

/// What a column is, by its name: of a row as a whole, or of a function in column notation, nothing is known.
fn column(
    words: &[&str],
    candidates: &[Candidate<'_>],
    labels: &HashSet<String>,
) -> Option<Column> {
    let (name, before) = words.split_last()?;
    let mut types: BTreeSet<u32> = BTreeSet::new();
    for candidate in candidates {
        let column = candidate.table.column(name);
        types.extend(column.map(|column| column.type_oid));
        if column.is_none() && before.last() == Some(&candidate.label) {
            return None;
        }
    }
    match before.is_empty() && types.is_empty() && labels.contains(*name) {
        true => None,
        false => Some(Column(types)),
    }
}

/// All labels that stand in a tree.
fn labels(tree: &Value, found: &mut HashSet<String>) {
    match tree {
        Value::Object(fields) => {
            for (field, value) in fields {
                match field.as_str() {
                    "relname" | "aliasname" | "ctename" => {
                        found.extend(value.as_str().map(str::to_owned));
                    }
                    _ => labels(value, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|item| labels(item, found)),
        _ => {}
    }
}

fn is_set(select: &SelectStmt) -> bool {
    !matches!(
        select.op(),
        SetOperation::SetopNone | SetOperation::Undefined
    )
}

/// What a query does more with than to show it.
fn used(select: &SelectStmt, tree: &Value) -> Option<HashSet<String>> {
    if is_set(select) {
        return None;
    }
    let mut found = HashSet::new();
    let mut fields = tree.as_object()?.iter();
    let others = fields.all(|(field, value)| field == "target_list" || names(value, &mut found));
    others.then_some(())?;
    let sorts = [&select.sort_clause, &select.group_clause];
    let places = serde_json::to_string(&sorts).ok()?.contains("\"AConst\"");
    let all = places || !select.distinct_clause.is_empty();
    for target in &select.target_list {
        let Some(Kind::ResTarget(target)) = &target.node else {
            return None;
        };
        let value = target.val.as_deref()?;
        let is_column = matches!(value.node, Some(Kind::ColumnRef(_)));
        let is_used = all || !is_column || found.contains(&target.name);
        let of = serde_json::to_value(value).ok()?;
        (!is_used || names(&of, &mut found)).then_some(())?;
    }
    Some(found)
}

/// Whether nothing but its conditions and what it reads from has queries of its own.
fn shows_plainly(tree: &Value) -> bool {
    let apart = [
        "from_clause",
        "where_clause",
        "having_clause",
        "with_clause",
    ];
    let mut fields = tree.as_object().into_iter().flatten();
    fields.all(|(field, value)| apart.contains(&field.as_str()) || !has_query(value))
}

fn has_query(tree: &Value) -> bool {
    match tree {
        Value::Object(fields) => fields
            .iter()
            .any(|(field, value)| field == "SelectStmt" || has_query(value)),
        Value::Array(all) => all.iter().any(has_query),
        _ => false,
    }
}

fn is_star(value: &Node) -> bool {
    match &value.node {
        Some(Kind::ColumnRef(column)) => column
            .fields
            .last()
            .is_some_and(|field| matches!(field.node, Some(Kind::AStar(_)))),
        _ => false,
    }
}

/// Whether a value is made of many rows: no condition on it is looked at before all of them are there.
fn is_gathered(value: &Node) -> bool {
    match &value.node {
        Some(Kind::FuncCall(call)) => {
            let name = match call.funcname.as_slice() {
                [name] => super::last(std::slice::from_ref(name)),
                _ => None,
            };
            call.over.is_none()
                && name.is_some_and(|name| ["count", "sum", "avg", "min", "max"].contains(&name))
        }
        _ => false,
    }
}
