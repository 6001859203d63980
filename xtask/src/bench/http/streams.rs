//! Streams that are open and of which little comes: what one costs the hop.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use support::Process;

use super::bodies::memory;
use super::lab::{Lab, Subject};
use super::{Run, Value};
use crate::bench::ssh::part;

/// Streams that are open at a time.
const STREAMS: u32 = 10_000;
/// Streams of one connection of HTTP/2.
const OF_ONE: u32 = 100;
/// Files that a hop has open beside its connections.
const OTHERS: u32 = 500;
/// Connections that begin in a second.
const A_SECOND: u32 = 250;
const DEADLINE: Duration = Duration::from_secs(240);

pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    let hops: Vec<Subject> = run.lab.without_mitmproxy().into_iter().skip(1).collect();
    let many = part(STREAMS)?;
    run.each(
        &format!("{many} open streams, h2"),
        &hops,
        |lab, subject| {
            let connections = many.div_ceil(OF_ONE);
            let streams = format!("-m{OF_ONE}");
            open(lab, subject, many, &[&format!("-c{connections}"), &streams])
        },
    )?;
    // A connection of an agent is two sockets, and the handle of its process. Haproxy was given room for 4,000.
    let many = many.min(files()?.saturating_sub(OTHERS) / 3);
    let through: Vec<Subject> = hops.into_iter().skip(1).collect();
    run.each(
        &format!("{many} open streams, h1"),
        &through,
        |lab, subject| {
            let rate = format!("-r{A_SECOND}");
            open(lab, subject, many, &["--h1", &format!("-c{many}"), &rate])
        },
    )
}

/// KiB of the hop for a stream, and what it has in all.
fn open(lab: &Lab, subject: &Subject, many: u32, how: &[&str]) -> anyhow::Result<Vec<Value>> {
    let pid = subject.pid.context("a hop is a process")?;
    let before = memory(pid, "VmRSS:")?;
    let (number, url) = (format!("-n{many}"), subject.url("/events"));
    let words = [how, &[number.as_str(), &url]].concat();
    let clients = Process::start(subject.client.command("h2load", &words))?;
    support::wait::for_fact("the open streams", DEADLINE, || {
        ensure!(!clients.is_over(), "h2load ended: {}", clients.log());
        Ok((being_answered(lab)? > many).then_some(()))
    })?;
    let with = memory(pid, "VmRSS:")?;
    drop(clients);
    support::wait::for_fact("the end of the streams", DEADLINE, || {
        Ok((being_answered(lab)? <= 1).then_some(()))
    })?;
    Ok(vec![
        (
            "memory of one",
            f64::from(with.saturating_sub(before)) / f64::from(many),
            "KiB",
        ),
        ("in all", f64::from(with) / 1024.0, "MiB"),
    ])
}

/// Requests that the server answers at this moment, the one that asks for it among them.
fn being_answered(lab: &Lab) -> anyhow::Result<u32> {
    let direct = lab.direct();
    let said = direct
        .client
        .run("curl", &["-sSk", &direct.url("/status")])?
        .ok()?;
    let words = said
        .split("Writing: ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    words
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("read the server's status: {said}"))
}

/// How many files a process may have open.
fn files() -> anyhow::Result<u32> {
    let limits = fs::read_to_string("/proc/self/limits").context("read the limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    // The daemon raises the first, the soft one, to the second.
    let hard = line.and_then(|rest| rest.split_whitespace().nth(1));
    let hard = hard.and_then(|number| number.parse().ok());
    hard.context("read the limit of open files")
}
