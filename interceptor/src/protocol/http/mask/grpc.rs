//! Bodies of gRPC: messages of protocol buffers, one after the other, each with its length before it.
//!
//! A message is held until it is there as a whole, since what is masked of it changes lengths before it. What comes
//! compressed is read as what it says, and goes on like that: each message says by itself whether it is compressed.

mod fields;
mod message;
mod schema;
mod wire;

use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use self::message::Reader;
use self::schema::MessageId;
pub use self::schema::Schema;
pub(in crate::protocol::http) use self::schema::Schemas;
use super::apply::Keys;
use super::decode::{Coding, Decoder};
use super::rules::{Reached, Rules};
use super::{Broken, Form, Found, Looked, Masker, Masks};
use crate::policy::GrpcFacts;
use crate::protocol::http::wire::query::escaped_but;
use crate::protocol::http::wire::unescape;
use crate::session::Direction;
use crate::session::meter::Room;

/// What stands before a message: whether it is compressed, and its length.
const HEAD: usize = 5;
/// Bytes of a message that are read at the least, whatever the target says: clients take no more by themselves.
const MESSAGE_MAX: usize = 4 << 20;

const LONG: Broken = Broken("it has a message longer than what is read of one");
const CROWDED: Broken = Broken("so many messages are held that there is no room for it");

/// What says by which compression messages may come.
pub(in crate::protocol::http) const ENCODING: &str = "grpc-encoding";
/// Why a call failed, for people.
const MESSAGE: &str = "grpc-message";
/// What stands there where nobody may see it.
const UNSHOWN: &str = "interceptor: what it said goes no farther";
/// The same as a message of any kind.
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// A procedure that is known.
#[derive(Clone, Debug)]
pub struct Call {
    schema: Arc<Schema>,
    asked: MessageId,
    answered: MessageId,
}

impl Call {
    /// What a schema says of a procedure; `None` where it does not know it.
    #[must_use]
    pub fn of(schema: &Arc<Schema>, named: &GrpcFacts) -> Option<Self> {
        let (asked, answered) = schema.method(&named.service, &named.method)?;
        Some(Self {
            schema: Arc::clone(schema),
            asked,
            answered,
        })
    }
}

/// How a body of messages is read.
#[derive(Debug)]
pub struct How<'a> {
    /// Whose they are: what is asked is another message than what is answered.
    pub direction: Direction,
    /// What came before it, and says how messages are compressed.
    pub headers: &'a HeaderMap,
    /// Bytes of a message that are read.
    pub most: usize,
    /// What no descriptor has goes no farther.
    pub strict: bool,
    /// Room for what is held of it.
    pub room: Room,
}

/// Whether a body of this media type is one of gRPC, whatever its messages are written in.
#[must_use]
pub fn is_grpc(media_type: &str) -> bool {
    let rest = media_type.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

impl Masks {
    /// What masks the messages of a call; `None` where nothing has to.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn grpc(
        &self,
        media_type: &str,
        call: Option<&Call>,
        how: How<'_>,
    ) -> Result<Option<Masker>, &'static str> {
        let reads = self.reads(media_type, call, &how);
        match reads {
            Ok((call, coding)) => {
                let grpc = Grpc::new(self, call, coding, how);
                Ok(Some(Masker(Form::Grpc(Box::new(grpc)))))
            }
            Err(why) if self.keeps() => Err(why),
            Err(_) => Ok(None),
        }
    }

    fn reads<'a>(
        &self,
        media_type: &str,
        call: Option<&'a Call>,
        how: &How<'_>,
    ) -> Result<(&'a Call, Option<Coding>), &'static str> {
        if !matches!(media_type, "application/grpc" | "application/grpc+proto") {
            return Err("its messages are no protocol buffers");
        }
        Ok((call.ok_or(UNKNOWN_CALL)?, coding(how)?))
    }

    /// Looks at why a call failed, in headers or trailers, and takes out what cannot be read of it: a sentence that
    /// names no fields may hold any of them.
    pub(in crate::protocol::http) fn status(
        &self,
        headers: &mut HeaderMap,
        strict: bool,
        found: &mut Found,
    ) {
        if strict && self.keeps() {
            headers.remove(DETAILS);
        }
        let is_kept = strict && self.has_fields();
        let looked = |said: &HeaderValue| {
            let text = unescape(said.as_bytes(), false).unwrap_or_else(|| said.as_bytes().to_vec());
            match self.look(&text, found) {
                _ if is_kept => HeaderValue::from_static(UNSHOWN),
                Looked::Same => said.clone(),
                Looked::Covered(text) => escaped(&text),
                Looked::Refused(_) => HeaderValue::from_static(UNSHOWN),
            }
        };
        let shown: Vec<_> = headers.get_all(MESSAGE).iter().map(looked).collect();
        headers.remove(MESSAGE);
        for shown in shown {
            headers.append(MESSAGE, shown);
        }
    }
}

