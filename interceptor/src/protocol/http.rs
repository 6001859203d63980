//! HTTP/1.1 and HTTP/2: one connection from its first byte to its last.
//!
//! The client's first bytes say whether it speaks TLS; the upstream is dialled with what the client offers, and the
//! client is answered with what the upstream chose, so that nothing is translated. Each request is judged by
//! itself, given the target's credential, and its answer masked on the way.

mod answer;
mod exchange;
pub mod facts;
mod inject;
pub mod mask;
mod reach;
mod record;
mod refuse;
mod terminate;
pub mod transcript;
pub mod wire;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Duration, timeout};

use self::exchange::Exchange;
use self::exchange::rest::Rest;
use self::inject::conceal::Given;
use self::mask::grpc::Schemas;
use self::reach::pool::{Key, Pool};
use self::reach::{Reach, Tasks};
use self::terminate::{Client, Heard};
use crate::config::{Host, Http};
use crate::policy::Refusal;
use crate::protocol::kubernetes::inject::Caller;
use crate::secrets::Secret;
use crate::session::beside::Beside;
use crate::session::opening::{Opened, Opening};
use crate::session::{Gate as _, Session};
use crate::tls::{Authority, Dialled, Roots};

/// Bytes of a head; the buffers of a connection of HTTP/1 grow no further.
const HEAD_MAX: usize = 64 << 10;
/// Headers of one head.
const HEADERS_MAX: usize = 256;
/// Streams of one connection at a time.
const STREAMS_MAX: u32 = 128;
/// Bytes of one stream that wait for a peer to make room for them.
const SEND_MAX: usize = 16 << 10;
/// What a peer may send of one stream, and of all of a connection, before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The body of a message that goes on.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// What a client is answered.
pub(crate) type Answer = Response<Body>;

/// A body that is there as a whole.
fn whole(bytes: Bytes) -> Answer {
    Response::new(Full::new(bytes).map_err(never).boxed_unsync())
}

/// A body without anything in it.
fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

fn never(never: Infallible) -> io::Error {
    match never {}
}

/// Which HTTP is spoken, on both sides of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// Which of a connection's requests are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requests {
    /// The first.
    One,
    All,
}

/// What the connections of every HTTP target share. One for the daemon.
#[derive(Debug, Default)]
pub struct Engine {
    roots: Roots,
    given: Arc<Given>,
    pool: Arc<Pool>,
    proved: terminate::passing::Proved,
    schemas: Arc<Schemas>,
}

impl Engine {
    /// Forgets what was kept of the configuration before a reload.
    pub fn forget(&self) {
        self.roots.forget();
        self.given.forget();
        self.pool.forget();
        self.proved.forget();
        self.schemas.forget();
    }

    /// Keeps nothing any more: the daemon stops.
    pub fn close(&self) {
        self.pool.forget();
    }

    /// Serves one admitted connection to its close.
    pub async fn serve(&self, opening: Opening, client: TcpStream, settings: &Arc<Http>) {
        let patience = opening.who().target.timeouts.startup;
        let heard = timeout(patience, terminate::hear(client, opening.authority())).await;
        let heard = match heard {
            Ok(Ok(heard)) => heard,
            Ok(Err(error)) => return opening.gave_up(&error.to_string()),
            Err(_elapsed) => {
                return opening.gave_up("the client said nothing that can be read in time");
            }
        };
        self.serve_heard(opening, heard, (settings, Requests::All))
            .await;
    }

    /// Serves one request in clear, of which the head was read, and no more: the next one of its connection may be for
    /// somebody else.
    pub async fn serve_one(
        &self,
        opening: Opening,
        (first, client): (Vec<u8>, TcpStream),
        settings: &Arc<Http>,
    ) {
        let heard = terminate::begun(first, client);
        self.serve_heard(opening, heard, (settings, Requests::One))
            .await;
    }

