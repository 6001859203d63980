//! The upstream's side: dialled with what the client offers, and dialled anew where the server has closed between
//! two requests. A connection belongs to one client at a time; whoever sends a request on it gives its permit away.

mod budget;
mod life;
pub(crate) mod pool;
mod socket;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::budget::{Bounded, Budget};
pub(crate) use self::life::Lease;
use self::life::Life;
use self::pool::{Kept, Key, Pool};
pub(crate) use self::socket::Socket;
use self::socket::Takes;
use super::{Body, CONNECTION_WINDOW, HEADERS_MAX, SEND_MAX, STREAM_WINDOW, Spoken, empty};
use crate::config::{Host, Inject, SecretSource, Target};
use crate::policy::{Permit, Refusal};
use crate::secrets::Secret;
use crate::session::beside::Beside;
use crate::session::opening::Opening;
use crate::tls::{self, Stream};

/// Bytes of a connection's buffers of HTTP/1.
const BUFFER_MAX: usize = 256 << 10;

/// How a target is reached: with what stands behind a session, or will.
pub(crate) trait Way: Send + Sync + 'static {
    /// Connects to an address.
    fn dial(&self, to: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send;

    /// What a request is given: a secret, or a token, and another one than the one that was refused.
    fn credential(
        &self,
        _inject: &Inject,
        _refused: Option<&Secret>,
    ) -> impl Future<Output = Option<Secret>> + Send {
        async { None }
    }

    /// The host and port that a request names to a proxy, which is to make it itself.
    fn made_by_proxy(&self) -> Option<String> {
        None
    }

    /// What belongs to it and comes from elsewhere.
    fn secret(&self, _source: &SecretSource) -> impl Future<Output = Option<Secret>> + Send {
        async { None }
    }
}

impl Way for Beside {
    async fn dial(&self, to: SocketAddr) -> io::Result<TcpStream> {
        Self::dial(self, to).await
    }

    async fn credential(&self, inject: &Inject, refused: Option<&Secret>) -> Option<Secret> {
        match inject {
            Inject::Issued(client) => self.token(client, refused).await,
            inject => self.secret(inject.secret()).await,
        }
    }

    fn made_by_proxy(&self) -> Option<String> {
        Self::made_by_proxy(self)
    }

    async fn secret(&self, source: &SecretSource) -> Option<Secret> {
        Self::secret(self, source).await
    }
}

impl Way for Opening {
    async fn dial(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.dial_at(to).await
    }
}

/// What a connection has running; all of it ends with the session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    /// Runs something for as long as the connection's session lasts.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Resolves when nothing runs any more, once nothing is begun any more.
    pub(crate) async fn done(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends all of it.
    pub(crate) fn stop(&self) {
        self.token.cancel();
    }
}

impl<F: Future + Send + 'static> hyper::rt::Executor<F> for Tasks
where
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.run(async move { drop(task.await) });
    }
}

/// Where requests of one connection go.
pub(crate) struct Reach {
    target: Arc<Target>,
    tls: Arc<tls::Upstream>,
    places: Arc<[(Host, SocketAddr)]>,
    spoken: Spoken,
    /// As whom it was dialled, and where.
    place: (Host, SocketAddr),
    /// What was offered to the server.
    offered: Vec<Spoken>,
    /// Where the connection comes from, and is left for the next client; none where it is the client's alone.
    pool: Option<(Arc<Pool>, Key)>,
    sender: tokio::sync::Mutex<Option<Sender>>,
}

/// A connection that requests are sent on, and what its server may send besides answers.
#[derive(Clone)]
struct Sender {
    kind: Kind,
    budget: Budget,
    life: Arc<Life>,
    takes: Takes,
}

#[derive(Clone)]
enum Kind {
    One(Arc<tokio::sync::Mutex<http1::SendRequest<Body>>>),
    Two(http2::SendRequest<Body>),
}

/// Why a request has no answer.
pub(crate) struct Failed {
    /// For the agent.
    pub(crate) refusal: Refusal,
    /// For the log.
    pub(crate) cause: String,
}

/// A request that may not have been sent comes back.
enum Tried {
    Back(Box<Request<Body>>),
    Failed(hyper::Error),
}

impl Reach {
    /// Nothing is dialled yet. With a pool, a connection that nobody uses may be there already.
    pub(crate) fn new(
        target: Arc<Target>,
        tls: Arc<tls::Upstream>,
        places: Arc<[(Host, SocketAddr)]>,
        pool: Option<(Arc<Pool>, Key)>,
    ) -> Self {
        Self {
            target,
            tls,
            places,
            spoken: Spoken::One,
            place: (
                Host::Ip(Ipv4Addr::UNSPECIFIED.into()),
                SocketAddr::from(([0, 0, 0, 0], 0)),
            ),
            offered: Vec::new(),
            pool,
            sender: tokio::sync::Mutex::default(),
        }
    }

