//! Answers that come compressed though nobody asked for it: read as what they say, so that they can be looked through.
//!
//! What little makes much is bounded three times: what one step may make, how much more comes out than has gone in,
//! and all of it. A window that a server asks for is bounded, too.

use std::io::{self, Write};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation as _, OutBuffer};

use super::Broken;

/// Bytes that are read at a time.
pub(in crate::protocol::http) const STEP: usize = 1 << 10;
/// Bytes that one step makes at most.
const STEP_MAX: usize = 4 << 20;
/// Bytes that come out whatever has gone in, and how many for each byte that has.
const FREE: u64 = 4 << 20;
const RATIO: u64 = 256;
/// Bytes that one answer makes at most.
const ALL_MAX: u64 = 1 << 30;
/// Bytes that are made at a time.
const PIECE: usize = 32 << 10;
/// The windows that are kept, as powers of two (RFC 8878 §3.1.1.1.2 wants no more of anybody).
const ZSTD_WINDOW: u32 = 23;
const BROTLI_WINDOW: u8 = 22;

const BOMB: Broken = Broken("it is packed so that little makes too much");
const DAMAGED: Broken = Broken("it is compressed, and damaged");
const WINDOW: Broken = Broken("it is compressed with a window that is too large");

/// How an answer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::http) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// The coding of this name; `None` where it is not read here.
    pub(in crate::protocol::http) fn of(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// One answer being read.
pub(in crate::protocol::http) struct Decoder {
    kind: Kind,
    taken: u64,
    made: u64,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { taken, made, .. } = self;
        write!(to, "Decoder({taken} -> {made})")
    }
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

enum Kind {
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
    Brotli {
        state: Box<Brotli>,
        progress: Progress,
    },
    Zstd {
        decoder: ZstdDecoder<'static>,
        progress: Progress,
    },
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    New,
    Begun,
    Ended,
}

/// What comes out of a step.
#[derive(Debug, Default)]
struct Sink {
    out: Vec<u8>,
    most: usize,
    is_full: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.len().saturating_add(bytes.len()) > self.most {
            self.is_full = true;
            return Err(io::Error::other("too much"));
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    /// Gives what came out, or says why nothing does.
    fn given(&mut self, done: io::Result<()>, out: &mut Vec<u8>) -> Result<(), Broken> {
        out.append(&mut self.out);
        match done {
            Ok(()) => Ok(()),
            Err(_) if self.is_full => Err(BOMB),
            Err(_) => Err(DAMAGED),
        }
    }
}

impl Decoder {
    /// `None` where there is no room for one.
    pub(in crate::protocol::http) fn new(coding: Coding) -> Option<Self> {
        let kind = match coding {
            Coding::Gzip => Kind::Gzip(Box::new(MultiGzDecoder::new(Sink::default()))),
            Coding::Deflate => Kind::Deflate(Box::new(ZlibDecoder::new(Sink::default()))),
            Coding::Brotli => Kind::Brotli {
                state: Box::new(BrotliState::new(
                    StandardAlloc::default(),
                    StandardAlloc::default(),
                    StandardAlloc::default(),
                )),
                progress: Progress::New,
            },
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new().ok()?;
                let window = DParameter::WindowLogMax(ZSTD_WINDOW);
                decoder.set_parameter(window).ok()?;
                Kind::Zstd {
                    decoder,
                    progress: Progress::New,
                }
            }
        };
        Some(Self {
            kind,
            taken: 0,
            made: 0,
        })
    }

    /// Takes the next bytes, and hands on what they say, a step at a time.
    ///
    /// # Errors
    /// Where it is damaged, or makes too much.
    pub(in crate::protocol::http) fn feed(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        for step in bytes.chunks(STEP) {
            let mut out = Vec::new();
            self.step(step, &mut out)?;
            each(&out)?;
        }
        Ok(())
    }

    fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        self.taken = self.taken.saturating_add(length(bytes));
        let most = FREE.saturating_add(self.taken.saturating_mul(RATIO));
        let left = most.min(ALL_MAX).saturating_sub(self.made);
        let most = usize::try_from(left).unwrap_or(STEP_MAX).min(STEP_MAX);
        match &mut self.kind {
            Kind::Gzip(decoder) => {
                decoder.get_mut().most = most;
                let done = decoder.write_all(bytes).and_then(|()| decoder.flush());
                decoder.get_mut().given(done, out)?;
            }
            Kind::Deflate(decoder) => {
                decoder.get_mut().most = most;
                let done = decoder.write_all(bytes).and_then(|()| decoder.flush());
                decoder.get_mut().given(done, out)?;
            }
            Kind::Brotli { state, progress } => brotli(state, progress, bytes, (out, most))?,
            Kind::Zstd { decoder, progress } => zstd(decoder, progress, bytes, (out, most))?,
        }
        self.made = self.made.saturating_add(length(out));
        Ok(())
    }

    /// The end: what is left, or that it ends in the middle.
    ///
    /// # Errors
    /// Where something is missing.
    pub(in crate::protocol::http) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.taken == 0 {
            return Ok(());
        }
        match &mut self.kind {
            Kind::Gzip(decoder) => {
                let done = decoder.try_finish();
                decoder.get_mut().given(done, out)
            }
            Kind::Deflate(decoder) => {
                let done = decoder.try_finish();
                decoder.get_mut().given(done, out)
            }
            Kind::Brotli { progress, .. } | Kind::Zstd { progress, .. } => match progress {
                Progress::Ended => Ok(()),
                Progress::New | Progress::Begun => Err(DAMAGED),
            },
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn brotli(
    state: &mut Brotli,
    progress: &mut Progress,
    bytes: &[u8],
    (out, most): (&mut Vec<u8>, usize),
) -> Result<(), Broken> {
    match (*progress, bytes.first()) {
        (Progress::Ended, Some(_)) => return Err(DAMAGED),
        (Progress::New, Some(first)) if window(*first).is_none_or(|bits| bits > BROTLI_WINDOW) => {
            return Err(WINDOW);
        }
        (_, None) => return Ok(()),
        _ => *progress = Progress::Begun,
    }
    let (mut left, mut at, mut total) = (bytes.len(), 0, 0);
    let mut piece = vec![0; PIECE];
    loop {
        let (mut room, mut end) = (PIECE, 0);
        let result = BrotliDecompressStream(
            &mut left, &mut at, bytes, &mut room, &mut end, &mut piece, &mut total, state,
        );
        out.extend_from_slice(piece.get(..end).unwrap_or_default());
        if out.len() > most {
            return Err(BOMB);
        }
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput => return Ok(()),
            BrotliResult::ResultSuccess if left == 0 => {
                *progress = Progress::Ended;
                return Ok(());
            }
            BrotliResult::ResultSuccess | BrotliResult::ResultFailure => return Err(DAMAGED),
        }
    }
}

/// The window that a stream of brotli asks for, as a power of two (RFC 7932 §9.1).
fn window(first: u8) -> Option<u8> {
    match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => Some(16),
        (_, 0, 0) => Some(17),
        (_, 0, 1) => None,
        (_, 0, bits) => Some(8 + bits),
        (_, bits, _) => Some(17 + bits),
    }
}

fn zstd(
    decoder: &mut ZstdDecoder<'static>,
    progress: &mut Progress,
    bytes: &[u8],
    (out, most): (&mut Vec<u8>, usize),
) -> Result<(), Broken> {
    let mut input = InBuffer::around(bytes);
    let mut piece = vec![0; PIECE];
    loop {
        let before = input.pos();
        let mut output = OutBuffer::around(piece.as_mut_slice());
        // Its errors have words of their own, of which one is a window that is too large.
        let left = decoder.run(&mut input, &mut output).map_err(|error| {
            match error.to_string().contains("memory") {
                true => WINDOW,
                false => DAMAGED,
            }
        })?;
        let made = output.pos();
        out.extend_from_slice(piece.get(..made).unwrap_or_default());
        if out.len() > most {
            return Err(BOMB);
        }
        if made > 0 || input.pos() > before {
            *progress = match left {
                0 => Progress::Ended,
                _ => Progress::Begun,
            };
        }
        if input.pos() >= bytes.len() && made < PIECE {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
