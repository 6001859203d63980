//! A target's UNIX socket: who dials it is led to the daemon's own, and the daemon is told who it was.
//!
//! The kernel looks a name up only after these hooks, so the name is replaced (Linux 6.7). The record lies
//! under the cookie of the client's socket, which no other socket ever gets; the daemon learns the cookie of
//! what it accepted from the kernel itself ([`interceptor_peer`]), so what a process does after its
//! `connect()`, exec, fork or end, makes no difference.

use core::ffi::c_void;
use core::mem::transmute;
use core::ptr;

use aya_ebpf::bindings::{BPF_ANY, bpf_sock_addr};
use aya_ebpf::helpers::{
    bpf_get_current_task, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use interceptor_ebpf::door::{Door, Peer, TARGET};
use interceptor_ebpf::event;
use interceptor_ebpf::kfunc;

use super::named;
use crate::hooks::{PASS, REFUSE, address, deny};
use crate::maps::{CARRIED, DIALLED, DIALS, VIA};
use crate::stamp::{self, offset, word};
use crate::verdict::{self, Refusal, UNCOVERED};

const ON_ERROR: i32 = REFUSE;

/// `bpf_cast_to_kern_ctx`, by the number that the loader knows it by.
type Cast = unsafe extern "C" fn(*mut bpf_sock_addr) -> *mut c_void;
/// `bpf_sock_addr_set_sun_path`, likewise.
type SetPath = unsafe extern "C" fn(*mut c_void, *const u8, u32) -> i32;

/// Leads to the daemon and decides nothing else: beside an LSM, which looks at the sockets themselves.
#[cgroup_sock_addr(connect4)]
fn interceptor_carry_unix(context: SockAddrContext) -> i32 {
    let call = context.sock_addr;
    if deny::already() {
        return ON_ERROR;
    }
    let mut named = Door::NONE;
    if !named::name(call as u64, &mut named) {
        return PASS;
    }
    match carry(call, &named) {
        Some(Err(refusal)) => failed(call, &named, &refusal),
        _ => PASS,
    }
}

/// Whether the dial is led to the daemon; none where the name is no target's.
#[inline(always)]
pub(super) fn carry(call: *mut bpf_sock_addr, named: &Door) -> Option<Result<(), Refusal>> {
    let socket = address::socket(call);
    // SAFETY: a helper that takes the context.
    let cookie = unsafe { bpf_get_socket_cookie(call.cast()) };
    let Some(kind) = CARRIED.get_ptr(named) else {
        // Whatever an earlier connect of this socket was led to is no more.
        DIALLED.delete(socket);
        let _none = DIALS.remove(&cookie);
        return None;
    };
    // SAFETY: a row of the map, a word that the daemon replaces whole.
    let is_target = unsafe { kind.read_volatile() } == TARGET;
    // At the daemon's own door: a program of an outer scope has led here before this one, or the process dials
    // again. Which target it is about is known from then; who asks is looked at anew.
    let dial = if is_target {
        DIALLED.create(socket)
    } else {
        DIALLED.get(socket)
    };
    if dial.is_null() {
        return Some(Err(match is_target {
            true => Refusal::overflow(),
            false => Refusal::new(event::LISTENER),
        }));
    }
    // SAFETY: not null; the socket is locked by the connect. Helpers take the context, or nothing.
    let (scope, kept) = unsafe {
        if is_target {
            (*dial).door = *named;
        }
        (*dial).scope = verdict::scope_of_caller(socket);
        (*dial).netns = bpf_get_netns_cookie(call.cast());
        (*dial).at = bpf_ktime_get_boot_ns();
        stamp::current(&mut (*dial).process);
        let kept = DIALS.insert(&cookie, &*dial, u64::from(BPF_ANY));
        ((*dial).scope, kept.is_ok())
    };
    if scope == 0 {
        return Some(Err(UNCOVERED));
    }
    Some(match kept && (!is_target || rename(call)) {
        true => Ok(()),
        false => Err(Refusal::overflow()),
    })
}

/// Reports that a target's door could not be led to the daemon.
#[inline(always)]
pub(super) fn failed(call: *mut bpf_sock_addr, named: &Door, refusal: &Refusal) -> i32 {
    let scope = verdict::scope_of_caller(address::socket(call));
    super::refuse_as(refusal, scope, named)
}

/// Writes the daemon's own name in place of the one that was dialled.
#[inline(always)]
fn rename(call: *mut bpf_sock_addr) -> bool {
    let Some(via) = VIA.get_ptr(0) else {
        return false;
    };
    // SAFETY: a row of the map; the length is bounded by the size of the path, and the kernel's functions
    // take what the verifier has checked. The loader puts their real numbers in place.
    unsafe {
        let length = ptr::read_volatile(&raw const (*via).length);
        let Some(length) = super::bounded(length) else {
            return false;
        };
        let cast: Cast = transmute(kfunc::CAST as usize);
        let set: SetPath = transmute(kfunc::SET_SUN_PATH as usize);
        let kernels = cast(call);
        set(kernels, (&raw const (*via).path).cast(), length) == 0
    }
}

/// Run by the daemon, attached to nothing: tells the cookie of the other end of a UNIX socket that it holds.
///
/// The compiler's tools know no section for a program of this kind: it stands in that of `connect4`, and the
/// loader gives it to the kernel as what it is.
#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/connect4")]
extern "C" fn interceptor_peer(asked: *mut Peer) -> i32 {
    // SAFETY: the context is the record that the daemon gives, at its whole length.
    let descriptor = unsafe { ptr::read_volatile(&raw const (*asked).descriptor) };
    let cookie = peer(descriptor).unwrap_or(0);
    // SAFETY: as above.
    unsafe { ptr::write_volatile(&raw mut (*asked).cookie, cookie) };
    0
}

#[inline(always)]
fn peer(descriptor: u32) -> Option<u64> {
    // SAFETY: a helper without pointers.
    let task = unsafe { bpf_get_current_task() };
    let files = word(task, offset!(files))?;
    let table = word(files, offset!(table))?;
    let descriptors = word(table, offset!(descriptors))?;
    let file = word(descriptors + u64::from(descriptor) * 8, 0)?;
    let socket = word(file, offset!(private_data))?;
    let own = word(socket, offset!(socket_sk))?;
    let other = word(own, offset!(unix_peer))?;
    word(other, offset!(cookie))
}
