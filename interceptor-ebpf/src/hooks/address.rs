//! Reads and rewrites the address of a `bpf_sock_addr`, the same way for both families.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use interceptor_ebpf::flow::Endpoint;

/// `SOCK_STREAM`.
pub(crate) const STREAM: u32 = 1;
/// `SOCK_DGRAM`.
pub(crate) const DATAGRAM: u32 = 2;
/// `IPPROTO_TCP`.
pub(crate) const TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub(crate) const UDP: u32 = 17;

/// The address that the call names.
#[inline(always)]
pub(crate) fn read<const V6: bool>(call: *mut bpf_sock_addr) -> Endpoint {
    // Volatile: the verifier takes these fields by the word, and the compiler would join them.
    // SAFETY: fields of the context, at constant offsets.
    unsafe {
        let port = u16::from_be(read_volatile(&raw const (*call).user_port) as u16);
        if V6 {
            let address = [
                read_volatile(&raw const (*call).user_ip6[0]),
                read_volatile(&raw const (*call).user_ip6[1]),
                read_volatile(&raw const (*call).user_ip6[2]),
                read_volatile(&raw const (*call).user_ip6[3]),
            ];
            Endpoint::v6(address, port)
        } else {
            Endpoint::v4(read_volatile(&raw const (*call).user_ip4), port)
        }
    }
}

/// Writes the address that the call shall use. In an IPv4 call `to` must be IPv4.
#[inline(always)]
pub(crate) fn write<const V6: bool>(call: *mut bpf_sock_addr, to: &Endpoint) {
    // SAFETY: as in `read`.
    unsafe {
        if V6 {
            write_volatile(&raw mut (*call).user_ip6[0], to.address[0]);
            write_volatile(&raw mut (*call).user_ip6[1], to.address[1]);
            write_volatile(&raw mut (*call).user_ip6[2], to.address[2]);
            write_volatile(&raw mut (*call).user_ip6[3], to.address[3]);
        } else {
            write_volatile(&raw mut (*call).user_ip4, to.address[3]);
        }
        write_volatile(&raw mut (*call).user_port, u32::from(to.port.to_be()));
    }
}

/// The socket of the call.
#[inline(always)]
pub(crate) fn socket(call: *mut bpf_sock_addr) -> *mut bpf_sock {
    // SAFETY: a field of the context; never null in `sock_addr` programs.
    unsafe { (*call).__bindgen_anon_1.sk }
}

/// `SOCK_STREAM` and its like.
#[inline(always)]
pub(crate) fn kind(call: *mut bpf_sock_addr) -> u32 {
    // SAFETY: a field of the context.
    unsafe { read_volatile(&raw const (*call).type_) }
}

/// The number that the audit names the protocol by.
#[inline(always)]
pub(crate) fn protocol(kind: u32) -> u32 {
    match kind {
        STREAM => TCP,
        DATAGRAM => UDP,
        _ => 255,
    }
}
