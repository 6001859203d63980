//! Limits on answers: rows and their bytes are counted before they are passed on, and the first that is
//! too many is not.
//!
//! Only what is under a limit is counted; what is not pays a look at an empty option. A request under one
//! has nothing forwarded behind it before it is answered, so that a server that does not know of the cut,
//! because it was done before it was told, can still be made to fail: its transaction never goes on as if
//! the answer had been whole.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::super::facts::Effect;
use super::super::super::refuse::{self, Over};
use super::super::super::wire::backend::{self, Status};
use super::super::super::wire::{self, HEADER, Header};
use super::super::entry::{Change, Entry, Kind, Statement};
use super::super::table::Name;
use super::own::Due;
use super::{Found, Ledger};
use crate::policy::{Limit, Limits};
use crate::session::{Allowance, Allowed, Gate, RequestId};

/// What ends a binary `COPY` in the place of a row.
const BINARY_END: [u8; 2] = [0xff, 0xff];
/// The most portals that are counted one by one.
const GIVEN_MAX: usize = 8_192;
/// Stands for all others: no name has a zero in it.
const OTHERS: &[u8] = b"\0";

/// Rows and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    rows: u64,
    bytes: u64,
}

impl Amount {
    fn and(self, more: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(more.rows),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            rows: self.rows.max(other.rows),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// An answer that is under limits.
#[derive(Debug)]
pub(in super::super) struct Limited {
    limits: Arc<Limits>,
    /// What grants give of this answer.
    allowance: Option<Allowance>,
    request: RequestId,
    /// The portals that its rows come from.
    portals: Vec<Name>,
    /// What those have given before; `None` before the first message of the answer.
    before: Option<Amount>,
    passed: Amount,
    over: Option<Over>,
    copy: Copy,
    /// Of a write whose end is held against what a grant has left: where it runs.
    touches: Option<Within>,
    /// The portal that it runs; empty for a `Query`.
    portal: Name,
}

/// The transaction that a write runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Ours,
    Theirs,
}

/// How the data of a `COPY` is made up.
#[derive(Clone, Copy, Debug, Default)]
struct Copy {
    /// The first message names the columns, or will.
    header: bool,
    binary: bool,
    begun: bool,
}

/// What one portal has given so far.
#[derive(Debug, Default)]
struct Given {
    /// Of a cursor that was declared: what it is under, whoever fetches.
    limits: Option<Arc<Limits>>,
    amount: Amount,
}

/// What a session counts for its limits.
#[derive(Debug, Default)]
pub(super) struct Measure {
    /// Of all requests under a limit of the session.
    session: Amount,
    portals: HashMap<Name, Given>,
    /// The strictest of all limits so far: what cursors are under that nobody declared.
    all: Option<Arc<Limits>>,
    /// Bytes at the front that are counted and not passed on.
    counted: usize,
    /// The notice or the notification at the front is counted.
    noticed: bool,
    /// A function that was called under a limit may have put a cursor in the place of a declared one.
    called: bool,
    /// A cancel is on its way, for the message with this number.
    cancels: Option<u64>,
}

/// What becomes of the front of what the server sent, as far as limits go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Room {
    /// Nothing here is under a limit.
    Any,
    /// So many bytes are counted, and may go on; with `ends`, what comes behind them may not, or is no data.
    Up { bytes: usize, ends: bool },
    /// So many bytes must be there.
    Need(usize),
    /// The message of so many bytes is too much, or comes after what was.
    Drop(usize),
}

/// What the next message of an answer is.
enum Next {
    /// Data of so many bytes, which is counted.
    Counted(usize),
    /// Data of so many bytes, which is too much.
    Over(Over, usize),
    /// Data of so many bytes, after what was too much.
    After(usize),
    /// So many bytes of it must be there.
    Need(usize),
    /// Nothing that is counted with data.
    Other,
}

impl Limited {
    fn first_over(&self, session: Amount, more: Amount) -> Option<Over> {
        let request = self.before.unwrap_or_default().and(self.passed).and(more);
        first_over(&self.limits, request, session.and(more)).or_else(|| self.over_grant(more))
    }

    fn over_grant(&self, more: Amount) -> Option<Over> {
        let allowance = self.allowance?;
        let answer = self.passed.and(more);
        let over = |allowed: Option<Allowed>, is: u64| allowed.filter(|allowed| is > allowed.most);
        let rows = over(allowance.rows, answer.rows).map(Over::GrantRows);
        rows.or_else(|| over(allowance.bytes, answer.bytes).map(Over::GrantBytes))
    }

