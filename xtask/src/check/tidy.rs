//! Rules about files: length, module documentation, words, cases, blobs, space.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Fault, Source};

const LINES_HARD: usize = 800;
const LINES_SOFT: usize = 500;
const DOC_LINES: usize = 15;
const DIRECTORY_FILES: usize = 11;
const BLOB_BYTES: usize = 256 * 1024;
/// An engine may have its wire, or the loop of its session, of a library.
const ENGINE_FILES: [&str; 3] = ["facts", "inject", "refuse"];

/// Words of unfinished work, in two parts so that this file may name them.
const UNFINISHED: [(&str, &str); 4] = [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("for ", "now")];

/// Everything that is wrong with the files themselves.
pub(super) fn faults(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources {
        words(source, &mut faults);
        if source.is_rust() {
            module(source, &mut faults);
            length(source, &mut faults);
        }
        if source.bytes > BLOB_BYTES && source.path != Path::new("Cargo.lock") {
            faults.push(Fault::of(&source.path, "larger than 256 KiB"));
        }
    }
    engines(sources, &mut faults);
    directories(sources, &mut faults);
    listed(sources, &mut faults);
    cases(sources, &mut faults);
    faults
}

fn words(source: &Source, faults: &mut Vec<Fault>) {
    if source.path == Path::new("Cargo.lock") {
        return;
    }
    for (number, line) in (1..).zip(source.text.lines()) {
        if line.ends_with([' ', '\t', '\r']) {
            faults.push(Fault::at(&source.path, number, "trailing space"));
        }
        for (first, second) in UNFINISHED {
            if has_word(line, &format!("{first}{second}")) {
                let what = format!("\"{first}{second}\": finish it, or open an issue");
                faults.push(Fault::at(&source.path, number, &what));
            }
        }
        if is_ignored(source, line) {
            faults.push(Fault::at(
                &source.path,
                number,
                "an ignored test shows nothing",
            ));
        }
    }
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        faults.push(Fault::of(&source.path, "no newline at its end"));
    }
}

/// Whether the line takes a test out; the rules' own tests must be able to say it.
fn is_ignored(source: &Source, line: &str) -> bool {
    source.is_rust()
        && line.contains(concat!("#[", "ignore"))
        && !source.path.starts_with("xtask/src/check")
}

/// Whether `word` stands in `line` with no letter before or after it.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        ![before, after]
            .iter()
            .flatten()
            .any(|letter| letter.is_alphanumeric() || *letter == '_')
    })
}

fn module(source: &Source, faults: &mut Vec<Fault>) {
    let documentation = source
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .count();
    if documentation == 0 {
        let what =
            "does not begin with `//!`: what it owns, where on the path, what it must never do";
        faults.push(Fault::of(&source.path, what));
    }
    // The crate's own page is the code map.
    let is_map = source.path.ends_with("src/lib.rs");
    if documentation > DOC_LINES && !is_map {
        faults.push(Fault::of(&source.path, "more than 15 lines of `//!`"));
    }
    if source.path.ends_with("mod.rs") {
        faults.push(Fault::of(&source.path, "use `name.rs` beside `name/`"));
    }
    // Or what the tests of other modules stand on.
    let shows = ["#[test]", "#[tokio::test", "proptest!", "\nmod ", "\npub("];
    if source.path.ends_with("tests.rs") && !shows.iter().any(|word| source.text.contains(word)) {
        faults.push(Fault::of(&source.path, "a module of tests without a test"));
    }
}

fn length(source: &Source, faults: &mut Vec<Fault>) {
    let lines = source.text.lines().count();
    if source.is_test() || lines <= LINES_SOFT {
        return;
    }
    if lines > LINES_HARD {
        faults.push(Fault::of(
            &source.path,
            &format!("{lines} lines, more than {LINES_HARD}"),
        ));
    } else {
        println!(
            "note: {} has {lines} lines, more than {LINES_SOFT}",
            source.path.display()
        );
    }
}

/// What facts are read in, and what keeps a thing that nobody thought of out of them, and out of policy.
const FACTS: &str = "facts";
const EXHAUSTIVE: &str = "#![warn(clippy::wildcard_enum_match_arm)]";

