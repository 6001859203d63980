//! Patience: how long a statement may run, and how long a transaction may wait for its next one.
//!
//! Looks at the ledger whenever the session's task is awake for something else, and sleeps to the deadline
//! otherwise: nobody tells it anything, and while nothing is timed it costs nothing. Polled last, behind
//! both halves of the loop. A statement is cancelled upstream first; only a server that does not obey costs
//! the session.

pub(super) mod own;

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::ledger::Waits;
use super::{Errand, Shared};
use crate::config::Timeouts;
use crate::session::{EndReason, Gate};

/// How long a server that was asked to cancel may still go on.
const OBEYS: Duration = Duration::from_secs(5);

/// What a target's sessions wait for, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the answer to one message.
    pub statement: Option<Duration>,
    /// For the next message where a transaction is open, a pipeline without `Sync` among them.
    pub idle_in_transaction: Option<Duration>,
    /// For a server that was asked to cancel a statement.
    pub obeys: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            statement: None,
            idle_in_transaction: None,
            obeys: OBEYS,
        }
    }
}

impl From<&Timeouts> for Patience {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            statement: timeouts.statement,
            idle_in_transaction: timeouts.idle_in_transaction,
            ..Self::default()
        }
    }
}

impl Patience {
    fn with(self, waits: Waits) -> Option<Duration> {
        match waits {
            Waits::Nobody => None,
            Waits::Server(_) => self.statement,
            Waits::Client(_) => self.idle_in_transaction,
        }
    }
}

/// Cancels what runs too long; says why the session must end, where it must.
pub(super) async fn watch<G: Gate>(
    shared: &Shared<G>,
    patience: Patience,
    cancel: &Errand,
) -> EndReason {
    if patience.statement.is_none() && patience.idle_in_transaction.is_none() {
        return pending().await;
    }
    let mut sleep = None;
    loop {
        let too_long = expired(shared, &mut sleep, |waits| patience.with(waits)).await;
        let number = match too_long {
            Waits::Server(number) => number,
            Waits::Client(_) => return EndReason::IdleInTransaction,
            Waits::Nobody => continue,
        };
        // A request that is forwarded meanwhile could be cancelled in place of this one.
        let late = {
            let mut ledger = shared.ledger();
            ledger.hold(true);
            ledger.waits() == Waits::Server(number)
        };
        if late {
            cancel().await;
        }
        shared.ledger().hold(false);
        shared.answered.notify_one();
        let obeys = |waits| match waits {
            Waits::Server(other) if other == number => Some(patience.obeys),
            _ => Some(Duration::ZERO),
        };
        if expired(shared, &mut sleep, obeys).await == Waits::Server(number) {
            return EndReason::Statement;
        }
    }
}

/// Cancels what has given all that it may; says why the session must end, where it must.
pub(super) async fn cut<G: Gate>(
    shared: &Shared<G>,
    obeys: Duration,
    cancel: &Errand,
) -> EndReason {
    loop {
        shared.cut.notified().await;
        let Some(number) = shared.ledger().cuts() else {
            shared.ledger().cancelled();
            shared.answered.notify_one();
            continue;
        };
        cancel().await;
        shared.ledger().cancelled();
        shared.answered.notify_one();
        // Asked whenever the session's task is awake for something else.
        let obeyed = poll_fn(|_| match shared.ledger().is_cut(number) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        });
        if timeout(obeys, obeyed).await.is_err() {
            return EndReason::Limit;
        }
    }
}

/// Hears the client's cancels.
pub(super) async fn hear<G: Gate>(shared: &Shared<G>) -> Infallible {
    loop {
        shared.interrupted.notified().await;
        shared.ledger().interrupt();
    }
}

/// Whom the session waits for, and since when.
#[derive(Debug)]
struct Watch {
    waits: Waits,
    since: Instant,
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self {
            waits: Waits::Nobody,
            since: now,
        }
    }

    /// When what is waited has been waited for too long; `None` where it may take any time.
    fn due(
        &mut self,
        waits: Waits,
        now: Instant,
        limit: impl Fn(Waits) -> Option<Duration>,
    ) -> Option<Instant> {
        if waits != self.waits {
            self.waits = waits;
            self.since = now;
        }
        limit(waits).map(|limit| self.since.checked_add(limit).unwrap_or(self.since))
    }
}

/// What has been waited for longer than `limit` allows, from now on.
async fn expired<G: Gate>(
    shared: &Shared<G>,
    sleep: &mut Option<Pin<Box<Sleep>>>,
    limit: impl Fn(Waits) -> Option<Duration>,
) -> Waits {
    let mut watch = Watch::new(Instant::now());
    poll_fn(|context| {
        let waits = shared.ledger().waits();
        match watch.due(waits, Instant::now(), &limit) {
            Some(due) => poll_until(sleep, due, context).map(|()| waits),
            None => Poll::Pending,
        }
    })
    .await
}

/// The sleep is made when it is first needed, and set anew only once it is over or too late: a deadline
/// that moves with each statement moves no timer.
fn poll_until(
    sleep: &mut Option<Pin<Box<Sleep>>>,
    due: Instant,
    context: &mut Context<'_>,
) -> Poll<()> {
    let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
    if sleep.deadline() > due {
        sleep.as_mut().reset(due);
    }
    while sleep.as_mut().poll(context).is_ready() {
        if sleep.deadline() == due {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(due);
    }
    Poll::Pending
}

#[cfg(test)]
mod tests;
