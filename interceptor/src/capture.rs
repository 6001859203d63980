//! Where a redirected socket was really going, and which process opened it: the kernel's own word.
//!
//! First steps of the intercept path. Owns the programs, their maps and pins, the tagged scopes,
//! the in-kernel rules and the listener pairs. Knows nothing of policy's language or of protocols:
//! it is told rules as addresses and tells flows as addresses and stamps.
//!
//! What a hook does, since which kernel, and which test shows it: the table in `interceptor_ebpf`.

mod btf;
pub mod cgroup2;
mod events;
mod listen;
mod names;
mod origin;
mod pins;
mod programs;
mod rules;
mod scope;
mod syscall;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, RingBuf, SkStorage};
use interceptor_ebpf::door::{Dial, Door};
use interceptor_ebpf::flow::{AskedKey, Endpoint, Mark, NamedKey};
use interceptor_ebpf::process::Lineage;
use interceptor_ebpf::rule::{RuleKey, State};
use interceptor_ebpf::{flow, scope as abi};
use ipnet::IpNet;

use crate::clock::BootTime;
use crate::socket::Place;

pub use events::folds::{Folded, Like};
pub use events::{Event, Events};
pub use listen::{Listeners, NameServer};
pub use pins::look::{Foreign, Pinned, foreign, knows_processes, standing, tells_namespaces};
pub use rules::Guard;
pub use scope::{Scope, pinned, unpin};

/// What the client dialled, before the kernel redirected it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginalDestination(pub Place);

/// Cgroups that can be tagged at once.
pub const MAX_SCOPES: usize = interceptor_ebpf::MAX_SCOPES as usize;

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
    /// To the daemon, TCP and UDP: the destination is a resolver, which it asks itself.
    Resolver,
    /// The daemon dials it, for itself or for a target: it opens nothing, and no scope may listen there.
    Dialled,
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
    /// UDP that goes neither to a configured resolver nor to the scope itself.
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
    /// The client dialled the daemon's own listener or its metrics.
    Listener,
    /// A UNIX socket that was made outside of the scope.
    Door,
    /// A socket that was made outside of the scope and passed in.
    Passed,
    /// A process that has left its scope's cgroup.
    Left,
}

impl DenyReason {
    /// Its word in metrics and in the audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::Udp => "udp",
            Self::SocketType => "socket_type",
            Self::Bind => "bind",
            Self::NetnsUnknown => "netns_unknown",
            Self::Overflow => "overflow",
            Self::Egress => "egress",
            Self::DaemonDown => "daemon_down",
            Self::Listener => "listener",
            Self::Door => "door",
            Self::Passed => "passed",
            Self::Left => "left",
        }
    }
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
    /// The UNIX socket that it wanted to reach: its path, or its abstract name behind an `@`.
    pub door: Option<String>,
    /// Who: the process that called, or that connected the socket whose packet was dropped. Its number
    /// is zero where the kernel knows nobody.
    pub process: ProcessStamp,
    /// Whether `process` is only who ran when the packet left: it need not have sent it.
    pub passerby: bool,
    /// Scope root's cgroup id.
    pub scope: u64,
    /// The namespace it happened in.
    pub netns: NetnsCookie,
    /// When.
    pub at: BootTime,
}

/// What [`Capture::start`] is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Directory of the pins. A bpffs is mounted there where it is on none.
    pub pins: PathBuf,
    /// The cgroup that the daemon lives in, below the cgroup v2 mount. `None`: where it is, or
    /// `interceptor` when that is the root cgroup.
    pub daemon_cgroup: Option<String>,
    /// Port to try first for the listeners; by default the highest free one that ordinary users
    /// cannot bind. A pinned one from an earlier start goes before it.
    pub port: Option<u16>,
    /// The running kernel's type information.
    pub btf: PathBuf,
    /// Who looks at UNIX sockets; by default the best that this kernel has.
    pub guard: Option<Guard>,
    /// Whether the whole host is guarded: no process of a scope uses a socket from outside, or makes one when it
    /// has been moved out. Costs every process of the host a little.
    pub host: bool,
}

impl Settings {
    /// The defaults, with the pins in `pins`.
    #[must_use]
    pub fn new(pins: PathBuf) -> Self {
        Self {
            pins,
            daemon_cgroup: None,
            port: None,
            btf: PathBuf::from("/sys/kernel/btf/vmlinux"),
            guard: None,
            host: false,
        }
    }
}

