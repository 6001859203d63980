//! What people are shown that a request would touch: asked of the server beside the session, bounded, and
//! nothing to the agent.

use anyhow::{Result, ensure};
use serde_json::Value;
use support::agent::Dsn;
use support::{Agent, DEADLINE};

use super::{DELETE, GAMES, Lab, RULES, approvals, ended, ensure_orders, held, listed, patient};
use crate::lab::{has, lacks, refused, text};

/// The one question that is open, once it is known what it would touch.
fn known(lab: &Lab) -> Result<Value> {
    support::wait::for_fact("what a request would touch", DEADLINE, || {
        let mut all = listed(lab)?;
        all.retain(|one| text(one, "/state/is").is_ok_and(|is| is == "open"));
        ensure!(all.len() < 2, "more than one: {all:?}");
        let mut all = all.into_iter();
        Ok(all.find(|one| one.get("touches").is_some()))
    })
}

/// Asks, and gives what is said of it; nobody answers.
fn said(lab: &Lab, statements: &[&str]) -> Result<String> {
    refused(lab.psql(statements)?)?;
    let one = known(lab)?;
    let id = text(&one, "/id")?;
    let shown = approvals(lab, GAMES, &["show", id])?.ok()?;
    approvals(lab, GAMES, &["deny", id])?.ok()?;
    let line = shown.lines().find(|line| line.starts_with("touches"));
    Ok(line.unwrap_or_default().to_owned())
}

#[test]
fn people_see_how_many_rows_a_request_would_touch_and_the_agent_does_not() -> Result<()> {
    let lab = patient("5m")?;
    let mut psql = held(&lab, "delete from orders where id in (101, 102)")?;
    let one = known(&lab)?;
    let id = text(&one, "/id")?;
    ensure!(
        one["touches"]["rows"]["counted"] == 2,
        "another count: {one}"
    );
    let shown = approvals(&lab, GAMES, &["show", id])?.ok()?;
    has(&shown, &["touches    2 rows", "Delete on orders"])?;
    // Looked at, not done.
    ensure_orders(&lab, "id in (101, 102)", 2)?;

    let program = support::place::interceptor()?;
    let socket = lab.daemon.run_directory().join("agent.sock");
    let socket = socket.to_string_lossy();
    let words = ["approvals", "ls", "--own", "--json", "--socket", &socket];
    let own = lab.agent().run(&program.to_string_lossy(), &words)?.ok()?;
    lacks(&own, &["touches", "Delete on"])?;

    let log = lab.daemon.audit();
    log.wait_for("approval.examined", DEADLINE, |line| line["approval"] == id)?;
    approvals(&lab, GAMES, &["approve", id])?.ok()?;
    psql.await_text("over 00000", DEADLINE)?;
    let answered = log.wait_for("approval.answered", DEADLINE, |line| line["approval"] == id)?;
    ensure!(
        answered["touches"]["counted"] == 2,
        "what was shown is not kept: {answered}"
    );
    ensure!(ended(&lab, id)?["why"] == "used", "another end");
    ensure_orders(&lab, "id in (101, 102)", 0)?;
    psql.send("\\q\n")?;
    lacks(
        &psql.finish(DEADLINE)?.ok()?,
        &["2 rows", "Seq Scan", "touch"],
    )
}

#[test]
fn bound_values_count_as_they_are_bound() -> Result<()> {
    for binary in ["False", "True"] {
        let lab = patient("0s")?;
        let program = format!(
            "
import os, psycopg
with psycopg.connect(os.environ['DSN'], autocommit=True) as connection:
    try:
        cursor = connection.cursor(binary={binary})
        cursor.execute('delete from orders where id in (%s, %s) or item = %s', (101, None, '102'))
    except psycopg.Error as error:
        print('refused', error.sqlstate)
"
        );
        let agent = lab.agent().with("DSN", &lab.dsn().conninfo());
        has(
            &agent.python(&lab.dsn(), &program)?.ok()?,
            &["refused 42501"],
        )?;
        let one = known(&lab)?;
        ensure!(
            one["touches"]["rows"]["counted"] == 1,
            "another count: {one}"
        );
    }
    Ok(())
}

