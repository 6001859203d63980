//! Whether recordings are what the audit vouches for: hashes that were written there, held to the files.
//!
//! Nothing is decrypted or decompressed for it, so whoever has the log, its public key and the files can
//! check them. What was written behind the last line about a recording is counted, not vouched for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Error;
use super::format::{Hash, SEGMENT_HEADER, hash};
use super::reader::chunks::Open;
use super::reader::segments;
use super::store::{self, META, keys};

/// What is wrong where nothing vouches for what a session was.
const OTHER_META: &str = "meta.json is not as it was written";

/// More than this many are not listed.
const LISTED: usize = 100;

/// What the audit says of recordings, gathered line by line.
#[derive(Debug, Default)]
pub struct Vouched {
    sessions: BTreeMap<Uuid, Session>,
}

#[derive(Debug, Default)]
struct Session {
    /// Of each segment all the parts that were ever vouched for: what was said once stays true.
    segments: BTreeMap<u32, Vec<Part>>,
    /// Hashes that its `meta.json` had.
    metas: Vec<String>,
    key: Option<String>,
    purged: bool,
    /// It was told already that it is not what it was.
    damaged: bool,
}

#[derive(Debug)]
struct Part {
    length: u64,
    head: String,
    tail: String,
}

/// What is read of a line.
#[derive(Deserialize)]
struct Line {
    event: String,
    session: Option<Uuid>,
    segment: Option<u32>,
    length: Option<u64>,
    head: Option<String>,
    tail: Option<String>,
    meta: Option<String>,
    key: Option<String>,
}

/// What a check of the recordings found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Recordings that the audit speaks of and that are there.
    pub sessions: u64,
    /// Those that were purged, and are said to have been.
    pub purged: u64,
    /// Bytes that nothing vouches for yet.
    pub unvouched_bytes: u64,
    /// What is wrong; the first hundred.
    pub violations: Vec<Violation>,
    /// How many are not listed.
    pub unlisted: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The recording's session.
    pub session: Uuid,
    /// What is wrong.
    pub what: String,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.violations.is_empty()
    }

    fn add(&mut self, session: Uuid, what: impl Into<String>) {
        match self.violations.len() < LISTED {
            true => self.violations.push(Violation {
                session,
                what: what.into(),
            }),
            false => self.unlisted += 1,
        }
    }
}

impl Vouched {
    /// Takes what a line of the log says of a recording, if it does.
    pub fn take(&mut self, line: &[u8]) {
        if memchr::memmem::find(line, b"\"event\":\"recording.").is_none() {
            return;
        }
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            return;
        };
        let Some(session) = line.session else {
            return;
        };
        let session = self.sessions.entry(session).or_default();
        match line.event.as_str() {
            "recording.purged" => session.purged = true,
            "recording.damaged" => session.damaged = true,
            "recording.begun" => {
                session.key = line.key;
                if let Some(head) = line.head.clone() {
                    session.add(1, Part::header(head));
                }
            }
            _ => {}
        }
        session.metas.extend(line.meta);
        if let (Some(number), Some(length), Some(head), Some(tail)) =
            (line.segment, line.length, line.head, line.tail)
        {
            session.add(number, Part { length, head, tail });
        }
    }

    /// The last hash of a recording that is vouched for.
    #[must_use]
    pub fn tail(&self, session: Uuid) -> Option<&str> {
        let (_, parts) = self.sessions.get(&session)?.segments.last_key_value()?;
        Some(&parts.last()?.tail)
    }

    /// Whether the recording in `dir` is what is said of it; none where nothing is.
    pub(super) fn holds(&self, id: Uuid, dir: &Path) -> Option<Result<(), String>> {
        let session = self.sessions.get(&id)?;
        let mut report = Report::default();
        if session.doubt(dir).is_some() {
            return Some(Err(OTHER_META.to_owned()));
        }
        let checked = session.check(id, dir, &mut report);
        let wrong = report.violations.pop().map(|violation| violation.what);
        Some(match (checked, wrong) {
            (Ok(()), Some(what)) => Err(what),
            (checked, _) => checked,
        })
    }

    /// Whether `meta.json` of a session was once the file of this name.
    pub(super) fn knows(&self, id: Uuid, meta: &Path) -> bool {
        let session = self.sessions.get(&id);
        session.is_some_and(|session| hash_of(meta).is_some_and(|it| session.metas.contains(&it)))
    }

    /// Whether somebody was told that a recording is not what it was.
    pub(super) fn is_told(&self, id: Uuid) -> bool {
        self.sessions
            .get(&id)
            .is_some_and(|session| session.damaged)
    }

    /// Holds the files below `root` to it.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn check(&self, root: &Path) -> Result<Checked, Error> {
        let (mut report, mut doubts) = (Report::default(), Vec::new());
        let dirs = store::directories(root)?;
        for (id, session) in &self.sessions {
            let Some(dir) = dirs.get(id) else {
                match session.purged {
                    true => report.purged += 1,
                    false => doubts.push((*id, Doubt::Missing)),
                }
                continue;
            };
            report.sessions += 1;
            doubts.extend(session.doubt(dir).map(|doubt| (*id, doubt)));
            if let Err(what) = session.check(*id, dir, &mut report) {
                report.add(*id, what);
            }
        }
        Ok(Checked { report, doubts })
    }
}

