//! Limits on answers, from a policy's annotation to what the agent reads, what the server does and what the
//! audit says.

use anyhow::{Context as _, Result, ensure};
use support::DEADLINE;

use crate::lab::{Lab, has, lacks, refused, text};

const FEW: &str = r#"
@id("few-orders")
@max_rows("10")
permit (principal is Agent, action == Action::"Select", resource == Table::"shop/shop/public.orders");

@id("few-bytes-of-customers")
@max_session_bytes("64KiB")
permit (principal is Agent, action == Action::"Select", resource == Table::"shop/shop/public.customers");
"#;

fn lab() -> Result<Lab> {
    Lab::with(|settings| {
        let few = ("few.cedar".to_owned(), FEW.to_owned());
        settings.policies.push(few);
    })
}

/// So many rows, of a table that is under a limit.
fn rows(count: u64) -> String {
    format!("select 'row ' || generate_series(1, {count}) from (select count(*) from orders) as z")
}

#[test]
fn ten_rows_are_answered_and_the_eleventh_is_not_and_the_session_goes_on() -> Result<()> {
    let lab = lab()?;
    let ten = lab.psql(&[&rows(10)])?.ok()?;
    has(&ten, &["row 1\n", "row 10"])?;
    let finished = lab.psql(&[&rows(11)])?;
    lacks(&finished.stdout, &["row 11"])?;
    let error = refused(finished)?;
    has(
        &error,
        &[
            "the answer had more than 10 rows, which is the most that is permitted here",
            "rule few-orders; request ",
            "add a WHERE or a LIMIT",
        ],
    )?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send(&format!("{};\nselect 'al' || 'ive';\n", rows(11)))?;
    psql.await_text("alive", DEADLINE)?;
    let line = lab
        .daemon
        .audit()
        .wait_for("request.finished", DEADLINE, |line| {
            line["status"] == "limited"
        })?;
    ensure!(line["rows"] == 10, "{line}");
    Ok(())
}

#[test]
fn what_would_go_on_is_cancelled_on_the_server_and_a_transaction_fails_with_it() -> Result<()> {
    let lab = lab()?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    let endless = rows(1_000_000_000_000);
    psql.send(&format!(
        "begin;\ninsert into customers values (999, 'Nobody', '', '');\n{endless};\ncommit;\nselect 'al' || 'ive';\n"
    ))?;
    psql.await_text("alive", DEADLINE)?;
    has(&psql.log(), &["more than 10 rows", "ROLLBACK"])?;
    let running =
        "select count(*) from pg_stat_activity where usename = 'shop_app' and state = 'active'";
    ensure!(lab.server.admin(running)?.trim() == "0", "it still runs");
    let added = "select count(*) from customers where name = 'Nobody'";
    ensure!(lab.server.admin(added)?.trim() == "0", "it was committed");
    let audit = lab.daemon.audit();
    let cancel = audit.wait_for("request.cancelled", DEADLINE, |_| true)?;
    ensure!(cancel.get("error").is_none(), "not passed on: {cancel}");
    let opened = audit.wait_for("session.opened", DEADLINE, |_| true)?;
    ensure!(text(&cancel, "/session")? == text(&opened, "/session")?);
    Ok(())
}

#[test]
fn the_bytes_of_a_session_are_counted_and_why_tells_the_limit() -> Result<()> {
    let lab = lab()?;
    let wide = "select repeat('x', 30000) from customers limit 1";
    let finished = lab.psql(&[wide, wide, wide])?;
    let error = refused(finished)?;
    has(
        &error,
        &[
            "this session had more than 65536 bytes",
            "rule few-bytes-of-customers",
        ],
    )?;
    let program = support::place::interceptor()?;
    let socket = lab.daemon.run_directory().join("agent.sock");
    let (program, socket) = (program.to_string_lossy(), socket.to_string_lossy());
    let words = [
        "why",
        "--own",
        "--socket",
        &socket,
        "--target",
        "shop",
        "--database",
        "shop",
        "table orders",
    ];
    // The program may lie where ordinary users cannot reach it.
    let why = lab.agent().as_uid(0).run(&program, &words)?;
    has(
        &why.ok()?,
        &["permitted\n", "limit: 10 rows a request, by few-orders"],
    )
}

/// Asks for eleven rows in each driver's way, and then for something else.
const DRIVERS: &str = r#"
import asyncio, os, psycopg2, psycopg, asyncpg
MANY = "select n from generate_series(1, 11) as n, (select count(*) from orders) as z"
def told(error):
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    assert code == "54000", (code, error)
with_2 = psycopg2.connect(os.environ["DSN"])
with with_2.cursor() as cursor:
    try:
        cursor.execute(MANY)
    except psycopg2.Error as error:
        told(error)
    else:
        raise SystemExit("psycopg2 was told nothing")
    with_2.rollback()
    cursor.execute("select 1")
    assert cursor.fetchone() == (1,)
for binary in (False, True):
    for autocommit in (False, True):
        with psycopg.connect(os.environ["DSN"], autocommit=autocommit) as with_3:
            try:
                with_3.execute(MANY + " where %s > 0", (1,), binary=binary)
            except psycopg.Error as error:
                told(error)
            else:
                raise SystemExit("psycopg was told nothing")
            with_3.rollback()
            assert with_3.execute("select 1").fetchone() == (1,)
            if not autocommit:
                with with_3.cursor("named") as named:
                    named.execute(MANY)
                    assert len(named.fetchmany(10)) == 10
                    try:
                        named.fetchmany(1)
                    except psycopg.Error as error:
                        told(error)
                    else:
                        raise SystemExit("a cursor gave more")
                with_3.rollback()
            with_3.rollback()
async def main():
    connection = await asyncpg.connect(os.environ["URL"])
    for _ in range(2):
        try:
            await connection.fetch(MANY)
        except asyncpg.PostgresError as error:
            told(error)
        else:
            raise SystemExit("asyncpg was told nothing")
        assert await connection.fetchval("select 1") == 1
    async with connection.transaction():
        cursor = await connection.cursor(MANY)
        assert len(await cursor.fetch(6)) == 6
        assert len(await cursor.fetch(4)) == 4
    await connection.close()
asyncio.run(main())
print("all told")
"#;

#[test]
fn drivers_are_told_in_their_own_way_and_go_on() -> Result<()> {
    let lab = lab()?;
    let finished = lab.agent().python(&lab.dsn(), DRIVERS)?;
    has(&finished.ok().context("the drivers")?, &["all told"])
}
