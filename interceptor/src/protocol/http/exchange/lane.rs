//! A body that is carried by a task of its own, and the way to it.
//!
//! Whoever takes a body must never take a part for the whole: it ends where its task says so, behind all that was
//! sent. (The `Channel` of `http-body-util` 0.1.5 ends as soon as its sender is gone, and looks for that behind the
//! frames: what is sent between the two looks is lost.)

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::sync::{mpsc, oneshot};

use crate::protocol::http::Body;

/// Frames that wait for whoever takes them.
const FRAMES: usize = 2;

/// The task's side. A body that is neither ended nor broken before this is dropped breaks.
pub(in crate::protocol::http) struct Lane {
    frames: mpsc::Sender<Frame<Bytes>>,
    end: oneshot::Sender<io::Result<()>>,
}

/// The taker's side.
struct Carried {
    frames: mpsc::Receiver<Frame<Bytes>>,
    /// How it ends; gone once that is told.
    end: Option<oneshot::Receiver<io::Result<()>>>,
}

/// A body, and the way to it.
pub(in crate::protocol::http) fn lane() -> (Lane, Body) {
    let (to, frames) = mpsc::channel(FRAMES);
    let (ends, end) = oneshot::channel();
    let carried = Carried {
        frames,
        end: Some(end),
    };
    let lane = Lane {
        frames: to,
        end: ends,
    };
    (lane, carried.boxed_unsync())
}

impl Lane {
    /// Sends what comes next, as soon as there is room; `false` where nobody takes it any more.
    pub(in crate::protocol::http) async fn send(&self, frame: Frame<Bytes>) -> bool {
        self.frames.send(frame).await.is_ok()
    }

    /// That was all of it.
    pub(in crate::protocol::http) fn ends(self) {
        self.over(Ok(()));
    }

    /// It does not come to its end.
    pub(in crate::protocol::http) fn breaks(self, error: io::Error) {
        self.over(Err(error));
    }

    fn over(self, end: io::Result<()>) {
        // Where nobody takes it, nobody wants to know how it ended.
        drop(self.end.send(end));
    }
}

impl hyper::body::Body for Carried {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(frame) = ready!(self.frames.poll_recv(context)) {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(end) = self.end.as_mut() else {
            return Poll::Ready(None);
        };
        let end = ready!(Pin::new(end).poll(context));
        self.end = None;
        Poll::Ready(match end {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(_dropped) => Some(Err(io::Error::other("it was left before its end"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::task::Waker;

    use hyper::body::Body as _;

    use super::*;

    fn frame() -> Frame<Bytes> {
        Frame::data(Bytes::from_static(b"x"))
    }

    /// Takes a body by looking again and again; how many frames came, and whether that was all of it.
    fn take(body: &mut Body) -> (usize, bool) {
        let mut context = Context::from_waker(Waker::noop());
        let mut frames = 0;
        loop {
            match Pin::new(&mut *body).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(_frame))) => frames += 1,
                Poll::Ready(Some(Err(_broken))) => return (frames, false),
                Poll::Ready(None) => return (frames, true),
                Poll::Pending => std::hint::spin_loop(),
            }
        }
    }

    #[test]
    fn nothing_that_was_sent_is_lost_at_the_end() {
        let (give, lanes) = sync_channel::<Lane>(64);
        let sender = std::thread::spawn(move || {
            for lane in lanes {
                lane.frames.try_send(frame()).unwrap();
                lane.ends();
            }
        });
        for round in 0..100_000 {
            let (lane, mut body) = lane();
            give.send(lane).unwrap();
            assert_eq!(take(&mut body), (1, true), "round {round}");
        }
        drop(give);
        sender.join().unwrap();
    }

    #[test]
    fn what_does_not_come_to_its_end_breaks_behind_what_came() {
        let breaks = |how: fn(Lane)| {
            let (lane, mut body) = lane();
            lane.frames.try_send(frame()).unwrap();
            how(lane);
            let taken = take(&mut body);
            assert_eq!(take(&mut body), (0, true), "it is told once");
            taken
        };
        assert_eq!(breaks(Lane::ends), (1, true));
        assert_eq!(breaks(drop), (1, false));
        assert_eq!(
            breaks(|lane| lane.breaks(io::Error::other("cut"))),
            (1, false)
        );
    }

    #[tokio::test]
    async fn who_sends_learns_that_nobody_takes_it() {
        let (lane, body) = lane();
        assert!(lane.send(frame()).await);
        drop(body);
        assert!(!lane.send(frame()).await);
    }
}
