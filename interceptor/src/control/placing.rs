//! `run`: a cgroup for one agent's process tree, made, tagged and entered; removed when it is empty.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use serde_json::json;
use uuid::Uuid;

use axum::extract::State;

use super::Given;
use super::api::{Placed, Run};
use super::apply;
use super::caller::{Answer, Known};
use crate::capture::{self, cgroup2};
use crate::config;
use crate::policy::ControlVerb;
use crate::session::services::Services;

/// What scopes made here are called, so that a restarted daemon knows which to remove.
const PREFIX: &str = "run-";

/// How often an emptied scope is looked for where the kernel's own notice did not come.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// `POST /v1/run`.
///
/// # Errors
/// An answer that says that policy refuses, or what could not be made.
pub async fn run(State(services): Given, caller: Known, Json(asked): Json<Run>) -> Result<Json<Placed>, Answer> {
    if !config::is_agent_name(&asked.agent) {
        return Err(Answer::bad("an agent's name is 1 to 63 of a-z, 0-9 and -"));
    }
    let parent = services.config.load().run_parent.clone();
    let path = format!("/{parent}/{PREFIX}{}-{}", asked.agent, Uuid::now_v7().simple());
    caller.may(&services, ControlVerb::Run, &super::scopes::scope(&asked.agent, &path))?;
    let scope = make(&services, &path, &asked.agent).map_err(|error| Answer::failed(&error))?;
    let entered = cgroup2::enter(services.capture.cgroup2(), &path, caller.caller.pid);
    watch(Arc::clone(&services), scope);
    entered.map_err(|error| Answer::failed(&error))?;
    caller.audit(&services, "run", "ok", json!({ "cgroup": path, "agent": asked.agent }));
    Ok(Json(Placed { cgroup: path, environment: environment(&services) }))
}

/// Watches every scope that an earlier daemon made by `run`.
pub fn watch_existing(services: &Arc<Services>) {
    let parent = format!("/{}/{PREFIX}", services.config.load().run_parent);
    for scope in services.capture.scopes() {
        if scope.path.starts_with(&parent) {
            watch(Arc::clone(services), scope);
        }
    }
}

/// Tagged before anything runs in it: no connection of the agent is older than its scope.
fn make(services: &Services, path: &str, agent: &str) -> anyhow::Result<capture::Scope> {
    cgroup2::make(services.capture.cgroup2(), path)?;
    let scope = services.capture.tag(path, agent)?;
    apply::rules(services)?;
    Ok(scope)
}

/// Where clients that verify certificates find the local authority.
fn environment(services: &Services) -> BTreeMap<String, String> {
    let certificate = services.authority.certificate_path().to_string_lossy().into_owned();
    ["PGSSLROOTCERT", "INTERCEPTOR_CA"]
        .into_iter()
        .map(|name| (name.to_owned(), certificate.clone()))
        .collect()
}

/// Untags and removes the scope when its last process is gone.
fn watch(services: Arc<Services>, scope: capture::Scope) {
    tokio::spawn(async move {
        loop {
            let emptied = cgroup2::emptied(services.capture.cgroup2(), &scope.path);
            let waited = tokio::time::timeout(LOOK_AGAIN, emptied).await;
            let processes = cgroup2::processes(services.capture.cgroup2(), &scope.path);
            match processes {
                Ok(processes) if processes.is_empty() && !matches!(waited, Ok(Err(_))) => break,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let removed = services.capture.untag(&scope.path).map_err(anyhow::Error::from);
        let removed = removed.and_then(|()| Ok(cgroup2::remove(services.capture.cgroup2(), &scope.path)?));
        if let Err(error) = removed {
            tracing::warn!(%error, cgroup = %scope.path, "cannot remove a scope that is empty");
        }
    });
}
