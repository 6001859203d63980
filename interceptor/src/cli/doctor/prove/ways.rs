//! Every way out, by name: one table, and what each does. All run inside a scope that was made for them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::call;
use super::limit::Limit;

/// Where the far ends are, and what else is outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ends {
    /// What every word that is sent begins with.
    pub(super) nonce: String,
    /// The port of TCP, on every address.
    pub(super) tcp: u16,
    /// The port of UDP.
    pub(super) udp: u16,
    /// Those of TCP and UDP that the far end shares with other sockets of the same user.
    pub(super) shared: (u16, u16),
    /// The directory of the sockets, where everybody may make others.
    pub(super) directory: String,
    /// A process of the same user outside, whose standard input is a socket to the far end.
    pub(super) neighbour: u32,
    /// The daemon's socket for operators.
    pub(super) control: String,
    /// The daemon's state directory, and that of its pins.
    pub(super) state: String,
    /// See `state`.
    pub(super) pins: String,
    /// Whether the kernel's LSM hooks are attached, or only those that see names.
    pub(super) guard: String,
}

/// What shows that a way is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Its words have arrived.
    Bytes,
    /// It was done at all.
    Done,
}

/// One way.
pub(super) struct Way {
    /// Its name.
    pub(super) name: &'static str,
    /// What shows that it is open.
    pub(super) shown: Shown,
    /// Where it may be.
    pub(super) limit: Limit,
    /// Whether it leads to a service that not every host has.
    pub(super) is_host_own: bool,
    /// Tries it, and sends these words.
    pub(super) run: fn(&Ends, &[u8]) -> io::Result<()>,
}

const fn bytes(name: &'static str, limit: Limit, run: fn(&Ends, &[u8]) -> io::Result<()>) -> Way {
    Way {
        name,
        shown: Shown::Bytes,
        limit,
        is_host_own: false,
        run,
    }
}

const fn done(name: &'static str, limit: Limit, run: fn(&Ends, &[u8]) -> io::Result<()>) -> Way {
    Way {
        name,
        shown: Shown::Done,
        limit,
        is_host_own: false,
        run,
    }
}

const fn door(name: &'static str, run: fn(&Ends, &[u8]) -> io::Result<()>) -> Way {
    Way {
        is_host_own: true,
        ..done(name, Door, run)
    }
}

use Limit::{
    Domain, Door, Host, Launcher, Lsm, LsmOrHost, LsmOrLauncher, Nameless, None as Never, Scoped,
};

