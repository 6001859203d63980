//! What a server sends once a client is logged in: tags, caps, and the fields that the loop reads.
//!
//! PostgreSQL documentation, "Message Formats", the messages marked (B). Rows are never read here:
//! they pass in pieces, whatever their length.

use super::{Body, Error, Header, MESSAGE_MAX, message};
use bytes::{BufMut as _, Bytes};

pub use super::error::{ERROR, NOTICE};
pub use super::frontend::{COPY_DATA, COPY_DONE};

/// The longest `RowDescription` that is read. A row has at most 1,664 columns (`MaxTupleAttributeNumber`),
/// each described in at most 82 bytes.
pub const DESCRIPTION_MAX: usize = 256 << 10;
/// What a binary `COPY` begins with (`copyto.c`).
pub const BINARY_COPY: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// All that stands in front of its first row: that, flags, and the length of what is still to be invented.
pub const BINARY_COPY_FRONT: usize = BINARY_COPY.len() + 8;

/// `BindComplete`.
pub const BIND_COMPLETE: u8 = b'2';
/// `CloseComplete`.
pub const CLOSE_COMPLETE: u8 = b'3';
/// `CommandComplete`.
pub const COMMAND_COMPLETE: u8 = b'C';
/// `CopyBothResponse`.
pub const COPY_BOTH: u8 = b'W';
/// `CopyInResponse`.
pub const COPY_IN: u8 = b'G';
/// `CopyOutResponse`.
pub const COPY_OUT: u8 = b'H';
/// `DataRow`.
pub const DATA_ROW: u8 = b'D';
/// `EmptyQueryResponse`.
pub const EMPTY_QUERY: u8 = b'I';
/// `FunctionCallResponse`.
pub const FUNCTION_RESULT: u8 = b'V';
/// `NoData`.
pub const NO_DATA: u8 = b'n';
/// `NotificationResponse`.
pub const NOTIFICATION: u8 = b'A';
/// `ParameterDescription`.
pub const PARAMETERS: u8 = b't';
/// `ParameterStatus`.
pub const PARAMETER_STATUS: u8 = b'S';
/// `ParseComplete`.
pub const PARSE_COMPLETE: u8 = b'1';
/// `PortalSuspended`.
pub const SUSPENDED: u8 = b's';
/// `ReadyForQuery`.
pub const READY: u8 = b'Z';
/// `RowDescription`.
pub const ROW_DESCRIPTION: u8 = b'T';

/// The longest body of a message that is not data. libpq gives up above it (`fe-protocol3.c`).
const SMALL: usize = 30_000;

/// The longest body that a message of this kind may have; `None` where no server sends it here.
#[must_use]
pub fn cap(tag: u8) -> Option<usize> {
    match tag {
        COPY_DATA | DATA_ROW | ERROR | FUNCTION_RESULT | NOTICE | NOTIFICATION
        | ROW_DESCRIPTION => Some(MESSAGE_MAX),
        PARAMETERS => Some(2 + 4 * 65_535),
        COPY_BOTH | COPY_IN | COPY_OUT => Some(3 + 2 * 65_535),
        COMMAND_COMPLETE | PARAMETER_STATUS => Some(SMALL),
        READY => Some(1),
        BIND_COMPLETE | CLOSE_COMPLETE | COPY_DONE | EMPTY_QUERY | NO_DATA | PARSE_COMPLETE
        | SUSPENDED => Some(0),
        _ => None,
    }
}

/// The origins in a `RowDescription`: of each column the relation's number and the column's, zero where it
/// has none.
///
/// # Errors
/// Where it does not have its form.
pub fn origins(body: &[u8]) -> Result<Vec<(u32, i16)>, Error> {
    let mut body = Body::new(body);
    let count = body.i16("number of columns")?;
    let mut origins = Vec::new();
    for _ in 0..count.max(0) {
        body.string("column name")?;
        let relation = body.i32("relation")?.cast_unsigned();
        let attribute = body.i16("column")?;
        body.i32("type")?;
        body.i16("type size")?;
        body.i32("type modifier")?;
        body.i16("format")?;
        origins.push((relation, attribute));
    }
    body.end()?;
    Ok(origins)
}

/// Reads the header at the start of `bytes` and holds its length against the cap of its kind.
///
/// # Errors
/// [`Error::Length`] for a length that cannot be, [`Error::Value`] for a tag that has no place here.
pub fn header(bytes: &[u8]) -> Result<Option<Header>, Error> {
    match bytes.first() {
        Some(tag) => super::capped(bytes, cap(*tag)),
        None => Ok(None),
    }
}

/// What `ReadyForQuery` says of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `I`: in none.
    Idle,
    /// `T`: in one.
    Open,
    /// `E`: in one that failed, and only its end is taken.
    Failed,
}

impl Status {
    fn code(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Reads the body of `ReadyForQuery`.
///
/// # Errors
/// Where it is not one of the three that there are.
pub fn ready(body: &[u8]) -> Result<Status, Error> {
    let mut body = Body::new(body);
    let status = match body.u8("transaction status")? {
        b'I' => Status::Idle,
        b'T' => Status::Open,
        b'E' => Status::Failed,
        other => {
            return Err(Error::Value {
                field: "transaction status",
                value: i64::from(other),
            });
        }
    };
    body.end()?;
    Ok(status)
}

/// Makes a `ReadyForQuery`.
#[must_use]
pub fn make_ready(status: Status) -> Bytes {
    message(READY, |to| to.put_u8(status.code()))
}

/// Reads the tag in the body of `CommandComplete`.
///
/// # Errors
/// Where the body is anything but one `String` in UTF-8.
pub fn command(body: &[u8]) -> Result<&str, Error> {
    let mut body = Body::new(body);
    let tag = body.text("command tag")?;
    body.end()?;
    Ok(tag)
}

/// How many rows a command tag counts: its last word, where this is a number (`INSERT 0 5`).
#[must_use]
pub fn rows(tag: &str) -> u64 {
    tag.rsplit(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// Reads the name and the value of `ParameterStatus`, as bytes.
///
/// # Errors
/// Where the body is anything but two `String`s.
pub fn parameter(body: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut body = Body::new(body);
    let name = body.string("parameter name")?;
    let value = body.string("parameter value")?;
    body.end()?;
    Ok((name, value))
}

#[cfg(test)]
mod tests;
