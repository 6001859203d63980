//! Which rule decides: a statement read and judged as the caller's own, without running it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Given;
use super::api::Why;
use super::caller::{Answer, Known};
use super::status::agent_of;
use crate::grants::Holding;
use crate::identity::Principal;
use crate::masking::{Masked, Relation};
use crate::policy::{Ask, Explanation, Held, PrincipalFacts, Resource, Verdicts};
use crate::protocol::postgres::facts::{self, Names};
use crate::session::masks;
use crate::session::services::Services;

/// Bytes of a statement that is asked about: reading it takes time that no request pays for.
const MAX_STATEMENT: usize = 64 << 10;

/// What policy says of a statement, and which columns of what it names are masked.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// What policy says.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// Configured columns of the tables that it names, with their masks. What inherits one takes the catalog to
    /// know, which is not read for this.
    pub masked: Vec<Masked>,
}

/// `POST /v1/why` on `agent.sock`: would policy permit this statement of the caller, and by which rule?
///
/// # Errors
/// An answer where the caller is in no scope, or names no target.
pub async fn own(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Why>,
) -> Result<Json<Explained>, Answer> {
    if asked.statement.len() > MAX_STATEMENT {
        return Err(Answer::bad(
            "a statement that is asked about has 64 KiB at most",
        ));
    }
    let (scope, principal) = agent_of(&services, &caller).await?;
    let limits = services.config.load().agent(&scope.agent);
    let meter = services.meters.of(&scope.agent);
    let within = meter.request(&limits);
    within.map_err(|refusal| Answer::refused(&refusal))?;
    let turn = meter.turn().await;
    let explained = tokio::task::spawn_blocking(move || {
        let held = Holding::new(&services.grants, &principal, scope.id);
        let explained = explain(&services, (&principal, &held), &asked);
        // Held by the thread: one that asks and goes away waits for it all the same.
        drop(turn);
        explained
    });
    let explained = explained.await.map_err(|error| Answer::failed(&error))?;
    explained.map(Json).map_err(|error| Answer::bad(&error))
}

fn explain(
    services: &Services,
    (principal, held): (&Principal, &dyn Held),
    asked: &Why,
) -> Result<Explained, String> {
    let config = services.config.load();
    let target = config.targets.get(&asked.target);
    let target = target.ok_or_else(|| format!("no target is named {}", asked.target))?;
    let postgres = target
        .postgres()
        .ok_or_else(|| format!("target {} does not speak SQL", asked.target))?;
    let who = Arc::new(PrincipalFacts::new(principal).map_err(|error| error.to_string())?);
    let names = Names {
        search_path: Some(postgres.search_path.clone()),
        utf8: true,
        ..Names::default()
    };
    let asks = &facts::read(&asked.statement, &names).reading.asks;
    let policy = services.policy.current();
    let explanation = policy.explain(held, &who, &asked.target, &asked.database, asks);
    let mut masked = Vec::new();
    // Of a table that it may not ask about an agent learns nothing.
    if explanation.permitted {
        let verdicts = Verdicts::new(&who, &asked.target, &asked.database);
        let verdicts = verdicts.map_err(|refusal| refusal.message)?;
        let (masks, _) = masks::of(
            &policy,
            &verdicts,
            (&target.sensitive, &asked.database),
            held,
        );
        let columns = masks
            .columns()
            .filter(|(relation, ..)| touches(asks, relation));
        masked.extend(columns.map(|(relation, column, mask)| Masked {
            relation: relation.clone(),
            column: column.to_owned(),
            by: mask.clone(),
        }));
    }
    Ok(Explained {
        explanation,
        masked,
    })
}

/// Whether a statement names a relation.
fn touches(asks: &[Ask], relation: &Relation) -> bool {
    let resource = Resource::Table {
        schema: relation.schema.clone(),
        table: relation.name.clone(),
    };
    let mut accesses = asks.iter().flat_map(|ask| &ask.accesses);
    accesses.any(|access| access.resource == resource)
}
