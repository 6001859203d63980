//! Approvals: requests that wait for people, and what people said.
//!
//! Policy says whose word a request takes (`@approve` on a permit) and is asked anew when it is given. A word
//! covers what was shown, once for each time that it was asked for, or, where the permit lets it, the same
//! text with other literals for a while. What is asked a second time while the first waits is one question.
//! Times are boot time, as grants' are.

mod delegation;
mod fatigue;
mod person;
mod question;
mod store;
mod table;
mod ticket;
mod touches;
mod word;

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use uuid::Uuid;

use self::delegation::Delegations;
pub use self::delegation::{Delegation, InPlace, StandIn};
pub use self::person::{Person, known};
pub use self::question::{Question, Value};
use self::store::Store;
use self::table::{Asked, Table};
pub use self::table::{Choice, Found};
pub use self::ticket::{Outcome, Ticket};
pub use self::touches::{Rows, Touches};
use self::word::TakenBack;
pub use self::word::Word;
use crate::clock::BootTime;
use crate::factors::Factor;
use crate::identity::LoggedIn;
use crate::policy::{ApprovalId, Need, Needs};
use crate::state;

/// How long a question stays open at most.
pub const OPEN: Duration = Duration::from_mins(15);
/// How long an answer holds for whoever asks the same again.
pub const HOLDS: Duration = Duration::from_mins(15);

/// What can go wrong with approvals. Each of them refuses.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be opened or written.
    #[error(transparent)]
    State(#[from] state::Error),
    /// There are too many.
    #[error("{0}")]
    Full(&'static str),
    /// This agent has asked too much lately, as this user.
    #[error(
        "this agent has asked people too often: 30 new questions in 10 minutes are the most; try again in {wait} s"
    )]
    Often {
        /// Seconds until it may ask again.
        wait: u64,
    },
    /// The same with other values was denied again and again.
    #[error(
        "the same with other values was denied three times within the hour: nobody is asked about it for {left} s"
    )]
    Closed {
        /// Seconds until people are asked again.
        left: u64,
    },
    /// It cannot be written that they are asked.
    #[error("the question cannot be written to the audit log: {0}")]
    Untold(String),
    /// The question is not open, or not this person's to answer.
    #[error("{0}")]
    Mistaken(String),
}

/// What one person said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who.
    pub by: Person,
    /// Yes or no.
    pub yes: bool,
    /// When.
    pub at: Timestamp,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it stands in place of everybody else's, as an emergency.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// In whose place it was given, where it was not by an own right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<InPlace>,
    /// By what key it was proved, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<Factor>,
}

impl Answer {
    /// Whether it has the proof that is asked for. A no takes none.
    fn is_proved(&self, need: &Need) -> bool {
        !self.yes || !need.second_factor || self.factor.is_some()
    }

    /// By whose right it counts.
    #[must_use]
    pub fn right(&self) -> &Person {
        self.in_place.as_ref().map_or(&self.by, |place| &place.of)
    }

    /// Whether it is one of the same people, by whoever's right: none of them answers twice.
    fn is_by_any_of(&self, other: &Self) -> bool {
        let people = [&self.by, self.right()];
        let others = [&other.by, other.right()];
        people
            .iter()
            .any(|one| others.iter().any(|other| one.is(other)))
    }
}

/// How a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// Nobody, or not everybody, has answered.
    Open,
    /// Enough people said yes.
    Approved {
        /// How many requests it covers still.
        left: u64,
        /// Until when.
        until: BootTime,
        /// Whether it covers the same text with other literals, as often as it is sent.
        shape: bool,
    },
    /// Somebody said no.
    Denied {
        /// Until when the same is not asked again.
        until: BootTime,
    },
    /// It is over.
    Over {
        /// Why.
        why: Over,
    },
}

/// Why a question is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Nobody answered in time, or nobody came back for the answer.
    Expired,
    /// Whoever waited went away.
    Withdrawn,
    /// Every request that it covered was sent.
    Used,
    /// Policy asks for another word now, or a person who said yes may not any more.
    Void,
    /// The yes was taken back, by somebody or with its agent.
    Revoked,
    /// Its scope is no more.
    Scope,
    /// The host was started anew.
    Restarted,
}

/// A question and what has come of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// What was asked.
    #[serde(flatten)]
    pub question: std::sync::Arc<Question>,
    /// How many wait for it now.
    pub waiting: u64,
    /// How often it was asked.
    pub times: u64,
    /// How it stands.
    pub state: State,
    /// What was said.
    pub answers: Vec<Answer>,
    /// What it would touch, once that was looked at. For whoever is to answer, not for whoever asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touches: Option<Touches>,
    /// How many requests those who answered cover at most.
    #[serde(default = "any_number")]
    pub(crate) covers: u64,
    /// Counts its changes.
    #[serde(default)]
    pub(crate) version: u64,
    /// Whether the word of it, which requests go on by, does not count any more.
    #[serde(skip)]
    pub(crate) taken_back: TakenBack,
}

