//! The client's side up to its login: encryption, version, who and what it asks for.
//!
//! Fourth step of the intercept path. Reads exactly the bytes of each packet and none behind it, so
//! that nothing sent in clear is ever taken for something said under TLS (CVE-2021-23214). Whom the
//! client says it is proves nothing and is never forwarded. A password is asked for only where the
//! target says so, for clients that insist on it (`prove`) or to see what they hold (`present`); it is none of
//! any upstream.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::mask::expression::KEYS;
use super::wire::backend::{Status, make_ready};
use super::wire::error::{ErrorFields, Severity};
use super::wire::startup::{
    Authentication, BackendKey, CANCEL_KEY, CANCEL_PID, GSSENC_REQUEST, MINOR_MAX, Negotiate,
    Packet, SSL_REQUEST, StartupMessage, packet_length, parameter_status,
};
use super::wire::{self};
use crate::policy::{Access, Action, Ask, Context, Resource};
use crate::tls::{self, Accepted, Authority, Dialled, Stream};

mod options;
mod present;
mod prove;
mod scram;
mod settings;

pub use options::{Error as OptionsError, write as write_options};
pub use present::present;
pub use prove::{Challenge, Prover, Unproved};
pub use scram::Error as ScramError;
pub use settings::{Origin, Setting};

/// First byte of a TLS record that holds a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a client's startup was not taken. The client has been told where the protocol has words for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("read the client's startup: {0}")]
    Read(std::io::Error),
    /// The connection broke.
    #[error("answer the client's startup: {0}")]
    Write(std::io::Error),
    /// It went away before it said anything.
    #[error("read the client's startup: the client closed without a word")]
    Silent,
    /// Bytes that are no startup packet.
    #[error("read the client's startup: {0}")]
    Wire(wire::Error),
    /// Bytes behind a request for encryption, before it was answered.
    #[error("read the client's startup: unencrypted data follows an encryption request")]
    EarlyData,
    /// A request for encryption that was answered before; its code.
    #[error("read the client's startup: encryption is requested twice")]
    Repeated(i32),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// TLS from the first byte, without the protocol's name.
    #[error("read the client's startup: direct TLS without the ALPN protocol `postgresql`")]
    Alpn,
    /// No user is named.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// `options` that cannot be read.
    #[error(transparent)]
    Options(options::Error),
    /// A setting of the daemon's own, which masks stand on.
    #[error("the setting {0} is the interceptor's own, and no client's to make")]
    OwnSetting(String),
    /// A value of `replication` that is none.
    #[error("invalid value for parameter \"replication\"")]
    Replication,
}

/// A client that has said what it wants.
#[derive(Debug)]
pub struct Terminated {
    /// The connection; nothing is read of it that belongs behind the startup.
    pub client: Stream,
    /// What it wants.
    pub wish: Wish,
    /// What a login over the connection can be bound to; nothing in clear.
    pub end_point: Option<Vec<u8>>,
}

/// What the client wants.
#[derive(Debug)]
pub enum Wish {
    /// To cancel what another session runs; no answer is due, whatever comes of it.
    Cancel(BackendKey),
    /// A session.
    Session(Startup),
}

/// What a client asks for at startup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The user that it claims; recorded, never forwarded.
    pub user: String,
    /// The database; the user's name where it names none.
    pub database: String,
    /// Settings, in the order in which the server would make them.
    pub settings: Vec<Setting>,
    /// The minor protocol version that it asks for; may be newer than any.
    pub minor: u16,
    /// Protocol options, none of which is known.
    pub options: Vec<String>,
    /// The replication connection that it asks for, if any.
    pub replication: Option<Replication>,
}

/// Replication connections, as the parameter `replication` asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// `true`: in no database; all of the server, and no SQL.
    Physical,
    /// `database`: in one database; commands and SQL.
    Logical,
}

