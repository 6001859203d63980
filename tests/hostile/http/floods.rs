//! Clients that flood, dribble, and never read.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use support::DEADLINE;

use super::{Rig, TWO};
use crate::lab::has;

/// What one connection of HTTP/2 may make the daemon hold whose client reads nothing, in KiB: its streams, and what
/// its server may send before any of it is read.
const EACH: u64 = 24 << 10;
/// Bytes that a server may send at least before any of it is read, of what one connection asks for.
const FILLED: usize = 3 << 20;

fn two(rest: &str) -> String {
    format!("{TWO}\n{rest}")
}

#[test]
fn streams_that_are_taken_back_at_once_end_the_connection() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    let said = rig.attack(&two(r#"
for _ in range(8):
    s = open()
    try:
        for turn in range(200):
            s.sendall(b"".join(ask(2 * at + 1) + frame(3, 0, 2 * at + 1, b"\0\0\0\x08")
                               for at in range(turn * 100, turn * 100 + 100)))
    except OSError:
        pass
    print(until_closed(s))
"#))?;
    ensure!(said.lines().count() == 8, "{said}");
    rig.is_well(before)?;
    let asked = rig.daemon.audit().lines()?.len();
    ensure!(
        asked < 8 * 2_000,
        "{asked} lines for streams that nobody waited for"
    );
    Ok(())
}

#[test]
fn a_head_in_frames_without_end_is_no_request() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    let said = rig.attack(&two(
        r#"
# Without end and with nothing; without end and with much; small ones that say the same again and again.
for piece in [b"", b"\x00\x03x-a\x7f\xe1\x3e" + b"a" * 8160, b"\xbe" * 16000]:
    s = open()
    first = block() + b"\x40\x03x-b\x7f\x81\x1e" + b"b" * 4000
    try:
        s.sendall(frame(1, 1, 1, first))
        for _ in range(20000):
            s.sendall(frame(9, 0, 1, piece))
            if piece and _ > 4000:
                break
    except OSError:
        pass
    s.settimeout(20)
    print(until_closed(s))
"#,
    ))?;
    ensure!(said.lines().count() == 3, "{said}");
    ensure!(!rig.server.arrived().contains("x-a"), "it went on");
    rig.is_well(before)
}

#[test]
fn settings_and_pings_without_end_are_held_back_where_nobody_reads_the_answers() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    let program = two(r#"
kind = {"ping": frame(6, 0, 0, b"12345678"), "settings": frame(4, 0, 0, b"\0\3\0\0\0\x64"), "window": frame(8, 0, 0, b"\0\0\0\1"),
        "priority": frame(2, 0, 3, b"\0\0\0\1\x10"), "empty": frame(0, 0, 1, b"")}[sys.argv[2]]
s = open()
s.sendall(ask(1, b"/ok", 4))
s.settimeout(3)
sent = 0
try:
    while sent < 64 << 20:
        sent += s.send(kind * 4000)
except OSError as error:
    pass
print("held", flush=True)
sys.stdin.read()
"#);
    let mut held = Vec::new();
    for kind in ["ping", "settings", "window", "priority", "empty"] {
        let port = rig.port();
        let python = ["-c", &program, &port, kind];
        let flood = rig.daemon.agent().start("/usr/bin/python3", &python)?;
        flood.await_text("held", DEADLINE)?;
        held.push(flood);
        rig.is_well(before)?;
    }
    Ok(())
}

#[test]
fn streams_that_nobody_reads_hold_little_each() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    let program = two(r#"
held = []
for _ in range(4):
    # Windows as large as there are, and nothing is ever read of the socket.
    s = open(b"\0\4\x7f\xff\xff\xff")
    s.sendall(frame(8, 0, 0, b"\x7f\0\0\0"))
    s.sendall(b"".join(ask(2 * at + 1) for at in range(256)))
    held.append(s)
print("held", flush=True)
sys.stdin.read()
"#);
    let port = rig.port();
    let python = ["-c", &program, &port];
    let mut held = rig.daemon.agent().start("/usr/bin/python3", &python)?;
    held.await_text("held", DEADLINE)?;
    let mut last = (0, 0);
    // Until the server has got rid of no more for ten requests of the neighbour.
    while last.1 < 10 {
        rig.is_within(before, 4 * EACH)?;
        let sent = rig.server.sent.load(Ordering::SeqCst);
        last = match sent > 0 && sent == last.0 {
            true => (sent, last.1 + 1),
            false => (sent, 0),
        };
    }
    // It has filled every window that the daemon gave it.
    ensure!(last.0 >= 4 * FILLED, "only {} bytes were sent", last.0);
    held.close_input();
    Ok(())
}

#[test]
fn heads_that_come_letter_by_letter_are_given_up_in_time() -> Result<()> {
    let rig = Rig::with_more(&[], &["timeouts: { startup: 2s }"])?;
    let before = rig.before()?;
    let said = rig.attack(
        r#"
import socket, sys, time
port = int(sys.argv[1])
held = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(40)]
for at, s in enumerate(held):
    s.sendall([b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", b"\x16\x03\x01", b"PRI * HT"][at % 4])
done = 0
for s in held:
    try:
        while True:
            try:
                s.send(b"a")
            except OSError:
                done += 1
                break
            time.sleep(0.02)
            s.setblocking(False)
            try:
                if not s.recv(4096):
                    done += 1
                    break
            except BlockingIOError:
                pass
            except OSError:
                done += 1
                break
            s.setblocking(True)
    finally:
        s.close()
print("given up", done)
"#,
    )?;
    has(&said, &["given up 40"])?;
    rig.is_well(before)
}
