//! From the client to the server: each message is read, judged where it asks for something, forwarded.
//!
//! Only [`Requests::request`] forwards what policy judges, and it takes the permit. Waits for the server
//! only where the meaning of the next message depends on an answer; otherwise never, whatever is owed.

mod apart;
mod hold;
mod messages;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use self::apart::Apart;
use super::super::mask::Masking;
use super::super::refuse;
use super::super::touch::Looker;
use super::super::wire::error::ErrorFields;
use super::super::wire::{self, Header, frontend};
use super::account::{Account, SKIPPED};
use super::entry::{Change, Entry, Kind, Statement};
use super::judge::{self, Judge, Text};
use super::ledger::{self, Guard, Ledger, Part, Standing};
use super::patience::own::OwnTimeout;
use super::pipe::{self, Fate, Pipe};
use super::scope::Scope;
use super::table::Name;
use super::{Errand, Shared, Why};
use crate::masking::Masks;
use crate::policy::{Permit, Refusal};
use crate::session::{Allowance, Authorized, Direction, Gate, Phase, Refused};

/// What the loop does after one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It takes the next.
    Next,
    /// It reads until so many bytes of the same message are there.
    Need(usize),
    /// It forwards what is decided and reads no more.
    Closed,
}

/// What reading a text needs.
enum Attempt {
    Known(Arc<Statement>),
    Until(u64),
    Read(
        Arc<str>,
        Scope,
        Option<std::collections::HashMap<String, super::super::facts::Prepared>>,
    ),
}

/// The client's half of the loop.
pub(super) struct Requests<'a, R, W, G: Gate> {
    pub(super) gate: Arc<G>,
    pub(super) shared: &'a Shared<G>,
    pub(super) client: R,
    pub(super) upstream: W,
    pub(super) pipe: Pipe,
    pub(super) judge: Judge,
    /// Done before a request that needs its database to itself.
    pub(super) step_aside: &'a Errand,
    /// What the client asked to set when it logged in, as people are shown it.
    pub(super) asked: &'a [String],
    /// Looks at what a statement that waits for people would touch.
    pub(super) look: Option<&'a Looker>,
    /// The portal whose rows were described, and by what they were looked at.
    pub(super) described: Option<(Name, Arc<Guard>)>,
    /// What was masked whenever something was run, or brought at the login, that may show rows later.
    pub(super) left: Vec<Arc<Masks>>,
    /// What is looked at in the server's answers, with what it was made of.
    pub(super) guard: Option<(Arc<Masking>, Arc<Guard>)>,
    /// How long the client lets a statement run.
    pub(super) own_timeout: OwnTimeout,
    /// How many cancels had come for what waits here when the request at hand was read.
    pub(super) interrupts: u64,
}

impl<R, W, G> Requests<'_, R, W, G>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    G: Gate,
{
    /// Runs until the client closes.
    ///
    /// # Errors
    /// Why the session must end instead.
    pub(super) async fn run(mut self) -> Result<(), Why> {
        loop {
            match self.decide().await? {
                Step::Next => {}
                Step::Need(need) if self.fill(need).await? => {}
                Step::Need(_) | Step::Closed => break,
            }
        }
        self.end_limited().await?;
        self.flush().await?;
        self.upstream.shutdown().await.map_err(Why::UpstreamLost)
    }

    /// Waits for the end of what is counted: a client that leaves does not keep it from its commit, nor from its
    /// cut.
    async fn end_limited(&mut self) -> Result<(), Why> {
        if !self.shared.ledger().has_limited() {
            return Ok(());
        }
        // A server that reads data hears that there is no more.
        let done =
            |ledger: &Ledger<G>| !ledger.has_limited() || ledger.standing() == Standing::Copying;
        self.wait(done).await
    }

    /// Decides the messages that are there.
    async fn decide(&mut self) -> Result<Step, Why> {
        loop {
            let Some(header) = frontend::header(self.pipe.front())? else {
                return Ok(Step::Need(wire::HEADER));
            };
            match self.message(header).await? {
                Step::Next if self.pipe.is_ripe() => self.flush().await?,
                Step::Next => {}
                step => return Ok(step),
            }
        }
    }

