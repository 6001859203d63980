//! The credential of a request: what the client presents is reported and dropped, what the target is given is put
//! in, and nowhere else.

pub(super) mod conceal;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::wire::query;
use crate::config::{Http, Inject};
use crate::policy::Refusal;
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

/// Something that the client presented: where, and what.
pub(super) type Presented = (String, Zeroizing<Vec<u8>>);

/// Takes out what the client presents.
pub(super) fn strip(parts: &mut Parts, settings: &Http) -> Vec<Presented> {
    let mut presented = Vec::new();
    let own = settings.credential_headers.iter().map(String::as_str);
    let injected = match &settings.inject {
        Some(Inject::Header { name, .. }) => Some(name.as_str()),
        _ => None,
    };
    for name in CREDENTIALS.into_iter().chain(own).chain(injected) {
        take(&mut parts.headers, name, &mut presented);
    }
    match &settings.inject {
        Some(Inject::Cookie { name, .. }) => strip_cookie(&mut parts.headers, name, &mut presented),
        Some(Inject::Query { name, .. }) => {
            let raw = parts.uri.query().unwrap_or_default();
            let (kept, taken) = query::without(raw, name);
            if !taken.is_empty() {
                set_query(parts, &kept);
            }
            presented.extend(
                taken
                    .into_iter()
                    .map(|value| (format!("query {name}"), Zeroizing::new(value.into_bytes()))),
            );
        }
        _ => {}
    }
    presented
}

fn take(headers: &mut HeaderMap, name: &str, presented: &mut Vec<Presented>) {
    if !headers.contains_key(name) {
        return;
    }
    for value in headers.get_all(name) {
        presented.push((name.to_owned(), Zeroizing::new(value.as_bytes().to_vec())));
    }
    headers.remove(name);
}

fn strip_cookie(headers: &mut HeaderMap, name: &str, presented: &mut Vec<Presented>) {
    let mut kept = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for cookie in text.split(';').map(str::trim) {
            let own = cookie.split('=').next().unwrap_or_default().trim();
            if own.eq_ignore_ascii_case(name) {
                let value = Zeroizing::new(cookie.as_bytes().to_vec());
                presented.push((format!("cookie {name}"), value));
            } else if !cookie.is_empty() {
                kept.push(cookie.to_owned());
            }
        }
    }
    headers.remove(header::COOKIE);
    if let Ok(value) = HeaderValue::from_str(&kept.join("; "))
        && !kept.is_empty()
    {
        headers.insert(header::COOKIE, value);
    }
}

/// Puts the credential in.
///
/// # Errors
/// A refusal of kind `secret` where it cannot stand where it is to.
pub(super) fn inject(parts: &mut Parts, inject: &Inject, secret: &Secret) -> Result<(), Refusal> {
    let secret = secret.expose_secret();
    match inject {
        Inject::Bearer(_) => set(parts, &header::AUTHORIZATION, &["Bearer ", secret]),
        Inject::Basic { user, .. } => {
            let pair = Zeroizing::new(format!("{user}:{secret}"));
            let coded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
            set(parts, &header::AUTHORIZATION, &["Basic ", &coded])
        }
        Inject::Header { name, prefix, .. } => {
            let name = HeaderName::try_from(name).map_err(|_not_a_name| Refusal::secret())?;
            set(parts, &name, &[prefix, secret])
        }
        Inject::Cookie { name, .. } => {
            let before = parts.headers.get(header::COOKIE).map(HeaderValue::as_bytes);
            let before = String::from_utf8_lossy(before.unwrap_or_default()).into_owned();
            let separator = if before.is_empty() { "" } else { "; " };
            set(
                parts,
                &header::COOKIE,
                &[&before, separator, name, "=", secret],
            )
        }
        Inject::Query { name, .. } => {
            let raw = parts.uri.query().unwrap_or_default();
            let query = Zeroizing::new(query::with(raw, name, secret));
            set_query(parts, &query);
            Ok(())
        }
    }
}

fn set(parts: &mut Parts, name: &HeaderName, value: &[&str]) -> Result<(), Refusal> {
    let value = Zeroizing::new(value.concat());
    let mut value = HeaderValue::from_str(&value).map_err(|_not_a_value| Refusal::secret())?;
    value.set_sensitive(true);
    parts.headers.insert(name, value);
    Ok(())
}

fn set_query(parts: &mut Parts, query: &str) {
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
