//! JSON as it goes by: read byte by byte, written as it was but for what is masked.
//!
//! RFC 8259, and several values one after the other. A key is held until its value is known to go on; a masked
//! value is held until it ends; everything else goes on at once. What is no JSON ends the answer.

mod known;
mod string;

use std::sync::Arc;

use self::known::{Known, Step};
use self::string::{Plain, unescape};
use super::apply::{Keys, Scalar, masked};
use super::rules::{Reached, Rules};
use super::text::Text;
use super::{Broken, Found, Masks};
use crate::masking::Mask;

/// Levels of nesting.
const DEPTH_MAX: usize = 256;
/// Bytes of a key, or of a value that is masked by what it is; longer ones are masked as nothing.
const HELD_MAX: usize = 64 << 10;
/// Bytes of a number or a word.
const TOKEN_MAX: usize = 512;
/// White space that is kept before a key.
const SPACE_MAX: usize = 256;

const MALFORMED: Broken = Broken("it is not well-formed JSON");
const LONG_KEY: Broken = Broken("it has a key longer than 64 KiB");

/// JSON being masked.
#[derive(Debug)]
pub(super) struct Json {
    rules: Arc<Rules>,
    keys: Arc<Keys>,
    known: Known,
    levels: Vec<Level>,
    state: State,
    /// How far rules are at the value that comes, and its mask.
    here: Reached,
    mask: Option<Mask>,
    /// White space and key of a member that is not written yet.
    pending: Vec<u8>,
    /// The token that is being read, where it is held.
    held: Vec<u8>,
    /// What stands in the place of a value, being made.
    shown: Vec<u8>,
    too_long: bool,
    escaped: bool,
    /// Levels that are left out with the value that they are in.
    skipping: usize,
    plain: Plain,
}

#[derive(Debug)]
struct Level {
    is_object: bool,
    /// Where rules are for what is in it.
    reached: Reached,
    /// The mask of its elements: an array under a masked key.
    mask: Option<Mask>,
    /// A comma was read that is not written.
    comma: bool,
    /// Something of it was written.
    written: bool,
    /// Nothing of it was read.
    empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value comes; `true` where the array may end instead.
    Value(bool),
    /// A key comes; `true` where the object may end instead.
    Key(bool),
    InKey,
    Colon,
    /// In a string that goes on.
    InPlain,
    /// In a string that is held.
    InHeld,
    /// In a number or a word.
    InToken,
    After,
}

impl Json {
    pub(super) fn new(masks: &Masks) -> Self {
        let detectors = masks.detectors.as_ref();
        Self {
            rules: Arc::clone(&masks.rules),
            keys: Arc::clone(&masks.keys),
            known: Known::default(),
            levels: Vec::new(),
            state: State::Value(false),
            here: masks.rules.start(),
            mask: None,
            pending: Vec::new(),
            held: Vec::new(),
            shown: Vec::new(),
            too_long: false,
            escaped: false,
            skipping: 0,
            plain: Plain::new(detectors.map(|with| Text::new(Arc::clone(with)))),
        }
    }