    /// Reads more; what is decided is forwarded first where this takes time. False at the end.
    async fn fill(&mut self, need: usize) -> Result<bool, Why> {
        if self.pipe.is_ripe() {
            self.flush().await?;
        }
        let now = pipe::poll_once(pin!(self.pipe.read(&mut self.client, need))).await;
        let more = match now {
            Poll::Ready(more) => more,
            Poll::Pending => {
                self.flush().await?;
                tokio::select! {
                    more = self.pipe.await_more(&mut self.client, need) => more,
                    () = self.shared.due.notified() => {
                        self.pay();
                        Ok(true)
                    }
                }
            }
        };
        more.map_err(Why::ClientLost)
    }

    /// Records and forwards what is decided.
    async fn flush(&mut self) -> Result<(), Why> {
        let mut decided = self.pipe.take();
        if !decided.came.is_empty() {
            self.shared.count_sent(decided.came.len());
            let came = std::mem::take(&mut decided.came);
            self.gate
                .record(Direction::Sent, came)
                .await
                .map_err(Why::Storage)?;
        }
        if decided.goes.is_empty() {
            return Ok(());
        }
        pipe::write(&mut self.upstream, &mut decided.goes)
            .await
            .map_err(Why::UpstreamLost)
    }

    async fn message(&mut self, header: Header) -> Result<Step, Why> {
        if header.tag == frontend::TERMINATE {
            self.end_limited().await?;
            self.unjudged(header.whole());
            return Ok(Step::Closed);
        }
        let (standing, interrupts) = {
            let ledger = self.shared.ledger();
            (ledger.standing(), ledger.interrupts())
        };
        match standing {
            Standing::Open => {
                self.interrupts = interrupts;
                return self.open(header).await;
            }
            Standing::Waiting => {
                self.wait(|ledger| ledger.standing() != Standing::Waiting)
                    .await?;
            }
            Standing::Skipping if header.tag == frontend::SYNC => self.sync(header.whole()),
            Standing::Skipping => self.pipe.decide(header.whole(), Fate::Drop),
            Standing::Copying => self.copying(header)?,
            Standing::Streaming => self.streaming(header)?,
        }
        Ok(Step::Next)
    }

    /// The server reads data, and ignores `Flush` and `Sync` in it (`CopyGetData`, `copyfromparse.c`);
    /// all other messages make it end the session. They end here, so that nobody has to guess whether
    /// the server had failed before it read them.
    fn copying(&mut self, header: Header) -> Result<(), Why> {
        match header.tag {
            frontend::COPY_DATA => self.unjudged(header.whole()),
            frontend::COPY_DONE | frontend::COPY_FAIL => {
                self.shared.ledger().copied();
                self.unjudged(header.whole());
            }
            frontend::FLUSH | frontend::SYNC => self.pipe.decide(header.whole(), Fate::Drop),
            tag => {
                return Err(Why::ClientViolation(wire::Error::Value {
                    field: "tag in the data of a COPY",
                    value: i64::from(tag),
                }));
            }
        }
        Ok(())
    }

    /// The server reads data while it sends some, and ends the session at whatever else it reads
    /// (`ProcessRepliesIfAny`, `walsender.c`). That ends here, for the same reason.
    fn streaming(&mut self, header: Header) -> Result<(), Why> {
        match header.tag {
            frontend::COPY_DATA => {}
            frontend::COPY_DONE => self.shared.ledger().copied(),
            tag => {
                return Err(Why::ClientViolation(wire::Error::Value {
                    field: "tag in the data of replication",
                    value: i64::from(tag),
                }));
            }
        }
        self.unjudged(header.whole());
        Ok(())
    }

    /// Waits for the server. Whatever it keeps back is flushed out of it.
    async fn wait(&mut self, done: impl Fn(&Ledger<G>) -> bool) -> Result<(), Why> {
        if self.shared.ledger().batched() {
            self.pipe.put(frontend::make_bare(frontend::FLUSH));
        }
        self.flush().await?;
        loop {
            if self.pay() {
                self.flush().await?;
            }
            if done(&self.shared.ledger()) {
                return Ok(());
            }
            self.shared.answered.notified().await;
        }
    }

