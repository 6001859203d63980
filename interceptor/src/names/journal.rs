//! Which questions have a line of their own in the audit: the same one of a scope has one a minute, and the
//! next tells how many there were meanwhile.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::clock::BootTime;

/// How long a question is the same one.
const WINDOW: Duration = Duration::from_secs(60);
/// Questions that are remembered; of one that is forgotten the next line of any tells.
const KEPT: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// A question and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) scope: u64,
    /// The process, by its number and its start.
    pub(super) process: (u32, u64),
    pub(super) name: String,
    pub(super) qtype: String,
    /// A word of a closed list, or a rule's name.
    pub(super) ended: String,
}

#[derive(Debug)]
pub(super) struct Journal(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    entries: LruCache<Entry, (BootTime, u64)>,
    forgotten: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self(Mutex::new(Kept {
            entries: LruCache::new(KEPT),
            forgotten: 0,
        }))
    }
}

impl Journal {
    /// How many questions a line that is written now tells of beside its own; none where it is not
    /// written.
    pub(super) fn tells(&self, entry: Entry, now: BootTime) -> Option<u64> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, folded)) = kept.entries.get_mut(&entry) {
            if now.since(*since) < WINDOW {
                *folded += 1;
                return None;
            }
            let folded = *folded;
            kept.entries.put(entry, (now, 0));
            return Some(folded + std::mem::take(&mut kept.forgotten));
        }
        if let Some((_, (_, folded))) = kept.entries.push(entry, (now, 0)) {
            kept.forgotten += folded;
        }
        Some(std::mem::take(&mut kept.forgotten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry {
            scope: 1,
            process: (7, 8),
            name: name.into(),
            qtype: "A".into(),
            ended: "ok".into(),
        }
    }

    #[test]
    fn one_question_has_one_line_a_minute_and_none_is_forgotten() {
        let journal = Journal::default();
        let at = |seconds: u64| BootTime(seconds * 1_000_000_000);
        assert_eq!(journal.tells(entry("a"), at(0)), Some(0));
        assert_eq!(journal.tells(entry("a"), at(1)), None);
        assert_eq!(journal.tells(entry("b"), at(1)), Some(0));
        assert_eq!(journal.tells(entry("a"), at(59)), None);
        assert_eq!(journal.tells(entry("a"), at(60)), Some(2));
        assert_eq!(journal.tells(entry("a"), at(61)), None);
        for other in 0..KEPT.get() {
            let told = journal.tells(entry(&format!("n{other}")), at(62));
            // Whoever pushes out `a` tells of it.
            assert!(matches!(told, Some(0 | 1)), "{told:?}");
        }
        assert_eq!(journal.tells(entry("a"), at(63)), Some(0));
    }
}
