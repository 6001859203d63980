//! Other clients than `kubectl`: `helm`, which keeps what it did in Secrets, and the library for Python.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use support::kubernetes::install;
use support::{Agent, Finished, place};
use tempfile::TempDir;

use super::streams::Lab as Streams;
use super::{Lab, SITE};
use crate::lab::{has, lacks};

/// What `helm` needs beside the pack: it writes, and its releases are no one's secrets.
const RELEASES: &str = r#"
@id("releases") permit (principal is Agent, action == Action::"Reveal", resource)
when { resource is KubeObject && resource.resource == "secrets" && resource.name like "sh.helm.release.v1.*" };
"#;
/// What `helm list` looks at is every Secret of the namespace.
const ALL_SECRETS: &str = r#"
@id("list") permit (principal is Agent, action == Action::"Reveal", resource)
when { resource is KubeObject && resource.resource == "secrets" && resource.name == "" };
"#;

/// A chart of one object.
const CHART: [(&str, &str); 3] = [
    ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 0.1.0\n"),
    ("values.yaml", "colour: red\n"),
    (
        "templates/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-map\ndata:\n  colour: {{ .Values.colour }}\n",
    ),
];

/// `helm` as an agent has it, with a home of its own.
struct Helm<'a> {
    lab: &'a Lab,
    home: TempDir,
}

impl<'a> Helm<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let home = place::temporary("helm")?;
        let chart = home.path().join("chart");
        fs::create_dir_all(chart.join("templates"))?;
        for (name, text) in CHART {
            fs::write(chart.join(name), text)?;
        }
        install(&place::helm()?, &home.path().join("helm"))?;
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777))?;
        Ok(Self { lab, home })
    }

    fn run(&self, words: &[&str]) -> Result<Finished> {
        let home = self.home.path().display().to_string();
        let agent: Agent = self.lab.agent().with("HOME", &home);
        agent.run(&format!("{home}/helm"), words)
    }

    fn chart(&self) -> String {
        self.home.path().join("chart").display().to_string()
    }
}

#[test]
fn helm_installs_upgrades_rolls_back_and_removes_where_its_releases_are_revealed() -> Result<()> {
    let lab = Lab::new(&format!("{SITE}{RELEASES}{ALL_SECRETS}"), &[])?;
    let helm = Helm::new(&lab)?;
    let chart = helm.chart();
    let colour = || {
        let map = [
            "get",
            "configmap",
            "shop-map",
            "-o",
            "jsonpath={.data.colour}",
        ];
        lab.cluster.kubectl(&map)?.ok()
    };
    let said = helm.run(&["install", "shop", &chart])?.ok()?;
    has(&said, &["STATUS: deployed", "REVISION: 1"])?;
    ensure!(colour()? == "red");
    has(
        &helm.run(&["list"])?.ok()?,
        &["shop", "deployed", "shop-0.1.0"],
    )?;
    let said = helm.run(&["upgrade", "shop", &chart, "--set", "colour=blue"])?;
    has(&said.ok()?, &["REVISION: 2"])?;
    ensure!(colour()? == "blue");
    has(
        &helm.run(&["get", "values", "shop"])?.ok()?,
        &["colour: blue"],
    )?;
    helm.run(&["rollback", "shop", "1"])?.ok()?;
    ensure!(colour()? == "red");
    let history = helm.run(&["history", "shop"])?.ok()?;
    has(&history, &["superseded", "Rollback to 1"])?;
    has(&helm.run(&["uninstall", "shop"])?.ok()?, &["uninstalled"])?;
    let left = lab
        .cluster
        .kubectl(&["get", "configmaps,secrets", "-o", "name"])?;
    lacks(&left.ok()?, &["shop"])
}

