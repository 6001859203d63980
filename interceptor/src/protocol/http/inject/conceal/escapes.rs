//! Text with a layer of escapes resolved, and where each of its bytes came from.
//!
//! Percent, JSON and other programs' strings, HTML: whichever letters were escaped, what they stand for is looked
//! at. Ends of lines, as they wrap what is long, and the zeros of wide letters stand for nothing.

use std::borrow::Cow;

/// Bytes that stand for nothing, one behind the other; the next is a letter again.
const NOTHING_MAX: usize = 4;
/// Longest escape: `&#x0000002f;`.
const ESCAPE_MAX: usize = 12;
/// Letters of HTML that have names.
const NAMES: [(&[u8], u8); 12] = [
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"sol", b'/'),
    (b"bsol", b'\\'),
    (b"plus", b'+'),
    (b"equals", b'='),
    (b"grave", b'`'),
    (b"lowbar", b'_'),
    (b"period", b'.'),
];

/// A text, and which bytes of a window each of its bytes stands for.
pub(super) struct Text<'a> {
    bytes: Cow<'a, [u8]>,
    /// `None` where each stands for itself.
    spans: Option<Vec<(usize, usize)>>,
    /// Where something begins that may become an escape.
    unread: Option<usize>,
}

/// What stands at the front of a text.
enum Front {
    /// The letter that is there.
    Itself,
    /// Another one, in so many bytes.
    Letter(char, usize),
    /// A byte, in so many bytes.
    Byte(u8, usize),
    /// Nothing.
    Nothing,
    /// It takes more to tell.
    More,
}

impl<'a> Text<'a> {
    /// A window less the bytes that have a mark.
    pub(super) fn of(window: &'a [u8], marks: &[u8], apart: u8) -> Self {
        if marks.iter().all(|mark| mark & apart == 0) {
            return Self {
                bytes: Cow::Borrowed(window),
                spans: None,
                unread: None,
            };
        }
        let kept = window.iter().zip(marks).enumerate();
        let kept = kept.filter(|(_, (_, mark))| **mark & apart == 0);
        let (bytes, spans) = kept
            .map(|(at, (byte, _))| (*byte, (at, at.saturating_add(1))))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Self {
            bytes: Cow::Owned(bytes),
            spans: Some(spans),
            unread: None,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn unread(&self) -> Option<usize> {
        self.unread
    }

    /// From where to where a byte came.
    pub(super) fn span(&self, at: usize) -> (usize, usize) {
        let spans = self.spans.as_ref();
        let itself = (at, at.saturating_add(1));
        spans.map_or(itself, |spans| spans.get(at).copied().unwrap_or(itself))
    }

    fn spans_of(&self, at: usize, taken: usize) -> (usize, usize) {
        let to = at.saturating_add(taken).saturating_sub(1);
        (self.span(at).0, self.span(to).1)
    }

    /// The same with its escapes resolved; `None` where it has none. Where more may come, one that is not whole
    /// is left for then.
    pub(super) fn resolved(&self, last: bool) -> Option<Text<'static>> {
        self.bytes.iter().position(|byte| begins(*byte))?;
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut spans = Vec::with_capacity(self.bytes.len());
        let (mut unread, mut changed) = (self.unread, false);
        let (mut at, mut nothing) = (0, 0);
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let plain = rest.iter().position(|byte| begins(*byte));
            let plain = plain.unwrap_or(rest.len());
            let taken = match front(rest, last) {
                _ if plain > 0 => {
                    bytes.extend_from_slice(rest.get(..plain).unwrap_or_default());
                    spans.extend((at..at.saturating_add(plain)).map(|at| self.span(at)));
                    plain
                }
                Front::Nothing if nothing < NOTHING_MAX => {
                    changed = true;
                    nothing += 1;
                    at += 1;
                    continue;
                }
                Front::Itself | Front::Nothing => {
                    bytes.extend(rest.first());
                    spans.push(self.span(at));
                    1
                }
                Front::Letter(letter, taken) => {
                    let mut written = [0; 4];
                    let written = letter.encode_utf8(&mut written).as_bytes();
                    bytes.extend_from_slice(written);
                    spans.extend(written.iter().map(|_| self.spans_of(at, taken)));
                    changed = true;
                    taken
                }
                Front::Byte(byte, taken) => {
                    bytes.push(byte);
                    spans.push(self.spans_of(at, taken));
                    changed = true;
                    taken
                }
                Front::More => {
                    unread = Some(self.span(at).0);
                    changed = true;
                    break;
                }
            };
            at = at.saturating_add(taken);
            nothing = 0;
        }
        changed.then_some(Text {
            bytes: Cow::Owned(bytes),
            spans: Some(spans),
            unread,
        })
    }
}

