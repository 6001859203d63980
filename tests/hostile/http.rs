//! HTTP under attack from both sides: heads and frames that no client and no server sends.
//!
//! The server speaks both versions in clear, as its path or its mode says; the agent's programs write bytes.

mod floods;
mod requests;
mod rests;
mod servers;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use support::cgroup::Cgroup;
use support::daemon::{Settings, Target};
use support::{Agent, Daemon, suffix};

use crate::lab::{has, needs_root};
use crate::upstreams::resident;

/// A credential that every request is given.
const CREDENTIAL: &str = "hostile-0123456789abcdef-token";
/// Whoever asks, and for what.
const POLICY: &str = r#"
@id("all") permit (principal is Agent, action, resource);
@id("closed") forbid (principal, action, resource in Path::"api/closed");
"#;
/// What any attack may make the daemon hold more than before, in KiB.
const MOST: u64 = 48 << 10;
/// Bytes of what begins a connection of HTTP/2.
const PREFACE: usize = 24;
/// A client of HTTP/2 by hand: `frame`, `ask`, `open`, `read`.
const TWO: &str = r#"
import socket, struct, sys, time
port = int(sys.argv[1])
def frame(kind, flags, stream, body=b""):
    return struct.pack("!I", len(body))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + body
def text(index, value):
    return bytes([index, len(value)]) + value
def block(path=b"/ok"):
    return b"\x82\x86" + text(4, path) + text(1, b"127.0.0.1:%d" % port)
def ask(stream, path=b"/ok", flags=5):
    return frame(1, flags, stream, block(path))
def open(settings=b""):
    s = socket.create_connection(("127.0.0.1", port), 30)
    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings))
    return s
def read(s):
    head = b""
    while len(head) < 9:
        more = s.recv(9 - len(head))
        if not more:
            return None
        head += more
    length, body = struct.unpack("!I", b"\0" + head[:3])[0], b""
    while len(body) < length:
        more = s.recv(length - len(body))
        if not more:
            return None
        body += more
    return head[3], head[4], struct.unpack("!I", head[5:])[0], body
def until_closed(s):
    "How the connection ends: the code of GOAWAY, or `closed`."
    try:
        while True:
            got = read(s)
            if got is None:
                return "closed"
            if got[0] == 7:
                return "goaway %d" % struct.unpack("!I", got[3][4:8])[0]
    except OSError:
        return "closed"
"#;

/// A server of both versions.
struct Server {
    address: SocketAddr,
    /// All bytes of HTTP/1 that came.
    arrived: Arc<Mutex<Vec<u8>>>,
    /// Bytes of bodies that it has got rid of.
    sent: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (arrived, sent) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let all = (Arc::clone(&arrived), Arc::clone(&sent));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (arrived, sent) = (Arc::clone(&all.0), Arc::clone(&all.1));
                thread::spawn(move || drop(serve(client, &arrived, &sent)));
            }
        });
        Ok(Self {
            address,
            arrived,
            sent,
        })
    }

    fn arrived(&self) -> String {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&arrived).into_owned()
    }
}

fn serve(mut client: TcpStream, arrived: &Mutex<Vec<u8>>, sent: &AtomicUsize) -> Result<()> {
    let mut head = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = client.read(&mut piece)?;
        ensure!(count > 0, "gone");
        head.extend_from_slice(piece.get(..count).unwrap_or_default());
        if head.starts_with(b"PRI * HTTP/2.0") && head.len() >= PREFACE {
            let first = head.split_off(PREFACE.min(head.len()));
            return servers::two(client, first, sent);
        }
        while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            {
                let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
                arrived.extend_from_slice(&head);
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            head = rest;
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            if text
                .to_ascii_lowercase()
                .contains("transfer-encoding: chunked")
            {
                while !head.ends_with(b"0\r\n\r\n") {
                    let count = client.read(&mut piece)?;
                    ensure!(count > 0, "gone");
                    head.extend_from_slice(piece.get(..count).unwrap_or_default());
                }
                head.clear();
            }
            servers::one(&mut client, &path, sent)?;
        }
    }
}

/// The attacked: fields are dropped in order.
struct Rig {
    daemon: Daemon,
    server: Server,
    neighbour: Agent,
    _cgroup: Cgroup,
}

impl Rig {
    fn new() -> Result<Self> {
        Self::with(&[])
    }

    fn with(more: &[&str]) -> Result<Self> {
        Self::with_more(more, &[])
    }

    /// With more of `http`, and of the target.
    fn with_more(more: &[&str], of_target: &[&str]) -> Result<Self> {
        needs_root()?;
        let server = Server::start()?;
        let lines = [&["inject: { secret: SECRET }"], more].concat();
        let target = Target {
            password: Some(CREDENTIAL.to_owned()),
            more: of_target.iter().map(|line| (*line).to_owned()).collect(),
            ..Target::http("api", server.address, &lines)
        };
        let daemon = Daemon::start(Settings::new(vec![target], POLICY))?;
        let cgroup = Cgroup::make(&format!("ic-{}-neighbour", suffix()?))?;
        daemon
            .cli(&["tag", cgroup.below(), "--agent", "neighbour"])?
            .ok()?;
        Ok(Self {
            daemon,
            server,
            neighbour: Agent::inside(cgroup.path()),
            _cgroup: cgroup,
        })
    }

    fn port(&self) -> String {
        self.server.address.port().to_string()
    }

    /// A program of the agent.
    fn attack(&self, program: &str) -> Result<String> {
        let port = self.port();
        let python = ["-c", program, &port];
        self.daemon.agent().run("/usr/bin/python3", &python)?.ok()
    }

    /// Nobody else has noticed anything, and the daemon holds no more than it may.
    fn is_well(&self, before: u64) -> Result<()> {
        self.is_within(before, MOST)
    }

    fn is_within(&self, before: u64, most: u64) -> Result<()> {
        let url = format!("http://{}/ok", self.server.address);
        let asked = ["-sS", "--max-time", "20", &url];
        let said = self.neighbour.run("curl", &asked)?.ok()?;
        has(&said, &["ok"])?;
        let grown = resident(&self.daemon)?.saturating_sub(before);
        ensure!(grown < most, "the daemon holds {grown} KiB more");
        Ok(())
    }

    /// After a first request of each agent: what is made once is made.
    fn before(&self) -> Result<u64> {
        let url = format!("http://{}/ok", self.server.address);
        for agent in [&self.neighbour, &self.daemon.agent()] {
            has(&agent.run("curl", &["-sS", &url])?.ok()?, &["ok"])?;
        }
        resident(&self.daemon)
    }
}

/// Writes until the other side has enough.
fn without_end(client: &mut TcpStream, piece: &[u8], sent: &AtomicUsize) -> Result<()> {
    client.set_write_timeout(Some(Duration::from_secs(60)))?;
    loop {
        client.write_all(piece)?;
        sent.fetch_add(piece.len(), Ordering::SeqCst);
    }
}
