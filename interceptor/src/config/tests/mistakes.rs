//! Broken text in, every mistake out.

use super::*;

/// What is wrong, where it is said, what is said.
const SAID: &[(&str, &str, &str)] = &[
    (
        "version: 1\nissuers: { a: { saml: { entity_id: x, audiences: [y], recipient: 'https://b.c' } } }",
        "2:23: issuers.a.saml:",
        "either certificates or metadata",
    ),
    (
        "version: 1\nissuers: { a: { saml: { entity_id: x, audiences: [y], recipient: 'https://b.c', metadata: m, certificates: c } } }",
        "2:23: issuers.a.saml:",
        "either certificates or metadata",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'https://b.c', saml: { entity_id: x, audiences: [y], recipient: 'https://b.c', metadata: m } } }",
        "2:17: issuers.a.issuer:",
        "",
    ),
    (
        "version: 1\nissuers: { a: { saml: { entity_id: x, audiences: [y], recipient: 'https://b.c', metadata: m, algorithms: [rsa-sha1] } } }",
        "2:107: issuers.a.saml.algorithms[0]:",
        "expected one of",
    ),
    (
        "version: 1\nissuers:\n  a: { issuer: 'https://b.c', audiences: [x] }\n  b: { saml: { entity_id: https://b.c, audiences: [y], recipient: 'https://b.c', metadata: m } }",
        "4:27: issuers.b.saml.entity_id:",
        "`a` has it",
    ),
    (
        "version: 1\nissuers: { a: { saml: { entity_id: x, metadata: m, audiences: [y] } } }",
        "2:23: issuers.a.saml.recipient:",
        "missing",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'http://10.0.0.1', audiences: [x], allow_http: true } }",
        "2:25: issuers.a.issuer:",
        "expected https",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'http://127.0.0.1', audiences: [x] } }",
        "2:25: issuers.a.issuer:",
        "expected https",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'https://u@b.c', audiences: [x] } }",
        "2:25: issuers.a.issuer:",
        "expected an address such as",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'https://b.c/?q', audiences: [x] } }",
        "2:25: issuers.a.issuer:",
        "without a query",
    ),
    (
        "version: 1\nissuers:\n  a: { issuer: 'https://b.c', audiences: [x] }\n  b: { issuer: 'https://b.c', audiences: [x] }",
        "4:16: issuers.b.issuer:",
        "`a` has it already",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'https://b.c' } }",
        "2:15: issuers.a.audiences:",
        "missing",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'https://b.c', audiences: [x, x] } }",
        "2:51: issuers.a.audiences:",
        "each audience once",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'https://b.c', audiences: [x], algorithms: [none] } }",
        "2:69: issuers.a.algorithms[0]:",
        "expected one of RS256",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'https://b.c', audiences: [x], algorithms: [HS256] } }",
        "2:69: issuers.a.algorithms[0]:",
        "expected one of RS256",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'https://b.c', audiences: [x], scopes: [profile] } }",
        "2:64: issuers.a.scopes:",
        "expected openid",
    ),
    (
        "version: 1\nissuers: { a: { issuer: 'https://b.c', audiences: [x], claims: { keep: [a, a] } } }",
        "2:72: issuers.a.claims.keep:",
        "each claim once",
    ),
    ("{}", "1:1: version:", "missing"),
    ("version: 2", "1:10: version:", "expected 1"),
    ("version: '1'", "1:10: version:", "expected 1"),
    ("version: 1\nversion: 1", "2:1: version:", "said again"),
    (
        "version: 1\ntarget: {}",
        "2:1: target:",
        "unknown key `target`; expected one of version, paths",
    ),
    ("version: 1\ndrain: 10", "2:8: drain:", "unit"),
    (
        "version: 1\ndrain: 10 parsecs",
        "2:8: drain:",
        "such as 500ms, 10s",
    ),
    ("version: 1\ndrain: 2h", "2:8: drain:", "to 3600 s"),
    ("version: 1\ndrain: [10s]", "2:8: drain:", "found a list"),
    (
        "version: 1\nmetrics: localhost:9464",
        "2:10: metrics:",
        "127.0.0.1:9464",
    ),
    (
        "version: 1\nmetrics: 127.0.0.1:0",
        "2:10: metrics:",
        "port from 1",
    ),
    (
        "version: 1\nscopes: {}",
        "2:9: scopes:",
        "expected a list, found a map",
    ),
    (
        "version: 1\nscopes: [{ cgroup: /a, agent: x }]",
        "2:20: scopes[0].cgroup:",
        "no leading slash",
    ),
    (
        "version: 1\nscopes: [{ cgroup: a/../b, agent: x }]",
        "2:20: scopes[0].cgroup:",
        "no `..`",
    ),
    (
        "version: 1\nscopes: [{ cgroup: a//b, agent: x }]",
        "2:20: scopes[0].cgroup:",
        "no empty part",
    ),
    (
        "version: 1\nscopes: [{ cgroup: a, agent: X_1 }]",
        "2:30: scopes[0].agent:",
        "a-z, 0-9 and -",
    ),
    (
        "version: 1\nscopes: [{ match: { container_label: '=x' }, agent: x }]",
        "2:38: scopes[0].match.container_label:",
        "NAME=VALUE",
    ),
    (
        "version: 1\nscopes: [{ match: {}, agent: x }]",
        "2:19: scopes[0].match.container_label:",
        "missing",
    ),
    (
        "version: 1\ncontainers: { state: [relative] }",
        "2:23: containers.state[0]:",
        "expected a whole path",
    ),
    (
        "version: 1\nscopes: [{ cgroup: a }]",
        "2:10: scopes[0].agent:",
        "missing",
    ),
    (
        "version: 1\nagents: { Claude: {} }",
        "2:11: agents.Claude:",
        "a-z, 0-9 and -",
    ),
    (
        "version: 1\nagents: { a: { sessions: 0 } }",
        "2:26: agents.a.sessions:",
        "`unlimited` lifts",
    ),
    (
        "version: 1\nagents: { a: { sessions: -1 } }",
        "2:26: agents.a.sessions:",
        "number from 1",
    ),
    (
        "version: 1\nagents: { a: { sessions: 99999999999999999999 } }",
        "2:26: agents.a.sessions:",
        "number from 1",
    ),
    (
        "version: 1\nagents: { a: { allow_privileged: yes } }",
        "2:34: agents.a.allow_privileged:",
        "true or false",
    ),
    (
        "version: 1\naudit: { segment: 0B }",
        "2:19: audit.segment:",
        "size from 65536",
    ),
    (
        "version: 1\naudit: { segment: 64mb }",
        "2:19: audit.segment:",
        "64MiB",
    ),
    (
        "version: 1\naudit: { durability: lax }",
        "2:22: audit.durability:",
        "one of relaxed, strict",
    ),
    (
        "version: 1\ndirect: [{ network: 10.0.0.1/8 }]",
        "2:21: direct[0].network:",
        "10.0.0.0/8 or 10.0.0.1",
    ),
    (
        "version: 1\ndirect: [{ network: 10.0.0.0/33 }]",
        "2:21: direct[0].network:",
        "expected a network",
    ),
    (
        "version: 1\ndirect: [{ network: 10.0.0.0/8, port: 0 }]",
        "2:39: direct[0].port:",
        "from 1 to 65535",
    ),
    (
        "version: 1\ndirect: [{ network: 10.0.0.0/8, agents: [a, A] }]",
        "2:45: direct[0].agents[1]:",
        "a-z",
    ),
    (
        "version: 1\ndirect: [{ network: 10.0.0.0/8, agents: [] }]",
        "2:41: direct[0].agents:",
        "or no key at all",
    ),
    (
        "version: 1\nresolvers: [{ address: 127.0.0.53 }]",
        "2:24: resolvers[0].address:",
        "and port",
    ),
    (
        "version: 1\npaths: { state: ../x }",
        "2:17: paths.state:",
        "without `..`",
    ),
    (
        "version: 1\ntargets: { t: }",
        "2:12: targets.t.addresses:",
        "missing",
    ),
];

