//! Docker, told of a runtime as README says. Its daemon's data, state and cgroups are a test's own; no network of the
//! host's is touched.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use support::{DEADLINE, Daemon, Finished, Process, place, wait};
use tempfile::TempDir;

use super::podman::{IMAGE, Podman};
use super::{lab_with, psql, says};
use crate::lab::{has, lacks, refused};

struct Docker {
    place: TempDir,
    cgroup: String,
    process: Process,
}

impl Docker {
    /// One whose containers are run by a runtime that `daemon` hears of, and that has the image.
    fn new(place: TempDir, image: &Podman, daemon: &Daemon) -> Result<Self> {
        let at = |name: &str| place.path().join(name);
        runtime(&at("runtime"), &at("data"), daemon)?;
        let cgroup = format!("/ic-{}", support::suffix()?);
        let mut command = Command::new("dockerd");
        for (option, value) in [
            ("--data-root", at("data")),
            ("--exec-root", at("exec")),
            ("--pidfile", at("pid")),
            ("--config-file", at("none.json")),
        ] {
            command.arg(option).arg(value);
        }
        fs::write(at("none.json"), "{}")?;
        command
            .arg(format!("--host=unix://{}", at("socket").display()))
            .arg(format!(
                "--add-runtime=interceptor={}",
                at("runtime").display()
            ))
            .arg(format!("--cgroup-parent={cgroup}"))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            .args([
                "--storage-driver=vfs",
                "--exec-opt=native.cgroupdriver=cgroupfs",
            ])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", place.path());
        let process = Process::start(command).context("dockerd, of Debian's package docker.io")?;
        let docker = Self {
            place,
            cgroup,
            process,
        };
        wait::for_fact("dockerd", DEADLINE, || {
            let answered = docker.docker(&["version"])?;
            Ok(answered.status.success().then_some(()))
        })
        .with_context(|| docker.process.log())?;
        let archive = docker.place.path().join("image.tar");
        let archive = archive.to_str().context("a path of UTF-8")?;
        let save = ["save", "--format", "docker-archive", "--output", archive];
        image.call(&[&save[..], &[IMAGE]].concat())?;
        docker.docker(&["load", "--input", archive])?.ok()?;
        Ok(docker)
    }

    /// Runs a container with a network that has nothing but loopback.
    fn run(&self, options: &[&str], command: &[&str]) -> Result<Finished> {
        let own = ["run", "--rm", "--runtime=interceptor", "--network=none"];
        self.docker(
            &[
                &own[..],
                &["--cap-drop=NET_RAW"],
                options,
                &[IMAGE],
                command,
            ]
            .concat(),
        )
    }

    fn docker(&self, words: &[&str]) -> Result<Finished> {
        let mut command = Command::new("docker");
        command
            .arg(format!(
                "--host=unix://{}",
                self.place.path().join("socket").display()
            ))
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.place.path());
        Process::run(command, DEADLINE).context("docker, of Debian's package docker.io")
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.process.signal(Signal::SIGTERM);
        drop(self.process.finish(DEADLINE));
        super::remove_cgroups(&self.cgroup);
    }
}

/// What Docker is to run for a runtime.
fn runtime(file: &PathBuf, data: &std::path::Path, daemon: &Daemon) -> Result<()> {
    let program = place::interceptor()?;
    let socket = daemon.run_directory().join("control.sock");
    let script = format!(
        "#!/bin/sh\nexec {} hook runtime --hook=--labels --hook=--state --hook={} --hook=--socket --hook={} -- \"$@\"\n",
        program.display(),
        data.display(),
        socket.display()
    );
    fs::write(file, script)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[test]
fn dockers_container_is_an_agents_by_its_label_and_named_with_what_docker_knows() -> Result<()> {
    let image = Podman::new()?;
    let place = place::temporary("docker")?;
    let data = place.path().join("data");
    let mut lab = lab_with(|settings| {
        settings.labels = vec!["role=agent".to_owned()];
        settings.more += &format!("containers: {{ state: [{data:?}] }}\n");
    })?;
    let docker = Docker::new(place, &image, &lab.daemon)?;
    let program = place::postgres_programs()?.join("psql");
    let ask = psql(&program, "select name from customers where id = 1")?;
    let file = docker.place.path().join("id");
    let own = format!("--cidfile={}", file.display());
    let options = ["--label=role=agent", "--name=told", &own];
    has(&docker.run(&options, &ask)?.ok()?, &["Ada"])?;
    let id = fs::read_to_string(file)?;
    let log = lab.daemon.audit();
    let opened = log.wait_for("session.opened", DEADLINE, |_| true)?;
    says(
        &opened,
        &[
            ("/principal/agent", "demo"),
            ("/principal/container", id.trim()),
            ("/principal/workload/runtime", "docker"),
            ("/principal/workload/name", "told"),
            ("/principal/workload/image", IMAGE),
        ],
    )?;
    lacks(
        &format!("{:?}", log.events("kernel.denied")?),
        &["netns_unknown"],
    )?;
    let deletes = psql(&program, "delete from customers")?;
    let error = refused(docker.run(&["--label=role=agent"], &deletes)?)?;
    has(&error, &["ERROR", "not permitted"])?;
    // Nobody can say whose a container is.
    lab.daemon.kill();
    ensure!(
        !docker.run(&[], &["/usr/bin/true"])?.status.success(),
        "it started"
    );
    Ok(())
}
