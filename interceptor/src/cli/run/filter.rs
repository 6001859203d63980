//! The filter of system calls (seccomp) that a command and all that it starts is under.
//!
//! It takes away what the hooks of a scope do not see: families of sockets, rings that make sockets without
//! a call, namespaces, the kernel's own programs and modules, requests that a helper outside answers, keys
//! that are typed into somebody else's terminal. Only the machine's own calls pass: those of other ABIs have
//! other numbers for the same.

use std::io;

use libc::{c_long, sock_filter, sock_fprog};

/// What else is known of the command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    /// It may make namespaces, and mount in them.
    pub(super) namespaces: bool,
    /// Something else keeps it from looking into processes of others.
    pub(super) apart: bool,
}

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// `__X32_SYSCALL_BIT`: numbers from here on are another ABI's, under the name of the native one.
#[cfg(target_arch = "x86_64")]
const OTHER_ABI: u32 = 0x4000_0000;

/// Never.
const NEVER: &[c_long] = &[
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Not without namespaces of one's own.
const IN_NAMESPACES: &[c_long] = &[
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
];

/// Not where nothing keeps processes apart.
const OF_OTHERS: &[c_long] = &[
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
];

/// `CLONE_NEW*`, all of them.
const NAMESPACES: u32 = 0x7e02_0080;

/// `AF_*` that remain, and `NETLINK_ROUTE`.
const UNIX: u32 = 1;
const INET: u32 = 2;
const INET6: u32 = 10;
const NETLINK: u32 = 16;
const ROUTE: u32 = 0;

/// `SOCK_DGRAM`, behind `SOCK_STREAM` and before all others; and the bits that are no flags.
const DATAGRAM: u32 = 2;
const KIND: u32 = 0xf;

/// Requests that type into a terminal, or paste.
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;

/// Requests of ptrace(2) that lay hold of a process that is not one's own child.
const ATTACH: u32 = 16;
const SEIZE: u32 = 0x4206;

/// Puts this thread, and all that it becomes, under the filter. It may gain no privileges any more.
pub(super) fn install(filter: Filter) -> io::Result<()> {
    let mut code = program(filter);
    let program = sock_fprog {
        len: u16::try_from(code.len()).map_err(io::Error::other)?,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: the program and its code outlive the call, which copies them.
    let answer = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The whole program.
fn program(filter: Filter) -> Vec<sock_filter> {
    let mut code = vec![load(ARCH), equal(NATIVE, 1, 0), refuse(libc::ENOSYS)];
    #[cfg(target_arch = "x86_64")]
    code.extend([
        load(NUMBER),
        at_least(OTHER_ABI, 0, 1),
        refuse(libc::ENOSYS),
    ]);
    for number in NEVER {
        of(&mut code, *number, &[refuse(libc::EPERM)]);
    }
    of(&mut code, libc::SYS_socket, &socket());
    of(&mut code, libc::SYS_socketpair, &pair());
    of(&mut code, libc::SYS_ioctl, &neither(1, TIOCSTI, TIOCLINUX));
    if !filter.namespaces {
        for number in IN_NAMESPACES {
            of(&mut code, *number, &[refuse(libc::EPERM)]);
        }
        of(&mut code, libc::SYS_unshare, &no_namespaces());
        of(&mut code, libc::SYS_clone, &no_namespaces());
    }
    // Its flags lie in memory, where a filter cannot look, and it begins processes in other cgroups by files that
    // are only read; libraries then call clone().
    of(&mut code, libc::SYS_clone3, &[refuse(libc::ENOSYS)]);
    if !filter.apart {
        for number in OF_OTHERS {
            of(&mut code, *number, &[refuse(libc::EPERM)]);
        }
        of(&mut code, libc::SYS_ptrace, &neither(0, ATTACH, SEIZE));
    }
    code.push(ALLOW);
    code
}

/// What is done about one call; where its code runs out, the next is looked at.
fn of(code: &mut Vec<sock_filter>, number: c_long, body: &[sock_filter]) {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let over = u8::try_from(body.len()).unwrap_or(u8::MAX);
    code.extend([load(NUMBER), equal(number, 0, over)]);
    code.extend(body);
}

fn socket() -> [sock_filter; 15] {
    [
        load(argument(0)),
        equal(UNIX, 0, 1),
        ALLOW,
        equal(NETLINK, 3, 0),
        equal(INET, 6, 0),
        equal(INET6, 5, 0),
        refuse(libc::EAFNOSUPPORT),
        // Of the kernel's own, routes and addresses, which libraries ask for.
        load(argument(2)),
        equal(ROUTE, 0, 1),
        ALLOW,
        refuse(libc::EPROTONOSUPPORT),
        // No raw packets; which protocols there are is the hooks' to say.
        load(argument(1)),
        and(KIND),
        at_least(DATAGRAM + 1, 0, 1),
        refuse(libc::EPERM),
    ]
}

fn pair() -> [sock_filter; 3] {
    [
        load(argument(0)),
        equal(UNIX, 1, 0),
        refuse(libc::EAFNOSUPPORT),
    ]
}

/// Refuses a call whose argument is one of two.
fn neither(at: u32, one: u32, other: u32) -> [sock_filter; 4] {
    [
        load(argument(at)),
        equal(one, 1, 0),
        equal(other, 0, 1),
        refuse(libc::EPERM),
    ]
}

fn no_namespaces() -> [sock_filter; 4] {
    [
        load(argument(0)),
        and(NAMESPACES),
        equal(0, 1, 0),
        refuse(libc::EPERM),
    ]
}

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// The lower half of an argument: the kernel reads no more of those that are looked at here.
const fn argument(at: u32) -> u32 {
    16 + 8 * at
}

const ALLOW: sock_filter = plain(0x06, libc::SECCOMP_RET_ALLOW);

const fn refuse(errno: libc::c_int) -> sock_filter {
    plain(0x06, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())
}

const fn load(offset: u32) -> sock_filter {
    plain(0x20, offset)
}

const fn and(bits: u32) -> sock_filter {
    plain(0x54, bits)
}

const fn equal(value: u32, yes: u8, no: u8) -> sock_filter {
    branch(0x15, value, yes, no)
}

const fn at_least(value: u32, yes: u8, no: u8) -> sock_filter {
    branch(0x35, value, yes, no)
}

const fn plain(code: u16, value: u32) -> sock_filter {
    branch(code, value, 0, 0)
}

const fn branch(code: u16, value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter {
        code,
        jt: yes,
        jf: no,
        k: value,
    }
}

#[cfg(test)]
mod tests;
