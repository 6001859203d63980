//! Loads the programs with what this kernel needs to be told, and knows which hook is which.

pub(super) mod host;
mod raw;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use aya::maps::{Map, MapError};
use aya::programs::Program;
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};

use super::{Error, Guard, Settings, btf, map_error, pins::Pins, tells_namespaces};

/// The programs, built by `build.rs`.
#[cfg(not(no_programs))]
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/interceptor-programs"));

/// Built with `AYA_BUILD_SKIP`.
#[cfg(no_programs)]
static OBJECT: &[u8] = &[];

/// The first kernel with `bpf_set_retval`.
const SET_RETVAL: KernelVersion = KernelVersion::new(5, 18, 0);

/// Every map but [`HOST_MAP`]. All are pinned: the programs of one start read what the daemon of the next writes.
pub(super) const MAPS: [&str; 20] = [
    "STATE",
    "SCOPES",
    "LISTENERS",
    "RULES",
    "PROTECTED",
    "PENDING",
    "RESOLVERS",
    "ASKED",
    "NAMED",
    "DOORS",
    "CARRIED",
    "VIA",
    "DIALS",
    "DENIALS",
    "BUCKETS",
    "COUNTERS",
    "FLOWS",
    "DIALLED",
    "SOCKETS",
    "MARKS",
];

/// The map of those that guard the host.
pub(super) const HOST_MAP: &str = "LINEAGE";

/// Under which name it is pinned where nothing guards the host: there it has one row.
const NO_HOST_MAP: &str = "LINEAGE_OFF";

/// A place in the kernel where a program is attached to a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// The pin's name, and the kernel's name for it.
    pub(super) name: &'static str,
    /// The program's name in the object.
    program: &'static str,
    /// `enum bpf_attach_type`.
    pub(super) attach_type: u32,
}

const fn hook(name: &'static str, program: &'static str, attach_type: u32) -> Hook {
    Hook {
        name,
        program,
        attach_type,
    }
}

/// The hooks of a scope. The guard comes first and the verdict last: a half-tagged scope is shut.
pub(super) const SCOPE_HOOKS: [Hook; 14] = [
    hook("egress", "interceptor_egress", 1),
    hook("sock_create", "interceptor_sock_create", 2),
    hook("sock_ops", "interceptor_scope_ops", 3),
    hook("setsockopt", "interceptor_setsockopt", 22),
    hook("bind4", "interceptor_bind4", 8),
    hook("bind6", "interceptor_bind6", 9),
    hook("sendmsg4", "interceptor_sendmsg4", 14),
    hook("sendmsg6", "interceptor_sendmsg6", 15),
    hook("recvmsg4", "interceptor_recvmsg4", 19),
    hook("recvmsg6", "interceptor_recvmsg6", 20),
    hook("getpeername4", "interceptor_getpeername4", 29),
    hook("getpeername6", "interceptor_getpeername6", 30),
    hook("connect4", "interceptor_connect4", 10),
    hook("connect6", "interceptor_connect6", 11),
];

/// The hooks that an LSM gives beside them (Linux 6.0); their names are the kernel's.
const LSM_HOOKS: [Hook; 4] = [
    hook("unix_stream_connect", "interceptor_unix_connect", 43),
    hook("unix_may_send", "interceptor_unix_send", 43),
    hook("socket_create", "interceptor_socket_create", 43),
    hook("file_receive", "interceptor_file_receive", 43),
];

/// Those that stand in where there is none (Linux 6.7).
const NAME_HOOKS: [Hook; 2] = [
    hook("connect_unix", "interceptor_connect_unix", 49),
    hook("sendmsg_unix", "interceptor_sendmsg_unix", 50),
];

/// The hook that leads to the daemon beside an LSM (Linux 6.7).
const CARRY_HOOK: Hook = hook("connect_unix", "interceptor_carry_unix", 49);

/// The hooks of the root cgroup, where the host is guarded.
pub(super) const HOST_HOOKS: [Hook; 5] = [
    hook("sock_create", "interceptor_host_sock_create", 2),
    hook("sendmsg4", "interceptor_host_sendmsg4", 14),
    hook("sendmsg6", "interceptor_host_sendmsg6", 15),
    hook("connect4", "interceptor_host_connect4", 10),
    hook("connect6", "interceptor_host_connect6", 11),
];

