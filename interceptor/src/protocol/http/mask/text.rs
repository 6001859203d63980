//! Text under the detectors, as it comes.

use std::sync::Arc;

use super::{Broken, Found};
use crate::masking::detect::{Action, Detectors, Scan, cover};

/// Text being looked at.
#[derive(Debug)]
pub(super) struct Text {
    with: Arc<Detectors>,
    scan: Scan,
    undecided: Vec<u8>,
    found: Found,
}

impl Text {
    pub(super) fn new(with: Arc<Detectors>) -> Self {
        Self {
            with,
            scan: Scan::default(),
            undecided: Vec::new(),
            found: Found::default(),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        self.undecided.extend_from_slice(bytes);
        self.step(false, out)
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.step(true, out)
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Begins anew: what comes is another text.
    pub(super) fn again(&mut self) {
        self.scan = Scan::default();
        self.undecided.clear();
    }

    fn step(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut covered = Vec::new();
        let mut refused = false;
        let found = &mut self.found;
        let decided = self.scan.step(&self.with, &self.undecided, last, |piece| {
            found.note(&piece);
            match piece.action {
                Action::Report => {}
                Action::Mask => covered.push((piece.start, piece.end)),
                Action::Refuse => refused = true,
            }
        });
        if refused {
            return Err(Broken("a value was found in it that goes no farther"));
        }
        for (start, end) in covered {
            cover(self.undecided.get_mut(start..end).unwrap_or_default());
        }
        out.extend(self.undecided.drain(..decided.min(self.undecided.len())));
        Ok(())
    }
}
