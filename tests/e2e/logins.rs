//! Logins upstream: sessions that find one made already, and what must never be found.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use support::{DEADLINE, Finished, Postgres, place};

use crate::lab::{Lab, has, refused, text};

/// How many logins of a kind the daemon has counted.
fn logins(lab: &Lab, how: &str) -> Result<u64> {
    let metrics = lab.daemon.cli(&["metrics"])?.ok()?;
    let label = format!("how=\"{how}\"");
    let line = metrics
        .lines()
        .find(|line| line.starts_with("interceptor_logins_total{") && line.contains(&label));
    let count = line.and_then(|line| line.rsplit(' ').next());
    count.map_or(Ok(0), |count| count.parse().context("read a count"))
}

fn until(lab: &Lab, how: &str, least: u64) -> Result<()> {
    support::wait::for_fact(&format!("{least} logins {how}"), DEADLINE, || {
        Ok((logins(lab, how)? >= least).then_some(()))
    })
}

/// Connections of the daemon's role that the server has now, and that run nothing.
fn at_the_server(lab: &Lab) -> Result<u64> {
    let sql = "select count(*) from pg_stat_activity where usename = 'shop_app'";
    Ok(lab.server.admin(sql)?.trim().parse()?)
}

fn pid(lab: &Lab) -> Result<String> {
    let output = lab.psql(&["select pg_backend_pid()"])?.ok()?;
    Ok(output.trim().to_owned())
}

/// A lab whose policy permits everything.
fn open(change: impl FnOnce(&mut support::daemon::Settings)) -> Result<Lab> {
    Lab::with(|settings| {
        settings.policies = place::pack("allow-all").unwrap_or_default();
        change(settings);
    })
}

#[test]
fn a_session_finds_a_login_that_waits_and_cannot_tell() -> Result<()> {
    let lab = open(|_| {})?;
    let first = pid(&lab)?;
    until(&lab, "ahead", 1)?;
    let waiting = "select pid from pg_stat_activity where usename = 'shop_app'";
    let waiting = lab.server.admin(waiting)?.trim().to_owned();
    ensure!(waiting != first, "the first session's connection is kept");
    let second = pid(&lab)?;
    ensure!(
        second == waiting,
        "{second} was logged in anew, {waiting} waits"
    );
    ensure!(logins(&lab, "warm")? == 1, "not counted as found");

    // What a session sees of its own connection, and what is written of it.
    until(&lab, "ahead", 2)?;
    let state = "select current_user, session_user, current_setting('search_path'), \
        current_setting('application_name'), current_setting('transaction_isolation'), \
        pg_my_temp_schema(), (select count(*) from pg_prepared_statements)";
    let found = lab.psql(&[state])?.ok()?;
    ensure!(logins(&lab, "warm")? == 2, "logged in anew");
    has(
        &found,
        &["shop_app|shop_app|public|psql|read committed|0|0"],
    )?;
    let opened = lab.daemon.audit().events("session.opened")?;
    ensure!(opened.len() == 3, "{} sessions", opened.len());
    let fields = |line: &serde_json::Value| -> Vec<String> {
        let line = line.as_object().cloned().unwrap_or_default();
        line.keys().cloned().collect()
    };
    ensure!(fields(&opened[0]) == fields(&opened[2]), "another line");
    for field in ["upstream", "user", "asked_user", "target", "database"] {
        ensure!(opened[0][field] == opened[2][field], "another {field}");
    }
    Ok(())
}

#[test]
fn a_cancel_reaches_a_session_that_found_its_login() -> Result<()> {
    let lab = open(|_| {})?;
    pid(&lab)?;
    until(&lab, "ahead", 1)?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select pg_backend_pid();\nselect pg_sleep(600);\n")?;
    let running = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'";
    support::wait::for_fact("the sleep", DEADLINE, || {
        Ok((lab.server.admin(running)?.trim() == "1").then_some(()))
    })?;
    ensure!(logins(&lab, "warm")? == 1, "logged in anew");
    psql.signal(nix::sys::signal::Signal::SIGINT);
    psql.await_text("canceling statement due to user request", DEADLINE)
}

#[test]
fn what_was_asked_for_with_other_parameters_is_not_found() -> Result<()> {
    let lab = open(|_| {})?;
    pid(&lab)?;
    until(&lab, "ahead", 1)?;
    for (name, value) in [
        ("PGAPPNAME", "other"),
        ("PGTZ", "Asia/Tokyo"),
        ("PGOPTIONS", "-c geqo=off"),
    ] {
        let agent = lab.agent().with(name, value);
        agent.psql(&lab.dsn(), &["select 1"])?.ok()?;
        ensure!(logins(&lab, "warm")? == 0, "{name}={value} found one");
    }
    Ok(())
}

