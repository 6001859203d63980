//! The daemon dies, the database dies: the answer is no, never a way around, and it comes back.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use support::daemon::Target;
use support::tap::Tap;
use support::{DEADLINE, Daemon, Postgres, place};

use crate::lab::{self, Lab, has, lacks, refused, text};

/// Asks without a pause, and says how each question went.
const LOAD: &str = r#"
while :; do
    if "$0" -X -A -t -w -d "$1" -c "select count(*) from orders" > /dev/null 2>&1; then echo yes; else echo no; fi
done
"#;

fn count(process: &support::Process, word: &str) -> usize {
    process.log().lines().filter(|line| *line == word).count()
}

/// Waits for `more` further lines `word` of the load.
fn await_more(
    process: &support::Process,
    word: &str,
    more: usize,
    deadline: Duration,
) -> Result<()> {
    let before = count(process, word);
    support::wait::for_fact(&format!("{more} more times {word}"), deadline, || {
        Ok((count(process, word) >= before + more).then_some(()))
    })
}

#[test]
fn while_the_daemon_is_dead_not_one_byte_reaches_the_target_and_it_comes_back_on_its_pins()
-> Result<()> {
    let server = Postgres::start()?;
    let tap = Tap::before(server.address())?;
    let mut settings = lab::settings(&server)?;
    settings.targets = vec![Target::postgres("shop", &server, tap.address())];
    let mut daemon = Daemon::start(settings)?;
    let dsn = support::agent::Dsn::of(tap.address(), "anybody", server.database());
    let psql = place::postgres_programs()?.join("psql");
    let load: Vec<_> = (0..3)
        .map(|_| {
            let words = ["-c", LOAD, &psql.to_string_lossy(), &dsn.conninfo()];
            daemon.agent().start("sh", &words)
        })
        .collect::<Result<_>>()?;
    for process in &load {
        await_more(process, "yes", 3, DEADLINE)?;
    }
    for _ in 0..3 {
        daemon.kill();
        // What was on its way before the death arrives; from then on nothing may.
        tap.settle()?;
        let (connections, bytes) = (tap.connections(), tap.bytes());
        for process in &load {
            await_more(process, "no", 10, DEADLINE)?;
        }
        ensure!(
            tap.connections() == connections,
            "something connected to the target without the daemon"
        );
        ensure!(
            tap.bytes() == bytes,
            "bytes reached the target without the daemon"
        );
        daemon.resume()?;
        for process in &load {
            await_more(process, "yes", 3, DEADLINE)?;
        }
    }
    daemon.cli(&["audit", "verify"])?.ok().map(drop)
}

/// Inserts without a pause, over one session.
const WRITES: &str = r#"
while :; do
    echo "insert into orders values ((random() * 1000000000)::int + 1000, 1, 'written', 1);"
done | "$0" -X -q -w -d "$1" > /dev/null 2>&1
"#;

#[test]
fn every_row_that_was_written_has_its_line_though_the_daemon_was_killed() -> Result<()> {
    for durability in ["relaxed", "strict"] {
        let mut lab = Lab::with(|settings| settings.durability = durability)?;
        let psql = place::postgres_programs()?.join("psql");
        let words = ["-c", WRITES, &psql.to_string_lossy(), &lab.dsn().conninfo()];
        let writers: Vec<_> = (0..3)
            .map(|_| lab.agent().start("sh", &words))
            .collect::<Result<_>>()?;
        let written = "select count(*) from orders where item = 'written'";
        let rows = |lab: &Lab| -> Result<usize> { Ok(lab.server.admin(written)?.trim().parse()?) };
        support::wait::for_fact("some rows", DEADLINE, || {
            Ok((rows(&lab)? > 50).then_some(()))
        })?;
        lab.daemon.kill();
        let left = "select count(*) from pg_stat_activity where usename = 'shop_app'";
        support::wait::for_fact("no session at the server", DEADLINE, || {
            Ok((lab.server.admin(left)?.trim() == "0").then_some(()))
        })?;
        let rows = rows(&lab)?;
        drop(writers);
        lab.daemon.resume()?;
        let lines = lab.daemon.audit().events("request.permitted")?;
        let is_insert = |line: &&serde_json::Value| {
            text(line, "/summary").is_ok_and(|words| words.contains("INSERT"))
        };
        let permitted = lines.iter().filter(is_insert).count();
        ensure!(
            permitted >= rows,
            "{durability}: {rows} rows were written, {permitted} are in the audit"
        );
        lab.daemon.cli(&["audit", "verify"])?.ok()?;
    }
    Ok(())
}

#[test]
fn a_drained_daemon_leaves_its_pins_and_refuses_until_it_is_back() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.psql(&["select 1"])?.ok()?;
    ensure!(lab.daemon.stop()?.status.success(), "the drain failed");
    refused(lab.psql(&["select 1"])?)?;
    lab.daemon.resume()?;
    lab.psql(&["select 1"])?.ok().map(drop)
}

