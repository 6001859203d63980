//! What Cedar accepts and this program does not, and what deserves a warning.
//!
//! A rule must do all that it says: an annotation that nothing here acts on, and a name that no
//! resource can have, are mistakes, not decoration.

mod identity;

use std::path::Path;
use std::time::Duration;

use cedar_policy::{
    ActionConstraint, Entities, EntityTypeName, PrincipalConstraint, ResourceConstraint,
};
use serde_json::Value;

use super::{Effect, Parsed, covered};
use crate::clock;
use crate::config::is_name;
use crate::policy::obligation::{approval, grant, limits};
use crate::policy::source::Mistake;
use crate::policy::vocabulary::{self, ACTIONS, Kind};
use crate::policy::{Action, ControlVerb};

/// Obligations that are planned and not enforced yet: whoever writes one must not believe it works.
const OBLIGATIONS: [&str; 5] = ["mask", "expires", "limit", "reason", "shadow"];
/// No permit leaves more to a grant: what is wanted for longer is a rule.
const LONGEST_GRANT: Duration = Duration::from_secs(7 * 86_400);
/// Longest `@id`.
const ID: usize = 64;
/// Longest `@hint`, in bytes: it goes out in the protocol's own error.
const HINT: usize = 300;
/// Facts of the principal that the process's own user can make another program show.
const EXECUTABLE: [&str; 4] = ["executable", "ancestors", "ancestorPaths", "ancestorHashes"];

/// Checks the annotations of one policy.
pub(in crate::policy) fn annotations(
    one: &Parsed,
    mistakes: &mut Vec<Mistake>,
    warnings: &mut Vec<Mistake>,
) {
    for (name, value) in one.policy.annotations() {
        let text = match name {
            "id" => check_id(value),
            "hint" => check_hint(value),
            "mandatory" if value.is_empty() => None,
            "mandatory" => Some("@mandatory takes no value".to_owned()),
            grant::ANNOTATION => check_grant(one, value),
            grant::SCOPE if one.policy.annotation(grant::ANNOTATION).is_none() => Some(
                "@grant_scope stands beside @grant, whose grants it lets be of a whole scope"
                    .to_owned(),
            ),
            grant::SCOPE if value.is_empty() => None,
            grant::SCOPE => Some("@grant_scope takes no value".to_owned()),
            "grant_tree" => {
                let text = "@grant_tree does nothing any more: a grant is a process tree's, unless \
                            @grant_scope says otherwise";
                warnings.push(one.piece.mistake(offset(one, name), text));
                None
            }
            _ if grant::COMPANIONS.contains(&name) => check_grant_companion(one, name, value),
            "approve" => check_approve(one, name, value),
            _ if approval::COMPANIONS.contains(&name) => check_approval_companion(one, name, value),
            _ if limits::ANNOTATIONS.contains(&name) => check_limit(one, name, value),
            _ if OBLIGATIONS.contains(&name) => Some(format!(
                "@{name} is an obligation that this version does not enforce: the rule would \
                 permit more than it says; take the rule away"
            )),
            _ => Some(format!(
                "@{name} is not known; known are @id, @hint, @mandatory, @grant, @grant_scope, @{}, @approve, @{}, @{}",
                grant::COMPANIONS.join(", @"),
                approval::COMPANIONS.join(", @"),
                limits::ANNOTATIONS.join(", @")
            )),
        };
        if let Some(text) = text {
            mistakes.push(one.piece.mistake(offset(one, name), text));
        }
    }
    let has_rows = |action: &Action| {
        matches!(
            action,
            Action::Select | Action::Insert | Action::Update | Action::Delete | Action::Merge
        )
    };
    if one.policy.annotation("shape").is_some() && !covered_actions(one).iter().any(has_rows) {
        let text = "@shape does nothing here: an answer covers other literals of statements on rows alone \
                    (Select, Insert, Update, Delete, Merge)";
        warnings.push(one.piece.mistake(offset(one, "shape"), text));
    }
    if one.rule.hint.is_some() && one.rule.effect == Effect::Permit {
        let text = "@hint on a permit is never shown: only a forbid tells why";
        warnings.push(one.piece.mistake(offset(one, "hint"), text));
    }
}

fn offset(one: &Parsed, annotation: &str) -> usize {
    one.piece.text.find(&format!("@{annotation}")).unwrap_or(0)
}

