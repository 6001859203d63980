//! How a segment looks. All numbers are little-endian, hashes are SHA-256.
//!
//! | part | offset | bytes | what |
//! |---|---|---|---|
//! | header | 0 | 8 | `ICPTREC` and the version, 2 |
//! | | 8 | 16 + 4 + 8 | the session, the segment's number, nanoseconds since boot that its times count from |
//! | | 36 | 1 + 32 | 1 where chunks are encrypted; the hash of the last chunk of the segment before |
//! | | 69 | 32 | hash of all before |
//! | chunk | 0 | 32 | hash of: the hash before, the next 18 bytes, the payload |
//! | | 32 | 1 + 1 | 1 frames, 2 index; bit 0 where it is compressed (zstd), bit 1 where it is encrypted |
//! | | 34 | 8 + 4 + 4 | nanoseconds of its first frame; length of what it holds, length of the payload |
//! | frame | 0 | 1 + 8 + 4 | kind, nanoseconds since the header's, length of the body, which follows |

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::{self, BootTime};
use crate::session::{Direction, Phase, RequestId};

/// The longest body of a frame, in bytes. Longer pieces are recorded as several.
pub const FRAME_MAX: usize = 256 << 10;

/// A chunk is begun when the one before holds as much, in bytes.
pub(super) const CHUNK_FULL: usize = 1 << 20;

/// No chunk holds more than this.
pub(super) const CHUNK_MAX: usize = CHUNK_FULL + FRAME_MAX + FRAME_HEADER;

const MAGIC: [u8; 8] = *b"ICPTREC\x02";

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 101;

/// Bytes of a chunk's header.
pub(super) const CHUNK_HEADER: usize = 50;

/// Bytes of a frame's header.
pub(super) const FRAME_HEADER: usize = 13;

/// Bytes of an entry of an index.
pub(super) const ENTRY: usize = 48;

/// What an index ends with, behind the offset of its own chunk.
pub(super) const INDEX_MAGIC: [u8; 8] = *b"ICPTIDX\x02";

/// A hash of the chain.
pub(super) type Hash = [u8; 32];

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sent,
    Received,
    Mark,
    End,
    Terminal,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Sent => 1,
            Self::Received => 2,
            Self::Mark => 3,
            Self::End => 4,
            Self::Terminal => 5,
        }
    }

    fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Sent),
            2 => Some(Self::Received),
            3 => Some(Self::Mark),
            4 => Some(Self::End),
            5 => Some(Self::Terminal),
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
    pub(super) encrypted: bool,
    pub(super) before: Hash,
}

impl SegmentHeader {
    /// Its bytes, and its hash, which the first chunk carries on.
    pub(super) fn encode(&self) -> (Vec<u8>, Hash) {
        let BootTime(base) = self.base;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(self.session.as_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&base.to_le_bytes());
        bytes.push(u8::from(self.encrypted));
        bytes.extend_from_slice(&self.before);
        let hash = hash(&[&bytes]);
        bytes.extend_from_slice(&hash);
        (bytes, hash)
    }

    /// Reads it; `Err` says what is wrong.
    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Result<(Self, Hash), &'static str> {
        let mut rest = Fields(bytes);
        if rest.take::<8>() != MAGIC {
            return Err("this is no recording of a version that this program reads");
        }
        let header = Self {
            session: Uuid::from_bytes(rest.take()),
            number: u32::from_le_bytes(rest.take()),
            base: BootTime(u64::from_le_bytes(rest.take())),
            encrypted: rest.take() == [1],
            before: rest.take(),
        };
        let (again, hash) = header.encode();
        match again == bytes {
            true => Ok((header, hash)),
            false => Err("the header's hash is another"),
        }
    }
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Frames,
    Index,
}

