//! One agent uses up what all share: descriptors, places at the sockets, space in the audit log.

use std::fs;

use anyhow::{Context as _, Result, ensure};
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
    has(&output, &["served"])
}

#[test]
fn connections_that_say_nothing_keep_nobody_else_out() -> Result<()> {
    let lab = Lab::new()?;
    let (_cgroup, neighbour) = neighbour(&lab)?;
    let before = descriptors(&lab.daemon)?;
    let _holder = hold(&lab.agent(), &lab.server.address().to_string())?;
    let grown = descriptors(&lab.daemon)?.saturating_sub(before);
    ensure!(grown < 1_000, "{grown} descriptors are held by one agent");
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