fn check_id(id: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = !id.is_empty() && id.len() <= ID && id.chars().all(plain);
    (!good)
        .then(|| format!("@id takes 1 to {ID} of the characters a-z, A-Z, 0-9, `-`, `_` and `.`"))
}

fn check_hint(hint: &str) -> Option<String> {
    let good = !hint.is_empty() && hint.len() <= HINT && !hint.chars().any(char::is_control);
    (!good).then(|| format!("@hint takes 1 to {HINT} bytes of text in one line"))
}

/// What is left to grants must be a permit of what agents do, for a bounded time.
fn check_grant(one: &Parsed, value: &str) -> Option<String> {
    if one.rule.effect == Effect::Forbid {
        return Some(
            "@grant on a forbid grants nothing: a forbid wins over every grant".to_owned(),
        );
    }
    if !is_for_agents(one) {
        return Some("@grant is for agents: write `principal is Agent`, or name one".to_owned());
    }
    match clock::duration(value) {
        Ok(time) if !time.is_zero() && time <= LONGEST_GRANT => None,
        _ => Some(format!(
            "@grant takes the longest time that may be granted, such as 10m or 8h, of at most {}d",
            LONGEST_GRANT.as_secs() / 86_400
        )),
    }
}

/// What bounds grants stands on a permit that leaves something to them, and bounds something.
fn check_grant_companion(one: &Parsed, name: &str, value: &str) -> Option<String> {
    if one.policy.annotation(grant::ANNOTATION).is_none() {
        return Some(format!(
            "@{name} bounds nothing here: it stands beside @grant, whose grants it bounds"
        ));
    }
    let covers = covered_actions(one);
    let counted = |action: &Action| match name {
        "grant_uses" => *action != Action::Reveal,
        "grant_rows" => grant::is_answered(*action) || grant::is_written(*action),
        _ => grant::is_answered(*action),
    };
    if !covers.iter().all(counted) {
        return Some(format!(
            "@{name} cannot be counted for all that this permits: give that a permit of its own"
        ));
    }
    limits::parse(name, value).err()
}

fn covered_actions(one: &Parsed) -> Vec<Action> {
    let groups = Entities::from_entities(ACTIONS.clone(), None).unwrap_or_default();
    covered(&one.policy.action_constraint(), &groups)
}

/// What waits for people must be a permit of what agents do, in a session that is open already.
fn check_approve(one: &Parsed, name: &str, value: &str) -> Option<String> {
    if one.rule.effect == Effect::Forbid {
        return Some(
            "@approve on a forbid asks nobody: a forbid wins over every approval".to_owned(),
        );
    }
    if !is_for_agents(one) {
        return Some("@approve is for agents: write `principal is Agent`, or name one".to_owned());
    }
    if one.rule.grant.is_none() && !covers_requests(one) {
        return Some(
            "@approve holds requests of an open session; Connect, Open and Reveal are none: add @grant, so \
             that people are asked before the grant is given"
                .to_owned(),
        );
    }
    approval::check(name, value).err()
}

/// What belongs to `@approve` means nothing without it.
fn check_approval_companion(one: &Parsed, name: &str, value: &str) -> Option<String> {
    let has = |name: &str| one.policy.annotation(name).is_some();
    if !has("approve") {
        return Some(format!("@{name} belongs to an @approve, and there is none"));
    }
    let pair = match name {
        "escalate" => Some("escalate_after"),
        "escalate_after" => Some("escalate"),
        _ => None,
    };
    match pair.filter(|pair| !has(pair)) {
        Some(missing) => Some(format!("@{name} takes an @{missing} beside it")),
        None => approval::check(name, value).err(),
    }
}

/// Whether any of it is a request of an open session.
fn covers_requests(one: &Parsed) -> bool {
    let mut covers = covered_actions(one).into_iter();
    covers.any(Action::is_a_request)
}

fn is_for_agents(one: &Parsed) -> bool {
    match one.policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::In(_) => false,
        PrincipalConstraint::Eq(uid) => {
            Kind::named(&uid.type_name().to_string()) == Some(Kind::Agent)
        }
        PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => {
            Kind::named(&kind.to_string()) == Some(Kind::Agent)
        }
    }
}

