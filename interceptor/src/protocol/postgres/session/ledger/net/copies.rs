//! Copied data in a form of text: one stream, however it was put into messages.

use super::super::super::super::wire::backend;
use super::{Catch, Detectors, HEADER};
use crate::masking::detect::Scan;

/// The data of a `COPY` as it comes.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Bytes of the message at the front that are not decided.
    left: usize,
    scan: Scan,
    /// All data at the front, without the headers between.
    data: Vec<u8>,
    parts: Vec<Part>,
}

/// Where a part of the data stands.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// In the data.
    at: usize,
    /// At the front.
    from: usize,
    size: usize,
    /// Its message's header stands at the front too.
    begins: bool,
    /// What of its message comes behind it.
    left: usize,
}

impl Copies {
    pub(super) fn is_inside(&self) -> bool {
        self.left > 0
    }

    /// Looks at all data at the front, and says how much of the front is decided; with `ends`, no more of it
    /// comes.
    pub(super) fn pass(
        &mut self,
        (front, ends): (&mut [u8], bool),
        detectors: &Detectors,
        catch: &mut Catch,
    ) -> usize {
        let (gathered, left, last) = self.gather(front);
        let last = last || ends && left == 0;
        let decided = self
            .scan
            .step(detectors, &self.data, last, |piece| catch.note(piece, 0));
        for (start, end) in catch.masks.drain(..) {
            cover_parts(front, &self.parts, start, end);
        }
        if last {
            self.scan = Scan::default();
        }
        let undecided = self
            .parts
            .iter()
            .find(|part| (part.at..part.at.saturating_add(part.size)).contains(&decided));
        let (at, left) = match undecided {
            None => (gathered, left),
            Some(part) if part.at == decided && part.begins => {
                (part.from.saturating_sub(HEADER), 0)
            }
            Some(part) => {
                let into = decided.saturating_sub(part.at);
                let rest = part.size.saturating_sub(into);
                (
                    part.from.saturating_add(into),
                    rest.saturating_add(part.left),
                )
            }
        };
        self.left = left;
        if self.data.capacity() > KEPT {
            self.data = Vec::new();
        }
        at
    }

    /// Copies the data at the front together. How far it goes, what the last message lacks, and whether
    /// something else comes behind it.
    fn gather(&mut self, front: &[u8]) -> (usize, usize, bool) {
        self.data.clear();
        self.parts.clear();
        let (mut at, mut left, mut begins) = (0_usize, self.left, false);
        loop {
            let rest = front.get(at..).unwrap_or_default();
            if left == 0 {
                match rest.first() {
                    Some(&backend::COPY_DATA) => {}
                    other => return (at, left, other.is_some()),
                }
                let Ok(Some(header)) = backend::header(rest) else {
                    return (at, left, false);
                };
                at = at.saturating_add(HEADER);
                left = header.body;
                begins = true;
                continue;
            }
            let here = left.min(rest.len());
            if here == 0 {
                return (at, left, false);
            }
            left = left.saturating_sub(here);
            self.parts.push(Part {
                at: self.data.len(),
                from: at,
                size: here,
                begins,
                left,
            });
            self.data
                .extend_from_slice(rest.get(..here).unwrap_or_default());
            at = at.saturating_add(here);
            begins = false;
        }
    }
}

/// Masks, at the front, what stands between two places in the data.
fn cover_parts(front: &mut [u8], parts: &[Part], start: usize, end: usize) {
    let ends = |part: &Part| part.at.saturating_add(part.size);
    let first = parts.partition_point(|part| ends(part) <= start);
    let touched = parts.iter().skip(first).take_while(|part| part.at < end);
    for part in touched {
        let place = |at: usize| part.from.saturating_add(at.saturating_sub(part.at));
        let bytes = front.get_mut(place(start.max(part.at))..place(end.min(ends(part))));
        super::cover(bytes.unwrap_or_default());
    }
}

/// The most that is kept for the next data.
const KEPT: usize = 128 << 10;
