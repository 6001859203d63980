//! Backpressure towards the client: how much of what it sent waits for the server, and the connection
//! that is read no faster than that.
//!
//! The library gives a channel's window back as soon as data has come, whoever waits for it. Here the
//! window is kept at next to nothing while too much waits ([`Pressure::window`]), and the connection
//! is read in small bites, so that what is no data still comes through. It never stops: a server that
//! waits for the client's own window would otherwise wait for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A channel's window.
pub(super) const WINDOW: u32 = 512 << 10;
/// The smallest window that is given back at all: the library has no word for "not yet".
const CLOSED: u32 = 2;
/// Bytes of one connection that wait before windows are kept shut.
const HIGH: usize = 256 << 10;
/// What one waiting event that is no data counts for.
pub(super) const EVENT: usize = 512;
/// Most bytes of one connection that wait: what every channel's first window can hold, and more than
/// a client that keeps to its windows can send.
const MOST: usize = super::CHANNELS * (WINDOW as usize) + (8 << 20);
/// How often something is read while windows are shut, and how much.
const PACE: Duration = Duration::from_millis(10);
const BITE: usize = 4 << 10;

/// What waits of one connection.
#[derive(Debug, Default)]
pub(super) struct Pressure(AtomicUsize);

impl Pressure {
    /// Notes that something waits; `false` where the client has sent more than it may.
    pub(super) fn add(&self, bytes: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::AcqRel);
        before.saturating_add(bytes) <= MOST
    }

    /// Notes that it waits no longer.
    pub(super) fn remove(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// The window that channels get back now.
    pub(super) fn window(&self) -> u32 {
        match self.is_high() {
            true => CLOSED,
            false => WINDOW,
        }
    }

    fn is_high(&self) -> bool {
        self.0.load(Ordering::Acquire) > HIGH
    }
}

/// The client's connection, read as [`Pressure`] says, and over at once where that is said.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    pressure: Arc<Pressure>,
    pace: Pin<Box<Sleep>>,
    is_paced: bool,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    pub(super) fn new(
        stream: TcpStream,
        pressure: &Arc<Pressure>,
        over: &CancellationToken,
    ) -> Self {
        Self {
            stream,
            pressure: Arc::clone(pressure),
            pace: Box::pin(sleep(PACE)),
            is_paced: false,
            over: Box::pin(over.clone().cancelled_owned()),
        }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.over.as_mut().poll(cx).is_ready()
    }
}

fn over<T>() -> Poll<std::io::Result<T>> {
    Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()))
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.is_over(cx) {
            return over();
        }
        if !self.pressure.is_high() {
            self.is_paced = false;
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        if !self.is_paced {
            self.is_paced = true;
            self.pace.as_mut().reset(Instant::now() + PACE);
        }
        if self.pace.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.is_paced = false;
        let mut bite = [0; BITE];
        let room = into.remaining().min(BITE);
        let mut bite = ReadBuf::new(bite.get_mut(..room).unwrap_or_default());
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut bite);
        into.put_slice(bite.filled());
        read
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.is_over(cx) {
            return over();
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
