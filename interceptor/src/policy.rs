//! May they: requests in policy's own words, decisions, and the permit that proves one.
//!
//! Knows no protocol. An engine turns bytes into an [`Ask`]; Cedar decides; a [`Permit`] can be made
//! nowhere else, and the function that writes upstream takes one by value. A rule that cannot be
//! evaluated refuses, a directory with one mistake does not load.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

mod compile;
mod control;
mod decide;
mod family;
mod handle;
mod names;
mod obligation;
mod source;
mod subject;
mod vocabulary;
mod words;

pub use compile::{Effect, Ever, Policy, Rule};
pub use control::{ControlCaller, ControlObject, ControlVerb, Group, HostUser, SessionUser};
pub use decide::{ExplainedAccess, ExplainedAsk, Explanation, Seen, Verdicts};
pub use family::http::{GraphqlFacts, GrpcFacts, HttpFacts, McpFacts, TlsFacts};
pub use family::kubernetes::KubeFacts;
pub use handle::Handle;
pub use names::{Question, is_plain};
pub use obligation::{
    ApprovalId, Approved, AskedWhenRun, Budget, Counted, Covering, GrantId, Grantable, Held,
    Issued, Later, Limit, Limits, Need, Needs, NoGrants, NotApproved, Offer, Place, Terms, Want,
    is_answered, is_written, needed, size,
};
pub use source::{Mistake, Mistakes};
pub use subject::{Error, PrincipalFacts};
#[cfg(test)]
pub(crate) use vocabulary::lies_in;
pub use vocabulary::{SCHEMA, column, column_name};

