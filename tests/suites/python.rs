//! The own tests of two drivers and of a mapper: what comes of each test must be the same both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use support::{Agent, place};

use crate::exceptions;
use crate::pair::{self, Pair, Way};

/// What the runners say of a module that cannot be imported.
const UNLOADED: &str = "unloaded";

/// How long a suite may take: the longest takes about ten minutes.
const SUITE_WITHIN: Duration = Duration::from_secs(2_400);

/// A driver's own tests.
struct Suite {
    /// The name of its source.
    name: &'static str,
    /// The directories that its tests need.
    parts: &'static [&'static str],
    databases: &'static [&'static str],
    /// What is run before, on each server.
    statements: &'static [&'static str],
    /// What is run before, in the first of its databases.
    inside: &'static [&'static str],
    /// What runs it: Python's words.
    runner: &'static [&'static str],
    /// How its tests learn where the server is.
    told: fn(&Pair, Way, Agent) -> Agent,
    /// The part that every `cargo xtask test` runs, as the runner names it.
    telling: &'static [&'static str],
    /// All of it; none where the runner looks for itself.
    all: &'static [&'static str],
    least: Least,
    exceptions: &'static str,
}

/// How many tests pass at least on each way, of the telling part and of all: where fewer do, the suite itself is
/// broken, the same both ways, and shows nothing.
struct Least {
    telling: usize,
    all: usize,
}

const PSYCOPG2: Suite = Suite {
    name: "psycopg2",
    parts: &["tests"],
    databases: &["psycopg2_test"],
    statements: &["create database psycopg2_test"],
    inside: &[],
    runner: &["runner.py"],
    told: |pair, way, agent| {
        let dsn = pair.dsn(way, "psycopg2_test");
        let agent = agent
            .with("PSYCOPG2_TESTDB_HOST", &dsn.host)
            .with("PSYCOPG2_TESTDB_PORT", &dsn.port.to_string())
            .with("PSYCOPG2_TESTDB_USER", &dsn.user);
        match &dsn.password {
            Some(password) => agent.with("PSYCOPG2_TESTDB_PASSWORD", password),
            None => agent,
        }
    },
    telling: &[
        "tests.test_async",
        "tests.test_cancel",
        "tests.test_copy",
        "tests.test_cursor",
        "tests.test_lobject",
        "tests.test_transaction",
        "tests.test_types_basic",
        "tests.test_with",
    ],
    all: &[],
    least: Least {
        telling: 195,
        all: 500,
    },
    exceptions: include_str!("psycopg2.exceptions"),
};

const ASYNCPG: Suite = Suite {
    name: "asyncpg",
    parts: &["tests"],
    databases: &["postgres", "asyncpg_intro_test", "testdb"],
    statements: &[],
    inside: &[],
    runner: &["runner.py"],
    told: |pair, way, agent| {
        let dsn = pair.dsn(way, "postgres");
        let agent = agent
            .with("PGHOST", &dsn.host)
            .with("PGUSER", &dsn.user)
            .with("PGPORT", &dsn.port.to_string());
        match &dsn.password {
            Some(password) => agent.with("PGPASSWORD", password),
            None => agent,
        }
    },
    telling: &[
        "tests.test_cancellation",
        "tests.test_codecs",
        "tests.test_copy",
        "tests.test_cursor",
        "tests.test_execute",
        "tests.test_listeners",
        "tests.test_prepare",
        "tests.test_transaction",
    ],
    all: &[],
    least: Least {
        telling: 145,
        all: 250,
    },
    exceptions: include_str!("asyncpg.exceptions"),
};

