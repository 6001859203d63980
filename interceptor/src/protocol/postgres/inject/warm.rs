//! Connections that are logged in and that no session has ever used: a session that finds one is spared
//! the login.
//!
//! A key holds all that makes a login what it is. Connections are kept only for keys that a session
//! asked for a moment ago, a few for each target, for a short while, and each is handed out once. One
//! that the server has closed, or on which it said more than notices and settings, is never handed out.
//! Who may use one is judged before this is looked at, as for any other login.

mod rows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::rows::{Idle, Limits, Rows};
use super::{Error, Upstream};
use crate::clock::{self, BootTime};
use crate::config;
use crate::protocol::postgres::wire::Header;
use crate::protocol::postgres::wire::error::NOTICE;
use crate::protocol::postgres::wire::frontend::{TERMINATE, make_bare};
use crate::protocol::postgres::wire::startup::{PARAMETER_STATUS, body_max};
use crate::tls::{self, Pulse, Stream};

pub use self::rows::Key;

/// How often what waits is looked at: for age, and for servers that have closed.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a target is left alone that has no room for what waits.
const PAUSE: Duration = Duration::from_secs(60);
/// How long bytes that have come may take to be read: under TLS they may be half a record.
const READING: Duration = Duration::from_millis(50);
/// How long a server may take to close after it was told the end.
const FAREWELL: Duration = Duration::from_secs(1);
/// More than this no server says to a client that asks for nothing.
const UNREAD_MAX: usize = 64 * 1024;
const READ: usize = 4 * 1024;

/// Logs in for a key, with nobody waiting.
pub trait Supply: Send + Sync + 'static {
    /// The target's name.
    fn target(&self) -> &str;

    /// How many may wait at the target, and how long.
    fn warm(&self) -> config::Warm;

    /// Whether the configuration in force still asks for this.
    fn is_current(&self) -> bool;

    /// Logs in; `None` where that fails, or would come to another key.
    fn log_in(&self) -> impl Future<Output = Result<Option<Upstream>, Error>> + Send;
}

/// The connections that wait. One for the daemon.
#[derive(Debug)]
pub struct Warm<S> {
    limits: Limits,
    state: Mutex<State<S>>,
}

#[derive(Debug)]
struct State<S> {
    rows: Rows<S>,
    /// Targets that have no room, or where what waits was in the way, and since when.
    paused: HashMap<String, BootTime>,
    /// Ends the logins that are under way.
    filling: CancellationToken,
    sweeping: bool,
    closed: bool,
}

impl<S> State<S> {
    fn is_paused(&self, target: &str) -> bool {
        let since = self.paused.get(target);
        since.is_some_and(|since| clock::boot().since(*since) < PAUSE)
    }
}

