//! Session: the only handle an engine gets. It authorizes, injects, masks and records; dropped, it ends.
//!
//! One authenticated use of a target by one principal. Everything that is security and not dialect
//! happens here, once, for every protocol.

pub mod beside;
pub mod distrust;
pub mod ending;
mod gate;
pub mod masks;
pub mod meter;
pub mod opening;
pub mod people;
pub mod registry;
mod request;
pub mod services;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

pub use self::gate::Gate;
use self::meter::Slot;
use self::opening::Who;
pub use self::people::asking::{Hold, Look, Looking, Said, Shown, Values};
pub use self::request::{
    Allowance, Allowed, Answered, Authorized, Direction, Outcome, Phase, Reading, Refused,
    RequestId, Spent, Typed,
};
use self::services::Services;
pub use crate::approvals::{Rows, Touches, Word};
use crate::audit::event::{About, Event};
use crate::audit::{self, Reservation, Sink as _};
use crate::clock::{self, BootTime};
use crate::config::Target;
use crate::grants::{Footing, Taken};
use crate::masking::Masks;
use crate::policy::{ApprovalId, Ask, GrantId, NotApproved, Refusal, Verdicts};
use crate::recording;
pub use crate::recording::Terminal;

/// Why a session was ended by the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A reload withdrew what the session stands on.
    Policy,
    /// This grant ended, and it stood on it.
    Grant(GrantId),
    /// The scope is not bound any more to whom it was.
    Identity,
    /// People's word for what it does was taken back.
    Approval,
    /// `interceptor kill`.
    Killed,
    /// The daemon drains.
    Drain,
    /// Nothing was asked for too long.
    Idle,
    /// Nothing was asked for too long, with a transaction open.
    IdleInTransaction,
    /// A statement ran for too long, and the upstream did not cancel it.
    Statement,
    /// An answer had more than it may, and the upstream did not cancel it.
    Limit,
    /// Audit or recording cannot be written.
    Storage,
}

impl EndReason {
    /// Whether what the session still gets it may not have any more.
    #[must_use]
    pub fn takes_away(self) -> bool {
        match self {
            Self::Policy
            | Self::Grant(_)
            | Self::Identity
            | Self::Approval
            | Self::Killed
            | Self::Limit
            | Self::Storage => true,
            Self::Drain | Self::Idle | Self::IdleInTransaction | Self::Statement => false,
        }
    }

    /// The word for it in the audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Grant(_) => "grant",
            Self::Identity => "identity",
            Self::Approval => "approval",
            Self::Killed => "killed",
            Self::Drain => "drain",
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle_in_transaction",
            Self::Statement => "statement",
            Self::Limit => "limit",
            Self::Storage => "storage",
        }
    }
}

/// One authenticated use of a target by one principal.
#[derive(Debug)]
pub struct Session {
    id: Uuid,
    who: Who,
    /// Empty where its target knows none.
    database: String,
    /// What its client asked to set when it logged in.
    settings: Vec<Ask>,
    services: Arc<Services>,
    /// The grants by which it was opened.
    footing: Footing,
    /// The grants by which something was made that lasts in it: a cursor, a role, a channel.
    leans: Mutex<Vec<Taken>>,
    verdicts: Verdicts,
    masks: masks::Known,
    recorder: Option<recording::Writer>,
    end: watch::Sender<Option<EndReason>>,
    /// In the order in which they were permitted, which is mostly that in which they end.
    in_flight: Mutex<VecDeque<(RequestId, InFlight)>>,
    /// What was set in it.
    altered: Mutex<people::asking::Altered>,
    /// Fingerprints of credentials that its client presented, and that are written.
    presented: Mutex<HashSet<(String, [u8; 32])>>,
    /// Requests that wait for people.
    waiting: AtomicUsize,
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    opened: BootTime,
    asked: Mutex<BootTime>,
    why_closed: Mutex<Option<&'static str>>,
    closing: Option<Reservation>,
    permitted: Counter,
    _slot: Slot,
}

/// A permitted request whose end is not written yet.
#[derive(Debug)]
struct InFlight {
    finish: Reservation,
    reading: Arc<Reading>,
    /// What was masked for it.
    masks: Arc<Masks>,
    /// Whose word it has.
    consent: Arc<people::asking::Consent>,
    /// The grants that permitted it: it takes of these, and of no others.
    grants: Arc<[GrantId]>,
    /// What it has taken of them.
    taken: Vec<Taken>,
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

