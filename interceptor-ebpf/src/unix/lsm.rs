//! LSM hooks of a scope (Linux 6.0, where `bpf` is among the security modules): what the other hooks do
//! not see. They look at the sockets themselves, so no name, link or mount deceives them.
//!
//! The hooks of UNIX sockets run for sockets that the scope made, whoever holds them; the others for its
//! processes. A program of this kind passes with one and refuses with zero, as the other hooks do.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_ancestor_cgroup_id;
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use interceptor_ebpf::door::Door;
use interceptor_ebpf::event;

use crate::hooks::{PASS, REFUSE, deny};
use crate::stamp::{offset, read, word};
use crate::verdict::{self, Refusal};

const ON_ERROR: i32 = REFUSE;

/// `AF_INET`.
const INET: u64 = 2;
/// `AF_INET6`.
const INET6: u64 = 10;
/// `AF_NETLINK`: the kernel itself, which asks for capabilities where it matters.
const NETLINK: u64 = 16;

/// `S_IFMT` and `S_IFSOCK` of a file's mode.
const FORMAT: u16 = 0xf000;
const SOCKET: u16 = 0xc000;

#[lsm_cgroup(hook = "unix_stream_connect")]
fn interceptor_unix_connect(context: LsmContext) -> i32 {
    reach(argument(&context, 0), argument(&context, 1))
}

#[lsm_cgroup(hook = "unix_may_send")]
fn interceptor_unix_send(context: LsmContext) -> i32 {
    let own = word(argument(&context, 0), offset!(socket_sk));
    let other = word(argument(&context, 1), offset!(socket_sk));
    reach(own.unwrap_or(0), other.unwrap_or(0))
}

#[lsm_cgroup(hook = "socket_create")]
fn interceptor_socket_create(context: LsmContext) -> i32 {
    if deny::already() {
        return ON_ERROR;
    }
    let family = argument(&context, 0) & 0xffff_ffff;
    let for_kernel = argument(&context, 3) & 0xffff_ffff;
    if for_kernel != 0 || matches!(family, 1 | INET | INET6 | NETLINK) {
        return PASS;
    }
    refuse(event::SOCKET_TYPE, current())
}

#[lsm_cgroup(hook = "file_receive")]
fn interceptor_file_receive(context: LsmContext) -> i32 {
    if deny::already() {
        return ON_ERROR;
    }
    let file = argument(&context, 0);
    let mut mode = 0_u16;
    let inode = word(file, offset!(f_inode)).unwrap_or(0);
    if !read(inode, offset!(i_mode), &mut mode) {
        return ON_ERROR;
    }
    if mode & FORMAT != SOCKET {
        return PASS;
    }
    let socket = word(file, offset!(private_data))
        .and_then(|socket| word(socket, offset!(socket_sk)))
        .unwrap_or(0);
    let mut family = 0_u16;
    if !read(socket, offset!(family), &mut family) {
        return ON_ERROR;
    }
    let scope = current();
    // Pipes between processes are often UNIX sockets, and where those lead is asked when they connect.
    if u32::from(family) == super::UNIX || super::maker(socket) == scope {
        return PASS;
    }
    refuse(event::PASSED, scope)
}

/// Whether the socket `own` may speak to `other`, both `struct sock`.
#[inline(always)]
fn reach(own: u64, other: u64) -> i32 {
    if deny::already() {
        return ON_ERROR;
    }
    let scope = super::maker(own);
    if scope != 0 && super::maker(other) == scope {
        return PASS;
    }
    let mut door = Door::NONE;
    super::name(other, &mut door);
    if super::is_open(&door) {
        return PASS;
    }
    super::refuse(scope, &door)
}

#[inline(always)]
fn current() -> u64 {
    // SAFETY: a helper without pointers.
    verdict::deepest(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) })
}

#[inline(always)]
fn refuse(reason: u32, scope: u64) -> i32 {
    deny::refuse(
        &Refusal::new(reason),
        &deny::Subject::nowhere(255, (scope, 0)),
    )
}

/// The argument at `at`, a pointer or a number.
#[inline(always)]
fn argument(context: &LsmContext, at: usize) -> u64 {
    // SAFETY: the context is an array of words, as long as the hook has arguments.
    unsafe { context.as_ptr().cast::<u64>().add(at).read_volatile() }
}
