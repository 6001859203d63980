//! `kubectl auth can-i`: a question of what is permitted, answered by policy where policy says no, and by the server
//! where it does not. What policy would leave to people or to a grant is no yes.

use serde_json::{Value, json};

use super::facts;
use super::wire::{Asked, protobuf};
use crate::policy::{Action, Ask, Refusal};

/// The group of such questions.
const GROUP: &str = "authorization.k8s.io";
/// Everything that is done to objects: what `*` asks for.
const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// It, as it was sent.
    sent: Value,
    /// What it asks for; none where policy cannot say yes to it.
    pub asks: Vec<Ask>,
}

/// Whether a request asks such a question.
pub(super) fn is_one(asked: &Asked) -> bool {
    asked.group == GROUP && asked.resource == "selfsubjectaccessreviews"
}

/// Whether a request asks for a list of everything that is permitted: the server does not know it.
#[must_use]
pub fn is_list(asked: &Asked) -> bool {
    asked.group == GROUP && asked.resource == "selfsubjectrulesreviews"
}

/// Reads a question.
#[must_use]
pub fn read(body: &[u8]) -> Option<Review> {
    let sent: Value = match body.first() {
        Some(b'k') => binary(body)?,
        _ => serde_json::from_slice(body).ok()?,
    };
    let spec = sent.get("spec")?;
    let text = |from: &Value, key: &str| {
        let text = from.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let asks = match (
        spec.get("resourceAttributes"),
        spec.get("nonResourceAttributes"),
    ) {
        (Some(of), None) => {
            let said = |key: &str| text(of, key);
            of_object(&Asked {
                is_resource: true,
                verb: said("verb"),
                group: said("group"),
                version: said("version"),
                namespace: said("namespace"),
                resource: said("resource"),
                subresource: said("subresource"),
                name: said("name"),
            })
        }
        (None, Some(of)) => of_path(&text(of, "verb"), &text(of, "path")),
        _ => return None,
    };
    Some(Review { sent, asks })
}

/// A question in protobuf, as JSON has it.
fn binary(body: &[u8]) -> Option<Value> {
    // Fields by their numbers, as the API's own `generated.proto` has them.
    const OBJECT: [&str; 7] = [
        "namespace",
        "verb",
        "group",
        "version",
        "resource",
        "subresource",
        "name",
    ];
    const PATH: [&str; 2] = ["path", "verb"];
    let read = |message: &[u8], names: &[&str]| {
        let mut fields = serde_json::Map::new();
        for (number, name) in (1..).zip(names) {
            let text = std::str::from_utf8(protobuf::last(message, number)?).ok()?;
            if !text.is_empty() {
                fields.insert((*name).to_owned(), text.into());
            }
        }
        Some(Value::Object(fields))
    };
    let review = protobuf::enveloped(body)?;
    let spec = protobuf::last(review, 2)?;
    let (object, path) = (protobuf::last(spec, 1)?, protobuf::last(spec, 2)?);
    let spec = match (object.is_empty(), path.is_empty()) {
        (false, true) => json!({ "resourceAttributes": read(object, &OBJECT)? }),
        (true, false) => json!({ "nonResourceAttributes": read(path, &PATH)? }),
        _ => return None,
    };
    Some(json!({
        "kind": "SelfSubjectAccessReview",
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {},
        "spec": spec,
    }))
}

/// What stands for any kind is more than one question; a verb that stands for all asks for each.
fn of_object(asked: &Asked) -> Vec<Ask> {
    let wild = [
        &asked.group,
        &asked.resource,
        &asked.subresource,
        &asked.namespace,
        &asked.name,
    ];
    if asked.resource.is_empty() || wild.iter().any(|text| text.contains('*')) {
        return Vec::new();
    }
    let verbs = match asked.verb.as_str() {
        "*" => VERBS.to_vec(),
        verb => vec![verb],
    };
    let ask = |verb: &str| {
        let asked = Asked {
            verb: verb.to_owned(),
            ..asked.clone()
        };
        let actions = facts::actions(&asked);
        facts::ask(&asked, facts::of(&asked), &actions)
    };
    verbs.into_iter().map(ask).collect()
}

fn of_path(verb: &str, path: &str) -> Vec<Ask> {
    let asked = Asked {
        verb: verb.to_owned(),
        ..Asked::default()
    };
    let mut kube = facts::of(&asked);
    kube.path = path.to_owned();
    let actions = facts::actions(&asked);
    let is_plain =
        path.starts_with('/') && !path.contains('*') && !actions.contains(&Action::KubeOther);
    match is_plain {
        true => vec![facts::ask(&asked, kube, &actions)],
        false => Vec::new(),
    }
}

impl Review {
    /// The answer where policy says no, and why.
    #[must_use]
    pub fn denied(&self, refusal: Option<&Refusal>) -> String {
        let reason = match refusal {
            Some(refusal) => format!("interceptor: {}", refusal.message),
            None => "interceptor: policy is asked of one kind of object at a time".to_owned(),
        };
        let mut answer = self.sent.clone();
        if let Some(fields) = answer.as_object_mut() {
            let status = json!({ "allowed": false, "denied": true, "reason": reason });
            fields.insert("status".to_owned(), status);
        }
        answer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(spec: &Value) -> Vec<String> {
        let body = json!({ "kind": "SelfSubjectAccessReview", "spec": spec }).to_string();
        let review = read(body.as_bytes()).unwrap();
        let asks = review.asks.iter().flat_map(|ask| &ask.accesses);
        asks.map(|access| format!("{} {}", access.action.name(), access.resource.shown()))
            .collect()
    }

    #[test]
    fn a_question_asks_what_the_request_would() {
        let of = |verb: &str, rest: Value| {
            let mut attributes = json!({ "namespace": "a", "verb": verb, "resource": "pods" });
            for (key, value) in rest.as_object().unwrap() {
                attributes[key] = value.clone();
            }
            asks(&json!({ "resourceAttributes": attributes }))
        };
        assert_eq!(of("get", json!({})), ["KubeGet pods in a"]);
        assert_eq!(of("get", json!({ "name": "p" })), ["KubeGet pods/p in a"]);
        assert_eq!(
            of("create", json!({ "subresource": "exec" })),
            ["KubeExec pods in a"]
        );
        let rbac = json!({ "group": "rbac.authorization.k8s.io", "resource": "rolebindings" });
        assert_eq!(
            of("create", rbac),
            [
                "KubeCreate rolebindings.rbac.authorization.k8s.io in a",
                "KubeBind rolebindings.rbac.authorization.k8s.io in a"
            ]
        );
        assert_eq!(
            of("impersonate", json!({ "resource": "users" })),
            ["KubeImpersonate users in a"]
        );
        assert_eq!(of("*", json!({})).len(), 8);
        assert_eq!(of("get", json!({ "resource": "*" })).len(), 0);
        let path =
            |path: &str| asks(&json!({ "nonResourceAttributes": { "verb": "get", "path": path } }));
        assert_eq!(path("/metrics"), ["KubeVisit path /metrics"]);
        assert_eq!(path("/*").len(), 0);
    }

    #[test]
    fn a_question_in_protobuf_is_the_same() {
        let message = |number: u8, bytes: &[u8]| {
            let head = [number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
            [&head, bytes].concat()
        };
        let attributes = [
            message(1, b"a"),
            message(2, b"get"),
            message(5, b"pods"),
            message(6, b"log"),
        ]
        .concat();
        let wrapped = |spec: &[u8]| {
            let review = [message(1, b""), message(2, spec), message(3, b"")].concat();
            [&b"k8s\0"[..], &message(2, &review), &message(3, b"")].concat()
        };
        let review = read(&wrapped(&message(1, &attributes))).unwrap();
        let expected =
            json!({ "namespace": "a", "verb": "get", "resource": "pods", "subresource": "log" });
        assert_eq!(review.sent["spec"]["resourceAttributes"], expected);
        assert_eq!(review.asks.len(), 1);
        let path = [message(1, b"/metrics"), message(2, b"get")].concat();
        let review = read(&wrapped(&message(2, &path))).unwrap();
        assert_eq!(
            review.asks[0].accesses.first().unwrap().action,
            Action::KubeVisit
        );
        assert!(read(&wrapped(b"")).is_none());
    }

    #[test]
    fn a_no_has_the_form_of_the_servers() {
        let body = json!({
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "spec": { "resourceAttributes": { "verb": "get", "resource": "pods" } },
        });
        let review = read(body.to_string().as_bytes()).unwrap();
        let answer: Value = serde_json::from_str(&review.denied(None)).unwrap();
        assert_eq!(answer["spec"], body["spec"]);
        assert_eq!(answer["status"]["allowed"], false);
        for broken in [&b"{}"[..], b"k8s\0", b"[1]", br#"{"spec":{}}"#] {
            assert!(read(broken).is_none());
        }
    }
}
