//! The table of what waits, by key: who is next, what is too old, what has to make room. No I/O.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::{Supply, Upstream};
use crate::clock::BootTime;
use crate::config::{Host, Target};
use crate::socket::Place;
use crate::tls;

/// After so many that waited in vain, a target's keys must be asked for twice: whoever asks for another
/// key each time would have each login made twice.
pub(super) const IN_VAIN: u32 = 8;

/// What bounds the table besides what each target says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections of all targets.
    pub(super) total: usize,
    /// Keys.
    pub(super) keys: usize,
    /// How long a key is of interest after a session asked for it.
    pub(super) interest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: 64,
            keys: 256,
            interest: Duration::from_secs(120),
        }
    }
}

/// All that makes a login what it is. Two of one key cannot be told apart by anybody.
#[derive(Clone, Debug)]
pub struct Key {
    /// The target, as one configuration has it: a reload makes others.
    pub target: Arc<Target>,
    /// How its server is verified, with which roots and certificates.
    pub tls: Arc<tls::Upstream>,
    /// Where it may lead.
    pub places: Arc<[(Host, Place)]>,
    /// Digest of the credential.
    pub credential: [u8; 32],
    /// The whole startup packet: version, role, database, every parameter.
    pub startup: Arc<[u8]>,
}

impl Key {
    /// The target's name.
    pub(super) fn target(&self) -> &str {
        &self.target.name
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.target, &other.target)
            && Arc::ptr_eq(&self.tls, &other.tls)
            && self.places == other.places
            && self.credential == other.credential
            && self.startup == other.startup
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.startup.hash(state);
        self.credential.hash(state);
        self.places.hash(state);
    }
}

/// What waits for one key.
#[derive(Debug)]
struct Kept<S> {
    supply: Arc<S>,
    /// The oldest first.
    idle: VecDeque<Idle>,
    /// Logins under way.
    filling: usize,
    /// How many there should be.
    wanted: usize,
    asked: BootTime,
}

/// One connection, and since when it waits.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) upstream: Upstream,
    pub(super) since: BootTime,
}

/// The table.
#[derive(Debug)]
pub(super) struct Rows<S> {
    keys: HashMap<Key, Kept<S>>,
    /// Of each target, how many in a row waited in vain.
    in_vain: HashMap<String, u32>,
}

impl<S> Default for Rows<S> {
    fn default() -> Self {
        Self {
            keys: HashMap::new(),
            in_vain: HashMap::new(),
        }
    }
}

impl<S: Supply> Rows<S> {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn waiting(&self) -> usize {
        self.keys.values().map(|kept| kept.idle.len()).sum()
    }

    /// The oldest that is not too old, and those that are. Where none waits, one more is wanted from
    /// now on.
    pub(super) fn take(
        &mut self,
        key: &Key,
        now: BootTime,
        age: Duration,
    ) -> (Option<Upstream>, Vec<Upstream>) {
        let Some(kept) = self.keys.get_mut(key) else {
            return (None, Vec::new());
        };
        let mut stale = Vec::new();
        while let Some(Idle { upstream, since }) = kept.idle.pop_front() {
            if now.since(since) < age {
                self.in_vain.remove(key.target());
                return (Some(upstream), stale);
            }
            stale.push(upstream);
        }
        kept.wanted = kept.wanted.saturating_add(1).min(most(&*kept.supply));
        (None, stale)
    }

