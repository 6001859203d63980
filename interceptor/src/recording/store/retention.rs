//! How long recordings are kept: by age and by size, for each target; and which are held for somebody.
//!
//! What is removed leaves a line in the audit first, with the last hash of what was there: from then on its
//! absence is explained, and before that it is a violation. What is held is not removed, whatever its age.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Ended, Filter, LOST, Listing, META, Meta, list, put};
use crate::audit::{Event, Sink};
use crate::clock;
use crate::config::Keep;
use crate::recording::Error;
use crate::recording::reader::{chunks, segments};
use crate::recording::seal::{Part, Seals};
use crate::recording::sync::to_disk;
use crate::recording::verify::Vouched;

/// The file that says that a recording is held.
const HOLD: &str = "hold.json";

/// How far before its recording began the log is looked through.
const A_DAY: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// What is about to be gone: a name that is no session's any more.
const GOING: &str = ".purged";

/// Why a recording is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// In somebody's words.
    pub reason: String,
    /// Whose.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

impl Hold {
    /// The one of the recording in `dir`, if it is held. What cannot be read holds it all the same.
    #[must_use]
    pub fn of(dir: &Path) -> Option<Self> {
        let text = match fs::read(dir.join(HOLD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            read => read.unwrap_or_default(),
        };
        let unread = || Self {
            reason: "hold.json cannot be read".to_owned(),
            by: String::new(),
            since: Timestamp::UNIX_EPOCH,
        };
        Some(serde_json::from_slice(&text).unwrap_or_else(|_error| unread()))
    }

    /// Holds the recording in `dir`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(HOLD);
        let failed = |error: io::Error| Error::io("write", &path, error);
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        put(dir, HOLD, &text)?;
        // Whoever was told of it counts on it, whatever becomes of the host.
        for part in [&path, dir] {
            let file = fs::File::open(part).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        Ok(())
    }

    /// Holds it no longer; whether it was held.
    ///
    /// # Errors
    /// Where the file cannot be removed.
    pub fn release(dir: &Path) -> Result<bool, Error> {
        let path = dir.join(HOLD);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove", &path, error)),
        }
    }
}

/// A recording whose time is over.
#[derive(Clone, Debug)]
pub struct Due {
    /// What it was.
    pub meta: Meta,
    /// Where it is.
    pub dir: PathBuf,
    /// `age` or `size`.
    pub why: &'static str,
    /// Bytes of its segments.
    pub bytes: u64,
}

impl Due {
    /// The hash of its last chunk, for its tombstone; none of a recording that has none.
    ///
    /// # Errors
    /// Where it cannot be read: it is of version 1, or damaged.
    pub fn tail(&self) -> Result<Option<String>, Error> {
        let Some(number) = segments(&self.dir)?.pop() else {
            return Ok(None);
        };
        let (_, _, tail) = chunks::end(&self.dir, (self.meta.session, number))?;
        Ok(Some(hex::encode(tail)))
    }

    /// Whether somebody holds it by now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        Hold::of(&self.dir).is_some()
    }

    /// Removes it. Its line in the audit is on disk by then.
    ///
    /// # Errors
    /// Where it cannot be removed, or only in part: the next look finishes it; and where it is held.
    pub fn purge(&self) -> Result<(), Error> {
        if self.is_held() {
            let held = io::Error::other("it is held");
            return Err(Error::io("remove", &self.dir, held));
        }
        let name = format!("{}{GOING}", self.meta.session);
        let going = self.dir.with_file_name(name);
        let failed = |error| Error::io("remove", &self.dir, error);
        fs::rename(&self.dir, &going).map_err(failed)?;
        fs::remove_dir_all(&going).map_err(failed)
    }
}

/// The recordings below `root` that are over and not to be kept, by what `keep` says of each target.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn due(root: &Path, keep: impl Fn(&str) -> Keep, now: Timestamp) -> Result<Vec<Due>, Error> {
    let mut targets: BTreeMap<String, Vec<(Listing, u64)>> = BTreeMap::new();
    for listing in readable(root)? {
        let keep = keep(&listing.meta.target);
        if keep == Keep::default() {
            continue;
        }
        let bytes = size(&listing.dir);
        let of = targets.entry(listing.meta.target.clone()).or_default();
        of.push((listing, bytes));
    }
    let mut due = Vec::new();
    for (target, listings) in targets {
        let keep = keep(&target);
        let mut kept: u64 = listings.iter().map(|(_, bytes)| bytes).sum();
        for (Listing { meta, dir }, bytes) in listings {
            let Some(ended) = meta.ended.as_ref().filter(|_| Hold::of(&dir).is_none()) else {
                continue;
            };
            let age = now.duration_since(ended.time).unsigned_abs();
            let is_old = ended.time < now && keep.age.is_some_and(|most| age > most);
            let is_much = keep.bytes.is_some_and(|most| kept > most);
            let why = match (is_old, is_much) {
                (true, _) => "age",
                (false, true) => "size",
                (false, false) => continue,
            };
            kept = kept.saturating_sub(bytes);
            due.push(Due {
                meta,
                dir,
                why,
                bytes,
            });
        }
    }
    Ok(due)
}

