//! TLS that goes by undecrypted: at once, or where a program has shown that it does not trust the daemon's authority.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Finished};

use super::{POLICY, Shop};
use crate::lab::{has, lacks, text};

const PASS: &str = r#"
@id("pass") permit (principal is Agent, action == Action::"HttpPassThrough", resource)
when { context.host == "localhost" && context has tls && context.tls.untrusted };
"#;
const PASS_ALL: &str = r#"
@id("pass") permit (principal is Agent, action == Action::"HttpPassThrough", resource);
"#;

/// `curl` that trusts the server's own authority, and nobody else.
fn pinned(shop: &Shop, url: &str, more: &[&str]) -> Result<Finished> {
    let ca = shop._directory.path().join("ca.crt");
    for (path, mode) in [(shop._directory.path(), 0o755), (&ca, 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    let ca = ca.to_string_lossy();
    let words = [&["-sS", "-4", "--cacert", &ca], more, &[url]].concat();
    shop.agent().run("curl", &words)
}

#[test]
fn a_program_that_does_not_trust_goes_by_undecrypted_where_policy_permits_it() -> Result<()> {
    let policy = format!("{POLICY}{PASS}");
    let shop = Shop::made(("", ""), &["on_untrusted: passthrough"], &policy, &[])?;
    let url = shop.url("/v1/customers");
    let own = ["-H", "Authorization: Bearer agents-own"];
    let first = pinned(&shop, &url, &own)?;
    ensure!(!first.status.success(), "it was trusted: {first:?}");
    for version in ["--http1.1", "--http2"] {
        let said = pinned(&shop, &url, &[version, own[0], own[1]])?.ok()?;
        has(&said, &["Ann"])?;
    }
    // Nothing was decrypted: what the client has of its own has gone on.
    has(&shop.arrived()?.to_string(), &["agents-own"])?;
    let audit = shop.daemon.audit();
    let permitted = audit.events("request.permitted")?;
    ensure!(permitted.len() == 2, "{permitted:?}");
    let line = permitted.first().context("a line")?;
    let statement = text(line, "/statement")?;
    has(statement, &["TLS undecrypted to localhost, client t13d"])?;
    ensure!(text(line, "/rules/0")? == "pass", "{line}");
    let number = |line: &Value, place: &str| line.pointer(place).and_then(Value::as_u64);
    let finished = audit.wait_for("request.finished", DEADLINE, |line| {
        line.pointer("/status").and_then(Value::as_str) == Some("passed")
    })?;
    ensure!(number(&finished, "/bytes") > Some(500), "{finished}");
    let closed = audit.wait_for("session.closed", DEADLINE, |_| true)?;
    ensure!(number(&closed, "/sent") > Some(300), "{closed}");
    ensure!(number(&closed, "/received") > Some(500), "{closed}");
    lacks(&format!("{:?}", audit.lines()?), &["Ann"])?;
    // Another program is answered as ever.
    let ca = shop.daemon.authority();
    let python =
        "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1]).read().decode())";
    let agent = shop.agent().with("SSL_CERT_FILE", &ca.to_string_lossy());
    let said = agent.run("/usr/bin/python3", &["-c", python, &url])?.ok()?;
    has(&said, &["Ann"])?;
    let permitted = audit.events("request.permitted")?;
    let last = permitted.last().context("a line")?;
    ensure!(text(last, "/statement")? == "GET /v1/customers", "{last}");
    Ok(())
}

#[test]
fn a_program_that_does_not_trust_goes_nowhere_where_settings_or_policy_do_not_say_so() -> Result<()>
{
    let permitted = format!("{POLICY}{PASS_ALL}");
    for (more, policy) in [
        (vec!["on_untrusted: passthrough"], POLICY.to_owned()),
        (vec![], permitted),
    ] {
        let shop = Shop::made(("", ""), &more, &policy, &[])?;
        for _time in 0..3 {
            let said = pinned(&shop, &shop.url("/v1/customers"), &[])?;
            ensure!(!said.status.success(), "{more:?}: {said:?}");
        }
        ensure!(shop.arrivals() == 0, "{more:?}");
        // The same program, once it trusts.
        has(&shop.curl(&[], "/v1/customers")?, &["200"])?;
    }
    Ok(())
}

#[test]
fn what_goes_by_at_once_is_for_a_name_of_the_target_that_the_server_has() -> Result<()> {
    let policy = format!("{POLICY}{PASS_ALL}");
    let more = ["passthrough: true", "hosts: [localhost, stolen.example]"];
    let shop = Shop::made(("", ""), &more, &policy, &[])?;
    let said = pinned(&shop, &shop.url("/v1/customers"), &[])?.ok()?;
    has(&said, &["Ann"])?;
    let arrived = shop.arrivals();
    let port = shop.address.port();
    let refused = |host: &str, cause: &str| -> Result<()> {
        let resolve = format!("{host}:{port}:127.0.0.1");
        let url = format!("https://{host}:{port}/v1/customers");
        let said = pinned(&shop, &url, &["-k", "--resolve", &resolve])?;
        ensure!(!said.status.success(), "{host}: {said:?}");
        let audit = shop.daemon.audit();
        audit.wait_for("connection.refused", DEADLINE, |line| {
            let said = ["/refusal/message", "/cause"].map(|place| line.pointer(place));
            let mut said = said.into_iter().flatten().filter_map(Value::as_str);
            said.any(|said| said.contains(cause))
        })?;
        Ok(())
    };
    refused("127.0.0.1", "has to say which name it is for")?;
    refused("other.example", "none of this target's")?;
    // It is one of the target's, and the server's certificate is not for it.
    refused("stolen.example", "stolen.example")?;
    ensure!(shop.arrivals() == arrived, "something was asked for");
    Ok(())
}
