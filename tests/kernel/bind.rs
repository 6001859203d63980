//! Binds: a scope sits neither where a target is dialled nor where the daemon is.

use std::net::SocketAddr;

use interceptor::capture::{DenyReason, Rule, Verdict};

use crate::scene::{Scene, rule};

fn bind(family: &str, address: &str, port: u16) -> String {
    format!("s = tcp({family}); s.setsockopt(1, 15, 1); outcome(s.bind, ('{address}', {port}))")
}

#[test]
fn a_scope_cannot_bind_a_targets_address() {
    let scene = Scene::new();
    let mut events = scene.events();
    let local: SocketAddr = "127.0.0.1:25432".parse().unwrap();
    let remote: SocketAddr = "10.77.0.1:25433".parse().unwrap();
    let others = Rule {
        scope: Some(1),
        ..rule("127.0.0.1:25434".parse().unwrap(), Verdict::Redirect)
    };
    let rules = [
        rule(local, Verdict::Redirect),
        rule(remote, Verdict::Redirect),
        others,
    ];
    scene.capture.set_rules(&rules).unwrap();
    let (v4, v6) = ("socket.AF_INET", "socket.AF_INET6");
    let rows = [
        ("the target", bind(v4, "127.0.0.1", 25432), "EPERM"),
        (
            "the target, mapped",
            bind(v6, "::ffff:127.0.0.1", 25432),
            "EPERM",
        ),
        ("every address", bind(v4, "0.0.0.0", 25432), "EPERM"),
        ("every address, v6", bind(v6, "::", 25432), "EPERM"),
        (
            "every address, mapped",
            bind(v6, "::ffff:0.0.0.0", 25432),
            "EPERM",
        ),
        (
            "another scope's target",
            bind(v4, "127.0.0.1", 25434),
            "EPERM",
        ),
        (
            "another loopback address",
            bind(v4, "127.0.0.2", 25432),
            "ok",
        ),
        ("a remote target's port", bind(v4, "0.0.0.0", 25433), "ok"),
        ("any port", bind(v4, "127.0.0.1", 0), "ok"),
    ];
    for (name, script, expected) in rows {
        assert_eq!(scene.run(&script, &[]), expected, "{name}");
    }
    let denied = scene.denied(&mut events, DenyReason::Bind);
    assert_eq!(denied.destination, local);
    scene.capture.set_rules(&[]).unwrap();
    assert_eq!(scene.run(&bind(v4, "127.0.0.1", 25432), &[]), "ok");
}

#[test]
fn a_scope_cannot_take_the_daemons_port() {
    let mut scene = Scene::new();
    let target: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[target]);
    let port = scene.port();
    scene.kill();
    for (family, address) in [
        ("socket.AF_INET", "127.0.0.1"),
        ("socket.AF_INET", "0.0.0.0"),
        ("socket.AF_INET6", "::1"),
        ("socket.AF_INET6", "::"),
    ] {
        assert_eq!(
            scene.run(&bind(family, address, port), &[]),
            "EPERM",
            "{address}"
        );
    }
    let nobody = format!(
        "os.setuid(65534); {}",
        bind("socket.AF_INET", "127.0.0.1", port)
    );
    let stranger = crate::scene::Client::outside(&nobody, &[]);
    assert_eq!(stranger.finish(), "EACCES");
}

#[test]
fn a_squatter_outside_gets_no_connection() {
    let mut scene = Scene::new();
    let target: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[target]);
    let port = scene.port();
    scene.kill();
    // Root outside every scope may bind it; the programs know that it is not ours.
    // A child of another test has the listener, too, between its fork and its exec.
    let squatter = support::wait::for_fact("a free port", support::DEADLINE, || {
        Ok(std::net::TcpListener::bind(("127.0.0.1", port)).ok())
    });
    let squatter = squatter.unwrap();
    let script = "outcome(tcp().connect, ('10.77.0.1', 5432))";
    assert_eq!(scene.run(script, &[]), crate::scene::told("ECONNREFUSED"));
    assert!(crate::scene::is_idle(&squatter));
}

#[test]
fn a_target_bound_in_a_roundabout_way_is_not_answered() {
    let scene = Scene::new();
    // Bound before it became a target, as an ephemeral port can be.
    let script =
        "s = tcp(); s.bind(('127.0.0.1', 0)); s.listen(); say(s.getsockname()[1]); input()";
    let mut squatter = scene.client(script, &[]);
    let port: u16 = squatter.line().parse().unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let dial = "s = tcp(); s.settimeout(0.3); outcome(s.connect, ('127.0.0.1', int(sys.argv[1])))";
    let port = port.to_string();
    assert_eq!(crate::scene::Client::outside(dial, &[&port]).finish(), "ok");
    scene.redirect(&[at]);
    assert_eq!(
        crate::scene::Client::outside(dial, &[&port]).finish(),
        "TimeoutError"
    );
}

