//! Ways around the daemon: what an agent tries so that bytes leave without it.

use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use support::{DEADLINE, Process, place};

use crate::lab::{Lab, has, lacks};

/// Sets the limit on descriptors of another process.
fn limit_descriptors(pid: u32, most: u32) -> Result<()> {
    let words = [format!("--pid={pid}"), format!("--nofile={most}:{most}")];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    support::Agent::outside()
        .as_uid(0)
        .run("prlimit", &words)?
        .ok()
        .map(drop)
}

#[test]
fn a_daemon_out_of_descriptors_lets_no_scope_go() -> Result<()> {
    let mut lab = Lab::new()?;
    let program = place::interceptor()?;
    let socket = lab.daemon.run_directory().join("control.sock");
    let mut command = std::process::Command::new(program);
    command
        .args(["run", "--agent", "demo", "--user", "nobody", "--socket"])
        .arg(&socket)
        .args(["--", "/usr/bin/python3", "-c", DIAL_AT_EACH_LINE])
        .arg(lab.server.address().port().to_string())
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let mut agent = Process::start(command)?;
    agent.send("\n")?;
    agent.await_text("daemon", DEADLINE)?;
    let pid = lab.daemon.process().context("the daemon runs")?.pid();
    limit_descriptors(pid, 3)?;
    support::wait::for_fact("a word on what the daemon could not do", DEADLINE, || {
        let log = lab.daemon.log();
        let told = ["cannot watch a scope", "cannot remove a scope"];
        Ok(told.iter().any(|words| log.contains(words)).then_some(()))
    })?;
    agent.send("\n")?;
    agent.await_text("second", DEADLINE)?;
    lacks(&agent.log(), &["server"])?;
    // It cannot be given descriptors again, and does not stop in order without.
    lab.daemon.kill();
    Ok(())
}

/// A signal to the daemon itself, as its administrator might send it.
fn signal(lab: &Lab, name: &str) -> Result<()> {
    let pid = lab.daemon.process().context("the daemon runs")?.pid();
    let words = ["-s", name, &pid.to_string()];
    let sent = support::Agent::outside().as_uid(0).run("kill", &words)?;
    sent.ok().map(drop)
}

#[test]
fn a_daemon_that_is_stopped_lets_no_byte_pass_and_goes_on_as_before() -> Result<()> {
    let lab = Lab::new()?;
    let stranger = Stranger::new()?;
    let port = lab.server.address().port().to_string();
    signal(&lab, "STOP")?;
    stranger.tried(&lab.agent())?;
    let heard = stranger.heard()?;
    // The kernel takes the connection for it; nobody answers.
    let words = ["-c", DIAL_ONCE, port.as_str()];
    let said = lab.agent().run("/usr/bin/python3", &words);
    // Whatever was seen, it goes on.
    signal(&lab, "CONT")?;
    ensure!(heard.is_empty(), "the stranger heard {heard:?}");
    has(&said?.ok()?, &["nobody timed out"])?;
    has(&lab.psql(&["select 1 as one"])?.ok()?, &["1"])
}

/// Begins a session, and says who answers within two seconds.
const DIAL_ONCE: &str = r#"
import socket, struct, sys
body = struct.pack("!i", 196608) + b"user\0anybody\0database\0shop\0\0"
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2)
s.sendall(struct.pack("!i", len(body) + 4) + body)
try:
    print("somebody", s.recv(9))
except OSError as error:
    print("nobody", error)
"#;

/// Who answers a startup: the server asks for a password, the daemon does not.
const DIAL_AT_EACH_LINE: &str = r#"
import socket, struct, sys
body = struct.pack("!i", 196608) + b"user\0anybody\0database\0shop\0\0"
for word in ["first", "second"]:
    sys.stdin.readline()
    try:
        s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
        s.settimeout(5)
        s.sendall(struct.pack("!i", len(body) + 4) + body)
        answer = s.recv(9)
        asks = answer[:1] == b"R" and answer[5:9] != b"\0\0\0\0"
        print("server" if asks else "daemon", answer, flush=True)
    except OSError as error:
        print("nobody", error, flush=True)
    print(word, flush=True)
