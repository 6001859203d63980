//! The composition root: builds each part once, binds, serves, drains.
//!
//! Nothing starts half: configuration, policy, authority and audit are read and checked before the
//! first program is attached. Nothing imports this module.

mod descriptors;
mod drain;
mod kernel;
mod metrics;
mod watch;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit;
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::capture::{self, Capture, Listeners, NetnsCookie};
use crate::config::{self, Config};
use crate::connection;
use crate::control::{self, apply, placing};
use crate::identity;
use crate::policy;
use crate::protocol::Engines;
use crate::recording::Recorder;
use crate::secrets::{self, Secrets};
use crate::session::scopes::Scopes;
use crate::session::services::Services;
use crate::targets::Targets;
use crate::telemetry::Metrics;
use crate::tls::Authority;

/// How often the targets' names are resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);

/// How often namespaces are looked at that nobody may live in any more.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How long an accept loop rests after an error such as a full table of descriptors.
const REST: Duration = Duration::from_millis(100);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it. Nothing is left attached half.
pub async fn run(path: &Path) -> anyhow::Result<()> {
    secrets::harden().context("cannot make the daemon not dumpable")?;
    descriptors::raise().context("cannot raise the limit on descriptors")?;
    let config = config::load(path).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let (services, listeners) = build(config).await?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let engines = Arc::new(Engines::new().context("cannot build the engines")?);
    let door = Door {
        services: Arc::clone(&services),
        engines,
        stop: stop.clone(),
        tasks: tasks.clone(),
        namespaces: Arc::default(),
    };
    let sockets = control::listen(&services.config.load().paths.run)?;
    start(&services)?;
    door.open(listeners, None)?;
    tokio::spawn(control::serve(Arc::clone(&services), sockets, stop.clone()));
    tokio::spawn(door.clone().sweep());
    tokio::spawn(kernel::events(door));
    tokio::spawn(watch::resolve(
        Arc::clone(&services),
        stop.clone(),
        RESOLVE_EVERY,
    ));
    metrics::serve(&services, stop.clone()).await?;
    placing::watch_existing(&services);
    watch::notify(sd_notify::NotifyState::Ready);
    tokio::spawn(watch::dog(stop.clone()));
    tracing::info!(generation = services.policy.generation().0, "ready");
    signals(&services).await?;
    watch::notify(sd_notify::NotifyState::Stopping);
    drain::drain(&services, &stop, &tasks).await;
    say(&services, "stop", json!({}));
    services
        .audit
        .close()
        .context("cannot close the audit log")?;
    Ok(())
}

/// Builds every part; the programs last, since they are what others notice.
async fn build(config: Config) -> anyhow::Result<(Arc<Services>, Listeners)> {
    directory(&config.paths.run, 0o755)?;
    directory(&config.paths.state, 0o711)?;
    let policy = policy::Handle::load(&config.paths.policies)
        .map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let authority =
        Authority::open(&config.paths.state).context("cannot open the local authority")?;
    let audit = audit::Log::open(&config.paths.state.join("audit"), &config.audit)
        .context("cannot open the audit log")?;
    let recorder = Recorder::open(&config.paths.state.join("recordings"), &config.recording);
    let recorder = recorder.context("cannot open the recordings")?;
    let targets = Targets::resolve(&config, &Targets::default()).await;
    let ways_around = targets.ways_around(&config);
    if !ways_around.is_empty() {
        bail!("{}", ways_around.join("\n"));
    }
    unreachable_for_scopes(&config)?;
    let settings = capture::Settings {
        daemon_cgroup: config.daemon_cgroup.clone(),
        ..capture::Settings::new(config.paths.bpffs.clone())
    };
    let capture = Arc::new(Capture::start(&settings).context("cannot start the capture")?);
    capture
        .reserve(config.metrics.as_slice())
        .context("cannot keep scopes from the metrics")?;
    let listeners = capture
        .listeners()
        .context("cannot listen for redirected connections")?;
    let identity = identity::Identifier::new(capture.hierarchy().mount());
    let services = Services {
        netns: listeners.netns,
        listeners: addresses(&listeners)?,
        scopes: Scopes::new(&capture).context("cannot read the scopes")?,
        identity: identity.context("cannot identify processes")?,
        capture,
        policy,
        audit,
        recorder,
        secrets: Secrets::default(),
        authority,
        targets: ArcSwap::from_pointee(targets),
        config: ArcSwap::from_pointee(config),
        meters: Default::default(),
        registry: Default::default(),
        metrics: Metrics::default(),
    };
    Ok((Arc::new(services), listeners))
}

