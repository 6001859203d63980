//! What a token claims, once its signature is shown to be the issuer's: for whom, until when, about whom.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::Error;
use super::read::Unproved;
use crate::config::Issuer;
use crate::identity::Identity;

/// Bytes of a name in a token: of a subject, a user, a group (OpenID Connect Core section 2, `sub`).
pub(super) const MAX_NAME: usize = 255;
/// Bytes of a claim that is kept, and of a token's own name.
pub(super) const MAX_TEXT: usize = 1_024;
/// Groups of one identity.
pub(super) const MAX_GROUPS: usize = 256;
/// Means of authentication.
const MAX_MEANS: usize = 32;

/// For whom a token must be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For<'a> {
    /// Whoever the configuration names.
    Audiences,
    /// The client that asked for the login.
    Client(&'a str),
}

/// What a good token says.
#[derive(Debug)]
pub(super) struct Claimed {
    /// Of whom.
    pub(super) identity: Identity,
    /// The token's own name, where it has one.
    pub(super) name: Option<String>,
    /// How long it is good from now on, in seconds.
    pub(super) left: i64,
}

/// Reads the claims of a token whose signature is good; `now` is the time in seconds since 1970.
///
/// # Errors
/// Where they are not good, or say nothing of whom.
pub(super) fn read(
    token: &Unproved<'_>,
    issuer: &Issuer,
    meant_for: For<'_>,
    now: i64,
) -> Result<Claimed, Error> {
    audience(token, issuer, meant_for)?;
    let ends = times(token, issuer, now)?;
    let left = ends.saturating_sub(now);
    let name = match token.claims.get("jti") {
        None => None,
        Some(name) => Some(text("jti", name, MAX_TEXT)?),
    };
    let claim = |name: &str| match name.starts_with('/') {
        // A pointer that is spelled as a claim of its own is that claim.
        true => token.claims.get(name).or_else(|| pointed(token, name)),
        false => token.claims.get(name),
    };
    let optional = |name: &str| match claim(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => text(name, value, MAX_NAME).map(Some),
    };
    let subject = token.claims.get("sub");
    let subject = subject.ok_or_else(|| Error::Claim("it has no `sub`".to_owned()))?;
    let mut claims = BTreeMap::new();
    for name in &issuer.claims.keep {
        if let Some(value) = kept(name, claim(name))? {
            claims.insert(name.clone(), value);
        }
    }
    Ok(Claimed {
        identity: Identity {
            issuer: issuer.url.text.clone(),
            subject: text("sub", subject, MAX_NAME)?,
            user: optional(&issuer.claims.user)?,
            groups: words(
                &issuer.claims.groups,
                claim(&issuer.claims.groups),
                MAX_GROUPS,
            )?,
            acr: optional("acr")?,
            amr: words("amr", claim("amr"), MAX_MEANS)?,
            claims,
            expires: Timestamp::from_second(ends).unwrap_or(Timestamp::MAX),
        },
        name,
        left,
    })
}

fn pointed<'a>(token: &'a Unproved<'_>, pointer: &str) -> Option<&'a Value> {
    let (first, rest) = match pointer.strip_prefix('/')?.split_once('/') {
        Some((first, rest)) => (first, format!("/{rest}")),
        None => (pointer.strip_prefix('/')?, String::new()),
    };
    // RFC 6901 section 4.
    let first = first.replace("~1", "/").replace("~0", "~");
    token.claims.get(&first)?.pointer(&rest)
}

fn audience(token: &Unproved<'_>, issuer: &Issuer, meant_for: For<'_>) -> Result<(), Error> {
    let said: Vec<_> = match token.claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_meant = match meant_for {
        For::Audiences => {
            let mut ours = issuer.audiences.iter();
            ours.any(|audience| said.contains(&audience.as_str()))
        }
        // Who asked for it must be who it was given to (OpenID Connect Core section 3.1.3.7).
        For::Client(client) => {
            let given_to = token.claims.get("azp");
            said.contains(&client) && given_to.is_none_or(|given_to| given_to == client)
        }
    };
    match is_meant {
        true => Ok(()),
        false => Err(Error::Audience {
            said: super::shown(&said.join(" ")),
        }),
    }
}

/// When the token ends. The issuer's clock may be off, so that one is let in that has just ended here; one that
/// has not ends when it says.
fn times(token: &Unproved<'_>, issuer: &Issuer, now: i64) -> Result<i64, Error> {
    let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(0);
    let (skew, max_age) = (seconds(issuer.skew), seconds(issuer.max_age));
    let must = |name| time(token, name)?.ok_or_else(|| Error::Claim(format!("it has no `{name}`")));
    let (expires, issued) = (must("exp")?, must("iat")?);
    let from = time(token, "nbf")?.unwrap_or(issued).max(issued);
    if from > now.saturating_add(skew) {
        let after = from.saturating_sub(now);
        return Err(Error::Early { after });
    }
    let oldest = issued.saturating_add(max_age);
    if expires.saturating_add(skew) <= now {
        let before = now.saturating_sub(expires);
        return Err(Error::Expired { before });
    }
    match oldest.saturating_add(skew) <= now {
        true => Err(Error::Old {
            seconds: now.saturating_sub(issued),
        }),
        false => Ok(ends(expires.min(oldest), now, skew)),
    }
}

/// When what says that it ends at `at` does: then, or, where that has just been by a clock that may be off, as
/// much later as that may be.
pub(super) fn ends(at: i64, now: i64, skew: i64) -> i64 {
    match at > now {
        true => at,
        false => at.saturating_add(skew),
    }
}

/// Seconds since 1970 (RFC 7519 section 2, `NumericDate`), a part of one left away.
fn time(token: &Unproved<'_>, name: &str) -> Result<Option<i64>, Error> {
    /// The year 9999: what is later is no time.
    const LATEST: f64 = 253_402_300_799.0;
    let Some(value) = token.claims.get(name) else {
        return Ok(None);
    };
    let number = value
        .as_f64()
        .filter(|number| (0.0..=LATEST).contains(number));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it lies between 0 and the year 9999"
    )]
    let number = number.map(|number| number.floor() as i64);
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(Error::Claim(format!("its `{name}` is no time"))),
    }
}

/// Text of at most so many bytes, in one line.
fn text(name: &str, value: &Value, most: usize) -> Result<String, Error> {
    line(name, value.as_str(), most)
}

/// As [`text`], of what may be none.
///
/// # Errors
/// Where it is none.
pub(super) fn line(name: &str, value: Option<&str>, most: usize) -> Result<String, Error> {
    let fine = value
        .filter(|text| (1..=most).contains(&text.len()) && !text.chars().any(char::is_control));
    let wrong = || Error::Claim(format!("its `{name}` is no text of 1 to {most} bytes"));
    fine.map(str::to_owned).ok_or_else(wrong)
}

/// A list of text, or one.
fn words(name: &str, value: Option<&Value>, most: usize) -> Result<BTreeSet<String>, Error> {
    let values = match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(values)) => values.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    if values.len() > most {
        let count = values.len();
        let text = format!("its `{name}` has {count} entries, more than {most}");
        return Err(Error::Claim(text));
    }
    values
        .iter()
        .map(|value| text(name, value, MAX_NAME))
        .collect()
}

/// A claim that is kept, as text.
fn kept(name: &str, value: Option<&Value>) -> Result<Option<String>, Error> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(truth)) => Ok(Some(truth.to_string())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(value) => text(name, value, MAX_TEXT).map(Some),
    }
}
