//! Asking for a grant, seeing what is granted, and taking it back.
//!
//! An agent asks for itself, on its own socket; policy alone says what it may have. Nothing is given that is
//! permitted anyway, nor for longer than the permit says.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::json;
use uuid::Uuid;

use super::super::Given;
use super::super::api::{Request, Revoke};
use super::super::caller::{Answer, Known};
use super::super::status::{agent_of, scope_of};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock::{self, BootTime};
use crate::config::{Protocol, Target};
use crate::grants::{Ended, Grant, Holder, Standing};
use crate::identity::Principal;
use crate::policy::{
    Access, Action, ControlObject, ControlVerb, GrantId, Grantable, PrincipalFacts, Refusal, RuleId,
};
use crate::session::ending;
use crate::session::services::Services;

/// Bytes of a reason, and of a ticket.
const MAX_TEXT: usize = 1_024;
/// Bytes of a name (`NAMEDATALEN - 1`, PostgreSQL "Identifiers and Key Words").
const MAX_NAME: usize = 63;

/// `POST /v1/grants` on the agents' socket.
///
/// # Errors
/// An answer where policy grants no such thing, or the request makes no sense.
pub async fn request(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Request>,
) -> Result<Json<Standing>, Answer> {
    let (scope, principal) = agent_of(&services, &caller).await?;
    let time = understood(&services, &asked).map_err(|mistake| Answer::bad(&mistake))?;
    let rules = judged(&services, &principal, &asked, time).map_err(|refusal| {
        let event = Event::GrantRefused {
            principal: &principal,
            asked: json!(asked),
            refusal: &refusal,
        };
        if let Err(error) = services.audit.append(&event) {
            tracing::error!(%error, "cannot write a refusal to the audit log");
        }
        Answer::refused(&refusal)
    })?;
    let grant = made(asked, Holder::of(&principal, scope.id), time);
    issue(&services, &principal, rules, grant).await.map(Json)
}

/// `GET /v1/grants` on the agents' socket: those of the caller's own scope.
///
/// # Errors
/// An answer where the caller is in no scope.
pub async fn own(State(services): Given, caller: Known) -> Result<Json<Vec<Standing>>, Answer> {
    let scope = scope_of(&services, &caller)?;
    Ok(Json(services.grants.all(Some(scope.id))))
}

/// `GET /v1/grants` on the control socket: all of them.
///
/// # Errors
/// An answer where policy refuses.
pub async fn all(State(services): Given, caller: Known) -> Result<Json<Vec<Standing>>, Answer> {
    caller
        .may(&services, ControlVerb::Status, &ControlObject::Host)
        .await?;
    Ok(Json(services.grants.all(None)))
}

