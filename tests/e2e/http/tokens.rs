//! A target whose credential is a token that is asked for: once however many need it, and anew when it is no good.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::process::Process;
use support::{DEADLINE, place, port};
use tempfile::TempDir;

use super::Shop;
use crate::lab::{has, lacks, text};

const SECRET: &str = "clients-own-secret-0123";

/// An authorization server: each token is another one.
const SERVER: &str = r#"
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";
const [port, log] = process.argv.slice(2);
let count = 0;
createServer((request, response) => {
  let body = "";
  request.on("data", (piece) => (body += piece));
  request.on("end", () => {
    appendFileSync(log, JSON.stringify({ url: request.url, who: request.headers.authorization, body }) + "\n");
    if (request.url === "/broken") return response.writeHead(500).end(body);
    count += 1;
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ access_token: `issued-token-number-${count}`, token_type: "Bearer", expires_in: 3600 }));
  });
}).listen(Number(port), "127.0.0.1", () => console.log("listening"));
"#;

struct Issuer {
    _process: Process,
    port: u16,
    log: PathBuf,
    _directory: TempDir,
}

impl Issuer {
    fn start() -> Result<Self> {
        let directory = place::temporary("issuer")?;
        let script = directory.path().join("server.mjs");
        fs::write(&script, SERVER)?;
        let (port, log) = (port::free()?.port(), directory.path().join("asked"));
        let mut command = std::process::Command::new("node");
        command.arg(script).arg(port.to_string()).arg(&log);
        let process = Process::start(command)?;
        process.await_text("listening", DEADLINE)?;
        Ok(Self {
            _process: process,
            port,
            log,
            _directory: directory,
        })
    }

    fn asked(&self) -> Result<Vec<Value>> {
        let lines = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = lines.lines().map(serde_json::from_str);
        lines
            .collect::<Result<_, _>>()
            .context("read what was asked")
    }

    fn shop(&self, path: &str, more: &str) -> Result<Shop> {
        let inject = format!(
            "{{ secret: SECRET, as: client, client: {{ url: 'http://127.0.0.1:{}{path}', id: agent-1, \
             allow_http: true, scope: 'read write'{more} }} }}",
            self.port
        );
        Shop::given(&inject, SECRET, &[])
    }
}

#[test]
fn a_token_is_asked_for_once_and_given_to_every_request() -> Result<()> {
    let issuer = Issuer::start()?;
    let shop = issuer.shop("/token", "")?;
    for version in ["--http1.1", "--http2"] {
        let said = shop.curl(&[version, "--parallel", "-d", "a=b"], "/v1/orders?[1-8]")?;
        has(&said, &["\n200 "])?;
        let said = shop.curl(
            &[version, "-H", "Authorization: Bearer own"],
            "/v1/shown/json",
        )?;
        lacks(&said, &["issued-token-number", SECRET])?;
    }
    let lines = fs::read_to_string(&shop.log)?;
    ensure!(lines.lines().count() == 18, "{lines}");
    ensure!(
        lines.matches("Bearer issued-token-number-1\"").count() == 18,
        "{lines}"
    );
    let asked = issuer.asked()?;
    ensure!(asked.len() == 1, "{asked:?}");
    let who = text(&asked[0], "/who")?;
    let body = text(&asked[0], "/body")?;
    ensure!(
        who == "Basic YWdlbnQtMTpjbGllbnRzLW93bi1zZWNyZXQtMDEyMw==",
        "{who}"
    );
    ensure!(
        body == "grant_type=client_credentials&scope=read%20write",
        "{body}"
    );
    for line in shop.daemon.audit().lines()? {
        lacks(&line.to_string(), &["issued-token", SECRET])?;
    }
    Ok(())
}

#[test]
fn a_token_that_is_refused_is_asked_for_anew_and_the_request_sent_once_more() -> Result<()> {
    let issuer = Issuer::start()?;
    let shop = issuer.shop("/token", ", in_body: true")?;
    // The server takes no token but the second.
    let said = shop.curl(&["-d", "a=b"], "/v1/orders/guarded")?;
    has(&said, &["\n401 "])?;
    ensure!(issuer.asked()?.len() == 1, "a new token was doubted");
    support::wait::for_fact("a token that is not new any more", DEADLINE, || {
        let said = shop.curl(&["-d", "a=b"], "/v1/orders/guarded")?;
        Ok(said.contains("\n200 ").then_some(()))
    })?;
    let asked = issuer.asked()?;
    ensure!(asked.len() == 2, "{asked:?}");
    let body = text(&asked[0], "/body")?;
    has(
        body,
        &["client_id=agent-1", &format!("client_secret={SECRET}")],
    )?;
    let arrived = shop.arrived()?;
    ensure!(text(&arrived, "/body")? == "a=b", "{arrived}");
    ensure!(
        text(&arrived, "/headers/authorization")? == "Bearer issued-token-number-2",
        "{arrived}"
    );
    // Both times it was one request.
    let permitted = shop.daemon.audit().events("request.permitted")?.len();
    ensure!(
        shop.arrivals() == permitted + 1,
        "{permitted} were permitted"
    );
    Ok(())
}

#[test]
fn without_a_token_nothing_goes_on() -> Result<()> {
    let issuer = Issuer::start()?;
    let shop = issuer.shop("/broken", "")?;
    for version in ["--http1.1", "--http2"] {
        let said = shop.curl(&[version], "/v1/customers")?;
        has(
            &said,
            &["\n503 ", "the credential for this target is not available"],
        )?;
        lacks(&said, &[SECRET])?;
    }
    ensure!(shop.arrivals() == 0, "something went on");
    Ok(())
}
