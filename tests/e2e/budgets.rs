//! Writes under a grant of so many rows: what touches more changes nothing, whichever client sends it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::agent::Dsn;
use support::{Agent, DEADLINE, place, wait};

use crate::lab::{Lab, has, lacks, refused, text};

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("reads") permit (principal is Agent, action in Action::"Read", resource in Target::"shop");
@id("writes") @grant("1h") @grant_scope permit (principal is Agent, action in Action::"Write", resource in Target::"shop");
"#;

const TABLES: &str = "
create table things (id int primary key, word text, of int);
create table log (word text);
create table owners (id int primary key);
alter table things add constraint owned foreign key (of) references owners deferrable initially deferred;
create function noted() returns trigger language plpgsql as
    $$ begin insert into log values (new.word); return new; end $$;
create trigger notes after insert or update on things for each row execute function noted();
insert into things select n, 'old', null from generate_series(1, 20) n;
truncate log;
grant all on things, log, owners to public;
";

fn lab() -> Result<Lab> {
    let lab = Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), RULES.to_owned())];
    })?;
    lab.server.admin(TABLES)?;
    Ok(lab)
}

/// A grant of so many rows to write.
fn granted(lab: &Lab, rows: u64) -> Result<String> {
    let socket = lab.daemon.run_directory().join("agent.sock");
    let rows = rows.to_string();
    let socket = socket.to_string_lossy();
    let mut words = vec!["request", "--socket", &socket, "--reason", "test", "--json"];
    words.extend([
        "--target",
        "shop",
        "--database",
        "shop",
        "--table",
        "public.things",
    ]);
    for action in ["Insert", "Update", "Delete", "Merge", "CopyIn"] {
        words.extend(["--action", action]);
    }
    words.extend(["--for", "10m", "--rows", &rows]);
    let program = place::interceptor()?;
    let said = lab.agent().run(&program.to_string_lossy(), &words)?.ok()?;
    let said: Value = serde_json::from_str(&said)?;
    Ok(text(&said, "/id")?.to_owned())
}

/// How much of the grants is used, as operators see it.
fn uses(lab: &Lab, shown: &str) -> Result<()> {
    has(&lab.daemon.cli(&["grants"])?.ok()?, &[shown])
}

/// What the server says to an administrator.
fn stands(lab: &Lab, query: &str, expected: &str) -> Result<()> {
    let found = lab.server.admin(query)?;
    ensure!(found.trim() == expected, "{query}: {found}");
    Ok(())
}

/// The audit has how many rows a refused write touched, and that they were taken from no grant.
fn twenty_rows_are_told_as_none(lab: &Lab) -> Result<()> {
    let limited = |line: &Value| line["status"] == "limited";
    let audit = lab.daemon.audit();
    let line = audit.wait_for("request.finished", DEADLINE, limited)?;
    ensure!(
        line.pointer("/rows") == Some(&20.into())
            && line.pointer("/spent/0/rows") == Some(&0.into()),
        "another line: {line}"
    );
    Ok(())
}

#[test]
fn psql_writes_as_many_rows_as_the_grant_has_and_not_one_more() -> Result<()> {
    let lab = lab()?;
    let id = granted(&lab, 10)?;
    let said = lab
        .psql(&["update things set word = 'new' where id <= 3"])?
        .ok()?;
    has(&said, &["UPDATE 3"])?;
    uses(&lab, "3 of 10 rows")?;
    let told = refused(lab.psql(&["update things set word = 'worse'"])?)?;
    has(
        &told,
        &[
            "touched 20 rows, and the grant has 7 left",
            &id,
            "nothing was changed",
        ],
    )?;
    uses(&lab, "3 of 10 rows")?;
    stands(
        &lab,
        "select count(*) from things where word = 'worse'",
        "0",
    )?;
    // The trigger's rows are counted nowhere, and went with what was rolled back.
    stands(&lab, "select count(*) from log", "3")?;
    twenty_rows_are_told_as_none(&lab)?;

    // The server's own error, when it is told to commit.
    let told = refused(lab.psql(&["insert into things values (100, 'x', 5)"])?)?;
    has(&told, &["violates foreign key constraint"])?;
    lacks(&told, &["grant"])?;
    uses(&lab, "3 of 10 rows")?;

    // A transaction of the agent's own can only be rolled back.
    let told = lab.psql(&[
        "begin",
        "delete from things where id = 1",
        "delete from things",
        "select 1",
        "commit",
    ])?;
    has(
        &told.stderr,
        &[
            "touched 19 rows, and the grant has 6 left",
            "can only be rolled back",
        ],
    )?;
    stands(&lab, "select count(*) from things", "20")?;
    uses(&lab, "4 of 10 rows")?;

    let merge =
        "merge into things t using (select 1 as id) s on t.id = s.id when matched then delete";
    has(&lab.psql(&[merge])?.ok()?, &["MERGE 1"])?;
    let returning = "delete from things where id in (2, 3) returning 'gone ' || id";
    has(&lab.psql(&[returning])?.ok()?, &["gone 2", "gone 3"])?;
    uses(&lab, "7 of 10 rows")?;
    for (statement, why) in [
        (
            "with d as (delete from things returning *) select count(*) from d",
            "in no answer",
        ),
        (
            "delete from things where id = 4; delete from things where id = 5",
            "in no answer",
        ),
        ("truncate things", "without a grant"),
    ] {
        has(&refused(lab.psql(&[statement])?)?, &[why]).with_context(|| statement.to_owned())?;
    }
    stands(&lab, "select count(*) from things", "17")
}

