//! Limits, status, metrics, doctor, more than one target: what an operator lives with.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use support::daemon::Target;
use support::{DEADLINE, Daemon, Finished, Postgres, Process};

use crate::lab::{Lab, has, lacks, refused, settings, text};

fn kind(lab: &Lab, event: &str) -> Result<String> {
    let line = lab.daemon.audit().wait_for(event, DEADLINE, |_| true)?;
    Ok(text(&line, "/refusal/kind")?.to_owned())
}

#[test]
fn limits_on_connections_and_sessions_refuse_the_one_too_many() -> Result<()> {
    for limit in ["connections: 1", "sessions: 1"] {
        let lab = Lab::with(|settings| settings.limits = vec![limit.to_owned()])?;
        let mut first = lab.agent().open_psql(&lab.dsn())?;
        first.send("select 'opened';\n")?;
        first.await_text("opened", DEADLINE)?;
        let error = refused(lab.psql(&["select 1"])?)?;
        has(&error, &["FATAL"])?;
        ensure!(
            kind(&lab, "connection.refused")? == "limit",
            "{limit}: another kind"
        );
        first.send("\\q\n")?;
        first.finish(DEADLINE)?;
        lab.daemon
            .audit()
            .wait_for("session.closed", DEADLINE, |_| true)?;
        lab.psql(&["select 1"])?
            .ok()
            .with_context(|| format!("{limit}: it is free again"))?;
    }
    Ok(())
}

#[test]
fn a_limit_on_requests_refuses_and_the_session_goes_on() -> Result<()> {
    let lab = Lab::with(|settings| settings.limits = vec!["requests_per_second: 5".to_owned()])?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send(&"select 1;\n".repeat(500))?;
    psql.send("\\echo end\n")?;
    psql.await_text("end", DEADLINE)?;
    has(&psql.log(), &["ERROR"])?;
    ensure!(kind(&lab, "request.refused")? == "limit", "another kind");
    support::wait::for_fact("room for another request", DEADLINE, || {
        psql.send("select 'al' || 'ive';\n")?;
        Ok(psql.log().contains("alive").then_some(()))
    })
}

#[test]
fn status_shows_scopes_targets_and_open_sessions() -> Result<()> {
    let lab = Lab::new()?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select 'opened';\n")?;
    psql.await_text("opened", DEADLINE)?;
    let status = lab.daemon.cli(&["status"])?.ok()?;
    has(
        &status,
        &["demo", lab.daemon.scope(), "shop", &psql.pid().to_string()],
    )?;
    let json = lab.daemon.cli(&["status", "--json"])?.ok()?;
    let json: serde_json::Value = serde_json::from_str(&json).context("status --json")?;
    ensure!(
        json["sessions"]
            .as_array()
            .is_some_and(|all| all.len() == 1),
        "sessions: {json}"
    );
    Ok(())
}

#[test]
fn metrics_are_served_outside_of_scopes() -> Result<()> {
    let address = support::port::free()?;
    let lab = Lab::with(|settings| settings.metrics = Some(address))?;
    lab.psql(&["select 1"])?.ok()?;
    lab.psql(&["delete from customers"])?;
    let over_socket = lab.daemon.cli(&["metrics"])?.ok()?;
    has(
        &over_socket,
        &[
            "interceptor_connections_opened",
            "interceptor_requests_permitted",
        ],
    )?;
    lacks(&over_socket, &["select 1", "shop_app"])?;
    // Out of whose reach it is: `direct`.
    has(
        &fetch(address)?,
        &["200 OK", "interceptor_connections_opened"],
    )
}

#[test]
fn a_stranger_at_the_listener_is_turned_away_and_counted() -> Result<()> {
    let lab = Lab::new()?;
    lab.psql(&["select 1"])?.ok()?;
    let count = "interceptor_connections_unrecorded_total";
    let metrics = || lab.daemon.cli(&["metrics"])?.ok();
    has(&metrics()?, &[&format!("{count} 0")])?;
    let status = lab.daemon.cli(&["status", "--json"])?.ok()?;
    let status: serde_json::Value = serde_json::from_str(&status).context("status --json")?;
    let listener: std::net::SocketAddr = text(&status, "/listeners/0")?.parse()?;
    let mut stream = dial(listener)?;
    // Closed or reset, before a byte is read.
    ensure!(
        !stream.read(&mut [0]).is_ok_and(|read| read > 0),
        "a stranger is answered"
    );
    let line = lab
        .daemon
        .audit()
        .wait_for("connection.refused", DEADLINE, |_| true)?;
    ensure!(text(&line, "/refusal/kind")? == "identity", "{line}");
    has(&metrics()?, &[&format!("{count} 1")])
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is not the daemon: its dials are ordinary ones"
)]
fn dial(address: std::net::SocketAddr) -> Result<TcpStream> {
    TcpStream::connect(address).with_context(|| format!("dial {address}"))
}

