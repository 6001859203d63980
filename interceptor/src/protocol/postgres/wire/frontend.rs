//! What a client sends once it is logged in: tags, caps, and the fields that the request loop reads.
//!
//! PostgreSQL documentation, "Message Formats", the messages marked (F). Parameters, rows of a
//! `COPY` and arguments are never read: they pass in pieces, whatever their length.

use super::{Body, Error, Header, MESSAGE_MAX, message, put_string};
use bytes::{BufMut as _, Bytes};

/// `Bind`.
pub const BIND: u8 = b'B';
/// `Close`.
pub const CLOSE: u8 = b'C';
/// `CopyData`, in both directions.
pub const COPY_DATA: u8 = b'd';
/// `CopyDone`, in both directions.
pub const COPY_DONE: u8 = b'c';
/// `CopyFail`.
pub const COPY_FAIL: u8 = b'f';
/// `Describe`.
pub const DESCRIBE: u8 = b'D';
/// `Execute`.
pub const EXECUTE: u8 = b'E';
/// `Flush`.
pub const FLUSH: u8 = b'H';
/// `FunctionCall`.
pub const FUNCTION_CALL: u8 = b'F';
/// `Parse`.
pub const PARSE: u8 = b'P';
/// `Query`.
pub const QUERY: u8 = b'Q';
/// `Sync`.
pub const SYNC: u8 = b'S';
/// `Terminate`.
pub const TERMINATE: u8 = b'X';

/// The longest name that two names can differ in: the server keeps and compares no more (`NAMEDATALEN`).
const NAME_MAX: usize = 63;

/// A longer name is not read. No client has one; a server takes any.
pub const NAME_READ: usize = 1_024;

/// The longest body of a message that carries no data (`PQ_SMALL_MESSAGE_LIMIT`, `libpq/libpq.h`).
const SMALL: usize = 10_000;

/// The most that `Parse` can hold after its text: a count and 65,535 type ids.
pub const PARSE_TYPES_MAX: usize = 2 + 4 * 65_535;

