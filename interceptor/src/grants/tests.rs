//! The life of a grant: used, ended, kept.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::identity::{Cgroup, Executable, Process, User};
use crate::policy::{Access, Held as _, Place};

/// A process of scope 7 and its ancestors, parent first.
pub(super) fn principal(pid: u32, ancestors: &[u32]) -> Principal {
    let process = |pid: u32| Process {
        pid,
        started: BootTime(u64::from(pid) * 1_000_000_000),
        executable: Executable {
            path: PathBuf::from("/bin/x"),
            sha256: format!("{pid:064x}"),
        },
        argv: Vec::new(),
        uid: 1000,
    };
    Principal {
        agent: "claude".to_owned(),
        user: User {
            uid: 1000,
            gid: 1000,
            name: None,
        },
        process: process(pid),
        ancestors: ancestors.iter().map(|pid| process(*pid)).collect(),
        cgroup: Cgroup {
            id: 8,
            path: "/a/b".to_owned(),
            scope: "/a".to_owned(),
        },
        container: None,
        privileged: false,
        identity: None,
    }
}

/// A grant of an hour for the whole of scope 7.
pub(super) fn grant(number: u128, uses: Option<u64>) -> Grant {
    Grant {
        id: GrantId(Uuid::from_u128(number)),
        holder: Holder::of(&principal(40, &[]), 7),
        target: "crm".to_owned(),
        database: Some("app".to_owned()),
        actions: BTreeSet::from([Action::Select]),
        resource: Resource::Database,
        issued: clock::wall(),
        expires: clock::wall(),
        from: clock::boot(),
        until: BootTime(clock::boot().0 + 3_599_000_000_000),
        uses,
        reason: "a test".to_owned(),
        ticket: None,
    }
}

struct Place_ {
    _directory: tempfile::TempDir,
    file: PathBuf,
}

fn place() -> Place_ {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grants.db");
    Place_ {
        _directory: directory,
        file,
    }
}

fn covered(grants: &Grants, running: bool) -> Option<GrantId> {
    let principal = principal(41, &[]);
    let mut holding = Holding::new(grants, &principal, 7);
    if running {
        holding = holding.running();
    }
    let place = Place {
        target: "crm",
        database: "app",
    };
    let access = Access {
        action: Action::Select,
        resource: Resource::Database,
    };
    holding.cover(place, &access, Duration::from_secs(3_600))
}

#[tokio::test]
async fn a_hundred_at_once_use_a_grant_as_often_as_it_says_and_no_more() {
    let place = place();
    let grants = Arc::new(Grants::open(&place.file).unwrap());
    let granted = grant(1, Some(3));
    let id = granted.id;
    grants.issue(granted).await.unwrap();
    let tries: Vec<_> = (0..100)
        .map(|_| {
            let grants = Arc::clone(&grants);
            tokio::spawn(async move { grants.take(&[id]).await })
        })
        .collect();
    let (mut taken, mut last) = (0, 0);
    for attempt in tries {
        match attempt.await.unwrap() {
            Ok(spent) => {
                taken += 1;
                last += spent.len();
            }
            Err(error) => assert!(matches!(error, Error::Spent), "{error}"),
        }
    }
    assert_eq!((taken, last), (3, 1));
    // As the next daemon finds it.
    drop(grants);
    let grants = Grants::open(&place.file).unwrap();
    assert_eq!(grants.all(None)[0].used, 3);
    assert!(matches!(grants.take(&[id]).await, Err(Error::Spent)));
    assert_eq!(covered(&grants, false), None);
}

#[tokio::test]
async fn a_use_is_on_disk_before_it_is_given() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let granted = grant(1, Some(5));
    let id = granted.id;
    grants.issue(granted).await.unwrap();
    for used in 1..=3_i64 {
        grants.take(&[id]).await.unwrap();
        // What another process reads now is what a daemon that was killed now would find.
        let other = rusqlite::Connection::open(&place.file).unwrap();
        let count: i64 = other
            .query_row("select used from grants", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, used);
    }
}

#[tokio::test]
async fn a_grant_that_ended_covers_nothing_and_stays_ended() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    for (number, why) in [(1, Ended::Revoked), (2, Ended::Exited), (3, Ended::Expired)] {
        let granted = grant(number, None);
        let id = granted.id;
        grants.issue(granted).await.unwrap();
        assert_eq!(covered(&grants, false), Some(id));
        assert_eq!(grants.take(&[id]).await.unwrap(), []);
        let before = grants.number();
        let ended = grants.end(id, why).unwrap();
        grants.keep_end(id, why).await.unwrap();
        assert_eq!((ended.grant.id, ended.used), (id, 1));
        assert!(grants.number() != before);
        assert_eq!(covered(&grants, true), None);
        assert!(matches!(grants.take(&[id]).await, Err(Error::Spent)));
        assert!(grants.end(id, why).is_none());
    }
    drop(grants);
    assert!(Grants::open(&place.file).unwrap().all(None).is_empty());
}

#[tokio::test]
async fn what_took_the_last_use_goes_on_and_nothing_new_begins() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let granted = grant(1, Some(1));
    let id = granted.id;
    grants.issue(granted).await.unwrap();
    assert_eq!(grants.take(&[id]).await.unwrap(), [id]);
    assert_eq!(covered(&grants, false), None);
    assert_eq!(covered(&grants, true), Some(id));
    assert!(grants.end(id, Ended::Used).is_some());
    assert!(grants.end(id, Ended::Used).is_none());
    assert_eq!(covered(&grants, true), Some(id));
    // Taking it back ends that too.
    assert!(grants.end(id, Ended::Revoked).is_some());
    assert_eq!(covered(&grants, true), None);
}

#[tokio::test]
async fn a_grant_whose_time_is_over_covers_nothing_though_nobody_has_ended_it() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let mut granted = grant(1, None);
    granted.until = granted.from;
    let id = granted.id;
    grants.issue(granted).await.unwrap();
    assert_eq!(covered(&grants, true), None);
    assert!(matches!(grants.take(&[id]).await, Err(Error::Spent)));
    assert_eq!(grants.due(clock::boot()).0, [id]);
}

#[tokio::test]
async fn a_grant_covers_nothing_that_may_be_granted_for_less() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let mut granted = grant(1, None);
    granted.until = BootTime(granted.from.0 + 3_601_000_000_000);
    grants.issue(granted).await.unwrap();
    assert_eq!(covered(&grants, false), None);
}

#[tokio::test]
async fn grants_of_an_earlier_boot_are_over() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    grants.issue(grant(1, None)).await.unwrap();
    drop(grants);
    let other = rusqlite::Connection::open(&place.file).unwrap();
    other
        .execute("update grants set boot = 'another'", [])
        .unwrap();
    let grants = Grants::open(&place.file).unwrap();
    assert!(grants.all(None).is_empty());
    let why: String = other
        .query_row("select ended from grants", [], |row| row.get(0))
        .unwrap();
    assert_eq!(why, "restarted");
}

#[tokio::test]
async fn a_scope_has_so_many_grants_and_no_more() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    for number in 0..OF_ONE {
        grants.table.enter(grant(number as u128 + 1, None), 0);
    }
    let refused = grants.issue(grant(9_999, None)).await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
}
