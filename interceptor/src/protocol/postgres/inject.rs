//! The upstream's side of a login: TLS, startup, the injected credential, up to `ReadyForQuery`.
//!
//! Sixth step of the intercept path. Only the configured user and the permitted settings go
//! upstream, never what the client called itself. The upstream is not trusted: what it sends is
//! bounded in size and number, a password is shown only to a server that has proved who it is, and
//! nothing that it says about a failed login reaches the agent.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use super::mask::Known;
use super::terminate::{Replication, Setting};
use super::wire::backend::Status;
use super::wire::error::{ERROR, NOTICE};
use super::wire::startup::{Answer, BackendKey, KEY_BYTES, Negotiate, body_max};
use super::wire::{self};
use crate::config;
use crate::masking::Sensitive;
use crate::secrets::Secret;
use crate::socket::{self, Place};
use crate::tls::{self, Stream};

mod authenticate;
mod catalog;
mod error;
mod keys;
mod look;
mod peer;
mod scram;
mod secure;
mod settle;
mod startup;
pub mod warm;

use authenticate::Authenticator;
pub use catalog::{Catalog, survey};
pub use error::{Denied, Error};
pub(super) use keys::Cache as KeyCache;
pub(super) use look::look;
use peer::Peer;
pub use scram::Error as ScramError;
pub(super) use scram::{Keys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, salt};
pub use secure::secure;
pub use startup::{asked, startup};

const PARAMETERS_MAX: usize = 256;
const NOTICES_MAX: usize = 32;

/// What logins share: the SCRAM keys and the catalogs seen so far. One for the daemon.
#[derive(Debug)]
pub struct Injector {
    keys: keys::Cache,
    catalogs: catalog::Cache,
}

/// One login, as configured and permitted.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The target's name.
    pub target: &'a str,
    /// The host that was dialled, for the certificate's name.
    pub host: &'a config::Host,
    /// What tells the server from others at its address, which are behind the same proxy.
    pub apart: Option<&'a str>,
    /// How TLS is spoken to it.
    pub tls: &'a tls::Upstream,
    /// Who logs in, and how.
    pub postgres: &'a config::Postgres,
    /// With what.
    pub password: Option<&'a Secret>,
    /// The database, which the caller has found among the configured ones.
    pub database: &'a str,
    /// The client's settings; the caller has had the ones that are not harmless judged.
    pub settings: &'a [Setting],
    /// The minor protocol version to ask for: 0 or 2.
    pub minor: u16,
    /// The replication connection to ask for, which the caller has had judged.
    pub replication: Option<Replication>,
    /// What the server must be.
    pub attrs: config::SessionAttrs,
    /// Where the target has sensitive columns: what masking them needs.
    pub masked: Option<Masked<'a>>,
}

impl Login<'_> {
    /// The server at an address, as it is remembered by: what is known of one says nothing of another.
    fn server(&self, address: Place) -> String {
        match self.apart {
            Some(apart) => format!("{apart} behind {address}"),
            None => address.to_string(),
        }
    }
}

/// What masking needs of a login.
#[derive(Clone, Copy, Debug)]
pub struct Masked<'a> {
    /// The key of hashes that are equal in all sessions of the target; without it these are null.
    pub target_key: Option<&'a Secret>,
    /// What the configuration calls sensitive in the target.
    pub sensitive: &'a [Sensitive],
}

/// A session with the upstream, ready for its first query.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub stream: Stream,
    /// What was read of it and belongs to the query phase; nearly always empty.
    pub unread: BytesMut,
    /// Where it leads.
    pub address: Place,
    /// The host of that address, as the configuration names it.
    pub host: config::Host,
    /// Settings that the server reported, in its order.
    pub parameters: Vec<(String, String)>,
    /// Notices of the login, whole messages.
    pub notices: Vec<Bytes>,
    /// How to cancel there; the agent never sees it.
    pub key: Option<BackendKey>,
    /// The minor protocol version that it speaks.
    pub minor: u16,
    /// What names mean there before any search path.
    pub catalog: Arc<Catalog>,
    /// What the database looks like, where the login says that something in it may be masked.
    pub known: Option<Arc<Known>>,
    /// Its transaction status: idle.
    pub status: Status,
}

