//! What came of the tests of a suite, and whether it is the same both ways.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

use crate::exceptions;
use crate::pair::Way;

/// What the runners say of a module that cannot be imported.
const UNLOADED: &str = "unloaded";

/// What came of each test: an outcome and why.
pub(crate) type Outcomes = BTreeMap<String, (String, String)>;

/// Holds what came of both ways against each other, and against what is known to differ.
pub(crate) fn alike(
    suite: &str,
    ways: [(Way, &Outcomes); 2],
    least: usize,
    known: &str,
) -> Result<()> {
    let [(_, direct), (_, through)] = ways;
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
        "{suite}: {} tests; passed {} directly, {} through; {} differ",
        ran.len(),
        passed(direct),
        passed(through),
        differed.len()
    );
    for (way, outcomes) in ways {
        enough(outcomes, least).with_context(|| format!("{suite}, {}", way.name()))?;
    }
    exceptions::hold(&exceptions::read(known)?, &ran, &differed)
}

/// Reads the lines of a runner: an outcome, a test, and why, with what is different by nature made the same.
pub(crate) fn read(said: &str, same: impl Fn(&str) -> String) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in said.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(outcome), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        if !NOT_OUTCOMES.contains(&outcome) {
            let why = without_addresses(&same(words.next().unwrap_or_default()));
            outcomes.insert(name.to_owned(), (outcome.to_owned(), why));
        }
    }
    outcomes
}

/// What the runners say besides: how many have run, and which of those that passed have gone through the daemon.
const NOT_OUTCOMES: [&str; 2] = ["ran", CROSSED];
const CROSSED: &str = "crossed";

/// How many tests have passed that have gone through the daemon.
pub(crate) fn crossed(said: &str) -> usize {
    let of = |what: &str| -> BTreeSet<&str> {
        let lines = said.lines().filter_map(|line| line.split_once(' '));
        let lines = lines.filter(|(outcome, _)| *outcome == what);
        lines.map(|(_, name)| name).collect()
    };
    of(CROSSED).intersection(&of("passed")).count()
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

#[test]
fn what_has_gone_through_the_daemon_is_counted_once() {
    let said = "passed a\ncrossed a\ncrossed a\npassed b\ncrossed c\nfailed c\nran 3\n";
    assert_eq!(crossed(said), 1, "one has failed, and one has not gone");
    let read = read(said, str::to_owned);
    assert_eq!(read.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}
