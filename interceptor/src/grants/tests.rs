//! The life of a grant: used, ended, kept.

mod crash;
mod life;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;

use uuid::Uuid;

use super::*;
use crate::identity::{Cgroup, Executable, Process, User};
use crate::policy::{Access, Counted, Held as _, Limit, Limits, Offer, Place, Terms, Want};
use crate::state::Sqlite;

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
        workload: None,
        privileged: false,
        identity: None,
    }
}

/// Somebody, for tests elsewhere.
pub(crate) fn a_principal() -> Principal {
    principal(40, &[])
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
        begins: None,
        expires: clock::wall(),
        from: clock::boot(),
        until: BootTime(clock::boot().0 + 3_599_000_000_000),
        budget: Budget {
            uses,
            ..Budget::default()
        },
        reason: "a test".to_owned(),
        ticket: None,
        word: Needs::new(),
        on_behalf_of: None,
    }
}

/// The same, which gives so many rows and bytes.
pub(super) fn grant_of(number: u128, rows: Option<u64>, bytes: Option<u64>) -> Grant {
    Grant {
        budget: Budget {
            uses: None,
            rows,
            bytes,
        },
        ..grant(number, None)
    }
}

struct Somewhere {
    _directory: tempfile::TempDir,
    file: PathBuf,
}

fn place() -> Somewhere {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grants.db");
    Somewhere {
        _directory: directory,
        file,
    }
}

async fn prepare(grants: &Grants, grant: Grant) -> Result<Coming<'_>, Error> {
    let reserved = grants.reserve(grant.holder.scope)?;
    grants.prepare(reserved, grant).await
}

/// Issues a grant; its name.
async fn issue(grants: &Grants, grant: Grant) -> GrantId {
    let coming = prepare(grants, grant).await.unwrap();
    grants.issue(coming).await.unwrap().grant.id
}

async fn use_once(grants: &Grants, id: GrantId) -> Result<Vec<Taken>, Error> {
    grants.take(&[id], Take::Answer(None)).await
}

/// Ends what is due, as the watch does.
async fn settle_due(grants: &Grants) -> Vec<(GrantId, Ended)> {
    let (due, _) = grants.due(clock::boot());
    settle(grants, due).await
}

async fn settle(grants: &Grants, due: Vec<(GrantId, Ended)>) -> Vec<(GrantId, Ended)> {
    let ended = grants.end(&due);
    let ended: Vec<_> = ended
        .iter()
        .map(|(one, why)| (one.grant.id, *why))
        .collect();
    grants.keep_ends(ended.clone()).await.unwrap();
    ended
}

#[tokio::test]
async fn a_tree_sees_its_own_grants_and_those_of_the_whole_scope() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let whole = issue(&grants, grant(1, None)).await;
    let mut tree = grant(2, None);
    tree.holder = Holder::of(&principal(40, &[30]), 7);
    let tree = issue(&grants, tree).await;
    let seen = |principal: &Principal| -> Vec<_> {
        let seen = grants.of(principal, 7);
        seen.iter().map(|standing| standing.grant.id).collect()
    };
    assert_eq!(seen(&principal(41, &[30])), [whole, tree]);
    assert_eq!(seen(&principal(41, &[31])), [whole]);
}

#[tokio::test]
async fn a_scope_is_given_so_many_in_a_while_and_no_more() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    // What comes to nothing does not count: a room that nobody takes, and a row that cannot be kept.
    for _ in 0..=ISSUES {
        drop(grants.reserve(7).unwrap());
    }
    let mut twice = grant(1, None);
    twice.holder.scope = 9;
    prepare(&grants, twice.clone()).await.unwrap();
    twice.holder.scope = 7;
    for _ in 0..=ISSUES {
        prepare(&grants, twice.clone()).await.unwrap_err();
    }
    for number in 0..ISSUES {
        let number = u128::try_from(number).unwrap() + 1_000;
        drop(prepare(&grants, grant(number, None)).await.unwrap());
    }
    let often = grants.reserve(7).unwrap_err();
    assert!(matches!(often, Error::Often { wait: 1..=600 }), "{often}");
    let told = Refusal::from(often);
    assert!(told.message.contains("600 grants"), "{}", told.message);
    // Another scope has its own.
    let mut other = grant(2, None);
    other.holder.scope = 8;
    issue(&grants, other).await;
}

fn covered(grants: &Grants, stood_on: Option<&[GrantId]>) -> Option<GrantId> {
    covered_for(grants, stood_on, Counted::InAnswer)
}

