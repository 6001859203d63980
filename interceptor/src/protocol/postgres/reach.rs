//! The dial step: a session's connection upstream, one that waits or one that is logged in now.
//!
//! Everything that may say no has said yes before this: it decides nothing, and what it is told of a
//! login that failed reaches the audit, not the agent.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::inject::warm::{Key, Supply, Warm};
use super::inject::{self, Injector, Login, Upstream};
use super::terminate::{Replication, Setting, Startup};
use crate::clock::{self, BootTime};
use crate::config::{self, Host, Postgres, Protocol, Target, UpstreamTls};
use crate::policy::Refusal;
use crate::secrets::Secret;
use crate::session::ahead::Ahead;
use crate::session::opening::Opening;
use crate::telemetry::metrics::LoginHow;
use crate::tls;

/// How long roots read from disk are used: a rotated file counts after this.
const ROOTS_FOR: Duration = Duration::from_secs(60);

/// What the dials of every PostgreSQL target share.
#[derive(Debug)]
pub(super) struct Reach {
    injector: Arc<Injector>,
    warm: Arc<Warm<Spare>>,
    roots: Mutex<HashMap<String, Roots>>,
}

#[derive(Debug)]
struct Roots {
    made_from: UpstreamTls,
    /// Digest of the client certificate's key.
    key: [u8; 32],
    made: BootTime,
    tls: Arc<tls::Upstream>,
}

/// A connection for one session, logged in.
pub(super) struct Reached {
    pub(super) upstream: Upstream,
    /// How TLS is spoken to it, for cancels.
    pub(super) tls: Arc<tls::Upstream>,
    again: Option<(Key, Spare)>,
}

/// Why there is none: what the agent may read, and what only the audit may know.
pub(super) type No = (Refusal, Option<String>);

impl Reach {
    pub(super) fn new() -> Result<Self, inject::Error> {
        Ok(Self {
            injector: Arc::new(Injector::new()?),
            warm: Arc::default(),
            roots: Mutex::default(),
        })
    }

    /// Gives up what stands on a configuration that a reload has replaced.
    pub(super) fn forget(&self) {
        self.warm.forget();
        self.injector.forget();
    }

    /// Keeps nothing any more.
    pub(super) fn close(&self) {
        self.warm.close();
    }

    /// A connection for a session that was authorized.
    pub(super) async fn open(
        &self,
        opening: &Opening,
        startup: &Startup,
        settings: &Postgres,
    ) -> Result<Reached, No> {
        // What streams a server's changes is asked for once, not again and again.
        let ahead = match startup.replication {
            None => opening.ahead().map_err(plain)?,
            Some(_) => None,
        };
        let password = match &settings.password {
            Some(source) => Some(opening.secret(source).await.map_err(plain)?),
            None => None,
        };
        let who = opening.who();
        let target = Arc::clone(&who.target);
        let key = match &target.tls.key {
            Some(source) => Some(opening.secret(source).await.map_err(plain)?),
            None => None,
        };
        let plan = Plan {
            tls: self
                .tls(&target.name, &target.tls, key.as_ref())
                .map_err(|error| {
                    (
                        Refusal::upstream("TLS to this target is not set up right"),
                        Some(error.to_string()),
                    )
                })?,
            places: Arc::new([(who.host.clone(), who.flow.destination.0)]),
            database: startup.database.clone(),
            settings: startup.settings.clone(),
            minor: startup.upstream_minor(),
            replication: startup.replication,
            target,
        };
        let credential = self.injector.credential(password.as_ref());
        let key = plan.key(credential).map_err(failed)?;
        let again = ahead.map(|ahead| {
            let spare = Spare {
                ahead,
                injector: Arc::clone(&self.injector),
                plan: plan.clone(),
                credential,
            };
            (key, spare)
        });
        let waiting = match &again {
            Some((key, spare)) if spare.is_current() => {
                self.warm.take(key, settings.warm.age).await
            }
            _ => None,
        };
        let (upstream, how) = match waiting {
            Some(upstream) => (upstream, LoginHow::Warm),
            None => {
                let upstream = self.log_in(opening, &plan, password.as_ref()).await?;
                (upstream, LoginHow::Fresh)
            }
        };
        opening.logged_in(how);
        Ok(Reached {
            upstream,
            tls: plan.tls,
            again,
        })
    }

    /// Keeps a connection for the next session that asks for the same: this one has what it asked for.
    pub(super) fn again(&self, reached: &mut Reached) {
        if let Some((key, spare)) = reached.again.take() {
            self.warm.ask(&key, spare);
        }
    }

    /// Logs in now. Where the server has no room, what waits there makes some.
    async fn log_in(
        &self,
        opening: &Opening,
        plan: &Plan,
        password: Option<&Secret>,
    ) -> Result<Upstream, No> {
        match self.attempt(opening, plan, password).await {
            Err(Failed::Login(error))
                if error.is_full() && self.warm.make_room(&plan.target.name).await =>
            {
                let again = self.attempt(opening, plan, password).await;
                again.map_err(No::from)
            }
            ended => ended.map_err(No::from),
        }
    }

