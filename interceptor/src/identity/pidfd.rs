//! A process held by a file descriptor (pidfd_open(2), Linux 5.3).

#![expect(
    unsafe_code,
    reason = "pidfds have no wrapper, and tokio must be promised that a descriptor stays"
)]

use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Opens the process with this number.
///
/// # Errors
/// `ESRCH` where there is none, `EINVAL` where it is a mere thread.
pub fn open(pid: u32) -> Result<OwnedFd, Errno> {
    let pid = libc::pid_t::try_from(pid).map_err(|_ignored| Errno::ESRCH)?;
    // SAFETY: a system call on two integers; it touches no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = RawFd::try_from(Errno::result(answer)?).map_err(|_ignored| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it. It is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether the process has not ended. A pidfd becomes readable when its last thread ends.
pub fn is_alive(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(ready) => return ready == 0,
            Err(Errno::EINTR) => {}
            // What cannot be asked has not been shown to live.
            Err(_) => return false,
        }
    }
}

/// Ends the process with SIGKILL (pidfd_send_signal(2), Linux 5.1). One that has ended already is as it should be.
///
/// # Errors
/// Where it may not be.
pub fn kill(pidfd: &OwnedFd) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a descriptor of ours and numbers; without information of our own no memory is read.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            none,
            0,
        )
    };
    match Errno::result(answer) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a pidfd wait for its process's end. Within a runtime only.
pub(super) fn watch(pidfd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` answers one descriptor all its life, and keeps it open until it is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    watched.map_err(|error| error.into_parts().1)
}
