//! Who may steer the daemon: the verbs of the control socket, judged like everything else.
//!
//! Nobody serves himself: a caller inside a scope may do nothing, and a user whose processes run as
//! an agent may only start agents, bind scopes by a token and look at the daemon's state, whatever a rule says. Root outside
//! every scope may do everything, so that a broken policy can be mended. A person who logged in is known by
//! the issuer's word alone, and never takes a user's right.

use std::collections::{HashMap, HashSet};
use std::fmt;

use cedar_policy::{
    ActionConstraint, Context, Effect, Entities, Entity, EntityUid, Policy as Rule,
    PrincipalConstraint, Request, RestrictedExpression,
};
use serde::Serialize;

use super::compile::Policy;
use super::decide::{self, Judgement, Verdict};
use super::subject::Error;
use super::vocabulary::{self, ACTIONS, Kind};
use super::words::shown;
use super::{Refusal, RefusalKind, RuleId};
use crate::identity::LoggedIn;

/// What a caller wants of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum ControlVerb {
    /// Start a command as an agent, in a scope of its own.
    Run,
    /// Tag a cgroup.
    Tag,
    /// Take a tag away.
    Untag,
    /// Stop an agent's processes, for a while.
    Freeze,
    /// Let them run again.
    Thaw,
    /// End an agent's sessions and processes.
    Kill,
    /// Take a grant back.
    Revoke,
    /// Bind a scope to a person or a workload, or take that back.
    Bind,
    /// Answer a request that waits for people.
    Approve,
    /// Answer one in an emergency, whoever it waits for.
    BreakGlass,
    /// Load configuration and policy anew.
    Reload,
    /// See the daemon's state.
    Status,
    /// Read the audit log.
    ReadAudit,
    /// Read recordings.
    ReadSessions,
    /// Look at what a target's columns hold.
    Discover,
    /// Hold a recording, or release it.
    Hold,
}

impl ControlVerb {
    /// Every verb.
    pub const ALL: [Self; 16] = [
        Self::Run,
        Self::Tag,
        Self::Untag,
        Self::Freeze,
        Self::Thaw,
        Self::Kill,
        Self::Revoke,
        Self::Bind,
        Self::Approve,
        Self::BreakGlass,
        Self::Reload,
        Self::Status,
        Self::ReadAudit,
        Self::ReadSessions,
        Self::Discover,
        Self::Hold,
    ];

    /// Its name in the schema.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "Run",
            Self::Tag => "Tag",
            Self::Untag => "Untag",
            Self::Freeze => "Freeze",
            Self::Thaw => "Thaw",
            Self::Kill => "Kill",
            Self::Revoke => "Revoke",
            Self::Bind => "Bind",
            Self::Approve => "Approve",
            Self::BreakGlass => "BreakGlass",
            Self::Reload => "Reload",
            Self::Status => "Status",
            Self::ReadAudit => "ReadAudit",
            Self::ReadSessions => "ReadSessions",
            Self::Discover => "Discover",
            Self::Hold => "Hold",
        }
    }

    /// Its word in the audit.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Tag => "tag",
            Self::Untag => "untag",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Kill => "kill",
            Self::Revoke => "revoke",
            Self::Bind => "bind",
            Self::Approve | Self::BreakGlass => "approve",
            Self::Reload => "reload",
            Self::Status => "status",
            Self::ReadAudit | Self::ReadSessions | Self::Discover => "read",
            Self::Hold => "hold",
        }
    }

    /// Whether it is about scopes of an agent, not about the host.
    #[must_use]
    pub const fn is_about_scopes(self) -> bool {
        match self {
            Self::Run
            | Self::Tag
            | Self::Untag
            | Self::Freeze
            | Self::Thaw
            | Self::Kill
            | Self::Revoke
            | Self::Bind
            | Self::Approve
            | Self::BreakGlass => true,
            Self::Reload
            | Self::Status
            | Self::ReadAudit
            | Self::ReadSessions
            | Self::Discover
            | Self::Hold => false,
        }
    }

    /// Whether a person who logged in may be given it.
    const fn suits_people(self) -> bool {
        match self {
            Self::Freeze
            | Self::Thaw
            | Self::Kill
            | Self::Revoke
            | Self::Approve
            | Self::BreakGlass
            | Self::Status
            | Self::ReadAudit => true,
            Self::Run
            | Self::Tag
            | Self::Untag
            | Self::Bind
            | Self::Reload
            | Self::ReadSessions
            | Self::Discover
            | Self::Hold => false,
        }
    }

    /// Whether a user whose processes run as an agent may be given it.
    const fn suits_agents_user(self) -> bool {
        match self {
            // A token is proof enough of whom it names.
            Self::Run | Self::Status | Self::Bind => true,
            Self::Tag
            | Self::Untag
            | Self::Freeze
            | Self::Thaw
            | Self::Kill
            | Self::Revoke
            | Self::Approve
            | Self::BreakGlass
            | Self::Reload
            | Self::ReadAudit
            | Self::ReadSessions
            | Self::Discover
            | Self::Hold => false,
        }
    }
}