#[test]
fn psql_copies_as_many_lines_as_the_grant_has() -> Result<()> {
    let lab = lab()?;
    granted(&lab, 3)?;
    let copy = |lines: std::ops::Range<u32>| -> Result<String> {
        let mut psql = lab.agent().open_psql(&lab.dsn())?;
        psql.send("copy things (id) from stdin;\n")?;
        for line in lines {
            psql.send(&format!("{line}\n"))?;
        }
        psql.send("\\.\n\\q\n")?;
        let finished = psql.finish(DEADLINE)?;
        Ok(format!("{}{}", finished.stdout, finished.stderr))
    };
    has(
        &copy(1_000..1_004)?,
        &["touched 4 rows, and the grant has 3 left"],
    )?;
    stands(&lab, "select count(*) from things", "20")?;
    has(&copy(1_000..1_002)?, &["COPY 2"])?;
    stands(&lab, "select count(*) from things", "22")?;
    uses(&lab, "2 of 3 rows")
}

const PSYCOPG2: &str = "
import os, psycopg2
db = psycopg2.connect(os.environ['DSN'])
db.autocommit = True
cursor = db.cursor()
cursor.execute('update things set word = %s where id <= 3', ('two',))
assert cursor.rowcount == 3 and db.info.transaction_status == 0
try:
    cursor.execute('delete from things')
    raise SystemExit('it was let through')
except psycopg2.Error as error:
    assert error.pgcode == '54000', error
    assert 'nothing was changed' in str(error.diag.message_detail), error
assert db.info.transaction_status == 0
cursor.execute('select count(*) from things')
assert cursor.fetchone() == (20,)
db.autocommit = False
cursor.execute('delete from things where id = 20')
try:
    cursor.execute('delete from things')
    raise SystemExit('it was let through')
except psycopg2.Error as error:
    assert error.pgcode == '54000', error
assert db.info.transaction_status == 3
db.rollback()
cursor.execute('select count(*) from things')
assert cursor.fetchone() == (20,)
print('done')
";

const ASYNCPG: &str = "
import asyncio, asyncpg, os
async def main():
    db = await asyncpg.connect(os.environ['URL'])
    assert await db.execute('update things set word = $1 where id <= $2', 'two', 3) == 'UPDATE 3'
    # It asks for one row, and the server says that there are more.
    assert await db.fetchval('delete from things where id = $1 returning id', 4) == 4
    assert not db.is_in_transaction()
    try:
        await db.execute('delete from things where id > $1', 0)
        raise SystemExit('it was let through')
    except asyncpg.PostgresError as error:
        assert error.sqlstate == '54000' and 'nothing was changed' in error.detail, error
    try:
        await db.fetchval('delete from things where id > $1 returning id', 0)
        raise SystemExit('it was let through')
    except asyncpg.PostgresError as error:
        assert error.sqlstate == '54000', error
    assert not db.is_in_transaction()
    assert await db.fetchval('select count(*) from things') == 19
    # Several in one batch, of which the first would be committed with the last.
    try:
        await db.executemany('delete from things where id = $1', [(5,), (6,)])
        raise SystemExit('it was let through')
    except asyncpg.PostgresError as error:
        assert error.sqlstate == '42501', error
    try:
        await db.execute('insert into things values ($1, $2, $3)', 100, 'x', 5)
        raise SystemExit('it was let through')
    except asyncpg.ForeignKeyViolationError:
        pass
    records = [(1000 + n, 'copied', None) for n in range(4)]
    assert await db.copy_records_to_table('things', records=records) == 'COPY 4'
    async with db.transaction():
        await db.execute('delete from things where id = $1', 1000)
    assert await db.fetchval('select count(*) from things') == 22
    await db.close()
    print('done')
