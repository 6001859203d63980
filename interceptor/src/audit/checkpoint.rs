//! `checkpoint.json`: how far the log was on disk at some moment, at most about a second ago.
//!
//! Replaced atomically, and signed. Lines up to it are there for good: whatever is missing or different
//! before it was done to the log, not by a crash. The same stands in the log itself, as `log.checkpoint`,
//! at the end of each segment and from time to time.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, segment};

pub mod sign;

/// The file's name.
pub(super) const FILE: &str = "checkpoint.json";
const TEMPORARY: &str = "checkpoint.json.new";

/// The file is one short object; more than this is not one.
const MAX_BYTES: u64 = 4096;

/// How far the log was on disk, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Version: 2; 1 was not signed.
    pub v: u32,
    /// The last line.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
    /// The segment that it is in.
    pub segment: String,
    /// Where it ends there, newline included.
    pub length: u64,
    /// When this was written.
    pub time: String,
    /// The key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its signature, in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Checkpoint {
    /// Reads one that was written by this program; the same in other letters is another one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let checkpoint: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let again = serde_json::to_vec(&checkpoint).map_err(|error| error.to_string())?;
        match again == text {
            true => Ok(checkpoint),
            false => Err("it is not written as this program writes it".to_owned()),
        }
    }
}

/// Reads it. `Ok(None)` where there is none; `Err` with the reason where it is not one.
pub(super) fn read(dir: &Path) -> Result<Option<Checkpoint>, String> {
    let file = match fs::File::open(dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    Checkpoint::parse(&text).map(Some)
}

/// The newest one of a log, to be kept where whoever can change this host cannot change it.
///
/// # Errors
/// Where there is none, or it cannot be read.
pub fn newest(dir: &Path) -> Result<Checkpoint, Error> {
    let path = dir.join(FILE);
    let failed = |why: String| Error::io("read", &path, io::Error::other(why));
    let found = read(dir).map_err(failed)?;
    found.ok_or_else(|| failed("there is none yet".to_owned()))
}

/// Replaces it, durably.
pub(super) fn write(dir: &Path, checkpoint: &Checkpoint) -> Result<(), Error> {
    let temporary = dir.join(TEMPORARY);
    let failed = |error| Error::io("write", &temporary, error);
    let text = serde_json::to_vec(checkpoint).map_err(|error| failed(error.into()))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&temporary, dir.join(FILE)).map_err(failed)?;
    segment::sync_dir(dir)
}
