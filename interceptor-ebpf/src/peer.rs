//! Who takes a packet on loopback. Sockets of one user may share a port (`SO_REUSEPORT`), and a program of any of
//! them chooses which takes a packet, by the packet: the helper that looks receivers up has none to show it.

use core::hint::black_box;

use aya_ebpf::bindings::{__sk_buff, BPF_TCP_LISTEN, BPF_TCP_SYN_SENT, bpf_sock};
use aya_ebpf::helpers::bpf_sk_ancestor_cgroup_id;
use interceptor_ebpf::flow::{Endpoint, Flow};

use crate::stamp::{self, offset, word};
use crate::verdict;

/// A packet between two ends, by whom it is sent, and the scope that it may not leave.
pub(crate) struct Sent<'a> {
    /// The packet.
    pub packet: *mut __sk_buff,
    /// The socket that it leaves by.
    pub socket: *mut bpf_sock,
    /// Its own end.
    pub from: &'a Endpoint,
    /// The other end.
    pub to: &'a Endpoint,
    /// The scope.
    pub scope: u64,
}

/// Whether a datagram is taken by the scope. One to a port that is shared is taken by nobody knows whom.
#[inline(always)]
pub(crate) fn takes_datagram(sent: &Sent<'_>) -> bool {
    let Sent {
        packet,
        from,
        to,
        scope,
        ..
    } = *sent;
    verdict::with_socket(packet, from, to, false, |taker| {
        verdict::is_made_by(taker, scope) && is_alone(sent, taker)
    })
}

/// Whether a segment of a local connection is taken by the scope. The first goes where a look-up leads, and
/// carries nothing (`carries`); whatever comes behind it is let go once it is known who took that.
#[inline(always)]
pub(crate) fn takes_segment(sent: &Sent<'_>, state: u32, carries: bool, flow: *mut Flow) -> bool {
    let Sent {
        packet,
        from,
        to,
        scope,
        ..
    } = *sent;
    if state == BPF_TCP_SYN_SENT {
        return !carries && verdict::same_scope(packet, from, to, true, scope);
    }
    // SAFETY: the caller has checked for null.
    if unsafe { (*flow).generation } != 0 {
        return true;
    }
    verdict::with_socket(packet, from, to, true, |taker| {
        // SAFETY: a field of a socket.
        let is_listener = unsafe { (*taker).state } == BPF_TCP_LISTEN;
        if is_listener {
            // The one that took the first segment; with SYN cookies, any of those that share the port.
            return verdict::is_made_by(taker, scope) && !is_directed(sent, taker);
        }
        // What a listener accepted has no record of who made it, but its listener's cgroup.
        // SAFETY: a helper that takes a socket.
        let own =
            verdict::deepest(|level| unsafe { bpf_sk_ancestor_cgroup_id(taker.cast(), level) });
        if own != scope {
            return false;
        }
        // SAFETY: as above.
        unsafe { (*flow).generation = 1 };
        true
    })
}

/// Whether a socket shares its port with no other.
#[inline(always)]
fn is_alone(sent: &Sent<'_>, taker: *mut bpf_sock) -> bool {
    match sharers(sent, taker) {
        Some(0) => true,
        Some(sharers) => {
            let mut count = 0_u16;
            stamp::read(sharers, offset!(sharers_count), &mut count) && count <= 1
        }
        None => false,
    }
}

/// Whether a program chooses among those that share a socket's port.
#[inline(always)]
fn is_directed(sent: &Sent<'_>, taker: *mut bpf_sock) -> bool {
    match sharers(sent, taker) {
        Some(0) => false,
        Some(sharers) => word(sharers, offset!(sharers_program)) != Some(0),
        None => true,
    }
}

/// The kernel's record of those that share a socket's port; zero where nobody does, none where it cannot be
/// read.
#[inline(always)]
fn sharers(sent: &Sent<'_>, taker: *mut bpf_sock) -> Option<u64> {
    // The verifier gives no socket's address away, only how far two are apart: hidden from the compiler, which
    // would add and subtract in another order.
    let apart = black_box((taker as u64).wrapping_sub(sent.socket as u64));
    let own = word(sent.packet as u64, offset!(packet_socket))?;
    word(own.wrapping_add(apart), offset!(sharers))
}
