//! README's tables and the code name the same verbs, metrics and audit events: none more, none less.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Fault, Source};

/// The tables, by the head of their first column.
const KINDS: [&str; 3] = ["verb", "event", "metric"];

/// Names that only one side has.
pub(super) fn faults(sources: &[Source]) -> Vec<Fault> {
    let path = Path::new("README.md");
    let readme = sources.iter().find(|source| source.path == path);
    let readme = readme.map_or("", |readme| readme.text.as_str());
    let mut faults = Vec::new();
    for kind in KINDS {
        let documented = first_cells(readme, kind);
        let known: BTreeSet<String> = sources
            .iter()
            .filter(|source| source.is_rust() && !source.is_test())
            .flat_map(|source| names(source, kind))
            .collect();
        // A reader that finds nothing reads the wrong place: it would find no drift either.
        if known.is_empty() {
            faults.push(Fault::of(path, &format!("no {kind} is found in the code")));
        }
        let missing = known.difference(&documented);
        faults.extend(
            missing.map(|name| {
                Fault::of(path, &format!("{kind} `{name}` of the code is in no table"))
            }),
        );
        let invented = documented.difference(&known);
        faults.extend(invented.map(|name| {
            Fault::of(
                path,
                &format!("{kind} `{name}` is in a table, not in the code"),
            )
        }));
    }
    faults
}

/// What stands in backticks in the first cells of the table whose first column is headed `kind`, each
/// up to its first space.
fn first_cells(readme: &str, kind: &str) -> BTreeSet<String> {
    let head = format!("| {kind} |");
    readme
        .lines()
        .skip_while(|line| !line.starts_with(&head))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter_map(|name| name.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// What a file brings: verbs by their enum, an event by the name that it is serialised under, a metric
/// by its registration, under the name that it is exported by.
fn names(source: &Source, kind: &str) -> Vec<String> {
    let path = source.path.as_path();
    let home = Path::new("interceptor/src");
    match kind {
        "verb" if path == home.join("cli.rs") => variants(&source.text, "pub enum Verb {")
            .map(kebab)
            .collect(),
        "event" if path == home.join("audit/event.rs") => {
            let names = source.text.split("rename = \"").skip(1);
            names
                .filter_map(|rest| rest.split('"').next())
                // A field whose name is a word of Rust.
                .filter(|name| *name != "type")
                .map(str::to_owned)
                .collect()
        }
        "metric" if path.starts_with(home.join("telemetry")) => source
            .text
            .split("register(")
            .skip(1)
            .filter_map(metric)
            .collect(),
        _ => Vec::new(),
    }
}

/// The arguments of a registration: a name, words for people, and a gauge or a counter, whose name is
/// exported with `_total` behind it.
fn metric(registration: &str) -> Option<String> {
    let arguments = registration.split(';').next()?;
    let name = arguments
        .trim_start()
        .strip_prefix('"')?
        .split('"')
        .next()?;
    let is_gauge = arguments.contains("gauge(") || arguments.contains("gauges");
    let total = if is_gauge { "" } else { "_total" };
    Some(format!("interceptor_{name}{total}"))
}

/// The variants of the enum that `opening` begins, as the formatter lays them out.
fn variants<'a>(text: &'a str, opening: &str) -> impl Iterator<Item = &'a str> {
    text.split(opening)
        .nth(1)
        .and_then(|rest| rest.split("\n}").next())
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|letter: char| letter.is_ascii_uppercase()))
        .filter_map(|line| line.split(|letter: char| !letter.is_alphanumeric()).next())
}

/// `PolicyTest` → `policy-test`.
fn kebab(name: &str) -> String {
    name.char_indices()
        .flat_map(|(at, letter)| {
            let dash = (at > 0 && letter.is_ascii_uppercase()).then_some('-');
            dash.into_iter().chain([letter.to_ascii_lowercase()])
        })
        .collect()
}
