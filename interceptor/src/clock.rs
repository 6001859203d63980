//! The two clocks: wall time for people, boot time for everything that must not jump.
//!
//! The kernel stamps connects with `CLOCK_BOOTTIME`; so does everything that is compared with them.

mod lately;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub use self::lately::Lately;

/// Nanoseconds since the host booted, suspend included (`CLOCK_BOOTTIME`, Linux 2.6.39).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(pub u64);

impl BootTime {
    /// How long after `earlier` this is; zero where it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time that is so much later; the last that there is where it would be beyond.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// The time now, for people: UTC.
#[must_use]
pub fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The time now since boot. Zero where the kernel cannot tell, which is before every stamp.
#[must_use]
pub fn boot() -> BootTime {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default();
    BootTime(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// How long who waits for `next` may sleep: until then, and at most a minute. The boot clock goes on while the
/// host sleeps, a timer does not.
#[must_use]
pub fn nap(now: BootTime, next: Option<BootTime>) -> Duration {
    const LONGEST: Duration = Duration::from_secs(60);
    next.map_or(LONGEST, |next| next.since(now).min(LONGEST))
}

/// Time since some fixed point, suspend excluded (`CLOCK_MONOTONIC`): what systemd counts in.
#[must_use]
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default()
}

/// A duration as people write it: one or more of number and unit (`ms s m h d`), largest first by habit.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration such as 500ms, 10s, 5m or 1h30m";
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return Err(EXPECTED.into());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(EXPECTED.into()),
        };
        let number: u64 = number.parse().map_err(|_ignored| EXPECTED)?;
        let part = number.checked_mul(millis).map(Duration::from_millis);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or(EXPECTED)?;
        rest = tail;
    }
    Ok(total)
}

/// Names this boot of the host (`/proc/sys/kernel/random/boot_id`, proc(5)): boot times of another one mean
/// nothing.
///
/// # Errors
/// Where it cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}
