//! What a daemon or a host takes with it when it dies: no more than the log does not know, and nobody makes it
//! more afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::vouched::harm;
use super::{begin, ends, log, segments, settings};
use crate::audit::{self, Event, Log, Reservation, Sequence, Settled, Sink};
use crate::clock;
use crate::recording::format::Holds;
use crate::recording::retention::settle_lost;
use crate::recording::sync::seen;
use crate::recording::verify::{Report, Vouched};
use crate::recording::writer::press::{Place, Press};
use crate::recording::{Meta, Reader, Recorder, Writer, find};
use crate::session::Direction;

/// A log that tells what it was told.
struct Heard {
    log: Arc<Log>,
    lines: Mutex<Vec<String>>,
    /// Where recordings are, whose lines come behind their bytes.
    root: Option<PathBuf>,
    wrong: Mutex<Vec<String>>,
}

impl Heard {
    fn new(state: &Path, root: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            log: log(state),
            lines: Mutex::default(),
            root,
            wrong: Mutex::default(),
        })
    }

    fn hear(&self, event: &Event<'_>) {
        let line = serde_json::to_string(event).unwrap();
        if let Some(root) = &self.root
            && let Err(what) = is_on_disk(root, event)
        {
            self.wrong.lock().unwrap().push(format!("{what}: {line}"));
        }
        self.lines.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The lines about a session.
    fn about(&self, session: Uuid) -> Vec<String> {
        let id = session.to_string();
        let mut lines = self.lines();
        lines.retain(|line| line.contains(&id));
        lines
    }
}

impl Sink for Heard {
    fn append(&self, event: &Event<'_>) -> Result<Sequence, audit::Error> {
        self.hear(event);
        self.log.append(event)
    }

    fn append_durable<'a>(&'a self, event: &Event<'_>) -> Settled<'a> {
        self.log.append_durable(event)
    }

    fn reserve(&self, bytes: u64) -> Result<Reservation, audit::Error> {
        self.log.reserve(bytes)
    }

    fn append_reserved(
        &self,
        reservation: Reservation,
        event: &Event<'_>,
    ) -> Result<Sequence, audit::Error> {
        self.hear(event);
        self.log.append_reserved(reservation, event)
    }

    fn append_later(
        &self,
        reservation: Reservation,
        event: &Event<'_>,
    ) -> Result<(), audit::Error> {
        self.log.append_later(reservation, event)
    }
}

