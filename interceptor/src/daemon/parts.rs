//! Building each part once, in the order in which a mistake costs least: what only reads first, what
//! binds or opens next, the programs last, since they are what others notice.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use super::{console, metrics};
use crate::approvals::Approvals;
use crate::audit;
use crate::capture::{self, Capture, Events, Listeners};
use crate::config::{Config, Paths};
use crate::control::{self, apply};
use crate::factors::Factors;
use crate::grants::Grants;
use crate::hosts::Hosts;
use crate::identity::Identifier;
use crate::identity::runtimes::Runtimes;
use crate::policy;
use crate::protocol::Engines;
use crate::recording::Recorder;
use crate::scopes::Scopes;
use crate::secrets::Secrets;
use crate::session::services::{Provision, Services};
use crate::targets::Targets;
use crate::telemetry::Metrics;
use crate::tls::Authority;
use crate::tokens::Tokens;
use crate::tokens::fetch::clients::Clients;

/// Namespaces that may wait for their listeners; more have whoever asks wait.
const PROVISIONS: usize = 16;

/// Everything that a daemon consists of; nothing is served yet, and no scope is tagged anew.
#[derive(Debug)]
pub(super) struct Parts {
    /// What sessions stand on.
    pub(super) services: Arc<Services>,
    /// The engines.
    pub(super) engines: Engines,
    /// Where redirected connections come in.
    pub(super) listeners: Listeners,
    /// What the kernel tells on its own.
    pub(super) events: Events,
    /// Namespaces that need listeners before anybody connects in them.
    pub(super) provisions: mpsc::Receiver<Provision>,
    /// `control.sock` and `agent.sock`.
    pub(super) control: [UnixListener; 2],
    /// Where whoever dials a target's UNIX socket is led.
    pub(super) targets: UnixListener,
    /// Where metrics are served over TCP, if at all.
    pub(super) metrics: Option<TcpListener>,
    /// Where the console is served, if at all.
    pub(super) console: Option<(TcpListener, Option<Arc<ServerConfig>>)>,
}

async fn authority(config: &Config, secrets: &Secrets) -> anyhow::Result<Authority> {
    let authority = Authority::of(config, secrets).await;
    let authority = authority.context("cannot open the local authority")?;
    apply::confine(&authority, config);
    Ok(authority)
}

/// Builds every part.
pub(super) async fn build(config: Config, policy: policy::Handle) -> anyhow::Result<Parts> {
    let targets = Targets::resolve(&config, &Targets::default()).await;
    let ways_around = targets.ways_around(&config);
    if !ways_around.is_empty() {
        bail!("{}", ways_around.join("\n"));
    }
    let engines = Engines::new().context("cannot build the engines")?;
    directories(&config.paths)?;
    let secrets = Arc::new(Secrets::default());
    let authority = authority(&config, &secrets).await?;
    let control = control::listen(&config.paths.run)?;
    let for_targets = control::listen_for_targets(&config.paths.run)?;
    let metrics = metrics::listen(config.metrics).await?;
    let console = console::listen(config.console.as_ref(), &secrets).await?;
    let (audit, recorder) = records(&config)?;
    let (grants, tokens, approvals, factors) = granted(&config)?;
    let hosts = Hosts::open(&config.paths.state)?;
    let (capture, listeners) = capture(&config)?;
    let events = capture.events();
    let events = events.context("cannot read the kernel's refusals")?;
    let runtimes = Runtimes::new(&config.containers);
    let identity = Identifier::new(capture.hierarchy().mount(), runtimes);
    let (provisions, asked) = mpsc::channel(PROVISIONS);
    let services = Services {
        provisions,
        netns: listeners.netns,
        listeners: addresses(&listeners)?,
        scopes: Scopes::new(&capture).context("cannot read the scopes")?,
        identity: identity.context("cannot identify processes")?,
        capture,
        policy,
        grants,
        tokens,
        clients: Clients::open(&config.paths.state.join("refresh.db"))?,
        approvals,
        factors,
        audit,
        recorder,
        closings: Default::default(),
        hosts,
        secrets,
        outputs: Default::default(),
        authority,
        reloads: Default::default(),
        replacing: Default::default(),
        keeping: Default::default(),
        writing: Default::default(),
        names: Default::default(),
        anew: Default::default(),
        targets: ArcSwap::from_pointee(targets),
        config: ArcSwap::from_pointee(config),
        meters: Default::default(),
        registry: Default::default(),
        folds: Default::default(),
        distrust: Default::default(),
        metrics: Metrics::default(),
    };
    Ok(Parts {
        services: Arc::new(services),
        engines,
        listeners,
        events,
        control,
        targets: for_targets,
        provisions: asked,
        metrics,
        console,
    })
}

/// What was granted, whom scopes are bound to, and what people were asked.
fn granted(config: &Config) -> anyhow::Result<(Grants, Tokens, Approvals, Factors)> {
    let state = &config.paths.state;
    let grants = Grants::open(&state.join("grants.db"))?;
    let tokens = Tokens::open(&state.join("identities.db"))
        .context("cannot open what scopes are bound to")?;
    let approvals = Approvals::open(&state.join("approvals.db"))?;
    let factors = Factors::open(&state.join("factors.db"))
        .context("cannot open the keys of those who answer")?;
    Ok((grants, tokens, approvals, factors))
}

/// What is kept: the audit log, and the recordings that it vouches for.
fn records(config: &Config) -> anyhow::Result<(Arc<audit::Log>, Recorder)> {
    let state = &config.paths.state;
    let signer =
        audit::Signer::open(state).context("cannot open the key that signs the audit log")?;
    let audit = audit::Log::open(&state.join("audit"), signer, &config.audit);
    let audit = Arc::new(audit.context("cannot open the audit log")?);
    let sink: Arc<dyn audit::Sink> = Arc::<audit::Log>::clone(&audit);
    let recorder = Recorder::open(&state.join("recordings"), &config.recording, sink);
    Ok((audit, recorder.context("cannot open the recordings")?))
}

/// Attaches the programs. The scopes of an earlier start are still tagged: they wait for the listeners.
fn capture(config: &Config) -> anyhow::Result<(Arc<Capture>, Listeners)> {
    let settings = capture::Settings {
        daemon_cgroup: config.daemon_cgroup.clone(),
        host: config.guard_host,
        ..capture::Settings::new(config.paths.bpffs.clone())
    };
    let capture = Capture::start(&settings).context("cannot start the capture")?;
    let console = config.console.as_ref().map(|console| console.listen);
    let own: Vec<SocketAddr> = config.metrics.into_iter().chain(console).collect();
    capture
        .reserve(&own)
        .context("cannot keep scopes from the metrics and the console")?;
    let listeners = capture
        .listeners()
        .context("cannot listen for redirected connections")?;
    Ok((Arc::new(capture), listeners))
}

fn addresses(listeners: &Listeners) -> anyhow::Result<Vec<SocketAddr>> {
    let pair = std::iter::once(&listeners.v4).chain(&listeners.v6);
    let addresses: Result<_, _> = pair.map(std::net::TcpListener::local_addr).collect();
    addresses.context("cannot read a listener's address")
}

/// Those that everything else is in.
fn directories(paths: &Paths) -> anyhow::Result<()> {
    directory(&paths.run, 0o755)?;
    directory(&paths.state, 0o711)
}

fn directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path);
    made.with_context(|| format!("cannot make the directory {}", path.display()))?;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions)
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}
