//! From what was seen to what is proposed: a mask for each column that looks sensitive, with the reason.
//!
//! What inherits a mask is not proposed again: the same code that masks sessions says what does.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::Database;
use super::look::{Looked, Seen, is_inherited};
use crate::config::Target;
use crate::masking::sense::Sense;
use crate::masking::{Mask, Masks, Relation};
use crate::policy;
use crate::protocol::postgres::mask::Masking;
use crate::protocol::postgres::mask::expression::{Subject, objection};
use crate::protocol::postgres::mask::schema::{Column, Schema, Table};

/// So many values without a hit say that a name misleads.
const TELLING: u32 = 20;

/// What was found in one database.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) database: String,
    /// In the order of their names.
    pub(super) proposals: Vec<Proposal>,
    pub(super) configured: Vec<Named>,
    /// Columns that are masked because of another one.
    pub(super) inherited: Vec<Named>,
    /// Columns with something about them that is not enough to propose them.
    pub(super) doubts: Vec<Doubt>,
    /// Relations that were not looked at.
    pub(super) not_sampled: Vec<NotSampled>,
}

/// A column that should be configured.
#[derive(Debug, Serialize)]
pub(super) struct Proposal {
    /// Its name, as the configuration has it.
    pub(super) key: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) sense: Sense,
    /// The mask as the configuration has it, or the tag that says it.
    pub(super) mask: String,
    pub(super) evidence: Evidence,
}

/// A column with its mask.
#[derive(Debug, Serialize)]
pub(super) struct Named {
    pub(super) key: String,
    pub(super) mask: String,
    /// `table`, `view`, …
    pub(super) relation: &'static str,
}

/// A column that is not proposed, though something speaks for it.
#[derive(Debug, Serialize)]
pub(super) struct Doubt {
    pub(super) key: String,
    pub(super) sense: Sense,
    pub(super) evidence: Evidence,
}

#[derive(Debug, Serialize)]
pub(super) struct NotSampled {
    pub(super) relation: String,
    pub(super) why: &'static str,
}

/// Why.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Evidence {
    /// What its name says.
    pub(super) name: Option<Sense>,
    /// How many values were looked at; none where the column was not.
    pub(super) values: Option<u32>,
    /// How many of them hold which kind.
    pub(super) found: BTreeMap<&'static str, u32>,
}

/// What is to be said of one column.
enum Opinion {
    Proposed(Sense, Evidence),
    Doubted(Sense, Evidence),
}

/// What was found, put together.
pub(super) fn report(target: &Target, database: &Database, looked: Looked) -> Report {
    let schema = &database.schema;
    let mut work = Work {
        target,
        database,
        looked: &looked,
        masks: database.masks.clone(),
        proposals: BTreeMap::new(),
        doubts: BTreeMap::new(),
    };
    let mut tables: Vec<&Table> = schema.tables.values().collect();
    tables.sort_unstable_by_key(|table| (&table.schema, &table.name));
    let (views, bases): (Vec<&Table>, Vec<&Table>) =
        tables.into_iter().partition(|table| table.is_view());
    work.opine(&bases, &HashSet::new());
    work.drop_what_follows();
    let covered = work.covered();
    // What views show of their own making.
    work.opine(&views, &covered);
    let inherited = work.inherited();
    let Work {
        proposals, doubts, ..
    } = work;
    let not = looked.not.iter().filter_map(|(oid, why)| {
        let table = schema.tables.get(oid)?;
        let relation = format!("{}.{}", table.schema, table.name);
        Some(NotSampled { relation, why })
    });
    Report {
        database: database.name.clone(),
        configured: configured(target, database),
        inherited,
        not_sampled: not.collect(),
        proposals: proposals.into_values().collect(),
        doubts: doubts.into_values().collect(),
    }
}

struct Work<'a> {
    target: &'a Target,
    database: &'a Database,
    looked: &'a Looked,
    /// What is configured, and what is proposed.
    masks: Masks,
    proposals: BTreeMap<(Relation, String), Proposal>,
    doubts: BTreeMap<(Relation, String), Doubt>,
}

/// A column by its numbers.
type Place = (u32, i16);

