//! The program is run here as the kernel would run it, on calls that it must tell apart.

use libc::c_long;

use super::{ARCH, Filter, NATIVE, NUMBER, program};

const SHUT: Filter = Filter {
    namespaces: false,
    apart: false,
};
const OPEN: Filter = Filter {
    namespaces: true,
    apart: true,
};

/// What comes of a call: `None` where it passes, else the errno.
fn ask(filter: Filter, arch: u32, number: u32, arguments: [u64; 3]) -> Option<i32> {
    let code = program(filter);
    let word = |offset: u32| match offset {
        NUMBER => number,
        ARCH => arch,
        // The lower half of an argument.
        other => u32::try_from(arguments[(other as usize - 16) / 8] & 0xffff_ffff).unwrap(),
    };
    let (mut at, mut held) = (0_usize, 0_u32);
    loop {
        let step = code[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
        match step.code {
            0x20 => held = word(step.k),
            0x54 => held &= step.k,
            0x15 => at += jump(held == step.k),
            0x35 => at += jump(held >= step.k),
            0x06 if step.k == libc::SECCOMP_RET_ALLOW => return None,
            0x06 => return Some(i32::try_from(step.k & 0xffff).unwrap()),
            other => panic!("no such instruction: {other:#x}"),
        }
    }
}

fn call(filter: Filter, number: c_long, arguments: [u64; 3]) -> Option<i32> {
    ask(filter, NATIVE, u32::try_from(number).unwrap(), arguments)
}

#[test]
fn sockets_are_told_apart() {
    let (none, flags) = (None, 0o2_004_000);
    let family = Some(libc::EAFNOSUPPORT);
    let rows = [
        ([1, 1, 0], none),
        ([1, 5, 0], none),
        ([2, 1, 0], none),
        ([2, 2 | flags, 17], none),
        ([10, 1 | flags, 6], none),
        ([0xffff_ffff_0000_0002, 1, 0], none),
        ([2, 3, 1], Some(libc::EPERM)),
        ([10, 3 | flags, 58], Some(libc::EPERM)),
        ([2, 5, 132], Some(libc::EPERM)),
        ([16, 3, 0], none),
        ([16, 3, 4], Some(libc::EPROTONOSUPPORT)),
        ([17, 3, 0], family),
        ([40, 1, 0], family),
        ([0, 1, 0], family),
        ([38, 5, 0], family),
        ([44, 3, 0], family),
    ];
    for filter in [SHUT, OPEN] {
        for (arguments, expected) in rows {
            let answer = call(filter, libc::SYS_socket, arguments);
            assert_eq!(answer, expected, "{arguments:?}");
        }
        assert_eq!(call(filter, libc::SYS_socketpair, [1, 1, 0]), None);
        assert_eq!(call(filter, libc::SYS_socketpair, [30, 1, 0]), family);
    }
}

#[test]
fn other_machines_calls_do_not_pass() {
    let getpid = u32::try_from(libc::SYS_getpid).unwrap();
    assert_eq!(ask(SHUT, NATIVE, getpid, [0; 3]), None);
    for arch in [0x4000_0003, 0, 0x4000_0028, 0xc000_0015] {
        assert_eq!(
            ask(OPEN, arch, getpid, [0; 3]),
            Some(libc::ENOSYS),
            "{arch:#x}"
        );
    }
    #[cfg(target_arch = "x86_64")]
    for number in [0x4000_0000 | getpid, 0x4000_0000, u32::MAX] {
        assert_eq!(
            ask(OPEN, NATIVE, number, [0; 3]),
            Some(libc::ENOSYS),
            "{number:#x}"
        );
    }
}

#[test]
fn namespaces_and_other_processes_are_refused_where_they_must_be() {
    let no = Some(libc::EPERM);
    let (user, thread) = (0x1000_0000, 0x003d_0f00);
    let rows = [
        (libc::SYS_unshare, [user, 0, 0], no, None),
        (libc::SYS_unshare, [0x400, 0, 0], None, None),
        (libc::SYS_clone, [user | 17, 0, 0], no, None),
        (libc::SYS_clone, [thread, 0, 0], None, None),
        (
            libc::SYS_clone3,
            [0; 3],
            Some(libc::ENOSYS),
            Some(libc::ENOSYS),
        ),
        (libc::SYS_setns, [0; 3], no, None),
        (libc::SYS_mount, [0; 3], no, None),
        (libc::SYS_chroot, [0; 3], no, None),
        (libc::SYS_ptrace, [0, 0, 0], None, None),
        (libc::SYS_ptrace, [16, 0, 0], no, None),
        (libc::SYS_ptrace, [0x4206, 0, 0], no, None),
        (libc::SYS_process_vm_readv, [0; 3], no, None),
        (libc::SYS_pidfd_getfd, [0; 3], no, None),
        (libc::SYS_bpf, [0; 3], no, no),
        (libc::SYS_io_uring_setup, [0; 3], no, no),
        (libc::SYS_request_key, [0; 3], no, no),
        (libc::SYS_ioctl, [0, 0x5412, 0], no, no),
        (libc::SYS_ioctl, [0, 0xffff_ffff_0000_5412, 0], no, no),
        (libc::SYS_ioctl, [0, 0x541c, 0], no, no),
        (libc::SYS_ioctl, [0, 0x5401, 0], None, None),
        (libc::SYS_connect, [0; 3], None, None),
        (libc::SYS_execve, [0; 3], None, None),
    ];
    for (number, arguments, shut, open) in rows {
        assert_eq!(
            call(SHUT, number, arguments),
            shut,
            "{number} {arguments:?}"
        );
        assert_eq!(
            call(OPEN, number, arguments),
            open,
            "{number} {arguments:?}"
        );
    }
}
