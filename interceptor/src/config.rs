//! The checked configuration: types that cannot be wrong, made from one YAML file.
//!
//! `document` is what the file says, `shape` what it may say; `check` and `cross` compare them and note
//! every mistake with file, line, column, key and what was expected; `build` makes these types.
//! Nothing here opens a socket, resolves a name or reads a secret.

mod build;
mod check;
mod cross;
mod document;
mod issuers;
mod load;
mod mistake;
mod names;
mod scalar;
mod sensitive;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::masking::detect;
use crate::masking::{Mask, Sensitive};
use crate::socket::SocketPath;

pub use build::console::{Approver, Console, ConsoleTls, KnownPerson, SLACK, Webhook};
pub use build::containers::LabelRule;
pub use build::kept::{Audit, Durability, Keep, Recording};
pub use build::launcher::{Launcher, Unix};
pub use build::outputs::{Output, OutputFormat, OutputTo, OutputWeb};
pub use check::is_name;
pub use issuers::saml::{Saml, SignedBy, Trust};
pub use issuers::{Algorithm, ClaimNames, Issuer, Url};
pub use load::is_open;
pub use mistake::{Mistake, Mistakes, Place};
pub use names::{NameRefusal, Names, is_below};
pub use shape::Held;
pub use shape::http::{
    Client, Cookies, Fields, Grant, Http, Inject, Ranges, Sigv4, Tables, Undecrypted, Unread, hmac,
};
pub use shape::kubernetes::{Impersonate, Kubernetes, Whom};
pub use shape::proxy::Proxy;
pub use shape::ssh::{HostKey, HostKeys, Ssh, SshLogin, signed_by};

/// An example with every key, which always loads.
pub const EXAMPLE: &str = include_str!("config/example.yaml");

/// Reads, checks and builds the configuration in a file. Where it says no resolvers, those of
/// `/etc/resolv.conf` are taken.
///
/// # Errors
/// Every mistake in it. A file that others can write, or that is neither root's nor the caller's, is one.
pub fn load(path: &Path) -> Result<Config, Mistakes> {
    load::load(path, &|_, _, _| Ok(()))
}

/// The same for who will work by it: `look` also looks into each file that it names, and says what was expected
/// where that is not in it.
///
/// # Errors
/// As [`load`], and what `look` said, with the place of the key.
pub fn load_whole(
    path: &Path,
    look: &dyn Fn(&Config, Held, &Path) -> Result<(), String>,
) -> Result<Config, Mistakes> {
    load::load(path, look)
}

/// Checks and builds a configuration from its text, as though it had been read from `path`.
/// Where it says no resolvers, there are none.
///
/// # Errors
/// Every mistake in it.
pub fn parse(text: &str, path: &Path) -> Result<Config, Mistakes> {
    load::parse(text, path, Vec::new(), &|_, _, _| Ok(()))
}

/// The JSON Schema (draft 2020-12) of the file, as text: what `schema.json` beside the example holds.
///
/// # Errors
/// Where it cannot be written as JSON.
pub fn json_schema() -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&shape::schema::document())?;
    text.push('\n');
    Ok(text)
}

