//! `sched_process_fork` and `cgroup_attach_task`, where the host is guarded: which scope a process comes from, kept
//! until its end, wherever it is moved and whatever becomes of the scope's cgroup. Only who untags lets it go.
//!
//! What is left of a process that has ended is told from what has its number then by the start.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use interceptor_ebpf::event;
use interceptor_ebpf::process::Lineage;

use crate::maps::{LINEAGE, SCOPES, count};
use crate::stamp::{half, offset, word};

/// What tracepoints answer.
const DONE: i32 = 0;

#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn interceptor_lineage_fork(context: RawTracePointContext) -> i32 {
    let (parent, child): (u64, u64) = (context.arg(0), context.arg(1));
    let (tgid, pid) = (half(child, offset!(tgid)), half(child, offset!(pid)));
    let Some(tgid) = tgid.filter(|tgid| Some(*tgid) == pid) else {
        // A thread of a process that is known.
        return DONE;
    };
    // It may have been made right into a cgroup outside.
    let scope = match inside(child) {
        (0, _) => match of(parent) {
            0 => standing(inside(parent)),
            inherited => inherited,
        },
        own => standing(own),
    };
    keep(child, tgid, scope);
    DONE
}

#[raw_tracepoint(tracepoint = "cgroup_attach_task")]
fn interceptor_lineage_attach(context: RawTracePointContext) -> i32 {
    let task: u64 = context.arg(2);
    // It has been moved by now.
    let scope = standing(inside(task));
    if let Some(tgid) = half(task, offset!(tgid)) {
        keep(task, tgid, scope);
    }
    DONE
}

/// The scope that a process comes from; zero where from none.
#[inline(always)]
pub(super) fn of(task: u64) -> u64 {
    let row = half(task, offset!(tgid)).and_then(|tgid| LINEAGE.get_ptr(tgid));
    let Some(row) = row else { return 0 };
    // SAFETY: a row of an array map; its words are written whole.
    let row = unsafe { *row };
    match row.scope != 0 && row.is_of(begun(task)) && !is_going(row.scope) {
        true => row.scope,
        false => 0,
    }
}

/// Whether a scope is being untagged. One that is gone is not: it keeps its own.
#[inline(always)]
fn is_going(scope: u64) -> bool {
    let row = SCOPES.get_ptr(&scope);
    // SAFETY: a row of a map, which the daemon replaces whole.
    row.is_some_and(|row| unsafe { (*row).going != 0 })
}

#[inline(always)]
fn begun(task: u64) -> u64 {
    word(task, offset!(group_leader))
        .and_then(|leader| word(leader, offset!(start_boottime)))
        .unwrap_or(0)
}

#[inline(always)]
fn keep(task: u64, tgid: u32, scope: u64) {
    if scope == 0 {
        return;
    }
    let Some(row) = LINEAGE.get_ptr_mut(tgid) else {
        // There is one for each number that there can be.
        count(event::OVERFLOW);
        return;
    };
    let started = begun(task);
    // SAFETY: a row of an array map; words that are read whole.
    unsafe { *row = Lineage { scope, started } };
}

/// Nobody is kept for a scope that is being untagged.
#[inline(always)]
fn standing((scope, is_going): (u64, bool)) -> u64 {
    match is_going {
        true => 0,
        false => scope,
    }
}

/// The scope that a task is in, and whether it is being untagged.
#[inline(always)]
fn inside(task: u64) -> (u64, bool) {
    let cgroup = word(task, offset!(cgroups)).and_then(|set| word(set, offset!(dfl_cgrp)));
    crate::cgroup::scope_of(cgroup.unwrap_or(0))
}
