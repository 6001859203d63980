//! `sock_create`: only TCP and UDP, and each socket remembers which scope made it.

use core::ptr::read_volatile;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::{bpf_get_current_ancestor_cgroup_id, bpf_get_netns_cookie};
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use interceptor_ebpf::event;

use crate::hooks::{PASS, REFUSE, address, deny};
use crate::maps::SOCKETS;
use crate::verdict::{self, Refusal, UNCOVERED};

const ON_ERROR: i32 = REFUSE;

/// `IPPROTO_MPTCP` (Linux 5.6): falls back to TCP where the other side does not speak it.
const MPTCP: u32 = 262;

#[cgroup_sock(sock_create)]
fn interceptor_sock_create(context: SockContext) -> i32 {
    let socket = context.sock;
    if deny::already() {
        return ON_ERROR;
    }
    // SAFETY: a helper without pointers.
    let scope = verdict::deepest(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) });
    // SAFETY: a helper that takes the context.
    let netns = unsafe { bpf_get_netns_cookie(socket.cast()) };
    let Err(refusal) = try_sock_create(socket, scope, netns) else {
        return PASS;
    };
    // SAFETY: a field of the context.
    let protocol = unsafe { read_volatile(&raw const (*socket).protocol) };
    deny::refuse(&refusal, &deny::Subject::nowhere(protocol, (scope, netns)));
    ON_ERROR
}

#[inline(always)]
fn try_sock_create(socket: *mut bpf_sock, scope: u64, netns: u64) -> Result<(), Refusal> {
    if scope == 0 {
        return Err(UNCOVERED);
    }
    // SAFETY: fields of the context.
    let (kind, protocol) = unsafe {
        (
            read_volatile(&raw const (*socket).type_),
            read_volatile(&raw const (*socket).protocol),
        )
    };
    let known = match kind {
        address::STREAM => protocol == address::TCP || protocol == MPTCP,
        address::DATAGRAM => protocol == address::UDP,
        _ => false,
    };
    if !known {
        return Err(Refusal::new(event::SOCKET_TYPE));
    }
    let made = SOCKETS.create(socket);
    if made.is_null() {
        return Err(Refusal::overflow());
    }
    // SAFETY: checked for null.
    unsafe {
        (*made).scope = scope;
        (*made).netns = netns;
    }
    Ok(())
}