#[test]
fn a_drain_ends_what_does_not_end_and_its_recording_is_whole() -> Result<()> {
    let mut lab = Lab::with(|settings| "drain: 1s\n".clone_into(&mut settings.more))?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select 'opened';\n")?;
    psql.await_text("opened", DEADLINE)?;
    ensure!(lab.daemon.stop()?.status.success(), "the drain failed");
    let audit = lab.daemon.audit();
    let closed = audit.wait_for("session.closed", DEADLINE, |_| true)?;
    ensure!(text(&closed, "/reason")? == "drain", "reason: {closed}");
    audit.wait_for("log.closed", DEADLINE, |_| true)?;
    let meta = meta(&lab, text(&closed, "/session")?)?;
    let meta = serde_json::from_str(&fs::read_to_string(meta)?)?;
    ensure!(text(&meta, "/ended/reason")? == "drain", "meta: {meta}");
    Ok(())
}

/// The file that says what a session was.
fn meta(lab: &Lab, session: &str) -> Result<PathBuf> {
    let days = lab.daemon.state().join("recordings").read_dir()?;
    let metas = days
        .flatten()
        .map(|day| day.path().join(session).join("meta.json"));
    let metas: Vec<_> = metas.filter(|meta| meta.is_file()).collect();
    match metas.as_slice() {
        [meta] => Ok(meta.clone()),
        metas => bail!("recordings of {session}: {metas:?}"),
    }
}

#[test]
fn what_is_done_to_a_recording_while_no_daemon_runs_is_told_and_stays_found() -> Result<()> {
    let mut lab = Lab::new()?;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let mut psql = lab.agent().open_psql(&lab.dsn())?;
        psql.send("select 'opened';\n")?;
        psql.await_text("opened", DEADLINE)?;
        sessions.push(psql);
    }
    let begun = || lab.daemon.audit().events("recording.begun");
    let begun = support::wait::for_fact("two recordings", DEADLINE, || {
        Ok(Some(begun()?).filter(|begun| begun.len() == 2))
    })?;
    lab.daemon.kill();
    drop(sessions);
    let [changed, left] = [0, 1].map(|which| text(&begun[which], "/session"));
    let meta = meta(&lab, changed?)?;
    let other = fs::read_to_string(&meta)?.replace("\"demo\"", "\"dema\"");
    fs::write(&meta, other)?;
    lab.daemon.resume()?;
    let audit = lab.daemon.audit();
    let told = audit.wait_for("recording.damaged", DEADLINE, |_| true)?;
    ensure!(told["session"] == begun[0]["session"], "{told}");
    ensure!(text(&told, "/what")?.contains("meta.json"), "{told}");
    // The other is over, and as the log says.
    let left = left?;
    audit.wait_for("recording.sealed", DEADLINE, |line| {
        line["session"] == left && line["why"] == "lost"
    })?;
    let verified = lab.daemon.cli(&["audit", "verify"])?;
    ensure!(verified.status.code() == Some(1), "{verified:?}");
    let said = format!(
        "{}: meta.json is not as it was written",
        text(&begun[0], "/session")?
    );
    has(&verified.stdout, &[&said])?;
    lacks(&verified.stdout, &[&format!("recording {left}")])
}

#[test]
fn a_dead_upstream_is_a_clear_refusal() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.psql(&["select 1"])?.ok()?;
    lab.server.stop();
    let error = refused(lab.psql(&["select 1"])?)?;
    has(&error, &["FATAL", "shop"])?;
    let line = lab
        .daemon
        .audit()
        .wait_for("connection.refused", DEADLINE, |_| true)?;
    ensure!(text(&line, "/refusal/kind")? == "upstream", "kind: {line}");
    Ok(())
}

#[test]
fn a_server_that_dies_under_a_session_ends_the_session_and_the_daemon_lives() -> Result<()> {
    let mut lab = Lab::new()?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select 'opened';\n")?;
    psql.await_text("opened", DEADLINE)?;
    lab.server.stop();
    psql.send("select 1;\n")?;
    psql.close_input();
    ensure!(
        !psql.finish(DEADLINE)?.status.success(),
        "the client did not notice"
    );
    lab.daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |_| true)?;
    lab.daemon.cli(&["status"])?.ok().map(drop)
}

#[test]
fn a_missing_secret_is_a_refusal_that_does_not_say_where_it_was_looked_for() -> Result<()> {
    let lab = Lab::with(|settings| {
        for target in &mut settings.targets {
            target.password = None;
        }
    })?;
    let error = refused(lab.psql(&["select 1"])?)?;
    has(&error, &["FATAL"])?;
    let secret = lab.daemon.secret("shop");
    lacks(&error, &[&secret.to_string_lossy()])?;
    let line = lab
        .daemon
        .audit()
        .wait_for("connection.refused", DEADLINE, |_| true)?;
    ensure!(text(&line, "/refusal/kind")? == "secret", "kind: {line}");
    Ok(())
}

#[test]
fn a_rotated_secret_is_used_at_the_next_login() -> Result<()> {
    // A connection that waits was logged in before, and outlives the old password for its age.
    let mut lab = Lab::with(|settings| {
        for target in &mut settings.targets {
            target.postgres = vec!["warm: { connections: 0 }".to_owned()];
        }
    })?;
    lab.psql(&["select 1"])?.ok()?;
    lab.server.admin("alter role shop_app password 'rotated'")?;
    refused(lab.psql(&["select 1"])?)?;
    lab.daemon.change(|settings| {
        for target in &mut settings.targets {
            target.password = Some("rotated".to_owned());
        }
    })?;
    lab.psql(&["select 1"])?.ok().map(drop)
}
