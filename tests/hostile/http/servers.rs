//! Servers that answer as no server does, and that never stop.

use std::io::{Cursor, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use support::DEADLINE;

use super::{Rig, without_end};
use crate::lab::{has, lacks};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Answers one request of HTTP/1.
#[expect(clippy::disallowed_methods, reason = "a server that dribbles waits")]
pub(super) fn one(client: &mut TcpStream, path: &str, sent: &AtomicUsize) -> Result<()> {
    let head = |client: &mut TcpStream, text: &str| client.write_all(text.as_bytes());
    match path.split('?').next().unwrap_or_default() {
        "/head/slow" => {
            head(client, "HTTP/1.1 200 OK\r\nX-A: ")?;
            loop {
                client.write_all(b"a")?;
                thread::sleep(Duration::from_millis(20));
            }
        }
        "/head/long" => {
            head(client, "HTTP/1.1 200 OK\r\nX-A: ")?;
            without_end(client, &[b'a'; 4096], sent)
        }
        "/head/many" => {
            head(client, "HTTP/1.1 200 OK\r\n")?;
            without_end(client, b"X-A: a\r\n", sent)
        }
        "/head/hints" => without_end(client, b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n", sent),
        "/head/none" => without_end(client, b"\0\x01\x02\x03", sent),
        "/head/folded" => Ok(head(
            client,
            "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        )?),
        "/head/lengths" => Ok(head(
            client,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        )?),
        "/head/both" => Ok(head(
            client,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        )?),
        path if path.starts_with("/body/") => body(client, path, sent),
        _ => Ok(client.write_all(OK)?),
    }
}

/// A body, behind a head that says what is to come.
fn body(client: &mut TcpStream, path: &str, sent: &AtomicUsize) -> Result<()> {
    let head = |client: &mut TcpStream, text: &str| client.write_all(text.as_bytes());
    match path {
        "/body/size" => Ok(head(client, &format!("{CHUNKED}fffffffffffffffff\r\n"))?),
        "/body/sizes" => {
            head(client, CHUNKED)?;
            without_end(client, &[b'0'; 4096], sent)
        }
        "/body/extension" => {
            head(client, &format!("{CHUNKED}2;x="))?;
            without_end(client, &[b'a'; 4096], sent)
        }
        "/body/trailers" => {
            head(client, &format!("{CHUNKED}2\r\nok\r\n0\r\n"))?;
            without_end(client, b"X-A: a\r\n", sent)
        }
        "/body/events" => {
            let kind = "\r\nContent-Type: text/event-stream\r\n\r\n";
            head(client, &CHUNKED.replace("\r\n\r\n", kind))?;
            without_end(client, b"10\r\ndata: something\n\r\n", sent)
        }
        "/body/endless" => {
            head(
                client,
                "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n",
            )?;
            without_end(client, &[b'x'; 1 << 16], sent)
        }
        "/body/nothing" => {
            // What stands for nothing, for ever: nothing is ever to be decided about it.
            head(
                client,
                "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\nhostile-01234",
            )?;
            without_end(client, &[0; 1 << 16], sent)
        }
        "/body/short" => {
            head(client, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")?;
            anyhow::bail!("done")
        }
        _ => Ok(client.write_all(OK)?),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// A server of HTTP/2 that fills every window that it is given, for ever.
pub(super) fn two(mut client: TcpStream, first: Vec<u8>, sent: &AtomicUsize) -> Result<()> {
    client.write_all(&frame(4, 0, 0, &[]))?;
    let (mut all, mut each) = (65_535_i64, 65_535_i64);
    let mut streams: Vec<(u32, i64)> = Vec::new();
    // Settings come with the preface.
    let mut from = Cursor::new(first).chain(client.try_clone()?);
    client.write_all(&frame(4, 1, 0, &[]))?;
    let mut head = [0; 9];
    loop {
        for (stream, window) in &mut streams {
            while all >= 16_384 && *window >= 16_384 {
                client.write_all(&frame(0, 0, *stream, &[b'x'; 16_384]))?;
                sent.fetch_add(16_384, Ordering::SeqCst);
                all -= 16_384;
                *window -= 16_384;
            }
        }
        from.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        match head[3] {
            1 => {
                client.write_all(&frame(1, 4, stream, &[0x88]))?;
                streams.push((stream, each));
            }
            3 => streams.retain(|(own, _)| *own != stream),
            4 if head[4] & 1 == 0 => {
                for setting in body.chunks_exact(6) {
                    if let [0, 4, a, b, c, d] = setting {
                        let own = i64::from(u32::from_be_bytes([*a, *b, *c, *d]));
                        streams
                            .iter_mut()
                            .for_each(|(_, window)| *window += own - each);
                        each = own;
                    }
                }
            }
            8 => {
                let more = body.first_chunk().copied().map(u32::from_be_bytes);
                let more = i64::from(more.unwrap_or_default());
                match streams.iter_mut().find(|(own, _)| *own == stream) {
                    Some((_, window)) => *window += more,
                    None => all += more,
                }
            }
            _ => {}
        }
    }
}

#[test]
fn heads_that_no_server_sends_are_told_as_no_answer() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    for path in ["long", "many", "none", "folded", "lengths"] {
        let url = format!("http://{}/head/{path}", rig.server.address);
        let asked = ["-sS", "-i", "--max-time", "30", &url];
        let said = rig.daemon.agent().run("curl", &asked)?.ok();
        let said = said.with_context(|| path.to_owned())?;
        has(&said, &["HTTP/1.1 502 ", "gave no answer"])?;
        lacks(&said, &["X-A"])?;
    }
    let url = format!("http://{}/head/both", rig.server.address);
    let said = rig.daemon.agent().run("curl", &["-sS", "-i", &url])?.ok()?;
    has(&said, &["200 OK", "ok"])?;
    lacks(&said.to_ascii_lowercase(), &["content-length: 3"])?;
    rig.is_well(before)
}

#[test]
fn a_server_that_dribbles_a_head_or_sends_hints_without_end_holds_up_nobody_else() -> Result<()> {
    let rig = Rig::with(&[])?;
    let before = rig.before()?;
    let ask = |path: &str| {
        let url = format!("http://{}/head/{path}", rig.server.address);
        rig.daemon.agent().start("curl", &["-sS", "-i", &url])
    };
    let mut hinted = Vec::new();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(ask("slow")?);
        hinted.push(ask("hints")?);
    }
    for _ in 0..5 {
        rig.is_well(before)?;
    }
    // Whoever waits goes on waiting; what gets nobody anywhere has an end.
    ensure!(
        held.iter().all(|one| !one.is_over()),
        "nobody waits any more"
    );
    for mut one in hinted {
        has(&one.finish(DEADLINE)?.ok()?, &["HTTP/1.1 502 "])?;
    }
    rig.is_well(before)
}

#[test]
fn bodies_that_no_server_sends_are_cut_off() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    for path in ["size", "sizes", "extension", "trailers", "short"] {
        let url = format!("http://{}/body/{path}", rig.server.address);
        let asked = ["-sS", "-i", "--max-time", "30", &url];
        let said = rig.daemon.agent().run("curl", &asked)?;
        ensure!(!said.status.success(), "{path}: {said:?}");
        ensure!(said.status.code() != Some(28), "{path} went on: {said:?}");
        rig.is_well(before)?;
    }
    Ok(())
}

#[test]
fn bodies_without_end_are_carried_in_little_memory_whether_anybody_reads_them() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    let reads = r#"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
s.sendall(b"GET /body/%s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n\r\n" % (sys.argv[2].encode(), sys.argv[1].encode()))
left = int(sys.argv[3])
while left > 0:
    left -= len(s.recv(1 << 16))
print("read", flush=True)
sys.stdin.read()
"#;
    let mut held = Vec::new();
    for path in ["events", "endless", "nothing"] {
        for most in ["100", "4000000"] {
            let port = rig.port();
            let python = ["-c", reads, &port, path, most];
            let reader = rig.daemon.agent().start("/usr/bin/python3", &python)?;
            reader.await_text("read", DEADLINE)?;
            held.push(reader);
        }
        rig.is_well(before)?;
    }
    Ok(())
}
