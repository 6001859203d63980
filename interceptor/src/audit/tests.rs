//! What the log promises: no line lost, none in part, none changed unseen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tempfile::TempDir;
use uuid::Uuid;

use super::log::LATER_MAX;
use super::read::{Entries, Filter, last};
use super::{
    Error, Event, Log, Sequence, Settings, Signer, Sink as _, checkpoint, finish_bytes, verify,
};
use crate::clock::{self, BootTime};
use crate::config::Durability;
use crate::masking::detect::Kind;
use crate::session::{Outcome, RequestId};

mod crash;
pub(crate) mod disk;
mod signed;
mod syncs;
mod tamper;

fn settings(segment_bytes: u64) -> Settings {
    Settings {
        durability: Durability::Relaxed,
        segment_bytes,
        ..Settings::default()
    }
}

fn strict() -> Settings {
    Settings {
        durability: Durability::Strict,
        segment_bytes: 1 << 20,
        ..Settings::default()
    }
}

fn log_dir() -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let dir = temporary.path().join("audit");
    (temporary, dir)
}

fn lost(count: u64) -> Event<'static> {
    Event::KernelLost { count }
}

fn outcome(status: &str) -> Outcome {
    Outcome {
        counted: None,
        found: BTreeMap::new(),
        found_sent: BTreeMap::new(),
        rows: 1,
        bytes: 2,
        written: 0,
        took: Duration::from_micros(3),
        status: status.to_owned(),
    }
}

fn finished<'a>(principal: Option<&'a RawValue>, outcome: &'a Outcome) -> Event<'a> {
    Event::RequestFinished {
        connection: Uuid::max(),
        session: Uuid::max(),
        request: RequestId(Uuid::max()),
        principal,
        outcome,
        spent: &[],
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    super::segment::list(dir)
        .expect("a listing")
        .into_iter()
        .map(|name| dir.join(name.to_string()))
        .collect()
}

fn lines(dir: &Path) -> Vec<String> {
    segments(dir)
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).expect("a segment");
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

fn events(dir: &Path, event: &str) -> Vec<serde_json::Value> {
    let filter = Filter {
        event: Some(event.to_owned()),
        ..Filter::default()
    };
    Entries::open(dir, filter)
        .expect("entries")
        .map(|entry| serde_json::from_str(&entry.expect("an entry").line).expect("JSON"))
        .collect()
}

#[track_caller]
fn assert_whole(dir: &Path) {
    let report = verify(dir).expect("a report");
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.unfinished_bytes, 0);
}

fn cut(path: &Path, from_end: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - from_end).unwrap();
}

/// The key of the log's state directory.
fn signer(dir: &Path) -> Signer {
    Signer::open(dir.parent().expect("a state directory")).expect("a signer")
}

/// Opens a log. A child that another test has just forked holds its lock until it executes.
fn open(dir: &Path, settings: &Settings) -> Log {
    let since = clock::boot();
    loop {
        match Log::open(dir, signer(dir), settings) {
            Err(Error::Locked { .. }) if waited(since) => std::thread::yield_now(),
            opened => return opened.expect("a log"),
        }
    }
}

/// Whether there is time left to wait; fails the test where there is none.
fn waited(since: BootTime) -> bool {
    assert!(clock::boot().since(since) < Duration::from_secs(20));
    true
}

/// A log below a state directory, for whoever has something to tell it.
pub(crate) fn log(state: &Path) -> Arc<Log> {
    Arc::new(open(&state.join("audit"), &settings(1 << 20)))
}

/// A closed log of `count` lines and the two that opening and closing make.
fn written(dir: &Path, count: u64, segment_bytes: u64) {
    let log = open(dir, &settings(segment_bytes));
    for number in 0..count {
        log.append(&lost(number)).expect("a line");
    }
    log.close().expect("a closed log");
}