impl Work<'_> {
    fn opine(&mut self, tables: &[&Table], covered: &HashSet<Place>) {
        let schema = Arc::clone(&self.database.schema);
        for table in tables {
            let relation = relation(table);
            for column in &table.columns {
                let is_known = self.masks.of(&relation, &column.name).is_some()
                    || covered.contains(&(table.oid, column.number))
                    || is_inherited(&schema, table, &column.name);
                if is_known {
                    continue;
                }
                let seen = self.looked.columns.get(&(table.oid, column.number));
                let key = key(self.target, self.database, &relation, &column.name);
                let place = (relation.clone(), column.name.clone());
                match opinion(column, seen) {
                    None => {}
                    Some(Opinion::Doubted(sense, evidence)) => {
                        let doubt = Doubt {
                            key,
                            sense,
                            evidence,
                        };
                        self.doubts.insert(place, doubt);
                    }
                    Some(Opinion::Proposed(sense, evidence)) => {
                        let (mask, word) = choose(self.target, sense, column);
                        let masks = self.masks.relations.entry(relation.clone()).or_default();
                        masks.insert(column.name.clone(), mask);
                        let proposal = Proposal {
                            key,
                            kind: column.type_name.clone(),
                            sense,
                            mask: word,
                            evidence,
                        };
                        self.proposals.insert(place, proposal);
                    }
                }
            }
        }
    }

    /// Takes back what is masked with another column: what refers to it, or is made of it.
    fn drop_what_follows(&mut self) {
        let schema = Arc::clone(&self.database.schema);
        let places: Vec<_> = self.proposals.keys().cloned().collect();
        for (relation, name) in places {
            let table = schema.find(&relation.schema, &relation.name);
            let column = table.and_then(|table| table.column(&name));
            let (Some(table), Some(column)) = (table, column) else {
                continue;
            };
            let mut referred = table
                .references
                .iter()
                .filter(|(own, ..)| *own == column.number)
                .map(|(_, other, number)| (*other, *number))
                .chain(
                    table
                        .generated
                        .iter()
                        .filter(|(made, _)| *made == column.number)
                        .map(|(_, from)| (table.oid, *from)),
                );
            if referred.any(|place| self.is_masked(&schema, place)) {
                if let Some(columns) = self.masks.relations.get_mut(&relation) {
                    columns.remove(&name);
                }
                self.proposals.remove(&(relation, name));
            }
        }
        self.masks
            .relations
            .retain(|_, columns| !columns.is_empty());
    }

    fn is_masked(&self, schema: &Schema, (table, number): Place) -> bool {
        schema.tables.get(&table).is_some_and(|table| {
            let mut columns = table.columns.iter();
            let column = columns.find(|column| column.number == number);
            column.is_some_and(|column| self.masks.of(&relation(table), &column.name).is_some())
        })
    }

    fn masking(&self) -> Masking {
        let schema = Some(Arc::clone(&self.database.schema));
        Masking::new(schema, Arc::new(self.masks.clone()), Arc::default())
    }

    fn covered(&self) -> HashSet<Place> {
        self.masking().origins().collect()
    }

    fn inherited(&self) -> Vec<Named> {
        let masking = self.masking();
        let schema = &self.database.schema;
        let own = |masked: &&crate::masking::Masked| {
            self.masks.of(&masked.relation, &masked.column).is_none()
        };
        let mut masked: Vec<_> = masking.masked().filter(own).collect();
        masked.sort_unstable();
        masked
            .into_iter()
            .map(|masked| Named {
                key: key(self.target, self.database, &masked.relation, &masked.column),
                mask: masked.by.to_string(),
                relation: schema
                    .find(&masked.relation.schema, &masked.relation.name)
                    .map_or("relation", kind),
            })
            .collect()
    }
}

fn configured(target: &Target, database: &Database) -> Vec<Named> {
    let columns = database.masks.columns();
    let named = columns.map(|(relation, column, mask)| {
        let found = database.schema.find(&relation.schema, &relation.name);
        let there = found.and_then(|table| Some((table, table.column(column)?)));
        let fits = |column| objection(mask, subject(column)).is_none();
        Named {
            key: key(target, database, relation, column),
            mask: mask.to_string(),
            relation: match there {
                None => "missing",
                Some((_, column)) if !fits(column) => "unfit",
                Some((table, _)) => kind(table),
            },
        }
    });
    named.collect()
}

