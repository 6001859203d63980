//! Logging in and out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::guard::Site;
use crate::control::Shared;
use crate::control::access::factors;
use crate::control::caller::guest::Guest;
use crate::control::caller::logins::{self, Keys, Logins, Session};
use crate::control::caller::{Answer, Known, Visitor};

/// `POST /login/link`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByLink {
    link: String,
}

/// `POST /login/done`: what an issuer sent somebody back with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    code: String,
    state: String,
    #[serde(default)]
    iss: Option<String>,
}

/// Where somebody logs in, and what the page compares when they come back.
#[derive(Serialize)]
pub(super) struct Begun {
    location: String,
    state: String,
}

/// `GET /login/ways`: how people log in.
pub(super) async fn ways(Extension(site): Extension<Arc<Site>>) -> Json<Value> {
    Json(json!({ "issuer": site.issuer }))
}

/// `POST /login/link`: root, by a link that was printed.
///
/// # Errors
/// An answer where there is no such link, or too many have tried.
pub(super) async fn by_link(
    State(services): State<Shared>,
    Extension(site): Extension<Arc<Site>>,
    Extension(logins): Extension<Arc<Logins>>,
    Extension(guest): Extension<Guest>,
    Json(asked): Json<ByLink>,
) -> Result<Response, Answer> {
    // A link cannot be guessed: who has one waits for nobody's tries.
    let Some(visitor) = logins.open(&asked.link) else {
        may_try(&logins, guest)?;
        tracing::warn!("somebody came to the console with a link that opens nothing");
        return Err(Answer::forbidden(
            "this link was used already, or its time is over: `interceptor console` prints another",
        ));
    };
    entered(&services, &site, &logins, visitor)
}

/// `POST /login/begin`: where people log in by the issuer.
///
/// # Errors
/// An answer where there is none, it does not answer, or too many have tried.
pub(super) async fn begin(
    State(services): State<Shared>,
    Extension(site): Extension<Arc<Site>>,
    Extension(logins): Extension<Arc<Logins>>,
    Extension(guest): Extension<Guest>,
) -> Result<Json<Begun>, Answer> {
    may_try(&logins, guest)?;
    let name = issuer(&site)?;
    let begun = logins::begin(&services, name, &site.back()).await?;
    let (location, state) = begun;
    Ok(Json(Begun { location, state }))
}

/// `POST /login/done`: who came back from the issuer.
///
/// # Errors
/// An answer, which does not say why they are not believed.
pub(super) async fn done(
    State(services): State<Shared>,
    Extension(site): Extension<Arc<Site>>,
    Extension(logins): Extension<Arc<Logins>>,
    Extension(guest): Extension<Guest>,
    Json(asked): Json<Done>,
) -> Result<Response, Answer> {
    may_try(&logins, guest)?;
    let name = issuer(&site)?;
    let said = (
        asked.state.as_str(),
        asked.code.as_str(),
        asked.iss.as_deref(),
    );
    let visitor = logins::done(&services, name, said).await?;
    entered(&services, &site, &logins, visitor)
}

/// `GET /api/me`: who is logged in.
pub(super) async fn me(
    State(services): State<Shared>,
    Extension(session): Extension<Arc<Session>>,
) -> Json<Value> {
    let visitor = &session.visitor;
    Json(json!({
        "name": visitor.shown(),
        "id": visitor.id(),
        "seconds": session.seconds(),
        "code": factors::takes_code(&services, visitor),
    }))
}

/// `POST /api/logout`.
pub(super) async fn leave(
    State(services): State<Shared>,
    Extension(site): Extension<Arc<Site>>,
    Extension(logins): Extension<Arc<Logins>>,
    Extension(session): Extension<Arc<Session>>,
    caller: Known,
) -> Response {
    logins.leave(&session);
    caller.audit(&services, "logout", "ok", json!({}));
    ([(SET_COOKIE, site.set(""))], Json(json!({}))).into_response()
}

fn may_try(logins: &Logins, guest: Guest) -> Result<(), Answer> {
    let may = logins.may_try(guest);
    may.then_some(()).ok_or_else(Answer::too_often)
}

fn issuer(site: &Site) -> Result<&str, Answer> {
    let none = || Answer::bad("nobody logs in by an issuer here");
    site.issuer.as_deref().ok_or_else(none)
}

/// Nobody is let in who is not written down first.
fn entered(
    services: &Shared,
    site: &Site,
    logins: &Logins,
    visitor: Visitor,
) -> Result<Response, Answer> {
    let caller = Known::visiting(visitor.clone());
    let written = caller.write(services, "login", "ok", json!({}));
    written.map_err(|error| Answer::failed(&error))?;
    let keys = logins.enter(visitor);
    let Keys { cookie, token } = keys.map_err(|error| Answer::failed(&error))?;
    let answer = Json(json!({ "token": token }));
    Ok(([(SET_COOKIE, site.set(&cookie))], answer).into_response())
}