/// The longest body that a message of this kind may have; `None` where no client sends it here.
#[must_use]
pub fn cap(tag: u8) -> Option<usize> {
    match tag {
        BIND | COPY_DATA | FUNCTION_CALL | PARSE | QUERY => Some(MESSAGE_MAX),
        CLOSE | COPY_DONE | COPY_FAIL | DESCRIBE | EXECUTE | FLUSH | SYNC | TERMINATE => {
            Some(SMALL)
        }
        _ => None,
    }
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

/// Statement or portal: what `Describe` and `Close` are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

impl Object {
    fn code(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }
}

/// As much of a name as the server keeps: two names that agree so far are one (`prepare.c`, `portalmem.c`).
#[must_use]
pub fn cut(name: &[u8]) -> &[u8] {
    name.get(..NAME_MAX).unwrap_or(name)
}

/// The text of `Query`, as bytes.
///
/// # Errors
/// Where the body is anything but one `String`.
pub fn query(body: &[u8]) -> Result<&[u8], Error> {
    let mut body = Body::new(body);
    let text = body.string("query")?;
    body.end()?;
    Ok(text)
}

/// The name and the text of `Parse`, as bytes.
///
/// # Errors
/// Where the body does not have the form of one.
pub fn parse(body: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut body = Body::new(body);
    let name = body.string("statement name")?;
    let text = body.string("query")?;
    let types = usize::from(body.i16("number of types")?.cast_unsigned());
    body.bytes("types", types.saturating_mul(4))?;
    body.end()?;
    Ok((name, text))
}

/// What `Parse` says of its parameters' types, as bytes.
///
/// # Errors
/// Where the body does not have the form of one.
pub fn parse_types(body: &[u8]) -> Result<&[u8], Error> {
    let mut body = Body::new(body);
    body.string("statement name")?;
    body.string("query")?;
    Ok(body.rest())
}

/// The portal's and the statement's name at the front of `Bind`.
///
/// # Errors
/// Where `front` ends before both are complete.
pub fn bind(front: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut body = Body::new(front);
    Ok((body.string("portal name")?, body.string("statement name")?))
}

/// What `Describe` or `Close` names.
///
/// # Errors
/// Where the body does not have the form of one.
pub fn object(body: &[u8]) -> Result<(Object, &[u8]), Error> {
    let mut body = Body::new(body);
    let object = match body.u8("kind of object")? {
        b'S' => Object::Statement,
        b'P' => Object::Portal,
        other => {
            return Err(Error::Value {
                field: "kind of object",
                value: i64::from(other),
            });
        }
    };
    let name = body.string("name")?;
    body.end()?;
    Ok((object, name))
}

/// The portal that `Execute` names. How many rows it asks for is the server's business.
///
/// # Errors
/// Where the body does not have the form of one.
pub fn execute(body: &[u8]) -> Result<&[u8], Error> {
    let mut body = Body::new(body);
    let portal = body.string("portal name")?;
    body.i32("number of rows")?;
    body.end()?;
    Ok(portal)
}

/// Makes a `Query`.
#[must_use]
pub fn make_query(text: &str) -> Bytes {
    message(QUERY, |to| put_string(to, text.as_bytes()))
}

/// Makes a `Parse` without types.
#[must_use]
pub fn make_parse(name: &str, text: &str) -> Bytes {
    message(PARSE, |to| {
        put_string(to, name.as_bytes());
        put_string(to, text.as_bytes());
        to.put_i16(0);
    })
}

/// The `Parse` of `body` with another text.
///
/// # Errors
/// Where the body does not have the form of one.
pub fn parse_as(body: &[u8], text: &str) -> Result<Bytes, Error> {
    let mut body = Body::new(body);
    let name = body.string("statement name")?;
    body.string("query")?;
    let types = body.rest();
    Ok(message(PARSE, |to| {
        put_string(to, name);
        put_string(to, text.as_bytes());
        to.put_slice(types);
    }))
}

/// Makes a `Bind` without parameters; results come as text.
#[must_use]
pub fn make_bind(portal: &str, statement: &str) -> Bytes {
    message(BIND, |to| {
        put_string(to, portal.as_bytes());
        put_string(to, statement.as_bytes());
        to.put_slice(&[0; 6]);
    })
}

/// Makes an `Execute`; no rows means all of them.
#[must_use]
pub fn make_execute(portal: &str, rows: i32) -> Bytes {
    message(EXECUTE, |to| {
        put_string(to, portal.as_bytes());
        to.put_i32(rows);
    })
}

/// Makes an `Execute` of all that a portal has left, whatever bytes its name has.
#[must_use]
pub fn make_execute_portal(portal: &[u8]) -> Bytes {
    message(EXECUTE, |to| {
        put_string(to, portal);
        to.put_i32(0);
    })
}

/// Makes a `Describe` or a `Close`, as `tag` says.
#[must_use]
pub fn make_about(tag: u8, object: Object, name: &str) -> Bytes {
    message(tag, |to| {
        to.put_u8(object.code());
        put_string(to, name.as_bytes());
    })
}

/// Makes a `Describe` of a portal, whatever bytes its name has.
#[must_use]
pub fn make_describe_portal(name: &[u8]) -> Bytes {
    message(DESCRIBE, |to| {
        to.put_u8(Object::Portal.code());
        put_string(to, name);
    })
}

/// Makes a `Close` of a portal, whatever bytes its name has.
#[must_use]
pub fn make_close_portal(name: &[u8]) -> Bytes {
    message(CLOSE, |to| {
        to.put_u8(Object::Portal.code());
        put_string(to, name);
    })
}

/// Makes a message without a body: `Sync`, `Flush`, `Terminate`, `CopyDone`.
#[must_use]
pub fn make_bare(tag: u8) -> Bytes {
    message(tag, |_| ())
}

#[cfg(test)]
mod tests;
