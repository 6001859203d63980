//! What may be granted: judged without knowing what the requests under a grant will look like.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{PolicyId, Request};

use super::{AUTHORIZER, asks_for, context, internal, rule_id, subject};
use crate::policy::compile::Policy;
use crate::policy::obligation::grant::{Decided, Grantable, Offer};
use crate::policy::subject::{Error, PrincipalFacts, Subject};
use crate::policy::vocabulary::{self, Kind};
use crate::policy::{Access, Ask, Refusal, RuleId};

/// What was found out so far.
#[derive(Default)]
struct Found {
    offers: Vec<Arc<[Offer]>>,
    rules: BTreeSet<RuleId>,
    is_permitted: bool,
    refused: Option<Refusal>,
}

impl Policy {
    /// Judges whether `action` on `resource` is something that may be granted to `principal`: where it is
    /// left to a grant in any of the contexts that it may come in. What a request holds beside that is left aside; each is
    /// judged by itself later.
    ///
    /// # Errors
    /// The refusal, where rules forbid it or nothing permits it.
    pub fn grantable(
        &self,
        principal: &Arc<PrincipalFacts>,
        target: &str,
        database: &str,
        access: &Access,
    ) -> Result<Grantable, Refusal> {
        let subject = subject(principal, target, database)?;
        let (mut found, mut base) = (Found::default(), None);
        let asks = asks_for(access);
        for ask in &asks {
            let judged = self.judge(&subject, std::slice::from_ref(ask));
            base = base.or_else(|| {
                judged
                    .as_ref()
                    .ok()
                    .map(|decided| Arc::clone(&decided.rules))
            });
            found.take(judged);
        }
        // Of what is no request all is known.
        if !found.is_permitted
            && access.action.is_a_request()
            && let Some(ask) = asks.first()
        {
            let base = base.unwrap_or_default();
            let offered = self.offered(&subject, (access, ask), &base, &mut found);
            offered.map_err(|error| internal(&error))?;
        }
        match found.refused {
            _ if !found.offers.is_empty() => Ok(Grantable::For {
                offers: found.offers,
                rules: found.rules.into_iter().collect(),
            }),
            Some(refusal) if !found.is_permitted => Err(refusal),
            _ => Ok(Grantable::Permitted),
        }
    }

    /// What permits offer to requests that they look at, beside those that permit any: each of them in a context of
    /// its own.
    fn offered(
        &self,
        subject: &Subject,
        (access, ask): (&Access, &Ask),
        base: &[RuleId],
        found: &mut Found,
    ) -> Result<(), Error> {
        let bench = self.bench(subject, std::slice::from_ref(ask))?;
        let request = Request::new(
            subject.principal.uid.clone(),
            vocabulary::uid(Kind::Action, access.action.name()),
            subject.resource(&access.resource),
            context(&ask.context)?,
            None,
        )
        .map_err(|error| Error::of("the request", &error))?;
        let may = self.loose.may(&AUTHORIZER, &request, &bench.entities);
        let base = base.iter().map(|rule| PolicyId::new(&rule.0));
        let base: BTreeSet<_> = base.collect();
        for id in may {
            found.rules.insert(rule_id(&id));
            let mut together = base.clone();
            together.insert(id);
            let obliged = self.obliged(&together);
            found.offers.extend(obliged.map(|obliged| obliged.offers));
        }
        Ok(())
    }
}

impl Found {
    fn take(&mut self, judged: Result<Decided, Refusal>) {
        let decided = match judged {
            Ok(decided) => decided,
            // The first context is the one that most rules let through.
            Err(refusal) => {
                self.refused.get_or_insert(refusal);
                return;
            }
        };
        match decided.wanted.first() {
            Some(wanted) if wanted.offers.is_empty() => {
                let refusal = Refusal::clone(&wanted.refusal);
                self.refused.get_or_insert(refusal);
            }
            Some(wanted) => {
                self.offers.push(Arc::clone(&wanted.offers));
                self.rules.extend(decided.rules.iter().cloned());
            }
            None => self.is_permitted = true,
        }
    }
}
