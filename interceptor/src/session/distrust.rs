//! Clients that do not take this host's certificates: which programs, and for which names. Agents say what stands
//! here, so what it holds is bounded; the one that was seen the longest ago goes first.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use crate::config::Host;
use crate::identity::Executable;

/// Programs and names that are remembered.
const KEPT: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// A program that did not take the certificate for a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distrusting {
    /// The program's file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
    /// As whom it was answered.
    pub name: String,
    /// The target that it went to.
    pub target: String,
    /// What it said: the alert's name, or `closed`.
    pub how: &'static str,
}

/// All of them since the start.
#[derive(Debug)]
pub struct Distrust(Mutex<LruCache<Distrusting, u64>>);

impl Default for Distrust {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl Distrust {
    /// Counts one.
    pub(super) fn note(
        &self,
        executable: &Executable,
        (target, name): (&str, Option<&Host>),
        how: &'static str,
    ) {
        let one = Distrusting {
            path: executable.path.clone(),
            sha256: executable.sha256.clone(),
            name: match name {
                Some(Host::Name(name)) => name.clone(),
                Some(Host::Ip(ip)) => ip.to_string(),
                None => String::new(),
            },
            target: target.to_owned(),
            how,
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = known.get_or_insert_mut(one, || 0);
        *count = count.saturating_add(1);
    }

    /// Each with how often it was seen.
    #[must_use]
    pub fn all(&self) -> Vec<(Distrusting, u64)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known
            .iter()
            .map(|(one, count)| (one.clone(), *count))
            .collect();
        all.sort();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_make_grow_is_bounded() {
        let executable = Executable {
            path: PathBuf::from("/usr/bin/tool"),
            sha256: "00".to_owned(),
        };
        let distrust = Distrust::default();
        for index in 0..1_000 {
            let name = Host::Name(format!("n{index}.example.com"));
            distrust.note(&executable, ("api", Some(&name)), "unknown_ca");
        }
        let name = Host::Name("n999.example.com".to_owned());
        distrust.note(&executable, ("api", Some(&name)), "unknown_ca");
        let all = distrust.all();
        assert_eq!(all.len(), KEPT.get());
        let last = all.iter().find(|(one, _)| one.name == "n999.example.com");
        assert_eq!(last.map(|(_, count)| *count), Some(2));
        assert!(!all.iter().any(|(one, _)| one.name == "n0.example.com"));
    }
}