    /// Sends the server what it is owed by us. Whether anything was.
    fn pay(&mut self) -> bool {
        let due = self.shared.ledger().take_due();
        let pays = !due.is_empty();
        due.into_iter().for_each(|message| self.pipe.put(message));
        pays
    }

    async fn wait_for(&mut self, number: u64) -> Result<(), Why> {
        self.wait(|ledger| ledger.answered(number)).await
    }

    /// What a text asks for, under what it will be run under.
    async fn judge(&mut self, text: &Text) -> Result<Arc<Statement>, Why> {
        if self.judge.is_watching() {
            self.await_known().await?;
        }
        loop {
            match self.attempt(text) {
                Attempt::Known(statement) => return Ok(statement),
                Attempt::Until(number) => self.wait_for(number).await?,
                Attempt::Read(text, scope, prepared) => {
                    return Ok(self.judge.read(&text, &scope, prepared).await);
                }
            }
        }
    }

    /// Waits until it is known what the database looks like, where something is masked in it.
    async fn await_known(&mut self) -> Result<(), Why> {
        let is_changing = self.shared.ledger().is_changing();
        if let Some(watch) = self.judge.waits_for(&self.gate.masks(), is_changing) {
            self.flush().await?;
            watch.ready(is_changing).await;
        }
        Ok(())
    }

