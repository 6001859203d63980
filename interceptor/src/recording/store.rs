//! The directories of the recordings: what each session was, listing them, finding one.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Error;
use super::format::{Hash, hash};
use super::sync::to_disk;
use crate::clock::BootTime;

pub(super) mod keys;
pub mod retention;

pub(super) const META: &str = "meta.json";

/// A principal with its ancestors' arguments is some kilobytes; more than this is none of ours.
const META_MAX: u64 = 4 << 20;

/// What a session was: `meta.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// Version of the file: 1.
    pub v: u32,
    /// The session.
    pub session: Uuid,
    /// Its connection.
    pub connection: Uuid,
    /// What the target speaks: `postgres`.
    pub protocol: String,
    /// The target's name.
    pub target: String,
    /// The database, where the protocol has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Who, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Box<RawValue>>,
    /// When it began.
    pub started: Timestamp,
    /// The same, since boot: frames tell their time on this clock.
    pub started_boot_ns: BootTime,
    /// How it ended; absent while it lives, and where the daemon died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub time: Timestamp,
    /// Why, as `session.closed` has it; `dropped` where nobody said.
    pub reason: String,
    /// Bytes recorded from the agent.
    pub sent: u64,
    /// Bytes recorded to the agent.
    pub received: u64,
    /// Segments written.
    pub segments: u32,
}

/// The reason of what a daemon left that died.
const LOST: &str = "lost";

impl Ended {
    /// Whether nobody ended it: its daemon died.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.reason == LOST
    }
}

impl Meta {
    /// The agent's name, where the principal tells one.
    #[must_use]
    pub fn agent(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Principal {
            agent: String,
        }
        let principal = self.principal.as_ref()?;
        let principal: Principal = serde_json::from_str(principal.get()).ok()?;
        Some(principal.agent)
    }

    /// Reads the one of a session's directory.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(META);
        let bad = |why: String| Error::Meta {
            path: path.clone(),
            why: Arc::from(why),
        };
        let file = fs::File::open(&path).map_err(|error| bad(error.to_string()))?;
        let mut text = String::new();
        file.take(META_MAX)
            .read_to_string(&mut text)
            .map_err(|error| bad(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| bad(error.to_string()))
    }

    /// The hash of its file.
    pub(super) fn hash(&self) -> Result<Hash, Error> {
        self.text(Path::new(META)).map(|text| hash(&[&text]))
    }

    pub(super) fn text(&self, path: &Path) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|error| Error::io("write", path, error.into()))
    }

    /// Replaces the one of a session's directory, whole or not at all; the hash of its file.
    pub(super) fn write(&self, dir: &Path) -> Result<Hash, Error> {
        let text = self.text(&dir.join(META))?;
        put(dir, META, &text)?;
        Ok(hash(&[&text]))
    }
}

/// Replaces a small file of a session's directory, whole or not at all.
pub(super) fn put(dir: &Path, name: &str, text: &[u8]) -> Result<(), Error> {
    prepare(dir, name, text)?;
    put_prepared(dir, name)
}

/// The same, on disk before it takes its place: a host that is lost leaves one or the other.
fn put_synced(dir: &Path, name: &str, text: &[u8]) -> Result<(), Error> {
    prepare(dir, name, text)?;
    to_disk(&prepared(dir, name))?;
    put_prepared(dir, name)?;
    to_disk(dir)
}

fn prepared(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.new"))
}

/// Puts what was prepared in its place.
pub(super) fn put_prepared(dir: &Path, name: &str) -> Result<(), Error> {
    let path = prepared(dir, name);
    fs::rename(&path, dir.join(name)).map_err(|error| Error::io("write", &path, error))
}

/// Brings what was prepared to the disk, as far as there is such.
pub(super) fn sync_prepared(dir: &Path, name: &str) {
    if let Err(error) = to_disk(&prepared(dir, name)) {
        tracing::warn!(%error, "a file of a recording may be lost with the host");
    }
}

