//! The second look: rows of masked columns end the session before they reach the client, rows that nobody
//! described are described first, and words of the server about them are not the client's to read.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::BufMut as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::super::super::mask::schema::{Column, Schema, Table};
use super::super::super::mask::{Known, Watch};
use super::super::super::wire::error::{ErrorFields, code};
use super::super::super::wire::{self, put_string};
use super::super::Why;
use super::super::ledger::{Guard, Unexpected};
use super::rig::{Rig, exchange, messages};
use super::server::Log;
use crate::masking::{Mask, Masked, Masks, Relation};

fn people() -> Relation {
    Relation {
        schema: "public".to_owned(),
        name: "people".to_owned(),
    }
}

pub(crate) fn masks() -> Masks {
    let mut masks = Masks::default();
    let columns = masks.relations.entry(people()).or_default();
    columns.insert("ssn".to_owned(), Mask::Null);
    masks
}

pub(crate) fn known() -> Arc<Watch> {
    let column = |number: i16, name: &str| Column {
        number,
        name: name.to_owned(),
        type_oid: 25,
        type_name: "text".to_owned(),
        ..Column::default()
    };
    let mut schema = Schema::default();
    schema.add(Table {
        oid: 16_400,
        schema: "public".to_owned(),
        name: "people".to_owned(),
        kind: b'r',
        columns: vec![column(1, "id"), column(2, "ssn")],
        ..Table::default()
    });
    let known = Known::default();
    known.learn(schema, known.doubts());
    Arc::new(Watch::new(Arc::new(known), Box::new(drop)))
}

/// What a text of the tests' language touches of it.
pub(crate) fn touched(text: &str) -> Arc<[Masked]> {
    if !text.contains("people") {
        return Arc::default();
    }
    let masked = Masked {
        relation: people(),
        column: "ssn".to_owned(),
        by: Mask::Null,
    };
    Arc::from([masked])
}

fn description(origins: &[(u32, i16)], format: i16) -> Vec<u8> {
    let message = wire::message(b'T', |to| {
        to.put_i16(i16::try_from(origins.len()).unwrap());
        for (relation, attribute) in origins {
            put_string(to, b"x");
            to.put_u32(*relation);
            to.put_i16(*attribute);
            to.put_i32(25);
            to.put_i16(-1);
            to.put_i32(-1);
            to.put_i16(format);
        }
    });
    message.to_vec()
}

fn row(text: &str) -> Vec<u8> {
    let message = wire::message(b'D', |to| {
        to.put_i16(1);
        to.put_i32(i32::try_from(text.len()).unwrap());
        to.put_slice(text.as_bytes());
    });
    message.to_vec()
}

async fn read_message(from: &mut DuplexStream) -> u8 {
    let tag = from.read_u8().await.unwrap();
    let length = from.read_u32().await.unwrap();
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    from.read_exact(&mut body).await.unwrap();
    tag
}

/// What the client gets, and why the session ended, where a server answers `Q` like this.
async fn answered(answer: &[u8]) -> (Vec<u8>, Why) {
    answered_to("Q rows 1 people", answer).await
}

async fn answered_to(script: &str, answer: &[u8]) -> (Vec<u8>, Why) {
    let (upstream, mut server) = duplex(4_096);
    let mut rig = Rig::masked_against(upstream, Arc::<Mutex<Log>>::default());
    rig.send(script).await;
    assert_eq!(read_message(&mut server).await, b'Q');
    let mut got = Vec::new();
    let answers = async {
        // The session may end before it has all been read.
        drop(server.write_all(answer).await);
        drop(server);
    };
    let ((), read) = tokio::join!(answers, rig.client.read_to_end(&mut got));
    read.unwrap();
    (got, rig.relay.await.unwrap().why)
}

#[tokio::test]
async fn rows_of_a_masked_column_end_the_session_before_a_byte_of_them() {
    for format in [0, 1] {
        for (origin, is_masked) in [
            ((16_400, 2), true),
            ((16_400, 0), true),
            ((16_400, 1), false),
            ((16_401, 2), false),
            ((0, 0), false),
        ] {
            let mut answer = description(&[(0, 0), origin], format);
            answer.extend(row("SECRET"));
            let (got, why) = answered(&answer).await;
            let told = got.windows(6).any(|some| some == b"SECRET");
            assert_eq!(told, !is_masked, "{origin:?}");
            let (relation, attribute) = origin;
            match why {
                Why::UpstreamViolation(Unexpected::Unmasked {
                    relation: r,
                    attribute: a,
                }) => {
                    assert!(is_masked && (r, a) == (relation, attribute), "{origin:?}");
                    assert_eq!(got[0], b'E', "the client gets the reason only");
                }
                why => assert!(!is_masked, "{origin:?}: {why}"),
            }
        }
    }
}

#[tokio::test]
async fn a_description_that_cannot_be_read_is_not_passed_on() {
    let mut broken = description(&[(0, 0)], 0);
    broken[6] = 9;
    let long = wire::message(b'T', |to| to.put_bytes(0, 300 << 10));
    for answer in [&broken[..], &long[..]] {
        let (got, why) = answered(answer).await;
        assert_eq!(got[0], b'E', "the client gets the reason only");
        assert!(matches!(why, Why::UpstreamViolation(_)), "{why}");
    }
}

