//! What policy leaves to grants: a permit with `@grant` permits nothing by itself, but says what may be
//! granted for a while, and for how long at most.
//!
//! Cedar is asked first, as for everything else; so a forbid wins over any grant, the conditions of the
//! permit hold for each request, and a permit that a reload takes away takes its grants along. Grants
//! themselves are kept elsewhere: here is only what they are asked.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::approval::{Approved, Need, Needs};
use super::limits;
use crate::clock::{self, BootTime};
use crate::policy::{Access, Action, Ask, Generation, Limits, Permit, Refusal, Resource, RuleId};

/// Names one grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(pub Uuid);

/// Where a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The target's name.
    pub target: &'a str,
    /// The database; empty for `Connect`, which knows none.
    pub database: &'a str,
}

/// How much of something may be had by a grant; absent: any amount.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Budget {
    /// How many requests it covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
    /// How many rows their answers may have, and writes may touch, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many bytes those rows may have, as they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Budget {
    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether answers are counted.
    #[must_use]
    pub fn counts_answers(&self) -> bool {
        self.rows.is_some() || self.bytes.is_some()
    }

    /// Whether it gives no more of anything than `most`.
    #[must_use]
    pub fn is_within(&self, most: &Self) -> bool {
        let within = |is: Option<u64>, most: Option<u64>| {
            most.is_none_or(|most| is.is_some_and(|is| is <= most))
        };
        within(self.uses, most.uses)
            && within(self.rows, most.rows)
            && within(self.bytes, most.bytes)
    }
}

/// What may be granted by one permit, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Terms {
    /// For how long.
    pub longest: Duration,
    /// How much.
    #[serde(flatten)]
    pub most: Budget,
}

impl Terms {
    /// Whether a grant of this time and budget is within them.
    #[must_use]
    pub fn admit(&self, time: Duration, budget: &Budget) -> bool {
        time <= self.longest && budget.is_within(&self.most)
    }

    /// What a rule's annotations say; those that say nothing are mistakes of their own.
    pub(in crate::policy) fn of(annotation: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let longest = clock::duration(&annotation(ANNOTATION)?).ok()?;
        let most = |name: &str| limits::parse(name, &annotation(name)?).ok();
        let [uses, rows, bytes] = COMPANIONS.map(most);
        Some(Self {
            longest,
            most: Budget { uses, rows, bytes },
        })
    }
}

/// What one permit leaves to grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// At most this.
    pub terms: Terms,
    /// Once this has been said; at once where there is none.
    pub need: Option<Need>,
    /// Whether to a whole scope as well, where a process tree is what it is given to otherwise.
    pub scope: bool,
}

/// What a grant was issued as, or is asked for as.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    /// For how long.
    pub time: Duration,
    /// How much.
    pub budget: &'a Budget,
    /// On whose word.
    pub word: &'a Needs,
    /// Whether to a process tree, not to the whole of a scope.
    pub tree: bool,
}

impl Offer {
    /// Whether it goes so far, whoever says so.
    fn goes_to(&self, time: Duration, budget: &Budget, tree: bool) -> bool {
        self.terms.admit(time, budget) && (tree || self.scope)
    }
}

/// Whose word it takes to have a grant of this time and budget that covers what is done in each of the
/// contexts that `offers` are for: of each, one way. `None` where no offer goes so far; `tree` says whether it is
/// for a process tree.
#[must_use]
pub fn needed(
    offers: &[Arc<[Offer]>],
    (time, budget): (Duration, &Budget),
    tree: bool,
) -> Option<Vec<Needs>> {
    let (mut goes_so_far, mut all) = (false, Vec::new());
    for offers in offers {
        let admits = |offer: &&Offer| offer.goes_to(time, budget, tree);
        let mut admitting = offers.iter().filter(admits).peekable();
        goes_so_far |= admitting.peek().is_some();
        // One that asks nobody is enough. Where none admits it, the grant covers nothing.
        let needs = admitting.map(|offer| offer.need.clone());
        let needs = needs.collect::<Option<Needs>>().unwrap_or_default();
        if !needs.is_empty() && !all.contains(&needs) {
            all.push(needs);
        }
    }
    goes_so_far.then_some(all)
}

/// The annotation that leaves a permit to grants.
pub(in crate::policy) const ANNOTATION: &str = "grant";
/// What bounds those grants, in the order of [`Budget`]'s fields.
pub(in crate::policy) const COMPANIONS: [&str; 3] = ["grant_uses", "grant_rows", "grant_bytes"];

/// What lets those grants be of a whole scope.
pub(in crate::policy) const SCOPE: &str = "grant_scope";