/// Whether what a line is about is on disk by now.
fn is_on_disk(root: &Path, event: &Event<'_>) -> Result<(), String> {
    let has = |path: PathBuf, bytes: u64| match seen::on_disk(&path) {
        Some(length) if length >= bytes => Ok(()),
        found => Err(format!("{} has {found:?} of {bytes}", path.display())),
    };
    match event {
        Event::RecordingBegun { session, .. } => {
            let dir = find(root, &session.to_string()).unwrap();
            has(dir.join("meta.json"), 1)?;
            has(dir.join("000001.rec"), 101)?;
            has(dir.clone(), 0)?;
            has(dir.parent().unwrap().to_owned(), 0)
        }
        Event::RecordingSealed {
            session,
            segment,
            length,
            why,
            ..
        } => {
            let dir = find(root, &session.to_string()).unwrap();
            if *why == "end" {
                has(dir.join("meta.json.new"), 1)?;
            }
            has(dir.join(format!("{segment:06}.rec")), *length)
        }
        _ => Ok(()),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

async fn record(writer: &Writer, count: u8) {
    for number in 0..count {
        let bytes = Bytes::from(vec![number; 50]);
        let recorded = writer.record(Direction::Sent, bytes).await;
        recorded.expect("recorded");
    }
}

/// What is left of an open recording when its daemon dies, all of it vouched for, and what the log says of it.
struct Left {
    dir: PathBuf,
    files: Vec<(String, Vec<u8>)>,
    lines: Vec<String>,
    heard: Arc<Heard>,
    state: tempfile::TempDir,
}

fn left() -> Left {
    let state = tempfile::tempdir().unwrap();
    let heard = Heard::new(state.path(), None);
    let root = state.path().join("recordings");
    let sink = Arc::<Heard>::clone(&heard);
    let settings = settings(1024, None);
    let recorder = Recorder::open_with(&root, &settings, sink, Duration::ZERO).unwrap();
    let writer = begin(&recorder, Uuid::max(), "one");
    runtime().block_on(async {
        for _ in 0..3 {
            record(&writer, 10).await;
            // Another of the same thread: what was queued before it is written before it.
            for number in 0..4 {
                let other = begin(&recorder, Uuid::from_u128(number), "other");
                other.close("client").await.expect("closed");
            }
            for number in 0..4 {
                let dir = find(&root, &Uuid::from_u128(number).to_string());
                drop(dir.map(fs::remove_dir_all));
            }
        }
    });
    let dir = find(&root, "ffff").unwrap();
    let files: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    assert!(files.len() > 3, "{files:?}");
    let lines = heard.about(Uuid::max());
    let seal = |line: &String| line.contains("\"time\"");
    assert!(lines.iter().any(seal), "{lines:?}");
    runtime().block_on(writer.close("client")).expect("closed");
    Left {
        dir: dir.strip_prefix(&root).unwrap().to_owned(),
        files,
        lines,
        heard,
        state,
    }
}

fn vouched(lines: &[String]) -> Vouched {
    let mut vouched = Vouched::default();
    for line in lines {
        vouched.take(line.as_bytes());
    }
    vouched
}

/// The next daemon finds these files: how many recordings it ends, what it says, and what a check says then.
fn next(left: &Left, files: &[(String, Vec<u8>)]) -> (usize, Vec<String>, Report) {
    let root = left.state.path().join(format!("next-{}", Uuid::new_v4()));
    let dir = root.join(&left.dir);
    fs::create_dir_all(&dir).unwrap();
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
    let before = left.heard.lines().len();
    let sink: Arc<dyn Sink> = Arc::<Heard>::clone(&left.heard);
    let known = |_from| Ok(vouched(&left.lines));
    let settled = settle_lost(&root, Timestamp::MAX, &sink, known).unwrap();
    let said = left.heard.lines().split_off(before);
    let all = vouched(&[left.lines.clone(), said.clone()].concat());
    let report = all.check(&root).unwrap().by(&all);
    fs::remove_dir_all(&root).unwrap();
    (settled, said, report)
}

/// One at a time: they share what is heard.
static LEFT: LazyLock<Mutex<Left>> = LazyLock::new(|| Mutex::new(left()));

fn alone() -> std::sync::MutexGuard<'static, Left> {
    LEFT.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn what_was_left_is_ended_and_whole() {
    let left = alone();
    let (settled, said, report) = next(&left, &left.files);
    assert_eq!(settled, 1);
    assert!(said[0].contains("\"lost\""), "{said:?}");
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.unvouched_bytes, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_done_to_a_recording_before_the_next_daemon_starts_is_found(
        which in any::<usize>(),
        harm in harm(),
    ) {
        let left = alone();
        let mut files = left.files.clone();
        let which = which % files.len();
        if !harm.to(&mut files[which].1) {
            files.remove(which);
        }
        prop_assume!(files != left.files);
        let (_, said, report) = next(&left, &files);
        prop_assert!(!report.is_whole(), "{:?} of {:?}: {:?}", harm, left.files[which].0, said);
        let vouches = |line: &String| line.contains("recording.sealed");
        prop_assert!(!said.iter().any(vouches), "{:?}", said);
    }
}

#[test]
fn a_recording_that_is_cut_at_a_chunk_or_made_anew_is_told_once_and_not_vouched_for() {
    let left = alone();
    let last = left.files.iter().map(|(name, _)| name);
    let last = last.filter(|name| name.ends_with(".rec")).max().unwrap();
    let place = left
        .files
        .iter()
        .position(|(name, _)| name == last)
        .unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("000001.rec");
    fs::write(&path, &left.files[place].1).unwrap();
    let first = usize::try_from(ends(&path)[0]).unwrap();
    let mut cut = left.files.clone();
    cut[place].1.truncate(first - 1);
    let mut header = left.files.clone();
    header[place].1.truncate(101);
    // Another text in a chain that fits.
    let mut anew = header.clone();
    let before: [u8; 32] = anew[place].1[69..].try_into().unwrap();
    let number = last.trim_end_matches(".rec").parse().unwrap();
    let chain = Place {
        segment: number,
        offset: 101,
        before: &before,
        key: None,
    };
    let mut press = Press::new().unwrap();
    let frame = [&[1][..], &[0; 8], &[4, 0, 0, 0], b"fake"].concat();
    let (chunk, _) = press.chunk(Holds::Frames, 0, &frame, &chain).unwrap();
    anew[place].1.extend_from_slice(chunk);
    for files in [&cut, &header, &anew] {
        let (settled, said, report) = next(&left, files);
        assert_eq!(settled, 0);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("recording.damaged"), "{said:?}");
        assert!(!report.is_whole());
    }
    let mut left = left;
    let told = next(&left, &cut).1;
    let lines = left.lines.clone();
    left.lines.extend(told);
    let (settled, said, _) = next(&left, &cut);
    left.lines = lines;
    assert_eq!((settled, said.len()), (0, 0), "{said:?}");
}

#[test]
fn nothing_is_vouched_for_that_the_log_never_spoke_of() {
    let mut left = alone();
    let lines = std::mem::take(&mut left.lines);
    let (settled, said, report) = next(&left, &left.files);
    left.lines = lines;
    assert_eq!((settled, said.len(), report.sessions), (1, 0, 0));
}

#[test]
fn an_end_that_was_about_to_be_noted_is_noted() {
    let state = tempfile::tempdir().unwrap();
    let heard = Heard::new(state.path(), None);
    let root = state.path().join("recordings");
    let sink: Arc<dyn Sink> = Arc::<Heard>::clone(&heard);
    let recorder = Recorder::open(&root, &settings(1 << 20, None), Arc::clone(&sink)).unwrap();
    let writer = begin(&recorder, Uuid::max(), "one");
    let dir = find(&root, "ffff").unwrap();
    let begun = fs::read(dir.join("meta.json")).unwrap();
    runtime().block_on(writer.close("client")).expect("closed");
    fs::rename(dir.join("meta.json"), dir.join("meta.json.new")).unwrap();
    fs::write(dir.join("meta.json"), begun).unwrap();
    let known = |_from| Ok(vouched(&heard.lines()));
    assert_eq!(settle_lost(&root, Timestamp::MAX, &sink, known).unwrap(), 1);
    assert_eq!(Meta::read(&dir).unwrap().ended.unwrap().reason, "client");
    let all = vouched(&heard.lines());
    assert!(all.check(&root).unwrap().by(&all).is_whole());
    assert!(Reader::open(&dir).unwrap().all(|frame| frame.is_ok()));
}

#[test]
fn no_line_speaks_of_what_is_not_on_disk() {
    let state = tempfile::tempdir().unwrap();
    let root = state.path().join("recordings");
    let heard = Heard::new(state.path(), Some(root.clone()));
    let sink = Arc::<Heard>::clone(&heard);
    let settings = crate::recording::Settings {
        recipients: vec![age::x25519::Identity::generate().to_public().to_string()],
        ..settings(1024, None)
    };
    let recorder = Recorder::open_with(&root, &settings, sink, Duration::ZERO).unwrap();
    runtime().block_on(async {
        let one = begin(&recorder, Uuid::max(), "one");
        record(&one, 20).await;
        one.close("client").await.expect("closed");
        // Many that end at once.
        let mut many = tokio::task::JoinSet::new();
        for number in 0..40 {
            let writer = begin(&recorder, Uuid::from_u128(number << 90), "many");
            many.spawn(async move {
                record(&writer, 20).await;
                writer.close("client").await.expect("closed");
            });
        }
        many.join_all().await;
    });
    assert!(heard.lines().len() > 41 * 3);
    let wrong = heard.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(segments(&find(&root, "ffff").unwrap()).len() > 1);
}

#[test]
fn what_was_written_is_vouched_for_in_time_though_nothing_follows() {
    let state = tempfile::tempdir().unwrap();
    let heard = Heard::new(state.path(), None);
    let root = state.path().join("recordings");
    let sink = Arc::<Heard>::clone(&heard);
    let every = Duration::from_millis(300);
    let recorder = Recorder::open_with(&root, &settings(1 << 20, None), sink, every).unwrap();
    let writer = begin(&recorder, Uuid::max(), "one");
    runtime().block_on(record(&writer, 1));
    let begun = clock::boot();
    let sealed = || {
        heard
            .about(Uuid::max())
            .into_iter()
            .any(|line| line.contains("\"time\""))
    };
    while !sealed() {
        assert!(clock::boot().since(begun) < Duration::from_secs(20));
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let all = vouched(&heard.about(Uuid::max()));
    let report = all.check(&root).unwrap().by(&all);
    assert_eq!(
        (report.unvouched_bytes, report.is_whole()),
        (0, true),
        "{report:?}"
    );
    drop(writer);
}
