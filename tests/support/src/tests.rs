//! What the other tests lean on does what it says, and leaves nothing behind.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::agent::Dsn;
use crate::tap::Tap;
use crate::{Agent, DEADLINE, Postgres, Process, place, wait};

fn dsn(server: &Postgres) -> Dsn {
    Dsn::of(server.address(), server.user(), server.database()).with_password(server.password())
}

#[test]
fn a_throw_away_server_has_its_sample_demands_its_password_and_is_gone_when_dropped() -> Result<()>
{
    let server = Postgres::start()?;
    let rows = Agent::outside().psql(&dsn(&server), &["select name from customers order by id"])?;
    ensure!(
        rows.ok()? == "Ada Lovelace\nGrace Hopper\nAlan Turing\n",
        "the sample is not there"
    );
    let mut without = dsn(&server);
    without.password = None;
    let refused = Agent::outside().psql(&without, &["select 1"])?;
    ensure!(
        refused.stderr.contains("no password supplied"),
        "{}",
        refused.stderr
    );
    let (address, pid) = (server.address(), server.pid());
    drop(server);
    ensure!(
        std::net::TcpStream::connect(address).is_err(),
        "it still listens"
    );
    ensure!(
        !std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "it still runs"
    );
    Ok(())
}

#[test]
fn a_server_with_tls_proves_its_name() -> Result<()> {
    let server = Postgres::start_with_tls()?;
    let root = server.authority().map(|authority| authority.ca.clone());
    for host in ["127.0.0.1", "localhost"] {
        let dsn = dsn(&server)
            .by_name(host)
            .with_tls("verify-full", root.as_deref());
        Agent::outside().psql(&dsn, &["select 1"])?.ok()?;
    }
    Ok(())
}

#[test]
fn a_tap_counts_what_it_relays() -> Result<()> {
    let server = Postgres::start()?;
    let tap = Tap::before(server.address())?;
    let mut through = dsn(&server);
    through.port = tap.address().port();
    Agent::outside().psql(&through, &["select 1"])?.ok()?;
    ensure!(tap.connections() == 1 && tap.bytes() > 0, "not counted");
    tap.settle()
}

#[test]
fn a_process_is_ended_at_its_deadline_and_its_output_kept() -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "echo begun; exec sleep 600"]);
    let mut process = Process::start(command)?;
    process.await_text("begun", DEADLINE)?;
    ensure!(
        process.finish(Duration::from_millis(1)).is_err(),
        "it ended by itself"
    );
    ensure!(
        process.finish(DEADLINE)?.stdout == "begun\n",
        "its output is lost"
    );
    ensure!(
        process.await_text("never", DEADLINE).is_err(),
        "it said what it did not say"
    );
    Ok(())
}

#[test]
fn a_wait_for_files_sees_the_change_that_comes_later() -> Result<()> {
    let directory = place::temporary("wait")?;
    let file = directory.path().join("file");
    let writer = {
        let file = file.clone();
        std::thread::spawn(move || std::fs::write(file, "here"))
    };
    wait::for_files("the file", directory.path(), DEADLINE, || {
        Ok(std::fs::read_to_string(&file)
            .ok()
            .filter(|text| text == "here"))
    })?;
    ensure!(
        writer.join().is_ok_and(|written| written.is_ok()),
        "it was not written"
    );
    let missing = wait::for_files(
        "nothing",
        directory.path(),
        Duration::from_millis(1),
        || Ok(None::<()>),
    );
    ensure!(missing.is_err(), "a deadline is a failure");
    Ok(())
}

#[test]
fn the_source_tree_is_the_one_that_the_process_runs_for() -> Result<()> {
    let clone = place::temporary("clone")?;
    let package = clone.path().join("tests/support");
    std::fs::create_dir_all(&package)?;
    ensure!(
        place::root_above(&package).is_none(),
        "a directory without a lock file is no tree"
    );
    std::fs::write(clone.path().join("Cargo.lock"), "")?;
    ensure!(
        place::root_above(&package).as_deref() == Some(clone.path()),
        "another tree"
    );
    ensure!(
        place::workspace().join("xtask/src/main.rs").is_file(),
        "not this tree"
    );
    Ok(())
}
