//! Refusals in the kernel, as they come out of the ring; and how many did not fit into it.

#![expect(
    unsafe_code,
    reason = "records of the ring, and its registration with the runtime"
)]

use std::io;
use std::iter;
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray, PerCpuValues, RingBuf};
use aya::util::nr_cpus;
use interceptor_ebpf::event::{self, Denial};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::origin::stamp;
use super::rules::address;
use super::{Capture, Denied, DenyReason, Error, NetnsCookie, doors, map_error};
use crate::clock::BootTime;

/// How often the count of lost refusals is looked at while none comes.
const LOOK: Duration = Duration::from_secs(1);

/// What the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A refusal.
    Denied(Denied),
    /// So many refusals did not fit into the ring since the last that was told: a gap to be audited.
    Lost(u64),
}

/// The stream of refusals. There is one.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    counters: PerCpuArray<MapData, u64>,
}

impl Capture {
    /// The stream of refusals. Refusals from before the start that nobody read come first.
    ///
    /// # Errors
    /// Where it has been taken already, or outside a tokio runtime.
    pub fn events(&self) -> Result<Events, Error> {
        let mut ring = self
            .ring
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let ring = ring
            .take()
            .ok_or_else(|| Error::Ring(io::Error::other("it is watched already")))?;
        let counters = MapData::from_pin(self.pins.map("COUNTERS"))
            .and_then(|map| PerCpuArray::try_from(aya::maps::Map::PerCpuArray(map)))
            .map_err(map_error("open", "COUNTERS"))?;
        // SAFETY: the ring owns its descriptor, and always tells the same.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|refused| Error::Ring(io::Error::other(refused)))?;
        Ok(Events { ring, counters })
    }

    /// Refusals for one reason since the pins were made, whether they were reported or not.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn refused(&self, reason: DenyReason) -> Result<u64, Error> {
        sum(&self.counters, number(reason))
    }

    /// Refusals that did not fit into the ring since the pins were made.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn lost(&self) -> Result<u64, Error> {
        sum(&self.counters, event::LOST)
    }

    /// Connections that reached a listener without a record since the pins were made.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn unrecorded(&self) -> Result<u64, Error> {
        sum(&self.counters, event::UNRECORDED)
    }
}

impl Events {
    /// The next event. Cancel-safe: what was not returned stays in the ring.
    ///
    /// # Errors
    /// Where the ring cannot be watched.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(lost) = self.lost()? {
                return Ok(Event::Lost(lost));
            }
            if let Some(denied) = self.pop() {
                return Ok(Event::Denied(denied));
            }
            // A full ring wakes nobody when it loses: the counter is looked at by the clock too.
            if let Ok(ready) = tokio::time::timeout(LOOK, self.ring.readable_mut()).await {
                ready.map_err(Error::Ring)?.clear_ready();
            }
        }
    }

    /// Refusals lost since the last that were told, by this daemon or one before it.
    fn lost(&mut self) -> Result<Option<u64>, Error> {
        let now = sum(&self.counters, event::LOST)?;
        let lost = now.saturating_sub(sum(&self.counters, event::TOLD)?);
        if lost == 0 {
            return Ok(None);
        }
        let told = nr_cpus()
            .map(|cpus| iter::once(now).chain(iter::repeat(0)).take(cpus).collect())
            .map_err(|(_, source)| Error::Ring(source))
            .and_then(|values: Vec<u64>| PerCpuValues::try_from(values).map_err(Error::Ring));
        self.counters
            .set(event::TOLD, told?, 0)
            .map_err(map_error("write", "COUNTERS"))?;
        Ok(Some(lost))
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
        folded,
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
        door: doors::text(&door),
        passerby: flags & event::PASSERBY != 0,
        scope,
        netns: NetnsCookie(netns),
        at: BootTime(at),
        folded,
    })
}

const REASONS: [(u32, DenyReason); 11] = [
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
];

fn reason(number: u32) -> Option<DenyReason> {
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
