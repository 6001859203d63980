//! Startup: the messages before the first query, both ways. No I/O, nothing of ours imported.
//!
//! Startup packets have no tag: a length that counts itself, a code, a body (PostgreSQL
//! documentation, "Message Formats": `StartupMessage`, `SSLRequest`, `GSSENCRequest`,
//! `CancelRequest`). The server's answers are ordinary messages, held to far smaller sizes here
//! than in the query phase, as libpq does (`fe-connect.c`, `PQconnectPoll`).

use bytes::{BufMut as _, Bytes, BytesMut};
use zeroize::Zeroizing;

use super::backend::{READY, Status};
use super::{Body, Error, packet, put_string, write};

/// Longest startup packet, its length field not counted (`MAX_STARTUP_PACKET_LENGTH`, `libpq/pqcomm.h`).
pub const PACKET_MAX: usize = 10_000;
/// Code of `SSLRequest`.
pub const SSL_REQUEST: i32 = 80_877_103;
/// Code of `GSSENCRequest`.
pub const GSSENC_REQUEST: i32 = 80_877_104;
/// Code of `CancelRequest`.
pub const CANCEL_REQUEST: i32 = 80_877_102;
/// The major version that is spoken.
pub const MAJOR: u16 = 3;
/// The newest minor version that is spoken (3.1 was never used).
pub const MINOR_MAX: u16 = 2;
/// Bytes of a cancel key: exactly the least before protocol 3.2, anything between since.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 4..=256;
/// The field of a key that names the backend, as errors name it.
pub const CANCEL_PID: &str = "process id";
/// The field of a key whose length is not one that a key has, as errors name it.
pub const CANCEL_KEY: &str = "length of the cancel key";
/// Parameters whose name begins so are protocol options, not settings.
pub const OPTION_PREFIX: &str = "_pq_.";

/// Tag of the `Authentication*` requests.
pub const AUTHENTICATION: u8 = b'R';
/// Tag of `BackendKeyData`.
pub const BACKEND_KEY_DATA: u8 = b'K';
/// Tag of `NegotiateProtocolVersion`.
pub const NEGOTIATE: u8 = b'v';
/// Tag of `ParameterStatus`.
pub const PARAMETER_STATUS: u8 = b'S';
/// Tag of `PasswordMessage`, `SASLInitialResponse` and `SASLResponse`.
pub const PASSWORD: u8 = b'p';

/// More protocol options than this no server lists (none is defined so far).
const OPTIONS_MAX: usize = 64;
/// More mechanisms than this no server offers (PostgreSQL 18 offers at most three).
const MECHANISMS_MAX: usize = 16;

/// A protocol version as it is written: major in the upper half.
#[must_use]
pub fn version(minor: u16) -> i32 {
    (i32::from(MAJOR) << 16) | i32::from(minor)
}

/// The first thing that a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// It asks for TLS.
    Ssl,
    /// It asks for GSSAPI encryption.
    GssEnc,
    /// It asks to cancel what another connection runs; no answer is due.
    Cancel(BackendKey),
    /// It opens a session.
    Startup(StartupMessage),
}

/// `StartupMessage`, protocol 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartupMessage {
    /// The minor version asked for; may be newer than any that exists (grease: 9999).
    pub minor: u16,
    /// Names and values in the order sent, protocol options left out.
    pub parameters: Vec<(String, String)>,
    /// Names of the protocol options (`_pq_.…`), in the order sent.
    pub options: Vec<String>,
}

