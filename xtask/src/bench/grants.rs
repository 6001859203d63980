//! `cargo xtask bench grants`: what a grant costs a request, with ten thousand of them alive: where nothing is
//! counted, and where what is taken is on disk first.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::{Figure, table};
use crate::setup;
use crate::shell;

/// The subjects, as the bench prints them, and what is measured of each.
const SUBJECTS: [(&str, &str); 3] = [
    ("grants", "count"),
    ("lookup", "time"),
    ("take", "time or rate"),
];
const UNITS: [&str; 3] = ["µs", "1/s", "grants"];

/// Builds and runs the bench, prints its figures and writes them.
pub(crate) fn measure() -> anyhow::Result<()> {
    setup::build()?;
    let mut command = Command::new("cargo");
    command.args(["bench", "--package", "interceptor", "--bench", "grants"]);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("run cargo bench")?;
    ensure!(
        output.status.success(),
        "the bench ended with {}",
        output.status
    );
    let text = String::from_utf8(output.stdout).context("read the figures")?;
    let figures: Vec<Figure> = text.lines().filter_map(figure).collect();
    ensure!(!figures.is_empty(), "the bench gave no figures: {text}");
    for figure in &figures {
        println!(
            "{:<8} {:<14} {:>12.3} {}",
            figure.subject, figure.case, figure.value, figure.unit
        );
    }
    let out = shell::target().join("bench");
    fs::create_dir_all(&out).context("make the directory of the figures")?;
    let out = out.join("grants.json");
    fs::write(&out, table::json(&figures)?).with_context(|| format!("write {}", out.display()))?;
    println!("\nwritten to {}", out.display());
    Ok(())
}

/// `SUBJECT CASE VALUE UNIT`.
fn figure(line: &str) -> Option<Figure> {
    let mut words = line.split(' ');
    let subject = words.next()?;
    let (subject, metric) = SUBJECTS.into_iter().find(|(known, _)| *known == subject)?;
    let case = words.next()?.to_owned();
    let value = words.next()?.parse().ok()?;
    let unit = words.next()?;
    Some(Figure {
        subject,
        case,
        metric,
        value,
        unit: UNITS.into_iter().find(|known| *known == unit)?,
    })
}
