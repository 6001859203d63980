//! An agent that wants to be taken for somebody else, or to write lines of its own into the audit.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use support::{DEADLINE, place};

use crate::lab::{Lab, has, text};

/// What a careless writer of lines would take for the end of one and for another.
const FORGED: &str = "x\"}\n{\"event\":\"control\",\"verb\":\"forged\"}\r\n\u{1b}[2J\u{2028}\0";

#[test]
fn names_that_look_like_lines_write_none() -> Result<()> {
    let lab = Lab::new()?;
    let directory = place::temporary("mask")?;
    let forged = FORGED.trim_end_matches('\0');
    let program = directory
        .path()
        .join(format!("psql {}", forged.replace('/', "")));
    fs::copy("/usr/bin/python3", &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let code = r#"
import ctypes, socket, struct, sys
ctypes.CDLL(None).prctl(15, b'c"}\n{"event":1}', 0, 0, 0)
body = struct.pack("!i", 196608)
for name, value in [("user", sys.argv[2]), ("database", "shop"), ("application_name", sys.argv[2])]:
    body += name.encode() + b"\0" + value.encode() + b"\0"
body += b"\0"
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(struct.pack("!i", len(body) + 4) + body)
query = b"select 'x\"}\n{\"event\":\"forged\"}' as \"" + sys.argv[2].replace('"', '""').encode() + b"\"\0"
answer = b""
while b"Z\0\0\0\x05I" not in answer:
    chunk = s.recv(65536)
    if not chunk:
        break
    answer += chunk
s.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
s.recv(65536)
# A destination that no rule covers, refused under the same name.
socket.socket().connect_ex(("192.0.2.1", 9))
"#;
    let port = lab.server.address().port().to_string();
    let agent = lab.agent();
    agent
        .run(&program.to_string_lossy(), &["-c", code, &port, forged])?
        .ok()?;
    let log = lab.daemon.audit();
    log.wait_for("kernel.denied", DEADLINE, |_| true)?;
    let line = log.wait_for("session.opened", DEADLINE, |_| true)?;
    let seen = text(&line, "/principal/process/executable/path")?;
    ensure!(seen == program.to_string_lossy(), "another name: {seen:?}");
    ensure!(
        text(&line, "/asked_user")? == forged,
        "another user: {line}"
    );
    ensure!(log.events("forged")?.is_empty());
    let controls = log.events("control")?;
    let verbs: Vec<_> = controls
        .iter()
        .filter_map(|line| line.pointer("/verb"))
        .collect();
    ensure!(!verbs.contains(&&"forged".into()), "forged: {verbs:?}");
    lab.daemon.cli(&["audit", "verify"])?.ok().map(drop)
}

/// Speaks to the server as a script, from memory, deleted, and by way of the dynamic linker.
const DISGUISES: [(&str, &str); 4] = [
    (
        "memfd",
        "import os,sys; fd=os.memfd_create('psql'); os.write(fd,open('/usr/bin/python3','rb').read()); os.execve(fd,['psql','-c',sys.argv[2],sys.argv[1]],{})",
    ),
    (
        "linker",
        "import os,sys; os.execv('/lib64/ld-linux-x86-64.so.2',['psql','/usr/bin/python3','-c',sys.argv[2],sys.argv[1]])",
    ),
    (
        "deleted",
        "import os,shutil,sys,tempfile; d=tempfile.mkdtemp(); p=d+'/psql'; shutil.copy('/usr/bin/python3',p); os.chmod(p,0o755); pid=os.fork()\nif pid: os.waitpid(pid,0); shutil.rmtree(d)\nelse: os.execv(p,['psql','-c','import os,sys; os.unlink(sys.executable if sys.executable else \"/proc/self/exe\") if 0 else os.unlink(os.readlink(\"/proc/self/exe\")); '+sys.argv[2],sys.argv[1]])",
    ),
    (
        "argv",
        "import os,sys; os.execv('/usr/bin/python3',['/usr/lib/postgresql/15/bin/psql','-c',sys.argv[2],sys.argv[1]])",
    ),
];

/// A startup, and the wait for its answer.
const START: &str = "import socket,struct,sys; b=struct.pack('!i',196608)+b'user\\0a\\0database\\0shop\\0\\0'; s=socket.create_connection(('127.0.0.1',int(sys.argv[1]))); s.sendall(struct.pack('!i',len(b)+4)+b); print(s.recv(1))";

#[test]
fn no_disguise_is_taken_for_psql() -> Result<()> {
    let lab = Lab::new()?;
    let port = lab.server.address().port().to_string();
    let psql = place::postgres_programs()?.join("psql");
    lab.psql(&["select 1"])?.ok()?;
    let log = lab.daemon.audit();
    let real = log.wait_for("session.opened", DEADLINE, |_| true)?;
    let hash = text(&real, "/principal/process/executable/sha256")?.to_owned();
    ensure!(psql.is_file(), "no psql");
    for (disguise, program) in DISGUISES {
        let before =
            log.events("connection.opened")?.len() + log.events("connection.refused")?.len();
        lab.agent()
            .run("/usr/bin/python3", &["-c", program, &port, START])?
            .ok()
            .with_context(|| disguise)?;
        let lines = || -> Result<Vec<serde_json::Value>> {
            let mut lines = log.events("connection.opened")?;
            lines.extend(log.events("connection.refused")?);
            Ok(lines)
        };
        let lines = support::wait::for_fact("a line", DEADLINE, || {
            let lines = lines()?;
            Ok((lines.len() > before).then_some(lines))
        })?;
        let opened = log.events("connection.opened")?;
        let as_psql = opened
            .iter()
            .filter(|line| {
                text(line, "/principal/process/executable/sha256").is_ok_and(|seen| seen == hash)
            })
            .count();
        ensure!(as_psql == 1, "{disguise} was taken for psql: {lines:?}");
    }
    has(&lab.psql(&["select 'alive'"])?.ok()?, &["alive"])
}