impl Replication {
    /// The parameter's value.
    #[must_use]
    pub fn value(self) -> &'static str {
        match self {
            Self::Physical => "true",
            Self::Logical => "database",
        }
    }

    /// What policy must permit before such a connection is opened.
    #[must_use]
    pub fn ask(self) -> Ask {
        let access = Access {
            action: Action::Replicate,
            resource: match self {
                Self::Physical => Resource::Target,
                Self::Logical => Resource::Database,
            },
        };
        Ask {
            accesses: [access].into(),
            context: Context {
                has_where: true,
                command: "startup".to_owned(),
                ..Context::default()
            },
        }
    }
}

impl Startup {
    /// What policy must permit before any of this may go upstream: one ask for each setting that is
    /// not harmless, and one for replication.
    #[must_use]
    pub fn asks(&self) -> Vec<Ask> {
        self.settings
            .iter()
            .filter(|setting| !setting.is_harmless())
            .map(Setting::ask)
            .chain(self.replication.map(Replication::ask))
            .collect()
    }

    /// The minor version to ask the upstream for.
    #[must_use]
    pub fn upstream_minor(&self) -> u16 {
        // 3.1 does not exist: to a server it is 3.0 with another number.
        if self.minor >= MINOR_MAX {
            MINOR_MAX
        } else {
            0
        }
    }

    /// The minor version that is spoken with the client where it is asked for something before the upstream
    /// is spoken to.
    #[must_use]
    pub fn agreed(&self) -> u16 {
        self.minor.min(MINOR_MAX)
    }

    /// The `NegotiateProtocolVersion` that is due where the session will speak `minor`, the
    /// upstream's own; `None` where the client gets what it asked for.
    #[must_use]
    pub fn negotiate(&self, minor: u16) -> Option<Negotiate> {
        let due = self.minor > minor || !self.options.is_empty();
        due.then(|| Negotiate {
            minor: minor.min(self.minor),
            options: self.options.clone(),
        })
    }

    fn new(message: StartupMessage) -> Result<Self, Error> {
        let mut named = Named::default();
        let mut parameters = Vec::new();
        for (name, value) in message.parameters {
            match name.as_str() {
                "user" => named.user = value,
                "database" => named.database = value,
                "options" => named.options = value,
                "replication" => named.replication = replication(&value)?,
                _ => parameters.push(Setting {
                    name,
                    value,
                    origin: Origin::Parameter,
                }),
            }
        }
        if named.user.is_empty() {
            return Err(Error::NoUser);
        }
        if named.database.is_empty() {
            named.database.clone_from(&named.user);
        }
        let settings: Vec<Setting> = options::read(&named.options)
            .map_err(Error::Options)?
            .into_iter()
            .map(|(name, value)| Setting {
                name,
                value,
                origin: Origin::Options,
            })
            .chain(parameters)
            .collect();
        if let Some(own) = own_setting(&settings) {
            return Err(Error::OwnSetting(own.to_owned()));
        }
        Ok(Self {
            user: named.user,
            database: named.database,
            settings,
            minor: message.minor,
            options: message.options,
            replication: named.replication,
        })
    }
}

/// The first setting that is the daemon's own to make: keys of masks.
fn own_setting(settings: &[Setting]) -> Option<&str> {
    let is_own = |setting: &&Setting| setting.name.to_ascii_lowercase().starts_with(KEYS);
    let own = settings.iter().find(is_own)?;
    Some(&own.name)
}

/// The parameters that are no settings; the last of each counts, as in `ProcessStartupPacket`.
#[derive(Default)]
struct Named {
    user: String,
    database: String,
    options: String,
    replication: Option<Replication>,
}

