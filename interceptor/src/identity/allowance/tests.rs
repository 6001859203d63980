//! What a scope's refusals may cost, on a clock of the test's own.

use super::*;

const START: BootTime = BootTime(1_000_000_000_000);

fn after(millis: u64) -> BootTime {
    BootTime(START.0 + millis * 1_000_000)
}

#[test]
fn what_is_spent_comes_back_at_a_tenth_of_the_speed_of_time() {
    let allowance = Allowance::new(START);
    assert!(allowance.admit(START).is_some());
    allowance.charge(Duration::from_millis(1_100), 0);
    assert!(allowance.admit(START).is_none(), "in debt");
    assert!(allowance.admit(after(999)).is_none(), "still in debt");
    assert!(allowance.admit(after(1_001)).is_some(), "the debt is paid");
}

#[test]
fn nothing_is_saved_beyond_the_first_purse() {
    let allowance = Allowance::new(START);
    let late = after(1_000_000);
    assert!(allowance.admit(late).is_some());
    allowance.charge(Duration::from_millis(1_000), 0);
    assert!(allowance.admit(late).is_none());
}

#[test]
fn a_long_line_costs_as_a_long_look_does() {
    let allowance = Allowance::new(START);
    allowance.charge(Duration::ZERO, 1 << 20);
    assert!(allowance.admit(START).is_none());
}

#[test]
fn asking_often_earns_no_less_than_asking_once() {
    let allowance = Allowance::new(START);
    allowance.charge(Duration::from_millis(1_010), 0);
    let mut at = START;
    while at.0 < after(99).0 {
        assert!(allowance.admit(at).is_none());
        // Far less than what earns a microsecond.
        at = BootTime(at.0 + 3_001);
    }
    assert!(allowance.admit(after(102)).is_some());
}

#[test]
fn a_debt_has_an_end() {
    let allowance = Allowance::new(START);
    allowance.charge(Duration::from_secs(86_400), 0);
    assert!(allowance.admit(after(99_000)).is_none());
    assert!(allowance.admit(after(100_100)).is_some());
}

#[test]
fn those_who_wait_are_bounded() {
    let allowance = Allowance::new(START);
    let mut places: Vec<_> = (0..WAITING)
        .map(|_| allowance.admit(START).expect("room"))
        .collect();
    assert!(allowance.admit(START).is_none());
    places.pop();
    assert!(allowance.admit(START).is_some());
}