#[test]
fn one_mistake_is_said_with_line_column_key_and_expectation() {
    for (text, at, expected) in SAID {
        let found = lines(text);
        assert!(
            found[0].starts_with(at),
            "{text}\n{} does not start with {at}",
            found[0]
        );
        assert!(
            found[0].contains(expected),
            "{text}\n{} does not say {expected}",
            found[0]
        );
        let more = usize::from(text.contains("t: }"));
        assert_eq!(found.len(), 1 + more, "{text}\n{found:#?}");
    }
}

/// What is wrong, where it is said, what is said.
const TARGETS: &[(&str, &str, &str)] = &[
    (
        "addresses: [db]",
        "4:17: targets.t.addresses[0]:",
        "db.internal:5432",
    ),
    (
        "addresses: ['db:0']",
        "4:17: targets.t.addresses[0]:",
        "port from 1",
    ),
    (
        "addresses: ['0.0.0.0:5432']",
        "4:17: targets.t.addresses[0]:",
        "one host",
    ),
    (
        "addresses: ['fd00::5:5432']",
        "4:17: targets.t.addresses[0]:",
        "[fd00::5]:5432",
    ),
    (
        "addresses: ['10.0.0.256:5432']",
        "4:17: targets.t.addresses[0]:",
        "10.0.0.5:5432",
    ),
    (
        "addresses: ['unix:run/x']",
        "4:17: targets.t.addresses[0]:",
        "whole path",
    ),
    (
        "addresses: ['unix:/run/../x']",
        "4:17: targets.t.addresses[0]:",
        "without `..`",
    ),
    (
        "dial: { hosts: ['unix:@x'] }",
        "6:21: targets.t.dial.hosts[0]:",
        "whole path",
    ),
    (
        "dial: { hosts: ['*.x:1'] }",
        "6:21: targets.t.dial.hosts[0]:",
        "db.internal:5432",
    ),
    (
        "addresses: []",
        "4:16: targets.t.addresses:",
        "at least one",
    ),
    (
        "postgres: { user: u, databases: [] }",
        "5:37: targets.t.postgres.databases:",
        "at least one",
    ),
    (
        "postgres: { user: u }",
        "5:15: targets.t.postgres.databases:",
        "missing",
    ),
    (
        "postgres: { user: u, databases: [d, d] }",
        "5:37: targets.t.postgres.databases:",
        "once",
    ),
    (
        "postgres: { user: u, databases: [1] }",
        "5:38: targets.t.postgres.databases[0]:",
        "in quotes",
    ),
    (
        "postgres: { user: u, databases: [true] }",
        "5:38: targets.t.postgres.databases[0]:",
        "in quotes",
    ),
    (
        "postgres: { user: u, databases: [d], md5: true }",
        "5:42: targets.t.postgres.md5:",
        "unknown key `md5`",
    ),
    (
        "tls: { mode: prefer }",
        "6:18: targets.t.tls.mode:",
        "verify-ca, verify-full",
    ),
    (
        "tls: { mode: require, ca: x.pem }",
        "6:31: targets.t.tls.ca:",
        "nothing is verified otherwise",
    ),
    (
        "tls: { mode: verify-ca, server_name: x }",
        "6:42: targets.t.tls.server_name:",
        "verify-full with it",
    ),
    (
        "tls: { certificate: x.pem }",
        "6:25: targets.t.tls.certificate:",
        "tls.key with it",
    ),
    (
        "tls: { mode: disable, key: { env: K } }",
        "6:32: targets.t.tls.key:",
        "another tls.mode",
    ),
    (
        "tls: { mode: disable, negotiation: direct }",
        "6:40: targets.t.tls.negotiation:",
        "another tls.mode",
    ),
    (
        "tls: { key: { exec: { command: [fetch] } } }",
        "6:17: targets.t.tls.key.exec.command[0]:",
        "absolute path",
    ),
    (
        "postgres: { user: u, databases: [d], require_scram: true }",
        "5:57: targets.t.postgres.require_scram:",
        "a password with it",
    ),
    (
        "postgres: { user: u, password: { env: P }, databases: [d], require_scram: true, allow_md5: true }",
        "5:79: targets.t.postgres.require_scram:",
        "not both",
    ),
    (
        "postgres: { user: u, databases: [d], client_auth: password }",
        "5:55: targets.t.postgres.client_auth:",
        "trust, scram",
    ),
    (
        "dial: { hosts: [db] }",
        "6:21: targets.t.dial.hosts[0]:",
        "db.internal:5432",
    ),
    (
        "dial: { hosts: ['a:1', 'b:2', 'a:1'] }",
        "6:20: targets.t.dial.hosts:",
        "each host once",
    ),
    (
        "dial: { hosts: [] }",
        "6:20: targets.t.dial.hosts:",
        "at least one",
    ),
    (
        "dial: { order: shuffled }",
        "6:20: targets.t.dial.order:",
        "listed, random",
    ),
    (
        "namespace: client\n    dial: { hosts: ['a:1'] }",
        "7:20: targets.t.dial.hosts:",
        "namespace daemon",
    ),
    (
        "postgres: { user: u, databases: [d], session_attrs: write }",
        "5:57: targets.t.postgres.session_attrs:",
        "read-write",
    ),
    (
        "postgres: { user: u, databases: [d], pooler: transaction }",
        "5:50: targets.t.postgres.pooler:",
        "none, session",
    ),
    (
        "postgres: { user: u, databases: [d], warm: { age: 0s } }",
        "5:55: targets.t.postgres.warm.age:",
        "duration from 1000 ms",
    ),
    (
        "postgres: { user: u, databases: [d], warm: { connections: 65 } }",
        "5:63: targets.t.postgres.warm.connections:",
        "from 0 to 64",
    ),
    (
        "namespace: client\n    tls: { mode: require }",
        "6:16: targets.t.namespace:",
        "may control its network",
    ),
    (
        "namespace: client\n    tls: { mode: verify-ca }",
        "6:16: targets.t.namespace:",
        "verify-ca with tls.ca",
    ),
    (
        "statement: all",
        "6:16: targets.t.statement:",
        "none, redacted, full",
    ),
    (
        "timeouts: { dial: 0s }",
        "6:23: targets.t.timeouts.dial:",
        "duration from 1 ms",
    ),
    ("protocol: mysql", "6:5: targets.t.protocol:", "unknown key"),
];

