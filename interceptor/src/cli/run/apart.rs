//! What keeps a command from other processes: no capabilities, no keys of theirs, and a domain of its own.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// `landlock_ruleset_attr`.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

/// `LANDLOCK_ACCESS_FS_MAKE_BLOCK` and `…_REFER`.
const MAKE_BLOCK: u64 = 1 << 11;
const REFER: u64 = 1 << 13;

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `…_SIGNAL`.
const ABSTRACT: u64 = 1;
const SIGNAL: u64 = 2;

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION: u32 = 1;

/// The version from which on a domain with rules for files lets them be moved between directories (Linux 5.19).
const MOVING: i64 = 2;

/// The version from which on domains have scopes (Linux 6.12).
const SCOPED: i64 = 6;

/// Whether this kernel has domains that files can be moved within.
pub(in crate::cli) fn domains() -> bool {
    version() >= MOVING
}

/// Whether a domain keeps signals in, on this kernel.
pub(in crate::cli) fn scopes() -> bool {
    version() >= SCOPED
}

/// Enters a Landlock domain where the kernel has them: from within, processes outside are neither traced nor
/// looked into, nor signalled (version 6), nor reached by abstract sockets, where `others` are not (the same).
/// Says whether there is one. It may gain no privileges any more.
pub(super) fn domain(others: bool) -> io::Result<bool> {
    let version = version();
    if !domains() {
        return Ok(false);
    }
    let scoped = if others { SIGNAL } else { SIGNAL | ABSTRACT };
    let (wanted, size) = if version >= SCOPED {
        let wanted = Ruleset {
            files: 0,
            network: 0,
            scoped,
        };
        (wanted, size_of::<Ruleset>())
    } else {
        // A domain needs something to rule: what nobody without capabilities can make.
        let wanted = Ruleset {
            files: MAKE_BLOCK | REFER,
            network: 0,
            scoped: 0,
        };
        (wanted, size_of::<u64>())
    };
    // SAFETY: the record outlives the call, and is at least as long as it says.
    let made = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const wanted,
            size,
            0_u32,
        )
    };
    let ruleset = descriptor(made)?;
    if version < 6 {
        move_anywhere(&ruleset)?;
    }
    // SAFETY: two numbers.
    let entered =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if entered != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(true)
}

/// The version of Landlock; zero where there is none.
fn version() -> i64 {
    // SAFETY: no record is given.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0_usize,
            VERSION,
        )
    };
    answer.max(0)
}

/// Moving files between directories is refused in every domain that rules files, unless it is allowed.
fn move_anywhere(ruleset: &OwnedFd) -> io::Result<()> {
    let root = std::fs::File::open("/")?;
    let rule = Beneath {
        allowed: REFER,
        parent: root.as_raw_fd(),
    };
    // SAFETY: the record outlives the call; 1 is LANDLOCK_RULE_PATH_BENEATH.
    let added = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            1,
            &raw const rule,
            0_u32,
        )
    };
    if added != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn descriptor(answer: libc::c_long) -> io::Result<OwnedFd> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes every capability out of what a later exec could give; only root can, and only root needs it.
pub(super) fn bound() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: two numbers.
        let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if answer == 0 {
            continue;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Beyond the last that the kernel has.
            Some(libc::EINVAL) => return Ok(()),
            _ => return Err(error),
        }
    }
    Ok(())
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

/// Acts without the use of a capability, as root does that has none, and has them again then.
pub(super) fn unarmed<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    let header = [VERSION_3, 0];
    let mut before = [0_u32; 6];
    // SAFETY: the header is two words, the sets are six, as the version has it.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), before.as_mut_ptr()) };
    let set = |sets: [u32; 6]| {
        // SAFETY: as above.
        let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
        match set {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    // What can be used of them is the first of three words, twice.
    let [_, permitted, inherited, _, more, and_more] = before;
    set([0, permitted, inherited, 0, more, and_more])?;
    let done = act();
    set(before)?;
    Ok(done)
}

/// Gives up every capability that this process holds.
pub(super) fn disarm() -> io::Result<()> {
    let header = [VERSION_3, 0];
    let none = [0_u32; 6];
    // SAFETY: the header is two words, the sets are six, as the version has it.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    // SAFETY: numbers.
    let ambient = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    if set != 0 || ambient != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Leaves the keys of the session that this was started in. A kernel without keys has none to leave.
pub(super) fn forget_keys() {
    /// `KEYCTL_JOIN_SESSION_KEYRING`.
    const JOIN: libc::c_int = 1;
    // SAFETY: a number and no name.
    let _unless_there_are_none =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN, std::ptr::null::<u8>()) };
}
