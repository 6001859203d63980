//! A request that waits for people: held, or told to come again, and answered then.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{Agent, DEADLINE, Daemon, place};

use super::Shop;
use crate::lab::{has, text};

const POLICY: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("deletes") @approve("games") permit (principal is Agent, action == Action::"HttpDelete", resource in Path::"api/v1/orders");
@id("orders") @approve("games") permit (principal is Agent, action == Action::"HttpPost", resource in Path::"api/v1/orders");
@id("answers") permit (principal is User, action == Action::"Approve", resource in Agent::"demo")
when { principal.groups.contains("games") };
"#;
/// The user of that group, which every Debian has.
const GAMES: u32 = 5;

/// What is asked about a path.
pub(super) fn asked(daemon: &Daemon, path: &str) -> Result<Value> {
    support::wait::for_fact("a request that waits", DEADLINE, || {
        let listed = daemon.cli(&["approvals", "ls", "--json"])?.ok()?;
        let all: Result<Vec<Value>, _> = listed.lines().map(serde_json::from_str).collect();
        let mut all = all.context("read what waits")?.into_iter();
        Ok(all.find(|one| text(one, "/text").is_ok_and(|text| text.contains(path))))
    })
}

pub(super) fn approve(daemon: &Daemon, id: &str) -> Result<()> {
    let socket = daemon.run_directory().join("control.sock");
    let socket = socket.to_string_lossy();
    let words = ["approvals", "approve", id, "--socket", &socket];
    let program = place::interceptor()?;
    let games = Agent::outside().as_uid(GAMES);
    games
        .run(&program.to_string_lossy(), &words)?
        .ok()
        .map(drop)
}

#[test]
fn a_request_is_held_until_somebody_says_yes() -> Result<()> {
    let shop = Shop::policed(POLICY, &["timeouts: { hold: 5m }"])?;
    for version in ["--http1.1", "--http2"] {
        let before = shop.arrivals();
        let (ca, url) = (shop.daemon.authority(), shop.url("/v1/orders/7"));
        let ca = ca.to_string_lossy();
        let delete = ["-sS", "--cacert", &ca, version, "-4", "-X", "DELETE", &url];
        let mut curl = shop.agent().start("curl", &delete)?;
        let one = asked(&shop.daemon, "/v1/orders/7")?;
        ensure!(
            shop.arrivals() == before && !curl.is_over(),
            "it did not wait"
        );
        has(text(&one, "/text")?, &["DELETE /v1/orders/7"])?;
        approve(&shop.daemon, text(&one, "/id")?)?;
        has(&curl.finish(DEADLINE)?.ok()?, &["DELETE /v1/orders/7"])?;
        ensure!(shop.arrivals() == before + 1, "it went on more than once");
    }
    Ok(())
}

#[test]
fn a_request_that_waits_too_long_is_told_when_to_come_again_and_finds_its_answer() -> Result<()> {
    let shop = Shop::policed(POLICY, &["timeouts: { hold: 1s }"])?;
    for (version, path) in [("--http1.1", "/v1/orders/8"), ("--http2", "/v1/orders/9")] {
        let before = shop.arrivals();
        let said = shop.curl(&[version, "-i", "-X", "DELETE"], path)?;
        let lower = said.to_ascii_lowercase();
        has(
            &lower,
            &[
                "\n403 ",
                "retry-after: ",
                "application/problem+json",
                r#""request":""#,
            ],
        )?;
        ensure!(shop.arrivals() == before, "it went on");
        approve(&shop.daemon, text(&asked(&shop.daemon, path)?, "/id")?)?;
        let said = shop.curl(&[version, "-X", "DELETE"], path)?;
        has(&said, &["\n200 ", &format!("DELETE {path}")])?;
        // A yes is for one request.
        let said = shop.curl(&[version, "-X", "DELETE"], path)?;
        has(&said, &["\n403 "])?;
        ensure!(shop.arrivals() == before + 1, "it went on more than once");
    }
    Ok(())
}

#[test]
fn a_body_of_no_said_length_is_shown_and_waits_for_people() -> Result<()> {
    let shop = Shop::policed(POLICY, &["timeouts: { hold: 1s }"])?;
    for (version, path) in [("--http1.1", "/v1/orders/10"), ("--http2", "/v1/orders/11")] {
        let before = shop.arrivals();
        let body = [version, "-HTransfer-Encoding: chunked", "-d", "amount=7"];
        let said = shop.curl(&body, path)?;
        has(&said, &["\n403 ", "waits"])?;
        let one = asked(&shop.daemon, path)?;
        has(&one.to_string(), &["amount=7"])?;
        approve(&shop.daemon, text(&one, "/id")?)?;
        // Another body is another request.
        let other = [version, "-HTransfer-Encoding: chunked", "-d", "amount=70"];
        has(&shop.curl(&other, path)?, &["\n403 "])?;
        ensure!(shop.arrivals() == before, "it went on");
        has(
            &shop.curl(&body, path)?,
            &["\n200 ", &format!("POST {path} 8")],
        )?;
        ensure!(
            text(&shop.arrived()?, "/body")? == "amount=7",
            "{:?}",
            shop.arrived()
        );
    }
    Ok(())
}
