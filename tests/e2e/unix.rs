//! PostgreSQL on its UNIX socket is a target like any other: judged, logged in to, recorded, cancelled.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use support::agent::Dsn;
use support::daemon::Target;
use support::{Agent, DEADLINE, Postgres, place};

use crate::lab::{Lab, has, lacks, refused, text};

/// The socket's directory, which clients name as their host.
fn directory(server: &Postgres) -> Result<String> {
    let socket = server.socket();
    let directory = socket.parent().context("a socket lies in a directory")?;
    Ok(directory.to_string_lossy().into_owned())
}

fn address(server: &Postgres) -> String {
    format!("unix:{}", server.socket().display())
}

/// A shop that agents dial by its socket.
fn target(server: &Postgres) -> Target {
    let mut target = Target::shop(server);
    target.addresses = vec![address(server)];
    target
}

fn dsn(server: &Postgres) -> Result<Dsn> {
    Ok(Dsn::of(server.address(), "anybody", server.database()).by_name(&directory(server)?))
}

fn lab(server: Postgres, change: impl FnOnce(&mut Target)) -> Result<Lab> {
    let mut target = target(&server);
    change(&mut target);
    Lab::over(server, |settings| settings.targets = vec![target])
}

#[test]
fn a_server_on_its_unix_socket_is_a_target_like_any_other() -> Result<()> {
    let lab = lab(Postgres::start()?, |_| {})?;
    let dsn = dsn(&lab.server)?;
    let agent = lab.agent();
    let said = agent
        .psql(&dsn, &["select name from customers where id = 1"])?
        .ok()?;
    has(&said, &["Ada"])?;
    let error = refused(agent.psql(&dsn, &["delete from customers"])?)?;
    has(&error, &["ERROR", "not permitted"])?;
    let error = refused(agent.psql(&dsn, &["select * from salaries"])?)?;
    has(&error, &["ask the people team"])?;
    let log = lab.daemon.audit();
    let at = address(&lab.server);
    let opened = log.wait_for("session.opened", DEADLINE, |_| true)?;
    ensure!(text(&opened, "/upstream")? == at, "upstream: {opened}");
    ensure!(
        text(&opened, "/user")? == lab.server.user(),
        "user: {opened}"
    );
    ensure!(
        text(&opened, "/principal/agent")? == "demo",
        "agent: {opened}"
    );
    has(
        text(&opened, "/principal/process/executable/path")?,
        &["psql"],
    )?;
    let connected = log.wait_for("connection.opened", DEADLINE, |_| true)?;
    ensure!(
        text(&connected, "/destination")? == at,
        "destination: {connected}"
    );
    let session = text(&opened, "/session")?;
    log.wait_for("session.closed", DEADLINE, |line| {
        line["session"] == session
    })?;
    let shown = lab.daemon.cli(&["sessions", "show", session])?.ok()?;
    has(&shown, &["customers"])?;
    lab.daemon.cli(&["audit", "verify"])?.ok().map(drop)
}

#[test]
fn a_client_that_insists_on_a_login_gets_one_over_the_socket() -> Result<()> {
    let lab = lab(Postgres::start()?, |target| {
        target.postgres.push("client_auth: scram".to_owned());
    })?;
    let dsn = dsn(&lab.server)?;
    let error = refused(lab.agent().psql(&dsn, &["select 1"])?)?;
    has(&error, &["password"])?;
    lacks(
        &format!("{:?}", lab.daemon.audit().lines()?),
        &["session.opened"],
    )
}

#[test]
fn the_daemon_dials_by_tcp_where_the_target_says_so() -> Result<()> {
    let server = Postgres::start_with_tls()?;
    let at = server.address();
    let lab = lab(server, |target| {
        target
            .more
            .push(format!("dial: {{ hosts: [\"localhost:{}\"] }}", at.port()));
    })?;
    let dsn = dsn(&lab.server)?;
    has(&lab.agent().psql(&dsn, &["select 40 + 2"])?.ok()?, &["42"])?;
    let opened = lab
        .daemon
        .audit()
        .wait_for("session.opened", DEADLINE, |_| true)?;
    has(text(&opened, "/upstream")?, &[&format!(":{}", at.port())])
}

