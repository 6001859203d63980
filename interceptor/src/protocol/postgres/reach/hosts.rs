//! Which of a target's servers a login goes to: in turn, each for a bounded time, those last that could
//! not be reached a moment ago; and which version of the protocol each is asked for.
//!
//! As in libpq, a server that refuses the login ends it: only one that cannot be reached, is not ready, or
//! is not of the kind that is asked for leads to the next.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Failed, Plan};
use crate::clock::{self, BootTime};
use crate::config::{Host, Order, SessionAttrs};
use crate::policy::Refusal;
use crate::protocol::postgres::inject::{self, Injector, Login, Upstream};
use crate::secrets::Secret;
use crate::session::beside::Beside;
use crate::session::opening::Opening;
use crate::session::opening::ahead::Ahead;
use crate::socket::Place;

/// How long a server that could not be reached is tried last.
const DEAD_FOR: Duration = Duration::from_secs(10);
/// How long one that did not take a newer version is asked for none.
const OLD_FOR: Duration = Duration::from_secs(600);
/// More servers than this no configuration has.
const SERVERS_MAX: usize = 4_096;

/// Whoever can dial a target's servers.
pub(super) trait Dialler: Sync {
    fn dial(&self, to: Place) -> impl Future<Output = Result<TcpStream, Failed>> + Send;
}

impl Dialler for Opening {
    async fn dial(&self, to: Place) -> Result<TcpStream, Failed> {
        Self::dial(self, to).await.map_err(Failed::Refused)
    }
}

impl Dialler for Ahead {
    async fn dial(&self, to: Place) -> Result<TcpStream, Failed> {
        let dialled = Self::dial(self, to).await;
        dialled.map_err(|source| Failed::Login(inject::Error::dial(source)))
    }
}

impl Dialler for Beside {
    async fn dial(&self, to: Place) -> Result<TcpStream, Failed> {
        let dialled = Self::dial(self, to).await;
        dialled.map_err(|source| Failed::Login(inject::Error::dial(source)))
    }
}

/// What logins have found out about servers.
#[derive(Debug)]
pub(super) struct Seen {
    /// They could not be reached.
    dead: Marked,
    /// They speak no newer version than 3.0, and cannot say so.
    old: Marked,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            dead: Marked::during(DEAD_FOR),
            old: Marked::during(OLD_FOR),
        }
    }
}

/// Servers of which something was found out, and when.
#[derive(Debug)]
struct Marked {
    since: Mutex<HashMap<Place, BootTime>>,
    during: Duration,
}

impl Marked {
    fn during(during: Duration) -> Self {
        Self {
            since: Mutex::default(),
            during,
        }
    }

    fn has(&self, address: Place, now: BootTime) -> bool {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since
            .get(&address)
            .is_some_and(|since| now.since(*since) < self.during)
    }

    fn note(&self, address: Place, marked: bool) {
        let now = clock::boot();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|_, since| now.since(*since) < self.during);
        if !marked {
            since.remove(&address);
        } else if since.len() < SERVERS_MAX {
            since.insert(address, now);
        }
    }
}

/// How the servers are gone through.
struct Turn<'a, D> {
    plan: &'a Plan,
    injector: &'a Injector,
    seen: &'a Seen,
    dialler: &'a D,
    password: Option<&'a Secret>,
    ahead: bool,
}

impl Plan {
    /// Logs in to the first server that will do.
    pub(super) async fn log_in(
        &self,
        injector: &Injector,
        seen: &Seen,
        dialler: &impl Dialler,
        password: Option<&Secret>,
        ahead: bool,
    ) -> Result<Upstream, Failed> {
        // At a proxy's address is whoever it is asked for.
        let own = self.apart.as_ref().map(|_apart| Seen::default());
        let seen = own.as_ref().unwrap_or(seen);
        let turn = Turn {
            plan: self,
            injector,
            seen,
            dialler,
            password,
            ahead,
        };
        match &*self.places {
            [] => Err(Failed::Refused(Refusal::upstream(
                "this target has no address",
            ))),
            // Time to connect and time to log in, as the target says.
            [place] => {
                let ended = turn.at(place, self.attrs()).await;
                // Its name may lead to more of them in a moment.
                let dead = ended.as_ref().is_err_and(|failure| failure.means().1);
                seen.dead.note(place.1, dead);
                ended
            }
            places => {
                let all = turn.through(places);
                let ended = timeout(self.target.timeouts.dial, all).await;
                ended.unwrap_or_else(|_elapsed| Err(late()))
            }
        }
    }

