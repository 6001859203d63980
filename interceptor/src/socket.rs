//! Socket options, and the one way in which the daemon dials.
//!
//! Upstream sockets are made in the daemon's own network namespace; in a client's only where the caller
//! asks for it, which the target's `namespace: client` does. The daemon's cgroup is in no scope, so
//! none of its dials is ever captured; it marks nothing and needs no loop filter.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::capture::NetnsCookie;

/// Idle time before the first keepalive probe, and between probes.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Probes without an answer after which a peer is dead.
const PROBES: u32 = 4;

/// How long sent bytes may stay unacknowledged before the connection is given up (`TCP_USER_TIMEOUT`).
const USER_TIMEOUT: Duration = Duration::from_secs(120);

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be made.
    #[error("make a socket for {address}: {source}")]
    Make {
        /// Where it was to go.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The client's network namespace could not be entered, or is no longer the one that it
    /// connected from.
    #[error("enter the client's network namespace to dial {address}: {source}")]
    Namespace {
        /// Where it was to go.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The upstream did not take the connection.
    #[error("dial {address}: {source}")]
    Dial {
        /// Where.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The upstream did not answer in time.
    #[error("dial {address}: no answer in {} s", timeout.as_secs())]
    Timeout {
        /// Where.
        address: SocketAddr,
        /// How long was waited.
        timeout: Duration,
    },
}

/// From which network namespace to dial.
#[derive(Clone, Copy, Debug)]
pub enum From<'a> {
    /// The daemon's own.
    Daemon,
    /// The one that a process lives in.
    Process {
        /// The process, as a pidfd.
        process: BorrowedFd<'a>,
        /// The namespace that the kernel stamped at its connect; another one is refused, since a
        /// process may have moved meanwhile.
        netns: NetnsCookie,
    },
}

/// Connects to `address`, with [`tune`]d options.
///
/// # Errors
/// Where the socket cannot be made, the upstream refuses, or does not answer within `timeout`.
/// Cancelled, the connection is closed.
pub async fn dial(
    address: SocketAddr,
    from: From<'_>,
    timeout: Duration,
) -> Result<TcpStream, Error> {
    let socket = match from {
        From::Daemon => make(address)?,
        From::Process { process, netns } => make_inside(address, process, netns)?,
    };
    let socket = TcpSocket::from_std_stream(socket.into());
    let dialled = tokio::time::timeout(timeout, socket.connect(address)).await;
    let stream = dialled
        .map_err(|_elapsed| Error::Timeout { address, timeout })?
        .map_err(|source| Error::Dial { address, source })?;
    tune(&stream).map_err(|source| Error::Make { address, source })?;
    Ok(stream)
}

/// What every connection of the daemon is set to: no delay, keepalive, and a bound on how long a dead
/// peer goes unnoticed.
///
/// # Errors
/// Where the kernel refuses an option.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE)
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Has the next close send a reset instead of an end of stream: what a client must see where the
/// upstream could not be reached.
///
/// # Errors
/// Where the kernel refuses the option.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn make(address: SocketAddr) -> Result<Socket, Error> {
    open(address).map_err(|source| Error::Make { address, source })
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking();
    Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
}

/// A socket stays in the namespace that it was made in; the thread that made it ends.
fn make_inside(
    address: SocketAddr,
    process: BorrowedFd<'_>,
    netns: NetnsCookie,
) -> Result<Socket, Error> {
    let process = process.try_clone_to_owned();
    let made = process.and_then(|process| {
        let run = move || {
            setns(process.as_fd(), CloneFlags::CLONE_NEWNET)?;
            let socket = open(address)?;
            if crate::capture::netns_of(&socket)? != netns {
                return Err(io::Error::other(
                    "it is not the one that the client connected from",
                ));
            }
            Ok(socket)
        };
        let done = thread::scope(|scope| scope.spawn(run).join());
        done.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    });
    made.map_err(|source| Error::Namespace { address, source })
}

#[cfg(test)]
mod tests;
