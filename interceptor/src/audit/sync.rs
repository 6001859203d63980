//! The thread that brings lines to the disk: at once for who waits, within 50 ms for all others, as far as the disk
//! keeps up; where it does not, that is counted and said.
//!
//! One fdatasync(2) serves everybody whose line was written before it began (group commit). After a
//! failed sync nobody can say what the disk holds (Linux marks the pages clean, and says so once):
//! the log is broken then, until it is opened anew.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::Error;
use super::chain::{Chain, Hash};
use super::checkpoint::{self, Checkpoint};
use super::log::{Shared, State};
use super::segment::{self, Name, Segment};
use crate::clock::{self, BootTime};

/// A line is on the disk this long after it was written, at most.
const PROMISED: Duration = Duration::from_millis(50);

/// Lines wait this long for others to share their sync; the disk has the rest of [`PROMISED`].
const SHARE: Duration = Duration::from_millis(20);

/// That the disk is slow is said this often, at most.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// A checkpoint is at most this old while there is something new to say.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// And at most this many lines old.
const CHECKPOINT_LINES: u64 = 10_000;

/// How far the disk is.
#[derive(Clone, Debug)]
pub(super) struct Synced {
    /// The last line that is on disk.
    pub(super) sequence: u64,
    /// Why no further one will be.
    pub(super) failed: Option<Arc<str>>,
}

/// How long the eldest line of a sync had to wait for the disk.
#[derive(Debug, Default)]
pub(super) struct Waits {
    late: AtomicU64,
    longest: AtomicU64,
}

impl Waits {
    /// Counts one; whether it was longer than is promised.
    fn note(&self, waited: Duration) -> bool {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.longest.fetch_max(micros, Ordering::Relaxed);
        let is_late = waited > PROMISED;
        self.late.fetch_add(u64::from(is_late), Ordering::Relaxed);
        is_late
    }

    /// How many were longer than is promised, and the longest.
    pub(super) fn all(&self) -> (u64, Duration) {
        let longest = self.longest.load(Ordering::Relaxed);
        (
            self.late.load(Ordering::Relaxed),
            Duration::from_micros(longest),
        )
    }
}

/// The end of the log at some moment.
#[derive(Clone, Copy)]
pub(super) struct Tip {
    sequence: u64,
    hash: Hash,
    segment: Name,
    length: u64,
}

impl Tip {
    pub(super) fn of(chain: &Chain, segment: &Segment) -> Self {
        Self {
            sequence: chain.next - 1,
            hash: chain.prev,
            segment: segment.name,
            length: segment.length,
        }
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            v: 2,
            seq: self.sequence,
            hash: self.hash.as_str().to_owned(),
            segment: self.segment.to_string(),
            length: self.length,
            time: format!("{:.6}", clock::wall()),
            key: None,
            signature: None,
        }
    }
}

/// What the thread has done so far.
struct Done {
    /// What is on disk.
    synced: Tip,
    /// The sequence of the last checkpoint.
    checkpoint: u64,
    /// When it was written, or last tried.
    at: BootTime,
    /// When the log itself was last vouched for, by a line in it.
    vouched: BootTime,
    /// When it was last said that the disk is slow.
    said: Option<BootTime>,
}

/// What waits for the thread.
#[derive(Clone, Copy, Default)]
struct Waiting {
    /// Since when a line waits for the disk.
    unsynced: Option<BootTime>,
    /// Whether somebody waits for it.
    urgent: bool,
    /// Whether nothing comes any more.
    closing: bool,
    /// Whether there are lines that no line vouches for.
    unvouched: bool,
}

