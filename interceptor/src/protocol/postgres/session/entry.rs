//! Entry: one message that the server owes a reply to, and what its success changes.

mod given;

use std::sync::Arc;

use bytes::Bytes;

pub(super) use self::given::{BOUND_MAX, Given};
use super::super::facts::{self, Effect, Facts, Prepared};
use super::super::mask::{self, Masking, Rewrite};
use super::super::touch::Asked;
use super::account::Account;
use super::judge;
use super::ledger::{Limited, Part};
use super::scope::{Path, Scope};
use super::table::{Name, Weigh};
use crate::policy::{Access, Action, Ask, Resource};
use crate::session::{Gate, Reading, Shown};

/// A text that was judged, as a prepared statement, a portal, or what runs now.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// As sent; of an unread one only the front.
    pub(super) text: Arc<str>,
    /// What goes upstream in its place, where something in it is masked.
    pub(super) rewrite: Option<Rewrite>,
    /// What was masked when it was read.
    pub(super) masking: Option<Arc<Masking>>,
    /// What the gate judges.
    pub(super) reading: Arc<Reading>,
    /// What running it changes.
    pub(super) effects: Arc<[Effect]>,
    /// How many statements the text has.
    pub(super) statements: usize,
    /// Whether texts that differ in their literals alone do the same with other values.
    pub(super) varies: bool,
    /// The search path that its names were looked up in; `None` where it depends on none.
    pub(super) under: Option<Path>,
    /// Whether it was read as inside of a transaction.
    pub(super) in_transaction: bool,
    /// Where it comes from.
    pub(super) source: Source,
    /// Whether, as a portal, it outlives its transaction.
    pub(super) holds: bool,
    /// Whether, as a portal, a `DECLARE` made it.
    pub(super) declared: bool,
    /// What came with its text, where people may be asked about it.
    pub(super) given: Option<Arc<Given>>,
}

/// Whether a statement can be read once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From its own text.
    Text,
    /// Its text is a part of another text: it can be used only as it was judged.
    Prepared,
    /// It was not read.
    Unread,
}

impl Statement {
    /// Whether it makes, changes or drops a database: the server refuses most of that while anybody else
    /// is connected to it.
    pub(super) fn is_about_a_database(&self) -> bool {
        let mut accesses = self.reading.asks.iter().flat_map(|ask| &ask.accesses);
        accesses.any(|access| {
            access.action == Action::System && matches!(access.resource, Resource::Database)
        })
    }

    /// Whether it runs code of others, which may close cursors and open others under their names.
    pub(super) fn calls(&self) -> bool {
        let mut accesses = self.reading.asks.iter().flat_map(|ask| &ask.accesses);
        accesses.any(|access| access.action.runs_code())
    }

    pub(super) fn new(
        text: Arc<str>,
        facts: &Facts,
        scope: &Scope,
        masking: Option<Arc<Masking>>,
    ) -> Self {
        Self {
            text,
            rewrite: facts.rewrite.clone(),
            masking,
            reading: Arc::clone(&facts.reading),
            effects: facts.effects.as_slice().into(),
            statements: facts.statements,
            varies: facts.varies(),
            under: facts.uses_search_path.then(|| scope.path().clone()),
            in_transaction: scope.in_transaction(),
            source: if facts.readable {
                Source::Text
            } else {
                Source::Unread
            },
            holds: false,
            declared: false,
            given: None,
        }
    }

    /// The same of another text, which asks for the same, and whose literals end at `literals`. `None` where
    /// what is masked in it cannot be put in its place.
    pub(super) fn with_text(&self, text: &Arc<str>, literals: &[usize]) -> Option<Self> {
        let rewrite = match &self.rewrite {
            Some(rewrite) => Some(rewrite.again(text, literals)?),
            None => None,
        };
        Some(Self {
            text: Arc::clone(text),
            rewrite,
            masking: self.masking.clone(),
            reading: Arc::clone(&self.reading),
            effects: Arc::clone(&self.effects),
            statements: self.statements,
            varies: self.varies,
            under: self.under.clone(),
            in_transaction: self.in_transaction,
            holds: self.holds,
            declared: self.declared,
            given: None,
            source: self.source,
        })
    }

