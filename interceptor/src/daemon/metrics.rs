//! Metrics over TCP, where an address is configured. Scopes cannot reach it: the address is reserved
//! in the kernel (`Capture::reserve`), whatever rules say. Everybody else may ask, a few at a time and for a
//! bounded time: nobody may use up the daemon's descriptors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::door::REST;
use crate::control::door::Visit;
use crate::control::status;
use crate::session::services::Services;

/// Connections at once; more wait in the kernel's queue.
const AT_ONCE: usize = 16;
/// How long one may last: a scrape takes a moment, and who says nothing keeps a place from somebody else.
const LONGEST: Duration = Duration::from_secs(5);

/// Binds the address, if one is configured.
pub(super) async fn listen(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| {
        format!("cannot listen on {address} for metrics; is the port of `metrics` taken?")
    })?;
    Ok(Some(listener))
}

/// Serves `/metrics` until `stop`.
pub(super) async fn serve(services: Arc<Services>, listener: TcpListener, stop: CancellationToken) {
    let answer =
        |State(services): State<Arc<Services>>| async move { status::exposition(&services) };
    let router = Router::new()
        .route("/metrics", get(answer))
        .with_state(services);
    let listener = Bounded::new(listener, LONGEST);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the metrics listener ended");
    }
}

/// The listener, with so many places.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    longest: Duration,
}

impl Bounded {
    fn new(listener: TcpListener, longest: Duration) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            longest,
        }
    }
}

impl Listener for Bounded {
    type Io = Visit<TcpStream, Option<OwnedSemaphorePermit>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        // Never closed, so there is always one to be had.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    return (Visit::new(stream, place, self.longest), address);
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a client of the daemon, not the daemon"
    )]
    #[tokio::test]
    async fn those_who_do_not_go_away_are_bounded_in_number_and_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::new(listener, Duration::ZERO);
        let mut clients = Vec::new();
        let mut visits = Vec::new();
        for _ in 0..AT_ONCE {
            clients.push(TcpStream::connect(address).await.unwrap());
            visits.push(bounded.accept().await.0);
        }
        clients.push(TcpStream::connect(address).await.unwrap());
        let mut next = Box::pin(bounded.accept());
        let tried = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
        assert!(tried.is_pending());
        // One whose time is over is no more read, and makes room.
        let mut over = visits.pop().unwrap();
        let read = over.read(&mut [0]).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(over);
        next.await;
    }
}
