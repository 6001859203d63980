//! Lines of the audit as events of the Open Cybersecurity Schema Framework 1.8, <https://schema.ocsf.io/1.8.0>.
//!
//! What an event does not name stays in `raw_data`, which is the line itself. `ocsf/schema.json` has what
//! the schema asks of the classes that are used; every event is checked against it in tests.

use serde_json::{Map, Value, json};

mod who;

/// The schema's version.
const VERSION: &str = "1.8.0";

/// A class of the schema and what happened in it.
struct Kind {
    class: u64,
    activity: u64,
}

const fn kind(class: u64, activity: u64) -> Kind {
    Kind { class, activity }
}

/// Classes by their number.
mod class {
    pub(super) const FINDING: u64 = 2004;
    pub(super) const NETWORK: u64 = 4001;
    pub(super) const HTTP: u64 = 4002;
    pub(super) const SSH: u64 = 4007;
    pub(super) const LIFECYCLE: u64 = 6002;
    pub(super) const API: u64 = 6003;
    pub(super) const DATASTORE: u64 = 6005;
}

/// A line as an event.
#[must_use]
pub fn event(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let name = text("event");
    let Kind { class, activity } = kind_of(name, &value);
    let time = text("time").parse::<jiff::Timestamp>().unwrap_or_default();
    let mut event = json!({
        "category_uid": class / 1000,
        "class_uid": class,
        "activity_id": activity,
        "type_uid": class.saturating_mul(100).saturating_add(activity),
        "time": time.as_millisecond(),
        "severity_id": severity(&value),
        "message": message(name, &value),
        "metadata": {
            "version": VERSION,
            "product": { "name": "interceptor", "vendor_name": "interceptor", "version": env!("CARGO_PKG_VERSION") },
            "uid": value.get("seq").map(ToString::to_string).unwrap_or_default(),
            "sequence": value.get("seq").cloned().unwrap_or_default(),
            "log_name": "audit",
            "event_code": name,
            "profiles": ["security_control"],
        },
        "raw_data": line,
    });
    if let Value::Object(fields) = &mut event {
        outcome(name, &value, fields);
        details(class, name, &value, fields);
    }
    event
}

fn kind_of(event: &str, line: &Value) -> Kind {
    let protocol = line.get("protocol").and_then(Value::as_str);
    match (event, protocol) {
        ("connection.opened", _) => kind(class::NETWORK, 1),
        ("connection.refused" | "kernel.denied" | "kernel.folded", _) => kind(class::NETWORK, 5),
        ("session.closed", _) => kind(class::NETWORK, 2),
        ("session.opened", Some("ssh")) => kind(class::SSH, 1),
        ("session.opened", Some("http" | "kubernetes")) => kind(class::NETWORK, 1),
        ("session.opened", _) => kind(class::DATASTORE, 3),
        (
            "mask.missed"
            | "credential.presented"
            | "credential.returned"
            | "identity.refused"
            | "host.changed"
            | "recording.damaged",
            _,
        ) => kind(class::FINDING, 1),
        (request, Some("ssh")) if request.starts_with("request.") => kind(class::SSH, 6),
        ("terminal.typed", _) => kind(class::SSH, 6),
        (request, Some("http" | "kubernetes")) if request.starts_with("request.") => {
            kind(class::HTTP, method(line))
        }
        (request, _) if request.starts_with("request.") => kind(class::DATASTORE, action(line)),
        ("log.opened", _) => kind(class::LIFECYCLE, 3),
        ("log.closed", _) => kind(class::LIFECYCLE, 4),
        (log, _) if log.starts_with("log.") || log == "kernel.lost" => kind(class::LIFECYCLE, 99),
        ("recording.begun" | "recording.sealed" | "recording.purged", _) => {
            kind(class::LIFECYCLE, 99)
        }
        ("grant.issued" | "identity.bound" | "approval.asked" | "recording.held", _) => {
            kind(class::API, 1)
        }
        ("grant.ended" | "identity.ended" | "recording.released", _) => kind(class::API, 4),
        ("approval.answered" | "approval.ended" | "approval.escalated", _) => kind(class::API, 3),
        _ => kind(class::API, 99),
    }
}

/// What is done to a datastore, by the first thing that a request does.
fn action(line: &Value) -> u64 {
    let action = line
        .pointer("/asks/0/accesses/0/action")
        .and_then(Value::as_str);
    match action {
        Some("Select" | "Show") => 1,
        Some("Update") => 2,
        Some("Insert" | "Merge") => 5,
        Some("Create") => 6,
        Some("Delete" | "Truncate" | "Drop") => 7,
        _ => 4,
    }
}

