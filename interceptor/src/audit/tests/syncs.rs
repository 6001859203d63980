//! A kill at any of the syncs of a log: what was said to be on disk is there, once, and the chain is whole.

use std::path::Path;

use super::{lost, open, settings};
use crate::audit::{Sequence, Sink as _, verify};
use crate::state::testing::{acknowledge, killed_at_each_sync};

/// Tells a process of this test binary that it is the one to be killed, and where its log is.
const CHILD: &str = "INTERCEPTOR_TEST_AUDIT_SYNCS";

/// Runs in the killed process only. Segments are small: it begins new ones, and signs.
#[tokio::test]
async fn the_child_that_is_killed_at_its_syncs_writes() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let log = open(Path::new(&dir), &settings(4 << 10));
    for number in 0..12 {
        let Sequence(sequence) = log.append_durable(&lost(number)).await.expect("a line");
        acknowledge(&sequence.to_string());
    }
}

#[test]
fn a_kill_at_any_sync_loses_no_line_that_was_on_disk() {
    let test = "audit::tests::syncs::the_child_that_is_killed_at_its_syncs_writes";
    let killed = killed_at_each_sync((test, CHILD), |dir, lines| {
        let acknowledged = lines.last().map_or(0, |line| line.parse::<u64>().unwrap());
        // What the next start makes of it is whole, and each line is there once.
        drop(open(dir, &settings(4 << 10)));
        let report = verify(dir).expect("a report");
        assert!(report.is_whole(), "{lines:?}: {report:?}");
        assert!(report.lines >= acknowledged, "{report:?} {acknowledged}");
        let told = super::events(dir, "kernel.lost").len();
        assert!(
            told == lines.len() || told == lines.len() + 1,
            "{told} of {lines:?}"
        );
    });
    assert!(killed >= 8, "{killed} kills");
}
