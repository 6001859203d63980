//! The binary that connected is the binary that is named, or the connection is refused.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, place};

use crate::lab::{Lab, has, text};

/// How often each race is run: each of them must come out right.
const ROUNDS: usize = 20;

/// Opens a connection without waiting for it, then becomes `sleep`, which holds it open.
const EXEC: &str = r#"
import os, socket, sys
end = socket.socket()
end.setblocking(False)
end.connect_ex(("127.0.0.1", int(sys.argv[1])))
end.set_inheritable(True)
os.execv("/bin/sleep", ["sleep", "2"])
"#;

/// Opens a connection, lets a child have it, and is gone; the child speaks.
const FORK: &str = r#"
import os, socket, struct, sys
end = socket.socket()
end.settimeout(30)
end.setblocking(False)
end.connect_ex(("127.0.0.1", int(sys.argv[1])))
parent = os.getpid()
if os.fork():
    os._exit(0)
end.setblocking(True)
body = struct.pack("!i", 196608) + b"user\0anybody\0database\0shop\0\0"
try:
    end.sendall(struct.pack("!i", len(body) + 4) + body)
    end.recv(1)
except OSError:
    pass
print("child", os.getpid())
print("parent", parent)
"#;

fn connections(lab: &Lab) -> Result<Vec<Value>> {
    let mut lines = lab.daemon.audit().lines()?;
    lines.retain(|line| {
        line["event"] == "connection.opened" || line["event"] == "connection.refused"
    });
    Ok(lines)
}

#[test]
fn a_process_that_execs_right_after_connect_is_named_as_it_was_or_refused() -> Result<()> {
    let lab = Lab::new()?;
    let python = place::python()?;
    let port = lab.server.address().port().to_string();
    for _ in 0..ROUNDS {
        lab.agent()
            .run(&python.to_string_lossy(), &["-c", EXEC, &port])?
            .ok()?;
    }
    support::wait::for_fact("a verdict on each connection", DEADLINE, || {
        Ok((connections(&lab)?.len() >= ROUNDS).then_some(()))
    })?;
    for line in connections(&lab)? {
        let path = line.pointer("/principal/process/executable/path");
        let path = path.and_then(Value::as_str).unwrap_or_default();
        ensure!(
            !path.ends_with("sleep"),
            "the binary after exec was taken for the one that connected: {line}"
        );
        let opened = line["event"] == "connection.opened";
        ensure!(
            !opened || path.contains("python"),
            "admitted without the binary: {line}"
        );
    }
    Ok(())
}

#[test]
fn a_process_that_forks_and_exits_is_named_or_its_child_is_refused() -> Result<()> {
    let lab = Lab::new()?;
    let python = place::python()?;
    let port = lab.server.address().port().to_string();
    let program = std::fs::canonicalize(&python)?;
    let mut parents = Vec::new();
    for _ in 0..ROUNDS {
        let output = lab
            .agent()
            .run(&python.to_string_lossy(), &["-c", FORK, &port])?
            .ok()?;
        has(&output, &["child"])?;
        let parent = output
            .lines()
            .find_map(|line| line.strip_prefix("parent ")?.parse::<u64>().ok());
        parents.push(parent.context("no parent")?);
    }
    support::wait::for_fact("a verdict on each connection", DEADLINE, || {
        Ok((connections(&lab)?.len() >= ROUNDS).then_some(()))
    })?;
    // Each is opened as the parent, in its program, or refused because that is gone.
    for line in connections(&lab)? {
        if line["event"] == "connection.refused" {
            ensure!(text(&line, "/refusal/kind")? == "identity", "{line}");
            let why = text(&line, "/cause")?;
            ensure!(
                why.contains("it has ended"),
                "refused for another reason: {line}"
            );
            continue;
        }
        let pid = line
            .pointer("/principal/process/pid")
            .and_then(Value::as_u64);
        ensure!(
            pid.is_some_and(|pid| parents.contains(&pid)),
            "taken for another process than the one that connected: {line}"
        );
        let path = text(&line, "/principal/process/executable/path")?;
        ensure!(path == program.to_string_lossy(), "another program: {line}");
    }
    Ok(())
}
