//! Cancel requests: they come on connections of their own, and name a session by a key.
//!
//! Each session gets a key of our own making; the upstream's never reaches an agent. A key works
//! only from the scope that it was given to, as long as its session lives. A cancel is passed on
//! over a new connection, as well protected as the session's own, and never answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::{constant_time, rand};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::inject::{self, secure};
use super::wire::startup::{BackendKey, KEY_BYTES, Packet};
use crate::config::Host;
use crate::socket::Place;
use crate::tls;

/// More sessions than this a host does not have; each takes one entry.
const SESSIONS_MAX: usize = 65_536;
/// Length of a secret in protocol 3.2, as PostgreSQL 18 makes them (`MAX_CANCEL_KEY_LENGTH`).
const SECRET: usize = 32;
/// How often a process id or a secret is drawn that is taken already.
const DRAWS: usize = 64;
/// How many sessions may have one process id. Those of several servers meet often, since in containers they
/// begin at 1; a cancel looks at all that share one.
const SHARED_MAX: usize = 256;

/// Why there is no key, or a cancel was not passed on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many sessions.
    #[error("make a cancel key: {SESSIONS_MAX} sessions have one already")]
    Full,
    /// No randomness.
    #[error("make a cancel key: the system gives no random bytes")]
    Random,
    /// No session of this scope has this key. Which part was wrong is not told.
    #[error("cancel: no session of this scope has this key")]
    Unknown,
    /// The upstream gave no key for the session.
    #[error("cancel: the upstream gave no cancel key")]
    NotOffered,
    /// The upstream could not be reached.
    #[error("cancel: {0}")]
    Dial(Box<dyn std::error::Error + Send + Sync>),
    /// The connection was not protected as the session's is.
    #[error("cancel: {0}")]
    Secure(#[from] inject::Error),
    /// The request could not be sent.
    #[error("cancel: write upstream: {0}")]
    Write(std::io::Error),
}

/// Where a session's cancels go.
#[derive(Clone, Debug)]
pub struct Route<W> {
    /// From where, and by which way, the session's server is dialled: as the session's own client, whoever cancels.
    pub way: W,
    /// The upstream's address, or that of the proxy before it.
    pub address: Place,
    /// The host that was dialled, for the certificate's name.
    pub host: Host,
    /// How TLS is spoken to it.
    pub tls: Arc<tls::Upstream>,
    /// The upstream's own key, where it gave one.
    pub key: Option<BackendKey>,
}

impl<W> Route<W> {
    /// Cancels what the session runs, over a new connection, and waits until the upstream has taken
    /// the request, which it shows by closing. The caller bounds time.
    ///
    /// # Errors
    /// [`Error`] where the upstream gave no key, cannot be reached, or is not who it was.
    pub async fn cancel<D, F, E>(route: &Arc<Self>, dial: D) -> Result<(), Error>
    where
        D: FnOnce(Arc<Self>) -> F,
        F: Future<Output = Result<TcpStream, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let key = route.key.clone().ok_or(Error::NotOffered)?;
        let socket = dial(Arc::clone(route))
            .await
            .map_err(|source| Error::Dial(source.into()))?;
        let mut stream = secure(socket, &route.tls, &route.host).await?;
        let mut packet = BytesMut::new();
        Packet::Cancel(key).write(&mut packet);
        stream.write_all(&packet).await.map_err(Error::Write)?;
        stream.flush().await.map_err(Error::Write)?;
        // One read: the end, an error, or a byte that no server sends; each ends the wait.
        let _end = stream.read_u8().await;
        Ok(())
    }
}

/// The keys of all living sessions. One for the daemon.
#[derive(Debug)]
pub struct Registry<W> {
    sessions: Mutex<Sessions<W>>,
}

/// Sessions by the process id that their clients know.
#[derive(Debug)]
struct Sessions<W> {
    by_pid: HashMap<i32, Vec<Entry<W>>>,
    count: usize,
}

#[derive(Debug)]
struct Entry<W> {
    scope: u64,
    interrupted: Arc<Notify>,
    secret: Zeroizing<Vec<u8>>,
    route: Arc<Route<W>>,
}

/// A session's key; works until it is dropped.
#[derive(Debug)]
#[must_use = "the key ends when this is dropped"]
pub struct Minted<W> {
    registry: Arc<Registry<W>>,
    route: Arc<Route<W>>,
    interrupted: Arc<Notify>,
    key: BackendKey,
}

impl<W> Minted<W> {
    /// Where the session's cancels go, for a cancel of the daemon's own.
    #[must_use]
    pub fn route(&self) -> &Arc<Route<W>> {
        &self.route
    }

    /// Notified when the session's client asks to cancel, for what waits here and not upstream.
    #[must_use]
    pub fn interrupted(&self) -> &Arc<Notify> {
        &self.interrupted
    }

    /// The key, for the session's client.
    #[must_use]
    pub fn key(&self) -> &BackendKey {
        &self.key
    }
}

impl<W> Drop for Minted<W> {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.key);
    }
}

