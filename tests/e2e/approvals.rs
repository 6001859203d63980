//! Requests that wait for people: held, shown, answered, and gone on with.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Agent, DEADLINE, Finished, Process, place};

use crate::lab::{Lab, has, lacks, refused, text};

mod back;
mod touches;

/// Groups that every Debian has, each with a user of its own.
const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("reads") permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.orders");
@id("nothing-of-a-table") permit (principal is Agent, action == Action::"Select", resource == Database::"shop/shop");
@id("deletes") @approve("games") @shape("10m")
permit (principal is Agent, action == Action::"Delete", resource in Table::"shop/shop/public.orders");
@id("updates") @approve("games, man") @approvers("2")
permit (principal is Agent, action == Action::"Update", resource in Table::"shop/shop/public.orders");
@id("copies") @approve("games")
permit (principal is Agent, action in [Action::"CopyIn", Action::"Insert"], resource in Table::"shop/shop/public.salaries");
@id("salaries") @approve("games")
permit (principal is Agent, action == Action::"Select", resource in Table::"shop/shop/public.salaries");
@id("inserts") @grant("10m") @grant_scope @approve("games")
permit (principal is Agent, action == Action::"Insert", resource in Table::"shop/shop/public.orders");
@id("answers") permit (principal is User, action == Action::"Approve", resource in Agent::"demo")
when { principal.groups.contains("games") || principal.groups.contains("man") };
"#;

const DELETE: &str = "delete from orders where id = 101";
/// Users of those groups, and of another.
const GAMES: u32 = 5;
const MAN: u32 = 6;
const MAIL: u32 = 8;

fn lab() -> Result<Lab> {
    patient("5m")
}

/// A lab where requests wait so long.
fn patient(hold: &str) -> Result<Lab> {
    Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), RULES.to_owned())];
        for target in &mut settings.targets {
            target.more.push(format!("timeouts: {{ hold: {hold} }}"));
        }
    })
}

/// `interceptor approvals …` of a user outside of every scope.
fn approvals(lab: &Lab, uid: u32, words: &[&str]) -> Result<Finished> {
    let socket = lab.daemon.run_directory().join("control.sock");
    let socket = socket.to_string_lossy();
    let socket = ["--socket", &socket];
    let words = [&["approvals"], words, &socket].concat();
    let program = place::interceptor()?;
    Agent::outside()
        .as_uid(uid)
        .run(&program.to_string_lossy(), &words)
}

fn listed(lab: &Lab) -> Result<Vec<Value>> {
    let listed = lab.daemon.cli(&["approvals", "ls", "--json"])?.ok()?;
    let lines = listed.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .with_context(|| format!("not JSON: {listed}"))
}

/// The one that waits, once so many do.
fn waits(lab: &Lab, count: u64) -> Result<Value> {
    support::wait::for_fact("a request that waits", DEADLINE, || {
        let all = listed(lab)?;
        ensure!(all.len() < 2, "more than one: {all:?}");
        Ok(all.into_iter().find(|one| one["waiting"] == count))
    })
}

/// A psql that has sent `statement` and is held.
fn held(lab: &Lab, statement: &str) -> Result<Process> {
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send(&format!("{statement};\n\\echo over :SQLSTATE\n"))?;
    psql.await_text("waiting for approval", DEADLINE)?;
    Ok(psql)
}

/// That so many orders are as `condition` says.
fn ensure_orders(lab: &Lab, condition: &str, count: u32) -> Result<()> {
    let query = format!("select count(*) from orders where {condition}");
    let found = lab.server.admin(&query)?;
    ensure!(
        found.trim() == count.to_string(),
        "{found} orders where {condition}, not {count}"
    );
    Ok(())
}

fn ended(lab: &Lab, id: &str) -> Result<Value> {
    lab.daemon
        .audit()
        .wait_for("approval.ended", DEADLINE, |line| line["approval"] == id)
}

