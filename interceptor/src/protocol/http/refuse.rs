//! How "no" sounds to an HTTP client: a status, and `application/problem+json` (RFC 9457) with rule, request and
//! next step.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde_json::json;

use super::facts::Wrong;
use super::{Answer, whole};
use crate::policy::{Refusal, RefusalKind};
use crate::protocol::kubernetes;
use crate::session::Refused;

/// After how many seconds it is worth to ask again for what waits for people.
const AGAIN: u16 = 15;

/// A refusal that an answer tells.
#[derive(Clone)]
struct Told {
    refusal: Refusal,
    request: Option<String>,
}

/// The same answer in the words of a cluster, where it is a refusal of ours.
#[must_use]
pub(super) fn as_status(mut answer: Answer) -> Answer {
    let Some(Told { refusal, request }) = answer.extensions_mut().remove() else {
        return answer;
    };
    let code = answer.status().as_u16();
    let again = answer.headers().contains_key(RETRY_AFTER).then_some(AGAIN);
    let body = kubernetes::refuse::status(&refusal, request.as_deref(), code, again);
    let (mut head, _problem) = answer.into_parts();
    head.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Answer::from_parts(head, whole(body.into()).into_body())
}

/// What the agent is told of a refusal.
#[must_use]
pub(super) fn refused(refused: &Refused, wrong: Option<Wrong>) -> Answer {
    let request = refused.request.0.to_string();
    told(&refused.refusal, Some(&request), wrong)
}

/// What the agent is told where there is no request to name.
#[must_use]
pub(super) fn told(refusal: &Refusal, request: Option<&str>, wrong: Option<Wrong>) -> Answer {
    let status = match wrong {
        Some(Wrong::Malformed(_)) => StatusCode::BAD_REQUEST,
        Some(Wrong::Misdirected) => StatusCode::MISDIRECTED_REQUEST,
        Some(Wrong::Method | Wrong::Upgrade(_)) => StatusCode::NOT_IMPLEMENTED,
        Some(Wrong::Late) => StatusCode::REQUEST_TIMEOUT,
        Some(Wrong::Crowded) => StatusCode::TOO_MANY_REQUESTS,
        Some(Wrong::Unreadable(_) | Wrong::Leaving(_) | Wrong::NotOffered(..)) | None => {
            status(refusal.kind)
        }
    };
    let rules: Vec<&str> = refusal.rules.iter().map(|rule| rule.0.as_str()).collect();
    let mut problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": refusal.message,
        "rules": rules,
    });
    if let Some(fields) = problem.as_object_mut() {
        let hint = refusal.hint.as_ref().map(|hint| ("hint", hint.as_str()));
        let request = request.map(|request| ("request", request));
        let fields_of = [hint, request].into_iter().flatten();
        fields.extend(fields_of.map(|(name, text)| (name.to_owned(), text.into())));
    }
    let mut answer = whole(format!("{problem}\n").into());
    *answer.status_mut() = status;
    answer.extensions_mut().insert(Told {
        refusal: refusal.clone(),
        request: request.map(str::to_owned),
    });
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if refusal.kind == RefusalKind::NeedsApproval || refusal.kind == RefusalKind::Limit {
        headers.insert(RETRY_AFTER, AGAIN.into());
    }
    answer
}

fn status(kind: RefusalKind) -> StatusCode {
    match kind {
        RefusalKind::NotPermitted
        | RefusalKind::NeedsGrant
        | RefusalKind::NeedsApproval
        | RefusalKind::Forbidden
        | RefusalKind::Unreadable
        | RefusalKind::Cancelled
        | RefusalKind::Identity => StatusCode::FORBIDDEN,
        RefusalKind::Limit => StatusCode::TOO_MANY_REQUESTS,
        RefusalKind::Upstream => StatusCode::BAD_GATEWAY,
        RefusalKind::Storage | RefusalKind::Secret | RefusalKind::Ended => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        RefusalKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
