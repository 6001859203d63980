//! Writes to a relation that holds what is masked.
//!
//! A write that names no masked column, in what it sets, asks or gives back, goes through as it is. One
//! that does would learn of the value, and so would any write to a table where a constraint, a unique
//! index or an expression is about a masked column: these answer questions.

mod found;
mod unordered;

use std::collections::{BTreeSet, HashSet};

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{CmdType, ColumnRef, Node, RangeVar, ReturningClause};

pub(super) use self::found::found;
pub(super) use self::unordered::unordered;
use super::cover::Cover;
use super::resolve::Veto;
use super::schema::{Table, TiedBy};
use crate::protocol::postgres::facts::draft::{Draft, Write};

/// What a statement's names may not touch.
struct Target<'a> {
    table: &'a Table,
    cover: &'a Cover,
    /// Names that stand for the row.
    labels: Vec<&'a str>,
    /// Columns of which a change may move a row to another partition.
    moving: Option<&'a HashSet<String>>,
}

/// Whether the write to `relation`, which means `table`, tells nothing of what is masked in it.
pub(super) fn check<'a>(
    draft: &Draft<'a>,
    relation: &'a RangeVar,
    (table, cover): (&'a Table, &'a Cover),
) -> Result<(), Veto> {
    let mut target = Target {
        table,
        cover,
        labels: vec![&relation.relname, "excluded", "old", "new"],
        moving: None,
    };
    if let Some(alias) = &relation.alias {
        target.labels.push(&alias.aliasname);
    }
    for write in &draft.writes {
        target.labels.extend(labels(*write));
    }
    for write in draft.writes.iter().copied() {
        if !write
            .relation()
            .is_some_and(|written| std::ptr::eq(written, relation))
        {
            continue;
        }
        target.written(write)?;
    }
    for returning in draft.writes.iter().filter_map(|write| write.returning()) {
        target.returned(returning)?;
    }
    draft
        .columns
        .iter()
        .try_for_each(|column| target.named(column))
}

/// Whether nothing that is about masked columns of `holder`, into which a write to `relation` writes, has a say
/// in what becomes of it.
pub(super) fn unanswered<'a>(
    draft: &Draft<'a>,
    relation: &'a RangeVar,
    (holder, cover, moving): (&Table, &Cover, Option<&HashSet<String>>),
) -> Result<(), Veto> {
    let target = Target {
        table: holder,
        cover,
        labels: Vec::new(),
        moving,
    };
    let mut is_read = false;
    for write in draft.writes.iter().copied() {
        let written = write.relation();
        if written.is_some_and(|written| std::ptr::eq(written, relation)) {
            is_read = true;
            target.guarded(write)?;
        }
    }
    match is_read {
        true => Ok(()),
        false => Err(refused(holder, target.any(), TIED)),
    }
}

/// Whether a row may go to another partition when these are set: there it is a new one, and here it is gone.
pub(super) fn moves(sets: &[Node], by: Option<&HashSet<String>>) -> bool {
    by.is_some_and(|by| {
        sets.iter().any(|target| match &target.node {
            Some(Kind::ResTarget(target)) => by.contains(&target.name),
            _ => true,
        })
    })
}

/// Why a write is refused that a constraint could answer.
const TIED: &str = "a constraint, an index or an expression is about it";

/// Whether the write to `relation` leaves what others refer to as it is: whether a row of `table` can go tells
/// what a masked column holds, or runs a function; `why` says which.
pub(super) fn keeps_keys(
    draft: &Draft<'_>,
    relation: &RangeVar,
    (table, keys, moving): (&Table, &HashSet<String>, Option<&HashSet<String>>),
    why: &str,
) -> Result<(), Veto> {
    let refused = || {
        Veto::never(&format!(
            "deleting from {}, or changing its keys, which {why},",
            table.name
        ))
    };
    let keeps = |targets: &[Node]| {
        !moves(targets, moving)
            && targets.iter().all(|target| match &target.node {
                Some(Kind::ResTarget(target)) => {
                    table.column(&target.name).is_some() && !keys.contains(&target.name)
                }
                _ => false,
            })
    };
    for write in draft.writes.iter().copied() {
        let is_it = write
            .relation()
            .is_some_and(|written| std::ptr::eq(written, relation));
        let keeps = !is_it
            || match write {
                Write::Insert(insert) => insert
                    .on_conflict_clause
                    .as_deref()
                    .is_none_or(|conflict| keeps(&conflict.target_list)),
                Write::Update(update) => keeps(&update.target_list),
                Write::Copy(_) => true,
                Write::Delete(_) | Write::Merge(_) => false,
            };
        if !keeps {
            return Err(refused());
        }
    }
    Ok(())
}

/// What a write does to rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Makes one; it may also change one that is there.
    Add,
    /// Changes one.
    Update,
    /// Takes one away.
    Delete,
}

