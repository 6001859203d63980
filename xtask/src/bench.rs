//! `cargo xtask bench postgres`: what a hop costs, four ways side by side in one run.
//!
//! All on loopback, the interceptor as a release build with its ordinary settings (audit and recording
//! on). Numbers of one machine compare with each other, never with another machine's.

pub(crate) mod approvals;
mod cases;
pub(crate) mod detect;
pub(crate) mod grants;
pub(crate) mod http;
pub(crate) mod judge;
pub(crate) mod kernel;
pub(crate) mod records;
pub(crate) mod ssh;
mod subjects;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use nix::unistd::{Uid, chown};
use support::place;

use crate::guard::{Guard, Outer};
use crate::setup::{self, For};
use crate::shell::{self, cargo, run};
use crate::stage::Stage;

const OUT: &str = "INTERCEPTOR_BENCH_OUT";

/// One figure.
struct Figure {
    subject: &'static str,
    case: String,
    metric: &'static str,
    value: f64,
    unit: &'static str,
}

/// Sets up, builds, and starts the part that runs as root.
pub(crate) fn postgres(filter: &[&str]) -> anyhow::Result<()> {
    let ready = setup::servers(For::Bench)?;
    run(cargo(&[
        "build",
        "--workspace",
        "--release",
        "--bin",
        "interceptor",
    ]))?;
    let outer = Outer::prepare("attach eBPF programs to a cgroup")?;
    let stage = Stage::set(&shell::target().join("release/interceptor"), &ready)?;
    let out = shell::target().join("bench");
    fs::create_dir_all(&out).context("make the directory of the figures")?;
    let mut variables = stage.variables(&ready);
    variables.push((OUT, shell::text(&out.join("postgres.json"))));
    let arguments = [&["bench"], filter].concat();
    outer.start(&arguments, &variables)
}

/// The part that runs as root.
pub(crate) fn as_root(filter: &[&str]) -> anyhow::Result<()> {
    let guard = Guard::watch()?;
    let out = env::var_os(OUT)
        .map(PathBuf::from)
        .context("no place for the figures")?;
    let figures = cases::measure(&guard, filter)?;
    table::print(&figures);
    if !filter.is_empty() {
        println!(
            "\nnot written to {}: some cases were left out",
            out.display()
        );
        return Ok(());
    }
    keep(&figures, &out)
}

/// Writes the figures to their file, from the part that runs as root.
fn keep(figures: &[Figure], out: &Path) -> anyhow::Result<()> {
    fs::write(out, table::json(figures)?).with_context(|| format!("write {}", out.display()))?;
    // The file lies in the build directory of whoever called sudo.
    if env::var_os("SUDO_UID").is_some() {
        let owner = Uid::from_raw(place::agent_uid());
        chown(out, Some(owner), None).context("give the figures to their owner")?;
    }
    println!("\nwritten to {}", out.display());
    Ok(())
}

/// A line `SUBJECT CASE VALUE UNIT` of a bench of the crate, with what is measured of each subject.
fn figure(
    line: &str,
    subjects: &[(&'static str, &'static str)],
    units: &[&'static str],
) -> Option<Figure> {
    let mut words = line.split(' ');
    let subject = words.next()?;
    let (subject, metric) = subjects.iter().find(|(known, _)| *known == subject)?;
    let case = words.next()?.to_owned();
    let value = words.next()?.parse().ok()?;
    let unit = words.next()?;
    Some(Figure {
        subject,
        case,
        metric,
        value,
        unit: units.iter().find(|known| **known == unit)?,
    })
}

/// A figure as people read it.
fn told(figure: &Figure) -> String {
    format!(
        "{:<8} {:<14} {:>12.3} {}",
        figure.subject, figure.case, figure.value, figure.unit
    )
}

/// Builds and runs a bench of the crate; its figures, one a line as `read` reads them, are printed as `show`
/// says and written to `NAME.json`.
fn of_crate(
    name: &str,
    read: fn(&str) -> Option<Figure>,
    show: fn(&Figure) -> String,
) -> anyhow::Result<()> {
    setup::build()?;
    let mut command = Command::new("cargo");
    command.args(["bench", "--package", "interceptor", "--bench", name]);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo bench")?;
    ensure!(
        output.status.success(),
        "the bench ended with {}",
        output.status
    );
    let text = String::from_utf8(output.stdout).context("read the figures")?;
    let figures: Vec<Figure> = text.lines().filter_map(read).collect();
    ensure!(!figures.is_empty(), "the bench gave no figures: {text}");
    for figure in &figures {
        println!("{}", show(figure));
    }
    let out = shell::target().join("bench");
    fs::create_dir_all(&out).context("make the directory of the figures")?;
    let out = out.join(format!("{name}.json"));
    fs::write(&out, table::json(&figures)?).with_context(|| format!("write {}", out.display()))?;
    println!("\nwritten to {}", out.display());
    Ok(())
}
