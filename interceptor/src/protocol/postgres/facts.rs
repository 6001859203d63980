//! What a statement asks for, in policy words.
//!
//! Text goes in, one [`Ask`] per statement comes out. The text is read by PostgreSQL's own grammar and
//! walked twice by code that shares nothing; where the walks differ, or the text cannot be read, the
//! ask is `Unreadable`. Never fails, never runs anything, never asks the server.
//!
//! Not visible without the server's catalogue: the functions behind operators, casts, views, triggers
//! and defaults, an overload of a built-in function's name in a schema of the search path, and in column
//! notation (`t.f`) a function that is younger than [`Names::functions`].

// What a request asks for is written out for each kind of thing: a new one does not compile unread.
#![warn(clippy::wildcard_enum_match_arm)]

pub(super) mod draft;
pub(super) mod evidence;
pub(super) mod functions;
mod generic;
mod path;
mod progress;
mod redact;
pub mod replication;
mod shape;
mod typed;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::digest;
use pg_query::protobuf::node::Node as Statement;
use pg_query::protobuf::{ParseResult, ScanToken};

use self::draft::Draft;
use self::evidence::Evidence;
pub use self::path::listed;
use self::progress::Progress;
pub use self::shape::{ends, literals, shape};
use super::mask::{self, Masking, Outcome, Rewrite};
use crate::masking::Masked;
use crate::policy::{Access, Action, Ask, Context, Refusal, Resource};
use crate::session::Reading;

/// Longer text is not read, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;

/// A text with more tokens is not read: each takes about a kilobyte while it is. Enough for one
/// statement with as many parameters as the protocol allows.
pub const MAX_TOKENS: usize = 160_000;

/// A text with more statements is not read.
pub const MAX_STATEMENTS: usize = 4096;

/// Decoding a parse tree of the greatest depth that pg_query allows takes 1.6 MiB of stack in a build
/// without optimisation, and a runtime's worker has 2 MiB in all: with less than this left, in bytes,
/// the text is read on another stack.
const NEEDED_STACK: usize = 4 * 1024 * 1024;

/// The other stack, in bytes. pg_query bounds its own recursion to 2 MiB and half as much again.
const STACK: usize = 2 * NEEDED_STACK;

/// Bound of [`Reading::summary`], in bytes.
const MAX_SUMMARY: usize = 120;

/// What the session knows when a text is read.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Schemas of the search path that names are looked up in, `$user` resolved; `None` where it is
    /// not known. `pg_catalog` and `pg_temp` are implied and need not be listed.
    pub search_path: Option<Vec<String>>,
    /// The search path that `RESET` brings back: the one of the login, `None` where it is not known.
    pub login_path: Option<Vec<String>>,
    /// Names of the relations in the server's `pg_catalog`.
    pub catalog: Arc<HashSet<String>>,
    /// Names of the functions outside of `pg_catalog` that take one argument: to the server `t.f` and
    /// `(x).f` call them where there is no such column. A column of the same name asks for `Call`, too.
    pub functions: Arc<HashSet<String>>,
    /// Statements that `EXECUTE` can run, by name: those of SQL `PREPARE` and, as they share the
    /// server's one table of names, the named ones of the protocol's `Parse`.
    pub prepared: HashMap<String, Prepared>,
    /// Whether an explicit transaction block is open before the text runs.
    pub in_transaction: bool,
    /// Whether the database's encoding is UTF8; elsewhere names that are not ASCII cannot be read,
    /// because the server folds and cuts them by its own encoding.
    pub utf8: bool,
    /// Whether `DISCARD ALL` leaves the role that the login set; a server that was not mended for
    /// CVE-2024-10978 sets it to the user that logged in.
    pub discard_keeps_role: bool,
    /// What is masked, where anything is.
    pub masking: Option<Arc<Masking>>,
}

/// A prepared statement, as it was judged when it was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What its body asks for.
    pub ask: Ask,
    /// The search path that the ask was made under; `None` where the ask does not depend on one. The
    /// server looks names up again when the path has changed, so an ask is worth nothing under another.
    pub search_path: Option<Vec<String>>,
    /// What running it changes in the session.
    pub effects: Vec<Effect>,
}

/// What a text asks for and what it changes in the session.
#[derive(Clone, Debug)]
pub struct Facts {
    /// For the gate: asks, redacted text, fingerprint, summary.
    pub reading: Arc<Reading>,
    /// What the session must keep track of, in order; each applies once the server says that its
    /// statement succeeded.
    pub effects: Vec<Effect>,
    /// How many statements the text has; 0 for an empty query or text that cannot be parsed.
    pub statements: usize,
    /// False where the ask is `Unreadable`.
    pub readable: bool,
    /// Whether the asks stand only as long as the search path is what it was.
    pub uses_search_path: bool,
    /// Whether every text of the same [`shape`] has these facts.
    pub of_its_shape: bool,
    /// What goes upstream in its place, where something in it is masked.
    pub rewrite: Option<Rewrite>,
}

