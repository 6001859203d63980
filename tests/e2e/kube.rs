//! Kubernetes: stock `kubectl` of two versions against a real API server, with a kubeconfig without credentials.

mod clients;
mod judged;
mod node;
mod replay;
mod secrets;
mod streams;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use support::daemon::Settings;
use support::kubernetes::TOKEN;
use support::{Agent, Cluster, DEADLINE, Daemon, Finished, Process, place, wait};
use tempfile::TempDir;

use crate::lab::{has, lacks, needs_root, refused, text};

/// Beside the pack: writing in one namespace, and what is kept from it.
const SITE: &str = r#"
@id("write") permit (principal is Agent, action in Action::"KubeWrite", resource in KubeNamespace::"prod/default");
@id("kept") @hint("ask the platform team")
forbid (principal is Agent, action == Action::"KubeDelete", resource in KubeNamespace::"prod/default")
when { context.name like "kept*" };
"#;

/// Fields are dropped in order: the daemon before the server.
struct Lab {
    daemon: Daemon,
    cluster: Cluster,
    kubeconfig: PathBuf,
    directory: TempDir,
}

impl Lab {
    fn new(site: &str, more: &[&str]) -> Result<Self> {
        let mut policies = place::pack("kubernetes")?;
        policies.push(("site.cedar".to_owned(), site.to_owned()));
        Self::with(policies, more)
    }

    fn with(policies: Vec<(String, String)>, more: &[&str]) -> Result<Self> {
        needs_root()?;
        let cluster = Cluster::start()?;
        let mut settings = Settings::new(Vec::new(), "");
        settings.policies = policies;
        settings.more = cluster.target("prod", more)?;
        let daemon = Daemon::start(settings)?;
        let directory = place::temporary("kube")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let kubeconfig = directory.path().join("kubeconfig");
        let config = daemon.config().display().to_string();
        let mut shown = std::process::Command::new(place::interceptor()?);
        shown
            .args(["kubeconfig", "prod", "--config", &config])
            .env_clear();
        let text = Process::run(shown, DEADLINE)?.ok()?;
        lacks(&text, &[TOKEN, "client-key", "password"])?;
        fs::write(&kubeconfig, text)?;
        fs::set_permissions(&kubeconfig, fs::Permissions::from_mode(0o644))?;
        Ok(Self {
            daemon,
            cluster,
            kubeconfig,
            directory,
        })
    }

    fn agent(&self) -> Agent {
        let kubeconfig = self.kubeconfig.display().to_string();
        self.daemon.agent().with("KUBECONFIG", &kubeconfig)
    }

    /// The stock clients: of the server's own version, and of today's.
    fn clients(&self) -> Result<[String; 2]> {
        let today = place::python()?.with_file_name("kubectl");
        ensure!(
            today.is_file(),
            "there is no {}; `cargo xtask e2e` installs it",
            today.display()
        );
        Ok([self.cluster.client(), today].map(|path| path.display().to_string()))
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<Finished> {
        let [_, today] = self.clients()?;
        self.agent().run(&today, arguments)
    }

    /// `curl` that trusts the daemon's authority alone; the status stands in the last line.
    fn curl(&self, arguments: &[&str], path: &str) -> Result<String> {
        let ca = self.daemon.authority().display().to_string();
        let url = format!("https://{}{path}", self.cluster.address());
        let mut all = vec![
            "-sS",
            "--path-as-is",
            "--cacert",
            &ca,
            "-w",
            "\n%{http_code}\n",
        ];
        all.extend(arguments);
        all.push(&url);
        self.agent().run("curl", &all)?.ok()
    }

    /// A file that agents may read.
    fn file(&self, name: &str, content: &str) -> Result<String> {
        let path = self.directory.path().join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        Ok(path.display().to_string())
    }

    /// What the server was asked with the daemon's login.
    fn asked(&self) -> Result<Vec<Value>> {
        let mut lines = self.cluster.audit()?;
        lines.retain(|line| line.pointer("/user/username") == Some(&"agent".into()));
        Ok(lines)
    }
}

fn config_map(name: &str, value: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"k":"{value}"}}}}"#
    )
}

