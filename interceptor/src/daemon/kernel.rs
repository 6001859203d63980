//! What the kernel tells on its own: refusals for the audit, namespaces that need listeners.

use std::os::fd::AsFd as _;

use serde_json::json;

use super::door::{Door, REST};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::capture::Event as Happened;
use crate::capture::{Denied, DenyReason};
use crate::identity::pidfd;
use crate::session::services::Services;

/// Writes the kernel's refusals to the audit until `stop`.
pub(super) async fn events(door: Door) {
    let Door { services, stop, .. } = &door;
    let mut events = match services.capture.events() {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(%error, "cannot read the kernel's refusals");
            return;
        }
    };
    loop {
        let happened = tokio::select! {
            happened = events.next() => happened,
            () = stop.cancelled() => return,
        };
        match happened {
            Ok(Happened::Denied(denied)) => {
                if denied.reason == DenyReason::NetnsUnknown {
                    provision(&door, &denied);
                }
                write(services, &denied);
            }
            Ok(Happened::Lost(count)) => {
                services.metrics.kernel_lost(count);
                append(services, &Event::KernelLost { count });
            }
            Err(error) => {
                tracing::error!(%error, "cannot read a refusal of the kernel");
                // A fault that lasts, such as a full table of descriptors, must not keep a thread busy.
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Namespaces of one scope that are served at once: an ordinary user can make them by the thousand,
/// and there is one table for all scopes.
const OF_ONE_SCOPE: usize = 64;

/// Makes the listener pair that the namespace lacks: the client's next try finds it.
fn provision(door: &Door, denied: &Denied) {
    let pid = denied.process.tgid;
    if door.served(denied.scope) >= OF_ONE_SCOPE {
        // Those that nobody lives in are retired once a minute.
        tracing::warn!(
            pid,
            scope = denied.scope,
            most = OF_ONE_SCOPE,
            "cannot serve one more network namespace of this scope"
        );
        return;
    }
    let provisioned = pidfd::open(pid)
        .map_err(anyhow::Error::from)
        .and_then(|process| Ok(door.services.capture.provision(process.as_fd())?))
        .and_then(|listeners| {
            listeners.map_or(Ok(()), |listeners| door.open(listeners, Some(denied.scope)))
        });
    if let Err(error) = provisioned {
        tracing::warn!(%error, pid, "cannot listen in a network namespace");
    }
}

fn write(services: &Services, denied: &Denied) {
    let agent = services.scopes.by_id(denied.scope).map(|scope| scope.agent);
    let stamp = &denied.process;
    let detail = json!({
        "reason": denied.reason,
        "protocol": denied.protocol,
        "destination": denied.destination,
        "pid": stamp.tgid,
        "started": stamp.started,
        "uid": stamp.uid,
        "gid": stamp.gid,
        "comm": stamp.comm,
        "cgroup": stamp.cgroup,
        "scope": denied.scope,
        "netns": denied.netns.0,
        "at": denied.at,
        "folded": denied.folded,
    });
    let Ok(raw) = serde_json::value::to_raw_value(&detail) else {
        return;
    };
    services
        .metrics
        .kernel_denied(denied.reason.word(), denied.folded.saturating_add(1));
    append(
        services,
        &Event::KernelDenied {
            agent: agent.as_deref(),
            denied: &raw,
            principal: None,
        },
    );
}

fn append(services: &Services, event: &Event<'_>) {
    if let Err(error) = services.audit.append(event) {
        tracing::error!(%error, "cannot write a refusal of the kernel to the audit log");
    }
}