/// A group of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Group id.
    pub gid: u32,
    /// Name, where the host knows one.
    pub name: Option<String>,
}

/// Who steers the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlCaller {
    /// A user of the host.
    User(HostUser),
    /// A person who logged in.
    Person(LoggedIn),
}

impl ControlCaller {
    /// The names of the groups, as rules have them.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        match self {
            Self::User(user) => {
                let names = user.groups.iter().filter_map(|group| group.name.clone());
                names.collect()
            }
            Self::Person(person) => person.groups().collect(),
        }
    }

    /// The name by which a stand-in is named; nobody's where the host knows none.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match self {
            Self::User(user) => user.name.clone(),
            Self::Person(person) => Some(person.id()),
        }
    }
}

/// By name where there is one.
impl fmt::Display for ControlCaller {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(HostUser {
                name: Some(name), ..
            }) => to.write_str(name),
            Self::User(user) => write!(to, "{}", user.uid),
            Self::Person(person) => to.write_str(&person.id()),
        }
    }
}

/// Who speaks on a control socket, by peer credentials and cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Login name, where the host knows one.
    pub name: Option<String>,
    /// Every group, the primary one too.
    pub groups: Vec<Group>,
    /// The agent whose scope the caller is in, if any.
    pub agent: Option<String>,
    /// Whether any process in a scope runs as this user.
    pub runs_agent: bool,
    /// The user of the login session that the caller came by: who used `sudo` is still that one.
    pub session: Option<SessionUser>,
}

/// Who logged in to the session of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUser {
    /// User id.
    pub uid: u32,
    /// Login name, where the host knows one.
    pub name: Option<String>,
}

/// What a verb is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlObject {
    /// The host: the daemon as a whole.
    Host,
    /// Every scope of an agent.
    Agent(String),
    /// A cgroup that is or will be tagged.
    Scope {
        /// The agent's name.
        agent: String,
        /// Path below the cgroup v2 mount, with a leading slash.
        cgroup: String,
    },
}

/// The one host that there is.
const HOST: &str = "localhost";
/// What stands for a rule where root's right decided.
const ROOT: &str = "root";

impl Policy {
    /// Judges whether `caller` may do `verb`; the rules that decided, `root` for root's own right.
    ///
    /// # Errors
    /// The refusal.
    pub fn authorize_control(
        &self,
        caller: &ControlCaller,
        verb: ControlVerb,
        object: &ControlObject,
    ) -> Result<Vec<RuleId>, Refusal> {
        if let Some(hint) = barred(caller, verb) {
            return Err(refusal(verb, object, Vec::new(), hint));
        }
        if is_root(caller) {
            return Ok(vec![RuleId(ROOT.to_owned())]);
        }
        let judgement = self
            .ask_control(caller, verb, object)
            .map_err(|error| decide::internal(&error))?;
        let rules: Vec<_> = judgement.rules.iter().map(decide::rule_id).collect();
        if judgement.verdict == Verdict::Permitted {
            return Ok(rules);
        }
        let hint = judgement
            .rules
            .iter()
            .find_map(|id| self.rules.get(id)?.hint.as_deref())
            .unwrap_or("only root may, unless a rule permits whoever asks");
        Err(refusal(verb, object, rules, hint))
    }

