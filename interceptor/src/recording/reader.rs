//! Reading a recording back, frame by frame, with every checksum checked.
//!
//! What a crash tore off ends the reading with [`Error::Torn`]; anything else that is not as it was
//! written ends it with [`Error::Damaged`]. Either comes last, behind all that is whole.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Error;
use super::format::{FRAME_HEADER, FrameHeader, Kind, SEGMENT_HEADER, SegmentHeader, decode_mark};
use super::store::Meta;
use crate::clock::BootTime;
use crate::session::{Direction, Phase, RequestId};

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
    /// The end of the session, and why.
    End(String),
}

/// A recording being read: an iterator over its frames, which ends after the first error.
pub struct Reader {
    dir: PathBuf,
    meta: Meta,
    /// Numbers of the segments that are not yet read, last first.
    ahead: Vec<u32>,
    open: Option<Open>,
    checksum: u32,
    read: u32,
    ended: bool,
    done: bool,
}

struct Open {
    path: PathBuf,
    from: BufReader<File>,
    base: BootTime,
    /// Where the next frame begins.
    offset: u64,
}

impl Reader {
    /// Opens the recording in a session's directory.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let meta = Meta::read(dir)?;
        let failed = |error| Error::io("list", dir, error);
        let mut ahead = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".rec"));
            ahead.extend(number.and_then(|number| number.parse::<u32>().ok()));
        }
        ahead.sort_unstable_by(|one, other| other.cmp(one));
        Ok(Self {
            dir: dir.to_owned(),
            meta,
            ahead,
            open: None,
            checksum: 0,
            read: 0,
            ended: false,
            done: false,
        })
    }

    /// What the session was.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    fn advance(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            let Some(open) = &mut self.open else {
                if !self.begin()? {
                    return self.finish();
                }
                continue;
            };
            match open.frame(self.checksum, self.ahead.is_empty())? {
                None => self.open = None,
                Some((frame, checksum)) => {
                    self.checksum = checksum;
                    self.ended = matches!(frame.what, What::End(_));
                    return Ok(Some(frame));
                }
            }
        }
    }

    /// Opens the next segment, if there is one.
    fn begin(&mut self) -> Result<bool, Error> {
        let Some(number) = self.ahead.pop() else {
            return Ok(false);
        };
        let path = self.dir.join(format!("{number:06}.rec"));
        let file = File::open(&path).map_err(|error| Error::io("read", &path, error))?;
        let mut from = BufReader::with_capacity(512 << 10, file);
        let mut bytes = [0; SEGMENT_HEADER];
        let damaged = |what| Error::Damaged {
            file: path.clone(),
            offset: 0,
            what,
        };
        if number != self.read + 1 {
            return Err(damaged("the segment before it is missing"));
        }
        if fill(&mut from, &mut bytes).map_err(|error| Error::io("read", &path, error))?
            != Filled::Whole
        {
            let (file, offset) = (path, 0);
            return Err(Error::Torn { file, offset });
        }
        let (header, checksum) = SegmentHeader::decode(&bytes).map_err(damaged)?;
        if header.session != self.meta.session || header.number != number {
            return Err(damaged("it is a segment of another place"));
        }
        if header.before != self.checksum {
            return Err(damaged("it does not follow the segment before it"));
        }
        self.checksum = checksum;
        self.read = number;
        self.open = Some(Open {
            path,
            from,
            base: header.base,
            offset: u64::try_from(SEGMENT_HEADER).unwrap_or(0),
        });
        Ok(true)
    }

    /// At the end: whether all is there that `meta.json` speaks of.
    fn finish(&self) -> Result<Option<Frame>, Error> {
        match &self.meta.ended {
            Some(ended) if ended.segments != self.read || !self.ended => Err(Error::Damaged {
                file: self.dir.join(format!("{:06}.rec", self.read)),
                offset: 0,
                what: "the end of the session is missing",
            }),
            _ => Ok(None),
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Frame, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Open {
    /// The next frame and its checksum; none at the end of the segment.
    fn frame(&mut self, before: u32, last: bool) -> Result<Option<(Frame, u32)>, Error> {
        let failed = |path: &Path, error| Error::io("read", path, error);
        let mut bytes = [0; FRAME_HEADER];
        match fill(&mut self.from, &mut bytes).map_err(|error| failed(&self.path, error))? {
            Filled::Nothing => return Ok(None),
            Filled::Part => return Err(self.cut(last)),
            // A power loss can leave a length without the bytes.
            Filled::Whole if bytes == [0; FRAME_HEADER] => return Err(self.cut(last)),
            Filled::Whole => {}
        }
        let (header, checksum) =
            FrameHeader::decode(&bytes).ok_or_else(|| self.damaged("no frame begins like this"))?;
        let mut body = vec![0; usize::try_from(header.length).unwrap_or(0)];
        let filled = fill(&mut self.from, &mut body).map_err(|error| failed(&self.path, error))?;
        if filled != Filled::Whole && !body.is_empty() {
            return Err(self.cut(last));
        }
        if header.checksum(before, &body) != checksum {
            return Err(self.damaged("the frame's checksum is another"));
        }
        let what = match header.kind {
            Kind::Sent => What::Bytes(Direction::Sent, Bytes::from(body)),
            Kind::Received => What::Bytes(Direction::Received, Bytes::from(body)),
            Kind::Mark => decode_mark(&body)
                .map(|(request, phase)| What::Mark(request, phase))
                .ok_or_else(|| self.damaged("the frame is no mark"))?,
            Kind::End => What::End(String::from_utf8_lossy(&body).into_owned()),
        };
        let whole = FRAME_HEADER.saturating_add(usize::try_from(header.length).unwrap_or(0));
        self.offset += u64::try_from(whole).unwrap_or(0);
        let at = BootTime(self.base.0.saturating_add(header.delta));
        Ok(Some((Frame { at, what }, checksum)))
    }

    /// An end in the middle of a frame is a tear in the last segment only.
    fn cut(&self, last: bool) -> Error {
        if !last {
            return self.damaged("its end is missing");
        }
        Error::Torn {
            file: self.path.clone(),
            offset: self.offset,
        }
    }

    fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged {
            file: self.path.clone(),
            offset: self.offset,
            what,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Filled {
    Nothing,
    Part,
    Whole,
}

/// Reads a whole buffer, or tells how far it came.
fn fill(from: &mut BufReader<File>, buffer: &mut [u8]) -> std::io::Result<Filled> {
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
