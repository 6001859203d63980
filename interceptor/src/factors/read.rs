//! What browsers and authenticators say, read strictly: client data, authenticator data, public keys.
//!
//! Section numbers are those of "Web Authentication Level 3". Of CBOR nothing is read but the three public keys
//! that are taken, each of which has one encoding only: a key must be in CTAP2's canonical form, and hold no
//! optional parameter (section 5.8.5, RFC 9053 section 2 and RFC 8230 section 4). Nothing here depends on what is
//! stored.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Error;

/// The longest client data and authenticator data that are read, in bytes.
const MAX_CLIENT_DATA: usize = 4 << 10;
const MAX_AUTHENTICATOR_DATA: usize = 8 << 10;
/// The longest credential id (section 7.1, step "credentialId").
const MAX_ID: usize = 1_023;
/// The exponent of every RSA key that is taken: 65,537.
const EXPONENT: &[u8] = &[1, 0, 1];

/// Bytes that are told in base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// As text.
    #[must_use]
    pub fn shown(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.shown())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = URL_SAFE_NO_PAD.decode(text);
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

/// Which ceremony a browser says it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    Get,
}

/// `CollectedClientData` (section 5.8.1). What else a browser says there says nothing here.
#[derive(Deserialize)]
struct Collected {
    #[serde(rename = "type")]
    kind: String,
    challenge: Bytes,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
    #[serde(default, rename = "topOrigin")]
    top_origin: Option<String>,
}

/// What a browser says it was asked for, and where.
pub(super) struct ClientData {
    pub(super) challenge: Vec<u8>,
    collected: Collected,
}

impl ClientData {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |why| Error::Form {
            what: "client data",
            why,
        };
        if bytes.len() > MAX_CLIENT_DATA {
            return Err(wrong("it is too long"));
        }
        let mut collected: Collected =
            serde_json::from_slice(bytes).map_err(|_form| wrong("it is not what browsers say"))?;
        let challenge = std::mem::take(&mut collected.challenge.0);
        Ok(Self {
            challenge,
            collected,
        })
    }

    /// That it is of this ceremony, in our own page and no frame of another (sections 7.1 and 7.2).
    pub(super) fn is_of(&self, kind: Kind, origin: &str) -> Result<(), Error> {
        let Collected {
            kind: said,
            origin: at,
            cross_origin,
            top_origin,
            ..
        } = &self.collected;
        let expected = match kind {
            Kind::Create => "webauthn.create",
            Kind::Get => "webauthn.get",
        };
        if said != expected {
            return Err(Error::Elsewhere("ceremony"));
        }
        match at == origin && !cross_origin && top_origin.is_none() {
            true => Ok(()),
            false => Err(Error::Elsewhere("page")),
        }
    }
}

/// Authenticator data (section 6.1).
#[derive(Debug)]
pub(super) struct AuthenticatorData<'a> {
    party: &'a [u8],
    flags: u8,
    pub(super) count: u32,
    /// Id and public key of a new credential (section 6.5.1).
    pub(super) credential: Option<(&'a [u8], &'a [u8])>,
}

/// Flags of authenticator data.
mod flag {
    pub(super) const PRESENT: u8 = 1;
    pub(super) const VERIFIED: u8 = 1 << 2;
    pub(super) const MAY_BE_BACKED_UP: u8 = 1 << 3;
    pub(super) const IS_BACKED_UP: u8 = 1 << 4;
    pub(super) const CREDENTIAL: u8 = 1 << 6;
    pub(super) const EXTENSIONS: u8 = 1 << 7;
}