sys.stdin.read()
"#;

/// Dials a stranger on loopback in every way that a program without privileges has; says which came
/// through. The stranger keeps what it hears, which is the verdict.
const EVERY_WAY: &str = r#"
import array, ctypes, errno, os, socket, struct, sys, threading
port, udp = int(sys.argv[1]), int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
here = ("127.0.0.1", port)

def way(name):
    def run(attempt):
        try:
            attempt()
            print("tried", name, flush=True)
        except Exception as error:
            print("failed", name, repr(error), flush=True)
        return attempt
    return run

def failed(answer):
    if answer < 0:
        raise OSError(ctypes.get_errno(), "refused")

def v4(port):
    packed = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton("127.0.0.1"))
    return ctypes.create_string_buffer(packed, 16)

def message(data, to):
    # A struct msghdr, and what it points to.
    data = ctypes.create_string_buffer(data, len(data))
    vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(data), len(data)))
    packed = struct.pack("QI4xQQQQi4x", ctypes.addressof(to), 16, ctypes.addressof(vector), 1, 0, 0, 0)
    whole = ctypes.create_string_buffer(packed, 56)
    whole.kept = (data, vector, to)
    return whole

def uring(op, s, off, about, length, flags):
    import mmap
    params = (ctypes.c_uint32 * 30)()
    ring = libc.syscall(425, 4, params)
    failed(ring)
    sq, cq = params[10:20], params[20:30]
    rows = mmap.mmap(ring, max(sq[6] + params[0] * 4, cq[5] + params[1] * 16), offset=0)
    entries = mmap.mmap(ring, 64 * params[0], offset=0x10000000)
    # IOSQE_ASYNC: by a worker, not in this task.
    struct.pack_into("=BBHiQQII", entries, 0, op, 1 << 4, 0, s.fileno(), off, ctypes.addressof(about), length, flags)
    struct.pack_into("I", rows, sq[6], 0)
    struct.pack_into("I", rows, sq[1], 1)
    libc.syscall(426, ring, 1, 1, 1, None, 0)
    _, answer, _ = struct.unpack_from("=QiI", rows, cq[5])
    if answer < 0:
        raise OSError(-answer, "refused")

def blocking():
    # A timeout of Python's own makes a socket not wait: what a first SYN does not carry is not sent later then.
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 2, 0))
    return s

def say(s, what):
    s.settimeout(2)
    s.sendall(what)

@way("tcp")
def _():
    say(socket.create_connection(here, 2), b"tcp")

@way("mapped")
def _():
    s = socket.socket(socket.AF_INET6)
    s.settimeout(2); s.connect(("::ffff:127.0.0.1", port)); say(s, b"mapped")

@way("every address")
def _():
    say(socket.create_connection(("0.0.0.0", port), 2), b"zero")

@way("another loopback address")
def _():
    say(socket.create_connection(("127.9.9.9", port), 2), b"nine")

@way("reconnected")
def _():
    a = socket.socket(); a.bind(("127.0.0.1", 0)); a.listen()
    s = socket.socket(); s.connect(a.getsockname())
    s.settimeout(2)
    s.connect_ex(("", 0)) if False else libc.connect(s.fileno(), struct.pack("H14x", 0), 16)
    s.connect(here); say(s, b"reconnected")

@way("fast open")
def _():
    blocking().sendto(b"fastopen", 0x20000000, here)

@way("fast open with a message")
def _():
    blocking().sendmsg([b"fastopenmessage"], [], 0x20000000, here)

@way("fast open connect")
def _():
    s = socket.socket(); s.settimeout(2)
    s.setsockopt(socket.IPPROTO_TCP, 30, 1)
    s.connect(here); say(s, b"fastopenconnect")

