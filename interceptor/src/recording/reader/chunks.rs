//! Reading segments of version 2: chunks, each checked against the one before, opened and taken apart.
//!
//! What is longer than a chunk may be is not read, and nothing grows past what its header says.

use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Filled, Frame, What, fill};
use crate::clock::BootTime;
use crate::recording::format::{
    CHUNK_HEADER, ChunkHeader, ENTRY, Fields, Hash, Holds, INDEX_MAGIC, Kind, SEGMENT_HEADER,
    SegmentHeader, decode_mark, take_frame,
};
use crate::recording::store::keys::Identities;
use crate::recording::writer::press::{Place, SessionKey};
use crate::recording::{Error, Terminal};
use crate::session::Direction;

/// An index is not longer than this, in bytes.
const INDEX_MAX: usize = 64 << 20;

/// A segment being read.
pub(in crate::recording) struct Open {
    path: PathBuf,
    from: BufReader<File>,
    header: SegmentHeader,
    /// Where the next chunk begins.
    offset: u64,
    key: Option<Arc<SessionKey>>,
    /// Frames of the last chunk that are still to be given.
    frames: Bytes,
}

/// A chunk as it stands in the file.
pub(in crate::recording) struct Chunk {
    header: ChunkHeader,
    hash: Hash,
    payload: Vec<u8>,
}

/// Whether a key is looked for: not where nothing is opened.
pub(in crate::recording) type Keys<'a> = (&'a Path, Option<&'a Identities>);

impl Open {
    /// Reads the header, behind a segment whose last hash is `hash`; any, where that is `None`.
    pub(in crate::recording) fn begin(
        path: PathBuf,
        mut from: BufReader<File>,
        (session, number): (Uuid, u32),
        hash: &mut Option<Hash>,
        (dir, identities): Keys<'_>,
    ) -> Result<Self, Error> {
        let mut bytes = [0; SEGMENT_HEADER];
        if fill(&mut from, &mut bytes).map_err(|error| Error::io("read", &path, error))?
            != Filled::Whole
        {
            return Err(Error::Torn {
                file: path,
                offset: 0,
            });
        }
        let damaged = |what| Error::Damaged {
            file: path.clone(),
            offset: 0,
            what,
        };
        let (header, own) = SegmentHeader::decode(&bytes).map_err(damaged)?;
        if header.session != session || header.number != number {
            return Err(damaged("it is a segment of another place"));
        }
        if hash.is_some_and(|hash| hash != header.before) {
            return Err(damaged("it does not follow the segment before it"));
        }
        *hash = Some(own);
        let key = match identities.filter(|_| header.encrypted) {
            Some(identities) => Some(Arc::new(identities.open(dir)?)),
            None => None,
        };
        Ok(Self {
            path,
            from,
            header,
            offset: u64::try_from(SEGMENT_HEADER).unwrap_or(0),
            key,
            frames: Bytes::new(),
        })
    }

    /// The next frame; none at the end of what is there.
    pub(in crate::recording) fn frame(
        &mut self,
        hash: &mut Option<Hash>,
        last: bool,
    ) -> Result<Option<Frame>, Error> {
        loop {
            let taken = take_frame(&mut self.frames).map_err(|what| self.damaged(what))?;
            if let Some((kind, delta, body)) = taken {
                return self.made(kind, delta, body).map(Some);
            }
            let before = hash.unwrap_or_default();
            let place = self.offset;
            let Some(chunk) = self.chunk(&before, last)? else {
                return Ok(None);
            };
            *hash = Some(chunk.hash);
            if chunk.header.holds == Holds::Frames {
                self.frames = self.opened(chunk, &before, place)?;
            }
        }
    }

