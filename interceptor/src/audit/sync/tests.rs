//! When what is done, over times that never were.

use super::*;

const NEVER: Duration = Duration::from_secs(3600);
/// Where the made-up clock begins.
const START: BootTime = BootTime(1_000_000_000_000);

fn tip(sequence: u64) -> Tip {
    Tip {
        sequence,
        hash: Chain::START.prev,
        segment: Name(1),
        length: 0,
    }
}

/// Everything up to `sequence` is on disk, with a checkpoint of `checkpoint`.
fn done(sequence: u64, checkpoint: u64) -> Done {
    Done {
        synced: tip(sequence),
        checkpoint,
        at: START,
        vouched: START,
        said: None,
    }
}

fn after(time: Duration) -> BootTime {
    START.after(time)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn a_line_is_synced_when_others_had_their_time_to_share_it() {
    let waiting = Waiting {
        unsynced: Some(START),
        ..Waiting::default()
    };
    let at = |time| done(7, 7).due(waiting, NEVER, after(time));
    assert_eq!(at(Duration::ZERO), Due::Wait(SHARE));
    assert_eq!(at(millis(19)), Due::Wait(millis(1)));
    for late in [SHARE, PROMISED, NEVER] {
        assert_eq!(at(late), Due::Sync);
    }
    // What is left of what is promised is the disk's.
    assert!(SHARE * 2 < PROMISED);
}

#[test]
fn whoever_waits_for_a_line_does_not_wait_for_others() {
    for (urgent, closing) in [(true, false), (false, true), (true, true)] {
        let waiting = Waiting {
            unsynced: Some(START),
            urgent,
            closing,
            unvouched: false,
        };
        assert_eq!(done(7, 7).due(waiting, NEVER, START), Due::Sync);
    }
}

#[test]
fn a_sync_that_is_due_goes_before_a_checkpoint_that_is() {
    let waiting = Waiting {
        unsynced: Some(START),
        ..Waiting::default()
    };
    let both = after(CHECKPOINT_EVERY);
    assert_eq!(done(7, 3).due(waiting, NEVER, both), Due::Sync);
    let many = done(CHECKPOINT_LINES + 3, 3);
    assert_eq!(many.due(waiting, NEVER, after(SHARE)), Due::Sync);
    // A checkpoint that is due meanwhile does not put the sync off.
    let soon = millis(10);
    let waiting = Waiting {
        unsynced: Some(after(CHECKPOINT_EVERY - soon)),
        ..waiting
    };
    let now = after(CHECKPOINT_EVERY - soon);
    assert_eq!(done(7, 3).due(waiting, NEVER, now), Due::Wait(soon));
}

#[test]
fn checkpoints_come_by_time_and_by_lines_and_only_for_something_new() {
    let idle = Waiting::default();
    assert_eq!(done(7, 7).due(idle, NEVER, after(NEVER)), Due::Rest);
    let new = done(7, 3);
    assert_eq!(new.due(idle, NEVER, START), Due::Wait(CHECKPOINT_EVERY));
    let later = after(CHECKPOINT_EVERY);
    assert_eq!(new.due(idle, NEVER, later), Due::Checkpoint);
    let many = done(CHECKPOINT_LINES + 3, 3);
    assert_eq!(many.due(idle, NEVER, START), Due::Checkpoint);
    let closing = Waiting {
        closing: true,
        ..idle
    };
    assert_eq!(new.due(closing, NEVER, START), Due::End);
}

#[test]
fn the_log_is_vouched_for_when_that_is_due() {
    let unvouched = Waiting {
        unvouched: true,
        ..Waiting::default()
    };
    let every = Duration::from_secs(60);
    let done = done(7, 7);
    assert_eq!(done.due(unvouched, every, START), Due::Wait(every));
    assert_eq!(done.due(unvouched, every, after(every)), Due::Vouch);
    let closing = Waiting {
        closing: true,
        ..unvouched
    };
    assert_eq!(done.due(closing, every, after(every)), Due::End);
}

#[test]
fn whoever_waited_longer_than_is_promised_is_counted() {
    let waits = Waits::default();
    assert!(!waits.note(Duration::ZERO));
    assert!(!waits.note(PROMISED));
    assert!(waits.note(PROMISED + millis(1)));
    assert!(waits.note(millis(70)));
    assert!(!waits.note(millis(1)));
    assert_eq!(waits.all(), (2, millis(70)));
}
