//! Secrets in files that only root or the daemon's user can have written, and nobody else can read.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::{Error, MAX_SECRET, Secret, Store, secret};

/// Permission bits that nobody but the owner may have.
const OTHERS: u32 = 0o077;

/// The files of the host.
#[derive(Debug, Default)]
pub(super) struct Files;

impl Store for Files {
    type Name = Path;

    async fn fetch(&self, path: &Path) -> Result<Secret, Error> {
        let path = path.to_owned();
        // A network file system may hang; the runtime must not hang with it.
        let stopping = Error::Stopping(path.clone());
        tokio::task::spawn_blocking(move || read(&path, OTHERS))
            .await
            .map_err(|_ignored| stopping)?
    }
}

/// Reads a file in which nobody has a permission of `forbidden`.
pub(super) fn read(path: &Path, forbidden: u32) -> Result<Secret, Error> {
    // O_NONBLOCK: a FIFO must not hold up a login; see fifo(7).
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| Error::read(path, error))?;
    trusted(&file, path, forbidden)?;
    let mut bytes = buffer();
    let length = fill(&mut file, &mut bytes).map_err(|error| Error::read(path, error))?;
    let bytes = bytes.get(..length).unwrap_or_default();
    secret(bytes, || path.display().to_string())
}

fn trusted(file: &File, path: &Path, forbidden: u32) -> Result<(), Error> {
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
    Ok(())
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
