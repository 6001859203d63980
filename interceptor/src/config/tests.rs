use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::*;

const FILE: &str = "/etc/interceptor/config.yaml";

/// A target that is fine but for what the row changes.
const TARGET: &str = "
targets:
  t:
    addresses: ['db.internal:5432']
    postgres: { user: u, databases: [d] }
";

fn parsed(text: &str) -> Result<Config, Mistakes> {
    parse(text, Path::new(FILE))
}

fn good(text: &str) -> Config {
    parsed(text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn lines(text: &str) -> Vec<String> {
    let mistakes = parsed(text).expect_err("should not load");
    let text = mistakes.to_string();
    text.lines()
        .map(|line| {
            line.strip_prefix(&format!("{FILE}:"))
                .unwrap_or(line)
                .to_owned()
        })
        .collect()
}

/// The text gives exactly one mistake; it begins with `line:column: key:` and says `expected`.
fn check_one(text: &str, at: &str, expected: &str) {
    let lines = lines(text);
    assert_eq!(lines.len(), 1, "{text}\n{lines:#?}");
    assert!(
        lines[0].starts_with(at),
        "{text}\n{} does not start with {at}",
        lines[0]
    );
    assert!(
        lines[0].contains(expected),
        "{text}\n{} does not say {expected}",
        lines[0]
    );
}

#[test]
fn the_example_loads_and_says_what_it_looks_like() {
    let config = good(EXAMPLE);
    assert_eq!(
        config.paths.policies,
        Path::new("/etc/interceptor/policies")
    );
    assert_eq!(
        config.scopes[0],
        Scope {
            cgroup: "agents.slice/claude".into(),
            agent: "claude".into()
        }
    );
    assert_eq!(config.agent("claude").requests_per_second, Some(50));
    assert_eq!(config.agent("ci").sessions, None);
    assert_eq!(config.agent("ci").connections, Some(256));
    assert_eq!(config.agent("tagged-by-hand"), Agent::default());
    let orders = &config.targets["orders"];
    assert_eq!(
        orders.addresses[0],
        Address {
            host: Host::Name("db.internal".into()),
            port: 5432
        }
    );
    assert_eq!(
        orders.addresses[2],
        Address {
            host: Host::Ip("fd00::5".parse().unwrap()),
            port: 5432
        }
    );
    assert_eq!(
        orders.tls.ca.as_deref(),
        Some(Path::new("/etc/interceptor/db-roots.pem"))
    );
    assert_eq!(orders.timeouts.idle, Some(Duration::from_secs(3600)));
    let sources: Vec<_> = config.secrets().collect();
    assert_eq!(sources.len(), 4);
    assert_eq!(
        sources[2],
        (
            "orders",
            &SecretSource::File("/etc/interceptor/secrets/orders".into())
        )
    );
    let exec = SecretSource::Exec {
        command: vec!["/usr/local/bin/fetch-secret".into(), "warehouse".into()],
        timeout: Duration::from_secs(10),
        ttl: Duration::from_secs(60),
    };
    assert_eq!(sources[3], ("warehouse", &exec));
    assert_eq!(config.direct[0].port, Some(443));
    assert_eq!(config.direct[1].network, "198.51.100.7/32".parse().unwrap());
    assert_eq!(config.recording.session_bytes, Some(1 << 30));
    assert_eq!(config.metrics, Some("127.0.0.1:9464".parse().unwrap()));
}

#[test]
fn a_version_alone_gives_the_defaults() {
    let config = good("version: 1\n");
    let paths = Paths {
        config: FILE.into(),
        run: "/run/interceptor".into(),
        state: "/var/lib/interceptor".into(),
        bpffs: "/sys/fs/bpf/interceptor".into(),
        policies: "/etc/interceptor/policies".into(),
    };
    assert_eq!(config.paths, paths);
    assert_eq!(config.run_parent, "agents.slice");
    assert_eq!(config.daemon_cgroup, None);
    assert_eq!(config.drain, Duration::from_secs(30));
    assert_eq!(
        config.audit,
        Audit {
            durability: Durability::Relaxed,
            segment_bytes: 64 << 20
        }
    );
    assert_eq!(
        config.recording,
        Recording {
            segment_bytes: 16 << 20,
            session_bytes: None
        }
    );
}

#[test]
fn a_short_target_gets_the_careful_defaults() {
    let config = good(&format!(
        "version: 1\nagents: {{ claude: }}\ndirect:\n{TARGET}"
    ));
    let target = &config.targets["t"];
    assert_eq!(
        target.tls,
        UpstreamTls {
            mode: TlsMode::VerifyFull,
            ca: None,
            server_name: None
        }
    );
    assert_eq!(target.statement, StatementText::Redacted);
    assert_eq!(target.namespace, Namespace::Daemon);
    assert!(target.record);
    assert_eq!(target.timeouts.idle, None);
    let Protocol::Postgres(postgres) = &target.protocol;
    assert_eq!(postgres.search_path, ["public"]);
    assert!(!postgres.allow_md5);
    assert_eq!(config.agents["claude"], Agent::default());
}

/// What is wrong, where it is said, what is said.
const SAID: &[(&str, &str, &str)] = &[
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
        "leave the key out",
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
        "namespace: client\n    tls: { mode: require }",
        "6:16: targets.t.namespace:",
        "may control its network",
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
fn targets_scopes_and_directories_must_not_overlap() {
    let two = "version: 1\ntargets:
  a: { addresses: ['db:1', 'db:2'], postgres: { user: u, databases: [d] } }
  b: { addresses: ['DB.:2'], postgres: { user: u, databases: [d] } }\n";
    let long = format!("version: 1\npaths: {{ run: /{} }}", "x".repeat(100));
    let rows: &[(&str, &str)] = &[
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

#[test]
fn durations_sizes_networks_and_names_are_read_as_people_write_them() {
    let durations: &[(&str, Option<u64>)] = &[
        ("500ms", Some(500)),
        ("1h30m", Some(5_400_000)),
        ("0s", Some(0)),
        ("1d", Some(86_400_000)),
        ("", None),
        ("s", None),
        ("10", None),
        ("1.5s", None),
        ("-1s", None),
        ("10 s", None),
        ("99999999999999999999s", None),
        ("18446744073709551615d", None),
    ];
    for (text, millis) in durations {
        assert_eq!(
            scalar::duration(text)
                .ok()
                .map(|d| u64::try_from(d.as_millis()).unwrap()),
            *millis,
            "{text}"
        );
    }
    let sizes: &[(&str, Option<u64>)] = &[
        ("64MiB", Some(64 << 20)),
        ("64 MiB", Some(64 << 20)),
        ("5MB", Some(5_000_000)),
        ("7B", Some(7)),
        ("7", None),
        ("MiB", None),
        ("64mib", None),
        ("99999999999GiB", None),
    ];
    for (text, bytes) in sizes {
        assert_eq!(scalar::size(text).ok(), *bytes, "{text}");
    }
    let networks: &[(&str, Option<&str>)] = &[
        ("10.1.2.3", Some("10.1.2.3/32")),
        ("fd00::/8", Some("fd00::/8")),
        ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
        ("::ffff:10.0.0.1", Some("10.0.0.1/32")),
        ("::/0", Some("::/0")),
        ("10.0.0.0/8/8", None),
        ("internal", None),
    ];
    for (text, network) in networks {
        assert_eq!(
            scalar::network(text).ok().map(|n| n.to_string()).as_deref(),
            *network,
            "{text}"
        );
    }
    let names: &[(&str, Option<&str>)] = &[
        ("DB.Internal.", Some("db.internal")),
        ("a_b-c", Some("a_b-c")),
        ("-a", None),
        ("a..b", None),
        ("1.2.3", None),
        ("", None),
        ("a b", None),
    ];
    for (text, name) in names {
        assert_eq!(scalar::name(text).as_deref(), *name, "{text}");
    }
}

#[test]
fn the_hosts_resolvers_stand_in_where_none_are_said() {
    let host = "# x\nnameserver 10.0.0.2\nsearch a b\nnameserver fe80::1%eth0\noptions x\nnameserver bad\nnameserver ::1\nnameserver 10.0.0.3\n";
    let resolvers = load::resolvers_in(host);
    let addresses: Vec<_> = resolvers
        .iter()
        .map(|resolver| resolver.address.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.2:53", "[fe80::1]:53", "[::1]:53"]);
    let rows = [
        ("version: 1", 3),
        ("version: 1\nresolvers:", 3),
        ("version: 1\nresolvers: []", 0),
        ("version: 1\nresolvers: [{ address: '10.0.0.9:53' }]", 1),
    ];
    for (text, count) in rows {
        let config = load::parse(text, Path::new(FILE), resolvers.clone()).unwrap();
        assert_eq!(config.resolvers.len(), count, "{text}");
    }
}

#[test]
fn a_file_that_others_could_have_written_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(EXAMPLE.as_bytes()).unwrap();
    let set =
        |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    set(0o644);
    let config = load(&path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config.paths.policies, directory.path().join("policies"));
    set(0o646);
    let said = load(&path).expect_err("should not load").to_string();
    assert!(
        said.contains("chmod o-w") && said.contains("0646"),
        "{said}"
    );
    set(0o644);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65_533), None).unwrap();
        let said = load(&path).expect_err("should not load").to_string();
        assert!(said.contains("uid 65533"), "{said}");
    }
    let said = load(&directory.path().join("absent.yaml"))
        .expect_err("should not load")
        .to_string();
    assert!(said.contains("absent.yaml: cannot read"), "{said}");
    let said = load(directory.path())
        .expect_err("should not load")
        .to_string();
    assert!(said.contains("expected a regular file"), "{said}");
}

#[test]
fn a_fifo_in_the_files_place_does_not_hold_up_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let said = load(&path).expect_err("should not load").to_string();
    assert!(said.contains("expected a regular file"), "{said}");
}

#[test]
fn only_what_is_read_at_start_needs_a_restart() {
    let old = good(EXAMPLE);
    let reloadable = [
        ("agent_orders", "agent_other"),
        ("- cgroup: agents.slice/ci", "- cgroup: agents.slice/cd"),
        ("sessions: 128", "sessions: 12"),
        ("192.0.2.0/24", "203.0.113.0/24"),
        ("127.0.0.53:53", "127.0.0.54:53"),
        ("drain: 30s", "drain: 3s"),
    ];
    for (from, to) in reloadable {
        let new = good(&EXAMPLE.replace(from, to));
        assert_ne!(old, new, "{from}");
        assert_eq!(old.needs_restart(&new), Vec::<&str>::new(), "{from}");
    }
    let fixed = [
        ("run: /run/interceptor", "run: /run/other", "paths.run"),
        ("/var/lib/interceptor", "/var/lib/other", "paths.state"),
        (
            "/sys/fs/bpf/interceptor",
            "/sys/fs/bpf/other",
            "paths.bpffs",
        ),
        ("policies: policies", "policies: rules", "paths.policies"),
        (
            "system.slice/interceptor.service",
            "system.slice/other.service",
            "daemon_cgroup",
        ),
        (
            "run_parent: agents.slice",
            "run_parent: other.slice",
            "run_parent",
        ),
        ("durability: relaxed", "durability: strict", "audit"),
        ("segment: 16MiB", "segment: 32MiB", "recording"),
        ("127.0.0.1:9464", "127.0.0.1:9465", "metrics"),
    ];
    for (from, to, key) in fixed {
        let new = good(&EXAMPLE.replace(from, to));
        assert_eq!(old.needs_restart(&new), [key]);
    }
}

#[test]
fn a_name_that_resolves_into_a_direct_rule_is_found() {
    let config = good("version: 1\ndirect: [{ network: 10.0.0.0/8, port: 5432 }]");
    let rows = [
        ("10.1.2.3:5432", true),
        ("[::ffff:10.1.2.3]:5432", true),
        ("10.1.2.3:5433", false),
        ("11.1.2.3:5432", false),
        ("[fd00::1]:5432", false),
    ];
    for (destination, covered) in rows {
        assert_eq!(
            config.direct_over(destination.parse().unwrap()).is_some(),
            covered,
            "{destination}"
        );
    }
}

#[test]
fn the_example_and_its_schema_agree() {
    let schema = json_schema();
    let example: Value = serde_saphyr::from_str(EXAMPLE).unwrap();
    let mut used = Vec::new();
    validate(&example, &schema, "", &mut used).unwrap();
    // Every key of the schema is shown in the example.
    let mut known = Vec::new();
    all_keys(&schema, "", &mut known);
    for key in known {
        assert!(used.contains(&key), "the example does not show {key}");
    }
    for (broken, why) in [
        ("version: 1\nfoo: 1", "foo"),
        ("version: 2", "version"),
        ("drain: 1s", "version"),
        ("version: 1\naudit: { durability: lax }", "durability"),
        ("version: 1\nagents: { a: { sessions: 0 } }", "sessions"),
    ] {
        let value: Value = serde_saphyr::from_str(broken).unwrap();
        let error = validate(&value, &schema, "", &mut Vec::new()).expect_err(broken);
        assert!(error.contains(why), "{broken}: {error}");
    }
}

/// As much of JSON Schema as the document uses, without patterns.
fn validate(
    value: &Value,
    schema: &Value,
    path: &str,
    used: &mut Vec<String>,
) -> Result<(), String> {
    if let Some(either) = schema.get("oneOf").and_then(Value::as_array) {
        let fitting = either
            .iter()
            .filter(|s| validate(value, s, path, &mut Vec::new()).is_ok())
            .count();
        return (fitting == 1)
            .then_some(())
            .ok_or_else(|| format!("{path}: fits {fitting}"));
    }
    if let Some(allowed) = schema.get("const") {
        return (value == allowed)
            .then_some(())
            .ok_or_else(|| format!("{path}: not {allowed}"));
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words
            .contains(value)
            .then_some(())
            .ok_or_else(|| format!("{path}: not one of {words:?}"));
    }
    match schema["type"].as_str() {
        Some("boolean") if value.is_boolean() => Ok(()),
        Some("string") if value.is_string() => Ok(()),
        Some("integer") => {
            let within = |n: i64| {
                n >= schema["minimum"].as_i64().unwrap() && n <= schema["maximum"].as_i64().unwrap()
            };
            value
                .as_i64()
                .is_some_and(within)
                .then_some(())
                .ok_or_else(|| format!("{path}: not within"))
        }
        Some("array") => {
            let elements = value
                .as_array()
                .ok_or_else(|| format!("{path}: no array"))?;
            elements.iter().try_for_each(|element| {
                validate(element, &schema["items"], &format!("{path}[]"), used)
            })
        }
        Some("object") => object(value, schema, path, used),
        _ => Err(format!("{path}: wrong type")),
    }
}

fn object(value: &Value, schema: &Value, path: &str, used: &mut Vec<String>) -> Result<(), String> {
    let fields = value
        .as_object()
        .ok_or_else(|| format!("{path}: no object"))?;
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Err(format!("{path}: misses {name}"));
        }
    }
    let most = schema.get("maxProperties").and_then(Value::as_u64);
    if most.is_some_and(|most| u64::try_from(fields.len()).unwrap() > most) {
        return Err(format!("{path}: too many"));
    }
    for (name, value) in fields {
        let property = schema.get("properties").and_then(|all| all.get(name));
        let (schema, path) = match property {
            Some(schema) => (schema, format!("{path}.{name}")),
            None => (&schema["additionalProperties"], format!("{path}.*")),
        };
        if *schema == Value::Bool(false) {
            return Err(format!("{path}: unknown key {name}"));
        }
        used.push(path.clone());
        validate(value, schema, &path, used)?;
    }
    Ok(())
}

fn all_keys(schema: &Value, path: &str, keys: &mut Vec<String>) {
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = format!("{path}.{name}");
        all_keys(property, &path, keys);
        keys.push(path);
    }
    if let Some(value) = schema
        .get("additionalProperties")
        .filter(|value| value.is_object())
    {
        all_keys(value, &format!("{path}.*"), keys);
    }
    if let Some(items) = schema.get("items") {
        all_keys(items, &format!("{path}[]"), keys);
    }
}