    async fn serve_heard(
        &self,
        mut opening: Opening,
        heard: Heard,
        (settings, requests): (&Arc<Http>, Requests),
    ) {
        let target = Arc::clone(&opening.who().target);
        let patience = target.timeouts.startup;
        let dialled = opening.who().dialled();
        let to_cluster = target.kubernetes().is_some();
        let heard = match terminate::passing::asked(&opening, heard, settings) {
            Ok(heard) => heard,
            Err((hello, asked)) => return self.pass(opening, *hello, asked).await,
        };
        let names = names(&heard, &dialled, settings);
        let tasks = Tasks::default();
        let reached = match self.reach(&mut opening, &heard).await {
            Ok(reached) => reached,
            Err((refusal, cause)) => {
                let finished = heard.refused(opening.authority(), &names);
                let finished = timeout(patience, finished).await;
                if let Ok(Err(error)) = &finished {
                    distrusted(&opening, &names, error);
                }
                opening.refuse(&refusal, cause);
                if let Ok(Ok(client)) = finished {
                    drop(timeout(patience, tell(client, (&refusal, to_cluster))).await);
                }
                return;
            }
        };
        let answered = heard.answered(opening.authority(), &names, reached.spoken());
        let client = match timeout(patience, answered).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return ended(opening, &names, &error),
            Err(_elapsed) => {
                return opening.gave_up("the client did not finish its handshake in time");
            }
        };
        let port = opening.who().port();
        let given = Arc::clone(&self.given);
        let hash_key = hash_key(&opening);
        let shared = (hash_key, port, given, self.schemas(settings).await);
        let caller = caller(&opening);
        let opened = Opened {
            upstream: reached.address().into(),
            database: None,
            user: settings.inject.as_ref().map_or("", |inject| inject.user()),
            asked_user: None,
        };
        let session = match opening.open(opened).await {
            Ok(session) => session,
            Err(refusal) => {
                let told = tell(client, (&refusal, to_cluster));
                return drop(timeout(patience, told).await);
            }
        };
        let way = Beside::of(&session);
        let gate = Arc::clone(&session);
        let exchange = Exchange::new(gate, way, (reached, tasks.clone()), shared, caller);
        serve_all(&session, (exchange, tasks), client, (patience, requests)).await;
    }

    /// What messages of gRPC hold, with what the target's file says of that read, where it was not yet.
    async fn schemas(&self, settings: &Arc<Http>) -> Arc<Schemas> {
        if let Some(path) = settings.grpc.clone() {
            let schemas = Arc::clone(&self.schemas);
            let read = spawn_blocking(move || drop(schemas.of(&path)));
            drop(read.await);
        }
        Arc::clone(&self.schemas)
    }

    /// May this principal use the target, and can it be reached?
    async fn reach(
        &self,
        opening: &mut Opening,
        heard: &Heard,
    ) -> Result<Reach, (Refusal, Option<String>)> {
        let authorized = opening.authorize(None, &[]).await;
        authorized.map_err(|refusal| (refusal, None))?;
        // Says whether the target may be dialled for this client at all.
        let ahead = opening.ahead().map_err(|refusal| (refusal, None))?;
        let scope = opening.who().flow.scope;
        let target = Arc::clone(&opening.who().target);
        let key = match &target.tls.key {
            Some(source) => {
                let key = opening.secret(source).await;
                Some(key.map_err(|refusal| (refusal, None))?)
            }
            None => None,
        };
        let tls = self.roots.of(&target, key).await.map_err(|cause| {
            let refusal = Refusal::upstream("TLS to this target is not set up right");
            (refusal, Some(cause))
        })?;
        // From the client's own namespace a connection is the client's own.
        let pool = ahead.map(|_own| {
            let target = target.name.clone();
            (Arc::clone(&self.pool), Key { target, scope })
        });
        let reach = Reach::new(target, tls, opening.addresses(), pool);
        reach.begin(opening, &heard.offered()).await
    }
}

/// As whom the client is answered: as the name that it sends where that is one of the target's.
fn names(heard: &Heard, dialled: &Dialled, settings: &Http) -> Vec<Host> {
    let sent = heard.server_name().map(Host::Name);
    match sent {
        Some(name) if settings.hosts.contains(&name) => vec![name],
        _ => dialled.hosts(),
    }
}

/// Writes that a client did not come through its handshake.
fn ended(opening: Opening, names: &[Host], error: &terminate::Error) {
    distrusted(&opening, names, error);
    opening.gave_up(&error.to_string());
}

/// Counts a client that ended its handshake at the certificate for these names.
fn distrusted(opening: &Opening, names: &[Host], error: &terminate::Error) {
    if let Some(how) = error.distrust() {
        opening.distrusted(names.first(), how);
    }
}

