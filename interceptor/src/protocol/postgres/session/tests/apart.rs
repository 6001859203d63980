//! Writes whose rows a grant counts: they are held against it before anything is committed, and the client
//! sees nothing of the transaction that this takes.

use super::limits::{allowed, check_granted};
use super::rig::exchange_directly;
use crate::policy::Limits;

/// A grant has five rows left.
async fn check(script: &str, replies: &str, committed: &[&str], given: &[Option<(u64, u64)>]) {
    let granted = (&Limits::default(), allowed(Some(5), None));
    let counted = check_granted(granted, script, replies, committed).await;
    assert_eq!(counted, given, "{script}");
}

/// The same, where the client hears what it would without anybody in between.
async fn as_directly(script: &str, committed: &[&str], given: &[Option<(u64, u64)>]) {
    let (replies, log) = exchange_directly(script).await;
    assert_eq!(log.committed, committed, "{script}");
    check(script, &replies, committed, given).await;
}

const ONE: Option<(u64, u64)> = Some((1, 0));
const THREE: Option<(u64, u64)> = Some((3, 0));
const FIVE: Option<(u64, u64)> = Some((5, 0));
const NOTHING: Option<(u64, u64)> = Some((0, 0));

#[tokio::test]
async fn a_write_within_what_is_left_is_committed_and_looks_as_it_always_does() {
    for (script, committed, given) in [
        ("Q touch 3 granted", "touch 3 granted", THREE),
        ("Q touch 5 granted", "touch 5 granted", FIVE),
        ("P - touch 3 granted|B - -|E -|S", "touch 3 granted", THREE),
        (
            "P s touch 3 granted|S|B p s|D P p|E p|C P p|H|S",
            "touch 3 granted",
            THREE,
        ),
        ("Q insert granted", "insert granted", ONE),
        ("Q touch 3 granted|X", "touch 3 granted", THREE),
        (
            "P - insert granted|B - -|E -|S|Q rows 2 t",
            "insert granted",
            ONE,
        ),
    ] {
        let all = [given, NOTHING];
        let given = match script.contains("rows") {
            true => &all[..],
            false => &all[..1],
        };
        as_directly(script, &[committed], given).await;
    }
    // What is owed before it.
    as_directly(
        "Q insert a|Q insert b|P - touch 3 granted|B - -|E -|S",
        &["insert a", "insert b", "touch 3 granted"],
        &[NOTHING, NOTHING, THREE],
    )
    .await;
    // What was only planned in the same batch has run nothing.
    as_directly(
        "P s insert a|D S s|H|Q copyin granted|d x|c",
        &["granted x"],
        &[ONE],
    )
    .await;
    // Statements without a name outlive it.
    let twice = "P - touch 3 granted|B - -|E -|S|B - -|E -|S|Q touch 1 granted";
    let committed = ["touch 3 granted", "touch 3 granted", "touch 1 granted"];
    as_directly(twice, &committed, &[THREE, THREE, ONE]).await;
    as_directly("Q copyin granted|d x|c", &["granted x"], &[ONE]).await;
    as_directly(
        "P - copyin granted|B - -|E -|d x|c|S",
        &["granted x"],
        &[ONE],
    )
    .await;
}

#[tokio::test]
async fn a_write_that_touches_more_changes_nothing_and_takes_nothing() {
    for (script, replies) in [
        ("Q touch 6 granted", "E:54000 Z:I"),
        ("P - touch 6 granted|B - -|E -|S", "1 2 E:54000 Z:I"),
        ("P - touch 6 granted|B - -|E -|H|C P -|S", "1 2 E:54000 Z:I"),
    ] {
        check(script, replies, &[], &[NOTHING]).await;
    }
    let goes_on = "Q touch 6 granted|Q insert a|P - touch 6 granted|B - -|E -|S|Q insert b";
    let replies = "E:54000 Z:I C:INSERT_0_1 Z:I 1 2 E:54000 Z:I C:INSERT_0_1 Z:I";
    let given = [NOTHING; 4];
    check(goes_on, replies, &["insert a", "insert b"], &given).await;
}

