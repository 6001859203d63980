//! `sock_ops`: carries the record from the client's socket to the one that the daemon accepts.
//!
//! The client's side runs before the SYN is sent, the daemon's side before `accept()` can return: the
//! accepted socket has its record, or the connection is refused. A row lives no longer than the
//! client's socket keeps its port, so that nobody else can take it.

use core::ptr::read_volatile;

use aya_ebpf::bindings::{
    BPF_ANY, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, bpf_sock, bpf_sock_ops,
};
use aya_ebpf::helpers::bpf_sock_ops_cb_flags_set;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use interceptor_ebpf::event::UNRECORDED;
use interceptor_ebpf::flow::{self, Endpoint, Flow, PendingKey};

use super::PASS;
use crate::maps::{FLOWS, MARKS, PENDING, count};

/// The verdict of these programs is not asked for; without a record the connection is refused.
const ON_ERROR: u32 = PASS as u32;

/// `AF_INET`.
const INET: u32 = 2;

#[sock_ops]
fn interceptor_scope_ops(context: SockOpsContext) -> u32 {
    let ops = context.ops;
    let done = match context.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => offer(ops),
        BPF_SOCK_OPS_STATE_CB if context.arg(1) == BPF_TCP_CLOSE => withdraw(ops),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(ops),
        _ => Some(()),
    };
    done.map_or(ON_ERROR, |()| PASS as u32)
}

#[sock_ops]
fn interceptor_daemon_ops(context: SockOpsContext) -> u32 {
    if context.op() == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && take(context.ops).is_none() {
        count(UNRECORDED);
    }
    PASS as u32
}

/// The client is about to send its SYN: its record is laid out for the daemon's side.
#[inline(always)]
fn offer(ops: *mut bpf_sock_ops) -> Option<()> {
    let flow = record(socket(ops)?)?;
    // SAFETY: not null; the socket is locked by the connect.
    unsafe {
        if (*flow).kind != flow::REDIRECTED {
            return None;
        }
        (*flow).client = local(ops);
        (*flow).seal = (*flow).sealed();
        let key = key((*flow).netns, &(*flow).client, (*flow).via.port);
        // The row is taken back when the socket closes without having been accepted.
        bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG as i32);
        PENDING.insert(&key, &*flow, u64::from(BPF_ANY)).ok()
    }
}

/// The client's socket closes, and still holds its port.
#[inline(always)]
fn withdraw(ops: *mut bpf_sock_ops) -> Option<()> {
    let flow = record(socket(ops)?)?;
    // SAFETY: not null.
    unsafe {
        if (*flow).kind != flow::REDIRECTED || (*flow).client.port == 0 {
            return None;
        }
        let key = key((*flow).netns, &(*flow).client, (*flow).via.port);
        PENDING.remove(&key).ok()
    }
}

/// A listener of the scope has accepted; the guard lets its answers go to loopback.
#[inline(always)]
fn accepted(ops: *mut bpf_sock_ops) -> Option<()> {
    let flow = FLOWS.create(socket(ops)?);
    if flow.is_null() {
        return None;
    }
    // SAFETY: checked for null; nobody else has the socket yet.
    unsafe {
        (*flow).kind = flow::ACCEPTED;
        (*flow).destination = remote(ops);
    }
    Some(())
}

/// The daemon's listener has accepted: the record moves to the new socket.
#[inline(always)]
fn take(ops: *mut bpf_sock_ops) -> Option<()> {
    let socket = socket(ops)?;
    let mark = MARKS.get(socket);
    // SAFETY: checked for null.
    if mark.is_null() || unsafe { (*mark).kind } != flow::DAEMON {
        // Not from one of the redirect listeners: some other socket of the daemon's cgroup.
        return Some(());
    }
    // SAFETY: fields of the context.
    let port = unsafe { read_volatile(&raw const (*ops).local_port) } as u16;
    let client = remote(ops);
    // SAFETY: checked for null.
    let netns = unsafe { (*mark).netns };
    let key = key(netns, &client, port);
    let row = PENDING.get_ptr_mut(&key)?;
    let flow = FLOWS.create_from(socket, row);
    let _gone = PENDING.remove(&key);
    if flow.is_null() {
        return None;
    }
    // SAFETY: checked for null; nobody else has the socket yet.
    let whole = unsafe {
        (*flow).seal == (*flow).sealed() && (*flow).client.same(&client) && (*flow).netns == netns
    };
    if !whole {
        FLOWS.delete(socket);
        return None;
    }
    Some(())
}

#[inline(always)]
fn key(netns: u64, client: &Endpoint, listener: u16) -> PendingKey {
    PendingKey {
        netns,
        client: *client,
        listener: u32::from(listener),
    }
}

#[inline(always)]
fn socket(ops: *mut bpf_sock_ops) -> Option<*mut bpf_sock> {
    // SAFETY: a field of the context, null where the socket is not a full one.
    let socket = unsafe { (*ops).__bindgen_anon_2.sk };
    (!socket.is_null()).then_some(socket)
}

#[inline(always)]
fn record(socket: *mut bpf_sock) -> Option<*mut Flow> {
    let flow = FLOWS.get(socket);
    (!flow.is_null()).then_some(flow)
}

/// The socket's own end. `local_port` is in host order.
///
/// Both families are read before one is chosen: else the compiler makes one load of two, at an address
/// that it computes, which the verifier does not take for a field of the context.
#[inline(always)]
fn local(ops: *mut bpf_sock_ops) -> Endpoint {
    // SAFETY: fields of the context, by the word.
    unsafe {
        let port = read_volatile(&raw const (*ops).local_port) as u16;
        let v4 = read_volatile(&raw const (*ops).local_ip4);
        let v6 = [
            read_volatile(&raw const (*ops).local_ip6[0]),
            read_volatile(&raw const (*ops).local_ip6[1]),
            read_volatile(&raw const (*ops).local_ip6[2]),
            read_volatile(&raw const (*ops).local_ip6[3]),
        ];
        if read_volatile(&raw const (*ops).family) == INET {
            Endpoint::v4(v4, port)
        } else {
            Endpoint::v6(v6, port)
        }
    }
}

/// The other end. `remote_port` is in network order, in the upper half on little-endian hosts.
#[inline(always)]
fn remote(ops: *mut bpf_sock_ops) -> Endpoint {
    // SAFETY: fields of the context, by the word.
    unsafe {
        let port = u32::from_be(read_volatile(&raw const (*ops).remote_port)) as u16;
        let v4 = read_volatile(&raw const (*ops).remote_ip4);
        let v6 = [
            read_volatile(&raw const (*ops).remote_ip6[0]),
            read_volatile(&raw const (*ops).remote_ip6[1]),
            read_volatile(&raw const (*ops).remote_ip6[2]),
            read_volatile(&raw const (*ops).remote_ip6[3]),
        ];
        if read_volatile(&raw const (*ops).family) == INET {
            Endpoint::v4(v4, port)
        } else {
            Endpoint::v6(v6, port)
        }
    }
}
