//! The control API's own words: what is sent and answered, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::approvals::{StandIn, Standing};
use crate::factors::Assertion;
use crate::identity::Identity;
use crate::policy::{Action, ApprovalId, GrantId, Resource};

/// Which cgroup: exactly one of the four.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Path below the cgroup v2 mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// A process: the cgroup that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// A systemd unit: its control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// A container: its cgroup. By its name, or by its id or how that begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// `POST /v1/scopes/tag`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// Which cgroup.
    pub which: Which,
    /// The agent's name.
    pub agent: String,
}

/// `POST /v1/scopes/contain`: a container that is about to start. Answers its scope; none where it is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contain {
    /// Its id.
    pub id: String,
    /// Its first process, which runs nothing of its image yet.
    pub pid: u32,
    /// The directory that its runtime has of it.
    pub bundle: PathBuf,
    /// The agent's name; where there is none, the configuration's rules about labels say whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Its labels and annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The names of those that its image brings along; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_image: Option<BTreeSet<String>>,
    /// The capabilities that its processes may hold, without `CAP_`; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<BTreeSet<String>>,
}

/// A tagged cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Path below the cgroup v2 mount.
    pub cgroup: String,
    /// The agent's name.
    pub agent: String,
    /// Cgroup v2 id.
    pub id: u64,
    /// Processes in it and below; none where the kernel does not tell.
    pub processes: Option<usize>,
    /// Whom it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Arc<Identity>>,
}

/// `POST /v1/run`: makes a scope for the agent and moves the caller into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The agent's name.
    pub agent: String,
    /// Whom the scope is bound to before anything runs in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// What shows who stands behind a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// A token of an issuer.
    Token(Token),
    /// A login that is done.
    Login(Uuid),
    /// An assertion of a SAML identity provider, or the response that has it.
    Saml(Token),
}

impl Proof {
    /// The word for it in the audit.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Login(_) => "login",
            Self::Saml(_) => "saml",
        }
    }
}

/// A token on its way to the daemon. Zeroed when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Token")
    }
}

/// `POST /v1/scopes/bind`: binds a scope. On `agent.sock` `POST /v1/bind` binds the caller's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Which scope.
    pub which: Which,
    /// To whom.
    pub proof: Proof,
}

/// `POST /v1/login`: begins a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// The issuer, by its name in the configuration.
    pub issuer: String,
    /// On the control socket: the agent that is to be run,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// or the scope that is to be bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub which: Option<Which>,
}

/// What a person has to do to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The login.
    pub login: Uuid,
    /// Where to go.
    pub address: String,
    /// What to type there.
    pub code: String,
    /// Where to go so that nothing is to be typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<String>,
    /// How long there is, in seconds.
    pub seconds: u64,
}

/// Names a login: `POST /v1/login/wait`, and `POST /v1/bind` on `agent.sock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Which.
    pub login: Uuid,
}

/// How far a login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// Whether it is done.
    pub done: bool,
}

/// What `run` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The cgroup that the caller is in now.
    pub cgroup: String,
    /// Variables for the agent's environment: where the local authority's certificate is, and the
    /// scope's throw-away password.
    pub environment: BTreeMap<String, String>,
    /// What the launcher takes away before the agent starts.
    pub launch: Launch,
}

/// What a launcher takes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Whether the agent may make user namespaces.
    pub user_namespaces: bool,
    /// Whether it gets mounts of its own.
    pub mounts: bool,
    /// What is hidden on them.
    pub hide: Vec<String>,
    /// Files in that which are not.
    pub keep: Vec<String>,
    /// UNIX sockets outside that it may reach.
    pub sockets: Vec<String>,
    /// Whether it may reach all of them.
    pub all_sockets: bool,
    /// What it is to trust, on mounts of its own.
    pub trust: Option<Trust>,
}

/// What clients of a command trust besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The certificate of the daemon's authority, PEM.
    pub certificate: String,
    /// Bundles beside those that are known, as patterns.
    pub bundles: Vec<String>,
    /// The SSH servers that the daemon stands for, as lines of `known_hosts`.
    pub known_hosts: Vec<String>,
}

/// What an exchange gives (RFC 8693 section 2.2.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanged {
    /// The token.
    pub access_token: String,
    /// What it is.
    pub issued_token_type: String,
    /// How it is used: as nothing that OAuth knows, `N_A`.
    pub token_type: String,
    /// How long it is good, in seconds.
    pub expires_in: u64,
}

impl fmt::Debug for Exchanged {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Exchanged")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// Names an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name.
    pub agent: String,
}

/// What freezing, thawing or killing did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acted {
    /// Scopes it was done to.
    pub scopes: Vec<String>,
    /// Sessions that were ended.
    pub sessions: usize,
}

/// Names a question to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichApproval {
    /// Which.
    pub approval: ApprovalId,
}

/// A link to the console, for root: it can be used once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where.
    pub url: String,
    /// For how long, in seconds.
    pub seconds: u64,
}

/// `POST /v1/console/enrol`: whose first key is to be vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// Who, as rules name them: `staff:SUBJECT`.
    pub person: String,
}

/// What vouches for somebody's first key: it can be used once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// What they type.
    pub code: String,
    /// For how long, in seconds.
    pub seconds: u64,
}

/// `POST /v1/records/search`: lines of the audit log, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Of this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// About this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Of this event, or of all that begin so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// With this in them, whatever its case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of this request, session or connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
}

/// What a search found.
#[derive(Debug, Serialize)]
pub struct Found {
    /// The lines, as they stand in the log.
    pub lines: Vec<Box<RawValue>>,
    /// Whether older ones were not looked at any more.
    pub partial: bool,
    /// The rules that they name, as they stand in the policy in force.
    pub rules: BTreeMap<String, String>,
}

