//! Keys that came before: rows have the same ones again and again, and rules are asked once for each.

use std::collections::HashMap;

use crate::masking::Mask;
use crate::protocol::http::mask::rules::Reached;

/// Keys that are remembered; those that come later are looked at each time.
const KEYS_MAX: usize = 512;
/// Bytes of one.
const KEY_MAX: usize = 128;
/// Places at which one is remembered.
const PLACES_MAX: usize = 8;

/// What a key leads to.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// How far rules are at its value.
    pub(super) here: Reached,
    /// The value's mask.
    pub(super) mask: Option<Mask>,
}

/// What keys lead to, as they are written, from how far rules are at their object. Bounded, whoever chooses them.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<Box<[u8]>, Vec<(Reached, Step)>>);

impl Known {
    pub(super) fn find(&self, from: &Reached, key: &[u8]) -> Option<&Step> {
        let mut places = self.0.get(key)?.iter();
        places
            .find(|(place, _)| place == from)
            .map(|(_, step)| step)
    }

    pub(super) fn keep(&mut self, from: &Reached, key: &[u8], step: &Step) {
        if key.len() > KEY_MAX || self.0.len() >= KEYS_MAX && !self.0.contains_key(key) {
            return;
        }
        let places = self.0.entry(key.into()).or_default();
        if places.len() < PLACES_MAX {
            places.push((from.clone(), step.clone()));
        }
    }
}
