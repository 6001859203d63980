//! Every test, tier by tier, with `cargo test` and a summary; what needs root gets root or fails.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use support::place;

use crate::root::{self, Root};
use crate::setup::{self, For, Ready};
use crate::shell::{self, cargo, run};
use crate::stage::Stage;

/// The tests inside the crates.
const UNIT: &str = "unit";

/// A tier above the unit tests: `tests/<name>/main.rs`.
pub(crate) struct Tier {
    /// Its directory.
    pub(crate) name: &'static str,
    /// Whether it makes cgroups, namespaces and attaches programs.
    pub(crate) root: bool,
}

/// All tiers, in the order in which they run.
pub(crate) const TIERS: [Tier; 6] = [
    Tier {
        name: "protocol",
        root: false,
    },
    Tier {
        name: "policy",
        root: false,
    },
    Tier {
        name: "kernel",
        root: true,
    },
    Tier {
        name: "e2e",
        root: true,
    },
    Tier {
        name: "hostile",
        root: true,
    },
    Tier {
        name: "suites",
        root: true,
    },
];

/// The foreign suites by the names of their tests.
const SUITES: [(&str, &str); 8] = [
    ("regress", "regress::"),
    ("psycopg2", "python::psycopg2"),
    ("asyncpg", "python::asyncpg"),
    ("sqlalchemy", "python::sqlalchemy"),
    ("sqlsmith", "sqlsmith::"),
    ("openssh", "openssh::"),
    ("asyncssh", "ssh::asyncssh"),
    ("paramiko", "ssh::paramiko"),
];

/// What is run once more over a newer PostgreSQL than Debian's: the tier, its tests, what the summary says.
const NEWER: [(&str, &[&str], &str); 3] = [
    // Debian's `psql` does not know the newer server's catalog, nor does its `pg_dump` take it.
    (
        "protocol",
        &["--skip", "what_clients_ask_the_catalog_is_answered"],
        "protocol, 18",
    ),
    ("e2e", &["matrix::", "masks::", "discover::"], "e2e, 18"),
    ("hostile", &["startups::"], "hostile, 18"),
];

/// The line of the test harness behind which are what failed and why, until the result.
const FAILURES: &str = "failures:";

/// What one tier came to.
struct Score {
    name: String,
    passed: u32,
    failed: u32,
    ignored: u32,
    took: Duration,
    whole: bool,
    /// What those that failed had to say, in the lines of the test harness.
    said: Vec<String>,
}

/// `cargo xtask test [TIER…]`: all of them where none is named.
pub(crate) fn tiers(chosen: &[&str]) -> anyhow::Result<()> {
    let known = existing()?;
    let is_known = |name: &&&str| **name == UNIT || known.iter().any(|tier| tier.name == **name);
    if let Some(unknown) = chosen.iter().find(|name| !is_known(name)) {
        let names: Vec<_> = known.iter().map(|tier| tier.name).collect();
        bail!(
            "no tier {unknown:?}; there are {UNIT}, {}",
            names.join(", ")
        );
    }
    let is_chosen = |name: &str| chosen.is_empty() || chosen.contains(&name);
    let ready = setup::clients(For::Test)?;
    let suites = setup::suites(&ready)?;
    match chosen.is_empty() {
        true => run(cargo(&["build", "--workspace", "--all-targets"]))?,
        false => program()?,
    }
    let stage = Stage::set(&shell::target().join("debug/interceptor"), &ready)?;
    let way = root::way();
    if way == Root::Sudo {
        root::authenticate("run the tests on the real kernel")?;
    }
    let mut variables = stage.variables(&ready);
    let mut scores = Vec::new();
    if is_chosen(UNIT) {
        // Some of them make mounts, cgroups and processes of other users; without root these fail, and say so.
        let arguments = ["--workspace", "--lib", "--bins"];
        scores.push(tier(
            UNIT,
            &arguments,
            &[],
            way != Root::Missing,
            &variables,
        )?);
    }
    variables.push(("INTERCEPTOR_SUITES", shell::text(&suites)));
    if is_chosen("e2e") {
        variables.extend(cluster()?);
    }
    let mut left_out = Vec::new();
    for known in known.into_iter().filter(|known| is_chosen(known.name)) {
        if known.root && way == Root::Missing {
            left_out.push(known.name);
            continue;
        }
        let arguments = ["--workspace", "--test", known.name];
        scores.push(tier(known.name, &arguments, &[], known.root, &variables)?);
        scores.extend(newer(known, &stage, &ready, &variables)?);
    }
    summary(&scores);
    if !left_out.is_empty() {
        bail!(
            "not run, because they need root and there is neither root nor sudo: {}",
            left_out.join(", ")
        );
    }
    if scores.iter().any(|score| score.failed > 0 || !score.whole) {
        bail!("there are failures above");
    }
    Ok(())
}