    /// What counts as given out: all of a grant that had no room for the next row.
    fn given(&self) -> Amount {
        let Amount { rows, bytes } = self.passed;
        match &self.over {
            Some(Over::GrantRows(_)) => Amount {
                rows: u64::MAX,
                bytes,
            },
            Some(Over::GrantBytes(_)) => Amount {
                rows,
                bytes: u64::MAX,
            },
            _ => Amount { rows, bytes },
        }
    }

    /// How many rows a message of data is; or how much of it must be there to say.
    fn rows(&self, header: Header, front: &[u8]) -> Result<u64, usize> {
        if header.tag != backend::COPY_DATA {
            return Ok(1);
        }
        if !self.copy.binary {
            let is_header = self.copy.header && !self.copy.begun;
            return Ok(u64::from(!is_header));
        }
        let before = if self.copy.begun {
            0
        } else {
            backend::BINARY_COPY_FRONT
        };
        if header.body != before.saturating_add(BINARY_END.len()) {
            return Ok(1);
        }
        let at = HEADER.saturating_add(before);
        let end = front
            .get(at..header.whole())
            .ok_or_else(|| header.whole())?;
        Ok(u64::from(end != BINARY_END))
    }

    /// Its portals go on from what they have given before.
    fn begin(&mut self, measure: &Measure) {
        if self.before.is_none() {
            let given = self
                .portals
                .iter()
                .filter_map(|name| measure.portals.get(name));
            let before = given.fold(Amount::default(), |most, one| most.most(one.amount));
            self.before = Some(before);
        }
    }

    /// Counts the next message, where it is one that has data and has room.
    fn next(&mut self, measure: &mut Measure, rest: &[u8], is_first: bool) -> Next {
        let Ok(Some(header)) = backend::header(rest) else {
            return Next::Other;
        };
        if header.tag == backend::COPY_OUT && is_first {
            self.copy.begun = false;
            match rest.get(HEADER) {
                Some(format) => self.copy.binary = *format == 1,
                None if header.body > 0 => return Next::Need(HEADER.saturating_add(1)),
                None => {}
            }
        }
        let is_notice = goes_by_itself(header.tag);
        if !has_data(header.tag) || is_notice && (!is_first || measure.noticed) {
            return Next::Other;
        }
        let size = header.whole();
        if self.over.is_some() {
            return Next::After(size);
        }
        let rows = match self.rows(header, rest) {
            Ok(rows) => rows,
            Err(need) => return Next::Need(need),
        };
        let more = Amount {
            rows: if is_notice { 0 } else { rows },
            bytes: u64::try_from(size).unwrap_or(u64::MAX),
        };
        if let Some(over) = self.first_over(measure.session, more) {
            return Next::Over(over, size);
        }
        self.copy.begun |= header.tag == backend::COPY_DATA;
        self.passed = self.passed.and(more);
        if counts_session(&self.limits) {
            measure.session = measure.session.and(more);
        }
        if is_notice {
            measure.noticed = true;
            return Next::Other;
        }
        Next::Counted(size)
    }

    /// Whether the end of a write is to be known.
    pub(super) fn counts_touched(&self) -> bool {
        self.touches.is_some()
    }

    /// Whether more came than it may have.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// The portal that it runs.
    pub(super) fn portal(&self) -> Name {
        self.portal.clone()
    }

    /// A write has touched so many rows. Whether they are too many.
    fn touch(&mut self, rows: u64) -> bool {
        let allowed = self.allowance.and_then(|allowance| allowance.rows);
        if let (Some(within), Some(allowed), None) = (self.touches, allowed, &self.over)
            && rows > allowed.most
        {
            let ours = within == Within::Ours;
            self.over = Some(Over::Touched {
                allowed,
                rows,
                ours,
            });
            return true;
        }
        false
    }

    /// What the client is told.
    fn error(&self, carried_out: bool) -> Option<Bytes> {
        let over = self.over.as_ref()?;
        Some(refuse::limited(over, self.request, carried_out).response())
    }
}

