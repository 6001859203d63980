//! From a directory to a policy: parsed, checked against the schema, cut into slices for judging.
//!
//! Everything that is wrong is found in one go. What a rule says and this version does not do (an
//! obligation, a template, a name that names nothing) is a mistake, never ignored.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use cedar_policy::{PolicyId, PolicySet, ValidationMode, ValidationWarning, Validator};
use miette::Diagnostic;
use serde::Serialize;

use super::obligation::grant::SCOPE;
use super::source::{self, Mistake, Mistakes, Piece};
use super::vocabulary::PARSED;
use super::{Generation, Limits, Need, RuleId, Terms};

mod ever;
mod lint;
mod loose;
mod slice;

pub use ever::Ever;
pub(super) use loose::Loose;
use slice::Slices;
pub(super) use slice::{Slice, covered};

/// Stack of the thread that parses and validates: what `source` lets through fits many times over.
const STACK: usize = 64 * 1024 * 1024;

/// Whether a rule permits or forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// `permit`.
    Permit,
    /// `forbid`; it wins.
    Forbid,
}

/// One policy of a directory, as people name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its `@id`, or `file:line`.
    pub id: RuleId,
    /// Permit or forbid.
    pub effect: Effect,
    /// The file that it stands in.
    pub file: Arc<Path>,
    /// The line of its first token, from 1.
    pub line: u32,
    /// What the caller is told when it forbids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Arc<str>>,
    /// Whether it is marked as one that a site must not take away.
    pub mandatory: bool,
    /// What grants may be had of what it permits, which it permits in no other way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<Terms>,
    /// Whether those may be for a whole scope, and not for a process tree alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scope: bool,
    /// Whose word it takes, for the request or for the grant; it permits in no other way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve: Option<Need>,
    /// How much answers may hold that it permits.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// A loaded policy directory: immutable, shared by every session.
#[derive(Debug)]
pub struct Policy {
    pub(super) generation: Generation,
    pub(super) rules: HashMap<PolicyId, Arc<Rule>>,
    /// Every rule: the verbs of the control socket are few and rare.
    pub(super) control_rules: PolicySet,
    pub(super) slices: Slices,
    /// For what may be granted.
    pub(super) loose: Loose,
    warnings: Vec<Mistake>,
    asks_people: bool,
}

/// A policy that parsed, with where it stands.
pub(super) struct Parsed {
    pub(super) policy: cedar_policy::Policy,
    pub(super) rule: Arc<Rule>,
    pub(super) piece: Piece,
}

impl Policy {
    /// Loads every `*.cedar` file of `dir`. Reads files: not for an async thread.
    ///
    /// # Errors
    /// Every mistake of the directory, with file and line.
    pub fn load(dir: &Path, generation: Generation) -> Result<Self, Mistakes> {
        let dir = dir.to_owned();
        let place = dir.clone();
        let failed = |text: String| {
            Mistakes(vec![Mistake {
                file: place,
                line: None,
                text,
            }])
        };
        let thread = std::thread::Builder::new()
            .name("policy-load".to_owned())
            .stack_size(STACK)
            .spawn(move || load(&dir, generation));
        match thread.map(std::thread::JoinHandle::join) {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_)) => Err(failed("loading ended in a panic".to_owned())),
            Err(error) => Err(failed(format!("cannot start a thread to load in: {error}"))),
        }
    }

    /// Which load this is.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Its rules, by file and line.
    #[must_use]
    pub fn rules(&self) -> Vec<Arc<Rule>> {
        let mut rules: Vec<_> = self.rules.values().map(Arc::clone).collect();
        rules.sort_by(|a, b| (&a.file, a.line, &a.id).cmp(&(&b.file, b.line, &b.id)));
        rules
    }

    /// A rule as it is written.
    #[must_use]
    pub fn text(&self, rule: &RuleId) -> Option<String> {
        let found = self.control_rules.policy(&PolicyId::new(&rule.0))?;
        Some(found.to_string())
    }

    /// Whether any rule leaves requests to people.
    #[must_use]
    pub fn asks_people(&self) -> bool {
        self.asks_people
    }

    /// What is allowed but deserves a look.
    #[must_use]
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }
}

