//! How "no" sounds to an HTTP client: a status, and `application/problem+json` (RFC 9457) with rule, request and
//! next step; to a client of a cluster or of gRPC, what it shows people of a failure.

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::json;

use super::facts::{Wrong, media_type_of};
use super::wire::query::escaped_but;
use super::{Answer, empty, whole};
use crate::policy::{Refusal, RefusalKind};
use crate::protocol::kubernetes;
use crate::session::Refused;

/// After how many seconds it is worth to ask again for what waits for people.
const AGAIN: u16 = 15;

/// Bytes of a message of gRPC: clients take 8 KiB of headers.
const MESSAGE_MAX: usize = 4 << 10;

/// A refusal that an answer tells.
#[derive(Clone)]
struct Told {
    refusal: Refusal,
    request: Option<String>,
}

/// Whose words a refusal is told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// Everybody's.
    Http,
    /// A cluster's.
    Cluster,
    /// Of gRPC, whose clients show nothing of a body.
    Grpc,
}

impl Words {
    /// Those in which a request is made.
    pub(super) fn of<B>(request: &Request<B>, to_cluster: bool) -> Self {
        let kind = media_type_of(request.headers());
        // Whoever is no client of it looks at the status, and would take a refused request for done.
        let may_be = request.version() == Version::HTTP_2 && request.method() == Method::POST;
        let is_grpc = may_be && is_of_grpc(&kind);
        match to_cluster {
            true => Self::Cluster,
            false if is_grpc => Self::Grpc,
            false => Self::Http,
        }
    }

    /// An answer in them, where it is a refusal of ours.
    pub(super) fn tell(self, answer: Answer) -> Answer {
        match self {
            Self::Http => answer,
            Self::Cluster => as_status(answer),
            Self::Grpc => as_trailers(answer),
        }
    }
}

fn is_of_grpc(kind: &str) -> bool {
    kind == "application/grpc" || kind.starts_with("application/grpc+")
}

/// A refusal as gRPC has it: a status and a message, in headers behind which nothing comes.
fn as_trailers(mut answer: Answer) -> Answer {
    let Some(Told { refusal, request }) = answer.extensions_mut().remove() else {
        return answer;
    };
    let code = code(answer.status());
    let message = shortened(percent(&refusal.sentence(request.as_deref())));
    let mut told = Response::new(empty());
    let headers = told.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), code.into());
    if let Some(again) = answer.headers().get(RETRY_AFTER) {
        headers.insert(RETRY_AFTER, again.clone());
    }
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    told
}

/// gRPC's own number for a status (`doc/statuscodes.md`).
fn code(status: StatusCode) -> u16 {
    match status {
        StatusCode::BAD_REQUEST => 3,
        StatusCode::REQUEST_TIMEOUT => 4,
        StatusCode::TOO_MANY_REQUESTS => 8,
        StatusCode::NOT_IMPLEMENTED => 12,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14,
        StatusCode::INTERNAL_SERVER_ERROR => 13,
        _ => 7,
    }
}

/// An escaped message that is not too long: what to do, and the request's id, stand at its end, so it is cut in the
/// middle, and not in what is escaped.
fn shortened(message: String) -> String {
    const CUT: &str = "...";
    if message.len() <= MESSAGE_MAX {
        return message;
    }
    let half = MESSAGE_MAX.saturating_sub(CUT.len()) / 2;
    let whole = |at: usize| {
        // Where the escape begins in which it stands.
        let before = at.saturating_sub(2);
        let within = message.get(before..at).and_then(|last| last.find('%'));
        within.map_or(at, |within| before.saturating_add(within))
    };
    let from = message.len().saturating_sub(half);
    let from = match whole(from) {
        begins if begins < from => begins.saturating_add(3),
        from => from,
    };
    let head = message.get(..whole(half)).unwrap_or_default();
    let tail = message.get(from..).unwrap_or_default();
    format!("{head}{CUT}{tail}")
}

/// Text as a message of gRPC is escaped (`doc/PROTOCOL-HTTP2.md`, Percent-Byte-Encoded).
fn percent(text: &str) -> String {
    escaped_but(text.as_bytes(), |byte| {
        matches!(byte, b' '..=b'~') && byte != b'%'
    })
}

/// The same answer in the words of a cluster, where it is a refusal of ours.
fn as_status(mut answer: Answer) -> Answer {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: &str) -> Request<()> {
        let request = Request::builder().method(Method::POST);
        let request = request.version(Version::HTTP_2);
        request.header(CONTENT_TYPE, kind).body(()).unwrap()
    }

    #[test]
    fn a_client_of_grpc_is_told_what_it_shows() {
        for (kind, words) in [
            ("application/grpc", Words::Grpc),
            ("application/grpc+proto; x=y", Words::Grpc),
            ("application/grpc-web", Words::Http),
            ("application/json", Words::Http),
        ] {
            assert_eq!(Words::of(&asked(kind), false), words, "{kind}");
            assert_eq!(Words::of(&asked(kind), true), Words::Cluster, "{kind}");
        }
        // Over HTTP/1.1 and by other methods nobody speaks it.
        let mut other = asked("application/grpc");
        *other.version_mut() = Version::HTTP_11;
        assert_eq!(Words::of(&other, false), Words::Http);
        let mut other = asked("application/grpc");
        *other.method_mut() = Method::PUT;
        assert_eq!(Words::of(&other, false), Words::Http);
        let refusal = Refusal::upstream("100 % \u{e9}");
        let answer = Words::Grpc.tell(told(&refusal, Some("r1"), None));
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "14");
        let message = "interceptor: 100 %25 %C3%A9; try again later (request r1)";
        assert_eq!(answer.headers()["grpc-message"], message);
        let answer = Words::Grpc.tell(told(&Refusal::limit("requests"), None, None));
        assert_eq!(answer.headers()["grpc-status"], "8");
        assert!(answer.headers().contains_key(RETRY_AFTER));
        for before in 0..3 {
            let long = format!("{}{}", "x".repeat(before), "\u{e9}".repeat(MESSAGE_MAX));
            let answer = Words::Grpc.tell(told(&Refusal::upstream(&long), Some("r1"), None));
            let message = answer.headers()["grpc-message"].to_str().unwrap();
            assert!(message.len() <= MESSAGE_MAX && message.len() > MESSAGE_MAX - 6);
            let mut escapes = message.split('%').skip(1);
            let is_whole = |rest: &str| {
                let digits = rest.get(..2).unwrap_or_default();
                digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            assert!(escapes.all(is_whole), "{before}");
            // What to do, and by which number it is found, stands at the end.
            assert!(
                message.ends_with("; try again later (request r1)"),
                "{message}"
            );
        }
        // What is no refusal of ours is left as it is.
        let other = Words::Grpc.tell(whole("x".into()));
        assert!(!other.headers().contains_key("grpc-status"));
    }
}
