//! Real containers: a stock runtime runs an image with a network of its own, and its hook has it intercepted
//! before anything of the image runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::daemon::{Settings, Target};
use support::{DEADLINE, Finished, Postgres, Process, place, wait};
use tempfile::TempDir;

use crate::lab::{Lab, has, lacks, refused, text};

mod containerd;
mod docker;
mod podman;
mod rootless;

/// What agents in containers dial: an address that nobody has.
const SHOP: &str = "192.0.2.10:5432";

/// An image, and where its runtime keeps what it knows.
struct Container {
    bundle: TempDir,
    id: String,
}

/// Sets a member of one object of a document.
fn put(document: &mut Value, object: &str, name: &str, value: Value) -> Result<()> {
    let object = document.pointer_mut(object).and_then(Value::as_object_mut);
    object.context("no object")?.insert(name.to_owned(), value);
    Ok(())
}

impl Container {
    /// A container whose programs are the host's, read-only, with a network that has nothing but loopback.
    /// `agent` is what its annotation says.
    fn new(lab: &Lab, agent: Option<&str>, command: &[&str]) -> Result<Self> {
        let bundle = place::temporary("bundle")?;
        let id = support::suffix()?.repeat(64).chars().take(64).collect();
        let container = Self { bundle, id };
        container.files()?;
        container.runc(&["spec"])?.ok()?;
        let file = container.at("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        container.describe(&mut config, lab, command)?;
        if let Some(agent) = agent {
            put(
                &mut config,
                "",
                "annotations",
                json!({ "interceptor.agent": agent }),
            )?;
        }
        fs::write(file, serde_json::to_vec(&config)?)?;
        Ok(container)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.bundle.path().join(name)
    }

    /// The root file system: the host's `/usr` is mounted into it.
    fn files(&self) -> Result<()> {
        let root = self.at("rootfs");
        for name in ["usr", "proc", "dev", "sys", "tmp", "etc", "run"] {
            fs::create_dir_all(root.join(name))?;
        }
        for name in ["bin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))?;
        }
        fs::write(root.join("etc/passwd"), "agent:x:1000:1000::/:/bin/sh\n")?;
        Ok(())
    }

    fn describe(&self, config: &mut Value, lab: &Lab, command: &[&str]) -> Result<()> {
        let uid = lab.agent().uid();
        let parts = [
            ("args", json!(command)),
            ("terminal", json!(false)),
            ("user", json!({ "uid": uid, "gid": uid })),
            ("capabilities", json!({})),
            (
                "env",
                json!([
                    "PATH=/usr/bin",
                    "HOME=/tmp",
                    "LC_ALL=C.UTF-8",
                    "PGCONNECT_TIMEOUT=30"
                ]),
            ),
        ];
        for (name, value) in parts {
            put(config, "/process", name, value)?;
        }
        let cgroup = json!(format!("/{}", self.id));
        put(config, "/linux", "cgroupsPath", cgroup)?;
        let mounts = config.pointer_mut("/mounts").and_then(Value::as_array_mut);
        mounts.context("mounts")?.push(json!({
            "destination": "/usr", "source": "/usr", "type": "bind", "options": ["rbind", "ro"]
        }));
        let run = lab.daemon.run_directory();
        let socket = run.join("control.sock");
        let hooks = json!({ "createRuntime": [{
            "path": place::interceptor()?,
            "args": ["interceptor", "hook", "create-runtime", "--socket", socket],
        }] });
        put(config, "", "hooks", hooks)?;
        Ok(())
    }

    /// Runs the container to its end.
    fn run(&self) -> Result<Finished> {
        self.runc(&["run", &self.id])
    }

    fn runc(&self, words: &[&str]) -> Result<Finished> {
        let mut command = Command::new("runc");
        command
            .arg("--root")
            .arg(self.at("state"))
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(self.bundle.path());
        Process::run(command, DEADLINE).context("runc, of Debian's package of this name")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.runc(&["delete", "--force", &self.id]));
    }
}

/// A shop that is dialled at an address of nobody's, and by the daemon where it is.
fn lab() -> Result<Lab> {
    lab_with(|_| {})
}

fn lab_with(change: impl FnOnce(&mut Settings)) -> Result<Lab> {
    let server = Postgres::start()?;
    let mut target = Target::shop(&server);
    target.addresses = vec![SHOP.to_owned()];
    let at = server.address();
    target.more.push(format!("dial: {{ hosts: [\"{at}\"] }}"));
    Lab::over(server, |settings| {
        settings.targets = vec![target];
        change(settings);
    })
}

/// Removes the cgroups below one, and that, from every hierarchy; what watches a container ends a little later.
fn remove_cgroups(path: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let roots = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        ["cgroup", "cgroup2"]
            .contains(&kind)
            .then(|| format!("{point}{path}"))
    });
    let roots: Vec<String> = roots.collect();
    let gone = wait::for_fact("cgroups to be empty", DEADLINE, || {
        for own in &roots {
            for below in fs::read_dir(own).into_iter().flatten().flatten() {
                // Its files go with it, and cannot be removed.
                let _a_file = fs::remove_dir(below.path());
            }
            let _none = fs::remove_dir(own);
        }
        let is_there = roots.iter().any(|own| Path::new(own).exists());
        Ok((!is_there).then_some(()))
    });
    drop(gone);
}

