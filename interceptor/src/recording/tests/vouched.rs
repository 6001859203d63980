//! What the log says of recordings finds whatever is done to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::{begin, log, settings};
use crate::audit::verify::{Trust, verify_with};
use crate::audit::{Event, Sink as _};
use crate::recording::verify::{Report, Vouched};
use crate::recording::{Recorder, find};
use crate::session::Direction;

/// What a log says of recordings.
pub(super) fn vouched(state: &Path) -> Vouched {
    let mut vouched = Vouched::default();
    let report = verify_with(&state.join("audit"), Trust::default(), &mut |line| {
        vouched.take(line)
    });
    assert!(report.expect("a report").is_whole());
    vouched
}

/// What is wrong with the recordings of a log that nobody writes to.
fn checked(state: &Path, root: &Path) -> Report {
    let vouched = vouched(state);
    vouched.check(root).unwrap().by(&vouched)
}

/// A log and an encrypted recording of several segments beside it, both closed.
fn written(state: &Path, recipients: Vec<String>) -> PathBuf {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let audit = log(state);
    let root = state.join("recordings");
    let settings = crate::recording::Settings {
        recipients,
        ..settings(1024, None)
    };
    let recorder =
        Recorder::open(&root, &settings, Arc::<crate::audit::Log>::clone(&audit)).unwrap();
    runtime.block_on(async {
        let writer = begin(&recorder, Uuid::max(), "one");
        for number in 0..20_u8 {
            writer
                .record(Direction::Sent, Bytes::from(vec![number; 50]))
                .await
                .expect("recorded");
        }
        writer.close("client").await.expect("closed");
    });
    drop(recorder);
    audit.close().expect("a closed log");
    root
}

#[test]
fn a_recording_is_what_the_log_says_until_it_is_gone() {
    let temporary = tempfile::tempdir().unwrap();
    let root = written(temporary.path(), Vec::new());
    let vouched = vouched(temporary.path());
    let report = vouched.check(&root).unwrap().by(&vouched);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(
        (report.sessions, report.purged, report.unvouched_bytes),
        (1, 0, 0)
    );
    fs::remove_dir_all(find(&root, "ffff").unwrap()).unwrap();
    let report = vouched.check(&root).unwrap().by(&vouched);
    assert!(
        report.violations[0].what.contains("is missing"),
        "{report:?}"
    );
}

#[test]
fn a_session_that_ends_between_log_and_files_is_in_doubt_until_the_log_is_read_again() {
    let temporary = tempfile::tempdir().unwrap();
    let audit = log(temporary.path());
    let root = temporary.path().join("recordings");
    let sink = Arc::<crate::audit::Log>::clone(&audit);
    let recorder = Recorder::open(&root, &settings(1 << 20, None), sink).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let writer = begin(&recorder, Uuid::max(), "one");
    // It has begun by the time at which another has ended.
    let other = begin(&recorder, Uuid::nil(), "other");
    runtime.block_on(other.close("client")).expect("closed");
    let before = vouched(temporary.path());
    runtime.block_on(writer.close("client")).expect("closed");
    let checked = || before.check(&root).unwrap();
    assert!(checked().is_in_doubt());
    let after = vouched(temporary.path());
    assert!(checked().by(&after).is_whole());
    let meta = find(&root, "ffff").unwrap().join("meta.json");
    let text = fs::read_to_string(&meta).unwrap();
    fs::write(&meta, text.replace("client", "nobody")).unwrap();
    let report = checked().by(&after);
    assert!(
        report.violations[0].what.contains("meta.json"),
        "{report:?}"
    );
}

#[test]
fn what_is_written_behind_the_last_line_is_counted() {
    let temporary = tempfile::tempdir().unwrap();
    let audit = log(temporary.path());
    let root = temporary.path().join("recordings");
    let recorder = Recorder::open(
        &root,
        &settings(1 << 20, None),
        Arc::<crate::audit::Log>::clone(&audit),
    )
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let writer = begin(&recorder, Uuid::max(), "one");
    runtime.block_on(async {
        writer
            .record(Direction::Sent, Bytes::from(vec![1; 50]))
            .await
            .expect("recorded");
        // Another of the same thread: what was queued before it is written before it.
        for number in 0..4 {
            begin(&recorder, Uuid::from_u128(number), "other")
                .close("client")
                .await
                .expect("closed");
        }
    });
    audit
        .append(&Event::KernelLost { count: 1 })
        .expect("a line");
    let report = checked(temporary.path(), &root);
    assert!(report.is_whole(), "{report:?}");
    assert!(report.unvouched_bytes > 50, "{report:?}");
    assert_eq!(report.sessions, 5);
    runtime.block_on(writer.close("client")).expect("closed");
    let report = checked(temporary.path(), &root);
    assert_eq!(report.unvouched_bytes, 0);
}

/// What is done to the bytes of one file.
#[derive(Clone, Debug)]
pub(super) enum Harm {
    Flip(usize, u8),
    Cut(usize),
    Swap(usize, usize),
    Remove,
}

pub(super) fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        4 => (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        4 => any::<usize>().prop_map(Harm::Cut),
        4 => (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Harm::Swap(one, other)),
        1 => Just(Harm::Remove),
    ]
}

impl Harm {
    /// Does it; whether the file is there afterwards.
    pub(super) fn to(&self, bytes: &mut Vec<u8>) -> bool {
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at % length] ^= 1 << bit,
            Self::Cut(at) => bytes.truncate(at % length),
            Self::Swap(one, other) => bytes.swap(one % length, other % length),
            Self::Remove => return false,
        }
        true
    }
}

struct Made {
    state: tempfile::TempDir,
    vouched: Vouched,
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn made() -> Made {
    let state = tempfile::tempdir().unwrap();
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let root = written(state.path(), vec![recipient]);
    let dir = find(&root, "ffff").unwrap();
    let files = fs::read_dir(dir).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), bytes)
    });
    let files: Vec<_> = files.collect();
    // Several segments, what it is, and its key.
    assert!(files.len() > 4, "{files:?}");
    Made {
        vouched: vouched(state.path()),
        state,
        files,
    }
}

fn check(made: &Made, harmed: Option<(usize, &Harm)>) -> Option<Report> {
    let root = made.state.path().join(format!("copy-{}", Uuid::new_v4()));
    for (index, (path, bytes)) in made.files.iter().enumerate() {
        let mut bytes = bytes.clone();
        if let Some((_, harm)) = harmed.filter(|(which, _)| *which == index)
            && !harm.to(&mut bytes)
        {
            continue;
        }
        if harmed.is_some_and(|(which, _)| which == index) && bytes == made.files[index].1 {
            return None;
        }
        let to = root.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    let report = made.vouched.check(&root).unwrap().by(&made.vouched);
    fs::remove_dir_all(root).unwrap();
    Some(report)
}

#[test]
fn a_copy_of_a_recording_is_whole() {
    let report = check(&made(), None).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_byte_of_any_file_of_a_recording_that_is_flipped_cut_or_swapped_is_found(
        which in any::<usize>(),
        harm in harm(),
    ) {
        static MADE: LazyLock<Made> = LazyLock::new(made);
        let which = which % MADE.files.len();
        let report = check(&MADE, Some((which, &harm)));
        prop_assume!(report.is_some());
        prop_assert!(!report.unwrap().is_whole(), "{:?} of {:?}", harm, MADE.files[which].0);
    }
}
