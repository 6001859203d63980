//! What recordings promise: both directions in order, bounded, and damage never passed over.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    Error, FRAME_MAX, Filter, Reader, Recorder, Settings, Subject, What, Writer, find, list,
};
use crate::audit::tests::disk::SmallDisk;
use crate::audit::tests::log;
use crate::session::{Direction, Phase, RequestId};

mod container;
mod lost;
mod retention;
mod vouched;

const CHILD: &str = "INTERCEPTOR_TEST_RECORDING_CHILD";
/// What the child records before each number.
const CHUNK: usize = 64 << 10;

/// Something done to the segments.
type Harm = fn(&[PathBuf]);

fn settings(segment_bytes: u64, session_bytes: Option<u64>) -> Settings {
    Settings {
        segment_bytes,
        session_bytes,
        recipients: Vec::new(),
        keep: Default::default(),
    }
}

fn recorder(segment_bytes: u64, session_bytes: Option<u64>) -> (TempDir, PathBuf, Recorder) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let root = temporary.path().join("recordings");
    let settings = settings(segment_bytes, session_bytes);
    let recorder = Recorder::open(&root, &settings, log(temporary.path())).expect("a recorder");
    (temporary, root, recorder)
}

fn begin(recorder: &Recorder, session: Uuid, agent: &str) -> Writer {
    let principal = RawValue::from_string(format!(r#"{{"agent":"{agent}"}}"#)).expect("JSON");
    let subject = Subject {
        session,
        connection: Uuid::nil(),
        protocol: "postgres",
        target: "main",
        database: Some("shop"),
        principal: Some(&principal),
    };
    recorder.begin(&subject).expect("a writer")
}

fn read(dir: &Path) -> (Vec<What>, Option<Error>) {
    let mut frames = Vec::new();
    for frame in Reader::open(dir).expect("a reader") {
        match frame {
            Ok(frame) => frames.push(frame.what),
            Err(error) => return (frames, Some(error)),
        }
    }
    (frames, None)
}

fn bytes_of(frames: &[What], wanted: Direction) -> Vec<u8> {
    let mut all = Vec::new();
    for frame in frames {
        if let What::Bytes(direction, bytes) = frame
            && *direction == wanted
        {
            all.extend_from_slice(bytes);
        }
    }
    all
}

/// A closed recording of three segments or more.
async fn recorded() -> (TempDir, PathBuf) {
    let (temporary, root, recorder) = recorder(1024, None);
    let writer = begin(&recorder, Uuid::max(), "one");
    for number in 0..40_u8 {
        writer
            .record(Direction::Sent, Bytes::from(vec![number; 50]))
            .await
            .expect("recorded");
    }
    writer.close("client").await.expect("closed");
    let dir = find(&root, &Uuid::max().to_string()).expect("found");
    assert!(segments(&dir).len() >= 3);
    (temporary, dir)
}

/// Where the chunks of a segment end.
fn ends(path: &Path) -> Vec<u64> {
    let bytes = fs::read(path).unwrap();
    let (mut at, mut ends) = (101, Vec::new());
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 46..at + 50].try_into().unwrap());
        at += 50 + usize::try_from(length).unwrap();
        ends.push(at as u64);
    }
    ends
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "rec"))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn both_directions_marks_and_the_end_come_back_as_they_were() {
    let (_temporary, root, recorder) = recorder(16 << 20, None);
    let writer = begin(&recorder, Uuid::max(), "one");
    let request = RequestId(Uuid::from_u128(7));
    let long = Bytes::from(vec![9; FRAME_MAX * 2 + 1]);
    writer
        .record(Direction::Sent, Bytes::from_static(b"Q"))
        .await
        .expect("recorded");
    writer.mark(request, Phase::Execute).await.expect("marked");
    writer
        .record(Direction::Received, long.clone())
        .await
        .expect("recorded");
    writer
        .record(Direction::Received, Bytes::new())
        .await
        .expect("nothing to record");
    writer.close("client").await.expect("closed");
    assert!(matches!(
        writer
            .record(Direction::Sent, Bytes::from_static(b"X"))
            .await,
        Err(Error::Closed)
    ));
    let dir = find(&root, "ffff").expect("found");
    let (frames, error) = read(&dir);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(frames.len(), 6);
    assert_eq!(
        frames[0],
        What::Bytes(Direction::Sent, Bytes::from_static(b"Q"))
    );
    assert_eq!(frames[1], What::Mark(request, Phase::Execute));
    assert_eq!(bytes_of(&frames, Direction::Received), long);
    assert_eq!(frames[5], What::End("client".to_owned()));
    let ended = Reader::open(&dir)
        .unwrap()
        .meta()
        .ended
        .clone()
        .expect("an end");
    assert_eq!(
        (ended.sent, ended.received, ended.segments),
        (1, long.len() as u64, 1)
    );
}

