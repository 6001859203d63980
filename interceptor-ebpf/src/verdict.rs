//! What the rules say: one place for every hook.
//!
//! A destination is asked for four times, (this scope | every scope) × (this port | every port), and
//! the bits of the four answers are united: redirect beats the rest. No answer is a refusal.

use core::ptr;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::{
    bpf_get_current_ancestor_cgroup_id, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release,
};
use interceptor_ebpf::event::{DAEMON_DOWN, NO_RULE};
use interceptor_ebpf::flow::{self, Endpoint, NamedKey};
use interceptor_ebpf::rule::{self, RuleKey};
use interceptor_ebpf::{MAX_LEVEL, MAX_RESOLVERS, event};

use crate::maps::{MARKS, NAMED, PROTECTED, RESOLVERS, SCOPES, SOCKETS, TrieKey, state};

/// `EPERM`: policy.
pub(crate) const EPERM: i32 = 1;
/// `EHOSTUNREACH`: the namespace is not served yet.
pub(crate) const EHOSTUNREACH: i32 = 113;
/// `ECONNREFUSED`: what a closed port answers, and no daemon is behind it.
pub(crate) const ECONNREFUSED: i32 = 111;
/// `ENOBUFS`: a record could not be kept.
pub(crate) const ENOBUFS: i32 = 105;

/// A "no", with its reason for the audit and its errno for the client.
pub(crate) struct Refusal {
    /// A reason of [`event`].
    pub reason: u32,
    /// Positive errno; `EPERM` where the kernel cannot say another.
    pub errno: i32,
}

impl Refusal {
    /// Refused by policy.
    #[inline(always)]
    pub(crate) const fn new(reason: u32) -> Self {
        Self {
            reason,
            errno: EPERM,
        }
    }

    /// A record could not be kept.
    #[inline(always)]
    pub(crate) const fn overflow() -> Self {
        Self {
            reason: event::OVERFLOW,
            errno: ENOBUFS,
        }
    }

    /// No daemon is alive.
    #[inline(always)]
    pub(crate) const fn down() -> Self {
        Self {
            reason: DAEMON_DOWN,
            errno: ECONNREFUSED,
        }
    }
}

/// Deepest tagged cgroup among those that `ancestor` tells by level; zero where none is.
#[inline(always)]
pub(crate) fn deepest(ancestor: impl Fn(i32) -> u64) -> u64 {
    let (scope, _is_going) = deepest_and_going(ancestor);
    scope
}

/// The same, and whether it is being untagged: told by one look, for it may be gone by the next.
#[inline(always)]
pub(crate) fn deepest_and_going(ancestor: impl Fn(i32) -> u64) -> (u64, bool) {
    deepest_to(MAX_LEVEL, ancestor)
}

/// The same where there is no cgroup below `lowest`, which is looked at once for all levels.
#[inline(always)]
pub(crate) fn deepest_to(lowest: u32, ancestor: impl Fn(i32) -> u64) -> (u64, bool) {
    let below = match lowest < MAX_LEVEL {
        true => (2_u64 << lowest) as u32,
        false => 0,
    };
    let asked = below.wrapping_sub(1);
    let state = state();
    if state.is_null() {
        return (0, false);
    }
    // SAFETY: a row of an array map.
    let levels = asked & unsafe { ptr::read_volatile(&raw const (*state).levels) };
    let mut level = MAX_LEVEL as i32 - 1;
    while level >= 0 {
        if levels & (1 << level) != 0 {
            let id = ancestor(level);
            if id != 0
                && let Some(row) = SCOPES.get_ptr(&id)
            {
                // SAFETY: a row of a map, which the daemon replaces whole.
                return (id, unsafe { (*row).going != 0 });
            }
        }
        level -= 1;
    }
    (0, false)
}

/// The scope of the current process, else the one that made the socket: a process that left its
/// scope, and a socket that was passed out of one, stay under the rules of where they come from.
#[inline(always)]
pub(crate) fn scope_of_caller(socket: *mut bpf_sock) -> u64 {
    // SAFETY: a helper without pointers.
    let own = deepest(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) });
    if own != 0 {
        return own;
    }
    let made = SOCKETS.get(socket);
    if made.is_null() {
        return 0;
    }
    // SAFETY: checked for null; storage lives as long as the socket.
    unsafe { (*made).scope }
}

/// The generation that holds; zero, which no row has, where there is none.
#[inline(always)]
pub(crate) fn generation() -> u32 {
    let state = state();
    if state.is_null() {
        return 0;
    }
    // SAFETY: a row of an array map; a word is written whole.
    unsafe { ptr::read_volatile(&raw const (*state).generation) }
}

/// What the rules of `generation` say of `to` in `scope`. The ports of DNS are opened only by rules that
/// name them: whoever may reach a whole network may not ask a server in it around the daemon.
#[inline(always)]
pub(crate) fn rules(generation: u32, scope: u64, to: &Endpoint) -> u32 {
    let is_dns = to.port == rule::DNS || to.port == rule::DNS_TLS;
    let mut key = TrieKey::whole(RuleKey {
        generation,
        scope_low: scope as u32,
        scope_high: (scope >> 32) as u32,
        port: u32::from(to.port),
        address: to.address,
    });
    let mut found = key.find();
    if !is_dns {
        key.rule.port = 0;
        found |= key.find();
    }
    key.rule.scope_low = 0;
    key.rule.scope_high = 0;
    if !is_dns {
        found |= key.find();
    }
    key.rule.port = u32::from(to.port);
    found | key.find()
}

/// Whether `scope` was told this address for a target's name.
#[inline(always)]
pub(crate) fn is_named(scope: u64, to: &Endpoint) -> bool {
    let key = NamedKey {
        scope,
        at: *to,
        reserved: 0,
    };
    NAMED.get_ptr(&key).is_some()
}

