//! Podman, told of the hook as README says. Its storage, state and cgroups are a test's own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::daemon::Target;
use support::netns::Netns;
use support::{DEADLINE, Daemon, Finished, Postgres, Process, place};
use tempfile::TempDir;

use super::{SHOP, lab_with, psql, says};
use crate::lab::{has, lacks, refused, text};
use crate::namespaces;

/// The image that tests make: psql, and what it needs.
pub(super) const IMAGE: &str = "localhost/agent:1";

/// What Debian's podman is to do on a machine where others run theirs.
const SETTINGS: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
lock_type = "file"
hooks_dir = ["PLACE/hooks"]
tmp_dir = "PLACE/tmp"
volume_path = "PLACE/volumes"
[network]
network_backend = "cni"
network_config_dir = "PLACE/networks"
"#;

pub(super) struct Podman {
    place: TempDir,
    /// Below which its cgroups are.
    cgroup: String,
}

impl Podman {
    /// One that has the image.
    pub(super) fn new() -> Result<Self> {
        let podman = Self {
            place: place::temporary("podman")?,
            cgroup: format!("/ic-{}", support::suffix()?),
        };
        fs::create_dir(podman.at("hooks"))?;
        let place = podman.place.path().display().to_string();
        let settings = SETTINGS.replace("PLACE", &place);
        fs::write(podman.at("containers.conf"), settings)?;
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{place}/storage\"\nrunroot = \"{place}/run\"\n"
        );
        fs::write(podman.at("storage.conf"), storage)?;
        let files = podman.at("image.tar");
        archive(&podman.at("image"), &files)?;
        let files = files.to_str().context("a path of UTF-8")?;
        podman.call(&["import", "--change", "USER 65534", files, IMAGE])?;
        Ok(podman)
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Tells the daemon where it keeps what it knows.
    pub(super) fn state(&self) -> String {
        format!("containers: {{ state: [{:?}] }}\n", self.at("storage"))
    }

    /// Puts a hook that comes with the program among Podman's own, for this daemon.
    fn hook(&self, name: &str, daemon: &Daemon) -> Result<()> {
        let shipped = place::workspace().join("interceptor/oci").join(name);
        let mut hook: Value = serde_json::from_slice(&fs::read(shipped)?)?;
        super::put(&mut hook, "/hook", "path", json!(place::interceptor()?))?;
        let words = hook.pointer_mut("/hook/args").and_then(Value::as_array_mut);
        let socket = daemon.run_directory().join("control.sock");
        let words = words.context("arguments")?;
        words.extend([json!("--socket"), json!(socket)]);
        fs::write(self.at("hooks").join(name), hook.to_string())?;
        Ok(())
    }

    /// Runs a container with a network that has nothing but loopback.
    fn run(&self, options: &[&str], command: &[&str]) -> Result<Finished> {
        self.run_image(IMAGE, options, command)
    }

    fn run_image(&self, image: &str, options: &[&str], command: &[&str]) -> Result<Finished> {
        let own = [
            "run",
            "--network=none",
            "--cap-drop=NET_RAW",
            "--cgroup-parent",
            &self.cgroup,
        ];
        let words = [&own[..], options, &[image], command].concat();
        self.podman(&words)
    }

    /// The same where it must succeed.
    pub(super) fn call(&self, words: &[&str]) -> Result<String> {
        self.podman(words)?.ok()
    }

    fn podman(&self, words: &[&str]) -> Result<Finished> {
        let mut command = Command::new("podman");
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.place.path())
            .env("CONTAINERS_CONF", self.at("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.at("storage.conf"))
            .current_dir(self.place.path());
        Process::run(command, DEADLINE).context("podman, of Debian's package of this name")
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        drop(self.podman(&["rm", "--all", "--force", "--time", "0"]));
        super::remove_cgroups(&self.cgroup);
    }
}

/// Makes a root file system of psql, sleep and the libraries that they need, as an archive.
pub(super) fn archive(root: &Path, to: &Path) -> Result<()> {
    let psql = place::postgres_programs()?.join("psql");
    let programs = [
        psql.as_path(),
        Path::new("/usr/bin/sleep"),
        Path::new("/usr/bin/true"),
    ];
    for program in programs {
        let mut listing = Command::new("ldd");
        listing
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        let listed = Process::run(listing, DEADLINE)?.ok()?;
        let libraries = listed
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        for file in libraries.map(Path::new).chain([program]) {
            let copy = root.join(file.strip_prefix("/")?);
            fs::create_dir_all(copy.parent().context("a directory")?)?;
            fs::copy(file, copy)?;
        }
    }
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).args(["-c", "."]).arg("-f").arg(to);
    Process::run(tar, DEADLINE)?.ok().map(drop)
}

