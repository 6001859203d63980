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
use tokio_util::sync::CancellationToken;

use super::super::cut::Cut;

/// A channel's window.
pub(in crate::protocol::ssh) const WINDOW: u32 = 512 << 10;
/// The smallest window that is given back at all: the library has no word for "not yet".
const CLOSED: u32 = 2;
/// Bytes of one connection that wait before windows are kept shut.
const HIGH: usize = 256 << 10;
/// What one waiting event that is no data counts for.
pub(in crate::protocol::ssh) const EVENT: usize = 512;
/// Most bytes of one connection that wait: what every channel's first window can hold, and more than
/// a client that keeps to its windows can send.
const MOST: usize = crate::protocol::ssh::CHANNELS * (WINDOW as usize) + (8 << 20);
/// How often something is read while windows are shut, and how much.
const PACE: Duration = Duration::from_millis(10);
const BITE: usize = 4 << 10;

/// What waits of one connection.
#[derive(Debug, Default)]
pub(in crate::protocol::ssh) struct Pressure(AtomicUsize);

impl Pressure {
    /// Notes that something waits; `false` where the client has sent more than it may.
    pub(in crate::protocol::ssh) fn add(&self, bytes: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::AcqRel);
        before.saturating_add(bytes) <= MOST
    }

    /// Notes that it waits no longer.
    pub(in crate::protocol::ssh) fn remove(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// The window that channels get back now.
    pub(in crate::protocol::ssh) fn window(&self) -> u32 {
        match self.is_high() {
            true => CLOSED,
            false => WINDOW,
        }
    }

    fn is_high(&self) -> bool {
        self.0.load(Ordering::Acquire) > HIGH
    }
}

/// The client's connection, read as [`Pressure`] says.
#[derive(Debug)]
pub(in crate::protocol::ssh) struct Line {
    stream: Cut,
    pressure: Arc<Pressure>,
    pace: Pin<Box<Sleep>>,
    is_paced: bool,
}

impl Line {
    pub(in crate::protocol::ssh) fn new(
        stream: TcpStream,
        pressure: &Arc<Pressure>,
        over: &CancellationToken,
    ) -> Self {
        Self {
            stream: Cut::new(stream, over),
            pressure: Arc::clone(pressure),
            pace: Box::pin(sleep(PACE)),
            is_paced: false,
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.pressure.is_high() {
            self.is_paced = false;
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        if !self.is_paced {
            self.is_paced = true;
            self.pace.as_mut().reset(Instant::now() + PACE);
        }
        if self.pace.as_mut().poll(cx).is_pending() {
            // The end is heard all the same.
            return self.stream.is_over(cx);
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
