//! Transcripts of conversations, honest and hostile.

use proptest::prelude::*;
use uuid::Uuid;

use super::{Cell, Limits, Piece, Reading, Transcript, transcript};
use crate::clock::BootTime;
use crate::session::{Direction, Phase, RequestId};

/// One step of a conversation.
enum Step {
    Sent(Vec<u8>),
    Received(Vec<u8>),
    Mark(u128, Phase),
}
use Step::{Mark, Received, Sent};

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), b"\0"].concat())
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

/// Parameters in text, results in the form given.
fn bind(statement: &str, parameters: &[&str], binary: bool) -> Vec<u8> {
    let mut body = format!("\0{statement}\0").into_bytes();
    body.extend([0, 0]);
    body.extend(u16::try_from(parameters.len()).unwrap().to_be_bytes());
    for parameter in parameters {
        body.extend(u32::try_from(parameter.len()).unwrap().to_be_bytes());
        body.extend(parameter.as_bytes());
    }
    body.extend([0, 1, 0, u8::from(binary)]);
    message(b'B', &body)
}

fn execute() -> Vec<u8> {
    message(b'E', &[0, 0, 0, 0, 0])
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn columns(names: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(names.len()).unwrap().to_be_bytes().to_vec();
    for name in names {
        body.extend(name.as_bytes());
        body.extend([0; 7]);
        body.extend([0, 0, 0, 23, 0, 4, 0, 0, 0, 0, 0, 0]);
    }
    message(b'T', &body)
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            None => body.extend(u32::MAX.to_be_bytes()),
            Some(value) => {
                body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(*value);
            }
        }
    }
    message(b'D', &body)
}

fn done(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"].concat())
}

