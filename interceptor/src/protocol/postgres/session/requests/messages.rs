//! One function per message of the client: what of it is read, and what it names.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::super::super::refuse;
use super::super::super::wire::error::ErrorFields;
use super::super::super::wire::frontend::{self, NAME_READ, Object, PARSE_TYPES_MAX, cut};
use super::super::super::wire::{self, Body, HEADER, Header};
use super::super::Why;
use super::super::account::Account;
use super::super::entry::{BOUND_MAX, Change, Entry, Given, Kind, Made, Source, Statement};
use super::super::judge::{self, FRONT, TEXT_MAX, Text};
use super::super::ledger::Ledger;
use super::super::pipe::Fate;
use super::super::table::{Found, Name};
use super::{Requests, Step};
use crate::session::{Gate, Phase};

/// The longest body of a `Query` whose text can be read.
const QUERY_MAX: usize = TEXT_MAX + 1;
/// The longest body of a `Parse` whose text can be read.
const PARSE_MAX: usize = NAME_READ + 1 + TEXT_MAX + 1 + PARSE_TYPES_MAX;

/// Something that the client names and nobody knows.
struct Unknown {
    /// Nothing but the protocol makes what has no name, so that the server cannot know it either.
    named: bool,
    /// What the server says of what it does not know.
    error: ErrorFields,
}

impl Unknown {
    fn statement(name: &[u8]) -> Self {
        Self {
            named: !name.is_empty(),
            error: refuse::unknown_statement(name),
        }
    }

    fn portal(name: &[u8]) -> Self {
        Self {
            named: !name.is_empty(),
            error: refuse::unknown_portal(name),
        }
    }
}

impl<R, W, G> Requests<'_, R, W, G>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    G: Gate,
{
    /// A message that the server will read as what it is. One that does not have its form is an error there,
    /// which the session survives; so it is here.
    pub(super) async fn open(&mut self, header: Header) -> Result<Step, Why> {
        match self.take(header).await {
            Err(Why::ClientViolation(form)) => {
                let kind = if header.tag == frontend::QUERY {
                    Kind::Query
                } else {
                    Kind::Parse
                };
                let error = refuse::malformed(header.tag, &form);
                self.refuse(kind, header.whole(), &error, false);
                Ok(Step::Next)
            }
            taken => taken,
        }
    }

    async fn take(&mut self, header: Header) -> Result<Step, Why> {
        match header.tag {
            frontend::QUERY => return self.query(header).await,
            frontend::PARSE => return self.parse(header).await,
            frontend::BIND => return self.bind(header).await,
            frontend::EXECUTE => return self.execute(header).await,
            frontend::DESCRIBE => return self.describe(header).await,
            frontend::CLOSE => return self.close(header),
            frontend::FUNCTION_CALL => return self.function_call(header).await,
            frontend::SYNC => self.sync(header.whole()),
            frontend::FLUSH => {
                let whole = self.body(header.body).map(Body::new);
                match whole {
                    Ok(body) => body.end()?,
                    Err(need) => return Ok(need),
                }
                self.unjudged(header.whole());
            }
            // Data that no COPY asks for, after one that failed: the server throws it away
            // (`PostgresMain`), and so it need not have it.
            _ => self.pipe.decide(header.whole(), Fate::Drop),
        }
        Ok(Step::Next)
    }

    /// The body, up to `size` bytes of it, where they are there.
    fn body(&self, size: usize) -> Result<&[u8], Step> {
        let need = HEADER.saturating_add(size);
        self.pipe.front().get(HEADER..need).ok_or(Step::Need(need))
    }

    async fn query(&mut self, header: Header) -> Result<Step, Why> {
        let whole = header.body <= QUERY_MAX;
        let text = match self.body(if whole { header.body } else { FRONT }) {
            Ok(body) if whole => Text::whole(frontend::query(body)?),
            Ok(front) => Text::front(front),
            Err(need) => return Ok(need),
        };
        let statement = self.judge(&text).await?;
        self.run_statement((Kind::Query, None), header.whole(), statement)
            .await
    }

    async fn function_call(&mut self, header: Header) -> Result<Step, Why> {
        let statement = loop {
            self.heed();
            let masking = self.judge.masking();
            let scope = self
                .shared
                .ledger()
                .scope()
                .map(|scope| judge::function_call(scope, masking));
            match scope {
                Ok(statement) => break statement,
                Err(until) => self.wait_for(until).await?,
            }
        };
        self.run_statement((Kind::Function, None), header.whole(), statement)
            .await
    }

