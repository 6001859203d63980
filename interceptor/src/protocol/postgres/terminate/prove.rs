//! A password asked of the client, for clients that insist on SCRAM: `require_auth`, `channel_binding`.
//!
//! Who connected is known from the kernel; this proves nothing more to us, and everything to a client
//! that wants its server to prove itself. The password is the scope's throw-away one, which opens
//! nothing anywhere else.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::refuse;
use super::scram::{self, Exchange, ITERATIONS};
use crate::protocol::postgres::inject::{self, KeyCache, Keys};
use crate::protocol::postgres::wire::error::{ErrorFields, Severity};
use crate::protocol::postgres::wire::startup::{Authentication, Negotiate, PASSWORD, SaslInitial};
use crate::protocol::postgres::wire::{self, HEADER, Header, Tag};
use crate::secrets::Secret;
use crate::tls::Stream;

/// Longest answer of a client: a message of the exchange, and the mechanism's name.
const BODY_MAX: usize = 1_100;
const SALT_BYTES: usize = 16;

/// Why a client was not let in. It has been told where it still listens.
#[derive(Debug, thiserror::Error)]
pub enum Unproved {
    /// The connection broke.
    #[error("ask the client for its password: {0}")]
    Io(std::io::Error),
    /// It went away instead: clients ask their user then, or have no password.
    #[error("ask the client for its password: it closed instead of answering")]
    Closed,
    /// Bytes that are not the protocol.
    #[error("ask the client for its password: {0}")]
    Wire(#[from] wire::Error),
    /// Another message than an answer, or one that is too long.
    #[error("ask the client for its password: message {message} of {length} bytes is no answer")]
    Message {
        /// Its tag.
        message: Tag,
        /// Its body's length.
        length: usize,
    },
    /// The exchange failed.
    #[error("ask the client for its password: {0}")]
    Scram(#[from] scram::Error),
    /// A password without an end.
    #[error("ask the client for its password: it has no end")]
    Endless,
    /// What the password is checked with cannot be made.
    #[error("ask the client for its password: {0}")]
    Keys(#[from] inject::Error),
}

/// What a client is asked.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// The user that it claims, for its own error message.
    pub user: &'a str,
    /// The password that it must know.
    pub password: &'a Secret,
    /// What the login can be bound to.
    pub end_point: Option<&'a [u8]>,
    /// Where the version that it asked for, or an option, is not to be had.
    pub negotiate: Option<&'a Negotiate>,
}

/// Asks clients for passwords. One for the daemon: what is derived from a password is kept.
#[derive(Debug)]
pub struct Prover {
    keys: KeyCache,
}

impl Prover {
    /// Begins with nothing kept.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new() -> Result<Self, inject::Error> {
        Ok(Self {
            keys: KeyCache::new()?,
        })
    }

    /// Asks and comes back when the client has proved that it knows the password; nothing but
    /// `AuthenticationOk` is due then. The caller bounds time.
    ///
    /// # Errors
    /// [`Unproved`]; the client has been told.
    pub async fn prove(&self, client: &mut Stream, asked: Challenge<'_>) -> Result<(), Unproved> {
        let ended = self.exchange(client, asked).await;
        if let Err(error) = &ended
            && let Some(fields) = words(error, asked.user)
        {
            // A client that is gone already loses nothing.
            drop(refuse(client, &fields).await);
        }
        ended
    }

    async fn exchange(&self, client: &mut Stream, asked: Challenge<'_>) -> Result<(), Unproved> {
        let offer = Authentication::Sasl(scram::mechanisms(asked.end_point));
        say(client, asked.negotiate, offer).await?;
        let answer = message(client).await?;
        let initial = SaslInitial::read(&answer)?;
        let (mechanism, first) = (initial.mechanism.to_owned(), initial.data);
        let first = match first {
            Some(first) => Bytes::copy_from_slice(first),
            // A client may wait for an empty challenge (RFC 4422, section 3.3).
            None => {
                say(client, None, Authentication::SaslContinue(Bytes::new())).await?;
                message(client).await?
            }
        };
        let exchange = Exchange::begin(&mechanism, &first, asked.end_point)?;
        let (salt, keys) = self.keys(asked.password).await?;
        let challenge = exchange.challenge(&salt);
        let data = Authentication::SaslContinue(challenge.clone().into());
        say(client, None, data).await?;
        let last = message(client).await?;
        let signature = exchange.end(&challenge, &last, &keys)?;
        say(client, None, Authentication::SaslFinal(signature.into())).await
    }

    /// The salt of a password, which is the same each time so that its keys can be kept, and the keys.
    async fn keys(&self, password: &Secret) -> Result<(Vec<u8>, Arc<Keys>), Unproved> {
        let mut salt = inject::salt(password.expose_secret().as_bytes());
        salt.truncate(SALT_BYTES);
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        let (id, keys) = self.keys.keys("", password, &salt, iterations).await?;
        self.keys.keep(id, Arc::clone(&keys));
        Ok((salt, keys))
    }
}

/// Says it, behind `negotiate` where that is due.
pub(super) async fn say(
    client: &mut Stream,
    negotiate: Option<&Negotiate>,
    request: Authentication,
) -> Result<(), Unproved> {
    let mut bytes = BytesMut::new();
    if let Some(negotiate) = negotiate {
        negotiate.write(&mut bytes);
    }
    request.write(&mut bytes);
    client.write_all(&bytes).await.map_err(Unproved::Io)?;
    client.flush().await.map_err(Unproved::Io)
}

/// The client's next message of the exchange.
async fn message(client: &mut Stream) -> Result<Bytes, Unproved> {
    answer(client, BODY_MAX).await.map(Bytes::from)
}

/// The client's next answer of at most so many bytes, and no byte behind it.
pub(super) async fn answer(client: &mut Stream, most: usize) -> Result<Vec<u8>, Unproved> {
    let mut header = [0; HEADER];
    match client.read_exact(&mut header).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Unproved::Closed);
        }
        read => read.map_err(Unproved::Io)?,
    };
    let [tag, ..] = header;
    let length = Header::read(&header)?.map_or(0, |header| header.body);
    if tag != PASSWORD || length > most {
        return Err(Unproved::Message {
            message: Tag(tag),
            length,
        });
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.map_err(Unproved::Io)?;
    Ok(body)
}