    /// Notes that a session used `key`. Returns what had to make room for it.
    pub(super) fn ask(
        &mut self,
        key: &Key,
        supply: S,
        now: BootTime,
        limits: Limits,
    ) -> Vec<Upstream> {
        let mut dropped = self.replaced_by(key);
        if let Some(kept) = self.keys.get_mut(key) {
            kept.asked = now;
            kept.wanted = kept.wanted.max(1);
            return dropped;
        }
        while self.keys.len() >= limits.keys {
            // Whoever brings many keys displaces those for which nothing waits first: its own.
            let settled = self.keys.iter().filter(|(_, kept)| kept.filling == 0);
            let oldest = settled.min_by_key(|(_, kept)| (!kept.idle.is_empty(), kept.asked));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return dropped;
            };
            dropped.extend(self.give_up(&oldest));
        }
        let in_vain = self.in_vain.get(key.target()).copied().unwrap_or(0);
        let kept = Kept {
            supply: Arc::new(supply),
            idle: VecDeque::new(),
            filling: 0,
            wanted: usize::from(in_vain < IN_VAIN),
            asked: now,
        };
        self.keys.insert(key.clone(), kept);
        dropped
    }

    /// Forgets the keys of a credential, or of roots, that were rotated: `key` has newer ones.
    fn replaced_by(&mut self, key: &Key) -> Vec<Upstream> {
        let is_older = |other: &&Key| {
            Arc::ptr_eq(&other.target, &key.target)
                && (other.credential != key.credential || !Arc::ptr_eq(&other.tls, &key.tls))
        };
        let older: Vec<_> = self.keys.keys().filter(is_older).cloned().collect();
        older.iter().flat_map(|key| self.give_up(key)).collect()
    }

    /// What is to be logged in now, counted as under way. Where there is not room for all, the key
    /// that was asked for last goes first; nothing that waits already is closed for it.
    pub(super) fn due(
        &mut self,
        now: BootTime,
        limits: Limits,
        may: impl Fn(&str) -> bool,
    ) -> Vec<(Key, Arc<S>)> {
        let mut due = Vec::new();
        let mut keys: Vec<_> = self
            .keys
            .iter()
            .filter(|(key, kept)| {
                may(key.target())
                    && now.since(kept.asked) < limits.interest
                    && kept.idle.len().saturating_add(kept.filling) < kept.wanted
            })
            .map(|(key, kept)| (kept.asked, key.clone()))
            .collect();
        keys.sort_by_key(|(asked, _)| std::cmp::Reverse(*asked));
        for (_, key) in keys {
            while let Some(supply) = self.begin(&key, limits) {
                due.push((key.clone(), supply));
            }
        }
        due
    }

    /// Counts one more login for `key` as under way, where there is room for it.
    fn begin(&mut self, key: &Key, limits: Limits) -> Option<Arc<S>> {
        let (mut all, mut here) = (0_usize, 0_usize);
        for (other, kept) in &self.keys {
            let count = kept.idle.len().saturating_add(kept.filling);
            all = all.saturating_add(count);
            if other.target() == key.target() {
                here = here.saturating_add(count);
            }
        }
        let kept = self.keys.get_mut(key)?;
        let lacks = kept.idle.len().saturating_add(kept.filling) < kept.wanted;
        let room = all < limits.total && here < most(&*kept.supply);
        (lacks && room).then(|| {
            kept.filling = kept.filling.saturating_add(1);
            Arc::clone(&kept.supply)
        })
    }

    /// A login for `key` is under way no more.
    pub(super) fn filled(&mut self, key: &Key) {
        if let Some(kept) = self.keys.get_mut(key) {
            kept.filling = kept.filling.saturating_sub(1);
        }
    }

    /// Puts a connection to the others of its key; gives it back where nobody wants it any more, or
    /// the target has enough of them.
    pub(super) fn put(&mut self, key: &Key, idle: Idle) -> Option<Upstream> {
        let of_target = self
            .keys
            .iter()
            .filter(|(other, _)| other.target() == key.target());
        let waiting: usize = of_target.map(|(_, kept)| kept.idle.len()).sum();
        match self.keys.get_mut(key) {
            Some(kept) if waiting < most(&*kept.supply) => {
                kept.idle.push_back(idle);
                None
            }
            _ => Some(idle.upstream),
        }
    }

    /// Forgets a key; what waited for it.
    pub(super) fn give_up(&mut self, key: &Key) -> Vec<Upstream> {
        let kept = self.keys.remove(key);
        kept.into_iter()
            .flat_map(|kept| kept.idle)
            .map(|row| row.upstream)
            .collect()
    }

    /// Takes out everything that waits for the keys that `which` picks; the keys stay.
    pub(super) fn drain(&mut self, which: impl Fn(&Key) -> bool) -> Vec<Upstream> {
        let picked = self.keys.iter_mut().filter(|(key, _)| which(key));
        picked
            .flat_map(|(_, kept)| kept.idle.drain(..))
            .map(|row| row.upstream)
            .collect()
    }

    /// Forgets everything; what waited.
    pub(super) fn clear(&mut self) -> Vec<Upstream> {
        let all = self.drain(|_| true);
        *self = Self::default();
        all
    }

    /// Takes out those that `which` picks, each with its key.
    pub(super) fn pick(&mut self, which: impl Fn(&Upstream) -> bool) -> Vec<(Key, Idle)> {
        let mut picked = Vec::new();
        for (key, kept) in &mut self.keys {
            for row in std::mem::take(&mut kept.idle) {
                if which(&row.upstream) {
                    picked.push((key.clone(), row));
                } else {
                    kept.idle.push_back(row);
                }
            }
        }
        picked
    }

    /// Takes out what waited too long; forgets the keys that nobody has asked for in a while.
    pub(super) fn expire(&mut self, now: BootTime, limits: Limits) -> Vec<Upstream> {
        let mut old = Vec::new();
        let in_vain = &mut self.in_vain;
        self.keys.retain(|key, kept| {
            let of_interest = now.since(kept.asked) < limits.interest && kept.supply.is_current();
            let age = kept.supply.warm().age;
            while let Some(row) = kept
                .idle
                .pop_front_if(|row| !of_interest || now.since(row.since) >= age)
            {
                old.push(row.upstream);
                // Nobody came for it: the next time one fewer waits.
                kept.wanted = kept.wanted.saturating_sub(1).max(1);
                let count = in_vain.entry(key.target().to_owned()).or_default();
                *count = count.saturating_add(1);
            }
            of_interest || kept.filling > 0
        });
        old
    }
}

#[cfg(test)]
impl<S> Rows<S> {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.keys()
    }

    /// Of the one that waits.
    pub(super) fn pulse(&self) -> tls::Pulse {
        let mut idle = self.keys.values().flat_map(|kept| &kept.idle);
        tls::pulse(idle.next().unwrap().upstream.stream.socket())
    }
}

fn most<S: Supply>(supply: &S) -> usize {
    usize::try_from(supply.warm().connections).unwrap_or(usize::MAX)
}
