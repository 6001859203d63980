//! `cgroup_skb/egress`: the guard behind the other hooks. What they did not let out does not leave.
//!
//! It judges the packet's own addresses, never the socket's: a namespace's owner may translate
//! addresses below the socket. A dropped SYN tells the client nothing, so no refusal of TCP leans on
//! this layer; a dropped datagram is an `EPERM` at once.

use core::ptr::{from_mut, read_volatile};

use aya_ebpf::bindings::{__sk_buff, BPF_ANY, BPF_TCP_LISTEN, bpf_sock};
use aya_ebpf::helpers::{
    bpf_ktime_get_boot_ns, bpf_sk_fullsock, bpf_skb_ancestor_cgroup_id, bpf_skb_load_bytes,
};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use interceptor_ebpf::event;
use interceptor_ebpf::flow::{self, AskedKey, Endpoint, Flow};
use interceptor_ebpf::process::Process;
use interceptor_ebpf::rule;

use super::{PASS, REFUSE, address, deny};
use crate::maps::{ASKED, FLOWS, LISTENERS, SOCKETS};
use crate::peer::{self, Sent};
use crate::{stamp, verdict};

const ON_ERROR: i32 = REFUSE;

/// `ETH_P_IP` and `ETH_P_IPV6`.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// The loopback device has this index in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK_DEVICE: u32 = 1;

struct Packet {
    from: Endpoint,
    to: Endpoint,
    protocol: u32,
    /// Leaves by the loopback device.
    stays: bool,
    /// A segment of TCP with bytes in it.
    carries: bool,
}

impl Packet {
    #[inline(always)]
    fn sent(&self, packet: *mut __sk_buff, socket: *mut bpf_sock, scope: u64) -> Sent<'_> {
        Sent {
            packet,
            socket,
            from: &self.from,
            to: &self.to,
            scope,
        }
    }
}

#[cgroup_skb(egress)]
fn interceptor_egress(context: SkBuffContext) -> i32 {
    let skb = context.skb.skb;
    // Read once: the verifier forgets what it knows of a second load.
    // SAFETY: a field of the context, null where there is no socket.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return ON_ERROR;
    }
    // SAFETY: checked for null.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    if socket.is_null() {
        return ON_ERROR;
    }
    let mut subject = deny::Subject::nowhere(0, (0, 0));
    let reason = match parse(skb) {
        Some(packet) => {
            subject.destination = packet.to;
            subject.protocol = packet.protocol;
            if packet.protocol == address::TCP {
                tcp(skb, socket, &packet, &mut subject)
            } else {
                udp(skb, socket, &packet)
            }
        }
        None => Err(event::EGRESS),
    };
    let Err(reason) = reason else { return PASS };
    // A datagram leaves while its sender runs; anything else may leave while anybody does.
    if subject.process.is_null() && subject.protocol != address::UDP {
        subject.flags = event::PASSERBY;
    }
    let made = SOCKETS.get(socket);
    if !made.is_null() {
        // SAFETY: checked for null.
        unsafe {
            subject.scope = (*made).scope;
            subject.netns = (*made).netns;
        }
    }
    deny::report(reason, &subject, stamp::sender);
    ON_ERROR
}

