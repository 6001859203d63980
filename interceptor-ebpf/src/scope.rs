//! Which cgroups are intercepted, and where each network namespace finds the daemon.

/// A tagged cgroup; its key is the cgroup's id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Levels below the root of the hierarchy.
    pub level: u32,
    /// Zero.
    pub reserved: u32,
}

/// The daemon's listener pair in one network namespace; its key is the namespace's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Port on `127.0.0.1`, host order.
    pub port4: u16,
    /// Port on `::1`, host order; zero where the namespace has no `::1`.
    pub port6: u16,
}

const _: () = assert!(size_of::<Scope>() == 8);
const _: () = assert!(size_of::<Listeners>() == 4);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "plain old data: repr(C), no padding, every bit pattern valid"
)]
mod user {
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Scope {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Listeners {}
}
