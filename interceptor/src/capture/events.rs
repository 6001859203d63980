//! Refusals in the kernel, as they come out of the ring; how many the rate limit kept out of it, and how many
//! did not fit.

#![expect(
    unsafe_code,
    reason = "records of the ring, and its registration with the runtime"
)]

pub(super) mod folds;

use std::collections::VecDeque;
use std::io;
use std::iter;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray, PerCpuValues, RingBuf};
use aya::util::nr_cpus;
use interceptor_ebpf::event::{self, Denial};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::folds::{Folds, Owed};
use super::origin::stamp;
use super::rules::{self, address};
use super::{Capture, Denied, DenyReason, Error, Folded, NetnsCookie, map_error};
use crate::clock::{self, BootTime};

/// How often it is looked how many refusals were folded and lost. A full ring wakes nobody when it loses.
const LOOK: Duration = Duration::from_secs(1);

/// What the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A refusal.
    Denied(Denied),
    /// The rate limit kept these out of the ring. They come again until [`Events::told_folded`].
    Folded(Vec<Folded>),
    /// So many refusals did not fit into the ring since the last that was told: a gap to be audited. It comes
    /// again until [`Events::told_lost`].
    Lost(u64),
}

/// The stream of refusals. There is one.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    counters: PerCpuArray<MapData, u64>,
    folds: Folds,
    /// What the last look found.
    found: VecDeque<Event>,
    /// When that was.
    looked: Option<BootTime>,
}

