//! Whose the other end of a connection is, where that is on this host: what the kernel keeps of the socket
//! (sock_diag(7)). TCP has no peer credentials.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendmsg, socket,
};

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h; the answer has the same number.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of linux/netlink.h.
const REQUEST: u16 = 1;
/// Bytes of `struct nlmsghdr`, and of `struct inet_diag_req_v2` behind it.
const HEADER: usize = 16;
const QUESTION: usize = 56;
/// Where an answer has its user and its file's number (`struct inet_diag_msg` behind the header); what lives on without
/// its process has none.
const USER: usize = HEADER + 4 + 48 + 12;
const INODE: usize = USER + 4;

/// The user who made the socket at `peer` that is connected to `own`; `None` where there is none on this host, or
/// not any more.
///
/// # Errors
/// Where the kernel cannot be asked.
pub fn owner(own: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    let asks: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkSockDiag,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    let question = question(canonical(own), canonical(peer));
    let parts = [IoSlice::new(&question)];
    let none = MsgFlags::empty();
    sendmsg(asks.as_raw_fd(), &parts, &[], none, Some(&kernel))?;
    // It was answered within the call above.
    let mut answer = [0; 1_024];
    let read = recv(asks.as_raw_fd(), &mut answer, none)?;
    Ok(user(answer.get(..read).unwrap_or_default()))
}

/// The address of a socket that speaks both protocols, as the other end has it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// One socket by its addresses, in any state.
fn question(own: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + QUESTION);
    let length = u32::try_from(HEADER + QUESTION).unwrap_or_default();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // Its number, and whose it is: ours.
    bytes.extend([0; 8]);
    let family = match peer.ip() {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    let byte = |number: i32| u8::try_from(number).unwrap_or_default();
    bytes.extend([byte(family), byte(libc::IPPROTO_TCP), 0, 0]);
    // In any state.
    bytes.extend(u32::MAX.to_ne_bytes());
    // `struct inet_diag_sockid`: as the other end has it, in the order of the network.
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(own.port().to_be_bytes());
    for ip in [peer.ip(), own.ip()] {
        match ip {
            IpAddr::V4(ip) => {
                bytes.extend(ip.octets());
                bytes.extend([0; 12]);
            }
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    // By any interface, and whichever it is (`INET_DIAG_NOCOOKIE`).
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    bytes
}

/// The user in an answer.
fn user(answer: &[u8]) -> Option<u32> {
    let kind = answer.get(4..6)?;
    // A socket that a process has, has a file, also while it is closed in one direction.
    let file = answer.get(INODE..INODE + 4)?;
    if kind != BY_FAMILY.to_ne_bytes() || file == [0; 4] {
        return None;
    }
    let user = answer.get(USER..USER + 4)?;
    Some(u32::from_ne_bytes(user.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use super::*;

    fn own() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a peer of the test's own, which no scope knows"
    )]
    #[test]
    fn a_connection_on_this_host_is_of_who_made_it_as_long_as_it_is_open() {
        let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST);
        for (listen, dial) in [
            (v4, v4),
            (v6.into(), v6.into()),
            (Ipv6Addr::UNSPECIFIED.into(), v4),
        ] {
            let listener = TcpListener::bind((listen, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let stream = TcpStream::connect((dial, port)).unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            let at = accepted.local_addr().unwrap();
            assert_eq!(owner(at, peer).unwrap(), Some(own()), "{listen} {dial}");
            // The other way round it is the same user's, another port nobody's.
            assert_eq!(owner(peer, at).unwrap(), Some(own()));
            let nobody = SocketAddr::new(peer.ip(), 1);
            assert_eq!(owner(at, nobody).unwrap(), None);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(owner(at, peer).unwrap(), Some(own()), "half closed");
            drop(stream);
            assert_eq!(owner(at, peer).unwrap(), None);
        }
    }

    #[test]
    fn what_is_no_answer_names_nobody() {
        for answer in [&[][..], &[0; 16], &[0xff; 64]] {
            assert_eq!(user(answer), None);
        }
    }
}
