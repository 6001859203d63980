//! Targets that ask clients for their scope's throw-away password, for clients that insist on SCRAM.

use anyhow::{Context as _, Result, ensure};
use support::agent::Dsn;
use support::{DEADLINE, Finished, Process, place};

use crate::lab::{Lab, has, lacks, refused, text};

/// A lab whose target asks for SCRAM.
fn asking() -> Result<Lab> {
    Lab::with(|settings| {
        for target in &mut settings.targets {
            target.postgres.push("client_auth: scram".to_owned());
        }
    })
}

fn user(lab: &Lab) -> Result<String> {
    let user = nix::unistd::User::from_uid(lab.agent().uid().into())?;
    Ok(user.map_or_else(|| "nobody".to_owned(), |user| user.name))
}

/// A command under `interceptor run`, for an agent named `passing`.
fn run(lab: &Lab, words: &[&str]) -> Result<Finished> {
    let user = user(lab)?;
    let begin = ["run", "--agent", "passing", "--user", &user, "--"];
    lab.daemon.cli(&[&begin, words].concat())
}

fn psql(lab: &Lab, conninfo: &str) -> Result<Finished> {
    let psql = place::postgres_programs()?.join("psql");
    let sql = "select name from customers where id = 1";
    let psql = psql.to_string_lossy();
    run(
        lab,
        &[&psql, "-X", "-A", "-t", "-w", "-d", conninfo, "-c", sql],
    )
}

const PYTHON: &str = "
import os, psycopg
with psycopg.connect(os.environ['DSN']) as connection:
    print(connection.execute('select name from customers where id = 1').fetchone()[0])
    print('tls', connection.pgconn.ssl_in_use, 'password', connection.pgconn.used_password)
    print('protocol', getattr(connection.info, 'full_protocol_version', None))
";

fn python(lab: &Lab, conninfo: &str) -> Result<Finished> {
    let (dsn, python) = (format!("DSN={conninfo}"), place::python()?);
    let python = python.to_string_lossy();
    run(lab, &["/usr/bin/env", &dsn, &python, "-c", PYTHON])
}

fn by_name(lab: &Lab, mode: &str) -> Dsn {
    let authority = lab.daemon.authority();
    lab.dsn()
        .by_name("localhost")
        .with_tls(mode, Some(&authority))
}

#[test]
fn psql_that_requires_channel_binding_is_served() -> Result<()> {
    let lab = asking()?;
    for (mode, binding) in [
        ("disable", "disable"),
        ("disable", "prefer"),
        ("require", "disable"),
        ("require", "prefer"),
        ("require", "require"),
        ("verify-full", "require"),
    ] {
        let conninfo = format!(
            "{} channel_binding={binding}",
            by_name(&lab, mode).conninfo()
        );
        let output = psql(&lab, &conninfo)?.ok().with_context(|| conninfo)?;
        has(&output, &["Ada Lovelace"])?;
    }
    let conninfo = format!(
        "{} channel_binding=require",
        by_name(&lab, "disable").conninfo()
    );
    let error = refused(psql(&lab, &conninfo)?)?;
    has(&error, &["channel binding"])
}

#[test]
fn a_newer_libpq_that_requires_scram_is_served_in_every_protocol_version() -> Result<()> {
    let lab = asking()?;
    for (mode, more) in [
        ("disable", "require_auth=scram-sha-256"),
        (
            "verify-full",
            "require_auth=scram-sha-256 channel_binding=require",
        ),
        (
            "verify-full",
            "require_auth=scram-sha-256 channel_binding=require max_protocol_version=latest",
        ),
        (
            "disable",
            "require_auth=scram-sha-256 max_protocol_version=latest",
        ),
        // TLS from the first byte on has a certificate to be bound to as well.
        (
            "verify-full",
            "sslnegotiation=direct require_auth=scram-sha-256 channel_binding=require",
        ),
    ] {
        let conninfo = format!("{} {more}", by_name(&lab, mode).conninfo());
        let output = python(&lab, &conninfo)?.ok().with_context(|| conninfo)?;
        has(&output, &["Ada Lovelace", "password True"])?;
    }
    Ok(())
}

