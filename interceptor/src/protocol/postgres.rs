//! PostgreSQL, frontend/backend protocol 3.0 and 3.2: one connection from its first byte to its last.
//!
//! `terminate` the client's encryption and startup, `authorize` the database, `dial` and log in with
//! the target's credential, `relay` the requests. Nothing that the client presents is forwarded.

pub mod cancel;
pub mod facts;
pub mod inject;
pub mod refuse;
pub mod session;
pub mod terminate;
pub mod transcript;
mod version;
pub mod wire;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::facts::Names;
use self::inject::{Injector, Login, Upstream};
use self::session::{Start, Why};
use self::terminate::{Greeting, Startup, Wish};
use self::wire::backend::Status;
use self::wire::startup::BackendKey;
use crate::clock::{self, BootTime};
use crate::config::{Postgres, UpstreamTls};
use crate::policy::Refusal;
use crate::session::Session;
use crate::session::opening::{Opened, Opening};
use crate::tls::{self, Authority, Stream};

/// How long roots read from disk are used: a rotated file counts after this.
const ROOTS_FOR: Duration = Duration::from_secs(60);

/// What the connections of every PostgreSQL target share. One for the daemon.
#[derive(Debug)]
pub struct Engine {
    injector: Injector,
    cancels: Arc<cancel::Registry>,
    roots: Mutex<HashMap<String, Roots>>,
}

#[derive(Debug)]
struct Roots {
    made_from: UpstreamTls,
    made: BootTime,
    tls: Arc<tls::Upstream>,
}

/// A session whose both sides are logged in.
struct Joined {
    session: Arc<Session>,
    upstream: Upstream,
    minted: cancel::Minted,
}

impl Engine {
    /// Begins with nothing remembered.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new() -> Result<Self, inject::Error> {
        Ok(Self {
            injector: Injector::new()?,
            cancels: Arc::default(),
            roots: Mutex::default(),
        })
    }

    /// Serves one admitted connection to its close.
    pub async fn serve(&self, opening: Opening, client: TcpStream, settings: &Postgres) {
        let patience = opening.who().target.timeouts.startup;
        let dialled = opening.who().flow.destination.0.ip();
        let terminated = terminate::terminate(client, opening.authority(), dialled);
        // Each step is boxed: what one needs is not kept for as long as the session lasts.
        let (mut client, wish) = match Box::pin(timeout(patience, terminated)).await {
            Ok(Ok(terminated)) => terminated,
            Ok(Err(error)) => return opening.gave_up(&error.to_string()),
            Err(_elapsed) => {
                return opening.gave_up("the client did not finish its startup in time");
            }
        };
        match wish {
            Wish::Cancel(key) => Box::pin(self.cancel(opening, &key)).await,
            Wish::Session(startup) => {
                match Box::pin(self.join(opening, &startup, settings)).await {
                    Ok(joined) => Box::pin(self.relay(joined, client, &startup, settings)).await,
                    Err(refusal) => {
                        drop(terminate::refuse(&mut client, &refuse::at_startup(&refusal)).await)
                    }
                }
            }
        }
    }

    /// Judges, dials, logs in, opens the session. A refusal is in the audit when this returns it.
    async fn join(
        &self,
        mut opening: Opening,
        startup: &Startup,
        settings: &Postgres,
    ) -> Result<Joined, Refusal> {
        let ready = match self.log_in(&mut opening, startup, settings).await {
            Ok(ready) => ready,
            Err((refusal, cause)) => {
                opening.refuse(&refusal, cause);
                return Err(refusal);
            }
        };
        let (upstream, minted) = ready;
        let opened = Opened {
            upstream: upstream.address,
            database: &startup.database,
            user: &settings.user,
            asked_user: Some(&startup.user),
        };
        let session = opening.open(opened).await?;
        Ok(Joined {
            session,
            upstream,
            minted,
        })
    }

    async fn log_in(
        &self,
        opening: &mut Opening,
        startup: &Startup,
        settings: &Postgres,
    ) -> Result<(Upstream, cancel::Minted), (Refusal, Option<String>)> {
        let plain = |refusal: Refusal| (refusal, None);
        offered(startup, settings).map_err(plain)?;
        opening
            .authorize(&startup.database, &startup.asks())
            .map_err(plain)?;
        let password = match &settings.password {
            Some(source) => Some(opening.secret(source).await.map_err(plain)?),
            None => None,
        };
        let target = Arc::clone(&opening.who().target);
        let tls = self.tls(&target.name, &target.tls).map_err(|error| {
            (
                Refusal::upstream("the server's certificates cannot be verified here"),
                Some(error.to_string()),
            )
        })?;
        let socket = opening.dial().await.map_err(plain)?;
        let host = opening.who().host.clone();
        let login = Login {
            target: &target.name,
            host: &host,
            tls: &tls,
            postgres: settings,
            password: password.as_ref(),
            database: &startup.database,
            settings: &startup.settings,
            minor: startup.upstream_minor(),
            replication: startup.replication,
        };
        let upstream = match timeout(target.timeouts.dial, self.injector.login(socket, login)).await
        {
            Ok(Ok(upstream)) => upstream,
            Ok(Err(error)) => return Err((error.refusal(), Some(error.to_string()))),
            Err(_elapsed) => {
                return Err(plain(Refusal::upstream(
                    "the server did not answer the login in time",
                )));
            }
        };
        let route = cancel::Route {
            target: Arc::from(target.name.as_str()),
            address: upstream.address,
            host,
            tls,
            key: upstream.key.clone(),
        };
        let minted = self
            .cancels
            .mint(opening.who().flow.scope, upstream.minor, route);
        let minted = minted.map_err(|error| {
            (
                Refusal::internal("no cancel key can be made"),
                Some(error.to_string()),
            )
        })?;
        Ok((upstream, minted))
    }

    /// Greets the client and relays to the end of either side.
    async fn relay(
        &self,
        joined: Joined,
        mut client: Stream,
        startup: &Startup,
        settings: &Postgres,
    ) {
        let Joined {
            session: used,
            upstream,
            minted,
        } = joined;
        let negotiate = startup.negotiate(upstream.minor);
        let greeting = Greeting {
            negotiate: negotiate.as_ref(),
            notices: &upstream.notices,
            parameters: &upstream.parameters,
            key: minted.key(),
            status: upstream.status,
        };
        if terminate::greet(&mut client, greeting).await.is_err() {
            return used.closes("client");
        }
        let start = Start {
            names: names(startup, settings, &upstream),
            read: match startup.replication {
                Some(_) => facts::replication::read,
                None => facts::read,
            },
            parameters: upstream.parameters,
            status: Status::Idle,
            from_client: BytesMut::new(),
            from_upstream: upstream.unread,
            cancel: cancel_running(&used, minted.route()),
            patience: (&used.who().target.timeouts).into(),
        };
        let end = session::relay(Arc::clone(&used), client, upstream.stream, start).await;
        if let Why::UpstreamViolation(what) = &end.why {
            tracing::error!(session = %used.id(), %what, "the server broke its protocol; the session was ended");
        }
        used.closes(end.why.word());
    }

    /// Passes a cancel on; its client is never answered, whatever comes of it.
    async fn cancel(&self, opening: Opening, key: &BackendKey) {
        let patience = opening.who().target.timeouts.dial;
        let scope = opening.who().flow.scope;
        let dial = |route: Arc<cancel::Route>| opening.dial_at(route.address);
        let passed = timeout(patience, self.cancels.cancel(key, scope, dial)).await;
        let result = match passed {
            Ok(Ok(_route)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("cancel: the upstream did not take it in time".to_owned()),
        };
        opening.cancelled(result);
    }

    /// The roots and names to verify a target with, made anew after a while and at each change.
    fn tls(&self, target: &str, wanted: &UpstreamTls) -> Result<Arc<tls::Upstream>, tls::Error> {
        let now = clock::boot();
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = roots.get(target)
            && known.made_from == *wanted
            && now.since(known.made) < ROOTS_FOR
        {
            return Ok(Arc::clone(&known.tls));
        }
        let tls = Arc::new(tls::Upstream::new(wanted)?);
        let made = Roots {
            made_from: wanted.clone(),
            made: now,
            tls: Arc::clone(&tls),
        };
        roots.insert(target.to_owned(), made);
        Ok(tls)
    }
}

