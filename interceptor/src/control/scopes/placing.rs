//! `run`: a cgroup for one agent's process tree, made, tagged and entered; removed when it is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use secrecy::ExposeSecret as _;
use serde_json::json;
use uuid::Uuid;

use super::{binding, cgroup};
use crate::capture;
use crate::config::{self, Config};
use crate::control::api::{Launch, Placed, Run, Trust};
use crate::control::caller::{Answer, Known};
use crate::control::{Given, apply};
use crate::policy::ControlVerb;
use crate::protocol::ssh::host;
use crate::scopes;
use crate::session::services::Services;
use crate::tls::CERTIFICATE;

/// What scopes made here are called, so that a restarted daemon knows which to remove.
const PREFIX: &str = "run-";

/// How often an emptied scope is looked for where the kernel's own notice did not come.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// `POST /v1/run`.
///
/// # Errors
/// An answer that says that policy refuses, or what could not be made.
pub async fn run(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Run>,
) -> Result<Json<Placed>, Answer> {
    if !config::is_name(&asked.agent) {
        return Err(Answer::bad("an agent's name is 1 to 63 of a-z, 0-9 and -"));
    }
    let parent = services.config.load().run_parent.clone();
    let path = format!(
        "/{parent}/{PREFIX}{}-{}",
        asked.agent,
        Uuid::now_v7().simple()
    );
    let object = super::scope(&asked.agent, &path);
    caller.may(&services, ControlVerb::Run, &object).await?;
    let detail = json!({ "cgroup": path, "agent": asked.agent });
    let to = binding::Place {
        agent: &asked.agent,
        cgroup: &path,
    };
    let proved = match &asked.proof {
        Some(proof) => Some(binding::prove(&services, &caller, to, proof).await?),
        None => None,
    };
    let failed = |error: String| caller.failed(&services, "run", detail.clone(), &error);
    let scope = make(&services, &path, &asked.agent).map_err(failed)?;
    // From here on it is looked after: it goes where nobody could be moved into it.
    watch(Arc::clone(&services), scope.clone());
    if let Some(proved) = proved {
        binding::bind(&services, &caller, &scope, proved).await?;
    }
    let environment = environment(&services, &scope);
    enter(&services, &caller, &path).map_err(failed)?;
    caller.audit(&services, "run", "ok", detail);
    Ok(Json(Placed {
        cgroup: path,
        environment,
        launch: launch(&services),
    }))
}

/// Watches every scope that an earlier daemon made by `run`.
pub fn watch_existing(services: &Arc<Services>) {
    let parent = format!("/{}/{PREFIX}", services.config.load().run_parent);
    for scope in services.scopes.all().iter() {
        if scope.path.starts_with(&parent) {
            watch(Arc::clone(services), scope.clone());
        }
    }
}

/// Tagged before anything runs in it: no connection of the agent is older than its scope. A cgroup that
/// could not be tagged is removed again.
fn make(services: &Services, path: &str, agent: &str) -> Result<capture::Scope, String> {
    let hierarchy = services.capture.hierarchy();
    let made = hierarchy.make(path).map_err(|error| error.to_string());
    let scope = made.and_then(|()| super::intercept(services, path, agent));
    scope.map_err(|error| match cgroup::remove(hierarchy, path) {
        Ok(()) => error,
        Err(also) => format!("{error}; cgroup {path} stays: {also}"),
    })
}

/// The kernel moves by number. The caller is held and has to live before and after: in between nobody
/// else can have had its number.
fn enter(services: &Services, caller: &Known, path: &str) -> Result<(), String> {
    let ended = || "the caller has ended".to_owned();
    let process = caller.process().map_err(|_none| ended())?;
    if !process.lives() {
        return Err(ended());
    }
    let entered = services.capture.hierarchy().enter(path, process.pid);
    entered.map_err(|error| error.to_string())?;
    process.lives().then_some(()).ok_or_else(ended)
}

