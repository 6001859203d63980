//! What was decided before: one session's verdicts, so that a repeated statement costs a lookup.
//!
//! The key is what was asked, by value, never a hash or an address of it; the principal, the target
//! and the database are the session's own, and a new policy empties the cache. So a verdict found is
//! the verdict that judging would give.

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::compile::Policy;
use super::decide::internal;
use super::subject::{PrincipalFacts, Subject};
use super::{Ask, Generation, Limits, Permit, Refusal, Resource, RuleId};

/// Most requests that are remembered for one session.
const REQUESTS: usize = 256;
/// Most bytes, about, of what is remembered of one request. A larger one is judged each time.
const REQUEST_BYTES: usize = 4 * 1024;

/// A subject with what was decided for it.
#[derive(Debug)]
pub struct Verdicts {
    subject: Subject,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    generation: Generation,
    verdicts: LruCache<Box<[Ask]>, Verdict>,
}

#[derive(Clone, Debug)]
enum Verdict {
    Permitted(Arc<[RuleId]>, Option<Arc<Limits>>),
    Refused(Arc<Refusal>),
}

impl Verdicts {
    /// Begins with nothing decided.
    ///
    /// # Errors
    /// Where the names cannot be told to the policy engine.
    pub fn new(
        principal: &Arc<PrincipalFacts>,
        target: &str,
        database: &str,
    ) -> Result<Self, Refusal> {
        let subject = Subject::new(principal, target, database);
        Ok(Self {
            subject: subject.map_err(|error| internal(&error))?,
            kept: Mutex::new(Kept {
                generation: Generation(0),
                // One that is bounded takes all its room at once, for each session.
                verdicts: LruCache::unbounded(),
            }),
        })
    }

    /// Judges as [`Policy::authorize`] does, or remembers having done so under the same policy.
    ///
    /// # Errors
    /// The refusal.
    pub fn authorize(&self, policy: &Policy, asks: &[Ask]) -> Result<Permit, Refusal> {
        if let Some(verdict) = self.remembered(policy.generation(), asks) {
            return match verdict {
                Verdict::Permitted(rules, limits) => Ok(Permit {
                    rules,
                    generation: policy.generation(),
                    limits,
                }),
                Verdict::Refused(refusal) => Err(Refusal::clone(&refusal)),
            };
        }
        let decided = policy.judge(&self.subject, asks);
        if weight(asks) <= REQUEST_BYTES {
            let verdict = match &decided {
                Ok(permit) => {
                    Verdict::Permitted(Arc::clone(permit.rules()), permit.limits().cloned())
                }
                Err(refusal) => Verdict::Refused(Arc::new(refusal.clone())),
            };
            self.remember(policy.generation(), asks, verdict);
        }
        decided
    }

    /// Which of these columns policy lets the principal see as they are. One that cannot be judged is not
    /// seen.
    #[must_use]
    pub fn revealed(&self, policy: &Policy, columns: &[Resource]) -> Vec<bool> {
        policy.revealed(&self.subject, columns)
    }

    fn remembered(&self, generation: Generation, asks: &[Ask]) -> Option<Verdict> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != generation {
            return None;
        }
        kept.verdicts.get(asks).cloned()
    }

    fn remember(&self, generation: Generation, asks: &[Ask], verdict: Verdict) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != generation {
            // Requests of one session may be judged at once, by the old policy and by the new one.
            if generation < kept.generation {
                return;
            }
            kept.verdicts.clear();
            kept.generation = generation;
        }
        kept.verdicts.put(asks.into(), verdict);
        if kept.verdicts.len() > REQUESTS {
            kept.verdicts.pop_lru();
        }
    }
}

/// About how many bytes `asks` take.
fn weight(asks: &[Ask]) -> usize {
    let names = |resource: &Resource| match resource {
        Resource::Target | Resource::Database => 0,
        Resource::Schema { schema } => schema.len(),
        Resource::Table {
            schema,
            table: name,
        }
        | Resource::Function {
            schema,
            function: name,
        } => schema.len().saturating_add(name.len()),
        Resource::Column {
            schema,
            table,
            column,
        } => schema
            .len()
            .saturating_add(table.len())
            .saturating_add(column.len()),
    };
    let mut sum = 0_usize;
    for ask in asks {
        sum = sum
            .saturating_add(size_of::<Ask>())
            .saturating_add(ask.context.command.len());
        for access in &ask.accesses {
            let bytes = names(&access.resource);
            sum = sum
                .saturating_add(size_of_val(access))
                .saturating_add(bytes);
        }
        for text in ask.context.settings.iter().chain(&ask.context.functions) {
            sum = sum
                .saturating_add(size_of_val(text))
                .saturating_add(text.len());
        }
    }
    sum
}

#[cfg(test)]
mod tests;
