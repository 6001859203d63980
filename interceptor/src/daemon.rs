//! The composition root: builds each part once, binds, serves, drains.
//!
//! Nothing starts half: configuration, policy and authority are read and checked, the sockets are
//! bound and the audit log is opened before the first program is attached. Nothing imports this module.

mod console;
mod descriptors;
mod door;
mod drain;
mod findable;
mod kernel;
mod metrics;
mod parts;
mod pillars;
mod retention;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::unistd::Uid;
use rustls::ServerConfig;
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::door::Door;
use self::parts::Parts;
use self::pillars::Pillars;
use crate::capture::Events;
use crate::config;
use crate::control::caller::logins::Logins;
use crate::control::scopes::{binding, placing};
use crate::control::{self, apply};
use crate::names;
use crate::outputs;
use crate::policy;
use crate::protocol::Engines;
use crate::secrets;
use crate::session::ending;
use crate::session::people::{answering, chat};
use crate::session::services::{Provision, Services};

/// Where is served: the control sockets, the metrics, the console.
type Listeners = (
    [UnixListener; 2],
    Option<TcpListener>,
    Option<(TcpListener, Option<Arc<ServerConfig>>)>,
);

/// How often the targets' names are resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it. Nothing is left attached half.
pub async fn run(path: &Path) -> anyhow::Result<()> {
    secrets::harden().context("cannot make the daemon not dumpable")?;
    // Before anything is attached: an early SIGHUP must not end a daemon that agents depend on.
    let mut signals = Signals::take()?;
    descriptors::raise().context("cannot raise the limit on descriptors")?;
    if !Uid::effective().is_root() {
        // What others may not read is not looked into.
        config::load(path).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
        bail!(
            "cannot attach programs to cgroups as uid {}: the daemon needs root",
            Uid::effective()
        );
    }
    let (config, policy) = apply::files::both(path, None, policy::Handle::load)
        .map_err(|mistakes| anyhow::anyhow!("{}", mistakes.join("\n")))?;
    let Parts {
        services,
        engines,
        listeners,
        events,
        provisions,
        control,
        targets,
        metrics,
        console,
    } = parts::build(config, policy).await?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let engines = Arc::new(engines);
    let door = Door::new(&services, &engines, &stop, &tasks);
    start(&services)?;
    apply::taken_out(&services).await;
    ending::take_over(&services).await;
    door.open(listeners, None)?;
    door.open_to_paths(targets);
    let asked = (events, provisions);
    let mut pillars = stand(&door, engines, asked, (control, metrics, console));
    placing::watch_existing(&services);
    watch::notify(sd_notify::NotifyState::Ready);
    tokio::spawn(watch::dog(stop.clone()));
    tracing::info!(generation = services.policy.generation().0, "ready");
    let fallen = tokio::select! {
        () = signals.serve(&services) => None,
        fallen = pillars.fallen() => Some(fallen),
    };
    watch::notify(sd_notify::NotifyState::Stopping);
    drain::drain(&services, &stop, &tasks).await;
    apply::say(&services, "stop", "ok", json!({}));
    services
        .audit
        .close()
        .context("cannot close the audit log")?;
    match fallen {
        Some(what) => bail!("{what} ended, and the daemon cannot go on without it"),
        None => Ok(()),
    }
}

/// Begins what the daemon stands on.
fn stand(
    door: &Door,
    engines: Arc<Engines>,
    (events, provisions): (Events, mpsc::Receiver<Provision>),
    (control, metrics, console): Listeners,
) -> Pillars {
    let Door { services, stop, .. } = door;
    let shared = || (Arc::clone(services), stop.clone());
    let mut pillars = Pillars::default();
    let (parts, until) = shared();
    let logins = Arc::new(Logins::default());
    let serve = control::serve(parts, control, Arc::clone(&logins), until);
    pillars.stand("what serves the control sockets", serve);
    if let Some(listener) = metrics {
        let (parts, until) = shared();
        let serve = metrics::serve(parts, listener, until);
        pillars.stand("what serves the metrics", serve);
    }
    if let Some(listener) = console {
        let (parts, until) = shared();
        let serve = crate::console::serve(parts, logins, listener, until);
        pillars.stand("what serves the console", serve);
    }
    pillars.stand("what retires listeners", door.clone().sweep());
    let events = kernel::events(door.clone(), events);
    pillars.stand("what reads the kernel's refusals", events);
    let provisions = kernel::provisions(door.clone(), provisions);
    pillars.stand("what listens in namespaces", provisions);
    let (parts, until) = shared();
    let resolve = watch::resolve(parts, until, RESOLVE_EVERY);
    pillars.stand("what resolves the targets' names", resolve);
    let reloads = watch::reloads(services.reloads.subscribe(), engines, stop.clone());
    pillars.stand("what heeds reloads", reloads);
    for (name, output) in services.config.load().audit.outputs.clone() {
        let from = outputs::From::below(&services.config.load().paths.state, &services.audit);
        let shared = (services.outputs.clone(), stop.clone());
        let sends = outputs::run((name, output), from, Arc::clone(&services.secrets), shared);
        pillars.stand("what sends the audit to others", sends);
    }
    let (parts, until) = shared();
    pillars.stand(
        "what makes sessions findable",
        findable::follow(parts, until),
    );
    let (parts, until) = shared();
    pillars.stand("what purges recordings", retention::watch(parts, until));
    let (parts, until) = shared();
    pillars.stand("what forgets names", names::sweep(parts, until));
    let (parts, until) = shared();
    pillars.stand("what forgets what is over", watch::prune(parts, until));
    let (parts, until) = shared();
    pillars.stand("what ends grants", ending::watch(parts, until));
    let (parts, until) = shared();
    pillars.stand("what ends identities", binding::watch(parts, until));
    let (parts, until) = shared();
    pillars.stand("what ends questions", answering::watch(parts, until));
    let (parts, until) = shared();
    pillars.stand("what tells the webhook", chat::watch(parts, until));
    pillars
}

/// Puts the rules in force before a scope is tagged, so that a fresh scope never runs without them.
fn start(services: &Arc<Services>) -> anyhow::Result<()> {
    apply::rules(services).context("cannot write the kernel's rules")?;
    apply::tag(services, &services.config.load()).context("cannot tag a scope")?;
    // Again, for `direct` rules that name the agents of scopes tagged just now.
    apply::rules(services).context("cannot write the kernel's rules")?;
    let config = services.config.load();
    apply::say(
        services,
        "start",
        "ok",
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config": config.paths.config,
            "targets": config.targets.keys().collect::<Vec<_>>(),
        }),
    );
    Ok(())
}

/// The signals that the daemon answers.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on they wait to be answered, rather than end the process.
    fn take() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    /// Reloads at each SIGHUP, until the signal to stop. That ends a reload too, which has changed nothing
    /// as long as it waits.
    async fn serve(&mut self, services: &Arc<Services>) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => tokio::select! {
                    () = reload(services) => {}
                    _ = self.terminate.recv() => return,
                    _ = self.interrupt.recv() => return,
                },
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }
}

async fn reload(services: &Arc<Services>) {
    watch::reloading();
    let reloaded = apply::reload(services).await;
    for mistake in &reloaded.mistakes {
        tracing::error!(%mistake, "cannot reload; everything old stays in force");
    }
    apply::say(services, "reload", reloaded.result(), json!(reloaded));
    watch::notify(sd_notify::NotifyState::Ready);
}
