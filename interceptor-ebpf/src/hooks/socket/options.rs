//! `setsockopt`: no socket of a scope sends to everybody, or joins a group of receivers.
//!
//! Of what goes to many, receivers on this host get a copy that no guard sees. And the kernel tells the whole
//! network who has joined which group, in packets that no socket sends, with the group's address as their words.
//!
//! The kernel asks no program about calls of another machine's ABI.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::bpf_sockopt;
use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;
use interceptor_ebpf::event;

use crate::hooks::{PASS, REFUSE, address, deny};
use crate::maps::SOCKETS;
use crate::stamp;

const ON_ERROR: i32 = REFUSE;

/// `SOL_SOCKET` and `SO_BROADCAST`.
const SOCKET: i32 = 1;
const BROADCAST: i32 = 6;

/// Instead of a length: the call is done, and the kernel does nothing.
const DONE: i32 = -1;

/// `SOL_IP` and `SOL_IPV6`.
const IP: i32 = 0;
const IPV6: i32 = 41;

/// `IPV6_JOIN_GROUP`, `IPV6_JOIN_ANYCAST`, `IP_ADD_MEMBERSHIP` and `IP_ADD_SOURCE_MEMBERSHIP`.
const JOIN6: i32 = 20;
const JOIN6_ANYCAST: i32 = 27;
const JOIN4: i32 = 35;
const JOIN4_FROM: i32 = 39;
/// `MCAST_JOIN_GROUP` and `MCAST_JOIN_SOURCE_GROUP`, of both.
const JOIN: i32 = 42;
const JOIN_FROM: i32 = 46;

/// The least of a page: of longer values the kernel gives programs the beginning, and fails the call where a
/// program does not say that it has left them as they are.
const PAGE: i32 = 4096;

#[cgroup_sockopt(setsockopt)]
fn interceptor_setsockopt(context: SockoptContext) -> i32 {
    let call = context.sockopt;
    // SAFETY: fields of the context, by the word.
    let (level, name, length) = unsafe {
        (
            read_volatile(&raw const (*call).level),
            read_volatile(&raw const (*call).optname),
            read_volatile(&raw const (*call).optlen),
        )
    };
    if length > PAGE {
        // SAFETY: as above; zero stands for the caller's own value.
        unsafe { write_volatile(&raw mut (*call).optlen, 0) };
    }
    if level == SOCKET && name == BROADCAST {
        // Said to be done: some libraries ask for it on each of their sockets, and do not use it.
        // SAFETY: as above.
        unsafe { write_volatile(&raw mut (*call).optlen, DONE) };
        return PASS;
    }
    if !joins(level, name) {
        return PASS;
    }
    if !deny::already() {
        report(call);
    }
    ON_ERROR
}

#[inline(always)]
fn joins(level: i32, name: i32) -> bool {
    match level {
        IP => name == JOIN4 || name == JOIN4_FROM || name == JOIN || name == JOIN_FROM,
        IPV6 => name == JOIN6 || name == JOIN6_ANYCAST || name == JOIN || name == JOIN_FROM,
        _ => false,
    }
}

#[inline(always)]
fn report(call: *mut bpf_sockopt) {
    let mut subject = deny::Subject::nowhere(address::UDP, (0, 0));
    // SAFETY: a field of the context, null where there is no socket.
    let socket = unsafe { (*call).__bindgen_anon_1.sk };
    if !socket.is_null() {
        let made = SOCKETS.get(socket);
        if !made.is_null() {
            // SAFETY: checked for null.
            unsafe {
                subject.scope = (*made).scope;
                subject.netns = (*made).netns;
            }
        }
    }
    deny::report(event::UDP, &subject, stamp::sender);
}
