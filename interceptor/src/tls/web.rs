//! TLS to a server of the web: its chain and its name are verified, always.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::upstream::{chain, client, name};
use super::{Error, Stream};
use crate::config::Host;

/// The protocol's name in ALPN (RFC 7301 section 6).
const ALPN_HTTP: &[u8] = b"http/1.1";

/// How servers of the web are spoken to.
#[derive(Clone, Debug)]
pub struct Web {
    client: Arc<ClientConfig>,
}

impl Web {
    /// Reads the trusted roots: those of a file, or the host's own. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error`] where there are none that can be used.
    pub fn new(ca: Option<&Path>) -> Result<Self, Error> {
        let (check, _made_of) = chain(ca, true)?;
        Ok(Self {
            client: client(check, None, ALPN_HTTP)?,
        })
    }

    /// The same for servers that are not of the web, and to which no protocol is named.
    ///
    /// # Errors
    /// As [`Web::new`].
    pub fn unnamed(ca: Option<&Path>) -> Result<Self, Error> {
        let mut web = Self::new(ca)?;
        Arc::make_mut(&mut web.client).alpn_protocols.clear();
        Ok(web)
    }

    /// Begins TLS as the client and finishes the handshake. The caller bounds time.
    ///
    /// # Errors
    /// [`Error::Upstream`] where the handshake or the verification fails.
    pub async fn connect(&self, stream: TcpStream, host: &Host) -> Result<Stream, Error> {
        let name = match host {
            Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
            Host::Name(host) => name(host)?,
        };
        let stream = TlsConnector::from(Arc::clone(&self.client))
            .connect(name, stream)
            .await
            .map_err(Error::Upstream)?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}
