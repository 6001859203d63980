//! Every event of the audit, as OCSF has it, against what the schema asks.

use serde_json::{Value, json};

use crate::outputs::ocsf;

fn schema() -> Value {
    serde_json::from_str(include_str!("../ocsf/schema.json")).unwrap()
}

/// Every event that the program writes, by the names in its own source.
fn events() -> Vec<&'static str> {
    let source = include_str!("../../audit/event.rs");
    let names = source.split("rename = \"").skip(1);
    let names: Vec<_> = names.map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(names.len() > 25, "{names:?}");
    names
}

/// A line of an event with everything that lines have.
fn line(event: &str, more: Value) -> String {
    let mut line = json!({
        "v": 1, "seq": 7, "time": "2026-11-27T10:00:00.000001Z", "boot_ns": 1, "prev": "0",
        "connection": "c", "session": "s", "target": "shop", "database": "app", "agent": "claude",
        "principal": {
            "agent": "claude", "user": { "uid": 1000, "gid": 1000, "name": "me" },
            "process": { "pid": 7, "executable": { "path": "/usr/bin/psql", "sha256": "00" }, "argv": ["psql", "-c", "x"] },
        },
        "destination": "10.0.0.1:5432", "upstream": "10.0.0.1:5432", "statement": "SELECT 1", "summary": "SELECT",
        "asks": [{ "accesses": [{ "action": "Select" }] }], "rules": ["read"], "result": "ok", "verb": "reload",
    });
    line["event"] = event.into();
    for (name, value) in more.as_object().unwrap() {
        line[name] = value.clone();
    }
    line.to_string()
}

/// What is wrong with a value of a type.
fn check(value: &Value, kind: &str, schema: &Value) -> Result<(), String> {
    match kind {
        "string" => value
            .is_string()
            .then_some(())
            .ok_or_else(|| format!("{value} is no text")),
        "integer" => value
            .is_u64()
            .then_some(())
            .ok_or_else(|| format!("{value} is no number")),
        "strings" => value
            .as_array()
            .unwrap()
            .iter()
            .try_for_each(|one| check(one, "string", schema)),
        "fingerprints" => value
            .as_array()
            .unwrap()
            .iter()
            .try_for_each(|one| check(one, "fingerprint", schema)),
        object => fields(value, &[&schema["objects"][object]], schema)
            .map_err(|error| format!("{object}: {error}")),
    }
}

/// What is wrong with the fields of an object, by definitions that add up.
fn fields(value: &Value, definitions: &[&Value], schema: &Value) -> Result<(), String> {
    let fields = value.as_object().ok_or("no object")?;
    for definition in definitions {
        let names = |key: &str| definition[key].as_array().cloned().unwrap_or_default();
        if let Some(missing) = names("required")
            .iter()
            .find(|name| !fields.contains_key(name.as_str().unwrap()))
        {
            return Err(format!("{missing} is missing"));
        }
        let one_of = names("one_of");
        if !one_of.is_empty()
            && !one_of
                .iter()
                .any(|name| fields.contains_key(name.as_str().unwrap()))
        {
            return Err(format!("none of {one_of:?}"));
        }
    }
    for (name, value) in fields {
        let kind = definitions
            .iter()
            .find_map(|definition| definition["attributes"][name].as_str());
        check(
            value,
            kind.ok_or_else(|| format!("{name} is unknown"))?,
            schema,
        )?;
    }
    Ok(())
}

