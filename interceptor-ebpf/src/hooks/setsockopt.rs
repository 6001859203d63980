//! `setsockopt`: no socket of a scope sends to everybody: of what goes to many, receivers on this host get a copy
//! that no guard sees.
//!
//! The kernel asks no program about calls of another machine's ABI.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;

use super::PASS;

/// `SOL_SOCKET` and `SO_BROADCAST`.
const SOCKET: i32 = 1;
const BROADCAST: i32 = 6;

/// Instead of a length: the call is done, and the kernel does nothing.
const DONE: i32 = -1;

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
    }
    PASS
}
