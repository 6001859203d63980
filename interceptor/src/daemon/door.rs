//! Where connections come in: the listeners of each network namespace, and their accept loops.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::capture::{Listeners, NameServer, NetnsCookie};
use crate::connection;
use crate::names;
use crate::protocol::Engines;
use crate::session::services::Services;
use crate::socket;

/// How often namespaces are looked at that nobody may live in any more.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How long an accept loop rests after an error such as a full table of descriptors.
pub(super) const REST: Duration = Duration::from_millis(100);

/// What each connection needs, and what ends it.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) services: Arc<Services>,
    engines: Arc<Engines>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// What ends the listeners of a namespace that nobody lives in any more.
    namespaces: Arc<Mutex<HashMap<NetnsCookie, Namespace>>>,
}

/// The listeners of one namespace.
#[derive(Debug)]
struct Namespace {
    /// Ends them.
    stop: CancellationToken,
    /// For which scope they were made; none for the daemon's own.
    scope: Option<u64>,
}

impl Door {
    /// A door without listeners; `stop` closes it, `tasks` counts what came through.
    pub(super) fn new(
        services: &Arc<Services>,
        engines: &Arc<Engines>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        Self {
            services: Arc::clone(services),
            engines: Arc::clone(engines),
            stop: stop.clone(),
            tasks: tasks.clone(),
            namespaces: Arc::default(),
        }
    }

    /// Takes connections on a pair of listeners from now on; made for `scope`, or the daemon's own.
    pub(super) fn open(&self, listeners: Listeners, scope: Option<u64>) -> anyhow::Result<()> {
        let stop = self.stop.child_token();
        let pair = std::iter::once(listeners.v4).chain(listeners.v6);
        for listener in pair {
            let listener = TcpListener::from_std(listener).context("cannot listen")?;
            self.tasks
                .spawn(self.clone().accept(listener, stop.clone()));
        }
        for NameServer { slot: _, socket } in listeners.names {
            let socket = UdpSocket::from_std(socket).context("cannot listen for names")?;
            self.tasks.spawn(names::by_datagram(
                Arc::clone(&self.services),
                (listeners.netns, socket),
                self.tasks.clone(),
                stop.clone(),
            ));
        }
        self.namespaces()
            .insert(listeners.netns, Namespace { stop, scope });
        Ok(())
    }

    /// Takes connections that were dialled by a path from now on.
    pub(super) fn open_to_paths(&self, listener: UnixListener) {
        self.tasks.spawn(self.clone().accept_paths(listener));
    }

    /// Ends the listeners of namespaces that no process of a scope lives in: they would keep them alive.
    pub(super) async fn sweep(self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                () = self.stop.cancelled() => return,
            }
            let mut unread = HashSet::new();
            let idle = self.services.capture.idle_namespaces(|scope, error| {
                tracing::warn!(%error, cgroup = %scope.path, "cannot tell in which namespaces a scope lives");
                unread.insert(scope.id);
            });
            let idle = idle.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot look for idle namespaces");
                Vec::new()
            });
            for netns in idle {
                if self.serves(netns, &unread) {
                    continue;
                }
                if let Err(error) = self.services.capture.retire(netns) {
                    tracing::warn!(%error, "cannot retire the listeners of an idle namespace");
                    continue;
                }
                let retired = self.namespaces().remove(&netns);
                if let Some(namespace) = retired {
                    namespace.stop.cancel();
                }
            }
        }
    }

    /// Whether a namespace was made for one of these scopes.
    fn serves(&self, netns: NetnsCookie, scopes: &HashSet<u64>) -> bool {
        let namespaces = self.namespaces();
        let scope = namespaces.get(&netns).and_then(|namespace| namespace.scope);
        scope.is_some_and(|scope| scopes.contains(&scope))
    }

    /// How many namespaces have listeners for this scope.
    pub(super) fn served(&self, scope: u64) -> usize {
        let namespaces = self.namespaces();
        let of_scope = |namespace: &&Namespace| namespace.scope == Some(scope);
        namespaces.values().filter(of_scope).count()
    }

    /// Its rows are whole after each statement: a panic elsewhere leaves nothing torn.
    fn namespaces(&self) -> MutexGuard<'_, HashMap<NetnsCookie, Namespace>> {
        let namespaces = self.namespaces.lock();
        namespaces.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections until the stop; each is a task of its own.
    async fn accept(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            self.take(accepted.map(|(stream, _)| stream)).await;
        }
    }

    /// The same for UNIX sockets.
    async fn accept_paths(self, listener: UnixListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            let stream = accepted.and_then(|(stream, _)| stream.into_std());
            self.take(stream.and_then(socket::adopt)).await;
        }
    }

    /// Goes the path of one connection, beside the others.
    async fn take(&self, accepted: std::io::Result<TcpStream>) {
        match accepted {
            Ok(stream) => {
                let (services, engines) = (Arc::clone(&self.services), Arc::clone(&self.engines));
                self.tasks.spawn(connection::run(services, engines, stream));
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(REST).await;
            }
        }
    }
}