    /// Whether `caller` could be permitted `verb` on anything: an upper bound, which takes whatever a rule's
    /// conditions say, and what it says of the resource, for true.
    #[must_use]
    pub fn could_control(&self, caller: &ControlCaller, verb: ControlVerb) -> bool {
        let (kind, id, groups) = match caller {
            ControlCaller::User(user) => {
                let groups: &[Group] = &user.groups;
                (Kind::User, user.uid.to_string(), groups)
            }
            ControlCaller::Person(person) => (Kind::Person, person.id(), &[][..]),
        };
        let own = vocabulary::uid(kind, &id);
        let of_group = |group: &Group| vocabulary::uid(Kind::Group, &group.gid.to_string());
        let within: Vec<EntityUid> = groups.iter().map(of_group).collect();
        let is_in = |uid: &EntityUid| *uid == own || within.contains(uid);
        let is_about = |rule: &Rule| match rule.principal_constraint() {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::Is(of) => of == *own.type_name(),
            PrincipalConstraint::Eq(uid) => uid == own,
            PrincipalConstraint::In(uid) => is_in(&uid),
            PrincipalConstraint::IsIn(of, uid) => of == *own.type_name() && is_in(&uid),
        };
        let action = vocabulary::uid(Kind::Action, verb.name());
        let may = |rule: &Rule| match rule.action_constraint() {
            ActionConstraint::Any => true,
            // Verbs are in no group of actions but themselves.
            ActionConstraint::Eq(of) => of == action,
            ActionConstraint::In(of) => of.contains(&action),
        };
        let mut rules = self.control_rules.policies();
        barred(caller, verb).is_none()
            && (is_root(caller)
                || rules.any(|rule| rule.effect() == Effect::Permit && is_about(rule) && may(rule)))
    }

    fn ask_control(
        &self,
        caller: &ControlCaller,
        verb: ControlVerb,
        object: &ControlObject,
    ) -> Result<Judgement, Error> {
        let (resource, mut entities) = object_entities(object)?;
        let principal = match caller {
            ControlCaller::User(user) => user_entity(user)?,
            ControlCaller::Person(person) => person_entity(person)?,
        };
        entities.push(principal.clone());
        entities.extend(ACTIONS.iter().cloned());
        let entities = Entities::from_entities(entities, None)
            .map_err(|error| Error::of("the caller", &error))?;
        let action = vocabulary::uid(Kind::Action, verb.name());
        let request = Request::new(principal.uid(), action, resource, Context::empty(), None)
            .map_err(|error| Error::of("the request", &error))?;
        Ok(decide::ask_cedar(&request, &self.control_rules, &entities))
    }
}

/// Why somebody may not, whatever a rule says.
fn barred(caller: &ControlCaller, verb: ControlVerb) -> Option<&'static str> {
    match caller {
        ControlCaller::User(user) if user.agent.is_some() => {
            Some("a process inside a scope cannot steer the daemon")
        }
        ControlCaller::User(user) if user.runs_agent && user.uid != 0 => (!verb
            .suits_agents_user())
        .then_some("processes of this user run as an agent; another user or root must do this"),
        ControlCaller::Person(_) => (!verb.suits_people())
            .then_some("a user of the host must do this, on the control socket"),
        ControlCaller::User(_) => None,
    }
}

fn is_root(caller: &ControlCaller) -> bool {
    matches!(caller, ControlCaller::User(user) if user.uid == 0)
}

