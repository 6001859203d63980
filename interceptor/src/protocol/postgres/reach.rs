//! The dial step: a session's connection upstream, one that waits or one that is logged in now.
//!
//! Everything that may say no has said yes before this: it decides nothing, and what it is told of a
//! login that failed reaches the audit, not the agent.

mod hosts;
mod looking;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use self::hosts::Seen;
use super::inject::warm::{Key, Supply, Warm};
use super::inject::{self, Injector, Login, Masked, Upstream};
use super::mask::{self, Again};
use super::session::Errand;
use super::terminate::{Replication, Setting, Startup};
use super::touch::Looker;
use crate::config::{self, Host, Namespace, Pooler, Postgres, SessionAttrs, Target};
use crate::policy::Refusal;
use crate::secrets::Secret;
use crate::session::beside::Beside;
use crate::session::opening::Opening;
use crate::session::opening::ahead::Ahead;
use crate::socket::Place;
use crate::telemetry::metrics::LoginHow;
use crate::tls;

/// How soon a catalog is read again whose reading failed.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What the dials of every PostgreSQL target share.
#[derive(Debug)]
pub(super) struct Reach {
    injector: Arc<Injector>,
    warm: Arc<Warm<Spare>>,
    roots: tls::Roots,
    seen: Arc<Seen>,
    /// Who looks at what statements would touch takes a place of these.
    looking: Arc<Semaphore>,
}

/// A connection for one session, logged in.
pub(super) struct Reached {
    pub(super) upstream: Upstream,
    /// How TLS is spoken to it, for cancels.
    pub(super) tls: Arc<tls::Upstream>,
    plan: Plan,
    again: Option<(Key, Spare)>,
}

/// Why there is none: what the agent may read, and what only the audit may know.
pub(super) type No = (Refusal, Option<String>);

impl Reach {
    pub(super) fn new() -> Result<Self, inject::Error> {
        Ok(Self {
            injector: Arc::new(Injector::new()?),
            warm: Arc::default(),
            roots: tls::Roots::default(),
            seen: Arc::default(),
            looking: Arc::new(Semaphore::new(looking::AT_ONCE)),
        })
    }

    /// Gives up what stands on a configuration that a reload has replaced.
    pub(super) fn forget(&self) {
        self.warm.forget();
        self.injector.forget();
        self.roots.forget();
    }

    /// Keeps nothing any more.
    pub(super) fn close(&self) {
        self.warm.close();
    }

    /// Closes what waits at a target, when it is called.
    pub(super) fn steps_aside(&self, target: &str) -> Errand {
        let (warm, target) = (Arc::clone(&self.warm), target.to_owned());
        Box::new(move || {
            let (warm, target) = (Arc::clone(&warm), target.clone());
            Box::pin(async move {
                warm.make_room(&target).await;
            })
        })
    }

    /// Has what is known of a session's database read again, on a connection of its own that is closed then.
    pub(super) fn reads_again(&self, reached: &Reached, beside: Beside) -> Again {
        let reader = Arc::new(self.reader(reached, beside));
        Box::new(move |asked| {
            let reader = Arc::clone(&reader);
            tokio::spawn(async move {
                if let Err(error) = reader.read().await {
                    let target = &reader.plan.target.name;
                    tracing::warn!(%error, %target, "cannot read the catalog again");
                    // It is asked for again by each statement.
                    tokio::time::sleep(READ_AGAIN_AFTER).await;
                }
                drop(asked);
            });
        })
    }

    /// Looks at what statements of a session would touch, each on a connection of its own that is closed then.
    pub(super) fn looks(&self, reached: &Reached, beside: Beside) -> Looker {
        let mut reader = self.reader(reached, beside);
        reader.plan.learns = true;
        looking::looker(reader, Arc::clone(&self.looking))
    }

    /// Who logs in to a session's own server once more.
    fn reader(&self, reached: &Reached, beside: Beside) -> CatalogReader {
        let upstream = &reached.upstream;
        CatalogReader {
            beside,
            injector: Arc::clone(&self.injector),
            seen: Arc::clone(&self.seen),
            plan: Plan {
                // Servers of one target may differ.
                places: [(upstream.host.clone(), upstream.address)].into(),
                replication: None,
                ..reached.plan.clone()
            },
        }
    }

