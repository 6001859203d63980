//! The request loop of one PostgreSQL session, from the end of both logins to the end of the session.
//!
//! Two halves run side by side and meet in the ledger of owed replies: neither waits for the other
//! to move bytes, both are bounded. What a text asks for is read from its own grammar, the gate
//! decides, and a refusal is told so that the server fails by itself (`refuse`). What a reply of the
//! server cannot be ends the session.

mod account;
mod entry;
mod judge;
mod ledger;
mod parting;
mod patience;
mod pipe;
mod replies;
mod requests;
mod scope;
mod table;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio::sync::Notify;
use tokio::task::coop::unconstrained;
use tokio::time::{sleep, timeout};

use self::judge::Judge;
pub use self::judge::{Alone, Read, TEXT_MAX};
pub use self::ledger::Unexpected;
use self::ledger::{Ledger, Reported};
use self::parting::Parting;
pub use self::patience::Patience;
use self::patience::own::OwnTimeout;
use self::pipe::Pipe;
use self::replies::Replies;
use self::requests::Requests;
use super::facts::Names;
use super::mask::Watch;
use super::refuse;
use super::touch::Looker;
use super::wire;
use super::wire::backend::Status;
use super::wire::error::ErrorFields;
use crate::masking::detect::{self, Detectors};
use crate::policy::Refusal;
use crate::session::{Direction, EndReason, Gate};

/// How long a server that owes nothing may keep its side open once the client has closed its own.
const LINGER: Duration = Duration::from_secs(5);
/// How long the last words to a client may take.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long the message that is on its way to a client may still take where what it stood on is gone. What is
/// not whole by then is left as it is, and no word can follow it.
const LAST_MESSAGE: Duration = Duration::from_millis(80);

/// What a session has done for it outside of its own connections, each time that it is called. Whoever makes
/// it bounds its time.
pub type Errand = Box<dyn Fn() -> Doing + Send + Sync>;
/// Such a thing on its way; dropped, it is given up.
pub type Doing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the logins leave behind.
pub struct Start {
    /// What texts are read under. Its search path must be what the session's reset value is too, set
    /// in the startup packet or by the role, not by a `SET`; `prepared` is empty.
    pub names: Names,
    /// Reads texts.
    pub read: Read,
    /// What the database looks like, where something in it may be masked.
    pub known: Option<Arc<Watch>>,
    /// Settings that the server reported; those that are missing count as not safe to read under,
    /// `search_path` excepted.
    pub parameters: Vec<(String, String)>,
    /// The last `ReadyForQuery`, which the client has had.
    pub status: Status,
    /// Bytes of the client after its login.
    pub from_client: BytesMut,
    /// Bytes of the server after the `ReadyForQuery`.
    pub from_upstream: BytesMut,
    /// Cancels upstream whatever runs.
    pub cancel: Errand,
    /// Closes what the daemon itself keeps open at the server, before a request that the server refuses
    /// while others use a database.
    pub step_aside: Errand,
    /// Looks beside the session at what a statement that waits for people would touch, where somebody can.
    pub look: Option<Looker>,
    /// What the client asked to set when it logged in: people are shown it.
    pub asked: Vec<String>,
    /// Whether something of that says by which ways rows are read.
    pub steered: bool,
    /// Notified when the client asks to cancel: what waits for people is given up.
    pub interrupted: Arc<Notify>,
    /// How long it may run, and how long it may wait.
    pub patience: Patience,
    /// What looks for values in the server's answers.
    pub detectors: Option<Arc<Detectors>>,
}

