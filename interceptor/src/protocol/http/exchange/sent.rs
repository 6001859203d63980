//! What leaves in a request: values looked for in its query, its headers and its body before they go on. What is
//! judged, shown to people, recorded and sent is what is left.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use super::lane::Lane;
use super::{Plan, UNSHOWN, inject};
use crate::config::{Http, Unread};
use crate::policy::Refusal;
use crate::protocol::http::Body;
use crate::protocol::http::facts::{Facts, Wrong, media_type_of};
use crate::protocol::http::inject::Chunks;
use crate::protocol::http::mask::{Broken, Found, Looked, Masker, Masks, grpc};
use crate::protocol::http::record::Track;
use crate::session::meter::Room;
use crate::session::{Direction, Gate, RequestId};

/// Headers that are the connection's or the exchange's own, and hold numbers, marks of a server's, or names of
/// programs, beside those that people are not shown.
const UNLOOKED: [&str; 14] = [
    "cache-control",
    "content-encoding",
    "content-type",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "range",
    "sec-websocket-key",
    "sec-websocket-version",
    "te",
    "trailer",
    "upgrade",
];
/// How a form is written, as a query is.
const FORM: &str = "application/x-www-form-urlencoded";
/// Bytes of a body that are looked at at a time.
const PIECE: usize = 16 << 10;

/// What is looked for in one request, and what was found.
#[derive(Clone)]
pub(in crate::protocol::http) struct Sent {
    masks: Arc<Masks>,
    unread: Unread,
    /// Bytes of a message of gRPC that are read.
    most: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    found: Found,
    /// Why the body was cut off.
    cut: Option<Wrong>,
}

