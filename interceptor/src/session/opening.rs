//! Opening: what an engine holds between admission and its session: may this principal open this
//! database, with which credential, over which socket. Consumed by the session or by a refusal.

pub mod ahead;
pub mod folding;
pub mod inside;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;
use zeroize::Zeroizing;

use self::ahead::Ahead;
use self::inside::Through;
use super::beside::Beside;
use super::meter::{Meter, Slot};
use super::services::{Going, Services};
use super::{EndReason, Session};
use crate::audit::event::{About, Event};
use crate::audit::{self, Reservation, Sink as _};
use crate::capture::Flow;
use crate::clock;
use crate::config::{self, Host, Namespace, SecretSource, Target};
use crate::grants::{Footing, Holding, Take};
use crate::identity::{Identified, Principal};
use crate::names;
use crate::policy::{Ask, PrincipalFacts, Refusal, RefusalKind, RuleId, Verdicts};
use crate::recording;
use crate::scopes;
use crate::secrets::Secret;
use crate::socket::{self, Place};
use crate::telemetry::metrics::LoginHow;
use crate::tls::{Authority, Dialled};

/// Whose a connection is, and where it is going.
#[derive(Clone, Debug)]
pub struct Who {
    /// The connection's id in the audit.
    pub connection: Uuid,
    /// Who.
    pub principal: Arc<Principal>,
    /// The same, held by its pidfd.
    pub identified: Arc<Identified>,
    /// The same as JSON, serialised once.
    pub json: Arc<RawValue>,
    /// The same as policy sees it.
    pub facts: Arc<PrincipalFacts>,
    /// Where to.
    pub target: Arc<Target>,
    /// The target's host that was dialled, as the configuration names it.
    pub host: Host,
    /// Where the daemon dials for a name that the agent was told an address of; none for where it dialled.
    pub places: Option<Arc<[(Host, SocketAddr)]>>,
    /// The way through a proxy, where the client has asked one; then `places` are the proxy's.
    pub through: Option<Arc<Through>>,
    /// What the kernel stamped.
    pub flow: Flow,
    /// What it uses up.
    pub meter: Arc<Meter>,
    /// The grants by which it was connected.
    pub footing: Arc<Footing>,
}

