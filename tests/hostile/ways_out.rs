//! Ways around the daemon: what an agent tries so that bytes leave without it.

use anyhow::{Context as _, Result};
use support::{DEADLINE, Process, place};

use crate::lab::{Lab, lacks};

/// Sets the limit on descriptors of another process.
fn limit_descriptors(pid: u32, most: u32) -> Result<()> {
    let words = [format!("--pid={pid}"), format!("--nofile={most}:{most}")];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    support::Agent::outside()
        .as_uid(0)
        .run("prlimit", &words)?
        .ok()
        .map(drop)
}

#[test]
fn a_daemon_out_of_descriptors_lets_no_scope_go() -> Result<()> {
    let mut lab = Lab::new()?;
    let program = place::interceptor()?;
    let socket = lab.daemon.run_directory().join("control.sock");
    let mut command = std::process::Command::new(program);
    command
        .args(["run", "--agent", "demo", "--user", "nobody", "--socket"])
        .arg(&socket)
        .args(["--", "/usr/bin/python3", "-c", DIAL_AT_EACH_LINE])
        .arg(lab.server.address().port().to_string())
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let mut agent = Process::start(command)?;
    agent.send("\n")?;
    agent.await_text("daemon", DEADLINE)?;
    let pid = lab.daemon.process().context("the daemon runs")?.pid();
    limit_descriptors(pid, 3)?;
    support::wait::for_fact("a word on what the daemon could not do", DEADLINE, || {
        let log = lab.daemon.log();
        let told = ["cannot watch a scope", "cannot remove a scope"];
        Ok(told.iter().any(|words| log.contains(words)).then_some(()))
    })?;
    agent.send("\n")?;
    agent.await_text("second", DEADLINE)?;
    lacks(&agent.log(), &["server"])?;
    // It cannot be given descriptors again, and does not stop in order without.
    lab.daemon.kill();
    Ok(())
}

/// Who answers a startup: the server asks for a password, the daemon does not.
const DIAL_AT_EACH_LINE: &str = r#"
import socket, struct, sys
body = struct.pack("!i", 196608) + b"user\0anybody\0database\0shop\0\0"
for word in ["first", "second"]:
    sys.stdin.readline()
    try:
        s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
        s.settimeout(5)
        s.sendall(struct.pack("!i", len(body) + 4) + body)
        answer = s.recv(9)
        asks = answer[:1] == b"R" and answer[5:9] != b"\0\0\0\0"
        print("server" if asks else "daemon", answer, flush=True)
    except OSError as error:
        print("nobody", error, flush=True)
    print(word, flush=True)
sys.stdin.read()
"#;
