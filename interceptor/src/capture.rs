//! Where a redirected socket was really going, and which process opened it: the kernel's own word.
//!
//! First steps of the intercept path. Owns the programs, their maps and pins, the tagged scopes,
//! the in-kernel rules and the listener pairs. Knows nothing of policy's language or of protocols:
//! it is told rules as addresses and tells flows as addresses and stamps.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::clock::BootTime;

/// The address that the client dialled, before the kernel redirected it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginalDestination(pub SocketAddr);

/// A network namespace, by the kernel's cookie (`SO_NETNS_COOKIE`, Linux 5.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetnsCookie(pub u64);

/// A file by device and inode, as the kernel knows it (`s_dev` in the kernel's own encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelFile {
    /// `inode->i_sb->s_dev`: major in the upper 12 bits, minor in the lower 20.
    pub device: u32,
    /// `inode->i_ino`.
    pub inode: u64,
}

/// What the kernel stamped about the process at `connect()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStamp {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// `group_leader->start_boottime`.
    pub started: BootTime,
    /// `mm->exe_file`; absent where the kernel's BTF has no such member.
    pub executable: Option<KernelFile>,
    /// Effective user id, initial user namespace.
    pub uid: u32,
    /// Effective group id, initial user namespace.
    pub gid: u32,
    /// Cgroup v2 id (the directory's inode) of the process.
    pub cgroup: u64,
    /// `group_leader->comm`, lossily decoded.
    pub comm: String,
}

/// One redirected connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it was going.
    pub destination: OriginalDestination,
    /// Who opened it.
    pub process: ProcessStamp,
    /// The cgroup id of the scope root that caught it (deepest tagged ancestor).
    pub scope: u64,
    /// The client's network namespace.
    pub netns: NetnsCookie,
    /// When `connect()` was called.
    pub at: BootTime,
}

/// What the kernel does with a connection to a covered destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// To the daemon: the destination is a target's.
    Redirect,
    /// Straight out, at no cost; `needs_daemon` refuses it while no daemon is alive.
    Direct {
        /// Refused while no daemon is ready.
        needs_daemon: bool,
    },
    /// UDP to a configured resolver, and TCP to the same port.
    Resolver {
        /// Refused while no daemon is ready.
        needs_daemon: bool,
    },
}

/// One row of the kernel's policy: in `scope`, this network and port get this verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Scope root's cgroup id; `None` for every scope.
    pub scope: Option<u64>,
    /// Network, v4 or v6.
    pub network: IpNet,
    /// Port; `None` for every port.
    pub port: Option<u16>,
    /// What happens.
    pub verdict: Verdict,
}

/// Why the kernel refused; the closed list that the audit names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// No target and no `direct` rule covers the destination.
    NoRule,
    /// UDP that goes to no configured resolver.
    Udp,
    /// A raw or other non-stream socket.
    SocketType,
    /// A scope tried to bind an address of a target or of the daemon.
    Bind,
    /// The network namespace has no listener pair yet.
    NetnsUnknown,
    /// A map was full, or a record could not be stored.
    Overflow,
    /// The egress guard dropped a packet that no verdict covers.
    Egress,
    /// The rule says `needs_daemon` and no daemon is ready.
    DaemonDown,
    /// The client dialled the daemon's own listener, metrics or console.
    Listener,
}

/// One refusal in the kernel, from the ring buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub reason: DenyReason,
    /// `tcp`, `udp` or the number of the protocol.
    pub protocol: u8,
    /// Where it wanted to go (or bind).
    pub destination: SocketAddr,
    /// Who.
    pub process: ProcessStamp,
    /// Scope root's cgroup id.
    pub scope: u64,
    /// The namespace it happened in.
    pub netns: NetnsCookie,
    /// When.
    pub at: BootTime,
    /// How many like it were folded into this one by the rate limit since the last.
    pub folded: u64,
}