fn begins(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'&' | b'\r' | b'\n' | b'\0')
}

fn front(text: &[u8], last: bool) -> Front {
    let read = match text {
        [b'\r' | b'\n' | b'\0', ..] => return Front::Nothing,
        [b'%', b'u' | b'U', ..] => code(text, 2, 4),
        [b'%', ..] => code(text, 1, 2),
        [b'\\', b'u', ..] => code(text, 2, 4),
        [b'\\', b'x', ..] => code(text, 2, 2),
        [b'\\', b'n', ..] => Front::Letter('\n', 2),
        [b'\\', b'r', ..] => Front::Letter('\r', 2),
        [b'\\', b't', ..] => Front::Letter('\t', 2),
        [b'\\', letter, ..] if letter.is_ascii() => Front::Letter(char::from(*letter), 2),
        [b'\\'] => Front::More,
        [b'&', ..] => named(text),
        _ => Front::Itself,
    };
    match read {
        Front::More if last => Front::Itself,
        read => read,
    }
}

/// What stands in so many hexadecimal digits behind so many bytes: two are a byte, more a letter.
fn code(text: &[u8], before: usize, digits: usize) -> Front {
    let rest = text.get(before..).unwrap_or_default();
    let said = rest.iter().take(digits);
    if !said.clone().all(u8::is_ascii_hexdigit) {
        return Front::Itself;
    }
    if rest.len() < digits {
        return Front::More;
    }
    let number = said.fold(0, |number, digit| {
        number * 16 + char::from(*digit).to_digit(16).unwrap_or_default()
    });
    let taken = before.saturating_add(digits);
    match (u8::try_from(number), char::from_u32(number)) {
        (Ok(byte), _) if digits == 2 => Front::Byte(byte, taken),
        (_, Some(letter)) => Front::Letter(letter, taken),
        (_, None) => Front::Itself,
    }
}

/// `&amp;`, `&#47;`, `&#x2f;`.
fn named(text: &[u8]) -> Front {
    let rest = text.get(1..ESCAPE_MAX.min(text.len())).unwrap_or_default();
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'#';
    let Some(end) = rest.iter().position(|byte| !is_part(byte)) else {
        return match text.len() < ESCAPE_MAX {
            true => Front::More,
            false => Front::Itself,
        };
    };
    if rest.get(end) != Some(&b';') {
        return Front::Itself;
    }
    let name = rest.get(..end).unwrap_or_default();
    let digits = std::str::from_utf8(name).unwrap_or_default();
    let number = match name {
        [b'#', b'x' | b'X', ..] => u32::from_str_radix(digits.get(2..).unwrap_or_default(), 16),
        [b'#', ..] => digits.get(1..).unwrap_or_default().parse(),
        _ => {
            let known = NAMES.iter().find(|(known, _)| *known == name);
            let letter = known.map(|(_, letter)| char::from(*letter));
            return letter.map_or(Front::Itself, |letter| {
                Front::Letter(letter, end.saturating_add(2))
            });
        }
    };
    let letter = number.ok().and_then(char::from_u32);
    letter.map_or(Front::Itself, |letter| {
        Front::Letter(letter, end.saturating_add(2))
    })
}
