//! Where a connection was going, where it was sent, and who made it.

use crate::process::Process;

/// An address and port. IPv4 is kept IPv4-mapped, so that one key and one comparison serve both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Sixteen bytes in network order, as four words.
    pub address: [u32; 4],
    /// Host order.
    pub port: u16,
    /// Zero.
    pub reserved: u16,
}

/// The third word of every IPv4-mapped address (RFC 4291 section 2.5.5.2).
const MAPPED: u32 = 0xffff_u32.to_be();

impl Endpoint {
    /// An IPv4 endpoint; `address` in network order.
    #[must_use]
    #[inline(always)]
    pub const fn v4(address: u32, port: u16) -> Self {
        Self {
            address: [0, 0, MAPPED, address],
            port,
            reserved: 0,
        }
    }

    /// An IPv6 endpoint, IPv4-mapped ones included; words in network order.
    #[must_use]
    #[inline(always)]
    pub const fn v6(address: [u32; 4], port: u16) -> Self {
        Self {
            address,
            port,
            reserved: 0,
        }
    }

    /// Whether this is IPv4, mapped or not.
    #[must_use]
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.address[0] == 0 && self.address[1] == 0 && self.address[2] == MAPPED
    }

    /// `0.0.0.0`, `::` or `::ffff:0.0.0.0`, which `connect()` takes for loopback and `bind()` for all.
    #[must_use]
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        self.address[0] == 0
            && self.address[1] == 0
            && self.address[3] == 0
            && (self.address[2] == 0 || self.address[2] == MAPPED)
    }

    /// `127.0.0.0/8` or `::1`.
    #[must_use]
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            u32::from_be(self.address[3]) >> 24 == 127
        } else {
            self.address[0] == 0
                && self.address[1] == 0
                && self.address[2] == 0
                && self.address[3] == 1_u32.to_be()
        }
    }

    /// The same address without a port: where a client is that has none yet.
    #[must_use]
    #[inline(always)]
    pub const fn anywhere(&self) -> Self {
        Self { port: 0, ..*self }
    }

    /// The same port on the loopback address of the same family.
    #[must_use]
    #[inline(always)]
    pub const fn on_loopback(&self) -> Self {
        if self.is_v4() {
            Self::v4(0x7f00_0001_u32.to_be(), self.port)
        } else {
            Self::v6([0, 0, 0, 1_u32.to_be()], self.port)
        }
    }

    /// Where the daemon answers for the resolver in `slot`, in every namespace: an address for each, so
    /// that an answer comes from the resolver that was asked. 127.64.0.1 and those after it.
    #[must_use]
    #[inline(always)]
    pub const fn name_server(slot: u32, port: u16) -> Self {
        Self::v4((0x7f40_0001_u32.wrapping_add(slot)).to_be(), port)
    }

    /// `224.0.0.0/4`, `255.255.255.255` or `ff00::/8`: heard by many.
    #[must_use]
    #[inline(always)]
    pub const fn is_of_many(&self) -> bool {
        if self.is_v4() {
            let address = u32::from_be(self.address[3]);
            address >> 28 == 0xe || address == u32::MAX
        } else {
            u32::from_be(self.address[0]) >> 24 == 0xff
        }
    }

    /// Equality without a call to `memcmp`, which some verifiers do not follow.
    #[must_use]
    #[inline(always)]
    pub const fn same(&self, other: &Self) -> bool {
        self.address[0] == other.address[0]
            && self.address[1] == other.address[1]
            && self.address[2] == other.address[2]
            && self.address[3] == other.address[3]
            && self.port == other.port
    }
}

/// [`Flow::kind`]: sent to the daemon's listener.
pub const REDIRECTED: u32 = 1;
/// [`Flow::kind`]: straight out by a `direct` or resolver rule.
pub const DIRECT: u32 = 2;
/// [`Flow::kind`]: to a listener of the same scope, over loopback. Its [`Flow::generation`] is not zero once
/// who took it has been seen.
pub const LOCAL: u32 = 3;
/// [`Flow::kind`]: accepted by a listener of the scope, from a loopback peer.
pub const ACCEPTED: u32 = 4;

