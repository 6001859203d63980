//! What is measured, each case over all subjects before the next, in some five minutes.

mod copy;
mod held;
mod idle;
mod login;
mod masks;
mod restart;
mod statements;

use std::time::Duration;

use anyhow::Context as _;
use support::{Agent, Process, place};

use super::Figure;
use super::subjects::{Lab, Subject};
use crate::guard::Guard;

/// How long each rate is measured.
const SECONDS: u32 = 3;
/// About 50 MB in the text form of `COPY`.
const ROWS: u32 = 600_000;
/// For one run, on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A run of the bench: which cases are wanted, and what came out so far.
struct Run<'a> {
    guard: &'a Guard,
    filter: &'a [&'a str],
    lab: Lab,
    figures: Vec<Figure>,
}

/// All figures of the cases whose names contain one of `filter`, or of all where it is empty.
pub(super) fn measure(guard: &Guard, filter: &[&str]) -> anyhow::Result<Vec<Figure>> {
    let mut run = Run {
        guard,
        filter,
        lab: Lab::put_up()?,
        figures: Vec::new(),
    };
    fill(&run.lab)?;
    statements::measure(&mut run)?;
    login::measure(&mut run)?;
    copy::measure(&mut run)?;
    masks::measure(&mut run)?;
    idle::measure(&mut run)?;
    held::measure(&mut run)?;
    durability(&mut run)?;
    restart::measure(&mut run)?;
    Ok(run.figures)
}

impl Run<'_> {
    /// Whether somebody wants this case.
    fn wants(&self, case: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|words| case.contains(words))
    }

    /// One case over all subjects, where somebody wants it.
    fn each(
        &mut self,
        case: &str,
        measure: impl Fn(&Lab, &Subject) -> anyhow::Result<Vec<Value>>,
    ) -> anyhow::Result<()> {
        if !self.wants(case) {
            return Ok(());
        }
        for subject in self.lab.subjects() {
            self.one(case, &subject, &measure)?;
        }
        Ok(())
    }

    fn one(
        &mut self,
        case: &str,
        subject: &Subject,
        measure: impl Fn(&Lab, &Subject) -> anyhow::Result<Vec<Value>>,
    ) -> anyhow::Result<()> {
        self.guard.go_on()?;
        let values = measure(&self.lab, subject)?;
        let shown: Vec<String> = values
            .iter()
            .map(|value| format!("{} {:.1} {}", value.metric, value.value, value.unit))
            .collect();
        println!("{case:<34} {:<22} {}", subject.name, shown.join(", "));
        self.figures.extend(values.into_iter().map(|value| Figure {
            subject: subject.name,
            case: case.to_owned(),
            metric: value.metric,
            value: value.value,
            unit: value.unit,
        }));
        Ok(())
    }
}

/// One figure of one case and subject.
struct Value {
    metric: &'static str,
    value: f64,
    unit: &'static str,
}

fn value(metric: &'static str, value: f64, unit: &'static str) -> Value {
    Value {
        metric,
        value,
        unit,
    }
}

/// pgbench's own tables, made over the direct way.
fn fill(lab: &Lab) -> anyhow::Result<()> {
    println!("filling the tables");
    let bulk = format!(
        "create table bulk as select i, md5(i::text) as a, md5((i * 7)::text) as b, i * 3 as c \
         from generate_series(1, {ROWS}) as i; grant select on bulk to public; analyze bulk"
    );
    lab.server.admin(&bulk)?;
    let direct = lab.subjects().into_iter().next().context("no direct way")?;
    pgbench(&direct, &["-i", "-q", "-s", "10"]).map(drop)?;
    // A pool opens its connections at the first use; that is what `connect` measures, not `select`.
    for subject in lab.subjects() {
        pgbench(&subject, &["-n", "-S", "-c", "64", "-j", "2", "-t", "1"])?;
    }
    Ok(())
}

/// What it costs that a line is on disk before its request goes on.
fn durability(run: &mut Run<'_>) -> anyhow::Result<()> {
    let case = |clients| format!("audit durability, c={clients}");
    for (durability, name) in [
        ("relaxed", "interceptor, relaxed"),
        ("strict", "interceptor, strict"),
    ] {
        if !run.wants(&case(1)) && !run.wants(&case(8)) {
            continue;
        }
        run.guard.go_on()?;
        run.lab.daemon.stop()?;
        run.lab
            .daemon
            .change(|settings| settings.durability = durability)?;
        run.lab.daemon.resume()?;
        let subject = run.lab.interceptor(name);
        for clients in [1, 8] {
            run.one(&case(clients), &subject, |_, subject| {
                statements::select(subject, "simple", clients)
            })?;
        }
    }
    Ok(())
}

fn pgbench(subject: &Subject, arguments: &[&str]) -> anyhow::Result<String> {
    Process::run(command(subject, arguments)?, DEADLINE)?
        .ok()
        .with_context(|| format!("pgbench {} through {}", arguments.join(" "), subject.name))
}

fn command(subject: &Subject, arguments: &[&str]) -> anyhow::Result<std::process::Command> {
    let program = place::postgres_programs()?.join("pgbench");
    let conninfo = subject.dsn.conninfo();
    let client: Agent = subject.client.clone().with("PGOPTIONS", "");
    let words: Vec<&str> = arguments
        .iter()
        .copied()
        .chain([conninfo.as_str()])
        .collect();
    Ok(client.command(&program.to_string_lossy(), &words))
}

/// The number after `label` in pgbench's report.
fn number(text: &str, label: &str) -> anyhow::Result<f64> {
    text.split(label)
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no {label:?} in pgbench's report:\n{text}"))
}
