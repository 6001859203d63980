//! What the programs in the kernel cost: a connect and a packet that go out directly, a connect until the daemon
//! has it, processes outside every scope, many connects, many scopes, many network namespaces.
//!
//! Prints `SUBJECT CASE VALUE UNIT`, a line each; `cargo xtask bench kernel` makes a table of them. Needs root.
#![expect(clippy::print_stdout, reason = "what it is for")]

mod clients;
mod many;
mod programs;
mod scene;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use interceptor::capture::Verdict;
use nix::unistd::geteuid;

use self::programs::{Cost, Programs};
use self::scene::{Client, Scene};

/// How often something is done at once, and how often in all; the median counts.
const CONNECTS: u32 = 2_000;
const TRIPS: u32 = 20_000;
const PROCESSES: u32 = 200;
const TIMES: usize = 9;

/// A number by which all of these are divided, to see that all of it runs.
const PART: &str = "INTERCEPTOR_BENCH_PART";

const DIRECTLY: Verdict = Verdict::Direct {
    needs_daemon: false,
};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["client", words @ ..] = words.as_slice() {
        return clients::run(words);
    }
    ensure!(geteuid().is_root(), "this takes root");
    {
        let mut scene = Scene::new(false)?;
        costs(&scene)?;
        let runs = bystanders(&scene, "unscoped")?;
        ensure!(runs == 0, "programs ran for processes outside every scope");
        many::connects(&scene)?;
        many::namespaces(&scene)?;
        many::scopes(&mut scene)?;
    }
    // The same processes, where the configuration says `guard: host`.
    bystanders(&Scene::new(true)?, "guarded").map(drop)
}

fn show(subject: &str, case: &str, value: f64, unit: &str) {
    println!("{subject} {case} {value:.3} {unit}");
}

/// So much of it as is asked for.
fn part(whole: u32) -> anyhow::Result<u32> {
    let part = std::env::var(PART).map_or(Ok(1), |part| part.parse::<u32>());
    let part = part.with_context(|| format!("{PART} is a number"))?;
    Ok(whole.checked_div(part).unwrap_or(whole).max(1))
}

/// What one connect and one packet cost, by where they go.
fn costs(scene: &Scene) -> anyhow::Result<()> {
    let (connects, trips) = (part(CONNECTS)?, part(TRIPS)?);
    let server = scene.outside(&["serve"])?;
    let to = server.address()?;
    let port = to.port().to_string();
    let programs = &scene.programs;
    let mut free = scene.outside(&["dial", &port])?;
    let mut bound = scene.inside(&["dial", &port])?;
    scene.rules(&[(to, DIRECTLY)])?;
    let direct = compare(programs, (&mut free, &mut bound), connects)?;
    tell("direct", "connect", &direct);

    let mut free = scene.outside(&["talk", &port])?;
    let mut bound = scene.inside(&["talk", &port])?;
    // The first is the connection.
    free.round(1)?;
    bound.round(1)?;
    let packets = compare(programs, (&mut free, &mut bound), trips)?;
    tell("direct", "packet", &packets);
    drop((free, bound));

    scene.rules(&[(to, Verdict::Redirect)])?;
    let daemon = scene.accept(false)?;
    let mut free = scene.outside(&["dial", &port])?;
    let mut bound = scene.inside(&["dial", &port])?;
    let redirect = compare(&scene.programs, (&mut free, &mut bound), connects)?;
    tell("redirect", "connect", &redirect);
    drop(daemon);
    Ok(())
}

/// What it costs processes outside every scope to connect, and to be made: what ran of ours, and how long it took.
fn bystanders(scene: &Scene, subject: &str) -> anyhow::Result<u64> {
    let server = scene.outside(&["serve"])?;
    let port = server.address()?.port().to_string();
    let mut all = 0;
    for (case, words, times) in [
        ("connect", &["dial", &port][..], part(CONNECTS)?),
        ("process", &["make"][..], part(PROCESSES)?),
    ] {
        let mut client = scene.outside(words)?;
        client.round(times)?;
        let (mut took, mut taken, mut runs) = (vec![], vec![], vec![]);
        for _ in 0..TIMES {
            took.push(client.round(times)? / times);
            let counted = scene.programs.counted(|| client.round(times))?;
            taken.push(counted.0.time / times);
            runs.push(counted.0.runs);
        }
        all += median(&mut runs);
        let of = |metric: &str| format!("{case},{metric}");
        show(subject, &of("programs"), micros(median(&mut taken)), "µs");
        let each = count(median(&mut runs)) / f64::from(times);
        show(subject, &of("runs"), each, "runs");
        show(subject, &of("outside"), micros(median(&mut took)), "µs");
    }
    Ok(all)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// One thing done in a scope: what the programs took of it, and how much longer it took than outside.
struct Compared {
    programs: Duration,
    runs: f64,
    outside: Duration,
    inside: Duration,
}

/// Does something in and outside of a scope by turns, and tells the medians.
fn compare(
    programs: &Programs,
    (free, bound): (&mut Client, &mut Client),
    count_each: u32,
) -> anyhow::Result<Compared> {
    // The first time fills what is filled once.
    free.round(count_each)?;
    bound.round(count_each)?;
    let (mut outside, mut inside, mut taken, mut runs) = (vec![], vec![], vec![], vec![]);
    for _ in 0..TIMES {
        outside.push(free.round(count_each)? / count_each);
        inside.push(bound.round(count_each)? / count_each);
        // Counting costs something itself: what is counted is not what is timed.
        let (Cost { time, runs: ran }, _) = programs.counted(|| bound.round(count_each))?;
        taken.push(time / count_each);
        runs.push(ran);
    }
    Ok(Compared {
        programs: median(&mut taken),
        runs: count(median(&mut runs)) / f64::from(count_each),
        outside: median(&mut outside),
        inside: median(&mut inside),
    })
}

fn tell(subject: &str, case: &str, found: &Compared) {
    show(
        subject,
        &format!("{case},programs"),
        micros(found.programs),
        "µs",
    );
    show(subject, &format!("{case},runs"), found.runs, "runs");
    show(
        subject,
        &format!("{case},outside"),
        micros(found.outside),
        "µs",
    );
    show(
        subject,
        &format!("{case},inside"),
        micros(found.inside),
        "µs",
    );
}

fn median<T: Ord + Copy + Default>(of: &mut [T]) -> T {
    of.sort();
    of.get(of.len() / 2).copied().unwrap_or_default()
}

/// A count as a figure; counts here are far below where that would round.
fn count(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}
