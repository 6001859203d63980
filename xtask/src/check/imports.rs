//! Who may import whom, as DESIGN's direction of imports says: one table, checked on the text.
//!
//! Reads `crate::…` and `super::…` paths, in `use` trees and inline; comments and tests are left out.

use std::path::Path;

use super::{Fault, Source};

/// What modules below a prefix may import of ours.
enum Rule {
    /// Only these, and what lies below the prefix itself.
    Only(&'static [&'static str]),
    /// Anything but these.
    Never(&'static [&'static str]),
}

use Rule::{Never, Only};

/// Those above the services: what a service imports of them would be a circle, or a second way in.
const ABOVE: [&str; 5] = ["protocol", "connection", "control", "cli", "console"];

/// Every row that fits a module must hold. `*` stands for one name; `policy::Type` for the types that
/// stand directly in `policy`: the words of policy, not its machinery.
const TABLE: [(&str, Rule); 30] = [
    ("protocol::*::wire", Only(&[])),
    (
        "protocol",
        Only(&[
            "session",
            "config",
            "clock",
            "tls",
            "socket",
            "masking",
            "secrets::Type",
            "policy::Type",
            "telemetry::metrics",
        ]),
    ),
    // An engine sees its session and what is handed to it, never all parts of the daemon.
    ("protocol", Never(&["session::services"])),
    ("clock", Only(&[])),
    ("socket", Only(&["capture", "clock"])),
    ("telemetry", Only(&["policy::Type"])),
    ("policy", Never(&ABOVE)),
    ("grants", Never(&ABOVE)),
    ("approvals", Never(&ABOVE)),
    ("factors", Only(&["state", "clock", "policy::Type"])),
    ("state", Only(&["clock"])),
    ("masking", Never(&ABOVE)),
    ("identity", Never(&ABOVE)),
    ("secrets", Never(&ABOVE)),
    ("audit", Never(&ABOVE)),
    ("recording", Never(&ABOVE)),
    ("outputs", Never(&ABOVE)),
    ("search", Only(&["audit"])),
    ("session", Never(&ABOVE)),
    ("tls", Never(&ABOVE)),
    ("scopes", Never(&ABOVE)),
    ("targets", Never(&ABOVE)),
    ("capture", Never(&ABOVE)),
    (
        "capture",
        Never(&["policy", "session", "audit", "recording"]),
    ),
    ("config", Never(&ABOVE)),
    ("config", Never(&["session", "audit", "recording"])),
    ("control", Never(&["connection", "cli", "console"])),
    ("connection", Never(&["control", "cli"])),
    ("console", Only(&["control"])),
    ("", Never(&["daemon"])),
];

/// The command line starts the daemon; nothing else knows it.
const KNOWS_DAEMON: &str = "cli";

/// Imports against the table.
pub(super) fn faults(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources
        .iter()
        .filter(|source| source.is_rust() && !source.is_test())
    {
        let Some(module) = module_of(&source.path) else {
            continue;
        };
        for (line, import) in imports(&source.text, &module) {
            if let Some(prefix) = broken(&module, &import) {
                let what = format!(
                    "`{}` may not import `{}` (the row for `{prefix}` in xtask/src/check/imports.rs)",
                    module.join("::"),
                    import.join("::")
                );
                faults.push(Fault::at(&source.path, line, &what));
            }
        }
    }
    faults
}

/// `interceptor/src/protocol/postgres/wire.rs` → `["protocol", "postgres", "wire"]`.
fn module_of(path: &Path) -> Option<Vec<String>> {
    let below = path
        .strip_prefix("interceptor/src")
        .ok()?
        .with_extension("");
    let parts: Vec<String> = below
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    (parts != ["main"] && parts != ["lib"]).then_some(parts)
}

/// The prefix of the first row that forbids it.
pub(super) fn broken(module: &[String], import: &[String]) -> Option<&'static str> {
    let first = |path: &[String]| path.first().cloned().unwrap_or_default();
    TABLE.iter().find_map(|(prefix, rule)| {
        if !below(prefix, module) {
            return None;
        }
        let own = module.get(..length(prefix)).unwrap_or_default();
        let fine = match rule {
            Only(allowed) => {
                (!own.is_empty() && import.starts_with(own))
                    || allowed.iter().any(|allowed| covers(allowed, import))
            }
            Never(forbidden) => {
                let daemon_itself = [KNOWS_DAEMON, "daemon"].contains(&first(module).as_str());
                !forbidden
                    .iter()
                    .any(|name| covers(name, import) && !(*name == "daemon" && daemon_itself))
            }
        };
        (!fine).then_some(*prefix)
    })
}