impl Waiting {
    fn of(state: &State) -> Self {
        Self {
            unsynced: state.unsynced,
            urgent: state.urgent,
            closing: state.closing,
            unvouched: state.is_unvouched(),
        }
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Sync,
    Checkpoint,
    Vouch,
    Wait(Duration),
    Rest,
    End,
}

/// Runs until the log is closed or the disk fails.
pub(super) fn run(shared: &Shared) {
    let mut state = shared.lock();
    let tip = Tip::of(&state.chain, &state.segment);
    let mut done = Done {
        synced: tip,
        checkpoint: 0,
        at: clock::boot(),
        vouched: clock::boot(),
        said: None,
    };
    loop {
        let waiting = Waiting::of(&state);
        state = match done.due(waiting, shared.settings.checkpoint, clock::boot()) {
            Due::Wait(time) => match shared.wake.wait_timeout(state, time) {
                Ok((state, _)) => state,
                Err(_) => shared.lock(),
            },
            Due::Rest => match shared.wake.wait(state) {
                Ok(state) => state,
                Err(_) => shared.lock(),
            },
            Due::Sync => match sync(shared, state) {
                Ok(tip) => {
                    done.synced = tip;
                    done.waited(shared, waiting);
                    shared.lock()
                }
                Err(error) => return fail(shared, &error),
            },
            Due::Checkpoint => {
                drop(state);
                done.write(shared);
                shared.lock()
            }
            Due::Vouch => {
                shared.vouch_now(&mut state);
                done.vouched = clock::boot();
                state
            }
            Due::End => {
                drop(state);
                if done.checkpoint < done.synced.sequence {
                    done.write(shared);
                }
                return;
            }
        };
    }
}

impl Done {
    fn due(&self, waiting: Waiting, vouch_every: Duration, now: BootTime) -> Due {
        let checkpoint_due = if self.checkpoint == self.synced.sequence {
            None
        } else if self.synced.sequence.saturating_sub(self.checkpoint) >= CHECKPOINT_LINES {
            Some(Duration::ZERO)
        } else {
            Some(CHECKPOINT_EVERY.saturating_sub(now.since(self.at)))
        };
        let sync_due = waiting.unsynced.map(|since| {
            if waiting.urgent || waiting.closing {
                Duration::ZERO
            } else {
                SHARE.saturating_sub(now.since(since))
            }
        });
        let vouch_due = (waiting.unvouched && !waiting.closing)
            .then(|| vouch_every.saturating_sub(now.since(self.vouched)));
        if vouch_due == Some(Duration::ZERO) {
            return Due::Vouch;
        }
        let checkpoint_due = match (checkpoint_due, vouch_due) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        match (sync_due, checkpoint_due) {
            (Some(Duration::ZERO), _) => Due::Sync,
            (None, _) if waiting.closing => Due::End,
            (_, Some(Duration::ZERO)) => Due::Checkpoint,
            (Some(one), Some(other)) => Due::Wait(one.min(other)),
            (Some(one), None) | (None, Some(one)) => Due::Wait(one),
            (None, None) => Due::Rest,
        }
    }

    /// Counts how long the eldest line waited that is on the disk now, and says where that was too long.
    fn waited(&mut self, shared: &Shared, waiting: Waiting) {
        let now = clock::boot();
        let Some(since) = waiting.unsynced else {
            return;
        };
        let waited = now.since(since);
        let is_due = |said: BootTime| now.since(said) >= SAY_EVERY;
        if shared.waits.note(waited) && self.said.is_none_or(is_due) {
            self.said = Some(now);
            tracing::warn!(
                milliseconds = waited.as_millis(),
                "the disk of the audit log is slow: a line was synced later than 50 ms after it was written"
            );
        }
    }

    /// A checkpoint that cannot be written (the disk is full) is written later: the log does not
    /// need it to go on.
    fn write(&mut self, shared: &Shared) {
        self.at = clock::boot();
        let checkpoint = shared.signer.sign(self.synced.checkpoint());
        match checkpoint::write(&shared.dir, &checkpoint) {
            Ok(()) => self.checkpoint = self.synced.sequence,
            Err(error) => tracing::warn!(%error, "cannot write the audit checkpoint"),
        }
    }
}

/// Brings everything that is written now to the disk, without the lock.
fn sync(shared: &Shared, mut state: MutexGuard<'_, State>) -> Result<Tip, Error> {
    let behind = match shared.catch_up(&mut state) {
        Ok(()) => false,
        // Its space was set aside; whoever holds some of it is about to give it back.
        Err(Error::Full { .. }) => true,
        Err(error) => return Err(error),
    };
    let tip = Tip::of(&state.chain, &state.segment);
    let mut files: Vec<Arc<File>> = std::mem::take(&mut state.retired);
    files.push(Arc::clone(&state.segment.file));
    let entries = std::mem::take(&mut state.entries);
    // Once closing, nobody gives anything back any more.
    state.unsynced = (behind && !state.closing).then(clock::boot);
    state.urgent = false;
    drop(state);
    for file in files {
        file.sync_data()
            .map_err(|error| Error::io("sync a segment below", &shared.dir, error))?;
    }
    if entries {
        segment::sync_dir(&shared.dir)?;
    }
    shared
        .synced
        .send_modify(|synced| synced.sequence = tip.sequence);
    Ok(tip)
}

fn fail(shared: &Shared, error: &Error) {
    tracing::error!(%error, "the audit log cannot be synced: every request is refused until a restart");
    let why: Arc<str> = Arc::from(format!("an earlier sync failed: {error}"));
    shared.lock().broken.get_or_insert_with(|| Arc::clone(&why));
    shared
        .synced
        .send_modify(|synced| synced.failed = Some(why));
}

#[cfg(test)]
mod tests;
