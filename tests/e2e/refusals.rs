//! What an agent hears when it is told no, and what the server then hears: nothing.

use anyhow::{Context as _, Result, ensure};
use support::agent::Dsn;
use support::{Agent, Finished, place};

use crate::lab::{Lab, has, lacks, refused};

/// `psql` with every field of an error shown.
fn verbose(agent: &Agent, dsn: &Dsn, statements: &[&str]) -> Result<Finished> {
    let program = place::postgres_programs()?.join("psql");
    let conninfo = dsn.conninfo();
    let mut words = vec![
        "-X",
        "-A",
        "-t",
        "-w",
        "-v",
        "VERBOSITY=verbose",
        "-d",
        &conninfo,
    ];
    for statement in statements {
        words.extend(["-c", statement]);
    }
    agent.run(&program.to_string_lossy(), &words)
}

#[test]
fn a_delete_without_where_is_refused_with_rule_and_hint_and_the_session_goes_on() -> Result<()> {
    let lab = Lab::new()?;
    let statements = ["delete from customers", "select count(*) from customers"];
    let finished = verbose(&lab.agent(), &lab.dsn(), &statements)?;
    has(
        &finished.stderr,
        &[
            "ERROR:  42501",
            "DETAIL:",
            "require-where",
            "HINT:",
            "WHERE",
        ],
    )?;
    has(&finished.stdout, &["3"])?;
    ensure!(
        lab.server.admin("select count(*) from customers")?.trim() == "3",
        "rows are gone"
    );
    Ok(())
}

#[test]
fn every_refusal_names_the_request_that_the_audit_names() -> Result<()> {
    let lab = Lab::new()?;
    let error = refused(lab.psql(&["delete from customers"])?)?;
    let line = lab
        .daemon
        .audit()
        .wait_for("request.refused", support::DEADLINE, |_| true)?;
    let request = crate::lab::text(&line, "/request")?;
    has(&error, &[request])
}

#[test]
fn a_closed_table_is_refused_however_it_is_asked_for() -> Result<()> {
    let lab = Lab::new()?;
    let rows = [
        "select * from salaries",
        "table salaries",
        "select amount from public.salaries",
        "select (select max(amount) from salaries)",
        "with hidden as (select * from salaries) select 1 from hidden",
        "select 1 union all select amount from salaries",
        "insert into orders select 1, 1, employee, amount from salaries",
        "copy salaries to stdout",
        "copy (select * from salaries) to stdout",
        "explain select * from salaries",
        "select 1 from customers where exists (table salaries)",
        "declare c cursor for select * from salaries",
        "prepare p as select * from salaries",
        "begin; select * from salaries; commit",
    ];
    lab.server.admin("alter system set log_statement = 'all'")?;
    lab.server.admin("select pg_reload_conf()")?;
    support::wait::for_fact("a server that logs statements", support::DEADLINE, || {
        lab.psql(&["select 'this arrives'"])?.ok()?;
        Ok(lab.server.log().contains("this arrives").then_some(()))
    })?;
    for statement in rows {
        let finished = lab.psql(&[statement])?;
        lacks(&finished.stdout, &["4000", "Charles"])?;
        has(&finished.stderr, &["salaries-are-private"]).with_context(|| statement.to_owned())?;
    }
    lacks(&lab.server.log(), &["salaries"])
}

#[test]
fn one_denied_statement_refuses_the_whole_request() -> Result<()> {
    let lab = Lab::new()?;
    let request = "insert into orders values (900, 1, 'x', 1); delete from orders";
    refused(lab.psql(&[request])?)?;
    ensure!(
        lab.server.admin("select count(*) from orders")?.trim() == "4",
        "half of it ran"
    );
    Ok(())
}

#[test]
fn a_refusal_inside_a_transaction_aborts_the_transaction() -> Result<()> {
    let lab = Lab::new()?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("begin;\ninsert into orders values (900, 1, 'x', 1);\ndelete from orders;\n")?;
    psql.send("select 'after';\ncommit;\nselect 'alive';\n")?;
    psql.close_input();
    let finished = psql.finish(support::DEADLINE)?;
    has(&finished.stdout, &["ROLLBACK", "alive"])?;
    lacks(&finished.stdout, &["after"])?;
    has(&finished.stderr, &["current transaction is aborted"])?;
    ensure!(
        lab.server.admin("select count(*) from orders")?.trim() == "4",
        "half of it was committed"
    );
    Ok(())
}

