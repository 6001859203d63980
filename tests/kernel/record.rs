//! The record: what the kernel knew at `connect()` is what the accepted socket tells, for each of many.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use aya::maps::{HashMap as BpfMap, Map, MapData};
use interceptor::capture::{Error, Origin as _};
use interceptor::clock::boot;
use interceptor_ebpf::flow::{Flow, PendingKey};

use crate::matrix::URING;
use crate::scene::{Client, Scene, accept, is_idle, server};

#[test]
fn an_accepted_socket_tells_where_it_was_going_and_who_opened_it() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let before = boot();
    let client = scene.client(
        "s = tcp(); s.connect(('127.0.0.1', int(sys.argv[1]))); say(s.getpeername()); say(s.recv(5))",
        &[&at.port().to_string()],
    );
    let pid = client.pid();
    let (mut socket, flow) = scene.accept();
    let python = std::fs::metadata(format!("/proc/{pid}/exe")).unwrap();
    let started = started_ticks(pid);
    socket.write_all(b"hello").unwrap();
    assert_eq!(flow.destination.0.inet().unwrap(), at);
    assert_eq!(flow.process.tgid, pid);
    assert_eq!(flow.scope, scene.scope.id);
    assert_eq!(flow.process.cgroup, scene.scope.id);
    assert_eq!((flow.process.uid, flow.process.gid), (0, 0));
    assert_eq!(flow.process.comm, "python3");
    assert_eq!(flow.netns, scene.listeners.as_ref().unwrap().netns);
    assert_eq!(flow.process.executable.unwrap().inode, python.ino());
    assert_eq!(flow.process.started.0 / 10_000_000, started);
    assert!(before < flow.at && flow.at < boot());
    assert!(flow.process.started < flow.at);
    let printed = client.finish();
    assert_eq!(printed, format!("('127.0.0.1', {})\nb'hello'", at.port()));
    assert!(is_idle(&target));
}

/// Field 22 of `/proc/<pid>/stat`, in hundredths of a second (proc_pid_stat(5)).
fn started_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(19).unwrap().parse().unwrap()
}

#[test]
fn the_stamp_has_the_effective_user_and_the_leaders_name() {
    let scene = Scene::new();
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[at]);
    let script = "import ctypes, threading
os.setresgid(1, 1234, 0); os.setresuid(1, 1235, 0)
def run():
    ctypes.CDLL(None).prctl(15, b'another'); tcp().connect(('10.77.0.1', 5432))
t = threading.Thread(target=run); t.start(); t.join()";
    let client = scene.client(script, &[]);
    let (_socket, flow) = scene.accept();
    assert_eq!((flow.process.uid, flow.process.gid), (1235, 1234));
    assert_eq!(
        (flow.process.tgid, flow.process.comm.as_str()),
        (client.pid(), "python3")
    );
    client.finish();
}

#[test]
fn who_connects_and_execs_at_once_is_attributed_to_what_connected() {
    let scene = Scene::new();
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[at]);
    let python = std::fs::metadata("/usr/bin/python3").unwrap();
    for _ in 0..50 {
        let script = "s = tcp(); s.setblocking(False); s.set_inheritable(True)
s.connect_ex(('10.77.0.1', 5432)); os.execv('/bin/cat', ['cat'])";
        let client = scene.client(script, &[]);
        let (_socket, flow) = scene.accept();
        assert_eq!(flow.process.executable.unwrap().inode, python.ino());
        assert_eq!(flow.process.comm, "python3");
        client.finish();
    }
}

/// Connects in a rotation of ways, to a rotation of addresses, and sends what it did.
const STORM: &str = r"
import select
ring = Ring()
for i in range(int(sys.argv[1])):
    to = (f'10.77.{i % 3}.{i % 7 + 1}', 5000 + i % 5); way = i % 6
    word = f'{os.getpid()} {to[0]}:{to[1]}\n'.encode(); sent = False
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) if way == 4 and os.path.exists('/proc/sys/net/mptcp') else tcp()
    s.settimeout(20)
    if way == 0: s.connect(to)
    elif way == 1:
        s.setblocking(False); s.connect_ex(to); select.select([], [s], [], 20); s.settimeout(20)
    elif way == 2:
        s.setblocking(True); s.sendto(word, 0x20000000, to); sent = True
    elif way == 3: s.setblocking(True); s.setsockopt(6, 30, 1); s.connect(to)
    elif way == 4: s.connect(to)
    elif way == 5: s.setblocking(True); ring.connect(s, *to)
    if not sent: s.sendall(word)
    s.recv(1); s.close()
";

