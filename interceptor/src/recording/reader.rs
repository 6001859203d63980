//! Reading a recording back, frame by frame, with every checksum checked.
//!
//! What a crash tore off ends the reading with [`Error::Torn`]; anything else that is not as it was
//! written ends it with [`Error::Damaged`]. Either comes last, behind all that is whole. Of a recording
//! that is being written there may be more later.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::Hash;
use super::store::Meta;
use super::store::keys::Identities;
use super::{Error, Terminal};
use crate::clock::BootTime;
use crate::session::{Direction, Phase, RequestId};

pub(super) mod chunks;
mod old;

/// Something recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When, on the clock of `meta.json`'s `started_boot_ns`.
    pub at: BootTime,
    /// What.
    pub what: What,
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Bytes, as the agent sent or saw them.
    Bytes(Direction, Bytes),
    /// A request of the audit whose text is among the bytes before.
    Mark(RequestId, Phase),
    /// What a terminal showed, or was told.
    Terminal(u32, Terminal),
    /// The end of the session, and why.
    End(String),
}

/// A recording being read: an iterator over its frames, which ends after the first error.
pub struct Reader {
    dir: PathBuf,
    meta: Meta,
    identities: Identities,
    /// Numbers of the segments that are not yet read, last first.
    ahead: Vec<u32>,
    open: Option<Open>,
    /// The last checksum, of version 1.
    checksum: u32,
    /// The last hash; none where what was before is not known.
    hash: Option<Hash>,
    read: u32,
    /// What is before is passed over.
    from: BootTime,
    ended: bool,
    /// Why it is not read further.
    done: Option<Done>,
}

enum Open {
    Old(old::Open),
    Chunks(chunks::Open),
}

/// Why no frame comes any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    /// There was no more, or it was torn: there may be later.
    End,
    /// It is damaged, or cannot be read.
    Failed,
}