    /// A connection for a session that was authorized.
    pub(super) async fn open(
        &self,
        opening: &Opening,
        startup: &Startup,
        settings: &Arc<Postgres>,
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
        let mut plan = Plan {
            tls: self.roots.of(&target, key).await.map_err(|cause| {
                let refusal = Refusal::upstream("TLS to this target is not set up right");
                (refusal, Some(cause))
            })?,
            places: opening.places(),
            database: startup.database.clone(),
            settings: startup.settings.clone(),
            minor: match settings.pooler {
                Pooler::None => startup.upstream_minor(),
                // One that knows no newer version ends the connection, and none gains anything by it.
                Pooler::Session => 0,
            },
            replication: startup.replication,
            hash_key: opening.hash_key(),
            apart: who.apart(),
            learns: false,
            postgres: Arc::clone(settings),
            target,
        };
        if plan.is_masked()
            && let Some(refusal) = brought(startup)
        {
            return Err(plain(refusal));
        }
        let mut credential = self.injector.credential(password.as_ref());
        let asked = plan.key(credential).map_err(failed)?;
        let (upstream, how) = match self.waiting(ahead.as_ref(), &asked, settings).await {
            Some(upstream) => (upstream, LoginHow::Warm),
            None => {
                let (upstream, taken) = self.log_in(opening, &mut plan, password).await?;
                credential = taken;
                (upstream, LoginHow::Fresh)
            }
        };
        // It may be elsewhere by now.
        let asked = plan.key(credential).map_err(failed)?;
        opening.logged_in(how);
        let tls = Arc::clone(&plan.tls);
        let again = ahead.map(|ahead| {
            let spare = Spare {
                ahead,
                injector: Arc::clone(&self.injector),
                seen: Arc::clone(&self.seen),
                plan: plan.clone(),
                credential,
            };
            (asked, spare)
        });
        Ok(Reached {
            upstream,
            tls,
            plan,
            again,
        })
    }

    /// Keeps a connection for the next session that asks for the same: this one has what it asked for.
    pub(super) fn again(&self, reached: &mut Reached) {
        if let Some((key, spare)) = reached.again.take() {
            self.warm.ask(&key, spare);
        }
    }

    /// One that waits, where this target has any and is the one of the configuration in force.
    async fn waiting(
        &self,
        ahead: Option<&Ahead>,
        asked: &Key,
        settings: &Arc<Postgres>,
    ) -> Option<Upstream> {
        if !ahead?.is_current() {
            return None;
        }
        let upstream = self.warm.take(asked, settings.warm.age).await?;
        // A server that has just become another kind reports it.
        let stands = settings.session_attrs == SessionAttrs::Any || upstream.unread.is_empty();
        stands.then_some(upstream)
    }

    /// Logs in now; also says with which credential. Where nobody will do at any address that the target has
    /// had, its names are looked up again at once, as whoever fails over moves them.
    async fn log_in(
        &self,
        opening: &Opening,
        plan: &mut Plan,
        password: Option<Secret>,
    ) -> Result<(Upstream, [u8; 32]), No> {
        let failure = match self.log_in_there(opening, plan, &password).await {
            Err(failure) => failure,
            Ok(both) => return Ok(both),
        };
        if failure.is_of_the_host()
            && let Some(places) = opening.places_again(&plan.places).await
        {
            tracing::info!(target = %plan.target.name, cause = %failure, "the target is elsewhere now");
            plan.places = places;
            let again = self.log_in_there(opening, plan, &password).await;
            return again.map_err(No::from);
        }
        Err(failure.into())
    }

    /// Where the server has no room, what waits there makes some; where it takes the password no more, a newer
    /// one is tried once.
    async fn log_in_there(
        &self,
        opening: &Opening,
        plan: &Plan,
        password: &Option<Secret>,
    ) -> Result<(Upstream, [u8; 32]), Failed> {
        let attempt = async |password: &Option<Secret>| {
            let credential = self.injector.credential(password.as_ref());
            let upstream = plan
                .log_in(
                    &self.injector,
                    &self.seen,
                    opening,
                    password.as_ref(),
                    false,
                )
                .await?;
            Ok((upstream, credential))
        };
        let error = match attempt(password).await {
            Err(Failed::Login(error)) => error,
            ended => return ended,
        };
        if error.is_full() && self.warm.make_room(&plan.target.name).await {
            return attempt(password).await;
        }
        if error.is_wrong_password()
            && let Some(newer) = newer(opening, plan, password.as_ref()).await
        {
            return attempt(&Some(newer)).await;
        }
        Err(Failed::Login(error))
    }
}

