//! Metrics over TCP, where an address is configured. Scopes cannot reach it: no rule covers it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control::status;
use crate::session::services::Services;

/// Binds the address, if one is configured.
pub(super) async fn listen(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| {
        format!("cannot listen on {address} for metrics; is the port of `metrics` taken?")
    })?;
    Ok(Some(listener))
}

/// Serves `/metrics` until `stop`.
pub(super) async fn serve(services: Arc<Services>, listener: TcpListener, stop: CancellationToken) {
    let answer =
        |State(services): State<Arc<Services>>| async move { status::exposition(&services) };
    let router = Router::new()
        .route("/metrics", get(answer))
        .with_state(services);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the metrics listener ended");
    }
}