#[test]
fn a_request_is_held_until_somebody_of_the_group_says_yes() -> Result<()> {
    let lab = lab()?;
    let mut psql = held(&lab, DELETE)?;
    let one = waits(&lab, 1)?;
    let id = text(&one, "/id")?;
    ensure!(text(&one, "/text")?.contains(DELETE), "another text: {one}");
    let shown = approvals(&lab, GAMES, &["show", id])?.ok()?;
    has(
        &shown,
        &[DELETE, "psql", "games", "open, 1 waiting", "sha256"],
    )?;
    ensure_orders(&lab, "id = 101", 1)?;

    for (uid, told) in [
        (MAN, "this waits for games"),
        (MAIL, "is not permitted"),
        (lab.agent().uid(), "run as an agent"),
    ] {
        let refusal = refused(approvals(&lab, uid, &["approve", id])?)?;
        has(&refusal, &[told]).with_context(|| format!("uid {uid}"))?;
    }
    let inside = place::interceptor()?;
    let socket = lab.daemon.run_directory().join("control.sock");
    let words = [
        "approvals",
        "approve",
        id,
        "--socket",
        &socket.to_string_lossy(),
    ];
    let agent = lab.agent().as_uid(GAMES);
    refused(agent.run(&inside.to_string_lossy(), &words)?)?;
    ensure_orders(&lab, "id = 101", 1)?;

    approvals(&lab, GAMES, &["approve", id, "--reason", "as planned"])?.ok()?;
    psql.await_text("over 00000", DEADLINE)?;
    ensure_orders(&lab, "id = 101", 0)?;
    let log = lab.daemon.audit();
    log.wait_for("approval.asked", DEADLINE, |line| line["approval"] == id)?;
    let said = log.wait_for("approval.answered", DEADLINE, |line| line["approval"] == id)?;
    ensure!(
        said["answer"]["by"]["uid"] == GAMES && said["answer"]["reason"] == "as planned",
        "another answer: {said}"
    );
    text(&said, "/caller/process/executable/sha256")?;
    log.wait_for("request.permitted", DEADLINE, |line| line["approval"] == id)?;
    ensure!(ended(&lab, id)?["why"] == "used", "another end");
    // Another text is another question.
    psql.send("delete from orders where id = 102;\n")?;
    waits(&lab, 1).map(drop)
}

#[test]
fn a_no_is_told_with_its_reason_and_the_same_is_not_asked_again() -> Result<()> {
    let lab = lab()?;
    let psql = held(&lab, DELETE)?;
    let one = waits(&lab, 1)?;
    let id = text(&one, "/id")?;
    approvals(&lab, GAMES, &["deny", id, "--reason", "not on a Friday"])?.ok()?;
    psql.await_text("was denied by games: not on a Friday", DEADLINE)?;
    psql.await_text("over 42501", DEADLINE)?;
    // psql sends a text of its input with the semicolon.
    let again = refused(lab.psql(&[&format!("{DELETE};")])?)?;
    has(&again, &["not on a Friday"])?;
    lacks(&again, &["waiting for approval"])?;
    // Nor in another spelling, nor after something was set; but with another value it is.
    let spelled = "/* please */ DELETE  from orders where (id = 101)";
    let again = refused(lab.psql(&["set work_mem = '8MB'", spelled])?)?;
    has(&again, &["not on a Friday"])?;
    ensure_orders(&lab, "id = 101", 1)?;
    held(&lab, "delete from orders where id = 102").map(drop)
}

