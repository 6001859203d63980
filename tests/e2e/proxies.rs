//! A proxy that leads wherever it likes, and agents who know that: nothing goes behind it that was not judged, and no
//! login to anybody else.

mod behind;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;
use support::daemon::{Settings, Target};
use support::process::{Finished, Process};
use support::tls::Authority;
use support::{DEADLINE, Daemon, place, port};
use tempfile::TempDir;

use crate::http::{POLICY, TOKEN, serve};
use crate::lab::{has, lacks, needs_root, text};

/// What the proxy is given, and nobody else.
const PASSWORD: &str = "the-proxies-own-password";

/// What programs of agents begin with: a connection through the proxy.
const OPENED: &str = r#"
import socket, ssl, struct, sys
def opened(proxy, place, early=b""):
    host, port = proxy.rsplit(":", 1)
    stream = socket.create_connection((host, int(port)), timeout=60)
    stream.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode() + early)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte:
            sys.exit(f"ended: {head}")
        head += byte
    if b" 200 " not in head:
        sys.exit(head.decode() + stream.recv(65536).decode())
    return stream
def whole(stream, size):
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            sys.exit(f"ended after {data}")
        data += more
    return data
"#;

/// A proxy, and what it was asked for. Its address is none of a server's.
struct Proxy {
    _process: Process,
    at: SocketAddr,
    log: PathBuf,
    secret: PathBuf,
}

