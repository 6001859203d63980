//! README's tables name every verb, metric and audit event that the code has.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Fault, Source};

/// Files below `cli/` that are not a verb.
const NOT_VERBS: [&str; 4] = ["client", "output", "tests", "arguments"];

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
            if !documented.contains(&name) {
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

fn names(source: &Source) -> Vec<(&'static str, String)> {
    let path = source.path.as_path();
    if path.parent() == Some(Path::new("interceptor/src/cli")) {
        let verb = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        return match NOT_VERBS.contains(&verb) {
            true => Vec::new(),
            false => vec![("verb", verb.replace('_', "-"))],
        };
    }
    if path == Path::new("interceptor/src/audit/event.rs") {
        return quoted(&source.text, "rename = \"")
            .into_iter()
            .filter(|name| name.contains('.') || name == "control")
            .map(|name| ("audit event", name))
            .collect();
    }
    if path.starts_with("interceptor/src/telemetry") {
        return quoted(&source.text, "\"interceptor_")
            .into_iter()
            .map(|rest| ("metric", format!("interceptor_{rest}")))
            .collect();
    }
    Vec::new()
}

/// What follows each `opening` up to the closing quotation mark.
fn quoted(text: &str, opening: &str) -> Vec<String> {
    text.split(opening)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect()
}
