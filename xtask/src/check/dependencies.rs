//! What we stand on: where it comes from, under which licence, and what must never be among it.
//!
//! Reads `Cargo.lock` and `cargo tree`, offline. `.deny.toml` says the same to cargo-deny, which is run
//! where it is installed; its advisories need the network, so they are no part of this.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::Fault;
use crate::shell::{cargo, find, read, run};

/// One TLS and crypto provider, no OpenSSL, no unmaintained YAML.
const NEVER: [&str; 5] = ["ring", "openssl", "openssl-sys", "native-tls", "serde_yaml"];

const LICENCES: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Sources, bans and licences that break the rules.
pub(super) fn faults(root: &Path) -> anyhow::Result<Vec<Fault>> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("read Cargo.lock")?;
    let mut faults = locked(&lock);
    let tree = read(cargo(&[
        "tree",
        "--workspace",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
        "--locked",
    ]))
    .context("list the dependencies")?;
    faults.extend(packages(&tree));
    if find("cargo-deny").is_some() {
        let mut deny = Command::new("cargo-deny");
        deny.current_dir(root).args([
            "--offline",
            "check",
            "--config",
            ".deny.toml",
            "bans",
            "licenses",
            "sources",
        ]);
        run(deny)?;
    }
    Ok(faults)
}

/// Every package comes from one registry.
pub(super) fn locked(lock: &str) -> Vec<Fault> {
    let path = Path::new("Cargo.lock");
    let mut faults = Vec::new();
    let mut registry = None;
    for (number, line) in (1..).zip(lock.lines()) {
        if let Some(source) = value(line, "source") {
            let first = *registry.get_or_insert(source);
            if source != first || !source.starts_with("registry+") {
                faults.push(Fault::at(
                    path,
                    number,
                    "a source other than the one registry",
                ));
            }
        }
    }
    faults
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?
        .trim_start()
        .strip_prefix('=')?
        .trim()
        .strip_prefix('"')?
        .strip_suffix('"')
}

/// Lines of `package version|expression`: what is built, not what the lock file could resolve.
pub(super) fn packages(tree: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (package, licence) in tree.lines().filter_map(|line| line.split_once('|')) {
        let name = package.split(' ').next().unwrap_or_default();
        if NEVER.contains(&name) {
            faults.push(Fault(format!(
                "{name} is banned; `cargo tree -i {name}` says who brings it"
            )));
        }
        if !allowed(licence.trim_end_matches("(*)").trim()) {
            faults.push(Fault(format!(
                "{package}: licence {licence:?} is not allowed"
            )));
        }
    }
    faults
}

/// Whether an SPDX expression can be met by allowed licences alone.
pub(super) fn allowed(expression: &str) -> bool {
    let text = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut reader = Expression { words: &words };
    reader.any() && reader.words.is_empty()
}

/// `OR` binds loosest, then `AND`, then `WITH`.
struct Expression<'a> {
    words: &'a [&'a str],
}

impl<'a> Expression<'a> {
    fn take(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn take_if(&mut self, word: &str) -> bool {
        let is = self.words.first() == Some(&word);
        if is {
            self.take();
        }
        is
    }

    fn any(&mut self) -> bool {
        let mut good = self.all();
        while self.take_if("OR") {
            good |= self.all();
        }
        good
    }

    fn all(&mut self) -> bool {
        let mut good = self.one();
        while self.take_if("AND") {
            good &= self.one();
        }
        good
    }

    fn one(&mut self) -> bool {
        if self.take_if("(") {
            let good = self.any();
            return self.take_if(")") && good;
        }
        let Some(name) = self.take() else {
            return false;
        };
        let mut name = name.to_owned();
        if self.take_if("WITH") {
            name = format!("{name} WITH {}", self.take().unwrap_or_default());
        }
        LICENCES.contains(&name.as_str())
    }
}
