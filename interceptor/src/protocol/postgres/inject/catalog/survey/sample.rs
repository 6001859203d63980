//! A look at what columns hold: a few rows, each value's beginning, handed on and not kept.

use std::collections::{HashMap, HashSet};

use super::{COLUMNS_MAX, Cells, Denied, Error, Survey, number, texts};
use crate::protocol::postgres::mask::expression::identifier;
use crate::protocol::postgres::mask::schema::Table;

const READABLE: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 10000; SET LOCAL search_path = pg_catalog; \
    SELECT c.oid::pg_catalog.text, (c.reltuples::pg_catalog.int8)::pg_catalog.text \
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
    ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','p','m']::pg_catalog.\"char\"[]) \
    AND n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
    AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'); \
    SELECT a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text FROM pg_catalog.pg_attribute AS a \
    JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
    JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','p','m']::pg_catalog.\"char\"[]) \
    AND n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
    AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
    AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT'); COMMIT";

/// How many columns are asked for at once.
pub const AT_ONCE: usize = 16;
/// How much of a value is looked at, in characters.
const BEGINNING: usize = 1_024;
/// So many times the rows that are wanted: a table with more is looked at here and there.
const LARGE: u64 = 20;

/// What the login role can read, and how much there is of it.
#[derive(Clone, Debug, Default)]
pub struct Readable {
    /// Rows of a relation, about; negative where nobody has counted.
    rows: HashMap<u32, i64>,
    columns: HashSet<(u32, i16)>,
}

impl Readable {
    /// Whether a column can be read.
    #[must_use]
    pub fn has(&self, table: u32, column: i16) -> bool {
        self.rows.contains_key(&table) && self.columns.contains(&(table, column))
    }

    /// How many rows a relation has, about; zero where nobody has counted.
    #[must_use]
    pub fn rows(&self, table: u32) -> u64 {
        let rows = self.rows.get(&table).copied();
        rows.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0)
    }
}

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The relation.
    pub table: &'a Table,
    /// Its columns by their place in `table.columns`; at most 16 at once.
    pub columns: &'a [usize],
    /// How many rows.
    pub rows: u32,
    /// How many there are, about.
    pub of: u64,
}

impl Sample<'_> {
    fn question(&self, here_and_there: bool) -> String {
        let columns = self.columns.iter().take(AT_ONCE).filter_map(|place| {
            let column = self.table.columns.get(*place)?;
            Some(format!(
                "pg_catalog.left(CAST(\"~\".{} AS pg_catalog.text), {BEGINNING})",
                identifier(&column.name)
            ))
        });
        let columns: Vec<_> = columns.collect();
        let sample = match here_and_there {
            false => String::new(),
            true => format!(" TABLESAMPLE pg_catalog.system ({})", self.percent()),
        };
        format!(
            "BEGIN READ ONLY; SET LOCAL statement_timeout = 5000; SET LOCAL lock_timeout = 1000; \
             SET LOCAL search_path = pg_catalog; SELECT {} FROM {}.{} AS \"~\"{sample} LIMIT {}; COMMIT",
            columns.join(", "),
            identifier(&self.table.schema),
            identifier(&self.table.name),
            self.rows
        )
    }

    /// What share of the table to look at, in hundredths of a percent: four times the rows that are wanted.
    fn percent(&self) -> String {
        let wanted = u64::from(self.rows).saturating_mul(4 * 10_000);
        let share = wanted
            .checked_div(self.of)
            .unwrap_or(10_000)
            .clamp(1, 10_000);
        format!("{}.{:02}", share / 100, share % 100)
    }

    fn is_large(&self) -> bool {
        self.of > u64::from(self.rows).saturating_mul(LARGE)
    }
}

impl Survey {
    /// What the login role can read.
    ///
    /// # Errors
    /// Where the server does not answer as it must.
    pub async fn readable(&mut self) -> Result<Readable, Error> {
        let mut readable = Readable::default();
        let take = |result: u8, row: &Cells<'_>| {
            let [oid, of] = texts(row)?;
            match result {
                1 => drop(readable.rows.insert(number(oid)?, number(of)?)),
                _ => drop(readable.columns.insert((number(oid)?, number(of)?))),
            }
            Ok(())
        };
        self.must(READABLE, take).await?;
        Ok(readable)
    }

    /// Looks at values: `each` is given the place of its column among those of the sample. Comes back with
    /// how many rows were looked at, or with what the server said.
    ///
    /// # Errors
    /// Where the server does not answer as it must: the session is worth nothing any more.
    pub async fn sample(
        &mut self,
        sample: Sample<'_>,
        mut each: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<Result<u32, Denied>, Error> {
        let mut seen = 0_u32;
        for here_and_there in [true, false] {
            if here_and_there && !sample.is_large() {
                continue;
            }
            let take = |_: u8, row: &Cells<'_>| {
                seen = seen.saturating_add(1);
                row.iter()
                    .take(COLUMNS_MAX)
                    .enumerate()
                    .for_each(|(place, cell)| each(place, *cell));
                Ok(())
            };
            if let Err(denied) = self.ask(&sample.question(here_and_there), take).await? {
                return Ok(Err(denied));
            }
            // Blocks are chosen by chance: there may be none, of a table that has shrunk.
            if seen > 0 {
                break;
            }
        }
        Ok(Ok(seen))
    }
}
