//! Ledger: the replies that the server owes, in order, and what it will know once it has given them.
//!
//! Both directions meet here, and only here: requests add entries, replies take them away. Pure
//! bookkeeping, no I/O: it says what a message may be, never what a text may do. Replies that do not
//! fit what is owed end the session.

mod data;
mod guard;
mod limit;
mod net;
mod own;
mod replies;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

pub(super) use self::guard::Guard;
use self::guard::Lookout;
use self::limit::Measure;
pub(super) use self::limit::{Limited, Room};
pub(super) use self::net::Look;
use self::net::Net;
pub(super) use self::own::Part;
use self::own::{Due, Own};
pub(super) use self::replies::Reply;
pub use self::replies::Unexpected;
use super::super::facts::{Effect, Prepared};
use super::super::mask::{Changes, Masking, Watch};
use super::super::wire::backend::{self, Status};
use super::account::Finished;
use super::entry::{Change, Entry, Kind, Made, Statement};
use super::scope::{Path, Scope};
use super::table::{Found, Table};
use crate::session::Gate;

/// The most replies that may be owed. A server keeps at most 8 KiB of replies back (`pqcomm.c`), which
/// is fewer, so a full queue always drains.
const OWED_MAX: usize = 8_192;
/// How many places are kept once nothing is owed any more.
const KEPT: usize = 16;
/// The most bytes that owed replies may keep alive.
const WEIGHT_MAX: usize = 4 << 20;

/// What becomes of the client's next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is judged and forwarded.
    Open,
    /// The server skips to the next `Sync`, and so do we.
    Skipping,
    /// The server reads the data of a `COPY`.
    Copying,
    /// The server reads data, and sends data at the same time.
    Streaming,
    /// What the server makes of it depends on a reply: whether it begins to read data, or a queue
    /// that is full. Or a cancel is on its way, which is not meant for it.
    Waiting,
}

/// Whom the session waits for. A number tells one wait from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// Nobody who is timed: nothing is asked for, or a log is streamed.
    Nobody,
    /// The server, for the answer to the message with this number.
    Server(u64),
    /// The client, with a transaction open; for the message with this number.
    Client(u64),
}

/// Which data the server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    /// Of a `COPY`; it says nothing meanwhile.
    In,
    /// Of replication, and sends some itself; whether client and server still do.
    Both { client: bool, server: bool },
}

/// What was reported when the session began.
#[derive(Debug)]
pub(super) struct Reported {
    pub(super) search_path: Box<[u8]>,
    pub(super) utf8: bool,
    pub(super) conforming: bool,
}

/// The state of one session's request loop.
#[derive(Debug)]
pub(super) struct Ledger<G: Gate> {
    queue: VecDeque<Entry<G>>,
    /// The number of the queue's first entry.
    first: u64,
    weight: usize,
    /// The number of the first message of the batch: since the last `Sync` or `Query`.
    batch: u64,
    /// Whether the batch has any.
    batched: bool,
    /// Whether something of the batch runs a statement: what it locked stays so until the batch's end.
    runs: bool,
    status: Status,
    pub(super) statements: Table<Statement>,
    pub(super) portals: Table<Statement>,
    scope: Scope,
    /// The scope after all of the batch, and the message that last changes it.
    ahead: Option<(Scope, u64)>,
    /// The scope is certain only once this message is answered.
    unclear: Option<u64>,
    start: Path,
    reported: Reported,
    /// A search path that the server has just reported.
    news: Option<Box<[u8]>>,
    skipping: bool,
    copying: Option<Data>,
    /// An error came since the last `ReadyForQuery`.
    failed: bool,
    /// Requests that are answered, and whose end is not written: at most as many as were owed.
    finished: Vec<Finished<G>>,
    /// Nothing new goes upstream.
    held: bool,
    /// How many cancels came while the server ran nothing that they could have been for.
    interrupts: u64,
    /// What of the server's words may be data that is masked.
    pub(super) lookout: Lookout,
    /// What the session changes of what is known of its database.
    changes: Changes,
    /// What looks for values in answers.
    net: Option<Box<Net>>,
    /// What is counted of answers that are under limits.
    measure: Measure,
    /// A transaction block of our own.
    own: Option<Box<Own<G>>>,
    /// What the server is to be sent next.
    due: Option<Due<G>>,
}

