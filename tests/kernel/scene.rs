//! A daemon's capture layer with one scope, and clients that run inside it.

#![expect(
    unsafe_code,
    reason = "clients enter their cgroup between fork and exec"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::{Array, Map, MapData};
use interceptor::capture::cgroup2::Hierarchy;
use interceptor::capture::{
    Capture, Denied, DenyReason, Event, Events, Flow, Listeners, Origin as _, Rule, Scope,
    Settings, Verdict,
};
use interceptor_ebpf::LAYOUT;
use interceptor_ebpf::process::Lineage;
use ipnet::IpNet;

/// The interpreter of the clients: they need odd sockets more than they need to be fast.
const PYTHON: &str = "/usr/bin/python3";

/// Every name that these tests make on the host begins with this.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("ict-{}-{number}-{what}", std::process::id())
}

/// The cgroup that this process lives in: one for all tests, since it can only be in one.
fn home() -> &'static str {
    static HOME: OnceLock<(String, Child)> = OnceLock::new();
    let (home, _sweeper) = HOME.get_or_init(|| {
        let uid = nix::unistd::Uid::effective();
        assert!(
            uid.is_root(),
            "the kernel tier needs root: run it with sudo"
        );
        let home = format!("ict-{}", std::process::id());
        let hierarchy = Hierarchy::find().unwrap();
        hierarchy.make(&home).unwrap();
        let sweeper = sweep_up_after_us(&hierarchy.directory(&home));
        (home, sweeper)
    });
    home
}

