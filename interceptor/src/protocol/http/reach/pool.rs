//! Connections to upstreams that nobody uses at the moment, for the next client of the same scope: its dial and its
//! handshake are spared. They never go from one scope to another, so that whoever may have left a server in a state
//! that it should not be in meets it himself; nor where the target, its address, how it is proved, or what is shown to
//! it have changed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Sender, Spoken};
use crate::clock::{self, BootTime};
use crate::config::{Host, Target};
use crate::tls;

/// How long one waits for its next client: less than most servers wait for their next request.
const IDLE: Duration = Duration::from_secs(15);
/// How old one may be when it is used again: who the server is was proved when it was dialled.
const AGE: Duration = Duration::from_secs(300);
/// How many wait in all, and how many of them for one scope at one target.
const MOST: usize = 256;
const MOST_EACH: usize = 16;
/// How long the rest of an answer may take, once nobody asks for anything any more.
const SETTLES: Duration = Duration::from_millis(500);

/// Which connections a client may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The target's name.
    pub(crate) target: String,
    /// The scope's number.
    pub(crate) scope: u64,
}

/// One that nobody uses.
pub(super) struct Kept {
    pub(super) key: Key,
    pub(super) target: Arc<Target>,
    pub(super) tls: Arc<tls::Upstream>,
    /// What was offered when it was dialled, and what came of it.
    pub(super) offered: Vec<Spoken>,
    pub(super) spoken: Spoken,
    /// As whom it was dialled, and where.
    pub(super) place: (Host, SocketAddr),
    pub(super) sender: Sender,
    since: BootTime,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut to = to.debug_struct("Kept");
        to.field("key", &self.key).field("place", &self.place);
        to.finish_non_exhaustive()
    }
}

impl Kept {
    /// One that is used for the last time now.
    pub(super) fn new(
        (key, target, tls): (Key, Arc<Target>, Arc<tls::Upstream>),
        offered: Vec<Spoken>,
        (sender, spoken, place): (Sender, Spoken, (Host, SocketAddr)),
    ) -> Self {
        Self {
            key,
            target,
            tls,
            offered,
            spoken,
            place,
            sender,
            since: clock::boot(),
        }
    }

    fn is_fresh(&self, now: BootTime) -> bool {
        now.since(self.since) < IDLE && now.since(self.sender.life.made) < AGE
    }
}

/// All of them, the one that has waited longest first.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<VecDeque<Kept>>);

impl Pool {
    /// Gives up all.
    pub(crate) fn forget(&self) {
        self.idle().clear();
    }

    /// Takes the one that was used last of those that fit.
    pub(super) fn take(&self, fits: impl Fn(&Kept) -> bool) -> Option<Kept> {
        let now = clock::boot();
        let mut idle = self.idle();
        idle.retain(|kept| kept.is_fresh(now) && kept.sender.is_idle());
        let at = idle.iter().rposition(fits)?;
        idle.remove(at)
    }

    /// Keeps one for the next, as soon as nothing is under way on it any more.
    pub(super) fn keep(self: &Arc<Self>, kept: Kept) {
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            if timeout(SETTLES, kept.sender.settles()).await != Ok(true) {
                return;
            }
            match pool.upgrade() {
                Some(pool) => pool.put(kept),
                None => return,
            }
            sleep(IDLE).await;
            if let Some(pool) = pool.upgrade() {
                pool.sweep();
            }
        });
    }

    fn put(&self, kept: Kept) {
        let now = clock::boot();
        if now.since(kept.sender.life.made) >= AGE {
            return;
        }
        let mut idle = self.idle();
        let same = |other: &&Kept| other.key == kept.key;
        if idle.iter().filter(same).count() >= MOST_EACH
            && let Some(oldest) = idle.iter().position(|other| other.key == kept.key)
        {
            drop(idle.remove(oldest));
        }
        if idle.len() >= MOST {
            drop(idle.pop_front());
        }
        idle.push_back(Kept { since: now, ..kept });
    }

    /// Closes what has waited for too long, and lets go of what its server has closed.
    fn sweep(&self) {
        let now = clock::boot();
        self.idle()
            .retain(|kept| kept.is_fresh(now) && kept.sender.is_idle());
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
