//! AWS Signature Version 4: what the client signed with is dropped, and the request signed anew, as it goes on.
//!
//! What is signed is the host, what the body is, and all headers of AWS's own. The signature stands in a header,
//! wherever the client had put its own. A body that is not there as a whole goes by what the client says of it, which
//! the server holds it against; only S3 takes one that nobody vouches for.

pub(in crate::protocol::http) mod chunks;

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use zeroize::{Zeroize as _, Zeroizing};

use self::chunks::{Chain, Chunks};
use super::{Payload, Presented, set_query};
use crate::config::Sigv4;
use crate::policy::Refusal;
use crate::protocol::http::facts::Wrong;
use crate::protocol::http::wire::{path, query};
use crate::secrets::Secret;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// What a client says of itself that has no meaning beside a signature of this kind.
const DROPPED: [&str; 2] = ["x-amz-date", "x-amz-region-set"];
/// Parameters of a signature in the query.
const PARAMETERS: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
];
/// The key's id in those of the version before it, and what stands beside it.
const BEFORE: &str = "AWSAccessKeyId";
const BESIDE_BEFORE: [&str; 2] = ["Signature", "Expires"];
/// What begins the name of each algorithm.
const ALGORITHM: &str = "AWS4-";
/// What begins the words for a body in signed pieces, and those that are read.
const IN_PIECES: &str = "STREAMING-";
const UNSIGNED_PIECES: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const SIGNED_PIECES: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// Names of services whose paths are escaped once, and that take bodies that nobody vouches for.
const STORES: [&str; 4] = ["s3", "s3express", "s3-object-lambda", "s3-outposts"];
/// Headers that are signed beside AWS's own.
const SIGNED: [HeaderName; 2] = [header::CONTENT_TYPE, HeaderName::from_static("content-md5")];
const OWN: &str = "x-amz-";

/// With what a request is signed.
pub(in crate::protocol::http) struct Key {
    pub(in crate::protocol::http) id: String,
    pub(in crate::protocol::http) secret: Secret,
    pub(in crate::protocol::http) token: Option<Secret>,
}

/// What a `credential_process` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl Drop for Printed {
    fn drop(&mut self) {
        self.secret_access_key.zeroize();
        self.session_token.zeroize();
    }
}

impl Key {
    /// What the configured secrets are; `None` where they are no key.
    pub(in crate::protocol::http) fn of(
        settings: &Sigv4,
        secret: Secret,
        token: Option<Secret>,
    ) -> Option<Self> {
        if let Some(id) = &settings.id {
            return Some(Self {
                id: id.clone(),
                secret,
                token,
            });
        }
        let mut read: Printed = serde_json::from_str(secret.expose_secret()).ok()?;
        (read.version == 1).then_some(())?;
        let said = read.session_token.take().map(Secret::from);
        Some(Self {
            id: std::mem::take(&mut read.access_key_id),
            secret: Secret::from(std::mem::take(&mut read.secret_access_key)),
            token: said.or(token),
        })
    }

    /// What no answer shows.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.secret).chain(&self.token)
    }
}

/// Takes out what the client signed with.
pub(super) fn strip(parts: &mut Parts, presented: &mut Vec<Presented>) {
    for (_, value) in presented
        .iter_mut()
        .filter(|(place, _)| place == "authorization")
    {
        // A signature is another one each time; whose it is stays the same.
        if let Some(id) = key_id(value) {
            *value = id;
        }
    }
    let token = "x-amz-s3session-token";
    if let Some(value) = parts.headers.remove(token) {
        presented.push((token.to_owned(), Zeroizing::new(value.as_bytes().to_vec())));
    }
    for name in DROPPED {
        parts.headers.remove(name);
    }
    let raw = parts.uri.query().unwrap_or_default().to_owned();
    let mut kept = raw.clone();
    let mut take = |name: &str| {
        let (rest, taken) = query::without(&kept, name);
        kept = rest;
        taken
    };
    let mut taken: Vec<_> = PARAMETERS.map(|name| (name, take(name))).into();
    let before = take(BEFORE);
    if !before.is_empty() {
        drop(BESIDE_BEFORE.map(&mut take));
    }
    taken.push((BEFORE, before));
    for (name, values) in taken {
        for value in values {
            let said = match name {
                "X-Amz-Credential" => value.split(|byte| *byte == b'/').next(),
                "X-Amz-Security-Token" | BEFORE => Some(value.as_slice()),
                _ => None,
            };
            presented.extend(
                said.map(|value| (format!("query {name}"), Zeroizing::new(value.to_vec()))),
            );
        }
    }
    let (rest, hash) = query::without(&kept, HASH.as_str());
    if let Some(hash) = hash
        .first()
        .and_then(|hash| HeaderValue::from_bytes(hash).ok())
        && !parts.headers.contains_key(HASH)
    {
        parts.headers.insert(HASH, hash);
    }
    if rest != raw {
        set_query(parts, &rest);
    }
}

/// Whose a signature says it is.
fn key_id(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(value).ok()?;
    let said = text.strip_prefix(ALGORITHM)?.split_once("Credential=")?.1;
    let id = said.split(['/', ',', ' ']).next()?;
    (!id.is_empty()).then(|| Zeroizing::new(id.as_bytes().to_vec()))
}