/// How a session ended.
#[derive(Debug)]
pub struct End {
    /// Why.
    pub why: Why,
    /// Bytes from the agent.
    pub sent: u64,
    /// Bytes to the agent.
    pub received: u64,
    /// Requests that went upstream.
    pub requests: u64,
    /// Requests that were refused.
    pub refused: u64,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The client closed it.
    #[error("the client closed the session")]
    Client,
    /// The connection to the client broke.
    #[error("relay to the client: {0}")]
    ClientLost(#[source] io::Error),
    /// The client does not speak the protocol.
    #[error("relay from the client: {0}")]
    ClientViolation(#[source] wire::Error),
    /// The server closed it without a word.
    #[error("the server closed the session")]
    Upstream,
    /// The server ended it with this SQLSTATE.
    #[error("the server ended the session: {0}")]
    Fatal(String),
    /// The connection to the server broke.
    #[error("relay to the server: {0}")]
    UpstreamLost(#[source] io::Error),
    /// The server did what its protocol does not allow: an alarm.
    #[error("relay from the server: {0}")]
    UpstreamViolation(#[source] Unexpected),
    /// The daemon ended it.
    #[error("the daemon ended the session: {0:?}")]
    Ended(EndReason),
    /// An answer held a value that is refused.
    #[error("the answer holds a value of the kind {}", .0.word())]
    Detected(detect::Kind),
    /// More is masked than when it made what may show that.
    #[error(
        "more is masked than when the session made a temporary view, or ran code that may have"
    )]
    Outlived,
    /// The recording cannot be written.
    #[error("record the session: {}", .0.message)]
    Storage(Refusal),
}

impl Why {
    /// Its word in the audit.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Client | Self::ClientLost(_) => "client",
            Self::Upstream | Self::Fatal(_) | Self::UpstreamLost(_) => "upstream",
            Self::UpstreamViolation(Unexpected::Unmasked { .. }) | Self::Outlived => "masking",
            Self::ClientViolation(_) | Self::UpstreamViolation(_) => "protocol",
            Self::Ended(reason) => reason.word(),
            Self::Detected(_) => "detected",
            Self::Storage(_) => "storage",
        }
    }

    /// How long a message may take that is on its way to the client.
    fn patience(&self) -> Duration {
        match self {
            Self::Ended(reason) if reason.takes_away() => LAST_MESSAGE,
            _ => LAST_WORDS,
        }
    }

    /// What the client is told, where the server has not said it.
    fn last_words(&self) -> Option<ErrorFields> {
        match self {
            Self::ClientViolation(error) => Some(refuse::violation(&error.to_string())),
            Self::UpstreamViolation(Unexpected::Unmasked { .. }) => Some(refuse::unmasked()),
            Self::UpstreamViolation(_) => Some(refuse::upstream()),
            Self::Ended(reason) => Some(refuse::ended(*reason)),
            Self::Outlived => Some(refuse::outlived()),
            Self::Detected(kind) => Some(refuse::detected(*kind)),
            Self::Storage(_) => Some(refuse::ended(EndReason::Storage)),
            Self::Client
            | Self::ClientLost(_)
            | Self::Upstream
            | Self::Fatal(_)
            | Self::UpstreamLost(_) => None,
        }
    }
}

/// What both halves see.
struct Shared<G: Gate> {
    ledger: Mutex<Ledger<G>>,
    /// The server answered something.
    answered: Notify,
    /// A reply of ours waits for its turn.
    local: Notify,
    /// An answer was cut, whose statement is to be cancelled.
    cut: Notify,
    /// The client asked to cancel.
    interrupted: Arc<Notify>,
    /// The server is to be made to fail, since it did not know of a cut.
    due: Notify,
    /// Whether the client has had whole messages, so that one more can follow.
    whole: AtomicBool,
    /// The session ends at the next whole message.
    stopping: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
}

