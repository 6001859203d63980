//! What policy may ever permit, to whomever and whenever: an upper bound, for who gives rights on a server.
//!
//! A rule's scope and what its conditions say of action and resource are evaluated; whatever hangs on who
//! asks, or on the statement, is unknown. A permit counts unless it certainly does not apply, a forbid only where it
//! certainly does. So nothing that is permitted is missed; some of what is never permitted is not seen.

use cedar_policy::{ActionConstraint, Entities, Policy as Rule, PrincipalConstraint};
use serde_json::Value as Json;

use super::{Effect, Policy, covered};
use crate::policy::vocabulary::{self, ACTIONS, Kind};
use crate::policy::{Action, Resource};

/// The rules of a policy, ready for the question what is ever permitted.
#[derive(Debug)]
pub struct Ever {
    rules: Vec<Scoped>,
}

#[derive(Debug)]
struct Scoped {
    effect: Effect,
    actions: Vec<Action>,
    /// Whether it is about every agent.
    of_all: bool,
    /// The rule as JSON, as Cedar writes it.
    resource: Json,
    conditions: Vec<Json>,
}

/// What an expression comes to; `None` where that is not known.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Truth(bool),
    Text(String),
    /// The resource that is asked about.
    Resource,
    Entity {
        kind: String,
        id: String,
    },
    Set(Vec<Option<Self>>),
}

/// What is done to a resource, as conditions look at it.
struct Place {
    action: Known,
    /// It and what it lies in, outermost first.
    chain: Vec<(Kind, String)>,
    attributes: Vec<(&'static str, String)>,
    /// It is one of its kind, whichever: its own name is not known.
    any: bool,
}

impl Policy {
    /// The rules, ready for [`Ever::may`].
    #[must_use]
    pub fn ever(&self) -> Ever {
        let actions = Entities::from_entities(ACTIONS.clone(), None).unwrap_or_default();
        let rules = self.control_rules.policies();
        Ever {
            rules: rules
                .filter_map(|rule| Scoped::new(rule, &actions))
                .collect(),
        }
    }
}

impl Ever {
    /// Whether policy may permit `action` on `resource` to anybody, at any time.
    #[must_use]
    pub fn may(&self, action: Action, target: &str, database: &str, resource: &Resource) -> bool {
        self.may_in(action, &Place::new(action, target, database, resource))
    }

    /// The same of any resource of this kind that lies where this one does, whatever its name.
    #[must_use]
    pub fn may_any(
        &self,
        action: Action,
        target: &str,
        database: &str,
        resource: &Resource,
    ) -> bool {
        let mut place = Place::new(action, target, database, resource);
        place.attributes.retain(|(name, _)| *name != "name");
        place.any = true;
        self.may_in(action, &place)
    }

    fn may_in(&self, action: Action, place: &Place) -> bool {
        let of_it = |effect| {
            let rules = self.rules.iter();
            rules.filter(move |rule| rule.effect == effect && rule.actions.contains(&action))
        };
        let forbidden =
            of_it(Effect::Forbid).any(|rule| rule.of_all && rule.applies(place) == Some(true));
        !forbidden && of_it(Effect::Permit).any(|rule| rule.applies(place) != Some(false))
    }
}

impl Scoped {
    /// `None` where the rule is about no agent.
    fn new(rule: &Rule, actions: &Entities) -> Option<Self> {
        let is_agent = |kind: &cedar_policy::EntityTypeName| {
            Kind::named(&kind.to_string()) == Some(Kind::Agent)
        };
        let of_all = match rule.principal_constraint() {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::Is(kind) => is_agent(&kind).then_some(true)?,
            PrincipalConstraint::IsIn(kind, _) => is_agent(&kind).then_some(false)?,
            PrincipalConstraint::Eq(_) | PrincipalConstraint::In(_) => false,
        };
        let effect = match rule.effect() {
            cedar_policy::Effect::Permit => Effect::Permit,
            cedar_policy::Effect::Forbid => Effect::Forbid,
        };
        let constraint: ActionConstraint = rule.action_constraint();
        let json = rule.to_json().unwrap_or(Json::Null);
        let conditions = json.get("conditions").and_then(Json::as_array);
        Some(Self {
            effect,
            actions: covered(&constraint, actions),
            of_all,
            resource: json.get("resource").cloned().unwrap_or(Json::Null),
            // Where it cannot be written down, nothing is known of it.
            conditions: conditions.cloned().unwrap_or_else(|| vec![Json::Null]),
        })
    }

