//! Rows and copied data as they come in bulk: counted by their headers, a run of them at once.
//!
//! What is passed here is what [`Ledger::reply`] would pass, message by message. Anything else is left
//! to it.

use super::super::super::wire::backend;
use super::super::entry::Kind;
use super::Ledger;
use crate::session::Gate;

impl<G: Gate> Ledger<G> {
    /// How many bytes at the front are whole messages of data that the first owed reply has; they are
    /// counted as answered.
    pub(in super::super) fn run(&mut self, front: &[u8]) -> usize {
        let Some(tag) = front.first().copied().filter(is_data) else {
            return 0;
        };
        let Some(entry) = self.queue.front_mut() else {
            return 0;
        };
        let is_asked_for = matches!(entry.kind, Kind::Query | Kind::Execute)
            && entry.poison.is_none()
            && !entry.failed
            && !entry.silent
            && self.copying.is_none();
        if !is_asked_for {
            return 0;
        }
        let (mut at, mut messages) = (0_usize, 0_u64);
        while let Some(rest) = front.get(at..).filter(|rest| rest.first() == Some(&tag))
            && let Ok(Some(header)) = backend::header(rest)
            && header.whole() <= rest.len()
        {
            at = at.saturating_add(header.whole());
            messages = messages.saturating_add(1);
        }
        if tag == backend::DATA_ROW {
            entry.rows = entry.rows.saturating_add(messages);
        }
        if let Some(account) = &mut entry.account {
            account.answered(at);
        }
        self.passed(at);
        at
    }
}

fn is_data(tag: &u8) -> bool {
    matches!(*tag, backend::DATA_ROW | backend::COPY_DATA)
}
