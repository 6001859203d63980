//! Guard: the second look at what masking should have taken away, at what the server itself says of its
//! rows. Knows nothing of texts; it is right where all that was made of them was wrong.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::super::mask::Masking;
use super::super::super::wire::{self, backend};

/// The most of an error or a notice that is looked at.
pub(in super::super) const MESSAGE_MAX: usize = 64 << 10;
/// The most that is remembered of reported settings.
const SETTINGS_MAX: usize = 64;
const VALUES_MAX: usize = 16;
const VALUE_MAX: usize = 256;

/// The columns that no row may come from.
#[derive(Debug, Default)]
pub(in super::super) struct Guard {
    columns: HashSet<(u32, i16)>,
    relations: HashSet<u32>,
}

impl Guard {
    /// What `masking` masks.
    pub(in super::super) fn new(masking: &Masking) -> Self {
        Self::of(masking.origins())
    }

    pub(in super::super) fn of(columns: impl Iterator<Item = (u32, i16)>) -> Self {
        let columns: HashSet<_> = columns.collect();
        Self {
            relations: columns.iter().map(|(relation, _)| *relation).collect(),
            columns,
        }
    }

    /// The first column of a described row that comes from a masked one, or is a row that holds one.
    ///
    /// # Errors
    /// Where the description is none.
    pub(in super::super) fn look(
        &self,
        description: &[u8],
    ) -> Result<Option<(u32, i16)>, wire::Error> {
        let origins = backend::origins(description)?;
        Ok(origins.into_iter().find(|(relation, attribute)| {
            let whole = *attribute == 0 && self.relations.contains(relation);
            whole || self.columns.contains(&(*relation, *attribute))
        }))
    }
}

/// What the server has reported of its settings, so that a report can be told from data.
#[derive(Debug, Default)]
pub(in super::super) struct Settings {
    values: HashMap<Box<[u8]>, Vec<Box<[u8]>>>,
}

impl Settings {
    /// It had this value.
    pub(in super::super) fn learn(&mut self, name: &[u8], value: &[u8]) {
        if value.len() > VALUE_MAX || self.knows(name, value) {
            return;
        }
        if self.values.len() >= SETTINGS_MAX && !self.values.contains_key(name) {
            return;
        }
        let values = self.values.entry(name.into()).or_default();
        if values.len() < VALUES_MAX {
            values.push(value.into());
        }
    }

    /// Whether it has had this value before.
    pub(in super::super) fn knows(&self, name: &[u8], value: &[u8]) -> bool {
        let values = self.values.get(name);
        values.is_some_and(|values| values.iter().any(|known| **known == *value))
    }
}

/// What is watched, and what the watching needs to know.
#[derive(Debug, Default)]
pub(in super::super) struct Lookout {
    /// `None` where nothing is masked.
    pub(in super::super) guard: Option<Arc<Guard>>,
    pub(in super::super) settings: Settings,
    /// A statement of the open transaction touched what is masked: what is said of it at its end may be data.
    pub(in super::super) touched: bool,
    /// The last text since `ReadyForQuery` that touched it: settings are reported just before.
    pub(in super::super) text: Option<Arc<str>>,
}

impl Lookout {
    /// Whether a report is no data: known before, or said by the client itself.
    pub(in super::super) fn reports(&self, text: Option<&str>, name: &[u8], value: &[u8]) -> bool {
        let said = |text: &str| {
            std::str::from_utf8(value).is_ok_and(|value| !value.is_empty() && text.contains(value))
        };
        self.settings.knows(name, value) || text.is_some_and(said)
    }
}
