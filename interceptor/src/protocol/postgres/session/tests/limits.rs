//! Limits on answers: the last row that is permitted passes, the next one does not, and no transaction goes
//! on as if it had.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::super::super::wire::backend::{self, Status};
use super::super::super::wire::{message, put_string};
use super::super::{EndReason, Why};
use super::gate::FakeGate;
use super::rig::{Rig, tell_all};
use super::server::{Log, Server};
use crate::masking::detect::{Action, Actions, Detectors, Kind};
use crate::policy::{GrantId, Limit, Limits, RuleId};
use crate::session::{Allowance, Allowed, Outcome, Phase};

fn limit(most: u64) -> Option<Limit> {
    Some(Limit {
        most,
        rule: RuleId("few".to_owned()),
    })
}

fn rows(most: u64) -> Limits {
    Limits {
        max_rows: limit(most),
        ..Limits::default()
    }
}

fn detectors() -> Option<Arc<Detectors>> {
    let actions: Actions = Kind::ALL
        .iter()
        .map(|kind| (*kind, Action::Report))
        .collect();
    Detectors::new(&actions).map(Arc::new)
}

/// What the client gets of the model server, with and without detectors, and what was committed.
async fn check(limits: &Limits, script: &str, replies: &str, committed: &[&str]) {
    check_granted((limits, None), script, replies, committed).await;
}

/// The same where grants give so much; also what of them was given out, request by request.
pub(super) async fn check_granted(
    (limits, allowance): (&Limits, Option<Allowance>),
    script: &str,
    replies: &str,
    committed: &[&str],
) -> Vec<Option<(u64, u64)>> {
    let mut all_given = Vec::new();
    for detects in [false, true] {
        let (upstream, server) = duplex(512);
        let log = Arc::new(Mutex::new(Log::default()));
        let server = tokio::spawn(Server::new(server, Arc::clone(&log)).run());
        let gate = FakeGate {
            limits: limits.clone(),
            allowance,
            ..FakeGate::default()
        };
        let mut rig = Rig::before(upstream, log, gate, |start| {
            start.detectors = detectors().filter(|_| detects);
        });
        rig.server = server;
        rig.send(script).await;
        let (told, end, log, gate) = rig.finish().await;
        assert_eq!(told, replies, "{script}");
        assert!(matches!(end.why, Why::Client), "{script}: {:?}", end.why);
        assert_eq!(log.committed, committed, "{script}");
        let seen = gate.seen.lock().unwrap();
        let finished = gate.finished.lock().unwrap();
        let given = seen.iter().filter(|(_, seen)| seen.phase == Phase::Execute);
        let given: Vec<_> = given
            .filter_map(|(id, _)| Some(finished.get(id)?.first()?.counted))
            .collect();
        assert!(!detects || given == all_given, "{given:?}, {all_given:?}");
        all_given = given;
    }
    all_given
}

pub(super) fn allowed(rows: Option<u64>, bytes: Option<u64>) -> Option<Allowance> {
    let grant = GrantId(uuid::Uuid::nil());
    let allowed = |most: Option<u64>| most.map(|most| Allowed { most, grant });
    Some(Allowance {
        rows: allowed(rows),
        bytes: allowed(bytes),
    })
}

#[tokio::test]
async fn an_answer_has_as_many_rows_as_a_grant_has_left_and_what_was_given_is_told() {
    // A row of the model server has twelve bytes.
    for (script, replies, given) in [
        (
            "Q rows 3 granted",
            "T D D D C:SELECT_3 Z:I",
            vec![Some((3, 36))],
        ),
        (
            "Q rows 2 granted|Q rows 9 free",
            "T D D C:SELECT_2 Z:I T D D D D D D D D D C:SELECT_9 Z:I",
            vec![Some((2, 24)), Some((0, 0))],
        ),
        (
            "Q rows 4 granted",
            "T D D D E:54000 Z:I",
            vec![Some((u64::MAX, 36))],
        ),
        (
            "P - rows 4 granted|B - -|E - 2|E - 2|S",
            "1 2 D D s D D s Z:I",
            vec![Some((2, 24)), Some((2, 24))],
        ),
        // One that is bound and never executed.
        (
            "Q begin|P - rows 9 granted|B p -|S|Q fetch p",
            "C:BEGIN Z:T 1 2 Z:T D D C:FETCH_2 Z:T",
            vec![Some((0, 0)), Some((2, 24))],
        ),
    ] {
        let found = check_granted(
            (&Limits::default(), allowed(Some(3), None)),
            script,
            replies,
            &[],
        )
        .await;
        assert_eq!(found, given, "{script}");
    }
    let few = allowed(None, Some(35));
    let found = check_granted(
        (&Limits::default(), few),
        "Q rows 3 granted",
        "T D D E:54000 Z:I",
        &[],
    )
    .await;
    assert_eq!(found, [Some((2, u64::MAX))]);
    // Where policy says less, its word stands, and the grant keeps the rest.
    let found = check_granted(
        (&rows(2), allowed(Some(3), None)),
        "Q rows 9 limited_granted",
        "T D D E:54000 Z:I",
        &[],
    )
    .await;
    assert_eq!(found, [Some((2, 24))]);
}