/// Everything that the daemon is told at start and at reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the daemon keeps what.
    pub paths: Paths,
    /// The cgroup that the daemon lives in, below the cgroup v2 mount; made at start when it is
    /// not in a cgroup of its own already. Default: where it is, or `interceptor` from the root cgroup.
    pub daemon_cgroup: Option<String>,
    /// The cgroup below which `interceptor run` makes its scopes. Default `agents.slice`.
    pub run_parent: String,
    /// Whether the whole host is guarded, and not only scopes. Default: no.
    pub guard_host: bool,
    /// Tagged cgroups, by path below the cgroup v2 mount.
    pub scopes: Vec<Scope>,
    /// Whose containers are by their labels; the first that fits says so.
    pub labels: Vec<LabelRule>,
    /// Where container runtimes keep what they know, beside the usual places.
    pub containers: Vec<PathBuf>,
    /// Agents by name. An agent that is tagged but not listed gets the defaults.
    pub agents: BTreeMap<String, Agent>,
    /// Targets by name.
    pub targets: BTreeMap<String, Arc<Target>>,
    /// Whose tokens bind scopes, by name.
    pub issuers: BTreeMap<String, Arc<Issuer>>,
    /// Whose assertions do, by name: the issuers that speak SAML.
    pub saml: BTreeMap<String, Arc<Saml>>,
    /// What goes straight out, decided in the kernel.
    pub direct: Vec<Direct>,
    /// Where DNS may go. Default: the servers of `/etc/resolv.conf`.
    pub resolvers: Vec<Resolver>,
    /// What agents may ask them.
    pub names: Names,
    /// Which UNIX sockets outside of them scopes may reach.
    pub unix: Unix,
    /// Names and addresses that certificates for agents may be for, beside the targets' own; `None` where nothing
    /// is said of them.
    pub authority_names: Option<Vec<Host>>,
    /// What the authority's key is encrypted with on disk; none where it lies there in clear.
    pub authority_seal: Option<SecretSource>,
    /// What `interceptor run` takes away from commands.
    pub launcher: Launcher,
    /// The audit log.
    pub audit: Audit,
    /// The recordings.
    pub recording: Recording,
    /// Where metrics are served over TCP, if at all; never reachable from a scope.
    pub metrics: Option<SocketAddr>,
    /// The web page for people, if there is one; never reachable from a scope.
    pub console: Option<Console>,
    /// Who else is told of what waits for people.
    pub webhook: Option<Webhook>,
    /// Which user of the host is who elsewhere.
    pub people: Vec<KnownPerson>,
    /// How long a drain waits for sessions. Default 30 s.
    pub drain: Duration,
}

impl Config {
    /// Keys that differ in `new` and are read only at start. All others may change at reload:
    /// scopes, agents, targets, issuers of both kinds, direct, resolvers, names and drain.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old_paths, new_paths) = (&self.paths, &new.paths);
        let rows = [
            ("paths.run", old_paths.run != new_paths.run),
            ("paths.state", old_paths.state != new_paths.state),
            ("paths.bpffs", old_paths.bpffs != new_paths.bpffs),
            ("paths.policies", old_paths.policies != new_paths.policies),
            ("daemon_cgroup", self.daemon_cgroup != new.daemon_cgroup),
            ("run_parent", self.run_parent != new.run_parent),
            ("guard", self.guard_host != new.guard_host),
            ("containers", self.containers != new.containers),
            ("audit", self.audit != new.audit),
            ("recording", self.recording != new.recording),
            ("metrics", self.metrics != new.metrics),
            ("console", self.console != new.console),
        ];
        rows.into_iter()
            .filter_map(|(key, differs)| differs.then_some(key))
            .collect()
    }

    /// This, with all that is read only at start taken from `running`: the daemon stands on it.
    #[must_use]
    pub fn in_place_of(self, running: &Self) -> Self {
        Self {
            paths: running.paths.clone(),
            daemon_cgroup: running.daemon_cgroup.clone(),
            run_parent: running.run_parent.clone(),
            guard_host: running.guard_host,
            containers: running.containers.clone(),
            audit: running.audit.clone(),
            recording: running.recording.clone(),
            metrics: running.metrics,
            console: running.console.clone(),
            ..self
        }
    }

    /// Where the daemon itself dials, beside targets and resolvers: issuers, outputs of the audit, the webhook and
    /// whoever issues what is injected. Those that have a name are not here: they are spoken to under TLS
    /// alone, which shows who answers.
    pub fn dialled(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let issuers = self.issuers.values().map(|issuer| issuer.url.at());
        let outputs = self.audit.outputs.values();
        let outputs = outputs.filter_map(|output| output.to.at());
        let webhook = self.webhook.iter().map(|webhook| webhook.url.at());
        let injected = self.targets.values().filter_map(|target| target.http());
        let injected = injected.filter_map(|http| match &http.inject {
            Some(Inject::Issued(client)) => Some(client.url.at()),
            Some(_) | None => None,
        });
        let all = issuers.chain(outputs).chain(webhook).chain(injected);
        all.filter_map(|(host, port)| match host {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, port)),
            Host::Name(_) => None,
        })
    }

    /// What an agent may use up: what the file says of it, or the defaults.
    #[must_use]
    pub fn agent(&self, name: &str) -> Agent {
        self.agents.get(name).cloned().unwrap_or_default()
    }

    /// Whether an address is a resolver's.
    #[must_use]
    pub fn is_resolver(&self, at: SocketAddr) -> bool {
        let at = (at.ip().to_canonical(), at.port());
        let mut resolvers = self.resolvers.iter().map(|resolver| resolver.address);
        resolvers.any(|resolver| (resolver.ip().to_canonical(), resolver.port()) == at)
    }

    /// The targets that have this name, each with its port there.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Arc<Target>, u16)> + 'a {
        self.targets.values().flat_map(move |target| {
            let own = target.addresses.iter();
            let own = own.filter(move |at| matches!(&at.host, Host::Name(own) if own == name));
            let below = target.below.iter();
            let below = below.filter(move |at| name != at.domain && is_below(name, &at.domain));
            let ports = own.map(|at| at.port).chain(below.map(|at| at.port));
            ports.map(move |port| (target, port))
        })
    }

    /// Whether targets have this name only because it is below a domain of theirs: then what it leads to is said by
    /// whoever may make such names, which need not be the target's owner.
    #[must_use]
    pub fn is_anybodys(&self, name: &str) -> bool {
        let mut addresses = self.targets.values().flat_map(|target| &target.addresses);
        !addresses.any(|at| matches!(&at.host, Host::Name(own) if own == name))
            && !self.names.is_private(name)
    }

    /// The `direct` rule that a destination falls under. A target's name that resolves into one must
    /// be refused: the rule would lead around the daemon.
    #[must_use]
    pub fn direct_over(&self, destination: SocketAddr) -> Option<&Direct> {
        self.direct
            .iter()
            .find(|rule| cross::covers(rule, destination))
    }

    /// The sources of all secrets, with their target's name, or what else they are for.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &SecretSource)> {
        let targets = self.targets.values().flat_map(|target| {
            let sources = target.protocol.secrets().chain(&target.tls.key);
            sources.map(|source| (target.name.as_str(), source))
        });
        let seal = self.authority_seal.iter().map(|seal| ("authority", seal));
        let webhook = self.webhook.iter().map(|hook| ("webhook", &hook.secret));
        targets.chain(seal).chain(webhook)
    }
}

