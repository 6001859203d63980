//! Loopback: a scope talks to its own listeners, and to nobody else's.

use std::net::SocketAddr;

use crate::scene::{Client, Scene, is_idle, server, unique};

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
    for (family, at, protocol, from, to) in rows {
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

/// An address of this host that is not loopback's.
fn own_address() -> String {
    let found = nix::ifaddrs::getifaddrs().unwrap();
    let found = found
        .filter_map(|interface| interface.address)
        .filter_map(|address| address.as_sockaddr_in().map(|v4| v4.ip()))
        .find(|ip| !ip.is_loopback());
    found.expect("an address beside loopback").to_string()
}