fn load(dir: &Path, generation: Generation) -> Result<Policy, Mistakes> {
    let mut mistakes = Vec::new();
    let mut warnings = Vec::new();
    let files = source::read(dir, &mut mistakes);
    let pieces = source::split(&files, &mut mistakes);
    let parsed: Vec<_> = pieces
        .into_iter()
        .filter_map(|piece| parse(piece, &mut mistakes))
        .collect();
    for one in &parsed {
        lint::annotations(one, &mut mistakes, &mut warnings);
        lint::literals(one, &mut mistakes);
        lint::control(one, &mut mistakes);
    }
    unique(&parsed, &mut mistakes);
    let control_rules = validate(&parsed, &mut mistakes, &mut warnings);
    lint::warn(&parsed, &mut warnings);
    if !mistakes.is_empty() {
        mistakes.sort();
        mistakes.dedup();
        return Err(Mistakes(mistakes));
    }
    warnings.sort();
    let rules: HashMap<_, _> = parsed
        .iter()
        .map(|one| (one.policy.id().clone(), Arc::clone(&one.rule)))
        .collect();
    let granted = |id: &PolicyId| rules.get(id).is_some_and(|rule| rule.grant.is_some());
    let loose = Loose::new(parsed.iter().map(|one| &one.policy), granted);
    let leaves = |rule: &Arc<Rule>| rule.approve.is_some() && rule.grant.is_none();
    Ok(Policy {
        asks_people: rules.values().any(leaves),
        generation,
        rules,
        loose,
        slices: Slices::new(parsed.into_iter().map(|one| one.policy)),
        control_rules,
        warnings,
    })
}

/// Parses one policy and gives it its name.
fn parse(piece: Piece, mistakes: &mut Vec<Mistake>) -> Option<Parsed> {
    let policy = match cedar_policy::Policy::parse(None, &piece.text) {
        Ok(policy) => policy,
        Err(errors) => {
            mistakes.extend(errors.iter().map(|error| located(&piece, error)));
            return None;
        }
    };
    let line = piece.line();
    let id = match policy.annotation("id").filter(|id| !id.is_empty()) {
        Some(id) => id.to_owned(),
        None => format!("{}:{line}", piece.file.path.display()),
    };
    let effect = match policy.effect() {
        cedar_policy::Effect::Permit => Effect::Permit,
        cedar_policy::Effect::Forbid => Effect::Forbid,
    };
    let annotated = |name: &str| policy.annotation(name).map(str::to_owned);
    let rule = Rule {
        grant: Terms::of(annotated),
        scope: policy.annotation(SCOPE).is_some(),
        approve: Need::of(&RuleId(id.clone()), annotated),
        limits: Limits::of(&RuleId(id.clone()), annotated),
        id: RuleId(id.clone()),
        effect,
        file: Arc::clone(&piece.file.path),
        line,
        hint: policy.annotation("hint").map(Arc::from),
        mandatory: policy.annotation("mandatory").is_some(),
    };
    Some(Parsed {
        policy: policy.new_id(PolicyId::new(id)),
        rule: Arc::new(rule),
        piece,
    })
}

/// A mistake that Cedar found, where it found it.
fn located(piece: &Piece, error: &dyn Diagnostic) -> Mistake {
    let offset = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map_or(0, |label| label.offset());
    let mut text = error.to_string();
    if let Some(help) = error.help() {
        text = format!("{text} ({help})");
    }
    piece.mistake(offset, text)
}

/// Refuses a second rule of one name: audit lines and refusals would not tell which it was.
fn unique(parsed: &[Parsed], mistakes: &mut Vec<Mistake>) {
    let mut first: BTreeMap<&RuleId, &Parsed> = BTreeMap::new();
    for one in parsed {
        let Some(other) = first.insert(&one.rule.id, one) else {
            continue;
        };
        let text = format!(
            "@id(\"{}\") is taken by {}:{}",
            one.rule.id.0,
            other.rule.file.display(),
            other.rule.line
        );
        mistakes.push(one.piece.mistake(0, text));
    }
}

/// Checks every policy against the schema, strictly.
fn validate(
    parsed: &[Parsed],
    mistakes: &mut Vec<Mistake>,
    warnings: &mut Vec<Mistake>,
) -> PolicySet {
    let mut set = PolicySet::new();
    let mut pieces = HashMap::new();
    for one in parsed {
        // A second policy of one name is a mistake already; its text is checked all the same.
        let policy = match set.policy(one.policy.id()) {
            None => one.policy.clone(),
            Some(_) => {
                let id = format!("{}:{}", one.rule.file.display(), one.piece.start);
                one.policy.new_id(PolicyId::new(id))
            }
        };
        pieces.insert(policy.id().clone(), &one.piece);
        if let Err(error) = set.add(policy) {
            mistakes.push(one.piece.mistake(0, error.to_string()));
        }
    }
    let result = Validator::new(PARSED.clone()).validate(&set, ValidationMode::Strict);
    for error in result.validation_errors() {
        if let Some(piece) = pieces.get(error.policy_id()) {
            mistakes.push(located(piece, error));
        }
    }
    for warning in result.validation_warnings() {
        let Some(piece) = pieces.get(warning.policy_id()) else {
            continue;
        };
        // A rule that can never apply does not do what it says; text that reads otherwise than it
        // is written hides what it says.
        if matches!(warning, ValidationWarning::MixedScriptString(_)) {
            warnings.push(located(piece, warning));
        } else {
            mistakes.push(located(piece, warning));
        }
    }
    set
}

#[cfg(test)]
mod tests;
