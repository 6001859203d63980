//! A body in signed pieces (`aws-chunked`): each is signed anew, in the frame that the client gave it, so that no
//! length changes. A piece is held until all of it is there: its signature stands before it.

use std::time::SystemTime;

use aws_lc_rs::digest::{Context as Digest, SHA256};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::Key;
use crate::config::Sigv4;
use crate::protocol::http::facts::Wrong;
use crate::session::meter::Room;

/// Bytes of one piece.
const PIECE_MAX: usize = 1 << 20;
/// Bytes of the line before a piece, and of the lines behind the last.
const LINE_MAX: usize = 256;
const TRAILER_MAX: usize = 16 << 10;
/// What a piece is signed under in its line, and the lines behind the last in one of their own.
const SIGNATURE: &str = "chunk-signature=";
const TRAILER: &str = "x-amz-trailer-signature";
/// Digits of a signature.
const DIGITS: usize = 64;

/// Signatures that each go on from the one before.
pub(in crate::protocol::http) struct Chain {
    key: Zeroizing<Vec<u8>>,
    /// Time and scope, as they are signed.
    of: String,
    before: String,
}

impl Chain {
    /// From the signature of the head on.
    pub(super) fn new(settings: &Sigv4, key: &Key, now: Timestamp, seed: String) -> Self {
        let (region, service) = (&settings.region, &settings.service);
        let secret = key.secret.expose_secret();
        let key = generate_signing_key(secret, SystemTime::from(now), region, service);
        let (time, day) = (now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d"));
        Self {
            key: Zeroizing::new(key.as_ref().to_vec()),
            of: format!("{time}\n{day}/{region}/{service}/aws4_request"),
            before: seed,
        }
    }

    fn piece(&mut self, bytes: &[u8]) -> &str {
        let said = format!("{}\n{}", hash(&[]), hash(bytes));
        self.next("AWS4-HMAC-SHA256-PAYLOAD", &said)
    }

    fn trailer(&mut self, lines: &[u8]) -> &str {
        self.next("AWS4-HMAC-SHA256-TRAILER", &hash(lines))
    }

    fn next(&mut self, kind: &str, said: &str) -> &str {
        let text = format!("{kind}\n{}\n{}\n{said}", self.of, self.before);
        self.before = calculate_signature(&self.key, text.as_bytes());
        &self.before
    }
}

fn hash(bytes: &[u8]) -> String {
    let mut digest = Digest::new(&SHA256);
    digest.update(bytes);
    hex::encode(digest.finish())
}

/// Where in the body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the line before a piece.
    Line,
    /// In a piece of so many bytes, or the end of line behind it.
    Piece(usize),
    /// Behind the last piece.
    Trailer,
    /// Behind all of it.
    Over,
}

/// Signs a body's pieces as they go by.
pub(in crate::protocol::http) struct Chunks {
    chain: Chain,
    has_trailer: bool,
    at: At,
    /// What is not whole.
    held: Vec<u8>,
    /// The line of the piece that is held, up to its signature.
    size: String,
    room: Room,
    /// How many bytes there is room for.
    taken: usize,
}

impl Chunks {
    pub(super) fn new(chain: Chain, has_trailer: bool) -> Self {
        Self {
            chain,
            has_trailer,
            at: At::Line,
            held: Vec::new(),
            size: String::new(),
            room: Room::default(),
            taken: 0,
        }
    }

    /// Holds pieces in this room.
    pub(in crate::protocol::http) fn within(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// Takes bytes of the body, and gives what is signed.
    ///
    /// # Errors
    /// Why it goes no farther.
    pub(in crate::protocol::http) fn feed(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Wrong> {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Line => self.line(bytes, out)?,
                At::Piece(length) => self.piece(length, bytes, out)?,
                At::Trailer => self.trailer(bytes, out)?,
                At::Over => return Err(Wrong::Malformed("the body goes on behind its last piece")),
            };
        }
        Ok(())
    }

    /// At the end of the body.
    ///
    /// # Errors
    /// Where the body is not.
    pub(in crate::protocol::http) fn end(&self) -> Result<(), Wrong> {
        match self.at {
            At::Over => Ok(()),
            _ => Err(Wrong::Malformed("the body ends before its last piece")),
        }
    }