/// Why the capture layer could not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A cgroup could not be read, made or entered.
    #[error("{action} cgroup {path}: {source}")]
    Cgroup {
        /// What was tried.
        action: &'static str,
        /// Which cgroup, or file of it.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no usable cgroup v2 hierarchy.
    #[error("find the cgroup v2 hierarchy in /proc/self/mountinfo: {0}")]
    Hierarchy(&'static str),
    /// The daemon, or a cgroup above it, cannot be intercepted.
    #[error(
        "tag {path}: the daemon itself lives in {daemon}, which its own programs must never catch; tag a cgroup beside it"
    )]
    OwnCgroup {
        /// What was to be tagged, or is.
        path: String,
        /// Where the daemon lives.
        daemon: String,
    },
    /// The cgroup is too deep.
    #[error("tag {path}: more than {most} levels below the root; tag a cgroup further up")]
    TooDeep {
        /// What was to be tagged.
        path: String,
        /// How deep a scope may sit.
        most: u32,
    },
    /// The cgroup is not tagged.
    #[error("untag {0}: it is not tagged; `interceptor status` lists what is")]
    NotTagged(String),
    /// The agent's name cannot be kept.
    #[error(
        "tag {path}: the agent's name {name:?} is empty, longer than 64 bytes, or has a slash or a control character"
    )]
    AgentName {
        /// What was to be tagged.
        path: String,
        /// The name.
        name: String,
    },
    /// A pin could not be read or written.
    #[error("{action} {path}: {source}")]
    Pin {
        /// What was tried.
        action: &'static str,
        /// Which pin.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// This binary carries no programs.
    #[error(
        "load the programs: this binary was built with AYA_BUILD_SKIP and has none; build it without"
    )]
    NoPrograms,
    /// The kernel did not take the object.
    #[error("load the programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// The kernel did not take a program.
    #[error("load program {name}: {source}")]
    Program {
        /// Which.
        name: &'static str,
        /// The verifier's answer.
        source: Box<aya::programs::ProgramError>,
    },
    /// An object that aya has no type for could not be opened or loaded.
    #[error("{what}: {source}")]
    Raw {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The guard of the host needs to know where the kernel keeps what.
    #[error(
        "guard the host: {0} does not tell which cgroups a process is in; leave `guard: host` out"
    )]
    Untraced(PathBuf),
    /// A program could not be attached.
    #[error(
        "attach {hook} to {path}: {source}; a program that allows no others above it also causes this"
    )]
    Attach {
        /// Which hook.
        hook: &'static str,
        /// To which cgroup.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error("{action} map {map}: {}", refusal(source))]
    Map {
        /// What was tried.
        action: &'static str,
        /// Which map.
        map: &'static str,
        /// The kernel's answer.
        source: Box<aya::maps::MapError>,
    },
    /// A map is full.
    #[error("{what}: at most {most} fit; configure fewer")]
    Full {
        /// What was one too many.
        what: &'static str,
        /// How many fit.
        most: u32,
    },
    /// The listeners could not be bound.
    #[error("bind the redirect listener on {address}: {source}")]
    Listener {
        /// Where.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No port is free.
    #[error("bind the redirect listeners: no port below {below} is free on loopback")]
    NoPort {
        /// Where ordinary users' ports begin.
        below: u16,
    },
    /// A network namespace could not be entered.
    #[error("enter the network namespace: {0}")]
    Namespace(#[source] io::Error),
    /// The connection carries no record of the kernel: it did not come through a scope.
    #[error("find the origin of a connection: the kernel has no record of it")]
    NoRecord,
    /// The kernel does not say who is at the other end of a UNIX socket.
    #[error("find who dialled a UNIX socket: {0}")]
    Peer(#[source] io::Error),
    /// The ring of refusals could not be watched, or is watched already.
    #[error("watch the ring of refusals: {0}")]
    Ring(#[source] io::Error),
}

/// Where an accepted connection was really going. A trait so that tests can bring a table.
pub trait Origin: Send + Sync + 'static {
    /// The flow behind an accepted socket.
    ///
    /// # Errors
    /// [`Error::NoRecord`] where it did not come through a scope; it must then be closed.
    fn origin(&self, socket: &impl AsFd) -> Result<Flow, Error>;
}

/// The capture layer: programs loaded and pinned. Dropping it leaves everything in force.
pub struct Capture {
    pins: pins::Pins,
    hierarchy: cgroup2::Hierarchy,
    home: String,
    programs: programs::Programs,
    tables: Mutex<Tables>,
    /// Held while a cgroup is tagged or untagged: what one of both finds is so until it is done.
    tagging: Mutex<()>,
    marks: Mutex<SkStorage<MapData, Mark>>,
    flows: SkStorage<MapData, flow::Flow>,
    ring: Mutex<Option<RingBuf<MapData>>>,
    asked: HashMap<MapData, AskedKey, flow::Flow>,
    counters: Mutex<PerCpuArray<MapData, u64>>,
    port: Option<u16>,
    /// The link of the hook that tells namespaces, where there is one. It is of use to this process alone.
    teller: Option<OwnedFd>,
    namespaces: Mutex<std::collections::HashMap<NetnsCookie, u64>>,
}

/// The maps that the daemon writes.
struct Tables {
    state: Array<MapData, State>,
    scopes: HashMap<MapData, u64, abi::Scope>,
    /// The level of each row of them.
    levels: std::collections::BTreeMap<u64, u32>,
    listeners: HashMap<MapData, u64, abi::Listeners>,
    rules: LpmTrie<MapData, RuleKey, u32>,
    protected: HashMap<MapData, Endpoint, u32>,
    resolvers: Array<MapData, Endpoint>,
    named: HashMap<MapData, NamedKey, u32>,
    doors: HashMap<MapData, Door, u32>,
    carried: HashMap<MapData, Door, u32>,
    lineage: Array<MapData, Lineage>,
    via: Array<MapData, Door>,
    dials: HashMap<MapData, u64, Dial>,
}

impl Capture {
    /// Loads the programs, takes over the pins of an earlier start, and attaches the new programs in
    /// place of the old: at no moment is a scope without a guard.
    ///
    /// Moves this process into its own cgroup first. Needs root.
    ///
    /// # Errors
    /// Any of [`Error`]; what was pinned before stays in force.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let hierarchy = cgroup2::Hierarchy::find()?;
        let home = hierarchy.settle(settings.daemon_cgroup.as_deref())?;
        programs::host::check(settings)?;
        let pins = pins::Pins::open(&settings.pins)?;
        scope::lineage::inherit::share(&pins, settings)?;
        let mut object = programs::load(&pins, settings)?;
        let mut capture = Self {
            tables: Mutex::new(Tables {
                state: programs::table(&mut object, "STATE")?,
                scopes: programs::table(&mut object, "SCOPES")?,
                levels: std::collections::BTreeMap::new(),
                listeners: programs::table(&mut object, "LISTENERS")?,
                rules: programs::table(&mut object, "RULES")?,
                protected: programs::table(&mut object, "PROTECTED")?,
                resolvers: programs::table(&mut object, "RESOLVERS")?,
                named: programs::table(&mut object, "NAMED")?,
                doors: programs::table(&mut object, "DOORS")?,
                carried: programs::table(&mut object, "CARRIED")?,
                lineage: programs::table(&mut object, programs::HOST_MAP)?,
                via: programs::table(&mut object, "VIA")?,
                dials: programs::table(&mut object, "DIALS")?,
            }),
            tagging: Mutex::default(),
            marks: Mutex::new(programs::table(&mut object, "MARKS")?),
            flows: programs::table(&mut object, "FLOWS")?,
            ring: Mutex::new(Some(programs::table(&mut object, "DENIALS")?)),
            asked: programs::table(&mut object, "ASKED")?,
            counters: Mutex::new(programs::table(&mut object, "COUNTERS")?),
            programs: programs::Programs::load(&mut object, &pins, settings)?,
            pins,
            hierarchy,
            home,
            port: settings.port,
            teller: None,
            namespaces: Mutex::default(),
        };
        capture.teller = capture.teller()?;
        capture.tables().read_levels()?;
        capture.forget_namespaces()?;
        capture.forget_names()?;
        capture.attach_home()?;
        capture.guard_host()?;
        capture.restore()?;
        Ok(capture)
    }

    /// The daemon's own cgroup, below the cgroup v2 mount, with a leading slash.
    #[must_use]
    pub fn home(&self) -> &str {
        &self.home
    }

    /// The cgroup v2 hierarchy that scopes are tagged in.
    #[must_use]
    pub fn hierarchy(&self) -> &cgroup2::Hierarchy {
        &self.hierarchy
    }

    /// Nothing lies within that a panic could leave torn.
    fn tagging(&self) -> MutexGuard<'_, ()> {
        self.tagging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tables are replaced row by row and valid after each: a panic elsewhere leaves nothing torn.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture")
            .field("pins", &self.pins)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

/// The network namespace that a socket lives in.
///
/// # Errors
/// Where the kernel does not tell (before Linux 5.14).
pub fn netns_of(socket: &impl AsFd) -> io::Result<NetnsCookie> {
    syscall::netns_cookie(socket).map(NetnsCookie)
}

/// What the kernel says of a map, and what can be done.
fn refusal(error: &aya::maps::MapError) -> String {
    let aya::maps::MapError::SyscallError(refused) = error else {
        return error.to_string();
    };
    let mend = match refused.io_error.raw_os_error() {
        Some(libc::ENOSPC | libc::E2BIG) => "; it is full: restart the daemon, or configure fewer",
        Some(libc::ENOMEM) => "; the host has no memory for it: free some and try again",
        Some(libc::EPERM) => "; the daemon lacks a capability: start it as its unit does",
        _ => "",
    };
    format!("{}{mend}", refused.io_error)
}

/// Names the map and what was tried in an error of aya's.
fn map_error(action: &'static str, map: &'static str) -> impl FnOnce(aya::maps::MapError) -> Error {
    move |source| Error::Map {
        action,
        map,
        source: Box::new(source),
    }
}

/// The error of a row that could not be written: a full map says what does not fit, and how many do.
fn write_error(
    map: &'static str,
    (what, most): (&'static str, u32),
) -> impl FnOnce(aya::maps::MapError) -> Error {
    move |source| match source {
        aya::maps::MapError::SyscallError(error)
            if error.io_error.raw_os_error() == Some(libc::E2BIG) =>
        {
            Error::Full { what, most }
        }
        source => map_error("write", map)(source),
    }
}