/// The tracepoints that tell it which scope processes come from.
pub(super) const TRACEPOINTS: [Hook; 2] = [
    hook("sched_process_fork", "interceptor_lineage_fork", 0),
    hook("cgroup_attach_task", "interceptor_lineage_attach", 0),
];

/// The program that tells who is at the other end of a UNIX socket.
const PEER: &str = "interceptor_peer";

/// The hook of the daemon's own cgroup.
pub(super) const DAEMON_HOOK: Hook = hook("sock_ops", "interceptor_daemon_ops", 3);

/// The hook of the daemon's own cgroup that tells it which namespace a socket is in, where the kernel does not.
pub(super) const TELLER: Hook = hook("bind4", "interceptor_daemon_bind4", 8);

/// The loaded programs.
pub(super) struct Programs {
    loaded: BTreeMap<&'static str, OwnedFd>,
    guard: Guard,
}

impl Programs {
    /// Has the verifier take each program.
    pub(super) fn load(object: &mut Ebpf, pins: &Pins, settings: &Settings) -> Result<Self, Error> {
        let mut loaded = BTreeMap::new();
        let host = HOST_HOOKS.into_iter().chain(TRACEPOINTS);
        let host = host.filter(|_| settings.host);
        let teller = (!tells_namespaces()).then_some(TELLER);
        let own = [DAEMON_HOOK].into_iter().chain(teller);
        for hook in SCOPE_HOOKS.into_iter().chain(own).chain(host) {
            let program = object.program_mut(hook.program).ok_or(Error::NoPrograms)?;
            let fd = load_one(program).map_err(refused(&hook))?;
            loaded.insert(hook.program, fd);
        }
        let mut load = |guard| match guard {
            Guard::Lsm => load_lsm(object, &mut loaded),
            Guard::Names => load_names(object, (pins, settings), &NAME_HOOKS, &mut loaded),
            Guard::None => Ok(()),
        };
        let guard = match settings.guard {
            Some(guard) => load(guard).map(|()| guard)?,
            None => first_of(&Guard::possible(), load)?,
        };
        if guard == Guard::Lsm && Guard::has_names() {
            let carry = load_names(object, (pins, settings), &[CARRY_HOOK], &mut loaded);
            if let Err(error) = carry {
                tracing::warn!(%error, "the kernel does not take what leads UNIX sockets of targets here: they are refused");
            }
        }
        Ok(Self { loaded, guard })
    }

    /// Whether those that guard the host are among them.
    pub(super) fn has_host(&self) -> bool {
        let mut all = HOST_HOOKS.iter().chain(&TRACEPOINTS);
        all.all(|hook| self.loaded.contains_key(hook.program))
    }

    /// The program that tells who is at the other end of a UNIX socket; none on a kernel on which none is led
    /// to the daemon.
    pub(super) fn peer(&self) -> Option<&OwnedFd> {
        self.loaded.get(PEER)
    }

    /// The program of a hook.
    pub(super) fn of(&self, hook: &Hook) -> Result<&OwnedFd, Error> {
        self.loaded.get(hook.program).ok_or(Error::NoPrograms)
    }

    /// The hooks of a scope on this kernel, in the order in which they are attached.
    pub(super) fn of_scope(&self) -> impl Iterator<Item = Hook> + use<> {
        let more: &[Hook] = match self.guard {
            Guard::Lsm => &LSM_HOOKS,
            Guard::Names => &NAME_HOOKS,
            Guard::None => &[],
        };
        let carries = self.guard == Guard::Lsm && self.peer().is_some();
        let carry = carries.then_some(CARRY_HOOK);
        more.iter().copied().chain(carry).chain(SCOPE_HOOKS)
    }

    /// Whether the kernel itself does not tell which namespace a socket is in.
    pub(super) fn has_teller(&self) -> bool {
        self.loaded.contains_key(TELLER.program)
    }

    /// Who looks at UNIX sockets.
    pub(super) fn guard(&self) -> Guard {
        self.guard
    }
}

