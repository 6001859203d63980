//! An answer on its way to the agent: headers that are not for it taken out, the credential that it may show covered,
//! masked, recorded, counted.

mod streams;
mod told;
mod upgrade;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::response::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::exchange::lane::{Lane, lane};
use super::exchange::{Ending, Plan, ranges};
use super::facts::{content_type_of, media_type_of};
use super::inject::conceal::{self, Covered, Forms};
use super::mask::decode::{self, Coding, Decoder};
use super::mask::{Broken, Found, Masker, Masks, grpc};
use super::reach::{Lease, Tasks};
use super::record::Track;
use super::{Answer, Spoken, empty, refuse};
use crate::config::Unread;
use crate::policy::{Limit, Refusal};
use crate::protocol::kubernetes::facts::Command;
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
const OF_BODY: [&str; 11] = [
    "content-length",
    "content-md5",
    "digest",
    "content-digest",
    "repr-digest",
    "etag",
    "accept-ranges",
    "x-amz-crc32",
    "x-goog-hash",
    "x-ms-blob-content-md5",
    "x-ms-content-crc64",
];
/// How other names of such headers begin.
const OF_BODY_TOO: [&str; 2] = ["x-amz-checksum-", "x-checksum-"];
/// Headers that say how each message in a body is written, or that it is but a difference.
const CODINGS: [&str; 3] = ["grpc-encoding", "connect-content-encoding", "im"];
/// Bytes of what a connection has become that are read at a time.
const PIECE: usize = 16 << 10;

/// What an answer passes through.
pub(super) struct Passing<G: Gate> {
    pub(super) plan: Arc<Plan>,
    pub(super) spoken: Spoken,
    /// What is masked for whoever asks.
    pub(super) masks: Arc<Masks>,
    pub(super) is_head: bool,
    /// What is looked for where a credential was given.
    pub(super) forms: Option<Arc<Forms>>,
    /// Whether that stood in the request as it is, and was not only signed with.
    pub(super) is_sent: bool,
    /// Whether it is written that the answer shows it.
    pub(super) is_told: bool,
    /// What is known of the messages, where it is a call of gRPC.
    pub(super) call: Option<grpc::Call>,
    /// Whether nothing but JSON is asked for, where it is masked.
    pub(super) json_only: bool,
    /// What the connection is to become, and the client's side, where it is to become something else.
    pub(super) upgraded: Option<(String, OnUpgrade)>,
    /// The command whose streams that is.
    pub(super) command: Option<Command>,
    pub(super) limit: Option<Limit>,
    /// The server's connection, and what it may send besides.
    pub(super) lease: Lease,
    pub(super) ending: Ending<G>,
    pub(super) tasks: Tasks,
    /// Room for answers that come compressed.
    pub(super) decoders: Arc<Semaphore>,
}

impl<G: Gate> Passing<G> {
    /// Writes, once, that the answer shows the credential.
    fn returned(&mut self, place: &'static str) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.is_told, true) {
            return Ok(());
        }
        let request = self.ending.request;
        self.ending.gate.returned(request, place)
    }

    /// Looks at why a call of gRPC failed, where headers or trailers say so.
    fn status(&mut self, headers: &mut HeaderMap) {
        if self.masks.is_empty() {
            return;
        }
        let mut found = Found::default();
        let strict = self.plan.http.unread == Unread::Refuse;
        self.masks.status(headers, strict, &mut found);
        self.found(&found);
    }

    /// Covers what a head tells beside its body, under the detectors.
    fn tells(&mut self, parts: &mut Parts) -> Result<(), Broken> {
        let mut found = Found::default();
        let told = told::head(&self.masks, parts, &mut found);
        self.found(&found);
        told
    }

    fn found(&mut self, found: &Found) {
        for (kind, count) in found.counts() {
            *self.ending.outcome.found.entry(kind).or_default() += count;
        }
    }

    /// Covers what a head shows of the credential.
    fn conceal(&mut self, parts: &mut Parts) -> Result<(), Refusal> {
        match &self.forms {
            Some(forms) if conceal::head(forms, parts) => self.returned("header"),
            _ => Ok(()),
        }
    }
}