impl<G: Gate> Ledger<G> {
    pub(super) fn new(
        start: Path,
        status: Status,
        reported: Reported,
        watch: Option<Arc<Watch>>,
    ) -> Self {
        let readable = reported.utf8 && reported.conforming;
        Self {
            queue: VecDeque::new(),
            first: 0,
            weight: 0,
            batch: 0,
            batched: false,
            runs: false,
            status,
            statements: Table::new(),
            portals: Table::new(),
            scope: Scope::new(start.clone(), status, readable),
            ahead: None,
            unclear: None,
            start,
            reported,
            news: None,
            skipping: false,
            copying: None,
            failed: false,
            finished: Vec::new(),
            held: false,
            interrupts: 0,
            lookout: Lookout::default(),
            changes: Changes::new(watch),
            net: None,
            measure: Measure::default(),
            own: None,
            due: None,
        }
    }

    /// Whether a change of the database is under way, whose transaction has not ended.
    pub(super) fn is_changing(&self) -> bool {
        self.changes.are_pending()
    }

    /// Requests that are answered. Their ends are written when they are dropped, which takes a while:
    /// not under the ledger's lock, and not before the agent has its answer.
    pub(super) fn take_finished(&mut self) -> Vec<Finished<G>> {
        std::mem::take(&mut self.finished)
    }

    fn next(&self) -> u64 {
        let owed = u64::try_from(self.queue.len()).unwrap_or(u64::MAX);
        self.first.saturating_add(owed)
    }

    /// Whether anything is owed.
    pub(super) fn is_settled(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether message `number` is answered.
    pub(super) fn answered(&self, number: u64) -> bool {
        number < self.first
    }

    /// Whether a batch is open, so that the server may keep replies back until `Flush` or `Sync`.
    pub(super) fn batched(&self) -> bool {
        self.batched
    }

    /// Whether the batch has run something whose locks the server still holds.
    pub(super) fn has_run(&self) -> bool {
        self.runs
    }

    /// Whether a refusal can be told without the server: nothing owed, nothing begun.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.batched && self.status == Status::Idle && !self.skipping
    }

    /// Whom the session waits for.
    pub(super) fn waits(&self) -> Waits {
        match self.queue.front() {
            Some(entry) if entry.replicates() => Waits::Nobody,
            Some(_) => Waits::Server(self.first),
            None if self.batched || self.status != Status::Idle => Waits::Client(self.first),
            None => Waits::Nobody,
        }
    }

    /// Lets nothing new go upstream, or lets it go on.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// The client asks to cancel. What the server runs it cancels there; otherwise it is for what waits here.
    pub(super) fn interrupt(&mut self) {
        if self.queue.iter().all(|entry| entry.runs().is_none()) {
            self.interrupts = self.interrupts.saturating_add(1);
        }
    }

    /// How many cancels were for what waits here: one more since a request was read is for this request.
    pub(super) fn interrupts(&self) -> u64 {
        self.interrupts
    }

    pub(super) fn standing(&self) -> Standing {
        if self.held {
            return Standing::Waiting;
        }
        if let Some(data) = self.copying {
            return match data {
                Data::In => Standing::Copying,
                Data::Both { client: true, .. } => Standing::Streaming,
                // A server that reads a message before it has ended its own data ends the session
                // (`ProcessRepliesIfAny`, `walsender.c`).
                Data::Both { client: false, .. } => Standing::Waiting,
            };
        }
        if self.queue.back().is_some_and(|last| last.may_copy)
            || self.is_limited()
            || self.is_full()
        {
            Standing::Waiting
        } else if self.skipping {
            Standing::Skipping
        } else {
            Standing::Open
        }
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= OWED_MAX || self.weight >= WEIGHT_MAX
    }

    /// What a text is read under.
    ///
    /// # Errors
    /// The message on whose fate this depends.
    pub(super) fn scope(&self) -> Result<&Scope, u64> {
        match (self.unclear, &self.ahead) {
            (Some(until), _) => Err(until),
            (None, Some((scope, _))) => Ok(scope),
            (None, None) => Ok(&self.scope),
        }
    }

    /// What a prepared statement of this name is.
    pub(super) fn statement(&self, name: &[u8]) -> Found<Statement> {
        self.statements.find(name, self.batch)
    }

    /// What a portal of this name is.
    pub(super) fn portal(&self, name: &[u8]) -> Found<Statement> {
        self.portals.find(name, self.batch)
    }

