//! The published schema and the example agree with each other and with the check.

use serde_json::Value;

use super::*;

/// The file that editors are pointed to.
const PUBLISHED: &str = include_str!("../schema.json");

fn published() -> Value {
    serde_json::from_str(PUBLISHED).unwrap()
}

#[test]
fn the_published_schema_is_that_of_the_code() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/schema.json");
        std::fs::write(file, json_schema().unwrap()).unwrap();
        return;
    }
    assert!(
        PUBLISHED == json_schema().unwrap(),
        "interceptor/src/config/schema.json is old; write it anew: \
         interceptor config schema > interceptor/src/config/schema.json"
    );
}

#[test]
fn the_example_and_its_schema_agree() {
    let schema = published();
    let example: Value = serde_saphyr::from_str(EXAMPLE).unwrap();
    let mut used = Vec::new();
    validate(&example, &schema, "", &mut used).unwrap();
    // Every key of the schema is shown in the example.
    let mut known = Vec::new();
    all_keys(&schema, "", &mut known);
    // Of the places of a secret each is shown once, below the targets.
    let elsewhere = |key: &String| {
        let once = [
            ".console",
            ".approvals",
            ".targets.*.http.inject.sigv4.",
            ".targets.*.http.inject.client.",
        ];
        let once = once.iter().any(|above| key.starts_with(above));
        once && [".env", ".exec", ".credential"]
            .iter()
            .any(|place| key.contains(place))
    };
    // Kinds of values are shown below `detect`.
    let kind = |key: &String| key.contains(".detect_sent.") && !key.ends_with(".default");
    // Who signs is asked by a command.
    let never = |key: &String| key.contains(".sign.by.") && !key.contains(".by.exec");
    // What it is encrypted with is shown as a credential.
    let seal = |key: &String| key.starts_with(".authority.seal.") && !key.ends_with(".credential");
    known.retain(|key| !elsewhere(key) && !never(key) && !kind(key) && !seal(key));
    for key in known {
        assert!(used.contains(&key), "the example does not show {key}");
    }
    for (broken, why) in [
        ("version: 1\nfoo: 1", "foo"),
        ("version: 2", "version"),
        ("drain: 1s", "version"),
        ("version: 1\naudit: { durability: lax }", "durability"),
        ("version: 1\nagents: { a: { sessions: 0 } }", "sessions"),
    ] {
        let value: Value = serde_saphyr::from_str(broken).unwrap();
        let error = validate(&value, &schema, "", &mut Vec::new()).expect_err(broken);
        assert!(error.contains(why), "{broken}: {error}");
    }
}

/// A key of the table may stand for all that is below it; in the schema's words for "each".
#[test]
fn the_table_in_readme_has_every_key_and_no_other() {
    let readme = include_str!("../../../../README.md");
    let rows = readme
        .lines()
        .skip_while(|line| !line.starts_with("| key |"))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let said: Vec<String> = rows
        .map(|key| format!(".{}", key.replace("NAME", "*")))
        .collect();
    let mut known = Vec::new();
    all_keys(&published(), "", &mut known);
    let below = |key: &str, above: &str| {
        key.strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    for key in &known {
        let found = said.iter().any(|row| below(key, row) || below(row, key));
        assert!(found, "README does not list {key}");
    }
    for row in &said {
        let row = row.trim_end_matches("[]");
        assert!(known.iter().any(|key| key == row), "README invents {row}");
    }
}

/// As much of JSON Schema as the document uses, without patterns.
fn validate(
    value: &Value,
    schema: &Value,
    path: &str,
    used: &mut Vec<String>,
) -> Result<(), String> {
    if let Some(either) = schema.get("oneOf").and_then(Value::as_array) {
        let mut fitting = 0;
        for schema in either {
            let mut below = Vec::new();
            if validate(value, schema, path, &mut below).is_ok() {
                fitting += 1;
                used.extend(below);
            }
        }
        return (fitting == 1)
            .then_some(())
            .ok_or_else(|| format!("{path}: fits {fitting}"));
    }
    if let Some(allowed) = schema.get("const") {
        return (value == allowed)
            .then_some(())
            .ok_or_else(|| format!("{path}: not {allowed}"));
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words
            .contains(value)
            .then_some(())
            .ok_or_else(|| format!("{path}: not one of {words:?}"));
    }
    match schema["type"].as_str() {
        Some("boolean") if value.is_boolean() => Ok(()),
        Some("string") if value.is_string() => Ok(()),
        Some("null") if value.is_null() => Ok(()),
        Some("integer") => {
            let within = |n: i64| {
                n >= schema["minimum"].as_i64().unwrap() && n <= schema["maximum"].as_i64().unwrap()
            };
            value
                .as_i64()
                .is_some_and(within)
                .then_some(())
                .ok_or_else(|| format!("{path}: not within"))
        }
        Some("array") => {
            let elements = value
                .as_array()
                .ok_or_else(|| format!("{path}: no array"))?;
            elements.iter().try_for_each(|element| {
                validate(element, &schema["items"], &format!("{path}[]"), used)
            })
        }
        Some("object") => object(value, schema, path, used),
        _ => Err(format!("{path}: wrong type")),
    }
}

fn object(value: &Value, schema: &Value, path: &str, used: &mut Vec<String>) -> Result<(), String> {
    let fields = value
        .as_object()
        .ok_or_else(|| format!("{path}: no object"))?;
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Err(format!("{path}: misses {name}"));
        }
    }
    let most = schema.get("maxProperties").and_then(Value::as_u64);
    if most.is_some_and(|most| u64::try_from(fields.len()).unwrap() > most) {
        return Err(format!("{path}: too many"));
    }
    for (name, value) in fields {
        let property = schema.get("properties").and_then(|all| all.get(name));
        let (schema, path) = match property {
            Some(schema) => (schema, format!("{path}.{name}")),
            None => (&schema["additionalProperties"], format!("{path}.*")),
        };
        if *schema == Value::Bool(false) {
            return Err(format!("{path}: unknown key {name}"));
        }
        used.push(path.clone());
        validate(value, schema, &path, used)?;
    }
    Ok(())
}

fn all_keys(schema: &Value, path: &str, keys: &mut Vec<String>) {
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = format!("{path}.{name}");
        all_keys(property, &path, keys);
        keys.push(path);
    }
    if let Some(value) = schema
        .get("additionalProperties")
        .filter(|value| value.is_object())
    {
        all_keys(value, &format!("{path}.*"), keys);
    }
    if let Some(items) = schema.get("items") {
        all_keys(items, &format!("{path}[]"), keys);
    }
    for either in schema
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        all_keys(either, path, keys);
    }
}
