//! People's word, as requests go on by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Answer, table};
use crate::policy::{ApprovalId, Approved, Need, Needs};

/// Whether a word was taken back since it was given: the question and all that go on by it see the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct TakenBack(Arc<AtomicBool>);

impl TakenBack {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl PartialEq for TakenBack {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for TakenBack {}

/// People's word for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The question that it answers.
    pub id: ApprovalId,
    pub(super) needs: Vec<Needs>,
    /// Who said so.
    pub answers: Vec<Answer>,
    pub(super) taken_back: TakenBack,
}

impl Word {
    /// Whether somebody has taken it back.
    #[must_use]
    pub fn is_taken_back(&self) -> bool {
        self.taken_back.get()
    }

    /// What was asked for that these people's word meets, each by itself.
    #[must_use]
    pub fn met(&self) -> Needs {
        let alone = self.answers.iter().any(|said| said.yes && said.break_glass);
        let of = |ways: &Needs, waited| -> Needs {
            let meets = |need: &&Need| alone || table::is_enough(need, &self.answers, waited);
            ways.iter().filter(meets).cloned().collect()
        };
        let met = |ways| match of(ways, Duration::ZERO) {
            // Others may have spoken for it after a while.
            none if none.is_empty() => of(ways, Duration::MAX),
            met => met,
        };
        self.needs.iter().flat_map(met).collect()
    }
}

impl Approved for Word {
    fn covers(&self, needs: &Needs) -> bool {
        !self.is_taken_back() && self.needs.contains(needs)
    }
}
