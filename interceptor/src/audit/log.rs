//! The log of this host: one directory, one writer, one lock.
//!
//! Under the lock a line is made, hashed and written with one write(2); its JSON is made before.
//! Two promises rest on the space that a segment has behind its end: what was reserved can be
//! written on a full disk, and no line is ever written in part. The disk is [`super::sync`]'s affair.

mod state;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

pub(super) use self::state::State;
use self::state::{Later, Now};
use super::chain::{Chain, KEPT_BUFFER, with_body};
use super::recover::{Aside, recover};
use super::segment::{Name, Segment, WriteError};
use super::stamp::Stamp;
use super::sync::{self, Synced, Tip, Waits};
use super::{
    Error, Event, FINISH_BYTES, Ledger, Reservation, Sequence, Settings, Settled, Signer, Sink,
    checkpoint, segment,
};
use crate::clock;
use crate::config::Durability;
use crate::session::Outcome;

/// The most lines that are put off.
pub(super) const LATER_MAX: usize = 256;

/// How long a lock is waited for that somebody else has.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// More than a line with a checkpoint takes.
const CHECKPOINT_BYTES: u64 = 1024;

/// A status comes from the server: no more of it than this is written, in characters.
const STATUS_CHARS: usize = 64;

/// The audit log. Closed when it is dropped.
pub struct Log {
    shared: Arc<Shared>,
    /// Space for the last line.
    closing: Mutex<Option<Reservation>>,
    /// The syncing thread, and the file that holds the directory's lock; gone once closed.
    running: Mutex<Option<(JoinHandle<()>, File)>>,
}

