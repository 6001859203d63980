//! Encryption of a fresh upstream connection, for logins and for cancels alike.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Error;
use crate::config::Host;
use crate::protocol::postgres::wire::startup::Packet;
use crate::socket::is_unix;
use crate::tls::{self, Stream};

/// Asks the upstream for TLS and begins it, or begins it at once, as `tls` says; leaves the wire in clear
/// only where it says `disable`. The caller bounds time.
///
/// # Errors
/// [`Error`] where the upstream does not agree, sends anything but one byte, or fails the handshake.
pub async fn secure(
    mut socket: TcpStream,
    tls: &tls::Upstream,
    host: &Host,
) -> Result<Stream, Error> {
    // What goes over a UNIX socket leaves the host nowhere, and no server speaks TLS there.
    if !tls.wanted() || is_unix(&socket) {
        return Ok(Stream::Plain(socket));
    }
    if tls.is_direct() {
        let stream = tls.connect(socket, host).await?;
        // As in libpq: whoever does not name the protocol may be a server of another one (ALPACA).
        return match stream.alpn() == Some(tls::ALPN_POSTGRESQL) {
            true => Ok(stream),
            false => Err(Error::Alpn),
        };
    }
    let mut request = BytesMut::new();
    Packet::Ssl.write(&mut request);
    socket
        .write_all(&request)
        .await
        .map_err(Error::io("write"))?;
    // Exactly one byte: what follows it in clear is not the server's (CVE-2021-23222).
    match socket.read_u8().await {
        Ok(b'S') if tls::has_unread(&socket) => Err(Error::EarlyData),
        Ok(b'S') => Ok(tls.connect(socket, host).await?),
        Ok(b'N') => Err(Error::NoTls),
        // An `ErrorResponse` here is from a server that knows no TLS, or from whoever sits
        // between; either way nobody has proved anything, so it is not even read (CVE-2024-10977).
        Ok(byte) => Err(Error::TlsAnswer { byte }),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Error::Closed),
        Err(error) => Err(Error::io("read")(error)),
    }
}
