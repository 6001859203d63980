//! What a server opens towards the client: only what was asked for on its connection, and was permitted.

use std::sync::{Arc, Mutex, PoisonError};

use russh::client::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::sync::mpsc;

use super::backlog::Backlog;

/// Channels of one connection that wait for the client.
const WAITING: usize = 16;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol::ssh) enum Place {
    /// At an address and a port; 0 for any.
    Tcp(String, u32),
    /// At a socket.
    Socket(String),
}

/// What is opened.
#[derive(Clone, Debug)]
pub(in crate::protocol::ssh) enum What {
    /// A way to the client's ssh-agent.
    Agent,
    /// A way to the client's screen, and from where.
    Screen((String, u32)),
    /// A connection that came to where the server listens, and from where.
    Connection(Place, (String, u32)),
}

/// A channel that the server wants to open.
pub(in crate::protocol::ssh) struct Arrival {
    pub(in crate::protocol::ssh) what: What,
    pub(in crate::protocol::ssh) channel: Channel<Msg>,
    pub(in crate::protocol::ssh) reply: ChannelOpenHandle,
    pub(in crate::protocol::ssh) backlog: Arc<Backlog>,
}

/// What is expected of one connection.
#[derive(Clone, Debug, Default)]
pub(in crate::protocol::ssh) struct Expected {
    pub(in crate::protocol::ssh) agent: bool,
    pub(in crate::protocol::ssh) screen: bool,
    pub(in crate::protocol::ssh) listens: Option<Place>,
}

impl Expected {
    /// What that is, where it is expected: a server does not say otherwise where it listens than it was told.
    fn expects(&self, what: What) -> Option<What> {
        match (what, &self.listens) {
            (What::Agent, _) => self.agent.then_some(What::Agent),
            (What::Screen(from), _) => self.screen.then_some(What::Screen(from)),
            (What::Connection(Place::Tcp(_, to), from), Some(Place::Tcp(address, port)))
                if *port == 0 || *port == to =>
            {
                let place = Place::Tcp(address.clone(), to);
                Some(What::Connection(place, from))
            }
            (What::Connection(Place::Socket(to), from), Some(Place::Socket(path)))
                if *path == to =>
            {
                Some(What::Connection(Place::Socket(to), from))
            }
            (What::Connection(..), _) => None,
        }
    }
}

/// Where a server knocks.
pub(super) struct Door {
    expected: Arc<Mutex<Expected>>,
    arrivals: mpsc::Sender<Arrival>,
    backlog: Arc<Backlog>,
}

/// What has come through it.
pub(in crate::protocol::ssh) struct Arrivals {
    expected: Arc<Mutex<Expected>>,
    arrivals: mpsc::Receiver<Arrival>,
}

/// A door, and what comes through it: nothing as long as nothing is expected.
pub(super) fn door(backlog: &Arc<Backlog>) -> (Door, Arrivals) {
    let expected = Arc::<Mutex<Expected>>::default();
    let (knock, arrivals) = mpsc::channel(WAITING);
    let door = Door {
        expected: Arc::clone(&expected),
        arrivals: knock,
        backlog: Arc::clone(backlog),
    };
    (door, Arrivals { expected, arrivals })
}

impl Door {
    pub(super) async fn knock(&self, what: What, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        let expected = lock(&self.expected).expects(what);
        let Some(what) = expected else {
            return no(reply).await;
        };
        self.backlog.opens(channel.id());
        let arrival = Arrival {
            what,
            channel,
            reply,
            backlog: Arc::clone(&self.backlog),
        };
        if let Err(
            mpsc::error::TrySendError::Full(arrival) | mpsc::error::TrySendError::Closed(arrival),
        ) = self.arrivals.try_send(arrival)
        {
            no(arrival.reply).await;
        }
    }
}

/// Refuses a channel.
pub(in crate::protocol::ssh) async fn no(reply: ChannelOpenHandle) {
    let why = ChannelOpenFailure::AdministrativelyProhibited;
    reply.reject(why).await;
}

impl Arrivals {
    /// Says what is expected from now on.
    pub(in crate::protocol::ssh) fn expect(&self, what: Expected) {
        *lock(&self.expected) = what;
    }

    /// What comes next; never, where the connection is gone.
    pub(in crate::protocol::ssh) async fn next(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            None => std::future::pending().await,
        }
    }

    /// Nothing is expected, and what waits is refused.
    pub(super) fn shut(&mut self) {
        self.expect(Expected::default());
        // A reply that is let go says no.
        while let Ok(arrival) = self.arrivals.try_recv() {
            drop(arrival);
        }
    }
}

fn lock(expected: &Mutex<Expected>) -> std::sync::MutexGuard<'_, Expected> {
    expected.lock().unwrap_or_else(PoisonError::into_inner)
}
