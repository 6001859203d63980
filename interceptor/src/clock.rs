//! The two clocks: wall time for people, boot time for everything that must not jump.
//!
//! The kernel stamps connects with `CLOCK_BOOTTIME`; so does everything that is compared with them.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

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

/// Time since some fixed point, suspend excluded (`CLOCK_MONOTONIC`): what systemd counts in.
#[must_use]
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default()
}
