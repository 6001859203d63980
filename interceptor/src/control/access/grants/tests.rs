//! The published form of a request, and the forms that real refusals give.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

use super::*;
use crate::control::api;
use crate::policy::{Ask, Context, NoGrants, Policy};

fn published() -> Value {
    serde_json::from_str(api::REQUEST_SCHEMA).unwrap()
}

/// As much of JSON Schema as the document uses; what it does not know fails.
fn validate(value: &Value, schema: &Value) -> Result<(), String> {
    let count = |of: &Value| of.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap();
    for (word, says) in schema.as_object().unwrap() {
        let holds = match word.as_str() {
            "$schema" | "title" | "description" | "properties" => true,
            "type" => match says.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_u64(),
                other => panic!("type {other}"),
            },
            "enum" => says.as_array().unwrap().contains(value),
            "oneOf" => {
                let either = says.as_array().unwrap().iter();
                either.filter(|one| validate(value, one).is_ok()).count() == 1
            }
            "required" => {
                let mut names = says.as_array().unwrap().iter();
                names.all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "additionalProperties" => {
                assert_eq!(says, false);
                for (name, below) in value.as_object().into_iter().flatten() {
                    match schema["properties"].get(name) {
                        Some(schema) => validate(below, schema)?,
                        None => return Err(format!("{name} is not known")),
                    }
                }
                true
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    validate(item, says)?;
                }
                true
            }
            "minItems" => value.as_array().unwrap().len() >= count(says),
            "uniqueItems" => {
                let items = value.as_array().unwrap();
                let texts: BTreeSet<_> = items.iter().map(ToString::to_string).collect();
                texts.len() == items.len()
            }
            "minLength" => value.as_str().unwrap().len() >= count(says),
            "maxLength" => value.as_str().unwrap().len() <= count(says),
            "minimum" => value.as_u64() >= says.as_u64(),
            "maximum" => value.as_u64() <= says.as_u64(),
            "pattern" => {
                let pattern = Regex::new(says.as_str().unwrap()).unwrap();
                pattern.is_match(value.as_str().unwrap())
            }
            other => panic!("the test does not know {other}"),
        };
        if !holds {
            return Err(format!("{value}: {word} {says}"));
        }
    }
    Ok(())
}

/// The form in the hint of a refusal.
fn form_of(refusal: &Refusal) -> Value {
    let hint = refusal.hint.as_ref().unwrap();
    let (_, form) = hint.split_once("or send the form: ").unwrap();
    serde_json::from_str(form).unwrap()
}

#[test]
fn the_form_of_every_hint_is_as_the_published_schema_says_and_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let rules = r#"
        @grant("90m") permit (principal is Agent, action, resource in Target::"crm")
            unless { action == Action::"Show" };
        @grant("1s") @grant_uses("3") @grant_rows("10") @grant_bytes("1KiB")
            permit (principal is Agent, action == Action::"Show", resource in Target::"crm");"#;
    std::fs::write(directory.path().join("rules.cedar"), rules).unwrap();
    let policy = Policy::load(directory.path(), crate::policy::Generation(1)).unwrap();
    let principal = crate::grants::a_principal();
    let facts = Arc::new(PrincipalFacts::new(&principal).unwrap());
    let resources = [
        Resource::Target,
        Resource::Database,
        Resource::named("schema", "public").unwrap(),
        Resource::named("table", "public.\"my \"\"orders\"\"\"").unwrap(),
        Resource::named("column", "public.customers.email").unwrap(),
        Resource::named("function", "public.report").unwrap(),
        Resource::named("path", &format!("/v1/{}", "x".repeat(200))).unwrap(),
        Resource::named("file", "/").unwrap(),
        Resource::named("file", &format!("/srv/{}", "x".repeat(200))).unwrap(),
        Resource::named("forward", "db.internal:5432").unwrap(),
        Resource::named("namespace", "payments").unwrap(),
        Resource::named("object", "payments/pods").unwrap(),
        Resource::named("object", &format!("payments/pods/{}", "x".repeat(200))).unwrap(),
        Resource::named("object", "\"\"/nodes").unwrap(),
    ];
    let schema = published();
    for resource in resources {
        for action in Action::ALL {
            let context = Context {
                http: action.name().starts_with("Http").then(Box::default),
                ssh: action.is_of_a_channel().then(Box::default),
                kubernetes: action.name().starts_with("Kube").then(Box::default),
                ..Context::default()
            };
            let ask = Ask {
                accesses: BTreeSet::from([Access {
                    action,
                    resource: resource.clone(),
                }]),
                context,
            };
            let asked = policy.authorize_with(&NoGrants, &facts, "crm", "app", &[ask]);
            let form = form_of(&asked.unwrap_err());
            validate(&form, &schema).unwrap();
            let read: Request = serde_json::from_value(form).unwrap();
            assert_eq!(read.actions, BTreeSet::from([action]));
            assert_eq!(read.resource, resource);
            called(&read.resource).unwrap();
            assert!(clock::duration(&read.time).is_ok());
            assert_eq!(read.rows.is_some(), action == Action::Show);
        }
    }
}