@way("mptcp")
def _():
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.settimeout(2)
    s.connect(here); say(s, b"mptcp")

for family, kind, protocol, name in [
    (socket.AF_INET, socket.SOCK_STREAM, 132, "sctp"),
    (socket.AF_INET, socket.SOCK_SEQPACKET, 132, "sctp packets"),
    (socket.AF_INET, 6, 33, "dccp"),
    (socket.AF_INET, socket.SOCK_DGRAM, 136, "udplite"),
    (socket.AF_INET, socket.SOCK_DGRAM, 1, "ping"),
    (socket.AF_INET, socket.SOCK_DGRAM, 115, "l2tp"),
    (43, socket.SOCK_STREAM, 0, "smc"),
    (30, socket.SOCK_STREAM, 0, "tipc"),
    (21, socket.SOCK_SEQPACKET, 0, "rds"),
]:
    @way(name)
    def _():
        s = socket.socket(family, kind, protocol); s.settimeout(2)
        s.connect(here); say(s, name.encode())

@way("udp")
def _():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"udp", ("127.0.0.1", udp))

@way("udp connected")
def _():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("127.0.0.1", udp)); s.send(b"udpconnected")

@way("udp mapped")
def _():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.sendto(b"udpmapped", ("::ffff:127.0.0.1", udp))

@way("udp to every address")
def _():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"udpzero", ("0.0.0.0", udp))

@way("udp, many at once")
def _():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    each = [message(word, v4(udp)) for word in [b"manyone", b"manytwo"]]
    vector = ctypes.create_string_buffer(b"".join(one.raw + bytes(8) for one in each))
    failed(libc.sendmmsg(s.fileno(), vector, 2, 0))

@way("udp to an address of the other family")
def _():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    failed(libc.sendto(s.fileno(), b"otherfamily", 11, 0, v4(udp), 16))

@way("udp connected to an address of the other family")
def _():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    failed(libc.connect(s.fileno(), v4(udp), 16)); s.send(b"otherconnected")

@way("udp segments")
def _():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(17, 103, 8); s.connect(("127.0.0.1", udp)); s.send(b"segments" * 3)

@way("udp with options")
def _():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01\x01\x01\x00")
    s.sendto(b"udpoptions", ("127.0.0.1", udp))

@way("tcp with a route of its own")
def _():
    s = socket.socket(); s.settimeout(2)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x83\x07\x04" + socket.inet_aton("127.0.0.1") + b"\x00")
    s.connect(here); say(s, b"sourceroute")

@way("a listener of ours, then a stranger's")
def _():
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port)); s.listen()
    for _ in range(64):
        c = socket.socket(); c.settimeout(1); c.connect(here); c.sendall(b"reuseport")

@way("a socket out of a sender")
def _():
    a, b = socket.socketpair()
    if os.fork() == 0:
        s = socket.socket(); socket.send_fds(a, [b"x"], [s.fileno()]); os._exit(0)
    os.wait()
    _, fds, _, _ = socket.recv_fds(b, 1, 1)
    s = socket.socket(fileno=fds[0]); s.settimeout(2); s.connect(here); say(s, b"passed")

@way("a thread")
def _():
    failed = []
    def run():
        try:
            say(socket.create_connection(here, 2), b"thread")
        except OSError as error:
            failed.append(error)
    t = threading.Thread(target=run); t.start(); t.join()
    if failed:
        raise failed[0]

CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWCGROUP, CLONE_NEWNS = 0x10000000, 0x40000000, 0x02000000, 0x20000
def apart(flags, then):
    pid = os.fork()
    if pid == 0:
        try:
            if libc.unshare(flags) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            then()
            os._exit(0)
        except BaseException as error:
            print("inside:", repr(error), flush=True)
            os._exit(1)
    if os.waitpid(pid, 0)[1] != 0:
        raise OSError("the child failed")

