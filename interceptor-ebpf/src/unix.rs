//! UNIX sockets: which scope made one, what it is called, and whether it may be reached from elsewhere.

mod carry;
mod lsm;
mod named;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use interceptor_ebpf::door::{Door, PATH};
use interceptor_ebpf::event;
use interceptor_ebpf::process::ABSENT;

use crate::hooks::deny;
use crate::maps::DOORS;
use crate::stamp::{half, offset, word};
use crate::verdict::Refusal;

/// `AF_UNIX`, as the audit's protocol of such a refusal.
const UNIX: u32 = 1;

/// The scope whose process made the socket at `socket` (`struct sock`); zero where none did.
#[inline(always)]
fn maker(socket: u64) -> u64 {
    let cgroup = word(socket, offset!(made_in)).unwrap_or(0);
    let (scope, _is_going) = crate::cgroup::scope_of(cgroup);
    scope
}

/// Writes the name that the socket at `socket` is bound to; none where it has none.
#[inline(always)]
fn name(socket: u64, into: &mut Door) {
    let Some(address) = word(socket, offset!(unix_address)) else {
        return;
    };
    let name = offset!(unix_name);
    if address == 0 || name == ABSENT {
        return;
    }
    let length = half(address, offset!(unix_length)).unwrap_or(0);
    copy(address + u64::from(name), length, into);
}

/// Copies a `struct sockaddr_un` of `length` bytes, family included.
#[inline(always)]
fn copy(from: u64, length: u32, into: &mut Door) {
    let Some(length) = bounded(length.wrapping_sub(2)) else {
        return;
    };
    // SAFETY: the helper takes any address, and no more bytes than the path has.
    let failed = unsafe {
        bpf_probe_read_kernel(
            into.path.as_mut_ptr().cast(),
            length,
            (from + 2) as *const _,
        )
    };
    if failed == 0 {
        into.length = length;
    }
}

/// `length`, where it is no more than a path has. It is hidden from the compiler, which else compares another
/// number than it uses, and the verifier follows only one.
#[inline(always)]
fn bounded(length: u32) -> Option<u32> {
    let length = core::hint::black_box(u64::from(length));
    (length <= PATH as u64).then_some(length as u32)
}

/// Whether everybody may reach the socket of this name, or every socket.
#[inline(always)]
fn is_open(door: &Door) -> bool {
    DOORS.get_ptr(door).is_some() || DOORS.get_ptr(&Door::NONE).is_some()
}

/// Reports a refusal that is about a UNIX socket, and gives the verdict.
#[inline(always)]
fn refuse(scope: u64, door: &Door) -> i32 {
    refuse_as(&Refusal::new(event::DOOR), scope, door)
}

/// The same for another reason.
#[inline(always)]
fn refuse_as(refusal: &Refusal, scope: u64, door: &Door) -> i32 {
    deny::refuse(
        refusal,
        &deny::Subject {
            door,
            ..deny::Subject::nowhere(UNIX, (scope, 0))
        },
    )
}