    /// The body of a `PREPARE`, which was judged with the text that it stands in.
    fn prepared(&self, prepared: &Prepared) -> Self {
        Self {
            text: Arc::clone(&self.text),
            rewrite: None,
            masking: self.masking.clone(),
            reading: Arc::new(Reading {
                asks: vec![prepared.ask.clone()],
                redacted: Arc::clone(&self.reading.redacted),
                fingerprint: Arc::clone(&self.reading.fingerprint),
                summary: Arc::clone(&self.reading.summary),
                masked: Arc::clone(&self.reading.masked),
                veto: self.reading.veto.clone(),
            }),
            effects: prepared.effects.as_slice().into(),
            statements: 1,
            varies: false,
            under: prepared
                .search_path
                .clone()
                .map(|path| Some(Arc::new(path))),
            in_transaction: self.in_transaction,
            source: Source::Prepared,
            holds: false,
            declared: false,
            given: None,
        }
    }

    /// A cursor's query was judged with the `DECLARE` that it stands in; running it changes nothing more.
    fn cursor(&self, holds: bool) -> Self {
        Self {
            rewrite: None,
            effects: Arc::default(),
            statements: 1,
            varies: false,
            under: None,
            source: Source::Prepared,
            holds,
            declared: true,
            given: None,
            ..self.clone()
        }
    }

    /// The same with what came with it.
    pub(super) fn with(&self, given: Given) -> Self {
        Self {
            given: Some(Arc::new(given)),
            ..self.clone()
        }
    }

