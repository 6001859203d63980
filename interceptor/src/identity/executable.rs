//! What a process executes: proved to be the inode that the kernel stamped, and its SHA-256.
//!
//! Hashes are kept by device, inode, ctime and size. A file that changed a moment ago is hashed each
//! time: two changes within one tick of ctime look the same. FUSE answers as it likes, so it is never kept.

use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest;
use lru::LruCache;
use nix::sys::stat::{FileStat, fstat};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};

use super::live::{Live, unreadable};
use super::{Error, Executable, mounts};
use crate::capture::KernelFile;
use crate::clock;

/// Bytes of an executable; more would keep a thread busy for minutes.
const MAX_SIZE: u64 = 4 << 30;
/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// Hashes that are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
/// How old a change must be for ctime to tell it from the next: far over one tick of any kernel.
const SETTLED_SECONDS: i64 = 2;

/// A file's state: while it stays the same, so do its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Version {
    device: u64,
    inode: u64,
    ctime: (i64, i64),
    size: u64,
}

impl Version {
    fn of(about: &FileStat) -> Option<Self> {
        Some(Self {
            device: about.st_dev,
            inode: about.st_ino,
            ctime: (about.st_ctime, about.st_ctime_nsec),
            size: u64::try_from(about.st_size).ok()?,
        })
    }
}

/// The file that a process executes, held open.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    path: PathBuf,
    about: FileStat,
    pub(super) version: Version,
    /// Whether its bytes cannot change without its version.
    pub(super) settled: bool,
}

impl Open {
    /// Opens what the process executes now.
    pub(super) fn of(process: &Live) -> Result<Self, Error> {
        let pid = process.pid;
        let path = process.link("exe")?;
        let path = PathBuf::from(path.to_string_lossy().into_owned());
        let file = process.file("exe")?;
        let about = fstat(&file).map_err(|errno| unreadable(pid, "exe", errno.into()))?;
        let version = Version::of(&about).ok_or(Error::Malformed { pid, what: "exe" })?;
        let kind = fstatfs(&file).map_err(|errno| unreadable(pid, "exe", errno.into()))?;
        let age = clock::wall().as_second().saturating_sub(about.st_ctime);
        let settled = age >= SETTLED_SECONDS && kind.filesystem_type() != FUSE_SUPER_MAGIC;
        Ok(Self {
            file,
            path,
            about,
            version,
            settled,
        })
    }

    /// Whether it is the file that the kernel stamped.
    pub(super) fn is(&self, stamped: KernelFile, process: &Live) -> bool {
        mounts::by_stat(&self.about) == Some(stamped)
            || mounts::by_kernel(&self.file, process) == Some(stamped)
    }

    /// Fails where the process executes another file by now.
    pub(super) fn still(&self, process: &Live) -> Result<(), Error> {
        let now = process.about("exe")?;
        let same = (now.st_dev, now.st_ino) == (self.about.st_dev, self.about.st_ino);
        same.then_some(())
            .ok_or(Error::Executed { pid: process.pid })
    }
}

/// A hash, or why there is none; shared by all who wait for it.
type Slot = Arc<OnceLock<Result<String, Error>>>;

/// The hashes.
#[derive(Debug)]
pub(super) struct Hashes {
    kept: Mutex<LruCache<Version, Slot>>,
    #[cfg(test)]
    pub(super) computed: std::sync::atomic::AtomicUsize,
}

impl Default for Hashes {
    fn default() -> Self {
        Self {
            kept: Mutex::new(LruCache::new(KEPT)),
            #[cfg(test)]
            computed: std::sync::atomic::AtomicUsize::default(),
        }
    }
}

impl Hashes {
    /// Path and hash. Blocks while the file is read; callers for the same file share one reading.
    pub(super) fn of(&self, open: &Open, pid: u32) -> Result<Executable, Error> {
        let sha256 = match open.settled {
            true => self.shared(open, pid),
            false => self.compute(open, pid),
        }?;
        Ok(Executable {
            path: open.path.clone(),
            sha256,
        })
    }

    fn shared(&self, open: &Open, pid: u32) -> Result<String, Error> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(kept().get_or_insert(open.version, Slot::default));
        let hash = slot.get_or_init(|| self.compute(open, pid)).clone();
        if hash.is_err() {
            kept().pop(&open.version);
        }
        hash
    }

    fn compute(&self, open: &Open, pid: u32) -> Result<String, Error> {
        #[cfg(test)]
        self.computed
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if open.version.size > MAX_SIZE {
            return Err(Error::TooLarge {
                path: open.path.clone(),
            });
        }
        let hash = sha256(&open.file).map_err(|cause| unreadable(pid, "exe", cause))?;
        let about = fstat(&open.file).map_err(|errno| unreadable(pid, "exe", errno.into()))?;
        if Version::of(&about) != Some(open.version) {
            return Err(Error::Changing {
                path: open.path.clone(),
            });
        }
        Ok(hash)
    }
}

fn sha256(mut file: &File) -> io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut total: u64 = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex::encode(context.finish())),
            Ok(read) => {
                total = total.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
                if total > MAX_SIZE {
                    return Err(io::Error::other("it grows while it is read"));
                }
                context.update(chunk.get(..read).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
