//! Stopping: no new connections, sessions get time to finish, then they are ended; pins stay.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::session::EndReason;
use crate::session::services::Services;

/// How long sessions that are told to end may take for it; what still hangs then is a defect, and must
/// not hang the stop.
const ENDING: Duration = Duration::from_secs(10);

/// How soon sessions are told to end that were not open yet when the others were.
const TELL_AGAIN: Duration = Duration::from_millis(500);

/// Drains: after this no connection is open, every session's last line is written, and its recording
/// is whole.
pub(super) async fn drain(services: &Arc<Services>, stop: &CancellationToken, tasks: &TaskTracker) {
    if let Err(error) = services.capture.leave() {
        tracing::warn!(%error, "cannot tell the kernel that the daemon stops");
    }
    stop.cancel();
    tasks.close();
    let patience = services.config.load().drain;
    if timeout(patience, tasks.wait()).await.is_err()
        && timeout(ENDING, end(services, tasks)).await.is_err()
    {
        tracing::error!(left = tasks.len(), "connections did not end when told to");
    }
    services.closings.close();
    if timeout(ENDING, services.closings.wait()).await.is_err() {
        let left = services.closings.len();
        tracing::error!(left, "recordings were not closed in time");
    }
}

/// Ends sessions until none is left.
async fn end(services: &Services, tasks: &TaskTracker) {
    let left = services.registry.count();
    tracing::info!(left, "sessions did not finish in time; they are ended");
    loop {
        services.registry.end(EndReason::Drain, |_| true);
        if timeout(TELL_AGAIN, tasks.wait()).await.is_ok() {
            return;
        }
    }
}
