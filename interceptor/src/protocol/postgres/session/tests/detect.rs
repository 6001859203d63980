//! Value detectors over answers: rows and copied data, in pieces of any size.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::super::wire::backend::{self, Status};
use super::super::super::wire::message;
use super::super::{End, Why};
use super::rig::Rig;
use crate::masking::detect::{Action, Actions, Detectors, Kind};
use crate::session::Outcome;

/// The types `text` and `int8`.
const TEXT: i32 = 25;
const INT8: i32 = 20;

fn described(types: &[i32]) -> Bytes {
    message(backend::ROW_DESCRIPTION, |to| {
        to.put_i16(types.len().try_into().unwrap());
        for kind in types {
            to.put_slice(b"c\0");
            to.put_i32(0);
            to.put_i16(0);
            to.put_i32(*kind);
            to.put_slice(&[0; 8]);
        }
    })
}

fn tuple(to: &mut BytesMut, values: &[Option<&[u8]>]) {
    to.put_i16(values.len().try_into().unwrap());
    for value in values {
        match value {
            Some(value) => {
                to.put_i32(value.len().try_into().unwrap());
                to.put_slice(value);
            }
            None => to.put_i32(-1),
        }
    }
}

fn row(values: &[&str]) -> Bytes {
    let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
    message(backend::DATA_ROW, |to| tuple(to, &values))
}

fn copied(data: &[u8]) -> Bytes {
    message(backend::COPY_DATA, |to| to.put_slice(data))
}

fn copy_out(format: u8) -> Bytes {
    message(backend::COPY_OUT, |to| to.put_slice(&[format, 0, 0]))
}

fn done(tag: &str) -> Bytes {
    let command = message(backend::COMMAND_COMPLETE, |to| {
        to.put_slice(tag.as_bytes());
        to.put_u8(0);
    });
    [command, backend::make_ready(Status::Idle)].concat().into()
}

