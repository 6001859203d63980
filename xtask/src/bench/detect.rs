//! `cargo xtask bench detect`: bytes a second of one processor that value detectors read, over clean text
//! and over text full of what they look for, beside a set of regular expressions for the same kinds.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::{Figure, table};
use crate::setup;
use crate::shell;

/// The subjects, as the bench prints them: a stream in pieces, and values one by one.
const SUBJECTS: [&str; 3] = ["stream", "values", "regex-set"];

/// Builds and runs the bench, prints its figures and writes them.
pub(crate) fn measure() -> anyhow::Result<()> {
    setup::build()?;
    let mut command = Command::new("cargo");
    command.args(["bench", "--package", "interceptor", "--bench", "detect"]);
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
            "{:<10} {:<6} {:>6.0} MB/s",
            figure.subject, figure.case, figure.value
        );
    }
    let out = shell::target().join("bench");
    fs::create_dir_all(&out).context("make the directory of the figures")?;
    let out = out.join("detect.json");
    fs::write(&out, table::json(&figures)?).with_context(|| format!("write {}", out.display()))?;
    println!("\nwritten to {}", out.display());
    Ok(())
}

/// `SUBJECT CASE MB/S FINDS`.
fn figure(line: &str) -> Option<Figure> {
    let mut words = line.split(' ');
    let subject = words.next()?;
    let subject = SUBJECTS.into_iter().find(|known| *known == subject)?;
    Some(Figure {
        subject,
        case: words.next()?.to_owned(),
        metric: "throughput",
        value: words.next()?.parse().ok()?,
        unit: "MB/s",
    })
}
