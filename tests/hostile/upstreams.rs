//! A server that says what no server says: nobody but its own session may notice.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use support::agent::Dsn;
use support::daemon::Target;
use support::{DEADLINE, Daemon, Postgres};

use crate::lab::{Lab, has, lacks};
use crate::volume::{MOST, peak};

/// A server that logs everybody in, and then answers each query with what it is told to say.
#[derive(Clone)]
pub(crate) struct Liar {
    pub(crate) address: SocketAddr,
    says: Arc<Mutex<Vec<u8>>>,
    goes: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<u8>>>,
    /// Nobody takes what it says.
    stuck: Arc<AtomicBool>,
}

impl Liar {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let says = Arc::<Mutex<Vec<u8>>>::default();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let (goes, stuck) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let liar = Self {
            address,
            says,
            goes,
            heard,
            stuck,
        };
        let of_all = liar.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let of_this = of_all.clone();
                // A client that goes away is what most of this is about.
                std::thread::spawn(move || drop(of_this.serve(client)));
            }
        });
        Ok(liar)
    }

    /// From now on it dies behind what it says.
    pub(crate) fn will_die(&self) {
        self.goes.store(true, Ordering::SeqCst);
    }

    pub(crate) fn will_say(&self, bytes: &[u8]) {
        let mut says = self.says.lock().unwrap_or_else(PoisonError::into_inner);
        *says = bytes.to_vec();
    }

    fn heard(&self) -> String {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&heard).into_owned()
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        client.set_write_timeout(Some(STUCK_AFTER))?;
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut startup = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap_or(4) - 4];
        client.read_exact(&mut startup)?;
        client.write_all(&greeting())?;
        loop {
            let mut head = [0; 5];
            client.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; usize::try_from(length).unwrap_or(4) - 4];
            client.read_exact(&mut body)?;
            if let Some(own) = answered(&body) {
                client.write_all(&own)?;
            } else if head[0] == b'X' {
                return Ok(());
            } else {
                let says = self.says.lock().unwrap_or_else(PoisonError::into_inner);
                let says = says.clone();
                let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.extend(&body);
                drop(heard);
                self.say(&mut client, &says)?;
                if self.goes.load(Ordering::SeqCst) {
                    return Ok(());
                }
            }
        }
    }

    /// Says all of it, however long nobody takes it.
    fn say(&self, client: &mut TcpStream, mut says: &[u8]) -> std::io::Result<()> {
        use std::io::ErrorKind;
        while !says.is_empty() {
            match client.write(says) {
                Ok(taken) => says = says.get(taken..).unwrap_or_default(),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    self.stuck.store(true, Ordering::SeqCst);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Behind a peer that takes nothing for so long nothing moves any more: buffers everywhere are full.
const STUCK_AFTER: Duration = Duration::from_secs(1);

pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// A header alone, with a length that is not true.
pub(crate) fn header(tag: u8, length: i32) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes()].concat()
}

fn row(column: &[u8]) -> Vec<u8> {
    let length = u32::try_from(column.len()).unwrap_or(u32::MAX);
    message(b'D', &[&[0, 1][..], &length.to_be_bytes(), column].concat())
}

pub(crate) fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

pub(crate) fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// A result of one row in one column that is called `c`.
pub(crate) fn result(column: &[u8]) -> Vec<u8> {
    let mut described = vec![0, 1];
    described.extend(b"c\0");
    described.extend([0; 6]);
    described.extend([0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
    [
        message(b'T', &described),
        row(column),
        message(b'C', b"SELECT 1\0"),
    ]
    .concat()
}

pub(crate) fn greeting() -> Vec<u8> {
    let reported = [
        ("server_version", "15.0"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("DateStyle", "ISO, MDY"),
        ("integer_datetimes", "on"),
    ];
    let reported = reported
        .map(|(name, value)| parameter(name, value))
        .concat();
    let key = message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]);
    [message(b'R', &[0; 4]), reported, key, ready()].concat()
}

/// The answer to what the daemon asks of a session that was just opened.
fn settled() -> Vec<u8> {
    let columns = [&b"1"[..], b"public", b"f", b"off"].map(|text| {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&length[..], text].concat()
    });
    [
        message(b'C', b"BEGIN\0"),
        message(b'C', b"SET\0"),
        message(b'T', &[0, 0]),
        message(b'D', &[&[0, 4][..], &columns.concat()].concat()),
        message(b'C', b"SELECT 1\0"),
        message(b'C', b"COMMIT\0"),
        ready(),
    ]
    .concat()
}

/// What a server answers to the daemon's own questions before a session begins; `None` to anything else.
pub(crate) fn answered(query: &[u8]) -> Option<Vec<u8>> {
    let has = |word: &[u8]| query.windows(word.len()).any(|part| part == word);
    if has(b"pg_proc") {
        Some(catalog())
    } else {
        has(b"pg_backend_pid").then(settled)
    }
}

/// The answer to what the daemon asks about roles, relations and functions.
fn catalog() -> Vec<u8> {
    let column = |text: &[u8]| {
        [
            &u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes()[..],
            text,
        ]
        .concat()
    };
    let roles = [&[0, 2][..], &column(b"f"), &column(b"f")].concat();
    let table = |row: Vec<u8>| [message(b'T', &[0, 0]), row, message(b'C', b"SELECT 1\0")].concat();
    [
        message(b'C', b"BEGIN\0"),
        message(b'C', b"SET\0"),
        table(message(b'D', &roles)),
        table(row(b"pg_class")),
        table(row(b"wipe")),
        message(b'C', b"COMMIT\0"),
        ready(),
    ]
    .concat()
}

/// A daemon before the liar and a real server.
pub(crate) fn lab(liar: &Liar) -> Result<(Lab, Dsn)> {
    let server = Postgres::start()?;
    let lie = Target::postgres("liar", &server, liar.address);
    let lab = Lab::over(server, |settings| settings.targets.push(lie))?;
    let dsn = Dsn::of(liar.address, "anybody", lab.server.database());
    Ok((lab, dsn))
}

/// Resident memory in KiB.
pub(crate) fn resident(daemon: &Daemon) -> Result<u64> {
    let pid = daemon.process().context("the daemon runs")?.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("a process has a size")?.parse()?)
}

