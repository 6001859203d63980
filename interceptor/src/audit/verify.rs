//! Checks a log from its first line: nothing changed, removed, added, moved or cut off.
//!
//! Certain up to the last checkpoint; behind it a crash may have cut lines off, and the last line
//! has no successor that would carry its hash. Somebody who can rewrite the whole directory can
//! rewrite the chain as well, but not sign it anew. Whoever has the signing key, too, can do that: a
//! checkpoint that is kept elsewhere, an anchor, finds it.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::{Chain, Hash, Piece, read_line};
use super::checkpoint::{self, Checkpoint};
use super::segment::{self, Name};
use super::{Error, LINE_MAX, PublicKey};

/// More than this many are not listed.
const LISTED: usize = 100;

/// What a check of the whole log found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Lines read.
    pub lines: u64,
    /// The sequence up to which the log is known to be whole, where there is a checkpoint.
    pub checkpoint: Option<u64>,
    /// The last sequence that a signature of a given key vouches for; absent where no key was given.
    pub signed: Option<u64>,
    /// How many signatures were checked.
    pub signatures: u64,
    /// How many anchors were found in their places.
    pub anchors: u64,
    /// Bytes at the end that are no whole line: one is being written, or a crash cut it off.
    pub unfinished_bytes: u64,
    /// What is wrong, in the order of the log; the first hundred.
    pub violations: Vec<Violation>,
    /// How many are not listed.
    pub unlisted: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.violations.is_empty()
    }

    fn add(&mut self, file: String, line: u64, what: What) {
        if self.violations.len() < LISTED {
            self.violations.push(Violation { file, line, what });
        } else {
            self.unlisted += 1;
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The file, without its directory.
    pub file: String,
    /// The line in it, from 1; 0 for the file as a whole.
    pub line: u64,
    /// What is wrong.
    #[serde(serialize_with = "as_text")]
    pub what: What,
}

fn as_text<S: serde::Serializer>(what: &What, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(what)
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(to, "{}: {}", self.file, self.what),
            line => write!(to, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// The kinds of what can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// Not a line of the log.
    #[error("is not a line of the log: {0}")]
    Unreadable(String),
    /// Another version.
    #[error("has version {0}, which this program does not read")]
    Version(u32),
    /// A line is missing, was added or stands elsewhere.
    #[error(
        "has sequence {found} where {expected} is due: a line was removed, inserted or moved here"
    )]
    Sequence {
        /// What is due.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The line before is not the one that this line was written after.
    #[error("carries another hash than that of the line before: one of the two was changed")]
    Hash,
    /// No newline in as many bytes as a line may have.
    #[error("goes on for more than {LINE_MAX} bytes without a newline")]
    Endless,
    /// Bytes without a newline where none can be.
    #[error("ends without a newline, before the end of the log")]
    CutOff,
    /// The file does not begin with the line that its name says.
    #[error("should begin with sequence {0}, which is due here: a segment is missing or was added")]
    Name(u64),
    /// The checkpoint is missing.
    #[error("is missing, though the log has lines")]
    NoCheckpoint,
    /// The checkpoint cannot be read.
    #[error("cannot be read: {0}")]
    BadCheckpoint(String),
    /// The log ends before the checkpoint.
    #[error("speaks of sequence {0}, but the log ends before it: lines were cut off")]
    Truncated(u64),
    /// A checkpoint without a signature, though a key was given.
    #[error("is not signed")]
    Unsigned,
    /// A checkpoint that another key signed.
    #[error("is signed with key {0}, which is none of those that were given")]
    OtherKey(String),
    /// A signature that is none.
    #[error("has a signature that is not that of its key: it was changed or made up")]
    Signature,
    /// A checkpoint in the log that does not speak of the line before it.
    #[error("is a checkpoint that does not speak of the line before it")]
    Misplaced,
    /// An anchor that the log does not have.
    #[error(
        "speaks of sequence {0}, where the log has another line or none: it was rewritten or cut off"
    )]
    Anchor(u64),
    /// The line of the checkpoint is another one.
    #[error("speaks of sequence {0} with another hash or place: that line was changed or moved")]
    OtherLine(u64),
}