/// Why a call goes nowhere, or its answer no farther.
pub(in crate::protocol::http) const UNKNOWN_CALL: &str =
    "no descriptor says what its messages hold (`http.grpc`)";
const CODED: &str = "its messages are compressed in a way that is not read here";

/// How its messages are compressed, where they are.
fn coding(how: &How<'_>) -> Result<Option<Coding>, &'static str> {
    let mut said = how.headers.get_all(ENCODING).iter();
    let (said, again) = (said.next(), said.next());
    match (said.map(|said| said.to_str().unwrap_or("?")), again) {
        (None | Some("identity"), None) => Ok(None),
        (Some(named), None) => Coding::of(named).map(Some).ok_or(CODED),
        (_, Some(_)) => Err(CODED),
    }
}

/// A message of a status as it stands in a header: letters of ASCII but `%`, the others escaped.
fn escaped(text: &[u8]) -> HeaderValue {
    let escaped = escaped_but(text, |byte| matches!(byte, b' '..=b'~') && byte != b'%');
    HeaderValue::try_from(escaped).unwrap_or(HeaderValue::from_static("*"))
}

/// A body of messages being masked.
#[derive(Debug)]
pub(super) struct Grpc {
    /// What reads them; none where they are only unpacked.
    reader: Option<Reader>,
    nothing: Found,
    /// What cannot be read goes on: nothing is kept from anybody.
    lenient: bool,
    /// Bytes of a message that go on as they are.
    passing: usize,
    coding: Option<Coding>,
    /// What came of the next message, with what stands before it.
    held: Vec<u8>,
    most: usize,
    room: Room,
    /// Bytes for which there is room.
    granted: usize,
}

impl Grpc {
    fn new(masks: &Masks, call: &Call, coding: Option<Coding>, how: How<'_>) -> Self {
        let message = match how.direction {
            Direction::Sent => call.asked,
            Direction::Received => call.answered,
        };
        Self {
            reader: Some(Reader::new(
                Arc::clone(&call.schema),
                message,
                masks,
                how.strict && masks.keeps(),
            )),
            lenient: !masks.keeps(),
            ..Self::of(coding, how)
        }
    }

    pub(super) fn unpacking(how: How<'_>) -> Result<Self, &'static str> {
        Ok(Self::of(coding(&how)?, how))
    }

    fn of(coding: Option<Coding>, how: How<'_>) -> Self {
        Self {
            reader: None,
            nothing: Found::default(),
            lenient: false,
            passing: 0,
            coding,
            held: Vec::new(),
            most: how.most.max(MESSAGE_MAX),
            room: how.room,
            granted: 0,
        }
    }

    pub(super) fn found(&self) -> &Found {
        self.reader.as_ref().map_or(&self.nothing, Reader::found)
    }

    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut rest = bytes;
        loop {
            if self.passing > 0 && !rest.is_empty() {
                let (passed, after) = rest.split_at(self.passing.min(rest.len()));
                out.extend_from_slice(passed);
                self.passing -= passed.len();
                rest = after;
            }
            let wanted = match self.head() {
                Ok(None) => HEAD,
                Ok(Some(length)) => HEAD + length,
                Err(broken) => {
                    self.passing = self.passes().ok_or(broken)?;
                    out.append(&mut self.held);
                    continue;
                }
            };
            let missing = wanted.saturating_sub(self.held.len());
            if missing == 0 {
                self.message(out)?;
                continue;
            }
            if rest.is_empty() {
                return Ok(());
            }
            let (taken, after) = rest.split_at(missing.min(rest.len()));
            self.held.extend_from_slice(taken);
            rest = after;
        }
    }

    pub(super) fn end(&self) -> Result<(), Broken> {
        match self.held.is_empty() && self.passing == 0 {
            true => Ok(()),
            false => Err(Broken("it ends in the middle of a message")),
        }
    }

    /// How long a message is that goes on as it is, where it cannot be held. What is compressed does not: what else
    /// reads it takes it for what it says.
    fn passes(&self) -> Option<usize> {
        let (head, _) = self.held.split_first_chunk::<HEAD>()?;
        let [flag, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).ok();
        length.filter(|_| self.lenient && flag == 0)
    }

    /// How long the next message is, once that is there.
    fn head(&mut self) -> Result<Option<usize>, Broken> {
        let Some((head, _)) = self.held.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_large| LONG)?;
        if length > self.most {
            return Err(LONG);
        }
        if flag > 1 {
            return Err(Broken(
                "it has a message of another kind than messages have",
            ));
        }
        // What is held, and what comes of it.
        self.grant(2 * length)?;
        Ok(Some(length))
    }

    /// Takes room for so many bytes, where there is not enough yet.
    fn grant(&mut self, bytes: usize) -> Result<(), Broken> {
        let more = bytes.saturating_sub(self.granted);
        if more > 0 {
            let more = u64::try_from(more).unwrap_or(u64::MAX);
            self.room.grow(more).map_err(|_full| CROWDED)?;
            self.granted = bytes;
        }
        Ok(())
    }

    /// Takes the message that is held.
    fn message(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut held = std::mem::take(&mut self.held);
        let body = held.get(HEAD..).unwrap_or_default();
        let unpacked = match held.first() {
            Some(1) => Some(self.unpack(body)?),
            _ => None,
        };
        let body = unpacked.as_deref().unwrap_or(body);
        let at = out.len();
        out.extend_from_slice(&[0; HEAD]);
        let read = match &mut self.reader {
            Some(reader) => reader.read(body, out),
            None => {
                out.extend_from_slice(body);
                Ok(())
            }
        };
        if let Err(broken) = read {
            if !self.lenient {
                return Err(broken);
            }
            out.truncate(at.saturating_add(HEAD));
            out.extend_from_slice(body);
        }
        let length = out.len().saturating_sub(at + HEAD);
        let length = u32::try_from(length).map_err(|_large| LONG)?;
        if let Some(said) = out.get_mut(at + 1..at + HEAD) {
            said.copy_from_slice(&length.to_be_bytes());
        }
        held.clear();
        self.held = held;
        Ok(())
    }

    /// What a compressed message says.
    fn unpack(&mut self, body: &[u8]) -> Result<Vec<u8>, Broken> {
        let coding = self
            .coding
            .ok_or(Broken("it has a compressed message, and does not say how"))?;
        let full = Broken("it is compressed, and there is no room for it");
        let mut decoder = Decoder::new(coding).ok_or(full)?;
        let mut out = Vec::new();
        decoder.feed(body, |said| {
            if out.len().saturating_add(said.len()) > self.most {
                return Err(LONG);
            }
            out.extend_from_slice(said);
            self.grant(body.len().saturating_add(2 * out.len()))
        })?;
        decoder.end(&mut out)?;
        match out.len() > self.most {
            true => Err(LONG),
            false => Ok(out),
        }
    }
}

#[cfg(test)]
mod tests;
