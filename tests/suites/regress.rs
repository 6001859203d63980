//! PostgreSQL's own regression SQL, as psql's scripts: what psql prints must be the same both ways.
//!
//! Each file runs in one database, in an order in which files come after those whose tables they use.
//! What the files lack here (a shared library, data) fails, the same both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use support::place;

use crate::exceptions;
use crate::pair::{self, Pair, Way};

/// How long one file may take: the longest takes a few seconds.
const FILE_WITHIN: Duration = Duration::from_secs(240);

/// What others stand on, in their order; the rest follows by name.
const FIRST: [&str; 16] = [
    "test_setup",
    "create_function_c",
    "copy",
    "create_misc",
    "create_operator",
    "create_procedure",
    "create_table",
    "create_type",
    "create_index",
    "create_view",
    "create_aggregate",
    "create_function_sql",
    "create_cast",
    "inherit",
    "vacuum",
    "create_am",
];

/// The part that every `cargo xtask test` runs, beside `test_setup`: what the protocol and the reading
/// of texts are most easily wrong on. Beside each, how many errors it prints at most: those that it is about, and
/// those of what is lacking here. Where there are more, what it stands on is broken, the same both ways.
const TELLING: [(&str, usize); 30] = [
    ("advisory_lock", 0),
    ("async", 3),
    ("combocid", 0),
    ("copy", 11),
    ("copy2", 35),
    ("copydml", 15),
    ("copyselect", 7),
    ("create_procedure", 22),
    ("create_view", 20),
    ("errors", 83),
    ("guc", 16),
    ("insert_conflict", 41),
    ("json_encoding", 18),
    ("largeobject", 1),
    ("limit", 3),
    ("merge", 30),
    ("namespace", 2),
    ("plpgsql", 110),
    ("portals", 18),
    ("portals_p2", 0),
    ("prepare", 5),
    ("prepared_xacts", 20),
    ("privileges", 197),
    ("psql", 23),
    ("returning", 3),
    ("strings", 72),
    ("subselect", 1),
    ("temp", 20),
    ("transactions", 49),
    ("with", 58),
];

/// How many files there are, and how many errors they print at most.
const WHOLE: (usize, usize) = (217, 20_000);

/// What `pg_regress` sets for its database.
const SETTINGS: [&str; 9] = [
    "create database regression template template0",
    "alter database regression set lc_messages to 'C'",
    "alter database regression set lc_monetary to 'C'",
    "alter database regression set lc_numeric to 'C'",
    "alter database regression set lc_time to 'C'",
    "alter database regression set bytea_output to 'hex'",
    "alter database regression set timezone to 'PST8PDT'",
    "alter database regression set datestyle to 'Postgres, MDY'",
    "alter system set autovacuum to off",
];

/// What one way printed, by file.
type Printed = BTreeMap<String, String>;

#[test]
fn the_regression_sql_prints_the_same_directly_and_through_the_daemon() -> Result<()> {
    let pair = Pair::start(&["regression"], &SETTINGS)?;
    for way in [Way::Direct, Way::Through] {
        pair.server(way).admin("select pg_reload_conf()")?;
        pair.prepare(way, "regression", &temporary_schemas())?;
    }
    let files = pair::source("pglast")?.join("libpg_query/test/sql/postgres_regress");
    let names = order(&files)?;
    let (direct, through) = thread::scope(|scope| {
        let run = |way| {
            let (pair, files, names) = (&pair, &files, &names);
            scope.spawn(move || one_way(pair, way, files, names))
        };
        let (direct, through) = (run(Way::Direct), run(Way::Through));
        (direct.join(), through.join())
    });
    let panicked = |_| anyhow!("a way panicked");
    let (direct, through) = (direct.map_err(panicked)??, through.map_err(panicked)??);
    let known = exceptions::read(include_str!("regress.exceptions"))?;
    let differed = compare(&known, &direct, &through)?;
    let ran: BTreeSet<String> = names.into_iter().collect();
    let errors: usize = direct.values().map(|text| errors(text)).sum();
    println!(
        "{} files with {errors} errors, {} differ",
        ran.len(),
        differed.len()
    );
    enough(&direct, pair::whole())?;
    exceptions::hold(&known, &ran, &differed)
}

/// How often the server has said that something is wrong.
fn errors(text: &str) -> usize {
    text.matches("ERROR:").count()
}

