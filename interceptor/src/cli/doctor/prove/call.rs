//! The calls that the ways out are made of; each fails as the kernel says, and none is made outside of a scope
//! that was made for it.

#![expect(unsafe_code, reason = "odd sockets and odd calls have no safe wrapper")]

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::sys::socket::{SockaddrLike as _, SockaddrStorage};

/// A socket of any family.
pub(super) fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: three numbers.
    descriptor(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }.into())
}

/// Connects, to whatever address.
pub(super) fn connect(socket: &OwnedFd, to: &SockaddrStorage) -> io::Result<()> {
    patient(socket)?;
    // SAFETY: the address is as long as it says.
    done(unsafe { libc::connect(socket.as_raw_fd(), to.as_ptr(), to.len()) }.into())
}

/// Unbinds a socket from where it is connected to.
pub(super) fn disconnect(socket: &OwnedFd) -> io::Result<()> {
    let nowhere = [0_u8; 16];
    // SAFETY: sixteen zero bytes are an address of `AF_UNSPEC`.
    done(unsafe { libc::connect(socket.as_raw_fd(), nowhere.as_ptr().cast(), 16) }.into())
}

/// Sends what stands in `words`.
pub(super) fn send(socket: &OwnedFd, words: &[u8]) -> io::Result<()> {
    patient(socket)?;
    // SAFETY: the bytes are as many as it says.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            words.as_ptr().cast(),
            words.len(),
            libc::MSG_NOSIGNAL,
        )
    };
    done(i64::try_from(sent).unwrap_or(-1))
}

/// Sends with an address and flags.
pub(super) fn send_to(
    socket: &OwnedFd,
    words: &[u8],
    flags: i32,
    to: &SockaddrStorage,
) -> io::Result<()> {
    patient(socket)?;
    // SAFETY: bytes and address are as long as they say.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            words.as_ptr().cast(),
            words.len(),
            flags | libc::MSG_NOSIGNAL,
            to.as_ptr(),
            to.len(),
        )
    };
    done(i64::try_from(sent).unwrap_or(-1))
}

/// Sets an option.
pub(super) fn option(socket: &OwnedFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the value is as long as it says.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            length,
        )
    };
    done(set.into())
}

/// Binds.
pub(super) fn bind(socket: &OwnedFd, at: &SockaddrStorage) -> io::Result<()> {
    // SAFETY: the address is as long as it says.
    done(unsafe { libc::bind(socket.as_raw_fd(), at.as_ptr(), at.len()) }.into())
}

/// Has a socket be connected to.
pub(super) fn listen(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: two numbers.
    done(unsafe { libc::listen(socket.as_raw_fd(), 64) }.into())
}

/// Nothing waits longer than two seconds for an end that does not answer.
fn patient(socket: &OwnedFd) -> io::Result<()> {
    let two = libc::timeval {
        tv_sec: 2,
        tv_usec: 0,
    };
    // SAFETY: the value is of the type that is asked for.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            (&raw const two).cast(),
            libc::socklen_t::try_from(size_of_val(&two)).unwrap_or(0),
        )
    };
    done(set.into())
}

/// Any system call, by its number and what it takes.
pub(super) fn any(number: libc::c_long, arguments: [u64; 5]) -> io::Result<u64> {
    let [one, two, three, four, five] = arguments;
    // SAFETY: callers give numbers, and addresses of what outlives the call.
    let answer = unsafe { libc::syscall(number, one, two, three, four, five) };
    u64::try_from(answer).map_err(|_negative| io::Error::last_os_error())
}

/// The address of something, for [`any`].
pub(super) fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of).expose_provenance() as u64
}

/// The address of bytes, for [`any`].
pub(super) fn address_of(bytes: &[u8]) -> u64 {
    bytes.as_ptr().expose_provenance() as u64
}

/// A descriptor by its number, which nobody else holds.
pub(super) fn descriptor(answer: i64) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(answer).unwrap_or(-1);
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone, or our parent left it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Does something in a child, which is needed where it cannot be taken back.
pub(super) fn in_child(attempt: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        let code = match attempt() {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO) & 0xff,
        };
        // SAFETY: ends the child at once, without what its parent left behind.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: a number and a place for one.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    if waited != child || !libc::WIFEXITED(status) {
        return Err(io::Error::other("the child was ended"));
    }
    match libc::WEXITSTATUS(status) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

fn done(answer: i64) -> io::Result<()> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// An internet address.
pub(super) fn inet(to: SocketAddr) -> SockaddrStorage {
    match to {
        SocketAddr::V4(to) => four(to),
        SocketAddr::V6(to) => SockaddrStorage::from(SocketAddrV6::new(*to.ip(), to.port(), 0, 0)),
    }
}

fn four(to: SocketAddrV4) -> SockaddrStorage {
    SockaddrStorage::from(to)
}

/// A UNIX socket's address: its path, or its abstract name behind an `@`.
pub(super) fn unix(name: &str) -> io::Result<Unix> {
    let mut address = Unix {
        family: 1,
        path: [0; 108],
        length: 0,
    };
    let is_abstract = name.starts_with('@');
    for (to, from) in address.path.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    if let Some(first) = address.path.first_mut()
        && is_abstract
    {
        *first = 0;
    }
    let length = name.len() + usize::from(!is_abstract) + 2;
    if length > 110 {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    address.length = u32::try_from(length).unwrap_or(0);
    Ok(address)
}

/// See [`unix`].
#[repr(C)]
pub(super) struct Unix {
    family: u16,
    path: [u8; 108],
    length: u32,
}

impl Unix {
    /// Connects and sends.
    pub(super) fn say(&self, kind: i32, words: &[u8]) -> io::Result<()> {
        let socket = socket(libc::AF_UNIX, kind, 0)?;
        self.connect(&socket)?;
        send(&socket, words)
    }

    fn connect(&self, socket: &OwnedFd) -> io::Result<()> {
        patient(socket)?;
        // SAFETY: family and path lie one behind the other, and are at least as long as it says.
        let answer = unsafe {
            libc::connect(
                socket.as_raw_fd(),
                std::ptr::from_ref(self).cast(),
                self.length,
            )
        };
        done(answer.into())
    }

    /// Sends a datagram that names where it goes.
    pub(super) fn post(&self, words: &[u8]) -> io::Result<()> {
        let socket = socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
        // SAFETY: bytes and address are at least as long as they say.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                words.as_ptr().cast(),
                words.len(),
                libc::MSG_NOSIGNAL,
                std::ptr::from_ref(self).cast(),
                self.length,
            )
        };
        done(i64::try_from(sent).unwrap_or(-1))
    }
}
