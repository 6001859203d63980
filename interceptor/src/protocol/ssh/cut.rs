//! A connection that is over when that is said. The library serves each in a task of its own, which hears
//! nobody while its peer leaves an exchange of keys open, or a window shut: that task ends with its connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// One connection.
#[derive(Debug)]
pub(super) struct Cut {
    stream: TcpStream,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cut {
    pub(super) fn new(stream: TcpStream, over: &CancellationToken) -> Self {
        Self {
            stream,
            over: Box::pin(over.clone().cancelled_owned()),
        }
    }

    /// Waits for the end, and reads nothing meanwhile.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.on(cx) {
            Ok(_stream) => Poll::Pending,
            Err(over) => Poll::Ready(Err(over)),
        }
    }

    fn on(&mut self, cx: &mut Context<'_>) -> std::io::Result<Pin<&mut TcpStream>> {
        match self.over.as_mut().poll(cx) {
            Poll::Ready(()) => Err(std::io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.on(cx) {
            Ok(stream) => stream.poll_read(cx, into),
            Err(over) => Poll::Ready(Err(over)),
        }
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.on(cx) {
            Ok(stream) => stream.poll_write(cx, bytes),
            Err(over) => Poll::Ready(Err(over)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