impl Proxy {
    fn start(directory: &Path, pieces: &[&str]) -> Result<Self> {
        let at = SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
            port::free()?.port(),
        );
        let log = directory.join("asked");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(place::workspace().join("tests/e2e/proxies/proxy.py"));
        command.arg(at.ip().to_string()).arg(at.port().to_string());
        command.arg(&log).args(pieces).env_clear();
        let process = Process::start(command)?;
        process.await_text("up", DEADLINE)?;
        let secret = directory.join("password");
        fs::write(&secret, PASSWORD)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            _process: process,
            at,
            log,
            secret,
        })
    }

    /// The target that it is.
    fn target(&self) -> String {
        format!(
            "  egress:\n    addresses: [\"{}\"]\n    proxy: {{ user: agents, password: {{ file: {} }} }}\n",
            self.at,
            self.secret.display()
        )
    }

    /// The same where nobody logs in.
    fn open(&self) -> String {
        format!(
            "  egress:\n    addresses: [\"{}\"]\n    proxy: {{}}\n",
            self.at
        )
    }

    /// What it was asked for, in order.
    fn asked(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Fields are dropped in order: the daemon first.
struct Network {
    daemon: Daemon,
    proxy: Proxy,
    _server: Process,
    address: SocketAddr,
    log: PathBuf,
    _directory: TempDir,
}

impl Network {
    fn new(policy: &str) -> Result<Self> {
        Self::with(policy, &["inject: { secret: SECRET }"], &[], |_| {})
    }

    fn with(
        policy: &str,
        http: &[&str],
        pieces: &[&str],
        change: impl FnOnce(&mut Target),
    ) -> Result<Self> {
        needs_root()?;
        let directory = place::temporary("proxies")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let authority = Authority::make(directory.path())?;
        let (server, address, log) = serve(directory.path(), &authority, &[])?;
        let proxy = Proxy::start(directory.path(), pieces)?;
        let mut target = Target {
            password: Some(TOKEN.to_owned()),
            authority: Some(authority.ca),
            addresses: vec![format!("localhost:{}", address.port()), address.to_string()],
            ..Target::http("api", address, http)
        };
        change(&mut target);
        let mut settings = Settings::new(vec![target], policy);
        settings.more = proxy.target();
        Ok(Self {
            daemon: Daemon::start(settings)?,
            proxy,
            _server: server,
            address,
            log,
            _directory: directory,
        })
    }

    fn place(&self, host: &str) -> String {
        format!("{host}:{}", self.address.port())
    }

    fn curl(&self, words: &[&str], url: &str) -> Result<Finished> {
        let proxy = format!("http://{}", self.proxy.at);
        let shows = ["-sS", "-w", "\n%{http_code} %{http_connect}\n"];
        let words = [&shows[..], &["-x", &proxy], words, &[url]].concat();
        self.daemon.agent().run("curl", &words)
    }

    /// A program of the agent that goes through the proxy to a host of the target, and is told more.
    fn program(&self, program: &str, host: &str, more: &[&str]) -> Result<Finished> {
        let program = format!("{OPENED}{program}");
        let (proxy, place) = (self.proxy.at.to_string(), self.place(host));
        let words = [&["-c", &program, &proxy, &place], more].concat();
        self.daemon.agent().run("/usr/bin/python3", &words)
    }

    fn has_refused(&self, why: &str) -> Result<Value> {
        let audit = self.daemon.audit();
        audit.wait_for("connection.refused", DEADLINE, |line| {
            let said = ["/refusal/message", "/cause"].map(|place| line.pointer(place));
            let mut said = said.into_iter().flatten().filter_map(Value::as_str);
            said.any(|said| said.contains(why))
        })
    }
}

#[test]
fn a_proxy_is_given_its_login_and_asked_for_the_name_and_nothing_else() -> Result<()> {
    let network = Network::new(POLICY)?;
    let ca = network.daemon.authority();
    let trust = ["--cacert", &*ca.to_string_lossy(), "-U", "me:agents-own"];
    let url = format!("https://{}/v1/customers", network.place("LOCALHOST."));
    has(&network.curl(&trust, &url)?.ok()?, &["Ann", "\n200 200\n"])?;
    let place = network.place("localhost");
    let login = "Basic YWdlbnRzOnRoZS1wcm94aWVzLW93bi1wYXNzd29yZA==";
    let asked = format!(
        "b'CONNECT {place} HTTP/1.1\\r\\nHost: {place}\\r\\nProxy-Authorization: {login}\\r\\n\\r\\n'\n"
    );
    ensure!(network.proxy.asked() == asked, "{}", network.proxy.asked());
    // The line of what is inside names the connection that leads there.
    let opened = network.daemon.audit().events("connection.opened")?;
    let [outer, inner] = opened.as_slice() else {
        anyhow::bail!("other lines: {opened:?}")
    };
    ensure!(inner["through"] == outer["connection"], "{opened:?}");
    ensure!(
        inner["target"] == "api" && outer.get("through").is_none(),
        "{opened:?}"
    );
    lacks(
        &format!("{:?}", network.daemon.audit().lines()?),
        &[PASSWORD, "agents-own"],
    )
}

#[test]
fn an_answer_in_pieces_behind_others_opens_and_no_byte_behind_it_is_lost() -> Result<()> {
    let pieces = [
        "HTTP/1.1 103 x\\r\\n",
        "a: b\\r\\n\\r",
        "\\nHTTP/1",
        ".1 200\\r\\n\\r",
        "\\n",
    ];
    let network = Network::with(POLICY, &["judged: 4MiB"], &pieces, |_| {})?;
    // The first message of TLS comes with the question.
    let program = r#"
context = ssl.create_default_context(cafile=sys.argv[3])
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
def step(stream, does):
    while True:
        try:
            return does()
        except ssl.SSLWantReadError:
            stream.sendall(outgoing.read())
            incoming.write(stream.recv(65536))
try:
    tls.do_handshake()
except ssl.SSLWantReadError:
    stream = opened(sys.argv[1], sys.argv[2], outgoing.read())
step(stream, tls.do_handshake)
tls.write(b"GET /v1/customers HTTP/1.1\r\nHost: " + sys.argv[2].encode() + b"\r\nConnection: close\r\n\r\n")
stream.sendall(outgoing.read())
print(step(stream, lambda: tls.read(65536)).decode())
print(step(stream, lambda: tls.read(65536)).decode())
"#;
    let ca = network.daemon.authority();
    let said = network.program(program, "localhost", &[&*ca.to_string_lossy()])?;
    has(&said.ok()?, &["200 OK", "Ann"])
}

#[test]
fn a_proxy_that_does_not_lead_there_is_told_of_and_what_it_says_is_not() -> Result<()> {
    let pieces =
        ["HTTP/1.1 407 \\x1b[31mgive-me-a-login\\r\\nProxy-Authenticate: Basic\\r\\n\\r\\n"];
    let network = Network::with(POLICY, &["judged: 4MiB"], &pieces, |_| {})?;
    let ca = network.daemon.authority();
    let url = format!("https://{}/v1/customers", network.place("localhost"));
    let said = network.curl(&["--cacert", &*ca.to_string_lossy()], &url)?;
    has(&said.stdout, &["\n502 200\n"])?;
    network.has_refused("the proxy did not take the login")?;
    lacks(&format!("{said:?}"), &["give-me", "Proxy-Auth"])
}

#[test]
fn a_target_by_address_is_asked_for_by_it() -> Result<()> {
    let network = Network::new(POLICY)?;
    let ca = network.daemon.authority();
    let url = format!("https://{}/v1/customers", network.place("127.0.0.1"));
    let said = network
        .curl(&["--cacert", &*ca.to_string_lossy()], &url)?
        .ok()?;
    has(&said, &["Ann", "\n200 200\n"])?;
    has(&network.proxy.asked(), &["CONNECT 127.0.0.1:"])
}

#[test]
fn a_target_of_the_clients_namespace_is_not_asked_for_behind_a_proxy() -> Result<()> {
    let client = |target: &mut Target| target.namespace = "client";
    let network = Network::with(POLICY, &["inject: { secret: SECRET }"], &[], client)?;
    let url = format!("https://{}/v1/customers", network.place("localhost"));
    has(&network.curl(&["-k"], &url)?.stdout, &["\n000 502\n"])?;
    network.has_refused("of the client's network namespace")?;
    ensure!(
        network.proxy.asked().is_empty(),
        "{}",
        network.proxy.asked()
    );
    Ok(())
}

#[test]
fn a_server_that_proves_nothing_is_not_given_a_credential_behind_a_proxy() -> Result<()> {
    let clear = |target: &mut Target| {
        target.tls = Some("{ mode: require }".to_owned());
        target.addresses.remove(0);
    };
    let network = Network::with(POLICY, &["inject: { secret: SECRET }"], &[], clear)?;
    let url = format!("https://{}/v1/customers", network.place("127.0.0.1"));
    has(&network.curl(&["-k"], &url)?.stdout, &["\n000 502\n"])?;
    network.has_refused("only servers are reached that prove")?;
    ensure!(
        network.proxy.asked().is_empty(),
        "{}",
        network.proxy.asked()
    );
    Ok(())
}

/// A mirror in clear, by a name that the proxy alone knows. Fields are dropped in order: the daemon first.
struct Mirror {
    daemon: Daemon,
    proxy: Proxy,
    _server: Process,
    port: u16,
    log: PathBuf,
    _directory: TempDir,
}

impl Mirror {
    fn new(target_of: impl FnOnce(&Proxy) -> String) -> Result<Self> {
        needs_root()?;
        let directory = place::temporary("proxies")?;
        let proxy = Proxy::start(directory.path(), &[])?;
        let (address, log) = (port::free()?, directory.path().join("arrived"));
        let mut server = Command::new("node");
        server.arg(place::workspace().join("tests/e2e/http/server.mjs"));
        server.arg(address.port().to_string()).arg(&log);
        let server = Process::start(server)?;
        server.await_text("listening", DEADLINE)?;
        let port = address.port();
        let target = Target {
            addresses: vec![
                format!("mirror.example:{port}"),
                format!("localhost:{port}"),
            ],
            tls: Some("{ mode: disable }".to_owned()),
            ..Target::http("api", address, &["judged: 4MiB"])
        };
        let mut settings = Settings::new(vec![target], POLICY);
        settings.more = target_of(&proxy);
        Ok(Self {
            daemon: Daemon::start(settings)?,
            proxy,
            _server: server,
            port,
            log,
            _directory: directory,
        })
    }

    fn curl(&self, host: &str, path: &str, more: &[&str]) -> Result<String> {
        let (at, url) = (
            format!("http://{}", self.proxy.at),
            format!("http://{host}:{}{path}", self.port),
        );
        let words = ["-sS", "-w", "\n%{http_code}\n", "-x", &at];
        let words = [&words[..], more, &[&url]].concat();
        self.daemon.agent().run("curl", &words)?.ok()
    }
}

#[test]
fn a_page_without_a_credential_is_fetched_in_clear_by_a_name_of_its_own() -> Result<()> {
    let mirror = Mirror::new(Proxy::target)?;
    // A login is given to nobody but the proxy: not with a request that a server could show.
    for more in [&[][..], &["--proxytunnel"]] {
        let said = mirror.curl("mirror.example", "/v1/customers", more)?;
        has(&said, &["Ann", "\n200\n"])?;
    }
    let asked = mirror.proxy.asked();
    let connects = format!("CONNECT mirror.example:{} ", mirror.port);
    ensure!(asked.matches(&connects).count() == 2, "{asked}");
    // The proxy's own host is another.
    let said = mirror.curl("localhost", "/v1/customers", &[])?;
    has(&said, &["\n502\n", "a host's own address"])?;
    ensure!(mirror.proxy.asked() == asked, "{}", mirror.proxy.asked());
    Ok(())
}

#[test]
fn a_proxy_that_nobody_logs_in_at_makes_requests_in_clear_itself() -> Result<()> {
    let mirror = Mirror::new(Proxy::open)?;
    let own = ["-U", "me:agents-own", "-H", "Proxy-Connection: keep-alive"];
    let said = mirror.curl("Mirror.Example.", "/v1/customers", &own)?;
    has(&said, &["Ann", "\n200\n"])?;
    let asked = mirror.proxy.asked();
    let page = format!(
        "b'GET http://mirror.example:{}/v1/customers HTTP/1.1",
        mirror.port
    );
    has(&asked, &[&page])?;
    ensure!(asked.lines().count() == 1, "{asked}");
    lacks(&asked, &["roxy-", "roxy_"])?;
    let said = mirror.curl("mirror.example", "/v1/admin/x", &[])?;
    has(&said, &["\n403\n", "no-admin"])?;
    // A connection is a connection.
    let said = mirror.curl("mirror.example", "/v1/customers", &["--proxytunnel"])?;
    has(&said, &["Ann", "\n200\n"])?;
    let asked = mirror.proxy.asked();
    ensure!(asked.lines().count() == 2, "{asked}");
    has(&asked, &["b'CONNECT mirror.example:"])?;
    lacks(&fs::read_to_string(&mirror.log)?, &["agents-own"])
}

/// Says one name inside and asks for another outside.
const OTHER: &str = r#"
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
tls = context.wrap_socket(opened(sys.argv[1], sys.argv[2]), server_hostname=sys.argv[3])
tls.sendall(b"GET /v1/customers HTTP/1.1\r\nHost: " + sys.argv[2].encode() + b"\r\nConnection: close\r\n\r\n")
while data := tls.recv(65536):
    print(data.decode())
"#;

#[test]
fn what_goes_by_undecrypted_goes_to_the_name_that_was_judged() -> Result<()> {
    let permits = r#"@id("pass") permit (principal is Agent, action == Action::"HttpPassThrough", resource) when { context.host == "localhost" };"#;
    let policy = format!("{POLICY}{permits}");
    let http = ["passthrough: true", "hosts: [localhost, other.example]"];
    let network = Network::with(&policy, &http, &[], |target| {
        let port = target.addresses[0]
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .to_owned();
        target.addresses.push(format!("other.example:{port}"));
    })?;
    let said = network.program(OTHER, "localhost", &["localhost"])?.ok()?;
    has(&said, &["Ann"])?;
    let arrivals = || {
        fs::read_to_string(&network.log)
            .unwrap_or_default()
            .lines()
            .count()
    };
    let arrived = arrivals();
    let said = network.program(OTHER, "other.example", &["localhost"])?;
    ensure!(!said.status.success(), "it went by: {said:?}");
    network.has_refused("none of this target's")?;
    ensure!(arrivals() == arrived, "something arrived");
    lacks(&network.proxy.asked(), &["other.example"])?;
    // Its server proves each time that it has the name: the proxy may have been led elsewhere since.
    let before = network.proxy.asked().lines().count();
    network.program(OTHER, "localhost", &["localhost"])?.ok()?;
    ensure!(
        network.proxy.asked().lines().count() == before + 2,
        "{}",
        network.proxy.asked()
    );
    Ok(())
}

/// A session that stays open until it is ended: it says "open" once it is, and "ended" when it was.
const STAYS: &str = r#"
stream = opened(sys.argv[1], sys.argv[2])
stream.sendall(b"GET /v1/customers HTTP/1.1\r\nHost: " + sys.argv[2].encode() + b"\r\n\r\n")
whole(stream, 12)
print("open", flush=True)
try:
    while stream.recv(65536):
        pass
except OSError:
    pass
print("ended", flush=True)
"#;

impl Network {
    fn stays(&self) -> Result<Process> {
        let program = format!("{OPENED}{STAYS}");
        let (proxy, place) = (self.proxy.at.to_string(), self.place("localhost"));
        let words = ["-c", &program, &proxy, &place];
        let stays = self.daemon.agent().start("/usr/bin/python3", &words)?;
        stays.await_text("open", DEADLINE)?;
        Ok(stays)
    }
}

#[test]
fn what_goes_through_a_proxy_ends_with_the_permission_to_use_the_proxy() -> Result<()> {
    let mut network = Network::new(POLICY)?;
    let stays = network.stays()?;
    let without = format!(
        "{POLICY}\n@id(\"no-egress\") forbid (principal, action == Action::\"Connect\", resource == Target::\"egress\");"
    );
    network
        .daemon
        .change(|settings| settings.policies[0].1 = without)?;
    network.daemon.reload()?.ok()?;
    stays.await_text("ended", DEADLINE)?;
    let closed = |line: &Value| line["reason"] == "policy" && line["target"] == "api";
    network
        .daemon
        .audit()
        .wait_for("session.closed", DEADLINE, closed)?;
    let url = format!("https://{}/v1/customers", network.place("localhost"));
    has(&network.curl(&["-k"], &url)?.stdout, &["\n000 403\n"])?;
    // The same where it is no proxy of ours any more.
    network
        .daemon
        .change(|settings| settings.policies[0].1 = POLICY.to_owned())?;
    network.daemon.reload()?.ok()?;
    let stays = network.stays()?;
    network.daemon.change(|settings| settings.more.clear())?;
    network.daemon.reload()?.ok()?;
    stays.await_text("ended", DEADLINE)
}

#[test]
fn what_goes_through_a_proxy_ends_with_the_grant_by_which_the_proxy_is_used() -> Result<()> {
    let connects = r#"
@id("api") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource == Target::"api");
@id("egress") @grant("1h") @grant_scope permit (principal is Agent, action == Action::"Connect", resource == Target::"egress");
"#;
    let rest = POLICY
        .lines()
        .filter(|line| !line.starts_with("@id(\"reach\")"));
    let policy = format!("{connects}{}", rest.collect::<Vec<_>>().join("\n"));
    let network = Network::new(&policy)?;
    let socket = network.daemon.run_directory().join("agent.sock");
    let words = format!(
        "request --socket {} --target egress --action Connect --for 5m --reason test --json",
        socket.display()
    );
    let words: Vec<_> = words.split_whitespace().collect();
    let program = place::interceptor()?;
    let granted = network
        .daemon
        .agent()
        .run(&program.to_string_lossy(), &words)?
        .ok()?;
    let granted: Value = serde_json::from_str(&granted)?;
    let id = text(&granted, "/id")?;
    let stays = network.stays()?;
    network.daemon.cli(&["revoke", id])?.ok()?;
    stays.await_text("ended", DEADLINE)?;
    let closed = |line: &Value| line["reason"] == "grant" && line["grant"] == id;
    network
        .daemon
        .audit()
        .wait_for("session.closed", DEADLINE, closed)
        .map(drop)
}
