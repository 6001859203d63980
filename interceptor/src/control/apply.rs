//! Putting configuration and policy in force: at start, at reload, and when scopes change.
//!
//! A reload is all or nothing: whatever is wrong, everything old stays in force and the caller is told.

pub mod files;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::State;
use ipnet::IpNet;
use serde_json::json;

use super::Given;
use super::api::Reloaded;
use super::caller::{Answer, Known};
use super::scopes;
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::capture::{self, Rule, Scope, Verdict};
use crate::config::{self, Config};
use crate::policy::{ControlObject, ControlVerb};
use crate::session::ending;
use crate::session::services::Services;
use crate::targets::Targets;
use crate::tls::{Authority, Confined};

/// `POST /v1/reload`.
///
/// # Errors
/// An answer where policy refuses the caller. Mistakes in files are part of a good answer.
pub async fn handle(State(services): Given, caller: Known) -> Result<Json<Reloaded>, Answer> {
    caller
        .may(&services, ControlVerb::Reload, &ControlObject::Host)
        .await?;
    let reloaded = reload(&services).await;
    caller.audit(&services, "reload", reloaded.result(), json!(reloaded));
    Ok(Json(reloaded))
}

/// Reads configuration and policy anew and puts them in force, or says every mistake and keeps the old.
/// A cgroup that was tagged before another could not be stays tagged.
pub async fn reload(services: &Arc<Services>) -> Reloaded {
    let _alone = services.replacing.lock().await;
    let old = services.config.load_full();
    let policies = Some(old.paths.policies.as_path());
    let read = || {
        files::both(&old.paths.config, policies, |from| {
            services.policy.read(from)
        })
    };
    let (new, policy) = match tokio::task::block_in_place(read) {
        Ok(both) => both,
        Err(mistakes) => return kept(services, mistakes),
    };
    let needs_restart = old
        .needs_restart(&new)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let targets = Targets::resolve(&new, &services.targets.load()).await;
    let ways_around = targets.ways_around(&new);
    if !ways_around.is_empty() {
        return kept(services, ways_around);
    }
    let new = Arc::new(new.in_place_of(&old));
    let targets = Arc::new(targets);
    let in_force = || {
        services.config.store(Arc::clone(&new));
        services.targets.store(Arc::clone(&targets));
        services.policy.put(policy);
    };
    let taken = tag(services, &new).and_then(|()| {
        write(
            services,
            || (Arc::clone(&new), Arc::clone(&targets)),
            in_force,
        )
    });
    if let Err(error) = taken {
        let mistake = format!("cannot put the new configuration in force: {error}");
        // Scopes that were tagged meanwhile have rules by the old one.
        let again = rules(services).err().map(|error| {
            format!("cannot write the old rules again either, restart the daemon: {error}")
        });
        return kept(services, std::iter::once(mistake).chain(again).collect());
    }
    tokio::task::block_in_place(|| confine(&services.authority, &new));
    services
        .secrets
        .keep(new.secrets().map(|(_, source)| source));
    services.reloads.send_modify(|count| *count += 1);
    let untagged = taken_out(services).await;
    // A scope may be another agent's now.
    ending::of_untagged(services).await;
    let ended = services.registry.judge_again();
    Reloaded {
        generation: services.policy.generation().0,
        ended,
        untagged,
        needs_restart,
        mistakes: Vec::new(),
    }
}

/// Has the authority's certificate say that it is for the names of this configuration. Where that cannot be
/// written, clients do not take it for the new ones.
pub fn confine(authority: &Authority, config: &Config) {
    let names = Confined::of(config);
    match authority.confine(names.as_ref()) {
        Ok(true) => tracing::info!(
            names = names.map(|names| names.count()),
            "made the authority's certificate anew, with the same key, for the names of the targets: where it was \
             installed, `interceptor ca install` says so to clients"
        ),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "cannot make the authority's certificate anew"),
    }
}

fn kept(services: &Services, mistakes: Vec<String>) -> Reloaded {
    Reloaded {
        generation: services.policy.generation().0,
        mistakes,
        ..Reloaded::default()
    }
}

/// Tags every scope of a configuration that is not tagged yet; makes its cgroup where it is missing.
///
/// # Errors
/// The first scope that cannot be tagged.
pub fn tag(services: &Services, config: &Config) -> Result<(), capture::Error> {
    for scope in &config.scopes {
        let path = format!("/{}", scope.cgroup);
        services.capture.hierarchy().make(&path)?;
        let tagged = services.capture.tag_configured(&path, &scope.agent)?;
        scopes::hold(services, &tagged)?;
    }
    Ok(())
}

