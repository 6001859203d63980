//! From the tree to [`Config`]: defaults filled in, relative paths resolved.
//!
//! Runs over trees that may hold mistakes, all of which `check` has noted: what cannot be read is left
//! out here without a word, and the result is thrown away. Values keep their place for `cross`.

pub(super) mod console;
pub(super) mod containers;
pub(super) mod kept;
pub(super) mod launcher;
pub(super) mod outputs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::check::{self, UNLIMITED};
use super::document::{Node, Value};
use super::mistake::Place;
use super::shape::{Form, detect, ssh};
use super::{
    Address, Agent, Audit, ClientAuth, Config, Dial, Direct, Durability, Host, Keep, NameRefusal,
    Names, Namespace, Order, Paths, Pooler, Postgres, Protocol, Recording, Resolver, Scope,
    SecretSource, SessionAttrs, StatementText, Target, Timeouts, TlsMode, UpstreamTls, Warm,
    issuers, scalar, sensitive,
};

/// A value and where it was said.
#[derive(Clone, Debug)]
pub(super) struct Said<T> {
    pub(super) value: T,
    pub(super) key: String,
    pub(super) place: Place,
}

/// What has been read, with the places that `cross` needs.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) config: Config,
    pub(super) scopes: Vec<Said<Scope>>,
    pub(super) addresses: Vec<Said<(String, Address)>>,
    pub(super) direct: Vec<Said<Direct>>,
    pub(super) resolvers: Vec<Said<Resolver>>,
}

/// Builds from the root; `directory` is the file's, `resolvers` stand in where none are said.
pub(super) fn build(root: &Node, file: &Path, resolvers: Vec<Resolver>) -> Built {
    let directory = file.parent().unwrap_or_else(|| Path::new("/"));
    let from = From { directory };
    let scopes = said(root, "scopes", scope);
    let direct = said(root, "direct", direct);
    let said_resolvers = said(root, "resolvers", resolver);
    let resolvers = match root.under("resolvers") {
        Some(_) => values(&said_resolvers),
        None => resolvers,
    };
    let mut addresses = Vec::new();
    let mut targets = BTreeMap::new();
    for entry in map(root, "targets") {
        addresses.extend(addresses_of(&entry.key, &entry.node));
        targets.extend(
            from.target(&entry.key, &entry.node)
                .map(|t| (t.name.clone(), Arc::new(t))),
        );
    }
    let config = Config {
        paths: from.paths(root.under("paths"), file),
        daemon_cgroup: text(Some(root), "daemon_cgroup"),
        run_parent: text(Some(root), "run_parent").unwrap_or_else(|| "agents.slice".into()),
        guard_host: text(Some(root), "guard").as_deref() == Some("host"),
        scopes: values(&scopes),
        labels: containers::rules(root),
        containers: containers::state(root),
        agents: map(root, "agents")
            .iter()
            .map(|e| (e.key.clone(), agent(&e.node)))
            .collect(),
        targets,
        issuers: map(root, "issuers")
            .iter()
            .filter_map(|entry| issuers::build(directory, entry))
            .map(|issuer| (issuer.name.clone(), Arc::new(issuer)))
            .collect(),
        saml: map(root, "issuers")
            .iter()
            .filter_map(|entry| issuers::saml::build(directory, entry))
            .map(|issuer| (issuer.name.clone(), Arc::new(issuer)))
            .collect(),
        direct: values(&direct),
        resolvers,
        names: names(root.under("names")),
        unix: launcher::unix(root.under("unix")),
        authority_names: authority_names(root),
        authority_seal: authority_seal(&from, root),
        launcher: launcher::launcher(root.under("launcher")),
        audit: Audit {
            outputs: from.outputs(root.under("audit")),
            ..audit(root.under("audit"))
        },
        recording: recording(root.under("recording")),
        metrics: root
            .under("metrics")
            .and_then(Node::text)
            .and_then(|t| scalar::socket(t).ok()),
        console: console::console(&from, root),
        webhook: console::webhook(&from, root),
        people: console::people(root),
        drain: duration(Some(root), "drain").unwrap_or(Duration::from_secs(30)),
    };
    Built {
        config,
        scopes,
        addresses,
        direct,
        resolvers: said_resolvers,
    }
}

fn values<T: Clone>(said: &[Said<T>]) -> Vec<T> {
    said.iter().map(|said| said.value.clone()).collect()
}

