//! Access for a while: asked for by the agent, used as often as was said, gone when it is over.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Finished, Process, place};

use crate::lab::{Lab, has, lacks, refused, text};

mod later;
mod room;
mod trees;

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("customers") permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.customers");
@id("copies") permit (principal is Agent, action == Action::"CopyOut", resource in Target::"shop");
@id("inserts") permit (principal is Agent, action == Action::"Insert", resource in Table::"shop/shop/public.copies");
@id("orders-for-an-hour") @grant("1h") @grant_scope
permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.orders");
@id("deletes-for-minutes") @grant("10m") @grant_scope
permit (principal is Agent, action == Action::"Delete", resource in Table::"shop/shop/public.orders")
when { context.hasWhere };
"#;

const ORDERS: &str = "select item from orders where id = 1";

fn lab() -> Result<Lab> {
    Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), RULES.to_owned())];
    })
}

/// The words of a request for orders, with the agents' socket.
fn words(lab: &Lab, more: &str) -> Vec<String> {
    words_of(lab, "--table public.orders", more)
}

fn words_of(lab: &Lab, on: &str, more: &str) -> Vec<String> {
    let socket = lab.daemon.run_directory().join("agent.sock");
    let mut words = vec!["request".to_owned(), "--socket".to_owned()];
    words.push(socket.to_string_lossy().into_owned());
    words.extend(
        format!("--target shop --database shop --reason test {on}")
            .split_whitespace()
            .map(str::to_owned),
    );
    words.extend(more.split_whitespace().map(str::to_owned));
    words
}

fn request(lab: &Lab, more: &str) -> Result<Finished> {
    ask(lab, words(lab, more))
}

fn ask(lab: &Lab, words: Vec<String>) -> Result<Finished> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let program = place::interceptor()?;
    lab.agent().run(&program.to_string_lossy(), &words)
}

/// What was granted.
fn granted(lab: &Lab, more: &str) -> Result<Value> {
    granted_of(lab, "--table public.orders", more)
}

/// The same of something else than orders.
fn granted_of(lab: &Lab, on: &str, more: &str) -> Result<Value> {
    let answer = ask(lab, words_of(lab, on, &format!("{more} --json")))?.ok()?;
    serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer}"))
}

fn listed(lab: &Lab) -> Result<String> {
    lab.daemon.cli(&["grants"])?.ok()
}

fn ended(lab: &Lab, id: &str) -> Result<Value> {
    lab.daemon
        .audit()
        .wait_for("grant.ended", DEADLINE, |line| line["grant"] == id)
}

#[test]
fn a_refusal_says_how_to_ask_and_what_was_asked_for_is_permitted_until_it_is_taken_back()
-> Result<()> {
    let lab = lab()?;
    let none = lab.daemon.cli(&["grants"])?;
    has(&none.stderr, &["nothing is granted"])?;
    ensure!(none.stdout.is_empty() && none.status.success(), "{none:?}");
    let none = lab.daemon.cli(&["grants", "--json"])?;
    ensure!(none.stdout.is_empty() && none.stderr.is_empty(), "{none:?}");
    let told = refused(lab.psql(&[ORDERS])?)?;
    has(
        &told,
        &[
            "without a grant",
            "interceptor request --target shop --database shop --action Select --table public.orders --for 1h --reason WHY",
        ],
    )?;
    let grant = granted(&lab, "--action Select --for 5m --ticket T-1")?;
    let id = text(&grant, "/id")?;
    lab.psql(&[ORDERS])?.ok()?;
    refused(lab.psql(&["delete from orders where id = 1"])?)?;
    has(&listed(&lab)?, &[id, "public.orders", "test"])?;

    let log = lab.daemon.audit();
    let issued = log.wait_for("grant.issued", DEADLINE, |_| true)?;
    ensure!(text(&issued, "/grant/id")? == id, "another grant: {issued}");
    ensure!(
        text(&issued, "/rules/0")? == "orders-for-an-hour",
        "another rule: {issued}"
    );
    text(&issued, "/principal/process/executable/sha256")?;
    let permitted = log.wait_for("request.permitted", DEADLINE, |line| {
        line["grants"][0] == id
    })?;
    ensure!(
        text(&permitted, "/rules/0")? == "orders-for-an-hour",
        "another rule: {permitted}"
    );

    lab.daemon.cli(&["revoke", id])?.ok()?;
    has(&refused(lab.psql(&[ORDERS])?)?, &["without a grant"])?;
    ensure!(text(&ended(&lab, id)?, "/why")? == "revoked", "another end");
    lacks(&listed(&lab)?, &[id])?;
    let again = lab.daemon.cli(&["revoke", id])?;
    has(&refused(again)?, &["no grant of that name lives"]).map(drop)
}

