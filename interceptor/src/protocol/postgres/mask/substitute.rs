//! Putting what is masked in the place of what is named, at byte spans of the text.

mod grouped;
mod hints;
mod tokens;

use std::sync::Arc;

pub(super) use self::hints::splices as hints;
pub(super) use self::tokens::Tokens;

/// One piece of a text and what takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Splice {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) text: Arc<str>,
    /// Whether a masked relation is read inside of it.
    pub(super) reads: bool,
}

/// A rewritten text.
#[derive(Debug)]
pub(super) struct Spliced {
    pub(super) text: String,
    /// Where in it masked relations may be read.
    pub(super) inside: Vec<std::ops::Range<usize>>,
}

/// `text` with its splices, which are sorted first; `None` where two of them overlap.
pub(super) fn apply(text: &str, splices: &mut [Splice]) -> Option<Spliced> {
    splices.sort_by_key(|splice| (splice.from, splice.to));
    let more: usize = splices.iter().map(|splice| splice.text.len()).sum();
    let mut out = String::with_capacity(text.len().saturating_add(more));
    let mut inside = Vec::new();
    let mut at = 0;
    for splice in splices.iter() {
        out.push_str(text.get(at..splice.from)?);
        let start = out.len();
        out.push_str(&splice.text);
        if splice.reads {
            inside.push(start..out.len());
        }
        at = splice.to;
    }
    out.push_str(text.get(at..)?);
    Some(Spliced { text: out, inside })
}

/// A splice as it is in every text of one shape: so many bytes behind the end of so many literals.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Anchored {
    literals: usize,
    after: usize,
    length: usize,
    text: Arc<str>,
}

/// How a text is rewritten, and every other text of its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// What goes upstream for the text that was read.
    pub text: Arc<str>,
    anchored: Arc<[Anchored]>,
}

impl Rewrite {
    /// Of a text whose literals end at `literals`.
    pub(super) fn new(text: String, splices: &[Splice], literals: &[usize]) -> Self {
        let anchored = splices.iter().map(|splice| {
            let count = literals.partition_point(|end| *end <= splice.from);
            let last = count.checked_sub(1).and_then(|last| literals.get(last));
            Anchored {
                literals: count,
                after: splice.from.saturating_sub(last.copied().unwrap_or(0)),
                length: splice.to.saturating_sub(splice.from),
                text: Arc::clone(&splice.text),
            }
        });
        Self {
            text: text.into(),
            anchored: anchored.collect(),
        }
    }

    /// The same of another text of the same shape, whose literals end at `literals`.
    #[must_use]
    pub fn again(&self, text: &str, literals: &[usize]) -> Option<Self> {
        let more: usize = self.anchored.iter().map(|splice| splice.text.len()).sum();
        let mut out = String::with_capacity(text.len().saturating_add(more));
        let mut at = 0;
        for splice in self.anchored.iter() {
            let end = match splice.literals.checked_sub(1) {
                Some(last) => *literals.get(last)?,
                None => 0,
            };
            let from = end.checked_add(splice.after)?;
            out.push_str(text.get(at..from)?);
            out.push_str(&splice.text);
            at = from.checked_add(splice.length)?;
        }
        out.push_str(text.get(at..)?);
        Some(Self {
            text: out.into(),
            anchored: Arc::clone(&self.anchored),
        })
    }

    /// Bytes that it keeps alive, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let pieces = self.anchored.iter().map(|splice| splice.text.len());
        self.text.len().saturating_add(pieces.sum())
    }
}
