//! What is known to differ, each with its reason: a text file beside the suite, one exception a line.
//!
//! `NAME: REASON`; lines that begin with `#` and empty lines are for readers. An exception that is
//! none any more is a failure, too: the list stays as short as it can be. What may only come in another
//! order from time to time has a reason that begins with `order: `, and may be the same.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};

/// Reads a list.
pub(crate) fn read(text: &str) -> Result<BTreeMap<&str, &str>> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut known = BTreeMap::new();
    for line in lines {
        let (name, reason) = line
            .split_once(": ")
            .with_context(|| format!("an exception without a reason: {line}"))?;
        ensure!(
            known.insert(name, reason.trim()).is_none(),
            "{name} is excepted twice"
        );
    }
    Ok(known)
}

/// Whether no more than the order may differ.
pub(crate) fn is_order(reason: &str) -> bool {
    reason.starts_with("order: ")
}

/// Holds what differed among what was run against the list.
pub(crate) fn hold(
    known: &BTreeMap<&str, &str>,
    ran: &BTreeSet<String>,
    differed: &BTreeMap<String, String>,
) -> Result<()> {
    let unknown: Vec<String> = differed
        .iter()
        .filter(|(name, _)| known.get(name.as_str()).is_none_or(|why| is_order(why)))
        .map(|(name, what)| format!("{name} differs:\n{what}"))
        .collect();
    ensure!(unknown.is_empty(), "{}", unknown.join("\n"));
    let stale: Vec<&str> = known
        .iter()
        .filter(|(_, why)| !is_order(why))
        .map(|(name, _)| *name)
        .filter(|name| ran.contains(*name) && !differed.contains_key(*name))
        .collect();
    ensure!(
        stale.is_empty(),
        "excepted, but the same both ways: {}",
        stale.join(", ")
    );
    Ok(())
}

#[test]
fn what_differs_unknown_or_is_known_and_does_not_differ_fails() -> Result<()> {
    let known = read("# why\n\nold: it has a reason\nother: as well\nmixed: order: rows\n")?;
    let ran = ["old", "new", "mixed"].map(str::to_owned).into();
    let of = |name: &str| BTreeMap::from([(name.to_owned(), "-a\n+b".to_owned())]);
    ensure!(hold(&known, &ran, &of("old")).is_ok(), "a known difference");
    ensure!(hold(&known, &ran, &of("new")).is_err(), "an unknown one");
    ensure!(
        hold(&known, &ran, &of("mixed")).is_err(),
        "more than the order"
    );
    ensure!(hold(&known, &ran, &BTreeMap::new()).is_err(), "a stale one");
    ensure!(read("bare").is_err(), "no reason");
    ensure!(read("a: x\na: y").is_err(), "twice");
    Ok(())
}
