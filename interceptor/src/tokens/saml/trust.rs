//! The keys of an identity provider, from files that only root writes: read whenever an assertion is brought,
//! so that a key that is changed there counts at once.
//!
//! A certificate is a way to write a key down here (SAML Metadata Interoperability Profile section 2.6.1): its
//! own dates and its issuer say nothing. What a signature says of its key is never looked at.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::xml::{self, DSIG, Element, METADATA};
use crate::clock;
use crate::config::{Saml, SignedBy, Trust};
use crate::tokens::{Error, shown};

/// Bytes of a file.
const MAX_FILE: u64 = 1 << 20;
/// Keys of one identity provider.
const MAX_KEYS: usize = 16;
/// Bits of the smallest RSA key.
const MIN_RSA: usize = 2_048;

/// A public key.
#[derive(Debug)]
pub(super) struct Key {
    kind: Kind,
    public: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
}

impl Key {
    /// Whether it is one for that algorithm.
    pub(super) fn fits(&self, by: SignedBy) -> bool {
        let kind = match by {
            SignedBy::RsaSha256 | SignedBy::RsaSha384 | SignedBy::RsaSha512 => Kind::Rsa,
            SignedBy::EcdsaSha256 => Kind::P256,
            SignedBy::EcdsaSha384 => Kind::P384,
        };
        self.kind == kind
    }

    /// Whether a signature is its own.
    pub(super) fn has_signed(&self, by: SignedBy, bytes: &[u8], signature: &[u8]) -> bool {
        let by: &'static dyn VerificationAlgorithm = match by {
            SignedBy::RsaSha256 => &RSA_PKCS1_2048_8192_SHA256,
            SignedBy::RsaSha384 => &RSA_PKCS1_2048_8192_SHA384,
            SignedBy::RsaSha512 => &RSA_PKCS1_2048_8192_SHA512,
            SignedBy::EcdsaSha256 => &ECDSA_P256_SHA256_FIXED,
            SignedBy::EcdsaSha384 => &ECDSA_P384_SHA384_FIXED,
        };
        let key = UnparsedPublicKey::new(by, &self.public);
        key.verify(bytes, signature).is_ok()
    }

    fn of(certificate: &[u8]) -> Result<Self, String> {
        let (_rest, certificate) = X509Certificate::from_der(certificate)
            .map_err(|error| format!("a certificate cannot be read: {error}"))?;
        let info = certificate.public_key();
        let public = info.subject_public_key.data.to_vec();
        let algorithm = &info.algorithm.algorithm;
        let kind = match (public.len(), algorithm) {
            (_, of) if *of == OID_PKCS1_RSAENCRYPTION => {
                let bits = info.parsed().map_or(0, |key| key.key_size());
                if bits < MIN_RSA {
                    return Err(format!("an RSA key has {bits} bits, fewer than {MIN_RSA}"));
                }
                Kind::Rsa
            }
            // An uncompressed point of the curve.
            (65, of) if *of == OID_KEY_TYPE_EC_PUBLIC_KEY => Kind::P256,
            (97, of) if *of == OID_KEY_TYPE_EC_PUBLIC_KEY => Kind::P384,
            _ => return Err("a key is neither RSA, nor on P-256 or P-384".to_owned()),
        };
        Ok(Self { kind, public })
    }
}

/// The keys that an identity provider signs with. Blocks.
///
/// # Errors
/// Where they cannot be read.
pub(super) fn keys(provider: &Saml) -> Result<Vec<Key>, Error> {
    keys_at(provider, clock::wall().as_second())
}

/// The same at a time, in seconds since 1970.
pub(super) fn keys_at(provider: &Saml, now: i64) -> Result<Vec<Key>, Error> {
    let (Trust::Certificates(file) | Trust::Metadata(file)) = &provider.trust;
    let failed = |what: String| Error::Keys(format!("{}: {what}", file.display()));
    let bytes = read(file).map_err(|error| failed(error.to_string()))?;
    let keys = match provider.trust {
        Trust::Certificates(_) => certificates(&bytes),
        Trust::Metadata(_) => metadata(&bytes, &provider.entity, now),
    };
    let keys = keys.map_err(failed)?;
    match keys.len() {
        0 => Err(failed("it has no key that signs".to_owned())),
        1..=MAX_KEYS => Ok(keys),
        count => Err(failed(format!("it has {count} keys, more than {MAX_KEYS}"))),
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn certificates(bytes: &[u8]) -> Result<Vec<Key>, String> {
    Pem::iter_from_buffer(bytes)
        .map(|pem| {
            let pem = pem.map_err(|error| format!("it is no PEM: {error}"))?;
            match pem.label.as_str() {
                "CERTIFICATE" => Key::of(&pem.contents),
                other => Err(format!("it has {}, not a certificate", shown(other))),
            }
        })
        .collect()
}

/// The keys of `IDPSSODescriptor` that are for signing, or for anything (SAML Metadata section 2.4.1.1).
fn metadata(bytes: &[u8], entity: &str, now: i64) -> Result<Vec<Key>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_not_text| "it is no text".to_owned())?;
    let said = |error: Error| error.to_string();
    let document = xml::read(text).map_err(said)?;
    let root = Element::root(&document).map_err(said)?;
    if !root.is(METADATA, "EntityDescriptor") || root.attribute("entityID") != Some(entity) {
        return Err(format!("it is not the metadata of {}", shown(entity)));
    }
    let mut keys = Vec::new();
    for role in root.each(METADATA, "IDPSSODescriptor") {
        for holder in [root, role] {
            if let Some(until) = holder.attribute("validUntil")
                && xml_time(until).is_none_or(|until| until <= now)
            {
                return Err(format!("it is good until {} only", shown(until)));
            }
        }
        let for_signatures =
            |one: &Element<'_>| one.attribute("use").is_none_or(|to| to == "signing");
        for descriptor in role.each(METADATA, "KeyDescriptor").filter(for_signatures) {
            let info = descriptor.one(DSIG, "KeyInfo").map_err(said)?;
            for data in info.each(DSIG, "X509Data") {
                for certificate in data.each(DSIG, "X509Certificate") {
                    keys.push(of_text(certificate).map_err(said)??);
                }
            }
        }
    }
    Ok(keys)
}

fn of_text(certificate: Element<'_>) -> Result<Result<Key, String>, Error> {
    let text: String = certificate.text()?.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(text);
    Ok(bytes
        .map_err(|_not_base64| "a certificate is no base64".to_owned())
        .and_then(|bytes| Key::of(&bytes)))
}

/// A time as SAML writes it, in UTC (SAML Core section 1.3.3), in seconds since 1970.
pub(super) fn xml_time(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.ends_with('Z').then(|| text.parse().ok())??;
    Some(time.as_second())
}
