//! How much work the refusals of one scope may cause: an agent is refused as often as it likes.
//!
//! A connection that cannot be identified is refused, so identifying it pays for itself. A refusal has
//! been given already; saying who was refused is worth a tenth of one thread and a line of ordinary
//! length, and no more. What is over that is written without a name.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::BootTime;

/// Look-ups at once; each may keep a thread for as long as a process likes.
const AT_ONCE: usize = 2;
/// Refusals that wait for a look-up or are in one.
const WAITING: usize = 64;
/// What may be spent at once, in microseconds; it comes back at a tenth of the speed of time.
const MOST: i64 = 1_000_000;
/// Debt beyond this is forgiven: ten seconds of look-up are a hundred without names.
const LEAST: i64 = -10 * MOST;
/// Nanoseconds in which one microsecond is earned.
const EARNING: u64 = 10_000;

/// What one scope may spend.
#[derive(Debug)]
pub(super) struct Allowance {
    waiting: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    purse: Mutex<Purse>,
}

/// Microseconds of a thread. A byte that is written costs one, too.
#[derive(Clone, Copy, Debug)]
struct Purse {
    at: BootTime,
    left: i64,
}

impl Purse {
    /// What is less than a microsecond goes on being earned.
    fn earn(&mut self, now: BootTime) {
        let earned = now.0.saturating_sub(self.at.0) / EARNING;
        self.at = BootTime(self.at.0.saturating_add(earned.saturating_mul(EARNING)));
        let earned = i64::try_from(earned).unwrap_or(MOST);
        self.left = self.left.saturating_add(earned).min(MOST);
    }
}

impl Allowance {
    pub(super) fn new(now: BootTime) -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(WAITING)),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            purse: Mutex::new(Purse {
                at: now,
                left: MOST,
            }),
        }
    }

    /// A place among those who wait, where the scope still has something to spend.
    pub(super) fn admit(&self, now: BootTime) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        self.affords(now).then_some(place)
    }

    /// Whether there is anything to spend: to be asked again after the wait, in which others spent it.
    pub(super) fn affords(&self, now: BootTime) -> bool {
        let mut purse = self.purse.lock().unwrap_or_else(PoisonError::into_inner);
        purse.earn(now);
        purse.left > 0
    }

    /// Takes what a look-up did cost.
    pub(super) fn charge(&self, took: Duration, bytes: usize) {
        let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut purse = self.purse.lock().unwrap_or_else(PoisonError::into_inner);
        let left = purse.left.saturating_sub(took).saturating_sub(bytes);
        purse.left = left.max(LEAST);
    }

    /// Where look-ups take turns.
    pub(super) fn slots(&self) -> Arc<Semaphore> {
        Arc::clone(&self.slots)
    }
}

#[cfg(test)]
mod tests;
