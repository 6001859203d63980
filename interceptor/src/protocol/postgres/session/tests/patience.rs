//! Statements that run too long, and transactions that wait too long.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::super::{EndReason, Patience, Start, Why};
use super::rig::Rig;

/// Long enough for nothing: what is to happen happens by the deadline, or never.
const SHORT: Duration = Duration::from_millis(50);

fn statement(start: &mut Start) {
    start.patience = Patience {
        statement: Some(SHORT),
        idle_in_transaction: None,
        obeys: Duration::from_secs(3600),
    };
}

fn transaction(start: &mut Start) {
    start.patience = Patience {
        idle_in_transaction: Some(SHORT),
        ..Patience::default()
    };
}

#[tokio::test]
async fn a_statement_that_runs_too_long_is_cancelled_and_the_session_goes_on() {
    for (script, told) in [
        ("Q sleep t", "E:57014 Z:I"),
        ("P - sleep t|B - -|E -|S", "1 2 E:57014 Z:I"),
        ("Q insert a|Q sleep t", "C:INSERT_0_1 Z:I E:57014 Z:I"),
        (
            "Q begin|Q sleep t|Q rollback",
            "C:BEGIN Z:T E:57014 Z:E C:ROLLBACK Z:I",
        ),
    ] {
        let mut rig = Rig::with(512, statement);
        rig.send(script).await;
        rig.send("Q insert b").await;
        let (all, end, log, gate) = rig.finish().await;
        assert_eq!(all, format!("{told} C:INSERT_0_1 Z:I"), "{script}");
        assert!(matches!(end.why, Why::Client), "{script}: {:?}", end.why);
        assert_eq!(log.committed.last().unwrap(), "insert b", "{script}");
        assert!(gate.statuses().contains(&"sleep t: 57014".to_owned()));
    }
}

#[tokio::test]
async fn a_server_that_does_not_obey_loses_the_session() {
    for (script, told) in [
        ("Q hang t", "E:57014"),
        ("P - hang t|B - -|E -|S", "E:57014"),
        ("Q rows 2 t|Q hang t", "T D D C:SELECT_2 Z:I E:57014"),
    ] {
        let mut rig = Rig::with(512, |start| {
            statement(start);
            start.patience.obeys = SHORT;
        });
        rig.send(script).await;
        assert_eq!(rig.read_until("never").await, told, "{script}");
        let end = rig.relay.await.unwrap();
        let reason = Why::Ended(EndReason::Statement);
        assert_eq!(end.why.to_string(), reason.to_string(), "{script}");
        rig.gate.assert_balanced();
        assert!(*rig.cancelled.lock().unwrap() > 0, "{script}");
        rig.server.abort();
    }
}

/// The statement behind the one that is cancelled must not be hit.
#[tokio::test]
async fn while_a_cancel_is_on_its_way_nothing_new_goes_upstream() {
    let way = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&way);
    let mut rig = Rig::with(512, move |start| {
        statement(start);
        let cancel = std::mem::replace(&mut start.cancel, Box::new(|| Box::pin(async {})));
        let cancel = Arc::new(cancel);
        start.cancel = Box::new(move || {
            let (cancel, held) = (Arc::clone(&cancel), Arc::clone(&held));
            Box::pin(async move {
                cancel().await;
                held.acquire().await.unwrap().forget();
            })
        });
    });
    rig.send("Q sleep t").await;
    assert_eq!(rig.read_until("Z:I").await, "E:57014 Z:I");
    rig.send("Q insert a").await;
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.log.lock().unwrap().came.len(), 1);
    way.add_permits(100);
    assert_eq!(rig.read_until("Z:I").await, "C:INSERT_0_1 Z:I");
    rig.finish().await;
}

