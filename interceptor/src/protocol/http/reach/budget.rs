//! How much a server may send that gets nobody anywhere: hints without end, heads, sizes and settings that go on and
//! on. Whoever waits for an answer waits as long as the target says; whoever is flooded does not.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::protocol::http::{CONNECTION_WINDOW, Spoken};

/// Bytes without a head or a piece of a body, in HTTP/1: of what is read at a time there is always something.
const MOST: usize = 1 << 20;
/// The same in HTTP/2: twice what may wait of a connection for who reads it.
const MOST_OF_STREAMS: usize = 2 * CONNECTION_WINDOW as usize;
/// After how many of them others have their turn.
const TURN: usize = 64 << 10;
/// Of so many bytes that go to a server it may acknowledge one.
const ACKNOWLEDGED: usize = 64;

/// What a connection's server has sent since it last got somebody anywhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<State>);

#[derive(Debug, Default)]
struct State {
    most: usize,
    /// Others go by the same connection: it never becomes something else.
    is_shared: bool,
    spent: AtomicUsize,
    is_lifted: AtomicBool,
}

impl Budget {
    pub(super) fn of(spoken: Spoken) -> Self {
        Self(Arc::new(State {
            most: match spoken {
                Spoken::One => MOST,
                Spoken::Two => MOST_OF_STREAMS,
            },
            is_shared: spoken == Spoken::Two,
            ..State::default()
        }))
    }

    /// A request goes out, a head or a piece of a body has come.
    pub(super) fn renew(&self) {
        self.0.spent.store(0, Ordering::Relaxed);
    }

    /// The connection has become something else, where it can.
    pub(super) fn lift(&self) {
        if !self.0.is_shared {
            self.0.is_lifted.store(true, Ordering::Relaxed);
        }
    }

    fn read(&self, count: usize) -> io::Result<()> {
        let spent = self.0.spent.fetch_add(count, Ordering::Relaxed);
        match spent.saturating_add(count) > self.0.most && !self.0.is_lifted.load(Ordering::Relaxed)
        {
            true => Err(io::Error::other(
                "it sends what is part of no answer, without end",
            )),
            false => Ok(()),
        }
    }

    /// Whether the last bytes got somebody somewhere.
    fn is_fresh(&self) -> bool {
        self.0.spent.load(Ordering::Relaxed) == 0
    }

    fn written(&self, count: usize) {
        let allowed = count / ACKNOWLEDGED;
        let spent = &self.0.spent;
        // Two at once make it less exact, nothing more.
        let left = spent.load(Ordering::Relaxed).saturating_sub(allowed);
        spent.store(left, Ordering::Relaxed);
    }
}

/// A connection that keeps to its budget.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    stream: S,
    budget: Budget,
    /// Bytes since others had their turn.
    turn: usize,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S, budget: Budget) -> Self {
        Self {
            stream,
            budget,
            turn: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn >= TURN {
            this.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        match read {
            Poll::Ready(Ok(())) => {
                let count = buf.filled().len().saturating_sub(before);
                this.turn = match this.budget.is_fresh() {
                    true => 0,
                    false => this.turn.saturating_add(count),
                };
                Poll::Ready(this.budget.read(count))
            }
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &written {
            this.budget.written(*count);
        }
        written
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
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(count)) = &written {
            this.budget.written(*count);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
