//! What a detector sees: bytes that are undecided, a few that went before them, and whether more may come.
//!
//! A detector is a function of bytes alone. One that would have to look beyond what is there says
//! [`More`]: so that it never matters how the bytes were cut.

use super::kind::Kind;
use super::open::Open;

/// How many decided bytes are remembered: the farthest that any detector looks back.
pub(super) const BEHIND: usize = 160;

/// A digit.
pub(super) const DIGIT: u8 = 1;
/// `A` to `Z`.
pub(super) const UPPER: u8 = 1 << 1;
/// `a` to `z`.
pub(super) const LOWER: u8 = 1 << 2;
/// A hexadecimal digit.
pub(super) const HEX: u8 = 1 << 3;
/// What keys and tokens are written in: both alphabets of base64, without padding.
pub(super) const RUN: u8 = 1 << 4;
/// What stands before the `@` of an address.
pub(super) const LOCAL: u8 = 1 << 5;
/// What words are made of.
pub(super) const WORD: u8 = 1 << 6;
/// What stands between the lines that begin and end a key; `\n` may be written out.
pub(super) const PEM: u8 = 1 << 7;
/// Letters.
pub(super) const LETTER: u8 = UPPER | LOWER;
/// Letters and digits.
pub(super) const ALNUM: u8 = LETTER | DIGIT;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let mut class = 0;
        if byte.is_ascii_digit() {
            class |= DIGIT;
        }
        if byte.is_ascii_uppercase() {
            class |= UPPER;
        }
        if byte.is_ascii_lowercase() {
            class |= LOWER;
        }
        if byte.is_ascii_hexdigit() {
            class |= HEX;
        }
        if byte.is_ascii_alphanumeric() {
            class |= RUN | LOCAL | WORD | PEM;
        }
        if matches!(byte, b'_' | b'-' | b'+' | b'/') {
            class |= RUN;
        }
        if matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-') {
            class |= LOCAL;
        }
        if byte == b'_' {
            class |= WORD;
        }
        if matches!(
            byte,
            b'+' | b'/' | b'=' | b'-' | b':' | b',' | b'\\' | b' ' | b'\n' | b'\r' | b'\t'
        ) {
            class |= PEM;
        }
        #[expect(clippy::indexing_slicing, reason = "computed by the compiler")]
        {
            table[byte as usize] = class;
        }
        byte += 1;
    }
    table
}

/// Whether a byte is of a class.
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES
        .get(usize::from(byte))
        .is_some_and(|classes| classes & class != 0)
}

/// All classes of a byte.
pub(super) fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// The answer depends on bytes that have not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct More;

/// A value that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// It goes on for as long as this says.
    pub(super) open: Option<Open>,
}

impl Found {
    pub(super) fn new(kind: Kind, start: usize, end: usize) -> Self {
        Self {
            kind,
            start,
            end,
            open: None,
        }
    }
}

/// What a detector finds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This.
    Found(Found),
    /// Nothing that begins before here; from here on it depends on what comes.
    More(usize),
    /// Nothing, whatever comes.
    Nothing,
}

/// The bytes under the detectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) before: &'a [u8],
    pub(super) bytes: &'a [u8],
    /// Nothing comes after these.
    pub(super) last: bool,
}

impl View<'_> {
    /// The byte at a place; NUL, which no value holds, after the last one.
    pub(super) fn at(&self, place: usize) -> Result<u8, More> {
        match self.bytes.get(place) {
            Some(byte) => Ok(*byte),
            None if self.last => Ok(0),
            None => Err(More),
        }
    }

    /// The byte so many places before one; NUL before the first one, and farther back than is remembered.
    pub(super) fn back(&self, place: usize, by: usize) -> u8 {
        let byte = match place.checked_sub(by) {
            Some(place) => self.bytes.get(place),
            None => {
                let beyond = by.saturating_sub(place);
                let at = self.before.len().checked_sub(beyond);
                at.and_then(|at| self.before.get(at))
            }
        };
        byte.copied().unwrap_or(0)
    }

    /// Whether a byte is an escape's letter, as in `\n`: it belongs to no word.
    pub(super) fn is_escaped(&self, place: usize) -> bool {
        let letter = self.back(place.saturating_add(1), 1);
        matches!(letter, b'n' | b'r' | b't' | b'b' | b'f' | b'v') && self.back(place, 1) == b'\\'
    }

    /// Whether no word goes on at a place.
    pub(super) fn begins(&self, place: usize) -> bool {
        let before = self.back(place, 1);
        if !is(before, WORD) {
            return true;
        }
        let letter = matches!(before, b'n' | b'r' | b't' | b'b' | b'f' | b'v');
        letter && self.back(place, 2) == b'\\'
    }

    /// Whether no word, and no number with a sign in it, goes on at a place.
    pub(super) fn ends(&self, place: usize) -> Result<bool, More> {
        let after = self.at(place)?;
        if is(after, WORD) {
            return Ok(false);
        }
        let sign = matches!(after, b'.' | b'-' | b'/');
        Ok(!(sign && is(self.at(place.saturating_add(1))?, DIGIT)))
    }

    /// The first place at or after one that is not of a class, at most `most` farther.
    pub(super) fn run(&self, place: usize, class: u8, most: usize) -> Result<usize, More> {
        let rest = self.bytes.get(place..).unwrap_or_default();
        let rest = rest.get(..most).unwrap_or(rest);
        match rest.iter().position(|byte| !is(*byte, class)) {
            Some(length) => Ok(place.saturating_add(length)),
            None if rest.len() == most || self.last => Ok(place.saturating_add(rest.len())),
            None => Err(More),
        }
    }

    /// Where the run of a class at the end begins: at `from` at the earliest, and `most` bytes long at most.
    pub(super) fn trailing(&self, from: usize, class: u8, most: usize) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        let run = rest.iter().rev().take(most);
        let length = run.take_while(|byte| is(**byte, class)).count();
        self.bytes.len().saturating_sub(length)
    }

    /// Where nothing else is open: what lies before `hold` is decided, and the rest where nothing comes.
    pub(super) fn hold(&self, hold: usize) -> Next {
        if self.last || hold >= self.bytes.len() {
            Next::Nothing
        } else {
            Next::More(hold)
        }
    }

    /// Whether these bytes stand at a place.
    pub(super) fn stands(&self, place: usize, text: &[u8]) -> Result<bool, More> {
        for (offset, byte) in text.iter().enumerate() {
            if self.at(place.saturating_add(offset))? != *byte {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
