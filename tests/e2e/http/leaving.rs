//! What an agent must not send does not leave, and what it is not sent compressed is read all the same.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, place};

use super::{Shop, TOKEN};
use crate::lab::{has, lacks, text};

const KEY: &str = "AKIAQYLPMN5HHHFPZAM2";

#[test]
fn values_are_masked_in_what_leaves_and_what_is_judged() -> Result<()> {
    let shop = Shop::new(&["detect_sent: { email: mask, aws_key: report }"])?;
    for version in ["--http1.1", "--http2"] {
        let json = format!(r#"{{"to":"\u0061nn@example.com","n":1,"k":"{KEY}"}}"#);
        let said = shop.curl(
            &[
                version,
                "-H",
                "Content-Type: application/json",
                "-H",
                "X-Note: ann@example.com",
                "-d",
                &json,
            ],
            "/v1/orders?to=ann%40example.com&a=b",
        )?;
        has(&said, &["\n200 ", "POST /v1/orders "])?;
        let arrived = shop.arrived()?;
        lacks(&arrived.to_string(), &["ann@", "ann%40"])?;
        ensure!(text(&arrived, "/url")?.ends_with("&a=b"), "{arrived}");
        let body = text(&arrived, "/body")?;
        has(body, &[r#"{"to":"***************","n":1,"#, KEY])?;
        ensure!(
            text(&arrived, "/headers/content-length")? == body.len().to_string(),
            "{arrived}"
        );
    }
    let finished = shop
        .daemon
        .audit()
        .wait_for("request.finished", DEADLINE, |_| true)?;
    let found = finished.pointer("/found_sent").context("found_sent")?;
    ensure!(
        found == &serde_json::json!({ "email": 3, "aws_key": 1 }),
        "{finished}"
    );
    let metrics = shop.daemon.cli(&["metrics"])?.ok()?;
    has(
        &metrics,
        &[r#"interceptor_detected_sent_total{target="api",kind="email"}"#],
    )?;
    // A long body goes by, and is masked as it does.
    let directory = place::temporary("upload")?;
    let upload = directory.path().join("upload");
    fs::write(
        &upload,
        format!("{} ann@example.com end", "x ".repeat(1 << 20)),
    )?;
    let data = format!("@{}", upload.display());
    for version in ["--http1.1", "--http2"] {
        let text_type = ["-H", "Content-Type: text/plain", "--data-binary", &data];
        let said = shop.curl(&[&[version][..], &text_type].concat(), "/v1/orders")?;
        let bytes = fs::metadata(&upload)?.len();
        has(&said, &["\n200 ", &format!("POST /v1/orders {bytes}")])?;
        let arrived = shop.arrived()?;
        has(text(&arrived, "/body")?, &["*************** end"])?;
    }
    Ok(())
}

#[test]
fn what_is_refused_never_leaves_wherever_it_stands() -> Result<()> {
    let shop = Shop::new(&["detect_sent: { aws_key: refuse }"])?;
    let escaped = format!("/v1/customers?k={}", KEY.replace('A', "%41"));
    let header = format!("X-K: {KEY}");
    let form = format!("a=b&k={}", KEY.replace('K', "%4B"));
    let json = format!(r#"{{"k":["x",{{"y":"{KEY}"}}]}}"#);
    let (in_path, as_json) = (format!("/v1/{KEY}"), "Content-Type: application/json");
    let rows: [(&[&str], &str); 7] = [
        (&[], &escaped),
        (&[], &in_path),
        (&["-H", &header], "/v1/customers"),
        (&["-d", &form], "/v1/orders"),
        (&["-H", as_json, "-d", &json], "/v1/orders"),
        (&["-F", &format!("file={KEY}")], "/v1/orders"),
        (
            &[
                "-H",
                as_json,
                "-H",
                "Transfer-Encoding: chunked",
                "-d",
                &json,
            ],
            "/v1/orders",
        ),
    ];
    for version in ["--http1.1", "--http2"] {
        for (arguments, path) in &rows {
            let said = shop.curl(&[&[version][..], arguments].concat(), path)?;
            has(&said, &["\n403 ", "a value of kind aws_key"])
                .with_context(|| format!("{version} {arguments:?} {path}"))?;
        }
        let png = ["-H", "Content-Type: image/png", "-d", "abc"];
        let said = shop.curl(&[&[version][..], &png].concat(), "/v1/orders")?;
        has(&said, &["\n403 ", "neither JSON nor text"])?;
        // What is well goes on.
        let said = shop.curl(&[version, "-d", "a=b"], "/v1/orders")?;
        has(&said, &["\n200 "])?;
    }
    let lines = fs::read_to_string(&shop.log)?;
    lacks(&lines, &[KEY, "%41", "%4B"])?;
    for line in shop.daemon.audit().events("request.finished")? {
        let status = text(&line, "/status")?;
        ensure!(status == "200" || status.starts_with("cut off: "), "{line}");
    }
    Ok(())
}

#[test]
fn answers_that_come_compressed_all_the_same_are_read() -> Result<()> {
    for (inject, more) in [
        (
            "{ secret: SECRET }",
            &["mask: { '**.ssn': last4, '**.email': email, '**.cards': hide }"][..],
        ),
        ("{ secret: SECRET }", &[]),
    ] {
        let shop = Shop::given(inject, TOKEN, more)?;
        for version in ["--http1.1", "--http2"] {
            for coding in ["gzip", "deflate", "br"] {
                let path = format!("/v1/packed/{coding}");
                let said = shop.curl(&[version, "-i"], &path)?;
                has(&said, &["\n200 ", "Ann"])?;
                lacks(
                    &said.to_ascii_lowercase(),
                    &["content-encoding", "content-length: 9"],
                )?;
                match more.is_empty() {
                    true => has(&said, &["123-45-6789", "*******"])?,
                    false => has(&said, &["*******6789", "a***@example.com"])?,
                }
                lacks(&said, &[TOKEN])?;
            }
            let cut = shop.curl_raw(&[version, "-o", "/dev/null"], "/v1/packed/bomb")?;
            ensure!(!cut.status.success(), "{cut:?}");
            let said = shop.curl(&[version], "/v1/packed/twice")?;
            has(&said, &["\n403 ", "its compression is not read here"])?;
        }
        let finished = shop.daemon.audit().events("request.finished")?;
        let mut bombs = finished.iter().filter_map(|line| line.pointer("/status"));
        let is_bomb = |status: &Value| {
            let status = status.as_str().unwrap_or_default();
            status.contains("little makes too much")
        };
        ensure!(bombs.any(is_bomb), "{finished:?}");
    }
    Ok(())
}

#[test]
fn what_headers_and_trailers_of_an_answer_tell_is_masked_as_its_body_is() -> Result<()> {
    let shop = Shop::policed(super::POLICY, &["detect: { email: mask }"])?;
    let stars = "*".repeat("ann@example.com".len());
    for version in ["--http1.1", "--http2"] {
        let said = shop.curl(&[version, "-i", "-HTE: trailers"], "/v1/told")?;
        has(
            &said,
            &[
                "\n303 ",
                &format!("location: /u?email={stars}&a=b"),
                &format!("link: </u?after={stars}>; rel=\"next\""),
                &format!("x-user: {stars}"),
                &format!("x-last: {stars}"),
            ],
        )?;
        lacks(&said, &["ann@", "ann%40"])?;
    }
    let finished = shop
        .daemon
        .audit()
        .wait_for("request.finished", DEADLINE, |_| true)?;
    let found = finished.pointer("/found/email").and_then(Value::as_u64);
    ensure!(found >= Some(4), "{finished}");
    drop(shop);
    let shop = Shop::policed(super::POLICY, &["detect: { email: refuse }"])?;
    for version in ["--http1.1", "--http2"] {
        let said = shop.curl(&[version, "-i"], "/v1/told")?;
        has(&said, &["\n403 ", "a value was found in its headers"])?;
        lacks(&said, &["ann@", "ann%40"])?;
    }
    Ok(())
}
