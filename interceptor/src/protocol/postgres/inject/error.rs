//! Why a login failed: all of it for the audit, and the little that the agent may read.

use crate::policy::{Refusal, RefusalKind};
use crate::protocol::postgres::wire::error::{ErrorFields, code};
use crate::protocol::postgres::wire::{self};
use crate::tls;

use super::scram;

/// Longest part of a server's text that is kept.
const TEXT_MAX: usize = 1_024;

/// Why a login upstream failed. The text is for the audit: it may name user and host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("{step} upstream: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The upstream went away.
    #[error("log in upstream: the upstream closed the connection")]
    Closed,
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The upstream does not speak TLS.
    #[error("log in upstream: the upstream offers no TLS, and `tls.mode` is not disable")]
    NoTls,
    /// An answer to the request for TLS that is none.
    #[error("log in upstream: {} answers a request for TLS", wire::Tag(*byte))]
    TlsAnswer {
        /// The byte.
        byte: u8,
    },
    /// TLS from the first byte on, with who knows what behind it.
    #[error(
        "log in upstream: the upstream does not name the protocol `postgresql` (ALPN), as servers do that speak TLS from the first byte on"
    )]
    Alpn,
    /// Bytes before TLS began.
    #[error("log in upstream: unencrypted data follows the answer to a request for TLS")]
    EarlyData,
    /// Bytes that are not the protocol.
    #[error("log in upstream: {0}")]
    Wire(#[from] wire::Error),
    /// A message that is longer than any of its kind, or not due.
    #[error("log in upstream: message {message} of {length} bytes is not due before a login ends")]
    Message {
        /// Its tag.
        message: wire::Tag,
        /// Its body's length.
        length: usize,
    },
    /// A message at the wrong moment.
    #[error("log in upstream: message {message} came out of order")]
    Order {
        /// Its tag.
        message: wire::Tag,
    },
    /// More than a server sends.
    #[error("log in upstream: more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// Another version than one that was asked for.
    #[error("log in upstream: the upstream negotiates what was not asked for")]
    Negotiate,
    /// A cancel key of the wrong length.
    #[error("log in upstream: a cancel key of {length} bytes in protocol 3.0")]
    KeyLength {
        /// Its length.
        length: usize,
    },
    /// Settings that do not fit.
    #[error("log in upstream: a startup message of {length} bytes is longer than servers take")]
    StartupLength {
        /// Its length.
        length: usize,
    },
    /// The upstream refused.
    #[error("log in upstream: refused with {0}")]
    Denied(Denied),
    /// The upstream ended it at once where a newer version than 3.0 was asked for.
    #[error("log in upstream with protocol 3.2: {0}")]
    Newer(Box<Self>),
    /// A method that is not spoken.
    #[error("log in upstream: the upstream asks for {method}, which is not supported")]
    Method {
        /// Which.
        method: String,
    },
    /// A credential is asked for and none is configured.
    #[error("log in upstream: the upstream asks for a password and the target has none")]
    NoSecret,
    /// The password in clear, to a server that has not proved who it is.
    #[error(
        "log in upstream: the upstream asks for the password in clear, which takes `tls.mode: verify-full`"
    )]
    Cleartext,
    /// MD5, which is not allowed.
    #[error("log in upstream: the upstream asks for MD5; set `allow_md5` to permit it")]
    Md5,
    /// Another method than the one that is required.
    #[error("log in upstream: the upstream asks for {method}, and `require_scram` is set")]
    NotScram {
        /// What it asks for.
        method: &'static str,
    },
    /// A weaker method than the last time.
    #[error(
        "log in upstream: the upstream asks for {method}, and has asked for SCRAM with this password before; reload the configuration where that was changed on purpose"
    )]
    Downgrade {
        /// What it asks for.
        method: &'static str,
    },
    /// The SCRAM exchange failed.
    #[error("log in upstream: {0}")]
    Scram(#[from] scram::Error),
    /// The server ended the exchange before it proved that it knows the password.
    #[error(
        "log in upstream: the upstream accepts before it has proved that it knows the password"
    )]
    Unproved,
    /// Somebody stands between.
    #[error(
        "log in upstream: a pooler answers for the server; set `postgres.pooler: session`, and see that it is in session mode"
    )]
    Pooled,
    /// A pooler handed out what another has used.
    #[error(
        "log in upstream: the pooler handed out a session that is not as it was at first; let it run `DISCARD ALL` between clients (pgbouncer: `server_reset_query`)"
    )]
    Unclean,
    /// The server, or who stands before it, did not take the search path.
    #[error("log in upstream: the search path is not the one that was asked for: {wanted}")]
    SearchPath {
        /// The one that was asked for.
        wanted: String,
    },
    /// A pooler takes none at startup, and the role has another.
    #[error(
        "log in upstream: a pooler takes no search path, and the role has another; run `ALTER ROLE … SET search_path = {wanted}`"
    )]
    RoleSearchPath {
        /// The one that it must have.
        wanted: String,
    },
    /// Not the kind of server that was asked for.
    #[error("log in upstream: the server is not {wanted}")]
    Attrs {
        /// What was asked for.
        wanted: &'static str,
    },
    /// No answer to a question of ours.
    #[error("log in upstream: the upstream does not answer what it is asked")]
    Unanswered,
    /// The catalog cannot be read.
    #[error("read the upstream's catalog: {reason}")]
    Catalog {
        /// Why.
        reason: String,
    },
    /// No randomness.
    #[error("log in upstream: the system gives no random bytes")]
    Random,
    /// The thread that derives keys died.
    #[error("log in upstream: the key derivation was cut off")]
    Derivation,
}

