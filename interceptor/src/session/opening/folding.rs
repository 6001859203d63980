//! Refusals that are told together: whoever can dial can be refused as often as it likes, and each line of the
//! audit takes a place on the disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::BootTime;

/// How long is waited for more that belong into the same line.
const WINDOW: Duration = Duration::from_secs(1);
/// Scopes of which something is kept though nothing waits to be told.
const KEPT: usize = 1_024;

/// Refusals that wait to be told, by the scope that they are of.
#[derive(Debug, Default)]
pub struct Folds {
    of: Mutex<HashMap<u64, Fold>>,
}

#[derive(Clone, Copy, Debug)]
struct Fold {
    told: BootTime,
    waiting: u64,
}

/// What becomes of one refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is told now.
    Told,
    /// It waits so long, and is told with those that have come by then.
    Waits(Duration),
    /// It is told with one that waits.
    Counted,
}

impl Folds {
    /// One more refusal of a scope.
    #[must_use]
    pub fn add(&self, scope: u64, now: BootTime) -> Fate {
        let mut all = self.lock();
        if all.len() >= KEPT {
            all.retain(|_, fold| fold.waiting > 0 || now.since(fold.told) < WINDOW);
        }
        let Some(fold) = all.get_mut(&scope) else {
            let (told, waiting) = (now, 0);
            all.insert(scope, Fold { told, waiting });
            return Fate::Told;
        };
        let ago = now.since(fold.told);
        match fold.waiting {
            0 if ago >= WINDOW => {
                fold.told = now;
                Fate::Told
            }
            0 => {
                fold.waiting = 1;
                Fate::Waits(WINDOW.saturating_sub(ago))
            }
            _ => {
                fold.waiting = fold.waiting.saturating_add(1);
                Fate::Counted
            }
        }
    }

    /// Those that wait, which are told now.
    #[must_use]
    pub fn take(&self, scope: u64, now: BootTime) -> u64 {
        let told = Fold {
            told: now,
            waiting: 0,
        };
        let before = self.lock().insert(scope, told);
        before.map_or(0, |fold| fold.waiting)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Fold>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime(millis * 1_000_000)
    }

    #[test]
    fn there_is_a_line_a_second_and_each_refusal_is_in_one() {
        let folds = Folds::default();
        assert_eq!(folds.add(1, at(0)), Fate::Told);
        let wait = Fate::Waits(Duration::from_millis(600));
        assert_eq!(folds.add(1, at(400)), wait);
        for _ in 0..10_000 {
            assert_eq!(folds.add(1, at(900)), Fate::Counted);
        }
        assert_eq!(folds.add(2, at(900)), Fate::Told, "another scope");
        // Whoever waits may come late.
        assert_eq!(folds.add(1, at(1_500)), Fate::Counted);
        assert_eq!(folds.take(1, at(1_600)), 10_002);
        assert!(matches!(folds.add(1, at(1_700)), Fate::Waits(_)));
        assert_eq!(folds.take(1, at(2_600)), 1);
        assert_eq!(folds.add(1, at(4_000)), Fate::Told);
    }

    #[test]
    fn scopes_that_are_quiet_are_forgotten() {
        let folds = Folds::default();
        for scope in 0..100_000 {
            assert_eq!(folds.add(scope, at(scope * 100)), Fate::Told);
        }
        assert!(folds.lock().len() <= KEPT);
    }
}
