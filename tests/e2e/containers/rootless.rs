//! Podman of an ordinary user, in a tagged cgroup: its containers are that scope's.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use support::{Agent, DEADLINE, Finished, Process, place, wait};
use tempfile::TempDir;

use super::podman::{IMAGE, archive};
use super::{lab_with, psql, says};
use crate::lab::{Lab, has, lacks, text};

/// A user without numbers of subordinates, without systemd's session, on a file system that takes no layers.
const SETTINGS: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
lock_type = "file"
tmp_dir = "PLACE/tmp"
volume_path = "PLACE/volumes"
[network]
network_backend = "cni"
network_config_dir = "PLACE/networks"
"#;

struct Rootless {
    place: TempDir,
    agent: Agent,
}

impl Rootless {
    fn new(lab: &Lab) -> Result<Self> {
        let kept = place::temporary("rootless")?;
        let (path, uid) = (kept.path().to_owned(), lab.agent().uid());
        let home = path.display().to_string();
        let settings = SETTINGS.replace("PLACE", &home);
        fs::write(path.join("containers.conf"), settings)?;
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{home}/storage\"\nrunroot = \"{home}/run\"\n\
             [storage.options.vfs]\nignore_chown_errors = \"true\"\n"
        );
        fs::write(path.join("storage.conf"), storage)?;
        archive(&path.join("image"), &path.join("image.tar"))?;
        fs::create_dir(path.join("runtime"))?;
        fs::set_permissions(path.join("image.tar"), fs::Permissions::from_mode(0o644))?;
        for name in ["", "runtime"] {
            let owned = path.join(name);
            chown(&owned, Some(uid), None)?;
            fs::set_permissions(&owned, fs::Permissions::from_mode(0o700))?;
        }
        let at = |name: &str| path.join(name).display().to_string();
        let agent = lab
            .agent()
            .with("HOME", &home)
            .with("XDG_RUNTIME_DIR", &at("runtime"))
            .with("CONTAINERS_CONF", &at("containers.conf"))
            .with("CONTAINERS_STORAGE_CONF", &at("storage.conf"));
        Ok(Self { place: kept, agent })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// What a container has written into a file of its root.
    fn find(&self, name: &str) -> Result<Option<String>> {
        let mut find = Command::new("find");
        find.arg(self.place.path())
            .args(["-name", name, "-type", "f"]);
        let found = Process::run(find, DEADLINE)?.ok()?;
        let file = found.lines().next().map(fs::read_to_string);
        Ok(file.transpose()?)
    }

    fn podman(&self, words: &[&str]) -> Result<Finished> {
        let mut command = self.agent.command("podman", words);
        command.current_dir(self.place.path());
        Process::run(command, DEADLINE).context("podman, of Debian's package of this name")
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        drop(self.podman(&["rm", "--all", "--force", "--time", "0"]));
    }
}

#[test]
fn a_container_of_an_ordinary_users_podman_is_its_scopes_and_reaches_the_hosts_server_by_policy()
-> Result<()> {
    // The kernel takes note of whose a socket is where an LSM does; else what podman attaches to is refused, and so
    // all here is detached.
    let lab = lab_with(|settings| settings.more.push_str("unix: { others: permit }\n"))?;
    let podman = Rootless::new(&lab)?;
    let image = podman.at("image.tar").display().to_string();
    podman.podman(&["import", &image, IMAGE])?.ok()?;
    let run = ["run", "--detach", "--name", "told", "--network=none"];
    let run = [&run[..], &[IMAGE, "/usr/bin/sleep", "600"]].concat();
    podman.podman(&run)?.ok()?;
    let program = place::postgres_programs()?.join("psql");
    let exec = |statement: &str, to: &str| -> Result<()> {
        let [program, rest @ ..] = &psql(&program, statement)?[..] else {
            bail!("no words");
        };
        let words = [&["exec", "--detach", "told", program, "-o", to], rest].concat();
        podman.podman(&words)?.ok().map(drop)
    };
    let log = lab.daemon.audit();
    // The first to dial from its network namespace has the daemon listen there.
    let opened = wait::for_fact("a session of the container's", DEADLINE, || {
        exec("select name from customers where id = 1", "/answer")?;
        Ok(log.events("session.opened")?.pop())
    })?;
    says(&opened, &[("/principal/agent", "demo")])?;
    let executable = text(&opened, "/principal/process/executable/path")?;
    has(executable, &["psql"])?;
    let answered = wait::for_fact("the answer in the container", DEADLINE, || {
        Ok(podman.find("answer")?.filter(|text| text.contains("Ada")))
    })?;
    has(&answered, &["Ada"])?;
    exec("delete from customers", "/deleted")?;
    log.wait_for("request.refused", DEADLINE, |_| true)?;
    lacks(&format!("{:?}", podman.find("deleted")?), &["DELETE"])
}
