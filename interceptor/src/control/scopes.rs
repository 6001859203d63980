//! Tagging: which cgroups are intercepted.

pub mod binding;
pub(super) mod cgroup;
pub mod container;
pub mod exchange;
pub mod placing;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Given;
use super::api::{Scope, Tag, Which};
use super::apply;
use super::caller::{Answer, Known};
use crate::capture;
use crate::config;
use crate::identity::{self, pidfd};
use crate::policy::{ControlObject, ControlVerb};
use crate::session::services::{Provision, Services};
use crate::session::{EndReason, ending};

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
    // Held, so that its number is no other process's meanwhile.
    let process = asked.which.pid.map(pidfd::open).transpose();
    let process = process.map_err(|error| Answer::bad(&format!("no such process: {error}")))?;
    let path = path_of(&services, (&caller, ControlVerb::Tag), &asked.which).await?;
    process.as_ref().map_or(Ok(()), still_lives)?;
    let process = match asked.which.container {
        Some(_) => container::process(&services, (&asked.agent, &path))?,
        None => process,
    };
    let detail = json!({ "cgroup": path, "agent": asked.agent });
    let tagging = Tagging {
        path: &path,
        agent: &asked.agent,
        process,
        detail,
    };
    tag_path(&services, &caller, tagging).await.map(Json)
}

/// What was read of a process's number is of the process that is held: a descriptor does not keep the number from
/// being given away once it has ended.
fn still_lives(process: &OwnedFd) -> Result<(), Answer> {
    match pidfd::is_alive(process) {
        true => Ok(()),
        false => Err(Answer::bad("the process has ended")),
    }
}

/// A cgroup that is about to be tagged.
struct Tagging<'a> {
    path: &'a str,
    agent: &'a str,
    /// In whose network namespace the daemon is to listen.
    process: Option<OwnedFd>,
    /// What the audit says of it.
    detail: Value,
}

/// Tags a cgroup for whoever may do that.
async fn tag_path(
    services: &Arc<Services>,
    caller: &Known,
    tagging: Tagging<'_>,
) -> Result<Scope, Answer> {
    let Tagging {
        path,
        agent,
        process,
        detail,
    } = tagging;
    let new = scope(agent, path);
    caller.may(services, ControlVerb::Tag, &new).await?;
    // Another name takes the cgroup away from the agent that has it.
    let before = services.scopes.at(path);
    if let Some(before) = before.filter(|before| before.agent != agent) {
        let old = scope(&before.agent, path);
        caller.may(services, ControlVerb::Untag, &old).await?;
    }
    only_own(services, caller, path).inspect_err(|_refused| {
        caller.audit(services, "tag", "refused", detail.clone());
    })?;
    let intercepted = intercept(services, path, agent);
    ending::of_untagged(services).await;
    match intercepted {
        Ok(tagged) => {
            binding::lapse(services, tagged.id).await;
            if let Some(process) = process {
                let served = provision(services, process, tagged.id).await;
                served.map_err(|error| caller.failed(services, "tag", detail.clone(), &error))?;
            }
            caller.audit(services, "tag", "ok", detail);
            Ok(describe(services, &tagged))
        }
        Err(error) => Err(caller.failed(services, "tag", detail, &error)),
    }
}

/// Has the daemon listen in a process's network namespace, so that its first connect finds it there.
async fn provision(services: &Services, process: OwnedFd, scope: u64) -> Result<(), String> {
    let (done, made) = oneshot::channel();
    let asked = Provision {
        process,
        scope,
        done,
    };
    let stopping = || "the daemon is stopping".to_owned();
    let sent = services.provisions.send(asked).await;
    sent.map_err(|_closed| stopping())?;
    let made = made.await.map_err(|_closed| stopping())?;
    made.map_err(|error| {
        format!("it is tagged, and cannot be listened for in its network namespace: {error}")
    })
}

/// Tags a cgroup and has the kernel's rules know it; where either fails, it is as it was before.
///
/// # Errors
/// What failed, and what stays where that could not be undone either.
pub(super) fn intercept(
    services: &Services,
    path: &str,
    agent: &str,
) -> Result<capture::Scope, String> {
    let before = services.scopes.at(path);
    let tagged = services.capture.tag(path, agent);
    let is_tagged = tagged.is_ok();
    let tagged = tagged.and_then(|scope| apply::rules(services).map(|()| scope));
    let error = match tagged.and_then(|scope| hold(services, &scope).map(|()| scope)) {
        Ok(scope) => return Ok(scope),
        Err(error) => error,
    };
    let undone = match before {
        Some(before) => services.capture.tag(path, &before.agent).map(drop),
        None if is_tagged => services.capture.untag(path),
        None => Ok(()),
    };
    let undone = undone.and_then(|()| services.scopes.refresh().map(drop));
    Err(match undone {
        Ok(()) => error.to_string(),
        Err(also) => format!("{error}; {path} may stay tagged as {agent}: {also}"),
    })
}