#[test]
fn a_target_is_checked_to_its_last_key() {
    for (row, at, expected) in TARGETS {
        check_one(&target_with(row), at, expected);
    }
}

/// A target in which the row's keys replace those of the same name: addresses on line 4, postgres on line 5.
fn target_with(row: &str) -> String {
    let line = |key: &str, usual: &str| {
        if row.starts_with(key) {
            row.to_owned()
        } else {
            usual.to_owned()
        }
    };
    let addresses = line("addresses", "addresses: ['db.internal:5432']");
    let postgres = line("postgres", "postgres: { user: u, databases: [d] }");
    let replaced = row.starts_with("addresses") || row.starts_with("postgres");
    let rest = if replaced { "" } else { row };
    format!("version: 1\ntargets:\n  t:\n    {addresses}\n    {postgres}\n    {rest}\n")
}

#[test]
fn a_secret_has_exactly_one_source_and_is_never_repeated() {
    let rows: &[(&str, &str, &str)] = &[
        (
            "hunter2",
            "password:",
            "exactly one of file, env, exec, credential as a map, found text",
        ),
        ("{}", "password:", "exactly one of"),
        ("{ file: a, env: B }", "password:", "exactly one of"),
        ("{ vault: hunter2 }", "password.vault:", "unknown key"),
        ("{ file: ../hunter2 }", "password.file:", "without `..`"),
        (
            "{ file: /run/interceptor/hunter2 }",
            "password.file:",
            "agents can see",
        ),
        (
            "{ file: config.yaml }",
            "password.file:",
            "not this configuration",
        ),
        ("{ env: 'hunter2=' }", "password.env:", "name of a variable"),
        (
            "{ credential: a/hunter2 }",
            "password.credential:",
            "without a slash",
        ),
        (
            "{ exec: { command: [hunter2] } }",
            "password.exec.command[0]:",
            "absolute path",
        ),
        (
            "{ exec: { command: [] } }",
            "password.exec.command:",
            "at least one",
        ),
        (
            "{ exec: { command: [/bin/x], timeout: 0s } }",
            "password.exec.timeout:",
            "from 1 ms to 60 s",
        ),
        ("{ exec: hunter2 }", "password.exec:", "expected a map"),
    ];
    for (source, key, expected) in rows {
        let text = target_with(&format!(
            "postgres: {{ user: u, databases: [d], password: {source} }}"
        ));
        let found = lines(&text);
        let key = format!("targets.t.postgres.{key}");
        assert!(
            found
                .iter()
                .any(|line| line.contains(&key) && line.contains(expected)),
            "{source}: {found:#?}"
        );
        assert!(
            !found.iter().any(|line| line.contains("hunter2")),
            "{found:#?}"
        );
    }
}

