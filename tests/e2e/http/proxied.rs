//! Agents behind a proxy of their network: what they ask it for is judged as what it is, and served through it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;
use support::daemon::{Settings, Target};
use support::process::{Finished, Process};
use support::tls::Authority;
use support::{DEADLINE, Daemon, place, port, wait};
use tempfile::TempDir;

use super::{POLICY, TOKEN, serve};
use crate::lab::{has, lacks, needs_root, text};
use crate::names::Resolver;

/// What the proxies ask for, and the agent does not have.
const PASSWORD: &str = "the-proxies-own-password";

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own loopback connection"
)]
fn listens(at: SocketAddr) -> Option<TcpStream> {
    TcpStream::connect(at).ok()
}

/// Fields are dropped in order: the daemon first.
struct Network {
    daemon: Daemon,
    tinyproxy: Process,
    microsocks: Process,
    _server: Process,
    address: SocketAddr,
    proxies: [SocketAddr; 2],
    log: PathBuf,
    _directory: TempDir,
}

impl Network {
    fn new(policy: &str) -> Result<Self> {
        Self::with(policy, "")
    }

    fn with(policy: &str, more: &str) -> Result<Self> {
        needs_root()?;
        let directory = place::temporary("proxied")?;
        let authority = Authority::make(directory.path())?;
        let (server, address, log) = serve(directory.path(), &authority, &[])?;
        let proxies = [port::free()?, port::free()?];
        let [by_connect, by_socks] = proxies.map(|at| at.port().to_string());
        let settings = directory.path().join("tinyproxy.conf");
        let lines = format!("Port {by_connect}\nListen 127.0.0.1\nBasicAuth agents {PASSWORD}\n");
        fs::write(&settings, lines)?;
        let mut tinyproxy = Command::new("tinyproxy");
        tinyproxy.arg("-d").arg("-c").arg(&settings).env_clear();
        let mut microsocks = Command::new("microsocks");
        microsocks.args(["-i", "127.0.0.1", "-p", &by_socks]);
        microsocks
            .args(["-u", "agents", "-P", PASSWORD])
            .env_clear();
        let (tinyproxy, microsocks) = (Process::start(tinyproxy)?, Process::start(microsocks)?);
        for at in proxies {
            wait::for_fact("a proxy that listens", DEADLINE, || Ok(listens(at)))?;
        }
        let secret = directory.path().join("password");
        fs::write(&secret, PASSWORD)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        let target = Target {
            password: Some(TOKEN.to_owned()),
            authority: Some(authority.ca),
            addresses: vec![format!("localhost:{}", address.port())],
            ..Target::http("api", address, &["inject: { secret: SECRET }"])
        };
        let mut settings = Settings::new(vec![target], policy);
        for (name, at) in ["egress", "socks"].into_iter().zip(proxies) {
            settings.more.push_str(&format!(
                "  {name}:\n    addresses: [\"{at}\"]\n    proxy: {{ user: agents, password: {{ file: {} }} }}\n",
                secret.display()
            ));
        }
        settings.more.push_str(more);
        Ok(Self {
            daemon: Daemon::start(settings)?,
            tinyproxy,
            microsocks,
            _server: server,
            address,
            proxies,
            log,
            _directory: directory,
        })
    }

    /// `curl` through each of the proxies.
    fn curl(&self, more: &[&str], url: &str) -> Result<[Finished; 2]> {
        let [by_connect, by_socks] = self.proxies;
        let ca = self.daemon.authority();
        let ask = |proxy: &str| {
            let words = [
                "-sS",
                "-w",
                "\n%{http_code} %{http_version} %{http_connect}\n",
            ];
            let trust = ["--cacert", &*ca.to_string_lossy(), "-x", proxy];
            let words = [&words[..], &trust, more, &[url]].concat();
            self.daemon.agent().run("curl", &words)
        };
        Ok([
            ask(&format!("http://{by_connect}"))?,
            ask(&format!("socks5h://{by_socks}"))?,
        ])
    }

