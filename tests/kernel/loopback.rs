//! Loopback: a scope talks to its own listeners, and to nobody else's.

use std::net::SocketAddr;

use crate::scene::{Client, Namespace, Scene, can_make, is_idle, server, unique};

const SERVE: &str = "l = socket.socket(FAMILY, socket.SOCK_STREAM, PROTOCOL); l.bind((ADDRESS, 0)); l.listen(); say(l.getsockname()[1])
c, _ = l.accept(); c.sendall(c.recv(9).upper()); c.recv(1)";

const DIAL: &str =
    "s = tcp(FAMILY); s.connect((ADDRESS, int(sys.argv[1]))); s.send(b'hello'); say(s.recv(9))";

fn fill(script: &str, family: &str, address: &str) -> String {
    script
        .replace("FAMILY", &format!("socket.{family}"))
        .replace("ADDRESS", &format!("'{address}'"))
}

#[test]
fn processes_of_a_scope_reach_each_others_listeners() {
    let scene = Scene::new();
    let rows = [
        ("AF_INET", "127.0.0.1", "0", "AF_INET", "127.0.0.1"),
        ("AF_INET", "0.0.0.0", "0", "AF_INET", "127.0.0.9"),
        ("AF_INET6", "::1", "0", "AF_INET6", "::1"),
        ("AF_INET6", "::", "0", "AF_INET", "127.0.0.1"),
        ("AF_INET6", "::", "0", "AF_INET6", "::ffff:127.0.0.1"),
        ("AF_INET", "127.0.0.1", "262", "AF_INET", "127.0.0.1"),
    ];
    for (family, at, protocol, from, to) in rows.into_iter().filter(|row| can_make(row.2)) {
        let serve = fill(SERVE, family, at).replace("PROTOCOL", protocol);
        let mut listener = scene.client(&serve, &[]);
        let port = listener.line();
        let printed = scene.run(&fill(DIAL, from, to), &[&port]);
        assert_eq!(printed, "b'HELLO'", "{family} {at} {protocol}");
        listener.finish();
    }
}

#[test]
fn listeners_of_others_are_refused() {
    let mut scene = Scene::new();
    let (outside, at) = server("127.0.0.1:0");
    let path = scene.cgroup(&unique("other"));
    scene.capture.tag(&path, "other").unwrap();
    let serve = fill(SERVE, "AF_INET", "127.0.0.1").replace("PROTOCOL", "0");
    let mut listener = scene.client_at(&path, &serve, &[]);
    let other = listener.line();
    let dial = "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))";
    for port in [at.port().to_string(), other] {
        assert_eq!(scene.run(dial, &[&port]), "EPERM");
    }
    assert!(is_idle(&outside));
}

#[test]
fn a_target_on_loopback_is_redirected_even_where_the_scope_listens_on_its_port() {
    let scene = Scene::new();
    let serve = fill(SERVE, "AF_INET", "127.0.0.1").replace("PROTOCOL", "0");
    let mut listener = scene.client(&serve, &[]);
    let port: u16 = listener.line().parse().unwrap();
    let target = SocketAddr::from(([127, 0, 0, 1], port));
    scene.redirect(&[target]);
    let client = scene.client(
        "tcp().connect(('127.0.0.1', int(sys.argv[1])))",
        &[&port.to_string()],
    );
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), target);
    client.finish();
}

#[test]
fn a_listener_answers_neighbours_on_loopback_and_nobody_beyond() {
    let scene = Scene::new();
    let serve = fill(SERVE, "AF_INET", "0.0.0.0").replace("PROTOCOL", "0");
    let mut listener = scene.client(&serve, &[]);
    let port = listener.line();
    let beyond =
        "s = tcp(); s.settimeout(0.3); outcome(s.connect, (sys.argv[2], int(sys.argv[1])))";
    let own = own_address();
    assert_eq!(
        Client::outside(beyond, &[&port, &own]).finish(),
        "TimeoutError"
    );
    let neighbour = Client::outside(&fill(DIAL, "AF_INET", "127.0.0.1"), &[&port]);
    assert_eq!(neighbour.finish(), "b'HELLO'");
    listener.finish();
}

