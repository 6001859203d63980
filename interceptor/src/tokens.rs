//! Tokens: what an issuer says of who stands behind an agent, verified, and the scope that is bound to it.
//!
//! A token is believed where the configuration names its issuer, the issuer's own key signed it, by one of
//! the algorithms that the configuration pins, for us, and now. Nothing else of it counts, and nothing of
//! one that is not believed is told to who brought it. The token itself is kept nowhere.

pub mod bindings;
mod claims;
mod code;
mod document;
pub mod exchange;
pub mod fetch;
mod issuer;
mod keys;
pub mod login;
mod read;
pub mod saml;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::ExposeSecret as _;

use self::bindings::Bindings;
use self::claims::For;
use self::issuer::{Believed, Known};
use self::login::Logins;
use self::read::Unproved;
use crate::clock::{self, BootTime};
use crate::config::Issuer;
use crate::identity::Identity;
use crate::secrets::Secret;

/// Characters of a stranger's text that are shown.
const SHOWN: usize = 128;

/// The issuers as the configuration has them.
pub type Issuers = BTreeMap<String, Arc<Issuer>>;

/// Why a token does not bind a scope. The audit says it; who brought the token is told nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is too long.
    #[error("the token has {bytes} bytes, more than {most}")]
    Oversized {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// It is no token.
    #[error("the token cannot be read: {0}")]
    Malformed(String),
    /// It is a token of another kind.
    #[error("the token is of type {said}, which says nothing of who asks")]
    Kind {
        /// The type that it says.
        said: String,
    },
    /// Its issuer is not configured.
    #[error("the token is of an issuer that is not configured: {said}")]
    Issuer {
        /// The issuer that it says.
        said: String,
    },
    /// It is signed in a way that proves nothing, or that is not pinned.
    #[error("the token is signed with {said}, which is not among the issuer's algorithms")]
    Algorithm {
        /// The algorithm that it says.
        said: String,
    },
    /// The issuer does not say which keys it has.
    #[error("the issuer's keys cannot be had: {0}")]
    Keys(String),
    /// The issuer has no such key.
    #[error("{0}")]
    Key(String),
    /// The signature is not the issuer's.
    #[error("the token's signature is not that of the issuer's key")]
    Signature,
    /// Nobody signed it.
    #[error("the assertion is not signed")]
    Unsigned,
    /// What is signed may not be what is read.
    #[error("the assertion may not be what was signed: {0}")]
    Wrapped(String),
    /// It is encrypted.
    #[error("the assertion is encrypted: {0}")]
    Encrypted(String),
    /// It is meant to be brought elsewhere.
    #[error("the assertion is to be delivered elsewhere: {said}")]
    Recipient {
        /// Where to.
        said: String,
    },
    /// It is meant for others.
    #[error("the token is meant for others: {said}")]
    Audience {
        /// For whom.
        said: String,
    },
    /// It has ended.
    #[error("the token has ended {before} s ago")]
    Expired {
        /// How long ago.
        before: i64,
    },
    /// It is not good yet.
    #[error("the token is good in {after} s only")]
    Early {
        /// From when on.
        after: i64,
    },
    /// It was issued too long ago.
    #[error("the token was issued {seconds} s ago, longer than the issuer's max_age")]
    Old {
        /// How long ago.
        seconds: i64,
    },
    /// The person did not log in for this.
    #[error(
        "the person logged in {seconds} s before this login was begun: the issuer did not ask again"
    )]
    Stale {
        /// How long before.
        seconds: i64,
    },
    /// A claim is missing or has another form.
    #[error("the token's claims cannot be used: {0}")]
    Claim(String),
    /// It does not belong to the login that asked for it.
    #[error("the token's `nonce` is not that of the login")]
    Nonce,
    /// It was used for another scope, or at all where it is good for once.
    #[error("the token was used already")]
    Replayed,
    /// It was given out for another scope, or another process tree.
    #[error("the token was given out for another scope or another process tree")]
    Elsewhere,
    /// The scope is bound to somebody else.
    #[error("the scope is bound to {subject}, and to nobody else until that ends")]
    Bound {
        /// To whom.
        subject: String,
    },
    /// The file of the bindings.
    #[error("cannot keep who a scope is bound to: {0}")]
    Store(String),
    /// A login did not come to its end.
    #[error("the login did not succeed: {0}")]
    Login(String),
}

