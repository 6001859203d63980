//! What a target that speaks SSH may say.

use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFroPIVmyGQWmJFSJMm4oPsLAqwqvNLkAIwjIaE1iOx5";

fn target(lines: &str) -> String {
    let lines = lines.replace("KEY", KEY);
    format!("version: 1\ntargets:\n  web:\n    addresses: ['web:22']\n    ssh: {lines}\n")
}

#[test]
fn each_way_to_log_in_is_read() {
    let ssh = |lines: &str| {
        let config = good(&target(lines));
        let ssh = config.targets["web"].ssh().unwrap();
        Ssh::clone(ssh)
    };
    let learned = ssh("{ user: u, key: { file: k }, host_keys: [learn] }");
    assert_eq!(learned.host_keys, HostKeys::Learn);
    assert!(matches!(learned.login, SshLogin::Key { .. }));
    assert!(learned.passes_on("LC_ALL") && learned.passes_on("LANG"));
    assert!(!learned.passes_on("LANGUAGE") && !learned.passes_on("LD_PRELOAD"));
    assert_eq!(learned.unread, Unread::Refuse);
    let open = ssh("{ user: u, key: { file: k }, host_keys: [learn], unread: pass }");
    assert_eq!(open.unread, Unread::Pass);
    let signed = ssh(
        "{ user: u, sign: { ca: { file: k } }, host_keys: ['@cert-authority KEY', 'KEY'], env: [] }",
    );
    let SshLogin::Sign {
        principals, valid, ..
    } = &signed.login
    else {
        panic!("{signed:?}");
    };
    assert_eq!(
        (principals.as_slice(), *valid),
        (&["u".to_owned()][..], Duration::from_mins(5))
    );
    let HostKeys::Pinned(keys) = &signed.host_keys else {
        panic!("{signed:?}");
    };
    assert_eq!(
        keys.iter().map(|key| key.authority).collect::<Vec<_>>(),
        [true, false]
    );
    assert!(!signed.passes_on("LANG"));
    let elsewhere = ssh(
        "{ user: u, sign: { by: { exec: { command: [/bin/bao, 'k={key}'] } } }, host_keys: ['KEY'] }",
    );
    let SshLogin::Signed(by) = &elsewhere.login else {
        panic!("{elsewhere:?}");
    };
    let SecretSource::Exec { command, .. } = signed_by(by, "ssh-ed25519 AAAA") else {
        panic!("{by:?}");
    };
    assert_eq!(command, ["/bin/bao", "k=ssh-ed25519 AAAA"]);
}

#[test]
fn what_would_open_a_way_around_is_refused() {
    let cases = [
        (
            "{ user: u, host_keys: ['KEY'] }",
            "one of password, key and sign",
        ),
        (
            "{ user: u, key: { file: k }, password: { file: p }, host_keys: ['KEY'] }",
            "one of password, key and sign",
        ),
        (
            "{ user: u, password: { file: p }, host_keys: [learn] }",
            "a password is shown to no server",
        ),
        (
            "{ user: u, key: { file: k }, host_keys: [learn, 'KEY'] }",
            "alone",
        ),
        (
            "{ user: u, sign: { for: 5m }, host_keys: ['KEY'] }",
            "expected one of ca and by",
        ),
        (
            "{ user: u, sign: { by: { file: k } }, host_keys: ['KEY'] }",
            "an exec with {key}",
        ),
        (
            "{ user: u, sign: { by: { exec: { command: [/bin/bao] } } }, host_keys: ['KEY'] }",
            "an exec with {key}",
        ),
        (
            "{ user: u, sign: { by: { exec: { command: [/bin/bao, '{key}'] } }, for: 5m }, host_keys: ['KEY'] }",
            "with ca only",
        ),
        (
            "{ user: u, key: { file: k }, host_keys: [] }",
            "at least one element",
        ),
        (
            "{ user: u, key: { file: k }, host_keys: ['ssh-ed25519 AAAA'] }",
            "@cert-authority",
        ),
        (
            "{ user: u, password: { file: p }, passphrase: { file: k }, host_keys: ['KEY'] }",
            "expected a key with it",
        ),
        (
            "{ user: u, key: { file: k }, host_keys: ['KEY'], env: ['*A'] }",
            "the name of a variable",
        ),
    ];
    for (lines, expected) in cases {
        let text = target(lines);
        let mistakes = parse(&text, Path::new("/etc/interceptor/config.yaml"));
        let said = mistakes.expect_err(lines).to_string();
        assert!(said.contains(expected), "{lines}: {said}");
    }
}

#[test]
fn a_target_speaks_one_protocol() {
    let postgres = "    postgres: { user: u, databases: [d] }\n";
    let both = target("{ user: u, key: { file: k }, host_keys: [learn] }") + postgres;
    let none = "version: 1\ntargets:\n  web: { addresses: ['web:22'] }\n".to_owned();
    for text in [both, none] {
        let mistakes = parse(&text, Path::new("/etc/interceptor/config.yaml"));
        let said = mistakes.expect_err(&text).to_string();
        assert!(
            said.contains("expected one of postgres, http, ssh"),
            "{said}"
        );
    }
}