impl Who {
    /// The head of each audit line of this connection.
    #[must_use]
    pub fn about(&self) -> About<'_> {
        About {
            connection: self.connection,
            session: None,
            target: Some(&self.target.name),
            protocol: Some(self.target.protocol.word()),
            database: None,
            principal: Some(&self.json),
        }
    }

    /// The port that the client asked for.
    #[must_use]
    pub fn port(&self) -> u16 {
        let through = self.through.as_ref().map(|through| through.port);
        through.unwrap_or_else(|| self.flow.destination.0.port())
    }

    /// What the client asked for, as it looks for it in a certificate.
    #[must_use]
    pub fn dialled(&self) -> Dialled {
        match self.through.as_ref().map(|through| &through.host) {
            None => Dialled::at(&self.target, self.flow.destination.0.ip()),
            Some(Host::Ip(ip)) => Dialled::at(&self.target, *ip),
            Some(Host::Name(name)) => Dialled::by_name(name),
        }
    }

    /// Each target that it has connected to, with the grants by which it was: its own, and the proxy before it.
    pub(super) fn connected(&self) -> impl Iterator<Item = (&Target, &Footing)> {
        let proxy = self.through.iter();
        let proxy = proxy.map(|through| (&*through.proxy, &*through.footing));
        std::iter::once((&*self.target, &*self.footing)).chain(proxy)
    }

    /// What the agent may use up, by the configuration in force.
    pub(super) fn limits(&self, services: &Services) -> config::Agent {
        services.config.load().agent(&self.principal.agent)
    }

    /// The grants that it may use.
    pub(super) fn holding<'a>(&'a self, services: &'a Services) -> Holding<'a> {
        Holding::new(&services.grants, &self.principal, self.flow.scope)
    }

    /// Whether its scope is bound to whom it was when it connected; also where it was bound to nobody.
    #[must_use]
    pub fn is_bound(&self, services: &Services) -> bool {
        let identity = self.principal.identity.as_ref();
        let bindings = &services.tokens.bindings;
        identity.is_none_or(|identity| bindings.holds(self.flow.scope, identity))
    }

    /// Connects to an address of the target, from the namespace that the target says.
    pub(super) async fn dial(&self, services: &Services, to: Place) -> std::io::Result<TcpStream> {
        let from = self
            .from(services)
            .map_err(|refusal| std::io::Error::other(refusal.message))?;
        let patience = self.target.timeouts.dial;
        let dialled = match to {
            Place::Inet(to) => socket::dial(to, from, patience).await,
            Place::Unix(path) => socket::dial_path(path, patience).await,
        };
        let stream = dialled.map_err(std::io::Error::other)?;
        match &self.through {
            None => Ok(stream),
            Some(_) if self.made_by_proxy().is_some() => Ok(stream),
            Some(through) => timeout(patience, through.open(stream))
                .await
                .map_err(|_elapsed| std::io::Error::from(std::io::ErrorKind::TimedOut))?,
        }
    }

    /// A client may be root in its namespace, and answer there itself: on its loopback too, a credential goes only to
    /// a server that proves itself.
    fn from(&self, services: &Services) -> Result<socket::From<'_>, Refusal> {
        let target = &self.target;
        // Files are the same in every network namespace.
        let inet = self.flow.destination.0.inet();
        let loopback = inet.is_some_and(|at| at.ip().to_canonical().is_loopback());
        let own = services.netns == self.flow.netns;
        match target.namespace {
            Namespace::Daemon if loopback && !own => Err(Refusal::upstream(
                "loopback of another network namespace is no target here",
            )),
            Namespace::Daemon => Ok(socket::From::Daemon),
            // There it may be the client who hears the login at the proxy.
            Namespace::Client if self.through.is_some() => Err(Refusal::upstream(
                "a proxy is not asked from the client's network namespace",
            )),
            Namespace::Client if own => Ok(socket::From::Daemon),
            Namespace::Client if target.proves_server() || loopback && target.gives_nothing() => {
                Ok(socket::From::Process {
                    process: self.identified.pidfd(),
                    netns: self.flow.netns,
                })
            }
            Namespace::Client => Err(Refusal::upstream(
                "the client's network namespace is used only with verified TLS, or without a secret",
            )),
        }
    }
}

/// An admitted connection that has no session yet.
#[derive(Debug)]
pub struct Opening {
    who: Who,
    services: Arc<Services>,
    /// The host and port that its client asks this target for, which is a proxy.
    asked: Option<String>,
    rules: Vec<RuleId>,
    settings: Vec<Ask>,
    footing: Footing,
    slot: Option<Slot>,
    verdicts: Option<Verdicts>,
}

impl Opening {
    /// Made by the intercept path, once a connection is admitted.
    pub(crate) fn new(who: Who, services: Arc<Services>) -> Self {
        Self {
            who,
            services,
            asked: None,
            rules: Vec::new(),
            settings: Vec::new(),
            footing: Footing::default(),
            slot: None,
            verdicts: None,
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Keeps for the audit what host and port the client asks this target for, which is a proxy.
    pub fn asks_for(&mut self, host: &Host, port: u16) {
        self.asked = Some(inside::place(host, port));
    }

    /// The authority that makes certificates for the client.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.services.authority
    }

    /// The throw-away password of the client's scope; `None` where the scope is no more.
    #[must_use]
    pub fn client_password(&self) -> Option<Secret> {
        let scope = self.services.scopes.by_id(self.who.flow.scope)?;
        Some(scopes::password(&self.services.authority, &scope))
    }

    /// What hashes of masked values are keyed by, where they are to be equal in all sessions of a target:
    /// it lives as long as the authority does. A server that may be the client's would have it hash whatever the client
    /// guesses: it has a key of its own.
    #[must_use]
    pub fn hash_key(&self) -> Secret {
        let Who {
            target, through, ..
        } = &self.who;
        let is_straight = target.namespace == Namespace::Daemon && through.is_none();
        let connection = *self.who.connection.as_bytes();
        let of: &[&[u8]] = match is_straight || target.proves_server() {
            true => &[],
            false => &[&connection],
        };
        let key = self
            .services
            .authority
            .derive("hashes of masked values", of);
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(*key));
        Secret::from(text.as_str())
    }

