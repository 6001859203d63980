//! Streams to containers, over WebSocket and SPDY, by stock clients of both kinds. What answers is no cluster: a real
//! one has streams only with nodes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::daemon::Settings;
use support::kubernetes::{TOKEN, install};
use support::tls::Authority;
use support::{Agent, DEADLINE, Daemon, Finished, Process, place, port, wait};
use tempfile::TempDir;

use crate::lab::{has, lacks, needs_root, refused, text};

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("look") permit (principal is Agent, action in [Action::"KubeRead", Action::"KubeVisit"], resource);
@id("run") permit (principal is Agent, action == Action::"KubeExec", resource in KubeNamespace::"prod/default")
when { ["echo", "false", "cat"].contains(context.program) };
@id("ask") @approve("games")
permit (principal is Agent, action == Action::"KubeExec", resource in KubeNamespace::"prod/default")
when { context.program == "restart" };
@id("ports") permit (principal is Agent, action == Action::"KubePortForward", resource);
@id("no-shell") @hint("run one program") forbid (principal is Agent, action == Action::"KubeExec", resource)
when { context.program like "*sh" };
"#;

pub(super) struct Lab {
    pub(super) daemon: Daemon,
    _server: Process,
    log: PathBuf,
    kubeconfig: PathBuf,
    old: PathBuf,
    _directory: TempDir,
}

impl Lab {
    fn new() -> Result<Self> {
        Self::with(RULES, "")
    }

    /// With other rules, and more lines behind its target.
    pub(super) fn with(rules: &str, more: &str) -> Result<Self> {
        needs_root()?;
        let directory = place::temporary("streams")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let at = |name: &str| directory.path().join(name);
        let authority = Authority::make(directory.path())?;
        let address = port::free()?;
        let mut command = std::process::Command::new("node");
        command
            .arg(place::workspace().join("tests/e2e/kube/streams.mjs"))
            .arg(address.port().to_string())
            .arg(at("log"))
            .args([&authority.certificate, &authority.key]);
        let server = Process::start(command)?;
        server.await_text("listening", DEADLINE)?;
        fs::write(at("token"), TOKEN)?;
        fs::set_permissions(at("token"), fs::Permissions::from_mode(0o600))?;
        let mut settings = Settings::new(Vec::new(), rules);
        settings.more = format!(
            "  prod:\n    addresses: [\"{address}\"]\n    tls: {{ mode: verify-full, ca: {} }}\n    kubernetes: {{ \
             token: {{ file: {} }}, hosts: [127.0.0.1] }}\n",
            authority.ca.display(),
            at("token").display()
        );
        settings.more.push_str(more);
        let daemon = Daemon::start(settings)?;
        let config = daemon.config().display().to_string();
        let mut shown = std::process::Command::new(place::interceptor()?);
        shown
            .args(["kubeconfig", "prod", "--config", &config])
            .env_clear();
        let kubeconfig = at("kubeconfig");
        fs::write(&kubeconfig, Process::run(shown, DEADLINE)?.ok()?)?;
        fs::set_permissions(&kubeconfig, fs::Permissions::from_mode(0o644))?;
        let old = at("kubectl");
        install(&place::kubernetes()?.join("kubectl"), &old)?;
        Ok(Self {
            daemon,
            _server: server,
            log: at("log"),
            kubeconfig,
            old,
            _directory: directory,
        })
    }

    pub(super) fn agent(&self) -> Agent {
        let kubeconfig = self.kubeconfig.display().to_string();
        self.daemon.agent().with("KUBECONFIG", &kubeconfig)
    }

    /// By SPDY, and by WebSocket.
    pub(super) fn clients(&self) -> Result<[String; 2]> {
        let today = place::python()?.with_file_name("kubectl");
        Ok([self.old.clone(), today].map(|path| path.display().to_string()))
    }

    pub(super) fn exec(&self, client: &str, command: &[&str]) -> Result<Finished> {
        let words = [&["exec", "web", "--"], command].concat();
        self.agent().run(client, &words)
    }

    /// What arrived that was to become a stream.
    fn streams(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.log).context("read what arrived")?;
        let mut lines: Vec<Value> = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        lines.retain(|line| line.pointer("/headers/upgrade").is_some());
        Ok(lines)
    }
}

