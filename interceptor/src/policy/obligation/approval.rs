//! What policy leaves to people: a permit with `@approve` permits nothing by itself, but says whose word a
//! request waits for.
//!
//! Cedar is asked first, as for everything else; so a forbid wins over any approval. Who was asked, and what
//! was answered, is kept elsewhere: here is only what they are asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock;
use crate::config::is_name;
use crate::policy::RuleId;

/// The annotations that belong to `@approve`; none means anything without it.
pub(in crate::policy) const COMPANIONS: [&str; 5] = [
    "approvers",
    "escalate",
    "escalate_after",
    "shape",
    "second_factor",
];
/// The one kind of second factor that there is.
const FACTOR: &str = "webauthn";
/// Most people that one rule may ask for.
const PEOPLE: u32 = 16;
/// Longest name of a group (`LOGIN_NAME_MAX`, limits.h, without its NUL).
const GROUP: usize = 255;
/// The longest time that an approval may cover requests nobody was shown.
const LONGEST_SHAPE: Duration = Duration::from_hours(24);

/// Names one question to people, and the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApprovalId(pub Uuid);

/// Whose word one permit asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Need {
    /// The permit.
    pub rule: RuleId,
    /// People of any of these groups: of the host, or `NAME:GROUP` of an issuer.
    pub groups: BTreeSet<String>,
    /// So many different ones.
    pub count: u32,
    /// Who may answer as well, where nobody has for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub later: Option<Later>,
    /// For how long at most, in seconds, an answer may cover other literals in the same text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<u64>,
    /// Whether a yes counts only with a proof by a key of whoever says it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second_factor: bool,
}

/// Who may answer after a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Later {
    /// People of any of these groups too.
    pub groups: BTreeSet<String>,
    /// After so many seconds.
    pub after: u64,
}

/// Ways to be approved: one of them is enough.
pub type Needs = BTreeSet<Need>;

/// The word of people on one request.
pub trait Approved {
    /// Whether it was given for this.
    fn covers(&self, needs: &Needs) -> bool;
}

/// Nobody's word.
#[derive(Clone, Copy, Debug)]
pub struct NotApproved;

impl Approved for NotApproved {
    fn covers(&self, _needs: &Needs) -> bool {
        false
    }
}

/// For what is only planned now: people are asked when it is run.
#[derive(Clone, Copy, Debug)]
pub struct AskedWhenRun;

impl Approved for AskedWhenRun {
    fn covers(&self, _needs: &Needs) -> bool {
        true
    }
}

impl Need {
    /// What a rule's annotations say; those that say nothing are mistakes of their own.
    pub(in crate::policy) fn of(
        rule: &RuleId,
        annotation: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let groups = groups(&annotation("approve")?)?;
        let after = annotation("escalate_after").and_then(|text| clock::duration(&text).ok());
        let later = annotation("escalate").and_then(|text| {
            let (groups, after) = (self::groups(&text)?, after?.as_secs());
            Some(Later { groups, after })
        });
        let shape = annotation("shape").and_then(|text| clock::duration(&text).ok());
        Some(Self {
            rule: rule.clone(),
            groups,
            count: annotation("approvers")
                .and_then(|text| text.parse().ok())
                .unwrap_or(1),
            later,
            shape: shape.map(|shape| shape.as_secs()),
            second_factor: annotation("second_factor").is_some(),
        })
    }

    /// Whether who spoke for `met` would do for this, too, whatever rule asked for it: as many, each of whom
    /// may speak here, as soon, with as much proof.
    #[must_use]
    pub fn is_met_by(&self, met: &Self) -> bool {
        let may = |group, waited| self.groups_after(waited).any(|own| own == group);
        let is_met_later = met.later.iter().all(|later| {
            let waited = Duration::from_secs(later.after);
            later.groups.iter().all(|group| may(group, waited))
        });
        met.groups.is_subset(&self.groups)
            && is_met_later
            && met.count >= self.count
            && met.second_factor >= self.second_factor
    }

    /// The groups that may answer once `waited` has passed.
    pub fn groups_after(&self, waited: Duration) -> impl Iterator<Item = &String> {
        let later = self
            .later
            .iter()
            .filter(move |later| waited.as_secs() >= later.after);
        self.groups
            .iter()
            .chain(later.flat_map(|later| &later.groups))
    }
}

/// Names of groups, parted by commas.
fn groups(text: &str) -> Option<BTreeSet<String>> {
    let groups: BTreeSet<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let good = |name: &String| {
        let (by, group) = match name.split_once(':') {
            Some((by, group)) => (Some(by), group),
            None => (None, name.as_str()),
        };
        by.is_none_or(is_name)
            && (1..=GROUP).contains(&group.len())
            && !group
                .chars()
                .any(|c| c.is_control() || c.is_whitespace() || (by.is_none() && c == ':'))
    };
    groups.iter().all(good).then_some(groups)
}

/// What is wrong with an annotation's value.
///
/// # Errors
/// What it takes.
pub(in crate::policy) fn check(name: &str, value: &str) -> Result<(), String> {
    let seconds = || {
        clock::duration(value)
            .ok()
            .filter(|time| time.as_secs() > 0)
    };
    let (good, takes) = match name {
        "approvers" => (
            value
                .parse()
                .is_ok_and(|count: u32| (1..=PEOPLE).contains(&count)),
            format!("how many different people must say yes, from 1 to {PEOPLE}"),
        ),
        "escalate_after" => (
            seconds().is_some(),
            "after how long others may answer too, such as 2m".to_owned(),
        ),
        "second_factor" => (value == FACTOR, format!("the kind of factor: {FACTOR}")),
        "shape" => (
            seconds().is_some_and(|time| time <= LONGEST_SHAPE),
            "for how long an answer may cover other literals, such as 10m, of at most 24h"
                .to_owned(),
        ),
        _ => (
            groups(value).is_some(),
            "groups, parted by commas: \"dba\" or \"dba, ops\" of this host, \"staff:dba\" of the issuer that is named staff".to_owned(),
        ),
    };
    match good {
        true => Ok(()),
        false => Err(format!("@{name} takes {takes}")),
    }
}

#[cfg(test)]
mod tests;
