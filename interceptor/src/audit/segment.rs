//! One file of the log, and the space that is set aside behind its end.
//!
//! Space is taken with `fallocate(FALLOC_FL_KEEP_SIZE)` (Linux 2.6.23), so that a line written into
//! it cannot find the disk full and a reader sees no zeros. A file system that cannot do this
//! (the call says `EOPNOTSUPP`) cannot hold the log.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, fallocate};

use super::{Error, is_full};

/// Space is taken in pieces of this size while there is plenty, in bytes.
const CHUNK: u64 = 4 << 20;

/// A segment's name: `audit-` and the sequence of its first line in twelve digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) u64);

impl Name {
    /// Reads a file's name; `None` where it is not exactly a segment's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
        let parsed = Self(digits.parse().ok()?);
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "audit-{:012}.jsonl", self.0)
    }
}

/// The segments of a log, in order.
pub(super) fn list(dir: &Path) -> Result<Vec<Name>, Error> {
    let failed = |error| Error::io("list", dir, error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        names.extend(entry.file_name().to_str().and_then(Name::parse));
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes changes of a directory's entries durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::io("sync", dir, error))
}

/// The segment that is written.
pub(super) struct Segment {
    pub(super) name: Name,
    pub(super) file: Arc<File>,
    /// Bytes written.
    pub(super) length: u64,
    path: PathBuf,
    /// Where the space that belongs to the file ends.
    allocated: u64,
}

/// Why a line was not written.
pub(super) enum WriteError {
    /// No space; the segment is as it was.
    Full,
    /// The segment cannot be trusted any more.
    Broken(io::Error),
}

impl Segment {
    /// Makes a new segment.
    pub(super) fn create(dir: &Path, name: Name) -> Result<Self, Error> {
        Self::with(dir, name, OpenOptions::new().create_new(true).mode(0o600))
    }

    /// Opens one to go on at its end.
    pub(super) fn reopen(dir: &Path, name: Name) -> Result<Self, Error> {
        Self::with(dir, name, &mut OpenOptions::new())
    }

    fn with(dir: &Path, name: Name, how: &mut OpenOptions) -> Result<Self, Error> {
        let path = dir.join(name.to_string());
        let opened = how
            .append(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((length, file)) => Ok(Self {
                name,
                file: Arc::new(file),
                length,
                path,
                allocated: length,
            }),
            Err(error) if is_full(&error) => Err(Error::Full {
                dir: dir.to_owned(),
            }),
            Err(error) => Err(Error::io("open", &path, error)),
        }
    }

    /// Sees to it that `bytes` can be written behind the end whatever happens to the disk.
    pub(super) fn provide(&mut self, bytes: u64) -> Result<(), Error> {
        let end = self.length.saturating_add(bytes);
        if end <= self.allocated {
            return Ok(());
        }
        let needed = end.saturating_sub(self.allocated);
        self.extend(needed.max(CHUNK))
            .or_else(|_| self.extend(needed))
            .map_err(|error| {
                let dir = || self.path.parent().unwrap_or(&self.path).to_owned();
                if is_full(&error) {
                    Error::Full { dir: dir() }
                } else if error.kind() == io::ErrorKind::Unsupported {
                    Error::Unsuitable { dir: dir() }
                } else {
                    Error::io("set space aside in", &self.path, error)
                }
            })
    }

    fn extend(&mut self, bytes: u64) -> io::Result<()> {
        let offset = i64::try_from(self.allocated).map_err(io::Error::other)?;
        let length = i64::try_from(bytes).map_err(io::Error::other)?;
        fallocate(
            &*self.file,
            FallocateFlags::FALLOC_FL_KEEP_SIZE,
            offset,
            length,
        )?;
        self.allocated = self.allocated.saturating_add(bytes);
        Ok(())
    }

    /// Writes a line with one write(2): with the kernel on return. `promised` bytes must stay
    /// provided for others.
    pub(super) fn write(&mut self, line: &[u8], promised: u64) -> Result<(), WriteError> {
        let wrote = (&*self.file).write(line);
        let failure = match wrote {
            Ok(count) if count == line.len() => {
                self.length += u64::try_from(count).unwrap_or(u64::MAX);
                return Ok(());
            }
            Ok(_) => io::Error::from(io::ErrorKind::StorageFull),
            Err(error) => error,
        };
        // Nothing of a line may stay when the rest could not follow. Cutting it off frees the space
        // behind, too, which must be had back before anybody is told that all is as it was.
        self.cut().map_err(WriteError::Broken)?;
        if !is_full(&failure) || self.provide(promised).is_err() {
            return Err(WriteError::Broken(failure));
        }
        Err(WriteError::Full)
    }

    /// Gives back the space behind the end.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.allocated = self.length;
        Ok(())
    }

    /// Removes a segment that nothing was written to.
    pub(super) fn discard(self) {
        if self.length == 0
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an empty audit segment");
        }
    }
}
