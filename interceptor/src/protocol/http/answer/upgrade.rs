//! What a connection becomes behind an answer of 101: bytes both ways, of which those to the agent are looked at.

use std::io;
use std::sync::Arc;

use hyper::Response;
use hyper::header;
use hyper::http::response::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::{PIECE, Passing, refused, streams, strip};
use crate::config::Unread;
use crate::policy::Refusal;
use crate::protocol::http::facts::WEBSOCKET;
use crate::protocol::http::inject::conceal::Covered;
use crate::protocol::http::mask;
use crate::protocol::http::reach::Lease;
use crate::protocol::http::record::Track;
use crate::protocol::http::{Answer, empty, refuse};
use crate::protocol::kubernetes::stream::Broken;
use crate::session::{Direction, Gate};

/// The connection becomes something else: bytes both ways, until either side ends.
pub(super) async fn pass<G: Gate>(
    mut parts: Parts,
    theirs: OnUpgrade,
    mut passing: Passing<G>,
) -> Answer {
    let became = parts.headers.get(header::UPGRADE).map(|became| {
        String::from_utf8_lossy(became.as_bytes())
            .trim()
            .to_ascii_lowercase()
    });
    let Some((asked, ours)) = passing
        .upgraded
        .take()
        .filter(|(asked, _)| became.as_ref() == Some(asked))
    else {
        let status = "upgraded to what it was not asked for";
        status.clone_into(&mut passing.ending.outcome.status);
        let refusal =
            Refusal::upstream("the server upgraded a connection to what nobody asked for");
        return refuse::told(&refusal, None, None);
    };
    let is_compressed = parts.headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
    let stream = match passing.command.take() {
        Some(_) if is_compressed => Some(Err(Broken("its frames are compressed"))),
        Some(command) => Some(streams::of(command, &asked, &parts, &passing)),
        None => None,
    };
    let stream = match stream.transpose() {
        Ok(stream) => stream,
        Err(Broken(why)) => return refused(&Refusal::unsearched(why), why, passing),
    };
    let is_opaque = stream.is_none() && !passing.masks.is_empty();
    if is_opaque && passing.plan.http.unread == Unread::Refuse {
        let why = "it is no answer, but a connection";
        return refused(&Refusal::unmasked(why), why, passing);
    }
    if passing.forms.is_some() && is_compressed {
        let why = "its frames are compressed";
        return refused(&Refusal::unsearched(why), why, passing);
    }
    strip_but_upgrade(&mut parts, &passing);
    if let Err(mask::Broken(why)) = passing.tells(&mut parts) {
        return refused(&Refusal::unmasked(why), why, passing);
    }
    if let Err(refusal) = passing.conceal(&mut parts) {
        return refuse::told(&refusal, None, None);
    }
    let gate = Arc::clone(&passing.ending.gate);
    let most = passing.plan.http.recorded_bytes;
    let track = Track::new(&*gate, Direction::Received, passing.ending.request, most);
    let first = format!("{:?} {}", parts.version, parts.status);
    if let Err(refusal) = track.head(&first, &parts.headers).await {
        return refuse::told(&refusal, None, None);
    }
    passing.lease.lift();
    let tasks = passing.tasks.clone();
    let forms = passing.forms.clone();
    let covered = forms.map(|forms| Covered::connection(forms, asked == WEBSOCKET));
    tasks.run(async move {
        let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) else {
            return;
        };
        match stream {
            Some(stream) => streams::tunnel(ours, theirs, stream, &mut passing).await,
            None => tunnel(ours, theirs, covered, &mut passing).await,
        }
    });
    Response::from_parts(parts, empty())
}

/// What is between two neighbours does not go on, but for what the connection becomes.
fn strip_but_upgrade<G: Gate>(parts: &mut Parts, passing: &Passing<G>) {
    let kept = [header::CONNECTION, header::UPGRADE];
    let kept = kept.map(|name| (parts.headers.get(&name).cloned(), name));
    strip(parts, passing);
    for (value, name) in kept {
        if let Some(value) = value {
            parts.headers.insert(name, value);
        }
    }
}

async fn tunnel<G: Gate>(
    ours: Upgraded,
    theirs: Upgraded,
    covered: Option<Covered>,
    passing: &mut Passing<G>,
) {
    let (from_client, to_client) = tokio::io::split(TokioIo::new(ours));
    let (from_server, to_server) = tokio::io::split(TokioIo::new(theirs));
    let gate = Arc::clone(&passing.ending.gate);
    let (request, most) = (passing.ending.request, passing.plan.http.recorded_bytes);
    let mut sent = Track::new(&*gate, Direction::Sent, request, most);
    let mut received = Track::new(&*gate, Direction::Received, request, most);
    // The end of one side is told to the other, which may go on. What can carry nothing any more ends both.
    let there = copy(from_client, to_server, &mut sent, None, None);
    let lease = Some(passing.lease.clone());
    let to_agent = covered.map(|covered| (covered, &mut *passing));
    let back = copy(from_server, to_client, &mut received, to_agent, lease);
    let ended = tokio::try_join!(there, back);
    passing.ending.outcome.bytes = received.total();
    if let Err(error) = ended {
        passing.ending.outcome.status =
            format!("{}, cut off: {error}", passing.ending.outcome.status);
        tracing::debug!(%error, "an upgraded connection broke");
    }
}

async fn copy<G: Gate>(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    track: &mut Track<'_, G>,
    mut covered: Option<(Covered, &mut Passing<G>)>,
    lease: Option<Lease>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut out = Vec::new();
    loop {
        let count = from.read(&mut piece).await?;
        let bytes = piece.get(..count).unwrap_or_default();
        let is_end = bytes.is_empty();
        if let Some(lease) = &lease {
            lease.renew();
        }
        let bytes = match &mut covered {
            Some((covered, passing)) => {
                out.clear();
                look(covered, passing, bytes, &mut out)?;
                &out
            }
            None => bytes,
        };
        if !bytes.is_empty() {
            let recorded = track.tunnel(bytes).await;
            recorded.map_err(|refusal| io::Error::other(refusal.message))?;
            to.write_all(bytes).await?;
            to.flush().await?;
        }
        if is_end {
            return to.shutdown().await;
        }
    }
}

/// Covers what bytes to the agent show of the credential; none of them is the end.
fn look<G: Gate>(
    covered: &mut Covered,
    passing: &mut Passing<G>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let looked = match bytes.is_empty() {
        true => covered.end(out),
        false => covered.feed(bytes, out),
    };
    looked.map_err(|broken| io::Error::other(broken.0))?;
    if covered.found() {
        let told = passing.returned("connection");
        told.map_err(|refusal| io::Error::other(refusal.message))?;
    }
    Ok(())
}
