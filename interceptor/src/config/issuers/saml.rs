//! The issuers that speak SAML 2.0, and by what their assertions are held to be good.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ClaimNames, MAX_KEPT, another, mistake, once};
use crate::config::build;
use crate::config::document::{Entry, Node};
use crate::config::mistake::Report;

/// A SAML 2.0 identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saml {
    /// Its name, the key in the file.
    pub name: String,
    /// What its assertions call it, to the letter.
    pub entity: String,
    /// Where its keys are.
    pub trust: Trust,
    /// Whom assertions must be meant for. At least one.
    pub audiences: Vec<String>,
    /// Where they must be meant to be delivered to, to the letter.
    pub recipient: String,
    /// With which algorithms they may be signed. Default all.
    pub algorithms: Vec<SignedBy>,
    /// Which attributes say what.
    pub claims: ClaimNames,
    /// How old an assertion may be. Default 24 h.
    pub max_age: Duration,
    /// How far its clock may be off. Default 30 s.
    pub skew: Duration,
}

/// Which keys are an identity provider's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those of these certificates, PEM.
    Certificates(PathBuf),
    /// Those that its metadata names for signing.
    Metadata(PathBuf),
}

/// With what an assertion is signed (RFC 9231 section 2.3). SHA-1 is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBy {
    /// RSA, PKCS #1 v1.5, SHA-256.
    RsaSha256,
    /// The same with SHA-384.
    RsaSha384,
    /// The same with SHA-512.
    RsaSha512,
    /// ECDSA on P-256, SHA-256.
    EcdsaSha256,
    /// ECDSA on P-384, SHA-384.
    EcdsaSha384,
}

impl SignedBy {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [
        Self::RsaSha256,
        Self::RsaSha384,
        Self::RsaSha512,
        Self::EcdsaSha256,
        Self::EcdsaSha384,
    ];

    /// Its name in the configuration: the end of its name in a signature.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::RsaSha384 => "rsa-sha384",
            Self::RsaSha512 => "rsa-sha512",
            Self::EcdsaSha256 => "ecdsa-sha256",
            Self::EcdsaSha384 => "ecdsa-sha384",
        }
    }
}

/// One entry of `issuers` that speaks SAML. What cannot be read is left out: it is a mistake already.
pub(in crate::config) fn build(directory: &Path, entry: &Entry) -> Option<Saml> {
    let node = entry.node.under("saml")?;
    let text = |key: &str| build::text(Some(node), key);
    let file = |key: &str| text(key).map(|path| directory.join(path));
    let trust = match (file("certificates"), file("metadata")) {
        (Some(certificates), _) => Trust::Certificates(certificates),
        (None, Some(metadata)) => Trust::Metadata(metadata),
        // `cross` says so.
        (None, None) => Trust::Metadata(PathBuf::new()),
    };
    let said = build::texts(node, "algorithms");
    let mut algorithms = SignedBy::ALL.to_vec();
    algorithms.retain(|by| said.is_empty() || said.iter().any(|word| word == by.word()));
    let claims = node.under("claims");
    let claim = |key, default: &str| build::text(claims, key).unwrap_or_else(|| default.into());
    Some(Saml {
        name: entry.key.clone(),
        entity: text("entity_id")?,
        trust,
        audiences: build::texts(node, "audiences"),
        recipient: text("recipient")?,
        algorithms,
        claims: ClaimNames {
            user: claim("user", "uid"),
            groups: claim("groups", "groups"),
            keep: claims.map_or_else(Vec::new, |node| build::texts(node, "keep")),
        },
        max_age: build::duration(Some(node), "max_age").unwrap_or(Duration::from_secs(86_400)),
        skew: build::duration(Some(node), "skew").unwrap_or(Duration::from_secs(30)),
    })
}

/// What is wrong between the keys of one; `seen` are the issuers before it.
pub(super) fn cross<'a>(
    entry: &Entry,
    issuer: &'a Saml,
    seen: &mut HashMap<&'a String, &'a String>,
    report: &mut Report,
) {
    let has = |key| {
        entry
            .node
            .under("saml")
            .and_then(|node: &Node| node.under(key))
            .is_some()
    };
    if has("certificates") == has("metadata") {
        mistake(
            entry,
            &["saml"],
            "expected either certificates or metadata",
            report,
        );
    }
    if let Some(first) = seen.insert(&issuer.entity, &issuer.name) {
        mistake(entry, &["saml", "entity_id"], &another(first), report);
    }
    if !once(&issuer.audiences) {
        let text = "expected each audience once";
        mistake(entry, &["saml", "audiences"], text, report);
    }
    if !once(&issuer.claims.keep) || issuer.claims.keep.len() > MAX_KEPT {
        let text = "expected each attribute once, and at most 32 of them";
        mistake(entry, &["saml", "claims", "keep"], text, report);
    }
}