/// A key that names a backend for cancelling.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKey {
    /// The backend's process id, or what stands for it.
    pub pid: i32,
    /// The secret, 4 to 256 bytes.
    pub secret: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for BackendKey {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("BackendKey")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Reads a packet's length field: how many bytes follow it, at least the four of the code.
///
/// # Errors
/// [`Error::Length`] where that is less than a code, or over [`PACKET_MAX`].
pub fn packet_length(field: [u8; 4]) -> Result<usize, Error> {
    let length = i32::from_be_bytes(field);
    let follow = usize::try_from(length).ok().and_then(|l| l.checked_sub(4));
    match follow {
        Some(follow) if (4..=PACKET_MAX).contains(&follow) => Ok(follow),
        _ => Err(Error::Length { tag: 0, length }),
    }
}

impl Packet {
    /// Reads what follows the length field.
    ///
    /// # Errors
    /// [`Error`] where it is none of the four packets; [`Error::Value`] with the whole version
    /// where another major version is asked for.
    pub fn read(follows: &[u8]) -> Result<Self, Error> {
        let mut body = Body::new(follows);
        match body.i32("code")? {
            SSL_REQUEST => body.end().map(|()| Self::Ssl),
            GSSENC_REQUEST => body.end().map(|()| Self::GssEnc),
            CANCEL_REQUEST => BackendKey::read(body).map(Self::Cancel),
            code if code >> 16 == i32::from(MAJOR) => {
                let [_, _, high, low] = code.to_be_bytes();
                StartupMessage::read(u16::from_be_bytes([high, low]), body).map(Self::Startup)
            }
            code => Err(Error::Value {
                field: "protocol version",
                value: code.into(),
            }),
        }
    }

    /// Appends the whole packet, its length field first.
    pub fn write(&self, to: &mut BytesMut) {
        packet(to, |to| match self {
            Self::Ssl => to.put_i32(SSL_REQUEST),
            Self::GssEnc => to.put_i32(GSSENC_REQUEST),
            Self::Cancel(key) => {
                to.put_i32(CANCEL_REQUEST);
                key.put(to);
            }
            Self::Startup(message) => message.put(to),
        });
    }
}

impl StartupMessage {
    // As `ProcessStartupPacket` reads it (`tcop/backend_startup.c`): pairs up to an empty name,
    // which must be the last byte.
    fn read(minor: u16, mut body: Body<'_>) -> Result<Self, Error> {
        let mut message = Self {
            minor,
            ..Self::default()
        };
        // To a server all of them are bytes: that the packet is whole counts first.
        let mut odd = None;
        loop {
            let name = body.string("parameter name")?;
            if name.is_empty() {
                break;
            }
            let value = body.string("parameter value")?;
            match (std::str::from_utf8(name), std::str::from_utf8(value)) {
                (Ok(name), Ok(_)) if name.starts_with(OPTION_PREFIX) => {
                    message.options.push(name.to_owned());
                }
                (Ok(name), Ok(value)) => {
                    message.parameters.push((name.to_owned(), value.to_owned()));
                }
                (Err(_), _) => odd = odd.or(Some("parameter name")),
                (Ok(_), Err(_)) => odd = odd.or(Some("parameter value")),
            }
        }
        body.end()?;
        match odd {
            None => Ok(message),
            Some(field) => Err(Error::Text { field }),
        }
    }

    fn put(&self, to: &mut BytesMut) {
        to.put_i32(version(self.minor));
        for (name, value) in &self.parameters {
            put_string(to, name.as_bytes());
            put_string(to, value.as_bytes());
        }
        for name in &self.options {
            put_string(to, name.as_bytes());
            put_string(to, b"");
        }
        to.put_u8(0);
    }
}

impl BackendKey {
    fn read(mut body: Body<'_>) -> Result<Self, Error> {
        let pid = body.i32(CANCEL_PID)?;
        let secret = body.rest();
        if KEY_BYTES.contains(&secret.len()) {
            Ok(Self {
                pid,
                secret: Zeroizing::new(secret.to_vec()),
            })
        } else {
            Err(Error::Value {
                field: CANCEL_KEY,
                value: i64::try_from(secret.len()).unwrap_or(i64::MAX),
            })
        }
    }

    fn put(&self, to: &mut BytesMut) {
        to.put_i32(self.pid);
        to.put_slice(&self.secret);
    }

    /// Appends `BackendKeyData`.
    pub fn write(&self, to: &mut BytesMut) {
        write(to, BACKEND_KEY_DATA, |to| self.put(to));
    }
}

/// What a server says before it is ready for the first query, errors and notices left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It asks for a credential, or has one.
    Authentication(Authentication),
    /// It speaks an older version, or does not know protocol options.
    Negotiate(Negotiate),
    /// The value of a setting that it reports.
    Parameter(String, String),
    /// How to cancel.
    Key(BackendKey),
    /// It is ready.
    Ready(Status),
}