#[test]
fn a_command_runs_with_both_outputs_its_input_and_its_exit_code() -> Result<()> {
    let lab = Lab::new()?;
    for client in lab.clients()? {
        let ran = lab.exec(&client, &["echo", "a", "b c"])?;
        ensure!(
            ran.status.success()
                && ran.stdout == "ran echo|a|b c\n"
                && ran.stderr.contains("and said so"),
            "{ran:?}"
        );
        let ran = lab.exec(&client, &["false"])?;
        ensure!(ran.status.code() == Some(7), "{ran:?}");
        let mut cat = lab
            .agent()
            .start(&client, &["exec", "-i", "web", "--", "cat"])?;
        cat.send("there and back\n")?;
        cat.await_text("there and back", DEADLINE)?;
        cat.close_input();
        ensure!(cat.finish(DEADLINE)?.status.success());
    }
    let arrived = lab.streams()?;
    let upgrades: Vec<_> = arrived
        .iter()
        .map(|line| text(line, "/headers/upgrade").map(str::to_ascii_lowercase))
        .collect::<Result<_>>()?;
    ensure!(
        upgrades
            == [
                "spdy/3.1",
                "spdy/3.1",
                "spdy/3.1",
                "websocket",
                "websocket",
                "websocket"
            ],
        "{upgrades:?}"
    );
    for line in arrived {
        ensure!(text(&line, "/headers/authorization")? == format!("Bearer {TOKEN}"));
    }
    let permitted = lab.daemon.audit().events("request.permitted")?;
    let said: Vec<_> = permitted
        .iter()
        .filter_map(|line| line.pointer("/statement")?.as_str())
        .filter(|said| said.starts_with("exec"))
        .collect();
    ensure!(
        said.contains(&"exec pods/web in default command=echo ?"),
        "{said:?}"
    );
    // What went through is kept.
    let is_stream =
        |line: &&Value| text(line, "/summary").is_ok_and(|said| said.starts_with("exec"));
    let stream = permitted.iter().find(is_stream).context("no stream")?;
    let session = text(stream, "/session")?;
    lab.daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |line| {
            text(line, "/session").is_ok_and(|closed| closed == session)
        })?;
    let shown = lab.daemon.cli(&["sessions", "show", session])?.ok()?;
    has(&shown, &["101 Switching Protocols"])
}

#[test]
fn a_port_is_reached_both_ways() -> Result<()> {
    let lab = Lab::new()?;
    for client in lab.clients()? {
        let local = port::free()?;
        let ports = format!("{}:80", local.port());
        let forward = lab.agent().start(
            &client,
            &["port-forward", "--address=127.0.0.1", "pod/web", &ports],
        )?;
        forward.await_text("Forwarding from", DEADLINE)?;
        let mut stream = port::dial(local)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"hello")?;
        let mut back = [0; 5];
        stream.read_exact(&mut back)?;
        ensure!(&back == b"HELLO", "{back:?}");
    }
    Ok(())
}

#[test]
fn a_command_that_is_not_permitted_is_refused_in_each_way_in_which_it_is_tried() -> Result<()> {
    let lab = Lab::new()?;
    for client in lab.clients()? {
        let said = refused(lab.exec(&client, &["bash", "-c", "id"])?)?;
        has(
            &said,
            &[
                "exec of bash on pods/web in default",
                "run one program",
                "rule no-shell",
            ],
        )?;
        let said = refused(lab.agent().run(&client, &["attach", "web"])?)?;
        has(
            &said,
            &["attach on pods/web in default of target prod is not permitted"],
        )?;
    }
    ensure!(lab.streams()?.is_empty(), "something arrived");
    Ok(())
}

#[test]
fn people_are_asked_once_of_a_command_that_is_tried_in_two_ways() -> Result<()> {
    let lab = Lab::new()?;
    let [_, today] = lab.clients()?;
    let words = ["exec", "web", "--", "restart"];
    let waits = || {
        wait::for_fact("a request that waits", DEADLINE, || {
            let listed = lab.daemon.cli(&["approvals", "ls", "--json"])?.ok()?;
            let line = listed.lines().next().map(serde_json::from_str::<Value>);
            Ok(line.transpose()?)
        })
    };
    let mut client = lab.agent().start(&today, &words)?;
    let id = text(&waits()?, "/id")?.to_owned();
    lab.daemon
        .cli(&["approvals", "deny", &id, "--reason", "not now"])?
        .ok()?;
    let ended = client.finish(DEADLINE)?;
    ensure!(
        !ended.status.success() && ended.stderr.contains("not now"),
        "{ended:?}"
    );
    lacks(&ended.stdout, &["ran"])?;
    let asked = lab.daemon.audit().events("approval.asked")?;
    ensure!(asked.len() == 1, "{asked:?}");
    ensure!(lab.streams()?.is_empty(), "something arrived");
    Ok(())
}
