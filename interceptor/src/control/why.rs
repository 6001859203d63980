//! Which rule decides: a statement read and judged as the caller's own, without running it.

use std::sync::Arc;

use super::api::Why;
use crate::config::Protocol;
use crate::identity;
use crate::policy::{Explanation, PrincipalFacts};
use crate::protocol::postgres::facts::{self, Names};
use crate::session::services::Services;

/// Explains what policy says of a statement, were `principal` to send it.
///
/// # Errors
/// A sentence for the caller, where the target is not known.
pub fn explain(
    services: &Services,
    principal: &identity::Principal,
    asked: &Why,
) -> Result<Explanation, String> {
    let config = services.config.load();
    let target = config.targets.get(&asked.target);
    let target = target.ok_or_else(|| format!("no target is named {}", asked.target))?;
    let who = PrincipalFacts::new(principal).map_err(|error| error.to_string())?;
    let Protocol::Postgres(postgres) = &target.protocol;
    let names = Names {
        search_path: Some(postgres.search_path.clone()),
        utf8: true,
        ..Names::default()
    };
    let facts = facts::read(&asked.statement, &names);
    let policy = services.policy.current();
    Ok(policy.explain(&Arc::new(who), &asked.target, &asked.database, &facts.reading.asks))
}