/// Its dialect's tests, as psycopg 3 brings them to the server. Its own source is what is tested.
const SQLALCHEMY: Suite = Suite {
    name: "sqlalchemy",
    parts: &["test", "lib", "setup.cfg", "pyproject.toml"],
    databases: &["sqlalchemy"],
    statements: &["create database sqlalchemy"],
    inside: &[
        "create schema test_schema",
        "create extension hstore",
        "create extension citext",
    ],
    runner: &[
        "-m",
        "pytest",
        "-p",
        "lines",
        "-p",
        "no:cacheprovider",
        "--quiet",
        "--maxfail=100000",
    ],
    told: |pair, way, agent| {
        let dsn = pair.dsn(way, "sqlalchemy");
        let password = dsn.password.clone().unwrap_or_default();
        agent.with(
            "SUITE_URL",
            &format!(
                "postgresql+psycopg://{}:{password}@{}:{}/{}",
                dsn.user, dsn.host, dsn.port, dsn.database
            ),
        )
    },
    telling: &[
        "test/dialect/postgresql/test_on_conflict.py",
        "test/dialect/postgresql/test_query.py",
    ],
    all: &["test/dialect/test_suite.py", "test/dialect/postgresql"],
    least: Least {
        telling: 125,
        all: 1000,
    },
    exceptions: include_str!("sqlalchemy.exceptions"),
};

#[test]
fn psycopg2s_own_tests_come_out_the_same_directly_and_through_the_daemon() -> Result<()> {
    check(&PSYCOPG2)
}

#[test]
fn asyncpgs_own_tests_come_out_the_same_directly_and_through_the_daemon() -> Result<()> {
    check(&ASYNCPG)
}

#[test]
fn sqlalchemys_tests_of_its_dialect_come_out_the_same_directly_and_through_the_daemon() -> Result<()>
{
    check(&SQLALCHEMY)
}

/// What came of each test: an outcome and why.
type Outcomes = BTreeMap<String, (String, String)>;

fn check(suite: &Suite) -> Result<()> {
    let pair = Pair::start(suite.databases, suite.statements)?;
    for (way, sql) in [Way::Direct, Way::Through]
        .iter()
        .flat_map(|way| suite.inside.iter().map(move |sql| (*way, sql)))
    {
        let database = suite.databases.first().context("a database")?;
        pair.prepare(way, database, sql)?;
    }
    let (direct, through) = thread::scope(|scope| {
        let run = |way| {
            let pair = &pair;
            scope.spawn(move || one_way(suite, pair, way))
        };
        let (direct, through) = (run(Way::Direct), run(Way::Through));
        (direct.join(), through.join())
    });
    let panicked = |_| anyhow!("a way panicked");
    let (direct, through) = (direct.map_err(panicked)??, through.map_err(panicked)??);
    let mut ran = BTreeSet::new();
    let mut differed = BTreeMap::new();
    for name in direct.keys().chain(through.keys()) {
        let (left, right) = (direct.get(name), through.get(name));
        if left != right {
            let said = |side: Option<&(String, String)>| match side {
                Some((outcome, why)) => format!("{outcome} {why}"),
                None => "not run".to_owned(),
            };
            differed.insert(name.clone(), format!("-{}\n+{}", said(left), said(right)));
        }
        ran.insert(name.clone());
    }
    println!(
        "{}: {} tests; passed {} directly, {} through; {} differ",
        suite.name,
        ran.len(),
        passed(&direct),
        passed(&through),
        differed.len()
    );
    let least = if pair::whole() {
        suite.least.all
    } else {
        suite.least.telling
    };
    for (way, outcomes) in [(Way::Direct, &direct), (Way::Through, &through)] {
        enough(outcomes, least).with_context(|| format!("{}, {}", suite.name, way.name()))?;
    }
    exceptions::hold(&exceptions::read(suite.exceptions)?, &ran, &differed)
}

fn passed(outcomes: &Outcomes) -> usize {
    let passed = outcomes.values().filter(|(what, _)| what == "passed");
    passed.count()
}

