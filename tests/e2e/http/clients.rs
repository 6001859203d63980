//! Stock clients as they are: their own ways of TLS, of keeping connections, and of sending bodies.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use support::daemon::{Settings, Target};
use support::process::Process;
use support::tls::Authority;
use support::{Agent, DEADLINE, Daemon, place, port};
use tempfile::TempDir;

use super::{POLICY, Shop, TOKEN};
use crate::lab::{has, lacks, needs_root};

/// A script of this test's.
fn script(name: &str) -> String {
    let path = place::workspace().join("tests/e2e/http/clients").join(name);
    path.to_string_lossy().into_owned()
}

/// A program that came with the drivers of Python.
fn beside_python(name: &str) -> Result<String> {
    let python = place::python()?;
    let path = python.with_file_name(name);
    ensure!(path.is_file(), "there is no {}", path.display());
    Ok(path.to_string_lossy().into_owned())
}

#[test]
fn wget_and_the_clients_of_python_are_answered_as_by_the_server() -> Result<()> {
    let shop = Shop::new(&[])?;
    let ca = shop.daemon.authority();
    let ca = ca.to_string_lossy();
    let url = shop.url("/v1/customers");
    let words = ["-4", "-qO-", "--ca-certificate", &ca, &url];
    has(&shop.agent().run("wget", &words)?.ok()?, &["Ann"])?;
    let python = place::python()?;
    let words = [&script("clients.py"), &shop.url(""), &*ca];
    let said = shop.agent().run(&python.to_string_lossy(), &words)?.ok()?;
    has(
        &said,
        &[
            "requests 200 True\n",
            "requests streams POST /v1/orders 70001\n",
            "urllib3 200 True\n",
            "httpx 200 True\nhttpx events 3\n",
            "httpx 2 200 True\nhttpx 2 events 3\n",
            "aiohttp 200 True\naiohttp socket hello\n",
            "websockets hello\n",
            "httpx at once 20\n",
        ],
    )?;
    has(&shop.arrived()?.to_string(), &[TOKEN])?;
    lacks(&said, &[TOKEN])
}

/// The client of Java's library, as classes in a directory.
pub(super) fn compiled() -> Result<TempDir> {
    let directory = place::temporary("classes")?;
    let mut javac = Command::new("javac");
    javac
        .arg("-d")
        .arg(directory.path())
        .arg(script("Ask.java"));
    Process::run(javac, DEADLINE)?.ok().context("javac")?;
    open(directory.path())?;
    Ok(directory)
}

#[test]
fn javas_own_client_is_answered_in_both_versions() -> Result<()> {
    let shop = Shop::new(&[])?;
    let directory = place::temporary("java")?;
    let store = directory.path().join("trusted");
    let mut keytool = Command::new("keytool");
    keytool.args(["-importcert", "-noprompt", "-alias", "interceptor"]);
    keytool.args(["-storepass", "changeit", "-file"]);
    keytool.arg(shop.daemon.authority());
    keytool.arg("-keystore").arg(&store);
    Process::run(keytool, DEADLINE)?.ok().context("keytool")?;
    let classes = compiled()?;
    open(directory.path())?;
    let trust = format!("-Djavax.net.ssl.trustStore={}", store.display());
    let classes = classes.path().to_string_lossy();
    let url = shop.url("/v1/customers");
    let password = "-Djavax.net.ssl.trustStorePassword=changeit";
    let words = [trust.as_str(), password, "-cp", &classes, "Ask", &url];
    let said = shop.agent().run("java", &words)?.ok()?;
    has(&said, &["HTTP_1_1 200 true\n", "HTTP_2 200 true\n"])
}

#[test]
fn nodes_and_gos_own_clients_are_answered_in_both_versions() -> Result<()> {
    let shop = Shop::new(&[])?;
    let ca = shop.daemon.authority();
    let ca = ca.to_string_lossy();
    let agent = shop.agent().with("NODE_EXTRA_CA_CERTS", &ca);
    let said = agent
        .run("node", &[&script("ask.mjs"), &shop.url("")])?
        .ok()?;
    has(
        &said,
        &[
            "fetch 200 true\n",
            "http2 200 true\n",
            "fetch streams POST /v1/orders 70001\n",
        ],
    )?;
    let rclone = beside_python("rclone")?;
    for (more, spoken) in [("--use-cookies", "2.0"), ("--disable-http2", "1.1")] {
        let url = shop.url("/v1/customers");
        let words = [
            "copyurl",
            "--config",
            "/dev/null",
            "--ca-cert",
            &ca,
            more,
            "--stdout",
            &url,
        ];
        has(&shop.agent().run(&rclone, &words)?.ok()?, &["Ann"])?;
        let arrived = shop.arrived()?.to_string();
        let version = format!(r#""httpVersion":"{spoken}""#);
        has(&arrived, &[&version, TOKEN, "rclone"])?;
    }
    Ok(())
}

/// What an agent's clients read has to be open to it.
fn open(directory: &Path) -> Result<()> {
    let mut open = Command::new("chmod");
    open.args(["-R", "a+rwX"]).arg(directory);
    Process::run(open, DEADLINE)?.ok().map(drop)
}

fn git(agent: &Agent, words: &[&str]) -> Result<String> {
    let quiet = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "init.defaultBranch=main",
    ];
    let agent = agent.clone().with("HOME", "/nonexistent");
    let agent = agent.with("GIT_TERMINAL_PROMPT", "0");
    agent.run("git", &[&quiet, words].concat())?.ok()
}

