//! An answer on its way to the agent: headers that are not for it taken out, masked, recorded, counted.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::response::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::exchange::{Ending, FRAMES, Plan};
use super::facts::media_type_of;
use super::mask::{Broken, Masker, Masks};
use super::reach::Tasks;
use super::record::Track;
use super::{Answer, Spoken, empty, refuse};
use crate::config::Unread;
use crate::policy::{Limit, Refusal};
use crate::session::{Direction, Gate};

/// Headers between two neighbours, or by which clients would go around the daemon.
const DROPPED: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "alt-svc",
    "proxy-authenticate",
    "proxy-authentication-info",
];
/// Headers that are made of the body as it was.
const OF_BODY: [&str; 8] = [
    "content-length",
    "content-md5",
    "digest",
    "content-digest",
    "repr-digest",
    "etag",
    "accept-ranges",
    "x-amz-checksum-sha256",
];
/// Bytes of what a connection has become that are read at a time.
const PIECE: usize = 16 << 10;

/// What an answer passes through.
pub(super) struct Passing<G: Gate> {
    pub(super) plan: Arc<Plan>,
    pub(super) spoken: Spoken,
    /// What is masked for whoever asks.
    pub(super) masks: Arc<Masks>,
    pub(super) is_head: bool,
    /// Whether nothing but JSON is asked for, where it is masked.
    pub(super) json_only: bool,
    /// The client's side, where the connection is to become something else.
    pub(super) upgraded: Option<OnUpgrade>,
    pub(super) limit: Option<Limit>,
    pub(super) ending: Ending<G>,
    pub(super) tasks: Tasks,
}

/// Passes an answer on.
pub(super) async fn pass<G: Gate>(
    mut response: Response<Incoming>,
    mut passing: Passing<G>,
) -> Answer {
    let status = response.status();
    passing.ending.outcome.status = status.as_u16().to_string();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut response);
        return upgrade(response.into_parts().0, theirs, passing).await;
    }
    let (mut parts, incoming) = response.into_parts();
    let masker = match masker(&parts, &incoming, &passing) {
        Ok(masker) => masker,
        Err(why) => return unread(why, passing),
    };
    strip(&mut parts, &passing);
    if masker.is_some() {
        for name in OF_BODY {
            parts.headers.remove(name);
        }
        parts.headers.remove(header::TRANSFER_ENCODING);
    }
    let gate = Arc::clone(&passing.ending.gate);
    let most = passing.plan.http.recorded_bytes;
    let track = Track::new(&*gate, Direction::Received, passing.ending.request, most);
    let first = format!("{:?} {}", parts.version, parts.status);
    if let Err(refusal) = track.head(&first, &parts.headers).await {
        return refuse::told(&refusal, None, None);
    }
    if incoming.is_end_stream() {
        return Response::from_parts(parts, empty());
    }
    let (sender, channel) = Channel::new(FRAMES);
    let tasks = passing.tasks.clone();
    tasks.run(pump(incoming, sender, masker, passing));
    Response::from_parts(parts, channel.boxed_unsync())
}

/// What masks an answer; `None` where nothing does.
fn masker<G: Gate>(
    parts: &Parts,
    incoming: &Incoming,
    passing: &Passing<G>,
) -> Result<Option<Masker>, &'static str> {
    if passing.masks.is_empty() || passing.is_head || incoming.is_end_stream() {
        return Ok(None);
    }
    let headers = &parts.headers;
    let coding = headers.get(header::CONTENT_ENCODING);
    let coding = coding.map(|value| {
        String::from_utf8_lossy(value.as_bytes())
            .trim()
            .to_ascii_lowercase()
    });
    let made = match coding.as_deref() {
        Some(coding) if !matches!(coding, "" | "identity") => Err("it is compressed"),
        _ if parts.status == StatusCode::PARTIAL_CONTENT => Err("it is a part of something"),
        _ => passing.masks.masker(&media_type_of(headers)),
    };
    match (made, passing.plan.http.unread) {
        (Ok(masker), _) => Ok(masker),
        (Err(_), Unread::Pass) => Ok(None),
        (Err(why), Unread::Refuse) => Err(why),
    }
}

fn unread<G: Gate>(why: &str, mut passing: Passing<G>) -> Answer {
    let outcome = &mut passing.ending.outcome;
    outcome.status = format!("{}, not passed on: {why}", outcome.status);
    let refusal = Refusal::unmasked(why);
    refuse::told(&refusal, Some(&passing.ending.request.0.to_string()), None)
}

fn strip<G: Gate>(parts: &mut Parts, passing: &Passing<G>) {
    let own = &passing.plan.http.strip_response_headers;
    for name in DROPPED.into_iter().chain(own.iter().map(String::as_str)) {
        parts.headers.remove(name);
    }
    if passing.spoken == Spoken::One {
        // The client's side has its own.
        parts.version = hyper::Version::HTTP_11;
    }
}

/// Carries a body on.
async fn pump<G: Gate>(
    mut incoming: Incoming,
    mut sender: Sender<Bytes, io::Error>,
    mut masker: Option<Masker>,
    mut passing: Passing<G>,
) {
    let gate = Arc::clone(&passing.ending.gate);
    let most = passing.plan.http.recorded_bytes;
    let mut track = Track::new(&*gate, Direction::Received, passing.ending.request, most);
    let ended = carry(
        &mut incoming,
        &mut sender,
        masker.as_mut(),
        (&mut track, passing.limit.as_ref()),
    )
    .await;
    let outcome = &mut passing.ending.outcome;
    outcome.bytes = track.total();
    if let Some(masker) = masker {
        outcome.found = masker.found();
    }
    match ended {
        Ok(()) => drop(track.end().await),
        Err(Cut::Client) => outcome.status = format!("{}, cut off by the client", outcome.status),
        Err(Cut::Other(why)) => {
            outcome.status = format!("{}, cut off: {why}", outcome.status);
            sender.abort(io::Error::other(why));
        }
    }
}