    async fn attempt(
        &self,
        opening: &Opening,
        plan: &Plan,
        password: Option<&Secret>,
    ) -> Result<Upstream, Failed> {
        let (host, address) = plan.first()?;
        let socket = opening.dial(*address).await.map_err(Failed::Refused)?;
        let login = self.injector.login(socket, plan.login(host, password));
        match timeout(plan.target.timeouts.dial, login).await {
            Ok(ended) => ended.map_err(Failed::Login),
            Err(_elapsed) => Err(Failed::Refused(Refusal::upstream(
                "the server did not answer the login in time",
            ))),
        }
    }

    /// How a target is verified, and what we show it: made anew after a while and at each change. A
    /// certificate whose key is not the one beside it is one that is being rotated: the one before
    /// stays in use.
    fn tls(
        &self,
        target: &str,
        wanted: &UpstreamTls,
        key: Option<&Secret>,
    ) -> Result<Arc<tls::Upstream>, tls::Error> {
        let now = clock::boot();
        let key_digest = self.injector.credential(key);
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = roots.get(target).filter(|known| known.made_from == *wanted);
        if let Some(known) = known
            && known.key == key_digest
            && now.since(known.made) < ROOTS_FOR
        {
            return Ok(Arc::clone(&known.tls));
        }
        let tls = match (tls::Upstream::new(wanted, key), known) {
            // What waits was verified with the same.
            (Ok(tls), Some(known)) if known.key == key_digest && known.tls.is_same(&tls) => {
                Arc::clone(&known.tls)
            }
            (Err(error @ tls::Error::Identity { .. }), Some(known)) => {
                tracing::warn!(%error, target, "the client certificate of before is still used");
                return Ok(Arc::clone(&known.tls));
            }
            (made, _) => Arc::new(made?),
        };
        let made = Roots {
            made_from: wanted.clone(),
            key: key_digest,
            made: now,
            tls: Arc::clone(&tls),
        };
        roots.insert(target.to_owned(), made);
        Ok(tls)
    }
}

/// Why a login did not come about.
enum Failed {
    Refused(Refusal),
    Login(inject::Error),
}

impl From<Failed> for No {
    fn from(failure: Failed) -> Self {
        match failure {
            Failed::Refused(refusal) => plain(refusal),
            Failed::Login(error) => failed(error),
        }
    }
}

fn plain(refusal: Refusal) -> No {
    (refusal, None)
}

fn failed(error: inject::Error) -> No {
    (error.refusal(), Some(error.to_string()))
}

/// All of a login but the socket and the credential.
#[derive(Clone, Debug)]
struct Plan {
    target: Arc<Target>,
    tls: Arc<tls::Upstream>,
    places: Arc<[(Host, SocketAddr)]>,
    database: String,
    settings: Vec<Setting>,
    minor: u16,
    replication: Option<Replication>,
}

impl Plan {
    fn login<'a>(&'a self, host: &'a Host, password: Option<&'a Secret>) -> Login<'a> {
        let Protocol::Postgres(postgres) = &self.target.protocol;
        Login {
            target: &self.target.name,
            host,
            tls: &self.tls,
            postgres,
            password,
            database: &self.database,
            settings: &self.settings,
            minor: self.minor,
            replication: self.replication,
        }
    }

    fn first(&self) -> Result<&(Host, SocketAddr), Failed> {
        let nowhere = || Failed::Refused(Refusal::upstream("this target has no address"));
        self.places.first().ok_or_else(nowhere)
    }

    fn key(&self, credential: [u8; 32]) -> Result<Key, inject::Error> {
        let startup = match self.places.first() {
            Some((host, _)) => inject::startup(&self.login(host, None))?.to_vec(),
            None => Vec::new(),
        };
        Ok(Key {
            target: Arc::clone(&self.target),
            tls: Arc::clone(&self.tls),
            places: Arc::clone(&self.places),
            credential,
            startup: startup.into(),
        })
    }
}

/// Logs in for the next session of a key.
#[derive(Debug)]
struct Spare {
    ahead: Ahead,
    injector: Arc<Injector>,
    plan: Plan,
    credential: [u8; 32],
}

impl Supply for Spare {
    fn target(&self) -> &str {
        &self.plan.target.name
    }

    fn warm(&self) -> config::Warm {
        let Protocol::Postgres(postgres) = &self.plan.target.protocol;
        postgres.warm
    }

    fn is_current(&self) -> bool {
        self.ahead.is_current()
    }

    async fn log_in(&self) -> Result<Option<Upstream>, inject::Error> {
        let Protocol::Postgres(postgres) = &self.plan.target.protocol;
        let password = match &postgres.password {
            Some(source) => match self.ahead.secret(source).await {
                Some(password) => Some(password),
                None => return Ok(None),
            },
            None => None,
        };
        // A credential that was rotated meanwhile is another key's.
        if self.injector.credential(password.as_ref()) != self.credential {
            return Ok(None);
        }
        let Ok((host, address)) = self.plan.first() else {
            return Ok(None);
        };
        let login = async {
            let socket = self.ahead.dial(*address).await;
            let socket: TcpStream = socket.map_err(inject::Error::dial)?;
            let login = self.plan.login(host, password.as_ref());
            self.injector.login_ahead(socket, login).await
        };
        let ended = timeout(self.plan.target.timeouts.dial, login).await;
        let late = |_elapsed| inject::Error::dial(io::ErrorKind::TimedOut.into());
        let upstream = ended.map_err(late)??;
        self.ahead.logged_in(LoginHow::Ahead);
        Ok(Some(upstream))
    }
}
