//! Tagging: which cgroups are intercepted.

pub(super) mod cgroup;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::Given;
use super::api::{Scope, Tag, Which};
use super::apply;
use super::caller::{Answer, Known};
use crate::capture;
use crate::config;
use crate::policy::{ControlObject, ControlVerb};
use crate::session::EndReason;
use crate::session::services::Services;

/// `POST /v1/scopes/tag`.
///
/// # Errors
/// An answer that says what is wrong with the cgroup, or that policy refuses.
pub async fn tag(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Tag>,
) -> Result<Json<Scope>, Answer> {
    if !config::is_name(&asked.agent) {
        return Err(Answer::bad("an agent's name is 1 to 63 of a-z, 0-9 and -"));
    }
    let path = path_of(&services, &asked.which)?;
    caller.may(&services, ControlVerb::Tag, &scope(&asked.agent, &path))?;
    only_own_processes(&services, &caller, &path)?;
    let tagged = services
        .capture
        .tag(&path, &asked.agent)
        .map_err(|error| Answer::failed(&error))?;
    apply::rules(&services).map_err(|error| Answer::failed(&error))?;
    caller.audit(
        &services,
        "tag",
        "ok",
        json!({ "cgroup": path, "agent": asked.agent }),
    );
    Ok(Json(describe(&services, &tagged)))
}

/// `POST /v1/scopes/untag`.
///
/// # Errors
/// An answer that says what is wrong with the cgroup, or that policy refuses.
pub async fn untag(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Which>,
) -> Result<Json<Scope>, Answer> {
    let path = path_of(&services, &asked)?;
    let scopes = services.scopes.all();
    let Some(tagged) = scopes.iter().find(|scope| scope.path == path) else {
        return Err(Answer::bad(&format!(
            "cgroup {path} is not tagged; `interceptor status` lists those that are"
        )));
    };
    caller.may(&services, ControlVerb::Untag, &scope(&tagged.agent, &path))?;
    only_own_processes(&services, &caller, &path)?;
    let described = describe(&services, tagged);
    let id = tagged.id;
    services
        .registry
        .end(EndReason::Killed, |session| session.who().flow.scope == id);
    services
        .capture
        .untag(&path)
        .map_err(|error| Answer::failed(&error))?;
    apply::rules(&services).map_err(|error| Answer::failed(&error))?;
    caller.audit(
        &services,
        "untag",
        "ok",
        json!({ "cgroup": path, "agent": tagged.agent }),
    );
    Ok(Json(described))
}

/// A scope as the API shows it.
#[must_use]
pub fn describe(services: &Services, scope: &capture::Scope) -> Scope {
    let processes = services
        .capture
        .hierarchy()
        .processes(&scope.path)
        .unwrap_or_default();
    Scope {
        cgroup: scope.path.clone(),
        agent: scope.agent.clone(),
        id: scope.id,
        processes: processes.len(),
    }
}

/// The object that policy judges.
#[must_use]
pub(super) fn scope(agent: &str, path: &str) -> ControlObject {
    ControlObject::Scope {
        agent: agent.to_owned(),
        cgroup: path.to_owned(),
    }
}

fn path_of(services: &Arc<Services>, which: &Which) -> Result<String, Answer> {
    match which {
        Which {
            cgroup: Some(path),
            pid: None,
            unit: None,
        } => {
            let path = format!("/{}", path.trim_matches('/'));
            let plain = !path.split('/').any(|part| part == "..");
            plain
                .then_some(path)
                .ok_or_else(|| Answer::bad("a cgroup's path has no `..`"))
        }
        Which {
            cgroup: None,
            pid: Some(pid),
            unit: None,
        } => services
            .capture
            .hierarchy()
            .of(Some(*pid))
            .map_err(|error| Answer::bad(&error.to_string())),
        Which {
            cgroup: None,
            pid: None,
            unit: Some(unit),
        } => cgroup::of_unit(services.capture.hierarchy(), unit).map_err(|why| Answer::bad(&why)),
        _ => Err(Answer::bad("name one of cgroup, pid and unit")),
    }
}

/// Cgroups that hold other users' processes are root's to tag.
fn only_own_processes(services: &Services, caller: &Known, path: &str) -> Result<(), Answer> {
    if caller.is_root() {
        return Ok(());
    }
    let processes = services
        .capture
        .hierarchy()
        .processes(path)
        .map_err(|error| Answer::failed(&error))?;
    let own = processes
        .into_iter()
        .all(|pid| cgroup::uid_of(pid) == Some(caller.uid));
    let plain = path != "/";
    (own && plain).then_some(()).ok_or_else(|| {
        Answer::bad("only root can tag the root cgroup and cgroups with other users' processes")
    })
}