/// What is done, one kind of statement each. The schema in `policies/` names the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action {
    /// Reach a destination at all (`admit`); before any packet goes upstream.
    Connect,
    /// Open a session on a database.
    Open,

    // Group Read
    /// Read rows.
    Select,
    /// `COPY … TO STDOUT`.
    CopyOut,
    /// `EXPLAIN` without `ANALYZE`.
    Explain,
    /// `SHOW`.
    Show,

    // Group Write
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `MERGE`.
    Merge,
    /// `TRUNCATE`.
    Truncate,
    /// `COPY … FROM STDIN`.
    CopyIn,
    /// `LOCK`, and `SELECT … FOR UPDATE` and its like.
    Lock,

    // Group Admin
    /// `CREATE`, `ALTER`, `DROP`, `COMMENT`, `REFRESH`, `SELECT … INTO` and the rest of data definition.
    Ddl,
    /// `GRANT`, `REVOKE`, roles, default privileges, `SECURITY LABEL`.
    Grant,
    /// `VACUUM`, `ANALYZE`, `REINDEX`, `CLUSTER`, `CHECKPOINT`.
    Maintain,
    /// `ALTER SYSTEM`, `LOAD`, server files and programs (`COPY … PROGRAM`), and the like.
    System,
    /// `DO`: code in a language that is not read.
    Do,

    // Group Session
    /// `BEGIN`, `COMMIT`, `ROLLBACK`, savepoints; `PREPARE TRANSACTION` is `System`.
    Transaction,
    /// `SET`, `RESET`, `DISCARD`; `context.setting` names it.
    Set,

    // On their own
    /// Call a function or procedure that is not on the built-in list of harmless ones.
    Call,
    /// `LISTEN`, `NOTIFY` and `pg_notify`; `UNLISTEN` is `Transaction`.
    Notify,
    /// Replication connections and their commands; `context.command` names it. On the target what
    /// reaches all of the server, on the database what does not.
    Replicate,
    /// The function-call message of the wire protocol.
    FastPath,
    /// See a masked column as it is.
    Reveal,
    /// Text that cannot be read, and is forwarded unread where this is permitted.
    Unreadable,

    // Group HttpRead
    /// `GET`.
    HttpGet,
    /// `HEAD`.
    HttpHead,
    /// `OPTIONS`.
    HttpOptions,

    // Group HttpWrite
    /// `POST`.
    HttpPost,
    /// `PUT`.
    HttpPut,
    /// `PATCH`.
    HttpPatch,
    /// `DELETE`.
    HttpDelete,
    /// A request of any other method.
    HttpOther,
    /// A request that turns its connection into something else: a WebSocket.
    HttpUpgrade,

    // On its own
    /// A connection under TLS that goes by undecrypted.
    HttpPassThrough,

    // Group SshRun
    /// Run a command; `context.program` where it is a simple one.
    Exec,
    /// An interactive shell.
    Shell,
    /// A subsystem other than `sftp`, which is read.
    Subsystem,

    // Group SshRead
    /// Look at directories and at what files are: sftp.
    ListFiles,
    /// Read a file: sftp, `scp -f`, `rsync --sender`.
    ReadFile,

    // Group SshWrite
    /// Make, write, rename or change a file or directory.
    WriteFile,
    /// Remove a file or directory.
    RemoveFile,

    // Group SshForward
    /// Reach a host and port, or a socket, from the server: `ssh -L`, `-D`, `-W`.
    ForwardTo,
    /// Have the server listen: `ssh -R`.
    ForwardFrom,
    /// Have the server's X11 clients reach the agent.
    ForwardX11,
    /// Have the server reach the agent's own keys.
    ForwardAgent,

    // Group KubeRead
    /// Read an object of a cluster.
    KubeGet,
    /// Read all objects of a kind, or those that a selector names.
    KubeList,
    /// Hear of changes.
    KubeWatch,

    // Group KubeWrite
    /// Make an object.
    KubeCreate,
    /// Replace an object.
    KubeUpdate,
    /// Change a part of an object, or apply it on the server's side.
    KubePatch,
    /// Remove an object.
    KubeDelete,
    /// Remove all objects of a kind, or those that a selector names.
    KubeDeleteCollection,
    /// Have a pod leave its node.
    KubeEvict,

    // Group KubeRun
    /// Run a command in a container.
    KubeExec,
    /// Speak to the process of a container.
    KubeAttach,
    /// Reach a port of a pod.
    KubePortForward,
    /// Reach what a pod, a service or a node serves through the cluster's server.
    KubeProxy,
    /// Put a container into a pod that runs (`ephemeralcontainers`).
    KubeDebug,

    // Group KubeAdmin
    /// Have a service account's token made.
    KubeToken,
    /// Give a role to somebody: writing a binding, beside that write itself.
    KubeBind,
    /// Say what a role may: writing a role, beside that write itself.
    KubeEscalate,
    /// Act as somebody else. Never done; asked of a review only.
    KubeImpersonate,

    // On their own
    /// Read a path of the server that is no object: discovery, health, metrics.
    KubeVisit,
    /// Any other request.
    KubeOther,
}

impl Action {
    /// Whether it is a request of an open session.
    #[must_use]
    pub fn is_a_request(self) -> bool {
        !matches!(self, Self::Connect | Self::Open | Self::Reveal)
    }

    /// Whether it is asked of a channel of SSH: its context is that of a channel.
    #[must_use]
    pub fn is_of_a_channel(self) -> bool {
        matches!(
            self,
            Self::Exec
                | Self::Shell
                | Self::Subsystem
                | Self::ListFiles
                | Self::ReadFile
                | Self::WriteFile
                | Self::RemoveFile
                | Self::ForwardTo
                | Self::ForwardFrom
                | Self::ForwardX11
                | Self::ForwardAgent
        )
    }

    /// Whether it runs code that is not read here.
    #[must_use]
    pub fn runs_code(self) -> bool {
        matches!(
            self,
            Self::Call
                | Self::Do
                | Self::FastPath
                | Self::Unreadable
                | Self::Exec
                | Self::Shell
                | Self::Subsystem
                | Self::KubeExec
                | Self::KubeAttach
                | Self::KubeDebug
        )
    }
}

