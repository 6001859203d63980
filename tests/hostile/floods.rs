//! One agent uses up what all share: descriptors, places at the sockets, space in the audit log.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::cgroup::Cgroup;
use support::{Agent, DEADLINE, Daemon, Process, suffix};

use crate::lab::{Lab, has};

/// Holds as many connections as the socket named by its first argument takes, up to 3,000.
const HOLD: &str = r#"
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held = []
for _ in range(3000):
    try:
        if sys.argv[1].startswith("/"):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(2)
            s.connect(sys.argv[1])
        else:
            host, port = sys.argv[1].rsplit(":", 1)
            s = socket.create_connection((host, int(port)), 2)
        held.append(s)
    except OSError:
        pass
print("held", flush=True)
sys.stdin.read()
"#;

fn hold(agent: &Agent, at: &str) -> Result<Process> {
    let holder = agent.start("/usr/bin/python3", &["-c", HOLD, at])?;
    holder.await_text("held", DEADLINE)?;
    Ok(holder)
}

fn descriptors(daemon: &Daemon) -> Result<usize> {
    let pid = daemon.process().context("the daemon runs")?.pid();
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Another agent, in a scope of its own.
fn neighbour(lab: &Lab) -> Result<(Cgroup, Agent)> {
    let cgroup = Cgroup::make(&format!("ic-{}-neighbour", suffix()?))?;
    lab.daemon
        .cli(&["tag", cgroup.below(), "--agent", "neighbour"])?
        .ok()?;
    let agent = Agent::inside(cgroup.path());
    Ok((cgroup, agent))
}

#[test]
fn connections_to_the_control_sockets_keep_nobody_else_out() -> Result<()> {
    let lab = Lab::new()?;
    let (_cgroup, neighbour) = neighbour(&lab)?;
    let before = descriptors(&lab.daemon)?;
    let mut holders = Vec::new();
    for name in ["agent.sock", "control.sock"] {
        let socket = lab.daemon.run_directory().join(name);
        holders.push(hold(&lab.agent(), &socket.to_string_lossy())?);
    }
    let grown = descriptors(&lab.daemon)?.saturating_sub(before);
    ensure!(grown < 200, "{grown} descriptors are held by one user");
    has(&lab.daemon.cli(&["status"])?.ok()?, &["neighbour"])?;
    let output = neighbour.psql(&lab.dsn(), &["select 'served'"])?.ok()?;
    has(&output, &["served"])?;
    // The same user's other agent has places of its own.
    let program = support::place::interceptor()?;
    let socket = lab.daemon.run_directory().join("agent.sock");
    let words = ["status", "--own", "--socket", &*socket.to_string_lossy()];
    let own = neighbour.run(&program.to_string_lossy(), &words)?.ok()?;
    has(&own, &["agent neighbour"])
}

#[test]
fn dialling_the_daemon_does_not_fill_the_audit_log() -> Result<()> {
    let lab = Lab::new()?;
    let status = lab.daemon.cli(&["status", "--json"])?.ok()?;
    let status: Value = serde_json::from_str(&status)?;
    let listener = status["listeners"][0].as_str().context("a listener")?;
    let program = r#"
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
made = 0
for _ in range(3000):
    try:
        socket.create_connection((host, int(port)), 5).close()
        made += 1
    except OSError:
        pass
print(made)
"#;
    let outside = Agent::outside();
    let output = outside.run("/usr/bin/python3", &["-c", program, listener])?;
    let made: u64 = output.ok()?.trim().parse()?;
    ensure!(made > 2_000, "only {made} connections were made");
    let log = lab.daemon.audit();
    let lines = support::wait::for_fact("every connection in a line", DEADLINE, || {
        let lines = log.events("connection.refused")?;
        let folded = |line: &Value| line["folded"].as_u64().unwrap_or(0) + 1;
        let all: u64 = lines.iter().map(folded).sum();
        Ok((all >= made).then_some(lines))
    })?;
    ensure!(lines.len() < 1_000, "{} lines", lines.len());
    Ok(())
}

#[test]
fn connections_that_say_nothing_keep_nobody_else_out() -> Result<()> {
    let lab = Lab::new()?;
    let (_cgroup, neighbour) = neighbour(&lab)?;
    let before = descriptors(&lab.daemon)?;
    let _holder = hold(&lab.agent(), &lab.server.address().to_string())?;
    let grown = descriptors(&lab.daemon)?.saturating_sub(before);
    // Half of what it opens: 512 on their way, each with its socket and its process.
    ensure!(grown < 1_500, "{grown} descriptors are held by one agent");
    let output = neighbour.psql(&lab.dsn(), &["select 'served'"])?.ok()?;
    has(&output, &["served"])
}

#[test]
fn dialling_every_port_does_not_fill_the_audit_log() -> Result<()> {
    let lab = Lab::new()?;
    let program = r#"
import socket, time
began = time.monotonic()
for port in range(1024, 21024):
    s = socket.socket()
    s.setblocking(False)
    try:
        s.connect(("192.0.2.1", port))
    except OSError:
        pass
    s.close()
print(int(time.monotonic() - began))
"#;
    let output = lab
        .agent()
        .run("/usr/bin/python3", &["-c", program])?
        .ok()?;
    let seconds: usize = output.trim().parse()?;
    let log = lab.daemon.audit();
    // The daemon writes as it reads; the last port is told of only where the burst has room for it.
    lab.psql(&["select 1"])?.ok()?;
    let lines = log.events("kernel.denied")?.len();
    ensure!(lines > 0, "nothing was audited");
    let most = 128 * (seconds + 3);
    ensure!(lines <= most, "{lines} lines in {seconds} s");
    Ok(())
}

/// Is refused from many ports, and then dials the server, whose greeting it waits for.
const REFUSED: &str = r#"
import socket, struct, sys, time
began = time.monotonic()
for port in range(2000, 2000 + 512):
    try:
        socket.socket().connect(("192.0.2.1", port))
    except PermissionError:
        pass
body = struct.pack("!i", 196608) + b"user\0anybody\0database\0shop\0\0"
end = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
end.sendall(struct.pack("!i", len(body) + 4) + body)
print("answered" if end.recv(1) == b"R" else "refused", time.monotonic() - began, flush=True)
sys.stdin.read()
"#;

#[test]
fn refusals_with_long_names_are_bounded_and_cost_the_scope_no_connection() -> Result<()> {
    let lab = Lab::new()?;
    // Five ancestors with as many arguments as are kept.
    let long = "x".repeat(4_000);
    let script =
        r#"n=$1; shift; test "$n" = 0 && exec "$@"; sh -c "$NEXT" "$0" $((n-1)) "$@"; exit $?"#;
    let port = lab.server.address().port().to_string();
    let words = [
        "-c",
        script,
        &long,
        "5",
        "/usr/bin/python3",
        "-c",
        REFUSED,
        &port,
    ];
    let agent = lab.agent().with("NEXT", script);
    let mut client = agent.start("sh", &words)?;
    client.await_text("answered", DEADLINE)?;
    let log = lab.daemon.audit();
    let lines = support::wait::for_fact("a line that names nobody", DEADLINE, || {
        let lines = log.events("kernel.denied")?;
        let busy = lines.iter().any(|line| line["unproven"] == "busy");
        Ok(busy.then_some(lines))
    })?;
    let named: Vec<&Value> = lines
        .iter()
        // The C library of who comes before looks for its cache of names.
        .filter(|line| line["denied"]["reason"] != "door")
        .filter_map(|line| line.get("principal"))
        .collect();
    ensure!(!named.is_empty(), "nobody was named");
    let bytes: usize = named.iter().map(|who| who.to_string().len()).sum();
    ensure!(
        named.iter().all(|who| who.to_string().len() > 16_000),
        "the names are not long"
    );
    let seconds: f64 = client
        .log()
        .split_whitespace()
        .nth(1)
        .context("how long it took")?
        .parse()?;
    // A million at once, a hundred thousand a second, and the one that went over.
    let most = 1_100_000.0 + 100_000.0 * (seconds + 1.0);
    #[expect(clippy::cast_precision_loss, reason = "a few millions at most")]
    let all = bytes as f64;
    ensure!(all < most, "{bytes} bytes in {seconds} s");
    for line in &lines {
        ensure!(
            line.get("principal").is_some() != line.get("unproven").is_some(),
            "neither or both: {line}"
        );
    }
    client.close_input();
    client.finish(DEADLINE).map(drop)
}