/// Each engine has the same three files.
fn engines(sources: &[Source], faults: &mut Vec<Fault>) {
    let policy = Path::new("interceptor/src/policy.rs");
    let lax = |source: &&Source| source.path == policy && !source.text.contains(EXHAUSTIVE);
    if sources.iter().any(|source| lax(&source)) {
        faults.push(Fault::of(policy, &format!("lacks `{EXHAUSTIVE}`")));
    }
    let home = Path::new("interceptor/src/protocol");
    let engines: BTreeSet<_> = sources
        .iter()
        .filter_map(|source| source.path.strip_prefix(home).ok())
        .filter(|path| path.components().count() > 1)
        .filter_map(|path| path.components().next())
        .collect();
    for engine in engines {
        for file in ENGINE_FILES {
            let path = home.join(engine).join(format!("{file}.rs"));
            let found = sources.iter().find(|source| source.path == path);
            match found {
                None => faults.push(Fault::of(
                    &path,
                    "missing: each engine has facts, inject, refuse",
                )),
                Some(facts) if file == FACTS && !facts.text.contains(EXHAUSTIVE) => {
                    faults.push(Fault::of(&path, &format!("lacks `{EXHAUSTIVE}`")));
                }
                Some(_there) => {}
            }
        }
    }
}

/// A directory of modules stays readable at one look.
fn directories(sources: &[Source], faults: &mut Vec<Fault>) {
    let homes: BTreeSet<&Path> = sources
        .iter()
        .filter(|source| source.is_rust() && !source.is_test())
        .filter_map(|source| source.path.parent())
        .filter(|home| {
            // The crate's root is the map itself; `cli` has one file per verb.
            !home.ends_with("src") && !home.ends_with("cli")
        })
        .collect();
    for home in homes {
        let files = sources
            .iter()
            .filter(|source| {
                source.path.parent() == Some(home) && source.is_rust() && !source.is_test()
            })
            .count();
        if files > DIRECTORY_FILES {
            faults.push(Fault::of(
                home,
                &format!("{files} modules, more than {DIRECTORY_FILES}"),
            ));
        }
    }
}

/// A file that no module names is never compiled: each is named by the module that its directory belongs to.
fn listed(sources: &[Source], faults: &mut Vec<Fault>) {
    for source in sources.iter().filter(|source| source.is_rust()) {
        let Some(name) = source.path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some(home) = source.path.parent().filter(|home| has_modules(home)) else {
            continue;
        };
        // A program of its own has its place in a manifest.
        let is_program =
            source.text.contains("\nfn main(") || source.text.contains("async fn main(");
        if is_program || matches!(name, "main" | "lib") {
            continue;
        }
        let parents = [
            home.with_extension("rs"),
            home.join("main.rs"),
            home.join("lib.rs"),
        ];
        // Elsewhere than in a tier, one file alone is no tree.
        let has_parent = sources.iter().any(|other| parents.contains(&other.path));
        if !has_parent && !home.starts_with("tests") {
            continue;
        }
        let line = format!("mod {name};");
        let names = |parent: &&Source| {
            let mut lines = parent.text.lines().map(str::trim_end);
            parents.contains(&parent.path) && lines.any(|found| found.ends_with(&line))
        };
        if !sources.iter().any(|parent| names(&parent)) {
            let [beside, ..] = &parents;
            faults.push(Fault::of(
                &source.path,
                &format!(
                    "not listed in {}, nor in main.rs or lib.rs beside it",
                    beside.display()
                ),
            ));
        }
    }
}

/// Whether the files of a directory are modules: those of a crate's sources, and of a tier of tests.
fn has_modules(home: &Path) -> bool {
    let parts: Vec<_> = home.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["tests", tier, ..] if !matches!(*tier, "fuzz" | "support") => true,
        parts => parts.contains(&"src"),
    }
}

/// Every rule of a pack is named by a case, and every pack has cases of its own.
fn cases(sources: &[Source], faults: &mut Vec<Fault>) {
    let below = |source: &&Source| source.path.starts_with("policies");
    let cases: Vec<&Source> = sources
        .iter()
        .filter(below)
        .filter(|source| source.path.to_string_lossy().ends_with(".cases.yaml"))
        .collect();
    for policy in sources.iter().filter(below) {
        if policy
            .path
            .extension()
            .is_none_or(|ending| ending != "cedar")
        {
            continue;
        }
        if !cases
            .iter()
            .any(|cases| cases.path.parent() == policy.path.parent())
        {
            faults.push(Fault::of(&policy.path, "no *.cases.yaml beside it"));
        }
        // A rule in a comment is an example.
        let lines = policy.text.lines();
        let rules = lines.filter(|line| !line.trim_start().starts_with("//"));
        for id in rules.flat_map(|line| line.split("@id(\"").skip(1)) {
            let id = id.split('"').next().unwrap_or_default();
            let named = |cases: &&Source| {
                let rules = cases.text.split("rule: ").skip(1);
                rules
                    .filter_map(|rest| rest.split([' ', ',', '}', '\n']).next())
                    .any(|rule| rule == id)
            };
            if !cases.iter().any(named) {
                faults.push(Fault::of(
                    &policy.path,
                    &format!("rule `{id}` is named by no case"),
                ));
            }
        }
    }
}
