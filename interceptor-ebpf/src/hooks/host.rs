//! The root cgroup's hooks, where the host is guarded: a process of a scope connects no socket that was made outside,
//! and one that has left its scope's cgroup makes none.
//!
//! They run for every process of the host. Sockets that a scope made are judged by its own hooks, whoever holds them.

mod lineage;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_task, bpf_get_netns_cookie,
};
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use core::ptr::read_volatile;
use interceptor_ebpf::event;

use super::{PASS, REFUSE, address, deny};
use crate::maps::{FLOWS, SOCKETS};
use crate::verdict::{self, Refusal};

const ON_ERROR: i32 = REFUSE;

#[cgroup_sock_addr(connect4)]
fn interceptor_host_connect4(context: SockAddrContext) -> i32 {
    speak::<false>(context.sock_addr)
}

#[cgroup_sock_addr(connect6)]
fn interceptor_host_connect6(context: SockAddrContext) -> i32 {
    speak::<true>(context.sock_addr)
}

#[cgroup_sock_addr(sendmsg4)]
fn interceptor_host_sendmsg4(context: SockAddrContext) -> i32 {
    speak::<false>(context.sock_addr)
}

#[cgroup_sock_addr(sendmsg6)]
fn interceptor_host_sendmsg6(context: SockAddrContext) -> i32 {
    speak::<true>(context.sock_addr)
}

#[cgroup_sock(sock_create)]
fn interceptor_host_sock_create(context: SockContext) -> i32 {
    let (inside, _is_going) = own();
    if deny::already() || inside != 0 {
        return PASS;
    }
    let scope = left();
    if scope == 0 {
        return PASS;
    }
    let socket = context.sock;
    // SAFETY: a helper that takes the context, and a field of it.
    let (netns, protocol) = unsafe {
        (
            bpf_get_netns_cookie(socket.cast()),
            read_volatile(&raw const (*socket).protocol),
        )
    };
    let subject = deny::Subject::nowhere(protocol, (scope, netns));
    deny::refuse(&Refusal::new(event::LEFT), &subject);
    ON_ERROR
}

#[inline(always)]
fn speak<const V6: bool>(call: *mut bpf_sock_addr) -> i32 {
    let socket = address::socket(call);
    // A program before this one that has refused stays right.
    if deny::already() || is_of_a_scope(socket) {
        return PASS;
    }
    let (scope, reason) = match own() {
        (0, _) => (left(), event::LEFT),
        (_, true) => (0, event::PASSED),
        (inside, false) => (inside, event::PASSED),
    };
    if scope == 0 {
        return PASS;
    }
    // SAFETY: a helper that takes the context.
    let netns = unsafe { bpf_get_netns_cookie(call.cast()) };
    let (to, protocol) = (
        address::read::<V6>(call),
        address::protocol(address::kind(call)),
    );
    let subject = deny::Subject::of(to, protocol, (scope, netns));
    deny::refuse(&Refusal::new(reason), &subject);
    ON_ERROR
}

/// Whether the hooks of a scope judge the socket: it made it, or has let it connect.
#[inline(always)]
fn is_of_a_scope(socket: *mut bpf_sock) -> bool {
    let made = SOCKETS.get(socket);
    // SAFETY: checked for null.
    let is_made = !made.is_null() && unsafe { (*made).scope } != 0;
    is_made || !FLOWS.get(socket).is_null()
}

/// The scope that the current process is in, and whether it is being untagged.
#[inline(always)]
fn own() -> (u64, bool) {
    // SAFETY: a helper without pointers.
    verdict::deepest_and_going(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) })
}

/// The scope that the current process comes from.
#[inline(always)]
fn left() -> u64 {
    // SAFETY: a helper without pointers.
    lineage::of(unsafe { bpf_get_current_task() })
}