/// Whether a suite has run at all: what cannot be loaded and what is skipped is the same both ways, too.
fn enough(outcomes: &Outcomes, least: usize) -> Result<()> {
    let unloaded: Vec<String> = outcomes
        .iter()
        .filter(|(_, (what, _))| what == UNLOADED)
        .map(|(name, (_, why))| format!("{name} {why}"))
        .collect();
    ensure!(
        unloaded.is_empty(),
        "tests that cannot be loaded:\n{}",
        unloaded.join("\n")
    );
    let passed = passed(outcomes);
    ensure!(
        passed >= least,
        "only {passed} of {} tests have passed, of which at least {least} do where the suite is whole",
        outcomes.len()
    );
    Ok(())
}

#[test]
fn a_suite_that_cannot_be_loaded_or_that_hardly_runs_fails() {
    let of = |lines: &[(&str, &str)]| -> Outcomes {
        lines
            .iter()
            .map(|(name, what)| ((*name).to_owned(), ((*what).to_owned(), String::new())))
            .collect()
    };
    let whole = of(&[("a", "passed"), ("b", "passed"), ("c", "skipped")]);
    assert!(enough(&whole, 2).is_ok());
    assert!(enough(&whole, 3).is_err(), "what is skipped shows nothing");
    assert!(enough(&of(&[]), 1).is_err(), "nothing has run");
    let broken = of(&[("a", "passed"), ("b", "passed"), ("tests.x", UNLOADED)]);
    assert!(enough(&broken, 2).is_err(), "a module was not loaded");
}

fn one_way(suite: &Suite, pair: &Pair, way: Way) -> Result<Outcomes> {
    let directory = pair.directory(way);
    let source = pair::source(suite.name)?;
    for part in suite.parts {
        pair::copy(&source.join(part), &directory.join(part))?;
    }
    // What the tests themselves stand on.
    let beside = source
        .parent()
        .map(|home| home.join("python"))
        .context("find the suites")?;
    pair::copy(&beside, &directory.join("beside"))?;
    for (name, text) in [
        ("runner.py", include_str!("runner.py")),
        ("lines.py", include_str!("lines.py")),
    ] {
        fs::write(directory.join(name), text).context("write a runner")?;
    }
    let here = directory.to_string_lossy().into_owned();
    let client = (suite.told)(pair, way, pair.client(way))
        .with("HOME", &here)
        .with("OUTCOMES", &format!("{here}/outcomes"))
        .with("PYTHONPATH", &format!("{here}:{here}/lib:{here}/beside"))
        .with("PYTHONDONTWRITEBYTECODE", "1");
    let chosen = if pair::whole() {
        suite.all
    } else {
        suite.telling
    };
    let python = place::python()?;
    let python = python.to_string_lossy();
    let enter = r#"cd "$HOME" && exec "$@" ${SUITE_URL:+--dburi="$SUITE_URL"}"#;
    let words = [&["-c", enter, "sh", &*python][..], suite.runner, chosen].concat();
    let finished = support::Process::run(client.command("sh", &words), SUITE_WITHIN)
        .with_context(|| format!("{}, {}", suite.name, way.name()))?;
    let said = fs::read_to_string(directory.join("outcomes")).unwrap_or_default();
    let kept = pair::kept(suite.name, way)?;
    fs::write(kept.join("outcomes"), &said)
        .and_then(|()| fs::write(kept.join("log"), finished.stdout + &finished.stderr))
        .context("keep the outcomes")?;
    ensure!(
        said.contains("\nran "),
        "{}, {}, ended with {}:\n{}",
        suite.name,
        way.name(),
        finished.status,
        finished.stderr
    );
    Ok(outcomes(pair, way, &said))
}

fn outcomes(pair: &Pair, way: Way, said: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in said.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(outcome), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        if outcome != "ran" {
            let why = without_addresses(&pair.alike(way, words.next().unwrap_or_default()));
            outcomes.insert(name.to_owned(), (outcome.to_owned(), why));
        }
    }
    outcomes
}

/// Where an object lies in memory is nobody's business.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split("0x");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept += "0x";
        kept += part.trim_start_matches(|letter: char| letter.is_ascii_hexdigit());
    }
    kept
}
