//! Datagrams and raw sockets: nothing but the scope itself over loopback. Resolvers are in `names`.

use std::net::{SocketAddr, UdpSocket};

use interceptor::capture::{DenyReason, Verdict};

use crate::matrix::URING;
use crate::scene::{Client, Namespace, Scene, is_idle, run, server};

/// Ways to send a datagram to where none may go; the argument is the port of somebody on loopback.
const WAYS: [(&str, &str); 14] = [
    ("sendto", "udp().sendto(b'x', ('10.77.0.9', 53))"),
    (
        "sendto, v6",
        "udp(socket.AF_INET6).sendto(b'x', ('fd77::9', 53))",
    ),
    (
        "sendto, mapped",
        "udp(socket.AF_INET6).sendto(b'x', ('::ffff:10.77.0.9', 53))",
    ),
    (
        "sendto loopback",
        "udp().sendto(b'x', ('127.0.0.1', int(sys.argv[1])))",
    ),
    (
        "sendto nobody",
        "udp().sendto(b'x', ('0.0.0.0', int(sys.argv[1])))",
    ),
    (
        "connected",
        "u = udp(); u.connect(('192.0.2.99', 53)); u.send(b'x')",
    ),
    (
        "connected loopback",
        "u = udp(); u.connect(('127.0.0.1', int(sys.argv[1]))); u.send(b'x')",
    ),
    (
        "connected, mapped",
        "u = udp(socket.AF_INET6); u.connect(('::ffff:127.0.0.1', int(sys.argv[1]))); u.send(b'x')",
    ),
    (
        "broadcast",
        "u = udp(); u.setsockopt(1, 6, 1); u.sendto(b'x', ('255.255.255.255', 9))",
    ),
    ("multicast", "udp().sendto(b'x', ('224.0.0.251', 5353))"),
    (
        "by io_uring",
        "Ring().sendmsg(udp(), b'x', '127.0.0.1', int(sys.argv[1]))",
    ),
    (
        "connected, by io_uring",
        "u = udp(); u.connect(('127.0.0.1', int(sys.argv[1]))); Ring().send(u, b'x')",
    ),
    (
        "an address of the other family",
        "u = udp(socket.AF_INET6); other(libc.sendto(u.fileno(), b'x', 1, 0, v4('127.0.0.1', int(sys.argv[1])), 16))",
    ),
    (
        "connected to an address of the other family",
        "u = udp(socket.AF_INET6); other(libc.connect(u.fileno(), v4('127.0.0.1', int(sys.argv[1])), 16)); u.send(b'x')",
    ),
];

#[test]
fn datagrams_are_refused_when_they_are_sent_not_when_they_are_connected() {
    let scene = Scene::new();
    let mut events = scene.events();
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();
    let port = outside.local_addr().unwrap().port().to_string();
    for (name, way) in WAYS {
        let script = format!(
            "{URING}\ndef other(told):\n    if told < 0: raise OSError(ctypes.get_errno(), '')\ndef way():\n    {}\noutcome(way)",
            way.replace("; ", "\n    ")
        );
        assert_eq!(scene.run(&script, &[&port]), "EPERM", "{name}");
    }
    assert!(outside.recv(&mut [0]).is_err());
    let denied = scene.denied(&mut events, DenyReason::Udp);
    assert_eq!(denied.destination, "10.77.0.9:53".parse().unwrap());
    assert_eq!(
        (denied.protocol, denied.process.comm.as_str()),
        (17, "python3")
    );
    // One that is connected is refused by the guard alone, while its sender runs.
    let script = "u = udp(); u.connect(('192.0.2.98', 53)); outcome(u.send, b'x')";
    let client = scene.client(script, &[]);
    let pid = client.pid();
    assert_eq!(client.finish(), "EPERM");
    let denied = loop {
        let denied = scene.denied(&mut events, DenyReason::Udp);
        if denied.destination == "192.0.2.98:53".parse().unwrap() {
            break denied;
        }
    };
    assert_eq!((denied.process.tgid, denied.passerby), (pid, false));
    let route_probe = "u = udp(); u.setsockopt(1, 6, 1); outcome(u.connect, ('10.77.0.9', 53)); say(u.getsockname()[0] != '0.0.0.0')";
    assert_eq!(scene.run(route_probe, &[]), "ok\nTrue");
}

#[test]
fn datagrams_are_refused_before_a_route_is_looked_for() {
    let scene = Scene::new();
    let bare = Namespace::new();
    for (family, to) in [
        ("socket.AF_INET", "10.77.0.9"),
        ("socket.AF_INET6", "fd77::9"),
    ] {
        let script = format!("outcome(udp({family}).sendto, b'x', ('{to}', 53))");
        assert_eq!(
            scene.client_in(&bare, &script, &[]).finish(),
            "EPERM",
            "{to}"
        );
    }
}

