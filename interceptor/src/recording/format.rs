//! How a segment looks. All numbers are little-endian; checksums are CRC-32 (IEEE 802.3).
//!
//! | part | offset | bytes | what |
//! |---|---|---|---|
//! | header | 0 | 8 | `ICPTREC` and the version, 1 |
//! | | 8 | 16 | the session |
//! | | 24 | 4 | the segment's number, from 1 |
//! | | 28 | 8 | nanoseconds since boot that its frames count from |
//! | | 36 | 4 | checksum of the last frame of the segment before, 0 in the first |
//! | | 40 | 4 | checksum of the 40 bytes before |
//! | frame | 0 | 4 | checksum of the frame before (of the header, for the first), the next 13 bytes, the body |
//! | | 4 | 1 | kind: 1 sent by the agent, 2 received by it, 3 mark, 4 end |
//! | | 5 | 8 | nanoseconds since the header's |
//! | | 13 | 4 | length of the body, at most 256 KiB |
//! | | 17 | | body; of a mark: the request (16) and its phase (1 prepare, 2 execute); of an end: the reason |

use uuid::Uuid;

use crate::clock::{self, BootTime};
use crate::session::{Direction, Phase, RequestId};

/// The longest body of a frame, in bytes. Longer pieces are recorded as several.
pub const FRAME_MAX: usize = 256 << 10;

const MAGIC: [u8; 8] = *b"ICPTREC\x01";

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 44;

/// Bytes of a frame's header.
pub(super) const FRAME_HEADER: usize = 17;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sent,
    Received,
    Mark,
    End,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Sent => 1,
            Self::Received => 2,
            Self::Mark => 3,
            Self::End => 4,
        }
    }

    fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Sent),
            2 => Some(Self::Received),
            3 => Some(Self::Mark),
            4 => Some(Self::End),
            _ => None,
        }
    }
}

impl From<Direction> for Kind {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Sent => Self::Sent,
            Direction::Received => Self::Received,
        }
    }
}

/// What stands at the start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) session: Uuid,
    pub(super) number: u32,
    pub(super) base: BootTime,
    pub(super) before: u32,
}

impl SegmentHeader {
    /// Its bytes, and the checksum that the first frame carries on.
    pub(super) fn encode(&self) -> ([u8; SEGMENT_HEADER], u32) {
        let mut bytes = [0; SEGMENT_HEADER];
        let mut sum = crc32fast::Hasher::new();
        let BootTime(base) = self.base;
        let fields: [&[u8]; 5] = [
            &MAGIC,
            self.session.as_bytes(),
            &self.number.to_le_bytes(),
            &base.to_le_bytes(),
            &self.before.to_le_bytes(),
        ];
        for field in fields {
            sum.update(field);
        }
        let sum = sum.finalize();
        let all = fields.concat();
        for (to, from) in bytes.iter_mut().zip(all.iter().chain(&sum.to_le_bytes())) {
            *to = *from;
        }
        (bytes, sum)
    }

    /// Reads it; `Err` says what is wrong.
    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Result<(Self, u32), &'static str> {
        let mut rest = Bytes(bytes);
        if rest.take::<8>() != MAGIC {
            return Err("this is no recording of a version that this program reads");
        }
        let header = Self {
            session: Uuid::from_bytes(rest.take()),
            number: u32::from_le_bytes(rest.take()),
            base: BootTime(u64::from_le_bytes(rest.take())),
            before: u32::from_le_bytes(rest.take()),
        };
        let sum = u32::from_le_bytes(rest.take());
        if header.encode().1 != sum {
            return Err("the header's checksum is another");
        }
        Ok((header, sum))
    }
}

/// What stands before a frame's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: Kind,
    /// Nanoseconds since the segment's base.
    pub(super) delta: u64,
    pub(super) length: u32,
}

impl FrameHeader {
    /// Of a body that is recorded now.
    pub(super) fn now(kind: Kind, base: BootTime, body: &[u8]) -> Self {
        let delta = clock::boot().since(base).as_nanos();
        Self {
            kind,
            delta: u64::try_from(delta).unwrap_or(u64::MAX),
            length: u32::try_from(body.len()).unwrap_or(u32::MAX),
        }
    }

    /// Its bytes, and its checksum, which the next frame carries on.
    pub(super) fn encode(&self, before: u32, body: &[u8]) -> ([u8; FRAME_HEADER], u32) {
        let sum = self.checksum(before, body);
        let mut bytes = [0; FRAME_HEADER];
        let all = [&sum.to_le_bytes()[..], &self.fields()].concat();
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = from;
        }
        (bytes, sum)
    }

    /// Reads it, with the checksum that it names; `None` where kind or length cannot be.
    pub(super) fn decode(bytes: &[u8; FRAME_HEADER]) -> Option<(Self, u32)> {
        let mut rest = Bytes(bytes);
        let sum = u32::from_le_bytes(rest.take());
        let [kind] = rest.take();
        let header = Self {
            kind: Kind::of(kind)?,
            delta: u64::from_le_bytes(rest.take()),
            length: u32::from_le_bytes(rest.take()),
        };
        let fits = usize::try_from(header.length).is_ok_and(|length| length <= FRAME_MAX);
        fits.then_some((header, sum))
    }

    /// The checksum of a frame behind one whose checksum is `before`.
    pub(super) fn checksum(&self, before: u32, body: &[u8]) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&before.to_le_bytes());
        sum.update(&self.fields());
        sum.update(body);
        sum.finalize()
    }

    fn fields(&self) -> [u8; 13] {
        let mut fields = [0; 13];
        let (kind, rest) = fields.split_at_mut(1);
        let (delta, length) = rest.split_at_mut(8);
        kind.fill(self.kind.code());
        delta.copy_from_slice(&self.delta.to_le_bytes());
        length.copy_from_slice(&self.length.to_le_bytes());
        fields
    }
}

/// The body of a mark.
pub(super) fn encode_mark(request: RequestId, phase: Phase) -> Vec<u8> {
    let mut body = request.0.as_bytes().to_vec();
    body.push(match phase {
        Phase::Prepare => 1,
        Phase::Execute => 2,
    });
    body
}

/// Reads the body of a mark.
pub(super) fn decode_mark(body: &[u8]) -> Option<(RequestId, Phase)> {
    let (request, phase) = body.split_first_chunk::<16>()?;
    let phase = match phase {
        [1] => Phase::Prepare,
        [2] => Phase::Execute,
        _ => return None,
    };
    Some((RequestId(Uuid::from_bytes(*request)), phase))
}

/// Fixed fields read from the front of a header, whose length is a constant.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *first
    }
}
