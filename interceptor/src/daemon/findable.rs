//! Keeps sessions findable: the index of what was asked follows the audit log, behind all other work.
//!
//! Its thread gives way to whatever else wants the cores: nobody waits for the index, and who looks for something
//! takes what it lacks.

#![expect(unsafe_code, reason = "nobody wraps setpriority(2)")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::audit::Sequence;
use crate::audit::read::Entries;
use crate::search::{Error, Index};
use crate::session::services::Services;

/// How often new lines are taken.
const EVERY: Duration = Duration::from_secs(1);

/// How nice the thread is: it gets a thirtieth of a core that others want (`sched_prio_to_weight`,
/// kernel/sched/core.c), so that what it has locked is free again within seconds.
const NICE: libc::c_int = 15;

/// Follows the log until `stop`, on a thread of its own.
pub(super) async fn follow(services: Arc<Services>, stop: CancellationToken) {
    let (running, over) = oneshot::channel::<()>();
    let (runtime, until) = (Handle::current(), stop.clone());
    let started = std::thread::Builder::new()
        .name("index".to_owned())
        .spawn(move || {
            give_way();
            runtime.block_on(take(&services, &until));
            drop(running);
        });
    match started {
        // It never sends: the end is its end.
        Ok(_thread) => drop(over.await),
        Err(error) => {
            tracing::warn!(%error, "what was asked is not indexed: no thread");
            stop.cancelled().await;
        }
    }
}

/// Has the calling thread wait for others.
fn give_way() {
    // SAFETY: three numbers; 0 is the calling thread on Linux.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if done != 0 {
        let error = std::io::Error::last_os_error();
        tracing::warn!(%error, "the index of what was asked takes its share of the cores");
    }
}

/// Takes what comes, until `stop`.
async fn take(services: &Services, stop: &CancellationToken) {
    let state = services.config.load().paths.state.clone();
    let mut seen = Sequence(0);
    let mut following = None;
    loop {
        let grown = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            grown = services.audit.synced_past(seen) => grown,
        };
        if grown.is_err() {
            return stop.cancelled().await;
        }
        seen = services.audit.synced();
        if let Err(error) = catch_up(&state, &mut following) {
            tracing::warn!(%error, "the index of what was asked is behind");
            following = None;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Takes what is there, from where it was left. The file is opened anew: somebody may have made it anew.
fn catch_up(state: &Path, following: &mut Option<Entries>) -> Result<(), Error> {
    let mut index = Index::open(&state.join("search.db"))?;
    let entries = match following {
        Some(entries) => entries,
        None => following.insert(index.follow(&state.join("audit"))?),
    };
    index.take_from(entries).map(drop)
}