/// Stops what is to run in a scope whose agent is frozen.
///
/// # Errors
/// What the kernel said.
pub(super) fn hold(services: &Services, scope: &capture::Scope) -> Result<(), capture::Error> {
    if !services.scopes.is_frozen(&scope.agent) {
        return Ok(());
    }
    let frozen = cgroup::freeze(services.capture.hierarchy(), &scope.path, true);
    frozen.map_err(|source| capture::Error::Cgroup {
        action: "freeze",
        path: scope.path.clone(),
        source,
    })
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
    let path = path_of(&services, (&caller, ControlVerb::Untag), &asked).await?;
    let Some(tagged) = services.scopes.at(&path) else {
        return Err(Answer::bad(&format!(
            "cgroup {path} is not tagged; `interceptor status` lists those that are"
        )));
    };
    let object = scope(&tagged.agent, &path);
    caller.may(&services, ControlVerb::Untag, &object).await?;
    let detail = json!({ "cgroup": path, "agent": tagged.agent });
    only_own(&services, &caller, &path).inspect_err(|_refused| {
        caller.audit(&services, "untag", "refused", detail.clone());
    })?;
    let described = describe(&services, &tagged);
    let released = release(&services, &tagged);
    ending::of_untagged(&services).await;
    match released {
        Ok(()) => {
            binding::gone(&services, tagged.id).await;
            caller.audit(&services, "untag", "ok", detail);
            Ok(Json(described))
        }
        Err(error) => Err(caller.failed(&services, "untag", detail, &error)),
    }
}

/// Takes a tag away and ends the sessions of its scope. Where that fails half-way, the tag is put back.
pub(super) fn release(services: &Services, tagged: &capture::Scope) -> Result<(), String> {
    if let Err(error) = services.capture.untag(&tagged.path) {
        let again = services.capture.tag(&tagged.path, &tagged.agent);
        return Err(match again {
            Ok(_tagged) => format!("{error}; it stays tagged"),
            Err(also) => format!("{error}; it may be tagged in part: {also}"),
        });
    }
    services.registry.end(EndReason::Killed, |session| {
        session.who().flow.scope == tagged.id
    });
    if let Err(error) = services.scopes.refresh() {
        tracing::warn!(%error, "cannot read the scopes");
    }
    let ruled = apply::rules(services);
    ruled.map_err(|error| format!("it is not tagged any more, but its rules stay: {error}"))
}

/// A scope as the API shows it.
#[must_use]
pub fn describe(services: &Services, scope: &capture::Scope) -> Scope {
    let processes = services.capture.hierarchy().processes(&scope.path);
    let processes = processes.inspect_err(|error| {
        tracing::warn!(%error, cgroup = %scope.path, "cannot tell what lives in a scope");
    });
    Scope {
        cgroup: scope.path.clone(),
        agent: scope.agent.clone(),
        id: scope.id,
        processes: processes.ok().map(|found| found.len()),
        identity: services.tokens.bindings.of(scope),
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

/// The path of the cgroup that is meant. To look for a unit or a container takes a walk over all cgroups, which is
/// not made for whom no rule permits the verb anywhere.
async fn path_of(
    services: &Arc<Services>,
    (caller, verb): (&Known, ControlVerb),
    which: &Which,
) -> Result<String, Answer> {
    let Which {
        cgroup: path,
        pid,
        unit,
        container,
    } = which;
    match (path, pid, unit, container) {
        (Some(path), None, None, None) => cgroup::plain(path).map_err(Answer::bad),
        (None, Some(pid), None, None) => services
            .capture
            .hierarchy()
            .of(Some(*pid))
            .map_err(|error| Answer::bad(&error.to_string())),
        (None, None, Some(unit), None) => {
            caller.may_somewhere(services, verb).await?;
            let found = cgroup::of_unit(&services.capture, unit).await;
            found.map_err(|why| Answer::bad(&why))
        }
        (None, None, None, Some(name)) => {
            caller.may_somewhere(services, verb).await?;
            let found = container::cgroup_of(services, name).await;
            found.map_err(|why| Answer::bad(&why))
        }
        _ => Err(Answer::bad("name one of cgroup, pid, unit and container")),
    }
}

/// Cgroups of others are root's to tag, and to untag: those that hold other users' processes, and those that are
/// empty and belong to another, whom what is to live there belongs to.
fn only_own(services: &Services, caller: &Known, path: &str) -> Result<(), Answer> {
    let caller = caller.process()?;
    if caller.uid == 0 {
        return Ok(());
    }
    let hierarchy = services.capture.hierarchy();
    let processes = hierarchy.processes(path);
    let processes = processes.map_err(|error| Answer::failed(&error))?;
    let is_own = |pid: &u32| identity::uid_of(*pid) == Some(caller.uid);
    let own = match processes.is_empty() {
        true => owner_of(&hierarchy.directory(path)) == Some(caller.uid),
        false => processes.iter().all(is_own),
    };
    let plain = path != "/";
    (own && plain).then_some(()).ok_or_else(|| {
        Answer::bad(
            "only root can tag and untag the root cgroup, cgroups with other users' processes, and empty ones of other users",
        )
    })
}

/// The user whom a directory belongs to.
fn owner_of(directory: &Path) -> Option<u32> {
    fs::metadata(directory).ok().map(|found| found.uid())
}
