//! Which rules can matter to a question, found before it is asked.
//!
//! Cedar looks at every policy of a set for every question. A slice holds those whose scope admits
//! the action, the kind of resource, the agent and the target; it is made when it is first needed.
//! A rule is left out only where its scope proves that it cannot apply.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cedar_policy::{
    ActionConstraint, Entities, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};
use lru::LruCache;

use super::super::vocabulary::{self, ACTIONS, Kind};
use crate::policy::Action;

/// Most pairs of agent and target whose slices are kept at once.
const KEPT: NonZeroUsize = NonZeroUsize::new(128).unwrap();

const KINDS: [Kind; 11] = [
    Kind::Target,
    Kind::Database,
    Kind::Schema,
    Kind::Table,
    Kind::Column,
    Kind::Function,
    Kind::Path,
    Kind::File,
    Kind::Forward,
    Kind::KubeNamespace,
    Kind::KubeObject,
];

/// What a policy's scope says, as far as slices are cut by it.
#[derive(Debug)]
struct Scoped {
    policy: Policy,
    actions: Vec<Action>,
    kinds: Vec<Kind>,
    agent: Option<String>,
    target: Option<String>,
}

/// Every rule that may matter to agents, and the slices made of them so far.
#[derive(Debug)]
pub(in crate::policy) struct Slices {
    scoped: Vec<Scoped>,
    agents: HashSet<String>,
    targets: HashSet<String>,
    made: Mutex<LruCache<Pair, Arc<Slice>>>,
}

/// Agent and target, each only where some rule names it.
type Pair = (Option<String>, Option<String>);

/// The sets of one pair, by action and kind of resource.
#[derive(Debug)]
pub(in crate::policy) struct Slice {
    pair: Pair,
    sets: Vec<OnceLock<Option<PolicySet>>>,
}

impl Slices {
    /// Reads the scopes of `policies`.
    pub(super) fn new(policies: impl Iterator<Item = Policy>) -> Self {
        let actions = Entities::from_entities(ACTIONS.clone(), None).unwrap_or_default();
        let scoped: Vec<_> = policies
            .filter_map(|policy| Scoped::new(policy, &actions))
            .collect();
        Self {
            agents: scoped.iter().filter_map(|one| one.agent.clone()).collect(),
            targets: scoped.iter().filter_map(|one| one.target.clone()).collect(),
            scoped,
            made: Mutex::new(LruCache::new(KEPT)),
        }
    }

    /// The slice of an agent at a target.
    pub(in crate::policy) fn of(&self, agent: &str, target: &str) -> Arc<Slice> {
        let pair = (
            self.agents.get(agent).cloned(),
            self.targets.get(target).cloned(),
        );
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let slice = made.get_or_insert(pair.clone(), || {
            Arc::new(Slice {
                pair,
                sets: Action::ALL
                    .iter()
                    .flat_map(|_| KINDS.iter().map(|_| OnceLock::new()))
                    .collect(),
            })
        });
        Arc::clone(slice)
    }

    /// The rules of `slice` that may matter to `action` on a resource of `kind`; `None` where they
    /// cannot be told, which refuses.
    pub(in crate::policy) fn rules<'a>(
        &self,
        slice: &'a Slice,
        action: Action,
        kind: Kind,
    ) -> Option<&'a PolicySet> {
        let row = Action::ALL.iter().position(|listed| *listed == action)?;
        let column = KINDS.iter().position(|listed| *listed == kind)?;
        let cell = slice
            .sets
            .get(row.checked_mul(KINDS.len())?.checked_add(column)?)?;
        cell.get_or_init(|| self.make(&slice.pair, action, kind))
            .as_ref()
    }

    fn make(&self, (agent, target): &Pair, action: Action, kind: Kind) -> Option<PolicySet> {
        let admits =
            |named: &Option<String>, asked: &Option<String>| named.is_none() || named == asked;
        let policies = self.scoped.iter().filter(|scoped| {
            scoped.actions.contains(&action)
                && scoped.kinds.contains(&kind)
                && admits(&scoped.agent, agent)
                && admits(&scoped.target, target)
        });
        // Names are unique, so this cannot fail; if it did, a forbid might be missing.
        PolicySet::from_policies(policies.map(|scoped| scoped.policy.clone())).ok()
    }
}

impl Scoped {
    fn new(policy: Policy, actions: &Entities) -> Option<Self> {
        let agent = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::In(_) => None,
            PrincipalConstraint::Eq(uid) => Some(named(&uid, Kind::Agent)?),
            PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => {
                if kind_of(&kind) != Some(Kind::Agent) {
                    return None;
                }
                None
            }
        };
        let every = || KINDS.to_vec();
        let only = |kind: &EntityTypeName| kind_of(kind).into_iter().collect();
        let (kinds, uid) = match policy.resource_constraint() {
            ResourceConstraint::Any => (every(), None),
            ResourceConstraint::In(uid) => (every(), Some(uid)),
            ResourceConstraint::Eq(uid) => (only(uid.type_name()), Some(uid)),
            ResourceConstraint::Is(kind) => (only(&kind), None),
            ResourceConstraint::IsIn(kind, uid) => (only(&kind), Some(uid)),
        };
        Some(Self {
            actions: covered(&policy.action_constraint(), actions),
            kinds,
            agent,
            target: uid.as_ref().and_then(target_of),
            policy,
        })
    }
}

/// The actions that a policy's scope admits.
pub(in crate::policy) fn covered(constraint: &ActionConstraint, groups: &Entities) -> Vec<Action> {
    let admits = |action: &Action| {
        let uid = vocabulary::uid(Kind::Action, action.name());
        match constraint {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(named) => *named == uid,
            ActionConstraint::In(named) => named
                .iter()
                .any(|named| *named == uid || groups.is_ancestor_of(named, &uid)),
        }
    };
    Action::ALL.into_iter().filter(admits).collect()
}

fn kind_of(name: &EntityTypeName) -> Option<Kind> {
    Kind::named(&name.to_string())
}

fn named(uid: &EntityUid, kind: Kind) -> Option<String> {
    (kind_of(uid.type_name()) == Some(kind)).then(|| uid.id().unescaped().to_owned())
}

/// The target that a resource lies in.
fn target_of(uid: &EntityUid) -> Option<String> {
    let kind = kind_of(uid.type_name())?;
    let names = vocabulary::names(kind, uid.id().unescaped())?;
    names.into_iter().next()
}
