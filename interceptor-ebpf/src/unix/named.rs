//! `connect_unix` and `sendmsg_unix` (Linux 6.7), where the kernel has no LSM for us: UNIX sockets by the
//! name that the process wrote, which is all that these hooks know.
//!
//! A name can be a link to another by the time it is looked up, so none is taken for harmless: what is not
//! named to us is refused, also where the socket is the scope's own. Who has a user namespace of his own may
//! have mounted something else where a name leads, and is refused everything.
//!
//! The compiler's tools know no sections for these hooks: the programs stand in those of `connect4` and
//! `sendmsg4`, and the loader gives them to the kernel as what they are.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use interceptor_ebpf::door::{Door, PATH};

use super::carry;
use crate::hooks::{PASS, REFUSE, address, deny};
use crate::stamp::{half, offset, word};
use crate::verdict;

const ON_ERROR: i32 = REFUSE;

/// Bytes of a `struct sockaddr_un`.
const WHOLE: u32 = 110;

#[cgroup_sock_addr(connect4)]
fn interceptor_connect_unix(context: SockAddrContext) -> i32 {
    reach::<true>(context.sock_addr)
}

#[cgroup_sock_addr(sendmsg4)]
fn interceptor_sendmsg_unix(context: SockAddrContext) -> i32 {
    reach::<false>(context.sock_addr)
}

#[inline(always)]
fn reach<const CONNECTS: bool>(call: *mut bpf_sock_addr) -> i32 {
    if deny::already() {
        return ON_ERROR;
    }
    let mut named = Door::NONE;
    let is_read = name(call as u64, &mut named);
    if is_read && is_at_home() {
        if CONNECTS {
            match carry::carry(call, &named) {
                Some(Ok(())) => return PASS,
                Some(Err(refusal)) => return carry::failed(call, &named, &refusal),
                None => {}
            }
        }
        if super::is_open(&named) {
            return PASS;
        }
    }
    super::refuse(verdict::scope_of_caller(address::socket(call)), &named)
}

/// Writes the name as the kernel will keep it. `call` is the kernel's own record, which the context's fields
/// are only a view of.
#[inline(always)]
pub(super) fn name(call: u64, into: &mut Door) -> bool {
    let Some(at) = word(call, offset!(call_address)) else {
        return false;
    };
    let length = half(call, offset!(call_length)).unwrap_or(0);
    let mut first = 0_u8;
    // A path is what stands before its zero byte, wherever the caller says that it ends.
    if !crate::stamp::read(at, 2, &mut first) {
        return false;
    }
    if first == 0 {
        super::copy(at, length, into);
        return into.length != 0;
    }
    // Most callers give the whole record, with room for a path that has no zero byte.
    let is_whole = length == WHOLE;
    let wanted = if is_whole {
        PATH as u32
    } else {
        length.wrapping_sub(1)
    };
    let Some(most) = super::bounded(wanted) else {
        return false;
    };
    // SAFETY: the helper takes any address, and writes no more than the path has.
    let copied = unsafe {
        bpf_probe_read_kernel_str(into.path.as_mut_ptr().cast(), most, (at + 2) as *const _)
    };
    // So long a path may have been cut.
    if copied <= 0 || (is_whole && copied == PATH as i64) {
        return false;
    }
    into.length = copied.cast_unsigned() as u32;
    true
}

/// Whether the process is in the host's own user namespace.
#[inline(always)]
fn is_at_home() -> bool {
    // SAFETY: a helper without pointers.
    let task = unsafe { bpf_get_current_task() };
    let level = word(task, offset!(cred))
        .and_then(|cred| word(cred, offset!(user_ns)))
        .and_then(|namespace| half(namespace, offset!(user_level)));
    level == Some(0)
}
