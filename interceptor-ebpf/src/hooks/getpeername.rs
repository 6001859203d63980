//! `getpeername4/6`: the client is told the address that it dialled, not the daemon's.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use interceptor_ebpf::flow::REDIRECTED;

use super::{PASS, address, names};
use crate::maps::FLOWS;

/// A peer that cannot be told is told as the kernel sees it; nothing is decided here.
const ON_ERROR: i32 = PASS;

#[cgroup_sock_addr(getpeername4)]
fn interceptor_getpeername4(context: SockAddrContext) -> i32 {
    getpeername::<false>(context.sock_addr)
}

#[cgroup_sock_addr(getpeername6)]
fn interceptor_getpeername6(context: SockAddrContext) -> i32 {
    getpeername::<true>(context.sock_addr)
}

#[inline(always)]
fn getpeername<const V6: bool>(call: *mut bpf_sock_addr) -> i32 {
    match try_getpeername::<V6>(call) {
        Some(()) => PASS,
        None => ON_ERROR,
    }
}

#[inline(always)]
fn try_getpeername<const V6: bool>(call: *mut bpf_sock_addr) -> Option<()> {
    if address::kind(call) == address::DATAGRAM {
        // SAFETY: a helper that takes the context.
        let netns = unsafe { bpf_get_netns_cookie(call.cast()) };
        return names::tell::<V6>(call, netns);
    }
    let flow = FLOWS.get(address::socket(call));
    if flow.is_null() {
        return None;
    }
    let peer = address::read::<V6>(call);
    // SAFETY: checked for null.
    unsafe {
        if (*flow).kind == REDIRECTED && (*flow).via.same(&peer) {
            address::write::<V6>(call, &(*flow).destination);
        }
    }
    Some(())
}
