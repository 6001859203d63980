//! The few system calls that aya, nix and std do not offer, each wrapped once.

#![expect(unsafe_code, reason = "system calls")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use interceptor_ebpf::door::Peer;

/// Commands of bpf(2), `enum bpf_cmd`.
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_RUN: libc::c_int = 10;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

#[repr(C)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct LinkCreateAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Attaches a program to a cgroup as a link (Linux 5.7). Flags must be zero: links are always many.
pub(super) fn link_create(
    program: &impl AsFd,
    cgroup: &impl AsFd,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        program: number(program)?,
        target: number(cgroup)?,
        attach_type,
        flags: 0,
    };
    let fd = bpf(LINK_CREATE, &mut attr)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[repr(C)]
struct TracepointAttr {
    name: u64,
    program: u32,
    reserved: u32,
}

/// Attaches a program to a tracepoint as a link (Linux 5.7).
pub(super) fn tracepoint_open(program: &impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let mut attr = TracepointAttr {
        name: address(&name),
        program: number(program)?,
        reserved: 0,
    };
    let fd = bpf(RAW_TRACEPOINT_OPEN, &mut attr)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Replaces the program of a link in place (Linux 5.7).
pub(super) fn link_update(link: &impl AsFd, program: &impl AsFd) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link: number(link)?,
        program: number(program)?,
        flags: 0,
        old_program: 0,
    };
    bpf(LINK_UPDATE, &mut attr).map(drop)
}

#[repr(C)]
struct LinkDetachAttr {
    link: u32,
}

/// Takes a link's program off its hook at once (Linux 5.9); by its end alone that comes a moment later.
pub(super) fn link_detach(link: &impl AsFd) -> io::Result<()> {
    let mut attr = LinkDetachAttr {
        link: number(link)?,
    };
    bpf(LINK_DETACH, &mut attr).map(drop)
}

/// `MEMBARRIER_CMD_GLOBAL` (Linux 4.3): waits for a grace period of RCU.
const MEMBARRIER_GLOBAL: libc::c_int = 1;

/// Waits until every program that runs at this moment is through: programs run within a read side of RCU.
///
/// # Errors
/// Where the kernel does not offer it: `CONFIG_MEMBARRIER`, and none of its processors is without a tick
/// (`nohz_full=`).
pub(super) fn await_programs() -> io::Result<()> {
    // SAFETY: takes and gives numbers alone.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_GLOBAL, 0, 0) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[repr(C)]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
}

/// `BPF_F_QUERY_EFFECTIVE`: those that run, in the order in which they do.
const EFFECTIVE: u32 = 1;

/// More programs are on no hook of a cgroup (`BPF_CGROUP_MAX_PROGS`), at each of its levels.
const MAX_PROGRAMS: usize = 64 * 64;

/// The numbers of the programs that run at a hook of a cgroup, first to last (Linux 4.15).
pub(super) fn programs_of(cgroup: &impl AsFd, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MAX_PROGRAMS];
    let mut attr = QueryAttr {
        target: number(cgroup)?,
        attach_type,
        flags: EFFECTIVE,
        attach_flags: 0,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(MAX_PROGRAMS).map_err(io::Error::other)?,
        reserved: 0,
    };
    bpf(PROG_QUERY, &mut attr)?;
    // SAFETY: a record of our own, of plain numbers, which the kernel has written behind the compiler's back.
    let count = unsafe { std::ptr::read_volatile(&raw const attr.count) };
    ids.truncate(usize::try_from(count).unwrap_or(0));
    Ok(ids)
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    size: u32,
    info: u64,
}

/// The first fields of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    reserved: u32,
}

/// The number of a link's program (Linux 5.8).
pub(super) fn program_of(link: &impl AsFd) -> io::Result<u32> {
    let mut info = LinkInfo::default();
    let mut attr = InfoAttr {
        fd: number(link)?,
        size: u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut info).expose_provenance() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: as above.
    Ok(unsafe { std::ptr::read_volatile(&raw const info.program) })
}