/// Directories. `run` and `state` are made at start, with modes 0755 and 0711.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The file this was read from.
    pub config: PathBuf,
    /// `control.sock`, `agent.sock`. Default `/run/interceptor`.
    pub run: PathBuf,
    /// The authority, audit, recordings, checkpoints. Default `/var/lib/interceptor`.
    pub state: PathBuf,
    /// Pins. Default `/sys/fs/bpf/interceptor`; a bpffs is mounted there where there is none.
    pub bpffs: PathBuf,
    /// Cedar files and `schema.cedarschema`. Default `policies` beside the file.
    pub policies: PathBuf,
}

/// A cgroup whose processes are intercepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Path below the cgroup v2 mount, without a leading slash: `agents.slice/claude`. Made when missing.
    pub cgroup: String,
    /// The agent's name.
    pub agent: String,
}

/// What one agent may use up; `None` is no limit (`unlimited` in the file; zero is refused at load).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Connections at once. Default 256.
    pub connections: Option<u32>,
    /// Sessions at once. Default 128.
    pub sessions: Option<u32>,
    /// Requests a second, as a token bucket of one second's size. Default none.
    pub requests_per_second: Option<u32>,
    /// Inject for processes that hold host capabilities. Default false.
    pub allow_privileged: bool,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            connections: Some(256),
            sessions: Some(128),
            requests_per_second: None,
            allow_privileged: false,
        }
    }
}

/// A configured upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name, the key in the file.
    pub name: String,
    /// Where agents dial, and where the daemon dials. Host names are resolved at start, at reload and every minute.
    pub addresses: Vec<Address>,
    /// UNIX sockets, where agents dial and where the daemon dials.
    pub sockets: Vec<SocketPath>,
    /// Domains all of whose names are the target's: an agent finds it by asking for one of them.
    pub below: Vec<Below>,
    /// Where the daemon dials instead.
    pub dial: Dial,
    /// What it speaks.
    pub protocol: Protocol,
    /// From which network namespace the daemon dials. Default: its own.
    pub namespace: Namespace,
    /// TLS to the upstream.
    pub tls: UpstreamTls,
    /// What is kept of statement text in the audit. Default `Redacted`.
    pub statement: StatementText,
    /// Whether sessions are recorded. Default true.
    pub record: bool,
    /// How long its recordings are kept.
    pub keep: Keep,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Words that say a mask for many columns.
    pub tags: BTreeMap<String, Mask>,
    /// Its sensitive columns, in the order of the file.
    pub sensitive: Vec<Sensitive>,
    /// What is done about values that detectors find in answers. Default: none are looked for.
    pub detect: detect::Actions,
}