/// Where it shows how much is taken of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// In the answer: its rows, and their bytes.
    InAnswer,
    /// At the end of a write, which says how many rows it touched.
    AtEnd,
    /// Nowhere.
    Nowhere,
}

impl Counted {
    /// Whether all that a budget counts of rows and bytes is counted there.
    fn counts(self, budget: &Budget) -> bool {
        match self {
            Self::InAnswer => true,
            Self::AtEnd => budget.bytes.is_none(),
            Self::Nowhere => !budget.counts_answers(),
        }
    }

    /// Where an access of a statement is counted.
    pub(in crate::policy) fn of(ask: &Ask, access: &Access) -> Self {
        // What it reads of the rows that it touches. Of other tables nobody counts what is put elsewhere.
        let reads_what_it_writes =
            || access.action == Action::Select && writes_to(ask, &access.resource);
        if answers(ask) {
            Self::InAnswer
        } else if ask.context.tells_rows && (is_written(access.action) || reads_what_it_writes()) {
            Self::AtEnd
        } else {
            Self::Nowhere
        }
    }
}

/// Whether a statement writes to this.
fn writes_to(ask: &Ask, resource: &Resource) -> bool {
    let mut accesses = ask.accesses.iter();
    accesses.any(|access| is_written(access.action) && access.resource == *resource)
}

/// What a grant is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// Where.
    pub place: Place<'a>,
    /// What.
    pub access: &'a Access,
    /// What of it may be granted: the grant must be within one of them, and have the word that it takes.
    pub offers: &'a [Offer],
    /// Where it is counted. Only a grant covers it that counts no more than that.
    pub counted: Counted,
}

impl Want<'_> {
    /// Whether a grant is one for it. One that nobody was asked about does not stand in for somebody's word,
    /// however much it lies around.
    #[must_use]
    pub fn admits(&self, grant: &Issued<'_>) -> bool {
        let Issued {
            time,
            budget,
            word,
            tree,
        } = *grant;
        let admits = |offer: &Offer| {
            let has_word = |need: &Need| word.iter().any(|met| need.is_met_by(met));
            offer.goes_to(time, budget, tree) && offer.need.as_ref().is_none_or(has_word)
        };
        self.counted.counts(budget) && self.offers.iter().any(admits)
    }
}

/// A grant that covers what was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covering {
    /// Which.
    pub grant: GrantId,
    /// When its time is over.
    pub until: BootTime,
}

/// The grants of whoever asks.
pub trait Held {
    /// A grant that covers this now.
    fn cover(&self, want: &Want<'_>) -> Option<Covering>;
}

/// Holds no grants.
#[derive(Clone, Copy, Debug)]
pub struct NoGrants;

impl Held for NoGrants {
    fn cover(&self, _want: &Want<'_>) -> Option<Covering> {
        None
    }
}

/// An access that policy permits only with a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Wanted {
    pub(in crate::policy) access: Access,
    /// What of it may be granted, each with whose word it takes first; nothing where it is left to people alone.
    pub(in crate::policy) offers: Arc<[Offer]>,
    /// Where it is counted.
    pub(in crate::policy) counted: Counted,
    /// Whose word does in place of a grant.
    pub(in crate::policy) needs: Needs,
    /// What the caller is told where it has neither.
    pub(in crate::policy) refusal: Arc<Refusal>,
}

impl Wanted {
    /// The grant that covers it.
    fn covered(&self, place: Place<'_>, held: &dyn Held) -> Result<GrantId, Refusal> {
        let want = Want {
            place,
            access: &self.access,
            offers: &self.offers,
            counted: self.counted,
        };
        if let Some(covering) = held.cover(&want) {
            return Ok(covering.grant);
        }
        let counts = Want {
            counted: Counted::InAnswer,
            ..want
        };
        Err(
            match self.counted != Counted::InAnswer && held.cover(&counts).is_some() {
                true => Refusal::not_counted(),
                false => Refusal::clone(&self.refusal),
            },
        )
    }
}

/// Whether all that a statement reads comes in its answer, where it can be counted: nothing of it is put
/// elsewhere, and nothing is done that has no answer.
fn answers(ask: &Ask) -> bool {
    let goes_along = |action| {
        matches!(
            action,
            Action::Transaction | Action::Set | Action::Notify | Action::Lock
        )
    };
    ask.accesses
        .iter()
        .all(|access| is_answered(access.action) || goes_along(access.action))
}

/// Whether what an action reads comes in its answer.
#[must_use]
pub fn is_answered(action: Action) -> bool {
    matches!(
        action,
        Action::Select | Action::CopyOut | Action::Explain | Action::Show | Action::Call
    )
}

