//! What an agent reads of the daemon: files, /proc, sockets, error texts. No secret may be among it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::DEADLINE;

use crate::lab::{Lab, has, lacks, refused};

/// Reads every file that is named, as far as it can, and the daemon's /proc.
const READ_ALL: &str = r#"
import os, sys
pid, roots = sys.argv[1], sys.argv[2:]
names = ["environ", "mem", "maps", "auxv", "stack", "syscall", "io", "map_files", "pagemap"]
read = 0
def show(path):
    global read
    try:
        with open(path, "rb") as file:
            bytes = file.read(1 << 20)
    except OSError:
        return
    read += 1
    print("==", path, bytes.hex() if b"\0" in bytes else bytes.decode("latin-1"), flush=True)
for path in roots:
    show(path)
for name in names:
    show(f"/proc/{pid}/{name}")
try:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        show(f"/proc/{pid}/fd/{fd}")
        print("!! a descriptor was listed")
except OSError:
    pass
try:
    for task in os.listdir(f"/proc/{pid}/task"):
        show(f"/proc/{pid}/task/{task}/mem")
        show(f"/proc/{pid}/task/{task}/environ")
except OSError:
    pass
print("read", read)
"#;

fn files(directory: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.is_file() {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

#[test]
fn nothing_that_an_agent_can_read_holds_a_secret() -> Result<()> {
    let lab = Lab::new()?;
    lab.psql(&["select 'a session that was recorded'"])?.ok()?;
    let pid = lab.daemon.process().context("the daemon runs")?.pid();
    let directory = lab.daemon.config();
    let directory = directory
        .parent()
        .context("the configuration lies in a directory")?;
    let mut words = vec!["-c".to_owned(), READ_ALL.to_owned(), pid.to_string()];
    // Every file by name: an agent may guess what it cannot list.
    files(directory, &mut words)?;
    ensure!(
        words.iter().any(|word| word.contains("/secrets/")),
        "no secret among {words:?}"
    );
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = lab.agent().run("/usr/bin/python3", &words)?.ok()?;
    has(&output, &["read ", "BEGIN CERTIFICATE"])?;
    let hex: String = lab
        .server
        .password()
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    lacks(
        &output,
        &[
            lab.server.password(),
            &hex,
            "PRIVATE KEY",
            "a session that was recorded",
            "session.opened",
            "!!",
        ],
    )
}

#[test]
fn the_daemon_cannot_be_traced_or_signalled_or_looked_into() -> Result<()> {
    let lab = Lab::new()?;
    let pid = lab.daemon.process().context("the daemon runs")?.pid();
    let program = r#"
import ctypes, os, signal, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
pidfd = os.pidfd_open(pid)
attempts = {
    "attach": lambda: libc.ptrace(16, pid, 0, 0),
    "seize": lambda: libc.ptrace(0x4206, pid, 0, 0),
    "getfd": lambda: libc.syscall(438, pidfd, 3, 0),
    "kcmp": lambda: libc.syscall(312, os.getpid(), pid, 0, 0, 0),
    "madvise": lambda: libc.syscall(440, pidfd, None, 0, 21, 0),
    "read": lambda: libc.process_vm_readv(pid, None, 0, None, 0, 0) or -1,
    "prlimit": lambda: libc.prlimit(pid, 7, None, (ctypes.c_uint64 * 2)()),
}
for name, attempt in attempts.items():
    if attempt() >= 0:
        print("!!", name)
for name in ["SIGSTOP", "SIGKILL", "SIGHUP"]:
    try:
        os.kill(pid, getattr(signal, name))
        print("!!", name)
    except PermissionError:
        pass
print("done")
"#;
    let output = lab
        .agent()
        .run("/usr/bin/python3", &["-c", program, &pid.to_string()])?
        .ok()?;
    has(&output, &["done"])?;
    lacks(&output, &["!!"])?;
    lab.psql(&["select 1"])?.ok().map(drop)
}

#[test]
fn the_control_plane_gives_an_agent_nothing_but_its_own() -> Result<()> {
    // The kernel would not let it come so far.
    let lab = Lab::with(|settings| settings.more.push_str("unix: { others: permit }\n"))?;
    let program = r#"
import json, socket, sys
def ask(path, method, where, body=b"", headers=""):
    s = socket.socket(socket.AF_UNIX); s.settimeout(10)
    s.connect(path)
    head = f"{method} {where} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    answer = b""
    try:
        s.sendall(head.encode() + body)
        while chunk := s.recv(65536):
            answer += chunk
    except OSError:
        pass
    return answer.split(b"\r\n")[0].decode() + " " + answer.split(b"\r\n\r\n")[-1].decode()
run = sys.argv[1]
bodies = {
    "/v1/scopes/tag": {"which": {"cgroup": "/"}, "agent": "x"},
    "/v1/scopes/untag": {"cgroup": sys.argv[2]},
    "/v1/run": {"agent": "other"},
    "/v1/agents/thaw": {"agent": "demo"},
    "/v1/agents/kill": {"agent": "demo"},
    "/v1/reload": {},
    "/v1/records/read": {"what": "audit", "which": "all"},
}
for sock in ["control.sock", "agent.sock"]:
    for where, body in bodies.items():
        print(sock, "POST", where, ask(f"{run}/{sock}", "POST", where, json.dumps(body).encode()))
    for where in ["/v1/status", "/v1/metrics", "/v1/records", "//v1/status", "/v1/../v1/status"]:
        print(sock, "GET", where, ask(f"{run}/{sock}", "GET", where))
    print(sock, "huge", ask(f"{run}/{sock}", "POST", "/v1/run", b"[" * (4 << 20))[:40])
    print(sock, "long", ask(f"{run}/{sock}", "GET", "/" + "x" * 300000)[:40])
    print(sock, "headers", ask(f"{run}/{sock}", "GET", "/v1/self", headers="A: b\r\n" * 20000)[:40])
print("own", ask(f"{run}/agent.sock", "GET", "/v1/self"))
"#;
    let run = lab.daemon.run_directory();
    let words = ["-c", program, &run.to_string_lossy(), lab.daemon.scope()];
    let output = lab.agent().run("/usr/bin/python3", &words)?.ok()?;
    for line in output.lines().filter(|line| !line.starts_with("own")) {
        ensure!(!line.contains(" 200 "), "answered: {line}");
    }
    has(&output, &["own HTTP/1.1 200 OK", "\"agent\":\"demo\""])?;
    lacks(&output, &[lab.server.password(), "/secrets"])?;
    let knocked = |line: &Value| line["verb"] == "connect" && line["result"] == "refused";
    let line = lab.daemon.audit().wait_for("control", DEADLINE, knocked)?;
    ensure!(line["caller"]["agent"] == "demo", "not named: {line}");
    ensure!(
        line["caller"]["process"]["argv"][0] == "/usr/bin/python3",
        "another process: {line}"
    );
    let status = lab.daemon.cli(&["status"])?.ok()?;
    has(&status, &[lab.daemon.scope()])
}

#[test]
fn sockets_and_pins_cannot_be_replaced() -> Result<()> {
    let lab = Lab::new()?;
    let run = lab.daemon.run_directory();
    let program = r#"
import os, socket, sys
run, pins, state = sys.argv[1:]
attempts = {
    "unlink": lambda: os.unlink(run + "/agent.sock"),
    "rename": lambda: os.rename(run + "/agent.sock", run + "/old.sock"),
    "make": lambda: open(run + "/x", "w"),
    "bind": lambda: socket.socket(socket.AF_UNIX).bind(run + "/y"),
    "pins": lambda: os.listdir(pins),
    "state": lambda: open(state + "/x", "w"),
    "link": lambda: os.symlink("/etc/passwd", state + "/audit/x"),
    "authority": lambda: open(state + "/ca.pem", "a"),
}
for name, attempt in attempts.items():
    try:
        attempt()
        print("!!", name)
    except OSError:
        pass
print("done")
"#;
    let words = [
        "-c",
        program,
        &run.to_string_lossy(),
        &lab.daemon.pins().to_string_lossy(),
        &lab.daemon.state().to_string_lossy(),
    ];
    let output = lab.agent().run("/usr/bin/python3", &words)?.ok()?;
    has(&output, &["done"])?;
    lacks(&output, &["!!"])
}

#[test]
fn a_failed_login_upstream_tells_the_agent_nothing_of_it() -> Result<()> {
    let lab = Lab::with(|settings| {
        for target in &mut settings.targets {
            target.password = Some("not-the-password-31337".to_owned());
        }
    })?;
    let error = refused(lab.psql(&["select 1"])?)?;
    has(&error, &["FATAL"])?;
    lacks(
        &error,
        &["31337", lab.server.user(), "password authentication"],
    )
}
