//! How "no" reads: one sentence about what was refused, and one about what can be done instead.
//!
//! Names come from the agent's own text: they are cut and cleaned, so that a refusal cannot be made
//! to look like something else in a terminal or a log.

use std::collections::BTreeSet;

use cedar_policy::PolicyId;

use super::vocabulary::{shown_object, shown_path};
use super::{Access, Action, ApprovalId, Context, Refusal, RefusalKind, Resource, SshFacts, Terms};
use crate::unseen::is_unseen;

/// Most characters of one name in a message.
const NAME: usize = 128;
/// Most names of a list in a message.
const NAMES: usize = 5;
/// Where to ask for what a process tree is given.
const FROM_A_TREE: &str = "ask from a shell or a program of the agent's own that goes on running (a shell becomes the last \
                           command of its line: put `; exit $?` behind that)";

/// What is refused: lower case where no statement begins it, no full stop.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most actions are called by their verb"
)]
pub(super) fn message(access: &Access, context: &Context, target: &str, database: &str) -> String {
    let on = |what: &str| format!("{what} on {}", resource(&access.resource, target, database));
    let what = match access.action {
        Action::Connect => format!("connecting to target {}", shown(target)),
        Action::Open if database.is_empty() => format!("opening target {}", shown(target)),
        Action::Open => format!(
            "opening database {} of target {}",
            shown(database),
            shown(target)
        ),
        Action::Set | Action::Show if !context.settings.is_empty() => {
            format!("{} {}", verb(access.action), list(&context.settings))
        }
        Action::Call => match &access.resource {
            Resource::Function { .. } => format!(
                "calling function {}",
                resource(&access.resource, target, database)
            ),
            _ => on("calling functions"),
        },
        Action::Replicate if !context.command.is_empty() => {
            format!("{} ({})", verb(access.action), shown(&context.command))
        }
        Action::Transaction
        | Action::Do
        | Action::Notify
        | Action::Replicate
        | Action::FastPath
        | Action::Unreadable => verb(access.action).to_owned(),
        Action::KubeToken => {
            let whose = resource(&access.resource, target, database);
            format!("having a token made of {whose}")
        }
        Action::KubeExec => {
            let program = context.kubernetes.as_ref().map(|facts| &facts.program);
            match program.filter(|program| !program.is_empty()) {
                Some(program) => on(&format!("exec of {}", shown(program))),
                None => on(verb(access.action)),
            }
        }
        Action::Exec
        | Action::Shell
        | Action::Subsystem
        | Action::ForwardX11
        | Action::ForwardAgent => channel(access.action, context.ssh.as_deref()),
        Action::ForwardTo | Action::ForwardFrom => {
            let forward = resource(&access.resource, target, database);
            format!("{} {forward}", verb(access.action))
        }
        Action::HttpOther => on(&method(context)),
        plain => on(verb(plain)),
    };
    format!("{what} is not permitted")
}

/// The method of a request that has no action of its own.
fn method(context: &Context) -> String {
    let facts = context.http.as_ref();
    facts.map_or_else(
        || verb(Action::HttpOther).to_owned(),
        |facts| shown(&facts.method),
    )
}

/// What a channel asks, in words.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most actions are called by their verb"
)]
fn channel(action: Action, facts: Option<&SshFacts>) -> String {
    let nothing = SshFacts::default();
    let facts = facts.unwrap_or(&nothing);
    match action {
        Action::Exec if !facts.git_verb.is_empty() => {
            let (verb, repository) = (&facts.git_verb, shown(&facts.git_repository));
            format!("git {verb} of {repository}")
        }
        Action::Exec if facts.is_simple => format!("running {}", shown(&facts.program)),
        Action::Exec => {
            let constructs: Vec<_> = facts.constructs.iter().map(String::as_str).collect();
            format!("running a command with {}", constructs.join(", "))
        }
        Action::Subsystem => format!("subsystem {}", shown(&facts.subsystem)),
        _ => verb(action).to_owned(),
    }
}

/// What can be done instead, where no rule's own hint says it.
pub(super) fn hint(access: &Access, instead: &[Action]) -> String {
    if access.action == Action::Unreadable {
        return "the statement could not be read by the SQL grammar; write it in plain, complete \
                SQL in UTF-8, of at most 1 MiB"
            .to_owned();
    }
    if instead.is_empty() {
        return "no rule permits this; whoever keeps the policies of this host can add one".into();
    }
    let instead: Vec<_> = instead.iter().map(|action| verb(*action)).collect();
    format!(
        "permitted here: {}; for more, ask whoever keeps the policies of this host",
        instead.join(", ")
    )
}

