//! What sessions cost that wait for people: a statement of each is held until somebody answers.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use support::{Process, place};

use super::idle::resident;
use super::{DEADLINE, Run, Value, command, value};
use crate::bench::subjects::{Lab, Subject};

const HELD: u32 = 1_000;
/// KiB that one may take at most: so that a thousand of them fit into any host.
const MOST: f64 = 512.0;

const RULES: &str = r#"
@id("all") permit (principal is Agent, action, resource) unless { action == Action::"Delete" };
@id("asks") @approve("root") permit (principal is Agent, action == Action::"Delete", resource);
"#;

/// Memory of the daemon with a thousand sessions that wait, less without, and how soon all of them are refused.
pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    let case = "memory of a held session";
    if !run.wants(case) {
        return Ok(());
    }
    let mut before = Vec::new();
    run.lab.daemon.change(|settings| {
        let rules = vec![("held.cedar".to_owned(), RULES.to_owned())];
        before = std::mem::replace(&mut settings.policies, rules);
    })?;
    run.lab.daemon.reload()?.ok()?;
    let subject = run.lab.interceptor("interceptor");
    run.one(case, &subject, held)?;
    run.lab
        .daemon
        .change(|settings| settings.policies = before)?;
    run.lab.daemon.reload()?.ok().map(drop)
}

fn held(lab: &Lab, subject: &Subject) -> anyhow::Result<Vec<Value>> {
    let pid = subject.pid.context("no daemon")?;
    let before = resident(pid)?;
    let directory = place::temporary("held")?;
    let script = directory.path().join("held.sql");
    fs::write(&script, "delete from pgbench_history where tid = 0;\n")
        .context("write the script of those that wait")?;
    let (script, clients) = (script.to_string_lossy(), HELD.to_string());
    let command = command(
        subject,
        &["-n", "-f", &script, "-c", &clients, "-j", "2", "-t", "1"],
    )?;
    let mut process = Process::start(command)?;
    support::wait::for_fact("those that wait", DEADLINE, || {
        ensure!(!process.is_over(), "pgbench ended: {}", process.log());
        Ok((waiting(lab)? >= u64::from(HELD)).then_some(()))
    })?;
    let more = resident(pid)?.saturating_sub(before);
    let each = f64::from(u32::try_from(more).unwrap_or(u32::MAX)) / f64::from(HELD);
    ensure!(each <= MOST, "a held session takes {each:.0} KiB");
    let asked = lab.daemon.cli(&["approvals", "ls", "--json"])?.ok()?;
    let asked: serde_json::Value = serde_json::from_str(asked.trim())?;
    let id = asked.pointer("/id").and_then(serde_json::Value::as_str);
    let id = id.context("no question, or more than one")?;
    let since = Instant::now();
    lab.daemon.cli(&["approvals", "deny", id])?.ok()?;
    // Each of its clients ends with the refusal.
    process.finish(DEADLINE)?;
    let refused = 1e3 * since.elapsed().as_secs_f64();
    Ok(vec![
        value("memory", each, "KiB"),
        value("all refused", refused, "ms"),
    ])
}

/// How many wait: all of them for one question.
fn waiting(lab: &Lab) -> anyhow::Result<u64> {
    let all = lab.daemon.cli(&["approvals", "ls", "--json"])?.ok()?;
    let counts = all.lines().map(|line| {
        let one: serde_json::Value = serde_json::from_str(line)?;
        Ok(one
            .get("waiting")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_default())
    });
    counts.sum::<anyhow::Result<u64>>()
}