#[test]
fn of_three_thousand_connections_no_record_is_missing_or_wrong() {
    const CLIENTS: u32 = 4;
    const EACH: u32 = 750;
    let scene = Scene::new();
    let mut targets = Vec::new();
    for (net, host) in (0..3).flat_map(|net| (1..8).map(move |host| (net, host))) {
        targets.extend((5000..5005).map(|port| SocketAddr::from(([10, 77, net, host], port))));
    }
    scene.redirect(&targets);
    let script = format!("{URING}{STORM}");
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| scene.client(&script, &[&EACH.to_string()]))
        .collect();
    let mut seen: HashMap<u32, u32> = HashMap::new();
    for _ in 0..CLIENTS * EACH {
        let (mut socket, flow) = scene.accept();
        let mut word = Vec::new();
        let mut byte = [0];
        while socket.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            word.extend(byte);
        }
        let told = format!(
            "{} {}",
            flow.process.tgid,
            flow.destination.0.inet().unwrap()
        );
        assert_eq!(String::from_utf8(word).unwrap(), told);
        *seen.entry(flow.process.tgid).or_default() += 1;
    }
    for client in clients {
        assert_eq!(seen.remove(&client.pid()), Some(EACH));
        client.finish();
    }
    assert_eq!(scene.capture.unrecorded().unwrap(), 0);
    assert_eq!(pending(&scene), 0, "a record was left for others to take");
}

#[test]
fn two_sources_with_one_port_keep_their_records() {
    let scene = Scene::new();
    let (one, two): (SocketAddr, SocketAddr) = (
        "10.77.0.1:1".parse().unwrap(),
        "10.77.0.2:2".parse().unwrap(),
    );
    scene.redirect(&[one, two]);
    // Both in flight at once: the same client port, from two addresses of loopback.
    let script =
        "a, b = tcp(), tcp(); a.bind(('127.0.0.5', 0)); b.bind(('127.0.0.6', a.getsockname()[1]))
a.connect(('10.77.0.1', 1)); b.connect(('10.77.0.2', 2)); a.recv(1)";
    let client = scene.client(script, &[]);
    let mut sources = Vec::new();
    for _ in 0..2 {
        let (socket, flow) = scene.accept();
        let from = socket.peer_addr().unwrap();
        sources.push((
            from.ip().to_string(),
            flow.destination.0.inet().unwrap(),
            socket,
        ));
    }
    sources.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!((sources[0].0.as_str(), sources[0].1), ("127.0.0.5", one));
    assert_eq!((sources[1].0.as_str(), sources[1].1), ("127.0.0.6", two));
    drop(sources);
    client.finish();
}

#[test]
fn records_of_two_sources_with_one_port_lie_side_by_side() {
    let scene = Scene::new();
    scene.redirect(&["10.77.0.1:1".parse().unwrap()]);
    // Nothing takes them, as if both were in flight.
    std::fs::remove_file(scene.daemon_pin()).unwrap();
    let script =
        "a, b = tcp(), tcp(); a.bind(('127.0.0.5', 0)); b.bind(('127.0.0.6', a.getsockname()[1]))
a.connect(('10.77.0.1', 1)); b.connect(('10.77.0.1', 1)); say('up'); input()";
    let mut client = scene.client(script, &[]);
    assert_eq!(client.line(), "up");
    assert_eq!(pending(&scene), 2);
}

#[test]
fn a_record_that_was_not_taken_is_not_left_for_a_stranger() {
    let scene = Scene::new();
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[at]);
    // The listener's mark is gone, as if its program had never run: the record stays behind …
    let port = scene.port();
    let script = "s = tcp(); s.bind(('127.0.0.1', 0)); p = s.getsockname()[1]
s.connect(('10.77.0.1', 5432)); say(p); input(); s.setsockopt(1, 13, struct.pack('ii', 1, 0)); s.close(); say('closed'); input()";
    let daemon_ops = scene.daemon_pin();
    std::fs::remove_file(&daemon_ops).unwrap();
    let mut client = scene.client(script, &[]);
    let source = client.line();
    let Error::NoRecord = scene
        .capture
        .origin(&accept(&scene.listeners.as_ref().unwrap().v4, None))
        .unwrap_err()
    else {
        panic!("a record without a program to take it");
    };
    assert_eq!(pending(&scene), 1);
    // … until its socket closes, so that nobody can come from the same port and take it.
    client.tell("");
    assert_eq!(client.line(), "closed");
    assert_eq!(pending(&scene), 0);
    let again = format!(
        "s = tcp(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', {source})); outcome(s.connect, ('127.0.0.1', {port}))"
    );
    assert_eq!(Client::outside(&again, &[]).finish(), "ok");
    let socket = accept(&scene.listeners.as_ref().unwrap().v4, None);
    assert!(matches!(
        scene.capture.origin(&socket),
        Err(Error::NoRecord)
    ));
}

#[test]
fn without_its_record_a_connection_is_refused_and_never_direct() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    // The client's side does not run: as if the record had been evicted before the accept.
    std::fs::remove_file(scene.scope_pin("sock_ops")).unwrap();
    let client = scene.client(
        "s = tcp(); s.connect(('127.0.0.1', int(sys.argv[1]))); say(s.recv(1))",
        &[&at.port().to_string()],
    );
    let socket = accept(&scene.listeners.as_ref().unwrap().v4, None);
    assert!(matches!(
        scene.capture.origin(&socket),
        Err(Error::NoRecord)
    ));
    drop(socket);
    assert_eq!(client.finish(), "b''");
    assert!(is_idle(&target));
    assert_eq!(scene.capture.unrecorded().unwrap(), 1);
}

/// Records that wait to be taken.
fn pending(scene: &Scene) -> usize {
    let map = Map::LruHashMap(scene.pinned("PENDING"));
    let map: BpfMap<MapData, PendingKey, Flow> = map.try_into().unwrap();
    map.keys().count()
}
