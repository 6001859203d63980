//! The credential on its way back: a server that shows what it was given would show it to the agent.
//!
//! What an answer holds of a credential is covered, letter for letter, so that no length changes and no framing
//! with it. It is looked for in the forms of [`Forms`], and below three layers of escapes, whichever of its
//! letters a server escapes. Nothing is kept of an answer but what may be the beginning of it.

mod escapes;
mod forms;
mod frames;
mod given;

use std::sync::Arc;

use hyper::ext::ReasonPhrase;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;

use self::escapes::{Text, span};
pub(crate) use self::forms::Forms;
pub(crate) use self::frames::Covered;
pub(crate) use self::given::Given;
use crate::protocol::http::mask::Broken;

/// Escapes within escapes: a log in JSON, in JSON, in a page.
const LAYERS: usize = 3;
/// From how many letters on an answer waits for what comes next. Fewer are given at once: else what two people
/// write to each other would wait for its next word. What is given counts on, so no more than these are ever seen.
const HELD: usize = 4;
/// Bytes that may wait. The longest credential, each letter of it escaped at length, is shorter.
const WINDOW_MAX: usize = 512 << 10;
/// What stands in the place of each byte.
const COVER: u8 = b'*';
/// Marks of a byte: it is covered.
const HIDDEN: u8 = 1;
/// It belongs to the framing and is no text.
const APART: u8 = 2;

/// What ends behind the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Nothing that is known of.
    Nothing,
    /// A line, an event, a message: whoever reads it waits for it.
    Message,
    /// All of it.
    All,
}

/// Bytes being looked through.
#[derive(Debug)]
struct Concealer {
    forms: Arc<Forms>,
    /// From where what is looked for may have begun.
    window: Vec<u8>,
    /// What is marked of it, up to the last mark.
    marks: Vec<u8>,
    /// How much of the window is given already.
    given: usize,
    found: bool,
}

impl Concealer {
    fn new(forms: Arc<Forms>) -> Self {
        Self {
            forms,
            window: Vec::new(),
            marks: Vec::new(),
            given: 0,
            found: false,
        }
    }

    /// Takes bytes of the text, or of what stands between two pieces of it.
    fn push(&mut self, bytes: &[u8], mark: u8) {
        if mark != 0 {
            self.marks.resize(self.window.len(), 0);
            self.marks
                .resize(self.window.len().saturating_add(bytes.len()), mark);
        }
        self.window.extend_from_slice(bytes);
    }

    /// Gives what is not the beginning of something.
    fn step(&mut self, ends: Ends, out: &mut Vec<u8>) -> Result<(), Broken> {
        let (from, mut held) = self.look(ends == Ends::All);
        if ends != Ends::Nothing {
            held = self.window.len();
        }
        let bytes = self.window.get(self.given..held).unwrap_or_default();
        let marks = self.marks.get(self.given.min(self.marks.len())..);
        let marks = marks.unwrap_or_default();
        let before = out.len();
        out.extend_from_slice(bytes);
        let shown = out.get_mut(before..).unwrap_or_default();
        for (byte, _) in shown
            .iter_mut()
            .zip(marks)
            .filter(|(_, mark)| **mark == HIDDEN)
        {
            *byte = COVER;
            self.found = true;
        }
        let from = from.min(held);
        self.given = held.max(self.given).saturating_sub(from);
        self.window.drain(..from);
        self.marks.drain(..from.min(self.marks.len()));
        match self.window.len() > WINDOW_MAX {
            true => Err(Broken("it is made so that nothing can be looked for in it")),
            false => Ok(()),
        }
    }

    /// Marks what is found; where what is not whole may have begun, and from where on it has to wait.
    fn look(&mut self, last: bool) -> (usize, usize) {
        let length = self.window.len();
        let (mut from, mut held) = (length, length);
        let mut unread = None;
        let mut texts = vec![Text::of(&self.window, &self.marks, APART)];
        let mut hidden = Vec::new();
        while let Some(text) = texts.last() {
            let mut seen = 0..0;
            let depth = self.forms.scan(text.bytes(), |range| {
                // Pieces lie over each other.
                let is_on = seen.start <= range.start && range.start <= seen.end;
                let new = if is_on { seen.end } else { range.start };
                hidden.extend((new..range.end).map(|at| span(&texts, at)));
                let start = if is_on { seen.start } else { range.start };
                seen = start..range.end;
            });
            let begun = match text.bytes().len().checked_sub(depth) {
                Some(at) if depth > 0 => span(&texts, at).0,
                _ => unread.unwrap_or(length),
            };
            from = from.min(begun);
            if depth.saturating_add(usize::from(unread.is_some())) >= HELD {
                held = held.min(begun);
            }
            if texts.len() > LAYERS {
                break;
            }
            let Some((next, stopped)) = text.resolved(last) else {
                break;
            };
            let stopped = stopped.map(|at| span(&texts, at).0);
            unread = unread.into_iter().chain(stopped).min();
            texts.push(next);
        }
        let marked = hidden.iter().map(|(_, end)| *end).max().unwrap_or_default();
        self.marks.resize(self.marks.len().max(marked), 0);
        for (start, end) in hidden {
            let marks = self.marks.get_mut(start..end).unwrap_or_default();
            marks.iter_mut().for_each(|mark| *mark |= HIDDEN);
        }
        (from, held.max(self.given))
    }
}

/// All of a short text covered; `None` where there is nothing to cover.
fn covered(forms: &Arc<Forms>, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut concealer = Concealer::new(Arc::clone(forms));
    let mut out = Vec::with_capacity(bytes.len());
    concealer.push(bytes, 0);
    match concealer.step(Ends::All, &mut out) {
        Ok(()) if !concealer.found => None,
        Ok(()) => Some(out),
        Err(_broken) => Some(vec![COVER; bytes.len()]),
    }
}

/// Covers what a status and headers hold; whether there was anything.
pub(crate) fn head(forms: &Arc<Forms>, parts: &mut Parts) -> bool {
    let reason = parts.extensions.get::<ReasonPhrase>();
    let reason = reason.and_then(|reason| covered(forms, reason.as_bytes()));
    let is_reason = reason.is_some();
    if let Some(reason) = reason {
        parts.extensions.remove::<ReasonPhrase>();
        parts.extensions.extend(
            ReasonPhrase::try_from(reason)
                .ok()
                .map(only)
                .unwrap_or_default(),
        );
    }
    headers(forms, &mut parts.headers) || is_reason
}

fn only(reason: ReasonPhrase) -> hyper::http::Extensions {
    let mut extensions = hyper::http::Extensions::new();
    extensions.insert(reason);
    extensions
}

/// Covers what headers, or trailers, hold; whether there was anything.
pub(crate) fn headers(forms: &Arc<Forms>, headers: &mut HeaderMap) -> bool {
    let named: Vec<HeaderName> = headers
        .keys()
        .filter(|name| covered(forms, name.as_str().as_bytes()).is_some())
        .cloned()
        .collect();
    let mut found = !named.is_empty();
    for name in named {
        headers.remove(name);
    }
    for value in headers.values_mut() {
        if let Some(text) = covered(forms, value.as_bytes()) {
            found = true;
            // What is covered is shorter by nothing, and holds fewer letters that a value may not.
            *value = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("*"));
        }
    }
    found
}

#[cfg(test)]
mod tests;
