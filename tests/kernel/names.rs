//! Questions for names: to the daemon, each as of the resolver that was asked, and nowhere without it.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;

use aya::maps::{HashMap as BpfMap, Map};
use interceptor::capture::{DenyReason, Error, Flow, NameServer, Verdict};
use interceptor_ebpf::flow::{AskedKey, Flow as Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::matrix::URING;
use crate::scene::{Client, Namespace, Scene, is_idle, rule, server, told};

const V4: &str = "10.77.0.9:53";
const V6: &str = "[fd77::9]:53";
const STUB: &str = "127.0.0.53:53";

/// A daemon for whose scope three resolvers are configured.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.rules(&[V4, V6, STUB].map(|at| (at.parse().unwrap(), Verdict::Resolver)));
    scene
}

/// Answers one question, in capitals; who asked.
fn answer(scene: &Scene) -> Result<Flow, Error> {
    let listeners = scene.listeners.as_ref().unwrap();
    let mut waiting: Vec<_> = listeners
        .names
        .iter()
        .map(|server| PollFd::new(server.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    let ready = poll(&mut waiting, PollTimeout::from(20_000_u16)).unwrap();
    assert_ne!(ready, 0, "nobody asked");
    let at = waiting.iter().position(|poll| poll.any() == Some(true));
    let NameServer { slot: _, socket } = &listeners.names[at.unwrap()];
    let mut bytes = [0; 64];
    let (length, client) = socket.recv_from(&mut bytes).unwrap();
    let via = socket.local_addr().unwrap();
    let asked = scene.capture.asked(listeners.netns, client, via);
    bytes.make_ascii_uppercase();
    socket.send_to(&bytes[..length], client).unwrap();
    asked
}

/// Every way to send a datagram to a resolver, with what the client sees of the answer.
const WAYS: [(&str, &str, &str); 13] = [
    (
        V4,
        "u = udp(); u.sendto(b'a', ('10.77.0.9', 53)); say(*u.recvfrom(9))",
        "b'A' ('10.77.0.9', 53)",
    ),
    (
        V4,
        "u = udp(); u.connect(('10.77.0.9', 53)); u.send(b'b'); say(u.recv(9), u.getpeername())",
        "b'B' ('10.77.0.9', 53)",
    ),
    (
        V4,
        "u = udp(); u.connect(('10.77.0.9', 53)); u.send(b'b'); say(*u.recvfrom(9))",
        "b'B' ('10.77.0.9', 53)",
    ),
    (
        V4,
        "u = udp(socket.AF_INET6); u.sendto(b'c', ('::ffff:10.77.0.9', 53)); say(*u.recvfrom(9))",
        "b'C' ('::ffff:10.77.0.9', 53, 0, 0)",
    ),
    (
        V4,
        "u = udp(socket.AF_INET6); u.connect(('::ffff:10.77.0.9', 53)); u.send(b'd'); say(u.recv(9), u.getpeername())",
        "b'D' ('::ffff:10.77.0.9', 53, 0, 0)",
    ),
    (
        V6,
        "u = udp(socket.AF_INET6); u.sendto(b'e', ('fd77::9', 53)); say(*u.recvfrom(9))",
        "b'E' ('fd77::9', 53, 0, 0)",
    ),
    (
        V6,
        "u = udp(socket.AF_INET6); u.setsockopt(41, 26, 1); u.sendto(b'f', ('fd77::9', 53)); say(*u.recvfrom(9))",
        "b'F' ('fd77::9', 53, 0, 0)",
    ),
    (
        V6,
        "u = udp(socket.AF_INET6); u.connect(('fd77::9', 53)); u.send(b'g'); say(u.recv(9), u.getpeername())",
        "b'G' ('fd77::9', 53, 0, 0)",
    ),
    (
        STUB,
        "u = udp(); u.sendto(b'h', ('127.0.0.53', 53)); say(*u.recvfrom(9))",
        "b'H' ('127.0.0.53', 53)",
    ),
    (
        V4,
        "u = udp(); Ring().sendmsg(u, b'i', '10.77.0.9', 53); say(*u.recvfrom(9))",
        "b'I' ('10.77.0.9', 53)",
    ),
    (
        V4,
        "u = udp(); u.connect(('10.77.0.9', 53)); Ring().send(u, b'j'); say(*u.recvfrom(9))",
        "b'J' ('10.77.0.9', 53)",
    ),
    // What a socket of the other family is told goes by the family of the address.
    (
        V4,
        "u = udp(socket.AF_INET6); libc.sendto(u.fileno(), b'k', 1, 0, v4('10.77.0.9', 53), 16); say(*u.recvfrom(9))",
        "b'K' ('::ffff:10.77.0.9', 53, 0, 0)",
    ),
    (
        V4,
        "u = udp(socket.AF_INET6); libc.connect(u.fileno(), v4('10.77.0.9', 53), 16); u.send(b'l'); say(*u.recvfrom(9))",
        "b'L' ('::ffff:10.77.0.9', 53, 0, 0)",
    ),
];

#[test]
fn the_daemon_answers_as_the_resolver_that_was_asked_and_knows_who_asks() {
    let scene = scene();
    for (resolver, way, seen) in WAYS {
        let client = scene.client(&format!("{URING}\n{way}"), &[]);
        let pid = client.pid();
        let flow = answer(&scene).unwrap();
        assert_eq!(
            flow.destination.0.inet().unwrap(),
            resolver.parse().unwrap(),
            "{way}"
        );
        assert_eq!((flow.process.tgid, flow.scope), (pid, scene.scope.id));
        assert_eq!(client.finish(), seen, "{way}");
    }
}

/// Three messages at once, and then each by itself from the first that was not sent.
const MANY: &str = "def many(u, *to):
    messages = [message(b'x', v4(*at)) for at in to]
    vector = ctypes.create_string_buffer(b''.join(bytes(m.raw) + bytes(8) for m in messages))
    sent = 0; told = []
    while sent < len(to):
        n = libc.sendmmsg(u.fileno(), ctypes.byref(vector, 64 * sent), len(to) - sent, 0)
        told.append(n if n > 0 else errno.errorcode[ctypes.get_errno()]); sent += max(n, 1)
    say(*told)
good, bad = ('10.77.0.9', 53), ('127.0.0.1', int(sys.argv[1]))
u = udp(); many(u, good, bad, good); many(u, bad, good, good); say(*[u.recvfrom(9) for _ in range(4)])";

#[test]
fn each_of_many_datagrams_is_judged_by_itself() {
    let scene = scene();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let port = stranger.local_addr().unwrap().port().to_string();
    let client = scene.client(&format!("{URING}\n{MANY}"), &[&port]);
    for _ in 0..4 {
        let flow = answer(&scene).unwrap();
        assert_eq!(flow.process.tgid, client.pid());
    }
    let answers = ["(b'X', ('10.77.0.9', 53))"; 4].join(" ");
    assert_eq!(client.finish(), format!("1 EPERM 1\nEPERM 2\n{answers}"));
    stranger.recv(&mut [0]).unwrap_err();
}

#[test]
fn answers_of_two_resolvers_on_one_socket_are_told_apart() {
    let scene = scene();
    let script = "u = udp(); u.sendto(b'one', ('10.77.0.9', 53)); u.sendto(b'two', ('127.0.0.53', 53))
say(sorted([u.recvfrom(9), u.recvfrom(9)]))
u = udp(socket.AF_INET6); u.sendto(b'one', ('::ffff:10.77.0.9', 53)); u.sendto(b'two', ('fd77::9', 53))
say(sorted([u.recvfrom(9), u.recvfrom(9)]))";
    let client = scene.client(script, &[]);
    for _ in 0..4 {
        answer(&scene).unwrap();
    }
    let seen = "[(b'ONE', ('10.77.0.9', 53)), (b'TWO', ('127.0.0.53', 53))]
[(b'ONE', ('::ffff:10.77.0.9', 53, 0, 0)), (b'TWO', ('fd77::9', 53, 0, 0))]";
    assert_eq!(client.finish(), seen);
}

#[test]
fn who_is_in_no_scope_is_not_answered_and_a_scope_asks_nobody_else() {
    let scene = scene();
    let port = scene.port().to_string();
    let ask =
        "u = udp(); outcome(u.sendto, b'x', ('127.64.0.1', int(sys.argv[1]))); say(u.recv(9))";
    let outside = Client::outside(ask, &[&port]);
    assert!(matches!(answer(&scene), Err(Error::NoRecord)));
    outside.finish();
    // The name server's own address is as good as the resolver's: it is judged as that.
    let inside = scene.client(ask, &[&port]);
    answer(&scene).unwrap();
    assert_eq!(inside.finish(), "ok 1\nb'X'");
    // Nothing is forwarded for a resolver that no rule names any more.
    scene.rules(&[(STUB.parse().unwrap(), Verdict::Resolver)]);
    let bare = "outcome(udp().sendto, b'x', ('10.77.0.9', 53)); u = udp(); u.connect(('10.77.0.9', 53)); outcome(u.send, b'x')";
    assert_eq!(scene.run(bare, &[]), "EPERM\nEPERM");
}

#[test]
fn without_a_daemon_no_question_leaves() {
    let mut scene = Scene::new();
    let at = support::port::free().unwrap();
    let resolver = UdpSocket::bind(at).unwrap();
    resolver.set_nonblocking(true).unwrap();
    let listener = TcpListener::bind(at).unwrap();
    scene.rules(&[(at, Verdict::Resolver)]);
    let port = at.port().to_string();
    let connected = "u = udp(); u.connect(('127.0.0.1', int(sys.argv[1]))); say('up'); input(); outcome(u.send, b'x')";
    let mut before = scene.client(connected, &[&port]);
    assert_eq!(before.line(), "up");
    scene.kill();
    before.tell("");
    let said = before.finish();
    assert!(["EPERM", "ECONNREFUSED"].contains(&said.as_str()), "{said}");
    let script = "to = ('127.0.0.1', int(sys.argv[1]))
outcome(udp().sendto, b'x', to)
outcome(udp().connect, to)
outcome(udp(socket.AF_INET6).sendto, b'x', ('::ffff:127.0.0.1', to[1]))
outcome(tcp().connect, to)";
    let refused = [told("ECONNREFUSED"); 4].join("\n");
    assert_eq!(scene.run(script, &[&port]), refused);
    assert!(resolver.recv(&mut [0]).is_err() && is_idle(&listener));
    scene.restart();
    let client = scene.client(
        "u = udp(); u.sendto(b'x', ('127.0.0.1', int(sys.argv[1]))); say(u.recv(9))",
        &[&port],
    );
    assert_eq!(answer(&scene).unwrap().destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "b'X'");
    assert!(resolver.recv(&mut [0]).is_err());
}

#[test]
fn a_question_whose_record_a_full_table_forgot_is_of_nobody() {
    let scene = scene();
    let script = "u = udp(); u.sendto(b'x', ('10.77.0.9', 53)); say('asked'); say(u.recv(9))";
    let mut client = scene.client(script, &[]);
    assert_eq!(client.line(), "asked");
    // As the table does itself, where more sockets ask than it has room for.
    let map = Map::LruHashMap(scene.pinned("ASKED"));
    let mut asked: BpfMap<_, AskedKey, Record> = map.try_into().unwrap();
    let own = asked.keys().next().unwrap().unwrap();
    asked.remove(&own).unwrap();
    let unknown = answer(&scene).unwrap_err();
    assert!(matches!(unknown, Error::NoRecord), "{unknown}");
    client.finish();
    let client = scene.client(script, &[]);
    let asked = answer(&scene).unwrap();
    assert_eq!(asked.process.tgid, client.pid());
    client.finish();
}

#[test]
fn questions_by_tcp_come_as_connections() {
    let scene = scene();
    let script = "t = tcp(); t.connect(('127.0.0.53', 53)); say(t.getpeername())";
    let client = scene.client(script, &[]);
    let (socket, flow) = scene.accept();
    assert_eq!(flow.destination.0.inet().unwrap(), STUB.parse().unwrap());
    drop(socket);
    assert_eq!(client.finish(), "('127.0.0.53', 53)");
}

#[test]
fn a_rule_for_a_whole_network_opens_no_port_of_dns() {
    let scene = Scene::new();
    let networks = ["127.0.0.0/8", "10.77.0.0/16"].map(|network| interceptor::capture::Rule {
        scope: None,
        network: network.parse().unwrap(),
        port: None,
        verdict: Verdict::Direct {
            needs_daemon: false,
        },
    });
    scene.capture.set_rules(&networks).unwrap();
    let mut events = scene.events();
    let (outside, at) = server("127.0.0.2:0");
    let script = "outcome(tcp().connect, ('127.0.0.2', int(sys.argv[1])))
outcome(tcp().connect, ('10.77.0.9', 53))
outcome(tcp().connect, ('127.0.0.2', 853))
outcome(udp().sendto, b'x', ('10.77.0.9', 853))";
    let seen = "ok\nEPERM\nEPERM\nEPERM";
    assert_eq!(scene.run(script, &[&at.port().to_string()]), seen);
    drop(outside);
    let denied = scene.denied(&mut events, DenyReason::NoRule);
    assert_eq!(denied.destination, "10.77.0.9:53".parse().unwrap());
    // One that names the port does.
    let (tls, at) = server("127.0.0.3:853");
    let direct = Verdict::Direct {
        needs_daemon: false,
    };
    scene.capture.set_rules(&[rule(at, direct)]).unwrap();
    let script = "outcome(tcp().connect, ('127.0.0.3', 853))";
    assert_eq!(scene.run(script, &[]), "ok");
    drop(tls);
}

#[test]
fn an_address_that_a_scope_was_told_for_a_name_comes_to_the_daemon() {
    let mut scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    let script = "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))";
    let port = at.port().to_string();
    assert_eq!(scene.run(script, &[&port]), "EPERM");
    scene.capture.name(scene.scope.id, &[at]).unwrap();
    // Whatever a rule says.
    let direct = Verdict::Direct {
        needs_daemon: false,
    };
    scene.rules(&[(at, direct)]);
    let client = scene.client(script, &[&port]);
    let (_socket, flow) = scene.accept();
    assert_eq!(flow.destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "ok");
    scene.rules(&[]);
    scene.kill();
    assert_eq!(scene.run(script, &[&port]), told("ECONNREFUSED"));
    // A new daemon does not know whose name it was.
    scene.restart();
    assert_eq!(scene.run(script, &[&port]), "EPERM");
    scene.capture.name(scene.scope.id, &[at]).unwrap();
    scene.capture.unname(scene.scope.id, &[at]).unwrap();
    scene.capture.unname(scene.scope.id, &[at]).unwrap();
    assert_eq!(scene.run(script, &[&port]), "EPERM");
    assert!(is_idle(&target));
}

#[test]
fn each_namespace_has_name_servers_of_its_own() {
    let scene = scene();
    let other = Namespace::new();
    let mut waits = scene.client_in(&other, "say('up'); input()", &[]);
    assert_eq!(waits.line(), "up");
    let ask = "outcome(udp().sendto, b'x', ('10.77.0.9', 53))";
    assert_eq!(
        scene.client_in(&other, ask, &[]).finish(),
        told("EHOSTUNREACH")
    );
    let pidfd = waits.pidfd();
    let listeners = scene.capture.provision(pidfd.as_fd()).unwrap().unwrap();
    let ask = "u = udp(); u.sendto(b'x', ('10.77.0.9', 53)); say(*u.recvfrom(9))";
    let client = scene.client_in(&other, ask, &[]);
    let mut found: Option<SocketAddr> = None;
    let mut waiting: Vec<_> = listeners
        .names
        .iter()
        .map(|server| PollFd::new(server.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    assert_ne!(
        poll(&mut waiting, PollTimeout::from(20_000_u16)).unwrap(),
        0
    );
    for NameServer { slot: _, socket } in &listeners.names {
        let mut byte = [0];
        if let Ok((_, client)) = socket.recv_from(&mut byte) {
            let via = socket.local_addr().unwrap();
            let flow = scene.capture.asked(listeners.netns, client, via).unwrap();
            found = Some(flow.destination.0.inet().unwrap());
            // The row is of that namespace alone.
            let own = scene.listeners.as_ref().unwrap().netns;
            assert!(scene.capture.asked(own, client, via).is_err());
            socket.send_to(b"X", client).unwrap();
        }
    }
    assert_eq!(found, Some(V4.parse().unwrap()));
    assert_eq!(client.finish(), "b'X' ('10.77.0.9', 53)");
    drop(waits);
}

#[test]
fn more_resolvers_than_there_are_slots_are_not_taken() {
    let scene = scene();
    let more = |n: u16| {
        (
            SocketAddr::new("10.77.0.8".parse().unwrap(), n),
            Verdict::Resolver,
        )
    };
    let rules: Vec<_> = (1..=5)
        .map(more)
        .map(|(to, verdict)| rule(to, verdict))
        .collect();
    let refused = scene.capture.set_rules(&rules).unwrap_err();
    assert!(refused.to_string().contains("at most 4"), "{refused}");
    // Those of before still hold.
    let client = scene.client(WAYS[0].1, &[]);
    answer(&scene).unwrap();
    assert_eq!(client.finish(), WAYS[0].2);
}
