//! pgbench's own query, one row by its key, in the simple and the extended protocol.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};
use support::place;

use super::{Run, SECONDS, Value, number, pgbench, value};
use crate::bench::subjects::Subject;

pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    for mode in ["simple", "prepared"] {
        for clients in [1, 8, 64] {
            let case = format!("select, {mode}, c={clients}");
            run.each(&case, |_, subject| select(subject, mode, clients))?;
        }
    }
    Ok(())
}

/// Transactions a second, and for one client how long one takes.
pub(super) fn select(subject: &Subject, mode: &str, clients: u32) -> anyhow::Result<Vec<Value>> {
    let log = place::temporary("bench-log")?;
    // pgbench may be another user.
    fs::set_permissions(log.path(), fs::Permissions::from_mode(0o777))
        .context("open the directory of pgbench's log")?;
    let prefix = log.path().join("of").to_string_lossy().into_owned();
    let (count, threads) = (clients.to_string(), clients.min(2).to_string());
    let seconds = SECONDS.to_string();
    let mut arguments = vec!["-n", "-S", "-M", mode, "-T", &seconds];
    arguments.extend(["-c", &count, "-j", &threads]);
    if clients == 1 {
        arguments.extend(["-l", "--log-prefix", &prefix]);
    }
    let text = pgbench(subject, &arguments)?;
    let rate = value("rate", number(&text, "tps = ")?, "1/s");
    if clients > 1 {
        return Ok(vec![rate]);
    }
    let mut times = Vec::new();
    for entry in fs::read_dir(log.path()).context("find pgbench's log")? {
        let lines = fs::read_to_string(entry?.path()).context("read pgbench's log")?;
        // `client transaction microseconds …`
        let time = |line: &str| line.split(' ').nth(2)?.parse::<f64>().ok();
        times.extend(lines.lines().filter_map(time));
    }
    ensure!(!times.is_empty(), "pgbench's log is empty");
    times.sort_by(f64::total_cmp);
    let at = |hundredth: usize| times.get(times.len() * hundredth / 100).copied();
    let (half, most) = (at(50).unwrap_or_default(), at(99).unwrap_or_default());
    Ok(vec![
        value("p50", half, "µs"),
        value("p99", most, "µs"),
        rate,
    ])
}