fn said<T>(root: &Node, key: &str, read: fn(&Node) -> Option<T>) -> Vec<Said<T>> {
    let elements = root.under(key).map(Node::elements).unwrap_or_default();
    let element = |(index, node): (usize, &Node)| {
        let key = format!("{key}[{index}]");
        read(node).map(|value| Said {
            value,
            key,
            place: node.place,
        })
    };
    elements.iter().enumerate().filter_map(element).collect()
}

fn addresses_of(target: &str, node: &Node) -> Vec<Said<(String, Address)>> {
    let elements = node
        .under("addresses")
        .map(Node::elements)
        .unwrap_or_default();
    let element = |(index, node): (usize, &Node)| {
        let value = (
            target.to_owned(),
            scalar::addresses(node.text()?).ok()?.at()?,
        );
        let key = format!("targets.{target}.addresses[{index}]");
        Some(Said {
            value,
            key,
            place: node.place,
        })
    };
    elements.iter().enumerate().filter_map(element).collect()
}

/// The servers of a list.
fn dialled(node: &Node, key: &str) -> impl Iterator<Item = scalar::Dialled> {
    let all = texts(node, key).into_iter();
    all.filter_map(|text| scalar::addresses(&text).ok())
}

pub(super) fn map<'a>(root: &'a Node, key: &str) -> &'a [super::document::Entry] {
    root.under(key).map(Node::entries).unwrap_or_default()
}

pub(super) fn text(node: Option<&Node>, key: &str) -> Option<String> {
    node?.under(key)?.text().map(str::to_owned)
}

pub(super) fn texts(node: &Node, key: &str) -> Vec<String> {
    let elements = node.under(key).map(Node::elements).unwrap_or_default();
    elements
        .iter()
        .filter_map(Node::text)
        .map(str::to_owned)
        .collect()
}

pub(super) fn flag(node: &Node, key: &str, default: bool) -> bool {
    match node.under(key).map(|node| &node.value) {
        Some(Value::Flag(flag)) => *flag,
        _ => default,
    }
}

fn count<T: TryFrom<i64>>(node: &Node, key: &str) -> Option<T> {
    match node.under(key)?.value {
        Value::Integer(number) => T::try_from(number).ok(),
        _ => None,
    }
}

fn limit(node: &Node, key: &str, default: Option<u32>) -> Option<u32> {
    match node.under(key) {
        None => default,
        Some(said) if said.text() == Some(UNLIMITED) => None,
        Some(_) => count(node, key),
    }
}

pub(super) fn duration(node: Option<&Node>, key: &str) -> Option<Duration> {
    crate::clock::duration(node?.under(key)?.text()?).ok()
}

pub(super) fn size(node: Option<&Node>, key: &str) -> Option<u64> {
    scalar::size(node?.under(key)?.text()?).ok()
}

fn scope(node: &Node) -> Option<Scope> {
    let cgroup = text(Some(node), "cgroup")?;
    let agent = text(Some(node), "agent")?;
    check::text_form(&cgroup, Form::Cgroup).ok()?;
    Some(Scope { cgroup, agent })
}

fn agent(node: &Node) -> Agent {
    let default = Agent::default();
    Agent {
        connections: limit(node, "connections", default.connections),
        sessions: limit(node, "sessions", default.sessions),
        requests_per_second: limit(node, "requests_per_second", default.requests_per_second),
        allow_privileged: flag(node, "allow_privileged", default.allow_privileged),
    }
}

fn direct(node: &Node) -> Option<Direct> {
    Some(Direct {
        network: scalar::network(node.under("network")?.text()?).ok()?,
        port: count(node, "port"),
        agents: texts(node, "agents"),
        needs_daemon: flag(node, "needs_daemon", false),
    })
}

fn resolver(node: &Node) -> Option<Resolver> {
    Some(Resolver {
        address: scalar::socket(node.under("address")?.text()?).ok()?,
    })
}

fn authority_seal(from: &From<'_>, root: &Node) -> Option<SecretSource> {
    from.secret(root.under("authority")?.under("seal")?)
}

fn authority_names(root: &Node) -> Option<Vec<Host>> {
    let node = root.under("authority")?;
    node.under("names").map(|_said| hosts(node, "names"))
}

/// DNS names and literal addresses.
pub(super) fn hosts(node: &Node, key: &str) -> Vec<Host> {
    let host = |text: &String| match text.parse() {
        Ok(ip) => Some(Host::Ip(ip)),
        Err(_) => scalar::name(text).map(Host::Name),
    };
    texts(node, key).iter().filter_map(host).collect()
}