#[test]
fn direct_rules_open_no_datagrams() {
    let scene = Scene::new();
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at: SocketAddr = outside.local_addr().unwrap();
    scene.rules(&[(
        at,
        Verdict::Direct {
            needs_daemon: false,
        },
    )]);
    let script = "outcome(udp().sendto, b'x', ('127.0.0.1', int(sys.argv[1])))";
    assert_eq!(scene.run(script, &[&at.port().to_string()]), "EPERM");
}

#[test]
fn processes_of_a_scope_send_each_other_datagrams_over_loopback() {
    let scene = Scene::new();
    let script = "u = udp(); u.bind(('127.0.0.1', 0)); say(u.getsockname()[1])
data, peer = u.recvfrom(9); u.sendto(data.upper(), peer)";
    let mut server = scene.client(script, &[]);
    let port = server.line();
    let script = "u = udp(); u.sendto(b'hello', ('127.0.0.1', int(sys.argv[1]))); say(u.recv(9))";
    assert_eq!(scene.run(script, &[&port]), "b'HELLO'");
    server.finish();
}

#[test]
fn only_tcp_and_udp_sockets_are_made() {
    let scene = Scene::new();
    let mut events = scene.events();
    let rows = [
        ("raw", "socket.AF_INET, socket.SOCK_RAW, 1", "EPERM"),
        (
            "raw, with its own header",
            "socket.AF_INET, socket.SOCK_RAW, 255",
            "EPERM",
        ),
        ("raw, v6", "socket.AF_INET6, socket.SOCK_RAW, 58", "EPERM"),
        ("ping", "socket.AF_INET, socket.SOCK_DGRAM, 1", "EPERM"),
        (
            "udp lite",
            "socket.AF_INET, socket.SOCK_DGRAM, 136",
            "EPERM",
        ),
        ("tcp", "socket.AF_INET, socket.SOCK_STREAM, 6", "made"),
        ("udp, v6", "socket.AF_INET6, socket.SOCK_DGRAM, 0", "made"),
        ("unix", "socket.AF_UNIX, socket.SOCK_STREAM, 0", "made"),
    ];
    for (name, kind, expected) in rows {
        // A kernel without the protocol says so before it asks anybody.
        let script = format!(
            "try:\n    socket.socket({kind}).close(); say('made')\nexcept OSError as error:\n    say('EPERM' if error.errno in (errno.EPERM, errno.EPROTONOSUPPORT, errno.EACCES) else error)"
        );
        assert_eq!(scene.run(&script, &[]), expected, "{name}");
    }
    let denied = scene.denied(&mut events, DenyReason::SocketType);
    assert_eq!((denied.protocol, denied.scope), (1, scene.scope.id));
}

#[test]
fn a_raw_socket_from_outside_sends_nothing_from_within() {
    // Made before the tag, so that only the guard sees it.
    let mut scene = Scene::new();
    let path = scene.cgroup(&crate::scene::unique("late"));
    let (target, at) = server("127.0.0.1:0");
    let script = "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 17); say('up'); input()
outcome(s.sendto, b'x' * 20, ('127.0.0.1', 0))";
    let mut client = scene.client_at(&path, script, &[&at.port().to_string()]);
    assert_eq!(client.line(), "up");
    scene.capture.tag(&path, "late").unwrap();
    client.tell("");
    assert_eq!(client.finish(), "EPERM");
    assert!(is_idle(&target));
}

/// A namespace with a network of its own, 10.77.1.0/24, that leads nowhere.
fn network() -> Namespace {
    let netns = Namespace::new();
    let ip = |words: &[&str]| run("ip", &[&["-n", netns.0.as_str()], words].concat());
    ip(&[
        "link", "add", "net0", "type", "veth", "peer", "name", "far0",
    ]);
    ip(&[
        "addr",
        "add",
        "10.77.1.1/24",
        "broadcast",
        "+",
        "dev",
        "net0",
    ]);
    ip(&["link", "set", "net0", "up"]);
    ip(&["link", "set", "far0", "up"]);
    ip(&["route", "add", "224.0.0.0/4", "dev", "net0"]);
    ip(&["route", "add", "default", "dev", "net0"]);
    netns
}

const HEAR_ALL: &str = "u = udp(); u.settimeout(120); u.bind(('0.0.0.0', 0))
u.setsockopt(0, 35, socket.inet_aton('224.0.0.251') + socket.inet_aton('10.77.1.1'))
say(u.getsockname()[1]); heard = b''
while heard != b'last': heard = u.recv(9); say(heard)";

