//! What the permits that decided leave to a grant or to people, and whether that is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cedar_policy::PolicyId;

use super::{Bench, Judgement, Verdict, rule_id};
use crate::policy::compile::Policy;
use crate::policy::obligation::approval::Needs;
use crate::policy::obligation::grant::{self, Held, Wanted};
use crate::policy::{Access, Context, Refusal, RefusalKind, words};

/// What is wanted where no permit that decided permits by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obliged {
    /// A grant, of at most this length.
    longest: Option<Duration>,
    /// Whose word it takes to have one; empty where some permit asks for nobody's.
    before: Needs,
    /// Or the word of people on the request itself.
    needs: Needs,
}

impl Policy {
    /// What is wanted; `None` where one of the rules permits by itself.
    pub(super) fn obliged(&self, rules: &BTreeSet<PolicyId>) -> Option<Obliged> {
        let rules: Vec<_> = rules.iter().filter_map(|id| self.rules.get(id)).collect();
        let obliges = |rule: &&Arc<_>| is_obliged(rule);
        if rules.is_empty() || !rules.iter().all(obliges) {
            return None;
        }
        let (granted, held): (Vec<_>, Vec<_>) =
            rules.into_iter().partition(|rule| rule.grant.is_some());
        let before = match granted.iter().all(|rule| rule.approve.is_some()) {
            true => granted
                .iter()
                .filter_map(|rule| rule.approve.clone())
                .collect(),
            false => Needs::new(),
        };
        Some(Obliged {
            longest: grant::longest(granted.iter().map(|rule| rule.grant)),
            before,
            needs: held
                .iter()
                .filter_map(|rule| rule.approve.clone())
                .collect(),
        })
    }

    /// Whether the rules permit an access by themselves, or with a grant that is held.
    pub(super) fn permits(
        &self,
        bench: &Bench<'_>,
        access: &Access,
        judgement: &Judgement,
        held: &dyn Held,
    ) -> bool {
        judgement.verdict == Verdict::Permitted
            && self.obliged(&judgement.rules).is_none_or(|obliged| {
                obliged.longest.is_some_and(|longest| {
                    let covering = held.cover(bench.subject.place(), access, longest);
                    covering.is_some()
                })
            })
    }

    /// What is missing until a grant is there, or somebody's word.
    pub(super) fn wanted(
        bench: &Bench<'_>,
        access: &Access,
        (context, obliged): (&Context, Obliged),
        judgement: &Judgement,
    ) -> Wanted {
        let place = bench.subject.place();
        let said = words::message(access, context, place.target, place.database);
        let ask = |longest| format!("ask for one: {}", grant::command(place, access, longest));
        let (kind, message, hint) = match (obliged.longest, obliged.needs.is_empty()) {
            (Some(longest), true) => (
                RefusalKind::NeedsGrant,
                format!("{said} without a grant"),
                ask(longest),
            ),
            (Some(longest), false) => (
                RefusalKind::NeedsApproval,
                format!("{said} without a grant or an approval"),
                ask(longest),
            ),
            (None, _) => (
                RefusalKind::NeedsApproval,
                format!("{said} without an approval"),
                "it is asked for when a statement of its own, outside of a transaction, needs it"
                    .to_owned(),
            ),
        };
        Wanted {
            access: access.clone(),
            longest: obliged.longest,
            before: obliged.before,
            needs: obliged.needs,
            refusal: Arc::new(Refusal {
                kind,
                rules: judgement.rules.iter().map(rule_id).collect(),
                message,
                hint: Some(hint),
            }),
        }
    }
}

fn is_obliged(rule: &crate::policy::Rule) -> bool {
    rule.grant.is_some() || rule.approve.is_some()
}
