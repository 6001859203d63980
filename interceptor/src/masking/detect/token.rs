//! Long runs without a space: keys, tokens, and what looks random.
//!
//! A run that is long enough has a byte at every twentieth place, so that of all others only those
//! bytes, and a few before them, are looked at.

use super::key;
use super::kind::{Kind, Set};
use super::view::{DIGIT, Found, HEX, LOWER, More, Next, RUN, UPPER, View, class, is};

/// The shortest run of interest.
pub(super) const SHORT: usize = 20;
/// The longest run that is looked at as one: what is longer is data.
const LONG: usize = 200;

/// The kinds that are found here.
pub(super) fn wants(set: Set) -> bool {
    set.has(Kind::Secret) || set.has_any(key::KINDS)
}

/// The next key, token or secret.
pub(super) fn next(set: Set, view: &View<'_>, from: usize) -> Next {
    let mut at = from;
    if is(view.back(at, 1), RUN) {
        match resume(set, view, at) {
            Ok(next) => return next,
            Err(end) => at = end,
        }
    }
    while let Some(start) = long_run(view.bytes, at) {
        match look(set, view, from, start) {
            Ok(Some(found)) => return Next::Found(found),
            Ok(None) => {}
            Err(More) => return Next::More(held(view, from, start)),
        }
        match inside(set, view, start.saturating_add(1)) {
            Ok(next) => return next,
            Err(end) => at = end,
        }
    }
    let start = view.trailing(at, RUN, SHORT);
    view.hold(held(view, from, start))
}

/// In a run that goes on at a place, the next key; or where the run ends. Nothing is looked for in short ones.
fn resume(set: Set, view: &View<'_>, from: usize) -> Result<Next, usize> {
    let before = (1..=SHORT).take_while(|by| is(view.back(from, *by), RUN));
    let missing = SHORT.saturating_sub(before.count());
    match view.run(from, RUN, missing) {
        Ok(end) if end.saturating_sub(from) < missing => Err(end),
        Ok(_) => inside(set, view, from),
        Err(More) => Ok(Next::More(from)),
    }
}

/// A run's beginning, with what may belong to it before.
fn held(view: &View<'_>, from: usize, start: usize) -> usize {
    let begins = start.saturating_sub(3);
    if start >= 3 && begins >= from && [3, 2, 1].map(|by| view.back(start, by)) == *b"SG." {
        begins
    } else {
        start
    }
}

/// The beginning of the first long run at or after a place where none goes on.
fn long_run(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut start, mut known) = (from, from);
    loop {
        let probe = start + SHORT - 1;
        bytes.get(probe)?;
        let between = bytes.get(known..=probe).unwrap_or_default();
        match between.iter().rposition(|byte| !is(*byte, RUN)) {
            Some(gap) => {
                start = known + gap + 1;
                known = probe + 1;
                if start > probe {
                    known = start;
                }
            }
            None => return Some(start),
        }
    }
}

/// What begins with a run: a key in it, or all of it.
fn look(set: Set, view: &View<'_>, from: usize, start: usize) -> Result<Option<Found>, More> {
    let end = view.run(start, RUN, LONG + 1)?;
    if end.saturating_sub(start) > LONG {
        return key::at(set, view, start);
    }
    let length = end.saturating_sub(start);
    if let Some(found) = key::beside(set, view, from, (start, length))? {
        return Ok(Some(found));
    }
    for place in start..end {
        if (place == start || is_joint(view, place))
            && let Some(found) = key::at(set, view, place)?
        {
            return Ok(Some(found));
        }
    }
    let text = view.bytes.get(start..end).unwrap_or_default();
    if !set.has(Kind::Secret) || !is_random(text) {
        return Ok(None);
    }
    let mut end = end;
    while end.saturating_sub(start) <= length + 2 && view.at(end)? == b'=' {
        end = end.saturating_add(1);
    }
    Ok(Some(Found::new(Kind::Secret, start, end)))
}

/// In a run, what begins behind one of its signs; or where the run ends.
fn inside(set: Set, view: &View<'_>, from: usize) -> Result<Next, usize> {
    let mut at = from;
    while let Some(byte) = view.bytes.get(at) {
        if !is(*byte, RUN) {
            return Err(at);
        }
        if is_joint(view, at) {
            match key::at(set, view, at) {
                Ok(Some(found)) => return Ok(Next::Found(found)),
                Ok(None) => {}
                Err(More) => return Ok(Next::More(at)),
            }
        }
        at = at.saturating_add(1);
    }
    Ok(Next::Nothing)
}

/// Whether a key may begin here, in a run: behind a sign, or behind what is written out as an escape.
fn is_joint(view: &View<'_>, place: usize) -> bool {
    let before = view.back(place, 1);
    let escape = matches!(before, b'n' | b'r' | b't' | b'b' | b'f' | b'v');
    matches!(before, b'/' | b'+' | b'-') || escape && view.back(place, 2) == b'\\'
}

/// Whether a text has capitals, small letters and digits, in no order, and few of them twice.
fn is_random(text: &[u8]) -> bool {
    let (mut counts, mut sorts, mut changes) = ([0_u8; 128], 0_u8, 0_usize);
    let (mut before, mut same, mut longest, mut digits) = (0_u8, 0_usize, 0_usize, 0_usize);
    let mut hex = true;
    for byte in text {
        let sort = class(*byte) & (UPPER | LOWER | DIGIT);
        changes += usize::from(sort != before);
        same = if sort == before { same + 1 } else { 1 };
        longest = longest.max(same);
        digits += usize::from(sort == DIGIT);
        before = sort;
        sorts |= sort;
        hex &= is(*byte, HEX) || *byte == b'-';
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let mixed = sorts == UPPER | LOWER | DIGIT && changes * 5 >= text.len() * 2;
    // Names have words in them, and few digits.
    let words = longest > if text.len() < 64 { 5 } else { 8 } || digits * 16 < text.len().max(48);
    if hex || !mixed || words {
        return false;
    }
    let length = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / length;
            -share * share.log2()
        })
        .sum();
    entropy >= (length.log2() - 0.75).min(4.5)
}
