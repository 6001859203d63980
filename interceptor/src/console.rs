//! The web page on which people see and answer what waits for them: a client of control, with a door of its own.
//!
//! Nobody is anybody here without a login; what somebody may do then is asked of policy, as on the control
//! socket, by the same handlers. Scopes cannot reach it: the kernel keeps its address from them.
//! Nothing is fetched from elsewhere, and no script stands in a page.

mod assets;
mod enter;
mod events;
mod guard;
mod serve;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use axum::{Extension, Router};
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::guard::Site;
use crate::control::access::{approvals, delegating, factors, grants, hook};
use crate::control::caller::logins::Logins;
use crate::control::records::{search, watch};
use crate::control::{Shared, agents, status};

/// Bytes of a request's body.
const MAX_BODY: usize = 64 << 10;
/// The same of what a chat says.
const MAX_HOOK: usize = 256 << 10;

/// Serves the console on `listener` until `stop`.
pub async fn serve(
    services: Shared,
    logins: Arc<Logins>,
    (listener, tls): (tokio::net::TcpListener, Option<Arc<ServerConfig>>),
    stop: CancellationToken,
) {
    let Some(site) = Site::of(&services) else {
        // Nobody listens where nothing is configured.
        return stop.cancelled().await;
    };
    let router = routes(services, &logins, &Arc::new(site));
    serve::serve(listener, tls.map(TlsAcceptor::from), router, stop).await;
}

fn routes(services: Shared, logins: &Arc<Logins>, site: &Arc<Site>) -> Router {
    let inside = Router::new()
        .route("/api/me", get(enter::me))
        .route("/api/logout", post(enter::leave))
        .route("/api/events", get(events::events))
        .route("/api/status", get(status::status))
        .route("/api/approvals", get(approvals::all))
        .route("/api/approvals/show", post(approvals::show))
        .route("/api/approvals/answer", post(approvals::answer))
        .route("/api/approvals/revoke", post(approvals::revoke))
        .route("/api/approvals/delegate", post(delegating::delegate))
        .route("/api/approvals/delegations", get(delegating::all))
        .route("/api/approvals/undelegate", post(delegating::undelegate))
        .route("/api/factors", get(factors::own))
        .route("/api/factors/begin", post(factors::begin))
        .route("/api/factors/add", post(factors::add))
        .route("/api/factors/remove", post(factors::remove))
        .route("/api/factors/challenge", post(factors::challenge))
        .route("/api/grants", get(grants::all))
        .route("/api/grants/revoke", post(grants::revoke))
        .route("/api/sessions/end", post(agents::end_session))
        .route("/api/agents/freeze", post(agents::freeze))
        .route("/api/agents/thaw", post(agents::thaw))
        .route("/api/agents/kill", post(agents::kill))
        .route("/api/sessions/watch", post(watch::watch))
        .route("/api/audit", post(search::search))
        .layer(from_fn_with_state(Arc::clone(&services), guard::logged_in));
    let outside = Router::new()
        .route("/login/link", post(enter::by_link))
        .route("/login/begin", post(enter::begin))
        .route("/login/done", post(enter::done).get(assets::page))
        .route("/login/ways", get(enter::ways));
    // A chat is no page: what it says is signed.
    let hooks = Router::new()
        .route("/hooks/slack", post(hook::slack))
        // A button brings the whole message along.
        .layer(DefaultBodyLimit::max(MAX_HOOK))
        .layer(from_fn(guard::host));
    assets::routes()
        .merge(outside)
        .merge(inside)
        .layer(from_fn(guard::guard))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .merge(hooks)
        .layer(Extension(Arc::clone(logins)))
        .layer(Extension(Arc::clone(site)))
        .with_state(services)
}
