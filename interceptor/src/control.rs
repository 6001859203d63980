//! What an operator can do: HTTP/JSON on two sockets, the caller known by its kernel credentials.
//!
//! `control.sock` refuses every caller inside a scope; `agent.sock` answers agents about themselves.
//! Every verb is judged by policy on caller and agent, and is audited. The CLI is a client.

pub mod access;
pub mod agents;
pub mod api;
pub mod apply;
pub mod caller;
pub mod door;
pub mod records;
pub mod scopes;
pub mod status;
pub mod why;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use thiserror::Error;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use self::access::{approvals, delegating, grants};
use self::caller::logins::{self, Logins};
use self::caller::{Peer, codes};
use self::door::Door;
use self::records::search;
use crate::session::services::Services;

/// Bytes of a request for a grant.
const MAX_REQUEST: usize = 48 << 10;

/// Bytes of a question which rule decides, whose statement is escaped in it.
const MAX_WHY: usize = 160 << 10;

/// Bytes of a request for an exchange, which has a token.
const MAX_EXCHANGE: usize = 64 << 10;

/// What can go wrong with a control socket.
#[derive(Debug, Error)]
pub enum Error {
    /// The socket's file cannot be made.
    #[error("cannot listen on {path}: {source}; is another daemon running?")]
    Listen {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What every handler is given.
pub type Given = axum::extract::State<Shared>;

/// The parts of the daemon.
pub type Shared = Arc<Services>;

/// Opens both sockets below `run`. Files of a daemon that is gone are replaced.
///
/// # Errors
/// [`Error::Listen`] where a socket cannot be made, or another daemon answers on it.
pub fn listen(run: &Path) -> Result<[UnixListener; 2], Error> {
    Ok([
        socket(&run.join("control.sock"))?,
        socket(&run.join("agent.sock"))?,
    ])
}

/// The socket below `run` that whoever dials a target's UNIX socket is led to.
pub const TARGETS: &str = "targets.sock";

/// Opens it. Who dials it without having been led there is refused: the kernel has no record of it.
///
/// # Errors
/// As [`listen`].
pub fn listen_for_targets(run: &Path) -> Result<UnixListener, Error> {
    socket(&run.join(TARGETS))
}

/// Serves both sockets until `stop`.
pub async fn serve(
    services: Arc<Services>,
    listeners: [UnixListener; 2],
    logins: Arc<Logins>,
    stop: CancellationToken,
) {
    let [control, agent] = listeners.map(|listener| Door::new(listener, Arc::clone(&services)));
    let control_router = control_routes(Arc::clone(&services))
        .layer(Extension(logins))
        .layer(map_response(one_request));
    let agent_router = agent_routes()
        .with_state(services)
        .layer(map_response(one_request));
    let one = axum::serve(
        control,
        control_router.into_make_service_with_connect_info::<Peer>(),
    )
    .with_graceful_shutdown(stop.clone().cancelled_owned());
    let two = axum::serve(
        agent,
        agent_router.into_make_service_with_connect_info::<Peer>(),
    )
    .with_graceful_shutdown(stop.cancelled_owned());
    let (one, two) = tokio::join!(one.into_future(), two.into_future());
    for ended in [one, two] {
        if let Err(error) = ended {
            tracing::error!(%error, "a control socket ended");
        }
    }
}

/// One request a connection, so that the door's bound on visits is one on requests.
async fn one_request(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn control_routes(services: Arc<Services>) -> Router {
    let outside =
        axum::middleware::from_fn_with_state(Arc::clone(&services), caller::outside_scopes);
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/metrics", get(status::metrics))
        .route("/v1/scopes/tag", post(scopes::tag))
        .route("/v1/scopes/contain", post(scopes::container::contain))
        .route("/v1/scopes/untag", post(scopes::untag))
        .route("/v1/scopes/bind", post(scopes::binding::bind_scope))
        .route("/v1/scopes/unbind", post(scopes::binding::unbind))
        .route("/v1/token", post(scopes::exchange::for_scope))
        .route("/v1/jwks", get(scopes::exchange::keys))
        .route("/v1/login", post(scopes::binding::begin))
        .route("/v1/login/wait", post(scopes::binding::wait))
        .route("/v1/run", post(scopes::placing::run))
        .route("/v1/reload", post(apply::handle))
        .route("/v1/agents/freeze", post(agents::freeze))
        .route("/v1/agents/thaw", post(agents::thaw))
        .route("/v1/agents/kill", post(agents::kill))
        .route("/v1/console", post(logins::link))
        .route("/v1/console/enrol", post(codes::enrol))
        .route("/v1/grants", get(grants::all))
        .route("/v1/grants/revoke", post(grants::revoke))
        .route("/v1/approvals", get(approvals::all))
        .route("/v1/approvals/show", post(approvals::show))
        .route("/v1/approvals/answer", post(approvals::answer))
        .route("/v1/approvals/revoke", post(approvals::revoke))
        .route("/v1/approvals/delegate", post(delegating::delegate))
        .route("/v1/approvals/delegations", get(delegating::all))
        .route("/v1/approvals/undelegate", post(delegating::undelegate))
        .route("/v1/records", get(records::place))
        .route("/v1/records/read", post(records::read))
        .route("/v1/records/search", post(search::search))
        .route("/v1/sessions/hold", post(records::hold))
        .route("/v1/sessions/release", post(records::release))
        .route("/v1/sessions/kill", post(agents::end_session))
        .layer(outside)
        .with_state(services)
}

fn agent_routes() -> Router<Arc<Services>> {
    Router::new()
        .route("/v1/self", get(status::own))
        .route(
            "/v1/why",
            post(why::own).layer(DefaultBodyLimit::max(MAX_WHY)),
        )
        .route("/v1/login", post(scopes::binding::begin_own))
        .route("/v1/login/wait", post(scopes::binding::wait))
        .route("/v1/bind", post(scopes::binding::bind_own))
        .route(
            "/v1/token",
            post(scopes::exchange::own).layer(DefaultBodyLimit::max(MAX_EXCHANGE)),
        )
        .route("/v1/approvals", get(approvals::own))
        .route(
            "/v1/grants",
            get(grants::own)
                .post(grants::request)
                .layer(DefaultBodyLimit::max(MAX_REQUEST)),
        )
}

/// Anybody may connect; who it is decides what is answered.
fn socket(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Listen {
        path: path.to_owned(),
        source,
    };
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(failed(std::io::ErrorKind::AddrInUse.into())),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}