/// The stock client, asking another server than the shop.
fn psql_at(at: SocketAddr, statement: &str) -> Result<Vec<String>> {
    let program = place::postgres_programs()?.join("psql");
    let words = psql(&program, statement)?.into_iter().map(str::to_owned);
    let host = format!("host={} port={}", at.ip(), at.port());
    let words = words.map(|word| word.replace("host=192.0.2.10 port=5432", &host));
    Ok(words.collect())
}

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

/// What the shop is asked.
fn ask(statement: &str) -> Result<Vec<String>> {
    psql_at(SHOP.parse()?, statement)
}

const ADA: &str = "select name from customers where id = 1";
const AGENT: [&str; 3] = ["--rm", "--annotation", "interceptor.agent=contained"];

#[test]
fn podmans_container_reaches_servers_of_the_host_and_of_another_namespace_and_is_named()
-> Result<()> {
    let podman = Podman::new()?;
    let inner = Postgres::start()?;
    inner.admin("update customers set name = 'Inner Ada' where id = 1")?;
    let (netns, address) = Netns::joined()?;
    let at = SocketAddr::from((address, 5432));
    let _bridge = namespaces::bridge(&netns, at, &inner)?;
    let lab = lab_with(|settings| {
        settings.targets.push(Target::postgres("inner", &inner, at));
    })?;
    podman.hook("interceptor.json", &lab.daemon)?;
    let file = podman.at("id");
    let own = format!("--cidfile={}", file.display());
    let options = [&AGENT[..], &[&own, "--name", "told"]].concat();
    has(&podman.run(&options, &words(&ask(ADA)?))?.ok()?, &["Ada"])?;
    let id = fs::read_to_string(file)?;
    let log = lab.daemon.audit();
    let opened = log.wait_for("session.opened", DEADLINE, |_| true)?;
    let digest = podman.call(&["image", "inspect", "--format", "{{.Digest}}", IMAGE])?;
    says(
        &opened,
        &[
            ("/principal/agent", "contained"),
            ("/principal/container", id.trim()),
            ("/principal/workload/runtime", "podman"),
            ("/principal/workload/name", "told"),
            ("/principal/workload/image", IMAGE),
            ("/principal/workload/digest", digest.trim()),
        ],
    )?;
    has(
        &podman.run(&AGENT, &words(&psql_at(at, ADA)?))?.ok()?,
        &["Inner Ada"],
    )?;
    let deleted = podman.run(&AGENT, &words(&psql_at(at, "delete from customers")?))?;
    has(&refused(deleted)?, &["ERROR", "not permitted"])?;
    // Both namespaces were listened in before they were asked for.
    lacks(
        &format!("{:?}", log.events("kernel.denied")?),
        &["netns_unknown"],
    )
}

#[test]
fn a_rule_may_ask_for_the_image() -> Result<()> {
    let podman = Podman::new()?;
    let lab = lab_with(|settings| {
        let rule = format!(
            "@id(\"known-images-only\")\nforbid (principal is Agent, action, resource) unless {{\n\
             principal has workload && principal.workload has image && principal.workload has digest &&\n\
             principal.workload.image == \"{IMAGE}\" }};"
        );
        settings.policies.push(("images.cedar".to_owned(), rule));
    })?;
    podman.hook("interceptor.json", &lab.daemon)?;
    let ask = ask(ADA)?;
    has(&podman.run(&AGENT, &words(&ask))?.ok()?, &["Ada"])?;
    podman.call(&["tag", IMAGE, "localhost/other:1"])?;
    let other = podman.run_image("localhost/other:1", &AGENT, &words(&ask))?;
    has(&refused(other)?, &["known-images-only"])
}