fn names(node: Option<&Node>) -> Names {
    let default = Names::default();
    let said = |key: &str| node.map(|node| texts(node, key)).unwrap_or_default();
    let types = said("types");
    Names {
        private: said("private")
            .iter()
            .filter_map(|domain| scalar::name(domain))
            .collect(),
        types: match types.is_empty() {
            true => default.types,
            false => types.iter().map(|kind| kind.to_ascii_uppercase()).collect(),
        },
        queries_per_second: node
            .and_then(|node| count(node, "queries_per_second"))
            .unwrap_or(default.queries_per_second),
        refusal: match text(node, "refusal").as_deref() {
            Some("nxdomain") => NameRefusal::Nxdomain,
            _ => default.refusal,
        },
    }
}

fn audit(node: Option<&Node>) -> Audit {
    let strict = text(node, "durability").as_deref() == Some("strict");
    Audit {
        durability: if strict {
            Durability::Strict
        } else {
            Durability::Relaxed
        },
        segment_bytes: size(node, "segment").unwrap_or(64 << 20),
        checkpoint: duration(node, "checkpoint").unwrap_or(Duration::from_secs(60)),
        outputs: BTreeMap::new(),
    }
}

/// How long recordings are kept, as the map around it says.
fn keep(node: Option<&Node>) -> Keep {
    let node = node.and_then(|node| node.under("keep"));
    Keep {
        age: duration(node, "age"),
        bytes: size(node, "size"),
    }
}

fn recording(node: Option<&Node>) -> Recording {
    Recording {
        segment_bytes: size(node, "segment").unwrap_or(16 << 20),
        session_bytes: size(node, "session"),
        recipients: node
            .map(|node| texts(node, "recipients"))
            .unwrap_or_default(),
        keep: keep(node),
    }
}

fn dial(node: Option<&Node>) -> Dial {
    let default = Dial::default();
    let hosts = || node.into_iter().flat_map(|node| dialled(node, "hosts"));
    Dial {
        hosts: hosts().filter_map(scalar::Dialled::at).collect(),
        sockets: hosts().filter_map(scalar::Dialled::socket).collect(),
        order: match text(node, "order").as_deref() {
            Some("random") => Order::Random,
            _ => Order::Listed,
        },
        timeout: duration(node, "timeout").unwrap_or(default.timeout),
    }
}

fn warm(node: Option<&Node>) -> Warm {
    let default = Warm::default();
    Warm {
        connections: node
            .and_then(|node| count(node, "connections"))
            .unwrap_or(default.connections),
        age: duration(node, "age").unwrap_or(default.age),
    }
}

fn timeouts(node: Option<&Node>) -> Timeouts {
    let ten = Duration::from_secs(10);
    Timeouts {
        startup: duration(node, "startup").unwrap_or(ten),
        dial: duration(node, "dial").unwrap_or(ten),
        idle: duration(node, "idle"),
        idle_in_transaction: duration(node, "idle_in_transaction"),
        statement: duration(node, "statement"),
        hold: duration(node, "hold").unwrap_or(Duration::from_mins(5)),
    }
}

/// What needs to know from where relative paths start.
pub(super) struct From<'a> {
    pub(super) directory: &'a Path,
}

