//! `recvmsg4/6`: an answer comes from the resolver that was asked, not from the daemon.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::hooks::{PASS, names};

/// A sender that cannot be told is told as the kernel sees it; nothing is decided here.
const ON_ERROR: i32 = PASS;

#[cgroup_sock_addr(recvmsg4)]
fn interceptor_recvmsg4(context: SockAddrContext) -> i32 {
    recvmsg::<false>(context.sock_addr)
}

#[cgroup_sock_addr(recvmsg6)]
fn interceptor_recvmsg6(context: SockAddrContext) -> i32 {
    recvmsg::<true>(context.sock_addr)
}

#[inline(always)]
fn recvmsg<const V6: bool>(call: *mut bpf_sock_addr) -> i32 {
    // SAFETY: a helper that takes the context.
    let netns = unsafe { bpf_get_netns_cookie(call.cast()) };
    match names::tell::<V6>(call, netns) {
        Some(()) => PASS,
        None => ON_ERROR,
    }
}