    /// May this principal open this database, with what the client asks to set? Grants that it takes are
    /// used once. Without a database it is the target as a whole.
    ///
    /// # Errors
    /// The refusal that the client is told; the caller hands it to [`Opening::refuse`].
    pub async fn authorize(
        &mut self,
        database: Option<&str>,
        settings: &[Ask],
    ) -> Result<(), Refusal> {
        let database = database.unwrap_or_default();
        let limits = self.who.limits(&self.services);
        if self.who.principal.privileged && !limits.allow_privileged {
            return Err(Refusal::privileged());
        }
        self.slot = Some(self.who.meter.session(&limits)?);
        let (facts, target) = (&self.who.facts, &self.who.target.name);
        let grants = {
            let policy = self.services.policy.current();
            let held = self.who.holding(&self.services);
            let permit = policy.open(&held, facts, target, database)?;
            self.rules = permit.rules().to_vec();
            let mut grants = permit.grants().to_vec();
            if !settings.is_empty() {
                let permit = policy.authorize_with(&held, facts, target, database, settings)?;
                self.rules.extend_from_slice(permit.rules());
                let more = permit.grants().iter();
                let more: Vec<_> = more.filter(|grant| !grants.contains(grant)).collect();
                grants.extend(more);
            }
            grants
        };
        self.footing = self.services.grants.take(&grants, Take::Use).await?.into();
        self.settings = settings.to_vec();
        self.verdicts = Some(Verdicts::new(facts, target, database)?);
        Ok(())
    }

    /// Fetches a secret.
    ///
    /// # Errors
    /// A refusal that says nothing of the secret; the cause is logged.
    pub async fn secret(&self, source: &SecretSource) -> Result<Secret, Refusal> {
        self.services.secrets.fetch(source).await.map_err(|error| {
            tracing::error!(%error, target = %self.who.target.name, "cannot fetch a secret");
            Refusal::secret()
        })
    }

    /// What it takes to log in once more later.
    #[must_use]
    pub fn beside(&self) -> Beside {
        Beside::before(&self.who, &self.services)
    }

    /// What it takes to log in to this target for nobody yet; `None` where connections to it belong
    /// to the client's own namespace, or go through a proxy that the client has asked.
    ///
    /// # Errors
    /// A refusal of kind `upstream` where this target may not be dialled for this client at all.
    pub fn ahead(&self) -> Result<Option<Ahead>, Refusal> {
        self.who.from(&self.services)?;
        let target = &self.who.target;
        let own = target.namespace == Namespace::Daemon && self.who.through.is_none();
        Ok(own.then(|| Ahead::new(target, &self.services)))
    }

    /// Where this target's server may be, in the order in which the configuration has it.
    #[must_use]
    pub fn places(&self) -> Arc<[(Host, Place)]> {
        let who = &self.who;
        let dialled = || match &who.places {
            Some(places) => places
                .iter()
                .map(|(host, at)| (host.clone(), (*at).into()))
                .collect(),
            None => Arc::new([(who.host.clone(), who.flow.destination.0)]) as Arc<[_]>,
        };
        if who.through.is_some() {
            return dialled();
        }
        let targets = self.services.targets.load();
        targets.places(&who.target.name).unwrap_or_else(dialled)
    }

