//! What tests of state that outlives the daemon share: a process that is killed at each of its syncs, right
//! before it and right after it, and what was acknowledged by then.
//!
//! The process is traced by the test that starts it; the kernel stops it at the calls that bring bytes to a
//! disk (seccomp(2), `SECCOMP_RET_TRACE`; ptrace(2)).

#![expect(unsafe_code, reason = "ptrace, seccomp and a child before its exec")]

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::ptr;

use libc::{c_int, c_long, c_ulong, pid_t, sock_filter, sock_fprog};

/// Calls that bring bytes to a disk.
const SYNCS: [c_long; 5] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
];

/// What stands before each line that a killed process says.
const SAID: &str = "acknowledged ";

/// Says something that is to be true after any kill. For the process that is killed.
pub(crate) fn acknowledge(what: &str) {
    use std::io::Write as _;
    let mut out = io::stdout().lock();
    writeln!(out, "{SAID}{what}").expect("the parent reads");
    out.flush().expect("the parent reads");
}

/// Runs `test` of this binary, with `variable` naming a fresh place, and kills it at its first sync, at its
/// second, and so on until it ends by itself; `check` is told the place and what had been acknowledged. How many
/// were killed.
pub(crate) fn killed_at_each_sync(
    (test, variable): (&str, &str),
    mut check: impl FnMut(&Path, &[String]),
) -> usize {
    for point in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let own = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(directory.path(), own).unwrap();
        let (lines, killed) = run((test, variable), directory.path(), point);
        check(directory.path(), &lines);
        if !killed {
            assert!(!lines.is_empty(), "{test} has done nothing");
            return point;
        }
    }
    0
}

/// One run, killed at this point: at an even one before a sync, at an odd one after it.
fn run((test, variable): (&str, &str), place: &Path, point: usize) -> (Vec<String>, bool) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", test])
        .env(variable, place)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut filter = filter();
    // SAFETY: between fork and exec it makes calls of the kernel and allocates nothing.
    unsafe { command.pre_exec(move || is_stopped_at_syncs(&mut filter)) };
    let mut child = command.spawn().expect("a child");
    let killed = trace(&child, point);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines = lines.map_while(Result::ok).filter_map(|line| {
        let (_, said) = line.split_once(SAID)?;
        Some(said.to_owned())
    });
    let lines = lines.collect();
    // Its end was seen by who traced it.
    drop(child.try_wait());
    (lines, killed)
}

/// What stops a call that syncs, and lets all others pass.
fn filter() -> Vec<sock_filter> {
    let statement = |code, k| sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    // BPF_LD | BPF_W | BPF_ABS: the number of the call.
    let mut filter = vec![statement(0x20, 0)];
    for call in SYNCS {
        // BPF_JMP | BPF_JEQ | BPF_K: the next is passed over where it is another.
        filter.push(sock_filter {
            jf: 1,
            ..statement(0x15, u32::try_from(call).unwrap())
        });
        // BPF_RET | BPF_K
        filter.push(statement(0x06, libc::SECCOMP_RET_TRACE));
    }
    filter.push(statement(0x06, libc::SECCOMP_RET_ALLOW));
    filter
}

/// In the child: it is traced, and each sync of it and of its threads stops it.
fn is_stopped_at_syncs(filter: &mut [sock_filter]) -> io::Result<()> {
    let program = sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(0),
        filter: filter.as_mut_ptr(),
    };
    let mode = c_ulong::from(libc::SECCOMP_MODE_FILTER);
    let one: c_ulong = 1;
    // SAFETY: plain calls; the filter outlives the one that reads it.
    let made = unsafe {
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, 0_u64, 0_u64, 0_u64) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) == 0
    };
    made.then_some(()).ok_or_else(io::Error::last_os_error)
}

/// Follows a child and its threads to their end; whether it was killed at this point.
fn trace(child: &Child, point: usize) -> bool {
    let whole = pid_t::try_from(child.id()).unwrap();
    let (mut syncs, mut is_set, mut killed) = (0, false, false);
    // The thread that is in the sync behind which all end.
    let mut inside: Option<pid_t> = None;
    loop {
        let mut status: c_int = 0;
        // SAFETY: children of this thread alone are waited for; the status is ours.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if pid < 0 {
            return killed;
        }
        if !libc::WIFSTOPPED(status) {
            continue;
        }
        if !is_set {
            let options = libc::PTRACE_O_EXITKILL
                | libc::PTRACE_O_TRACESECCOMP
                | libc::PTRACE_O_TRACECLONE
                | libc::PTRACE_O_TRACESYSGOOD;
            request(libc::PTRACE_SETOPTIONS, pid, i64::from(options));
            is_set = true;
            request(libc::PTRACE_CONT, pid, 0);
            continue;
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let is_sync = event == libc::PTRACE_EVENT_SECCOMP;
        let is_behind = signal == libc::SIGTRAP | 0x80 && inside == Some(pid);
        if is_behind || is_sync && syncs * 2 == point {
            killed = true;
            // SAFETY: a child of ours that was not waited for yet.
            unsafe { libc::kill(whole, libc::SIGKILL) };
            continue;
        }
        let to_its_end = is_sync && syncs * 2 + 1 == point;
        syncs += usize::from(is_sync);
        inside = if to_its_end { Some(pid) } else { inside };
        let how = match to_its_end {
            true => libc::PTRACE_SYSCALL,
            false => libc::PTRACE_CONT,
        };
        // A stop of the tracing itself is no signal of the process.
        let own = event != 0 || matches!(signal & !0x80, libc::SIGTRAP | libc::SIGSTOP);
        request(how, pid, if own { 0 } else { i64::from(signal) });
    }
}

/// A thread that is gone by now is told nothing.
fn request(what: libc::c_uint, pid: pid_t, data: i64) {
    // SAFETY: the requests take a number, and no memory of ours.
    unsafe { libc::ptrace(what, pid, ptr::null_mut::<libc::c_void>(), data) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says where the process that is killed is to write.
    const CHILD: &str = "INTERCEPTOR_TEST_SYNCS_CHILD";

    /// Runs in the killed process only.
    #[test]
    fn the_child_that_is_killed_syncs_three_times() {
        let Ok(place) = std::env::var(CHILD) else {
            return;
        };
        let write = move || {
            for number in 0..3 {
                let file = std::fs::File::create(Path::new(&place).join(number.to_string()));
                file.unwrap().sync_all().unwrap();
                acknowledge(&number.to_string());
            }
        };
        // Of another thread, too.
        std::thread::spawn(write).join().unwrap();
    }

    #[test]
    fn a_process_is_killed_before_and_after_each_of_its_syncs() {
        let test = "state::testing::tests::the_child_that_is_killed_syncs_three_times";
        let mut seen = Vec::new();
        let killed = killed_at_each_sync((test, CHILD), |place, said| {
            let made = std::fs::read_dir(place).unwrap().count();
            seen.push((made, said.len()));
        });
        assert_eq!(killed, 6);
        let expected = [(1, 0), (1, 0), (2, 1), (2, 1), (3, 2), (3, 2), (3, 3)];
        assert_eq!(seen, expected);
    }
}
