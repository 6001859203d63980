//! The decision: every access of every ask, in its own context, and the one refusal that is told.
//!
//! Authorizing and explaining go through the same `judge_access`, so that `why` cannot disagree
//! with what was done. A rule that cannot be evaluated refuses: Cedar passes over it, and it may have
//! been a forbid.

mod explain;
mod granting;
mod oblige;
mod verdicts;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

pub use self::explain::{ExplainedAccess, ExplainedAsk, Explanation};
pub use self::verdicts::Verdicts;
use super::compile::Policy;
use super::family::Family;
use super::family::http::HttpFacts;
use super::family::kubernetes::KubeFacts;
use super::obligation::approval::NotApproved;
use super::obligation::grant::{Counted, Covering, Decided, Held, NoGrants, Wanted};
use super::subject::{Error, PrincipalFacts, Subject};
use super::vocabulary::{self, Kind};
use super::{
    Access, Action, Ask, Context, Effect, Limits, Permit, Refusal, RefusalKind, Resource, RuleId,
    SshFacts, words,
};
use cedar_policy::{
    AuthorizationError, Authorizer, Context as CedarContext, Decision, Entities, PolicyId, Request,
    RestrictedExpression,
};

/// Most accesses, settings and functions of one request. An agent pays for what it makes us judge.
const MOST: usize = 4_096;

static AUTHORIZER: LazyLock<Authorizer> = LazyLock::new(Authorizer::new);

/// What the rules say about one access.
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) rules: BTreeSet<PolicyId>,
    pub(super) errors: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Permitted,
    NotPermitted,
    Forbidden,
    Failed,
}

/// How a principal sees a masked column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Masked.
    Masked,
    /// As it is, by policy alone.
    Plain,
    /// As it is, by a grant.
    Granted(Covering),
}

/// What was found of a request so far.
#[derive(Default)]
struct Found {
    rules: BTreeSet<PolicyId>,
    wanted: Vec<Wanted>,
}

/// A subject at work on one request.
struct Bench<'a> {
    subject: &'a Subject,
    entities: Entities,
    slice: Arc<super::compile::Slice>,
}

impl Policy {
    /// Judges a request: every access of every ask must be permitted.
    ///
    /// # Errors
    /// The refusal; also for a request without asks, an ask without accesses, and more than
    /// 4,096 accesses, settings and functions together.
    pub fn authorize(
        &self,
        principal: &Arc<PrincipalFacts>,
        target: &str,
        database: &str,
        asks: &[Ask],
    ) -> Result<Permit, Refusal> {
        self.authorize_with(&NoGrants, principal, target, database, asks)
    }

    /// Judges a request of one who holds grants.
    ///
    /// # Errors
    /// As [`Policy::authorize`].
    pub fn authorize_with(
        &self,
        held: &dyn Held,
        principal: &Arc<PrincipalFacts>,
        target: &str,
        database: &str,
        asks: &[Ask],
    ) -> Result<Permit, Refusal> {
        let subject = subject(principal, target, database)?;
        let decided = self.judge(&subject, asks)?;
        decided.settle(subject.place(), held, &NotApproved)
    }

    /// Judges whether `principal` may reach `target` at all.
    ///
    /// # Errors
    /// The refusal.
    pub fn connect(
        &self,
        held: &dyn Held,
        principal: &Arc<PrincipalFacts>,
        target: &str,
    ) -> Result<Permit, Refusal> {
        let ask = plain(Action::Connect, Resource::Target);
        self.authorize_with(held, principal, target, "", &[ask])
    }

    /// Judges whether `principal` may open a session on `database`; on the target as a whole where it is empty.
    ///
    /// # Errors
    /// The refusal.
    pub fn open(
        &self,
        held: &dyn Held,
        principal: &Arc<PrincipalFacts>,
        target: &str,
        database: &str,
    ) -> Result<Permit, Refusal> {
        let whole = match database {
            "" => Resource::Target,
            _ => Resource::Database,
        };
        let ask = plain(Action::Open, whole);
        self.authorize_with(held, principal, target, database, &[ask])
    }

