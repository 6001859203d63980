//! How values concern each other: what each alone may say, and together would open a way around.
//!
//! Host names are not resolved here; what a name resolves to is held against `direct` rules again
//! wherever it is resolved ([`Config::direct_over`]).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::build::{Built, Said, console, containers};
use super::document::{Entry, Node};
use super::mistake::Report;
use super::{
    ClientAuth, Config, Direct, Host, Namespace, SecretSource, Target, TlsMode, issuers, sensitive,
    shape,
};
use crate::socket::SocketPath;

/// Bytes of a unix socket's path, with its NUL (`struct sockaddr_un`, unix(7)).
const MAX_SOCKET_PATH: usize = 108;
/// The longest name of a socket in the run directory.
const LONGEST_SOCKET: &str = "control.sock";

/// Servers that stand for each other; each may take its time, while a client waits.
const HOSTS_MAX: usize = 16;

/// Notes everything that is wrong between keys.
pub(super) fn check(root: &Node, built: &Built, report: &mut Report) {
    addresses(built, report);
    sockets(root, &built.config, report);
    direct(built, report);
    resolvers(built, report);
    metrics(root, built, report);
    cgroups(root, built, report);
    containers::cross(root, report);
    paths(root, &built.config, report);
    for entry in root.under("targets").map(Node::entries).unwrap_or_default() {
        one_protocol(entry, report);
        // What is wrong here may have kept the target from being made.
        ssh_words(entry, report);
        if let Some(target) = built.config.targets.get(&entry.key) {
            transport(entry, target, report);
            postgres(entry, target, &built.config, report);
            ssh(entry, &built.config, target, report);
            shape::http::cross(entry, target, &built.config, report);
            shape::kubernetes::cross(entry, target, &built.config, report);
            shape::proxy::cross(entry, target, &built.config, report);
            sensitive::cross(entry, target, report);
        }
    }
    issuers::cross(root, &built.config, report);
    console::cross(root, &built.config, report);
    super::build::outputs::cross(root, &built.config, report);
}

fn addresses(built: &Built, report: &mut Report) {
    let mut seen = HashMap::new();
    for Said {
        value: (target, address),
        key,
        place,
    } in &built.addresses
    {
        if let Some(first) = seen.insert(address, target) {
            let text = format!("expected an address of its own; target `{first}` has it already");
            report.add(*place, key, text);
        }
    }
}

/// One UNIX socket is one target's, by whichever of its names.
fn sockets(root: &Node, config: &Config, report: &mut Report) {
    let mut seen: HashMap<SocketPath, &str> = HashMap::new();
    for entry in root.under("targets").map(Node::entries).unwrap_or_default() {
        let target = config.targets.get(&entry.key);
        for path in target.iter().flat_map(|target| &target.sockets) {
            let names = std::iter::once(*path).chain(path.other_name());
            let taken = names.filter_map(|name| seen.insert(name, &entry.key));
            if let Some(first) = taken.filter(|first| *first != entry.key).last() {
                let text = format!("expected a socket of its own; target `{first}` has {path}");
                let key = format!("targets.{}.addresses", entry.key);
                report.add(entry.place, &key, text);
            }
        }
    }
}

fn literal(address: &super::Address) -> Option<SocketAddr> {
    match address.host {
        Host::Ip(ip) => Some(SocketAddr::new(ip, address.port)),
        Host::Name(_) => None,
    }
}

/// A `direct` rule over a target would let agents reach it around the daemon.
fn direct(built: &Built, report: &mut Report) {
    for Said {
        value: rule,
        key,
        place,
    } in &built.direct
    {
        for Said {
            value: (target, address),
            ..
        } in &built.addresses
        {
            if literal(address).is_some_and(|at| covers(rule, at)) {
                let text = format!(
                    "expected a network without targets; this one covers target `{target}` and would lead around the daemon"
                );
                report.add(*place, key, text);
            }
        }
        for target in built.config.targets.values() {
            let mut hosts = target.dial.hosts.iter().filter_map(literal);
            if hosts.any(|at| covers(rule, at)) {
                let name = &target.name;
                let text = format!(
                    "expected a network without targets; this one covers a host of target `{name}` and would lead around the daemon"
                );
                report.add(*place, key, text);
            }
        }
        if built.config.metrics.is_some_and(|at| covers(rule, at)) {
            report.add(
                *place,
                key,
                "expected a network without the daemon's metrics address",
            );
        }
        let mut agents = rule.agents.clone();
        agents.sort();
        agents.dedup();
        if agents.len() < rule.agents.len() {
            report.add(*place, &format!("{key}.agents"), "expected each agent once");
        }
    }
}

