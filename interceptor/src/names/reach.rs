//! Which addresses the whole world may have, and which this host can send to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Whether a name that nobody here knows may have this address: one of the public networks, and not one
/// of a private, local or special one (IANA's special-purpose registries), in any clothes.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = a == 192 && b == 0 && c == 0;
    let benchmarks = a == 198 && (18..20).contains(&b);
    !(special || a == 0 || a >= 240 || shared || protocols || benchmarks)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, ..] = ip.segments();
    // Networks that carry an IPv4 address within: NAT64 (RFC 6052), 6to4 (RFC 3056).
    let within = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    if a == 0x64 && b == 0xff9b {
        let [.., high, low] = ip.segments();
        return c == 0 && is_public_v4(within(high, low));
    }
    if a == 0x2002 {
        return is_public_v4(within(b, c));
    }
    // Global unicast is 2000::/3; of it, 2001::/23 is for protocols and 2001:db8::/32, 3fff::/20 for books.
    let global = a & 0xe000 == 0x2000;
    let special = a == 0x2001 && (b < 0x200 || b == 0xdb8) || a == 0x3fff && b < 0x1000;
    global && !special
}

/// Whether an address is this host's own, or leads no further than its links: where services listen that rely on
/// nobody else's reaching them.
pub(super) fn is_near(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let special = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets().starts_with(&[0]),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    special
        || ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || UdpSocket::bind((ip, 0)).is_ok()
}

/// Whether this host has a route there. No packet is sent.
pub(super) fn is_reachable(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => return true,
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((ip, 9)));
    probe.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_networks_are_public() {
        let public = [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ];
        for ip in public {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        let not = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::101:101",
            "2001:db8::1",
            "2002:a00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ];
        for ip in not {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn what_leads_no_further_than_this_host_is_near() {
        let near = [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.251",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "fe80::1",
            "ff02::1",
        ];
        for ip in near {
            assert!(is_near(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["10.77.0.9", "192.0.2.1", "1.1.1.1", "2001:db8::1"] {
            assert!(!is_near(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_route_is_asked_of_the_kernel() {
        assert!(is_reachable(Ipv4Addr::new(192, 0, 2, 1).into()));
        // Addresses of documents are routed nowhere, but by a default route.
        let loopback = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        assert_eq!(is_reachable(Ipv6Addr::LOCALHOST.into()), loopback);
    }
}
