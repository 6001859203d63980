//! `sendmsg4/6`: a datagram that names its destination. One to a resolver goes to the daemon's name
//! server; no other is let out.
//!
//! Loopback passes here and is judged by the egress guard, which knows both ends.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use interceptor_ebpf::event;
use interceptor_ebpf::flow::Endpoint;

use crate::hooks::{PASS, REFUSE, address, deny, names};
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
    // SAFETY: a helper that takes the context.
    let netns = unsafe { bpf_get_netns_cookie(call.cast()) };
    let mut to = address::read::<V6>(call);
    if to.is_unspecified() {
        to = to.on_loopback();
    }
    let Err(refusal) = try_sendmsg::<V6>(call, (scope, netns), &mut to) else {
        return PASS;
    };
    deny::refuse(
        &refusal,
        &deny::Subject::of(to, address::UDP, (scope, netns)),
    );
    ON_ERROR
}

#[inline(always)]
fn try_sendmsg<const V6: bool>(
    call: *mut bpf_sock_addr,
    (scope, netns): (u64, u64),
    to: &mut Endpoint,
) -> Result<(), Refusal> {
    if scope == 0 {
        return Err(Refusal::new(event::UDP));
    }
    let forwarded = names::forward::<V6>(call, (scope, netns), to)?;
    if forwarded || to.is_loopback() {
        return Ok(());
    }
    Err(Refusal::new(event::UDP))
}
