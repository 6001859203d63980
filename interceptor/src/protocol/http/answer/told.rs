//! What the head of an answer tells beside its body: headers, trailers and the reason of a status, under the detectors.

use hyper::HeaderMap;
use hyper::ext::ReasonPhrase;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::response::Parts;

use crate::protocol::http::mask::{self, Broken, Found, Looked, Masks};
use crate::protocol::http::wire::{self, query};

/// Headers that are the connection's or the server's own, and hold numbers, times, marks and names of programs.
const UNLOOKED: [&str; 34] = [
    "accept-ranges",
    "age",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "grpc-accept-encoding",
    "grpc-encoding",
    // Masked by its own ways.
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "keep-alive",
    "last-modified",
    "pragma",
    "retry-after",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "server",
    "strict-transport-security",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "x-request-id",
];
/// What stands in an address as it is, beside letters and digits.
const STAYS: &[u8] = b"-._~:/?#[]@!$&'()*+,;=<>\"{}| ";
const WHY: &str = "a value was found in its headers that goes no farther";

/// Covers what a head shows.
///
/// # Errors
/// Where it holds what goes no farther.
pub(super) fn head(masks: &Masks, parts: &mut Parts, found: &mut Found) -> Result<(), Broken> {
    if let Some(reason) = parts.extensions.get::<ReasonPhrase>()
        && let Some(said) = covered(masks, reason.as_bytes(), found)?
    {
        parts.extensions.remove::<ReasonPhrase>();
        if let Ok(said) = ReasonPhrase::try_from(said) {
            parts.extensions.insert(said);
        }
    }
    headers(masks, &mut parts.headers, found)
}

/// Covers what headers, or trailers, show.
///
/// # Errors
/// As [`head`].
pub(super) fn headers(
    masks: &Masks,
    headers: &mut HeaderMap,
    found: &mut Found,
) -> Result<(), Broken> {
    for (name, value) in headers.iter_mut() {
        if is_own(name) {
            continue;
        }
        if let Some(said) = covered(masks, value.as_bytes(), found)? {
            // What is covered holds no byte that a value may not.
            *value = HeaderValue::from_bytes(&said).unwrap_or(HeaderValue::from_static("*"));
        }
    }
    Ok(())
}

fn is_own(name: &HeaderName) -> bool {
    UNLOOKED.contains(&name.as_str())
}

/// A text with what it holds covered, as it is or with escapes in it; `None` where nothing is.
fn covered(masks: &Masks, text: &[u8], found: &mut Found) -> Result<Option<Vec<u8>>, Broken> {
    let mut first = Found::default();
    let plain = looked(masks, text, &mut first)?;
    let text = plain.as_deref().unwrap_or(text);
    if !text.contains(&b'%') {
        found.add(first.counts());
        return Ok(plain);
    }
    let escaped = wire::unescape(text, false).unwrap_or_else(|| mask::said(text));
    let mut second = Found::default();
    let said = looked(masks, &escaped, &mut second)?;
    // What is only reported was seen both times.
    let mut counts = first.counts().clone();
    for (kind, count) in second.counts() {
        let most = counts.entry(kind).or_default();
        *most = (*most).max(*count);
    }
    found.add(&counts);
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || STAYS.contains(&byte);
    let said = said.map(|said| query::escaped_but(&said, stays).into_bytes());
    Ok(said.or(plain))
}

fn looked(masks: &Masks, text: &[u8], found: &mut Found) -> Result<Option<Vec<u8>>, Broken> {
    match masks.look(text, found) {
        Looked::Same => Ok(None),
        Looked::Covered(text) => Ok(Some(text)),
        Looked::Refused(_) => Err(Broken(WHY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masking::detect::{Action, Kind};
    use crate::secrets::Secret;

    fn masks(action: Action) -> Masks {
        let actions = [(Kind::Email, action)].into_iter().collect();
        Masks::new(&[], &actions, &Secret::from("key")).unwrap()
    }

    fn parts(rows: &[(&'static str, &str)]) -> Parts {
        let mut response = hyper::Response::builder().status(303);
        for (name, value) in rows {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    #[test]
    fn values_are_covered_wherever_a_head_tells_them() {
        let stars = "*".repeat("ann@example.com".len());
        let rows = [
            ("x-user", "ann@example.com", stars.clone()),
            (
                "location",
                "https://a.example/u?email=ann%40example.com&next=%2Fhome",
                format!("https://a.example/u?email={stars}&next=/home"),
            ),
            (
                "link",
                "</u?after=ann@example.com>; rel=\"next\"",
                format!("</u?after={stars}>; rel=\"next\""),
            ),
            (
                "content-disposition",
                "attachment; filename*=UTF-8''ann%40example.com",
                format!("attachment; filename*=UTF-8''{stars}"),
            ),
            (
                "location",
                "/home?a=%2F&b=c+d",
                "/home?a=%2F&b=c+d".to_owned(),
            ),
            // A mark is no text.
            (
                "etag",
                "\"ann@example.com\"",
                "\"ann@example.com\"".to_owned(),
            ),
        ];
        for (name, value, expected) in rows {
            let mut parts = parts(&[(name, value)]);
            let mut found = Found::default();
            head(&masks(Action::Mask), &mut parts, &mut found).unwrap();
            assert_eq!(parts.headers[name], expected, "{name}");
            let count = found.counts().get("email").copied().unwrap_or_default();
            assert_eq!(count, u64::from(value != expected), "{name}");
            let refused = head(
                &masks(Action::Refuse),
                &mut self::parts(&[(name, value)]),
                &mut found,
            );
            assert_eq!(refused.is_err(), value != expected, "{name}");
            let mut reported = self::parts(&[(name, value)]);
            head(&masks(Action::Report), &mut reported, &mut found).unwrap();
            assert_eq!(reported.headers[name], value);
        }
    }

    #[test]
    fn the_reason_of_a_status_tells_nothing() {
        let mut parts = parts(&[]);
        let reason = ReasonPhrase::try_from(&b"no ann@example.com"[..]).unwrap();
        parts.extensions.insert(reason);
        head(&masks(Action::Mask), &mut parts, &mut Found::default()).unwrap();
        let said = parts.extensions.get::<ReasonPhrase>().unwrap();
        assert_eq!(said.as_bytes(), b"no ***************");
    }
}
