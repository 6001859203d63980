//! The credential of a request: what the client presents is reported and dropped, what the target is given is put
//! in, and nowhere else.

pub(super) mod conceal;
mod hmac;
pub(super) mod sigv4;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

pub(super) use self::sigv4::chunks::Chunks;
pub(super) use self::sigv4::is_in_pieces;
use super::facts::Wrong;
use super::wire::query;
use crate::clock;
use crate::config::{Cookies, Http, Inject};
use crate::policy::Refusal;
use crate::protocol::kubernetes::inject::strip_protocols;
use crate::secrets::Secret;

/// Headers that everybody knows to hold credentials.
const CREDENTIALS: [&str; 12] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
    "x-goog-api-key",
    "x-amz-security-token",
    "private-token",
    "job-token",
    "x-vault-token",
];

/// Parameters of a query that everybody knows to hold credentials (RFC 6750 §2.3, and what services call their keys).
const PARAMETERS: [&str; 4] = ["access_token", "api_key", "apikey", "api-key"];
/// Tokens that browsers put among the protocols of a WebSocket begin so.
const PROTOCOLS: [&str; 2] = [
    "openai-insecure-api-key.",
    "base64url.bearer.authorization.k8s.io.",
];

/// A credential as it is used.
pub(super) enum Credential {
    /// It stands in the request.
    Secret(Secret),
    /// The request is signed with it.
    Key(sigv4::Key),
}

impl Credential {
    /// What no answer shows.
    pub(super) fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Secret(secret) => vec![secret],
            Self::Key(key) => key.secrets().collect(),
        }
    }

    /// Whether any of it stands in the request as it is, and is not only signed with.
    pub(super) fn is_sent(&self, inject: &Inject) -> bool {
        match self {
            Self::Secret(_) => !matches!(inject, Inject::Hmac(_)),
            Self::Key(key) => key.token.is_some(),
        }
    }
}

/// What is known of a body when its head is given a credential.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// It comes as it comes; whether values in it may be covered on its way.
    Comes {
        /// They may.
        covered: bool,
    },
}

/// Whether the credential cannot be put in before the body is there, in which values may be covered.
pub(super) fn needs_whole(inject: Option<&Inject>, headers: &HeaderMap, covered: bool) -> bool {
    match inject {
        Some(Inject::Sigv4(settings)) => sigv4::needs_whole(settings, headers, covered),
        Some(Inject::Hmac(settings)) => settings.signs_body(),
        _ => false,
    }
}

/// Why a request cannot be given the credential, where what it says of its body is why.
pub(super) fn odd(inject: Option<&Inject>, headers: &HeaderMap) -> Option<Wrong> {
    match inject {
        Some(Inject::Sigv4(_)) => sigv4::odd(headers),
        _ => None,
    }
}

/// Something that the client presented: where, and what.
pub(super) type Presented = (String, Zeroizing<Vec<u8>>);

/// Takes out what the client presents, however it is written: servers differ in what they take for the same name.
pub(super) fn strip(parts: &mut Parts, settings: &Http) -> Vec<Presented> {
    let mut presented = strip_headers(&mut parts.headers, settings);
    match &settings.inject {
        Some(Inject::Cookie { name, .. }) => strip_cookie(&mut parts.headers, name, &mut presented),
        Some(Inject::Query { name, .. }) => strip_parameter(parts, name, &mut presented),
        Some(Inject::Sigv4(_)) => sigv4::strip(parts, &mut presented),
        Some(Inject::Hmac(settings)) => hmac::strip(parts, settings, &mut presented),
        _ => {}
    }
    if settings.inject.is_some() {
        for name in PARAMETERS {
            strip_parameter(parts, name, &mut presented);
        }
        presented.extend(strip_protocols(&mut parts.headers, &PROTOCOLS));
    }
    strip_cookies(&mut parts.headers, settings, &mut presented);
    presented
}

fn strip_parameter(parts: &mut Parts, name: &str, presented: &mut Vec<Presented>) {
    let raw = parts.uri.query().unwrap_or_default();
    let (kept, taken) = query::without(raw, name);
    if taken.is_empty() {
        return;
    }
    set_query(parts, &kept);
    let taken = taken.into_iter().map(Zeroizing::new);
    presented.extend(taken.map(|value| (format!("query {name}"), value)));
}

/// Cookies, of which one may be a credential: dropped, or reported where they go on beside one.
fn strip_cookies(headers: &mut HeaderMap, settings: &Http, presented: &mut Vec<Presented>) {
    let place = match (settings.cookies, &settings.inject) {
        (Cookies::Drop, _) => "cookie",
        (Cookies::Keep, None | Some(Inject::Cookie { .. })) => return,
        (Cookies::Keep, Some(_)) => "cookie (kept)",
    };
    // Over HTTP/2 each may have a line of its own.
    let all = headers.get_all(header::COOKIE).iter();
    let all: Vec<_> = all.map(HeaderValue::as_bytes).collect();
    if !all.is_empty() {
        presented.push((place.to_owned(), Zeroizing::new(all.join(&b"; "[..]))));
    }
    if settings.cookies == Cookies::Drop {
        headers.remove(header::COOKIE);
    }
}

