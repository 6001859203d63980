//! Which rule decides: a statement read and judged as the caller's own, without running it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Given;
use super::api::Why;
use super::caller::{Answer, Known};
use super::status::scope_of;
use crate::config::Protocol;
use crate::identity::{Principal, ScopeOf};
use crate::policy::{Explanation, PrincipalFacts};
use crate::protocol::postgres::facts::{self, Names};
use crate::session::services::Services;

/// `POST /v1/why` on `agent.sock`: would policy permit this statement of the caller, and by which rule?
///
/// # Errors
/// An answer where the caller is in no scope, or names no target.
pub async fn own(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Why>,
) -> Result<Json<Explanation>, Answer> {
    let scope = scope_of(&services, &caller)?;
    let scope = ScopeOf::from(&scope);
    let ids = (caller.uid, caller.gid);
    let principal = services.identity.of_process(caller.pid, ids, &scope).await;
    let principal = principal.map_err(|error| Answer::failed(&error))?;
    explain(&services, &principal, &asked)
        .map(Json)
        .map_err(|error| Answer::bad(&error))
}

fn explain(services: &Services, principal: &Principal, asked: &Why) -> Result<Explanation, String> {
    let config = services.config.load();
    let target = config.targets.get(&asked.target);
    let target = target.ok_or_else(|| format!("no target is named {}", asked.target))?;
    let Protocol::Postgres(postgres) = &target.protocol;
    let who = PrincipalFacts::new(principal).map_err(|error| error.to_string())?;
    let names = Names {
        search_path: Some(postgres.search_path.clone()),
        utf8: true,
        ..Names::default()
    };
    let asks = &facts::read(&asked.statement, &names).reading.asks;
    let policy = services.policy.current();
    Ok(policy.explain(&Arc::new(who), &asked.target, &asked.database, asks))
}
