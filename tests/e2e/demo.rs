//! `cargo xtask demo` leaves nothing behind, however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use support::{DEADLINE, Process, place, wait};

use crate::lab::needs_root;

/// A demo whose temporary directories all lie in one.
struct Demo {
    process: Process,
    directory: tempfile::TempDir,
}

impl Demo {
    fn begin() -> Result<Self> {
        needs_root()?;
        let directory = place::temporary("demo")?;
        // It lies beside the directory of this test.
        let own = std::env::current_exe()?;
        let xtask = own.ancestors().nth(2).map(|beside| beside.join("xtask"));
        let xtask = xtask.filter(|program| program.is_file());
        let xtask = xtask.context("no xtask; build it with `cargo build --workspace`")?;
        // Who runs tests in the background may have signals ignored, and what is ignored before it is waited for is lost.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=HUP,INT,TERM")
            .arg(xtask)
            .args(["demo", "--keep", "--program"])
            .arg(place::interceptor()?)
            .env("INTERCEPTOR_WORKSPACE", place::workspace())
            .env(place::TEMPORARY, directory.path());
        let process = Process::start(command)?;
        Ok(Self { process, directory })
    }

    fn is_up(&self) -> Result<()> {
        let up = "it stays up; Ctrl-C ends it";
        self.process.await_text(up, DEADLINE * 3)
    }

    /// An agent that would run for long, in the scope of the demo.
    fn agent(&self) -> Result<Process> {
        let socket = self.found("control.sock")?;
        let mut command = Command::new(place::interceptor()?);
        command
            .args(["run", "--agent", "demo", "--socket"])
            .arg(socket)
            .args(["--", "sh", "-c", "echo runs; sleep 86400"]);
        let agent = Process::start(command)?;
        agent.await_text("runs", DEADLINE)?;
        Ok(agent)
    }

    /// A file below its directory.
    fn found(&self, name: &str) -> Result<PathBuf> {
        let mut open = vec![self.directory.path().to_path_buf()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory)?.flatten() {
                let path = entry.path();
                if entry.file_name() == name {
                    return Ok(path);
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push(path);
                }
            }
        }
        anyhow::bail!("there is no {name}")
    }

    /// The cgroups that its daemon has.
    fn cgroups(&self) -> Result<Vec<PathBuf>> {
        let file = fs::read_to_string(self.found("interceptor.yaml")?)?;
        let value = |line: &str| {
            let (key, value) = line.split_once(": ")?;
            let is_one = matches!(key, "daemon_cgroup" | "run_parent");
            is_one.then(|| value.to_owned())
        };
        let mount = support::cgroup::mount()?;
        let named: Vec<_> = file.lines().filter_map(value).collect();
        ensure!(named.len() == 2, "no cgroups are named in:\n{file}");
        Ok(named.into_iter().map(|path| mount.join(path)).collect())
    }

    /// That nothing is left of it: neither directory nor mount, cgroup nor process.
    fn has_gone(&self, cgroups: &[PathBuf]) -> Result<()> {
        wait::for_fact("the end of all that the demo put up", DEADLINE, || {
            let left = self.left(cgroups)?;
            Ok(left.is_empty().then_some(()))
        })
        .with_context(|| format!("left: {:?}", self.left(cgroups)))
    }

    fn left(&self, cgroups: &[PathBuf]) -> Result<Vec<String>> {
        let ours = self.directory.path().to_string_lossy().into_owned();
        let shown = |path: &Path| path.display().to_string();
        let entries = fs::read_dir(self.directory.path())?.flatten();
        let mut left: Vec<String> = entries.map(|entry| shown(&entry.path())).collect();
        let there = cgroups.iter().filter(|path| path.exists());
        left.extend(there.map(|path| shown(path)));
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mounted = mounts.lines().filter(|line| line.contains(&ours));
        left.extend(mounted.map(str::to_owned));
        for entry in fs::read_dir("/proc")?.flatten() {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            if words.contains(&ours) {
                left.push(words);
            }
        }
        Ok(left)
    }
}

#[test]
fn a_demo_that_was_kept_takes_everything_down_at_the_end() -> Result<()> {
    for signals in [
        &[Signal::SIGINT][..],
        &[Signal::SIGINT; 3],
        &[Signal::SIGKILL],
    ] {
        let mut demo = Demo::begin()?;
        demo.is_up()?;
        let mut agent = demo.agent()?;
        let cgroups = demo.cgroups()?;
        ensure!(demo.left(&cgroups)?.len() > 4, "it is not up at all");
        for signal in signals {
            demo.process.signal(*signal);
        }
        let finished = demo.process.finish(DEADLINE * 3)?;
        let is_asked = !signals.contains(&Signal::SIGKILL);
        ensure!(
            finished.status.success() == is_asked,
            "{signals:?}: {} {}",
            finished.status,
            finished.stderr
        );
        demo.has_gone(&cgroups)?;
        let ended = agent.finish(DEADLINE)?;
        ensure!(!ended.status.success(), "the agent was let go");
    }
    Ok(())
}

#[test]
fn a_demo_that_is_ended_before_it_is_up_leaves_nothing() -> Result<()> {
    // At once: nothing is put up yet. Then while the server, and while the daemon starts.
    // What is run in the background may ignore SIGINT until it says otherwise.
    for (at, signal) in [
        ("", Signal::SIGTERM),
        ("a throw-away PostgreSQL", Signal::SIGINT),
        ("the daemon", Signal::SIGINT),
    ] {
        let mut demo = Demo::begin()?;
        if !at.is_empty() {
            demo.process.await_text(at, DEADLINE)?;
        }
        demo.process.signal(signal);
        let finished = demo.process.finish(DEADLINE * 3)?;
        ensure!(!finished.status.success(), "{at}: it went on");
        demo.has_gone(&[])?;
    }
    Ok(())
}