/// What it is done to. Parents are implied: a table lies in a schema, in a database, in a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The target itself.
    Target,
    /// The session's database.
    Database,
    /// A schema of it.
    Schema {
        /// Name.
        schema: String,
    },
    /// A table, view or other relation.
    Table {
        /// Schema.
        schema: String,
        /// Name.
        table: String,
    },
    /// A column.
    Column {
        /// Schema.
        schema: String,
        /// Table.
        table: String,
        /// Name.
        column: String,
    },
    /// A function or procedure.
    Function {
        /// Schema.
        schema: String,
        /// Name, without its arguments.
        function: String,
    },
    /// A path of an HTTP target, and what lies below it.
    Path {
        /// As it is judged: `/v1/customers`, escapes resolved, no slash at its end but for `/` itself.
        path: String,
    },
    /// A file or directory of the target's host, and all that lies below it.
    File {
        /// The names on the way to it, outermost first; none for the root. The first is `~` where the path
        /// begins at the login's home.
        path: Vec<String>,
    },
    /// Where a forward leads.
    Forward {
        /// Host, or the path of a socket.
        host: String,
        /// Port; 0 for a socket.
        port: u32,
    },
    /// A namespace of a cluster, and all objects in it.
    KubeNamespace {
        /// Name.
        namespace: String,
    },
    /// An object of a cluster, or all of a kind in one place.
    KubeObject {
        /// Namespace; empty for what is in none, and for all namespaces.
        namespace: String,
        /// Kind as the server's paths name it, with its group: `pods`, `deployments.apps`.
        resource: String,
        /// Name; empty for all of the kind.
        name: String,
    },
}

/// One thing done to one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// What is done.
    pub action: Action,
    /// To what.
    pub resource: Resource,
}

/// What one statement asks for. Every access must be permitted, in the same context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// At least one for a well-formed ask; an empty one is refused.
    pub accesses: BTreeSet<Access>,
    /// What conditions may look at.
    #[serde(default)]
    pub context: Context,
}

/// Facts of a statement that are not resources; attributes of Cedar's `context`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Context {
    /// Whether every `UPDATE` and `DELETE` in the statement, nested ones too, has a `WHERE`
    /// (`true` where there is none of them).
    pub has_where: bool,
    /// Whether a `LIMIT` or `FETCH FIRST` bounds the outermost rows.
    pub has_limit: bool,
    /// Settings that the statement sets or shows, lower case.
    pub settings: BTreeSet<String>,
    /// Every function called, harmless ones too: `schema.name`, or `name` where unqualified.
    pub functions: BTreeSet<String>,
    /// The command of a replication connection, lower case; `startup` for the connection itself, and
    /// empty for everything else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// How many statements the request has.
    pub statements: u32,
    /// Whether the statement runs inside an explicit transaction block.
    pub in_transaction: bool,
    /// Whether the request is one write and nothing else, whose end says how many rows it touched. No
    /// condition looks at it.
    #[serde(skip)]
    pub tells_rows: bool,
    /// Facts of an HTTP request, where it is one; what is said of statements says nothing then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Box<HttpFacts>>,
    /// What a channel of SSH asks; absent for everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Box<SshFacts>>,
    /// What is asked of a cluster; absent for everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Box<KubeFacts>>,
}

/// Facts of what a channel of SSH asks; attributes of Cedar's `context`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SshFacts {
    /// The login on the server.
    pub user: String,
    /// The command as it was sent; empty where there is none. Not written down with what is asked: it is
    /// what the target's `statement` says how much is kept of.
    #[serde(skip_serializing)]
    pub command: String,
    /// Whether the command is one program with arguments that any shell reads as written.
    pub is_simple: bool,
    /// The program of a simple command, as it was named; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// The arguments of a simple command. Not written down either.
    #[serde(skip_serializing)]
    pub arguments: BTreeSet<String>,
    /// What makes a command no simple one: `pipeline`, `sequence`, `redirection`, `substitution`, `pattern`,
    /// `assignment`, `comment`, `keyword`, `unreadable`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub constructs: BTreeSet<String>,
    /// Whether a terminal was asked for.
    pub pty: bool,
    /// The subsystem; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subsystem: String,
    /// What is done to a file: `open`, `rename` and the like; empty where nothing is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// What git does: `fetch`, `push`, `archive`; empty for everything else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_verb: String,
    /// On which repository.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_repository: String,
}