fn person_entity(person: &LoggedIn) -> Result<Entity, Error> {
    let identity = &person.identity;
    let string = |text: &String| RestrictedExpression::new_string(text.clone());
    let groups = person.groups().map(RestrictedExpression::new_string);
    let amr = identity.amr.iter().map(string);
    let mut attributes = HashMap::from([
        ("issuer".to_owned(), string(&identity.issuer)),
        ("subject".to_owned(), string(&identity.subject)),
        ("groups".to_owned(), RestrictedExpression::new_set(groups)),
        ("amr".to_owned(), RestrictedExpression::new_set(amr)),
    ]);
    for (name, value) in [("user", &identity.user), ("acr", &identity.acr)] {
        attributes.extend(value.as_ref().map(|value| (name.to_owned(), string(value))));
    }
    let uid = vocabulary::uid(Kind::Person, &person.id());
    Entity::new(uid, attributes, HashSet::new()).map_err(|error| Error::of("the caller", &error))
}

fn user_entity(caller: &HostUser) -> Result<Entity, Error> {
    let uid = vocabulary::uid(Kind::User, &caller.uid.to_string());
    let names = caller.groups.iter().filter_map(|group| group.name.clone());
    let names = names.map(RestrictedExpression::new_string);
    let mut attributes = HashMap::from([
        (
            "uid".to_owned(),
            RestrictedExpression::new_long(caller.uid.into()),
        ),
        (
            "gid".to_owned(),
            RestrictedExpression::new_long(caller.gid.into()),
        ),
        ("groups".to_owned(), RestrictedExpression::new_set(names)),
    ]);
    if let Some(name) = &caller.name {
        let name = RestrictedExpression::new_string(name.clone());
        attributes.insert("name".to_owned(), name);
    }
    let parents = caller
        .groups
        .iter()
        .map(|group| vocabulary::uid(Kind::Group, &group.gid.to_string()))
        .collect();
    Entity::new(uid, attributes, parents).map_err(|error| Error::of("the caller", &error))
}

fn object_entities(object: &ControlObject) -> Result<(EntityUid, Vec<Entity>), Error> {
    let host = vocabulary::uid(Kind::Host, HOST);
    let host_entity = Entity::new_no_attrs(host.clone(), HashSet::new());
    let (id, agent, cgroup) = match object {
        ControlObject::Host => return Ok((host, vec![host_entity])),
        // A path begins with a slash: no cgroup has this id.
        ControlObject::Agent(agent) => (format!("agent {agent}"), agent, None),
        ControlObject::Scope { agent, cgroup } => (cgroup.clone(), agent, Some(cgroup)),
    };
    let uid = vocabulary::uid(Kind::Scope, &id);
    let parents = HashSet::from([host, vocabulary::uid(Kind::Agent, agent)]);
    let string = |text: &String| RestrictedExpression::new_string(text.clone());
    let mut attributes = HashMap::from([("agent".to_owned(), string(agent))]);
    attributes.extend(cgroup.map(|cgroup| ("cgroup".to_owned(), string(cgroup))));
    let scope = Entity::new(uid.clone(), attributes, parents)
        .map_err(|error| Error::of("the scope", &error))?;
    Ok((uid, vec![host_entity, scope]))
}

fn refusal(verb: ControlVerb, object: &ControlObject, rules: Vec<RuleId>, hint: &str) -> Refusal {
    let on = match object {
        ControlObject::Host => "this host".to_owned(),
        ControlObject::Agent(agent) => format!("agent {}", shown(agent)),
        ControlObject::Scope { agent, cgroup } => {
            format!("agent {} in {}", shown(agent), shown(cgroup))
        }
    };
    Refusal {
        kind: if rules.is_empty() {
            RefusalKind::NotPermitted
        } else {
            RefusalKind::Forbidden
        },
        rules,
        message: format!("{} on {on} is not permitted", verb.name()),
        hint: Some(hint.to_owned()),
    }
}

#[cfg(test)]
mod tests;
