//! The kernel's policy: rows of a longest-prefix trie, and what may be bound by nobody in a scope.

/// To the daemon. Beats every other bit.
pub const REDIRECT: u32 = 1;
/// TCP straight out.
pub const DIRECT: u32 = 2;
/// TCP straight out while a daemon is alive.
pub const DIRECT_IF_READY: u32 = 4;
/// A resolver: TCP to the daemon, UDP to the daemon's name server of the slot in [`SLOT`].
pub const NAMES: u32 = 8;
/// Where the bits of a resolver's slot begin.
pub const SLOT: u32 = 8;

/// The port of DNS.
pub const DNS: u16 = 53;
/// The port of DNS over TLS and over QUIC.
pub const DNS_TLS: u16 = 853;

/// Bits of a row's key that must match whole, before the address begins.
pub const EXACT_BITS: u32 = 128;

/// A row's key without its prefix length; matched bit by bit from the front.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RuleKey {
    /// The generation that the row belongs to.
    pub generation: u32,
    /// The scope's cgroup id, low half; both halves zero for every scope.
    pub scope_low: u32,
    /// The scope's cgroup id, high half.
    pub scope_high: u32,
    /// Port in host order; zero for every port.
    pub port: u32,
    /// IPv4-mapped or IPv6, in network order.
    pub address: [u32; 4],
}

/// [`State::ready`]: a daemon has loaded its rules and not taken leave.
pub const READY: u32 = 1;

/// The one row that says which rules hold.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Rows of this generation hold.
    pub generation: u32,
    /// [`READY`] or zero.
    pub ready: u32,
    /// Bit n is set where a scope sits n levels below the root of the hierarchy.
    pub levels: u32,
    /// Zero.
    pub reserved: u32,
}

/// A protected address is a target's: scopes may dial it and may not bind it.
pub const TARGET: u32 = 1;
/// A protected address is the daemon's: scopes may neither dial nor bind it.
pub const DAEMON: u32 = 2;

const _: () = assert!(size_of::<RuleKey>() == 32);
const _: () = assert!(size_of::<State>() == 16);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "plain old data: repr(C), no padding, every bit pattern valid"
)]
mod user {
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::RuleKey {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::State {}
}