/// This process cannot remove the cgroup that it dies in: a child that outlives it does.
fn sweep_up_after_us(directory: &std::path::Path) -> Child {
    let script =
        "cat > /dev/null; for i in 1 2 3 4 5 6 7 8 9; do rmdir \"$1\" && break; sleep 1; done";
    // Its input is open until this process is gone, which is the signal.
    Command::new("/bin/sh")
        .args(["-c", script, "sh"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A capture layer and one scope.
pub(crate) struct Scene {
    /// Taken when the test replaces it.
    pub(crate) capture: Capture,
    pub(crate) listeners: Option<Listeners>,
    pub(crate) scope: Scope,
    pub(crate) pins: PathBuf,
    cgroups: Vec<String>,
    runtime: tokio::runtime::Runtime,
}

pub(crate) fn settings(pins: PathBuf) -> Settings {
    // Scenes that run at once must not take the port of one that restarts.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 64;
    Settings {
        daemon_cgroup: Some(home().to_owned()),
        port: Some(600 + u16::try_from(number % 400).unwrap()),
        ..Settings::new(pins)
    }
}

impl Scene {
    /// A daemon that has one scope and redirects nothing yet.
    pub(crate) fn new() -> Self {
        let pins = std::env::temp_dir().join(unique("pins"));
        Self::with(&settings(pins))
    }

    pub(crate) fn with(settings: &Settings) -> Self {
        let capture = Capture::start(settings).unwrap();
        let listeners = capture.listeners().unwrap();
        let path = unique("scope");
        capture.hierarchy().make(&path).unwrap();
        let scope = capture.tag(&path, "tester").unwrap();
        Self {
            capture,
            listeners: Some(listeners),
            scope,
            pins: settings.pins.clone(),
            cgroups: vec![path],
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// Another cgroup, removed with the scene.
    pub(crate) fn cgroup(&mut self, path: &str) -> String {
        self.capture.hierarchy().make(path).unwrap();
        self.cgroups.push(path.to_owned());
        path.to_owned()
    }

    pub(crate) fn rules(&self, rules: &[(SocketAddr, Verdict)]) {
        let rules: Vec<Rule> = rules
            .iter()
            .map(|(to, verdict)| rule(*to, *verdict))
            .collect();
        self.capture.set_rules(&rules).unwrap();
    }

    pub(crate) fn redirect(&self, targets: &[SocketAddr]) {
        let rules: Vec<Rule> = targets
            .iter()
            .map(|to| rule(*to, Verdict::Redirect))
            .collect();
        self.capture.set_rules(&rules).unwrap();
    }

    /// The port of the daemon's listener.
    pub(crate) fn port(&self) -> u16 {
        let listeners = self.listeners.as_ref().unwrap();
        listeners.v4.local_addr().unwrap().port()
    }

    /// The daemon dies: its listeners are gone, everything pinned stays.
    pub(crate) fn kill(&mut self) {
        self.listeners = None;
    }

    /// A new daemon starts on the pins of the old one.
    pub(crate) fn restart(&mut self) {
        self.listeners = None;
        self.capture = Capture::start(&settings(self.pins.clone())).unwrap();
        self.listeners = Some(self.capture.listeners().unwrap());
    }

    /// The next refusal for this reason.
    pub(crate) fn denied(&self, events: &mut Events, reason: DenyReason) -> Denied {
        let next = async {
            loop {
                if let Event::Denied(denied) = events.next().await.unwrap()
                    && denied.reason == reason
                {
                    return denied;
                }
            }
        };
        let bound = std::time::Duration::from_secs(20);
        let found = self
            .runtime
            .block_on(async { tokio::time::timeout(bound, next).await });
        found.expect("no such refusal came")
    }

    /// The next thing that the kernel tells.
    pub(crate) fn next(&self, events: &mut Events) -> Event {
        let bound = std::time::Duration::from_secs(30);
        let next = self
            .runtime
            .block_on(async { tokio::time::timeout(bound, events.next()).await });
        next.expect("the kernel told no more").unwrap()
    }

    /// The stream of refusals, on the scene's own runtime.
    pub(crate) fn events(&self) -> Events {
        let _entered = self.runtime.enter();
        self.capture.events().unwrap()
    }

    /// A Python script that runs in the scope and ends; what it printed.
    pub(crate) fn run(&self, script: &str, args: &[&str]) -> String {
        self.client(script, args).finish()
    }

    /// A Python script that runs in the scope.
    pub(crate) fn client(&self, script: &str, args: &[&str]) -> Client {
        self.client_at(&self.scope.path, script, args)
    }

    /// As [`Self::client`], in another network namespace.
    pub(crate) fn client_in(&self, netns: &Namespace, script: &str, args: &[&str]) -> Client {
        let procs = self.procs(&self.scope.path);
        Client::place(Some(procs), Some(netns), script, args)
    }

    /// As [`Self::client`], in another cgroup and another network namespace.
    pub(crate) fn client_both(
        &self,
        cgroup: &str,
        netns: &Namespace,
        script: &str,
        args: &[&str],
    ) -> Client {
        Client::place(Some(self.procs(cgroup)), Some(netns), script, args)
    }

    /// As [`Self::client`], in another cgroup.
    pub(crate) fn client_at(&self, cgroup: &str, script: &str, args: &[&str]) -> Client {
        Client::place(Some(self.procs(cgroup)), None, script, args)
    }

    /// The directory of the pins of this layout.
    pub(crate) fn layout(&self) -> PathBuf {
        self.pins.join(format!("v{LAYOUT}"))
    }

    /// One of the pinned maps.
    pub(crate) fn pinned(&self, map: &str) -> MapData {
        MapData::from_pin(self.layout().join("maps").join(map)).unwrap()
    }

    /// What is kept of where a process comes from.
    pub(crate) fn lineage(&self, pid: u32) -> Lineage {
        let map = Map::Array(self.pinned("LINEAGE"));
        let rows: Array<_, Lineage> = map.try_into().unwrap();
        rows.get(&pid, 0).unwrap()
    }

    /// The pin of one of the scope's hooks; removed, the hook no longer runs.
    pub(crate) fn scope_pin(&self, hook: &str) -> PathBuf {
        self.layout()
            .join(format!("scopes/{}/{hook}", self.scope.id))
    }

    /// The pin of the daemon's own hook.
    pub(crate) fn daemon_pin(&self) -> PathBuf {
        let id = self.capture.hierarchy().id(self.capture.home()).unwrap();
        self.layout().join(format!("daemon/{id}"))
    }

    /// The file by which processes enter a cgroup.
    pub(crate) fn procs(&self, cgroup: &str) -> PathBuf {
        self.capture
            .hierarchy()
            .directory(cgroup)
            .join("cgroup.procs")
    }

    /// Waits for a redirected connection and tells its flow.
    pub(crate) fn accept(&self) -> (TcpStream, Flow) {
        let Listeners {
            netns: _,
            v4,
            v6,
            names: _,
        } = self.listeners.as_ref().unwrap();
        let socket = accept(v4, v6.as_ref());
        let flow = self.capture.origin(&socket).unwrap();
        (socket, flow)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for path in &self.cgroups {
            let _untagged = self.capture.untag(path);
        }
        // Lazily: a client of another test may hold a descriptor between its fork and its exec.
        let lazy = nix::mount::MntFlags::MNT_DETACH;
        let _unmounted = nix::mount::umount2(&self.pins, lazy);
        let _removed = std::fs::remove_dir(&self.pins);
        for path in self.cgroups.iter().rev() {
            let _removed = std::fs::remove_dir(self.capture.hierarchy().directory(path));
        }
    }
}

pub(crate) fn rule(to: SocketAddr, verdict: Verdict) -> Rule {
    Rule {
        scope: None,
        network: IpNet::from(to.ip()),
        port: Some(to.port()),
        verdict,
    }
}

/// Has this thread run where a script runs that has said `alone()`: each processor has rows of its own among
/// those that a table forgets last.
pub(crate) fn alone() {
    let own = nix::unistd::Pid::from_raw(0);
    let may = nix::sched::sched_getaffinity(own).unwrap();
    let first = (0..nix::sched::CpuSet::count()).find(|cpu| may.is_set(*cpu).unwrap());
    let mut only = nix::sched::CpuSet::new();
    only.set(first.unwrap()).unwrap();
    nix::sched::sched_setaffinity(own, &only).unwrap();
}

/// A listener outside every scope.
pub(crate) fn server(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

/// Whether the kernel lets a hook say another error than `EPERM` (Linux 5.18).
pub(crate) fn can_say() -> bool {
    let now = aya::util::KernelVersion::current().unwrap();
    now >= aya::util::KernelVersion::new(5, 18, 0)
}

/// Whether what makes a socket of a protocol's number can be tried: not every kernel has MPTCP.
pub(crate) fn can_make(protocol: &str) -> bool {
    let has_mptcp = std::path::Path::new("/proc/sys/net/mptcp").exists();
    has_mptcp || !protocol.contains("262")
}

/// What a process is told where a hook says this error.
pub(crate) fn told(errno: &str) -> &str {
    if can_say() { errno } else { "EPERM" }
}

/// Waits for a connection on either listener.
pub(crate) fn accept(v4: &TcpListener, v6: Option<&TcpListener>) -> TcpStream {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    let listeners: Vec<&TcpListener> = [Some(v4), v6].into_iter().flatten().collect();
    loop {
        let mut waiting: Vec<_> = listeners
            .iter()
            .map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN))
            .collect();
        let ready = poll(&mut waiting, PollTimeout::from(60_000_u16)).unwrap();
        assert_ne!(ready, 0, "nobody connected");
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            if let Ok((socket, _)) = listener.accept() {
                socket.set_nonblocking(false).unwrap();
                return socket;
            }
        }
    }
}

/// Whether nobody waits to be accepted.
pub(crate) fn is_idle(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_err()
}

/// A process in a scope. Killed with its handle.
pub(crate) struct Client {
    child: Child,
}

impl Client {
    /// A client outside every scope.
    pub(crate) fn outside(script: &str, args: &[&str]) -> Self {
        Self::place(None, None, script, args)
    }

    /// The same in another network namespace.
    pub(crate) fn outside_in(netns: &Namespace, script: &str, args: &[&str]) -> Self {
        Self::place(None, Some(netns), script, args)
    }

    fn place(
        procs: Option<PathBuf>,
        netns: Option<&Namespace>,
        script: &str,
        args: &[&str],
    ) -> Self {
        let mut command = Command::new(PYTHON);
        command
            .args(["-I", "-c"])
            .arg(whole(script))
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(procs) = procs {
            let file = std::fs::OpenOptions::new().write(true).open(procs).unwrap();
            // SAFETY: one write of a constant between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    nix::unistd::write(&file, b"0")
                        .map(drop)
                        .map_err(Into::into)
                });
            }
        }
        if let Some(Namespace(name)) = netns {
            let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
            // SAFETY: one system call between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)
                        .map_err(Into::into)
                });
            }
        }
        Self {
            child: command.spawn().unwrap(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A handle that names this process even after its end.
    pub(crate) fn pidfd(&self) -> OwnedFd {
        // SAFETY: two numbers; the answer is a descriptor that nobody else has.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, self.pid(), 0);
            assert!(fd >= 0, "pidfd_open failed");
            OwnedFd::from_raw_fd(i32::try_from(fd).unwrap())
        }
    }

    /// Sends a line to the script's `input()`.
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// Reads a line that the script has printed.
    pub(crate) fn line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().unwrap();
        let mut line = Vec::new();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    /// Waits for the script's end and tells what it printed.
    pub(crate) fn finish(mut self) -> String {
        drop(self.child.stdin.take());
        let mut out = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .unwrap();
        let mut err = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "client failed: {err}");
        out.trim().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A network namespace, with its loopback up.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new() -> Self {
        let name = unique("ns");
        run("ip", &["netns", "add", &name]);
        run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _removed = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Runs a command of the host and fails with its words.
pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {words}");
    output
}

/// A script with what all of them share.
pub(crate) fn whole(script: &str) -> String {
    format!("{PRELUDE}\n{script}")
}

/// What the scripts share: `outcome(f)` prints `ok …` or the errno's name; who is `alone` runs on one processor.
const PRELUDE: &str = r"
import errno, os, socket, struct, sys, time
def say(*words): print(*words, flush=True)
def outcome(f, *args):
    try:
        got = f(*args)
        say('ok' if got is None else f'ok {got}')
        return got
    except OSError as error:
        say(errno.errorcode.get(error.errno, str(error.errno)) if error.errno else type(error).__name__)
def alone(): os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
def tcp(family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(10); return s
def udp(family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(10); return s
";