/// Whether a connection there would match the rule.
pub(super) fn covers(rule: &Direct, at: SocketAddr) -> bool {
    let address = at.ip().to_canonical();
    let port = rule.port.is_none_or(|port| port == at.port());
    port && rule.network.contains(&address)
}

fn resolvers(built: &Built, report: &mut Report) {
    let most = usize::try_from(interceptor_ebpf::MAX_RESOLVERS).unwrap_or(0);
    if let Some(Said { key, place, .. }) = built.resolvers.get(most) {
        report.add(*place, key, format!("expected at most {most} resolvers"));
    }
    for Said {
        value: resolver,
        key,
        place,
    } in &built.resolvers
    {
        for Said {
            value: (target, address),
            ..
        } in &built.addresses
        {
            if literal(address) == Some(resolver.address) {
                report.add(
                    *place,
                    key,
                    format!("expected a DNS server; this is target `{target}`"),
                );
            }
        }
        let unusable =
            resolver.address.ip().is_unspecified() || resolver.address.ip().is_multicast();
        if unusable {
            report.add(
                *place,
                &format!("{key}.address"),
                "expected the address of one host",
            );
        }
    }
}

fn metrics(root: &Node, built: &Built, report: &mut Report) {
    let (Some(at), Some(node)) = (built.config.metrics, root.under("metrics")) else {
        return;
    };
    for Said {
        value: (target, address),
        ..
    } in &built.addresses
    {
        let local = |ip: IpAddr| ip == at.ip() || at.ip().is_unspecified() && ip.is_loopback();
        if literal(address).is_some_and(|t| t.port() == at.port() && local(t.ip())) {
            let text = format!("expected an address of its own; target `{target}` has it");
            report.add(node.place, "metrics", text);
        }
    }
}

fn cgroups(root: &Node, built: &Built, report: &mut Report) {
    let mut seen = HashMap::new();
    for Said {
        value: scope,
        key,
        place,
    } in &built.scopes
    {
        if let Some(first) = seen.insert(&scope.cgroup, key) {
            report.add(
                *place,
                key,
                format!("expected a cgroup of its own; {first} has it"),
            );
        }
        if built
            .config
            .daemon_cgroup
            .as_deref()
            .is_some_and(|own| is_below(own, &scope.cgroup))
        {
            report.add(
                *place,
                key,
                "expected a cgroup without the daemon's own (daemon_cgroup)",
            );
        }
    }
    let config = &built.config;
    if let (Some(own), Some(node)) = (&config.daemon_cgroup, root.under("daemon_cgroup"))
        && is_below(&config.run_parent, own)
    {
        report.add(
            node.place,
            "daemon_cgroup",
            "expected a cgroup that does not hold run_parent",
        );
    }
}

