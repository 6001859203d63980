//! The cgroup v2 hierarchy: its mount, and its cgroups by path and by id.
//!
//! Paths are below the mount; those that are told have a leading slash, as in `/proc/<pid>/cgroup`.
//! The mount is looked up, never assumed: hybrid hosts have it at `/sys/fs/cgroup/unified`.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Error, syscall};

/// Where the daemon goes from the root cgroup.
pub const DEFAULT_HOME: &str = "interceptor";

/// The inode of the root cgroup (kernfs numbers its root 1).
const ROOT_ID: u64 = 1;

/// The cgroup v2 hierarchy of this host.
#[derive(Debug)]
pub struct Hierarchy {
    mount: PathBuf,
    /// Kept open for handles.
    directory: File,
}

impl Hierarchy {
    /// Finds the mount.
    ///
    /// # Errors
    /// Where no cgroup v2 is mounted, or what is mounted is only a part of it.
    pub fn find() -> Result<Self, Error> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(cgroup_error(
            "read mounts of",
            Path::new("/proc/self/mountinfo"),
        ))?;
        let mount = mounts
            .lines()
            .find_map(mount_point)
            .ok_or(Error::Hierarchy(
                "none is mounted; mount one with `mount -t cgroup2 none /sys/fs/cgroup`",
            ))?;
        let directory = File::open(&mount).map_err(cgroup_error("open", &mount))?;
        let root = directory.metadata().map_err(cgroup_error("stat", &mount))?;
        if root.ino() != ROOT_ID {
            return Err(Error::Hierarchy(
                "only a part of it is visible; run outside a cgroup namespace",
            ));
        }
        Ok(Self { mount, directory })
    }

    /// The mount point.
    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The directory of a cgroup.
    #[must_use]
    pub fn directory(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    /// The id of a cgroup, which is its directory's inode.
    ///
    /// # Errors
    /// Where there is no such cgroup.
    pub fn id(&self, path: &str) -> Result<u64, Error> {
        let directory = self.directory(path);
        let found = fs::metadata(&directory).map_err(cgroup_error("find", &directory))?;
        Ok(found.ino())
    }

    /// The path of the cgroup with this id; none where it is gone.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn path(&self, id: u64) -> Result<Option<String>, Error> {
        let opened = match syscall::open_cgroup(&self.directory, id) {
            Ok(opened) => opened,
            Err(gone) if matches!(gone.raw_os_error(), Some(libc::ESTALE | libc::ENOENT)) => {
                return Ok(None);
            }
            Err(source) => {
                return Err(cgroup_error("open by id", Path::new(&id.to_string()))(
                    source,
                ));
            }
        };
        let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let path = fs::read_link(&link).map_err(cgroup_error("name", Path::new(&link)))?;
        // A cgroup that cannot be named is an error, not a cgroup that is gone: gone ones are forgotten.
        let below = path.strip_prefix(&self.mount).ok().and_then(Path::to_str);
        let below = below.ok_or(Error::Hierarchy("a tagged cgroup lies outside of it"))?;
        Ok(Some(format!("/{below}")))
    }

    /// The cgroup of a process; `None` asks for this one's.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn of(&self, pid: Option<u32>) -> Result<String, Error> {
        let file = match pid {
            Some(pid) => PathBuf::from(format!("/proc/{pid}/cgroup")),
            None => PathBuf::from("/proc/self/cgroup"),
        };
        let text = fs::read_to_string(&file).map_err(cgroup_error("read", &file))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        path.map(str::to_owned)
            .ok_or(Error::Hierarchy("the process is in none"))
    }

    /// Makes a cgroup, and those above it, where they are missing.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn make(&self, path: &str) -> Result<(), Error> {
        let directory = self.directory(path);
        fs::create_dir_all(&directory).map_err(cgroup_error("make", &directory))
    }

    /// Moves a process, with all its threads, into a cgroup.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn enter(&self, path: &str, pid: u32) -> Result<(), Error> {
        let file = self.directory(path).join("cgroup.procs");
        fs::write(&file, pid.to_string()).map_err(cgroup_error("enter", &file))
    }

    /// The processes in a cgroup and in those below it.
    ///
    /// # Errors
    /// Where a cgroup cannot be read; one that goes away meanwhile is passed over. So is a threaded one
    /// below the first, which the kernel does not list: the nearest above it that is not lists its
    /// processes too.
    pub fn processes(&self, path: &str) -> Result<Vec<u32>, Error> {
        let mut found = Vec::new();
        let first = self.directory(path);
        let mut open = vec![first.clone()];
        while let Some(directory) = open.pop() {
            let file = directory.join("cgroup.procs");
            let text = match fs::read_to_string(&file) {
                Ok(text) => text,
                Err(gone) if is_gone(&gone) => continue,
                Err(threaded) if is_threaded(&threaded) && directory != first => String::new(),
                Err(source) => return Err(cgroup_error("read", &file)(source)),
            };
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(gone) if is_gone(&gone) => continue,
                Err(source) => return Err(cgroup_error("list", &directory)(source)),
            };
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(gone) if is_gone(&gone) => continue,
                    Err(source) => return Err(cgroup_error("list", &directory)(source)),
                };
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(entry.path()),
                    Ok(_file) => {}
                    Err(gone) if is_gone(&gone) => {}
                    Err(source) => return Err(cgroup_error("stat", &entry.path())(source)),
                }
            }
        }
        Ok(found)
    }

    /// Puts this process into a cgroup of its own: `wanted`, or where it is already, or
    /// [`DEFAULT_HOME`] from the root. Gives its path.
    pub(super) fn settle(&self, wanted: Option<&str>) -> Result<String, Error> {
        let now = self.of(None)?;
        let home = match wanted {
            Some(wanted) => format!("/{}", wanted.trim_matches('/')),
            None if now == "/" => format!("/{DEFAULT_HOME}"),
            None => return Ok(now),
        };
        if home != now {
            self.make(&home)?;
            self.enter(&home, std::process::id())?;
        }
        Ok(home)
    }
}

/// Levels of a path below the root.
pub(super) fn level(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// Whether `path` is `ancestor` or below it; both with a leading slash. What [lies outside](is_outside)
/// is within nothing.
#[must_use]
pub fn is_within(path: &str, ancestor: &str) -> bool {
    let ancestor = ancestor.trim_end_matches('/');
    let rest = path.strip_prefix(ancestor);
    !is_outside(path) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path leads out of the hierarchy: `/../x` is how the kernel names what lies outside of the
/// reader's cgroup namespace.
#[must_use]
pub fn is_outside(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// The mount point, where this line of mountinfo (proc_pid_mountinfo(5)) is a cgroup v2 mount.
fn mount_point(line: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    if after.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let point = before.split(' ').nth(4)?;
    Some(PathBuf::from(
        point
            .replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\134", "\\"),
    ))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn is_threaded(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

fn cgroup_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Cgroup {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests;
