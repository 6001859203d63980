//! README's tables name every verb, metric and audit event that the code has.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Fault, Source};

/// Names that README does not list.
pub(super) fn faults(sources: &[Source]) -> Vec<Fault> {
    let documented = sources
        .iter()
        .find(|source| source.path == Path::new("README.md"))
        .map(|readme| first_cells(&readme.text))
        .unwrap_or_default();
    let mut faults = Vec::new();
    for source in sources
        .iter()
        .filter(|source| source.is_rust() && !source.is_test())
    {
        for (kind, name) in names(source) {
            let counted = format!("{name}_total");
            if !documented.contains(&name) && !documented.contains(&counted) {
                let what = format!("{kind} `{name}` is in no table of README.md");
                faults.push(Fault::of(&source.path, &what));
            }
        }
    }
    faults
}

/// What stands in backticks in the first cell of a table's row, up to the first space.
fn first_cells(readme: &str) -> BTreeSet<String> {
    readme
        .lines()
        .filter_map(|line| line.strip_prefix('|'))
        .filter_map(|row| row.split('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter_map(|name| name.split([' ', '{']).next())
        .map(str::to_owned)
        .collect()
}

/// What a file brings: verbs by their enum, an event by the name that it is serialised under, a metric
/// by its registration.
fn names(source: &Source) -> Vec<(&'static str, String)> {
    let path = source.path.as_path();
    let home = Path::new("interceptor/src");
    if path == home.join("cli.rs") {
        return variants(&source.text, "pub enum Verb {")
            .map(|name| ("verb", kebab(name)))
            .collect();
    }
    if path == home.join("audit/event.rs") {
        return quoted(&source.text, "rename = \"")
            .filter(|name| name.contains('.') || name == "control")
            .map(|name| ("audit event", name))
            .collect();
    }
    if path == home.join("telemetry.rs") || path.starts_with(home.join("telemetry")) {
        return source
            .text
            .split("register(")
            .skip(1)
            .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
            .map(|name| ("metric", format!("interceptor_{name}")))
            .collect();
    }
    Vec::new()
}

/// What follows each `opening` up to the closing quotation mark.
fn quoted<'a>(text: &'a str, opening: &'a str) -> impl Iterator<Item = String> {
    text.split(opening)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
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