impl Sent {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            masks: Arc::clone(&plan.sent),
            unread: plan.http.unread,
            most: plan.http.judged_bytes,
            state: Arc::default(),
        }
    }

    /// How many values of which kinds were found.
    pub(in crate::protocol::http) fn found(&self) -> BTreeMap<&'static str, u64> {
        self.with(|state| state.found.counts().clone())
    }

    /// Why the body did not go on to its end, where what stands in it is why.
    pub(super) fn cut(&self) -> Option<Refusal> {
        self.with(|state| state.cut).map(Wrong::refusal)
    }

    /// Whether a body is read before it goes on, where it is short: nothing of it leaves then that must not.
    pub(super) fn waits(&self) -> bool {
        self.masks.keeps()
    }

    fn with<T>(&self, does: impl FnOnce(&mut State) -> T) -> T {
        does(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self, text: &[u8]) -> Looked {
        self.with(|state| self.masks.look(text, &mut state.found))
    }

    /// Looks at a head. A path goes on as it is or not at all: another one would be another request.
    pub(super) fn head(&self, parts: &mut Parts) -> Result<(), Wrong> {
        if self.masks.is_empty() {
            return Ok(());
        }
        let path = super::mask::said(parts.uri.path().as_bytes());
        match self.look(&path) {
            Looked::Same => {}
            Looked::Covered(_) => {
                return Err(Wrong::Unreadable(
                    "a value stands in the path that must not leave",
                ));
            }
            Looked::Refused(kind) => return Err(Wrong::Leaving(kind)),
        }
        if let Some(raw) = parts.uri.query() {
            let masker = self.masks.masker(FORM).map_err(Wrong::Unreadable)?;
            let query = match masker {
                Some(masker) => Some(self.whole(masker, raw.as_bytes())?),
                None => None,
            };
            if let Some(query) = query.and_then(|query| String::from_utf8(query).ok())
                && query != raw
            {
                inject::set_query(parts, &query);
            }
        }
        self.headers(&mut parts.headers)
    }

    /// Looks at headers, or trailers.
    pub(super) fn headers(&self, headers: &mut HeaderMap) -> Result<(), Wrong> {
        if self.masks.is_empty() {
            return Ok(());
        }
        for (name, value) in headers.iter_mut() {
            if is_own(name) {
                continue;
            }
            match self.look(value.as_bytes()) {
                Looked::Same => {}
                // What is covered holds no byte that a value may not.
                Looked::Covered(text) => {
                    *value =
                        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("*"));
                }
                Looked::Refused(kind) => return Err(Wrong::Leaving(kind)),
            }
        }
        Ok(())
    }

    /// What looks at a body; `None` where nothing does. Messages of gRPC are read by what is known of the call.
    pub(super) fn body(
        &self,
        parts: &Parts,
        facts: &Facts,
        (call, room): (Option<grpc::Call>, Room),
    ) -> Result<Option<Masker>, Wrong> {
        if self.masks.is_empty() {
            return Ok(None);
        }
        let media_type = media_type_of(&parts.headers);
        let made = match () {
            () if !facts.http.upgrade.is_empty() && self.masks.keeps() => {
                Err("what becomes of its connection cannot be looked through")
            }
            () if parts.headers.contains_key(header::CONTENT_ENCODING) && self.masks.keeps() => {
                Err("its body is compressed")
            }
            () if parts.headers.contains_key(header::CONTENT_ENCODING) => Ok(None),
            () if inject::is_in_pieces(&parts.headers) && self.masks.keeps() => {
                Err("its body comes in signed pieces")
            }
            () if inject::is_in_pieces(&parts.headers) => Ok(None),
            // Its parts are looked at as they are.
            () if media_type.starts_with("multipart/") => self.masks.masker("text/plain"),
            () if grpc::is_grpc(&media_type) => {
                let how = grpc::How {
                    direction: Direction::Sent,
                    headers: &parts.headers,
                    most: self.most,
                    strict: self.unread == Unread::Refuse,
                    room,
                };
                self.masks.grpc(&media_type, call.as_ref(), how)
            }
            () => self.masks.masker(&media_type),
        };
        match (made, self.unread) {
            (Ok(masker), _) => Ok(masker),
            (Err(_), Unread::Pass) => Ok(None),
            (Err(why), Unread::Refuse) => Err(Wrong::Unreadable(why)),
        }
    }

    /// Looks at bytes that are there as a whole.
    pub(super) fn whole(&self, mut masker: Masker, bytes: &[u8]) -> Result<Vec<u8>, Wrong> {
        let mut out = Vec::with_capacity(bytes.len());
        let looked = masker
            .feed(bytes, &mut out)
            .and_then(|()| masker.end(&mut out));
        self.looked(&masker, looked)?;
        Ok(out)
    }

    /// Keeps what was found, and says why a body goes no farther.
    fn looked(&self, masker: &Masker, looked: Result<(), Broken>) -> Result<(), Wrong> {
        let found = masker.found();
        self.with(|state| state.found.add(&found));
        looked.map_err(|broken| match self.masks.refuses(&found) {
            Some(kind) => Wrong::Leaving(kind),
            None => Wrong::Unreadable(broken.0),
        })
    }
}

fn is_own(name: &HeaderName) -> bool {
    UNSHOWN.contains(&name.as_str()) || UNLOOKED.contains(&name.as_str())
}

/// One body on its way: looked at, recorded, sent.
pub(super) struct Leaving<G> {
    pub(super) gate: Arc<G>,
    pub(super) request: RequestId,
    pub(super) settings: Arc<Http>,
    pub(super) sent: Sent,
    /// What looks at it, where that was not done before.
    pub(super) masker: Option<Masker>,
    /// What signs its pieces, where it comes in such.
    pub(super) chunks: Option<Chunks>,
}

impl<G: Gate> Leaving<G> {
    /// Carries it on, without what its trailers present.
    pub(super) async fn carry(mut self, mut body: Body, to: Lane) {
        let gate = Arc::clone(&self.gate);
        let mut track = Track::new(
            &*gate,
            Direction::Sent,
            self.request,
            self.settings.recorded_bytes,
        );
        let carried = self.pass(&mut body, &to, &mut track).await;
        if let Some(masker) = &self.masker {
            let found = masker.found();
            self.sent.with(|state| state.found.add(&found));
        }
        match carried {
            Ok(true) => {
                to.ends();
                drop(track.end().await);
            }
            Ok(false) => drop(to),
            Err(error) => to.breaks(error),
        }
    }

