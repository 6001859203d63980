//! A client that sends statements in every way that the protocol has, and keeps every byte that it gets.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use interceptor::protocol::postgres::wire::frontend::{self, Object};
use interceptor::protocol::postgres::wire::{self, HEADER, Header, put_string};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::random::Random;
use crate::bridge::dial;
use crate::loop_rig::bind;

/// Longer than any statement may take: who waits for longer is out of step.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A `Query`.
    Simple,
    /// Prepared, described and run; results in text.
    Text,
    /// The same, results in binary.
    Binary,
    /// The same, without a description before it, a few rows at a time.
    Pieces,
}

impl Way {
    pub(super) fn any(random: &mut Random) -> Self {
        random.weighed(&[
            (40, Self::Simple),
            (20, Self::Text),
            (30, Self::Binary),
            (10, Self::Pieces),
        ])
    }

    fn messages(self, text: &str) -> Vec<u8> {
        if self == Self::Simple {
            return frontend::make_query(text).to_vec();
        }
        let format = i16::from(self != Self::Text);
        let bind = bind(&[], format);
        let parse = frontend::make_parse("", text);
        let sync = frontend::make_bare(b'S');
        match self {
            Self::Pieces => {
                let execute = frontend::make_execute("", 3);
                // Nothing else can be run twice.
                let again: &[u8] = match is_query(text) {
                    true => &execute,
                    false => &[],
                };
                [&parse[..], &bind, &execute, again, &sync].concat()
            }
            _ => {
                let described = [
                    frontend::make_about(b'D', Object::Statement, ""),
                    bind,
                    frontend::make_about(b'D', Object::Portal, ""),
                    frontend::make_execute("", 0),
                ];
                [&parse[..], &described.concat(), &sync].concat()
            }
        }
    }
}

fn is_query(text: &str) -> bool {
    let starts = |word| text.starts_with(word);
    ["SELECT", "(SELECT", "WITH", "VALUES", "TABLE"]
        .into_iter()
        .any(starts)
}

/// Whether it is about transactions and names, and nothing that is worth counting.
fn is_control(text: &str) -> bool {
    let first = text.split(' ').next().unwrap_or_default();
    matches!(
        first,
        "BEGIN" | "ROLLBACK" | "DEALLOCATE" | "CLOSE" | "SAVEPOINT" | "RESET"
    )
}

/// What became of statements.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) statements: u64,
    /// They gave rows, or data.
    pub(super) rows: u64,
    /// They were done, and gave none.
    pub(super) done: u64,
    /// We refused them.
    pub(super) refused: u64,
    /// The server failed them.
    pub(super) failed: u64,
    pub(super) bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.statements += other.statements;
        self.rows += other.rows;
        self.done += other.done;
        self.refused += other.refused;
        self.failed += other.failed;
        self.bytes += other.bytes;
    }

    fn count(&mut self, answer: &Answer) {
        self.statements += 1;
        self.bytes += u64::try_from(answer.bytes.len()).unwrap();
        *match answer {
            Answer { refused: true, .. } => &mut self.refused,
            Answer { failed: true, .. } => &mut self.failed,
            Answer { rows: true, .. } => &mut self.rows,
            _ => &mut self.done,
        } += 1;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |count: u64| count * 100 / self.statements.max(1);
        write!(
            to,
            "{} statements: {} % with rows, {} % without, {} % refused, {} % failed; {} bytes",
            self.statements,
            percent(self.rows),
            percent(self.done),
            percent(self.refused),
            percent(self.failed),
            self.bytes
        )
    }
}

/// All that came back for a statement.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    rows: bool,
    pub(super) refused: bool,
    pub(super) failed: bool,
    /// Nothing more comes.
    pub(super) ended: bool,
}

/// A session of the canary.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    input: BytesMut,
    pub(super) tally: Tally,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr, database: &str) -> Self {
        let mut client = Self {
            stream: dial(address).await.unwrap(),
            input: BytesMut::new(),
            tally: Tally::default(),
        };
        client.stream.set_nodelay(true).unwrap();
        let mut startup = BytesMut::new();
        startup.put_i32(0x0003_0000);
        for text in ["user", "trusted", "database", database, ""] {
            put_string(&mut startup, text.as_bytes());
        }
        let length = i32::try_from(startup.len() + 4).unwrap().to_be_bytes();
        client.stream.write_all(&length).await.unwrap();
        client.stream.write_all(&startup).await.unwrap();
        let greeting = client.answer(Way::Simple).await.unwrap();
        assert!(!greeting.ended, "{database}");
        client
    }

    /// Sends a statement and reads all that comes of it.
    pub(super) async fn ask(&mut self, text: &str, way: Way) -> Answer {
        // During a copy into the server there is nothing to synchronise by.
        let copies = text.to_ascii_lowercase().contains("from stdin");
        let way = if copies { Way::Simple } else { way };
        let sent = self.stream.write_all(&way.messages(text)).await;
        let answer = match sent {
            Ok(()) => timeout(DEADLINE, self.answer(way)).await,
            Err(_) => Ok(None),
        };
        let answer = answer.unwrap_or_else(|_| panic!("no answer as {way:?} to {text}"));
        let answer = answer.unwrap_or_else(|| Answer {
            ended: true,
            ..Answer::default()
        });
        if is_control(text) {
            self.tally.bytes += u64::try_from(answer.bytes.len()).unwrap();
        } else {
            self.tally.count(&answer);
        }
        answer
    }

    async fn answer(&mut self, way: Way) -> Option<Answer> {
        let mut answer = Answer::default();
        loop {
            let Ok(header) = Header::read(&self.input) else {
                panic!("not a message: {}", self.input.escape_ascii());
            };
            if let Some(header) = header
                && self.input.len() >= header.whole()
            {
                let message = self.input.split_to(header.whole());
                answer.bytes.extend_from_slice(&message);
                match header.tag {
                    b'D' | b'd' => answer.rows = true,
                    b'E' => {
                        let words = message[HEADER..].windows(8);
                        let ours = words.clone().any(|word| word == b"request ");
                        answer.refused |= ours;
                        answer.failed |= !ours;
                    }
                    b'G' => self.copy_in(way).await?,
                    b'Z' => return Some(answer),
                    _ => {}
                }
                continue;
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                answer.bytes.extend_from_slice(self.input.chunk());
                answer.ended = true;
                return Some(answer);
            }
        }
    }

    /// Something, so that the statement comes to its end.
    async fn copy_in(&mut self, way: Way) -> Option<()> {
        assert_eq!(way, Way::Simple);
        let data = wire::message(b'd', |to| to.put_slice(b"x\t1\n"));
        let messages = [data, frontend::make_bare(b'c')].concat();
        self.stream.write_all(&messages).await.ok()
    }
}