#[test]
fn who_goes_away_or_cancels_is_asked_about_no_longer() -> Result<()> {
    let lab = lab()?;
    let program = "
import os, threading, psycopg
with psycopg.connect(os.environ['DSN'], autocommit=True) as connection:
    cancel = lambda notice: threading.Thread(target=connection.cancel).start()
    connection.add_notice_handler(cancel)
    try:
        connection.execute('delete from orders where id = 101')
    except psycopg.errors.QueryCanceled as error:
        print(error)
    print(connection.execute('select 1').fetchone())
";
    let agent = lab.agent().with("DSN", &lab.dsn().conninfo());
    let output = agent.python(&lab.dsn(), program)?.ok()?;
    has(
        &output,
        &["canceling statement due to user request", "(1,)"],
    )?;
    let asked = lab
        .daemon
        .audit()
        .wait_for("approval.asked", DEADLINE, |_| true)?;
    let id = text(&asked, "/approval")?;
    ensure!(ended(&lab, id)?["why"] == "withdrawn", "another end");
    let late = approvals(&lab, GAMES, &["approve", id])?;
    has(&refused(late)?, &["no question"])?;

    let gone = held(&lab, DELETE)?;
    let id = text(&waits(&lab, 1)?, "/id")?.to_owned();
    gone.signal(Signal::SIGKILL);
    ensure!(ended(&lab, &id)?["why"] == "withdrawn", "another end");
    ensure_orders(&lab, "id = 101", 1)?;
    ensure!(listed(&lab)?.is_empty(), "something waits");
    Ok(())
}

#[test]
fn who_does_not_wait_comes_back_for_the_answer_once() -> Result<()> {
    let lab = patient("0s")?;
    let told = refused(lab.psql(&[DELETE])?)?;
    let one = waits(&lab, 0)?;
    let id = text(&one, "/id")?;
    has(&told, &["waits for an approval of games", id])?;
    approvals(&lab, GAMES, &["approve", id])?.ok()?;
    lab.psql(&[DELETE])?.ok()?;
    ensure_orders(&lab, "id = 101", 0)?;
    has(&refused(lab.psql(&[DELETE])?)?, &["waits for an approval"]).map(drop)
}