    async fn parse(&mut self, header: Header) -> Result<Step, Why> {
        let whole = header.body <= PARSE_MAX;
        let size = if whole {
            header.body
        } else {
            NAME_READ + 1 + FRONT
        };
        let (name, text): (Name, Text) = match self.body(size) {
            Ok(body) if whole => {
                let (name, text) = frontend::parse(body)?;
                (cut(name).into(), Text::whole(text))
            }
            Ok(front) => {
                let mut front = Body::new(front);
                match front.string("statement name") {
                    Ok(name) => (cut(name).into(), Text::front(front.rest())),
                    Err(_) => return Ok(self.refuse_long_name(header)),
                }
            }
            Err(need) => return Ok(need),
        };
        if !self.shared.ledger().statements.room(&name) {
            let error = refuse::too_many("prepared statements");
            self.refuse(Kind::Parse, header.whole(), &error, name.is_empty());
            return Ok(Step::Next);
        }
        let statement = self.judge(&text).await?;
        let statement = match self.gate.asks_people() && whole {
            true => match self.body(header.body) {
                Ok(body) => Arc::new(statement.with(Given::parsed(body)?)),
                Err(need) => return Ok(need),
            },
            false => statement,
        };
        match self.authorize((Phase::Prepare, false), &statement).await? {
            Ok(authorized) => {
                let instead = match &statement.rewrite {
                    Some(rewrite) => match self.body(header.body) {
                        Ok(body) => Some(frontend::parse_as(body, &rewrite.text)?),
                        Err(need) => return Ok(need),
                    },
                    None => None,
                };
                let account = Account::new(&self.gate, authorized.request);
                let change = Change::Makes(Made::Statement(name, statement));
                let entry = Entry::permitted(Kind::Parse, account, change);
                self.request(
                    ((authorized.permit, None), None),
                    entry,
                    header.whole(),
                    instead,
                );
            }
            Err(refused) => {
                self.refused(Kind::Parse, header.whole(), &refused, name.is_empty());
            }
        }
        Ok(Step::Next)
    }

    async fn bind(&mut self, header: Header) -> Result<Step, Why> {
        let size = header.body.min(2 * (NAME_READ + 1));
        let (portal, name): (Name, Name) = match self.body(size).map(frontend::bind) {
            Ok(Ok((portal, name))) => (cut(portal).into(), cut(name).into()),
            Ok(Err(error)) if size == header.body => return Err(error.into()),
            Ok(Err(_)) => return Ok(self.refuse_long_name(header)),
            Err(need) => return Ok(need),
        };
        let Some(statement) = self.find(|ledger| ledger.statement(&name)).await? else {
            let made = |statement| Change::Makes(Made::Portal(portal, statement));
            let unknown = Unknown::statement(&name);
            return self.unknown(Kind::Bind, header, unknown, made).await;
        };
        if !self.shared.ledger().portals.room(&portal) {
            let error = refuse::too_many("portals");
            self.refuse(Kind::Bind, header.whole(), &error, false);
            return Ok(Step::Next);
        }
        let given = match self.given(header, &statement) {
            Ok(given) => given?,
            Err(need) => return Ok(need),
        };
        let mut statement = self.planned(statement).await?;
        if let Some(given) = given {
            statement = Arc::new(statement.with(given));
        }
        self.described = None;
        let change = Change::Makes(Made::Portal(portal, statement));
        self.owed(Entry::changing(Kind::Bind, change), header.whole());
        Ok(Step::Next)
    }

    /// What comes with a portal, where people may be asked about it. Waits for the whole message, unless it is
    /// longer than what they are shown.
    fn given(
        &self,
        header: Header,
        statement: &Statement,
    ) -> Result<Result<Option<Given>, wire::Error>, Step> {
        if !self.gate.asks_people() {
            return Ok(Ok(None));
        }
        let body = match header.body <= BOUND_MAX {
            true => Some(self.body(header.body)?),
            false => None,
        };
        Ok(Given::bound(statement.given.as_deref(), body).map(Some))
    }

    /// What a statement asks for when it is planned, which `Bind` does: the server looks names up
    /// again where the search path is another one (`RevalidateCachedQuery`, `plancache.c`).
    async fn planned(&mut self, statement: Arc<Statement>) -> Result<Arc<Statement>, Why> {
        loop {
            let scope = self.shared.ledger().scope().cloned();
            let scope = match scope {
                Ok(scope) => scope,
                Err(until) => {
                    self.wait_for(until).await?;
                    continue;
                }
            };
            self.heed();
            let masking = self.judge.masking();
            if statement.stands(&scope, masking) {
                return Ok(statement);
            }
            return match statement.source {
                Source::Text => self.judge_again(&statement).await,
                Source::Prepared => Ok(judge::rejudged(&statement, &scope, masking)),
                Source::Unread => Ok(judge::unread(&statement.text, &scope, masking)),
            };
        }
    }