    /// `curl` by another version of SOCKS.
    fn socks(&self, scheme: &str, more: &str) -> Result<Finished> {
        let proxy = format!("{scheme}://{}", self.proxies[1]);
        let words = ["-sS", more, "-x", &proxy, &self.url("/v1/customers")];
        self.daemon.agent().run("curl", &words)
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

#[test]
fn what_a_proxy_is_asked_for_is_judged_and_given_the_credential() -> Result<()> {
    let network = Network::new(POLICY)?;
    for (version, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for said in network.curl(&[version], &network.url("/v1/customers"))? {
            has(&said.ok()?, &["Ann", &format!("\n200 {spoken} ")])?;
        }
        let own = ["-U", "me:agents-own", version];
        for said in network.curl(&own, &network.url("/v1/admin/x"))? {
            has(&said.ok()?, &["\n403 ", "no-admin"])?;
        }
    }
    let arrived = fs::read_to_string(&network.log)?;
    ensure!(arrived.lines().count() == 4, "{arrived}");
    ensure!(
        arrived.lines().all(|line| line.contains(TOKEN)),
        "{arrived}"
    );
    // The upstream was reached through them, by its name.
    let name = format!("localhost:{}", network.address.port());
    network.tinyproxy.await_text(&name, DEADLINE)?;
    network.microsocks.await_text(&name, DEADLINE)?;
    let audit = network.daemon.audit();
    let opened = audit.events("connection.opened")?;
    let of = |name: &str| {
        let named = |line: &&Value| line.pointer("/target").and_then(Value::as_str) == Some(name);
        opened.iter().filter(named).count()
    };
    ensure!(
        [of("api"), of("egress"), of("socks")] == [8, 4, 4],
        "{opened:?}"
    );
    for line in &opened {
        let asked = line.get("asked").and_then(Value::as_str);
        let is_inside = line.get("through").is_some();
        ensure!(asked == is_inside.then_some(name.as_str()), "{line}");
    }
    let presented = audit.events("credential.presented")?;
    // One of SOCKS is not asked for.
    ensure!(presented.len() == 2, "{presented:?}");
    for line in audit.lines()? {
        lacks(&line.to_string(), &[PASSWORD])?;
    }
    let python = place::python()?;
    let program = "import requests, sys\nprint(requests.get(sys.argv[1], verify=sys.argv[2]).text)";
    let agent = network.daemon.agent();
    let agent = agent.with("HTTPS_PROXY", &format!("http://{}", network.proxies[0]));
    let ca = network.daemon.authority();
    let words = [
        "-c",
        program,
        &network.url("/v1/customers"),
        &*ca.to_string_lossy(),
    ];
    has(
        &agent.run(&python.to_string_lossy(), &words)?.ok()?,
        &["Ann"],
    )
}

#[test]
fn a_proxy_is_asked_for_targets_alone() -> Result<()> {
    let network = Network::new(POLICY)?;
    let port = network.address.port();
    let elsewhere = format!("https://127.0.0.1:{port}/v1/customers");
    let address = format!("127.0.0.1:{port}");
    for (url, asked) in [
        (elsewhere.as_str(), address.as_str()),
        ("https://other.example/", "other.example:443"),
    ] {
        let [by_connect, by_socks] = network.curl(&["-k"], url)?;
        has(&by_connect.stdout, &["\n000 0 403\n"])?;
        ensure!(!by_socks.status.success(), "{by_socks:?}");
        network
            .daemon
            .audit()
            .wait_for("connection.refused", DEADLINE, |line| {
                let said = line.pointer("/refusal/message").and_then(Value::as_str);
                said.is_some_and(|said| said.contains("which is no target's"))
                    && line["asked"] == asked
            })?;
    }
    let [in_clear, _] = network.curl(&[], &format!("http://other.example:{port}/v1/customers"))?;
    has(&in_clear.ok()?, &["\n403 ", "which is no target's"])?;
    let [by_socks_4, _] = [
        network.socks("socks4a", "-k")?,
        network.socks("socks5h", "-4")?,
    ];
    ensure!(!by_socks_4.status.success(), "{by_socks_4:?}");
    // One behind the other.
    let [first, second] = network.proxies;
    let nested = format!("https://{second}/");
    let [by_connect, _] = network.curl(&["-k"], &nested)?;
    has(&by_connect.stdout, &["\n000 0 403\n"])?;
    ensure!(
        first != second && !network.log.exists(),
        "something arrived"
    );
    Ok(())
}

/// A client of Node.js that has somebody else connect.
const NODE: &str = r#"
const [proxy, url, ca] = process.argv.slice(1);
const http = require("node:http"), https = require("node:https"), tls = require("node:tls");
const [host, port] = proxy.split(":");
class Through extends https.Agent {
  createConnection(options, done) {
    const ask = http.request({ host, port, method: "CONNECT", path: `${options.host}:${options.port}` });
    ask.once("connect", (answer, socket) => {
      if (answer.statusCode !== 200) return done(new Error(String(answer.statusCode)));
      done(null, tls.connect({ ...options, socket, servername: options.host }));
    });
    ask.once("error", done);
    ask.end();
  }
}
const agent = new Through({ ca: require("node:fs").readFileSync(ca) });
https.get(url, { agent }, (answer) => answer.pipe(process.stdout)).on("error", (error) => {
  console.error(error);
  process.exitCode = 1;
});
"#;

#[test]
fn clients_that_know_their_proxy_reach_targets_through_it() -> Result<()> {
    let network = Network::new(POLICY)?;
    let [by_connect, by_socks] = network.proxies.map(|at| at.to_string());
    let ca = network.daemon.authority();
    let (ca, url) = (ca.to_string_lossy(), network.url("/v1/customers"));
    let agent = network.daemon.agent();
    let node = agent.run("node", &["-e", NODE, &by_connect, &url, &ca])?;
    has(&node.ok()?, &["Ann"])?;
    let mut init = Command::new("git");
    let bare = network.log.with_file_name("git").join("shop.git");
    init.args(["init", "-q", "--bare"]).arg(&bare);
    Process::run(init, DEADLINE)?.ok()?;
    let agent = agent
        .with("HOME", "/nonexistent")
        .with("GIT_TERMINAL_PROMPT", "0");
    let (trust, shop) = (
        format!("http.sslCAInfo={ca}"),
        network.url("/v1/git/shop.git"),
    );
    for proxy in [
        format!("http://{by_connect}"),
        format!("socks5h://{by_socks}"),
    ] {
        let way = format!("http.proxy={proxy}");
        let words = [
            "-c",
            &trust,
            "-c",
            &way,
            "-c",
            "protocol.version=0",
            "ls-remote",
        ];
        let words = [&words[..], &[&shop]].concat();
        agent.run("git", &words)?.ok()?;
    }
    has(
        &fs::read_to_string(&network.log)?,
        &[TOKEN, "git-upload-pack"],
    )?;
    let agent = network
        .daemon
        .agent()
        .with("https_proxy", &format!("http://{by_connect}"));
    let words = ["-q", "-O", "-", &format!("--ca-certificate={ca}"), &url];
    has(&agent.run("wget", &words)?.ok()?, &["Ann"])
}

#[test]
fn a_page_that_the_proxy_is_to_fetch_itself_is_one_of_a_target() -> Result<()> {
    let network = Network::new(POLICY)?;
    let port = network.address.port();
    let proxy = format!("http://{}", network.proxies[0]);
    let agent = network.daemon.agent();
    let page = |path: &str| format!("http://localhost:{port}{path}");
    let shows = [
        "-sS",
        "-w",
        "\n%{http_code} %{num_connects}\n",
        "-x",
        &proxy,
    ];
    let curl = |words: &[&str]| agent.run("curl", &[&shows[..], words].concat())?.ok();
    // One after the other: the next may be for somebody else, and is a connection of its own.
    let said = curl(&[
        "-U",
        "me:agents-own",
        &page("/v1/customers"),
        &page("/v1/customers"),
    ])?;
    ensure!(said.matches("\n200 1\n").count() == 2, "{said}");
    has(&said, &["Ann"])?;
    has(&curl(&[&page("/v1/admin/x")])?, &["\n403 1\n", "no-admin"])?;
    has(&curl(&["-d", "{}", &page("/v1/orders")])?, &["\n20"])?;
    // What it says besides is of the same host, or of nobody.
    has(
        &curl(&["-H", "Host: other.example", &page("/v1/customers")])?,
        &["\n400 1\n"],
    )?;
    has(
        &curl(&["-H", "Expect:", "-d", "x", &page("/v1/customers")])?,
        &["\n403 1\n"],
    )?;
    let arrived = fs::read_to_string(&network.log)?;
    ensure!(
        arrived.lines().all(|line| line.contains(TOKEN)),
        "{arrived}"
    );
    lacks(
        &arrived,
        &["agents-own", "proxy-authorization", "http://localhost"],
    )?;
    let presented = network.daemon.audit().events("credential.presented")?;
    ensure!(presented.len() == 2, "{presented:?}");
    has(&format!("{presented:?}"), &["proxy-authorization"])
}

#[test]
fn who_may_use_a_proxy_may_not_therefore_use_what_is_behind_it() -> Result<()> {
    let policy = r#"
@id("egress") permit (principal is Agent, action == Action::"Connect", resource)
when { resource == Target::"egress" || resource == Target::"socks" };
"#;
    let network = Network::new(policy)?;
    let [by_connect, by_socks] = network.curl(&[], &network.url("/v1/customers"))?;
    has(&by_connect.stdout, &["\n000 0 403\n"])?;
    ensure!(!by_socks.status.success(), "{by_socks:?}");
    let refused = network.daemon.audit().events("connection.refused")?;
    ensure!(refused.len() == 2, "{refused:?}");
    for line in &refused {
        ensure!(text(line, "/target")? == "api", "{line}");
        let asked = format!("localhost:{}", network.address.port());
        ensure!(text(line, "/asked")? == asked, "{line}");
    }
    ensure!(!network.log.exists(), "something arrived");
    Ok(())
}

#[test]
fn a_target_is_asked_for_by_the_address_that_its_name_was_told_to_have() -> Result<()> {
    let resolver = Resolver::start(port::free()?, &[("localhost", [198, 51, 100, 7])])?;
    let resolvers = format!("resolvers: [{{ address: '{}' }}]\n", resolver.at);
    let asks = r#"@id("asks") permit (principal is Agent, action == Action::"Resolve", resource);"#;
    let network = Network::with(&format!("{POLICY}{asks}"), &resolvers)?;
    let port = network.address.port();
    let [by_connect, by_socks] = network.proxies;
    let ca = network.daemon.authority();
    let ask = |proxy: &str, way: &[&str]| {
        let trust = ["-sS", "--cacert", &*ca.to_string_lossy(), "-x", proxy];
        let url = network.url("/v1/customers");
        let words = [&trust[..], way, &[&url]].concat();
        network.daemon.agent().run("curl", &words)
    };
    // By itself it looks up the name, and asks for what it found.
    let found = format!("localhost:{port}:198.51.100.7");
    let ways = [
        (format!("socks5://{by_socks}"), ["--resolve", &found]),
        (
            format!("http://{by_connect}"),
            ["--connect-to", &format!("{found}:{port}")],
        ),
    ];
    for (proxy, way) in &ways {
        let said = ask(proxy, way)?;
        ensure!(!said.status.success(), "nobody has told it that: {said:?}");
    }
    ensure!(!network.log.exists(), "something arrived");
    let told = resolver.asked_by(&network.daemon.agent(), &["A:localhost"])?;
    has(&told, &["198.51.100.7"])?;
    for (proxy, way) in &ways {
        has(&ask(proxy, way)?.ok()?, &["Ann"])?;
    }
    // The proxies were asked for the name.
    let name = format!("localhost:{port}");
    network.tinyproxy.await_text(&name, DEADLINE)?;
    network.microsocks.await_text(&name, DEADLINE)?;
    let opened = network.daemon.audit().events("connection.opened")?;
    let asked = opened.iter().filter(|line| line["asked"] == name.as_str());
    ensure!(asked.count() == 2, "{opened:?}");
    Ok(())
}
