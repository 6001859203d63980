//! Keys of people at the console: registering one, and what an answer is signed by.
//!
//! The first key is vouched for by root of the host: by the link that root came by, by a code that root gave a
//! person (or by the login alone, where the configuration says so), and the login must be fresh; each other one is
//! vouched for by a key that is there. Who lost theirs asks root, who may remove any.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::api::Say;
use super::super::caller::codes::{Codes, Used};
use super::super::caller::logins::{Logins, SESSION, Session};
use super::super::caller::{Answer, As, Known, Visitor};
use crate::approvals::Standing;
use crate::clock;
use crate::factors::{
    Assertion, Bytes, Error, Factor, Key, Login, Owner, Purpose, Registration, Site,
};
use crate::session::services::Services;

/// How old a login may be that vouches for somebody's first key.
const FRESH: std::time::Duration = std::time::Duration::from_mins(10);

/// A key, as its owner sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    id: Bytes,
    name: String,
    owner: Owner,
    made: jiff::Timestamp,
    used: Option<jiff::Timestamp>,
}

/// `POST /api/factors/add`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    name: String,
    key: Registration,
    #[serde(default)]
    by: Option<Assertion>,
    #[serde(default)]
    code: Option<String>,
}

/// `POST /api/factors/remove`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    key: Bytes,
}

/// `POST /api/factors/challenge`: what is about to be said, and what was shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    say: Say,
    shown: String,
}

/// `GET /api/factors` on the console: the caller's own; root sees all.
///
/// # Errors
/// An answer where nobody is logged in.
pub async fn own(
    State(services): State<Arc<Services>>,
    Extension(session): Extension<Arc<Session>>,
) -> Result<Json<Vec<Seen>>, Answer> {
    let login = login(&session.visitor);
    let whose = Some(&login.owner).filter(|owner| **owner != Owner::Root);
    let keys = services.factors.of(whose);
    Ok(Json(keys.iter().map(|key| seen(key)).collect()))
}

/// `POST /api/factors/begin` on the console: what a browser is told to make a key.
///
/// # Errors
/// An answer where there is no site that browsers make keys for, or the login is too old for a first key.
pub async fn begin(
    State(services): State<Arc<Services>>,
    Extension(session): Extension<Arc<Session>>,
) -> Result<Json<Value>, Answer> {
    let (login, site) = (login(&session.visitor), site(&services)?);
    let own = services.factors.of(Some(&login.owner));
    if own.is_empty() {
        is_fresh(&session)?;
    }
    let challenge = |purpose| services.factors.challenge(&login, purpose);
    let create = challenge(Purpose::Register).map_err(|error| answer(&error))?;
    let confirm = match own.is_empty() {
        true => None,
        false => Some(challenge(Purpose::Confirm).map_err(|error| answer(&error))?),
    };
    Ok(Json(json!({
        "party": site.party,
        "user": session.visitor.shown(),
        "challenge": create,
        "confirm": confirm,
        "keys": ids(&own),
    })))
}

/// `POST /api/factors/add` on the console.
///
/// # Errors
/// An answer where the key is not believed, or a first one is not vouched for, or the login is too old for it.
pub async fn add(
    State(services): State<Arc<Services>>,
    Extension(session): Extension<Arc<Session>>,
    Extension(logins): Extension<Arc<Logins>>,
    caller: Known,
    Json(asked): Json<Add>,
) -> Result<Json<Seen>, Answer> {
    let site = site(&services)?;
    if asked.by.is_none() {
        is_fresh(&session)?;
    }
    // It goes on where the caller goes away: a code that is used has its key, or may be used again.
    let added = tokio::spawn(async move {
        let by = (&*session, &*logins);
        register(&services, by, &site, &caller, asked).await
    });
    let added = added.await.map_err(|error| Answer::failed(&error))?;
    added.map(|key| Json(seen(&key)))
}

async fn register(
    services: &Services,
    (session, logins): (&Session, &Logins),
    site: &Site,
    caller: &Known,
    asked: Add,
) -> Result<Arc<Key>, Answer> {
    let Add {
        name,
        key,
        by,
        code,
    } = asked;
    let detail = json!({ "add": key.id, "name": name });
    // No key is in force of which no line tells, and no code is used up by what cannot be written.
    let written = caller.write(services, "factor", "begun", detail.clone());
    written.map_err(|error| Answer::failed(&error))?;
    let used = match by {
        Some(_) => None,
        None => {
            let used = vouched(services, &logins.codes, &session.visitor, code.as_deref());
            used.inspect_err(|answer| {
                let detail = json!({ "add": key.id, "name": name, "error": answer.title() });
                caller.audit(services, "factor", "refused", detail);
            })?
        }
    };
    let login = login(&session.visitor);
    let factors = &services.factors;
    let added = factors.register((&login, site), &name, &key, by.as_ref());
    match added.await {
        Ok(key) => {
            caller.audit(services, "factor", "ok", detail);
            Ok(key)
        }
        Err(error) => {
            if let Some(used) = used {
                logins.codes.give_back(used);
            }
            Err(refused(services, caller, detail, &error))
        }
    }
}

/// Whether a person's first key takes a code.
#[must_use]
pub fn takes_code(services: &Services, visitor: &Visitor) -> bool {
    let config = services.config.load();
    let codes = config.console.as_ref().is_none_or(|one| one.codes);
    codes && matches!(visitor.who, As::Person(_))
}

