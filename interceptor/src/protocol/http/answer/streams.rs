//! The streams of a command in a cluster, behind an answer of 101: what it shows is looked at however it is carried,
//! and kept as a terminal is, so that it can be seen again.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header;
use hyper::http::response::Parts;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::{PIECE, Passing};
use crate::masking::output::{self, Found};
use crate::policy::Refusal;
use crate::protocol::http::inject::conceal::Covered;
use crate::protocol::http::record::Track;
use crate::protocol::kubernetes::facts::Command;
use crate::protocol::kubernetes::stream::{Broken, Look, Stream};
use crate::session::{Direction, Gate, RequestId, Terminal};

/// How long a client is told why nothing more goes on, and is heard once its server has said its last: one that does
/// not read, or does not end, keeps nothing open.
const LAST: Duration = Duration::from_secs(10);
/// A connection is one command's.
const NUMBER: u32 = 1;

/// What looks at one output.
#[derive(Debug)]
pub(super) struct Looks {
    covered: Option<Covered>,
    detected: output::Stream,
    seen: Arc<Mutex<Seen>>,
}

/// What was found in all of them.
#[derive(Debug, Default)]
struct Seen {
    found: Found,
    /// The credential was.
    credential: bool,
}

impl Look for Looks {
    fn pass(&mut self, bytes: &[u8], last: bool) -> Result<Vec<u8>, Broken> {
        let mut plain = Vec::with_capacity(bytes.len());
        match &mut self.covered {
            Some(covered) => {
                let mut looked = covered.feed(bytes, &mut plain);
                if last {
                    looked = looked.and_then(|()| covered.end(&mut plain));
                }
                looked.map_err(|broken| Broken(broken.0))?;
            }
            None => plain.extend_from_slice(bytes),
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.credential |= self.covered.as_ref().is_some_and(Covered::found);
        let passed = self.detected.pass(plain.into(), last, &mut seen.found);
        let passed = passed.map_err(|kind| Broken(kind.word()))?;
        Ok(passed.into())
    }

    fn holds(&self) -> bool {
        self.detected.holds() || self.covered.as_ref().is_some_and(Covered::holds)
    }
}

/// The streams, and what was found in them.
pub(super) struct Streams {
    stream: Stream<Looks>,
    seen: Arc<Mutex<Seen>>,
    /// What carries files may still be kept, in either direction.
    left: [usize; 2],
}

/// The streams of a command over what its connection has become.
pub(super) fn of<G: Gate>(
    command: Command,
    asked: &str,
    parts: &Parts,
    passing: &Passing<G>,
) -> Result<Streams, Broken> {
    let protocol = parts.headers.get(header::SEC_WEBSOCKET_PROTOCOL);
    let protocol = protocol.map_or("", |protocol| protocol.to_str().unwrap_or("?"));
    let seen = Arc::default();
    let detectors = passing.masks.detectors();
    let looks = || Looks {
        covered: passing
            .forms
            .clone()
            .map(|forms| Covered::connection(forms, false)),
        detected: output::Stream::new(detectors),
        seen: Arc::clone(&seen),
    };
    let is_looked_at = passing.forms.is_some() || detectors.is_some();
    let looks = is_looked_at.then(|| [looks(), looks(), looks()]);
    let most = passing.plan.http.recorded_bytes;
    Ok(Streams {
        stream: Stream::new(command, (asked, protocol.trim()), looks)?,
        seen,
        left: [most, most],
    })
}

/// Both sides, which come to it in turn: what happened is kept in its order.
struct Kept<'a, G> {
    streams: tokio::sync::Mutex<Streams>,
    gate: &'a G,
    request: RequestId,
}