    /// Bytes that are held back.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.pending.len() + self.held.len()
    }

    pub(super) fn found(&self) -> &Found {
        self.plain.found()
    }

    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            rest = match self.run(rest, out)? {
                0 => {
                    self.byte(*first, out)?;
                    after
                }
                taken => rest.get(taken..).unwrap_or_default(),
            };
        }
        Ok(())
    }

    /// Takes a key, a string without escapes, or a number or a word, where it is there as a whole; how much that is.
    fn whole(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<usize, Broken> {
        match (self.state, rest) {
            (State::Value(_) | State::Key(_), [b'"', text @ ..]) => {
                let length = string::run(text);
                let text = text.get(..length).unwrap_or_default();
                let quoted = length.saturating_add(2);
                if rest.get(quoted.saturating_sub(1)) != Some(&b'"') || length > HELD_MAX {
                    return Ok(0);
                }
                match self.state {
                    State::Key(_) => self.end_key(text)?,
                    _ => self.string(text, out)?,
                }
                Ok(quoted)
            }
            (State::Value(_), [first, ..]) if is_token(*first) => {
                let length = rest.iter().take_while(|byte| is_token(**byte)).count();
                let token = rest.get(..length).unwrap_or_default();
                if length == rest.len() || length > TOKEN_MAX {
                    return Ok(0);
                }
                self.token(token, out)?;
                Ok(length)
            }
            _ => Ok(0),
        }
    }

    /// A string that is there as a whole, without escapes.
    fn string(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.skipping == 0 {
            if self.mask.is_some() {
                self.write_masked(&Scalar::Text(String::from_utf8_lossy(text)), out);
                self.ended();
                return Ok(());
            }
            self.write(b"\"", out);
            self.plain.feed(text, out)?;
        }
        self.end_plain(out)
    }

    /// A string that is not masked has ended.
    fn end_plain(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.skipping == 0 {
            self.plain.end(out)?;
            out.push(b'"');
        }
        self.ended();
        Ok(())
    }

    /// Takes what need not be looked at byte by byte; how much that is.
    fn run(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<usize, Broken> {
        let length = match self.state {
            State::Value(_) | State::Key(_) => return self.whole(rest, out),
            // Of what is left out nothing but a letter behind a backslash is looked at by itself.
            State::InPlain if self.skipping > 0 && self.plain.is_escaping() => 0,
            State::InKey | State::InHeld if self.escaped => 0,
            State::InPlain | State::InKey | State::InHeld => string::run(rest),
            State::InToken => rest.iter().take_while(|byte| is_token(**byte)).count(),
            State::Colon | State::After => 0,
        };
        let text = rest.get(..length).unwrap_or_default();
        match self.state {
            _ if length == 0 => {}
            State::InPlain if self.skipping == 0 => self.plain.feed(text, out)?,
            State::InKey | State::InHeld => self.hold(text),
            State::InToken => {
                if self.held.len().saturating_add(length) > TOKEN_MAX {
                    return Err(MALFORMED);
                }
                self.held.extend_from_slice(text);
            }
            _ => {}
        }
        Ok(length)
    }

    /// Keeps what a key, or a value that is masked, has so far.
    fn hold(&mut self, text: &[u8]) {
        let room = HELD_MAX.saturating_sub(self.held.len());
        self.too_long |= text.len() > room;
        let kept = text.get(..room.min(text.len())).unwrap_or_default();
        self.held.extend_from_slice(kept);
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.state == State::InToken {
            self.end_token(out)?;
        }
        match self.state {
            State::Value(_) if self.levels.is_empty() => Ok(()),
            _ => Err(MALFORMED),
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Broken> {
        match self.state {
            State::InPlain => self.in_plain(byte, out),
            State::InKey | State::InHeld => self.in_held(byte, out),
            State::InToken => {
                self.end_token(out)?;
                self.byte(byte, out)
            }
            _ if matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x1e) => {
                self.space(byte, out);
                Ok(())
            }
            State::Value(may_end) => self.value(byte, may_end, out),
            State::Key(may_end) => self.key(byte, may_end, out),
            State::Colon if byte == b':' => {
                if self.skipping == 0 {
                    self.pending.push(b':');
                }
                self.state = State::Value(false);
                Ok(())
            }
            State::After => self.after(byte, out),
            State::Colon => Err(MALFORMED),
        }
    }

    /// White space goes with what comes: with a key that may be left out, or as it is.
    fn space(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.skipping > 0 {
            return;
        }
        let waits = matches!(self.state, State::Key(_) | State::Colon) || !self.pending.is_empty();
        match waits {
            true if self.pending.len() < SPACE_MAX => self.pending.push(byte),
            true => {}
            false => out.push(byte),
        }
    }

    fn value(&mut self, byte: u8, may_end: bool, out: &mut Vec<u8>) -> Result<(), Broken> {
        match byte {
            b']' if may_end => return self.close(false, out),
            b'"' => {
                let is_held = self.mask.is_some() && self.skipping == 0;
                if !is_held {
                    self.write(b"\"", out);
                }
                self.held.clear();
                (self.too_long, self.escaped) = (false, false);
                self.state = if is_held {
                    State::InHeld
                } else {
                    State::InPlain
                };
            }
            b'{' => self.open(true, out)?,
            b'[' => self.open(false, out)?,
            byte if is_token(byte) => {
                self.held.clear();
                self.held.push(byte);
                self.state = State::InToken;
            }
            _ => return Err(MALFORMED),
        }
        Ok(())
    }

    /// Writes what goes on, with the member's key before it.
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.skipping > 0 {
            return;
        }
        if let Some(level) = self.levels.last_mut() {
            if level.is_object && level.comma && level.written {
                out.push(b',');
            }
            level.comma = false;
            level.written = true;
        }
        out.append(&mut self.pending);
        out.extend_from_slice(bytes);
    }

    fn open(&mut self, is_object: bool, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.levels.len() >= DEPTH_MAX {
            return Err(Broken("it is nested deeper than 256 levels"));
        }
        // An object under a masked key is left out; of an array each element is masked.
        if self.skipping > 0 || self.mask.is_some() && (is_object || self.mask == Some(Mask::Hide))
        {
            if self.skipping == 0 {
                self.write_masked(&Scalar::Nothing, out);
            }
            self.skipping = self.skipping.saturating_add(1);
        } else {
            self.write(if is_object { b"{" } else { b"[" }, out);
        }
        let mask = self.mask.take();
        self.levels.push(Level {
            is_object,
            reached: std::mem::take(&mut self.here),
            mask: mask.filter(|_| !is_object),
            comma: false,
            written: false,
            empty: true,
        });
        match is_object {
            true => self.state = State::Key(true),
            false => self.element(true),
        }
        Ok(())
    }

    /// An element of an array comes: it has its array's name.
    fn element(&mut self, may_end: bool) {
        if let Some(level) = self.levels.last() {
            self.here = level.reached.clone();
            self.mask = level.mask.clone();
        }
        self.state = State::Value(may_end);
    }

    fn close(&mut self, is_object: bool, out: &mut Vec<u8>) -> Result<(), Broken> {
        match self.levels.pop() {
            Some(level) if level.is_object == is_object => {}
            _ => return Err(MALFORMED),
        }
        match self.skipping.checked_sub(1) {
            Some(left) => self.skipping = left,
            None => {
                // What is left of white space before the end.
                out.append(&mut self.pending);
                out.push(if is_object { b'}' } else { b']' });
            }
        }
        self.pending.clear();
        self.ended();
        Ok(())
    }

    /// A value has ended.
    fn ended(&mut self) {
        self.mask = None;
        match self.levels.last_mut() {
            Some(level) => {
                level.empty = false;
                self.state = State::After;
            }
            None => {
                self.here = self.rules.start();
                self.state = State::Value(false);
            }
        }
    }

    fn key(&mut self, byte: u8, may_end: bool, out: &mut Vec<u8>) -> Result<(), Broken> {
        match byte {
            b'}' if may_end => self.close(true, out),
            b'"' => {
                self.held.clear();
                (self.too_long, self.escaped) = (false, false);
                self.state = State::InKey;
                Ok(())
            }
            _ => Err(MALFORMED),
        }
    }

    fn after(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Broken> {
        let is_object = self.levels.last().is_some_and(|level| level.is_object);
        match (byte, is_object) {
            (b',', true) => {
                if let Some(level) = self.levels.last_mut() {
                    level.comma = true;
                }
                self.state = State::Key(false);
            }
            (b',', false) => {
                if self.skipping == 0 {
                    out.push(b',');
                }
                self.element(false);
            }
            (b'}', true) => self.close(true, out)?,
            (b']', false) => self.close(false, out)?,
            _ => return Err(MALFORMED),
        }
        Ok(())
    }

    fn in_plain(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Broken> {
        match byte {
            0..0x20 => return Err(MALFORMED),
            b'"' if !self.plain.is_escaping() => self.end_plain(out)?,
            byte if self.skipping > 0 => self.plain.skip(byte),
            byte => self.plain.escape(byte, out)?,
        }
        Ok(())
    }

    /// In a key, or in a value that is masked.
    fn in_held(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Broken> {
        match byte {
            0..0x20 => return Err(MALFORMED),
            b'"' if !self.escaped => return self.end_held(out),
            byte => {
                self.escaped = byte == b'\\' && !self.escaped;
                self.hold(&[byte]);
            }
        }
        Ok(())
    }

    fn end_held(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::InHeld => {
                let value = match self.too_long {
                    true => Scalar::Nothing,
                    false => Scalar::Text(unescape(&held).ok_or(MALFORMED)?),
                };
                self.write_masked(&value, out);
                self.ended();
            }
            _ if self.too_long => return Err(LONG_KEY),
            _ => self.end_key(&held)?,
        }
        self.held = held;
        Ok(())
    }

    fn end_key(&mut self, raw: &[u8]) -> Result<(), Broken> {
        self.state = State::Colon;
        let from = match self.levels.last() {
            Some(level) if self.skipping == 0 => &level.reached,
            _ => return unescape(raw).map(drop).ok_or(MALFORMED),
        };
        if let Some(step) = self.known.find(from, raw) {
            (self.here, self.mask) = (step.here.clone(), step.mask.clone());
            self.pending.push(b'"');
            self.pending.extend_from_slice(raw);
            self.pending.push(b'"');
            return Ok(());
        }
        let key = unescape(raw).ok_or(MALFORMED)?;
        let (here, mask) = self.rules.step(from, &key);
        let mask = mask.cloned();
        let before = self.plain.found().total();
        let written = self.plain.whole(raw)?;
        self.pending.push(b'"');
        self.pending.extend_from_slice(&written);
        self.pending.push(b'"');
        let step = Step { here, mask };
        // One in which something was found is looked at, and counted, each time.
        if written == raw && self.plain.found().total() == before {
            self.known.keep(from, raw, &step);
        }
        (self.here, self.mask) = (step.here, step.mask);
        Ok(())
    }

    fn write_masked(&mut self, value: &Scalar<'_>, out: &mut Vec<u8>) {
        let Some(mask) = &self.mask else {
            return;
        };
        let in_object = self.levels.last().is_some_and(|level| level.is_object);
        if *mask == Mask::Hide && in_object {
            return self.pending.clear();
        }
        let mut shown = std::mem::take(&mut self.shown);
        shown.clear();
        masked(mask, value, &self.keys, &mut shown);
        self.write(&shown, out);
        self.shown = shown;
    }

    fn end_token(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let token = std::mem::take(&mut self.held);
        self.token(&token, out)?;
        self.held = token;
        Ok(())
    }

    fn token(&mut self, token: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let value = match token {
            b"true" | b"false" => Scalar::Flag,
            b"null" => Scalar::Nothing,
            number if string::is_number(number) => Scalar::Number(String::from_utf8_lossy(number)),
            _ => return Err(MALFORMED),
        };
        if self.skipping == 0 {
            match (&self.mask, &value) {
                (Some(_), value) => self.write_masked(value, out),
                (None, Scalar::Number(_)) => {
                    let seen = self.plain.number(token)?;
                    self.write(seen, out);
                }
                (None, _) => self.write(token, out),
            }
        }
        self.ended();
        Ok(())
    }
}

/// Whether a byte may stand in a number or a word.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}
