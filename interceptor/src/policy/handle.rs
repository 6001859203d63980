//! The policy in force: read by every request, replaced as a whole by a reload.
//!
//! A directory with one mistake changes nothing. Whoever must act on a change (sessions whose
//! permission may be gone) waits on the generation.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Generation;
use super::compile::Policy;
use super::source::Mistakes;

/// The one place that holds the policy in force.
#[derive(Debug)]
pub struct Handle {
    policy: ArcSwap<Policy>,
    generation: watch::Sender<Generation>,
    /// One reload at a time, so that generations only rise.
    reloading: Mutex<()>,
}

impl Handle {
    /// Loads the first policy from `dir`, as generation 1. Reads files: not for an async thread.
    ///
    /// # Errors
    /// Every mistake of the directory.
    pub fn load(dir: &Path) -> Result<Self, Mistakes> {
        let generation = Generation(1);
        let policy = Policy::load(dir, generation)?;
        Ok(Self {
            policy: ArcSwap::from_pointee(policy),
            generation: watch::Sender::new(generation),
            reloading: Mutex::new(()),
        })
    }

    /// The policy in force.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// The generation in force.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.policy.load().generation()
    }

    /// The generation in force, and a wait for the next. It is told after the new policy judges.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Generation> {
        self.generation.subscribe()
    }

    /// Loads `dir` in place of the policy in force. Reads files: not for an async thread.
    ///
    /// # Errors
    /// Every mistake of the directory; the old policy stays in force.
    pub fn reload(&self, dir: &Path) -> Result<Arc<Policy>, Mistakes> {
        let _one = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let next = Generation(self.policy.load().generation().0.saturating_add(1));
        let policy = Arc::new(Policy::load(dir, next)?);
        self.policy.store(Arc::clone(&policy));
        self.generation.send_replace(next);
        Ok(policy)
    }
}

#[cfg(test)]
mod tests;
