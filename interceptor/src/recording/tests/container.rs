//! The container: what it holds, that it is small, sealed to its recipients, and found in quickly.

use std::fs;
use std::path::Path;

use age::secrecy::ExposeSecret as _;
use bytes::Bytes;
use uuid::Uuid;

use super::{begin, bytes_of, log, read, recorder, segments, settings};
use crate::clock::BootTime;
use crate::recording::store::{Meta, make};
use crate::recording::{Error, Frame, Identities, Reader, Recorder, Terminal, What, find};
use crate::session::Direction;

/// Bytes that nothing makes shorter.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn size(dir: &Path) -> u64 {
    let sizes = segments(dir)
        .into_iter()
        .map(|path| fs::metadata(path).unwrap().len());
    sizes.sum()
}

#[tokio::test]
async fn what_repeats_takes_little_and_comes_back_as_it_was() {
    let (_temporary, root, recorder) = recorder(16 << 20, None);
    let writer = begin(&recorder, Uuid::max(), "one");
    let text = Bytes::from("a row of a table | 1234 | something\n".repeat(30_000));
    writer
        .record(Direction::Received, text.clone())
        .await
        .expect("recorded");
    let noise = noise(100_000, 7);
    writer
        .record(Direction::Sent, noise.clone())
        .await
        .expect("recorded");
    writer.close("client").await.expect("closed");
    let dir = find(&root, "ffff").expect("found");
    let (frames, error) = read(&dir);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(bytes_of(&frames, Direction::Received), text);
    assert_eq!(bytes_of(&frames, Direction::Sent), noise);
    assert!(
        size(&dir) < 100_000 + text.len() as u64 / 10,
        "{}",
        size(&dir)
    );
}

#[tokio::test]
async fn what_a_terminal_showed_and_was_told_comes_back() {
    let (_temporary, root, recorder) = recorder(16 << 20, None);
    let writer = begin(&recorder, Uuid::max(), "one");
    let long = noise(400_000, 3);
    let told = [
        (
            1,
            Terminal::Opened {
                columns: 80,
                rows: 24,
                term: "xterm".to_owned(),
                command: "top -d1".to_owned(),
            },
        ),
        (1, Terminal::Shown(long.clone())),
        (2, Terminal::Typed(Bytes::from_static(b"ls\r"))),
        (
            1,
            Terminal::Resized {
                columns: 100,
                rows: 30,
            },
        ),
        (1, Terminal::Closed { status: Some(3) }),
        (
            2,
            Terminal::Unrecorded {
                sent: 7,
                received: u64::MAX,
            },
        ),
        (2, Terminal::Closed { status: None }),
    ];
    for (number, what) in &told {
        writer.terminal(*number, what).await.expect("recorded");
    }
    writer.close("client").await.expect("closed");
    let (frames, error) = read(&find(&root, "ffff").expect("found"));
    assert!(error.is_none(), "{error:?}");
    let mut shown = Vec::new();
    let mut rest = Vec::new();
    for frame in frames {
        match frame {
            What::Terminal(1, Terminal::Shown(bytes)) => shown.extend_from_slice(&bytes),
            What::Terminal(number, what) => rest.push((number, what)),
            other => assert_eq!(other, What::End("client".to_owned())),
        }
    }
    assert_eq!(shown, long);
    let expected: Vec<_> = told
        .into_iter()
        .filter(|(_, what)| !matches!(what, Terminal::Shown(_)))
        .collect();
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn only_its_recipients_read_an_encrypted_recording() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("recordings");
    let keys = [(); 3].map(|()| age::x25519::Identity::generate());
    let files = [0, 1, 2].map(|which| {
        let file = temporary.path().join(format!("identity{which}"));
        let text = keys[which].to_string();
        fs::write(&file, format!("# a comment\n{}\n", text.expose_secret())).unwrap();
        file
    });
    let mut settings = settings(1 << 20, None);
    settings.recipients = keys[..2]
        .iter()
        .map(|key| key.to_public().to_string())
        .collect();
    let recorder = Recorder::open(&root, &settings, log(temporary.path())).unwrap();
    let writer = begin(&recorder, Uuid::max(), "one");
    let secret = "SELECT 'the very text that is looked for'; ".repeat(20);
    for _ in 0..3 {
        writer
            .record(Direction::Sent, Bytes::from(secret.clone()))
            .await
            .expect("recorded");
        writer
            .record(Direction::Received, Bytes::from_static(b"12345"))
            .await
            .expect("recorded");
    }
    writer.close("client").await.expect("closed");
    let dir = find(&root, "ffff").unwrap();
    for path in segments(&dir) {
        let bytes = fs::read(path).unwrap();
        assert!(memchr::memmem::find(&bytes, b"looked for").is_none());
        assert!(memchr::memmem::find(&bytes, b"12345").is_none());
    }
    let with = |identities: Identities| -> Result<Vec<Frame>, Error> {
        Reader::with(&dir, identities)?.collect()
    };
    for file in &files[..2] {
        let frames = with(Identities::read(file).unwrap()).expect("opened");
        assert_eq!(frames.len(), 7);
        assert_eq!(
            frames[0].what,
            What::Bytes(Direction::Sent, Bytes::from(secret.clone()))
        );
    }
    for identities in [Identities::default(), Identities::read(&files[2]).unwrap()] {
        assert!(matches!(with(identities), Err(Error::Sealed { .. })));
    }
    // A chunk that is moved, or whose bytes are others, is not opened even where the chain is made anew.
    let other = Identities::read(&dir.join("meta.json"));
    assert!(matches!(other, Err(Error::Identity { .. })));
}

