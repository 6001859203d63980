//! Reads the log: lines in order, those that a filter lets through, also while it is written.
//!
//! Reading checks nothing: that is [`super::verify()`]'s part. Lines that are not JSON are passed over
//! here, and what is unfinished at the end is left for the next try.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::Error;
use super::chain::{Piece, read_line};
use super::segment::{self, Name};

/// Which lines are wanted; what is `None` is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not before.
    pub since: Option<Timestamp>,
    /// The agent's name.
    pub agent: Option<String>,
    /// The session.
    pub session: Option<Uuid>,
    /// The connection.
    pub connection: Option<Uuid>,
    /// The request.
    pub request: Option<Uuid>,
    /// The target's name.
    pub target: Option<String>,
    /// What stands in it, in capital letters or small ones.
    pub text: Option<String>,
    /// The event: `request.refused`, or all that begin so: `request`.
    pub event: Option<String>,
    /// The sequence.
    pub sequence: Option<u64>,
    /// Later than this sequence.
    pub after: Option<u64>,
    /// The connection, the session or the request: whichever has this id.
    pub id: Option<Uuid>,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The segment's file name.
    pub file: Arc<str>,
    /// The line in it, from 1.
    pub number: u64,
    /// The line as it stands there, without its newline.
    pub line: String,
}

/// What filters look at. A field of another type than ours makes the line none of ours.
#[derive(Deserialize)]
struct Fields<'a> {
    seq: u64,
    time: Timestamp,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    agent: Option<Cow<'a, str>>,
    session: Option<Uuid>,
    connection: Option<Uuid>,
    request: Option<Uuid>,
    #[serde(borrow)]
    target: Option<Cow<'a, str>>,
    #[serde(borrow)]
    principal: Option<Agent<'a>>,
}

#[derive(Deserialize)]
struct Agent<'a> {
    #[serde(borrow)]
    agent: Option<Cow<'a, str>>,
}

impl Filter {
    /// Whether a line passes.
    #[must_use]
    pub fn passes(&self, line: &[u8]) -> bool {
        let Ok(fields) = serde_json::from_slice::<Fields<'_>>(line) else {
            return false;
        };
        let principal = fields.principal.and_then(|principal| principal.agent);
        let agent = fields.agent.or(principal);
        self.since.is_none_or(|since| fields.time >= since)
            && self.sequence.is_none_or(|wanted| fields.seq == wanted)
            && self.after.is_none_or(|after| fields.seq > after)
            && wanted(self.session, fields.session)
            && wanted(self.connection, fields.connection)
            && wanted(self.request, fields.request)
            && wanted(self.agent.as_deref(), agent.as_deref())
            && wanted(self.target.as_deref(), fields.target.as_deref())
            && self.text.as_deref().is_none_or(|text| has(line, text))
            && self.id.is_none_or(|id| {
                [fields.session, fields.connection, fields.request].contains(&Some(id))
            })
            && self.event.as_deref().is_none_or(|event| {
                fields
                    .event
                    .strip_prefix(event)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
    }
}

/// Whether a text stands in a line, ASCII letters in either case.
fn has(line: &[u8], text: &str) -> bool {
    let line = line.to_ascii_lowercase();
    memchr::memmem::find(&line, text.to_ascii_lowercase().as_bytes()).is_some()
}

fn wanted<T: PartialEq>(wanted: Option<T>, found: Option<T>) -> bool {
    wanted.is_none() || wanted == found
}

/// Lines of a log, oldest first. After a `None` there may be more later: the log may be written.
pub struct Entries {
    dir: PathBuf,
    filter: Filter,
    /// The segment being read.
    open: Option<Open>,
    /// The segment to begin with.
    from: u64,
}

struct Open {
    name: Name,
    file: Arc<str>,
    from: BufReader<File>,
    /// Where the next line begins.
    offset: u64,
    number: u64,
    line: Vec<u8>,
}

impl Entries {
    /// All lines of the log below `dir` that pass.
    pub fn open(dir: &Path, filter: Filter) -> Result<Self, Error> {
        let names = segment::list(dir)?;
        let mut from = 0;
        // A segment is of no interest where the next one begins too early already.
        if let Some(since) = filter.since {
            for name in names.iter().skip(1) {
                if begins(dir, *name)?.is_none_or(|begins| begins >= since) {
                    break;
                }
                from = name.0;
            }
        }
        // Nor where all of it is before the sequence that is wanted.
        if let Some(after) = filter.after {
            let begins = names
                .iter()
                .rev()
                .find(|name| name.0 <= after.saturating_add(1));
            from = begins.map_or(from, |name| name.0.max(from));
        }
        Ok(Self {
            dir: dir.to_owned(),
            filter,
            open: None,
            from,
        })
    }

