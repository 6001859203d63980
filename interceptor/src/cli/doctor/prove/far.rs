//! The far ends: listeners of every kind outside of every scope, and what has arrived at them.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::ReusePort;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    SockaddrIn, bind, recvmsg, sendmsg, setsockopt, socket,
};
use nix::unistd::{Uid, fchown};

/// Most bytes that are looked at of one connection.
const MOST: u64 = 4096;

/// Listeners, open to everybody.
pub(super) struct Far {
    tcp: TcpListener,
    udp: UdpSocket,
    shared: (TcpListener, UdpSocket),
    stream: UnixListener,
    datagram: UnixDatagram,
    hidden: UnixListener,
    directory: PathBuf,
    accepted: Vec<TcpStream>,
}

impl Far {
    /// Opens them; the sockets with names lie in a directory of their own.
    /// Those with ports that are shared are the user's.
    pub(super) fn open(nonce: &str, hidden: &str, user: Uid) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("interceptor-proof-{nonce}"));
        fs::create_dir(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777))?;
        let every = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let stream = UnixListener::bind(directory.join("stream"))?;
        let datagram = UnixDatagram::bind(directory.join("datagram"))?;
        for name in ["stream", "datagram"] {
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o777))?;
        }
        let hidden = UnixAddress::from_abstract_name(hidden.trim_start_matches('@'))?;
        let far = Self {
            tcp: TcpListener::bind(every).or_else(|_no_ipv6| TcpListener::bind("0.0.0.0:0"))?,
            udp: UdpSocket::bind(every).or_else(|_no_ipv6| UdpSocket::bind("0.0.0.0:0"))?,
            shared: (
                shared(SockType::Stream, user)?.into(),
                shared(SockType::Datagram, user)?.into(),
            ),
            stream,
            datagram,
            hidden: UnixListener::bind_addr(&hidden)?,
            directory,
            accepted: Vec::new(),
        };
        far.tcp.set_nonblocking(true)?;
        far.udp.set_nonblocking(true)?;
        far.stream.set_nonblocking(true)?;
        far.datagram.set_nonblocking(true)?;
        far.hidden.set_nonblocking(true)?;
        Ok(far)
    }

    /// Where the sockets with names lie.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The ports of TCP and UDP.
    pub(super) fn ports(&self) -> io::Result<(u16, u16)> {
        Ok((self.tcp.local_addr()?.port(), self.udp.local_addr()?.port()))
    }

    /// Those that are shared.
    pub(super) fn shared_ports(&self) -> io::Result<(u16, u16)> {
        let (tcp, udp) = &self.shared;
        Ok((tcp.local_addr()?.port(), udp.local_addr()?.port()))
    }

    /// A connection to the far end that is made here, outside.
    #[expect(
        clippy::disallowed_methods,
        reason = "to our own listener, from outside of every scope"
    )]
    pub(super) fn connection(&self) -> anyhow::Result<OwnedFd> {
        let at = SocketAddr::from(([127, 0, 0, 1], self.ports()?.0));
        let client = TcpStream::connect(at).context("cannot reach the far end")?;
        Ok(client.into())
    }

    /// Hands a socket over to whoever waits for one in the directory: one that is connected, or one that is not yet.
    pub(super) fn give(&self, is_connected: bool) -> anyhow::Result<()> {
        let socket = match is_connected {
            true => self.connection()?,
            false => socket(
                AddressFamily::Inet,
                SockType::Stream,
                SockFlag::SOCK_CLOEXEC,
                None,
            )?,
        };
        let to = UnixStream::connect(self.directory.join("receive"))?;
        let fds = [socket.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let words = [IoSlice::new(b"x")];
        sendmsg::<()>(
            to.as_raw_fd(),
            &words,
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// Everything that has arrived, whose senders have ended, as one text.
    pub(super) fn heard(&mut self) -> String {
        let mut heard = Vec::new();
        for listener in [&self.tcp, &self.shared.0] {
            while let Ok((client, _)) = listener.accept() {
                self.accepted.push(client);
            }
        }
        for client in &mut self.accepted {
            listen(client, client_is_patient, &mut heard);
        }
        for listener in [&self.stream, &self.hidden] {
            while let Ok((mut client, _)) = listener.accept() {
                listen(
                    &mut client,
                    |client| client.set_nonblocking(true),
                    &mut heard,
                );
            }
        }
        let mut bytes = [0; 2048];
        for socket in [&self.udp, &self.shared.1] {
            while let Ok(read) = socket.recv(&mut bytes) {
                heard.extend_from_slice(bytes.get(..read).unwrap_or_default());
                heard.push(b'\n');
            }
        }
        while let Ok(read) = self.datagram.recv(&mut bytes) {
            heard.extend_from_slice(bytes.get(..read).unwrap_or_default());
            heard.push(b'\n');
        }
        String::from_utf8_lossy(&heard).into_owned()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // It lies in the directory for temporary files, where somebody else would find it sooner or later.
        let _kept = fs::remove_dir_all(&self.directory);
    }
}

/// A socket on a port of loopback that others of the same user may share.
fn shared(kind: SockType, user: Uid) -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    fchown(&socket, Some(user), None).context("cannot make a socket the user's")?;
    setsockopt(&socket, ReusePort, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    if kind == SockType::Stream {
        nix::sys::socket::listen(&socket, Backlog::new(64)?)?;
    }
    Ok(socket)
}

fn client_is_patient(client: &TcpStream) -> io::Result<()> {
    client.set_nonblocking(true)
}

fn listen<S: Read>(client: &mut S, prepare: impl Fn(&S) -> io::Result<()>, heard: &mut Vec<u8>) {
    if prepare(client).is_ok() {
        // An end without words, and one that is still open, are both read as far as they go.
        let _open = client.take(MOST).read_to_end(heard);
        heard.push(b'\n');
    }
}

/// Waits for somebody who hands over a socket.
pub(super) fn receive(listener: &UnixListener) -> io::Result<OwnedFd> {
    wait(listener.as_fd())?;
    let (stream, _) = listener.accept()?;
    wait(stream.as_fd())?;
    let mut byte = [0];
    let mut words = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([std::os::fd::RawFd; 1]);
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut words,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            return own(*fd);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

#[expect(
    unsafe_code,
    reason = "descriptors that the kernel has just made for us"
)]
fn own(fd: std::os::fd::RawFd) -> io::Result<OwnedFd> {
    // SAFETY: it has come with the message, and nobody else holds it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn wait(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    let mut waiting = [PollFd::new(fd, PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(3000_u16))? {
        0 => Err(io::Error::from(io::ErrorKind::TimedOut)),
        _ => Ok(()),
    }
}