/// Whether the files have run at all: what fails for want of a table fails the same both ways.
fn enough(direct: &Printed, whole: bool) -> Result<()> {
    for (name, most) in TELLING {
        let text = direct
            .get(name)
            .with_context(|| format!("there is no file {name}"))?;
        let errors = errors(text);
        ensure!(
            errors <= most,
            "{name} prints {errors} errors, and {most} where it runs as it should"
        );
        let status = text.trim_end().lines().last().unwrap_or_default();
        ensure!(
            status == "exit status: 0",
            "psql has left {name} with {status}"
        );
    }
    let (files, most) = WHOLE;
    let errors: usize = direct.values().map(|text| errors(text)).sum();
    ensure!(
        !whole || (direct.len() >= files && errors <= most),
        "{} files print {errors} errors; there are {files}, which print {most} at most",
        direct.len()
    );
    Ok(())
}

#[test]
fn files_that_are_not_there_or_do_nothing_but_fail_are_no_result() {
    let fine = |_| "ok\nexit status: 0\n".to_owned();
    let of = |text: fn(usize) -> String| -> Printed {
        TELLING
            .iter()
            .map(|(name, most)| ((*name).to_owned(), text(*most)))
            .collect()
    };
    assert!(enough(&of(fine), false).is_ok());
    let known = |most: usize| format!("{}exit status: 0\n", "ERROR:  no\n".repeat(most));
    assert!(enough(&of(known), false).is_ok());
    let broken = |most: usize| format!("{}exit status: 0\n", "ERROR:  no\n".repeat(most + 1));
    assert!(
        enough(&of(broken), false).is_err(),
        "more errors than known"
    );
    let ended = |_| "psql: error: no server\nexit status: 2\n".to_owned();
    assert!(enough(&of(ended), false).is_err(), "it did not run");
    assert!(enough(&Printed::new(), false).is_err(), "a file is missing");
    assert!(enough(&of(fine), true).is_err(), "not all files");
}

/// The first session in each of the server's places makes two schemas, and which place the next
/// session gets depends on whether the last one has left yet: made before, they take no numbers later.
fn temporary_schemas() -> String {
    let made = (1..=16).map(|place| {
        format!("create schema pg_temp_{place}; create schema pg_toast_temp_{place};")
    });
    format!(
        "set allow_system_table_mods = on; {}",
        made.collect::<String>()
    )
}

/// The files to run, in order.
fn order(files: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(files).with_context(|| format!("read {}", files.display()))?;
    let mut names: BTreeSet<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_suffix(".sql").map(str::to_owned)
        })
        .collect();
    if !pair::whole() {
        let telling = |name: &str| TELLING.iter().any(|(known, _)| *known == name);
        names.retain(|name| name == "test_setup" || telling(name));
    }
    let mut order = Vec::new();
    for first in FIRST {
        order.extend(names.take(first));
    }
    order.extend(names);
    Ok(order)
}

fn one_way(pair: &Pair, way: Way, files: &Path, names: &[String]) -> Result<Printed> {
    let directory = pair.directory(way);
    pair::copy(files, &directory.join("sql"))?;
    data(&directory)?;
    let here = directory.to_string_lossy().into_owned();
    let client = pair
        .client(way)
        .told(&pair.dsn(way, "regression"))
        .with("PG_ABS_SRCDIR", &here)
        .with("PG_ABS_BUILDDIR", &here)
        .with("PG_LIBDIR", &here)
        .with("PG_DLSUFFIX", ".so")
        .with("TERM", "dumb");
    // What the daemon sets at each login.
    let client = match way {
        Way::Direct => client.with("PGOPTIONS", "-c search_path=public"),
        Way::Through => client,
    };
    let psql = place::postgres_programs()?.join("psql");
    let psql = psql.to_string_lossy();
    let kept = pair::kept("regress", way)?;
    let mut printed = Printed::new();
    for name in names {
        let file = format!("{here}/sql/{name}.sql");
        let words = [
            &*psql,
            "-a",
            "-q",
            "-X",
            "-v",
            "HIDE_TABLEAM=on",
            "-v",
            "HIDE_TOAST_COMPRESSION=on",
            "-f",
            &file,
        ];
        let finished = Pair::run(&client, FILE_WITHIN, &words)
            .with_context(|| format!("{name}, {}", way.name()))?;
        let text = steady(&pair.alike(way, &finished.stdout));
        let text = format!("{text}\n{}\n", finished.status);
        fs::write(kept.join(format!("{name}.out")), &text).context("keep an output")?;
        printed.insert(name.clone(), text);
        gone(pair, way)?;
    }
    Ok(printed)
}