    fn advance(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            let Some(open) = &mut self.open else {
                if !self.begin()? {
                    return Ok(None);
                }
                continue;
            };
            let path = self.dir.join(&*open.file);
            match open
                .read()
                .map_err(|error| Error::io("read", &path, error))?
            {
                Piece::Line if self.filter.passes(&open.line) => return Ok(Some(open.entry())),
                Piece::Line => {}
                Piece::Rest | Piece::Endless | Piece::End => {
                    // Only where there is a later segment is this one complete.
                    if !self.begin()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Opens the next segment, if there is one.
    fn begin(&mut self) -> Result<bool, Error> {
        let after = self.open.as_ref().map(|open| open.name);
        let next = segment::list(&self.dir)?
            .into_iter()
            .find(|name| name.0 >= self.from && after.is_none_or(|after| *name > after));
        let Some(name) = next else {
            return Ok(false);
        };
        // A line may have come to the old segment between its end and the new one's beginning.
        if let Some(open) = &mut self.open
            && open.grew()
        {
            return Ok(true);
        }
        self.open = Some(Open::segment(&self.dir, name)?);
        Ok(true)
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl Open {
    fn segment(dir: &Path, name: Name) -> Result<Self, Error> {
        let path = dir.join(name.to_string());
        let file = File::open(&path).map_err(|error| Error::io("read", &path, error))?;
        Ok(Self {
            name,
            file: Arc::from(name.to_string()),
            from: BufReader::with_capacity(256 << 10, file),
            offset: 0,
            number: 0,
            line: Vec::new(),
        })
    }

    fn read(&mut self) -> std::io::Result<Piece> {
        let piece = read_line(&mut self.from, &mut self.line)?;
        match piece {
            Piece::Line => {
                self.offset += u64::try_from(self.line.len()).unwrap_or(u64::MAX) + 1;
                self.number += 1;
            }
            // Read again from its beginning when there is more.
            Piece::Rest => {
                self.from.seek(SeekFrom::Start(self.offset))?;
            }
            Piece::Endless | Piece::End => {}
        }
        Ok(piece)
    }

    /// Whether a whole line is there that was not when the end was read.
    fn grew(&mut self) -> bool {
        let mut line = Vec::new();
        let whole = matches!(read_line(&mut self.from, &mut line), Ok(Piece::Line));
        self.from.seek(SeekFrom::Start(self.offset)).is_ok() && whole
    }

    fn entry(&self) -> Entry {
        Entry {
            file: Arc::clone(&self.file),
            number: self.number,
            line: String::from_utf8_lossy(&self.line).into_owned(),
        }
    }
}

/// The time of a segment's first line, where it has one.
fn begins(dir: &Path, name: Name) -> Result<Option<Timestamp>, Error> {
    let mut open = Open::segment(dir, name)?;
    let path = dir.join(name.to_string());
    let piece = open
        .read()
        .map_err(|error| Error::io("read", &path, error))?;
    if !matches!(piece, Piece::Line) {
        return Ok(None);
    }
    Ok(serde_json::from_slice::<Fields<'_>>(&open.line)
        .ok()
        .map(|fields| fields.time))
}

/// The last `count` lines that pass, oldest first, and the place to go on from.
pub fn last(dir: &Path, filter: &Filter, count: usize) -> Result<(Vec<Entry>, Entries), Error> {
    let names = segment::list(dir)?;
    let mut found = VecDeque::new();
    let mut entries = Entries::open(dir, filter.clone())?;
    let oldest = entries.from;
    // From the last segment back, until there are enough.
    for name in names.iter().rev().filter(|name| name.0 >= oldest) {
        entries = Entries {
            dir: dir.to_owned(),
            filter: filter.clone(),
            open: None,
            from: name.0,
        };
        found.clear();
        for entry in entries.by_ref() {
            if found.len() == count {
                found.pop_front();
            }
            if count > 0 {
                found.push_back(entry?);
            }
        }
        if found.len() == count {
            break;
        }
    }
    Ok((found.into(), entries))
}

/// The last `count` lines that pass, newest first, of at most the last `bytes` of the log; whether older ones
/// were left out unseen.
///
/// # Errors
/// Where the log cannot be read.
pub fn newest(
    dir: &Path,
    filter: &Filter,
    count: usize,
    bytes: u64,
) -> Result<(Vec<Entry>, bool), Error> {
    let mut found = Vec::new();
    let mut left = bytes;
    for name in segment::list(dir)?.into_iter().rev() {
        if found.len() >= count {
            break;
        }
        if left == 0 {
            return Ok((found, true));
        }
        let path = dir.join(name.to_string());
        let failed = |error| Error::io("read", &path, error);
        let mut open = Open::segment(dir, name)?;
        let length = open.from.get_ref().metadata().map_err(failed)?.len();
        let skipped = length.saturating_sub(left);
        if skipped > 0 {
            open.from.seek(SeekFrom::Start(skipped)).map_err(failed)?;
            // What is left of the line that this falls into.
            open.read().map_err(failed)?;
        }
        left = left.saturating_sub(length);
        let mut here = VecDeque::new();
        while matches!(open.read().map_err(failed)?, Piece::Line) {
            if filter.passes(&open.line) {
                if found.len().saturating_add(here.len()) >= count {
                    here.pop_front();
                }
                here.push_back(open.entry());
            }
        }
        found.extend(here.into_iter().rev());
        if skipped > 0 {
            return Ok((found, true));
        }
    }
    Ok((found, false))
}
