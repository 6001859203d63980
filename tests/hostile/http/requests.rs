//! Requests that two servers would read differently: refused, or sent on as one that all read alike.

use anyhow::{Result, ensure};

use super::{CREDENTIAL, Rig};

/// Sends what stands in the table, and says what comes back of each.
const SEND: &str = r#"
import socket, sys
port = int(sys.argv[1])
for line in sys.stdin:
    raw = bytes.fromhex(line.strip()).replace(b"PORT", b"%d" % port)
    s = socket.create_connection(("127.0.0.1", port), 20)
    got = b""
    try:
        s.sendall(raw)
        while b"\r\n\r\n" not in got or len(got) < 40:
            more = s.recv(65536)
            if not more:
                break
            got += more
    except OSError:
        pass
    print((got.split(b"\r\n")[0] or b"closed").decode(), flush=True)
    s.close()
"#;

/// Name, bytes, the status that the client gets.
const TABLE: [(&str, &str, &str); 44] = [
    (
        "plain",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "200",
    ),
    (
        "both lengths",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "200",
    ),
    (
        "lengths that differ",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "400",
    ),
    (
        "a list of lengths",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 5, 6\r\n\r\nabcdef",
        "400",
    ),
    (
        "a length with a sign",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: +5\r\n\r\nabcde",
        "400",
    ),
    (
        "a negative length",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: -5\r\n\r\nabcde",
        "400",
    ),
    (
        "a length that is too long",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 99999999999999999999\r\n\r\nabcde",
        "400",
    ),
    (
        "a hexadecimal length",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 0x5\r\n\r\nabcde",
        "400",
    ),
    (
        "a coding that is none",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "a coding twice",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "two codings",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "two headers of codings",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "chunked not last",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "a coding behind a tab",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
        "200",
    ),
    (
        "a coding behind a form feed",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding: \x0cchunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "a blank before the colon",
        "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "a coding in HTTP/1.0",
        "POST /ok HTTP/1.0\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "a line that goes on",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-A: a\r\n b\r\n\r\n",
        "400",
    ),
    (
        "a first line that goes on",
        "GET /ok HTTP/1.1\r\n Host: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "two hosts",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nHost: other.example\r\n\r\n",
        "400",
    ),
    (
        "the same host twice",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    ("no host", "GET /ok HTTP/1.1\r\n\r\n", "400"),
    (
        "another host in the line",
        "GET http://other.example/ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "a user in the line",
        "GET http://a:b@127.0.0.1:PORT/ok HTTP/1.1\r\nHost: a:b@127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "a host in the line",
        "GET http://127.0.0.1:PORT/ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "200",
    ),
    (
        "another host",
        "GET /ok HTTP/1.1\r\nHost: other.example\r\n\r\n",
        "421",
    ),
    (
        "another port",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
        "421",
    ),
    (
        "a bare return",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-A: a\rX-B: b\r\n\r\n",
        "400",
    ),
    (
        "bare ends of lines",
        "GET /ok HTTP/1.1\nHost: 127.0.0.1:PORT\n\n",
        "200",
    ),
    (
        "a zero in a value",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-A: a\0b\r\n\r\n",
        "400",
    ),
    (
        "a zero in a name",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-\0A: a\r\n\r\n",
        "400",
    ),
    (
        "a zero in the path",
        "GET /o\0k HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "an escaped zero",
        "GET /ok%00 HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "an escaped slash",
        "GET /x%2fclosed HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "dots",
        "GET /x/../closed HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "escaped dots",
        "GET /x/%2e%2e/closed HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "two slashes",
        "GET //closed HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "a backslash",
        "GET /x\\..\\closed HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "an escaped letter",
        "GET /%63losed HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "403",
    ),
    (
        "another path in a header",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-Original-URL: /closed\r\n\r\n",
        "400",
    ),
    (
        "a version that is none",
        "GET /ok HTTP/1.9\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "400",
    ),
    (
        "HTTP/2 in its middle",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "501",
    ),
    (
        "what cannot be searched",
        "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
        "501",
    ),
    (
        "a method that shows",
        "TRACE /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "501",
    ),
];

#[test]
fn what_servers_read_differently_does_not_go_on() -> Result<()> {
    let rig = Rig::new()?;
    let before = rig.before()?;
    let port = rig.port();
    let mut sender = rig
        .daemon
        .agent()
        .start("/usr/bin/python3", &["-c", SEND, &port])?;
    for (_, raw, _) in TABLE {
        let hex: String = raw.bytes().map(|byte| format!("{byte:02x}")).collect();
        sender.send(&format!("{hex}\n"))?;
    }
    sender.close_input();
    let said = sender.finish(support::DEADLINE)?.ok()?;
    let mut wrong = String::new();
    for ((name, _, status), line) in TABLE.iter().zip(said.lines()) {
        if line.split(' ').nth(1) != Some(status) {
            wrong.push_str(&format!("{name}: {line}, not {status}\n"));
        }
    }
    ensure!(
        wrong.is_empty() && said.lines().count() == TABLE.len(),
        "{wrong}{said}"
    );
    let arrived = rig.server.arrived();
    let requests = arrived.matches("HTTP/1.1\r\n").count();
    let fine = TABLE
        .iter()
        .filter(|(_, _, status)| *status == "200")
        .count();
    // And those of `before`.
    ensure!(requests == fine + 2, "{requests} went on: {arrived}");
    ensure!(arrived.matches(CREDENTIAL).count() == requests, "{arrived}");
    ensure!(
        !arrived.contains("closed") && !arrived.contains("other.example"),
        "{arrived}"
    );
    rig.is_well(before)
}

#[test]
fn a_second_request_is_never_hidden_in_a_first() -> Result<()> {
    let rig = Rig::new()?;
    let hidden = "GET /closed HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n";
    let length = hidden.len();
    let bodies = [
        format!(
            "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(
            "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding: chunked\r\n\r\n0;x=\"\r\n\r\n{hidden}"
        ),
        format!(
            "POST /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\n{hidden}"
        ),
        format!(
            "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{hidden}"
        ),
        format!("GET /ok HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nExpect: 100-continue\r\n\r\n{hidden}"),
    ];
    let port = rig.port();
    let mut sender = rig
        .daemon
        .agent()
        .start("/usr/bin/python3", &["-c", SEND, &port])?;
    for raw in &bodies {
        let hex: String = raw.bytes().map(|byte| format!("{byte:02x}")).collect();
        sender.send(&format!("{hex}\n"))?;
    }
    sender.close_input();
    let said = sender.finish(support::DEADLINE)?.ok()?;
    let arrived = rig.server.arrived();
    ensure!(!arrived.contains("/closed"), "{said}{arrived}");
    ensure!(said.lines().count() == bodies.len(), "{said}");
    Ok(())
}
