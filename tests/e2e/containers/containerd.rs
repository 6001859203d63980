//! containerd with runc, run by `interceptor hook runtime` as README says; its state and cgroups are a test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use support::{DEADLINE, Daemon, Finished, Process, place, wait};
use tempfile::TempDir;

use super::podman::{IMAGE, Podman};
use super::{lab_with, psql, says};
use crate::lab::{has, lacks, refused};

/// Nothing but what runs containers: no Kubernetes, no file systems of the machine's.
const SETTINGS: &str = r#"
version = 2
root = "PLACE/root"
state = "PLACE/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "PLACE/socket"
[ttrpc]
address = "PLACE/ttrpc"
"#;

struct Containerd {
    place: TempDir,
    cgroup: String,
    process: Process,
}

impl Containerd {
    /// One that has the image, and the runtime that it is given.
    fn new(image: &Podman, daemon: &Daemon) -> Result<Self> {
        let place = place::temporary("containerd")?;
        let path = place.path().display().to_string();
        let config = place.path().join("config.toml");
        fs::write(&config, SETTINGS.replace("PLACE", &path))?;
        let mut command = Command::new("containerd");
        command
            .arg("--config")
            .arg(config)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let process = Process::start(command).context("containerd, of Debian's package")?;
        let containerd = Self {
            place,
            cgroup: format!("/ic-{}", support::suffix()?),
            process,
        };
        wait::for_fact("containerd", DEADLINE, || {
            let answered = containerd.ctr(&["version"])?;
            Ok(answered.status.success().then_some(()))
        })
        .with_context(|| containerd.process.log())?;
        containerd.runtime(daemon)?;
        let archive = containerd.place.path().join("image.tar");
        let archive = archive.to_str().context("a path of UTF-8")?;
        image.call(&[
            "save",
            "--format",
            "oci-archive",
            "--output",
            archive,
            IMAGE,
        ])?;
        containerd.ctr(&["image", "import", archive])?.ok()?;
        Ok(containerd)
    }

    /// What it is to run for a runtime.
    fn runtime(&self, daemon: &Daemon) -> Result<()> {
        let program = place::interceptor()?;
        let socket = daemon.run_directory().join("control.sock");
        let script = format!(
            "#!/bin/sh\nexec {} hook runtime --hook=--socket --hook={} -- \"$@\"\n",
            program.display(),
            socket.display()
        );
        let file = self.place.path().join("runtime");
        fs::write(&file, script)?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// The token of a service account, where the kubelet would have it.
    fn token(&self) -> Result<String> {
        let volume = "pods/u/volumes/kubernetes.io~projected/token";
        let volume = self.place.path().join(volume);
        fs::create_dir_all(&volume)?;
        let claims = json!({ "kubernetes.io": {
            "namespace": "shop", "serviceaccount": { "name": "buyer" }, "pod": { "name": "buyer-0" },
        } });
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        fs::write(volume.join("token"), format!("e30.{claims}.c2ln"))?;
        let volume = volume.display();
        Ok(format!(
            "type=bind,src={volume},dst=/var/run/secrets/kubernetes.io/serviceaccount,options=rbind:ro"
        ))
    }

    /// Runs a container as Kubernetes has it run, by its id.
    fn run(&self, id: &str, annotations: &[&str], command: &[&str]) -> Result<Finished> {
        let path = |name: &str| self.place.path().join(name).display().to_string();
        let cgroup = format!("{}/{id}", self.cgroup);
        let mut words: Vec<String> = ["run", "--rm", "--snapshotter=native", "--cgroup", &cgroup]
            .map(str::to_owned)
            .into();
        words.extend([
            format!("--runc-binary={}", path("runtime")),
            format!("--runc-root={}", path("runc")),
            format!("--fifo-dir={}", path("fifos")),
            format!("--mount={}", self.token()?),
        ]);
        let annotations = annotations.iter();
        words.extend(annotations.map(|said| format!("--annotation={said}")));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.ctr(&[&words[..], &[IMAGE, id], command].concat())
    }

    fn ctr(&self, words: &[&str]) -> Result<Finished> {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.place.path().join("socket"))
            .args(["--namespace", "k8s.io"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Process::run(command, DEADLINE).context("ctr, of Debian's package containerd")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        drop(self.process.finish(DEADLINE));
        super::remove_cgroups(&self.cgroup);
    }
}

#[test]
fn containerds_container_is_intercepted_by_the_runtime_that_it_is_told_and_named_with_its_pod()
-> Result<()> {
    let image = Podman::new()?;
    let mut lab = lab_with(|_| {})?;
    let containerd = Containerd::new(&image, &lab.daemon)?;
    let id: String = support::suffix()?.repeat(8);
    let program = place::postgres_programs()?.join("psql");
    let pod = [
        "interceptor.agent=contained",
        "io.kubernetes.cri.container-name=app",
        "io.kubernetes.cri.image-name=localhost/agent:1",
        "io.kubernetes.cri.sandbox-name=buyer-0",
        "io.kubernetes.cri.sandbox-namespace=shop",
    ];
    let ask = psql(&program, "select name from customers where id = 1")?;
    has(&containerd.run(&id, &pod, &ask)?.ok()?, &["Ada"])?;
    let log = lab.daemon.audit();
    let opened = log.wait_for("session.opened", DEADLINE, |_| true)?;
    says(
        &opened,
        &[
            ("/principal/agent", "contained"),
            ("/principal/container", id.as_str()),
            ("/principal/workload/runtime", "containerd"),
            ("/principal/workload/name", "app"),
            ("/principal/workload/image", IMAGE),
            ("/principal/workload/pod", "buyer-0"),
            ("/principal/workload/namespace", "shop"),
            ("/principal/workload/service_account", "buyer"),
        ],
    )?;
    lacks(
        &format!("{:?}", log.events("kernel.denied")?),
        &["netns_unknown"],
    )?;
    let deletes = psql(&program, "delete from customers")?;
    let error = refused(containerd.run(&id, &pod, &deletes)?)?;
    has(&error, &["ERROR", "not permitted"])?;
    lab.daemon.kill();
    ensure!(
        !containerd
            .run(&id, &pod, &["/usr/bin/true"])?
            .status
            .success(),
        "it started"
    );
    Ok(())
}