/// The recordings that can be read. Of the others nobody knows whose they are: they stay, and are named.
fn readable(root: &Path) -> Result<Vec<Listing>, Error> {
    let all = list(root, &Filter::default())?.into_iter();
    let named = all.filter_map(|listing| {
        listing
            .inspect_err(|error| tracing::warn!(%error, "a recording is kept, whatever its age: it cannot be read"))
            .ok()
    });
    Ok(named.collect())
}

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|found| found.len())
        .sum()
}

/// Finishes what was begun before: removes what was about to go, and days without a session.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn sweep(root: &Path) -> Result<(), Error> {
    let today = clock::wall().strftime("%Y-%m-%d").to_string();
    for (day, path) in super::entries(root)? {
        if day.parse::<jiff::civil::Date>().is_err() {
            continue;
        }
        for (name, path) in super::entries(&path)? {
            let session = name.strip_suffix(GOING);
            if session.is_some_and(|session| session.parse::<Uuid>().is_ok()) {
                fs::remove_dir_all(&path).map_err(|error| Error::io("remove", &path, error))?;
            }
        }
        // One that has a session is not empty, and stays.
        if day != today {
            drop(fs::remove_dir(&path));
        }
    }
    Ok(())
}

/// Ends the recordings that an earlier daemon left without an end, begun before `since`: what there is of
/// them is vouched for, and they are over. How many. `known` is what the log has said of recordings from a time
/// on. One that is not what it says stays as it is, and the log says so once; nothing is vouched for that the log
/// never spoke of.
///
/// # Errors
/// Where the directory cannot be listed, or the audit cannot be read or written.
pub fn settle_lost(
    root: &Path,
    since: Timestamp,
    audit: &Arc<dyn Sink>,
    known: impl FnOnce(Timestamp) -> Result<Vouched, crate::audit::Error>,
) -> Result<usize, Error> {
    let mut lost = readable(root)?;
    lost.retain(|one| one.meta.ended.is_none() && one.meta.started < since);
    let Some(first) = lost.iter().map(|one| one.meta.started).min() else {
        return Ok(0);
    };
    // Clocks are set back now and then.
    let from = first.checked_sub(A_DAY).unwrap_or(Timestamp::MIN);
    let known = known(from).map_err(Error::Unsealed)?;
    let mut settled = 0;
    for listing in lost {
        settled += usize::from(settle(listing, audit, &known)?);
    }
    Ok(settled)
}

/// Ends one; whether it is over.
fn settle(
    Listing { mut meta, dir }: Listing,
    audit: &Arc<dyn Sink>,
    known: &Vouched,
) -> Result<bool, Error> {
    // It had ended, and was about to say so.
    if known.knows(meta.session, &super::prepared(&dir, META)) {
        return super::put_prepared(&dir, META).map(|()| true);
    }
    let numbers = segments(&dir)?;
    let last = numbers.last().copied();
    meta.ended = Some(Ended {
        time: written(&dir).unwrap_or(meta.started),
        reason: LOST.to_owned(),
        sent: 0,
        received: 0,
        segments: u32::try_from(numbers.len()).unwrap_or(u32::MAX),
    });
    match (known.holds(meta.session, &dir), last) {
        (Some(Err(what)), _) => {
            tell(&meta, &what, audit, known)?;
            return Ok(false);
        }
        (Some(Ok(())), Some(segment)) => {
            let (length, head, tail) = chunks::end(&dir, (meta.session, segment))?;
            to_disk(&dir.join(format!("{segment:06}.rec")))?;
            to_disk(&dir)?;
            let part = Part {
                segment,
                head,
                tail,
                length,
                why: LOST,
            };
            Seals::begin(audit, meta.session)?.last(&part, &meta.hash()?)?;
        }
        // Of version 1, or begun right before the daemon died.
        (None, _) | (Some(Ok(())), None) => {}
    }
    super::put_synced(&dir, META, &meta.text(&dir)?)?;
    Ok(true)
}

/// Says that a recording is not what the log knows.
fn tell(meta: &Meta, what: &str, audit: &Arc<dyn Sink>, known: &Vouched) -> Result<(), Error> {
    tracing::error!(session = %meta.session, what, "a recording is not what the audit log says");
    if known.is_told(meta.session) {
        return Ok(());
    }
    let event = Event::RecordingDamaged {
        session: meta.session,
        what,
    };
    audit.append(&event).map(drop).map_err(Error::Unsealed)
}

/// When a recording was last written to.
fn written(dir: &Path) -> Option<Timestamp> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let times = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok());
    Timestamp::try_from(times.max()?).ok()
}
