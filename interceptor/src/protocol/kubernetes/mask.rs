//! What is hidden of a cluster's answers beside what the target says: what Secrets hold, and tokens that are made.

use std::sync::Arc;

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::facts::Class;
use crate::masking::Mask;

/// What stands in the place of a value: recognisable, so that it is not written back.
const SHOWN: &str = "masked-by-interceptor";
/// The same as `data` holds it: clients resolve base64.
const CODED: &str = "bWFza2VkLWJ5LWludGVyY2VwdG9y";
/// What `kubectl apply` keeps of what it was given, as text.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One more field that is masked: keys on the way to it, as masks of fields have them.
pub(crate) type Field = (&'static [&'static str], Mask);

/// The fields that are masked of a class of answers, wherever they stand: in an object, in a list, in an event of a
/// watch, in a row of a table.
pub(crate) fn fields(class: Class) -> Vec<Field> {
    let constant = |text: &str| Mask::Constant(Arc::from(text));
    match class {
        Class::Secrets => vec![
            (&["**", "data", "*"], constant(CODED)),
            (&["**", "stringData", "*"], constant(SHOWN)),
            (&["**", "annotations", APPLIED], Mask::Hide),
        ],
        Class::Token => vec![(&["status", "token"], constant(SHOWN))],
        Class::Objects | Class::Plain => Vec::new(),
    }
}

/// Whether a body would write a mask.
pub(crate) fn is_in(body: &[u8]) -> bool {
    [SHOWN, CODED].iter().any(|mask| {
        let mask = mask.as_bytes();
        body.windows(mask.len()).any(|window| window == mask)
    })
}

/// Whether a JSON patch (RFC 6902) may copy what is hidden to where it is not, or ask what it is. What is no such
/// patch may.
pub(crate) fn copies(patch: &[u8]) -> bool {
    let steps: Result<Vec<Step>, _> = serde_json::from_slice(patch);
    let is_plain = |step: &Step| match step.op.as_str() {
        "add" | "remove" | "replace" => true,
        "test" => ["/metadata/resourceVersion", "/metadata/uid"].contains(&step.path.as_str()),
        _ => false,
    };
    !steps.is_ok_and(|steps| steps.iter().all(is_plain))
}

/// One step of a patch: each key once, and no other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    op: String,
    path: String,
    #[serde(rename = "from")]
    _from: Option<IgnoredAny>,
    #[serde(rename = "value")]
    _value: Option<IgnoredAny>,
}

/// Asks for JSON: of what a client takes, nothing else stays.
pub(crate) fn ask_for_json(headers: &mut HeaderMap) {
    let json = |clause: &&str| {
        let kind = clause.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    };
    let values: Vec<_> = headers.get_all(ACCEPT).iter().cloned().collect();
    let clauses: Vec<_> = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(json)
        .map(str::trim)
        .collect();
    let kept = HeaderValue::from_str(&clauses.join(","));
    let only = HeaderValue::from_static("application/json");
    let kept = kept.ok().filter(|kept| !kept.is_empty()).unwrap_or(only);
    headers.insert(ACCEPT, kept);
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_mask_is_known_in_each_form_that_it_has() {
        assert_eq!(STANDARD.encode(SHOWN), CODED);
        assert!(is_in(br#"{"data":{"k":"bWFza2VkLWJ5LWludGVyY2VwdG9y"}}"#));
        assert!(is_in(b"k8s\0\n\x15masked-by-interceptor"));
        assert!(!is_in(br#"{"data":{"k":"bWFz"}}"#));
        assert!(!is_in(b""));
    }

    #[test]
    fn a_patch_that_copies_or_asks_is_told_from_one_that_writes() {
        let writes = [
            r#"[]"#,
            r#"[{"op":"add","path":"/metadata/annotations/x","value":"y"}]"#,
            r#"[{"op":"test","path":"/metadata/resourceVersion","value":"7"},{"op":"remove","path":"/data/a"}]"#,
            r#"[{"op":"replace","path":"/data/a","value":null}]"#,
        ];
        for patch in writes {
            assert!(!copies(patch.as_bytes()), "{patch}");
        }
        let copying = [
            r#"[{"op":"copy","from":"/data/password","path":"/metadata/annotations/x"}]"#,
            r#"[{"op":"move","from":"/data/password","path":"/type"}]"#,
            r#"[{"op":"copy","from":"","path":"/metadata/annotations/x"}]"#,
            r#"[{"op":"copy","from":"/metadata/annotations","path":"/metadata/labels"}]"#,
            r#"[{"op":"test","path":"/data/password","value":"aHVudGVyMg=="}]"#,
            r#"[{"op":"test","path":"/metadata/annotations","value":{}}]"#,
            r#"[{"op":"add","op":"copy","from":"/data/a","path":"/type"}]"#,
            r#"[{"op":"add","OP":"copy","from":"/data/a","path":"/type"}]"#,
            r#"[{"op":"Copy","from":"/data/a","path":"/type"}]"#,
            r#"{"op":"add","path":"/data/a","value":"x"}"#,
            "- op: copy",
            "",
        ];
        for patch in copying {
            assert!(copies(patch.as_bytes()), "{patch}");
        }
    }

    #[test]
    fn of_what_a_client_takes_only_json_stays() {
        let rows = [
            (
                vec!["application/vnd.kubernetes.protobuf,application/json"],
                "application/json",
            ),
            (
                vec!["application/vnd.kubernetes.protobuf"],
                "application/json",
            ),
            (vec!["*/*"], "application/json"),
            (vec![], "application/json"),
            (
                vec![
                    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                    "application/yaml",
                ],
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            ),
            (
                vec!["application/cbor, Application/JSON;q=0.1"],
                "Application/JSON;q=0.1",
            ),
        ];
        for (sent, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            ask_for_json(&mut headers);
            let kept: Vec<_> = headers.get_all(ACCEPT).iter().collect();
            assert_eq!(kept, [expected]);
        }
    }
}