@way("a user namespace")
def _():
    apart(CLONE_NEWUSER, lambda: say(socket.create_connection(here, 2), b"userns"))

@way("a cgroup namespace")
def _():
    apart(CLONE_NEWUSER | CLONE_NEWCGROUP | CLONE_NEWNS,
          lambda: say(socket.create_connection(here, 2), b"cgroupns"))

@way("raw in a user namespace")
def _():
    def raw():
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)
        s.sendto(b"E" + bytes(40), here)
    apart(CLONE_NEWUSER | CLONE_NEWNET, raw)

@way("leaving the cgroup")
def _():
    mount = [line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup2 " in line][0]
    mine = [line for line in open("/proc/self/cgroup") if line.startswith("0::")][0][3:].strip()
    entered = False
    for path in ["", os.path.dirname(mine), "/interceptor"]:
        try:
            open(mount + path + "/cgroup.procs", "w").write("0")
            entered = True
        except OSError:
            pass
    try:
        os.mkdir(mount + mine + "/below")
        open(mount + mine + "/below/cgroup.procs", "w").write("0")
        entered = True
    except OSError:
        pass
    say(socket.create_connection(here, 2), b"left" if entered else b"below")

@way("io_uring")
def _():
    s = socket.socket()
    uring(16, s, 16, v4(port), 0, 0); say(s, b"uring")

@way("fast open by io_uring")
def _():
    s = blocking()
    try:
        uring(9, s, 0, message(b"uringfastopen", v4(port)), 1, 0x20000000)
    except BlockingIOError:
        # Without a cookie of the server's the ring does not wait for the handshake to send more than that.
        s.sendall(b"uringfastopen")

@way("udp by io_uring")
def _():
    uring(9, socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0, message(b"uringdatagram", v4(udp)), 1, 0)

@way("udp connected, by io_uring")
def _():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("127.0.0.1", udp))
    uring(26, s, 0, ctypes.create_string_buffer(b"uringsent"), 9, 0)

print("done", flush=True)
"#;

/// What the stranger hears by each way, where nobody stops it.
const WORDS: [(&str, &str); 30] = [
    ("tcp", "tcp"),
    ("mapped", "mapped"),
    ("every address", "zero"),
    ("another loopback address", "nine"),
    ("reconnected", "reconnected"),
    ("fast open", "fastopen"),
    ("fast open with a message", "fastopenmessage"),
    ("fast open connect", "fastopenconnect"),
    ("mptcp", "mptcp"),
    ("udp", "udp"),
    ("udp connected", "udpconnected"),
    ("udp mapped", "udpmapped"),
    ("udp to every address", "udpzero"),
    ("udp, many at once", "manyone"),
    ("udp, many at once", "manytwo"),
    ("udp to an address of the other family", "otherfamily"),
    (
        "udp connected to an address of the other family",
        "otherconnected",
    ),
    ("udp segments", "segments"),
    ("udp with options", "udpoptions"),
    ("a listener of ours, then a stranger's", "reuseport"),
    ("a socket out of a sender", "passed"),
    ("a thread", "thread"),
    ("a user namespace", "userns"),
    ("a cgroup namespace", "cgroupns"),
    ("leaving the cgroup", "below"),
    ("io_uring", "uring"),
    ("fast open by io_uring", "uringfastopen"),
    ("udp by io_uring", "uringdatagram"),
    ("udp connected, by io_uring", "uringsent"),
    ("tcp with a route of its own", "sourceroute"),
];

/// Ways that the host itself may refuse, or that the stranger does not speak: what comes of them is not asked.
const MAY_FAIL: [(&str, &str); 12] = [
    ("sctp", "many kernels have none"),
    ("sctp packets", "likewise"),
    ("dccp", "likewise, and newer ones have it no more"),
    ("udplite", "likewise"),
    ("ping", "a group of users may (net.ipv4.ping_group_range)"),
    ("l2tp", "many kernels have none"),
    ("smc", "likewise"),
    ("tipc", "likewise"),
    ("rds", "likewise"),
    (
        "raw in a user namespace",
        "leads to the namespace's own loopback",
    ),
    (
        "a listener of ours, then a stranger's",
        "a port is shared only by sockets of one user",
    ),
    (
        "tcp with a route of its own",
        "most hosts drop source routes (accept_source_route)",
    ),
];