#[test]
fn every_line_carries_the_hash_of_the_one_before_and_the_chain_goes_on_after_a_restart() {
    let (_temporary, dir) = log_dir();
    written(&dir, 3, 1 << 20);
    written(&dir, 2, 1 << 20);
    let lines = lines(&dir);
    assert_eq!(lines.len(), 9);
    let mut prev = "0".repeat(64);
    for (index, line) in lines.iter().enumerate() {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["v"], 1);
        assert_eq!(value["seq"], index + 1);
        assert_eq!(value["prev"], prev.as_str());
        let time = value["time"].as_str().expect("a time");
        assert!(
            time.len() == "2026-01-02T03:04:05.123456Z".len() && time.ends_with('Z'),
            "{time}"
        );
        assert!(value["boot_ns"].as_u64().expect("a number") > 0);
        prev = hex::encode(aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            line.as_bytes(),
        ));
    }
    assert_whole(&dir);
}

#[test]
fn a_principal_laid_out_over_lines_is_still_one_line() {
    let (_temporary, dir) = log_dir();
    let principal = RawValue::from_string("{\n \"agent\": \"a\\nb\"\n}".to_owned()).expect("JSON");
    let log = open(&dir, &settings(1 << 20));
    let outcome = outcome("ok");
    log.append(&finished(Some(&principal), &outcome))
        .expect("a line");
    log.close().expect("a closed log");
    assert_eq!(lines(&dir).len(), 3);
    assert_eq!(events(&dir, "request")[0]["principal"]["agent"], "a\nb");
    assert_whole(&dir);
}

#[test]
fn segments_are_closed_at_their_size_and_the_chain_runs_through_all() {
    let (_temporary, dir) = log_dir();
    written(&dir, 200, 4096);
    let paths = segments(&dir);
    assert!(paths.len() > 5, "{paths:?}");
    for path in &paths {
        let length = fs::metadata(path).expect("metadata").len();
        assert!(length < 4096 + 1024, "{length}");
    }
    assert_whole(&dir);
    // Each but the last ends with a checkpoint.
    let checkpoints = events(&dir, "log.checkpoint").len();
    assert_eq!(checkpoints, paths.len() - 1);
    assert_eq!(
        verify(&dir).expect("a report").lines,
        202 + checkpoints as u64
    );
}

#[test]
fn eight_threads_make_one_chain() {
    let (_temporary, dir) = log_dir();
    let log = open(&dir, &settings(16 << 10));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..200 {
                    log.append(&lost(thread * 1000 + number)).expect("a line");
                }
            });
        }
    });
    log.close().expect("a closed log");
    assert_whole(&dir);
    assert_eq!(events(&dir, "kernel.lost").len(), 1600);
}

#[test]
fn a_second_writer_is_refused_in_words() {
    let (_temporary, dir) = log_dir();
    let _log = open(&dir, &settings(1 << 20));
    let error = Log::open(&dir, signer(&dir), &settings(1 << 20)).expect_err("a refusal");
    assert!(matches!(error, Error::Locked { .. }));
    assert!(error.to_string().contains("another daemon"), "{error}");
}

#[test]
fn a_directory_that_others_can_reach_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_temporary, dir) = log_dir();
    written(&dir, 1, 1 << 20);
    for path in fs::read_dir(&dir).unwrap() {
        let mode = path.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).unwrap();
    let opened = Log::open(&dir, signer(&dir), &settings(1 << 20));
    assert!(matches!(opened, Err(Error::Exposed { .. })));
}

#[test]
fn a_line_that_is_too_long_is_refused_and_harms_nothing() {
    let (_temporary, dir) = log_dir();
    let log = open(&dir, &settings(1 << 20));
    let long = "x".repeat(17 << 20);
    let event = Event::Control {
        verb: &long,
        caller: None,
        result: "ok",
        detail: serde_json::Value::Null,
        generation: crate::policy::Generation(1),
    };
    assert!(matches!(log.append(&event), Err(Error::TooLong { .. })));
    log.append(&lost(1)).expect("a line");
    log.close().expect("a closed log");
    assert_whole(&dir);
}

