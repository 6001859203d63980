//! Streams in SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, and its 3.1): frames, of which those of data are never
//! compressed. What each stream is for stands in the headers that its client opens it with.

mod headers;

use std::collections::BTreeMap;

use self::headers::Headers;
use super::{Broken, Channel, number, within};

/// Bytes of a control frame.
const CONTROL_MAX: u64 = 64 << 10;
/// What control frames begin with: the mark, and the version (§2.2.1).
const CONTROL: [u8; 2] = [0x80, 3];
/// Kinds of control frames (§2.6).
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;
/// Bytes of a control frame's head, and of each setting; how many settings there are (§2.6.4).
const HEAD: usize = 8;
const SETTING: usize = 8;
const SETTINGS_MAX: usize = 8;
/// A side has said its last on a stream.
const FIN: u8 = 1;
/// The most that one frame holds.
const LONGEST: usize = 0xff_ffff;

/// What one side says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Bytes of a stream; `ends` where its frame does, `last` where nothing comes behind them.
    Data {
        stream: u32,
        bytes: &'a [u8],
        ends: bool,
        last: bool,
    },
    /// A control frame, whole.
    Control(&'a [u8]),
}

/// One side being read.
#[derive(Debug, Default)]
struct Frames {
    /// The head of a frame, and all of a control frame.
    held: Vec<u8>,
    left: u64,
    stream: u32,
    is_last: bool,
}

impl Frames {
    /// Reads to the end of a frame; what is behind it.
    fn feed<'a>(
        &mut self,
        mut bytes: &'a [u8],
        mut take: impl FnMut(Event<'_>) -> Result<(), Broken>,
    ) -> Result<&'a [u8], Broken> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left == 0 {
                self.held.push(*first);
                bytes = rest;
                let Some(head) = self.held.first_chunk::<8>().copied() else {
                    continue;
                };
                self.begin(head)?;
                if self.left > 0 {
                    continue;
                }
            }
            let (piece, rest) = bytes.split_at(within(self.left, bytes));
            bytes = rest;
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.left = self.left.saturating_sub(length);
            let ends = self.left == 0;
            if self.held.is_empty() {
                take(Event::Data {
                    stream: self.stream,
                    bytes: piece,
                    ends,
                    last: ends && self.is_last,
                })?;
            } else {
                self.held.extend_from_slice(piece);
                if ends {
                    take(Event::Control(&std::mem::take(&mut self.held)))?;
                }
            }
            if ends {
                return Ok(bytes);
            }
        }
        Ok(bytes)
    }

    fn begin(&mut self, head: [u8; 8]) -> Result<(), Broken> {
        let [a, b, c, d, flags, length @ ..] = head;
        self.left = number(&length);
        if a & 0x80 == 0 {
            if flags & !FIN != 0 {
                return Err(Broken("a frame of data is marked as none is"));
            }
            self.held.clear();
            self.stream = u32::from_be_bytes([a, b, c, d]);
            self.is_last = flags & FIN != 0;
            return Ok(());
        }
        match [a, b] == CONTROL && self.left <= CONTROL_MAX {
            true => Ok(()),
            false => Err(Broken("a control frame is none of this version")),
        }
    }
}

/// Both sides.
#[derive(Debug, Default)]
pub(super) struct Spdy {
    sent: Frames,
    received: Frames,
    headers: Headers,
    /// Whether a block of headers has gone to the client.
    replied: bool,
    streams: BTreeMap<u32, Channel>,
}

impl Spdy {
    /// Reads what the client says next, to the end of a frame; what is behind it.
    pub(super) fn sent<'a>(
        &mut self,
        bytes: &'a [u8],
        mut take: impl FnMut(Channel, &[u8]) -> Result<(), Broken>,
    ) -> Result<&'a [u8], Broken> {
        let Self {
            sent,
            headers,
            streams,
            ..
        } = self;
        sent.feed(bytes, |event| match event {
            Event::Data { stream, bytes, .. } => {
                let channel = streams.get(&stream).copied();
                take(channel.ok_or(UNOPENED)?, bytes)
            }
            Event::Control(frame) => opened(frame, headers, streams),
        })
    }

    /// The same of the server.
    pub(super) fn received<'a>(
        &mut self,
        bytes: &'a [u8],
        mut take: impl FnMut(Option<Channel>, Event<'_>) -> Result<(), Broken>,
    ) -> Result<&'a [u8], Broken> {
        let Self {
            received,
            replied,
            streams,
            ..
        } = self;
        received.feed(bytes, |event| match event {
            Event::Data { stream, .. } => {
                let channel = streams.get(&stream).copied();
                take(Some(channel.ok_or(UNOPENED)?), event)
            }
            Event::Control(frame) => take(None, Event::Control(&plain(frame, replied, streams)?)),
        })
    }

    /// The stream of a channel.
    pub(super) fn stream(&self, channel: Channel) -> Option<u32> {
        let mut streams = self.streams.iter();
        streams.find_map(|(stream, is)| (*is == channel).then_some(*stream))
    }
}