/// What is said where a rule could not be evaluated.
pub(super) fn broken(rules: &BTreeSet<PolicyId>, errors: &[String]) -> String {
    for error in errors {
        tracing::error!(%error, "a rule cannot be evaluated; the request is refused");
    }
    let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
    format!(
        "rule {} cannot be evaluated; whoever keeps the policies of this host must mend it",
        shown(&rules.join(", "))
    )
}

/// An action as people say it.
pub(super) const fn verb(action: Action) -> &'static str {
    match action {
        Action::Connect => "connecting",
        Action::Open => "opening",
        Action::Select => "SELECT",
        Action::CopyOut => "COPY TO STDOUT",
        Action::Explain => "EXPLAIN",
        Action::Show => "SHOW",
        Action::Insert => "INSERT",
        Action::Update => "UPDATE",
        Action::Delete => "DELETE",
        Action::Merge => "MERGE",
        Action::Truncate => "TRUNCATE",
        Action::CopyIn => "COPY FROM STDIN",
        Action::Lock => "LOCK",
        Action::Ddl => "data definition (CREATE, ALTER, DROP and the like)",
        Action::Grant => "changing rights or roles",
        Action::Maintain => "maintenance (VACUUM, ANALYZE, REINDEX and the like)",
        Action::System => "access to the server itself (files, programs, settings)",
        Action::Do => "DO",
        Action::Transaction => "transaction control",
        Action::Set => "SET",
        Action::Call => "calling functions",
        Action::Notify => "LISTEN and NOTIFY",
        Action::Replicate => "replication",
        Action::FastPath => "the function-call message",
        Action::Reveal => "reading the masked value",
        Action::Unreadable => "a statement that cannot be read",
        Action::HttpGet => "GET",
        Action::HttpHead => "HEAD",
        Action::HttpOptions => "OPTIONS",
        Action::HttpPost => "POST",
        Action::HttpPut => "PUT",
        Action::HttpPatch => "PATCH",
        Action::HttpDelete => "DELETE",
        Action::HttpOther => "a method",
        Action::HttpUpgrade => "an upgrade of the connection",
        Action::HttpPassThrough => "a connection that goes by undecrypted",
        Action::Exec => "running commands",
        Action::Shell => "an interactive shell",
        Action::Subsystem => "a subsystem",
        Action::ListFiles => "looking",
        Action::ReadFile => "reading",
        Action::WriteFile => "writing",
        Action::RemoveFile => "removing",
        Action::ForwardTo => "forwarding to",
        Action::ForwardFrom => "listening on the server for",
        Action::ForwardX11 => "forwarding X11",
        Action::ForwardAgent => "forwarding an SSH agent",
        Action::KubeGet => "get",
        Action::KubeList => "list",
        Action::KubeWatch => "watch",
        Action::KubeCreate => "create",
        Action::KubeUpdate => "update",
        Action::KubePatch => "patch",
        Action::KubeDelete => "delete",
        Action::KubeDeleteCollection => "delete of a collection",
        Action::KubeEvict => "eviction",
        Action::KubeExec => "exec",
        Action::KubeAttach => "attach",
        Action::KubePortForward => "port-forward",
        Action::KubeProxy => "proxy",
        Action::KubeDebug => "ephemeral containers",
        Action::KubeToken => "a token",
        Action::KubeBind => "giving roles to somebody",
        Action::KubeEscalate => "saying what a role may",
        Action::KubeImpersonate => "acting as somebody else",
        Action::KubeVisit => "reading",
        Action::KubeOther => "this method",
    }
}

fn resource(resource: &Resource, target: &str, database: &str) -> String {
    match resource {
        Resource::Target => format!("target {}", shown(target)),
        Resource::Database => format!("database {}", shown(database)),
        Resource::Schema { schema } => format!("schema {}", shown(schema)),
        Resource::Table { schema, table } => qualified(&[schema, table]),
        Resource::Column {
            schema,
            table,
            column,
        } => qualified(&[schema, table, column]),
        Resource::Function { schema, function } => qualified(&[schema, function]),
        Resource::Path { path } => format!("{} of target {}", shown(path), shown(target)),
        Resource::File { path } => shown(&shown_path(path)),
        Resource::Forward { host, port: 0 } => shown(host),
        Resource::Forward { host, port } => format!("{}:{port}", shown(host)),
        Resource::KubeNamespace { namespace } => format!("namespace {}", shown(namespace)),
        Resource::KubeObject {
            namespace,
            resource,
            name,
        } => {
            let object = shown_object(namespace, resource, name);
            format!("{} of target {}", shown(&object), shown(target))
        }
    }
}