impl Target {
    /// What only PostgreSQL needs; `None` where it speaks something else.
    #[must_use]
    pub fn postgres(&self) -> Option<&Arc<Postgres>> {
        match &self.protocol {
            Protocol::Postgres(postgres) => Some(postgres),
            Protocol::Http(_) | Protocol::Ssh(_) => None,
            Protocol::Kubernetes(_) | Protocol::Proxy(_) => None,
        }
    }

    /// What HTTP needs, whatever is said by it; `None` where it speaks something else.
    #[must_use]
    pub fn http(&self) -> Option<&Arc<Http>> {
        match &self.protocol {
            Protocol::Http(http) => Some(http),
            Protocol::Kubernetes(cluster) => Some(&cluster.http),
            Protocol::Postgres(_) | Protocol::Ssh(_) | Protocol::Proxy(_) => None,
        }
    }

    /// Whether the daemon has nothing of its own to give whoever answers for it: no password, key or token.
    #[must_use]
    pub fn gives_nothing(&self) -> bool {
        self.protocol.secrets().next().is_none() && self.tls.key.is_none()
    }

    /// Whether whoever answers for it has to prove that it is its server before it is given anything: over a network
    /// that others control, too.
    #[must_use]
    pub fn proves_server(&self) -> bool {
        match &self.protocol {
            Protocol::Postgres(_) | Protocol::Http(_) => self.tls.proves_server(),
            Protocol::Kubernetes(_) => self.tls.proves_server(),
            Protocol::Ssh(ssh) => matches!(ssh.host_keys, HostKeys::Pinned(_)),
            // It is spoken to in clear.
            Protocol::Proxy(_) => false,
        }
    }

    /// What only a cluster needs; `None` where it speaks something else.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&Arc<Kubernetes>> {
        match &self.protocol {
            Protocol::Kubernetes(cluster) => Some(cluster),
            Protocol::Postgres(_) | Protocol::Http(_) => None,
            Protocol::Ssh(_) | Protocol::Proxy(_) => None,
        }
    }

    /// What only a proxy needs; `None` where it is none.
    #[must_use]
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        match &self.protocol {
            Protocol::Proxy(proxy) => Some(proxy),
            Protocol::Postgres(_) | Protocol::Http(_) => None,
            Protocol::Ssh(_) | Protocol::Kubernetes(_) => None,
        }
    }

    /// What only SSH needs; `None` where it speaks something else.
    #[must_use]
    pub fn ssh(&self) -> Option<&Arc<Ssh>> {
        match &self.protocol {
            Protocol::Ssh(ssh) => Some(ssh),
            Protocol::Http(_) | Protocol::Kubernetes(_) => None,
            Protocol::Postgres(_) | Protocol::Proxy(_) => None,
        }
    }
}

/// Where the daemon dials, where that is not where the agent dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Servers that stand for each other; none for where the agent dialled.
    pub hosts: Vec<Address>,
    /// UNIX sockets likewise, which come after them.
    pub sockets: Vec<SocketPath>,
    /// In which order they are tried. Default `Listed`.
    pub order: Order,
    /// How long one of several may take, connection and login. Default 3 s.
    pub timeout: Duration,
}

impl Default for Dial {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            sockets: Vec::new(),
            order: Order::Listed,
            timeout: Duration::from_secs(3),
        }
    }
}

impl Dial {
    /// Whether nothing else is said than where the agent dialled.
    #[must_use]
    pub fn is_where_dialled(&self) -> bool {
        self.hosts.is_empty() && self.sockets.is_empty()
    }
}

/// In which order servers are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As listed.
    Listed,
    /// Another one each time.
    Random,
}