const UNOPENED: Broken = Broken("bytes come on a stream that nobody has opened");

/// Reads what a client's control frame opens. What is compressed is read of all, as it is in one.
fn opened(
    frame: &[u8],
    headers: &mut Headers,
    streams: &mut BTreeMap<u32, Channel>,
) -> Result<(), Broken> {
    let kind = kind(frame);
    let before = match kind {
        SYN_STREAM => 18,
        SYN_REPLY | HEADERS => 12,
        _ => return Ok(()),
    };
    let short = Broken("a control frame is too short for what it is");
    let block = frame.get(before..).ok_or(short)?;
    let said = headers.read(block)?;
    let stream = stream_of(frame).ok_or(short)?;
    if kind != SYN_STREAM {
        return Ok(());
    }
    let channel = match said.stream_type()? {
        "error" => Channel::Status,
        "stdin" => Channel::Input,
        "stdout" => Channel::Output,
        "stderr" => Channel::Errors,
        "resize" => Channel::Size,
        _ => return Err(Broken("a stream is opened for what nothing is known of")),
    };
    if streams.values().any(|known| *known == channel) {
        return Err(Broken("two streams are opened for the same"));
    }
    match streams.insert(stream, channel) {
        None => Ok(()),
        Some(_) => Err(Broken("a stream is opened twice")),
    }
}

/// What kind of control frame it is.
fn kind(frame: &[u8]) -> u16 {
    let kind = frame.get(2..4).and_then(|kind| kind.try_into().ok());
    kind.map(u16::from_be_bytes).unwrap_or_default()
}

/// The stream that stands first in a control frame.
fn stream_of(frame: &[u8]) -> Option<u32> {
    let [a, b, c, d] = frame.get(8..12)?.try_into().ok()?;
    Some(u32::from_be_bytes([a & 0x7f, b, c, d]))
}

/// A server's control frame as it goes on: what may hold words goes on without them, as nothing looks at those.
fn plain(
    frame: &[u8],
    replied: &mut bool,
    streams: &BTreeMap<u32, Channel>,
) -> Result<Vec<u8>, Broken> {
    let body = frame.len().saturating_sub(HEAD);
    let is_whole = match kind(frame) {
        SYN_REPLY => {
            let known = stream_of(frame).filter(|stream| streams.contains_key(stream));
            let stream = known.ok_or(UNOPENED)?;
            let flags = frame.get(4).copied().unwrap_or_default();
            let fin = if flags & FIN != 0 { FIN } else { 0 };
            return Ok(reply(stream, fin, !std::mem::replace(replied, true)));
        }
        SYN_STREAM => return Err(Broken("the server opens a stream")),
        HEADERS => return Err(Broken("the server sends headers that nobody waits for")),
        RST_STREAM | GOAWAY | WINDOW_UPDATE => body == 8,
        PING => body == 4,
        SETTINGS => {
            let settings = body.saturating_sub(4) / SETTING;
            settings <= SETTINGS_MAX
                && body == 4_usize.saturating_add(settings.saturating_mul(SETTING))
        }
        _ => return Err(Broken("a control frame is of a kind that is none")),
    };
    match is_whole {
        true => Ok(frame.to_vec()),
        false => Err(Broken(
            "a control frame is longer or shorter than its kind is",
        )),
    }
}

/// An answer to the opening of a stream, without headers.
fn reply(stream: u32, fin: u8, is_first: bool) -> Vec<u8> {
    let block = headers::none(is_first);
    let length = block.len().saturating_add(4);
    let [.., a, b, c] = length.to_be_bytes();
    let mut out = CONTROL.to_vec();
    out.extend_from_slice(&SYN_REPLY.to_be_bytes());
    out.extend_from_slice(&[fin, a, b, c]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&block);
    out
}

/// Whether a control frame is the last that is heard of all streams, or of this one.
pub(super) fn ends(frame: &[u8], of: Option<u32>) -> bool {
    match kind(frame) {
        GOAWAY => true,
        RST_STREAM => of.is_none() || stream_of(frame) == of,
        _ => false,
    }
}

/// A frame of data, or more where it is longer than one may be.
pub(super) fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().saturating_add(8));
    let (mut bytes, mut rest) = bytes.split_at(bytes.len().min(LONGEST));
    loop {
        let [.., a, b, c] = bytes.len().to_be_bytes();
        let fin = if last && rest.is_empty() { FIN } else { 0 };
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(&[fin, a, b, c]);
        out.extend_from_slice(bytes);
        if rest.is_empty() {
            return out;
        }
        (bytes, rest) = rest.split_at(rest.len().min(LONGEST));
    }
}
