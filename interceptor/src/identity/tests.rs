//! Identity on processes that are started here; what the modules below share.

mod executables;
mod processes;
mod refusals;
mod tables;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::live::stat;
use super::mounts::by_stat;
use super::runtimes::Runtimes;
use super::*;
use crate::capture::{Denied, DenyReason, Flow, NetnsCookie, OriginalDestination, ProcessStamp};
use crate::clock;

/// A program that stays.
const SLEEP: &str = "/bin/sleep";
/// How long anything that a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Cgroups and capabilities need root: a run that must not skip fails instead.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "needs root"
        );
        println!("skipped: needs root");
    }
    root
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = clock::boot();
    while !is_so() {
        assert!(
            clock::boot().since(start) < PATIENCE,
            "waited too long for {what}"
        );
        std::thread::yield_now();
    }
}

/// Where cgroup v2 is mounted.
fn mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .expect("needs cgroup v2");
    line.split(' ').nth(4).unwrap().into()
}

fn identifier() -> Identifier {
    Identifier::new(&mount(), Runtimes::default()).unwrap()
}

/// A cgroup of the test's own, with all processes in it; both gone when dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let random = tempfile::Builder::new()
            .prefix("interceptor-test-")
            .tempdir_in(mount())
            .unwrap();
        Self(random.keep())
    }

    fn below(&self, name: &str) -> Self {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> String {
        format!("/{}", self.0.strip_prefix(mount()).unwrap().display())
    }

    fn scope(&self) -> ScopeOf {
        let id = fs::metadata(&self.0).unwrap().ino();
        ScopeOf {
            agent: "claude".into(),
            cgroup: self.path(),
            id,
            identity: None,
        }
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Starts a shell inside.
    fn shell(&self, script: &str) -> Started {
        self.start("/bin/sh", &["-c", script])
    }

    /// Starts a program inside; it has been executed when this returns.
    fn start(&self, program: &str, arguments: &[&str]) -> Started {
        let enter = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", self.0.display());
        let mut child = Command::new("/bin/sh")
            .args(["-c", &enter, "enter", program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let started = Started { child, output };
        // Whoever spawns goes on a moment before the child has put off its parent's memory, words and all.
        let own = fs::read_to_string("/proc/self/cmdline").unwrap();
        // It may have gone on to yet another program.
        until("the shell that enters to be gone", || {
            let line = fs::read_to_string(format!("/proc/{}/cmdline", started.pid())).unwrap();
            !line.is_empty() && line != own && !line.contains(&enter)
        });
        started
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(fs::write(self.0.join("cgroup.kill"), "1"));
        let start = clock::boot();
        while fs::remove_dir(&self.0).is_err() && clock::boot().since(start) < PATIENCE {
            std::thread::yield_now();
        }
    }
}

/// A process that ends with the test.
struct Started {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Started {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its input.
    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Reads a line of its output.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The flow of a connection that a process opens now, as the kernel would stamp it.
fn flow(pid: u32, scope: &ScopeOf) -> Flow {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let ticks = stat(&read("stat")).unwrap().started;
    let id = |name: &str| {
        let status = read("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let path = read("cgroup")
        .lines()
        .find_map(|line| line.strip_prefix("0::").map(str::to_owned))
        .unwrap();
    let process = ProcessStamp {
        tgid: pid,
        // The kernel's own time is finer than /proc's 10 ms.
        started: BootTime(ticks * 10_000_000 + 1_234_567),
        executable: by_stat(&nix::sys::stat::stat(format!("/proc/{pid}/exe").as_str()).unwrap()),
        uid: id("Uid:"),
        gid: id("Gid:"),
        cgroup: fs::metadata(mount().join(path.trim_start_matches('/')))
            .unwrap()
            .ino(),
        comm: "test".into(),
    };
    Flow {
        destination: OriginalDestination(std::net::SocketAddr::from(([127, 0, 0, 1], 5432)).into()),
        process,
        scope: scope.id,
        netns: NetnsCookie(1),
        at: BootTime(clock::boot().0 + 10_000_000),
    }
}

/// The refusal of the same, as the kernel would tell it.
fn denied(flow: &Flow) -> Denied {
    Denied {
        reason: DenyReason::NoRule,
        protocol: 6,
        destination: flow.destination.0.inet().unwrap(),
        door: None,
        process: flow.process.clone(),
        passerby: false,
        scope: flow.scope,
        netns: flow.netns,
        at: flow.at,
    }
}

/// What another program says a file's hash is.
fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned()
}

async fn reason(identifier: &Identifier, flow: &Flow, scope: &ScopeOf) -> Result<(), &'static str> {
    identifier
        .identify(flow, scope)
        .await
        .map(drop)
        .map_err(|error| error.reason())
}
