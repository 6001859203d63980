//! `connect4/6`: where may this connection go, and who makes it.
//!
//! The first step of the intercept path. Runs in the process that connects, once per program on the
//! way up from its cgroup: where scopes are nested it runs twice and must say the same twice.

use core::ffi::c_void;
use core::ptr::{self, read_volatile};

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_ktime_get_boot_ns, bpf_setsockopt};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use interceptor_ebpf::event;
use interceptor_ebpf::flow::{self, Endpoint, Flow};
use interceptor_ebpf::rule;
use interceptor_ebpf::scope::Listeners;

use super::{PASS, REFUSE, address, deny, names};
use crate::maps::{FLOWS, LISTENERS};
use crate::stamp::{self, offset, word};
use crate::verdict::{self, EHOSTUNREACH, Refusal, UNCOVERED};

const ON_ERROR: i32 = REFUSE;

/// `SOL_SOCKET`.
const SOL_SOCKET: i32 = 1;
/// `SO_BINDTODEVICE`.
const SO_BINDTODEVICE: i32 = 25;

/// The bit of `enum sock_flags` that `SO_BROADCAST` sets.
const SOCK_BROADCAST: u64 = 1 << 6;

#[cgroup_sock_addr(connect4)]
fn interceptor_connect4(context: SockAddrContext) -> i32 {
    connect::<false>(context.sock_addr)
}

#[cgroup_sock_addr(connect6)]
fn interceptor_connect6(context: SockAddrContext) -> i32 {
    connect::<true>(context.sock_addr)
}

#[inline(always)]
fn connect<const V6: bool>(call: *mut bpf_sock_addr) -> i32 {
    let kind = address::kind(call);
    let socket = address::socket(call);
    if deny::already() {
        FLOWS.delete(socket);
        return ON_ERROR;
    }
    let scope = verdict::scope_of_caller(socket);
    // SAFETY: a helper that takes the context.
    let netns = unsafe { bpf_get_netns_cookie(call.cast()) };
    let mut to = address::read::<V6>(call);
    let answer = match kind {
        address::STREAM => try_connect::<V6>(call, socket, (scope, netns), &mut to),
        address::DATAGRAM => try_datagrams::<V6>(call, (scope, netns), &mut to),
        _ => Err(Refusal::new(event::SOCKET_TYPE)),
    };
    let Err(refusal) = answer else { return PASS };
    // Whatever an earlier connect of this socket was allowed ends here: the guard drops its packets
    // even where a program after this one clears the denial.
    FLOWS.delete(socket);
    deny::refuse(
        &refusal,
        &deny::Subject::of(to, address::protocol(kind), (scope, netns)),
    );
    ON_ERROR
}

/// glibc connects datagram sockets to learn their source address; bytes to anybody but a resolver are refused
/// as they leave. But of what goes to many, the kernel gives this host's own receivers a copy that passes no
/// guard (`ip_mc_output`): no socket is connected to them.
#[inline(always)]
fn try_datagrams<const V6: bool>(
    call: *mut bpf_sock_addr,
    (scope, netns): (u64, u64),
    to: &mut Endpoint,
) -> Result<(), Refusal> {
    let forwarded = names::forward::<V6>(call, (scope, netns), to)?;
    if forwarded || to.is_loopback() || to.is_unspecified() {
        return Ok(());
    }
    if to.is_of_many() || may_broadcast(call) {
        return Err(Refusal::new(event::UDP));
    }
    Ok(())
}

/// Whether the socket may send to addresses of broadcast, which only routes tell from others: the kernel
/// connects no other socket to them. `setsockopt` keeps it from that, but not what was made before the tag. One
/// that cannot be looked at counts as one that may.
#[inline(always)]
fn may_broadcast(call: *mut bpf_sock_addr) -> bool {
    // The context is the kernel's own record, which its fields are a view of.
    let flags = word(call as u64, offset!(call_socket))
        .and_then(|socket| word(socket, offset!(socket_flags)));
    flags.is_none_or(|flags| flags & SOCK_BROADCAST != 0)
}

