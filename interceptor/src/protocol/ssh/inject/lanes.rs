//! Connections to the server: one for each channel that is open at the same time, so that a channel
//! that its client does not read holds up no other. One that a channel has left is used again.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{Handle, Msg};
use russh::{Channel, ChannelWriteHalf};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::DropGuard;

use super::arrivals::Arrivals;
use super::backlog::{Backlog, Messages};
use super::{Cause, Guard, No, Plan, Upstream};
use crate::config::Host;
use crate::policy::Refusal;
use crate::session::Session;
use crate::session::opening::Opening;

/// Connections of one client that log in at the same time: servers let few stand at their door (`MaxStartups` of
/// OpenSSH begins to close some at ten).
const AT_ONCE: usize = 6;
/// How long after it was let nowhere near a server a login is tried again.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_600),
];

/// A connection, and no channel of another on it.
pub(in crate::protocol::ssh) struct Lane {
    pub(in crate::protocol::ssh) handle: Handle<Guard>,
    pub(in crate::protocol::ssh) arrivals: Arrivals,
    backlog: Arc<Backlog>,
    _ends: DropGuard,
}

impl Lane {
    fn over(upstream: Upstream) -> Self {
        let Upstream {
            handle,
            arrivals,
            backlog,
            ends,
            ..
        } = upstream;
        Self {
            handle,
            arrivals,
            backlog,
            _ends: ends,
        }
    }

    /// Both sides of a channel on it.
    pub(in crate::protocol::ssh) fn halves(&self, channel: Channel<Msg>) -> Halves {
        halves(channel, &self.backlog)
    }

    /// Whoever comes through it, and the signs of life that its server is given meanwhile.
    pub(in crate::protocol::ssh) fn parts(
        &mut self,
    ) -> (&mut Arrivals, impl Future<Output = Infallible>) {
        let Self {
            handle,
            arrivals,
            backlog,
            ..
        } = self;
        (arrivals, backlog.lives(handle))
    }
}

/// What a channel says, and how it is answered.
pub(in crate::protocol::ssh) type Halves = (Messages, ChannelWriteHalf<Msg>);

/// Both sides of a channel.
pub(in crate::protocol::ssh) fn halves(channel: Channel<Msg>, backlog: &Arc<Backlog>) -> Halves {
    let id = channel.id();
    let (read, write) = channel.split();
    (Messages::new(read, id, backlog), write)
}

/// The connections of one client.
pub(in crate::protocol::ssh) struct Lanes {
    plan: Arc<Plan>,
    host: Host,
    address: SocketAddr,
    free: Mutex<Vec<Lane>>,
    /// Who may log in now.
    turns: Semaphore,
}

/// Logs in at the first of a target's places that answers.
pub(in crate::protocol::ssh) async fn first(
    opening: &Opening,
    plan: Arc<Plan>,
) -> Result<Lanes, No> {
    let places = opening.addresses();
    let mut failed = None;
    for (host, address) in places.iter() {
        let patience = match places.len() {
            1 => opening.who().target.timeouts.dial,
            _ => opening.who().target.dial.timeout,
        };
        let logged_in = timeout(patience, plan.log_in_first(opening, host, *address));
        match logged_in.await {
            Ok(Ok(upstream)) => {
                return Ok(Lanes {
                    plan,
                    host: host.clone(),
                    address: upstream.address,
                    free: Mutex::new(vec![Lane::over(upstream)]),
                    turns: Semaphore::new(AT_ONCE),
                });
            }
            Ok(Err(no)) => failed = Some(no),
            Err(_elapsed) => failed = Some(too_late()),
        }
    }
    let none = || (Refusal::upstream("the target has no server"), None);
    Err(failed.unwrap_or_else(none))
}

fn too_late() -> No {
    (Refusal::upstream("the server did not answer in time"), None)
}

impl Lanes {
    /// Where the server is.
    pub(in crate::protocol::ssh) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection for one channel.
    pub(in crate::protocol::ssh) async fn lane(&self, session: &Session) -> Result<Lane, No> {
        loop {
            let free = self.free().pop();
            match free {
                Some(lane) if !lane.handle.is_closed() => return Ok(lane),
                Some(_) => {}
                None => break,
            }
        }
        // It is never closed.
        let _turn = self.turns.acquire().await;
        let patience = session.who().target.timeouts.dial;
        let logged_in = timeout(patience, self.log_in(session));
        let logged_in = logged_in.await;
        logged_in
            .unwrap_or_else(|_elapsed| Err(too_late()))
            .map(Lane::over)
    }

    /// Logs in once more, with what is the credential now. What did not last, or was changed, is fetched again; a
    /// server with too many at its door is asked again.
    async fn log_in(&self, session: &Session) -> Result<Upstream, No> {
        let login = &self.plan.login;
        let mut is_new = !login.lasts();
        if is_new {
            login.renew().await?;
        }
        let mut again = AGAIN.into_iter();
        loop {
            let (cause, no) = match self.attempt(session).await {
                Ok(upstream) => return Ok(upstream),
                Err(failed) => failed,
            };
            match cause {
                Cause::Credential if !is_new => {
                    is_new = true;
                    login.renew().await?;
                }
                Cause::Door => match again.next() {
                    Some(after) => sleep(after).await,
                    None => return Err(no),
                },
                Cause::Credential | Cause::Other => return Err(no),
            }
        }
    }

    async fn attempt(&self, session: &Session) -> Result<Upstream, (Cause, No)> {
        let stream = session.dial_at(self.address.into()).await;
        let stream = stream.map_err(|error| {
            let refusal = Refusal::upstream("the server cannot be reached");
            (Cause::Other, (refusal, Some(error.to_string())))
        })?;
        self.plan.log_in(stream, &self.host, self.address).await
    }

    /// Takes one back whose channel the server has closed.
    pub(in crate::protocol::ssh) fn give_back(&self, mut lane: Lane) {
        lane.arrivals.shut();
        self.free().push(lane);
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Lane>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
