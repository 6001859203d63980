//! One process that can be shown to be alive, and its files below /proc.
//!
//! The pidfd is opened first, then the directory by number. A number is not given away while its
//! process lives; so where [`Live::alive`] still holds after reading, everything read was of this process.
//! The directory's descriptor stays bound to its process: reads fail with ESRCH once that has ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat};

use super::{Error, pidfd};

/// Bytes of a small file of /proc: `status` with its longest lists is under 8 KiB.
const MAX_FILE: u64 = 64 << 10;
/// What most of them fit in: each read of one that does not has the kernel write it again.
const USUAL: usize = 2 << 10;
/// The inode of the initial user namespace (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
/// Threads that are asked for their capabilities; a process with more counts as privileged.
const MAX_THREADS: usize = 4_096;

/// A process.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) pid: u32,
    pidfd: OwnedFd,
    directory: OwnedFd,
}

/// What `stat` says, as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Field 4: its parent's number; 0 for none.
    pub(super) parent: u32,
    /// Field 22: its start since boot, in clock ticks.
    pub(super) started: u64,
}

impl Live {
    /// Opens the process that has this number now.
    pub(super) fn open(pid: u32) -> Result<Self, Error> {
        let pidfd = pidfd::open(pid).map_err(|errno| failed(pid, "pidfd", errno))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(format!("/proc/{pid}").as_str(), flags, Mode::empty())
            .map_err(|errno| failed(pid, "directory", errno))?;
        Ok(Self {
            pid,
            pidfd,
            directory,
        })
    }

    /// Fails where the process has ended.
    pub(super) fn alive(&self) -> Result<(), Error> {
        pidfd::is_alive(&self.pidfd)
            .then_some(())
            .ok_or(Error::Gone { pid: self.pid })
    }

    /// Gives the pidfd away.
    pub(super) fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Opens a file for reading.
    pub(super) fn file(&self, what: &'static str) -> Result<File, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        openat(&self.directory, what, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| failed(self.pid, what, errno))
    }

    /// Reads at most `most` bytes of a file.
    pub(super) fn read(&self, what: &'static str, most: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(USUAL);
        let read = self.file(what)?.take(most).read_to_end(&mut bytes);
        read.map_err(|cause| unreadable(self.pid, what, cause))?;
        Ok(bytes)
    }

    fn text(&self, what: &'static str) -> Result<String, Error> {
        let bytes = self.read(what, MAX_FILE)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a symbolic link.
    pub(super) fn link(&self, what: &'static str) -> Result<OsString, Error> {
        readlinkat(&self.directory, what).map_err(|errno| failed(self.pid, what, errno))
    }

    /// What a link leads to.
    pub(super) fn about(&self, what: &'static str) -> Result<FileStat, Error> {
        fstatat(&self.directory, what, AtFlags::empty())
            .map_err(|errno| failed(self.pid, what, errno))
    }

    /// Parent and start time.
    pub(super) fn stat(&self) -> Result<Stat, Error> {
        let text = self.text("stat")?;
        stat(&text).ok_or(Error::Malformed {
            pid: self.pid,
            what: "stat",
        })
    }

    /// The effective user id.
    pub(super) fn uid(&self) -> Result<u32, Error> {
        let status = self.text("status")?;
        // Real, effective, saved, file system (proc_pid_status(5)).
        field(&status, "Uid:")
            .and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok())
            .ok_or(Error::Malformed {
                pid: self.pid,
                what: "status",
            })
    }

    /// The path of its cgroup v2.
    pub(super) fn cgroup(&self) -> Result<String, Error> {
        let text = self.text("cgroup")?;
        // Hierarchy 0 is cgroup v2 (cgroups(7)).
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        path.map(str::to_owned).ok_or(Error::Malformed {
            pid: self.pid,
            what: "cgroup",
        })
    }

    /// Whether any of its threads holds a capability in the initial user namespace. All threads are
    /// asked, because each has its own.
    pub(super) fn is_privileged(&self) -> Result<bool, Error> {
        // One user namespace for all: setns(2) and unshare(2) refuse it to processes with threads.
        if self.about("ns/user")?.st_ino != INITIAL_USER_NAMESPACE {
            return Ok(false);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let tasks = nix::dir::Dir::openat(&self.directory, "task", flags, Mode::empty())
            .map_err(|errno| failed(self.pid, "task", errno))?;
        for (count, task) in tasks.into_iter().enumerate() {
            let task = task.map_err(|errno| failed(self.pid, "task", errno))?;
            let name = task.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            if count > MAX_THREADS || self.has_capabilities(&name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_capabilities(&self, thread: &str) -> Result<bool, Error> {
        let path = format!("task/{thread}/status");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut status = String::with_capacity(USUAL);
        let read = openat(&self.directory, path.as_str(), flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|fd| File::from(fd).take(MAX_FILE).read_to_string(&mut status));
        match read {
            Ok(_) => {}
            Err(error) if is_gone(&error) => return Ok(false),
            Err(cause) => return Err(unreadable(self.pid, "task", cause)),
        }
        let none = ["CapPrm:", "CapEff:", "CapAmb:"].iter().all(|name| {
            field(&status, name).is_some_and(|set| u64::from_str_radix(set.trim(), 16) == Ok(0))
        });
        Ok(!none)
    }
}

/// Reads `stat`; the name in parentheses may itself hold parentheses and spaces.
pub(super) fn stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // Field 3 is the first behind the name (proc_pid_stat(5)).
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(22 - 5)?.parse().ok()?;
    Some(Stat { parent, started })
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// An error of reading: of a process that has ended, /proc says so by what is missing.
pub(super) fn unreadable(pid: u32, what: &'static str, cause: io::Error) -> Error {
    if is_gone(&cause) {
        return Error::Gone { pid };
    }
    Error::Unreadable {
        pid,
        what,
        cause: Arc::new(cause),
    }
}

fn failed(pid: u32, what: &'static str, errno: Errno) -> Error {
    // pidfd_open(2) answers EINVAL for a thread that leads no group: its number has been reused.
    if what == "pidfd" && errno == Errno::EINVAL {
        return Error::Gone { pid };
    }
    unreadable(pid, what, errno.into())
}