/// `NegotiateProtocolVersion`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiate {
    /// The newest minor version of major 3 that the server speaks.
    pub minor: u16,
    /// The protocol options that it does not know.
    pub options: Vec<String>,
}

/// The `Authentication*` requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Done.
    Ok,
    /// The password in clear.
    Cleartext,
    /// The password hashed with this salt.
    Md5([u8; 4]),
    /// SASL with one of these mechanisms.
    Sasl(Vec<String>),
    /// The server's part of a SASL exchange.
    SaslContinue(Bytes),
    /// The last of it.
    SaslFinal(Bytes),
    /// A method that is not spoken: Kerberos, GSSAPI, SSPI, SCM, or a new one.
    Other(i32),
}

/// The longest body that is taken of a message with this tag before the server is ready; `None`
/// where none is due then. libpq's own bounds: 2,000 for requests, 30,000 for errors.
#[must_use]
pub fn body_max(tag: u8) -> Option<usize> {
    match tag {
        AUTHENTICATION | NEGOTIATE => Some(2_000),
        PARAMETER_STATUS => Some(8_192),
        BACKEND_KEY_DATA => Some(260),
        READY => Some(1),
        super::error::ERROR | super::error::NOTICE => Some(30_000),
        _ => None,
    }
}

impl Answer {
    /// Reads the body of a message whose tag is none of error and notice.
    ///
    /// # Errors
    /// [`Error`] where the body is not what its tag says, or the tag is none of the five.
    pub fn read(tag: u8, body: &Bytes) -> Result<Self, Error> {
        match tag {
            AUTHENTICATION => Authentication::read(body).map(Self::Authentication),
            NEGOTIATE => Negotiate::read(Body::new(body)).map(Self::Negotiate),
            PARAMETER_STATUS => {
                let mut body = Body::new(body);
                let name = body.text("parameter name")?.to_owned();
                let value = body.text("parameter value")?.to_owned();
                body.end().map(|()| Self::Parameter(name, value))
            }
            BACKEND_KEY_DATA => BackendKey::read(Body::new(body)).map(Self::Key),
            READY => super::backend::ready(body).map(Self::Ready),
            tag => Err(Error::Value {
                field: "tag before the server is ready",
                value: tag.into(),
            }),
        }
    }
}

impl Negotiate {
    fn read(mut body: Body<'_>) -> Result<Self, Error> {
        // The field holds the whole version, not the minor alone as older documentation has it
        // (`SendNegotiateProtocolVersion`, `tcop/backend_startup.c`).
        let code = body.i32("protocol version")?;
        let [_, major, high, low] = code.to_be_bytes();
        let count = body.i32("number of protocol options")?;
        let known = usize::try_from(count).is_ok_and(|count| count <= OPTIONS_MAX);
        if code >> 24 != 0 || u16::from(major) != MAJOR || !known {
            return Err(Error::Value {
                field: "protocol version or number of options",
                value: if known { code } else { count }.into(),
            });
        }
        let mut options = Vec::new();
        for _ in 0..count {
            options.push(body.text("protocol option")?.to_owned());
        }
        body.end()?;
        Ok(Self {
            minor: u16::from_be_bytes([high, low]),
            options,
        })
    }

    /// Appends the whole message.
    pub fn write(&self, to: &mut BytesMut) {
        write(to, NEGOTIATE, |to| {
            to.put_i32(version(self.minor));
            to.put_i32(i32::try_from(self.options.len()).unwrap_or(i32::MAX));
            for option in &self.options {
                put_string(to, option.as_bytes());
            }
        });
    }
}

