//! Bytes of one direction cut into messages: a tag, a length, a body of which a part is kept.

/// Bytes kept of a body; the rest is counted and passed over.
const KEPT: usize = 1 << 20;

/// PostgreSQL's own limit on a message, `PQ_LARGE_MESSAGE_LIMIT`.
const LONGEST: usize = 0x3fff_ffff;

/// Tag and length, which counts itself but not the tag (§54.7).
const HEADER: usize = 5;

/// A body: its front, and how long it really was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) length: usize,
}

/// The messages of one direction.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The header, and what is kept of the body, of the message that is not complete.
    held: Vec<u8>,
    /// Bytes of its body that came and were not kept.
    passed: usize,
}

impl Messages {
    /// Takes more bytes, and gives every message that they complete to `then`.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut then: impl FnMut(u8, Body<'_>) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        loop {
            let wanted = HEADER.saturating_sub(self.held.len());
            self.keep(&mut bytes, wanted);
            let Some(&[tag, a, b, c, d]) = self.held.first_chunk::<HEADER>() else {
                return Ok(());
            };
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))
                .ok()
                .filter(|length| *length <= LONGEST)
                .and_then(|length| length.checked_sub(4))
                .ok_or("a message has a length that cannot be")?;
            let have = self.held.len() - HEADER;
            self.keep(&mut bytes, length.min(KEPT).saturating_sub(have));
            let have = self.held.len() - HEADER;
            if have < length.min(KEPT) {
                return Ok(());
            }
            let pass = (length - have - self.passed).min(bytes.len());
            bytes = bytes.get(pass..).unwrap_or_default();
            self.passed += pass;
            if have + self.passed < length {
                return Ok(());
            }
            let body = self.held.get(HEADER..).unwrap_or_default();
            let done = then(
                tag,
                Body {
                    bytes: body,
                    length,
                },
            );
            self.held.clear();
            self.held.shrink_to(64 << 10);
            self.passed = 0;
            done?;
        }
    }

    fn keep(&mut self, bytes: &mut &[u8], wanted: usize) {
        let (kept, rest) = bytes.split_at(wanted.min(bytes.len()));
        self.held.extend_from_slice(kept);
        *bytes = rest;
    }
}

/// Fields read from the front of a body; `None` where it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn short(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*first))
    }

    pub(super) fn long(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    /// Bytes up to a zero, or to the end of what is kept.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|byte| *byte == 0);
        let (string, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        Some(string)
    }

    /// A value with its length before it; the inner `None` is SQL's null.
    pub(super) fn value(&mut self) -> Option<Option<&'a [u8]>> {
        let length = self.long()?;
        if length == u32::MAX {
            return Some(None);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (value, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        Some(Some(value))
    }

    /// Format codes with their count before them: whether each is binary.
    pub(super) fn formats(&mut self) -> Option<Vec<bool>> {
        let count = self.short()?;
        (0..count).map(|_| Some(self.short()? == 1)).collect()
    }
}