#[tokio::test]
async fn a_cursor_cannot_be_counted_by_a_grant_and_is_not_declared() {
    let script = "Q begin|Q declare c rows 9 granted|Q rollback";
    let replies = "C:BEGIN Z:T E:42501 Z:E C:ROLLBACK Z:I";
    let few = (&Limits::default(), allowed(Some(3), None));
    let given = check_granted(few, script, replies, &[]).await;
    // Nothing of the grant is lost by it.
    assert_eq!(given, [Some((0, 0)); 3]);
}

#[tokio::test]
async fn the_gate_is_told_of_what_lasts_in_a_session() {
    let mut rig = Rig::new();
    rig.send(
        "Q rows 1 a|Q begin|Q declare c rows 2 a|Q fetch c|Q set search_path b|P - rows 3 a|B - -|E -|B p -|E p 2|S|Q unreadable|Q rollback",
    )
    .await;
    let (_, _, _, gate) = rig.finish().await;
    let lasting = gate.lasting.lock().unwrap();
    assert_eq!(
        *lasting,
        [
            "declare c rows 2 a",
            "set search_path b",
            "rows 3 a",
            "unreadable"
        ]
    );
}

#[tokio::test]
async fn the_last_row_that_is_permitted_passes_and_the_next_does_not() {
    let cases = [
        ("Q rows 3 limited", "T D D D C:SELECT_3 Z:I"),
        ("Q rows 4 limited", "T D D D E:54000 Z:I"),
        ("Q rows 90 limited", "T D D D E:54000 Z:I"),
        ("Q rows 90 free", ""),
        (
            "Q rows 2 limited; rows 2 limited",
            "T D D C:SELECT_2 T D E:54000 Z:I",
        ),
        (
            "Q rows 4 limited|Q rows 3 limited",
            "T D D D E:54000 Z:I T D D D C:SELECT_3 Z:I",
        ),
        (
            "P - rows 3 limited|B - -|D P -|E -|S",
            "1 2 T D D D C:SELECT_3 Z:I",
        ),
        (
            "P - rows 4 limited|B - -|D P -|E -|S",
            "1 2 T D D D E:54000 Z:I",
        ),
        (
            "P a rows 4 limited|S|B - a|E -|S|B - a|E -|S",
            "1 Z:I 2 D D D E:54000 Z:I 2 D D D E:54000 Z:I",
        ),
        (
            "P - rows 4 limited|B - -|E -|B - -|E -|H|S|Q rows 1 limited",
            "1 2 D D D E:54000 Z:I T D C:SELECT_1 Z:I",
        ),
    ];
    for (script, replies) in cases {
        let replies = match replies {
            "" => format!("T {}C:SELECT_90 Z:I", "D ".repeat(90)),
            replies => replies.to_owned(),
        };
        check(&rows(3), script, &replies, &[]).await;
    }
}

