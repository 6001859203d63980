//! `direct` rules: out without a hop, for whom and as long as the file says.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use support::cgroup::Cgroup;
use support::{Agent, DEADLINE, Process, suffix};

use crate::lab::Lab;

/// Dials each port, and says what came of it.
const DIAL: &str = r#"
import errno, socket, sys
for port in sys.argv[1:]:
    s = socket.socket()
    s.settimeout(20)
    said = errno.errorcode.get(s.connect_ex(("127.0.0.1", int(port))), "ok")
    print(said, end=" ")
"#;

/// Dials, and then sends what it is told.
const TALK: &str = r#"
import socket, sys
s = socket.socket()
s.connect(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
for line in sys.stdin:
    s.sendall(line.encode())
    print("sent", line, flush=True)
"#;

/// A server outside of every scope, and a connection of an agent to it that stays.
struct Server {
    listener: TcpListener,
    at: SocketAddr,
}

impl Server {
    fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        Ok(Self { listener, at })
    }

    fn talk(&self, agent: &Agent) -> Result<Flow> {
        let words = ["-c", TALK, &self.at.port().to_string()];
        let client = agent.start("/usr/bin/python3", &words)?;
        client.await_text("up", DEADLINE)?;
        let (socket, _) = self.listener.accept()?;
        Ok(Flow {
            client,
            socket,
            said: 0,
        })
    }
}

struct Flow {
    client: Process,
    socket: TcpStream,
    said: usize,
}

impl Flow {
    /// Has the agent send a word that it has not sent yet.
    fn say(&mut self) -> Result<String> {
        self.said += 1;
        let word = format!("word{}", self.said);
        self.client.send(&format!("{word}\n"))?;
        self.client.await_text(&format!("sent {word}"), DEADLINE)?;
        Ok(word)
    }

    /// Waits for a word at the server, whatever comes before it.
    fn hears(&mut self, word: &str) -> Result<()> {
        self.socket.set_read_timeout(Some(DEADLINE))?;
        let mut heard = String::new();
        while !heard.contains(word) {
            let mut bytes = [0; 64];
            let read = self.socket.read(&mut bytes).context("it hears nothing")?;
            ensure!(read > 0, "it ended");
            heard += &String::from_utf8_lossy(&bytes[..read]);
        }
        Ok(())
    }

    /// The moment only bounds how long a leak is waited for.
    fn hears_nothing(&mut self) -> Result<()> {
        self.socket
            .set_read_timeout(Some(Duration::from_millis(400)))?;
        let read = self.socket.read(&mut [0; 64]);
        ensure!(read.is_err(), "it hears {read:?} bytes");
        Ok(())
    }
}

#[test]
fn direct_rules_hold_for_whom_they_name_and_without_the_daemon_unless_they_need_it() -> Result<()> {
    let (free, bound, others) = (Server::new()?, Server::new()?, Server::new()?);
    let mut lab = Lab::with(|settings| {
        let port = |server: &Server| format!("network: 127.0.0.1/32, port: {}", server.at.port());
        settings.more = format!(
            "direct:\n  - {{ {} }}\n  - {{ {}, needs_daemon: true }}\n  - {{ {}, agents: [other] }}\n",
            port(&free),
            port(&bound),
            port(&others)
        );
    })?;
    let cgroup = Cgroup::make(&format!("ic-{}-other", suffix()?))?;
    let (demo, other) = (lab.agent(), Agent::inside(cgroup.path()));
    lab.daemon
        .cli(&["tag", cgroup.below(), "--agent", "other"])?
        .ok()?;
    let ports = [&free, &bound, &others].map(|server| server.at.port().to_string());
    let dial = |agent: &Agent| -> Result<String> {
        let words = ["-c", DIAL, &ports[0], &ports[1], &ports[2]];
        Ok(agent
            .run("/usr/bin/python3", &words)?
            .ok()?
            .trim()
            .to_owned())
    };
    let with_daemon = |when: &str| -> Result<()> {
        let said = [dial(&demo)?, dial(&other)?];
        ensure!(said == ["ok ok EPERM", "ok ok ok"], "{when}: {said:?}");
        Ok(())
    };
    with_daemon("at first")?;
    // Those that dialled have left.
    for server in [&free, &bound, &others] {
        server.listener.set_nonblocking(true)?;
        while server.listener.accept().is_ok() {}
        server.listener.set_nonblocking(false)?;
    }
    let mut live = free.talk(&demo)?;
    let mut leaning = bound.talk(&demo)?;
    for flow in [&mut live, &mut leaning] {
        let word = flow.say()?;
        flow.hears(&word)?;
    }
    for way in ["killed", "stopped"] {
        match way {
            "killed" => lab.daemon.kill(),
            _ => drop(lab.daemon.stop()?.ok()?),
        }
        let said = [dial(&demo)?, dial(&other)?];
        let expected = ["ok ECONNREFUSED EPERM", "ok ECONNREFUSED ok"];
        ensure!(said == expected, "{way}: {said:?}");
        let word = live.say()?;
        live.hears(&word)?;
        let word = leaning.say()?;
        leaning.hears_nothing()?;
        lab.daemon.resume()?;
        with_daemon(way)?;
        // What was not let out is sent again.
        leaning.hears(&word)?;
    }
    Ok(())
}