fn covered_for(grants: &Grants, stood_on: Option<&[GrantId]>, counted: Counted) -> Option<GrantId> {
    let principal = principal(41, &[]);
    let mut holding = Holding::new(grants, &principal, 7);
    if let Some(stood_on) = stood_on {
        holding = holding.stood_on(stood_on);
    }
    let access = Access {
        action: Action::Select,
        resource: Resource::Database,
    };
    let offers = [Offer {
        terms: Terms {
            longest: Duration::from_secs(3_600),
            most: Budget::default(),
        },
        need: None,
        scope: true,
    }];
    let covering = holding.cover(&Want {
        place: Place {
            target: "crm",
            database: "app",
        },
        access: &access,
        offers: &offers,
        counted,
    });
    covering.map(|covering| covering.grant)
}

#[tokio::test]
async fn a_hundred_at_once_use_a_grant_as_often_as_it_says_and_no_more() {
    let place = place();
    let grants = Arc::new(Grants::open(&place.file).unwrap());
    let id = issue(&grants, grant(1, Some(3))).await;
    let tries: Vec<_> = (0..100)
        .map(|_| {
            let grants = Arc::clone(&grants);
            tokio::spawn(async move { use_once(&grants, id).await })
        })
        .collect();
    let mut taken = Vec::new();
    for attempt in tries {
        match attempt.await.unwrap() {
            Ok(more) => taken.extend(more),
            Err(error) => assert!(matches!(error, Error::Spent), "{error}"),
        }
    }
    assert_eq!(taken.len(), 3);
    drop(taken);
    // As the next daemon finds it.
    drop(grants);
    let grants = Grants::open(&place.file).unwrap();
    assert_eq!(grants.all(None)[0].used, 3);
    assert!(matches!(use_once(&grants, id).await, Err(Error::Spent)));
    assert_eq!(covered(&grants, None), None);
    assert_eq!(settle_due(&grants).await, [(id, Ended::Used)]);
}

#[tokio::test]
async fn a_grant_that_begins_later_covers_nothing_before_and_lasts_over_a_restart() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let hour = Duration::from_secs(3_600);
    let mut later = grant(1, None);
    later.from = clock::boot().after(hour);
    later.until = later.from.after(hour);
    later.begins = Some(clock::wall());
    let (from, until) = (later.from, later.until);
    let id = issue(&grants, later).await;
    assert_eq!(covered(&grants, None), None);
    assert_eq!(covered(&grants, Some(&[id])), None);
    assert!(grants.hold(id).is_none());
    assert!(matches!(use_once(&grants, id).await, Err(Error::Spent)));
    assert_eq!(grants.due(clock::boot()), (Vec::new(), Some(from)));
    drop(grants);
    let grants = Grants::open(&place.file).unwrap();
    assert_eq!(grants.all(None)[0].grant.length(), hour);
    assert_eq!(covered(&grants, None), None);
    // What was found without it is looked for again when it begins.
    let number = grants.number(7);
    assert_eq!(grants.due(from), (Vec::new(), Some(until)));
    assert_ne!(grants.number(7), number);
    let number = grants.number(7);
    assert_eq!(grants.due(from), (Vec::new(), Some(until)));
    assert_eq!(grants.number(7), number, "it begins once");
}

#[tokio::test]
async fn an_end_that_cannot_be_kept_is_owed_until_it_is() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let id = issue(&grants, grant(1, None)).await;
    let other = rusqlite::Connection::open(&place.file).unwrap();
    let full = "create trigger full before update of ended on grants begin select raise(abort, 'full'); end";
    other.execute_batch(full).unwrap();
    let ends = [(id, Ended::Revoked)];
    assert_eq!(grants.end(&ends).len(), 1);
    grants.keep_ends(ends.to_vec()).await.unwrap_err();
    assert!(grants.owes(id) && grants.unkept() == 1);
    assert!(
        place.file.with_extension("reserve").exists(),
        "room is given up though there is some"
    );
    grants.keep_ends(Vec::new()).await.unwrap_err();
    assert_eq!(grants.unkept(), 1, "it was let go of");
    {
        let mut keeping = std::pin::pin!(grants.keep_ends(Vec::new()));
        let once = std::future::poll_fn(|context| Poll::Ready(keeping.as_mut().poll(context)));
        drop(once.await);
        assert!(grants.owes(id), "it is not kept while it is being kept");
    }
    assert!(grants.owes(id), "who went away in the middle has lost it");
    other.execute_batch("drop trigger full").unwrap();
    grants.keep_ends(Vec::new()).await.unwrap();
    assert!(!grants.owes(id));
    drop(grants);
    let grants = Grants::open(&place.file).unwrap();
    assert!(grants.all(None).is_empty(), "it lives again");
}