#[test]
fn a_finish_line_fits_its_reservation_whatever_the_server_says() {
    let principal =
        RawValue::from_string(format!("{{\"agent\":\"{}\"}}", "p".repeat(3000))).unwrap();
    for status in ["ok", &"\u{1}".repeat(500), &"\u{fc}\u{1f600}\"".repeat(100)] {
        let (_temporary, dir) = log_dir();
        let log = open(&dir, &settings(1 << 20));
        let reservation = log.reserve(finish_bytes(Some(&principal))).expect("space");
        let bytes = reservation.bytes();
        let all: BTreeMap<_, _> = Kind::ALL
            .iter()
            .map(|kind| (kind.word(), u64::MAX))
            .collect();
        let outcome = Outcome {
            counted: None,
            found: all.clone(),
            found_sent: all,
            rows: u64::MAX,
            bytes: u64::MAX,
            written: u64::MAX,
            took: Duration::MAX,
            status: status.to_owned(),
        };
        log.append_later(reservation, &finished(Some(&principal), &outcome))
            .expect("a line");
        log.close().expect("a closed log");
        let longest = lines(&dir).iter().map(String::len).max().unwrap() as u64;
        assert!(longest < bytes, "{longest} {bytes}");
    }
}

#[tokio::test]
async fn a_line_that_was_put_off_comes_before_the_next_or_by_itself() {
    let (_temporary, dir) = log_dir();
    let log = open(&dir, &settings(1 << 20));
    let put_off = |status: &str| {
        let room = log.reserve(finish_bytes(None)).expect("space");
        log.append_later(room, &finished(None, &outcome(status)))
            .expect("taken");
    };
    let statuses = || -> Vec<String> {
        let status = |line: &serde_json::Value| line["status"].as_str().unwrap().to_owned();
        events(&dir, "request.finished")
            .iter()
            .map(status)
            .collect()
    };
    let mut synced = log.shared_synced();
    put_off("1");
    put_off("2");
    let Sequence(next) = log.append(&lost(1)).expect("a line");
    assert_eq!(next, 4, "the opening, two that were put off, this one");
    assert_eq!(statuses(), ["1", "2"]);
    assert!(lines(&dir)[3].contains("kernel.lost"), "it is the last");
    put_off("3");
    synced
        .wait_for(|synced| synced.sequence == 5)
        .await
        .expect("it is written, and on disk");
    assert_eq!(statuses(), ["1", "2", "3"]);
    put_off("4");
    log.close().expect("a closed log");
    assert_eq!(statuses(), ["1", "2", "3", "4"]);
    assert_whole(&dir);
}

#[test]
fn lines_that_are_put_off_are_bounded_and_keep_their_order() {
    let (_temporary, dir) = log_dir();
    // No file is large enough for two batches.
    let log = open(&dir, &settings(1024));
    let count = LATER_MAX * 2 + 10;
    for number in 0..count {
        let room = log.reserve(finish_bytes(None)).expect("space");
        log.append_later(room, &finished(None, &outcome(&number.to_string())))
            .expect("taken");
    }
    // Others may have been written at any moment; no more than one batch still waits.
    assert!(events(&dir, "request.finished").len() + LATER_MAX >= count);
    log.close().expect("a closed log");
    let numbers: Vec<usize> = events(&dir, "request.finished")
        .iter()
        .map(|line| line["status"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    assert!(segments(&dir).len() > 2);
    assert_whole(&dir);
}

#[test]
fn after_closing_nothing_is_taken() {
    let (_temporary, dir) = log_dir();
    let log = open(&dir, &settings(1 << 20));
    log.close().expect("a closed log");
    log.close().expect("closing again does nothing");
    assert!(matches!(log.append(&lost(1)), Err(Error::Broken { .. })));
    assert!(matches!(log.reserve(1), Err(Error::Broken { .. })));
    assert_eq!(lines(&dir).len(), 2);
}

#[test]
fn closing_gives_back_the_space_that_was_set_aside() {
    use std::os::unix::fs::MetadataExt as _;
    let (_temporary, dir) = log_dir();
    let path = dir.join("audit-000000000001.jsonl");
    let log = open(&dir, &settings(64 << 20));
    assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20);
    log.close().expect("a closed log");
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
}

#[tokio::test]
async fn strict_lines_are_on_disk_when_they_are_acknowledged_and_share_syncs() {
    let (_temporary, dir) = log_dir();
    let log = Arc::new(open(&dir, &strict()));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            let sequence = log.append_durable(&lost(number)).await.expect("a line");
            log.synced() >= sequence
        });
    }
    while let Some(on_disk) = tasks.join_next().await {
        assert!(on_disk.expect("a task"));
    }
    log.close().expect("a closed log");
    assert_whole(&dir);
    assert_eq!(events(&dir, "kernel.lost").len(), 200);
}

