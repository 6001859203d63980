//! PostgreSQL, frontend/backend protocol 3.0 and 3.2: one connection from its first byte to its last.
//!
//! `terminate` the client's encryption and startup, `authorize` the database, `dial` and log in with
//! the target's credential, `relay` the requests. Nothing that the client presents is forwarded.

pub mod cancel;
pub mod facts;
pub mod inject;
pub mod mask;
mod reach;
pub mod refuse;
pub mod session;
pub mod terminate;
pub mod touch;
pub mod transcript;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use self::facts::Names;
use self::inject::Upstream;
use self::mask::Watch;
use self::reach::{Reach, Reached};
use self::session::{Start, Unexpected, Why};
use self::terminate::{Challenge, Greeting, Prover, Startup, Terminated, Wish};
use self::wire::backend::Status;
use self::wire::startup::{BackendKey, MINOR_MAX};
use crate::config::{ClientAuth, Postgres};
use crate::masking::detect::Detectors;
use crate::policy::Refusal;
use crate::session::Session;
use crate::session::beside::Beside;
use crate::session::opening::{Opened, Opening, Who};
use crate::tls::{Authority, Dialled, Stream};

/// How long a cancel of the daemon's own may take to reach the server.
const REACHES: Duration = Duration::from_secs(5);

/// What the connections of every PostgreSQL target share. One for the daemon.
#[derive(Debug)]
pub struct Engine {
    reach: Reach,
    prover: Prover,
    cancels: Arc<cancel::Registry<Who>>,
}

/// Why a client left before it asked for anything that could be judged. It has been told.
enum Left {
    Startup(terminate::Error),
    Proof(String),
}

/// A client that has said what it wants.
struct Heard {
    client: Stream,
    wish: Wish,
    /// The minor version, where that was agreed with it before the upstream was spoken to.
    agreed: Option<u16>,
}

/// A session whose both sides are logged in.
struct Joined {
    session: Arc<Session>,
    reached: Reached,
    minted: cancel::Minted<Who>,
}

