//! Whether a rule that leans on who is behind a scope says by which issuer's word.

use serde_json::Value;

use super::super::Parsed;
use crate::policy::compile::Effect;

/// What an issuer says of somebody, in its own words.
const SAID: [&str; 5] = ["groups", "user", "subject", "acr", "amr"];

/// Whether a rule permits by what some issuer says, whichever.
pub(super) fn names_no_issuer(one: &Parsed) -> bool {
    let Ok(json) = one.policy.to_json() else {
        return false;
    };
    let conditions = json.get("conditions").and_then(Value::as_array);
    let all = || conditions.into_iter().flatten();
    // What forbids by a group alone forbids too much, not too little.
    let opens = |condition: &&Value| {
        one.rule.effect == Effect::Permit
            || condition.get("kind").and_then(Value::as_str) == Some("unless")
    };
    let issuer = |of: &Value| is_of_identity(of, &["issuer"]);
    all()
        .filter(opens)
        .any(|condition| finds(condition, &leans))
        && !all().any(|condition| finds(condition, &issuer))
}

/// Whether any part of an expression is so.
fn finds(value: &Value, is: &dyn Fn(&Value) -> bool) -> bool {
    is(value)
        || match value {
            Value::Object(fields) => fields.values().any(|value| finds(value, is)),
            Value::Array(values) => values.iter().any(|value| finds(value, is)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
}

/// Whether it reads what an issuer said: of the identity, or a claim, which is a tag.
fn leans(value: &Value) -> bool {
    let is_tag = |of: &Value| of.pointer("/left/Var").and_then(Value::as_str) == Some("principal");
    is_of_identity(value, &SAID)
        || ["getTag", "hasTag"]
            .into_iter()
            .any(|word| value.get(word).is_some_and(is_tag))
}

/// Whether it is `….identity.NAME`.
fn is_of_identity(value: &Value, names: &[&str]) -> bool {
    let Some(read) = value.get(".") else {
        return false;
    };
    let of = read.pointer("/left/./attr").and_then(Value::as_str);
    let name = read.get("attr").and_then(Value::as_str);
    of == Some("identity") && name.is_some_and(|name| names.contains(&name))
}
