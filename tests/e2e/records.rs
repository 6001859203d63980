//! What is kept: who, what, how it ended; chained, replayable, and the same that policy says.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Process, place};

use crate::lab::{Lab, has, lacks, text};

fn sha256(path: &str) -> Result<String> {
    let mut command = Command::new("sha256sum");
    command.arg(path);
    let output = Process::run(command, DEADLINE)?.ok()?;
    Ok(output.split(' ').next().unwrap_or_default().to_owned())
}

#[test]
fn the_audit_names_process_executable_hash_user_and_ancestors() -> Result<()> {
    let lab = Lab::new()?;
    let psql = place::postgres_programs()?.join("psql");
    let psql = psql.to_string_lossy();
    let conninfo = lab.dsn().conninfo();
    let script = r#""$0" -X -w -d "$1" -c "select 1"; exit $?"#;
    lab.agent()
        .run("sh", &["-c", script, &psql, &conninfo])?
        .ok()?;
    let line = lab
        .daemon
        .audit()
        .wait_for("session.opened", DEADLINE, |_| true)?;
    ensure!(text(&line, "/principal/agent")? == "demo", "agent: {line}");
    let uid = u64::from(lab.agent().uid());
    ensure!(
        line.pointer("/principal/user/uid").and_then(Value::as_u64) == Some(uid),
        "user: {line}"
    );
    let real = fs::canonicalize(psql.as_ref())?;
    ensure!(
        text(&line, "/principal/process/executable/path")? == real.to_string_lossy(),
        "path: {line}"
    );
    ensure!(
        text(&line, "/principal/process/executable/sha256")? == sha256(&psql)?,
        "hash: {line}"
    );
    let shell = fs::canonicalize("/bin/sh")?;
    let parent = text(&line, "/principal/ancestors/0/executable/path")?;
    ensure!(parent == shell.to_string_lossy(), "parent: {line}");
    let hash = text(&line, "/principal/ancestors/0/executable/sha256")?;
    ensure!(hash == sha256("/bin/sh")?, "parent's hash: {line}");
    ensure!(
        line.pointer("/principal/ancestors/1").is_none(),
        "the chain ends at the scope's root: {line}"
    );
    let cgroup = text(&line, "/principal/cgroup/path")?;
    ensure!(
        cgroup.trim_start_matches('/') == lab.daemon.scope(),
        "cgroup: {line}"
    );
    Ok(())
}

#[test]
fn a_request_is_written_before_it_is_forwarded_and_again_when_it_ended() -> Result<()> {
    let lab = Lab::new()?;
    lab.psql(&["select name from customers"])?.ok()?;
    let finished = lab
        .daemon
        .audit()
        .wait_for("request.finished", DEADLINE, |line| {
            line.pointer("/rows").and_then(Value::as_u64) == Some(3)
        })?;
    ensure!(
        finished.pointer("/status") == Some(&"ok".into()),
        "status: {finished}"
    );
    let lines = lab.daemon.audit().lines()?;
    let position = |event: &str| {
        lines
            .iter()
            .position(|line| line["event"] == event && line["request"] == finished["request"])
            .with_context(|| format!("no {event} for this request"))
    };
    ensure!(
        position("request.permitted")? < position("request.finished")?,
        "the order is wrong"
    );
    let opened = lines
        .iter()
        .position(|line| line["event"] == "session.opened");
    ensure!(
        opened < Some(position("request.permitted")?),
        "the session was opened after its request"
    );
    Ok(())
}

#[test]
fn literals_are_redacted_by_default_and_kept_where_the_target_says_so() -> Result<()> {
    let secret = "select id from customers where email = 'ada@example.com'";
    // What stands where the literal was; nothing for no text at all. The default is the first.
    let rows = [
        ("", Some("email = ?")),
        ("redacted", Some("email = ?")),
        ("none", None),
        ("full", Some("email = 'ada@example.com'")),
    ];
    for (setting, kept) in rows {
        let lab = Lab::with(|settings| {
            for target in &mut settings.targets {
                target.statement = setting;
            }
        })?;
        // By standard input: arguments are part of who the process is, and are kept as they are.
        let mut psql = lab.agent().open_psql(&lab.dsn())?;
        psql.send(&format!("{secret};\n"))?;
        psql.close_input();
        psql.finish(DEADLINE)?;
        let line = lab
            .daemon
            .audit()
            .wait_for("request.permitted", DEADLINE, |line| {
                line["summary"]
                    .as_str()
                    .is_some_and(|words| words.contains("SELECT"))
            })?;
        let text = line.to_string();
        let statement = line.get("statement").and_then(Value::as_str);
        match kept {
            Some(kept) => ensure!(
                statement.is_some_and(|statement| statement.contains(kept)),
                "statement: {setting}: {text}"
            ),
            None => ensure!(
                line.get("statement").is_none(),
                "statement: {setting}: {text}"
            ),
        }
        ensure!(
            text.contains("ada@example.com") == (setting == "full"),
            "statement: {setting}: {text}"
        );
    }
    Ok(())
}

