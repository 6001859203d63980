//! Limits hold per agent, and places are given back.

use super::*;
use crate::policy::RefusalKind;

fn limits(connections: Option<u32>, requests_per_second: Option<u32>) -> config::Agent {
    config::Agent {
        connections,
        sessions: Some(1),
        requests_per_second,
        allow_privileged: false,
    }
}

#[test]
fn a_place_is_given_back_when_its_guard_drops() {
    let meter = Meter::default();
    let limits = limits(Some(2), None);
    let first = meter.connection(&limits).unwrap();
    let _second = meter.connection(&limits).unwrap();
    assert_eq!(
        meter.connection(&limits).unwrap_err().kind,
        RefusalKind::Limit
    );
    drop(first);
    assert!(meter.connection(&limits).is_ok());
}

#[test]
fn no_limit_means_no_limit() {
    let meter = Meter::default();
    let limits = limits(None, None);
    let held: Vec<_> = (0..1000)
        .map(|_| meter.connection(&limits).unwrap())
        .collect();
    assert_eq!(meter.connections_now(), 1000);
    drop(held);
    assert_eq!(meter.connections_now(), 0);
    assert!((0..1000).all(|_| meter.request(&limits).is_ok()));
}

#[test]
fn a_burst_of_one_second_is_all_there_is() {
    let meter = Meter::default();
    // One token a second: whatever the machine does, a hundred requests do not take 99 seconds.
    let limits = limits(None, Some(1));
    let admitted = (0..100).filter(|_| meter.request(&limits).is_ok()).count();
    assert!((1..100).contains(&admitted), "{admitted} of 100 admitted");
}

#[test]
fn agents_do_not_share_a_meter() {
    let meters = Meters::default();
    let limits = limits(Some(1), None);
    let _held = meters.of("one").connection(&limits).unwrap();
    assert!(meters.of("two").connection(&limits).is_ok());
    assert!(meters.of("one").connection(&limits).is_err());
}

#[tokio::test]
async fn what_is_worked_out_beside_takes_turns() {
    let meter = Meter::default();
    let first = meter.turn().await;
    assert!(Arc::clone(&meter.aside).try_lock_owned().is_err());
    drop(first);
    drop(meter.turn().await);
}

#[test]
fn meters_that_count_nothing_are_forgotten_where_there_are_many() {
    let meters = Meters::default();
    let limits = config::Agent::default();
    let busy = meters.of("busy");
    let slot = busy.connection(&limits).unwrap();
    drop(busy);
    // Held by somebody who is about to count.
    let held = meters.of("held");
    // It would be given more than its share this second.
    let rate = config::Agent {
        requests_per_second: Some(1),
        ..config::Agent::default()
    };
    meters.of("spent").request(&rate).unwrap();
    for number in 0..KEPT * 3 {
        drop(meters.of(&format!("name-{number}")));
    }
    let all = meters.all();
    assert!(all.len() <= KEPT, "{} are kept", all.len());
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"busy") && names.contains(&"held"));
    assert!(Arc::ptr_eq(&held, &meters.of("held")));
    assert_eq!(meters.of("busy").connections_now(), 1);
    drop(slot);
    assert_eq!(meters.of("busy").connections_now(), 0);
}
