//! The last part of the story: what was kept.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::show::{block, heading, say};
use super::story::Stage;

/// The audit line of the refused DELETE, with who did it.
pub(super) fn audited(stage: &Stage) -> anyhow::Result<()> {
    heading("the audit: who it was, from the kernel, not from what psql says of itself");
    let refused = stage.daemon.audit().events("request.refused")?;
    let line = refused
        .iter()
        .find(|line| {
            at(line, "/summary")
                .as_str()
                .is_some_and(|words| words.contains("DELETE"))
        })
        .context("the refused DELETE is not in the audit")?;
    block(&describe(line));
    ensure!(
        at(line, "/principal/ancestors")
            .as_array()
            .is_some_and(|all| !all.is_empty()),
        "the line does not name the shell that started psql"
    );
    say("every line of this session's connection:");
    for other in stage.daemon.audit().lines()? {
        if at(&other, "/connection") == at(line, "/connection") {
            block(&brief(&other));
        }
    }
    say("each line carries the hash of the one before:");
    let verified = stage.verb(&["audit", "verify"])?;
    ensure!(verified.status.success(), "the log's chain is broken");
    Ok(())
}

/// The recording of the session with the DELETE.
pub(super) fn replayed(stage: &Stage) -> anyhow::Result<()> {
    heading("the recording: what the agent sent and saw");
    let refused = stage.daemon.audit().events("request.refused")?;
    let session = refused
        .last()
        .and_then(|line| at(line, "/session").as_str())
        .context("the refused request names no session")?;
    let list = stage.verb(&["sessions", "ls"])?;
    ensure!(list.stdout.contains(session), "the session is not listed");
    let replay = stage.verb(&["sessions", "replay", session])?;
    ensure!(replay.status.success(), "the session cannot be replayed");
    ensure!(
        replay
            .stdout
            .to_lowercase()
            .contains("delete from customers"),
        "the replay lacks the statement"
    );
    Ok(())
}

/// One line in full, as people read it.
fn describe(line: &Value) -> String {
    let principal = &at(line, "/principal");
    let mut text = format!(
        "event      {}\nsummary    {}\nrules      {}\nagent      {}\nuser       {}\n",
        word(at(line, "/event")),
        word(at(line, "/summary")),
        at(line, "/refusal/rules"),
        word(at(principal, "/agent")),
        at(principal, "/user"),
    );
    text += &format!("process    {}\n", process(at(principal, "/process")));
    for ancestor in at(principal, "/ancestors").as_array().into_iter().flatten() {
        text += &format!("  child of {}\n", process(ancestor));
    }
    text + &format!("cgroup     {}\n", word(at(principal, "/cgroup/path")))
}

fn process(process: &Value) -> String {
    format!(
        "pid {}  {}  sha256 {}",
        at(process, "/pid"),
        word(at(process, "/executable/path")),
        word(at(process, "/executable/sha256")),
    )
}

fn brief(line: &Value) -> String {
    let detail = ["summary", "target", "reason", "status"]
        .iter()
        .filter_map(|key| line.get(*key).and_then(Value::as_str))
        .collect::<Vec<_>>()
        .join("  ");
    format!("{:<20} {detail}", word(at(line, "/event")))
}

/// The value that a JSON pointer names; null where there is none.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
