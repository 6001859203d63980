//! Keeps sessions findable: the index of what was asked follows the audit log, behind all other work.
//!
//! Its thread gives way to whatever else wants the cores: nobody waits for the index, and who looks for something
//! takes what it lacks. To be nice is not enough for that: where tasks are grouped (by session, autogroup, or by
//! cgroup) that counts within its group alone. So it looks how long it had to wait for a core, and rests.

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

/// How many times as long as it ran the thread rests where others want the cores: it takes a twentieth of one.
const REST: u32 = 19;

/// The longest rest: the end of a load is soon seen.
const LONGEST: Duration = Duration::from_millis(500);

/// Finds out whether others want the cores.
struct Pace(Option<Ran>);

/// What the kernel says of a thread: how long it ran, and how long it could have run and had no core
/// (`/proc/thread-self/schedstat`, Documentation/scheduler/sched-stats.rst).
#[derive(Clone, Copy)]
struct Ran {
    ran: Duration,
    waited: Duration,
}

impl Ran {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        let mut next = || Some(Duration::from_nanos(numbers.next()?.ok()?));
        Some(Self {
            ran: next()?,
            waited: next()?,
        })
    }
}

impl Pace {
    fn begin() -> Self {
        Self(Ran::read())
    }

    /// How long to rest after what was done since the last time; nothing where the cores were free.
    fn rest(&mut self) -> Duration {
        let (before, now) = (self.0, Ran::read());
        self.0 = now;
        match before.zip(now) {
            Some((before, now)) => rest(
                now.ran.saturating_sub(before.ran),
                now.waited.saturating_sub(before.waited),
            ),
            None => Duration::ZERO,
        }
    }
}

/// How long to rest after `ran`, for which a core was `waited` for.
fn rest(ran: Duration, waited: Duration) -> Duration {
    match waited > ran / 10 {
        true => ran.saturating_mul(REST).min(LONGEST),
        false => Duration::ZERO,
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
        let caught_up = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            caught_up = catch_up(&state, &mut following) => caught_up,
        };
        if let Err(error) = caught_up {
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
async fn catch_up(state: &Path, following: &mut Option<Entries>) -> Result<(), Error> {
    let mut index = Index::open(&state.join("search.db"))?;
    let entries = match following {
        Some(entries) => entries,
        None => following.insert(index.follow(&state.join("audit"))?),
    };
    let mut pace = Pace::begin();
    while index.take_some(entries)? > 0 {
        tokio::time::sleep(pace.rest()).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_to_wait_for_a_core_leaves_it_to_others() {
        let ms = Duration::from_millis;
        assert_eq!(rest(ms(10), ms(0)), Duration::ZERO);
        assert_eq!(rest(ms(10), ms(1)), Duration::ZERO);
        assert_eq!(rest(ms(10), ms(5)), ms(190));
        assert_eq!(rest(ms(100), ms(50)), LONGEST);
        assert!(Ran::read().is_some(), "the kernel tells");
    }
}