#[tokio::test]
async fn room_that_was_given_up_for_ends_is_kept_again() {
    let place = place();
    let reserve = place.file.with_extension("reserve");
    let (rows, kept) = Sqlite::open(&place.file).unwrap();
    let rows = Arc::new(rows);
    let store = Store::over(Arc::<Sqlite<_>>::clone(&rows), &place.file);
    let grants = Grants::kept_in(store, kept);
    let id = issue(&grants, grant(1, None)).await;
    let other = rusqlite::Connection::open(&place.file).unwrap();
    let grows = "create table filler (bytes blob); \
                 create trigger grows before update of ended on grants \
                 begin insert into filler values (zeroblob(1048576)); end";
    other.execute_batch(grows).unwrap();
    let limit = |pages: u32| {
        let full = format!("pragma max_page_count = {pages}");
        rows.file()
            .write(move |transaction| transaction.query_row(&full, [], |_| Ok(())))
    };
    // The least that it may be is as many as there are.
    limit(1).await.unwrap();
    let ends = [(id, Ended::Revoked)];
    assert_eq!(grants.end(&ends).len(), 1);
    grants.keep_ends(ends.to_vec()).await.unwrap_err();
    assert!(!reserve.exists(), "a full disk is no reason to give it up");
    limit(100_000).await.unwrap();
    grants.keep_ends(Vec::new()).await.unwrap();
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn what_is_taken_is_on_disk_before_it_is_given() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let mut granted = grant_of(1, Some(100), None);
    granted.budget.uses = Some(5);
    let id = issue(&grants, granted).await;
    let other = rusqlite::Connection::open(&place.file).unwrap();
    let sql = "select used, used_rows from grants";
    let mut given = 0;
    for used in 1..=3_u64 {
        let mut taken = use_once(&grants, id).await.unwrap();
        // What another process reads now is what a daemon that was killed now would find.
        let kept: (i64, i64) = other
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(kept, (i64::try_from(used).unwrap(), 100));
        grants.settle(taken.remove(0), used, 0);
        given += used;
        assert_eq!(grants.get(id).unwrap().used_rows, Some(given));
    }
}

#[tokio::test]
async fn a_grant_that_ended_covers_nothing_and_stays_ended() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    for (number, why) in [
        (1, Ended::Revoked),
        (2, Ended::Exited),
        (3, Ended::Expired),
        (4, Ended::Killed),
        (5, Ended::Untagged),
    ] {
        let id = issue(&grants, grant(number, None)).await;
        assert_eq!(covered(&grants, None), Some(id));
        let taken = use_once(&grants, id).await.unwrap();
        let before = grants.number(7);
        let ended = grants.end(&[(id, why)]);
        grants.keep_ends(vec![(id, why)]).await.unwrap();
        assert_eq!((ended[0].0.grant.id, ended[0].0.used), (id, 1));
        assert!(grants.number(7) != before);
        // What runs on it does not go on either.
        assert_eq!(covered(&grants, Some(&[id])), None);
        assert!(!taken[0].stands(clock::boot()));
        assert!(matches!(use_once(&grants, id).await, Err(Error::Spent)));
        assert!(grants.end(&[(id, why)]).is_empty());
    }
    drop(grants);
    assert!(Grants::open(&place.file).unwrap().all(None).is_empty());
}

#[tokio::test]
async fn what_took_the_last_use_goes_on_and_the_grant_ends_with_it() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let id = issue(&grants, grant(1, Some(1))).await;
    let taken = use_once(&grants, id).await.unwrap();
    assert_eq!(covered(&grants, None), None);
    assert_eq!(settle_due(&grants).await, []);
    assert_eq!(covered(&grants, Some(&[id])), Some(id));
    // What runs and took nothing of it does not go on with it.
    assert_eq!(covered(&grants, Some(&[])), None);
    let changes = grants.changes();
    drop(taken);
    grants.changed(changes).await;
    assert_eq!(settle_due(&grants).await, [(id, Ended::Used)]);
    assert_eq!(covered(&grants, Some(&[id])), None);
    assert_eq!(grants.count(), 0);
}

#[tokio::test]
async fn a_grant_that_is_not_counted_needs_not_be_taken_by_what_runs() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let id = issue(&grants, grant(1, None)).await;
    assert_eq!(covered(&grants, Some(&[])), Some(id));
}

