//! The way of a WebSocket that a client of HTTP/2 opens: a stream of the connection where its server takes such (RFC
//! 8441 §3), else a connection of its own, over which it is an upgrade.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::client::conn::http2::Connection;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::budget::Bounded;
use super::{Body, Failed, Reach, Sender, Tasks, Tried, Way, try_send};
use crate::policy::Permit;
use crate::protocol::http::Spoken;
use crate::tls::Stream;

/// Where one goes.
pub(crate) struct Socket {
    sender: Sender,
    spoken: Spoken,
}

impl Socket {
    /// What is spoken there.
    pub(crate) fn spoken(&self) -> Spoken {
        self.spoken
    }
}

/// Whether a server has said that it takes them on a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Takes(Arc<AtomicBool>);

impl Takes {
    fn is_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs a connection, and hears what its server says of it.
    pub(super) fn heard(
        &self,
        mut connection: Connection<TokioIo<Bounded<Stream>>, Body, Tasks>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let takes = Arc::clone(&self.0);
        poll_fn(move |context| {
            let polled = Pin::new(&mut connection).poll(context);
            let is_said = connection.is_extended_connect_protocol_enabled();
            takes.store(is_said, Ordering::Relaxed);
            polled.map(drop)
        })
    }
}

impl Reach {
    /// The way of the next one. What is signed is an upgrade: its method is part of what is.
    pub(crate) async fn socket(&self, way: &impl Way, signed: bool) -> Result<Socket, Failed> {
        let sender = self.sender(way, None).await?;
        let takes = |sender: &Sender| !signed && sender.takes.is_said();
        let spoken = Spoken::Two;
        if takes(&sender) {
            return Ok(Socket { sender, spoken });
        }
        match self.dial(way, &[Spoken::One]).await {
            Ok((sender, spoken, _)) => Ok(Socket { sender, spoken }),
            // What its server says first of all may not have been there yet.
            Err(_) if takes(&sender) => Ok(Socket { sender, spoken }),
            Err(failed) => Err(failed),
        }
    }

    /// Opens one that is permitted.
    pub(crate) async fn open(
        &self,
        permit: Permit,
        socket: Socket,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Permit), Failed> {
        match try_send(socket.sender, request).await {
            Ok(answer) => Ok((answer, permit)),
            Err(Tried::Failed(error)) => Err(self.failed(&error)),
            Err(Tried::Back(_)) => Err(self.failed(&"it closed the connection")),
        }
    }
}
