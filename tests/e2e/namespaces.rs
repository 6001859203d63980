//! Agents in a network namespace of their own: a container's, with or without a database of its own.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use support::agent::Dsn;
use support::daemon::Target;
use support::netns::Netns;
use support::{Agent, DEADLINE, Finished, Postgres, Process};

use crate::lab::{Lab, has, lacks, refused};

/// Carries connections from an address of its namespace to the server's socket: a database in a container.
const BRIDGE: &str = r#"
import socket, sys, threading
def carry(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
listener = socket.create_server((sys.argv[3], int(sys.argv[1])))
print("up", flush=True)
while True:
    client, _ = listener.accept()
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[2])
    for ends in (client, server), (server, client):
        threading.Thread(target=carry, args=ends, daemon=True).start()
"#;

/// Speaks PostgreSQL from a port that it is told, and asks once it is told to.
const FROM: &str = r#"
import socket, struct, sys
own, port = map(int, sys.argv[1:3])
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.settimeout(60)
server.bind(("127.0.0.1", own))
server.connect(("127.0.0.1", port))
def whole(size):
    data = b""
    while len(data) < size:
        more = server.recv(size - len(data))
        if not more:
            sys.exit("the server is gone")
        data += more
    return data
def until_ready():
    said = b""
    while True:
        kind, size = struct.unpack("!cI", whole(5))
        body = whole(size - 4)
        said += body
        if kind == b"E":
            sys.exit(body.decode())
        if kind == b"Z":
            return said
words = b"user\0anybody\0database\0shop\0\0"
server.sendall(struct.pack("!II", len(words) + 8, 196608) + words)
until_ready()
print("open", flush=True)
sys.stdin.readline()
text = b"select name from customers where id = 1\0"
server.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
print(until_ready(), flush=True)
"#;

/// Runs what does not end by itself, says by which key it is cancelled, and what came of it.
const RUNS: &str = r#"
import socket, struct, sys
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60)
def message():
    data = b""
    while len(data) < 5:
        data += server.recv(5 - len(data)) or sys.exit("the server is gone")
    kind, size = struct.unpack("!cI", data)
    body = b""
    while len(body) < size - 4:
        body += server.recv(size - 4 - len(body)) or sys.exit("the server is gone")
    return kind, body
words = b"user\0anybody\0database\0shop\0\0"
server.sendall(struct.pack("!II", len(words) + 8, 196608) + words)
kind = key = None
while kind != b"Z":
    kind, body = message()
    if kind == b"E":
        sys.exit(body.decode())
    if kind == b"K":
        key = body.hex()
text = b"select pg_sleep(600)\0"
server.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
print(f"key {key} open", flush=True)
while kind != b"E":
    kind, body = message()
print(body)
"#;

/// Cancels by a key, at whichever server.
const CANCELS: &str = r#"
import socket, struct, sys
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60)
server.sendall(struct.pack("!II", 16, 80877102) + bytes.fromhex(sys.argv[2]))
server.recv(1)
"#;

/// Has a server listen in a namespace.
pub(crate) fn bridge(netns: &Netns, at: SocketAddr, server: &Postgres) -> Result<Process> {
    let mut bridge = netns.command("/usr/bin/python3");
    bridge
        .args(["-c", BRIDGE, &at.port().to_string()])
        .arg(server.socket())
        .arg(at.ip().to_string());
    let bridge = Process::start(bridge)?;
    bridge.await_text("up", DEADLINE)?;
    Ok(bridge)
}

/// A namespace is served from its first refusal on: what becomes of the agent's statement then.
fn answered(agent: &Agent, dsn: &Dsn) -> Result<Finished> {
    let statement = "select name from customers where id = 1";
    support::wait::for_fact("listeners in the namespace", DEADLINE, || {
        let finished = agent.psql(dsn, &[statement])?;
        let again = finished.stderr.contains("No route to host");
        Ok((!again).then_some(finished))
    })
}

#[test]
fn loopback_of_a_clients_namespace_is_not_the_daemons() -> Result<()> {
    let lab = Lab::new()?;
    let netns = Netns::new()?;
    let agent = lab.agent().in_netns(netns.name());
    let error = refused(answered(&agent, &lab.dsn())?)?;
    has(&error, &["FATAL", "loopback of another network namespace"])?;
    let log = lab.daemon.audit();
    log.wait_for("kernel.denied", DEADLINE, |line| {
        line["denied"]["reason"] == "netns_unknown"
    })?;
    lacks(&format!("{:?}", log.lines()?), &["session.opened"])
}