#[test]
fn replies_that_nobody_asked_for_end_the_session_and_only_it() -> Result<()> {
    let liar = Liar::start()?;
    let (lab, dsn) = lab(&liar)?;
    liar.will_say(&[result(b"honest"), ready()].concat());
    let output = lab.agent().psql(&dsn, &["select 1"])?.ok()?;
    has(&output, &["honest"])?;
    let fields = b"SERROR\0VERROR\0C42501\0Mno\0\0";
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("ready twice", [ready(), ready()].concat()),
        (
            "too much",
            [result(b"a"), ready(), result(b"b"), ready()].concat(),
        ),
        (
            "a password, please",
            [message(b'R', &[0, 0, 0, 3]), ready()].concat(),
        ),
        ("another key", [message(b'K', &[0; 8]), ready()].concat()),
        (
            "another version",
            [message(b'v', &[0; 8]), ready()].concat(),
        ),
        ("data wanted", message(b'G', &[0, 0, 0])),
        ("data both ways", message(b'W', &[0, 0, 0])),
        (
            "a parse that was not",
            [message(b'1', b""), ready()].concat(),
        ),
        (
            "a bind that was not",
            [message(b'2', b""), ready()].concat(),
        ),
        ("no length", header(b'D', 0)),
        ("a negative length", header(b'D', -1)),
        ("a short length", header(b'Z', 3)),
        ("a long ready", header(b'Z', 1 << 30)),
        ("a long tag", header(b'C', 1 << 30)),
        ("a long setting", header(b'S', i32::MAX)),
        ("a strange state", message(b'Z', b"?")),
        ("no message at all", vec![0; 64]),
        (
            "a setting without an end",
            message(b'S', b"client_encoding"),
        ),
        ("a tag without an end", message(b'C', b"SELECT 1")),
        (
            "two errors",
            [message(b'E', fields), message(b'E', fields), ready()].concat(),
        ),
        (
            "an error, then rows",
            [message(b'E', fields), result(b"a"), ready()].concat(),
        ),
    ];
    for (lie, bytes) in lies {
        liar.will_say(&bytes);
        let finished = lab.agent().psql(&dsn, &["select 1", "select 2"])?;
        ensure!(!finished.status.success(), "{lie} was taken: {finished:?}");
        lacks(&finished.stdout, &["b\n"])?;
    }
    has(&lab.psql(&["select 'unharmed'"])?.ok()?, &["unharmed"])
}

