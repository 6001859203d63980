//! What happened and could not be kept yet: it is owed until it is. Nothing is struck off before it is kept, so whoever
//! asks meanwhile hears of it, and whoever goes away in the middle loses nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A list of what is owed.
#[derive(Debug)]
pub struct Owed<T>(Mutex<Vec<T>>);

impl<T> Default for Owed<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Owed<T> {
    /// These happened.
    pub fn add(&self, more: impl IntoIterator<Item = T>) {
        self.lock().extend(more);
    }

    /// All of it, to be kept; what was kept is struck off by [`Self::strike`].
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.lock().clone()
    }

    /// These are kept, or need not be any more.
    pub fn strike(&self, is_kept: impl Fn(&T) -> bool) {
        self.lock().retain(|one| !is_kept(one));
    }

    /// Whether one such is owed.
    pub fn any(&self, is_it: impl Fn(&T) -> bool) -> bool {
        self.lock().iter().any(is_it)
    }

    /// How much is owed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
