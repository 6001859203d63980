//! `cargo xtask check`: the cheap and the strict first, each failure with the place and the rule.

mod dependencies;
mod imports;
mod tables;
mod tidy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use support::place;

use crate::fuzz;
use crate::setup;
use crate::shell::{self, cargo, read, run};

#[cfg(test)]
mod tests;

/// One broken rule, `file:line: what`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault(String);

impl Fault {
    fn at(path: &Path, line: usize, what: &str) -> Self {
        Self(format!("{}:{line}: {what}", path.display()))
    }

    fn of(path: &Path, what: &str) -> Self {
        Self(format!("{}: {what}", path.display()))
    }
}

/// A file of the source tree.
struct Source {
    /// Below the tree's root.
    path: PathBuf,
    /// Empty where it is not text.
    text: String,
    bytes: usize,
}

impl Source {
    fn new(path: &str, content: Vec<u8>) -> Self {
        Self {
            path: PathBuf::from(path),
            bytes: content.len(),
            text: String::from_utf8(content).unwrap_or_default(),
        }
    }

    /// Whether it is Rust.
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|ending| ending == "rs")
    }

    /// Whether it only holds tests.
    fn is_test(&self) -> bool {
        let path = self.path.to_string_lossy();
        path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs")
    }
}

/// Runs every check; all of tidy's faults are shown before it fails.
pub(crate) fn everything() -> anyhow::Result<()> {
    run(cargo(&["fmt", "--all", "--check"]))?;
    own_rules()?;
    setup::build()?;
    run(cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    programs()?;
    fuzz::check()?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run(doc)?;
    println!("check: all good");
    Ok(())
}

/// The rules that are ours.
fn own_rules() -> anyhow::Result<()> {
    let root = place::workspace();
    let sources = sources(&root)?;
    let mut faults = tidy::faults(&sources);
    faults.extend(imports::faults(&sources));
    faults.extend(tables::faults(&sources));
    faults.extend(dependencies::faults(&root)?);
    faults.sort();
    faults.dedup();
    for fault in &faults {
        println!("{}", fault.0);
    }
    if !faults.is_empty() {
        bail!("{} broken rules above", faults.len());
    }
    Ok(())
}

/// The programs are linted for their own machine, in a build directory of their own: the compiler's
/// switch for it would rebuild every build script of the host.
fn programs() -> anyhow::Result<()> {
    let mut clippy = cargo(&[
        "clippy",
        "--package",
        "interceptor-ebpf",
        "--bins",
        "--features",
        "programs",
        "--target",
        "bpfel-unknown-none",
        "-Z",
        "build-std=core",
        "--release",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]);
    clippy
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", shell::target().join("bpf-clippy"));
    run(clippy)
}

/// Every file that git has or would take.
fn sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ])
    .current_dir(root);
    let list = read(git).context("list the files of the source tree")?;
    let mut sources = Vec::new();
    for name in list.split('\0').filter(|name| !name.is_empty()) {
        // A file that is deleted and not yet committed is still listed.
        if let Ok(content) = fs::read(root.join(name)) {
            sources.push(Source::new(name, content));
        }
    }
    Ok(sources)
}
