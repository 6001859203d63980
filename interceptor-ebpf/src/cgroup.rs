//! Which scope a cgroup lies in, read from the kernel's memory: for sockets and tasks of which no helper tells it.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use interceptor_ebpf::process::ABSENT;

use crate::stamp::{half, offset};
use crate::verdict;

/// The deepest scope around `cgroup` (`struct cgroup`), itself among them, and whether it is being untagged; zero
/// where there is none.
#[inline(always)]
pub(crate) fn scope_of(cgroup: u64) -> (u64, bool) {
    let Some(own) = half(cgroup, offset!(level)) else {
        return (0, false);
    };
    let ids = offset!(ancestor_ids);
    let (ancestors, node, id) = (offset!(ancestors), offset!(node), offset!(node_id));
    if ids == ABSENT && (ancestors == ABSENT || node == ABSENT || id == ABSENT) {
        return (0, false);
    }
    verdict::deepest_to(own, |level| {
        let step = level.cast_unsigned() * 8;
        if ids != ABSENT {
            return at(cgroup, ids + step);
        }
        at(at(at(cgroup, ancestors + step), node), id)
    })
}

/// The word at `base + offset`, zero where nothing lies there. It asks nothing: a question at each level is a path
/// more for the verifier with each, and all of them together are more than it follows.
#[inline(always)]
fn at(base: u64, offset: u32) -> u64 {
    let mut value = 0_u64;
    let from = (base + u64::from(offset)) as *const _;
    // SAFETY: the helper takes any address; on a bad one it fails and writes zeros.
    let _failed = unsafe { bpf_probe_read_kernel(ptr::from_mut(&mut value).cast(), 8, from) };
    value
}
