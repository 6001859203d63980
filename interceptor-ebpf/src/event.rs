//! Refusals on their way to the daemon, and the counters that tell of those that did not fit.

use crate::door::Door;
use crate::flow::Endpoint;
use crate::process::Process;

/// No rule covers the destination.
pub const NO_RULE: u32 = 1;
/// UDP that goes neither to a resolver nor to the scope itself.
pub const UDP: u32 = 2;
/// A raw or other socket that is neither TCP nor UDP.
pub const SOCKET_TYPE: u32 = 3;
/// A bind to an address of a target or of the daemon.
pub const BIND: u32 = 4;
/// The namespace has no listener pair.
pub const NETNS_UNKNOWN: u32 = 5;
/// A record could not be stored.
pub const OVERFLOW: u32 = 6;
/// The egress guard dropped a packet.
pub const EGRESS: u32 = 7;
/// The rule needs a live daemon.
pub const DAEMON_DOWN: u32 = 8;
/// A dial to an address of the daemon's own.
pub const LISTENER: u32 = 9;
/// A UNIX socket that was made outside of the scope.
pub const DOOR: u32 = 10;
/// A socket that was made outside of the scope and passed in.
pub const PASSED: u32 = 11;

/// Counter: refusals that did not fit into the ring. Reasons count under their own number.
pub const LOST: u32 = 0;
/// Counter: of [`FOLDED`], how many the daemon has told; written by the daemon.
pub const FOLDED_TOLD: u32 = 12;
/// Counter: of [`LOST`], how many the daemon has told; written by the daemon.
pub const TOLD: u32 = 13;
/// Counter: connections that arrived at the daemon without a record.
pub const UNRECORDED: u32 = 14;
/// Counter: refusals that the rate limit kept out of the ring.
pub const FOLDED: u32 = 15;
/// Counter: dials of targets' UNIX sockets that arrived at the daemon without a record; written by the daemon.
pub const UNRECORDED_DIALS: u32 = 16;
/// A process that has left its scope's cgroup.
pub const LEFT: u32 = 17;
/// Counters in all.
pub const COUNTERS: u32 = 18;

/// Refusals of one kind reported in one second; the others are folded: only counted, in [`Bucket::folded`].
pub const BURST: u32 = 4;

/// Refusals of one scope reported in one second, whatever kind: who dials every address there is must
/// not fill the audit log.
pub const SCOPE_BURST: u32 = 128;

/// [`BucketKey::kind`] of all refusals of a scope together.
pub const EVERY_KIND: u32 = u32::MAX;

/// Of [`BucketKey::kind`]: the destination is the [`Door::number`] of a door.
pub const BY_DOOR: u32 = 1 << 31;

/// [`Denial::flags`]: the process is whoever ran when the packet left, and need not have sent it: TCP
/// sends from timers and interrupts too.
pub const PASSERBY: u32 = 1;

/// One refusal.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denial {
    /// Scope root's cgroup id.
    pub scope: u64,
    /// Network namespace cookie; zero where it is not known.
    pub netns: u64,
    /// `CLOCK_BOOTTIME`.
    pub at: u64,
    /// Who.
    pub process: Process,
    /// Where to, or what was to be bound.
    pub destination: Endpoint,
    /// [`NO_RULE`] and its like.
    pub reason: u32,
    /// Protocol number.
    pub protocol: u32,
    /// [`PASSERBY`], or zero.
    pub flags: u32,
    /// The UNIX socket, where it is about one.
    pub door: Door,
}

/// Which refusals are alike.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BucketKey {
    /// Scope root's cgroup id.
    pub scope: u64,
    /// Where to.
    pub destination: Endpoint,
    /// Why, and by which protocol: reason in the low half, and [`BY_DOOR`].
    pub kind: u32,
}

/// How many of them were reported lately.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When the second began.
    pub since: u64,
    /// Folded since the row was made, but for those of which two CPUs counted one.
    pub folded: u64,
    /// Reported in this second.
    pub reported: u64,
}

const _: () = assert!(size_of::<Denial>() == 232);
const _: () = assert!(size_of::<BucketKey>() == 32);
const _: () = assert!(size_of::<Bucket>() == 24);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "plain old data: repr(C), no padding, every bit pattern valid"
)]
mod user {
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Denial {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::BucketKey {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Bucket {}
}