impl<'a> AuthenticatorData<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let wrong = |why| Error::Form {
            what: "authenticator data",
            why,
        };
        let short = || wrong("it ends too soon");
        if bytes.len() > MAX_AUTHENTICATOR_DATA {
            return Err(wrong("it is too long"));
        }
        let (party, rest) = bytes.split_at_checked(32).ok_or_else(short)?;
        let (flags, rest) = rest.split_first().ok_or_else(short)?;
        let (count, mut rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let has = |flag: u8| flags & flag != 0;
        let mut credential = None;
        if has(flag::CREDENTIAL) {
            // An AAGUID says who made it, which is not asked.
            let (_maker, data) = rest.split_at_checked(16).ok_or_else(short)?;
            let (length, data) = data.split_first_chunk::<2>().ok_or_else(short)?;
            let length = usize::from(u16::from_be_bytes(*length));
            if !(1..=MAX_ID).contains(&length) {
                return Err(wrong("its credential id is too long, or none"));
            }
            let (id, data) = data.split_at_checked(length).ok_or_else(short)?;
            let size = PublicKey::size(data)?;
            let (public, data) = data.split_at_checked(size).ok_or_else(short)?;
            credential = Some((id, public));
            rest = data;
        }
        // None is asked for. What an authenticator adds by itself is signed, and says nothing here.
        if rest.is_empty() == has(flag::EXTENSIONS) {
            return Err(wrong("it is longer than it says, or shorter"));
        }
        if has(flag::IS_BACKED_UP) && !has(flag::MAY_BE_BACKED_UP) {
            return Err(wrong("it contradicts itself"));
        }
        Ok(Self {
            party,
            flags: *flags,
            count: u32::from_be_bytes(*count),
            credential,
        })
    }

    /// That it is for this relying party, and that the person was there and was verified.
    pub(super) fn holds(&self, party: &str) -> Result<(), Error> {
        if self.party != digest(&SHA256, party.as_bytes()).as_ref() {
            return Err(Error::Elsewhere("site"));
        }
        let both = flag::PRESENT | flag::VERIFIED;
        match self.flags & both == both {
            true => Ok(()),
            false => Err(Error::Unverified),
        }
    }
}

/// What is signed (section 7.2): authenticator data, and the digest of what the browser said.
pub(super) fn signed(authenticator_data: &[u8], client_data: &[u8]) -> Vec<u8> {
    [authenticator_data, digest(&SHA256, client_data).as_ref()].concat()
}

/// A public key in COSE, of the three kinds that are taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicKey<'a> {
    /// ES256: ECDSA over P-256 with SHA-256.
    P256 { x: &'a [u8], y: &'a [u8] },
    /// EdDSA over Ed25519.
    Ed25519 { x: &'a [u8] },
    /// RS256: RSASSA-PKCS1-v1_5 with SHA-256.
    Rsa { n: &'a [u8] },
}

/// `{1: 2, 3: -7, -1: 1, -2:` 32 bytes.
const P256: &[u8] = &[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
/// `-3:` 32 bytes.
const P256_Y: &[u8] = &[0x22, 0x58, 0x20];
/// `{1: 1, 3: -8, -1: 6, -2:` 32 bytes.
const OKP: &[u8] = &[0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20];
/// `{1: 3, 3: -257, -1:` so many bytes, in two.
const RSA: &[u8] = &[0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20, 0x59];
/// `-2:` 65,537`}`.
const RSA_E: &[u8] = &[0x21, 0x43, 0x01, 0x00, 0x01];

impl<'a> PublicKey<'a> {
    /// One key, and nothing behind it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        match Self::take(bytes) {
            Some((key, [])) => Ok(key),
            Some(_) | None => Err(unread()),
        }
    }

    /// How long the key is that `bytes` begin with.
    fn size(bytes: &[u8]) -> Result<usize, Error> {
        let (_, rest) = PublicKey::take(bytes).ok_or_else(unread)?;
        Ok(bytes.len().saturating_sub(rest.len()))
    }

    fn take(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        if let Some(rest) = bytes.strip_prefix(P256) {
            let (x, rest) = rest.split_at_checked(32)?;
            let (y, rest) = rest.strip_prefix(P256_Y)?.split_at_checked(32)?;
            return Some((Self::P256 { x, y }, rest));
        }
        if let Some(rest) = bytes.strip_prefix(OKP) {
            let (x, rest) = rest.split_at_checked(32)?;
            return Some((Self::Ed25519 { x }, rest));
        }
        let (length, rest) = bytes.strip_prefix(RSA)?.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        // 2,048 to 4,096 bits.
        if !(256..=512).contains(&length) {
            return None;
        }
        let (n, rest) = rest.split_at_checked(length)?;
        let rest = rest.strip_prefix(RSA_E)?;
        Some((Self::Rsa { n }, rest))
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        let verified = match self {
            Self::P256 { x, y } => {
                let point = [&[4], *x, *y].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
            Self::Ed25519 { x } => UnparsedPublicKey::new(&ED25519, x).verify(message, signature),
            Self::Rsa { n } => {
                let key = RsaPublicKeyComponents { n, e: &EXPONENT };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        };
        verified.map_err(|_unspecified| Error::Signature)
    }
}

fn unread() -> Error {
    Error::Form {
        what: "public key",
        why: "it is none of ES256, EdDSA over Ed25519 or RS256, or not in its one form",
    }
}