#[test]
fn verify_finds_a_changed_a_removed_and_a_reordered_line() -> Result<()> {
    type Damage = fn(&mut Vec<String>);
    let damages: [(&str, Damage); 3] = [
        ("changed", |lines| {
            lines[2] = lines[2].replace("demo", "omed")
        }),
        ("removed", |lines| drop(lines.remove(2))),
        ("reordered", |lines| lines.swap(2, 3)),
    ];
    for (what, damage) in damages {
        let mut lab = Lab::new()?;
        lab.psql(&["select 1", "select 2"])?.ok()?;
        lab.daemon
            .audit()
            .wait_for("session.closed", DEADLINE, |_| true)?;
        lab.daemon.cli(&["audit", "verify"])?.ok()?;
        lab.daemon.stop()?;
        let state = lab.daemon.state().join("audit");
        let file = fs::read_dir(&state)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
            .context("no audit file")?;
        let mut lines: Vec<String> = fs::read_to_string(&file)?
            .lines()
            .map(str::to_owned)
            .collect();
        damage(&mut lines);
        fs::write(&file, lines.join("\n") + "\n")?;
        let program = place::interceptor()?;
        let mut verify = Command::new(program);
        verify
            .args(["audit", "verify", "--config"])
            .arg(lab.daemon.config());
        let finished = Process::run(verify, DEADLINE)?;
        ensure!(
            finished.status.code() == Some(1),
            "a {what} line was not found: {finished:?}"
        );
    }
    Ok(())
}

#[test]
fn a_replay_shows_statements_results_and_refusals_as_the_agent_saw_them() -> Result<()> {
    let lab = Lab::new()?;
    lab.psql(&[
        "select name from customers order by id",
        "delete from customers",
    ])?;
    let closed = lab
        .daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |_| true)?;
    let session = text(&closed, "/session")?;
    has(&lab.daemon.cli(&["sessions", "ls"])?.ok()?, &[session])?;
    let replay = lab.daemon.cli(&["sessions", "replay", session])?.ok()?;
    has(
        &replay,
        &[
            "select name from customers",
            "Ada Lovelace",
            "delete from customers",
            "require-where",
        ],
    )?;
    let json = lab
        .daemon
        .cli(&["sessions", "replay", session, "--json"])?
        .ok()?;
    for line in json.lines() {
        serde_json::from_str::<Value>(line).with_context(|| format!("not JSON: {line}"))?;
    }
    has(
        &lab.daemon.cli(&["sessions", "show", session])?.ok()?,
        &[session],
    )?;
    lacks(&replay, &[lab.server.password()])?;
    let read = lab
        .daemon
        .audit()
        .wait_for("control", DEADLINE, |line| line["verb"] == "read")?;
    names_the_command(&read)
}

/// The line says which program read, by hash, and that this test had started it.
fn names_the_command(line: &Value) -> Result<()> {
    let at = |pointer: &str| line.pointer(pointer).cloned().unwrap_or_default();
    let program = text(line, "/caller/process/executable/path")?;
    ensure!(
        text(line, "/caller/process/executable/sha256")? == sha256(program)?,
        "another hash: {line}"
    );
    ensure!(
        at("/caller/process/argv").to_string().contains("sessions"),
        "other words: {line}"
    );
    ensure!(
        at("/caller/ancestors/0/pid") == std::process::id(),
        "another parent: {line}"
    );
    ensure!(
        text(line, "/caller/user/name")? == "root",
        "another user: {line}"
    );
    Ok(())
}

#[test]
fn why_says_of_each_request_of_a_session_what_the_daemon_did() -> Result<()> {
    let lab = Lab::with(|settings| {
        for target in &mut settings.targets {
            target.statement = "full";
        }
    })?;
    lab.psql(&[
        "select * from customers",
        "select * from salaries",
        "insert into orders values (900, 1, 'x', 1)",
        "update orders set item = 'y' where id = 900",
        "update orders set item = 'y'",
        "delete from orders where id = 900",
        "delete from orders",
        "create table more (id int)",
        "set search_path = public",
        "show server_version",
        "select pg_sleep(0)",
    ])?;
    let closed = lab
        .daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |_| true)?;
    let session = text(&closed, "/session")?;
    let mut judged = 0;
    for line in lab.daemon.audit().lines()? {
        let permitted = match text(&line, "/event")? {
            "request.permitted" => true,
            "request.refused" => false,
            _ => continue,
        };
        if line["session"] != closed["session"] {
            continue;
        }
        judged += 1;
        let answer = why(&lab, text(&line, "/statement")?)?;
        let agrees = answer.pointer("/explanation/permitted") == Some(&permitted.into())
            && answer.pointer("/explanation/refusal/rules") == line.pointer("/refusal/rules")
            && (!permitted || deciding(&answer) == rules(line.get("rules")));
        ensure!(agrees, "why says {answer} of {line}");
    }
    ensure!(
        judged >= 11,
        "only {judged} requests of session {session} are in the audit"
    );
    Ok(())
}

fn rules(list: Option<&Value>) -> BTreeSet<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The rules that `why` says decided about anything that a statement asks.
fn deciding(answer: &Value) -> BTreeSet<String> {
    let asks = answer
        .pointer("/explanation/asks")
        .and_then(Value::as_array);
    let asks = asks.into_iter().flatten();
    let accesses = asks.filter_map(|ask| ask.get("accesses")?.as_array());
    let rules = accesses
        .flatten()
        .filter_map(|access| access.get("rules")?.as_array());
    let ids = rules.flatten().filter_map(|rule| rule.get("id")?.as_str());
    ids.map(str::to_owned).collect()
}

/// What the policy's files say of a statement, asked of the command line.
fn why(lab: &Lab, statement: &str) -> Result<Value> {
    let psql = place::postgres_programs()?.join("psql");
    let mut command = Command::new(place::interceptor()?);
    command
        .args([
            "why",
            "--json",
            "--agent",
            "demo",
            "--target",
            "shop",
            "--database",
            "shop",
        ])
        .args(["--user", &lab.agent().uid().to_string()])
        .arg("--executable")
        .arg(psql)
        .arg("--policies")
        .arg(lab.daemon.policies())
        .args(["--", statement]);
    let finished = Process::run(command, DEADLINE)?;
    serde_json::from_str(&finished.stdout)
        .with_context(|| format!("why answered {:?} {:?}", finished.stdout, finished.stderr))
}
