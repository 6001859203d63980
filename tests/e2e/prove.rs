//! `interceptor doctor --prove`: shut where all is shut, and not fooled where something is open.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Finished, Process, place};

use crate::lab::{Lab, has};

fn doctor(lab: &Lab, words: &[&str]) -> Result<Finished> {
    let mut command = Command::new(place::interceptor()?);
    command
        .args(["doctor", "--config"])
        .arg(lab.daemon.config())
        .args(words)
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    Process::run(command, DEADLINE)
}

fn report(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Ways that are open in a report, by where they are.
fn open(report: &Value, place: &str) -> Result<Vec<String>> {
    let ways = report.pointer("/report/ways").and_then(Value::as_array);
    let ways = ways.context("no ways")?;
    let at = format!("/{place}/outcome");
    let is_open = |way: &&Value| way.pointer(&at).is_some_and(|outcome| outcome == "open");
    let name = |way: &Value| {
        let name = way.get("way").and_then(Value::as_str);
        name.unwrap_or_default().to_owned()
    };
    Ok(ways.iter().filter(is_open).map(name).collect())
}

#[test]
fn every_way_out_is_tried_and_shut_and_the_report_is_signed() -> Result<()> {
    let lab = Lab::new()?;
    let kept = place::temporary("report")?;
    let file = kept.path().join("boundary.json");
    let name = file.to_string_lossy().into_owned();
    let said = doctor(&lab, &["--prove", "--report", &name])?;
    let table = said.ok()?;
    has(
        &table,
        &["tcp over IPv6", "unix socket by a link", " 0 open"],
    )?;
    let whole = report(&file)?;
    let ways = whole["report"]["ways"].as_array().context("no ways")?;
    ensure!(ways.len() >= 60, "only {} ways", ways.len());
    for place in ["launched", "tagged"] {
        ensure!(open(&whole, place)?.is_empty(), "open: {table}");
        // What the far end did not hear was refused: few ways end in silence.
        let silent = |way: &&Value| way[place]["outcome"] == "silent";
        ensure!(ways.iter().filter(silent).count() <= 3, "silent: {table}");
    }
    let left = std::fs::read_dir("/tmp")?.flatten().filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("interceptor-proof-")
    });
    ensure!(left.count() == 0, "something was left behind");
    has(&doctor(&lab, &["--verify", &name])?.ok()?, &["signed by "])?;
    // Somewhere else, by somebody who has the public key and nothing more.
    let key = kept.path().join("audit.pub");
    std::fs::copy(lab.daemon.state().join("audit.pub"), &key)?;
    let elsewhere = |words: &[&str]| {
        let mut command = Command::new(place::interceptor()?);
        let nobody = ["doctor", "--config", "/nowhere", "--verify", &name];
        command.args(nobody).args(words).env_clear();
        Process::run(command, DEADLINE)
    };
    let key = key.to_string_lossy().into_owned();
    has(&elsewhere(&["--key", &key])?.ok()?, &[" 0 open"])?;
    ensure!(!elsewhere(&[])?.status.success(), "by no key");
    let forged = std::fs::read_to_string(&file)?.replacen("EPERM", "ENOENT", 1);
    std::fs::write(&file, forged)?;
    let said = elsewhere(&["--key", &key])?;
    ensure!(!said.status.success(), "a forged report was believed");
    has(&said.stderr, &["not as it was signed"])
}

/// What came of some ways in a report, in both kinds of scope.
fn outcomes(report: &Value, ways: &[&str]) -> Result<Vec<String>> {
    let all = report.pointer("/report/ways").and_then(Value::as_array);
    let all = all.context("no ways")?;
    let chosen = all.iter().filter(|way| {
        ways.iter()
            .any(|name| way.get("way") == Some(&(*name).into()))
    });
    let both = |way: &Value| {
        ["launched", "tagged"].map(|place| {
            let outcome = way.pointer(&format!("/{place}/outcome"));
            outcome.and_then(Value::as_str).unwrap_or("none").to_owned()
        })
    };
    Ok(chosen.flat_map(both).collect())
}

#[test]
fn what_only_the_guard_of_the_host_shuts_is_a_limit_without_it_and_shut_with_it() -> Result<()> {
    let ways = [
        "tcp after being moved out by root",
        "a socket from outside, connected here",
    ];
    let kept = place::temporary("report")?;
    let file = kept.path().join("boundary.json");
    let name = file.to_string_lossy().into_owned();
    for (more, is_shut, words) in [
        ("", false, "not the host"),
        ("guard: host\n", true, "and the whole host"),
    ] {
        let lab = Lab::with(|settings| settings.more.push_str(more))?;
        has(&lab.daemon.cli(&["status"])?.ok()?, &[words])?;
        let table = doctor(&lab, &["--prove", "--report", &name])?.ok()?;
        let whole = report(&file)?;
        ensure!(whole["report"]["guards_host"] == is_shut, "{table}");
        for way in ways {
            let outcomes = outcomes(&whole, &[way])?;
            ensure!(outcomes.len() == 2, "{outcomes:?}");
            let open = outcomes.iter().filter(|word| *word == "limit").count();
            let is_so = match (is_shut, way == ways[0]) {
                (true, _) => open == 0,
                // Who is moved out is seen by the guard alone.
                (false, true) => open == 2,
                // An LSM sees the socket as it is passed in.
                (false, false) => open == 0 || open == 2,
            };
            ensure!(is_so, "{way}: {table}");
        }
    }
    Ok(())
}

#[test]
fn a_door_that_is_opened_is_found_open() -> Result<()> {
    let lab = Lab::with(|settings| {
        settings.more.push_str(
            "unix:\n  others: permit\n\
             direct:\n  - network: 127.9.9.9/32\n",
        );
    })?;
    let kept = place::temporary("report")?;
    let file = kept.path().join("boundary.json");
    let name = file.to_string_lossy().into_owned();
    let said = doctor(&lab, &["--prove", "--report", &name])?;
    ensure!(said.status.code() == Some(1), "{}", said.stdout);
    let whole = report(&file)?;
    for place in ["launched", "tagged"] {
        let open = open(&whole, place)?;
        for way in [
            "tcp to 127.9.9.9",
            "unix socket",
            "unix socket, abstract",
            "unix datagram",
        ] {
            ensure!(
                open.iter().any(|open| open == way),
                "{way} is not open {place}: {open:?}"
            );
        }
        for way in ["tcp", "udp", "mptcp"] {
            ensure!(!open.iter().any(|open| open == way), "{place}: {open:?}");
        }
    }
    Ok(())
}
