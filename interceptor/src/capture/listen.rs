//! The daemon's listeners: one pair on loopback in each network namespace that has scopes.
//!
//! Their ports are ones that ordinary users cannot bind, and the same after a restart. Each socket is
//! marked before it listens: the mark is how the programs know a listener that is really ours, and
//! what an accepted socket knows its namespace by.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use aya::maps::{MapData, MapError, SkStorage};
use interceptor_ebpf::flow::{DAEMON, Endpoint, Mark};
use interceptor_ebpf::{MAX_NAMESPACES, MAX_RESOLVERS, scope as abi};
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};

use super::rules::address;
use super::{Capture, Error, NetnsCookie, Scope, map_error, syscall};

/// Ports below this one are left to services with a name.
const LOWEST: u16 = 512;

/// From here on, 39 ports have no name in the IANA's registry.
const QUIET: u16 = 914;

/// Where ordinary users' ports begin, when the kernel does not say (Linux's default).
const UNPRIVILEGED: u16 = 1024;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// The daemon's listeners in one network namespace. Dropped, the namespace's connects are refused.
#[derive(Debug)]
pub struct Listeners {
    /// The namespace.
    pub netns: NetnsCookie,
    /// On `127.0.0.1`. Non-blocking.
    pub v4: TcpListener,
    /// On `::1`, where the namespace has one. Non-blocking.
    pub v6: Option<TcpListener>,
    /// The name servers. Non-blocking.
    pub names: Vec<NameServer>,
}

/// A socket that scopes' questions to one resolver come in by.
#[derive(Debug)]
pub struct NameServer {
    /// The resolver's slot; see [`Capture::asked`].
    pub slot: u32,
    /// Bound to an address of its own.
    pub socket: UdpSocket,
}

impl Capture {
    /// Binds the listeners of the daemon's own namespace, on the ports of the start before.
    ///
    /// # Errors
    /// Where no port is free, or another daemon holds the pinned ones.
    pub fn listeners(&self) -> Result<Listeners, Error> {
        let pair = Pair::bind(&self.marks, |cookie| self.pinned_ports(cookie), self.port)?;
        self.publish(pair)
    }

    /// Binds listeners in the namespace of a process, by its pidfd. None where there are some already:
    /// those of the daemon's own namespace, or from a call before that are still published.
    ///
    /// # Errors
    /// Where the process is gone, no port is free, or too many namespaces have listeners.
    pub fn provision(&self, process: BorrowedFd<'_>) -> Result<Option<Listeners>, Error> {
        let process = process.try_clone_to_owned().map_err(Error::Namespace)?;
        let cookie = inside(process.as_fd(), || netns_cookie(&self.marks))??;
        if self.pinned_ports(cookie.0).is_some() {
            return Ok(None);
        }
        let port = self.port;
        let bind = || {
            let pair = Pair::bind(&self.marks, |_| None, port)?;
            Ok::<_, Error>((pair, netns_inode()?))
        };
        let (pair, inode) = inside(process.as_fd(), bind)??;
        let cookie = pair.cookie;
        let listeners = self.publish(pair)?;
        self.provisioned().insert(cookie, inode);
        Ok(Some(listeners))
    }

