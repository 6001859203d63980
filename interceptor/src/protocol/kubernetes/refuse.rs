//! How "no" sounds to clients of a cluster: `metav1.Status`, whose message is all that `kubectl` prints.

use serde_json::json;

use crate::policy::Refusal;

/// The body of a refusal, by its HTTP status. The message says rule, request and next step, too: clients show nothing
/// else of it.
pub(crate) fn status(
    refusal: &Refusal,
    request: Option<&str>,
    code: u16,
    again: Option<u16>,
) -> String {
    let rules: Vec<&str> = refusal.rules.iter().map(|rule| rule.0.as_str()).collect();
    let message = refusal.sentence(request);
    let causes = rules
        .iter()
        .map(|rule| json!({ "reason": "InterceptorRule", "message": rule }));
    let mut details = json!({ "causes": causes.collect::<Vec<_>>() });
    if let (Some(seconds), Some(fields)) = (again, details.as_object_mut()) {
        fields.insert("retryAfterSeconds".to_owned(), seconds.into());
    }
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason(code),
        "details": details,
        "code": code,
    });
    format!("{status}\n")
}

/// The server's own word for a status.
fn reason(code: u16) -> &'static str {
    match code {
        400 | 421 => "BadRequest",
        403 => "Forbidden",
        429 => "TooManyRequests",
        501 => "MethodNotAllowed",
        502 | 503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::policy::{RefusalKind, RuleId};

    #[test]
    fn the_message_says_all_that_is_to_be_known() {
        let refusal = Refusal {
            kind: RefusalKind::Forbidden,
            rules: vec![RuleId("no-exec".to_owned())],
            message: "exec on pods/p in a of target prod is not permitted".to_owned(),
            hint: Some("ask the platform team".to_owned()),
        };
        let status: Value =
            serde_json::from_str(&status(&refusal, Some("0193"), 403, Some(15))).unwrap();
        assert_eq!(
            status["message"],
            "interceptor: exec on pods/p in a of target prod is not permitted; ask the platform team \
             (rule no-exec; request 0193)"
        );
        assert_eq!(
            (&status["kind"], &status["reason"]),
            (&json!("Status"), &json!("Forbidden"))
        );
        assert_eq!(status["details"]["retryAfterSeconds"], 15);
    }
}
