//! A head of HTTP is read to its end, and no byte behind it: that is somebody else's.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::wire::{self, HEAD_MAX};

/// Bytes that are looked at a time.
const PIECE: usize = 2 << 10;

/// Reads one. The caller bounds time.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Zeroizing<Vec<u8>>> {
    // Never moved: it may hold a login.
    let mut head = Zeroizing::new(Vec::with_capacity(HEAD_MAX));
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    loop {
        let room = HEAD_MAX.saturating_sub(head.len()).min(PIECE);
        let seen = piece.get_mut(..room).unwrap_or_default();
        if seen.is_empty() {
            return Err(invalid("the head does not end"));
        }
        let count = stream.peek(&mut *seen).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = head.len();
        head.extend_from_slice(seen.get(..count).unwrap_or_default());
        let end = wire::end(&head, before);
        let end = end.map_err(|_unclear| invalid("a line of the head does not end"))?;
        let taken = end.map_or(count, |end| end.saturating_sub(before));
        let taken = seen.get_mut(..taken).unwrap_or_default();
        stream.read_exact(taken).await?;
        if let Some(end) = end {
            head.truncate(end);
            return Ok(head);
        }
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
