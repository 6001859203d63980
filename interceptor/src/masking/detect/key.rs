//! Keys that say what they are: each has a fixed beginning, and so many characters of an alphabet.

use super::kind::{Kind, Set};
use super::open::Open;
use super::view::{ALNUM, DIGIT, Found, HEX, More, RUN, UPPER, View, WORD, is};

/// The alphabet behind a beginning.
#[derive(Clone, Copy, Debug)]
enum Alphabet {
    Hex,
    Capitals,
    Alnum,
    /// Letters, digits, `_` and `-`.
    Url,
    /// The same, and dots.
    Dotted,
}

impl Alphabet {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Hex => is(byte, HEX),
            Self::Capitals => is(byte, UPPER | DIGIT),
            Self::Alnum => is(byte, ALNUM),
            Self::Url => is(byte, WORD) || byte == b'-',
            Self::Dotted => is(byte, WORD) || matches!(byte, b'-' | b'.'),
        }
    }
}

/// A kind of key: how it begins, and how much follows at least and at most.
struct Key(Kind, &'static str, Alphabet, usize, usize);

/// Of two that begin alike the longer beginning comes first.
static KEYS: &[Key] = &[
    Key(Kind::AwsKey, "AKIA", Alphabet::Capitals, 16, 16),
    Key(Kind::AwsKey, "ASIA", Alphabet::Capitals, 16, 16),
    Key(Kind::AwsKey, "ABIA", Alphabet::Capitals, 16, 16),
    Key(Kind::AwsKey, "ACCA", Alphabet::Capitals, 16, 16),
    Key(Kind::GcpKey, "AIza", Alphabet::Url, 35, 35),
    Key(Kind::GithubToken, "ghp_", Alphabet::Alnum, 36, 251),
    Key(Kind::GithubToken, "gho_", Alphabet::Alnum, 36, 251),
    Key(Kind::GithubToken, "ghu_", Alphabet::Alnum, 36, 251),
    Key(Kind::GithubToken, "ghs_", Alphabet::Alnum, 36, 251),
    Key(Kind::GithubToken, "ghr_", Alphabet::Alnum, 36, 251),
    Key(Kind::GithubToken, "github_pat_", Alphabet::Url, 60, 244),
    Key(Kind::GitlabToken, "glpat-", Alphabet::Dotted, 20, 300),
    Key(Kind::GitlabToken, "gldt-", Alphabet::Url, 20, 64),
    Key(Kind::GitlabToken, "glrt-", Alphabet::Dotted, 20, 300),
    Key(Kind::GitlabToken, "glcbt-", Alphabet::Url, 20, 64),
    Key(Kind::GitlabToken, "glptt-", Alphabet::Hex, 40, 40),
    Key(Kind::SlackToken, "xoxb-", Alphabet::Url, 20, 250),
    Key(Kind::SlackToken, "xoxp-", Alphabet::Url, 20, 250),
    Key(Kind::SlackToken, "xoxa-", Alphabet::Url, 20, 250),
    Key(Kind::SlackToken, "xoxr-", Alphabet::Url, 20, 250),
    Key(Kind::SlackToken, "xoxs-", Alphabet::Url, 20, 250),
    Key(Kind::SlackToken, "xoxe-", Alphabet::Url, 20, 250),
    Key(Kind::SlackToken, "xapp-", Alphabet::Url, 20, 250),
    Key(Kind::StripeKey, "sk_live_", Alphabet::Alnum, 16, 247),
    Key(Kind::StripeKey, "sk_test_", Alphabet::Alnum, 16, 247),
    Key(Kind::StripeKey, "rk_live_", Alphabet::Alnum, 16, 247),
    Key(Kind::StripeKey, "rk_test_", Alphabet::Alnum, 16, 247),
    Key(Kind::StripeKey, "whsec_", Alphabet::Alnum, 24, 247),
    Key(Kind::AiKey, "sk-ant-", Alphabet::Url, 24, 250),
    Key(Kind::AiKey, "sk-proj-", Alphabet::Url, 24, 250),
    Key(Kind::AiKey, "sk-svcacct-", Alphabet::Url, 24, 250),
    Key(Kind::AiKey, "sk-admin-", Alphabet::Url, 24, 250),
    Key(Kind::AiKey, "sk-", Alphabet::Alnum, 40, 64),
    Key(Kind::AiKey, "hf_", Alphabet::Alnum, 34, 34),
    Key(Kind::AiKey, "gsk_", Alphabet::Alnum, 48, 56),
    Key(Kind::NpmToken, "npm_", Alphabet::Alnum, 36, 36),
    Key(Kind::PypiToken, "pypi-AgE", Alphabet::Url, 50, 300),
    Key(Kind::TwilioKey, "AC", Alphabet::Hex, 32, 32),
    Key(Kind::TwilioKey, "SK", Alphabet::Hex, 32, 32),
];

/// The kinds that are told by how they begin.
pub(super) const KINDS: &[Kind] = &[
    Kind::Jwt,
    Kind::AwsKey,
    Kind::GcpKey,
    Kind::AzureKey,
    Kind::GithubToken,
    Kind::GitlabToken,
    Kind::SlackToken,
    Kind::StripeKey,
    Kind::AiKey,
    Kind::NpmToken,
    Kind::PypiToken,
    Kind::TwilioKey,
    Kind::SendgridKey,
];

/// A header of a token, in characters.
const HEADER: std::ops::RangeInclusive<usize> = 10..=1_024;
/// An account's key of Azure: 64 bytes.
const AZURE: usize = 86;
/// A secret of AWS: 30 bytes.
const AWS: usize = 40;
/// The two halves of a key of SendGrid.
const SENDGRID: (usize, usize) = (22, 43);

/// The key that begins at a place in a run.
pub(super) fn at(set: Set, view: &View<'_>, start: usize) -> Result<Option<Found>, More> {
    let first = view.at(start)?;
    if !matches!(
        first,
        b'A' | b'S' | b'e' | b'g' | b'h' | b'n' | b'p' | b'r' | b's' | b'w' | b'x'
    ) {
        return Ok(None);
    }
    if first == b'e' {
        return if set.has(Kind::Jwt) {
            token(view, start)
        } else {
            Ok(None)
        };
    }
    let keys = KEYS.iter().filter(|Key(kind, begins, ..)| {
        begins.as_bytes().first() == Some(&first) && set.has(*kind)
    });
    for Key(kind, begins, alphabet, least, most) in keys {
        if !view.stands(start, begins.as_bytes())? {
            continue;
        }
        let body = start.saturating_add(begins.len());
        if let Some(end) = measure(view, body, *alphabet, (*least, *most))? {
            return Ok(Some(Found::new(*kind, start, end)));
        }
    }
    Ok(None)
}

/// The end of so many characters, where no word goes on behind them.
fn measure(
    view: &View<'_>,
    start: usize,
    alphabet: Alphabet,
    (least, most): (usize, usize),
) -> Result<Option<usize>, More> {
    let mut end = start;
    while end.saturating_sub(start) <= most && alphabet.has(view.at(end)?) {
        end = end.saturating_add(1);
    }
    let fits = (least..=most).contains(&end.saturating_sub(start)) && !is(view.at(end)?, WORD);
    // A sentence may end behind it.
    let dots = usize::from(fits && view.back(end, 1) == b'.');
    Ok(fits.then(|| end.saturating_sub(dots)))
}

/// A token: two parts that are objects in base64, and maybe a signature (RFC 7519 §3).
fn token(view: &View<'_>, start: usize) -> Result<Option<Found>, More> {
    if !view.stands(start, b"eyJ")? {
        return Ok(None);
    }
    let dot = view.run(start, RUN, *HEADER.end())?;
    let second = dot.saturating_add(1);
    if !HEADER.contains(&dot.saturating_sub(start))
        || !view
            .stands(second, b"eyJ")
            .and_then(|begins| Ok(begins && view.at(dot)? == b'.'))?
    {
        return Ok(None);
    }
    Ok(Some(Found {
        open: Some(Open::Token(1)),
        ..Found::new(Kind::Jwt, start, second.saturating_add(3))
    }))
}

/// A key that is told by what stands before or behind it: the run of `length` that begins here.
pub(super) fn beside(
    set: Set,
    view: &View<'_>,
    from: usize,
    (start, length): (usize, usize),
) -> Result<Option<Found>, More> {
    let end = start.saturating_add(length);
    let begins = start.saturating_sub(3);
    if length == SENDGRID.0
        && set.has(Kind::SendgridKey)
        && begins >= from
        && [3, 2, 1].map(|by| view.back(start, by)) == *b"SG."
        && start >= 3
        && view.begins(begins)
        && view.at(end)? == b'.'
    {
        let second = end.saturating_add(1);
        let end = measure(view, second, Alphabet::Url, (SENDGRID.1, SENDGRID.1))?;
        if let Some(end) = end {
            return Ok(Some(Found::new(Kind::SendgridKey, begins, end)));
        }
    }
    if (AZURE..=AZURE + 2).contains(&length)
        && set.has(Kind::AzureKey)
        && view.stands(end, b"==")?
        && behind(view, start, 12).ends_with(b"accountkey=")
    {
        let end = end.saturating_add(2);
        return Ok(Some(Found::new(Kind::AzureKey, start, end)));
    }
    if length == AWS && set.has(Kind::AwsKey) && is_aws_secret(view, start, end) {
        return Ok(Some(Found::new(Kind::AwsKey, start, end)));
    }
    if length > 40
        && set.has(Kind::SlackToken)
        && view.stands(start, b"com/services/T")?
        && behind(view, start, 12).ends_with(b"hooks.slack.")
    {
        let start = start.saturating_add(3);
        return Ok(Some(Found::new(Kind::SlackToken, start, end)));
    }
    Ok(None)
}

/// Forty characters of all sorts, with a key's id or the word for it a little before.
fn is_aws_secret(view: &View<'_>, start: usize, end: usize) -> bool {
    let text = view.bytes.get(start..end).unwrap_or_default();
    let plain = text
        .iter()
        .all(|byte| is(*byte, ALNUM) || matches!(byte, b'+' | b'/'));
    let sorts = [UPPER, DIGIT, super::view::LOWER];
    let mixed = sorts
        .iter()
        .all(|sort| text.iter().any(|byte| is(*byte, *sort)));
    let before = behind(view, start, 128);
    let says = |word: &[u8]| before.windows(word.len()).any(|text| text == word);
    plain && mixed && (says(b"akia") || says(b"asia") || says(b"secret") || says(b"aws"))
}

/// The bytes before a place, in small letters.
fn behind(view: &View<'_>, place: usize, most: usize) -> Vec<u8> {
    (1..=most)
        .rev()
        .map(|by| view.back(place, by).to_ascii_lowercase())
        .collect()
}