impl Engine {
    /// Begins with nothing remembered.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new() -> Result<Self, inject::Error> {
        Ok(Self {
            reach: Reach::new()?,
            prover: Prover::new()?,
            cancels: Arc::default(),
        })
    }

    /// Forgets what was kept of the configuration before a reload.
    pub fn forget(&self) {
        self.reach.forget();
    }

    /// Keeps nothing any more: the daemon stops.
    pub fn close(&self) {
        self.reach.close();
    }

    /// Serves one admitted connection to its close.
    pub async fn serve(&self, opening: Opening, client: TcpStream, settings: &Arc<Postgres>) {
        // Also for each of what is told at its end: a client that does not read holds nothing up.
        let patience = opening.who().target.timeouts.startup;
        let until = Instant::now() + patience;
        let terminated = timeout_at(until, self.terminate(&opening, client, settings));
        // Each step is boxed: what one needs is not kept for as long as the session lasts.
        let heard = match Box::pin(terminated).await {
            Ok(Ok(terminated)) => terminated,
            Ok(Err(Left::Startup(error))) => return opening.gave_up(&error.to_string()),
            Ok(Err(Left::Proof(cause))) => {
                return opening.refuse(&Refusal::unproved(), Some(cause));
            }
            Err(_elapsed) => {
                return opening.gave_up("the client did not finish its startup in time");
            }
        };
        let Heard {
            mut client,
            wish,
            agreed,
        } = heard;
        match wish {
            Wish::Cancel(key) => Box::pin(self.cancel(opening, &key)).await,
            Wish::Session(startup) => {
                let asked = (&startup, agreed);
                match Box::pin(self.join(opening, asked, settings)).await {
                    Ok(joined) => Box::pin(self.relay(joined, client, asked, settings)).await,
                    Err(refusal) => {
                        let refusal = refuse::at_startup(&refusal);
                        drop(timeout(patience, terminate::refuse(&mut client, &refusal)).await);
                    }
                }
            }
        }
    }

    /// Hears what the client wants, and has it prove what the target asks of its clients.
    async fn terminate(
        &self,
        opening: &Opening,
        client: TcpStream,
        settings: &Arc<Postgres>,
    ) -> Result<Heard, Left> {
        let who = opening.who();
        let dialled = who.dialled();
        let Terminated {
            mut client,
            wish,
            end_point,
        } = terminate::terminate(client, opening.authority(), &dialled)
            .await
            .map_err(Left::Startup)?;
        let mut agreed = None;
        if let (Wish::Session(startup), ClientAuth::Scram) = (&wish, settings.client_auth) {
            let untagged = || Left::Proof("the client's scope is not tagged any more".to_owned());
            let password = opening.client_password().ok_or_else(untagged)?;
            let negotiate = startup.negotiate(MINOR_MAX);
            let challenge = Challenge {
                user: &startup.user,
                password: &password,
                end_point: end_point.as_deref(),
                negotiate: negotiate.as_ref(),
            };
            let proved = self.prover.prove(&mut client, challenge).await;
            proved.map_err(|error| Left::Proof(error.to_string()))?;
            agreed = Some(startup.agreed());
        }
        if let Wish::Session(startup) = &wish
            && settings.ask_password
            && nobody_else_hears(&client, opening)
        {
            let negotiate = startup.negotiate(MINOR_MAX);
            let presented =
                terminate::present(&mut client, &startup.user, negotiate.as_ref()).await;
            let presented = presented.map_err(|error| Left::Proof(error.to_string()))?;
            let written = opening.presented(&startup.user, &presented);
            written.map_err(|refusal| Left::Proof(refusal.message))?;
            agreed = Some(startup.agreed());
        }
        Ok(Heard {
            client,
            wish,
            agreed,
        })
    }

    /// Judges, dials, logs in, opens the session. A refusal is in the audit when this returns it.
    async fn join(
        &self,
        mut opening: Opening,
        (startup, agreed): (&Startup, Option<u16>),
        settings: &Arc<Postgres>,
    ) -> Result<Joined, Refusal> {
        let ready = match self.log_in(&mut opening, (startup, agreed), settings).await {
            Ok(ready) => ready,
            Err((refusal, cause)) => {
                opening.refuse(&refusal, cause);
                return Err(refusal);
            }
        };
        let (reached, minted) = ready;
        let opened = Opened {
            upstream: reached.upstream.address,
            database: Some(&startup.database),
            user: &settings.user,
            asked_user: Some(&startup.user),
        };
        let session = opening.open(opened).await?;
        Ok(Joined {
            session,
            reached,
            minted,
        })
    }

    async fn log_in(
        &self,
        opening: &mut Opening,
        (startup, agreed): (&Startup, Option<u16>),
        settings: &Arc<Postgres>,
    ) -> Result<(Reached, cancel::Minted<Who>), (Refusal, Option<String>)> {
        let plain = |refusal: Refusal| (refusal, None);
        offered(startup, settings).map_err(plain)?;
        opening
            .authorize(Some(&startup.database), &startup.asks())
            .await
            .map_err(plain)?;
        let reached = self.reach.open(opening, startup, settings).await?;
        let upstream = &reached.upstream;
        let route = cancel::Route {
            way: opening.who().clone(),
            address: upstream.address,
            host: upstream.host.clone(),
            tls: Arc::clone(&reached.tls),
            key: upstream.key.clone(),
        };
        // The versions differ in nothing but the length of cancel keys, which are ours.
        let minor = agreed.unwrap_or(upstream.minor);
        let minted = self.cancels.mint(opening.who().flow.scope, minor, route);
        let minted = minted.map_err(|error| {
            (
                Refusal::internal("no cancel key can be made"),
                Some(error.to_string()),
            )
        })?;
        Ok((reached, minted))
    }

    /// Greets the client and relays to the end of either side.
    async fn relay(
        &self,
        joined: Joined,
        mut client: Stream,
        (startup, agreed): (&Startup, Option<u16>),
        settings: &Arc<Postgres>,
    ) {
        let Joined {
            session: used,
            mut reached,
            minted,
        } = joined;
        let upstream = &reached.upstream;
        let negotiate = match agreed {
            None => startup.negotiate(upstream.minor),
            // It was told before it was asked for its password.
            Some(_) => None,
        };
        let greeting = Greeting {
            negotiate: negotiate.as_ref(),
            notices: &upstream.notices,
            parameters: &upstream.parameters,
            key: minted.key(),
            status: upstream.status,
        };
        let patience = used.who().target.timeouts.startup;
        let greeted = timeout(patience, terminate::greet(&mut client, greeting)).await;
        if !matches!(greeted, Ok(Ok(()))) {
            return used.closes("client");
        }
        let look = startup
            .replication
            .is_none()
            .then(|| self.reach.looks(&reached, Beside::of(&used)));
        let known = reached.upstream.known.take();
        let again = known
            .is_some()
            .then(|| self.reach.reads_again(&reached, Beside::of(&used)));
        let known = known
            .zip(again)
            .map(|(known, again)| Arc::new(Watch::new(known, again)));
        // The client has all that it waits for.
        self.reach.again(&mut reached);
        let upstream = reached.upstream;
        let start = Start {
            names: names(brings_search_path(startup), settings, &upstream),
            read: match startup.replication {
                Some(_) => facts::replication::read,
                None => facts::read,
            },
            known,
            parameters: upstream.parameters,
            status: Status::Idle,
            from_client: BytesMut::new(),
            from_upstream: upstream.unread,
            cancel: cancel_running(&used, minted.route()),
            asked: startup
                .settings
                .iter()
                .map(terminate::Setting::said)
                .collect(),
            steered: reach::brought(startup).is_some(),
            interrupted: Arc::clone(minted.interrupted()),
            look,
            step_aside: self.reach.steps_aside(&used.who().target.name),
            patience: (&used.who().target.timeouts).into(),
            detectors: Detectors::new(&used.who().target.detect).map(Arc::new),
        };
        let end = session::relay(Arc::clone(&used), client, upstream.stream, start).await;
        broken(&used, &end.why);
        used.closes(end.why.word());
    }

    /// Passes a cancel on; its client is never answered, whatever comes of it.
    async fn cancel(&self, opening: Opening, key: &BackendKey) {
        let patience = opening.who().target.timeouts.dial;
        let scope = opening.who().flow.scope;
        // By the session's own way, whichever it came by itself: a proxy's login is for that proxy, and an address
        // of the client's network namespace is another server's in the daemon's.
        let opening_at = &opening;
        let dial = async move |route: Arc<cancel::Route<Who>>| {
            opening_at.dial_as(&route.way, route.address).await
        };
        let passed = timeout(patience, self.cancels.cancel(key, scope, dial)).await;
        opening.cancelled(passed_on(passed));
    }
}

