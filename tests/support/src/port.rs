//! Ports of loopback for the servers of tests.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Context as _;

/// Where the search begins, far from what servers are usually given.
const FIRST: u16 = 18_000;
/// How many ports are looked through. All lie below the ports that the kernel gives to clients
/// (`net.ipv4.ip_local_port_range`, from 32,768), so that nobody's outgoing connection takes one
/// between the answer and the server's bind.
const COUNT: u16 = 14_000;

/// How many answers were given here: no two tests of one process are given one port.
static GIVEN: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 that was free for TCP and UDP a moment ago.
///
/// # Errors
/// When none is.
pub fn free() -> anyhow::Result<SocketAddr> {
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = u32::from(GIVEN.fetch_add(1, Ordering::Relaxed)).wrapping_add(start);
        let offset = u16::try_from(step % u32::from(COUNT)).context("choose a port")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no port of 127.0.0.1 from {FIRST} on is free")
}

/// A test's own connection, outside of every scope.
///
/// # Errors
/// When nobody answers.
pub fn dial(address: impl std::net::ToSocketAddrs) -> std::io::Result<std::net::TcpStream> {
    std::net::TcpStream::connect(address)
}
