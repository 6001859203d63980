//! Stopping: no new connections, sessions get time to finish, then they are ended; pins stay.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::session::EndReason;
use crate::session::services::Services;

/// Drains: after this no connection is open, and every session's last line is written.
pub(super) async fn drain(services: &Arc<Services>, stop: &CancellationToken, tasks: &TaskTracker) {
    if let Err(error) = services.capture.leave() {
        tracing::warn!(%error, "cannot tell the kernel that the daemon stops");
    }
    stop.cancel();
    tasks.close();
    let patience = services.config.load().drain;
    if tokio::time::timeout(patience, tasks.wait()).await.is_ok() {
        return;
    }
    let ended = services.registry.end(EndReason::Drain, |_| true);
    tracing::info!(ended, "sessions were ended: they did not finish in time");
    // Each writes its last line and closes; what still hangs then is a defect, and must not hang the stop.
    if tokio::time::timeout(patience, tasks.wait()).await.is_err() {
        tracing::error!(left = tasks.len(), "connections did not end when told to");
    }
}