/// Takes what comes, beside others that take it too, and says at the end whether anybody came.
const SHARE: &str = "s = socket.socket(socket.AF_INET, int(sys.argv[1])); s.setsockopt(1, 15, 1); s.bind(('127.0.0.1', 0))
if s.type == socket.SOCK_STREAM: s.listen()
say(s.getsockname()[1]); input(); s.setblocking(False)
outcome(s.accept if s.type == socket.SOCK_STREAM else lambda: s.recv(9))";

/// Joins them, has a program choose the first of all, and calls until the others have been asked often.
const JOIN: &str = "import ctypes
kind, port, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == 'program'
def made(*options):
    s = socket.socket(socket.AF_INET, kind); s.settimeout(0.05)
    for option in options: s.setsockopt(1, *option)
    return s
first = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0))
held = []
for turn in range(16):
    s = made((15, 1)); s.bind(('127.0.0.1', port)); held.append(s)
    if kind == socket.SOCK_STREAM: s.listen()
    if turn == 0 and program: s.setsockopt(1, 51, struct.pack('HxxxxxxQ', 1, ctypes.addressof(first)))
    for again in range(8):
        try:
            c = made(); c.connect(('127.0.0.1', port)); c.send(b'x')
        except OSError: pass
say('done')";

#[test]
fn listeners_that_others_share_with_a_scope_hear_nothing_from_it() {
    let scene = Scene::new();
    for kind in ["1", "2"] {
        for by in ["program", "chance"] {
            let mut outside = Client::outside(SHARE, &[kind]);
            let port = outside.line();
            let joined = scene.run(JOIN, &[kind, &port, by]);
            assert_eq!(joined, "done", "{kind} {by}");
            outside.tell("");
            assert_eq!(outside.finish(), "EAGAIN", "{kind} by {by}");
        }
    }
}

#[test]
fn workers_of_a_scope_share_a_port() {
    let scene = Scene::new();
    let script = "port, held = 0, []
for turn in range(4):
    s = socket.socket(); s.setsockopt(1, 15, 1); s.bind(('127.0.0.1', port)); s.listen(); port = s.getsockname()[1]; held.append(s)
for turn in range(16):
    c = tcp(); c.connect(('127.0.0.1', port)); c.sendall(b'hello')
import select
for s in select.select(held, [], [], 9)[0]: say(s.accept()[0].recv(9)); break";
    assert_eq!(scene.run(script, &[]), "b'hello'");
    let alone = "u = udp(); u.setsockopt(1, 15, 1); u.bind(('127.0.0.1', 0)); c = udp(); c.sendto(b'x', u.getsockname()); say(u.recv(9))";
    assert_eq!(scene.run(alone, &[]), "b'x'");
}

#[test]
fn the_first_segment_carries_nothing() {
    let scene = Scene::new();
    let netns = Namespace::new();
    let open = "open('/proc/sys/net/ipv4/tcp_fastopen', 'w').write('3'); say('ok')";
    assert_eq!(Client::outside_in(&netns, open, &[]).finish(), "ok");
    // Who asked before may send words with his first segment.
    let script = "l = tcp(); l.setsockopt(6, 23, 9); l.bind(('127.0.0.1', 0)); l.listen()
for turn in range(2):
    c = tcp(); c.setsockopt(6, 30, 1); c.connect(l.getsockname()); c.sendall(b'hello'); say(l.accept()[0].recv(9))
    say(c.getsockopt(6, 11, 104)[5] & 32)";
    let told = |client: Client| client.finish().replace('\n', " ");
    let outside = told(Client::outside_in(&netns, script, &[]));
    assert_eq!(outside, "b'hello' 0 b'hello' 32");
    let within = told(scene.client_in(&netns, script, &[]));
    assert_eq!(within, "b'hello' 0 b'hello' 0");
}

/// An address of this host that is not loopback's.
fn own_address() -> String {
    let found = nix::ifaddrs::getifaddrs().unwrap();
    let found = found
        .filter_map(|interface| interface.address)
        .filter_map(|address| address.as_sockaddr_in().map(|v4| v4.ip()))
        .find(|ip| !ip.is_loopback());
    found.expect("an address beside loopback").to_string()
}
