//! What the permits that decided leave to a grant or to people, and whether that is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::PolicyId;

use super::{Bench, Judgement, Seen, Verdict, rule_id};
use crate::policy::compile::Policy;
use crate::policy::obligation::approval::Needs;
use crate::policy::obligation::grant::{self, Counted, Held, Offer, Want, Wanted};
use crate::policy::{Access, Context, Refusal, RefusalKind, words};

/// What is wanted where no permit that decided permits by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obliged {
    /// A grant within one of these, on the word that it takes; empty where none does.
    pub(super) offers: Arc<[Offer]>,
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
        let offer = |rule: &&Arc<crate::policy::Rule>| {
            let terms = rule.grant?;
            let need = rule.approve.clone();
            Some(Offer {
                terms,
                need,
                scope: rule.scope,
            })
        };
        Some(Obliged {
            offers: granted.iter().filter_map(offer).collect(),
            needs: held
                .iter()
                .filter_map(|rule| rule.approve.clone())
                .collect(),
        })
    }

    /// Whether the rules permit an access by themselves, or with a grant that is held.
    pub(super) fn seen(
        &self,
        bench: &Bench<'_>,
        access: &Access,
        judgement: &Judgement,
        held: &dyn Held,
    ) -> Seen {
        if judgement.verdict != Verdict::Permitted {
            return Seen::Masked;
        }
        let Some(obliged) = self.obliged(&judgement.rules) else {
            return Seen::Plain;
        };
        let covering = held.cover(&Want {
            place: bench.subject.place(),
            access,
            offers: &obliged.offers,
            counted: Counted::InAnswer,
        });
        covering.map_or(Seen::Masked, Seen::Granted)
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
        let ask = |terms| grant::asked(place, access, terms);
        // The most generous time first.
        let terms = obliged.offers.iter().map(|offer| &offer.terms).max();
        let (kind, message, hint) = match (terms, obliged.needs.is_empty()) {
            (Some(terms), true) => (
                RefusalKind::NeedsGrant,
                format!("{said} without a grant"),
                ask(terms),
            ),
            (Some(terms), false) => (
                RefusalKind::NeedsApproval,
                format!("{said} without a grant or an approval"),
                ask(terms),
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
            counted: Counted::InAnswer,
            offers: obliged.offers,
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