#[tokio::test]
async fn a_log_that_is_streamed_takes_as_long_as_it_takes() {
    let mut rig = Rig::with(512, |start| {
        start.patience = Patience {
            statement: Some(SHORT),
            idle_in_transaction: Some(SHORT),
            ..Patience::default()
        };
    });
    rig.send("Q replicate t|d x").await;
    assert_eq!(rig.read_until("d").await, "W d");
    tokio::time::sleep(4 * SHORT).await;
    rig.send("c|Q insert a").await;
    assert_eq!(rig.read_until("Z:I").await, "c T D C:START_STREAMING Z:I");
    assert_eq!(*rig.cancelled.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_transaction_that_waits_too_long_is_ended_and_so_is_a_pipeline_without_its_end() {
    for (script, told) in [
        ("Q begin|Q insert a", "C:BEGIN Z:T C:INSERT_0_1 Z:T E:25P03"),
        ("Q begin|Q fail a", "C:BEGIN Z:T E:22012 Z:E E:25P03"),
        ("P - insert a|B - -|E -|H", "1 2 C:INSERT_0_1 E:25P03"),
    ] {
        let mut rig = Rig::with(512, transaction);
        rig.send(script).await;
        assert_eq!(rig.read_until("never").await, told, "{script}");
        let end = rig.relay.await.unwrap();
        let reason = Why::Ended(EndReason::IdleInTransaction);
        assert_eq!(end.why.to_string(), reason.to_string(), "{script}");
        rig.gate.assert_balanced();
        assert_eq!(*rig.cancelled.lock().unwrap(), 0, "{script}");
        rig.server.await.unwrap();
        let log = rig.log.lock().unwrap();
        assert!(log.committed.is_empty(), "{script}: {:?}", log.committed);
    }
}

#[tokio::test]
async fn who_has_no_transaction_open_may_wait() {
    let mut rig = Rig::with(512, transaction);
    rig.send("Q insert a|P - insert b|B - -|E -|S").await;
    rig.read_until("Z:I").await;
    rig.read_until("Z:I").await;
    tokio::time::sleep(4 * SHORT).await;
    rig.send("Q insert c").await;
    assert_eq!(rig.read_until("Z:I").await, "C:INSERT_0_1 Z:I");
    let (_, end, log, _) = rig.finish().await;
    assert!(matches!(end.why, Why::Client), "{:?}", end.why);
    assert_eq!(log.committed.len(), 3);
}

/// Sends `script`, and a cancel once the gate has been asked `asked` times, then lets everything go.
async fn cancelled_while_asked(script: &str, asked: usize) -> (String, Vec<String>, Vec<String>) {
    let interrupted = Arc::new(Notify::new());
    let mut rig = Rig::with(512, |start| {
        start.interrupted = Arc::clone(&interrupted);
    });
    rig.gate.holds.store(true, Ordering::SeqCst);
    rig.send(script).await;
    for before in (0..asked).rev() {
        rig.gate.asked.notified().await;
        if before > 0 {
            rig.gate.go.notify_one();
        }
    }
    // What was let go before has run by now, or sleeps.
    settle().await;
    interrupted.notify_waiters();
    rig.log.lock().unwrap().cancel.notify_one();
    settle().await;
    rig.gate.holds.store(false, Ordering::SeqCst);
    rig.gate.go.notify_one();
    let (told, _, log, gate) = rig.finish().await;
    (told, log.committed, gate.statuses())
}

/// Nothing else runs on this thread any more but what waits.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_cancel_is_for_what_waits_here_where_the_server_runs_nothing() {
    for (script, asked, told, committed, status) in [
        ("Q insert a", 1, "E:57014 Z:I", &[][..], "insert a: 57014"),
        (
            "P - insert a|B - -|E -|S|Q insert b",
            2,
            "1 2 E:57014 Z:I C:INSERT_0_1 Z:I",
            &["insert b"],
            "insert a: 57014",
        ),
        (
            "Q begin|Q insert a|Q rollback",
            2,
            "C:BEGIN Z:T E:57014 Z:E C:ROLLBACK Z:I",
            &[],
            "insert a: 57014",
        ),
        // It was for what the server ran.
        (
            "Q sleep t|Q insert a",
            2,
            "E:57014 Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
            "sleep t: 57014",
        ),
    ] {
        let (all, ran, statuses) = cancelled_while_asked(script, asked).await;
        assert_eq!(all, told, "{script}");
        assert_eq!(ran, committed, "{script}");
        assert!(statuses.contains(&status.to_owned()), "{statuses:?}");
    }
}

#[tokio::test]
async fn a_cancel_that_finds_nothing_is_for_nothing_that_is_asked_later() {
    let interrupted = Arc::new(Notify::new());
    let mut rig = Rig::with(512, |start| {
        start.interrupted = Arc::clone(&interrupted);
    });
    settle().await;
    interrupted.notify_waiters();
    settle().await;
    rig.send("Q insert a").await;
    assert_eq!(rig.finish().await.0, "C:INSERT_0_1 Z:I");
}
