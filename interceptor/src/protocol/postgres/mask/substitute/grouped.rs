//! `GROUP BY` a primary key: the server takes the other columns of the table for grouped, too, but not where a query
//! stands in the table's place. There they are named.
//!
//! The groups stay what they are: the key decides what the others hold, and what is masked of them.

use std::collections::BTreeSet;

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{Node, RangeVar, SelectStmt, a_const};
use serde_json::Value;

use crate::masking::Mask;
use crate::protocol::postgres::facts::draft::Draft;
use crate::protocol::postgres::facts::functions::is_aggregate;
use crate::protocol::postgres::mask::resolve::Veto;
use crate::protocol::postgres::mask::schema::{Table, TiedBy};
use crate::protocol::postgres::mask::{Replaced, Work, expression, last};

/// Types that no rows are grouped by: `json`, `xml`, and those of geometry (`catalog/pg_type.dat`).
const UNGROUPED: [u32; 9] = [114, 142, 600, 601, 602, 603, 604, 628, 718];

/// A table in the place of which a query stands.
struct Stood<'a> {
    relation: &'a RangeVar,
    table: &'a Table,
}

impl Stood<'_> {
    fn label(&self) -> &str {
        match &self.relation.alias {
            Some(alias) => &alias.aliasname,
            None => &self.relation.relname,
        }
    }

    /// Whether a column that is named may be one of it: which one.
    fn column(&self, fields: &[&str]) -> Option<&str> {
        let name = match fields {
            [name] => name,
            [.., label, name] if *label == self.label() => name,
            _ => return None,
        };
        let column = self.table.column(name)?;
        Some(&column.name)
    }
}

impl<'a> Work<'a> {
    /// Names the columns that a `GROUP BY` does not name, of each table in the place of which a query stands now.
    pub(in super::super) fn grouped(
        &mut self,
        draft: &Draft<'a>,
        replaced: &[Replaced<'a>],
    ) -> Result<(), Veto> {
        let tables = replaced.iter().filter_map(|one| {
            Some(Stood {
                relation: one.relation,
                table: one.table?,
            })
        });
        let stood: Vec<Stood<'a>> = tables.collect();
        for select in &draft.grouped {
            let mut relations = Vec::new();
            for item in &select.from_clause {
                named(item, &mut relations);
            }
            let here = |one: &&Stood<'a>| {
                let mut relations = relations.iter();
                relations.any(|relation| std::ptr::eq(*relation, one.relation))
            };
            for one in stood.iter().filter(here) {
                self.names_grouped(select, one)?;
            }
        }
        Ok(())
    }

    fn names_grouped(&mut self, select: &SelectStmt, of: &Stood<'a>) -> Result<(), Veto> {
        let mut grouped = BTreeSet::new();
        let mut behind = None;
        for item in &select.group_clause {
            let Some((fields, end)) = self.item(select, item) else {
                continue;
            };
            let column = of.column(&fields).and_then(|name| of.table.column(name));
            if let Some(column) = column {
                grouped.insert(column.number);
                behind = Some(end);
            }
        }
        let mut keys = of.table.ties.values();
        let has_key =
            keys.any(|tie| tie.by == TiedBy::PrimaryKey && tie.columns.is_subset(&grouped));
        let (Some(behind), true) = (behind, has_key) else {
            return Ok(());
        };
        let cover = self.masking.covers.get(&of.table.oid);
        let is_hidden =
            |number: &i16| cover.is_some_and(|cover| cover.masks.get(number) == Some(&Mask::Hide));
        let used = used(select, of)?;
        let columns = of.table.columns.iter().filter(|column| {
            used.contains(column.name.as_str())
                && !grouped.contains(&column.number)
                && !is_hidden(&column.number)
                && !UNGROUPED.contains(&column.type_oid)
        });
        let label = expression::identifier(of.label());
        let more: String = columns
            .map(|column| format!(", {label}.{}", expression::identifier(&column.name)))
            .collect();
        if !more.is_empty() {
            self.put(behind, behind, more, false);
        }
        Ok(())
    }