/// The masked column that something is about which has a say in what becomes of a write, where `sets` says
/// whether one of some columns is set.
pub(super) fn answered<'a>(
    table: &'a Table,
    cover: &Cover,
    deed: Deed,
    sets: &dyn Fn(&BTreeSet<i16>) -> bool,
) -> Option<&'a str> {
    let masked = |number: i16| cover.masks.contains_key(&number);
    let name = |which: &dyn Fn(i16) -> bool| {
        let column = table.columns.iter().find(|column| which(column.number));
        column.map_or("", |column| column.name.as_str())
    };
    for tie in table.ties.values() {
        let whole_row = tie.columns.contains(&0);
        let about = tie.columns.iter().copied().find(|number| masked(*number));
        if about.is_none() && !whole_row {
            continue;
        }
        let whole_row = whole_row && deed != Deed::Delete;
        let answers = match tie.by {
            TiedBy::Function => true,
            TiedBy::Order | TiedBy::Place => false,
            TiedBy::Referred if deed == Deed::Delete => true,
            TiedBy::Expression | TiedBy::Index => whole_row || sets(&tie.columns),
            TiedBy::Mutable => deed != Deed::Delete,
            TiedBy::Constraint | TiedBy::PrimaryKey | TiedBy::Referred => {
                deed == Deed::Add || whole_row || sets(&tie.columns)
            }
        };
        if answers {
            return Some(match about {
                Some(about) => name(&|number| number == about),
                None => name(&masked),
            });
        }
    }
    // A generated column that is made of a masked one and of one that is set may fail for one value and not
    // for another.
    table.generated.iter().find_map(|(made, from)| {
        let together = table.generated.iter().filter(|(other, _)| other == made);
        let together = together.map(|(_, from)| *from).collect();
        let answers = masked(*from) && sets(&together);
        answers.then(|| name(&|number| number == *from))
    })
}

/// The names that `RETURNING WITH (OLD AS o, NEW AS n)` gives.
fn labels<'a>(write: Write<'a>) -> impl Iterator<Item = &'a str> {
    let options = write
        .returning()
        .map(|returning| returning.options.as_slice());
    options
        .unwrap_or_default()
        .iter()
        .filter_map(|option| match &option.node {
            Some(Kind::ReturningOption(option)) => Some(option.value.as_str()),
            _ => None,
        })
}

/// A refusal that names the masked column.
fn refused(table: &Table, column: &str, why: &str) -> Veto {
    Veto::new(
        format!(
            "{}.{}.{column} is masked, and cannot be written or asked about here: {why}",
            table.schema, table.name
        ),
        format!("{}.{}.{column}", table.schema, table.name),
        "leave the column out, list the columns that are meant, and qualify names that belong to other tables",
    )
}

