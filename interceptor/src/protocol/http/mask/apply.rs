//! What stands in the place of one value.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::config::{Host, Target};
use crate::masking::{Joinable, Mask};
use crate::secrets::Secret;

/// Bytes of a hash that are shown.
const HASH: usize = 16;

/// What a target's hashes are keyed by, of what all of them are: equal values of two targets have different ones.
/// Whoever may make names below a domain may answer there, and have hashed whatever the agent guesses: a connection to
/// such a name has a key of its own.
#[must_use]
pub fn key_of(key: &Secret, target: &Target, host: &Host, connection: &[u8]) -> Secret {
    let is_below = match host {
        Host::Name(_) => target.addresses.iter().all(|at| at.host != *host),
        Host::Ip(_) => false,
    };
    let own = is_below && !target.below.is_empty();
    let of = [target.name.as_bytes(), connection];
    let mut key = key.clone();
    for part in of.into_iter().take(if own { 2 } else { 1 }) {
        let made = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
        let tag = hmac::sign(&made, part);
        let text = Zeroizing::new(hex::encode(tag.as_ref()));
        key = Secret::from(text.as_str());
    }
    key
}

/// What hashes are keyed by.
pub struct Keys {
    session: hmac::Key,
    target: hmac::Key,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// A new key for one session beside the target's; `None` where the system gives no random bytes.
    #[must_use]
    pub fn new(target: &Secret) -> Option<Self> {
        let mut fresh = [0; 32];
        aws_lc_rs::rand::fill(&mut fresh).ok()?;
        let target = target.expose_secret().as_bytes();
        Some(Self {
            session: hmac::Key::new(hmac::HMAC_SHA256, &fresh),
            target: hmac::Key::new(hmac::HMAC_SHA256, target),
        })
    }

    fn hash(&self, joinable: Joinable, text: &str) -> String {
        let key = match joinable {
            Joinable::Session => &self.session,
            Joinable::Target => &self.target,
        };
        let tag = hmac::sign(key, text.as_bytes());
        hex::encode(tag.as_ref().get(..HASH).unwrap_or_default())
    }
}

/// One value that is masked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A number, as it is written.
    Number(Cow<'a, str>),
    /// `true` or `false`.
    Flag,
    /// `null`, and what is not looked at.
    Nothing,
}

/// What stands in its place, as JSON writes it.
pub(super) fn masked(mask: &Mask, value: &Scalar<'_>, keys: &Keys, out: &mut Vec<u8>) {
    let shown = shown(mask, value, keys);
    // A text can be written, and so can memory.
    drop(serde_json::to_writer(out, &shown));
}

/// The text that stands in its place, where one does.
pub(super) fn shown(mask: &Mask, value: &Scalar<'_>, keys: &Keys) -> Option<String> {
    match (mask, value) {
        (_, Scalar::Nothing) | (Mask::Null | Mask::Hide, _) => None,
        (Mask::Constant(text), _) => Some(text.to_string()),
        (_, Scalar::Flag) => None,
        (Mask::Hash(joinable), Scalar::Text(text) | Scalar::Number(text)) => {
            Some(keys.hash(*joinable, text))
        }
        (Mask::Last4, Scalar::Text(text) | Scalar::Number(text)) => Some(last4(text)),
        (Mask::Partial(shown), Scalar::Text(text) | Scalar::Number(text)) => {
            Some(partial(text, usize::from(*shown)))
        }
        (Mask::Email, Scalar::Text(text)) => Some(email(text)),
        (Mask::Year, Scalar::Text(text)) => year(text),
        (Mask::Email | Mask::Year, Scalar::Number(_)) => None,
    }
}

fn last4(text: &str) -> String {
    let length = text.chars().count();
    let hidden = if length > 4 { length - 4 } else { length };
    let rest = text.chars().skip(hidden);
    "*".repeat(hidden).chars().chain(rest).collect()
}

fn partial(text: &str, shown: usize) -> String {
    let length = text.chars().count();
    let shown = if length > shown { shown } else { 0 };
    let front = text.chars().take(shown);
    front.chain("*".repeat(length - shown).chars()).collect()
}

fn email(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((local, domain)) => {
            let first: String = local.chars().take(1).collect();
            format!("{first}***@{domain}")
        }
        None => "***".to_owned(),
    }
}

/// The first instant of a date's year, in the form of the date.
fn year(text: &str) -> Option<String> {
    let year = text
        .get(..4)
        .filter(|year| year.bytes().all(|b| b.is_ascii_digit()))?;
    match text.get(4..)? {
        "" => Some(year.to_owned()),
        rest if rest.starts_with('-') && rest.contains('T') => {
            Some(format!("{year}-01-01T00:00:00Z"))
        }
        rest if rest.starts_with('-') => Some(format!("{year}-01-01")),
        _ => None,
    }
}