/// Puts the rules in force before a scope is tagged, so that a fresh scope never runs without them.
fn start(services: &Arc<Services>) -> anyhow::Result<()> {
    apply::rules(services).context("cannot write the kernel's rules")?;
    apply::scopes(services).context("cannot tag a scope")?;
    // Again, for `direct` rules that name the agents of scopes tagged just now.
    apply::rules(services).context("cannot write the kernel's rules")?;
    let config = services.config.load();
    say(
        services,
        "start",
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config": config.paths.config,
            "targets": config.targets.keys().collect::<Vec<_>>(),
        }),
    );
    Ok(())
}

/// Where connections come in: what each of them needs, and what ends them.
#[derive(Clone, Debug)]
struct Door {
    services: Arc<Services>,
    engines: Arc<Engines>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// What ends the listeners of a namespace that nobody lives in any more.
    namespaces: Arc<Mutex<HashMap<NetnsCookie, Namespace>>>,
}

/// The listeners of one namespace.
#[derive(Debug)]
struct Namespace {
    /// Ends them.
    stop: CancellationToken,
    /// For which scope they were made; none for the daemon's own.
    scope: Option<u64>,
}

impl Door {
    /// Takes connections on a pair of listeners from now on.
    fn open(&self, listeners: Listeners, scope: Option<u64>) -> anyhow::Result<()> {
        let stop = self.stop.child_token();
        let pair = std::iter::once(listeners.v4).chain(listeners.v6);
        for listener in pair {
            let listener = TcpListener::from_std(listener).context("cannot listen")?;
            self.tasks
                .spawn(self.clone().accept(listener, stop.clone()));
        }
        self.namespaces()
            .insert(listeners.netns, Namespace { stop, scope });
        Ok(())
    }

    /// Ends the listeners of namespaces that no process of a scope lives in: they would keep them alive.
    async fn sweep(self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                () = self.stop.cancelled() => return,
            }
            self.retire_idle();
        }
    }

    fn retire_idle(&self) {
        let idle = self.services.capture.idle_namespaces().unwrap_or_default();
        for netns in idle {
            if let Err(error) = self.services.capture.retire(netns) {
                tracing::warn!(%error, "cannot retire the listeners of an idle namespace");
                continue;
            }
            if let Some(namespace) = self.namespaces().remove(&netns) {
                namespace.stop.cancel();
            }
        }
    }

    /// How many namespaces have listeners for this scope.
    fn served(&self, scope: u64) -> usize {
        let namespaces = self.namespaces();
        let of_scope = |namespace: &&Namespace| namespace.scope == Some(scope);
        namespaces.values().filter(of_scope).count()
    }

    fn namespaces(&self) -> MutexGuard<'_, HashMap<NetnsCookie, Namespace>> {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections until the stop; each is a task of its own.
    async fn accept(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let path = connection::run(
                        Arc::clone(&self.services),
                        Arc::clone(&self.engines),
                        stream,
                    );
                    self.tasks.spawn(path);
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

/// Waits for the signal to stop; SIGHUP reloads on the way.
async fn signals(services: &Arc<Services>) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                watch::reloading();
                let reloaded = apply::reload(services).await;
                for mistake in &reloaded.mistakes {
                    tracing::error!(%mistake, "cannot reload; everything old stays in force");
                }
                let result = if reloaded.mistakes.is_empty() { "ok" } else { "failed" };
                write(services, "reload", result, json!(reloaded));
                watch::notify(sd_notify::NotifyState::Ready);
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

fn addresses(listeners: &Listeners) -> anyhow::Result<Vec<SocketAddr>> {
    let pair = std::iter::once(&listeners.v4).chain(&listeners.v6);
    let addresses: Result<_, _> = pair.map(std::net::TcpListener::local_addr).collect();
    addresses.context("cannot read a listener's address")
}

fn say(services: &Services, verb: &str, detail: serde_json::Value) {
    write(services, verb, "ok", detail);
}

fn write(services: &Services, verb: &str, result: &str, detail: serde_json::Value) {
    let generation = services.policy.generation();
    let event = Event::Control {
        verb,
        caller: None,
        result,
        detail,
        generation,
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, verb, "cannot write to the audit log");
    }
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

/// A metrics address that a `direct` rule covers could be read from a scope.
fn unreachable_for_scopes(config: &Config) -> anyhow::Result<()> {
    let Some(metrics) = config.metrics else {
        return Ok(());
    };
    let covers = |direct: &&config::Direct| {
        direct.network.contains(&metrics.ip())
            && direct.port.is_none_or(|port| port == metrics.port())
    };
    if let Some(direct) = config.direct.iter().find(covers) {
        bail!(
            "the metrics address {metrics} is covered by the direct rule {}: scopes could read it",
            direct.network
        );
    }
    Ok(())
}
