//! The end of a recording's file: pieces are put behind each other there, by one thread at a time.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Error;

/// Short bodies and the headers of frames are copied together, up to so many bytes.
const COPIED_MAX: usize = 4 << 10;

/// Who waits for the end of a recording.
pub(super) type Done = oneshot::Sender<Result<(), Error>>;

/// One thing to do at the end of the file.
pub(super) enum Piece {
    /// Headers, with short bodies.
    Made(Vec<u8>),
    /// A long body.
    Lent(Bytes),
    /// The next segment begins: its file and its number.
    Begins(Arc<File>, u32),
    /// The last frame is written: why it ends, and who waits for it.
    Ends(String, Option<Done>),
}

impl Piece {
    /// What it adds to the file.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Made(made) => Some(made),
            Self::Lent(lent) => Some(lent),
            Self::Begins(..) | Self::Ends(..) => None,
        }
    }
}

/// What is planned and not yet written.
#[derive(Default)]
pub(super) struct Queued {
    pub(super) pieces: Vec<Piece>,
    /// Of frames.
    pub(super) bytes: usize,
}

impl Queued {
    /// Queues one frame.
    pub(super) fn frame(&mut self, header: &[u8], body: Bytes) {
        self.bytes = self.bytes.saturating_add(header.len() + body.len());
        self.copy(header);
        if body.len() > COPIED_MAX {
            self.pieces.push(Piece::Lent(body));
        } else {
            self.copy(&body);
        }
    }

    /// Queues bytes that are no frame.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        match self.pieces.last_mut() {
            Some(Piece::Made(made)) => made.extend_from_slice(bytes),
            _ => self.pieces.push(Piece::Made(bytes.to_vec())),
        }
    }
}

/// Where the file ends.
pub(super) struct Tail {
    file: Arc<File>,
    length: u64,
}

impl Tail {
    /// Of a file that is empty.
    pub(super) fn of(file: &Arc<File>) -> Self {
        Self {
            file: Arc::clone(file),
            length: 0,
        }
    }

    /// Goes on in another file; what was set aside behind the end of this one is given back.
    pub(super) fn next(&mut self, file: &Arc<File>) -> io::Result<()> {
        self.cut()?;
        *self = Self::of(file);
        Ok(())
    }

    /// Gives back what was set aside behind the end.
    pub(super) fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.length)
    }

    /// Writes bytes behind each other, in one call where the kernel takes them so.
    pub(super) fn write(&mut self, bytes: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = bytes.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            match (&*self.file).write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.length += u64::try_from(written).unwrap_or(u64::MAX);
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
