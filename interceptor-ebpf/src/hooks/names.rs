//! Datagrams to a resolver: to the daemon's name server for it, and back from there.

use aya_ebpf::bindings::bpf_sock_addr;
use interceptor_ebpf::event;
use interceptor_ebpf::flow::Endpoint;
use interceptor_ebpf::rule;
use interceptor_ebpf::scope::Listeners;

use super::address;
use crate::maps::LISTENERS;
use crate::verdict::{self, EHOSTUNREACH, Refusal};

/// Sends a datagram, or a socket of them, to the name server where `to` is a resolver: `Ok(true)`.
///
/// Where a program before this one has done so already, `to` becomes the resolver again, and is decided
/// anew; so it is where a process dials the name server itself.
#[inline(always)]
pub(super) fn forward<const V6: bool>(
    call: *mut bpf_sock_addr,
    (scope, netns): (u64, u64),
    to: &mut Endpoint,
) -> Result<bool, Refusal> {
    let listeners = LISTENERS.get_ptr(&netns);
    if let Some(listeners) = listeners {
        // SAFETY: a row of the map, halves of words.
        let slot = unsafe { &*listeners }.slot_at(to);
        if let Some(resolver) = slot.and_then(verdict::resolver) {
            *to = resolver;
        }
    }
    let rules = verdict::rules(verdict::generation(), scope, to);
    if rules & rule::NAMES == 0 {
        return Ok(false);
    }
    let Some(listeners) = listeners else {
        return Err(Refusal {
            reason: event::NETNS_UNKNOWN,
            errno: EHOSTUNREACH,
        });
    };
    // SAFETY: as above.
    let via = name_server(unsafe { &*listeners }, verdict::slot(rules), to);
    if !verdict::daemon_answers(call, &via) {
        return Err(Refusal::down());
    }
    address::write::<V6>(call, &via);
    Ok(true)
}

/// Native IPv6 goes to `::1`, where each resolver has a port: a V6ONLY socket reaches no mapped address.
#[inline(always)]
fn name_server(listeners: &Listeners, slot: u32, to: &Endpoint) -> Endpoint {
    let port6 = match slot {
        0 => listeners.names6[0],
        1 => listeners.names6[1],
        2 => listeners.names6[2],
        _ => listeners.names6[3],
    };
    if to.is_v4() || port6 == 0 {
        Endpoint::name_server(slot, listeners.port4)
    } else {
        Endpoint::v6([0, 0, 0, 1_u32.to_be()], port6)
    }
}

/// Writes the resolver over the address of its name server.
#[inline(always)]
pub(super) fn tell<const V6: bool>(call: *mut bpf_sock_addr, netns: u64) -> Option<()> {
    let listeners = LISTENERS.get_ptr(&netns)?;
    let from = address::read::<V6>(call);
    // SAFETY: a row of the map, halves of words.
    let slot = unsafe { &*listeners }.slot_at(&from)?;
    let resolver = verdict::resolver(slot)?;
    if !V6 && !resolver.is_v4() {
        return None;
    }
    address::write::<V6>(call, &resolver);
    Some(())
}
