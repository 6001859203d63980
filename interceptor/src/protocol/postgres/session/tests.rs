//! The request loop between a scripted client and a server that keeps PostgreSQL's rules.

mod apart;
mod detect;
mod ending;
pub(super) mod gate;
mod hostile;
mod limits;
mod masked;
mod parting;
mod patience;
mod random;
mod rig;
mod server;

use std::sync::atomic::Ordering;

use self::rig::{Rig, exchange};
use super::*;

/// Sends a script at once; checks the replies and what the server committed.
async fn check(script: &str, replies: &str, committed: &[&str]) {
    let (told, _, log, _) = exchange(script).await;
    assert_eq!(told, replies, "{script}");
    assert_eq!(log.committed, committed, "{script}");
}

#[tokio::test]
async fn what_comes_behind_something_that_ran_in_the_same_batch_is_known_to() {
    let rows: &[(&str, &[bool])] = &[
        ("P - insert a|B - -|E -|S", &[false]),
        (
            "P - insert a|B - -|E -|P - insert b|B - -|E -|S",
            &[false, true],
        ),
        (
            "P - insert a|B - -|E -|S|P - insert b|B - -|E -|S",
            &[false, false],
        ),
        (
            "P - insert a|B - -|E -|Q insert b|Q insert c",
            &[false, true, false],
        ),
        ("P - insert a|P s insert b|B - s|E -|S", &[false]),
    ];
    for (script, expected) in rows {
        let (_, _, _, gate) = exchange(script).await;
        let seen = gate.seen.lock().unwrap();
        let ran = seen
            .iter()
            .filter(|(_, seen)| seen.phase == crate::session::Phase::Execute);
        let begun: Vec<_> = ran.map(|(_, seen)| seen.begun).collect();
        assert_eq!(begun, *expected, "{script}");
    }
}

#[tokio::test]
async fn what_is_permitted_passes_as_it_is() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("Q insert a", "C:INSERT_0_1 Z:I", &["insert a"]),
        (
            "Q insert a; insert b",
            "C:INSERT_0_1 C:INSERT_0_1 Z:I",
            &["insert a", "insert b"],
        ),
        ("Q ", "I Z:I", &[]),
        ("Q rows 3 t", "T D D D C:SELECT_3 Z:I", &[]),
        (
            "Q insert a; fail t; insert b",
            "C:INSERT_0_1 E:22012 Z:I",
            &[],
        ),
        ("Q bad", "E:42601 Z:I", &[]),
        ("Q noise t", "N D S D A C:SELECT_2 Z:I", &[]),
        (
            "P - insert a|B - -|D P -|E -|S",
            "1 2 n C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        (
            "P s rows 2 t|D S s|S|B p s|E p|S",
            "1 t T Z:I 2 D D C:SELECT_2 Z:I",
            &[],
        ),
        (
            "P - rows 5 t|B - -|E - 2|E - 2|E - 2|S",
            "1 2 D D s D D s D C:SELECT_1 Z:I",
            &[],
        ),
        ("P - |B - -|E -|S", "1 2 I Z:I", &[]),
        ("Q copyout t", "H d c C:COPY_1 Z:I", &[]),
        ("P - copyout t|B - -|E -|S", "1 2 H d c C:COPY_1 Z:I", &[]),
        ("P s insert a|S|P s insert b|S", "1 Z:I E:42P05 Z:I", &[]),
        (
            "P s insert a|C S s|P s insert b|B - s|E -|S",
            "1 3 1 2 C:INSERT_0_1 Z:I",
            &["insert b"],
        ),
        (
            "Q begin|Q insert a|Q commit",
            "C:BEGIN Z:T C:INSERT_0_1 Z:T C:COMMIT Z:I",
            &["insert a"],
        ),
        (
            "Q begin|Q fail a|Q insert a|Q commit",
            "C:BEGIN Z:T E:22012 Z:E E:25P02 Z:E C:ROLLBACK Z:I",
            &[],
        ),
        ("d x|c|f|Q insert a", "C:INSERT_0_1 Z:I", &["insert a"]),
        ("S|S|H|S", "Z:I Z:I Z:I", &[]),
        ("Q insert a|X", "C:INSERT_0_1 Z:I", &["insert a"]),
    ];
    for (script, replies, committed) in rows {
        check(script, replies, committed).await;
    }
}

