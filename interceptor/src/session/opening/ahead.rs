//! Ahead: what an engine needs to log in to a target before a session asks for it, for nobody yet.
//!
//! It dials from the daemon's own namespace only, and is worth nothing once a reload has replaced the
//! target. Who may use what was logged in is judged when a session asks, never here.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::config::{SecretSource, Target};
use crate::secrets::Secret;
use crate::session::services::Services;
use crate::socket::{self, Place};
use crate::telemetry::metrics::LoginHow;

/// One target, as the daemon itself reaches it.
#[derive(Clone, Debug)]
pub struct Ahead {
    target: Arc<Target>,
    services: Arc<Services>,
}

impl Ahead {
    pub(super) fn new(target: &Arc<Target>, services: &Arc<Services>) -> Self {
        Self {
            target: Arc::clone(target),
            services: Arc::clone(services),
        }
    }

    /// Where to.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Whether the target is the one that the configuration in force has.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let config = self.services.config.load();
        let now = config.targets.get(&self.target.name);
        now.is_some_and(|now| Arc::ptr_eq(now, &self.target))
    }

    /// Fetches a secret; `None` where it cannot be had, which is logged.
    pub async fn secret(&self, source: &SecretSource) -> Option<Secret> {
        let fetched = self.services.secrets.fetch(source).await;
        fetched
            .inspect_err(|error| {
                tracing::error!(%error, target = %self.target.name, "cannot fetch a secret");
            })
            .ok()
    }

    /// Connects to an address of the target.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn dial(&self, to: Place) -> io::Result<TcpStream> {
        let patience = self.target.timeouts.dial;
        let dialled = match to {
            Place::Inet(to) => socket::dial(to, socket::From::Daemon, patience).await,
            Place::Unix(path) => socket::dial_path(path, patience).await,
        };
        dialled.map_err(io::Error::other)
    }

    /// Counts a login.
    pub fn logged_in(&self, how: LoginHow) {
        self.services.metrics.logged_in(&self.target.name, how);
    }
}
