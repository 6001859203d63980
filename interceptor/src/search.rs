//! Finding sessions by what was asked in them: full text over what the audit says, in SQLite (FTS5).
//!
//! Made of the audit log and of nothing else: lost, damaged or of another log, it is made anew. It is
//! bounded: the newest lines of requests are kept. Nothing stands in it that does not stand in the log.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params, params_from_iter,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::audit;
use crate::audit::read::{Entries, Filter};

/// Lines that are kept; older ones go.
const KEPT: i64 = 2_000_000;

/// How much of a text is kept, in bytes.
const TEXT_MAX: usize = 4096;

/// Lines taken with one transaction: whoever looks for something meanwhile waits for no more.
const AT_ONCE: usize = 1_000;

/// The newest form of the file; others are made anew.
const VERSION: i64 = 2;

const TABLES: &str = "
CREATE TABLE lines (
  seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, event TEXT NOT NULL, session TEXT, request TEXT,
  agent TEXT, target TEXT, said TEXT NOT NULL, who TEXT NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(
  said, who, content='lines', content_rowid='seq', tokenize=\"unicode61 tokenchars '_'\");
CREATE TRIGGER comes AFTER INSERT ON lines BEGIN
  INSERT INTO words(rowid, said, who) VALUES (new.seq, new.said, new.who);
END;
CREATE TRIGGER goes AFTER DELETE ON lines BEGIN
  INSERT INTO words(words, rowid, said, who) VALUES ('delete', old.seq, old.said, old.who);
END;
CREATE TABLE place (log TEXT NOT NULL, seq INTEGER NOT NULL, many INTEGER NOT NULL);
";

/// What can go wrong with the index.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be used.
    #[error("cannot use the index {}: {source}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] audit::Error),
}

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Words that must all be there; one that ends with `*` begins so.
    pub words: Vec<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// The agent's name.
    pub agent: Option<String>,
    /// The target's name.
    pub target: Option<String>,
    /// How many are wanted at most, the newest.
    pub most: u32,
}

/// A line that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// Its sequence in the audit log.
    pub seq: i64,
    /// When.
    pub time: Timestamp,
    /// What happened.
    pub event: String,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Uuid>,
    /// The request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What was asked, as the log has it.
    pub said: String,
}

/// The index of one log.
pub struct Index {
    path: PathBuf,
    database: Connection,
    kept: i64,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Index").field(&self.path).finish()
    }
}