/// Carries them, to the end of both.
pub(super) async fn tunnel<G: Gate>(
    ours: Upgraded,
    theirs: Upgraded,
    streams: Streams,
    passing: &mut Passing<G>,
) {
    let (from_client, to_client) = tokio::io::split(TokioIo::new(ours));
    let (from_server, to_server) = tokio::io::split(TokioIo::new(theirs));
    let gate = Arc::clone(&passing.ending.gate);
    let seen = Arc::clone(&streams.seen);
    let kept = Kept {
        streams: tokio::sync::Mutex::new(streams),
        gate: &*gate,
        request: passing.ending.request,
    };
    let mut total = 0;
    let ended = match kept.opens().await {
        Ok(()) => {
            let there = sent(from_client, to_server, &kept);
            let back = received(from_server, to_client, &kept, (passing, &mut total));
            both(there, back, LAST).await
        }
        Err(error) => Err(error),
    };
    let mut opened = Vec::new();
    let mut streams = kept.streams.lock().await;
    streams.stream.open(&mut opened);
    let ended = ended.and(kept.keep(&mut streams, opened).await);
    let exit = streams.stream.exit();
    drop(streams);
    let closed = gate
        .terminal(NUMBER, &Terminal::Closed { status: exit })
        .await;
    let track = Track::new(&*gate, Direction::Received, passing.ending.request, 0);
    // The session ends where it cannot be written.
    drop((closed, track.end().await));
    let outcome = &mut passing.ending.outcome;
    outcome.bytes = total;
    for (kind, count) in &lock(&seen).found {
        *outcome.found.entry(kind).or_default() += count;
    }
    if let Some(exit) = exit {
        outcome.status = format!("{}, exit {exit}", outcome.status);
    }
    if let Err(error) = ended {
        outcome.status = format!("{}, cut off: {error}", outcome.status);
        tracing::debug!(%error, "the streams of a command broke");
    }
}

/// Carries both directions to their ends; what the client says behind the server's last is not waited for.
async fn both(
    there: impl Future<Output = io::Result<()>>,
    back: impl Future<Output = io::Result<()>>,
    patience: Duration,
) -> io::Result<()> {
    let (mut there, mut back) = (pin!(there), pin!(back));
    tokio::select! {
        ended = &mut there => {
            ended?;
            back.await
        }
        ended = &mut back => {
            ended?;
            timeout(patience, there).await.unwrap_or(Ok(()))
        }
    }
}

/// Tells a client the last that it hears; one that does not read is not waited for.
async fn tell(to: &mut (impl AsyncWrite + Unpin), last: &[u8], patience: Duration) {
    let told = async {
        to.write_all(last).await?;
        to.shutdown().await
    };
    match timeout(patience, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client was gone before it was told"),
        Err(_elapsed) => tracing::debug!("a client does not read why nothing more goes on"),
    }
}

async fn sent<G: Gate>(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    kept: &Kept<'_, G>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await?;
        let bytes = piece.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        let mut streams = kept.streams.lock().await;
        let said = streams.stream.sent(bytes).map_err(broken)?;
        kept.keep(&mut streams, said).await?;
        drop(streams);
        to.write_all(bytes).await?;
        to.flush().await?;
    }
}

async fn received<G: Gate>(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    kept: &Kept<'_, G>,
    (passing, total): (&mut Passing<G>, &mut u64),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let patience = kept.streams.lock().await.stream.patience();
        let count = match patience {
            Some(patience) => timeout(patience, from.read(&mut piece)).await.ok(),
            None => Some(from.read(&mut piece).await),
        };
        let Some(count) = count else {
            // It is quiet.
            step(&mut to, kept, passing, flush).await?;
            continue;
        };
        let mut bytes = piece.get(..count?).unwrap_or_default();
        if bytes.is_empty() {
            step(&mut to, kept, passing, finish).await?;
            return to.shutdown().await;
        }
        passing.lease.renew();
        *total = total.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        while !bytes.is_empty() {
            let took = step(&mut to, kept, passing, |stream, out| {
                stream.received(bytes, out)
            });
            bytes = took.await?;
        }
    }
}

