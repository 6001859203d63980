//! Text with a layer of escapes resolved, and where each of its bytes came from.
//!
//! Percent, JSON and other programs' strings, HTML: whichever letters were escaped, what they stand for is looked
//! at. Ends of lines, as they wrap what is long, and the zeros of wide letters stand for nothing.

use std::borrow::Cow;

use memchr::memchr3;

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

/// A text, and which bytes of the text under it, or of a window, each of its bytes stands for.
pub(super) struct Text<'a> {
    bytes: Cow<'a, [u8]>,
    /// `None` where each stands for itself.
    runs: Option<Vec<Run>>,
}

/// Bytes of a text from one on.
struct Run {
    at: usize,
    /// Where what they stand for begins.
    under: usize,
    /// How long that is for all of them together; `None` where each stands for one.
    length: Option<usize>,
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
        if !marks.iter().any(|mark| mark & apart != 0) {
            return Self {
                bytes: Cow::Borrowed(window),
                runs: None,
            };
        }
        let (mut bytes, mut runs) = (Vec::with_capacity(window.len()), Vec::new());
        let mut is_apart = true;
        let marks = marks.iter().chain(std::iter::repeat(&0));
        for (at, (byte, mark)) in window.iter().zip(marks).enumerate() {
            let before = std::mem::replace(&mut is_apart, mark & apart != 0);
            if before && !is_apart {
                runs.push(Run::each(bytes.len(), at));
            }
            if !is_apart {
                bytes.push(*byte);
            }
        }
        Self {
            bytes: Cow::Owned(bytes),
            runs: Some(runs),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// From where to where of what is under it a byte stands for.
    fn under(&self, at: usize) -> (usize, usize) {
        let Some(runs) = &self.runs else {
            return (at, at.saturating_add(1));
        };
        let after = runs.partition_point(|run| run.at <= at);
        let Some(run) = after.checked_sub(1).and_then(|last| runs.get(last)) else {
            return (at, at.saturating_add(1));
        };
        match run.length {
            Some(length) => (run.under, run.under.saturating_add(length)),
            None => {
                let under = run.under.saturating_add(at.saturating_sub(run.at));
                (under, under.saturating_add(1))
            }
        }
    }

    /// The same with its escapes resolved, and where one begins that may come to be whole where more comes;
    /// `None` where it has none.
    pub(super) fn resolved(&self, last: bool) -> Option<(Text<'static>, Option<usize>)> {
        let mut places = Places::of(&self.bytes);
        let mut at = places.next(0);
        if at >= self.bytes.len() {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        bytes.extend_from_slice(self.bytes.get(..at).unwrap_or_default());
        let mut runs = vec![Run::each(0, 0)];
        let (mut unread, mut changed, mut nothing) = (None, false, 0);
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let taken = match front(rest, last) {
                Front::Nothing if nothing < NOTHING_MAX => {
                    nothing += 1;
                    1
                }
                Front::Itself | Front::Nothing => {
                    nothing = 0;
                    runs.push(Run::each(bytes.len(), at));
                    let next = places.next(at.saturating_add(1));
                    bytes.extend_from_slice(self.bytes.get(at..next).unwrap_or_default());
                    at = next;
                    continue;
                }
                Front::Letter(letter, taken) => {
                    nothing = 0;
                    runs.push(Run::all(bytes.len(), at, taken));
                    let mut written = [0; 4];
                    bytes.extend_from_slice(letter.encode_utf8(&mut written).as_bytes());
                    taken
                }
                Front::Byte(byte, taken) => {
                    nothing = 0;
                    runs.push(Run::all(bytes.len(), at, taken));
                    bytes.push(byte);
                    taken
                }
                Front::More => {
                    unread = Some(at);
                    changed = true;
                    break;
                }
            };
            changed = true;
            at = at.saturating_add(taken);
        }
        let text = Text {
            bytes: Cow::Owned(bytes),
            runs: Some(runs),
        };
        changed.then_some((text, unread))
    }
}

impl Run {
    fn each(at: usize, under: usize) -> Self {
        Self {
            at,
            under,
            length: None,
        }
    }

    fn all(at: usize, under: usize, length: usize) -> Self {
        Self {
            at,
            under,
            length: Some(length),
        }
    }
}

/// From where to where of a window a byte of the last of these texts stands for, each of which lies on the one
/// before it.
pub(super) fn span(texts: &[Text<'_>], at: usize) -> (usize, usize) {
    let (mut start, mut end) = (at, at.saturating_add(1));
    for text in texts.iter().rev() {
        let last = text.under(end.saturating_sub(1));
        (start, end) = (text.under(start).0, last.1);
    }
    (start, end)
}

/// Where bytes stand that may begin escapes; each is looked for once.
struct Places<'a> {
    text: &'a [u8],
    letter: usize,
    nothing: usize,
}

impl<'a> Places<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut places = Self {
            text,
            letter: 0,
            nothing: 0,
        };
        places.letter = places.look(0, |rest| memchr3(b'%', b'\\', b'&', rest));
        places.nothing = places.look(0, |rest| memchr3(b'\r', b'\n', b'\0', rest));
        places
    }

    fn look(&self, from: usize, find: impl Fn(&[u8]) -> Option<usize>) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        from.saturating_add(find(rest).unwrap_or(rest.len()))
    }

    /// The first from a place on; the text's length where there is none.
    fn next(&mut self, from: usize) -> usize {
        if self.letter < from {
            self.letter = self.look(from, |rest| memchr3(b'%', b'\\', b'&', rest));
        }
        if self.nothing < from {
            self.nothing = self.look(from, |rest| memchr3(b'\r', b'\n', b'\0', rest));
        }
        self.letter.min(self.nothing)
    }
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
