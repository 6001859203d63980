//! Words that begin with letters and go on with digits: bank accounts, and numbers of states.

use super::kind::{Kind, Set};
use super::national;
use super::number::Digits;
use super::view::{ALNUM, DIGIT, Found, LETTER, More, UPPER, View, WORD, is};

/// The most letters in front of a digit: of an Italian code.
pub(super) const LETTERS: usize = 8;

/// How long an account's number is, by country (the registry of ISO 13616).
static COUNTRIES: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// The word whose first digit stands here; or where it would begin.
pub(super) fn next(
    set: Set,
    view: &View<'_>,
    from: usize,
    first: usize,
) -> Result<Option<Found>, usize> {
    let mut start = first;
    while start > from
        && first.saturating_sub(start) <= LETTERS
        && is(view.back(start, 1), LETTER)
        && !view.begins(start)
    {
        start = start.saturating_sub(1);
    }
    let letters = first.saturating_sub(start);
    if !view.begins(start) || letters > LETTERS {
        return Ok(None);
    }
    let found = |kind, end| Found::new(kind, start, end);
    let kinds: &[(Kind, Reader)] = match letters {
        1 => &[(Kind::EsDni, nie), (Kind::DeIdCard, id_card)],
        2 => &[
            (Kind::Iban, iban),
            (Kind::UkNino, nino),
            (Kind::DeIdCard, id_card),
        ],
        3 | 4 => &[(Kind::DeIdCard, id_card)],
        6..=LETTERS => &[(Kind::ItCf, codice)],
        _ => &[],
    };
    for (kind, read) in kinds.iter().filter(|(kind, _)| set.has(*kind)) {
        let end = read(view, start).map_err(|More| start)?;
        if let Some(end) = end {
            return Ok(Some(found(*kind, end)));
        }
    }
    Ok(None)
}

