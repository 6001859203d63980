//! The guard: what the other hooks did not let out does not leave; what they did ends with its rule.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use interceptor::capture::{DenyReason, Rule, Verdict};

use crate::scene::{Client, Scene, is_idle, rule, server, unique};

const DIRECTLY: Verdict = Verdict::Direct {
    needs_daemon: false,
};

/// Dials, says `up`, and then sends what it is told.
const TALK: &str = "s = tcp(); s.connect((sys.argv[1], int(sys.argv[2]))); say('up')
while True:
    line = input()
    if not line: break
    s.send(line.encode())";

/// Whether a byte arrives within a moment. The moment only bounds how long a leak is waited for.
fn hears(socket: &mut TcpStream) -> bool {
    socket
        .set_read_timeout(Some(Duration::from_millis(400)))
        .unwrap();
    matches!(socket.read(&mut [0; 9]), Ok(length) if length > 0)
}

fn talk(scene: &Scene, to: SocketAddr) -> Client {
    scene.client(TALK, &[&to.ip().to_string(), &to.port().to_string()])
}

#[test]
fn direct_rules_are_decided_by_the_longest_prefix_and_the_port() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    let wide = |network: &str, port| Rule {
        scope: None,
        network: network.parse().unwrap(),
        port,
        verdict: DIRECTLY,
    };
    let dial = "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))";
    let port = at.port().to_string();
    let own = Rule {
        scope: Some(scene.scope.id),
        ..wide("127.0.0.0/8", None)
    };
    let others = Rule {
        scope: Some(1),
        ..wide("127.0.0.0/8", None)
    };
    let rows = [
        ("the address", rule(at, DIRECTLY), "ok"),
        ("the network", wide("127.0.0.0/8", Some(at.port())), "ok"),
        ("every port", wide("127.0.0.0/8", None), "ok"),
        ("everything", wide("0.0.0.0/0", None), "ok"),
        ("its own scope", own, "ok"),
        ("another scope", others, "EPERM"),
        ("another network", wide("10.0.0.0/8", None), "EPERM"),
        ("another port", wide("127.0.0.0/8", Some(1)), "EPERM"),
    ];
    for (name, rule, expected) in rows {
        scene.capture.set_rules(&[rule]).unwrap();
        assert_eq!(scene.run(dial, &[&port]), expected, "{name}");
        if expected == "ok" {
            target.set_nonblocking(false).unwrap();
            let (_, peer) = target.accept().unwrap();
            assert_ne!(peer.port(), scene.port(), "{name}");
        } else {
            assert!(is_idle(&target), "{name}");
        }
    }
    scene
        .capture
        .set_rules(&[wide("127.0.0.0/8", None), rule(at, Verdict::Redirect)])
        .unwrap();
    let client = scene.client(dial, &[&port]);
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "ok");
}

#[test]
fn a_withdrawn_direct_rule_ends_live_flows() {
    let scene = Scene::new();
    let mut events = scene.events();
    let (target, at) = server("127.0.0.1:0");
    let (_other, elsewhere) = server("127.0.0.1:0");
    scene.rules(&[(at, DIRECTLY)]);
    let mut client = talk(&scene, at);
    assert_eq!(client.line(), "up");
    let (mut socket, _) = target.accept().unwrap();
    client.tell("one");
    assert!(hears(&mut socket));
    // Rules that still cover it let it live.
    scene.rules(&[(at, DIRECTLY), (elsewhere, DIRECTLY)]);
    client.tell("two");
    assert!(hears(&mut socket));
    scene.rules(&[(elsewhere, DIRECTLY)]);
    client.tell("three");
    assert!(!hears(&mut socket));
    let denied = scene.denied(&mut events, DenyReason::Egress);
    assert_eq!((denied.destination, denied.scope), (at, scene.scope.id));
    // Whoever connected, not whoever ran when the packet left.
    assert_eq!(
        (denied.process.tgid, denied.passerby),
        (client.pid(), false)
    );
}

#[test]
fn a_direct_destination_that_becomes_a_target_must_come_through_the_daemon() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.rules(&[(at, DIRECTLY)]);
    let mut client = talk(&scene, at);
    assert_eq!(client.line(), "up");
    let (mut socket, _) = target.accept().unwrap();
    scene.rules(&[(at, DIRECTLY), (at, Verdict::Redirect)]);
    client.tell("one");
    assert!(!hears(&mut socket));
}