    /// Judges a request of a subject that is ready.
    pub(super) fn judge(&self, subject: &Subject, asks: &[Ask]) -> Result<Decided, Refusal> {
        if let Some(refusal) = malformed(asks) {
            return Err(refusal);
        }
        let bench = self
            .bench(subject, asks)
            .map_err(|error| internal(&error))?;
        let mut found = Found::default();
        for ask in asks {
            self.judge_ask(&bench, ask, &mut found)?;
        }
        Ok(Decided {
            rules: found.rules.iter().map(rule_id).collect(),
            wanted: found.wanted.into(),
            limits: self.limits(&found.rules),
            generation: self.generation,
        })
    }

    /// Which of these columns a subject may see as they are, and by which grants that it holds. One that
    /// cannot be judged is not seen.
    pub(super) fn revealed(
        &self,
        subject: &Subject,
        columns: &[Resource],
        held: &dyn Held,
    ) -> Vec<Seen> {
        let ask = reveal(columns);
        let ready = self
            .bench(subject, std::slice::from_ref(&ask))
            .and_then(|bench| Ok((bench, context(&ask.context)?)));
        let (bench, context) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                tracing::error!(%error, "cannot judge who sees sensitive columns; nobody does");
                return vec![Seen::Masked; columns.len()];
            }
        };
        let reveals = |column: &Resource| {
            let access = sees(column);
            let judged = self.judge_access(&bench, &access, &context);
            judged.map_or(Seen::Masked, |judgement| {
                self.seen(&bench, &access, &judgement, held)
            })
        };
        columns.iter().map(reveals).collect()
    }

    fn bench<'a>(&self, subject: &'a Subject, asks: &[Ask]) -> Result<Bench<'a>, Error> {
        Ok(Bench {
            subject,
            entities: subject.entities(asks.iter())?,
            slice: self.slices.of(&subject.principal.agent, &subject.target),
        })
    }

    fn judge_ask(&self, bench: &Bench<'_>, ask: &Ask, found: &mut Found) -> Result<(), Refusal> {
        let context = context(&ask.context).map_err(|error| internal(&error))?;
        let mut refused: Option<(&Access, Judgement)> = None;
        for access in &ask.accesses {
            let judgement = self
                .judge_access(bench, access, &context)
                .map_err(|error| internal(&error))?;
            match (judgement.verdict, &refused) {
                (Verdict::Permitted, _) => {
                    let obliged = self.obliged(&judgement.rules);
                    found.wanted.extend(obliged.map(|obliged| Wanted {
                        counted: Counted::of(ask, access),
                        ..Self::wanted(bench, access, (&ask.context, obliged), &judgement)
                    }));
                    found.rules.extend(judgement.rules);
                }
                // A forbid says more than a missing permit: a rule, and often a hint.
                (Verdict::Forbidden | Verdict::Failed, Some((_, first)))
                    if first.verdict == Verdict::NotPermitted =>
                {
                    refused = Some((access, judgement));
                }
                (_, None) => refused = Some((access, judgement)),
                (_, Some(_)) => {}
            }
        }
        match refused {
            None => Ok(()),
            Some((access, judgement)) => {
                Err(self.refusal(bench, access, &judgement, (&ask.context, &context)))
            }
        }
    }

    fn judge_access(
        &self,
        bench: &Bench<'_>,
        access: &Access,
        context: &CedarContext,
    ) -> Result<Judgement, Error> {
        let kind = Kind::of(&access.resource);
        let rules = self
            .slices
            .rules(&bench.slice, access.action, kind)
            .ok_or_else(|| Error::of("the rules", &"they cannot be put together"))?;
        let request = Request::new(
            bench.subject.principal.uid.clone(),
            vocabulary::uid(Kind::Action, access.action.name()),
            bench.subject.resource(&access.resource),
            context.clone(),
            None,
        )
        .map_err(|error| Error::of("the request", &error))?;
        Ok(ask_cedar(&request, rules, &bench.entities))
    }

    fn refusal(
        &self,
        bench: &Bench<'_>,
        access: &Access,
        judgement: &Judgement,
        (context, ready): (&Context, &CedarContext),
    ) -> Refusal {
        let kind = match judgement.verdict {
            Verdict::Failed => RefusalKind::Internal,
            _ if access.action == Action::Unreadable => RefusalKind::Unreadable,
            Verdict::Forbidden => RefusalKind::Forbidden,
            Verdict::Permitted | Verdict::NotPermitted => RefusalKind::NotPermitted,
        };
        let mut hints = judgement.rules.iter().filter_map(|id| {
            let rule = self.rules.get(id)?;
            (rule.effect == Effect::Forbid).then_some(rule.hint.as_deref()?)
        });
        let hint = match (judgement.verdict, hints.next()) {
            (Verdict::Failed, _) => words::broken(&judgement.rules, &judgement.errors),
            (_, Some(hint)) => hint.to_owned(),
            (_, None) => words::hint(access, &self.instead(bench, access, ready)),
        };
        Refusal {
            kind,
            rules: judgement.rules.iter().map(rule_id).collect(),
            message: words::message(
                access,
                context,
                &bench.subject.target,
                &bench.subject.database,
            ),
            hint: Some(hint),
        }
    }

    /// What the caller could have done to the same resource.
    fn instead(&self, bench: &Bench<'_>, access: &Access, context: &CedarContext) -> Vec<Action> {
        let candidates = match access.resource {
            Resource::Table { .. } | Resource::Column { .. } => [
                Action::Select,
                Action::Insert,
                Action::Update,
                Action::Delete,
            ],
            Resource::Target
            | Resource::Database
            | Resource::Schema { .. }
            | Resource::Function { .. }
            | Resource::File { .. }
            | Resource::Forward { .. }
            | Resource::KubeNamespace { .. }
            | Resource::KubeObject { .. }
            | Resource::Path { .. } => return Vec::new(),
        };
        let others = candidates.map(|action| Access {
            action,
            resource: access.resource.clone(),
        });
        let ask = Ask {
            accesses: BTreeSet::from(others),
            context: Context::default(),
        };
        let Ok(bench) = self.bench(bench.subject, std::slice::from_ref(&ask)) else {
            return Vec::new();
        };
        let permitted = |other: &&Access| {
            let judged = self.judge_access(&bench, other, context);
            judged.is_ok_and(|judgement| {
                judgement.verdict == Verdict::Permitted && self.obliged(&judgement.rules).is_none()
            })
        };
        ask.accesses
            .iter()
            .filter(|other| other.action != access.action)
            .filter(permitted)
            .map(|other| other.action)
            .collect()
    }

    /// What the permits among some rules that decided say of the answer.
    fn limits(&self, rules: &BTreeSet<PolicyId>) -> Option<Arc<Limits>> {
        let rules = rules.iter().filter_map(|id| self.rules.get(id));
        Limits::strictest(rules.map(|rule| &rule.limits))
    }
}

