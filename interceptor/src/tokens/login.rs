//! A person logs in at a terminal: the device flow (RFC 8628). The daemon asks, the person answers in a
//! browser of their own, and the token that comes of it never leaves the daemon.
//!
//! Whoever began a login is the only one who can wait for it and use it, as long as that process lives.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::claims::For;
use super::fetch::Answer;
use super::issuer::Known;
use super::read::Unproved;
use super::{Error, Issuers, Tokens, Verified, document, shown, verify};
use crate::clock::{self, BootTime};
use crate::config::Url;
use crate::identity::pidfd;
use crate::secrets::Secret;

/// Logins that are under way at once, and of one user or one scope.
const MOST: usize = 64;
const OF_ONE: usize = 4;
/// How often one of them may begin one: each is a question to the issuer.
const SPACED: Duration = Duration::from_secs(1);
/// How long one may take, whatever the issuer says.
const LONGEST: u64 = 1_800;
/// How often is asked where the issuer says nothing of it, and what `slow_down` adds (RFC 8628 sections 3.2, 3.5).
const INTERVAL: u64 = 5;
/// The longest pause that an issuer may ask for.
const MAX_INTERVAL: u64 = 60;
/// How long one who waits is kept waiting at most; it asks again.
const PATIENCE: Duration = Duration::from_secs(25);
/// Bytes of a code, and of an address, that are shown to a person.
const MAX_SHOWN: usize = 1_024;

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The process that logs in.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// The scope that it is in: a user's agents do not share places.
    pub scope: Option<u64>,
    /// The process itself: while it is held, its number names no other.
    pub held: Arc<OwnedFd>,
}

/// What a person has to do.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The login.
    pub id: Uuid,
    /// Where to go.
    pub address: String,
    /// What to type there.
    pub code: String,
    /// Where to go so that nothing is to be typed.
    pub complete: Option<String>,
    /// How long there is, in seconds.
    pub seconds: u64,
}

/// How far a login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The person has not answered yet.
    Waiting,
    /// They have; a scope can be bound.
    Done,
}

/// The logins that are under way.
#[derive(Debug, Default)]
pub struct Logins {
    pending: Mutex<HashMap<Uuid, Arc<Pending>>>,
    /// Those that an issuer is asked to begin: whose, and since when.
    coming: Mutex<HashMap<Uuid, (Whose, BootTime)>>,
}

/// Whose logins are counted together: those of a scope, and outside of all of them those of a user.
type Whose = (Option<u64>, Option<u32>);

/// A place for a login that is about to begin. Dropped, it is another's.
#[derive(Debug)]
struct Place<'a> {
    logins: &'a Logins,
    id: Uuid,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut coming = lock(&self.logins.coming);
        coming.remove(&self.id);
    }
}

#[derive(Debug)]
struct Pending {
    owner: Owner,
    issuer: Arc<Known>,
    client: String,
    at: Url,
    begun: BootTime,
    until: BootTime,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug)]
enum State {
    Asking {
        code: Zeroizing<String>,
        interval: u64,
        next: BootTime,
    },
    Done(Verified),
}

impl Tokens {
    /// Begins a login by an issuer.
    ///
    /// # Errors
    /// Where there are too many, or the issuer does not take part.
    pub async fn begin(&self, issuers: &Issuers, name: &str, owner: Owner) -> Result<Begun, Error> {
        let failed = |what: &str| Error::Login(what.to_owned());
        let config = issuers
            .get(name)
            .ok_or_else(|| failed("no issuer has this name"))?;
        let client = config
            .client
            .clone()
            .ok_or_else(|| failed("nobody logs in by this issuer: it has no `client`"))?;
        let id = Uuid::now_v7();
        let known = self.known(config);
        let facts = known.facts().await?;
        let (Some(device), Some(token)) = (&facts.device, &facts.token) else {
            return Err(failed("the issuer does not offer the device flow"));
        };
        // It has its place while the issuer is asked: others may ask at the same time.
        let _place = self.logins.place(id, &owner)?;
        let scopes = config.scopes.join(" ");
        let fields = [("client_id", client.as_str()), ("scope", &scopes)];
        let answer = known
            .asks
            .post(device, &fields)
            .await
            .map_err(Error::Login)?;
        let answer = good(&answer)?;
        let (begun, code, interval) = understood(id, &answer)?;
        let pending = Pending {
            owner,
            issuer: known,
            client,
            at: token.clone(),
            begun: clock::boot(),
            until: super::bindings::after(i64::try_from(begun.seconds).unwrap_or(0)),
            state: tokio::sync::Mutex::new(State::Asking {
                code,
                interval,
                next: in_seconds(interval),
            }),
        };
        self.logins.lock().insert(id, Arc::new(pending));
        Ok(begun)
    }

