//! Session: the only handle an engine gets. It authorizes, injects, masks and records; dropped, it ends.
//!
//! One authenticated use of a target by one principal. Everything that is security and not dialect
//! happens here, once, for every protocol.

pub mod meter;
pub mod opening;
pub mod registry;
pub mod scopes;
pub mod services;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

use crate::audit::event::{About, Event, Request};
use crate::audit::{self, Reservation, Sink as _};
use crate::clock::{self, BootTime};
use crate::config::StatementText;
use crate::policy::{Ask, Permit, Refusal, RuleId, Verdicts};
use crate::recording;

use self::meter::Slot;
use self::opening::Who;
use self::services::Services;

/// Names one request of one session in audit, recording and in what the agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(pub Uuid);

/// What an engine read in one request: one statement text, one HTTP request, one channel request.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What it asks for, one per statement, in order.
    pub asks: Vec<Ask>,
    /// The text with its literals replaced, safe to keep where `statement: redacted`.
    pub redacted: Arc<str>,
    /// Stable hash of the normalized text, lower-case hex.
    pub fingerprint: Arc<str>,
    /// Words for people: `DELETE`, `SELECT; UPDATE`.
    pub summary: Arc<str>,
}

/// Where in its life a request is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Read and planned, not run: `Parse`.
    Prepare,
    /// Run.
    Execute,
}

/// How a request ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Rows returned or touched, as the server's command tags say.
    pub rows: u64,
    /// Bytes of the server's answer, as the agent saw them.
    pub bytes: u64,
    /// From forwarding to the end of the answer.
    #[serde(serialize_with = "micros", rename = "micros")]
    pub took: Duration,
    /// `ok`, or the server's SQLSTATE, status or exit code.
    pub status: String,
}

fn micros<S: serde::Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

/// Which way recorded bytes went, seen from the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the agent.
    Sent,
    /// To the agent.
    Received,
}

/// A request that may go upstream.
#[derive(Debug)]
pub struct Authorized {
    /// Its name.
    pub request: RequestId,
    /// The proof; whoever writes the request upstream consumes it.
    pub permit: Permit,
}

/// A request that may not.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its name, which the agent is told.
    pub request: RequestId,
    /// Why.
    pub refusal: Refusal,
}

/// Why a session was ended by the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A reload withdrew what the session stands on.
    Policy,
    /// `interceptor kill`.
    Killed,
    /// The daemon drains.
    Drain,
    /// Nothing was asked for too long.
    Idle,
    /// Audit or recording cannot be written.
    Storage,
}

/// What an engine sees of its session. A trait so that an engine can be tested over bytes alone;
/// [`Session`] is the only one that runs.
pub trait Gate: Send + Sync + 'static {
    /// Judges every ask of `reading`; writes the audit record first, either way.
    ///
    /// `text` is the request as sent; it is kept only as the target's `statement` says.
    fn authorize(
        &self,
        phase: Phase,
        text: &str,
        reading: &Arc<Reading>,
    ) -> impl Future<Output = Result<Authorized, Refused>> + Send;

    /// Writes the end of a permitted request. Cannot fail: its space was reserved by `authorize`.
    fn finish(&self, request: RequestId, outcome: &Outcome);

    /// Keeps bytes of the request loop as the agent sent or saw them. Waits while the recorder is
    /// behind; an error means that the session must end, nothing more may be forwarded.
    fn record(
        &self,
        direction: Direction,
        bytes: Bytes,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Resolves when the daemon ends the session; pending for ever otherwise.
    fn ended(&self) -> impl Future<Output = EndReason> + Send;
}

/// One authenticated use of a target by one principal.
#[derive(Debug)]
pub struct Session {
    id: Uuid,
    who: Who,
    database: String,
    services: Arc<Services>,
    verdicts: Verdicts,
    recorder: Option<recording::Writer>,
    end: watch::Sender<Option<EndReason>>,
    in_flight: Mutex<HashMap<RequestId, InFlight>>,
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    opened: BootTime,
    asked: Mutex<BootTime>,
    why_closed: Mutex<Option<&'static str>>,
    closing: Option<Reservation>,
    _slot: Slot,
}

/// A permitted request whose end is not written yet.
#[derive(Debug)]
struct InFlight {
    finish: Reservation,
    reading: Arc<Reading>,
}

impl Session {
    /// Its id, in audit and recording.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Whose it is, and on what target.
    #[must_use]
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// The database it is on.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// When it was opened.
    #[must_use]
    pub fn opened(&self) -> BootTime {
        self.opened
    }