/// [`Flow::kind`]: a datagram to the daemon's name server.
pub const ASKED: u32 = 5;

/// What is kept with a socket: in the client's storage, for a moment in the table of pending
/// connections, and in the storage of the socket that the daemon accepts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The client's network namespace cookie.
    pub netns: u64,
    /// Cgroup id of the scope's root.
    pub scope: u64,
    /// `CLOCK_BOOTTIME` at `connect()`.
    pub at: u64,
    /// Who connected; nobody in a record of an accepted socket.
    pub process: Process,
    /// Where it was going.
    pub destination: Endpoint,
    /// Where it was sent instead.
    pub via: Endpoint,
    /// Its own address, once the kernel has chosen it.
    pub client: Endpoint,
    /// [`REDIRECTED`] and its like.
    pub kind: u32,
    /// The generation of the rules that let it out.
    pub generation: u32,
    /// Nonzero where the rule needs a live daemon.
    pub needs_daemon: u32,
    /// Over every word before it; see [`Flow::sealed`].
    pub seal: u64,
}

const WORDS: usize = size_of::<Flow>() / 8;

impl Flow {
    /// The seal of this record. A row of an LRU table may be recycled while it is being copied; a
    /// torn copy does not fit its seal and is thrown away.
    #[must_use]
    #[inline(always)]
    #[expect(unsafe_code, reason = "the record is read as the words it is made of")]
    pub fn sealed(&self) -> u64 {
        let words = core::ptr::from_ref(self).cast::<u64>();
        let mut seal = 0x9e37_79b9_7f4a_7c15_u64;
        let mut at = 0;
        while at < WORDS - 1 {
            // SAFETY: `Flow` is eight-byte aligned, without padding, and WORDS words long.
            let word = unsafe { words.add(at).read_volatile() };
            seal = (seal ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
            at += 1;
        }
        // An all-zero record must not look sealed.
        seal | 1
    }
}

/// Key of the table of pending connections.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingKey {
    /// Network namespace cookie of both ends.
    pub netns: u64,
    /// The client's own address and port.
    pub client: Endpoint,
    /// The listener's port.
    pub listener: u32,
}

/// Key of the table of sockets that ask for names.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedKey {
    /// Network namespace cookie of both ends.
    pub netns: u64,
    /// The client's own address and port.
    pub client: Endpoint,
    /// The name server's.
    pub via: Endpoint,
}

/// Key of the table of addresses that a scope knows a target's name for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamedKey {
    /// Scope root's cgroup id.
    pub scope: u64,
    /// The address that the scope was told, and the target's port.
    pub at: Endpoint,
    /// Zero.
    pub reserved: u32,
}

/// [`Mark::kind`]: a listener of the daemon.
pub const DAEMON: u32 = 1;

/// What the daemon writes on its own listeners; accepted sockets inherit it (`BPF_F_CLONE`, 5.4).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Network namespace cookie of the listener.
    pub netns: u64,
    /// [`DAEMON`]; zero on a socket that only tells its namespace.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// What is kept with every socket that a scope makes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// The scope that made it.
    pub scope: u64,
    /// Network namespace cookie.
    pub netns: u64,
}

const _: () = assert!(size_of::<Endpoint>() == 20);
const _: () = assert!(size_of::<Flow>() == 168);
const _: () = assert!(size_of::<PendingKey>() == 32);
const _: () = assert!(size_of::<AskedKey>() == 48);
const _: () = assert!(size_of::<NamedKey>() == 32);
const _: () = assert!(size_of::<Mark>() == 16);
const _: () = assert!(size_of::<Socket>() == 16);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "plain old data: repr(C), no padding, every bit pattern valid"
)]
mod user {
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Endpoint {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Flow {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::PendingKey {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::AskedKey {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::NamedKey {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Mark {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Socket {}
}

#[cfg(test)]
mod tests;