#[test]
fn who_is_refused_finds_nothing_and_changes_nothing() -> Result<()> {
    let mut lab = open(|_| {})?;
    pid(&lab)?;
    until(&lab, "ahead", 1)?;
    let closed = "@id(\"closed\") forbid (principal, action == Action::\"Open\", resource);";
    let closed = ("closed.cedar".to_owned(), closed.to_owned());
    lab.daemon
        .change(|settings| settings.policies.push(closed))?;
    lab.daemon.reload()?.ok()?;
    // What waited stood on the configuration before.
    support::wait::for_fact("the end of what waited", DEADLINE, || {
        Ok((at_the_server(&lab)? == 0).then_some(()))
    })?;
    has(&refused(lab.psql(&["select 1"])?)?, &["closed"])?;
    ensure!(
        (logins(&lab, "warm")?, at_the_server(&lab)?) == (0, 0),
        "a login for nobody"
    );
    Ok(())
}

#[test]
fn a_rotated_password_is_used_at_once_whatever_waits() -> Result<()> {
    let lab = open(|_| {})?;
    pid(&lab)?;
    until(&lab, "ahead", 1)?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select 'opened';\n")?;
    psql.await_text("opened", DEADLINE)?;
    until(&lab, "ahead", 2)?;
    lab.server.admin("alter role shop_app password 'rotated'")?;
    std::fs::write(lab.daemon.secret("shop"), "rotated")?;
    let warm = logins(&lab, "warm")?;
    pid(&lab)?;
    ensure!(
        logins(&lab, "warm")? == warm,
        "one of the old password was found"
    );
    psql.send("select 'still ' || 'open';\n")?;
    psql.await_text("still open", DEADLINE)?;
    until(&lab, "ahead", 3)?;
    pid(&lab)?;
    ensure!(
        logins(&lab, "warm")? == warm + 1,
        "none of the new password was found"
    );
    Ok(())
}

#[test]
fn a_login_that_the_server_closed_is_not_found() -> Result<()> {
    let lab = open(|_| {})?;
    pid(&lab)?;
    until(&lab, "ahead", 1)?;
    lab.server.admin(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'shop_app'",
    )?;
    pid(&lab)?;
    ensure!(logins(&lab, "fresh")? == 2, "a closed one was found");
    Ok(())
}

#[test]
fn a_target_can_be_told_to_keep_none() -> Result<()> {
    let lab = open(|settings| {
        for target in &mut settings.targets {
            target.postgres.push("warm: { connections: 0 }".to_owned());
        }
    })?;
    for _ in 0..2 {
        pid(&lab)?;
    }
    let seen = (
        logins(&lab, "fresh")?,
        logins(&lab, "warm")?,
        logins(&lab, "ahead")?,
    );
    ensure!(seen == (2, 0, 0), "{seen:?}");
    Ok(())
}

#[test]
fn a_server_without_room_gets_what_waits_back_before_a_session_is_refused() -> Result<()> {
    let lab = open(|_| {})?;
    let limit = |most: u32| {
        lab.server
            .admin(&format!("alter role shop_app connection limit {most}"))
    };
    limit(2)?;
    pid(&lab)?;
    until(&lab, "ahead", 1)?;
    let mut psql = lab
        .agent()
        .with("PGAPPNAME", "other")
        .open_psql(&lab.dsn())?;
    psql.send("select 'opened';\n")?;
    psql.await_text("opened", DEADLINE)?;
    // One is in use, one waits for others: the limit is reached.
    let third = lab.agent().with("PGAPPNAME", "third");
    let output: Finished = third.psql(&lab.dsn(), &["select 'served'"])?;
    has(&output.ok()?, &["served"])?;
    let opened = lab.daemon.audit().events("session.opened")?;
    ensure!(opened.len() == 3, "{} sessions", opened.len());
    ensure!(text(&opened[2], "/user")? == "shop_app", "another user");
    Ok(())
}