impl Injector {
    /// Begins with nothing remembered.
    ///
    /// # Errors
    /// [`Error::Random`] where the system gives no random bytes.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            keys: keys::Cache::new()?,
            catalogs: catalog::Cache::new(),
        })
    }

    /// Logs in over `socket`, a fresh connection to the upstream. The caller bounds time; dropping
    /// the future closes the connection.
    ///
    /// # Errors
    /// [`Error`]; its `refusal` is what the agent may read.
    pub async fn login(&self, socket: TcpStream, login: Login<'_>) -> Result<Upstream, Error> {
        self.log_in(socket, login, false).await
    }

    /// The same with nobody waiting: what is known of the database is read anew, so that it is no
    /// older than the connection, however long that waits.
    ///
    /// # Errors
    /// As [`Injector::login`].
    pub async fn login_ahead(
        &self,
        socket: TcpStream,
        login: Login<'_>,
    ) -> Result<Upstream, Error> {
        self.log_in(socket, login, true).await
    }

    /// Forgets which servers have asked for SCRAM, and what was masked for what is not there any more: what was
    /// read again may say otherwise.
    pub fn forget(&self) {
        self.keys.forget();
        self.catalogs.forget();
    }

    /// What tells one credential from another, and nothing else of it.
    #[must_use]
    pub fn credential(&self, password: Option<&Secret>) -> [u8; 32] {
        self.keys.credential(password)
    }

    async fn log_in(
        &self,
        socket: TcpStream,
        login: Login<'_>,
        ahead: bool,
    ) -> Result<Upstream, Error> {
        let address = socket::peer(&socket).map_err(Error::io("dial"))?;
        let stream = secure(socket, login.tls, login.host).await?;
        let mut peer = Peer::new(stream);
        let keys = startup::keys(&login)?;
        peer.send(&startup::startup_with(&login, keys)?).await?;
        let mut opened = Opened::new(login.minor);
        self.authenticate(&mut peer, &login, address, &mut opened)
            .await?;
        while opened.status.is_none() {
            let (tag, body) = peer.next(body_max).await?;
            opened.take(tag, body)?;
        }
        let (catalog, known) = match login.replication {
            // No database, no SQL, no names.
            Some(Replication::Physical) => (Arc::default(), None),
            Some(Replication::Logical) | None => {
                settle::settle(&mut peer, &login, &mut opened).await?;
                let catalog = self
                    .catalogs
                    .of(&mut peer, &login, (address, &opened), ahead);
                let catalog = catalog.await?;
                let known = match login.masked {
                    Some(_) => {
                        let known =
                            self.catalogs
                                .known(&mut peer, &login, (address, &opened), ahead);
                        Some(known.await?)
                    }
                    None => None,
                };
                (catalog, known)
            }
        };
        let (stream, unread) = peer.into_parts();
        Ok(Upstream {
            stream,
            unread,
            address,
            host: login.host.clone(),
            parameters: opened.parameters,
            notices: opened.notices,
            key: opened.key,
            minor: opened.minor,
            catalog,
            known,
            status: Status::Idle,
        })
    }

    async fn authenticate(
        &self,
        peer: &mut Peer,
        login: &Login<'_>,
        address: Place,
        opened: &mut Opened,
    ) -> Result<(), Error> {
        let mut authenticator = Authenticator::new(&self.keys, login, address, peer.stream());
        let mut first = Some(first_answer(peer, login).await?);
        while !authenticator.is_done() {
            let (tag, body) = match first.take() {
                Some(first) => first,
                None => peer.next(body_max).await?,
            };
            match tag {
                ERROR if authenticator.has_sent() => return Err(Error::password_denied(&body)),
                ERROR => return Err(Error::denied(&body)),
                NOTICE => opened.notice(&body)?,
                tag => match Answer::read(tag, &body)? {
                    Answer::Authentication(request) => {
                        if let Some(response) = authenticator.answer(request).await? {
                            peer.send(&response).await?;
                        }
                    }
                    Answer::Negotiate(negotiate) => opened.negotiate(&negotiate)?,
                    Answer::Parameter(..) | Answer::Key(_) | Answer::Ready(_) => {
                        return Err(Error::Order {
                            message: wire::Tag(tag),
                        });
                    }
                },
            }
        }
        Ok(())
    }
}