/// A client that takes nothing of an answer until it is told to; then it takes all of it.
const SLOW: &str = r#"
import socket, struct, sys
body = struct.pack("!i", 196608) + b"user\0a\0database\0shop\0\0"
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(struct.pack("!i", len(body) + 4) + body)
got = b""
while b"Z\0\0\0\x05I" not in got: got += s.recv(65536)
s.sendall(b"Q\0\0\0\x0dselect 1\0")
print("asked", flush=True)
sys.stdin.readline()
got, taken = b"", 0
try:
    while not got.endswith(b"Z\0\0\0\x05I"):
        more = s.recv(1 << 20)
        if not more: break
        got, taken = (got + more)[-6:], taken + len(more)
except ConnectionResetError: pass
print("taken", taken, flush=True)
"#;

/// How many sessions have ended.
fn ended(lab: &Lab) -> Result<usize> {
    Ok(lab.daemon.audit().events("session.closed")?.len())
}

#[test]
fn a_server_that_never_stops_talking_costs_no_memory() -> Result<()> {
    let liar = Liar::start()?;
    let (lab, dsn) = lab(&liar)?;
    liar.will_say(&[result(b"a"), ready()].concat());
    lab.agent().psql(&dsn, &["select 1"])?.ok()?;
    let big = 64 << 20;
    let long = |tag: u8| {
        let length = i32::try_from(big + 4).unwrap_or(i32::MAX);
        [header(tag, length), vec![b'x'; big]].concat()
    };
    let many = |one: Vec<u8>| one.repeat(big / one.len());
    let (ip, port) = (
        liar.address.ip().to_string(),
        liar.address.port().to_string(),
    );
    for (what, bytes) in [
        ("a notice", long(b'N')),
        ("an error", long(b'E')),
        ("a notification", long(b'A')),
        ("a setting", long(b'S')),
        ("a description", long(b'T')),
        ("a row", long(b'D')),
        (
            "many notices",
            many(message(b'N', b"SNOTICE\0C00000\0Mx\0\0")),
        ),
        ("many settings", many(parameter("application_name", "x"))),
        (
            "many paths",
            many(parameter("search_path", &"x,".repeat(500))),
        ),
    ] {
        liar.will_say(&[bytes, ready()].concat());
        liar.stuck.store(false, Ordering::SeqCst);
        let before = ended(&lab)?;
        peak(&lab.daemon)?;
        let small = peak(&lab.daemon)?;
        let words = ["-c", SLOW, &ip, &port];
        let mut client = lab.agent().start("/usr/bin/python3", &words)?;
        client.await_text("asked", DEADLINE).context(what)?;
        // Nothing moves any more, or it was refused.
        support::wait::for_fact("a full pipe or an end", DEADLINE, || {
            let over = liar.stuck.load(Ordering::SeqCst) || ended(&lab)? > before;
            Ok(over.then_some(()))
        })
        .context(what)?;
        client.send("go on\n")?;
        client.await_text("taken", DEADLINE * 4).context(what)?;
        client.finish(DEADLINE)?.ok()?;
        support::wait::for_fact("the end of the session", DEADLINE, || {
            Ok((ended(&lab)? > before).then_some(()))
        })
        .context(what)?;
        let grown = peak(&lab.daemon)?.saturating_sub(small);
        println!("{what}: {grown} KiB more at most");
        ensure!(grown < MOST, "{what}: the daemon grew by {grown} KiB");
    }
    has(&lab.psql(&["select 'unharmed'"])?.ok()?, &["unharmed"])
}

#[test]
fn text_is_not_read_under_an_encoding_that_the_server_changed() -> Result<()> {
    let liar = Liar::start()?;
    let (lab, dsn) = lab(&liar)?;
    for (name, value) in [
        ("client_encoding", "SJIS"),
        ("standard_conforming_strings", "off"),
    ] {
        let lie = [result(b"a"), parameter(name, value), ready()].concat();
        liar.will_say(&lie);
        let second = format!("select 'under {name}'");
        let finished = lab.agent().psql(&dsn, &["select 1", &second])?;
        has(&finished.stderr, &["ERROR"])?;
        lacks(&liar.heard(), &[&second])?;
    }
    Ok(())
}