    /// The order of this time: those last that could not be reached a moment ago.
    fn order<'a>(&self, places: &'a [(Host, Place)], seen: &Seen) -> Vec<&'a (Host, Place)> {
        let now = clock::boot();
        let mut order: Vec<_> = places.iter().collect();
        if self.target.dial.order == Order::Random {
            let first = clock::boot().0 / 1_000;
            let first = usize::try_from(first).unwrap_or(0) % order.len().max(1);
            order.rotate_left(first);
        }
        order.sort_by_key(|(_, address)| seen.dead.has(*address, now));
        order
    }
}

impl<D: Dialler> Turn<'_, D> {
    async fn through(&self, places: &[(Host, Place)]) -> Result<Upstream, Failed> {
        let wanted = self.plan.attrs();
        // As in libpq: all are asked whether they are a standby before any other is taken.
        let passes: &[_] = match wanted {
            SessionAttrs::PreferStandby => &[SessionAttrs::Standby, SessionAttrs::Any],
            _ => &[wanted],
        };
        let order = self.plan.order(places, self.seen);
        let mut last = late();
        for attrs in passes {
            for place in &order {
                let (host, address) = *place;
                let tried = timeout(self.plan.target.dial.timeout, self.at(place, *attrs)).await;
                let failure = match tried.unwrap_or_else(|_elapsed| Err(late())) {
                    Ok(upstream) => {
                        self.seen.dead.note(*address, false);
                        return Ok(upstream);
                    }
                    Err(failure) => failure,
                };
                let (next, dead) = failure.means();
                if !next {
                    return Err(failure);
                }
                self.seen.dead.note(*address, dead);
                tracing::warn!(?host, %address, target = %self.plan.target.name, cause = %failure,
                    "a server of a target will not do");
                last = failure;
            }
        }
        Err(last)
    }

    async fn at(&self, place: &(Host, Place), attrs: SessionAttrs) -> Result<Upstream, Failed> {
        let (_, address) = place;
        let minor = match self.seen.old.has(*address, clock::boot()) {
            true => 0,
            false => self.plan.minor,
        };
        let newer = match self.with(place, (attrs, minor)).await {
            Err(Failed::Login(error @ inject::Error::Newer(_))) => error,
            ended => return ended,
        };
        let ended = self.with(place, (attrs, 0)).await;
        if ended.is_ok() {
            tracing::info!(%address, target = %self.plan.target.name, cause = %newer,
                "a server of a target speaks protocol 3.0 alone");
            self.seen.old.note(*address, true);
        }
        ended
    }

    async fn with(
        &self,
        (host, address): &(Host, Place),
        (attrs, minor): (SessionAttrs, u16),
    ) -> Result<Upstream, Failed> {
        let socket = self.dialler.dial(*address).await?;
        let attrs = match attrs {
            // Alone, a standby is only preferred.
            SessionAttrs::PreferStandby => SessionAttrs::Any,
            attrs => attrs,
        };
        let login = Login {
            minor,
            ..self.plan.login(host, self.password, attrs)
        };
        let login = async {
            match self.ahead {
                false => self.injector.login(socket, login).await,
                true => self.injector.login_ahead(socket, login).await,
            }
        };
        match timeout(self.plan.target.timeouts.dial, login).await {
            Ok(ended) => ended.map_err(Failed::Login),
            Err(_elapsed) => Err(late()),
        }
    }
}

fn late() -> Failed {
    Failed::Refused(Refusal::upstream(
        "the server did not answer the login in time",
    ))
}

impl Failed {
    /// Whether the server will not do, and another one may.
    pub(super) fn is_of_the_host(&self) -> bool {
        self.means().0
    }

    /// Whether the next server is tried, and whether this one is tried last for a while.
    fn means(&self) -> (bool, bool) {
        match self {
            // It could not be dialled, or did not answer in time.
            Self::Refused(_) => (true, true),
            Self::Login(error @ inject::Error::Attrs { .. }) => (error.is_of_the_host(), false),
            Self::Login(error) => (error.is_of_the_host(), error.is_of_the_host()),
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => to.write_str(&refusal.message),
            Self::Login(error) => error.fmt(to),
        }
    }
}

#[cfg(test)]
mod tests;
