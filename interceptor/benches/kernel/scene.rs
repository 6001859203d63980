//! A capture layer as the daemon has it, with one scope, and processes in and outside of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use interceptor::capture::cgroup2::Hierarchy;
use interceptor::capture::{Capture, Listeners, Origin as _, Rule, Settings, Verdict};
use ipnet::IpNet;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::fd::AsFd as _;

use crate::programs::{self, Programs};

pub(crate) struct Scene {
    pub(crate) capture: Arc<Capture>,
    pub(crate) programs: Programs,
    listener: TcpListener,
    /// What everything here is called.
    name: String,
    pins: PathBuf,
    /// Where this process was before.
    before: String,
    /// What is to be removed, a cgroup behind those above it.
    cgroups: Vec<String>,
}

impl Scene {
    /// One scope, and one cgroup beside it; with `host`, the whole host is guarded.
    pub(crate) fn new(host: bool) -> anyhow::Result<Self> {
        let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let name = format!("icb-{}", std::process::id());
        let pins = std::env::temp_dir().join(&name);
        let before = Hierarchy::find()?.of(None)?;
        let others = programs::all();
        let capture = Capture::start(&Settings {
            daemon_cgroup: Some(name.clone()),
            host,
            ..Settings::new(pins.clone())
        })?;
        let Listeners { v4, .. } = capture.listeners()?;
        let mut scene = Self {
            capture: Arc::new(capture),
            programs: Programs::since(&others),
            listener: v4,
            cgroups: vec![name.clone()],
            name,
            pins,
            before,
        };
        for cgroup in ["out", "in"] {
            let path = scene.path(cgroup);
            scene.make(path)?;
        }
        scene.capture.tag(&scene.path("in"), "bench")?;
        Ok(scene)
    }

    /// The path of a cgroup of this scene.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Makes a cgroup, which goes with the scene.
    pub(crate) fn make(&mut self, path: String) -> anyhow::Result<()> {
        self.capture.hierarchy().make(&path)?;
        self.cgroups.push(path);
        Ok(())
    }

    pub(crate) fn rules(&self, rules: &[(SocketAddr, Verdict)]) -> anyhow::Result<()> {
        let rules = rules.iter().map(|(to, verdict)| Rule {
            scope: None,
            network: IpNet::from(to.ip()),
            port: Some(to.port()),
            verdict: *verdict,
        });
        Ok(self.capture.set_rules(&rules.collect::<Vec<_>>())?)
    }

    pub(crate) fn outside(&self, words: &[&str]) -> anyhow::Result<Client> {
        self.client(&self.path("out"), words)
    }

    pub(crate) fn inside(&self, words: &[&str]) -> anyhow::Result<Client> {
        self.client(&self.path("in"), words)
    }

    /// This program as a client, in a cgroup from its first instruction on.
    pub(crate) fn client(&self, cgroup: &str, words: &[&str]) -> anyhow::Result<Client> {
        let directory = self.capture.hierarchy().directory(cgroup);
        let script = "echo $$ > \"$1\" && shift && exec \"$@\"";
        let mut child = Command::new("/bin/sh")
            .args(["-c", script, "sh"])
            .arg(directory.join("cgroup.procs"))
            .arg(std::env::current_exe()?)
            .arg("client")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a client")?;
        let said = child.stdout.take().context("hear a client")?;
        let mut client = Client {
            child,
            said: BufReader::new(said),
            hello: String::new(),
        };
        client.hello = client.line()?;
        Ok(client)
    }

    /// Accepts what is redirected, as the daemon would; with `looks`, tells by its record whose each is.
    pub(crate) fn accept(&self, looks: bool) -> anyhow::Result<Daemon> {
        // What waits has been made, and ended, before.
        while self.listener.accept().is_ok() {}
        let counts = Arc::new(Counts::default());
        let (listener, capture) = (self.listener.try_clone()?, Arc::clone(&self.capture));
        let own = Arc::clone(&counts);
        let thread = thread::spawn(move || accept(&listener, &capture, looks, &own));
        Ok(Daemon {
            counts,
            thread: Some(thread),
        })
    }
}

/// What a [`Daemon`] has seen.
#[derive(Default)]
struct Counts {
    ends: AtomicBool,
    known: AtomicU32,
    unknown: AtomicU32,
}

/// What accepts redirected connections until it is dropped.
pub(crate) struct Daemon {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// How many had their record, and how many had none.
    pub(crate) fn seen(&self) -> (u32, u32) {
        let load = |count: &AtomicU32| count.load(Ordering::SeqCst);
        (load(&self.counts.known), load(&self.counts.unknown))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.counts.ends.store(true, Ordering::SeqCst);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn accept(listener: &TcpListener, capture: &Capture, looks: bool, counts: &Counts) {
    while !counts.ends.load(Ordering::SeqCst) {
        let Ok((socket, _)) = listener.accept() else {
            let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            // Now and then it is looked whether this is to end.
            let _ready = poll(&mut waiting, PollTimeout::from(100_u8));
            continue;
        };
        if !looks {
            continue;
        }
        let count = match capture.origin(&socket) {
            Ok(_) => &counts.known,
            Err(_) => &counts.unknown,
        };
        count.fetch_add(1, Ordering::SeqCst);
        // Ends it at once, for both ends.
        drop(socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)));
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for path in &self.cgroups {
            // Not all of them are tagged.
            drop(self.capture.untag(path));
        }
        let _unmounted = umount2(&self.pins, MntFlags::MNT_DETACH);
        drop(std::fs::remove_dir(&self.pins));
        let hierarchy = self.capture.hierarchy();
        let back = hierarchy.directory(&self.before).join("cgroup.procs");
        drop(std::fs::write(back, "0"));
        for path in self.cgroups.iter().rev() {
            drop(std::fs::remove_dir(hierarchy.directory(path)));
        }
    }
}

/// A process that does what it is told. Ended with its handle.
pub(crate) struct Client {
    child: Child,
    said: BufReader<ChildStdout>,
    /// The first that it said.
    hello: String,
}

impl Client {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        self.hello.parse().context("no address")
    }

    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line).context("hear a client")?;
        anyhow::ensure!(!line.is_empty(), "a client has ended");
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let to = self.child.stdin.as_mut().context("a client is told")?;
        writeln!(to, "{line}").context("tell a client")
    }

    /// Has it do what it does so often, and tells how long that took.
    pub(crate) fn round(&mut self, times: u32) -> anyhow::Result<Duration> {
        self.tell(&times.to_string())?;
        Ok(Duration::from_nanos(self.line()?.parse()?))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
