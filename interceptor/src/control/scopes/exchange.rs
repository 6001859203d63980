//! Token exchange (RFC 8693): for a scope, somebody's token becomes one that means something in that scope only.
//!
//! An agent does it for itself, whoever may bind a scope for that one. It gives no more than it takes:
//! nothing is permitted by it, it says in whose name something is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde_json::Value;
use zeroize::Zeroizing;

use super::binding::{self, Place};
use super::scope as object;
use crate::audit::Sink as _;
use crate::audit::event::{Event, ScopeNamed};
use crate::capture;
use crate::clock;
use crate::control::Given;
use crate::control::api::{Exchanged, Which};
use crate::control::caller::{Answer, Known};
use crate::control::status::agent_of;
use crate::grants::Holder;
use crate::policy::{ControlVerb, Refusal};
use crate::secrets::Secret;
use crate::session::services::Services;
use crate::tokens::Error;
use crate::tokens::exchange::{DEFAULT, Mint};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// What a subject token may be called: each of them is a JWT here.
const SUBJECTS: [&str; 3] = [
    JWT,
    "urn:ietf:params:oauth:token-type:access_token",
    "urn:ietf:params:oauth:token-type:id_token",
];
/// Bytes of an audience.
const MAX_AUDIENCE: usize = 512;

/// What is asked for.
#[derive(Debug)]
struct Asked {
    subject: Zeroizing<String>,
    audience: Option<String>,
    time: Duration,
    /// On the control socket: the scope.
    cgroup: Option<String>,
    /// Whether the process that asks ends at once.
    passing: bool,
}

/// The key that tokens are signed with.
///
/// # Errors
/// Where none can be made.
pub(in crate::control) fn mint(services: &Services) -> Result<Mint, Error> {
    Mint::new(&services.authority.derive("token exchange", &[]))
}

/// `GET /v1/jwks` on the control socket: with which key the daemon's tokens are signed.
///
/// # Errors
/// An answer where there is none.
pub async fn keys(State(services): Given, _caller: Known) -> Result<Json<Value>, Answer> {
    let mint = mint(&services).map_err(|error| Answer::failed(&error))?;
    Ok(Json(mint.keys()))
}

/// `POST /v1/token` on `agent.sock`: for the caller's own process tree, as grants are.
///
/// # Errors
/// An answer where the caller is in no scope or in no tree, the request is not of the form, or the token is not
/// believed.
pub async fn own(
    State(services): Given,
    caller: Known,
    body: Bytes,
) -> Result<Json<Exchanged>, Answer> {
    let asked = asked(&body).map_err(|mistake| Answer::bad(&mistake))?;
    if asked.cgroup.is_some() {
        return Err(Answer::bad("an agent asks for its own scope"));
    }
    let (scope, principal) = agent_of(&services, &caller).await?;
    let holder = Holder::asking(&principal, scope.id, asked.passing);
    if holder.root.is_none() {
        return Err(Answer::refused(&Refusal::exchanged_for_trees()));
    }
    exchange(&services, &caller, &holder, asked).await
}

/// `POST /v1/token` on the control socket: for the scope that `cgroup` names.
///
/// # Errors
/// An answer where there is no such scope, policy refuses, or as for [`own`].
pub async fn for_scope(
    State(services): Given,
    caller: Known,
    body: Bytes,
) -> Result<Json<Exchanged>, Answer> {
    let asked = asked(&body).map_err(|mistake| Answer::bad(&mistake))?;
    let which = Which {
        cgroup: asked.cgroup.clone(),
        ..Which::default()
    };
    let scope: capture::Scope = binding::named(&services, &caller, &which).await?;
    let judged = object(&scope.agent, &scope.path);
    caller.may(&services, ControlVerb::Bind, &judged).await?;
    let holder = Holder {
        agent: scope.agent,
        scope: scope.id,
        cgroup: scope.path,
        root: None,
    };
    exchange(&services, &caller, &holder, asked).await
}

async fn exchange(
    services: &Arc<Services>,
    caller: &Known,
    holder: &Holder,
    asked: Asked,
) -> Result<Json<Exchanged>, Answer> {
    let to = Place {
        agent: &holder.agent,
        cgroup: &holder.cgroup,
    };
    exchanged(services, caller, holder, asked)
        .await
        .map(Json)
        .map_err(|error| {
            binding::refuse(services, caller, Some(to), ("exchange", &error));
            Answer::unbelieved()
        })
}

