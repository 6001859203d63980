//! What the kernel tells on its own: refusals for the audit, namespaces that need listeners.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::door::{Door, REST};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::capture::Event as Happened;
use crate::capture::{Denied, DenyReason, Events, Folded, Like};
use crate::identity::pidfd;
use crate::session::services::{Provision, Services};

/// Doors that libraries knock at on their own, whatever the program wants, and do without: refusals of these
/// are counted and not written.
const QUIET_DOORS: [&str; 2] = [
    // The C library asks its name service cache for users, groups and hosts before it looks itself.
    "/var/run/nscd/socket",
    "/run/nscd/socket",
];

/// How long it is until refusals that could not be written are told of again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether a refusal says nothing of what the process is about.
fn is_quiet(denied: &Denied) -> bool {
    let door = denied.door.as_deref();
    denied.reason == DenyReason::Door && door.is_some_and(|door| QUIET_DOORS.contains(&door))
}

/// The same of a kind of refusals.
fn is_of_quiet_door(like: &Like) -> bool {
    like.reason == DenyReason::Door && QUIET_DOORS.iter().any(|door| like.is_of_door(door))
}

/// Writes the kernel's refusals to the audit until `stop`.
pub(super) async fn events(door: Door, mut events: Events) {
    let Door { services, stop, .. } = &door;
    let unwritten = Arc::new(AtomicU64::new(0));
    let mut again = tokio::time::interval(AGAIN);
    loop {
        let happened = tokio::select! {
            happened = events.next() => happened,
            _ = again.tick() => {
                tell_unwritten(services, &unwritten);
                continue;
            }
            () = stop.cancelled() => return,
        };
        match happened {
            Ok(Happened::Denied(denied)) => {
                if denied.reason == DenyReason::NetnsUnknown {
                    provision(&door, &denied);
                }
                if is_quiet(&denied) {
                    services.metrics.quiet_door(1);
                    continue;
                }
                let unwritten = Arc::clone(&unwritten);
                let services = Arc::clone(services);
                begin(&door, write(services, denied, unwritten, stop.clone())).await;
            }
            // What is not told in a line is told in one of the next second's.
            Ok(Happened::Folded(folded)) => tell_folded(services, &mut events, folded),
            Ok(Happened::Lost(count)) => {
                if append(services, &Event::KernelLost { count }) {
                    keep(events.told_lost(count));
                }
            }
            Err(error) => {
                tracing::error!(%error, "cannot read a refusal of the kernel");
                // A fault that lasts, such as a full table of descriptors, must not keep a thread busy.
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Tells of refusals whose own lines could not be written, on a full disk for example.
fn tell_unwritten(services: &Services, unwritten: &AtomicU64) {
    let count = unwritten.swap(0, Ordering::Relaxed);
    if count > 0 && !append(services, &Event::KernelLost { count }) {
        unwritten.fetch_add(count, Ordering::Relaxed);
    }
}

/// Refusals that become one line: those of one scope for one reason, however many addresses they were about.
#[derive(Default)]
struct Fold {
    kinds: Vec<Folded>,
    destinations: Vec<Option<SocketAddr>>,
    count: u64,
}

/// Writes what the kernel's rate limit folded, a line for each scope and reason.
fn tell_folded(services: &Services, events: &mut Events, folded: Vec<Folded>) {
    let mut folds: BTreeMap<Option<(u64, &'static str)>, Fold> = BTreeMap::new();
    let mut quiet = Vec::new();
    for folded in folded {
        let like = folded.like.as_ref();
        if like.is_some_and(is_of_quiet_door) {
            services.metrics.quiet_door(folded.count);
            quiet.push(folded);
            continue;
        }
        let of = like.map(|like| (like.scope, like.reason.word()));
        let destination = like.and_then(|like| like.destination);
        let fold = folds.entry(of).or_default();
        fold.count = fold.count.saturating_add(folded.count);
        if !fold.destinations.contains(&destination) && fold.destinations.len() < 2 {
            fold.destinations.push(destination);
        }
        fold.kinds.push(folded);
    }
    keep(events.told_folded(quiet.iter()));
    for (of, fold) in folds {
        let scope = of.map(|(scope, _)| scope);
        let agent = scope.and_then(|scope| services.scopes.by_id(scope));
        let destination = match fold.destinations.as_slice() {
            [only] => *only,
            _ => None,
        };
        let event = Event::KernelFolded {
            agent: agent.as_ref().map(|scope| scope.agent.as_str()),
            scope,
            reason: of.map(|(_, reason)| reason),
            destination,
            count: fold.count,
        };
        if append(services, &event) {
            keep(events.told_folded(fold.kinds.iter()));
        }
    }
}

/// That it was told is not kept: it is told again, which is better than never.
fn keep(told: Result<(), crate::capture::Error>) {
    if let Err(error) = told {
        tracing::error!(%error, "cannot keep in mind which refusals of the kernel are told");
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
async fn write(
    services: Arc<Services>,
    denied: Denied,
    unwritten: Arc<AtomicU64>,
    stop: CancellationToken,
) {
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
    let event = Event::KernelDenied {
        agent: agent.as_deref(),
        denied: &stamp,
        principal: principal.as_deref(),
        unproven,
        cause,
    };
    if !append(&services, &event) {
        unwritten.fetch_add(1, Ordering::Relaxed);
    }
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
    }))
}

/// Whether the line is in the log.
fn append(services: &Services, event: &Event<'_>) -> bool {
    let written = services.audit.append(event);
    if let Err(error) = &written {
        tracing::error!(%error, "cannot write a refusal of the kernel to the audit log");
    }
    written.is_ok()
}