/// What a server makes of the startup message, the version in it among it.
async fn first_answer(peer: &mut Peer, login: &Login<'_>) -> Result<(u8, Bytes), Error> {
    let answer = match peer.next(body_max).await {
        Ok((ERROR, body)) => Err(Error::denied(&body)),
        answer => answer,
    };
    answer.map_err(|error| match login.minor {
        0 => error,
        _ => error.at_first(),
    })
}

/// What the server says between the startup message and `ReadyForQuery`.
#[derive(Debug)]
struct Opened {
    parameters: Vec<(String, String)>,
    notices: Vec<Bytes>,
    key: Option<BackendKey>,
    minor: u16,
    negotiated: bool,
    status: Option<Status>,
}

impl Opened {
    fn new(minor: u16) -> Self {
        Self {
            parameters: Vec::new(),
            notices: Vec::new(),
            key: None,
            minor,
            negotiated: false,
            status: None,
        }
    }

    /// After `AuthenticationOk`.
    fn take(&mut self, tag: u8, body: Bytes) -> Result<(), Error> {
        match tag {
            ERROR => return Err(Error::denied(&body)),
            NOTICE => return self.notice(&body),
            _ => {}
        }
        match Answer::read(tag, &body)? {
            Answer::Parameter(name, value) => self.parameter(name, value),
            Answer::Key(key) if self.key.is_none() => self.key(key),
            Answer::Ready(Status::Idle) => {
                self.status = Some(Status::Idle);
                Ok(())
            }
            Answer::Key(_)
            | Answer::Ready(_)
            | Answer::Authentication(_)
            | Answer::Negotiate(_) => Err(Error::Order {
                message: wire::Tag(tag),
            }),
        }
    }

    /// A setting that changed after the startup: its new value stands in its place.
    fn reported(&mut self, tag: u8, body: &Bytes) -> Result<(), Error> {
        let Answer::Parameter(name, value) = Answer::read(tag, body)? else {
            return Err(Error::Order {
                message: wire::Tag(tag),
            });
        };
        match self.parameters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.parameter(name, value)?,
        }
        Ok(())
    }

    fn parameter(&mut self, name: String, value: String) -> Result<(), Error> {
        if self.parameters.len() == PARAMETERS_MAX {
            return Err(Error::TooMany {
                what: "settings",
                most: PARAMETERS_MAX,
            });
        }
        self.parameters.push((name, value));
        Ok(())
    }

    fn notice(&mut self, body: &Bytes) -> Result<(), Error> {
        if self.notices.len() == NOTICES_MAX {
            return Err(Error::TooMany {
                what: "notices",
                most: NOTICES_MAX,
            });
        }
        // Read and written anew: the client gets a well-formed notice or none.
        let fields = wire::error::ErrorFields::read(body)?;
        let mut bytes = BytesMut::new();
        fields.write(&mut bytes, NOTICE);
        self.notices.push(bytes.freeze());
        Ok(())
    }

    fn key(&mut self, key: BackendKey) -> Result<(), Error> {
        // Before 3.2 a key is exactly four bytes, as libpq enforces.
        if self.minor < 2 && key.secret.len() != *KEY_BYTES.start() {
            return Err(Error::KeyLength {
                length: key.secret.len(),
            });
        }
        self.key = Some(key);
        Ok(())
    }

    fn negotiate(&mut self, negotiate: &Negotiate) -> Result<(), Error> {
        // No option was sent, so none can be unknown; and a version that was asked for is not refused.
        if self.negotiated || !negotiate.options.is_empty() || negotiate.minor >= self.minor {
            return Err(Error::Negotiate);
        }
        self.negotiated = true;
        self.minor = negotiate.minor;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
