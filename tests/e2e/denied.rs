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
    let quiet = "interceptor_quiet_doors_total ";
    let quiet = counted.lines().find_map(|line| line.strip_prefix(quiet));
    let quiet: u64 = quiet.context("nothing is counted")?.parse()?;
    ensure!(quiet >= 1, "{quiet}");
    Ok(())
}

/// Is refused so often at one address, and so often at as many.
const FLOOD: &str = r#"
import socket, sys
network, one, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(one + many):
    to = ("192.0.2.7", 4005) if number < one else (f"{network}.{number - one}.1", 4006)
    try:
        socket.socket().connect(to)
        print("not refused")
    except PermissionError:
        pass
"#;

/// The sum of one metric.
fn metric(lab: &Lab, name: &str) -> Result<u64> {
    let text = lab.daemon.cli(&["metrics"])?.ok()?;
    let mut sum = 0;
    for line in text.lines().filter(|line| line.starts_with(name)) {
        let value = line.rsplit(' ').next().context("a value")?;
        sum += value.parse::<u64>().context("a number")?;
    }
    Ok(sum)
}

fn counts(lines: &[Value]) -> u64 {
    lines.iter().filter_map(|line| line["count"].as_u64()).sum()
}

/// That every refusal of the kernel is told, in a line of its own or in the count of another: the lines.
fn accounted(lab: &Lab) -> Result<[Vec<Value>; 3]> {
    support::wait::for_fact("every refusal in a line", DEADLINE, || {
        let all = metric(lab, "interceptor_kernel_denied_total")?;
        let quiet = metric(lab, "interceptor_quiet_doors_total")?;
        let log = lab.daemon.audit();
        let kinds = ["kernel.denied", "kernel.folded", "kernel.lost"];
        let [denied, folded, lost] = kinds.map(|kind| log.events(kind));
        let (denied, folded, lost) = (denied?, folded?, lost?);
        let lines = u64::try_from(denied.len())?;
        let told = lines + counts(&folded) + counts(&lost) + quiet;
        ensure!(told <= all, "{told} of {all} are told");
        Ok((told == all).then_some([denied, folded, lost]))
    })
}

#[test]
fn a_flood_of_refusals_that_ends_is_told_to_the_last() -> Result<()> {
    let lab = Lab::new()?;
    let python = place::python()?;
    let flood = |one, many| -> Result<[Vec<Value>; 3]> {
        let words = ["-c", FLOOD, "10.77", one, many];
        let said = lab.agent().run(&python.to_string_lossy(), &words)?.ok()?;
        ensure!(said.is_empty(), "{said}");
        accounted(&lab)
    };
    // One after the other: a line is about all that a scope was refused for one reason in a second.
    flood("300", "0")?;
    let [denied, folded, lost] = flood("0", "200")?;
    ensure!(denied.len() < 450, "{} lines", denied.len());
    ensure!(counts(&lost) == 0, "{lost:?}");
    let scope = denied.first().context("no line")?["denied"]["scope"].clone();
    let mut to_one = 0;
    for line in &folded {
        ensure!(text(line, "/agent")? == "demo", "{line}");
        ensure!(text(line, "/reason")? != "door", "a quiet one: {line}");
        ensure!(line["scope"] == scope, "{line}");
        if line["destination"] == "192.0.2.7:4005" {
            to_one += line["count"].as_u64().context("a count")?;
        }
    }
    ensure!(to_one > 0, "the one address is not named: {folded:?}");
    let of_rule = "interceptor_kernel_denied_total{reason=\"no_rule\"} ";
    ensure!(metric(&lab, of_rule)? == 500, "another count");
    lab.daemon.cli(&["audit", "verify"])?.ok().map(drop)
}

#[test]
fn refusals_that_a_busy_daemon_loses_are_told_as_a_gap() -> Result<()> {
    const SCOPES: usize = 24;
    let suffix = support::suffix()?;
    let cgroup = |number: usize| format!("ic-{suffix}-flood-{number}");
    let cgroups: Vec<support::cgroup::Cgroup> = (0..SCOPES)
        .map(|number| support::cgroup::Cgroup::make(&cgroup(number)))
        .collect::<Result<_>>()?;
    let lab = Lab::with(|settings| settings.scopes = (0..SCOPES).map(cgroup).collect())?;
    let daemon = lab.daemon.process().context("the daemon runs")?;
    daemon.signal(Signal::SIGSTOP);
    // Each fewer than are told of one scope in a second, and together more than the ring holds.
    let floods: Vec<support::Process> = cgroups
        .iter()
        .enumerate()
        .map(|(number, cgroup)| {
            let words = ["-c", FLOOD, &format!("10.{number}"), "0", "100"];
            support::Agent::inside(cgroup.path()).start("/usr/bin/python3", &words)
        })
        .collect::<Result<_>>()?;
    for mut flood in floods {
        let said = flood.finish(DEADLINE)?.ok()?;
        ensure!(said.is_empty(), "{said}");
    }
    daemon.signal(Signal::SIGCONT);
    let [_, _, lost] = accounted(&lab)?;
    ensure!(counts(&lost) > 0, "nothing was lost");
    ensure!(
        metric(&lab, "interceptor_kernel_lost_total")? == counts(&lost),
        "the metric says another: {lost:?}"
    );
    lab.daemon.cli(&["audit", "verify"])?.ok().map(drop)
}
