//! What was done lately, and by whom: so much within a time, and no more.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use super::BootTime;

/// Keys that are remembered before those that are over make room.
const MOST: usize = 4_096;

/// When something was done within a time, by key. In memory only: who starts anew begins to count.
#[derive(Debug)]
pub struct Lately<K> {
    within: Duration,
    times: HashMap<K, VecDeque<BootTime>>,
}

impl<K: Hash + Eq> Lately<K> {
    /// Counts what is done within so long.
    #[must_use]
    pub fn new(within: Duration) -> Self {
        Self {
            within,
            times: HashMap::new(),
        }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// Where there were `most` of this key; in how many seconds there is room again.
    pub fn count(&mut self, key: K, most: usize, now: BootTime) -> Result<(), u64> {
        let within = self.within;
        let times = self.times(key, now);
        if times.len() >= most {
            let since = times.front().map_or(within, |first| now.since(*first));
            return Err(within.saturating_sub(since).as_secs().saturating_add(1));
        }
        times.push_back(now);
        Ok(())
    }

    /// Counts one less: what was counted at that time came to nothing.
    pub fn uncount(&mut self, key: &K, at: BootTime) {
        if let Some(times) = self.times.get_mut(key)
            && let Some(which) = times.iter().position(|time| *time == at)
        {
            times.remove(which);
        }
    }

    /// Notes one more, of which the last `most` of this key count.
    pub fn note(&mut self, key: K, most: usize, now: BootTime) {
        let times = self.times(key, now);
        times.push_back(now);
        while times.len() > most {
            times.pop_front();
        }
    }

    /// The last of a key, where so `many` count now.
    #[must_use]
    pub fn last_of(&self, key: &K, many: usize, now: BootTime) -> Option<BootTime> {
        let times = self.times.get(key)?;
        let counted = times.iter().filter(|at| now.since(**at) < self.within);
        let last = times.back().copied();
        last.filter(|_| counted.count() >= many)
    }

    /// What counts of a key; where much is remembered, what is over makes room.
    fn times(&mut self, key: K, now: BootTime) -> &mut VecDeque<BootTime> {
        let within = self.within;
        if self.times.len() >= MOST {
            self.times.retain(|_, times| {
                forget(times, within, now);
                !times.is_empty()
            });
        }
        let times = self.times.entry(key).or_default();
        forget(times, within, now);
        times
    }
}

fn forget(times: &mut VecDeque<BootTime>, within: Duration, now: BootTime) {
    while times.front().is_some_and(|at| now.since(*at) >= within) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_key_fit_into_the_time_and_the_next_when_the_first_is_over() {
        let mut lately = Lately::new(Duration::from_secs(10));
        let at = |seconds: u64| BootTime(seconds * 1_000_000_000);
        assert_eq!(lately.count("a", 2, at(1)), Ok(()));
        assert_eq!(lately.count("a", 2, at(4)), Ok(()));
        assert_eq!(lately.count("a", 2, at(5)), Err(7));
        assert_eq!(lately.count("b", 2, at(5)), Ok(()));
        assert_eq!(lately.count("a", 2, at(11)), Ok(()));
        assert_eq!(lately.count("a", 2, at(12)), Err(3));
    }

    #[test]
    fn what_came_to_nothing_leaves_its_place() {
        let mut lately = Lately::new(Duration::from_secs(10));
        let at = |seconds: u64| BootTime(seconds * 1_000_000_000);
        assert_eq!(lately.count("a", 2, at(1)), Ok(()));
        assert_eq!(lately.count("a", 2, at(4)), Ok(()));
        lately.uncount(&"a", at(2));
        lately.uncount(&"b", at(4));
        assert_eq!(lately.count("a", 2, at(5)), Err(7));
        lately.uncount(&"a", at(4));
        assert_eq!(lately.count("a", 2, at(5)), Ok(()));
        assert_eq!(lately.count("a", 2, at(6)), Err(6));
    }
}
