//! HTTP: stock clients against a server that writes down what arrives, with the daemon in between.

mod clients;
mod conceal;
mod fields;
mod held;
mod leaving;
mod messages;
mod passing;
mod presented;
mod proxied;
mod refresh;
mod reused;
mod signed;
mod sockets;
mod tokens;
mod trusted;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::daemon::{Settings, Target};
use support::process::Process;
use support::tls::Authority;
use support::{Agent, DEADLINE, Daemon, Finished, place, port};
use tempfile::TempDir;

use crate::lab::{has, lacks, needs_root, text};

pub(crate) const TOKEN: &str = "upstream-token-0123456789";

/// Reading is permitted but for one path, and a few ways of writing.
pub(crate) const POLICY: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("read") permit (principal is Agent, action in Action::"HttpRead", resource in Target::"api");
@id("orders") permit (principal is Agent, action == Action::"HttpPost", resource in Path::"api/v1/orders");
@id("socket") permit (principal is Agent, action == Action::"HttpUpgrade", resource == Path::"api/v1/socket");
@id("no-admin") @hint("ask the platform team")
forbid (principal, action, resource in Path::"api/v1/admin");
"#;

/// A server that writes down what arrives: where it listens, and where it writes.
pub(crate) fn serve(
    directory: &Path,
    authority: &Authority,
    more: &[&str],
) -> Result<(Process, SocketAddr, PathBuf)> {
    let (address, log) = (port::free()?, directory.join("arrived"));
    let script = place::workspace().join("tests/e2e/http/server.mjs");
    let mut command = std::process::Command::new("node");
    command
        .arg(script)
        .arg(address.port().to_string())
        .arg(&log);
    command.arg(&authority.certificate).arg(&authority.key);
    command.args(more);
    let server = Process::start(command)?;
    server.await_text("listening", DEADLINE)?;
    Ok((server, address, log))
}

/// Fields are dropped in order: the daemon before the server.
struct Shop {
    daemon: Daemon,
    _server: Process,
    address: SocketAddr,
    log: PathBuf,
    _directory: TempDir,
}

impl Shop {
    fn new(more: &[&str]) -> Result<Self> {
        Self::given("{ secret: SECRET }", TOKEN, more)
    }

    /// With this credential, put where `inject` says.
    fn given(inject: &str, token: &str, more: &[&str]) -> Result<Self> {
        Self::made((inject, token), more, POLICY, &[])
    }

    /// Under another policy, with more of the target.
    fn policed(policy: &str, of_target: &[&str]) -> Result<Self> {
        Self::made(("{ secret: SECRET }", TOKEN), &[], policy, of_target)
    }

    fn made(
        injected: (&str, &str),
        more: &[&str],
        policy: &str,
        of_target: &[&str],
    ) -> Result<Self> {
        Self::serving(&[], injected, more, policy, of_target)
    }

