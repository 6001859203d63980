//! Rows: each value of text is looked at by itself, in the buffer that it came in.
//!
//! A row of a binary `COPY` has the form of a `DataRow`. What does not have its form is looked at as one
//! value: whether it is a row is for the client to find out.

use super::super::super::super::wire::backend;
use super::{Catch, Columns, Detectors};
use crate::masking::detect::Scan;

/// What was decided at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    pub(super) bytes: usize,
    /// Messages that began.
    pub(super) messages: u64,
}

/// Rows as they come.
#[derive(Debug, Default)]
pub(super) struct Rows {
    row: Option<Row>,
}

/// A row that is decided in part.
#[derive(Debug)]
struct Row {
    /// Bytes of the message that are not decided.
    left: usize,
    column: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The number of values comes, or what stands in front of all rows.
    Count,
    /// The length of a value comes.
    Length,
    /// So much of a value comes that nobody looks at.
    Passing(usize),
    /// So much of a value comes.
    Value(usize, Scan),
}

impl Rows {
    pub(super) fn is_inside(&self) -> bool {
        self.row.is_some()
    }

    /// Looks at all rows of one kind of message at the front.
    pub(super) fn pass(
        &mut self,
        front: &mut [u8],
        columns: &Columns,
        detectors: &Detectors,
        catch: &mut Catch,
    ) -> Run {
        let mut run = Run::default();
        let mut tag = None;
        while catch.refused.is_none() {
            let rest = front.get_mut(run.bytes..).unwrap_or_default();
            let Some(row) = &mut self.row else {
                let first = rest.first().copied();
                let data = matches!(first, Some(backend::DATA_ROW | backend::COPY_DATA));
                if !data || tag.is_some_and(|tag| Some(tag) != first) {
                    break;
                }
                tag = first;
                let Ok(Some(header)) = backend::header(rest) else {
                    break;
                };
                run.messages = run.messages.saturating_add(1);
                if columns.are_others() && header.whole() <= rest.len() {
                    run.bytes = run.bytes.saturating_add(header.whole());
                    continue;
                }
                run.bytes = run.bytes.saturating_add(super::HEADER);
                self.row = Some(Row::new(header.body)).filter(|row| row.left > 0);
                continue;
            };
            let here = row.left.min(rest.len());
            let body = rest.get_mut(..here).unwrap_or_default();
            let Some(decided) = row.step(body, columns, detectors, catch) else {
                break;
            };
            run.bytes = run.bytes.saturating_add(decided);
            row.left = row.left.saturating_sub(decided);
            if row.left == 0 {
                self.row = None;
            }
        }
        run
    }
}

impl Row {
    fn new(left: usize) -> Self {
        Self {
            left,
            column: 0,
            stage: Stage::Count,
        }
    }

    /// Decides the next part of what is here of the row; `None` where more must come.
    fn step(
        &mut self,
        body: &mut [u8],
        columns: &Columns,
        detectors: &Detectors,
        catch: &mut Catch,
    ) -> Option<usize> {
        let whole = body.len() == self.left;
        match &mut self.stage {
            Stage::Count => {
                let begins = match body.get(..backend::BINARY_COPY.len()) {
                    None if whole => Some(&*body),
                    begins => begins,
                };
                if begins? == backend::BINARY_COPY {
                    let front = body.get(..backend::BINARY_COPY_FRONT);
                    return match front {
                        None if whole => Some(body.len()),
                        front => front.map(<[u8]>::len),
                    };
                }
                self.stage = Stage::Length;
                Some(2.min(body.len()))
            }
            Stage::Length => {
                let Some(length) = body.first_chunk::<4>() else {
                    return whole.then_some(body.len());
                };
                let length = i32::from_be_bytes(*length);
                let after = self.left.saturating_sub(4);
                // NULL has no value; one that reaches beyond its message ends with it.
                let length = usize::try_from(length).unwrap_or(0);
                self.stage = match length {
                    0 => Stage::Length,
                    length if columns.is_text(self.column) => {
                        Stage::Value(length.min(after), Scan::default())
                    }
                    length => Stage::Passing(length.min(after)),
                };
                if after == 0 {
                    self.stage = Stage::Length;
                }
                self.column = self.column.saturating_add(1);
                Some(4)
            }
            Stage::Passing(left) => {
                let here = body.len().min(*left);
                *left = left.saturating_sub(here);
                if *left == 0 {
                    self.stage = Stage::Length;
                }
                (here > 0).then_some(here)
            }
            Stage::Value(left, scan) => {
                let last = body.len() >= *left;
                let value = match body.get_mut(..*left) {
                    Some(value) => value,
                    None => body,
                };
                let decided = scan_value(scan, value, last, detectors, catch);
                *left = left.saturating_sub(decided);
                if *left == 0 {
                    self.stage = Stage::Length;
                }
                (decided > 0).then_some(decided)
            }
        }
    }
}

fn scan_value(
    scan: &mut Scan,
    value: &mut [u8],
    last: bool,
    detectors: &Detectors,
    catch: &mut Catch,
) -> usize {
    let decided = if last && scan.is_new() {
        detectors.find(value, |piece| catch.note(piece, 0));
        value.len()
    } else {
        scan.step(detectors, value, last, |piece| catch.note(piece, 0))
    };
    catch.cover(value);
    decided
}