impl Authentication {
    fn read(whole: &Bytes) -> Result<Self, Error> {
        let mut body = Body::new(whole);
        let request = match body.i32("authentication request")? {
            0 => Self::Ok,
            3 => Self::Cleartext,
            5 => match body.bytes("salt", 4)? {
                &[a, b, c, d] => Self::Md5([a, b, c, d]),
                _ => return Err(Error::Short { field: "salt" }),
            },
            10 => return mechanisms(body).map(Self::Sasl),
            11 => return Ok(Self::SaslContinue(whole.slice_ref(body.rest()))),
            12 => return Ok(Self::SaslFinal(whole.slice_ref(body.rest()))),
            other => return Ok(Self::Other(other)),
        };
        body.end().map(|()| request)
    }

    /// Appends the whole message.
    pub fn write(&self, to: &mut BytesMut) {
        write(to, AUTHENTICATION, |to| match self {
            Self::Ok => to.put_i32(0),
            Self::Cleartext => to.put_i32(3),
            Self::Md5(salt) => {
                to.put_i32(5);
                to.put_slice(salt);
            }
            Self::Sasl(mechanisms) => {
                to.put_i32(10);
                for mechanism in mechanisms {
                    put_string(to, mechanism.as_bytes());
                }
                to.put_u8(0);
            }
            Self::SaslContinue(data) => {
                to.put_i32(11);
                to.put_slice(data);
            }
            Self::SaslFinal(data) => {
                to.put_i32(12);
                to.put_slice(data);
            }
            Self::Other(request) => to.put_i32(*request),
        });
    }
}

fn mechanisms(mut body: Body<'_>) -> Result<Vec<String>, Error> {
    let mut mechanisms = Vec::new();
    loop {
        let mechanism = body.text("mechanism")?;
        if mechanism.is_empty() {
            break;
        }
        if mechanisms.len() == MECHANISMS_MAX {
            return Err(Error::Long {
                extra: body.rest().len(),
            });
        }
        mechanisms.push(mechanism.to_owned());
    }
    body.end().map(|()| mechanisms)
}

/// Appends `ParameterStatus`.
pub fn parameter_status(to: &mut BytesMut, name: &str, value: &str) {
    write(to, PARAMETER_STATUS, |to| {
        put_string(to, name.as_bytes());
        put_string(to, value.as_bytes());
    });
}

/// Makes `PasswordMessage`; the bytes hold the password and are zeroed when dropped.
#[must_use]
pub fn password(text: &[u8]) -> Zeroizing<Vec<u8>> {
    response(&[text, b"\0"])
}

/// Makes `SASLInitialResponse`.
#[must_use]
pub fn sasl_initial(mechanism: &str, data: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = i32::try_from(data.len()).unwrap_or(i32::MAX).to_be_bytes();
    response(&[mechanism.as_bytes(), b"\0", &length, data])
}

/// `SASLInitialResponse`, as a client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism that it chose.
    pub mechanism: &'a str,
    /// Its first message, where it does not wait for a challenge.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitial<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// [`Error`] where the body is none.
    pub fn read(body: &'a [u8]) -> Result<Self, Error> {
        let mut body = Body::new(body);
        let mechanism = body.text("mechanism")?;
        let length = body.i32("length of the first message")?;
        let data = match usize::try_from(length) {
            Ok(length) => Some(body.bytes("first message", length)?),
            Err(_) if length == -1 => None,
            Err(_) => {
                return Err(Error::Value {
                    field: "length of the first message",
                    value: length.into(),
                });
            }
        };
        body.end()?;
        Ok(Self { mechanism, data })
    }
}

/// Makes `SASLResponse`.
#[must_use]
pub fn sasl_response(data: &[u8]) -> Zeroizing<Vec<u8>> {
    response(&[data])
}

// Reserved at once: a buffer that grows would leave a copy of the password behind.
fn response(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let length = body.saturating_add(4);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    bytes.push(PASSWORD);
    bytes.extend_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests;