#[tokio::test]
async fn a_portal_and_a_cursor_are_counted_as_a_whole() {
    for (script, replies) in [
        (
            "P - rows 9 limited|B - -|E - 2|E - 2|E - 2|S",
            "1 2 D D s D E:54000 Z:I",
        ),
        ("P - rows 9 limited|B - -|E - 3|S", "1 2 D D D s Z:I"),
        (
            "P - rows 9 limited|B - -|E - 2|B - -|E - 2|C P -|B - -|E - 2|S",
            "1 2 D D s 2 D D s 3 2 D D s Z:I",
        ),
        (
            "Q begin|P - rows 9 limited|B a -|B b -|E a 2|S|E b 2|S|E a 2|S",
            "C:BEGIN Z:T 1 2 2 D D s Z:T D D s Z:T D E:54000 Z:E",
        ),
        (
            "Q begin|Q declare c rows 9 limited|Q fetch c|Q fetch c|Q rollback",
            "C:BEGIN Z:T C:DECLARE_CURSOR Z:T D D C:FETCH_2 Z:T D E:54000 Z:E C:ROLLBACK Z:I",
        ),
        (
            "Q begin|Q declare c rows 9 limited|Q fetch c|Q close c|Q declare c rows 9 limited|Q fetch c",
            "C:BEGIN Z:T C:DECLARE_CURSOR Z:T D D C:FETCH_2 Z:T C:CLOSE_CURSOR Z:T C:DECLARE_CURSOR Z:T D D C:FETCH_2 Z:T",
        ),
        (
            "Q begin|Q declare c rows 9 limited|Q fetch c|E c 2|S",
            "C:BEGIN Z:T C:DECLARE_CURSOR Z:T D D C:FETCH_2 Z:T D E:54000 Z:E",
        ),
        // One that is bound and never executed.
        (
            "Q begin|P - rows 9 limited|B p -|S|Q fetch p|Q fetch p",
            "C:BEGIN Z:T 1 2 Z:T D D C:FETCH_2 Z:T D E:54000 Z:E",
        ),
        // One that is under no limit, beside what is.
        (
            "Q begin|Q declare c rows 9 free|Q rows 1 limited|Q fetch c|Q fetch c",
            "C:BEGIN Z:T C:DECLARE_CURSOR Z:T T D C:SELECT_1 Z:T D D C:FETCH_2 Z:T D D C:FETCH_2 Z:T",
        ),
    ] {
        check(&rows(3), script, replies, &[]).await;
    }
}

#[tokio::test]
async fn nothing_is_committed_with_an_answer_that_was_cut() {
    for (script, replies, committed) in [
        (
            "Q begin|Q insert a|Q rows 4 limited|Q insert b|Q commit",
            "C:BEGIN Z:T C:INSERT_0_1 Z:T T D D D E:54000 Z:E E:25P02 Z:E C:ROLLBACK Z:I",
            vec![],
        ),
        (
            "P - insert a|B - -|E -|P - rows 4 limited|B - -|E -|P - insert b|B - -|E -|S|Q insert c",
            "1 2 C:INSERT_0_1 1 2 D D D E:54000 Z:I C:INSERT_0_1 Z:I",
            vec!["insert c"],
        ),
        (
            "Q begin|Q insert a|P - rows 4 limited|B - -|E -|S|Q commit",
            "C:BEGIN Z:T C:INSERT_0_1 Z:T 1 2 D D D E:54000 Z:E C:ROLLBACK Z:I",
            vec![],
        ),
        (
            "Q begin|Q insert a|Q rows 3 limited|Q insert b|Q commit",
            "C:BEGIN Z:T C:INSERT_0_1 Z:T T D D D C:SELECT_3 Z:T C:INSERT_0_1 Z:T C:COMMIT Z:I",
            vec!["insert a", "insert b"],
        ),
    ] {
        check(&rows(3), script, replies, &committed).await;
    }
}

#[tokio::test]
async fn rows_and_bytes_of_a_session_are_counted_over_its_requests() {
    let limits = Limits {
        max_session_rows: limit(5),
        ..Limits::default()
    };
    let script = "Q rows 3 limited|Q rows 9 free|Q rows 2 limited|Q rows 0 limited|Q rows 1 limited|Q rows 1 free";
    let free = "D ".repeat(9);
    let replies = format!(
        "T D D D C:SELECT_3 Z:I T {free}C:SELECT_9 Z:I T D D C:SELECT_2 Z:I T C:SELECT_0 Z:I \
         T E:54000 Z:I T D C:SELECT_1 Z:I"
    );
    check(&limits, script, &replies, &[]).await;
    // A row of the model server has twelve bytes.
    for (most, replies) in [
        (36, "T D D C:SELECT_2 Z:I T D C:SELECT_1 Z:I"),
        (35, "T D D C:SELECT_2 Z:I T E:54000 Z:I"),
    ] {
        let limits = Limits {
            max_session_bytes: limit(most),
            ..Limits::default()
        };
        check(&limits, "Q rows 2 limited|Q rows 1 limited", replies, &[]).await;
        let limits = Limits {
            max_bytes: limit(most),
            ..Limits::default()
        };
        let alone = match most {
            36 => "T D D D C:SELECT_3 Z:I",
            _ => "T D D E:54000 Z:I",
        };
        check(&limits, "Q rows 3 limited", alone, &[]).await;
    }
}

fn row(text: &str) -> Bytes {
    message(backend::DATA_ROW, |to| {
        to.put_i16(1);
        to.put_i32(text.len().try_into().unwrap());
        to.put_slice(text.as_bytes());
    })
}

fn copied(data: &[u8]) -> Bytes {
    message(backend::COPY_DATA, |to| to.put_slice(data))
}

