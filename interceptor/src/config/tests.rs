//! Good files: the example, the defaults, how people write values. Bad ones are in `mistakes`.

mod http;
mod kubernetes;
mod mistakes;
mod proxy;
mod schema;
mod sensitive;
mod ssh;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

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
    let rule = LabelRule {
        label: "role".to_owned(),
        value: Some("agent".to_owned()),
        agent: "claude".to_owned(),
    };
    assert_eq!(config.labels, [rule]);
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
    let timeouts = &orders.timeouts;
    assert_eq!(timeouts.idle, Some(Duration::from_secs(3600)));
    assert_eq!(timeouts.idle_in_transaction, Some(Duration::from_secs(300)));
    assert_eq!(timeouts.statement, Some(Duration::from_secs(600)));
    let sources: Vec<_> = config.secrets().collect();
    assert_eq!(sources.len(), 47);
    let file = |name: &str| SecretSource::File(format!("/etc/interceptor/secrets/{name}").into());
    let exec = SecretSource::Exec {
        command: vec!["/usr/local/bin/fetch-secret".into(), "warehouse".into()],
        timeout: Duration::from_secs(10),
        ttl: Duration::from_secs(60),
    };
    let said = [
        ("orders", file("orders")),
        ("orders", file("client.key")),
        ("warehouse", exec),
        ("archive", SecretSource::Credential("archive-key".into())),
    ];
    for (target, source) in &said {
        assert!(sources.contains(&(*target, source)), "{source:?}");
    }
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
            segment_bytes: 64 << 20,
            checkpoint: Duration::from_secs(60),
            outputs: BTreeMap::new(),
        }
    );
    assert_eq!(
        config.recording,
        Recording {
            segment_bytes: 16 << 20,
            session_bytes: None,
            recipients: Vec::new(),
            keep: Default::default(),
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
            server_name: None,
            certificate: None,
            key: None,
            direct: false,
        }
    );
    assert_eq!(target.statement, StatementText::Redacted);
    assert_eq!(target.namespace, Namespace::Daemon);
    assert!(target.record);
    assert_eq!(target.timeouts.idle, None);
    assert_eq!(target.timeouts.idle_in_transaction, None);
    assert_eq!(target.timeouts.statement, None);
    let postgres = target.postgres().unwrap();
    assert_eq!(postgres.search_path, ["public"]);
    assert!(!postgres.allow_md5);
    assert_eq!(config.agents["claude"], Agent::default());
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
            crate::clock::duration(text)
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
        let config =
            load::parse(text, Path::new(FILE), resolvers.clone(), &|_, _, _| Ok(())).unwrap();
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
        said.contains("chmod go-w") && said.contains("0646"),
        "{said}"
    );
    set(0o664);
    // Of the own group; another one takes root to be given.
    load(&path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, None, Some(65_533)).unwrap();
        let said = load(&path).expect_err("should not load").to_string();
        assert!(
            said.contains("chmod go-w") && said.contains("0664"),
            "{said}"
        );
    }
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
        ("role=agent", "role"),
        ("192.0.2.0/24", "203.0.113.0/24"),
        ("127.0.0.53:53", "127.0.0.54:53"),
        ("drain: 30s", "drain: 3s"),
        ("name: jane", "name: joan"),
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
        ("guard: scopes", "guard: host", "guard"),
        ("/srv/containers", "/srv/other", "containers"),
        ("durability: relaxed", "durability: strict", "audit"),
        ("segment: 16MiB", "segment: 32MiB", "recording"),
        ("127.0.0.1:9464", "127.0.0.1:9465", "metrics"),
        (
            "listen: 127.0.0.1:9466",
            "listen: 127.0.0.1:9467",
            "console",
        ),
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
fn a_unix_socket_is_an_address_of_a_target() {
    let text = "version: 1\ntargets:
  a:
    addresses: ['unix:/run/postgresql/.s.PGSQL.5432', 'db:5432']
    dial: { hosts: ['unix:/srv/pg', 'db:5433'] }
    postgres: { user: u, databases: [d] }\n";
    let config = good(text);
    let target = &config.targets["a"];
    let path = |text: &str| SocketPath::new(text).unwrap();
    assert_eq!(target.sockets, [path("/run/postgresql/.s.PGSQL.5432")]);
    assert_eq!(target.addresses.len(), 1);
    assert_eq!(target.dial.sockets, [path("/srv/pg")]);
    assert_eq!(target.dial.hosts.len(), 1);
}