#[test]
fn values_that_lead_around_the_daemon_together_are_refused() {
    let target = |address: &str| {
        format!(
            "version: 1\ntargets:\n  t:\n    addresses: ['{address}']\n    postgres: {{ user: u, databases: [d] }}\n"
        )
    };
    let rows: &[(&str, &str, &str)] = &[
        (
            "10.0.0.5:5432",
            "direct: [{ network: 10.0.0.0/8 }]",
            "6:10: direct[0]: expected a network without targets; this one covers target `t`",
        ),
        (
            "10.0.0.5:5432",
            "direct: [{ network: 10.0.0.5, port: 5432, agents: [a] }]",
            "6:10: direct[0]: expected a network without",
        ),
        (
            "10.0.0.5:5432",
            "direct: [{ network: '::ffff:10.0.0.0/104' }]",
            "6:10: direct[0]: expected a network without",
        ),
        (
            "[::ffff:10.0.0.5]:5432",
            "direct: [{ network: 10.0.0.0/8 }]",
            "6:10: direct[0]: expected a network without",
        ),
        (
            "[fd00::5]:5432",
            "direct: [{ network: '::/0', port: 5432 }]",
            "6:10: direct[0]: expected a network without",
        ),
        (
            "10.0.0.5:53",
            "resolvers: [{ address: '10.0.0.5:53' }]",
            "6:13: resolvers[0]: expected a DNS server; this is target `t`",
        ),
        (
            "127.0.0.1:9464",
            "metrics: 127.0.0.1:9464",
            "6:10: metrics: expected an address of its own",
        ),
        (
            "127.0.0.1:9464",
            "metrics: 0.0.0.0:9464",
            "6:10: metrics: expected an address of its own",
        ),
    ];
    for (address, row, expected) in rows {
        check_one(&format!("{}{row}\n", target(address)), expected, "");
    }
    for row in [
        "direct: [{ network: 10.0.0.5, port: 443 }]",
        "direct: [{ network: 10.0.1.0/24 }]",
    ] {
        let _config = good(&format!("{}{row}\n", target("10.0.0.5:5432")));
    }
}

