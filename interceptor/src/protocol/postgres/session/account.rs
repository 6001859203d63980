//! The account of one permitted request: open until its end is written, exactly once, come what may.

use std::sync::Arc;

use crate::clock::{self, BootTime};
use crate::masking::detect;
use crate::session::{Gate, Outcome, RequestId};

/// How a request ended that the server skipped, because one before it failed.
pub(super) const SKIPPED: &str = "skipped";
/// How a request ended whose answer had more than it may.
pub(super) const LIMITED: &str = "limited";
/// How a write ended that was done, and that nothing committed.
pub(super) const UNDONE: &str = "rolled back";
/// How a request ended whose answer never came.
const LOST: &str = "lost";

/// A request that went upstream. Dropped, it ends as lost.
#[derive(Debug)]
pub(super) struct Account<G: Gate> {
    gate: Arc<G>,
    request: RequestId,
    since: BootTime,
    outcome: Outcome,
    /// What was given out of the answer.
    given: (u64, u64),
    /// Rows that a write has touched, whose transaction has not ended.
    touched: u64,
    open: bool,
}

impl<G: Gate> Account<G> {
    pub(super) fn new(gate: &Arc<G>, request: RequestId) -> Self {
        Self {
            gate: Arc::clone(gate),
            request,
            since: clock::boot(),
            outcome: Outcome {
                counted: Some((0, 0)),
                ..Outcome::default()
            },
            given: (0, 0),
            touched: 0,
            open: true,
        }
    }

    /// Bytes of the answer went to the agent.
    pub(super) fn answered(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.outcome.bytes = self.outcome.bytes.saturating_add(bytes);
    }

    /// The server counts rows.
    pub(super) fn counted(&mut self, rows: u64) {
        self.outcome.rows = self.outcome.rows.saturating_add(rows);
    }

    /// So many rows and bytes of them were given out, or will be, as limits count them.
    pub(super) fn gave(&mut self, rows: u64, bytes: u64) {
        self.given = (rows, bytes);
        self.outcome.counted = Some(self.given);
    }

    /// A write has touched so many rows.
    pub(super) fn touched(&mut self, rows: u64) {
        self.touched = rows;
    }

    /// What was touched stays so, or may: it counts like what was given out.
    pub(super) fn stands(&mut self) {
        let (rows, bytes) = self.given;
        self.outcome.counted = Some((rows.max(self.touched), bytes));
    }

    /// What was touched is as before.
    pub(super) fn undone(&mut self) {
        self.touched = 0;
        self.outcome.counted = Some(self.given);
    }

    /// The answer had more than so many rows, and the rest is not passed on.
    pub(super) fn cut(&mut self, rows: u64) {
        self.failed(LIMITED);
        self.outcome.rows = rows;
    }

    /// The answer holds a value of this kind.
    pub(super) fn found(&mut self, kind: detect::Kind) {
        let count = self.outcome.found.entry(kind.word()).or_default();
        *count = count.saturating_add(1);
    }

    /// A failure: the SQLSTATE. The first one stays.
    pub(super) fn failed(&mut self, sqlstate: &str) {
        if self.outcome.status.is_empty() {
            sqlstate.clone_into(&mut self.outcome.status);
        }
    }

    /// Which request it is of.
    pub(super) fn request(&self) -> RequestId {
        self.request
    }

    /// The answer is complete: what is to be written of it, once the agent has the answer.
    pub(super) fn close(mut self) -> Finished<G> {
        self.end("ok");
        Finished {
            gate: Arc::clone(&self.gate),
            request: self.request,
            outcome: std::mem::take(&mut self.outcome),
        }
    }

    fn end(&mut self, otherwise: &str) {
        self.open = false;
        self.failed(otherwise);
        self.outcome.took = clock::boot().since(self.since);
    }
}

impl<G: Gate> Drop for Account<G> {
    fn drop(&mut self) {
        if self.open {
            self.end(LOST);
            self.gate.finish(self.request, &self.outcome);
        }
    }
}

/// The end of one request, which is written when this is dropped.
#[derive(Debug)]
pub(super) struct Finished<G: Gate> {
    gate: Arc<G>,
    request: RequestId,
    outcome: Outcome,
}

impl<G: Gate> Drop for Finished<G> {
    fn drop(&mut self) {
        self.gate.finish(self.request, &self.outcome);
    }
}