#[test]
fn a_slow_condition_and_a_lock_are_given_up_and_hold_nothing_up() -> Result<()> {
    let lab = patient("0s")?;
    let cross = "delete from orders where id = (select count(*) from orders a, orders b, orders c, \
        orders d, orders e, orders f, orders g, orders h, orders i, orders j, orders k, orders l, \
        orders m, orders n, orders o, orders p, orders q, orders r)";
    lab.server
        .admin("insert into orders select n, 1, 'x', 1 from generate_series(1000, 1500) as n")?;
    has(
        &said(&lab, &[cross])?,
        &["not counted: it took longer than 2 s"],
    )?;
    has(
        &said(&lab, &["delete from orders where id between 1000 and 1499"])?,
        &["500 rows"],
    )?;
    lab.server
        .admin("insert into orders select n, 1, 'x', 1 from generate_series(10000, 25000) as n")?;
    has(
        &said(&lab, &["delete from orders where id > 5000"])?,
        &["more than 10000 rows"],
    )?;
    let server = &lab.server;
    let mut direct = Dsn::of(server.address(), server.user(), server.database());
    direct.password = Some(server.password().to_owned());
    let mut other = Agent::outside().open_psql(&direct)?;
    other.send(
        "begin; lock table orders in access exclusive mode; select 'it is ' || 'locked';\n",
    )?;
    other.await_text("it is locked", DEADLINE)?;
    has(
        &said(&lab, &[DELETE])?,
        &["not counted: something holds a lock"],
    )
}

#[test]
fn what_others_would_not_see_or_what_runs_code_is_not_counted() -> Result<()> {
    let lab = Lab::with(|settings| {
        let more = r#"
@id("views") @approve("games")
permit (principal is Agent, action == Action::"Select", resource in Schema::"shop/shop/public");
@id("calls") permit (principal is Agent, action == Action::"Call", resource);
"#;
        settings.policies = vec![("rules.cedar".to_owned(), format!("{RULES}{more}"))];
        for target in &mut settings.targets {
            target.more.push("timeouts: { hold: 0s }".to_owned());
        }
    })?;
    lab.server.admin(
        "create function own(int) returns bool language plpgsql as \
         'begin perform pg_notify(''ran'', ''''); return true; end'; \
         create function same(int, text) returns bool language sql as 'select own($1)'; \
         create operator === (leftarg = int, rightarg = text, function = same); \
         create view seen as select id from orders where own(id); \
         create view through as select id from orders; \
         create table policed (id int); alter table policed enable row level security; \
         create policy p on policed using (own(id)); \
         grant all on policed, seen, through to public; grant execute on all functions in schema public to public",
    )?;
    let rows: [(&[&str], &str); 6] = [
        (&["delete from orders where own(id)"], "it calls own()"),
        (
            &["delete from orders where pg_sleep(600) is null"],
            "it calls pg_sleep()",
        ),
        (
            &["delete from orders where id === 'x'"],
            "may run code of others",
        ),
        (
            &["delete from orders where id in (select id from seen)"],
            "what seen means is not certain",
        ),
        (
            &["begin", "delete from orders where id = 102"],
            "inside of a transaction",
        ),
        (
            &[
                "set datestyle = 'German'",
                "delete from orders where id = 103",
            ],
            "the session has set something",
        ),
    ];
    for (statements, why) in rows {
        has(&said(&lab, statements)?, &["not counted: ", why])?;
    }
    has(
        &said(&lab, &["select * from through"])?,
        &["public.through is no plain table"],
    )?;
    has(
        &said(&lab, &["select * from policed"])?,
        &["row-level security"],
    )?;
    // What sets nothing that matters does not count.
    has(
        &said(
            &lab,
            &[
                "set application_name = 'x'",
                "delete from orders where id = 101",
            ],
        )?,
        &["1 row"],
    )
}