fn copy(format: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut all = message(backend::COPY_OUT, |to| to.put_slice(&[format, 0, 0])).to_vec();
    for part in parts {
        all.extend(copied(part));
    }
    all.extend(message(backend::COPY_DONE, |_| {}));
    all
}

fn done(tag: &str, status: Status) -> Bytes {
    let command = message(backend::COMMAND_COMPLETE, |to| {
        put_string(to, tag.as_bytes())
    });
    [command, backend::make_ready(status)].concat().into()
}

/// What the client gets of an answer in pieces of `size`, how the session ended, and the request.
async fn through(
    (limits, script): (&Limits, &str),
    answer: &[u8],
    (size, detects): (usize, bool),
) -> (String, Outcome) {
    let (upstream, mut server) = duplex(1 << 16);
    let gate = FakeGate {
        limits: limits.clone(),
        ..FakeGate::default()
    };
    let mut rig = Rig::before(upstream, Arc::default(), gate, |start| {
        start.detectors = detectors().filter(|_| detects);
    });
    rig.send(script).await;
    server.read_exact(&mut [0]).await.unwrap();
    for piece in answer.chunks(size) {
        server.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut told = Vec::new();
    loop {
        let (tag, body) = rig.next().await.unwrap();
        told.extend(message(tag, |to| to.put_slice(&body)));
        if tag == backend::READY {
            break;
        }
    }
    drop(server);
    drop(rig.client);
    rig.relay.await.unwrap();
    let finished = rig.gate.finished.lock().unwrap();
    let outcome = finished.values().flatten().next().cloned().unwrap();
    (tell_all(&told), outcome)
}

#[tokio::test]
async fn copied_data_is_counted_row_by_row_in_every_form_and_in_pieces_of_any_size() {
    let mut first = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    let none = [first.as_slice(), b"\xff\xff"].concat();
    first.extend(b"\0\x01\0\0\0\x01x");
    let (first, next): (&[u8], &[u8]) = (&first, b"\0\x01\0\0\0\x01y");
    let end: &[u8] = b"\xff\xff";
    let text = |count: usize| copy(0, &vec![b"a line\n".as_slice(); count]);
    for (most, script, answer, told, rows) in [
        (2, "Q copyout limited", text(2), "H d d c C:COPY_2 Z:I", 2),
        (2, "Q copyout limited", text(3), "H d d E:54000 Z:I", 2),
        (
            2,
            "Q copyheader limited",
            text(3),
            "H d d d c C:COPY_2 Z:I",
            2,
        ),
        (2, "Q copyheader limited", text(4), "H d d d E:54000 Z:I", 2),
        (
            2,
            "Q copyout limited",
            copy(1, &[first, next, end]),
            "H d d d c C:COPY_2 Z:I",
            2,
        ),
        (
            2,
            "Q copyout limited",
            copy(1, &[first, next, next, end]),
            "H d d E:54000 Z:I",
            2,
        ),
        (
            1,
            "Q copyout limited",
            copy(1, &[&none]),
            "H d c C:COPY_0 Z:I",
            0,
        ),
        (
            1,
            "Q copyout limited",
            copy(1, &[first, end]),
            "H d d c C:COPY_1 Z:I",
            1,
        ),
    ] {
        let answer = [answer, done(&format!("COPY {rows}"), Status::Idle).to_vec()].concat();
        for size in [1, 2, 3, 7, 16, 1_000] {
            for detects in [false, true] {
                let limits = super::limits::rows(most);
                let (got, outcome) = through((&limits, script), &answer, (size, detects)).await;
                assert_eq!(got, told, "{script} in pieces of {size}");
                let status = if told.contains("54000") {
                    "limited"
                } else {
                    "ok"
                };
                assert_eq!((outcome.rows, &*outcome.status), (rows, status), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn notices_notifications_errors_and_the_answer_of_a_call_are_bytes_too() {
    let long = "x".repeat(200);
    let notice = message(backend::NOTICE, |to| {
        to.put_slice(b"SNOTICE\0C00000\0M");
        put_string(to, long.as_bytes());
        to.put_u8(0);
    });
    let news = notification(&long);
    let error = message(backend::ERROR, |to| {
        to.put_slice(b"SERROR\0VERROR\0C22012\0M");
        put_string(to, long.as_bytes());
        to.put_u8(0);
    });
    let ready = backend::make_ready(Status::Idle);
    let end = done("SELECT 1", Status::Idle);
    let limits = Limits {
        max_bytes: limit(250),
        ..Limits::default()
    };
    for (parts, told) in [
        (
            vec![notice.clone(), row("x"), end.clone()],
            "N D C:SELECT_1 Z:I",
        ),
        (
            vec![row("x"), notice.clone(), end.clone()],
            "D N C:SELECT_1 Z:I",
        ),
        (
            vec![notice.clone(), notice.clone(), row("x"), end.clone()],
            "N E:54000 Z:I",
        ),
        (
            vec![row("x"), news.clone(), end.clone()],
            "D A C:SELECT_1 Z:I",
        ),
        (
            vec![news.clone(), news.clone(), row("x"), end.clone()],
            "A E:54000 Z:I",
        ),
        (vec![news.clone(), notice.clone(), end], "A E:54000 Z:I"),
        (vec![error.clone(), ready.clone()], "E:22012 Z:I"),
        (vec![notice, error, ready], "N E:54000 Z:I"),
    ] {
        for size in [1, 9, 1_000] {
            let (got, _) = through(
                (&limits, "Q rows 9 limited"),
                &parts.concat(),
                (size, false),
            )
            .await;
            assert_eq!(got, told, "in pieces of {size}");
        }
    }
}

/// A notification with this payload.
fn notification(payload: &str) -> Bytes {
    message(backend::NOTIFICATION, |to| {
        to.put_i32(7);
        put_string(to, b"c");
        put_string(to, payload.as_bytes());
    })
}

#[tokio::test]
async fn a_notification_of_no_answer_is_one_of_its_own() {
    let limits = Limits {
        max_bytes: limit(100),
        max_session_bytes: limit(150),
        ..Limits::default()
    };
    let (upstream, mut server) = duplex(1 << 16);
    let gate = FakeGate {
        limits,
        ..FakeGate::default()
    };
    let mut rig = Rig::before(upstream, Arc::default(), gate, |_| {});
    // Before anything was limited.
    server
        .write_all(&notification(&"w".repeat(200)))
        .await
        .unwrap();
    assert_eq!(rig.read_until("A").await, "A");
    rig.send("Q rows 1 limited").await;
    server.read_exact(&mut [0; 20]).await.unwrap();
    let end = done("SELECT 1", Status::Idle);
    server
        .write_all(&[row("x"), end.clone()].concat())
        .await
        .unwrap();
    assert_eq!(rig.read_until("Z:I").await, "D C:SELECT_1 Z:I");
    // One that is too long, one that is not, and one that is too much for the session.
    for length in [200, 80, 80] {
        let sent = notification(&"x".repeat(length));
        server.write_all(&sent).await.unwrap();
    }
    rig.send("Q rows 1 free").await;
    server.read_exact(&mut [0]).await.unwrap();
    server.write_all(&[row("x"), end].concat()).await.unwrap();
    assert_eq!(rig.read_until("Z:I").await, "A D C:SELECT_1 Z:I");
    drop(server);
}

#[tokio::test]
async fn what_runs_is_cancelled_and_what_does_not_obey_ends_the_session() {
    for obeys in [true, false] {
        let (upstream, mut server) = duplex(1 << 16);
        let gate = FakeGate {
            limits: rows(1),
            ..FakeGate::default()
        };
        let log = Arc::new(Mutex::new(Log::default()));
        let cancel = Arc::clone(&log.lock().unwrap().cancel);
        let mut rig = Rig::before(upstream, log, gate, |start| {
            start.patience.obeys = Duration::from_millis(50);
        });
        rig.send("Q rows 9 limited").await;
        server.read_exact(&mut [0]).await.unwrap();
        server
            .write_all(&[row("1"), row("2")].concat())
            .await
            .unwrap();
        // Sent once more than one row has come, or this waits for ever.
        cancel.notified().await;
        server.write_all(&row("3")).await.unwrap();
        if obeys {
            let error = message(backend::ERROR, |to| {
                to.put_slice(b"SERROR\0VERROR\0C57014\0Mcancelled\0\0");
            });
            let ready = backend::make_ready(Status::Idle);
            server.write_all(&[error, ready].concat()).await.unwrap();
            assert_eq!(rig.read_until("Z:I").await, "D E:54000 Z:I");
        } else {
            assert_eq!(rig.read_until("never").await, "D E:54000");
        }
        drop(server);
        drop(rig.client);
        let why = rig.relay.await.unwrap().why;
        let ended = matches!(why, Why::Ended(EndReason::Limit));
        assert_eq!(ended, !obeys, "{why:?}");
        let finished = rig.gate.finished.lock().unwrap();
        let outcome = finished.values().flatten().next().unwrap();
        assert_eq!((outcome.rows, &*outcome.status), (1, "limited"));
    }
}