#[test]
fn nobody_becomes_an_agent_by_what_an_image_says_of_itself() -> Result<()> {
    let podman = Podman::new()?;
    let lab = lab_with(|settings| settings.labels = vec!["role=agent".to_owned()])?;
    let file = podman.at("Containerfile");
    fs::write(&file, format!("FROM {IMAGE}\n"))?;
    let file = file.to_str().context("a path of UTF-8")?;
    for (image, says) in [
        ("localhost/by-name:1", "interceptor.agent=contained"),
        ("localhost/by-label:1", "role=agent"),
    ] {
        podman.call(&[
            "build",
            "--annotation",
            says,
            "--tag",
            image,
            "--file",
            file,
        ])?;
    }
    podman.hook("interceptor-labels.json", &lab.daemon)?;
    let ask = ask(ADA)?;
    for image in ["localhost/by-name:1", "localhost/by-label:1"] {
        let said = refused(podman.run_image(image, &["--rm"], &words(&ask))?)?;
        has(&said, &["may come from the image"]).context(image)?;
    }
    lacks(
        &format!("{:?}", lab.daemon.audit().lines()?),
        &["session.opened"],
    )
}

#[test]
fn a_container_is_whose_its_label_says_by_the_configuration() -> Result<()> {
    let podman = Podman::new()?;
    let mut lab = lab_with(|settings| settings.labels = vec!["role=agent".to_owned()])?;
    podman.hook("interceptor-labels.json", &lab.daemon)?;
    let ask = ask(ADA)?;
    let options = ["--rm", "--annotation", "role=agent"];
    has(&podman.run(&options, &words(&ask))?.ok()?, &["Ada"])?;
    let opened = lab
        .daemon
        .audit()
        .wait_for("session.opened", DEADLINE, |_| true)?;
    ensure!(text(&opened, "/principal/agent")? == "demo", "{opened}");
    let tags = || -> Result<usize> {
        let all = lab.daemon.audit().events("control")?;
        Ok(all.iter().filter(|line| line["verb"] == "tag").count())
    };
    let before = tags()?;
    let other = ["--rm", "--annotation", "role=other"];
    podman.run(&other, &["/usr/bin/true"])?.ok()?;
    ensure!(tags()? == before, "it was tagged");
    // Nobody can say whose a container is.
    lab.daemon.kill();
    ensure!(
        !podman.run(&other, &["/usr/bin/true"])?.status.success(),
        "it started"
    );
    Ok(())
}

#[test]
fn a_container_that_runs_is_tagged_by_name_or_id_and_never_by_a_guess() -> Result<()> {
    let podman = Podman::new()?;
    let lab = lab_with(|settings| settings.more += &podman.state())?;
    let sleep = ["/usr/bin/sleep", "600"];
    let id = podman.run(&["--detach", "--name", "runs"], &sleep)?.ok()?;
    let id = id.trim();
    let (short, _) = id.split_at(12);
    let other = podman.run(&["--detach", "--name", short], &sleep)?.ok()?;
    let tag = |container: &str| {
        let words = ["tag", "--container", container, "--agent", "contained"];
        lab.daemon.cli(&words)
    };
    has(
        &refused(tag(short)?)?,
        &[id, other.trim(), "may be any of these"],
    )?;
    has(
        &refused(tag("nobody")?)?,
        &["no container that runs is called nobody"],
    )?;
    tag("runs")?.ok()?;
    let ask = ask(ADA)?;
    let asked = [&["exec", "runs"][..], &words(&ask)].concat();
    has(&podman.call(&asked)?, &["Ada"])?;
    let log = lab.daemon.audit();
    let opened = log.wait_for("session.opened", DEADLINE, |_| true)?;
    says(
        &opened,
        &[
            ("/principal/agent", "contained"),
            ("/principal/container", id),
            ("/principal/workload/name", "runs"),
        ],
    )?;
    lacks(
        &format!("{:?}", log.events("kernel.denied")?),
        &["netns_unknown"],
    )?;
    lab.daemon.cli(&["untag", "--container", id])?.ok()?;
    let scopes = lab.daemon.cli(&["status", "--json"])?.ok()?;
    lacks(&scopes, &[id])
}
