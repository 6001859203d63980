//! Who is logged in at the console: one-time links for root, and the sessions that came of a login.
//!
//! Secrets are 256 random bits; kept is only their hash. A session takes two of them, one that the browser
//! sends by itself and one that the page has to know: a cookie is sent to every port of a host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State;
use axum::{Extension, Json};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::Given;
use super::super::api::Link;
use super::codes::Codes;
use super::guest::Guest;
use super::{Answer, As, Known, Visitor};
use crate::audit::Sink as _;
use crate::audit::event::{Caller, Event};
use crate::clock::{self, BootTime};
use crate::identity::LoggedIn;
use crate::policy::SessionUser;
use crate::session::services::Services;
use crate::tokens;

/// How long a link may be used.
const LINK: Duration = Duration::from_secs(120);
/// Links that wait to be used.
const LINKS: usize = 16;
/// How long a session lasts.
pub const SESSION: Duration = Duration::from_hours(1);
/// Sessions at once, and of one person.
const SESSIONS: usize = 64;
const OF_ONE: usize = 4;
/// Streams of one session at once.
const STREAMS: usize = 4;
/// Tries to log in of one: so many at once after a pause, and one more each second.
const TRIES: f64 = 30.0;
/// How many are remembered to have tried; more cannot have within those seconds, or nobody is let in.
const TRIED: usize = 65_536;

/// Signed answers of a chat that are remembered, and for how long: twice as long as each is fresh.
const HEARD: usize = 4_096;
const REMEMBERED: Duration = Duration::from_mins(11);

type Hash = [u8; 32];

/// The logins. One for the daemon.
#[derive(Debug, Default)]
pub struct Logins {
    held: Mutex<Held>,
    /// By which people register their first keys.
    pub codes: Codes,
}

#[derive(Debug, Default)]
struct Held {
    links: HashMap<Hash, Waiting>,
    sessions: HashMap<Hash, Arc<Session>>,
    /// What a chat has signed, and until when it would be fresh.
    heard: HashMap<Hash, BootTime>,
    /// Tries that were made of those that may be, and when that was counted, by who made them.
    tried: HashMap<Guest, (f64, BootTime)>,
}

#[derive(Debug)]
struct Waiting {
    caller: Arc<Caller>,
    session: Option<SessionUser>,
    until: BootTime,
}

/// Somebody who is logged in.
#[derive(Debug)]
pub struct Session {
    /// Who.
    pub visitor: Visitor,
    /// Until when.
    pub until: BootTime,
    /// Cancelled when it ends.
    pub over: CancellationToken,
    /// How many streams it may still open.
    pub streams: Arc<Semaphore>,
    token: Hash,
}

/// What a browser is given when it logs in.
#[derive(Debug)]
pub struct Keys {
    /// What it sends by itself.
    pub cookie: String,
    /// What the page sends.
    pub token: String,
}

impl Logins {
    /// A link for root, by what it is opened with.
    ///
    /// # Errors
    /// Where there are too many, or no randomness.
    pub fn link(
        &self,
        caller: Caller,
        session: Option<SessionUser>,
    ) -> Result<String, &'static str> {
        let (secret, hash) = secret()?;
        let now = clock::boot();
        let mut held = self.lock();
        held.links.retain(|_, link| now < link.until);
        if held.links.len() >= LINKS {
            return Err("16 links wait to be used already");
        }
        let waiting = Waiting {
            caller: Arc::new(caller),
            session,
            until: now.after(LINK),
        };
        held.links.insert(hash, waiting);
        Ok(secret)
    }

    /// Whether somebody may try to log in now: each has their own tries, and keeps nobody else out.
    #[must_use]
    pub fn may_try(&self, guest: Guest) -> bool {
        let now = clock::boot();
        let left = |(tried, at): (f64, BootTime)| (tried - now.since(at).as_secs_f64()).max(0.0);
        let mut held = self.lock();
        if held.tried.len() >= TRIED {
            held.tried.retain(|_, counted| left(*counted) > 0.0);
        }
        if held.tried.len() >= TRIED && !held.tried.contains_key(&guest) {
            return false;
        }
        let tried = held.tried.get(&guest).copied().map_or(0.0, left);
        let may = tried < TRIES;
        let counted = if may { tried + 1.0 } else { tried };
        held.tried.insert(guest, (counted, now));
        may
    }

    /// Whether something that is signed was not heard before; it is remembered for as long as it is fresh.
    #[must_use]
    pub fn is_new(&self, signature: &str) -> bool {
        let now = clock::boot();
        let mut held = self.lock();
        held.heard.retain(|_, until| now < *until);
        let full = held.heard.len() >= HEARD;
        !full
            && held
                .heard
                .insert(hash(signature), now.after(REMEMBERED))
                .is_none()
    }

    /// Uses a link; nobody can use it again.
    #[must_use]
    pub fn open(&self, link: &str) -> Option<Visitor> {
        let waiting = self.lock().links.remove(&hash(link))?;
        (clock::boot() < waiting.until).then(|| Visitor {
            login: Uuid::now_v7(),
            who: As::Root(waiting.caller, waiting.session),
        })
    }

    /// Begins a session.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn enter(&self, visitor: Visitor) -> Result<Keys, &'static str> {
        let (cookie, hash) = secret()?;
        let (token, token_hash) = secret()?;
        let session = Session {
            until: until(&visitor),
            visitor,
            over: CancellationToken::new(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            token: token_hash,
        };
        let mut held = self.lock();
        held.tidy();
        let own = |one: &Session| is_same(&one.visitor, &session.visitor);
        let count = held.sessions.values().filter(|one| own(one)).count();
        if count >= OF_ONE {
            held.oust(own);
        }
        if held.sessions.len() >= SESSIONS {
            held.oust(|_| true);
        }
        held.sessions.insert(hash, Arc::new(session));
        Ok(Keys { cookie, token })
    }

    /// The session of these keys.
    #[must_use]
    pub fn find(&self, cookie: &str, token: &str) -> Option<Arc<Session>> {
        let found = self.lock().sessions.get(&hash(cookie)).map(Arc::clone)?;
        // Hashes: how far they agree tells nothing.
        let is_good = found.token == hash(token) && found.is_open();
        is_good.then_some(found)
    }

    /// Ends a session.
    pub fn leave(&self, session: &Arc<Session>) {
        session.over.cancel();
        self.lock()
            .sessions
            .retain(|_, one| !Arc::ptr_eq(one, session));
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Whether it lasts still.
    #[must_use]
    pub fn is_open(&self) -> bool {
        clock::boot() < self.until && !self.over.is_cancelled()
    }
}