/// What a server said when it refused, for the audit only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Its SQLSTATE, where it sent one.
    pub sqlstate: Option<String>,
    /// Its message, lossily decoded, its first KiB.
    pub message: String,
    /// Whether it is the answer to a password.
    pub of_password: bool,
}

impl std::fmt::Display for Denied {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.sqlstate.as_deref().unwrap_or("no SQLSTATE");
        write!(to, "{state}: {}", self.message)
    }
}

impl Denied {
    pub(super) fn read(body: &[u8]) -> Result<Self, wire::Error> {
        let fields = ErrorFields::read(body)?;
        let text = fields.get(code::MESSAGE).unwrap_or_default();
        let text = text.get(..TEXT_MAX).unwrap_or(text);
        Ok(Self {
            sqlstate: fields.sqlstate().map(str::to_owned),
            message: String::from_utf8_lossy(text).into_owned(),
            of_password: false,
        })
    }
}

impl Error {
    pub(super) fn io(step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { step, source }
    }

    /// The upstream could not be dialled.
    #[must_use]
    pub fn dial(source: std::io::Error) -> Self {
        Self::io("dial")(source)
    }

    /// What ends a login at its first answer, where a newer version than 3.0 was asked for: a server or pooler
    /// that cannot negotiate says that it does not support it, or nothing at all.
    pub(super) fn at_first(self) -> Self {
        let may_be_for_it = match &self {
            Self::Denied(denied) => {
                matches!(denied.sqlstate.as_deref(), Some("0A000" | "08P01"))
            }
            Self::Closed => true,
            Self::Io { step, .. } => *step == "read",
            _ => false,
        };
        match may_be_for_it {
            true => Self::Newer(Box::new(self)),
            false => self,
        }
    }

    pub(super) fn denied(body: &[u8]) -> Self {
        Denied::read(body).map_or_else(Self::Wire, Self::Denied)
    }

    /// A refusal in answer to a password.
    pub(super) fn password_denied(body: &[u8]) -> Self {
        let of_password = |denied| Denied {
            of_password: true,
            ..denied
        };
        Denied::read(body).map_or_else(Self::Wire, |denied| Self::Denied(of_password(denied)))
    }