#[tokio::test]
async fn an_error_in_a_batch_skips_the_rest_of_it() {
    let rows: &[(&str, &str, &[&str])] = &[
        (
            "P - insert a|B - -|E -|P - fail b|B - -|E -|P - insert c|B - -|E -|S|Q insert d",
            "1 2 C:INSERT_0_1 1 2 E:22012 Z:I C:INSERT_0_1 Z:I",
            &["insert d"],
        ),
        ("P - bad|Q insert a|S", "E:42601 Z:I", &[]),
        ("P - bad|F|Q insert a|C S x|S|S", "E:42601 Z:I Z:I", &[]),
        ("B - -|S", "E:26000 Z:I", &[]),
        (
            "P - insert a|B - -|Q insert b|S",
            "1 2 C:INSERT_0_1 Z:I Z:I",
            &["insert b"],
        ),
    ];
    for (script, replies, committed) in rows {
        check(script, replies, committed).await;
    }
}

const REFUSED: &[(&str, &str, &[&str])] = &[
    // Nothing owed: the server never hears of it.
    ("Q insert denied", "E:42501 Z:I", &[]),
    (
        "P - insert denied|B - -|E -|S|Q insert a",
        "E:42501 Z:I C:INSERT_0_1 Z:I",
        &["insert a"],
    ),
    // The measured case: the second of three.
    (
        "P - insert a|B - -|E -|P - insert denied|B - -|E -|P - insert c|B - -|E -|S|Q insert d",
        "1 2 C:INSERT_0_1 E:42501 Z:I C:INSERT_0_1 Z:I",
        &["insert d"],
    ),
    (
        "P - insert a|B - -|E -|H|P - insert denied|B - -|E -|H|S",
        "1 2 C:INSERT_0_1 E:42501 Z:I",
        &[],
    ),
    // A query in the middle of a batch ends it.
    (
        "P - insert a|B - -|E -|Q insert denied|S",
        "1 2 C:INSERT_0_1 E:42501 Z:I Z:I",
        &[],
    ),
    (
        "P - insert a|B - -|E -|F|S",
        "1 2 C:INSERT_0_1 E:42501 Z:I Z:I",
        &[],
    ),
    // One of several in one text.
    ("Q insert a; insert denied; insert b", "E:42501 Z:I", &[]),
    // In a block.
    (
        "Q begin|Q insert a|Q insert denied|Q commit",
        "C:BEGIN Z:T C:INSERT_0_1 Z:T E:42501 Z:E C:ROLLBACK Z:I",
        &[],
    ),
    (
        "Q begin|P - insert a|B - -|E -|P - insert denied|S|Q commit",
        "C:BEGIN Z:T 1 2 C:INSERT_0_1 E:42501 Z:E C:ROLLBACK Z:I",
        &[],
    ),
    // In a failed block.
    (
        "Q begin|Q fail a|Q insert denied|Q rollback",
        "C:BEGIN Z:T E:22012 Z:E E:42501 Z:E C:ROLLBACK Z:I",
        &[],
    ),
    // Behind what failed already it is skipped, and never judged.
    ("P - bad|P - insert denied|S", "E:42601 Z:I", &[]),
    // COPY, both ways.
    (
        "Q copyin denied|d x|c|Q insert a",
        "E:42501 Z:I C:INSERT_0_1 Z:I",
        &["insert a"],
    ),
    (
        "Q copyin t|d x|c|Q insert denied|Q insert a",
        "G C:COPY_1 Z:I E:42501 Z:I C:INSERT_0_1 Z:I",
        &["t x", "insert a"],
    ),
    (
        "P - copyin t|B - -|E -|d x|c|P - insert denied|S",
        "1 2 G C:COPY_1 E:42501 Z:I",
        &[],
    ),
    ("P - copyout denied|B - -|E -|S", "E:42501 Z:I", &[]),
    // The function-call message, with nothing owed.
    (
        "F|Q insert a",
        "E:42501 Z:I C:INSERT_0_1 Z:I",
        &["insert a"],
    ),
    // Pipelined simple queries: the refusal takes its turn.
    (
        "Q insert a|Q insert denied|Q insert b",
        "C:INSERT_0_1 Z:I E:42501 Z:I C:INSERT_0_1 Z:I",
        &["insert a", "insert b"],
    ),
];