#[tokio::test]
async fn relaxed_lines_come_to_the_disk_by_themselves_and_a_checkpoint_follows() {
    let (_temporary, dir) = log_dir();
    let log = open(&dir, &settings(1 << 20));
    let sequence = log.append(&lost(1)).expect("a line");
    // No `durable`, which would ask for it: only the thread's own clock.
    let mut synced = log.shared_synced();
    let reached = synced
        .wait_for(|synced| synced.sequence >= sequence.0)
        .await;
    assert!(reached.is_ok());
    drop(reached);
    let sealed = tokio::task::spawn_blocking(move || {
        loop {
            let checkpoint = checkpoint::read(&dir).unwrap().unwrap();
            if checkpoint.seq >= sequence.0 {
                return checkpoint.seq;
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(Sequence(sealed.await.unwrap()), sequence);
}

#[test]
fn entries_are_filtered_by_what_they_are_about() {
    let (_temporary, dir) = log_dir();
    let one = RawValue::from_string(r#"{"agent":"one"}"#.to_owned()).unwrap();
    let other = RawValue::from_string(r#"{"agent":"other"}"#.to_owned()).unwrap();
    let log = open(&dir, &settings(1024));
    let outcome = outcome("ok");
    for principal in [&one, &other, &one] {
        log.append(&finished(Some(principal), &outcome))
            .expect("a line");
    }
    log.append(&lost(1)).expect("a line");
    log.close().expect("a closed log");
    let any = Filter::default;
    let agent = |name: &str| Filter {
        agent: Some(name.to_owned()),
        ..any()
    };
    let event = |name: &str| Filter {
        event: Some(name.to_owned()),
        ..any()
    };
    let mut session = any();
    session.session = Some(Uuid::max());
    let mut request = any();
    request.request = Some(Uuid::nil());
    let mut since = any();
    since.since = Some(jiff::Timestamp::MAX);
    let rows = [
        (any(), 6 + events(&dir, "log.checkpoint").len()),
        (agent("one"), 2),
        (agent("nobody"), 0),
        (event("request"), 3),
        (event("request.fin"), 0),
        (session, 3),
        (request, 0),
        (since, 0),
    ];
    for (filter, count) in rows {
        let found = Entries::open(&dir, filter.clone())
            .expect("entries")
            .count();
        assert_eq!(found, count, "{filter:?}");
    }
}

#[test]
fn a_reader_at_the_end_goes_on_when_there_is_more() {
    let (_temporary, dir) = log_dir();
    written(&dir, 4, 1024);
    let only = Filter {
        event: Some("kernel.lost".to_owned()),
        ..Filter::default()
    };
    let (tail, mut more) = last(&dir, &only, 2).expect("a tail");
    let events: Vec<u64> = tail
        .iter()
        .map(|entry| {
            serde_json::from_str::<serde_json::Value>(&entry.line).unwrap()["count"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(events, [2, 3]);
    assert!(more.next().is_none());
    written(&dir, 3, 1024);
    assert_eq!(more.count(), 3, "a reader goes on where it was");
}
