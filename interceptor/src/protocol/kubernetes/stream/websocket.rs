//! Streams in a WebSocket (RFC 6455): each message begins with the number of its channel, as a byte, or as a digit
//! before base64. Read as it comes, in pieces: a frame may be of any length.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Broken, number, within};

/// Bytes of a control frame (RFC 6455 §5.5).
const CONTROL_MAX: u64 = 125;
/// What a message that goes on begins with (§5.2): its last frame, text or binary.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
/// The end of the connection.
pub(super) const CLOSE: u8 = 0x8;
/// Lengths that are said in two and in eight bytes more.
const SHORT: u64 = 126;
const LONG: u64 = 0x1_0000;

/// What one side says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Bytes of a channel; `ends` where its message does.
    Data {
        channel: u8,
        bytes: &'a [u8],
        ends: bool,
    },
    /// A control frame.
    Control { kind: u8, bytes: &'a [u8] },
}

/// One side being read.
#[derive(Debug)]
pub(super) struct Frames {
    /// Whether its bytes are masked, as those of clients are.
    masked: bool,
    /// Whether what it says is base64.
    coded: bool,
    head: Vec<u8>,
    left: u64,
    mask: [u8; 4],
    at: usize,
    kind: u8,
    is_last: bool,
    /// A message has begun that another frame goes on with.
    is_begun: bool,
    channel: Option<u8>,
    /// Letters that are no whole group yet.
    letters: Vec<u8>,
    control: Vec<u8>,
}

impl Frames {
    pub(super) fn new(masked: bool, coded: bool) -> Self {
        Self {
            masked,
            coded,
            head: Vec::new(),
            left: 0,
            mask: [0; 4],
            at: 0,
            kind: 0,
            is_last: false,
            is_begun: false,
            channel: None,
            letters: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Reads what comes next, to the end of a frame; what is behind it.
    pub(super) fn feed<'a>(
        &mut self,
        mut bytes: &'a [u8],
        mut take: impl FnMut(Event<'_>) -> Result<(), Broken>,
    ) -> Result<&'a [u8], Broken> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left == 0 {
                self.head.push(*first);
                bytes = rest;
                if self.begin()? && self.left == 0 {
                    self.piece(Vec::new(), &mut take)?;
                    return Ok(bytes);
                }
                continue;
            }
            let (piece, rest) = bytes.split_at(within(self.left, bytes));
            bytes = rest;
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.left = self.left.saturating_sub(length);
            let mut plain = piece.to_vec();
            if self.masked {
                let mask = self.mask.iter().cycle().skip(self.at);
                plain
                    .iter_mut()
                    .zip(mask)
                    .for_each(|(byte, by)| *byte ^= by);
                self.at = self.at.wrapping_add(piece.len()) % self.mask.len();
            }
            self.piece(plain, &mut take)?;
            if self.left == 0 {
                return Ok(bytes);
            }
        }
        Ok(bytes)
    }

    /// Reads the head of a frame; whether it is whole.
    fn begin(&mut self) -> Result<bool, Broken> {
        let [first, second, rest @ ..] = self.head.as_slice() else {
            return Ok(false);
        };
        if first & 0x70 != 0 || (second & 0x80 != 0) != self.masked {
            return Err(Broken(
                "a frame is compressed, or masked as none of its side is",
            ));
        }
        let (more, mask) = (second & 0x7f, if self.masked { 4 } else { 0 });
        let wide = match more {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((length, mask)) = rest
            .split_at_checked(wide)
            .filter(|(_, rest)| rest.len() == mask)
        else {
            return Ok(false);
        };
        self.left = match wide {
            0 => u64::from(more),
            _ => number(length),
        };
        self.mask = <[u8; 4]>::try_from(mask).unwrap_or_default();
        (self.at, self.kind, self.is_last) = (0, first & 0x0f, first & 0x80 != 0);
        let is_control = self.kind & 0x8 != 0;
        match self.kind {
            CLOSE..=0xa if self.left > CONTROL_MAX || !self.is_last => {
                return Err(Broken("a control frame is longer than control frames are"));
            }
            CLOSE..=0xa => {}
            0 if self.is_begun => {}
            1 | 2 if !self.is_begun => {}
            _ => return Err(Broken("a frame is none that could come here")),
        }
        if !is_control {
            self.is_begun = true;
        }
        self.head.clear();
        Ok(true)
    }

    /// Bytes of the frame, without their mask.
    fn piece(
        &mut self,
        bytes: Vec<u8>,
        take: &mut impl FnMut(Event<'_>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        if self.kind & 0x8 != 0 {
            self.control.extend_from_slice(&bytes);
            if self.left > 0 {
                return Ok(());
            }
            let control = std::mem::take(&mut self.control);
            let kind = self.kind;
            return take(Event::Control {
                kind,
                bytes: &control,
            });
        }
        let ends = self.left == 0 && self.is_last;
        let mut bytes = bytes.as_slice();
        if self.channel.is_none()
            && let Some((first, rest)) = bytes.split_first()
        {
            let channel = match self.coded {
                true => first.checked_sub(b'0'),
                false => Some(*first),
            };
            self.channel = Some(channel.ok_or(Broken("a message names no channel"))?);
            bytes = rest;
        }
        let decoded;
        if self.coded {
            decoded = self.decode(bytes, ends)?;
            bytes = &decoded;
        }
        let channel = self.channel;
        if ends {
            self.is_begun = false;
            self.channel = None;
        }
        match channel {
            Some(channel) => take(Event::Data {
                channel,
                bytes,
                ends,
            }),
            None => Ok(()),
        }
    }

    fn decode(&mut self, letters: &[u8], ends: bool) -> Result<Vec<u8>, Broken> {
        self.letters.extend_from_slice(letters);
        let whole = self.letters.len() - self.letters.len() % 4;
        let letters: Vec<u8> = self.letters.drain(..whole).collect();
        let decoded = BASE64_STANDARD.decode(letters).ok();
        decoded
            .filter(|_| !ends || self.letters.is_empty())
            .ok_or(Broken("a message is not base64"))
    }
}

/// A message of a server's.
pub(super) fn message(channel: u8, bytes: &[u8], coded: bool) -> Vec<u8> {
    match coded {
        false => frame(BINARY, &[&[channel], bytes].concat()),
        true => {
            let text = BASE64_STANDARD.encode(bytes);
            let digit = b'0'.saturating_add(channel);
            frame(TEXT, &[&[digit], text.as_bytes()].concat())
        }
    }
}

/// A control frame of a server's.
pub(super) fn control(kind: u8, bytes: &[u8]) -> Vec<u8> {
    frame(0x80 | kind, bytes)
}

fn frame(first: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut out = vec![first];
    let [.., high, low] = length.to_be_bytes();
    match length {
        ..SHORT => out.push(low),
        SHORT..LONG => out.extend_from_slice(&[126, high, low]),
        LONG.. => {
            out.push(127);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
    out
}