/// What a check stands on besides the log itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'a> {
    /// Who may have signed it; empty where signatures are not looked at.
    pub keys: &'a [PublicKey],
    /// Checkpoints that were kept elsewhere.
    pub anchors: &'a [Checkpoint],
}

/// Reads the whole log and reports what is wrong with it. Fails only where files cannot be read.
pub fn verify(dir: &Path) -> Result<Report, Error> {
    verify_with(dir, Trust::default(), &mut |_line| {})
}

/// The same, with signatures and anchors; gives every line to `each` on the way, changed or not.
pub fn verify_with(
    dir: &Path,
    trust: Trust<'_>,
    each: &mut dyn FnMut(&[u8]),
) -> Result<Report, Error> {
    // The checkpoint first: a daemon that is writing only adds to what it speaks of.
    let mut report = Report::default();
    let checkpoint = match checkpoint::read(dir) {
        Ok(checkpoint) => checkpoint,
        Err(why) => {
            report.add(checkpoint::FILE.to_owned(), 0, What::BadCheckpoint(why));
            None
        }
    };
    let names = segment::list(dir)?;
    let mut pass = Pass {
        report,
        chain: Chain::START,
        met: checkpoint.is_none(),
        checkpoint: checkpoint.as_ref(),
        anchors: trust.anchors.iter().collect(),
        end: (Name(1), 0),
        trust,
        each,
    };
    pass.anchors
        .sort_by_key(|anchor| std::cmp::Reverse(anchor.seq));
    pass.latest();
    for (index, name) in names.iter().enumerate() {
        pass.segment(dir, *name, index + 1 == names.len())?;
    }
    Ok(pass.finish())
}

/// A check under way.
struct Pass<'a> {
    report: Report,
    chain: Chain,
    checkpoint: Option<&'a Checkpoint>,
    /// Whether the checkpoint's line was passed.
    met: bool,
    trust: Trust<'a>,
    /// Those that are not passed yet, the last first.
    anchors: Vec<&'a Checkpoint>,
    /// Where the last line ends.
    end: (Name, u64),
    each: &'a mut dyn FnMut(&[u8]),
}

/// A line that may be a checkpoint.
#[derive(Deserialize)]
struct Vouches<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    checkpoint: Option<Checkpoint>,
}