    /// The next chunk, checked; none at the end of what is there.
    pub(in crate::recording) fn chunk(
        &mut self,
        before: &Hash,
        last: bool,
    ) -> Result<Option<Chunk>, Error> {
        let Some((header, hash)) = self.head(last)? else {
            return Ok(None);
        };
        let stored = usize::try_from(header.stored).unwrap_or(usize::MAX);
        if stored > INDEX_MAX {
            return Err(self.damaged("no chunk begins like this"));
        }
        let mut payload = vec![0; stored];
        let filled = fill(&mut self.from, &mut payload);
        let filled = filled.map_err(|error| Error::io("read", &self.path, error))?;
        if filled != Filled::Whole && !payload.is_empty() {
            return Err(self.cut(last));
        }
        if header.hash(before, &payload) != hash {
            return Err(self.damaged("the chunk's hash is another"));
        }
        self.offset = self.behind(&header);
        Ok(Some(Chunk {
            header,
            hash,
            payload,
        }))
    }

    /// The header of the next chunk; none at the end of what is there.
    fn head(&mut self, last: bool) -> Result<Option<(ChunkHeader, Hash)>, Error> {
        let mut bytes = [0; CHUNK_HEADER];
        let filled = fill(&mut self.from, &mut bytes);
        match filled.map_err(|error| Error::io("read", &self.path, error))? {
            Filled::Nothing => return Ok(None),
            Filled::Part => return Err(self.cut(last)),
            // A power loss can leave a length without the bytes.
            Filled::Whole if bytes == [0; CHUNK_HEADER] => return Err(self.cut(last)),
            Filled::Whole => {}
        }
        let head = ChunkHeader::decode(&bytes);
        head.map(Some)
            .ok_or_else(|| self.damaged("no chunk begins like this"))
    }

    fn behind(&self, header: &ChunkHeader) -> u64 {
        let head = u64::try_from(CHUNK_HEADER).unwrap_or(0);
        self.offset
            .saturating_add(head)
            .saturating_add(header.stored.into())
    }

    /// What a chunk holds.
    fn opened(&self, chunk: Chunk, before: &Hash, offset: u64) -> Result<Bytes, Error> {
        let Chunk {
            header, payload, ..
        } = chunk;
        let payload = match (header.encrypted, &self.key) {
            (false, _) => payload,
            (true, Some(key)) => {
                let place = Place {
                    segment: self.header.number,
                    offset,
                    before,
                    key: None,
                };
                key.open(&place, &header, payload)
                    .ok_or_else(|| self.damaged("the chunk is not encrypted with this key"))?
            }
            (true, None) => return Err(self.damaged("the chunk is encrypted, its segment is not")),
        };
        let plain = usize::try_from(header.plain).unwrap_or(usize::MAX);
        let held = match header.compressed {
            false => payload,
            true => zstd::bulk::decompress(&payload, plain)
                .map_err(|_error| self.damaged("the chunk cannot be decompressed"))?,
        };
        match held.len() == plain {
            true => Ok(Bytes::from(held)),
            false => Err(self.damaged("the chunk's length is another")),
        }
    }

    fn made(&self, kind: Kind, delta: u64, body: Bytes) -> Result<Frame, Error> {
        let what = match kind {
            Kind::Sent => What::Bytes(Direction::Sent, body),
            Kind::Received => What::Bytes(Direction::Received, body),
            Kind::Mark => decode_mark(&body)
                .map(|(request, phase)| What::Mark(request, phase))
                .ok_or_else(|| self.damaged("the frame is no mark"))?,
            Kind::End => What::End(String::from_utf8_lossy(&body).into_owned()),
            Kind::Terminal => Terminal::decode(&body)
                .map(|(number, what)| What::Terminal(number, what))
                .ok_or_else(|| self.damaged("the frame is none of a terminal"))?,
        };
        let at = BootTime(self.header.base.0.saturating_add(delta));
        Ok(Frame { at, what })
    }

