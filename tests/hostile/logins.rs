//! A server that is hostile before there is a session: what it says to a login is refused in words of ours, in
//! little memory, and nobody else notices.

use std::io::{Read as _, Result as Io, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use support::daemon::Target;
use support::{DEADLINE, Postgres};

use crate::lab::{Lab, has, lacks, text};
use crate::upstreams::{greeting, header, message, parameter, ready};
use crate::volume::peak;

/// What the daemon may need more than before, in KiB, for a login of which it may read 4 MiB.
const MOST: u64 = 16 << 10;
/// What "without end" comes to where nobody ends it.
const ENDLESS: usize = 96 << 20;
/// Words of the server's, which are nobody's business but the audit's.
const SAID: &str = "words-of-the-server";

/// What the server does next.
#[derive(Clone)]
enum Step {
    Say(Vec<u8>),
    /// The same again and again.
    Forever(Vec<u8>),
    /// One message of the daemon's, or some bytes of it.
    Hear,
    /// Hears the beginning of SCRAM and goes on with it; `NONCE` stands for the daemon's nonce.
    Challenge(String),
}

/// A server that plays a script to each connection, behind its first packet.
struct Host {
    address: SocketAddr,
    script: Arc<Mutex<Vec<Step>>>,
}

impl Host {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let script = Arc::<Mutex<Vec<Step>>>::default();
        let plays = Arc::clone(&script);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let script = plays.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // The daemon goes away in the middle: that is what this is about.
                std::thread::spawn(move || drop(play(client, &script)));
            }
        });
        Ok(Self { address, script })
    }

    fn plays(&self, script: Vec<Step>) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }
}

fn play(mut client: TcpStream, script: &[Step]) -> Io<()> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let more = usize::try_from(u32::from_be_bytes(length)).unwrap_or(0);
    let mut first = vec![0; more.saturating_sub(4)];
    client.read_exact(&mut first)?;
    for step in script {
        match step {
            Step::Say(bytes) => client.write_all(bytes)?,
            Step::Forever(bytes) => {
                let many = bytes.repeat((1 << 16) / bytes.len() + 1);
                for _ in 0..ENDLESS / many.len() {
                    client.write_all(&many)?;
                }
            }
            Step::Hear => drop(client.read(&mut [0; 4096])?),
            Step::Challenge(data) => {
                let mut heard = [0; 4096];
                let count = client.read(&mut heard)?;
                let heard = String::from_utf8_lossy(heard.get(..count).unwrap_or_default());
                let nonce = heard.rsplit("r=").next().unwrap_or_default();
                let data = data.replace("NONCE", nonce);
                client.write_all(&asks(11, data.as_bytes()))?;
            }
        }
    }
    // The daemon ends it, and not the server.
    std::io::copy(&mut client, &mut std::io::sink()).map(drop)
}

/// A request for authentication.
fn asks(method: u8, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&[0, 0, 0, method][..], data].concat())
}

fn ok() -> Vec<u8> {
    asks(0, b"")
}

fn key(length: usize) -> Vec<u8> {
    message(b'K', &[&[0, 0, 0, 1][..], &vec![7; length]].concat())
}

fn negotiates(minor: u8, options: u8, names: &[u8]) -> Vec<u8> {
    message(
        b'v',
        &[&[0, 3, 0, minor, 0, 0, 0, options][..], names].concat(),
    )
}

fn error(more: &[u8]) -> Vec<u8> {
    let fields = [b"SFATAL\0VFATAL\0", more, b"M", SAID.as_bytes(), b"\0\0"];
    message(b'E', &fields.concat())
}

fn scram(names: &str) -> Vec<Step> {
    vec![Step::Say(asks(10, names.as_bytes()))]
}

/// A hostile server: its name, what it does, and what the audit says of it.
type Row = (&'static str, Vec<Step>, &'static str);

const NOT_DUE: &str = "is not due before a login ends";
const ORDER: &str = "came out of order";

fn say(parts: &[Vec<u8>]) -> Vec<Step> {
    vec![Step::Say(parts.concat())]
}

fn endless(begins: Vec<u8>, unit: &[u8]) -> Vec<Step> {
    vec![Step::Say(begins), Step::Forever(unit.to_vec())]
}

