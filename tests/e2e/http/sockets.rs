//! WebSockets on streams of HTTP/2: judged, recorded and looked at as upgrades of HTTP/1.1 are, whichever of the two
//! their server takes.

use anyhow::{Context as _, Result, ensure};
use support::{DEADLINE, place};

use super::{POLICY, Shop, TOKEN};
use crate::lab::{has, lacks, text};

const BEARER: (&str, &str) = ("{ secret: SECRET }", TOKEN);

fn shop(served: &[&str], more: &[&str]) -> Result<Shop> {
    Shop::serving(served, BEARER, more, POLICY, &[])
}

fn client(shop: &Shop, protocol: &str, path: &str, words: &[&str]) -> Result<String> {
    let script = place::workspace().join("tests/e2e/http/clients/sockets.mjs");
    let (script, ca) = (script.to_string_lossy(), shop.daemon.authority());
    let (ca, place) = (
        ca.to_string_lossy(),
        format!("localhost:{}", shop.address.port()),
    );
    let words = [&[&*script, &*place, &*ca, protocol, path][..], words].concat();
    shop.agent().run("node", &words)?.ok()
}

#[test]
fn a_socket_is_carried_on_a_stream_where_its_server_takes_such_and_else_as_an_upgrade() -> Result<()>
{
    let words = ["get:/v1/customers", "hello", "again"];
    for (served, arrives) in [
        (
            &["sockets"][..],
            [
                ("/method", "CONNECT"),
                ("/httpVersion", "2.0"),
                ("/body", "websocket"),
            ],
        ),
        (
            &[],
            [
                ("/method", "GET"),
                ("/httpVersion", "1.1"),
                ("/headers/upgrade", "websocket"),
            ],
        ),
    ] {
        let shop = shop(served, &[])?;
        let said = client(&shop, "websocket", "/v1/socket", &words)?;
        let wanted =
            "offered true\ngot 200\nstatus 200\nheard hello\nheard again\nclosed\ngot 200\n";
        ensure!(said == wanted, "{served:?}: {said}");
        let lines = std::fs::read_to_string(&shop.log)?;
        let opened = lines.lines().find(|line| line.contains("/v1/socket"));
        let opened: serde_json::Value = serde_json::from_str(opened.context("a socket")?)?;
        for (place, wanted) in arrives {
            ensure!(text(&opened, place)? == wanted, "{opened}");
        }
        has(&opened.to_string(), &[TOKEN])?;
        let audit = shop.daemon.audit();
        let permitted = audit.wait_for("request.permitted", DEADLINE, |line| {
            text(line, "/summary").is_ok_and(|summary| summary == "GET /v1/socket")
        })?;
        has(&permitted.to_string(), &["HttpUpgrade"])?;
        lacks(&permitted.to_string(), &["HttpOther", "HttpGet"])?;
        audit.wait_for("request.finished", DEADLINE, |line| {
            text(line, "/status").is_ok_and(|status| status.starts_with("101"))
        })?;
    }
    Ok(())
}

#[test]
fn a_socket_is_judged_and_looked_at_before_anything_goes_on() -> Result<()> {
    for served in [&["sockets"][..], &[]] {
        let shop = shop(served, &[])?;
        // What the server shows of the credential is covered in frames.
        let said = client(
            &shop,
            "websocket",
            "/v1/socket",
            &["get:/v1/customers", "show"],
        )?;
        has(&said, &["heard {", "Bearer *"])?;
        lacks(&said, &[TOKEN])?;
        for (protocol, path, told) in [
            ("websocket", "/v1/admin/socket", "status 403"),
            ("websocket", "/v1/elsewhere", "status 403"),
            ("websocket", "/v1/%2e%2e/socket", "status 400"),
            ("connect-udp", "/v1/socket", "status 501"),
        ] {
            let said = client(&shop, protocol, path, &[])?;
            has(&said, &[told, "\"detail\"", "\ngot 200\n"])
                .with_context(|| format!("{protocol} {path}"))?;
        }
        let arrived = std::fs::read_to_string(&shop.log)?;
        lacks(&arrived, &["admin", "elsewhere", "%2e"])?;
        // What cannot be masked is not opened.
        let shop = self::shop(served, &["mask: { customers.email: email }"])?;
        let said = client(&shop, "websocket", "/v1/socket", &["get:/v1/customers"])?;
        has(&said, &["status 403", "it is no answer, but a connection"])?;
    }
    Ok(())
}
