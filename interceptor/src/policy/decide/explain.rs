//! What was decided, told in full: every access with the rules that decided about it.
//!
//! Says what the decision itself judges, by the same functions.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::{Bench, Judgement, Seen, Verdict, context, malformed, reveal};
use crate::policy::compile::Policy;
use crate::policy::subject::{Error, PrincipalFacts, Subject};
use crate::policy::{Access, Ask, Context, Generation, Limits, Refusal, Resource, Rule};
use crate::policy::{Held, NoGrants};

/// What was decided about one request, in full: the answer of `interceptor why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether the request may go upstream.
    pub permitted: bool,
    /// The policy that was asked.
    pub generation: Generation,
    /// One per statement, in order.
    pub asks: Vec<ExplainedAsk>,
    /// What the caller would be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// How much the answer may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Arc<Limits>>,
}

/// One statement of an explained request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedAsk {
    /// What conditions looked at.
    pub context: Context,
    /// Every access with its decision.
    pub accesses: Vec<ExplainedAccess>,
}

/// One access of an explained statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedAccess {
    /// What is done, and to what.
    #[serde(flatten)]
    pub access: Access,
    /// The resource's id, as rules name it: `Table::"crm/app/public.customers"`.
    pub id: String,
    /// Whether it is permitted.
    pub permitted: bool,
    /// The rules that decided; empty where no rule permits it.
    pub rules: Vec<Arc<Rule>>,
    /// Rules that could not be evaluated, and why; any refuses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl Policy {
    /// Judges as [`Policy::authorize`] does, and says of every access which rules decided.
    #[must_use]
    pub fn explain(
        &self,
        held: &dyn Held,
        principal: &Arc<PrincipalFacts>,
        target: &str,
        database: &str,
        asks: &[Ask],
    ) -> Explanation {
        let (refusal, limits) = match self.authorize_with(held, principal, target, database, asks) {
            Ok(permit) => (None, permit.limits),
            Err(refusal) => (Some(refusal), None),
        };
        let subject = Subject::new(principal, target, database);
        let bench = subject
            .as_ref()
            .ok()
            .and_then(|subject| self.bench(subject, asks).ok());
        let explained = match bench {
            // More than would be judged is not explained one by one either.
            Some(bench) if malformed(asks).is_none() => asks
                .iter()
                .map(|ask| self.explain_one(&bench, ask, held))
                .collect(),
            _ => Vec::new(),
        };
        Explanation {
            permitted: refusal.is_none(),
            generation: self.generation,
            asks: explained,
            refusal,
            limits,
        }
    }

    /// Says of each of these columns whether a principal may see it as it is, and which rules decided.
    #[must_use]
    pub fn explain_reveal(
        &self,
        principal: &Arc<PrincipalFacts>,
        target: &str,
        database: &str,
        columns: &[Resource],
    ) -> Vec<ExplainedAccess> {
        let asks = self.explain(&NoGrants, principal, target, database, &[reveal(columns)]);
        asks.asks.into_iter().flat_map(|ask| ask.accesses).collect()
    }

    fn explain_one(&self, bench: &Bench<'_>, ask: &Ask, held: &dyn Held) -> ExplainedAsk {
        let context = context(&ask.context);
        let explain = |access: &Access| {
            let judged = match &context {
                Ok(context) => self.judge_access(bench, access, context),
                Err(error) => Err(Error::of("the context", error)),
            };
            let judgement = judged.unwrap_or_else(|error| Judgement {
                verdict: Verdict::Failed,
                rules: BTreeSet::new(),
                errors: vec![error.to_string()],
            });
            ExplainedAccess {
                access: access.clone(),
                id: bench.subject.resource(&access.resource).to_string(),
                permitted: self.seen(bench, access, &judgement, held) != Seen::Masked,
                rules: judgement
                    .rules
                    .iter()
                    .filter_map(|id| self.rules.get(id).map(Arc::clone))
                    .collect(),
                errors: judgement.errors,
            }
        };
        ExplainedAsk {
            context: ask.context.clone(),
            accesses: ask.accesses.iter().map(explain).collect(),
        }
    }
}