fn qualified(names: &[&String]) -> String {
    let names: Vec<_> = names
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| shown(name))
        .collect();
    names.join(".")
}

fn list(names: &BTreeSet<String>) -> String {
    let mut shown_names: Vec<_> = names.iter().take(NAMES).map(|name| shown(name)).collect();
    if names.len() > NAMES {
        shown_names.push("…".to_owned());
    }
    shown_names.join(", ")
}

/// A name that is safe to print: cut, and without control characters or marks that turn text around.
pub(super) fn shown(name: &str) -> String {
    let mut shown: String = name
        .chars()
        .take(NAME)
        .map(|c| if is_unseen(c) { '?' } else { c })
        .collect();
    if name.chars().nth(NAME).is_some() {
        shown.push('…');
    }
    shown
}

/// Refusals that no rule decides. What the caller reads is fixed here; the cause is for the log.
impl Refusal {
    /// All of it in one line, for clients that show nothing else: message, next step, rules, and the request's id.
    #[must_use]
    pub fn sentence(&self, request: Option<&str>) -> String {
        let mut message = format!("interceptor: {}", self.message);
        if let Some(hint) = &self.hint {
            message.push_str(&format!("; {hint}"));
        }
        let rules: Vec<&str> = self.rules.iter().map(|rule| rule.0.as_str()).collect();
        let rule = (!rules.is_empty()).then(|| format!("rule {}", rules.join(", ")));
        let request = request.map(|request| format!("request {request}"));
        let named: Vec<_> = rule.into_iter().chain(request).collect();
        if !named.is_empty() {
            message.push_str(&format!(" ({})", named.join("; ")));
        }
        message
    }

    fn plain(kind: RefusalKind, message: &str, hint: &str) -> Self {
        Self {
            kind,
            rules: Vec::new(),
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        }
    }

    /// Who asks could not be proved.
    #[must_use]
    pub fn identity() -> Self {
        let hint = "connect again from a process that stays until the connection is made";
        let message = "the process behind this connection could not be identified";
        Self::plain(RefusalKind::Identity, message, hint)
    }

    /// The client did not show that it knows its scope's throw-away password.
    #[must_use]
    pub fn unproved() -> Self {
        let message = "the client did not log in with its scope's password";
        let hint = "run the program by `interceptor run`, which sets PGPASSWORD";
        Self::plain(RefusalKind::Identity, message, hint)
    }

    /// The process is root's or holds host capabilities, and the agent is not allowed to.
    #[must_use]
    pub fn privileged() -> Self {
        let message = "processes of root, or with capabilities on the host, get no credentials";
        let hint = "run it as an ordinary user; for root: `interceptor run --user NAME`";
        Self::plain(RefusalKind::Identity, message, hint)
    }

    /// A limit of the agent is reached; `what` names it: `sessions at once`.
    #[must_use]
    pub fn limit(what: &str) -> Self {
        let message = format!("this agent's limit of {what} is reached");
        Self::plain(
            RefusalKind::Limit,
            &message,
            "close what is not used, or wait",
        )
    }

    /// Something was done too often lately; `message` says what, and when there is room again.
    #[must_use]
    pub fn too_often(message: &str) -> Self {
        Self::plain(
            RefusalKind::Limit,
            message,
            "wait, and ask for more at once",
        )
    }

    /// Audit or recording cannot be written; `message` says which.
    #[must_use]
    pub fn storage(message: &str) -> Self {
        let hint = "nothing is forwarded that cannot be recorded; tell whoever runs this host";
        Self::plain(RefusalKind::Storage, message, hint)
    }

    /// The secret is not available.
    #[must_use]
    pub fn secret() -> Self {
        let message = "the credential for this target is not available";
        Self::plain(RefusalKind::Secret, message, "tell whoever runs this host")
    }

    /// The upstream is not available or not acceptable; `message` says what of it.
    #[must_use]
    pub fn upstream(message: &str) -> Self {
        Self::plain(RefusalKind::Upstream, message, "try again later")
    }

    /// What is asked for is not among what the target offers; `message` says what.
    #[must_use]
    pub fn not_offered(message: &str, hint: &str) -> Self {
        Self::plain(RefusalKind::NotPermitted, message, hint)
    }