/// `POST /v1/grants/revoke` on the control socket.
///
/// # Errors
/// An answer where policy refuses, or no such grant lives.
pub async fn revoke(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Revoke>,
) -> Result<Json<Standing>, Answer> {
    let found = services.grants.get(asked.grant).ok_or_else(|| {
        Answer::bad("no grant of that name lives; `interceptor grants` lists those that do")
    })?;
    let object = ControlObject::Scope {
        agent: found.grant.holder.agent.clone(),
        cgroup: found.grant.holder.cgroup.clone(),
    };
    caller.may(&services, ControlVerb::Revoke, &object).await?;
    // It goes on where the caller goes away.
    let (end, grant) = (Arc::clone(&services), asked.grant);
    let ended = tokio::spawn(async move { ending::end(&end, grant, Ended::Revoked).await });
    let was_live = ended.await.map_err(|error| Answer::failed(&error))?;
    let result = if was_live { "ok" } else { "failed" };
    caller.audit(&services, "revoke", result, json!({ "grant": asked.grant }));
    match was_live {
        true => Ok(Json(found)),
        false => Err(Answer::bad("the grant has ended meanwhile")),
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// For how long it is asked, where the rest makes sense.
fn understood(services: &Services, asked: &Request) -> Result<Duration, String> {
    let config = services.config.load();
    let target = config.targets.get(&asked.target);
    let target: &Arc<Target> =
        target.ok_or_else(|| format!("no target is named {}", asked.target))?;
    let Protocol::Postgres(postgres) = &target.protocol;
    if let Some(database) = &asked.database
        && !postgres.databases.contains(database)
    {
        return Err(format!(
            "target {} has no database {database}; it has {}",
            asked.target,
            postgres.databases.join(", ")
        ));
    }
    if !asked.resource.parts().iter().all(|name| is_name(name)) {
        return Err(format!(
            "a name is 1 to {MAX_NAME} bytes of text without control characters"
        ));
    }
    if asked.actions.is_empty() {
        return Err("name at least one action".to_owned());
    }
    let texts = [Some(&asked.reason), asked.ticket.as_ref()];
    let long = texts.into_iter().flatten().any(|text| {
        text.trim().is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control)
    });
    if long {
        return Err(format!(
            "a reason and a ticket are 1 to {MAX_TEXT} bytes of text in one line"
        ));
    }
    if asked.uses == Some(0) {
        return Err("a grant is for at least one use".to_owned());
    }
    let counted =
        |action: &Action| !matches!(action, Action::Connect | Action::Open | Action::Reveal);
    if asked.uses.is_some() && !asked.actions.iter().all(counted) {
        return Err(
            "uses of Connect, Open and Reveal are not counted: ask for a time only".to_owned(),
        );
    }
    let time = clock::duration(&asked.time)?;
    match time.is_zero() {
        true => Err("ask for some time".to_owned()),
        false => Ok(time),
    }
}

/// The permits that leave what is asked to a grant.
fn judged(
    services: &Services,
    principal: &Principal,
    asked: &Request,
    time: Duration,
) -> Result<Vec<RuleId>, Refusal> {
    let facts = PrincipalFacts::new(principal);
    let facts =
        Arc::new(facts.map_err(|_error| Refusal::internal("the caller cannot be described"))?);
    let policy = services.policy.current();
    let database = asked.database.as_deref().unwrap_or_default();
    let mut rules = Vec::new();
    let mut needed = false;
    for action in &asked.actions {
        let access = Access {
            action: *action,
            resource: asked.resource.clone(),
        };
        match policy.grantable(&facts, &asked.target, database, &access)? {
            Grantable::Permitted => {}
            Grantable::For { longest, .. } if time > longest => {
                return Err(Refusal::granted_for_less(longest));
            }
            Grantable::For { rules: more, .. } => {
                needed = true;
                rules.extend(more.iter().cloned());
            }
        }
    }
    rules.sort();
    rules.dedup();
    match needed {
        true => Ok(rules),
        false => Err(Refusal::permitted_already()),
    }
}

fn made(asked: Request, holder: Holder, time: Duration) -> Grant {
    let (now, issued) = (clock::boot(), clock::wall());
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Grant {
        id: GrantId(Uuid::now_v7()),
        holder,
        target: asked.target,
        database: asked.database,
        actions: asked.actions,
        resource: asked.resource,
        issued,
        expires: issued.saturating_add(time).unwrap_or(issued),
        from: now,
        until: BootTime(now.0.saturating_add(nanos)),
        uses: asked.uses,
        reason: asked.reason,
        ticket: asked.ticket,
    }
}

/// Written first, then in force. Goes on where the caller goes away: no half of it is left undone.
async fn issue(
    services: &Arc<Services>,
    principal: &Arc<Principal>,
    rules: Vec<RuleId>,
    grant: Grant,
) -> Result<Standing, Answer> {
    let (services, principal) = (Arc::clone(services), Arc::clone(principal));
    let issued = tokio::spawn(async move {
        let event = Event::GrantIssued {
            principal: &principal,
            grant: &grant,
            rules: &rules,
        };
        let written = services.audit.append_durable(&event).await;
        written.map_err(|error| Answer::failed(&error))?;
        let issued = services.grants.issue(grant.clone()).await;
        issued.map_err(|error| Answer::failed(&error))?;
        if let Some(root) = &grant.holder.root {
            ending::hang(&services, grant.id, root);
        }
        Ok(Standing { grant, used: 0 })
    });
    issued.await.map_err(|error| Answer::failed(&error))?
}
