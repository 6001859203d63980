//! What a daemon is told: settings as a test says them, and the YAML file that they become.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Postgres;

/// A PostgreSQL target.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// `host:port`, as agents dial it.
    pub addresses: Vec<String>,
    /// Who logs in.
    pub user: String,
    /// The password, put into a file of mode 0600; none where the secret is to be missing.
    pub password: Option<String>,
    /// Which databases may be asked for.
    pub databases: Vec<String>,
    /// TLS to the server: the authority to trust; none for a wire in clear.
    pub authority: Option<PathBuf>,
    /// From which network namespace the daemon dials it: `daemon` or `client`.
    pub namespace: &'static str,
    /// `none`, `redacted` or `full`; the default where it is empty.
    pub statement: &'static str,
    /// More of `postgres`, as lines of YAML: `warm: { connections: 0 }`.
    pub postgres: Vec<String>,
    /// All of `http`, as lines of YAML, where it is no PostgreSQL; `SECRET` is the file of the password.
    pub http: Vec<String>,
    /// More of the target, as lines of YAML: `record: false`.
    pub more: Vec<String>,
    /// All of `tls`, where it is not to follow from the authority.
    pub tls: Option<String>,
}

impl Target {
    /// The sample database of `server` where it listens.
    #[must_use]
    pub fn shop(server: &Postgres) -> Self {
        Self::postgres("shop", server, server.address())
    }

    /// The sample database of `server`, dialled at `address` (the server itself, or a tap before it).
    #[must_use]
    pub fn postgres(name: &str, server: &Postgres, address: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            addresses: vec![address.to_string()],
            user: server.user().to_owned(),
            password: Some(server.password().to_owned()),
            databases: vec![server.database().to_owned()],
            authority: server.authority().map(|authority| authority.ca.clone()),
            namespace: "daemon",
            statement: "redacted",
            postgres: Vec::new(),
            http: Vec::new(),
            more: Vec::new(),
            tls: None,
        }
    }

    /// A server of HTTP at `address`, in clear, with these lines of `http`.
    #[must_use]
    pub fn http(name: &str, address: SocketAddr, lines: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            addresses: vec![address.to_string()],
            user: String::new(),
            password: None,
            databases: Vec::new(),
            authority: None,
            namespace: "daemon",
            statement: "redacted",
            postgres: Vec::new(),
            http: lines.iter().map(|line| (*line).to_owned()).collect(),
            more: Vec::new(),
            tls: None,
        }
    }
}

/// Everything that one daemon is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name that its scope is tagged with.
    pub agent: String,
    /// Its targets.
    pub targets: Vec<Target>,
    /// Cedar files by name.
    pub policies: Vec<(String, String)>,
    /// `relaxed` or `strict`.
    pub durability: &'static str,
    /// More of the audit's settings, as lines of YAML: `segment: 64KiB`.
    pub audit: Vec<String>,
    /// Limits of the agent, as lines of YAML: `connections: 2`.
    pub limits: Vec<String>,
    /// State directory, where it is not to be the daemon's own temporary one.
    pub state: Option<PathBuf>,
    /// Where metrics are served over TCP.
    pub metrics: Option<SocketAddr>,
    /// More cgroups that the agent is tagged in, below the cgroup v2 mount.
    pub scopes: Vec<String>,
    /// Labels of containers that are the agent's: `role=agent`.
    pub labels: Vec<String>,
    /// More top-level YAML, taken as it is.
    pub more: String,
}

impl Settings {
    /// One agent named `demo` with `targets` and `policy`.
    #[must_use]
    pub fn new(targets: Vec<Target>, policy: &str) -> Self {
        Self {
            agent: "demo".to_owned(),
            targets,
            policies: vec![("test.cedar".to_owned(), policy.to_owned())],
            durability: "relaxed",
            audit: Vec::new(),
            limits: Vec::new(),
            state: None,
            metrics: None,
            scopes: Vec::new(),
            labels: Vec::new(),
            more: String::new(),
        }
    }
}

