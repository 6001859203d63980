//! What is compressed says the same however it is cut, and never makes too much.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::*;

/// `SAID` as brotli writes it, with a window of 22 bits.
const BROTLI: &[u8] = &[
    0x1b, 0x23, 0x00, 0xf8, 0x8d, 0x94, 0x6e, 0xde, 0x44, 0x55, 0x86, 0xd6, 0x0a, 0x20, 0x6c, 0x6f,
    0x4a, 0x11, 0x7a, 0xe2, 0x80, 0x5e, 0x2d, 0x00,
];
const SAID: &[u8] = b"hello hello hello hello hello hello\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn read(coding: Coding, bytes: &[u8], cut: usize) -> Result<Vec<u8>, Broken> {
    let mut decoder = Decoder::new(coding).unwrap();
    let mut out = Vec::new();
    for piece in bytes.chunks(cut) {
        decoder.feed(piece, |said| {
            out.extend_from_slice(said);
            Ok(())
        })?;
    }
    decoder.end(&mut out)?;
    Ok(out)
}

#[test]
fn every_coding_is_read_however_it_is_cut() {
    let text: Vec<u8> = (0..20_000_u32)
        .flat_map(|number| number.to_string().into_bytes())
        .collect();
    for cut in [1, 7, 1024, 1 << 20] {
        assert_eq!(read(Coding::Gzip, &gzip(&text), cut).unwrap(), text);
        assert_eq!(read(Coding::Deflate, &deflate(&text), cut).unwrap(), text);
        assert_eq!(read(Coding::Zstd, &zstd(&text), cut).unwrap(), text);
        assert_eq!(read(Coding::Brotli, BROTLI, cut).unwrap(), SAID);
        // Members and frames may follow each other.
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read(Coding::Gzip, &two, cut).unwrap(), b"one two");
        let two = [zstd(b"one "), zstd(b"two")].concat();
        assert_eq!(read(Coding::Zstd, &two, cut).unwrap(), b"one two");
    }
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
        assert_eq!(read(coding, b"", 1).unwrap(), b"");
    }
}

#[test]
fn what_is_said_comes_out_before_the_end() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"data: 1\n\n").unwrap();
    encoder.flush().unwrap();
    let mut decoder = Decoder::new(Coding::Gzip).unwrap();
    let mut out = Vec::new();
    let fed = decoder.feed(encoder.get_ref(), |said| {
        out.extend_from_slice(said);
        Ok(())
    });
    assert_eq!((fed, out.as_slice()), (Ok(()), &b"data: 1\n\n"[..]));
}

#[test]
fn what_is_damaged_or_ends_in_the_middle_goes_no_farther() {
    let text = b"some text that is long enough to be cut in two".as_slice();
    let rows = [
        (Coding::Gzip, gzip(text)),
        (Coding::Deflate, deflate(text)),
        (Coding::Zstd, zstd(text)),
        (Coding::Brotli, BROTLI.to_vec()),
    ];
    for (coding, whole) in rows {
        let short = &whole[..whole.len() - 1];
        assert_eq!(read(coding, short, 8), Err(DAMAGED), "{coding:?}");
        let long = [&whole[..], b"more"].concat();
        assert_eq!(read(coding, &long, 8), Err(DAMAGED), "{coding:?}");
        assert!(
            read(coding, b"\xff\xffno coding at all", 8).is_err(),
            "{coding:?}"
        );
    }
}

#[test]
fn little_never_makes_too_much() {
    let zeros = vec![0; 64 << 20];
    for (coding, bomb) in [
        (Coding::Gzip, gzip(&zeros)),
        (Coding::Deflate, deflate(&zeros)),
        (Coding::Zstd, zstd(&zeros)),
    ] {
        let mut decoder = Decoder::new(coding).unwrap();
        let mut made = 0;
        let fed = decoder.feed(&bomb, |said| {
            made += said.len();
            Ok(())
        });
        assert_eq!(fed, Err(BOMB), "{coding:?}");
        assert!(made < 24 << 20, "{coding:?} made {made}");
    }
    // Gone in before is no leave to make more in one step.
    let mut decoder = Decoder::new(Coding::Zstd).unwrap();
    decoder.taken = 1 << 40;
    assert_eq!(decoder.feed(&zstd(&zeros), |_said| Ok(())), Err(BOMB));
    decoder = Decoder::new(Coding::Gzip).unwrap();
    (decoder.taken, decoder.made) = (ALL_MAX, ALL_MAX);
    assert_eq!(decoder.feed(&gzip(b"one more"), |_said| Ok(())), Err(BOMB));
}

#[test]
fn windows_are_bounded() {
    // A frame with a window of 128 MiB (RFC 8878 §3.1.1.1.2), and a stream of brotli with one of 16 MiB.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00];
    assert_eq!(read(Coding::Zstd, &frame, 16), Err(WINDOW));
    assert_eq!(read(Coding::Brotli, &[0x0f, 0x00], 16), Err(WINDOW));
    assert_eq!(read(Coding::Brotli, &[0x11, 0x00], 16), Err(WINDOW));
    assert_eq!(window(0x0b), Some(22));
}
