//! A thread that writes what its sessions have queued, a few milliseconds of all of them at once.
//!
//! Waking a thread costs more than writing a frame, so it is woken by the first frame after a rest,
//! waits a moment for others, and then writes everything. Who finds the queue full has it hurry.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::Error;
use super::format::FRAME_HEADER;
use super::track::Track;
use super::writer::press::Press;
use crate::clock::{self, BootTime};

/// How long what is queued may wait for more: what a killed daemon loses.
const GATHER: Duration = Duration::from_millis(10);

/// Bytes that may be queued for one thread, its sessions together, with the frames' headers.
const QUEUE_BYTES: usize = 8 << 20;

/// More than this is queued after [`GATHER`] by whoever sends some 100 MB/s: it is compressed with less effort, as
/// those who send and read it want the cores.
const BULK_BYTES: usize = 1 << 20;

/// What sessions have of a thread; it ends when the last of them and the recorder are gone.
pub(super) struct Lane {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Bytes that may still be queued.
    room: Semaphore,
}

struct State {
    /// Those with something queued, each once.
    tracks: Vec<Arc<Track>>,
    hurry: bool,
    ends: bool,
}

impl Lane {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                tracks: Vec::new(),
                hurry: false,
                ends: false,
            }),
            wake: Condvar::new(),
            room: Semaphore::new(QUEUE_BYTES),
        });
        let lane = Arc::new(Self {
            shared: Arc::clone(&shared),
        });
        let press = Press::new()?;
        std::thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || shared.run(press))?;
        Ok(lane)
    }

    /// Room for one frame with a body of `bytes`; waits while there is none.
    pub(super) async fn room(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Error> {
        let whole = u32::try_from(FRAME_HEADER + bytes).unwrap_or(u32::MAX);
        if let Ok(room) = self.shared.room.try_acquire_many(whole) {
            return Ok(room);
        }
        self.hurry();
        let room = self.shared.room.acquire_many(whole).await;
        room.map_err(|_closed| Error::Closed)
    }

    /// `track` has something queued, and had nothing before.
    pub(super) fn put(&self, track: &Arc<Track>) {
        let mut state = self.shared.lock();
        let first = state.tracks.is_empty();
        state.tracks.push(Arc::clone(track));
        drop(state);
        if first {
            self.shared.wake.notify_one();
        }
    }

    /// Has it write at once.
    pub(super) fn hurry(&self) {
        self.shared.lock().hurry = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.wake.notify_one();
    }
}

/// Without its thread a queue takes nothing: whoever waits for room is told so.
struct Closes<'a>(&'a Semaphore);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Tracks of which something is written that the log does not vouch for yet, by when it has to. They may write
/// nothing more for hours.
#[derive(Default)]
struct Rests(BTreeMap<(BootTime, usize), Weak<Track>>);

impl Rests {
    fn add(&mut self, due: Option<BootTime>, track: &Arc<Track>) {
        if let Some(due) = due {
            let place = (due, Arc::as_ptr(track).addr());
            self.0.insert(place, Arc::downgrade(track));
        }
    }

    fn next(&self) -> Option<BootTime> {
        self.0.keys().next().map(|(due, _)| *due)
    }

    /// Sees to all whose time has come.
    fn look(&mut self) {
        let now = clock::boot();
        while let Some(first) = self.0.first_entry()
            && first.key().0 <= now
        {
            if let Some(track) = first.remove().upgrade() {
                self.add(track.look(), &track);
            }
        }
    }
}

impl Shared {
    /// What it guards is whole after each statement: a panic elsewhere leaves nothing torn.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut press: Press) {
        let _closes = Closes(&self.room);
        let mut rests = Rests::default();
        while let Some(tracks) = self.gather(rests.next()) {
            let queued = QUEUE_BYTES.saturating_sub(self.room.available_permits());
            if let Err(error) = press.take_for_bulk(queued > BULK_BYTES) {
                tracing::warn!(%error, "cannot change how recordings are compressed");
            }
            for track in tracks {
                let written = track.write(&mut press);
                self.room.add_permits(written.room);
                rests.add(written.due, &track);
            }
            rests.look();
        }
    }

    /// What is to be written next, nothing where it is `due` to look at those that rest; `None` at the end.
    fn gather(&self, due: Option<BootTime>) -> Option<Vec<Arc<Track>>> {
        let waiting = |state: &mut State| state.tracks.is_empty() && !state.ends;
        let state = match due {
            None => {
                let state = self.wake.wait_while(self.lock(), waiting);
                state.unwrap_or_else(PoisonError::into_inner)
            }
            Some(due) => {
                let wait = due.since(clock::boot());
                let woken = self.wake.wait_timeout_while(self.lock(), wait, waiting);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if state.tracks.is_empty() && !state.ends {
            return Some(Vec::new());
        }
        let resting = |state: &mut State| !state.hurry && !state.ends;
        let rested = self.wake.wait_timeout_while(state, GATHER, resting);
        let (mut state, _timeout) = rested.unwrap_or_else(PoisonError::into_inner);
        state.hurry = false;
        let tracks = std::mem::take(&mut state.tracks);
        (!tracks.is_empty() || !state.ends).then_some(tracks)
    }
}