#[tokio::test]
async fn a_refusal_never_lets_its_batch_or_transaction_commit() {
    for (script, replies, committed) in REFUSED {
        check(script, replies, committed).await;
    }
}

#[tokio::test]
async fn a_refusal_tells_rule_request_and_next_step() {
    let mut rig = Rig::new();
    rig.send("Q insert denied").await;
    let (tag, body) = rig.next().await.unwrap();
    assert_eq!(tag, b'E');
    let fields = ErrorFields::read(&body).unwrap();
    let request = rig.gate.seen.lock().unwrap()[0].0;
    let text = |code| String::from_utf8(fields.get(code).unwrap().to_vec()).unwrap();
    assert_eq!(text(b'V'), "ERROR");
    assert_eq!(text(b'C'), "42501");
    assert_eq!(text(b'M'), "that is denied");
    assert_eq!(text(b'D'), format!("rule no-denied; request {}", request.0));
    assert_eq!(text(b'H'), "ask nicely");
    assert_eq!(rig.read_until("Z:I").await, "Z:I");
    let (_, end, log, _) = rig.finish().await;
    assert!(log.came.is_empty(), "{log:?}");
    assert_eq!((end.requests, end.refused), (0, 1));
}

#[tokio::test]
async fn the_poison_in_a_batch_carries_the_same_words() {
    let mut rig = Rig::new();
    rig.send("Q begin|P - insert denied|S").await;
    assert_eq!(rig.read_until("Z:T").await, "C:BEGIN Z:T");
    let (_, body) = rig.next().await.unwrap();
    let fields = ErrorFields::read(&body).unwrap();
    assert_eq!(fields.get(b'M'), Some(&b"that is denied"[..]));
    let (_, _, log, _) = rig.finish().await;
    let poison = &log.came.iter().find(|(tag, _)| *tag == b'P').unwrap().1;
    assert_eq!(poison, b"\0) refused by interceptor\0\0\0");
}

#[tokio::test]
async fn a_portal_is_judged_each_time_it_is_executed() {
    let mut rig = Rig::new();
    rig.send("Q begin|P s rows 4 late|B p s|E p 2|H").await;
    assert_eq!(rig.read_until("s").await, "C:BEGIN Z:T 1 2 D D s");
    rig.gate.withdrawn.store(true, Ordering::SeqCst);
    rig.send("E p 2|S").await;
    assert_eq!(rig.read_until("Z:E").await, "E:42501 Z:E");
    rig.send("Q rollback").await;
    rig.read_until("Z:I").await;
    let (_, _, log, gate) = rig.finish().await;
    assert_eq!(log.ran, ["begin", "rows 4 late", "rollback"]);
    assert_eq!(
        gate.requests(),
        [
            "execute Transaction",
            "prepare public.late",
            "execute public.late",
            "refuse to execute public.late",
            "execute Transaction"
        ]
    );
}

#[tokio::test]
async fn names_that_nobody_judged_run_nothing() {
    let rows: &[(&str, &str)] = &[
        ("B - s|E -|S", "E:26000 Z:I"),
        ("D S s|S", "E:26000 Z:I"),
        ("D P p|S", "E:34000 Z:I"),
        ("E p|S", "E:34000 Z:I"),
        ("P - insert a|B p -|E q|S", "1 2 E:34000 Z:I"),
        // An unnamed statement is gone after a simple query, a portal after its transaction.
        (
            "P - insert a|S|Q rows 1 t|B - -|E -|S",
            "1 Z:I T D C:SELECT_1 Z:I E:26000 Z:I",
        ),
        ("P s insert a|B p s|S|E p|S", "1 2 Z:I E:34000 Z:I"),
        ("P s insert a|S|C S s|B - s|S", "1 Z:I 3 E:26000 Z:I"),
        // A refused statement does not come to be.
        ("P s insert denied|S|B - s|E -|S", "E:42501 Z:I E:26000 Z:I"),
        (
            "Q prepare s as insert denied|Q execute s",
            "E:42501 Z:I E:42501 Z:I",
        ),
        (
            "Q prepare s as insert a|Q deallocate s|Q execute s",
            "C:PREPARE Z:I C:DEALLOCATE Z:I E:42501 Z:I",
        ),
        (
            "Q prepare s as insert a|Q discard|Q execute s",
            "C:PREPARE Z:I C:DISCARD_ALL Z:I E:42501 Z:I",
        ),
    ];
    for (script, replies) in rows {
        let mut rig = Rig::new();
        rig.gate.strict.store(true, Ordering::SeqCst);
        rig.send(script).await;
        let (told, _, log, _) = rig.finish().await;
        assert_eq!(told, *replies, "{script}");
        assert!(log.committed.is_empty(), "{script}");
        let unknown =
            |(tag, body): &(u8, Vec<u8>)| matches!(tag, b'E' | b'D') && body.contains(&b'p');
        assert!(!log.came.iter().any(unknown), "{script}: {:?}", log.came);
    }
}

