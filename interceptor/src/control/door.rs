//! The door of a control socket: how many visitors at once, how often, and for how long.
//!
//! Everybody may knock, agents too; none of them may keep the others out, nor use up the daemon's
//! descriptors. Who is turned away is told nothing. What a visitor may do is not decided here.

mod stream;
mod visit;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::unix::{SocketAddr, UCred};
use tokio::net::{UnixListener, UnixStream};

pub use self::stream::Stream;
pub use self::visit::Visit;
use crate::capture::Capture;
use crate::capture::cgroup2::Hierarchy;
use crate::clock::{self, BootTime};
use crate::session::services::Services;

/// Visitors at once of one user, and of all users but root together.
const OF_ONE: u32 = 32;
const OF_ALL: u32 = 256;
/// Visits a second of one user; after a pause so many at once.
const RATE: f64 = 50.0;
/// How long a visit may last; a reload of many policies takes a few seconds.
const LONGEST: Duration = Duration::from_secs(60);
/// How long the door stays shut after an error such as a full table of descriptors.
const REST: Duration = Duration::from_millis(100);
/// Users that are remembered though none of theirs is inside.
const REMEMBERED: usize = 1_024;

/// A control socket that bounds its visitors.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    services: Arc<Services>,
    guests: Arc<Mutex<Guests>>,
}

/// What a visitor holds.
#[derive(Debug)]
pub struct Entry {
    capture: Arc<Capture>,
    _place: Place,
}

impl Entry {
    /// Where the visitor's cgroup is looked up.
    pub(super) fn hierarchy(&self) -> &Hierarchy {
        self.capture.hierarchy()
    }
}

impl Door {
    pub(super) fn new(listener: UnixListener, services: Arc<Services>) -> Self {
        Self {
            listener,
            services,
            guests: Arc::default(),
        }
    }

    fn admit(&self, stream: &UnixStream) -> Option<Place> {
        let credentials = stream.peer_cred().ok()?;
        let who = if credentials.uid() == 0 && !self.is_inside(credentials) {
            Who::Operator
        } else {
            Who::User(credentials.uid())
        };
        Place::take(&self.guests, who, clock::boot())
    }

    /// Whether a root is one inside a scope: it must not use up the operator's places.
    fn is_inside(&self, credentials: UCred) -> bool {
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
        let cgroup = pid.and_then(|pid| self.services.capture.hierarchy().of(Some(pid)).ok());
        cgroup.is_none_or(|cgroup| self.services.scopes.is_known(&cgroup))
    }
}

impl Listener for Door {
    type Io = Visit<UnixStream, Entry>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    if let Some(place) = self.admit(&stream) {
                        let entry = Entry {
                            capture: Arc::clone(&self.services.capture),
                            _place: place,
                        };
                        return (Visit::new(stream, entry, LONGEST), address);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept on a control socket");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Operator,
    User(u32),
}

/// Who is inside.
#[derive(Debug, Default)]
struct Guests {
    users: HashMap<u32, Guest>,
    users_inside: u32,
    operators_inside: u32,
}

#[derive(Debug)]
struct Guest {
    inside: u32,
    visits: f64,
    filled: BootTime,
}

/// One visitor's place.
#[derive(Debug)]
struct Place {
    guests: Arc<Mutex<Guests>>,
    who: Who,
}

impl Place {
    /// A place for one more visitor at `now`; none where there are too many already, or too often.
    fn take(guests: &Arc<Mutex<Guests>>, who: Who, now: BootTime) -> Option<Self> {
        let entered = lock(guests).enter(who, now);
        entered.then(|| Self {
            guests: Arc::clone(guests),
            who,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.guests).leave(self.who);
    }
}

impl Guests {
    fn enter(&mut self, who: Who, now: BootTime) -> bool {
        let Who::User(uid) = who else {
            let room = self.operators_inside < OF_ALL;
            self.operators_inside += u32::from(room);
            return room;
        };
        if self.users.len() >= REMEMBERED {
            self.users.retain(|_, guest| guest.inside > 0);
        }
        let guest = self.users.entry(uid).or_insert(Guest {
            inside: 0,
            visits: RATE,
            filled: now,
        });
        let earned = now.since(guest.filled).as_secs_f64() * RATE;
        guest.visits = (guest.visits + earned).min(RATE);
        guest.filled = now;
        let room = guest.visits >= 1.0 && guest.inside < OF_ONE && self.users_inside < OF_ALL;
        if room {
            guest.visits -= 1.0;
            guest.inside += 1;
            self.users_inside += 1;
        }
        room
    }

    fn leave(&mut self, who: Who) {
        let Who::User(uid) = who else {
            self.operators_inside = self.operators_inside.saturating_sub(1);
            return;
        };
        self.users_inside = self.users_inside.saturating_sub(1);
        if let Some(guest) = self.users.get_mut(&uid) {
            guest.inside = guest.inside.saturating_sub(1);
        }
    }
}

fn lock(guests: &Mutex<Guests>) -> MutexGuard<'_, Guests> {
    guests.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
