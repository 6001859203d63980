//! What one agent uses up: connections, sessions and requests, each bounded by its configuration.
//!
//! A slot is given back when its guard drops, so that a task that is cancelled gives it back too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::clock::{self, BootTime};
use crate::config;
use crate::policy::Refusal;

/// Connections of one agent that may be on their way at once, where it may not have more: not admitted
/// yet, or being told why they are not. Each takes a descriptor and a task.
const ARRIVING: u32 = 512;

/// Bytes of bodies that are held at once for one agent.
const HELD: u64 = 64 << 20;
/// The same for all agents together.
const HELD_BY_ALL: u64 = 256 << 20;

/// Meters that are kept whether they count anything or not.
const KEPT: usize = 1024;

/// The meters of all agents, by name.
#[derive(Debug, Default)]
pub struct Meters {
    held: Arc<AtomicU64>,
    agents: Mutex<BTreeMap<String, Arc<Meter>>>,
}

impl Meters {
    /// The meter of one agent; made when it is first asked for. Those that count nothing are forgotten where there are
    /// many: who may run agents can give them names without end.
    #[must_use]
    pub fn of(&self, agent: &str) -> Arc<Meter> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= KEPT && !agents.contains_key(agent) {
            let now = clock::boot();
            agents.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_idle(now));
        }
        let meter = || {
            Arc::new(Meter {
                held_by_all: Arc::clone(&self.held),
                ..Meter::default()
            })
        };
        Arc::clone(agents.entry(agent.to_owned()).or_insert_with(meter))
    }

    /// Every agent seen so far with what it uses now.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Arc<Meter>)> {
        let agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        agents
            .iter()
            .map(|(name, meter)| (name.clone(), Arc::clone(meter)))
            .collect()
    }
}

/// What one agent uses now.
#[derive(Debug, Default)]
pub struct Meter {
    arriving: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    sessions: Arc<AtomicU32>,
    bucket: Mutex<Option<Bucket>>,
    aside: Arc<tokio::sync::Mutex<()>>,
    held: Arc<AtomicU64>,
    held_by_all: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: BootTime,
}

/// A place taken; given back when dropped.
#[derive(Debug)]
pub struct Slot(Arc<AtomicU32>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Bytes that are held; given back when dropped. By default it is bounded by nothing.
#[derive(Debug, Default)]
pub struct Room {
    /// What counts them, and how far.
    of: Vec<(Arc<AtomicU64>, u64)>,
    bytes: u64,
}

impl Room {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// A refusal of kind [`RefusalKind::Limit`](crate::policy::RefusalKind::Limit) where there is no room for them.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        for (at, (count, most)) in self.of.iter().enumerate() {
            let grown = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                now.checked_add(bytes).filter(|now| now <= most)
            });
            if grown.is_err() {
                for (count, _) in self.of.iter().take(at) {
                    count.fetch_sub(bytes, Ordering::AcqRel);
                }
                return Err(Refusal::limit("bytes of bodies that are held"));
            }
        }
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for (count, _) in &self.of {
            count.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }
}

impl Meter {
    /// Room for a body that is held: nothing is taken yet.
    #[must_use]
    pub fn room(&self) -> Room {
        let of = vec![
            (Arc::clone(&self.held), HELD),
            (Arc::clone(&self.held_by_all), HELD_BY_ALL),
        ];
        Room { of, bytes: 0 }
    }

    /// Takes a place for a connection that is on its way.
    ///
    /// # Errors
    /// A refusal of kind [`RefusalKind::Limit`](crate::policy::RefusalKind::Limit) where too many are.
    pub fn arrival(&self, limits: &config::Agent) -> Result<Slot, Refusal> {
        let bound = limits.connections.map(|most| most.max(ARRIVING));
        take(&self.arriving, bound, "connections at one moment")
    }

    /// Takes a place for a connection.
    ///
    /// # Errors
    /// A refusal of kind [`crate::policy::RefusalKind::Limit`] where the agent has no place left.
    pub fn connection(&self, limits: &config::Agent) -> Result<Slot, Refusal> {
        take(&self.connections, limits.connections, "connections")
    }

    /// Takes a place for a session.
    ///
    /// # Errors
    /// A refusal of kind [`crate::policy::RefusalKind::Limit`] where the agent has no place left.
    pub fn session(&self, limits: &config::Agent) -> Result<Slot, Refusal> {
        take(&self.sessions, limits.sessions, "sessions")
    }

    /// Spends one request of this second.
    ///
    /// # Errors
    /// A refusal of kind [`crate::policy::RefusalKind::Limit`] where the bucket is empty.
    pub fn request(&self, limits: &config::Agent) -> Result<(), Refusal> {
        let Some(rate) = limits.requests_per_second else {
            return Ok(());
        };
        let size = f64::from(rate);
        let now = clock::boot();
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = bucket.get_or_insert(Bucket {
            tokens: size,
            filled: now,
        });
        let earned = now.since(bucket.filled).as_secs_f64() * size;
        bucket.tokens = (bucket.tokens + earned).min(size);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return Err(exceeded("requests a second", rate));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Waits for the agent's turn to have something worked out beside its requests: one at a time.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.aside).lock_owned().await
    }

    /// Whether it would be the same if it were made anew.
    fn is_idle(&self, now: BootTime) -> bool {
        let counts = [&self.arriving, &self.connections, &self.sessions];
        let bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        // After a second it is full again, whatever its size.
        let is_full = |bucket: &Bucket| now.since(bucket.filled) >= Duration::from_secs(1);
        counts
            .iter()
            .all(|count| count.load(Ordering::Acquire) == 0)
            && self.held.load(Ordering::Acquire) == 0
            && Arc::strong_count(&self.aside) == 1
            && bucket.as_ref().is_none_or(is_full)
    }

    /// Connections open now.
    #[must_use]
    pub fn connections_now(&self) -> u32 {
        self.connections.load(Ordering::Acquire)
    }

    /// Sessions open now.
    #[must_use]
    pub fn sessions_now(&self) -> u32 {
        self.sessions.load(Ordering::Acquire)
    }
}

fn take(count: &Arc<AtomicU32>, limit: Option<u32>, what: &str) -> Result<Slot, Refusal> {
    let bound = limit.unwrap_or(u32::MAX);
    let grown = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
        (now < bound).then_some(now.saturating_add(1))
    });
    match grown {
        Ok(_) => Ok(Slot(Arc::clone(count))),
        Err(_) => Err(exceeded(what, bound)),
    }
}

fn exceeded(what: &str, limit: u32) -> Refusal {
    Refusal::limit(&format!("{limit} {what}"))
}

#[cfg(test)]
mod tests;