    /// The SQLSTATE that the agent gets; it names no more than the message.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        self.answer().1
    }

    /// Whether the server takes no more connections, of this role or at all.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Denied(denied) if denied.sqlstate.as_deref() == Some("53300"))
    }

    /// Whether the password is a wrong one. Only a server that checks it itself says so with a state of its
    /// own; where PAM, LDAP or RADIUS do (`auth_failed`, `libpq/auth.c`), the state is the one of clients that
    /// it refuses before it asks for any.
    #[must_use]
    pub fn is_wrong_password(&self) -> bool {
        let Self::Denied(denied) = self else {
            return false;
        };
        match denied.sqlstate.as_deref() {
            Some("28P01") => true,
            Some("28000") => denied.of_password,
            _ => false,
        }
    }

    /// Whether another server of the same target may do better: this one cannot be reached, is not
    /// ready, or is not of the kind that is asked for. As in libpq, one that refuses the login is not
    /// asked elsewhere.
    #[must_use]
    pub fn is_of_the_host(&self) -> bool {
        match self {
            Self::Denied(denied) => matches!(
                denied.sqlstate.as_deref(),
                Some("57P03" | "57P01" | "57P02" | "53300")
            ),
            Self::Newer(error) => error.is_of_the_host(),
            Self::Io { .. } | Self::Closed | Self::Tls(_) | Self::NoTls | Self::Attrs { .. } => {
                true
            }
            _ => false,
        }
    }

    /// What the agent may read: neither user nor host nor what the server said.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let (kind, _, message) = self.answer();
        Refusal {
            kind,
            rules: Vec::new(),
            message: message.to_owned(),
            hint: None,
        }
    }

    fn answer(&self) -> (RefusalKind, &'static str, &'static str) {
        match self {
            Self::Denied(denied) => denied.answer(),
            Self::Newer(error) => error.answer(),
            Self::NoSecret => (
                RefusalKind::Secret,
                "28000",
                "no credential is configured for this target",
            ),
            Self::Cleartext
            | Self::Md5
            | Self::NotScram { .. }
            | Self::Downgrade { .. }
            | Self::Method { .. }
            | Self::Scram(_)
            | Self::Unproved => (
                RefusalKind::Upstream,
                "28000",
                "the login at this target failed",
            ),
            Self::StartupLength { .. } => (
                RefusalKind::Upstream,
                "08P01",
                "the startup settings are too long for this target",
            ),
            Self::Attrs { .. } => (
                RefusalKind::Upstream,
                "08006",
                "no server of this target is of the kind that is asked for",
            ),
            Self::Random | Self::Derivation => {
                (RefusalKind::Internal, "XX000", "the login was cut off")
            }
            Self::Io { .. }
            | Self::Closed
            | Self::Tls(_)
            | Self::NoTls
            | Self::TlsAnswer { .. }
            | Self::EarlyData
            | Self::Alpn
            | Self::Wire(_)
            | Self::Message { .. }
            | Self::Order { .. }
            | Self::TooMany { .. }
            | Self::Negotiate
            | Self::KeyLength { .. }
            | Self::Pooled
            | Self::Unclean
            | Self::SearchPath { .. }
            | Self::RoleSearchPath { .. }
            | Self::Unanswered
            | Self::Catalog { .. } => (
                RefusalKind::Upstream,
                "08006",
                "the connection to this target failed",
            ),
        }
    }
}

impl Denied {
    // States that a client acts on (it waits, asks for another database, mends a setting) keep
    // their code; the words are always ours.
    fn answer(&self) -> (RefusalKind, &'static str, &'static str) {
        let (state, message) = match self.sqlstate.as_deref().unwrap_or_default() {
            "53300" => ("53300", "this target has too many connections already"),
            "57P03" => ("57P03", "this target is not accepting connections now"),
            "57P01" | "57P02" => ("57P03", "this target is shutting down"),
            "3D000" => ("3D000", "this target has no such database"),
            "22023" | "42704" | "22P02" | "55P02" | "42501" => (
                "22023",
                "this target does not take one of the startup settings",
            ),
            state if state.starts_with("28") => ("28000", "the login at this target failed"),
            _ => ("08006", "the connection to this target failed"),
        };
        (RefusalKind::Upstream, state, message)
    }
}
