//! A server that shows the credential that it was given: the agent does not see it, in whatever form it comes.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use support::DEADLINE;

use super::Shop;
use crate::lab::{has, lacks, text};

/// Letters that every way of writing text writes in its own way.
const CREDENTIAL: &str = "s3c/r3t+=\"<&>'0123456789abcdefXYZ~";
/// How the server shows what it was given.
const WAYS: [&str; 14] = [
    "json", "nested", "html", "percent", "form", "base64", "lines", "hex", "upper", "utf16",
    "sized", "dribble", "early", "redirect",
];

/// What none of the answers may hold, however it is written: any sixteen letters of the credential.
fn holds(answer: &str) -> Option<String> {
    let folded = answer
        .replace(['\0', '\r', '\n', '\\'], "")
        .to_ascii_lowercase();
    let sixteen = |text: &str| {
        let letters: Vec<char> = text.to_ascii_lowercase().chars().collect();
        let pieces = letters.windows(16).map(|piece| piece.iter().collect());
        pieces.collect::<Vec<String>>()
    };
    let percent = |text: &str| {
        let coded = text.bytes().map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02x}"),
        });
        coded.collect::<String>()
    };
    let html: String = CREDENTIAL
        .bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() || byte == b'~' {
            true => char::from(byte).to_string(),
            false => format!("&#x{byte:x};"),
        })
        .collect();
    let hex: String = CREDENTIAL
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let shifted = |pad: &str| {
        let coded = STANDARD.encode(format!("{pad}{CREDENTIAL}"));
        coded.get(4..coded.len() - 4).unwrap_or_default().to_owned()
    };
    let forms = [
        CREDENTIAL.to_owned(),
        percent(CREDENTIAL),
        html,
        hex,
        shifted(""),
        shifted("1"),
        shifted("22"),
        STANDARD.encode(format!("agent:{CREDENTIAL}")).split_off(8),
    ];
    forms
        .iter()
        .flat_map(|form| sixteen(form))
        .find(|piece| folded.contains(piece.as_str()))
}

#[test]
fn a_credential_that_the_server_shows_does_not_reach_the_agent() -> Result<()> {
    for inject in [
        "{ secret: SECRET }",
        "{ secret: SECRET, as: basic, user: agent }",
        "{ secret: SECRET, as: header, name: X-Key, prefix: 'key ' }",
        "{ secret: SECRET, as: cookie, name: session }",
        "{ secret: SECRET, as: query, name: api_key }",
    ] {
        let shop = Shop::given(inject, CREDENTIAL, &[])?;
        for version in ["--http1.1", "--http2"] {
            for way in WAYS {
                let path = format!("/v1/shown/{way}?a=b");
                let said = shop.curl(&[version, "-i", "--raw"], &path)?;
                let status = if way == "redirect" {
                    "\n302 "
                } else {
                    "\n200 "
                };
                has(&said, &[status])?;
                if let Some(piece) = holds(&said) {
                    anyhow::bail!("{inject} {version} {way} shows {piece}: {said}");
                }
                ensure!(
                    said.contains("********"),
                    "{inject} {version} {way}: {said}"
                );
            }
        }
        let audit = shop.daemon.audit();
        let returned = audit.events("credential.returned")?;
        ensure!(returned.len() == 2 * WAYS.len(), "{}", returned.len());
        let line = returned.first().context("a line")?;
        ensure!(text(line, "/place")? == "header", "{line}");
        for line in audit.lines()? {
            ensure!(holds(&line.to_string()).is_none(), "{line}");
        }
        let closed = audit.wait_for("session.closed", DEADLINE, |_| true)?;
        let shown = ["sessions", "show", text(&closed, "/session")?];
        let shown = shop.daemon.cli(&shown)?.ok()?;
        has(&shown, &["GET /v1/shown/json"])?;
        ensure!(holds(&shown).is_none(), "{shown}");
        let metrics = shop.daemon.cli(&["metrics"])?.ok()?;
        let counted = format!(
            "interceptor_credentials_returned_total{{target=\"api\"}} {}",
            2 * WAYS.len()
        );
        has(&metrics, &[&counted])?;
    }
    Ok(())
}