/// A closed recording of one segment in many chunks, with the frames in it.
async fn long() -> (tempfile::TempDir, std::path::PathBuf, Vec<Frame>) {
    let (temporary, root, recorder) = recorder(64 << 20, None);
    let writer = begin(&recorder, Uuid::max(), "one");
    for number in 0..48 {
        writer
            .record(Direction::Sent, noise(200_000, number))
            .await
            .expect("recorded");
    }
    writer.close("client").await.expect("closed");
    let dir = find(&root, "ffff").unwrap();
    let frames = Reader::open(&dir)
        .unwrap()
        .map(|frame| frame.unwrap())
        .collect();
    (temporary, dir, frames)
}

fn from(dir: &Path, at: BootTime) -> Vec<Frame> {
    let mut reader = Reader::open(dir).unwrap();
    reader.seek(at).expect("sought");
    reader.map(|frame| frame.expect("a frame")).collect()
}

#[tokio::test]
async fn a_time_is_gone_to_without_reading_what_is_before() {
    let (_temporary, dir, frames) = long().await;
    let path = segments(&dir).remove(0);
    let chunks = super::ends(&path);
    assert!(chunks.len() > 4, "{chunks:?}");
    for which in [0, 1, 20, 40, frames.len() - 1] {
        let at = frames[which].at;
        let expected: Vec<_> = frames
            .iter()
            .filter(|frame| frame.at >= at)
            .cloned()
            .collect();
        assert_eq!(from(&dir, at).len(), expected.len());
        assert!(from(&dir, at) == expected, "{which}");
    }
    assert!(from(&dir, BootTime(0)) == frames);
    assert!(from(&dir, BootTime(u64::MAX)).is_empty());
    // Whoever goes past a damaged chunk does not see it; whoever reads it does.
    let mut bytes = fs::read(&path).unwrap();
    bytes[300] ^= 1;
    fs::write(&path, bytes).unwrap();
    let last = frames.last().unwrap();
    assert!(from(&dir, last.at).contains(last));
    assert!(matches!(read(&dir).1, Some(Error::Damaged { .. })));
}

