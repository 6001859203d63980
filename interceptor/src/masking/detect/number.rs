//! Numbers: at each run of digits that a word may begin with, the shapes that begin so.
//!
//! A shape is a template and a check over its digits. Most numbers are left after their length and the
//! byte behind it.

use super::kind::{Kind, Set};
use super::view::{DIGIT, Found, HEX, LETTER, More, Next, UPPER, View, WORD, is};
use super::{named, national, phone, place};

/// The most characters of a shape that count.
const DIGITS: usize = 24;

/// The digits of a number, and the letters that count as such.
pub(super) struct Digits {
    values: [u8; DIGITS],
    count: usize,
}

impl Digits {
    pub(super) fn new() -> Self {
        Self {
            values: [0; DIGITS],
            count: 0,
        }
    }

    pub(super) fn push(&mut self, value: u8) {
        if let Some(place) = self.values.get_mut(self.count) {
            *place = value;
            self.count = self.count.saturating_add(1);
        }
    }

    pub(super) fn all(&self) -> &[u8] {
        self.values.get(..self.count).unwrap_or_default()
    }
}

/// What a number may look like. In a template `9` is a digit, ` ` the same one of space, dot and hyphen
/// throughout, `A` a capital, `B` a digit or the letter A or B, `X` a digit or X; all else is itself.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    pub(super) template: &'static str,
    pub(super) check: fn(&[u8]) -> bool,
}

impl Shape {
    pub(super) const fn new(kind: Kind, template: &'static str, check: fn(&[u8]) -> bool) -> Self {
        Self {
            kind,
            template,
            check,
        }
    }

    /// Its place among those of equal groups.
    fn groups(&self) -> usize {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let template = self.template.as_bytes();
        let first = digits(template);
        let second = match template.split_at_checked(first) {
            Some((_, [b' ' | b'.' | b'-' | b'/', rest @ ..])) => digits(rest),
            _ => 0,
        };
        first * (SECOND + 1) + second
    }

    /// Where it ends, if it begins at `start`.
    pub(super) fn fits(&self, view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
        let mut digits = Digits::new();
        let mut separator = None;
        let mut at = start;
        for wanted in self.template.bytes() {
            let byte = view.at(at)?;
            let fits = match wanted {
                b'9' => is(byte, DIGIT),
                b'A' => is(byte, UPPER),
                b'B' => is(byte, DIGIT) || matches!(byte, b'A' | b'B'),
                b'X' => is(byte, DIGIT) || byte == b'X',
                b' ' if separator.is_none() => {
                    separator = Some(byte);
                    matches!(byte, b' ' | b'.' | b'-')
                }
                b' ' => separator == Some(byte),
                wanted => byte == wanted,
            };
            if !fits {
                return Ok(None);
            }
            match byte {
                b'0'..=b'9' => digits.push(byte - b'0'),
                b'A'..=b'Z' => digits.push(byte - b'A' + 10),
                _ => {}
            }
            at = at.saturating_add(1);
        }
        Ok((view.ends(at)? && (self.check)(digits.all())).then_some(at))
    }
}

/// Cards, the longest first.
static CARDS: [Shape; 11] = [
    Shape::new(Kind::Card, "9999 9999 9999 9999 999", card),
    Shape::new(Kind::Card, "9999 9999 9999 9999", card),
    Shape::new(Kind::Card, "9999 999999 99999", card),
    Shape::new(Kind::Card, "9999 999999 9999", card),
    Shape::new(Kind::Card, "9999999999999999999", card),
    Shape::new(Kind::Card, "999999999999999999", card),
    Shape::new(Kind::Card, "99999999999999999", card),
    Shape::new(Kind::Card, "9999999999999999", card),
    Shape::new(Kind::Card, "999999999999999", card),
    Shape::new(Kind::Card, "99999999999999", card),
    Shape::new(Kind::Card, "9999999999999", card),
];

/// The most digits of a first group, and of a second one.
const FIRST: usize = 20;
const SECOND: usize = 9;

/// The shapes that are looked for, by how many digits stand in their first two groups.
#[derive(Clone, Debug)]
pub(super) struct Shapes {
    by_groups: Vec<Vec<&'static Shape>>,
}

