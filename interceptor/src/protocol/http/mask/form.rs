//! Parameters of a form or a query under the detectors: looked at as what they say, written as they were but for what
//! is covered.

use std::sync::Arc;

use super::{Broken, Found, Looked};
use crate::masking::detect::{Action, Detectors, cover};
use crate::protocol::http::wire::{hex_pair, query};

/// Bytes of one parameter.
const PARAMETER_MAX: usize = 1 << 20;

/// A form being looked at.
#[derive(Debug)]
pub(super) struct Form {
    with: Arc<Detectors>,
    held: Vec<u8>,
    found: Found,
}

impl Form {
    pub(super) fn new(with: Arc<Detectors>) -> Self {
        Self {
            with,
            held: Vec::new(),
            found: Found::default(),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        for piece in bytes.split_inclusive(|byte| *byte == b'&') {
            let text = piece.strip_suffix(b"&").unwrap_or(piece);
            if self.held.len().saturating_add(text.len()) > PARAMETER_MAX {
                return Err(Broken("it has a parameter longer than 1 MiB"));
            }
            self.held.extend_from_slice(text);
            if text.len() < piece.len() {
                self.parameter(out)?;
                out.push(b'&');
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.parameter(out)
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// One parameter, name and value: what stands beside a value may say what it is.
    fn parameter(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let raw = std::mem::take(&mut self.held);
        let said = said(&raw);
        let covered = match look(&self.with, &said, &mut self.found) {
            Looked::Same => {
                out.extend_from_slice(&raw);
                return Ok(());
            }
            Looked::Covered(covered) => covered,
            Looked::Refused(_) => {
                return Err(Broken("a value was found in it that goes no farther"));
            }
        };
        // What the name says is as long as it was, covered or not.
        let name = raw.iter().position(|byte| *byte == b'=').map(|at| {
            let name = raw.get(..at).unwrap_or_default();
            self::said(name).len()
        });
        match name.and_then(|length| Some((covered.get(..length)?, covered.get(length + 1..)?))) {
            Some((name, value)) => {
                out.extend_from_slice(query::escaped(name).as_bytes());
                out.push(b'=');
                out.extend_from_slice(query::escaped(value).as_bytes());
            }
            None => out.extend_from_slice(query::escaped(&covered).as_bytes()),
        }
        Ok(())
    }
}

/// What escaped bytes say; an escape that is none says itself, as most servers have it.
pub(crate) fn said(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let resolved = match (first, after) {
            (b'%', [high, low, after @ ..]) => hex_pair(*high, *low).map(|byte| (byte, after)),
            (b'+', _) => Some((b' ', after)),
            _ => None,
        };
        match resolved {
            Some((byte, after)) => {
                out.push(byte);
                rest = after;
            }
            None => out.push(*first),
        }
    }
    out
}

/// Looks at a text that is there as a whole.
pub(super) fn look(with: &Detectors, text: &[u8], found: &mut Found) -> Looked {
    let mut covered = Vec::new();
    let mut refused = None;
    with.find(text, |piece| {
        found.note(&piece);
        match piece.action {
            Action::Report => {}
            Action::Mask => covered.push(piece.start..piece.end),
            Action::Refuse => refused = Some(piece.kind.word()),
        }
    });
    match (refused, covered.is_empty()) {
        (Some(kind), _) => Looked::Refused(kind),
        (None, true) => Looked::Same,
        (None, false) => {
            let mut text = text.to_vec();
            for range in covered {
                cover(text.get_mut(range).unwrap_or_default());
            }
            Looked::Covered(text)
        }
    }
}
