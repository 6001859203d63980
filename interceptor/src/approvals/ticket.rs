//! Waiting for an answer: counted as long as somebody does.

use tokio::sync::watch;

use super::{Answer, Approvals, Over, State, Word};
use crate::clock;
use crate::policy::ApprovalId;

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Enough people said yes; its use is still to be taken.
    Approved(Word),
    /// Somebody said no.
    Denied(Box<Answer>),
    /// There is no such question any more.
    Over(Option<Over>),
}

/// One who waits. Dropped, it is one less; the last one's going ends the question, unless it is kept open for
/// whoever comes back.
#[derive(Debug)]
pub struct Ticket<'a> {
    approvals: &'a Approvals,
    id: ApprovalId,
    news: Option<watch::Receiver<u64>>,
    stays: bool,
}

impl<'a> Ticket<'a> {
    /// Of one who is counted already.
    pub(super) fn joined(
        approvals: &'a Approvals,
        id: ApprovalId,
        news: watch::Receiver<u64>,
    ) -> Self {
        Self {
            approvals,
            id,
            news: Some(news),
            stays: false,
        }
    }

    /// The question.
    #[must_use]
    pub fn id(&self) -> ApprovalId {
        self.id
    }

    /// Waits for the answer. Cancelling is safe.
    pub async fn answered(&mut self) -> Outcome {
        loop {
            if let Some(outcome) = self.look() {
                return outcome;
            }
            let Some(news) = &mut self.news else {
                return Outcome::Over(None);
            };
            // The sender lives in the table as long as the question does.
            if news.changed().await.is_err() {
                self.news = None;
            }
        }
    }

    /// Waits no longer; the question stays open for whoever comes back.
    pub fn leave(mut self) {
        self.stays = true;
    }

    /// The last look of one who waits no longer: what was said until now counts, and later answers are kept.
    #[must_use]
    pub fn last_look(&mut self) -> Option<Outcome> {
        self.stays = true;
        self.look()
    }

    fn look(&self) -> Option<Outcome> {
        let Some(standing) = self.approvals.table.get(self.id) else {
            return Some(Outcome::Over(None));
        };
        match standing.state {
            State::Open => None,
            State::Approved { .. } => {
                Some(match self.approvals.table.said(self.id, clock::boot()) {
                    Some(word) => Outcome::Approved(word),
                    None => Outcome::Over(Some(Over::Used)),
                })
            }
            State::Denied { .. } => {
                let said = standing.answers.into_iter().rev().find(|said| !said.yes);
                let denied = |said| Outcome::Denied(Box::new(said));
                Some(said.map_or(Outcome::Over(None), denied))
            }
            State::Over { why } => Some(Outcome::Over(Some(why))),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.news.is_some() {
            let changed = self.approvals.table.leave(self.id, self.stays);
            if let Some(changed) = changed
                && !self.approvals.store.save_later(changed)
            {
                tracing::warn!(id = %self.id.0, "less waits for an approval than a restart would find");
            }
        }
    }
}
