//! What lies in what, and whose a grant is.

use super::super::tests::{grant, principal};
use super::*;
use crate::policy::{Access, Action};

fn resource(kind: &str, name: &str) -> Resource {
    Resource::named(kind, name).unwrap()
}

#[test]
fn a_grant_covers_its_resource_and_what_lies_in_it_and_nothing_beside() {
    let all = [
        Resource::Target,
        Resource::Database,
        resource("schema", "a"),
        resource("table", "a.t"),
        resource("column", "a.t.c"),
        resource("function", "a.f"),
        resource("schema", "b"),
        resource("table", "b.t"),
        resource("column", "a.u.c"),
    ];
    // One letter for each of the above: `x` where the grant on the row covers it.
    for (outer, row) in [
        (0, "xxxxxxxxx"),
        (1, ".xxxxxxxx"),
        (2, "..xxxx..x"),
        (3, "...xx...."),
        (4, "....x...."),
        (5, ".....x..."),
    ] {
        let covered: String = all
            .iter()
            .map(|inner| {
                if lies_in(inner, &all[outer]) {
                    'x'
                } else {
                    '.'
                }
            })
            .collect();
        assert_eq!(covered, row, "{:?}", all[outer]);
    }
}

#[test]
fn target_database_and_action_are_those_of_the_grant() {
    let mut grant = grant(1, None);
    let access = |action| Access {
        action,
        resource: resource("table", "public.orders"),
    };
    let at = |target, database| Place { target, database };
    assert!(covers(&grant, at("crm", "app"), &access(Action::Select)));
    assert!(!covers(&grant, at("erp", "app"), &access(Action::Select)));
    assert!(!covers(&grant, at("crm", "other"), &access(Action::Select)));
    assert!(!covers(&grant, at("crm", "app"), &access(Action::Delete)));
    grant.database = None;
    assert!(covers(&grant, at("crm", "other"), &access(Action::Select)));
}

#[test]
fn a_grant_is_its_process_trees_by_number_start_and_executable() {
    let asker = principal(40, &[30, 20]);
    let holder = Holder::of(&asker, 7);
    let root = holder.root.clone().unwrap();
    assert_eq!(root.pid, 20);
    assert!(holds(&holder, &asker));
    // Another child of the same root, and the root itself.
    assert!(holds(&holder, &principal(50, &[20])));
    assert!(holds(&holder, &principal(20, &[])));
    assert!(!holds(&holder, &principal(40, &[30])));
    // The number given away again; another program in the same process.
    let mut later = principal(50, &[20]);
    later.ancestors[0].started = BootTime(root.started.0 + TICK);
    assert!(!holds(&holder, &later));
    let mut other = principal(50, &[20]);
    other.ancestors[0].executable.sha256 = "other".to_owned();
    assert!(!holds(&holder, &other));
}

#[test]
fn who_is_topmost_in_its_scope_asks_for_the_scope() {
    let holder = Holder::of(&principal(40, &[]), 7);
    assert_eq!(holder.root, None);
    assert!(holds(&holder, &principal(99, &[98])));
    assert_eq!(Holder::asking(&principal(40, &[]), 7, true), holder);
}

#[test]
fn who_is_topmost_and_goes_on_asks_for_itself() {
    let holder = Holder::asking(&principal(40, &[]), 7, false);
    assert!(holds(&holder, &principal(40, &[])));
    assert!(holds(&holder, &principal(41, &[40])));
    assert!(!holds(&holder, &principal(99, &[98])));
    // Who has somebody above has it for all of theirs.
    for passing in [true, false] {
        let holder = Holder::asking(&principal(40, &[30, 20]), 7, passing);
        assert_eq!(holder, Holder::of(&principal(40, &[30, 20]), 7));
    }
}