/// What stands before a chunk's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    pub(super) holds: Holds,
    pub(super) compressed: bool,
    pub(super) encrypted: bool,
    /// Nanoseconds of its first frame since the segment's base.
    pub(super) first: u64,
    /// Bytes that it holds.
    pub(super) plain: u32,
    /// Bytes of the payload.
    pub(super) stored: u32,
}

impl ChunkHeader {
    /// What of it is hashed, and authenticated where the payload is encrypted.
    pub(super) fn fields(&self) -> [u8; 18] {
        let holds = match self.holds {
            Holds::Frames => 1,
            Holds::Index => 2,
        };
        let how = u8::from(self.compressed) | u8::from(self.encrypted) << 1;
        let mut fields = [0; 18];
        let all = [holds, how]
            .into_iter()
            .chain(self.first.to_le_bytes())
            .chain(self.plain.to_le_bytes())
            .chain(self.stored.to_le_bytes());
        for (to, from) in fields.iter_mut().zip(all) {
            *to = from;
        }
        fields
    }

    /// Reads it, with the hash that it names; `None` where it cannot be one.
    pub(super) fn decode(bytes: &[u8; CHUNK_HEADER]) -> Option<(Self, Hash)> {
        let mut rest = Fields(bytes);
        let hash = rest.take();
        let [holds, how] = rest.take();
        let header = Self {
            holds: match holds {
                1 => Holds::Frames,
                2 => Holds::Index,
                _ => return None,
            },
            compressed: how & 1 != 0,
            encrypted: how & 2 != 0,
            first: u64::from_le_bytes(rest.take()),
            plain: u32::from_le_bytes(rest.take()),
            stored: u32::from_le_bytes(rest.take()),
        };
        let fits = |length: u32| usize::try_from(length).is_ok_and(|length| length <= CHUNK_MAX);
        // An index has an entry for each quarter of a mebibyte: its length is the file's affair.
        let fits = header.holds == Holds::Index || fits(header.plain) && fits(header.stored);
        (how < 4 && fits).then_some((header, hash))
    }

    /// The chain's hash behind this chunk.
    pub(super) fn hash(&self, before: &Hash, payload: &[u8]) -> Hash {
        hash(&[before, &self.fields(), payload])
    }
}

/// SHA-256 of parts behind each other.
pub(super) fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let sum = context.finish();
    let mut hash = Hash::default();
    for (to, from) in hash.iter_mut().zip(sum.as_ref()) {
        *to = *from;
    }
    hash
}

/// The bytes of a frame that is recorded now, behind those of the chunk; nanoseconds since the base.
pub(super) fn frame(chunk: &mut Vec<u8>, kind: Kind, base: BootTime, body: &[u8]) -> u64 {
    let delta = clock::boot().since(base).as_nanos();
    let delta = u64::try_from(delta).unwrap_or(u64::MAX);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    chunk.push(kind.code());
    chunk.extend_from_slice(&delta.to_le_bytes());
    chunk.extend_from_slice(&length.to_le_bytes());
    chunk.extend_from_slice(body);
    delta
}

/// Takes the first frame from what a chunk holds: its kind, its nanoseconds, its body. `None` at the
/// end, `Err` where no frame begins like this.
pub(super) fn take_frame(chunk: &mut Bytes) -> Result<Option<(Kind, u64, Bytes)>, &'static str> {
    const NONE: &str = "no frame begins like this";
    if chunk.is_empty() {
        return Ok(None);
    }
    let header = chunk.first_chunk::<FRAME_HEADER>().ok_or(NONE)?;
    let mut rest = Fields(header);
    let [kind] = rest.take();
    let kind = Kind::of(kind).ok_or(NONE)?;
    let delta = u64::from_le_bytes(rest.take());
    let length = usize::try_from(u32::from_le_bytes(rest.take())).unwrap_or(usize::MAX);
    if length > chunk.len() - FRAME_HEADER {
        return Err(NONE);
    }
    drop(chunk.split_to(FRAME_HEADER));
    Ok(Some((kind, delta, chunk.split_to(length))))
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
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *first
    }
}
