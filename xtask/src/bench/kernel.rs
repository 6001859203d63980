//! `cargo xtask bench kernel`: what the programs in the kernel cost a connect and a packet, that they cost processes
//! outside every scope nothing and with `guard: host` how much, and how many connects, scopes and network namespaces there can be.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Figure, figure, table};
use crate::root;
use crate::setup;
use crate::shell::{self, cargo};

/// The subjects, as the bench prints them, and what is measured of each.
const SUBJECTS: [(&str, &str); 7] = [
    ("direct", "cost"),
    ("redirect", "cost before the daemon"),
    ("unscoped", "cost"),
    ("guarded", "cost"),
    ("tagged", "count"),
    ("scopes", "count or time"),
    ("namespaces", "count or time"),
];
const UNITS: [&str; 7] = [
    "µs",
    "runs",
    "connects",
    "1/min",
    "records",
    "scopes",
    "namespaces",
];

/// Builds the bench, runs it as root, prints its table and writes it.
pub(crate) fn measure() -> anyhow::Result<()> {
    setup::build()?;
    let program = built()?;
    let mut command = root::command(&shell::text(&program), "attach eBPF programs to cgroups")?;
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("run the bench")?;
    let text = String::from_utf8(output.stdout).context("read the figures")?;
    let read = |line: &str| figure(line, &SUBJECTS, &UNITS);
    let figures: Vec<Figure> = text.lines().filter_map(read).collect();
    table::print(&figures);
    ensure!(
        output.status.success(),
        "the bench ended with {}",
        output.status
    );
    ensure!(!figures.is_empty(), "the bench gave no figures: {text}");
    let out = shell::target().join("bench");
    fs::create_dir_all(&out).context("make the directory of the figures")?;
    let out = out.join("kernel.json");
    fs::write(&out, table::json(&figures)?).with_context(|| format!("write {}", out.display()))?;
    println!("\nwritten to {}", out.display());
    Ok(())
}

/// The program of the bench, which must not run as whoever builds it.
fn built() -> anyhow::Result<PathBuf> {
    let words = ["bench", "--package", "interceptor", "--bench", "kernel"];
    let more = ["--no-run", "--message-format=json"];
    let mut build = cargo(&[&words[..], &more].concat());
    build.stderr(Stdio::inherit());
    let said = shell::read(build).context("build the bench")?;
    let built = said.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_bench = message.pointer("/target/name")? == "kernel";
        let path = message.get("executable")?.as_str()?;
        is_bench.then(|| PathBuf::from(path))
    });
    built.context("cargo does not say where the bench was built")
}