/// Why a login did not come about.
pub(super) enum Failed {
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

/// What a client brings that it could not set later, while something is masked.
pub(super) fn brought(startup: &Startup) -> Option<Refusal> {
    let mut settings = startup.settings.iter();
    settings.find_map(|setting| mask::brought(&setting.name))
}

fn plain(refusal: Refusal) -> No {
    (refusal, None)
}

fn failed(error: inject::Error) -> No {
    (error.refusal(), Some(error.to_string()))
}

/// The password, where its source has another one by now.
async fn newer(opening: &Opening, plan: &Plan, refused: Option<&Secret>) -> Option<Secret> {
    let source = plan.postgres.password.as_ref()?;
    opening.secret_again(source, refused?).await
}

/// All of a login but the socket and the credential.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) target: Arc<Target>,
    pub(super) postgres: Arc<Postgres>,
    pub(super) tls: Arc<tls::Upstream>,
    pub(super) places: Arc<[(Host, Place)]>,
    pub(super) database: String,
    pub(super) settings: Vec<Setting>,
    pub(super) minor: u16,
    pub(super) replication: Option<Replication>,
    /// What the target's own hashes of masked values are keyed by.
    pub(super) hash_key: Secret,
    /// What tells the server from others at its address.
    pub(super) apart: Option<Arc<str>>,
    /// Whether it is to be known what its database looks like, though nothing in it may be masked.
    learns: bool,
}

impl Plan {
    pub(super) fn login<'a>(
        &'a self,
        host: &'a Host,
        password: Option<&'a Secret>,
        attrs: SessionAttrs,
    ) -> Login<'a> {
        let is_ours = self.target.namespace == Namespace::Daemon || self.target.tls.proves_server();
        Login {
            target: &self.target.name,
            host,
            apart: self.apart.as_deref(),
            tls: &self.tls,
            postgres: &self.postgres,
            password,
            database: &self.database,
            settings: &self.settings,
            minor: self.minor,
            replication: self.replication,
            attrs,
            masked: (self.learns || self.is_masked()).then_some(Masked {
                // Whoever has it can compare all hashes of the target: not for a server that may be the client's.
                target_key: is_ours.then_some(&self.hash_key),
                sensitive: &self.target.sensitive,
            }),
        }
    }

    /// Whether the configuration calls anything in its database sensitive.
    fn is_masked(&self) -> bool {
        let mut sensitive = self.target.sensitive.iter();
        sensitive.any(|one| {
            let database = one.database.as_deref();
            database.is_none_or(|database| database == self.database)
        })
    }

    pub(super) fn attrs(&self) -> SessionAttrs {
        self.postgres.session_attrs
    }

    fn key(&self, credential: [u8; 32]) -> Result<Key, inject::Error> {
        let startup = match self.places.first() {
            Some((host, _)) => inject::asked(&self.login(host, None, SessionAttrs::Any))?,
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

/// Logs in beside a session to read what its database looks like.
struct CatalogReader {
    beside: Beside,
    injector: Arc<Injector>,
    seen: Arc<Seen>,
    plan: Plan,
}

impl CatalogReader {
    /// What is read is known to all sessions on the database; the connection is closed at once.
    async fn read(&self) -> Result<(), Failed> {
        self.log_in().await.map(drop)
    }

    async fn log_in(&self) -> Result<Upstream, Failed> {
        let password = match &self.plan.postgres.password {
            Some(source) => {
                let password = self.beside.secret(source).await;
                Some(password.ok_or_else(|| Failed::Refused(Refusal::secret()))?)
            }
            None => None,
        };
        let (injector, seen) = (&self.injector, &self.seen);
        let login = self
            .plan
            .log_in(injector, seen, &self.beside, password.as_ref(), true);
        login.await
    }
}

/// Logs in for the next session of a key.
#[derive(Clone, Debug)]
struct Spare {
    ahead: Ahead,
    injector: Arc<Injector>,
    seen: Arc<Seen>,
    plan: Plan,
    credential: [u8; 32],
}

impl Supply for Spare {
    fn target(&self) -> &str {
        &self.plan.target.name
    }

    fn warm(&self) -> config::Warm {
        self.plan.postgres.warm
    }

    fn is_current(&self) -> bool {
        self.ahead.is_current()
    }

    async fn log_in(&self) -> Result<Option<Upstream>, inject::Error> {
        let password = match &self.plan.postgres.password {
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
        let login = self.plan.log_in(
            &self.injector,
            &self.seen,
            &self.ahead,
            password.as_ref(),
            true,
        );
        match login.await {
            Ok(upstream) => {
                self.ahead.logged_in(LoginHow::Ahead);
                Ok(Some(upstream))
            }
            Err(Failed::Login(error)) => Err(error),
            Err(Failed::Refused(_)) => Ok(None),
        }
    }
}
