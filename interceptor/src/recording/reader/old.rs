//! Reading segments of version 1, which were neither compressed nor hashed: checksums are CRC-32.
//!
//! | part | offset | bytes | what |
//! |---|---|---|---|
//! | header | 0 | 8 | `ICPTREC` and the version, 1 |
//! | | 8 | 16 + 4 + 8 | the session, the segment's number, nanoseconds since boot that its frames count from |
//! | | 36 | 4 + 4 | checksum of the last frame of the segment before, 0 in the first; of the 40 bytes before |
//! | frame | 0 | 4 | checksum of the frame before (of the header, for the first), the next 13 bytes, the body |
//! | | 4 | 1 + 8 + 4 | kind, nanoseconds since the header's, length of the body, which follows |

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use bytes::Bytes;
use uuid::Uuid;

use super::{Filled, Frame, What, fill};
use crate::clock::BootTime;
use crate::recording::Error;
use crate::recording::format::{FRAME_MAX, Fields, decode_mark};
use crate::session::Direction;

/// Bytes of a segment's header.
const SEGMENT_HEADER: usize = 44;

/// Bytes of a frame's header.
const FRAME_HEADER: usize = 17;

const MAGIC: [u8; 8] = *b"ICPTREC\x01";

/// A segment being read.
pub(super) struct Open {
    path: PathBuf,
    from: BufReader<File>,
    base: BootTime,
    /// Where the next frame begins.
    offset: u64,
}

impl Open {
    /// Reads the header behind a segment whose last checksum is `checksum`.
    pub(super) fn begin(
        path: PathBuf,
        mut from: BufReader<File>,
        (session, number): (Uuid, u32),
        checksum: &mut u32,
    ) -> Result<Self, Error> {
        let damaged = |what| Error::Damaged {
            file: path.clone(),
            offset: 0,
            what,
        };
        let mut bytes = [0; SEGMENT_HEADER];
        if fill(&mut from, &mut bytes).map_err(|error| Error::io("read", &path, error))?
            != Filled::Whole
        {
            return Err(Error::Torn {
                file: path,
                offset: 0,
            });
        }
        let mut rest = Fields(&bytes);
        let magic: [u8; 8] = rest.take();
        let found = Uuid::from_bytes(rest.take());
        let place = u32::from_le_bytes(rest.take());
        let base = BootTime(u64::from_le_bytes(rest.take()));
        let before = u32::from_le_bytes(rest.take());
        let sum = u32::from_le_bytes(rest.take());
        let (fields, _) = bytes.split_at(SEGMENT_HEADER - 4);
        if magic != MAGIC || crc32fast::hash(fields) != sum {
            return Err(damaged("the header's checksum is another"));
        }
        if found != session || place != number {
            return Err(damaged("it is a segment of another place"));
        }
        if before != *checksum {
            return Err(damaged("it does not follow the segment before it"));
        }
        *checksum = sum;
        Ok(Self {
            path,
            from,
            base,
            offset: u64::try_from(SEGMENT_HEADER).unwrap_or(0),
        })
    }

    /// The next frame; none at the end of the segment.
    pub(super) fn frame(&mut self, checksum: &mut u32, last: bool) -> Result<Option<Frame>, Error> {
        let mut bytes = [0; FRAME_HEADER];
        match self.fill(&mut bytes)? {
            Filled::Nothing => return Ok(None),
            Filled::Part => return Err(self.cut(last)),
            // A power loss can leave a length without the bytes.
            Filled::Whole if bytes == [0; FRAME_HEADER] => return Err(self.cut(last)),
            Filled::Whole => {}
        }
        let mut rest = Fields(&bytes);
        let sum = u32::from_le_bytes(rest.take());
        let (_, fields) = bytes.split_at(4);
        let [kind] = rest.take();
        let delta = u64::from_le_bytes(rest.take());
        let length = usize::try_from(u32::from_le_bytes(rest.take())).unwrap_or(usize::MAX);
        if !(1..=4).contains(&kind) || length > FRAME_MAX {
            return Err(self.damaged("no frame begins like this"));
        }
        let mut body = vec![0; length];
        if self.fill(&mut body)? != Filled::Whole && !body.is_empty() {
            return Err(self.cut(last));
        }
        let mut again = crc32fast::Hasher::new();
        for part in [&checksum.to_le_bytes()[..], fields, &body] {
            again.update(part);
        }
        if again.finalize() != sum {
            return Err(self.damaged("the frame's checksum is another"));
        }
        *checksum = sum;
        let what = match kind {
            1 => What::Bytes(Direction::Sent, Bytes::from(body)),
            2 => What::Bytes(Direction::Received, Bytes::from(body)),
            3 => decode_mark(&body)
                .map(|(request, phase)| What::Mark(request, phase))
                .ok_or_else(|| self.damaged("the frame is no mark"))?,
            _ => What::End(String::from_utf8_lossy(&body).into_owned()),
        };
        let whole = FRAME_HEADER.saturating_add(length);
        self.offset += u64::try_from(whole).unwrap_or(0);
        let at = BootTime(self.base.0.saturating_add(delta));
        Ok(Some(Frame { at, what }))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<Filled, Error> {
        fill(&mut self.from, buffer).map_err(|error| Error::io("read", &self.path, error))
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
