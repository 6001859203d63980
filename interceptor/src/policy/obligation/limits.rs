//! Limits: how much answers may hold, as the permits say that decided.
//!
//! `@max_rows` and `@max_bytes` bound the answer to one request, `@max_session_rows` and
//! `@max_session_bytes` all answers of one session to requests that are under such a limit. Where several
//! permits decide, the strictest counts: whoever writes a limit can rely on it, whatever else is permitted.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::policy::RuleId;

/// The annotations, in the order of [`Limits`]' fields.
pub(in crate::policy) const ANNOTATIONS: [&str; 4] = [
    "max_rows",
    "max_bytes",
    "max_session_rows",
    "max_session_bytes",
];

/// The most of something, and the rule that says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Limit {
    /// So many and no more.
    pub most: u64,
    /// The permit that it stands on.
    pub rule: RuleId,
}

/// How much answers may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Rows of one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<Limit>,
    /// Bytes of the rows of one request, as they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Limit>,
    /// Rows of one session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_session_rows: Option<Limit>,
    /// Bytes of the rows of one session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_session_bytes: Option<Limit>,
}

impl Limits {
    /// What a rule's annotations say; those that say nothing are mistakes of their own.
    pub(in crate::policy) fn of(
        rule: &RuleId,
        annotation: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let limit = |name: &str| {
            let most = parse(name, &annotation(name)?).ok()?;
            Some(Limit {
                most,
                rule: rule.clone(),
            })
        };
        let [rows, bytes, session_rows, session_bytes] = ANNOTATIONS.map(limit);
        Self {
            max_rows: rows,
            max_bytes: bytes,
            max_session_rows: session_rows,
            max_session_bytes: session_bytes,
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The strictest of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let least = |one: &Option<Limit>, other: &Option<Limit>| {
            one.iter().chain(other.iter()).min().cloned()
        };
        Self {
            max_rows: least(&self.max_rows, &other.max_rows),
            max_bytes: least(&self.max_bytes, &other.max_bytes),
            max_session_rows: least(&self.max_session_rows, &other.max_session_rows),
            max_session_bytes: least(&self.max_session_bytes, &other.max_session_bytes),
        }
    }

    /// The strictest of all; `None` where nothing is limited.
    pub(in crate::policy) fn strictest<'a>(
        all: impl Iterator<Item = &'a Self>,
    ) -> Option<Arc<Self>> {
        let all = all.fold(Self::default(), |sum, one| sum.and(one));
        (!all.is_empty()).then(|| Arc::new(all))
    }

    /// Each with what it bounds, in words.
    pub fn said(&self) -> impl Iterator<Item = (&Limit, &'static str)> {
        [
            (&self.max_rows, "rows a request"),
            (&self.max_bytes, "bytes of rows a request"),
            (&self.max_session_rows, "rows a session"),
            (&self.max_session_bytes, "bytes of rows a session"),
        ]
        .into_iter()
        .filter_map(|(limit, what)| Some((limit.as_ref()?, what)))
    }
}

/// A size in bytes, as people write it: `4096`, `512KiB`, `64MiB`, `1GiB`.
///
/// # Errors
/// What it takes.
pub fn size(text: &str) -> Result<u64, String> {
    parse("bytes", text).map_err(|_annotation| "takes a size: 4096, 512KiB, 64MiB".to_owned())
}

/// What an annotation's value says.
///
/// # Errors
/// What it takes.
pub(in crate::policy) fn parse(name: &str, value: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1_u64 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("", 1),
    ];
    let (is_bytes, takes) = match name.ends_with("bytes") {
        true => (true, "a size of at least 1: 4096, 512KiB, 64MiB, 1GiB"),
        false => (false, "a number of at least 1"),
    };
    let (digits, unit) = units
        .into_iter()
        .filter(|(unit, _)| is_bytes || unit.is_empty())
        .find_map(|(unit, size)| Some((value.strip_suffix(unit)?, size)))
        .unwrap_or((value, 1));
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let most = digits.parse::<u64>().ok().filter(|_| plain);
    match most.and_then(|most| most.checked_mul(unit)) {
        Some(most) if most > 0 => Ok(most),
        _ => Err(format!("@{name} takes {takes}")),
    }
}

#[cfg(test)]
mod tests;
