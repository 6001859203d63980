//! A connection with its login (SCRAM), one query, and its end.

use super::{Run, SECONDS, Value, number, pgbench, value};
use crate::bench::subjects::Subject;

pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    run.each("log in (SCRAM), one after another", |_, subject| {
        slowly(subject)
    })?;
    run.each("log in (SCRAM), c=4", |_, subject| {
        Ok(vec![value("rate", connects(subject, 4)?.0, "1/s")])
    })
}

/// With a rest between two: what one login takes where nothing hurries.
fn slowly(subject: &Subject) -> anyhow::Result<Vec<Value>> {
    let seconds = SECONDS.to_string();
    let paced = ["-n", "-S", "-C", "-c", "1", "-T", &seconds, "-R", "20"];
    let text = pgbench(subject, &paced)?;
    let connect = number(&text, "average connection time = ")?;
    Ok(vec![value("connection time", connect, "ms")])
}

/// Connections a second, and what one takes in milliseconds.
fn connects(subject: &Subject, clients: u32) -> anyhow::Result<(f64, f64)> {
    let (seconds, count) = (SECONDS.to_string(), clients.to_string());
    let text = pgbench(
        subject,
        &["-n", "-S", "-C", "-c", &count, "-j", "2", "-T", &seconds],
    )?;
    let connect = number(&text, "average connection time = ")?;
    Ok((number(&text, "tps = ")?, connect))
}
