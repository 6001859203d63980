//! A client, the relay and the model server, joined by pipes.

use std::sync::{Arc, Mutex};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::super::super::facts::Names;
use super::super::super::wire::backend::Status;
use super::super::super::wire::error::ErrorFields;
use super::super::super::wire::frontend::{self, Object};
use super::super::super::wire::{self, Header};
use super::super::{End, Patience, Start, relay};
use super::gate::{FakeGate, read};
use super::server::{Log, Server};

/// How many bytes a pipe holds: few, so that nobody lives on its slack.
pub(crate) const SLACK: usize = 512;

pub(crate) struct Rig {
    pub(crate) client: DuplexStream,
    pub(crate) gate: Arc<FakeGate>,
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) relay: JoinHandle<End>,
    pub(crate) server: JoinHandle<()>,
    /// How often what runs was cancelled.
    pub(crate) cancelled: Arc<Mutex<usize>>,
    input: BytesMut,
}

pub(crate) fn start(cancelled: &Arc<Mutex<usize>>, log: &Arc<Mutex<Log>>) -> Start {
    let (cancelled, log) = (Arc::clone(cancelled), Arc::clone(log));
    let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Start {
        names: Names {
            search_path: Some(vec!["public".to_owned()]),
            utf8: true,
            ..Names::default()
        },
        read,
        known: None,
        parameters: vec![
            parameter("client_encoding", "UTF8"),
            parameter("standard_conforming_strings", "on"),
        ],
        status: Status::Idle,
        from_client: BytesMut::new(),
        from_upstream: BytesMut::new(),
        cancel: Box::new(move || {
            let (cancelled, log) = (Arc::clone(&cancelled), Arc::clone(&log));
            Box::pin(async move {
                *cancelled.lock().unwrap() += 1;
                log.lock().unwrap().cancel.notify_one();
            })
        }),
        look: None,
        step_aside: Box::new(|| Box::pin(async {})),
        interrupted: Arc::default(),
        asked: Vec::new(),
        steered: false,
        patience: Patience::default(),
        detectors: None,
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::over(SLACK)
    }

    fn over(slack: usize) -> Self {
        Self::with(slack, |_| {})
    }

    /// With what a test changes at the start.
    pub(crate) fn with(slack: usize, change: impl FnOnce(&mut Start)) -> Self {
        let (upstream, server) = duplex(slack);
        let log = Arc::new(Mutex::new(Log::default()));
        let server = tokio::spawn(Server::new(server, Arc::clone(&log)).run());
        let mut rig = Self::before(upstream, log, FakeGate::default(), change);
        rig.server = server;
        rig
    }

    /// With a server that the test plays.
    pub(crate) fn against(upstream: DuplexStream) -> Self {
        Self::before(upstream, Arc::default(), FakeGate::default(), |_| {})
    }

    /// With `people.ssn` masked, which is column 2 of relation 16400, and its view of number 16500.
    pub(crate) fn masked() -> Self {
        let (upstream, server) = duplex(SLACK);
        let log = Arc::new(Mutex::new(Log::default()));
        let server = tokio::spawn(Server::new(server, Arc::clone(&log)).run());
        let mut rig = Self::masked_against(upstream, log);
        rig.server = server;
        rig
    }

    /// The same with a server that the test plays.
    pub(crate) fn masked_against(upstream: DuplexStream, log: Arc<Mutex<Log>>) -> Self {
        let gate = FakeGate {
            masks: Arc::new(super::masked::masks()),
            ..FakeGate::default()
        };
        Self::before(upstream, log, gate, |start| {
            start.known = Some(super::masked::known());
        })
    }

    /// The same, with what a test changes at the start.
    pub(crate) fn against_with(upstream: DuplexStream, change: impl FnOnce(&mut Start)) -> Self {
        Self::before(upstream, Arc::default(), FakeGate::default(), change)
    }

    pub(crate) fn before(
        upstream: DuplexStream,
        log: Arc<Mutex<Log>>,
        gate: FakeGate,
        change: impl FnOnce(&mut Start),
    ) -> Self {
        let (client, downstream) = duplex(SLACK);
        let gate = Arc::new(gate);
        let cancelled = Arc::default();
        let mut start = start(&cancelled, &log);
        change(&mut start);
        let run = relay(Arc::clone(&gate), downstream, upstream, start);
        Self {
            client,
            gate,
            log,
            relay: tokio::spawn(run),
            server: tokio::spawn(async {}),
            cancelled,
            input: BytesMut::new(),
        }
    }

    pub(crate) async fn send(&mut self, script: &str) {
        for one in messages(script) {
            self.client.write_all(&one).await.unwrap();
        }
    }

    /// Reads replies until one is `last`, as told.
    pub(crate) async fn read_until(&mut self, last: &str) -> String {
        let mut told = Vec::new();
        while let Some((tag, body)) = self.next().await {
            told.push(tell(tag, &body));
            if told.last().is_some_and(|one| one == last) {
                break;
            }
        }
        told.join(" ")
    }

    pub(crate) async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some(header) = Header::read(&self.input).unwrap()
                && self.input.len() >= header.whole()
            {
                let mut message = self.input.split_to(header.whole()).freeze();
                return Some((header.tag, message.split_off(wire::HEADER)));
            }
            if self.client.read_buf(&mut self.input).await.unwrap() == 0 {
                assert!(self.input.is_empty(), "half a message: {:?}", self.input);
                return None;
            }
        }
    }

    /// Closes the client's side and tells all that still comes.
    pub(crate) async fn finish(mut self) -> (String, End, Log, Arc<FakeGate>) {
        self.client.shutdown().await.unwrap();
        let told = self.read_until("never").await;
        drop(self.client);
        let end = self.relay.await.unwrap();
        self.server.await.unwrap();
        self.gate.assert_balanced();
        let log = self.log.lock().unwrap().clone();
        (told, end, log, self.gate)
    }
}