#[tokio::test]
async fn what_leans_on_a_grant_that_is_used_up_keeps_it_until_it_lets_go() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let id = issue(&grants, grant(1, Some(1))).await;
    let taken = use_once(&grants, id).await.unwrap();
    let leans = grants.hold(id).unwrap();
    drop(taken);
    assert_eq!(settle_due(&grants).await, []);
    assert!(leans.stands(clock::boot()));
    drop(leans);
    assert_eq!(settle_due(&grants).await, [(id, Ended::Used)]);
    assert!(grants.hold(id).is_none());
}

#[tokio::test]
async fn rows_are_set_aside_whole_and_what_was_not_needed_is_given_back() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let id = issue(&grants, grant_of(1, Some(10), Some(1_000))).await;
    let mut first = use_once(&grants, id).await.unwrap();
    assert_eq!((first[0].rows(), first[0].bytes()), (Some(10), Some(1_000)));
    // It covers more, which must wait for the first to say what it needed.
    assert_eq!(covered(&grants, None), Some(id));
    assert!(matches!(use_once(&grants, id).await, Err(Error::Busy)));
    grants.settle(first.remove(0), 4, 100);
    let mut second = use_once(&grants, id).await.unwrap();
    assert_eq!((second[0].rows(), second[0].bytes()), (Some(6), Some(900)));
    grants.settle(second.remove(0), 6, 1);
    assert_eq!(covered(&grants, None), None);
    assert!(matches!(use_once(&grants, id).await, Err(Error::Spent)));
    let standing = grants.get(id).unwrap();
    assert_eq!(
        (standing.used, standing.used_rows, standing.used_bytes),
        (2, Some(10), Some(101))
    );
    assert_eq!(settle_due(&grants).await, [(id, Ended::Used)]);
}

#[tokio::test]
async fn what_nobody_settled_was_given_out() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let id = issue(&grants, grant_of(1, Some(10), None)).await;
    drop(use_once(&grants, id).await.unwrap());
    assert_eq!(settle_due(&grants).await, [(id, Ended::Used)]);
    // The same where the daemon is killed in between.
    let id = issue(&grants, grant_of(2, Some(10), None)).await;
    let _taken = use_once(&grants, id).await.unwrap();
    drop(grants);
    let grants = Grants::open(&place.file).unwrap();
    assert!(matches!(use_once(&grants, id).await, Err(Error::Spent)));
    assert_eq!(settle_due(&grants).await, [(id, Ended::Used)]);
}

#[tokio::test]
async fn no_more_is_set_aside_than_an_answer_may_hold() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let id = issue(&grants, grant_of(1, Some(10), None)).await;
    let limits = Limits {
        max_rows: Some(Limit {
            most: 4,
            rule: crate::policy::RuleId("few".to_owned()),
        }),
        ..Limits::default()
    };
    let what = Take::Answer(Some(&limits));
    let first = grants.take(&[id], what).await.unwrap();
    let second = grants.take(&[id], what).await.unwrap();
    let third = grants.take(&[id], what).await.unwrap();
    let rows = [&first, &second, &third].map(|taken| taken[0].rows());
    assert_eq!(rows, [Some(4), Some(4), Some(2)]);
}

#[tokio::test]
async fn a_grant_that_counts_answers_covers_nothing_that_has_none() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let counted = issue(&grants, grant_of(1, Some(10), None)).await;
    let bytes = issue(&grants, grant_of(3, None, Some(10))).await;
    assert_eq!(covered_for(&grants, None, Counted::Nowhere), None);
    assert_eq!(covered_for(&grants, None, Counted::InAnswer), Some(counted));
    assert_eq!(covered_for(&grants, None, Counted::AtEnd), Some(counted));
    let _ended = grants.end(&[(counted, Ended::Revoked)]);
    // The end of a write says nothing of bytes.
    assert_eq!(covered_for(&grants, None, Counted::AtEnd), None);
    assert_eq!(covered_for(&grants, None, Counted::InAnswer), Some(bytes));
    let free = issue(&grants, grant(2, None)).await;
    assert_eq!(covered_for(&grants, None, Counted::Nowhere), Some(free));
    // What is not counted goes first.
    assert_eq!(covered_for(&grants, None, Counted::InAnswer), Some(free));
}

#[tokio::test]
async fn of_several_grants_all_are_taken_or_none() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let many = issue(&grants, grant(1, Some(5))).await;
    let one = issue(&grants, grant(2, Some(1))).await;
    let _taken = use_once(&grants, one).await.unwrap();
    let both = grants.take(&[many, one], Take::Answer(None)).await;
    assert!(matches!(both, Err(Error::Spent)));
    assert_eq!(grants.get(many).unwrap().used, 0);
}

