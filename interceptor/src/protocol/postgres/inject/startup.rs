//! What a login asks for: the startup packet, and what can be asked for only after it.
//!
//! Statements are read as UTF-8 with standard strings and under the configured search path; a role's or
//! database's own default that says otherwise would make them unreadable, so all three are pinned.

use aws_lc_rs::{hmac, rand};
use bytes::BytesMut;
use secrecy::ExposeSecret as _;

use super::{Error, Login};
use crate::config::Pooler;
use crate::protocol::postgres::mask::expression::{SESSION_KEY, TARGET_KEY};
use crate::protocol::postgres::terminate::{Origin, Setting, write_options};
use crate::protocol::postgres::wire::startup::{PACKET_MAX, Packet, StartupMessage};

/// What poolers take at startup and keep for each client (pgbouncer, "Protocol-level settings"); what
/// else a client asks for is set once it is logged in.
const TRACKED: [&str; 3] = ["application_name", "datestyle", "timezone"];
/// What is pinned, besides the search path.
const PINNED: [(&str, &str); 2] = [
    ("standard_conforming_strings", "on"),
    ("client_encoding", "UTF8"),
];

/// The startup packet, all of it. The client's options stand behind ours: a permitted setting
/// overrides, as it would have directly.
///
/// # Errors
/// [`Error::StartupLength`] where no server would take it.
pub fn startup(login: &Login<'_>) -> Result<BytesMut, Error> {
    startup_with(login, Vec::new())
}

/// The keys of hashes that stand in for masked values, as settings that no statement of the agent may
/// name: a setting that the server knows nothing of is in no list of settings (`GUC_NO_SHOW_ALL`), and what a
/// startup packet holds is in no log. Behind a pooler there are none, and such hashes are null.
///
/// # Errors
/// [`Error::Random`] where the system gives no random bytes.
pub(super) fn keys(login: &Login<'_>) -> Result<Vec<(String, String)>, Error> {
    let Some(masked) = login
        .masked
        .filter(|_| login.postgres.pooler == Pooler::None)
    else {
        return Ok(Vec::new());
    };
    let mut secret = [0; 32];
    rand::fill(&mut secret).map_err(|_unspecified| Error::Random)?;
    let mut keys = vec![(SESSION_KEY.to_owned(), hex::encode(secret))];
    if let Some(key) = masked.target_key {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
        let derived = hmac::sign(&key, login.target.as_bytes());
        keys.push((TARGET_KEY.to_owned(), hex::encode(derived.as_ref())));
    }
    Ok(keys)
}

/// [`startup`] with more parameters.
pub(super) fn startup_with(
    login: &Login<'_>,
    more: Vec<(String, String)>,
) -> Result<BytesMut, Error> {
    let parameters = match login.postgres.pooler {
        Pooler::None => direct(login),
        Pooler::Session => pooled(login),
    };
    let named = [
        ("user", login.postgres.user.as_str()),
        ("database", login.database),
    ];
    let named = named.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let replication = login
        .replication
        .map(|replication| ("replication".to_owned(), replication.value().to_owned()));
    let mut bytes = BytesMut::new();
    Packet::Startup(StartupMessage {
        minor: login.minor,
        parameters: named
            .into_iter()
            .chain(replication)
            .chain(parameters)
            .chain(more)
            .collect(),
        options: Vec::new(),
    })
    .write(&mut bytes);
    if bytes.len() > PACKET_MAX {
        return Err(Error::StartupLength {
            length: bytes.len(),
        });
    }
    Ok(bytes)
}

/// All that a login asks for, as bytes: two that differ in anything differ here.
///
/// # Errors
/// As [`startup`].
pub fn asked(login: &Login<'_>) -> Result<Vec<u8>, Error> {
    let mut asked = startup(login)?.to_vec();
    for setting in later(login) {
        for part in [&setting.name, &setting.value] {
            asked.extend_from_slice(part.as_bytes());
            asked.push(0);
        }
    }
    Ok(asked)
}

/// The client's settings that cannot stand in the startup packet, in the order in which they are made.
pub(super) fn later<'a>(login: &Login<'a>) -> impl Iterator<Item = &'a Setting> {
    let pooled = login.postgres.pooler == Pooler::Session;
    let known = move |setting: &&Setting| pooled && !is_tracked(setting) && !is_pinned(setting);
    login.settings.iter().filter(known)
}

/// Whether the client brings a search path of its own.
pub(super) fn brings_search_path(login: &Login<'_>) -> bool {
    let mut settings = login.settings.iter();
    settings.any(|setting| setting.name.eq_ignore_ascii_case("search_path"))
}

/// `options` with what is pinned and the client's own, and the client's other parameters.
fn direct(login: &Login<'_>) -> Vec<(String, String)> {
    let search_path = search_path(&login.postgres.search_path);
    let pinned = [("search_path", search_path.as_str())];
    let of = |origin| {
        login
            .settings
            .iter()
            .filter(move |setting| setting.origin == origin)
            .map(|setting| (setting.name.as_str(), setting.value.as_str()))
    };
    let options = write_options(pinned.into_iter().chain(PINNED).chain(of(Origin::Options)));
    [("options", options.as_str())]
        .into_iter()
        .chain(of(Origin::Parameter))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Parameters alone, and only those that a pooler knows.
fn pooled(login: &Login<'_>) -> Vec<(String, String)> {
    let tracked = login.settings.iter().filter(|setting| is_tracked(setting));
    let tracked = tracked.map(|setting| (setting.name.as_str(), setting.value.as_str()));
    PINNED
        .into_iter()
        .chain(tracked)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn is_tracked(setting: &Setting) -> bool {
    let mut tracked = TRACKED.iter();
    tracked.any(|tracked| setting.name.eq_ignore_ascii_case(tracked))
}

/// A harmless setting of a pinned name has the pinned value; what is not harmless is set later.
fn is_pinned(setting: &Setting) -> bool {
    let mut pinned = PINNED.iter();
    setting.is_harmless() && pinned.any(|(name, _)| setting.name.eq_ignore_ascii_case(name))
}

/// A list of identifiers as `SplitIdentifierString` reads it (`utils/adt/varlena.c`); plain ones
/// are left as they are, so that `SHOW search_path` looks as people write it.
pub(super) fn search_path(schemas: &[String]) -> String {
    let plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let quoted: Vec<_> = schemas
        .iter()
        .map(|name| {
            if plain(name) {
                name.clone()
            } else {
                format!("\"{}\"", name.replace('"', "\"\""))
            }
        })
        .collect();
    quoted.join(", ")
}