    /// Unpublishes the listeners of a namespace; its connects are refused until it is provisioned anew.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn retire(&self, netns: NetnsCookie) -> Result<(), Error> {
        self.provisioned().remove(&netns);
        match self.tables().listeners.remove(&netns.0) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(source) => Err(map_error("write", "LISTENERS")(source)),
        }
    }

    /// Namespaces that have listeners.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn namespaces(&self) -> Result<Vec<NetnsCookie>, Error> {
        let keys: Result<Vec<u64>, _> = self.tables().listeners.keys().collect();
        let keys = keys.map_err(map_error("read", "LISTENERS"))?;
        Ok(keys.into_iter().map(NetnsCookie).collect())
    }

    /// Namespaces, other than the daemon's own, that no process of a scope lives in any more. Their
    /// listeners keep them alive: [`Capture::retire`] them and drop their [`Listeners`]. A scope whose
    /// processes cannot be told is handed to `unread`: those made for it may well be lived in.
    ///
    /// # Errors
    /// Where the scopes cannot be read.
    pub fn idle_namespaces(
        &self,
        mut unread: impl FnMut(&Scope, &Error),
    ) -> Result<Vec<NetnsCookie>, Error> {
        let mut inhabited = HashSet::new();
        for scope in self.scopes()? {
            let processes = match self.hierarchy.processes(&scope.path) {
                Ok(processes) => processes,
                Err(error) => {
                    unread(&scope, &error);
                    continue;
                }
            };
            for pid in processes {
                // A process that is gone meanwhile inhabits nothing.
                inhabited
                    .extend(fs::metadata(format!("/proc/{pid}/ns/net")).map(|file| file.ino()));
            }
        }
        let provisioned = self.provisioned();
        let idle = provisioned
            .iter()
            .filter(|(_, inode)| !inhabited.contains(inode));
        Ok(idle.map(|(cookie, _)| *cookie).collect())
    }

    /// The namespaces that [`Capture::provision`] bound listeners in, by the inode of their file.
    fn provisioned(&self) -> MutexGuard<'_, HashMap<NetnsCookie, u64>> {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the rows of namespaces that an earlier start served: their listeners died with it, and a
    /// refusal for an unknown namespace brings them back.
    pub(super) fn forget_namespaces(&self) -> Result<(), Error> {
        let own = netns_cookie(&self.marks)?;
        for other in self.namespaces()? {
            if other != own {
                self.retire(other)?;
            }
        }
        Ok(())
    }

    fn pinned_ports(&self, cookie: u64) -> Option<abi::Listeners> {
        self.tables().listeners.get(&cookie, 0).ok()
    }

    /// Marks the sockets, lets them listen, and tells the programs.
    fn publish(&self, pair: Pair) -> Result<Listeners, Error> {
        let Pair {
            cookie,
            v4,
            v6,
            names,
        } = pair;
        let mark = Mark {
            netns: cookie.0,
            kind: DAEMON,
            reserved: 0,
        };
        for bound in [Some(&v4), v6.as_ref()].into_iter().flatten() {
            self.mark(&bound.socket, mark)?;
            let listen = bound.socket.listen(BACKLOG);
            listen.map_err(listener_error(bound.address))?;
        }
        let mut row = abi::Listeners {
            port4: v4.address.port(),
            port6: v6.as_ref().map_or(0, |bound| bound.address.port()),
            ..abi::Listeners::default()
        };
        for (slot, bound) in &names {
            self.mark(&bound.socket, mark)?;
            let port = row.names6.iter_mut().zip(0_u32..);
            let own = port.filter(|(_, of)| of == slot && bound.address.is_ipv6());
            own.for_each(|(port, _)| *port = bound.address.port());
        }
        let mut tables = self.tables();
        let is_new = tables.listeners.get(&cookie.0, 0).is_err();
        let most = usize::try_from(MAX_NAMESPACES).unwrap_or(0);
        if is_new && tables.listeners.keys().count() >= most {
            return Err(Error::Full {
                what: "serve one more network namespace",
                most: MAX_NAMESPACES,
            });
        }
        tables
            .listeners
            .insert(cookie.0, row, 0)
            .map_err(map_error("write", "LISTENERS"))?;
        Ok(Listeners {
            netns: cookie,
            v4: v4.socket.into(),
            v6: v6.map(|bound| bound.socket.into()),
            names: names
                .into_iter()
                .map(|(slot, bound)| NameServer {
                    slot,
                    socket: bound.socket.into(),
                })
                .collect(),
        })
    }

    fn mark(&self, socket: &Socket, mark: Mark) -> Result<(), Error> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks
            .insert(&socket.as_raw_fd(), mark, 0)
            .map_err(map_error("write", "MARKS"))
    }
}

/// The map of the daemon's own sockets.
type Marks = Mutex<SkStorage<MapData, Mark>>;

/// A socket that is bound and does not listen yet.
struct Bound {
    socket: Socket,
    address: SocketAddr,
}

/// Both sockets of the namespace that the thread is in.
struct Pair {
    cookie: NetnsCookie,
    v4: Bound,
    v6: Option<Bound>,
    /// The name servers, with their slots.
    names: Vec<(u32, Bound)>,
}

impl Pair {
    fn bind(
        marks: &Marks,
        pinned: impl FnOnce(u64) -> Option<abi::Listeners>,
        hint: Option<u16>,
    ) -> Result<Self, Error> {
        let cookie = netns_cookie(marks)?;
        let below = unprivileged_start();
        if let Some(ports) = pinned(cookie.0) {
            let v4 = Bound::on(Ipv4Addr::LOCALHOST.into(), ports.port4)?;
            let v6 = match ports.port6 {
                0 => None,
                port => Some(Bound::on(Ipv6Addr::LOCALHOST.into(), port)?),
            };
            let names = name_servers(ports.port4, v6.is_some(), below, &ports.names6)?;
            let names = names.ok_or(Error::NoPort { below })?;
            return Ok(Self {
                cookie,
                v4,
                v6,
                names,
            });
        }
        for port in hint.into_iter().chain(candidates(below)) {
            let Some(v4) = taken(Bound::on(Ipv4Addr::LOCALHOST.into(), port))? else {
                continue;
            };
            let v6 = match Bound::on(Ipv6Addr::LOCALHOST.into(), port) {
                Err(Error::Listener { source, .. }) if lacks_v6(&source) => None,
                bound => match taken(bound)? {
                    None => continue,
                    bound => bound,
                },
            };
            let Some(names) = name_servers(port, v6.is_some(), below, &[])? else {
                continue;
            };
            return Ok(Self {
                cookie,
                v4,
                v6,
                names,
            });
        }
        Err(Error::NoPort { below })
    }
}

