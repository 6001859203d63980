//! What is hidden of a cluster's answers beside what the target says: what Secrets hold, and tokens that are made.

use std::sync::Arc;

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

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
