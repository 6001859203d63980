//! What HTTP looks like on the wire, as far as it is looked at before or beside the parser: pure functions.

pub mod envelope;
pub mod path;
pub mod query;

/// What begins every HTTP/2 connection of a client (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first byte of a TLS record that holds a handshake (RFC 8446 §5.1).
pub const TLS_HANDSHAKE: u8 = 0x16;
/// Longest method that is read.
const METHOD_MAX: usize = 32;

/// What the first bytes of a client are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A request of HTTP/1.
    One,
    /// The preface of HTTP/2.
    Two,
    /// Nothing that is spoken here.
    Neither,
}

/// What these first bytes are in clear; `None` where it takes more of them.
#[must_use]
pub fn sniff(first: &[u8]) -> Option<Sniffed> {
    let common = first.iter().zip(PREFACE).take_while(|(a, b)| a == b);
    match common.count() {
        count if count == PREFACE.len() => return Some(Sniffed::Two),
        count if count == first.len() => return None,
        _ => {}
    }
    let method = first.iter().take_while(|byte| is_token(**byte)).count();
    match (method, first.get(method)) {
        (1..=METHOD_MAX, Some(b' ')) => Some(Sniffed::One),
        (1..=METHOD_MAX, None) => None,
        // Empty lines before a request are passed over (RFC 9112 §2.2).
        (0, Some(b'\r' | b'\n')) => Some(Sniffed::One),
        _ => Some(Sniffed::Neither),
    }
}

/// Whether a byte may stand in a method or a header's name (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The byte that two hexadecimal digits stand for.
pub(super) fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Resolves escapes; `None` where one is none.
pub(super) fn unescape(text: &[u8], plus_is_space: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                out.push(hex_pair(*high, *low)?);
                rest = after;
            }
            (b'%', _) => return None,
            (b'+', _) if plus_is_space => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;
