//! What an issuer says of itself: where it is asked, and with which keys it signs (OpenID Connect Discovery).
//!
//! Looked up when it is first needed, and again when it is no longer fresh, or when a token names a key
//! that is not known. Who sends tokens with invented keys makes us ask no more than once in a while; an
//! issuer that is down is believed for a while, not for ever.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use serde_json::Value;
use tokio::sync::Mutex;

use super::fetch::Asks;
use super::keys::{Keys, Miss};
use super::{Error, document, shown};
use crate::clock::{self, BootTime};
use crate::config::{self, Algorithm, Url};

/// Where an issuer says what it is, below its own address.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// How long what was said is believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Believed {
    /// After this it is asked again.
    pub(super) fresh: Duration,
    /// After this it is not believed any more, whatever keeps the issuer from answering.
    pub(super) stale: Duration,
    /// How often it is asked at most.
    pub(super) again: Duration,
}

impl Default for Believed {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(600),
            stale: Duration::from_secs(3_600),
            again: Duration::from_secs(10),
        }
    }
}

/// An issuer, and what it last said.
#[derive(Debug)]
pub(super) struct Known {
    /// As it is configured.
    pub(super) config: Arc<config::Issuer>,
    /// How it is asked.
    pub(super) asks: Asks,
    believed: Believed,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    facts: Option<Arc<Facts>>,
    /// When it was last asked, and what went wrong then.
    asked: Option<(BootTime, Option<String>)>,
}

/// What an issuer says of itself.
#[derive(Debug)]
pub(super) struct Facts {
    at: BootTime,
    keys: Keys,
    /// Where a login begins (RFC 8628 section 4).
    pub(super) device: Option<Url>,
    /// Where a browser is sent to log in.
    pub(super) authorization: Option<Url>,
    /// Where a login ends.
    pub(super) token: Option<Url>,
}

impl Known {
    pub(super) fn new(config: &Arc<config::Issuer>, believed: Believed) -> Self {
        Self {
            config: Arc::clone(config),
            asks: Asks::new(config),
            believed,
            said: Mutex::default(),
        }
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// Where it cannot be asked, and what it said before is too old.
    pub(super) async fn facts(&self) -> Result<Arc<Facts>, Error> {
        let mut said = self.said.lock().await;
        let age = |facts: &Facts| clock::boot().since(facts.at);
        if let Some(facts) = &said.facts
            && age(facts) < self.believed.fresh
        {
            return Ok(Arc::clone(facts));
        }
        match self.ask(&mut said).await {
            Ok(facts) => Ok(facts),
            Err(cause) => match &said.facts {
                Some(facts) if age(facts) < self.believed.stale => {
                    tracing::warn!(%cause, issuer = %self.config.name,
                        "an issuer does not answer; what it said before is still believed");
                    Ok(Arc::clone(facts))
                }
                _ => Err(Error::Keys(cause)),
            },
        }
    }

    /// The key that a token is held against; asks once more for one that is not known.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub(super) async fn key(&self, id: Option<&str>, by: Algorithm) -> Result<DecodingKey, Error> {
        let facts = self.facts().await?;
        let miss = match facts.keys.find(id, by) {
            Ok(key) => return Ok(key.clone()),
            Err(miss) => miss,
        };
        let mut why = "";
        if miss == Miss::None && id.is_some() {
            match self.newer_than(&facts).await {
                Ok(newer) => {
                    if let Ok(key) = newer.keys.find(id, by) {
                        return Ok(key.clone());
                    }
                }
                Err(_asked_already) => why = "; it was asked for its keys a moment ago",
            }
        }
        let name = id.map_or_else(|| "without a name".to_owned(), shown);
        let by = by.word();
        Err(Error::Key(match miss {
            Miss::None => format!("the issuer has no key {name} for {by}{why}"),
            Miss::Several => {
                format!("the issuer has more than one key for {by} that {name} may mean")
            }
        }))
    }

    /// What it says now, where that is not what it said before.
    async fn newer_than(&self, before: &Arc<Facts>) -> Result<Arc<Facts>, String> {
        let mut said = self.said.lock().await;
        match &said.facts {
            Some(facts) if !Arc::ptr_eq(facts, before) => Ok(Arc::clone(facts)),
            _ => self.ask(&mut said).await,
        }
    }

    /// Asks, unless it was asked a moment ago.
    async fn ask(&self, said: &mut Said) -> Result<Arc<Facts>, String> {
        if let Some((at, failed)) = &said.asked
            && clock::boot().since(*at) < self.believed.again
        {
            let failed = failed.clone();
            return Err(failed.unwrap_or_else(|| "it was asked a moment ago".to_owned()));
        }
        let facts = self.discover().await;
        let failed = facts.as_ref().err().cloned();
        said.asked = Some((clock::boot(), failed));
        let facts = Arc::new(facts?);
        said.facts = Some(Arc::clone(&facts));
        Ok(facts)
    }

    async fn discover(&self) -> Result<Facts, String> {
        let issuer = &self.config.url;
        let at = Url::read(&format!(
            "{}{WELL_KNOWN}",
            issuer.text.trim_end_matches('/')
        ))?;
        let document = document::object(&self.asks.get(&at).await?)
            .map_err(|what| format!("what {} answers cannot be read: {what}", at.text))?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        // Whoever answers for another issuer would sign for it, too (OpenID Connect Discovery section 4.3).
        if text("issuer") != Some(&issuer.text) {
            let other = shown(text("issuer").unwrap_or("none"));
            return Err(format!("{} is that of another issuer: {other}", at.text));
        }
        let place = |name: &str| match text(name) {
            None => Ok(None),
            Some(text) => match Url::reach(text) {
                Ok(url) => Ok(Some(url)),
                Err(expected) => Err(format!("{name} of {}: {expected}", at.text)),
            },
        };
        let keys = place("jwks_uri")?.ok_or_else(|| format!("{} names no keys", at.text))?;
        let set = self.asks.get(&keys).await?;
        Ok(Facts {
            keys: Keys::read(&set)
                .map_err(|what| format!("the keys of {} cannot be used: {what}", keys.text))?,
            device: place("device_authorization_endpoint")?,
            authorization: place("authorization_endpoint")?,
            token: place("token_endpoint")?,
            at: clock::boot(),
        })
    }
}
