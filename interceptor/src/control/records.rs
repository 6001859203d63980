//! Reading records is itself a record: the CLI says what it is about to read, and is told where it lies.

pub mod search;

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::Given;
use super::api::{Read, Records};
use super::caller::{Answer, Known};
use crate::policy::{ControlObject, ControlVerb};
use crate::session::services::Services;

/// `GET /v1/records`: where they lie; nothing is read by that.
///
/// # Errors
/// An answer where policy refuses.
pub async fn place(State(services): Given, caller: Known) -> Result<Json<Records>, Answer> {
    caller
        .may(&services, ControlVerb::Status, &ControlObject::Host)
        .await?;
    Ok(Json(records(&services)))
}

/// `POST /v1/records/read`.
///
/// # Errors
/// An answer where policy refuses, `what` is not a kind of record, or the audit cannot be written.
pub async fn read(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Read>,
) -> Result<Json<Records>, Answer> {
    let verb = match asked.what.as_str() {
        "audit" => ControlVerb::ReadAudit,
        "recordings" => ControlVerb::ReadSessions,
        "samples" => ControlVerb::Discover,
        _ => {
            return Err(Answer::bad("`what` is `audit`, `recordings` or `samples`"));
        }
    };
    caller.may(&services, verb, &ControlObject::Host).await?;
    // What cannot be written down is not read.
    let written = caller.write(&services, "read", "ok", json!(asked));
    written.map_err(|error| {
        tracing::error!(%error, "cannot write to the audit log who is about to read records");
        Answer::failed(&format!(
            "cannot write to the audit that it is about to be read: {error}"
        ))
    })?;
    Ok(Json(records(&services)))
}

fn records(services: &Services) -> Records {
    let state = services
        .config
        .load()
        .paths
        .state
        .to_string_lossy()
        .into_owned();
    Records { state }
}