impl Measure {
    /// A notification that comes in no limited answer is one of its own, under the strictest of all limits so
    /// far. What is too much is not passed on.
    fn beside(&mut self, front: &[u8]) -> Room {
        let Some(limits) = self.all.as_ref().filter(|_| !self.noticed) else {
            return Room::Any;
        };
        let size = match backend::header(front) {
            Ok(Some(header)) if header.tag == backend::NOTIFICATION => header.whole(),
            _ => return Room::Any,
        };
        let more = Amount {
            rows: 0,
            bytes: u64::try_from(size).unwrap_or(u64::MAX),
        };
        let session = self.session.and(more);
        if first_over(limits, more, session).is_some() {
            return Room::Drop(size);
        }
        if counts_session(limits) {
            self.session = session;
        }
        self.noticed = true;
        Room::Any
    }
}

impl<G: Gate> Ledger<G> {
    /// Puts what is about to be owed under its limits, which are those of its permit, and those of the
    /// cursors that it fetches from.
    pub(in super::super) fn limit(
        &mut self,
        entry: &mut Entry<G>,
        (portal, request): (Option<&Name>, RequestId),
        (limits, allowance): (Option<&Arc<Limits>>, Option<Allowance>),
    ) {
        if limits.is_none() && allowance.is_none() && self.measure.all.is_none() {
            return;
        }
        self.measure.all = strictest(self.measure.all.take(), limits);
        let Change::Runs(statement) = &entry.change else {
            // A portal of it may yet be fetched from.
            return;
        };
        self.measure.called |= statement.calls();
        let mut limits = limits.cloned();
        let mut portals: Vec<Name> = portal.into_iter().map(|name| self.key(name)).collect();
        for name in fetched(statement) {
            let key = self.key(name.as_bytes());
            let of_cursor = match self.measure.portals.get(&key) {
                Some(Given {
                    limits: Some(limits),
                    ..
                }) => Some(limits),
                Some(_) | None => match self.portal(name.as_bytes()) {
                    // What declared it was under none.
                    Found::Known(portal) if portal.declared && !self.measure.called => None,
                    Found::Known(_) | Found::Unknown | Found::Until(_) => self.measure.all.as_ref(),
                },
            };
            limits = strictest(limits, of_cursor);
            portals.push(key);
        }
        let limits = limits.or_else(|| allowance.map(|_| Arc::default()));
        let Some(limits) = limits else {
            return;
        };
        let header = statement.statements == 1 && statement.effects.contains(&Effect::CopyHeader);
        let touches = statement.tells_rows().then_some(match entry.own {
            Some(_) => Within::Ours,
            None => Within::Theirs,
        });
        entry.limited = Some(Box::new(Limited {
            limits,
            allowance,
            request,
            portals,
            before: None,
            passed: Amount::default(),
            over: None,
            copy: Copy {
                header,
                ..Copy::default()
            },
            touches,
            portal: portal.cloned().unwrap_or_default(),
        }));
    }

    /// By what a portal is counted.
    fn key(&self, name: &[u8]) -> Name {
        let portals = &self.measure.portals;
        match portals.len() < GIVEN_MAX || portals.contains_key(name) {
            true => name.into(),
            false => OTHERS.into(),
        }
    }

    /// Counts what is at the front, as far as there is room for it.
    pub(in super::super) fn room(&mut self, front: &[u8]) -> Room {
        let measure = &mut self.measure;
        let entry = self.queue.front_mut();
        let entry = entry.filter(|entry| entry.poison.is_none() && !entry.failed);
        let Some(entry) = entry else {
            return measure.beside(front);
        };
        let Some(limited) = entry.limited.as_deref_mut() else {
            return measure.beside(front);
        };
        limited.begin(measure);
        let room = count(limited, measure, front);
        // What we take from a portal ourselves is given to nobody.
        if let Some(account) = entry.account.as_mut().filter(|_| !entry.silent) {
            let given = limited.given();
            account.gave(given.rows, given.bytes);
            if matches!(room, Counted::Over(_)) {
                account.cut(limited.passed.rows);
            }
        }
        match room {
            Counted::Room(room) => room,
            Counted::Over(size) => {
                measure.cancels = Some(self.first);
                Room::Drop(size)
            }
        }
    }

    /// A statement has ended. Of a write whose rows are counted it is held against what there is.
    pub(super) fn touched(&mut self, body: &[u8]) -> Result<(), wire::Error> {
        let Some(entry) = self.queue.front_mut() else {
            return Ok(());
        };
        let Some(limited) = entry
            .limited
            .as_deref_mut()
            .filter(|limited| limited.counts_touched() && !limited.is_over())
        else {
            return Ok(());
        };
        let rows = backend::rows(backend::command(body)?);
        let over = limited.touch(rows);
        if let Some(account) = &mut entry.account {
            match over {
                true => account.cut(rows),
                false => account.touched(rows),
            }
        }
        Ok(())
    }