/// Pins an object.
pub(super) fn pin(object: &impl AsFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr {
        path: address(&path),
        fd: number(object)?,
        flags: 0,
    };
    bpf(OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned object.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr {
        path: address(&path),
        fd: 0,
        flags: 0,
    };
    let fd = bpf(OBJ_GET, &mut attr)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<RawFd> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` of the size given; paths in it outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<A>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(answer).map_err(io::Error::other)
}

fn number(fd: &impl AsFd) -> io::Result<u32> {
    u32::try_from(fd.as_fd().as_raw_fd()).map_err(io::Error::other)
}

fn address(path: &CString) -> u64 {
    path.as_ptr().expose_provenance() as u64
}

/// What a program is loaded with: the first fields of the kernel's.
#[repr(C)]
struct ProgramLoadAttr {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// Has the verifier take a program of a type, for one kind of hook, with flags; on failure, with its last words.
/// `code` is whole instructions of eight bytes, and its maps are open descriptors.
pub(super) fn load_program(
    (kind, expected_attach_type, flags): (u32, u32, u32),
    name: &str,
    code: &[u64],
    license: &CStr,
) -> io::Result<OwnedFd> {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    let mut attr = ProgramLoadAttr {
        kind,
        instructions: u32::try_from(code.len()).map_err(io::Error::other)?,
        code: code.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags,
        name: short,
        interface: 0,
        expected_attach_type,
    };
    let error = match load(&mut attr) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    // Its words cost more than its work, so it is asked for them only now.
    let mut log = vec![0_u8; LOG];
    attr.log_level = 1;
    attr.log_size = u32::try_from(LOG).map_err(io::Error::other)?;
    attr.log = log.as_mut_ptr().expose_provenance() as u64;
    load(&mut attr).map_err(|_again| {
        let words = format!("{error}: {}", last_words(&log));
        io::Error::new(error.kind(), words)
    })
}

fn load(attr: &mut ProgramLoadAttr) -> io::Result<OwnedFd> {
    let fd = bpf(PROG_LOAD, attr)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The last lines of the verifier's words.
fn last_words(log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0);
    let words = String::from_utf8_lossy(log.get(..end.unwrap_or(log.len())).unwrap_or_default());
    let lines: Vec<_> = words.lines().collect();
    lines
        .get(lines.len().saturating_sub(8)..)
        .unwrap_or_default()
        .join("; ")
}

/// What a program is run with: the first fields of the kernel's.
#[repr(C)]
#[derive(Default)]
struct ProgramRunAttr {
    program: u32,
    answer: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// The cookie of the other end of a UNIX socket; zero where there is none.
pub(super) fn peer_cookie(program: &impl AsFd, socket: &impl AsFd) -> io::Result<u64> {
    let mut asked = Peer {
        descriptor: number(socket)?,
        ..Peer::default()
    };
    let mut attr = ProgramRunAttr {
        program: number(program)?,
        context_size_in: u32::try_from(size_of::<Peer>()).map_err(io::Error::other)?,
        context_in: std::ptr::from_mut(&mut asked).expose_provenance() as u64,
        ..ProgramRunAttr::default()
    };
    bpf(PROG_RUN, &mut attr)?;
    // The kernel has written it behind the compiler's back.
    // SAFETY: a record of our own, of plain numbers.
    Ok(unsafe { std::ptr::read_volatile(&raw const asked.cookie) })
}

/// Whether a socket is of the family of UNIX.
pub(super) fn is_unix(socket: &impl AsFd) -> io::Result<bool> {
    let domain = socket2::SockRef::from(&socket.as_fd()).domain()?;
    Ok(domain == socket2::Domain::UNIX)
}

/// Who connected a UNIX socket, as the kernel kept it then: process and effective user.
pub(super) fn peer_credentials(socket: &impl AsFd) -> io::Result<(u32, u32)> {
    let found =
        nix::sys::socket::getsockopt(&socket.as_fd(), nix::sys::socket::sockopt::PeerCredentials)?;
    Ok((u32::try_from(found.pid()).unwrap_or(0), found.uid()))
}

/// Bytes of the verifier's words that are kept.
const LOG: usize = 1 << 20;

/// The number of lsm_list_modules(2) (Linux 6.8) on every machine.
const LSM_LIST_MODULES: libc::c_long = 461;

/// The numbers of the security modules that are active (`LSM_ID_*`).
pub(super) fn security_modules() -> io::Result<Vec<u64>> {
    let mut ids = vec![0_u64; 64];
    let mut size = u32::try_from(ids.len() * 8).map_err(io::Error::other)?;
    // SAFETY: list and size are ours, and the size is the list's.
    let found = unsafe { libc::syscall(LSM_LIST_MODULES, ids.as_mut_ptr(), &raw mut size, 0_u32) };
    if found < 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(usize::try_from(found).unwrap_or(0));
    Ok(ids)
}

/// `SO_NETNS_COOKIE` (Linux 5.14).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the network namespace that a socket lives in.
pub(super) fn netns_cookie(socket: &impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: value and length are ours, and the length is the value's.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// A kernfs file handle: the cgroup's id is the handle (`FILEID_KERNFS`, Linux 5.6).
#[repr(C)]
struct CgroupHandle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    id: [u8; 8],
}

/// Opens the cgroup with this id on the hierarchy that `mount` lies on.
pub(super) fn open_cgroup(mount: &impl AsFd, id: u64) -> io::Result<OwnedFd> {
    let mut handle = CgroupHandle {
        bytes: 8,
        kind: 0xfe,
        id: id.to_ne_bytes(),
    };
    // SAFETY: the handle is a `struct file_handle` with eight bytes behind it, as it says.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_fd().as_raw_fd(),
            &raw mut handle,
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