#[inline(always)]
fn tcp(
    skb: *mut __sk_buff,
    socket: *mut bpf_sock,
    packet: &Packet,
    subject: &mut deny::Subject,
) -> Result<(), u32> {
    let near = packet.stays && packet.to.is_loopback();
    // SAFETY: a field of a full socket.
    let state = unsafe { read_volatile(&raw const (*socket).state) };
    let flow = FLOWS.get(socket);
    if flow.is_null() {
        // The SYN-ACK of a listener; whoever else has no record came around the hooks.
        let answers = state == BPF_TCP_LISTEN && near && verdict::protection(&packet.from) == 0;
        return if answers { Ok(()) } else { Err(event::EGRESS) };
    }
    // SAFETY: checked for null.
    let process: *const Process = unsafe { &raw const (*flow).process };
    subject.process = process;
    // SAFETY: checked for null.
    let (kind, destination, scope) = unsafe { ((*flow).kind, (*flow).destination, (*flow).scope) };
    let passes = match kind {
        // SAFETY: checked for null.
        flow::REDIRECTED => packet.stays && packet.to.same(unsafe { &(*flow).via }),
        flow::DIRECT => packet.to.same(&destination) && still_direct(skb, flow, &packet.to),
        flow::LOCAL => {
            // The listener of the connect may have made way for a stranger's before the SYN left.
            let sent = packet.sent(skb, socket, scope);
            near && packet.to.same(&destination)
                && peer::takes_segment(&sent, state, packet.carries, flow)
        }
        flow::ACCEPTED => near && verdict::protection(&packet.from) == 0,
        _ => false,
    };
    if passes { Ok(()) } else { Err(event::EGRESS) }
}

/// Whether the rules of today still let a direct flow out. Looked up again when they have changed.
#[inline(always)]
fn still_direct(skb: *mut __sk_buff, flow: *mut Flow, to: &Endpoint) -> bool {
    let generation = verdict::generation();
    // SAFETY: the caller has checked for null.
    unsafe {
        if (*flow).generation != generation {
            let rules = verdict::rules(generation, (*flow).scope, to);
            // A destination that has become a target must go through the daemon.
            if rules & (rule::REDIRECT | rule::NAMES) != 0 {
                return false;
            }
            let Some(needs_daemon) = verdict::tcp_out(rules) else {
                return false;
            };
            (*flow).generation = generation;
            (*flow).needs_daemon = u32::from(needs_daemon);
        }
        (*flow).needs_daemon == 0 || daemon_ready(skb, (*flow).netns)
    }
}

#[inline(always)]
fn udp(skb: *mut __sk_buff, socket: *mut bpf_sock, packet: &Packet) -> Result<(), u32> {
    let made = SOCKETS.get(socket);
    let (scope, netns) = if made.is_null() {
        // From before the tag: known by the cgroup that it was made in.
        // SAFETY: a helper that takes the context.
        let scope = verdict::deepest(|level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) });
        (scope, 0)
    } else {
        // SAFETY: checked for null.
        unsafe { ((*made).scope, (*made).netns) }
    };
    if scope == 0 {
        return Err(event::UDP);
    }
    let near = packet.stays && packet.to.is_loopback();
    if !near {
        return Err(event::UDP);
    }
    if let Some(listeners) = LISTENERS.get_ptr(&netns) {
        // SAFETY: a row of the map, halves of words.
        if let Some(slot) = unsafe { &*listeners }.slot_at(&packet.to) {
            return ask(skb, socket, packet, (scope, netns), slot);
        }
    }
    if peer::takes_datagram(&packet.sent(skb, socket, scope)) {
        return Ok(());
    }
    Err(event::UDP)
}

/// A question on its way to the daemon's name server: who asks is written down for it, while he runs.
#[inline(always)]
fn ask(
    skb: *mut __sk_buff,
    socket: *mut bpf_sock,
    packet: &Packet,
    (scope, netns): (u64, u64),
    slot: u32,
) -> Result<(), u32> {
    let resolver = verdict::resolver(slot).ok_or(event::UDP)?;
    let rules = verdict::rules(verdict::generation(), scope, &resolver);
    if rules & rule::NAMES == 0 {
        return Err(event::UDP);
    }
    if !verdict::daemon_answers(skb, &packet.to) {
        return Err(event::DAEMON_DOWN);
    }
    let flow = FLOWS.create(socket);
    if flow.is_null() {
        return Err(event::OVERFLOW);
    }
    let key = AskedKey {
        netns,
        client: packet.from,
        via: packet.to,
    };
    // SAFETY: checked for null. Threads that send by one socket at once may tear it, which its seal shows.
    unsafe {
        (*flow).kind = flow::ASKED;
        (*flow).netns = netns;
        (*flow).scope = scope;
        (*flow).destination = resolver;
        (*flow).via = packet.to;
        (*flow).client = packet.from;
        (*flow).generation = 0;
        (*flow).needs_daemon = 0;
        (*flow).at = bpf_ktime_get_boot_ns();
        stamp::sender(&mut (*flow).process);
        (*flow).seal = (*flow).sealed();
        let kept = ASKED.insert(&key, &*flow, u64::from(BPF_ANY));
        kept.map_err(|_full| event::OVERFLOW)
    }
}