/// What a check found, and what may have come of lines behind those that it knew.
#[derive(Debug)]
pub struct Checked {
    report: Report,
    doubts: Vec<(Uuid, Doubt)>,
}

/// What is wrong, unless the log says otherwise by now: it vouches before a file is replaced or removed.
#[derive(Debug)]
enum Doubt {
    /// The recording is not there.
    Missing,
    /// `meta.json` has this hash, or cannot be read.
    Meta(Option<String>),
}

impl Checked {
    /// Whether the log has to be read once more.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// What is wrong, by a log that was read after the files.
    #[must_use]
    pub fn by(self, log: &Vouched) -> Report {
        let mut report = self.report;
        for (id, doubt) in self.doubts {
            let session = log.sessions.get(&id);
            match doubt {
                Doubt::Missing if session.is_some_and(|session| session.purged) => {
                    report.purged += 1;
                }
                Doubt::Missing => {
                    report.add(id, "is missing, and nothing says that it was purged");
                }
                Doubt::Meta(Some(hash))
                    if session.is_some_and(|session| session.metas.contains(&hash)) => {}
                Doubt::Meta(_) => report.add(id, OTHER_META),
            }
        }
        report
    }
}

/// The hash of a small file; none where it cannot be read.
fn hash_of(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(hex::encode(hash(&[&bytes])))
}

impl Part {
    /// A segment's header alone.
    fn header(head: String) -> Self {
        Self {
            length: u64::try_from(SEGMENT_HEADER).unwrap_or(0),
            tail: head.clone(),
            head,
        }
    }
}

impl Session {
    /// Keeps a part in its place: the shorter before the longer.
    fn add(&mut self, number: u32, part: Part) {
        let parts = self.segments.entry(number).or_default();
        let place = parts.partition_point(|other| other.length <= part.length);
        parts.insert(place, part);
    }

    /// What is known of `meta.json` does not vouch for what it is.
    fn doubt(&self, dir: &Path) -> Option<Doubt> {
        let found = hash_of(&dir.join(META));
        let is_known = |hash: &String| self.metas.contains(hash);
        let fits = self.metas.is_empty() || found.as_ref().is_some_and(is_known);
        (!fits).then_some(Doubt::Meta(found))
    }

    fn check(&self, id: Uuid, dir: &Path, report: &mut Report) -> Result<(), String> {
        if let Some(key) = &self.key
            && hash_of(&dir.join(keys::FILE)).as_ref() != Some(key)
        {
            report.add(id, "key.age is not as it was written");
        }
        let numbers = segments(dir).map_err(|error| error.to_string())?;
        let mut before = Some(Hash::default());
        for number in &numbers {
            let last = numbers.last() == Some(number);
            let parts = self.segments.get(number).map_or(&[][..], Vec::as_slice);
            let walked = walk(dir, (id, *number, last), &mut before, parts);
            report.unvouched_bytes += walked?;
        }
        if let Some(missing) = self
            .segments
            .keys()
            .find(|number| !numbers.contains(number))
        {
            report.add(id, format!("segment {missing} is missing"));
        }
        Ok(())
    }
}

/// Reads a segment through and holds it to what is vouched for; bytes behind that.
fn walk(
    dir: &Path,
    (session, number, last): (Uuid, u32, bool),
    before: &mut Option<Hash>,
    parts: &[Part],
) -> Result<u64, String> {
    let text = |error: Error| error.to_string();
    let path = dir.join(format!("{number:06}.rec"));
    let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let from = BufReader::with_capacity(256 << 10, file);
    let opened = Open::begin(path, from, (session, number), before, (dir, None));
    let mut open = match opened {
        // What a crash left of a segment that nothing speaks of yet.
        Err(Error::Torn { .. }) if last && parts.is_empty() => return Ok(length),
        opened => opened.map_err(text)?,
    };
    let other = || format!("segment {number} is not what was written: its hash is another");
    let Some(longest) = parts.last() else {
        return Ok(length);
    };
    let head = before.map(hex::encode);
    if parts.iter().any(|part| head.as_ref() != Some(&part.head)) {
        return Err(other());
    }
    let mut left = parts.iter().peekable();
    loop {
        while let Some(part) = left.next_if(|part| part.length == open.offset()) {
            if before.map(hex::encode).as_ref() != Some(&part.tail) {
                return Err(other());
            }
        }
        match open.chunk(&before.unwrap_or_default(), last) {
            Ok(Some(chunk)) => *before = Some(*chunk.hash()),
            Ok(None) => break,
            Err(Error::Torn { .. }) if left.peek().is_none() => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    match left.peek() {
        None => Ok(length.saturating_sub(longest.length)),
        // No chunk ends there.
        Some(part) if part.length < open.offset() => Err(other()),
        Some(_) => Err(format!("segment {number} was cut off")),
    }
}
