//! Looks at what columns hold: a few rows of each table, by the detectors that look at answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, timeout};

use crate::masking::detect::{Action, Detectors, Kind};
use crate::protocol::postgres::inject::survey::{AT_ONCE, Readable, Sample, Survey};
use crate::protocol::postgres::mask::Schema;
use crate::protocol::postgres::mask::schema::{Column, Table};

/// How long all of it may take: what is not looked at then is told by its name.
const ALL: Duration = Duration::from_secs(120);
/// How long one answer may take; the server is told to give up before.
const ONE: Duration = Duration::from_secs(20);

/// What was seen of one column.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Values that are not null and not empty.
    pub(super) values: u32,
    /// How many of them hold something of a kind.
    pub(super) found: BTreeMap<Kind, u32>,
}

/// What was seen of a database.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) columns: HashMap<(u32, i16), Seen>,
    /// Relations that were not looked at, and why.
    pub(super) not: Vec<(u32, &'static str)>,
}

/// Looks at a database.
pub(super) async fn at(survey: &mut Survey, schema: &Schema, rows: u32) -> anyhow::Result<Looked> {
    let until = Instant::now() + ALL;
    let every = Kind::ALL.iter().map(|kind| (*kind, Action::Report));
    let detectors = Detectors::new(&every.collect()).context("there are no detectors")?;
    let readable = timeout(ONE, survey.readable()).await;
    let readable = readable.context("the server does not answer")??;
    let mut looked = Looked::default();
    let mut tables: Vec<&Table> = schema.tables.values().collect();
    tables.sort_unstable_by_key(|table| (&table.schema, &table.name));
    for table in tables {
        let columns = worth(schema, table);
        if columns.is_empty() {
            continue;
        }
        if Instant::now() >= until {
            looked.not.push((table.oid, "out of time"));
            continue;
        }
        let seen = columns.len();
        let columns: Vec<usize> = columns
            .into_iter()
            .filter(|place| {
                let column = table.columns.get(*place);
                column.is_some_and(|column| readable.has(table.oid, column.number))
            })
            .collect();
        if columns.len() < seen {
            looked
                .not
                .push((table.oid, "the login role cannot read all of it"));
        }
        for some in columns.chunks(AT_ONCE) {
            let sample = Sample {
                table,
                columns: some,
                rows,
                of: rows_of(schema, &readable, table, 0),
            };
            if let Some(why) = one(survey, &detectors, sample, &mut looked).await? {
                looked.not.push((table.oid, why));
                break;
            }
        }
    }
    Ok(looked)
}

/// One look; why the server did not let it happen.
async fn one(
    survey: &mut Survey,
    detectors: &Detectors,
    sample: Sample<'_>,
    looked: &mut Looked,
) -> anyhow::Result<Option<&'static str>> {
    let mut seen = vec![Seen::default(); sample.columns.len()];
    let each = |place: usize, value: Option<&[u8]>| {
        if let (Some(seen), Some(value)) = (seen.get_mut(place), value) {
            note(detectors, seen, value);
        }
    };
    let answer = timeout(ONE, survey.sample(sample, each)).await;
    let answer = answer.context("the server does not answer")??;
    if let Err(denied) = answer {
        // Its words may quote a value.
        return Ok(Some(match denied.sqlstate.as_deref() {
            Some("57014") => "the server took too long",
            Some("55P03") => "something else holds it",
            Some("42501") => "the login role cannot read it",
            _ => "the server cannot show it",
        }));
    }
    for (place, seen) in sample.columns.iter().zip(seen) {
        if let Some(column) = sample.table.columns.get(*place) {
            looked
                .columns
                .insert((sample.table.oid, column.number), seen);
        }
    }
    Ok(None)
}

fn note(detectors: &Detectors, seen: &mut Seen, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    seen.values = seen.values.saturating_add(1);
    let mut kinds = BTreeSet::new();
    detectors.find(value, |piece| {
        kinds.insert(piece.kind);
    });
    for kind in kinds {
        let count = seen.found.entry(kind).or_default();
        *count = count.saturating_add(1);
    }
}

/// The columns of a table that have rows of their own to be looked at, by place.
fn worth(schema: &Schema, table: &Table) -> Vec<usize> {
    if !matches!(table.kind, b'r' | b'p' | b'm') {
        return Vec::new();
    }
    let columns = table.columns.iter().enumerate();
    columns
        .filter(|(_, column)| is_text(column) && !is_inherited(schema, table, &column.name))
        .map(|(place, _)| place)
        .collect()
}

/// Whether a table has a column from what it inherits from, or is a partition of.
pub(super) fn is_inherited(schema: &Schema, table: &Table, column: &str) -> bool {
    let mut parents = table.parents.iter();
    parents.any(|parent| {
        let parent = schema.tables.get(parent);
        parent.is_some_and(|parent| parent.column(column).is_some())
    })
}

/// Types whose values detectors can read.
fn is_text(column: &Column) -> bool {
    let name = column.type_name.trim_end_matches("[]");
    let name = name.split('(').next().unwrap_or_default();
    let texts = [
        "text",
        "character varying",
        "character",
        "name",
        "citext",
        "json",
        "jsonb",
        "xml",
        "integer",
        "bigint",
        "numeric",
        "inet",
    ];
    texts.contains(&name) || name.ends_with(".citext")
}

/// How many rows there are, about: of a partitioned table, those of its partitions.
fn rows_of(schema: &Schema, readable: &Readable, table: &Table, depth: u8) -> u64 {
    let own = readable.rows(table.oid);
    if table.kind != b'p' || depth > 8 {
        return own;
    }
    let mut parts = schema.tables.values().collect::<Vec<_>>();
    parts.retain(|part| part.parents.contains(&table.oid));
    let parts = parts
        .into_iter()
        .map(|part| rows_of(schema, readable, part, depth.saturating_add(1)));
    own.max(parts.fold(0, u64::saturating_add))
}
