//! Requests a second, and how long one takes.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use support::Process;

use super::lab::{Lab, Subject};
use super::{Run, Value};

/// How long each rate is measured.
const SECONDS: u32 = 4;
const DEADLINE: Duration = Duration::from_secs(120);

pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    let subjects = run.lab.subjects();
    for connections in [1, 16] {
        run.each(
            &format!("requests, h1, c={connections}"),
            &subjects,
            |_, subject| one(subject, connections),
        )?;
    }
    for (connections, streams) in [(1, 1), (16, 1), (1, 16)] {
        let case = format!("requests, h2, c={connections}, m={streams}");
        run.each(&case, &subjects, |lab, subject| {
            two(lab, subject, (connections, streams))
        })?;
    }
    Ok(())
}

/// Over HTTP/1.1, by wrk.
fn one(subject: &Subject, connections: u32) -> anyhow::Result<Vec<Value>> {
    let threads = connections.min(2);
    let arguments = [
        "--latency".to_owned(),
        format!("-t{threads}"),
        format!("-c{connections}"),
        format!("-d{SECONDS}s"),
        subject.url("/hello"),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = Process::run(subject.client.command("wrk", &arguments), DEADLINE)?.ok()?;
    for wrong in ["Non-2xx", "Socket errors"] {
        ensure!(!report.contains(wrong), "{report}");
    }
    let after = |label: &str| {
        let found = report
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        found.with_context(|| format!("no {label:?} in wrk's report:\n{report}"))
    };
    let rate: f64 = after("Requests/sec:")?
        .trim()
        .parse()
        .context("read the rate")?;
    Ok(told(rate, microseconds(after("50%")?.trim())?))
}

/// Over HTTP/2, by h2load.
fn two(
    lab: &Lab,
    subject: &Subject,
    (connections, streams): (u32, u32),
) -> anyhow::Result<Vec<Value>> {
    let log = lab.scratch()?.join("requests");
    drop(fs::remove_file(&log));
    let arguments = [
        "--warm-up-time=1".to_owned(),
        format!("--log-file={}", log.display()),
        format!("-t{}", connections.min(2)),
        format!("-c{connections}"),
        format!("-m{streams}"),
        format!("-D{SECONDS}"),
        subject.url("/hello"),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = Process::run(subject.client.command("h2load", &arguments), DEADLINE)?.ok()?;
    // What is under way when the time is over counts as failed.
    let failed = after(&report, " succeeded, ", " failed")?;
    ensure!(failed <= connections * streams, "{report}");
    ensure!(report.contains(" 0 3xx, 0 4xx, 0 5xx"), "{report}");
    let rate = report.lines().find_map(|line| {
        let mut parts = line.strip_prefix("finished in ")?.split(", ");
        parts.nth(1)?.strip_suffix(" req/s")?.parse().ok()
    });
    let rate = rate.with_context(|| format!("no rate in h2load's report:\n{report}"))?;
    let log = fs::read_to_string(&log).context("read h2load's log")?;
    let mut times: Vec<f64> = log
        .lines()
        .filter_map(|line| line.split('\t').nth(2)?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied();
    Ok(told(rate, median.context("h2load has logged nothing")?))
}

/// A number between two words of h2load's report.
fn after(report: &str, before: &str, behind: &str) -> anyhow::Result<u32> {
    let rest = report.split(before).nth(1);
    let number = rest.and_then(|rest| rest.split(behind).next()?.parse().ok());
    number.with_context(|| format!("no number before {behind:?} in h2load's report:\n{report}"))
}

fn told(rate: f64, median: f64) -> Vec<Value> {
    vec![("rate", rate, "requests/s"), ("median", median, "µs")]
}

/// As wrk writes a time.
fn microseconds(text: &str) -> anyhow::Result<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let read = units.into_iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    });
    read.with_context(|| format!("{text:?} is no time of wrk's"))
}