/// Whether one cgroup is the other or lies below it.
fn is_below(cgroup: &str, root: &str) -> bool {
    cgroup
        .strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn paths(root: &Node, config: &Config, report: &mut Report) {
    let Some(node) = root.under("paths") else {
        return;
    };
    let mut wrong = |key: &str, text: &str| {
        let place = node.under(key).map_or(node.place, |node| node.place);
        report.add(place, &format!("paths.{key}"), text);
    };
    let paths = &config.paths;
    if paths.run.join(LONGEST_SOCKET).as_os_str().len() >= MAX_SOCKET_PATH {
        wrong(
            "run",
            "expected a path short enough for a unix socket: 94 bytes",
        );
    }
    // `run` is visible inside scopes.
    if paths.state.starts_with(&paths.run) {
        wrong(
            "state",
            "expected a directory outside of paths.run, which agents can see",
        );
    }
    if paths.policies.starts_with(&paths.run) {
        wrong(
            "policies",
            "expected a directory outside of paths.run, which agents can see",
        );
    }
    if paths.run.starts_with(&paths.state) {
        wrong(
            "run",
            "expected a directory outside of paths.state, which agents cannot enter",
        );
    }
    let others = [&paths.run, &paths.state, &paths.policies];
    if others
        .iter()
        .any(|other| other.starts_with(&paths.bpffs) || paths.bpffs.starts_with(other))
    {
        wrong("bpffs", "expected a directory of its own");
    }
}

fn transport(entry: &Entry, target: &Target, report: &mut Report) {
    let name = &entry.key;
    let mut wrong = |keys: &[&str], text: &str| {
        let node = keys
            .iter()
            .try_fold(&entry.node, |node, key| node.under(key));
        let place = node.map_or(entry.place, |node| node.place);
        report.add(place, &format!("targets.{name}.{}", keys.join(".")), text);
    };
    encryption(target, &mut wrong);
    if target.namespace == Namespace::Client && !target.dial.is_where_dialled() {
        wrong(
            &["dial", "hosts"],
            "expected namespace daemon with it; a client's namespace leads where the client dialled",
        );
    }
    let has_sockets = !target.sockets.is_empty() || !target.dial.sockets.is_empty();
    if has_sockets && target.postgres().is_none() {
        wrong(
            &["addresses"],
            "expected a target with postgres; nothing else is spoken over UNIX sockets",
        );
    }
    if target.namespace == Namespace::Client && has_sockets {
        wrong(
            &["namespace"],
            "expected namespace daemon with UNIX sockets; a client's may be its own files",
        );
    }
    let mut hosts = target.dial.hosts.clone();
    hosts.sort_by_key(|host| format!("{host:?}"));
    hosts.dedup();
    if hosts.len() < target.dial.hosts.len() {
        wrong(&["dial", "hosts"], "expected each host once");
    }
    if target.dial.hosts.len() > HOSTS_MAX {
        wrong(&["dial", "hosts"], "expected at most 16 hosts");
    }
    let loopback = |address| literal(address).is_some_and(|at| at.ip().is_loopback());
    let outside = !target.addresses.iter().all(loopback);
    // Of a proxy more is said where its own keys are looked at.
    let is_client = target.namespace == Namespace::Client && target.proxy().is_none();
    if is_client && !target.proves_server() && (outside || !target.gives_nothing()) {
        wrong(
            &["namespace"],
            "expected tls.mode verify-full, or verify-ca with tls.ca, or loopback addresses and no secret (of SSH, host_keys that are no learn): the client may control its network",
        );
    }
}

/// What is said of a target's TLS that does not go together.
fn encryption(target: &Target, wrong: &mut dyn FnMut(&[&str], &str)) {
    let tls = &target.tls;
    let chain = matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    if tls.ca.is_some() && !chain {
        wrong(
            &["tls", "ca"],
            "expected tls.mode verify-ca or verify-full with it; nothing is verified otherwise",
        );
    }
    if tls.server_name.is_some() && tls.mode != TlsMode::VerifyFull {
        wrong(
            &["tls", "server_name"],
            "expected tls.mode verify-full with it; no name is verified otherwise",
        );
    }
    if tls.certificate.is_some() && tls.key.is_none() {
        wrong(&["tls", "certificate"], "expected tls.key with it");
    }
    if tls.key.is_some() && tls.mode == TlsMode::Disable {
        wrong(
            &["tls", "key"],
            "expected another tls.mode than disable with it",
        );
    }
    if tls.direct && (tls.mode == TlsMode::Disable || target.postgres().is_none()) {
        wrong(
            &["tls", "negotiation"],
            "expected a target with postgres and another tls.mode than disable with it",
        );
    }
}

/// What a target may speak.
const PROTOCOLS: [&str; 5] = ["postgres", "http", "ssh", "kubernetes", "proxy"];

fn one_protocol(entry: &Entry, report: &mut Report) {
    let spoken = PROTOCOLS
        .iter()
        .filter(|key| entry.node.under(key).is_some());
    if spoken.count() != 1 {
        let text = format!("expected one of {}", PROTOCOLS.join(", "));
        report.add(entry.place, &format!("targets.{}", entry.key), text);
    }
}

fn ssh_words(entry: &Entry, report: &mut Report) {
    let Some(node) = entry.node.under("ssh") else {
        return;
    };
    for (key, text) in shape::ssh::cross(node) {
        let place = node.under(key).map_or(node.place, |node| node.place);
        report.add(place, &format!("targets.{}.ssh.{key}", entry.key), text);
    }
}

fn ssh(entry: &Entry, config: &Config, target: &Target, report: &mut Report) {
    let (Some(ssh), Some(node)) = (target.ssh(), entry.node.under("ssh")) else {
        return;
    };
    let mut wrong = |key: &str, text: &str| {
        let place = node.under(key).map_or(node.place, |node| node.place);
        report.add(place, &format!("targets.{}.ssh.{key}", entry.key), text);
    };
    for (key, source) in ssh.secrets() {
        if let Err((part, expected)) = secret(source, config) {
            wrong(key, &format!("{part}: {expected}"));
        }
    }
}

fn postgres(entry: &Entry, target: &Target, config: &Config, report: &mut Report) {
    let (Some(postgres), Some(node)) = (target.postgres(), entry.node.under("postgres")) else {
        return;
    };
    let key = format!("targets.{}.postgres", entry.key);
    let mut databases = postgres.databases.clone();
    databases.sort();
    databases.dedup();
    if let Some(node) = node
        .under("databases")
        .filter(|_| databases.len() < postgres.databases.len())
    {
        report.add(
            node.place,
            &format!("{key}.databases"),
            "expected each database once",
        );
    }
    if let Some(node) = node
        .under("require_scram")
        .filter(|_| postgres.require_scram)
    {
        let wrong = match (postgres.allow_md5, &postgres.password) {
            (true, _) => Some("expected allow_md5 or require_scram, not both"),
            (_, None) => Some("expected a password with it; SCRAM cannot do without"),
            _ => None,
        };
        if let Some(expected) = wrong {
            report.add(node.place, &format!("{key}.require_scram"), expected);
        }
    }
    if let Some(node) = node.under("ask_password").filter(|_| postgres.ask_password)
        && postgres.client_auth != ClientAuth::Trust
    {
        let expected = "expected client_auth trust with it; a client is asked for one password";
        report.add(node.place, &format!("{key}.ask_password"), expected);
    }
    let secrets = [
        (
            &postgres.password,
            node.under("password"),
            format!("{key}.password"),
        ),
        (
            &target.tls.key,
            entry.node.under("tls").and_then(|tls| tls.under("key")),
            format!("targets.{}.tls.key", entry.key),
        ),
    ];
    for (source, node, key) in secrets {
        if let (Some(source), Some(node)) = (source, node)
            && let Err((part, expected)) = secret(source, config)
        {
            report.add(node.place, &format!("{key}.{part}"), expected);
        }
    }
}

/// What is wrong with a source, and in which part of it.
pub(super) fn secret(
    source: &SecretSource,
    config: &Config,
) -> Result<(), (&'static str, &'static str)> {
    match source {
        SecretSource::File(path) if path.starts_with(&config.paths.run) => Err((
            "file",
            "expected a file outside of paths.run, which agents can see",
        )),
        SecretSource::File(path) if *path == config.paths.config => {
            Err(("file", "expected a file of its own, not this configuration"))
        }
        SecretSource::Exec { command, .. }
            if !command
                .first()
                .is_some_and(|program| Path::new(program).is_absolute()) =>
        {
            Err(("exec.command[0]", "expected the program's absolute path"))
        }
        SecretSource::File(_)
        | SecretSource::Env(_)
        | SecretSource::Credential(_)
        | SecretSource::Exec { .. } => Ok(()),
    }
}