/// Tells a client that is not admitted why, once it has said what it wants. Nothing is dialled for
/// it. The caller bounds time.
pub async fn tell(client: TcpStream, authority: &Authority, dialled: IpAddr, refusal: &Refusal) {
    let told = async {
        match terminate::terminate(client, authority, dialled).await? {
            (_client, Wish::Cancel(_)) => Ok(()),
            (mut client, Wish::Session(_)) => {
                terminate::refuse(&mut client, &refuse::at_startup(refusal)).await
            }
        }
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "a refused client was gone before it was told");
    }
}

/// Cancels whatever a session runs upstream, where it is ended in the middle of it or runs for too long.
fn cancel_running(used: &Arc<Session>, route: &Arc<cancel::Route>) -> session::Cancel {
    let (used, route) = (Arc::clone(used), Arc::clone(route));
    Box::new(move || {
        let (used, route) = (Arc::clone(&used), Arc::clone(&route));
        Box::pin(async move {
            let dial = async |route: Arc<cancel::Route>| used.dial_at(route.address).await;
            let cancelled = cancel::Route::cancel(&route, dial).await;
            used.cancelled(cancelled.map_err(|error| error.to_string()));
        })
    })
}

/// The name asked for is taken if it is listed, refused otherwise.
fn offered(startup: &Startup, settings: &Postgres) -> Result<(), Refusal> {
    if settings.databases.contains(&startup.database) {
        return Ok(());
    }
    let message = format!(
        "database \"{}\" is not offered by this target",
        startup.database
    );
    Err(Refusal::not_offered(
        &message,
        &format!("offered here: {}", settings.databases.join(", ")),
    ))
}

/// What texts of this session are read under.
fn names(startup: &Startup, settings: &Postgres, upstream: &Upstream) -> Names {
    let theirs = startup
        .settings
        .iter()
        .any(|setting| setting.name.eq_ignore_ascii_case("search_path"));
    let said = |wanted: &str| {
        let mut parameters = upstream.parameters.iter();
        parameters.find_map(|(name, value)| (name == wanted).then_some(value.as_str()))
    };
    Names {
        // A path that the client brought is permitted, but what it means is not known here.
        search_path: (!theirs).then(|| settings.search_path.clone()),
        catalog: Arc::clone(&upstream.catalog.relations),
        functions: Arc::clone(&upstream.catalog.functions),
        utf8: said("server_encoding") == Some("UTF8"),
        discard_keeps_role: said("server_version").is_some_and(version::discard_keeps_role),
        ..Names::default()
    }
}
