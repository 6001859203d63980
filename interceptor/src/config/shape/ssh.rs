//! `ssh`: what a target that speaks SSH may say, and what is made of it.

use std::path::PathBuf;
use std::time::Duration;

use russh::keys::PublicKey;

use super::http::Unread;
use super::{DAY, Form, GIB, Held, Key, SECRET, Shape, may, must};
use crate::config::SecretSource;
use crate::config::build::{duration, size, text, texts};
use crate::config::document::Node;

/// How a certificate of a host's authority is marked, as in `known_hosts`.
const AUTHORITY: &str = "@cert-authority ";
/// The host's key is believed when it is first seen.
const LEARN: &str = "learn";
/// Bytes that are recorded of what is carried, where the target does not say.
const RECORDED: usize = 64 << 10;
/// Variables that are passed on where the target does not say which.
const ENV: [&str; 2] = ["LANG", "LC_*"];

/// An SSH target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Who logs in.
    pub user: String,
    /// With what.
    pub login: SshLogin,
    /// What the server must show.
    pub host_keys: HostKeys,
    /// Variables that the agent may set, with `*` at an end for all that begin so. Default `LANG`, `LC_*`.
    pub env: Vec<String>,
    /// Most bytes of each direction of what carries files or a connection that are recorded. Default 64 KiB.
    pub recorded_bytes: usize,
    /// What is done about what brings files or another protocol, where detectors mask or refuse. Default `Refuse`.
    pub unread: Unread,
}

impl Ssh {
    /// The sources of its secrets, each with its key in the file.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &SecretSource)> {
        let [first, second] = match &self.login {
            SshLogin::Password(password) => [Some(("password", password)), None],
            SshLogin::Key {
                key, passphrase, ..
            } => [
                Some(("key", key)),
                passphrase.as_ref().map(|source| ("passphrase", source)),
            ],
            SshLogin::Sign { authority, .. } => [Some(("sign", authority)), None],
            SshLogin::Signed(by) => [Some(("sign", by)), None],
        };
        first.into_iter().chain(second)
    }

    /// Whether the agent may set a variable.
    #[must_use]
    pub fn passes_on(&self, variable: &str) -> bool {
        self.env.iter().any(|one| match one.strip_suffix('*') {
            Some(beginning) => variable.starts_with(beginning),
            None => variable == one,
        })
    }
}

/// How the daemon logs in to an SSH server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshLogin {
    /// With a password; also where the server asks for it in a dialogue of its own.
    Password(SecretSource),
    /// With a private key.
    Key {
        /// The key.
        key: SecretSource,
        /// What it is encrypted with.
        passphrase: Option<SecretSource>,
        /// The user's certificate for it.
        certificate: Option<PathBuf>,
    },
    /// With a certificate that is made for each login.
    Sign {
        /// The private key that signs it.
        authority: SecretSource,
        /// For whom it is.
        principals: Vec<String>,
        /// How long it is valid. Default 5 min.
        valid: Duration,
    },
    /// With a certificate that a command has made, for a key of the daemon's own.
    Signed(SecretSource),
}

/// What stands for the daemon's public key in such a command.
const PUBLIC: &str = "{key}";

/// Such a command for a key.
#[must_use]
pub fn signed_by(source: &SecretSource, key: &str) -> SecretSource {
    match source {
        SecretSource::Exec {
            command,
            timeout,
            ttl,
        } => SecretSource::Exec {
            command: command
                .iter()
                .map(|word| word.replace(PUBLIC, key))
                .collect(),
            timeout: *timeout,
            ttl: *ttl,
        },
        other => other.clone(),
    }
}

/// What an SSH server must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKeys {
    /// One of these.
    Pinned(Vec<HostKey>),
    /// What it showed when it was first seen.
    Learn,
}

/// A key that an SSH server is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// Whether it signs the server's certificates, and is not the server's own.
    pub authority: bool,
    /// The key.
    pub key: PublicKey,
}

const SIGN: &[Key] = &[
    may(
        "ca",
        SECRET,
        "this or `by`",
        "The private key that users' certificates are signed with.",
    ),
    may(
        "by",
        SECRET,
        "this or `ca`",
        "A command (`exec`) that prints a certificate for the public key that stands in place of `{key}`; \
         it is used for its `ttl`.",
    ),
    may(
        "principals",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "the login name",
        "For whom a certificate is.",
    ),
    may(
        "for",
        Shape::Duration(60_000, DAY),
        "5m",
        "How long a certificate is valid.",
    ),
];

