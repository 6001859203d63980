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

/// Visitors at once of one user or one scope, and of all users but root, and of all scopes, together.
const OF_ONE: u32 = 32;
const OF_ALL: u32 = 256;
/// Visits a second of one of them; after a pause so many at once.
const RATE: f64 = 50.0;
/// How long a visit may last; a reload of many policies takes a few seconds.
const LONGEST: Duration = Duration::from_secs(60);
/// How long the door stays shut after an error such as a full table of descriptors.
const REST: Duration = Duration::from_millis(100);
/// Users and scopes that are remembered though none of theirs is inside.
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
        let who = match (self.scope(credentials), credentials.uid()) {
            (Some(Some(scope)), _) => Who::Scope(scope),
            (Some(None), 0) => Who::Operator,
            // Nobody knows where it is: it has none of the operator's places.
            (Some(None) | None, uid) => Who::User(uid),
        };
        Place::take(&self.guests, who, clock::boot())
    }

    /// The scope that a visitor is in, if any; `None` where that cannot be told. A user's agents do not share its
    /// places, and a root inside of one has none of the operator's.
    fn scope(&self, credentials: UCred) -> Option<Option<u64>> {
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok())?;
        let cgroup = self.services.capture.hierarchy().of(Some(pid)).ok()?;
        Some(self.services.scopes.known_around(&cgroup))
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
    /// Outside every scope.
    User(u32),
    /// Inside this one.
    Scope(u64),
}

/// Who is inside.
#[derive(Debug, Default)]
struct Guests {
    known: HashMap<Who, Guest>,
    users_inside: u32,
    scopes_inside: u32,
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
        let inside = match who {
            Who::Operator => {
                let room = self.operators_inside < OF_ALL;
                self.operators_inside += u32::from(room);
                return room;
            }
            Who::User(_) => &mut self.users_inside,
            Who::Scope(_) => &mut self.scopes_inside,
        };
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, guest| guest.inside > 0);
        }
        let guest = self.known.entry(who).or_insert(Guest {
            inside: 0,
            visits: RATE,
            filled: now,
        });
        let earned = now.since(guest.filled).as_secs_f64() * RATE;
        guest.visits = (guest.visits + earned).min(RATE);
        guest.filled = now;
        let room = guest.visits >= 1.0 && guest.inside < OF_ONE && *inside < OF_ALL;
        if room {
            guest.visits -= 1.0;
            guest.inside += 1;
            *inside += 1;
        }
        room
    }

    fn leave(&mut self, who: Who) {
        let inside = match who {
            Who::Operator => &mut self.operators_inside,
            Who::User(_) => &mut self.users_inside,
            Who::Scope(_) => &mut self.scopes_inside,
        };
        *inside = inside.saturating_sub(1);
        if let Some(guest) = self.known.get_mut(&who) {
            guest.inside = guest.inside.saturating_sub(1);
        }
    }
}

fn lock(guests: &Mutex<Guests>) -> MutexGuard<'_, Guests> {
    guests.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