/// Verified, used for this scope, written, then given out.
async fn exchanged(
    services: &Services,
    caller: &Known,
    holder: &Holder,
    asked: Asked,
) -> Result<Exchanged, Error> {
    let mint = mint(services)?;
    let config = services.config.load_full();
    let subject = Secret::from(asked.subject.as_str());
    let verified = services.tokens.verify(&config.issuers, &subject).await?;
    let identity = &verified.identity;
    let audience = asked.audience.as_deref();
    let audience = audience.unwrap_or_else(|| mint.issuer());
    let mut issuers = config.issuers.values();
    let listed = issuers
        .find(|issuer| issuer.url.text == identity.issuer)
        .is_some_and(|issuer| issuer.exchange_for.iter().any(|one| one == audience));
    if audience != mint.issuer() && !listed {
        let said = audience.to_owned();
        return Err(Error::Audience { said });
    }
    let minted = mint.sign(identity, holder, audience, (asked.time, verified.until))?;
    let named = (identity.issuer.as_str(), verified.token.as_str());
    let (scope, ends) = (holder.scope, identity.expires);
    let bindings = &services.tokens.bindings;
    bindings.use_up(named, scope, ends, false).await?;
    let event = Event::TokenExchanged {
        caller: caller.named(),
        scope: ScopeNamed {
            agent: &holder.agent,
            cgroup: &holder.cgroup,
        },
        identity,
        subject: &verified.token,
        token: &minted.name,
        audience,
        expires: minted.expires,
    };
    let written = services.audit.append_durable(&event).await;
    written.map_err(|error| Error::Store(error.to_string()))?;
    Ok(Exchanged {
        access_token: minted.token,
        issued_token_type: JWT.to_owned(),
        token_type: "N_A".to_owned(),
        expires_in: minted.good_for.as_secs(),
    })
}

/// A request as RFC 8693 section 2.1 has it; what it does not know is left aside (RFC 6749 section 3.2).
fn asked(body: &[u8]) -> Result<Asked, String> {
    let mut said = form(body)?;
    let mut take = |name: &str| said.remove(name).map(|text| text.to_string());
    let mut must = |name: &str, one_of: &[&str]| match take(name) {
        Some(said) if one_of.contains(&said.as_str()) => Ok(()),
        _ => Err(format!("{name} must be {}", one_of.join(" or "))),
    };
    must("grant_type", &[GRANT_TYPE])?;
    must("subject_token_type", &SUBJECTS)?;
    for not_taken in ["actor_token", "actor_token_type", "resource"] {
        if take(not_taken).is_some() {
            return Err(format!("{not_taken} is not taken: the actor is the scope"));
        }
    }
    if take("requested_token_type").is_some_and(|said| said != JWT) {
        return Err(format!("requested_token_type must be {JWT}"));
    }
    let audience = take("audience");
    let is_wrong = |text: &String| {
        text.is_empty() || text.len() > MAX_AUDIENCE || text.chars().any(char::is_control)
    };
    if audience.as_ref().is_some_and(is_wrong) {
        return Err(format!(
            "audience is 1 to {MAX_AUDIENCE} bytes of text in one line"
        ));
    }
    let time = take("lifetime").map_or(Ok(DEFAULT), |text| clock::duration(&text))?;
    let cgroup = take("cgroup");
    let passing = match take("passing").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err("passing is true or false".to_owned()),
    };
    let subject = said.remove("subject_token");
    Ok(Asked {
        subject: subject.ok_or("subject_token is missing")?,
        audience,
        time,
        cgroup,
        passing,
    })
}

/// `application/x-www-form-urlencoded`; a name that stands twice is refused (RFC 6749 section 3.2).
fn form(body: &[u8]) -> Result<BTreeMap<String, Zeroizing<String>>, String> {
    let mut said = BTreeMap::new();
    for pair in body
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
    {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let mut part = || decoded(parts.next().unwrap_or_default());
        let (name, value) = (part()?, part()?);
        if said.insert(name.to_string(), value).is_some() {
            return Err(format!("{} is said twice", name.escape_debug()));
        }
    }
    Ok(said)
}

fn decoded(text: &[u8]) -> Result<Zeroizing<String>, String> {
    const WRONG: &str = "the request is no form";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = char::from(rest.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                let (high, low) = digit().zip(digit()).ok_or(WRONG)?;
                (high << 4) | low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes)
        .map(Zeroizing::new)
        .map_err(|_not_text| WRONG.to_owned())
}

#[cfg(test)]
mod tests;
