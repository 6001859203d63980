//! Large bodies: how fast they go by, how much memory that takes, and what masking them costs.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use support::Process;

use super::lab::{BIG, Lab, Subject};
use super::{Run, Value};
use crate::bench::ssh::part;

/// The best of so many counts.
const TRIES: usize = 3;
const DEADLINE: Duration = Duration::from_secs(300);
/// Ticks of a processor's time a second, on every machine that Linux runs on.
const TICKS: f64 = 100.0;

pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    let subjects = run.lab.subjects();
    let size = part(BIG)? >> 20;
    for (version, name) in [("--http1.1", "h1"), ("--http2", "h2")] {
        let case = format!("a body of {size} MiB, {name}");
        run.each(&case, &subjects, |_, subject| big(subject, version))?;
    }
    let subjects = run.lab.masked();
    run.each("rows of JSON, h1", &subjects, rows)
}

/// MB a second, and the most that the hop had in memory meanwhile.
fn big(subject: &Subject, version: &str) -> anyhow::Result<Vec<Value>> {
    if let Some(pid) = subject.pid {
        fs::write(format!("/proc/{pid}/clear_refs"), "5").context("forget a peak")?;
    }
    let rate = download(subject, version, "/big")?;
    let mut values = vec![("throughput", rate.0, "MB/s")];
    if let Some(pid) = subject.pid {
        let peak = f64::from(memory(pid, "VmHWM:")?) / 1024.0;
        values.push(("peak memory", peak, "MiB"));
    }
    Ok(values)
}

/// MB a second, and MB for a second of the daemon's processor, with TLS on both sides.
fn rows(_lab: &Lab, subject: &Subject) -> anyhow::Result<Vec<Value>> {
    let pid = subject.pid.context("a daemon is a process")?;
    let before = spent(pid)?;
    let (rate, total) = download(subject, "--http1.1", "/rows.json")?;
    let spent = spent(pid)? - before;
    Ok(vec![
        ("throughput", rate, "MB/s"),
        ("of a core", total / spent, "MB/s"),
    ])
}

/// MB a second, the best of a few, and MB in all.
fn download(subject: &Subject, version: &str, path: &str) -> anyhow::Result<(f64, f64)> {
    let url = subject.url(path);
    let said = "%{http_code} %{size_download} %{time_total}";
    let words = [version, "-sSk", "-o", "/dev/null", "-w", said, &url];
    let (mut best, mut total) = (0.0_f64, 0.0);
    for _ in 0..TRIES {
        let report = Process::run(subject.client.command("curl", &words), DEADLINE)?.ok()?;
        let mut parts = report.split(' ');
        ensure!(parts.next() == Some("200"), "{report}");
        let mut number = || parts.next()?.trim().parse::<f64>().ok();
        let (bytes, took) = number().zip(number()).context("read curl's report")?;
        best = best.max(bytes / took / 1e6);
        total += bytes / 1e6;
    }
    Ok((best, total))
}

/// Seconds of a processor that a process has had.
fn spent(pid: u32) -> anyhow::Result<f64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).context("read its time")?;
    // The name of the program may hold spaces; it ends with the last parenthesis.
    let rest = line.rsplit(')').next().unwrap_or_default();
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (fields.next(), fields.next());
    let ticks = user.context("no time")?? + system.context("no time")??;
    Ok(ticks / TICKS)
}

/// A line of a process's memory, in KiB.
pub(super) fn memory(pid: u32, label: &str) -> anyhow::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read its memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix(label));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .context("read its memory")
}