    /// What people are shown of it, or why they cannot be asked about it.
    pub(super) fn shown(&self, is_portal: bool, asked: &[String]) -> Result<Shown, &'static str> {
        let unclear = |effect: &Effect| {
            matches!(
                effect,
                Effect::Prepares { .. }
                    | Effect::Fetches(_)
                    | Effect::CopyIn
                    | Effect::CopyBoth
                    | Effect::Unknown
            )
        };
        if self.source != Source::Text
            || self.declared
            || judge::may_execute(&self.text)
            || self.effects.iter().any(unclear)
        {
            return Err("what it does is not, or not only, what its own text says");
        }
        let values = match (is_portal, &self.given) {
            (false, _) => None,
            (true, Some(given)) => Some(given.values.clone()?),
            (true, None) => {
                return Err(
                    "its values were bound before policy asked for approvals: bind them again",
                );
            }
        };
        let mut under = asked.to_vec();
        match &self.under {
            None => {}
            Some(None) => return Err("the search path is not known"),
            Some(Some(path)) => under.push(format!("search_path = {}", path.join(", "))),
        }
        if self.in_transaction {
            under.push("inside of a transaction".to_owned());
        }
        let literals = facts::literals(&self.text);
        Ok(Shown {
            values,
            under,
            literals,
            varies: self.varies,
        })
    }

    /// What a look at it, beside the session, needs to know.
    pub(super) fn asked(&self) -> Asked {
        let sent = self.rewrite.as_ref().map(|rewrite| &rewrite.text);
        let given = self.given.as_ref();
        Asked {
            text: Arc::clone(&self.text),
            sent: Arc::clone(sent.unwrap_or(&self.text)),
            path: self.under.clone().flatten(),
            types: given
                .map(|given| Arc::clone(&given.types))
                .unwrap_or_default(),
            bound: given.and_then(|given| given.bound.clone()),
        }
    }

    /// Whether what the server says of it may hold what is masked.
    pub(super) fn is_quiet(&self) -> bool {
        let unclear = |effect: &Effect| matches!(effect, Effect::Executes { .. } | Effect::Unknown);
        self.masking.is_some()
            && (!self.reading.masked.is_empty()
                || self.source == Source::Unread
                || self.effects.iter().any(unclear))
    }

    /// Whether what was read stands under `scope`, and while `masking` says what is masked.
    pub(super) fn stands(&self, scope: &Scope, masking: Option<&Arc<Masking>>) -> bool {
        let path = self.under.as_ref();
        path.is_none_or(|path| path.is_some() && path == scope.path())
            && self.in_transaction == scope.in_transaction()
            && self.is_masked_by(masking)
    }

    /// Whether the same is masked as when it was read.
    pub(super) fn is_masked_by(&self, masking: Option<&Arc<Masking>>) -> bool {
        match (&self.masking, masking) {
            (None, None) => true,
            (Some(was), Some(is)) => Arc::ptr_eq(was, is) || was == is,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether the server was given the same text for both.
    pub(super) fn is_sent_as(&self, other: &Self) -> bool {
        let sent = |of: &Self| of.rewrite.as_ref().map(|rewrite| Arc::clone(&rewrite.text));
        sent(self) == sent(other)
    }

    /// What was prepared inside of another text, inside or outside of a transaction.
    pub(super) fn within(&self, scope: &Scope) -> Self {
        let mut reading = Reading::clone(&self.reading);
        for ask in &mut reading.asks {
            ask.context.in_transaction = scope.in_transaction();
        }
        Self {
            rewrite: None,
            reading: Arc::new(reading),
            in_transaction: scope.in_transaction(),
            source: Source::Prepared,
            holds: false,
            declared: false,
            given: None,
            ..self.clone()
        }
    }

    /// The same, which also takes what made a portal that it fetches from: nobody judged the running of it.
    pub(super) fn fetching(&self, portal: &Self) -> Self {
        let mut reading = Reading::clone(&self.reading);
        reading.asks.extend(portal.reading.asks.iter().cloned());
        reading.veto = reading.veto.or_else(|| portal.reading.veto.clone());
        Self {
            reading: Arc::new(reading),
            given: None,
            ..self.clone()
        }
    }

    /// The cursors and portals that it fetches from.
    pub(super) fn fetched(&self) -> impl Iterator<Item = &str> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Fetches(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The same, refused.
    pub(super) fn outdated(&self, masking: Option<&Arc<Masking>>) -> Self {
        let reading = Reading {
            veto: Some(Arc::new(mask::outdated())),
            ..Reading::clone(&self.reading)
        };
        Self {
            rewrite: None,
            masking: masking.cloned(),
            reading: Arc::new(reading),
            ..self.clone()
        }
    }

    /// Whether it is one write and nothing else, whose end says how many rows it touched.
    pub(super) fn tells_rows(&self) -> bool {
        match self.reading.asks.as_slice() {
            [ask] => ask.context.tells_rows && self.statements == 1,
            _ => false,
        }
    }

    /// Whether what a grant counts of it is told nowhere: a cursor's rows come in other answers, and of what is
    /// fetched from a write the end tells nothing.
    pub(super) fn hides_rows(&self) -> bool {
        let mut asks = self.reading.asks.iter();
        self.declares() || asks.any(|ask| ask.context.tells_rows) && !self.tells_rows()
    }

    /// Whether it makes a cursor.
    pub(super) fn declares(&self) -> bool {
        let mut effects = self.effects.iter();
        effects.any(|effect| matches!(effect, Effect::DeclaresCursor { .. }))
    }

    /// Whether running it may leave something in the session that goes on without being judged again: a
    /// cursor, a role or another setting, a channel, or what code that was not read has done.
    pub(super) fn lasts(&self) -> bool {
        let is_lasting = |access: &Access| {
            let lasts = [
                Action::Set,
                Action::Notify,
                Action::System,
                Action::Replicate,
            ];
            access.action.runs_code() || lasts.contains(&access.action)
        };
        let mut asks = self.reading.asks.iter();
        self.declares()
            || self.effects.contains(&Effect::Unknown)
            || asks.any(|ask| ask.accesses.iter().any(is_lasting))
    }

    /// Whether running it may leave something in the session that shows rows later, and of which nothing is known
    /// then: a temporary view, what hangs on a temporary table, a temporary function, a setting by which rows
    /// come in the order of what they do not show.
    pub(super) fn leaves(&self) -> bool {
        let may = |access: &Access| match (&access.resource, access.action) {
            (Resource::Function { schema, .. }, Action::Ddl) => schema == "pg_temp",
            (Resource::Function { schema, .. }, action) => {
                action.runs_code() && schema != "pg_catalog"
            }
            (_, action) => action.runs_code(),
        };
        let mut asks = self.reading.asks.iter();
        let mut effects = self.effects.iter();
        let sets = |ask: &Ask| {
            let mut accesses = ask.accesses.iter();
            let mut functions = ask.context.functions.iter();
            let mut settings = ask.context.settings.iter();
            (accesses.any(|access| access.action == Action::Set)
                || functions.any(|name| name.rsplit('.').next() == Some("set_config")))
                && settings.any(|name| mask::steers(name))
        };
        effects.any(|effect| matches!(effect, Effect::Stores | Effect::Unknown))
            || asks.any(|ask| sets(ask) || ask.accesses.iter().any(may))
    }

    /// What an SQL `EXECUTE` needs to know of it; `None` where it is not one statement that was read.
    pub(super) fn for_execute(&self) -> Option<Prepared> {
        let [ask] = self.reading.asks.as_slice() else {
            return None;
        };
        let search_path = match &self.under {
            None => None,
            Some(path) => Some(path.as_ref()?.to_vec()),
        };
        (self.source != Source::Unread).then(|| Prepared {
            ask: ask.clone(),
            search_path,
            effects: self.effects.to_vec(),
        })
    }

    /// Whether the server may ask for data.
    pub(super) fn may_copy(&self) -> bool {
        self.source == Source::Unread || self.effects.contains(&Effect::CopyIn) || self.streams()
    }

    /// Whether it may make, change or drop what other sessions see.
    pub(super) fn alters(&self) -> bool {
        let is_shared = |access: &Access| match &access.resource {
            Resource::Table { schema, .. }
            | Resource::Column { schema, .. }
            | Resource::Function { schema, .. } => schema != "pg_temp",
            Resource::Schema { .. }
            | Resource::Database
            | Resource::Target
            | Resource::File { .. }
            | Resource::Forward { .. }
            | Resource::KubeNamespace { .. }
            | Resource::KubeObject { .. }
            | Resource::Path { .. } => true,
        };
        let asks = self.reading.asks.iter().flat_map(|ask| &ask.accesses);
        self.effects.contains(&Effect::Unknown)
            || asks
                .clone()
                .any(|access| access.action == Action::Ddl && is_shared(access))
    }

    /// Whether it is a command of a replication connection, which takes as long as it takes: the server
    /// does not time it either.
    fn replicates(&self) -> bool {
        let mut asks = self.reading.asks.iter();
        asks.any(|ask| !ask.context.command.is_empty())
    }

    /// Whether that is data in both directions, and nothing else.
    fn streams(&self) -> bool {
        self.effects.contains(&Effect::CopyBoth)
    }

    /// The names that running it makes, with what they mean: statements and portals.
    pub(super) fn makes(&self) -> impl Iterator<Item = Made> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Prepares { name, prepared } => Some(Made::Statement(
                name.as_bytes().into(),
                Arc::new(self.prepared(prepared)),
            )),
            Effect::DeclaresCursor { name, holds } => Some(Made::Portal(
                name.as_bytes().into(),
                Arc::new(self.cursor(*holds)),
            )),
            _ => None,
        })
    }
}

