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

/// One authenticated use of a target.
#[derive(Debug)]
pub struct Session {}

// CONTRACT (implemented by the lead):
//   Session::id(&self) -> SessionId
//   Session::target(&self) -> &Arc<config::Target>
//   Session::principal(&self) -> &Arc<Principal>
//   async Session::authorize(&self, phase: Phase, text: &str /* as sent */, reading: &Arc<Reading>)
//        -> Result<Authorized, Refused>
//       judges every ask, writes the audit record (permitted or refused), reserves the finish record's space.
//       Authorized { request: RequestId, permit: Permit };  Refused { request: RequestId, refusal: Refusal }
//       Engines keep an own cache text -> Arc<Reading>; Session caches verdicts per (Arc<Reading> pointer, generation).
//   Session::finish(&self, request: RequestId, outcome: Outcome)            // audit request.finished; never fails: space was reserved
//   Session::record(&self, direction: Direction, bytes: Bytes) -> Result<(), Refusal>  // async, bounded, lossless
//   Session::ended(&self) -> tokio_util::sync::WaitForCancellationFuture    // policy withdrawn, killed, drained, idle
//   async Session::credential(&self) -> Result<secrets::Login, Refusal>     // whom to be upstream; never Debug