/// The slot of the resolver that rules with [`rule::NAMES`] are about.
#[inline(always)]
pub(crate) fn slot(rules: u32) -> u32 {
    (rules >> rule::SLOT) & (MAX_RESOLVERS - 1)
}

/// The resolver in a slot; none where the map is missing.
#[inline(always)]
pub(crate) fn resolver(slot: u32) -> Option<Endpoint> {
    // SAFETY: a row of an array map; a slot is given to another only by a reload.
    RESOLVERS.get_ptr(slot).map(|row| unsafe { *row })
}

/// What lets a connection out that is not redirected: `Some(needs_daemon)`.
#[inline(always)]
pub(crate) fn tcp_out(rules: u32) -> Option<bool> {
    if rules & rule::DIRECT != 0 {
        return Some(false);
    }
    if rules & rule::DIRECT_IF_READY != 0 {
        return Some(true);
    }
    None
}

/// How `endpoint` is protected, by itself or by its port on every address.
#[inline(always)]
pub(crate) fn protection(endpoint: &Endpoint) -> u32 {
    let whole = Endpoint::v6([0; 4], endpoint.port);
    // SAFETY: rows are single words that the daemon replaces whole.
    let own = PROTECTED
        .get_ptr(endpoint)
        .map_or(0, |row| unsafe { row.read_volatile() });
    // SAFETY: as above.
    let all = PROTECTED
        .get_ptr(whole)
        .map_or(0, |row| unsafe { row.read_volatile() });
    // A target's port is protected on every address only against a bind to every address.
    if endpoint.is_unspecified() {
        own | all
    } else {
        own | (all & rule::DAEMON)
    }
}

/// Whether the socket that listens at `at`, in the namespace of `context`, is the daemon's own: the
/// only sign of life that a killed daemon cannot leave behind.
#[inline(always)]
pub(crate) fn daemon_listens<C>(context: *mut C, at: &Endpoint) -> bool {
    with_socket(context, &at.anywhere(), at, true, is_daemons)
}

/// As [`daemon_listens`], for its name server at `at`.
#[inline(always)]
pub(crate) fn daemon_answers<C>(context: *mut C, at: &Endpoint) -> bool {
    with_socket(context, &at.anywhere(), at, false, is_daemons)
}

#[inline(always)]
fn is_daemons(socket: *mut bpf_sock) -> bool {
    let mark = MARKS.get(socket);
    // SAFETY: checked for null.
    !mark.is_null() && unsafe { (*mark).kind } == flow::DAEMON
}

/// Whether the rules may count on a daemon that listens at `at`.
#[inline(always)]
pub(crate) fn daemon_ready<C>(context: *mut C, at: &Endpoint) -> bool {
    let state = state();
    if state.is_null() {
        return false;
    }
    // SAFETY: a row of an array map; a word is written whole.
    let ready = unsafe { ptr::read_volatile(&raw const (*state).ready) };
    ready == rule::READY && daemon_listens(context, at)
}

/// Whether the socket that would receive a packet `from` → `to` was made by `scope`.
#[inline(always)]
pub(crate) fn same_scope<C>(
    context: *mut C,
    from: &Endpoint,
    to: &Endpoint,
    tcp: bool,
    scope: u64,
) -> bool {
    with_socket(context, from, to, tcp, |socket| is_made_by(socket, scope))
}

/// Whether `scope` made a socket, or was the first to bind it.
#[inline(always)]
pub(crate) fn is_made_by(socket: *mut bpf_sock, scope: u64) -> bool {
    let made = SOCKETS.get(socket);
    // SAFETY: checked for null.
    !made.is_null() && unsafe { (*made).scope } == scope
}

/// Asks `f` about the socket that would receive a packet `from` → `to`; false where there is none.
#[inline(always)]
pub(crate) fn with_socket<C>(
    context: *mut C,
    from: &Endpoint,
    to: &Endpoint,
    tcp: bool,
    f: impl FnOnce(*mut bpf_sock) -> bool,
) -> bool {
    // `struct bpf_sock_tuple` is source, destination, source port, destination port: 12 bytes for
    // IPv4, 36 for IPv6; ports in network order.
    let ports = u32::from(to.port.to_be()) << 16 | u32::from(from.port.to_be());
    let mut tuple = [0_u32; 9];
    let size = if to.is_v4() {
        tuple[0] = from.address[3];
        tuple[1] = to.address[3];
        tuple[2] = ports;
        12
    } else {
        tuple[0] = from.address[0];
        tuple[1] = from.address[1];
        tuple[2] = from.address[2];
        tuple[3] = from.address[3];
        tuple[4] = to.address[0];
        tuple[5] = to.address[1];
        tuple[6] = to.address[2];
        tuple[7] = to.address[3];
        tuple[8] = ports;
        36
    };
    let tuple: *mut bpf_sock_tuple = ptr::from_mut(&mut tuple).cast();
    // BPF_F_CURRENT_NETNS is -1.
    // SAFETY: the tuple is on the stack with the size given; the socket is released below.
    let socket = unsafe {
        if tcp {
            bpf_sk_lookup_tcp(context.cast(), tuple, size, u64::MAX, 0)
        } else {
            bpf_sk_lookup_udp(context.cast(), tuple, size, u64::MAX, 0)
        }
    };
    if socket.is_null() {
        return false;
    }
    let answer = f(socket);
    // SAFETY: the reference that the lookup gave.
    unsafe { bpf_sk_release(socket.cast()) };
    answer
}

/// The refusal of a destination that nothing covers.
pub(crate) const UNCOVERED: Refusal = Refusal::new(NO_RULE);