/// A host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Name or literal address.
    pub host: Host,
    /// Port.
    pub port: u16,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A DNS name, lower case.
    Name(String),
}

impl Host {
    /// A host as somebody else writes it, by the rules of this file: a name is lower case and without its last dot
    /// here, an address in its plain form. `None` where it is neither.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        match text.parse::<IpAddr>() {
            Ok(ip) => Some(Self::Ip(ip.to_canonical())),
            Err(_no_address) => scalar::name(text).map(Self::Name),
        }
    }
}

/// Every name below a domain, and a port; written `*.domain:5432`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Below {
    /// The domain, lower case; not covered itself.
    pub domain: String,
    /// Port.
    pub port: u16,
}

/// What a target speaks, with what only that protocol needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL.
    Postgres(Arc<Postgres>),
    /// HTTP.
    Http(Arc<Http>),
    /// SSH.
    Ssh(Arc<Ssh>),
    /// Kubernetes: a cluster's API server.
    Kubernetes(Arc<Kubernetes>),
    /// Nothing of its own: a proxy, which is asked for other targets.
    Proxy(Arc<Proxy>),
}

impl Protocol {
    /// Its word in recordings.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Http(_) => "http",
            Self::Ssh(_) => "ssh",
            Self::Kubernetes(_) => "kubernetes",
            Self::Proxy(_) => "proxy",
        }
    }

    /// The databases that may be asked for; none where it knows no databases, and a session is on the target
    /// as a whole.
    #[must_use]
    pub fn databases(&self) -> &[String] {
        match self {
            Self::Postgres(postgres) => &postgres.databases,
            Self::Http(_) => &[],
            Self::Ssh(_) => &[],
            Self::Kubernetes(_) => &[],
            Self::Proxy(_) => &[],
        }
    }

    /// Whether a session on this database, or on the target as a whole, may be asked for.
    #[must_use]
    pub fn offers(&self, database: Option<&str>) -> bool {
        let databases = self.databases();
        database.map_or(databases.is_empty(), |database| {
            databases.iter().any(|name| name == database)
        })
    }

    /// The sources of the credentials that it logs in with.
    fn secrets(&self) -> impl Iterator<Item = &SecretSource> {
        let sources: Vec<_> = match self {
            Self::Postgres(postgres) => postgres.password.iter().collect(),
            Self::Http(http) => http.inject.iter().flat_map(Inject::secrets).collect(),
            Self::Ssh(ssh) => ssh.secrets().map(|(_, source)| source).collect(),
            Self::Kubernetes(cluster) => (cluster.http.inject.iter())
                .flat_map(Inject::secrets)
                .collect(),
            Self::Proxy(proxy) => proxy.login.iter().map(|(_, source)| source).collect(),
        };
        sources.into_iter()
    }
}

/// A PostgreSQL target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// Who logs in.
    pub user: String,
    /// With what; none for `trust`, `peer` or a client certificate alone.
    pub password: Option<SecretSource>,
    /// Which databases may be asked for. At least one.
    pub databases: Vec<String>,
    /// `search_path` set at login; names without a schema are looked up here. Default `["public"]`.
    pub search_path: Vec<String>,
    /// Functions, by schema and name, that may be called while columns are masked: what they give back is no
    /// more than what they are given. Default none but those that are known.
    pub functions: BTreeSet<(String, String)>,
    /// Whether MD5 logins are accepted from the server. Default false.
    pub allow_md5: bool,
    /// Whether nothing but a SCRAM login is accepted from the server. Default false.
    pub require_scram: bool,
    /// Connections that are logged in before a session asks for one.
    pub warm: Warm,
    /// What clients are asked for. Default `Trust`.
    pub client_auth: ClientAuth,
    /// Whether clients are asked for a password that is only reported. Default false.
    pub ask_password: bool,
    /// What the server must be. Default `Any`.
    pub session_attrs: SessionAttrs,
    /// What stands between the daemon and the server. Default `None`.
    pub pooler: Pooler,
}

/// What a server must be for a session on it; libpq's `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAttrs {
    /// Whatever it is.
    Any,
    /// Sessions may write by default.
    ReadWrite,
    /// They may not.
    ReadOnly,
    /// It is no standby.
    Primary,
    /// It is a standby.
    Standby,
    /// A standby where there is one.
    PreferStandby,
}

