//! `checkpoint.json`: how far the log was on disk at some moment, at most about a second ago.
//!
//! Replaced atomically. Lines up to it are there for good: whatever is missing or different before
//! it was done to the log, not by a crash.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, segment};

/// The file's name.
pub(super) const FILE: &str = "checkpoint.json";
const TEMPORARY: &str = "checkpoint.json.new";

/// The file is one short object; more than this is not one.
const MAX_BYTES: u64 = 4096;

/// How far the log was on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    /// Version of this file.
    pub(super) v: u32,
    /// The last line.
    pub(super) seq: u64,
    /// Its hash.
    pub(super) hash: String,
    /// The segment that it is in.
    pub(super) segment: String,
    /// Where it ends there, newline included.
    pub(super) length: u64,
    /// When this was written.
    pub(super) time: String,
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
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| error.to_string())
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
