//! What is known to differ, each with its reason: a text file beside the suite, one exception a line.
//!
//! `NAME: REASON`; lines that begin with `#` and empty lines are for readers. A `*` in a name stands for any
//! letters, where many differ for one reason: some of those that it names must. An exception that is
//! none any more is a failure, too: the list stays as short as it can be. Three kinds may be none from
//! time to time: `NAME: order: REASON` for lines in another order, `NAME: one line: REASON`, and
//! `NAME: sometimes: REASON`.

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

/// Whether a name of a list names this.
fn names(known: &str, name: &str) -> bool {
    let Some((begins, rest)) = known.split_once('*') else {
        return known == name;
    };
    let Some(mut name) = name.strip_prefix(begins) else {
        return false;
    };
    let (between, ends) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in between.split('*') {
        match name.split_once(part) {
            Some((_, behind)) => name = behind,
            None => return false,
        }
    }
    name.ends_with(ends)
}

/// Whether the exception is only for a part of what may differ.
fn is_narrow(reason: &str) -> bool {
    reason.starts_with("order: ") || reason.starts_with("one line: ")
}

/// Whether the exception may be none.
fn is_loose(reason: &str) -> bool {
    is_narrow(reason) || reason.starts_with("sometimes: ")
}

/// Whether two texts are the same, or differ in no more than a narrow exception allows.
pub(crate) fn same(reason: Option<&str>, left: &str, right: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let reason = reason.unwrap_or_default();
    if reason.starts_with("order: ") {
        sorted(left) == sorted(right)
    } else if reason.starts_with("one line: ") {
        let other = left.lines().zip(right.lines()).filter(|(a, b)| a != b);
        left.lines().count() == right.lines().count() && other.count() <= 1
    } else {
        left == right
    }
}

/// Holds what differed among what was run against the list.
pub(crate) fn hold(
    known: &BTreeMap<&str, &str>,
    ran: &BTreeSet<String>,
    differed: &BTreeMap<String, String>,
) -> Result<()> {
    let unknown: Vec<String> = differed
        .iter()
        .filter(|(name, _)| {
            let mut excepted = known.iter().filter(|(one, _)| names(one, name));
            !excepted.any(|(_, why)| !is_narrow(why))
        })
        .map(|(name, what)| format!("{name} differs:\n{what}"))
        .collect();
    ensure!(unknown.is_empty(), "{}", unknown.join("\n"));
    let stale: Vec<&str> = known
        .iter()
        .filter(|(_, why)| !is_loose(why))
        .map(|(name, _)| *name)
        .filter(|known| {
            ran.iter().any(|name| names(known, name))
                && !differed.keys().any(|name| names(known, name))
        })
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
    let known = read(
        "# why\n\nold: it has a reason\nother: as well\nmixed: order: rows\nlate: sometimes: time\n",
    )?;
    let ran = ["old", "new", "mixed", "late"].map(str::to_owned).into();
    let of = |name: &str| BTreeMap::from([(name.to_owned(), "-a\n+b".to_owned())]);
    ensure!(hold(&known, &ran, &of("old")).is_ok(), "a known difference");
    ensure!(hold(&known, &ran, &of("new")).is_err(), "an unknown one");
    ensure!(
        hold(&known, &ran, &of("mixed")).is_err(),
        "more than the order"
    );
    ensure!(hold(&known, &ran, &BTreeMap::new()).is_err(), "a stale one");
    let both = of("old").into_iter().chain(of("late")).collect();
    ensure!(
        hold(&known, &ran, &both).is_ok(),
        "one that comes sometimes"
    );
    let line = Some("one line: why");
    ensure!(same(line, "a\nb\nc", "a\nx\nc"), "one line");
    ensure!(!same(line, "a\nb\nc", "a\nx\ny"), "two lines");
    ensure!(!same(line, "a\nb", "a\nb\nc"), "one line more");
    let order = Some("order: why");
    ensure!(same(order, "a\nb", "b\na"), "another order");
    ensure!(!same(order, "a\nb", "b\nb"), "another line");
    ensure!(!same(Some("why"), "a", "b"), "a difference stays one");
    ensure!(names("t.*b.*.x", "t.ab.c.x") && !names("t.*b.*.x", "t.ac.x"));
    let many = read("t.*_v4: the version")?;
    let of = |name: &str| BTreeMap::from([(name.to_owned(), String::new())]);
    let ran = ["t.a_v4", "t.b_v4", "t.c"].map(str::to_owned).into();
    ensure!(hold(&many, &ran, &of("t.b_v4")).is_ok(), "one of many");
    ensure!(hold(&many, &ran, &of("t.c")).is_err(), "none of these");
    ensure!(hold(&many, &ran, &BTreeMap::new()).is_err(), "none differs");
    ensure!(read("bare").is_err(), "no reason");
    ensure!(read("a: x\na: y").is_err(), "twice");
    Ok(())
}
