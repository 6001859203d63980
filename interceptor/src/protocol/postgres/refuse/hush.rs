//! What a server says of a statement that touches masked columns, without what it may have taken from
//! them: an error's text can hold a value, and its presence only says what the SQLSTATE says.
//!
//! What stays are severity, SQLSTATE and the names of things; the message is the name of the condition
//! (PostgreSQL documentation, "PostgreSQL Error Codes"). A SQLSTATE that no server has of its own is data.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::super::wire::error::{ERROR, ErrorFields, code};
use super::super::wire::{self, Body, backend};

/// SQLSTATE and condition, sorted.
const CONDITIONS: &str = include_str!("conditions.txt");
/// The names of schema, table, column, data type and constraint.
const NAMES: [u8; 5] = *b"stcdn";
/// Told instead of the server's own hint.
const HINT: &str = "the server's own words are withheld: the statement touches masked columns";

/// An error or a notice, as `tag` says, without data. `body` may be the front of a longer one. The position
/// is one in the text that the server was sent, and stays only where that is the client's own.
#[must_use]
pub fn message(tag: u8, body: &[u8], own_text: bool) -> Bytes {
    let read = ErrorFields::read(body).unwrap_or_else(|_| ErrorFields::glance(body));
    let known = read
        .sqlstate()
        .and_then(|sqlstate| Some((sqlstate.to_owned(), condition(sqlstate)?)));
    let (sqlstate, condition) = known.unwrap_or_else(|| match tag {
        ERROR => ("P0001".to_owned(), "raise exception"),
        _ => ("00000".to_owned(), "successful completion"),
    });
    let position = own_text.then_some(code::POSITION);
    let kept = [code::SEVERITY, code::SEVERITY_PLAIN]
        .into_iter()
        .chain(position)
        .chain(NAMES);
    let told = read
        .only(kept)
        .with(code::SQLSTATE, &sqlstate)
        .with(code::MESSAGE, condition)
        .hint(HINT);
    let mut message = BytesMut::new();
    told.write(&mut message, tag);
    message.freeze()
}

/// Whether a notice, or its front, says that it is a warning.
#[must_use]
pub fn is_warning(body: &[u8]) -> bool {
    let read = ErrorFields::read(body).unwrap_or_else(|_| ErrorFields::glance(body));
    read.get(code::SEVERITY_PLAIN) == Some(b"WARNING")
}

/// A notification without its payload: that something happened, not what. `None` where it is none.
#[must_use]
pub fn notification(body: &[u8]) -> Option<Bytes> {
    let mut read = Body::new(body);
    let process = read.i32("process id").ok()?;
    let channel = read.string("channel").ok()?;
    Some(wire::message(backend::NOTIFICATION, |to| {
        to.put_i32(process);
        wire::put_string(to, channel);
        wire::put_string(to, b"");
    }))
}

/// What a SQLSTATE is called.
fn condition(sqlstate: &str) -> Option<&'static str> {
    let mut rows = CONDITIONS.lines();
    rows.find_map(|row| row.strip_prefix(sqlstate)?.strip_prefix(' '))
}

#[cfg(test)]
mod tests;
