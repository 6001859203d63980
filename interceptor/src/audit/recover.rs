//! What a crash left: finds the last whole line and sets aside whatever is behind it.
//!
//! A killed daemon or a power loss can leave part of a line, a run of zeros, or later blocks without
//! earlier ones, always behind the checkpoint. What is wrong before it is no crash: the log is not
//! opened then, for a chain that goes on over a gap would hide it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::chain::{Chain, Piece, read_line};
use super::checkpoint::{self, Checkpoint};
use super::segment::{self, Name};
use super::verify::{Violation, What};
use super::{Error, Signer, is_full};

/// Where the log goes on, and what was set aside.
pub(super) struct Recovered {
    pub(super) chain: Chain,
    /// The segment to go on in; none for an empty log.
    pub(super) last: Option<Name>,
    pub(super) aside: Vec<Aside>,
    /// Whether the checkpoint is still to be signed, or to be made.
    pub(super) unsigned: bool,
}

/// Bytes that were no whole line.
pub(super) struct Aside {
    pub(super) segment: String,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// The file that keeps them; none where they were all zero.
    pub(super) kept: Option<String>,
}

/// Brings the directory to a state in which the log ends with a whole line.
pub(super) fn recover(dir: &Path, signer: &Signer) -> Result<Recovered, Error> {
    let names = segment::list(dir)?;
    let damaged = |what| damaged(dir, checkpoint::FILE.to_owned(), 0, what);
    let checkpoint = checkpoint::read(dir).map_err(|why| damaged(What::BadCheckpoint(why)))?;
    let Some(checkpoint) = checkpoint else {
        return without_checkpoint(dir, &names);
    };
    signer.accepts(&checkpoint).map_err(damaged)?;
    let first = names
        .iter()
        .position(|name| name.to_string() == checkpoint.segment)
        .ok_or_else(|| damaged(What::Truncated(checkpoint.seq)))?;
    let mut walk = Walk {
        dir,
        checkpoint: &checkpoint,
        met: false,
        chain: Chain::START,
        number: 0,
    };
    let walked = names.get(first..).unwrap_or_default();
    let (fault, last) = walk.all(walked)?;
    let mut aside = Vec::new();
    if let Some((index, offset)) = fault {
        let mut behind = walked.iter().skip(index);
        if offset > 0 || index == 0 {
            aside.extend(behind.next().map(|name| cut(dir, *name, offset)));
        }
        aside.extend(behind.map(|name| put_away(dir, *name)));
        segment::sync_dir(dir)?;
    }
    Ok(Recovered {
        chain: walk.chain,
        last,
        unsigned: checkpoint.signature.is_none(),
        aside: aside.into_iter().collect::<Result<_, _>>()?,
    })
}

/// The first checkpoint is on disk before the first line: without one there is no line.
fn without_checkpoint(dir: &Path, names: &[Name]) -> Result<Recovered, Error> {
    for name in names {
        let path = dir.join(name.to_string());
        let length = fs::metadata(&path)
            .map_err(|error| Error::io("read", &path, error))?
            .len();
        if length > 0 || *name != Name(1) {
            let what = What::NoCheckpoint;
            return Err(damaged(dir, checkpoint::FILE.to_owned(), 0, what));
        }
    }
    Ok(Recovered {
        chain: Chain::START,
        unsigned: true,
        last: names.last().copied(),
        aside: Vec::new(),
    })
}

fn damaged(dir: &Path, file: String, line: u64, what: What) -> Error {
    Error::Damaged {
        dir: dir.to_owned(),
        violation: Box::new(Violation { file, line, what }),
    }
}

/// The way from the checkpoint's segment to the end.
struct Walk<'a> {
    dir: &'a Path,
    checkpoint: &'a Checkpoint,
    /// Whether the checkpoint's line was passed.
    met: bool,
    chain: Chain,
    /// The line in the segment, from 1.
    number: u64,
}

/// Where the first fault is: which of the segments walked, and the offset in it.
type Fault = (usize, u64);

