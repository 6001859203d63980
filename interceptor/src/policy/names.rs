//! May this agent ask for this name: judged before the question leaves the host.

use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};

use super::compile::Policy;
use super::decide::{self, Judgement, Verdict};
use super::subject::{Error, PrincipalFacts};
use super::vocabulary::{self, ACTIONS, Kind};
use super::words::shown;
use super::{Effect, Refusal, RefusalKind, RuleId};

/// Its name in the schema.
const RESOLVE: &str = "Resolve";

/// A question to a resolver, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Lower case, without the root's dot; see [`is_plain`].
    pub name: &'a str,
    /// The type of the records: `A`.
    pub qtype: &'a str,
    /// Whether the configuration names it.
    pub known: bool,
}

/// Whether a text is a name as rules and questions write it: labels of `a-z 0-9 - _` between dots. Two
/// names of DNS are never one such text.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    let fine = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fine);
    name.len() <= 253 && name.split('.').all(label)
}

impl Policy {
    /// Judges whether `principal` may ask for a name; the rules that decided.
    ///
    /// # Errors
    /// The refusal.
    pub fn resolve(
        &self,
        principal: &Arc<PrincipalFacts>,
        question: Question<'_>,
    ) -> Result<Vec<RuleId>, Refusal> {
        let judged = self.ask_name(principal, question);
        let judgement = judged.map_err(|error| decide::internal(&error))?;
        let rules: Vec<_> = judgement.rules.iter().map(decide::rule_id).collect();
        // Nobody waits for people in the middle of a look-up, and no grant is about names.
        let unconditional = || {
            let mut found = judgement.rules.iter().filter_map(|id| self.rules.get(id));
            found.any(|rule| rule.grant.is_none() && rule.approve.is_none())
        };
        if judgement.verdict == Verdict::Permitted && unconditional() {
            return Ok(rules);
        }
        let hint = judgement.rules.iter().find_map(|id| {
            let rule = self.rules.get(id)?;
            (rule.effect == Effect::Forbid).then_some(rule.hint.as_deref()?)
        });
        let kind = match judgement.verdict {
            Verdict::Failed => RefusalKind::Internal,
            Verdict::Forbidden => RefusalKind::Forbidden,
            Verdict::Permitted | Verdict::NotPermitted => RefusalKind::NotPermitted,
        };
        let name = shown(question.name);
        Err(Refusal {
            kind,
            rules,
            message: format!("asking for {name} ({}) is not permitted", question.qtype),
            hint: Some(hint.map_or_else(
                || "no rule permits it; whoever keeps the policies of this host can add one".into(),
                str::to_owned,
            )),
        })
    }

    fn ask_name(
        &self,
        principal: &Arc<PrincipalFacts>,
        question: Question<'_>,
    ) -> Result<Judgement, Error> {
        let (resource, mut entities) = chain(question.name)?;
        entities.push(principal.entity.clone());
        entities.extend(ACTIONS.iter().cloned());
        let entities = Entities::from_entities(entities, None)
            .map_err(|error| Error::of("the name", &error))?;
        let facts = [
            (
                "qtype".to_owned(),
                RestrictedExpression::new_string(question.qtype.to_owned()),
            ),
            (
                "known".to_owned(),
                RestrictedExpression::new_bool(question.known),
            ),
        ];
        let context =
            Context::from_pairs(facts).map_err(|error| Error::of("the question", &error))?;
        let action = vocabulary::uid(Kind::Action, RESOLVE);
        let request = Request::new(principal.uid.clone(), action, resource, context, None)
            .map_err(|error| Error::of("the question", &error))?;
        Ok(decide::ask_cedar(&request, &self.control_rules, &entities))
    }
}

/// The name and every domain that it lies in.
fn chain(name: &str) -> Result<(EntityUid, Vec<Entity>), Error> {
    let uid = |name: &str| vocabulary::uid(Kind::Name, name);
    let mut entities = Vec::new();
    let mut rest = Some(name);
    while let Some(own) = rest {
        rest = own.split_once('.').map(|(_, domain)| domain);
        let parents: HashSet<_> = rest.into_iter().map(uid).collect();
        let text = RestrictedExpression::new_string(own.to_owned());
        let facts = [("name".to_owned(), text)].into();
        let entity = Entity::new(uid(own), facts, parents);
        entities.push(entity.map_err(|error| Error::of("the name", &error))?);
    }
    Ok((uid(name), entities))
}

#[cfg(test)]
mod tests;