    /// Reads, and looks at answers, by what is masked now.
    fn heed(&mut self) {
        self.judge.heed(self.gate.masks());
        let known = self.guard.as_ref().map(|(masking, _)| masking);
        let masking = self.judge.masking();
        let same = match (known, masking) {
            (None, None) => true,
            (Some(known), Some(masking)) => Arc::ptr_eq(known, masking),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if same {
            return;
        }
        self.guard = masking.map(|masking| {
            let guard = Arc::new(Guard::new(masking));
            (Arc::clone(masking), guard)
        });
        let guard = self.guard.as_ref().map(|(_, guard)| Arc::clone(guard));
        self.shared.ledger().lookout.guard = guard;
    }

    /// Has a portal's rows described before they come, where somebody must look at where they are from, and
    /// the client does not ask.
    fn describe_first(&mut self, portal: &Name) {
        let Some((_, guard)) = &self.guard else {
            return;
        };
        let known = self
            .described
            .as_ref()
            .is_some_and(|(described, by)| described == portal && Arc::ptr_eq(by, guard));
        if known {
            return;
        }
        let mut ledger = self.shared.ledger();
        if ledger.standing() == Standing::Skipping {
            return;
        }
        ledger.owe(Entry::silent(Kind::DescribePortal));
        drop(ledger);
        self.pipe.put(frontend::make_describe_portal(portal));
        self.described = Some((portal.clone(), Arc::clone(guard)));
    }

    fn attempt(&mut self, text: &Text) -> Attempt {
        self.heed();
        let ledger = self.shared.ledger();
        let scope = match ledger.scope() {
            Ok(scope) => scope,
            Err(until) => return Attempt::Until(until),
        };
        let text = match text {
            Text::Whole(text) if scope.readable() => text,
            Text::Whole(text) | Text::Front(text) => {
                return Attempt::Known(judge::unread(text, scope, self.judge.masking()));
            }
        };
        if let Some(statement) = self.judge.recall(text, scope) {
            return Attempt::Known(statement);
        }
        let prepared = match judge::may_execute(text).then(|| ledger.prepared(self.judge.masking()))
        {
            Some(Err(until)) => return Attempt::Until(until),
            Some(Ok(prepared)) => Some(prepared),
            None => None,
        };
        Attempt::Read(Arc::clone(text), scope.clone(), prepared)
    }

    /// Asks the gate, which refuses what masking does not let through.
    async fn authorize(
        &mut self,
        (phase, is_portal): (Phase, bool),
        statement: &Statement,
    ) -> Result<Result<Authorized, Refused>, Why> {
        // Nothing can be put in the place of what a temporary view shows.
        let masks = self.gate.masks();
        if !self.left.iter().all(|then| masks.is_within(then)) {
            return Err(Why::Outlived);
        }
        let answer = self.ask((phase, is_portal), statement).await?;
        // No gate lets through what masking does not; one that does is not believed.
        let veto = statement.reading.veto.as_deref().cloned();
        // What is masked more since the text was read is either seen here, or ends what is in flight.
        let veto = veto.or_else(|| {
            let is_read_so = self.gate.masks().is_within(self.judge.masks());
            (!is_read_so).then(Refusal::masked_since)
        });
        let is_counted = matches!(&answer, Ok(authorized) if authorized.allowance.is_some());
        let veto =
            veto.or_else(|| (is_counted && statement.hides_rows()).then(Refusal::not_counted));
        let is_mixed = phase == Phase::Execute && self.shared.ledger().is_apart();
        let veto = veto.or_else(|| is_mixed.then(Refusal::counted_alone));
        Ok(answer.and_then(|authorized| match veto {
            None => Ok(authorized),
            Some(refusal) => {
                let request = authorized.request;
                Account::new(&self.gate, request).failed(SKIPPED);
                Err(Refused { request, refusal })
            }
        }))
    }

    /// Judges and forwards what runs `statement`, or refuses it.
    async fn run_statement(
        &mut self,
        (kind, portal): (Kind, Option<&Name>),
        size: usize,
        statement: Arc<Statement>,
    ) -> Result<Step, Why> {
        if !self.shared.ledger().has_room_for(&statement) {
            let error = refuse::too_many("prepared statements or cursors");
            self.refuse(kind, size, &error, false);
            return Ok(Step::Next);
        }
        let statement = self.with_portals(statement).await?;
        let judged = self.authorize((Phase::Execute, portal.is_some()), &statement);
        match judged.await? {
            Ok(authorized) if self.is_interrupted() => {
                let mut account = Account::new(&self.gate, authorized.request);
                account.failed(refuse::CANCELLED);
                self.refuse(kind, size, &refuse::cancelled(), false);
            }
            Ok(authorized) => {
                self.own_timeout.note(&statement.text, &statement.reading);
                let mut account = Account::new(&self.gate, authorized.request);
                let own = match self.apart(kind, &statement, authorized.allowance).await? {
                    Apart::Not => None,
                    Apart::Ours => Some(Part::Runs),
                    Apart::Failed => {
                        account.failed(SKIPPED);
                        self.pipe.decide(size, Fate::Drop);
                        return Ok(Step::Next);
                    }
                    Apart::Mixed => {
                        account.failed(SKIPPED);
                        let (request, refusal) = (authorized.request, Refusal::counted_alone());
                        self.refused(kind, size, &Refused { request, refusal }, false);
                        return Ok(Step::Next);
                    }
                };
                if statement.is_about_a_database() {
                    self.flush().await?;
                    (self.step_aside)().await;
                }
                let instead = match (&statement.rewrite, kind) {
                    (Some(rewrite), Kind::Query) => Some(frontend::make_query(&rewrite.text)),
                    _ => None,
                };
                match portal {
                    Some(portal) => self.describe_first(portal),
                    None => self.described = None,
                }
                if statement.leaves() {
                    let masks = self.judge.masks();
                    if !self.left.iter().any(|then| then.is_within(masks)) {
                        self.left.push(Arc::clone(masks));
                    }
                }
                if statement.lasts() || portal.is_some_and(|name| !name.is_empty()) {
                    self.gate.lasts(authorized.request);
                }
                let change = Change::Runs(statement);
                let mut entry = Entry::permitted(kind, account, change);
                entry.own = own;
                let flush = kind == Kind::Execute && entry.may_copy;
                let allowed = (authorized.permit, authorized.allowance);
                self.request((allowed, portal), entry, size, instead);
                if flush {
                    self.pipe.put(frontend::make_bare(frontend::FLUSH));
                }
            }
            Err(refused) => self.refused(kind, size, &refused, false),
        }
        Ok(Step::Next)
    }

    /// Whether the client has cancelled the request at hand: the cancel that was passed on found nothing.
    fn is_interrupted(&self) -> bool {
        self.shared.ledger().interrupts() != self.interrupts
    }

    /// A statement with what it takes to run the portals that it fetches from. What a cursor takes was judged
    /// when it was declared.
    async fn with_portals(&mut self, statement: Arc<Statement>) -> Result<Arc<Statement>, Why> {
        let mut with = Arc::clone(&statement);
        for name in statement.fetched() {
            let portal = self.find(|ledger| ledger.portal(name.as_bytes())).await?;
            if let Some(portal) = portal.filter(|portal| !portal.declared) {
                with = Arc::new(with.fetching(&portal));
            }
        }
        Ok(with)
    }

    /// Forwards a request that policy permits, or `instead` of it what shows less. The only way for what
    /// runs or plans a text.
    fn request(
        &mut self,
        ((permit, allowance), portal): ((Permit, Option<Allowance>), Option<&Name>),
        mut entry: Entry<G>,
        size: usize,
        instead: Option<Bytes>,
    ) {
        if let Some(request) = entry.account.as_ref().map(Account::request) {
            let mut ledger = self.shared.ledger();
            let limits = (permit.limits(), allowance);
            ledger.limit(&mut entry, (portal, request), limits);
        }
        // The proof is used up.
        drop(permit);
        self.shared.count_request();
        self.owes(entry, size, instead);
    }

    /// Forwards a message that runs nothing, and is owed a reply: what it names was judged.
    fn owed(&mut self, entry: Entry<G>, size: usize) {
        self.owes(entry, size, None);
    }

    fn owes(&mut self, mut entry: Entry<G>, size: usize, instead: Option<Bytes>) {
        let mut ledger = self.shared.ledger();
        // An error may have come while the gate was thinking: the server skips this one.
        if ledger.standing() == Standing::Skipping {
            if let Some(account) = &mut entry.account {
                account.failed(SKIPPED);
            }
            drop(ledger);
            drop(entry);
            self.pipe.decide(size, Fate::Drop);
            return;
        }
        ledger.owe(entry);
        drop(ledger);
        match instead {
            None => self.pipe.decide(size, Fate::Pass),
            Some(instead) => {
                self.pipe.decide(size, Fate::Drop);
                self.pipe.put(instead);
            }
        }
    }

    /// Forwards a message that runs nothing, names nothing and is owed no reply: `Flush`,
    /// `Terminate`, data of a permitted `COPY`.
    fn unjudged(&mut self, size: usize) {
        self.pipe.decide(size, Fate::Pass);
    }

    fn sync(&mut self, size: usize) {
        let mut ledger = self.shared.ledger();
        let commit = ledger.commit_own();
        ledger.owe(Entry::new(Kind::Sync));
        drop(ledger);
        commit
            .into_iter()
            .for_each(|message| self.pipe.put(message));
        self.pipe.decide(size, Fate::Pass);
    }

    /// A refusal of policy.
    fn refused(&mut self, kind: Kind, size: usize, refused: &Refused, unnamed: bool) {
        self.shared.count_refused();
        self.refuse(kind, size, &refuse::refused(refused), unnamed);
    }

    /// Refuses a message: by ourselves where nothing is owed, otherwise by poison.
    fn refuse(&mut self, kind: Kind, size: usize, error: &ErrorFields, unnamed: bool) {
        let error: Bytes = error.response();
        let simple = matches!(kind, Kind::Query | Kind::Function);
        self.pipe.decide(size, Fate::Drop);
        let mut ledger = self.shared.ledger();
        if ledger.standing() == Standing::Skipping {
            return;
        }
        let idle = ledger.is_idle();
        let (mut entry, poison) = match (idle, simple) {
            (true, true) => (
                Entry::local(Kind::Query, ledger::whole_refusal(&error)),
                None,
            ),
            (true, false) => (Entry::local(Kind::Parse, error), None),
            (false, true) => (
                Entry::poison(Kind::Query, error),
                Some(refuse::poison_query()),
            ),
            (false, false) => (
                Entry::poison(Kind::Parse, error),
                Some(refuse::poison_parse(unnamed)),
            ),
        };
        if idle && (simple || unnamed) {
            // It would be gone had the server seen the message.
            ledger.statements.remove(b"");
        } else if unnamed {
            entry.change = Change::DropsStatement(Name::default());
        }
        ledger.owe(entry);
        if !simple {
            ledger.skip_batch();
        }
        drop(ledger);
        match poison {
            Some(poison) => self.pipe.put(poison),
            None => self.shared.local.notify_one(),
        }
    }
}
