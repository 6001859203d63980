//! Values of any length: once they have begun they are followed to their end, and nothing is held back.

use memchr::memmem;

use super::kind::Kind;
use super::view::{DIGIT, Found, More, Next, PEM, RUN, UPPER, View, is};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// The longest label of a block.
const LABEL: usize = 48;

/// A value that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// Between the line that begins a key and the one that ends it.
    Key,
    /// In a token, behind so many of its dots.
    Token(u8),
}

impl Open {
    /// What it is.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Key => Kind::PrivateKey,
            Self::Token(_) => Kind::Jwt,
        }
    }

    /// How far it goes from a place on, as far as can be told; and what is open then.
    pub(super) fn follow(self, view: &View<'_>, from: usize) -> (usize, Option<Self>) {
        match self {
            Self::Key => follow_key(view, from),
            Self::Token(dots) => follow_token(view, from, dots),
        }
    }
}

fn follow_key(view: &View<'_>, from: usize) -> (usize, Option<Open>) {
    let mut at = from;
    loop {
        let rest = view.bytes.get(at..).unwrap_or_default();
        let stops = |byte: &u8| *byte == b'-' || !is(*byte, PEM);
        let Some(length) = rest.iter().position(stops) else {
            let open = (!view.last).then_some(Open::Key);
            return (view.bytes.len(), open);
        };
        at = at.saturating_add(length);
        if view.bytes.get(at) != Some(&b'-') {
            return (at, None);
        }
        match ending(view, at) {
            Ok(Some(end)) => return (end, None),
            Ok(None) => at = at.saturating_add(1),
            Err(More) => return (at, Some(Open::Key)),
        }
    }
}

/// The end of the line that ends a block, where it stands here.
fn ending(view: &View<'_>, at: usize) -> Result<Option<usize>, More> {
    if !view.stands(at, END)? {
        return Ok(None);
    }
    let label = at.saturating_add(END.len());
    let end = after_label(view, label)?;
    Ok(view
        .stands(end, DASHES)?
        .then(|| end.saturating_add(DASHES.len())))
}

fn after_label(view: &View<'_>, label: usize) -> Result<usize, More> {
    let mut at = label;
    while at.saturating_sub(label) < LABEL {
        let byte = view.at(at)?;
        if byte != b' ' && !is(byte, UPPER | DIGIT) {
            break;
        }
        at = at.saturating_add(1);
    }
    Ok(at)
}

fn follow_token(view: &View<'_>, from: usize, mut dots: u8) -> (usize, Option<Open>) {
    let mut at = from;
    loop {
        let rest = view.bytes.get(at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| !is(*byte, RUN)) else {
            let open = (!view.last).then_some(Open::Token(dots));
            return (view.bytes.len(), open);
        };
        at = at.saturating_add(length);
        if view.bytes.get(at) != Some(&b'.') || dots >= 2 {
            return (at, None);
        }
        match view.at(at.saturating_add(1)) {
            Ok(next) if is(next, RUN) => at = at.saturating_add(1),
            Ok(_) => return (at, None),
            Err(More) => return (at, Some(Open::Token(dots))),
        }
        dots = dots.saturating_add(1);
    }
}

/// The next private key's beginning.
pub(super) fn next(view: &View<'_>, from: usize) -> Next {
    let mut at = from;
    loop {
        let rest = view.bytes.get(at..).unwrap_or_default();
        let Some(offset) = memmem::find(rest, BEGIN) else {
            return view.hold(beginning(view, from));
        };
        let start = at.saturating_add(offset);
        match begun(view, start) {
            Ok(Some(end)) => {
                return Next::Found(Found {
                    open: Some(Open::Key),
                    ..Found::new(Kind::PrivateKey, start, end)
                });
            }
            Ok(None) => at = start.saturating_add(1),
            Err(More) => return Next::More(start),
        }
    }
}

/// The end of the line that begins a private key.
fn begun(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    let label = start.saturating_add(BEGIN.len());
    let end = after_label(view, label)?;
    if !view.stands(end, DASHES)? {
        return Ok(None);
    }
    let text = view.bytes.get(label..end).unwrap_or_default();
    let private = text.ends_with(b"PRIVATE KEY") || text.ends_with(b"PRIVATE KEY BLOCK");
    Ok(private.then(|| end.saturating_add(DASHES.len())))
}

/// Where, at the end, a line may have begun.
fn beginning(view: &View<'_>, from: usize) -> usize {
    let rest = view.bytes.get(from..).unwrap_or_default();
    let held = (1..BEGIN.len()).rev().find(|length| {
        BEGIN
            .get(..*length)
            .is_some_and(|begin| rest.ends_with(begin))
    });
    view.bytes.len().saturating_sub(held.unwrap_or(0))
}