#[test]
fn a_port_of_the_daemon_on_every_address_is_out_of_reach_on_each_until_it_moves() {
    let scene = Scene::new();
    let directly = |network: &str| Rule {
        network: network.parse().unwrap(),
        port: None,
        scope: None,
        verdict: Verdict::Direct {
            needs_daemon: false,
        },
    };
    let rules = ["127.0.0.0/8", "::1/128"].map(directly);
    scene.capture.set_rules(&rules).unwrap();
    let (_metrics, at) = crate::scene::server("[::]:0");
    let port = at.port();
    let hosts = [
        "127.0.0.1",
        "127.9.9.9",
        "::ffff:127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
    ];
    let dial = "for host in sys.argv[2:]:
    outcome(tcp(socket.AF_INET6 if ':' in host else socket.AF_INET).connect, (host, int(sys.argv[1])))";
    let text = port.to_string();
    let words = [[text.as_str()].as_slice(), &hosts].concat();
    let ways = |expected: &str| assert_eq!(scene.run(dial, &words), [expected; 6].join("\n"));
    ways("ok");
    for every in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
        let own = SocketAddr::new(every.parse().unwrap(), port);
        scene.capture.reserve(&[own]).unwrap();
        ways("EPERM");
        for (family, host) in [("socket.AF_INET", "127.0.0.1"), ("socket.AF_INET6", "::1")] {
            assert_eq!(
                scene.run(&bind(family, host, port), &[]),
                "EPERM",
                "{every}"
            );
        }
        // It moves, and what it leaves is free.
        let next = SocketAddr::new(own.ip(), 9);
        scene.capture.reserve(&[next]).unwrap();
        ways("ok");
    }
    // A target's address stays one.
    let target = SocketAddr::from(([127, 0, 0, 1], port));
    let redirect = rule(target, Verdict::Redirect);
    scene.capture.set_rules(&[redirect]).unwrap();
    scene.capture.reserve(&[target]).unwrap();
    scene.capture.reserve(&[]).unwrap();
    let bound = scene.run(&bind("socket.AF_INET", "127.0.0.1", port), &[]);
    assert_eq!(bound, "EPERM");
}

#[test]
fn what_the_daemon_dials_itself_cannot_be_bound() {
    let scene = Scene::new();
    let script =
        "s = tcp(); s.bind(('127.0.0.1', 0)); s.listen(); say(s.getsockname()[1]); input()";
    let mut squatter = scene.client(script, &[]);
    let before: u16 = squatter.line().parse().unwrap();
    let before = SocketAddr::from(([127, 0, 0, 1], before));
    let at: SocketAddr = "127.0.0.1:25436".parse().unwrap();
    let wide = Rule {
        network: "127.0.0.0/8".parse().unwrap(),
        ..rule(
            at,
            Verdict::Direct {
                needs_daemon: false,
            },
        )
    };
    let rules = [
        rule(at, Verdict::Dialled),
        rule(before, Verdict::Dialled),
        wide,
    ];
    scene.capture.set_rules(&rules).unwrap();
    let (v4, v6) = ("socket.AF_INET", "socket.AF_INET6");
    for script in [
        bind(v4, "127.0.0.1", 25436),
        bind(v6, "::ffff:127.0.0.1", 25436),
        bind(v4, "0.0.0.0", 25436),
        bind(v6, "::", 25436),
    ] {
        assert_eq!(scene.run(&script, &[]), "EPERM", "{script}");
    }
    // Who sat there before is not answered for.
    let dial = "s = tcp(); s.settimeout(0.3); outcome(s.connect, ('127.0.0.1', int(sys.argv[1])))";
    let port = before.port().to_string();
    let tried = crate::scene::Client::outside(dial, &[&port]).finish();
    assert_eq!(tried, "TimeoutError");
    // It opens nothing, and shuts nothing that another rule opens.
    let _server = std::net::TcpListener::bind(at).unwrap();
    let dial = "outcome(tcp().connect, ('127.0.0.1', 25436))";
    assert_eq!(scene.run(dial, &[]), "ok");
    scene
        .capture
        .set_rules(&[rule(at, Verdict::Dialled)])
        .unwrap();
    assert_eq!(scene.run(dial, &[]), "EPERM");
}

#[test]
fn addresses_of_the_daemon_are_out_of_reach() {
    let scene = Scene::new();
    let mut events = scene.events();
    let (_metrics, at) = crate::scene::server("127.0.0.1:0");
    scene.capture.reserve(&[at]).unwrap();
    let open = Rule {
        network: "127.0.0.0/8".parse().unwrap(),
        port: None,
        scope: None,
        verdict: Verdict::Direct {
            needs_daemon: false,
        },
    };
    scene.capture.set_rules(&[open]).unwrap();
    let dial = "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))";
    assert_eq!(scene.run(dial, &[&at.port().to_string()]), "EPERM");
    assert_eq!(
        scene.denied(&mut events, DenyReason::Listener).destination,
        at
    );
    assert_eq!(
        scene.run(&bind("socket.AF_INET", "127.0.0.1", at.port()), &[]),
        "EPERM"
    );
}
