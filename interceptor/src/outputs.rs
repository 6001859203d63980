//! Out to others: lines of the audit log to files, collectors and receivers, at least once each.
//!
//! The log itself is the spool. Each output has a cursor on disk, which moves when the other side has taken
//! a batch; until then the same is sent again, later each time. Nothing here is waited for by a request:
//! an output that lags is seen in the metrics and in the status, and catches up. Only lines that are on
//! disk are sent, so that none is told that a crash could take back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::lane::Lane;
use crate::audit::{self, Sequence};
use crate::config::Output;
use crate::secrets::Secrets;

mod http;
mod lane;
pub mod ocsf;
mod otlp;
mod signed;
mod syslog;
#[cfg(test)]
mod tests;
mod write;

/// How one output is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last line that the other side has.
    pub sent: u64,
    /// Lines that it took since the daemon started.
    pub lines: u64,
    /// Attempts that failed since then.
    pub failures: u64,
    /// Why the last attempt failed; absent where it did not.
    pub failing: Option<String>,
}

/// How all of them are doing.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, Standing>>>);

impl Board {
    /// Each by its name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Standing> {
        self.lock().clone()
    }

    fn note(&self, name: &str, change: impl FnOnce(&mut Standing)) {
        change(self.lock().entry(name.to_owned()).or_default());
    }

    /// What it guards is whole after each statement: a panic elsewhere leaves nothing torn.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What outputs read from, and where they keep how far they are.
#[derive(Clone, Debug)]
pub struct From {
    /// The log.
    pub log: Arc<audit::Log>,
    /// Its directory.
    pub dir: PathBuf,
    /// The directory of the cursors.
    pub cursors: PathBuf,
}

impl From {
    /// Below a state directory.
    #[must_use]
    pub fn below(state: &Path, log: &Arc<audit::Log>) -> Self {
        Self {
            log: Arc::clone(log),
            dir: state.join("audit"),
            cursors: state.join("outputs"),
        }
    }
}

/// Sends to one output until `stop`.
pub async fn run(
    (name, output): (String, Output),
    from: From,
    secrets: Arc<Secrets>,
    (board, stop): (Board, CancellationToken),
) {
    let mut lane = match Lane::open(&name, output, from, secrets).await {
        Ok(lane) => lane,
        Err(error) => {
            tracing::error!(%error, output = %name, "an output of the audit cannot be used");
            board.note(&name, |standing| standing.failing = Some(error));
            stop.cancelled().await;
            return;
        }
    };
    board.note(&name, |standing| standing.sent = lane.sent());
    let mut patience = Patience::default();
    while !stop.is_cancelled() {
        let stepped = tokio::select! {
            stepped = lane.step() => stepped,
            () = stop.cancelled() => return,
        };
        match stepped {
            Ok(lines) => {
                patience = Patience::default();
                board.note(&name, |standing| {
                    standing.sent = lane.sent();
                    standing.lines += lines;
                    standing.failing = None;
                });
            }
            Err(error) => {
                tracing::warn!(%error, output = %name, "an output of the audit does not take lines; it is tried again");
                board.note(&name, |standing| {
                    standing.failures += 1;
                    standing.failing = Some(error);
                });
                let pause = patience.next();
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

/// How long it is waited after a failure: longer each time, up to a minute.
struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(Duration::from_millis(500))
    }
}

impl Patience {
    fn next(&mut self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        let pause = self.0;
        self.0 = pause.saturating_mul(2).min(LONGEST);
        pause
    }
}

/// A line on its way.
#[derive(Clone, Debug)]
struct Line {
    seq: u64,
    /// As it stands in the log.
    text: String,
}

/// How far the log is.
fn synced(log: &audit::Log) -> u64 {
    let Sequence(sequence) = log.synced();
    sequence
}
