//! Metrics over TCP, where an address is configured. Scopes cannot reach it: no rule covers it.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control::status;
use crate::session::services::Services;

/// Serves `/metrics` until `stop`, if an address is configured.
pub(super) async fn serve(services: &Arc<Services>, stop: CancellationToken) -> anyhow::Result<()> {
    let Some(address) = services.config.load().metrics else {
        return Ok(());
    };
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address} for metrics"))?;
    let answer =
        |State(services): State<Arc<Services>>| async move { status::exposition(&services) };
    let router = Router::new()
        .route("/metrics", get(answer))
        .with_state(Arc::clone(services));
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the metrics listener ended");
        }
    });
    Ok(())
}
