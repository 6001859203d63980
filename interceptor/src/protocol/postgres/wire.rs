//! Wire: what the bytes of the frontend/backend protocol mean. No I/O, nothing of ours imported.
//!
//! A message is a tag, a length that counts itself, and a body (PostgreSQL documentation, "Message
//! Formats"). Everything here reads bytes that a hostile peer wrote: lengths are checked before
//! anything is read or reserved by them, and nothing here panics.

#![warn(clippy::arithmetic_side_effects)]

pub mod backend;
pub mod bound;
pub mod error;
pub mod frontend;
pub mod startup;
pub mod version;

use bytes::{BufMut as _, Bytes, BytesMut};

/// Bytes before a message's body: the tag and the length.
pub const HEADER: usize = 5;

/// The longest message that a PostgreSQL server takes or makes, its length field included
/// (`PQ_LARGE_MESSAGE_LIMIT`, `libpq/libpq.h`: `MaxAllocSize`).
pub const MESSAGE_MAX: usize = 0x3fff_ffff;

/// Why bytes are not the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A length field that cannot be true.
    #[error("read message {}: a length of {length} is outside 4..={MESSAGE_MAX}", Tag(*tag))]
    Length {
        /// Of the message.
        tag: u8,
        /// As sent.
        length: i32,
    },
    /// The body ends before a field of it does.
    #[error("read a message: it ends inside its {field}")]
    Short {
        /// What was read.
        field: &'static str,
    },
    /// The body goes on after its last field.
    #[error("read a message: {extra} bytes are left after its last field")]
    Long {
        /// How many bytes.
        extra: usize,
    },
    /// A field holds a value that the protocol does not know.
    #[error("read a message: its {field} is {value}, which the protocol does not know")]
    Value {
        /// Which field.
        field: &'static str,
        /// As sent.
        value: i64,
    },
    /// A text is not UTF-8.
    #[error("read a message: its {field} is not UTF-8")]
    Text {
        /// Which field.
        field: &'static str,
    },
}

/// A message's tag, for people.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u8);

impl std::fmt::Display for Tag {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(to, "'{}'", char::from(self.0))
        } else {
            write!(to, "{:#04x}", self.0)
        }
    }
}

impl std::fmt::Debug for Tag {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, to)
    }
}

/// The first five bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What kind of message.
    pub tag: u8,
    /// Bytes of its body, without tag and length field.
    pub body: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` while fewer than five are there.
    ///
    /// # Errors
    /// [`Error::Length`] where the length field cannot be true.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes([a, b, c, d]);
        let whole = usize::try_from(length).unwrap_or(0);
        if whole > MESSAGE_MAX {
            return Err(Error::Length { tag, length });
        }
        match whole.checked_sub(4) {
            Some(body) => Ok(Some(Self { tag, body })),
            None => Err(Error::Length { tag, length }),
        }
    }

    /// Bytes of the whole message: header and body.
    #[must_use]
    pub fn whole(self) -> usize {
        self.body.saturating_add(HEADER)
    }
}

/// Reads a header whose body may be no longer than `cap`; no cap means that its tag is unknown.
fn capped(bytes: &[u8], cap: Option<usize>) -> Result<Option<Header>, Error> {
    let tag = bytes.first().copied().unwrap_or_default();
    let Some(cap) = cap else {
        return Err(Error::Value {
            field: "tag",
            value: i64::from(tag),
        });
    };
    match Header::read(bytes)? {
        Some(header) if header.body > cap => Err(Error::Length {
            tag,
            length: i32::try_from(header.body.saturating_add(4)).unwrap_or(i32::MAX),
        }),
        header => Ok(header),
    }
}

/// Reads the fields of one message's body, front to back.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    /// Starts at the front of `body`, which has no header.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What is not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// [`Error::Short`] where fewer are left.
    pub fn bytes(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Error::Short { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Error> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Error::Short { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes an `Int8`, unsigned: a code or a tag.
    ///
    /// # Errors
    /// [`Error::Short`] where the body has ended.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Error> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Takes an `Int16`.
    ///
    /// # Errors
    /// [`Error::Short`] where fewer than two bytes are left.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, Error> {
        self.array(field).map(i16::from_be_bytes)
    }

    /// Takes an `Int32`.
    ///
    /// # Errors
    /// [`Error::Short`] where fewer than four bytes are left.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, Error> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// Takes a `String`: bytes up to a zero byte, which is taken and not returned.
    ///
    /// # Errors
    /// [`Error::Short`] where no zero byte follows.
    pub fn string(&mut self, field: &'static str) -> Result<&'a [u8], Error> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let text = self.bytes(field, end.ok_or(Error::Short { field })?)?;
        self.u8(field)?;
        Ok(text)
    }

    /// Takes a `String` as UTF-8.
    ///
    /// # Errors
    /// [`Error::Short`] where no zero byte follows, [`Error::Text`] where it is not UTF-8.
    pub fn text(&mut self, field: &'static str) -> Result<&'a str, Error> {
        match std::str::from_utf8(self.string(field)?) {
            Ok(text) => Ok(text),
            Err(_) => Err(Error::Text { field }),
        }
    }

    /// Proves that everything was read.
    ///
    /// # Errors
    /// [`Error::Long`] where bytes are left.
    pub fn end(self) -> Result<(), Error> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(Error::Long { extra }),
        }
    }
}

/// Appends one message: `body` writes what follows the length field, which is filled in after it.
pub fn write(to: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    to.put_u8(tag);
    packet(to, body);
}

/// The same without a tag, as packets of the startup are.
fn packet(to: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = to.len();
    to.put_i32(0);
    body(to);
    // Callers write bounded bodies; one that is too long gets a length that no reader takes.
    let length = i32::try_from(to.len().saturating_sub(start)).unwrap_or(i32::MAX);
    if let Some(field) = to.get_mut(start..start.saturating_add(4)) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Makes one message.
#[must_use]
pub fn message(tag: u8, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::new();
    write(&mut bytes, tag, body);
    bytes.freeze()
}

/// Appends a `String`: the text up to its first zero byte, and a zero byte.
pub fn put_string(to: &mut BytesMut, text: &[u8]) {
    let end = text.iter().position(|byte| *byte == 0);
    to.put_slice(text.get(..end.unwrap_or(text.len())).unwrap_or_default());
    to.put_u8(0);
}

#[cfg(test)]
mod tests;