    /// Whether it applies to a resource; `None` where that hangs on who asks, or for what.
    fn applies(&self, place: &Place) -> Option<bool> {
        let conditions = self.conditions.iter().map(|condition| {
            let holds = truth(condition.get("body")?, place)?;
            match condition.get("kind")?.as_str()? {
                "when" => Some(holds),
                "unless" => Some(!holds),
                _ => None,
            }
        });
        all(std::iter::once(place.scoped(&self.resource)).chain(conditions))
    }
}

impl Place {
    fn new(action: Action, target: &str, database: &str, resource: &Resource) -> Self {
        let around = [("target", target), ("database", database)];
        let path;
        let (outer, own): (&[(&'static str, &str)], &str) = match resource {
            Resource::Target => (&[], target),
            Resource::Database => (&around[..1], database),
            Resource::File { path: steps } => {
                path = steps.last().map_or("/", String::as_str);
                (&around[..1], path)
            }
            Resource::Forward { host, .. } => (&around[..1], host),
            Resource::Schema { schema } => (&around, schema),
            Resource::Table {
                schema,
                table: name,
            }
            | Resource::Function {
                schema,
                function: name,
            } => (&[around[0], around[1], ("schema", schema)], name),
            Resource::Column {
                schema,
                table,
                column,
            } => (
                &[around[0], around[1], ("schema", schema), ("table", table)],
                column,
            ),
            Resource::Path { path } => (&around[..1], path.rsplit('/').next().unwrap_or(path)),
            Resource::KubeNamespace { namespace } => (&around[..1], namespace),
            Resource::KubeObject {
                namespace,
                resource,
                name,
            } => {
                let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
                let within = ("namespace", namespace.as_str());
                (
                    &[around[0], within, ("resource", kind), ("group", group)],
                    name,
                )
            }
        };
        let mut attributes = outer.to_vec();
        attributes.push(("name", own));
        let attributes = attributes.into_iter();
        Self {
            action: Known::Entity {
                kind: Kind::Action.name().to_owned(),
                id: action.name().to_owned(),
            },
            chain: vocabulary::chain(target, database, resource),
            attributes: attributes
                .map(|(name, value)| (name, value.to_owned()))
                .collect(),
            any: false,
        }
    }

    /// Whether a scope's `resource` admits it: `{"op": "in", "entity": {"type": …, "id": …}}`.
    fn scoped(&self, scope: &Json) -> Option<bool> {
        let entity = || entity(scope.get("entity")?);
        match scope.get("op")?.as_str()? {
            "All" => Some(true),
            "==" => self.is(&entity()?),
            "in" => self.lies_in(&entity()?),
            "is" => {
                let kind = Some(self.is_a(scope.get("entity_type")?.as_str()?));
                match scope.get("in") {
                    None => kind,
                    Some(within) => {
                        let within = within.get("entity").and_then(self::entity);
                        let lies = within.and_then(|within| self.lies_in(&within));
                        all([kind, lies].into_iter())
                    }
                }
            }
            _ => None,
        }
    }

    fn is(&self, other: &Known) -> Option<bool> {
        let own = self.chain.last()?;
        let (kind, front) = own;
        // Without its name, its id is what the ids of all in that place begin with.
        if let Known::Entity { kind: of, id } = other
            && self.any
        {
            let may = of == kind.name() && id.starts_with(front.trim_end_matches('"'));
            return if may { None } else { Some(false) };
        }
        Some(names(other, own))
    }

    fn lies_in(&self, other: &Known) -> Option<bool> {
        let (_, around) = self.chain.split_last()?;
        match around.iter().any(|link| names(other, link)) {
            true => Some(true),
            false => self.is(other),
        }
    }

    fn is_a(&self, kind: &str) -> bool {
        let own = self.chain.last();
        own.is_some_and(|(own, _)| own.name() == kind)
    }
}

fn names(entity: &Known, (link, own): &(Kind, String)) -> bool {
    matches!(entity, Known::Entity { kind, id } if kind == link.name() && id == own)
}

fn entity(json: &Json) -> Option<Known> {
    let json = json.get("__entity").unwrap_or(json);
    let part = |name| json.get(name)?.as_str().map(str::to_owned);
    Some(Known::Entity {
        kind: part("type")?,
        id: part("id")?,
    })
}

/// Whether all hold: certainly not where one does not, whatever the others are.
fn all(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut sum = Some(true);
    for part in parts {
        match part {
            Some(false) => return Some(false),
            Some(true) => {}
            None => sum = None,
        }
    }
    sum
}

fn truth(json: &Json, place: &Place) -> Option<bool> {
    match value(json, place)? {
        Known::Truth(truth) => Some(truth),
        Known::Text(_) | Known::Resource | Known::Entity { .. } | Known::Set(_) => None,
    }
}

fn value(json: &Json, place: &Place) -> Option<Known> {
    let (operator, operand) = json.as_object()?.iter().next()?;
    let side = |name: &str| value(operand.get(name)?, place);
    let holds = |name: &str| truth(operand.get(name)?, place);
    let truth = match operator.as_str() {
        "Value" => return literal(operand),
        "Var" => {
            return match operand.as_str()? {
                "resource" => Some(Known::Resource),
                "action" => Some(place.action.clone()),
                _ => None,
            };
        }
        "Set" => {
            let items = operand.as_array()?.iter().map(|item| value(item, place));
            return Some(Known::Set(items.collect()));
        }
        "." => return attribute(&side("left")?, operand.get("attr")?.as_str()?, place),
        "if-then-else" => {
            return match holds("if")? {
                true => side("then"),
                false => side("else"),
            };
        }
        "!" => !holds("arg")?,
        "&&" => all([holds("left"), holds("right")].into_iter())?,
        "||" => {
            let neither = [holds("left"), holds("right")].map(|side| side.map(|holds| !holds));
            !all(neither.into_iter())?
        }
        "==" => equal(&side("left")?, &side("right")?, place)?,
        "!=" => !equal(&side("left")?, &side("right")?, place)?,
        "in" => within(&side("left")?, &side("right")?, place)?,
        "is" => {
            let is_it = side("left")? == Known::Resource && operand.get("in").is_none();
            is_it.then(|| Some(place.is_a(operand.get("entity_type")?.as_str()?)))??
        }
        "like" => like(&side("left")?, operand.get("pattern")?)?,
        "contains" => contains(&side("left")?, &side("right")?, place)?,
        _ => return None,
    };
    Some(Known::Truth(truth))
}

fn literal(json: &Json) -> Option<Known> {
    match json {
        Json::Bool(truth) => Some(Known::Truth(*truth)),
        Json::String(text) => Some(Known::Text(text.clone())),
        Json::Array(items) => Some(Known::Set(items.iter().map(literal).collect())),
        Json::Object(_) => entity(json),
        Json::Null | Json::Number(_) => None,
    }
}

fn attribute(of: &Known, name: &str, place: &Place) -> Option<Known> {
    if *of != Known::Resource {
        return None;
    }
    let mut attributes = place.attributes.iter();
    let found = attributes.find(|(known, _)| *known == name);
    found.map(|(_, value)| Known::Text(value.clone()))
}

fn equal(one: &Known, other: &Known, place: &Place) -> Option<bool> {
    match (one, other) {
        (Known::Resource, Known::Resource) => Some(true),
        (Known::Resource, entity @ Known::Entity { .. })
        | (entity @ Known::Entity { .. }, Known::Resource) => place.is(entity),
        (Known::Truth(_), Known::Truth(_))
        | (Known::Text(_), Known::Text(_))
        | (Known::Entity { .. }, Known::Entity { .. }) => Some(one == other),
        _ => None,
    }
}

fn within(one: &Known, other: &Known, place: &Place) -> Option<bool> {
    match (one, other) {
        (Known::Resource, entity @ Known::Entity { .. }) => place.lies_in(entity),
        (Known::Resource, Known::Set(entities)) => {
            any(entities, |entity| within(one, entity, place))
        }
        _ => None,
    }
}

fn contains(set: &Known, wanted: &Known, place: &Place) -> Option<bool> {
    let Known::Set(items) = set else { return None };
    any(items, |item| equal(item, wanted, place))
}

/// Whether one of the items does: certainly where one does, whatever the others are.
fn any(items: &[Option<Known>], does: impl Fn(&Known) -> Option<bool>) -> Option<bool> {
    let not = |item: &Option<Known>| item.as_ref().and_then(&does).map(|does| !does);
    all(items.iter().map(not)).map(|none| !none)
}

/// Cedar's pattern, as JSON: words, and wildcards between them.
fn like(text: &Known, pattern: &Json) -> Option<bool> {
    let Known::Text(text) = text else { return None };
    matches(pattern.as_array()?, text)
}

fn matches(pattern: &[Json], text: &str) -> Option<bool> {
    let Some((part, rest)) = pattern.split_first() else {
        return Some(text.is_empty());
    };
    if part == "Wildcard" {
        let from = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        let mut ends = from.filter_map(|at| text.get(at..));
        return ends
            .find_map(|text| match matches(rest, text) {
                Some(false) => None,
                found => Some(found),
            })
            .unwrap_or(Some(false));
    }
    match text.strip_prefix(part.get("Literal")?.as_str()?) {
        Some(text) => matches(rest, text),
        None => Some(false),
    }
}

#[cfg(test)]
mod tests;