#[test]
fn a_client_that_requires_scram_takes_no_target_that_trusts() -> Result<()> {
    let lab = Lab::new()?;
    let conninfo = format!("{} require_auth=scram-sha-256", lab.dsn().conninfo());
    let error = refused(python(&lab, &conninfo)?)?;
    has(&error, &["authentication method requirement"])?;
    // Others are served with the password in their environment as without.
    has(&psql(&lab, &lab.dsn().conninfo())?.ok()?, &["Ada Lovelace"])
}

#[test]
fn who_does_not_know_its_own_scopes_password_reaches_nothing() -> Result<()> {
    let lab = asking()?;
    let environment = run(&lab, &["/usr/bin/env"])?.ok()?;
    let of_another = environment
        .lines()
        .find_map(|line| line.strip_prefix("PGPASSWORD="))
        .context("no password in the environment")?;
    ensure!(of_another.len() >= 43, "a short password");
    let again = run(&lab, &["/usr/bin/env"])?.ok()?;
    lacks(&again, &[of_another])?;
    let rows = [
        (None, "no password supplied"),
        (
            Some("wrong"),
            "password authentication failed for user \"anybody\"",
        ),
        (
            Some(of_another),
            "password authentication failed for user \"anybody\"",
        ),
        (
            Some(lab.server.password()),
            "password authentication failed for user \"anybody\"",
        ),
    ];
    for (password, words) in rows {
        for mode in ["disable", "require"] {
            let mut dsn = lab.dsn().with_tls(mode, None);
            dsn.password = password.map(str::to_owned);
            let error = refused(lab.agent().psql(&dsn, &["select 1"])?)?;
            has(&error, &[words])?;
        }
    }
    let log = lab.daemon.audit();
    ensure!(
        log.events("session.opened")?.is_empty(),
        "a session was opened"
    );
    let line = log.wait_for("connection.refused", DEADLINE, |_| true)?;
    ensure!(text(&line, "/refusal/kind")? == "identity", "{line}");
    let connected = lab.server.log();
    lacks(&connected, &["shop_app"])
}

#[test]
fn the_password_outlives_a_restart_and_is_written_nowhere() -> Result<()> {
    let mut lab = asking()?;
    let psql = place::postgres_programs()?.join("psql");
    let conninfo = by_name(&lab, "require").conninfo();
    let once = format!("'{}' -X -A -t -w -d '{conninfo}' -c", psql.display());
    let script = format!(
        "echo password $PGPASSWORD; {once} \"select 'fir' || 'st'\"; read go; {once} \"select 'sec' || 'ond'\""
    );
    let user = user(&lab)?;
    let program = place::interceptor()?;
    let mut command = std::process::Command::new(program);
    let socket = lab.daemon.run_directory().join("control.sock");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .args(["run", "--socket"])
        .arg(socket)
        .args([
            "--agent", "passing", "--user", &user, "--", "/bin/sh", "-c", &script,
        ]);
    let mut process = Process::start(command)?;
    process.await_text("first", DEADLINE)?;
    lab.daemon.kill();
    lab.daemon.resume()?;
    process.send("go\n")?;
    process.await_text("second", DEADLINE)?;
    let log = process.log();
    let password = log
        .lines()
        .find_map(|line| line.strip_prefix("password "))
        .context("no password was printed")?
        .to_owned();
    process.finish(DEADLINE)?.ok()?;
    let mut grep = std::process::Command::new("grep");
    grep.args(["-r", "-c", "-F", "--", &password])
        .arg(lab.daemon.state());
    let found = Process::run(grep, DEADLINE)?;
    ensure!(
        found.stdout.lines().all(|line| line.ends_with(":0")),
        "the password was written: {}",
        found.stdout
    );
    lacks(&lab.daemon.log(), &[&password])
}
