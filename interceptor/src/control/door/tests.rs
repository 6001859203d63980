//! The control sockets' door: how many may stand in it, and that one cannot keep others out.

use super::*;

fn at(millis: u64) -> BootTime {
    BootTime(millis * 1_000_000)
}

#[test]
fn one_user_cannot_keep_another_or_the_operator_out() {
    let guests = Arc::default();
    let inside: Vec<_> = (0..1_000)
        .filter_map(|visit| Place::take(&guests, Who::User(1), at(visit * 100)))
        .collect();
    assert_eq!(inside.len(), 32);
    assert!(Place::take(&guests, Who::User(2), at(0)).is_some());
    assert!(Place::take(&guests, Who::Operator, at(0)).is_some());
    drop(inside);
    assert!(Place::take(&guests, Who::User(1), at(200_000)).is_some());
}

#[test]
fn many_users_together_leave_the_operator_a_place() {
    let guests = Arc::default();
    let inside: Vec<_> = (0..10_000)
        .filter_map(|uid| Place::take(&guests, Who::User(uid), at(0)))
        .collect();
    assert_eq!(inside.len(), 256);
    assert!(Place::take(&guests, Who::Operator, at(0)).is_some());
    assert!(lock(&guests).known.len() <= REMEMBERED);
}

#[test]
fn visits_are_bounded_by_the_second() {
    let guests = Arc::default();
    let visits = |now| {
        (0..1_000)
            .filter(|_| Place::take(&guests, Who::User(1), now).is_some())
            .count()
    };
    assert_eq!(visits(at(0)), 50);
    assert_eq!(visits(at(0)), 0);
    assert_eq!(visits(at(200)), 10);
    assert_eq!(visits(at(60_000)), 50);
}

#[test]
fn an_agent_keeps_out_neither_its_users_other_agents_nor_its_user() {
    let guests = Arc::default();
    let inside: Vec<_> = (0..1_000)
        .filter_map(|visit| Place::take(&guests, Who::Scope(7), at(visit * 100)))
        .collect();
    assert_eq!(inside.len(), 32);
    assert!(Place::take(&guests, Who::Scope(8), at(0)).is_some());
    assert!(Place::take(&guests, Who::User(1), at(0)).is_some());
    let more: Vec<_> = (100..1_000)
        .filter_map(|scope| Place::take(&guests, Who::Scope(scope), at(0)))
        .collect();
    assert_eq!(inside.len() + more.len(), 256);
    assert!(Place::take(&guests, Who::User(1), at(0)).is_some());
    drop(inside);
    assert!(Place::take(&guests, Who::Scope(7), at(200_000)).is_some());
}