#[test]
fn a_connection_from_before_the_tag_is_cut_off() {
    let mut scene = Scene::new();
    let mut events = scene.events();
    let path = scene.cgroup(&unique("late"));
    let (target, at) = server("127.0.0.1:0");
    let (_idle, _) = (server("127.0.0.1:0"), ());
    let mut client = scene.client_at(&path, TALK, &["127.0.0.1", &at.port().to_string()]);
    assert_eq!(client.line(), "up");
    let (mut socket, _) = target.accept().unwrap();
    client.tell("one");
    assert!(hears(&mut socket));
    scene.capture.tag(&path, "late").unwrap();
    client.tell("two");
    assert!(!hears(&mut socket));
    // Nobody knows who opened it, and TCP sends from timers too.
    assert!(scene.denied(&mut events, DenyReason::Egress).passerby);
    scene.capture.untag(&path).unwrap();
    assert!(
        hears(&mut socket),
        "the retransmission passes once the tag is gone"
    );
}

#[test]
fn a_socket_keeps_the_rules_of_where_it_was_made() {
    let scene = Scene::new();
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[at]);
    let script = "s = tcp(); t = tcp(); say('up'); input()
outcome(s.connect, ('10.77.0.1', 5432)); outcome(t.connect, ('10.77.0.9', 80))
f = tcp(); f.settimeout(0.2); outcome(f.connect, ('127.0.0.1', 1))";
    let mut client = scene.client(script, &[]);
    assert_eq!(client.line(), "up");
    std::fs::write(scene.procs(scene.capture.home()), client.pid().to_string()).unwrap();
    client.tell("");
    let (_socket, flow) = scene.accept();
    assert_eq!(
        (flow.scope, flow.process.tgid),
        (scene.scope.id, client.pid())
    );
    assert_ne!(flow.process.cgroup, scene.scope.id);
    assert_eq!(client.finish(), "ok\nEPERM\nECONNREFUSED");
}

#[test]
fn a_process_that_moves_in_is_captured_from_its_next_socket_on() {
    let scene = Scene::new();
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[at]);
    let script = "say('up'); input(); outcome(tcp().connect, ('10.77.0.1', 5432))";
    let mut client = Client::outside(script, &[]);
    assert_eq!(client.line(), "up");
    std::fs::write(scene.procs(&scene.scope.path), client.pid().to_string()).unwrap();
    client.tell("");
    assert_eq!(scene.accept().1.process.tgid, client.pid());
    assert_eq!(client.finish(), "ok");
}

#[test]
fn source_routes_do_not_get_past_the_guard() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.rules(&[(at, DIRECTLY)]);
    // IP_OPTIONS with a loose source route by way of another host (RFC 791 section 3.1).
    let script = "s = tcp(); s.settimeout(0.3)
route = bytes([131, 7, 4]) + socket.inet_aton('127.0.0.5') + b'\\0'
outcome(s.setsockopt, 0, 4, route); outcome(s.connect, ('127.0.0.1', int(sys.argv[1])))";
    let printed = scene.run(script, &[&at.port().to_string()]);
    assert!(
        printed.ends_with("TimeoutError") || printed.ends_with("EPERM"),
        "{printed}"
    );
    assert!(is_idle(&target));
}

#[test]
fn packets_with_options_are_not_let_out() {
    let scene = Scene::new();
    let mut events = scene.events();
    // Four bytes of no operation (RFC 791 section 3.1) read as the ports 257 and 257 where a header's
    // length is taken for granted.
    let (target, at) = server("127.7.7.7:257");
    scene.rules(&[(at, DIRECTLY)]);
    let script = "s = tcp(); s.settimeout(0.3); s.setsockopt(0, 4, bytes([1, 1, 1, 1]))
outcome(s.connect, ('127.7.7.7', 257))";
    assert_eq!(scene.run(script, &[]), "TimeoutError");
    assert!(is_idle(&target));
    scene.denied(&mut events, DenyReason::Egress);
}

#[test]
fn an_answer_flows_both_ways_through_a_redirect_until_both_close() {
    let scene = Scene::new();
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[at]);
    let script = "s = tcp(); s.connect(('10.77.0.1', 5432)); n = 0
for _ in range(64): s.sendall(b'x' * 65536)
s.shutdown(socket.SHUT_WR)
while True:
    got = s.recv(65536)
    if not got: break
    n += len(got)
say(n)";
    let client = scene.client(script, &[]);
    let (mut socket, _) = scene.accept();
    let mut received = Vec::new();
    socket.read_to_end(&mut received).unwrap();
    socket.write_all(&received).unwrap();
    drop(socket);
    assert_eq!(client.finish(), "4194304");
    assert_eq!(scene.capture.refused(DenyReason::Egress).unwrap(), 0);
}