#[tokio::test]
async fn a_time_is_gone_to_in_the_right_segment_and_without_an_index_too() {
    let (_temporary, dir) = super::recorded().await;
    let frames: Vec<Frame> = Reader::open(&dir)
        .unwrap()
        .map(|frame| frame.unwrap())
        .collect();
    // The last segment loses its index, as after a crash.
    let path = segments(&dir).pop().unwrap();
    let ends = super::ends(&path);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(ends[ends.len() - 2]).unwrap();
    for frame in &frames {
        let expected: Vec<_> = frames
            .iter()
            .filter(|one| one.at >= frame.at)
            .cloned()
            .collect();
        assert!(from(&dir, frame.at) == expected);
    }
}

#[tokio::test]
async fn a_reader_at_the_end_goes_on_when_there_is_more() {
    let (_temporary, root, recorder) = recorder(1024, None);
    let writer = begin(&recorder, Uuid::max(), "one");
    let mut reader = Reader::open(&find(&root, "ffff").unwrap()).unwrap();
    let (mut seen, mut written) = (Vec::new(), Vec::new());
    for number in 0..30_u8 {
        let bytes = vec![number; 60];
        writer
            .record(Direction::Sent, Bytes::from(bytes.clone()))
            .await
            .expect("recorded");
        written.extend(bytes);
        for frame in reader.by_ref() {
            seen.extend(bytes_of(&[frame.expect("a frame").what], Direction::Sent));
        }
        assert!(!reader.is_over());
        reader.again().unwrap();
    }
    writer.close("client").await.expect("closed");
    // It may have read all that was there before the end.
    assert!(!reader.is_over());
    reader.again().unwrap();
    for frame in reader.by_ref() {
        seen.extend(bytes_of(&[frame.expect("a frame").what], Direction::Sent));
    }
    assert!(reader.is_over());
    assert_eq!(seen, written);
}

/// A segment of version 1, as the program wrote it before.
fn old(session: Uuid, frames: &[(u8, u64, &[u8])]) -> Vec<u8> {
    let mut bytes = b"ICPTREC\x01".to_vec();
    bytes.extend_from_slice(session.as_bytes());
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&1000_u64.to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    let mut sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    for (kind, delta, body) in frames {
        let mut fields = vec![*kind];
        fields.extend_from_slice(&delta.to_le_bytes());
        fields.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        fields.extend_from_slice(body);
        sum = crc32fast::hash(&[&sum.to_le_bytes()[..], &fields].concat());
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.extend(fields);
    }
    bytes
}

#[test]
fn recordings_of_before_stay_readable() {
    let temporary = tempfile::tempdir().unwrap();
    let meta = r#"{"v":1,"session":"00000000-0000-0000-0000-000000000005",
        "connection":"00000000-0000-0000-0000-000000000000","protocol":"postgres","target":"main",
        "started":"2026-01-02T03:04:05Z","started_boot_ns":1000}"#;
    let meta: Meta = serde_json::from_str(meta).unwrap();
    let dir = make(temporary.path(), &meta).unwrap();
    meta.write(&dir).unwrap();
    let mark = [&[7; 16][..], &[2]].concat();
    let frames: [(u8, u64, &[u8]); 4] = [
        (1, 1, b"Q"),
        (3, 2, &mark),
        (2, 3, b"answer"),
        (4, 9, b"client"),
    ];
    let bytes = old(meta.session, &frames);
    let path = dir.join("000001.rec");
    fs::write(&path, &bytes).unwrap();
    let read_all = || Reader::open(&dir).unwrap().collect::<Result<Vec<_>, _>>();
    let frames = read_all().expect("frames");
    let at: Vec<u64> = frames.iter().map(|frame| frame.at.0).collect();
    assert_eq!(at, [1001, 1002, 1003, 1009]);
    assert_eq!(
        frames[2].what,
        What::Bytes(Direction::Received, Bytes::from_static(b"answer"))
    );
    assert_eq!(frames[3].what, What::End("client".to_owned()));
    assert_eq!(from(&dir, BootTime(1003)).len(), 2);
    for position in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[position] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(read_all().is_err(), "byte {position}");
    }
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert!(matches!(read_all(), Err(Error::Torn { .. })));
}
