//! `direct` rules: out without a hop, for whom and as long as the file says.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use support::cgroup::Cgroup;
use support::{Agent, DEADLINE, Finished, Process, suffix};

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
            heard += &String::from_utf8_lossy(bytes.get(..read).unwrap_or_default());
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

/// What an agent says of addresses that it dials, a line each.
const REACH: &str = r#"
import errno, socket, sys
for at in sys.argv[1:]:
    host, port = at.rsplit(" ", 1)
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.settimeout(20)
    print(at, errno.errorcode.get(s.connect_ex((host, int(port))), "ok"))
"#;

fn reach(agent: &Agent, addresses: &[String]) -> Result<Vec<String>> {
    let mut words = vec!["-c", REACH];
    words.extend(addresses.iter().map(String::as_str));
    let finished: Finished = agent.run("/usr/bin/python3", &words)?;
    Ok(finished.ok()?.lines().map(str::to_owned).collect())
}

/// Another address of this host than loopback's, where it has one.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: the kernel looks for a route, and chooses an address.
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[test]
fn metrics_on_every_address_are_out_of_reach_whatever_direct_says() -> Result<()> {
    for every in ["0.0.0.0", "::"] {
        let beside = TcpListener::bind("127.0.0.1:0")?;
        let port = support::port::free()?.port();
        let own = own_address();
        let mut lab = Lab::with(|settings| {
            settings.metrics = Some(SocketAddr::new(every.parse().unwrap(), port));
            // A target that `direct` does not cover.
            for target in &mut settings.targets {
                target.addresses = vec!["192.0.2.10:5432".to_owned()];
            }
            settings.more =
                "direct:\n  - network: 127.0.0.0/8\n  - network: '::1/128'\n".to_owned();
            if let Some(own) = own {
                settings.more += &format!("  - network: '{own}/32'\n");
            }
        })?;
        let mut hosts = vec![
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "::ffff:127.0.0.1",
            "::1",
        ];
        let own = own.map(|own| own.to_string());
        hosts.extend(own.as_deref());
        let addresses: Vec<String> = hosts.iter().map(|host| format!("{host} {port}")).collect();
        let said = reach(&lab.agent(), &addresses)?;
        let refused: Vec<String> = addresses.iter().map(|at| format!("{at} EPERM")).collect();
        ensure!(said == refused, "{every}: {said:?}");
        // The rules are in force, and the metrics are there.
        let near = format!("127.0.0.1 {}", beside.local_addr()?.port());
        let said = reach(&lab.agent(), std::slice::from_ref(&near))?;
        ensure!(said == [format!("{near} ok")], "{every}: {said:?}");
        let said = reach(&Agent::outside(), &addresses[..4])?;
        ensure!(said.iter().all(|line| line.ends_with(" ok")), "{said:?}");
        let end = format!(":{port}");
        let log = lab.daemon.audit();
        let line = log.wait_for("kernel.denied", DEADLINE, |line| {
            line["denied"]["destination"]
                .as_str()
                .is_some_and(|at| at.ends_with(&end))
        })?;
        ensure!(line["denied"]["reason"] == "listener", "{line}");

        // It moves: what it leaves is anybody's.
        let next = support::port::free()?.port();
        lab.daemon.change(|settings| {
            settings.metrics = Some(SocketAddr::new(every.parse().unwrap(), next));
        })?;
        lab.daemon.stop()?.ok()?;
        lab.daemon.resume()?;
        let _other = TcpListener::bind(("127.0.0.1", port))?;
        let both = [format!("127.0.0.1 {port}"), format!("127.0.0.1 {next}")];
        let said = reach(&lab.agent(), &both)?;
        let expected = [format!("{} ok", both[0]), format!("{} EPERM", both[1])];
        ensure!(said == expected, "{every}: {said:?}");
    }
    Ok(())
}