/// The code that vouches for a first key, used; none where it takes none.
fn vouched(
    services: &Services,
    codes: &Codes,
    visitor: &Visitor,
    code: Option<&str>,
) -> Result<Option<Used>, Answer> {
    if !takes_code(services, visitor) {
        return Ok(None);
    }
    let used = code.and_then(|code| codes.take(&visitor.id(), code));
    let none = || {
        Answer::forbidden(&format!(
            "a first key takes the code that root of this host gives you, once: `interceptor console --enrol {}` prints one",
            visitor.id()
        ))
    };
    used.map(Some).ok_or_else(none)
}

/// `POST /api/factors/remove` on the console: for root.
///
/// # Errors
/// An answer where it is not root who asks, or there is no such key.
pub async fn remove(
    State(services): State<Arc<Services>>,
    Extension(session): Extension<Arc<Session>>,
    caller: Known,
    Json(which): Json<Which>,
) -> Result<Json<Seen>, Answer> {
    let detail = json!({ "remove": which.key });
    if login(&session.visitor).owner != Owner::Root {
        caller.audit(&services, "factor", "refused", detail);
        return Err(Answer::forbidden("keys are removed by root of the host"));
    }
    let written = caller.write(&services, "factor", "ok", detail);
    written.map_err(|error| Answer::failed(&error))?;
    let removed = services.factors.remove(&which.key).await;
    let removed = removed.map_err(|error| answer(&error))?;
    let removed = removed.ok_or_else(|| Answer::bad("no key of that name is registered"))?;
    Ok(Json(seen(&removed)))
}

/// `POST /api/factors/challenge` on the console: what a key signs for an answer.
///
/// # Errors
/// An answer where there is no such question, it has changed since it was shown, or the caller has no key.
pub async fn challenge(
    State(services): State<Arc<Services>>,
    Extension(session): Extension<Arc<Session>>,
    Json(about): Json<About>,
) -> Result<Json<Value>, Answer> {
    let (login, site) = (login(&session.visitor), site(&services)?);
    let standing = services.approvals.get(about.say.approval);
    let standing =
        standing.ok_or_else(|| Answer::bad("no question of that name is kept in mind"))?;
    if standing.shown() != about.shown {
        return Err(Answer::bad(
            "what is shown has changed meanwhile; look again, and answer then",
        ));
    }
    let own = services.factors.of(Some(&login.owner));
    if own.is_empty() {
        return Err(Answer::bad(
            "this takes a key, and you have none: register one under Second factor",
        ));
    }
    let purpose = purpose(&about.say, &standing)?;
    let challenge = services.factors.challenge(&login, purpose);
    let challenge = challenge.map_err(|error| answer(&error))?;
    Ok(Json(
        json!({ "party": site.party, "challenge": challenge, "keys": ids(&own) }),
    ))
}

/// The proof that came with an answer, where one did.
///
/// # Errors
/// An answer where it is not believed; the audit says why.
pub(super) async fn proved(
    services: &Arc<Services>,
    caller: &Known,
    say: &Say,
    standing: &Standing,
) -> Result<Option<Factor>, Answer> {
    let Some(proof) = &say.factor else {
        return Ok(None);
    };
    let Some(visitor) = caller.visitor() else {
        return Err(Answer::bad("keys are for people at the console"));
    };
    let (login, site) = (login(visitor), site(services)?);
    let purpose = purpose(say, standing)?;
    let proved = services.factors.prove((&login, &site), &purpose, proof);
    let proved = proved.await.map_err(|error| {
        let detail = json!({ "approval": say.approval, "key": proof.id });
        refused(services, caller, detail, &error)
    })?;
    Ok(Some(proved))
}

/// An answer with all that is said in it, to what is shown now.
fn purpose(say: &Say, standing: &Standing) -> Result<Purpose, Answer> {
    let said = Say {
        factor: None,
        ..say.clone()
    };
    let said = serde_json::to_vec(&said).map_err(|error| Answer::failed(&error))?;
    Ok(Purpose::Answer {
        approval: say.approval,
        said: hash(&said),
        shown: hash(standing.shown().as_bytes()),
    })
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn login(visitor: &Visitor) -> Login {
    let owner = match &visitor.who {
        As::Root(..) => Owner::Root,
        As::Person(person) => Owner::Person {
            issuer: person.identity.issuer.clone(),
            subject: person.identity.subject.clone(),
        },
    };
    Login {
        owner,
        login: visitor.login,
    }
}

fn site(services: &Services) -> Result<Site, Answer> {
    let config = services.config.load();
    let console = config.console.as_ref();
    let found = console.and_then(|console| {
        Some(Site {
            origin: console.origin(),
            party: console.name()?.to_owned(),
        })
    });
    found.ok_or_else(|| {
        Answer::bad("browsers take keys for names only: `console.url` says an address")
    })
}

fn is_fresh(session: &Session) -> Result<(), Answer> {
    let old = SESSION.saturating_sub(session.until.since(clock::boot()));
    match old <= FRESH {
        true => Ok(()),
        false => Err(Answer::forbidden(
            "a first key is registered within 10 minutes of a login; log in anew",
        )),
    }
}

fn ids(keys: &[Arc<Key>]) -> Vec<&Bytes> {
    keys.iter().map(|key| &key.id).collect()
}

fn seen(key: &Key) -> Seen {
    Seen {
        id: key.id.clone(),
        name: key.name.clone(),
        owner: key.owner.clone(),
        made: key.made,
        used: key.used,
    }
}

fn refused(services: &Services, caller: &Known, mut detail: Value, error: &Error) -> Answer {
    if let Value::Object(fields) = &mut detail {
        fields.insert("error".to_owned(), error.to_string().into());
    }
    caller.audit(services, "factor", "refused", detail);
    answer(error)
}

fn answer(error: &Error) -> Answer {
    match error {
        Error::State(_) | Error::Random => Answer::failed(error),
        other => Answer::forbidden(&other.to_string()),
    }
}