impl<G: Gate> Shared<G> {
    fn new(ledger: Ledger<G>, interrupted: Arc<Notify>) -> Self {
        Self {
            interrupted,
            ledger: Mutex::new(ledger),
            answered: Notify::new(),
            local: Notify::new(),
            cut: Notify::new(),
            due: Notify::new(),
            whole: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<G>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_sent(&self, bytes: usize) {
        count(&self.sent, bytes);
    }

    fn count_received(&self, bytes: usize) {
        count(&self.received, bytes);
    }

    fn count_request(&self) {
        count(&self.requests, 1);
    }

    fn count_refused(&self) {
        count(&self.refused, 1);
    }

    fn end(&self, why: Why) -> End {
        End {
            why,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

fn count(counter: &AtomicU64, more: usize) {
    let more = u64::try_from(more).unwrap_or(u64::MAX);
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Relays until the session ends, and says how it did. Both streams are closed then. Every request
/// that was authorized has been finished when this returns or is dropped.
pub async fn relay<C, U, G>(gate: Arc<G>, client: C, upstream: U, start: Start) -> End
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    U: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    G: Gate,
{
    let mut ledger = ledger_of(&start);
    let settings = &mut ledger.lookout.settings;
    for (name, value) in &start.parameters {
        settings.learn(name.as_bytes(), value.as_bytes());
    }
    let shared = Shared::new(ledger, Arc::clone(&start.interrupted));
    // What the logins said is of no use any more, and a session may be long.
    let Start {
        names,
        read,
        known,
        parameters,
        status: _,
        from_client,
        from_upstream,
        cancel,
        step_aside,
        interrupted: _,
        look,
        asked,
        steered,
        patience,
        detectors: _,
    } = start;
    drop(parameters);
    let (client_reads, mut client_writes) = tokio::io::split(client);
    let (mut upstream_reads, mut upstream_writes) = tokio::io::split(upstream);
    let requests = Requests {
        gate: Arc::clone(&gate),
        shared: &shared,
        client: client_reads,
        upstream: &mut upstream_writes,
        pipe: Pipe::new(from_client),
        judge: Judge::new(read, names, known),
        step_aside: &step_aside,
        asked: &asked,
        look: look.as_ref(),
        described: None,
        left: steered.then(|| gate.masks()).into_iter().collect(),
        guard: None,
        own_timeout: OwnTimeout::new(&asked),
        interrupts: 0,
    };
    let mut replies = Replies {
        gate: Arc::clone(&gate),
        shared: &shared,
        upstream: &mut upstream_reads,
        client: &mut client_writes,
        pipe: Pipe::new(from_upstream),
        last: None,
    };
    // Answers that are always ready to be read and written leave nothing of the task's budget: an end is seen
    // all the same.
    let limits = unconstrained(async {
        tokio::select! {
            biased;
            reason = gate.ended() => reason,
            reason = patience::watch(&shared, patience, &cancel) => reason,
            reason = patience::cut(&shared, patience.obeys, &cancel) => reason,
            never = patience::hear(&shared) => match never {},
        }
    });
    let (why, cancelling) = {
        // By reference: a future that is handed on by value is kept twice.
        let (requests, replies) = (pin!(requests.run()), pin!(replies.run()));
        both((&shared, &cancel), pin!(limits), requests, replies).await
    };
    let parting = Parting::new(replies.pipe, (&mut upstream_reads, &mut upstream_writes));
    let cancelling = cancelling.unwrap_or_else(|| cancels(&shared, &why, &cancel));
    let client = client_writes;
    close(&*gate, (&shared, &why), client, (parting, cancelling)).await;
    shared.end(why)
}

fn ledger_of<G: Gate>(start: &Start) -> Ledger<G> {
    let parameter = |name: &str| {
        start
            .parameters
            .iter()
            .rfind(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    };
    let path = start.names.search_path.clone().map(Arc::new);
    let reported = Reported {
        search_path: parameter("search_path")
            .unwrap_or_default()
            .as_bytes()
            .into(),
        utf8: parameter("client_encoding").is_some_and(|name| name.eq_ignore_ascii_case("UTF8")),
        conforming: parameter("standard_conforming_strings") == Some("on"),
    };
    let mut ledger = Ledger::new(path, start.status, reported, start.known.clone());
    if let Some(detectors) = &start.detectors {
        ledger.look_with(Arc::clone(detectors));
    }
    ledger
}

/// The cancel with which a session ends, on its way; `None` where there is nothing to cancel.
type Cancelling = Option<Doing>;

/// Cancels what runs where we are who ends the session.
fn cancels<G: Gate>(shared: &Shared<G>, why: &Why, cancel: &Errand) -> Cancelling {
    let is_due = why.last_words().is_some() && !shared.ledger().is_settled();
    is_due.then(cancel)
}

/// Runs both halves until one says why the session ends, or `ended` does. When the client has closed, or
/// the server takes no more, what the server still has to say is relayed first. `ended` is polled last: it
/// sees what the halves have just done. Also gives the cancel where that is on its way already.
async fn both<G: Gate>(
    (shared, cancel): (&Shared<G>, &Errand),
    mut ended: Pin<&mut impl Future<Output = EndReason>>,
    mut requests: Pin<&mut impl Future<Output = Result<(), Why>>>,
    mut replies: Pin<&mut impl Future<Output = Why>>,
) -> (Why, Option<Cancelling>) {
    let left = tokio::select! {
        biased;
        why = &mut replies => return (why, None),
        left = &mut requests => match left {
            Ok(()) => Ok(Why::Client),
            Err(why @ Why::UpstreamLost(_)) => Ok(why),
            Err(why) => Err(why),
        },
        reason = &mut ended => Err(Why::Ended(reason)),
    };
    let why = match left {
        Ok(left) => tokio::select! {
            biased;
            why = &mut replies => return match why {
                Why::Upstream | Why::UpstreamLost(_) | Why::ClientLost(_) => (left, None),
                why => (why, None),
            },
            () = linger(shared, &left) => return (left, None),
            reason = &mut ended => Why::Ended(reason),
        },
        Err(why) => why,
    };
    let cancelling = cancels(shared, &why, cancel);
    let cancelling = complete(shared, &why, replies, cancelling).await;
    (why, Some(cancelling))
}

/// Completes the message that is on its way to the client, so that one more can follow: nothing that comes
/// behind it, and for a short time where it stands on nothing any more. The cancel goes out beside it.
async fn complete<G: Gate>(
    shared: &Shared<G>,
    why: &Why,
    replies: Pin<&mut impl Future<Output = Why>>,
    mut cancelling: Cancelling,
) -> Cancelling {
    shared.stopping.store(true, Ordering::Relaxed);
    shared.local.notify_one();
    let mut rest = pin!(timeout(why.patience(), replies));
    if let Some(doing) = &mut cancelling {
        tokio::select! {
            biased;
            () = doing => {}
            _ = &mut rest => return cancelling,
        }
        cancelling = Some(Box::pin(std::future::ready(())));
    }
    drop(rest.await);
    cancelling
}

/// A server that owes nothing must close soon once its client has.
async fn linger<G: Gate>(shared: &Shared<G>, left: &Why) {
    loop {
        sleep(LINGER).await;
        if shared.ledger().is_settled() || matches!(left, Why::UpstreamLost(_)) {
            return;
        }
    }
}

/// The end: what runs is cancelled where we are who ends it, and the client is told why. Neither waits for
/// the other.
async fn close<C, U, G>(
    gate: &G,
    (shared, why): (&Shared<G>, &Why),
    mut client: WriteHalf<C>,
    (parting, cancelling): (Parting<'_, U>, Cancelling),
) where
    C: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
    G: Gate,
{
    let cancelled = async {
        match (cancelling, why) {
            (None, _) => {}
            // Nothing that it says can be read.
            (Some(doing), Why::UpstreamViolation(_)) => doing.await,
            (Some(doing), _) => parting.cancel(gate, doing).await,
        }
    };
    let told = async {
        if let Some(words) = why.last_words()
            && shared.whole.load(Ordering::Relaxed)
        {
            let words = words.response();
            // The session ends all the same where these cannot be kept or sent.
            drop(gate.record(Direction::Received, words.clone()).await);
            drop(timeout(LAST_WORDS, client.write_all(&words)).await);
        }
        drop(timeout(LAST_WORDS, client.shutdown()).await);
    };
    tokio::join!(cancelled, told);
}

#[cfg(test)]
mod tests;
