//! Which cgroups are intercepted, and where each network namespace finds the daemon.

use crate::MAX_RESOLVERS;
use crate::flow::Endpoint;

/// A tagged cgroup; its key is the cgroup's id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Levels below the root of the hierarchy.
    pub level: u32,
    /// Not zero while it is untagged and no scope is around it: who comes from it is let go.
    pub going: u32,
}

/// The daemon's listener pair in one network namespace; its key is the namespace's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Port on `127.0.0.1`, host order.
    pub port4: u16,
    /// Port on `::1`, host order; zero where the namespace has no `::1`.
    pub port6: u16,
    /// Ports on `::1` of the name servers, by the resolver's slot; zero where there is none.
    pub names6: [u16; MAX_RESOLVERS as usize],
}

impl Listeners {
    /// The slot of the resolver whose name server listens at `at`.
    #[must_use]
    #[inline(always)]
    pub const fn slot_at(&self, at: &Endpoint) -> Option<u32> {
        let mut slot = 0;
        if at.is_v4() {
            if at.port != self.port4 {
                return None;
            }
            while slot < MAX_RESOLVERS {
                if at.address[3] == Endpoint::name_server(slot, 0).address[3] {
                    return Some(slot);
                }
                slot += 1;
            }
        } else if at.is_loopback() && at.port != 0 {
            while slot < MAX_RESOLVERS {
                #[expect(
                    clippy::indexing_slicing,
                    reason = "the loop's bound is the array's length"
                )]
                let port = self.names6[slot as usize];
                if at.port == port {
                    return Some(slot);
                }
                slot += 1;
            }
        }
        None
    }
}

const _: () = assert!(size_of::<Scope>() == 8);
const _: () = assert!(size_of::<Listeners>() == 12);

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
