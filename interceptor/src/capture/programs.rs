//! Loads the programs with what this kernel needs to be told, and knows which hook is which.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use aya::maps::{Map, MapError};
use aya::programs::Program;
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};

use super::{Error, btf, map_error, pins::Pins};

/// The programs, built by `build.rs`.
#[cfg(not(no_programs))]
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/interceptor-programs"));

/// Built with `AYA_BUILD_SKIP`.
#[cfg(no_programs)]
static OBJECT: &[u8] = &[];

/// The first kernel with `bpf_set_retval`.
const SET_RETVAL: KernelVersion = KernelVersion::new(5, 18, 0);

/// Every map. All are pinned: the programs of one start read what the daemon of the next writes.
const MAPS: [&str; 15] = [
    "STATE",
    "SCOPES",
    "LISTENERS",
    "RULES",
    "PROTECTED",
    "PENDING",
    "RESOLVERS",
    "ASKED",
    "NAMED",
    "DENIALS",
    "BUCKETS",
    "COUNTERS",
    "FLOWS",
    "SOCKETS",
    "MARKS",
];

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
pub(super) const SCOPE_HOOKS: [Hook; 13] = [
    hook("egress", "interceptor_egress", 1),
    hook("sock_create", "interceptor_sock_create", 2),
    hook("sock_ops", "interceptor_scope_ops", 3),
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

/// The hook of the daemon's own cgroup.
pub(super) const DAEMON_HOOK: Hook = hook("sock_ops", "interceptor_daemon_ops", 3);

/// The loaded programs.
pub(super) struct Programs(BTreeMap<&'static str, OwnedFd>);

impl Programs {
    /// Has the verifier take each program.
    pub(super) fn load(object: &mut Ebpf) -> Result<Self, Error> {
        let mut loaded = BTreeMap::new();
        for hook in SCOPE_HOOKS.into_iter().chain([DAEMON_HOOK]) {
            let program = object.program_mut(hook.program).ok_or(Error::NoPrograms)?;
            let name = hook.program;
            let fd = load_one(program).map_err(|source| Error::Program {
                name,
                source: Box::new(source),
            })?;
            loaded.insert(name, fd);
        }
        Ok(Self(loaded))
    }

    /// The program of a hook.
    pub(super) fn of(&self, hook: &Hook) -> Result<&OwnedFd, Error> {
        self.0.get(hook.program).ok_or(Error::NoPrograms)
    }
}

fn load_one(program: &mut Program) -> Result<OwnedFd, aya::programs::ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load()?,
        Program::CgroupSock(program) => program.load()?,
        Program::CgroupSkb(program) => program.load()?,
        Program::SockOps(program) => program.load()?,
        _ => return Err(aya::programs::ProgramError::UnexpectedProgramType),
    }
    Ok(program.fd()?.as_fd().try_clone_to_owned()?)
}

/// Reads the object and makes its maps, or takes those that are pinned.
pub(super) fn load(pins: &Pins, btf: &Path) -> Result<Ebpf, Error> {
    if OBJECT.is_empty() {
        return Err(Error::NoPrograms);
    }
    // A kernel without BTF gives no offsets; the stamps then say so, and policy refuses by them.
    let offsets = fs::read(btf).map_or(interceptor_ebpf::process::Offsets::NONE, |file| {
        btf::offsets(&file)
    });
    let has_retval = KernelVersion::current().is_ok_and(|now| now >= SET_RETVAL);
    let has_retval = u32::from(has_retval);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("OFFSETS", &offsets, true)
        .override_global("HAS_RETVAL", &has_retval, true);
    for map in MAPS {
        loader.map_pin_path(map, pins.map(map));
    }
    Ok(loader.load(OBJECT)?)
}

/// Takes a map out of the object, typed.
pub(super) fn table<T>(object: &mut Ebpf, name: &'static str) -> Result<T, Error>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).ok_or(Error::NoPrograms)?;
    T::try_from(map).map_err(map_error("open", name))
}
