//! A write whose rows a grant counts: where the client has opened no transaction it runs in one of ours.
//!
//! It is held against what the grant has left before anything is committed, and so it goes alone: what else
//! runs in the same batch would be committed, or taken along, with it.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::Why;
use super::super::entry::{Kind, Statement};
use super::super::ledger::Standing;
use super::Requests;
use crate::session::{Allowance, Gate};

/// Where a statement runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    /// Where the client has it run.
    Not,
    /// In a transaction block of ours, which has begun.
    Ours,
    /// Nowhere: the block did not begin, and the client has heard why.
    Failed,
    /// Nowhere: others run in its batch.
    Mixed,
}

impl<R, W, G> Requests<'_, R, W, G>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    G: Gate,
{
    /// Begins a block where a statement needs one.
    pub(super) async fn apart(
        &mut self,
        kind: Kind,
        statement: &Statement,
        allowance: Option<Allowance>,
    ) -> Result<Apart, Why> {
        let is_counted = allowance.is_some_and(|allowance| allowance.rows.is_some());
        if !is_counted || !statement.tells_rows() || self.is_in_transaction().await? {
            return Ok(Apart::Not);
        }
        let simple = kind == Kind::Query;
        // What is owed for others is no part of the block.
        self.wait(|ledger| ledger.is_settled()).await?;
        if self.shared.ledger().standing() == Standing::Skipping {
            // One before it failed, and the server reads none of this.
            return Ok(Apart::Not);
        }
        let Some(begin) = self.begun(simple) else {
            return Ok(Apart::Mixed);
        };
        begin.into_iter().for_each(|message| self.pipe.put(message));
        self.wait(|ledger| ledger.has_begun().is_some()).await?;
        let has_begun = self.shared.ledger().has_begun() == Some(true);
        Ok(match has_begun {
            true => Apart::Ours,
            false => Apart::Failed,
        })
    }

    /// What begins a block; `None` where others run in the same batch.
    fn begun(&self, simple: bool) -> Option<Vec<Bytes>> {
        let mut ledger = self.shared.ledger();
        (!ledger.has_run()).then(|| ledger.begin_own(simple))
    }

    /// Whether the client has opened a transaction.
    async fn is_in_transaction(&mut self) -> Result<bool, Why> {
        loop {
            let scope = self
                .shared
                .ledger()
                .scope()
                .map(|scope| scope.in_transaction());
            match scope {
                Ok(in_transaction) => return Ok(in_transaction),
                Err(until) => self.wait_for(until).await?,
            }
        }
    }
}