    /// Waits for a login to get on, for less than half a minute.
    ///
    /// # Errors
    /// Where it is none of the caller's, or came to nothing.
    pub async fn wait(&self, id: Uuid, owner: &Owner) -> Result<Progress, Error> {
        let pending = self.logins.of(id, owner)?;
        let mut state = pending.state.lock().await;
        let State::Asking {
            code,
            interval,
            next,
        } = &mut *state
        else {
            return Ok(Progress::Done);
        };
        let pause = next.since(clock::boot());
        tokio::time::sleep(pause.min(PATIENCE)).await;
        if pause > PATIENCE {
            return Ok(Progress::Waiting);
        }
        let asked = pending.ask(code).await;
        match asked {
            Ok(Asked::Token(token)) => {
                let verified = pending.verified(&token).await;
                match verified {
                    Ok(verified) => {
                        *state = State::Done(verified);
                        Ok(Progress::Done)
                    }
                    Err(error) => {
                        self.logins.lock().remove(&id);
                        Err(error)
                    }
                }
            }
            Ok(Asked::Again { slower }) => {
                if slower {
                    *interval = interval.saturating_add(INTERVAL).min(MAX_INTERVAL);
                }
                *next = in_seconds(*interval);
                Ok(Progress::Waiting)
            }
            Err(error) => {
                self.logins.lock().remove(&id);
                Err(error)
            }
        }
    }

    /// What a login that is done says; it is used by this.
    ///
    /// # Errors
    /// Where it is none of the caller's, or not done.
    pub async fn logged_in(&self, id: Uuid, owner: &Owner) -> Result<Verified, Error> {
        let pending = self.logins.of(id, owner)?;
        let state = pending.state.lock().await;
        let State::Done(verified) = &*state else {
            return Err(Error::Login("nobody has answered yet".to_owned()));
        };
        self.logins.lock().remove(&id);
        Ok(verified.clone())
    }
}

impl Logins {
    /// A place for one more of this owner's; those that nobody waits for any more make some.
    fn place(&self, id: Uuid, owner: &Owner) -> Result<Place<'_>, Error> {
        let now = clock::boot();
        let mut pending = self.lock();
        pending.retain(|_, one| one.until > now && pidfd::is_alive(&one.owner.held));
        let mut coming = lock(&self.coming);
        let own = whose(owner);
        let begun = pending.values().map(|one| (whose(&one.owner), one.begun));
        let begun: Vec<_> = begun
            .chain(coming.values().copied())
            .filter(|(of, _)| *of == own)
            .collect();
        let just_now = begun.iter().any(|(_, at)| now.since(*at) < SPACED);
        let all = pending.len().saturating_add(coming.len());
        if all >= MOST || begun.len() >= OF_ONE || just_now {
            return Err(Error::Login("too many logins are under way".to_owned()));
        }
        coming.insert(id, (own, now));
        Ok(Place { logins: self, id })
    }

    fn of(&self, id: Uuid, owner: &Owner) -> Result<Arc<Pending>, Error> {
        let pending = self.lock();
        let found = pending.get(&id).filter(|one| {
            one.owner.pid == owner.pid
                && one.owner.uid == owner.uid
                && one.until > clock::boot()
                && pidfd::is_alive(&one.owner.held)
        });
        let none = || Error::Login("there is no such login of yours, or its time is over".into());
        found.map(Arc::clone).ok_or_else(none)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Pending>>> {
        lock(&self.pending)
    }
}

