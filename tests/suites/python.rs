//! The own tests of two drivers and of a mapper: what comes of each test must be the same both ways.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use support::{Agent, place};

use crate::outcomes::{self, Outcomes};
use crate::pair::{self, Pair, Way};

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
    let least = if pair::whole() {
        suite.least.all
    } else {
        suite.least.telling
    };
    let ways = [(Way::Direct, &direct), (Way::Through, &through)];
    outcomes::alike(suite.name, ways, least, suite.exceptions)
}

fn one_way(suite: &Suite, pair: &Pair, way: Way) -> Result<Outcomes> {
    let directory = pair.directory(way);
    pair::lay_out(suite.name, suite.parts, &directory)?;
    let here = directory.to_string_lossy().into_owned();
    let client = (suite.told)(pair, way, pair.client(way))
        .with("HOME", &here)
        .with("OUTCOMES", &format!("{here}/outcomes"))
        .with("PYTHONPATH", &format!("{here}:{here}/lib:{here}/beside"))
        .with("PYTHONDONTWRITEBYTECODE", "1")
        .with("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1");
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
    Ok(outcomes::read(&said, |why| pair.alike(way, why)))
}
