//! The request loop's side of a session: every request is judged and written here, once, for every
//! protocol, before a byte of it goes upstream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::masks::Masked;
use super::meter::Room;
use super::people::answering::No;
use super::people::asking::{Consent, Said};
use super::{
    Allowance, Allowed, Answered, Authorized, Direction, EndReason, InFlight, Outcome, Phase,
    Reading, Refused, RequestId, Session, Spent, Terminal, Typed, lock, storage,
};
use crate::approvals::Over;
use crate::audit::event::{Event, Request};
use crate::audit::{self, Sink as _};
use crate::clock;
use crate::config::{StatementText, Target};
use crate::grants::{Take, Taken};
use crate::masking::Masks;
use crate::policy::{Ask, GrantId, NotApproved, Permit, Refusal, Resource, Seen};

/// Most bytes of what the last line of a request says of one grant.
const SPENT_BYTES: u64 = 128;
/// Credentials that clients present of which a session remembers that they are written.
const PRESENTED: usize = 32;

/// What an engine sees of its session. A trait so that an engine can be tested over bytes alone;
/// [`Session`] is the only one that runs.
pub trait Gate: Send + Sync + 'static {
    /// Judges every ask of `reading`; writes the audit record first, either way.
    ///
    /// Where policy leaves it to people it waits for them, and says so through `said.hold`.
    fn authorize(
        &self,
        phase: Phase,
        said: Said<'_>,
        reading: &Arc<Reading>,
    ) -> impl Future<Output = Result<Authorized, Refused>> + Send;

    /// Whether policy leaves any request to people: only then they are to be shown anything.
    fn asks_people(&self) -> bool;

    /// Whether policy leaves these to people now: then they are to be shown all of it.
    fn leaves(&self, _asks: &[Ask]) -> bool {
        false
    }

    /// Writes the end of a permitted request. Cannot fail: its space was reserved by `authorize`.
    fn finish(&self, request: RequestId, outcome: &Outcome);

    /// Keeps bytes of the request loop as the agent sent or saw them. Waits while the recorder is
    /// behind; an error means that the session must end, nothing more may be forwarded.
    fn record(
        &self,
        direction: Direction,
        bytes: Bytes,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Counts bytes that went by and cannot be read: they are not recorded.
    fn carried(&self, _direction: Direction, _bytes: u64) {}

    /// Keeps what a terminal of the session shows or is told, by its number. As [`Gate::record`].
    fn terminal(
        &self,
        number: u32,
        what: &Terminal,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Writes what was typed into a terminal, as it was read off what it showed: an aid for whoever looks
    /// for it, and no boundary. An error means that the session must end.
    ///
    /// # Errors
    /// A refusal of kind `storage`, where it cannot be written.
    fn typed(&self, request: RequestId, lines: &[Typed]) -> Result<(), Refusal>;

    /// The columns that are masked for this principal now: the sensitive ones of the session's database that
    /// policy does not let it see. Asked before each text is read, so it must be quick, and give the same
    /// `Arc` as long as nothing has changed.
    fn masks(&self) -> Arc<Masks>;

    /// Says that a request leaves something behind that lasts in its session, and that nobody judges again:
    /// a cursor, a role, a channel. It ends with the grants that the request stood on, and the session with it.
    fn lasts(&self, request: RequestId);

    /// Writes that the client presented a credential in this place: it is used for nothing.
    ///
    /// # Errors
    /// A refusal of kind `storage`, where it cannot be written.
    fn presented(&self, place: &str, credential: &[u8]) -> Result<(), Refusal>;

    /// Writes that the server has shown the credential that it was given, in this place of the answer to a
    /// request. The engine has covered it.
    ///
    /// # Errors
    /// A refusal of kind `storage`, where it cannot be written.
    fn returned(&self, request: RequestId, place: &'static str) -> Result<(), Refusal>;

    /// Writes what the server answered, and how long after, to the cancel with which the session ends.
    fn answered(&self, _answered: Answered, _after: Duration) {}

    /// Room for a body that is held until it is judged, and has gone on.
    fn room(&self) -> Room;

    /// Whether policy lets the principal see what is masked of a resource.
    fn reveals(&self, _resource: &Resource) -> bool {
        false
    }

    /// Whether policy would permit these now, without people's word; nothing is written or taken for it.
    ///
    /// # Errors
    /// The refusal.
    fn would(&self, _asks: &[Ask]) -> Result<(), Refusal> {
        Err(Refusal::ended())
    }

    /// The target as the configuration in force has it; `None` where it is not in it any more.
    fn target(&self) -> Option<Arc<Target>> {
        None
    }

    /// Resolves when the daemon ends the session; pending for ever otherwise.
    fn ended(&self) -> impl Future<Output = EndReason> + Send;
}

impl Gate for Session {
    async fn authorize(
        &self,
        phase: Phase,
        said: Said<'_>,
        reading: &Arc<Reading>,
    ) -> Result<Authorized, Refused> {
        let request = RequestId(Uuid::now_v7());
        self.requests.fetch_add(1, Ordering::Relaxed);
        *lock(&self.asked) = clock::boot();
        let line = self.line(request, phase, said.text, reading);
        let limits = self.who.limits(&self.services);
        let within = self.who.meter.request(&limits);
        within.map_err(|refusal| self.refused(line, refusal))?;
        let consent = self.consent(phase, &said, reading).await;
        let consent = consent.map_err(|refusal| self.refused(line, refusal))?;
        let masked = self.masks.now(self);
        let permit = self
            .judge(reading, &consent, None)
            .map_err(|refusal| self.refused(line, refusal))?;
        let word = consent.word().cloned();
        let consent = Arc::new(consent);
        let line = Request {
            generation: permit.generation(),
            ..line
        };
        let judged = (reading, &masked, &consent);
        // A client that takes its request back ends this in the middle.
        let pending = Unless::new(|| self.finish(request, &not_forwarded()));
        if let Err(error) = self.admit(line, &permit, judged).await {
            return Err(self.refused(line, storage(&error)));
        }
        let recorded = match &self.recorder {
            Some(recorder) => recorder.mark(request, phase).await,
            None => Ok(()),
        };
        if let Err(error) = recorded {
            tracing::error!(%error, session = %self.id, "cannot record a request");
            let refusal = Refusal::storage("the recording cannot be written");
            return Err(self.taken_back(line, refusal));
        }
        let allowance = match permit.grants().is_empty() {
            true => None,
            false => {
                let taken = self.take((request, phase), &permit, reading).await;
                taken.map_err(|refusal| self.taken_back(line, refusal))?
            }
        };
        // Whoever takes a word back has either seen this request in flight, or is seen here.
        if consent.word().is_some_and(|word| word.is_taken_back()) {
            let refusal = No::Over(Some(Over::Revoked)).refusal(&reading.summary);
            return Err(self.taken_back(line, refusal));
        }
        // A reload since the judgement has either seen this request in flight, or is seen here.
        let permit = match self.services.policy.generation() == permit.generation() {
            true => permit,
            false => self
                .judge(reading, &consent, Some(permit.grants()))
                .and_then(|permit| match self.masks().is_within(&masked.masks) {
                    true => Ok(permit),
                    false => Err(Refusal::masked_since()),
                })
                .map_err(|refusal| self.taken_back(line, refusal))?,
        };
        self.note(phase, said.text, reading);
        self.permitted.inc();
        pending.done();
        Ok(Authorized {
            request,
            permit,
            word,
            allowance,
        })
    }

    fn asks_people(&self) -> bool {
        Self::asks_people(self)
    }

    fn leaves(&self, asks: &[Ask]) -> bool {
        let policy = self.services.policy.current();
        let held = self.who.holding(&self.services);
        !self.verdicts.needs(&policy, asks, &held).is_empty()
    }

    fn finish(&self, request: RequestId, outcome: &Outcome) {
        let held = {
            let mut held = lock(&self.in_flight);
            let at = held.iter().position(|(id, _)| *id == request);
            at.and_then(|at| held.remove(at))
        };
        let Some((_, InFlight { finish, taken, .. })) = held else {
            return;
        };
        // Quiet begins with the answer.
        *lock(&self.asked) = clock::boot();
        for (kind, count) in &outcome.found {
            let metrics = &self.services.metrics;
            metrics.detected(&self.who.target.name, kind, *count);
        }
        for (kind, count) in &outcome.found_sent {
            let metrics = &self.services.metrics;
            metrics.detected_sent(&self.who.target.name, kind, *count);
        }
        let event = Event::RequestFinished {
            connection: self.who.connection,
            session: self.id,
            request,
            principal: Some(&self.who.json),
            outcome,
            spent: &self.settle(taken, outcome),
        };
        if let Err(error) = self.services.audit.append_later(finish, &event) {
            tracing::error!(%error, session = %self.id, "cannot write the end of a request");
            self.end(EndReason::Storage);
        }
    }

    async fn record(&self, direction: Direction, bytes: Bytes) -> Result<(), Refusal> {
        let count = match direction {
            Direction::Sent => &self.sent,
            Direction::Received => &self.received,
        };
        count.fetch_add(
            u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        let Some(recorder) = &self.recorder else {
            return Ok(());
        };
        recorder.record(direction, bytes).await.map_err(|error| {
            tracing::error!(%error, session = %self.id, "cannot record");
            self.end(EndReason::Storage);
            Refusal::storage("the recording cannot be written")
        })
    }

    fn carried(&self, direction: Direction, bytes: u64) {
        let count = match direction {
            Direction::Sent => &self.sent,
            Direction::Received => &self.received,
        };
        count.fetch_add(bytes, Ordering::Relaxed);
    }

    async fn terminal(&self, number: u32, what: &Terminal) -> Result<(), Refusal> {
        if let Terminal::Unrecorded { sent, received } = what {
            self.carried(Direction::Sent, *sent);
            self.carried(Direction::Received, *received);
        }
        let (count, bytes) = match what {
            Terminal::Shown(bytes) => (&self.received, bytes.len()),
            Terminal::Typed(bytes) => (&self.sent, bytes.len()),
            Terminal::Erred(bytes) => (&self.received, bytes.len()),
            Terminal::Carried(Direction::Sent, bytes) => (&self.sent, bytes.len()),
            Terminal::Carried(Direction::Received, bytes) => (&self.received, bytes.len()),
            Terminal::Opened { .. }
            | Terminal::Resized { .. }
            | Terminal::Closed { .. }
            | Terminal::Asked(_)
            | Terminal::Carries(_)
            | Terminal::Unrecorded { .. } => (&self.received, 0),
        };
        count.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        let Some(recorder) = &self.recorder else {
            return Ok(());
        };
        recorder.terminal(number, what).await.map_err(|error| {
            tracing::error!(%error, session = %self.id, "cannot record a terminal");
            self.end(EndReason::Storage);
            Refusal::storage("the recording cannot be written")
        })
    }

    fn typed(&self, request: RequestId, lines: &[Typed]) -> Result<(), Refusal> {
        let lines: Vec<&str> = lines
            .iter()
            .filter_map(|line| match self.who.target.statement {
                StatementText::None => None,
                StatementText::Redacted => Some(line.redacted.as_str()),
                StatementText::Full => Some(line.text.as_str()),
            })
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        let event = Event::TerminalTyped {
            about: self.about(),
            request,
            lines: &lines,
        };
        let written = self.services.audit.append(&event);
        written.map(drop).map_err(|error| {
            tracing::error!(%error, session = %self.id, "cannot write what was typed");
            self.end(EndReason::Storage);
            storage(&error)
        })
    }

    fn masks(&self) -> Arc<Masks> {
        self.masks.now(self).masks
    }

    fn lasts(&self, request: RequestId) {
        let grants = {
            let held = lock(&self.in_flight);
            let mut held = held.iter().rev();
            held.find(|(id, _)| *id == request)
                .map(|(_, request)| Arc::clone(&request.grants))
        };
        for grant in grants.iter().flat_map(|grants| grants.iter()) {
            let mut leans = lock(&self.leans);
            if leans.iter().any(|one| one.id() == *grant) {
                continue;
            }
            match self.services.grants.hold(*grant) {
                Some(one) => leans.push(one),
                None => self.end(EndReason::Grant(*grant)),
            }
        }
    }

    fn presented(&self, place: &str, credential: &[u8]) -> Result<(), Refusal> {
        let authority = &self.services.authority;
        let fingerprint = authority.derive("presented credential", &[credential]);
        {
            let mut presented = lock(&self.presented);
            let known = (place.to_owned(), *fingerprint);
            if presented.contains(&known) {
                return Ok(());
            }
            if presented.len() >= PRESENTED {
                presented.clear();
            }
            presented.insert(known);
        }
        let event = Event::CredentialPresented {
            about: self.about(),
            user: place,
            fingerprint: hex::encode(*fingerprint),
        };
        let written = self.services.audit.append(&event);
        written.map(drop).map_err(|error| storage(&error))
    }

    fn returned(&self, request: RequestId, place: &'static str) -> Result<(), Refusal> {
        let target = &self.who.target.name;
        tracing::warn!(session = %self.id, %target, place,
            "an upstream showed the credential that it was given; it was covered");
        self.services.metrics.credential_returned(target);
        let event = Event::CredentialReturned {
            about: self.about(),
            request,
            place,
        };
        let written = self.services.audit.append(&event);
        written.map(drop).map_err(|error| storage(&error))
    }

    fn answered(&self, answered: Answered, after: Duration) {
        self.was_answered(answered, after);
    }

    fn room(&self) -> Room {
        self.who.meter.room()
    }

    fn reveals(&self, resource: &Resource) -> bool {
        let policy = self.services.policy.current();
        let held = self.who.holding(&self.services);
        let resources = std::slice::from_ref(resource);
        let seen = self.verdicts.revealed(&policy, resources, &held);
        matches!(seen.as_slice(), [seen] if *seen != Seen::Masked)
    }

    fn would(&self, asks: &[Ask]) -> Result<(), Refusal> {
        let policy = self.services.policy.current();
        let held = self.who.holding(&self.services);
        self.verdicts
            .authorize(&policy, asks, &held, &NotApproved)
            .map(drop)
    }

    fn target(&self) -> Option<Arc<Target>> {
        let config = self.services.config.load();
        let is_led = self.who.leads_through(&config);
        let target = config.targets.get(&self.who.target.name);
        target.filter(|_| is_led).cloned()
    }

    async fn ended(&self) -> EndReason {
        let mut end = self.end.subscribe();
        let idle = self.who.target.timeouts.idle;
        loop {
            let quiet = async {
                match idle {
                    Some(idle) => tokio::time::sleep(self.idle_left(idle)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = end.wait_for(Option::is_some) => {
                    // The sender lives in `self`: it cannot be gone.
                    return told.ok().and_then(|reason| *reason).unwrap_or(EndReason::Killed);
                }
                () = quiet => {
                    if idle.is_some_and(|idle| self.idle_left(idle).is_zero()) && self.nothing_in_flight() {
                        self.end(EndReason::Idle);
                    }
                }
            }
        }
    }
}

impl Session {
    /// Judges what is new, or what stands on grants already.
    fn judge(
        &self,
        reading: &Reading,
        consent: &Consent,
        stood_on: Option<&[GrantId]>,
    ) -> Result<Permit, Refusal> {
        if self.end.borrow().is_some() {
            return Err(Refusal::ended());
        }
        if !self.who.is_bound(&self.services) {
            self.end(EndReason::Identity);
            return Err(Refusal::ended());
        }
        let policy = self.services.policy.current();
        let held = self.who.holding(&self.services);
        let held = stood_on.map_or(held, |grants| held.stood_on(grants));
        let permit = self
            .verdicts
            .authorize(&policy, &reading.asks, &held, consent)?;
        match &reading.veto {
            Some(veto) => Err(Refusal::clone(veto)),
            None => Ok(permit),
        }
    }

    /// Takes of the grants that permitted a request, before anything goes upstream. What is only prepared
    /// takes nothing.
    async fn take(
        &self,
        (request, phase): (RequestId, Phase),
        permit: &Permit,
        reading: &Reading,
    ) -> Result<Option<Allowance>, Refusal> {
        // What a write touches is no answer, and no limit of answers bounds it.
        let is_write = reading.asks.iter().any(|ask| ask.context.tells_rows);
        let limits = permit.limits().filter(|_| !is_write);
        let what = match phase {
            Phase::Prepare => Take::Hold,
            Phase::Execute => Take::Answer(limits.map(Arc::as_ref)),
        };
        let taken = self.services.grants.take(permit.grants(), what).await?;
        let least = |amount: fn(&Taken) -> Option<u64>| {
            let allowed = |one| {
                let (most, grant) = (amount(one)?, one.id());
                Some(Allowed { most, grant })
            };
            taken.iter().filter_map(allowed).min()
        };
        let allowance = Allowance {
            rows: least(Taken::rows),
            bytes: least(Taken::bytes),
        };
        let mut held = lock(&self.in_flight);
        if let Some((_, held)) = held.iter_mut().rev().find(|(id, _)| *id == request) {
            held.taken = taken;
        }
        let is_counted = allowance.rows.is_some() || allowance.bytes.is_some();
        Ok((phase == Phase::Execute && is_counted).then_some(allowance))
    }

    /// Gives back what a request took of grants and did not need; what it needed.
    fn settle(&self, taken: Vec<Taken>, outcome: &Outcome) -> Vec<Spent> {
        let (rows, bytes) = outcome.counted.unwrap_or((u64::MAX, u64::MAX));
        let settled = taken.into_iter().filter_map(|one| {
            let spent = Spent {
                grant: one.id(),
                rows: one.rows().map(|most| rows.min(most)),
                bytes: one.bytes().map(|most| bytes.min(most)),
            };
            self.services.grants.settle(one, rows, bytes);
            (spent.rows.is_some() || spent.bytes.is_some()).then_some(spent)
        });
        settled.collect()
    }

    fn line<'a>(
        &self,
        request: RequestId,
        phase: Phase,
        text: &'a str,
        reading: &'a Reading,
    ) -> Request<'a> {
        Request {
            request,
            phase,
            summary: &reading.summary,
            fingerprint: &reading.fingerprint,
            statement: match self.who.target.statement {
                StatementText::None => None,
                StatementText::Redacted => Some(&reading.redacted),
                StatementText::Full => Some(text),
            },
            asks: &reading.asks,
            masked: &reading.masked,
            generation: self.services.policy.generation(),
        }
    }

    /// Writes the permit's line and sets aside the room for the request's end.
    async fn admit(
        &self,
        line: Request<'_>,
        permit: &Permit,
        (reading, masked, consent): (&Arc<Reading>, &Masked, &Arc<Consent>),
    ) -> Result<(), audit::Error> {
        let audit = &self.services.audit;
        let spent = u64::try_from(permit.grants().len()).unwrap_or(u64::MAX);
        let room = audit::finish_bytes(Some(&self.who.json));
        let finish = audit.reserve(room.saturating_add(spent.saturating_mul(SPENT_BYTES)))?;
        let request = line.request;
        let event = Event::RequestPermitted {
            about: self.about(),
            request: line,
            rules: permit.rules(),
            grants: permit.grants(),
            approval: consent.word().map(|word| word.id),
            revealed: match reading.shows_data() {
                true => &masked.revealing,
                false => &[],
            },
        };
        // The line is written at once; that it is on disk is waited for.
        let written = audit.append_durable(&event);
        let in_flight = InFlight {
            finish,
            reading: Arc::clone(reading),
            masks: Arc::clone(&masked.masks),
            consent: Arc::clone(consent),
            grants: Arc::clone(permit.grants()),
            taken: Vec::new(),
        };
        lock(&self.in_flight).push_back((request, in_flight));
        let written = written.await.map(drop);
        if written.is_err() {
            lock(&self.in_flight).retain(|(id, _)| *id != request);
        }
        written
    }

    /// Refuses a request whose permit is written already; nothing of it was forwarded.
    fn taken_back(&self, line: Request<'_>, refusal: Refusal) -> Refused {
        self.finish(line.request, &not_forwarded());
        self.refused(line, refusal)
    }

    fn refused(&self, line: Request<'_>, refusal: Refusal) -> Refused {
        let request = line.request;
        let event = Event::RequestRefused {
            about: self.about(),
            request: line,
            refusal: &refusal,
        };
        if let Err(error) = self.services.audit.append(&event) {
            tracing::error!(%error, "cannot write a refusal to the audit log");
            self.end(EndReason::Storage);
        }
        self.services
            .metrics
            .request_refused(&self.who.target.name, refusal.kind);
        Refused { request, refusal }
    }

    fn idle_left(&self, idle: Duration) -> Duration {
        let asked = *lock(&self.asked);
        let left = idle.saturating_sub(clock::boot().since(asked));
        // A request in flight is looked at again after a while, not in a busy loop.
        if left.is_zero() && !self.nothing_in_flight() {
            idle
        } else {
            left
        }
    }

    fn nothing_in_flight(&self) -> bool {
        lock(&self.in_flight).is_empty() && self.waiting.load(Ordering::Relaxed) == 0
    }
}

/// How a request ended of which nothing went upstream.
fn not_forwarded() -> Outcome {
    Outcome {
        status: "not forwarded".to_owned(),
        counted: Some((0, 0)),
        ..Outcome::default()
    }
}

/// Does something where it is dropped before all is done: whoever waits for a future may let it go.
struct Unless<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Unless<F> {
    fn new(otherwise: F) -> Self {
        Self(Some(otherwise))
    }

    fn done(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Unless<F> {
    fn drop(&mut self) {
        if let Some(otherwise) = self.0.take() {
            otherwise();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_is_let_go_in_the_middle_is_ended() {
        let ended = Cell::new(0);
        let asks = async |waits: bool| {
            let pending = Unless::new(|| ended.set(ended.get() + 1));
            if waits {
                std::future::pending::<()>().await;
            }
            pending.done();
        };
        asks(false).await;
        assert_eq!(ended.get(), 0);
        let let_go = tokio::time::timeout(Duration::ZERO, asks(true)).await;
        assert!(let_go.is_err());
        assert_eq!(ended.get(), 1);
    }
}
