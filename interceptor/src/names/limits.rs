//! What keeps names from carrying data out: how often, how long, how random, how many under one domain.
//!
//! Names that the configuration knows are asked for as often as anybody likes; for all others each name
//! is a message to whoever answers for its domain, so their number is bounded.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::capture;
use crate::clock::BootTime;

/// Longest name, in bytes, that is asked for outside of what the configuration knows.
const LONGEST: usize = 128;
/// Labels of this length on are looked at.
const LONG_LABEL: usize = 32;
/// Bits a letter that no word, number or hash in hexadecimal has.
const RANDOM: f64 = 4.05;
/// Different names under one domain in an hour.
const UNDER_ONE: usize = 256;
/// Different names in an hour, in all.
const IN_ALL: usize = 4096;
/// How long a name counts.
const WINDOW: Duration = Duration::from_secs(3600);
/// Seconds of questions that may come at once.
const BURST: u64 = 4;
/// Questions of one scope that are under way at once: a resolver that says nothing keeps each for seconds.
const OF_ONE: usize = 64;
/// Scopes whose questions are counted at once: all that can be tagged, and as many that were, until they are forgotten.
const SCOPES: usize = 2 * capture::MAX_SCOPES;

/// What each scope has asked lately.
#[derive(Debug, Default)]
pub(super) struct Limits {
    scopes: Mutex<HashMap<u64, Asked>>,
}

#[derive(Debug)]
struct Asked {
    /// When the bucket was looked at, and nanoseconds of it that are spent.
    at: BootTime,
    spent: u64,
    /// When the names below began to be counted.
    since: BootTime,
    names: HashSet<String>,
    domains: HashMap<String, usize>,
    places: Arc<Semaphore>,
}

impl Limits {
    /// Takes one question out of a scope's bucket of `rate` a second; false where it is empty.
    pub(super) fn admit(&self, scope: u64, rate: u32, now: BootTime) -> bool {
        let each = 1_000_000_000 / u64::from(rate.max(1));
        let most = BURST * 1_000_000_000;
        let mut scopes = self.scopes();
        let Some(asked) = of(&mut scopes, scope, now) else {
            return false;
        };
        let passed = now.0.saturating_sub(asked.at.0);
        asked.at = now;
        asked.spent = asked.spent.saturating_sub(passed);
        if asked.spent.saturating_add(each) > most {
            return false;
        }
        asked.spent = asked.spent.saturating_add(each);
        true
    }

    /// A place for one more question of a scope's that is under way; none where it has all of its own.
    pub(super) fn place(&self, scope: u64, now: BootTime) -> Option<OwnedSemaphorePermit> {
        let mut scopes = self.scopes();
        let asked = of(&mut scopes, scope, now)?;
        Arc::clone(&asked.places).try_acquire_owned().ok()
    }

    /// Why a name that nobody has configured is not asked for.
    pub(super) fn tunnels(&self, scope: u64, name: &str, now: BootTime) -> Option<&'static str> {
        if name.len() > LONGEST {
            return Some("it is longer than 128 bytes");
        }
        if name.split('.').any(is_random) {
            return Some("it has a part that looks like data");
        }
        let mut scopes = self.scopes();
        let Some(asked) = of(&mut scopes, scope, now) else {
            return Some("too many scopes ask");
        };
        if now.since(asked.since) >= WINDOW {
            asked.since = now;
            asked.names.clear();
            asked.domains.clear();
        }
        if asked.names.contains(name) {
            return None;
        }
        if asked.names.len() >= IN_ALL {
            return Some("too many different names in an hour");
        }
        let domain = domain(name).to_owned();
        let under = asked.domains.entry(domain).or_default();
        if *under >= UNDER_ONE {
            return Some("too many different names under one domain in an hour");
        }
        *under += 1;
        asked.names.insert(name.to_owned());
        None
    }

    /// Forgets scopes that are not tagged any more.
    pub(super) fn keep(&self, is_tagged: impl Fn(u64) -> bool) {
        self.scopes().retain(|scope, _| is_tagged(*scope));
    }

    fn scopes(&self) -> MutexGuard<'_, HashMap<u64, Asked>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of(scopes: &mut HashMap<u64, Asked>, scope: u64, now: BootTime) -> Option<&mut Asked> {
    if scopes.len() >= SCOPES && !scopes.contains_key(&scope) {
        return None;
    }
    Some(scopes.entry(scope).or_insert_with(|| Asked {
        at: now,
        spent: 0,
        since: now,
        names: HashSet::new(),
        domains: HashMap::new(),
        places: Arc::new(Semaphore::new(OF_ONE)),
    }))
}

/// The domain that a name is counted under: its last two labels, three below what looks like a country's
/// second level (`co.uk`).
fn domain(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    let (last, second, third) = (dots.next(), dots.next(), dots.next());
    let from = match (last, second) {
        (Some(last), Some(second)) if name.len() - last <= 3 && last - second <= 4 => third,
        (_, second) => second,
    };
    from.and_then(|at| name.get(at + 1..)).unwrap_or(name)
}

/// Whether a label has more in it than words have (Shannon's entropy of its letters).
#[expect(clippy::cast_precision_loss, reason = "a label has at most 63 letters")]
fn is_random(label: &str) -> bool {
    if label.len() < LONG_LABEL {
        return false;
    }
    let mut counts: HashMap<u8, usize> = HashMap::new();
    for letter in label.bytes() {
        *counts.entry(letter).or_default() += 1;
    }
    let length = label.len() as f64;
    let bits = counts.values().map(|count| {
        let share = *count as f64 / length;
        -share * share.log2()
    });
    bits.sum::<f64>() > RANDOM
}

#[cfg(test)]
mod tests;
