//! Socket options, and the one way in which the daemon dials.
//!
//! Upstream sockets are made in the daemon's own network namespace; in a client's only where the caller
//! asks for it, which the target's `namespace: client` does. The daemon's cgroup is in no scope, so
//! none of its dials is ever captured; it marks nothing and needs no loop filter.

mod owner;
mod place;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

pub use self::owner::owner;
pub use self::place::{Place, SocketPath};
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
        address: Box<Place>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The client's network namespace could not be entered, or is no longer the one that it
    /// connected from.
    #[error("enter the client's network namespace to dial {address}: {source}")]
    Namespace {
        /// Where it was to go.
        address: Box<Place>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The upstream did not take the connection.
    #[error("dial {address}: {source}")]
    Dial {
        /// Where.
        address: Box<Place>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Whoever listens at a UNIX socket is not whose directory it lies in.
    #[error(
        "dial {address}: user {listener} listens there, and the socket's directory is user {owner}'s: give the server a directory of its own"
    )]
    Stranger {
        /// Where.
        address: Box<Place>,
        /// Who listens.
        listener: u32,
        /// Whose the directory is.
        owner: u32,
    },
    /// The upstream did not answer in time.
    #[error("dial {address}: no answer in {} s", timeout.as_secs())]
    Timeout {
        /// Where.
        address: Box<Place>,
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
        .map_err(|_elapsed| Error::Timeout {
            address: at(address),
            timeout,
        })?
        .map_err(|source| Error::Dial {
            address: at(address),
            source,
        })?;
    tune(&stream).map_err(|source| Error::Make {
        address: at(address),
        source,
    })?;
    Ok(stream)
}

/// Connects to a UNIX socket, by the daemon's own mounts. Whoever listens there must be root, or whose the
/// socket's directory is: in a directory of everybody's, anybody could.
///
/// # Errors
/// Where nobody listens, somebody else does, or it does not answer within `timeout`.
pub async fn dial_path(path: SocketPath, timeout: Duration) -> Result<TcpStream, Error> {
    let address = Place::Unix(path);
    let failed = |source| Error::Dial {
        address: at(address),
        source,
    };
    let dialled = tokio::time::timeout(timeout, UnixStream::connect(path.as_str())).await;
    let stream = dialled
        .map_err(|_elapsed| Error::Timeout {
            address: at(address),
            timeout,
        })?
        .map_err(failed)?;
    let directory = std::path::Path::new(path.as_str()).parent();
    let directory = directory.map(std::fs::metadata).transpose();
    let owner = directory.map_err(failed)?.map_or(0, |found| found.uid());
    let listener = getsockopt(&stream, sockopt::PeerCredentials)
        .map_err(|errno| failed(errno.into()))?
        .uid();
    if listener != 0 && listener != owner {
        return Err(Error::Stranger {
            address: at(address),
            listener,
            owner,
        });
    }
    stream.into_std().and_then(adopt).map_err(failed)
}

/// Takes a connected UNIX socket as what the engines read and write. A stream is a stream: only options and
/// addresses differ, and those are asked for in this module.
///
/// # Errors
/// Outside a runtime.
pub fn adopt(stream: std::os::unix::net::UnixStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(OwnedFd::from(stream).into())
}

/// Whether a stream is a UNIX socket.
#[must_use]
pub fn is_unix(stream: &TcpStream) -> bool {
    let own = SockRef::from(stream).local_addr();
    own.is_ok_and(|own| own.is_unix())
}

/// Where the other end of a stream is.
///
/// # Errors
/// Where it is connected no more, or has no name.
pub fn peer(stream: &TcpStream) -> io::Result<Place> {
    let other = SockRef::from(stream).peer_addr()?;
    let path = other.as_pathname().and_then(std::path::Path::to_str);
    let path = path.and_then(SocketPath::new).map(Place::Unix);
    let inet = other.as_socket().map(Place::Inet);
    path.or(inet)
        .ok_or_else(|| io::Error::other("the other end has no name"))
}

/// What every connection of the daemon is set to: no delay, keepalive, and a bound on how long a dead
/// peer goes unnoticed.
///
/// # Errors
/// Where the kernel refuses an option.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    if is_unix(stream) {
        // Nothing is delayed there, and no peer dies unnoticed.
        return Ok(());
    }
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

/// Where something failed: errors stay small.
fn at(address: impl Into<Place>) -> Box<Place> {
    Box::new(address.into())
}

fn make(address: SocketAddr) -> Result<Socket, Error> {
    open(address).map_err(|source| Error::Make {
        address: at(address),
        source,
    })
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
    made.map_err(|source| Error::Namespace {
        address: at(address),
        source,
    })
}

#[cfg(test)]
mod tests;
