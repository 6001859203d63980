//! Freezing and killing: what an operator does to an agent that misbehaves.

use std::sync::Arc;

use axum::Json;
use serde_json::json;

use super::State;
use super::api::{Acted, Agent};
use super::caller::{Answer, Known};
use crate::capture::{self, cgroup2};
use crate::policy::ControlVerb;
use crate::session::EndReason;
use crate::session::services::Services;

/// `POST /v1/agents/freeze`: stops every process of the agent (cgroup v2 freezer, Linux 5.2) and ends
/// its sessions. The processes stay for whoever wants to look at them.
///
/// # Errors
/// An answer where policy refuses, or a cgroup cannot be frozen.
pub async fn freeze(State(services): State, caller: Known, Json(asked): Json<Agent>) -> Result<Json<Acted>, Answer> {
    act(&services, &caller, &asked.agent, ControlVerb::Freeze, |at, path| cgroup2::freeze(at, path, true))
}

/// `POST /v1/agents/thaw`: lets them run again.
///
/// # Errors
/// An answer where policy refuses, or a cgroup cannot be thawed.
pub async fn thaw(State(services): State, caller: Known, Json(asked): Json<Agent>) -> Result<Json<Acted>, Answer> {
    act(&services, &caller, &asked.agent, ControlVerb::Thaw, |at, path| cgroup2::freeze(at, path, false))
}

/// `POST /v1/agents/kill`: ends every process of the agent and its sessions.
///
/// # Errors
/// An answer where policy refuses, or a cgroup cannot be killed.
pub async fn kill(State(services): State, caller: Known, Json(asked): Json<Agent>) -> Result<Json<Acted>, Answer> {
    act(&services, &caller, &asked.agent, ControlVerb::Kill, cgroup2::kill)
}

fn act(
    services: &Arc<Services>,
    caller: &Known,
    agent: &str,
    verb: ControlVerb,
    deed: impl Fn(&cgroup2::Mount, &str) -> Result<(), capture::Error>,
) -> Result<Json<Acted>, Answer> {
    caller.may(services, verb, Some(agent))?;
    let scopes: Vec<_> = services.capture.scopes().into_iter().filter(|scope| scope.agent == agent).collect();
    if scopes.is_empty() {
        return Err(Answer::bad(&format!("no scope is tagged {agent}; `interceptor status` lists agents")));
    }
    let mut failed = None;
    for scope in &scopes {
        if let Err(error) = deed(services.capture.cgroup2(), &scope.path) {
            failed = Some(format!("cgroup {}: {error}", scope.path));
        }
    }
    // The sessions end even where a cgroup did not obey.
    let sessions = match verb {
        ControlVerb::Thaw => 0,
        _ => services.registry.end(EndReason::Killed, |session| session.who().principal.agent == agent),
    };
    let acted = Acted { scopes: scopes.into_iter().map(|scope| scope.path).collect(), sessions };
    let result = if failed.is_some() { "failed" } else { "ok" };
    caller.audit(services, verb.word(), result, json!({ "agent": agent, "did": acted, "error": failed }));
    match failed {
        Some(error) => Err(Answer::failed(&error)),
        None => Ok(Json(acted)),
    }
}