/// Sends all at once, without waiting for anything, and tells what comes back.
pub(crate) async fn exchange(script: &str) -> (String, End, Log, Arc<FakeGate>) {
    exchange_over(SLACK, script).await
}

/// The same, over pipes that hold `slack` bytes.
pub(crate) async fn exchange_over(slack: usize, script: &str) -> (String, End, Log, Arc<FakeGate>) {
    let rig = Rig::over(slack);
    let got = send_and_read(rig.client, script).await;
    let end = rig.relay.await.unwrap();
    rig.server.await.unwrap();
    rig.gate.assert_balanced();
    let log = rig.log.lock().unwrap().clone();
    let told = tell_all(&got);
    assert_eq!(
        tell_all(&rig.gate.received.lock().unwrap()),
        told,
        "recorded as seen"
    );
    (told, end, log, rig.gate)
}

/// The same, with nothing between client and server.
pub(crate) async fn exchange_directly(script: &str) -> (String, Log) {
    let (client, server) = duplex(SLACK);
    let log = Arc::new(Mutex::new(Log::default()));
    let server = tokio::spawn(Server::new(server, Arc::clone(&log)).run());
    let got = send_and_read(client, script).await;
    server.await.unwrap();
    let log = log.lock().unwrap().clone();
    (tell_all(&got), log)
}

async fn send_and_read(client: DuplexStream, script: &str) -> Vec<u8> {
    let (mut reads, mut writes) = tokio::io::split(client);
    let script = messages(script).concat();
    let send = async {
        // The other side may end before it has read everything.
        drop(writes.write_all(&script).await);
        drop(writes.shutdown().await);
    };
    let mut got = Vec::new();
    let ((), received) = tokio::join!(send, reads.read_to_end(&mut got));
    received.unwrap();
    got
}

/// Sends bytes that may be anything; only that both ends come to an end counts, and what was judged.
pub(crate) async fn survive(bytes: &[u8]) -> Arc<FakeGate> {
    let (upstream, mut server) = duplex(SLACK);
    let rig = Rig::against(upstream);
    let (mut reads, mut writes) = tokio::io::split(rig.client);
    let gate = Arc::clone(&rig.gate);
    let send = async {
        drop(writes.write_all(bytes).await);
        drop(writes.shutdown().await);
        // Its server never answers, so that somebody must end it. How far it has come by then is no matter.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        gate.end.notify_one();
    };
    let swallow = async {
        let mut all = Vec::new();
        drop(server.read_to_end(&mut all).await);
        drop(server);
    };
    let mut got = Vec::new();
    let ((), (), _) = tokio::join!(send, swallow, reads.read_to_end(&mut got));
    drop(rig.relay.await.unwrap());
    rig.gate.assert_balanced();
    rig.gate
}

/// Tells a stream of replies.
pub(crate) fn tell_all(mut bytes: &[u8]) -> String {
    let mut told = Vec::new();
    while let Some(header) = Header::read(bytes).unwrap() {
        told.push(tell(header.tag, &bytes[wire::HEADER..header.whole()]));
        bytes = &bytes[header.whole()..];
    }
    assert!(bytes.is_empty(), "half a message: {bytes:?}");
    told.join(" ")
}

fn tell(tag: u8, body: &[u8]) -> String {
    let tag = char::from(tag);
    match tag {
        'E' => {
            let fields = ErrorFields::read(body).unwrap();
            format!("E:{}", fields.sqlstate().unwrap_or("none"))
        }
        'Z' => format!("Z:{}", char::from(body[0])),
        'C' => format!(
            "C:{}",
            String::from_utf8_lossy(&body[..body.len() - 1]).replace(' ', "_")
        ),
        _ => tag.to_string(),
    }
}

/// Messages of a script: `Q text`, `P name text`, `B portal name`, `D S|P name`, `E portal [rows]`,
/// `C S|P name`, `S`, `H`, `F`, `d data`, `c`, `f`, `X`, parted by bars. `-` is the empty name.
pub(crate) fn messages(script: &str) -> Vec<Bytes> {
    script
        .split('|')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .map(message)
        .collect()
}

fn message(one: &str) -> Bytes {
    let (tag, rest) = one.split_once(' ').unwrap_or((one, ""));
    let name = |name: &str| {
        if name == "-" {
            String::new()
        } else {
            name.to_owned()
        }
    };
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let object = if first == "S" {
        Object::Statement
    } else {
        Object::Portal
    };
    match tag {
        "Q" => frontend::make_query(rest),
        "P" => frontend::make_parse(&name(first), second),
        "B" => frontend::make_bind(&name(first), &name(second)),
        "D" => frontend::make_about(b'D', object, &name(second)),
        "C" => frontend::make_about(b'C', object, &name(second)),
        "E" => frontend::make_execute(&name(first), second.parse().unwrap_or(0)),
        "F" => wire::message(b'F', |to| to.put_slice(&[0, 0, 4, 1, 0, 0, 0, 0, 0, 0])),
        "d" => wire::message(b'd', |to| to.put_slice(rest.as_bytes())),
        "f" => wire::message(b'f', |to| wire::put_string(to, rest.as_bytes())),
        bare => frontend::make_bare(bare.as_bytes()[0]),
    }
}