#[test]
fn the_published_schema_takes_what_the_socket_takes_and_nothing_else() {
    let schema = published();
    let whole = json!({
        "target": "crm", "database": "app", "actions": ["Select", "CopyOut"],
        "resource": { "column": { "schema": "public", "table": "t", "column": "c" } },
        "for": "1h30m", "after": "2h", "uses": 1, "rows": 2, "bytes": 3, "reason": "a test", "ticket": "T-1",
        "passing": true, "on_behalf_of": "a.b.c",
    });
    validate(&whole, &schema).unwrap();
    let read: Request = serde_json::from_value(whole.clone()).unwrap();
    // Every key that there is.
    assert_eq!(json!(read), whole);
    let known: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(known.len(), whole.as_object().unwrap().len());
    let actions = &schema["properties"]["actions"]["items"]["enum"];
    assert_eq!(*actions, json!(Action::ALL.map(Action::name).as_slice()));
    for (key, wrong) in [
        ("target", json!("")),
        ("actions", json!([])),
        ("actions", json!(["Read"])),
        ("resource", json!({ "table": { "table": "t" } })),
        ("for", json!("long")),
        ("after", json!("soon")),
        ("uses", json!(0)),
        ("rows", json!(-1)),
        ("more", json!(1)),
    ] {
        let mut form = whole.clone();
        form[key] = wrong;
        assert!(validate(&form, &schema).is_err(), "{form}");
    }
}

#[test]
fn nothing_is_asked_for_by_what_is_no_name() {
    let long = |bytes: usize| "x".repeat(bytes);
    let of = |kind: &str, name: &str| called(&Resource::named(kind, name).unwrap());
    for (kind, name) in [
        ("table", format!("public.{}", long(64))),
        ("path", format!("/{}", long(MAX_PATH))),
        ("path", "/a\nb".to_owned()),
        ("file", format!("/{}", long(256))),
        ("file", format!("/{}", vec![long(200); 21].join("/"))),
        ("forward", format!("{}:1", long(254))),
        ("namespace", long(254)),
        ("object", format!("payments/pods/{}", long(254))),
        ("object", format!("payments/{}", long(507))),
    ] {
        assert!(of(kind, &name).is_err(), "{kind} {name}");
    }
    let empty = Resource::KubeObject {
        namespace: String::new(),
        resource: String::new(),
        name: String::new(),
    };
    assert!(called(&empty).is_err());
}

#[test]
fn what_would_cover_nothing_or_cannot_be_counted_is_not_asked_for() {
    let of = |actions: &str, resource: &str, more: &str| -> Request {
        let text = format!(
            r#"{{"target": "crm", "actions": [{actions}], "resource": {resource}, "for": "5m", "reason": "test"{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let (target, table) = (r#""target""#, r#"{"table": {"schema": "a", "table": "t"}}"#);
    let app = r#", "database": "app""#;
    assert!(placed(&of(r#""Connect""#, target, "")).is_ok());
    assert!(placed(&of(r#""Connect""#, table, app)).is_err());
    assert!(placed(&of(r#""Connect""#, target, app)).is_err());
    assert!(placed(&of(r#""Open""#, table, app)).is_err());
    assert!(placed(&of(r#""Select""#, table, app)).is_ok());
    assert!(countable(&of(r#""Reveal""#, table, "")).is_ok());
    assert!(countable(&of(r#""Reveal""#, table, r#", "uses": 1"#)).is_err());
    assert!(countable(&of(r#""Select""#, table, r#", "uses": 1, "rows": 5"#)).is_ok());
    assert!(countable(&of(r#""Insert""#, table, r#", "bytes": 5"#)).is_err());
    assert!(countable(&of(r#""Insert""#, table, r#", "rows": 5"#)).is_ok());
}
