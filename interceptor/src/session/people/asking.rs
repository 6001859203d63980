//! Asking people: a request that policy leaves to them waits here until they have answered.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::Notify;

use super::answering::{self, No};
use crate::approvals::{self, Found, Outcome, Question, Touches, Value, Word};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock::{self, BootTime};
use crate::grants::Holder;
use crate::policy::{
    Access, Action, ApprovalId, Approved, Ask, AskedWhenRun, Needs, NotApproved, Refusal,
};
use crate::session::{Phase, Reading, Session, lock, storage};

/// Bytes of a request that people are shown, its values included: who is to answer must be able to read it.
const SHOWN: usize = 64 << 10;
/// Statements that set something, as people are shown them.
const SETTINGS: usize = 16;
/// Bytes of each.
const SETTING: usize = 512;

/// A request as it was said.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Its text; it is kept only as the target's `statement` says, and to ask people.
    pub text: &'a str,
    /// What it means beside its text, or why people cannot be asked about it.
    pub shown: Result<&'a Shown, &'static str>,
    /// The word that it has already: it goes on with what was begun.
    pub word: Option<&'a Arc<Word>>,
    /// Whether something ran before it that the server has not ended yet: waiting would hold its locks.
    pub begun: bool,
    /// How long whoever asks waits for anything, where it has said so.
    pub patience: Option<Duration>,
    /// Looks at what it would touch, where the engine can, so that people may know.
    pub look: Option<Look<'a>>,
    /// Where the engine and the gate tell each other of a wait.
    pub hold: &'a Hold,
}

impl<'a> Said<'a> {
    /// What has no word yet, and nothing before it; nobody looks at what it would touch.
    #[must_use]
    pub fn alone(text: &'a str, shown: Result<&'a Shown, &'static str>, hold: &'a Hold) -> Self {
        Self {
            text,
            shown,
            word: None,
            begun: false,
            patience: None,
            look: None,
            hold,
        }
    }
}

/// Begins to look, beside the session, at what a request would touch.
#[derive(Clone, Copy)]
pub struct Look<'a>(pub &'a (dyn Fn() -> Looking + Send + Sync));

/// A look on its way. It bounds itself; dropped, it is given up.
pub type Looking = Pin<Box<dyn Future<Output = Touches> + Send>>;

impl fmt::Debug for Look<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_tuple("Look").finish()
    }
}

/// What a request means beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The values that are bound to its parameters, where its protocol has such.
    pub values: Option<Values>,
    /// Under what its text is read.
    pub under: Vec<String>,
    /// The values of the literals in its text, in order; `None` where they cannot be told.
    pub literals: Option<String>,
    /// Whether every text that differs in its literals alone does the same with other values.
    pub varies: bool,
}

/// Values of a request's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Their types, as they were said, in hex.
    pub types: String,
    /// As people are shown them, in order; `None` for a null.
    pub shown: Vec<Value>,
    /// SHA-256 of their types, their forms and their bytes.
    pub digest: [u8; 32],
}

/// One request's wait for people: the gate says when it begins, the engine when it is given up.
#[derive(Debug, Default)]
pub struct Hold {
    id: OnceLock<ApprovalId>,
    begun: Notify,
    given_up: Notify,
}

impl Hold {
    /// Says that the request waits.
    pub fn begin(&self, id: ApprovalId) {
        // It begins once.
        self.id.get_or_init(|| id);
        self.begun.notify_one();
    }

    /// Resolves when the request waits; the question.
    pub async fn begun(&self) -> ApprovalId {
        loop {
            self.begun.notified().await;
            if let Some(id) = self.id.get() {
                return *id;
            }
        }
    }

    /// Says that nobody wants the answer any more: the client cancelled, or is gone.
    pub fn give_up(&self) {
        self.given_up.notify_one();
    }

    async fn given_up(&self) {
        self.given_up.notified().await;
    }
}

/// What was set in a session: the same text may mean something else after it.
#[derive(Debug, Default)]
pub(in crate::session) struct Altered {
    digest: [u8; 32],
    last: Vec<String>,
    /// Whether another session may see other rows for it.
    differs: bool,
}

/// Settings that change nothing of which rows a statement touches.
const INDIFFERENT: [&str; 7] = [
    "application_name",
    "bytea_output",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
];

impl Altered {
    fn note(&mut self, text: &str) {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.digest);
        digest.update(text.as_bytes());
        self.digest.copy_from_slice(digest.finish().as_ref());
        if self.last.len() >= SETTINGS {
            self.last.remove(0);
        }
        let end = text.floor_char_boundary(SETTING);
        self.last
            .push(text.get(..end).unwrap_or_default().to_owned());
    }

    /// In words; what is not shown any more is in the hash.
    fn shown(&self) -> Vec<String> {
        let mut shown = self.last.clone();
        if !shown.is_empty() {
            shown.push(format!("settings {}", hex::encode(self.digest)));
        }
        shown
    }
}

