//! The fields of `ErrorResponse` and `NoticeResponse`: read, made, written.
//!
//! A list of one-byte codes, each with a `String`, closed by a zero byte (PostgreSQL documentation,
//! "Error and Notice Message Fields"). Texts are bytes: a server may send any encoding, and one that
//! is hostile may leave out any field (pgbouncer CVE-2026-6666: an error without its SQLSTATE).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Body, Error, put_string, write};

/// Tag of `ErrorResponse`.
pub const ERROR: u8 = b'E';
/// Tag of `NoticeResponse`.
pub const NOTICE: u8 = b'N';

/// More fields than this is not an error that a server makes (18 codes are known to PostgreSQL 18).
const FIELDS_MAX: usize = 64;

/// Codes of the fields.
pub mod code {
    /// Severity, in the server's language.
    pub const SEVERITY: u8 = b'S';
    /// Severity, never translated (PostgreSQL 9.6).
    pub const SEVERITY_PLAIN: u8 = b'V';
    /// SQLSTATE.
    pub const SQLSTATE: u8 = b'C';
    /// The message.
    pub const MESSAGE: u8 = b'M';
    /// Detail.
    pub const DETAIL: u8 = b'D';
    /// Hint.
    pub const HINT: u8 = b'H';
    /// Character of the statement, counted from one.
    pub const POSITION: u8 = b'P';
}

/// How bad it is, and whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
    /// The server ends.
    Panic,
    /// Nothing has gone wrong.
    Notice,
}

impl Severity {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
            Self::Notice => "NOTICE",
        }
    }
}

/// The fields of one error or notice, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields {
    fields: Vec<(u8, Box<[u8]>)>,
}

impl ErrorFields {
    /// An error with the four fields that every client reads.
    #[must_use]
    pub fn new(severity: Severity, sqlstate: &str, message: &str) -> Self {
        Self::default()
            .with(code::SEVERITY, severity.as_str())
            .with(code::SEVERITY_PLAIN, severity.as_str())
            .with(code::SQLSTATE, sqlstate)
            .with(code::MESSAGE, message)
    }

    /// Adds or replaces one field.
    #[must_use]
    pub fn with(mut self, code: u8, text: &str) -> Self {
        let text: Box<[u8]> = text.as_bytes().into();
        match self.fields.iter_mut().find(|(other, _)| *other == code) {
            Some((_, old)) => *old = text,
            None => self.fields.push((code, text)),
        }
        self
    }

    /// Adds the detail.
    #[must_use]
    pub fn detail(self, text: &str) -> Self {
        self.with(code::DETAIL, text)
    }

    /// Adds the hint.
    #[must_use]
    pub fn hint(self, text: &str) -> Self {
        self.with(code::HINT, text)
    }

    /// Reads the body of an `ErrorResponse` or `NoticeResponse`; fields with unknown codes are kept.
    ///
    /// # Errors
    /// [`Error::Short`] or [`Error::Long`] where the list is not one, [`Error::Value`] where it has
    /// more than 64 fields.
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let mut body = Body::new(body);
        let mut fields = Vec::new();
        loop {
            match body.u8("field code")? {
                0 => break,
                code if fields.len() < FIELDS_MAX => {
                    fields.push((code, body.string("field")?.into()));
                }
                _ => {
                    let value = 1_i64.saturating_add(i64::try_from(FIELDS_MAX).unwrap_or(i64::MAX));
                    return Err(Error::Value {
                        field: "number of fields",
                        value,
                    });
                }
            }
        }
        body.end()?;
        Ok(Self { fields })
    }

    /// The text of a field, as sent.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|(other, _)| *other == code)
            .map(|(_, text)| &**text)
    }

    /// The SQLSTATE; `None` where it is missing or is not five letters and digits.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        let state = self.get(code::SQLSTATE)?;
        let fits = state.len() == 5
            && state
                .iter()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        fits.then(|| std::str::from_utf8(state).ok()).flatten()
    }

    /// The severity; what is missing or unknown is [`Severity::Error`], and the stream tells the rest.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let plain = self
            .get(code::SEVERITY_PLAIN)
            .or_else(|| self.get(code::SEVERITY));
        match plain {
            Some(b"FATAL") => Severity::Fatal,
            Some(b"PANIC") => Severity::Panic,
            _ => Severity::Error,
        }
    }

    /// The same with no other fields than these.
    #[must_use]
    pub fn only(mut self, codes: impl IntoIterator<Item = u8>) -> Self {
        let codes: Vec<u8> = codes.into_iter().collect();
        self.fields.retain(|(code, _)| codes.contains(code));
        self
    }

    /// Reads severity and SQLSTATE at the front of a body that is not there as a whole. PostgreSQL
    /// writes both before any text; of a server that does not, the SQLSTATE is missing.
    #[must_use]
    pub fn glance(front: &[u8]) -> Self {
        let mut body = Body::new(front);
        let mut fields = Vec::new();
        while let Ok(code @ 1..) = body.u8("field code")
            && let Ok(text) = body.string("field")
            && fields.len() < FIELDS_MAX
        {
            if matches!(code, code::SEVERITY | code::SEVERITY_PLAIN | code::SQLSTATE) {
                fields.push((code, text.into()));
            }
        }
        Self { fields }
    }

    /// Appends the whole message with `tag`, [`ERROR`] or [`NOTICE`].
    pub fn write(&self, to: &mut BytesMut, tag: u8) {
        write(to, tag, |to| {
            for (code, text) in &self.fields {
                to.put_u8(*code);
                put_string(to, text);
            }
            to.put_u8(0);
        });
    }

    /// The whole `NoticeResponse`.
    #[must_use]
    pub fn notice(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        self.write(&mut bytes, NOTICE);
        bytes.freeze()
    }

    /// The whole `ErrorResponse`.
    #[must_use]
    pub fn response(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        self.write(&mut bytes, ERROR);
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests;
