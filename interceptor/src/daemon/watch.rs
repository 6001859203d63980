//! What the daemon does by the clock: resolving names, telling systemd that it lives.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::control::apply;
use crate::protocol::Engines;
use crate::session::services::Services;
use crate::targets::Targets;

/// Resolves the targets' names every `period`, and when somebody wants it; writes the kernel's rules where an
/// address changed.
pub(super) async fn resolve(services: Arc<Services>, stop: CancellationToken, period: Duration) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = services.anew.wanted() => {}
            () = stop.cancelled() => return,
        }
        let _alone = services.replacing.lock().await;
        let before = services.targets.load_full();
        let now = Targets::resolve(&services.config.load(), &before).await;
        if now != *before {
            for way in now.ways_around(&services.config.load()) {
                tracing::error!("{way}");
            }
            services.targets.store(Arc::new(now));
            if let Err(error) = apply::rules(&services) {
                tracing::error!(%error, "cannot write the kernel's rules after an address changed");
            }
        }
        services.anew.done();
    }
}

/// Has the engines forget, at each reload, what they keep of the configuration before, and keep
/// nothing any more once the daemon stops.
pub(super) async fn reloads(
    mut reloads: watch::Receiver<u64>,
    engines: Arc<Engines>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            changed = reloads.changed() => match changed {
                Ok(()) => engines.forget(),
                Err(_gone) => return engines.close(),
            },
            () = stop.cancelled() => return engines.close(),
        }
    }
}

/// How often state that is over is looked through.
const PRUNES: Duration = Duration::from_hours(1);

/// Forgets grants, questions and tokens that are over, and old or more than are kept.
pub(super) async fn prune(services: Arc<Services>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PRUNES) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = services.grants.prune().await {
            tracing::warn!(%error, "cannot forget grants that are over");
        }
        if let Err(error) = services.approvals.prune().await {
            tracing::warn!(%error, "cannot forget questions that are over");
        }
        if let Err(error) = services.tokens.bindings.prune().await {
            tracing::warn!(%error, "cannot forget tokens that are over");
        }
    }
}

/// Feeds systemd's watchdog at half its period, where there is one.
pub(super) async fn dog(stop: CancellationToken) {
    let mut period = 0;
    if !sd_notify::watchdog_enabled(false, &mut period) {
        return;
    }
    let half = Duration::from_micros(period / 2);
    loop {
        tokio::select! {
            () = tokio::time::sleep(half) => notify(NotifyState::Watchdog),
            () = stop.cancelled() => return,
        }
    }
}

/// Tells systemd; without systemd it tells nobody.
pub(super) fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// Tells systemd that a reload began (with `Type=notify-reload` it wants the monotonic time as well).
pub(super) fn reloading() {
    let micros = u64::try_from(clock::monotonic().as_micros()).unwrap_or(u64::MAX);
    let since = format!("MONOTONIC_USEC={micros}");
    if let Err(error) = sd_notify::notify(
        false,
        &[NotifyState::Reloading, NotifyState::Custom(&since)],
    ) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
