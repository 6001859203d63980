//! The public keys of an issuer (RFC 7517), and which one a token is held against.
//!
//! A key fits an algorithm by its own kind, never by what a token says of it: a public key is no secret for
//! an HMAC, and a key of one family is no key of another.

use jsonwebtoken::{Algorithm as Signature, DecodingKey};
use serde_json::{Map, Value};

use super::document;
use crate::config::Algorithm;

/// Keys of one issuer.
const MAX_KEYS: usize = 64;

/// The keys that an issuer signs with.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    kind: Kind,
    /// The one algorithm that the issuer means it for, where it says so.
    algorithm: Option<String>,
    public: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Why there is no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// None fits.
    None,
    /// More than one fits: which one is meant cannot be told.
    Several,
}

impl Keys {
    /// Reads a set. Keys of other kinds and for other uses are left out.
    ///
    /// # Errors
    /// What is wrong with the set.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let set = document::object(bytes)?;
        let Some(Value::Array(keys)) = set.get("keys") else {
            return Err("it has no list of keys".to_owned());
        };
        if keys.len() > MAX_KEYS {
            let count = keys.len();
            return Err(format!("it has {count} keys, more than {MAX_KEYS}"));
        }
        let keys = keys.iter().filter_map(Value::as_object);
        Ok(Self(keys.filter_map(Key::read).collect()))
    }

    /// The key that a token is held against.
    ///
    /// # Errors
    /// Where none fits, or more than one.
    pub(super) fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&DecodingKey, Miss> {
        let mut fits = self.0.iter().filter(|key| {
            key.kind == kind(algorithm)
                && key
                    .algorithm
                    .as_ref()
                    .is_none_or(|word| word == algorithm.word())
                && id.is_none_or(|id| key.id.as_deref() == Some(id))
        });
        match (fits.next(), fits.next()) {
            (Some(key), None) => Ok(&key.public),
            (None, _) => Err(Miss::None),
            (Some(_), Some(_)) => Err(Miss::Several),
        }
    }
}

impl Key {
    fn read(fields: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| fields.get(name)?.as_str();
        let for_signatures = fields.get("use").is_none_or(|word| word == "sig")
            && fields.get("key_ops").is_none_or(|words| {
                let words = words.as_array();
                words.is_some_and(|words| words.iter().any(|word| word == "verify"))
            });
        if !for_signatures {
            return None;
        }
        let (kind, public) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let public = DecodingKey::from_rsa_components(text("n")?, text("e")?);
                (Kind::Rsa, public)
            }
            ("EC", Some(curve)) => {
                let kind = match curve {
                    "P-256" => Kind::P256,
                    "P-384" => Kind::P384,
                    _ => return None,
                };
                (
                    kind,
                    DecodingKey::from_ec_components(text("x")?, text("y")?),
                )
            }
            ("OKP", Some("Ed25519")) => {
                (Kind::Ed25519, DecodingKey::from_ed_components(text("x")?))
            }
            _ => return None,
        };
        Some(Self {
            id: text("kid").map(str::to_owned),
            kind,
            algorithm: text("alg").map(str::to_owned),
            public: public.ok()?,
        })
    }
}

const fn kind(algorithm: Algorithm) -> Kind {
    match algorithm {
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => Kind::Rsa,
        Algorithm::Es256 => Kind::P256,
        Algorithm::Es384 => Kind::P384,
        Algorithm::EdDsa => Kind::Ed25519,
    }
}

/// Whether a signature is that of `key`.
pub(super) fn is_signed(
    key: &DecodingKey,
    algorithm: Algorithm,
    (signed, signature): (&str, &str),
) -> bool {
    let algorithm = match algorithm {
        Algorithm::Rs256 => Signature::RS256,
        Algorithm::Rs384 => Signature::RS384,
        Algorithm::Rs512 => Signature::RS512,
        Algorithm::Ps256 => Signature::PS256,
        Algorithm::Ps384 => Signature::PS384,
        Algorithm::Ps512 => Signature::PS512,
        Algorithm::Es256 => Signature::ES256,
        Algorithm::Es384 => Signature::ES384,
        Algorithm::EdDsa => Signature::EdDSA,
    };
    jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, algorithm).unwrap_or(false)
}