#[test]
fn the_console_is_for_this_host_or_under_tls_and_answers_come_back_to_it() {
    let rows: &[(&str, &str)] = &[
        (
            "version: 1\nconsole: { listen: '192.0.2.1:1' }",
            "2:20: console.listen: expected a loopback address, or tls with it",
        ),
        (
            "version: 1\nconsole: { listen: '127.0.0.1:1', url: 'https://x:1' }",
            "2:40: console.url: expected https with tls, and http without",
        ),
        (
            "version: 1\nconsole: { listen: '127.0.0.1:1', url: 'http://x:1/y' }",
            "2:40: console.url: expected an address without a path",
        ),
        (
            "version: 1\nconsole: { listen: '[::]:1', tls: { certificate: c, key: { env: K } } }",
            "2:10: console.url: expected the address that browsers are told",
        ),
        (
            "version: 1\nconsole: { listen: '127.0.0.1:1', login: { issuer: x } }",
            "2:52: console.login.issuer: expected the name of one of issuers",
        ),
        (
            "version: 1\nmetrics: 127.0.0.1:1\nconsole: { listen: '127.0.0.1:1' }",
            "3:20: console.listen: expected an address of its own",
        ),
        (
            "version: 1\napprovals: { webhook: { url: 'http://192.0.2.1/x', secret: { env: S }, allow_http: true } }",
            "2:30: approvals.webhook.url: expected https; http is for loopback",
        ),
        (
            "version: 1\napprovals: { webhook: { url: 'https://x', secret: { env: S }, people: [{ id: U, name: n, groups: [g] }] } }",
            "2:71: approvals.webhook.people: expected console with it",
        ),
    ];
    for (text, expected) in rows {
        check_one(text, expected, "");
    }
}