impl<W> Default for Registry<W> {
    fn default() -> Self {
        Self {
            sessions: Mutex::new(Sessions {
                by_pid: HashMap::new(),
                count: 0,
            }),
        }
    }
}

impl<W> Registry<W> {
    /// Makes a key for a session of `scope` (the scope root's cgroup id) that speaks protocol
    /// 3.`minor` with its client. The process id is the upstream's own, so that it is what
    /// `pg_backend_pid()` and notifications say; sessions at several servers may share one.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Random`].
    pub fn mint(
        self: &Arc<Self>,
        scope: u64,
        minor: u16,
        route: Route<W>,
    ) -> Result<Minted<W>, Error> {
        let length = if minor < 2 {
            *KEY_BYTES.start()
        } else {
            SECRET
        };
        let mut sessions = self.lock();
        if sessions.count >= SESSIONS_MAX {
            return Err(Error::Full);
        }
        let own = route.key.as_ref().map(|key| key.pid);
        let pid = match own.filter(|pid| *pid > 0 && sessions.of(*pid).len() < SHARED_MAX) {
            Some(pid) => pid,
            None => sessions.free_pid()?,
        };
        let secret = sessions.free_secret(pid, length)?;
        let route = Arc::new(route);
        let interrupted = Arc::new(Notify::new());
        let entry = Entry {
            scope,
            interrupted: Arc::clone(&interrupted),
            secret: secret.clone(),
            route: Arc::clone(&route),
        };
        sessions.by_pid.entry(pid).or_default().push(entry);
        sessions.count = sessions.count.saturating_add(1);
        drop(sessions);
        Ok(Minted {
            registry: Arc::clone(self),
            route,
            interrupted,
            key: BackendKey { pid, secret },
        })
    }

    /// Where a cancel request from `scope` goes; what waits here is given up.
    ///
    /// # Errors
    /// [`Error::Unknown`] where the key is wrong or another scope's; the two cannot be told apart.
    pub fn route(&self, request: &BackendKey, scope: u64) -> Result<Arc<Route<W>>, Error> {
        let sessions = self.lock();
        let found = sessions.find(request).filter(|entry| entry.scope == scope);
        let entry = found.ok_or(Error::Unknown)?;
        entry.interrupted.notify_waiters();
        Ok(Arc::clone(&entry.route))
    }

    /// Passes a client's cancel request on, as [`Route::cancel`] does; the route, for the audit.
    /// Nothing is ever sent to the client; its connection is closed after this, so that it waits as
    /// long as it would directly. The caller bounds time.
    ///
    /// # Errors
    /// [`Error`], for the audit.
    pub async fn cancel<D, F, E>(
        &self,
        request: &BackendKey,
        scope: u64,
        dial: D,
    ) -> Result<Arc<Route<W>>, Error>
    where
        D: FnOnce(Arc<Route<W>>) -> F,
        F: Future<Output = Result<TcpStream, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let route = self.route(request, scope)?;
        Route::cancel(&route, dial).await?;
        Ok(route)
    }

    fn lock(&self) -> MutexGuard<'_, Sessions<W>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> Sessions<W> {
    fn of(&self, pid: i32) -> &[Entry<W>] {
        self.by_pid.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// The session with this key. How long it takes says how many share the process id, and nothing else.
    fn find(&self, key: &BackendKey) -> Option<&Entry<W>> {
        let right = |entry: &&Entry<W>| {
            constant_time::verify_slices_are_equal(&entry.secret, &key.secret).is_ok()
        };
        let all = self.of(key.pid).iter();
        // All are looked at, also behind the right one.
        all.fold(None, |found, entry| Some(entry).filter(right).or(found))
    }

    fn remove(&mut self, key: &BackendKey) {
        let Some(sharing) = self.by_pid.get_mut(&key.pid) else {
            return;
        };
        let before = sharing.len();
        sharing.retain(|entry| entry.secret != key.secret);
        let gone = before.saturating_sub(sharing.len());
        if sharing.is_empty() {
            self.by_pid.remove(&key.pid);
        }
        self.count = self.count.saturating_sub(gone);
    }

    /// A process id that no session has.
    fn free_pid(&self) -> Result<i32, Error> {
        for _ in 0..DRAWS {
            let mut bytes = [0; 4];
            rand::fill(&mut bytes).map_err(|_unspecified| Error::Random)?;
            let pid = i32::from_be_bytes(bytes) & i32::MAX;
            if pid != 0 && self.of(pid).is_empty() {
                return Ok(pid);
            }
        }
        Err(Error::Full)
    }

    /// A secret that no session with this process id has.
    fn free_secret(&self, pid: i32, length: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        for _ in 0..DRAWS {
            let mut secret = Zeroizing::new(vec![0; length]);
            rand::fill(&mut secret).map_err(|_unspecified| Error::Random)?;
            if self.of(pid).iter().all(|entry| entry.secret != secret) {
                return Ok(secret);
            }
        }
        Err(Error::Full)
    }
}

#[cfg(test)]
mod tests;
