//! Putting configuration and policy in force: at start, at reload, and when scopes change.
//!
//! A reload is all or nothing: whatever is wrong, everything old stays in force and the caller is told.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use ipnet::IpNet;
use serde_json::json;

use axum::extract::State;

use super::Given;
use super::api::Reloaded;
use super::caller::{Answer, Known};
use crate::capture::{self, Rule, Scope, Verdict};
use crate::config::{self, Config};
use crate::policy::{ControlObject, ControlVerb};
use crate::session::services::Services;
use crate::targets::Targets;

/// `POST /v1/reload`.
///
/// # Errors
/// An answer where policy refuses the caller. Mistakes in files are part of a good answer.
pub async fn handle(State(services): Given, caller: Known) -> Result<Json<Reloaded>, Answer> {
    caller.may(&services, ControlVerb::Reload, &ControlObject::Host)?;
    let reloaded = reload(&services).await;
    let result = if reloaded.mistakes.is_empty() {
        "ok"
    } else {
        "failed"
    };
    caller.audit(&services, "reload", result, json!(reloaded));
    Ok(Json(reloaded))
}

/// Reads configuration and policy anew and puts them in force, or says every mistake and changes nothing.
pub async fn reload(services: &Arc<Services>) -> Reloaded {
    let old = services.config.load_full();
    let new = match config::load(&old.paths.config) {
        Ok(new) => new,
        Err(mistakes) => return kept(services, lines(&mistakes)),
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
    let policies = &old.paths.policies;
    if let Err(mistakes) = tokio::task::block_in_place(|| services.policy.reload(policies)) {
        return kept(services, lines(&mistakes));
    }
    // Parts that need a restart keep their old values: the daemon stands on them.
    let new = Config {
        paths: old.paths.clone(),
        ..new
    };
    services
        .secrets
        .keep(new.secrets().map(|(_, source)| source));
    services.config.store(Arc::new(new));
    services.targets.store(Arc::new(targets));
    let applied = scopes(services).and_then(|()| rules(services));
    let mistakes = applied
        .err()
        .map(|error| error.to_string())
        .into_iter()
        .collect();
    let ended = services.registry.judge_again();
    Reloaded {
        generation: services.policy.generation().0,
        ended,
        needs_restart,
        mistakes,
    }
}

fn kept(services: &Services, mistakes: Vec<String>) -> Reloaded {
    Reloaded {
        generation: services.policy.generation().0,
        mistakes,
        ..Reloaded::default()
    }
}

/// One mistake a line, as both kinds show themselves.
fn lines(mistakes: &dyn std::fmt::Display) -> Vec<String> {
    mistakes.to_string().lines().map(str::to_owned).collect()
}

/// Tags every configured scope that is not tagged yet; makes its cgroup where it is missing.
///
/// # Errors
/// The first scope that cannot be tagged.
pub fn scopes(services: &Services) -> Result<(), capture::Error> {
    let config = services.config.load();
    for scope in &config.scopes {
        let path = format!("/{}", scope.cgroup);
        services.capture.hierarchy().make(&path)?;
        services.capture.tag(&path, &scope.agent)?;
    }
    Ok(())
}

/// Writes the kernel's rules from the configuration, the targets and the scopes in force.
///
/// # Errors
/// What the kernel refused; its old rules then stay in force.
pub fn rules(services: &Services) -> Result<(), capture::Error> {
    let scopes = services.scopes.refresh()?;
    let rules = rows(&services.config.load(), &services.targets.load(), &scopes);
    services.capture.set_rules(&rules)
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
            .map(|resolver| resolver_row(resolver.address, resolver.needs_daemon)),
    );
    rows
}

fn resolver_row(address: SocketAddr, needs_daemon: bool) -> Rule {
    Rule {
        scope: None,
        network: IpNet::from(address.ip().to_canonical()),
        port: Some(address.port()),
        verdict: Verdict::Resolver { needs_daemon },
    }
}
