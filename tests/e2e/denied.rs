//! What the kernel refused names who was refused, where that can still be shown; else it says why not.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{DEADLINE, place};

use crate::lab::{Lab, has, text};

/// Each is refused by another hook, each at a port of its own.
const WAYS: &str = r#"
import socket, sys
def refused(way):
    try:
        way()
        print("not refused", way)
    except OSError:
        pass
def connected():
    s = socket.socket(type=socket.SOCK_DGRAM)
    s.connect(("192.0.2.1", 4003))
    s.send(b"x")
refused(lambda: socket.socket().connect(("192.0.2.1", 4001)))
refused(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 4002)))
refused(connected)
refused(lambda: socket.socket().bind(("127.0.0.1", int(sys.argv[1]))))
print("refused", flush=True)
sys.stdin.read()
"#;

/// Is refused, and then ends or becomes another program.
const GONE: &str = r#"
import os, socket, sys
try:
    socket.socket().connect(("192.0.2.1", 4004))
except PermissionError:
    print("refused", flush=True)
if sys.argv[1] == "exec":
    os.execv("/bin/cat", ["cat"])
"#;

fn denied(lab: &Lab, port: u16) -> Result<Value> {
    let end = format!(":{port}");
    let log = lab.daemon.audit();
    log.wait_for("kernel.denied", DEADLINE, |line| {
        text(line, "/denied/destination").is_ok_and(|at| at.ends_with(&end))
    })
}

#[test]
fn every_refusal_of_the_kernel_names_the_process_that_was_refused() -> Result<()> {
    let lab = Lab::new()?;
    let python = place::python()?;
    let target = lab.server.address().port();
    let script = r#""$0" -c "$1" "$2"; exit $?"#;
    let words = [
        "-c",
        script,
        &python.to_string_lossy(),
        WAYS,
        &target.to_string(),
    ];
    let mut shell = lab.agent().start("sh", &words)?;
    shell.await_text("refused", DEADLINE)?;
    ensure!(!shell.log().contains("not refused"), "{}", shell.log());
    // The same process as a connection has it, asked for while it lives.
    lab.psql(&["select 1"])?.ok()?;
    let opened = lab.daemon.audit().events("session.opened")?;
    let cgroup = opened
        .first()
        .and_then(|line| line.pointer("/principal/cgroup"))
        .context("a session's cgroup")?;
    for (port, reason) in [
        (4001, "no_rule"),
        (4002, "udp"),
        (4003, "udp"),
        (target, "bind"),
    ] {
        let line = denied(&lab, port)?;
        ensure!(text(&line, "/denied/reason")? == reason, "reason: {line}");
        let principal = line.pointer("/principal").context("nobody is named")?;
        ensure!(line.get("unproven").is_none(), "and yet unproven: {line}");
        ensure!(text(principal, "/agent")? == "demo", "agent: {line}");
        ensure!(
            principal.pointer("/process/pid") == line.pointer("/denied/pid")
                && principal.pointer("/process/started") == line.pointer("/denied/started"),
            "another process: {line}"
        );
        let path = text(principal, "/process/executable/path")?;
        ensure!(path.contains("python"), "executable: {line}");
        let hash = text(principal, "/process/executable/sha256")?;
        ensure!(hash.len() == 64, "hash: {line}");
        let parent = std::fs::canonicalize("/bin/sh")?;
        ensure!(
            text(principal, "/ancestors/0/executable/path")? == parent.to_string_lossy(),
            "ancestors: {line}"
        );
        ensure!(principal.get("cgroup") == Some(cgroup), "cgroup: {line}");
    }
    shell.close_input();
    shell.finish(DEADLINE)?;
    lab.daemon.cli(&["audit", "verify"])?.ok().map(drop)
}

#[test]
fn who_can_no_longer_be_shown_is_not_named_and_the_line_says_why() -> Result<()> {
    for (way, word) in [("exit", "gone"), ("exec", "executed")] {
        let lab = Lab::new()?;
        let python = place::python()?;
        let daemon = lab.daemon.process().context("the daemon runs")?;
        // It looks only when the process has gone on.
        daemon.signal(Signal::SIGSTOP);
        let words = ["-c", GONE, way];
        let mut client = lab.agent().start(&python.to_string_lossy(), &words)?;
        client.await_text("refused", DEADLINE)?;
        if way == "exit" {
            client.finish(DEADLINE)?;
        } else {
            client.send("now it is cat\n")?;
            client.await_text("now it is cat", DEADLINE)?;
        }
        daemon.signal(Signal::SIGCONT);
        let line = denied(&lab, 4004)?;
        ensure!(line.get("principal").is_none(), "named: {line}");
        ensure!(text(&line, "/unproven")? == word, "{way}: {line}");
        has(text(&line, "/cause")?, &["cannot identify process"])?;
        ensure!(
            line.pointer("/denied/pid").and_then(Value::as_u64) == Some(client.pid().into()),
            "the kernel's stamp is kept: {line}"
        );
        ensure!(text(&line, "/agent")? == "demo", "no agent: {line}");
    }
    Ok(())
}

/// Looks a user up, which asks for nscd, and knocks at a door of the host's.
const LOOKUP: &str = r#"
import pwd, socket
try:
    pwd.getpwnam("nobody-of-this-name")
except KeyError:
    pass
for door in ["/var/run/nscd/socket", "/run/host.sock"]:
    try:
        socket.socket(socket.AF_UNIX).connect(door)
        print("not refused", door)
    except PermissionError:
        print("refused")
"#;

#[test]
fn what_libraries_knock_at_on_their_own_is_refused_counted_and_not_written() -> Result<()> {
    let lab = Lab::new()?;
    let python = place::python()?;
    let said = lab
        .agent()
        .run(&python.to_string_lossy(), &["-c", LOOKUP])?
        .ok()?;
    ensure!(said.trim() == "refused\nrefused", "{said}");
    let log = lab.daemon.audit();
    let door = |line: &Value| text(line, "/denied/door").unwrap_or_default().to_owned();
    log.wait_for("kernel.denied", DEADLINE, |line| {
        door(line) == "/run/host.sock"
    })?;
    let written = log.events("kernel.denied")?;
    let knocks = written.iter().filter(|line| door(line).contains("nscd"));
    ensure!(knocks.count() == 0, "{written:?}");
    let counted = lab.daemon.cli(&["metrics"])?.ok()?;
    let quiet = "interceptor_kernel_denied_total{reason=\"quiet_door\"} ";
    let quiet = counted.lines().find_map(|line| line.strip_prefix(quiet));
    let quiet: u64 = quiet.context("nothing is counted")?.parse()?;
    ensure!(quiet >= 1, "{quiet}");
    Ok(())
}
