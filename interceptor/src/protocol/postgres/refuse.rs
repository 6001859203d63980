//! How "no" sounds to a PostgreSQL client: `ERROR 42501` with rule, request and next step.
//!
//! Also the poison: what a server is sent in place of a refused message, so that it fails by itself
//! and takes the rest of its pipeline or transaction along, and the errors that a server would give
//! for names it does not know. Nothing here depends on data.

pub mod hush;

use bytes::Bytes;

use super::wire::error::{ErrorFields, Severity};
use super::wire::{self, frontend};
use crate::masking::detect;
use crate::policy::{ApprovalId, Limit, Refusal, RefusalKind};
use crate::session::{Allowed, EndReason, Refused, RequestId};

/// No grammar of SQL takes this. Constant, because servers log it.
pub const POISON: &str = ") refused by interceptor";

/// The name that a poisonous `Parse` carries. It never comes to be, as the text cannot be parsed.
const POISON_NAME: &str = "interceptor";

/// A `Query` that must fail.
#[must_use]
pub fn poison_query() -> Bytes {
    frontend::make_query(POISON)
}

/// A `Parse` that must fail; of the unnamed statement, which goes in any case, or of a name of ours.
#[must_use]
pub fn poison_parse(unnamed: bool) -> Bytes {
    frontend::make_parse(if unnamed { "" } else { POISON_NAME }, POISON)
}

/// What the agent is told of a refusal.
#[must_use]
pub fn refused(refused: &Refused) -> ErrorFields {
    let refusal = &refused.refusal;
    let rules: Vec<&str> = refusal.rules.iter().map(|rule| rule.0.as_str()).collect();
    let rules = match rules.as_slice() {
        [] => "none".to_owned(),
        rules => rules.join(", "),
    };
    let request = refused.request.0;
    let hint = match &refusal.hint {
        Some(hint) => hint.clone(),
        None => format!("ask the operator for access, and name the request {request}"),
    };
    ErrorFields::new(Severity::Error, sqlstate(refusal.kind), &refusal.message)
        .detail(&format!("rule {rules}; request {request}"))
        .hint(&hint)
}

/// What the agent is told while its request waits for people.
#[must_use]
pub fn waits(approval: ApprovalId) -> ErrorFields {
    let message = format!("waiting for approval {}", approval.0);
    // `successful_completion`: nothing has gone wrong.
    ErrorFields::new(Severity::Notice, "00000", &message)
        .detail("the request goes on by itself once people have said yes")
}

fn sqlstate(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::NotPermitted
        | RefusalKind::NeedsGrant
        | RefusalKind::NeedsApproval
        | RefusalKind::Forbidden
        | RefusalKind::Unreadable
        | RefusalKind::Identity => "42501",
        RefusalKind::Cancelled => "57014",
        RefusalKind::Limit => "53400",
        RefusalKind::Storage => "58030",
        RefusalKind::Secret | RefusalKind::Upstream => "08006",
        RefusalKind::Ended => "57P01",
        RefusalKind::Internal => "XX000",
    }
}

/// What a client is told whose startup is refused: it ends its connection.
#[must_use]
pub fn at_startup(refusal: &Refusal) -> ErrorFields {
    let state = match refusal.kind {
        RefusalKind::NotPermitted
        | RefusalKind::NeedsGrant
        | RefusalKind::NeedsApproval
        | RefusalKind::Forbidden
        | RefusalKind::Identity => "28000",
        kind => sqlstate(kind),
    };
    let fields = ErrorFields::new(Severity::Fatal, state, &refusal.message);
    let rules: Vec<&str> = refusal.rules.iter().map(|rule| rule.0.as_str()).collect();
    let fields = if rules.is_empty() {
        fields
    } else {
        fields.detail(&format!("rule {}", rules.join(", ")))
    };
    match &refusal.hint {
        Some(hint) => fields.hint(hint),
        None => fields,
    }
}

/// What the server says of a prepared statement that it does not have; drivers prepare it again.
#[must_use]
pub fn unknown_statement(name: &[u8]) -> ErrorFields {
    let message = match name {
        [] => "unnamed prepared statement does not exist".to_owned(),
        name => format!(
            "prepared statement \"{}\" does not exist",
            String::from_utf8_lossy(name)
        ),
    };
    ErrorFields::new(Severity::Error, "26000", &message)
}