#[test]
fn git_clones_and_pushes_over_https() -> Result<()> {
    let permits = r#"@id("git") permit (principal is Agent, action == Action::"HttpPost", resource in Path::"api/v1/git/shop.git");"#;
    let shop = Shop::policed(&format!("{POLICY}{permits}"), &[])?;
    let root = shop.log.with_file_name("git");
    let bare = root.join("shop.git");
    let mut init = Command::new("git");
    init.args(["init", "-q", "--bare", "-b", "main"]).arg(&bare);
    Process::run(init, DEADLINE)?.ok()?;
    let mut takes = Command::new("git");
    takes.arg("-C").arg(&bare);
    takes.args(["config", "http.receivepack", "true"]);
    Process::run(takes, DEADLINE)?.ok()?;
    let work = place::temporary("git")?;
    open(work.path())?;
    let trust = format!("http.sslCAInfo={}", shop.daemon.authority().display());
    let url = shop.url("/v1/git/shop.git");
    for version in ["HTTP/1.1", "HTTP/2"] {
        let spoken = format!("http.version={version}");
        let name = version.replace('/', "-");
        let clone = work.path().join(&name);
        let at = clone.to_string_lossy();
        let agent = shop.agent();
        let net = ["-c", trust.as_str(), "-c", &spoken];
        git(&agent, &[&net[..], &["clone", "-q", &url, &at]].concat())?;
        // More than git sends at once.
        let large = clone.join(format!("{name}.bin"));
        let mut made = Command::new("dd");
        made.args(["if=/dev/urandom", "bs=1M", "count=3"]);
        made.arg(format!("of={}", large.display()));
        Process::run(made, DEADLINE)?.ok()?;
        open(work.path())?;
        git(&agent, &["-C", &at, "add", "."])?;
        git(&agent, &["-C", &at, "commit", "-q", "-m", &name])?;
        let push = ["-C", &at, "push", "-q", "origin", "HEAD:main"];
        git(&agent, &[&net[..], &push].concat())?;
        let again = work.path().join(format!("{name}-again"));
        let again = again.to_string_lossy();
        git(&agent, &[&net[..], &["clone", "-q", &url, &again]].concat())?;
        let sent = fs::read(&large)?;
        let came = fs::read(Path::new(&*again).join(format!("{name}.bin")))?;
        ensure!(sent == came, "{version}: it is not what was pushed");
    }
    has(
        &fs::read_to_string(&shop.log)?,
        &[TOKEN, "git-receive-pack"],
    )
}

#[test]
fn grpc_is_called_in_all_its_ways() -> Result<()> {
    needs_root()?;
    let directory = place::temporary("grpc")?;
    let authority = Authority::make(directory.path())?;
    let (address, python) = (port::free()?, place::python()?);
    let mut command = Command::new(&python);
    command
        .arg(script("grpc_server.py"))
        .arg(address.port().to_string())
        .arg(&authority.certificate)
        .arg(&authority.key)
        .env_clear();
    let server = Process::start(command)?;
    server.await_text("listening", DEADLINE)?;
    let target = Target {
        password: Some(TOKEN.to_owned()),
        authority: Some(authority.ca),
        ..Target::http(
            "api",
            address,
            &["inject: { secret: SECRET }", "hosts: [localhost]"],
        )
    };
    let policy = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("echo") permit (principal is Agent, action == Action::"HttpPost", resource in Target::"api")
when { context has grpc && context.grpc.service == "shop.Echo" };
"#;
    let daemon = Daemon::start(Settings::new(vec![target], policy))?;
    let place = format!("localhost:{}", address.port());
    let ca = daemon.authority();
    let words = [&script("grpc_client.py"), &place, &*ca.to_string_lossy()];
    let said = daemon
        .agent()
        .run(&python.to_string_lossy(), &words)?
        .ok()?;
    has(
        &said,
        &[
            "one hello\n",
            "many 5\n",
            "taken 5000000\n",
            "both a b c\n",
            "status NOT_FOUND nothing here\n",
            "trailer kept\n",
            "late DEADLINE_EXCEEDED\n",
            "credential Bearer *",
            "refused PERMISSION_DENIED interceptor: POST on /shop.Admin/One of target api is not permitted",
            "(request ",
        ],
    )?;
    lacks(&said, &[TOKEN])
}