impl Weigh for Statement {
    fn weight(&self) -> usize {
        let rewrite = self.rewrite.as_ref().map_or(0, Rewrite::weight);
        let effects = self.effects.iter().map(Effect::weight);
        [self.text.len(), rewrite, self.reading.weight()]
            .into_iter()
            .chain(effects)
            .fold(512, usize::saturating_add)
    }
}

/// A name that comes to be.
#[derive(Debug)]
pub(super) enum Made {
    Statement(Name, Arc<Statement>),
    Portal(Name, Arc<Statement>),
}

/// What the success of a message changes.
#[derive(Debug)]
pub(super) enum Change {
    Nothing,
    Makes(Made),
    DropsStatement(Name),
    DropsPortal(Name),
    Runs(Arc<Statement>),
}

/// What kind of reply is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Query,
    Function,
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute,
    Close,
    Sync,
}

impl Kind {
    /// Whether a `ReadyForQuery` ends it, so that a failure before does not make the server skip it
    /// once it has begun.
    pub(super) fn is_ready(self) -> bool {
        matches!(self, Self::Query | Self::Function | Self::Sync)
    }
}

/// One reply that is owed.
#[derive(Debug)]
pub(super) struct Entry<G: Gate> {
    /// Which reply; with `local` it is ours, and the server knows nothing of it.
    pub(super) kind: Kind,
    /// Ours, whole: the client gets it when its turn has come.
    pub(super) local: Option<Bytes>,
    /// What the client gets in place of the error that the server must give.
    pub(super) poison: Option<Bytes>,
    /// What is to be finished.
    pub(super) account: Option<Account<G>>,
    /// Our own message: the client gets nothing of its answer.
    pub(super) silent: bool,
    /// What changes when it succeeds.
    pub(super) change: Change,
    /// What it describes.
    pub(super) about: Option<Arc<Statement>>,
    /// Whether the server may still ask for data: of a `COPY`, or of replication.
    pub(super) may_copy: bool,
    /// Whether an error came that leaves only `ReadyForQuery` to come.
    pub(super) failed: bool,
    /// Rows since the reply began.
    pub(super) rows: u64,
    /// The last command tag.
    pub(super) tag: Option<Box<str>>,
    /// Bytes that it keeps alive, about.
    pub(super) weight: usize,
    /// How much its answer may hold, where something limits it.
    pub(super) limited: Option<Box<Limited>>,
    /// What it is to a transaction block of our own.
    pub(super) own: Option<Part>,
}