#[test]
fn helm_fails_where_its_releases_are_masked_and_changes_nothing() -> Result<()> {
    let lab = Lab::new(SITE, &[])?;
    let helm = Helm::new(&lab)?;
    // Its release is written: nothing of it is masked yet. What is read back is.
    helm.run(&["install", "shop", &helm.chart()])?.ok()?;
    let said = helm.run(&["upgrade", "shop", &helm.chart(), "--set", "colour=blue"])?;
    ensure!(!said.status.success(), "{said:?}");
    let map = [
        "get",
        "configmap",
        "shop-map",
        "-o",
        "jsonpath={.data.colour}",
    ];
    ensure!(lab.cluster.kubectl(&map)?.ok()? == "red");
    Ok(())
}

/// Lists, makes, watches, patches and removes; reads a Secret; and is refused.
const PYTHON: &str = r#"
import os, threading
from kubernetes import client, config, watch
config.load_kube_config(os.environ["KUBECONFIG"])
api = client.CoreV1Api()
print("namespaces", "default" in [one.metadata.name for one in api.list_namespace().items])
seen = []
def watches():
    for event in watch.Watch().stream(api.list_namespaced_config_map, "default", timeout_seconds=60,
                                      field_selector="metadata.name=python"):
        seen.append((event["type"], (event["object"].data or {}).get("k")))
        if event["type"] == "DELETED":
            return
thread = threading.Thread(target=watches)
body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="python"), data={"k": "one"})
print("made", api.create_namespaced_config_map("default", body).data)
thread.start()
api.patch_namespaced_config_map("python", "default", {"data": {"k": "two"}})
print("patched", api.read_namespaced_config_map("python", "default").data)
applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "python"}, "data": {"more": "three"}}
api.patch_namespaced_config_map("python", "default", applied, field_manager="python", force=True,
                                _content_type="application/apply-patch+yaml")
print("applied", sorted(api.read_namespaced_config_map("python", "default").data.items()))
api.delete_namespaced_config_map("python", "default")
thread.join()
print("watched", seen[0][0], seen[-1][0])
print("secret", api.read_namespaced_secret("db", "default").data)
try:
    api.delete_namespaced_config_map("kept", "default")
except client.ApiException as error:
    print("refused", error.status, error.body)
"#;

#[test]
fn the_library_for_python_lists_watches_patches_and_is_refused_as_kubectl_is() -> Result<()> {
    let lab = Lab::new(SITE, &[])?;
    lab.cluster.apply(
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db"},"data":{"password":"Y2FuYXJ5LTVjMWQwZg=="}}"#,
    )?;
    let python = place::python()?.display().to_string();
    let said = lab.agent().run(&python, &["-c", PYTHON])?.ok()?;
    has(
        &said,
        &[
            "namespaces True",
            "made {'k': 'one'}",
            "patched {'k': 'two'}",
            "applied [('k', 'two'), ('more', 'three')]",
            "watched ADDED DELETED",
            "secret {'password': 'bWFza2VkLWJ5LWludGVyY2VwdG9y'}",
            "refused 403",
            "rule kept",
        ],
    )?;
    lacks(&said, &["Y2FuYXJ5", "canary"])
}

const EXEC: &str = r#"
import os
from kubernetes import client, config
from kubernetes.stream import stream
config.load_kube_config(os.environ["KUBECONFIG"])
api = client.CoreV1Api()
run = stream(api.connect_get_namespaced_pod_exec, "web", "default", command=["false", "a b"], stdin=False,
             stdout=True, stderr=True, tty=False, _preload_content=False)
run.run_forever(timeout=30)
print(run.read_stdout(), run.read_stderr(), run.returncode)
leak = stream(api.connect_get_namespaced_pod_exec, "web", "default", command=["leak"], stdin=False, stdout=True,
              stderr=True, tty=False)
print(leak)
"#;

#[test]
fn the_library_for_python_runs_a_command_and_hears_how_it_ended() -> Result<()> {
    let all = r#"@id("all") permit (principal is Agent, action, resource);"#;
    let lab = Streams::with(all, "    detect: { email: mask }\n")?;
    let python = place::python()?.display().to_string();
    let said = lab.agent().run(&python, &["-c", EXEC])?.ok()?;
    has(
        &said,
        &[
            "ran false|a b",
            "and said so",
            " 7",
            "to ***************** now",
        ],
    )?;
    lacks(&said, &["alice@", "bob@"])
}
