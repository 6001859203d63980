//! Protocol buffers as they stand on the wire: fields, one after the other, without what they mean.

use std::ops::Range;

use super::Broken;

/// Levels of nesting; readers of the format have the same bound.
pub(super) const DEPTH_MAX: usize = 100;
/// The highest number of a field.
const NUMBER_MAX: u64 = (1 << 29) - 1;
/// Bytes of a number.
const VARINT_MAX: usize = 10;

pub(super) const MALFORMED: Broken = Broken("it holds what is no message");

/// How a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Length,
    /// The beginning of a group.
    Open,
    /// The end of one.
    Close,
    Fixed32,
}

/// One field, by where its parts stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) number: u32,
    pub(super) wire: Wire,
    pub(super) start: usize,
    /// The length of its value, where it says one; else nothing.
    pub(super) length: Range<usize>,
    /// Its value; of a group nothing.
    pub(super) value: Range<usize>,
}

impl Item {
    /// Its number and kind.
    pub(super) fn tag(&self) -> Range<usize> {
        self.start..self.length.start
    }

    /// All of it; of a group its beginning.
    pub(super) fn whole(&self) -> Range<usize> {
        self.start..self.value.end
    }
}

/// The field that begins at a place.
pub(super) fn item(bytes: &[u8], range: Range<usize>) -> Result<Item, Broken> {
    let Range { start, end } = range;
    let (tag, at) = varint(bytes, start..end)?;
    let number = tag >> 3;
    if !(1..=NUMBER_MAX).contains(&number) {
        return Err(MALFORMED);
    }
    let number = u32::try_from(number).map_err(|_large| MALFORMED)?;
    let (wire, length, value) = match tag & 7 {
        0 => (Wire::Varint, at..at, at..varint(bytes, at..end)?.1),
        1 => (Wire::Fixed64, at..at, at..at.saturating_add(8)),
        2 => {
            let (length, from) = varint(bytes, at..end)?;
            let length = usize::try_from(length).map_err(|_large| MALFORMED)?;
            (Wire::Length, at..from, from..from.saturating_add(length))
        }
        3 => (Wire::Open, at..at, at..at),
        4 => (Wire::Close, at..at, at..at),
        5 => (Wire::Fixed32, at..at, at..at.saturating_add(4)),
        _ => return Err(MALFORMED),
    };
    if value.end > end {
        return Err(MALFORMED);
    }
    Ok(Item {
        number,
        wire,
        start,
        length,
        value,
    })
}

/// A number, and where it ends.
pub(super) fn varint(bytes: &[u8], range: Range<usize>) -> Result<(u64, usize), Broken> {
    let Range { start, end } = range;
    let bytes = bytes.get(start..end).ok_or(MALFORMED)?;
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().take(VARINT_MAX).enumerate() {
        // What does not fit is left out, as readers do.
        number |= u64::from(byte & 0x7f)
            .checked_shl(u32::try_from(at * 7).unwrap_or(u32::MAX))
            .unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok((number, start + at + 1));
        }
    }
    Err(MALFORMED)
}

/// Writes a number.
pub(super) fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Nothing, as a number that is as long as it has to be.
pub(super) fn zero(wire: Wire, length: usize) -> Vec<u8> {
    let mut zero = vec![
        match wire {
            Wire::Varint => 0x80,
            _ => 0,
        };
        length
    ];
    if let Some(last) = zero.last_mut() {
        *last = 0;
    }
    zero
}

/// Where the group ends that an item begins.
pub(super) fn group_end(bytes: &[u8], open: &Item, end: usize) -> Result<usize, Broken> {
    let (mut within, mut at) = (vec![open.number], open.value.end);
    while at < end {
        let item = item(bytes, at..end)?;
        at = item.value.end;
        match item.wire {
            Wire::Open if within.len() >= DEPTH_MAX => return Err(MALFORMED),
            Wire::Open => within.push(item.number),
            Wire::Close if within.pop() != Some(item.number) => return Err(MALFORMED),
            Wire::Close if within.is_empty() => return Ok(at),
            _ => {}
        }
    }
    Err(MALFORMED)
}
