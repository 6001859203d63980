//! Session: the only handle an engine gets. It authorizes, injects, masks and records; dropped, it ends.
//!
//! One authenticated use of a target by one principal. Everything that is security and not dialect
//! happens here, once, for every protocol.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::policy::{Ask, Permit, Refusal};

/// Names one request of one session in audit, recording and in what the agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(pub uuid::Uuid);

/// What an engine read in one request: one statement text, one HTTP request, one channel request.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What it asks for, one per statement, in order.
    pub asks: Vec<Ask>,
    /// The text with its literals replaced, safe to keep where `statement: redacted`.
    pub redacted: Arc<str>,
    /// Stable hash of the normalized text, lower-case hex.
    pub fingerprint: Arc<str>,
    /// Words for people: `DELETE`, `SELECT; UPDATE`.
    pub summary: Arc<str>,
}

/// Where in its life a request is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Read and planned, not run: `Parse`.
    Prepare,
    /// Run.
    Execute,
}

/// How a request ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Rows returned or touched, as the server's command tags say.
    pub rows: u64,
    /// Bytes of the server's answer, as the agent saw them.
    pub bytes: u64,
    /// From forwarding to the end of the answer.
    #[serde(serialize_with = "micros", rename = "micros")]
    pub took: Duration,
    /// `ok`, or the server's SQLSTATE, status or exit code.
    pub status: String,
}

fn micros<S: serde::Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

/// Which way recorded bytes went, seen from the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the agent.
    Sent,
    /// To the agent.
    Received,
}

/// A request that may go upstream.
#[derive(Debug)]
pub struct Authorized {
    /// Its name.
    pub request: RequestId,
    /// The proof; whoever writes the request upstream consumes it.
    pub permit: Permit,
}

/// A request that may not.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its name, which the agent is told.
    pub request: RequestId,
    /// Why.
    pub refusal: Refusal,
}

/// Why a session was ended by the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A reload withdrew what the session stands on.
    Policy,
    /// `interceptor kill`.
    Killed,
    /// The daemon drains.
    Drain,
    /// Nothing was asked for too long.
    Idle,
    /// Audit or recording cannot be written.
    Storage,
}

/// What an engine sees of its session. A trait so that an engine can be tested over bytes alone;
/// [`Session`] is the only one that runs.
pub trait Gate: Send + Sync + 'static {
    /// Judges every ask of `reading`; writes the audit record first, either way.
    ///
    /// `text` is the request as sent; it is kept only as the target's `statement` says.
    fn authorize(
        &self,
        phase: Phase,
        text: &str,
        reading: &Arc<Reading>,
    ) -> impl Future<Output = Result<Authorized, Refused>> + Send;

    /// Writes the end of a permitted request. Cannot fail: its space was reserved by `authorize`.
    fn finish(&self, request: RequestId, outcome: &Outcome);

    /// Keeps bytes of the request loop as the agent sent or saw them. Waits while the recorder is
    /// behind; an error means that the session must end, nothing more may be forwarded.
    fn record(
        &self,
        direction: Direction,
        bytes: Bytes,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Resolves when the daemon ends the session; pending for ever otherwise.
    fn ended(&self) -> impl Future<Output = EndReason> + Send;
}
