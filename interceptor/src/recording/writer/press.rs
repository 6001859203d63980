//! From frames to a chunk: compressed, encrypted where there are recipients, hashed behind the one before.
//!
//! A chunk stands for itself, so a file that ends in the middle of one is whole up to it. The
//! compressor belongs to the thread that writes, not to the session: an idle session holds none.

use std::io;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::recording::format::{CHUNK_HEADER, CHUNK_MAX, ChunkHeader, Hash, Holds};

/// What encryption adds to a payload (GCM's tag), in bytes.
pub(in crate::recording) const TAG: usize = 16;

/// Fast: what is recorded waits for nobody, but shares its cores with those whom it is about.
const LEVEL: i32 = 1;

/// For bulk: thrice as fast, and only what repeats gets shorter.
const LEVEL_BULK: i32 = -3;

/// Shorter than this nothing is compressed, in bytes.
const WORTH: usize = 128;

/// What makes chunks, for one thread.
pub(in crate::recording) struct Press {
    zstd: zstd::bulk::Compressor<'static>,
    /// The chunk being made.
    made: Vec<u8>,
}

/// Where a chunk will stand.
pub(in crate::recording) struct Place<'a> {
    pub(in crate::recording) segment: u32,
    pub(in crate::recording) offset: u64,
    pub(in crate::recording) before: &'a Hash,
    pub(in crate::recording) key: Option<&'a SessionKey>,
}

impl Press {
    pub(in crate::recording) fn new() -> io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Compressor::new(LEVEL)?,
            made: Vec::new(),
        })
    }

    /// Takes what comes for bulk from now on, which is compressed with less effort, or not.
    pub(in crate::recording) fn take_for_bulk(&mut self, bulk: bool) -> io::Result<()> {
        let level = if bulk { LEVEL_BULK } else { LEVEL };
        self.zstd.set_compression_level(level)
    }

    /// The chunk that holds `plain`, and the chain's hash behind it.
    pub(in crate::recording) fn chunk(
        &mut self,
        holds: Holds,
        first: u64,
        plain: &[u8],
        place: &Place<'_>,
    ) -> io::Result<(&[u8], Hash)> {
        self.made.clear();
        self.made.resize(CHUNK_HEADER, 0);
        let is_compressed = holds == Holds::Frames && self.compress(plain);
        if !is_compressed {
            self.made.truncate(CHUNK_HEADER);
            self.made.extend_from_slice(plain);
        }
        let key = place.key.filter(|_| holds == Holds::Frames);
        let tag = if key.is_some() { TAG } else { 0 };
        let stored = self
            .made
            .len()
            .saturating_sub(CHUNK_HEADER)
            .saturating_add(tag);
        let header = ChunkHeader {
            holds,
            compressed: is_compressed,
            encrypted: key.is_some(),
            first,
            plain: u32::try_from(plain.len()).map_err(io::Error::other)?,
            stored: u32::try_from(stored).map_err(io::Error::other)?,
        };
        if let Some(key) = key {
            let (_, payload) = self.made.split_at_mut(CHUNK_HEADER);
            let tag = key.seal(place, &header, payload)?;
            self.made.extend_from_slice(&tag);
        }
        let (head, payload) = self.made.split_at_mut(CHUNK_HEADER);
        let hash = header.hash(place.before, payload);
        for (to, from) in head.iter_mut().zip(hash.iter().chain(&header.fields())) {
            *to = *from;
        }
        Ok((&self.made, hash))
    }

    /// Compresses behind the header; whether that was worth it.
    fn compress(&mut self, plain: &[u8]) -> bool {
        if plain.len() < WORTH {
            return false;
        }
        // One byte less than it has already: what does not get shorter is kept as it is.
        let room = plain.len().saturating_sub(1).min(CHUNK_MAX);
        self.made.resize(CHUNK_HEADER.saturating_add(room), 0);
        let to = self.made.get_mut(CHUNK_HEADER..).unwrap_or_default();
        match self.zstd.compress_to_buffer(plain, to) {
            Ok(length) => {
                self.made.truncate(CHUNK_HEADER.saturating_add(length));
                true
            }
            Err(_too_long) => false,
        }
    }
}

/// What the chunks of one session are encrypted with. No chunk is written twice in one place, so no
/// nonce is used twice.
pub(in crate::recording) struct SessionKey(LessSafeKey);

impl SessionKey {
    /// From 32 bytes of it.
    pub(in crate::recording) fn new(bytes: &[u8; 32]) -> io::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, bytes);
        let key = key.map_err(|_unspecified| io::Error::other("no key"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn seal(
        &self,
        place: &Place<'_>,
        header: &ChunkHeader,
        payload: &mut [u8],
    ) -> io::Result<Vec<u8>> {
        let aad = Aad::from([place.before, &header.fields()[..]].concat());
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce(place), aad, payload);
        let tag = sealed.map_err(|_unspecified| io::Error::other("cannot encrypt"))?;
        Ok(tag.as_ref().to_vec())
    }

    /// Opens a payload; `None` where it is not what was sealed in this place with this key.
    pub(in crate::recording) fn open(
        &self,
        place: &Place<'_>,
        header: &ChunkHeader,
        mut payload: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let aad = Aad::from([place.before, &header.fields()[..]].concat());
        let opened = self.0.open_in_place(nonce(place), aad, &mut payload);
        let length = opened.ok()?.len();
        payload.truncate(length);
        Some(payload)
    }
}

fn nonce(place: &Place<'_>) -> Nonce {
    let mut nonce = [0; 12];
    let all = place.segment.to_le_bytes().into_iter();
    for (to, from) in nonce.iter_mut().zip(all.chain(place.offset.to_le_bytes())) {
        *to = from;
    }
    Nonce::assume_unique_for_key(nonce)
}
