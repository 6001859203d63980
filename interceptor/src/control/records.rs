//! Reading records is itself a record: the CLI says what it is about to read, and is told where it lies.

use axum::Json;
use serde_json::json;

use axum::extract::State;

use super::Given;
use super::api::{Read, Records};
use super::caller::{Answer, Known};
use crate::policy::{ControlObject, ControlVerb};

/// `POST /v1/records/read`.
///
/// # Errors
/// An answer where policy refuses, or `what` is not a kind of record.
pub async fn read(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Read>,
) -> Result<Json<Records>, Answer> {
    let verb = match asked.what.as_str() {
        "audit" => ControlVerb::ReadAudit,
        "recordings" => ControlVerb::ReadSessions,
        _ => return Err(Answer::bad("`what` is `audit` or `recordings`")),
    };
    caller.may(&services, verb, &ControlObject::Host)?;
    caller.audit(&services, "read", "ok", json!(asked));
    let state = services
        .config
        .load()
        .paths
        .state
        .to_string_lossy()
        .into_owned();
    Ok(Json(Records { state }))
}