#[test]
fn an_answer_that_cannot_be_searched_is_refused() -> Result<()> {
    let shop = Shop::given("{ secret: SECRET }", CREDENTIAL, &["unread: pass"])?;
    for version in ["--http1.1", "--http2"] {
        let said = shop.curl(&[version, "-i"], "/v1/shown/gzip")?;
        // Nobody asked for it: it is unpacked, and searched as it is.
        has(&said, &["\n200 ", "*******"])?;
        lacks(&said, &[CREDENTIAL, "content-encoding"])?;
        let said = shop.curl(
            &[
                version,
                "-H",
                "Accept-Encoding: gzip, br",
                "-r",
                "0-9",
                "-H",
                "TE: gzip",
            ],
            "/v1/customers",
        )?;
        has(&said, &["\n200 ", "Ann"])?;
        let arrived = shop.arrived()?;
        ensure!(
            text(&arrived, "/headers/accept-encoding")? == "identity",
            "{arrived}"
        );
        ensure!(arrived.pointer("/headers/range").is_none(), "{arrived}");
        ensure!(arrived.pointer("/headers/te").is_none(), "{arrived}");
        for method in ["TRACE", "trace", "TRACK"] {
            let before = shop.arrivals();
            let said = shop.curl_raw(&[version, "-X", method, "-i"], "/v1/customers")?;
            ensure!(
                shop.arrivals() == before,
                "{method} went on: {}",
                said.stdout
            );
        }
    }
    Ok(())
}

#[test]
fn a_credential_that_could_not_be_told_from_other_text_is_not_used() -> Result<()> {
    let shop = Shop::given("{ secret: SECRET }", "1234567", &[])?;
    for version in ["--http1.1", "--http2"] {
        let said = shop.curl(&[version, "-i"], "/v1/customers")?;
        has(
            &said,
            &["\n503 ", "the credential for this target is not available"],
        )?;
    }
    ensure!(shop.arrivals() == 0, "something was forwarded");
    let log = shop.daemon.process().context("the daemon runs")?.log();
    has(&log, &["shorter than 8 bytes"])
}

#[test]
fn a_credential_that_comes_back_over_a_websocket_is_covered_across_its_frames() -> Result<()> {
    let shop = Shop::given("{ secret: SECRET }", CREDENTIAL, &[])?;
    let program = r#"
import base64, os, socket, ssl, sys
port, ca = int(sys.argv[1]), sys.argv[2]
tls = ssl.create_default_context(cafile=ca)
s = tls.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
key = base64.b64encode(os.urandom(16)).decode()
s.sendall(f"GET /v1/socket HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode())
f = s.makefile("rb")
print(f.readline().decode().strip())
while f.readline().strip():
    pass
def frame():
    head = f.read(2)
    return head[0], f.read(head[1] & 127)
for text in [b"show", b"hello", b"a", b"0123"]:
    s.sendall(bytes([0x81, 0x80 | len(text)]) + b"\0\0\0\0" + text)
    whole, kinds = b"", []
    while True:
        kind, piece = frame()
        if kind & 8:
            print("control", piece.decode())
            continue
        whole += piece
        if kind & 0x80:
            break
    print(whole.decode())
"#;
    let (port, ca) = (shop.address.port().to_string(), shop.daemon.authority());
    let python = ["-c", program, &port, &ca.to_string_lossy()];
    let said = shop.agent().run("/usr/bin/python3", &python)?.ok()?;
    has(
        &said,
        &[
            "101 Switching",
            "control hi",
            "********",
            "\nhello\na\n0123\n",
        ],
    )?;
    ensure!(holds(&said).is_none(), "{said}");
    lacks(&said, &["permessage"])?;
    let returned = shop.daemon.audit().events("credential.returned")?;
    let places: Vec<_> = returned
        .iter()
        .filter_map(|line| line.pointer("/place").and_then(Value::as_str))
        .collect();
    ensure!(places == ["connection"], "{returned:?}");
    Ok(())
}