#[test]
fn a_refusal_inside_a_pipeline_keeps_what_follows_from_running() -> Result<()> {
    let lab = Lab::new()?;
    let program = r#"
import os, psycopg
with psycopg.connect(os.environ["DSN"], autocommit=True) as connection:
    try:
        with connection.pipeline():
            connection.execute("insert into orders values (900, 1, 'x', 1)")
            connection.execute("delete from orders")
            connection.execute("insert into orders values (901, 1, 'x', 1)")
        print("not refused")
    except psycopg.Error as error:
        print("refused", error.sqlstate)
    print("alive", connection.execute("select 1").fetchone()[0])
"#;
    let output = lab.agent().python(&lab.dsn(), program)?.ok()?;
    has(&output, &["refused 42501", "alive 1"])?;
    ensure!(
        lab.server
            .admin("select count(*) from orders where id = 901")?
            .trim()
            == "0",
        "it ran"
    );
    Ok(())
}

#[test]
fn text_that_cannot_be_read_is_refused_by_the_packs() -> Result<()> {
    let lab = Lab::new()?;
    let long = format!("select 1 /* {} */", "x".repeat((1 << 20) + 1));
    let nested = format!("{}select 1{}", "select (".repeat(500), ")".repeat(500));
    let broken = "selct 1".to_owned();
    for statement in [&nested, &broken] {
        refused(lab.psql(&[statement])?)?;
    }
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send(&format!("{long};\nselect 'alive';\n"))?;
    psql.close_input();
    let finished = psql.finish(support::DEADLINE)?;
    has(&finished.stdout, &["alive"])?;
    has(&finished.stderr, &["ERROR"])
}

#[test]
fn functions_that_reach_past_the_database_are_refused() -> Result<()> {
    let lab = Lab::new()?;
    for statement in [
        "select pg_read_file('/etc/passwd')",
        "select lo_import('/etc/passwd')",
        "copy orders to program 'id'",
        "do $$ begin perform 1; end $$",
        "set role postgres",
        "alter system set fsync = off",
    ] {
        let error = refused(lab.psql(&[statement])?)?;
        has(&error, &["ERROR"])?;
    }
    Ok(())
}

#[test]
fn the_password_is_nowhere_in_the_agents_reach() -> Result<()> {
    let lab = Lab::new()?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select 'opened';\n")?;
    psql.await_text("opened", support::DEADLINE)?;
    let password = lab.server.password();
    let found = search::memory(psql.pid(), password.as_bytes())?;
    ensure!(
        found == 0,
        "the password is in the client's memory {found} times"
    );
    let conninfo = search::memory(psql.pid(), b"dbname=shop")?;
    ensure!(conninfo > 0, "the search does not find what is there");
    let environment = std::fs::read(format!("/proc/{}/environ", psql.pid()))?;
    lacks(&String::from_utf8_lossy(&environment), &[password])
}

/// Looks through a process's memory.
mod search {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt as _;

    use anyhow::{Context as _, Result};

    /// How often `wanted` is in the readable memory of `pid`.
    pub(super) fn memory(pid: u32, wanted: &[u8]) -> Result<usize> {
        let maps =
            fs::read_to_string(format!("/proc/{pid}/maps")).context("read a process's map")?;
        let memory = File::open(format!("/proc/{pid}/mem")).context("open a process's memory")?;
        let mut found = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (range, _) = line.split_once(' ').context("a map has ranges")?;
            let (begin, end) = range.split_once('-').context("a range has two ends")?;
            let begin = u64::from_str_radix(begin, 16)?;
            let length = usize::try_from(u64::from_str_radix(end, 16)? - begin)?;
            let mut bytes = vec![0; length];
            // Some ranges, such as guard pages, cannot be read.
            if memory.read_exact_at(&mut bytes, begin).is_ok() {
                found += bytes
                    .windows(wanted.len())
                    .filter(|window| *window == wanted)
                    .count();
            }
        }
        Ok(found)
    }
}

#[test]
fn what_a_client_sets_at_startup_is_judged_as_a_set_is() -> Result<()> {
    for pack in ["starter", "read-write"] {
        let pack = place::pack(pack)?;
        let lab = Lab::with(|settings| settings.policies = pack)?;
        lab.psql(&["select 1"])?.ok()?;
        let opened = lab.daemon.audit().events("session.opened")?.len();
        for set in [
            "-csearch_path=evil",
            "--search-path=evil",
            "-c search_path=evil",
            "-c role=shop_owner",
            "-c row_security=off",
            "-c session_authorization=shop_owner",
            "-c standard_conforming_strings=off",
            "-c session_preload_libraries=evil",
        ] {
            let agent = lab.agent().with("PGOPTIONS", set);
            let error = refused(agent.psql(&lab.dsn(), &["select 1"])?)?;
            has(&error, &["FATAL", "SET", "is not permitted"])?;
        }
        // Whatever policy says.
        let own = lab
            .agent()
            .with("PGOPTIONS", "-c Interceptor.session_key=known");
        has(
            &refused(own.psql(&lab.dsn(), &["select 1"])?)?,
            &["no client's to make"],
        )?;
        ensure!(
            lab.daemon.audit().events("session.opened")?.len() == opened,
            "a session was opened"
        );
    }
    Ok(())
}
