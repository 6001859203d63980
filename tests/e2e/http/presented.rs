//! What a client presents as a credential of its own does not go on, however it is written, and is reported.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::DEADLINE;

use super::Shop;
use crate::lab::{has, lacks, text};

const CREDENTIAL: &str = "upstream-credential-0123";
/// What the agent presents, always the same.
const OWN: &str = "agents-own-secret";

/// Where the credential is put; the places in which the agent presents its own; as what each is reported.
const TABLE: [(&str, &[&str], &str, &[&str]); 6] = [
    (
        "{ secret: SECRET }",
        &[
            "-HAuthorization: Bearer agents-own-secret",
            "-HaUTHORIZATION: Basic agents-own-secret",
            "-HProxy-Authorization: agents-own-secret",
            "-HX-API-KEY: agents-own-secret",
            "-HX_Api_Key: agents-own-secret",
        ],
        "/v1/customers?a=b",
        &["authorization", "proxy-authorization", "x-api-key"],
    ),
    (
        "{ secret: SECRET, as: basic, user: agent }",
        &["-uagent:agents-own-secret"],
        "/v1/customers?a=b",
        &["authorization"],
    ),
    (
        "{ secret: SECRET, as: header, name: X-Own-Key }",
        &[
            "-HX-OWN-KEY: agents-own-secret",
            "-Hx-own-key: agents-own-secret",
            "-Hx_own_key: agents-own-secret",
        ],
        "/v1/customers?a=b",
        &["x-own-key"],
    ),
    (
        "{ secret: SECRET, as: query, name: api_key }",
        &["-HAuthorization: agents-own-secret"],
        "/v1/customers?api_key=agents-own-secret&a=b&API%5Fkey=agents-own-secret&x=y;api_key=agents-own-secret\
         &api.key=agents%2Down-secret&api_key%00z=agents-own-secret&api_key%5B%5D=agents-own-secret",
        &["authorization", "query api_key"],
    ),
    (
        "{ secret: SECRET }",
        &[
            "-HCookie: session=agents-own-secret; a=b",
            "-HSec-WebSocket-Protocol: realtime, openai-insecure-api-key.agents-own-secret",
        ],
        "/v1/customers?access_token=agents-own-secret&a=b&Api_Key=agents-own-secret",
        &[
            "cookie",
            "query access_token",
            "query api_key",
            "sec-websocket-protocol",
        ],
    ),
    (
        "{ secret: SECRET, as: cookie, name: session }",
        &[
            "-HCookie: session=agents-own-secret; kept=1;SESSION=\"agents-own-secret\"",
            "-HCookie:  %73ession = agents-own-secret; also=kept, session=agents-own-secret",
        ],
        "/v1/customers?a=b",
        &["cookie session"],
    ),
];

#[test]
fn what_a_client_presents_is_dropped_however_it_is_written() -> Result<()> {
    for (inject, presents, path, places) in TABLE {
        // The agent is given no cookies: it has them from elsewhere.
        let more: &[&str] = match places.contains(&"cookie") {
            true => &["strip_response_headers: [set-cookie]"],
            false => &[],
        };
        let shop = Shop::given(inject, CREDENTIAL, more)?;
        for version in ["--http1.1", "--http2"] {
            let arguments: Vec<_> = [version, "-g"].iter().chain(presents).copied().collect();
            shop.curl(&arguments, path)?;
            let arrived = shop.arrived()?;
            lacks(&arrived.to_string(), &["agents-own", "agents%2Down"])?;
            let (url, headers) = (text(&arrived, "/url")?, arrived.pointer("/headers"));
            ensure!(url.contains("a=b"), "{arrived}");
            ensure!(!path.contains("x=y") || url.contains("x=y"), "{arrived}");
            let mut headers = headers.context("headers")?.clone();
            headers.as_object_mut().context("a map")?.remove(":path");
            let headers = headers.to_string();
            let shown = format!("{url}{headers}").matches(CREDENTIAL).count();
            ensure!(shown == 1 || inject.contains("basic"), "{arrived}");
            ensure!(
                !inject.contains("cookie") || headers.contains("kept=1"),
                "{arrived}"
            );
        }
        let lines = shop.daemon.audit().events("credential.presented")?;
        let mut said: Vec<_> = lines
            .iter()
            .filter_map(|line| line.pointer("/user").and_then(Value::as_str))
            .collect();
        said.sort_unstable();
        said.dedup();
        ensure!(said == places, "{inject}: {said:?}");
        for line in lines {
            let fingerprint = text(&line, "/fingerprint")?.to_owned();
            ensure!(
                fingerprint.len() == 64 && !fingerprint.contains(OWN),
                "{line}"
            );
        }
    }
    Ok(())
}

#[test]
fn trailers_of_a_request_bring_no_credential() -> Result<()> {
    let shop = Shop::new(&[])?;
    let program = r#"
import socket, ssl, sys
port, ca = int(sys.argv[1]), sys.argv[2]
tls = ssl.create_default_context(cafile=ca)
s = tls.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
s.sendall(f"POST /v1/orders HTTP/1.1\r\nHost: localhost:{port}\r\nTrailer: authorization, x-kept\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nAuthorization: agents-own-secret\r\nX-Kept: yes\r\n\r\n".encode())
f = s.makefile("rb")
print(f.readline().decode().strip())
"#;
    let (port, ca) = (shop.address.port().to_string(), shop.daemon.authority());
    let python = ["-c", program, &port, &ca.to_string_lossy()];
    let said = shop.agent().run("/usr/bin/python3", &python)?.ok()?;
    ensure!(said.contains("200"), "{said}");
    let arrived = shop.arrived()?;
    lacks(&arrived.to_string(), &["agents-own"])?;
    ensure!(text(&arrived, "/trailers/x-kept")? == "yes", "{arrived}");
    let lines = shop.daemon.audit().events("credential.presented")?;
    ensure!(lines.len() == 1, "{lines:?}");
    Ok(())
}

#[test]
fn cookies_that_go_on_beside_a_credential_are_reported_and_not_recorded() -> Result<()> {
    let shop = Shop::given("{ secret: SECRET }", CREDENTIAL, &[])?;
    shop.curl(&["-HCookie: session=agents-own-secret"], "/v1/customers")?;
    let arrived = shop.arrived()?;
    ensure!(
        text(&arrived, "/headers/cookie")? == "session=agents-own-secret",
        "{arrived}"
    );
    let audit = shop.daemon.audit();
    let lines = audit.events("credential.presented")?;
    let places: Vec<_> = lines.iter().map(|line| text(line, "/user")).collect();
    ensure!(matches!(places[..], [Ok("cookie (kept)")]), "{lines:?}");
    let closed = audit.wait_for("session.closed", DEADLINE, |_| true)?;
    let session = text(&closed, "/session")?;
    let shown = shop.daemon.cli(&["sessions", "show", session])?.ok()?;
    has(&shown, &["cookie: session=?", "set-cookie: session=?"])?;
    lacks(&shown, &[OWN, "session=upstream"])
}
