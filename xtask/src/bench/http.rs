//! `cargo xtask bench http`: what a hop costs HTTP from TLS to TLS, side by side in one run.
//!
//! All on loopback, the server an nginx that is faster than what stands before it. The interceptor is a release
//! build with audit and recording on, which the others do not have; once without a credential, as the others are,
//! and once with one, which every answer is searched for.

mod bodies;
mod lab;
mod rates;
mod streams;

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use self::lab::{Lab, Subject};
use super::{Figure, OUT, keep, table};
use crate::guard::{Guard, Outer};
use crate::setup::{self, For};
use crate::shell::{self, cargo, run};
use crate::stage::Stage;

/// Where mitmproxy's Python is.
const MITMPROXY: &str = "INTERCEPTOR_BENCH_MITMPROXY";

/// A run of the bench: which cases are wanted, and what came out so far.
struct Run<'a> {
    guard: &'a Guard,
    filter: &'a [&'a str],
    lab: Lab,
    figures: Vec<Figure>,
}

/// One figure of one case and subject.
type Value = (&'static str, f64, &'static str);

/// Sets up, builds, and starts the part that runs as root.
pub(crate) fn measure(filter: &[&str]) -> anyhow::Result<()> {
    let ready = setup::servers(For::Web)?;
    let proxy = setup::mitmproxy()?;
    let release = ["build", "--workspace", "--release", "--bin", "interceptor"];
    run(cargo(&release))?;
    let outer = Outer::prepare("attach eBPF programs to a cgroup")?;
    let stage = Stage::set(&shell::target().join("release/interceptor"), &ready)?;
    let proxy = stage.also(&proxy, "mitmproxy")?;
    let out = shell::target().join("bench");
    fs::create_dir_all(&out).context("make the directory of the figures")?;
    let mut variables = stage.variables(&ready);
    variables.push((OUT, shell::text(&out.join("http.json"))));
    variables.push((MITMPROXY, shell::text(&proxy.join("bin/python"))));
    let arguments = [&["bench-http"], filter].concat();
    outer.start(&arguments, &variables)
}

/// The part that runs as root.
pub(crate) fn as_root(filter: &[&str]) -> anyhow::Result<()> {
    let guard = Guard::watch()?;
    let place = |name| {
        let place = env::var_os(name).map(PathBuf::from);
        place.with_context(|| format!("{name} is not set"))
    };
    let (out, proxy) = (place(OUT)?, place(MITMPROXY)?);
    let mut run = Run {
        guard: &guard,
        filter,
        lab: Lab::put_up(&proxy)?,
        figures: Vec::new(),
    };
    rates::measure(&mut run)?;
    bodies::measure(&mut run)?;
    streams::measure(&mut run)?;
    table::print(&run.figures);
    if !filter.is_empty() {
        println!(
            "\nnot written to {}: some cases were left out",
            out.display()
        );
        return Ok(());
    }
    keep(&run.figures, &out)
}

impl Run<'_> {
    /// One case over these subjects, where somebody wants it.
    fn each(
        &mut self,
        case: &str,
        subjects: &[Subject],
        measure: impl Fn(&Lab, &Subject) -> anyhow::Result<Vec<Value>>,
    ) -> anyhow::Result<()> {
        if !self.filter.is_empty() && !self.filter.iter().any(|words| case.contains(words)) {
            return Ok(());
        }
        for subject in subjects {
            self.guard.go_on()?;
            let values = measure(&self.lab, subject);
            let values = values.with_context(|| format!("{case} through {}", subject.name))?;
            let shown: Vec<String> = values
                .iter()
                .map(|(metric, value, unit)| format!("{metric} {value:.1} {unit}"))
                .collect();
            println!("{case:<28} {:<24} {}", subject.name, shown.join(", "));
            let figures = values.into_iter().map(|(metric, value, unit)| Figure {
                subject: subject.name,
                case: case.to_owned(),
                metric,
                value,
                unit,
            });
            self.figures.extend(figures);
        }
        Ok(())
    }
}