    /// The database it is on; `None` where its target knows none, and it is on the target as a whole.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        (!self.database.is_empty()).then_some(self.database.as_str())
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
        to: crate::socket::Place,
    ) -> std::io::Result<tokio::net::TcpStream> {
        self.who.dial(&self.services, to).await
    }

    /// Writes that the daemon itself cancelled what runs, or why it could not.
    pub fn cancelled(&self, result: Result<(), String>) {
        let event = Event::RequestCancelled {
            about: self.about(),
            error: result.err(),
        };
        if let Err(error) = self.services.audit.append(&event) {
            tracing::error!(%error, session = %self.id, "cannot write a cancel to the audit log");
            self.end(EndReason::Storage);
        }
    }

    /// Writes what the server answered to the cancel with which the session ends.
    fn was_answered(&self, answered: Answered, after: Duration) {
        let event = Event::CancelAnswered {
            about: self.about(),
            confirmed: answered == Answered::Cancelled,
            answered,
            millis: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        };
        if let Err(error) = self.services.audit.append(&event) {
            tracing::error!(%error, session = %self.id, "cannot write what came of a cancel to the audit log");
        }
    }

    /// Says why it closes, for its last line; the first word stays.
    pub fn closes(&self, why: &'static str) {
        let mut closed = lock(&self.why_closed);
        closed.get_or_insert(why);
    }

    /// Says that the server's answer named a column that should have been masked: an alarm. Nothing of
    /// it has reached the agent.
    pub fn unmasked(&self, relation: u32, attribute: i16) {
        let target = &self.who.target.name;
        tracing::error!(session = %self.id, %target, relation, attribute,
            "a result named a masked column as it is; the session was ended before it reached the agent");
        self.services.metrics.mask_missed(target);
        let event = Event::MaskMissed {
            about: self.about(),
            relation,
            attribute,
        };
        if let Err(error) = self.services.audit.append(&event) {
            tracing::error!(%error, session = %self.id, "cannot write an alarm to the audit log");
            self.end(EndReason::Storage);
        }
    }

    /// Whether configuration and policy in force still permit the session and every request in flight, and
    /// mask nothing more than they did for them.
    #[must_use]
    pub fn still_permitted(&self) -> bool {
        if !self.is_still_offered() {
            return false;
        }
        if self.fallen().is_some() {
            return false;
        }
        let policy = self.services.policy.current();
        let (facts, target) = (&self.who.facts, &self.who.target.name);
        let in_flight: Vec<_> = {
            let held = lock(&self.in_flight);
            let parts = |(_, request): &(RequestId, InFlight)| {
                let InFlight {
                    reading,
                    masks,
                    consent,
                    grants,
                    ..
                } = request;
                (
                    Arc::clone(reading),
                    Arc::clone(masks),
                    Arc::clone(consent),
                    Arc::clone(grants),
                )
            };
            held.iter().map(parts).collect()
        };
        let masks = Gate::masks(self);
        let held = self.who.holding(&self.services);
        let opened = held.stood_on(self.footing.grants());
        let may_connect = |(target, footing): (&Target, &Footing)| {
            let held = held.stood_on(footing.grants());
            policy.connect(&held, facts, &target.name).is_ok()
        };
        self.who.connected().all(may_connect)
            && policy.open(&opened, facts, target, &self.database).is_ok()
            && (self.settings.is_empty()
                || self
                    .verdicts
                    .authorize(&policy, &self.settings, &opened, &NotApproved)
                    .is_ok())
            && in_flight.iter().all(|(reading, then, consent, grants)| {
                let held = held.stood_on(grants);
                let permit = self
                    .verdicts
                    .authorize(&policy, &reading.asks, &held, &**consent);
                permit.is_ok() && masks.is_within(then)
            })
    }

    /// Whether something in it goes on by this word of people.
    #[must_use]
    pub fn goes_on_by(&self, word: ApprovalId) -> bool {
        let held = lock(&self.in_flight);
        let has = |(_, request): &(RequestId, InFlight)| {
            request.consent.word().is_some_and(|one| one.id == word)
        };
        held.iter().any(has)
    }

    /// A grant that it stands on, not only its requests, and that is no more.
    fn fallen(&self) -> Option<GrantId> {
        let now = clock::boot();
        let leans = || {
            let leans = lock(&self.leans);
            leans.iter().find(|one| !one.stands(now)).map(Taken::id)
        };
        let mut connected = self.who.connected();
        connected
            .find_map(|(_, footing)| footing.fallen(now))
            .or_else(|| self.footing.fallen(now))
            .or_else(leans)
    }

    /// Whether the configuration in force has its database still, and lets its principal log in.
    fn is_still_offered(&self) -> bool {
        let config = self.services.config.load();
        let target = config.targets.get(&self.who.target.name);
        let principal = &self.who.principal;
        target.is_some_and(|target| target.protocol.offers(self.database()))
            && self.who.leads_through(&config)
            && (!principal.privileged || config.agent(&principal.agent).allow_privileged)
    }

    fn about(&self) -> About<'_> {
        About {
            session: Some(self.id),
            database: self.database(),
            ..self.who.about()
        }
    }

    /// The last frame is written by a task of its own, since a drop cannot wait; a drain waits for it.
    fn close(&self, recorder: recording::Writer, reason: &'static str) {
        let closing = async move {
            if let Err(error) = recorder.close(reason).await {
                tracing::error!(%error, "cannot end a recording");
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.services.closings.spawn_on(closing, &runtime);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.services.registry.leave(self.id);
        let ids: Vec<_> = {
            let held = lock(&self.in_flight);
            held.iter().map(|(id, _)| *id).collect()
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
        let grant = match told {
            Some(EndReason::Grant(grant)) => Some(grant),
            _ => None,
        };
        let said = *lock(&self.why_closed);
        let reason = told.map_or_else(|| said.unwrap_or("client"), EndReason::word);
        if let Some(recorder) = self.recorder.take() {
            self.close(recorder, reason);
        }
        let closing = self.closing.take();
        let event = Event::SessionClosed {
            about: self.about(),
            reason,
            grant,
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

/// What these locks guard is whole after each statement: a panic elsewhere leaves nothing torn.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn storage(error: &audit::Error) -> Refusal {
    tracing::error!(%error, "cannot write the audit log");
    Refusal::storage("the audit log cannot be written")
}
