//! Whose a grant is where a permit does not say `@grant_scope`: a process and what it starts.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{DEADLINE, place};

use super::{ORDERS, RULES, ended, request, words};
use crate::lab::{Lab, has, refused, text};

/// Reads when its parent has ended.
const ORPHAN: &str = r#"( export P=$(sh -c 'echo $PPID'); setsid sh -c 'while test -d /proc/$P; do :; done; eval "$READS"; echo left $?' & )
"#;

/// Where nothing is granted to a whole scope.
fn lab() -> Result<Lab> {
    let rules = RULES.replace(" @grant_scope", "");
    Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), rules)];
    })
}

/// A line of a shell that asks for orders.
fn asks(lab: &Lab) -> Result<String> {
    let words = words(lab, "--action Select --for 5m --json").join(" ");
    Ok(format!("{} {words}", place::interceptor()?.display()))
}

/// A line of a shell that reads one.
fn reads(lab: &Lab) -> Result<String> {
    let psql = place::postgres_programs()?.join("psql");
    let dsn = lab.dsn().conninfo();
    Ok(format!("{} '{dsn}' -XAtwc \"{ORDERS}\"", psql.display()))
}

fn only_grant(lab: &Lab) -> Result<Value> {
    let all = lab.daemon.cli(&["grants", "--json"])?.ok()?;
    serde_json::from_str(all.trim()).with_context(|| format!("not one grant: {all}"))
}

#[test]
fn what_nobody_in_its_scope_started_is_told_how_to_ask() -> Result<()> {
    let lab = lab()?;
    // It would have the whole of its scope.
    let alone = request(&lab, "--action Select --for 5m")?;
    has(&refused(alone)?, &["the whole scope's", "; exit $?"])?;
    // As would a shell that becomes the last command of its line.
    let line = format!("exec {}", asks(&lab)?);
    let last = lab.agent().run("sh", &["-c", &line])?;
    has(&refused(last)?, &["the whole scope's", "; exit $?"])?;
    let line = format!("{}; exit $?", asks(&lab)?);
    lab.agent().run("sh", &["-c", &line])?.ok().map(drop)
}

#[test]
fn a_shell_that_becomes_the_last_command_of_its_line_has_what_was_granted_to_it() -> Result<()> {
    let lab = lab()?;
    for (before, number) in [("", 0), ("exec ", 1)] {
        let line = format!("{} && {before}{}", asks(&lab)?, reads(&lab)?);
        let told = lab.agent().run("sh", &["-c", &line])?.ok()?;
        let granted = told.lines().next().unwrap_or_default();
        let granted: Value = serde_json::from_str(granted)?;
        let id = text(&granted, "/id")?;
        let log = lab.daemon.audit();
        let line = log.wait_for("request.permitted", DEADLINE, |line| {
            line["grants"][0] == id
        })?;
        let (root, process) = (&granted["holder"]["root"], &line["principal"]["process"]);
        let is_root = process["pid"] == root["pid"];
        ensure!(
            number == 0 || is_root && process["executable"]["sha256"] != root["sha256"],
            "not in the shell's place: {line}"
        );
        // It was the shell's, whatever that has become.
        let end = ended(&lab, id)?;
        ensure!(text(&end, "/why")? == "exited", "another end: {end}");
    }
    refused(lab.psql(&[ORDERS])?).map(drop)
}

#[test]
fn a_grant_is_for_all_that_its_shell_starts_and_nobody_else_and_ends_with_it() -> Result<()> {
    let lab = lab()?;
    let (asks, reads) = (asks(&lab)?, reads(&lab)?);
    let agent = lab.agent().with("READS", &reads);
    let mut shell = agent.start("sh", &[])?;
    // By way of another shell: the topmost of the tree has it.
    shell.send(&format!("sh -c '{asks}; exit $?'; echo asked\n"))?;
    shell.await_text("asked", DEADLINE)?;
    let grant = only_grant(&lab)?;
    ensure!(
        grant["holder"]["root"]["pid"] == shell.pid(),
        "another root: {grant}"
    );
    has(
        &lab.daemon.cli(&["grants"])?.ok()?,
        &[&format!("(process {} and what it starts)", shell.pid())],
    )?;
    // A brother of who asked, and a nephew.
    shell.send(&format!("{reads} && echo the brother\n"))?;
    shell.await_text("the brother", DEADLINE)?;
    shell.send(&format!(
        "sh <<'END' && echo the nephew\n{reads}; exit $?\nEND\n"
    ))?;
    shell.await_text("the nephew", DEADLINE)?;
    // Another tree of the same scope, alone and below a shell of its own.
    refused(lab.psql(&[ORDERS])?)?;
    let line = format!("{reads}; exit $?");
    has(
        &refused(lab.agent().run("sh", &["-c", &line])?)?,
        &["without a grant"],
    )?;
    // Who was left by its parent is in no tree any more.
    shell.send(ORPHAN)?;
    shell.await_text("left 1", DEADLINE)?;
    shell.send("exit\n")?;
    let end = ended(&lab, text(&grant, "/id")?)?;
    ensure!(text(&end, "/why")? == "exited", "another end: {end}");
    Ok(())
}