/// A limit must be one: a number, on a permit of something that is answered.
fn check_limit(one: &Parsed, name: &str, value: &str) -> Option<String> {
    if one.rule.effect == Effect::Forbid {
        return Some(format!(
            "@{name} on a forbid limits nothing: it stands on the permit whose answers it bounds"
        ));
    }
    if !covers_requests(one) {
        return Some(format!(
            "@{name} limits nothing here: what this permits has no answer with rows"
        ));
    }
    limits::parse(name, value).err()
}

/// Refuses names of resources that no resource can have: a forbid on one would forbid nothing.
pub(in crate::policy) fn literals(one: &Parsed, mistakes: &mut Vec<Mistake>) {
    for uid in one.policy.entity_literals() {
        let Some(kind) = Kind::named(&uid.type_name().to_string()) else {
            continue;
        };
        let id = uid.id().unescaped();
        let form = match kind {
            Kind::Target
            | Kind::Database
            | Kind::Schema
            | Kind::Table
            | Kind::Column
            | Kind::Function
            | Kind::File
            | Kind::Forward
            | Kind::KubeNamespace
            | Kind::KubeObject
            | Kind::Path => {
                if vocabulary::names(kind, id).is_some() {
                    continue;
                }
                form(kind)
            }
            Kind::User | Kind::Group => match id.parse::<u32>() {
                Ok(number) if number.to_string() == id => continue,
                _ => "a number; names are in `principal.groups` and `principal.name`",
            },
            Kind::Person if !is_person(id) => {
                "`NAME:SUBJECT`, NAME being that of the issuer in the configuration"
            }
            Kind::Name if crate::policy::names::is_plain(id) => continue,
            Kind::Name => "a name in lower case, without a dot at its end: corp.example",
            Kind::Scope if !id.starts_with('/') => "a path below the cgroup v2 mount: /a/b",
            Kind::Host if id != "localhost" => "`localhost`",
            Kind::Person | Kind::Scope | Kind::Host | Kind::Agent | Kind::Action => continue,
        };
        let at = one
            .piece
            .text
            .find(&format!("{}::", kind.name()))
            .unwrap_or(0);
        let text = format!("{uid} names nothing: the id of a {} is {form}", kind.name());
        mistakes.push(one.piece.mistake(at, text));
    }
}

/// Whether a name is one that somebody can have who logged in.
fn is_person(id: &str) -> bool {
    let parts = id.split_once(':');
    parts.is_some_and(|(by, subject)| is_name(by) && !subject.is_empty())
}

const fn form(kind: Kind) -> &'static str {
    match kind {
        Kind::Target => "target",
        Kind::Database => "target/database",
        Kind::Schema => "target/database/schema",
        Kind::Table => "target/database/schema.table",
        Kind::Function => "target/database/schema.function",
        Kind::File => {
            "target/directory/name, `target/` for the root, `target/~/name` below the home"
        }
        Kind::Forward => "target/host:port",
        Kind::KubeNamespace => "target/namespace",
        Kind::KubeObject => {
            "target/namespace/kind or target/namespace/kind/name, `\"\"` where there is no namespace, and \
             the kind with its group: deployments.apps"
        }
        Kind::Column => "target/database/schema.table.column",
        Kind::Path => "target/path, without a slash at its end but for the whole target/",
        Kind::Name
        | Kind::Agent
        | Kind::User
        | Kind::Person
        | Kind::Group
        | Kind::Scope
        | Kind::Host
        | Kind::Action => "",
    }
}

/// Refuses a permit that gives control of the daemon by saying nothing about who and what.
pub(in crate::policy) fn control(one: &Parsed, mistakes: &mut Vec<Mistake>) {
    if one.rule.effect == Effect::Forbid {
        return;
    }
    let anyone = matches!(one.policy.principal_constraint(), PrincipalConstraint::Any);
    let anything = matches!(one.policy.action_constraint(), ActionConstraint::Any);
    let data_only = resource_kind(&one.policy.resource_constraint()).is_some_and(Kind::is_data);
    if anyone && anything && !data_only {
        let verbs: Vec<_> = ControlVerb::ALL
            .into_iter()
            .map(ControlVerb::name)
            .collect();
        let text = format!(
            "permits {} on the daemon to every user of the host; write `principal is Agent`, or \
             name the actions",
            verbs.join(", ")
        );
        mistakes.push(one.piece.mistake(0, text));
    }
}

