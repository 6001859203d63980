//! Reading records is itself a record: the CLI says what it is about to read, and is told where it lies.

pub mod search;
pub mod watch;

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::Given;
use super::api::{Done, Read, Records, WhichSession};
use super::caller::{Answer, Known};
use crate::audit::{self, Event, Sink as _};
use crate::clock;
use crate::policy::{ControlObject, ControlVerb};
use crate::recording::retention::Hold;
use crate::recording::{self, Meta};
use crate::session::services::Services;

/// The longest reason, in bytes.
const REASON_MAX: usize = 4096;

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

/// `POST /v1/sessions/hold`: a recording is kept, whatever its age, until it is released.
///
/// # Errors
/// An answer where policy refuses, there is no such recording, or it cannot be written.
pub async fn hold(
    State(services): Given,
    caller: Known,
    Json(asked): Json<WhichSession>,
) -> Result<Json<Done>, Answer> {
    let by = caller
        .may(&services, ControlVerb::Hold, &ControlObject::Host)
        .await?;
    let reason = asked.reason.clone().unwrap_or_default();
    if reason.trim().is_empty() || reason.len() > REASON_MAX {
        return Err(Answer::bad("a hold has a reason, of at most 4096 bytes"));
    }
    let _alone = services.keeping.lock().await;
    let (dir, meta) = recorded(&services, &asked.session)?;
    let hold = Hold {
        reason,
        by: by.to_string(),
        since: clock::wall(),
    };
    let event = Event::RecordingHeld {
        session: meta.session,
        caller: caller.named(),
        reason: &hold.reason,
    };
    told(services.audit.append(&event))?;
    let before = Hold::of(&dir);
    hold.put(&dir).map_err(|error| Answer::failed(&error))?;
    Ok(Json(Done {
        session: meta.session,
        changed: before.is_none(),
    }))
}

/// `POST /v1/sessions/release`.
///
/// # Errors
/// An answer where policy refuses, there is no such recording, or it cannot be written.
pub async fn release(
    State(services): Given,
    caller: Known,
    Json(asked): Json<WhichSession>,
) -> Result<Json<Done>, Answer> {
    caller
        .may(&services, ControlVerb::Hold, &ControlObject::Host)
        .await?;
    let _alone = services.keeping.lock().await;
    let (dir, meta) = recorded(&services, &asked.session)?;
    let session = meta.session;
    let Some(hold) = Hold::of(&dir) else {
        let changed = false;
        return Ok(Json(Done { session, changed }));
    };
    let event = Event::RecordingReleased {
        session,
        caller: caller.named(),
        reason: &hold.reason,
    };
    told(services.audit.append(&event))?;
    let changed = Hold::release(&dir).map_err(|error| Answer::failed(&error))?;
    Ok(Json(Done { session, changed }))
}

/// The recording of a session.
fn recorded(services: &Services, id: &str) -> Result<(std::path::PathBuf, Meta), Answer> {
    let root = services.config.load().paths.state.join("recordings");
    let found = recording::find(&root, id);
    let dir = found.map_err(|error| Answer::bad(&error.to_string()))?;
    let meta = Meta::read(&dir).map_err(|error| Answer::failed(&error))?;
    Ok((dir, meta))
}

fn told(written: Result<audit::Sequence, audit::Error>) -> Result<(), Answer> {
    written.map(drop).map_err(|error| {
        tracing::error!(%error, "cannot write to the audit log what is done to a recording");
        Answer::failed(&format!("cannot write it to the audit: {error}"))
    })
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