/// Passes an answer on.
pub(super) async fn pass<G: Gate>(
    mut response: Response<Incoming>,
    mut passing: Passing<G>,
) -> Answer {
    let status = response.status();
    passing.ending.outcome.status = status.as_u16().to_string();
    if let Some(lease) = response.extensions_mut().remove::<Lease>() {
        passing.lease = lease;
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut response);
        return upgrade::pass(response.into_parts().0, theirs, passing).await;
    }
    let (mut parts, incoming) = response.into_parts();
    let reader = reader(&parts, &incoming, &passing);
    let masker = masker(&parts, &incoming, &passing, &reader);
    let unpacks = matches!(&masker, Ok(Some(masker)) if masker.unpacks());
    if let Some(why) = unsearched((&parts, unpacks), &incoming, &passing, &reader) {
        return refused(&Refusal::unsearched(why), why, passing);
    }
    let masker = match masker {
        Ok(masker) => masker,
        Err(why) => return refused(&Refusal::unmasked(why), why, passing),
    };
    // What nothing is looked for in goes on as it is.
    let is_looked_at = passing.forms.is_some() || masker.is_some();
    let reader = reader.ok().flatten().filter(|_| is_looked_at);
    strip(&mut parts, &passing);
    passing.status(&mut parts.headers);
    if let Err(Broken(why)) = passing.tells(&mut parts) {
        return refused(&Refusal::unmasked(why), why, passing);
    }
    if let Err(refusal) = passing.conceal(&mut parts) {
        return refuse::told(&refusal, None, None);
    }
    if reader.is_some() {
        parts.headers.remove(header::CONTENT_ENCODING);
    }
    if unpacks {
        parts.headers.remove(grpc::ENCODING);
    }
    if masker.is_some() || reader.is_some() || passing.masks.has_fields() {
        // Also where no body comes: they tell who guesses one that it is right.
        for name in of_body(&parts.headers) {
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
    let (to, body) = lane();
    let tasks = passing.tasks.clone();
    let media_type = media_type_of(&parts.headers);
    let forms = passing.forms.clone();
    let filter = Filter {
        reader,
        covered: forms.map(|forms| Covered::answer(forms, &media_type)),
        masker,
    };
    tasks.run(pump(incoming, to, filter, passing));
    Response::from_parts(parts, body)
}

/// The headers of an answer that are made of its body as it was.
fn of_body(headers: &HeaderMap) -> Vec<HeaderName> {
    let is_of_body = |name: &&HeaderName| {
        let name = name.as_str();
        OF_BODY.contains(&name) || OF_BODY_TOO.iter().any(|begins| name.starts_with(begins))
    };
    headers.keys().filter(is_of_body).cloned().collect()
}

/// An answer that is compressed, being read.
type Reader = (Decoder, OwnedSemaphorePermit);

/// What reads an answer that is compressed; `None` where it is not.
fn reader<G: Gate>(
    parts: &Parts,
    incoming: &Incoming,
    passing: &Passing<G>,
) -> Result<Option<Reader>, &'static str> {
    if passing.is_head || incoming.is_end_stream() {
        return Ok(None);
    }
    let said = parts.headers.get_all(header::CONTENT_ENCODING).iter();
    let said: Vec<_> = said.map(text).collect();
    let mut codings = said.iter().flat_map(|said| said.split(',')).map(str::trim);
    let mut codings = codings
        .by_ref()
        .filter(|coding| !matches!(*coding, "" | "identity"));
    let Some(coding) = codings.next() else {
        return Ok(None);
    };
    if is_part(parts, passing) {
        // Nothing but the beginning could be unpacked.
        return match passing.is_sent {
            true => Err("it is a part of something compressed"),
            false => Ok(None),
        };
    }
    let coding = Coding::of(coding).filter(|_| codings.next().is_none());
    let coding = coding.ok_or("its compression is not read here")?;
    let room = Arc::clone(&passing.decoders).try_acquire_owned();
    let room = room.map_err(|_full| "too many answers come compressed at a time")?;
    let decoder = Decoder::new(coding).ok_or("it is compressed, and there is no room for it")?;
    Ok(Some((decoder, room)))
}

/// Why the credential that was given cannot be looked for in an answer, where it cannot; whether its messages are
/// unpacked.
fn unsearched<G: Gate>(
    (parts, unpacks): (&Parts, bool),
    incoming: &Incoming,
    passing: &Passing<G>,
    reader: &Result<Option<Reader>, &'static str>,
) -> Option<&'static str> {
    if passing.forms.is_none() || passing.is_head || incoming.is_end_stream() {
        return None;
    }
    let said = |name: &str| parts.headers.get_all(name).iter();
    let is_plain = |value: &str| matches!(value.trim(), "" | "identity");
    let coded = CODINGS
        .iter()
        .filter(|name| !(unpacks && **name == grpc::ENCODING));
    let mut coded = coded.flat_map(|name| said(name)).map(text);
    let mut carried = said("transfer-encoding").map(text);
    match () {
        () if reader.is_err() => reader.as_ref().err().copied(),
        () if coded.any(|value| !value.split(',').all(is_plain)) => Some("it is compressed"),
        () if carried.any(|value| value.trim() != "chunked") => Some("it is compressed on its way"),
        () if parts.status == StatusCode::PARTIAL_CONTENT && !is_part(parts, passing) => {
            Some("it is a part of something")
        }
        () => None,
    }
}