    /// Requests judged so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Ends it; the first reason stays.
    pub fn end(&self, reason: EndReason) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(reason);
            }
            first
        });
    }

    /// Connects to an address of its target once more, for what goes beside the session: a cancel.
    ///
    /// # Errors
    /// What the kernel said, or that the namespace must not be used.
    pub async fn dial_at(
        &self,
        to: std::net::SocketAddr,
    ) -> std::io::Result<tokio::net::TcpStream> {
        self.who.dial(&self.services, to).await
    }

    /// Says why it closes, for its last line; the first word stays.
    pub fn closes(&self, why: &'static str) {
        let mut closed = lock(&self.why_closed);
        closed.get_or_insert(why);
    }

    /// Whether the policy in force still permits the session and every request in flight.
    #[must_use]
    pub fn still_permitted(&self) -> bool {
        let policy = self.services.policy.current();
        let (facts, target) = (&self.who.facts, &self.who.target.name);
        let in_flight: Vec<_> = {
            let held = lock(&self.in_flight);
            held.values()
                .map(|request| Arc::clone(&request.reading))
                .collect()
        };
        policy.connect(facts, target).is_ok()
            && policy.open(facts, target, &self.database).is_ok()
            && in_flight
                .iter()
                .all(|reading| self.verdicts.authorize(&policy, &reading.asks).is_ok())
    }

    fn about(&self) -> About<'_> {
        About {
            session: Some(self.id),
            database: Some(&self.database),
            ..self.who.about()
        }
    }

    fn judge(&self, reading: &Reading) -> Result<Permit, Refusal> {
        self.who.meter.request(&self.who.limits)?;
        self.judge_anew(reading)
    }

    fn judge_anew(&self, reading: &Reading) -> Result<Permit, Refusal> {
        if self.end.borrow().is_some() {
            return Err(Refusal::ended());
        }
        let policy = self.services.policy.current();
        self.verdicts.authorize(&policy, &reading.asks)
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
            generation: self.services.policy.generation(),
        }
    }

    /// Writes the permit's line and sets aside the room for the request's end.
    async fn admit(
        &self,
        line: Request<'_>,
        rules: &[RuleId],
        reading: &Arc<Reading>,
    ) -> Result<(), audit::Error> {
        let audit = &self.services.audit;
        let finish = audit.reserve(audit::finish_bytes(Some(&self.who.json)))?;
        let request = line.request;
        let event = Event::RequestPermitted {
            about: self.about(),
            request: line,
            rules,
        };
        audit.append_durable(&event).await?;
        let mut held = lock(&self.in_flight);
        held.insert(
            request,
            InFlight {
                finish,
                reading: Arc::clone(reading),
            },
        );
        Ok(())
    }

    /// Refuses a request whose permit is written already; nothing of it was forwarded.
    fn taken_back(&self, line: Request<'_>, refusal: Refusal) -> Refused {
        let status = "not forwarded".to_owned();
        self.finish(
            line.request,
            &Outcome {
                status,
                ..Outcome::default()
            },
        );
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
}

impl Gate for Session {
    async fn authorize(
        &self,
        phase: Phase,
        text: &str,
        reading: &Arc<Reading>,
    ) -> Result<Authorized, Refused> {
        let request = RequestId(Uuid::now_v7());
        self.requests.fetch_add(1, Ordering::Relaxed);
        *lock(&self.asked) = clock::boot();
        let line = self.line(request, phase, text, reading);
        let permit = self
            .judge(reading)
            .map_err(|refusal| self.refused(line, refusal))?;
        let line = Request {
            generation: permit.generation(),
            ..line
        };
        if let Err(error) = self.admit(line, permit.rules(), reading).await {
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
        // A reload since the judgement has either seen this request in flight, or is seen here.
        let permit = match self.services.policy.generation() == permit.generation() {
            true => permit,
            false => self
                .judge_anew(reading)
                .map_err(|refusal| self.taken_back(line, refusal))?,
        };
        self.services
            .metrics
            .request_permitted(&self.who.target.name);
        Ok(Authorized { request, permit })
    }

    fn finish(&self, request: RequestId, outcome: &Outcome) {
        let held = {
            let mut held = lock(&self.in_flight);
            held.remove(&request)
        };
        let Some(InFlight { finish, .. }) = held else {
            return;
        };
        let event = Event::RequestFinished {
            connection: self.who.connection,
            session: self.id,
            request,
            principal: Some(&self.who.json),
            outcome,
        };
        if let Err(error) = self.services.audit.append_reserved(finish, &event) {
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
        lock(&self.in_flight).is_empty()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.services.registry.leave(self.id);
        let ids: Vec<_> = {
            let held = lock(&self.in_flight);
            held.keys().copied().collect()
        };
        for id in ids {
            self.finish(
                id,
                &Outcome {
                    status: "unfinished".to_owned(),
                    ..Outcome::default()
                },
            );
        }
        let told = *self.end.borrow();
        let said = *lock(&self.why_closed);
        let reason = told.map_or_else(|| said.unwrap_or("client"), EndReason::word);
        if let Some(recorder) = self.recorder.take() {
            close(recorder, reason);
        }
        let closing = self.closing.take();
        let event = Event::SessionClosed {
            about: self.about(),
            reason,
            requests: self.requests(),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            millis: u64::try_from(clock::boot().since(self.opened).as_millis()).unwrap_or(u64::MAX),
        };
        let written = match closing {
            Some(room) => self.services.audit.append_reserved(room, &event),
            None => self.services.audit.append(&event),
        };
        if let Err(error) = written {
            tracing::error!(%error, session = %self.id, "cannot write the end of a session");
        }
    }
}

impl EndReason {
    /// The word for it in the audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Killed => "killed",
            Self::Drain => "drain",
            Self::Idle => "idle",
            Self::Storage => "storage",
        }
    }
}

/// What these locks guard is whole after each statement: a panic elsewhere leaves nothing torn.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last frame is written by a task of its own: a drop cannot wait.
fn close(recorder: recording::Writer, reason: &'static str) {
    let closing = async move {
        if let Err(error) = recorder.close(reason).await {
            tracing::error!(%error, "cannot end a recording");
        }
    };
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(closing);
    }
}

fn storage(error: &audit::Error) -> Refusal {
    tracing::error!(%error, "cannot write the audit log");
    Refusal::storage("the audit log cannot be written")
}
