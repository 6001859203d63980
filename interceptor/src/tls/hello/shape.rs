//! What a first message of TLS is made of, and its fingerprint (JA4): programs differ in what they offer, and in which
//! order. An agent can make its own look like another's.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// Extensions (RFC 8446, 4.2; RFC 7301; RFC 9849).
const SERVER_NAME: u16 = 0;
const SIGNATURES: u16 = 13;
const PROTOCOLS: u16 = 16;
const VERSIONS: u16 = 43;
/// What holds a name encrypted: Encrypted Client Hello, the drafts before it, and the names (ESNI) that they came of.
const ENCRYPTED: [u16; 7] = [0xfe0d, 0xfe0c, 0xfe0b, 0xfe0a, 0xfe09, 0xfe08, 0xffce];
/// Hexadecimal digits of a part of a fingerprint.
const DIGITS: usize = 12;

/// The parts of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    version: u16,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    signatures: Vec<u16>,
    /// The first protocol of ALPN.
    protocol: Option<Vec<u8>>,
}

impl Shape {
    /// Reads records that hold one, whole; `None` where they do not.
    pub(super) fn of(records: &[u8]) -> Option<Self> {
        let mut message = Vec::new();
        let mut from = From(records);
        while !from.0.is_empty() {
            from.take(3)?;
            message.extend_from_slice(from.sized16()?);
        }
        let mut from = From(&message);
        // `client_hello` (RFC 8446, 4).
        if from.take(1)? != [1] {
            return None;
        }
        let mut from = From(from.sized24()?);
        let mut shape = Self {
            version: from.u16()?,
            ..Self::default()
        };
        from.take(32)?;
        from.sized8()?;
        shape.ciphers = numbers(from.sized16()?)?;
        from.sized8()?;
        if from.0.is_empty() {
            return Some(shape);
        }
        let mut from = From(from.sized16()?);
        while !from.0.is_empty() {
            let (kind, body) = (from.u16()?, from.sized16()?);
            shape.extension(kind, body)?;
        }
        shape.ciphers.retain(|number| !is_grease(*number));
        shape.extensions.retain(|number| !is_grease(*number));
        Some(shape)
    }

    fn extension(&mut self, kind: u16, body: &[u8]) -> Option<()> {
        self.extensions.push(kind);
        let mut from = From(body);
        match kind {
            SIGNATURES => {
                self.signatures = numbers(from.sized16()?)?;
                self.signatures.retain(|number| !is_grease(*number));
            }
            PROTOCOLS => {
                let mut list = From(from.sized16()?);
                self.protocol = list.sized8().map(<[u8]>::to_vec);
            }
            VERSIONS => {
                let offered = numbers(from.sized8()?)?.into_iter();
                let best = offered.filter(|number| !is_grease(*number)).max();
                self.version = best.unwrap_or(self.version);
            }
            _ => {}
        }
        Some(())
    }

    /// Whether it may hold another name, encrypted, than the one that can be read.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.extensions.iter().any(|kind| ENCRYPTED.contains(kind))
    }

    /// Its fingerprint (JA4).
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let version = match self.version {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            _ => "00",
        };
        let named = match self.extensions.contains(&SERVER_NAME) {
            true => 'd',
            false => 'i',
        };
        let (ciphers, extensions) = (self.ciphers.len().min(99), self.extensions.len().min(99));
        let protocol = self
            .protocol
            .as_deref()
            .map_or_else(|| "00".to_owned(), ends);
        let mut others = self.extensions.clone();
        others.retain(|kind| ![SERVER_NAME, PROTOCOLS].contains(kind));
        let mut said = list(sorted(others));
        if !self.signatures.is_empty() {
            let _infallible = write!(said, "_{}", list(self.signatures.clone()));
        }
        format!(
            "t{version}{named}{ciphers:02}{extensions:02}{protocol}_{}_{}",
            cut(&list(sorted(self.ciphers.clone()))),
            cut(&said)
        )
    }
}

/// The first and the last letter of a protocol's name, or digits of them.
fn ends(name: &[u8]) -> String {
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)].iter().collect();
    }
    let digits = (format!("{first:02x}"), format!("{last:02x}"));
    digits
        .0
        .chars()
        .take(1)
        .chain(digits.1.chars().skip(1))
        .collect()
}

fn sorted(mut numbers: Vec<u16>) -> Vec<u16> {
    numbers.sort_unstable();
    numbers
}

fn list(numbers: Vec<u16>) -> String {
    let words: Vec<_> = numbers
        .iter()
        .map(|number| format!("{number:04x}"))
        .collect();
    words.join(",")
}

fn cut(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(DIGITS);
    }
    let mut digits = hex::encode(digest(&SHA256, text.as_bytes()));
    digits.truncate(DIGITS);
    digits
}

/// Values that stand for nothing, so that nobody relies on knowing all (RFC 8701).
fn is_grease(number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

fn numbers(bytes: &[u8]) -> Option<Vec<u16>> {
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let number = |pair: &[u8]| Some(u16::from_be_bytes(pair.try_into().ok()?));
    pairs.map(number).collect()
}

/// What is left to read.
struct From<'a>(&'a [u8]);

impl<'a> From<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn sized8(&mut self) -> Option<&'a [u8]> {
        let count = *self.take(1)?.first()?;
        self.take(count.into())
    }

    fn sized16(&mut self) -> Option<&'a [u8]> {
        let count = self.u16()?;
        self.take(count.into())
    }

    fn sized24(&mut self) -> Option<&'a [u8]> {
        let [first, second, third] = self.take(3)?.try_into().ok()?;
        let count = u32::from_be_bytes([0, first, second, third]);
        self.take(usize::try_from(count).ok()?)
    }
}

#[cfg(test)]
mod tests;
