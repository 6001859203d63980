//! What an operator asks of a database, on a session of the target's own login role: what that role may
//! do there, and what columns hold.
//!
//! Reads only, in transactions that cannot write and that end by themselves. Each name and operator is
//! qualified, as the other questions to the catalog are; what the server answers is bounded.

mod powers;
mod rights;
mod sample;

use super::answer::{self, Bounds, Ended};
use super::{COMMAND_COMPLETE, DATA_ROW, Denied, Error, Peer, READY, ROW_DESCRIPTION, wrong};
pub use powers::{Held, Powers};
pub use rights::{Public, Rights};
pub use sample::{AT_ONCE, Readable, Sample};

use crate::protocol::postgres::inject::Upstream;
use crate::protocol::postgres::wire::Body;
use crate::protocol::postgres::wire::error::{ERROR, NOTICE};
use crate::protocol::postgres::wire::startup::PARAMETER_STATUS;

/// The most rows of one answer.
const ROWS_MAX: usize = 500_000;
/// The most bytes of one answer.
const BYTES_MAX: usize = 64 << 20;
/// The most columns of one row.
const COLUMNS_MAX: usize = 64;

/// A session for questions.
#[derive(Debug)]
pub struct Survey {
    peer: Peer,
}

/// A row's values as text; none for null.
type Cells<'a> = [Option<&'a [u8]>];

impl Survey {
    /// Asks on a session that was just opened.
    #[must_use]
    pub fn new(upstream: Upstream) -> Self {
        Self {
            peer: Peer::with(upstream.stream, upstream.unread),
        }
    }

    /// Asks; `take` is given each row, with the number of its result, from 1. What the server refuses is
    /// in the answer, and the session goes on.
    async fn ask(
        &mut self,
        question: &str,
        mut take: impl FnMut(u8, &Cells<'_>) -> Result<(), Error>,
    ) -> Result<Result<(), Denied>, Error> {
        self.peer.allow(BYTES_MAX);
        let bounds = Bounds {
            rows: ROWS_MAX,
            what: "rows of an answer",
            body: body_max,
        };
        let taken = |result, row: &[u8]| take(result, &cells(row)?);
        Ok(
            match answer::ask(&mut self.peer, question, bounds, taken).await? {
                Ended::Whole(_) => Ok(()),
                Ended::Refused(error) | Ended::RolledBack(error) => Err(error),
            },
        )
    }

    /// Asks what the server must not refuse.
    async fn must(
        &mut self,
        question: &str,
        take: impl FnMut(u8, &Cells<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let answered = self.ask(question, take).await?;
        answered.map_err(|denied| wrong(&denied.to_string()))
    }
}

fn body_max(tag: u8) -> Option<usize> {
    match tag {
        DATA_ROW => Some(1 << 20),
        ROW_DESCRIPTION => Some(32 << 10),
        COMMAND_COMPLETE => Some(4_096),
        PARAMETER_STATUS => Some(8_192),
        READY => Some(1),
        ERROR | NOTICE => Some(30_000),
        _ => None,
    }
}

fn cells(row: &[u8]) -> Result<Vec<Option<&[u8]>>, Error> {
    let mut body = Body::new(row);
    let count = body.i16("number of columns")?;
    let count = usize::try_from(count).unwrap_or_default();
    if count > COLUMNS_MAX {
        return Err(wrong("a row has too many columns"));
    }
    let mut cells = Vec::with_capacity(count);
    for _ in 0..count {
        let length = body.i32("length of a column")?;
        cells.push(match usize::try_from(length) {
            Ok(length) => Some(body.bytes("column", length)?),
            Err(_negative) => None,
        });
    }
    body.end()?;
    Ok(cells)
}

/// A row of so many columns, none of them null.
fn texts<'a, const N: usize>(row: &Cells<'a>) -> Result<[&'a str; N], Error> {
    let mut texts = [""; N];
    if row.len() != N {
        return Err(wrong("a row has the wrong number of columns"));
    }
    for (text, cell) in texts.iter_mut().zip(row) {
        let cell = cell.ok_or_else(|| wrong("a column is null"))?;
        *text = std::str::from_utf8(cell).map_err(|_not_utf8| wrong("a name is not UTF-8"))?;
    }
    Ok(texts)
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, Error> {
    text.parse().map_err(|_not_one| wrong("a number is none"))
}

#[cfg(test)]
mod tests;