/// Whether it is a part of something that is looked through by itself.
fn is_part<G: Gate>(parts: &Parts, passing: &Passing<G>) -> bool {
    parts.status == StatusCode::PARTIAL_CONTENT && ranges::pass(&passing.plan.http, &passing.masks)
}

/// What masks an answer; `None` where nothing does.
fn masker<G: Gate>(
    parts: &Parts,
    incoming: &Incoming,
    passing: &Passing<G>,
    reader: &Result<Option<Reader>, &'static str>,
) -> Result<Option<Masker>, &'static str> {
    if passing.is_head || incoming.is_end_stream() {
        return Ok(None);
    }
    let headers = &parts.headers;
    let kind = media_type_of(headers);
    let how = || grpc::How {
        direction: Direction::Received,
        headers,
        most: passing.plan.http.judged_bytes,
        strict: passing.plan.http.unread == Unread::Refuse,
        room: passing.ending.gate.room(),
    };
    if passing.masks.is_empty() {
        // The credential is looked for in what messages say.
        let is_packed = grpc::is_grpc(&kind) && headers.contains_key(grpc::ENCODING);
        let is_unpacked = is_packed && passing.forms.is_some();
        return Ok(is_unpacked.then(|| Masker::unpacking(how()).ok()).flatten());
    }
    let made = match reader {
        Err(why) => Err(*why),
        Ok(_) if parts.status == StatusCode::PARTIAL_CONTENT => Err("it is a part of something"),
        Ok(_) if grpc::is_grpc(&kind) => passing.masks.grpc(&kind, passing.call.as_ref(), how()),
        Ok(_) => passing.masks.masker(&content_type_of(headers)),
    };
    match (made, passing.plan.http.unread) {
        (Ok(masker), _) => Ok(masker),
        (Err(_), Unread::Pass) => Ok(None),
        (Err(why), Unread::Refuse) => Err(why),
    }
}

/// What a header says, lower case.
fn text(value: &header::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase()
}

fn refused<G: Gate>(refusal: &Refusal, why: &str, mut passing: Passing<G>) -> Answer {
    let outcome = &mut passing.ending.outcome;
    outcome.status = format!("{}, not passed on: {why}", outcome.status);
    refuse::told(refusal, Some(&passing.ending.request.0.to_string()), None)
}

/// Takes out what is not for the agent, of headers or of trailers.
fn drop_headers<G: Gate>(headers: &mut HeaderMap, passing: &Passing<G>) {
    let own = &passing.plan.http.strip_response_headers;
    for name in DROPPED.into_iter().chain(own.iter().map(String::as_str)) {
        headers.remove(name);
    }
}

fn strip<G: Gate>(parts: &mut Parts, passing: &Passing<G>) {
    drop_headers(&mut parts.headers, passing);
    // Of a message with both lengths the chunked one counts; how it is sent is the client's side's own.
    if parts.headers.remove(header::TRANSFER_ENCODING).is_some() {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    if passing.spoken == Spoken::One {
        // The client's side has its own.
        parts.version = hyper::Version::HTTP_11;
    }
}

/// What becomes of the bytes of a body.
#[derive(Debug)]
struct Filter {
    reader: Option<Reader>,
    covered: Option<Covered>,
    masker: Option<Masker>,
}

impl Filter {
    fn is_none(&self) -> bool {
        self.reader.is_none() && self.covered.is_none() && self.masker.is_none()
    }

    /// Takes the next bytes, and gives what of them goes on.
    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let Some((mut reader, room)) = self.reader.take() else {
            return self.read(bytes);
        };
        let mut out = Vec::new();
        reader.feed(bytes, |said| {
            out.append(&mut self.read(said)?);
            Ok(())
        })?;
        self.reader = Some((reader, room));
        Ok(out)
    }

    /// Takes what the next bytes say.
    fn read(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        match self.unpacks() {
            true => {
                let plain = self.mask(bytes.to_vec())?;
                self.cover(&plain)
            }
            false => {
                let plain = self.cover(bytes)?;
                self.mask(plain)
            }
        }
    }

    /// Whether the masker reads what is packed: what was covered before it would be no message.
    fn unpacks(&self) -> bool {
        self.masker.as_ref().is_some_and(Masker::unpacks)
    }

    fn cover(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut plain = Vec::with_capacity(bytes.len());
        match &mut self.covered {
            Some(covered) => covered.feed(bytes, &mut plain)?,
            None => plain.extend_from_slice(bytes),
        }
        Ok(plain)
    }

    /// Gives what is left.
    fn end(&mut self) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        if let Some((mut reader, _room)) = self.reader.take() {
            let mut rest = Vec::new();
            reader.end(&mut rest)?;
            out = self.read(&rest)?;
        }
        let mut masked = Vec::new();
        if let Some(masker) = self.masker.as_mut().filter(|masker| masker.unpacks()) {
            masker.end(&mut masked)?;
            out.append(&mut self.cover(&masked)?);
        }
        let mut plain = Vec::new();
        if let Some(covered) = &mut self.covered {
            covered.end(&mut plain)?;
        }
        if self.unpacks() {
            out.append(&mut plain);
            return Ok(out);
        }
        out.append(&mut self.mask(plain)?);
        if let Some(masker) = &mut self.masker {
            masker.end(&mut out)?;
        }
        Ok(out)
    }

    fn mask(&mut self, plain: Vec<u8>) -> Result<Vec<u8>, Broken> {
        let Some(masker) = &mut self.masker else {
            return Ok(plain);
        };
        let mut out = Vec::with_capacity(plain.len());
        masker.feed(&plain, &mut out)?;
        Ok(out)
    }

    /// How many bytes it takes at a time.
    fn piece(&self) -> usize {
        match self.reader {
            Some(_) => decode::STEP,
            None => PIECE,
        }
    }

    fn found(&self) -> bool {
        self.covered.as_ref().is_some_and(Covered::found)
    }
}