impl SshFacts {
    /// About how many bytes it takes.
    fn weight(&self) -> usize {
        let texts = [
            &self.user,
            &self.command,
            &self.program,
            &self.subsystem,
            &self.operation,
            &self.git_verb,
            &self.git_repository,
        ];
        let sets = self.arguments.iter().chain(&self.constructs);
        let sets = sets.map(|text| size_of_val(text).saturating_add(text.len()));
        let texts = texts.into_iter().map(String::len);
        texts
            .chain(sets)
            .fold(size_of::<Self>(), usize::saturating_add)
    }
}

/// The `@id` of a policy, or `file:line` where it has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub String);

/// Counts policies: each reload that takes is one more. A permit of an older one is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// Proof that policy said yes. Made only in this module; writing a request upstream consumes one.
#[derive(Debug)]
#[must_use = "a permit that is not used is a request that was not forwarded"]
pub struct Permit {
    rules: std::sync::Arc<[RuleId]>,
    grants: std::sync::Arc<[GrantId]>,
    generation: Generation,
    limits: Option<std::sync::Arc<Limits>>,
}

impl Permit {
    /// The rules that decided.
    #[must_use]
    pub fn rules(&self) -> &std::sync::Arc<[RuleId]> {
        &self.rules
    }

    /// The grants that it stands on: whoever forwards uses each of them once.
    #[must_use]
    pub fn grants(&self) -> &std::sync::Arc<[GrantId]> {
        &self.grants
    }

    /// The policy that decided.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How much the answer may hold; `None` where nothing limits it.
    #[must_use]
    pub fn limits(&self) -> Option<&std::sync::Arc<Limits>> {
        self.limits.as_ref()
    }
}

#[cfg(test)]
impl Permit {
    /// A proof for unit tests of what consumes one: decided by `rule`.
    pub(crate) fn of_a_test(rule: &str) -> Self {
        Self {
            rules: [RuleId(rule.to_owned())].into(),
            grants: [].into(),
            generation: Generation(0),
            limits: None,
        }
    }

    /// The same with limits.
    pub(crate) fn limited(mut self, limits: Limits) -> Self {
        self.limits = Some(std::sync::Arc::new(limits));
        self
    }
}

/// Why a request is refused: what the caller may read, and what the audit adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The closed kind, a metric's label.
    pub kind: RefusalKind,
    /// The forbids that decided; empty where simply nothing permits it.
    pub rules: Vec<RuleId>,
    /// One sentence for the caller, lower case, no full stop: `DELETE on public.customers is not permitted`.
    pub message: String,
    /// What the caller can do next, from the rule's `@hint` or made up from the ask.
    pub hint: Option<String>,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// No permit covers it.
    NotPermitted,
    /// Policy permits it with a grant, and there is none.
    NeedsGrant,
    /// Policy permits it when people have said yes, and they have not.
    NeedsApproval,
    /// A forbid covers it.
    Forbidden,
    /// Text that cannot be read.
    Unreadable,
    /// Who asks could not be proved.
    Identity,
    /// The client cancelled it while it waited for people.
    Cancelled,
    /// A limit of the agent is reached.
    Limit,
    /// The audit or the recording cannot be written.
    Storage,
    /// The secret is not available.
    Secret,
    /// The upstream is not available or not acceptable.
    Upstream,
    /// The session was ended: policy withdrawn, killed, drained.
    Ended,
    /// A defect of the daemon; refused all the same.
    Internal,
}

impl RefusalKind {
    /// Whether nothing was decided: something that is needed did not work.
    #[must_use]
    pub fn is_a_failure(self) -> bool {
        matches!(
            self,
            Self::Storage | Self::Secret | Self::Upstream | Self::Internal
        )
    }

    /// Its word in metrics and in the audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotPermitted => "not_permitted",
            Self::NeedsGrant => "needs_grant",
            Self::NeedsApproval => "needs_approval",
            Self::Cancelled => "cancelled",
            Self::Forbidden => "forbidden",
            Self::Unreadable => "unreadable",
            Self::Identity => "identity",
            Self::Limit => "limit",
            Self::Storage => "storage",
            Self::Secret => "secret",
            Self::Upstream => "upstream",
            Self::Ended => "ended",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests;