/// Why a body did not come to its end.
enum Cut {
    Client,
    Other(String),
}

impl From<Broken> for Cut {
    fn from(broken: Broken) -> Self {
        Self::Other(broken.0.to_owned())
    }
}

impl From<Refusal> for Cut {
    fn from(refusal: Refusal) -> Self {
        Self::Other(refusal.message)
    }
}

async fn carry<G: Gate>(
    incoming: &mut Incoming,
    sender: &mut Sender<Bytes, io::Error>,
    mut masker: Option<&mut Masker>,
    (track, limit): (&mut Track<'_, G>, Option<&Limit>),
) -> Result<(), Cut> {
    let mut trailers: Option<HeaderMap> = None;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| Cut::Other(error.to_string()))?;
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        match &mut masker {
            None => give(bytes, sender, track, limit).await?,
            Some(masker) => {
                // What comes of one piece is not much more than it, whatever it is.
                for piece in bytes.chunks(PIECE) {
                    let mut out = Vec::with_capacity(piece.len());
                    masker.feed(piece, &mut out)?;
                    give(out.into(), sender, track, limit).await?;
                }
            }
        }
    }
    if let Some(masker) = masker {
        let mut out = Vec::new();
        masker.end(&mut out)?;
        give(out.into(), sender, track, limit).await?;
    }
    if let Some(trailers) = trailers {
        track.trailers(&trailers).await?;
        sender
            .send_trailers(trailers)
            .await
            .map_err(|_gone| Cut::Client)?;
    }
    Ok(())
}

async fn give<G: Gate>(
    bytes: Bytes,
    sender: &mut Sender<Bytes, io::Error>,
    track: &mut Track<'_, G>,
    limit: Option<&Limit>,
) -> Result<(), Cut> {
    if bytes.is_empty() {
        return Ok(());
    }
    track.body(&bytes).await?;
    if let Some(limit) = limit.filter(|limit| track.total() > limit.most) {
        return Err(Cut::Other(format!(
            "the answer has more than {} bytes (rule {})",
            limit.most, limit.rule.0
        )));
    }
    sender
        .send(Frame::data(bytes))
        .await
        .map_err(|_gone| Cut::Client)
}

/// The connection becomes something else: bytes both ways, until either side ends.
async fn upgrade<G: Gate>(mut parts: Parts, theirs: OnUpgrade, mut passing: Passing<G>) -> Answer {
    let Some(ours) = passing.upgraded.take() else {
        passing.ending.outcome.status = "upgraded without being asked".to_owned();
        let refusal = Refusal::upstream("the server upgraded a connection that nobody asked for");
        return refuse::told(&refusal, None, None);
    };
    if !passing.masks.is_empty() && passing.plan.http.unread == Unread::Refuse {
        return unread("it is no answer, but a connection", passing);
    }
    let kept: Vec<_> = [header::CONNECTION, header::UPGRADE]
        .into_iter()
        .filter_map(|name| Some((name.clone(), parts.headers.get(name)?.clone())))
        .collect();
    strip(&mut parts, &passing);
    parts.headers.extend(
        kept.into_iter()
            .map(|(name, value)| (Some::<HeaderName>(name), value))
            .filter_map(|(name, value)| Some((name?, value))),
    );
    let gate = Arc::clone(&passing.ending.gate);
    let most = passing.plan.http.recorded_bytes;
    let track = Track::new(&*gate, Direction::Received, passing.ending.request, most);
    let first = format!("{:?} {}", parts.version, parts.status);
    if let Err(refusal) = track.head(&first, &parts.headers).await {
        return refuse::told(&refusal, None, None);
    }
    let tasks = passing.tasks.clone();
    tasks.run(async move {
        if let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) {
            tunnel(ours, theirs, &mut passing).await;
        }
    });
    Response::from_parts(parts, empty())
}

async fn tunnel<G: Gate>(ours: Upgraded, theirs: Upgraded, passing: &mut Passing<G>) {
    let (from_client, to_client) = tokio::io::split(TokioIo::new(ours));
    let (from_server, to_server) = tokio::io::split(TokioIo::new(theirs));
    let gate = Arc::clone(&passing.ending.gate);
    let (request, most) = (passing.ending.request, passing.plan.http.recorded_bytes);
    let mut sent = Track::new(&*gate, Direction::Sent, request, most);
    let mut received = Track::new(&*gate, Direction::Received, request, most);
    // The end of one side is told to the other, which may go on; where one breaks, nothing does.
    let both = tokio::try_join!(
        copy(from_client, to_server, &mut sent),
        copy(from_server, to_client, &mut received)
    );
    passing.ending.outcome.bytes = received.total();
    if let Err(error) = both {
        tracing::debug!(%error, "an upgraded connection broke");
    }
}

async fn copy<G: Gate>(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    track: &mut Track<'_, G>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await?;
        let bytes = piece.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        let recorded = track.tunnel(bytes).await;
        recorded.map_err(|refusal| io::Error::other(refusal.message))?;
        to.write_all(bytes).await?;
        to.flush().await?;
    }
}
