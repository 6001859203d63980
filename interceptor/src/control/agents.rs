//! Freezing and killing: what an operator does to an agent that misbehaves.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::Given;
use super::api::{Acted, Agent, Done, WhichSession};
use super::caller::{Answer, Known};
use super::scopes::cgroup;
use crate::capture::cgroup2::Hierarchy;
use crate::grants::Ended;
use crate::policy::{ControlObject, ControlVerb};
use crate::session::services::Services;
use crate::session::{EndReason, ending};

/// `POST /v1/agents/freeze`: stops every process of the agent (cgroup v2 freezer, Linux 5.2) and ends
/// its sessions. The processes stay for whoever wants to look at them; what it gets later is stopped too.
///
/// # Errors
/// An answer where policy refuses, or a cgroup cannot be frozen.
pub async fn freeze(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Agent>,
) -> Result<Json<Acted>, Answer> {
    act(&services, &caller, &asked.agent, Deed::Freeze).await
}

/// `POST /v1/agents/thaw`: lets them run again.
///
/// # Errors
/// An answer where policy refuses, or a cgroup cannot be thawed.
pub async fn thaw(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Agent>,
) -> Result<Json<Acted>, Answer> {
    act(&services, &caller, &asked.agent, Deed::Thaw).await
}

/// `POST /v1/agents/kill`: ends every process of the agent and its sessions.
///
/// # Errors
/// An answer where policy refuses, or a cgroup cannot be killed.
pub async fn kill(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Agent>,
) -> Result<Json<Acted>, Answer> {
    act(&services, &caller, &asked.agent, Deed::Kill).await
}

/// `POST /v1/sessions/kill`: ends one open session; its process lives on.
///
/// # Errors
/// An answer where policy refuses, or no such session is open.
pub async fn end_session(
    State(services): Given,
    caller: Known,
    Json(asked): Json<WhichSession>,
) -> Result<Json<Done>, Answer> {
    let id = asked.session.to_ascii_lowercase();
    let mut open = services.registry.all();
    open.retain(|session| !id.is_empty() && session.id().to_string().starts_with(&id));
    let verb = ControlVerb::Kill;
    let [session] = open.as_slice() else {
        // Who may not see which there are is not told by trying.
        let status = ControlVerb::Status;
        caller.may(&services, status, &ControlObject::Host).await?;
        return Err(Answer::bad(
            "no open session, or more than one, has an id that begins so",
        ));
    };
    let principal = &session.who().principal;
    let object = ControlObject::Scope {
        agent: principal.agent.clone(),
        cgroup: principal.cgroup.scope.clone(),
    };
    caller.may(&services, verb, &object).await?;
    session.end(EndReason::Killed);
    let detail = json!({ "session": session.id(), "agent": principal.agent });
    caller.audit(&services, verb.word(), "ok", detail);
    Ok(Json(Done {
        session: session.id(),
        changed: true,
    }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Freeze,
    Thaw,
    Kill,
}

impl Deed {
    fn verb(self) -> ControlVerb {
        match self {
            Self::Freeze => ControlVerb::Freeze,
            Self::Thaw => ControlVerb::Thaw,
            Self::Kill => ControlVerb::Kill,
        }
    }

    fn done_to(self, hierarchy: &Hierarchy, path: &str) -> std::io::Result<()> {
        match self {
            Self::Freeze => cgroup::freeze(hierarchy, path, true),
            Self::Thaw => cgroup::freeze(hierarchy, path, false),
            Self::Kill => cgroup::kill(hierarchy, path),
        }
    }
}

async fn act(
    services: &Arc<Services>,
    caller: &Known,
    agent: &str,
    deed: Deed,
) -> Result<Json<Acted>, Answer> {
    let has_scopes = services
        .scopes
        .all()
        .iter()
        .any(|scope| scope.agent == agent);
    // One that is frozen and has none left can be let go all the same.
    let is_known = deed == Deed::Thaw && services.scopes.is_frozen(agent);
    if !has_scopes && !is_known {
        return Err(Answer::bad(&format!(
            "no scope is tagged {agent}; `interceptor status` lists agents"
        )));
    }
    let object = ControlObject::Agent(agent.to_owned());
    caller.may(services, deed.verb(), &object).await?;
    let mut failed = None;
    if deed != Deed::Kill {
        // Before its scopes are looked at: one that it gets meanwhile is stopped too.
        services.scopes.set_frozen(agent, deed == Deed::Freeze);
    }
    // Before its processes: what comes in their place finds no yes.
    let let_go = match deed {
        Deed::Kill => services.approvals.end_agent(agent),
        Deed::Freeze | Deed::Thaw => Vec::new(),
    };
    let mut scopes = services.scopes.all().to_vec();
    scopes.retain(|scope| scope.agent == agent);
    for scope in &scopes {
        if let Err(error) = deed.done_to(services.capture.hierarchy(), &scope.path) {
            failed = Some(format!("cgroup {}: {error}", scope.path));
        }
    }
    // The sessions end even where a cgroup did not obey.
    let sessions = match deed {
        Deed::Thaw => 0,
        Deed::Freeze | Deed::Kill => services.registry.end(EndReason::Killed, |session| {
            session.who().principal.agent == agent
        }),
    };
    if deed == Deed::Kill {
        ending::of_agent(services, agent, Ended::Killed).await;
    }
    for standing in let_go {
        if let Err(error) = services.approvals.keep(standing).await {
            tracing::error!(%error, "a yes has ended with its agent, but that cannot be kept yet");
        }
    }
    let acted = Acted {
        scopes: scopes.into_iter().map(|scope| scope.path).collect(),
        sessions,
    };
    let result = if failed.is_some() { "failed" } else { "ok" };
    let detail = json!({ "agent": agent, "did": acted, "error": failed });
    caller.audit(services, deed.verb().word(), result, detail);
    match failed {
        Some(error) => Err(Answer::failed(&error)),
        None => Ok(Json(acted)),
    }
}
