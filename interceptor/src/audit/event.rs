//! The closed list of events, as they stand in the log. README documents each under the same name.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::checkpoint::Checkpoint;
use crate::approvals::{Answer, Delegation, Over, Rows};
use crate::grants::{Ended, Grant, Holder};
use crate::identity::{Identity, LoggedIn, Operator, Principal, User};
use crate::masking::Masked;
use crate::policy::{ApprovalId, Ask, Generation, GrantId, Needs, Refusal, RuleId};
use crate::session::{Answered, Outcome, Phase, RequestId, Spent};
use crate::socket::Place;
use crate::tokens::bindings::Unbound;

/// What an event is about: the connection's principal and, once there is one, its session.
///
/// The principal is serialised once per connection and copied into each of its lines.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct About<'a> {
    /// The connection.
    pub connection: uuid::Uuid,
    /// The session, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<uuid::Uuid>,
    /// The target's name, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<&'a str>,
    /// What the target speaks, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'a str>,
    /// The database, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<&'a str>,
    /// Who, in full, as JSON; absent where identity could not be proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<&'a RawValue>,
}

/// One event.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event")]
pub enum Event<'a> {
    /// A connection was admitted.
    #[serde(rename = "connection.opened")]
    ConnectionOpened {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// Where it was going.
        destination: Place,
        /// The connection to a proxy through which it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        through: Option<uuid::Uuid>,
        /// The host and port that the proxy is asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        asked: Option<&'a str>,
        /// The rules that admitted it.
        rules: &'a [RuleId],
        /// The grants that it stands on, where it needs any.
        #[serde(skip_serializing_if = "<[GrantId]>::is_empty")]
        grants: &'a [GrantId],
    },
    /// A connection was refused: identity, policy, limit, secret or upstream.
    #[serde(rename = "connection.refused")]
    ConnectionRefused {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// Where it was going; absent where the kernel had no record of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        destination: Option<Place>,
        /// The host and port that a proxy there was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        asked: Option<&'a str>,
        /// Why. The caller read less than this.
        refusal: &'a Refusal,
        /// What only the audit may know of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
        /// The agent, where the line names nobody though its scope is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        agent: Option<&'a str>,
        /// Why it then names nobody.
        #[serde(skip_serializing_if = "Option::is_none")]
        unproven: Option<&'static str>,
        /// How many more it stands for.
        #[serde(skip_serializing_if = "Option::is_none")]
        folded: Option<u64>,
    },
    /// A session was opened: the upstream accepted the login.
    #[serde(rename = "session.opened")]
    SessionOpened {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// The upstream's address.
        upstream: Place,
        /// The user that the daemon logged in as.
        user: &'a str,
        /// What the client asked to be, which was not used.
        #[serde(skip_serializing_if = "Option::is_none")]
        asked_user: Option<&'a str>,
        /// The rules that opened it.
        rules: &'a [RuleId],
        /// The grants that it stands on, where it needs any.
        #[serde(skip_serializing_if = "<[GrantId]>::is_empty")]
        grants: &'a [GrantId],
    },
    /// A session ended.
    #[serde(rename = "session.closed")]
    SessionClosed {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// Why: `client`, `upstream`, `protocol`, `masking`, `detected`, or the word of an
        /// [`EndReason`](crate::session::EndReason).
        reason: &'a str,
        /// The grant with which it ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        grant: Option<GrantId>,
        /// Requests judged.
        requests: u64,
        /// Bytes from the agent.
        sent: u64,
        /// Bytes to the agent.
        received: u64,
        /// How long it lived, in milliseconds.
        millis: u64,
    },
    /// A request was permitted; written before it is forwarded.
    #[serde(rename = "request.permitted")]
    RequestPermitted {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// What.
        #[serde(flatten)]
        request: Request<'a>,
        /// The rules that permitted it.
        rules: &'a [RuleId],
        /// The grants that it stands on, where it needs any.
        #[serde(skip_serializing_if = "<[GrantId]>::is_empty")]
        grants: &'a [GrantId],
        /// The question that people answered for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        approval: Option<ApprovalId>,
        /// The grants by which it may see masked columns as they are.
        #[serde(skip_serializing_if = "<[GrantId]>::is_empty")]
        revealed: &'a [GrantId],
    },
    /// A request was refused; nothing of it was forwarded.
    #[serde(rename = "request.refused")]
    RequestRefused {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// What.
        #[serde(flatten)]
        request: Request<'a>,
        /// Why.
        refusal: &'a Refusal,
    },
    /// A permitted request ended.
    #[serde(rename = "request.finished")]
    RequestFinished {
        /// The connection.
        connection: uuid::Uuid,
        /// The session.
        session: uuid::Uuid,
        /// Which request.
        request: RequestId,
        /// Who, in full.
        #[serde(skip_serializing_if = "Option::is_none")]
        principal: Option<&'a RawValue>,
        /// How.
        #[serde(flatten)]
        outcome: &'a Outcome,
        /// What it took of grants that count answers.
        #[serde(skip_serializing_if = "<[Spent]>::is_empty")]
        spent: &'a [Spent],
    },
    /// A cancel request was passed on, or not; the client is never told. With a session it is the daemon's
    /// own: the session was ended, or its statement ran for too long.
    #[serde(rename = "request.cancelled")]
    RequestCancelled {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// Why it was not passed on.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// What the server answered to the cancel with which a session ended.
    #[serde(rename = "cancel.answered")]
    CancelAnswered {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// Whether it said that it has cancelled what ran.
        confirmed: bool,
        /// What it said.
        answered: Answered,
        /// How long after the cancel, in milliseconds.
        millis: u64,
    },
    /// A result named a masked column as it is: masking has missed something, an alarm. The session was
    /// ended before any of it reached the agent.
    #[serde(rename = "mask.missed")]
    MaskMissed {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// The relation's number on the server (`pg_class.oid`).
        relation: u32,
        /// The column's (`pg_attribute.attnum`); 0 for the whole row.
        attribute: i16,
    },
    /// A server's key was believed as the first that was seen of it.
    #[serde(rename = "host.learned")]
    HostLearned {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// The server.
        upstream: SocketAddr,
        /// Its key, by its fingerprint.
        key: &'a str,
    },
    /// A server showed another key than it was known by: an alarm. It was not logged in to.
    #[serde(rename = "host.changed")]
    HostChanged {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// The server.
        upstream: SocketAddr,
        /// What it was known by.
        known: &'a str,
        /// What it showed.
        shown: &'a str,
    },
    /// What was typed into a terminal, as it was read off what the terminal showed. An aid for whoever looks
    /// for it: what is not shown is not here, and a program may show what was never typed.
    #[serde(rename = "terminal.typed")]
    TerminalTyped {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// The request by which the terminal was opened.
        request: RequestId,
        /// Lines; redacted where statements are.
        lines: &'a [&'a str],
    },
    /// The kernel refused something.
    #[serde(rename = "kernel.denied")]
    KernelDenied {
        /// The agent's name, where the scope is known.
        agent: Option<&'a str>,
        /// What the kernel stamped, as JSON.
        denied: &'a RawValue,
        /// Who, where it could still be proved.
        #[serde(skip_serializing_if = "Option::is_none")]
        principal: Option<&'a RawValue>,
        /// Why it could not, in one word.
        #[serde(skip_serializing_if = "Option::is_none")]
        unproven: Option<&'a str>,
        /// The same in a sentence.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    /// Refusals in the kernel that its rate limit does not tell one by one.
    #[serde(rename = "kernel.folded")]
    KernelFolded {
        /// The agent's name, where the scope is known.
        agent: Option<&'a str>,
        /// Scope root's cgroup id; absent as all but the count where more kinds came than the kernel remembers.
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<u64>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        /// Where to, where all were about one address.
        #[serde(skip_serializing_if = "Option::is_none")]
        destination: Option<SocketAddr>,
        /// How many.
        count: u64,
    },
    /// Refusals in the kernel were lost: the ring buffer was full.
    #[serde(rename = "kernel.lost")]
    KernelLost {
        /// How many since the last such line.
        count: u64,
    },
    /// Something was granted; it is in force after this.
    #[serde(rename = "grant.issued")]
    GrantIssued {
        /// Who asked.
        principal: &'a Principal,
        /// What was granted.
        grant: &'a Grant,
        /// The permits that leave it to a grant.
        rules: &'a [RuleId],
    },
    /// A grant was asked for and not given.
    #[serde(rename = "grant.refused")]
    GrantRefused {
        /// Who asked.
        principal: &'a Principal,
        /// For what, in the caller's words.
        asked: serde_json::Value,
        /// Why not.
        refusal: &'a Refusal,
    },
    /// A grant ended.
    #[serde(rename = "grant.ended")]
    GrantEnded {
        /// Which.
        grant: GrantId,
        /// Whose it was.
        holder: &'a Holder,
        /// Why.
        why: Ended,
        /// How often it was used.
        used: u64,
        /// How many rows of it were given out, where they are counted.
        #[serde(skip_serializing_if = "Option::is_none")]
        used_rows: Option<u64>,
        /// How many bytes of them, where they are counted.
        #[serde(skip_serializing_if = "Option::is_none")]
        used_bytes: Option<u64>,
        /// Sessions that ended with it.
        sessions: usize,
    },
    /// A scope was bound to a person or a workload; policy sees it after this.
    #[serde(rename = "identity.bound")]
    IdentityBound {
        /// Who brought it.
        caller: Caller,
        /// The scope.
        #[serde(flatten)]
        scope: ScopeNamed<'a>,
        /// To whom.
        identity: &'a Identity,
        /// `token` or `login`.
        how: &'a str,
        /// The token's own name (`jti`), or a digest of it.
        token: &'a str,
        /// Whether the scope was bound to the same subject before.
        renewed: bool,
        /// Sessions that ended because something else was said of the subject before.
        sessions: usize,
    },
    /// A token or a login was not believed. Who brought it was not told why.
    #[serde(rename = "identity.refused")]
    IdentityRefused {
        /// Who brought it.
        caller: Caller,
        /// The scope that it was for, where there is one.
        #[serde(flatten)]
        scope: Option<ScopeNamed<'a>>,
        /// `token` or `login`.
        how: &'a str,
        /// Why, in one word.
        reason: &'a str,
        /// Why, in a sentence.
        cause: String,
    },
    /// Somebody's token was exchanged for one that means something in one scope; it was given out after this.
    #[serde(rename = "token.exchanged")]
    TokenExchanged {
        /// Who brought it.
        caller: Caller,
        /// The scope that it is good in.
        #[serde(flatten)]
        scope: ScopeNamed<'a>,
        /// Whose it is.
        identity: &'a Identity,
        /// The name of what was brought, or a digest of it.
        subject: &'a str,
        /// The name of what was given out (`jti`).
        token: &'a str,
        /// Whom it is meant for.
        audience: &'a str,
        /// Until when it is good.
        expires: Timestamp,
    },
    /// A scope is bound no longer.
    #[serde(rename = "identity.ended")]
    IdentityEnded {
        /// The scope.
        #[serde(flatten)]
        scope: ScopeNamed<'a>,
        /// To whom it was bound.
        identity: &'a Identity,
        /// Why.
        why: Unbound,
        /// Sessions that ended with it.
        sessions: usize,
    },
    /// A client presented a credential of its own. It is used for nothing.
    #[serde(rename = "credential.presented")]
    CredentialPresented {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// For which user.
        user: &'a str,
        /// Equal for equal credentials, and made with a key of this daemon: nobody else can try passwords on it.
        fingerprint: String,
    },
    /// An upstream showed the credential that it was given, which was covered before the agent saw it.
    #[serde(rename = "credential.returned")]
    CredentialReturned {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// In the answer to which request.
        request: RequestId,
        /// Where in it: `header`, `body`, `trailer`, `connection`.
        place: &'static str,
    },
    /// A request waits for people, who are asked from now on.
    #[serde(rename = "approval.asked")]
    ApprovalAsked {
        /// About whom.
        #[serde(flatten)]
        about: About<'a>,
        /// The question.
        approval: ApprovalId,
        /// Words for people.
        summary: &'a str,
        /// Hash of the normalized text.
        fingerprint: &'a str,
        /// Whose word it takes.
        needs: &'a [Needs],
    },
    /// The server is asked, beside the session, what a request that waits for people would touch.
    #[serde(rename = "approval.examined")]
    ApprovalExamined {
        /// About what.
        #[serde(flatten)]
        about: About<'a>,
        /// The question.
        approval: ApprovalId,
    },
    /// Somebody answered; it counts after this.
    #[serde(rename = "approval.answered")]
    ApprovalAnswered {
        /// The question.
        approval: ApprovalId,
        /// Whose request it is.
        holder: &'a Holder,
        /// Who answered, by peer credentials.
        caller: Caller,
        /// What was said.
        answer: &'a Answer,
        /// How many rows the request would touch, where that was looked at by then. Its plan has literals.
        #[serde(skip_serializing_if = "Option::is_none")]
        touches: Option<&'a Rows>,
        /// For how long, in seconds, it covers the same text with other literals.
        #[serde(skip_serializing_if = "Option::is_none")]
        shape: Option<u64>,
    },
    /// Somebody named a stand-in for the time when he is away, or took that back.
    #[serde(rename = "approval.delegated")]
    ApprovalDelegated {
        /// Who, by peer credentials.
        caller: Caller,
        /// By whose right, to whom, until when.
        delegation: &'a Delegation,
        /// `delegated` or `revoked`.
        what: &'a str,
    },
    /// Nobody has answered a question for as long as its rules say: others may now, too.
    #[serde(rename = "approval.escalated")]
    ApprovalEscalated {
        /// The question.
        approval: ApprovalId,
        /// Whose request it is.
        holder: &'a Holder,
        /// Who may answer as well.
        groups: std::collections::BTreeSet<&'a str>,
    },
    /// A question is over, answered or not.
    #[serde(rename = "approval.ended")]
    ApprovalEnded {
        /// The question.
        approval: ApprovalId,
        /// Whose request it was.
        holder: &'a Holder,
        /// Why.
        why: Over,
        /// What was said until then.
        answers: &'a [Answer],
    },
    /// A name was looked up for an agent; written before the answer is given.
    #[serde(rename = "name.resolved")]
    NameResolved {
        /// Who asked for what.
        #[serde(flatten)]
        asked: Asked<'a>,
        /// `ok`, `nxdomain`, `servfail`, `refused` or `error`: the resolver's.
        code: &'a str,
        /// Addresses of the answer, the first sixteen.
        addresses: &'a [std::net::IpAddr],
        /// For how many seconds it may be kept.
        ttl: u32,
        /// The rules that permitted it.
        rules: &'a [RuleId],
    },
    /// A name was asked for and not looked up, or its answer not given.
    #[serde(rename = "name.refused")]
    NameRefused {
        /// Who asked for what.
        #[serde(flatten)]
        asked: Asked<'a>,
        /// Why. The caller read less than this.
        refusal: &'a Refusal,
        /// What only the audit may know of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    /// The daemon started, stopped, reloaded; a scope was tagged; a log was read; an agent was frozen.
    #[serde(rename = "control")]
    Control {
        /// The verb: `start`, `stop`, `reload`, `tag`, `untag`, `run`, `freeze`, `thaw`, `kill`, `read`;
        /// `status` and `connect` only where they were refused.
        verb: &'a str,
        /// Who, by peer credentials; absent for the daemon itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        caller: Option<Caller>,
        /// `ok`, `refused` or `failed`.
        result: &'a str,
        /// What it was about, and why it was refused or failed.
        detail: serde_json::Value,
        /// The policy in force afterwards.
        generation: Generation,
    },
    /// A recording was begun.
    #[serde(rename = "recording.begun")]
    RecordingBegun {
        /// The session.
        session: uuid::Uuid,
        /// Its target.
        target: &'a str,
        /// The hash of its first segment's header, which its first chunk carries on.
        head: &'a str,
        /// The hash of its `meta.json`.
        meta: &'a str,
        /// That of its `key.age`, where it is encrypted.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// A recording is as it is up to here.
    #[serde(rename = "recording.sealed")]
    RecordingSealed {
        /// The session.
        session: uuid::Uuid,
        /// The segment's number.
        segment: u32,
        /// Bytes of the segment that are vouched for.
        length: u64,
        /// The hash of the segment's header.
        head: &'a str,
        /// The hash of the last of its chunks.
        tail: &'a str,
        /// `full`, `time`, `end` or, of what a daemon left that died, `lost`.
        why: &'a str,
        /// The hash of its `meta.json`, once it ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        meta: Option<String>,
    },
    /// A recording that a daemon left open is not what the log says of it: an alarm. It stays as it is.
    #[serde(rename = "recording.damaged")]
    RecordingDamaged {
        /// The session.
        session: uuid::Uuid,
        /// What is wrong.
        what: &'a str,
    },
    /// A recording is held: it is not purged, whatever its age.
    #[serde(rename = "recording.held")]
    RecordingHeld {
        /// The session.
        session: uuid::Uuid,
        /// Who wants it.
        caller: Caller,
        /// Why.
        reason: &'a str,
    },
    /// A recording is held no longer.
    #[serde(rename = "recording.released")]
    RecordingReleased {
        /// The session.
        session: uuid::Uuid,
        /// Who released it.
        caller: Caller,
        /// Why it was held.
        reason: &'a str,
    },
    /// A recording is about to be removed; this stays in its place.
    #[serde(rename = "recording.purged")]
    RecordingPurged {
        /// The session.
        session: uuid::Uuid,
        /// Its target.
        target: &'a str,
        /// The agent, where it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
        /// When it began.
        started: Timestamp,
        /// Its bytes.
        bytes: u64,
        /// The hash of its last chunk.
        #[serde(skip_serializing_if = "Option::is_none")]
        tail: Option<String>,
        /// `age` or `size`.
        why: &'a str,
    },
    /// The log was opened: a daemon started. Without a `log.closed` before it, the last one died.
    #[serde(rename = "log.opened")]
    LogOpened {
        /// The daemon's version.
        version: &'a str,
        /// `relaxed` or `strict`.
        durability: &'a str,
    },
    /// Bytes that were no whole line were set aside at opening: a write was cut off by a crash.
    #[serde(rename = "log.recovered")]
    LogRecovered {
        /// The segment.
        segment: &'a str,
        /// Where they began in it.
        offset: u64,
        /// How many.
        bytes: u64,
        /// The file that keeps them; absent where they were all zero.
        #[serde(skip_serializing_if = "Option::is_none")]
        kept: Option<&'a str>,
    },
    /// The log up to the line before, signed: at the end of each segment, and from time to time.
    #[serde(rename = "log.checkpoint")]
    LogCheckpoint {
        /// What is signed.
        checkpoint: &'a Checkpoint,
    },
    /// Lines could not be written, the disk was full; nothing that they would have permitted was forwarded.
    #[serde(rename = "log.lost")]
    LogLost {
        /// How many since the line before.
        count: u64,
    },
    /// The log was closed: the daemon ended in order.
    #[serde(rename = "log.closed")]
    LogClosed {},
}

/// A question to a resolver, as lines name it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Asked<'a> {
    /// The agent's name.
    pub agent: &'a str,
    /// Who, in full, as JSON; absent where identity could not be proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<&'a RawValue>,
    /// The name, where the question was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// The type of the records.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub qtype: Option<&'a str>,
    /// Which resolver was to be asked.
    pub resolver: Place,
    /// The same question with the same end since the last such line.
    pub folded: u64,
}

/// A scope, as lines name it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ScopeNamed<'a> {
    /// The name that it is tagged with.
    pub agent: &'a str,
    /// Path of its root.
    pub cgroup: &'a str,
}

