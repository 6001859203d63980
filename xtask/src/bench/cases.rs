//! What is measured, each case over all subjects before the next, in at most five minutes.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use support::{Agent, Process, place};

use super::Figure;
use super::subjects::{Lab, Subject};
use crate::guard::Guard;

const SECONDS: u32 = 3;
const ROWS: u32 = 500_000;
const IDLE: u32 = 500;
/// For one run, on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// All figures.
pub(super) fn measure(guard: &Guard) -> anyhow::Result<Vec<Figure>> {
    let mut lab = Lab::put_up()?;
    fill(&lab)?;
    let mut figures = Vec::new();
    for mode in ["simple", "prepared"] {
        for clients in [1, 8, 64] {
            let case = format!("select, {mode}, c={clients}");
            for subject in lab.subjects() {
                guard.go_on()?;
                statements(&subject, &case, mode, clients, &mut figures)?;
            }
        }
    }
    for subject in lab.subjects() {
        guard.go_on()?;
        connects(&subject, &mut figures)?;
    }
    for subject in lab.subjects() {
        guard.go_on()?;
        copy(&subject, &mut figures)?;
    }
    for subject in lab.subjects() {
        guard.go_on()?;
        idle(&lab, &subject, &mut figures)?;
    }
    for (durability, name) in [
        ("relaxed", "interceptor, relaxed"),
        ("strict", "interceptor, strict"),
    ] {
        guard.go_on()?;
        lab.daemon.stop()?;
        lab.daemon
            .change(|settings| settings.durability = durability)?;
        lab.daemon.resume()?;
        for clients in [1, 8] {
            let case = format!("audit durability, c={clients}");
            statements(
                &lab.interceptor(name),
                &case,
                "simple",
                clients,
                &mut figures,
            )?;
        }
    }
    Ok(figures)
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

fn statements(
    subject: &Subject,
    case: &str,
    mode: &str,
    clients: u32,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<()> {
    let clients_text = clients.to_string();
    let threads = clients.min(2).to_string();
    let seconds = SECONDS.to_string();
    let text = pgbench(
        subject,
        &[
            "-n",
            "-S",
            "-M",
            mode,
            "-c",
            &clients_text,
            "-j",
            &threads,
            "-T",
            &seconds,
        ],
    )?;
    let rate = number(&text, "tps = ")?;
    let latency = number(&text, "latency average = ")?;
    progress(
        subject,
        case,
        &format!("{rate:.0} tps, {:.0} µs", latency * 1000.0),
    );
    figures.push(figure(subject, case, "rate", rate, "1/s"));
    figures.push(figure(subject, case, "latency", latency * 1000.0, "µs"));
    Ok(())
}

fn connects(subject: &Subject, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let case = "connect and log in (SCRAM), c=4";
    let seconds = SECONDS.to_string();
    let text = pgbench(
        subject,
        &["-n", "-S", "-C", "-c", "4", "-j", "2", "-T", &seconds],
    )?;
    let rate = number(&text, "tps = ")?;
    progress(subject, case, &format!("{rate:.0} connections/s"));
    figures.push(figure(subject, case, "rate", rate, "1/s"));
    Ok(())
}

fn copy(subject: &Subject, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let case = "COPY to the client";
    let program = place::postgres_programs()?.join("psql");
    let program = program.to_string_lossy();
    let conninfo = subject.dsn.conninfo();
    // The bytes go nowhere, and the best run counts: it is the hop that is measured.
    let script = r#"exec "$0" -X -q -w -d "$1" -c "$2" | wc -c"#;
    let mut best: Option<(f64, Duration)> = None;
    for _ in 0..3 {
        let begun = Instant::now();
        let finished = subject.client.run(
            "sh",
            &["-c", script, &program, &conninfo, "copy bulk to stdout"],
        )?;
        let took = begun.elapsed();
        let bytes: f64 = finished
            .ok()?
            .trim()
            .parse()
            .context("read the number of bytes")?;
        ensure!(
            bytes > 1e7,
            "the COPY through {} broke off after {bytes} bytes",
            subject.name
        );
        if best.is_none_or(|(_, least)| took < least) {
            best = Some((bytes, took));
        }
    }
    let (bytes, took) = best.context("no run")?;
    let rate = bytes / took.as_secs_f64() / 1e6;
    progress(
        subject,
        case,
        &format!("{:.0} MB at {rate:.0} MB/s", bytes / 1e6),
    );
    figures.push(figure(subject, case, "throughput", rate, "MB/s"));
    Ok(())
}

/// What a session costs that does nothing: memory of the hop with 500 of them, less without.
fn idle(lab: &Lab, subject: &Subject, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let Some(pid) = subject.pid else {
        return Ok(());
    };
    let case = "memory of an idle session";
    let before = resident(pid)?;
    let directory = place::temporary("idle")?;
    let script = directory.path().join("idle.sql");
    fs::write(&script, "select 1;\n\\sleep 60 s\n").context("write the idle script")?;
    let clients = IDLE.to_string();
    let script = script.to_string_lossy();
    let command = command(
        subject,
        &["-n", "-f", &script, "-c", &clients, "-j", "2", "-t", "1"],
    )?;
    let process = Process::start(command)?;
    let wanted = u64::from(IDLE);
    support::wait::for_fact("the idle sessions", DEADLINE, || {
        ensure!(!process.is_over(), "pgbench ended: {}", process.log());
        let open: u64 = lab
            .server
            .admin("select count(*) from pg_stat_activity where usename = 'shop_app' and state = 'idle' and query = 'select 1;'")?
            .trim()
            .parse()
            .context("count the sessions")?;
        Ok((open >= wanted).then_some(()))
    })?;
    let more = resident(pid)?.saturating_sub(before);
    drop(process);
    let each = f64::from(u32::try_from(more).unwrap_or(u32::MAX)) / f64::from(IDLE);
    progress(subject, case, &format!("{each:.1} KiB"));
    figures.push(figure(subject, case, "memory", each, "KiB"));
    gone(lab)
}

/// The next subject starts when the sessions of this one are gone.
fn gone(lab: &Lab) -> anyhow::Result<()> {
    support::wait::for_fact("the end of the idle sessions", DEADLINE, || {
        let open = lab
            .server
            .admin("select count(*) from pg_stat_activity where usename = 'shop_app' and query = 'select 1;'")?;
        Ok((open.trim() == "0").then_some(()))
    })
}

/// Resident memory of a process and its children, in KiB.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let read = |pid: u32| -> anyhow::Result<u64> {
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).context("read a hop's memory")?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .context("read a hop's memory")
    };
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut sum = read(pid)?;
    for child in children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
    {
        sum += read(child).unwrap_or(0);
    }
    Ok(sum)
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

fn figure(
    subject: &Subject,
    case: &str,
    metric: &'static str,
    value: f64,
    unit: &'static str,
) -> Figure {
    Figure {
        subject: subject.name,
        case: case.to_owned(),
        metric,
        value,
        unit,
    }
}

fn progress(subject: &Subject, case: &str, text: &str) {
    println!("{case:<34} {:<22} {text}", subject.name);
}