    /// So many bytes of data were decided.
    pub(super) fn passed(&mut self, bytes: usize) {
        self.measure.counted = self.measure.counted.saturating_sub(bytes);
    }

    /// A message was decided.
    pub(super) fn passed_one(&mut self, header: Header) {
        match header.tag {
            tag if goes_by_itself(tag) => self.measure.noticed = false,
            tag if has_data(tag) => self.passed(header.whole()),
            _ => {}
        }
    }

    /// Whether a cancel is to be sent: what runs has given all that it may. The number of its message.
    pub(in super::super) fn cuts(&self) -> Option<u64> {
        self.measure
            .cancels
            .filter(|number| !self.answered(*number))
    }

    /// Whether an answer was cut, and nobody has seen to a cancel.
    pub(in super::super) fn has_cut(&self) -> bool {
        self.measure.cancels.is_some()
    }

    /// The cancel has reached the server, or will not.
    pub(in super::super) fn cancelled(&mut self) {
        self.measure.cancels = None;
    }

    /// Whether message `number` was cut, and is not answered.
    pub(in super::super) fn is_cut(&self, number: u64) -> bool {
        let front = self.queue.front().filter(|_| self.first == number);
        front.is_some_and(Entry::is_cut)
    }

    /// Whether what comes next from the client must wait for the end of a cut, or of what may be cut.
    pub(super) fn is_limited(&self) -> bool {
        self.measure.cancels.is_some() || self.due.is_some() || self.own_waits() || {
            // Behind what we take ourselves stands our own close.
            let mut last = self.queue.iter().rev().take(2);
            last.any(|entry| entry.limited.is_some())
        }
    }

    /// The same, for a client that has closed.
    pub(in super::super) fn has_limited(&self) -> bool {
        self.is_limited() || self.queue.iter().any(|entry| entry.limited.is_some())
    }

    /// An error of the server that says more than there is room for, which counts as a cut.
    pub(super) fn cut_error(&mut self, size: usize) -> Option<Bytes> {
        let measure = &self.measure;
        let limited = self.queue.front_mut()?.limited.as_deref_mut()?;
        let bytes = u64::try_from(size).unwrap_or(u64::MAX);
        if limited.over.is_none() {
            limited.over = limited.first_over(measure.session, Amount { rows: 0, bytes });
        }
        limited.error(false)
    }

    /// The first entry, which was cut, was carried out all the same, and is gone: what the client gets now,
    /// where that is all there is to do.
    pub(super) fn carried_out(&mut self, cut: &Cut, status: Option<Status>) -> Option<Bytes> {
        match status {
            Some(Status::Idle | Status::Failed) => {
                let ready = status.map(backend::make_ready).unwrap_or_default();
                Some([cut.done.as_ref(), ready.as_ref()].concat().into())
            }
            // Its transaction, or its batch, must not go on.
            Some(Status::Open) | None => {
                self.due = Some(Due::Fail {
                    error: cut.failed.clone(),
                    kind: if status.is_some() {
                        Kind::Query
                    } else {
                        Kind::Parse
                    },
                });
                None
            }
        }
    }

    /// Keeps what the portals of an entry have given by now, and what those are under that it declared.
    pub(super) fn note_given(&mut self, entry: &Entry<G>) {
        let Some(limited) = &entry.limited else {
            return;
        };
        for name in &limited.portals {
            let given = self.measure.portals.entry(name.clone()).or_default();
            given.amount = given.amount.and(limited.passed);
        }
        if let Change::Runs(statement) = &entry.change {
            for effect in statement.effects.iter() {
                if let Effect::DeclaresCursor { name, .. } = effect {
                    let given = Given {
                        limits: Some(Arc::clone(&limited.limits)),
                        amount: limited.passed,
                    };
                    let key = self.key(name.as_bytes());
                    self.measure.portals.insert(key, given);
                }
            }
        }
    }

    /// Forgets all portals: they were closed.
    pub(super) fn forget_all_given(&mut self) {
        self.measure.portals.clear();
    }

    /// Forgets portals that are no more.
    pub(super) fn forget_given(&mut self) {
        self.measure.called = false;
        if self.measure.portals.is_empty() {
            return;
        }
        let (portals, batch) = (&self.portals, self.batch);
        self.measure
            .portals
            .retain(|name, _| !matches!(portals.find(name, batch), Found::Unknown));
    }