/// The same of headers, or of trailers, alone.
pub(super) fn strip_headers(headers: &mut HeaderMap, settings: &Http) -> Vec<Presented> {
    let mut presented = Vec::new();
    let own = settings.credential_headers.iter().map(String::as_str);
    let injected: Vec<&str> = match &settings.inject {
        Some(Inject::Header { name, .. }) => vec![name],
        Some(Inject::Hmac(hmac)) => hmac.headers.iter().map(|(name, _)| name.as_str()).collect(),
        _ => Vec::new(),
    };
    for known in CREDENTIALS.into_iter().chain(own).chain(injected) {
        // Gateways to programs (CGI, WSGI) make no difference between the two.
        let names: Vec<_> = headers
            .keys()
            .filter(|name| name.as_str().replace('_', "-") == known.replace('_', "-"))
            .cloned()
            .collect();
        for name in names {
            for value in headers.get_all(&name) {
                presented.push((known.to_owned(), Zeroizing::new(value.as_bytes().to_vec())));
            }
            headers.remove(name);
        }
    }
    presented
}

fn strip_cookie(headers: &mut HeaderMap, name: &str, presented: &mut Vec<Presented>) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        for cookie in value.as_bytes().split(|byte| *byte == b';') {
            // Some servers begin the next cookie behind a comma, too.
            let mut parts = cookie.split(|byte| *byte == b',');
            let own = parts.find_map(|part| query::value_of(part, name));
            match own {
                Some(value) => presented.push((format!("cookie {name}"), Zeroizing::new(value))),
                None if cookie.trim_ascii().is_empty() => {}
                None => kept.push(cookie.trim_ascii().to_vec()),
            }
        }
    }
    headers.remove(header::COOKIE);
    if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
        && !kept.is_empty()
    {
        headers.insert(header::COOKIE, value);
    }
}

/// Puts the credential in; what signs the pieces of the body, where that comes in such.
///
/// # Errors
/// A refusal where it cannot stand where it is to, or nothing can be signed with it.
pub(super) fn inject(
    parts: &mut Parts,
    inject: &Inject,
    credential: &Credential,
    payload: Payload<'_>,
) -> Result<Option<Chunks>, Refusal> {
    match (inject, credential) {
        (Inject::Sigv4(settings), Credential::Key(key)) => {
            sigv4::sign_head(parts, settings, key, payload, clock::wall())
        }
        (Inject::Hmac(settings), Credential::Secret(secret)) => {
            let body = match payload {
                Payload::Whole(bytes) => Some(bytes),
                Payload::Comes { .. } => None,
            };
            hmac::sign(parts, settings, secret, body, clock::wall()).map(|()| None)
        }
        (inject, Credential::Secret(secret)) => put(parts, inject, secret).map(|()| None),
        (_, Credential::Key(_)) => Err(Refusal::secret()),
    }
}

fn put(parts: &mut Parts, inject: &Inject, secret: &Secret) -> Result<(), Refusal> {
    let secret = secret.expose_secret();
    let bytes = secret.as_bytes();
    match inject {
        Inject::Bearer(_) | Inject::Issued(_) => {
            set(parts, &header::AUTHORIZATION, &[b"Bearer ", bytes])
        }
        Inject::Basic { user, .. } => {
            let pair = Zeroizing::new(format!("{user}:{secret}"));
            let coded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
            set(
                parts,
                &header::AUTHORIZATION,
                &[b"Basic ", coded.as_bytes()],
            )
        }
        Inject::Header { name, prefix, .. } => {
            let name = HeaderName::try_from(name).map_err(|_not_a_name| Refusal::secret())?;
            set(parts, &name, &[prefix.as_bytes(), bytes])
        }
        Inject::Cookie { name, .. } => {
            let before = parts.headers.get(header::COOKIE).cloned();
            let before = before.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
            let separator = if before.is_empty() { &b""[..] } else { b"; " };
            set(
                parts,
                &header::COOKIE,
                &[before, separator, name.as_bytes(), b"=", bytes],
            )
        }
        Inject::Query { name, .. } => {
            let raw = parts.uri.query().unwrap_or_default();
            let query = Zeroizing::new(query::with(raw, name, secret));
            set_query(parts, &query);
            Ok(())
        }
        // What is signed is more than the head.
        Inject::Sigv4(_) | Inject::Hmac(_) => Err(Refusal::secret()),
    }
}

fn set(parts: &mut Parts, name: &HeaderName, value: &[&[u8]]) -> Result<(), Refusal> {
    let value = Zeroizing::new(value.concat());
    let mut value = HeaderValue::from_bytes(&value).map_err(|_not_a_value| Refusal::secret())?;
    value.set_sensitive(true);
    parts.headers.insert(name, value);
    Ok(())
}

pub(super) fn set_query(parts: &mut Parts, query: &str) {
    let path = parts.uri.path().to_owned();
    let text = match query {
        "" => path,
        query => format!("{path}?{query}"),
    };
    let mut uri = parts.uri.clone().into_parts();
    // Both come from an address that was read.
    uri.path_and_query = PathAndQuery::try_from(text).ok().or(uri.path_and_query);
    if let Ok(uri) = hyper::Uri::from_parts(uri) {
        parts.uri = uri;
    }
}