fn resource_kind(constraint: &ResourceConstraint) -> Option<Kind> {
    let named = |kind: &EntityTypeName| Kind::named(&kind.to_string());
    match constraint {
        ResourceConstraint::Any => None,
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) => named(uid.type_name()),
        ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => named(kind),
    }
}

/// Warns of what loads but may not mean what its author thinks.
pub(in crate::policy) fn warn(parsed: &[Parsed], warnings: &mut Vec<Mistake>) {
    for one in parsed.iter().filter(|one| leans_on_executable(one)) {
        let text = "leans on the executable or its ancestors: attribution is not a boundary, a \
                    process's own user can make another program do its work; the scope is the \
                    boundary";
        warnings.push(one.piece.mistake(0, text));
    }
    for one in parsed.iter().filter(|one| reveals_by_accident(one)) {
        let text = "permits Reveal by naming no action: columns that the configuration calls sensitive \
                    are not masked for whom it covers; add `unless { action == Action::\"Reveal\" }`, or \
                    name the actions";
        warnings.push(one.piece.mistake(0, text));
    }
    for one in parsed.iter().filter(|one| identity::names_no_issuer(one)) {
        let text = "leans on who is behind a scope without the issuer: another issuer that is configured may give the \
                    same name, group or claim to anybody; add `principal.identity.issuer == \"…\"`";
        warnings.push(one.piece.mistake(0, text));
    }
    unread(parsed, warnings);
}

/// Whether a permit covers `Reveal` without a word of it.
fn reveals_by_accident(one: &Parsed) -> bool {
    let reveal = vocabulary::uid(Kind::Action, Action::Reveal.name());
    let columns = match resource_kind(&one.policy.resource_constraint()) {
        None => true,
        Some(Kind::Function | Kind::File | Kind::Forward) => false,
        Some(kind) => kind.is_data(),
    };
    one.rule.effect == Effect::Permit
        && matches!(one.policy.action_constraint(), ActionConstraint::Any)
        && !one.policy.entity_literals().contains(&reveal)
        && columns
}

/// Whether a condition reads `principal.executable` or the ancestors.
fn leans_on_executable(one: &Parsed) -> bool {
    fn reads(value: &Value) -> bool {
        match value {
            Value::Object(fields) => {
                let attribute = fields.get("attr").and_then(Value::as_str);
                attribute.is_some_and(|name| EXECUTABLE.contains(&name))
                    || fields.values().any(reads)
            }
            Value::Array(values) => values.iter().any(reads),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
    one.policy.to_json().is_ok_and(|json| reads(&json))
}

/// Warns where text may pass unread although some rule forbids a thing that only reading shows.
fn unread(parsed: &[Parsed], warnings: &mut Vec<Mistake>) {
    let groups = Entities::from_entities(ACTIONS.clone(), None).unwrap_or_default();
    let covers =
        |one: &Parsed, action| covered(&one.policy.action_constraint(), &groups).contains(&action);
    let blind = |one: &&Parsed| {
        one.rule.effect == Effect::Forbid
            && !covers(one, Action::Unreadable)
            && Action::ALL.into_iter().any(|action| covers(one, action))
            || one.rule.effect == Effect::Forbid && looks_inside(one)
    };
    let Some(forbid) = parsed.iter().find(blind) else {
        return;
    };
    let closed = parsed.iter().any(|one| {
        one.rule.effect == Effect::Forbid
            && covers(one, Action::Unreadable)
            && !one.policy.has_non_scope_constraint()
            && matches!(one.policy.resource_constraint(), ResourceConstraint::Any)
    });
    if closed {
        return;
    }
    for one in parsed {
        if one.rule.effect == Effect::Permit && covers(one, Action::Unreadable) {
            let file: &Path = &forbid.rule.file;
            let text = format!(
                "permits Unreadable: such text is forwarded without being read, so that {} \
                 ({}:{}) does not see what it does",
                forbid.rule.id.0,
                file.display(),
                forbid.rule.line
            );
            warnings.push(one.piece.mistake(0, text));
        }
    }
}

/// Whether a rule's scope names something inside a database.
fn looks_inside(one: &Parsed) -> bool {
    matches!(
        resource_kind(&one.policy.resource_constraint()),
        Some(Kind::Schema | Kind::Table | Kind::Column | Kind::Function | Kind::Path)
    )
}
