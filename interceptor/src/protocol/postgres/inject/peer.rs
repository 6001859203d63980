//! The upstream while it is logged in to: whole messages, each held to a bound, and all of them together.

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Error;
use crate::protocol::postgres::wire::{HEADER, Header, Tag};
use crate::tls::Stream;

/// All that a login may take: settings, notices and the catalog's names come to about 30 KiB.
const TOTAL_MAX: usize = 4 * 1024 * 1024;
const READ: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Peer {
    stream: Stream,
    buffer: BytesMut,
    left: usize,
}

impl Peer {
    pub(super) fn new(stream: Stream) -> Self {
        Self::with(stream, BytesMut::new())
    }

    /// One of whose stream so much was read already.
    pub(super) fn with(stream: Stream, buffer: BytesMut) -> Self {
        Self {
            stream,
            buffer,
            left: TOTAL_MAX,
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.buffer)
    }

    /// So much more is asked for.
    pub(super) fn expect(&mut self, more: usize) {
        self.left = self.left.saturating_add(more);
    }

    /// So much may come from now on, and no more.
    pub(super) fn allow(&mut self, most: usize) {
        self.left = most;
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream
            .write_all(bytes)
            .await
            .map_err(Error::io("write"))?;
        self.stream.flush().await.map_err(Error::io("write"))
    }

    /// The next message: its tag and body, no longer than `most` says for its tag.
    pub(super) async fn next(
        &mut self,
        most: impl Fn(u8) -> Option<usize>,
    ) -> Result<(u8, Bytes), Error> {
        loop {
            if let Some(header) = Header::read(&self.buffer)? {
                // Before anything is reserved by the length that the peer names.
                if most(header.tag).is_none_or(|most| header.body > most) {
                    return Err(Error::Message {
                        message: Tag(header.tag),
                        length: header.body,
                    });
                }
                if self.buffer.len() >= header.whole() {
                    return self.take(header);
                }
            }
            self.buffer.reserve(READ);
            let read = self.stream.read_buf(&mut self.buffer).await;
            if read.map_err(Error::io("read"))? == 0 {
                return Err(Error::Closed);
            }
        }
    }

    fn take(&mut self, header: Header) -> Result<(u8, Bytes), Error> {
        self.left = self
            .left
            .checked_sub(header.whole())
            .ok_or(Error::TooMany {
                what: "bytes",
                most: TOTAL_MAX,
            })?;
        self.buffer.advance(HEADER);
        Ok((header.tag, self.buffer.split_to(header.body).freeze()))
    }
}
