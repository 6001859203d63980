//! The kernel tier under other kernels: each in a machine that QEMU emulates, so that no KVM is needed.
//!
//! A machine has no disk and no network: one archive in memory holds a small Debian, the kernel's modules, the tests
//! and the program. What it says on its serial line is kept in `target/vm`.

mod image;
mod kernels;
mod run;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::Value;
use support::place;

use self::kernels::KERNELS;
use crate::root::{self, Root};
use crate::setup;
use crate::shell::{self, cargo, run};

/// What each kernel runs where nothing else is asked for: of every part what differs by kernel, and all ways out. A
/// machine that is emulated takes half a minute for a test, most of it to have the programs verified once more.
const TELLING: [&str; 27] = [
    "ways::",
    "matrix::",
    "host::",
    "record::an_accepted",
    "record::who_connects",
    "address::namespaces",
    "address::each_family",
    "bind::a_scope_cannot",
    "guard::direct_rules_are",
    "guard::a_withdrawn",
    "loopback::processes",
    "datagram::only_tcp",
    "datagram::datagrams_are_refused_when",
    "names::the_daemon_answers",
    "names::without_a_daemon",
    "doors::no_unix",
    "doors::odd_families",
    "doors::a_connected",
    "carried::who_dials_a_targets",
    "carried::without_a_daemon",
    "foreign::a_verdict",
    "full::a_socket_without_room_for_its_record",
    "restart::without_a",
    "restart::an_upgrade",
    "restart::no_byte",
    "reuse::",
    SERVICE,
];

/// The part behind the tier.
const SERVICE: &str = "service";

/// All of the tier.
const WHOLE: &str = "--whole";

/// The words of tests that are asked for; none asks for all.
fn filters<'a>(words: &[&'a str]) -> Vec<&'a str> {
    match words {
        [] => TELLING.to_vec(),
        words if words.contains(&WHOLE) => Vec::new(),
        words => words.to_vec(),
    }
}

/// `cargo xtask e2e --vm [KERNEL…] [WORD… | --whole]`: all kernels where none is named.
pub(crate) fn matrix(words: &[&str]) -> anyhow::Result<()> {
    let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let (chosen, rest): (Vec<&str>, Vec<&str>) = words.iter().copied().partition(is_version);
    let filters = filters(&rest);
    let is_known = |name: &&&str| KERNELS.iter().any(|kernel| kernel.name == **name);
    if let Some(unknown) = chosen.iter().find(|name| !is_known(name)) {
        let names: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        bail!("no kernel {unknown:?}; there are {}", names.join(", "));
    }
    setup::machines()?;
    if root::way() == Root::Missing {
        bail!("a root file system is made by root: run this as root, or install sudo");
    }
    let cache = place::cache()?.join("vm");
    let logs = shell::target().join("vm");
    fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    run(cargo(&["build", "--workspace", "--bin", "interceptor"]))?;
    let base = image::base(&cache)?;
    let payload = image::payload(&tests()?, &shell::target().join("debug/interceptor"))?;
    let mut outcomes = Vec::new();
    for kernel in &KERNELS {
        if !(chosen.is_empty() || chosen.contains(&kernel.name)) {
            continue;
        }
        let fetched = kernels::fetch(kernel, &cache)?;
        let parts = [base.as_path(), &fetched.modules, &payload.archive];
        let log = logs.join(format!("{}.log", kernel.name));
        println!("\n== Linux {}: {}", kernel.name, log.display());
        outcomes.push((kernel, run::boot(&fetched.image, &parts, &filters, &log)?));
    }
    print!("\n{}", table::of(&outcomes));
    table::write(&outcomes, &logs.join("matrix.json"))?;
    let bad: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| !outcome.good())
        .collect();
    if !bad.is_empty() {
        let names: Vec<_> = bad.iter().map(|(kernel, _)| kernel.name).collect();
        bail!("not all is well under Linux {}", names.join(", "));
    }
    Ok(())
}

/// The binary of the kernel tier.
fn tests() -> anyhow::Result<PathBuf> {
    let mut build = cargo(&[
        "test",
        "--workspace",
        "--test",
        "kernel",
        "--no-run",
        "--message-format=json",
    ]);
    build.stderr(std::process::Stdio::inherit());
    let said = shell::read(build).context("build the kernel tier")?;
    let built = said.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_tier = message.pointer("/target/name")? == "kernel";
        let path = message.get("executable")?.as_str()?;
        is_tier.then(|| PathBuf::from(path))
    });
    built.context("cargo does not say where the kernel tier was built")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_telling_word_begins_a_test() {
        let directory = place::workspace().join("tests/kernel");
        for word in TELLING.iter().filter(|word| **word != SERVICE) {
            let (part, name) = word.split_once("::").unwrap();
            let file = directory.join(part).with_extension("rs");
            let text = fs::read_to_string(file).unwrap();
            assert!(text.contains(&format!("fn {name}")), "{word} is no test");
        }
    }
}
