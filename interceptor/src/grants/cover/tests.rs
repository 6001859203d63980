//! What lies in what, and whose a grant is.

use super::super::TICK;
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

/// One of each kind and more, which lie in each other, beside each other, or have each other's names.
fn of_each_kind() -> Vec<Resource> {
    let file = |path: &[&str]| Resource::File {
        path: path.iter().map(|part| (*part).to_owned()).collect(),
    };
    let object = |namespace: &str, name: &str| Resource::KubeObject {
        namespace: namespace.to_owned(),
        resource: "pods".to_owned(),
        name: name.to_owned(),
    };
    let namespace = |namespace: &str| Resource::KubeNamespace {
        namespace: namespace.to_owned(),
    };
    let forward = |port| Resource::Forward {
        host: "a".to_owned(),
        port,
    };
    let mut all = vec![Resource::Target, Resource::Database];
    all.extend(["a", "b"].map(|name| resource("schema", name)));
    all.extend(["a.b", "a.c", "b.b"].map(|name| resource("table", name)));
    all.extend(["a.b.c", "a.c.c", "b.b.c"].map(|name| resource("column", name)));
    all.extend(["a.b", "b.b"].map(|name| resource("function", name)));
    all.extend(["/", "/a", "/a/b", "/ab"].map(|name| resource("path", name)));
    all.extend([&["a"][..], &["a", "b"], &["ab"], &[]].map(file));
    all.extend([forward(1), forward(2), namespace("a"), namespace("b")]);
    all.extend([
        object("a", ""),
        object("a", "x"),
        object("b", "x"),
        object("a", "y"),
    ]);
    all
}

#[test]
fn what_lies_in_what_is_as_policy_has_it_and_nothing_of_it_is_passed_over() {
    let all = of_each_kind();
    for outer in &all {
        for inner in &all {
            let lies = lies_in(inner, outer);
            assert_eq!(
                lies,
                crate::policy::lies_in(inner, outer),
                "{inner:?} in {outer:?}"
            );
            let key = key(outer);
            let is_looked_at = key.is_none() || around(inner).contains(&key);
            assert!(is_looked_at || !lies, "{inner:?} in {outer:?}");
            // What has a number is told by it alone.
            assert!(
                key.is_none() || is_looked_at == lies,
                "{inner:?} in {outer:?}"
            );
        }
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
fn a_grant_is_its_process_trees_by_number_and_start_whatever_it_executes() {
    let asker = principal(40, &[30, 20]);
    let holder = Holder::of(&asker, 7);
    let root = holder.root.clone().unwrap();
    assert_eq!(root.pid, 20);
    assert!(holds(&holder, &asker));
    // Another child of the same root, and the root itself.
    assert!(holds(&holder, &principal(50, &[20])));
    assert!(holds(&holder, &principal(20, &[])));
    assert!(!holds(&holder, &principal(40, &[30])));
    // The same scope as another agent's.
    let mut anew = principal(50, &[20]);
    anew.agent = "other".to_owned();
    assert!(!holds(&holder, &anew));
    // The number given away again.
    let mut later = principal(50, &[20]);
    later.ancestors[0].started = BootTime(root.started.0 + TICK);
    assert!(!holds(&holder, &later));
    // Another program in the same process, as a shell becomes the last command of its line.
    let mut other = principal(50, &[20]);
    other.ancestors[0].executable.sha256 = "other".to_owned();
    assert!(holds(&holder, &other));
    let mut other = principal(20, &[]);
    other.process.executable.sha256 = "other".to_owned();
    assert!(holds(&holder, &other));
}

#[test]
fn a_tree_is_the_same_by_its_scope_and_its_root() {
    let of = |pid: u32, ancestors: &[u32]| Holder::of(&principal(pid, ancestors), 7);
    let mut other = of(50, &[20]);
    assert!(other.is(&of(40, &[30, 20])));
    other.root.as_mut().unwrap().sha256 = "other".to_owned();
    assert!(other.is(&of(40, &[30, 20])));
    assert!(!other.is(&of(40, &[30])) && !other.is(&of(40, &[])) && !of(40, &[]).is(&other));
    assert!(of(40, &[]).is(&of(41, &[])));
    for change in [
        |holder: &mut Holder| holder.scope = 8,
        |holder: &mut Holder| holder.agent = "other".to_owned(),
        |holder: &mut Holder| holder.cgroup = "/other".to_owned(),
        |holder: &mut Holder| holder.root.as_mut().unwrap().started.0 += TICK,
    ] {
        let mut changed = other.clone();
        change(&mut changed);
        assert!(!changed.is(&other), "{changed:?}");
    }
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