impl Walk<'_> {
    /// Walks to the first fault or the end; also gives the segment that the last whole line is in.
    fn all(&mut self, names: &[Name]) -> Result<(Option<Fault>, Option<Name>), Error> {
        let mut last = None;
        for (index, name) in names.iter().enumerate() {
            if index > 0 && name.0 != self.chain.next {
                self.fault(*name, What::Name(self.chain.next))?;
                return Ok((Some((index, 0)), last));
            }
            let fault = self.one(*name, index == 0)?;
            if let Some(0) = fault
                && index > 0
            {
                return Ok((Some((index, 0)), last));
            }
            last = Some(*name);
            if let Some(offset) = fault {
                return Ok((Some((index, offset)), last));
            }
        }
        if !self.met {
            let what = What::Truncated(self.checkpoint.seq);
            return Err(damaged(self.dir, checkpoint::FILE.to_owned(), 0, what));
        }
        Ok((None, last))
    }

    /// Walks one segment; gives the offset of the first fault in it.
    fn one(&mut self, name: Name, first: bool) -> Result<Option<u64>, Error> {
        let path = self.dir.join(name.to_string());
        let failed = |error| Error::io("read", &path, error);
        let mut from = BufReader::with_capacity(1 << 20, File::open(&path).map_err(failed)?);
        let (mut line, mut offset) = (Vec::new(), 0_u64);
        self.number = 0;
        if name == Name(1) {
            self.pass(name, 0)?;
        }
        loop {
            let piece = read_line(&mut from, &mut line).map_err(failed)?;
            self.number += 1;
            let what = match piece {
                Piece::End => return Ok(None),
                Piece::Rest => What::CutOff,
                Piece::Endless => What::Endless,
                Piece::Line => {
                    if first && self.number == 1 && name != Name(1) {
                        self.chain = Chain::before(&line).unwrap_or(self.chain);
                    }
                    let before = self.chain;
                    match self.chain.follow(&line) {
                        Ok(()) => {
                            offset += u64::try_from(line.len()).unwrap_or(u64::MAX) + 1;
                            self.pass(name, offset)?;
                            continue;
                        }
                        Err(what) => {
                            self.chain = before;
                            what
                        }
                    }
                }
            };
            self.fault(name, what)?;
            return Ok(Some(offset));
        }
    }

    /// A fault before the checkpoint is no crash.
    fn fault(&self, name: Name, what: What) -> Result<(), Error> {
        if self.met {
            return Ok(());
        }
        Err(damaged(self.dir, name.to_string(), self.number, what))
    }

    fn pass(&mut self, name: Name, end: u64) -> Result<(), Error> {
        if self.met || self.chain.next <= self.checkpoint.seq {
            return Ok(());
        }
        if !self.checkpoint.is_at(&self.chain, name, end) {
            let what = What::OtherLine(self.checkpoint.seq);
            return Err(damaged(self.dir, name.to_string(), self.number, what));
        }
        self.met = true;
        Ok(())
    }
}

/// Copies what is behind `offset` into a file beside the segment, and cuts the segment there.
fn cut(dir: &Path, name: Name, offset: u64) -> Result<Aside, Error> {
    let path = dir.join(name.to_string());
    let failed = |error: io::Error| {
        if is_full(&error) {
            Error::Full {
                dir: dir.to_owned(),
            }
        } else {
            Error::io("recover", &path, error)
        }
    };
    let mut from = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(failed)?;
    let bytes = from.metadata().map_err(failed)?.len() - offset;
    from.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let content = content_length(BufReader::new(&from)).map_err(failed)?;
    let mut kept = None;
    if content > 0 {
        let aside = free_name(dir, &format!("{name}.{offset}"));
        let mut to = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.join(&aside))
            .map_err(failed)?;
        from.seek(SeekFrom::Start(offset)).map_err(failed)?;
        io::copy(&mut Read::take(&from, content), &mut to).map_err(failed)?;
        to.sync_all().map_err(failed)?;
        kept = Some(aside);
    }
    from.set_len(offset).map_err(failed)?;
    from.sync_all().map_err(failed)?;
    Ok(Aside {
        segment: name.to_string(),
        offset,
        bytes,
        kept,
    })
}

/// Moves a whole segment aside.
fn put_away(dir: &Path, name: Name) -> Result<Aside, Error> {
    let path = dir.join(name.to_string());
    let failed = |error| Error::io("set aside", &path, error);
    let bytes = fs::metadata(&path).map_err(failed)?.len();
    let aside = free_name(dir, &name.to_string());
    fs::rename(&path, dir.join(&aside)).map_err(failed)?;
    Ok(Aside {
        segment: name.to_string(),
        offset: 0,
        bytes,
        kept: Some(aside),
    })
}

/// A name that ends in `.torn` and is not taken.
fn free_name(dir: &Path, stem: &str) -> String {
    let mut name = format!("{stem}.torn");
    let mut count = 1_u32;
    while dir.join(&name).exists() {
        name = format!("{stem}.{count}.torn");
        count += 1;
    }
    name
}

/// How many bytes there are without the zeros at the end.
fn content_length(mut from: impl Read) -> io::Result<u64> {
    let mut buffer = vec![0_u8; 64 << 10];
    let (mut position, mut content) = (0_u64, 0_u64);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(content);
        }
        let part = buffer.get(..read).unwrap_or_default();
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            content = position + u64::try_from(last).unwrap_or(0) + 1;
        }
        position += u64::try_from(read).unwrap_or(0);
    }
}