/// Carries a body on.
async fn pump<G: Gate>(
    mut incoming: Incoming,
    to: Lane,
    mut filter: Filter,
    mut passing: Passing<G>,
) {
    let gate = Arc::clone(&passing.ending.gate);
    let most = passing.plan.http.recorded_bytes;
    let mut track = Track::new(&*gate, Direction::Received, passing.ending.request, most);
    let ended = carry(&mut incoming, &to, &mut filter, (&mut track, &mut passing)).await;
    let outcome = &mut passing.ending.outcome;
    outcome.bytes = track.total();
    if let Some(masker) = filter.masker {
        for (kind, count) in masker.found() {
            *outcome.found.entry(kind).or_default() += count;
        }
    }
    match ended {
        Ok(()) => {
            drop(track.end().await);
            to.ends();
        }
        Err(Cut::Client) => outcome.status = format!("{}, cut off by the client", outcome.status),
        Err(Cut::Other(why)) => {
            outcome.status = format!("{}, cut off: {why}", outcome.status);
            to.breaks(io::Error::other(why));
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
    to: &Lane,
    filter: &mut Filter,
    (track, passing): (&mut Track<'_, G>, &mut Passing<G>),
) -> Result<(), Cut> {
    let mut trailers: Option<HeaderMap> = None;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| Cut::Other(error.to_string()))?;
        let bytes = match frame.into_data() {
            Ok(bytes) if bytes.is_empty() => continue,
            Ok(bytes) => bytes,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        passing.lease.renew();
        if filter.is_none() {
            give(bytes, to, track, passing.limit.as_ref()).await?;
            continue;
        }
        // What comes of one piece is not much more than it, whatever it is.
        for piece in bytes.chunks(filter.piece()) {
            let out = filter.feed(piece)?;
            if filter.found() {
                passing.returned("body")?;
            }
            give(out.into(), to, track, passing.limit.as_ref()).await?;
        }
    }
    let out = filter.end()?;
    if filter.found() {
        passing.returned("body")?;
    }
    give(out.into(), to, track, passing.limit.as_ref()).await?;
    if let Some(mut trailers) = trailers {
        drop_headers(&mut trailers, passing);
        passing.status(&mut trailers);
        let mut found = Found::default();
        let told = told::headers(&passing.masks, &mut trailers, &mut found);
        passing.found(&found);
        told?;
        if passing.masks.has_fields() {
            for name in of_body(&trailers) {
                trailers.remove(name);
            }
        }
        if let Some(forms) = &passing.forms
            && conceal::headers(forms, &mut trailers)
        {
            passing.returned("trailer")?;
        }
        track.trailers(&trailers).await?;
        sent(to, Frame::trailers(trailers)).await?;
    }
    Ok(())
}

async fn give<G: Gate>(
    bytes: Bytes,
    to: &Lane,
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
    sent(to, Frame::data(bytes)).await
}

async fn sent(to: &Lane, frame: Frame<Bytes>) -> Result<(), Cut> {
    match to.send(frame).await {
        true => Ok(()),
        false => Err(Cut::Client),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_a_body_is_known_by_its_name() {
        let names = [
            "etag",
            "content-length",
            "x-amz-checksum-crc32c",
            "x-amz-crc32",
            "x-goog-hash",
            "x-checksum-sha1",
        ];
        let mut headers = HeaderMap::new();
        for name in names.into_iter().chain(["content-type", "last-modified"]) {
            headers.insert(HeaderName::from_static(name), "1".parse().unwrap());
        }
        let mut found = of_body(&headers);
        found.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut names = names;
        names.sort_unstable();
        assert_eq!(found, names);
    }
}
