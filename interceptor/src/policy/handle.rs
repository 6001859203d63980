//! The policy in force: read by every request, replaced as a whole by a reload.
//!
//! A directory with one mistake changes nothing: reading and putting in force are two steps.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Generation;
use super::compile::Policy;
use super::source::Mistakes;

/// The one place that holds the policy in force.
#[derive(Debug)]
pub struct Handle {
    policy: ArcSwap<Policy>,
}

impl Handle {
    /// Loads the first policy from `dir`, as generation 1. Reads files: not for an async thread.
    ///
    /// # Errors
    /// Every mistake of the directory.
    pub fn load(dir: &Path) -> Result<Self, Mistakes> {
        let policy = Policy::load(dir, Generation(1))?;
        Ok(Self {
            policy: ArcSwap::from_pointee(policy),
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

    /// Reads `dir` as the next policy; the one in force stays until [`Handle::put`]. Reads files: not
    /// for an async thread.
    ///
    /// # Errors
    /// Every mistake of the directory.
    pub fn read(&self, dir: &Path) -> Result<Policy, Mistakes> {
        let next = Generation(self.generation().0.saturating_add(1));
        Policy::load(dir, next)
    }

    /// Puts a policy in force that [`Handle::read`] gave. One that is not newer than the policy in
    /// force changes nothing: generations only rise.
    pub fn put(&self, policy: Policy) {
        let policy = Arc::new(policy);
        self.policy.rcu(|now| {
            let rises = policy.generation() > now.generation();
            Arc::clone(if rises { &policy } else { now })
        });
    }
}

#[cfg(test)]
mod tests;
