//! Names of one kind, statements or portals: as the server has them, and as it will have them.
//!
//! What the client names next depends on messages that the server has not answered yet. Within one
//! batch that is certain all the same: had an earlier message failed, the server would skip this one.
//! Across batches it is not, and the answer is to wait.

use std::collections::HashMap;
use std::sync::Arc;

/// The most names of one kind that one session may hold.
const NAMES_MAX: usize = 4_096;
/// The most bytes that what is named may weigh together.
const WEIGHT_MAX: usize = 16 << 20;

/// A name, compared as the server compares it: bytes, at most 63.
pub(super) type Name = Box<[u8]>;

/// Something with a name, and the memory that it takes.
pub(super) trait Weigh {
    /// Bytes that it keeps alive, about.
    fn weight(&self) -> usize;
}

/// What a name means to the next message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// This.
    Known(Arc<T>),
    /// Nothing.
    Unknown,
    /// It depends on the fate of the message with this number.
    Until(u64),
}

/// The names of one kind.
#[derive(Debug)]
pub(super) struct Table<T> {
    settled: HashMap<Name, Arc<T>>,
    ahead: HashMap<Name, (u64, Arc<T>)>,
    weight: usize,
}

impl<T: Weigh> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            settled: HashMap::new(),
            ahead: HashMap::new(),
            weight: 0,
        }
    }

    /// What `name` means after all that was sent, where the batch began with message `batch`.
    pub(super) fn find(&self, name: &[u8], batch: u64) -> Found<T> {
        match self.ahead.get(name) {
            Some((by, meant)) if *by >= batch => Found::Known(Arc::clone(meant)),
            Some((by, _)) => Found::Until(*by),
            None => match self.settled.get(name) {
                Some(meant) => Found::Known(Arc::clone(meant)),
                None => Found::Unknown,
            },
        }
    }

    /// Message `by`, when it succeeds, lets `name` mean `meant`.
    pub(super) fn expect(&mut self, name: Name, by: u64, meant: Arc<T>) {
        self.weight = self.weight.saturating_add(meant.weight());
        if let Some((_, old)) = self.ahead.insert(name, (by, meant)) {
            self.weight = self.weight.saturating_sub(old.weight());
        }
    }

    /// Message `by` succeeded.
    pub(super) fn settle(&mut self, name: Name, by: u64, meant: Arc<T>) {
        self.give_up(&name, by);
        self.weight = self.weight.saturating_add(meant.weight());
        if let Some(old) = self.settled.insert(name, meant) {
            self.weight = self.weight.saturating_sub(old.weight());
        }
    }

    /// Message `by` failed or was skipped.
    pub(super) fn give_up(&mut self, name: &[u8], by: u64) {
        if self.ahead.get(name).is_some_and(|(last, _)| *last == by)
            && let Some((_, old)) = self.ahead.remove(name)
        {
            self.weight = self.weight.saturating_sub(old.weight());
        }
    }

    /// The server has nothing of this name any more.
    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(old) = self.settled.remove(name) {
            self.weight = self.weight.saturating_sub(old.weight());
        }
    }

    /// The server has none any more.
    pub(super) fn clear(&mut self) {
        self.remove_where(|_, _| true);
    }

    /// The server has none with a name any more.
    pub(super) fn clear_named(&mut self) {
        self.remove_where(|name, _| !name.is_empty());
    }

    /// The server has none any more but those that `stays` picks.
    pub(super) fn keep(&mut self, stays: impl Fn(&T) -> bool) {
        self.remove_where(|_, meant| !stays(meant));
    }

    fn remove_where(&mut self, goes: impl Fn(&[u8], &T) -> bool) {
        let weight = &mut self.weight;
        self.settled.retain(|name, old| {
            let goes = goes(name, old);
            if goes {
                *weight = weight.saturating_sub(old.weight());
            }
            !goes
        });
    }

    /// Whether something may be named so. What has no name takes the place of what had none before, and so
    /// always may; what has a name counts without what it takes the place of.
    pub(super) fn room(&self, name: &[u8]) -> bool {
        if name.is_empty() {
            return true;
        }
        let settled = |name: &[u8]| self.settled.get(name);
        let ahead = |name: &[u8]| self.ahead.get(name).map(|(_, meant)| meant);
        let under = |name| settled(name).into_iter().chain(ahead(name));
        let names = self.settled.len().saturating_add(self.ahead.len());
        let others = names.saturating_sub(under(name).chain(under(b"")).count());
        let weight = under(name).map(|old| old.weight()).sum();
        others < NAMES_MAX && self.weight.saturating_sub(weight) < WEIGHT_MAX
    }

    /// The last message whose fate decides what some name means, where it lies before the batch.
    pub(super) fn uncertain(&self, batch: u64) -> Option<u64> {
        self.ahead
            .values()
            .map(|(by, _)| *by)
            .filter(|by| *by < batch)
            .max()
    }

    /// Everything with its name after all that was sent; certain where [`Self::uncertain`] is `None`.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Arc<T>)> {
        let settled = self
            .settled
            .iter()
            .filter(|(name, _)| !self.ahead.contains_key(*name))
            .map(|(name, meant)| (&**name, meant));
        let ahead = self.ahead.iter().map(|(name, (_, meant))| (&**name, meant));
        settled.chain(ahead)
    }
}

#[cfg(test)]
mod tests;