    /// Reads a text that the server has parsed already, as the text that it was sent.
    async fn judge_again(&mut self, statement: &Statement) -> Result<Arc<Statement>, Why> {
        let again = self
            .judge(&Text::Whole(Arc::clone(&statement.text)))
            .await?;
        match again.is_sent_as(statement) {
            true => Ok(again),
            false => Ok(Arc::new(again.outdated(self.judge.masking()))),
        }
    }

    async fn execute(&mut self, header: Header) -> Result<Step, Why> {
        let portal: Name = match self.body(header.body) {
            Ok(body) => cut(frontend::execute(body)?).into(),
            Err(need) => return Ok(need),
        };
        let Some(statement) = self.find(|ledger| ledger.portal(&portal)).await? else {
            let unknown = Unknown::portal(&portal);
            return self
                .unknown(Kind::Execute, header, unknown, Change::Runs)
                .await;
        };
        self.heed();
        let masking = self.judge.masking();
        let statement = match statement.is_masked_by(masking) {
            true => statement,
            false => Arc::new(statement.outdated(masking)),
        };
        self.run_statement((Kind::Execute, Some(&portal)), header.whole(), statement)
            .await
    }

    async fn describe(&mut self, header: Header) -> Result<Step, Why> {
        let (object, name): (Object, Name) = match self.body(header.body) {
            Ok(body) => {
                let (object, name) = frontend::object(body)?;
                (object, cut(name).into())
            }
            Err(need) => return Ok(need),
        };
        let found = self
            .find(|ledger| match object {
                Object::Statement => ledger.statement(&name),
                Object::Portal => ledger.portal(&name),
            })
            .await?;
        let (kind, unknown) = match object {
            Object::Statement => (Kind::DescribeStatement, Unknown::statement(&name)),
            Object::Portal => (Kind::DescribePortal, Unknown::portal(&name)),
        };
        let Some(about) = found else {
            let nothing = |_| Change::Nothing;
            return self.unknown(kind, header, unknown, nothing).await;
        };
        if let (Object::Portal, Some((_, guard))) = (object, &self.guard) {
            self.described = Some((name, Arc::clone(guard)));
        }
        self.owed(Entry::describing(kind, about), header.whole());
        Ok(Step::Next)
    }

    /// A name that means nothing here: it may be the server's, made by what was not read, and is judged as
    /// that. Where this is not permitted the client hears what the server says of names that it does not know.
    async fn unknown(
        &mut self,
        kind: Kind,
        header: Header,
        unknown: Unknown,
        change: impl FnOnce(Arc<Statement>) -> Change,
    ) -> Result<Step, Why> {
        if !unknown.named {
            self.refuse(kind, header.whole(), &unknown.error, false);
            return Ok(Step::Next);
        }
        let phase = match kind {
            Kind::Execute => Phase::Execute,
            _ => Phase::Prepare,
        };
        let unread = loop {
            let scope = self.shared.ledger().scope().cloned();
            match scope {
                Ok(scope) => {
                    self.heed();
                    break judge::unread(&"".into(), &scope, self.judge.masking());
                }
                Err(until) => self.wait_for(until).await?,
            }
        };
        match self.authorize((phase, true), &unread).await? {
            Ok(authorized) => {
                let account = Account::new(&self.gate, authorized.request);
                let entry = Entry::permitted(kind, account, change(unread));
                self.request(
                    ((authorized.permit, None), None),
                    entry,
                    header.whole(),
                    None,
                );
            }
            Err(_refused) => {
                self.shared.count_refused();
                self.refuse(kind, header.whole(), &unknown.error, false);
            }
        }
        Ok(Step::Next)
    }

    fn close(&mut self, header: Header) -> Result<Step, Why> {
        let (object, name): (Object, Name) = match self.body(header.body) {
            Ok(body) => {
                let (object, name) = frontend::object(body)?;
                (object, cut(name).into())
            }
            Err(need) => return Ok(need),
        };
        let change = match object {
            Object::Statement => Change::DropsStatement(name),
            Object::Portal => Change::DropsPortal(name),
        };
        self.owed(Entry::changing(Kind::Close, change), header.whole());
        Ok(Step::Next)
    }

    /// What a name means; waits where that depends on an answer.
    pub(super) async fn find(
        &mut self,
        look: impl Fn(&Ledger<G>) -> Found<Statement>,
    ) -> Result<Option<Arc<Statement>>, Why> {
        loop {
            let found = look(&self.shared.ledger());
            match found {
                Found::Known(statement) => return Ok(Some(statement)),
                Found::Unknown => return Ok(None),
                Found::Until(number) => self.wait_for(number).await?,
            }
        }
    }

    /// It ends behind what is read of it.
    fn refuse_long_name(&mut self, header: Header) -> Step {
        self.refuse(Kind::Parse, header.whole(), &refuse::long_name(), false);
        Step::Next
    }
}

impl From<wire::Error> for Why {
    fn from(error: wire::Error) -> Self {
        Self::ClientViolation(error)
    }
}
