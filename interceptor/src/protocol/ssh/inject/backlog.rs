//! Backpressure towards the server: how much of what it sent waits for the client, and a connection that is read no
//! faster than that.
//!
//! The library gives a channel's window back as soon as data has come, whoever waits for it, so what holds a loud server
//! up is a connection that is not read. What the server asks meanwhile is not heard either: it is told now and then
//! that somebody is there, and takes any word for an answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use russh::client::Handle;
use russh::{ChannelId, ChannelMsg, ChannelReadHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use super::{Guard, KEEPALIVE};
use crate::protocol::ssh::cut::Cut;

/// Bytes of one connection that wait before it is not read.
const HIGH: i64 = 1 << 20;
/// What one packet counts for beside its bytes.
const PACKET: i64 = 512;
/// Packets of a channel that may wait: more than [`HIGH`] lets come.
pub(super) const WAITING: usize = 4_096;
/// How often a server that is not read is told that somebody is there.
const LIFE: Duration = Duration::from_secs(1);
/// How long a server that is read may say nothing, though it is asked: four questions.
const DEAF: Duration = Duration::from_secs(4 * KEEPALIVE.as_secs());

/// What waits of one connection.
#[derive(Debug, Default)]
pub(in crate::protocol::ssh) struct Backlog {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Of each channel that somebody reads, or is about to. Below zero for a moment where a packet is read before it is
    /// counted.
    channels: HashMap<u32, i64>,
    total: i64,
    /// Who waits to read on.
    reader: Option<Waker>,
}

impl Backlog {
    /// A channel is open.
    pub(super) fn opens(&self, id: impl Into<u32>) {
        self.lock().channels.entry(id.into()).or_default();
    }

    /// A packet has come.
    pub(super) fn comes(&self, id: impl Into<u32>, bytes: usize) {
        self.counts(id.into(), weight(bytes));
        if self.is_high() {
            self.filled.notify_one();
        }
    }

    fn counts(&self, id: u32, weight: i64) {
        let mut waiting = self.lock();
        // Nobody reads it any more.
        let Some(channel) = waiting.channels.get_mut(&id) else {
            return;
        };
        *channel = channel.saturating_add(weight);
        waiting.total = waiting.total.saturating_add(weight);
        wake(waiting);
    }

    /// Nobody reads a channel any more: what waits is let go.
    fn forgets(&self, id: u32) {
        let mut waiting = self.lock();
        let left = waiting.channels.remove(&id).unwrap_or_default();
        waiting.total = waiting.total.saturating_sub(left);
        wake(waiting);
    }

    fn is_high(&self) -> bool {
        self.lock().total > HIGH
    }

    /// Whether the connection is not read now; whoever asks is woken when it is.
    fn holds(&self, cx: &Context<'_>) -> bool {
        let mut waiting = self.lock();
        let is_high = waiting.total > HIGH;
        waiting.reader = is_high.then(|| cx.waker().clone());
        is_high
    }

    /// Tells a server that is not read that somebody is there.
    pub(in crate::protocol::ssh) async fn lives(&self, handle: &Handle<Guard>) -> Infallible {
        loop {
            self.filled.notified().await;
            while self.is_high() {
                sleep(LIFE).await;
                if self.is_high() && handle.send_keepalive(false).await.is_err() {
                    std::future::pending::<Infallible>().await;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes who waits to read on, where that may be now.
fn wake(mut waiting: MutexGuard<'_, Waiting>) {
    if waiting.total > HIGH {
        return;
    }
    let reader = waiting.reader.take();
    drop(waiting);
    if let Some(reader) = reader {
        reader.wake();
    }
}

fn weight(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(HIGH).saturating_add(PACKET)
}

/// A channel's messages, which wait no longer once they are read.
pub(in crate::protocol::ssh) struct Messages {
    read: ChannelReadHalf,
    id: u32,
    backlog: Arc<Backlog>,
}

impl Messages {
    pub(in crate::protocol::ssh) fn new(
        read: ChannelReadHalf,
        id: ChannelId,
        backlog: &Arc<Backlog>,
    ) -> Self {
        Self {
            read,
            id: id.into(),
            backlog: Arc::clone(backlog),
        }
    }

    /// The next; `None` where the channel is gone.
    pub(in crate::protocol::ssh) async fn next(&mut self) -> Option<ChannelMsg> {
        let message = self.read.wait().await;
        if let Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) = &message {
            self.backlog.counts(self.id, -weight(data.len()));
        }
        message
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.backlog.forgets(self.id);
    }
}

/// The server's connection, read as its backlog says.
#[derive(Debug)]
pub(super) struct Line {
    stream: Cut,
    backlog: Arc<Backlog>,
    is_held: bool,
    heard: Instant,
    deaf: Pin<Box<Sleep>>,
}

impl Line {
    pub(super) fn new(stream: Cut, backlog: &Arc<Backlog>) -> Self {
        Self {
            stream,
            backlog: Arc::clone(backlog),
            is_held: false,
            heard: Instant::now(),
            deaf: Box::pin(sleep(DEAF)),
        }
    }

    /// Whether a server that is read has said nothing for too long.
    fn is_deaf(&mut self, cx: &mut Context<'_>) -> bool {
        while self.deaf.as_mut().poll(cx).is_ready() {
            let until = self.heard + DEAF;
            if until <= Instant::now() {
                return true;
            }
            self.deaf.as_mut().reset(until);
        }
        false
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let was_held = self.is_held;
        self.is_held = self.backlog.holds(cx);
        if self.is_held {
            // The end is heard all the same.
            return self.stream.is_over(cx);
        }
        if was_held {
            self.heard = Instant::now();
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        match read {
            Poll::Ready(_) => self.heard = Instant::now(),
            Poll::Pending if self.is_deaf(cx) => {
                return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_has_come_and_is_not_read_on_channels_that_somebody_reads() {
        let backlog = Backlog::default();
        let [one, two] = [1_u32, 2];
        backlog.opens(one);
        backlog.opens(two);
        let mebibyte = 1 << 20;
        backlog.comes(one, mebibyte);
        assert!(backlog.is_high());
        backlog.counts(one, -weight(mebibyte));
        assert!(!backlog.is_high());
        // A packet may be read before it is counted.
        backlog.counts(two, -weight(mebibyte));
        backlog.comes(two, mebibyte);
        assert_eq!(backlog.lock().total, 0);
        backlog.comes(two, mebibyte);
        backlog.forgets(two);
        assert!(!backlog.is_high());
        backlog.comes(two, mebibyte);
        assert!(!backlog.is_high(), "nobody reads it");
        for _ in 0..HIGH / PACKET {
            backlog.comes(one, 0);
        }
        assert!(!backlog.is_high());
        backlog.comes(one, 0);
        assert!(backlog.is_high(), "small packets take room, too");
    }
}
