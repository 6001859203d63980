//! The request loop and its queue of owed replies, between a client and a server that both say anything.
//!
//! The input is a play: who says what next. Whatever they say, the session comes to an end, every request
//! that was permitted is finished once, nothing goes upstream that runs or plans a text which was not
//! permitted, and both hear whole messages, but for the last.
#![no_main]

#[path = "../../protocol/loop_gate.rs"]
mod loop_gate;

use std::sync::Arc;

use bytes::BytesMut;
use interceptor::protocol::postgres::facts::{self, Names};
use interceptor::protocol::postgres::refuse::POISON;
use interceptor::protocol::postgres::session::{Patience, Start, relay};
use interceptor::protocol::postgres::wire::backend::Status;
use interceptor::protocol::postgres::wire::error::{ErrorFields, Severity};
use interceptor::protocol::postgres::wire::frontend::{self, Object};
use interceptor::protocol::postgres::wire::{self, HEADER, backend};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use self::loop_gate::{PolicyGate, Rules};

const TEXTS: &[&str] = &[
    "SELECT 1",
    "TABLE t",
    "TABLE denied",
    "INSERT INTO t VALUES (1)",
    "INSERT INTO denied VALUES (1)",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s; ROLLBACK TO s",
    "COPY t FROM STDIN",
    "COPY denied FROM STDIN",
    "COPY t TO STDOUT",
    "PREPARE s AS TABLE t",
    "EXECUTE s",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DECLARE p CURSOR WITH HOLD FOR TABLE t",
    "CLOSE ALL",
    "SET search_path = x",
    "SET LOCAL search_path = y",
    "RESET ALL",
    "SET client_encoding = 'LATIN1'",
    "SELEC",
    "",
];
const NAMES: &[&str] = &[
    "",
    "s",
    "p",
    "a name that is longer than the sixty-three bytes which a server keeps of one",
];

/// One line of the play: whether the client says it, and what.
fn lines(mut play: &[u8]) -> Vec<(bool, Vec<u8>)> {
    let mut lines = Vec::new();
    while let [kind, pick, rest @ ..] = play
        && lines.len() < 200
    {
        play = rest;
        let pick = usize::from(*pick);
        let by_client = kind & 1 == 0;
        let said = match (kind >> 1) % 8 {
            // Anything, a few bytes of it.
            0 => {
                let (said, rest) = play.split_at(play.len().min(pick % 24));
                play = rest;
                said.to_vec()
            }
            kind if by_client => client(kind, pick),
            _ => server(pick),
        };
        lines.push((by_client, said));
    }
    lines
}

fn client(kind: u8, pick: usize) -> Vec<u8> {
    let text = TEXTS[pick % TEXTS.len()];
    let name = NAMES[pick % NAMES.len()];
    let other = NAMES[pick / 4 % NAMES.len()];
    let object = if pick % 2 == 0 {
        Object::Statement
    } else {
        Object::Portal
    };
    let message = match kind {
        1 => frontend::make_query(text),
        2 => frontend::make_parse(NAMES[pick / TEXTS.len() % NAMES.len()], text),
        3 => frontend::make_bind(name, other),
        4 => frontend::make_execute(name, 0),
        5 => frontend::make_about(if pick % 3 == 0 { b'D' } else { b'C' }, object, other),
        6 => frontend::make_bare(*b"SSSSHcX".get(pick % 7).unwrap_or(&b'S')),
        _ => wire::message([b'd', b'f', b'F'][pick % 3], |to| {
            to.extend_from_slice(b"a\0")
        }),
    };
    message.to_vec()
}

fn server(pick: usize) -> Vec<u8> {
    let bare = |tag: u8, body: &[u8]| wire::message(tag, |to| to.extend_from_slice(body));
    let error = |severity, state| ErrorFields::new(severity, state, "said so").response();
    let message = match pick % 24 {
        0 | 1 => backend::make_ready(Status::Idle),
        2 => backend::make_ready(Status::Open),
        3 => backend::make_ready(Status::Failed),
        4 => bare(b'1', b""),
        5 => bare(b'2', b""),
        6 => bare(b'3', b""),
        7 => bare(b'C', b"INSERT 0 1\0"),
        8 => bare(b'C', b"SELECT 2\0"),
        9 => bare(b'T', b"\0\0"),
        10 => bare(b'D', b"\0\0"),
        11 => bare(b'n', b""),
        12 => bare(b't', b"\0\0"),
        13 => bare(b's', b""),
        14 => bare(b'I', b""),
        15 => bare(b'G', b"\0\0\0"),
        16 => bare(b'H', b"\0\0\0"),
        17 => bare([b'd', b'c'][pick / 24 % 2], b""),
        18 => bare(b'S', b"client_encoding\0UTF8\0"),
        19 => bare(b'S', b"standard_conforming_strings\0off\0"),
        20 => bare([b'N', b'A', b'V', b'W'][pick / 24 % 4], b"\0\0\0"),
        21 => error(Severity::Fatal, "57P01"),
        _ => error(Severity::Error, "42601"),
    };
    message.to_vec()
}

