//! Recordings go when their time is over, and only with a line that says so.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::{begin, log, settings};
use crate::audit::verify::{Trust, verify_with};
use crate::audit::{Event, Log, Sink as _};
use crate::clock;
use crate::config::Keep;
use crate::recording::retention::{Due, Hold, due, settle_lost, sweep};
use crate::recording::verify::{Report, Vouched};
use crate::recording::{Reader, Recorder, find};
use crate::session::Direction;

/// Three closed recordings, the oldest first, and one that is open.
async fn four(state: &Path) -> (Arc<Log>, Recorder, crate::recording::Writer) {
    let audit = log(state);
    let root = state.join("recordings");
    let recorder =
        Recorder::open(&root, &settings(1 << 20, None), Arc::<Log>::clone(&audit)).unwrap();
    for number in 1..=3 {
        let writer = begin(&recorder, Uuid::from_u128(number), "one");
        writer
            .record(Direction::Sent, Bytes::from(vec![1; 50]))
            .await
            .expect("recorded");
        writer.close("client").await.expect("closed");
    }
    let open = begin(&recorder, Uuid::from_u128(4), "one");
    (audit, recorder, open)
}

fn sessions(due: &[Due]) -> Vec<u128> {
    due.iter().map(|due| due.meta.session.as_u128()).collect()
}

fn later() -> Timestamp {
    clock::wall()
        .checked_add(jiff::SignedDuration::from_hours(2))
        .unwrap()
}

fn known(state: &Path) -> Vouched {
    let mut vouched = Vouched::default();
    verify_with(&state.join("audit"), Trust::default(), &mut |line| {
        vouched.take(line)
    })
    .unwrap();
    vouched
}

fn check(state: &Path) -> Report {
    let vouched = known(state);
    let checked = vouched.check(&state.join("recordings")).unwrap();
    checked.by(&vouched)
}

#[tokio::test]
async fn what_is_too_old_or_too_much_is_over_and_what_is_held_or_open_is_not() {
    let state = tempfile::tempdir().unwrap();
    let root = state.path().join("recordings");
    let (_audit, _recorder, _open) = four(state.path()).await;
    let keep = |age: Option<u64>, bytes| Keep {
        age: age.map(Duration::from_secs),
        bytes,
    };
    let found = |keep: Keep, now| sessions(&due(&root, |_target| keep, now).unwrap());
    assert_eq!(found(Keep::default(), later()), [0; 0]);
    assert_eq!(found(keep(Some(3600), None), later()), [1, 2, 3]);
    assert_eq!(found(keep(Some(3600), None), clock::wall()), [0; 0]);
    let all = due(&root, |_target| keep(Some(1), None), later()).unwrap();
    let one = all[0].bytes;
    // The open one counts, and stays.
    assert_eq!(found(keep(None, Some(one * 3)), later()), [1]);
    assert_eq!(found(keep(None, Some(0)), later()), [1, 2, 3]);
    let hold = Hold {
        reason: "a case".to_owned(),
        by: "alice".to_owned(),
        since: clock::wall(),
    };
    let dir = find(&root, &Uuid::from_u128(1).to_string()).unwrap();
    hold.put(&dir).unwrap();
    assert_eq!(Hold::of(&dir), Some(hold));
    let listed = &all[0];
    assert!(
        listed.is_held(),
        "also where it was found to be over before"
    );
    assert!(listed.purge().is_err(), "and then it is not purged");
    assert!(dir.exists());
    assert_eq!(found(keep(Some(3600), None), later()), [2, 3]);
    std::fs::write(dir.join("hold.json"), "{").unwrap();
    assert_eq!(
        found(keep(Some(3600), None), later()),
        [2, 3],
        "unreadable, it holds"
    );
    assert!(Hold::release(&dir).unwrap());
    assert!(!Hold::release(&dir).unwrap());
    assert_eq!(found(keep(Some(3600), None), later()), [1, 2, 3]);
    let other = |target: &str| match target {
        "main" => Keep::default(),
        _ => keep(Some(1), None),
    };
    assert!(
        due(&root, other, later()).unwrap().is_empty(),
        "each target for itself"
    );
}

#[tokio::test]
async fn what_is_purged_with_a_line_is_explained_and_without_one_is_missing() {
    let state = tempfile::tempdir().unwrap();
    let root = state.path().join("recordings");
    let (audit, _recorder, _open) = four(state.path()).await;
    let keep = Keep {
        age: Some(Duration::from_secs(1)),
        bytes: None,
    };
    let all = due(&root, |_target| keep, later()).unwrap();
    all[0].purge().unwrap();
    assert!(!check(state.path()).is_whole());
    let tail = all[1].tail().unwrap();
    assert_eq!(tail.as_ref().map(String::len), Some(64));
    for due in &all[..2] {
        let event = Event::RecordingPurged {
            session: due.meta.session,
            target: "main",
            agent: due.meta.agent(),
            started: due.meta.started,
            bytes: due.bytes,
            tail: tail.clone(),
            why: due.why,
        };
        audit.append(&event).unwrap();
    }
    // The line of the second is there, it is not gone yet: no harm.
    let report = check(state.path());
    assert!(report.is_whole() && report.purged == 1, "{report:?}");
    all[1].purge().unwrap();
    let report = check(state.path());
    assert!(report.is_whole() && report.purged == 2, "{report:?}");
    // One that a crash left half removed goes with the next look.
    let day = all[2].dir.parent().unwrap();
    let half = day.join(format!("{}.purged", Uuid::from_u128(2)));
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join("000001.rec"), "x").unwrap();
    sweep(&root).unwrap();
    assert!(!half.exists() && all[2].dir.exists());
}

#[tokio::test]
async fn what_a_daemon_left_that_died_is_vouched_for_and_over() {
    let state = tempfile::tempdir().unwrap();
    let root = state.path().join("recordings");
    let (audit, _recorder, open) = four(state.path()).await;
    open.record(Direction::Sent, Bytes::from(vec![2; 50]))
        .await
        .expect("recorded");
    // Another of the same thread: what was queued before it is written before it.
    for number in 5..9 {
        begin(&_recorder, Uuid::from_u128(number), "other")
            .close("client")
            .await
            .expect("closed");
    }
    let sink: Arc<dyn crate::audit::Sink> = Arc::<Log>::clone(&audit);
    let settle = |since| {
        let known = |_since| Ok(known(state.path()));
        settle_lost(&root, since, &sink, known).unwrap()
    };
    assert_eq!(settle(Timestamp::UNIX_EPOCH), 0, "begun by this one");
    assert!(check(state.path()).unvouched_bytes > 0);
    assert_eq!(settle(later()), 1);
    assert_eq!(settle(later()), 0, "once");
    let report = check(state.path());
    assert!(
        report.is_whole() && report.unvouched_bytes == 0,
        "{report:?}"
    );
    let dir = find(&root, &Uuid::from_u128(4).to_string()).unwrap();
    let mut reader = Reader::open(&dir).unwrap();
    assert!(reader.meta().ended.as_ref().unwrap().is_lost());
    assert!(
        reader.all(|frame| frame.is_ok()),
        "it is read without its end"
    );
}