#[test]
fn a_grant_of_all_around_it_does_not_stand_in_for_somebodys_word() -> Result<()> {
    let rules = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("all") @grant("1h") @grant_scope
permit (principal is Agent, action in Action::"Read", resource in Schema::"shop/shop/public")
unless { resource == Table::"shop/shop/public.salaries" };
@id("pay") @grant("1h") @grant_scope @approve("games")
permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.salaries");
"#;
    let lab = Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), rules.to_owned())];
    })?;
    granted_of(&lab, "--schema public", "--action Select --for 1h")?;
    lab.psql(&[ORDERS])?.ok()?;
    let told = refused(lab.psql(&["select 1 from salaries"])?)?;
    has(&told, &["SELECT on public.salaries", "without a grant"])
}

#[test]
fn only_what_policy_leaves_to_grants_is_granted_and_only_for_as_long() -> Result<()> {
    let lab = lab()?;
    for (more, told) in [
        ("--action Select --for 2h", "at most 3600 s"),
        ("--action Select --action Delete --for 30m", "at most 600 s"),
        ("--action Insert --for 5m", "not permitted"),
        ("--action Select --for never", "expected a duration"),
        ("--action Select --for 5m --uses 0", "at least one use"),
        ("--action Nothing --for 5m", "is no action"),
    ] {
        has(&refused(request(&lab, more)?)?, &[told]).with_context(|| more.to_owned())?;
    }
    let refusal = lab
        .daemon
        .audit()
        .wait_for("grant.refused", DEADLINE, |line| {
            line["asked"]["actions"][0] == "Insert"
        })?;
    ensure!(
        text(&refusal, "/principal/agent")? == "demo",
        "nobody asked: {refusal}"
    );
    // Nobody outside of a scope has anything to ask for.
    let words = words(&lab, "--action Select --for 5m");
    let mut command = Command::new(place::interceptor()?);
    command.args(words);
    let outside = Process::run(command, DEADLINE)?;
    has(&refused(outside)?, &["in no scope"]).map(drop)
}

