//! Proxies: what their files may say, and what they may be the way to.

use super::*;

fn with(more: &str) -> String {
    format!("version: 1\ntargets:\n  p:\n    addresses: ['127.0.0.1:3128']\n    {more}\n")
}

#[test]
fn a_proxy_is_read() {
    for (more, login) in [
        ("proxy: {}", None),
        ("proxy: { user: u, password: { env: X } }", Some("u")),
    ] {
        let config = good(&with(more));
        let proxy = config.targets["p"].proxy().unwrap();
        let user = proxy.login.as_ref().map(|(user, _)| user.as_str());
        assert_eq!(user, login, "{more}");
        assert!(!config.targets["p"].proves_server());
    }
}

#[test]
fn what_is_wrong_with_a_proxy_is_said() {
    for (more, at, expected) in [
        (
            "proxy: { user: u }",
            "targets.p.proxy.password",
            "user and password, or neither",
        ),
        (
            "proxy: { user: 'a:b', password: { env: X } }",
            "targets.p.proxy.user",
            "no colon",
        ),
        (
            "proxy: {}\n    namespace: client",
            "targets.p.namespace",
            "expected namespace daemon",
        ),
        (
            "proxy: { user: u, password: { env: X } }\n    namespace: client",
            "targets.p.namespace",
            "expected namespace daemon",
        ),
        (
            "proxy: {}\n    tls: { mode: verify-full }",
            "targets.p.tls",
            "spoken to in clear",
        ),
    ] {
        let lines = lines(&with(more));
        assert_eq!(lines.len(), 1, "{more}\n{lines:#?}");
        assert!(
            lines[0].contains(at) && lines[0].contains(expected),
            "{more}\n{}",
            lines[0]
        );
    }
    let elsewhere = "version: 1\ntargets:\n  p:\n    addresses: ['proxy.internal:3128']\n    proxy: { user: u, password: { env: X } }\n";
    let lines = lines(elsewhere);
    assert!(
        lines.len() == 1 && lines[0].contains("allow_clear: true"),
        "{lines:#?}"
    );
}

#[test]
fn only_a_server_of_ssh_whose_key_is_known_proves_itself() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let of = |keys: &str, more: &str| {
        format!(
            "version: 1\ntargets:\n  s:\n    addresses: ['a.internal:22']\n    ssh: {{ user: u, key: {{ env: X }}, host_keys: {keys} }}\n{more}"
        )
    };
    assert!(!good(&of("[learn]", "")).targets["s"].proves_server());
    assert!(good(&of(&format!("['{key}']"), "")).targets["s"].proves_server());
    // In a client's namespace it may be the client who shows a key.
    let client = "    namespace: client\n";
    assert!(parsed(&of(&format!("['{key}']"), client)).is_ok());
    let lines = lines(&of("[learn]", client));
    assert!(
        lines.len() == 1 && lines[0].contains("targets.s.namespace"),
        "{lines:#?}"
    );
}
