//! What one request is called and made of, and how it ended: the words that engines, audit and
//! recording share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use crate::approvals::Word;
use crate::masking::Masked;
use crate::policy::{Action, Ask, GrantId, Permit, Refusal, Resource};

/// Names one request of one session in audit, recording and in what the agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(pub Uuid);

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
    /// The masked columns of what it touches. Not empty: what the upstream says of it may hold masked data.
    pub masked: Arc<[Masked]>,
    /// Why masking refuses it, whatever policy permits. The gate refuses it, and no engine forwards it.
    pub veto: Option<Arc<Refusal>>,
}

impl Reading {
    /// About how many bytes it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = [&self.redacted, &self.fingerprint, &self.summary];
        let masked = self.masked.iter().map(|masked| {
            let relation = &masked.relation;
            let names = [&relation.schema, &relation.name, &masked.column];
            names
                .map(String::len)
                .into_iter()
                .fold(size_of_val(masked), usize::saturating_add)
        });
        let parts = texts.map(|text| text.len()).into_iter().chain(masked);
        let parts = parts.chain(self.asks.iter().map(Ask::weight));
        parts.fold(size_of::<Self>(), usize::saturating_add)
    }

    /// Whether it can show anything of a table: what reveals columns matters to it.
    pub(super) fn shows_data(&self) -> bool {
        let mut accesses = self.asks.iter().flat_map(|ask| &ask.accesses);
        accesses.any(|access| match access.resource {
            Resource::Table { .. }
            | Resource::Column { .. }
            | Resource::Function { .. }
            | Resource::Path { .. } => true,
            Resource::File { .. }
            | Resource::Forward { .. }
            | Resource::KubeNamespace { .. }
            | Resource::KubeObject { .. } => false,
            _ if access.action.is_of_a_channel() => false,
            Resource::Target | Resource::Database | Resource::Schema { .. } => !matches!(
                access.action,
                Action::Transaction | Action::Set | Action::Show | Action::Notify
            ),
        })
    }
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

/// A line that was typed into a terminal, as it was read off what the terminal showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// As it stood there.
    pub text: String,
    /// Without what may be somebody's.
    pub redacted: String,
}

/// How a request ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Rows returned or touched, as the server's command tags say.
    pub rows: u64,
    /// Bytes of the server's answer, as the agent saw them.
    pub bytes: u64,
    /// Bytes that the agent wrote, where the request is a file that was opened.
    #[serde(skip_serializing_if = "is_none")]
    pub written: u64,
    /// From forwarding to the end of the answer.
    #[serde(serialize_with = "micros", rename = "micros")]
    pub took: Duration,
    /// `ok`, or the server's SQLSTATE, status or exit code.
    pub status: String,
    /// How many rows, and bytes of them, were given out as far as grants count them; absent where nobody can
    /// tell, and all that was set aside counts as given out.
    #[serde(skip)]
    pub counted: Option<(u64, u64)>,
    /// How many values of which kinds detectors found in the answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub found: BTreeMap<&'static str, u64>,
    /// The same of the request itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub found_sent: BTreeMap<&'static str, u64>,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

fn micros<S: serde::Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

/// What the server answered to a cancel with which its session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// That it has cancelled what ran.
    Cancelled,
    /// That what ran had come to its end: what it did is done.
    Finished,
    /// That what ran has failed by itself.
    Failed,
    /// Nothing: it closed the connection.
    Closed,
    /// Nothing in time, or nothing that could be read: it may run on.
    Silent,
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
    /// People's word, where it took one.
    pub word: Option<Arc<Word>>,
    /// How much its answer may hold of what grants give; absent where they do not count it.
    pub allowance: Option<Allowance>,
}

/// How much of one answer grants give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Rows.
    pub rows: Option<Allowed>,
    /// Bytes of rows.
    pub bytes: Option<Allowed>,
}

/// The most of something that a grant has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    /// So many and no more.
    pub most: u64,
    /// The grant.
    pub grant: GrantId,
}

/// What a request took of a grant that counts answers, for its last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// The grant.
    pub grant: GrantId,
    /// Rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes of rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// A request that may not.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its name, which the agent is told.
    pub request: RequestId,
    /// Why.
    pub refusal: Refusal,
}
