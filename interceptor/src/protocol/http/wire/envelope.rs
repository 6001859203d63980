//! How messages stand in a recording: pieces of several requests may lie between each other, so each piece says
//! whose it is.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | kind: 1 head, 2 body, 3 trailers, 4 end, 5 bytes of what the connection has become |
//! | 1 | 16 | the request |
//! | 17 | 4 | length of what follows, little-endian |
//!
//! A head is written as HTTP/1.1 writes it. An end holds how many bytes the body had, 8 bytes, little-endian:
//! more than were recorded where it was long.

/// Bytes before each piece.
pub const HEADER: usize = 21;
/// Longest piece.
pub const PIECE_MAX: usize = 128 << 10;

/// What a piece holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Request or status line, and headers.
    Head,
    /// Bytes of a body.
    Body,
    /// Trailers.
    Trailers,
    /// The end of a body.
    End,
    /// Bytes of what the connection has become.
    Tunnel,
}

impl Kind {
    /// The number that it is written as.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Body => 2,
            Self::Trailers => 3,
            Self::End => 4,
            Self::Tunnel => 5,
        }
    }

    fn of(code: u8) -> Option<Self> {
        let all = [
            Self::Head,
            Self::Body,
            Self::Trailers,
            Self::End,
            Self::Tunnel,
        ];
        all.into_iter().find(|kind| kind.code() == code)
    }
}

/// A piece that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Whose it is.
    pub request: [u8; 16],
    /// What it holds.
    pub bytes: &'a [u8],
}

/// A piece with its header.
#[must_use]
pub fn piece(kind: Kind, request: &[u8; 16], bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER.saturating_add(bytes.len()));
    out.push(kind.code());
    out.extend_from_slice(request);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    out
}

/// Reads the first piece; how many bytes it took. `None` where it is not whole.
///
/// # Errors
/// Where these are no pieces.
pub fn read(bytes: &[u8]) -> Result<Option<(Piece<'_>, usize)>, &'static str> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let [code, request @ .., a, b, c, d] = header;
    let kind = Kind::of(*code).ok_or("a piece of a kind that is not known")?;
    let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
    if length > PIECE_MAX {
        return Err("a piece that is longer than pieces are");
    }
    let mut whose = [0; 16];
    whose.copy_from_slice(request.get(..16).unwrap_or(&[0; 16]));
    Ok(rest.get(..length).map(|bytes| {
        let piece = Piece {
            kind,
            request: whose,
            bytes,
        };
        (piece, HEADER.saturating_add(length))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_read_as_it_was_written() {
        let request = [7; 16];
        let mut bytes = piece(Kind::Head, &request, b"GET / HTTP/1.1\r\n\r\n");
        let first = bytes.len();
        bytes.extend(piece(Kind::End, &request, &3_u64.to_le_bytes()));
        for end in 0..first {
            assert_eq!(read(&bytes[..end]), Ok(None));
        }
        let (head, taken) = read(&bytes).unwrap().unwrap();
        assert_eq!(
            (head.kind, head.request, taken),
            (Kind::Head, request, first)
        );
        assert_eq!(head.bytes, b"GET / HTTP/1.1\r\n\r\n");
        let (end, _) = read(&bytes[taken..]).unwrap().unwrap();
        assert_eq!((end.kind, end.bytes), (Kind::End, &3_u64.to_le_bytes()[..]));
        assert!(read(&[9; HEADER]).is_err());
    }
}