#[test]
fn a_grant_of_one_use_admits_one_statement_of_a_hundred_at_once() -> Result<()> {
    let lab = lab()?;
    let grant = granted(&lab, "--action Select --action Delete --for 5m --uses 1")?;
    let id = text(&grant, "/id")?;
    let program = "
import os, threading, psycopg
ready, served, refused = threading.Barrier(25), [], []
def ask():
    with psycopg.connect(os.environ['DSN'], autocommit=True) as connection:
        ready.wait()
        for _ in range(4):
            try:
                connection.execute('delete from orders where id = 1')
                served.append(1)
            except psycopg.errors.InsufficientPrivilege:
                refused.append(1)
threads = [threading.Thread(target=ask) for _ in range(25)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print('served', len(served), 'refused', len(refused))
";
    let agent = lab.agent().with("DSN", &lab.dsn().conninfo());
    let output = agent.python(&lab.dsn(), program)?.ok()?;
    has(&output, &["served 1 refused 99"])?;
    let end = ended(&lab, id)?;
    ensure!(
        end["why"] == "used" && end["used"] == 1,
        "another end: {end}"
    );
    Ok(())
}

#[test]
fn a_prepared_statement_uses_a_grant_when_it_runs_not_when_it_is_prepared() -> Result<()> {
    let lab = lab()?;
    granted(&lab, "--action Select --for 5m --uses 2")?;
    let program = "
import os, psycopg
with psycopg.connect(os.environ['DSN'], autocommit=True) as connection:
    for _ in range(3):
        try:
            print(connection.execute('select count(*) from orders where id > %s', (0,), prepare=True).fetchone())
        except psycopg.Error as error:
            print('refused', error.sqlstate)
";
    let agent = lab.agent().with("DSN", &lab.dsn().conninfo());
    let output = agent.python(&lab.dsn(), program)?.ok()?;
    ensure!(
        output.matches('(').count() == 2 && output.contains("refused 42501"),
        "another count: {output}"
    );
    Ok(())
}

#[test]
fn a_grant_that_ends_in_the_middle_of_a_result_ends_it_on_both_sides() -> Result<()> {
    revoked_in_the_middle("")
}

#[test]
fn what_took_the_last_use_of_a_grant_ends_when_the_grant_is_taken_back() -> Result<()> {
    revoked_in_the_middle("--uses 1")
}

const RUNNING: &str =
    "select count(*) from pg_stat_activity where usename = 'shop_app' and state = 'active'";

/// An agent's `psql` in the middle of an answer without an end.
fn endless(lab: &Lab) -> Result<Process> {
    let endless = "copy (select orders.item from orders, generate_series(1, 1000000000)) to stdout";
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send(&format!("\\o /dev/null\n{endless};\n\\q\n"))?;
    support::wait::for_fact("the copy", DEADLINE, || {
        Ok((lab.server.admin(RUNNING)?.trim() == "1").then_some(()))
    })?;
    Ok(psql)
}

fn nothing_runs(lab: &Lab) -> Result<()> {
    support::wait::for_fact("the end at the server", DEADLINE, || {
        Ok((lab.server.admin(RUNNING)?.trim() == "0").then_some(()))
    })
}

fn revoked_in_the_middle(uses: &str) -> Result<()> {
    let lab = lab()?;
    let grant = granted(&lab, &format!("--action Read --for 10m {uses}"))?;
    let id = text(&grant, "/id")?;
    let mut psql = endless(&lab)?;
    lab.daemon.cli(&["revoke", id])?.ok()?;
    let finished = psql.finish(DEADLINE)?;
    has(
        &finished.stderr,
        &["the grant that this session stood on has ended"],
    )?;
    nothing_runs(&lab)?;
    let revoked = |line: &Value| line["grant"] == id && line["why"] == "revoked";
    let end = lab
        .daemon
        .audit()
        .wait_for("grant.ended", DEADLINE, revoked)?;
    let sessions = end.pointer("/sessions").and_then(Value::as_u64);
    ensure!(sessions == Some(1), "another count: {end}");
    let closed = lab
        .daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |_| true)?;
    ensure!(text(&closed, "/reason")? == "grant", "another: {closed}");
    // The server has said so, and that is not the session's own word.
    let answered = lab
        .daemon
        .audit()
        .wait_for("cancel.answered", DEADLINE, |_| true)?;
    let confirmed = answered.get("confirmed").and_then(Value::as_bool);
    ensure!(
        confirmed == Some(true) && text(&answered, "/session")? == text(&closed, "/session")?,
        "not confirmed: {answered}"
    );
    Ok(())
}

#[test]
fn a_grant_ends_when_its_time_is_over_and_with_the_process_that_it_hangs_on() -> Result<()> {
    let lab = lab()?;
    let grant = granted(&lab, "--action Select --for 1s")?;
    let end = ended(&lab, text(&grant, "/id")?)?;
    ensure!(text(&end, "/why")? == "expired", "another end: {end}");
    refused(lab.psql(&[ORDERS])?)?;

    // A shell in the scope asks: what it starts may, what others start may not, and it ends with the shell.
    let mut shell = lab.agent().start("sh", &[])?;
    let quoted: Vec<_> = words(&lab, "--action Select --for 5m --json");
    let program = place::interceptor()?;
    shell.send(&format!(
        "{} {}; echo asked\n",
        program.display(),
        quoted.join(" ")
    ))?;
    shell.await_text("asked", DEADLINE)?;
    let id = {
        let all = lab.daemon.cli(&["grants", "--json"])?.ok()?;
        let grant: Value = serde_json::from_str(all.trim())?;
        ensure!(
            grant["holder"]["root"]["pid"] == shell.pid(),
            "another root: {grant}"
        );
        text(&grant, "/id")?.to_owned()
    };
    let psql = place::postgres_programs()?.join("psql");
    let dsn = lab.dsn().conninfo();
    shell.send(&format!(
        "{} '{dsn}' -Atc \"{ORDERS}\" && echo served\n",
        psql.display()
    ))?;
    shell.await_text("served", DEADLINE)?;
    refused(lab.psql(&[ORDERS])?)?;
    shell.send("exit\n")?;
    let end = ended(&lab, &id)?;
    ensure!(text(&end, "/why")? == "exited", "another end: {end}");
    Ok(())
}

