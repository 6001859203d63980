//! Looking through the audit log, the newest lines first: as far back as a bounded reading goes.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::super::Given;
use super::super::api::{Found, Search};
use super::super::caller::{Answer, Known};
use crate::audit::read::{self, Filter};
use crate::policy::{ControlObject, ControlVerb, RuleId};
use crate::session::services::Services;

/// Lines of one answer.
const LINES: usize = 200;
/// Bytes of one line's filters.
const MAX_TEXT: usize = 256;
/// Bytes of the log that are looked at.
const BYTES: u64 = 128 << 20;
/// Bytes of one answer's lines.
const ANSWER: usize = 4 << 20;

/// Searches at once.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// `POST /v1/records/search`.
///
/// # Errors
/// An answer where policy refuses, or the log cannot be read; and where the reading cannot be written to it.
pub async fn search(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Search>,
) -> Result<Json<Found>, Answer> {
    let verb = ControlVerb::ReadAudit;
    caller.may(&services, verb, &ControlObject::Host).await?;
    let texts = [&asked.agent, &asked.target, &asked.event, &asked.text];
    if texts
        .into_iter()
        .flatten()
        .any(|text| text.len() > MAX_TEXT)
    {
        return Err(Answer::bad("what is searched for has at most 256 bytes"));
    }
    // What cannot be written down is not read.
    let detail = json!({ "what": "audit", "search": asked });
    let written = caller.write(&services, "read", "ok", detail);
    written.map_err(|error| Answer::failed(&error))?;
    let directory = services.config.load().paths.state.join("audit");
    let filter = Filter {
        agent: asked.agent,
        target: asked.target,
        event: asked.event,
        text: asked.text,
        id: asked.id,
        ..Filter::default()
    };
    let place = AT_ONCE.acquire().await;
    let _place = place.map_err(|error| Answer::failed(&error))?;
    let found =
        tokio::task::spawn_blocking(move || read::newest(&directory, &filter, LINES, BYTES)).await;
    let found = found.map_err(|error| Answer::failed(&error))?;
    let (entries, mut partial) = found.map_err(|error| Answer::failed(&error))?;
    let mut lines: Vec<Box<RawValue>> = Vec::new();
    let mut bytes = 0_usize;
    for entry in entries {
        bytes = bytes.saturating_add(entry.line.len());
        if bytes > ANSWER {
            partial = true;
            break;
        }
        lines.extend(RawValue::from_string(entry.line));
    }
    let rules = rules(&services, &lines);
    Ok(Json(Found {
        lines,
        partial,
        rules,
    }))
}

/// The text of every rule that the lines name.
fn rules(services: &Services, lines: &[Box<RawValue>]) -> BTreeMap<String, String> {
    let mut named = BTreeSet::new();
    for line in lines {
        let Ok(line) = serde_json::from_str::<Value>(line.get()) else {
            continue;
        };
        for place in ["/rules", "/refusal/rules"] {
            let rules = line.pointer(place).and_then(Value::as_array);
            let names = rules.into_iter().flatten().filter_map(Value::as_str);
            named.extend(names.map(str::to_owned));
        }
    }
    let policy = services.policy.current();
    let texts = named.into_iter().filter_map(|name| {
        let text = policy.text(&RuleId(name.clone()))?;
        Some((name, text))
    });
    texts.collect()
}
