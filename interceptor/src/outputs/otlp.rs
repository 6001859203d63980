//! OTLP/HTTP logs, in JSON (OpenTelemetry Protocol 1, `opentelemetry.proto.collector.logs.v1`).

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::http::Http;
use super::{Line, ocsf};
use crate::secrets::Secret;

/// Sends a batch; taken where the answer is 2xx and nothing of it was rejected.
pub(super) async fn send(
    http: &Http,
    token: Option<&Secret>,
    lines: &[Line],
    made: &[String],
) -> Result<(), String> {
    let body = json!({ "resourceLogs": [{
        "resource": { "attributes": [
            text("service.name", "interceptor"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("host.name", &ocsf::host()),
        ] },
        "scopeLogs": [{
            "scope": { "name": "interceptor.audit" },
            "logRecords": made.iter().zip(lines).map(|(made, line)| record(made, line)).collect::<Vec<_>>(),
        }],
    }] });
    let bearer = token.map(|token| ("authorization", format!("Bearer {}", token.expose_secret())));
    let headers: Vec<_> = bearer.into_iter().collect();
    let answer = http
        .post("application/json", &headers, body.to_string().into_bytes())
        .await?;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    // A number of 64 bits is a string in the JSON of protocol buffers.
    let rejected = answer.pointer("/partialSuccess/rejectedLogRecords");
    let rejected = rejected.map(|count| {
        count
            .as_str()
            .map_or_else(|| count.to_string(), str::to_owned)
    });
    match rejected {
        Some(count) if count != "0" => {
            Err(format!("it rejects {count} of {} records", lines.len()))
        }
        _ => Ok(()),
    }
}

fn record(made: &str, line: &Line) -> Value {
    let value: Value = serde_json::from_str(&line.text).unwrap_or_default();
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let nanos = field("time")
        .parse::<jiff::Timestamp>()
        .unwrap_or_default()
        .as_nanosecond();
    let (number, word) = match ocsf::severity(&value) {
        1 => (9, "INFO"),
        2..=3 => (13, "WARN"),
        _ => (17, "ERROR"),
    };
    let mut attributes = vec![
        text("event.name", field("event")),
        text("log.record.uid", &line.seq.to_string()),
    ];
    for name in ["session", "request", "connection", "target"] {
        if !field(name).is_empty() {
            attributes.push(text(&format!("interceptor.{name}"), field(name)));
        }
    }
    json!({
        "timeUnixNano": nanos.to_string(),
        "severityNumber": number,
        "severityText": word,
        "body": { "stringValue": made },
        "attributes": attributes,
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}
