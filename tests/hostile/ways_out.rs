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
    s = socket.socket(); s.settimeout(2)
    s.sendto(b"fastopen", 0x20000000, here)

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
    import mmap
    params = (ctypes.c_uint32 * 30)()
    ring = libc.syscall(425, 4, params)
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    s = socket.socket(); s.settimeout(5)
    sq_off = params[10:20]
    ring_map = mmap.mmap(ring, 4096, offset=0)
    entries = mmap.mmap(ring, 4 * 64, offset=0x10000000)
    address = ctypes.create_string_buffer(struct.pack("!2xH4s8x", port, socket.inet_aton("127.0.0.1")))
    struct.pack_into("H", address, 0, socket.AF_INET)
    # IOSQE_ASYNC: by a worker, not in this task.
    struct.pack_into("BBHiQQ", entries, 0, 16, 1 << 4, 0, s.fileno(), 16, ctypes.addressof(address))
    tail, array_at = sq_off[1], sq_off[6]
    struct.pack_into("I", ring_map, array_at, 0)
    struct.pack_into("I", ring_map, tail, 1)
    libc.syscall(426, ring, 1, 1, 1, None, 0)
    s.sendall(b"uring")
print("done", flush=True)
"#;

#[test]
fn no_way_of_sending_bytes_reaches_a_stranger() -> Result<()> {
    let lab = Lab::new()?;
    let stranger = TcpListener::bind("0.0.0.0:0")?;
    stranger.set_nonblocking(true)?;
    let datagrams = UdpSocket::bind("0.0.0.0:0")?;
    datagrams.set_nonblocking(true)?;
    let ports = [
        stranger.local_addr()?.port().to_string(),
        datagrams.local_addr()?.port().to_string(),
    ];
    let words = ["-c", EVERY_WAY, &ports[0], &ports[1]];
    let output = lab.agent().run("/usr/bin/python3", &words)?.ok()?;
    has(&output, &["done", "failed tcp ", "failed udp "])?;
    let mut heard = Vec::new();
    while let Ok((mut client, _)) = stranger.accept() {
        client.set_nonblocking(true)?;
        let mut bytes = vec![0; 256];
        let read = client.read(&mut bytes).unwrap_or(0);
        bytes.truncate(read);
        heard.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    let mut bytes = [0; 256];
    while let Ok(read) = datagrams.recv(&mut bytes) {
        heard.push(String::from_utf8_lossy(&bytes[..read]).into_owned());
    }
    ensure!(
        heard.is_empty(),
        "the stranger heard {heard:?}; the agent:\n{output}"
    );
    Ok(())
}

/// The same ways must reach where nobody stops them: else the test above shows nothing.
#[test]
fn the_ways_out_are_ways() -> Result<()> {
    let stranger = TcpListener::bind("0.0.0.0:0")?;
    let datagrams = UdpSocket::bind("0.0.0.0:0")?;
    let ports = [
        stranger.local_addr()?.port().to_string(),
        datagrams.local_addr()?.port().to_string(),
    ];
    let words = ["-c", EVERY_WAY, &ports[0], &ports[1]];
    let output = support::Agent::outside()
        .run("/usr/bin/python3", &words)?
        .ok()?;
    let ways = [
        "tried tcp\n",
        "tried mapped\n",
        "tried reconnected\n",
        "tried mptcp\n",
        "tried udp\n",
        "tried udp connected\n",
        "tried a socket out of a sender\n",
    ];
    has(&output, &ways)
}