    /// All statements that an SQL `EXECUTE` can run.
    ///
    /// # Errors
    /// The message on whose fate this depends.
    pub(super) fn prepared(
        &self,
        masking: Option<&Arc<Masking>>,
    ) -> Result<HashMap<String, Prepared>, u64> {
        if let Some(until) = self.statements.uncertain(self.batch) {
            return Err(until);
        }
        let named = self.statements.iter().filter_map(|(name, statement)| {
            let name = std::str::from_utf8(name).ok()?;
            // One that was prepared when other columns were masked shows those.
            (!name.is_empty() && statement.is_masked_by(masking)).then_some(())?;
            Some((name.to_owned(), statement.for_execute()?))
        });
        Ok(named.collect())
    }

    /// Whether the names that running a text makes can be kept.
    pub(super) fn has_room_for(&self, statement: &Statement) -> bool {
        statement.effects.iter().all(|effect| match effect {
            Effect::Prepares { name, .. } => self.statements.room(name.as_bytes()),
            Effect::DeclaresCursor { name, .. } => self.portals.room(name.as_bytes()),
            _ => true,
        })
    }

    /// The server will owe a reply.
    pub(super) fn owe(&mut self, entry: Entry<G>) {
        let number = self.next();
        if let Change::Runs(statement) = &entry.change
            && statement.alters()
        {
            self.changes.begin(statement.masking.is_some());
        }
        for made in entry.makes() {
            match made {
                Made::Statement(name, meant) => self.statements.expect(name, number, meant),
                Made::Portal(name, meant) => self.portals.expect(name, number, meant),
            }
        }
        self.weight = self.weight.saturating_add(entry.weight);
        if entry.local.is_some() {
            // The server knows nothing of it.
        } else if entry.kind.is_ready() {
            if entry.own.is_none() {
                self.sync_own();
            }
            self.end_batch(number, entry.heeds_scope());
        } else {
            self.batched = true;
            self.runs |= entry.kind == Kind::Execute;
            if entry.heeds_scope() {
                self.look_ahead(number, &entry);
            }
        }
        self.queue.push_back(entry);
    }

    /// What changed in the batch is certain once its end is answered: it may all be rolled back.
    fn end_batch(&mut self, number: u64, heeds_scope: bool) {
        let begun = self.batch < number || self.failed;
        let changed = self.ahead.take().is_some() || !self.scope.certain();
        if heeds_scope || (begun && (changed || !self.readable_for_sure())) {
            self.unclear = Some(number);
        }
        self.batch = number.saturating_add(1);
        self.batched = false;
        self.runs = false;
        self.skipping = false;
    }

    fn readable_for_sure(&self) -> bool {
        self.scope.readable() == (self.reported.utf8 && self.reported.conforming)
    }

    fn look_ahead(&mut self, number: u64, entry: &Entry<G>) {
        let Change::Runs(statement) = &entry.change else {
            return;
        };
        let mut scope = match self.ahead.take() {
            Some((scope, _)) => scope,
            None => self.scope.clone(),
        };
        for effect in statement.effects.iter() {
            scope.apply(effect, None, &self.start);
        }
        self.ahead = Some((scope, number));
    }

    /// A refused message of a batch: whatever follows up to `Sync` is skipped.
    pub(super) fn skip_batch(&mut self) {
        self.skipping = true;
    }

    /// The client has ended its data. A text of one statement will not ask for more.
    pub(super) fn copied(&mut self) {
        if let Some(Data::Both { client, .. }) = &mut self.copying {
            *client = false;
            return;
        }
        self.copying = None;
        if let Some(entry) = self.queue.front_mut() {
            entry.may_copy = match (&entry.kind, &entry.change) {
                (Kind::Query, Change::Runs(statement)) => statement.statements != 1,
                _ => false,
            };
        }
    }

    /// Our own reply, where it is its turn. A refused `Query` is answered whole.
    pub(super) fn local(&mut self) -> Option<Bytes> {
        self.queue.front()?.local.as_ref()?;
        self.next_in_turn()?.local
    }

    /// Takes the first entry away. A burst gives its room back.
    fn next_in_turn(&mut self) -> Option<Entry<G>> {
        let entry = self.queue.pop_front()?;
        if self.queue.is_empty() {
            self.queue.shrink_to(KEPT);
        }
        self.first = self.first.saturating_add(1);
        self.weight = self.weight.saturating_sub(entry.weight);
        Some(entry)
    }
}

/// What the client gets for a `Query` that is refused where nothing is owed.
pub(super) fn whole_refusal(error: &Bytes) -> Bytes {
    let ready = backend::make_ready(Status::Idle);
    [error.as_ref(), ready.as_ref()].concat().into()
}

#[cfg(test)]
mod tests;