/// Whose word a request has.
#[derive(Debug)]
pub(in crate::session) enum Consent {
    /// Nobody's; it may need none.
    Nobodys,
    /// People are asked when it is run.
    WhenRun,
    /// People's.
    Given(Arc<Word>),
}

impl Consent {
    pub(in crate::session) fn word(&self) -> Option<&Arc<Word>> {
        match self {
            Self::Given(word) => Some(word),
            Self::Nobodys | Self::WhenRun => None,
        }
    }
}

impl Approved for Consent {
    fn covers(&self, needs: &Needs) -> bool {
        match self {
            Self::Nobodys => NotApproved.covers(needs),
            Self::WhenRun => AskedWhenRun.covers(needs),
            Self::Given(word) => word.covers(needs),
        }
    }
}

/// Counts those that wait, as long as they do.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    /// Whether policy leaves anything to people.
    pub(in crate::session) fn asks_people(&self) -> bool {
        self.services.policy.current().asks_people()
    }

    /// Notes a permitted request that sets something, or may: what comes later may mean something else.
    pub(in crate::session) fn note(&self, phase: Phase, text: &str, reading: &Reading) {
        let may_set = |access: &Access| {
            access.action.runs_code()
                || matches!(access.action, Action::Set | Action::System | Action::Ddl)
        };
        let of = |ask: &Ask| !ask.context.settings.is_empty() || ask.accesses.iter().any(may_set);
        let differs = |ask: &Ask| {
            let is_more = |access: &Access| may_set(access) && access.action != Action::Set;
            let mut settings = ask.context.settings.iter();
            of(ask)
                && (ask.context.settings.is_empty()
                    || ask.accesses.iter().any(is_more)
                    || settings.any(|name| !INDIFFERENT.contains(&name.as_str())))
        };
        if phase == Phase::Execute && reading.asks.iter().any(of) {
            let mut altered = lock(&self.altered);
            altered.note(text);
            altered.differs |= reading.asks.iter().any(differs);
        }
    }

    /// The word of people, where the request needs it: waits for it.
    ///
    /// # Errors
    /// The refusal: people said no, or nothing in time, or cannot be asked.
    pub(in crate::session) async fn consent(
        &self,
        phase: Phase,
        said: &Said<'_>,
        reading: &Reading,
    ) -> Result<Consent, Refusal> {
        let needs = match reading.veto {
            Some(_) => Vec::new(),
            None => {
                let policy = self.services.policy.current();
                let held = self.who.holding(&self.services);
                self.verdicts.needs(&policy, &reading.asks, &held)
            }
        };
        let has = |word: &&Arc<Word>| needs.iter().all(|needs| word.covers(needs));
        match (needs.is_empty(), phase, said.word.filter(has)) {
            (true, _, _) => Ok(Consent::Nobodys),
            (false, Phase::Prepare, _) if reading.asks.iter().any(runs_when_planned) => {
                let why = "planning it may run what it calls: send it as a simple query";
                Err(Refusal::not_askable(&reading.summary, why))
            }
            (false, Phase::Prepare, _) => Ok(Consent::WhenRun),
            (false, Phase::Execute, Some(word)) => Ok(Consent::Given(Arc::clone(word))),
            (false, Phase::Execute, None) => {
                let word = self.ask_people(said, reading, needs).await?;
                Ok(Consent::Given(Arc::new(word)))
            }
        }
    }

    async fn ask_people(
        &self,
        said: &Said<'_>,
        reading: &Reading,
        needs: Vec<Needs>,
    ) -> Result<Word, Refusal> {
        let shown = said
            .shown
            .map_err(|why| Refusal::not_askable(&reading.summary, why))?;
        let question = self.question(said.text, shown, reading, needs)?;
        let (needs, until) = (question.needs.clone(), question.until);
        let asked = self.services.approvals.ask(question, clock::boot(), |new| {
            self.write_asked(new, reading)
        });
        let asked = asked.await;
        let (id, new, mut ticket) =
            match asked.map_err(|error| No::Unasked(error).refusal(&reading.summary))? {
                (Found::Approved(word), _) => return self.use_up(word, reading).await,
                (Found::Denied(answer), _) => {
                    return Err(No::Denied(answer).refusal(&reading.summary));
                }
                (Found::Open { id, new }, Some(ticket)) => (id, new, ticket),
                (Found::Open { .. }, None) => {
                    return Err(No::Over(None).refusal(&reading.summary));
                }
            };
        if new {
            self.examine(id, said, reading)?;
        }
        let retry = |id: ApprovalId| {
            Refusal::waits_for_people(&reading.summary, &approvals::who(&needs), id)
        };
        let patience = self.patience(said, reading, until);
        if patience.is_zero() {
            return match ticket.last_look() {
                Some(Outcome::Approved(word)) => self.use_up(word, reading).await,
                _ => Err(retry(id)),
            };
        }
        said.hold.begin(id);
        let _waiting = Waiting::new(&self.waiting);
        let outcome = tokio::select! {
            outcome = ticket.answered() => Some(outcome),
            () = said.hold.given_up() => return Err(Refusal::cancelled()),
            () = tokio::time::sleep(patience) => ticket.last_look(),
        };
        match outcome {
            Some(Outcome::Approved(word)) => self.use_up(word, reading).await,
            Some(Outcome::Denied(answer)) => Err(No::Denied(answer).refusal(&reading.summary)),
            Some(Outcome::Over(why)) => Err(No::Over(why).refusal(&reading.summary)),
            None => Err(retry(id)),
        }
    }

    /// Has the server say what the request would touch, beside the session. Nothing waits for it.
    fn examine(&self, id: ApprovalId, said: &Said<'_>, reading: &Reading) -> Result<(), Refusal> {
        let Some(Look(look)) = said.look else {
            return Ok(());
        };
        let approvals = &self.services.approvals;
        let inside = said.begun || reading.asks.iter().any(|ask| ask.context.in_transaction);
        let why = match (inside, lock(&self.altered).differs) {
            (true, _) => {
                "it is inside of a transaction, and nobody else sees what that has changed"
            }
            (false, true) => {
                "the session has set something, after which it may see other rows than others"
            }
            (false, false) => {
                let about = self.about();
                let event = Event::ApprovalExamined {
                    about,
                    approval: id,
                };
                let written = self.services.audit.append(&event);
                written.map_err(|error| storage(&error))?;
                let (services, looking) = (Arc::clone(&self.services), look());
                tokio::spawn(async move { services.approvals.touches(id, looking.await) });
                return Ok(());
            }
        };
        approvals.touches(id, Touches::unknown(why));
        Ok(())
    }

    /// How long a request may wait. One inside of a transaction holds locks meanwhile: it comes back.
    fn patience(&self, said: &Said<'_>, reading: &Reading, until: BootTime) -> Duration {
        let inside = said.begun || reading.asks.iter().any(|ask| ask.context.in_transaction);
        match inside {
            true => Duration::ZERO,
            false => {
                let most = until.since(clock::boot());
                let most = said.patience.map_or(most, |own| own.min(most));
                self.who.target.timeouts.hold.min(most)
            }
        }
    }

    fn question(
        &self,
        text: &str,
        shown: &Shown,
        reading: &Reading,
        needs: Vec<Needs>,
    ) -> Result<Question, Refusal> {
        let who = &self.who;
        let principal = &who.principal;
        let values = shown.values.as_ref();
        let mut under = shown.under.clone();
        under.extend(lock(&self.altered).shown());
        let lengths = values
            .iter()
            .flat_map(|values| values.shown.iter().flatten());
        let lengths = lengths.chain(&under).map(String::len);
        if lengths.fold(text.len(), usize::saturating_add) > SHOWN {
            return Err(Refusal::not_askable(
                &reading.summary,
                "it is longer than what people are shown",
            ));
        }
        let holder = Holder::of(principal, who.flow.scope);
        let question = Question::of(principal, holder, needs)
            .map_err(|_error| Refusal::internal("the caller cannot be described"))?;
        Ok(Question {
            target: who.target.name.clone(),
            database: self.database.clone(),
            summary: reading.summary.to_string(),
            fingerprint: reading.fingerprint.to_string(),
            shape: match values {
                Some(values) => format!("{} of {}", reading.redacted, values.types),
                None => reading.redacted.to_string(),
            },
            varies: shown.varies,
            text: text.to_owned(),
            values: values.map(|values| values.shown.clone()),
            digest: values.map(|values| hex::encode(values.digest)),
            literals: shown.literals.clone(),
            under,
            ..question
        })
    }

    fn write_asked(&self, question: &Question, reading: &Reading) -> Result<(), String> {
        let event = Event::ApprovalAsked {
            about: self.about(),
            approval: question.id,
            summary: &reading.summary,
            fingerprint: &reading.fingerprint,
            needs: &question.needs,
        };
        let written = self.services.audit.append(&event);
        written.map(drop).map_err(|error| error.to_string())
    }

    async fn use_up(&self, word: Word, reading: &Reading) -> Result<Word, Refusal> {
        let (principal, scope) = (&self.who.principal, self.who.flow.scope);
        let holder = Holder::of(principal, scope);
        let pid = principal.process.pid;
        answering::use_up(&self.services, &holder, pid, word)
            .await
            .map_err(|why| why.refusal(&reading.summary))
    }
}

/// Whether planning may run some of it already: the server computes what it takes for constant.
fn runs_when_planned(ask: &Ask) -> bool {
    ask.accesses.iter().any(|access| access.action.runs_code())
}