fn kind(table: &Table) -> &'static str {
    match table.kind {
        b'v' => "view",
        b'm' => "materialized view",
        b'f' => "foreign table",
        _ if !table.parents.is_empty() => "partition or child",
        _ => "table",
    }
}

fn relation(table: &Table) -> Relation {
    Relation {
        schema: table.schema.clone(),
        name: table.name.clone(),
    }
}

/// Its name in the configuration: with the database where the target has several, as it may be in that one alone.
fn key(target: &Target, database: &Database, relation: &Relation, column: &str) -> String {
    let several = crate::cli::upstream::databases(target, None).map_or(0, |all| all.len()) > 1;
    let named = several.then_some(database.name.as_str());
    policy::column_name(named, [&relation.schema, &relation.name, column])
}

fn subject(column: &Column) -> Subject<'_> {
    Subject {
        column: &column.name,
        type_oid: column.type_oid,
        type_name: &column.type_name,
        is_domain: column.is_domain,
    }
}

/// The first mask that suits and stands for the type; by the target's own tag where that has one that does.
fn choose(target: &Target, sense: Sense, column: &Column) -> (Mask, String) {
    let stands = |mask: &&Mask| objection(mask, subject(column)).is_none();
    if let Some(mask) = target.tags.get(sense.tag()).filter(stands) {
        return (mask.clone(), sense.tag().to_owned());
    }
    let mask = sense.masks().iter().find(stands).unwrap_or(&Mask::Null);
    (mask.clone(), format!("{{ mask: {mask} }}"))
}

/// Whether values of a type can be what a name says.
fn can_be(sense: Sense, column: &Column) -> bool {
    let name = column.type_name.as_str();
    let is_time = ["date", "time", "interval"]
        .iter()
        .any(|front| name.starts_with(front));
    match name {
        "boolean" | "tsvector" => false,
        _ if is_time => sense == Sense::Birth,
        _ => true,
    }
}

fn opinion(column: &Column, seen: Option<&Seen>) -> Option<Opinion> {
    let named = Sense::of_name(&column.name).filter(|sense| can_be(*sense, column));
    let evidence = Evidence {
        name: named,
        values: seen.map(|seen| seen.values),
        found: seen
            .iter()
            .flat_map(|seen| &seen.found)
            .map(|(kind, count)| (kind.word(), *count))
            .collect(),
    };
    let valued = seen.and_then(|seen| by_values(seen, column));
    let hits = |sense: Sense| {
        let found = seen.iter().flat_map(|seen| &seen.found);
        found
            .filter(|(kind, _)| Sense::of_kind(**kind) == sense)
            .map(|(_, count)| *count)
            .sum::<u32>()
    };
    match (valued, named) {
        (Some(sense), _) => Some(Opinion::Proposed(sense, evidence)),
        (None, Some(sense)) => {
            let values = seen.map_or(0, |seen| seen.values);
            let misleads = sense.is_told_by_values() && values >= TELLING && hits(sense) == 0;
            Some(match misleads {
                true => Opinion::Doubted(sense, evidence),
                false => Opinion::Proposed(sense, evidence),
            })
        }
        (None, None) => {
            let certain = seen?.found.keys().find(|kind| kind.is_certain())?;
            Some(Opinion::Doubted(Sense::of_kind(*certain), evidence))
        }
    }
}

/// What enough of the values are: one in twenty of what has a form that nothing else has, or half of them.
fn by_values(seen: &Seen, column: &Column) -> Option<Sense> {
    let is_number = ["integer", "bigint", "numeric"]
        .iter()
        .any(|front| column.type_name.starts_with(front));
    let mut senses: BTreeMap<Sense, u32> = BTreeMap::new();
    let mut enough = BTreeSet::new();
    for (kind, count) in &seen.found {
        let sense = Sense::of_kind(*kind);
        let certain = kind.is_certain() && !is_number;
        let needed = if certain {
            seen.values.div_ceil(20)
        } else {
            seen.values.div_ceil(2)
        };
        let sum = senses.entry(sense).or_default();
        *sum = sum.saturating_add(*count);
        if *count >= needed.max(1) {
            enough.insert(sense);
        }
    }
    let found = senses
        .into_iter()
        .filter(|(sense, _)| enough.contains(sense));
    let most = found.max_by_key(|(_, count)| *count);
    most.map(|(sense, _)| sense)
}

#[cfg(test)]
mod tests;