impl Capture {
    /// The stream of refusals. Refusals from before the start that nobody read come first.
    ///
    /// # Errors
    /// Where it has been taken already, or outside a tokio runtime.
    pub fn events(&self) -> Result<Events, Error> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = ring
            .take()
            .ok_or_else(|| Error::Ring(io::Error::other("it is watched already")))?;
        let counters = self.pinned_counters()?;
        // SAFETY: the ring owns its descriptor, and always tells the same.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|refused| Error::Ring(io::Error::other(refused)))?;
        Ok(Events {
            ring,
            counters,
            folds: Folds::open(&self.pins)?,
            found: VecDeque::new(),
            looked: None,
        })
    }

    fn pinned_counters(&self) -> Result<PerCpuArray<MapData, u64>, Error> {
        MapData::from_pin(self.pins.map("COUNTERS"))
            .and_then(|map| PerCpuArray::try_from(aya::maps::Map::PerCpuArray(map)))
            .map_err(map_error("open", "COUNTERS"))
    }

    /// Refusals by reason since the pins were made, whether they were reported or not.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn refusals(&self) -> Result<Vec<(DenyReason, u64)>, Error> {
        let counters = self.counters();
        let count = |(number, reason)| Ok((reason, sum(&counters, number)?));
        REASONS.into_iter().map(count).collect()
    }

    /// Refusals for one reason since the pins were made, whether they were reported or not.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn refused(&self, reason: DenyReason) -> Result<u64, Error> {
        sum(&self.counters(), number(reason))
    }

    /// Refusals that did not fit into the ring since the pins were made.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn lost(&self) -> Result<u64, Error> {
        sum(&self.counters(), event::LOST)
    }

    /// Connections that reached a listener, or the door of targets, without a record since the pins were made.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn unrecorded(&self) -> Result<u64, Error> {
        let counters = self.counters();
        let dials = sum(&counters, event::UNRECORDED_DIALS)?;
        Ok(sum(&counters, event::UNRECORDED)?.saturating_add(dials))
    }

    /// Counts a dial of a target's UNIX socket that came without a record. The kernel looks for none there.
    pub(super) fn count_unrecorded_dial(&self) -> Result<(), Error> {
        add(&mut self.counters(), event::UNRECORDED_DIALS, 1)
    }

    fn counters(&self) -> MutexGuard<'_, PerCpuArray<MapData, u64>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// The next event. Cancel-safe: what was not returned stays, and counts that are not said to be told come
    /// again.
    ///
    /// # Errors
    /// Where the ring cannot be watched, or a map not be read.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Ok(found);
            }
            let left = match self.looked {
                Some(looked) => LOOK.saturating_sub(clock::boot().since(looked)),
                None => Duration::ZERO,
            };
            if left.is_zero() {
                self.looked = Some(clock::boot());
                self.look()?;
                continue;
            }
            if let Some(denied) = self.pop() {
                return Ok(Event::Denied(denied));
            }
            if let Ok(ready) = tokio::time::timeout(left, self.ring.readable_mut()).await {
                ready.map_err(Error::Ring)?.clear_ready();
            }
        }
    }

    /// What was lost is told where it is not forgotten: not looked for again, by this daemon or the next.
    ///
    /// # Errors
    /// Where the kernel refuses; it comes again then.
    pub fn told_lost(&mut self, count: u64) -> Result<(), Error> {
        add(&mut self.counters, event::TOLD, count)
    }

    /// The same of what was folded.
    ///
    /// # Errors
    /// Where the kernel refuses; it comes again then.
    pub fn told_folded<'a>(&mut self, told: impl Iterator<Item = &'a Folded>) -> Result<(), Error> {
        let count = self.folds.told(told);
        add(&mut self.counters, event::FOLDED_TOLD, count)
    }

    /// Refusals folded and lost since those that were told, by this daemon or one before it.
    fn look(&mut self) -> Result<(), Error> {
        let owed = |all, told| -> Result<Owed, Error> {
            let all = sum(&self.counters, all)?;
            let untold = all.saturating_sub(sum(&self.counters, told)?);
            Ok(Owed { all, untold })
        };
        let lost = owed(event::LOST, event::TOLD)?.untold;
        let folded = self
            .folds
            .look(|| owed(event::FOLDED, event::FOLDED_TOLD))?;
        self.found
            .extend((!folded.is_empty()).then_some(Event::Folded(folded)));
        self.found.extend((lost > 0).then_some(Event::Lost(lost)));
        Ok(())
    }

    /// The next record of the ring that this version can read.
    fn pop(&mut self) -> Option<Denied> {
        loop {
            let item = self.ring.get_mut().next()?;
            if let Some(denied) = read(&item) {
                return Some(denied);
            }
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

fn read(record: &[u8]) -> Option<Denied> {
    if record.len() < size_of::<Denial>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern is a `Denial`; the ring aligns to eight bytes only.
    let denial = unsafe { record.as_ptr().cast::<Denial>().read_unaligned() };
    let Denial {
        scope,
        netns,
        at,
        process,
        destination,
        reason: number,
        protocol,
        flags,
        door,
    } = denial;
    Some(Denied {
        reason: reason(number)?,
        protocol: u8::try_from(protocol).unwrap_or(u8::MAX),
        destination: address(&destination),
        process: stamp(&process),
        door: rules::text(&door),
        passerby: flags & event::PASSERBY != 0,
        scope,
        netns: NetnsCookie(netns),
        at: BootTime(at),
    })
}

const REASONS: [(u32, DenyReason); 12] = [
    (event::NO_RULE, DenyReason::NoRule),
    (event::UDP, DenyReason::Udp),
    (event::SOCKET_TYPE, DenyReason::SocketType),
    (event::BIND, DenyReason::Bind),
    (event::NETNS_UNKNOWN, DenyReason::NetnsUnknown),
    (event::OVERFLOW, DenyReason::Overflow),
    (event::EGRESS, DenyReason::Egress),
    (event::DAEMON_DOWN, DenyReason::DaemonDown),
    (event::LISTENER, DenyReason::Listener),
    (event::DOOR, DenyReason::Door),
    (event::PASSED, DenyReason::Passed),
    (event::LEFT, DenyReason::Left),
];

pub(super) fn reason(number: u32) -> Option<DenyReason> {
    let found = REASONS.into_iter().find(|(of, _)| *of == number);
    found.map(|(_, reason)| reason)
}

fn number(reason: DenyReason) -> u32 {
    let found = REASONS.into_iter().find(|(_, of)| *of == reason);
    found.map_or(event::LOST, |(number, _)| number)
}

fn sum(counters: &PerCpuArray<MapData, u64>, counter: u32) -> Result<u64, Error> {
    let values = counters
        .get(&counter, 0)
        .map_err(map_error("read", "COUNTERS"))?;
    Ok(values.iter().sum())
}

/// Adds to a counter that the daemon alone writes.
fn add(counters: &mut PerCpuArray<MapData, u64>, counter: u32, count: u64) -> Result<(), Error> {
    let all = sum(counters, counter)?.saturating_add(count);
    let values = nr_cpus()
        .map(|cpus| iter::once(all).chain(iter::repeat(0)).take(cpus).collect())
        .map_err(|(_, source)| Error::Ring(source))
        .and_then(|values: Vec<u64>| PerCpuValues::try_from(values).map_err(Error::Ring));
    counters
        .set(counter, values?, 0)
        .map_err(map_error("write", "COUNTERS"))
}