impl Session {
    /// How long it lasts still, in seconds.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.until.since(clock::boot()).as_secs()
    }
}

impl Held {
    fn tidy(&mut self) {
        self.sessions.retain(|_, one| one.is_open());
    }

    /// Ends the session that would end first.
    fn oust(&mut self, which: impl Fn(&Session) -> bool) {
        let of = self.sessions.iter().filter(|(_, one)| which(one));
        let first = of.min_by_key(|(_, one)| one.until).map(|(hash, _)| *hash);
        if let Some(ousted) = first.and_then(|hash| self.sessions.remove(&hash)) {
            ousted.over.cancel();
        }
    }
}

/// Where a browser goes to log in by an issuer, and what it comes back with.
///
/// # Errors
/// An answer where the issuer does not take part, or too many are logging in.
pub async fn begin(
    services: &Services,
    issuer: &str,
    back: &str,
) -> Result<(String, String), Answer> {
    let config = services.config.load_full();
    let sent = services.tokens.send(&config.issuers, issuer, back).await;
    sent.map_err(|error| unbelieved(services, issuer, &error))
}

/// Who came back from an issuer, with a state, a code and the issuer's name.
///
/// # Errors
/// An answer, which does not say why they are not believed.
pub async fn done(
    services: &Services,
    issuer: &str,
    (state, code, said): (&str, &str, Option<&str>),
) -> Result<Visitor, Answer> {
    let verified = services.tokens.returned(state, code, said).await;
    let verified = verified.map_err(|error| unbelieved(services, issuer, &error))?;
    let person = LoggedIn {
        by: issuer.to_owned(),
        identity: verified.identity,
        // It says who came, not for how long they stay.
        until: clock::boot().after(SESSION),
    };
    // What the issuer says now counts for whoever stands in for them, too.
    let renewed = services.approvals.renew(&person).await;
    renewed.map_err(|error| Answer::failed(&error))?;
    Ok(Visitor {
        login: Uuid::now_v7(),
        who: As::Person(person),
    })
}

fn unbelieved(services: &Services, issuer: &str, error: &tokens::Error) -> Answer {
    let event = Event::Control {
        verb: "login",
        caller: None,
        result: "refused",
        detail: json!({ "issuer": issuer, "reason": error.reason(), "error": error.to_string() }),
        generation: services.policy.generation(),
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, "cannot write a refused login to the audit log");
    }
    Answer::unbelieved()
}

fn until(visitor: &Visitor) -> BootTime {
    match &visitor.who {
        As::Root(..) => clock::boot().after(SESSION),
        As::Person(person) => person.until,
    }
}

fn is_same(one: &Visitor, other: &Visitor) -> bool {
    match (&one.who, &other.who) {
        (As::Root(..), As::Root(..)) => true,
        (As::Person(one), As::Person(other)) => one.is_of(other),
        (As::Root(..), As::Person(_)) | (As::Person(_), As::Root(..)) => false,
    }
}