/// Why a request cannot be signed anew, where it cannot.
pub(in crate::protocol::http) fn odd(headers: &HeaderMap) -> Option<Wrong> {
    let said = said(headers).filter(|said| said.starts_with(IN_PIECES))?;
    let is_read = [UNSIGNED_PIECES, SIGNED_PIECES, SIGNED_TRAILER].contains(&said);
    (!is_read).then_some(Wrong::NotOffered(
        "a body in pieces that are signed in another way than by HMAC with SHA-256 cannot be signed anew",
        "send it as a whole, or in pieces that are signed so, or not at all",
    ))
}

/// Whether a body comes in pieces with lines of their own between them.
pub(in crate::protocol::http) fn is_in_pieces(headers: &HeaderMap) -> bool {
    said(headers).is_some_and(|said| said.starts_with(IN_PIECES))
}

/// Whether the head cannot be signed before the body is there: nobody says what it is, or it may come to be another.
pub(in crate::protocol::http) fn needs_whole(
    settings: &Sigv4,
    headers: &HeaderMap,
    covered: bool,
) -> bool {
    !takes_unsigned(settings)
        && match said(headers) {
            Some(UNSIGNED) => false,
            Some(said) if said.starts_with(IN_PIECES) => false,
            Some(said) if is_hash(said) => covered,
            Some(_) | None => true,
        }
}

fn takes_unsigned(settings: &Sigv4) -> bool {
    STORES.contains(&settings.service.as_str())
}

/// What the client says of the body.
fn said(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(HASH).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

fn is_hash(said: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    said.len() == 64 && said.bytes().all(is_digit)
}

/// What the body is signed as; `None` where that is not known.
fn signable<'a>(
    settings: &Sigv4,
    headers: &HeaderMap,
    payload: Payload<'a>,
) -> Option<SignableBody<'a>> {
    match (said(headers), payload) {
        (Some(UNSIGNED_PIECES), _) => Some(SignableBody::StreamingUnsignedPayloadTrailer),
        (Some(SIGNED_TRAILER), _) => Some(SignableBody::StreamingSignedPayloadTrailer),
        (Some(SIGNED_PIECES), _) => Some(SignableBody::Precomputed(SIGNED_PIECES.to_owned())),
        (Some(said), _) if said.starts_with(IN_PIECES) => None,
        (Some(UNSIGNED), _) => Some(SignableBody::UnsignedPayload),
        (_, Payload::Whole(bytes)) => Some(SignableBody::Bytes(bytes)),
        (Some(said), Payload::Comes { covered: false }) if is_hash(said) => {
            Some(SignableBody::Precomputed(said.to_owned()))
        }
        (_, Payload::Comes { .. }) if takes_unsigned(settings) => {
            Some(SignableBody::UnsignedPayload)
        }
        (_, Payload::Comes { .. }) => None,
    }
}

/// Signs a request; what signs the pieces of its body, where it comes in such.
///
/// # Errors
/// A refusal, where it cannot be signed.
pub(in crate::protocol::http) fn sign_head(
    parts: &mut Parts,
    settings: &Sigv4,
    key: &Key,
    payload: Payload<'_>,
    now: Timestamp,
) -> Result<Option<Chunks>, Refusal> {
    let body = signable(settings, &parts.headers, payload);
    let body = body.ok_or_else(|| {
        Refusal::unread("what the body is has to be signed, and is not known before it is sent")
    })?;
    let pieces = match said(&parts.headers) {
        Some(SIGNED_PIECES) => Some(false),
        Some(SIGNED_TRAILER) => Some(true),
        _ => None,
    };
    let host = parts.uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| parts.headers.get(header::HOST)?.to_str().ok());
    let mut headers = vec![(header::HOST.as_str(), host.unwrap_or_default())];
    for (name, value) in &parts.headers {
        let is_own = name.as_str().starts_with(OWN) && *name != HASH && *name != DATE;
        if is_own || SIGNED.contains(name) {
            let text = std::str::from_utf8(value.as_bytes());
            let text = text.map_err(|_not_text| {
                Refusal::malformed("a header that has to be signed is not UTF-8")
            })?;
            headers.push((name.as_str(), text));
        }
    }
    let failed = |_error| Refusal::secret();
    let path = match takes_unsigned(settings) {
        true => path::escaped_once(parts.uri.path()),
        false => parts.uri.path().to_owned(),
    };
    let target = match parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let method = parts.method.as_str().to_owned();
    let request = SignableRequest::new(&method, target, headers.into_iter(), body);
    let token = key
        .token
        .as_ref()
        .map(|token| token.expose_secret().to_owned());
    let secret = key.secret.expose_secret();
    let identity = Credentials::new(&key.id, secret, token, None, "target").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&settings.region)
        .name(&settings.service)
        .time(SystemTime::from(now))
        .settings(kind(settings))
        .build()
        .map_err(|_incomplete| Refusal::secret())?
        .into();
    let (instructions, signature) = sign(request.map_err(failed)?, &params)
        .map_err(failed)?
        .into_parts();
    let (signed, _) = instructions.into_parts();
    for one in signed {
        let value = HeaderValue::from_str(one.value());
        let mut value = value.map_err(|_not_a_value| Refusal::secret())?;
        value.set_sensitive(true);
        parts
            .headers
            .insert(HeaderName::from_static(one.name()), value);
    }
    let chain = |trailer| Chunks::new(Chain::new(settings, key, now, signature), trailer);
    Ok(pieces.map(chain))
}

/// How this service wants it.
fn kind(settings: &Sigv4) -> SigningSettings {
    let mut kind = SigningSettings::default();
    kind.signature_location = SignatureLocation::Headers;
    kind.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    if takes_unsigned(settings) {
        kind.percent_encoding_mode = PercentEncodingMode::Single;
        kind.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    kind
}

#[cfg(test)]
mod tests;
