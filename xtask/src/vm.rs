//! The kernel tier under other kernels: each in a machine that QEMU emulates, so that no KVM is needed.
//!
//! A machine has no disk and no network: one archive in memory holds a small Debian, the kernel's modules, the tests
//! and the program. What it says on its serial line is kept in `target/vm`.

mod image;
mod kernels;
mod run;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use support::place;

use self::kernels::{KERNELS, Kernel};
use self::run::Outcome;
use crate::root::{self, Root};
use crate::setup;
use crate::shell::{self, cargo, run};

/// `cargo xtask e2e --vm [KERNEL…]`: all kernels where none is named.
pub(crate) fn matrix(chosen: &[&str]) -> anyhow::Result<()> {
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
        outcomes.push((kernel, run::boot(&fetched.image, &parts, &log)?));
    }
    show(&outcomes, &logs.join("matrix.json"))?;
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

/// What was shown, by part of the tier: one column a kernel.
fn show(outcomes: &[(&Kernel, Outcome)], file: &std::path::Path) -> anyhow::Result<()> {
    let parts = outcomes
        .iter()
        .flat_map(|(_, outcome)| outcome.parts.keys());
    let parts: std::collections::BTreeSet<_> = parts.collect();
    print!("\n{:<14}", "kernel tier");
    for (kernel, _) in outcomes {
        print!("{:>14}", kernel.name);
    }
    println!();
    for part in parts {
        print!("{part:<14}");
        for (_, outcome) in outcomes {
            let (passed, failed) = outcome.parts.get(part).copied().unwrap_or_default();
            print!("{:>14}", format!("{passed} of {}", passed + failed));
        }
        println!();
    }
    let features: std::collections::BTreeSet<_> = outcomes
        .iter()
        .flat_map(|(_, outcome)| outcome.features.keys())
        .collect();
    for feature in features {
        print!("{feature:<14}");
        for (_, outcome) in outcomes {
            let has = outcome.features.get(feature).map_or("?", String::as_str);
            print!("{has:>14}");
        }
        println!();
    }
    let rows: BTreeMap<_, _> = outcomes
        .iter()
        .map(|(kernel, outcome)| {
            let row = json!({
                "release": outcome.release, "parts": outcome.parts, "features": outcome.features,
                "ended": outcome.ended, "failed": outcome.failed,
            });
            (kernel.name, row)
        })
        .collect();
    fs::write(file, serde_json::to_string_pretty(&rows)?)
        .with_context(|| format!("write {}", file.display()))
}