/// Shows what was kept back.
fn flush(
    stream: &mut Stream<Looks>,
    out: &mut Vec<Vec<u8>>,
) -> Result<(Vec<Terminal>, &'static [u8]), Broken> {
    let mut shown = Vec::new();
    stream.flush(&mut shown, out)?;
    Ok((shown, &[]))
}

/// Shows that, and what the server has said of the end, which is all.
fn finish(
    stream: &mut Stream<Looks>,
    out: &mut Vec<Vec<u8>>,
) -> Result<(Vec<Terminal>, &'static [u8]), Broken> {
    let mut shown = Vec::new();
    stream.finish(&mut shown, out)?;
    Ok((shown, &[]))
}

/// One thing that the server has said, or nobody has for a while: kept, and sent on. What is behind it.
async fn step<'a, G: Gate>(
    to: &mut WriteHalf<TokioIo<Upgraded>>,
    kept: &Kept<'_, G>,
    passing: &mut Passing<G>,
    take: impl FnOnce(
        &mut Stream<Looks>,
        &mut Vec<Vec<u8>>,
    ) -> Result<(Vec<Terminal>, &'a [u8]), Broken>,
) -> io::Result<&'a [u8]> {
    let mut out = Vec::new();
    let mut streams = kept.streams.lock().await;
    let (shown, rest) = match take(&mut streams.stream, &mut out) {
        Ok(taken) => taken,
        Err(Broken(why)) => {
            let why = format!("what the command shows goes no farther: {why}");
            streams.stream.refuse(&why, &mut out);
            drop(streams);
            tell(to, &out.concat(), LAST).await;
            return Err(io::Error::other(why));
        }
    };
    if lock(&streams.seen).credential {
        passing.returned("connection").map_err(refused)?;
    }
    kept.keep(&mut streams, shown).await?;
    drop(streams);
    for frame in out {
        to.write_all(&frame).await?;
        to.flush().await?;
    }
    Ok(rest)
}

impl<G: Gate> Kept<'_, G> {
    /// What has no terminal has no size that could be waited for.
    async fn opens(&self) -> io::Result<()> {
        let mut streams = self.streams.lock().await;
        let mut opened = Vec::new();
        streams.stream.begin(&mut opened);
        self.keep(&mut streams, opened).await
    }

    /// Writes what happened, before anybody hears of it.
    async fn keep(&self, streams: &mut Streams, happened: Vec<Terminal>) -> io::Result<()> {
        for mut what in happened {
            let begins = matches!(what, Terminal::Opened { .. } | Terminal::Carries(_));
            if let Terminal::Carried(direction, bytes) = &mut what {
                let [sent, received] = &mut streams.left;
                let left = match direction {
                    Direction::Sent => sent,
                    Direction::Received => received,
                };
                bytes.truncate(*left);
                *left = left.saturating_sub(bytes.len());
                if bytes.is_empty() {
                    continue;
                }
            }
            self.gate.terminal(NUMBER, &what).await.map_err(refused)?;
            if begins {
                let asked = Terminal::Asked(self.request);
                self.gate.terminal(NUMBER, &asked).await.map_err(refused)?;
            }
        }
        Ok(())
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(refusal: Refusal) -> io::Error {
    io::Error::other(refusal.message)
}

fn broken(broken: Broken) -> io::Error {
    io::Error::other(broken.0)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_client_that_does_not_end_or_read_keeps_nothing_open() {
        let ended = both(pending(), ready(Ok(())), SOON).await;
        ended.unwrap();
        let (mut unread, _client) = tokio::io::duplex(1);
        tell(&mut unread, b"a long farewell", SOON).await;
        let failed = || ready(Err(io::Error::other("broken")));
        assert!(both(pending(), failed(), LAST).await.is_err());
        assert!(both(failed(), pending(), LAST).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_has_ended_hears_the_server_out() {
        let slow = async {
            tokio::time::sleep(SOON * 100).await;
            Err(io::Error::other("heard"))
        };
        assert!(both(ready(Ok(())), slow, SOON).await.is_err());
    }
}