fn error(code: &str, text: &str) -> Vec<u8> {
    message(
        b'E',
        format!("SERROR\0C{code}\0M{text}\0Hask\0\0").as_bytes(),
    )
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn answered(tag: u8) -> Vec<u8> {
    message(tag, b"")
}

/// Reads the steps, each byte string whole, then again byte by byte: both must say the same.
fn read(steps: &[Step]) -> Transcript {
    let whole = pieces(steps, usize::MAX);
    assert_eq!(
        whole,
        pieces(steps, 1),
        "it does not matter how bytes were cut"
    );
    whole
}

fn pieces(steps: &[Step], size: usize) -> Transcript {
    let mut reading = Reading::new(Limits::default());
    for (at, step) in (1..).zip(steps) {
        let at = BootTime(at);
        let (direction, bytes) = match step {
            Mark(request, phase) => {
                let request = RequestId(Uuid::from_u128(*request));
                reading.take(at, &Piece::Mark(request, *phase));
                continue;
            }
            Sent(bytes) => (Direction::Sent, bytes),
            Received(bytes) => (Direction::Received, bytes),
        };
        for part in bytes.chunks(size.min(bytes.len()).max(1)) {
            reading.take(at, &Piece::Bytes(direction, part));
        }
    }
    reading.finish()
}

fn requests(transcript: &Transcript) -> Vec<Vec<u128>> {
    let of = |exchange: &super::Exchange| {
        exchange
            .requests
            .iter()
            .map(|(request, _)| request.0.as_u128())
            .collect()
    };
    transcript.exchanges.iter().map(of).collect()
}

fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

#[test]
fn a_simple_query_of_two_statements_has_two_results() {
    let transcript = read(&[
        Received(ready()),
        Sent(query("SELECT a, b FROM t; DELETE FROM t")),
        Mark(1, Phase::Execute),
        Received(
            [
                columns(&["a", "b"]),
                row(&[Some(b"x"), None]),
                done("SELECT 1"),
            ]
            .concat(),
        ),
        Received([done("DELETE 5"), ready()].concat()),
    ]);
    let [exchange] = transcript.exchanges.as_slice() else {
        panic!("{transcript:?}");
    };
    assert_eq!(&*exchange.statement, "SELECT a, b FROM t; DELETE FROM t");
    assert_eq!(
        (exchange.at, exchange.ended),
        (BootTime(2), Some(BootTime(5)))
    );
    assert_eq!(exchange.results.len(), 2);
    assert_eq!(exchange.results[0].rows, [[text("x"), Cell::Null]]);
    assert_eq!(&*exchange.results[0].columns[1].name, "b");
    assert_eq!(exchange.results[1].tag.as_deref(), Some("DELETE 5"));
    assert_eq!(requests(&transcript), [[1]]);
    assert!(exchange.executed && transcript.remark.is_none());
}

#[test]
fn an_extended_query_is_one_exchange_with_parameters_and_its_described_columns() {
    let transcript = read(&[
        Mark(1, Phase::Prepare),
        Mark(2, Phase::Execute),
        Sent([parse("", "SELECT $1"), bind("", &["7"], true)].concat()),
        Sent([message(b'D', b"P\0"), execute(), sync()].concat()),
        Received([answered(b'1'), answered(b'2'), columns(&["n"])].concat()),
        Received([row(&[Some(&[0, 0, 0, 7])]), done("SELECT 1"), ready()].concat()),
    ]);
    let [exchange] = transcript.exchanges.as_slice() else {
        panic!("{transcript:?}");
    };
    assert_eq!(exchange.parameters, [text("7")]);
    let result = &exchange.results[0];
    assert!(result.columns[0].binary);
    assert_eq!(result.rows, [[Cell::Binary("00000007".into())]]);
    assert_eq!(requests(&transcript), [[1, 2]]);
}

#[test]
fn a_prepared_statement_keeps_its_columns_over_many_uses() {
    let transcript = read(&[
        Sent([parse("s", "SELECT 1"), message(b'D', b"Ss\0"), sync()].concat()),
        Received([answered(b'1'), answered(b't'), columns(&["one"]), ready()].concat()),
        Sent([bind("s", &[], false), execute(), sync()].concat()),
        Received(
            [
                answered(b'2'),
                row(&[Some(b"1")]),
                done("SELECT 1"),
                ready(),
            ]
            .concat(),
        ),
        Sent([bind("s", &[], false), execute(), sync()].concat()),
        Received(
            [
                answered(b'2'),
                row(&[Some(b"1")]),
                done("SELECT 1"),
                ready(),
            ]
            .concat(),
        ),
    ]);
    let kinds: Vec<bool> = transcript
        .exchanges
        .iter()
        .map(|exchange| exchange.executed)
        .collect();
    assert_eq!(kinds, [false, true, true]);
    for exchange in &transcript.exchanges[1..] {
        assert_eq!(&*exchange.statement, "SELECT 1");
        assert_eq!(&*exchange.results[0].columns[0].name, "one");
    }
}

#[test]
fn an_error_in_a_pipeline_stands_with_its_statement_and_the_rest_is_skipped() {
    let one = |text: &str| [parse("", text), bind("", &[], false), execute()].concat();
    let transcript = read(&[
        Sent([one("INSERT 1"), one("DROP 2"), one("INSERT 3"), sync()].concat()),
        Mark(1, Phase::Prepare),
        Mark(2, Phase::Execute),
        Mark(3, Phase::Prepare),
        Mark(4, Phase::Execute),
        Mark(5, Phase::Prepare),
        Mark(6, Phase::Execute),
        Received([answered(b'1'), answered(b'2'), done("INSERT 0 1")].concat()),
        Received([error("42501", "no"), ready()].concat()),
        Sent(query("SELECT 1")),
        Received([done("SELECT 0"), ready()].concat()),
    ]);
    let [first, second, third, last] = transcript.exchanges.as_slice() else {
        panic!("{transcript:?}");
    };
    assert_eq!(first.results[0].tag.as_deref(), Some("INSERT 0 1"));
    assert_eq!(&*second.errors[0].code, "42501");
    assert_eq!(second.errors[0].hint.as_deref(), Some("ask"));
    let skipped = [first, second, third, last].map(|exchange| exchange.skipped);
    assert_eq!(skipped, [false, false, true, false]);
    assert_eq!(
        requests(&transcript),
        [vec![1, 2], vec![3, 4], vec![5, 6], vec![]]
    );
    assert_eq!(last.results.len(), 1);
}

#[test]
fn what_comes_after_an_error_and_before_the_sync_is_skipped() {
    let transcript = read(&[
        Sent([parse("", "one"), message(b'H', b"")].concat()),
        Received(error("42601", "bad")),
        Sent([bind("", &[], false), execute(), parse("", "two"), sync()].concat()),
        Received(ready()),
        Sent(query("three")),
        Received([done("SELECT 0"), ready()].concat()),
    ]);
    let said: Vec<(&str, bool)> = transcript
        .exchanges
        .iter()
        .map(|exchange| (&*exchange.statement, exchange.skipped))
        .collect();
    assert_eq!(said.first(), Some(&("one", false)));
    assert_eq!(said.last(), Some(&("three", false)));
    assert!(
        said[1..said.len() - 1].iter().all(|(_, skipped)| *skipped),
        "{said:?}"
    );
}

#[test]
fn requests_that_cannot_be_told_apart_stand_with_the_first_exchange() {
    let one = |text: &str| [parse("", text), bind("", &[], false), execute()].concat();
    let transcript = read(&[
        Sent([one("a"), one("b"), sync()].concat()),
        Mark(1, Phase::Prepare),
        Mark(2, Phase::Execute),
        Mark(3, Phase::Execute),
        Received([answered(b'1'), answered(b'2'), done("A")].concat()),
        Received([answered(b'1'), answered(b'2'), done("B"), ready()].concat()),
    ]);
    assert_eq!(requests(&transcript), [vec![1, 2, 3], vec![]]);
}

#[test]
fn copy_is_counted_both_ways() {
    let transcript = read(&[
        Sent(query("COPY t FROM STDIN")),
        Received(message(b'G', &[0, 0, 0])),
        Sent([message(b'd', b"1\n2\n"), message(b'c', b"")].concat()),
        Received([done("COPY 2"), ready()].concat()),
        Sent(query("COPY t TO STDOUT")),
        Received(
            [
                message(b'H', &[0, 0, 0]),
                message(b'd', b"1\n"),
                message(b'd', b"2\n"),
            ]
            .concat(),
        ),
        Received([answered(b'c'), done("COPY 2"), ready()].concat()),
    ]);
    assert_eq!(transcript.exchanges[0].copied_in, 4);
    let result = &transcript.exchanges[1].results[0];
    assert_eq!((result.count, result.bytes), (2, 4));
    assert_eq!(result.rows, [[text("1")], [text("2")]]);
}

#[test]
fn an_error_out_of_nothing_stands_alone_and_notices_stand_with_their_statement() {
    let transcript = read(&[
        Sent(query("DO")),
        Received([message(b'N', b"SNOTICE\0Mhello\0\0"), done("DO"), ready()].concat()),
        Received(error("57P01", "going down")),
    ]);
    assert_eq!(&*transcript.exchanges[0].notices[0].message, "hello");
    assert_eq!(&*transcript.exchanges[1].errors[0].code, "57P01");
}

#[test]
fn rows_and_values_beyond_the_limits_are_counted_only() {
    let limits = Limits {
        rows: 2,
        value: 3,
        exchanges: 2,
    };
    let mut reading = Reading::new(limits);
    let answer = [row(&[Some(b"abcdef")]).repeat(5), done("SELECT 5"), ready()].concat();
    for _ in 0..3 {
        reading.take(
            BootTime(1),
            &Piece::Bytes(Direction::Sent, &query("SELECT long")),
        );
        reading.take(BootTime(2), &Piece::Bytes(Direction::Received, &answer));
    }
    let transcript = reading.finish();
    assert_eq!(transcript.exchanges.len(), 2);
    assert!(transcript.remark.is_some());
    let result = &transcript.exchanges[0].results[0];
    assert_eq!((result.count, result.rows.len()), (5, 2));
    assert_eq!(result.rows[0], [text("abc")]);
    assert_eq!(&*transcript.exchanges[0].statement, "SEL");
}

#[test]
fn a_message_larger_than_what_is_kept_is_passed_over_without_losing_the_thread() {
    let long = vec![b'x'; 3 << 20];
    let mut reading = Reading::new(Limits::default());
    let sent = query("SELECT 1");
    let received = [
        row(&[Some(&long)]),
        row(&[Some(b"y")]),
        done("SELECT 2"),
        ready(),
    ]
    .concat();
    reading.take(BootTime(1), &Piece::Bytes(Direction::Sent, &sent));
    for part in received.chunks(100_000) {
        reading.take(BootTime(1), &Piece::Bytes(Direction::Received, part));
    }
    let result = &reading.finish().exchanges[0].results[0];
    assert_eq!(result.rows[1], [text("y")]);
    assert_eq!(result.count, 2);
    assert_eq!(result.tag.as_deref(), Some("SELECT 2"));
}

#[test]
fn a_length_that_cannot_be_ends_the_transcript_with_a_remark() {
    for length in [0_u32, 3, 0x4000_0000, u32::MAX] {
        let bytes = [&[b'Q'][..], &length.to_be_bytes(), b"xxxx"].concat();
        let sent = (BootTime(1), Piece::Bytes(Direction::Sent, bytes.as_slice()));
        let transcript = transcript([sent], Limits::default());
        assert!(transcript.remark.is_some(), "{length}");
    }
}

/// A message with a known tag and any body, or just any bytes.
fn anything() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let tags = prop::sample::select(b"QPBDECFSdcfHX123nTDCIsENGWZStVKRA".to_vec());
    let body = prop::collection::vec(any::<u8>(), 0..40);
    let framed = (tags, body).prop_map(|(tag, body)| message(tag, &body));
    let raw = prop::collection::vec(any::<u8>(), 0..20);
    (any::<bool>(), prop_oneof![9 => framed, 1 => raw])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_it_panic(all in prop::collection::vec(anything(), 0..60)) {
        let pieces = all.iter().map(|(sent, bytes)| {
            let direction = if *sent { Direction::Sent } else { Direction::Received };
            (BootTime(1), Piece::Bytes(direction, bytes.as_slice()))
        });
        let transcript = transcript(pieces, Limits::default());
        prop_assert!(transcript.exchanges.len() <= all.len());
    }
}