/// A principal at a database, or the refusal where it cannot be told to Cedar.
fn subject(
    principal: &Arc<PrincipalFacts>,
    target: &str,
    database: &str,
) -> Result<Subject, Refusal> {
    Subject::new(principal, target, database).map_err(|error| internal(&error))
}

/// Asks Cedar one question, and does not pass over rules that fail.
pub(super) fn ask_cedar(
    request: &Request,
    rules: &cedar_policy::PolicySet,
    entities: &Entities,
) -> Judgement {
    let response = AUTHORIZER.is_authorized(request, rules, entities);
    let diagnostics = response.diagnostics();
    let errors: Vec<_> = diagnostics.errors().map(ToString::to_string).collect();
    if !errors.is_empty() {
        return Judgement {
            verdict: Verdict::Failed,
            rules: diagnostics.errors().map(broken_rule).collect(),
            errors,
        };
    }
    let rules: BTreeSet<_> = diagnostics.reason().cloned().collect();
    let verdict = match (response.decision(), rules.is_empty()) {
        (Decision::Allow, _) => Verdict::Permitted,
        (Decision::Deny, true) => Verdict::NotPermitted,
        (Decision::Deny, false) => Verdict::Forbidden,
    };
    Judgement {
        verdict,
        rules,
        errors,
    }
}

