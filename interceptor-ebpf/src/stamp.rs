//! Reads who the current process is, at offsets that the loader took from the kernel's BTF.

use core::ptr::{self, from_mut};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
    bpf_get_current_uid_gid,
};
use interceptor_ebpf::process::{ABSENT, COMM, EFFECTIVE, EXECUTABLE, Process, STARTED};

use crate::maps::OFFSETS;

/// An offset as the loader wrote it: volatile, so that the compiler does not fold its default in.
macro_rules! offset {
    ($member:ident) => {
        frozen(&OFFSETS.$member)
    };
}

#[inline(always)]
fn frozen(offset: &u32) -> u32 {
    // SAFETY: a field of a static; rodata is frozen, so the verifier knows its value.
    unsafe { ptr::read_volatile(offset) }
}

/// Writes what is known of the current process. What cannot be read is left zero and unmarked.
#[inline(always)]
pub(crate) fn current(into: *mut Process) {
    // SAFETY: the caller passes a whole `Process` in a map or ring; helpers take no other pointer.
    unsafe {
        let ids = bpf_get_current_pid_tgid();
        let users = bpf_get_current_uid_gid();
        (*into).tgid = (ids >> 32) as u32;
        (*into).uid = users as u32;
        (*into).gid = (users >> 32) as u32;
        (*into).cgroup = bpf_get_current_cgroup_id();
        (*into).started = 0;
        (*into).inode = 0;
        (*into).device = 0;
        (*into).comm = [0; 16];
        (*into).reserved = 0;
        let task = bpf_get_current_task();
        (*into).fields = leader(into, task) | executable(into, task) | effective(into, task);
    }
}

/// Reads start time and name of the thread group's leader; `current` may be an io_uring worker.
#[inline(always)]
unsafe fn leader(into: *mut Process, task: u64) -> u32 {
    let mut fields = 0;
    let Some(leader) = (unsafe { word(task, offset!(group_leader)) }) else {
        return 0;
    };
    if let Some(started) = unsafe { word(leader, offset!(start_boottime)) } {
        unsafe { (*into).started = started };
        fields |= STARTED;
    }
    let comm = offset!(comm);
    if comm != ABSENT {
        let read = unsafe {
            bpf_probe_read_kernel(
                (&raw mut (*into).comm).cast(),
                16,
                (leader + u64::from(comm)) as *const _,
            )
        };
        if read == 0 {
            fields |= COMM;
        }
    }
    fields
}

#[inline(always)]
unsafe fn executable(into: *mut Process, task: u64) -> u32 {
    let inode = unsafe { word(task, offset!(mm)) }
        .and_then(|mm| unsafe { word(mm, offset!(exe_file)) })
        .and_then(|file| unsafe { word(file, offset!(f_inode)) });
    let Some(inode) = inode else { return 0 };
    let (Some(number), Some(superblock)) =
        (unsafe { (word(inode, offset!(i_ino)), word(inode, offset!(i_sb))) })
    else {
        return 0;
    };
    let Some(device) = (unsafe { half(superblock, offset!(s_dev)) }) else {
        return 0;
    };
    unsafe {
        (*into).inode = number;
        (*into).device = device;
    }
    EXECUTABLE
}

/// The helper gives the real ids; what a process may do goes by the effective ones.
#[inline(always)]
unsafe fn effective(into: *mut Process, task: u64) -> u32 {
    let Some(cred) = (unsafe { word(task, offset!(cred)) }) else {
        return 0;
    };
    let (Some(uid), Some(gid)) =
        (unsafe { (half(cred, offset!(euid)), half(cred, offset!(egid))) })
    else {
        return 0;
    };
    unsafe {
        (*into).uid = uid;
        (*into).gid = gid;
    }
    EFFECTIVE
}

/// The eight bytes at `base + offset`; none where the offset is absent, the base null, the read failed.
#[inline(always)]
unsafe fn word(base: u64, offset: u32) -> Option<u64> {
    if offset == ABSENT || base == 0 {
        return None;
    }
    let mut value = 0_u64;
    let from = (base + u64::from(offset)) as *const _;
    let read = unsafe { bpf_probe_read_kernel(from_mut(&mut value).cast(), 8, from) };
    (read == 0).then_some(value)
}

/// The four bytes at `base + offset`; none as in [`word`].
#[inline(always)]
unsafe fn half(base: u64, offset: u32) -> Option<u32> {
    if offset == ABSENT || base == 0 {
        return None;
    }
    let mut value = 0_u32;
    let from = (base + u64::from(offset)) as *const _;
    let read = unsafe { bpf_probe_read_kernel(from_mut(&mut value).cast(), 4, from) };
    (read == 0).then_some(value)
}