// `database`, or a boolean as `parse_bool` takes it: any unambiguous beginning, in any case.
fn replication(value: &str) -> Result<Option<Replication>, Error> {
    if value == "database" {
        return Ok(Some(Replication::Logical));
    }
    let value = value.to_ascii_lowercase();
    let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    if begins("true", 1) || begins("yes", 1) || value == "on" || value == "1" {
        Ok(Some(Replication::Physical))
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || value == "0" {
        Ok(None)
    } else {
        Err(Error::Replication)
    }
}

/// Answers the client up to its startup message or cancel request. `dialled` is where it
/// went, for the certificate where it sends no name. The caller bounds time; dropping the
/// future closes the connection.
///
/// # Errors
/// [`Error`] where the client broke the protocol or went away; it has been told already where a
/// server would tell it.
pub async fn terminate(
    socket: TcpStream,
    authority: &Authority,
    dialled: &Dialled,
) -> Result<Terminated, Error> {
    let direct = first_byte(&socket).await? == TLS_HANDSHAKE;
    let mut wire = Accepted {
        stream: Stream::Plain(socket),
        end_point: None,
    };
    let mut asked = Asked::default();
    if direct {
        wire = upgrade(wire.stream, authority, dialled).await?;
        if wire.stream.alpn() != Some(tls::ALPN_POSTGRESQL) {
            return Err(Error::Alpn);
        }
        asked = Asked::BOTH;
    }
    loop {
        match read_packet(&mut wire.stream).await {
            Ok(Packet::Ssl) if !asked.ssl => {
                answer(&mut wire.stream, b"S").await?;
                wire = upgrade(wire.stream, authority, dialled).await?;
                asked = Asked::BOTH;
            }
            Ok(Packet::GssEnc) if !asked.gss => {
                asked.gss = true;
                answer(&mut wire.stream, b"N").await?;
            }
            Ok(Packet::Ssl) => return tell(wire.stream, Error::Repeated(SSL_REQUEST)).await,
            Ok(Packet::GssEnc) => {
                return tell(wire.stream, Error::Repeated(GSSENC_REQUEST)).await;
            }
            Ok(Packet::Cancel(key)) => return Ok(Terminated::new(wire, Wish::Cancel(key))),
            Ok(Packet::Startup(message)) => {
                return match Startup::new(message) {
                    Ok(startup) => Ok(Terminated::new(wire, Wish::Session(startup))),
                    Err(error) => tell(wire.stream, error).await,
                };
            }
            Err(error) => return tell(wire.stream, error).await,
        }
    }
}

impl Terminated {
    fn new(wire: Accepted, wish: Wish) -> Self {
        Self {
            client: wire.stream,
            end_point: wire.end_point,
            wish,
        }
    }
}

/// Which kinds of encryption were asked for; each is answered once.
#[derive(Default)]
struct Asked {
    ssl: bool,
    gss: bool,
}

impl Asked {
    /// Under TLS neither may be asked for (`ProcessStartupPacket`).
    const BOTH: Self = Self {
        ssl: true,
        gss: true,
    };
}

async fn first_byte(socket: &TcpStream) -> Result<u8, Error> {
    let mut first = [0];
    match socket.peek(&mut first).await.map_err(Error::Read)? {
        0 => Err(Error::Silent),
        _ => Ok(u8::from_be_bytes(first)),
    }
}

async fn read_packet(stream: &mut Stream) -> Result<Packet, Error> {
    let mut field = [0; 4];
    match stream.read_exact(&mut field).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::Silent);
        }
        read => read.map_err(Error::Read)?,
    };
    let mut follows = vec![0; packet_length(field).map_err(Error::Wire)?];
    stream.read_exact(&mut follows).await.map_err(Error::Read)?;
    Packet::read(&follows).map_err(Error::Wire)
}

/// Answers a request for encryption with one byte, where nothing was sent behind the request.
async fn answer(stream: &mut Stream, byte: &[u8]) -> Result<(), Error> {
    if let Stream::Plain(socket) = stream
        && tls::has_unread(socket)
    {
        // No words: whoever sent these bytes is perhaps not the client.
        return Err(Error::EarlyData);
    }
    stream.write_all(byte).await.map_err(Error::Write)
}

async fn upgrade(
    stream: Stream,
    authority: &Authority,
    dialled: &Dialled,
) -> Result<Accepted, Error> {
    match stream {
        Stream::Plain(socket) => Ok(authority.accept(socket, dialled).await?),
        Stream::Tls(_) => Err(Error::Repeated(SSL_REQUEST)),
    }
}

