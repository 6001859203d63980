//! `sendmsg4/6`: a datagram that names its destination. Only resolvers are let out.
//!
//! Loopback passes here and is judged by the egress guard, which knows both ends.

use core::ptr;

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use interceptor_ebpf::event;

use super::{PASS, REFUSE, address, deny};
use crate::verdict::{self, Refusal};

const ON_ERROR: i32 = REFUSE;

#[cgroup_sock_addr(sendmsg4)]
fn interceptor_sendmsg4(context: SockAddrContext) -> i32 {
    sendmsg::<false>(context.sock_addr)
}

#[cgroup_sock_addr(sendmsg6)]
fn interceptor_sendmsg6(context: SockAddrContext) -> i32 {
    sendmsg::<true>(context.sock_addr)
}

#[inline(always)]
fn sendmsg<const V6: bool>(call: *mut bpf_sock_addr) -> i32 {
    if deny::already() {
        return ON_ERROR;
    }
    let scope = verdict::scope_of_caller(address::socket(call));
    let mut to = address::read::<V6>(call);
    if to.is_unspecified() {
        to = to.on_loopback();
    }
    if scope != 0 {
        let rules = verdict::rules(verdict::generation(), scope, &to);
        if to.is_loopback() || verdict::udp_out(rules).is_some() {
            return PASS;
        }
    }
    // SAFETY: a helper that takes the context.
    let netns = unsafe { bpf_get_netns_cookie(call.cast()) };
    deny::refuse(
        &Refusal::new(event::UDP),
        &deny::Subject {
            destination: to,
            protocol: address::UDP,
            scope,
            netns,
            process: ptr::null(),
            flags: 0,
        },
    );
    ON_ERROR
}