/// The places that a daemon's file names.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) run: PathBuf,
    pub(super) state: PathBuf,
    pub(super) bpffs: PathBuf,
    pub(super) policies: PathBuf,
    pub(super) secrets: PathBuf,
    pub(super) daemon_cgroup: String,
    pub(super) parent: String,
    pub(super) scope: String,
}

/// The YAML file.
pub(super) fn yaml(settings: &Settings, places: &Places) -> String {
    let mut text = format!(
        "version: 1\n\
         paths:\n  run: {}\n  state: {}\n  bpffs: {}\n  policies: {}\n\
         daemon_cgroup: {}\nrun_parent: {}\n\
         audit:\n  durability: {}\n",
        places.run.display(),
        places.state.display(),
        places.bpffs.display(),
        places.policies.display(),
        places.daemon_cgroup,
        places.parent,
        settings.durability,
    );
    for setting in &settings.audit {
        line(&mut text, &format!("  {setting}"));
    }
    line(&mut text, "scopes:");
    for scope in std::iter::once(&places.scope).chain(&settings.scopes) {
        line(
            &mut text,
            &format!("  - {{ cgroup: {scope}, agent: {} }}", settings.agent),
        );
    }
    for label in &settings.labels {
        let agent = &settings.agent;
        line(
            &mut text,
            &format!("  - {{ match: {{ container_label: {label:?} }}, agent: {agent} }}"),
        );
    }
    if !settings.limits.is_empty() {
        line(&mut text, &format!("agents:\n  {}:", settings.agent));
        for limit in &settings.limits {
            line(&mut text, &format!("    {limit}"));
        }
    }
    if let Some(metrics) = settings.metrics {
        line(&mut text, &format!("metrics: \"{metrics}\""));
    }
    line(&mut text, "targets:");
    for target in &settings.targets {
        describe(&mut text, target, places);
    }
    text + &settings.more
}

fn describe(text: &mut String, target: &Target, places: &Places) {
    line(text, &format!("  {}:", target.name));
    line(text, &format!("    addresses: {:?}", target.addresses));
    match target.http.is_empty() {
        true => describe_postgres(text, target, places),
        false => {
            let secret = places.secrets.join(&target.name);
            let secret = format!("{{ file: {} }}", secret.display());
            line(text, "    http:");
            for more in &target.http {
                line(text, &format!("      {}", more.replace("SECRET", &secret)));
            }
        }
    }
    describe_rest(text, target);
}

fn describe_postgres(text: &mut String, target: &Target, places: &Places) {
    line(text, "    postgres:");
    line(text, &format!("      user: {}", target.user));
    let secret = places.secrets.join(&target.name);
    // A target that says of itself where its password comes from has no file; and what answers in a client's own
    // network, and proves nothing, is given none.
    let says = |more: &String| more.starts_with("password:");
    let is_proved = target.namespace == "daemon" || target.authority.is_some();
    if is_proved && !target.postgres.iter().any(says) {
        line(
            text,
            &format!("      password: {{ file: {} }}", secret.display()),
        );
    }
    line(text, &format!("      databases: {:?}", target.databases));
    for more in &target.postgres {
        line(text, &format!("      {more}"));
    }
}

fn describe_rest(text: &mut String, target: &Target) {
    for more in &target.more {
        line(text, &format!("    {more}"));
    }
    match &target.authority {
        _ if target.tls.is_some() => {
            let tls = target.tls.as_deref().unwrap_or_default();
            line(text, &format!("    tls: {tls}"));
        }
        Some(ca) => line(
            text,
            &format!("    tls: {{ mode: verify-full, ca: {} }}", ca.display()),
        ),
        None => line(text, "    tls: { mode: disable }"),
    }
    line(text, &format!("    namespace: {}", target.namespace));
    if !target.statement.is_empty() {
        line(text, &format!("    statement: {}", target.statement));
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
