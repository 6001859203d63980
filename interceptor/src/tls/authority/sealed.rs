//! The authority's key as it lies on disk where it is sealed: encrypted under a secret that lies elsewhere, such as a
//! credential of systemd's that this machine's TPM alone opens.
//!
//! One line says what it is, the next is base64 of salt (16 bytes), nonce (12) and AES-256-GCM of the key in PEM, with
//! the first line as associated data. The key for that is HKDF-SHA256 (RFC 5869) of the secret and the salt.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{Authority, Error};
use crate::config::Config;
use crate::secrets::Secrets;

/// The first line.
const MARK: &str = "interceptor sealed key, version 1";
/// What the key is derived for.
const PURPOSE: &[u8] = b"interceptor authority";
/// Least bytes of the secret: it is no password that is stretched here.
const LEAST: usize = 32;
const SALT_LEN: usize = 16;

/// A secret that seals.
pub struct Seal(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Seal {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Seal")
    }
}

impl Seal {
    /// By these bytes, which somebody has drawn at random: 32 at least.
    ///
    /// # Errors
    /// Where there are fewer, in words.
    pub fn new(secret: &[u8]) -> Result<Self, &'static str> {
        match secret.len() >= LEAST {
            true => Ok(Self(Zeroizing::new(secret.to_vec()))),
            false => Err("the secret has fewer than 32 bytes; `openssl rand -hex 32` makes one"),
        }
    }

    /// The text that lies on disk; none where there is no randomness.
    pub(super) fn seal(&self, pem: &str) -> Option<String> {
        let (mut salt, mut nonce) = ([0; SALT_LEN], [0; NONCE_LEN]);
        rand::fill(&mut salt).ok()?;
        rand::fill(&mut nonce).ok()?;
        let mut sealed = pem.as_bytes().to_vec();
        let key = self.key(&salt)?;
        let nonce_once = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce_once, Aad::from(MARK), &mut sealed)
            .ok()?;
        let whole = [&salt[..], &nonce, &sealed].concat();
        Some(format!("{MARK}\n{}\n", BASE64_STANDARD.encode(whole)))
    }

    /// The key in PEM; none where it was sealed by another secret, or is not as it was sealed.
    pub(super) fn open(&self, text: &str) -> Option<Zeroizing<String>> {
        let (mark, rest) = text.split_once('\n')?;
        let whole = BASE64_STANDARD.decode(rest.trim()).ok()?;
        let (salt, rest) = whole.split_first_chunk::<SALT_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = self.key(salt)?;
        let opened = key
            .open_in_place(nonce, Aad::from(mark), &mut sealed)
            .ok()?;
        let pem = std::str::from_utf8(opened).ok()?;
        Some(Zeroizing::new(pem.to_owned()))
    }

    fn key(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let derived = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let key = derived.expand(&[PURPOSE], &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl Authority {
    /// Opens the authority of a configuration, with the seal that it names.
    ///
    /// # Errors
    /// As [`Authority::open`], and where the secret cannot be had or is too short.
    pub async fn of(config: &Config, secrets: &Secrets) -> Result<Self, Error> {
        let seal = match &config.authority_seal {
            Some(source) => {
                let secret = secrets.fetch(source).await.map_err(Error::NoSeal)?;
                let seal = Seal::new(secret.expose_secret().as_bytes());
                Some(seal.map_err(|reason| Error::Seal { reason })?)
            }
            None => None,
        };
        Self::open(&config.paths.state, seal.as_ref())
    }
}

/// Whether a key on disk is sealed.
pub(super) fn is_sealed(text: &str) -> bool {
    text.lines().next() == Some(MARK)
}
