//! Token exchange (RFC 8693): somebody's token in, one of the daemon's own out, which is short-lived and means
//! something in one scope only.
//!
//! What is given out is signed with a key that is derived from the authority's, and names the scope, the boot
//! and the process tree that it is for: brought by another one, it proves nothing. It outlives neither
//! the token that it was made of nor the boot, and is taken once.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::read::Unproved;
use super::{Error, Tokens, shown};
use crate::clock::{self, BootTime};
use crate::config::Algorithm;
use crate::grants::Holder;
use crate::identity::Identity;

/// How long a token is good where nobody says, and at most.
pub const DEFAULT: Duration = Duration::from_secs(600);
/// The longest that one is good.
pub const LONGEST: Duration = Duration::from_secs(3_600);

/// What the daemon signs with. Made anew from the authority's key wherever it is needed.
#[derive(Debug)]
pub struct Mint {
    key: Ed25519KeyPair,
    id: String,
    issuer: String,
}

/// To whom a token is bound (RFC 7800 section 3.1: what the holder must be shown to be).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bound {
    /// The boot of the host: cgroup ids and boot times mean nothing in another one.
    boot: String,
    /// The scope, and the process tree in it; any of its trees where none is named.
    #[serde(flatten)]
    holder: Holder,
    /// When it ends by the clock that nobody sets.
    until: BootTime,
}

/// A token of the daemon's.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub token: String,
    /// Its name (`jti`).
    pub name: String,
    /// How long it is good.
    pub good_for: Duration,
    /// Until when, for people.
    pub expires: Timestamp,
}

/// A token of the daemon's that is good. It is not used up yet.
#[derive(Clone, Debug)]
pub struct Behalf {
    /// Of whom it is.
    pub identity: Arc<Identity>,
    /// Until when.
    pub until: BootTime,
    name: String,
    issuer: String,
    scope: u64,
}