    /// Holds what comes up to an end of line; what comes behind it, where that has come.
    fn until_line<'a>(&mut self, bytes: &'a [u8], most: usize) -> Result<(bool, &'a [u8]), Wrong> {
        for (index, byte) in bytes.iter().enumerate() {
            self.held.push(*byte);
            if self.held.ends_with(b"\r\n") {
                return Ok((
                    true,
                    bytes.get(index.saturating_add(1)..).unwrap_or_default(),
                ));
            }
            if self.held.len() > most {
                return Err(Wrong::Malformed("a line in the body is too long"));
            }
        }
        Ok((false, &[]))
    }

    fn line<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Wrong> {
        let (is_whole, rest) = self.until_line(bytes, LINE_MAX)?;
        if !is_whole {
            return Ok(rest);
        }
        let line = std::mem::take(&mut self.held);
        let (size, length) = read(&line).ok_or(Wrong::Malformed(
            "a piece of the body does not begin with its length and its signature",
        ))?;
        if length > PIECE_MAX {
            return Err(Wrong::Malformed("a piece of the body is longer than 1 MiB"));
        }
        self.size = size.to_owned();
        if length == 0 && self.has_trailer {
            self.signed(&[], out);
            self.at = At::Trailer;
            return Ok(rest);
        }
        let more = length.saturating_sub(self.taken);
        self.room
            .grow(u64::try_from(more).unwrap_or(u64::MAX))
            .map_err(|_full| Wrong::Crowded)?;
        self.taken = self.taken.saturating_add(more);
        self.at = At::Piece(length);
        Ok(rest)
    }

    fn piece<'a>(
        &mut self,
        length: usize,
        bytes: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<&'a [u8], Wrong> {
        let whole = length.saturating_add(2);
        let count = whole.saturating_sub(self.held.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(taken);
        if self.held.len() < whole {
            return Ok(rest);
        }
        let held = std::mem::take(&mut self.held);
        let piece = held.strip_suffix(b"\r\n").ok_or(Wrong::Malformed(
            "a piece of the body is not as long as it says",
        ))?;
        self.signed(piece, out);
        out.extend_from_slice(&held);
        self.at = if length == 0 { At::Over } else { At::Line };
        Ok(rest)
    }

    fn signed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let signature = self.chain.piece(piece);
        out.extend_from_slice(format!("{};{SIGNATURE}{signature}\r\n", self.size).as_bytes());
    }

    fn trailer<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Wrong> {
        let (is_line, rest) = self.until_line(bytes, TRAILER_MAX)?;
        if !is_line || !self.held.ends_with(b"\r\n\r\n") {
            return Ok(rest);
        }
        let held = std::mem::take(&mut self.held);
        let wrong = Wrong::Malformed("what stands behind the last piece cannot be read");
        let text = std::str::from_utf8(&held).map_err(|_not_text| wrong)?;
        let mut lines: Vec<(String, &str)> = Vec::new();
        let mut kept = String::new();
        for line in text.split_inclusive("\r\n") {
            if line.trim().is_empty() {
                continue;
            }
            let (name, value) = line.split_once(':').ok_or(wrong)?;
            let name = name.trim().to_ascii_lowercase();
            if name == TRAILER {
                continue;
            }
            lines.push((name, value.trim()));
            kept.push_str(line);
        }
        lines.sort();
        let said: String = lines
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let signature = self.chain.trailer(said.as_bytes());
        let made = format!("{kept}{TRAILER}:{signature}\r\n\r\n");
        // Else the body would not be as long as its head says.
        if made.len() != held.len() {
            return Err(Wrong::Malformed(
                "what stands behind the last piece is not signed",
            ));
        }
        out.extend_from_slice(made.as_bytes());
        self.at = At::Over;
        Ok(rest)
    }
}

/// The length of a piece, as it is written and as a number, of a line that has room for a signature.
fn read(line: &[u8]) -> Option<(&str, usize)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let (size, rest) = line.split_once(';')?;
    let signature = rest.strip_prefix(SIGNATURE)?;
    let is_digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let is_line = is_digits(size, 8) && is_digits(signature, DIGITS) && signature.len() == DIGITS;
    let length = usize::from_str_radix(size, 16).ok()?;
    is_line.then_some((size, length))
}
