//! Addresses: of mail, and of hosts.

use memchr::memchr;

use super::kind::Kind;
use super::view::{ALNUM, DIGIT, Found, HEX, LETTER, LOCAL, More, Next, View, WORD, is};

/// Bytes before an `@` (RFC 5321 §4.5.3.1.1).
const LOCAL_MAX: usize = 64;
/// Bytes of a domain (§4.5.3.1.2).
const DOMAIN_MAX: usize = 255;
/// Letters of a top-level domain.
const TOP: std::ops::RangeInclusive<usize> = 2..=24;

/// The next address of mail.
pub(super) fn next_mail(view: &View<'_>, from: usize) -> Next {
    let mut at = from;
    loop {
        let rest = view.bytes.get(at..).unwrap_or_default();
        let Some(offset) = memchr(b'@', rest) else {
            return view.hold(view.trailing(from, LOCAL, LOCAL_MAX));
        };
        let sign = at.saturating_add(offset);
        if let Some(start) = local(view, from, sign) {
            match domain(view, sign.saturating_add(1)) {
                Ok(Some(end)) => return Next::Found(Found::new(Kind::Email, start, end)),
                Ok(None) => {}
                Err(More) => return Next::More(start),
            }
        }
        at = sign.saturating_add(1);
    }
}

/// Where what stands before an `@` begins.
fn local(view: &View<'_>, from: usize, sign: usize) -> Option<usize> {
    let front = view.bytes.get(from..sign)?;
    let length = front.iter().rev().take(LOCAL_MAX);
    let length = length.take_while(|byte| is(**byte, LOCAL)).count();
    let mut start = sign.checked_sub(length)?;
    if view.is_escaped(start) {
        start = start.saturating_add(1);
    }
    let text = view.bytes.get(start..sign)?;
    let first = text.iter().position(|byte| is(*byte, WORD))?;
    Some(start.saturating_add(first))
}

fn domain(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    let mut end = start;
    while end.saturating_sub(start) <= DOMAIN_MAX {
        let byte = view.at(end)?;
        if !is(byte, ALNUM) && byte != b'.' && byte != b'-' {
            break;
        }
        end = end.saturating_add(1);
    }
    let text = view.bytes.get(start..end).unwrap_or_default();
    let ended = text.iter().rev();
    let signs = ended.take_while(|byte| !is(**byte, ALNUM)).count();
    let end = end.saturating_sub(signs);
    let text = view.bytes.get(start..end).unwrap_or_default();
    let mut labels = text.split(|byte| *byte == b'.').rev();
    let top = labels.next().unwrap_or_default();
    let named = top.iter().all(|byte| is(*byte, LETTER)) && TOP.contains(&top.len());
    let punycode = top
        .get(..4)
        .is_some_and(|front| front.eq_ignore_ascii_case(b"xn--"));
    let mut beneath = 0_usize;
    let mut whole = true;
    for label in labels {
        beneath = beneath.saturating_add(1);
        whole &= (1..=63).contains(&label.len()) && !label.starts_with(b"-");
    }
    let fits = text.len() <= DOMAIN_MAX && beneath > 0 && whole && (named || punycode);
    Ok(fits.then_some(end))
}

/// An IPv4 address at a place: four numbers, none of them with a zero in front.
pub(super) fn v4(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    let mut at = start;
    let mut first = 0;
    for part in 0..4 {
        let end = view.run(at, DIGIT, 4)?;
        let digits = view.bytes.get(at..end).unwrap_or_default();
        let number = digits
            .iter()
            .fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
        let led = digits.len() > 1 && digits.starts_with(b"0");
        if digits.is_empty() || number > 255 || led {
            return Ok(None);
        }
        if part == 0 {
            first = number;
        }
        at = end;
        if part < 3 {
            if view.at(at)? != b'.' {
                return Ok(None);
            }
            at = at.saturating_add(1);
        }
    }
    // This host, and no host at all, tell nothing; a prefix of a network may follow.
    let after = view.at(at)?;
    let whole = match after {
        b'.' => !is(view.at(at.saturating_add(1))?, DIGIT),
        after => !is(after, WORD),
    };
    Ok((whole && first != 0 && first != 127 && first != 255).then_some(at))
}

/// The next IPv6 address.
pub(super) fn next_v6(view: &View<'_>, from: usize) -> Next {
    let mut at = from;
    loop {
        let rest = view.bytes.get(at..).unwrap_or_default();
        let Some(offset) = memchr(b':', rest) else {
            let hold = view.trailing(from, HEX, 5);
            let group = view.bytes.len().saturating_sub(hold) <= 4;
            return view.hold(if group { hold } else { view.bytes.len() });
        };
        let colon = at.saturating_add(offset);
        at = colon.saturating_add(1);
        // Most colons end a word, or stand in one.
        if rest
            .get(offset.saturating_add(1))
            .is_some_and(|after| !is(*after, HEX) && *after != b':')
        {
            continue;
        }
        let front = view.bytes.get(from..colon).unwrap_or_default();
        let group = front.iter().rev().take(4);
        let group = group.take_while(|byte| is(**byte, HEX)).count();
        let start = colon.saturating_sub(group);
        let begins = view.begins(start) && !matches!(view.back(start, 1), b':' | b'.');
        if begins {
            match v6(view, start) {
                Ok(Some(end)) => return Next::Found(Found::new(Kind::Ip, start, end)),
                Ok(None) => {}
                Err(More) => return Next::More(start),
            }
        }
    }
}

/// An IPv6 address at a place (RFC 4291 §2.2): eight groups, or fewer around one `::`.
fn v6(view: &View<'_>, start: usize) -> Result<Option<usize>, More> {
    let (mut at, mut groups, mut gap, mut digits) = (start, 0_u8, false, false);
    if view.stands(at, b"::")? {
        gap = true;
        at = at.saturating_add(2);
    }
    while groups < 8 {
        let end = view.run(at, HEX, 5)?;
        let group = view.bytes.get(at..end).unwrap_or_default();
        if group.is_empty() {
            break;
        }
        if group.len() > 4 {
            return Ok(None);
        }
        let mapped = groups == 6 || gap && groups < 6;
        if mapped
            && view.at(end)? == b'.'
            && let Some(end) = v4(view, at)?
        {
            return Ok(Some(end));
        }
        digits |= group.iter().any(|byte| is(*byte, DIGIT));
        groups = groups.saturating_add(1);
        at = end;
        if view.at(at)? != b':' {
            break;
        }
        if view.at(at.saturating_add(1))? == b':' {
            if gap {
                return Ok(None);
            }
            gap = true;
            at = at.saturating_add(2);
        } else if groups < 8 && is(view.at(at.saturating_add(1))?, HEX) {
            at = at.saturating_add(1);
        } else {
            break;
        }
    }
    // Code has names around `::`, and times have colons.
    let enough = if gap {
        (2..8).contains(&groups) && digits
    } else {
        groups == 8
    };
    let after = view.at(at)?;
    Ok((enough && !is(after, WORD) && after != b':').then_some(at))
}