impl Pass<'_> {
    /// The newest checkpoint must be signed; where in the log it stands is seen on the way.
    fn latest(&mut self) {
        let Some(checkpoint) = self.checkpoint.filter(|_| !self.trust.keys.is_empty()) else {
            return;
        };
        self.signature(checkpoint, (checkpoint::FILE.to_owned(), 0));
    }

    fn signature(&mut self, checkpoint: &Checkpoint, (file, line): (String, u64)) {
        match checkpoint.is_signed_by(self.trust.keys) {
            Ok(()) => {
                self.report.signatures += 1;
                let before = self.report.signed.unwrap_or(0);
                self.report.signed = Some(before.max(checkpoint.seq));
            }
            Err(what) => self.report.add(file, line, what),
        }
    }

    /// Where a line vouches for those before it: whether it is signed, and speaks of the line before.
    fn vouches(&mut self, (name, number): (Name, u64), line: &[u8], before: &Chain) {
        const WORD: &[u8] = b"log.checkpoint";
        if memchr::memmem::find(line, WORD).is_none() {
            return;
        }
        let vouches: Option<Vouches<'_>> = serde_json::from_slice(line).ok();
        let vouches = vouches.filter(|vouches| vouches.event.as_bytes() == WORD);
        let Some(vouches) = vouches else {
            return;
        };
        let (segment, end) = self.end;
        let place = (name.to_string(), number);
        match vouches.checkpoint {
            Some(checkpoint) if checkpoint.is_at(before, segment, end) => {
                if !self.trust.keys.is_empty() {
                    self.signature(&checkpoint, place);
                }
            }
            _ => self.report.add(place.0, place.1, What::Misplaced),
        }
    }

    /// Passes the anchors that speak of the line just read.
    fn pass_anchors(&mut self) {
        while let Some(anchor) = self.anchors.pop_if(|anchor| anchor.seq < self.chain.next) {
            let is_here = anchor.seq.saturating_add(1) == self.chain.next
                && Hash::parse(&anchor.hash) == Some(self.chain.prev);
            match is_here {
                true => self.report.anchors += 1,
                false => {
                    let what = What::Anchor(anchor.seq);
                    self.report.add("the anchor".to_owned(), 0, what);
                }
            }
        }
    }

    fn segment(&mut self, dir: &Path, name: Name, last: bool) -> Result<(), Error> {
        let path = dir.join(name.to_string());
        let failed = |error| Error::io("read", &path, error);
        let file = File::open(&path).map_err(failed)?;
        // Begun behind a line that a daemon which was killed did not come to: it holds nothing.
        let is_begun = last && name.0 == self.chain.next.saturating_add(1);
        if is_begun && file.metadata().map_err(failed)?.len() == 0 {
            return Ok(());
        }
        let mut from = BufReader::with_capacity(1 << 20, file);
        self.report.segments += 1;
        if name.0 != self.chain.next {
            let due = What::Name(self.chain.next);
            self.report.add(name.to_string(), 0, due);
        }
        self.pass_checkpoint(name, 0, 0);
        let (mut line, mut number, mut offset) = (Vec::new(), 0_u64, 0_u64);
        loop {
            let piece = read_line(&mut from, &mut line).map_err(failed)?;
            number += 1;
            let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
            match piece {
                Piece::End => return Ok(()),
                Piece::Line => {
                    offset += length + 1;
                    self.line(name, number, &line);
                    self.end = (name, offset);
                    self.pass_checkpoint(name, number, offset);
                }
                // Before the checkpoint it is caught by the checkpoint that is never met.
                Piece::Rest if last => self.report.unfinished_bytes = length,
                Piece::Rest => self.report.add(name.to_string(), number, What::CutOff),
                Piece::Endless => {
                    self.report.add(name.to_string(), number, What::Endless);
                    return Ok(());
                }
            }
        }
    }

    fn line(&mut self, name: Name, number: u64, line: &[u8]) {
        self.report.lines += 1;
        (self.each)(line);
        let before = self.chain;
        if let Err(what) = self.chain.follow(line) {
            self.report.add(name.to_string(), number, what);
        }
        self.vouches((name, number), line, &before);
        self.pass_anchors();
    }

    fn pass_checkpoint(&mut self, name: Name, number: u64, end: u64) {
        let Some(checkpoint) = self.checkpoint.filter(|_| !self.met) else {
            return;
        };
        if self.chain.next <= checkpoint.seq {
            return;
        }
        self.met = true;
        if !checkpoint.is_at(&self.chain, name, end) {
            let other = What::OtherLine(checkpoint.seq);
            self.report.add(name.to_string(), number, other);
        }
    }

    fn finish(mut self) -> Report {
        self.report.checkpoint = self.checkpoint.map(|checkpoint| checkpoint.seq);
        if let Some(checkpoint) = self.checkpoint.filter(|_| !self.met) {
            let cut = What::Truncated(checkpoint.seq);
            self.report.add(checkpoint::FILE.to_owned(), 0, cut);
        }
        for anchor in std::mem::take(&mut self.anchors) {
            let what = What::Anchor(anchor.seq);
            self.report.add("the anchor".to_owned(), 0, what);
        }
        let unread = self.checkpoint.is_none() && self.report.violations.is_empty();
        if unread && self.report.lines > 0 {
            self.report
                .add(checkpoint::FILE.to_owned(), 0, What::NoCheckpoint);
        }
        self.report
    }
}

impl Checkpoint {
    /// Whether the chain, having read up to `end` of segment `name`, stands exactly here.
    pub(super) fn is_at(&self, chain: &Chain, name: Name, end: u64) -> bool {
        matches!(self.v, 1 | 2)
            && chain.next == self.seq.saturating_add(1)
            && Hash::parse(&self.hash) == Some(chain.prev)
            && self.segment == name.to_string()
            && self.length == end
    }
}