    /// Goes to the last chunk that does not begin behind `at`: by the index as far as there is one,
    /// then from header to header.
    pub(in crate::recording) fn jump(
        &mut self,
        at: BootTime,
        hash: &mut Option<Hash>,
    ) -> Result<(), Error> {
        let wanted = at.0.saturating_sub(self.header.base.0);
        let mut candidate = (self.offset, hash.unwrap_or_default());
        if let Some(noted) = self.noted(wanted)? {
            candidate = noted;
        }
        let mut next = candidate;
        loop {
            self.go(next.0)?;
            match self.head(true) {
                Ok(Some((header, own)))
                    if header.holds == Holds::Frames && header.first <= wanted =>
                {
                    candidate = next;
                    next = (self.behind(&header), own);
                }
                Ok(_) | Err(Error::Torn { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        self.go(candidate.0)?;
        *hash = Some(candidate.1);
        Ok(())
    }

    /// The entry of the index for a time: where, and behind which hash. What it says is checked when the
    /// chunk is read.
    fn noted(&mut self, wanted: u64) -> Result<Option<(u64, Hash)>, Error> {
        let failed = |path: &Path, error| Error::io("read", path, error);
        let metadata = self.from.get_ref().metadata();
        let length = metadata.map_err(|error| failed(&self.path, error))?.len();
        let mut end = [0; 16];
        self.go(length.saturating_sub(16))?;
        if fill(&mut self.from, &mut end).map_err(|error| failed(&self.path, error))?
            != Filled::Whole
        {
            return Ok(None);
        }
        let mut fields = Fields(&end);
        let offset = u64::from_le_bytes(fields.take());
        if fields.take::<8>() != INDEX_MAGIC || offset >= length {
            return Ok(None);
        }
        self.go(offset)?;
        let Some((header, _)) = self.head(true)? else {
            return Ok(None);
        };
        let stored = usize::try_from(header.stored).unwrap_or(usize::MAX);
        if header.holds != Holds::Index || stored > INDEX_MAX {
            return Ok(None);
        }
        let mut entries = vec![0; stored];
        fill(&mut self.from, &mut entries).map_err(|error| failed(&self.path, error))?;
        let mut found = None;
        for entry in entries.chunks_exact(ENTRY) {
            let mut fields = Fields(entry);
            let first = u64::from_le_bytes(fields.take());
            if first > wanted {
                break;
            }
            found = Some((u64::from_le_bytes(fields.take()), fields.take()));
        }
        Ok(found)
    }

    /// Goes to a place of the file.
    pub(in crate::recording) fn go(&mut self, offset: u64) -> Result<(), Error> {
        self.offset = offset;
        let gone = self.from.seek(SeekFrom::Start(offset));
        gone.map(drop)
            .map_err(|error| Error::io("read", &self.path, error))
    }

    /// Where the next chunk begins.
    pub(in crate::recording) fn offset(&self) -> u64 {
        self.offset
    }

    /// What its times count from.
    pub(in crate::recording) fn base(&self) -> BootTime {
        self.header.base
    }

    /// An end in the middle of a chunk is a tear in the last segment only.
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

/// How far a segment is whole: its length, the hash of its header, and that of its last chunk.
pub(in crate::recording) fn end(
    dir: &Path,
    (session, number): (Uuid, u32),
) -> Result<(u64, Hash, Hash), Error> {
    let path = dir.join(format!("{number:06}.rec"));
    let file = File::open(&path).map_err(|error| Error::io("read", &path, error))?;
    let from = BufReader::with_capacity(256 << 10, file);
    let mut hash = None;
    let mut open = Open::begin(path, from, (session, number), &mut hash, (dir, None))?;
    let head = hash.unwrap_or_default();
    let mut tail = head;
    loop {
        match open.chunk(&tail, true) {
            Ok(Some(chunk)) => tail = chunk.hash,
            Ok(None) | Err(Error::Torn { .. }) => return Ok((open.offset, head, tail)),
            Err(error) => return Err(error),
        }
    }
}

impl Chunk {
    /// The chain's hash behind it.
    pub(in crate::recording) fn hash(&self) -> &Hash {
        &self.hash
    }
}