/// Untags every scope that the configuration asked for and does not any more, and gives their paths. One that
/// cannot be untagged stays shut, and is tried again at the next reload and start.
pub async fn taken_out(services: &Arc<Services>) -> Vec<String> {
    let config = services.config.load_full();
    let found = services.capture.configured();
    let mut taken_out = found.unwrap_or_else(|error| {
        tracing::error!(%error, "cannot tell which scopes the configuration asked for");
        Vec::new()
    });
    let path_of = |scope: &config::Scope| format!("/{}", scope.cgroup);
    taken_out.retain(|scope| {
        config
            .scopes
            .iter()
            .all(|asked| path_of(asked) != scope.path)
    });
    let mut untagged = Vec::new();
    for scope in taken_out {
        let detail = json!({ "cgroup": scope.path, "agent": scope.agent });
        match scopes::release(services, &scope) {
            Ok(()) => {
                scopes::binding::gone(services, scope.id).await;
                say(services, "untag", "ok", detail);
                untagged.push(scope.path);
            }
            Err(error) => {
                tracing::error!(%error, cgroup = %scope.path, "cannot untag what is not in the file any more");
                say(services, "untag", "failed", detail);
            }
        }
    }
    untagged
}

/// Writes to the audit what the daemon did of itself.
pub fn say(services: &Services, verb: &str, result: &str, detail: serde_json::Value) {
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

/// Writes the kernel's rules from the configuration, the targets and the scopes in force.
///
/// # Errors
/// What the kernel refused; its old rules then stay in force.
pub fn rules(services: &Services) -> Result<(), capture::Error> {
    let in_force = || (services.config.load_full(), services.targets.load_full());
    write(services, in_force, || {})
}

/// Writes the kernel's rules from what `of` gives; once it has taken them, calls `then`. Nobody else
/// writes any in between.
fn write(
    services: &Services,
    of: impl FnOnce() -> (Arc<Config>, Arc<Targets>),
    then: impl FnOnce(),
) -> Result<(), capture::Error> {
    let _newest = services
        .writing
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let scopes = services.scopes.refresh()?;
    let (config, targets) = of();
    services.capture.set_doors(doors(&config).as_deref())?;
    carried(services, &config, &targets)?;
    services
        .capture
        .set_rules(&rows(&config, &targets, &scopes))?;
    then();
    Ok(())
}

/// Leads the targets' UNIX sockets to the daemon.
fn carried(services: &Services, config: &Config, targets: &Targets) -> Result<(), capture::Error> {
    let sockets = targets.sockets();
    if !sockets.is_empty() && !services.capture.carries() {
        tracing::warn!(
            "targets have UNIX sockets, and this kernel leads none to the daemon (Linux 6.7): they are refused"
        );
    }
    let via = config.paths.run.join(super::TARGETS);
    services
        .capture
        .set_carried(&sockets, &via.to_string_lossy())
}

/// UNIX sockets that scopes may reach; `None` for all.
pub(super) fn doors(config: &Config) -> Option<Vec<String>> {
    if config.unix.others {
        return None;
    }
    // A name is what its maker gave it, which is not always where a link leads.
    let own = ["agent.sock", super::TARGETS].map(|name| {
        let path = config.paths.run.join(name);
        path.to_string_lossy().into_owned()
    });
    Some(config.unix.allow.iter().cloned().chain(own).collect())
}

/// The kernel's rows, as one list.
#[must_use]
pub fn rows(config: &Config, targets: &Targets, scopes: &[Scope]) -> Vec<Rule> {
    let mut rows: Vec<_> = targets.rules().collect();
    for direct in &config.direct {
        let verdict = Verdict::Direct {
            needs_daemon: direct.needs_daemon,
        };
        let row = |scope| Rule {
            scope,
            network: direct.network,
            port: direct.port,
            verdict,
        };
        if direct.agents.is_empty() {
            rows.push(row(None));
        }
        let named = scopes
            .iter()
            .filter(|scope| direct.agents.contains(&scope.agent));
        rows.extend(named.map(|scope| row(Some(scope.id))));
    }
    rows.extend(
        config
            .resolvers
            .iter()
            .map(|resolver| row_of(resolver.address, Verdict::Resolver)),
    );
    let dialled = targets.dialled().chain(config.dialled());
    rows.extend(dialled.map(|at| row_of(at, Verdict::Dialled)));
    rows
}

fn row_of(address: SocketAddr, verdict: Verdict) -> Rule {
    Rule {
        scope: None,
        network: IpNet::from(address.ip().to_canonical()),
        port: Some(address.port()),
        verdict,
    }
}

#[cfg(test)]
mod tests;
