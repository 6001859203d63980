//! The console's connections: bounded in number, each in time, under TLS where it is configured.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::control::caller::guest::{AT_ONCE, Guest, Inside, Place};
use crate::control::door::Visit;

/// How long a handshake, and a request's head, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one connection may last.
const LONGEST: Duration = Duration::from_mins(10);
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// How long the listener rests after an error such as a full table of descriptors.
const REST: Duration = Duration::from_millis(100);

/// Takes connections until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    // More wait in the kernel's queue.
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let inside = Inside::default();
    loop {
        // Never closed, so there is always one to be had.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.ok(),
            () = stop.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let guest = Guest::of(&stream, address);
                // Who has too many is told nothing.
                let Some(own) = inside.enter(guest) else {
                    continue;
                };
                let router = router.clone().layer(Extension(guest));
                let one = one(stream, (place, own), tls.clone(), router);
                let stop = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = one => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection for the console");
                sleep(REST).await;
            }
        }
    }
}

async fn one(
    stream: TcpStream,
    place: (Option<OwnedSemaphorePermit>, Place),
    tls: Option<TlsAcceptor>,
    router: Router,
) {
    let visit = Visit::new(stream, place, LONGEST);
    let served = match tls {
        None => answer(visit, router).await,
        Some(tls) => match timeout(PATIENCE, tls.accept(visit)).await {
            Ok(Ok(stream)) => answer(stream, router).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("its handshake took too long".to_owned()),
        },
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the console ended");
    }
}

async fn answer<S>(stream: S, router: Router) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    served.map_err(|error| error.to_string())
}