impl Shapes {
    pub(super) fn of(set: Set) -> Self {
        let mut by_groups = vec![Vec::new(); (FIRST + 1) * (SECOND + 1)];
        let shapes = CARDS.iter().chain(national::SHAPES).chain(phone::SHAPES);
        for shape in shapes.filter(|shape| set.has(shape.kind)) {
            if let Some(shapes) = by_groups.get_mut(shape.groups()) {
                shapes.push(shape);
            }
        }
        Self { by_groups }
    }

    fn begin(&self, first: usize, second: usize) -> &[&'static Shape] {
        let at = first * (SECOND + 1) + second;
        self.by_groups
            .get(at)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }
}

/// The next number, or word with a number in it.
pub(super) fn next(wanted: (Set, &Shapes), view: &View<'_>, from: usize) -> Next {
    let mut at = from;
    loop {
        let Some(first) = digit(view.bytes, at) else {
            return view.hold(trailing(view, from));
        };
        let rest = view.bytes.get(first..).unwrap_or_default();
        let run = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        at = first.saturating_add(run);
        if is_other(view, first, rest.get(run).copied(), run) {
            continue;
        }
        match candidate(wanted, view, from, first) {
            Ok(Some(found)) => return Next::Found(found),
            Ok(None) => {}
            Err(start) => return Next::More(start.max(from)),
        }
    }
}

/// Most digits are parts of times, amounts and short numbers: told by the bytes around them.
fn is_other(view: &View<'_>, first: usize, after: Option<u8>, count: usize) -> bool {
    let before = match first.checked_sub(1).and_then(|at| view.bytes.get(at)) {
        Some(before) => *before,
        None => view.back(first, 1),
    };
    if matches!(before, b'.' | b'-' | b'/') && is(view.back(first, 2), DIGIT) {
        return true;
    }
    let named = matches!(before, b'+' | b'(') || is(before, LETTER);
    !named && count < 6 && after.is_some_and(|after| !is_sign(after))
}

/// The first digit at or after a place: eight bytes at once where there is none.
fn digit(bytes: &[u8], from: usize) -> Option<usize> {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let rest = bytes.get(from..)?;
    let (words, tail) = rest.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // A byte is a digit where, without the bits of `0`, it is less than ten.
        let value = u64::from_le_bytes(*word) ^ (EACH * 0x30);
        let low = (value & (EACH * 0x7f)) + EACH * 0x76;
        let others = (low | value) & (EACH * 0x80);
        if others != EACH * 0x80 {
            let first = usize::try_from((others ^ (EACH * 0x80)).trailing_zeros() / 8);
            return Some(from + index * 8 + first.unwrap_or(0));
        }
    }
    let offset = tail.iter().position(|byte| is(*byte, DIGIT))?;
    Some(bytes.len() - tail.len() + offset)
}

/// What is held back at the end: letters and signs that a number may follow.
fn trailing(view: &View<'_>, from: usize) -> usize {
    let end = view.bytes.len();
    let most = named::LETTERS + 1;
    let letters = view.trailing(from, LETTER, most + 1);
    if letters < end {
        let few = end - letters <= most;
        return if few { letters } else { end };
    }
    let held = if view.back(end, 1) == b' ' && named::pair(view, end) {
        3
    } else {
        usize::from(matches!(view.back(end, 1), b'+' | b'('))
    };
    end.saturating_sub(held).max(from)
}

