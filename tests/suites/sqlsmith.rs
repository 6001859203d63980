//! sqlsmith through the daemon: random statements, some of which are as strange as the grammar allows.
//!
//! Whether a statement is right is the server's to say; the daemon must stay in step and alive.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use support::agent::Dsn;
use support::daemon::{Settings, Target};
use support::{DEADLINE, Daemon, Postgres, Process, place, suffix};

const SECONDS: u64 = 15;
/// Fewer would show that it did not get to the server at all.
const REQUESTS: usize = 20;

#[test]
fn random_statements_leave_daemon_and_sessions_in_step() -> Result<()> {
    let seconds = match std::env::var("INTERCEPTOR_SUITE_SECONDS") {
        Ok(text) => text.parse().context("read INTERCEPTOR_SUITE_SECONDS")?,
        Err(_) => SECONDS,
    };
    let server = Postgres::start()?;
    let mut settings = Settings::new(vec![Target::shop(&server)], "");
    settings.policies = place::pack("allow-all")?;
    let daemon = Daemon::start(settings)?;
    let dsn = Dsn::of(server.address(), "anybody", server.database());
    // It reads the seed as a signed number.
    let seed = u32::from_str_radix(&suffix()?, 16)? >> 1;
    println!("sqlsmith for {seconds} seconds, seed {seed}");
    let (limit, seed) = (seconds.to_string(), format!("--seed={seed}"));
    let target = format!("--target={}", dsn.conninfo());
    let words = [
        "-s",
        "TERM",
        &limit,
        "sqlsmith",
        "--verbose",
        &seed,
        &target,
    ];
    let command = daemon.agent().command("timeout", &words);
    let smith = Process::run(command, Duration::from_secs(seconds) + DEADLINE)?;
    // 124: it went on to its end.
    ensure!(
        smith.status.code() == Some(124),
        "sqlsmith ended with {}:\n{}",
        smith.status,
        smith.stderr
    );
    let rows = daemon
        .agent()
        .psql(&dsn, &["select count(*) from customers"])?;
    ensure!(rows.ok()?.trim() == "3", "the next session is not answered");
    let asked = daemon.audit().events("request.permitted")?.len();
    ensure!(
        asked >= REQUESTS,
        "{asked} requests; it said:\n{}",
        smith.stderr
    );
    let closed = daemon.audit().events("session.closed")?;
    let broken: Vec<_> = closed
        .iter()
        .filter(|line| line["reason"] != "client")
        .collect();
    ensure!(
        broken.is_empty(),
        "sessions that ended otherwise: {broken:?}\nsqlsmith's errors:\n{}",
        smith.stderr
    );
    println!("{asked} requests in {} sessions", closed.len());
    Ok(())
}