/// Waits until the session's process has left the server: it tidies up, and the next must not meet it.
/// Not until those have left that the daemon keeps ready, which have asked nothing but the daemon's own.
fn gone(pair: &Pair, way: Way) -> Result<()> {
    let left = "select count(*) from pg_stat_activity where datname = 'regression' \
        and query <> '' and query not like 'BEGIN READ ONLY; SET LOCAL statement_timeout = 0;%'";
    support::wait::for_fact("the session's end", support::DEADLINE, || {
        let count = pair.server(way).admin(left)?;
        Ok((count.trim() == "0").then_some(()))
    })
}

/// The files whose outputs are not the same, with the difference.
fn compare(
    known: &BTreeMap<&str, &str>,
    direct: &Printed,
    through: &Printed,
) -> Result<BTreeMap<String, String>> {
    let kept = |way| pair::kept("regress", way);
    let (left, right) = (kept(Way::Direct)?, kept(Way::Through)?);
    let mut differed = BTreeMap::new();
    for (name, text) in direct {
        let other = through.get(name).map_or("", String::as_str);
        if !exceptions::same(known.get(name.as_str()).copied(), text, other) {
            let file = format!("{name}.out");
            let difference = pair::difference(&left.join(&file), &right.join(&file))?;
            differed.insert(name.clone(), difference);
        }
    }
    Ok(differed)
}

/// The large tables of the suite, made anew: numbers in an order that is not sorted, and what follows
/// from them.
fn data(directory: &Path) -> Result<()> {
    let data = directory.join("data");
    let results = directory.join("results");
    for made in [&data, &results] {
        fs::create_dir(made).with_context(|| format!("make {}", made.display()))?;
    }
    let mut chmod = std::process::Command::new("chmod");
    chmod.arg("0777").arg(&results);
    support::Process::run(chmod, support::DEADLINE)?.ok()?;
    fs::write(data.join("onek.data"), numbers(1_000, 389)).context("write onek")?;
    fs::write(data.join("tenk.data"), numbers(10_000, 7_919)).context("write tenk")?;
    fs::write(
        data.join("agg.data"),
        "56\t7.8\n100\t99.097\n0\t0.09561\n42\t324.78\n",
    )
    .context("write aggtest")
}

/// Rows of `onek` and `tenk1`: `factor` has no divisor in common with `count`.
fn numbers(count: u32, factor: u32) -> String {
    let letters = |mut number: u32| -> String {
        let mut name = String::new();
        for _ in 0..3 {
            name.insert(0, char::from_digit(number % 26 + 10, 36).unwrap_or('a'));
            number /= 26;
        }
        name.to_uppercase() + "AAA"
    };
    let mut text = String::new();
    for row in 0..count {
        let unique = (row * factor + 11) % count;
        let parts = [2, 4, 10, 20, 100, 1_000, 2_000, 5_000, 10_000].map(|by| unique % by);
        let parts: Vec<String> = parts.iter().map(u32::to_string).collect();
        let tail = ["HHHHxx", "OOOOxx", "VVVVxx", "AAAAxx"];
        let tail = tail
            .get(usize::try_from(row % 4).unwrap_or(0))
            .unwrap_or(&"");
        text += &format!(
            "{unique}\t{row}\t{}\t{}\t{}\t{}\t{}\t{tail}\n",
            parts.join("\t"),
            unique % 100 * 2 + 1,
            unique % 100 * 2,
            letters(unique),
            letters(row),
        );
    }
    text
}

/// A text without what differs from run to run: process numbers, and how far psql had read its file
/// when a notice came in the middle of data.
fn steady(text: &str) -> String {
    text.lines()
        .map(|line| match line.strip_prefix("psql:/way/sql/") {
            Some(rest) => rest.split_once(": ").map_or(line, |(_, said)| said),
            None => line,
        })
        .map(|line| {
            ["PID ", "pid ", "process "]
                .iter()
                .fold(line.to_owned(), |line, word| without_number(&line, word))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The digits behind each `word` taken out.
fn without_number(line: &str, word: &str) -> String {
    let mut parts = line.split(word);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += word;
        text += part.trim_start_matches(|letter: char| letter.is_ascii_digit());
    }
    text
}
