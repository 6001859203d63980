//! Looks at what a statement would touch, on a connection of the daemon's own: its plan, and how many rows its
//! condition finds. Nothing is run but what reads, in a transaction that only reads, for a bounded time.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::catalog::columns;
use super::error::Denied;
use super::peer::Peer;
use super::startup::search_path;
use super::{Error, Upstream};
use crate::protocol::postgres::mask::Masking;
use crate::protocol::postgres::touch::{self, Asked, Count, MOST, Questions};
use crate::protocol::postgres::wire::backend::{
    BIND_COMPLETE, COMMAND_COMPLETE, DATA_ROW, NO_DATA, PARAMETERS, PARSE_COMPLETE, READY,
    ROW_DESCRIPTION, Status, ready,
};
use crate::protocol::postgres::wire::bound;
use crate::protocol::postgres::wire::error::{ERROR, NOTICE};
use crate::protocol::postgres::wire::frontend::{
    BIND, DESCRIBE, Object, PARSE, SYNC, TERMINATE, make_about, make_bare, make_execute, make_query,
};
use crate::protocol::postgres::wire::startup::PARAMETER_STATUS;
use crate::protocol::postgres::wire::{Tag, message, put_string};
use crate::session::{Rows, Touches};

/// Lines of a plan that people are shown, and bytes of each.
const LINES: usize = 48;
const LINE: usize = 240;
/// Rows of an answer that are taken.
const ROWS_MAX: usize = 1_024;
/// All that may come: a plan names whatever the statement does.
const BYTES_MAX: usize = 1 << 20;

/// Whatever the client has set for its own statements: other readers are not held up, a lock is not waited for,
/// and what is slow ends.
const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY; \
    SET LOCAL statement_timeout = 2000; SET LOCAL lock_timeout = 500; \
    SET LOCAL idle_in_transaction_session_timeout = 5000; \
    SET LOCAL max_parallel_workers_per_gather = 0; ";

/// What a server says to one question.
#[derive(Default)]
struct Reply {
    rows: Vec<Bytes>,
    types: Vec<u8>,
    denied: Option<Denied>,
}

/// Asks; the connection is closed then.
pub(in super::super) async fn look(
    upstream: Upstream,
    asked: &Asked,
    questions: &Questions,
) -> Touches {
    let schema = upstream.known.as_ref().and_then(|known| known.current());
    let relations = std::sync::Arc::clone(&upstream.catalog.relations);
    let masking = Masking::new(schema, std::sync::Arc::default(), relations);
    let tables = match touch::tables(asked, &masking, &upstream.catalog) {
        Ok(tables) => tables,
        Err(why) => return Touches::unknown(why),
    };
    let mut peer = Peer::with(upstream.stream, upstream.unread);
    peer.allow(BYTES_MAX);
    let mut conversation = Conversation { peer, asked };
    let seen = conversation.all(questions, &tables).await;
    // The server rolls back by itself, too.
    let bye = [make_query("ROLLBACK"), make_bare(TERMINATE)].concat();
    drop(conversation.peer.send(&bye).await);
    seen.unwrap_or_else(|error| {
        tracing::debug!(%error, "the server could not say what a statement would touch");
        Touches::unknown("the server did not answer as it should")
    })
}

struct Conversation<'a> {
    peer: Peer,
    asked: &'a Asked,
}

