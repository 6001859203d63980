//! One question in the table, and each step that changes it alone.

use tokio::sync::watch;

use super::super::{Answer, Over, Question, Standing, State, Word};
use crate::clock::BootTime;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) standing: Standing,
    /// How many groups it was told of that may answer after a while.
    pub(super) escalated: usize,
    pub(super) news: watch::Sender<u64>,
}

impl Entry {
    pub(super) fn new(standing: Standing) -> Self {
        Self {
            standing,
            escalated: 0,
            news: watch::Sender::new(0),
        }
    }

    pub(super) fn question(&self) -> &Question {
        &self.standing.question
    }

    pub(super) fn set(&mut self, state: State) {
        self.standing.state = state;
        self.standing.version = self.standing.version.saturating_add(1);
    }

    /// One more waits.
    pub(super) fn join(&mut self) -> watch::Receiver<u64> {
        self.standing.waiting = self.standing.waiting.saturating_add(1);
        self.news.subscribe()
    }

    pub(super) fn word(&self) -> Word {
        Word {
            id: self.question().id,
            needs: self.question().needs.clone(),
            answers: self.standing.answers.clone(),
            taken_back: self.standing.taken_back.clone(),
        }
    }

    pub(super) fn is_open(&self, now: BootTime) -> bool {
        self.standing.state == State::Open && now < self.question().until
    }

    /// Whether it means nothing without its scope. A no does: it is for the next one of the same agent as well.
    pub(super) fn ends_with_scope(&self) -> bool {
        !matches!(
            self.standing.state,
            State::Denied { .. } | State::Over { .. }
        )
    }

    /// Until when its state stands by itself.
    pub(super) fn until(&self) -> BootTime {
        match self.standing.state {
            State::Open => self.question().until,
            State::Approved { until, .. } | State::Denied { until } => until,
            State::Over { .. } => BootTime(0),
        }
    }

    /// The answer, where it holds and is not used up.
    pub(super) fn said(&self, now: BootTime) -> Option<Word> {
        match self.standing.state {
            State::Approved { until, left, shape } if now < until && (shape || left > 0) => {
                Some(self.word())
            }
            _ => None,
        }
    }

    /// Who said no, where that holds.
    pub(super) fn denied(&self, now: BootTime) -> Option<Answer> {
        match self.standing.state {
            State::Denied { until } if now < until => {
                let said = self.standing.answers.iter().rev();
                said.into_iter().find(|said| !said.yes).cloned()
            }
            _ => None,
        }
    }

    /// Wakes those who wait.
    pub(super) fn tell(&self) {
        self.news
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes a yes back, be it used up.
    pub(super) fn take_back(&mut self) -> Option<Standing> {
        match self.standing.state {
            State::Approved { .. } => self.set(State::Over { why: Over::Revoked }),
            State::Over { why: Over::Used } => {}
            State::Open | State::Denied { .. } | State::Over { .. } => return None,
        }
        self.standing.taken_back.set();
        self.tell();
        Some(self.standing.clone())
    }

    /// Uses the answer once.
    pub(super) fn take(&mut self, now: BootTime) -> bool {
        match self.standing.state {
            State::Approved { until, .. } if until <= now => false,
            State::Approved { shape: true, .. } => true,
            State::Approved {
                left: left @ 1..,
                until,
                shape,
            } => {
                self.set(match left.saturating_sub(1) {
                    0 => State::Over { why: Over::Used },
                    left => State::Approved { left, until, shape },
                });
                true
            }
            _ => false,
        }
    }
}
