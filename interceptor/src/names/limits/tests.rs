//! What is asked for is bounded: in a second, in an hour, in length and in letters.

use super::*;

fn at(seconds: u64) -> BootTime {
    BootTime(seconds * 1_000_000_000)
}

#[test]
fn a_scope_asks_so_often_and_no_other_waits_for_it() {
    let limits = Limits::default();
    let asked = |scope, now| (0..1000).filter(|_| limits.admit(scope, 10, now)).count();
    // Four seconds' worth at once, then as many as time gives.
    assert_eq!(asked(1, at(100)), 40);
    assert_eq!(asked(1, at(100)), 0);
    assert_eq!(asked(2, at(100)), 40);
    assert_eq!(asked(1, at(101)), 10);
    assert_eq!(asked(1, at(1000)), 40);
    limits.keep(|scope| scope == 2);
    assert_eq!(asked(1, at(1000)), 40);
    assert_eq!(asked(2, at(100)), 0);
}

#[test]
fn names_that_carry_data_are_not_asked_for() {
    let limits = Limits::default();
    let tunnels = |name: &str| limits.tunnels(1, name, at(1)).is_some();
    let fine = [
        "example.com",
        "d111111abcdef8.cloudfront.net",
        "internal-orders-db-1234567890.eu-west-1.elb.amazonaws.com",
        "a-host-name-of-many-words-in-a-row.example.com",
        "5d41402abc4b2a76b9719d911017c592.example.com",
        "files.pythonhosted.org",
    ];
    for name in fine {
        assert!(!tunnels(name), "{name}");
    }
    let long = format!("{}.example.com", ["abcdefg"; 16].join("."));
    let not = [
        // Base32 of random bytes, as tunnels write it.
        "mzxw6ytboi4tqmrtgq2tmnzyhazdgnbvgy3tqojqgezdgnbv.t.example.com",
        "q7w3k9x2m5b8v1n4c6z0l2j5h8g3f6d9.example.com",
        long.as_str(),
    ];
    for name in not {
        assert!(tunnels(name), "{name}");
    }
}

#[test]
fn a_domain_has_so_many_names_in_an_hour() {
    let limits = Limits::default();
    let ask = |name: String, now| limits.tunnels(1, &name, now).is_none();
    let many = |domain: &str, now| {
        let names = (0..2 * UNDER_ONE).map(|n| format!("{n}.{domain}"));
        names.filter(|name| ask(name.clone(), now)).count()
    };
    assert_eq!(many("example.com", at(1)), UNDER_ONE);
    // Those that were asked for may be asked for again.
    assert_eq!(many("example.com", at(2)), UNDER_ONE);
    assert_eq!(many("one.co.uk", at(2)), UNDER_ONE);
    assert_eq!(many("two.co.uk", at(2)), UNDER_ONE);
    assert!(!ask("new.deeper.example.com".into(), at(3)));
    assert!(ask("new.deeper.example.com".into(), at(3601)));
    // In all.
    let domains = (0..100).map(|n| many(&format!("d{n}.example"), at(3602)));
    assert_eq!(domains.sum::<usize>(), IN_ALL - 1);
}

#[test]
fn a_scope_whose_questions_are_not_answered_leaves_the_others_their_places() {
    let limits = Limits::default();
    let held: Vec<_> = std::iter::from_fn(|| limits.place(1, BootTime(0))).collect();
    assert_eq!(held.len(), OF_ONE);
    assert!(limits.place(2, BootTime(0)).is_some());
    drop(held);
    assert!(limits.place(1, BootTime(0)).is_some());
}

#[test]
fn every_scope_that_can_be_tagged_may_ask() {
    let limits = Limits::default();
    let now = BootTime(1);
    let asks = |scope: usize| limits.admit(u64::try_from(scope).unwrap(), 1, now);
    assert!((0..capture::MAX_SCOPES).all(asks));
}