/// What the launcher takes away: the daemon's files among it, but for the certificate of its authority.
fn launch(services: &Services) -> Launch {
    let config = services.config.load();
    let paths = &config.paths;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let own = [
        paths.state.clone(),
        paths.bpffs.clone(),
        paths.policies.clone(),
        paths.config.clone(),
        paths.run.join("control.sock"),
    ];
    let secrets = config.secrets().filter_map(|(_, source)| match source {
        config::SecretSource::File(path) => Some(path.clone()),
        _ => None,
    });
    let files: Vec<PathBuf> = secrets.chain(own).collect();
    // A mask over a file goes with the file where another takes its name: its directory goes first.
    let around = files.iter().filter_map(|file| file.parent());
    let around: BTreeSet<&Path> = around
        .filter(|directory| {
            let holds = |path: &Path| path.starts_with(directory);
            is_closed(directory) && !holds(&paths.run) && !holds(&paths.state)
        })
        .collect();
    let hide = around.into_iter().chain(files.iter().map(PathBuf::as_path));
    let hide = hide.map(text);
    Launch {
        user_namespaces: config.launcher.user_namespaces,
        mounts: config.launcher.mounts,
        hide: hide.chain(config.launcher.hide.iter().cloned()).collect(),
        keep: vec![text(&paths.state.join(CERTIFICATE))],
        sockets: apply::doors(&config).unwrap_or_default(),
        all_sockets: config.unix.others,
        trust: (config.launcher.mounts && config.launcher.trust)
            .then(|| trust(services, &config))
            .flatten(),
    }
}

/// What clients are to trust; nothing where the authority's certificate cannot be read.
fn trust(services: &Services, config: &Config) -> Option<Trust> {
    let targets = config.targets.values().map(AsRef::as_ref);
    let known_hosts = host::known_hosts(&services.authority, targets);
    let known_hosts = known_hosts.inspect_err(|error| {
        tracing::warn!(%error, "commands are not told who SSH servers are");
    });
    let certificate = std::fs::read_to_string(config.paths.state.join(CERTIFICATE));
    let certificate = certificate.inspect_err(|error| {
        tracing::warn!(%error, "commands are not told of the authority");
    });
    Some(Trust {
        certificate: certificate.ok()?,
        bundles: config.launcher.bundles.clone(),
        known_hosts: known_hosts.unwrap_or_default(),
    })
}

/// Whether nobody but root has anything to do in a directory.
fn is_closed(directory: &Path) -> bool {
    let found = std::fs::metadata(directory);
    found.is_ok_and(|found| found.uid() == 0 && found.mode() & 0o077 == 0)
        && ![Path::new("/"), Path::new("/root")].contains(&directory)
}

/// Where clients that verify certificates find the local authority, and what clients that insist on a
/// password log in with.
fn environment(services: &Services, scope: &capture::Scope) -> BTreeMap<String, String> {
    let certificate = services
        .config
        .load()
        .paths
        .state
        .join(CERTIFICATE)
        .to_string_lossy()
        .into_owned();
    let password = scopes::password(&services.authority, scope);
    let password = password.expose_secret().to_owned();
    [
        ("PGSSLROOTCERT", certificate.clone()),
        // What Node adds to the roots that are compiled into it.
        ("NODE_EXTRA_CA_CERTS", certificate.clone()),
        ("INTERCEPTOR_CA", certificate),
        ("PGPASSWORD", password),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Removes and untags the scope when its last process is gone.
///
/// Nothing but the kernel's word that the cgroup is empty, or gone, ends a scope: a daemon that is out
/// of descriptors would else let the agents go that used them up.
fn watch(services: Arc<Services>, scope: capture::Scope) {
    tokio::spawn(async move {
        loop {
            let hierarchy = services.capture.hierarchy();
            let changed =
                tokio::time::timeout(LOOK_AGAIN, cgroup::changes(hierarchy, &scope.path)).await;
            if let Ok(Err(error)) = changed {
                tracing::warn!(%error, cgroup = %scope.path, "cannot watch a scope; it stays tagged");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let empty = hierarchy
                .processes(&scope.path)
                .is_ok_and(|processes| processes.is_empty());
            if !empty {
                continue;
            }
            match retire(&services, &scope.path) {
                Ok(()) => return binding::gone(&services, scope.id).await,
                Err(error) => {
                    tracing::warn!(%error, cgroup = %scope.path, "cannot remove a scope that is empty");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    });
}

/// The cgroup goes first, which the kernel does only where it is empty; its tag follows.
fn retire(services: &Services, path: &str) -> anyhow::Result<()> {
    cgroup::remove(services.capture.hierarchy(), path)?;
    services.scopes.refresh()?;
    apply::rules(services)?;
    Ok(())
}
