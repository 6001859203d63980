//! Stock clients reach the shop by its ordinary host and port, with no password, in clear and over TLS.

use anyhow::{Context as _, Result};
use support::{Agent, Postgres, place};

use crate::lab::{Lab, has, lacks, refused};

/// Cancels its own statement from another thread; the session and its neighbour go on.
const CANCEL: &str = r#"
import os, psycopg2, threading
bystander = psycopg2.connect(os.environ["DSN"])
connection = psycopg2.connect(os.environ["DSN"])
cursor = connection.cursor()
cursor.execute("select pg_backend_pid()")
pid = cursor.fetchone()[0]
def cancel():
    running = bystander.cursor()
    while True:
        running.execute("select count(*) from pg_stat_activity where pid = %s and query like %s and state = 'active'", (pid, "select pg_sleep%"))
        if running.fetchone()[0]: break
        bystander.rollback()
    connection.cancel()
thread = threading.Thread(target=cancel)
thread.start()
try:
    cursor.execute("select pg_sleep(600)")
except psycopg2.errors.QueryCanceled as error:
    print(error)
thread.join()
connection.rollback()
cursor.execute("select 'alive'")
print(cursor.fetchone()[0])
beside = bystander.cursor()
beside.execute("select 'bystander'")
print(beside.fetchone()[0])
"#;

/// Runs `client` with each of libpq's modes against one lab.
fn in_every_mode(
    lab: &Lab,
    client: impl Fn(&Agent, &support::agent::Dsn) -> Result<String>,
) -> Result<()> {
    let authority = lab.daemon.authority();
    let rows = [
        ("127.0.0.1", "disable", None),
        ("127.0.0.1", "prefer", None),
        ("127.0.0.1", "require", None),
        ("127.0.0.1", "verify-full", Some(authority.as_path())),
        ("localhost", "verify-full", Some(authority.as_path())),
    ];
    for (host, mode, root) in rows {
        let dsn = lab.dsn().by_name(host).with_tls(mode, root);
        let output =
            client(&lab.agent(), &dsn).with_context(|| format!("sslmode {mode} to {host}"))?;
        has(&output, &["Ada Lovelace", "done"])
            .with_context(|| format!("sslmode {mode} to {host}"))?;
    }
    Ok(())
}

#[test]
fn an_upstream_with_verified_tls_serves_clients_in_every_sslmode() -> Result<()> {
    let lab = Lab::over(Postgres::start_with_tls()?, |_| {})?;
    in_every_mode(&lab, |agent, dsn| {
        let statements = ["select name from customers where id = 1", "select 'done'"];
        agent.psql(dsn, &statements)?.ok()
    })?;
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let output = lab.server.admin(&format!(
        "create view wire as {encrypted}; grant select on wire to public"
    ))?;
    lacks(&output, &["ERROR"])?;
    has(&lab.psql(&["select * from wire"])?.ok()?, &["t"])
}

#[test]
fn verify_full_refuses_an_authority_that_is_not_the_daemons() -> Result<()> {
    let server = Postgres::start_with_tls()?;
    let other = place::temporary("ca")?;
    let stranger = support::tls::Authority::make(other.path())?;
    let lab = Lab::over(server, |_| {})?;
    let dsn = lab.dsn().with_tls("verify-full", Some(&stranger.ca));
    let error = refused(lab.agent().psql(&dsn, &["select 1"])?)?;
    has(&error, &["certificate verify failed"])
}

#[test]
fn the_user_and_password_that_the_client_presents_are_not_used() -> Result<()> {
    let lab = Lab::new()?;
    let mut dsn = lab.dsn().with_password("wrong");
    "postgres".clone_into(&mut dsn.user);
    let output = lab
        .agent()
        .psql(&dsn, &["select current_user, session_user"])?
        .ok()?;
    has(&output, &["shop_app|shop_app"])
}

#[test]
fn a_database_that_is_not_listed_is_refused_and_a_listed_one_is_taken() -> Result<()> {
    let lab = Lab::new()?;
    let error = refused(
        lab.agent()
            .psql(&lab.dsn().for_database("postgres"), &["select 1"])?,
    )?;
    has(&error, &["postgres"])?;
    has(&lab.psql(&["select current_database()"])?.ok()?, &["shop"])
}

#[test]
fn copy_in_and_out_pass_and_arrive_whole() -> Result<()> {
    let lab =
        Lab::with(|settings| settings.policies = place::pack("allow-all").unwrap_or_default())?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("create table copied (id int, what text);\ncopy copied from stdin;\n")?;
    for row in 0..10_000 {
        psql.send(&format!("{row}\trow number {row}\n"))?;
    }
    psql.send("\\.\nselect count(*), sum(id) from copied;\ncopy copied to stdout;\n")?;
    psql.close_input();
    let output = psql.finish(support::DEADLINE)?.ok()?;
    has(
        &output,
        &["COPY 10000", "10000|49995000", "9999\trow number 9999"],
    )
}

#[test]
fn cancel_ends_the_statement_and_nothing_else() -> Result<()> {
    let lab =
        Lab::with(|settings| settings.policies = place::pack("allow-all").unwrap_or_default())?;
    let output = lab.agent().python(&lab.dsn(), CANCEL)?.ok()?;
    has(
        &output,
        &[
            "canceling statement due to user request",
            "alive",
            "bystander",
        ],
    )
}