/// Tells a client that is not admitted why, once it has said what it wants. Nothing is dialled for
/// it. The caller bounds time.
pub async fn tell(client: TcpStream, authority: &Authority, dialled: &Dialled, refusal: &Refusal) {
    let told = async {
        let mut terminated = terminate::terminate(client, authority, dialled).await?;
        match terminated.wish {
            Wish::Cancel(_) => Ok(()),
            Wish::Session(_) => {
                terminate::refuse(&mut terminated.client, &refuse::at_startup(refusal)).await
            }
        }
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "a refused client was gone before it was told");
    }
}

/// Whether a cancel was passed on, for the audit.
fn passed_on<T>(passed: Result<Result<T, cancel::Error>, Elapsed>) -> Result<(), String> {
    match passed {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err("cancel: the upstream did not take it in time".to_owned()),
    }
}

/// Cancels whatever a session runs upstream, where it is ended in the middle of it or runs for too long.
fn cancel_running(used: &Arc<Session>, route: &Arc<cancel::Route<Who>>) -> session::Errand {
    let (used, route) = (Arc::clone(used), Arc::clone(route));
    Box::new(move || {
        let (used, route) = (Arc::clone(&used), Arc::clone(&route));
        Box::pin(async move {
            let dial = async |route: Arc<cancel::Route<Who>>| used.dial_at(route.address).await;
            let passed = timeout(REACHES, cancel::Route::cancel(&route, dial)).await;
            used.cancelled(passed_on(passed));
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

/// Whether what a client says now stays between it and the daemon: under TLS, or where it dialled its own
/// loopback.
fn nobody_else_hears(client: &Stream, opening: &Opening) -> bool {
    let dialled = opening.who().flow.destination.0.ip().to_canonical();
    matches!(client, Stream::Tls(_)) || dialled.is_loopback()
}

/// Whether the client brings a search path of its own.
fn brings_search_path(startup: &Startup) -> bool {
    let mut settings = startup.settings.iter();
    settings.any(|setting| setting.name.eq_ignore_ascii_case("search_path"))
}

/// Says what the server did that it may not do, where the session ended for that.
fn broken(session: &Session, why: &Why) {
    match why {
        Why::UpstreamViolation(Unexpected::Unmasked {
            relation,
            attribute,
        }) => session.unmasked(*relation, *attribute),
        Why::UpstreamViolation(what) => {
            tracing::error!(session = %session.id(), %what, "the server broke its protocol; the session was ended");
        }
        _ => {}
    }
}

/// What texts of a session are read under; `theirs` where the client has brought a search path.
#[must_use]
pub fn names(theirs: bool, settings: &Postgres, upstream: &Upstream) -> Names {
    // Which schema this means is the server's to say, and changes with the role.
    let moves = settings.search_path.iter().any(|schema| schema == "$user");
    let said = |wanted: &str| {
        let mut parameters = upstream.parameters.iter();
        parameters.find_map(|(name, value)| (name == wanted).then_some(value.as_str()))
    };
    Names {
        // A path that the client brought is permitted, but what it means is not known here.
        search_path: (!theirs && !moves).then(|| settings.search_path.clone()),
        catalog: Arc::clone(&upstream.catalog.relations),
        functions: Arc::clone(&upstream.catalog.functions),
        utf8: said("server_encoding") == Some("UTF8"),
        discard_keeps_role: said("server_version").is_some_and(wire::version::discard_keeps_role),
        ..Names::default()
    }
}
