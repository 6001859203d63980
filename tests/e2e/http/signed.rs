//! Targets whose requests are signed: clients sign with what opens nothing, servers hold each request against the
//! signature that it comes with.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::daemon::{Settings, Target};
use support::process::{Finished, Process};
use support::tls::Authority;
use support::{DEADLINE, Daemon, place, port};
use tempfile::TempDir;

use crate::lab::{has, lacks, needs_root, text};

const POLICY: &str = r#"@id("all") permit (principal is Agent, action, resource);"#;
/// What an agent signs with.
const OWN: &str = "AKIDAGENTSOWN";

/// Fields are dropped in order: the daemon before the server.
struct Cloud {
    daemon: Daemon,
    _server: Process,
    address: SocketAddr,
    secret: String,
    _directory: TempDir,
}

impl Cloud {
    /// moto, which holds requests against their signatures from the fourth on.
    fn moto(service: &str, inject: impl Fn(&str, &str) -> (String, String)) -> Result<Self> {
        Self::masked(service, "", inject)
    }

    /// The same with more of the target.
    fn masked(
        service: &str,
        more: &str,
        inject: impl Fn(&str, &str) -> (String, String),
    ) -> Result<Self> {
        needs_root()?;
        let directory = place::temporary("cloud")?;
        let authority = Authority::make(directory.path())?;
        let (address, python) = (port::free()?, place::python()?);
        let mut command = Command::new(&python);
        command
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
            .arg(address.port().to_string())
            .arg("-c")
            .arg(&authority.certificate)
            .arg("-k")
            .arg(&authority.key)
            .env_clear()
            .env("INITIAL_NO_AUTH_ACTION_COUNT", "3");
        let server = Process::start(command)?;
        server.await_text("Running on", DEADLINE)?;
        let mut setup = Command::new(&python);
        setup
            .arg(script("setup.py"))
            .arg(format!("https://localhost:{}", address.port()))
            .arg(&authority.ca)
            .env_clear();
        let made = Process::run(setup, DEADLINE)?.ok()?;
        let (id, secret) = made.trim().split_once(' ').context("a key")?;
        let (said, token) = inject(id, secret);
        let inject = format!(
            "inject: {{ secret: SECRET, as: sigv4, sigv4: {{ region: us-east-1, service: {service}{said} }} }}"
        );
        let daemon = daemon_of(address, Some(&authority), (&inject, &token), more)?;
        Ok(Self {
            daemon,
            _server: server,
            address,
            secret: secret.to_owned(),
            _directory: directory,
        })
    }

    /// Runs a script of an agent's.
    fn run(&self, name: &str) -> Result<Finished> {
        let python = place::python()?;
        let url = format!("https://localhost:{}", self.address.port());
        let (script, ca) = (script(name), self.daemon.authority());
        let agent = self.daemon.agent();
        let agent = agent.with("AWS_ACCESS_KEY_ID", OWN);
        let agent = agent.with("AWS_SECRET_ACCESS_KEY", "opens-nothing");
        agent.run(
            &python.to_string_lossy(),
            &[&script.to_string_lossy(), &url, &ca.to_string_lossy()],
        )
    }
}

fn script(name: &str) -> std::path::PathBuf {
    place::workspace().join("tests/e2e/http/signed").join(name)
}

fn daemon(
    address: SocketAddr,
    authority: Option<&Authority>,
    inject: &str,
    secret: &str,
) -> Result<Daemon> {
    daemon_of(address, authority, (inject, secret), "")
}

fn daemon_of(
    address: SocketAddr,
    authority: Option<&Authority>,
    (inject, secret): (&str, &str),
    more: &str,
) -> Result<Daemon> {
    let target = Target {
        password: Some(secret.to_owned()),
        authority: authority.map(|authority| authority.ca.clone()),
        more: (!more.is_empty())
            .then(|| more.to_owned())
            .into_iter()
            .collect(),
        ..Target::http("cloud", address, &[inject, "hosts: [localhost]"])
    };
    Daemon::start(Settings::new(vec![target], POLICY))
}

/// What was presented, each once: where, and its fingerprint.
fn presented(daemon: &Daemon) -> Result<Vec<(String, String)>> {
    let lines = daemon.audit().events("credential.presented")?;
    let of = |line: &Value| {
        Ok((
            text(line, "/user")?.to_owned(),
            text(line, "/fingerprint")?.to_owned(),
        ))
    };
    let mut said = lines.iter().map(of).collect::<Result<Vec<_>>>()?;
    said.sort();
    said.dedup();
    Ok(said)
}

#[test]
fn a_store_takes_what_is_signed_anew() -> Result<()> {
    let cloud = Cloud::moto("s3", |id, secret| {
        (format!(", id: {id}"), secret.to_owned())
    })?;
    let said = cloud.run("store.py")?.ok()?;
    has(&said, &["keys", "bodies", "presigned", "deleted"])?;
    let presented = presented(&cloud.daemon)?;
    // One key, however many signatures.
    let places: Vec<_> = presented.iter().map(|(place, _)| place.as_str()).collect();
    ensure!(
        places
            == [
                "authorization",
                "query AWSAccessKeyId",
                "query X-Amz-Credential"
            ],
        "{presented:?}"
    );
    ensure!(
        presented
            .iter()
            .all(|(_, fingerprint)| *fingerprint == presented[0].1),
        "{presented:?}"
    );
    for line in cloud.daemon.audit().lines()? {
        lacks(&line.to_string(), &[&cloud.secret, OWN, "X-Amz-Signature"])?;
    }
    Ok(())
}

#[test]
fn a_part_of_what_is_masked_is_refused_and_never_the_whole() -> Result<()> {
    let cloud = Cloud::masked("s3", "detect: { email: mask }", |id, secret| {
        (format!(", id: {id}"), secret.to_owned())
    })?;
    let said = cloud.run("parts.py")?.ok()?;
    has(&said, &["whole 200", "part 403", "download 403"])
}