#[tokio::test]
async fn a_grant_whose_time_is_over_covers_nothing_though_nobody_has_ended_it() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let mut granted = grant(1, None);
    granted.until = granted.from;
    let id = issue(&grants, granted).await;
    assert_eq!(covered(&grants, Some(&[id])), None);
    assert!(matches!(use_once(&grants, id).await, Err(Error::Spent)));
    assert!(grants.hold(id).is_none());
    assert_eq!(grants.due(clock::boot()).0, [(id, Ended::Expired)]);
}

#[tokio::test]
async fn a_grant_covers_nothing_that_may_be_granted_for_less() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let mut granted = grant(1, None);
    granted.until = BootTime(granted.from.0 + 3_601_000_000_000);
    issue(&grants, granted).await;
    assert_eq!(covered(&grants, None), None);
}

#[tokio::test]
async fn grants_of_an_earlier_boot_are_over_and_are_told_once() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let id = issue(&grants, grant(1, None)).await;
    drop(grants);
    let other = rusqlite::Connection::open(&place.file).unwrap();
    other
        .execute("update grants set boot = 'another'", [])
        .unwrap();
    let grants = Grants::open(&place.file).unwrap();
    assert!(grants.all(None).is_empty());
    let told = grants.ended_unseen();
    assert_eq!((told[0].0.grant.id, told[0].1), (id, Ended::Restarted));
    assert!(grants.ended_unseen().is_empty());
    drop(grants);
    assert!(Grants::open(&place.file).unwrap().ended_unseen().is_empty());
}

#[tokio::test]
async fn a_grant_whose_issue_was_cut_off_never_came_to_be() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let coming = prepare(&grants, grant(1, None)).await.unwrap();
    let id = coming.grant().id;
    assert_eq!(covered(&grants, None), None);
    drop(coming);
    drop(grants);
    let grants = Grants::open(&place.file).unwrap();
    assert!(grants.all(None).is_empty());
    let told = grants.ended_unseen();
    assert_eq!((told[0].0.grant.id, told[0].1), (id, Ended::Unissued));
}

#[tokio::test]
async fn a_scope_has_so_many_grants_and_no_more_and_one_on_its_way_counts() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    for number in 0..table::OF_ONE - 1 {
        let granted = grant(number as u128 + 1, None);
        grants.table.enter(granted, Amount::default());
    }
    let coming = prepare(&grants, grant(9_998, None)).await.unwrap();
    let refused = prepare(&grants, grant(9_999, None)).await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    // One that did not come to be leaves its place.
    drop(coming);
    let coming = prepare(&grants, grant(10_000, Some(1))).await.unwrap();
    let id = grants.issue(coming).await.unwrap().grant.id;
    assert!(prepare(&grants, grant(10_001, None)).await.is_err());
    // So does one that is used up.
    drop(use_once(&grants, id).await.unwrap());
    assert_eq!(settle_due(&grants).await, [(id, Ended::Used)]);
    assert!(prepare(&grants, grant(10_002, None)).await.is_ok());
}

#[tokio::test]
async fn what_happens_in_one_scope_is_not_seen_in_another() {
    let place = place();
    let grants = Grants::open(&place.file).unwrap();
    let before = (grants.number(7), grants.number(8));
    let id = issue(&grants, grant(1, None)).await;
    assert!(grants.number(7) != before.0);
    assert_eq!(grants.number(8), before.1);
    let issued = grants.number(7);
    drop(grants.end(&[(id, Ended::Revoked)]));
    assert!(grants.number(7) != issued);
}

#[tokio::test]
async fn a_file_of_the_first_version_is_read_and_counted_on() {
    let place = place();
    {
        let grants = Grants::open(&place.file).unwrap();
        issue(&grants, grant(1, Some(3))).await;
    }
    // As the first version left it.
    let old = rusqlite::Connection::open(&place.file).unwrap();
    old.execute_batch(
        "alter table grants drop column used_rows;
         alter table grants drop column used_bytes;
         update grants set used = 2;
         pragma user_version = 0;",
    )
    .unwrap();
    drop(old);
    let grants = Grants::open(&place.file).unwrap();
    let standing = grants.all(None).remove(0);
    assert_eq!(standing.used, 2);
    let id = standing.grant.id;
    drop(use_once(&grants, id).await.unwrap());
    assert!(matches!(use_once(&grants, id).await, Err(Error::Spent)));
    drop(grants);
    let newer = rusqlite::Connection::open(&place.file).unwrap();
    newer.execute_batch("pragma user_version = 99;").unwrap();
    let refused = Grants::open(&place.file).unwrap_err().to_string();
    assert!(refused.contains("newer version"), "{refused}");
}