/// Says its lines, hears everything, and goes; what it heard.
async fn act(mut stream: DuplexStream, says: Vec<Vec<u8>>) -> Vec<u8> {
    let (mut reads, mut writes) = tokio::io::split(&mut stream);
    let say = async {
        for line in says {
            // The other side may have gone.
            let _gone = writes.write_all(&line).await;
            tokio::task::yield_now().await;
        }
        let _gone = writes.shutdown().await;
    };
    let mut heard = Vec::new();
    let ((), read) = tokio::join!(say, reads.read_to_end(&mut heard));
    drop(read);
    heard
}

fn start() -> Start {
    let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Start {
        names: Names {
            search_path: Some(vec!["public".to_owned()]),
            utf8: true,
            ..Names::default()
        },
        read: facts::read,
        known: None,
        parameters: vec![
            parameter("client_encoding", "UTF8"),
            parameter("standard_conforming_strings", "on"),
        ],
        status: Status::Idle,
        from_client: BytesMut::new(),
        from_upstream: BytesMut::new(),
        cancel: Box::new(|| Box::pin(async {})),
        look: None,
        step_aside: Box::new(|| Box::pin(async {})),
        interrupted: Arc::default(),
        asked: Vec::new(),
        steered: false,
        patience: Patience::default(),
        detectors: None,
    }
}

/// Whole messages up to the last; their tags and bodies.
fn messages(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut messages = Vec::new();
    while let Ok(Some(header)) = wire::Header::read(bytes)
        && let Some(body) = bytes.get(HEADER..header.whole())
    {
        messages.push((header.tag, body));
        bytes = &bytes[header.whole()..];
    }
    messages
}

/// Nothing went upstream that runs or plans a text, but what the gate permitted and the poison.
fn assert_judged(upstream: &[u8], gate: &PolicyGate) {
    let lines = gate.lines();
    let permitted: Vec<_> = lines.iter().filter(|line| line.permitted).collect();
    let mut executed = 0;
    for (tag, body) in messages(upstream) {
        let text = match tag {
            frontend::QUERY => frontend::query(body),
            frontend::PARSE => frontend::parse(body).map(|(_, text)| text),
            frontend::EXECUTE | frontend::FUNCTION_CALL => {
                executed += 1;
                continue;
            }
            _ => continue,
        };
        let text = String::from_utf8_lossy(text.expect("what goes upstream has its form"));
        let known = text == POISON || permitted.iter().any(|line| line.text == text);
        assert!(known, "{text} went upstream");
        assert!(!text.contains("denied"), "{text} went upstream");
    }
    assert!(executed <= permitted.len(), "{executed} went upstream");
}

fuzz_target!(|play: &[u8]| {
    let (client_says, server_says): (Vec<_>, Vec<_>) = lines(play)
        .into_iter()
        .partition(|(by_client, _)| *by_client);
    let said = |lines: Vec<(bool, Vec<u8>)>| lines.into_iter().map(|(_, said)| said).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let gate = Arc::new(PolicyGate::new(Rules::Closed, &Arc::default()));
    let (upstream, heard) = runtime.block_on(async {
        let (client, downstream) = duplex(256);
        let (server, upstream) = duplex(256);
        let relay = tokio::spawn(relay(Arc::clone(&gate), downstream, upstream, start()));
        let client = tokio::spawn(act(client, said(client_says)));
        let upstream = act(server, said(server_says)).await;
        relay.await.expect("the session ends");
        (upstream, client.await.expect("the client ends"))
    });
    gate.assert_balanced();
    assert_judged(&upstream, &gate);
    for (tag, _) in messages(&heard) {
        assert!(
            backend::cap(tag).is_some(),
            "the client heard {}",
            wire::Tag(tag)
        );
    }
});