fn length(prefix: &str) -> usize {
    prefix.split("::").filter(|part| !part.is_empty()).count()
}

fn below(prefix: &str, module: &[String]) -> bool {
    let mut parts = prefix.split("::").filter(|part| !part.is_empty());
    let mut names = module.iter();
    parts.all(|part| names.next().is_some_and(|name| part == "*" || part == name))
}

fn covers(allowed: &str, import: &[String]) -> bool {
    let parts: Vec<&str> = allowed.split("::").collect();
    match parts.as_slice() {
        [home, "Type"] => {
            import.first().is_some_and(|name| name == home)
                && import
                    .get(1)
                    .is_none_or(|name| name.chars().next().is_some_and(char::is_uppercase))
        }
        parts => parts
            .iter()
            .enumerate()
            .all(|(at, part)| import.get(at).is_some_and(|name| name == part)),
    }
}

/// Every path into our own crate, made absolute, with the line where it begins.
pub(super) fn imports(text: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    let code = without_comments(text);
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some((at, base, rest)) = next_path(&code, offset, module) {
        let line = code.get(..at).unwrap_or_default().matches('\n').count() + 1;
        let mut tree = Tree {
            text: code.get(rest..).unwrap_or_default(),
        };
        let mut paths = Vec::new();
        tree.read(&base, &mut paths);
        found.extend(paths.into_iter().map(|path| (line, path)));
        offset = rest;
    }
    found
}

/// The next `crate::` or run of `super::` from `offset`: where it is, what it stands for, what follows.
fn next_path(code: &str, offset: usize, module: &[String]) -> Option<(usize, Vec<String>, usize)> {
    let ahead = code.get(offset..)?;
    let find = |word: &str| {
        ahead.match_indices(word).map(|(at, _)| at).find(|at| {
            let before = ahead.get(..*at).and_then(|text| text.chars().next_back());
            !before.is_some_and(|letter| letter.is_alphanumeric() || "_$:".contains(letter))
        })
    };
    let (at, word) = [("crate::"), ("super::")]
        .into_iter()
        .filter_map(|word| find(word).map(|at| (at, word)))
        .min()?;
    let begin = offset + at;
    if word == "crate::" {
        return Some((begin, Vec::new(), begin + word.len()));
    }
    let mut base = module.to_vec();
    let mut rest = begin;
    while code
        .get(rest..)
        .is_some_and(|text| text.starts_with("super::"))
    {
        base.pop();
        rest += "super::".len();
    }
    Some((begin, base, rest))
}

/// A `use` tree, or the rest of an inline path.
struct Tree<'a> {
    text: &'a str,
}

impl Tree<'_> {
    fn read(&mut self, base: &[String], found: &mut Vec<Vec<String>>) {
        self.text = self.text.trim_start();
        if let Some(rest) = self.text.strip_prefix('{') {
            self.text = rest;
            loop {
                self.read(base, found);
                self.text = self.text.trim_start();
                if let Some(rest) = self.text.strip_prefix(',') {
                    self.text = rest.trim_start();
                    if !self.text.starts_with('}') {
                        continue;
                    }
                }
                self.text = self.text.strip_prefix('}').unwrap_or(self.text);
                return;
            }
        }
        let end = self
            .text
            .find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
            .unwrap_or(self.text.len());
        let (name, rest) = self.text.split_at(end);
        let mut path = base.to_vec();
        if !name.is_empty() && name != "self" {
            path.push(name.to_owned());
        }
        self.text = rest;
        if let Some(rest) = rest.strip_prefix("::") {
            self.text = rest;
            self.read(&path, found);
            return;
        }
        if let Some(rest) = rest.trim_start().strip_prefix("as ") {
            let end = rest.find([',', '}', ';']).unwrap_or(rest.len());
            self.text = rest.get(end..).unwrap_or_default();
        }
        if !path.is_empty() {
            found.push(path);
        }
    }
}

/// The same text with every comment blanked, lines kept.
fn without_comments(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| {
            let code = line
                .find("//")
                .map_or(line, |at| line.get(..at).unwrap_or_default());
            // `//` inside a text, as in `http://`, blanks the rest of that line only.
            code.trim_end()
        })
        .collect();
    lines.join("\n")
}
