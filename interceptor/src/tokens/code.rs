//! A person logs in with a browser: the authorization code flow with a proof key (OpenID Connect Core section
//! 3.1, RFC 7636). What the browser carries back is a code that is good once, for us alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use zeroize::Zeroizing;

use super::claims::For;
use super::fetch::encoded;
use super::issuer::Known;
use super::login::good;
use super::read::Unproved;
use super::{Error, Issuers, Tokens, Verified, verify};
use crate::clock::{self, BootTime};
use crate::config::Url;
use crate::secrets::Secret;

/// How long a person has to come back.
const LONGEST: Duration = Duration::from_mins(10);
/// How long ago a login at the issuer may be, in seconds. That it is a new one is looked at here; with none at all some
/// issuers ask for ever.
const MAX_AGE: &str = "300";
/// Logins that are under way at once: more than can be begun in that time.
const MOST: usize = 1_024;
/// Bytes of a code.
const MAX_CODE: usize = 4_096;

/// The logins that are under way, by what comes back with them.
#[derive(Debug, Default)]
pub(super) struct Codes {
    pending: Mutex<HashMap<String, Pending>>,
}

#[derive(Debug)]
struct Pending {
    issuer: Arc<Known>,
    client: String,
    at: Url,
    back: String,
    nonce: String,
    verifier: Zeroizing<String>,
    until: BootTime,
    /// When it was begun, in seconds by the wall clock, as issuers count.
    begun: i64,
}

impl Codes {
    /// One more. Whoever reaches the console can begin logins that nobody comes back from: where there are too many,
    /// the one that would end first makes room.
    fn keep(&self, state: String, pending: Pending) {
        let mut all = self.lock();
        all.retain(|_, one| clock::boot() < one.until);
        if all.len() >= MOST {
            let first = all.iter().min_by_key(|(_, one)| one.until);
            if let Some(first) = first.map(|(state, _)| state.clone()) {
                all.remove(&first);
            }
        }
        all.insert(state, pending);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    /// Begins a login by a browser that the issuer sends back to `back`; where the browser goes, and what it
    /// comes back with.
    ///
    /// # Errors
    /// Where the issuer does not take part.
    pub async fn send(
        &self,
        issuers: &Issuers,
        name: &str,
        back: &str,
    ) -> Result<(String, String), Error> {
        let failed = |what: &str| Error::Login(what.to_owned());
        let config = issuers
            .get(name)
            .ok_or_else(|| failed("no issuer has this name"))?;
        let client = config.client.clone();
        let client = client.ok_or_else(|| failed("the issuer has no `client`"))?;
        let known = self.known(config);
        let facts = known.facts().await?;
        let (Some(page), Some(at)) = (&facts.authorization, &facts.token) else {
            return Err(failed("the issuer does not offer the code flow"));
        };
        page.may_be_spoken_to(config.allow_http)
            .map_err(|expected| failed(&format!("{} is not opened: {expected}", page.text)))?;
        let (state, nonce, verifier) = (random()?, random()?, Zeroizing::new(random()?));
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let scopes = config.scopes.join(" ");
        let fields = [
            ("response_type", "code"),
            ("client_id", &client),
            ("redirect_uri", back),
            ("scope", &scopes),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            // Who only has the browser, with what the issuer left in it, is asked who they are.
            ("prompt", "login"),
            ("max_age", MAX_AGE),
        ];
        let fields = fields.map(|(name, value)| format!("{name}={}", encoded(value)));
        let mark = if page.text.contains('?') { '&' } else { '?' };
        let location = format!("{}{mark}{}", page.text, fields.join("&"));
        let pending = Pending {
            client,
            at: at.clone(),
            back: back.to_owned(),
            nonce,
            verifier,
            until: clock::boot().after(LONGEST),
            begun: clock::wall().as_second(),
            issuer: known,
        };
        self.codes.keep(state.clone(), pending);
        Ok((location, state))
    }

    /// What the issuer says of who came back with `state` and `code`; neither can be used again.
    ///
    /// # Errors
    /// Why they are not believed.
    pub async fn returned(
        &self,
        state: &str,
        code: &str,
        said: Option<&str>,
    ) -> Result<Verified, Error> {
        let failed = |what: &str| Error::Login(what.to_owned());
        let pending = self.codes.lock().remove(state);
        let pending = pending
            .filter(|one| clock::boot() < one.until)
            .ok_or_else(|| failed("there is no such login, or its time is over"))?;
        // One that answers for another issuer mixes them up (RFC 9207 section 2.4).
        let url = &pending.issuer.config.url.text;
        if said.is_some_and(|said| said != url) {
            return Err(failed("another issuer has answered"));
        }
        if code.len() > MAX_CODE {
            return Err(failed("the code is too long"));
        }
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &pending.back),
            ("client_id", &pending.client),
            ("code_verifier", &pending.verifier),
        ];
        let answer = pending.issuer.asks.post(&pending.at, &fields).await;
        let fields = good(&answer.map_err(Error::Login)?)?;
        let token = fields.get("id_token").and_then(Value::as_str);
        let token = token.ok_or_else(|| failed("the issuer answers without an identity token"))?;
        let token = Secret::from(token);
        let token = Unproved::read(token.expose_secret())?;
        let verified = verify(&pending.issuer, &token, For::Client(&pending.client)).await?;
        if token.text("nonce") != Some(&pending.nonce) {
            return Err(Error::Nonce);
        }
        // REQUIRED where `max_age` was sent (OpenID Connect Core section 2, `auth_time`).
        let at = token.claims.get("auth_time").and_then(Value::as_i64);
        let at = at.ok_or_else(|| {
            Error::Claim(
                "its `auth_time` is missing, which says whether the person logged in now"
                    .to_owned(),
            )
        })?;
        let skew = i64::try_from(pending.issuer.config.skew.as_secs()).unwrap_or(0);
        match pending.begun.saturating_sub(at) {
            seconds if seconds > skew => Err(Error::Stale { seconds }),
            _ => Ok(verified),
        }
    }
}

fn random() -> Result<String, Error> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_unspecified| Error::Login("the system gives no random bytes".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
