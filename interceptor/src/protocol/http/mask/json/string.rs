//! Strings and numbers of JSON: what they say, and the detectors' look at those that are not masked by their key.

use std::borrow::Cow;

use crate::protocol::http::mask::text::Text;
use crate::protocol::http::mask::{Broken, Found};

/// How many bytes go on as they are, at the front of a string: up to its end, an escape or a byte that may not stand
/// in one.
pub(super) fn run(bytes: &[u8]) -> usize {
    let (eights, rest) = bytes.as_chunks::<8>();
    for (before, eight) in eights.iter().enumerate() {
        let ends = ends(u64::from_le_bytes(*eight));
        if ends != 0 {
            // The lowest mark is right; what is above it may be carried over.
            let within = usize::try_from(ends.trailing_zeros() / 8).unwrap_or_default();
            return before * 8 + within;
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let before = eights.len() * 8;
    before + rest.iter().position(ends).unwrap_or(rest.len())
}

/// Marks, in the highest bit of each of eight bytes, those at which a run ends.
fn ends(eight: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xff;
    let below = |bound: u64, bytes: u64| bytes.wrapping_sub(EACH * bound) & !bytes;
    let quote = below(1, eight ^ (EACH * 0x22));
    let backslash = below(1, eight ^ (EACH * 0x5c));
    (below(0x20, eight) | quote | backslash) & (EACH * 0x80)
}

/// What a string says; `None` where an escape is none. Half of a pair says U+FFFD.
pub(super) fn unescape(raw: &[u8]) -> Option<Cow<'_, str>> {
    if !raw.contains(&b'\\') {
        return Some(String::from_utf8_lossy(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(rest.get(..at)?);
        let (said, taken) = escape(rest.get(at..)?)?;
        let mut buffer = [0; 4];
        out.extend_from_slice(
            said.unwrap_or('\u{fffd}')
                .encode_utf8(&mut buffer)
                .as_bytes(),
        );
        rest = rest.get(at..)?.get(taken..)?;
    }
    out.extend_from_slice(rest);
    Some(Cow::Owned(String::from_utf8_lossy(&out).into_owned()))
}

/// What one escape says, and its length; half of a pair says nothing.
fn escape(bytes: &[u8]) -> Option<(Option<char>, usize)> {
    let said = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(bytes),
        _ => return None,
    };
    Some((Some(said), 2))
}

fn unicode(bytes: &[u8]) -> Option<(Option<char>, usize)> {
    let unit = |at: usize| {
        let text = std::str::from_utf8(bytes.get(at..at + 4)?).ok()?;
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| u16::from_str_radix(text, 16).ok())?
    };
    let first = unit(2)?;
    if let Some(Ok(said)) = char::decode_utf16([first]).next() {
        return Some((Some(said), 6));
    }
    if bytes.get(6..8) == Some(b"\\u")
        && let Some(second) = unit(8)
        && let Some(Ok(said)) = char::decode_utf16([first, second]).next()
    {
        return Some((Some(said), 12));
    }
    Some((None, 6))
}

/// Whether a token is a number of JSON.
pub(super) fn is_number(token: &[u8]) -> bool {
    let token = token.strip_prefix(b"-").unwrap_or(token);
    let digits = |bytes: &[u8]| {
        bytes
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let whole = digits(token);
    if whole == 0 || whole > 1 && token.starts_with(b"0") {
        return false;
    }
    let mut rest = token.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = fraction.get(count..).unwrap_or_default();
    }
    let Some((b'e' | b'E', power)) = rest.split_first() else {
        return rest.is_empty();
    };
    let power = power
        .strip_prefix(b"+")
        .or_else(|| power.strip_prefix(b"-"))
        .unwrap_or(power);
    !power.is_empty() && digits(power) == power.len()
}

/// Strings that no key masks. With detectors, escapes are written as what they say where JSON lets them be: a value
/// is found however it is escaped.
#[derive(Debug)]
pub(super) struct Plain {
    text: Option<Text>,
    nothing: Found,
    /// An escape that has not come to its end.
    escape: Vec<u8>,
}

impl Plain {
    pub(super) fn new(text: Option<Text>) -> Self {
        Self {
            text,
            nothing: Found::default(),
            escape: Vec::new(),
        }
    }

    pub(super) fn found(&self) -> &Found {
        self.text.as_ref().map_or(&self.nothing, Text::found)
    }

    /// Whether an escape has begun whose first letter has not come.
    pub(super) fn is_escaping(&self) -> bool {
        self.escape.as_slice() == b"\\" || self.escape.len() == 7 && self.escape.ends_with(b"\\")
    }

    /// Bytes without escapes in them.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut rest = bytes;
        while !self.escape.is_empty() {
            let Some((first, after)) = rest.split_first() else {
                return Ok(());
            };
            self.escape(*first, out)?;
            rest = after;
        }
        self.pass(rest, out)
    }

    /// A byte of an escape, or one behind it.
    pub(super) fn escape(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.escape.is_empty() && byte != b'\\' {
            return self.pass(&[byte], out);
        }
        self.escape.push(byte);
        self.settle(false, out)
    }

    /// Follows escapes of a string that is left out.
    pub(super) fn skip(&mut self, byte: u8) {
        match self.escape.as_slice() {
            b"\\" => self.escape.clear(),
            _ if byte == b'\\' => self.escape.push(byte),
            _ => {}
        }
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.settle(true, out)?;
        if let Some(text) = &mut self.text {
            text.end(out)?;
            text.again();
        }
        Ok(())
    }

    /// A string that is there as a whole.
    pub(super) fn whole(&mut self, raw: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::with_capacity(raw.len());
        for byte in raw {
            self.escape(*byte, &mut out)?;
        }
        self.end(&mut out)?;
        Ok(out)
    }

    /// A number; `null` where it is masked.
    pub(super) fn number<'a>(&mut self, token: &'a [u8]) -> Result<&'a [u8], Broken> {
        let Some(text) = &mut self.text else {
            return Ok(token);
        };
        let mut seen = Vec::with_capacity(token.len());
        text.feed(token, &mut seen)?;
        text.end(&mut seen)?;
        text.again();
        Ok(if seen == token { token } else { b"null" })
    }

    /// Writes an escape that is whole, or as whole as it gets.
    fn settle(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), Broken> {
        while !self.escape.is_empty() {
            let held = self.escape.as_slice();
            let is_unicode = held.get(1) == Some(&b'u');
            let pairs = || {
                let first = held.get(2..4).map(<[u8]>::to_ascii_lowercase);
                matches!(first.as_deref(), Some([b'd', b'8'..=b'b']))
            };
            let could_pair = is_unicode
                && pairs()
                && match held.get(6..8) {
                    None => held.get(6).is_none_or(|byte| *byte == b'\\'),
                    Some(next) => next == b"\\u",
                };
            let wanted = match (is_unicode, could_pair) {
                (false, _) => 2,
                (true, false) => 6,
                (true, true) => 12,
            };
            if held.len() < wanted && !last {
                return Ok(());
            }
            let (said, taken) = escape(held).ok_or(Broken("it is not well-formed JSON"))?;
            let raw: Vec<u8> = self.escape.drain(..taken).collect();
            let mut buffer = [0; 4];
            let plain = said.filter(|said| *said >= ' ' && !matches!(said, '"' | '\\'));
            let written: Cow<'_, [u8]> = match (plain, &self.text) {
                (Some(said), Some(_)) => Cow::Borrowed(said.encode_utf8(&mut buffer).as_bytes()),
                _ => Cow::Owned(raw),
            };
            self.pass(&written, out)?;
            // What came behind half of a pair is no escape, or another one.
            if !self.escape.is_empty() && !self.escape.starts_with(b"\\") {
                let rest = std::mem::take(&mut self.escape);
                self.pass(&rest, out)?;
            }
        }
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        match &mut self.text {
            Some(text) => text.feed(bytes, out),
            None => {
                out.extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_as_long_as_when_each_byte_is_looked_at() {
        let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        for at in 0..17 {
            for byte in 0..=u8::MAX {
                for around in [
                    b'a', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xff, b'"', 0,
                ] {
                    let mut bytes = [around; 20];
                    let (before, rest) = bytes.split_at_mut(at);
                    before.fill(b'z');
                    rest[0] = byte;
                    let wanted = bytes.iter().position(ends).unwrap_or(bytes.len());
                    assert_eq!(run(&bytes), wanted, "{bytes:?}");
                }
            }
        }
    }
}
