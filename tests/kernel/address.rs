//! Rewriting: which listener a destination goes to, and what the client sees of it.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use interceptor::capture::{DenyReason, NetnsCookie, Origin as _, Verdict};

use crate::scene::{Namespace, Scene, accept, run, server, told};

const V4: &str = "10.77.0.1:5432";
const V6: &str = "[fd77::1]:5432";

/// Namespaces that nobody lives in any more, of scopes that can all be read.
fn idle(scene: &Scene) -> Vec<NetnsCookie> {
    let idle = scene
        .capture
        .idle_namespaces(|scope, error| panic!("{scope:?}: {error}"));
    idle.unwrap()
}

#[test]
fn each_family_goes_where_its_sockets_can_go() {
    let scene = Scene::new();
    let (v4, v6): (SocketAddr, SocketAddr) = (V4.parse().unwrap(), V6.parse().unwrap());
    scene.redirect(&[v4, v6]);
    let rows = [
        (
            "v4",
            "s = tcp(); s.connect(('10.77.0.1', 5432))",
            v4,
            "10.77.0.1",
        ),
        (
            "v6",
            "s = tcp(socket.AF_INET6); s.connect(('fd77::1', 5432))",
            v6,
            "fd77::1",
        ),
        (
            "v6 only",
            "s = tcp(socket.AF_INET6); s.setsockopt(41, 26, 1); s.connect(('fd77::1', 5432))",
            v6,
            "fd77::1",
        ),
        (
            "v6, bound to its source",
            "s = tcp(socket.AF_INET6); s.bind(('::1', 0)); s.connect(('fd77::1', 5432))",
            v6,
            "fd77::1",
        ),
        (
            "mapped",
            "s = tcp(socket.AF_INET6); s.connect(('::ffff:10.77.0.1', 5432))",
            v4,
            "::ffff:10.77.0.1",
        ),
        (
            "mapped, bound to a mapped source",
            "s = tcp(socket.AF_INET6); s.bind(('::ffff:127.0.0.1', 0)); s.connect(('::ffff:10.77.0.1', 5432))",
            v4,
            "::ffff:10.77.0.1",
        ),
    ];
    for (name, way, destination, peer) in rows {
        let client = scene.client(&format!("{way}; say(s.getpeername()[:2])"), &[]);
        let (_socket, flow) = scene.accept();
        assert_eq!(flow.destination.0.inet().unwrap(), destination, "{name}");
        assert_eq!(client.finish(), format!("('{peer}', 5432)"), "{name}");
    }
}

#[test]
fn nobody_is_loopback() {
    let scene = Scene::new();
    let v4: SocketAddr = "127.0.0.1:5432".parse().unwrap();
    let v6: SocketAddr = "[::1]:5432".parse().unwrap();
    scene.redirect(&[v4, v6]);
    let rows = [
        ("socket.AF_INET", "0.0.0.0", v4),
        ("socket.AF_INET6", "::", v6),
    ];
    for (family, any, destination) in rows {
        let client = scene.client(&format!("tcp({family}).connect(('{any}', 5432))"), &[]);
        assert_eq!(
            scene.accept().1.destination.0.inet().unwrap(),
            destination,
            "{any}"
        );
        client.finish();
    }
}

#[test]
fn a_socket_bound_to_a_device_is_redirected_all_the_same() {
    let scene = Scene::new();
    scene.redirect(&[V4.parse().unwrap(), V6.parse().unwrap()]);
    let device = default_device();
    let rows = [
        ("socket.AF_INET", "10.77.0.1"),
        ("socket.AF_INET6", "fd77::1"),
    ];
    let dial = |user: &str, family: &str, to: &str| {
        let bind = "s.setsockopt(1, 25, sys.argv[1].encode())";
        let script = format!("{user}s = tcp({family}); {bind}; outcome(s.connect, ('{to}', 5432))");
        scene.client(&script, &[&device])
    };
    for (family, to) in rows {
        let client = dial("", family, to);
        let (_socket, flow) = scene.accept();
        assert_eq!(flow.destination.0.inet().unwrap().ip().to_string(), to);
        assert_eq!(client.finish(), "ok", "{to}");
        // The kernel lets only CAP_NET_RAW unbind: without it the connect is refused, not misled.
        assert_eq!(
            dial("os.setuid(65534); ", family, to).finish(),
            "EPERM",
            "{to}"
        );
    }
}