#[test]
fn grants_and_their_uses_outlive_a_daemon_that_is_killed() -> Result<()> {
    let mut lab = lab()?;
    let grant = granted(&lab, "--action Select --for 10m --uses 2")?;
    let id = text(&grant, "/id")?.to_owned();
    lab.psql(&[ORDERS])?.ok()?;
    lab.daemon.kill();
    lab.daemon.resume()?;
    has(&listed(&lab)?, &[&id, "1 of 2 uses"])?;
    lab.psql(&[ORDERS])?.ok()?;
    refused(lab.psql(&[ORDERS])?)?;
    lab.daemon.kill();
    lab.daemon.resume()?;
    refused(lab.psql(&[ORDERS])?).map(drop)
}

#[test]
fn a_reload_that_takes_the_permit_away_takes_its_grants_along() -> Result<()> {
    let mut lab = lab()?;
    granted(&lab, "--action Select --for 10m")?;
    lab.psql(&[ORDERS])?.ok()?;
    lab.daemon.change(|settings| {
        let closed = "@id(\"closed\") forbid (principal is Agent, action == Action::\"Select\", resource in Table::\"shop/shop/public.orders\");";
        settings
            .policies
            .push(("closed.cedar".to_owned(), closed.to_owned()));
    })?;
    lab.daemon.reload()?.ok()?;
    has(&refused(lab.psql(&[ORDERS])?)?, &["closed"]).map(drop)
}

#[test]
fn a_grant_that_ends_by_time_in_the_middle_of_a_result_ends_it_on_both_sides() -> Result<()> {
    let lab = lab()?;
    let grant = granted(&lab, "--action Read --for 10s")?;
    let id = text(&grant, "/id")?;
    let mut psql = endless(&lab)?;
    let finished = psql.finish(DEADLINE)?;
    has(
        &finished.stderr,
        &["the grant that this session stood on has ended"],
    )?;
    nothing_runs(&lab)?;
    ensure!(text(&ended(&lab, id)?, "/why")? == "expired", "another end");
    Ok(())
}

#[test]
fn a_grant_gives_as_many_rows_as_it_says_to_all_sessions_together() -> Result<()> {
    let lab = lab()?;
    let grant = granted(&lab, "--action Read --for 10m --rows 5")?;
    let id = text(&grant, "/id")?;
    let rows =
        |count: u32| format!("select item from orders, generate_series(1, 1000) limit {count}");
    lab.psql(&[&rows(2)])?.ok()?;
    has(&listed(&lab)?, &["2 of 5 rows"])?;
    let told = refused(lab.psql(&[&rows(900)])?)?;
    has(
        &told,
        &["more than 3 rows, which is all that the grant had left", id],
    )?;
    let end = ended(&lab, id)?;
    ensure!(
        end["why"] == "used" && end["used_rows"] == 5,
        "another end: {end}"
    );
    let cut = |line: &Value| line["spent"][0]["rows"] == 3;
    let line = lab
        .daemon
        .audit()
        .wait_for("request.finished", DEADLINE, cut)?;
    ensure!(
        line["spent"][0]["grant"] == id && line["status"] == "limited",
        "another: {line}"
    );
    has(&refused(lab.psql(&[&rows(1)])?)?, &["without a grant"]).map(drop)
}

#[test]
fn rows_that_are_set_aside_are_nobody_elses_and_a_kill_gives_none_back() -> Result<()> {
    let mut lab = lab()?;
    let grant = granted(&lab, "--action Read --for 10m --rows 1000000000")?;
    let id = text(&grant, "/id")?.to_owned();
    lab.psql(&[ORDERS])?.ok()?;
    let mut psql = endless(&lab)?;
    has(&refused(lab.psql(&[ORDERS])?)?, &["set aside"])?;
    lab.daemon.kill();
    psql.finish(DEADLINE)?;
    lab.daemon.resume()?;
    refused(lab.psql(&[ORDERS])?)?;
    let end = ended(&lab, &id)?;
    ensure!(
        end["why"] == "used" && end["used_rows"] == 1_000_000_000,
        "another end: {end}"
    );
    Ok(())
}