impl Conversation<'_> {
    async fn all(&mut self, questions: &Questions, tables: &[u32]) -> Result<Touches, Error> {
        let mut begin = BEGIN.to_owned();
        if let Some(path) = &self.asked.path {
            begin.push_str(&format!("SET LOCAL search_path = {}; ", quoted(path)));
        }
        begin.push_str(&policed(tables));
        self.peer.send(&make_query(&begin)).await?;
        let reply = self.reply().await?;
        if let Some(denied) = reply.denied {
            return Ok(Touches::unknown(said(&denied)));
        }
        let [policed] = reply.rows.as_slice() else {
            return Err(Error::Unanswered);
        };
        if columns(policed)? != ["0"] {
            let why = "row-level security chooses the rows, by code that is not looked into";
            return Ok(Touches::unknown(why));
        }
        let types = match self.types().await? {
            Ok(types) => types,
            Err(denied) => return Ok(Touches::unknown(said(&denied))),
        };
        let plan = self.ask(&questions.explain, &types).await?;
        if let Some(denied) = plan.denied {
            return Ok(Touches::unknown(said(&denied)));
        }
        let lines = plan
            .rows
            .iter()
            .map(|row| columns(row).map(|[line]| cut(line)));
        let mut plan: Vec<String> = lines.take(LINES + 1).collect::<Result<_, _>>()?;
        if plan.len() > LINES {
            plan.truncate(LINES);
            plan.push("...".to_owned());
        }
        let rows = match &questions.count {
            Count::Known(rows) => Rows::Counted(*rows),
            Count::Not(why) => Rows::NotCounted((*why).to_owned()),
            Count::Ask(question) => self.count(question, &types).await?,
        };
        Ok(Touches { rows, plan })
    }

    async fn count(&mut self, question: &str, types: &[u8]) -> Result<Rows, Error> {
        let reply = self.ask(question, types).await?;
        if let Some(denied) = reply.denied {
            return Ok(Rows::NotCounted(said(&denied)));
        }
        let [row] = reply.rows.as_slice() else {
            return Err(Error::Unanswered);
        };
        let [count] = columns(row)?;
        match count.parse::<u64>() {
            Ok(rows) if rows <= MOST => Ok(Rows::Counted(rows)),
            Ok(_) => Ok(Rows::MoreThan(MOST)),
            Err(_) => Err(Error::Unanswered),
        }
    }

    /// The types of its parameters, as the server takes them in the statement itself.
    async fn types(&mut self) -> Result<Result<Vec<u8>, Denied>, Error> {
        let parse = parse(&self.asked.sent, &self.asked.types);
        let describe = make_about(DESCRIBE, Object::Statement, "");
        let messages = [parse, describe, make_bare(SYNC)].concat();
        self.peer.send(&messages).await?;
        let reply = self.reply().await?;
        Ok(reply.denied.map_or(Ok(reply.types), Err))
    }

    /// Asks with the statement's own values.
    async fn ask(&mut self, question: &str, types: &[u8]) -> Result<Reply, Error> {
        let bind = bind(self.asked.bound.as_deref())?;
        let messages = [
            parse(question, types),
            bind,
            make_execute("", 0),
            make_bare(SYNC),
        ]
        .concat();
        self.peer.send(&messages).await?;
        self.reply().await
    }

    /// All that the server says until it is ready.
    async fn reply(&mut self) -> Result<Reply, Error> {
        let mut reply = Reply::default();
        loop {
            let (tag, body) = self.peer.next(body_max).await?;
            match tag {
                DATA_ROW if reply.rows.len() < ROWS_MAX => reply.rows.push(body),
                DATA_ROW => {}
                PARAMETERS => reply.types = body.to_vec(),
                ERROR if reply.denied.is_none() => reply.denied = Some(Denied::read(&body)?),
                COMMAND_COMPLETE | PARAMETER_STATUS | NOTICE | ROW_DESCRIPTION | NO_DATA
                | PARSE_COMPLETE | BIND_COMPLETE => {}
                READY => {
                    return match (ready(&body)?, &reply.denied) {
                        (Status::Open, None) | (Status::Failed, Some(_)) => Ok(reply),
                        _ => Err(Error::Unanswered),
                    };
                }
                tag => return Err(Error::Order { message: Tag(tag) }),
            }
        }
    }
}

/// Whether row-level security binds whoever asks, of so many of the tables.
fn policed(tables: &[u32]) -> String {
    let tables: Vec<String> = tables.iter().map(u32::to_string).collect();
    format!(
        "SELECT pg_catalog.count(*)::pg_catalog.text FROM pg_catalog.pg_class \
         WHERE oid OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.oid[]) \
         AND pg_catalog.row_security_active(oid)",
        tables.join(", ")
    )
}

/// A search path for `SET`; nothing where it has no schema.
fn quoted(path: &[String]) -> String {
    match path {
        [] => "''".to_owned(),
        path => search_path(path),
    }
}

fn parse(text: &str, types: &[u8]) -> Bytes {
    message(PARSE, |to| {
        put_string(to, b"");
        put_string(to, text.as_bytes());
        match types {
            [] => to.put_i16(0),
            types => to.put_slice(types),
        }
    })
}

/// The statement's own values, and text as the form of what comes.
fn bind(bound: Option<&[u8]>) -> Result<Bytes, Error> {
    let mut own = BytesMut::from(&b"\0\0"[..]);
    match bound {
        None => own.put_slice(&[0; 4]),
        Some(bound) => {
            let body = [b"\0\0", bound].concat();
            let (values, _) = bound::values(&body)?;
            let count = i16::try_from(values.len()).map_err(|_more| Error::Unanswered)?;
            own.put_i16(count);
            for value in &values {
                own.put_i16(i16::from(value.binary));
            }
            own.put_i16(count);
            for value in &values {
                match value.bytes {
                    None => own.put_i32(-1),
                    Some(bytes) => {
                        own.put_i32(i32::try_from(bytes.len()).map_err(|_more| Error::Unanswered)?);
                        own.put_slice(bytes);
                    }
                }
            }
        }
    }
    own.put_i16(0);
    Ok(message(BIND, |to| to.put_slice(&own)))
}

/// Why a server would not say, for people. Its own words may hold what they must not see.
fn said(denied: &Denied) -> String {
    match denied.sqlstate.as_deref() {
        Some("57014") => "it took longer than 2 s".to_owned(),
        Some("55P03") => "something holds a lock on what it touches".to_owned(),
        Some("42501") => "the role may not read what it touches".to_owned(),
        Some("25006") => "it would change something".to_owned(),
        Some(code) => format!("the server refuses to say ({code})"),
        None => "the server refuses to say".to_owned(),
    }
}

fn cut(line: &str) -> String {
    let end = line.floor_char_boundary(LINE);
    line.get(..end).unwrap_or_default().to_owned()
}

fn body_max(tag: u8) -> Option<usize> {
    match tag {
        DATA_ROW => Some(256 << 10),
        // 65,535 parameters at most.
        PARAMETERS => Some(2 + 4 * 65_535),
        ROW_DESCRIPTION => Some(64 << 10),
        COMMAND_COMPLETE => Some(1_024),
        PARAMETER_STATUS => Some(8_192),
        READY => Some(1),
        ERROR | NOTICE => Some(30_000),
        NO_DATA | PARSE_COMPLETE | BIND_COMPLETE => Some(0),
        _ => None,
    }
}