    /// Dials for the first time, with what the client offers.
    pub(crate) async fn begin(
        mut self,
        way: &impl Way,
        offered: &[Spoken],
    ) -> Result<Self, (Refusal, Option<String>)> {
        let (sender, spoken, place) = match self.kept(offered) {
            Some(kept) => (kept.sender, kept.spoken, kept.place),
            None => {
                let dialled = self.dial(way, offered).await;
                dialled.map_err(|failed| (failed.refusal, Some(failed.cause)))?
            }
        };
        self.offered = offered.to_vec();
        self.spoken = spoken;
        self.place = place;
        self.sender = tokio::sync::Mutex::new(Some(sender));
        Ok(self)
    }

    /// A connection that was dialled for another client of the scope, as it would be dialled now.
    fn kept(&self, offered: &[Spoken]) -> Option<Kept> {
        let (pool, key) = self.pool.as_ref()?;
        pool.take(|kept| {
            kept.key == *key
                && Arc::ptr_eq(&kept.tls, &self.tls)
                && self.is_for(&kept.target)
                && kept.offered == offered
                && self.places.contains(&kept.place)
        })
    }

    /// Leaves the connection: to the next client where nothing is under way on it, or closed.
    pub(crate) async fn leave(&self, is_over: bool) {
        let Some(sender) = self.sender.lock().await.take() else {
            return;
        };
        match &self.pool {
            Some((pool, key)) if is_over && !sender.life.is_bound() => {
                let settings = (key.clone(), Arc::clone(&self.target), Arc::clone(&self.tls));
                let connection = (sender, self.spoken, self.place.clone());
                pool.keep(Kept::new(settings, self.offered.clone(), connection));
            }
            _ => sender.life.end(),
        }
    }

    /// What is spoken.
    pub(crate) fn spoken(&self) -> Spoken {
        self.spoken
    }

    /// Where it was dialled first.
    pub(crate) fn address(&self) -> SocketAddr {
        self.place.1
    }

    /// Whether it is a cluster that requests go to.
    pub(crate) fn is_cluster(&self) -> bool {
        self.target.kubernetes().is_some()
    }

    /// Whether another configuration of the target leads to the same place in the same way.
    pub(crate) fn is_for(&self, target: &Target) -> bool {
        self.target.tls == target.tls
            && self.target.dial == target.dial
            && self.target.addresses == target.addresses
            && self.target.namespace == target.namespace
    }

    /// Sends a request that is permitted; the permit comes back with its answer, for the same request alone.
    pub(crate) async fn send(
        &self,
        permit: Permit,
        way: &impl Way,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Permit), Failed> {
        let sender = self.sender(way, None).await?;
        let tried = Arc::clone(&sender.life);
        let again = again(&request).filter(|_| sender.life.is_used());
        let back = match try_send(sender, request).await {
            Ok(answer) => return Ok((answer, permit)),
            // The server closed what nobody used for a while, and may have done so when it saw the request. This one
            // changes nothing, however often it comes.
            Err(Tried::Failed(error)) => match again.filter(|_| is_closed(&error)) {
                Some(again) => again,
                None => return Err(self.failed(&error)),
            },
            // The same, and nothing of the request was sent.
            Err(Tried::Back(request)) => *request,
        };
        let sender = self.sender(way, Some(&tried)).await?;
        match try_send(sender, back).await {
            Ok(answer) => Ok((answer, permit)),
            Err(Tried::Failed(error)) => Err(self.failed(&error)),
            Err(Tried::Back(_)) => Err(self.failed(&"it closed the connection")),
        }
    }

    /// The connection, dialled anew where it is not open, or is the one that `failed`: of many requests that come
    /// back from it, the first dials for all.
    async fn sender(&self, way: &impl Way, failed: Option<&Arc<Life>>) -> Result<Sender, Failed> {
        let mut held = self.sender.lock().await;
        let is_another =
            |sender: &&Sender| failed.is_none_or(|failed| !Arc::ptr_eq(failed, &sender.life));
        if let Some(sender) = held.as_ref().filter(is_another)
            && sender.is_open().await
        {
            return Ok(sender.clone());
        }
        let offered = [self.spoken];
        let (sender, _, _) = self.dial(way, &offered).await?;
        *held = Some(sender.clone());
        Ok(sender)
    }

    async fn dial(
        &self,
        way: &impl Way,
        offered: &[Spoken],
    ) -> Result<(Sender, Spoken, (Host, SocketAddr)), Failed> {
        let mut last = self.failed(&"it has no address");
        let patience = match self.places.len() {
            0 | 1 => self.target.timeouts.dial,
            _ => self.target.dial.timeout,
        };
        for (host, address) in self.places.iter() {
            let dialled = timeout(patience, self.dial_at(way, host, *address, offered));
            let connected = match dialled.await {
                Ok(Ok((stream, spoken))) => {
                    shake(stream, spoken).await.map(|sender| (sender, spoken))
                }
                Ok(Err(cause)) => {
                    last = self.failed(&cause);
                    continue;
                }
                Err(_elapsed) => {
                    last = self.failed(&"it did not answer in time");
                    continue;
                }
            };
            match connected {
                Ok((sender, spoken)) => {
                    return Ok((sender, spoken, (host.clone(), *address)));
                }
                Err(error) => last = self.failed(&error),
            }
        }
        Err(last)
    }

