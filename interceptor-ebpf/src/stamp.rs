//! Reads who the current process is, at offsets that the loader took from the kernel's BTF.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
    bpf_get_current_uid_gid,
};
use interceptor_ebpf::process::{ABSENT, COMM, EFFECTIVE, EXECUTABLE, Process, STARTED};

/// An offset as the loader wrote it: volatile, so that the compiler does not fold its default in.
macro_rules! offset {
    ($member:ident) => {
        $crate::stamp::frozen(&$crate::maps::OFFSETS.$member)
    };
}
pub(crate) use offset;

#[inline(always)]
pub(crate) fn frozen(offset: &u32) -> u32 {
    // SAFETY: a field of a static; rodata is frozen, so the verifier knows its value.
    unsafe { ptr::read_volatile(offset) }
}

/// Writes what is known of the current process. What cannot be read is left zero and unmarked.
#[inline(always)]
pub(crate) fn current(into: &mut Process) {
    // SAFETY: helpers without pointers.
    let (ids, users, cgroup, task) = unsafe {
        (
            bpf_get_current_pid_tgid(),
            bpf_get_current_uid_gid(),
            bpf_get_current_cgroup_id(),
            bpf_get_current_task(),
        )
    };
    into.tgid = (ids >> 32) as u32;
    into.uid = users as u32;
    into.gid = (users >> 32) as u32;
    into.cgroup = cgroup;
    described(into, task);
}

/// The same where a packet leaves. Programs there may ask for no process before Linux 6.10, and for no user
/// or cgroup until later: all is read. Without offsets it is nobody.
#[inline(always)]
pub(crate) fn sender(into: &mut Process) {
    // SAFETY: a helper without pointers.
    let task = unsafe { bpf_get_current_task() };
    into.tgid = half(task, offset!(tgid)).unwrap_or(0);
    into.uid = u32::MAX;
    into.gid = u32::MAX;
    into.cgroup = word(task, offset!(cgroups))
        .and_then(|set| word(set, offset!(dfl_cgrp)))
        .and_then(|cgroup| word(cgroup, offset!(node)))
        .and_then(|node| word(node, offset!(node_id)))
        .unwrap_or(0);
    described(into, task);
}

/// What is read alike everywhere.
#[inline(always)]
fn described(into: &mut Process, task: u64) {
    into.started = 0;
    into.inode = 0;
    into.device = 0;
    into.comm = [0; 16];
    into.reserved = 0;
    into.fields = leader(into, task) | executable(into, task) | effective(into, task);
}

/// Reads start time and name of the thread group's leader; `current` may be an io_uring worker.
#[inline(always)]
fn leader(into: &mut Process, task: u64) -> u32 {
    let mut fields = 0;
    let Some(leader) = word(task, offset!(group_leader)) else {
        return 0;
    };
    if let Some(started) = word(leader, offset!(start_boottime)) {
        into.started = started;
        fields |= STARTED;
    }
    if read(leader, offset!(comm), &mut into.comm) {
        fields |= COMM;
    }
    fields
}

#[inline(always)]
fn executable(into: &mut Process, task: u64) -> u32 {
    let inode = word(task, offset!(mm))
        .and_then(|mm| word(mm, offset!(exe_file)))
        .and_then(|file| word(file, offset!(f_inode)));
    let Some(inode) = inode else { return 0 };
    let (Some(number), Some(superblock)) =
        (word(inode, offset!(i_ino)), word(inode, offset!(i_sb)))
    else {
        return 0;
    };
    let Some(device) = half(superblock, offset!(s_dev)) else {
        return 0;
    };
    into.inode = number;
    into.device = device;
    EXECUTABLE
}

/// The helper gives the real ids; what a process may do goes by the effective ones.
#[inline(always)]
fn effective(into: &mut Process, task: u64) -> u32 {
    let Some(cred) = word(task, offset!(cred)) else {
        return 0;
    };
    let (Some(uid), Some(gid)) = (half(cred, offset!(euid)), half(cred, offset!(egid))) else {
        return 0;
    };
    into.uid = uid;
    into.gid = gid;
    EFFECTIVE
}

/// The eight bytes at `base + offset`; none where [`read`] fails.
#[inline(always)]
pub(crate) fn word(base: u64, offset: u32) -> Option<u64> {
    let mut value = 0;
    read(base, offset, &mut value).then_some(value)
}

/// The four bytes at `base + offset`; none where [`read`] fails.
#[inline(always)]
pub(crate) fn half(base: u64, offset: u32) -> Option<u32> {
    let mut value = 0;
    read(base, offset, &mut value).then_some(value)
}

/// Fills `into` from `base + offset`; false where the offset is absent, the base null, or nothing lies
/// there.
#[inline(always)]
pub(crate) fn read<T: Copy>(base: u64, offset: u32, into: &mut T) -> bool {
    if offset == ABSENT || base == 0 {
        return false;
    }
    let from = (base + u64::from(offset)) as *const _;
    let size = size_of::<T>() as u32;
    // SAFETY: the helper takes any address and fails on a bad one; every `T` here is plain integers.
    unsafe { bpf_probe_read_kernel(ptr::from_mut(into).cast(), size, from) == 0 }
}
