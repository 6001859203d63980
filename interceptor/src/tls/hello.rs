//! A client's first message of TLS: heard as it was sent, so that it can be answered here, or go on as it is.

mod shape;

use std::io::ErrorKind;

use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;

pub use self::shape::Shape;
use super::Error;

/// Bytes of a record's head, and the most that a record holds besides (RFC 8446, 5.1 and 5.2).
const HEAD: usize = 5;
const RECORD: usize = (1 << 14) + 256;
/// Bytes of a first message in all its records; rustls reads no longer one.
const MOST: usize = 1 << 16;
/// What a client is told whose connection is to go nowhere: a fatal `access_denied` (RFC 8446, 6.2).
const DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// A handshake that a client has begun, and that waits for what it is answered.
pub struct Hello {
    pub(super) start: StartHandshake<TcpStream>,
    /// The records that were read, whole.
    sent: Vec<u8>,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Hello").finish_non_exhaustive()
    }
}

impl Hello {
    /// Hears one, and reads no byte of what comes behind it. The caller bounds time.
    pub(super) async fn hear(mut stream: TcpStream) -> Result<Self, Error> {
        let (mut acceptor, mut sent) = (Acceptor::default(), Vec::new());
        loop {
            let record = record(&mut stream).await.map_err(Error::Client)?;
            let mut rest = record.as_slice();
            while !rest.is_empty() {
                acceptor.read_tls(&mut rest).map_err(Error::Client)?;
            }
            sent.extend_from_slice(&record);
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let start = StartHandshake::from_parts(accepted, stream);
                    return Ok(Self { start, sent });
                }
                Ok(None) if sent.len() < MOST => {}
                Ok(None) => {
                    let wrong = std::io::Error::new(ErrorKind::InvalidData, "it does not end");
                    return Err(Error::Client(wrong));
                }
                Err((error, mut alert)) => {
                    let mut told = Vec::new();
                    if alert.write_all(&mut told).is_ok() {
                        // It may be gone already.
                        drop(stream.write_all(&told).await);
                    }
                    let wrong = std::io::Error::new(ErrorKind::InvalidData, error);
                    return Err(Error::Client(wrong));
                }
            }
        }
    }

    /// The name that the client sent, lower case and without a final dot.
    #[must_use]
    pub fn server_name(&self) -> Option<String> {
        let hello = self.start.client_hello();
        let name = hello.server_name()?;
        Some(name.trim_end_matches('.').to_ascii_lowercase())
    }

    /// Whether the client offers a protocol.
    #[must_use]
    pub fn offers(&self, protocol: &[u8]) -> bool {
        let hello = self.start.client_hello();
        let mut offered = hello.alpn().into_iter().flatten();
        offered.any(|offered| offered == protocol)
    }

    /// What it is made of; `None` where that cannot be read.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        Shape::of(&self.sent)
    }

    /// The connection, and what was read of it: it is answered by somebody else.
    #[must_use]
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.start.io, self.sent)
    }

    /// Tells the client that its connection goes nowhere.
    pub async fn deny(mut self) {
        if let Err(error) = self.start.io.write_all(&DENIED).await {
            tracing::debug!(%error, "a refused client was gone before it was told");
        }
    }
}

/// Reads one record, whole.
async fn record(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut record = vec![0; HEAD];
    stream.read_exact(&mut record).await?;
    let length = match record.as_slice() {
        [22, 3, _, high, low] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => return Err(std::io::Error::new(ErrorKind::InvalidData, "no handshake")),
    };
    if length == 0 || length > RECORD {
        let wrong = "a record of a length that none has";
        return Err(std::io::Error::new(ErrorKind::InvalidData, wrong));
    }
    record.resize(HEAD.saturating_add(length), 0);
    let rest = record.get_mut(HEAD..).unwrap_or_default();
    stream.read_exact(rest).await?;
    Ok(record)
}