#[test]
fn a_word_for_a_tree_counts_when_its_root_has_come_to_execute_something_else() -> Result<()> {
    let rules = RULES
        .replace(" @grant_scope", "")
        .replace("@grant(\"1h\")", "@grant(\"1h\") @approve(\"games\")");
    let lab = Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), rules)];
    })?;
    let (asks, log) = (asks(&lab)?, lab.daemon.audit());
    let mut root = lab.agent().start("sh", &[])?;
    root.send(&format!("{asks}; echo told $?\n"))?;
    root.await_text("told", DEADLINE)?;
    let asked = log.wait_for("approval.asked", DEADLINE, |_| true)?;
    let id = text(&asked, "/approval")?;
    lab.daemon.cli(&["approvals", "approve", id])?.ok()?;
    let python = place::python()?;
    let again = "import subprocess, sys; \
                 print('ended', subprocess.run(sys.argv[1].split()).returncode, flush=True); \
                 sys.stdin.read()";
    root.send(&format!(
        "exec {} -c \"{again}\" '{asks}'\n",
        python.display()
    ))?;
    root.await_text("ended", DEADLINE)?;
    has(&root.log(), &["ended 0"])?;
    let grant = only_grant(&lab)?;
    ensure!(
        grant["holder"]["root"]["pid"] == root.pid(),
        "another root: {grant}"
    );
    let questions = log.events("approval.asked")?.len();
    ensure!(questions == 1, "people were asked {questions} times");
    Ok(())
}

#[test]
fn a_program_that_asks_by_the_form_has_it_for_itself_and_what_it_starts() -> Result<()> {
    let lab = lab()?;
    let form = json!({
        "target": "shop", "database": "shop", "actions": ["Select"], "for": "5m", "reason": "a test",
        "resource": { "table": { "schema": "public", "table": "orders" } },
    });
    let program = r#"
import os, socket, subprocess, sys, psycopg
body = os.environ['FORM'].encode()
agent = socket.socket(socket.AF_UNIX)
agent.connect(os.environ['SOCKET'])
agent.sendall(b'POST /v1/grants HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n'
    + b'content-length: %d\r\n\r\n' % len(body) + body)
print(agent.makefile('rb').read().split(b'\r\n\r\n', 1)[1].decode(), flush=True)
with psycopg.connect(os.environ['DSN']) as own:
    print('itself', own.execute(os.environ['ORDERS']).fetchone(), flush=True)
subprocess.run(['sh', '-c', os.environ['READS'] + ' && echo its child'], check=True)
sys.stdin.read()
"#;
    let socket = lab.daemon.run_directory().join("agent.sock");
    let agent = lab
        .agent()
        .with("FORM", &form.to_string())
        .with("SOCKET", &socket.to_string_lossy())
        .with("DSN", &lab.dsn().conninfo())
        .with("ORDERS", ORDERS)
        .with("READS", &reads(&lab)?);
    let python = place::python()?;
    let mut python = agent.start(&python.to_string_lossy(), &["-c", program])?;
    python.await_text("its child", DEADLINE)?;
    let grant = only_grant(&lab)?;
    ensure!(
        grant["holder"]["root"]["pid"] == python.pid(),
        "another root: {grant}"
    );
    refused(lab.psql(&[ORDERS])?)?;
    python.close_input();
    python.finish(DEADLINE)?.ok()?;
    let end = ended(&lab, text(&grant, "/id")?)?;
    ensure!(text(&end, "/why")? == "exited", "another end: {end}");
    Ok(())
}