#[inline(always)]
fn daemon_ready(skb: *mut __sk_buff, netns: u64) -> bool {
    LISTENERS.get_ptr(&netns).is_some_and(|listeners| {
        // SAFETY: a row of the map.
        let port = unsafe { (*listeners).port4 };
        verdict::daemon_ready(skb, &Endpoint::v4(0x7f00_0001_u32.to_be(), port))
    })
}

/// The packet's addresses. IP options and extension headers can carry another destination (source
/// routing), and fragments carry no ports: none of them is let out.
#[inline(always)]
fn parse(skb: *mut __sk_buff) -> Option<Packet> {
    // SAFETY: fields of the context.
    let (protocol, device) = unsafe {
        (
            u16::from_be(read_volatile(&raw const (*skb).protocol) as u16),
            read_volatile(&raw const (*skb).ifindex),
        )
    };
    let mut head = [0_u32; 10];
    let (from, to, next, length) = match protocol {
        IPV4 => {
            load(skb, 0, &mut head, 20)?;
            // Version 4, header of five words; no offset and no more fragments.
            let first = u32::from_be(head[0]) >> 24;
            if first != 0x45 || u32::from_be(head[1]) & 0x3fff != 0 {
                return None;
            }
            let next = (u32::from_be(head[2]) >> 16) & 0xff;
            (Endpoint::v4(head[3], 0), Endpoint::v4(head[4], 0), next, 20)
        }
        IPV6 => {
            load(skb, 0, &mut head, 40)?;
            let next = (u32::from_be(head[1]) >> 8) & 0xff;
            let from = [head[2], head[3], head[4], head[5]];
            let to = [head[6], head[7], head[8], head[9]];
            (Endpoint::v6(from, 0), Endpoint::v6(to, 0), next, 40)
        }
        _ => return None,
    };
    if next != address::TCP && next != address::UDP {
        return None;
    }
    let mut ports = [0_u32; 10];
    load(skb, length, &mut ports, 4)?;
    let ports = u32::from_be(ports[0]);
    let carries = next == address::TCP && bytes(skb, length)? != 0;
    Some(Packet {
        from: Endpoint {
            port: (ports >> 16) as u16,
            ..from
        },
        to: Endpoint {
            port: ports as u16,
            ..to
        },
        protocol: next,
        stays: device == LOOPBACK_DEVICE,
        carries,
    })
}

/// Bytes of a segment behind both headers, of which the first is `length` long.
#[inline(always)]
fn bytes(skb: *mut __sk_buff, length: u32) -> Option<u32> {
    let mut words = [0_u32; 10];
    load(skb, length + 12, &mut words, 4)?;
    let header = u32::from_be(words[0]) >> 28 << 2;
    // SAFETY: a field of the context.
    let whole = unsafe { read_volatile(&raw const (*skb).len) };
    whole.checked_sub(length + header)
}

#[inline(always)]
fn load(skb: *mut __sk_buff, offset: u32, into: &mut [u32; 10], bytes: u32) -> Option<()> {
    // SAFETY: the buffer has forty bytes, and no caller asks for more.
    let read = unsafe { bpf_skb_load_bytes(skb.cast(), offset, from_mut(into).cast(), bytes) };
    (read == 0).then_some(())
}