/// A listener and a socket for datagrams, which keep what they hear.
struct Stranger {
    listener: TcpListener,
    datagrams: UdpSocket,
}

impl Stranger {
    fn new() -> Result<Self> {
        let listener = TcpListener::bind("0.0.0.0:0")?;
        let datagrams = UdpSocket::bind("0.0.0.0:0")?;
        listener.set_nonblocking(true)?;
        datagrams.set_nonblocking(true)?;
        Ok(Self {
            listener,
            datagrams,
        })
    }

    /// Has an agent try every way: what it says.
    fn tried(&self, agent: &support::Agent) -> Result<String> {
        let ports = [
            self.listener.local_addr()?.port().to_string(),
            self.datagrams.local_addr()?.port().to_string(),
        ];
        let words = ["-c", EVERY_WAY, &ports[0], &ports[1]];
        let output = agent.run("/usr/bin/python3", &words)?.ok()?;
        has(&output, &["done"])?;
        Ok(output)
    }

    /// What was heard; whoever spoke has ended.
    fn heard(&self) -> Result<Vec<String>> {
        let mut heard = Vec::new();
        while let Ok((mut client, _)) = self.listener.accept() {
            client.set_nonblocking(true)?;
            let mut bytes = vec![0; 256];
            let read = client.read(&mut bytes).unwrap_or(0);
            bytes.truncate(read);
            heard.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        let mut bytes = [0; 256];
        while let Ok(read) = self.datagrams.recv(&mut bytes) {
            heard.push(String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()).into_owned());
        }
        Ok(heard)
    }
}

#[test]
fn no_way_of_sending_bytes_reaches_a_stranger() -> Result<()> {
    let lab = Lab::new()?;
    let stranger = Stranger::new()?;
    let output = stranger.tried(&lab.agent())?;
    has(&output, &["failed tcp ", "failed udp "])?;
    let heard = stranger.heard()?;
    ensure!(
        heard.is_empty(),
        "the stranger heard {heard:?}; the agent:\n{output}"
    );
    Ok(())
}

/// The same ways must reach where nobody stops them: else the test above shows nothing.
#[test]
fn the_ways_out_are_ways() -> Result<()> {
    let stranger = Stranger::new()?;
    let output = stranger.tried(&support::Agent::outside())?;
    let heard = stranger.heard()?;
    let may_fail = |way: &str| MAY_FAIL.iter().any(|(name, _why)| *name == way);
    for (way, word) in WORDS {
        ensure!(
            may_fail(way) || heard.iter().any(|heard| heard == word),
            "by {way:?} the stranger heard nothing; it heard {heard:?}; the agent:\n{output}"
        );
    }
    // None is left out of both lists.
    let of = |line: &str| -> Option<String> {
        let way = line.strip_prefix("tried ").map(str::to_owned);
        way.or_else(|| {
            let names = WORDS.iter().chain(&MAY_FAIL).map(|(name, _)| *name);
            let told = line.strip_prefix("failed ")?;
            let longest = names.filter(|name| told.starts_with(&format!("{name} ")));
            longest.max_by_key(|name| name.len()).map(str::to_owned)
        })
    };
    for line in output
        .lines()
        .filter(|line| line.starts_with("tried ") || line.starts_with("failed "))
    {
        let way = of(line).with_context(|| format!("a way without a word: {line}"))?;
        ensure!(
            may_fail(&way) || WORDS.iter().any(|(name, _)| *name == way),
            "a way without a word: {way}"
        );
    }
    Ok(())
}
