//! The rest of a request's body that nobody wants: read to its end where that is near, before its stream or its
//! connection ends. A client that is cut off while it still sends may take that for an error, and lose the answer that
//! it has.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::Tasks;

/// Bytes that are read of it, and how long: what is longer, or comes more slowly, is cut off.
const MOST: usize = 1 << 20;
const COMES: Duration = Duration::from_secs(5);

/// A body as it comes; what is not read of it is left when this is dropped.
pub(in crate::protocol::http) struct Rest {
    /// None once it has come to its end.
    body: Option<Incoming>,
    tasks: Tasks,
    /// Its client sends nothing before it is told to go on, which reading does.
    waits: bool,
}

impl Rest {
    /// The body of a request with these headers.
    pub(in crate::protocol::http) fn new(
        body: Incoming,
        headers: &HeaderMap,
        tasks: &Tasks,
    ) -> Self {
        Self {
            body: Some(body),
            tasks: tasks.clone(),
            waits: headers.contains_key(header::EXPECT),
        }
    }
}

impl Body for Rest {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.body.as_ref().map_or(none, Body::size_hint)
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let is_over = self.waits || self.is_end_stream() || Handle::try_current().is_err();
        if let Some(body) = self.body.take().filter(|_| !is_over) {
            self.tasks.run(async move {
                drop(timeout(COMES, left(body)).await);
            });
        }
    }
}

/// Reads what comes, and keeps nothing of it.
async fn left(mut body: Incoming) {
    let mut room = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match room.checked_sub(bytes) {
            Some(left) => room = left,
            None => return,
        }
    }
}