#[test]
fn the_daemon_dials_the_socket_for_who_dials_an_address() -> Result<()> {
    let server = Postgres::start()?;
    let dial = format!("dial: {{ hosts: [{:?}] }}", address(&server));
    let lab = Lab::over(server, |settings| settings.targets[0].more.push(dial))?;
    has(&lab.psql(&["select 40 + 2"])?.ok()?, &["42"])?;
    let opened = lab
        .daemon
        .audit()
        .wait_for("session.opened", DEADLINE, |_| true)?;
    ensure!(
        text(&opened, "/upstream")? == address(&lab.server),
        "{opened}"
    );
    Ok(())
}

#[test]
fn a_statement_is_cancelled_over_the_socket() -> Result<()> {
    let server = Postgres::start()?;
    let target = target(&server);
    let lab = Lab::over(server, |settings| {
        settings.targets = vec![target];
        settings.policies = place::pack("allow-all").unwrap_or_default();
    })?;
    let mut client = lab.agent().open_psql(&dsn(&lab.server)?)?;
    client.send("select pg_sleep(600);\n")?;
    let sleeps = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";
    support::wait::for_fact("the statement to run", DEADLINE, || {
        Ok((lab.server.admin(sleeps)?.trim() != "0").then_some(()))
    })?;
    client.signal(nix::sys::signal::Signal::SIGINT);
    client.await_text("canceling statement due to user request", DEADLINE)?;
    client.close_input();
    client.finish(DEADLINE).map(drop)
}

#[test]
fn a_dead_daemon_leaves_the_socket_shut() -> Result<()> {
    let mut lab = lab(Postgres::start()?, |_| {})?;
    let dsn = dsn(&lab.server)?;
    has(&lab.agent().psql(&dsn, &["select 40 + 2"])?.ok()?, &["42"])?;
    lab.daemon.kill();
    let sessions = "select count(*) from pg_stat_activity where usename = 'shop_app'";
    support::wait::for_fact("the daemon's sessions to end", DEADLINE, || {
        Ok((lab.server.admin(sessions)?.trim() == "0").then_some(()))
    })?;
    let error = refused(lab.agent().psql(&dsn, &["select 1"])?)?;
    has(&error, &["Connection refused"])?;
    lab.daemon.resume()?;
    has(&lab.agent().psql(&dsn, &["select 40 + 2"])?.ok()?, &["42"]).map(drop)
}

/// Listens where the server is expected, and says how many bytes it was sent.
const SQUAT: &str = r#"
import os, socket, sys
os.umask(0)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("up", flush=True)
client, _ = listener.accept()
print("heard", len(client.recv(4096)), flush=True)
"#;

#[test]
fn whoever_listens_in_a_directory_of_everybodys_is_told_nothing() -> Result<()> {
    let place = tempfile::tempdir_in("/tmp")?;
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o1777))?;
    let path = place.path().join(".s.PGSQL.5432");
    let words = ["-c", SQUAT, &path.to_string_lossy()];
    let mut squatter = Agent::outside().start("/usr/bin/python3", &words)?;
    squatter.await_text("up", DEADLINE)?;
    let lab = lab(Postgres::start()?, |target| {
        target.addresses = vec![format!("unix:{}", path.display())];
    })?;
    let host = place.path().to_string_lossy().into_owned();
    let mut dsn = Dsn::of(lab.server.address(), "anybody", "shop").by_name(&host);
    dsn.port = 5432;
    let error = refused(lab.agent().psql(&dsn, &["select 1"])?)?;
    has(&error, &["FATAL"])?;
    squatter.await_text("heard 0", DEADLINE)?;
    squatter.finish(DEADLINE)?;
    lacks(
        &format!("{:?}", lab.daemon.audit().lines()?),
        &["session.opened"],
    )
}

/// A command of the launcher's does not even see the server's socket, and reaches the target by its name.
#[test]
fn a_launched_command_reaches_the_target_by_a_socket_that_it_does_not_see() -> Result<()> {
    let lab = lab(Postgres::start()?, |_| {})?;
    let dsn = dsn(&lab.server)?;
    let conninfo = dsn.conninfo();
    let socket = lab.server.socket().to_string_lossy().into_owned();
    let script = r#"test -S "$0" && echo seen; psql -X -A -t -w -d "$1" -c 'select 40 + 2'"#;
    let user = nix::unistd::User::from_uid(lab.agent().uid().into())?;
    let user = user.map_or_else(|| "nobody".to_owned(), |user| user.name);
    let words = [
        "run", "--agent", "demo", "--user", &user, "--", "sh", "-c", script, &socket, &conninfo,
    ];
    let said = lab.daemon.cli(&words)?.ok()?;
    ensure!(said.trim() == "42", "{said}");
    Ok(())
}
