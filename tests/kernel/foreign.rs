//! Programs of others on the hooks of ours.

#![expect(
    unsafe_code,
    reason = "a program of somebody else is loaded by bpf(2) itself"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use interceptor::capture::{self, DenyReason};

use crate::scene::{Namespace, Scene, is_idle, run, server};

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const SOCK_ADDR: u32 = 18;
/// `BPF_CGROUP_INET4_CONNECT`, `BPF_CGROUP_INET6_CONNECT`, `BPF_CGROUP_UDP4_SENDMSG`.
const CONNECT4: u32 = 10;
const CONNECT6: u32 = 11;
const SENDMSG4: u32 = 14;
/// No flag of `BPF_PROG_ATTACH`: no cgroup below may have a program of its own.
pub(crate) const ALONE: u32 = 0;
/// `BPF_F_ALLOW_MULTI`: behind those that are there.
const BEHIND: u32 = 2;
/// r0 = 1; exit
pub(crate) const PERMIT: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
/// r1 = 0; call `bpf_set_retval`; r0 = 1; exit
const FORGIVE: [u64; 4] = [
    0x0000_0000_0000_01b7,
    0x0000_00bb_0000_0085,
    0x0000_0001_0000_00b7,
    0x95,
];

/// A program on a cgroup; gone when dropped.
pub(crate) struct Foreign {
    cgroup: File,
    program: OwnedFd,
    attach_type: u32,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u32; 6],
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The same for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct Attach {
    cgroup: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

impl Foreign {
    pub(crate) fn connect4(cgroup: &Path, code: &[u64], flags: u32) -> io::Result<Self> {
        Self::at(CONNECT4, cgroup, code, flags)
    }

    fn at(attach_type: u32, cgroup: &Path, code: &[u64], flags: u32) -> io::Result<Self> {
        let mut load = Load {
            kind: SOCK_ADDR,
            instructions: u32::try_from(code.len()).unwrap(),
            code: code.as_ptr().expose_provenance() as u64,
            license: c"GPL".as_ptr().expose_provenance() as u64,
            attach_type,
            ..Load::default()
        };
        let program = bpf(5, &mut load)?;
        let foreign = Self {
            cgroup: File::open(cgroup)?,
            // SAFETY: the kernel has just given this descriptor to us alone.
            program: unsafe { OwnedFd::from_raw_fd(program) },
            attach_type,
        };
        foreign.tell(8, flags)?;
        Ok(foreign)
    }

    /// Attaches or detaches it.
    fn tell(&self, command: libc::c_int, flags: u32) -> io::Result<()> {
        let number = |fd: i32| u32::try_from(fd).unwrap();
        let mut attach = Attach {
            cgroup: number(self.cgroup.as_raw_fd()),
            program: number(self.program.as_raw_fd()),
            attach_type: self.attach_type,
            flags,
        };
        bpf(command, &mut attach).map(drop)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.tell(9, 0).unwrap();
    }
}

pub(crate) fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<i32> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` of the size given; what it points to outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<A>()) };
    match answer {
        0.. => Ok(i32::try_from(answer).unwrap()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A program behind ours that forgives what ours refused; none before Linux 5.18, where no program can.
fn forgiving(scene: &Scene, attach_type: u32) -> Option<Foreign> {
    let directory = scene.capture.hierarchy().directory(&scene.scope.path);
    match Foreign::at(attach_type, &directory, &FORGIVE, BEHIND) {
        Ok(forgiving) => Some(forgiving),
        Err(error) => {
            let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap();
            assert!(!symbols.contains(" bpf_set_retval\n"), "{error}");
            None
        }
    }
}

#[test]
fn a_verdict_that_another_program_takes_back_lets_no_byte_out() {
    for (attach_type, on) in [(CONNECT4, "127.0.0.1"), (CONNECT6, "::1")] {
        let scene = Scene::new();
        let literal = on.contains(':').then(|| format!("[{on}]:0"));
        let (target, at) = server(&literal.unwrap_or_else(|| format!("{on}:0")));
        let mut events = scene.events();
        let Some(forgiving) = forgiving(&scene, attach_type) else {
            return;
        };
        let port = at.port().to_string();
        // What nothing answers is not waited for long.
        let script = "s = tcp(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n\
                      s.settimeout(2); outcome(s.connect, (sys.argv[1], int(sys.argv[2])))";
        let said = scene.run(script, &[on, &port]);
        assert_ne!(said, "ok", "{on}: it is connected");
        scene.denied(&mut events, DenyReason::Egress);
        assert!(is_idle(&target), "{on}: it came through");
        drop(forgiving);
        assert_eq!(scene.run(script, &[on, &port]), "EPERM", "{on}");
        assert!(is_idle(&target), "{on}");
    }
}

#[test]
fn a_datagram_that_another_program_lets_pass_is_refused_again_behind_it() {
    let scene = Scene::new();
    // What goes to loopback is judged by the guard alone.
    let netns = Namespace::new();
    run(
        "ip",
        &["-n", &netns.0, "addr", "add", "10.77.1.9/32", "dev", "lo"],
    );
    let refused = || scene.capture.refused(DenyReason::Udp).unwrap();
    let Some(forgiving) = forgiving(&scene, SENDMSG4) else {
        return;
    };
    let script = "outcome(udp().sendto, b'x', ('10.77.1.9', 9))";
    scene.client_in(&netns, script, &[]).finish();
    // Where it was sent, which was taken back, and by the guard behind that.
    assert_eq!(refused(), 2);
    drop(forgiving);
    assert_eq!(scene.client_in(&netns, script, &[]).finish(), "EPERM");
    assert_eq!(refused(), 3);
}

#[test]
fn whoever_looks_is_told_of_programs_that_run_behind_ours() {
    let scene = Scene::new();
    let told = || capture::foreign(&scene.pins).unwrap();
    assert_eq!(told(), []);
    assert_eq!(capture::standing(&scene.pins).unwrap().scopes, 1);
    let directory = scene.capture.hierarchy().directory(&scene.scope.path);
    let behind = Foreign::at(CONNECT6, &directory, &PERMIT, BEHIND).unwrap();
    let found = told();
    let [one] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (one.cgroup.as_str(), one.hook),
        (scene.scope.path.as_str(), "connect6")
    );
    drop(behind);
    assert_eq!(told(), []);
    // What runs before ours has not the last word.
    let below = format!("{}/below", scene.scope.path);
    scene.capture.hierarchy().make(&below).unwrap();
    let before = Foreign::connect4(
        &scene.capture.hierarchy().directory(&below),
        &PERMIT,
        BEHIND,
    );
    assert_eq!(told(), []);
    drop(before.unwrap());
    std::fs::remove_dir(scene.capture.hierarchy().directory(&below)).unwrap();
}