#[test]
fn what_a_grant_counts_is_not_taken_where_it_cannot_be_counted() -> Result<()> {
    let lab = lab()?;
    for (more, told) in [
        (
            "--action Delete --for 5m --bytes 5KiB",
            "counted in answers",
        ),
        ("--action Truncate --for 5m --rows 5", "counted in answers"),
        ("--action Select --for 5m --rows 0", "at least one row"),
        ("--action Select --for 5m --bytes 5XB", "takes a size"),
    ] {
        has(&refused(request(&lab, more)?)?, &[told]).with_context(|| more.to_owned())?;
    }
    granted(&lab, "--action Select --for 5m --rows 5 --bytes 4KiB")?;
    for statement in [
        "insert into copies select item from orders",
        "begin; declare c cursor for select item from orders; commit",
    ] {
        has(&refused(lab.psql(&[statement])?)?, &["in no answer"])
            .with_context(|| statement.to_owned())?;
    }
    has(&listed(&lab)?, &["0 of 5 rows, 0 of 4096 bytes"])
}

#[test]
fn what_was_begun_under_a_grant_and_lasts_ends_with_it() -> Result<()> {
    let rules = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Transaction"], resource);
@id("plain") permit (principal is Agent, action == Action::"Set", resource) unless { context.settings.contains("work_mem") };
@id("granted") @grant("1h") @grant_scope
permit (principal is Agent, action in [Action::"Select", Action::"Set", Action::"Notify"], resource in Target::"shop");
"#;
    let lab = Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), rules.to_owned())];
    })?;
    for begun in [
        "begin; declare c cursor for select item from orders",
        "set work_mem = '1MB'",
        "listen changes",
    ] {
        let more = "--action Select --action Set --action Notify";
        let grant = granted_of(&lab, "", &format!("{more} --for 10m"))?;
        let id = text(&grant, "/id")?;
        let mut psql = lab.agent().open_psql(&lab.dsn())?;
        psql.send(&format!("{begun};\n\\echo begun :SQLSTATE\n"))?;
        psql.await_text("begun 00000", DEADLINE)
            .with_context(|| begun.to_owned())?;
        lab.daemon.cli(&["revoke", id])?.ok()?;
        psql.send("select 'still here';\n\\q\n")?;
        let finished = psql.finish(DEADLINE)?;
        lacks(&finished.stdout, &["still here"]).with_context(|| begun.to_owned())?;
        let closed = |line: &Value| line["reason"] == "grant" && line["grant"] == id;
        lab.daemon
            .audit()
            .wait_for("session.closed", DEADLINE, closed)?;
    }
    Ok(())
}

#[test]
fn connecting_and_opening_by_a_grant_use_it_and_their_lines_name_it() -> Result<()> {
    let rules = r#"
@id("reach") @grant("1h") @grant_scope permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("read") permit (principal is Agent, action in [Action::"Read", Action::"Session"], resource);
"#;
    let lab = Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), rules.to_owned())];
    })?;
    let told = refused(lab.psql(&["select 1"])?)?;
    has(&told, &["request --target shop --action Connect --for 1h"])?;
    let ask = |more: &str| {
        let socket = lab.daemon.run_directory().join("agent.sock");
        let words = format!(
            "request --socket {} --target shop --reason test --for 5m --json {more}",
            socket.display()
        );
        let words: Vec<_> = words.split_whitespace().collect();
        let program = place::interceptor()?;
        lab.agent().run(&program.to_string_lossy(), &words)
    };
    has(
        &refused(ask("--action Connect --database shop")?)?,
        &["ask for it without a database"],
    )?;
    let grant: Value =
        serde_json::from_str(&ask("--action Connect --action Open --uses 2")?.ok()?)?;
    let id = text(&grant, "/id")?;
    lab.psql(&["select 1"])?.ok()?;
    let log = lab.daemon.audit();
    for event in ["connection.opened", "session.opened"] {
        log.wait_for(event, DEADLINE, |line| line["grants"][0] == id)?;
    }
    let end = ended(&lab, id)?;
    ensure!(end["why"] == "used" && end["used"] == 2, "another: {end}");
    refused(lab.psql(&["select 1"])?).map(drop)
}

