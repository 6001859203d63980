//! The engines, one per protocol, and the one `match` over them.

pub mod http;
pub mod kubernetes;
pub mod postgres;
pub mod proxy;
pub mod ssh;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::{Protocol, Target};
use crate::policy::Refusal;
use crate::session::opening::Opening;
use crate::socket;
use crate::tls::{Authority, Dialled};

/// Refused clients that are told why at one time; each may take as long as a startup. The others are
/// reset: a flood of refusals must cost no more than a flood of resets.
const TOLD_AT_ONCE: usize = 64;

/// Every engine, with what its connections share.
#[derive(Debug)]
pub struct Engines {
    http: http::Engine,
    postgres: postgres::Engine,
    telling: Semaphore,
}

impl Engines {
    /// Builds each once.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new() -> Result<Self, postgres::inject::Error> {
        Ok(Self {
            http: http::Engine::default(),
            postgres: postgres::Engine::new()?,
            telling: Semaphore::new(TOLD_AT_ONCE),
        })
    }

    /// Forgets what was kept of the configuration before a reload.
    pub fn forget(&self) {
        self.http.forget();
        self.postgres.forget();
    }

    /// Keeps nothing any more: the daemon stops.
    pub fn close(&self) {
        self.http.close();
        self.postgres.close();
    }

    /// Serves one admitted connection with the engine that its target names, to its close.
    pub async fn serve(&self, opening: Opening, client: TcpStream) {
        let target = Arc::clone(&opening.who().target);
        match &target.protocol {
            Protocol::Proxy(settings) => {
                let inside = Box::pin(proxy::serve(opening, client, settings)).await;
                if let Some(inside) = inside {
                    self.inside(inside).await;
                }
            }
            _ => self.relay(opening, client).await,
        }
    }

    /// Serves what a client has asked a proxy for.
    async fn inside(&self, inside: proxy::Inside) {
        let proxy::Inside {
            opening,
            client,
            first,
        } = inside;
        let target = Arc::clone(&opening.who().target);
        match (first, target.http()) {
            (Some(first), Some(http)) => {
                Box::pin(self.http.serve_one(opening, (first, client), http)).await;
            }
            _ => self.relay(opening, client).await,
        }
    }

    /// Serves what is no proxy.
    async fn relay(&self, opening: Opening, client: TcpStream) {
        // Each on the heap: a session of one is not as large as the largest.
        let target = Arc::clone(&opening.who().target);
        match &target.protocol {
            Protocol::Postgres(settings) => {
                Box::pin(self.postgres.serve(opening, client, settings)).await;
            }
            Protocol::Http(settings) => Box::pin(self.http.serve(opening, client, settings)).await,
            Protocol::Kubernetes(settings) => {
                Box::pin(self.http.serve(opening, client, &settings.http)).await;
            }
            Protocol::Ssh(settings) => Box::pin(ssh::serve(opening, client, settings)).await,
            Protocol::Proxy(_) => opening.gave_up("a proxy is asked for behind a proxy"),
        }
    }

    /// Tells a client that was not admitted why, in its protocol; resets it where that cannot be.
    pub async fn refuse(
        &self,
        authority: &Authority,
        to: Option<(&Target, IpAddr)>,
        client: TcpStream,
        refusal: &Refusal,
    ) {
        let (Some((target, ip)), Ok(_place)) = (to, self.telling.try_acquire()) else {
            return drop(socket::reset_on_close(&client));
        };
        let patience = target.timeouts.startup;
        let dialled = Dialled::at(target, ip);
        let told = async {
            match &target.protocol {
                Protocol::Postgres(_) => postgres::tell(client, authority, &dialled, refusal).await,
                Protocol::Http(_) | Protocol::Kubernetes(_) => {
                    let to_cluster = target.kubernetes().is_some();
                    http::refuse(client, authority, &dialled, (refusal, to_cluster)).await;
                }
                Protocol::Proxy(_) => proxy::tell(client, refusal).await,
                Protocol::Ssh(settings) => {
                    Box::pin(ssh::tell(client, authority, target, settings, refusal)).await;
                }
            }
        };
        if timeout(patience, told).await.is_err() {
            tracing::debug!("a refused client did not wait to be told");
        }
    }
}