impl<S: Supply> Default for Warm<S> {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl<S: Supply> Warm<S> {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Mutex::new(State {
                rows: Rows::default(),
                paused: HashMap::new(),
                filling: CancellationToken::new(),
                sweeping: false,
                closed: false,
            }),
        }
    }

    /// A connection for `key`, where one waits that lives. It is the caller's alone.
    ///
    /// Cancelled, a connection that was being looked at is closed.
    pub async fn take(&self, key: &Key, age: Duration) -> Option<Upstream> {
        loop {
            let (found, stale) = self.state().rows.take(key, clock::boot(), age);
            for upstream in stale {
                part(upstream);
            }
            if let Some(upstream) = alive(found?).await {
                return Some(upstream);
            }
        }
    }

    /// Keeps connections for `key` from now on, for a while: a session has just used it.
    pub fn ask(self: &Arc<Self>, key: &Key, supply: S) {
        if supply.warm().connections == 0 || !supply.is_current() {
            return;
        }
        let mut state = self.state();
        if state.closed {
            return;
        }
        let dropped = state.rows.ask(key, supply, clock::boot(), self.limits);
        self.fill(&mut state);
        drop(state);
        dropped.into_iter().for_each(part);
    }

    /// Gives up all that waits at a target that has no room for more connections, or where they are in
    /// the way, and leaves it alone for a while. Whether that made room there.
    pub async fn make_room(&self, target: &str) -> bool {
        let given_up = {
            let mut state = self.state();
            state.paused.insert(target.to_owned(), clock::boot());
            state.rows.drain(|key| key.target() == target)
        };
        let room = !given_up.is_empty();
        let parting: Vec<_> = given_up
            .into_iter()
            .map(|upstream| tokio::spawn(farewell(upstream)))
            .collect();
        for parting in parting {
            // A server's process closes as the last thing that it does.
            drop(parting.await);
        }
        room
    }

    /// Gives up everything: a reload has replaced what it stood on.
    pub fn forget(&self) {
        let given_up = {
            let mut state = self.state();
            state.filling.cancel();
            state.filling = CancellationToken::new();
            state.paused.clear();
            state.rows.clear()
        };
        given_up.into_iter().for_each(part);
    }

    /// Gives up everything and keeps nothing any more.
    pub fn close(&self) {
        self.state().closed = true;
        self.forget();
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.state().rows.waiting()
    }

    /// Begins the logins that are due.
    fn fill(self: &Arc<Self>, state: &mut State<S>) {
        let now = clock::boot();
        state.paused.retain(|_, said| now.since(*said) < PAUSE);
        let State {
            rows,
            paused,
            filling,
            ..
        } = state;
        let due = rows.due(now, self.limits, |target| !paused.contains_key(target));
        for (key, supply) in due {
            let (own, stop) = (Arc::clone(self), filling.clone());
            tokio::spawn(async move {
                tokio::select! {
                    made = supply.log_in() => own.filled(&key, &*supply, made),
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    fn filled(self: &Arc<Self>, key: &Key, supply: &S, made: Result<Option<Upstream>, Error>) {
        let mut state = self.state();
        state.rows.filled(key);
        let upstream = made.unwrap_or_else(|error| {
            let target = supply.target();
            tracing::warn!(%error, target, "cannot log in ahead of sessions");
            if error.is_full() {
                state.paused.insert(target.to_owned(), clock::boot());
            }
            None
        });
        let wanted = !state.closed && !state.is_paused(supply.target()) && supply.is_current();
        let given_up = match upstream {
            Some(upstream) if wanted => {
                let since = clock::boot();
                let back = state.rows.put(key, Idle { upstream, since });
                back.into_iter().collect()
            }
            // What cannot be had is not tried again before a session asks again.
            upstream => {
                let mut given_up = state.rows.give_up(key);
                given_up.extend(upstream);
                given_up
            }
        };
        if !state.sweeping && state.rows.waiting() > 0 {
            state.sweeping = true;
            tokio::spawn(sweep(Arc::clone(self)));
        }
        drop(state);
        given_up.into_iter().for_each(part);
    }

    /// What is old goes, what the server closed goes, what is still of interest is made anew. Whether
    /// anything is left to look after.
    async fn look_after(self: &Arc<Self>) -> bool {
        let (old, suspicious) = {
            let mut state = self.state();
            let old = state.rows.expire(clock::boot(), self.limits);
            let pick = |upstream: &Upstream| tls::pulse(upstream.stream.socket()) != Pulse::Quiet;
            (old, state.rows.pick(pick))
        };
        old.into_iter().for_each(part);
        for (key, Idle { upstream, since }) in suspicious {
            if let Some(upstream) = alive(upstream).await {
                let back = self.state().rows.put(&key, Idle { upstream, since });
                back.into_iter().for_each(part);
            }
        }
        let mut state = self.state();
        if !state.closed {
            self.fill(&mut state);
        }
        state.sweeping = !state.rows.is_empty();
        state.sweeping
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs while anything waits or is asked for.
async fn sweep<S: Supply>(warm: Arc<Warm<S>>) {
    loop {
        sleep(SWEEP_EVERY).await;
        if !warm.look_after().await {
            return;
        }
    }
}

/// The connection, with all that the server has said meanwhile unread by anybody; `None` where the
/// server has closed it, or said anything but notices and settings.
async fn alive(mut upstream: Upstream) -> Option<Upstream> {
    loop {
        match tls::pulse(upstream.stream.socket()) {
            Pulse::Gone => return None,
            Pulse::Quiet => return is_harmless(&upstream.unread).then_some(upstream),
            Pulse::Unread => {}
        }
        if upstream.unread.len() > UNREAD_MAX {
            return None;
        }
        upstream.unread.reserve(READ);
        let Upstream { stream, unread, .. } = &mut upstream;
        match timeout(READING, stream.read_buf(unread)).await {
            Ok(Ok(read)) if read > 0 => {}
            _ => return None,
        }
    }
}

/// Whether these are whole notices and settings, which the session relays to its client as they are.
fn is_harmless(mut unread: &[u8]) -> bool {
    while !unread.is_empty() {
        let Ok(Some(header)) = Header::read(unread) else {
            return false;
        };
        let bounded = body_max(header.tag).is_some_and(|most| header.body <= most);
        let harmless = matches!(header.tag, NOTICE | PARAMETER_STATUS) && bounded;
        match unread.get(header.whole()..) {
            Some(rest) if harmless => unread = rest,
            _ => return false,
        }
    }
    true
}

/// Says the end to the server, with nobody waiting for it.
fn part(upstream: Upstream) {
    // Outside of a runtime the connection is simply closed.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(farewell(upstream));
    }
}

/// Ends a session that was none, as a client does, and waits until the server has closed.
async fn farewell(upstream: Upstream) {
    let said = async |mut stream: Stream| {
        stream.write_all(&make_bare(TERMINATE)).await?;
        stream.shutdown().await?;
        let mut rest = BytesMut::with_capacity(READ);
        while stream.read_buf(&mut rest).await? > 0 {
            rest.clear();
        }
        std::io::Result::Ok(())
    };
    // A server that does not listen loses the connection all the same.
    drop(timeout(FAREWELL, said(upstream.stream)).await);
}

#[cfg(test)]
mod tests;
