//! Clients that are refused while they still send: they have their answer, and hold nothing up for long.

use anyhow::{Context as _, Result, ensure};

use super::{Rig, TWO};
use crate::lab::has;

/// Over HTTP/2 a stream is answered before its body has come. `rest` of it comes then, or never.
const STREAMS: &str = r#"
def ends(s, streams):
    "Reads until these streams have ended; what became of them."
    said = []
    while streams:
        got = read(s)
        if got is None:
            said.append("closed")
            break
        kind, flags, stream, body = got
        if kind == 3:
            said.append("reset %d %d" % (stream, struct.unpack("!I", body)[0]))
        if kind == 3 or kind in (0, 1) and flags & 1:
            streams.discard(stream)
    return said
s = open()
post = b"\x83\x86" + text(4, b"/closed/x") + text(1, b"127.0.0.1:%d" % port)
s.sendall(frame(1, 4, 1, post) + frame(0, 0, 1, b"x" * 1000))
said = ends(s, {1})
s.sendall(frame(0, 1, 1, b"y" * 1000) + ask(3, b"/closed/y"))
said += ends(s, {3})
print("rest", said, flush=True)
s.sendall(frame(1, 4, 5, post) + frame(0, 0, 5, b"x" * 1000))
ends(s, {5})
print("slow", ends(s, {5}), flush=True)
s.sendall(ask(7, b"/closed/z"))
print("next", ends(s, {7}), flush=True)
"#;

#[test]
fn a_refused_stream_is_not_broken_off_while_a_little_of_it_still_comes() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    let said = rig.attack(&format!("{TWO}{STREAMS}"))?;
    has(&said, &["rest []\n", "slow ['reset 5 0']\n", "next []\n"])?;
    rig.is_well(before)
}

/// Over HTTP/1.1 a connection is answered before a body has come: of 2,000 bytes, of very many, and of those that wait
/// for a word.
const CONNECTIONS: &str = r#"
import socket, sys
port = int(sys.argv[1])
def begun(length, more=b"", body=b""):
    s = socket.create_connection(("127.0.0.1", port), 30)
    s.sendall(b"POST /closed/x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n" % (port, length) + more + b"\r\n" + body)
    return s
def answer(s):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = s.recv(1)
        if not byte:
            return "closed"
        head += byte
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(length[0].split(b":")[1]) if length else 0
    while left:
        left -= len(s.recv(left)) or left
    return head.split(b"\r\n")[0].decode()
s = begun(2000, body=b"x" * 1000)
print("first", answer(s), flush=True)
s.sendall(b"y" * 1000 + b"GET /ok HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)
print("second", answer(s), flush=True)
s = begun(1000, b"Expect: 100-continue\r\n")
print("waits", answer(s), flush=True)
s = begun(1 << 30, body=b"x" * 1000)
print("long", answer(s), flush=True)
sent = 0
try:
    while sent < 1 << 30:
        sent += s.send(b"z" * 65536)
except OSError:
    pass
print("sent", sent, flush=True)
"#;

#[test]
fn a_refused_connection_goes_on_behind_a_little_that_still_comes() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    let said = rig.attack(CONNECTIONS)?;
    let refused = "HTTP/1.1 403 Forbidden\n";
    let answers = ["first", "waits", "long"].map(|of| format!("{of} {refused}"));
    has(&said, &answers.each_ref().map(String::as_str))?;
    has(&said, &["second HTTP/1.1 200 OK\n"])?;
    let sent = said.lines().find_map(|line| line.strip_prefix("sent "));
    let sent: u64 = sent.context("nothing was sent")?.parse()?;
    // What lies in buffers of the kernel has been sent too.
    ensure!(sent < 64 << 20, "{sent} bytes were read");
    rig.is_well(before)
}
