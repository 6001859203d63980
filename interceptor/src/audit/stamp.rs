//! When something happened, by both clocks, and how a line says so.

use std::io::Write as _;

use jiff::Timestamp;

use crate::clock::{self, BootTime};

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    wall: Timestamp,
    boot: BootTime,
}

impl Stamp {
    /// This moment.
    pub(super) fn now() -> Self {
        Self {
            wall: clock::wall(),
            boot: clock::boot(),
        }
    }
}

/// Writes moments; remembers the last second's date, which takes longest to work out.
#[derive(Debug, Default)]
pub(super) struct Face {
    second: i64,
    date: String,
}

impl Face {
    /// Writes `"time":"2026-01-31T12:00:00.000001Z","boot_ns":1`.
    pub(super) fn write(&mut self, stamp: Stamp, to: &mut Vec<u8>) -> std::io::Result<()> {
        let micros = stamp.wall.as_microsecond();
        let (second, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
        if self.second != second || self.date.is_empty() {
            let whole = Timestamp::from_second(second).map_err(std::io::Error::other)?;
            self.date = whole.to_string();
            self.second = second;
        }
        let date = self.date.trim_end_matches('Z');
        let BootTime(boot) = stamp.boot;
        write!(to, "\"time\":\"{date}.{micros:06}Z\",\"boot_ns\":{boot}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_to_the_microsecond_in_utc() {
        let mut face = Face::default();
        for (nanos, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (999_999_999, "1970-01-01T00:00:00.999999Z"),
            (1_000_000_999, "1970-01-01T00:00:01.000000Z"),
            (1_795_730_050_775_277_000, "2026-11-26T21:54:10.775277Z"),
            (1_795_730_050_000_001_000, "2026-11-26T21:54:10.000001Z"),
        ] {
            let stamp = Stamp {
                wall: Timestamp::from_nanosecond(nanos).expect("a moment"),
                boot: BootTime(7),
            };
            let mut written = Vec::new();
            face.write(stamp, &mut written).expect("written");
            let expected = format!("\"time\":\"{expected}\",\"boot_ns\":7");
            assert_eq!(String::from_utf8_lossy(&written), expected);
        }
    }
}