/// The first that the kernel takes: a hardened one may have a security module and not let it be used.
fn first_of(
    guards: &[Guard],
    mut load: impl FnMut(Guard) -> Result<(), Error>,
) -> Result<Guard, Error> {
    for guard in guards {
        match load(*guard) {
            Ok(()) => return Ok(*guard),
            Err(error) => {
                tracing::warn!(%error, guard = guard.word(), "the kernel does not take what looks at UNIX sockets");
            }
        }
    }
    Ok(Guard::None)
}

fn refused(hook: &Hook) -> impl FnOnce(aya::programs::ProgramError) -> Error + use<> {
    let name = hook.program;
    move |source| Error::Program {
        name,
        source: Box::new(source),
    }
}

fn load_lsm(object: &mut Ebpf, loaded: &mut BTreeMap<&'static str, OwnedFd>) -> Result<(), Error> {
    let types = aya::Btf::from_sys_fs().map_err(aya::EbpfError::BtfError)?;
    for hook in LSM_HOOKS {
        let program = object.program_mut(hook.program).ok_or(Error::NoPrograms)?;
        let Program::LsmCgroup(program) = program else {
            return Err(Error::NoPrograms);
        };
        program.load(hook.name, &types).map_err(refused(&hook))?;
        let fd = program.fd().map_err(refused(&hook))?.as_fd();
        let fd = fd.try_clone_to_owned();
        let fd = fd.map_err(|source| refused(&hook)(source.into()))?;
        loaded.insert(hook.program, fd);
    }
    Ok(())
}

fn load_names(
    object: &Ebpf,
    (pins, settings): (&Pins, &Settings),
    hooks: &[Hook],
    loaded: &mut BTreeMap<&'static str, OwnedFd>,
) -> Result<(), Error> {
    let raw = raw::Object::read(OBJECT, |name| match object.map(name) {
        Some(Map::Array(data)) => data.fd().as_fd().try_clone_to_owned(),
        _ => super::syscall::open_pin(&pin_of(pins, name, settings)),
    })?;
    let kernel = fs::read(&settings.btf).unwrap_or_default();
    for hook in hooks {
        let fd = raw.load(hook.program, hook.attach_type, &kernel)?;
        loaded.insert(hook.program, fd);
    }
    loaded.insert(PEER, raw.load_runnable(PEER)?);
    Ok(())
}

fn load_one(program: &mut Program) -> Result<OwnedFd, aya::programs::ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load()?,
        Program::CgroupSock(program) => program.load()?,
        Program::CgroupSkb(program) => program.load()?,
        Program::SockOps(program) => program.load()?,
        Program::CgroupSockopt(program) => program.load()?,
        Program::RawTracePoint(program) => program.load()?,
        _ => return Err(aya::programs::ProgramError::UnexpectedProgramType),
    }
    Ok(program.fd()?.as_fd().try_clone_to_owned()?)
}

/// Reads the object and makes its maps, or takes those that are pinned.
pub(super) fn load(pins: &Pins, settings: &Settings) -> Result<Ebpf, Error> {
    if OBJECT.is_empty() {
        return Err(Error::NoPrograms);
    }
    // A kernel without BTF gives no offsets; the stamps then say so, and policy refuses by them.
    let offsets = fs::read(&settings.btf)
        .map_or(interceptor_ebpf::process::Offsets::NONE, |file| {
            btf::offsets(&file)
        });
    let since = |version| u32::from(KernelVersion::current().is_ok_and(|now| now >= version));
    let has_retval = since(SET_RETVAL);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("OFFSETS", &offsets, true)
        .override_global("HAS_RETVAL", &has_retval, true);
    for map in MAPS {
        loader.map_pin_path(map, pins.map(map));
    }
    loader.map_pin_path(HOST_MAP, pin_of(pins, HOST_MAP, settings));
    if !settings.host {
        // It is large, and nothing reads it.
        loader.map_max_entries(HOST_MAP, 1);
    }
    Ok(loader.load(OBJECT)?)
}

/// Where a map is pinned.
fn pin_of(pins: &Pins, map: &str, settings: &Settings) -> PathBuf {
    match map {
        HOST_MAP if !settings.host => pins.map(NO_HOST_MAP),
        map => pins.map(map),
    }
}

/// Takes a map out of the object, typed.
pub(super) fn table<T>(object: &mut Ebpf, name: &'static str) -> Result<T, Error>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).ok_or(Error::NoPrograms)?;
    T::try_from(map).map_err(map_error("open", name))
}
