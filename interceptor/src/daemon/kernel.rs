//! What the kernel tells on its own: refusals for the audit, namespaces that need listeners.

use std::future::poll_fn;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::task::Poll;

use anyhow::ensure;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::door::{Door, REST};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::capture::Event as Happened;
use crate::capture::{Denied, DenyReason, Events};
use crate::identity::pidfd;
use crate::session::services::{Provision, Services};

/// Doors that libraries knock at on their own, whatever the program wants, and do without: refusals of these
/// are counted and not written.
const QUIET_DOORS: [&str; 2] = [
    // The C library asks its name service cache for users, groups and hosts before it looks itself.
    "/var/run/nscd/socket",
    "/run/nscd/socket",
];

/// The reason that such a refusal is counted under.
const QUIET: &str = "quiet_door";

/// Whether a refusal says nothing of what the process is about.
fn is_quiet(denied: &Denied) -> bool {
    let door = denied.door.as_deref();
    denied.reason == DenyReason::Door && door.is_some_and(|door| QUIET_DOORS.contains(&door))
}

/// Writes the kernel's refusals to the audit until `stop`.
pub(super) async fn events(door: Door, mut events: Events) {
    let Door { services, stop, .. } = &door;
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
                let times = denied.folded.saturating_add(1);
                if is_quiet(&denied) {
                    services.metrics.kernel_denied(QUIET, times);
                    continue;
                }
                services.metrics.kernel_denied(denied.reason.word(), times);
                begin(&door, write(Arc::clone(services), denied, stop.clone())).await;
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

/// Begins at once, since the process that was refused is about to end and each turn of a scheduler is
/// time for it; goes on by itself, since a process can make who looks at it wait. No more of them are
/// under way than the kernel's limit lets through in the time that a look may take.
async fn begin(door: &Door, write: impl Future<Output = ()> + Send + 'static) {
    let mut write = Box::pin(write);
    let begun = poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
    if begun.is_pending() {
        door.tasks.spawn(write);
    }
}

/// Namespaces of one scope that are served at once: an ordinary user can make them by the thousand,
/// and there is one table for all scopes.
const OF_ONE_SCOPE: usize = 64;

/// Makes the listener pair that the namespace lacks: the client's next try finds it.
fn provision(door: &Door, denied: &Denied) {
    let pid = denied.process.tgid;
    let made = pidfd::open(pid)
        .map_err(anyhow::Error::from)
        .and_then(|process| listen(door, process.as_fd(), denied.scope));
    if let Err(error) = made {
        tracing::warn!(%error, pid, "cannot listen in a network namespace");
    }
}

/// Makes those that are asked for before anybody connects, until `stop`.
pub(super) async fn provisions(door: Door, mut asked: mpsc::Receiver<Provision>) {
    loop {
        let Provision {
            process,
            scope,
            done,
        } = tokio::select! {
            Some(asked) = asked.recv() => asked,
            () = door.stop.cancelled() => return,
        };
        let made = listen(&door, process.as_fd(), scope);
        // Whoever asked may have gone away.
        let _heard = done.send(made.map_err(|error| format!("{error:#}")));
    }
}

/// Listens in a process's network namespace, where nobody does yet.
fn listen(door: &Door, process: BorrowedFd<'_>, scope: u64) -> anyhow::Result<()> {
    // Those that nobody lives in are retired once a minute.
    ensure!(
        door.served(scope) < OF_ONE_SCOPE,
        "{OF_ONE_SCOPE} network namespaces of this scope are served already"
    );
    let listeners = door.services.capture.provision(process)?;
    listeners.map_or(Ok(()), |listeners| door.open(listeners, Some(scope)))
}

/// Writes a refusal, with who it was where that can still be shown, else with why it cannot.
async fn write(services: Arc<Services>, denied: Denied, stop: CancellationToken) {
    let scope = services.scopes.by_id(denied.scope);
    let agent = scope.as_ref().map(|scope| scope.agent.clone());
    let shown = match scope {
        Some(scope) => {
            let scope = services.scope_of(&scope);
            tokio::select! {
                shown = services.identity.of_refusal(&denied, &scope) => {
                    shown.map_err(|error| (error.reason(), error.to_string()))
                }
                () = stop.cancelled() => Err(("stopping", "the daemon is stopping".to_owned())),
            }
        }
        None => Err(("untagged", "its scope is not tagged any more".to_owned())),
    };
    let Ok(stamp) = stamp(&denied) else {
        return;
    };
    let (principal, (unproven, cause)) = match shown {
        Ok(principal) => (Some(principal), (None, None)),
        Err((word, cause)) => (None, (Some(word), Some(cause))),
    };
    append(
        &services,
        &Event::KernelDenied {
            agent: agent.as_deref(),
            denied: &stamp,
            principal: principal.as_deref(),
            unproven,
            cause,
        },
    );
}

/// What the kernel said of it.
fn stamp(denied: &Denied) -> serde_json::Result<Box<RawValue>> {
    let stamp = &denied.process;
    serde_json::value::to_raw_value(&json!({
        "reason": denied.reason,
        "protocol": denied.protocol,
        "destination": denied.destination,
        "door": denied.door,
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
    }))
}

fn append(services: &Services, event: &Event<'_>) {
    if let Err(error) = services.audit.append(event) {
        tracing::error!(%error, "cannot write a refusal of the kernel to the audit log");
    }
}