#[test]
fn a_service_is_told_what_the_body_is() -> Result<()> {
    let cloud = Cloud::moto("dynamodb", |id, secret| {
        let printed =
            serde_json::json!({ "Version": 1, "AccessKeyId": id, "SecretAccessKey": secret });
        (String::new(), printed.to_string())
    })?;
    has(&cloud.run("table.py")?.ok()?, &["kept ann@example.com"])
}

#[test]
fn what_services_of_aws_call_json_is_masked_as_json_is() -> Result<()> {
    let cloud = Cloud::masked("dynamodb", "detect: { email: mask }", |id, secret| {
        (format!(", id: {id}"), secret.to_owned())
    })?;
    has(&cloud.run("table.py")?.ok()?, &["kept ***************"])
}

#[test]
fn a_server_that_checks_takes_no_other_key() -> Result<()> {
    let cloud = Cloud::moto("s3", |id, _| {
        (
            format!(", id: {id}"),
            "not-the-secret-access-key".to_owned(),
        )
    })?;
    let said = cloud.run("store.py")?;
    has(&said.stderr, &["SignatureDoesNotMatch"])
}

#[test]
fn pieces_of_a_body_are_signed_each() -> Result<()> {
    const SECRET: &str = "upstream-secret-access-key";
    needs_root()?;
    let directory = place::temporary("pieces")?;
    let authority = Authority::make(directory.path())?;
    let address = port::free()?;
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(script("pieces.py"))
        .arg(address.port().to_string())
        .args([&authority.certificate, &authority.key])
        .arg(SECRET)
        .env_clear();
    let server = Process::start(command)?;
    server.await_text("listening", DEADLINE)?;
    let inject = "inject: { secret: SECRET, as: sigv4, sigv4: { id: AKIDUPSTREAM, region: eu-north-1, service: s3 } }";
    let daemon = daemon(address, Some(&authority), inject, SECRET)?;
    let send = |kind: &str, size: &str, piece: &str| {
        let (port, ca, script) = (
            address.port().to_string(),
            daemon.authority(),
            script("send.py"),
        );
        let arguments = [
            &script.to_string_lossy(),
            port.as_str(),
            &ca.to_string_lossy(),
            kind,
            size,
            piece,
        ];
        daemon.agent().run("/usr/bin/python3", &arguments)?.ok()
    };
    let rows = [
        ("plain", "200000", "65536"),
        ("plain", "5000000", "1048576"),
        ("trailer", "200000", "65536"),
        ("trailer", "17", "65536"),
    ];
    for (kind, size, piece) in rows {
        let said = send(kind, size, piece)?;
        let (answered, expected) = said.split_once("\nexpected ").context("two lines")?;
        ensure!(
            answered == format!("200 {}", expected.trim()),
            "{kind} {size}: {said}"
        );
    }
    let rows = [
        (
            "long",
            "3000000",
            "2097152",
            "a piece of the body is longer than 1 MiB",
        ),
        (
            "cut",
            "200000",
            "65536",
            "a piece of the body is not as long as it says",
        ),
        ("asymmetric", "20", "65536", "signed in another way"),
    ];
    for (kind, size, piece, why) in rows {
        has(&send(kind, size, piece)?, &[why])?;
    }
    drop(server);
    Ok(())
}

#[test]
fn a_scheme_of_a_servers_own_is_signed_by_a_template() -> Result<()> {
    const KEY: &str = "shared-key-of-a-scheme";
    needs_root()?;
    let address = port::free()?;
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(script("scheme.py"))
        .arg(address.port().to_string())
        .arg(KEY)
        .env_clear();
    let server = Process::start(command)?;
    server.await_text("listening", DEADLINE)?;
    let inject = r#"inject: { secret: SECRET, as: hmac, hmac: { algorithm: sha512, output: base64, time: unix_ms,
        sign: "{method}\n{host}\n{target}\n{time}\n{header:x-nonce}\n{header:content-type}\n{body_sha512_base64}",
        headers: ["Authorization: Own id=agents,signature={signature}", "X-Time: {time}", "X-Nonce: {nonce}"] } }"#;
    let daemon = daemon(address, None, inject, KEY)?;
    let curl = |arguments: &[&str]| {
        let url = format!("http://localhost:{}/v1/a%20b?c=d", address.port());
        let own = [
            "-sS",
            "-4",
            "-HAuthorization: Own id=agents,signature=none",
            "-Hx-time: 1",
            "-HX_Nonce: 1",
            &url,
        ];
        daemon
            .agent()
            .run("curl", &[&own, arguments].concat())?
            .ok()
    };
    let directory = place::temporary("scheme")?;
    let (short, long) = (
        directory.path().join("short"),
        directory.path().join("long"),
    );
    std::fs::write(&short, vec![b'a'; 700_000])?;
    std::fs::write(&long, vec![b'a'; 1_100_000])?;
    let of = |path: &std::path::Path| format!("@{}", path.display());
    for arguments in [
        &["-d", "x=y"][..],
        &["-X", "POST"],
        &["--data-binary", &of(&short)],
    ] {
        let said = curl(arguments)?;
        ensure!(said.starts_with("good "), "{arguments:?}: {said}");
    }
    // What is longer than is read cannot be signed.
    has(&curl(&["--data-binary", &of(&long)])?, &["http.judged"])?;
    ensure!(
        presented(&daemon)?
            .iter()
            .map(|(place, _)| place.as_str())
            .eq(["authorization", "x-nonce", "x-time"]),
        "{:?}",
        presented(&daemon)?
    );
    drop(server);
    Ok(())
}