    /// A value was found in the request that must not leave; `kind` is its kind.
    #[must_use]
    pub fn leaving(kind: &str) -> Self {
        let message = format!("a value of kind {kind} stands in the request, and must not leave");
        Self::plain(
            RefusalKind::NotPermitted,
            &message,
            "send it without that value",
        )
    }

    /// More is masked since the request was judged.
    #[must_use]
    pub fn masked_since() -> Self {
        let message = "what is masked has changed while the request was judged";
        Self::plain(RefusalKind::NotPermitted, message, "send it again")
    }

    /// A grant was used up, or ended, while the request was judged.
    #[must_use]
    pub fn grant_spent() -> Self {
        let message = "the grant has been used up or has ended";
        Self::plain(RefusalKind::NeedsGrant, message, "ask for another one")
    }

    /// What is left of a grant is set aside for another request.
    #[must_use]
    pub fn grant_busy() -> Self {
        let message = "what is left of the grant is set aside for a request that runs";
        let hint = "send it again when that is answered, or ask for another grant";
        Self::plain(RefusalKind::NeedsGrant, message, hint)
    }

    /// The grant that covers it counts rows, and what this reads is not in an answer that can be counted.
    #[must_use]
    pub fn not_counted() -> Self {
        let message =
            "the grant counts rows or bytes of answers, and what this touches is in no answer";
        let hint = "read what is granted by a SELECT or a COPY TO STDOUT, not by a cursor nor into \
                    another table; write by one INSERT, UPDATE, DELETE, MERGE or COPY FROM STDIN without others \
                    in it or beside it, and by a grant without bytes";
        Self::plain(RefusalKind::NeedsGrant, message, hint)
    }

    /// A write whose rows are counted would run together with others, which it must not take along.
    #[must_use]
    pub fn counted_alone() -> Self {
        let message = "a write whose rows a grant counts runs alone, or in a transaction of yours";
        let hint = "end the pipeline (Sync) before it and behind it, or open a transaction first";
        Self::plain(RefusalKind::NeedsGrant, message, hint)
    }

    /// A grant was asked for that is more than policy has any.
    #[must_use]
    pub fn granted_for_less(terms: &[Terms]) -> Self {
        let of = |Terms { longest, most }: &Terms| {
            let counted = [
                (most.uses, "uses"),
                (most.rows, "rows"),
                (most.bytes, "bytes"),
            ];
            let counted = counted
                .into_iter()
                .filter_map(|(most, what)| Some(format!(" and {} {what}", most?)));
            format!("{} s{}", longest.as_secs(), counted.collect::<String>())
        };
        let terms: Vec<_> = terms.iter().take(NAMES).map(of).collect();
        let message = format!("this is granted for at most {}", terms.join(", or for "));
        Self::plain(RefusalKind::NotPermitted, &message, "ask for less")
    }

    /// A grant was asked for by a process that is of no tree, and may be given to one alone.
    #[must_use]
    pub fn granted_to_trees() -> Self {
        let message = "this is granted to a process and what it starts, and nothing that started the one that asks runs in \
                       its scope: the grant would be the whole scope's";
        let hint =
            format!("{FROM_A_TREE}; only a permit with @grant_scope gives it to a whole scope");
        Self::plain(RefusalKind::NotPermitted, message, &hint)
    }

    /// A token was to be exchanged for one of a process tree, and nothing that started the one that asks is in its scope.
    #[must_use]
    pub fn exchanged_for_trees() -> Self {
        let message = "a token is exchanged for a process and what it starts, and nothing that started the one that asks \
                       runs in its scope: the new one would be the whole scope's";
        let hint = format!(
            "{FROM_A_TREE}; who may bind the scope exchanges one for all of it, from outside"
        );
        Self::plain(RefusalKind::NotPermitted, message, &hint)
    }

    /// A grant was asked for that nobody needs.
    #[must_use]
    pub fn permitted_already() -> Self {
        let message = "this is permitted without a grant";
        Self::plain(RefusalKind::NotPermitted, message, "send the request")
    }

    /// People are asked, and nobody has answered yet.
    #[must_use]
    pub fn waits_for_people(summary: &str, who: &str, id: ApprovalId) -> Self {
        let message = format!("{summary} waits for an approval of {who}");
        let hint = format!(
            "approval {}: once it is given, send the same again; outside of a transaction it waits by itself",
            id.0
        );
        Self::plain(RefusalKind::NeedsApproval, &message, &hint)
    }

