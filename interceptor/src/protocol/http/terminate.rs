//! The client's side up to its first request: in clear or under TLS, HTTP/1 or HTTP/2. Whoever is silent decides
//! nothing; the caller bounds time.

pub(super) mod passing;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Spoken;
use super::wire::{self, Sniffed};
use crate::config::Host;
use crate::tls::{self, ALPN_HTTP1, ALPN_HTTP2, Authority, Hello, Stream};

/// Why a client does not come to ask for anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Reading failed.
    #[error("read the client's first bytes: {0}")]
    Read(#[from] io::Error),
    /// It closed.
    #[error("the client closed before it asked for anything")]
    Silent,
    /// What it says is not HTTP.
    #[error("what the client says is not HTTP")]
    NotHttp,
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

impl Error {
    /// What it said or did that does not take the certificate, where that is why.
    pub(crate) fn distrust(&self) -> Option<&'static str> {
        match self {
            Self::Tls(error) => error.distrust(),
            Self::Read(_) | Self::Silent | Self::NotHttp => None,
        }
    }
}

/// What a client has begun with.
pub(crate) enum Heard {
    /// A handshake.
    Tls(Box<Hello>),
    /// Requests in clear.
    Clear(Client),
}

/// A client's connection, ready to be served.
#[derive(Debug)]
pub(crate) struct Client {
    /// What was read of it, from `at` on.
    first: Vec<u8>,
    at: usize,
    stream: Stream,
    spoken: Spoken,
}

impl Client {
    /// What it speaks.
    pub(crate) fn spoken(&self) -> Spoken {
        self.spoken
    }
}

/// Hears what a client begins with.
pub(crate) async fn hear(client: TcpStream, authority: &Authority) -> Result<Heard, Error> {
    let mut first = [0];
    if client.peek(&mut first).await? == 0 {
        return Err(Error::Silent);
    }
    match first {
        [wire::TLS_HANDSHAKE] => Ok(Heard::Tls(Box::new(authority.hear(client).await?))),
        _ => Ok(Heard::Clear(sniffed(Stream::Plain(client)).await?)),
    }
}

/// One that has begun with a request in clear of which this was read.
pub(crate) fn begun(first: Vec<u8>, client: TcpStream) -> Heard {
    Heard::Clear(Client {
        first,
        at: 0,
        stream: Stream::Plain(client),
        spoken: Spoken::One,
    })
}

/// Reads until it is clear what is spoken.
async fn sniffed(mut stream: Stream) -> Result<Client, Error> {
    let mut first = Vec::with_capacity(wire::PREFACE.len());
    loop {
        let spoken = match wire::sniff(&first) {
            Some(Sniffed::One) => Spoken::One,
            Some(Sniffed::Two) => Spoken::Two,
            Some(Sniffed::Neither) => return Err(Error::NotHttp),
            None => {
                let mut more = [0; 64];
                match stream.read(&mut more).await? {
                    0 => return Err(Error::Silent),
                    count => first.extend_from_slice(more.get(..count).unwrap_or_default()),
                }
                continue;
            }
        };
        return Ok(Client {
            first,
            at: 0,
            stream,
            spoken,
        });
    }
}

impl Heard {
    /// The name that the client sent.
    pub(crate) fn server_name(&self) -> Option<String> {
        match self {
            Self::Tls(hello) => hello.server_name(),
            Self::Clear(_) => None,
        }
    }

    /// What the client can speak, the best first.
    pub(crate) fn offered(&self) -> Vec<Spoken> {
        match self {
            Self::Clear(client) => vec![client.spoken],
            Self::Tls(hello) if !hello.offers(ALPN_HTTP2) => vec![Spoken::One],
            Self::Tls(hello) if hello.offers(ALPN_HTTP1) => vec![Spoken::Two, Spoken::One],
            Self::Tls(_) => vec![Spoken::Two],
        }
    }

    /// Finishes the handshake as the upstream did its own.
    pub(crate) async fn answered(
        self,
        authority: &Authority,
        names: &[Host],
        spoken: Spoken,
    ) -> Result<Client, Error> {
        match self {
            Self::Clear(client) => Ok(client),
            Self::Tls(hello) => {
                let chosen = spoken.alpn();
                let chosen = hello.offers(chosen).then_some(chosen);
                let stream = authority.answer(*hello, names, chosen).await?;
                Ok(Client {
                    first: Vec::new(),
                    at: 0,
                    stream,
                    spoken,
                })
            }
        }
    }

    /// Finishes it for a client that is only told why not.
    pub(crate) async fn refused(
        self,
        authority: &Authority,
        names: &[Host],
    ) -> Result<Client, Error> {
        let spoken = self.offered().into_iter().next().unwrap_or(Spoken::One);
        self.answered(authority, names, spoken).await
    }
}

impl Spoken {
    /// Its name in ALPN.
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::One => ALPN_HTTP1,
            Self::Two => ALPN_HTTP2,
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let client = self.get_mut();
        let left = client.first.get(client.at..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut client.stream).poll_read(cx, buf);
        }
        let count = left.len().min(buf.remaining());
        buf.put_slice(left.get(..count).unwrap_or_default());
        client.at = client.at.saturating_add(count);
        if client.at >= client.first.len() {
            client.first = Vec::new();
            client.at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