/// Who spoke to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Caller {
    /// A process outside every scope.
    Operator(Arc<Operator>),
    /// A process of an agent: it is refused.
    Agent(Arc<Principal>),
    /// What the kernel says of it, where the rest could not be read.
    Bare {
        /// Its user.
        user: User,
        /// Its process.
        process: Number,
        /// Why there is no more.
        unread: String,
    },
    /// Somebody who logged in, at the console or in a chat.
    Visitor {
        /// The login.
        login: uuid::Uuid,
        /// Who, by the word of an issuer or a chat.
        #[serde(skip_serializing_if = "Option::is_none")]
        person: Option<LoggedIn>,
        /// For whom the link was printed, where it is root of the host.
        #[serde(skip_serializing_if = "Option::is_none")]
        link: Option<Arc<Self>>,
    },
}

/// A process by its number alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Number {
    /// Process id.
    pub pid: u32,
}

impl Caller {
    /// What the kernel says of a peer, and why there is no more.
    #[must_use]
    pub fn bare(pid: u32, (uid, gid): (u32, u32), unread: String) -> Self {
        let name = None;
        Self::Bare {
            user: User { uid, gid, name },
            process: Number { pid },
            unread,
        }
    }
}

/// A request, as its lines name it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Request<'a> {
    /// Which.
    pub request: RequestId,
    /// Where in its life it was judged.
    pub phase: Phase,
    /// Words for people.
    pub summary: &'a str,
    /// Hash of the normalized text.
    pub fingerprint: &'a str,
    /// The text, as the target's `statement` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<&'a str>,
    /// What it asked for.
    pub asks: &'a [Ask],
    /// The masked columns of what it touches, each with its mask.
    #[serde(skip_serializing_if = "<[Masked]>::is_empty")]
    pub masked: &'a [Masked],
    /// The policy that judged.
    pub generation: Generation,
}