#[test]
fn a_yes_is_to_what_was_shown() -> Result<()> {
    let lab = patient("0s")?;
    refused(lab.psql(&[DELETE])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    let other = "0".repeat(64);
    let told = refused(approvals(
        &lab,
        GAMES,
        &["approve", &id, "--shown", &other],
    )?)?;
    has(&told, &["has changed"])?;
    // What it would touch is a part of that, and comes a moment later.
    let seen = support::wait::for_fact("what it would touch", DEADLINE, || {
        let seen = approvals(&lab, GAMES, &["show", &id, "--json"])?.ok()?;
        let seen: Value = serde_json::from_str(&seen)?;
        Ok(seen.to_string().contains("\"touches\"").then_some(seen))
    })?;
    let shown = text(&seen, "/shown")?;
    has(
        &approvals(&lab, GAMES, &["show", &id])?.ok()?,
        &["normalized", shown],
    )?;
    approvals(&lab, GAMES, &["approve", &id, "--shown", shown])?.ok()?;
    lab.psql(&[DELETE])?.ok()?;
    ensure_orders(&lab, "id = 101", 0)
}

#[test]
fn an_answer_comes_too_late_for_who_has_waited_and_is_there_for_the_next_try() -> Result<()> {
    let lab = patient("300ms")?;
    let told = refused(lab.psql(&[DELETE])?)?;
    has(
        &told,
        &["waiting for approval", "waits for an approval of games"],
    )?;
    let one = waits(&lab, 0)?;
    let id = text(&one, "/id")?;
    approvals(&lab, GAMES, &["approve", id])?.ok()?;
    ensure_orders(&lab, "id = 101", 1)?;
    lab.psql(&[DELETE])?.ok().map(drop)
}

#[test]
fn a_client_that_has_set_a_timeout_waits_no_longer_and_comes_back() -> Result<()> {
    let lab = patient("900s")?;
    let told = refused(lab.psql(&["set statement_timeout = '300ms'", DELETE])?)?;
    has(
        &told,
        &["waiting for approval", "waits for an approval of games"],
    )?;
    let one = waits(&lab, 0)?;
    approvals(&lab, GAMES, &["approve", text(&one, "/id")?])?.ok()?;
    lab.psql(&["set statement_timeout = '300ms'", DELETE])?
        .ok()?;
    ensure_orders(&lab, "id = 101", 0)
}

#[test]
fn an_answer_outlives_the_daemon_and_so_does_its_use() -> Result<()> {
    let mut lab = patient("0s")?;
    refused(lab.psql(&[DELETE])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    lab.daemon.kill();
    lab.daemon.resume()?;
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    lab.daemon.kill();
    lab.daemon.resume()?;
    lab.psql(&[DELETE])?.ok()?;
    lab.daemon.kill();
    lab.daemon.resume()?;
    has(&refused(lab.psql(&[DELETE])?)?, &["waits for an approval"]).map(drop)
}

#[test]
fn what_is_asked_twice_at_once_is_one_question_and_a_yes_covers_both() -> Result<()> {
    let lab = lab()?;
    let mut two = [held(&lab, DELETE)?, held(&lab, DELETE)?];
    let one = waits(&lab, 2)?;
    let id = text(&one, "/id")?;
    approvals(&lab, GAMES, &["approve", id, "--times", "2"])?.ok()?;
    for psql in &mut two {
        psql.await_text("over 00000", DEADLINE)?;
    }
    ensure!(ended(&lab, id)?["why"] == "used", "another end");
    Ok(())
}

#[test]
fn where_two_must_say_yes_one_is_not_enough_and_nobody_counts_twice() -> Result<()> {
    let lab = lab()?;
    let psql = held(&lab, "update orders set item = 'x' where id = 101")?;
    let one = waits(&lab, 1)?;
    let id = text(&one, "/id")?;
    approvals(&lab, GAMES, &["approve", id])?.ok()?;
    has(
        &refused(approvals(&lab, GAMES, &["approve", id])?)?,
        &["answered already"],
    )?;
    let shown = approvals(&lab, MAN, &["show", id])?.ok()?;
    has(&shown, &["2 of games or man", "approved by games so far"])?;
    ensure_orders(&lab, "item = 'x'", 0)?;
    approvals(&lab, MAN, &["approve", id])?.ok()?;
    psql.await_text("over 00000", DEADLINE)?;
    ensure_orders(&lab, "item = 'x'", 1)?;
    Ok(())
}

#[test]
fn a_yes_does_not_stand_once_who_said_it_may_not_any_more() -> Result<()> {
    let mut lab = patient("0s")?;
    refused(lab.psql(&[DELETE])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    lab.daemon.change(|settings| {
        let rules = RULES.replace("principal.groups.contains(\"games\") ||", "");
        settings.policies = vec![("rules.cedar".to_owned(), rules)];
    })?;
    lab.daemon.reload()?.ok()?;
    has(
        &refused(lab.psql(&[DELETE])?)?,
        &["games may not give it any more"],
    )?;
    ensure!(ended(&lab, &id)?["why"] == "void", "another end");
    ensure_orders(&lab, "id = 101", 1)?;
    Ok(())
}

#[test]
fn who_becomes_root_is_still_who_logged_in() -> Result<()> {
    let lab = patient("0s")?;
    refused(lab.psql(&["update orders set item = 'x' where id = 101"])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    let socket = lab.daemon.run_directory().join("control.sock");
    let program = place::interceptor()?;
    // As `sudo` leaves it: the user is root, and whose session it is stays.
    let as_root = |session: u32| {
        let line = format!(
            "echo {session} > /proc/self/loginuid; exec {} approvals approve {id} --socket {}",
            program.display(),
            socket.display()
        );
        Agent::outside().as_uid(0).run("sh", &["-c", &line])
    };
    let told = refused(as_root(GAMES)?)?;
    has(&told, &["has answered already"])?;
    as_root(MAN)?.ok()?;
    Ok(())
}

#[test]
fn an_answer_for_a_shape_covers_other_literals_where_the_rule_lets_it() -> Result<()> {
    let lab = patient("0s")?;
    refused(lab.psql(&[DELETE])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    let long = approvals(&lab, GAMES, &["approve", &id, "--shape", "1h"])?;
    has(&refused(long)?, &["at most 600 s"])?;
    approvals(&lab, GAMES, &["approve", &id, "--shape", "5m"])?.ok()?;
    lab.psql(&[DELETE, "delete from orders where id = 102"])?
        .ok()?;
    let other = "delete from orders where id = 103 or item = 'x'";
    has(&refused(lab.psql(&[other])?)?, &["waits for an approval"]).map(drop)
}

#[test]
fn inside_of_a_transaction_nobody_waits_and_the_answer_is_for_the_next_try() -> Result<()> {
    let lab = lab()?;
    let told = refused(lab.psql(&["begin", DELETE])?)?;
    has(&told, &["waits for an approval"])?;
    lacks(&told, &["waiting for approval"])?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    lab.psql(&["begin", DELETE, "commit"])?.ok()?;
    ensure_orders(&lab, "id = 101", 0)?;
    Ok(())
}

#[test]
fn people_are_shown_bound_values_and_a_yes_is_for_them_alone() -> Result<()> {
    let lab = patient("0s")?;
    let program = |id: u32, prepare: &str| {
        format!(
            "
import os, psycopg
with psycopg.connect(os.environ['DSN'], autocommit=True) as connection:
    try:
        connection.execute('delete from orders where id = %s', ({id},), prepare={prepare})
        print('ran')
    except psycopg.Error as error:
        print('refused', error.sqlstate, error)
"
        )
    };
    let agent = lab.agent().with("DSN", &lab.dsn().conninfo());
    let run = |id, prepare| agent.python(&lab.dsn(), &program(id, prepare))?.ok();
    has(&run(101, "False")?, &["refused 42501"])?;
    let one = waits(&lab, 0)?;
    ensure!(
        text(&one, "/values/0")?.contains("(101)"),
        "the value is not shown: {one}"
    );
    let id = text(&one, "/id")?.to_owned();
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    has(&run(102, "False")?, &["refused 42501"])?;
    has(&run(101, "True")?, &["ran"])?;
    ensure_orders(&lab, "id = 101", 0)?;
    has(&run(101, "False")?, &["refused 42501"]).map(drop)
}

#[test]
fn what_was_set_before_makes_a_request_another_one() -> Result<()> {
    let lab = patient("0s")?;
    refused(lab.psql(&[DELETE])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    let told = refused(lab.psql(&["set application_name = 'x'", DELETE])?)?;
    has(&told, &["waits for an approval"])?;
    let german = lab.agent().with("PGOPTIONS", "-c datestyle=German");
    let told = refused(german.psql(&lab.dsn(), &[DELETE])?)?;
    has(&told, &["waits for an approval"])?;
    let all = listed(&lab)?;
    ensure!(all.len() == 3, "three questions: {all:?}");
    ensure!(
        all.iter()
            .any(|one| one["under"].to_string().contains("application_name")),
        "what was set is not shown: {all:?}"
    );
    lab.psql(&[DELETE])?.ok().map(drop)
}

#[test]
fn what_cannot_be_shown_is_not_asked() -> Result<()> {
    let lab = lab()?;
    let prepared = refused(lab.psql(&[
        "prepare p as delete from orders where id = 101",
        "execute p",
    ])?)?;
    has(&prepared, &["people cannot be asked"])?;
    let copy = refused(lab.psql(&["copy salaries from stdin"])?)?;
    has(&copy, &["people cannot be asked"])?;
    let long = format!("{DELETE} or item = '{}'", "x".repeat(70_000));
    has(
        &refused(lab.psql(&[&long])?)?,
        &["longer than what people are shown"],
    )?;
    ensure!(listed(&lab)?.is_empty(), "something was asked");
    ensure_orders(&lab, "id = 101", 1)?;
    Ok(())
}

#[test]
fn in_an_emergency_one_person_says_yes_with_a_reason() -> Result<()> {
    let lab = lab()?;
    let psql = held(&lab, DELETE)?;
    let id = text(&waits(&lab, 1)?, "/id")?.to_owned();
    let words = [
        "approve",
        &id,
        "--break-glass",
        "--reason",
        "the shop is down",
    ];
    has(&refused(approvals(&lab, GAMES, &words)?)?, &["BreakGlass"])?;
    has(
        &refused(approvals(&lab, 0, &words[..3])?)?,
        &["needs a reason"],
    )?;
    approvals(&lab, 0, &words)?.ok()?;
    psql.await_text("over 00000", DEADLINE)?;
    let said = lab
        .daemon
        .audit()
        .wait_for("approval.answered", DEADLINE, |_| true)?;
    ensure!(said["answer"]["break_glass"] == true, "not said so: {said}");
    Ok(())
}

#[test]
fn what_a_cursor_was_approved_for_is_fetched_without_asking_again() -> Result<()> {
    let lab = patient("0s")?;
    let declare = "declare c cursor for select amount from salaries";
    refused(lab.psql(&["begin", declare])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    let fetched = lab.psql(&["begin", declare, "fetch 1 from c", "fetch 1 from c"])?;
    has(&fetched.ok()?, &["4000", "3600"])?;
    ensure!(listed(&lab)?.is_empty(), "something is asked again");
    Ok(())
}

#[test]
fn a_grant_that_takes_an_approval_is_issued_once_it_is_given() -> Result<()> {
    let lab = lab()?;
    let insert = "insert into orders values (200, 1, 'x', 1)";
    has(&refused(lab.psql(&[insert])?)?, &["without a grant"])?;
    let socket = lab.daemon.run_directory().join("agent.sock");
    let words = format!(
        "request --socket {} --target shop --database shop --table public.orders --action Insert \
         --for 5m --uses 1 --reason test",
        socket.display()
    );
    let program = place::interceptor()?;
    let asks = |more: &'static str| {
        let words: Vec<_> = words
            .split(' ')
            .chain((!more.is_empty()).then_some(more))
            .collect();
        lab.agent().start(&program.to_string_lossy(), &words)
    };
    let told = refused(asks("")?.finish(DEADLINE)?)?;
    has(&told, &["grant waits for an approval of games"])?;
    has(&refused(lab.psql(&[insert])?)?, &["without a grant"])?;
    let mut waiting = asks("--wait")?;
    waiting.await_text("waiting for approval", DEADLINE)?;
    let first = listed(&lab)?;
    for one in &first {
        let id = text(one, "/id")?;
        let shown = approvals(&lab, GAMES, &["show", id])?.ok()?;
        has(&shown, &["Insert", "public", "orders", "test"])?;
        approvals(&lab, GAMES, &["approve", id])?.ok()?;
    }
    has(&waiting.finish(DEADLINE)?.ok()?, &["Insert", "0 of 1 uses"])?;
    lab.psql(&[insert])?.ok()?;
    has(&refused(lab.psql(&[insert])?)?, &["without a grant"]).map(drop)
}

#[test]
fn a_grant_that_was_denied_is_not_asked_for_again_with_another_reason() -> Result<()> {
    let lab = lab()?;
    let socket = lab.daemon.run_directory().join("agent.sock");
    let program = place::interceptor()?;
    let ask = |more: &str| {
        let words = format!(
            "request --socket {} --target shop --database shop --table public.orders \
             --action Insert {more}",
            socket.display()
        );
        let words: Vec<_> = words.split_whitespace().collect();
        refused(lab.agent().run(&program.to_string_lossy(), &words)?)
    };
    for _ in 0..2 {
        has(&ask("--for 5m --reason test")?, &["waits for an approval"])?;
    }
    let open = listed(&lab)?;
    let id = text(open.first().context("nothing is asked")?, "/id")?;
    approvals(&lab, GAMES, &["deny", id, "--reason", "no"])?.ok()?;
    for more in [
        "--for 5m --reason please",
        "--for 4m --uses 3 --reason test",
    ] {
        lacks(&ask(more)?, &["waits for an approval"])?;
    }
    let log = lab.daemon.audit();
    let asked = log.events("approval.asked")?.len();
    ensure!(asked == 1, "asked {asked} times");
    // Whoever waits asks again and again: that is written once, and each no.
    let told = |line: &Value| text(line, "/refusal/message").map(str::to_owned);
    let refused = log.events("grant.refused")?;
    let refused = refused.iter().map(told).collect::<Result<Vec<_>>>()?;
    let denied = refused
        .iter()
        .filter(|told| told.contains("denied"))
        .count();
    ensure!(
        (refused.len(), denied) == (3, 2),
        "other refusals: {refused:?}"
    );
    Ok(())
}

#[test]
fn a_yes_to_a_portal_covers_no_other_text_that_fetches_from_it() -> Result<()> {
    let lab = patient("0s")?;
    let program = "
import asyncio, os, asyncpg
async def main():
    connection = await asyncpg.connect(os.environ['URL'])
    async with connection.transaction():
        try:
            cursor = await connection.cursor('select amount from salaries')
            print('row', (await cursor.fetchrow())['amount'])
        except asyncpg.PostgresError as error:
            print('refused', error)
            return
        portal = cursor._portal_name
        try:
            await connection.execute(f'fetch 1 from \"{portal}\"; select employee from salaries')
            print('ran')
        except asyncpg.PostgresError as error:
            print('refused', error)
asyncio.run(main())
";
    let agent = lab.agent().with("URL", &lab.dsn().url());
    let run = || agent.python(&lab.dsn(), program)?.ok();
    has(&run()?, &["refused", "waits for an approval"])?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    let output = run()?;
    has(&output, &["row 4000", "refused", "people cannot be asked"])?;
    lacks(&output, &["ran"])
}

#[test]
fn a_stand_in_answers_by_the_right_of_who_named_him_and_for_as_long_as_that_stands() -> Result<()> {
    let lab = patient("0s")?;
    refused(lab.psql(&[DELETE])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    let to_mail = ["delegate", "--to", "user:mail", "--for", "8h", "--json"];
    refused(approvals(&lab, MAIL, &["approve", &id])?)?;
    // Nobody hands on what he has not: neither root's right, nor that of who runs agents, nor none.
    let root = lab.daemon.cli(&[&["approvals"], &to_mail[..]].concat())?;
    has(&refused(root)?, &["root's right is not delegated"])?;
    let mut open = lab.agent().open_psql(&lab.dsn())?;
    open.send("select 'there';\n")?;
    open.await_text("there", DEADLINE)?;
    let agent = approvals(&lab, lab.agent().uid(), &to_mail)?;
    has(&refused(agent)?, &["run as an agent"])?;
    approvals(&lab, 9, &to_mail)?.ok()?;
    refused(approvals(&lab, MAIL, &["approve", &id])?)?;

    let made: Value = serde_json::from_str(&approvals(&lab, GAMES, &to_mail)?.ok()?)?;
    let delegation = text(&made, "/id")?.to_owned();
    has(
        &approvals(&lab, MAIL, &["delegations"])?.ok()?,
        &["user mail for games"],
    )?;
    has(&approvals(&lab, MAIL, &["show", &id])?.ok()?, &[DELETE])?;
    approvals(&lab, MAIL, &["approve", &id])?.ok()?;
    has(
        &refused(approvals(&lab, GAMES, &["approve", &id])?)?,
        &["no question of that name is open"],
    )?;
    lab.psql(&[DELETE])?.ok()?;
    let log = lab.daemon.audit();
    log.wait_for("approval.delegated", DEADLINE, |line| {
        line["what"] == "delegated"
    })?;
    let said = log.wait_for("approval.answered", DEADLINE, |line| line["approval"] == id)?;
    ensure!(
        said["answer"]["by"]["uid"] == MAIL && said["answer"]["in_place"]["of"]["uid"] == GAMES,
        "another answer: {said}"
    );

    // Taken back, it takes a yes along that was not used.
    let other = "delete from orders where id = 102";
    refused(lab.psql(&[other])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    approvals(&lab, MAIL, &["approve", &id])?.ok()?;
    refused(approvals(&lab, MAIL, &["undelegate", &delegation])?)?;
    approvals(&lab, GAMES, &["undelegate", &delegation])?.ok()?;
    has(
        &refused(lab.psql(&[other])?)?,
        &["mail may not give it any more"],
    )?;
    ensure_orders(&lab, "id = 102", 1)?;
    refused(lab.psql(&[other])?)?;
    let id = text(&waits(&lab, 0)?, "/id")?.to_owned();
    refused(approvals(&lab, MAIL, &["approve", &id])?).map(drop)
}