/// The stock client as it is called in the container.
fn psql<'a>(program: &'a Path, statement: &'a str) -> Result<Vec<&'a str>> {
    let program = program.to_str().context("a path of UTF-8")?;
    let conninfo = "host=192.0.2.10 port=5432 user=anybody dbname=shop sslmode=disable";
    Ok(vec![
        program, "-X", "-A", "-t", "-w", "-d", conninfo, "-c", statement,
    ])
}

/// What a line of the audit says at these places.
fn says(line: &Value, rows: &[(&str, &str)]) -> Result<()> {
    for (pointer, value) in rows {
        ensure!(text(line, pointer)? == *value, "{pointer}: {line}");
    }
    Ok(())
}

#[test]
fn an_agent_in_a_container_is_intercepted_from_its_first_connect_on_and_named_with_it() -> Result<()>
{
    let lab = lab()?;
    let program = place::postgres_programs()?.join("psql");
    let ask = psql(&program, "select name from customers where id = 1")?;
    let container = Container::new(&lab, Some("contained"), &ask)?;
    has(&container.run()?.ok()?, &["Ada"])?;
    let log = lab.daemon.audit();
    let opened = log.wait_for("session.opened", DEADLINE, |_| true)?;
    ensure!(
        text(&opened, "/principal/agent")? == "contained",
        "{opened}"
    );
    ensure!(
        text(&opened, "/principal/container")? == container.id,
        "{opened}"
    );
    has(
        text(&opened, "/principal/process/executable/path")?,
        &["psql"],
    )?;
    // The namespace was listened in before it was asked for.
    lacks(
        &format!("{:?}", log.events("kernel.denied")?),
        &["netns_unknown"],
    )?;
    let statement = psql(&program, "delete from customers")?;
    let container = Container::new(&lab, Some("contained"), &statement)?;
    let error = refused(container.run()?)?;
    has(&error, &["ERROR", "not permitted"])
}

#[test]
fn a_container_reaches_nothing_but_by_a_rule() -> Result<()> {
    let lab = lab()?;
    let at = lab.server.address().port().to_string();
    // Also not by the host's own network, should it be given that.
    let script = "import socket, sys\ns = socket.socket()\ns.settimeout(10)\ns.connect(('127.0.0.1', int(sys.argv[1])))";
    let words = ["/usr/bin/python3", "-c", script, &at];
    let container = Container::new(&lab, Some("contained"), &words)?;
    let file = container.at("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let namespaces = config["linux"]["namespaces"]
        .as_array_mut()
        .context("namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != "network");
    fs::write(file, serde_json::to_vec(&config)?)?;
    let error = refused(container.run()?)?;
    has(&error, &["PermissionError"])?;
    let log = lab.daemon.audit();
    let denied = log.wait_for("kernel.denied", DEADLINE, |line| {
        line["denied"]["reason"] == "no_rule"
    })?;
    ensure!(text(&denied, "/agent")? == "contained", "{denied}");
    Ok(())
}

#[test]
fn a_container_that_no_annotation_gives_to_an_agent_is_left_alone() -> Result<()> {
    let lab = lab()?;
    let container = Container::new(&lab, None, &["/usr/bin/true"])?;
    container.run()?.ok()?;
    let tagged = lab.daemon.audit().events("control")?;
    lacks(&format!("{tagged:?}"), &[&container.id])
}

#[test]
fn a_container_that_cannot_be_intercepted_does_not_start() -> Result<()> {
    let mut lab = lab()?;
    let container = Container::new(&lab, Some("contained"), &["/usr/bin/echo", "it ran"])?;
    lab.daemon.kill();
    let finished = container.run()?;
    ensure!(!finished.status.success(), "it started");
    lacks(&finished.stdout, &["it ran"])
}

#[test]
fn a_container_that_may_lead_packets_past_the_guard_does_not_start() -> Result<()> {
    let lab = lab()?;
    let echo = ["/usr/bin/echo", "it ran"];
    let with = |name: &str| -> Result<Finished> {
        let container = Container::new(&lab, Some("contained"), &echo)?;
        let file = container.at("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        let sets = json!({ "bounding": [name] });
        put(&mut config, "/process", "capabilities", sets)?;
        put(&mut config, "/process", "noNewPrivileges", json!(false))?;
        fs::write(file, serde_json::to_vec(&config)?)?;
        container.run()
    };
    let refused = with("CAP_NET_ADMIN")?;
    ensure!(!refused.status.success(), "it started");
    lacks(&refused.stdout, &["it ran"])?;
    has(&refused.stderr, &["may hold NET_ADMIN", "--cap-drop"])?;
    has(&with("CAP_CHOWN")?.ok()?, &["it ran"])
}
