//! Secrets in files that only root or the daemon's user can have written, and nobody else can read.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{Error, MAX_SECRET, Secret, Store, secret};

/// File systems that answer from this host's disks and memory; the last is `RAMFS_MAGIC`
/// (include/uapi/linux/magic.h), where systemd keeps credentials.
const LOCAL: [FsType; 5] = [
    EXT4_SUPER_MAGIC,
    XFS_SUPER_MAGIC,
    BTRFS_SUPER_MAGIC,
    TMPFS_MAGIC,
    FsType(0x8584_58f6),
];
/// How long a file may take that does not lie on this host.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Permission bits that nobody but the owner may have.
const OTHERS: u32 = 0o077;

/// The files of the host.
#[derive(Debug, Default)]
pub(super) struct Files(Reader);

impl Store for Files {
    type Name = Path;

    async fn fetch(&self, path: &Path) -> Result<Secret, Error> {
        self.0.fetch(path, OTHERS).await
    }
}

impl Files {
    /// Forgets every file but these.
    pub(super) fn keep<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) {
        self.0.keep(paths);
    }
}

/// Reads files at once where they lie on a disk or in the memory of this host, and on a thread of its
/// own where not: a file system of the network may hang, and the runtime must not hang with it. One that
/// hangs keeps one thread for each file, however many logins ask for it.
#[derive(Debug)]
pub(super) struct Reader {
    /// Files that were last seen on such a file system, and its device.
    local: Mutex<HashMap<PathBuf, u64>>,
    /// Who reads a file on a thread of its own holds its one permit, for as long as the thread takes.
    turns: Mutex<HashMap<PathBuf, Arc<Semaphore>>>,
    /// How long such a file may take.
    pub(super) timeout: Duration,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            local: Mutex::default(),
            turns: Mutex::default(),
            timeout: TIMEOUT,
        }
    }
}

impl Reader {
    /// Reads a file in which nobody has a permission of `forbidden`.
    pub(super) async fn fetch(&self, path: &Path, forbidden: u32) -> Result<Secret, Error> {
        let known = self.lock().get(path).copied();
        let Some(device) = known else {
            return self.fetch_apart(path.to_owned(), forbidden).await;
        };
        let found = read(path, forbidden);
        // Also where it is gone: what comes in its place is looked at anew.
        if !matches!(&found, Ok(found) if found.device == device) {
            self.lock().remove(path);
        }
        found.map(|found| found.secret)
    }

    async fn fetch_apart(&self, path: PathBuf, forbidden: u32) -> Result<Secret, Error> {
        let timeout = self.timeout;
        let late = Error::Late {
            path: path.clone(),
            timeout,
        };
        let found = tokio::time::timeout(timeout, self.read_in_turn(&path, forbidden)).await;
        let found = found.map_err(|_elapsed| late)??;
        if found.is_local {
            self.lock().insert(path, found.device);
        }
        Ok(found.secret)
    }

    async fn read_in_turn(&self, path: &Path, forbidden: u32) -> Result<Found, Error> {
        let stopping = || Error::Stopping(path.to_owned());
        let turn = self.turn(path).acquire_owned().await;
        let turn = turn.map_err(|_closed| stopping())?;
        let reading = path.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let found = read(&reading, forbidden);
            drop(turn);
            found
        });
        found.await.map_err(|_ignored| stopping())?
    }

    pub(super) fn turn(&self, path: &Path) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry(path.to_owned());
        Arc::clone(turn.or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    fn keep<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) {
        let paths: HashSet<_> = paths.into_iter().collect();
        self.lock().retain(|path, _| paths.contains(path.as_path()));
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|path, _| paths.contains(path.as_path()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, u64>> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_local(&self, path: &Path) -> bool {
        self.lock().contains_key(path)
    }
}

/// What was read, and from where.
struct Found {
    secret: Secret,
    device: u64,
    is_local: bool,
}

/// Reads a file in which nobody has a permission of `forbidden`.
fn read(path: &Path, forbidden: u32) -> Result<Found, Error> {
    // O_NONBLOCK: a FIFO must not hold up a login; see fifo(7).
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| Error::read(path, error))?;
    let device = trusted(&file, path, forbidden)?;
    let is_local = fstatfs(&file).is_ok_and(|about| LOCAL.contains(&about.filesystem_type()));
    let mut bytes = buffer();
    let length = fill(&mut file, &mut bytes).map_err(|error| Error::read(path, error))?;
    let bytes = bytes.get(..length).unwrap_or_default();
    let secret = secret(bytes, || path.display().to_string())?;
    Ok(Found {
        secret,
        device,
        is_local,
    })
}

/// Whether nobody else can have written or read it; the device that it is on.
fn trusted(file: &File, path: &Path, forbidden: u32) -> Result<u64, Error> {
    let about = file.metadata().map_err(|error| Error::read(path, error))?;
    if !about.is_file() {
        return Err(Error::NotRegular(path.to_owned()));
    }
    if about.uid() != 0 && about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Error::Owner {
            path: path.to_owned(),
            uid: about.uid(),
        });
    }
    if about.mode() & forbidden != 0 {
        return Err(Error::Mode {
            path: path.to_owned(),
            mode: about.mode() & 0o7777,
        });
    }
    Ok(about.dev())
}

/// Room for the longest secret, its line end, and one byte that tells of more; zeroed when dropped.
/// Of full size from the start: a buffer that grows leaves copies behind.
pub(super) fn buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0; MAX_SECRET + 3])
}

fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