impl Standing {
    /// Whether this person has answered it, by whoever's right.
    #[must_use]
    pub fn is_answered_by(&self, person: &Person) -> bool {
        self.answers.iter().any(|said| said.by.is(person))
    }

    /// Digest of what people are shown of it, in hex: what is asked, and what it would touch.
    #[must_use]
    pub fn shown(&self) -> String {
        let shown = serde_json::to_vec(&(&*self.question, &self.touches));
        let mut digest = Context::new(&SHA256);
        // What cannot be told is shown to nobody, and has a digest that nobody knows before.
        digest.update(&shown.unwrap_or_else(|_| Uuid::now_v7().as_bytes().to_vec()));
        hex::encode(digest.finish())
    }
}

fn any_number() -> u64 {
    u64::MAX
}

/// Whose word it takes, for people: `dba, and 2 of ops or security`.
#[must_use]
pub fn who(needs: &[Needs]) -> String {
    let way = |need: &Need| {
        let groups: Vec<_> = need.groups.iter().map(String::as_str).collect();
        let groups = groups.join(" or ");
        let by = match need.second_factor {
            true => " with a second factor",
            false => "",
        };
        match need.count {
            1 => format!("{groups}{by}"),
            count => format!("{count} of {groups}{by}"),
        }
    };
    let ways = |ways: &Needs| ways.iter().map(way).collect::<Vec<_>>().join(" or ");
    needs.iter().map(ways).collect::<Vec<_>>().join(", and ")
}

/// The open questions and the answers that hold. One for the daemon.
#[derive(Debug)]
pub struct Approvals {
    table: Table,
    delegations: Delegations,
    store: Store,
    /// Held while one answers: an answer counts once it is kept, and is kept as it was weighed.
    answering: tokio::sync::Mutex<()>,
}