    /// People would have to be asked, and cannot be; `why` says why.
    #[must_use]
    pub fn not_askable(summary: &str, why: &str) -> Self {
        let message = format!("{summary} needs an approval, and people cannot be asked: {why}");
        let hint = "send it as one statement of its own, with all that it says in its text";
        Self::plain(RefusalKind::NeedsApproval, &message, hint)
    }

    /// People said no, or nothing that helps.
    #[must_use]
    pub fn denied_by_people(message: &str) -> Self {
        Self::plain(
            RefusalKind::NeedsApproval,
            message,
            "talk to them before you ask again",
        )
    }

    /// Who said yes may not any more.
    #[must_use]
    pub fn approval_void(name: &str) -> Self {
        let message = format!("the approval does not stand: {name} may not give it any more");
        Self::plain(
            RefusalKind::NeedsApproval,
            &message,
            "send it again: others are asked",
        )
    }

    /// More questions than people could answer.
    #[must_use]
    pub fn too_many_questions(message: &str) -> Self {
        Self::plain(RefusalKind::Limit, message, "wait for the answers")
    }

    /// The client does not want it any more.
    #[must_use]
    pub fn cancelled() -> Self {
        let message = "canceling statement due to user request";
        Self::plain(RefusalKind::Cancelled, message, "it was not forwarded")
    }

    /// A type of records that nobody may ask for.
    #[must_use]
    pub fn record_type(kind: &str) -> Self {
        let message = format!("asking for {} records is not permitted", shown(kind));
        let hint = "`names.types` of the configuration says which may be asked for";
        Self::plain(RefusalKind::NotPermitted, &message, hint)
    }

    /// A public name whose answer is an address of a private network.
    #[must_use]
    pub fn rebinding(name: &str) -> Self {
        let message = format!(
            "{} has an address that only known names may have",
            shown(name)
        );
        let hint = "`names.private` of the configuration says which domains are known";
        Self::plain(RefusalKind::Forbidden, &message, hint)
    }

    /// A name that carries data, or one of too many; `what` says which.
    #[must_use]
    pub fn tunnel(what: &str) -> Self {
        let message = format!("this name is not asked for: {what}");
        let hint = "`names.private` of the configuration lifts this for domains of one's own";
        Self::plain(RefusalKind::Limit, &message, hint)
    }

    /// The session was ended.
    #[must_use]
    pub fn ended() -> Self {
        Self::plain(RefusalKind::Ended, "the session was ended", "connect again")
    }

    /// A request that not everybody reads alike; `why` says what of it.
    #[must_use]
    pub fn malformed(why: &str) -> Self {
        let hint = "send it in the plain form that every server reads alike";
        Self::plain(RefusalKind::Unreadable, why, hint)
    }

    /// A body that has to be read and cannot be; `why` says why.
    #[must_use]
    pub fn unread(why: &str) -> Self {
        let hint = "send it uncompressed, as plain JSON, and no longer than is read here";
        Self::plain(RefusalKind::Unreadable, why, hint)
    }

    /// What brings files or another protocol, in which detectors look for nothing; `what` names it.
    #[must_use]
    pub fn unsearchable(what: &str) -> Self {
        let message =
            format!("what {what} brings cannot be searched for the values that are masked here");
        let hint = "have a command print it, such as cat; `ssh.unread: pass` of the target lets it go on as it is";
        Self::plain(RefusalKind::Unreadable, &message, hint)
    }

    /// An answer that masks cannot read; `why` says why.
    #[must_use]
    pub fn unmasked(why: &str) -> Self {
        let message = format!("the answer holds what may be masked, and cannot be read: {why}");
        let hint = "ask for it as JSON or as text, uncompressed and as a whole";
        Self::plain(RefusalKind::Unreadable, &message, hint)
    }

    /// An answer in which the credential that was given cannot be looked for; `why` says why.
    #[must_use]
    pub fn unsearched(why: &str) -> Self {
        let message = format!("the answer may hold the credential, and cannot be searched: {why}");
        let hint = "ask for it in another form; it has to come uncompressed and as a whole";
        Self::plain(RefusalKind::Unreadable, &message, hint)
    }

    /// A defect; `message` says what cannot be done for it.
    #[must_use]
    pub fn internal(message: &str) -> Self {
        Self::plain(
            RefusalKind::Internal,
            message,
            "the log of the daemon says why",
        )
    }
}

#[cfg(test)]
mod tests;
