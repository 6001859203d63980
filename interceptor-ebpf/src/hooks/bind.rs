//! `bind4/6`: a scope may not sit where a target or the daemon is dialled; and before Linux 5.14 the daemon learns by
//! binding a socket in which network namespace it is.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use interceptor_ebpf::event;
use interceptor_ebpf::flow::Endpoint;
use interceptor_ebpf::scope::Listeners;

use super::{PASS, REFUSE, address, deny};
use crate::maps::{LISTENERS, MARKS, SOCKETS};
use crate::verdict::{self, Refusal, UNCOVERED};

const ON_ERROR: i32 = REFUSE;

#[cgroup_sock_addr(bind4)]
fn interceptor_bind4(context: SockAddrContext) -> i32 {
    bind::<false>(context.sock_addr)
}

#[cgroup_sock_addr(bind6)]
fn interceptor_bind6(context: SockAddrContext) -> i32 {
    bind::<true>(context.sock_addr)
}

/// On the daemon's own cgroup: nothing is decided.
#[cgroup_sock_addr(bind4)]
fn interceptor_daemon_bind4(context: SockAddrContext) -> i32 {
    let call = context.sock_addr;
    let mark = MARKS.create(address::socket(call));
    if mark.is_null() {
        return PASS;
    }
    // SAFETY: checked for null; a helper that takes the context.
    unsafe {
        if (*mark).kind == 0 {
            (*mark).netns = bpf_get_netns_cookie(call.cast());
        }
    }
    PASS
}

#[inline(always)]
fn bind<const V6: bool>(call: *mut bpf_sock_addr) -> i32 {
    if deny::already() {
        return ON_ERROR;
    }
    let scope = verdict::scope_of_caller(address::socket(call));
    // SAFETY: a helper that takes the context.
    let netns = unsafe { bpf_get_netns_cookie(call.cast()) };
    let at = address::read::<V6>(call);
    let Err(refusal) = try_bind(call, &at, scope, netns) else {
        return PASS;
    };
    deny::refuse(
        &refusal,
        &deny::Subject::of(at, address::protocol(address::kind(call)), (scope, netns)),
    );
    ON_ERROR
}

#[inline(always)]
fn try_bind(
    call: *mut bpf_sock_addr,
    at: &Endpoint,
    scope: u64,
    netns: u64,
) -> Result<(), Refusal> {
    if scope == 0 {
        return Err(UNCOVERED);
    }
    if at.port != 0 && is_taken(at, netns) {
        return Err(Refusal::new(event::BIND));
    }
    // Sockets that the kernel makes for MPTCP, and those from before the tag, have no maker yet.
    let made = SOCKETS.create(address::socket(call));
    if made.is_null() {
        return Err(Refusal::overflow());
    }
    // SAFETY: checked for null.
    unsafe {
        if (*made).scope == 0 {
            (*made).scope = scope;
            (*made).netns = netns;
        }
    }
    Ok(())
}

#[inline(always)]
fn is_taken(at: &Endpoint, netns: u64) -> bool {
    if verdict::protection(at) != 0 {
        return true;
    }
    LISTENERS.get_ptr(&netns).is_some_and(|listeners| {
        // SAFETY: a row of the map.
        let Listeners {
            port4,
            port6,
            names6: [one, two, three, four],
        } = unsafe { *listeners };
        let own = [port4, port6, one, two, three, four];
        own.contains(&at.port)
    })
}