/// What may stand below `ssh`.
pub(in crate::config) const SSH: Shape = Shape::Keys(&[
    must(
        "user",
        Shape::Text(Form::Identifier),
        "The login on the server.",
    ),
    may("password", SECRET, "none", "Where its password comes from."),
    may(
        "key",
        SECRET,
        "none",
        "Its private key, in OpenSSH's format or PEM.",
    ),
    may(
        "passphrase",
        SECRET,
        "none",
        "What the private key is encrypted with.",
    ),
    may(
        "certificate",
        Shape::Text(Form::Holds(Held::SshCertificate)),
        "none",
        "The user's certificate for `key`, as ssh-keygen writes it.",
    ),
    may(
        "sign",
        Shape::Keys(SIGN),
        "none",
        "Logs in with a certificate that is made for each login.",
    ),
    must(
        "host_keys",
        Shape::List(1, &Shape::Text(Form::HostKey)),
        "The server's public keys; `@cert-authority` before the key of who signs its certificates; or \
         `learn` alone, which believes the first key that is seen.",
    ),
    may(
        "env",
        Shape::List(0, &Shape::Text(Form::EnvPattern)),
        "[LANG, LC_*]",
        "Variables that the agent may set, with `*` at an end for all that begin so.",
    ),
    may(
        "recorded",
        Shape::Size(0, 1024 * GIB),
        "64KiB",
        "Most bytes of each direction of a forward or of files that are copied that are recorded; commands and \
         shells are recorded whole.",
    ),
    may(
        "unread",
        Shape::Word(&["refuse", "pass"]),
        "refuse",
        "What is done about files that are read by copies, `git` fetches and forwards, in which `detect` looks for nothing, \
         where it masks or refuses.",
    ),
]);

/// Reads one line of `host_keys`.
pub(in crate::config) fn host_key(line: &str) -> Result<Option<HostKey>, &'static str> {
    if line == LEARN {
        return Ok(None);
    }
    let (authority, key) = match line.strip_prefix(AUTHORITY) {
        Some(key) => (true, key),
        None => (false, line),
    };
    let key = PublicKey::from_openssh(key.trim()).map_err(
        |_error| "expected `ssh-ed25519 AAAA…`, `@cert-authority ssh-ed25519 AAAA…` or `learn`",
    )?;
    Ok(Some(HostKey { authority, key }))
}

/// Whether it names variables: `LANG`, `LC_*`.
pub(in crate::config) fn is_env_pattern(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty()
        && name
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// Makes the target's settings; `secret` and `path` know where relative paths start.
pub(in crate::config) fn build(
    node: &Node,
    secret: impl Fn(&Node) -> Option<SecretSource>,
    path: impl Fn(&str) -> Option<PathBuf>,
) -> Option<Ssh> {
    let user = text(Some(node), "user")?;
    let under = |key: &str| node.under(key).and_then(&secret);
    let login = match (under("key"), node.under("sign")) {
        (_, Some(sign)) if sign.under("by").is_some() => {
            SshLogin::Signed(sign.under("by").and_then(&secret)?)
        }
        (_, Some(sign)) => SshLogin::Sign {
            authority: sign.under("ca").and_then(&secret)?,
            principals: match texts(sign, "principals") {
                said if said.is_empty() => vec![user.clone()],
                said => said,
            },
            valid: duration(Some(sign), "for").unwrap_or(Duration::from_mins(5)),
        },
        (Some(key), None) => SshLogin::Key {
            key,
            passphrase: under("passphrase"),
            certificate: path("certificate"),
        },
        (None, None) => SshLogin::Password(under("password")?),
    };
    let lines = texts(node, "host_keys");
    let keys: Vec<_> = lines
        .iter()
        .filter_map(|line| host_key(line).ok().flatten())
        .collect();
    Some(Ssh {
        user,
        login,
        host_keys: match keys.is_empty() {
            true => HostKeys::Learn,
            false => HostKeys::Pinned(keys),
        },
        env: match node.under("env") {
            Some(_) => texts(node, "env"),
            None => ENV.map(str::to_owned).into(),
        },
        recorded_bytes: size(Some(node), "recorded")
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(RECORDED),
        unread: Unread::said(Some(node)),
    })
}

/// Whether a command has a place for a key.
fn names_key(exec: &Node) -> bool {
    let words = texts(exec, "command");
    words.iter().any(|word| word.contains(PUBLIC))
}

/// What is wrong between the keys below `ssh`, each with its key.
pub(in crate::config) fn cross(node: &Node) -> Vec<(&'static str, &'static str)> {
    let has = |key: &str| node.under(key).is_some();
    let mut wrong = Vec::new();
    let ways = ["password", "key", "sign"].iter().filter(|key| has(key));
    if ways.count() != 1 {
        wrong.push(("user", "expected one of password, key and sign beside it"));
    }
    if let Some(sign) = node.under("sign") {
        let of = |key: &str| sign.under(key);
        if of("ca").is_some() == of("by").is_some() {
            wrong.push(("sign", "expected one of ca and by"));
        }
        let command = of("by").and_then(|by| by.under("exec"));
        if of("by").is_some() && !command.is_some_and(names_key) {
            wrong.push(("sign", "expected an exec with {key} among its arguments"));
        }
        if of("by").is_some() && (of("principals").is_some() || of("for").is_some()) {
            wrong.push((
                "sign",
                "expected principals and for with ca only: whoever signs says these",
            ));
        }
    }
    if !has("key") && has("passphrase") {
        wrong.push(("passphrase", "expected a key with it"));
    }
    if !has("key") && has("certificate") {
        wrong.push(("certificate", "expected a key with it"));
    }
    let lines = texts(node, "host_keys");
    let learns = lines.iter().any(|line| line == LEARN);
    if learns && lines.len() > 1 {
        wrong.push(("host_keys", "expected `learn` alone, or keys without it"));
    }
    if learns && has("password") {
        let text = "expected keys; a password is shown to no server whose key was only learned";
        wrong.push(("host_keys", text));
    }
    wrong
}
