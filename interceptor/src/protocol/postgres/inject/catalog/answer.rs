//! One question to a server and its whole answer, row by row: what a database looks like, and what an
//! operator asks of it. How much may come is bounded, and what was begun for it is rolled back.

use super::super::error::Denied;
use super::super::peer::Peer;
use super::{Error, wrong};
use crate::protocol::postgres::wire::Tag;
use crate::protocol::postgres::wire::backend::{
    COMMAND_COMPLETE, DATA_ROW, READY, ROW_DESCRIPTION, Status, ready,
};
use crate::protocol::postgres::wire::error::{ERROR, NOTICE};
use crate::protocol::postgres::wire::frontend::make_query;
use crate::protocol::postgres::wire::startup::PARAMETER_STATUS;

/// How much of an answer is taken.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Rows of all results together.
    pub(super) rows: usize,
    /// What these are, for who is told that there are more.
    pub(super) what: &'static str,
    /// Bytes of a message, by its tag; `None` for one that must not come.
    pub(super) body: fn(u8) -> Option<usize>,
}

/// How an answer ended.
pub(super) enum Ended {
    /// Whole, with so many results.
    Whole(u8),
    /// The server refused, and no transaction was open.
    Refused(Denied),
    /// The server refused inside of the transaction, which is rolled back.
    RolledBack(Denied),
}

/// Asks; `take` is given each row, with the number of its result, from 1.
pub(super) async fn ask(
    peer: &mut Peer,
    question: &str,
    bounds: Bounds,
    mut take: impl FnMut(u8, &[u8]) -> Result<(), Error>,
) -> Result<Ended, Error> {
    peer.send(&make_query(question)).await?;
    let mut denied: Option<Denied> = None;
    let (mut results, mut rows) = (0_u8, 0_usize);
    loop {
        let (tag, body) = peer.next(bounds.body).await?;
        match tag {
            ROW_DESCRIPTION => results = results.saturating_add(1),
            DATA_ROW => {
                rows = rows.saturating_add(1);
                if rows > bounds.rows {
                    return Err(Error::TooMany {
                        what: bounds.what,
                        most: bounds.rows,
                    });
                }
                take(results, &body)?;
            }
            COMMAND_COMPLETE | NOTICE | PARAMETER_STATUS => {}
            ERROR if denied.is_none() => denied = Some(Denied::read(&body)?),
            READY => {
                return match (ready(&body)?, denied) {
                    (Status::Idle, None) => Ok(Ended::Whole(results)),
                    (Status::Idle, Some(error)) => Ok(Ended::Refused(error)),
                    (Status::Failed, Some(error)) => {
                        roll_back(peer, bounds).await?;
                        Ok(Ended::RolledBack(error))
                    }
                    (Status::Failed, None) | (Status::Open, _) => {
                        Err(wrong("the answer is not whole"))
                    }
                };
            }
            tag => return Err(Error::Order { message: Tag(tag) }),
        }
    }
}

async fn roll_back(peer: &mut Peer, bounds: Bounds) -> Result<(), Error> {
    peer.send(&make_query("ROLLBACK")).await?;
    loop {
        let (tag, body) = peer.next(bounds.body).await?;
        match tag {
            COMMAND_COMPLETE | NOTICE | PARAMETER_STATUS => {}
            READY if ready(&body)? == Status::Idle => return Ok(()),
            tag => return Err(Error::Order { message: Tag(tag) }),
        }
    }
}