/// All of them.
pub(super) const WAYS: &[Way] = &[
    bytes("tcp", Never, |e, w| tcp(e, w, V4, |_| Ok(()))),
    bytes("tcp over IPv6", Never, |e, w| tcp(e, w, V6, |_| Ok(()))),
    bytes("tcp to a mapped address", Never, |e, w| {
        tcp(e, w, MAPPED, |_| Ok(()))
    }),
    bytes("tcp to 0.0.0.0", Never, |e, w| tcp(e, w, EVERY, |_| Ok(()))),
    bytes("tcp to ::", Never, |e, w| tcp(e, w, EVERY6, |_| Ok(()))),
    bytes("tcp to 127.9.9.9", Never, |e, w| {
        tcp(e, w, NINE, |_| Ok(()))
    }),
    bytes("tcp bound to a device", Never, |e, w| {
        tcp(e, w, V4, |s| {
            call::option(s, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo")
        })
    }),
    bytes("tcp with a mark", Never, |e, w| {
        tcp(e, w, V4, |s| {
            unless(call::option(
                s,
                libc::SOL_SOCKET,
                libc::SO_MARK,
                &[1, 0, 0, 0],
            ))
        })
    }),
    bytes("tcp, transparent", Never, |e, w| {
        tcp(e, w, V4, |s| {
            unless(call::option(
                s,
                libc::SOL_IP,
                libc::IP_TRANSPARENT,
                &[1, 0, 0, 0],
            ))
        })
    }),
    bytes("tcp with a source route", Never, |e, w| {
        tcp(e, w, V4, |s| {
            call::option(
                s,
                libc::SOL_IP,
                libc::IP_OPTIONS,
                &[0x83, 7, 4, 127, 0, 0, 1, 0],
            )
        })
    }),
    bytes("tcp with a congestion control", Never, |e, w| {
        tcp(e, w, V4, |s| {
            unless(call::option(
                s,
                libc::SOL_TCP,
                libc::TCP_CONGESTION,
                b"reno",
            ))
        })
    }),
    bytes("tcp, fast open by connect", Never, |e, w| {
        tcp(e, w, V4, |s| {
            call::option(s, libc::SOL_TCP, libc::TCP_FASTOPEN_CONNECT, &[1, 0, 0, 0])
        })
    }),
    bytes("tcp, fast open by send", Never, |e, w| {
        call::send_to(
            &stream()?,
            w,
            libc::MSG_FASTOPEN,
            &call::inet(at(V4, e.tcp)),
        )
    }),
    bytes("tcp from a bound port", Never, |e, w| {
        tcp(e, w, V4, |s| call::bind(s, &call::inet(at(V4, 0))))
    }),
    bytes("tcp, connected again", Never, again),
    bytes("tcp to a port that is shared", Never, |e, w| {
        beside(libc::SOCK_STREAM, e.shared.0, w)
    }),
    bytes("mptcp", Never, |e, w| {
        let socket = call::socket(libc::AF_INET, libc::SOCK_STREAM, 262)?;
        call::connect(&socket, &call::inet(at(V4, e.tcp)))?;
        call::send(&socket, w)
    }),
    bytes("tcp from a child", Never, |e, w| {
        call::in_child(|| tcp(e, w, V4, |_| Ok(())))
    }),
    bytes("tcp from a thread", Never, from_thread),
    bytes("tcp from a user namespace", Never, |e, w| {
        call::in_child(|| {
            unless(unshare(libc::CLONE_NEWUSER)).and_then(|()| tcp(e, w, V4, |_| Ok(())))
        })
    }),
    bytes("tcp from a cgroup namespace", Never, |e, w| {
        let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWCGROUP;
        call::in_child(|| unless(unshare(flags)).and_then(|()| tcp(e, w, V4, |_| Ok(()))))
    }),
    bytes("tcp from the neighbour's namespaces", Never, |e, w| {
        call::in_child(|| joined(e, w))
    }),
    bytes("tcp after leaving the cgroup", Never, |e, w| {
        call::in_child(|| moved(e, w))
    }),
    bytes("tcp by a ring of io_uring", Never, by_ring),
    bytes("udp", Never, |e, w| udp(e, w, V4, |_| Ok(()))),
    bytes("udp over IPv6", Never, |e, w| udp(e, w, V6, |_| Ok(()))),
    bytes("udp to a mapped address", Never, |e, w| {
        udp(e, w, MAPPED, |_| Ok(()))
    }),
    bytes("udp to 0.0.0.0", Never, |e, w| udp(e, w, EVERY, |_| Ok(()))),
    bytes("udp, connected", Never, |e, w| {
        let socket = call::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        call::connect(&socket, &call::inet(at(V4, e.udp)))?;
        call::send(&socket, w)
    }),
    bytes("udp to a port that is shared", Never, |e, w| {
        beside(libc::SOCK_DGRAM, e.shared.1, w)
    }),
    bytes("udp to everybody, connected", Never, |e, w| {
        let socket = call::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        call::option(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST, &[1, 0, 0, 0])?;
        call::connect(&socket, &call::inet(at(EVERYBODY, e.udp)))?;
        call::send(&socket, w)
    }),
    done("joining a group of receivers", Never, |_, _| {
        let socket = call::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        // 224.0.0.251, on loopback.
        let group = [224, 0, 0, 251, 127, 0, 0, 1];
        call::option(&socket, libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &group)
    }),
    bytes("udp with options", Never, |e, w| {
        udp(e, w, V4, |s| {
            call::option(s, libc::SOL_IP, libc::IP_OPTIONS, &[1, 1, 1, 0])
        })
    }),
    bytes("udp in segments", Never, |e, w| {
        udp(e, w, V4, |s| {
            unless(call::option(s, libc::SOL_UDP, 103, &[16, 0, 0, 0]))
        })
    }),
    bytes("udp without a checksum", Never, |e, w| {
        udp(e, w, V4, |s| {
            call::option(s, libc::SOL_SOCKET, libc::SO_NO_CHECK, &[1, 0, 0, 0])
        })
    }),
    bytes("udplite", Never, |e, w| {
        let socket = call::socket(libc::AF_INET, libc::SOCK_DGRAM, 136)?;
        call::send_to(&socket, w, 0, &call::inet(at(V4, e.udp)))
    }),
    done("ping", Never, |_, w| {
        let socket = call::socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
        let echo: Vec<u8> = [8, 0, 0, 0, 0, 0, 0, 1].iter().chain(w).copied().collect();
        call::send_to(&socket, &echo, 0, &call::inet(at(V4, 0)))
    }),
    done("raw ip", Never, |_, _| {
        made(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)
    }),
    done("raw icmp", Never, |_, _| {
        made(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
    }),
    done("raw ip over IPv6", Never, |_, _| {
        made(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW)
    }),
    done("raw ip in a user namespace", Never, |_, _| {
        let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNET;
        call::in_child(|| unshare(flags).and_then(|()| made(libc::AF_INET, libc::SOCK_RAW, 255)))
    }),
    done("sctp", Never, |_, _| {
        made(libc::AF_INET, libc::SOCK_STREAM, 132)
    }),
    done("dccp", Never, |_, _| made(libc::AF_INET, 6, 33)),
    done("l2tp", Never, |_, _| {
        made(libc::AF_INET, libc::SOCK_DGRAM, 115)
    }),
    done("packet", LsmOrLauncher, |_, _| {
        made(libc::AF_PACKET, libc::SOCK_RAW, 0)
    }),
    done("vsock", LsmOrLauncher, |_, _| {
        made(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
    }),
    done("xdp", LsmOrLauncher, |_, _| {
        made(libc::AF_XDP, libc::SOCK_RAW, 0)
    }),
    done("smc", LsmOrLauncher, |_, _| made(43, libc::SOCK_STREAM, 0)),
    done("tipc", LsmOrLauncher, |_, _| {
        made(libc::AF_TIPC, libc::SOCK_STREAM, 0)
    }),
    done("rds", LsmOrLauncher, |_, _| {
        made(libc::AF_RDS, libc::SOCK_SEQPACKET, 0)
    }),
    done("bluetooth", LsmOrLauncher, |_, _| {
        made(libc::AF_BLUETOOTH, libc::SOCK_RAW, 0)
    }),
    done("can", LsmOrLauncher, |_, _| {
        made(libc::AF_CAN, libc::SOCK_RAW, 1)
    }),
    done("kernel crypto", LsmOrLauncher, |_, _| {
        made(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)
    }),
    bytes("unix socket", Door, |e, w| {
        call::unix(&e.at("stream"))?.say(libc::SOCK_STREAM, w)
    }),
    bytes("unix socket by a link", Door, |e, w| {
        let link = e.at("link");
        unless(symlink(e.at("stream"), &link))?;
        call::unix(&link)?.say(libc::SOCK_STREAM, w)
    }),
    bytes("unix socket by a relative path", Door, |e, w| {
        std::env::set_current_dir(&e.directory)?;
        call::unix("./stream")?.say(libc::SOCK_STREAM, w)
    }),
    bytes("unix socket by a descriptor", Door, by_descriptor),
    bytes("unix socket, abstract", Nameless, |e, w| {
        call::unix(&e.hidden())?.say(libc::SOCK_STREAM, w)
    }),
    bytes("unix datagram", Door, |e, w| {
        call::unix(&e.at("datagram"))?.post(w)
    }),
    bytes("unix datagram, connected", Door, |e, w| {
        call::unix(&e.at("datagram"))?.say(libc::SOCK_DGRAM, w)
    }),
    done("the daemon's control socket", Never, |e, _| {
        call::unix(&e.control)?.say(libc::SOCK_STREAM, b"GET")
    }),
    door("D-Bus", |_, _| service(&["/run/dbus/system_bus_socket"])),
    door("systemd", |_, _| {
        service(&["/run/systemd/private", "/run/systemd/io.systemd.Manager"])
    }),
    door("resolved", |_, _| {
        service(&["/run/systemd/resolve/io.systemd.Resolve"])
    }),
    door("docker, containerd, podman, cri-o", |_, _| {
        service(CONTAINERS)
    }),
    bytes("a socket that was inherited", Launcher, inherited),
    bytes("a socket that is passed in", Lsm, |e, w| {
        call::send(&given(e, super::GIVE)?, w)
    }),
    bytes(
        "a socket from outside, connected here",
        LsmOrHost,
        |e, w| {
            let socket = given(e, super::GIVE_FRESH)?;
            call::connect(&socket, &call::inet(at(V4, e.tcp)))?;
            call::send(&socket, w)
        },
    ),
    bytes("the neighbour's socket", LsmOrLauncher, taken),
    done("tracing the neighbour", Launcher, |e, _| {
        call::any(libc::SYS_ptrace, [16, e.neighbour.into(), 0, 0, 0]).map(drop)
    }),
    done("the neighbour's memory", Domain, |e, _| {
        let file = format!("/proc/{}/mem", e.neighbour);
        fs::OpenOptions::new().write(true).open(file).map(drop)
    }),
    done("the neighbour's files", Domain, |e, _| {
        fs::read_dir(format!("/proc/{}/root", e.neighbour)).map(drop)
    }),
    done("a signal to the neighbour", Scoped, |e, _| {
        call::any(libc::SYS_kill, [e.neighbour.into(), 0, 0, 0, 0]).map(drop)
    }),
    done("programs of the kernel", Never, |_, _| {
        // A map of four words: who may make one may have a program.
        let attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0];
        call::any(libc::SYS_bpf, [0, call::address(&attributes), 32, 0, 0]).map(drop)
    }),
    done("a module of the kernel", Never, |_, _| {
        call::any(libc::SYS_init_module, [0, 0, call::address_of(b"\0"), 0, 0]).map(drop)
    }),
    done(
        "a helper that looks names up for the kernel",
        Launcher,
        |_, w| {
            // Who may add a key may ask for one, which a program outside of every scope answers.
            let kind = b"user\0";
            let name = b"interceptor-proof\0";
            let data = [
                call::address_of(kind),
                call::address_of(name),
                call::address_of(w),
            ];
            let [kind, name, data] = data;
            call::any(
                libc::SYS_add_key,
                [kind, name, data, 4, (-2_i64).cast_unsigned()],
            )
            .map(drop)
        },
    ),
    done("keys typed into the terminal", Launcher, |_, _| {
        call::in_child(typed)
    }),
    done("a mount", Never, |_, _| {
        let (kind, on) = (b"tmpfs\0", b"/mnt\0");
        let [kind, on] = [call::address_of(kind), call::address_of(on)];
        call::any(libc::SYS_mount, [kind, on, kind, 0, 0]).map(drop)
    }),
    done("a mount in a user namespace", Launcher, |_, _| {
        let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
        call::in_child(|| unshare(flags))
    }),
    #[cfg(target_arch = "x86_64")]
    done("calls of another machine", Launcher, |_, _| {
        // x32: where the kernel does not have it, it says the same as the filter.
        call::any(0x4000_0000 + libc::SYS_getpid, [0; 5]).map(drop)
    }),
    done("the daemon's keys", Never, |e, _| {
        fs::read(Path::new(&e.state).join("ca.key")).map(drop)
    }),
    done("the daemon's pins", Never, |e, _| {
        let mut found = fs::read_dir(&e.pins)?;
        found.next().map_or_else(
            || Err(io::Error::from_raw_os_error(libc::ENOENT)),
            |_pin| Ok(()),
        )
    }),
    // The last: from here on it is in no scope.
    bytes("tcp after being moved out by root", Host, carried_out),
];

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const EVERY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const EVERY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);
const NINE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9));
const MAPPED: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 1));

