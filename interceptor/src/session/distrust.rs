//! Clients that do not take this host's certificates: which programs, and for which names. Agents say what stands
//! here, so what it holds is bounded; the one that was seen the longest ago goes first.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::clock::{self, BootTime};
use crate::config::Host;
use crate::identity::Executable;

/// Programs and names that are remembered.
const KEPT: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// How long a program is held not to trust: it may have been told of the authority since.
const HOLDS: Duration = Duration::from_secs(3_600);

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

/// All of them since the start, by the scope that each was seen in: what one scope does changes nothing for another.
#[derive(Debug)]
pub struct Distrust(Mutex<LruCache<(u64, Distrusting), (u64, BootTime)>>);

impl Default for Distrust {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl Distrust {
    /// Counts one.
    pub(super) fn note(
        &self,
        (scope, executable): (u64, &Executable),
        (target, name): (&str, Option<&Host>),
        how: &'static str,
    ) {
        let one = Distrusting {
            path: executable.path.clone(),
            sha256: executable.sha256.clone(),
            name: name.map(written).unwrap_or_default(),
            target: target.to_owned(),
            how,
        };
        let now = clock::boot();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = known.get_or_insert_mut((scope, one), || (0, now));
        *count = count.saturating_add(1);
        *last = now;
    }

    /// Whether a program did not take the certificate for a name lately.
    pub(super) fn holds(
        &self,
        (scope, executable): (u64, &Executable),
        (target, name): (&str, &Host),
    ) -> bool {
        let (now, name) = (clock::boot(), written(name));
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|((of, one), (_, last))| {
            *of == scope
                && one.path == executable.path
                && one.sha256 == executable.sha256
                && one.name == name
                && one.target == target
                && now.since(*last) < HOLDS
        })
    }

    /// Each with how often it was seen.
    #[must_use]
    pub fn all(&self) -> Vec<(Distrusting, u64)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<Distrusting, u64> = BTreeMap::new();
        for ((_, one), (count, _)) in known.iter() {
            let sum = all.entry(one.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        all.into_iter().collect()
    }
}

fn written(name: &Host) -> String {
    match name {
        Host::Name(name) => name.clone(),
        Host::Ip(ip) => ip.to_string(),
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
        for index in 0..2_000 {
            let name = Host::Name(format!("n{index}.example.com"));
            distrust.note((7, &executable), ("api", Some(&name)), "unknown_ca");
        }
        let name = Host::Name("n1999.example.com".to_owned());
        distrust.note((7, &executable), ("api", Some(&name)), "unknown_ca");
        let all = distrust.all();
        assert_eq!(all.len(), KEPT.get());
        let last = all.iter().find(|(one, _)| one.name == "n1999.example.com");
        assert_eq!(last.map(|(_, count)| *count), Some(2));
        assert!(!all.iter().any(|(one, _)| one.name == "n0.example.com"));
        assert!(distrust.holds((7, &executable), ("api", &name)));
        assert!(!distrust.holds((7, &executable), ("other", &name)));
        assert!(!distrust.holds((8, &executable), ("api", &name)));
        let other = Executable {
            sha256: "01".to_owned(),
            ..executable
        };
        assert!(!distrust.holds((7, &other), ("api", &name)));
    }
}