#[test]
fn a_command_of_run_trusts_the_authority_where_its_kubeconfig_names_another() -> Result<()> {
    let lab = Lab::new(SITE, &[])?;
    let text = fs::read_to_string(&lab.kubeconfig)?;
    let mut config: Value = serde_json::from_str(&text)?;
    let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()])?;
    let bundle = config.pointer_mut("/clusters/0/cluster/certificate-authority-data");
    *bundle.context("it names no bundle")? = BASE64_STANDARD.encode(other.cert.pem()).into();
    let kubeconfig = lab.file("other", &config.to_string())?;
    let [_, today] = lab.clients()?;
    let agent = lab.agent().with("KUBECONFIG", &kubeconfig);
    let outside = agent.run(&today, &["get", "namespaces"])?;
    ensure!(!outside.status.success(), "{outside:?}");
    let mut within = std::process::Command::new(place::interceptor()?);
    within
        .args(["run", "--agent", "demo", "--user", "nobody", "--socket"])
        .arg(lab.daemon.run_directory().join("control.sock"))
        .args(["--", &today, "get", "namespaces"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("KUBECONFIG", &kubeconfig);
    has(&Process::run(within, DEADLINE)?.ok()?, &["kube-system"])
}

#[test]
fn kubectl_works_with_a_kubeconfig_that_holds_no_credential() -> Result<()> {
    let lab = Lab::new(SITE, &[])?;
    for (index, client) in lab.clients()?.iter().enumerate() {
        let run = |arguments: &[&str]| lab.agent().run(client, arguments)?.ok();
        let name = format!("map-{index}");
        let file = lab.file("map", &config_map(&name, "one"))?;
        has(&run(&["get", "namespaces"])?, &["default", "kube-system"])?;
        has(&run(&["apply", "-f", &file])?, &["created"])?;
        let mut watch = lab.agent().start(
            client,
            &[
                "get",
                "configmap",
                &name,
                "-w",
                "-o",
                "jsonpath={.data.k}{\"\\n\"}",
            ],
        )?;
        watch.await_text("one", DEADLINE)?;
        let file = lab.file("map", &config_map(&name, "two"))?;
        has(&run(&["apply", "-f", &file])?, &["configured"])?;
        watch.await_text("two", DEADLINE)?;
        watch.signal(nix::sys::signal::Signal::SIGTERM);
        drop(watch.finish(DEADLINE)?);
        let file = lab.file("map", &config_map(&name, "three"))?;
        let applied = ["apply", "--server-side", "--force-conflicts", "-f", &file];
        has(&run(&applied)?, &["serverside-applied"])?;
        has(&run(&["label", "configmap", &name, "a=b"])?, &["labeled"])?;
        has(&run(&["get", "cm", "-l", "a=b", "-o", "name"])?, &[&name])?;
        has(
            &run(&["get", "cm", &name, "-o", "yaml"])?,
            &["k: three", "a: b"],
        )?;
        has(&run(&["delete", "cm", &name])?, &["deleted"])?;
    }
    let asked = lab.asked()?;
    ensure!(asked.len() > 20, "{} requests", asked.len());
    let permitted = lab.daemon.audit().events("request.permitted")?;
    let summaries: Vec<_> = permitted
        .iter()
        .filter_map(|line| line.pointer("/summary")?.as_str())
        .collect();
    for wanted in [
        "create configmaps in default",
        "watch configmaps/map-0 in default",
        "patch configmaps/map-1 in default",
        "delete configmaps/map-1 in default",
    ] {
        ensure!(
            summaries.contains(&wanted),
            "no {wanted:?} in {summaries:?}"
        );
    }
    Ok(())
}

#[test]
fn what_a_client_says_of_who_it_is_is_reported_and_goes_no_farther() -> Result<()> {
    let lab = Lab::new(SITE, &[])?;
    let claims = [
        "--token=agents-own-token",
        "--as=system:admin",
        "--as-group=system:masters",
    ];
    let run = |more: &[&str]| lab.kubectl(&[&claims[..], more].concat());
    has(&run(&["get", "namespaces"])?.ok()?, &["default"])?;
    // The login may not remove namespaces; whom the client claims to be may.
    let front = [
        "-H",
        "X-Remote-User: admin",
        "-H",
        "X-Remote-Group: system:masters",
    ];
    has(&lab.curl(&front, "/api/v1/namespaces")?, &["\n200\n"])?;
    for line in lab.asked()? {
        ensure!(line.pointer("/impersonatedUser").is_none(), "{line}");
    }
    for line in lab.cluster.audit()? {
        lacks(&line.to_string(), &["agents-own-token"])?;
    }
    let presented = lab.daemon.audit().events("credential.presented")?;
    let places: Vec<_> = presented
        .iter()
        .filter_map(|line| line.pointer("/user")?.as_str())
        .collect();
    for place in [
        "authorization",
        "impersonate-user",
        "impersonate-group",
        "x-remote-user",
        "x-remote-group",
    ] {
        ensure!(places.contains(&place), "no {place} in {places:?}");
    }
    for line in lab.daemon.audit().lines()? {
        lacks(&line.to_string(), &[TOKEN])?;
    }
    Ok(())
}

#[test]
fn a_refusal_is_one_that_kubectl_prints_and_nothing_of_it_reaches_the_server() -> Result<()> {
    let lab = Lab::new(SITE, &[])?;
    lab.cluster.apply(&config_map("kept", "one"))?;
    for client in lab.clients()? {
        let said = refused(lab.agent().run(&client, &["delete", "cm", "kept"])?)?;
        has(
            &said,
            &[
                "Error from server (Forbidden)",
                "interceptor: delete on configmaps/kept in default of target prod is not permitted",
                "ask the platform team",
                "rule kept",
                "request ",
            ],
        )?;
        let file = lab.file("role", ROLE)?;
        let said = refused(lab.agent().run(&client, &["create", "-f", &file])?)?;
        has(
            &said,
            &[
                "(Forbidden)",
                "rights are given by whoever keeps the cluster",
            ],
        )?;
    }
    let refusals = [
        ("/api/v1/namespaces/default/pods/..%2fconfigmaps", "400"),
        (
            "/api/v1/namespaces/default/../kube-system/configmaps",
            "400",
        ),
        ("/api/v1//pods", "400"),
        ("/api/v1/pods?watch=0&watch=1", "400"),
        ("/api/v1/pods?a=b;c=d", "400"),
        ("/metrics", "403"),
        ("/logs/", "403"),
    ];
    for (path, status) in refusals {
        let said = lab.curl(&["-H", "User-Agent: never"], path)?;
        has(
            &said,
            &[
                &format!("\n{status}\n"),
                r#""kind":"Status""#,
                r#""apiVersion":"v1""#,
                "interceptor: ",
            ],
        )
        .with_context(|| path.to_owned())?;
    }
    for line in lab.asked()? {
        let (verb, agent) = (text(&line, "/verb")?, text(&line, "/userAgent")?);
        ensure!(
            agent != "never" && !["delete", "create"].contains(&verb),
            "{line}"
        );
    }
    Ok(())
}

/// Changing, and nothing new.
const CHANGES: &str = r#"
@id("change") permit (principal is Agent, action in [Action::"KubePatch", Action::"KubeUpdate"], resource in KubeNamespace::"prod/default");
"#;

#[test]
fn what_would_make_an_object_is_judged_as_that_however_it_is_asked() -> Result<()> {
    let lab = Lab::new(CHANGES, &[])?;
    lab.cluster.apply(&config_map("there", "one"))?;
    let file = lab.file("new", &config_map("new", "two"))?;
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"new"},"spec":{"ports":[{"port":80}]}}"#;
    for client in lab.clients()? {
        let apply = ["apply", "--server-side", "-f", &file];
        let said = refused(lab.agent().run(&client, &apply)?)?;
        has(&said, &["(Forbidden)", "configmaps/new in default"])?;
        let patch = [
            "patch",
            "cm",
            "there",
            "--type=merge",
            "-p",
            r#"{"data":{"k":"two"}}"#,
        ];
        lab.agent().run(&client, &patch)?.ok()?;
    }
    let put = [
        "-X",
        "PUT",
        "-H",
        "Content-Type: application/json",
        "-d",
        service,
    ];
    let said = lab.curl(&put, "/api/v1/namespaces/default/services/new")?;
    has(&said, &["\n403\n", "services/new in default"])?;
    for line in lab.asked()? {
        ensure!(
            text(&line, "/objectRef/name").ok() != Some("new") || text(&line, "/verb")? == "get",
            "{line}"
        );
    }
    Ok(())
}