/// What writers and the syncing thread share.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) synced: watch::Sender<Synced>,
    pub(super) wake: Condvar,
    pub(super) waits: Waits,
    pub(super) settings: Settings,
    pub(super) signer: Signer,
    ledger: Arc<Ledger>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log below `dir`, which is made where it is missing; recovers what a crash left.
    ///
    /// Fails where another process has it, others can reach it, or it was changed before its
    /// checkpoint, or `signer` has not signed that.
    pub fn open(dir: &Path, signer: Signer, settings: &Settings) -> Result<Self, Error> {
        own(dir)?;
        let lock = lock(dir)?;
        let recovered = recover(dir, &signer)?;
        let segment = match recovered.last {
            Some(name) => Segment::reopen(dir, name)?,
            None => Segment::create(dir, Name(recovered.chain.next))?,
        };
        if recovered.chain == Chain::START {
            segment::sync_dir(dir)?;
        }
        if recovered.unsigned {
            let tip = Tip::of(&recovered.chain, &segment);
            checkpoint::write(dir, &signer.sign(tip.checkpoint()))?;
        }
        signer.publish()?;
        let shared = Shared::new(dir, (signer, settings), segment, recovered.chain);
        let shared = Arc::new(shared);
        let syncer = std::thread::Builder::new()
            .name("audit-sync".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || sync::run(&shared)
            })
            .map_err(|error| Error::io("start the syncing thread of", dir, error))?;
        let log = Self {
            shared,
            closing: Mutex::new(None),
            running: Mutex::new(Some((syncer, lock))),
        };
        log.tell_opening(&recovered.aside)?;
        Ok(log)
    }

    /// Writes what is special about this opening. A disk that is full now is no reason not to open.
    fn tell_opening(&self, aside: &[Aside]) -> Result<(), Error> {
        let opened = Event::LogOpened {
            version: env!("CARGO_PKG_VERSION"),
            durability: match self.shared.settings.durability {
                Durability::Relaxed => "relaxed",
                Durability::Strict => "strict",
            },
        };
        let mut results = vec![self.append(&opened)];
        for aside in aside {
            tracing::warn!(segment = %aside.segment, offset = aside.offset, bytes = aside.bytes,
                kept = aside.kept, "the audit log ended with part of a line, which was set aside");
            results.push(self.append(&Event::LogRecovered {
                segment: &aside.segment,
                offset: aside.offset,
                bytes: aside.bytes,
                kept: aside.kept.as_deref(),
            }));
        }
        match results.into_iter().find_map(Result::err) {
            None => {}
            Some(Error::Full { dir }) => {
                tracing::error!(dir = %dir.display(), "the audit log has no space: every request is refused until there is some");
            }
            Some(error) => return Err(error),
        }
        if let Ok(reservation) = self.reserve(FINISH_BYTES) {
            *unpoisoned(&self.closing) = Some(reservation);
        }
        Ok(())
    }

    /// Waits until the line is on disk, whatever the settings say. May be dropped at any time.
    pub async fn durable(&self, sequence: Sequence) -> Result<(), Error> {
        let mut synced = self.shared.synced.subscribe();
        if synced.borrow().sequence >= sequence.0 {
            return Ok(());
        }
        self.shared.hurry();
        let reached = synced
            .wait_for(|synced| synced.sequence >= sequence.0 || synced.failed.is_some())
            .await;
        match reached {
            Ok(synced) if synced.sequence >= sequence.0 => Ok(()),
            Ok(synced) => Err(Error::Broken {
                why: synced.failed.clone().unwrap_or_else(|| Arc::from("closed")),
            }),
            Err(_) => Err(Error::Broken {
                why: Arc::from("the log was closed"),
            }),
        }
    }

    /// Waits until a later line than `sequence` is on disk, without asking for it. May be dropped at any time.
    pub async fn synced_past(&self, sequence: Sequence) -> Result<(), Error> {
        let mut synced = self.shared.synced.subscribe();
        let reached = synced
            .wait_for(|synced| synced.sequence > sequence.0 || synced.failed.is_some())
            .await;
        match reached {
            Ok(synced) if synced.sequence > sequence.0 => Ok(()),
            _ => Err(Error::Broken {
                why: Arc::from("the log was closed"),
            }),
        }
    }

    /// The last line that is known to be on disk; 0 for none.
    #[must_use]
    pub fn synced(&self) -> Sequence {
        Sequence(self.shared.synced.borrow().sequence)
    }

    /// How many syncs came later than 50 ms after the eldest line that they brought to the disk, and after how long
    /// the latest of all did, since the log was opened.
    #[must_use]
    pub fn waits(&self) -> (u64, Duration) {
        self.shared.waits.all()
    }

    #[cfg(test)]
    pub(super) fn shared_synced(&self) -> watch::Receiver<Synced> {
        self.shared.synced.subscribe()
    }

    /// Writes the last line, syncs and leaves a checkpoint behind it. Blocks on the disk.
    /// Later appends are refused; closing again does nothing.
    pub fn close(&self) -> Result<(), Error> {
        let Some((syncer, lock)) = unpoisoned(&self.running).take() else {
            return Ok(());
        };
        let last = Event::LogClosed {};
        let closed = match unpoisoned(&self.closing).take() {
            Some(reservation) => self.append_reserved(reservation, &last),
            None => self.append(&last),
        };
        self.shared.stop();
        let joined = syncer.join();
        let failed = self.shared.synced.borrow().failed.clone();
        let mut state = self.shared.lock();
        state.broken = Some(Arc::from("the log was closed"));
        if let Err(error) = state.segment.cut() {
            tracing::warn!(%error, "cannot give back the space behind the audit log");
        }
        drop(state);
        drop(lock);
        if let Some(why) = failed {
            return Err(Error::Broken { why });
        }
        if joined.is_err() {
            let why = Arc::from("the syncing thread panicked");
            return Err(Error::Broken { why });
        }
        closed.map(drop)
    }
}

impl Sink for Log {
    fn append(&self, event: &Event<'_>) -> Result<Sequence, Error> {
        with_body(event, |body| self.shared.write(Now { body, held: 0 }, None))
    }

    fn append_durable<'a>(&'a self, event: &Event<'_>) -> Settled<'a> {
        let appended = self.append(event);
        Box::pin(async move {
            let sequence = appended?;
            if self.shared.settings.durability == Durability::Strict {
                self.durable(sequence).await?;
            }
            Ok(sequence)
        })
    }

    fn reserve(&self, bytes: u64) -> Result<Reservation, Error> {
        let mut state = self.shared.lock();
        state.usable()?;
        let promised = self.shared.ledger.promised();
        state.segment.provide(promised.saturating_add(bytes))?;
        Ok(self.shared.ledger.promise(bytes))
    }

    fn append_reserved(
        &self,
        reservation: Reservation,
        event: &Event<'_>,
    ) -> Result<Sequence, Error> {
        let held = reservation.bytes;
        with_body(event, |body| {
            self.shared.write(Now { body, held }, Some(reservation))
        })
    }