/// Whether what an action touches is told at its end, where it is the only one of its request.
#[must_use]
pub fn is_written(action: Action) -> bool {
    matches!(
        action,
        Action::Insert | Action::Update | Action::Delete | Action::Merge | Action::CopyIn
    )
}

/// What the rules alone say of a request that they do not refuse.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Decided {
    pub(in crate::policy) rules: Arc<[RuleId]>,
    pub(in crate::policy) wanted: Arc<[Wanted]>,
    pub(in crate::policy) limits: Option<Arc<Limits>>,
    pub(in crate::policy) generation: Generation,
}

impl Decided {
    /// A permit, where grants and people's word cover all that wants one.
    pub(in crate::policy) fn settle(
        self,
        place: Place<'_>,
        held: &dyn Held,
        approved: &dyn Approved,
    ) -> Result<Permit, Refusal> {
        let mut grants = Vec::new();
        for wanted in self.wanted.iter() {
            match wanted.covered(place, held) {
                Ok(grant) if grants.contains(&grant) => {}
                Ok(grant) => grants.push(grant),
                Err(_) if !wanted.needs.is_empty() && approved.covers(&wanted.needs) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Permit {
            rules: self.rules,
            grants: grants.into(),
            generation: self.generation,
            limits: self.limits,
        })
    }

    /// Whose word is missing, beside the grants that are held.
    pub(in crate::policy) fn needs(&self, place: Place<'_>, held: &dyn Held) -> Vec<Needs> {
        let mut all = Vec::new();
        for wanted in self.wanted.iter() {
            if wanted.covered(place, held).is_err() && !all.contains(&wanted.needs) {
                all.push(wanted.needs.clone());
            }
        }
        // Where a grant alone would do, nobody's word helps.
        match all.iter().any(Needs::is_empty) {
            true => Vec::new(),
            false => all,
        }
    }
}

/// What the rules say of granting one action on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantable {
    /// It may be granted.
    For {
        /// In each context that it may come in, within one of these.
        offers: Vec<Arc<[Offer]>>,
        /// By these permits.
        rules: Arc<[RuleId]>,
    },
    /// It is permitted already.
    Permitted,
}

/// What to type, or to send, so that what is missing is asked for.
pub(in crate::policy) fn asked(place: Place<'_>, access: &Access, terms: &Terms) -> String {
    format!(
        "ask for one: {}\nor send the form: {}",
        command(place, access, terms),
        form(place, access, terms)
    )
}

/// The database, where one is named: a connection is to the target as a whole.
fn database<'a>(place: Place<'a>, access: &Access) -> Option<&'a str> {
    let is_named = !place.database.is_empty() && access.action != Action::Connect;
    is_named.then_some(place.database)
}

/// The command that asks for what is missing.
fn command(place: Place<'_>, access: &Access, terms: &Terms) -> String {
    let mut words = vec![
        "interceptor request --target".to_owned(),
        quoted(place.target),
    ];
    words.extend(database(place, access).map(|name| format!("--database {}", quoted(name))));
    words.push(format!("--action {}", access.action.name()));
    let name = access.resource.name();
    words.extend(name.map(|(kind, name)| format!("--{kind} {}", quoted(&name))));
    words.push(format!("--for {}", shown(terms.longest)));
    let Budget { uses, rows, bytes } = terms.most;
    let budgets = [("uses", uses), ("rows", rows), ("bytes", bytes)];
    words.extend(
        budgets
            .into_iter()
            .filter_map(|(name, most)| Some(format!("--{name} {}", most?))),
    );
    words.push("--reason WHY".to_owned());
    words.join(" ")
}

/// The same for programs, as `request.json` describes it.
fn form(place: Place<'_>, access: &Access, terms: &Terms) -> serde_json::Value {
    let mut form = serde_json::json!({
        "target": place.target,
        "actions": [access.action],
        "resource": access.resource,
        "for": shown(terms.longest),
        "reason": "WHY",
    });
    if let Some(form) = form.as_object_mut() {
        let database = database(place, access);
        form.extend(database.map(|name| ("database".to_owned(), name.into())));
        let Budget { uses, rows, bytes } = terms.most;
        let budgets = [("uses", uses), ("rows", rows), ("bytes", bytes)];
        let said = |(name, most): (&str, Option<u64>)| Some((name.to_owned(), most?.into()));
        form.extend(budgets.into_iter().filter_map(said));
    }
    form
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A duration in the one unit that divides it.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        _ if seconds > 0 && seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds > 0 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests;
