//! Access for a while: asked for by the agent, used as often as was said, gone when it is over.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Finished, Process, place};

use crate::lab::{Lab, has, lacks, refused, text};

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("customers") permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.customers");
@id("copies") permit (principal is Agent, action == Action::"CopyOut", resource in Target::"shop");
@id("orders-for-an-hour") @grant("1h")
permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.orders");
@id("deletes-for-minutes") @grant("10m")
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
    let socket = lab.daemon.run_directory().join("agent.sock");
    let mut words = vec!["request".to_owned(), "--socket".to_owned()];
    words.push(socket.to_string_lossy().into_owned());
    words.extend(
        "--target shop --database shop --table public.orders --reason test"
            .split(' ')
            .map(str::to_owned),
    );
    words.extend(more.split_whitespace().map(str::to_owned));
    words
}

fn request(lab: &Lab, more: &str) -> Result<Finished> {
    let words = words(lab, more);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let program = place::interceptor()?;
    lab.agent().run(&program.to_string_lossy(), &words)
}

/// What was granted.
fn granted(lab: &Lab, more: &str) -> Result<Value> {
    let answer = request(lab, &format!("{more} --json"))?.ok()?;
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
fn a_grant_of_one_use_admits_one_statement_of_many_at_once() -> Result<()> {
    let lab = lab()?;
    let grant = granted(&lab, "--action Select --action Delete --for 5m --uses 1")?;
    let id = text(&grant, "/id")?;
    let mut psqls = Vec::new();
    for _ in 0..8 {
        let mut psql = lab.agent().open_psql(&lab.dsn())?;
        psql.send("select 'ready' from customers limit 1;\n")?;
        psql.await_text("ready", DEADLINE)?;
        psqls.push(psql);
    }
    for psql in &mut psqls {
        psql.send("delete from orders where id = 1;\n\\echo over :SQLSTATE\n\\q\n")?;
    }
    let mut served = 0;
    for mut psql in psqls {
        let finished = psql.finish(DEADLINE)?;
        served += usize::from(finished.stdout.contains("over 00000"));
        ensure!(
            finished.stdout.contains("over 00000") || finished.stdout.contains("over 42501"),
            "neither served nor refused: {}{}",
            finished.stdout,
            finished.stderr
        );
    }
    ensure!(served == 1, "{served} of 8 were served");
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

fn revoked_in_the_middle(uses: &str) -> Result<()> {
    let lab = lab()?;
    let grant = granted(&lab, &format!("--action Read --for 10m {uses}"))?;
    let id = text(&grant, "/id")?;
    let endless = "copy (select orders.item from orders, generate_series(1, 1000000000)) to stdout";
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send(&format!("\\o /dev/null\n{endless};\n\\q\n"))?;
    let running =
        "select count(*) from pg_stat_activity where usename = 'shop_app' and state = 'active'";
    support::wait::for_fact("the copy", DEADLINE, || {
        Ok((lab.server.admin(running)?.trim() == "1").then_some(()))
    })?;
    lab.daemon.cli(&["revoke", id])?.ok()?;
    let finished = psql.finish(DEADLINE)?;
    has(
        &finished.stderr,
        &["the grant that this session stood on has ended"],
    )?;
    support::wait::for_fact("the end at the server", DEADLINE, || {
        Ok((lab.server.admin(running)?.trim() == "0").then_some(()))
    })?;
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
