//! Rules without what they say of a single request: who asks for a grant does not say what each request under it will
//! look like.
//!
//! A permit that leaves something to grants stands here without those of its conditions that look at the context,
//! and beside it the forbids that look at none. So nothing is missed that may be granted and used by some request;
//! each request is judged by the rules as they are.

use std::collections::HashSet;

use cedar_policy::{Authorizer, Decision, Effect, Entities, Policy as Rule, PolicyId, PolicySet};
use serde_json::{Value as Json, json};

/// The permits of grants that look at the context, without that; and the forbids that hold whatever is in it.
#[derive(Debug, Default)]
pub(in crate::policy) struct Loose {
    rules: PolicySet,
    forbids: HashSet<PolicyId>,
}

impl Loose {
    /// Of all rules; `granted` says which leave something to grants.
    pub(super) fn new<'a>(
        rules: impl Iterator<Item = &'a Rule>,
        granted: impl Fn(&PolicyId) -> bool,
    ) -> Self {
        let mut loose = Self::default();
        for rule in rules {
            let id = rule.id();
            let Ok(json) = rule.to_json() else {
                continue;
            };
            let taken = match (rule.effect(), looks(&json)) {
                (Effect::Forbid, false) => {
                    loose.forbids.insert(id.clone());
                    Some(rule.clone())
                }
                (Effect::Permit, true) if granted(id) => loosened(json, id),
                (Effect::Forbid | Effect::Permit, _) => None,
            };
            if let Some(rule) = taken
                && let Err(error) = loose.rules.add(rule)
            {
                tracing::error!(%error, "a rule cannot be judged apart from its requests");
            }
        }
        loose
    }

    /// The permits by which a request of some context may be permitted with a grant.
    pub(in crate::policy) fn may(
        &self,
        authorizer: &Authorizer,
        request: &cedar_policy::Request,
        entities: &Entities,
    ) -> Vec<PolicyId> {
        let response = authorizer.is_authorized(request, &self.rules, entities);
        let diagnostics = response.diagnostics();
        // A permit that cannot be judged without the rest of it is none; a forbid may have held.
        let is_forbid = |error: &cedar_policy::AuthorizationError| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                self.forbids.contains(error.policy_id())
            }
        };
        let is_sure = !diagnostics.errors().any(is_forbid);
        match response.decision() {
            Decision::Allow if is_sure => diagnostics.reason().cloned().collect(),
            Decision::Allow | Decision::Deny => Vec::new(),
        }
    }
}

/// A rule without the conditions that look at the context.
fn loosened(mut rule: Json, id: &PolicyId) -> Option<Rule> {
    let conditions = rule.get_mut("conditions")?.as_array_mut()?;
    let kept = conditions.drain(..).filter_map(|condition| {
        let kind = condition.get("kind")?.as_str()?.to_owned();
        let joined = match kind.as_str() {
            "when" => "&&",
            _ => "||",
        };
        let body = without(condition.get("body")?, joined)?;
        Some(json!({ "kind": kind, "body": body }))
    });
    *conditions = kept.collect::<Vec<_>>();
    let loosened = Rule::from_json(Some(id.clone()), rule);
    loosened
        .inspect_err(
            |error| tracing::error!(%error, "a rule cannot be judged apart from its requests"),
        )
        .ok()
}

/// An expression without the parts, of those that are joined by this operator, that look at the context.
fn without(expression: &Json, joined: &str) -> Option<Json> {
    if !looks(expression) {
        return Some(expression.clone());
    }
    let parts = expression.get(joined)?;
    let part = |name: &str| without(parts.get(name)?, joined);
    match (part("left"), part("right")) {
        (Some(left), Some(right)) => Some(json!({ joined: { "left": left, "right": right } })),
        (one, other) => one.or(other),
    }
}

/// Whether it looks at the context.
fn looks(expression: &Json) -> bool {
    match expression {
        Json::Object(fields) => {
            let is_context = |(name, value): (&String, &Json)| {
                (name == "Var" && value == "context") || looks(value)
            };
            fields.iter().any(is_context)
        }
        Json::Array(items) => items.iter().any(looks),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}
