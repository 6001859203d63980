//! Where messages end in what goes by: their reader waits for nothing behind that. Of WebSockets (RFC 6455) the
//! frames are read, since a message may lie in several of them.

use std::sync::Arc;

use super::{APART, Concealer, Ends, Forms, covered};
use crate::protocol::http::mask::Broken;

/// Bytes of a control frame (RFC 6455 §5.5).
const CONTROL_MAX: u64 = 125;
/// Bytes before each message of gRPC.
const MESSAGE_HEAD: usize = 5;

/// Bytes of one answer, or of what a connection has become, with what they hold of a credential covered.
#[derive(Debug)]
pub(crate) struct Covered {
    concealer: Concealer,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// Text, or whatever it is: lines end.
    Lines,
    /// gRPC: messages, each behind its length.
    Messages(Messages),
    /// WebSocket: frames.
    Frames(Frames),
}

impl Covered {
    /// An answer of this media type.
    pub(crate) fn answer(forms: Arc<Forms>, media_type: &str) -> Self {
        let is_messages = ["application/grpc", "application/connect+"]
            .iter()
            .any(|kind| media_type.starts_with(kind));
        let shape = match is_messages && !media_type.contains("-text") {
            true => Shape::Messages(Messages::default()),
            false => Shape::Lines,
        };
        Self {
            concealer: Concealer::new(forms),
            shape,
        }
    }

    /// What a connection has become.
    pub(crate) fn connection(forms: Arc<Forms>, is_websocket: bool) -> Self {
        Self {
            concealer: Concealer::new(forms),
            shape: match is_websocket {
                true => Shape::Frames(Frames::default()),
                false => Shape::Lines,
            },
        }
    }

    /// Takes the next bytes, and gives what of them goes on.
    ///
    /// # Errors
    /// Where nothing can be looked for in what comes.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let ends = match &mut self.shape {
            Shape::Lines => {
                self.concealer.push(bytes, 0);
                bytes.last() == Some(&b'\n')
            }
            Shape::Messages(messages) => {
                self.concealer.push(bytes, 0);
                messages.feed(bytes)
            }
            Shape::Frames(frames) => frames.feed(bytes, &mut self.concealer)?,
        };
        let ends = match ends {
            true => Ends::Message,
            false => Ends::Nothing,
        };
        self.concealer.step(ends, out)
    }

    /// Gives what is left.
    ///
    /// # Errors
    /// As [`Covered::feed`].
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.concealer.step(Ends::All, out)
    }

    /// Whether something is kept back until more has come.
    pub(crate) fn holds(&self) -> bool {
        self.concealer.given < self.concealer.window.len()
    }

    /// Whether anything was covered.
    pub(crate) fn found(&self) -> bool {
        self.concealer.found
    }
}

#[derive(Debug, Default)]
struct Messages {
    head: Vec<u8>,
    left: u64,
}

impl Messages {
    /// Whether a message ends behind these bytes.
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let (_, rest) = bytes.split_at(within(self.left, bytes));
                self.left = self.left.saturating_sub(count(bytes, rest));
                bytes = rest;
                continue;
            }
            self.head.push(*first);
            bytes = rest;
            if let [_, length @ ..] = self.head.as_slice()
                && self.head.len() == MESSAGE_HEAD
            {
                self.left = number(length);
                self.head.clear();
            }
        }
        self.left == 0 && self.head.is_empty()
    }
}

#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    left: u64,
    /// A message has begun that another frame goes on with.
    is_begun: bool,
    /// What a control frame holds, so far.
    control: Option<Vec<u8>>,
}

impl Frames {
    /// Whether a message ends behind these bytes.
    fn feed(&mut self, mut bytes: &[u8], to: &mut Concealer) -> Result<bool, Broken> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left == 0 {
                self.head.push(*first);
                bytes = rest;
                if let Some(head) = Head::read(&self.head)? {
                    self.begin(&head, to)?;
                }
                continue;
            }
            let (piece, rest) = bytes.split_at(within(self.left, bytes));
            self.left = self.left.saturating_sub(count(bytes, rest));
            bytes = rest;
            match &mut self.control {
                Some(control) => control.extend_from_slice(piece),
                None => to.push(piece, 0),
            }
            if self.left == 0 {
                self.told(to);
            }
        }
        Ok(self.left == 0 && self.head.is_empty() && !self.is_begun)
    }

    fn begin(&mut self, head: &Head, to: &mut Concealer) -> Result<(), Broken> {
        to.push(&self.head, APART);
        self.head.clear();
        self.left = head.length;
        match head.is_control {
            true if head.length > CONTROL_MAX || !head.is_last => {
                return Err(Broken("a control frame is longer than control frames are"));
            }
            true => self.control = Some(Vec::new()),
            false => self.is_begun = !head.is_last,
        }
        if self.left == 0 {
            self.told(to);
        }
        Ok(())
    }

    /// A control frame is whole: it may stand between two pieces of a message, and is looked at by itself.
    fn told(&mut self, to: &mut Concealer) {
        if let Some(control) = self.control.take() {
            let shown = covered(&to.forms, &control);
            to.found |= shown.is_some();
            to.push(&shown.unwrap_or(control), APART);
        }
    }
}

/// What a frame begins with.
struct Head {
    is_last: bool,
    is_control: bool,
    length: u64,
}

impl Head {
    /// `None` where it is not whole.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Broken> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 || second & 0x80 != 0 {
            return Err(Broken("a frame is compressed or masked"));
        }
        let length = match second & 0x7f {
            126 if rest.len() < 2 => return Ok(None),
            127 if rest.len() < 8 => return Ok(None),
            126 | 127 => number(rest),
            length => u64::from(length),
        };
        Ok(Some(Self {
            is_last: first & 0x80 != 0,
            is_control: first & 0x08 != 0,
            length,
        }))
    }
}

/// A number, the highest byte first.
fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter();
    bytes.fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn within(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
}

fn count(bytes: &[u8], rest: &[u8]) -> u64 {
    u64::try_from(bytes.len().saturating_sub(rest.len())).unwrap_or(u64::MAX)
}