#[tokio::test]
async fn times_never_go_back_and_count_from_the_start() {
    let (_temporary, dir) = recorded().await;
    let reader = Reader::open(&dir).expect("a reader");
    let mut last = reader.meta().started_boot_ns;
    for frame in reader {
        let at = frame.expect("a frame").at;
        assert!(at >= last);
        last = at;
    }
}

#[tokio::test]
async fn segments_are_bounded_and_read_as_one() {
    let (_temporary, dir) = recorded().await;
    for path in segments(&dir) {
        assert!(fs::metadata(&path).unwrap().len() <= 1024);
    }
    let (frames, error) = read(&dir);
    assert!(error.is_none(), "{error:?}");
    let expected: Vec<u8> = (0..40_u8).flat_map(|number| vec![number; 50]).collect();
    assert_eq!(bytes_of(&frames, Direction::Sent), expected);
}

#[tokio::test]
async fn a_session_is_recorded_up_to_its_bound_and_no_further() {
    let (_temporary, root, recorder) = recorder(1 << 20, Some(100));
    let writer = begin(&recorder, Uuid::max(), "one");
    writer
        .record(Direction::Sent, Bytes::from(vec![1; 60]))
        .await
        .expect("recorded");
    let refused = writer
        .record(Direction::Received, Bytes::from(vec![1; 41]))
        .await;
    assert!(matches!(refused, Err(Error::Bound { limit: 100 })));
    writer
        .record(Direction::Received, Bytes::from(vec![1; 40]))
        .await
        .expect("recorded");
    writer.close("storage").await.expect("closed");
    let (frames, error) = read(&find(&root, "ffff").expect("found"));
    assert!(error.is_none());
    assert_eq!(frames.len(), 3);
}

#[tokio::test]
async fn a_dropped_writer_ends_its_recording() {
    let (_temporary, root, recorder) = recorder(1 << 20, None);
    let writer = begin(&recorder, Uuid::max(), "one");
    writer
        .record(Direction::Sent, Bytes::from_static(b"abc"))
        .await
        .expect("recorded");
    drop(writer);
    // Another session of the same thread: what was queued before it is written before it.
    for number in 0..4 {
        let other = begin(&recorder, Uuid::from_u128(number), "other");
        other.close("client").await.expect("closed");
    }
    let (frames, error) = read(&find(&root, "ffff").expect("found"));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(frames.last(), Some(&What::End("dropped".to_owned())));
}

