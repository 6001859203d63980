//! Phone numbers: international ones, and the national writings that are told from other numbers.

use super::kind::Kind;
use super::number::Shape;
use super::view::{DIGIT, Found, More, View, is};

/// Digits of an international number (E.164 §6.2.1), the least that is taken for one, and the most.
const DIGITS: std::ops::RangeInclusive<usize> = 8..=15;

/// Those that begin with digits. Bare digits are no phone number: too much else is.
pub(super) static SHAPES: &[Shape] = &[
    Shape::new(Kind::Phone, "999 999 9999", american),
    Shape::new(Kind::Phone, "99 99 99 99 99", french),
    Shape::new(Kind::Phone, "99999 999999", british),
    Shape::new(Kind::Phone, "999 9999 9999", british),
    Shape::new(Kind::Phone, "9999 999 9999", british),
    Shape::new(Kind::Phone, "999/99999999", trunk),
    Shape::new(Kind::Phone, "999/9999999", trunk),
    Shape::new(Kind::Phone, "999/999999", trunk),
    Shape::new(Kind::Phone, "9999/9999999", trunk),
    Shape::new(Kind::Phone, "9999/999999", trunk),
    Shape::new(Kind::Phone, "9999-9999999", trunk),
    Shape::new(Kind::Phone, "9999-99999999", trunk),
    Shape::new(Kind::Phone, "99999/999999", trunk),
    Shape::new(Kind::Phone, "99999/99999", trunk),
];

static BRACKETED: [Shape; 3] = [
    Shape::new(Kind::Phone, "(999) 999-9999", american),
    Shape::new(Kind::Phone, "(999)999-9999", american),
    Shape::new(Kind::Phone, "(999) 999 9999", american),
];

/// Neither an area nor an exchange of the North American plan begins with 0 or 1, or ends in 11.
fn american(digits: &[u8]) -> bool {
    let part = |digits: Option<&[u8]>| match digits {
        Some([first, rest @ ..]) => *first > 1 && rest.get(..2) != Some(&[1, 1]),
        _ => false,
    };
    part(digits.get(..3)) && part(digits.get(3..6))
}

fn french(digits: &[u8]) -> bool {
    matches!(digits, [0, 1..=9, ..])
}

fn british(digits: &[u8]) -> bool {
    matches!(digits, [0, 1 | 2 | 3 | 7 | 8, ..])
}

fn trunk(digits: &[u8]) -> bool {
    matches!(digits, [0, 1..=9, ..])
}

/// One with a sign before its first digit; or where it would begin.
pub(super) fn signed(view: &View<'_>, from: usize, first: usize) -> Result<Option<Found>, usize> {
    let start = first.checked_sub(1);
    let Some(start) = start.filter(|start| *start >= from && view.begins(*start)) else {
        return Ok(None);
    };
    let end = match view.back(first, 1) {
        b'+' => international(view, first),
        _ => bracketed(view, start),
    };
    let end = end.map_err(|More| start)?;
    Ok(end.map(|end| Found::new(Kind::Phone, start, end)))
}

fn bracketed(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    for shape in &BRACKETED {
        let end = shape.fits(view, start)?;
        if end.is_some() {
            return Ok(end);
        }
    }
    Ok(None)
}

/// Digits from a country's number on, with single signs, and brackets, between them. As many groups as can
/// be: what stands behind may be another number.
fn international(view: &View<'_>, first: usize) -> Result<Option<usize>, More> {
    if view.at(first)? == b'0' {
        return Ok(None);
    }
    let (mut at, mut count, mut signs) = (first, 0_usize, 0_u8);
    let mut ends = [first; 16];
    while count < ends.len() {
        let byte = view.at(at)?;
        at = at.saturating_add(1);
        if is(byte, DIGIT) {
            if let Some(end) = ends.get_mut(count) {
                *end = at;
            }
            count = count.saturating_add(1);
            signs = 0;
        } else if matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/') && signs < 2 {
            signs += 1;
        } else {
            break;
        }
    }
    for count in DIGITS.rev().filter(|most| *most <= count) {
        if let Some(end) = ends.get(count - 1)
            && view.ends(*end)?
        {
            return Ok(Some(*end));
        }
    }
    Ok(None)
}
