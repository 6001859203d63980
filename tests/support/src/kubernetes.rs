//! A throw-away Kubernetes API server with its etcd, on loopback; gone when dropped. No controller: objects stay as
//! they are made. A node comes to it where one is started.

pub mod node;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Finished, Process};
use crate::tls::Authority;
use crate::wait;
use crate::{DEADLINE, place, port};

/// Who the daemon is to the server; may do all but what it is told.
pub const TOKEN: &str = "upstream-token-0123456789";
const ADMIN: &str = "admin-token-0123456789";

/// What the daemon's login may do: a good deal, and not all.
const ROLE: &str = r#"{"apiVersion":"v1","kind":"List","items":[
{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"agent"},"rules":[
 {"apiGroups":["","apps","batch","rbac.authorization.k8s.io"],"resources":["*"],"verbs":["get","list","watch","create","update","patch","deletecollection","bind"]},
 {"apiGroups":["","apps"],"resources":["pods","configmaps","secrets","deployments"],"verbs":["delete"]},
 {"apiGroups":[""],"resources":["users","groups"],"verbs":["impersonate"]},
 {"nonResourceURLs":["*"],"verbs":["get"]}]},
{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"agent"},
 "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"agent"},
 "subjects":[{"kind":"User","name":"agent","apiGroup":"rbac.authorization.k8s.io"}]}]}"#;
/// Everything that is asked is written down, without bodies.
const AUDIT: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy",
"omitStages":["RequestReceived","ResponseStarted"],"rules":[{"level":"Metadata"}]}"#;

/// A running server. Fields are dropped in order: the server before what it keeps its objects in.
pub struct Cluster {
    server: Process,
    _etcd: Process,
    authority: Authority,
    address: SocketAddr,
    directory: TempDir,
}

impl Cluster {
    /// Starts one, with the role of the daemon's login.
    ///
    /// # Errors
    /// When the programs are missing or do not come up.
    pub fn start() -> anyhow::Result<Self> {
        let programs = place::kubernetes()?;
        let directory = place::temporary("kubernetes")?;
        let authority = Authority::make(directory.path())?;
        let keeper = port::free()?;
        let etcd = etcd(directory.path(), keeper)?;
        let address = port::free()?;
        let server = server(&programs, directory.path(), (keeper, address), &authority)?;
        let client = directory.path().join("kubectl");
        install(&programs.join("kubectl"), &client)?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let cluster = Self {
            server,
            _etcd: etcd,
            authority,
            address,
            directory,
        };
        wait::for_fact("the API server's readiness", DEADLINE, || {
            let asked = cluster.kubectl(&["get", "--raw", "/readyz"])?;
            Ok((asked.status.success() && asked.stdout == "ok").then_some(()))
        })?;
        cluster.apply(ROLE)?;
        Ok(cluster)
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `kubectl` of its own version, where every user may run it.
    #[must_use]
    pub fn client(&self) -> PathBuf {
        self.directory.path().join("kubectl")
    }

    /// It as a target: lines below `targets`, with more lines of `kubernetes`; they come last, so that a test can go on
    /// behind them.
    ///
    /// # Errors
    /// When the token cannot be written.
    pub fn target(&self, name: &str, more: &[&str]) -> anyhow::Result<String> {
        let token = self.directory.path().join("token");
        fs::write(&token, TOKEN)?;
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
        let mut text = format!(
            "  {name}:\n    addresses: [\"{}\"]\n    tls: {{ mode: verify-full, ca: {} }}\n    statement: full\n    kubernetes:\n      \
             hosts: [127.0.0.1, localhost]\n      token: {{ file: {} }}\n",
            self.address,
            self.authority.ca.display(),
            token.display(),
        );
        for line in more {
            text.push_str(&format!("      {line}\n"));
        }
        Ok(text)
    }

    /// Runs `kubectl` against it as its administrator, past the daemon.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        Process::run(self.command(arguments), DEADLINE)
    }