#[tokio::test]
async fn any_flipped_bit_is_found() {
    let (_temporary, dir) = recorded().await;
    let path = &segments(&dir)[1];
    let whole = fs::read(path).unwrap();
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 1 << (position % 8);
        fs::write(path, &bytes).unwrap();
        let (_, error) = read(&dir);
        assert!(
            matches!(error, Some(Error::Damaged { .. })),
            "byte {position}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_segment_that_is_gone_cut_or_moved_is_found() {
    let rows: [(&str, Harm); 5] = [
        ("first gone", |paths| fs::remove_file(&paths[0]).unwrap()),
        ("middle gone", |paths| fs::remove_file(&paths[1]).unwrap()),
        ("last gone", |paths| {
            fs::remove_file(paths.last().unwrap()).unwrap()
        }),
        ("cut at a frame's edge", |paths| {
            let file = fs::OpenOptions::new().write(true).open(&paths[0]).unwrap();
            file.set_len(ends(&paths[0])[0]).unwrap();
        }),
        ("swapped", |paths| {
            let (one, other) = (fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
            fs::write(&paths[0], other).unwrap();
            fs::write(&paths[1], one).unwrap();
        }),
    ];
    for (name, harm) in rows {
        let (_temporary, dir) = recorded().await;
        harm(&segments(&dir));
        let (_, error) = read(&dir);
        assert!(
            matches!(error, Some(Error::Damaged { .. })),
            "{name}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_torn_tail_is_readable_up_to_the_tear() {
    let (_temporary, dir) = recorded().await;
    let path = segments(&dir).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let (all, _) = read(&dir);
    let first = usize::try_from(ends(&path)[0]).unwrap();
    for length in [
        whole.len() - 1,
        whole.len() - 30,
        first + 1,
        first - 1,
        101 + 5,
        20,
    ] {
        fs::write(&path, &whole[..length]).unwrap();
        let (frames, error) = read(&dir);
        assert!(
            matches!(error, Some(Error::Torn { .. })),
            "{length}: {error:?}"
        );
        assert_eq!(frames, all[..frames.len()]);
        // Behind the last frame is the index.
        assert!(frames.len() < all.len() || length > first);
    }
    fs::write(&path, [&whole[..first], &[0; 300]].concat()).unwrap();
    let (_, error) = read(&dir);
    let torn = |offset| usize::try_from(offset).is_ok_and(|offset: usize| offset == first);
    assert!(
        matches!(error, Some(Error::Torn { offset, .. }) if torn(offset)),
        "{error:?}"
    );
}

#[tokio::test]
async fn sessions_are_listed_and_found_by_what_they_are() {
    let (_temporary, root, recorder) = recorder(1 << 20, None);
    for (number, agent) in [(1_u128, "one"), (2, "other"), (3, "one")] {
        let writer = begin(&recorder, Uuid::from_u128(number << 100), agent);
        writer.close("client").await.expect("closed");
    }
    fs::create_dir(root.join("not a day")).unwrap();
    let count = |filter: Filter| list(&root, &filter).expect("a list").len();
    assert_eq!(count(Filter::default()), 3);
    assert_eq!(
        count(Filter {
            agent: Some("one".to_owned()),
            ..Filter::default()
        }),
        2
    );
    assert_eq!(
        count(Filter {
            target: Some("other".to_owned()),
            ..Filter::default()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            since: Some(jiff::Timestamp::MAX),
            ..Filter::default()
        }),
        0
    );
    let first = Uuid::from_u128(1 << 100).to_string();
    assert!(find(&root, &first).is_ok());
    assert!(matches!(find(&root, "000000"), Err(Error::Ambiguous(_))));
    for unknown in ["", "f00", "../../etc", "."] {
        assert!(
            matches!(find(&root, unknown), Err(Error::Unknown(_))),
            "{unknown}"
        );
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_what_was_taken_is_whole_needs_root() {
    let disk = SmallDisk::mount("size=2m,mode=0700");
    let root = disk.path().join("recordings");
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let recorder = Recorder::open(&root, &settings(256 << 10, None), log(elsewhere.path()))
        .expect("a recorder");
    let writer = begin(&recorder, Uuid::max(), "one");
    let ballast = disk.fill();
    let mut taken = 0_u64;
    let error = loop {
        match writer
            .record(Direction::Received, Bytes::from(vec![5; 1000]))
            .await
        {
            Ok(()) => taken += 1000,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    assert!(taken > 0, "what was set aside is used");
    let refused = recorder.begin(&Subject {
        session: Uuid::from_u128(1),
        connection: Uuid::nil(),
        protocol: "postgres",
        target: "main",
        database: None,
        principal: None,
    });
    assert!(matches!(refused, Err(Error::Full { .. })));
    writer
        .close("storage")
        .await
        .expect("the end has its space");
    let (frames, error) = read(&find(&root, "ffff").expect("found"));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(bytes_of(&frames, Direction::Received).len() as u64, taken);
    assert_eq!(frames.last(), Some(&What::End("storage".to_owned())));
    fs::remove_file(ballast).unwrap();
    begin(&recorder, Uuid::from_u128(2), "one")
        .close("client")
        .await
        .expect("there is space again");
}

/// Runs in the killed process only: says how much it recorded.
#[tokio::test]
async fn the_child_that_is_killed_records_without_end() {
    let Ok(root) = std::env::var(CHILD) else {
        return;
    };
    let root = Path::new(&root);
    let audit = log(root.parent().expect("a state directory"));
    let recorder = Recorder::open(root, &settings(1 << 20, None), audit).expect("a recorder");
    let writer = begin(&recorder, Uuid::max(), "one");
    for number in 0_u64.. {
        let mut bytes = BytesMut::zeroed(CHUNK);
        bytes.extend_from_slice(&number.to_be_bytes());
        let bytes = bytes.freeze();
        writer
            .record(Direction::Sent, bytes)
            .await
            .expect("recorded");
        writeln!(std::io::stdout(), "recorded {number}").expect("the parent reads");
    }
}

#[test]
fn a_killed_process_loses_at_most_what_was_queued() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let root = temporary.path().join("recordings");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("recording::tests::the_child_that_is_killed_records_without_end")
        .env(CHILD, &root)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut recorded = 0_u64;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some((_, number)) = line.expect("a line").split_once("recorded ") {
            recorded = number.parse().expect("a number");
        }
        if recorded == 1500 {
            child.kill().expect("SIGKILL");
        }
    }
    child.wait().expect("an end");
    let (frames, error) = read(&find(&root, "ffff").expect("found"));
    assert!(!matches!(error, Some(Error::Damaged { .. })), "{error:?}");
    let bytes = bytes_of(&frames, Direction::Sent);
    let numbers: Vec<u64> = bytes
        .chunks_exact(CHUNK + 8)
        .map(|chunk| u64::from_be_bytes(chunk[CHUNK..].try_into().unwrap()))
        .collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    // Queued: at most 8 MiB.
    assert!(
        numbers.len() as u64 + 256 > recorded,
        "{} {recorded}",
        numbers.len()
    );
}
