//! What keeps people from saying yes because they are tired of being asked: new questions are counted by time,
//! and what was denied again and again is not asked at all for a while.

use std::time::Duration;

use super::Error;
use super::question::Key;
use crate::clock::{BootTime, Lately};

/// New questions of one agent and user in [`WINDOW`].
const QUESTIONS: usize = 30;
/// How long a question counts.
const WINDOW: Duration = Duration::from_mins(10);
/// So many noes to requests that differ in their values alone are enough.
const NOES: usize = 3;
/// For so long, counted from the last of them; and they are counted for as long.
const CLOSED: Duration = Duration::from_hours(1);

/// What was asked and denied lately. In memory only: a daemon that starts anew counts the noes that hold still.
#[derive(Debug)]
pub(super) struct Fatigue {
    asked: Lately<Key>,
    noes: Lately<Key>,
}

impl Default for Fatigue {
    fn default() -> Self {
        Self {
            asked: Lately::new(WINDOW),
            noes: Lately::new(CLOSED),
        }
    }
}

impl Fatigue {
    /// Counts a new question of whoever asks.
    ///
    /// # Errors
    /// Where there were too many, with when to try again.
    pub(super) fn ask(&mut self, asker: Key, now: BootTime) -> Result<(), Error> {
        let counted = self.asked.count(asker, QUESTIONS, now);
        counted.map_err(|wait| Error::Often { wait })
    }

    /// Notes a no.
    pub(super) fn deny(&mut self, kind: Key, now: BootTime) {
        self.noes.note(kind, NOES, now);
    }

    /// Whether so much of a kind was denied that nobody is asked about it now; for how many seconds.
    pub(super) fn is_closed(&self, kind: Key, now: BootTime) -> Option<u64> {
        let last = self.noes.last_of(&kind, NOES, now)?;
        let left = CLOSED.saturating_sub(now.since(last));
        Some(left.as_secs().saturating_add(1))
    }
}