impl From<'_> {
    pub(super) fn path(&self, node: Option<&Node>, key: &str) -> Option<PathBuf> {
        text(node, key).map(|path| self.directory.join(path))
    }

    fn paths(&self, node: Option<&Node>, file: &Path) -> Paths {
        let or = |key: &str, default: &str| {
            self.path(node, key)
                .unwrap_or_else(|| self.directory.join(default))
        };
        Paths {
            config: file.to_owned(),
            run: or("run", "/run/interceptor"),
            state: or("state", "/var/lib/interceptor"),
            bpffs: or("bpffs", "/sys/fs/bpf/interceptor"),
            policies: or("policies", "policies"),
        }
    }

    fn target(&self, name: &str, node: &Node) -> Option<Target> {
        let addresses = addresses_of(name, node);
        Some(Target {
            name: name.to_owned(),
            addresses: addresses.into_iter().map(|said| said.value.1).collect(),
            sockets: dialled(node, "addresses")
                .filter_map(scalar::Dialled::socket)
                .collect(),
            below: dialled(node, "addresses")
                .filter_map(scalar::Dialled::below)
                .collect(),
            dial: dial(node.under("dial")),
            protocol: self.protocol(node)?,
            namespace: match text(Some(node), "namespace").as_deref() {
                Some("client") => Namespace::Client,
                _ => Namespace::Daemon,
            },
            tls: self.tls(node.under("tls")),
            statement: match text(Some(node), "statement").as_deref() {
                Some("none") => StatementText::None,
                Some("full") => StatementText::Full,
                _ => StatementText::Redacted,
            },
            record: flag(node, "record", true),
            keep: keep(Some(node)),
            timeouts: timeouts(node.under("timeouts")),
            tags: sensitive::build_tags(node),
            sensitive: sensitive::build(node),
            detect: detect::actions(node.under("detect")),
        })
    }

    fn protocol(&self, node: &Node) -> Option<Protocol> {
        if let Some(node) = node.under("ssh") {
            let secret = |node: &Node| self.secret(node);
            let ssh = ssh::build(node, secret, |key| self.path(Some(node), key))?;
            return Some(Protocol::Ssh(Arc::new(ssh)));
        }
        if let Some(http) = node.under("http") {
            let secret = |node: &Node| self.secret(node);
            let path = |node: &Node, key: &str| self.path(Some(node), key);
            let http = super::shape::http::build(node, http, &secret, &path);
            return Some(Protocol::Http(Arc::new(http)));
        }
        if let Some(cluster) = node.under("kubernetes") {
            let secret = |node: &Node| self.secret(node);
            let cluster = super::shape::kubernetes::build(node, cluster, &secret);
            return Some(Protocol::Kubernetes(Arc::new(cluster)));
        }
        if let Some(proxy) = node.under("proxy") {
            let proxy = super::shape::proxy::build(proxy, &|node| self.secret(node));
            return Some(Protocol::Proxy(Arc::new(proxy)));
        }
        let postgres = self.postgres(node.under("postgres")?)?;
        Some(Protocol::Postgres(Arc::new(postgres)))
    }

    fn postgres(&self, node: &Node) -> Option<Postgres> {
        let search_path = texts(node, "search_path");
        Some(Postgres {
            user: text(Some(node), "user")?,
            password: node.under("password").and_then(|node| self.secret(node)),
            databases: texts(node, "databases"),
            search_path: if search_path.is_empty() {
                vec!["public".into()]
            } else {
                search_path
            },
            functions: texts(node, "functions")
                .iter()
                .filter_map(|text| scalar::function(text).ok())
                .collect(),
            allow_md5: flag(node, "allow_md5", false),
            require_scram: flag(node, "require_scram", false),
            warm: warm(node.under("warm")),
            client_auth: match text(Some(node), "client_auth").as_deref() {
                Some("scram") => ClientAuth::Scram,
                _ => ClientAuth::Trust,
            },
            ask_password: flag(node, "ask_password", false),
            session_attrs: match text(Some(node), "session_attrs").as_deref() {
                Some("read-write") => SessionAttrs::ReadWrite,
                Some("read-only") => SessionAttrs::ReadOnly,
                Some("primary") => SessionAttrs::Primary,
                Some("standby") => SessionAttrs::Standby,
                Some("prefer-standby") => SessionAttrs::PreferStandby,
                _ => SessionAttrs::Any,
            },
            pooler: match text(Some(node), "pooler").as_deref() {
                Some("session") => Pooler::Session,
                _ => Pooler::None,
            },
        })
    }

    pub(super) fn secret(&self, node: &Node) -> Option<SecretSource> {
        let entry = node.entries().first()?;
        let said = || text(Some(node), &entry.key);
        match entry.key.as_str() {
            "file" => self.path(Some(node), "file").map(SecretSource::File),
            "env" => said().map(SecretSource::Env),
            "credential" => said().map(SecretSource::Credential),
            "exec" => Some(SecretSource::Exec {
                command: texts(&entry.node, "command"),
                timeout: duration(Some(&entry.node), "timeout").unwrap_or(Duration::from_secs(10)),
                ttl: duration(Some(&entry.node), "ttl").unwrap_or(Duration::from_secs(60)),
            }),
            _ => None,
        }
    }

    fn tls(&self, node: Option<&Node>) -> UpstreamTls {
        UpstreamTls {
            mode: match text(node, "mode").as_deref() {
                Some("disable") => TlsMode::Disable,
                Some("require") => TlsMode::Require,
                Some("verify-ca") => TlsMode::VerifyCa,
                _ => TlsMode::VerifyFull,
            },
            ca: self.path(node, "ca"),
            server_name: text(node, "server_name"),
            certificate: self.path(node, "certificate"),
            key: node
                .and_then(|node| node.under("key"))
                .and_then(|node| self.secret(node)),
            direct: text(node, "negotiation").as_deref() == Some("direct"),
        }
    }
}