    /// The same by names that are looked up now, once none of `tried` has done; `None` where that is nowhere
    /// else. What a name means is the daemon's to say, so this is wherever the target is now, though the agent
    /// dialled an address that it had before.
    pub async fn places_again(&self, tried: &[(Host, Place)]) -> Option<Arc<[(Host, Place)]>> {
        if self.who.through.is_some() {
            return None;
        }
        let target = &self.who.target;
        let mut named = target.addresses.iter().chain(&target.dial.hosts);
        if !named.any(|address| matches!(address.host, Host::Name(_))) {
            return None;
        }
        self.services.anew.want().await;
        let targets = self.services.targets.load();
        let now = match (targets.places(&target.name), &self.who.places) {
            (Some(places), _) => places,
            (None, Some(told)) => {
                let (host, dialled) = told.first()?;
                let Host::Name(name) = host else { return None };
                let found = names::places(&self.services, name, *dialled).await.ok()?;
                let place = |(host, at): &(Host, SocketAddr)| (host.clone(), (*at).into());
                found.iter().map(place).collect()
            }
            (None, None) => {
                let Host::Name(name) = &self.who.host else {
                    return None;
                };
                let port = self.who.flow.destination.0.inet()?.port();
                let found = targets.of_name(name).into_iter();
                let place = |ip| (self.who.host.clone(), SocketAddr::new(ip, port).into());
                found.map(place).collect()
            }
        };
        let is_new = |place: &(Host, Place)| !tried.contains(place);
        now.iter().any(is_new).then_some(now)
    }

    /// Those of them that have an address, for protocols that are spoken nowhere else.
    #[must_use]
    pub fn addresses(&self) -> Arc<[(Host, SocketAddr)]> {
        let places = self.places();
        let address = |(host, at): &(Host, Place)| Some((host.clone(), at.inet()?));
        places.iter().filter_map(address).collect()
    }

    /// Asks for a secret again that the upstream did not take: it may have been rotated a moment ago.
    /// `None` where it is still the same, or cannot be had.
    pub async fn secret_again(&self, source: &SecretSource, refused: &Secret) -> Option<Secret> {
        let secrets = &self.services.secrets;
        let again = secrets.fetch_again(source, refused).await;
        again
            .inspect_err(|error| {
                tracing::error!(%error, target = %self.who.target.name, "cannot fetch a secret again");
            })
            .ok()
            .filter(|again| again.expose_secret() != refused.expose_secret())
    }

    /// The key that the server at an address was known by, where it was learned.
    #[must_use]
    pub fn host_key(&self, address: SocketAddr) -> Option<String> {
        self.services.hosts.of(&self.who.target.name, address)
    }

    /// Keeps a server's key that was seen first, and says so.
    ///
    /// # Errors
    /// A refusal of kind `storage`.
    pub async fn host_learned(
        &self,
        upstream: SocketAddr,
        key: &str,
        fingerprint: &str,
    ) -> Result<(), Refusal> {
        let (target, hosts) = (&self.who.target.name, &self.services.hosts);
        hosts.learn(target, upstream, key).await.map_err(|error| {
            tracing::error!(%error, "cannot keep a server's key");
            Refusal::storage("the server's key cannot be kept")
        })?;
        let event = Event::HostLearned {
            about: self.who.about(),
            upstream,
            key: fingerprint,
        };
        let written = self.services.audit.append(&event);
        written.map(drop).map_err(|error| super::storage(&error))
    }

    /// Says that a server showed another key than it was known by.
    pub fn host_changed(&self, upstream: SocketAddr, known: &str, shown: &str) {
        let target = &self.who.target.name;
        tracing::error!(%target, %upstream, known, shown,
            "a server showed another key than it was known by; it was not logged in to");
        self.services.metrics.host_key_changed(target);
        let event = Event::HostChanged {
            about: self.who.about(),
            upstream,
            known,
            shown,
        };
        if let Err(error) = self.services.audit.append(&event) {
            tracing::error!(%error, "cannot write an alarm to the audit log");
        }
    }

    /// Connects to an address of the target, from the namespace that the target says.
    ///
    /// # Errors
    /// A refusal of kind `upstream`; the cause is logged.
    pub async fn dial(&self, to: impl Into<Place>) -> Result<TcpStream, Refusal> {
        let to = to.into();
        self.who.from(&self.services)?;
        self.who.dial(&self.services, to).await.map_err(|error| {
            tracing::warn!(%error, %to, target = %self.who.target.name, "cannot dial the upstream");
            Refusal::upstream(&format!(
                "the server of target {} cannot be reached",
                self.who.target.name
            ))
        })
    }

    /// Counts how this session came by its connection.
    pub fn logged_in(&self, how: LoginHow) {
        let target = &self.who.target.name;
        self.services.metrics.logged_in(target, how);
    }