impl Index {
    /// Opens or makes the file; one that cannot be read is made anew, one that somebody writes is not.
    ///
    /// # Errors
    /// Where it cannot be made, or is written for too long.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Index {
            path: path.to_owned(),
            source,
        };
        let database = match made(path) {
            Ok(database) => database,
            Err(error) if is_busy(&error) => return Err(failed(error)),
            Err(_unreadable) => {
                for end in ["", "-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(end);
                    // What was not there needs no removal; what stays is told by the next line.
                    drop(fs::remove_file(name));
                }
                made(path).map_err(failed)?
            }
        };
        Ok(Self {
            path: path.to_owned(),
            database,
            kept: KEPT,
        })
    }

    /// Takes what the log below `dir` has more; how many lines were read. Begins anew where it is another log.
    ///
    /// # Errors
    /// Where log or index cannot be read or written.
    pub fn catch_up(&mut self, dir: &Path) -> Result<usize, Error> {
        let mut entries = self.follow(dir)?;
        let mut all = 0;
        loop {
            match self.take_some(&mut entries)? {
                0 => return Ok(all),
                read => all += read,
            }
        }
    }

    /// What the log below `dir` has more, for [`Self::take_some`], which may be called again as it grows. Begins anew
    /// where it is another log.
    ///
    /// # Errors
    /// As [`Self::catch_up`].
    pub fn follow(&mut self, dir: &Path) -> Result<Entries, Error> {
        let log = first(dir)?;
        let (known, mut seq) = self.place()?;
        if known != log {
            self.begin(&log)?;
            seq = 0;
        }
        let filter = Filter {
            after: u64::try_from(seq).ok(),
            ..Filter::default()
        };
        Ok(Entries::open(dir, filter)?)
    }

    /// Takes the next lines, in one transaction; how many were read, none at the log's end.
    ///
    /// # Errors
    /// As [`Self::catch_up`].
    pub fn take_some(&mut self, entries: &mut Entries) -> Result<usize, Error> {
        let lines = entries.by_ref().take(AT_ONCE).map(|entry| Ok(entry?.line));
        let batch = lines.collect::<Result<Vec<_>, Error>>()?;
        let kept = self.kept;
        if !batch.is_empty() {
            let taken = take(&mut self.database, &batch, kept);
            taken.map_err(|source| self.failed(source))?;
        }
        Ok(batch.len())
    }

    fn place(&self) -> Result<(String, i64), Error> {
        let found = self
            .database
            .query_row("SELECT log, seq FROM place", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            });
        let found = found.optional().map_err(|source| self.failed(source))?;
        Ok(found.unwrap_or_default())
    }

    fn begin(&self, log: &str) -> Result<(), Error> {
        let begin = "DELETE FROM lines; DELETE FROM place;";
        let begun = self.database.execute_batch(begin).and_then(|()| {
            self.database
                .execute("INSERT INTO place VALUES (?1, 0, 0)", [log])
        });
        begun.map(drop).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Index {
            path: self.path.clone(),
            source,
        }
    }

    /// What is found, the newest first.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn search(&self, query: &Query) -> Result<Vec<Hit>, Error> {
        self.found(query).map_err(|source| self.failed(source))
    }

    fn found(&self, query: &Query) -> rusqlite::Result<Vec<Hit>> {
        let mut values: Vec<rusqlite::types::Value> = Vec::new();
        let mut bind = |value: rusqlite::types::Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        let mut wanted = Vec::new();
        let from = match query.matched() {
            Some(matched) => {
                let place = bind(matched.into());
                wanted.push(format!("words MATCH {place}"));
                // The index of words gives them in the order of their lines.
                "words JOIN lines ON lines.seq = words.rowid"
            }
            None => "lines",
        };
        for (column, value) in [("agent", &query.agent), ("target", &query.target)] {
            if let Some(value) = value {
                wanted.push(format!("lines.{column} = {}", bind(value.clone().into())));
            }
        }
        for (what, time) in [(">=", query.since), ("<=", query.until)] {
            if let Some(time) = time {
                wanted.push(format!(
                    "lines.time {what} {}",
                    bind(time.as_microsecond().into())
                ));
            }
        }
        let only = match wanted.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", wanted.join(" AND ")),
        };
        let order = if from == "lines" {
            "lines.seq"
        } else {
            "words.rowid"
        };
        let most = bind(i64::from(query.most).into());
        let text = format!(
            "SELECT lines.seq, time, event, session, request, agent, target, lines.said FROM {from} {only} ORDER BY {order} DESC LIMIT {most}"
        );
        let mut statement = self.database.prepare(&text)?;
        let hits = statement.query_map(params_from_iter(values), |row| {
            let id = |text: Option<String>| text.and_then(|text| text.parse().ok());
            Ok(Hit {
                seq: row.get(0)?,
                time: Timestamp::from_microsecond(row.get(1)?).unwrap_or_default(),
                event: row.get(2)?,
                session: id(row.get(3)?),
                request: id(row.get(4)?),
                agent: row.get(5)?,
                target: row.get(6)?,
                said: row.get(7)?,
            })
        })?;
        hits.collect()
    }
}

impl Query {
    /// As FTS5 is asked: every word a string of its own, whatever stands in it. The agent is a word too, which
    /// spares looking at the lines of others.
    fn matched(&self) -> Option<String> {
        let quoted = |word: &str| format!("\"{}\"", word.replace('"', "\"\""));
        let mut all: Vec<String> = self
            .words
            .iter()
            .filter(|word| word.chars().any(char::is_alphanumeric))
            .map(|word| match word.strip_suffix('*') {
                Some(begins) => format!("{}*", quoted(begins)),
                None => quoted(word),
            })
            .collect();
        if !all.is_empty()
            && let Some(agent) = &self.agent
        {
            all.push(format!("who : {}", quoted(agent)));
        }
        (!all.is_empty()).then(|| all.join(" AND "))
    }
}

/// Puts lines of the log in that are not there yet, and lets the oldest go that are more than `kept`.
fn take(database: &mut Connection, batch: &[String], kept: i64) -> rusqlite::Result<()> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Somebody else may have taken some meanwhile.
    let (before, mut many): (i64, i64) =
        transaction.query_row("SELECT seq, many FROM place", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let mut last = before;
    for line in batch {
        let Some(head) = Head::read(line).filter(|head| head.seq > last) else {
            continue;
        };
        last = head.seq;
        if head.is_kept()
            && let Some(line) = Line::read(line)
        {
            line.put(&transaction)?;
            many += 1;
        }
    }
    if many > kept {
        let oldest = "DELETE FROM lines WHERE seq IN (SELECT seq FROM lines ORDER BY seq LIMIT ?1)";
        transaction.execute(oldest, [many - kept])?;
        many = kept;
    }
    if last > before {
        transaction.execute("UPDATE place SET seq = ?1, many = ?2", [last, many])?;
    }
    transaction.commit()
}