/// Says a word to an address by a connected socket of a family.
const TO_ALL: &str = "u = udp(getattr(socket, sys.argv[1])); u.setsockopt(1, 6, 1)
def way(): u.connect((sys.argv[2], int(sys.argv[3]))); u.send(sys.argv[4].encode())
outcome(way)";

#[test]
fn what_goes_to_many_is_heard_by_nobody_on_this_host() {
    let mut scene = Scene::new();
    let netns = network();
    let mut ear = Client::outside_in(&netns, HEAR_ALL, &[]);
    let port = ear.line();
    let outside = |word| {
        let words = ["AF_INET", "10.77.1.255", &port, word];
        assert_eq!(Client::outside_in(&netns, TO_ALL, &words).finish(), "ok");
    };
    outside("first");
    // The kernel's own answer to a socket that may not: it was told that it may, and never could.
    let rows = [
        ("AF_INET", "10.77.1.255", "EACCES"),
        ("AF_INET", "255.255.255.255", "EPERM"),
        ("AF_INET", "224.0.0.251", "EPERM"),
        ("AF_INET6", "::ffff:10.77.1.255", "EACCES"),
        ("AF_INET6", "::ffff:224.0.0.251", "EPERM"),
    ];
    for (family, to, expected) in rows {
        let words = [family, to, &port, to];
        let tried = scene.client_in(&netns, TO_ALL, &words).finish();
        assert_eq!(tried, expected, "{to}");
    }
    // Made before the tag, so that it may.
    let path = scene.cgroup(&crate::scene::unique("late"));
    let early = TO_ALL.replace("def way", "say('up'); input()\ndef way");
    let mut early = scene.client_both(
        &path,
        &netns,
        &early,
        &["AF_INET", "10.77.1.255", &port, "early"],
    );
    assert_eq!(early.line(), "up");
    scene.capture.tag(&path, "late").unwrap();
    early.tell("");
    assert_eq!(early.finish(), "EPERM");
    outside("last");
    assert_eq!(ear.finish(), "b'first'\nb'last'");
}

#[test]
fn a_scope_joins_no_group_of_receivers() {
    let scene = Scene::new();
    let netns = network();
    // Reports of who has joined leave by the kernel itself, with the group's address for all to read.
    let ear = "s = socket.socket(17, socket.SOCK_RAW, socket.htons(3)); s.bind(('far0', 3)); s.settimeout(120); say('up')
heard = []
while '232.77.0.9' not in heard:
    packet = s.recv(999)
    if packet[12:14] != bytes([8, 0]) or packet[23] != 2: continue
    words = [packet[at:at + 4] for at in range(34, len(packet) - 3)]
    heard += [group for group in ('232.77.0.8', '232.77.0.9') if socket.inet_aton(group) in words]
say(heard)";
    let mut ear = Client::outside_in(&netns, ear, &[]);
    assert_eq!(ear.line(), "up");
    let join = "u = udp(); outcome(u.setsockopt, 0, 35, socket.inet_aton(sys.argv[1]) + socket.inet_aton('10.77.1.1'))";
    let from = "u = udp(); outcome(u.setsockopt, 0, 39, socket.inet_aton(sys.argv[1]) + socket.inet_aton('10.77.1.1') + socket.inet_aton('10.77.1.9'))";
    let any = "u = udp(); outcome(u.setsockopt, 0, 42, struct.pack('I4xHH4s', 0, 2, 0, socket.inet_aton(sys.argv[1])).ljust(136, b'\\0'))";
    let six = "u = udp(socket.AF_INET6); outcome(u.setsockopt, 41, 20, socket.inet_pton(10, 'ff1e::77') + struct.pack('I', 0))";
    for script in [join, from, any, six] {
        let tried = scene.client_in(&netns, script, &["232.77.0.8"]).finish();
        assert_eq!(tried, "EPERM", "{script}");
    }
    let outside = Client::outside_in(&netns, join, &["232.77.0.9"]).finish();
    assert_eq!(outside, "ok");
    assert_eq!(ear.finish(), "['232.77.0.9']");
    // What is about the socket alone goes on, whatever its size.
    let own = "u = udp(); outcome(u.setsockopt, 0, 33, 4); outcome(u.setsockopt, 1, 2, 1); outcome(u.setsockopt, 1, 8, bytes([0, 9, 0, 0]) + bytes(9000))";
    assert_eq!(scene.run(own, &[]), "ok\nok\nok");
}