/// What of a tier is run over a newer PostgreSQL too.
fn newer(
    known: &Tier,
    stage: &Stage,
    ready: &Ready,
    variables: &[(&'static str, String)],
) -> anyhow::Result<Option<Score>> {
    let Some((_, filter, name)) = NEWER.iter().find(|(tier, ..)| *tier == known.name) else {
        return Ok(None);
    };
    let programs = stage.newer(&setup::newer()?, ready)?;
    let mut variables = variables.to_vec();
    variables.retain(|(name, _)| *name != place::POSTGRES_PROGRAMS);
    variables.push((place::POSTGRES_PROGRAMS, shell::text(&programs)));
    let arguments = ["--workspace", "--test", known.name];
    let score = tier(known.name, &arguments, filter, known.root, &variables)?;
    Ok(Some(Score {
        name: (*name).to_owned(),
        whole: score.whole && score.passed > 0,
        ..score
    }))
}

/// Where the tests find a Kubernetes API server, and a client of it.
fn cluster() -> anyhow::Result<[(&'static str, String); 2]> {
    Ok([
        ("INTERCEPTOR_KUBERNETES", shell::text(&setup::kubernetes()?)),
        ("INTERCEPTOR_HELM", shell::text(&setup::helm()?)),
    ])
}

/// The program under test, and the client that is none of the machine's.
fn program() -> anyhow::Result<()> {
    run(cargo(&[
        "build",
        "--workspace",
        "--bin",
        "interceptor",
        "--example",
        "tokio-postgres",
    ]))
}

/// `cargo xtask e2e FILTER…`.
pub(crate) fn end_to_end(filter: &[&str]) -> anyhow::Result<()> {
    let ready = setup::clients(For::EndToEnd)?;
    program()?;
    let stage = Stage::set(&shell::target().join("debug/interceptor"), &ready)?;
    if root::way() == Root::Missing {
        bail!("the end-to-end tests need root: run them as root, or install sudo");
    }
    let mut variables = stage.variables(&ready);
    let is_wanted = |filter: &&str| "kube::".contains(*filter) || filter.contains("kube");
    if filter.is_empty() || filter.iter().any(is_wanted) {
        variables.extend(cluster()?);
    }
    let score = tier(
        "e2e",
        &["--workspace", "--test", "e2e"],
        filter,
        true,
        &variables,
    )?;
    if score.passed + score.failed == 0 {
        bail!("no test's name contains {filter:?}");
    }
    let good = score.failed == 0 && score.whole;
    summary(&[score]);
    if !good {
        bail!("there are failures above");
    }
    Ok(())
}

/// `cargo xtask suite NAME [--seconds N]`: all of a foreign suite, not only its telling part.
pub(crate) fn suite(name: &str, seconds: Option<&str>) -> anyhow::Result<()> {
    let Some((_, filter)) = SUITES.iter().find(|(known, _)| *known == name) else {
        let known = SUITES.map(|(known, _)| known).join(", ");
        bail!("no suite {name:?}; there are {known}");
    };
    let ready = setup::clients(For::Test)?;
    let suites = setup::suites(&ready)?;
    run(cargo(&["build", "--workspace", "--bin", "interceptor"]))?;
    let stage = Stage::set(&shell::target().join("debug/interceptor"), &ready)?;
    if root::way() == Root::Missing {
        bail!("the suites need root: run them as root, or install sudo");
    }
    let mut variables = stage.variables(&ready);
    variables.push(("INTERCEPTOR_SUITES", shell::text(&suites)));
    variables.push(("INTERCEPTOR_SUITE", "whole".to_owned()));
    if let Some(seconds) = seconds {
        variables.push(("INTERCEPTOR_SUITE_SECONDS", seconds.to_owned()));
    }
    let score = tier(
        "suites",
        &["--workspace", "--test", "suites"],
        &[filter, "--nocapture"],
        true,
        &variables,
    )?;
    let good = score.failed == 0 && score.passed > 0 && score.whole;
    summary(&[score]);
    if !good {
        bail!("there are failures above");
    }
    Ok(())
}

/// Every tier, held against the directories: one without a row would never run.
fn existing() -> anyhow::Result<Vec<&'static Tier>> {
    let tests = place::workspace().join("tests");
    for entry in tests.read_dir().context("read tests/")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().join("main.rs").is_file() && !TIERS.iter().any(|tier| tier.name == name) {
            bail!("tests/{name} is not a tier that xtask knows; name it in xtask/src/test.rs");
        }
    }
    // A tier that is gone would otherwise pass in silence.
    let is_gone = |tier: &&Tier| !tests.join(tier.name).join("main.rs").is_file();
    if let Some(gone) = TIERS.iter().find(is_gone) {
        bail!(
            "tests/{}/main.rs is not there; xtask/src/test.rs names it",
            gone.name
        );
    }
    Ok(TIERS.iter().collect())
}

/// One `cargo test`, always of the whole workspace so that nothing is built twice with other features; shown as it goes, counted on the way.
fn tier(
    name: &str,
    arguments: &[&str],
    filter: &[&str],
    as_root: bool,
    variables: &[(&'static str, String)],
) -> anyhow::Result<Score> {
    println!("\n== {name}");
    let begun = Instant::now();
    let mut command = cargo(&["test", "--no-fail-fast"]);
    command.args(arguments).arg("--").args(filter);
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    if as_root && root::way() == Root::Sudo {
        let (name, runner) = runner(variables)?;
        command.env(name, runner);
    }
    println!("$ {}", shell::line(&command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    let mut score = Score {
        name: name.to_owned(),
        passed: 0,
        failed: 0,
        ignored: 0,
        took: Duration::ZERO,
        whole: false,
        said: Vec::new(),
    };
    if let Some(output) = child.stdout.take() {
        let mut is_of_failures = false;
        for line in BufReader::new(output).lines() {
            let line = line.context("read what cargo test says")?;
            println!("{line}");
            count(&line, &mut score);
            is_of_failures =
                line == FAILURES || is_of_failures && !line.starts_with("test result: ");
            if is_of_failures && line != FAILURES {
                score.said.push(line);
            }
        }
    }
    let status = child.wait().context("wait for cargo test")?;
    score.whole = status.success();
    score.took = begun.elapsed();
    Ok(score)
}

/// Cargo builds as the user and starts the test binaries through sudo.
fn runner(variables: &[(&'static str, String)]) -> anyhow::Result<(String, String)> {
    let host = shell::host()?;
    let name = format!(
        "CARGO_TARGET_{}_RUNNER",
        host.to_uppercase().replace('-', "_")
    );
    let mut words = vec!["sudo".to_owned(), "--".to_owned(), "env".to_owned()];
    words.extend(
        variables
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    for kept in ["CI", "RUST_BACKTRACE"] {
        if let Ok(value) = env::var(kept) {
            words.push(format!("{kept}={value}"));
        }
    }
    Ok((name, words.join(" ")))
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn count(line: &str, score: &mut Score) {
    let Some(rest) = line.strip_prefix("test result: ") else {
        return;
    };
    let words: Vec<&str> = rest
        .split([' ', ';', '.'])
        .filter(|word| !word.is_empty())
        .collect();
    for pair in words.windows(2) {
        let [number, what] = pair else { continue };
        let Ok(number) = number.parse::<u32>() else {
            continue;
        };
        match *what {
            "passed" => score.passed += number,
            "failed" => score.failed += number,
            "ignored" => score.ignored += number,
            _ => {}
        }
    }
}

/// What failed, once more where it is found, and the table.
fn summary(scores: &[Score]) {
    for score in scores.iter().filter(|score| !score.said.is_empty()) {
        println!("\n== failures of {}", score.name);
        for line in &score.said {
            println!("{line}");
        }
    }
    println!(
        "\n{:<13} {:>7} {:>7} {:>9}",
        "tier", "passed", "failed", "seconds"
    );
    for score in scores {
        println!(
            "{:<13} {:>7} {:>7} {:>9.1}{}",
            score.name,
            score.passed,
            score.failed,
            score.took.as_secs_f64(),
            if score.whole || score.failed > 0 {
                ""
            } else {
                "  did not finish"
            },
        );
    }
}
