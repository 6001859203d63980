//! What is written back: a client that reads, changes one field and writes the whole would write masks in the place of
//! values that it was not shown.

use serde_json::Value;

use super::Masks;
use super::rules::{Reached, Rules};
use crate::masking::Mask;

/// Letters of a hash.
const HASH: usize = 32;

/// How a body stands for what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// It is all of it: what it lacks is gone.
    Whole,
    /// What it says is changed, and what it says is `null` is taken away.
    Merge,
    /// Steps, each with a path (RFC 6902).
    Steps,
}

impl Masks {
    /// Whether JSON that is written holds what a mask may have made, in a field that is masked. What is no JSON holds
    /// nothing that is known.
    pub(crate) fn is_written(&self, body: &[u8], write: Write) -> bool {
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return false;
        };
        let start = self.rules.start();
        match (write, &value) {
            (Write::Steps, Value::Array(steps)) => {
                steps.iter().any(|step| in_step(&self.rules, &start, step))
            }
            _ => in_value(&self.rules, (&start, None), &value, write),
        }
    }
}

/// One step of a patch: the keys on its path lead to its value.
fn in_step(rules: &Rules, start: &Reached, step: &Value) -> bool {
    let (Some(path), Some(value)) = (step.get("path").and_then(Value::as_str), step.get("value"))
    else {
        return false;
    };
    let (mut reached, mut mask) = (start.clone(), None);
    for key in path.split('/').skip(1) {
        // A place in an array has no name.
        if key == "-" || !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let key = key.replace("~1", "/").replace("~0", "~");
        let (next, found) = rules.step(&reached, &key);
        (reached, mask) = (next, found);
    }
    in_value(rules, (&reached, mask), value, Write::Steps)
}

fn in_value(
    rules: &Rules,
    (reached, mask): (&Reached, Option<&Mask>),
    value: &Value,
    write: Write,
) -> bool {
    match (value, mask) {
        (Value::Array(values), mask) => {
            let is_in = |value| in_value(rules, (reached, mask), value, write);
            values.iter().any(is_in)
        }
        (Value::Object(fields), None) => fields.iter().any(|(key, value)| {
            let (reached, mask) = rules.step(reached, key);
            in_value(rules, (&reached, mask), value, write)
        }),
        (_, None) | (Value::Object(_) | Value::Bool(_) | Value::Number(_), Some(_)) => false,
        (Value::Null, Some(mask)) => write == Write::Whole && *mask == Mask::Null,
        (Value::String(text), Some(mask)) => made(mask, text),
    }
}

/// Whether a mask may have made this text. A year's first day is a day like others.
fn made(mask: &Mask, text: &str) -> bool {
    match mask {
        Mask::Null | Mask::Hide | Mask::Year => false,
        Mask::Constant(constant) => **constant == *text,
        Mask::Hash(_) => {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            text.len() == HASH && text.bytes().all(is_digit)
        }
        Mask::Last4 => {
            let shown = text.trim_start_matches('*').chars().count();
            text.starts_with('*') && shown <= 4
        }
        Mask::Partial(shown) => {
            let front = text.trim_end_matches('*').chars().count();
            text.ends_with('*') && front <= usize::from(*shown)
        }
        Mask::Email => {
            let local = text.split_once('@').map_or(text, |(local, _)| local);
            local
                .strip_suffix("***")
                .is_some_and(|front| front.chars().count() <= 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masking::Joinable;
    use crate::secrets::Secret;

    fn masks() -> Masks {
        let fields = [
            ("**.ssn", Mask::Last4),
            ("user.email", Mask::Email),
            ("user.note", Mask::Constant("not shown".into())),
            ("user.card", Mask::Hash(Joinable::Target)),
            ("user.pin", Mask::Null),
            ("user.name", Mask::Partial(2)),
            ("user.born", Mask::Year),
        ];
        let fields = fields.map(|(field, mask)| (field.to_owned(), mask));
        Masks::new(&fields, &Default::default(), &Secret::from("key")).unwrap()
    }

    #[test]
    fn what_masks_made_of_a_value_is_known_where_it_is_written() {
        let read = r#"{"ssn":"123-45-6789","list":[{"SSN":"1"}],"user":{"email":"ann@example.com","note":"x",
            "card":4111,"name":"Ann"}}"#;
        let mut masker = masks().masker("application/json").unwrap().unwrap();
        let mut shown = Vec::new();
        masker.feed(read.as_bytes(), &mut shown).unwrap();
        masker.end(&mut shown).unwrap();
        assert!(masks().is_written(&shown, Write::Whole));
        // Each field by itself.
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        for field in ["email", "note", "card", "name"] {
            let body = format!(r#"{{"user":{{"{field}":{}}}}}"#, shown["user"][field]);
            assert!(masks().is_written(body.as_bytes(), Write::Merge), "{body}");
        }
        for field in ["ssn", "list"] {
            let body = format!(r#"[{{"{field}":{}}}]"#, shown[field]);
            assert!(masks().is_written(body.as_bytes(), Write::Merge), "{body}");
        }
        assert!(!masks().is_written(read.as_bytes(), Write::Whole));
    }

    #[test]
    fn what_a_client_may_well_mean_is_written() {
        let rows = [
            r#"{"ssn":"123-45-6789","user":{"email":"a*b@example.com","card":"4111","name":"Ann","note":"new"}}"#,
            r#"{"other":"*******6789","note":"not shown","email":"a***@example.com"}"#,
            r#"{"user":{"born":"2001-01-01","ssn":{"a":"*1"}}}"#,
            r#"{"ssn":"**12345"}"#,
            "- ssn: '*1'",
            "",
        ];
        for body in rows {
            assert!(!masks().is_written(body.as_bytes(), Write::Whole), "{body}");
        }
        let none = br#"{"user":{"pin":null}}"#;
        assert!(masks().is_written(none, Write::Whole));
        // A merge that says so means it.
        assert!(!masks().is_written(none, Write::Merge));
    }

    #[test]
    fn steps_of_a_patch_are_followed_to_what_they_write() {
        let rows = [
            (
                r#"[{"op":"replace","path":"/users/0/ssn","value":"*******6789"}]"#,
                true,
            ),
            (
                r#"[{"op":"add","path":"/user","value":{"email":"a***@example.com"}}]"#,
                true,
            ),
            (
                r#"[{"op":"add","path":"/list/-","value":{"ssn":"*1234"}}]"#,
                true,
            ),
            (
                r#"[{"op":"replace","path":"/user/email","value":"b@example.com"}]"#,
                false,
            ),
            (r#"[{"op":"remove","path":"/ssn"}]"#, false),
        ];
        for (body, expected) in rows {
            assert_eq!(
                masks().is_written(body.as_bytes(), Write::Steps),
                expected,
                "{body}"
            );
        }
    }
}