impl Approvals {
    /// Opens the questions in `file`; those of this boot that are not over stay open. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let (store, kept) = Store::open(file)?;
        let table = Table::default();
        for standing in kept.standings {
            table.enter(standing);
        }
        Ok(Self {
            table,
            delegations: Delegations::new(kept.delegations),
            store,
            answering: tokio::sync::Mutex::default(),
        })
    }

    /// Forgets what is over and old, or more than is kept.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn prune(&self) -> Result<(), Error> {
        self.store.prune().await
    }

    /// Asks, or finds what was said; a new question is there once `tell` has written it. Whoever asked waits for
    /// an open one with the ticket, from the moment that it is there: with that, or with this dropped, a question
    /// that nobody else waits for ends.
    ///
    /// # Errors
    /// Where there are too many questions, or it cannot be written or kept.
    pub async fn ask(
        &self,
        question: Question,
        now: BootTime,
        tell: impl FnOnce(&Question) -> Result<(), String>,
    ) -> Result<(Found, Option<Ticket<'_>>), Error> {
        let Asked { found, new, news } = self.table.ask(question, now, tell)?;
        let ticket = match (&found, news) {
            (Found::Open { id, .. }, Some(news)) => Some(Ticket::joined(self, *id, news)),
            _ => None,
        };
        if let Some(standing) = new {
            self.store.save(standing).await?;
        }
        Ok((found, ticket))
    }

    /// Uses a word once, kept before this answers; false where it was used up or is over.
    ///
    /// # Errors
    /// Where the use cannot be kept.
    pub async fn take(&self, id: ApprovalId, now: BootTime) -> Result<bool, Error> {
        match self.table.take(id, now) {
            Some(after) => self.store.save(after).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether this person may say that.
    ///
    /// # Errors
    /// Why not.
    pub fn may_answer(
        &self,
        id: ApprovalId,
        answer: &Answer,
        choice: Choice,
        now: BootTime,
    ) -> Result<Standing, Error> {
        self.table.may_answer(id, answer, choice, now)
    }

    /// Takes an answer; those who wait hear of it once it is kept.
    ///
    /// # Errors
    /// Where it is not open any more, or cannot be kept.
    pub async fn answer(
        &self,
        id: ApprovalId,
        answer: Answer,
        choice: Choice,
        now: BootTime,
    ) -> Result<Standing, Error> {
        let _alone = self.answering.lock().await;
        let after = self.table.weigh(id, answer, choice, now)?;
        self.store.save(after.clone()).await?;
        match self.table.commit(after) {
            Ok(after) => Ok(after),
            // It changed while the answer was written, which counts for nothing: that is kept, too.
            Err(now) => {
                if let Some(now) = now {
                    self.store.save(*now).await?;
                }
                let text = "the question is over, or somebody came or went, meanwhile; look again";
                Err(Error::Mistaken(text.to_owned()))
            }
        }
    }

    /// Lets somebody stand in for an approver; kept when this answers.
    ///
    /// # Errors
    /// Where there are too many, or it cannot be kept.
    pub async fn delegate(&self, delegation: Delegation) -> Result<(), Error> {
        self.delegations
            .room(&delegation.by, crate::clock::boot())?;
        self.store.delegated(delegation.clone()).await?;
        self.delegations.enter(delegation);
        Ok(())
    }

    /// Takes a delegation back at once; kept when this answers.
    ///
    /// # Errors
    /// Where it cannot be kept: it is over all the same, but may live again after a restart.
    pub async fn undelegate(&self, id: Uuid) -> Result<bool, Error> {
        let was_live = self.delegations.take(id).is_some();
        self.store.undelegated(id).await?;
        Ok(was_live)
    }

    /// Takes what an issuer says of somebody at a new login for the delegations by that one; kept when this answers.
    ///
    /// # Errors
    /// Where it cannot be kept: it counts all the same, but may be as before after a restart.
    pub async fn renew(&self, login: &LoggedIn) -> Result<(), Error> {
        for changed in self.delegations.renew(login) {
            self.store.renewed(Delegation::clone(&changed)).await?;
        }
        Ok(())
    }

    /// Who stands in for whom now.
    #[must_use]
    pub fn delegations(&self, now: BootTime) -> Vec<std::sync::Arc<Delegation>> {
        self.delegations.live(now)
    }

    /// What an open question's request would touch. It is kept with the answers.
    pub fn touches(&self, id: ApprovalId, touches: Touches) {
        self.table.touches(id, touches);
    }

    /// Takes a yes back; what goes on by it has no word any more. How it stands then, which is to be kept; `None`
    /// where there is no yes.
    #[must_use]
    pub fn take_back(&self, id: ApprovalId) -> Option<Standing> {
        self.table.take_back(id)
    }

    /// Takes back what people said yes to of an agent, and ends what it asks; what is to be kept. A no stays.
    #[must_use]
    pub fn end_agent(&self, agent: &str) -> Vec<Standing> {
        self.table.end_agent(agent)
    }

    /// Ends a question whose answer does not stand any more.
    pub fn void(&self, id: ApprovalId) {
        self.table.end(id, Over::Void);
    }

    /// The scopes that asked something which ends with them.
    #[must_use]
    pub fn scopes(&self) -> std::collections::BTreeSet<u64> {
        self.table.scopes()
    }

    /// Ends the questions of a scope, and the yeses that it was given.
    pub fn end_scope(&self, scope: u64) {
        self.table.end_scope(scope);
    }

    /// One by its name; `None` where none is kept in mind.
    #[must_use]
    pub fn get(&self, id: ApprovalId) -> Option<Standing> {
        self.table.get(id)
    }

    /// How one stands, or ended a moment ago.
    #[must_use]
    pub fn last_of(&self, id: ApprovalId) -> Option<Standing> {
        self.table.last_of(id)
    }

    /// All that are kept in mind, of one scope or of all.
    #[must_use]
    pub fn all(&self, scope: Option<u64>) -> Vec<Standing> {
        self.table.all(scope)
    }

    /// What the same agent asked before in the same shape, the last first, at most `most`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn before(&self, of: &Question, most: usize) -> Result<Vec<Standing>, Error> {
        self.store.before(of, most).await
    }

    /// How many wait for people.
    #[must_use]
    pub fn open_now(&self) -> usize {
        self.table.open_now()
    }

    /// Ends what is due; gives what has ended since the last time, and when the next is due.
    #[must_use]
    pub fn ended(&self, now: BootTime) -> (Vec<Standing>, Option<BootTime>) {
        self.table.ended(now)
    }

    /// The open questions that more people may answer since the last time, and when the next ones may.
    #[must_use]
    pub fn escalated(&self, now: BootTime) -> (Vec<std::sync::Arc<Question>>, Option<BootTime>) {
        self.table.escalated(now)
    }

    /// Keeps how a question stands.
    ///
    /// # Errors
    /// Where it cannot be kept.
    pub async fn keep(&self, standing: Standing) -> Result<(), Error> {
        self.store.save(standing).await
    }

    /// Counts what was asked, answered or has ended; for whoever shows it.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.table.changes()
    }

    /// Resolves when something was asked or has ended.
    pub async fn changed(&self) {
        self.table.changed().await;
    }
}

#[cfg(test)]
mod tests;
