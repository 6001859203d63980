//! What sessions cost that do nothing.

use std::fs;

use anyhow::{Context as _, ensure};
use support::{Process, place};

use super::{DEADLINE, Run, Value, command, value};
use crate::bench::subjects::{Lab, Subject};

const IDLE: u32 = 500;

pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    run.each("memory of an idle session", idle)
}

/// What a session costs that does nothing: memory of the hop with 500 of them, less without.
fn idle(lab: &Lab, subject: &Subject) -> anyhow::Result<Vec<Value>> {
    let Some(pid) = subject.pid else {
        return Ok(Vec::new());
    };
    let before = resident(pid)?;
    let directory = place::temporary("idle")?;
    let script = directory.path().join("idle.sql");
    fs::write(&script, "select 1;\n\\sleep 60 s\n").context("write the idle script")?;
    let clients = IDLE.to_string();
    let script = script.to_string_lossy();
    let command = command(
        subject,
        &["-n", "-f", &script, "-c", &clients, "-j", "2", "-t", "1"],
    )?;
    let process = Process::start(command)?;
    let wanted = u64::from(IDLE);
    support::wait::for_fact("the idle sessions", DEADLINE, || {
        ensure!(!process.is_over(), "pgbench ended: {}", process.log());
        let open: u64 = lab
            .server
            .admin("select count(*) from pg_stat_activity where usename = 'shop_app' and state = 'idle' and query = 'select 1;'")?
            .trim()
            .parse()
            .context("count the sessions")?;
        Ok((open >= wanted).then_some(()))
    })?;
    let more = resident(pid)?.saturating_sub(before);
    drop(process);
    let each = f64::from(u32::try_from(more).unwrap_or(u32::MAX)) / f64::from(IDLE);
    gone(lab)?;
    Ok(vec![value("memory", each, "KiB")])
}

/// The next subject starts when the sessions of this one are gone.
fn gone(lab: &Lab) -> anyhow::Result<()> {
    support::wait::for_fact("the end of the idle sessions", DEADLINE, || {
        let open = lab
            .server
            .admin("select count(*) from pg_stat_activity where usename = 'shop_app' and query = 'select 1;'")?;
        Ok((open.trim() == "0").then_some(()))
    })
}

/// Resident memory of a process and its children, in KiB.
pub(super) fn resident(pid: u32) -> anyhow::Result<u64> {
    let read = |pid: u32| -> anyhow::Result<u64> {
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).context("read a hop's memory")?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .context("read a hop's memory")
    };
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut sum = read(pid)?;
    for child in children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
    {
        sum += read(child).unwrap_or(0);
    }
    Ok(sum)
}