    /// With a server that is told more than where.
    fn serving(
        served: &[&str],
        (inject, token): (&str, &str),
        more: &[&str],
        policy: &str,
        of_target: &[&str],
    ) -> Result<Self> {
        needs_root()?;
        let directory = place::temporary("http")?;
        let authority = Authority::make(directory.path())?;
        let (server, address, log) = serve(directory.path(), &authority, served)?;
        let mut http: Vec<String> = more.iter().map(|line| (*line).to_owned()).collect();
        if !inject.is_empty() {
            http.push(format!("inject: {inject}"));
        }
        if !http.iter().any(|line| line.starts_with("hosts:")) {
            http.push("hosts: [localhost, 127.0.0.1]".to_owned());
        }
        let lines: Vec<&str> = http.iter().map(String::as_str).collect();
        let target = Target {
            password: Some(token.to_owned()),
            authority: Some(authority.ca),
            more: of_target.iter().map(|line| (*line).to_owned()).collect(),
            ..Target::http("api", address, &lines)
        };
        let daemon = Daemon::start(Settings::new(vec![target], policy))?;
        Ok(Self {
            daemon,
            _server: server,
            address,
            log,
            _directory: directory,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    fn agent(&self) -> Agent {
        self.daemon.agent()
    }

    /// `curl` that trusts the daemon's authority alone; the status, then the body.
    fn curl(&self, arguments: &[&str], path: &str) -> Result<String> {
        self.curl_raw(arguments, path)?.ok()
    }

    fn curl_raw(&self, arguments: &[&str], path: &str) -> Result<Finished> {
        let (ca, url) = (self.daemon.authority(), self.url(path));
        let ca = ca.to_string_lossy();
        let mut all = vec![
            "-sS",
            "--cacert",
            &ca,
            "-w",
            "\n%{http_code} %{http_version}\n",
            "-4",
        ];
        all.extend(arguments);
        all.push(&url);
        self.agent().run("curl", &all)
    }

    /// What the server has seen, the last request.
    fn arrived(&self) -> Result<Value> {
        let lines = fs::read_to_string(&self.log).context("read what arrived")?;
        let last = lines.lines().last().context("nothing arrived")?;
        serde_json::from_str(last).context("read a line")
    }

    fn arrivals(&self) -> usize {
        fs::read_to_string(&self.log).map_or(0, |lines| lines.lines().count())
    }
}

#[test]
fn a_request_is_given_the_credential_and_the_agents_own_is_reported_and_dropped() -> Result<()> {
    let shop = Shop::new(&["strip_response_headers: [set-cookie]"])?;
    for (version, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let said = shop.curl(
            &[
                version,
                "-i",
                "-H",
                "Authorization: Bearer agents-own",
                "-H",
                "X-Api-Key: k",
            ],
            "/v1/customers?state=open",
        )?;
        has(&said, &[&format!("\n200 {spoken}\n"), "x-kept: yes", "Ann"])?;
        lacks(&said, &["set-cookie", TOKEN])?;
        let arrived = shop.arrived()?;
        ensure!(
            text(&arrived, "/headers/authorization")? == format!("Bearer {TOKEN}"),
            "{arrived}"
        );
        ensure!(
            text(&arrived, "/httpVersion")?.starts_with(spoken),
            "{arrived}"
        );
        lacks(&arrived.to_string(), &["agents-own", "x-api-key"])?;
    }
    let audit = shop.daemon.audit();
    let presented = audit.events("credential.presented")?;
    ensure!(
        presented.len() == 4,
        "two of each connection: {presented:?}"
    );
    let permitted = audit.events("request.permitted")?;
    let line = permitted.first().context("a request")?;
    ensure!(
        text(line, "/statement")? == "GET /v1/customers?state=?",
        "{line}"
    );
    let finished = audit.wait_for("request.finished", DEADLINE, |line| {
        line.pointer("/status").and_then(Value::as_str) == Some("200")
    })?;
    ensure!(
        finished.pointer("/bytes").and_then(Value::as_u64) > Some(100),
        "{finished}"
    );
    for line in audit.lines()? {
        lacks(&line.to_string(), &[TOKEN])?;
        // What the agent's own command line says is its own.
        let mut line = line;
        if let Some(process) = line.pointer_mut("/principal/process") {
            *process = Value::Null;
        }
        lacks(&line.to_string(), &["agents-own"])?;
    }
    let closed = audit.wait_for("session.closed", DEADLINE, |_| true)?;
    let session = text(&closed, "/session")?;
    let shown = shop.daemon.cli(&["sessions", "show", session])?.ok()?;
    has(
        &shown,
        &["GET /v1/customers?state=open HTTP", "200 OK", "Ann"],
    )?;
    lacks(&shown, &[TOKEN, "agents-own"])
}

#[test]
fn what_is_not_permitted_is_told_with_rule_request_and_next_step() -> Result<()> {
    let shop = Shop::new(&[])?;
    let before = shop.arrivals();
    for version in ["--http1.1", "--http2"] {
        let said = shop.curl(&[version, "-i"], "/v1/admin/users")?;
        has(
            &said,
            &[
                "\n403 ",
                "application/problem+json",
                r#""rules":["no-admin"]"#,
                "ask the platform team",
                r#""request":""#,
            ],
        )?;
        let said = shop.curl(&[version, "-X", "DELETE"], "/v1/customers")?;
        has(
            &said,
            &[
                "\n403 ",
                "DELETE on /v1/customers of target api is not permitted",
            ],
        )?;
        let said = shop.curl(&[version, "--path-as-is"], "/v1/x/../admin/users")?;
        has(&said, &["\n400 ", "`.` or `..`"])?;
        let said = shop.curl(&[version, "-H", "Host: other.example"], "/v1/customers")?;
        has(&said, &["\n421 "])?;
    }
    ensure!(shop.arrivals() == before, "something was forwarded");
    let refused = shop.daemon.audit().events("request.refused")?;
    ensure!(refused.len() == 8, "{refused:?}");
    Ok(())
}

#[test]
fn fields_of_answers_are_masked_and_what_cannot_be_read_is_refused() -> Result<()> {
    let shop = Shop::new(&["mask: { '**.ssn': last4, '**.email': email, '**.cards': hide }"])?;
    for version in ["--http1.1", "--http2"] {
        let said = shop.curl(&[version, "--compressed"], "/v1/customers")?;
        has(
            &said,
            &["\n200 ", "*******6789", "a***@example.com", r#""count":2"#],
        )?;
        lacks(&said, &["123-45", "ann@", "4111", "cards"])?;
        let said = shop.curl(&[version, "-N"], "/v1/events")?;
        has(&said, &["\n200 ", "data: {\"at\":2,", "*******6789"])?;
        lacks(&said, &["123-45", "ann@", "4111"])?;
        let said = shop.curl(&[version], "/v1/table")?;
        has(&said, &["\n403 ", "does not say that its first line names"])?;
        let said = shop.curl(&[version], "/v1/table?header=present")?;
        let rows = "name,email,ssn\r\n\"Ann, A.\",a***@example.com,*******6789\r\nBob,b***@example.com,*******6789";
        has(&said, &["\n200 ", rows])?;
        let said = shop.curl(&[version], "/v1/picture")?;
        has(&said, &["\n403 ", "neither JSON nor text"])?;
    }
    Ok(())
}

#[test]
fn a_mask_is_not_written_back_in_the_place_of_a_value() -> Result<()> {
    const WRITES: &str = r#"@id("all") permit (principal is Agent, action, resource)
unless { action == Action::"Reveal" };"#;
    let mask = "mask: { '**.ssn': last4, '**.email': email }";
    let shop = Shop::made(("{ secret: SECRET }", TOKEN), &[mask], WRITES, &[])?;
    let json = "-HContent-Type: application/json";
    for version in ["--http1.1", "--http2"] {
        let got = shop.curl(&[version], "/v1/customers")?;
        let (body, _) = got.split_once('\n').context("a body")?;
        has(body, &["*******6789"])?;
        let before = shop.arrivals();
        for method in ["PUT", "PATCH", "POST"] {
            let said = shop.curl(&[version, "-X", method, json, "-d", body], "/v1/customers")?;
            has(&said, &["\n403 ", "a mask in the place of a value"])?;
        }
        ensure!(shop.arrivals() == before, "a mask was written");
        let own = r#"{"customers":[{"ssn":"987-65-4321","email":"bob@example.com"}]}"#;
        let said = shop.curl(&[version, "-X", "PUT", json, "-d", own], "/v1/customers")?;
        has(&said, &["\n200 "])?;
        ensure!(
            text(&shop.arrived()?, "/body")? == own,
            "{:?}",
            shop.arrived()
        );
    }
    Ok(())
}

#[test]
fn a_document_that_chooses_the_keys_of_masked_fields_is_refused() -> Result<()> {
    let mask = "mask: { '**.email': email }";
    let shop = Shop::new(&["graphql: [/v1/orders]", mask])?;
    let ask = |kind: &str, body: &str| {
        let kind = format!("content-type: {kind}");
        let said = shop.curl(&["-H", &kind, "-d", body], "/v1/orders")?;
        anyhow::Ok((said, shop.arrivals()))
    };
    let aliased = r#"{"query":"{ customers { x: email } }"}"#;
    let (said, arrived) = ask("application/json", aliased)?;
    has(&said, &["\n403 ", "gives them other names"])?;
    ensure!(arrived == 0, "{said}");
    let plain = r#"{"query":"{ customers { email } }"}"#;
    let (said, arrived) = ask("application/x-www-form-urlencoded", plain)?;
    has(&said, &["\n403 ", "has to be called JSON"])?;
    ensure!(arrived == 0, "{said}");
    let (said, arrived) = ask("application/json", plain)?;
    lacks(&said, &["other names"])?;
    ensure!(arrived == 1, "{said}");
    Ok(())
}

#[test]
fn large_bodies_go_both_ways() -> Result<()> {
    let shop = Shop::new(&[])?;
    let file = place::temporary("upload")?;
    let upload = file.path().join("upload");
    fs::write(&upload, vec![b'u'; 32 << 20])?;
    let data = format!("@{}", upload.display());
    for version in ["--http1.1", "--http2"] {
        let said = shop.curl(&[version, "--data-binary", &data], "/v1/orders")?;
        has(&said, &["\n200 ", &format!("POST /v1/orders {}", 32 << 20)])?;
        let said = shop.curl(
            &[
                version,
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{size_download}",
            ],
            "/v1/big",
        )?;
        has(&said, &[&format!("200 {}", 512 << 16)])?;
    }
    Ok(())
}

#[test]
fn a_client_that_waits_to_be_told_to_go_on_is_told_and_its_server_does_not_wait() -> Result<()> {
    let shop = Shop::new(&[])?;
    for version in ["--http1.1", "--http2"] {
        let body = [version, "-HExpect: 100-continue", "-d", "a=b"];
        let said = shop.curl(&body, "/v1/orders")?;
        has(&said, &["\n200 ", "POST /v1/orders 3"])?;
        let arrived = shop.arrived()?;
        ensure!(arrived.pointer("/headers/expect").is_none(), "{arrived}");
    }
    Ok(())
}

#[test]
fn a_websocket_goes_through_with_the_credential() -> Result<()> {
    let shop = Shop::new(&[])?;
    let program = r#"
import base64, os, socket, ssl, sys
port, ca = int(sys.argv[1]), sys.argv[2]
tls = ssl.create_default_context(cafile=ca)
s = tls.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
key = base64.b64encode(os.urandom(16)).decode()
s.sendall(f"GET /v1/socket HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
head = b""
while not head.endswith(b"\r\n\r\n"):
    head += s.recv(1)
print(head.split(b"\r\n")[0].decode())
for text in [b"hello", b"again"]:
    s.sendall(bytes([0x81, 0x80 | len(text)]) + b"\0\0\0\0" + text)
    echo = b""
    while len(echo) < 2 + len(text):
        echo += s.recv(64)
    print(echo[2:].decode())
"#;
    let (port, ca) = (shop.address.port().to_string(), shop.daemon.authority());
    let said = shop
        .agent()
        .run(
            "/usr/bin/python3",
            &["-c", program, &port, &ca.to_string_lossy()],
        )?
        .ok()?;
    has(&said, &["101 Switching Protocols", "hello\nagain"])?;
    let arrived = shop.arrived()?;
    ensure!(
        text(&arrived, "/headers/authorization")? == format!("Bearer {TOKEN}"),
        "{arrived}"
    );
    Ok(())
}

#[test]
fn clients_of_python_and_node_run_unchanged() -> Result<()> {
    let shop = Shop::new(&[])?;
    let ca = shop.daemon.authority();
    let ca = ca.to_string_lossy();
    let python =
        "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1]).read().decode())";
    let agent = shop.agent().with("SSL_CERT_FILE", &ca);
    let said = agent
        .run(
            "/usr/bin/python3",
            &["-c", python, &shop.url("/v1/customers")],
        )?
        .ok()?;
    has(&said, &["Ann"])?;
    let node = "const a = await fetch(process.argv[1]); console.log(a.status, await a.text())";
    let agent = shop.agent().with("NODE_EXTRA_CA_CERTS", &ca);
    let said = agent
        .run(
            "node",
            &[
                "--input-type=module",
                "-e",
                node,
                &shop.url("/v1/customers"),
            ],
        )?
        .ok()?;
    has(&said, &["200", "Ann"])
}