/// What the client is told, as its server would say it.
pub(super) fn words(error: &Unproved, user: &str) -> Option<ErrorFields> {
    let fatal = |state, message: &str| ErrorFields::new(Severity::Fatal, state, message);
    Some(match error {
        Unproved::Io(_) | Unproved::Closed => return None,
        Unproved::Wire(_) | Unproved::Endless => fatal("08P01", "invalid password packet size"),
        Unproved::Message { .. } => fatal("08P01", "expected SASL response"),
        Unproved::Keys(_) | Unproved::Scram(scram::Error::Random) => {
            fatal("XX000", "the login was cut off")
        }
        Unproved::Scram(scram::Error::Password) => fatal(
            "28P01",
            &format!("password authentication failed for user \"{user}\""),
        )
        .hint("the password is the one that `interceptor run` sets in PGPASSWORD"),
        Unproved::Scram(scram::Error::Malformed(detail)) => {
            fatal("08P01", "malformed SCRAM message").detail(detail)
        }
        Unproved::Scram(error @ scram::Error::Unsupported(_)) => fatal("0A000", &error.to_string()),
        Unproved::Scram(error @ scram::Error::Mechanism) => fatal("08P01", &error.to_string()),
        Unproved::Scram(error @ (scram::Error::Negotiation | scram::Error::Binding)) => {
            fatal("28000", &error.to_string())
        }
    })
}

#[cfg(test)]
mod tests;