    /// A portal of this name begins anew.
    pub(super) fn begin_given(&mut self, name: &[u8]) {
        self.measure.portals.remove(name);
    }
}

/// What the client gets of a cut, by how it ended.
#[derive(Debug)]
pub(super) struct Cut {
    failed: Bytes,
    done: Bytes,
}

impl Cut {
    /// Where nothing of the statement stays.
    pub(super) fn failed(&self) -> Bytes {
        self.failed.clone()
    }
}

impl<G: Gate> Entry<G> {
    /// Whether more came than it may have.
    pub(super) fn is_cut(&self) -> bool {
        self.limited
            .as_ref()
            .is_some_and(|limited| limited.over.is_some())
    }

    /// What is told of its cut.
    pub(super) fn cut(&self) -> Option<Cut> {
        let limited = self.limited.as_ref()?;
        Some(Cut {
            failed: limited.error(false)?,
            done: limited.error(true)?,
        })
    }
}

/// What counting came to.
enum Counted {
    Room(Room),
    /// The message of so many bytes is the first that is too much.
    Over(usize),
}

/// Counts what is at the front of an answer, as far as there is room for it.
fn count(limited: &mut Limited, measure: &mut Measure, front: &[u8]) -> Counted {
    let mut at = measure.counted;
    loop {
        let rest = front.get(at..).unwrap_or_default();
        match limited.next(measure, rest, at == 0) {
            Next::Counted(size) => {
                at = at.saturating_add(size);
                measure.counted = at;
            }
            Next::Other => break,
            Next::Need(need) if at == 0 => return Counted::Room(Room::Need(need)),
            Next::Need(_) => break,
            Next::After(size) => return Counted::Room(Room::Drop(size)),
            Next::Over(_, _) if at > 0 => {
                let (bytes, ends) = (at, true);
                return Counted::Room(Room::Up { bytes, ends });
            }
            Next::Over(over, size) => {
                limited.over = Some(over);
                return Counted::Over(size);
            }
        }
    }
    Counted::Room(match at {
        0 => Room::Any,
        _ => Room::Up {
            bytes: at.min(front.len()),
            ends: at < front.len(),
        },
    })
}

/// What may hold data, in the answer to a request.
fn has_data(tag: u8) -> bool {
    matches!(
        tag,
        backend::DATA_ROW
            | backend::COPY_DATA
            | backend::FUNCTION_RESULT
            | backend::NOTICE
            | backend::NOTIFICATION
    )
}

/// Whether it comes whenever the server likes, between rows too.
fn goes_by_itself(tag: u8) -> bool {
    matches!(tag, backend::NOTICE | backend::NOTIFICATION)
}

/// The first limit that is less than what would have been given.
fn first_over(limits: &Limits, request: Amount, session: Amount) -> Option<Over> {
    let over =
        |limit: &Option<Limit>, is: u64| limit.as_ref().filter(|limit| is > limit.most).cloned();
    let rows = over(&limits.max_rows, request.rows).map(Over::Rows);
    rows.or_else(|| over(&limits.max_bytes, request.bytes).map(Over::Bytes))
        .or_else(|| over(&limits.max_session_rows, session.rows).map(Over::SessionRows))
        .or_else(|| over(&limits.max_session_bytes, session.bytes).map(Over::SessionBytes))
}

fn counts_session(limits: &Limits) -> bool {
    limits.max_session_rows.is_some() || limits.max_session_bytes.is_some()
}

/// The cursors that a text fetches from, and does not declare itself.
fn fetched(statement: &Statement) -> impl Iterator<Item = &str> {
    let declared = |fetched: &str| {
        statement.effects.iter().any(|effect| match effect {
            Effect::DeclaresCursor { name, .. } => name == fetched,
            _ => false,
        })
    };
    statement
        .effects
        .iter()
        .filter_map(move |effect| match effect {
            Effect::Fetches(name) if !declared(name) => Some(name.as_str()),
            _ => None,
        })
}

fn strictest(one: Option<Arc<Limits>>, other: Option<&Arc<Limits>>) -> Option<Arc<Limits>> {
    match (one, other) {
        (Some(one), Some(other)) if !Arc::ptr_eq(&one, other) => Some(Arc::new(one.and(other))),
        (Some(one), _) => Some(one),
        (None, other) => other.cloned(),
    }
}