/// What begins with, or just before, the digits at a place; or where it would begin.
fn candidate(
    wanted: (Set, &Shapes),
    view: &View<'_>,
    from: usize,
    first: usize,
) -> Result<Option<Found>, usize> {
    let (set, _) = wanted;
    let before = view.back(first, 1);
    if !view.begins(first) {
        return match is(before, LETTER) {
            true => named::next(set, view, from, first),
            false => Ok(None),
        };
    }
    if matches!(before, b'+' | b'(') && set.has(Kind::Phone) {
        let found = phone::signed(view, from, first)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    if before == b' ' && set.has(Kind::UkNino) && named::pair(view, first) {
        let start = first.saturating_sub(3);
        let found = named::spaced(view, start).map_err(|More| start)?;
        if let Some(end) = found.filter(|_| start >= from) {
            return Ok(Some(Found::new(Kind::UkNino, start, end)));
        }
    }
    plain(wanted, view, first).map_err(|More| first)
}

/// A number that begins with a digit.
fn plain(
    (set, shapes): (Set, &Shapes),
    view: &View<'_>,
    start: usize,
) -> Result<Option<Found>, More> {
    let end = view.run(start, DIGIT, FIRST)?;
    let count = end.saturating_sub(start);
    let after = view.at(end)?;
    let second = match is_sign(after) {
        true => {
            let next = end.saturating_add(1);
            view.run(next, DIGIT, SECOND)?.saturating_sub(next)
        }
        false => 0,
    };
    let solid = shapes.begin(count, 0);
    let grouped = match second {
        0 => &[],
        second => shapes.begin(count, second),
    };
    let host = after == b'.' && count <= 3 && (1..=3).contains(&second) && set.has(Kind::Ip);
    if !host && solid.is_empty() && grouped.is_empty() {
        return Ok(None);
    }
    let before = view.back(start, 1);
    let goes_on = matches!(before, b'.' | b'-' | b'/') && is(view.back(start, 2), DIGIT);
    if goes_on || in_uuid(view, start) {
        return Ok(None);
    }
    if host && let Some(end) = place::v4(view, start)? {
        return Ok(Some(Found::new(Kind::Ip, start, end)));
    }
    for shape in grouped.iter().chain(solid) {
        if let Some(end) = shape.fits(view, start)? {
            return Ok(Some(Found::new(shape.kind, start, end)));
        }
    }
    Ok(None)
}

/// Whether a byte may stand between groups.
fn is_sign(byte: u8) -> bool {
    matches!(byte, b' ' | b'.' | b'-' | b'/')
}

/// Whether the digits at a place are a later group of a UUID.
fn in_uuid(view: &View<'_>, start: usize) -> bool {
    let hyphen = |by| view.back(start, by) == b'-';
    let hex =
        |from: usize, count: usize| (from..from + count).all(|by| is(view.back(start, by), HEX));
    let second = |from| hex(from, 8) && !is(view.back(start, from + 8), WORD);
    let third = |from| hex(from, 4) && view.back(start, from + 4) == b'-' && hex(from + 5, 4);
    hyphen(1) && (second(2) || third(2))
}

/// A payment card's number: an issuer's, with its length and check digit (ISO/IEC 7812).
pub(super) fn card(digits: &[u8]) -> bool {
    issued(digits) && luhn(digits)
}

fn issued(digits: &[u8]) -> bool {
    let front = |count: usize| {
        let digits = digits.get(..count).unwrap_or_default();
        digits
            .iter()
            .fold(0_u32, |number, digit| number * 10 + u32::from(*digit))
    };
    let (two, three, four) = (front(2), front(3), front(4));
    match digits.len() {
        13 => two / 10 == 4,
        14 => (300..=305).contains(&three) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37),
        16 => {
            two / 10 == 4
                || (51..=55).contains(&two)
                || (2221..=2720).contains(&four)
                || (2200..=2204).contains(&four)
                || (3528..=3589).contains(&four)
                || longer(two, three, four)
        }
        17 | 18 => longer(two, three, four),
        19 => two / 10 == 4 || longer(two, three, four) || (3528..=3589).contains(&four),
        _ => false,
    }
}

/// Issuers whose numbers have 16 to 19 digits: Discover, UnionPay, `RuPay`, Maestro.
fn longer(two: u32, three: u32, four: u32) -> bool {
    four == 6011
        || (644..=649).contains(&three)
        || matches!(two, 62 | 65 | 81 | 82)
        || three == 508
        || matches!(
            four,
            5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761 | 6762 | 6763
        )
}

/// The check digit of ISO/IEC 7812-1, annex B.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| {
            let digit = u32::from(*digit);
            match index % 2 {
                0 => digit,
                _ if digit > 4 => digit * 2 - 9,
                _ => digit * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}