#[tokio::test]
async fn in_a_transaction_of_the_client_a_write_that_touches_more_leaves_only_its_end() {
    as_directly(
        "Q begin|Q touch 3 granted|Q commit",
        &["touch 3 granted"],
        &[NOTHING, THREE, NOTHING],
    )
    .await;
    check(
        "Q begin|Q insert a|Q touch 6 granted|Q commit",
        "C:BEGIN Z:T C:INSERT_0_1 Z:T E:54000 Z:E C:ROLLBACK Z:I",
        &[],
        &[NOTHING; 4],
    )
    .await;
    check(
        "P - begin|B - -|E -|P - touch 6 granted|B - -|E -|P - commit|B - -|E -|S|Q rollback",
        "1 2 C:BEGIN 1 2 E:54000 Z:E C:ROLLBACK Z:I",
        &[],
        &[NOTHING; 3],
    )
    .await;
}

#[tokio::test]
async fn what_fails_is_the_servers_own_error_and_takes_nothing() {
    as_directly(
        "Q touch no granted|Q insert a",
        &["insert a"],
        &[NOTHING; 2],
    )
    .await;
    as_directly(
        "P - touch no granted|B - -|E -|S|Q insert a",
        &["insert a"],
        &[NOTHING; 2],
    )
    .await;
    // One before it in the same batch.
    as_directly(
        "P - bad|B - -|E -|S|Q insert a",
        &["insert a"],
        &[NOTHING; 2],
    )
    .await;
    // No commit takes it.
    as_directly("Q defer granted|Q insert a", &["insert a"], &[NOTHING; 2]).await;
    as_directly(
        "P - defer granted|B - -|E -|S|Q insert a",
        &["insert a"],
        &[NOTHING; 2],
    )
    .await;
    // What comes behind it in the same batch.
    as_directly(
        "P - touch 3 granted|B - -|E -|P - bad|S|Q insert a",
        &["insert a"],
        &[NOTHING; 2],
    )
    .await;
}

#[tokio::test]
async fn a_batch_that_runs_others_beside_it_is_refused_whole() {
    for (script, replies, given) in [
        (
            "P - touch 1 granted|B - -|E -|P - insert a|B - -|E -|S",
            "1 2 C:UPDATE_1 1 2 E:42501 Z:I",
            2,
        ),
        (
            "P - insert a|B - -|E -|P - touch 1 granted|B - -|E -|S",
            "1 2 C:INSERT_0_1 1 2 E:42501 Z:I",
            2,
        ),
        (
            "P - touch 1 granted|B - -|E -|Q insert a|S",
            "1 2 C:UPDATE_1 E:42501 Z:I Z:I",
            2,
        ),
        (
            "P - insert a|B - -|E -|Q touch 1 granted|S",
            "1 2 C:INSERT_0_1 E:42501 Z:I Z:I",
            2,
        ),
    ] {
        check(script, replies, &[], &vec![NOTHING; given]).await;
    }
}

#[tokio::test]
async fn rows_that_a_write_gives_back_count_once_and_all_of_them() {
    let given = |rows: u64| Some((rows, rows * 12));
    as_directly(
        "Q returning 3 granted",
        &["returning 3 granted"],
        &[given(3)],
    )
    .await;
    // The client asks for fewer than there are: the rest is counted, and given to nobody.
    as_directly(
        "P - returning 3 granted|B - -|E - 1|S",
        &["returning 3 granted"],
        &[Some((3, 12))],
    )
    .await;
    check(
        "P - returning 6 granted|B - -|E - 1|S",
        "1 2 D s E:54000 Z:I",
        &[],
        &[Some((1, 12))],
    )
    .await;
    check(
        "Q begin|P - returning 3 granted|B p -|E p 1|E p|S|Q commit",
        "C:BEGIN Z:T 1 2 D s E:34000 Z:E C:ROLLBACK Z:I",
        &[],
        &[NOTHING, Some((3, 12)), NOTHING, NOTHING],
    )
    .await;
    check(
        "Q returning 6 granted",
        "T D D D D D E:54000 Z:I",
        &[],
        &[Some((u64::MAX, 60))],
    )
    .await;
    // What is fetched of a write's portal says nothing of the write.
    check(
        "Q begin|P - returning 3 granted|B p -|S|Q fetch p|Q rollback",
        "C:BEGIN Z:T 1 2 Z:T E:42501 Z:E C:ROLLBACK Z:I",
        &[],
        &[NOTHING; 3],
    )
    .await;
}