/// What the server says of a portal that it does not have.
#[must_use]
pub fn unknown_portal(name: &[u8]) -> ErrorFields {
    let message = format!(
        "portal \"{}\" does not exist",
        String::from_utf8_lossy(name)
    );
    ErrorFields::new(Severity::Error, "34000", &message)
}

/// What the server says of a message that does not have its form (`pqformat.c`).
#[must_use]
pub fn malformed(tag: u8, form: &wire::Error) -> ErrorFields {
    let message = match form {
        wire::Error::Short { field } if field.ends_with("name") || *field == "query" => {
            "invalid string in message".to_owned()
        }
        wire::Error::Short {
            field: "kind of object",
        } => "no data left in message".to_owned(),
        wire::Error::Short { .. } => "insufficient data left in message".to_owned(),
        wire::Error::Value { value, .. } if tag == frontend::DESCRIBE => {
            format!("invalid DESCRIBE message subtype {value}")
        }
        wire::Error::Value { value, .. } if tag == frontend::CLOSE => {
            format!("invalid CLOSE message subtype {value}")
        }
        wire::Error::Long { .. }
        | wire::Error::Length { .. }
        | wire::Error::Value { .. }
        | wire::Error::Text { .. } => "invalid message format".to_owned(),
    };
    ErrorFields::new(Severity::Error, "08P01", &message)
}

/// A name that is longer than what is read of one.
#[must_use]
pub fn long_name() -> ErrorFields {
    ErrorFields::new(
        Severity::Error,
        "42622",
        "the name of a statement or portal is longer than 1,024 bytes",
    )
    .hint("use a shorter name")
}

/// More statements or portals than are kept for one session.
#[must_use]
pub fn too_many(what: &str) -> ErrorFields {
    let message = format!("too many {what} are open in this session");
    ErrorFields::new(Severity::Error, "53400", &message)
        .hint("close the ones that are not needed any more")
}

/// The SQLSTATE of what its client has cancelled.
pub const CANCELLED: &str = "57014";

/// What the server says of a statement that its client has cancelled (`ProcessInterrupts`, `postgres.c`).
#[must_use]
pub fn cancelled() -> ErrorFields {
    let message = "canceling statement due to user request";
    ErrorFields::new(Severity::Error, CANCELLED, message)
}

/// Of what an answer had more than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// Rows of the request.
    Rows(Limit),
    /// Bytes of the request's rows.
    Bytes(Limit),
    /// Rows of the session.
    SessionRows(Limit),
    /// Bytes of the session's rows.
    SessionBytes(Limit),
    /// Rows that a grant had left.
    GrantRows(Allowed),
    /// Bytes that a grant had left.
    GrantBytes(Allowed),
    /// Rows that a write touched, and is not let touch.
    Touched {
        /// What a grant had left.
        allowed: Allowed,
        /// How many they were.
        rows: u64,
        /// Whether the write ran alone, and not in a transaction of the client.
        ours: bool,
    },
}

/// What the client is told where an answer had more than it may; with `carried_out`, the statement was
/// done all the same.
#[must_use]
pub fn limited(over: &Over, request: RequestId, carried_out: bool) -> ErrorFields {
    let (limit, whose, what, hint) = match over {
        Over::Rows(limit) => (limit, "the answer", "rows", PARTS),
        Over::Bytes(limit) => (limit, "the answer", "bytes of rows", PARTS),
        Over::SessionRows(limit) => (limit, "this session", "rows", OPERATOR),
        Over::SessionBytes(limit) => (limit, "this session", "bytes of rows", OPERATOR),
        Over::GrantRows(allowed) => return exhausted(*allowed, "rows", request, carried_out),
        Over::GrantBytes(allowed) => {
            return exhausted(*allowed, "bytes of rows", request, carried_out);
        }
        Over::Touched {
            allowed,
            rows,
            ours,
        } => return touched(*allowed, *rows, request, *ours),
    };
    let message = format!(
        "{whose} had more than {} {what}, which is the most that is permitted here",
        limit.most
    );
    let whose = format!("rule {}", limit.rule.0);
    cut(&message, &whose, request, carried_out).hint(hint)
}