#[test]
fn a_scope_is_a_cgroup_or_containers_and_never_both() {
    for (text, at) in [
        ("[{ cgroup: a, agent: x }, { agent: y }]", "2:35: scopes[1]"),
        (
            "[{ cgroup: a, match: { container_label: b }, agent: x }]",
            "2:10: scopes[0]",
        ),
    ] {
        let found = lines(&format!("version: 1\nscopes: {text}"));
        assert_eq!(found, [format!("{at}: expected one of cgroup and match")]);
    }
}

#[test]
fn targets_scopes_and_directories_must_not_overlap() {
    let two = "version: 1\ntargets:
  a: { addresses: ['db:1', 'db:2'], postgres: { user: u, databases: [d] } }
  b: { addresses: ['DB.:2'], postgres: { user: u, databases: [d] } }\n";
    let long = format!("version: 1\npaths: {{ run: /{} }}", "x".repeat(100));
    let sockets = "version: 1\ntargets:
  a: { addresses: ['unix:/run/x'], postgres: { user: u, databases: [d] } }
  b: { addresses: ['unix:/var/run/x'], postgres: { user: u, databases: [d] } }\n";
    let rows: &[(&str, &str)] = &[
        (
            sockets,
            "4:3: targets.b.addresses: expected a socket of its own; target `a` has /var/run/x",
        ),
        (
            "version: 1\ntargets:\n  a: { addresses: ['unix:/run/x'], http: { hosts: [a] } }",
            "3:19: targets.a.addresses: expected a target with postgres",
        ),
        (
            "version: 1\ntargets:\n  a: { namespace: client, addresses: ['127.0.0.1:1'], tls: { mode: disable }, postgres: { user: u, password: { env: X }, databases: [d] } }",
            "3:19: targets.a.namespace: expected tls.mode verify-full, or verify-ca with tls.ca, or loopback addresses and no secret",
        ),
        (
            "version: 1\ntargets:\n  a: { namespace: client, addresses: ['unix:/x'], postgres: { user: u, databases: [d] } }",
            "3:19: targets.a.namespace: expected namespace daemon with UNIX sockets",
        ),
        (
            two,
            "4:20: targets.b.addresses[0]: expected an address of its own; target `a` has it",
        ),
        (
            "version: 1\nscopes: [{ cgroup: a, agent: x }, { cgroup: a, agent: y }]",
            "2:35: scopes[1]: expected a cgroup of its own; scopes[0]",
        ),
        (
            "version: 1\ndaemon_cgroup: a/b\nscopes: [{ cgroup: a, agent: x }]",
            "3:10: scopes[0]: expected a cgroup without the daemon's",
        ),
        (
            "version: 1\ndaemon_cgroup: agents.slice",
            "2:16: daemon_cgroup: expected a cgroup that does not hold run_parent",
        ),
        (
            "version: 1\ndirect: [{ network: 127.0.0.0/8 }]\nmetrics: 127.0.0.1:1",
            "2:10: direct[0]: expected a network without the daemon's metrics",
        ),
        (
            "version: 1\npaths: { state: /run/interceptor/state }",
            "2:17: paths.state: expected a directory outside of paths.run",
        ),
        (
            "version: 1\npaths: { run: /var/lib/interceptor }",
            "2:15: paths.run: expected a directory outside of paths.state",
        ),
        (
            "version: 1\npaths: { bpffs: /run/interceptor/x }",
            "2:17: paths.bpffs: expected a directory of its own",
        ),
        (&long, "2:15: paths.run: expected a path short enough"),
    ];
    for (text, expected) in rows {
        let found = lines(text);
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
    let _config = good(
        "version: 1\ndaemon_cgroup: ab\nscopes: [{ cgroup: a, agent: x }, { cgroup: a/b, agent: y }]",
    );
}

#[test]
fn all_mistakes_are_said_at_once_in_the_files_order() {
    let text = "
version: 3
drian: 10s
scopes:
  - cgroup: /sys/fs/cgroup/x
    agent: Bad Name
targets:
  t:
    addresses: ['10.0.0.5:5432', 'nope']
    postgres:
      user: 5
      password: { vault: x }
      databases: d
    tls: { mode: yolo }
direct:
  - network: 10.0.0.0/8
    needs_daemon: maybe
";
    let found = lines(text);
    let expected = [
        "2:10: version:",
        "3:1: drian:",
        "5:13: scopes[0].cgroup:",
        "6:12: scopes[0].agent:",
        "9:34: targets.t.addresses[1]:",
        "11:13: targets.t.postgres.user:",
        "12:19: targets.t.postgres.password.vault:",
        "13:18: targets.t.postgres.databases:",
        "14:18: targets.t.tls.mode:",
        "16:5: direct[0]:",
        "17:19: direct[0].needs_daemon:",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            found.starts_with(expected),
            "{found} does not start with {expected}"
        );
    }
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_line() {
    let deep = format!("version: {}1{}", "[".repeat(200), "]".repeat(200));
    let rows: &[(&str, &str)] = &[
        ("version: 1\ndrain: [", "2:"),
        ("version: 1\n\tdrain: 1s", "1:"),
        ("version: 1\ndrain: !secret x", "2:"),
        ("version: 1\na: &a { b: 1 }\nc: { <<: *a }", "3:"),
        ("version: 1\n---\nversion: 1", "3:"),
        (&deep, "1:"),
    ];
    for (text, at) in rows {
        let mistakes = parsed(text).expect_err("should not load");
        assert_eq!(mistakes.all.len(), 1, "{mistakes}");
        let place = mistakes.all[0]
            .place
            .map(|place| format!("{}:", place.line));
        assert_eq!(place.as_deref(), Some(*at), "{mistakes}");
    }
    for text in ["", "# nothing", "null", "[]", "1"] {
        let mistakes = parsed(text).expect_err("should not load");
        assert!(
            mistakes.to_string().contains("expected a map"),
            "{text}: {mistakes}"
        );
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        let ten = vec![below; 10].join(", ");
        text += &format!("a{level}: &a{level} [{ten}]\n");
    }
    let mistakes = parsed(&text).expect_err("should not load");
    assert!(mistakes.to_string().contains("expected YAML"), "{mistakes}");
}