impl Facts {
    /// Whether a text that differs in its literals alone does the same with other values: it is about rows,
    /// and no literal of it is a setting, a path, a password, or code.
    #[must_use]
    pub fn varies(&self) -> bool {
        let is_about_rows = |access: &Access| {
            matches!(
                access.action,
                Action::Select | Action::Insert | Action::Update | Action::Delete | Action::Merge
            )
        };
        let mut asks = self.reading.asks.iter();
        self.of_its_shape && asks.all(|ask| ask.accesses.iter().all(is_about_rows))
    }
}

/// A change of session state that later texts are read under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`; with `chain` a new block begins at once.
    Commit {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`: settings made in the block, the search path too, are what they were.
    Rollback {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `SAVEPOINT`.
    Savepoint(String),
    /// `RELEASE SAVEPOINT`.
    Release(String),
    /// `ROLLBACK TO`: settings made since are what they were.
    RollbackTo(String),
    /// The search path may be another one.
    SetsSearchPath {
        /// The schemas, where the text says so for certain and without `$user`.
        to: Option<Vec<String>>,
        /// `SET LOCAL`: until the end of the transaction only.
        local: bool,
    },
    /// The search path is that of the login again.
    ResetsSearchPath {
        /// `SET LOCAL`: until the end of the transaction only.
        local: bool,
    },
    /// `RESET ALL`: search path, encoding and strings are those of the login again.
    ResetsAll,
    /// `client_encoding` may be another one.
    SetsEncoding,
    /// `standard_conforming_strings` may be another one.
    SetsConformingStrings,
    /// `PREPARE`: fails where the name exists, so it must never replace what is remembered.
    Prepares {
        /// Its name.
        name: String,
        /// What it asks for.
        prepared: Prepared,
    },
    /// `EXECUTE` of a remembered name.
    Executes {
        /// Its name.
        name: String,
    },
    /// `DEALLOCATE`; `None` for all.
    Deallocates(Option<String>),
    /// `DISCARD ALL`: prepared statements, cursors and settings are gone.
    DiscardsAll,
    /// `DECLARE … CURSOR`.
    DeclaresCursor {
        /// Its name.
        name: String,
        /// `WITH HOLD`: it outlives its transaction.
        holds: bool,
    },
    /// `CLOSE`; `None` for all.
    ClosesCursor(Option<String>),
    /// `FETCH` from a cursor.
    Fetches(String),
    /// A query or a function is stored with a relation that may be a temporary one: a view, a rule, a trigger, a
    /// policy.
    Stores,
    /// `COPY … FROM STDIN`: the server will ask for data.
    CopyIn,
    /// `COPY … TO STDOUT`.
    CopyOut,
    /// Of that, a first line that names the columns.
    CopyHeader,
    /// `START_REPLICATION`: the server will send data, and ask for data, at once.
    CopyBoth,
    /// Code or text that was not read ran: anything above may have happened.
    Unknown,
}

impl Effect {
    /// About how many bytes it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let names = match self {
            Self::Savepoint(name)
            | Self::Release(name)
            | Self::RollbackTo(name)
            | Self::Fetches(name)
            | Self::Executes { name }
            | Self::DeclaresCursor { name, .. }
            | Self::Deallocates(Some(name))
            | Self::ClosesCursor(Some(name)) => name.len(),
            Self::SetsSearchPath { to: Some(path), .. } => path
                .iter()
                .map(|schema| size_of_val(schema).saturating_add(schema.len()))
                .fold(0, usize::saturating_add),
            Self::Prepares { name, prepared } => {
                let effects = prepared.effects.iter().map(Self::weight);
                let own = name.len().saturating_add(prepared.ask.weight());
                effects.fold(own, usize::saturating_add)
            }
            Self::Begin
            | Self::Commit { .. }
            | Self::Rollback { .. }
            | Self::SetsSearchPath { to: None, .. }
            | Self::ResetsSearchPath { .. }
            | Self::ResetsAll
            | Self::SetsEncoding
            | Self::SetsConformingStrings
            | Self::Deallocates(None)
            | Self::DiscardsAll
            | Self::ClosesCursor(None)
            | Self::Stores
            | Self::CopyIn
            | Self::CopyOut
            | Self::CopyHeader
            | Self::CopyBoth
            | Self::Unknown => 0,
        };
        names.saturating_add(size_of::<Self>())
    }
}

/// Reads a text. Never fails: what cannot be read asks for `Unreadable` on the database.
///
/// Takes tens of microseconds for ordinary text, but up to a second and 200 MiB for a megabyte of it:
/// long texts belong on a thread that may wait, few at a time. Where less than 4 MiB of stack are left
/// it makes another one, which costs as much again: give the runtime's workers 8 MiB.
#[must_use]
pub fn read(text: &str, names: &Names) -> Facts {
    stacker::maybe_grow(NEEDED_STACK, STACK, || {
        read_with(text, names, generic::walk)
    })
}

/// [`read`] with the second walk as an argument.
fn read_with(text: &str, names: &Names, second: fn(&ParseResult) -> Option<Evidence>) -> Facts {
    let Some((parsed, tokens)) = parse(text) else {
        return unparsed(text, names);
    };
    let (drafts, mut seen) = typed::walk(&parsed);
    let agreed = second(&parsed).is_some_and(|mut other| seen.agrees(&mut other));
    let legible = names.utf8 || !redact::has_foreign_names(text, &tokens);
    let plain = drafts.iter().all(|draft| draft.problem.is_none());
    let mut progress = Progress::new(names, drafts.len());
    let asks = if agreed && legible && plain {
        progress.asks(&drafts)
    } else {
        None
    };
    let readable = asks.is_some();
    let of_its_shape = readable && drafts.iter().all(|draft| !draft.values_matter);
    let subject = mask::Subject {
        text,
        tokens: &tokens,
        parsed: &parsed,
        drafts: &drafts,
        paths: &progress.paths,
    };
    let covered = match &names.masking {
        None => Covered::default(),
        Some(_) if !readable => Covered::refused(mask::unreadable()),
        Some(masking) => Covered::of(masking, subject, of_its_shape, second),
    };
    let reading = Reading {
        asks: asks.unwrap_or_else(|| vec![unreadable(names.in_transaction, drafts.len())]),
        redacted: redact::redact(text, &tokens).into(),
        fingerprint: fingerprint(text).into(),
        summary: summary(&drafts).into(),
        masked: covered.masked.into(),
        veto: covered.veto.map(Arc::new),
    };
    Facts {
        reading: Arc::new(reading),
        effects: if readable {
            progress.effects
        } else {
            vec![Effect::Unknown]
        },
        statements: drafts.len(),
        readable,
        uses_search_path: readable && progress.uses_path,
        of_its_shape: of_its_shape && !covered.is_alone,
        rewrite: covered.rewrite,
    }
}

/// Shows a text that is one statement, and that both walks read alike: its tree, its tokens, and what was found
/// in it. `None` where it is not such a text.
pub(super) fn one<T>(
    text: &str,
    show: impl FnOnce(&Statement, &[ScanToken], &Draft<'_>) -> T,
) -> Option<T> {
    stacker::maybe_grow(NEEDED_STACK, STACK, || {
        let (parsed, tokens) = parse(text)?;
        let (drafts, mut seen) = typed::walk(&parsed);
        let agreed = generic::walk(&parsed).is_some_and(|mut other| seen.agrees(&mut other));
        let ([draft], [statement]) = (drafts.as_slice(), parsed.stmts.as_slice()) else {
            return None;
        };
        let kind = statement.stmt.as_ref()?.node.as_ref()?;
        (agreed && draft.problem.is_none()).then(|| show(kind, &tokens, draft))
    })
}

/// What masking makes of a text.
#[derive(Default)]
struct Covered {
    masked: Vec<Masked>,
    veto: Option<Refusal>,
    rewrite: Option<Rewrite>,
    /// Whether it stands for no other text of its shape.
    is_alone: bool,
}

impl Covered {
    fn refused(refusal: Refusal) -> Self {
        Self {
            veto: Some(refusal),
            ..Self::default()
        }
    }

    fn of(
        masking: &Masking,
        subject: mask::Subject<'_>,
        of_its_shape: bool,
        second: fn(&ParseResult) -> Option<Evidence>,
    ) -> Self {
        let mut ends = Vec::new();
        let has_shape = of_its_shape && shape::ends(subject.text, &mut String::new(), &mut ends);
        let again = |text: &str, holds: &dyn Fn(&[Draft<'_>]) -> bool| {
            parse(text).is_some_and(|(parsed, _)| {
                let (drafts, mut seen) = typed::walk(&parsed);
                let agreed = second(&parsed).is_some_and(|mut other| seen.agrees(&mut other));
                let plain = drafts.iter().all(|draft| draft.problem.is_none());
                agreed && plain && holds(&drafts)
            })
        };
        match mask::mask(masking, subject, has_shape.then_some(&*ends), again) {
            Outcome::Untouched(masked) => Self {
                masked,
                ..Self::default()
            },
            Outcome::Rewritten(rewritten) => Self {
                masked: rewritten.masked,
                veto: None,
                rewrite: Some(rewritten.rewrite),
                is_alone: !rewritten.of_its_shape,
            },
            Outcome::Refused(refusal) => Self::refused(refusal),
        }
    }
}

/// Parse tree and tokens, where there are both.
///
/// `scan_tokens` of pg_query 18.1.0 would be faster than `scan`, but makes a slice of a null pointer
/// where there is no token.
fn parse(text: &str) -> Option<(ParseResult, Vec<ScanToken>)> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let tokens = pg_query::scan(text).ok()?.tokens;
    if tokens.len() > MAX_TOKENS {
        return None;
    }
    let parsed = pg_query::parse(text, pg_query::ParserOptions::DEFAULT)
        .ok()?
        .protobuf;
    (parsed.stmts.len() <= MAX_STATEMENTS).then_some((parsed, tokens))
}

fn unparsed(text: &str, names: &Names) -> Facts {
    let facts = unread(text, names.in_transaction);
    let veto = names.masking.as_ref();
    let reading = Reading {
        veto: veto.map(|_| Arc::new(mask::unreadable())),
        ..Reading::clone(&facts.reading)
    };
    Facts {
        reading: Arc::new(reading),
        ..facts
    }
}

/// Facts of a text that is not read; `front` is what there is of it.
#[must_use]
pub fn unread(front: &str, in_transaction: bool) -> Facts {
    let facts = made_up(Action::Unreadable, "unreadable", in_transaction);
    let reading = Reading {
        asks: vec![unreadable(in_transaction, 0)],
        fingerprint: hashed(front).into(),
        ..Reading::clone(&facts.reading)
    };
    Facts {
        reading: Arc::new(reading),
        ..facts
    }
}

/// Facts of what has no text: one statement that asks for `action` on the database, and after which nothing
/// is sure.
#[must_use]
pub fn made_up(action: Action, summary: &str, in_transaction: bool) -> Facts {
    let resource = Resource::Database;
    let ask = Ask {
        accesses: [Access { action, resource }].into(),
        context: Context {
            statements: 1,
            in_transaction,
            ..Context::default()
        },
    };
    Facts {
        reading: Arc::new(Reading {
            asks: vec![ask],
            redacted: format!("({summary})").into(),
            fingerprint: summary.replace(' ', "-").into(),
            summary: summary.into(),
            masked: Arc::default(),
            veto: None,
        }),
        effects: vec![Effect::Unknown],
        statements: 0,
        readable: false,
        uses_search_path: false,
        of_its_shape: false,
        rewrite: None,
    }
}

fn unreadable(in_transaction: bool, statements: usize) -> Ask {
    let access = Access {
        action: Action::Unreadable,
        resource: Resource::Database,
    };
    let context = Context {
        statements: u32::try_from(statements).unwrap_or(u32::MAX),
        in_transaction,
        ..Context::default()
    };
    Ask {
        accesses: [access].into(),
        context,
    }
}

/// The grammar's own fingerprint; relations count in full, with their schema and without their alias.
fn fingerprint(text: &str) -> String {
    let options = pg_query::FingerprintOptions::RANGEVAR_PG17_COMPAT
        | pg_query::FingerprintOptions::FULL_RELNAME;
    pg_query::fingerprint(text, pg_query::ParserOptions::DEFAULT, options)
        .map_or_else(|_| hashed(text), |fingerprint| fingerprint.hex)
}

/// Stands for text that has no fingerprint. Tells equal texts, says nothing of what is in them.
fn hashed(text: &str) -> String {
    format!("unreadable:{}", digest_of(text))
}

fn digest_of(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hex::encode(hash.as_ref().get(..8).unwrap_or_default())
}

fn summary(drafts: &[Draft<'_>]) -> String {
    let mut summary = String::new();
    for draft in drafts {
        let separator = if summary.is_empty() { "" } else { "; " };
        // Room for what says that there are more.
        if summary.len() + separator.len() + draft.summary.len() + "; ...".len() > MAX_SUMMARY {
            summary.push_str("; ...");
            break;
        }
        summary.push_str(separator);
        summary.push_str(draft.summary);
    }
    summary
}

#[cfg(test)]
mod tests;
