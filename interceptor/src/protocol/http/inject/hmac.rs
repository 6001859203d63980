//! Signatures by schemes of their own: what is signed, and where the signature stands, is written as templates.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderName};
use hyper::http::request::Parts;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Presented, set, set_query};
use crate::config::hmac::{Coding, Hash, Hmac, Part, Template, Time, Written};
use crate::policy::Refusal;
use crate::protocol::http::wire::query;
use crate::secrets::Secret;

/// Takes out what stands where the signature is to.
pub(super) fn strip(parts: &mut Parts, settings: &Hmac, presented: &mut Vec<Presented>) {
    for (name, _) in &settings.query {
        let raw = parts.uri.query().unwrap_or_default();
        let (kept, taken) = query::without(raw, name);
        if !taken.is_empty() {
            set_query(parts, &kept);
        }
        let taken = taken.into_iter().map(Zeroizing::new);
        presented.extend(taken.map(|value| (format!("query {name}"), value)));
    }
}

/// Signs a request.
///
/// # Errors
/// A refusal, where it cannot be signed.
pub(in crate::protocol::http) fn sign(
    parts: &mut Parts,
    settings: &Hmac,
    secret: &Secret,
    body: Option<&[u8]>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let body = match body {
        None if settings.signs_body() => {
            return Err(Refusal::unread(
                "the body has to be signed, and is not known before it is sent",
            ));
        }
        body => body.unwrap_or_default(),
    };
    let key = Zeroizing::new(key(settings.key, secret).ok_or_else(Refusal::secret)?);
    let mut of = Of {
        body,
        time: time(settings.time, now),
        nonce: Uuid::new_v4().simple().to_string(),
        signature: String::new(),
    };
    let (last, first): (Vec<_>, Vec<_>) =
        (settings.headers.iter()).partition(|(_, template)| template.has_signature());
    let put = |parts: &mut Parts, of: &Of<'_>, (name, template): &(String, Template)| {
        let name = HeaderName::try_from(name).map_err(|_not_a_name| Refusal::secret())?;
        let value = of.render(parts, template);
        set(parts, &name, &[&value])
    };
    for header in first {
        put(parts, &of, header)?;
    }
    let said = of.render(parts, &settings.sign);
    let algorithm = match settings.algorithm {
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    let tag = hmac::sign(&hmac::Key::new(algorithm, &key), &said);
    of.signature = coded(settings.output, tag.as_ref());
    for header in last {
        put(parts, &of, header)?;
    }
    let mut query = parts.uri.query().unwrap_or_default().to_owned();
    for (name, template) in &settings.query {
        let value = of.render(parts, template);
        let value = std::str::from_utf8(&value).map_err(|_not_text| Refusal::secret())?;
        query = query::with(&query, name, value);
    }
    if !settings.query.is_empty() {
        set_query(parts, &query);
    }
    Ok(())
}

fn key(written: Written, secret: &Secret) -> Option<Vec<u8>> {
    let text = secret.expose_secret();
    match written {
        Written::Text => Some(text.as_bytes().to_vec()),
        Written::In(Coding::Hex) => hex::decode(text).ok(),
        Written::In(Coding::Base64) => STANDARD.decode(text).ok(),
    }
}

fn time(written: Time, now: Timestamp) -> String {
    match written {
        Time::Unix => now.as_second().to_string(),
        Time::UnixMs => now.as_millisecond().to_string(),
        Time::Iso => now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Time::Http => now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
    }
}

fn coded(coding: Coding, bytes: &[u8]) -> String {
    match coding {
        Coding::Hex => hex::encode(bytes),
        Coding::Base64 => STANDARD.encode(bytes),
    }
}

/// What words stand for beside the head.
struct Of<'a> {
    body: &'a [u8],
    time: String,
    nonce: String,
    signature: String,
}

impl Of<'_> {
    fn render(&self, parts: &Parts, template: &Template) -> Vec<u8> {
        let mut out = Vec::new();
        for part in template.parts() {
            self.part(parts, part, &mut out);
        }
        out
    }

    fn part(&self, parts: &Parts, part: &Part, out: &mut Vec<u8>) {
        let path = parts.uri.path();
        let query = parts.uri.query().unwrap_or_default();
        let hash = |algorithm, coding: &Coding| {
            coded(*coding, digest::digest(algorithm, self.body).as_ref())
        };
        match part {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Method => out.extend_from_slice(parts.method.as_str().as_bytes()),
            Part::Host => out.extend_from_slice(&host(parts)),
            Part::Path => out.extend_from_slice(path.as_bytes()),
            Part::Query => out.extend_from_slice(query.as_bytes()),
            Part::Target if query.is_empty() => out.extend_from_slice(path.as_bytes()),
            Part::Target => out.extend_from_slice(format!("{path}?{query}").as_bytes()),
            Part::Time => out.extend_from_slice(self.time.as_bytes()),
            Part::Nonce => out.extend_from_slice(self.nonce.as_bytes()),
            Part::Body => out.extend_from_slice(self.body),
            Part::Sha256(coding) => out.extend_from_slice(hash(&digest::SHA256, coding).as_bytes()),
            Part::Sha512(coding) => out.extend_from_slice(hash(&digest::SHA512, coding).as_bytes()),
            Part::Header(name) => out.extend_from_slice(&values(parts, name)),
            Part::Signature => out.extend_from_slice(self.signature.as_bytes()),
        }
    }
}

fn host(parts: &Parts) -> Vec<u8> {
    match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes().to_vec(),
        None => values(parts, header::HOST.as_str()),
    }
}

fn values(parts: &Parts, name: &str) -> Vec<u8> {
    let all: Vec<_> = parts
        .headers
        .get_all(name)
        .iter()
        .map(|value| value.as_bytes())
        .collect();
    all.join(&b", "[..])
}

#[cfg(test)]
mod tests;