fn broken_rule(error: &AuthorizationError) -> PolicyId {
    match error {
        AuthorizationError::PolicyEvaluationError(error) => error.policy_id().clone(),
    }
}

pub(super) fn rule_id(id: &PolicyId) -> RuleId {
    RuleId(AsRef::<str>::as_ref(id).to_owned())
}

/// The refusal where judging itself went wrong. What went wrong is for the log, not for the caller.
pub(super) fn internal(error: &Error) -> Refusal {
    tracing::error!(%error, "cannot judge a request");
    Refusal::internal("the request cannot be judged, so it is refused")
}

fn sees(column: &Resource) -> Access {
    Access {
        action: Action::Reveal,
        resource: column.clone(),
    }
}

/// An ask to see columns as they are.
fn reveal(columns: &[Resource]) -> Ask {
    Ask {
        accesses: columns.iter().map(sees).collect(),
        ..plain(Action::Reveal, Resource::Target)
    }
}

/// An ask for something that no statement does.
fn plain(action: Action, resource: Resource) -> Ask {
    Ask {
        accesses: BTreeSet::from([Access { action, resource }]),
        context: Context {
            has_where: true,
            ..Context::default()
        },
    }
}

/// The same as a channel asks it.
fn of_a_channel(ask: &Ask, simple: bool) -> Ask {
    let facts = SshFacts {
        is_simple: simple,
        ..SshFacts::default()
    };
    Ask {
        context: Context {
            ssh: Some(Box::new(facts)),
            ..Context::default()
        },
        ..ask.clone()
    }
}

/// What may ask for an access, in each context that conditions may tell apart; the one that most rules let
/// through first. What is no statement comes in one context only.
fn asks_for(access: &Access) -> Vec<Ask> {
    let ask = plain(access.action, access.resource.clone());
    if !access.action.is_a_request() {
        return vec![ask];
    }
    match Family::of(access.action) {
        Family::Http => vec![http(&ask, &access.resource)],
        Family::Ssh => [true, false]
            .map(|simple| of_a_channel(&ask, simple))
            .into(),
        Family::Kubernetes => vec![of_a_cluster(&ask, &access.resource)],
        Family::Sql => of_a_statement(&ask),
    }
}

/// The same as statements ask it.
fn of_a_statement(ask: &Ask) -> Vec<Ask> {
    let contexts = (0_u8..8).map(|bits| Ask {
        context: Context {
            has_where: bits & 1 == 0,
            has_limit: bits & 2 == 0,
            in_transaction: bits & 4 != 0,
            statements: 1,
            ..Context::default()
        },
        ..ask.clone()
    });
    contexts.collect()
}

/// An ask for a request of HTTP of which nothing is known but its path.
fn http(ask: &Ask, resource: &Resource) -> Ask {
    let mut path = String::new();
    if let Resource::Path { path: own } = resource {
        path.clone_from(own);
    }
    let facts = HttpFacts {
        path,
        ..HttpFacts::default()
    };
    Ask {
        context: Context {
            http: Some(Box::new(facts)),
            ..Context::default()
        },
        ..ask.clone()
    }
}

/// An ask of a cluster of which nothing is known but the object.
fn of_a_cluster(ask: &Ask, resource: &Resource) -> Ask {
    let mut facts = KubeFacts::default();
    if let Resource::Path { path } = resource {
        facts.path.clone_from(path);
    } else if let Resource::KubeObject {
        namespace,
        resource,
        name,
    } = resource
    {
        let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
        facts.resource = kind.to_owned();
        facts.group = group.to_owned();
        facts.namespace.clone_from(namespace);
        facts.name.clone_from(name);
    }
    Ask {
        context: Context {
            kubernetes: Some(Box::new(facts)),
            ..Context::default()
        },
        ..ask.clone()
    }
}

/// Whether an ask has a context that does not belong to all that it asks.
fn is_mixed(ask: &Ask) -> bool {
    let context = &ask.context;
    let family = match (&context.http, &context.ssh, &context.kubernetes) {
        (None, None, None) => Family::Sql,
        (Some(_), None, None) => Family::Http,
        (None, Some(_), None) => Family::Ssh,
        (None, None, Some(_)) => Family::Kubernetes,
        _ => return true,
    };
    let mut accesses = ask.accesses.iter();
    accesses.any(|access| Family::of(access.action) != family)
}