asyncio.run(main())
";

const PSYCOPG3: &str = "
import os, psycopg
db = psycopg.connect(os.environ['DSN'], autocommit=True)
for _ in range(7):
    # Prepared after a while.
    assert db.execute('update things set word = %s where id = %s', ('three', 1)).rowcount == 1
try:
    db.execute('delete from things')
    raise SystemExit('it was let through')
except psycopg.Error as error:
    assert error.sqlstate == '54000', error
assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
with db.pipeline():
    db.execute('delete from things where id = 20')
assert db.execute('select count(*) from things').fetchone() == (19,)
try:
    with db.pipeline():
        db.execute('delete from things where id = 19')
        db.execute('delete from things where id = 18')
    raise SystemExit('it was let through')
except psycopg.Error as error:
    assert error.sqlstate == '42501', error
assert db.execute('select count(*) from things').fetchone() == (19,)
with db.transaction():
    db.execute('delete from things where id = 17')
with db.cursor() as cursor, cursor.copy('copy things (id) from stdin') as copy:
    copy.write_row((500,))
assert db.execute('select count(*) from things').fetchone() == (19,)
print('done')
";

fn driver(program: &str, rows: u64, used: &str) -> Result<()> {
    let lab = lab()?;
    granted(&lab, rows)?;
    let said = lab.agent().python(&lab.dsn(), program)?.ok();
    let said =
        said.with_context(|| format!("{:?}", lab.daemon.audit().events("request.finished")))?;
    has(&said, &["done"])?;
    uses(&lab, used)
}

#[test]
fn psycopg2_sees_the_transaction_that_it_opened_and_no_other() -> Result<()> {
    driver(PSYCOPG2, 10, "4 of 10 rows")
}

#[test]
fn asyncpg_sees_the_transaction_that_it_opened_and_no_other() -> Result<()> {
    driver(ASYNCPG, 15, "10 of 15 rows")
}

#[test]
fn psycopg3_and_its_pipelines_see_the_transaction_that_they_opened_and_no_other() -> Result<()> {
    driver(PSYCOPG3, 15, "10 of 15 rows")
}

#[test]
fn a_daemon_that_is_killed_before_the_commit_leaves_nothing_changed() -> Result<()> {
    let mut lab = lab()?;
    granted(&lab, 10)?;
    let mut dsn = Dsn::of(
        lab.server.address(),
        lab.server.user(),
        lab.server.database(),
    );
    dsn.password = Some(lab.server.password().to_owned());
    let mut holder = Agent::outside().open_psql(&dsn)?;
    holder.send("begin; select 'held' from things where id = 1 for update;\n")?;
    holder.await_text("held", DEADLINE)?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("update things set word = 'late' where id = 1;\n")?;
    let at = "from pg_stat_activity where query like 'update things%'";
    wait::for_fact("the update waits", DEADLINE, || {
        let waits = format!("select count(*) {at} and wait_event_type = 'Lock'");
        Ok((lab.server.admin(&waits)?.trim() == "1").then_some(()))
    })?;
    lab.daemon.kill();
    psql.finish(DEADLINE)?;
    // The server does not see that nobody is there before the update is done.
    holder.send("commit;\n\\q\n")?;
    holder.finish(DEADLINE)?;
    wait::for_fact("the session has ended", DEADLINE, || {
        Ok((lab.server.admin(&format!("select count(*) {at}"))?.trim() == "0").then_some(()))
    })?;
    stands(&lab, "select word from things where id = 1", "old")?;
    lab.daemon.resume()?;
    // What was set aside is given back to nobody: it could have been committed.
    refused(lab.psql(&["delete from things where id = 2"])?).map(drop)
}