/// A question, with what the same agent asked before in the same shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The question.
    pub standing: Standing,
    /// Earlier ones, the last first.
    pub before: Vec<Standing>,
    /// Digest of what is shown of the question, in hex: what a second factor signs.
    #[serde(default)]
    pub shown: String,
}

/// `POST /v1/approvals/answer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Say {
    /// To which question.
    pub approval: ApprovalId,
    /// Yes or no.
    pub yes: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For how long it covers the same text with other literals: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// How many requests that wait for it a yes covers, and at least one.
    #[serde(default)]
    pub times: u64,
    /// Whether it is an emergency, and stands in place of everybody else's answer.
    #[serde(default)]
    pub break_glass: bool,
    /// Digest of what was shown of it, as the question is answered with: a yes to something else is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// What a key of whoever says so has signed, at the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<Assertion>,
}

/// `POST /v1/approvals/delegate`: names a stand-in for the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegate {
    /// Who stands in.
    pub to: StandIn,
    /// For how long: `8h`.
    #[serde(rename = "for")]
    pub time: String,
}

/// Names a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichDelegation {
    /// Which.
    pub delegation: Uuid,
}

/// `POST /v1/records/read`: says that records are about to be read, which is audited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// `audit`, `recordings`, or `samples` of a target.
    pub what: String,
    /// Which, in words: a session's id, a filter, a target and its databases.
    pub which: String,
}

/// `POST /v1/sessions/hold` and, without a reason, `/v1/sessions/release` and `/v1/sessions/kill`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichSession {
    /// Its id, or how that begins.
    pub session: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was done to a session or its recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub session: Uuid,
    /// Whether anything is different now.
    pub changed: bool,
}

/// Where the records are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The state directory.
    pub state: String,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The policy in force.
    pub generation: u64,
    /// Sessions ended because their permission was withdrawn.
    pub ended: usize,
    /// Cgroups that are tagged no more: the file does not name them any longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untagged: Vec<String>,
    /// Settings that were changed in the file but need a restart.
    pub needs_restart: Vec<String>,
    /// Mistakes: where there are any, everything old stays in force.
    pub mistakes: Vec<String>,
}

impl Reloaded {
    /// `ok`, or `failed` where there are mistakes: the audit's word for it.
    #[must_use]
    pub fn result(&self) -> &'static str {
        if self.mistakes.is_empty() {
            "ok"
        } else {
            "failed"
        }
    }
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Who looks at UNIX sockets on this kernel: `lsm`, `names` or `none`.
    pub guard: String,
    /// Whether the whole host is guarded (`guard: host`).
    #[serde(default)]
    pub guards_host: bool,
    /// Processes that the guard of the host holds of scopes that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<u32>,
    /// The policy in force.
    pub generation: u64,
    /// Tagged cgroups.
    pub scopes: Vec<Scope>,
    /// Targets with their addresses.
    pub targets: BTreeMap<String, Vec<String>>,
    /// Agents with what they use.
    pub agents: BTreeMap<String, Usage>,
    /// Open sessions.
    pub sessions: Vec<OpenSession>,
    /// The listener pair's addresses.
    pub listeners: Vec<String>,
    /// Where the audit goes besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputStatus>,
    /// Programs that do not take this host's certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distrusting: Vec<Distrusting>,
}

/// A program that did not take the certificate for a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distrusting {
    /// The program's file.
    pub executable: String,
    /// Its SHA-256.
    pub sha256: String,
    /// As whom it was answered.
    pub name: String,
    /// The target that it went to.
    pub target: String,
    /// What it said: the alert's name, or `closed`.
    pub how: String,
    /// How often, since the daemon started.
    pub times: u64,
}

/// How an output of the audit is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputStatus {
    /// Lines that it has not taken yet.
    pub behind: u64,
    /// Why it did not take the last that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
}

/// What one agent uses now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Connections.
    pub connections: u32,
    /// Sessions.
    pub sessions: u32,
}

/// One open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Its id.
    pub id: Uuid,
    /// The agent.
    pub agent: String,
    /// The target.
    pub target: String,
    /// The database; absent where the target knows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The client's process.
    pub pid: u32,
    /// Its executable.
    pub executable: String,
    /// Requests judged.
    pub requests: u64,
    /// Seconds since it was opened.
    pub seconds: u64,
}

/// `GET /v1/self` on `agent.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The caller's agent.
    pub agent: String,
    /// The scope that it is in.
    pub cgroup: String,
    /// Targets there are.
    pub targets: Vec<String>,
    /// Whom the scope is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Arc<Identity>>,
}

/// `POST /v1/why` on `agent.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// The target.
    pub target: String,
    /// The database.
    pub database: String,
    /// The statement.
    pub statement: String,
}

/// A refusal or a failure, as `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// What went wrong.
    pub title: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The question that people are asked: the same request finds their answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
}

/// The JSON Schema (draft 2020-12) of [`Request`], which is also the form in a refusal's hint.
pub const REQUEST_SCHEMA: &str = include_str!("request.json");

/// `POST /v1/grants`: asks for a grant for the caller's own process tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The target.
    pub target: String,
    /// The database; absent for all that the target offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What is to be done.
    pub actions: BTreeSet<Action>,
    /// To what.
    pub resource: Resource,
    /// For how long: `10m`.
    #[serde(rename = "for")]
    pub time: String,
    /// In how long it begins: `2h`; absent for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How often; absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
    /// How many rows the answers may have, and writes touch, together; absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many bytes those rows may have; absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What for.
    pub reason: String,
    /// The ticket that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Whether the process that asks ends at once, so that the grant is for what started it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passing: bool,
    /// In whose name: a token that an exchange gave to the same process tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Token>,
}

/// `POST /v1/grants/revoke`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Which.
    pub grant: GrantId,
}