impl Mint {
    /// What signs with a key that this is the seed of.
    ///
    /// # Errors
    /// Where it is none.
    pub fn new(seed: &[u8; 32]) -> Result<Self, Error> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|error| Error::Store(format!("no key can be made: {error}")))?;
        let x = URL_SAFE_NO_PAD.encode(key.public_key());
        // RFC 7638 section 3, RFC 8037 section 2: these members, in this order.
        let thumb = format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}");
        let thumb = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, thumb.as_bytes());
        let id = URL_SAFE_NO_PAD.encode(thumb);
        let issuer = format!("urn:interceptor:{id}");
        Ok(Self { key, id, issuer })
    }

    /// Who signs: the issuer of its tokens, and whom they are for where nobody else is named.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public key, as a set (RFC 7517 section 5).
    #[must_use]
    pub fn keys(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.id, "x": x,
        }] })
    }

    /// A token for one scope and the process tree that `holder` names; good for `time` at most, and not longer
    /// than until `ends`, which is when what it is made of does.
    ///
    /// # Errors
    /// Where the boot cannot be told, or there is no time left.
    pub fn sign(
        &self,
        identity: &Identity,
        holder: &Holder,
        audience: &str,
        (time, ends): (Duration, BootTime),
    ) -> Result<Minted, Error> {
        let (now, boot_now) = (clock::wall(), clock::boot());
        let good_for = time.min(LONGEST).min(ends.since(boot_now));
        let seconds = i64::try_from(good_for.as_secs()).unwrap_or(0);
        if seconds == 0 {
            return Err(Error::Expired { before: 0 });
        }
        let good_for = Duration::from_secs(good_for.as_secs());
        let name = Uuid::new_v4().to_string();
        let expires = now.as_second().saturating_add(seconds);
        let until = boot_now.after(good_for);
        let token = self.text(identity, holder, audience, (&name, until, now, expires))?;
        Ok(Minted {
            token,
            name,
            good_for,
            expires: Timestamp::from_second(expires).unwrap_or(now),
        })
    }

    fn text(
        &self,
        identity: &Identity,
        holder: &Holder,
        audience: &str,
        (name, until, now, expires): (&str, BootTime, Timestamp, i64),
    ) -> Result<String, Error> {
        let bound = Bound {
            boot: boot()?,
            holder: holder.clone(),
            until,
        };
        let claims = json!({
            "iss": self.issuer,
            "aud": audience,
            "sub": identity.subject,
            // Who acts for the subject (RFC 8693 section 4.1).
            "act": { "sub": holder.agent },
            "iat": now.as_second(),
            "exp": expires,
            "jti": name,
            "cnf": { "interceptor": bound },
            "identity": identity,
        });
        let header = json!({ "alg": "EdDSA", "kid": self.id, "typ": "JWT" });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        Ok(format!("{signed}.{signature}"))
    }

    /// Holds a token against the key, and against who brings it. It is used up by [`Tokens::spend`].
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(&self, token: &str, brought_by: &Holder) -> Result<Behalf, Error> {
        let token = Unproved::read(token)?;
        if token.text("iss") != Some(&self.issuer) {
            let said = shown(token.text("iss").unwrap_or_default());
            return Err(Error::Issuer { said });
        }
        if token.algorithm != Algorithm::EdDsa {
            let said = token.algorithm.word().to_owned();
            return Err(Error::Algorithm { said });
        }
        let public = UnparsedPublicKey::new(&ED25519, self.key.public_key());
        let signature = URL_SAFE_NO_PAD
            .decode(token.signature)
            .map_err(|_not_base64| Error::Signature)?;
        public
            .verify(token.signed.as_bytes(), &signature)
            .map_err(|_not_ours| Error::Signature)?;
        if token.text("aud") != Some(&self.issuer) {
            let said = shown(token.text("aud").unwrap_or_default());
            return Err(Error::Audience { said });
        }
        let claim = |name: &str| token.claims.get(name).cloned().unwrap_or_default();
        let wrong = |what: &str| Error::Claim(format!("its `{what}` is not what was signed here"));
        let bound = claim("cnf").get("interceptor").cloned();
        let bound: Bound =
            serde_json::from_value(bound.unwrap_or_default()).map_err(|_other| wrong("cnf"))?;
        if bound.boot != boot()? || !is_for(&bound.holder, brought_by) {
            return Err(Error::Elsewhere);
        }
        let now = clock::boot();
        let expires = claim("exp").as_i64().ok_or_else(|| wrong("exp"))?;
        let late = clock::wall().as_second().saturating_sub(expires);
        if bound.until <= now || late >= 0 {
            return Err(Error::Expired {
                before: late.max(0),
            });
        }
        let mut identity: Identity =
            serde_json::from_value(claim("identity")).map_err(|_other| wrong("identity"))?;
        identity.expires = Timestamp::from_second(expires).unwrap_or(identity.expires);
        Ok(Behalf {
            identity: Arc::new(identity),
            until: bound.until,
            name: token.text("jti").unwrap_or_default().to_owned(),
            issuer: self.issuer.clone(),
            scope: brought_by.scope,
        })
    }
}

impl Tokens {
    /// Uses a token of the daemon's up; kept when this answers.
    ///
    /// # Errors
    /// Where it was used before, or that cannot be kept.
    pub async fn spend(&self, behalf: &Behalf) -> Result<(), Error> {
        let named = (behalf.issuer.as_str(), behalf.name.as_str());
        let ends = behalf.identity.expires;
        self.bindings.use_up(named, behalf.scope, ends, true).await
    }
}

/// Whether what is for `holder` may be brought by this one: one of its tree, or, where no tree is named, any of
/// its scope.
fn is_for(holder: &Holder, brought_by: &Holder) -> bool {
    let of_scope = |holder: &Holder| Holder {
        root: None,
        ..holder.clone()
    };
    match holder.root {
        Some(_) => holder.is(brought_by),
        None => holder.is(&of_scope(brought_by)),
    }
}

fn boot() -> Result<String, Error> {
    clock::boot_id().map_err(|error| Error::Store(error.to_string()))
}

#[cfg(test)]
mod tests;
