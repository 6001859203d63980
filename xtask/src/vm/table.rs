//! What was shown under which kernel, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::kernels::Kernel;
use super::run::Outcome;

type Outcomes<'a> = [(&'a Kernel, Outcome)];

/// What the program does, and the parts of the tier that show it. A part that stands nowhere here is a row by itself.
const SHOWN: [(&str, &[&str]); 10] = [
    (
        "redirect, record, identity",
        &["matrix", "record", "address", "reuse"],
    ),
    (
        "the guard on packets and binds",
        &["guard", "bind", "loopback", "foreign"],
    ),
    ("datagrams, raw and odd sockets", &["datagram"]),
    ("names", &["names"]),
    ("UNIX sockets of others", &["doors"]),
    ("UNIX sockets of targets", &["carried"]),
    ("`guard: host`", &["host"]),
    ("ways out, one by one", &["ways"]),
    ("death, restart, another layout", &["restart"]),
    (
        "full tables, lost records told",
        &["full", "pressure", "refused", "told"],
    ),
];

/// One column a kernel, in Markdown: what the kernel has, and how many tests passed of what it is good for.
pub(super) fn of(outcomes: &Outcomes<'_>) -> String {
    let mut text = String::new();
    let mut row = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
        let cells: Vec<String> = outcomes.iter().map(|(_, outcome)| cell(outcome)).collect();
        // Writing to a string does not fail.
        let _written = writeln!(text, "| {name} | {} |", cells.join(" | "));
    };
    row("kernel", &|outcome| outcome.release.clone());
    row("---", &|_| "---:".to_owned());
    let features = outcomes
        .iter()
        .flat_map(|(_, outcome)| outcome.features.keys());
    for feature in features.collect::<BTreeSet<_>>() {
        row(&format!("has {feature}"), &|outcome| {
            let has = outcome.features.get(feature);
            has.map_or("?", String::as_str).to_owned()
        });
    }
    let known: Vec<&str> = SHOWN
        .iter()
        .flat_map(|(_, parts)| *parts)
        .copied()
        .collect();
    let others = outcomes
        .iter()
        .flat_map(|(_, outcome)| outcome.parts.keys());
    let others = others.filter(|part| !known.contains(&part.as_str()));
    for (name, parts) in SHOWN {
        row(name, &|outcome| passed(outcome, parts));
    }
    for part in others.collect::<BTreeSet<_>>() {
        row(part, &|outcome| passed(outcome, &[part.as_str()]));
    }
    let proofs = outcomes
        .iter()
        .flat_map(|(_, outcome)| outcome.proofs.keys());
    for guard in proofs.collect::<BTreeSet<_>>() {
        row(
            &format!("`doctor --prove`, `guard: {guard}`: open, limits"),
            &|outcome| {
                let proof = outcome.proofs.get(guard);
                proof.map_or_else(
                    || "–".to_owned(),
                    |(ways, open, limits)| format!("{open}, {limits} of {ways}"),
                )
            },
        );
    }
    text
}

/// How many tests of some parts passed, of how many.
fn passed(outcome: &Outcome, parts: &[&str]) -> String {
    let found = parts.iter().filter_map(|part| outcome.parts.get(*part));
    let (passed, failed) = found.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    match passed + failed {
        0 => "–".to_owned(),
        all => format!("{passed} of {all}"),
    }
}

/// The same as JSON, with the names of what failed.
pub(super) fn write(outcomes: &Outcomes<'_>, file: &Path) -> anyhow::Result<()> {
    let rows: BTreeMap<_, _> = outcomes
        .iter()
        .map(|(kernel, outcome)| {
            let row = json!({
                "release": outcome.release, "parts": outcome.parts, "features": outcome.features,
                "proofs": outcome.proofs, "ended": outcome.ended, "failed": outcome.failed,
            });
            (kernel.name, row)
        })
        .collect();
    fs::write(file, serde_json::to_string_pretty(&rows)?)
        .with_context(|| format!("write {}", file.display()))
}