/// Sockets that do for their callers what those may not do themselves.
const CONTAINERS: &[&str] = &[
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
];

/// The descriptor at which the launcher was given a socket.
pub(super) const INHERITED: i64 = 9;

impl Ends {
    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// The abstract socket.
    pub(super) fn hidden(&self) -> String {
        format!("@interceptor-{}", self.nonce)
    }
}

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

/// What may fail on the way, as long as the rest is tried.
fn unless<T>(tried: io::Result<T>) -> io::Result<()> {
    drop(tried);
    Ok(())
}

fn stream() -> io::Result<OwnedFd> {
    call::socket(libc::AF_INET, libc::SOCK_STREAM, 0)
}

fn made(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    call::socket(family, kind, protocol).map(drop)
}

fn unshare(flags: i32) -> io::Result<()> {
    let flags = u64::from(flags.unsigned_abs());
    call::any(libc::SYS_unshare, [flags, 0, 0, 0, 0]).map(drop)
}

fn family(ip: IpAddr) -> i32 {
    if ip.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    }
}

fn tcp(
    ends: &Ends,
    words: &[u8],
    ip: IpAddr,
    prepare: impl FnOnce(&OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    let socket = call::socket(family(ip), libc::SOCK_STREAM, 0)?;
    prepare(&socket)?;
    call::connect(&socket, &call::inet(at(ip, ends.tcp)))?;
    call::send(&socket, words)
}

fn udp(
    ends: &Ends,
    words: &[u8],
    ip: IpAddr,
    prepare: impl FnOnce(&OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    let socket = call::socket(family(ip), libc::SOCK_DGRAM, 0)?;
    prepare(&socket)?;
    call::send_to(&socket, words, 0, &call::inet(at(ip, ends.udp)))
}

/// A socket that was connected within the scope, and is connected anew.
fn again(ends: &Ends, words: &[u8]) -> io::Result<()> {
    let listener = std::net::TcpListener::bind(at(V4, 0))?;
    let socket = stream()?;
    call::connect(&socket, &call::inet(listener.local_addr()?))?;
    call::disconnect(&socket)?;
    call::connect(&socket, &call::inet(at(V4, ends.tcp)))?;
    call::send(&socket, words)
}

/// `BPF_RET | BPF_K` of zero: the first of those that share a port takes what comes, and that is the far end.
static FIRST: [u64; 1] = [0x06];

/// A socket of the scope's own where the far end has one too, so that the port is the scope's as well; and a
/// program of its own that says who takes what comes.
fn beside(kind: i32, port: u16, words: &[u8]) -> io::Result<()> {
    let to = call::inet(at(V4, port));
    let own = call::socket(libc::AF_INET, kind, 0)?;
    call::option(&own, libc::SOL_SOCKET, libc::SO_REUSEPORT, &[1, 0, 0, 0])?;
    call::bind(&own, &to)?;
    if kind == libc::SOCK_STREAM {
        call::listen(&own)?;
    }
    let [length, code] = [1_u64.to_le_bytes(), call::address(&FIRST).to_ne_bytes()];
    let program = [length, code].concat();
    unless(call::option(
        &own,
        libc::SOL_SOCKET,
        libc::SO_ATTACH_REUSEPORT_CBPF,
        &program,
    ))?;
    // From one port after another: half of them are those that a look-up has go to the scope's own.
    let mut came = Ok(());
    for _ in 0..32 {
        let socket = call::socket(libc::AF_INET, kind, 0)?;
        let tried = call::connect(&socket, &to).and_then(|()| call::send(&socket, words));
        if tried.is_err() {
            came = tried;
        }
    }
    came
}

fn from_thread(ends: &Ends, words: &[u8]) -> io::Result<()> {
    std::thread::scope(|scope| {
        let tried = scope.spawn(|| tcp(ends, words, V4, |_| Ok(()))).join();
        tried.unwrap_or_else(|_panicked| Err(io::Error::other("the thread failed")))
    })
}

fn joined(ends: &Ends, words: &[u8]) -> io::Result<()> {
    for kind in ["cgroup", "net", "user"] {
        let file = fs::File::open(format!("/proc/{}/ns/{kind}", ends.neighbour));
        let Ok(file) = file else { continue };
        let number = u64::from(file.as_raw_fd().unsigned_abs());
        unless(call::any(libc::SYS_setns, [number, 0, 0, 0, 0]))?;
    }
    tcp(ends, words, V4, |_| Ok(()))
}

/// Into every cgroup that there is a door to: the root of each hierarchy, the neighbour's, one of its own.
fn moved(ends: &Ends, words: &[u8]) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.unwrap_or("/").trim_start_matches('/');
    for line in mounts.lines().filter(|line| line.contains(" - cgroup2 ")) {
        let root = Path::new(line.split(' ').nth(4).unwrap_or("/"));
        let below = root.join(own).join("below");
        unless(fs::create_dir(&below))?;
        for to in [below.as_path(), root] {
            unless(fs::write(to.join("cgroup.procs"), "0"))?;
        }
    }
    tcp(ends, words, V4, |_| Ok(()))
}

/// A ring connects by the kernel's own hands, some by a worker's.
fn by_ring(ends: &Ends, words: &[u8]) -> io::Result<()> {
    let socket = stream()?;
    let to = call::inet(at(V4, ends.tcp));
    super::ring::connect(&socket, &to)?;
    call::send(&socket, words)
}

/// Keys that a terminal's reader takes for typed: the terminal is one of its own, as one that is shared with a shell
/// outside would be.
fn typed() -> io::Result<()> {
    call::any(libc::SYS_setsid, [0; 5])?;
    let terminal = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/ptmx")?;
    let master = u64::try_from(terminal.as_raw_fd()).unwrap_or(0);
    let control = |on, what, with| call::any(libc::SYS_ioctl, [on, what, with, 0, 0]);
    control(master, libc::TIOCSPTLCK, call::address(&0_i32))?;
    let flags = u64::from((libc::O_RDWR | libc::O_NOCTTY).unsigned_abs());
    let slave = control(master, libc::TIOCGPTPEER, flags)?;
    control(slave, libc::TIOCSCTTY, 0)?;
    control(slave, libc::TIOCSTI, call::address_of(b" ")).map(drop)
}

fn by_descriptor(ends: &Ends, words: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(ends.at("stream"))?;
    call::unix(&format!("/proc/self/fd/{}", file.as_raw_fd()))?.say(libc::SOCK_STREAM, words)
}

/// Whether any of some sockets of the host's can be reached.
fn service(names: &[&str]) -> io::Result<()> {
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for name in names {
        match call::unix(name)?.say(libc::SOCK_STREAM, b"") {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn inherited(_ends: &Ends, words: &[u8]) -> io::Result<()> {
    call::any(
        libc::SYS_write,
        [
            INHERITED.cast_unsigned(),
            call::address_of(words),
            u64::try_from(words.len()).unwrap_or(0),
            0,
            0,
        ],
    )
    .map(drop)
}

/// Offers a socket at which the far end hands over one of its own, which is asked for by `word`.
fn given(ends: &Ends, word: &str) -> io::Result<OwnedFd> {
    let path = ends.at("receive");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    crate::cli::print(word);
    let given = super::far::receive(&listener);
    unless(fs::remove_file(&path))?;
    given
}

/// Has itself moved into the root cgroup, as a service manager would do, or an operator by mistake.
fn carried_out(ends: &Ends, words: &[u8]) -> io::Result<()> {
    let own = || fs::read_to_string("/proc/self/cgroup");
    let before = own()?;
    crate::cli::print(super::MOVE);
    for _ in 0..300 {
        if own()? != before {
            return tcp(ends, words, V4, |_| Ok(()));
        }
        // Who moves it says nothing when it is done.
        nix::poll::poll(&mut [], 10_u16)?;
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

fn taken(ends: &Ends, words: &[u8]) -> io::Result<()> {
    let pidfd = call::any(libc::SYS_pidfd_open, [ends.neighbour.into(), 0, 0, 0, 0])?;
    let socket = call::any(libc::SYS_pidfd_getfd, [pidfd, 0, 0, 0, 0])?;
    call::send(
        &call::descriptor(i64::try_from(socket).unwrap_or(-1))?,
        words,
    )
}