/// What the client gets of `answer`, sent in pieces of `size` bytes; how the session ended, and its request.
async fn through(
    action: Action,
    script: &str,
    answer: &[u8],
    size: usize,
) -> (Vec<u8>, End, Outcome) {
    let actions: Actions = Kind::ALL.iter().map(|kind| (*kind, action)).collect();
    let detectors = Detectors::new(&actions).map(Arc::new);
    let (upstream, mut server) = tokio::io::duplex(1 << 16);
    let mut rig = Rig::against_with(upstream, |start| start.detectors = detectors);
    rig.send(script).await;
    let mut asked = [0; 1];
    server.read_exact(&mut asked).await.unwrap();
    let play = async {
        for piece in answer.chunks(size) {
            if server.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        drop(server.shutdown().await);
    };
    let mut got = Vec::new();
    let (reads, ()) = tokio::join!(rig.client.read_to_end(&mut got), play);
    reads.unwrap();
    let end = rig.relay.await.unwrap();
    let finished = rig.gate.finished.lock().unwrap();
    let outcome = finished.values().flatten().next().cloned().unwrap();
    (got, end, outcome)
}

/// In pieces of every size the client gets `expected` for `answer`, and the audit the same counts.
async fn check(script: &str, answer: &[u8], expected: &[u8], found: &[(&str, u64)]) {
    assert_eq!(answer.len(), expected.len(), "a mask keeps every length");
    for size in [1, 2, 3, 5, 7, 16, 61, 1_000, 1 << 16] {
        let (got, end, outcome) = through(Action::Mask, script, answer, size).await;
        assert!(
            got == expected,
            "in pieces of {size}:\n{}\n{}",
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(expected)
        );
        assert!(matches!(end.why, Why::Upstream), "{:?}", end.why);
        let counts: Vec<_> = outcome
            .found
            .iter()
            .map(|(kind, count)| (*kind, *count))
            .collect();
        assert_eq!(counts, found, "in pieces of {size}");
        assert_eq!(outcome.status, "ok");
    }
    let (got, _, _) = through(Action::Report, script, answer, 100).await;
    assert!(got == answer, "a report changes nothing");
}

const CARD: &str = "4111 1111 1111 1111";
const STARS: &str = "*******************";

#[tokio::test]
async fn values_in_rows_are_masked_in_place() {
    let rows = |card: &str, mail: &str| {
        [
            described(&[TEXT, INT8, TEXT]),
            row(&[&format!("card {card}."), "4111111111111111", ""]),
            row(&["", "7", mail]),
            message(backend::DATA_ROW, |to| tuple(to, &[None, Some(b"1"), None])),
            done("SELECT 3"),
        ]
        .concat()
    };
    let (answer, expected) = (
        rows(CARD, "ada@example.org"),
        rows(STARS, "***************"),
    );
    let found = [("card", 1), ("email", 1)];
    check("Q rows 3 t", &answer, &expected, &found).await;
}

#[tokio::test]
async fn numbers_that_nobody_described_are_looked_at_as_text() {
    let rows = |card: &str| [described(&[INT8]), done("SELECT 0"), row(&[card])].concat();
    let answer = [&rows("4111111111111111")[..], &done("SELECT 1")].concat();
    let (got, _, _) = through(Action::Mask, "Q rows 1 t", &answer, 1 << 16).await;
    assert!(!got.windows(16).any(|text| text == b"4111111111111111"));
}

#[tokio::test]
async fn a_long_value_streams_and_is_masked_all_the_same() {
    let long = |card: &str, key: &str| {
        let filler = "nothing to see here, and more of it. ".repeat(8_000);
        let value = format!("{filler}{card} {filler}{key}{filler}");
        [described(&[TEXT]), row(&[&value]), done("SELECT 1")].concat()
    };
    let lines = "abcdEFGH0123\n".repeat(20_000);
    let key = format!("-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----");
    let masked: String = key
        .chars()
        .map(|one| if one == '\n' { one } else { '*' })
        .collect();
    let (answer, expected) = (long(CARD, &key), long(STARS, &masked));
    for size in [4_093, 1 << 16] {
        let (got, _, outcome) = through(Action::Mask, "Q rows 1 t", &answer, size).await;
        let differs = got
            .iter()
            .zip(&expected)
            .position(|(one, other)| one != other);
        assert_eq!(
            (got.len(), differs),
            (expected.len(), None),
            "in pieces of {size}"
        );
        assert_eq!(outcome.found.len(), 2);
    }
}

#[tokio::test]
async fn copied_text_is_masked_across_messages() {
    let copy = |card: &str| {
        let text = format!("1\tAda\t{card}\n2\tGrace\\n{card}\t\\N\n");
        let (front, back) = text.split_at(14);
        [
            copy_out(0),
            copied(front.as_bytes()),
            copied(b""),
            copied(back.as_bytes()),
            message(backend::COPY_DONE, |_| {}),
            done("COPY 2"),
        ]
        .concat()
    };
    check("Q copyout t", &copy(CARD), &copy(STARS), &[("card", 2)]).await;
}

#[tokio::test]
async fn binary_copies_are_rows() {
    let copy = |card: &str, number: i64| {
        let mut first = BytesMut::new();
        first.put_slice(b"PGCOPY\n\xff\r\n\0");
        first.put_slice(&[0; 8]);
        let number = number.to_be_bytes();
        tuple(&mut first, &[Some(&number), Some(card.as_bytes()), None]);
        let mut second = BytesMut::new();
        tuple(&mut second, &[None, Some(card.as_bytes())]);
        [
            copy_out(1),
            copied(&first),
            copied(&second),
            copied(&[0xff, 0xff]),
            message(backend::COPY_DONE, |_| {}),
            done("COPY 2"),
        ]
        .concat()
    };
    check(
        "Q copyout t",
        &copy(CARD, 1 << 40),
        &copy(STARS, 1 << 40),
        &[("card", 2)],
    )
    .await;
}

#[tokio::test]
async fn what_has_no_form_is_one_value() {
    let odd = |card: &str| {
        let bytes = |to: &mut BytesMut, length: i32| {
            to.put_i16(1);
            to.put_i32(length);
            to.put_slice(card.as_bytes());
        };
        [
            described(&[TEXT]),
            message(backend::DATA_ROW, |to| bytes(to, i32::MAX)),
            message(backend::DATA_ROW, |to| to.put_u8(0)),
            message(backend::DATA_ROW, |_| {}),
            done("SELECT 3"),
        ]
        .concat()
    };
    check("Q rows 3 t", &odd(CARD), &odd(STARS), &[("card", 1)]).await;
}

#[tokio::test]
async fn a_refused_value_ends_the_session_before_it_is_told() {
    for size in [1, 9, 1 << 16] {
        let answer = [
            described(&[TEXT]),
            row(&["fine"]),
            row(&[CARD]),
            done("SELECT 2"),
        ]
        .concat();
        let (got, end, outcome) = through(Action::Refuse, "Q rows 2 t", &answer, size).await;
        assert!(
            matches!(end.why, Why::Detected(Kind::Card)),
            "{:?}",
            end.why
        );
        assert!(!String::from_utf8_lossy(&got).contains("4111"));
        assert_eq!(
            (outcome.status.as_str(), outcome.found["card"]),
            ("42501", 1)
        );
    }
}