#[tokio::test]
async fn rows_that_the_client_has_not_described_are_described_first() {
    let scripts = [
        ("P s rows 2 t|B p s|E p|S|X", "1 2 D D C:rows Z:I", 1),
        (
            "P s rows 2 t|B p s|D P p|E p|S|X",
            "1 2 T D D C:rows Z:I",
            1,
        ),
        (
            "P s rows 3 t|B p s|E p 2|E p|S|X",
            "1 2 D D s D C:rows Z:I",
            1,
        ),
        (
            "P s rows 1 t|B p s|E p|B p s|E p|S|X",
            "1 2 D C:rows 2 D C:rows Z:I",
            2,
        ),
        ("P s insert t|B p s|E p|S|X", "1 2 C:insert Z:I", 1),
    ];
    for (script, expected, describes) in scripts {
        let mut rig = Rig::masked();
        for one in messages(script) {
            rig.client.write_all(&one).await.unwrap();
        }
        let (told, _, log, _) = rig.finish().await;
        let sent: Vec<u8> = log.came.iter().map(|(tag, _)| *tag).collect();
        let asked = sent.iter().filter(|tag| **tag == b'D').count();
        assert_eq!(asked, describes, "{script}");
        let (plain, ..) = exchange(script).await;
        let plain = plain.split(' ').map(|one| one.split('_').next().unwrap());
        assert_eq!(
            told.split(' ')
                .map(|one| one.split('_').next().unwrap())
                .collect::<Vec<_>>(),
            plain.collect::<Vec<_>>(),
            "{script}: as without masks, and as {expected}"
        );
    }
}

#[tokio::test]
async fn errors_of_what_is_masked_lose_their_words_until_the_transaction_ends() {
    let rows = [
        ("Q fail people", true),
        ("Q fail t", false),
        ("Q begin|Q rows 1 people|Q fail t", true),
        ("Q begin|Q rows 1 people|Q commit|Q fail t", false),
        ("P s fail people|B p s|E p|S", true),
        ("P s rows 1 people|B p s|E p|S|Q fail t", false),
    ];
    for (script, is_hushed) in rows {
        let mut rig = Rig::masked();
        rig.send(script).await;
        let fields = loop {
            if let (b'E', body) = rig.next().await.unwrap() {
                break ErrorFields::read(&body).unwrap();
            }
        };
        let hint = fields.get(code::HINT).unwrap_or_default();
        let hushed = hint.starts_with(b"the server's own words are withheld");
        assert_eq!(hushed, is_hushed, "{script}: {fields:?}");
        rig.send("X").await;
        rig.finish().await;
    }
}

/// A message of strings, one after the other.
fn strings(tag: u8, front: &[u8], texts: &[&str]) -> Vec<u8> {
    let message = wire::message(tag, |to| {
        to.put_slice(front);
        texts
            .iter()
            .for_each(|text| put_string(to, text.as_bytes()));
    });
    message.to_vec()
}

#[tokio::test]
async fn what_a_server_reports_beside_masked_rows_is_told_only_where_it_is_no_data() {
    let setting = |name, value| strings(b'S', b"", &[name, value]);
    let notice = strings(b'N', b"", &["SNOTICE", "C00000", "MSECRET", ""]);
    let warning = strings(
        b'N',
        b"",
        &["SWARNING", "VWARNING", "C01000", "MSECRET", ""],
    );
    let notification = strings(b'A', &[0, 0, 0, 7], &["channel", "SECRET"]);
    let secret = setting("application_name", "SECRET");
    for (script, message, tag, is_told, is_shown) in [
        ("Q rows 1 people", &secret, b'S', false, false),
        // Said by the client itself, or of nothing that is masked.
        ("Q rows 1 SECRET people", &secret, b'S', true, true),
        ("Q rows 1 t", &secret, b'S', true, true),
        (
            "Q rows 1 people",
            &setting("client_encoding", "UTF8"),
            b'S',
            true,
            false,
        ),
        // How many there are may be data as well, but for warnings.
        ("Q rows 1 people", &notice, b'N', false, false),
        ("Q rows 1 people", &warning, b'N', true, false),
        ("Q rows 1 t", &notice, b'N', true, true),
        ("Q rows 1 people", &notification, b'A', true, false),
        ("Q rows 1 t", &notification, b'A', true, false),
    ] {
        let (got, _) = answered_to(script, message).await;
        let told = got.first() == Some(&tag);
        let shown = got.windows(6).any(|some| some == b"SECRET");
        let case = String::from_utf8_lossy(message);
        assert_eq!((told, shown), (is_told, is_shown), "{script}: {case:?}");
    }
}

#[test]
fn a_guard_knows_columns_and_whole_rows() {
    let guard = Guard::of([(7, 2), (8, 1)].into_iter());
    let look = |origins: &[(u32, i16)]| guard.look(&description(origins, 0)[5..]).unwrap();
    assert_eq!(look(&[(7, 1), (8, 2), (9, 0), (0, 0), (7, -1)]), None);
    assert_eq!(look(&[(7, 1), (8, 1)]), Some((8, 1)));
    assert_eq!(look(&[(7, 0)]), Some((7, 0)));
    assert!(guard.look(b"\0\x01x").is_err());
}

#[tokio::test]
async fn what_was_read_before_more_was_masked_is_not_forwarded() {
    for script in ["Q rows 1 people|X", "P s rows 1 people|S|X"] {
        let mut rig = Rig::masked();
        rig.gate.reveals.store(true, Ordering::SeqCst);
        rig.send(script).await;
        let (told, _, log, gate) = rig.finish().await;
        assert!(told.starts_with("E:"), "{script}: {told}");
        let bodies = log
            .came
            .iter()
            .map(|(_, body)| String::from_utf8_lossy(body));
        let came: String = bodies.collect();
        assert!(!came.contains("people"), "{script}: {came}");
        gate.assert_balanced();
    }
}