#[test]
fn the_grants_of_a_scope_end_when_it_is_tagged_no_longer_or_its_agent_is_killed() -> Result<()> {
    let lab = lab()?;
    let first = granted(&lab, "--action Select --for 10m")?;
    let scope = lab.daemon.scope().to_owned();
    lab.daemon.cli(&["untag", &scope])?.ok()?;
    lab.daemon.cli(&["tag", &scope, "--agent", "demo"])?.ok()?;
    let end = ended(&lab, text(&first, "/id")?)?;
    ensure!(text(&end, "/why")? == "untagged", "another end: {end}");
    refused(lab.psql(&[ORDERS])?)?;
    let second = granted(&lab, "--action Select --for 10m")?;
    lab.psql(&[ORDERS])?.ok()?;
    lab.daemon.cli(&["kill", "demo"])?.ok()?;
    let end = ended(&lab, text(&second, "/id")?)?;
    ensure!(text(&end, "/why")? == "killed", "another end: {end}");
    refused(lab.psql(&[ORDERS])?).map(drop)
}

#[test]
fn a_column_that_a_grant_reveals_is_masked_again_when_it_ends_and_lines_name_the_grant()
-> Result<()> {
    let rules = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session", Action::"Read"], resource);
@id("revealed") @grant("1h") @grant_scope permit (principal is Agent, action == Action::"Reveal", resource in Target::"shop");
"#;
    let lab = Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), rules.to_owned())];
        for target in &mut settings.targets {
            let sensitive = "sensitive: { public.customers.ssn: last4 }";
            target.more.push(sensitive.to_owned());
        }
    })?;
    let show = "select ssn from customers where id = 1";
    lacks(&lab.psql(&[show])?.ok()?, &["078"])?;
    let on = "--column public.customers.ssn";
    let asked = words_of(&lab, on, "--action Reveal --for 5m --uses 1");
    has(
        &refused(ask(&lab, asked)?)?,
        &["uses of Reveal are not counted"],
    )?;
    let grant = granted_of(&lab, on, "--action Reveal --for 10m")?;
    let id = text(&grant, "/id")?;
    has(&lab.psql(&[show])?.ok()?, &["078"])?;
    let named = |line: &Value| line["revealed"][0] == id;
    lab.daemon
        .audit()
        .wait_for("request.permitted", DEADLINE, named)?;
    lab.daemon.cli(&["revoke", id])?.ok()?;
    lacks(&lab.psql(&[show])?.ok()?, &["078"])
}

#[test]
fn an_issue_that_cannot_be_kept_is_written_as_none() -> Result<()> {
    let lab = lab()?;
    let store = lab.daemon.state().join("grants.db");
    let sql = |text: &str| {
        let mut command = Command::new(place::python()?);
        let program =
            "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
        command.arg("-c").arg(program).arg(&store).arg(text);
        Process::run(command, DEADLINE)?.ok()
    };
    // It is kept, and cannot be put in force.
    sql("create trigger broken before update on grants begin select raise(abort, 'broken'); end;")?;
    refused(request(&lab, "--action Select --for 5m")?)?;
    let log = lab.daemon.audit();
    let issued = log.wait_for("grant.issued", DEADLINE, |_| true)?;
    let end = ended(&lab, text(&issued, "/grant/id")?)?;
    ensure!(text(&end, "/why")? == "unissued", "another end: {end}");
    // It cannot be kept at all.
    sql("drop trigger broken; alter table grants rename to others;")?;
    let asked = "--action Select --for 5m --ticket second";
    has(&refused(request(&lab, asked)?)?, &["cannot be written"])?;
    let second = |line: &Value| line["asked"]["ticket"] == "second";
    log.wait_for("grant.refused", DEADLINE, second)?;
    ensure!(log.events("grant.issued")?.len() == 1, "it was issued");
    refused(lab.psql(&[ORDERS])?).map(drop)
}
