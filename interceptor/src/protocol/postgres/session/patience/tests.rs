//! Deadlines, on times that are made up.

use super::*;

const TEN: Duration = Duration::from_secs(10);

fn patience() -> Patience {
    Patience {
        statement: Some(TEN),
        idle_in_transaction: Some(2 * TEN),
        ..Patience::default()
    }
}

#[test]
fn each_wait_is_timed_from_its_own_beginning() {
    let start = Instant::now();
    let mut watch = Watch::new(start);
    let rows = [
        (0, Waits::Nobody, None),
        (900, Waits::Nobody, None),
        (1_000, Waits::Server(0), Some(1_010)),
        (1_009, Waits::Server(0), Some(1_010)),
        // Answered, and the next one runs: its time begins.
        (1_009, Waits::Server(1), Some(1_019)),
        (1_018, Waits::Server(2), Some(1_028)),
        (1_020, Waits::Client(3), Some(1_040)),
        (1_039, Waits::Client(3), Some(1_040)),
        // It went on, and waits again: not the same wait.
        (1_039, Waits::Client(4), Some(1_059)),
        (1_050, Waits::Nobody, None),
        (1_060, Waits::Client(5), Some(1_080)),
    ];
    for (at, waits, due) in rows {
        let after = |seconds| start + Duration::from_secs(seconds);
        let found = watch.due(waits, after(at), |waits| patience().with(waits));
        assert_eq!(found, due.map(after), "{at}: {waits:?}");
    }
}

#[test]
fn what_is_not_limited_is_never_due() {
    let mut watch = Watch::new(Instant::now());
    for waits in [Waits::Nobody, Waits::Server(0), Waits::Client(0)] {
        let none = Patience::default();
        assert_eq!(
            watch.due(waits, Instant::now(), |waits| none.with(waits)),
            None
        );
    }
}

#[tokio::test]
async fn a_deadline_that_moves_is_kept() {
    let now = Instant::now();
    let mut sleep = None;
    let at = |millis| now + Duration::from_millis(millis);
    poll_fn(|context| {
        // Early once, late once.
        assert!(poll_until(&mut sleep, at(3_600_000), context).is_pending());
        assert!(poll_until(&mut sleep, at(3_500_000), context).is_pending());
        Poll::Ready(())
    })
    .await;
    poll_fn(|context| poll_until(&mut sleep, at(20), context)).await;
    poll_fn(|context| poll_until(&mut sleep, at(40), context)).await;
    assert!(Instant::now() >= at(40));
}