/// It may have been made by what was not read. Where that is permitted the server has the word.
#[tokio::test]
async fn names_that_nobody_judged_are_the_servers_where_what_cannot_be_read_is_permitted() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("B - s|E -|S", "E:26000 Z:I", &["prepare Unreadable"]),
        // Nothing but the protocol makes what has no name.
        ("B - -|S|E -|S", "E:26000 Z:I E:34000 Z:I", &[]),
        (
            "Q unreadable prepare s as insert a|B p s|E p|S",
            "C:PREPARE Z:I 2 C:INSERT_0_1 Z:I",
            &[
                "execute Unreadable",
                "prepare Unreadable",
                "execute Unreadable",
            ],
        ),
        (
            "Q unreadable prepare s as insert a|D S s|S|D P p|S",
            "C:PREPARE Z:I t n Z:I E:34000 Z:I",
            &[
                "execute Unreadable",
                "prepare Unreadable",
                "prepare Unreadable",
            ],
        ),
        (
            "Q begin|Q unreadable declare c rows 2 t|E c 1|E c|S",
            "C:BEGIN Z:T C:DECLARE_CURSOR Z:T D s D C:SELECT_1 Z:T",
            &[
                "execute Transaction",
                "execute Unreadable",
                "execute Unreadable",
                "execute Unreadable",
            ],
        ),
    ];
    for (script, replies, requests) in rows {
        let (told, _, _, gate) = exchange(script).await;
        assert_eq!(told, *replies, "{script}");
        assert_eq!(gate.requests()[..requests.len()], **requests, "{script}");
    }
}

