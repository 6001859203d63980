//! Says no: the errno for the client, the refusal for the daemon. Never decides anything.
//!
//! The ring is written only after the rate limit of its kind; where it is full the refusal is
//! counted and the verdict stands all the same.

use core::ptr;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::{bpf_get_retval, bpf_ktime_get_boot_ns, bpf_set_retval};
use interceptor_ebpf::door::Door;
use interceptor_ebpf::event::{
    BURST, BY_DOOR, Bucket, BucketKey, Denial, EVERY_KIND, FOLDED, LOST, SCOPE_BURST,
};
use interceptor_ebpf::flow::Endpoint;
use interceptor_ebpf::process::Process;

use super::REFUSE;
use crate::maps::{BUCKETS, DENIALS, HAS_RETVAL, count};
use crate::stamp;
use crate::verdict::{EPERM, Refusal};

/// What a refusal is about.
pub(crate) struct Subject {
    /// Where to.
    pub destination: Endpoint,
    /// Protocol number.
    pub protocol: u32,
    /// Scope root's cgroup id.
    pub scope: u64,
    /// Network namespace cookie, zero where unknown.
    pub netns: u64,
    /// The process; whoever runs where null.
    pub process: *const Process,
    /// The UNIX socket that it is about; null where it is about none.
    pub door: *const Door,
    /// Of [`Denial::flags`](interceptor_ebpf::event::Denial): what is not certain.
    pub flags: u32,
}

impl Subject {
    /// What whoever runs sends there.
    #[inline(always)]
    pub(crate) fn of(destination: Endpoint, protocol: u32, (scope, netns): (u64, u64)) -> Self {
        Self {
            destination,
            protocol,
            scope,
            netns,
            process: ptr::null(),
            door: ptr::null(),
            flags: 0,
        }
    }

    /// The same without a destination.
    #[inline(always)]
    pub(crate) fn nowhere(protocol: u32, place: (u64, u64)) -> Self {
        Self::of(Endpoint::v6([0; 4], 0), protocol, place)
    }
}

#[inline(always)]
fn has_retval() -> bool {
    // SAFETY: rodata, written by the loader.
    unsafe { ptr::read_volatile(&raw const HAS_RETVAL) == 1 }
}

/// Whether a program before this one has refused already: then nothing is reported twice.
#[inline(always)]
pub(crate) fn already() -> bool {
    // SAFETY: a helper without pointers; where it is missing the verifier drops the branch.
    has_retval() && unsafe { bpf_get_retval() } < 0
}

/// Reports, sets the errno, and gives the verdict that refuses.
#[inline(always)]
pub(crate) fn refuse(refusal: &Refusal, subject: &Subject) -> i32 {
    report(refusal.reason, subject, stamp::current);
    if has_retval() && refusal.errno != EPERM {
        // SAFETY: as in `already`.
        let _before = unsafe { bpf_set_retval(-refusal.errno) };
    }
    REFUSE
}

/// Counts the refusal and hands it to the daemon, where the rate limit lets it. `who` stamps the process
/// where the subject has none.
#[inline(always)]
pub(crate) fn report(reason: u32, subject: &Subject, who: impl FnOnce(&mut Process)) {
    count(reason);
    // SAFETY: a helper without pointers.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !admit(reason, subject, now) {
        return;
    }
    let Some(mut entry) = DENIALS.reserve::<Denial>(0) else {
        count(LOST);
        return;
    };
    let denial = entry.as_mut_ptr();
    // SAFETY: the reserved record, written whole before it is submitted.
    unsafe {
        (*denial).scope = subject.scope;
        (*denial).netns = subject.netns;
        (*denial).at = now;
        (*denial).destination = subject.destination;
        (*denial).reason = reason;
        (*denial).protocol = subject.protocol;
        (*denial).flags = subject.flags;
        if subject.door.is_null() {
            (*denial).door = Door::NONE;
        } else {
            (*denial).door = *subject.door;
        }
        if subject.process.is_null() {
            who(&mut (*denial).process);
        } else {
            (*denial).process = *subject.process;
        }
    }
    entry.submit(0);
}

/// Lets `BURST` refusals of a kind pass in a second, and `SCOPE_BURST` of a scope. What does not pass is
/// counted with its kind, where the daemon finds it.
#[inline(always)]
fn admit(reason: u32, subject: &Subject, now: u64) -> bool {
    let kind = reason | (subject.protocol << 16);
    let (destination, kind) = if subject.door.is_null() {
        (subject.destination, kind)
    } else {
        // SAFETY: checked for null.
        let number = unsafe { (*subject.door).number() };
        (Endpoint::v6(number, 0), kind | BY_DOOR)
    };
    let own = BucketKey {
        scope: subject.scope,
        destination,
        kind,
    };
    let all = BucketKey {
        scope: subject.scope,
        destination: Endpoint::v6([0; 4], 0),
        kind: EVERY_KIND,
    };
    if take(&own, BURST, now) && take(&all, SCOPE_BURST, now) {
        return true;
    }
    // The sum is exact, and counted first: no row may be seen to have more than it.
    count(FOLDED);
    if let Some(bucket) = BUCKETS.get_ptr_mut(&own) {
        // SAFETY: a row of the map; what other CPUs overwrite is in the sum.
        unsafe { (*bucket).folded += 1 }
    }
    false
}

/// Takes one of `burst` a second out of a bucket, where there is one left. The counts race between CPUs by a
/// few; they bound, they do not bill.
#[inline(always)]
fn take(key: &BucketKey, burst: u32, now: u64) -> bool {
    let Some(bucket) = BUCKETS.get_ptr_mut(key) else {
        let first = Bucket {
            since: now,
            folded: 0,
            reported: 1,
        };
        // A full LRU evicts; a failed insert only means that the next is reported too.
        let _unlimited = BUCKETS.insert(key, &first, u64::from(BPF_ANY));
        return true;
    };
    // SAFETY: a row of the map; races are harmless.
    unsafe {
        if now.wrapping_sub((*bucket).since) >= 1_000_000_000 {
            (*bucket).since = now;
            (*bucket).reported = 0;
        }
        if (*bucket).reported >= u64::from(burst) {
            return false;
        }
        (*bucket).reported += 1;
    }
    true
}
