//! Which fields are masked: keys with dots between, held against the keys on the way to a value. Elements of arrays
//! have their array's name; case does not count, since readers of JSON exist for which it does not.

use std::sync::Arc;

use crate::masking::Mask;

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    /// One key of any name.
    Any,
    /// Any number of keys.
    Deep,
}

/// The masks of fields.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<(Vec<Step>, Mask)>,
}

fn step(part: &str) -> Step {
    match part {
        "*" => Step::Any,
        "**" => Step::Deep,
        key => Step::Key(key.to_lowercase()),
    }
}

/// How far each rule has come on the way to a value: rules, and the steps of each that are behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reached(Arc<[(usize, usize)]>);

impl Rules {
    /// Rules as the configuration has them.
    #[must_use]
    pub fn new(fields: &[(String, Mask)]) -> Self {
        let rules = fields
            .iter()
            .map(|(field, mask)| (field.split('.').map(step).collect(), mask.clone()));
        Self {
            rules: rules.collect(),
        }
    }

    /// The same with more of them: keys as they are, which may hold dots.
    #[must_use]
    pub fn and(&self, more: &[(&'static [&'static str], Mask)]) -> Self {
        let steps = |keys: &[&str]| keys.iter().map(|key| step(key)).collect();
        let more = more.iter().map(|(keys, mask)| (steps(keys), mask.clone()));
        // Of two rules for one field the first counts: what is not the configuration's choice goes before it.
        Self {
            rules: more.chain(self.rules.iter().cloned()).collect(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether each of them fits something that is called by a number, and none goes by a name.
    pub(super) fn are_positions(&self) -> bool {
        let is_number =
            |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
        let is_position = |steps: &[Step]| {
            let mut keys = steps.iter().filter(|step| **step != Step::Deep);
            let is_last = match keys.next() {
                Some(Step::Key(key)) => is_number(key),
                Some(Step::Any | Step::Deep) | None => true,
            };
            is_last && keys.next().is_none()
        };
        self.rules.iter().all(|(steps, _)| is_position(steps))
    }

    /// Where every rule begins.
    pub(super) fn start(&self) -> Reached {
        let mut reached = Vec::new();
        for rule in 0..self.rules.len() {
            self.come(rule, 0, &mut reached);
        }
        Reached(reached.into())
    }

    /// Where rules are behind a key, and the mask of the value there: the first rule of the file counts.
    pub(super) fn step(&self, from: &Reached, key: &str) -> (Reached, Option<&Mask>) {
        self.step_of(from, &[key])
    }

    /// The same behind a key that has several names.
    pub(super) fn step_of(&self, from: &Reached, names: &[&str]) -> (Reached, Option<&Mask>) {
        let names: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
        let mut reached = Vec::new();
        for (rule, at) in from.0.iter() {
            let step = self.rules.get(*rule).and_then(|(steps, _)| steps.get(*at));
            match step {
                Some(Step::Key(wanted)) if names.contains(wanted) => {
                    self.come(*rule, at + 1, &mut reached)
                }
                Some(Step::Any) => self.come(*rule, at + 1, &mut reached),
                Some(Step::Deep) => self.come(*rule, *at, &mut reached),
                Some(Step::Key(_)) | None => {}
            }
        }
        let ended = reached.iter().filter(|(rule, at)| {
            self.rules
                .get(*rule)
                .is_some_and(|(steps, _)| steps.len() == *at)
        });
        let first = ended.map(|(rule, _)| *rule).min();
        let mask = first
            .and_then(|rule| self.rules.get(rule))
            .map(|(_, mask)| mask);
        (Reached(reached.into()), mask)
    }

    fn come(&self, rule: usize, at: usize, reached: &mut Vec<(usize, usize)>) {
        if reached.contains(&(rule, at)) {
            return;
        }
        reached.push((rule, at));
        let steps = self.rules.get(rule).map(|(steps, _)| steps);
        if steps.and_then(|steps| steps.get(at)) == Some(&Step::Deep) {
            self.come(rule, at + 1, reached);
        }
    }
}