/// The name servers: on an address for each resolver, and on a port of `::1` for each where there is
/// one, those of before first. None where somebody has the port.
fn name_servers(
    port: u16,
    has_v6: bool,
    below: u16,
    before: &[u16],
) -> Result<Option<Vec<(u32, Bound)>>, Error> {
    let mut names = Vec::new();
    for slot in 0..MAX_RESOLVERS {
        let at = address(&Endpoint::name_server(slot, port));
        let Some(bound) = taken(Bound::to(at, Type::DGRAM))? else {
            return Ok(None);
        };
        names.push((slot, bound));
    }
    let mut ports = before.iter().copied().chain(candidates(below));
    for slot in (0..MAX_RESOLVERS).filter(|_| has_v6) {
        let bound = loop {
            let Some(port) = ports.next() else {
                return Ok(None);
            };
            let at = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
            if port != 0
                && let Some(bound) = taken(Bound::to(at, Type::DGRAM))?
            {
                break bound;
            }
        };
        names.push((slot, bound));
    }
    Ok(Some(names))
}

impl Bound {
    fn on(ip: IpAddr, port: u16) -> Result<Self, Error> {
        Self::to(SocketAddr::new(ip, port), Type::STREAM)
    }

    fn to(address: SocketAddr, kind: Type) -> Result<Self, Error> {
        let bind = || {
            let domain = Domain::for_address(address);
            let socket = Socket::new(domain, kind, None)?;
            socket.set_nonblocking(true)?;
            if kind == Type::STREAM {
                // A restart finds the port in TIME_WAIT.
                socket.set_reuse_address(true)?;
            }
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.bind(&address.into())?;
            Ok(socket)
        };
        let socket = bind().map_err(listener_error(address))?;
        Ok(Self { socket, address })
    }
}

/// The ports to try, best first. Daemons begin with different ones: two that always took the first
/// free one would take each other's as soon as one is down.
fn candidates(below: u16) -> impl Iterator<Item = u16> {
    let own = u16::try_from(std::process::id() % 39).unwrap_or_default();
    let calm = (0..39).map(move |at| QUIET + (own + at) % 39);
    calm.filter(move |port| *port < below)
        .chain((LOWEST..below).rev())
}

/// None where somebody else has the port.
fn taken(bound: Result<Bound, Error>) -> Result<Option<Bound>, Error> {
    match bound {
        Ok(bound) => Ok(Some(bound)),
        Err(Error::Listener { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn lacks_v6(error: &io::Error) -> bool {
    let without = [libc::EADDRNOTAVAIL, libc::EAFNOSUPPORT];
    error
        .raw_os_error()
        .is_some_and(|code| without.contains(&code))
}

/// Where ordinary users' ports begin in the thread's namespace. Where every port is theirs, the
/// privileged range is used all the same: scopes are kept from it by the bind hooks.
fn unprivileged_start() -> u16 {
    // Answers for the namespace of the thread that reads.
    let file = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let start = file.ok().and_then(|text| text.trim().parse().ok());
    start.unwrap_or(UNPRIVILEGED).clamp(LOWEST, UNPRIVILEGED)
}

/// The cookie of the namespace that the thread is in. Before Linux 5.14 a program writes it down as a socket is bound.
fn netns_cookie(marks: &Marks) -> Result<NetnsCookie, Error> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).map_err(Error::Namespace)?;
    let missing = match syscall::netns_cookie(&socket) {
        Ok(cookie) => return Ok(NetnsCookie(cookie)),
        Err(error) => error,
    };
    if missing.raw_os_error() != Some(libc::ENOPROTOOPT) {
        return Err(Error::Namespace(missing));
    }
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    socket.bind(&anywhere.into()).map_err(Error::Namespace)?;
    let marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
    match marks.get(&socket.as_raw_fd(), 0) {
        Ok(Mark { netns, .. }) if netns != 0 => Ok(NetnsCookie(netns)),
        _ => Err(Error::Namespace(missing)),
    }
}

/// The inode of the file of the namespace that the thread is in.
fn netns_inode() -> Result<u64, Error> {
    let file = fs::metadata("/proc/thread-self/ns/net").map_err(Error::Namespace)?;
    Ok(file.ino())
}

/// Runs `f` in the network namespace of a process, on a thread of its own that ends with it: no
/// thread of the daemon ever comes back from another namespace.
fn inside<T: Send>(process: BorrowedFd<'_>, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let process: OwnedFd = process.try_clone_to_owned().map_err(Error::Namespace)?;
    let run = move || {
        setns(&process, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
        Ok(f())
    };
    let done = thread::scope(|scope| scope.spawn(run).join());
    done.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
        .map_err(Error::Namespace)
}

fn listener_error(address: SocketAddr) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Listener { address, source }
}