#[test]
fn a_target_of_the_clients_namespace_is_dialled_there_and_nowhere_else() -> Result<()> {
    let inner = Postgres::start()?;
    inner.admin("update customers set name = 'Inner Ada' where id = 1")?;
    let netns = Netns::new()?;
    let at = support::port::free()?;
    let _bridge = bridge(&netns, at, &inner)?;
    let lab = Lab::with(|settings| {
        let mut target = Target::postgres("inner", &inner, at);
        // Its wire to the bridge is in clear, so the daemon has nothing to give it.
        target.namespace = "client";
        settings.targets.push(target);
    })?;
    let dsn = Dsn::of(at, "anybody", "shop");
    let within = lab.agent().in_netns(netns.name());
    has(&answered(&within, &dsn)?.ok()?, &["Inner Ada"])?;
    // The same address in the daemon's own namespace, where nothing listens.
    let error = refused(answered(&lab.agent(), &dsn)?)?;
    has(&error, &["FATAL"]).context("outside of the namespace")?;
    lacks(&error, &["Inner"])?;
    let opened = lab.daemon.audit().events("session.opened")?;
    has(&format!("{opened:?}"), &["inner"])
}

#[test]
fn namespaces_with_the_same_addresses_and_ports_stay_apart() -> Result<()> {
    let servers = [Postgres::start()?, Postgres::start()?];
    let namespaces = [Netns::new()?, Netns::new()?];
    let at = support::port::free()?;
    let names = ["First Ada", "Second Ada"];
    let mut bridges = Vec::new();
    for ((server, netns), name) in servers.iter().zip(&namespaces).zip(names) {
        let [first, _] = &servers;
        let password = first.password();
        server.admin(&format!(
            "update customers set name = '{name}' where id = 1; alter role shop_app password '{password}'"
        ))?;
        bridges.push(bridge(netns, at, server)?);
    }
    let [first, _] = &servers;
    let lab = Lab::with(|settings| {
        let mut target = Target::postgres("inner", first, at);
        target.namespace = "client";
        settings.targets.push(target);
    })?;
    let dsn = Dsn::of(at, "anybody", "shop");
    let own = support::port::free()?.port().to_string();
    let port = at.port().to_string();
    let mut open = Vec::new();
    for (netns, name) in namespaces.iter().zip(names) {
        let within = lab.agent().in_netns(netns.name());
        has(&answered(&within, &dsn)?.ok()?, &[name])?;
        let from = within.start("/usr/bin/python3", &["-c", FROM, &own, &port])?;
        from.await_text("open", DEADLINE)?;
        open.push((from, name));
    }
    // Both are open now, from the same port to the same port.
    for (from, name) in &mut open {
        from.send("\n")?;
        has(&from.finish(DEADLINE)?.ok()?, &[name])?;
    }
    Ok(())
}

#[test]
fn a_cancel_goes_to_the_namespace_of_its_session_wherever_it_comes_from() -> Result<()> {
    let inner = Postgres::start()?;
    let netns = Netns::new()?;
    let at = support::port::free()?;
    let _bridge = bridge(&netns, at, &inner)?;
    let lab = Lab::with(|settings| {
        let mut target = Target::postgres("inner", &inner, at);
        target.namespace = "client";
        settings.targets.push(target);
        settings.policies = support::place::pack("allow-all").unwrap_or_default();
    })?;
    let dsn = Dsn::of(at, "anybody", "shop");
    let within = lab.agent().in_netns(netns.name());
    answered(&within, &dsn)?.ok()?;
    let port = at.port().to_string();
    let mut runs = within.start("/usr/bin/python3", &["-c", RUNS, &port])?;
    runs.await_text("open", DEADLINE)?;
    let log = runs.log();
    let key = log.split_whitespace().nth(1).context("no key")?;
    // By the shop's server, from outside: there the same address is whoever else's.
    let other = lab.server.address().port().to_string();
    let ended = support::wait::for_fact("the end of what runs", DEADLINE, || {
        let words = ["-c", CANCELS, &other, key];
        lab.agent().run("/usr/bin/python3", &words)?.ok()?;
        Ok(runs.log().contains("C57014").then_some(()))
    });
    ended.with_context(|| runs.log())?;
    runs.finish(DEADLINE)?.ok()?;
    for line in lab.daemon.audit().events("request.cancelled")? {
        let has_failed = line.get("error").is_some_and(|error| !error.is_null());
        ensure!(!has_failed, "{line}");
    }
    Ok(())
}