    /// Opens the session: the upstream accepted the login. Writes the line, begins the recording.
    ///
    /// # Errors
    /// A refusal of kind `storage`: what cannot be written does not begin. It is written here.
    pub async fn open(mut self, opened: Opened<'_>) -> Result<Arc<Session>, Refusal> {
        let id = Uuid::now_v7();
        let begun = match self.begin(id, &opened) {
            Ok(begun) => begun,
            Err(refusal) => {
                self.refuse(&refusal, None);
                return Err(refusal);
            }
        };
        let Begun {
            slot,
            verdicts,
            closing,
            recorder,
        } = begun;
        let now = clock::boot();
        let session = Arc::new(Session {
            id,
            database: opened.database.unwrap_or_default().to_owned(),
            settings: self.settings,
            footing: self.footing,
            leans: Mutex::default(),
            verdicts,
            masks: super::masks::Known::default(),
            recorder,
            end: watch::Sender::new(None),
            in_flight: Mutex::default(),
            altered: Mutex::default(),
            presented: Mutex::default(),
            waiting: Default::default(),
            requests: Default::default(),
            sent: Default::default(),
            received: Default::default(),
            opened: now,
            asked: Mutex::new(now),
            why_closed: Mutex::default(),
            closing: Some(closing),
            permitted: self
                .services
                .metrics
                .requests_permitted(&self.who.target.name),
            _slot: slot,
            who: self.who,
            services: self.services,
        });
        session.services.registry.enter(&session);
        // An end of the identity, a reload, or the end of a grant between the permit and the entry would have
        // missed this session.
        if !session.who.is_bound(&session.services) {
            session.end(EndReason::Identity);
        }
        if !session.still_permitted() {
            let fallen = session.fallen().map(EndReason::Grant);
            session.end(fallen.unwrap_or(EndReason::Policy));
        }
        Ok(session)
    }

    /// Takes what a session holds, begins its recording and writes its first line.
    fn begin(&mut self, id: Uuid, opened: &Opened<'_>) -> Result<Begun, Refusal> {
        let (Some(slot), Some(verdicts)) = (self.slot.take(), self.verdicts.take()) else {
            return Err(Refusal::internal(
                "a session was opened before it was authorized",
            ));
        };
        let audit = &self.services.audit;
        let room = audit::finish_bytes(Some(&self.who.json));
        let closing = audit.reserve(room);
        let closing = closing.map_err(|error| super::storage(&error))?;
        let recorder = self.recorder(id, opened.database)?;
        let event = Event::SessionOpened {
            about: About {
                session: Some(id),
                database: opened.database,
                ..self.who.about()
            },
            upstream: opened.upstream,
            user: opened.user,
            asked_user: opened.asked_user,
            rules: &self.rules,
            grants: self.footing.grants(),
        };
        let written = audit.append(&event);
        written.map_err(|error| super::storage(&error))?;
        Ok(Begun {
            slot,
            verdicts,
            closing,
            recorder,
        })
    }

    /// Connects to another address of the same target, from the same namespace.
    ///
    /// # Errors
    /// What the kernel said, or that the namespace must not be used.
    pub async fn dial_at(&self, to: impl Into<Place>) -> std::io::Result<TcpStream> {
        self.who.dial(&self.services, to.into()).await
    }

    /// Connects to an address that another client of the same scope has reached, by the way and from the namespace
    /// that led there then.
    ///
    /// # Errors
    /// As [`Opening::dial_at`].
    pub async fn dial_as(&self, then: &Who, to: impl Into<Place>) -> std::io::Result<TcpStream> {
        let mut then = then.clone();
        if then.flow.netns == self.who.flow.netns {
            // Whoever asks now lives; the process that asked then may not.
            then.identified = Arc::clone(&self.who.identified);
        }
        then.dial(&self.services, to.into()).await
    }