fn fetch(address: std::net::SocketAddr) -> Result<String> {
    let mut stream = dial(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn two_targets_with_two_roles_are_told_apart_by_their_address() -> Result<()> {
    let other = Postgres::start()?;
    let lab = Lab::with(|settings| {
        settings
            .targets
            .push(Target::postgres("other", &other, other.address()));
    })?;
    lab.server.admin("update customers set name = 'first'")?;
    other.admin("update customers set name = 'second'")?;
    let ask = |dsn: &support::agent::Dsn| {
        lab.agent()
            .psql(dsn, &["select name from customers where id = 1"])?
            .ok()
    };
    has(&ask(&lab.dsn())?, &["first"])?;
    let dsn = support::agent::Dsn::of(other.address(), "anybody", "shop");
    has(&ask(&dsn)?, &["second"])?;
    let opened = lab.daemon.audit().events("session.opened")?;
    let targets: Vec<&str> = opened
        .iter()
        .filter_map(|line| line["target"].as_str())
        .collect();
    ensure!(targets == ["shop", "other"], "targets: {targets:?}");
    Ok(())
}

#[test]
fn the_service_manager_hears_of_readiness_life_reload_and_stop() -> Result<()> {
    let server = Postgres::start()?;
    let daemon = Daemon::prepare(settings(&server)?)?;
    let path = daemon.config().with_file_name("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let hear = |wanted: &str| -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let length = socket
                .recv(&mut buffer)
                .with_context(|| format!("never heard {wanted}"))?;
            let said = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            if said.lines().any(|line| line.starts_with(wanted)) {
                return Ok(());
            }
        }
    };
    // As systemd does it: the number is the daemon's own.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", r#"WATCHDOG_PID=$$ exec "$0" "$@""#])
        .arg(support::place::interceptor()?)
        .args(["daemon", "--config"])
        .arg(daemon.config())
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000");
    let mut process = Process::start(command)?;
    for wanted in ["READY=1", "WATCHDOG=1", "WATCHDOG=1"] {
        hear(wanted)?;
    }
    process.signal(Signal::SIGHUP);
    for wanted in ["RELOADING=1", "READY=1"] {
        hear(wanted)?;
    }
    process.signal(Signal::SIGTERM);
    hear("STOPPING=1")?;
    process.finish(DEADLINE)?.ok().map(drop)
}

#[test]
fn doctor_finds_the_host_good_and_a_superuser_login_worth_a_word() -> Result<()> {
    let lab = Lab::new()?;
    let good = doctor(&lab.daemon)?;
    has(&good.stdout, &["kernel", "BTF", "cgroup"])?;
    lab.server.admin("alter role shop_app superuser")?;
    let warned = doctor(&lab.daemon)?;
    has(&(warned.stdout + &warned.stderr), &["superuser"])
}

fn doctor(daemon: &Daemon) -> Result<Finished> {
    beside(daemon, &["doctor"])
}

/// A verb that reads the configuration itself.
fn beside(daemon: &Daemon, words: &[&str]) -> Result<Finished> {
    let mut command = std::process::Command::new(support::place::interceptor()?);
    command.args(words).arg("--config").arg(daemon.config());
    Process::run(command, DEADLINE)
}

#[test]
fn what_is_asked_for_as_json_is_json() -> Result<()> {
    let lab = Lab::new()?;
    lab.psql(&["select 1"])?.ok()?;
    lab.daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |_| true)?;
    let asked: [&[&str]; 9] = [
        &["status"],
        &["sessions", "ls"],
        &["audit", "verify"],
        &["audit", "show"],
        &["grants"],
        &["approvals", "ls"],
        &["reload"],
        &["freeze", "demo"],
        &["thaw", "demo"],
    ];
    for words in asked {
        let finished = lab.daemon.cli(&[words, &["--json"]].concat())?;
        let values = is_json(words, &finished.ok()?)?;
        // Of those there are none.
        let is_empty = matches!(words, ["grants"] | ["approvals", ..]);
        ensure!(values > 0 || is_empty, "{words:?} said nothing");
    }
    is_json(
        &["doctor"],
        &beside(&lab.daemon, &["doctor", "--json"])?.ok()?,
    )?;
    let mut version = std::process::Command::new(support::place::interceptor()?);
    version.args(["version", "--json"]);
    is_json(&["version"], &Process::run(version, DEADLINE)?.ok()?).map(drop)
}