fn whose(owner: &Owner) -> Whose {
    (owner.scope, owner.scope.is_none().then_some(owner.uid))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the issuer says to whoever asks whether the person has answered.
enum Asked {
    Token(Secret),
    Again { slower: bool },
}

impl Pending {
    async fn ask(&self, code: &str) -> Result<Asked, Error> {
        let fields = [
            ("grant_type", DEVICE_CODE),
            ("device_code", code),
            ("client_id", &self.client),
        ];
        let answer = match self.issuer.asks.post(&self.at, &fields).await {
            Ok(answer) => answer,
            Err(cause) => {
                // A connection that fails is tried again, more slowly (RFC 8628 section 3.5).
                tracing::warn!(%cause, issuer = %self.issuer.config.name, "cannot ask for a login");
                return Ok(Asked::Again { slower: true });
            }
        };
        if answer.status == 200 {
            let fields = good(&answer)?;
            let token = fields.get("id_token").and_then(Value::as_str);
            let none = || Error::Login("the issuer answers without an identity token".to_owned());
            return token
                .map(|token| Asked::Token(Secret::from(token)))
                .ok_or_else(none);
        }
        let fields = document::object(&answer.body).map_err(Error::Login)?;
        match fields.get("error").and_then(Value::as_str) {
            Some("authorization_pending") => Ok(Asked::Again { slower: false }),
            Some("slow_down") => Ok(Asked::Again { slower: true }),
            other => Err(Error::Login(format!(
                "the issuer says {}",
                shown(other.unwrap_or("nothing"))
            ))),
        }
    }

    async fn verified(&self, token: &Secret) -> Result<Verified, Error> {
        let token = Unproved::read(token.expose_secret())?;
        verify(&self.issuer, &token, For::Client(&self.client)).await
    }
}

pub(super) fn good(answer: &Answer) -> Result<Map<String, Value>, Error> {
    let fields = document::object(&answer.body);
    match (answer.status, fields) {
        (200, Ok(fields)) => Ok(fields),
        (200, Err(what)) => Err(Error::Login(format!("the issuer's answer: {what}"))),
        (status, fields) => {
            let fields = fields.unwrap_or_default();
            let said = fields.get("error").and_then(Value::as_str);
            let said = shown(said.unwrap_or("nothing"));
            Err(Error::Login(format!(
                "the issuer answers {status} and says {said}"
            )))
        }
    }
}

/// What a person is told, the code that is asked with, and how often (RFC 8628 section 3.2).
fn understood(
    id: Uuid,
    answer: &Map<String, Value>,
) -> Result<(Begun, Zeroizing<String>, u64), Error> {
    let text = |name: &str| {
        let text = answer.get(name)?.as_str()?;
        let fine = (1..=MAX_SHOWN).contains(&text.len()) && !text.chars().any(char::is_control);
        fine.then(|| text.to_owned())
    };
    let must = |name: &str| {
        text(name).ok_or_else(|| Error::Login(format!("the issuer's answer has no `{name}`")))
    };
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let begun = Begun {
        id,
        address: must("verification_uri")?,
        code: must("user_code")?,
        complete: text("verification_uri_complete"),
        seconds: number("expires_in").unwrap_or(LONGEST).min(LONGEST),
    };
    let interval = number("interval").unwrap_or(INTERVAL);
    let interval = interval.clamp(1, MAX_INTERVAL);
    Ok((begun, Zeroizing::new(must("device_code")?), interval))
}

fn in_seconds(seconds: u64) -> BootTime {
    super::bindings::after(i64::try_from(seconds).unwrap_or(0))
}
