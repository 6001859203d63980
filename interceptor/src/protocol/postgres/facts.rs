//! What a statement asks for, in policy words.
//!
//! Text goes in, one [`Ask`] per statement comes out. The text is read by PostgreSQL's own grammar and
//! walked twice by code that shares nothing; where the walks differ, or the text cannot be read, the
//! ask is `Unreadable`. Never fails, never runs anything, never asks the server.
//!
//! Not visible without the server's catalogue: a function called in column notation (`t.f`), the
//! functions behind operators, casts, views, triggers and defaults, and an overload of a built-in
//! function's name in a schema of the search path.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::policy::Ask;
use crate::session::Reading;

/// What the session knows when a text is read.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Schemas of the search path that names are looked up in, `$user` resolved; `None` where it is
    /// not known. `pg_catalog` and `pg_temp` are implied and need not be listed.
    pub search_path: Option<Vec<String>>,
    /// Names of the relations in the server's `pg_catalog`.
    pub catalog: Arc<HashSet<String>>,
    /// Statements that `EXECUTE` can run, by name: those of SQL `PREPARE` and, as they share the
    /// server's one table of names, the named ones of the protocol's `Parse`.
    pub prepared: HashMap<String, Prepared>,
    /// Whether an explicit transaction block is open before the text runs.
    pub in_transaction: bool,
    /// Whether the database's encoding is UTF8; elsewhere names that are not ASCII cannot be read,
    /// because the server folds and cuts them by its own encoding.
    pub utf8: bool,
}

/// A prepared statement, as it was judged when it was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What its body asks for.
    pub ask: Ask,
    /// The search path that the ask was made under; `None` where the ask does not depend on one. The
    /// server looks names up again when the path has changed, so an ask is worth nothing under another.
    pub search_path: Option<Vec<String>>,
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
    },
    /// `CLOSE`; `None` for all.
    ClosesCursor(Option<String>),
    /// `COPY … FROM STDIN`: the server will ask for data.
    CopyIn,
    /// `COPY … TO STDOUT`.
    CopyOut,
    /// Code or text that was not read ran: anything above may have happened.
    Unknown,
}