fn secret() -> Result<(String, Hash), &'static str> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| "the system gives no random bytes")?;
    let secret = hex::encode(bytes);
    let hash = hash(&secret);
    Ok((secret, hash))
}

fn hash(secret: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

/// `POST /v1/console` on the control socket: a link for root.
///
/// # Errors
/// An answer where it is not root who asks, or no console is served.
pub async fn link(
    State(services): Given,
    Extension(logins): Extension<Arc<Logins>>,
    caller: Known,
) -> Result<Json<Link>, Answer> {
    let process = caller.process()?;
    if process.uid != 0 {
        caller.audit(&services, "console", "refused", json!({}));
        return Err(Answer::bad(
            "links are for root; others log in by the issuer",
        ));
    }
    let config = services.config.load();
    let console = config.console.as_ref();
    let console = console.ok_or_else(|| {
        Answer::bad("no console is served; the configuration's `console.listen` says where")
    })?;
    let written = caller.write(&services, "console", "ok", json!({}));
    written.map_err(|error| Answer::failed(&error))?;
    let (pid, ids) = (process.pid, (process.uid, process.gid));
    let user = services.caller(pid, ids).await;
    let session = user.map_err(|error| Answer::failed(&error))?.session;
    let secret = logins.link(caller.in_audit(), session);
    let secret = secret.map_err(|error| Answer::failed(&error))?;
    Ok(Json(Link {
        // What stands behind the mark is sent to no server, and stands in no log.
        url: format!("{}/login#{secret}", console.origin()),
        seconds: LINK.as_secs(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Caller {
        Caller::bare(1, (0, 0), "not asked for".to_owned())
    }

    #[test]
    fn a_link_is_used_once() {
        let logins = Logins::default();
        let link = logins.link(root(), None).unwrap();
        assert_eq!(link.len(), 64);
        assert!(logins.open("no such link").is_none());
        assert!(logins.open(&link).is_some());
        assert!(logins.open(&link).is_none());
        for _ in 0..LINKS {
            logins.link(root(), None).unwrap();
        }
        assert!(logins.link(root(), None).is_err());
    }

    #[test]
    fn a_session_takes_both_of_its_keys_and_ends_with_its_logout() {
        let logins = Logins::default();
        let enter = || {
            let link = logins.link(root(), None).unwrap();
            logins.enter(logins.open(&link).unwrap()).unwrap()
        };
        let (one, two) = (enter(), enter());
        assert!(logins.find(&one.cookie, &two.token).is_none());
        assert!(logins.find(&one.cookie, "").is_none());
        let session = logins.find(&one.cookie, &one.token).unwrap();
        logins.leave(&session);
        assert!(session.over.is_cancelled());
        assert!(logins.find(&one.cookie, &one.token).is_none());
        assert!(logins.find(&two.cookie, &two.token).is_some());
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_makes_room() {
        let logins = Logins::default();
        let enter = || {
            let link = logins.link(root(), None).unwrap();
            logins.enter(logins.open(&link).unwrap()).unwrap()
        };
        let first = enter();
        let old = logins.find(&first.cookie, &first.token).unwrap();
        for _ in 0..OF_ONE {
            enter();
        }
        assert!(old.over.is_cancelled());
        assert_eq!(logins.lock().sessions.len(), OF_ONE);
    }

    #[test]
    fn what_was_heard_is_not_new() {
        let logins = Logins::default();
        assert!(logins.is_new("v0=1"));
        assert!(!logins.is_new("v0=1"));
        assert!(logins.is_new("v0=2"));
    }

    #[test]
    fn nobody_tries_more_often_than_so_nor_keeps_others_from_trying() {
        let logins = Logins::default();
        let tries = |from| (0..100).filter(|_| logins.may_try(from)).count();
        let address = |text: &str| Guest::address(text.parse().unwrap());
        for from in [
            Guest::User(1),
            Guest::User(2),
            address("10.0.0.1"),
            address("10.0.0.2"),
            address("2001:db8::1"),
            address("2001:db8:0:1::1"),
        ] {
            let tried = tries(from);
            assert!((30..40).contains(&tried), "{from:?}: {tried}");
        }
        // The same network, and the same address.
        for from in [address("2001:db8::2"), address("::ffff:10.0.0.1")] {
            let tried = tries(from);
            assert!(tried < 10, "{from:?}: {tried}");
        }
    }

    #[test]
    fn who_tried_is_forgotten_when_it_does_not_count_any_more() {
        let logins = Logins::default();
        let all = 0..u32::try_from(TRIED).unwrap();
        let long_ago = BootTime(0);
        logins.lock().tried = all.map(|uid| (Guest::User(uid), (1.0, long_ago))).collect();
        let new = Guest::User(u32::MAX);
        assert!(logins.may_try(new));
        assert!(logins.lock().tried.len() <= 1);
    }
}
