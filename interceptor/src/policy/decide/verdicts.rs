//! What was decided before: one session's verdicts, so that a repeated statement costs a lookup.
//!
//! The key is what was asked, by value, never a hash or an address of it; the principal, the target
//! and the database are the session's own, and a new policy empties the cache. So a verdict found is
//! the verdict that judging would give.

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::Seen;
use crate::policy::compile::Policy;
use crate::policy::obligation::approval::{Approved, Needs};
use crate::policy::obligation::grant::{Decided, Held};
use crate::policy::subject::{PrincipalFacts, Subject};
use crate::policy::{Ask, Generation, Permit, Refusal, Resource};

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

type Verdict = Result<Decided, Arc<Refusal>>;

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
        Ok(Self {
            subject: super::subject(principal, target, database)?,
            kept: Mutex::new(Kept {
                generation: Generation(0),
                // One that is bounded takes all its room at once, for each session.
                verdicts: LruCache::unbounded(),
            }),
        })
    }

    /// Judges as [`Policy::authorize_with`] does, or remembers what the rules said under the same policy.
    /// Grants and people's word are asked each time.
    ///
    /// # Errors
    /// The refusal.
    pub fn authorize(
        &self,
        policy: &Policy,
        asks: &[Ask],
        held: &dyn Held,
        approved: &dyn Approved,
    ) -> Result<Permit, Refusal> {
        match self.decided(policy, asks) {
            Ok(decided) => decided.settle(self.subject.place(), held, approved),
            Err(refusal) => Err(Refusal::clone(&refusal)),
        }
    }

    /// Whose word a request waits for, in addition to the grants that are held: of each the one or the other.
    /// Empty where nobody's, and where it is refused whatever anybody says.
    #[must_use]
    pub fn needs(&self, policy: &Policy, asks: &[Ask], held: &dyn Held) -> Vec<Needs> {
        match policy.asks_people() {
            true => self
                .decided(policy, asks)
                .map(|decided| decided.needs(self.subject.place(), held))
                .unwrap_or_default(),
            false => Vec::new(),
        }
    }

    fn decided(&self, policy: &Policy, asks: &[Ask]) -> Verdict {
        match self.remembered(policy.generation(), asks) {
            Some(verdict) => verdict,
            None => self.decide(policy, asks),
        }
    }

    fn decide(&self, policy: &Policy, asks: &[Ask]) -> Verdict {
        let verdict = policy.judge(&self.subject, asks).map_err(Arc::new);
        if weight(asks) <= REQUEST_BYTES {
            self.remember(policy.generation(), asks, verdict.clone());
        }
        verdict
    }

    /// Which of these columns policy lets the principal see as they are, and by which grants that it holds.
    /// One that cannot be judged is not seen.
    #[must_use]
    pub fn revealed(&self, policy: &Policy, columns: &[Resource], held: &dyn Held) -> Vec<Seen> {
        policy.revealed(&self.subject, columns, held)
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

impl Ask {
    /// About how many bytes it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let accesses = self.accesses.iter().map(|access| {
            let names = access.resource.names();
            size_of_val(access).saturating_add(names)
        });
        let context = &self.context;
        let texts = context.settings.iter().chain(&context.functions);
        let texts = texts.map(|text| size_of_val(text).saturating_add(text.len()));
        let ssh = context.ssh.as_ref().map_or(0, |facts| facts.weight());
        let own = size_of::<Self>().saturating_add(context.command.len());
        let http = context.http.as_ref().map_or(0, |facts| facts.weight());
        let kubernetes = context.kubernetes.as_ref();
        let kubernetes = kubernetes.map_or(0, |facts| facts.weight());
        let facts = ssh.saturating_add(http).saturating_add(kubernetes);
        let own = own.saturating_add(facts);
        accesses.chain(texts).fold(own, usize::saturating_add)
    }
}

impl Resource {
    /// Bytes of its names.
    fn names(&self) -> usize {
        match self {
            Self::Target | Self::Database => 0,
            Self::Schema { schema } => schema.len(),
            Self::Path { path } => path.len(),
            Self::Table {
                schema,
                table: name,
            }
            | Self::Function {
                schema,
                function: name,
            } => schema.len().saturating_add(name.len()),
            Self::Column {
                schema,
                table,
                column,
            } => schema
                .len()
                .saturating_add(table.len())
                .saturating_add(column.len()),
            Self::File { path } => path
                .iter()
                .map(|name| size_of_val(name).saturating_add(name.len()))
                .fold(0, usize::saturating_add),
            Self::Forward { host, .. } => host.len(),
            Self::KubeNamespace { namespace } => namespace.len(),
            Self::KubeObject {
                namespace,
                resource,
                name,
            } => namespace
                .len()
                .saturating_add(resource.len())
                .saturating_add(name.len()),
        }
    }
}

/// About how many bytes `asks` take.
fn weight(asks: &[Ask]) -> usize {
    asks.iter().map(Ask::weight).fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests;