type Reader = fn(&View<'_>, usize) -> Result<Option<usize>, More>;

/// An IBAN, in one piece or in groups of four; ISO 7064 MOD 97-10.
fn iban(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    let country = [view.at(start)?, view.at(start.saturating_add(1))?];
    let country = country.map(|byte| byte.to_ascii_uppercase());
    let known = COUNTRIES.iter().find(|(known, _)| **known == country);
    let Some((_, length)) = known else {
        return Ok(None);
    };
    let (mut at, mut rest, mut front) = (start, 0_u32, [0; 4]);
    let spaced = view.at(start.saturating_add(4))? == b' ';
    for index in 0..*length {
        if spaced && index > 0 && index % 4 == 0 {
            if view.at(at)? != b' ' {
                return Ok(None);
            }
            at = at.saturating_add(1);
        }
        let byte = view.at(at)?;
        if !is(byte, ALNUM) || matches!(index, 2 | 3) && !is(byte, DIGIT) {
            return Ok(None);
        }
        match front.get_mut(index) {
            Some(place) => *place = byte,
            None => rest = remainder(rest, byte),
        }
        at = at.saturating_add(1);
    }
    let rest = front.iter().fold(rest, |rest, byte| remainder(rest, *byte));
    let ends = !is(view.at(at)?, WORD);
    Ok((ends && rest == 1).then_some(at))
}

fn remainder(rest: u32, byte: u8) -> u32 {
    let byte = byte.to_ascii_uppercase();
    if is(byte, DIGIT) {
        (rest * 10 + u32::from(byte - b'0')) % 97
    } else {
        (rest * 100 + u32::from(byte.saturating_sub(b'A')) + 10) % 97
    }
}

/// A national insurance number: its letters are its only check.
fn nino(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    insured(view, start, b"999999")
}

/// The same in groups of two.
pub(super) fn spaced(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    insured(view, start, b" 99 99 99 ")
}

fn insured(view: &View<'_>, start: usize, template: &[u8]) -> Result<Option<usize>, More> {
    let pair = [view.at(start)?, view.at(start.saturating_add(1))?];
    let letter =
        |byte: u8| is(byte, UPPER) && !matches!(byte, b'D' | b'F' | b'I' | b'Q' | b'U' | b'V');
    let never = matches!(&pair, b"BG" | b"GB" | b"KN" | b"NK" | b"NT" | b"TN" | b"ZZ");
    if never || !pair.iter().all(|byte| letter(*byte)) || pair.ends_with(b"O") {
        return Ok(None);
    }
    let mut at = start.saturating_add(2);
    for wanted in template {
        let byte = view.at(at)?;
        let fits = match wanted {
            b'9' => is(byte, DIGIT),
            wanted => byte == *wanted,
        };
        if !fits {
            return Ok(None);
        }
        at = at.saturating_add(1);
    }
    let suffix = matches!(view.at(at)?, b'A'..=b'D');
    let end = at.saturating_add(1);
    Ok((suffix && !is(view.at(end)?, WORD)).then_some(end))
}

/// Whether two capitals that are a word, and a space, stand before a place.
pub(super) fn pair(view: &View<'_>, place: usize) -> bool {
    is(view.back(place, 2), UPPER)
        && is(view.back(place, 3), UPPER)
        && place.checked_sub(3).is_some_and(|start| view.begins(start))
}

/// Spain's number of foreigners: as a citizen's, with a letter for the first digit.
fn nie(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    let mut digits = Digits::new();
    match view.at(start)? {
        first @ b'X'..=b'Z' => digits.push(first - b'X'),
        _ => return Ok(None),
    }
    for offset in 1..8 {
        let byte = view.at(start.saturating_add(offset))?;
        if !is(byte, DIGIT) {
            return Ok(None);
        }
        digits.push(byte - b'0');
    }
    let letter = view.at(start.saturating_add(8))?;
    let end = start.saturating_add(9);
    if !is(letter, UPPER) || is(view.at(end)?, WORD) {
        return Ok(None);
    }
    digits.push(letter - b'A' + 10);
    Ok(national::es_dni(digits.all()).then_some(end))
}

/// Nine characters that cannot be mistaken for others, and a check digit with weights 7, 3, 1 (ICAO 9303).
fn id_card(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    if !matches!(view.at(start)?, b'L'..=b'N' | b'P' | b'R' | b'T' | b'V'..=b'Y') {
        return Ok(None);
    }
    let mut sum = 0;
    for (offset, weight) in [7, 3, 1].into_iter().cycle().take(9).enumerate() {
        let value = match view.at(start.saturating_add(offset))? {
            byte @ b'0'..=b'9' => byte - b'0',
            byte @ (b'C' | b'F'..=b'H' | b'J'..=b'N' | b'P' | b'R' | b'T' | b'V'..=b'Z') => {
                byte - b'A' + 10
            }
            _ => return Ok(None),
        };
        sum += u32::from(value) * weight;
    }
    let check = view.at(start.saturating_add(9))?;
    let mut end = start.saturating_add(10);
    if u32::from(check) != u32::from(b'0') + sum % 10 {
        return Ok(None);
    }
    if view.at(end)? == b'D' {
        end = end.saturating_add(1);
    }
    Ok((!is(view.at(end)?, WORD)).then_some(end))
}

/// An Italian tax code: letters of the name, a birthday, a place, a check letter.
fn codice(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let (mut sum, mut digits) = (0, 0);
    for (offset, wanted) in b"AAAAAA99M99A999".iter().enumerate() {
        let byte = view.at(start.saturating_add(offset))?;
        let fits = match wanted {
            // Where two codes would be the same, letters stand for digits.
            b'9' => is(byte, DIGIT) || matches!(byte, b'L'..=b'N' | b'P'..=b'V'),
            b'M' => matches!(byte, b'A'..=b'E' | b'H' | b'L' | b'M' | b'P' | b'R'..=b'T'),
            _ => is(byte, UPPER),
        };
        if !fits {
            return Ok(None);
        }
        let value = if is(byte, DIGIT) {
            byte - b'0'
        } else {
            byte - b'A'
        };
        digits += u32::from(is(byte, DIGIT));
        sum += match offset % 2 {
            0 => ODD.get(usize::from(value)).copied().unwrap_or(0),
            _ => u32::from(value),
        };
    }
    let check = view.at(start.saturating_add(15))?;
    let end = start.saturating_add(16);
    let fits = digits > 1 && u32::from(check) == u32::from(b'A') + sum % 26;
    Ok((fits && !is(view.at(end)?, WORD)).then_some(end))
}