impl<'a> Target<'a> {
    /// The masked column of this name.
    fn masked(&self, name: &str) -> Option<&'a str> {
        let column = self.table.column(name)?;
        self.cover
            .masks
            .contains_key(&column.number)
            .then_some(column.name.as_str())
    }

    /// Whether nothing that is about a masked column of the table has a say in what becomes of a write. What
    /// is about masked columns alone has none in an update, which leaves them as they are: it holds for the
    /// row as before. What is about others too has one where these are set.
    fn guarded(&self, write: Write<'_>) -> Result<(), Veto> {
        let (adds, sets): (bool, Option<&[Node]>) = match write {
            Write::Update(update) => {
                let sets = &update.target_list;
                (moves(sets, self.moving), Some(sets))
            }
            Write::Delete(_) => (false, Some(&[])),
            Write::Insert(insert) => {
                let conflict = insert.on_conflict_clause.as_deref();
                let sets = conflict.map_or(&[][..], |conflict| &conflict.target_list);
                (true, Some(sets))
            }
            Write::Copy(_) => (true, Some(&[])),
            Write::Merge(_) => (true, None),
        };
        let deed = match (adds, matches!(write, Write::Delete(_))) {
            (true, _) => Deed::Add,
            (false, true) => Deed::Delete,
            (false, false) => Deed::Update,
        };
        match answered(self.table, self.cover, deed, &|columns| {
            self.sets(sets, columns)
        }) {
            Some(column) => Err(refused(self.table, column, TIED)),
            None => Ok(()),
        }
    }

    /// Whether one of these columns is set, or may be.
    fn sets(&self, sets: Option<&[Node]>, columns: &BTreeSet<i16>) -> bool {
        sets.is_none_or(|sets| {
            sets.iter().any(|target| match &target.node {
                Some(Kind::ResTarget(target)) => self
                    .table
                    .column(&target.name)
                    .is_none_or(|column| columns.contains(&column.number)),
                _ => true,
            })
        })
    }

    fn any(&self) -> &'a str {
        let mut columns = self.table.columns.iter();
        let masked = columns.find(|column| self.cover.masks.contains_key(&column.number));
        masked
            .map(|column| column.name.as_str())
            .unwrap_or_default()
    }

    fn written(&self, write: Write<'_>) -> Result<(), Veto> {
        match write {
            Write::Insert(insert) => {
                self.listed(&insert.cols)?;
                let conflict = insert.on_conflict_clause.as_deref();
                conflict.map_or(Ok(()), |conflict| {
                    self.set(&conflict.target_list)?;
                    conflict.infer.as_ref().map_or(Ok(()), |infer| {
                        // The constraint of a name may be about anything; the guard has seen to those.
                        self.elements(&infer.index_elems)
                    })
                })
            }
            Write::Update(update) => self.set(&update.target_list),
            Write::Delete(_) => Ok(()),
            Write::Merge(merge) => {
                for clause in &merge.merge_when_clauses {
                    if let Some(Kind::MergeWhenClause(clause)) = &clause.node {
                        match CmdType::try_from(clause.command_type) {
                            Ok(CmdType::CmdInsert) => self.listed(&clause.target_list)?,
                            _ => self.set(&clause.target_list)?,
                        }
                    }
                }
                Ok(())
            }
            Write::Copy(copy) => {
                if copy.attlist.is_empty() {
                    return Err(refused(
                        self.table,
                        self.any(),
                        "no columns are listed, so that it is one of them",
                    ));
                }
                copy.attlist.iter().try_for_each(|name| match &name.node {
                    Some(Kind::String(name)) => self.assigned(&name.sval),
                    _ => Err(Veto::unclear("a column of COPY that is no name")),
                })
            }
        }
    }

    fn assigned(&self, name: &str) -> Result<(), Veto> {
        match self.masked(name) {
            Some(column) => Err(refused(self.table, column, "it would be written")),
            None => Ok(()),
        }
    }

    /// The columns of an `INSERT`: without a list, all of them.
    fn listed(&self, columns: &[Node]) -> Result<(), Veto> {
        if columns.is_empty() {
            return Err(refused(
                self.table,
                self.any(),
                "no columns are listed, so that it is one of them",
            ));
        }
        self.set(columns)
    }

    fn set(&self, targets: &[Node]) -> Result<(), Veto> {
        targets.iter().try_for_each(|target| match &target.node {
            Some(Kind::ResTarget(target)) => self.assigned(&target.name),
            _ => Err(Veto::unclear("a column that is set by no name")),
        })
    }

    fn elements(&self, elements: &[Node]) -> Result<(), Veto> {
        elements.iter().try_for_each(|element| match &element.node {
            Some(Kind::IndexElem(element)) => self.assigned(&element.name),
            _ => Ok(()),
        })
    }

    fn returned(&self, returning: &ReturningClause) -> Result<(), Veto> {
        let star = returning
            .exprs
            .iter()
            .any(|expression| match &expression.node {
                Some(Kind::ResTarget(target)) => is_star(target.val.as_deref()),
                _ => true,
            });
        match star {
            true => Err(refused(self.table, self.any(), "RETURNING * gives it back")),
            false => Ok(()),
        }
    }

    /// A name anywhere in the statement that may mean a masked column, or the row with all of them.
    fn named(&self, column: &ColumnRef) -> Result<(), Veto> {
        let mut words = Vec::new();
        let mut star = false;
        for field in &column.fields {
            match &field.node {
                Some(Kind::String(word)) => words.push(word.sval.as_str()),
                Some(Kind::AStar(_)) => star = true,
                _ => return Err(Veto::unclear("a column whose name cannot be read")),
            }
        }
        let is_row = |label: &str| self.labels.contains(&label);
        match words.as_slice() {
            // `*` alone: of a query's own FROM, or of RETURNING, which is looked at apart.
            [] => Ok(()),
            [label] if is_row(label) => {
                Err(refused(self.table, self.any(), "the whole row is named"))
            }
            [_] if star => Ok(()),
            [name] => self.asked(name),
            [.., label, name] if is_row(label) => {
                if star || self.table.column(name).is_none() {
                    return Err(refused(self.table, self.any(), "the whole row is named"));
                }
                self.asked(name)
            }
            [.., label] if star && is_row(label) => {
                Err(refused(self.table, self.any(), "the whole row is named"))
            }
            _ => Ok(()),
        }
    }

    fn asked(&self, name: &str) -> Result<(), Veto> {
        let why = match name {
            "ctid" => "where a row lies tells how long it is",
            "xmin" | "xmax" | "cmin" | "cmax" | "tableoid" => {
                "who wrote or locked a row, and where it is, tells what it holds"
            }
            name => {
                return match self.masked(name) {
                    Some(column) => Err(refused(self.table, column, "it would be asked about")),
                    None => Ok(()),
                };
            }
        };
        Err(refused(self.table, self.any(), why))
    }
}

fn is_star(value: Option<&Node>) -> bool {
    match value.and_then(|node| node.node.as_ref()) {
        Some(Kind::ColumnRef(column)) => column
            .fields
            .iter()
            .all(|field| matches!(field.node, Some(Kind::AStar(_)))),
        _ => false,
    }
}
