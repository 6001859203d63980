//! WebSockets over HTTP/2 (RFC 8441). Where one is asked for by an extended CONNECT, it is judged, recorded and looked
//! at as the upgrade that it is in HTTP/1: it is written like that as it comes, and as its server takes it as it goes.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::ext::Protocol;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use crate::protocol::http::facts::WEBSOCKET;
use crate::protocol::http::{Answer, Spoken};

/// What a server that takes a WebSocket puts behind its key (RFC 6455 §1.3).
const PROOF: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key.
const KEY: usize = 16;

/// Marks a request that was an extended CONNECT.
#[derive(Clone, Copy, Debug)]
struct Extended;

/// What a server has to answer to show that it takes a WebSocket.
#[derive(Clone, Debug)]
pub(super) enum Proof {
    /// A status.
    Status,
    /// That it has read the key.
    Accept(HeaderValue),
}

/// Writes an extended CONNECT for a WebSocket as the upgrade that it is; whether it was one.
pub(super) fn taken<B>(request: &mut Request<B>) -> bool {
    let protocol = request.extensions_mut().remove::<Protocol>();
    let is_socket = protocol.is_some_and(|protocol| protocol.as_str() == WEBSOCKET);
    if request.method() != Method::CONNECT || !is_socket {
        return false;
    }
    *request.method_mut() = Method::GET;
    upgrades(request.headers_mut());
    request.extensions_mut().insert(Extended);
    true
}

/// Writes its answer as HTTP/2 has it.
pub(super) fn given(mut answer: Answer) -> Answer {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        *answer.status_mut() = StatusCode::OK;
    }
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
        answer.headers_mut().remove(name);
    }
    answer
}

/// Whether a request was an extended CONNECT.
pub(super) fn is(parts: &Parts) -> bool {
    parts.extensions.get::<Extended>().is_some()
}

/// Writes a request as its server takes it; `None` where the system gives no random bytes for its key.
pub(super) fn sent(parts: &mut Parts, spoken: Spoken) -> Option<Proof> {
    parts.headers.remove(SEC_WEBSOCKET_KEY);
    match spoken {
        Spoken::Two => {
            parts.method = Method::CONNECT;
            for name in [CONNECTION, UPGRADE] {
                parts.headers.remove(name);
            }
            parts.extensions.insert(Protocol::from_static(WEBSOCKET));
            Some(Proof::Status)
        }
        Spoken::One => {
            let mut key = [0; KEY];
            aws_lc_rs::rand::fill(&mut key).ok()?;
            let key = STANDARD.encode(key);
            let accept = accept(&key)?;
            parts
                .headers
                .insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).ok()?);
            Some(Proof::Accept(accept))
        }
    }
}

/// Writes what a server answers as the answer to an upgrade; `false` where it does not show that it takes one.
pub(super) fn answered<B>(response: &mut Response<B>, proof: &Proof) -> bool {
    match proof {
        Proof::Status if response.status().is_success() => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            upgrades(response.headers_mut());
            true
        }
        Proof::Status => response.status() != StatusCode::SWITCHING_PROTOCOLS,
        Proof::Accept(accept) => {
            let said = response.headers().get(SEC_WEBSOCKET_ACCEPT);
            response.status() != StatusCode::SWITCHING_PROTOCOLS || said == Some(accept)
        }
    }
}

fn upgrades(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// What a server that has read a key answers.
fn accept(key: &str) -> Option<HeaderValue> {
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), PROOF].concat());
    HeaderValue::try_from(STANDARD.encode(proof)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, protocol: Option<&'static str>) -> Request<()> {
        let mut request = Request::builder()
            .method(method)
            .uri("https://api.internal/socket?a=b")
            .body(())
            .unwrap();
        if let Some(protocol) = protocol {
            let protocol = Protocol::from_static(protocol);
            request.extensions_mut().insert(protocol);
        }
        request
    }

    #[test]
    fn only_a_connect_for_a_websocket_is_an_upgrade() {
        let mut request = asked("CONNECT", Some("websocket"));
        assert!(taken(&mut request));
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.headers()[UPGRADE], WEBSOCKET);
        let (parts, ()) = request.into_parts();
        assert!(is(&parts));
        for (method, protocol) in [
            ("CONNECT", Some("connect-udp")),
            ("CONNECT", Some("WebSocket")),
            ("CONNECT", None),
            ("GET", Some("websocket")),
            ("GET", None),
        ] {
            let mut request = asked(method, protocol);
            assert!(!taken(&mut request), "{method} {protocol:?}");
            assert_eq!(request.method(), method);
            assert!(!is(&request.into_parts().0));
        }
    }

    #[test]
    fn a_request_goes_on_as_its_server_takes_it() {
        let mut request = asked("CONNECT", Some("websocket"));
        assert!(taken(&mut request));
        let (mut two, ()) = request.clone().into_parts();
        let proof = sent(&mut two, Spoken::Two).unwrap();
        assert_eq!((&two.method, two.headers.len()), (&Method::CONNECT, 0));
        assert!(two.extensions.get::<Protocol>().is_some());
        let mut answer = Response::new(());
        assert!(answered(&mut answer, &proof));
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        *answer.status_mut() = StatusCode::NOT_FOUND;
        assert!(answered(&mut answer, &proof));
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);

        let (mut one, ()) = request.into_parts();
        let proof = sent(&mut one, Spoken::One).unwrap();
        assert_eq!(
            (&one.method, &one.headers[UPGRADE]),
            (&Method::GET, &HeaderValue::from_static(WEBSOCKET))
        );
        let key = one.headers[SEC_WEBSOCKET_KEY].to_str().unwrap();
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        assert!(!answered(&mut answer, &proof), "it has not read the key");
        let accepts = accept(key).unwrap();
        answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accepts);
        assert!(answered(&mut answer, &proof));
    }

    #[test]
    fn a_key_is_read_as_the_standard_has_it() {
        // RFC 6455 §1.3.
        let accepts = accept("dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(accepts, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
