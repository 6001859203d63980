//! The headers of streams (draft-mbelshe-httpbis-spdy-00 §2.6.10): names and values, each behind its length, all
//! blocks of one side in one stream of zlib, which begins with a dictionary that both know.

use std::fmt;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::super::{Broken, number};

/// Bytes of one block.
const BLOCK_MAX: usize = 16 << 10;
/// How far back zlib looks.
const WINDOW: usize = 32 << 10;
/// The checksum of the dictionary (RFC 1950, §2.3).
const DICTIONARY_ID: [u8; 4] = [0xe3, 0xc6, 0xa7, 0xc2];
/// The dictionary's words, each behind its length in the dictionary, and what comes behind them.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417\
    502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
    Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service \
    UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, \
    Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
    text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
    utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::new();
    for word in WORDS {
        let length = u32::try_from(word.len()).unwrap_or_default();
        dictionary.extend_from_slice(&length.to_be_bytes());
        dictionary.extend_from_slice(word.as_bytes());
    }
    dictionary.extend_from_slice(TAIL.as_bytes());
    dictionary
}

/// The blocks of one side.
#[derive(Default)]
pub(super) struct Headers(Option<Inflating>);

/// What is between two blocks.
struct Inflating {
    decompressor: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers").finish_non_exhaustive()
    }
}

/// The headers of one stream.
#[derive(Debug)]
pub(super) struct Block(Vec<(String, String)>);

impl Block {
    /// What a stream is for.
    pub(super) fn stream_type(&self) -> Result<&str, Broken> {
        let mut said = self.0.iter().filter(|(name, _)| name == "streamtype");
        match (said.next(), said.next()) {
            (Some((_, kind)), None) => Ok(kind),
            _ => Err(Broken("a stream says not, or twice, what it is for")),
        }
    }
}

impl Headers {
    /// Reads the next block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Block, Broken> {
        let (inflating, block) = match &mut self.0 {
            Some(inflating) => (inflating, block),
            none => {
                let (inflating, rest) = Inflating::begin(block)?;
                (none.insert(inflating), rest)
            }
        };
        let plain = inflating.read(block)?;
        pairs(&plain).ok_or(Broken("the headers of a stream are none"))
    }
}

impl Inflating {
    /// Reads what zlib begins with (RFC 1950, §2.2).
    fn begin(block: &[u8]) -> Result<(Self, &[u8]), Broken> {
        let broken = Broken("the headers of a stream are not compressed as they have to be");
        let (head, rest) = block.split_first_chunk::<2>().ok_or(broken)?;
        let [method, flags] = *head;
        if method & 0x0f != 8 || u16::from_be_bytes(*head) % 31 != 0 {
            return Err(broken);
        }
        let mut window = vec![0; WINDOW];
        let (at, rest) = match flags & 0x20 {
            0 => (0, rest),
            _ => {
                let rest = rest.strip_prefix(&DICTIONARY_ID).ok_or(broken)?;
                let dictionary = dictionary();
                for (byte, of) in window.iter_mut().zip(&dictionary) {
                    *byte = *of;
                }
                (dictionary.len(), rest)
            }
        };
        let decompressor = Box::<DecompressorOxide>::default();
        Ok((
            Self {
                decompressor,
                window,
                at,
            },
            rest,
        ))
    }

    fn read(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut plain = Vec::new();
        loop {
            let (status, read, written) = decompress(
                &mut self.decompressor,
                block,
                &mut self.window,
                self.at,
                TINFL_FLAG_HAS_MORE_INPUT,
            );
            let end = self.at.saturating_add(written);
            plain.extend_from_slice(self.window.get(self.at..end).unwrap_or_default());
            self.at = end % WINDOW;
            block = block.get(read..).unwrap_or_default();
            match status {
                _ if plain.len() > BLOCK_MAX => {
                    return Err(Broken("the headers of a stream are too long"));
                }
                TINFLStatus::NeedsMoreInput => return Ok(plain),
                TINFLStatus::HasMoreOutput => {}
                _ => {
                    return Err(Broken(
                        "the headers of a stream are not compressed as they have to be",
                    ));
                }
            }
        }
    }
}

/// A block without headers, for whoever has had the ones before it: as it is, uncompressed, and flushed, so that
/// nobody waits for more.
pub(super) fn none(is_first: bool) -> Vec<u8> {
    // The head of zlib (RFC 1950 §2.2): deflate, a window of 32 KiB, a dictionary.
    const BEGIN: [u8; 2] = [0x78, 0xf9];
    // Two blocks that are stored (RFC 1951 §3.2.4): of four bytes, which say that there are none, and of none.
    const STORED: [u8; 14] = [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let mut out = Vec::new();
    if is_first {
        out.extend_from_slice(&BEGIN);
        out.extend_from_slice(&DICTIONARY_ID);
    }
    out.extend_from_slice(&STORED);
    out
}

/// A length, taken off what it stands before.
fn length(rest: &mut &[u8]) -> Option<usize> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    *rest = behind;
    usize::try_from(number(length)).ok()
}

/// Names and values; names in lower case.
fn pairs(plain: &[u8]) -> Option<Block> {
    let mut rest = plain;
    let count = length(&mut rest)?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        let mut text = || {
            let length = length(&mut rest)?;
            let (text, behind) = rest.split_at_checked(length)?;
            rest = behind;
            std::str::from_utf8(text).ok().map(str::to_owned)
        };
        let (name, value) = (text()?, text()?);
        pairs.push((name.to_ascii_lowercase(), value));
    }
    rest.is_empty().then_some(Block(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_that_everybody_knows() {
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!(((b << 16) | a).to_be_bytes(), DICTIONARY_ID);
    }

    #[test]
    fn a_block_without_headers_is_read_as_one() {
        let mut headers = Headers::default();
        for is_first in [true, false, false] {
            assert!(headers.read(&none(is_first)).unwrap().0.is_empty());
        }
    }

    #[test]
    fn blocks_are_read_one_after_the_other() {
        let blocks = [
            (
                "78f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff",
                "error",
            ),
            ("c22e555c02cc2e00000000ffff", "stdin"),
            ("c22a054ce729f9a52500000000ffff", "stdout"),
            ("c229073414000000ffff", "stderr"),
            ("c22e072c9a806901000000ffff", "resize"),
        ];
        let mut headers = Headers::default();
        for (block, wanted) in blocks {
            let read = headers.read(&hex::decode(block).unwrap()).unwrap();
            assert_eq!(read.stream_type().unwrap(), wanted);
        }
        assert!(headers.read(b"\xff\xff").is_err());
        // Without the dictionary, another one, and what is no zlib.
        for block in ["789cc26203", "78f9e3c6a7c3aa", "00"] {
            assert!(
                Headers::default()
                    .read(&hex::decode(block).unwrap())
                    .is_err()
            );
        }
    }
}