impl Reader {
    /// Opens the recording in a session's directory.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::with(dir, Identities::default())
    }

    /// The same, of one that may be encrypted to whom these are.
    pub fn with(dir: &Path, identities: Identities) -> Result<Self, Error> {
        let mut ahead = segments(dir)?;
        ahead.reverse();
        Ok(Self {
            dir: dir.to_owned(),
            meta: Meta::read(dir)?,
            identities,
            ahead,
            open: None,
            checksum: 0,
            hash: Some(Hash::default()),
            read: 0,
            from: BootTime(0),
            ended: false,
            done: None,
        })
    }

    /// What the session was.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Whether its end was read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// After the end: looks whether there is more by now. Without effect after damage.
    pub fn again(&mut self) -> Result<(), Error> {
        if self.done == Some(Done::Failed) {
            return Ok(());
        }
        self.meta = Meta::read(&self.dir)?;
        self.ahead = segments(&self.dir)?;
        self.ahead.retain(|number| *number > self.read);
        self.ahead.reverse();
        if let Some(Open::Chunks(open)) = &mut self.open {
            open.go(open.offset())?;
        }
        self.done = None;
        Ok(())
    }

    /// Goes to a time: what was before is not read, as far as an index tells where it is.
    pub fn seek(&mut self, at: BootTime) -> Result<(), Error> {
        let numbers = segments(&self.dir)?;
        let (mut low, mut high) = (0, numbers.len());
        // The last segment that begins no later.
        while high.saturating_sub(low) > 1 {
            let middle = low.midpoint(high);
            let number = numbers.get(middle).copied().unwrap_or_default();
            match self.base(number)? {
                Some(base) if base <= at => low = middle,
                _ => high = middle,
            }
        }
        let Some(number) = numbers.get(low).copied() else {
            return Ok(());
        };
        (self.from, self.done, self.open) = (at, None, None);
        (self.read, self.ahead) = (number.saturating_sub(1), numbers);
        self.ahead.retain(|one| *one >= number);
        self.ahead.reverse();
        // Version 1 is read from its beginning.
        if number > 1 && self.base(number)?.is_none() {
            self.ahead = segments(&self.dir)?;
            self.ahead.reverse();
            (self.read, self.checksum) = (0, 0);
            return Ok(());
        }
        self.hash = (number == 1).then(Hash::default);
        if self.begin()?
            && let Some(Open::Chunks(open)) = &mut self.open
        {
            open.jump(at, &mut self.hash)?;
        }
        Ok(())
    }

    /// When a segment begins; none where it is of version 1, or torn.
    fn base(&self, number: u32) -> Result<Option<BootTime>, Error> {
        let (path, from, version) = self.file(number)?;
        if version != 2 {
            return Ok(None);
        }
        let place = (self.meta.session, number);
        match chunks::Open::begin(path, from, place, &mut None, (&self.dir, None)) {
            Ok(open) => Ok(Some(open.base())),
            Err(Error::Torn { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            let last = self.ahead.is_empty();
            let frame = match &mut self.open {
                None if last => return self.finish(),
                None => None,
                Some(Open::Old(open)) => open.frame(&mut self.checksum, last)?,
                Some(Open::Chunks(open)) => open.frame(&mut self.hash, last)?,
            };
            match frame {
                // It stays open: it may be written still.
                None if last => return self.finish(),
                None => {
                    self.begin()?;
                }
                Some(frame) => {
                    self.ended = matches!(frame.what, What::End(_));
                    if frame.at >= self.from {
                        return Ok(Some(frame));
                    }
                }
            }
        }
    }

    /// Opens the next segment, if there is one.
    fn begin(&mut self) -> Result<bool, Error> {
        let Some(number) = self.ahead.pop() else {
            return Ok(false);
        };
        let (path, from, version) = self.file(number)?;
        if number != self.read + 1 {
            return Err(Error::Damaged {
                file: path,
                offset: 0,
                what: "the segment before it is missing",
            });
        }
        let place = (self.meta.session, number);
        self.open = Some(match version {
            1 => Open::Old(old::Open::begin(path, from, place, &mut self.checksum)?),
            _ => {
                let keys = (self.dir.as_path(), Some(&self.identities));
                Open::Chunks(chunks::Open::begin(
                    path,
                    from,
                    place,
                    &mut self.hash,
                    keys,
                )?)
            }
        });
        self.read = number;
        Ok(true)
    }

    /// A segment's file, and the version that it says it has.
    fn file(&self, number: u32) -> Result<(PathBuf, BufReader<File>, u8), Error> {
        let path = self.dir.join(format!("{number:06}.rec"));
        let failed = |error| Error::io("read", &path, error);
        let file = File::open(&path).map_err(failed)?;
        let mut from = BufReader::with_capacity(256 << 10, file);
        let mut magic = [0; 8];
        fill(&mut from, &mut magic).map_err(failed)?;
        from.seek(SeekFrom::Start(0)).map_err(failed)?;
        let [.., version] = magic;
        Ok((path, from, version))
    }

    /// At the end: whether all is there that `meta.json` speaks of.
    fn finish(&self) -> Result<Option<Frame>, Error> {
        match &self.meta.ended {
            Some(ended) if !ended.is_lost() && (ended.segments != self.read || !self.ended) => {
                Err(Error::Damaged {
                    file: self.dir.join(format!("{:06}.rec", self.read)),
                    offset: 0,
                    what: "the end of the session is missing",
                })
            }
            _ => Ok(None),
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Frame, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done.is_some() {
            return None;
        }
        let next = self.advance().transpose();
        self.done = match &next {
            Some(Ok(_)) => None,
            None | Some(Err(Error::Torn { .. })) => Some(Done::End),
            Some(Err(_)) => Some(Done::Failed),
        };
        next
    }
}

/// The numbers of a recording's segments, in order.
pub(super) fn segments(dir: &Path) -> Result<Vec<u32>, Error> {
    let failed = |error| Error::io("list", dir, error);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".rec"));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    Nothing,
    Part,
    Whole,
}

/// Reads a whole buffer, or tells how far it came.
pub(super) fn fill(from: &mut BufReader<File>, buffer: &mut [u8]) -> std::io::Result<Filled> {
    let length = buffer.len();
    let mut filled = 0;
    while filled < length {
        let rest = buffer.get_mut(filled..).unwrap_or_default();
        match from.read(rest) {
            Ok(0) if filled == 0 => return Ok(Filled::Nothing),
            Ok(0) => return Ok(Filled::Part),
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Filled::Whole)
}