    /// Writes that the client presented a credential, by a fingerprint that only this daemon can make: it is
    /// used for nothing. The throw-away password of its scope is none.
    ///
    /// # Errors
    /// A refusal of kind `storage`, where it cannot be written.
    pub fn presented(&self, user: &str, credential: &[u8]) -> Result<(), Refusal> {
        let own = self.client_password();
        if own.is_some_and(|own| own.expose_secret().as_bytes() == credential) {
            return Ok(());
        }
        let of = [credential];
        let fingerprint = self.services.authority.derive("presented credential", &of);
        let event = Event::CredentialPresented {
            about: self.who.about(),
            user,
            fingerprint: hex::encode(*fingerprint),
        };
        let written = self.services.audit.append(&event);
        written.map(drop).map_err(|error| super::storage(&error))
    }

    /// Writes that the client went away, or broke the protocol, before it asked for anything.
    pub fn gave_up(self, cause: &str) {
        self.refuse(
            &Refusal::upstream("the connection ended before a session was asked for"),
            Some(cause.to_owned()),
        );
    }

    /// Counts a client that does not take the certificate for this name.
    pub fn distrusted(&self, name: Option<&Host>, how: &'static str) {
        let Who {
            principal, target, ..
        } = &self.who;
        self.services.metrics.client_distrusted(&target.name, how);
        let executable = &principal.process.executable;
        let distrust = &self.services.distrust;
        distrust.note((self.who.flow.scope, executable), (&target.name, name), how);
    }

    /// Whether the program has shown lately that it does not take the certificate for this name.
    #[must_use]
    pub fn distrusts(&self, name: &Host) -> bool {
        let Who {
            principal, target, ..
        } = &self.who;
        let executable = &principal.process.executable;
        let distrust = &self.services.distrust;
        distrust.holds((self.who.flow.scope, executable), (&target.name, name))
    }

    /// Whether policy would permit this in a session, or leave it to people; nothing is written or taken for it.
    #[must_use]
    pub fn would(&self, asks: &[Ask]) -> bool {
        let policy = self.services.policy.current();
        let (held, target) = (self.who.holding(&self.services), &self.who.target.name);
        match policy.authorize_with(&held, &self.who.facts, target, "", asks) {
            Ok(_permit) => true,
            Err(refusal) => refusal.kind == RefusalKind::NeedsApproval,
        }
    }

    /// Writes that a cancel was passed on, or why it was not.
    pub fn cancelled(self, result: Result<(), String>) {
        let event = Event::RequestCancelled {
            about: self.who.about(),
            error: result.err(),
        };
        if let Err(error) = self.services.audit.append(&event) {
            tracing::error!(%error, "cannot write a cancel to the audit log");
        }
    }

    /// Writes why there is no session.
    pub fn refuse(self, refusal: &Refusal, cause: Option<String>) {
        let flow = &self.who.flow;
        let inside = self.who.through.as_ref().map(|through| through.place());
        let going = Going {
            scope: Some(flow.scope),
            destination: Some(flow.destination.0),
            asked: inside.or(self.asked),
        };
        let about = self.who.about();
        self.services.refused(about, going, refusal, cause);
    }

    fn recorder(
        &self,
        id: Uuid,
        database: Option<&str>,
    ) -> Result<Option<recording::Writer>, Refusal> {
        if !self.who.target.record {
            return Ok(None);
        }
        let who = &self.who;
        let subject = recording::Subject {
            session: id,
            connection: who.connection,
            protocol: who.target.protocol.word(),
            target: &who.target.name,
            database,
            principal: Some(&who.json),
        };
        self.services
            .recorder
            .begin(&subject)
            .map(Some)
            .map_err(|error| {
                tracing::error!(%error, "cannot begin a recording");
                Refusal::storage("the recording cannot be written")
            })
    }
}

/// What a session holds from its first line on.
struct Begun {
    slot: Slot,
    verdicts: Verdicts,
    closing: Reservation,
    recorder: Option<recording::Writer>,
}

/// What the engine knows when the upstream accepted the login.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// The upstream's address.
    pub upstream: Place,
    /// The database; `None` where the target knows none.
    pub database: Option<&'a str>,
    /// The user that the daemon logged in as.
    pub user: &'a str,
    /// What the client asked to be.
    pub asked_user: Option<&'a str>,
}