/// Refuses what is no request, and what is too much of one.
fn malformed(asks: &[Ask]) -> Option<Refusal> {
    let size = |ask: &Ask| {
        let context = &ask.context;
        let sizes = [
            ask.accesses.len(),
            context.settings.len(),
            context.functions.len(),
            context.http.as_ref().map_or(0, |facts| facts.size()),
            context.kubernetes.as_ref().map_or(0, |facts| facts.size()),
            context
                .ssh
                .as_ref()
                .map_or(0, |facts| facts.arguments.len()),
        ];
        sizes
            .iter()
            .fold(0_usize, |sum, size| sum.saturating_add(*size))
    };
    let (kind, message) = if asks.is_empty() || asks.iter().any(|ask| ask.accesses.is_empty()) {
        let message = "a request that asks for nothing cannot be judged";
        (RefusalKind::NotPermitted, message.to_owned())
    } else if asks.iter().any(is_mixed) {
        let message = "a request of more than one kind cannot be judged";
        (RefusalKind::NotPermitted, message.to_owned())
    } else if asks.iter().map(size).fold(0, usize::saturating_add) > MOST {
        let message = format!("a request that names more than {MOST} things is not judged");
        (RefusalKind::Limit, message)
    } else {
        return None;
    };
    Some(Refusal {
        kind,
        rules: Vec::new(),
        message,
        hint: (kind == RefusalKind::Limit).then(|| "split it into smaller requests".to_owned()),
    })
}

pub(super) fn context(facts: &Context) -> Result<CedarContext, Error> {
    if let Some(http) = &facts.http {
        let pairs = http.pairs()?.into_iter();
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
        return CedarContext::from_pairs(pairs).map_err(|error| Error::of("the context", &error));
    }
    if let Some(facts) = &facts.ssh {
        return channel(facts);
    }
    if let Some(facts) = &facts.kubernetes {
        let pairs = facts.pairs().into_iter();
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
        return CedarContext::from_pairs(pairs).map_err(|error| Error::of("the context", &error));
    }
    let boolean = RestrictedExpression::new_bool;
    let strings = |values: &BTreeSet<String>| {
        let values = values.iter().cloned();
        RestrictedExpression::new_set(values.map(RestrictedExpression::new_string))
    };
    let pairs = [
        ("hasWhere", boolean(facts.has_where)),
        ("hasLimit", boolean(facts.has_limit)),
        ("settings", strings(&facts.settings)),
        ("functions", strings(&facts.functions)),
        (
            "command",
            RestrictedExpression::new_string(facts.command.clone()),
        ),
        (
            "statements",
            RestrictedExpression::new_long(facts.statements.into()),
        ),
        ("inTransaction", boolean(facts.in_transaction)),
    ];
    CedarContext::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value)))
        .map_err(|error| Error::of("the context", &error))
}

/// What a channel of SSH asks.
fn channel(facts: &SshFacts) -> Result<CedarContext, Error> {
    let string = |text: &String| RestrictedExpression::new_string(text.clone());
    let strings = |values: &BTreeSet<String>| {
        let values = values.iter().cloned();
        RestrictedExpression::new_set(values.map(RestrictedExpression::new_string))
    };
    let pairs = [
        ("user", string(&facts.user)),
        ("command", string(&facts.command)),
        ("isSimple", RestrictedExpression::new_bool(facts.is_simple)),
        ("program", string(&facts.program)),
        ("arguments", strings(&facts.arguments)),
        ("constructs", strings(&facts.constructs)),
        ("pty", RestrictedExpression::new_bool(facts.pty)),
        ("subsystem", string(&facts.subsystem)),
        ("operation", string(&facts.operation)),
        ("gitVerb", string(&facts.git_verb)),
        ("gitRepository", string(&facts.git_repository)),
    ];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
    CedarContext::from_pairs(pairs).map_err(|error| Error::of("the context", &error))
}

#[cfg(test)]
mod tests;
