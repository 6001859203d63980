//! What is going on: status for operators, metrics for Prometheus, and an agent's view of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use super::Given;
use super::api::{Distrusting, OpenSession, OutputStatus, Own, Status, Usage};
use super::caller::{Answer, Known};
use super::scopes::describe;
use crate::audit;
use crate::capture::{self, Capture};
use crate::clock;
use crate::identity::{Principal, ScopeOf};
use crate::policy::{ControlObject, ControlVerb};
use crate::session::Session;
use crate::session::services::Services;
use crate::telemetry::metrics::{Kernel, Now};

/// `GET /v1/status`.
///
/// # Errors
/// An answer where policy refuses.
pub async fn status(State(services): Given, caller: Known) -> Result<Json<Status>, Answer> {
    caller
        .may(&services, ControlVerb::Status, &ControlObject::Host)
        .await?;
    Ok(Json(of(&services)))
}

/// `GET /v1/metrics`: the text format of Prometheus.
///
/// # Errors
/// An answer where policy refuses.
pub async fn metrics(State(services): Given, caller: Known) -> Result<Response, Answer> {
    caller
        .may(&services, ControlVerb::Status, &ControlObject::Host)
        .await?;
    Ok(exposition(&services))
}

/// The metrics as an HTTP answer.
#[must_use]
pub fn exposition(services: &Services) -> Response {
    let kernel = counts(&services.capture);
    let kernel = kernel.inspect_err(|error| tracing::warn!(%error, "cannot count"));
    let audit::Sequence(written) = services.audit.synced();
    let outputs = services.outputs.all().into_iter();
    let outputs = outputs.map(|(name, output)| {
        let behind = written.saturating_sub(output.sent);
        (name, [output.lines, behind, output.failures])
    });
    let text = services.metrics.text(Now {
        outputs: outputs.collect(),
        generation: services.policy.generation().0,
        sessions: services.registry.count(),
        grants: services.grants.count(),
        approvals: services.approvals.open_now(),
        scopes: services.scopes.all().len(),
        kernel: kernel.ok(),
        audit_waits: services.audit.waits(),
    });
    (
        [(
            CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// What the kernel has counted.
fn counts(capture: &Capture) -> Result<Kernel, capture::Error> {
    let denied = capture.refusals()?.into_iter();
    Ok(Kernel {
        denied: denied
            .map(|(reason, count)| (reason.word(), count))
            .collect(),
        lost: capture.lost()?,
        unrecorded: capture.unrecorded()?,
    })
}

/// `GET /v1/self` on `agent.sock`: which agent the caller is, and which targets there are for it.
///
/// # Errors
/// An answer where the caller is in no scope.
pub async fn own(State(services): Given, caller: Known) -> Result<Json<Own>, Answer> {
    let scope = scope_of(&services, &caller)?;
    let cgroup = caller.process()?.cgroup.clone();
    let targets = services.config.load().targets.keys().cloned().collect();
    let identity = services.tokens.bindings.of(&scope);
    Ok(Json(Own {
        agent: scope.agent,
        cgroup,
        targets,
        identity,
    }))
}

/// The agent that speaks: its scope, and who it is. Whoever has ended meanwhile is nobody.
pub(super) async fn agent_of(
    services: &Services,
    caller: &Known,
) -> Result<(ScopeOf, Arc<Principal>), Answer> {
    let scope = services.scope_of(&scope_of(services, caller)?);
    let process = caller.process()?;
    let ids = (process.uid, process.gid);
    let principal = services.identity.of_process(process.pid, ids, &scope).await;
    let principal = principal.map_err(|error| Answer::failed(&error))?;
    match process.lives() {
        true => Ok((scope, principal)),
        false => Err(Answer::unknown()),
    }
}

pub(super) fn scope_of(services: &Services, caller: &Known) -> Result<capture::Scope, Answer> {
    let scope = services
        .scopes
        .around(&caller.process()?.cgroup)
        .map_err(|error| Answer::failed(&error))?;
    scope.ok_or_else(|| Answer::bad("the caller is in no scope"))
}

fn of(services: &Arc<Services>) -> Status {
    let config = services.config.load();
    let targets = services.targets.load();
    let addresses = |name: &String| targets.of(name).iter().map(ToString::to_string).collect();
    let meters = services.meters.all().into_iter();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        guard: services.capture.guard().word().to_owned(),
        guards_host: services.capture.guards_host(),
        held: held(&services.capture),
        generation: services.policy.generation().0,
        scopes: services
            .scopes
            .all()
            .iter()
            .map(|scope| describe(services, scope))
            .collect(),
        targets: config
            .targets
            .keys()
            .map(|name| (name.clone(), addresses(name)))
            .collect(),
        agents: meters
            .map(|(name, meter)| {
                let usage = Usage {
                    connections: meter.connections_now(),
                    sessions: meter.sessions_now(),
                };
                (name, usage)
            })
            .collect(),
        sessions: services
            .registry
            .all()
            .iter()
            .map(|session| open(session))
            .collect(),
        listeners: services.listeners.iter().map(ToString::to_string).collect(),
        outputs: outputs(services),
        distrusting: distrusting(services),
    }
}

/// Who is held of scopes that are gone.
fn held(capture: &Capture) -> Vec<u32> {
    let held = capture.held_of_gone();
    let held = held.inspect_err(|error| tracing::warn!(%error, "cannot tell who is held"));
    held.unwrap_or_default()
}

/// Programs that do not take this host's certificates.
fn distrusting(services: &Services) -> Vec<Distrusting> {
    let all = services.distrust.all().into_iter();
    all.map(|(one, times)| Distrusting {
        executable: one.path.to_string_lossy().into_owned(),
        sha256: one.sha256,
        name: one.name,
        target: one.target,
        how: one.how.to_owned(),
        times,
    })
    .collect()
}

/// How the outputs of the audit are doing.
fn outputs(services: &Services) -> BTreeMap<String, OutputStatus> {
    let audit::Sequence(written) = services.audit.synced();
    let all = services.outputs.all().into_iter();
    let status = all.map(|(name, output)| {
        let status = OutputStatus {
            behind: written.saturating_sub(output.sent),
            failing: output.failing,
        };
        (name, status)
    });
    status.collect()
}

fn open(session: &Session) -> OpenSession {
    let who = session.who();
    OpenSession {
        id: session.id(),
        agent: who.principal.agent.clone(),
        target: who.target.name.clone(),
        database: session.database().map(str::to_owned),
        pid: who.principal.process.pid,
        executable: who
            .principal
            .process
            .executable
            .path
            .to_string_lossy()
            .into_owned(),
        requests: session.requests(),
        seconds: clock::boot().since(session.opened()).as_secs(),
    }
}