    async fn dial_at(
        &self,
        way: &impl Way,
        host: &Host,
        address: SocketAddr,
        offered: &[Spoken],
    ) -> Result<(Stream, Spoken), String> {
        let stream = way.dial(address).await.map_err(|error| error.to_string())?;
        if !self.tls.wanted() {
            // In clear nobody chooses: what the client speaks is spoken.
            let spoken = offered.last().copied().unwrap_or(Spoken::One);
            return Ok((Stream::Plain(stream), spoken));
        }
        let protocols: Vec<_> = offered.iter().map(|spoken| spoken.alpn()).collect();
        let stream = self.tls.connect_as(stream, host, &protocols).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let spoken = match stream.alpn() {
            Some(alpn) if alpn == Spoken::Two.alpn() => Spoken::Two,
            _ => Spoken::One,
        };
        match offered.contains(&spoken) {
            true => Ok((stream, spoken)),
            false => Err("it speaks another version of HTTP than the client".to_owned()),
        }
    }

    fn failed(&self, cause: &dyn std::fmt::Display) -> Failed {
        let message = format!("the server of target {} gave no answer", self.target.name);
        Failed {
            refusal: Refusal::upstream(&message),
            cause: cause.to_string(),
        }
    }
}

impl Sender {
    async fn is_open(&self) -> bool {
        match &self.kind {
            // One that is in use is open.
            Kind::One(sender) => match sender.try_lock() {
                Ok(mut sender) => sender.ready().await.is_ok(),
                Err(_in_use) => true,
            },
            Kind::Two(sender) => !sender.is_closed(),
        }
    }

    /// Whether it stands and nothing is under way on it.
    fn is_idle(&self) -> bool {
        match &self.kind {
            Kind::One(sender) => sender.try_lock().is_ok_and(|sender| sender.is_ready()),
            Kind::Two(sender) => sender.is_ready(),
        }
    }

    /// Waits until nothing is under way; whether it stands.
    async fn settles(&self) -> bool {
        match &self.kind {
            Kind::One(sender) => sender.lock().await.ready().await.is_ok(),
            Kind::Two(sender) => sender.clone().ready().await.is_ok(),
        }
    }
}

/// The same request once more, where it changes nothing and has no body.
fn again(request: &Request<Body>) -> Option<Request<Body>> {
    let changes_nothing = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let is_plain = !request.headers().contains_key(header::UPGRADE);
    if !changes_nothing || !is_plain || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(empty());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    Some(again)
}

/// Whether the server has closed the connection where an answer would have begun.
fn is_closed(error: &hyper::Error) -> bool {
    let below = std::error::Error::source(error);
    let below = below.and_then(|below| below.downcast_ref::<io::Error>());
    let is_broken = below.is_some_and(|error| {
        let kind = error.kind();
        matches!(
            kind,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        )
    });
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_broken
}

async fn shake(stream: Stream, spoken: Spoken) -> hyper::Result<Sender> {
    let (budget, life) = (Budget::of(spoken), Life::default());
    let takes = Takes::default();
    let stream = TokioIo::new(Bounded::new(stream, budget.clone()));
    let kind = match spoken {
        Spoken::One => {
            let builder = http1::Builder::new()
                .preserve_header_case(true)
                .max_headers(HEADERS_MAX)
                .max_buf_size(BUFFER_MAX)
                .handshake(stream);
            let (sender, connection) = builder.await?;
            life.run(async move { drop(connection.with_upgrades().await) });
            Kind::One(Arc::new(tokio::sync::Mutex::new(sender)))
        }
        Spoken::Two => {
            let builder = http2::Builder::new(life.tasks())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_MAX)
                .handshake(stream);
            let (sender, connection) = builder.await?;
            life.run(takes.heard(connection));
            Kind::Two(sender)
        }
    };
    let life = Arc::new(life);
    Ok(Sender {
        kind,
        budget,
        life,
        takes,
    })
}

async fn try_send(sender: Sender, request: Request<Body>) -> Result<Response<Incoming>, Tried> {
    let Sender {
        kind, budget, life, ..
    } = sender;
    budget.renew();
    life.uses();
    let tried = match kind {
        Kind::One(sender) => {
            let mut sender = sender.lock().await;
            if sender.ready().await.is_err() {
                return Err(Tried::Back(Box::new(request)));
            }
            let sent = sender.try_send_request(request);
            drop(sender);
            sent.await
        }
        Kind::Two(mut sender) => {
            if sender.ready().await.is_err() {
                return Err(Tried::Back(Box::new(request)));
            }
            sender.try_send_request(request).await
        }
    };
    let mut answer = tried.map_err(|mut error| match error.take_message() {
        Some(request) => Tried::Back(Box::new(request)),
        None => Tried::Failed(error.into_error()),
    })?;
    budget.renew();
    life.looks(&answer);
    answer.extensions_mut().insert(Lease::of(budget, life));
    Ok(answer)
}

#[cfg(test)]
mod tests;