impl Error {
    /// The reason in one word, from a closed list.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Oversized { .. } => "oversized",
            Self::Malformed(_) => "malformed",
            Self::Kind { .. } => "type",
            Self::Issuer { .. } => "issuer",
            Self::Algorithm { .. } => "algorithm",
            Self::Keys(_) => "keys",
            Self::Key(_) => "key",
            Self::Signature => "signature",
            Self::Unsigned => "unsigned",
            Self::Wrapped(_) => "wrapping",
            Self::Encrypted(_) => "encrypted",
            Self::Recipient { .. } => "recipient",
            Self::Audience { .. } => "audience",
            Self::Expired { .. } => "expired",
            Self::Early { .. } => "early",
            Self::Old { .. } | Self::Stale { .. } => "old",
            Self::Claim(_) => "claim",
            Self::Nonce => "nonce",
            Self::Replayed => "replayed",
            Self::Elsewhere => "elsewhere",
            Self::Bound { .. } => "bound",
            Self::Store(_) => "store",
            Self::Login(_) => "login",
        }
    }
}

/// What a good token says.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Of whom.
    pub identity: Arc<Identity>,
    /// The token's own name, or a digest of it.
    pub token: String,
    /// Until when.
    pub until: BootTime,
    /// Whether it may be brought once only, also for the same scope.
    pub once: bool,
}

/// Who stands behind which scope. One for the daemon.
#[derive(Debug)]
pub struct Tokens {
    known: Mutex<HashMap<String, Arc<Known>>>,
    believed: Believed,
    /// Which scope is bound to whom.
    pub bindings: Bindings,
    /// People who are logging in.
    pub logins: Logins,
    codes: code::Codes,
}

impl Tokens {
    /// Opens what is bound, in `file`. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(file: &Path) -> Result<Self, Error> {
        Ok(Self {
            known: Mutex::default(),
            believed: Believed::default(),
            bindings: Bindings::open(file)?,
            logins: Logins::default(),
            codes: code::Codes::default(),
        })
    }

    /// Holds a workload's token against its issuer. May ask the issuer, for a bounded time.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn verify(&self, issuers: &Issuers, token: &Secret) -> Result<Verified, Error> {
        let token = Unproved::read(token.expose_secret())?;
        let said = token.text("iss").unwrap_or_default();
        let issuer = issuers.values().find(|issuer| issuer.url.text == said);
        let issuer = issuer.ok_or_else(|| Error::Issuer { said: shown(said) })?;
        verify(&self.known(issuer), &token, For::Audiences).await
    }

    /// An issuer, with what it said before where its configuration is still the same.
    fn known(&self, config: &Arc<Issuer>) -> Arc<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&config.name)
            && known.config == *config
        {
            return Arc::clone(known);
        }
        let new = Arc::new(Known::new(config, self.believed));
        known.insert(config.name.clone(), Arc::clone(&new));
        new
    }
}

/// Holds a token against an issuer: its algorithm, its key, its signature, then what it claims.
async fn verify(
    issuer: &Known,
    token: &Unproved<'_>,
    meant_for: For<'_>,
) -> Result<Verified, Error> {
    let config = &issuer.config;
    if token.text("iss") != Some(&config.url.text) {
        let said = shown(token.text("iss").unwrap_or_default());
        return Err(Error::Issuer { said });
    }
    let by = token.algorithm;
    if !config.algorithms.contains(&by) {
        let said = by.word().to_owned();
        return Err(Error::Algorithm { said });
    }
    let key = issuer.key(token.key.as_deref(), by).await?;
    if !keys::is_signed(&key, by, (token.signed, token.signature)) {
        return Err(Error::Signature);
    }
    let claimed = claims::read(token, config, meant_for, clock::wall().as_second())?;
    Ok(Verified {
        identity: Arc::new(claimed.identity),
        // One without a name of its own is known by all that is signed of it.
        token: claimed.name.unwrap_or_else(|| {
            format!(
                "sha256:{}",
                hex::encode(digest(&SHA256, token.signed.as_bytes()))
            )
        }),
        until: bindings::after(claimed.left),
        once: false,
    })
}

/// As a form carries it (`application/x-www-form-urlencoded`).
#[must_use]
pub fn encoded(text: &str) -> String {
    fetch::encoded(text)
}

/// A stranger's text as it may be shown: short, in one line.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(SHOWN).collect();
    format!("`{}`", text.escape_debug())
}