fn challenge(data: &str) -> Vec<Step> {
    let begins = scram("SCRAM-SHA-256\0\0");
    [begins, vec![Step::Challenge(data.to_owned())]].concat()
}

/// A message as long as there is none.
fn huge(tag: u8) -> Vec<Step> {
    endless(header(tag, i32::MAX >> 1), b"x")
}

/// Requests for authentication.
fn requests() -> Vec<Row> {
    vec![
        ("a request as long as there is none", huge(b'R'), NOT_DUE),
        (
            "a request longer than any",
            say(&[asks(10, &[b'x'; 2_000])]),
            NOT_DUE,
        ),
        (
            "a request with no length",
            say(&[header(b'R', 3)]),
            "a length of 3",
        ),
        (
            "more mechanisms than there are",
            scram(&("x\0".repeat(900) + "\0")),
            "are left after",
        ),
        (
            "a list of mechanisms with no end",
            scram("SCRAM-SHA-256\0"),
            "ends inside its mechanism",
        ),
        (
            "mechanisms that are none",
            scram(&(SAID.to_owned() + "\0\0")),
            "no SASL mechanism",
        ),
        (
            "a mechanism of another wire",
            scram("SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
            "not TLS",
        ),
        (
            "requests without end",
            endless(
                asks(10, b"SCRAM-SHA-256\0\0"),
                &asks(10, b"SCRAM-SHA-256\0\0"),
            ),
            ORDER,
        ),
    ]
}

/// Methods, and what comes of an exchange.
fn methods() -> Vec<Row> {
    vec![
        (
            "a method that nobody has",
            say(&[asks(99, b"")]),
            "asks for authentication request 99",
        ),
        (
            "a password in clear",
            say(&[asks(3, b"")]),
            "password in clear",
        ),
        (
            "a password for MD5",
            say(&[asks(5, b"salt")]),
            "asks for MD5",
        ),
        (
            "more iterations than a number has",
            challenge("r=NONCEx,s=c2FsdA==,i=2147483648"),
            "2147483648 SCRAM iterations",
        ),
        (
            "hardly an iteration",
            challenge("r=NONCEx,s=c2FsdA==,i=1"),
            "1 SCRAM iterations",
        ),
        (
            "a nonce of its own",
            challenge("r=mine,s=c2FsdA==,i=4096"),
            "does not extend ours",
        ),
        (
            "a nonce that is all there is",
            challenge(&format!("r=NONCE{},s=c2FsdA==,i=4096", "x".repeat(1_500))),
            "does not extend ours",
        ),
        (
            "no proof",
            [
                challenge("r=NONCEx,s=c2FsdA==,i=4096"),
                vec![Step::Hear],
                say(&[greeting()]),
            ]
            .concat(),
            "before it has proved",
        ),
        (
            "half a proof",
            [
                challenge("r=NONCEx,s=c2FsdA==,i=4096"),
                vec![Step::Hear],
                say(&[asks(12, b"v=AAAA"), greeting()]),
            ]
            .concat(),
            "SCRAM",
        ),
    ]
}

/// Settings and notices.
fn settings() -> Vec<Row> {
    let notice = message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mx\0\0");
    let setting = parameter("x.y", SAID);
    vec![
        (
            "settings without end",
            endless(ok(), &setting),
            "more than 256 settings",
        ),
        (
            "settings before a login",
            endless(Vec::new(), &setting),
            ORDER,
        ),
        (
            "a setting longer than any",
            say(&[ok(), parameter("x.y", &"x".repeat(9_000))]),
            NOT_DUE,
        ),
        (
            "a setting as long as there is none",
            [say(&[ok()]), huge(b'S')].concat(),
            NOT_DUE,
        ),
        (
            "a setting with no value",
            say(&[ok(), message(b'S', b"x.y\0")]),
            "ends inside its parameter value",
        ),
        (
            "notices without end",
            endless(Vec::new(), &notice),
            "more than 32 notices",
        ),
        (
            "notices behind a login",
            endless(ok(), &notice),
            "more than 32 notices",
        ),
        ("a notice as long as there is none", huge(b'N'), NOT_DUE),
    ]
}

/// Versions and cancel keys.
fn keys() -> Vec<Row> {
    vec![
        (
            "a version that nobody asked for",
            say(&[negotiates(9, 0, b""), greeting()]),
            "negotiates what was not asked for",
        ),
        (
            "a version twice",
            endless(negotiates(0, 0, b""), &negotiates(0, 0, b"")),
            "negotiates what was not asked for",
        ),
        (
            "options that nobody asked for",
            say(&[negotiates(0, 1, b"_pq_.x\0"), greeting()]),
            "negotiates what was not asked for",
        ),
        (
            "more options than follow",
            say(&[negotiates(0, 60, b""), greeting()]),
            "ends inside its protocol option",
        ),
        (
            "a version behind a login",
            say(&[ok(), negotiates(0, 0, b"")]),
            ORDER,
        ),
        (
            "a key twice",
            say(&[negotiates(0, 0, b""), ok(), key(4), key(4), ready()]),
            ORDER,
        ),
        (
            "keys without end",
            endless([negotiates(0, 0, b""), ok()].concat(), &key(4)),
            ORDER,
        ),
        ("a key before a login", say(&[key(4)]), ORDER),
        ("a key longer than any", say(&[ok(), key(257)]), NOT_DUE),
        (
            "a key of another version",
            say(&[negotiates(0, 0, b""), ok(), key(32), ready()]),
            "a cancel key of 32 bytes in protocol 3.0",
        ),
        ("a key with no secret", say(&[ok(), key(0)]), "cancel key"),
    ]
}

/// Ends that are none, and errors.
fn errors() -> Vec<Row> {
    vec![
        ("ready before a login", say(&[ready()]), ORDER),
        (
            "ready in a transaction",
            say(&[ok(), message(b'Z', b"T")]),
            ORDER,
        ),
        (
            "ready as nobody is",
            say(&[ok(), message(b'Z', b"?")]),
            "the protocol does not know",
        ),
        (
            "an error that says nothing",
            say(&[message(b'E', b"\0")]),
            "refused with",
        ),
        ("an error with no state", say(&[error(b"")]), "refused with"),
        (
            "an error with no end",
            say(&[message(b'E', b"SFATAL\0Mx")]),
            "ends inside",
        ),
        (
            "an error of many fields",
            say(&[error(&b"Dx\0".repeat(9_000))]),
            "its number of fields is 65",
        ),
        ("an error as long as there is none", huge(b'E'), NOT_DUE),
        (
            "an error as long as there is none, behind a login",
            [say(&[ok()]), huge(b'E')].concat(),
            NOT_DUE,
        ),
        (
            "errors without end",
            endless(Vec::new(), &error(b"C28P01\0")),
            "refused with",
        ),
    ]
}

/// What is no login at all, and answers to what the daemon asks.
fn answers() -> Vec<Row> {
    vec![
        (
            "rows before a login",
            endless(Vec::new(), &message(b'D', &[0, 0])),
            NOT_DUE,
        ),
        (
            "no message at all",
            endless(Vec::new(), &[0]),
            "log in upstream",
        ),
        (
            "answers without end to what the daemon asks",
            endless(greeting(), &message(b'C', b"BEGIN\0")),
            "more than",
        ),
        (
            "rows without end in answer to what the daemon asks",
            endless(
                [
                    greeting(),
                    message(b'C', b"BEGIN\0"),
                    message(b'C', b"SET\0"),
                    message(b'T', &[0, 0]),
                ]
                .concat(),
                &message(b'D', &[0, 0]),
            ),
            "log in upstream",
        ),
    ]
}

/// What can be said to a request for TLS.
fn tls_rows() -> Vec<Row> {
    let say = |bytes: &[u8]| say(&[bytes.to_vec()]);
    let clear = greeting();
    let at_once = [b"S", &clear[..]].concat();
    let handshake = "finish the upstream's TLS handshake";
    vec![
        (
            "TLS, and a login in clear at once",
            say(&at_once),
            "unencrypted data follows",
        ),
        (
            "TLS, and again, without end",
            vec![Step::Say(b"SS".to_vec()), Step::Forever(b"S".to_vec())],
            "unencrypted data follows",
        ),
        (
            "TLS, and then a login in clear",
            [say(b"S"), vec![Step::Hear], say(&clear)].concat(),
            handshake,
        ),
        (
            "TLS, and then nothing of it, without end",
            [
                say(b"S"),
                vec![Step::Hear, Step::Forever(vec![0x16, 3, 3, 0xff, 0xff])],
            ]
            .concat(),
            handshake,
        ),
        (
            "no TLS",
            [say(b"N"), vec![Step::Forever(clear.clone())]].concat(),
            "offers no TLS",
        ),
        (
            "an error instead of TLS",
            say(&error(b"C0A000\0")),
            "answers a request for TLS",
        ),
        (
            "errors instead of TLS, without end",
            vec![Step::Forever(error(b"C0A000\0"))],
            "answers a request for TLS",
        ),
        (
            "a login instead of TLS",
            say(&clear),
            "answers a request for TLS",
        ),
        (
            "an answer that is none",
            say(b"\0"),
            "answers a request for TLS",
        ),
    ]
}

/// Asks for protocol 3.2, and says the fields of what it is answered first, by their letters.
const CLIENT: &str = r#"
import socket, struct, sys
body = struct.pack("!i", 196610) + b"user\0a\0database\0shop\0\0"
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.settimeout(60)
s.sendall(struct.pack("!i", len(body) + 4) + body)
got = b""
while True:
    more = s.recv(65536)
    if not more: break
    got += more
print(got.replace(b"\0", b"|").decode("latin-1"))
"#;

/// A lab before two such servers: one that is asked for TLS, and one that is not.
fn lab(plain: &Host, secure: &Host) -> Result<Lab> {
    let server = Postgres::start()?;
    let clear = Target::postgres("clear", &server, plain.address);
    let mut tls = Target::postgres("tls", &server, secure.address);
    tls.tls = Some("{ mode: require }".to_owned());
    Lab::over(server, |settings| settings.targets.extend([clear, tls]))
}

#[test]
fn a_server_that_is_hostile_to_a_login_is_refused_in_little_memory_and_harms_nobody() -> Result<()>
{
    let (plain, secure) = (Host::start()?, Host::start()?);
    let lab = lab(&plain, &secure)?;
    let mut beside = lab.agent().open_psql(&lab.dsn())?;
    beside.send("select 'at first';\n")?;
    beside.await_text("at first", DEADLINE)?;
    let audit = lab.daemon.audit();
    let clear = [
        requests(),
        methods(),
        settings(),
        keys(),
        errors(),
        answers(),
    ];
    let rows = clear.into_iter().flatten().map(|row| (&plain, row));
    let rows = rows.chain(tls_rows().into_iter().map(|row| (&secure, row)));
    let mut wrong = Vec::new();
    for (number, (host, (what, script, expected))) in rows.enumerate() {
        host.plays(script);
        let (ip, port) = (
            host.address.ip().to_string(),
            host.address.port().to_string(),
        );
        peak(&lab.daemon)?;
        let before = peak(&lab.daemon)?;
        let told = lab
            .agent()
            .run("/usr/bin/python3", &["-c", CLIENT, &ip, &port])?
            .ok()
            .context(what)?;
        let told_ours = [
            "login at this target failed",
            "connection to this target failed",
        ];
        if !told.starts_with('E') || !told_ours.iter().any(|words| told.contains(words)) {
            wrong.push(format!("{what}: the agent heard {told}"));
        }
        lacks(&told, &[SAID]).context(what)?;
        let line = support::wait::for_fact("the refusal's line", DEADLINE, || {
            Ok(audit.events("connection.refused")?.get(number).cloned())
        })?;
        let cause = text(&line, "/cause")?;
        if !cause.contains(expected) {
            wrong.push(format!("{what}: the audit says {cause}"));
        }
        let grown = peak(&lab.daemon)?.saturating_sub(before);
        ensure!(grown < MOST, "{what}: the daemon grew by {grown} KiB");
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    beside.send("select 'un' || 'harmed';\n")?;
    beside.await_text("unharmed", DEADLINE)?;
    has(&lab.psql(&["select 'served'"])?.ok()?, &["served"])
}