/// How many values there are; nothing else is.
fn is_json(words: &[&str], text: &str) -> Result<usize> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    let values = values.collect::<std::result::Result<Vec<_>, _>>();
    let values = values.with_context(|| format!("{words:?} is no JSON: {text}"))?;
    Ok(values.len())
}

#[test]
fn exit_codes_tell_what_is_bad_from_what_was_asked_wrongly() -> Result<()> {
    let server = Postgres::start()?;
    let daemon = Daemon::prepare(settings(&server)?)?;
    let code = |words: &[&str]| -> Result<Option<i32>> {
        let mut command = std::process::Command::new(support::place::interceptor()?);
        command.args(words);
        Ok(Process::run(command, DEADLINE)?.status.code())
    };
    // No daemon answers, which doctor is there to say.
    ensure!(
        doctor(&daemon)?.status.code() == Some(1),
        "doctor is content"
    );
    for wrong in [&["fly"][..], &["status", "--colour"], &["tag"], &[]] {
        ensure!(code(wrong)? == Some(2), "{wrong:?}: {:?}", code(wrong)?);
    }
    ensure!(code(&["version"])? == Some(0), "version fails");
    Ok(())
}

#[test]
fn what_is_taken_from_the_host_is_ours_and_sets_nobody_free_unasked() -> Result<()> {
    let mut lab = Lab::new()?;
    let dsn = lab.dsn();
    let mut agent = lab.agent().open_psql(&dsn)?;
    agent.send("select 'opened';\n")?;
    agent.await_text("opened", DEADLINE)?;
    let refused = beside(&lab.daemon, &["uninstall"])?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    has(&refused.stderr, &["the daemon runs"])?;
    ensure!(lab.daemon.stop()?.status.success(), "the drain failed");
    let refused = beside(&lab.daemon, &["uninstall"])?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    has(
        &refused.stderr,
        &["agents still run", &agent.pid().to_string()],
    )?;
    ensure!(
        !lab.psql(&["select 1"])?.status.success(),
        "somebody is free"
    );
    let stranger = lab.daemon.run_directory().join("stranger");
    std::fs::write(&stranger, "")?;
    let done = beside(&lab.daemon, &["uninstall", "--release"])?.ok()?;
    has(&done, &["detached the programs from 1 cgroup", "left "])?;
    ensure!(!lab.daemon.pins().exists(), "pins are left");
    ensure!(stranger.exists(), "it took what is not its own");
    ensure!(
        lab.daemon.state().join("ca.pem").exists(),
        "it took the state"
    );
    // Free: the server asks for what the agent does not have.
    let free = lab.psql(&["select 1"])?;
    lacks(&free.stderr, &["Operation not permitted", "interceptor"])?;
    let again = beside(&lab.daemon, &["uninstall", "--state"])?.ok()?;
    has(
        &again,
        &["detached the programs from 0 cgroups", "removed "],
    )?;
    ensure!(!lab.daemon.state().exists(), "the state is left");
    Ok(())
}

#[test]
fn doctor_before_the_first_start_misses_nothing_but_the_daemon() -> Result<()> {
    let server = Postgres::start()?;
    let daemon = Daemon::prepare(settings(&server)?)?;
    let said = doctor(&daemon)?.stdout;
    let bad: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("BAD"))
        .collect();
    ensure!(
        matches!(bad.as_slice(), [one] if one.starts_with("BAD      daemon:")),
        "{said}"
    );
    Ok(())
}