/// Serves a client's connection, and what it has become, to their ends, and leaves that to the upstream.
async fn serve_all(
    session: &Session,
    (exchange, tasks): (Exchange<Session, Beside>, Tasks),
    client: Client,
    (patience, requests): (Duration, Requests),
) {
    let exchange = Arc::new(exchange);
    let relayed = relay(Arc::clone(&exchange), client, (patience, requests));
    let mut is_over = false;
    tokio::select! {
        why = relayed => {
            session.closes(why);
            // What a connection has become goes on without it.
            tokio::select! {
                () = tasks.done() => is_over = true,
                _reason = session.ended() => {}
            }
        }
        _reason = session.ended() => {}
    }
    tasks.stop();
    exchange.leave(is_over).await;
}

/// Serves a client's connection to its end; the word for why it ended.
async fn relay<G, W>(
    exchange: Arc<Exchange<G, W>>,
    client: Client,
    (patience, requests): (Duration, Requests),
) -> &'static str
where
    G: crate::session::Gate,
    W: reach::Way,
{
    let tasks = exchange.tasks().clone();
    let spoken = exchange.spoken();
    let service = service_fn(move |request: Request<Incoming>| {
        let exchange = Arc::clone(&exchange);
        async move { Ok::<_, Infallible>(exchange.answer(request).await) }
    });
    let ended = match spoken {
        Spoken::One => {
            one(patience)
                .keep_alive(requests == Requests::All)
                .serve_connection(TokioIo::new(client), service)
                .with_upgrades()
                .await
        }
        Spoken::Two => {
            two(tasks)
                .serve_connection(TokioIo::new(client), service)
                .await
        }
    };
    match ended {
        Ok(()) => "client",
        Err(error) if error.is_parse() || error.is_parse_too_large() => "violation",
        Err(_gone) => "client",
    }
}

fn one(patience: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(patience.max(Duration::from_secs(1)))
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX)
        .preserve_header_case(true)
        .auto_date_header(false);
    builder
}

fn two(tasks: Tasks) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_MAX)
        .max_header_list_size(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX))
        .auto_date_header(false)
        // Sockets of the web are opened on a stream, whatever their server takes.
        .enable_connect_protocol();
    builder
}

/// What hashes of masked values are keyed by on a connection.
fn hash_key(opening: &Opening) -> Secret {
    let who = opening.who();
    let (key, connection) = (opening.hash_key(), who.connection.as_bytes());
    mask::key_of(&key, &who.target, &who.host, connection)
}

/// Who asks, as far as a cluster is told.
fn caller(opening: &Opening) -> Caller {
    let principal = &opening.who().principal;
    let identity = principal.identity.as_deref().map(|identity| {
        let name = identity.user.as_ref().unwrap_or(&identity.subject).clone();
        (name, identity.groups.iter().cloned().collect())
    });
    Caller {
        agent: principal.agent.clone(),
        identity,
    }
}

/// Answers every request of a connection with a refusal, and closes it; to a client of a cluster in its own words.
async fn tell(client: Client, (refusal, to_cluster): (&Refusal, bool)) {
    let refusal = refusal.clone();
    let spoken = client.spoken();
    let tasks = Tasks::default();
    let rests = tasks.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let words = refuse::Words::of(&request, to_cluster);
        let (parts, body) = request.into_parts();
        drop(Rest::new(body, &parts.headers, &rests));
        let mut answer = words.tell(refuse::told(&refusal, None, None));
        if spoken == Spoken::One {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        async move { Ok::<_, Infallible>(answer) }
    });
    let ended = serve_told(client, service, &tasks).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "a refused client was gone before it was told");
    }
    tasks.stop();
}

async fn serve_told<S>(client: Client, service: S, tasks: &Tasks) -> hyper::Result<()>
where
    S: hyper::service::HttpService<Incoming, ResBody = Body, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    TokioIo<Client>: Read + Write,
{
    let patience = Duration::from_secs(10);
    match client.spoken() {
        Spoken::One => {
            one(patience)
                .serve_connection(TokioIo::new(client), service)
                .await
        }
        Spoken::Two => {
            two(tasks.clone())
                .serve_connection(TokioIo::new(client), service)
                .await
        }
    }
}

/// Tells a client that is not admitted why, once it has asked for something. Nothing is dialled for it. The caller
/// bounds time.
pub async fn refuse(
    client: TcpStream,
    authority: &Authority,
    dialled: &Dialled,
    (refusal, to_cluster): (&Refusal, bool),
) {
    let told = async {
        let heard = terminate::hear(client, authority).await?;
        let client = heard.refused(authority, &dialled.hosts()).await?;
        tell(client, (refusal, to_cluster)).await;
        Ok::<(), terminate::Error>(())
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "a refused client was gone before it was told");
    }
}