async fn tell<T>(mut stream: Stream, error: Error) -> Result<T, Error> {
    if let Some(fields) = words(&error) {
        refuse(&mut stream, &fields).await?;
    }
    Err(error)
}

/// What the client is told; nothing where it is gone, or what it sent is no startup packet: there
/// a server closes without a word, too.
fn words(error: &Error) -> Option<ErrorFields> {
    let (state, message) = match error {
        Error::Wire(wire::Error::Value {
            field: "protocol version",
            value,
        }) => ("0A000", unsupported(*value)),
        // To a server the code of such a request is a version then.
        Error::Repeated(code) => ("0A000", unsupported((*code).into())),
        Error::Wire(wire::Error::Length { .. }) => return None,
        // A cancel is never answered, a wrong one neither.
        Error::Wire(wire::Error::Value {
            field: CANCEL_KEY, ..
        })
        | Error::Wire(wire::Error::Short { field: CANCEL_PID }) => return None,
        Error::Wire(wire::Error::Text { field }) => (
            "22021",
            format!(
                "invalid byte sequence for encoding \"UTF8\" in a {field} of the startup packet"
            ),
        ),
        Error::Wire(_) => (
            "08P01",
            "invalid startup packet layout: expected terminator as last byte".to_owned(),
        ),
        Error::NoUser => ("28000", error.to_string()),
        Error::OwnSetting(_) => ("42501", error.to_string()),
        Error::Options(_) => ("42601", error.to_string()),
        Error::Replication => ("22023", error.to_string()),
        Error::Read(_)
        | Error::Write(_)
        | Error::Silent
        | Error::EarlyData
        | Error::Tls(_)
        | Error::Alpn => return None,
    };
    Some(ErrorFields::new(Severity::Fatal, state, &message))
}

fn unsupported(version: i64) -> String {
    format!(
        "unsupported frontend protocol {}.{}: server supports 3.0 to 3.{MINOR_MAX}",
        version >> 16,
        version & 0xffff
    )
}

/// Sends an error and says goodbye: the client reads it before the connection's end.
///
/// # Errors
/// [`Error::Write`] where the client is gone.
pub async fn refuse(stream: &mut Stream, fields: &ErrorFields) -> Result<(), Error> {
    stream
        .write_all(&fields.response())
        .await
        .map_err(Error::Write)?;
    stream.shutdown().await.map_err(Error::Write)
}

/// What a client is greeted with once its session stands.
#[derive(Clone, Copy, Debug)]
pub struct Greeting<'a> {
    /// Where the version that it asked for, or an option, is not to be had.
    pub negotiate: Option<&'a Negotiate>,
    /// Notices of the upstream's login, whole messages.
    pub notices: &'a [bytes::Bytes],
    /// Settings as the upstream reported them, in its order.
    pub parameters: &'a [(String, String)],
    /// The key that was minted for this session, never the upstream's.
    pub key: &'a BackendKey,
    /// The upstream's state.
    pub status: Status,
}

/// Tells the client that it is logged in and what the server is like, up to `ReadyForQuery`.
///
/// # Errors
/// [`Error::Write`] where the client is gone.
pub async fn greet(stream: &mut Stream, greeting: Greeting<'_>) -> Result<(), Error> {
    let mut bytes = BytesMut::with_capacity(1_024);
    if let Some(negotiate) = greeting.negotiate {
        negotiate.write(&mut bytes);
    }
    Authentication::Ok.write(&mut bytes);
    for notice in greeting.notices {
        bytes.extend_from_slice(notice);
    }
    for (name, value) in greeting.parameters {
        parameter_status(&mut bytes, name, value);
    }
    greeting.key.write(&mut bytes);
    bytes.extend_from_slice(&make_ready(greeting.status));
    stream.write_all(&bytes).await.map_err(Error::Write)?;
    stream.flush().await.map_err(Error::Write)
}

#[cfg(test)]
mod tests;