    /// Whether it came to its end: whoever takes it may be gone before.
    async fn pass(
        &mut self,
        body: &mut Body,
        to: &Lane,
        track: &mut Track<'_, G>,
    ) -> io::Result<bool> {
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            let bytes = match frame?.into_data() {
                Ok(bytes) => bytes,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            if self.masker.is_none() {
                track.body(&bytes).await.map_err(refused)?;
                if !self.put(bytes, to).await? {
                    return Ok(false);
                }
                continue;
            }
            for piece in bytes.chunks(PIECE) {
                if !self.give(Some(piece), to, track).await? {
                    return Ok(false);
                }
            }
        }
        if !self.give(None, to, track).await? {
            return Ok(false);
        }
        if let Some(Err(wrong)) = self.chunks.as_ref().map(Chunks::end) {
            return Err(self.broke(wrong));
        }
        match trailers {
            Some(trailers) => self.trailers(trailers, to, track).await,
            None => Ok(true),
        }
    }

    /// Looks at a piece, and sends what may go on; without one, at the end.
    async fn give(
        &mut self,
        piece: Option<&[u8]>,
        to: &Lane,
        track: &mut Track<'_, G>,
    ) -> io::Result<bool> {
        let Some(masker) = &mut self.masker else {
            return Ok(true);
        };
        let mut out = Vec::new();
        let looked = match piece {
            Some(piece) => masker.feed(piece, &mut out),
            None => masker.end(&mut out),
        };
        if let Err(broken) = looked {
            let wrong = match self.sent.masks.refuses(&masker.found()) {
                Some(kind) => Wrong::Leaving(kind),
                None => Wrong::Unreadable(broken.0),
            };
            self.sent.with(|state| state.cut = Some(wrong));
            return Err(io::Error::other(broken.0));
        }
        if out.is_empty() {
            return Ok(true);
        }
        let out = Bytes::from(out);
        track.body(&out).await.map_err(refused)?;
        self.put(out, to).await
    }

    /// Sends bytes, signed anew where they are signed; whether anybody takes them.
    async fn put(&mut self, bytes: Bytes, to: &Lane) -> io::Result<bool> {
        let Some(chunks) = &mut self.chunks else {
            return Ok(to.send(Frame::data(bytes)).await);
        };
        let mut out = Vec::new();
        if let Err(wrong) = chunks.feed(&bytes, &mut out) {
            return Err(self.broke(wrong));
        }
        match out.is_empty() {
            true => Ok(true),
            false => Ok(to.send(Frame::data(out.into())).await),
        }
    }

    /// Keeps why its pieces cannot be signed.
    fn broke(&self, wrong: Wrong) -> io::Error {
        self.sent.with(|state| state.cut = Some(wrong));
        io::Error::other("its pieces cannot be signed")
    }

    async fn trailers(
        &self,
        mut trailers: HeaderMap,
        to: &Lane,
        track: &Track<'_, G>,
    ) -> io::Result<bool> {
        let presented = inject::strip_headers(&mut trailers, &self.settings);
        for (place, value) in &presented {
            self.gate.presented(place, value).map_err(refused)?;
        }
        if let Err(wrong) = self.sent.headers(&mut trailers) {
            self.sent.with(|state| state.cut = Some(wrong));
            return Err(io::Error::other("its trailers hold what must not leave"));
        }
        track.trailers(&trailers).await.map_err(refused)?;
        Ok(to.send(Frame::trailers(trailers)).await)
    }
}

fn refused(refusal: Refusal) -> io::Error {
    io::Error::other(refusal.message)
}

#[cfg(test)]
mod tests;
