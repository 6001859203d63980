//! A model of PostgreSQL's query phase, after `postgres.c`: what it answers, skips, commits.
//!
//! Its language has one statement a line part: `insert t`, `rows 3 t`, `fail t`, `bad`, `begin`, `commit`,
//! `rollback`, `copyin t`, `copyout t`, `stream t`, `prepare s as …`, `execute s`, `deallocate s`, `set …`, `noise t`,
//! `touch 3 t` (three rows), `returning 3 t` (and gives them back), `defer t` (which no commit takes),
//! `crash t`, `die t`, `empty`, `sleep t` (until it is cancelled), `hang t` (for
//! ever). What it ran and what it committed is written down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::Notify;

use super::super::super::wire::error::{ErrorFields, Severity};
use super::super::super::wire::{self, Header, frontend, put_string};

/// What happened in the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// Messages that came, tag by tag, with the bytes of their bodies.
    pub(crate) came: Vec<(u8, Vec<u8>)>,
    /// Statements that ran.
    pub(crate) ran: Vec<String>,
    /// Statements that were committed.
    pub(crate) committed: Vec<String>,
    /// Cancels what sleeps.
    pub(crate) cancel: Arc<Notify>,
}

#[derive(Default)]
struct Portal {
    text: String,
    left: Option<u32>,
}