/// The same where a grant has no more.
fn exhausted(allowed: Allowed, what: &str, request: RequestId, carried_out: bool) -> ErrorFields {
    let message = format!(
        "the answer had more than {} {what}, which is all that the grant had left",
        allowed.most
    );
    let whose = format!("grant {}", allowed.grant.0);
    cut(&message, &whose, request, carried_out).hint(ANOTHER)
}

/// The same where a write touched more rows than a grant has left: nothing of it stays.
fn touched(allowed: Allowed, rows: u64, request: RequestId, ours: bool) -> ErrorFields {
    let message = format!(
        "the statement touched {rows} rows, and the grant has {} left",
        allowed.most
    );
    let undone = match ours {
        true => "nothing was changed",
        false => "its transaction can only be rolled back",
    };
    let detail = format!("grant {}; request {}; {undone}", allowed.grant.0, request.0);
    ErrorFields::new(Severity::Error, "54000", &message)
        .detail(&detail)
        .hint("ask for another grant, or touch fewer rows at once")
}

fn cut(message: &str, whose: &str, request: RequestId, carried_out: bool) -> ErrorFields {
    let done = match carried_out {
        true => "; the statement itself was carried out",
        false => "",
    };
    let detail = format!("{whose}; request {}{done}", request.0);
    ErrorFields::new(Severity::Error, "54000", message).detail(&detail)
}

/// What can be done where a grant has no more.
const ANOTHER: &str = "ask for another grant, or for less of it at once";
/// What can be done where one answer is too long.
const PARTS: &str = "ask for less: name fewer columns, or add a WHERE or a LIMIT";
/// What can be done where a session has had all that it may.
const OPERATOR: &str = "ask the operator for more, and name the rule";

/// The last words of a session that the daemon ends.
#[must_use]
pub fn ended(reason: EndReason) -> ErrorFields {
    let (sqlstate, message) = match reason {
        EndReason::Policy => ("57P01", "policy does not permit this session any more"),
        EndReason::Grant(_) => ("57P01", "the grant that this session stood on has ended"),
        EndReason::Identity => (
            "57P01",
            "the identity that this session was opened under has ended",
        ),
        EndReason::Approval => (
            "57P01",
            "the approval that this session went on by was taken back",
        ),
        EndReason::Killed => ("57P01", "the session was ended by an operator"),
        EndReason::Drain => ("57P01", "the interceptor is shutting down"),
        EndReason::Idle => ("57P05", "the session was idle for too long"),
        EndReason::IdleInTransaction => ("25P03", "the transaction was idle for too long"),
        EndReason::Statement => (
            "57014",
            "the statement ran for too long, and the server did not cancel it",
        ),
        EndReason::Limit => (
            "54000",
            "the answer had more than is permitted, and the server did not cancel it",
        ),
        EndReason::Storage => ("58030", "the audit or the recording cannot be written"),
    };
    ErrorFields::new(Severity::Fatal, sqlstate, message)
}

/// The last words where an answer held a value that is refused.
#[must_use]
pub fn detected(kind: detect::Kind) -> ErrorFields {
    let message = format!(
        "the answer holds a value of the kind {}, which is not given out here",
        kind.word()
    );
    ErrorFields::new(Severity::Fatal, "42501", &message)
        .hint("leave out the column that holds it, or ask the operator for access")
}

/// The last words to a client that does not speak the protocol.
#[must_use]
pub fn violation(what: &str) -> ErrorFields {
    ErrorFields::new(Severity::Fatal, "08P01", what)
}

/// The last words where the server broke the protocol. What it did is for the operator, not the agent.
#[must_use]
pub fn upstream() -> ErrorFields {
    ErrorFields::new(
        Severity::Fatal,
        "08006",
        "the server did what its protocol does not allow",
    )
}

/// The last words where the server's answer held what was to be masked.
#[must_use]
pub fn unmasked() -> ErrorFields {
    let message = "the answer held what may not be seen here, and was not passed on";
    ErrorFields::new(Severity::Fatal, "42501", message)
        .hint("name the session to the operator, who has been told")
}

/// The last words where a session may show by what it made what may not be seen any more.
#[must_use]
pub fn outlived() -> ErrorFields {
    let message =
        "more is masked than when this session made a view, or ran code that may have made one";
    ErrorFields::new(Severity::Fatal, "42501", message).hint("begin another session")
}

#[cfg(test)]
mod tests;