impl<G: Gate> Entry<G> {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            local: None,
            poison: None,
            account: None,
            silent: false,
            change: Change::Nothing,
            about: None,
            may_copy: false,
            failed: false,
            rows: 0,
            tag: None,
            weight: 256,
            limited: None,
            own: None,
        }
    }

    pub(super) fn local(kind: Kind, reply: Bytes) -> Self {
        Self {
            local: Some(reply),
            ..Self::new(kind)
        }
    }

    pub(super) fn poison(kind: Kind, error: Bytes) -> Self {
        Self {
            poison: Some(error),
            ..Self::new(kind)
        }
    }

    /// A question of our own.
    pub(super) fn silent(kind: Kind) -> Self {
        Self {
            silent: true,
            ..Self::new(kind)
        }
    }

    /// A description.
    pub(super) fn describing(kind: Kind, about: Arc<Statement>) -> Self {
        Self {
            about: Some(about),
            ..Self::new(kind)
        }
    }

    pub(super) fn permitted(kind: Kind, account: Account<G>, change: Change) -> Self {
        let may_copy = match &change {
            Change::Runs(statement) => statement.may_copy(),
            _ => false,
        };
        Self {
            account: Some(account),
            may_copy,
            ..Self::changing(kind, change)
        }
    }

    /// A message that nobody judges: what it names was judged.
    pub(super) fn changing(kind: Kind, change: Change) -> Self {
        let weight = match &change {
            Change::Makes(Made::Statement(_, meant) | Made::Portal(_, meant))
            | Change::Runs(meant) => meant.weight(),
            _ => 256,
        };
        Self {
            change,
            weight,
            ..Self::new(kind)
        }
    }

    /// The statement that it is about, where what the server says of it may hold what is masked.
    pub(super) fn quiet(&self) -> Option<&Arc<Statement>> {
        let statement = match &self.change {
            Change::Makes(Made::Statement(_, statement) | Made::Portal(_, statement))
            | Change::Runs(statement) => statement,
            Change::Nothing | Change::DropsStatement(_) | Change::DropsPortal(_) => return None,
        };
        statement.is_quiet().then_some(statement)
    }

    /// The name that a change makes directly, or those that running a text makes.
    pub(super) fn makes(&self) -> Vec<Made> {
        match &self.change {
            Change::Makes(Made::Statement(name, meant)) => {
                vec![Made::Statement(name.clone(), Arc::clone(meant))]
            }
            Change::Makes(Made::Portal(name, meant)) => {
                vec![Made::Portal(name.clone(), Arc::clone(meant))]
            }
            Change::Runs(statement) => statement.makes().collect(),
            _ => Vec::new(),
        }
    }

    /// What it runs.
    pub(super) fn runs(&self) -> Option<&Arc<Statement>> {
        match &self.change {
            Change::Runs(statement) => Some(statement),
            _ => None,
        }
    }

    /// Whether it runs a command of a replication connection.
    pub(super) fn replicates(&self) -> bool {
        match &self.change {
            Change::Runs(statement) => statement.replicates(),
            _ => false,
        }
    }

    /// Whether the data that the server may ask for goes in both directions.
    pub(super) fn streams(&self) -> bool {
        match &self.change {
            Change::Runs(statement) => statement.streams(),
            _ => false,
        }
    }

    /// Whether it changes what later texts are read under.
    pub(super) fn heeds_scope(&self) -> bool {
        match &self.change {
            Change::Runs(statement) => statement.effects.iter().any(Scope::heeds),
            _ => false,
        }
    }
}