    /// Makes what a manifest says.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        let file = self.directory.path().join("manifest");
        fs::write(&file, manifest)?;
        self.kubectl(&[
            "apply",
            "--validate=false",
            "-f",
            &file.display().to_string(),
        ])?
        .ok()
        .map(drop)
    }

    /// What it was asked, one line each, as it wrote it down itself.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn audit(&self) -> anyhow::Result<Vec<Value>> {
        let text = fs::read_to_string(self.directory.path().join("audit"))?;
        // The last line may be half written.
        let whole = text
            .rfind('\n')
            .map_or("", |end| text.get(..end).unwrap_or(""));
        whole
            .lines()
            .map(|line| serde_json::from_str(line).context("read a line of the server's audit"))
            .collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.client());
        command
            .args(["--server", &format!("https://{}", self.address)])
            .arg("--certificate-authority")
            .arg(&self.authority.ca)
            .args(["--token", ADMIN, "--cache-dir"])
            .arg(self.directory.path().join("discovered"))
            .args(arguments)
            .env_clear()
            .env("HOME", "/nonexistent")
            .current_dir("/");
        command
    }
}

/// Copies a program to where every user may run it, by a process of its own: one that this process writes could not be
/// run while another thread starts something.
///
/// # Errors
/// When it cannot be copied.
pub fn install(program: &Path, to: &Path) -> anyhow::Result<()> {
    let mut install = Command::new("install");
    install
        .args(["-m", "0755"])
        .arg(program)
        .arg(to)
        .env_clear();
    install.env("PATH", "/usr/bin:/bin");
    Process::run(install, DEADLINE)?.ok().map(drop)
}

fn etcd(directory: &Path, at: SocketAddr) -> anyhow::Result<Process> {
    let (clients, peers) = (format!("http://{at}"), format!("http://{}", port::free()?));
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(directory.join("objects"))
        .args([
            "--listen-client-urls",
            &clients,
            "--advertise-client-urls",
            &clients,
        ])
        .args([
            "--listen-peer-urls",
            &peers,
            "--initial-advertise-peer-urls",
            &peers,
        ])
        .args(["--initial-cluster", &format!("default={peers}")])
        .env_clear()
        .current_dir("/");
    let process = Process::start(command)?;
    process.await_text("ready to serve client requests", DEADLINE)?;
    Ok(process)
}

fn server(
    programs: &Path,
    directory: &Path,
    (keeper, at): (SocketAddr, SocketAddr),
    authority: &Authority,
) -> anyhow::Result<Process> {
    let file = |name: &str| directory.join(name).display().to_string();
    fs::write(
        file("tokens"),
        format!("{ADMIN},admin,admin,system:masters\n{TOKEN},agent,agent\n"),
    )?;
    fs::write(file("policy"), AUDIT)?;
    let mut key = Command::new("openssl");
    key.args(["genrsa", "-out", &file("accounts.key"), "2048"])
        .env_clear();
    Process::run(key, DEADLINE)?.ok()?;
    let mut command = Command::new(programs.join("kube-apiserver"));
    let flags = [
        format!("--etcd-servers=http://{keeper}"),
        format!("--bind-address={}", at.ip()),
        format!("--advertise-address={}", at.ip()),
        format!("--secure-port={}", at.port()),
        "--insecure-port=0".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--tls-cert-file={}", authority.certificate.display()),
        format!("--tls-private-key-file={}", authority.key.display()),
        format!("--client-ca-file={}", authority.ca.display()),
        format!("--token-auth-file={}", file("tokens")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--service-account-issuer=https://localhost".to_owned(),
        format!(
            "--service-account-signing-key-file={}",
            file("accounts.key")
        ),
        format!("--service-account-key-file={}", file("accounts.key")),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--cert-dir={}", file("certificates")),
        format!("--audit-policy-file={}", file("policy")),
        format!("--audit-log-path={}", file("audit")),
    ];
    command.args(flags).env_clear().current_dir("/");
    let process = Process::start(command)?;
    process.await_text("Serving securely", DEADLINE)?;
    Ok(process)
}