#[test]
fn what_waits_in_a_database_does_not_keep_it_from_being_dropped() -> Result<()> {
    let lab = open(|settings| {
        for target in &mut settings.targets {
            target.databases.push("scratch".to_owned());
            target.postgres.push("warm: { age: 10m }".to_owned());
        }
    })?;
    lab.server.admin("create database scratch owner shop_app")?;
    let mut scratch = lab.dsn();
    scratch.database = "scratch".to_owned();
    lab.agent().psql(&scratch, &["select 1"])?.ok()?;
    let waiting = "select 'waits' from pg_stat_activity where datname = 'scratch'";
    support::wait::for_fact("a login that waits in it", DEADLINE, || {
        Ok(lab.server.admin(waiting)?.contains("waits").then_some(()))
    })?;
    lab.psql(&["drop database scratch"])?.ok()?;
    ensure!(lab.server.admin(waiting)?.is_empty(), "not dropped");
    Ok(())
}

#[test]
fn a_daemon_that_drains_gives_up_what_waits_before_its_sessions_end() -> Result<()> {
    let lab = open(|settings| {
        for target in &mut settings.targets {
            target.postgres.push("warm: { age: 10m }".to_owned());
        }
    })?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select 'opened';\n")?;
    psql.await_text("opened", DEADLINE)?;
    until(&lab, "ahead", 1)?;
    ensure!(at_the_server(&lab)? == 2, "nothing waits");
    let daemon = lab.daemon.process().context("the daemon runs")?;
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    support::wait::for_fact("the end of what waited", DEADLINE, || {
        Ok((at_the_server(&lab)? == 1).then_some(()))
    })?;
    psql.send("select 'still ' || 'open';\n")?;
    psql.await_text("still open", DEADLINE)
}

#[test]
fn a_client_certificate_is_rotated_without_dropping_a_session() -> Result<()> {
    let server = Postgres::start_with_tls()?;
    server.demand("hostssl all all all cert")?;
    let authority = server.authority().context("it offers TLS")?.clone();
    let secrets = place::temporary("client")?;
    let file = secrets.path().join("client.pem");
    let show = |pem: &str| -> Result<()> {
        std::fs::write(&file, pem)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    };
    show(&authority.client(server.user(), 101)?)?;
    let tls = format!(
        "{{ mode: verify-full, ca: {}, key: {{ file: {} }} }}",
        authority.ca.display(),
        file.display()
    );
    let lab = Lab::over(server, |settings| {
        settings.policies = place::pack("allow-all").unwrap_or_default();
        for target in &mut settings.targets {
            target.tls = Some(tls.clone());
        }
    })?;
    let sql = "select client_serial from pg_stat_ssl where pid = pg_backend_pid()";
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send(&format!("{sql};\n"))?;
    psql.await_text("101", DEADLINE)?;
    until(&lab, "ahead", 1)?;

    // While it is being rotated, key and certificate do not belong together.
    let next = authority.client(lab.server.user(), 102)?;
    let old = std::fs::read_to_string(&file)?;
    let certificate = old.split_inclusive("-----END CERTIFICATE-----\n").next();
    let key = next.split("-----END CERTIFICATE-----\n").nth(1);
    show(&[certificate.unwrap_or_default(), key.unwrap_or_default()].concat())?;
    has(&lab.psql(&[sql])?.ok()?, &["101"])?;
    show(&next)?;
    has(&lab.psql(&[sql])?.ok()?, &["102"])?;
    psql.send("select 'still ' || 'open';\n")?;
    psql.await_text("still open", DEADLINE)?;

    show("no PEM at all")?;
    has(&lab.psql(&[sql])?.ok()?, &["102"])
}

/// Needs a libpq of PostgreSQL 17 or later, as psycopg brings it.
const DIRECT: &str = "
import os, psycopg
assert psycopg.pq.version() >= 170000, psycopg.pq.version()
dsn = os.environ['DSN'] + ' sslnegotiation=direct'
for more in ('', ' max_protocol_version=latest'):
    with psycopg.connect(dsn + more) as connection:
        assert connection.pgconn.ssl_in_use
        print(connection.execute('select name from customers where id = 1').fetchone()[0])
";

#[test]
fn a_newer_libpq_begins_with_tls_directly() -> Result<()> {
    let lab = Lab::new()?;
    let authority = lab.daemon.authority();
    for (host, mode, root) in [
        ("127.0.0.1", "require", None),
        ("localhost", "verify-full", Some(authority.as_path())),
        ("127.0.0.1", "verify-full", Some(authority.as_path())),
    ] {
        let dsn = lab.dsn().by_name(host).with_tls(mode, root);
        let output = lab.agent().python(&dsn, DIRECT)?.ok()?;
        has(&output, &["Ada Lovelace\nAda Lovelace"])?;
    }
    Ok(())
}