/// Whether somebody else has the file at the moment.
fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn made(path: &Path) -> rusqlite::Result<Connection> {
    // What SQLite makes beside it has its mode.
    let own = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path);
    own.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let database = Connection::open(path)?;
    database.busy_timeout(std::time::Duration::from_secs(5))?;
    database.pragma_update(None, "journal_mode", "wal")?;
    // What a crash loses is read again from the log.
    database.pragma_update(None, "synchronous", "normal")?;
    let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        VERSION => {
            database.query_row("SELECT count(*) FROM place", [], |row| row.get::<_, i64>(0))?;
        }
        0 => {
            database.execute_batch(TABLES)?;
            database.pragma_update(None, "user_version", VERSION)?;
        }
        _ => return Err(rusqlite::Error::InvalidQuery),
    }
    Ok(database)
}

/// Names a log by its first line: another log has another.
fn first(dir: &Path) -> Result<String, Error> {
    let first = Entries::open(dir, Filter::default())?.next().transpose()?;
    let line = first.map(|entry| entry.line).unwrap_or_default();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line.as_bytes());
    Ok(hex::encode(sum.as_ref()))
}

/// What a line of the log begins with: it says whether the rest is looked at.
#[derive(Deserialize)]
struct Head<'a> {
    seq: i64,
    #[serde(borrow)]
    event: Cow<'a, str>,
}

impl<'a> Head<'a> {
    fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn is_kept(&self) -> bool {
        const EVENTS: [&str; 7] = [
            "request.permitted",
            "request.refused",
            "session.opened",
            "connection.refused",
            "approval.asked",
            "kernel.denied",
            "terminal.typed",
        ];
        EVENTS.contains(&&*self.event)
    }
}

/// A line of the log, as far as it is looked for.
struct Line {
    seq: i64,
    time: i64,
    value: Value,
}

impl Line {
    fn read(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let time: Timestamp = value.get("time")?.as_str()?.parse().ok()?;
        Some(Self {
            seq: value.get("seq")?.as_i64()?,
            time: time.as_microsecond(),
            value,
        })
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer)?.as_str()
    }

    /// What was asked: the statement, and the names of what it is about.
    fn said(&self) -> String {
        let mut said: Vec<&str> = [
            "/statement",
            "/summary",
            "/refusal/message",
            "/destination",
            "/cause",
        ]
        .into_iter()
        .filter_map(|pointer| self.text(pointer))
        .collect();
        let lines = self.value.get("lines").and_then(Value::as_array);
        said.extend(lines.into_iter().flatten().filter_map(Value::as_str));
        let mut names = BTreeSet::new();
        if let Some(asks) = self.value.get("asks") {
            texts(asks, &mut names);
        }
        said.extend(names);
        cut(said.join(" "))
    }

    /// Who asked: agent, user, program and its arguments, identity; and where.
    fn who(&self) -> String {
        let mut who = BTreeSet::new();
        for pointer in [
            "/principal/agent",
            "/agent",
            "/principal/user",
            "/principal/process/executable/path",
            "/principal/process/argv",
            "/principal/identity",
            "/target",
            "/database",
            "/user",
        ] {
            if let Some(value) = self.value.pointer(pointer) {
                texts(value, &mut who);
            }
        }
        cut(who.into_iter().collect::<Vec<_>>().join(" "))
    }

    fn put(&self, to: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
        let agent = self
            .text("/principal/agent")
            .or_else(|| self.text("/agent"));
        let mut put =
            to.prepare_cached("INSERT INTO lines VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
        put.execute(params![
            self.seq,
            self.time,
            self.text("/event"),
            self.text("/session"),
            self.text("/request"),
            agent,
            self.text("/target"),
            self.said(),
            self.who(),
        ])?;
        Ok(())
    }
}

/// Every text in a value; not the names of its fields.
fn texts<'a>(value: &'a Value, to: &mut BTreeSet<&'a str>) {
    match value {
        Value::String(text) => drop(to.insert(text)),
        Value::Array(values) => values.iter().for_each(|value| texts(value, to)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, to)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text
}

#[cfg(test)]
mod tests;