    /// The column that an item of a `GROUP BY` is, and where the item ends.
    fn item<'s>(
        &mut self,
        select: &'s SelectStmt,
        item: &'s Node,
    ) -> Option<(Vec<&'s str>, usize)> {
        match item.node.as_ref()? {
            Kind::ColumnRef(column) => {
                let end = self.tokens.item(column.location, column.fields.len())?;
                Some((words(&column.fields)?, end))
            }
            Kind::AConst(number) => {
                let Some(a_const::Val::Ival(place)) = &number.val else {
                    return None;
                };
                let before = usize::try_from(place.ival).ok()?.checked_sub(1)?;
                let targets = select.target_list.get(..=before)?;
                let mut columns = targets.iter().map(|target| match &target.node {
                    Some(Kind::ResTarget(target)) => match &target.val.as_deref()?.node {
                        Some(Kind::ColumnRef(column)) => Some(&column.fields),
                        _ => None,
                    },
                    _ => None,
                });
                // A star is as many columns as there are.
                if columns
                    .clone()
                    .flatten()
                    .any(|fields| words(fields).is_none())
                {
                    return None;
                }
                let fields = columns.next_back()??;
                let end = self.tokens.item(number.location, 1)?;
                // Another number is another column.
                self.samples = true;
                Some((words(fields)?, end))
            }
            _ => None,
        }
    }
}

/// The relations in a `FROM` that have labels of their own, and names of columns of their own.
fn named<'s>(item: &'s Node, relations: &mut Vec<&'s RangeVar>) {
    match &item.node {
        Some(Kind::RangeVar(relation)) => {
            let alias = relation.alias.as_ref();
            if alias.is_none_or(|alias| alias.colnames.is_empty()) {
                relations.push(relation);
            }
        }
        Some(Kind::JoinExpr(join)) if join.alias.is_none() => {
            let sides = [&join.larg, &join.rarg].into_iter().flatten();
            sides.for_each(|side| named(side, relations));
        }
        _ => {}
    }
}

/// The words of a name; `None` where it ends in a star.
fn words(fields: &[Node]) -> Option<Vec<&str>> {
    last(fields)?;
    let words = fields.iter().map(|field| match &field.node {
        Some(Kind::String(word)) => Some(word.sval.as_str()),
        _ => None,
    });
    words.collect()
}

/// The columns of a table that a query uses where they must be grouped.
fn used<'t>(select: &SelectStmt, of: &'t Stood<'_>) -> Result<BTreeSet<&'t str>, Veto> {
    let unclear = |_error| Veto::unclear("what is grouped cannot be read");
    let trees = [
        serde_json::to_value(&select.target_list),
        serde_json::to_value(&select.having_clause),
        serde_json::to_value(&select.sort_clause),
        serde_json::to_value(&select.distinct_clause),
        serde_json::to_value(&select.window_clause),
    ];
    let mut found = BTreeSet::new();
    for tree in trees {
        columns(&tree.map_err(unclear)?, of, &mut found);
    }
    Ok(found)
}

fn columns<'t>(tree: &Value, of: &'t Stood<'_>, found: &mut BTreeSet<&'t str>) {
    let string = |node: &Value| {
        let word = node.pointer("/node/String/sval").and_then(Value::as_str);
        word.map(str::to_owned)
    };
    match tree {
        Value::Object(fields) => {
            for (field, value) in fields {
                let list = |name: &str| {
                    let items = value.get(name).and_then(Value::as_array);
                    items.map_or(&[][..], Vec::as_slice)
                };
                if field == "ColumnRef" {
                    let names: Vec<_> = list("fields").iter().map(string).collect();
                    let all = match names.as_slice() {
                        [None] => true,
                        [.., Some(label), None] => *label == of.label(),
                        _ => false,
                    };
                    if all {
                        let columns = of.table.columns.iter();
                        found.extend(columns.map(|column| column.name.as_str()));
                    }
                    let names: Option<Vec<&str>> = names.iter().map(Option::as_deref).collect();
                    found.extend(names.and_then(|names| of.column(&names)));
                    continue;
                }
                let name = list("funcname").last().and_then(string);
                let is_window = value.get("over").is_some_and(|over| !over.is_null());
                let gathers = match field.as_str() {
                    "FuncCall" => !is_window && name.is_some_and(|name| is_aggregate(&name)),
                    "JsonArrayAgg" | "JsonObjectAgg" => true,
                    _ => false,
                };
                if !gathers {
                    columns(value, of, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| columns(item, of, found)),
        _ => {}
    }
}