    fn append_later(&self, room: Reservation, event: &Event<'_>) -> Result<(), Error> {
        let outcome = bounded(event);
        let event = match (event, &outcome) {
            (
                Event::RequestFinished {
                    connection,
                    session,
                    request,
                    principal,
                    spent,
                    ..
                },
                Some(outcome),
            ) => &Event::RequestFinished {
                connection: *connection,
                session: *session,
                request: *request,
                principal: *principal,
                outcome,
                spent,
            },
            _ => event,
        };
        with_body(event, |body| {
            let later = Later {
                stamp: Stamp::now(),
                body: body.into(),
                room,
            };
            self.shared.put_off(later)
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the audit log was not closed in order");
        }
    }
}

impl Shared {
    fn new(
        dir: &Path,
        (signer, settings): (Signer, &Settings),
        segment: Segment,
        chain: Chain,
    ) -> Self {
        let synced = Synced {
            sequence: chain.next - 1,
            failed: None,
        };
        Self {
            dir: dir.to_owned(),
            synced: watch::Sender::new(synced),
            wake: Condvar::new(),
            waits: Waits::default(),
            settings: settings.clone(),
            signer,
            ledger: Arc::default(),
            state: Mutex::new(State::new(segment, chain)),
        }
    }

    /// A panic under the lock leaves nobody knows what: the log is broken then.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            state
                .broken
                .get_or_insert_with(|| Arc::from("a writer panicked"));
            state
        })
    }

    /// Has the disk synced at once.
    fn hurry(&self) {
        self.lock().urgent = true;
        self.wake.notify_one();
    }

    fn stop(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Writes one line, and before it those that were put off. Its room is given back as it is used: not
    /// before, or another line would take it, and not after, or it would count twice.
    fn write(&self, now: Now<'_>, room: Option<Reservation>) -> Result<Sequence, Error> {
        let mut state = self.lock();
        state.usable()?;
        if state.lost > 0 {
            self.tell_lost(&mut state);
        }
        let placed = self.place(&mut state, Some(now));
        drop(room);
        if let Err(Error::Full { .. }) = placed {
            state.lost += 1;
        }
        if placed.is_ok() {
            self.wake(state);
        }
        placed
    }

    /// Has a line written with the next one, or by the syncing thread.
    fn put_off(&self, later: Later) -> Result<(), Error> {
        let mut state = self.lock();
        state.usable()?;
        state.later.push(later);
        let placed = match state.later.len() % LATER_MAX {
            0 => self.place(&mut state, None).map(drop),
            _ => Ok(()),
        };
        self.wake(state);
        match placed {
            // The line is taken all the same, and its space is its own.
            Ok(()) | Err(Error::Full { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes what was put off.
    pub(super) fn catch_up(&self, state: &mut State) -> Result<(), Error> {
        if state.later.is_empty() || state.broken.is_some() {
            return Ok(());
        }
        self.place(state, None).map(drop)
    }

    /// Has the syncing thread know that there is something that is not on disk.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if state.unsynced.is_none() {
            state.unsynced = Some(clock::boot());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Says how many lines the full disk did not take, once it takes some again.
    fn tell_lost(&self, state: &mut State) {
        let lost = Event::LogLost { count: state.lost };
        if with_body(&lost, |body| self.place(state, Some(Now { body, held: 0 }))).is_ok() {
            state.lost = 0;
        }
    }

    /// Writes what was put off and then `now`, with one call: all of it, or nothing.
    fn place(&self, state: &mut State, now: Option<Now<'_>>) -> Result<Sequence, Error> {
        let mut chain = state.make(now)?;
        let put_off = state.later.iter().map(|later| later.room.bytes);
        let held = put_off.sum::<u64>() + now.map_or(0, |now| now.held);
        // What the others were promised; it must be there before and after these lines.
        let promised = self.ledger.promised().saturating_sub(held);
        let needed = |state: &State| {
            let bytes = u64::try_from(state.lines.len()).unwrap_or(u64::MAX);
            promised.saturating_add(bytes)
        };
        if state.segment.length >= self.settings.segment_bytes
            && self.rotate(state, needed(state))?
        {
            // The old segment's checkpoint came between.
            chain = state.make(now)?;
        }
        state.segment.provide(needed(state))?;
        match state.segment.write(&state.lines, promised + held) {
            Ok(()) => {
                state.chain = chain;
                state.later.clear();
                if state.lines.capacity() > KEPT_BUFFER {
                    state.lines = Vec::new();
                }
                Ok(Sequence(chain.next - 1))
            }
            Err(WriteError::Full) => Err(Error::Full {
                dir: self.dir.clone(),
            }),
            Err(WriteError::Broken(error)) => Err(breaks(state, &error)),
        }
    }

    /// Begins the next segment, with space for `needed` bytes, behind a checkpoint of the old one. Where
    /// that cannot be had the old one goes on: a segment may grow past its size, a promise may not be
    /// broken. Whether it was begun.
    fn rotate(&self, state: &mut State, needed: u64) -> Result<bool, Error> {
        // Behind the line that ends this one.
        let mut next = match Segment::create(&self.dir, Name(state.chain.next + 1)) {
            Ok(next) => next,
            Err(error) => {
                tracing::debug!(%error, "cannot begin the next audit segment");
                return Ok(false);
            }
        };
        let provided = next.provide(needed.saturating_add(CHECKPOINT_BYTES));
        match provided.and_then(|()| self.vouch(state)) {
            Ok(()) => {}
            Err(error) => {
                next.discard();
                if state.broken.is_some() {
                    return Err(error);
                }
                tracing::debug!(%error, "cannot begin the next audit segment");
                return Ok(false);
            }
        }
        let mut old = std::mem::replace(&mut state.segment, next);
        if let Err(error) = old.cut() {
            tracing::warn!(%error, "cannot give back the space behind an audit segment");
        }
        state.retired.push(old.file);
        state.entries = true;
        Ok(true)
    }

    /// Writes a line that vouches for all before it. What was put off stays so.
    fn vouch(&self, state: &mut State) -> Result<(), Error> {
        let tip = Tip::of(&state.chain, &state.segment);
        let checkpoint = self.signer.sign(tip.checkpoint());
        let event = Event::LogCheckpoint {
            checkpoint: &checkpoint,
        };
        let (mut chain, mut line) = (state.chain, Vec::new());
        with_body(&event, |body| {
            chain.add(&mut line, (&mut state.face, Stamp::now()), body)
        })?;
        let promised = self.ledger.promised();
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
        state.segment.provide(promised.saturating_add(bytes))?;
        match state.segment.write(&line, promised) {
            Ok(()) => {
                state.chain = chain;
                state.vouched = chain.next - 1;
                Ok(())
            }
            Err(WriteError::Full) => Err(Error::Full {
                dir: self.dir.clone(),
            }),
            Err(WriteError::Broken(error)) => Err(breaks(state, &error)),
        }
    }

    /// The same from time to time: where there are lines that nothing in the log vouches for. One that
    /// finds no space is left out.
    pub(super) fn vouch_now(&self, state: &mut State) {
        let vouched = self.catch_up(state).and_then(|()| {
            let is_full = state.segment.length >= self.settings.segment_bytes;
            match is_full || state.vouched + 1 == state.chain.next || state.usable().is_err() {
                // The next line ends the segment with one.
                true => Ok(()),
                false => self.vouch(state),
            }
        });
        match vouched {
            Ok(()) => {
                if state.unsynced.is_none() {
                    state.unsynced = Some(clock::boot());
                }
            }
            Err(error) => tracing::warn!(%error, "cannot write a checkpoint into the audit log"),
        }
    }
}

/// A write failed in a way that leaves nobody knows what: nothing more is taken.
fn breaks(state: &mut State, error: &std::io::Error) -> Error {
    let why: Arc<str> = Arc::from(format!("an earlier write failed: {error}"));
    tracing::error!(%error, "the audit log cannot be written: every request is refused until a restart");
    state.broken = Some(Arc::clone(&why));
    Error::Broken { why }
}

/// The outcome of an event whose status is longer than it may be, with a status that is not.
fn bounded(event: &Event<'_>) -> Option<Outcome> {
    let Event::RequestFinished { outcome, .. } = event else {
        return None;
    };
    let (cut, _) = outcome.status.char_indices().nth(STATUS_CHARS)?;
    let mut outcome = (*outcome).clone();
    outcome.status.truncate(cut);
    Some(outcome)
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the directory where it is missing, and sees to it that it is nobody else's.
pub(crate) fn own(dir: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Error::io("make", dir, error))?;
    let found = fs::symlink_metadata(dir).map_err(|error| Error::io("read", dir, error))?;
    let exposed = |what| Error::Exposed {
        dir: dir.to_owned(),
        what,
    };
    if !found.is_dir() {
        return Err(exposed("it is not a directory".to_owned()));
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(exposed(format!("it belongs to uid {}", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        return Err(exposed(format!(
            "its mode is {:04o}",
            found.mode() & 0o7777
        )));
    }
    Ok(())
}

/// Takes the directory's lock, which goes with the process however it ends.
#[expect(
    clippy::disallowed_methods,
    reason = "nobody tells for a bounded time that a lock is free (flock(2))"
)]
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(|error| Error::io("open", &path, error))?;
    let since = clock::boot();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A child of the one before shares its lock until it runs its own program.
            Err(TryLockError::WouldBlock) if clock::boot().since(since) < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PATIENCE / 50);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked {
                    dir: dir.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path, error)),
        }
    }
}