#[tokio::test]
async fn statements_are_known_by_name_whichever_way_they_were_prepared() {
    let rows: &[(&str, &str, &[&str])] = &[
        (
            "Q prepare s as insert a|Q execute s",
            "C:PREPARE Z:I T C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        (
            "Q prepare s as insert a|B - s|E -|S",
            "C:PREPARE Z:I 2 C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        (
            "P s insert a|S|Q execute s",
            "1 Z:I T C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        (
            "P - prepare s as insert a|B - -|E -|B - s|E -|S",
            "1 2 C:PREPARE 2 C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
    ];
    for (script, replies, committed) in rows {
        check(script, replies, committed).await;
    }
}

/// A name that is prepared twice means what the server has, not what was asked for last.
#[tokio::test]
async fn a_failed_parse_does_not_change_what_a_name_means() {
    let (told, _, log, gate) =
        exchange("P s insert a|S|P s insert b|S|B - s|E -|S|Q prepare s as insert c|Q execute s")
            .await;
    assert_eq!(
        told,
        "1 Z:I E:42P05 Z:I 2 C:INSERT_0_1 Z:I E:42P05 Z:I T C:INSERT_0_1 Z:I"
    );
    assert_eq!(log.committed, ["insert a", "insert a"]);
    assert_eq!(
        gate.requests(),
        [
            "prepare public.a",
            "prepare public.b",
            "execute public.a",
            "execute public.c",
            "execute public.a"
        ]
    );
}

#[tokio::test]
async fn names_mean_what_is_left_of_them_when_the_server_has_cut_them() {
    let (long, other) = ("n".repeat(64), "n".repeat(63));
    for (script, replies, requests) in [
        (
            format!("P {long} insert a|B {long} {other}x|E {other}|S"),
            "1 2 C:INSERT_0_1 Z:I",
            "execute public.a",
        ),
        // One name, so the second is an error, and the first still what it was.
        (
            format!("P {long} insert a|S|P {other}x insert denied|S|B - {long}|E -|S"),
            "1 Z:I E:42501 Z:I 2 C:INSERT_0_1 Z:I",
            "execute public.a",
        ),
        (
            format!("P {long} insert a|D S {other}y|C S {other}z|B - {long}|S"),
            "1 t n 3 E:26000 Z:I",
            "prepare public.a",
        ),
    ] {
        let (told, _, _, gate) = exchange(&script).await;
        assert_eq!(told, replies, "{script}");
        assert_eq!(gate.requests().last().unwrap(), requests, "{script}");
    }
}

#[tokio::test]
async fn names_longer_than_anybodys_are_refused() {
    let long = "n".repeat(3_000);
    for script in [
        format!("P {long} insert {}|S", "a".repeat(2 << 20)),
        format!("B {long} s|S"),
        format!("B - {long}|S"),
    ] {
        let (told, _, log, _) = exchange(&script).await;
        assert!(told.ends_with("E:42622 Z:I"), "{told}");
        assert!(log.committed.is_empty());
    }
}

#[tokio::test]
async fn a_message_without_its_form_is_an_error_and_the_session_goes_on() {
    let rows: &[(&[u8], &str)] = &[
        (b"Q\0\0\0\x08a\0b\0", "E:08P01 Z:I"),
        (b"Q\0\0\0\x05a", "E:08P01 Z:I"),
        (b"Q\0\0\0\x04", "E:08P01 Z:I"),
        (b"P\0\0\0\x08s\0t\0", "E:08P01"),
        (b"E\0\0\0\x05p", "E:08P01"),
        (b"B\0\0\0\x05p", "E:08P01"),
        (b"C\0\0\0\x07Xp\0", "E:08P01"),
        (b"D\0\0\0\x04", "E:08P01"),
        (b"H\0\0\0\x05x", "E:08P01"),
    ];
    for (bytes, replies) in rows {
        for (before, told_before) in [("", ""), ("P - insert a|B - -|E -", "1 2 C:INSERT_0_1 ")] {
            let mut rig = Rig::new();
            rig.send(before).await;
            rig.client.write_all(bytes).await.unwrap();
            rig.send("S|Q insert b").await;
            let (told, end, log, _) = rig.finish().await;
            assert_eq!(
                told,
                format!("{told_before}{replies} Z:I C:INSERT_0_1 Z:I"),
                "{bytes:?} behind {before}"
            );
            assert!(matches!(end.why, Why::Client), "{bytes:?}: {:?}", end.why);
            // What was sent before in the same batch is undone, as by any error.
            assert_eq!(log.committed, ["insert b"], "{bytes:?} behind {before}");
        }
    }
}

#[tokio::test]
async fn data_of_a_copy_reaches_the_server_only_where_it_asks_for_it() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("Q copyin t|d 1|d 2|c", "G C:COPY_2 Z:I", &["t 1", "t 2"]),
        (
            "Q copyin t|d 1|f no|Q insert a",
            "G E:57014 Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        (
            "Q copyin t; copyin u; insert x|d 1|c|d 2|c|Q insert a",
            "G C:COPY_1 G C:COPY_1 C:INSERT_0_1 Z:I C:INSERT_0_1 Z:I",
            &["t 1", "u 2", "insert x", "insert a"],
        ),
        // What the server ignores while it reads is not owed a reply.
        (
            "P - copyin t|B - -|E -|S|H|d 1|S|c|S|Q insert a",
            "1 2 G C:COPY_1 Z:I C:INSERT_0_1 Z:I",
            &["t 1", "insert a"],
        ),
        // An error in the data.
        (
            "Q copyin t|d 1|d wrong|d 2|c|Q insert a",
            "G E:22P02 Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        (
            "P - copyin t|B - -|E -|d wrong|d 2|c|S|Q insert a",
            "1 2 G E:22P02 Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        ("P - copyin t|B - -|E -|f no|S", "1 2 G E:57014 Z:I", &[]),
        // Before any data, with a trailing Sync.
        (
            "Q copyin early|d 1|c|Q insert a",
            "G E:P0001 Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        (
            "P - copyin early|B - -|E -|d 1|c|S|Q insert a",
            "1 2 G E:P0001 Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        // Behind an error in the batch there is no COPY at all.
        ("P - bad|P - copyin t|B - -|E -|d 1|c|S", "E:42601 Z:I", &[]),
        (
            "P - copyin t|B - -|P - bad|E -|d 1|c|S",
            "1 2 E:42601 Z:I",
            &[],
        ),
        // The client leaves.
        ("Q copyin t|d 1|X", "G E:08P01", &[]),
        ("Q copyin t|d 1", "G", &[]),
    ];
    for (script, replies, committed) in rows {
        check(script, replies, committed).await;
    }
}

#[tokio::test]
async fn data_of_replication_goes_both_ways_at_once() {
    let rows: &[(&str, &str, &[&str])] = &[
        (
            "Q stream t|d x|d y|c|Q insert a",
            "W d c T D C:START_STREAMING Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        // The server ends its side first.
        (
            "Q stream over|d x|c|Q insert a",
            "W d c T D C:START_STREAMING Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        // It fails: what the client has sent meanwhile is nobody's.
        (
            "Q stream early|d x|c|Q insert a",
            "W d E:P0001 Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        (
            "Q stream denied|d x|c|Q insert a",
            "E:42501 Z:I C:INSERT_0_1 Z:I",
            &["insert a"],
        ),
        (
            "Q insert a|Q stream denied|d x|c|Q insert b",
            "C:INSERT_0_1 Z:I E:42501 Z:I C:INSERT_0_1 Z:I",
            &["insert a", "insert b"],
        ),
        ("Q stream t|d x|X", "W d", &[]),
    ];
    for (script, replies, committed) in rows {
        check(script, replies, committed).await;
    }
    let (_, _, log, _) = exchange("Q stream t|d x|d y|c").await;
    assert_eq!(log.ran, ["stream t", "heard x", "heard y"]);
    for script in ["Q stream t|S", "Q stream t|Q insert a", "Q stream t|f no"] {
        let (told, end, log, _) = exchange(script).await;
        assert_eq!(told, "W d E:08P01", "{script}");
        assert!(matches!(end.why, Why::ClientViolation(_)), "{script}");
        assert_eq!(log.came.len(), 1, "{script}");
    }
}

#[tokio::test]
async fn a_query_in_the_data_of_a_copy_ends_the_session() {
    let (told, end, log, _) = exchange("Q copyin t|d 1|Q insert a").await;
    assert_eq!(told, "G E:08P01");
    assert!(matches!(end.why, Why::ClientViolation(_)), "{:?}", end.why);
    assert!(log.committed.is_empty());
}

const PATHS: &[(&str, &[&str])] = &[
    (
        "Q set search_path x|Q insert a",
        &["execute Set", "execute x.a"],
    ),
    (
        "Q begin|Q set search_path x|Q insert a|Q rollback|Q insert b",
        &[
            "execute Transaction",
            "execute Set",
            "execute x.a",
            "execute Transaction",
            "execute public.b",
        ],
    ),
    (
        "Q begin|Q set search_path x|Q commit|Q insert b",
        &[
            "execute Transaction",
            "execute Set",
            "execute Transaction",
            "execute x.b",
        ],
    ),
    (
        "Q begin|Q set local search_path x|Q insert a|Q commit|Q insert b",
        &[
            "execute Transaction",
            "execute Set",
            "execute x.a",
            "execute Transaction",
            "execute public.b",
        ],
    ),
    // In a failed block the COMMIT is a ROLLBACK.
    (
        "Q begin|Q set search_path x|Q fail a|Q commit|Q insert b",
        &[
            "execute Transaction",
            "execute Set",
            "execute x.a",
            "execute Transaction",
            "execute public.b",
        ],
    ),
    // In one batch, before the server has said anything.
    (
        "P - set search_path x|B - -|E -|P - insert a|B - -|E -|S|Q insert b",
        &[
            "prepare Set",
            "execute Set",
            "prepare x.a",
            "execute x.a",
            "execute x.b",
        ],
    ),
    // A batch that fails takes its settings along.
    (
        "P - set search_path x|B - -|E -|P - fail a|B - -|E -|S|Q insert b",
        &[
            "prepare Set",
            "execute Set",
            "prepare x.a",
            "execute x.a",
            "execute public.b",
        ],
    ),
    // A prepared statement is planned under the path of its Bind.
    (
        "P s insert a|S|Q set search_path x|B - s|E -|S",
        &["prepare public.a", "execute Set", "execute x.a"],
    ),
    // A text of several may have changed it before it failed.
    (
        "Q set search_path x; fail a|Q insert b",
        &["execute Set+public.a", "execute unknown.b"],
    ),
    (
        "Q unreadable|Q insert b",
        &["execute Unreadable", "execute unknown.b"],
    ),
];

#[tokio::test]
async fn texts_are_read_under_the_search_path_that_they_run_under() {
    for (script, requests) in PATHS {
        let (_, _, _, gate) = exchange(script).await;
        assert_eq!(gate.requests(), *requests, "{script}");
    }
}

#[tokio::test]
async fn a_text_is_judged_as_inside_of_a_transaction_where_one_is_open() {
    let rows: &[(&str, &[bool])] = &[
        (
            "Q insert a|Q begin|Q insert a|Q commit|Q insert a",
            &[false, false, true, true, false],
        ),
        (
            "P - begin|B - -|E -|P - insert a|B - -|E -|S",
            &[false, false, true, true],
        ),
        ("P s insert a|S|Q begin|B - s|E -|S", &[false, false, true]),
    ];
    for (script, inside) in rows {
        let (_, _, _, gate) = exchange(script).await;
        let seen: Vec<bool> = gate
            .seen
            .lock()
            .unwrap()
            .iter()
            .map(|(_, seen)| seen.in_transaction)
            .collect();
        assert_eq!(seen, *inside, "{script}");
    }
}

#[tokio::test]
async fn text_in_another_encoding_is_unreadable_until_it_is_back() {
    let (told, _, _, gate) = exchange(
        "Q set client_encoding LATIN1|Q insert denied|P s insert a|B - s|E -|S|Q set client_encoding UTF8|Q insert denied",
    )
    .await;
    assert_eq!(
        gate.requests(),
        [
            "execute Set",
            "execute Unreadable",
            "prepare Unreadable",
            "execute Unreadable",
            "execute Unreadable",
            "refuse to execute unknown.denied"
        ]
    );
    assert_eq!(
        told,
        "C:SET S Z:I C:INSERT_0_1 Z:I 1 2 C:INSERT_0_1 Z:I C:SET S Z:I E:42501 Z:I"
    );
}

#[tokio::test]
async fn text_that_cannot_be_read_is_one_request_of_its_own_kind() {
    for text in ["x".repeat(TEXT_MAX + 1), "x".repeat(3 * TEXT_MAX)] {
        for script in [format!("Q {text}"), format!("P - {text}|B - -|E -|S")] {
            let (_, _, log, gate) = exchange(&script).await;
            assert_eq!(log.committed, [text.as_str()]);
            assert!(gate.requests()[0].ends_with(" Unreadable"));
            assert!(gate.seen.lock().unwrap()[0].1.text.len() <= 1024);
        }
    }
    let mut rig = Rig::new();
    rig.client
        .write_all(b"Q\0\0\0\x07\xff\xfe\0")
        .await
        .unwrap();
    // The model server reads UTF-8 only, and dies of this; what counts is how it was judged.
    let gate = Arc::clone(&rig.gate);
    rig.read_until("never").await;
    assert_eq!(gate.requests(), ["execute Unreadable"]);
}

#[tokio::test]
async fn ten_thousand_statements_without_a_sync_need_no_reply_to_go_on() {
    let mut script = "P - insert a|B - -|E -|H|".repeat(10_000);
    script.push('S');
    let (told, end, log, _) = exchange(&script).await;
    assert_eq!(told, "1 2 C:INSERT_0_1 ".repeat(10_000) + "Z:I");
    assert_eq!(log.committed.len(), 10_000);
    assert_eq!(end.requests, 20_000);
}

#[tokio::test]
async fn a_queue_that_is_full_drains_without_any_flush_of_the_client() {
    let mut script = "P - insert a|B - -|E -|".repeat(10_000);
    script.push('S');
    let (_, _, log, _) = exchange(&script).await;
    assert_eq!(log.committed.len(), 10_000);
}

#[tokio::test]
async fn a_slow_gate_does_not_change_what_is_skipped() {
    let rig = Rig::new();
    rig.gate.slow.store(true, Ordering::SeqCst);
    let mut rig = rig;
    rig.send("P - insert a|B - -|E -|P - bad|P - insert b|B - -|E -|S|Q insert c")
        .await;
    assert_eq!(rig.read_until("C:INSERT_0_1").await, "1 2 C:INSERT_0_1");
    let (told, _, log, gate) = rig.finish().await;
    assert_eq!(told, "E:42601 Z:I C:INSERT_0_1 Z:I");
    assert_eq!(log.committed, ["insert c"]);
    assert!(gate.statuses().contains(&"insert a: ok".to_owned()));
}

#[tokio::test]
async fn every_request_is_finished_with_what_became_of_it() {
    let rows: &[(&str, &[&str])] = &[
        ("Q insert a", &["insert a: ok"]),
        ("Q fail a", &["fail a: 22012"]),
        (
            "P - fail a|B - -|E -|P - insert b|B - -|E -|S",
            &[
                "fail a: ok",
                "fail a: 22012",
                "insert b: skipped",
                "insert b: skipped",
            ],
        ),
        ("Q crash a", &["crash a: lost"]),
        ("Q die a|Q insert b", &["die a: 57P01", "insert b: 57P01"]),
        ("Q insert denied", &[]),
    ];
    for (script, statuses) in rows {
        let (_, _, _, gate) = exchange(script).await;
        let told = gate.statuses();
        // What is behind a batch's error may never have been judged.
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        assert!(
            statuses.starts_with(&told) && told.is_empty() == statuses.is_empty(),
            "{script}: {told:?}"
        );
    }
    let (_, _, _, gate) = exchange("Q rows 3 t; rows 2 t|P - rows 5 t|B - -|E - 2|E -|S").await;
    let finished = gate.finished.lock().unwrap();
    let rows: Vec<u64> = gate
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|(request, _)| finished[request][0].rows)
        .collect();
    assert_eq!(rows, [5, 0, 2, 3]);
}

#[tokio::test]
async fn both_directions_are_recorded_as_the_agent_sent_and_saw_them() {
    let script = "Q insert a|Q insert denied|P - bad|Q skipped x|S|d thrown";
    let (_, end, _, gate) = exchange(script).await;
    let sent = rig::messages(script).concat();
    assert_eq!(*gate.sent.lock().unwrap(), sent);
    assert_eq!(end.sent, u64::try_from(sent.len()).unwrap());
    assert_eq!(
        end.received,
        u64::try_from(gate.received.lock().unwrap().len()).unwrap()
    );
}

#[tokio::test]
async fn what_cannot_run_is_not_forwarded() {
    let rows: &[(&[&str], u8)] = &[
        (&["d x|c|f|S"], b'd'),
        (&["P s insert a|B p s|S", "E p|S"], b'E'),
        (&["P - insert a|S", "Q insert a", "B - -|S"], b'B'),
        (&["P s insert a|S", "C S s|S", "B - s|S"], b'B'),
        (&["Q insert denied"], b'Q'),
        (&["P - insert denied|B - -|S"], b'B'),
    ];
    for (scripts, tag) in rows {
        let mut rig = Rig::new();
        rig.gate.strict.store(true, Ordering::SeqCst);
        for script in *scripts {
            rig.send(script).await;
            rig.read_until("Z:I").await;
        }
        let (_, _, log, _) = rig.finish().await;
        let came: Vec<u8> = log.came.iter().map(|(tag, _)| *tag).collect();
        let last = if *tag == b'Q' {
            None
        } else {
            came.iter().rposition(|one| one == tag)
        };
        assert_eq!(
            last,
            None,
            "{scripts:?}: {}",
            String::from_utf8_lossy(&came)
        );
    }
}

#[tokio::test]
async fn a_refusal_is_told_even_to_a_client_that_has_closed() {
    for _ in 0..64 {
        check("Q insert denied", "E:42501 Z:I", &[]).await;
    }
}