pub(crate) struct Server {
    stream: DuplexStream,
    input: BytesMut,
    output: BytesMut,
    log: Arc<Mutex<Log>>,
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, Portal>,
    block: bool,
    failed: bool,
    skipping: bool,
    uncommitted: Vec<String>,
    /// The commit of what has run fails.
    deferred: bool,
    changed: Vec<(&'static str, String)>,
}

/// Why a statement stops.
enum Stop {
    Error(&'static str),
    /// FATAL, or the connection is gone.
    Gone,
}

impl Server {
    pub(crate) fn new(stream: DuplexStream, log: Arc<Mutex<Log>>) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            log,
            statements: HashMap::new(),
            portals: HashMap::new(),
            block: false,
            failed: false,
            skipping: false,
            uncommitted: Vec::new(),
            deferred: false,
            changed: Vec::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        while let Some((tag, body)) = self.next().await {
            if self.message(tag, &body).await.is_none() {
                break;
            }
            // What is not flushed stays until there is much of it, as `pqcomm.c` does.
            if self.output.len() > 8192 {
                self.flush().await;
            }
        }
        drop(self.stream.write_all(&self.output).await);
    }

    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(header) = Header::read(&self.input).unwrap()
                && self.input.len() >= header.whole()
            {
                self.input.advance(wire::HEADER);
                let body = self.input.split_to(header.body).to_vec();
                let mut log = self.log.lock().unwrap();
                log.came.push((header.tag, body.clone()));
                return Some((header.tag, body));
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn flush(&mut self) {
        let output = self.output.split();
        drop(self.stream.write_all(&output).await);
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        wire::write(&mut self.output, tag, |to| to.put_slice(body));
    }

    fn complete(&mut self, tag: &str) {
        self.put(b'C', format!("{tag}\0").as_bytes());
    }

    async fn message(&mut self, tag: u8, body: &[u8]) -> Option<()> {
        if self.skipping && !matches!(tag, b'S' | b'X') {
            return Some(());
        }
        let extended = matches!(tag, b'P' | b'B' | b'D' | b'E' | b'C' | b'H');
        let result = match tag {
            b'X' => return None,
            b'S' => {
                self.skipping = false;
                if let Err(Stop::Error(sqlstate)) = self.end_implicit(true) {
                    self.error(sqlstate);
                }
                self.ready().await;
                Ok(())
            }
            b'H' => {
                self.flush().await;
                Ok(())
            }
            b'd' | b'c' | b'f' => Ok(()),
            b'Q' => self.query(body).await,
            b'F' => Err(Stop::Error("42883")),
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute(body).await,
            b'C' => {
                let (object, name) = frontend::object(body).unwrap();
                match object {
                    frontend::Object::Statement => drop(self.statements.remove(&cut(name))),
                    frontend::Object::Portal => drop(self.portals.remove(&cut(name))),
                }
                self.put(b'3', b"");
                Ok(())
            }
            other => panic!("the server got {}", wire::Tag(other)),
        };
        match result {
            Ok(()) => {}
            Err(Stop::Gone) => return None,
            Err(Stop::Error(sqlstate)) => {
                self.error(sqlstate);
                self.flush().await;
                self.skipping = extended;
                if tag == b'Q' || tag == b'F' {
                    self.ready().await;
                }
            }
        }
        Some(())
    }

    fn error(&mut self, sqlstate: &str) {
        self.uncommitted.clear();
        self.deferred = false;
        self.changed.clear();
        self.failed = self.block;
        self.portals.clear();
        let message = format!("server error {sqlstate}");
        ErrorFields::new(Severity::Error, sqlstate, &message).write(&mut self.output, b'E');
    }

    fn end_implicit(&mut self, commit: bool) -> Result<(), Stop> {
        if !self.block {
            if commit && self.deferred {
                return Err(Stop::Error("23503"));
            }
            self.deferred = false;
            let mut log = self.log.lock().unwrap();
            if commit {
                log.committed.append(&mut self.uncommitted);
            }
            self.uncommitted.clear();
            self.portals.clear();
        }
        Ok(())
    }

    async fn ready(&mut self) {
        for (name, value) in std::mem::take(&mut self.changed) {
            wire::write(&mut self.output, b'S', |to| {
                put_string(to, name.as_bytes());
                put_string(to, value.as_bytes());
            });
        }
        let status = match (self.block, self.failed) {
            (false, _) => b"I",
            (true, false) => b"T",
            (true, true) => b"E",
        };
        self.put(b'Z', status);
        self.flush().await;
    }

    async fn query(&mut self, body: &[u8]) -> Result<(), Stop> {
        self.statements.remove(&b""[..]);
        let text = std::str::from_utf8(&body[..body.len() - 1])
            .unwrap()
            .to_lowercase();
        if is_bad(&text) {
            return Err(Stop::Error("42601"));
        }
        let parts: Vec<&str> = text
            .split(';')
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .collect();
        if parts.is_empty() {
            self.put(b'I', b"");
        }
        for one in parts {
            self.check_block(one)?;
            if ["rows", "execute", "returning"]
                .iter()
                .any(|word| one.starts_with(word))
            {
                self.put(b'T', b"\0\0");
            }
            // The end of the last one is told once all is committed.
            let before = self.output.len();
            self.run_one(one, u32::MAX, &mut None).await?;
            if self.deferred && !self.block {
                self.output.truncate(before);
            }
        }
        self.end_implicit(true)?;
        self.ready().await;
        Ok(())
    }

    fn check_block(&self, one: &str) -> Result<(), Stop> {
        if self.failed && !matches!(one, "commit" | "rollback") {
            return Err(Stop::Error("25P02"));
        }
        Ok(())
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Stop> {
        let (name, text) = frontend::parse(body).unwrap();
        let name = cut(name);
        if name.is_empty() {
            self.statements.remove(&name);
        }
        let text = std::str::from_utf8(text).unwrap().to_lowercase();
        if is_bad(&text) {
            return Err(Stop::Error("42601"));
        }
        self.check_block(&text)?;
        if self.statements.contains_key(&name) {
            return Err(Stop::Error("42P05"));
        }
        self.statements.insert(name, text);
        self.put(b'1', b"");
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Stop> {
        let (portal, name) = frontend::bind(body).unwrap();
        let Some(text) = self.statements.get(&cut(name)).cloned() else {
            return Err(Stop::Error("26000"));
        };
        self.check_block(&text)?;
        let portal = cut(portal);
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return Err(Stop::Error("42P03"));
        }
        self.portals.insert(portal, Portal { text, left: None });
        self.put(b'2', b"");
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Stop> {
        let (object, name) = frontend::object(body).unwrap();
        let name = cut(name);
        let text = match object {
            frontend::Object::Statement => {
                let text = self
                    .statements
                    .get(&name)
                    .cloned()
                    .ok_or(Stop::Error("26000"))?;
                self.put(b't', b"\0\0");
                text
            }
            frontend::Object::Portal => {
                let portal = self.portals.get(&name).ok_or(Stop::Error("34000"))?;
                portal.text.clone()
            }
        };
        if text.starts_with("rows") {
            self.put(b'T', b"\0\0");
        } else {
            self.put(b'n', b"");
        }
        Ok(())
    }

    async fn execute(&mut self, body: &[u8]) -> Result<(), Stop> {
        let name = cut(frontend::execute(body).unwrap());
        let rows = body[body.len() - 4..]
            .try_into()
            .map(i32::from_be_bytes)
            .unwrap();
        let Some(mut portal) = self.portals.remove(&name) else {
            return Err(Stop::Error("34000"));
        };
        self.check_block(&portal.text)?;
        let text = portal.text.clone();
        let most = if rows == 0 {
            u32::MAX
        } else {
            rows.cast_unsigned()
        };
        self.run_one(&text, most, &mut portal.left).await?;
        if self.block || !matches!(text.as_str(), "commit" | "rollback") {
            self.portals.insert(name, portal);
        }
        Ok(())
    }

    async fn run_one(&mut self, one: &str, most: u32, left: &mut Option<u32>) -> Result<(), Stop> {
        self.log.lock().unwrap().ran.push(one.to_owned());
        let mut words: Vec<&str> = one.split_whitespace().collect();
        // Only who reads it cannot.
        words.retain(|word| *word != "unreadable");
        match words.as_slice() {
            [] => self.put(b'I', b""),
            ["begin"] => {
                self.block = true;
                self.complete("BEGIN");
            }
            [word @ ("commit" | "rollback")] => {
                let commit = *word == "commit" && !self.failed;
                self.block = false;
                self.failed = false;
                self.end_implicit(commit)?;
                self.complete(if commit { "COMMIT" } else { "ROLLBACK" });
            }
            ["fail", ..] => return Err(Stop::Error("22012")),
            ["crash", ..] => return Err(Stop::Gone),
            ["sleep", ..] => {
                self.flush().await;
                let cancel = Arc::clone(&self.log.lock().unwrap().cancel);
                cancel.notified().await;
                return Err(Stop::Error("57014"));
            }
            ["hang", ..] => std::future::pending().await,
            ["die", ..] => {
                let fields = ErrorFields::new(Severity::Fatal, "57P01", "going down");
                fields.write(&mut self.output, b'E');
                return Err(Stop::Gone);
            }
            ["rows", count, ..] => {
                let before = left.unwrap_or_else(|| count.parse().unwrap());
                let now = before.min(most);
                for _ in 0..now {
                    self.put(b'D', b"\0\x01\0\0\0\x01x");
                    self.flush_if_large().await;
                }
                *left = Some(before - now);
                if most == u32::MAX || before < most {
                    self.complete(&format!("SELECT {now}"));
                } else {
                    self.put(b's', b"");
                }
            }
            ["returning", count, ..] => {
                let (count, rows) = (count.parse().unwrap(), (most, left));
                self.returning(one, count, rows);
            }
            ["noise", ..] => {
                self.put(b'N', b"SNOTICE\0\0");
                self.put(b'D', b"\0\0");
                self.put(b'S', b"application_name\0x\0");
                self.put(b'D', b"\0\0");
                self.put(b'A', b"\0\0\0\x01c\0p\0");
                self.complete("SELECT 2");
            }
            ["copyout", ..] => {
                self.put(b'H', b"\0\0\0");
                self.put(b'd', b"row");
                self.put(b'c', b"");
                self.complete("COPY 1");
            }
            ["copyin", table] => self.copy_in(table).await?,
            ["stream" | "replicate", table] => self.stream_log(table).await?,
            words => self.run_named(one, words).await?,
        }
        Ok(())
    }

    /// A write that gives back so many rows: as many of them as are asked for.
    fn returning(&mut self, one: &str, count: u32, (most, left): (u32, &mut Option<u32>)) {
        if left.is_none() {
            self.uncommitted.push(one.to_owned());
        }
        let before = left.unwrap_or(count);
        let now = before.min(most);
        for _ in 0..now {
            self.put(b'D', b"\0\x01\0\0\0\x01x");
        }
        *left = Some(before - now);
        if most == u32::MAX || before < most {
            self.complete(&format!("UPDATE {count}"));
        } else {
            self.put(b's', b"");
        }
    }

    async fn run_named(&mut self, one: &str, words: &[&str]) -> Result<(), Stop> {
        match words {
            ["prepare", name, "as", body @ ..] => {
                if self.statements.contains_key(name.as_bytes()) {
                    return Err(Stop::Error("42P05"));
                }
                self.statements
                    .insert(name.as_bytes().to_vec(), body.join(" "));
                self.complete("PREPARE");
            }
            ["execute", name] => {
                let body = self.statements.get(name.as_bytes()).cloned();
                let body = body.ok_or(Stop::Error("26000"))?;
                Box::pin(self.run_one(&body, u32::MAX, &mut None)).await?;
            }
            ["deallocate", "all"] => {
                self.statements.retain(|name, _| name.is_empty());
                self.complete("DEALLOCATE ALL");
            }
            ["deallocate", name] => {
                self.statements
                    .remove(name.as_bytes())
                    .ok_or(Stop::Error("26000"))?;
                self.complete("DEALLOCATE");
            }
            ["declare", name, body @ ..] => {
                let text = body.join(" ");
                self.portals
                    .insert(name.as_bytes().to_vec(), Portal { text, left: None });
                self.complete("DECLARE CURSOR");
            }
            ["set", "client_encoding", value] => {
                self.changed.push(("client_encoding", (*value).to_owned()));
                self.complete("SET");
            }
            ["set", "search_path", value] => {
                self.changed.push(("search_path", (*value).to_owned()));
                self.complete("SET");
            }
            ["set", ..] => self.complete("SET"),
            ["discard"] => {
                self.statements.clear();
                self.complete("DISCARD ALL");
            }
            ["fetch" | "close", name] => self.use_cursor(words[0], name.as_bytes())?,
            ["touch", count, ..] => {
                let count: u32 = count.parse().map_err(|_beyond| Stop::Error("22012"))?;
                self.uncommitted.push(one.to_owned());
                self.complete(&format!("UPDATE {count}"));
            }
            _ => {
                self.deferred |= words[0] == "defer";
                self.uncommitted.push(one.to_owned());
                self.complete("INSERT 0 1");
            }
        }
        Ok(())
    }

    /// Two more rows of a cursor, or its end.
    fn use_cursor(&mut self, verb: &str, name: &[u8]) -> Result<(), Stop> {
        let mut portal = self.portals.remove(name).ok_or(Stop::Error("34000"))?;
        if verb == "close" {
            self.complete("CLOSE CURSOR");
            return Ok(());
        }
        let whole = portal.text.split_whitespace().nth(1);
        let whole = whole.and_then(|count| count.parse().ok());
        let before = portal.left.or(whole).unwrap_or(0);
        let now = before.min(2);
        for _ in 0..now {
            self.put(b'D', b"\0\x01\0\0\0\x01x");
        }
        portal.left = Some(before - now);
        self.complete(&format!("FETCH {now}"));
        self.portals.insert(name.to_vec(), portal);
        Ok(())
    }

    async fn flush_if_large(&mut self) {
        if self.output.len() > 8192 {
            self.flush().await;
        }
    }

    /// As `CopyGetData`: ignores `Flush` and `Sync`, takes data up to its end, dies of anything else.
    async fn copy_in(&mut self, table: &str) -> Result<(), Stop> {
        self.put(b'G', b"\0\0\0");
        self.flush().await;
        if table.starts_with("early") {
            return Err(Stop::Error("P0001"));
        }
        let mut rows = 0;
        loop {
            let Some((tag, body)) = self.next().await else {
                return Err(Stop::Gone);
            };
            match tag {
                b'd' if body == b"wrong" => return Err(Stop::Error("22P02")),
                b'd' => {
                    rows += 1;
                    let text = String::from_utf8(body).unwrap();
                    self.uncommitted.push(format!("{table} {text}"));
                }
                b'c' => break,
                b'f' => return Err(Stop::Error("57014")),
                b'H' | b'S' => {}
                _ => {
                    let fields = ErrorFields::new(Severity::Fatal, "08P01", "unexpected message");
                    fields.write(&mut self.output, b'E');
                    return Err(Stop::Gone);
                }
            }
        }
        self.complete(&format!("COPY {rows}"));
        Ok(())
    }
}

impl Server {
    /// As `WalSndLoop`: sends and takes data until both sides have ended it, dies of anything else.
    async fn stream_log(&mut self, table: &str) -> Result<(), Stop> {
        self.put(b'W', b"\0\0\0");
        self.put(b'd', b"log");
        let over = table.starts_with("over");
        if over {
            self.put(b'c', b"");
        }
        self.flush().await;
        if table.starts_with("early") {
            return Err(Stop::Error("P0001"));
        }
        loop {
            match self.next().await {
                Some((b'd', body)) => {
                    let text = String::from_utf8(body).unwrap();
                    self.log.lock().unwrap().ran.push(format!("heard {text}"));
                }
                Some((b'c', _)) => break,
                Some((b'X', _)) | None => return Err(Stop::Gone),
                Some(_) => {
                    let fields = ErrorFields::new(Severity::Fatal, "08P01", "invalid message");
                    fields.write(&mut self.output, b'E');
                    return Err(Stop::Gone);
                }
            }
        }
        if !over {
            self.put(b'c', b"");
        }
        self.put(b'T', b"\0\0");
        self.put(b'D', b"\0\0");
        self.complete("START_STREAMING");
        Ok(())
    }
}

fn is_bad(text: &str) -> bool {
    text.starts_with("bad") || text.starts_with(')')
}

fn cut(name: &[u8]) -> Vec<u8> {
    name[..name.len().min(63)].to_vec()
}
