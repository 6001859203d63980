//! Rows in bulk, as `COPY` and as the result of a query.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use support::place;

use super::{Run, Value, value};
use crate::bench::subjects::Subject;

pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    run.each("COPY to the client", |_, subject| {
        rows(subject, "copy bulk to stdout")
    })
}

/// The rate of one statement that gives some 50 MB.
pub(super) fn rows(subject: &Subject, statement: &str) -> anyhow::Result<Vec<Value>> {
    let program = place::postgres_programs()?.join("psql");
    let program = program.to_string_lossy();
    let conninfo = subject.dsn.conninfo();
    // The bytes go nowhere, and the best run counts: it is the hop that is measured.
    let script = r#"exec "$0" -X -q -w -d "$1" -c "$2" | wc -c"#;
    let mut best: Option<(f64, Duration)> = None;
    for _ in 0..5 {
        let begun = Instant::now();
        let finished = subject
            .client
            .run("sh", &["-c", script, &program, &conninfo, statement])?;
        let took = begun.elapsed();
        let bytes: f64 = finished
            .ok()?
            .trim()
            .parse()
            .context("read the number of bytes")?;
        ensure!(
            bytes > 4e7,
            "the COPY through {} broke off after {bytes} bytes",
            subject.name
        );
        if best.is_none_or(|(_, least)| took < least) {
            best = Some((bytes, took));
        }
    }
    let (bytes, took) = best.context("no run")?;
    let rate = bytes / took.as_secs_f64() / 1e6;
    Ok(vec![value("throughput", rate, "MB/s")])
}