#[inline(always)]
fn try_connect<const V6: bool>(
    call: *mut bpf_sock_addr,
    socket: *mut bpf_sock,
    (scope, netns): (u64, u64),
    to: &mut Endpoint,
) -> Result<(), Refusal> {
    if scope == 0 {
        return Err(UNCOVERED);
    }
    if to.is_unspecified() {
        *to = to.on_loopback();
        address::write::<V6>(call, to);
    }
    let listeners = LISTENERS.get_ptr(&netns);
    if let Some(listeners) = listeners {
        // SAFETY: a row of the map, two halves of one word.
        *to = redialled(socket, unsafe { &*listeners }, to)?;
    }
    if verdict::protection(to) & rule::DAEMON != 0 {
        return Err(Refusal::new(event::LISTENER));
    }
    let generation = verdict::generation();
    let rules = verdict::rules(generation, scope, to);
    if rules & (rule::REDIRECT | rule::NAMES) != 0 || verdict::is_named(scope, to) {
        let Some(listeners) = listeners else {
            return Err(Refusal {
                reason: event::NETNS_UNKNOWN,
                errno: EHOSTUNREACH,
            });
        };
        // SAFETY: as above.
        let via = listener_for(unsafe { &*listeners }, to);
        if !verdict::daemon_listens(call, &via) {
            return Err(Refusal::down());
        }
        unbind_device(call, socket)?;
        let flow = keep(socket, to, (scope, netns), flow::REDIRECTED)?;
        // SAFETY: just made, not null.
        unsafe {
            (*flow).via = via;
            (*flow).at = bpf_ktime_get_boot_ns();
        }
        address::write::<V6>(call, &via);
        return Ok(());
    }
    if to.is_loopback() && verdict::same_scope(call, &to.anywhere(), to, true, scope) {
        keep(socket, to, (scope, netns), flow::LOCAL)?;
        return Ok(());
    }
    let Some(needs_daemon) = verdict::tcp_out(rules) else {
        return Err(UNCOVERED);
    };
    if needs_daemon {
        // SAFETY: as above.
        let via = listeners.map(|row| listener_for(unsafe { &*row }, to));
        if !via.is_some_and(|via| verdict::daemon_ready(call, &via)) {
            return Err(Refusal::down());
        }
    }
    let flow = keep(socket, to, (scope, netns), flow::DIRECT)?;
    // SAFETY: just made, not null.
    unsafe {
        (*flow).generation = generation;
        (*flow).needs_daemon = u32::from(needs_daemon);
    }
    Ok(())
}

/// The daemon's listener for a destination. Native IPv6 goes to `::1`, because a V6ONLY socket cannot
/// reach a mapped address; where the namespace has no `::1`, the mapped one is all there is.
#[inline(always)]
fn listener_for(listeners: &Listeners, to: &Endpoint) -> Endpoint {
    if to.is_v4() || listeners.port6 == 0 {
        Endpoint::v4(0x7f00_0001_u32.to_be(), listeners.port4)
    } else {
        Endpoint::v6([0, 0, 0, 1_u32.to_be()], listeners.port6)
    }
}

/// Where a program before this one, of an outer scope or of an older daemon, has rewritten the
/// destination already, the one that was dialled is decided anew. A dial of the listener itself by a
/// socket that was never sent there is refused.
#[inline(always)]
fn redialled(
    socket: *mut bpf_sock,
    listeners: &Listeners,
    to: &Endpoint,
) -> Result<Endpoint, Refusal> {
    let port = if to.is_v4() {
        listeners.port4
    } else {
        listeners.port6
    };
    if port != to.port || !to.is_loopback() {
        return Ok(*to);
    }
    let flow = FLOWS.get(socket);
    if flow.is_null() {
        return Err(Refusal::new(event::LISTENER));
    }
    // SAFETY: checked for null; the socket is locked by the connect.
    unsafe {
        if (*flow).kind != flow::REDIRECTED || !(*flow).via.same(to) {
            return Err(Refusal::new(event::LISTENER));
        }
        Ok((*flow).destination)
    }
}

/// A fresh record for the socket, of the process that connects it now, whatever an earlier connect left.
#[inline(always)]
fn keep(
    socket: *mut bpf_sock,
    to: &Endpoint,
    (scope, netns): (u64, u64),
    kind: u32,
) -> Result<*mut Flow, Refusal> {
    let flow = FLOWS.create(socket);
    if flow.is_null() {
        return Err(Refusal::overflow());
    }
    // SAFETY: checked for null; the socket is locked by the connect.
    unsafe {
        (*flow).kind = kind;
        (*flow).scope = scope;
        (*flow).netns = netns;
        (*flow).destination = *to;
        (*flow).generation = 0;
        (*flow).needs_daemon = 0;
        (*flow).client = Endpoint::v6([0; 4], 0);
        stamp::current(&mut (*flow).process);
    }
    Ok(flow)
}

/// A socket bound to a device sends its SYN for 127.0.0.1 out of that device: it is unbound, or the
/// connect refused.
#[inline(always)]
fn unbind_device(call: *mut bpf_sock_addr, socket: *mut bpf_sock) -> Result<(), Refusal> {
    // SAFETY: a field of the socket.
    if unsafe { read_volatile(&raw const (*socket).bound_dev_if) } == 0 {
        return Ok(());
    }
    let mut name = [0_u32; 4];
    let name: *mut c_void = ptr::from_mut(&mut name).cast();
    // SAFETY: the name is sixteen bytes on the stack.
    let set = unsafe { bpf_setsockopt(call.cast(), SOL_SOCKET, SO_BINDTODEVICE, name, 16) };
    if set != 0 {
        return Err(UNCOVERED);
    }
    Ok(())
}
