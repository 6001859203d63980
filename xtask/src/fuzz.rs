//! Fuzzers: built apart, with libFuzzer's instrumentation, and run for a while.
//!
//! No sanitizer of memory: none of it is unsafe code of ours. The corpus stays in the build directory, so that a
//! run goes on where the last one ended; what breaks something is kept beside it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use support::place;

use crate::setup::{self, For};
use crate::shell::{self, cargo, run, text};

/// What there is to fuzz: a name, and what it is for people.
pub(crate) const TARGETS: [(&str, &str); 7] = [
    (
        "startup",
        "startup packets, and what servers say to a login",
    ),
    ("messages", "every reader of messages in a session"),
    (
        "session",
        "the request loop between a client and a server that say anything",
    ),
    (
        "statements",
        "what texts ask for, and what goes upstream where columns are masked",
    ),
    (
        "http",
        "the first bytes of HTTP, paths, queries, and what they mean to a cluster",
    ),
    (
        "streams",
        "the streams of a command in a cluster, over SPDY and WebSocket",
    ),
    (
        "masks",
        "masks of fields over JSON, events, tables and messages of gRPC",
    ),
];

/// Tells edges of the code apart for libFuzzer; `-C passes` and `-C llvm-args` are stable.
const INSTRUMENTED: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// The tests behind `cargo xtask fuzz canary`.
const CANARY: [&str; 2] = [
    "canary::no_masked_byte_is_in_any_answer_whatever_is_asked",
    "canary::nothing_that_is_asked_tells_one_masked_value_from_another",
];

/// `cargo xtask fuzz canary --seconds N --seed S`: statements against masks, and every answer searched. No
/// fuzzer of bytes: a test that asks for as long as it is told.
pub(crate) fn canary(seconds: &str, seed: &str) -> anyhow::Result<()> {
    for number in [seconds, seed] {
        number
            .parse::<u64>()
            .with_context(|| format!("read the number {number:?}"))?;
    }
    let ready = setup::clients(For::Test)?;
    let suites = setup::suites(&ready)?;
    let mut command = cargo(&["test", "--workspace", "--test", "protocol", "--"]);
    command
        .args(["--exact", "--nocapture"])
        .args(CANARY)
        .env("INTERCEPTOR_SUITES", suites)
        .env("INTERCEPTOR_CANARY_SECONDS", seconds)
        .env("INTERCEPTOR_CANARY_SEED", seed);
    run(command)
}

/// `cargo xtask fuzz NAME --seconds N`.
pub(crate) fn target(name: &str, seconds: &str) -> anyhow::Result<()> {
    let seconds: u32 = seconds.parse().context("read the number of seconds")?;
    if !TARGETS.iter().any(|(known, _)| *known == name) {
        let known: Vec<_> = TARGETS
            .iter()
            .map(|(name, what)| format!("  {name:<10} {what}"))
            .collect();
        bail!(
            "there is no fuzzer {name}; there are\n{}\n  canary     statements that ask for what is masked",
            known.join("\n")
        );
    }
    setup::build()?;
    let program = build(name)?;
    let corpus = shell::target().join("fuzz/corpus").join(name);
    let found = shell::target().join("fuzz/found").join(name);
    for directory in [&corpus, &found] {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let mut fuzzer = std::process::Command::new(program);
    fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args([
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-max_len=2048",
            "-print_final_stats=1",
        ])
        .arg(corpus)
        .current_dir(place::workspace());
    run(fuzzer)
}

/// Whether all of them still go with what they fuzz; without the fuzzer's instrumentation.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut check = cargo(&["check", "--bins", "--quiet", "--manifest-path"]);
    check
        .arg(manifest()?)
        .env("CARGO_TARGET_DIR", shell::target().join("fuzz-check"));
    run(check)
}

/// The package of fuzzers, with the workspace's own versions of everything.
fn manifest() -> anyhow::Result<PathBuf> {
    let root = place::workspace();
    let directory = root.join("tests/fuzz");
    fs::copy(root.join("Cargo.lock"), directory.join("Cargo.lock"))
        .context("take over the workspace's versions")?;
    Ok(directory.join("Cargo.toml"))
}

fn build(name: &str) -> anyhow::Result<PathBuf> {
    let build_directory = shell::target().join("fuzz");
    // Given by name, so that build scripts and macros are not instrumented.
    let machine = shell::host()?;
    let mut build = cargo(&["build", "--release", "--bin", name, "--target", &machine]);
    build
        .arg("--manifest-path")
        .arg(manifest()?)
        .env("CARGO_TARGET_DIR", &build_directory)
        .env("RUSTFLAGS", INSTRUMENTED.join(" "));
    run(build).with_context(|| format!("build in {}", text(&build_directory)))?;
    Ok(build_directory.join(machine).join("release").join(name))
}