#[test]
fn a_reconnect_overwrites_the_record() {
    let scene = Scene::new();
    let first: SocketAddr = "10.77.0.1:1111".parse().unwrap();
    let second: SocketAddr = "10.77.0.2:2222".parse().unwrap();
    scene.redirect(&[first, second]);
    let script = "import ctypes; libc = ctypes.CDLL(None)
s = tcp(); s.connect(('10.77.0.1', 1111)); say(s.getpeername()); input()
libc.connect(s.fileno(), struct.pack('=H14x', 0), 16)
outcome(s.connect, ('10.77.0.9', 80))
outcome(s.connect, ('127.0.0.1', int(sys.argv[1])))
outcome(s.connect, ('10.77.0.2', 2222)); say(s.getpeername())";
    let mut client = scene.client(script, &[&scene.port().to_string()]);
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), first);
    client.tell("");
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), second);
    let expected = "('10.77.0.1', 1111)\nEPERM\nEPERM\nok\n('10.77.0.2', 2222)";
    assert_eq!(client.finish(), expected);
}

#[test]
fn a_connect_of_what_is_connected_changes_nothing() {
    let scene = Scene::new();
    let (first, second): (SocketAddr, SocketAddr) = (
        "10.77.0.1:1111".parse().unwrap(),
        "10.77.0.2:2222".parse().unwrap(),
    );
    let (direct, at) = server("127.0.0.1:0");
    let directly = Verdict::Direct {
        needs_daemon: false,
    };
    scene.rules(&[
        (first, Verdict::Redirect),
        (second, Verdict::Redirect),
        (at, directly),
    ]);
    // A socket that did not wait learns by its next connect that it is connected; that one names nothing either.
    let script = "to = (sys.argv[1], int(sys.argv[2]))
s = tcp(); waits = sys.argv[3] == 'waits'
if waits: s.setblocking(True)
s.connect(to)
for other in [('10.77.0.2', 2222), ('10.77.0.9', 80), ('127.0.0.1', 1), to]: outcome(s.connect, other)
say(s.getpeername()); s.send(b'still here'); say(s.recv(9))";
    for (to, how, next) in [
        (first, "waits", "EISCONN"),
        (first, "does not", "ok"),
        (at, "waits", "EISCONN"),
        (at, "does not", "ok"),
    ] {
        let arguments = [to.ip().to_string(), to.port().to_string(), how.to_owned()];
        let client = scene.client(script, &arguments.each_ref().map(String::as_str));
        let mut socket = if to == at {
            direct.accept().unwrap().0
        } else {
            scene.accept().0
        };
        let mut said = [0; 10];
        std::io::Read::read_exact(&mut socket, &mut said).unwrap();
        assert_eq!(&said, b"still here");
        if to == first {
            let flow = scene.capture.origin(&socket).unwrap();
            assert_eq!(flow.destination.0.inet().unwrap(), first);
            assert_eq!(flow.process.tgid, client.pid());
        }
        std::io::Write::write_all(&mut socket, b"yes").unwrap();
        let told = [next, "EISCONN", "EISCONN", "EISCONN"].join("\n");
        let peer = format!("('{}', {})", to.ip(), to.port());
        assert_eq!(client.finish(), format!("{told}\n{peer}\nb'yes'"));
    }
    assert_eq!(scene.capture.refused(DenyReason::NoRule).unwrap(), 0);
}

#[test]
fn a_direct_socket_that_connects_anew_is_redirected_and_back() {
    let scene = Scene::new();
    let target: SocketAddr = "10.77.0.1:1111".parse().unwrap();
    let (direct, at) = server("127.0.0.1:0");
    let directly = Verdict::Direct {
        needs_daemon: false,
    };
    scene.rules(&[(target, Verdict::Redirect), (at, directly)]);
    let script = "import ctypes; libc = ctypes.CDLL(None)
s = tcp()
for to in [('127.0.0.1', int(sys.argv[1])), ('10.77.0.1', 1111), ('127.0.0.1', int(sys.argv[1]))]:
    outcome(s.connect, to); say(s.getpeername()[0]); s.send(b'x'); input()
    libc.connect(s.fileno(), struct.pack('=H14x', 0), 16)";
    let mut client = scene.client(script, &[&at.port().to_string()]);
    let mut hears = |mut socket: std::net::TcpStream, peer: &str| {
        let mut byte = [0];
        std::io::Read::read_exact(&mut socket, &mut byte).unwrap();
        assert_eq!(
            (client.line(), client.line()),
            ("ok".to_owned(), peer.to_owned())
        );
        client.tell("");
    };
    hears(direct.accept().unwrap().0, "127.0.0.1");
    let (socket, flow) = scene.accept();
    assert_eq!(flow.destination.0.inet().unwrap(), target);
    hears(socket, "10.77.0.1");
    hears(direct.accept().unwrap().0, "127.0.0.1");
    client.finish();
}