fn validate(event: &Value, schema: &Value) -> Result<(), String> {
    let class = &schema["classes"][event["class_uid"].to_string()];
    if class.is_null() {
        return Err(format!("class {} is unknown", event["class_uid"]));
    }
    fields(event, &[&schema["base"], class], schema)?;
    let number = |name: &str| event[name].as_u64().unwrap();
    let (class_uid, activity) = (number("class_uid"), number("activity_id"));
    let fine = class["activities"]
        .as_array()
        .unwrap()
        .contains(&activity.into())
        && number("type_uid") == class_uid * 100 + activity
        && number("category_uid") == class_uid / 1000
        && event["metadata"]["version"] == schema["version"];
    for (name, values) in schema["base"]["enums"].as_object().unwrap() {
        if !values.as_array().unwrap().contains(&event[name]) {
            return Err(format!("{name} cannot be {}", event[name]));
        }
    }
    fine.then_some(())
        .ok_or_else(|| "class, activity, type and category do not fit".to_owned())
}

#[test]
fn every_event_is_what_the_schema_asks_for_whoever_speaks_what() {
    let schema = schema();
    for event in events() {
        for protocol in [
            json!({}),
            json!({ "protocol": "postgres" }),
            json!({ "protocol": "http" }),
            json!({ "protocol": "ssh" }),
        ] {
            let made = ocsf::event(&line(event, protocol));
            validate(&made, &schema).unwrap_or_else(|error| panic!("{event}: {error}\n{made:#}"));
        }
        // The same of a line that says nothing but its name.
        let bare = json!({ "seq": 1, "time": "2026-11-27T10:00:00Z", "event": event }).to_string();
        let made = ocsf::event(&bare);
        validate(&made, &schema).unwrap_or_else(|error| panic!("{event}: {error}\n{made:#}"));
    }
}

#[test]
fn events_are_of_the_class_that_they_are_about() {
    let select = json!({ "protocol": "postgres" });
    let delete =
        json!({ "protocol": "postgres", "asks": [{ "accesses": [{ "action": "Delete" }] }] });
    let get = json!({ "protocol": "http", "summary": "GET /orders" });
    let rows = [
        ("request.permitted", select.clone(), 600_501),
        ("request.refused", delete, 600_507),
        ("request.permitted", get, 400_203),
        ("request.permitted", json!({ "protocol": "ssh" }), 400_706),
        ("session.opened", select, 600_503),
        ("session.opened", json!({ "protocol": "ssh" }), 400_701),
        ("connection.refused", json!({}), 400_105),
        ("kernel.denied", json!({}), 400_105),
        ("kernel.folded", json!({}), 400_105),
        ("mask.missed", json!({}), 200_401),
        ("credential.returned", json!({}), 200_401),
        ("host.changed", json!({ "protocol": "ssh" }), 200_401),
        ("recording.damaged", json!({}), 200_401),
        ("grant.issued", json!({}), 600_301),
        ("control", json!({}), 600_399),
        ("log.opened", json!({}), 600_203),
    ];
    for (event, more, kind) in rows {
        assert_eq!(ocsf::event(&line(event, more))["type_uid"], kind, "{event}");
    }
    let refused = ocsf::event(&line(
        "request.refused",
        json!({ "refusal": { "message": "no", "rules": ["r"] } }),
    ));
    let outcome =
        ["status_id", "action_id", "disposition_id"].map(|name| refused[name].as_u64().unwrap());
    assert_eq!(outcome, [2, 2, 2]);
    assert_eq!(
        (&refused["status_detail"], &refused["policy"]["name"]),
        (&"no".into(), &"r".into())
    );
}

#[test]
fn alarms_are_grave_and_say_what_they_are() {
    let rows = [
        ("mask.missed", 5, "masked column"),
        ("recording.damaged", 5, "not what the audit log says"),
        ("host.changed", 4, "another key"),
        ("credential.returned", 4, "credential"),
    ];
    for (event, grave, title) in rows {
        let made = ocsf::event(&line(event, json!({ "protocol": "ssh" })));
        assert_eq!(made["severity_id"], grave, "{event}");
        let said = made["finding_info"]["title"].as_str().unwrap();
        assert!(said.contains(title), "{event}: {said}");
    }
    let changed = ocsf::event(&line("host.changed", json!({})));
    assert_eq!(changed["disposition_id"], 2, "it was not logged in to");
}