/// Writes what is to replace a small file beside it; nothing is left where that fails.
pub(super) fn prepare(dir: &Path, name: &str, text: &[u8]) -> Result<(), Error> {
    let path = prepared(dir, name);
    write(&path, text).map_err(|error| {
        drop(fs::remove_file(&path));
        Error::io("write", &path, error)
    })
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(text)
}

/// Makes the directory of a new session.
pub(super) fn make(root: &Path, meta: &Meta) -> Result<PathBuf, Error> {
    let day = root.join(meta.started.strftime("%Y-%m-%d").to_string());
    let dir = day.join(meta.session.to_string());
    let builder = || {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder
    };
    match builder().create(&day) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("make", &day, error));
        }
        _ => {}
    }
    builder()
        .create(&dir)
        .map_err(|error| Error::io("make", &dir, error))?;
    Ok(dir)
}

/// Which sessions are wanted; what is `None` is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Begun at this time or later.
    pub since: Option<Timestamp>,
    /// The agent's name.
    pub agent: Option<String>,
    /// The target's name.
    pub target: Option<String>,
}

impl Filter {
    fn passes(&self, meta: &Meta) -> bool {
        self.since.is_none_or(|since| meta.started >= since)
            && self
                .target
                .as_ref()
                .is_none_or(|target| meta.target == *target)
            && (self.agent.is_none() || meta.agent() == self.agent)
    }
}

/// One recording.
#[derive(Clone, Debug)]
pub struct Listing {
    /// What it was.
    pub meta: Meta,
    /// Where it is.
    pub dir: PathBuf,
}

/// The recordings that pass, oldest first; a directory that cannot be read is an error among them.
pub fn list(root: &Path, filter: &Filter) -> Result<Vec<Result<Listing, Error>>, Error> {
    let mut found = Vec::new();
    for dir in sessions(root, filter.since)? {
        match Meta::read(&dir) {
            Ok(meta) if filter.passes(&meta) => found.push(Ok(Listing { meta, dir })),
            Ok(_) => {}
            Err(error) => found.push(Err(error)),
        }
    }
    found.sort_by_key(|listing| listing.as_ref().ok().map(|listing| listing.meta.started));
    Ok(found)
}

/// The directory of the session whose id is, or begins with, `id`.
pub fn find(root: &Path, id: &str) -> Result<PathBuf, Error> {
    let wanted = id.to_ascii_lowercase();
    let mut found = sessions(root, None)?.into_iter().filter(|dir| {
        let name = dir.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| !wanted.is_empty() && name.starts_with(&wanted))
    });
    match (found.next(), found.next()) {
        (Some(dir), None) => Ok(dir),
        (None, _) => Err(Error::Unknown(id.to_owned())),
        (Some(_), Some(_)) => Err(Error::Ambiguous(id.to_owned())),
    }
}

/// The directory of every session.
pub(super) fn directories(root: &Path) -> Result<BTreeMap<Uuid, PathBuf>, Error> {
    let all = sessions(root, None)?.into_iter().filter_map(|dir| {
        let name = dir.file_name()?.to_str()?.parse().ok()?;
        Some((name, dir))
    });
    Ok(all.collect())
}

/// Every session's directory of the days that count; other names are not ours and are passed over.
fn sessions(root: &Path, since: Option<Timestamp>) -> Result<Vec<PathBuf>, Error> {
    let first = since.map(|since| since.strftime("%Y-%m-%d").to_string());
    let mut found = Vec::new();
    for (day, path) in entries(root)? {
        let is_day = day.parse::<jiff::civil::Date>().is_ok();
        if is_day && first.as_ref().is_none_or(|first| day >= *first) {
            let sessions = entries(&path)?.into_iter();
            found.extend(
                sessions
                    .filter(|(name, _)| name.parse::<Uuid>().is_ok())
                    .map(|(_, path)| path),
            );
        }
    }
    Ok(found)
}

/// The directories in a directory, by name.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let failed = |error| Error::io("list", dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