#[test]
fn namespaces_have_their_own_listeners_and_the_same_client_port() {
    let scene = Scene::new();
    let target: SocketAddr = V4.parse().unwrap();
    scene.redirect(&[target]);
    let mut events = scene.events();
    let (one, two) = (Namespace::new(), Namespace::new());
    let script = "s = tcp(); s.bind(('127.0.0.1', 45678)); say('up')
while True:
    line = input()
    if line == 'end': break
    outcome(s.connect, ('10.77.0.1', 5432))
    say(s.getpeername()[0] if line == 'last' else '')";
    let mut clients = Vec::new();
    for namespace in [&one, &two] {
        let mut client = scene.client_in(namespace, script, &[]);
        assert_eq!(client.line(), "up");
        client.tell("early");
        assert_eq!(client.line(), told("EHOSTUNREACH"));
        client.tell("end");
        drop(client);
        let mut client = scene.client_in(namespace, script, &[]);
        assert_eq!(client.line(), "up");
        let denied = scene.denied(&mut events, DenyReason::NetnsUnknown);
        let process = client.pidfd();
        let listeners = scene.capture.provision(process.as_fd()).unwrap().unwrap();
        assert_eq!(listeners.netns, denied.netns);
        assert!(scene.capture.provision(process.as_fd()).unwrap().is_none());
        clients.push((client, listeners));
    }
    for (client, _) in &mut clients {
        client.tell("last");
    }
    for (client, listeners) in &mut clients {
        let socket = accept(&listeners.v4, listeners.v6.as_ref());
        let flow = scene.capture.origin(&socket).unwrap();
        assert_eq!(flow.netns, listeners.netns);
        assert_eq!(flow.process.tgid, client.pid());
        assert_eq!(flow.destination.0.inet().unwrap(), target);
        assert_eq!(client.line(), "ok");
        assert_eq!(client.line(), "10.77.0.1");
    }
    assert_ne!(clients[0].1.netns, clients[1].1.netns);
    assert_eq!(scene.capture.namespaces().unwrap().len(), 3);
    assert_eq!(idle(&scene), []);
    let (client, listeners) = clients.pop().unwrap();
    drop(client);
    assert_eq!(idle(&scene), [listeners.netns]);
    scene.capture.retire(listeners.netns).unwrap();
    assert_eq!(idle(&scene), []);
    assert_eq!(scene.capture.namespaces().unwrap().len(), 2);
}

#[test]
fn without_an_ipv6_loopback_the_mapped_listener_serves() {
    let scene = Scene::new();
    let target: SocketAddr = V6.parse().unwrap();
    scene.redirect(&[target]);
    let namespace = Namespace::new();
    run(
        "ip",
        &[
            "netns",
            "exec",
            &namespace.0,
            "sysctl",
            "-qw",
            "net.ipv6.conf.all.disable_ipv6=1",
        ],
    );
    let script = "input(); s = tcp(socket.AF_INET6); outcome(s.connect, ('fd77::1', 5432)); say(s.getpeername()[0])";
    let mut client = scene.client_in(&namespace, script, &[]);
    let process = client.pidfd();
    let listeners = scene.capture.provision(process.as_fd()).unwrap().unwrap();
    assert!(listeners.v6.is_none());
    client.tell("");
    let socket = accept(&listeners.v4, None);
    let flow = scene.capture.origin(&socket).unwrap();
    assert_eq!(flow.destination.0.inet().unwrap(), target);
    assert_eq!(client.finish(), "ok\nfd77::1");
}

/// The device of some route that is not loopback's.
fn default_device() -> String {
    let routes = run("ip", &["-o", "link", "show", "up"]);
    let routes = String::from_utf8(routes.stdout).unwrap();
    let device = routes
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .find(|device| *device != "lo");
    device
        .expect("a device beside loopback")
        .split('@')
        .next()
        .unwrap()
        .to_owned()
}