impl SessionAttrs {
    /// libpq's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }
}

/// What stands between the daemon and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing: who answers the login runs the statements.
    None,
    /// A pooler that gives each client a server's session for as long as it stays.
    Session,
}

/// What a client is asked for, beside what the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    Trust,
    /// SCRAM with the scope's throw-away password, which `interceptor run` sets: for clients that
    /// take no server that asks for nothing.
    Scram,
}

/// Connections that are logged in ahead of sessions. Only for what a session asked for a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warm {
    /// How many may wait at one target; zero for none. Default 2.
    pub connections: u32,
    /// How long one may wait before it is closed unused. Default 30 s.
    pub age: Duration,
}

impl Default for Warm {
    fn default() -> Self {
        Self {
            connections: 2,
            age: Duration::from_secs(30),
        }
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// A file, owned by root or the daemon's user, mode 0600 or tighter; one trailing newline is dropped.
    File(PathBuf),
    /// A variable of the daemon's environment.
    Env(String),
    /// The standard output of a command, cached for `ttl`.
    Exec {
        /// Program and arguments; the program by absolute path.
        command: Vec<String>,
        /// How long it may run. Default 10 s.
        timeout: Duration,
        /// How long its answer is used. Default 60 s; zero asks each time.
        ttl: Duration,
    },
    /// A systemd credential by name (`LoadCredential=`), below `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// TLS to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// How it is verified. Default `VerifyFull`.
    pub mode: TlsMode,
    /// Trusted roots, PEM; the host's own roots where absent.
    pub ca: Option<PathBuf>,
    /// The name to verify, where it is not the address's.
    pub server_name: Option<String>,
    /// The client's certificate and its chain, PEM; where absent, they stand with the key.
    pub certificate: Option<PathBuf>,
    /// The client certificate's key, PEM; none for no client certificate.
    pub key: Option<SecretSource>,
    /// Whether TLS begins with the first byte, where the protocol has it asked for otherwise.
    pub direct: bool,
}

impl UpstreamTls {
    /// Whether a finished handshake proves who the server is: that a password may be shown to it, and that
    /// a network which others control may lie in between. With the host's own roots `verify-ca` is passed by
    /// anybody who can buy a certificate.
    #[must_use]
    pub fn proves_server(&self) -> bool {
        match self.mode {
            TlsMode::VerifyFull => true,
            TlsMode::VerifyCa => self.ca.is_some(),
            TlsMode::Disable | TlsMode::Require => false,
        }
    }
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self {
            mode: TlsMode::VerifyFull,
            ca: None,
            server_name: None,
            certificate: None,
            key: None,
            direct: false,
        }
    }
}

/// libpq's words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never: the wire is in clear.
    Disable,
    /// TLS, certificate not verified.
    Require,
    /// TLS, chain verified.
    VerifyCa,
    /// TLS, chain and name verified.
    VerifyFull,
}

/// From where the daemon dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// The daemon's own network namespace.
    Daemon,
    /// The client's: only with verified TLS, or for a destination that is that namespace's loopback.
    Client,
}

/// What the audit keeps of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementText {
    /// Nothing but the fingerprint.
    None,
    /// The text with literals replaced.
    Redacted,
    /// The text as sent.
    Full,
}

/// How long a target waits for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the client to finish its startup. Default 10 s.
    pub startup: Duration,
    /// To connect and log in upstream. Default 10 s.
    pub dial: Duration,
    /// A session without a request. Default none.
    pub idle: Option<Duration>,
    /// A session without a request while a transaction is open. Default none.
    pub idle_in_transaction: Option<Duration>,
    /// A statement, after which it is cancelled. Default none.
    pub statement: Option<Duration>,
    /// A request that waits for an approval. Default 5 min; zero lets none wait.
    pub hold: Duration,
}

/// A destination that is not intercepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Network.
    pub network: IpNet,
    /// Port; `None` for all.
    pub port: Option<u16>,
    /// For these agents only; empty for all.
    pub agents: Vec<String>,
    /// Refused while the daemon is down. Default false.
    pub needs_daemon: bool,
}

/// A DNS server that scopes may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Its address.
    pub address: SocketAddr,
}