const ROLE: &str = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding",
    "metadata":{"name":"mine","namespace":"default"},
    "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"admin"},
    "subjects":[{"kind":"User","name":"agent","apiGroup":"rbac.authorization.k8s.io"}]}"#;

#[test]
fn can_i_is_yes_where_policy_and_the_cluster_both_permit() -> Result<()> {
    let lab = Lab::new(SITE, &[])?;
    let rows: [(&[&str], &str); 10] = [
        (&["get", "pods"], "yes"),
        (&["list", "secrets", "-A"], "yes"),
        (&["create", "deployments.apps", "-n", "default"], "yes"),
        (&["get", "/version"], "yes"),
        // Policy says no.
        (&["create", "deployments.apps", "-n", "kube-system"], "no"),
        (&["create", "pods", "--subresource=exec"], "no"),
        (&["delete", "cm/kept"], "no"),
        (&["get", "/metrics"], "no"),
        (&["*", "*"], "no"),
        // The cluster does.
        (&["delete", "services"], "no"),
    ];
    for client in lab.clients()? {
        for (asked, expected) in rows {
            let said = lab
                .agent()
                .run(&client, &[&["auth", "can-i"], asked].concat())?;
            ensure!(
                said.stdout.trim().starts_with(expected)
                    && said.status.success() == (expected == "yes"),
                "{asked:?}: {said:?}"
            );
        }
        let said = refused(lab.agent().run(&client, &["auth", "can-i", "--list"])?)?;
        has(&said, &["kubectl auth can-i VERB KIND"])?;
    }
    Ok(())
}

#[test]
fn the_server_is_told_who_asks_and_its_own_rules_are_asked_of_them() -> Result<()> {
    let lab = Lab::new(
        SITE,
        &["impersonate: { as: agent, prefix: 'agent:', groups: [agents] }"],
    )?;
    let list = ["get", "configmaps", "--as=system:admin"];
    let said = refused(lab.kubectl(&list)?)?;
    has(
        &said,
        &[r#"User "agent:demo" cannot list resource "configmaps""#],
    )?;
    lacks(&said, &["interceptor: "])?;
    let see = ["role", "see", "--verb=list", "--resource=configmaps"];
    let bind = ["rolebinding", "agents", "--role=see", "--group=agents"];
    for made in [see.as_slice(), &bind] {
        let words = [&["create"], made].concat();
        lab.cluster.kubectl(&words)?.ok()?;
    }
    wait::for_fact("the binding's effect", DEADLINE, || {
        Ok(lab.kubectl(&list)?.status.success().then_some(()))
    })?;
    for line in lab.asked()? {
        ensure!(
            line.pointer("/impersonatedUser/username") == Some(&"agent:demo".into())
                && line.pointer("/impersonatedUser/groups/0") == Some(&"agents".into()),
            "{line}"
        );
    }
    Ok(())
}
