//! Shells and commands as they were: shown, played, exported, followed, found by what was typed, and ended.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Process, place, wait};

use super::{ALL_BUT_RM, Lab, Sshd};
use crate::lab::{has, lacks, text};

/// A lab whose audit keeps what was said.
fn telling() -> Result<Lab> {
    let server = Sshd::start()?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let mut target = server.target("web", &login, &[])?;
    target.push_str("    statement: full\n");
    let all = vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())];
    Lab::over(server, &target, all)
}

/// A shell at a terminal, by whoever has no key.
pub(super) fn shell(lab: &Lab) -> Result<Process> {
    let mut words = lab.options();
    let port = lab.server.address().port().to_string();
    words.extend(["-tt", "-p", &port, "x@127.0.0.1"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    lab.agent().start("ssh", &words)
}

/// The session that ended last.
fn ended(lab: &Lab, how_many: usize) -> Result<String> {
    let audit = lab.daemon.audit();
    let closed = wait::for_fact("sessions that ended", DEADLINE, || {
        let closed = audit.events("session.closed")?;
        Ok((closed.len() >= how_many).then_some(closed))
    })?;
    let last = closed.last().context("none ended")?;
    text(last, "/session").map(str::to_owned)
}

#[test]
fn a_command_is_shown_and_exported_with_its_streams_told_apart() -> Result<()> {
    let lab = telling()?;
    let run = lab.ssh(&["echo out; echo err >&2; exit 3"])?;
    ensure!(run.status.code() == Some(3), "{run:?}");
    let id = ended(&lab, 1)?;
    let shown = lab.daemon.cli(&["sessions", "show", &id, "--json"])?.ok()?;
    let shown: Value = serde_json::from_str(&shown)?;
    let at = |pointer: &str| shown.pointer(pointer).cloned().unwrap_or_default();
    ensure!(
        at("/exchanges/0/statement") == "echo out; echo err >&2; exit 3",
        "{shown}"
    );
    let permitted = lab.daemon.audit().events("request.permitted")?;
    let request = permitted.first().context("nothing was permitted")?;
    ensure!(
        at("/exchanges/0/requests/0/request") == request["request"],
        "{shown}"
    );
    let results = at("/exchanges/0/results").to_string();
    has(&results, &["standard error", "err", "out", "exit 3"])?;
    let player = lab.daemon.cli(&["sessions", "play", &id, "--instant"])?;
    has(&player.ok()?, &["out", "err"])?;
    for (format, wanted) in [
        ("asciicast-v2", ["\"version\":2", "\"width\":80"]),
        ("asciicast-v3", ["\"version\":3", "\"x\",\"3\""]),
    ] {
        let words = ["sessions", "export", &id, "--format", format];
        let cast = lab.daemon.cli(&words)?.ok()?;
        for line in cast.lines() {
            serde_json::from_str::<Value>(line).with_context(|| format!("not JSON: {line}"))?;
        }
        has(&cast, &wanted)?;
        has(&cast, &["\"o\",\"out\\r\\n\"", "\"o\",\"err\\r\\n\""])?;
    }
    // What was refused is there, too, as the agent saw it.
    lab.ssh(&["rm x"])?;
    let id = ended(&lab, 2)?;
    let shown = lab.daemon.cli(&["sessions", "show", &id])?.ok()?;
    has(&shown, &["rm x", "rule no-rm", "exit 126"])?;
    lab.daemon.cli(&["audit", "verify"])?.ok().map(drop)
}

#[test]
fn a_shell_is_played_and_what_was_typed_in_it_is_found() -> Result<()> {
    let lab = telling()?;
    let mut ssh = shell(&lab)?;
    // What is sent before the shell asks for it stands in none of its lines.
    ssh.await_text("$ ", DEADLINE)?;
    ssh.send("echo pla''yed\n")?;
    ssh.await_text("played", DEADLINE)?;
    ssh.send("exit 4\n")?;
    let finished = ssh.finish(DEADLINE)?;
    ensure!(finished.status.code() == Some(4), "{finished:?}");
    let id = ended(&lab, 1)?;
    let play = ["sessions", "play", &id, "--instant"];
    has(&lab.daemon.cli(&play)?.ok()?, &["echo pla''yed", "played"])?;
    let show = lab.daemon.cli(&["sessions", "show", &id])?.ok()?;
    has(&show, &["shell", "exit 4", "TYPED as shown: ", "pla''yed"])?;
    let typed = |line: &Value| line["lines"].to_string().contains("pla''yed");
    lab.daemon
        .audit()
        .wait_for("terminal.typed", DEADLINE, typed)?;
    let found = lab.daemon.cli(&["sessions", "search", "yed"])?.ok()?;
    has(&found, &[&id])?;
    for format in ["asciicast-v2", "asciicast-v3"] {
        let words = ["sessions", "export", &id, "--format", format];
        let cast = lab.daemon.cli(&words)?.ok()?;
        has(&cast, &["\"o\"", "played"])?;
        lacks(&cast, &["\"i\""])?;
        let words = [&words[..], &["--input"]].concat();
        has(&lab.daemon.cli(&words)?.ok()?, &["\"i\""])?;
    }
    Ok(())
}

#[test]
fn a_live_shell_is_followed_and_ends_when_it_is_killed() -> Result<()> {
    let lab = telling()?;
    let mut ssh = shell(&lab)?;
    ssh.send("echo pid=$$.\n")?;
    let pid = wait::for_fact("the shell's number", DEADLINE, || {
        let log = ssh.log();
        let said = log.rsplit_once("pid=").and_then(|(_, rest)| {
            let (pid, _) = rest.split_once('.')?;
            pid.parse::<u32>().ok()
        });
        Ok(said)
    })?;
    let opened = lab.daemon.audit().events("session.opened")?;
    let id = text(opened.first().context("no session")?, "/session")?.to_owned();
    let mut follow = std::process::Command::new(place::interceptor()?);
    follow
        .args(["sessions", "follow", "--socket"])
        .arg(lab.daemon.run_directory().join("control.sock"))
        .arg(&id)
        .env_clear();
    let mut follow = Process::start(follow)?;
    follow.await_text(&format!("pid={pid}."), DEADLINE)?;
    ssh.send("echo li''ve\n")?;
    follow.await_text("live", DEADLINE)?;
    lab.daemon.cli(&["sessions", "kill", &id])?.ok()?;
    let finished = ssh.finish(DEADLINE)?;
    ensure!(finished.status.code() == Some(255), "{finished:?}");
    has(&finished.stderr, &["the session was ended: killed"])?;
    ensure!(follow.finish(DEADLINE)?.status.success());
    wait::for_fact("the shell's end", DEADLINE, || {
        Ok((!fs::exists(format!("/proc/{pid}"))?).then_some(()))
    })?;
    let closed = lab.daemon.audit().events("session.closed")?;
    has(&serde_json::to_string(&closed)?, &["\"reason\":\"killed\""])
}

#[test]
fn files_that_are_copied_are_shown_as_operations_and_not_as_text() -> Result<()> {
    let lab = telling()?;
    let own = lab.own()?;
    let local = own.path().join("local").display().to_string();
    fs::write(&local, "not for a terminal\n")?;
    let to = format!("x@127.0.0.1:{}", lab.at("new"));
    lab.copy("scp", &[&local, &to])?.ok()?;
    let id = ended(&lab, 1)?;
    let show = lab.daemon.cli(&["sessions", "show", &id])?.ok()?;
    has(&show, &["subsystem sftp", "sftp open ", "/new", "request "])?;
    let play = ["sessions", "play", &id, "--instant"];
    lacks(&lab.daemon.cli(&play)?.ok()?, &["not for a terminal"])?;
    let export = ["sessions", "export", &id, "--format", "asciicast-v2"];
    ensure!(!lab.daemon.cli(&export)?.status.success());
    Ok(())
}

#[test]
fn of_a_large_file_the_beginning_is_kept_its_size_and_all_that_was_done() -> Result<()> {
    const SIZE: usize = 3_000_000;
    let lab = telling()?;
    let own = lab.own()?;
    let local = own.path().join("local").display().to_string();
    // Nothing that gets shorter.
    let noise = |number: usize| number.wrapping_mul(2_654_435_761).to_be_bytes()[4];
    fs::write(
        &local,
        (0..SIZE)
            .map(|number| noise(number * number))
            .collect::<Vec<_>>(),
    )?;
    let to = format!("x@127.0.0.1:{}", lab.at("new"));
    lab.copy("scp", &["-p", &local, &to])?.ok()?;
    ensure!(fs::read(&local)? == fs::read(lab.at("new"))?);
    let id = ended(&lab, 1)?;
    let shown = lab.daemon.cli(&["sessions", "show", &id, "--json"])?.ok()?;
    let shown: Value = serde_json::from_str(&shown)?;
    has(&shown.to_string(), &["sftp open ", "sftp fsetstat"])?;
    let copied = shown
        .pointer("/exchanges/0/copied_in")
        .and_then(Value::as_u64);
    ensure!(copied >= Some(SIZE as u64), "{copied:?} {shown}");
    let mut du = std::process::Command::new("du");
    du.arg("-sb").arg(lab.daemon.state().join("recordings"));
    let kept = Process::run(du, DEADLINE)?.ok()?;
    let bytes: u64 = kept.split_whitespace().next().context("a size")?.parse()?;
    ensure!(bytes < 500_000, "{kept}");
    lab.daemon.cli(&["audit", "verify"])?.ok().map(drop)
}

#[test]
fn another_policy_is_tried_on_commands_that_were_asked() -> Result<()> {
    const OTHER: &str = r#"
@id("all") permit (principal is Agent, action, resource);
@id("no-one") forbid (principal is Agent, action == Action::"Exec", resource)
  when { context.isSimple && context.program == "echo" && context.arguments.contains("one") };
"#;
    let lab = telling()?;
    lab.ssh(&["echo one"])?.ok()?;
    lab.ssh(&["echo two"])?.ok()?;
    lab.ssh(&["rm x"])?;
    ended(&lab, 3)?;
    let policy = place::temporary("policy")?;
    fs::write(policy.path().join("rules.cedar"), OTHER)?;
    let policy = policy.path().display().to_string();
    let said = lab.daemon.cli(&["replay", "--policy", &policy])?;
    ensure!(said.status.code() == Some(1), "{said:?}");
    let wanted = [
        "echo one: permitted (by all) -> forbidden (by no-one)",
        "rm x: forbidden (by no-rm) -> permitted (by all)",
        "3 requests of 3 sessions judged: 1 would be refused, 1 would be permitted",
    ];
    has(&said.stdout, &wanted)?;
    lacks(&said.stdout, &["without arguments"])
}
