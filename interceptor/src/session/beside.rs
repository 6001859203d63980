//! Beside: what an engine needs to log in once more for a session that goes on, in the way in which the
//! session itself was reached.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::Session;
use super::opening::Who;
use super::services::Services;
use crate::config::{Client, SecretSource};
use crate::secrets::Secret;
use crate::socket::Place;

/// A session's way to its target. Does not keep the session open.
#[derive(Clone, Debug)]
pub struct Beside {
    who: Who,
    services: Arc<Services>,
}

impl Beside {
    /// As this session was reached.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self {
            who: session.who.clone(),
            services: Arc::clone(&session.services),
        }
    }

    /// As a session is about to be.
    pub(super) fn before(who: &Who, services: &Arc<Services>) -> Self {
        Self {
            who: who.clone(),
            services: Arc::clone(services),
        }
    }

    /// Fetches a secret; `None` where it cannot be had, which is logged.
    pub async fn secret(&self, source: &SecretSource) -> Option<Secret> {
        let fetched = self.services.secrets.fetch(source).await;
        fetched
            .inspect_err(|error| {
                tracing::error!(%error, target = %self.who.target.name, "cannot fetch a secret");
            })
            .ok()
    }

    /// A token of an authorization server; another one than the one that was refused. `None` where it cannot be had,
    /// which is logged.
    pub async fn token(&self, client: &Client, refused: Option<&Secret>) -> Option<Secret> {
        let Services {
            clients, secrets, ..
        } = &*self.services;
        let token = clients.token(secrets, client, refused).await;
        token
            .inspect_err(|error| {
                tracing::error!(%error, target = %self.who.target.name, "cannot have a token");
            })
            .ok()
    }

    /// The host and port of a request that a proxy is to make itself.
    #[must_use]
    pub fn made_by_proxy(&self) -> Option<String> {
        self.who.made_by_proxy()
    }

    /// Connects to an address of the target, from the namespace that the target says.
    ///
    /// # Errors
    /// What the kernel said, or that the namespace must not be used.
    pub async fn dial(&self, to: impl Into<Place>) -> io::Result<TcpStream> {
        self.who.dial(&self.services, to.into()).await
    }
}
