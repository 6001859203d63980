//! One line of the log: how it is made, how it is read, and what ties it to the one before.
//!
//! A line is `{"v":1,"seq":…,"time":…,"boot_ns":…,"prev":…,` and the event's fields, and a newline.
//! `prev` is the SHA-256, in lower-case hex, of the line before without its newline; 64 zeros for
//! the first line of all. Nothing here opens a file.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, BufRead, Read as _, Write as _};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::stamp::{Face, Stamp};
use super::verify::What;
use super::{Error, Event};

/// The longest line that is written or read, in bytes, newline included.
pub const LINE_MAX: u64 = 16 << 20;

/// The version of the lines that are written.
const VERSION: u32 = 1;

/// A buffer that grew past this is not kept.
pub(super) const KEPT_BUFFER: usize = 256 << 10;

/// SHA-256 of a line, in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash([u8; 64]);

impl Hash {
    /// What the first line carries.
    pub(super) const GENESIS: Self = Self([b'0'; 64]);

    /// Of a line without its newline.
    pub(super) fn of(line: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let sum = digest(&SHA256, line);
        let mut hash = [b'0'; 64];
        for (pair, byte) in hash.chunks_exact_mut(2).zip(sum.as_ref()) {
            for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = DIGITS.get(usize::from(value)).copied().unwrap_or(b'?');
            }
        }
        Self(hash)
    }

    /// As a line or a checkpoint has it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.as_bytes().try_into().ok().map(Self)
    }

    /// As text.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Serialises an event and lends the bytes out; the buffer is kept for the thread's next one.
pub(super) fn with_body<T>(
    event: &Event<'_>,
    then: impl FnOnce(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    thread_local! {
        static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut body = BODY.take();
    body.clear();
    let done = serde_json::to_writer(&mut body, event)
        .map_err(|error| Error::Unserializable(Arc::from(error.to_string())))
        .and_then(|()| {
            // Raw JSON from a caller may be laid out over lines; a newline inside a string is always escaped.
            for byte in body.iter_mut().filter(|byte| **byte == b'\n') {
                *byte = b' ';
            }
            then(&body)
        });
    if body.capacity() <= KEPT_BUFFER {
        BODY.set(body);
    }
    done
}

/// Where the log stands: what the next line must carry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// The next line's sequence.
    pub(super) next: u64,
    /// The last line's hash.
    pub(super) prev: Hash,
}

impl Chain {
    /// Before the first line.
    pub(super) const START: Self = Self {
        next: 1,
        prev: Hash::GENESIS,
    };

    /// Such that `line` is the next; for a start in the middle, which says nothing of what is before.
    pub(super) fn before(line: &[u8]) -> Option<Self> {
        let head: Head<'_> = serde_json::from_slice(line).ok()?;
        Some(Self {
            next: head.seq,
            prev: Hash::parse(&head.prev)?,
        })
    }

    /// Puts the next line behind those in `lines`, newline included, and moves on over it.
    pub(super) fn add(
        &mut self,
        lines: &mut Vec<u8>,
        (face, stamp): (&mut Face, Stamp),
        body: &[u8],
    ) -> Result<(), Error> {
        let from = lines.len();
        let fields = body.get(1..).unwrap_or_default();
        write!(lines, "{{\"v\":{VERSION},\"seq\":{},", self.next)
            .and_then(|()| face.write(stamp, lines))
            .and_then(|()| write!(lines, ",\"prev\":\"{}\",", self.prev.as_str()))
            .map_err(|error| Error::Unserializable(Arc::from(error.to_string())))?;
        lines.extend_from_slice(fields);
        let line = lines.get(from..).unwrap_or_default();
        let bytes = u64::try_from(line.len())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        if bytes > LINE_MAX {
            return Err(Error::TooLong { bytes });
        }
        self.prev = Hash::of(line);
        self.next += 1;
        lines.push(b'\n');
        Ok(())
    }

    /// Checks that a line (without its newline) is the next one, and moves on either way: after a
    /// fault, what the line itself says is taken, so that one fault is reported once.
    pub(super) fn follow(&mut self, line: &[u8]) -> Result<(), What> {
        let head: Head<'_> = match serde_json::from_slice(line) {
            Ok(head) => head,
            Err(error) => {
                self.next += 1;
                self.prev = Hash::of(line);
                return Err(What::Unreadable(error.to_string()));
            }
        };
        let expected = std::mem::replace(
            self,
            Self {
                next: head.seq.saturating_add(1),
                prev: Hash::of(line),
            },
        );
        if head.v != VERSION {
            return Err(What::Version(head.v));
        }
        if head.seq != expected.next {
            return Err(What::Sequence {
                expected: expected.next,
                found: head.seq,
            });
        }
        if head.prev != expected.prev.as_str() {
            return Err(What::Hash);
        }
        Ok(())
    }
}

/// What the chain needs of a line. Every line starts with these; the rest must be JSON all the same.
#[derive(Deserialize)]
struct Head<'a> {
    v: u32,
    seq: u64,
    #[serde(borrow)]
    prev: Cow<'a, str>,
    #[serde(borrow, rename = "event")]
    _event: &'a RawValue,
}

/// What stands at a place of a segment.
pub(super) enum Piece {
    /// A line, without its newline, in the buffer.
    Line,
    /// Bytes without a newline up to the end of the file, in the buffer.
    Rest,
    /// More bytes without a newline than any line has.
    Endless,
    /// The end.
    End,
}

/// Reads the next line of a segment into `line`.
pub(super) fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Piece> {
    line.clear();
    let read = from.by_ref().take(LINE_MAX).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(Piece::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Piece::Line);
    }
    if u64::try_from(read).is_ok_and(|read| read == LINE_MAX) {
        return Ok(Piece::Endless);
    }
    Ok(Piece::Rest)
}