/// The method of an HTTP request, by the first word of its summary.
fn method(line: &Value) -> u64 {
    let summary = line
        .get("summary")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match summary.split(' ').next().unwrap_or_default() {
        "CONNECT" => 1,
        "DELETE" => 2,
        "GET" => 3,
        "HEAD" => 4,
        "OPTIONS" => 5,
        "POST" => 6,
        "PUT" => 7,
        "TRACE" => 8,
        "PATCH" => 9,
        _ => 99,
    }
}

/// How grave a line is: 1 informational to 5 critical.
#[must_use]
pub fn severity(line: &Value) -> u8 {
    let event = line
        .get("event")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match event {
        "mask.missed" | "log.lost" | "recording.damaged" => 5,
        "log.recovered"
        | "kernel.lost"
        | "identity.refused"
        | "credential.returned"
        | "host.changed" => 4,
        "credential.presented" | "request.refused" | "connection.refused" | "grant.refused" => 3,
        "kernel.denied" | "kernel.folded" | "host.learned" => 2,
        "control" if line.get("result").and_then(Value::as_str) != Some("ok") => 3,
        _ => 1,
    }
}

/// Whether it went through, and what was done about it.
fn outcome(event: &str, line: &Value, fields: &mut Map<String, Value>) {
    let word = |name: &str| line.get(name).and_then(Value::as_str);
    let is_refused = event.ends_with(".refused")
        || matches!(event, "kernel.denied" | "kernel.folded" | "host.changed")
        || word("result") == Some("refused");
    let failed =
        word("result") == Some("failed") || word("status").is_some_and(|status| status != "ok");
    let (status, action, disposition) = match (is_refused, failed) {
        (true, _) => (2, 2, 2),
        (false, true) => (2, 1, 1),
        (false, false) => (1, 1, 1),
    };
    fields.insert("status_id".to_owned(), status.into());
    fields.insert("action_id".to_owned(), action.into());
    fields.insert("disposition_id".to_owned(), disposition.into());
    if let Some(why) = line
        .pointer("/refusal/message")
        .and_then(Value::as_str)
        .or_else(|| word("cause"))
    {
        fields.insert("status_detail".to_owned(), why.into());
    }
    let rules = line.pointer("/refusal/rules").or_else(|| line.get("rules"));
    if let Some(rule) = rules.and_then(|rules| rules.get(0)).and_then(Value::as_str) {
        fields.insert("policy".to_owned(), json!({ "name": rule, "uid": rule }));
    }
}

fn message(event: &str, line: &Value) -> String {
    let said = ["statement", "summary", "verb", "cause", "reason"];
    let said = said.iter().find_map(|name| line.get(*name)?.as_str());
    match said {
        Some(said) => format!("{event}: {said}"),
        None => event.to_owned(),
    }
}

/// What each class asks for besides.
fn details(of: u64, event: &str, line: &Value, fields: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    if of != class::LIFECYCLE {
        put("actor", who::actor(line));
        put("src_endpoint", json!({ "hostname": host() }));
    }
    let said = || {
        let said = ["statement", "summary"]
            .iter()
            .find_map(|name| line.get(*name)?.as_str());
        said.unwrap_or(event).to_owned()
    };
    match of {
        class::DATASTORE => {
            put("dst_endpoint", who::destination(line));
            put("database", who::database(line));
            put("query_info", json!({ "query_string": said() }));
            put("type_id", 1.into());
        }
        class::HTTP => {
            put("dst_endpoint", who::destination(line));
            put("http_request", json!({ "url": { "url_string": said() } }));
        }
        class::NETWORK | class::SSH => put("dst_endpoint", who::destination(line)),
        class::API => put("api", json!({ "operation": operation(event, line) })),
        class::FINDING => put(
            "finding_info",
            json!({ "title": title(event), "uid": line.get("seq").map(ToString::to_string).unwrap_or_default() }),
        ),
        _ => put(
            "app",
            json!({ "name": "interceptor", "vendor_name": "interceptor" }),
        ),
    }
}

fn operation(event: &str, line: &Value) -> String {
    let verb = line
        .get("verb")
        .and_then(Value::as_str)
        .filter(|_| event == "control");
    verb.unwrap_or(event).to_owned()
}

fn title(event: &str) -> &'static str {
    match event {
        "mask.missed" => "A result named a masked column as it is",
        "credential.presented" => "An agent presented a credential of its own",
        "credential.returned" => "A server showed the credential that it was given",
        "host.changed" => "A server showed another key than it was known by",
        "recording.damaged" => "A recording is not what the audit log says of it",
        _ => "A token or a login was not believed",
    }
}

/// This host's name.
#[must_use]
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}
