//! The same bytes to the server directly and through the loop, where policy allows all: the client must get
//! the same bytes back.
//!
//! Messages are drawn from seeds, well formed and not: those that are kept (`loop_oracle.seeds`), or the one in
//! `LOOP_SEED`; `LOOP_CASES` says how many of each. A seed that has found something is kept.

use bytes::{BufMut as _, BytesMut};
use interceptor::protocol::postgres::wire::error::ErrorFields;
use interceptor::protocol::postgres::wire::frontend::{self, Object};
use interceptor::protocol::postgres::wire::{self, HEADER, Header};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::loop_rig::{Front, Raw};
use crate::server::Server;

const TABLES: &str = "
CREATE TABLE t (a text, b int);
CREATE FUNCTION speaks(int) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'row %', $1; RETURN $1; END$$;
GRANT ALL ON ALL TABLES IN SCHEMA public TO trusted;
";

const TEXTS: &[&str] = &[
    "",
    ";",
    "-- nothing",
    "SELECT 1",
    "SELECT 1; SELECT 'two' AS b, NULL::int, 3.5::float8; SELECT",
    "SELECT a, b FROM t ORDER BY b",
    "SELECT a, b FROM t WHERE b < $1 ORDER BY b",
    "SELECT $1::int + $2::int AS sum, $1::text",
    "SELECT generate_series(1, 5) AS g, repeat('x', 100)",
    "SELECT repeat('x', 70000) FROM generate_series(1, 3)",
    "SELECT speaks(g) FROM generate_series(1, 3) g",
    "INSERT INTO t VALUES ('a', 1), ('b', 2)",
    "INSERT INTO t VALUES ($1, $2) RETURNING *",
    "UPDATE t SET b = b + 1",
    "DELETE FROM t WHERE b > 2",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COMMIT AND CHAIN",
    "BEGIN; INSERT INTO t VALUES ('c', 3); COMMIT; SELECT 1/0; SELECT 2",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "PREPARE s AS SELECT $1::int",
    "EXECUTE s(1)",
    "DEALLOCATE s",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 5)",
    "DECLARE c CURSOR FOR SELECT * FROM t",
    "FETCH 2 FROM c",
    "MOVE c",
    "CLOSE c",
    "CLOSE ALL",
    "COPY t TO STDOUT",
    "COPY t TO STDOUT (FORMAT binary)",
    "SET application_name = 'oracle'",
    "SET LOCAL search_path = pg_catalog",
    "SET search_path = nowhere",
    "RESET ALL",
    "SET client_encoding = 'LATIN1'",
    "SET standard_conforming_strings = off",
    "SHOW search_path",
    "LISTEN news",
    "NOTIFY other, 'x'",
    "DO $$BEGIN RAISE WARNING 'done'; END$$",
    "CREATE TEMP TABLE u (a int) ON COMMIT DROP",
    "EXPLAIN (COSTS off) SELECT * FROM t",
    "SELECT 1/0",
    "SELEC",
    "SELECT * FROM nowhere",
    "SELECT 'open",
    "SELECT pg_sleep(0)",
];

const VALUES: &[&[u8]] = &[b"1", b"2", b"\0\0\0\x03", b"x", b""];

/// A server keeps 63 bytes of a name, and no part of a letter.
const NAMES: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    "",
    "s",
    "s",
    "c",
    "c",
    "p",
    "p",
    "sixty-three-bytes-sixty-three-bytes-sixty-three-bytes-sixty-thr",
    "sixty-three-bytes-sixty-three-bytes-sixty-three-bytes-sixty-thrx",
    "cut-in-a-letter-cut-in-a-letter-cut-in-a-letter-cut-in-a-lette\u{fc}",
    "cut-in-a-letter-cut-in-a-letter-cut-in-a-letter-cut-in-a-lette",
];

/// The seeds that every run takes.
const SEEDS: &str = include_str!("loop_oracle.seeds");

fn message() -> impl Strategy<Value = Vec<u8>> {
    let well = prop_oneof![
        4 => text().prop_map(|text| frontend::make_query(text).to_vec()),
        4 => parse(),
        5 => bind(),
        5 => (name(), prop::sample::select(&[0, 0, 0, 1, 2, 100, -1][..]))
            .prop_map(|(portal, rows)| frontend::make_execute(portal, rows).to_vec()),
        6 => whole(),
        3 => (prop::sample::select(&b"DC"[..]), any::<bool>(), name()).prop_map(|(tag, portal, name)| {
            let object = if portal { Object::Portal } else { Object::Statement };
            frontend::make_about(tag, object, name).to_vec()
        }),
        8 => Just(frontend::make_bare(b'S').to_vec()),
        2 => Just(frontend::make_bare(b'H').to_vec()),
        1 => call(),
        3 => copy(),
        1 => data(),
        1 => end_of_data(),
    ];
    // Now and then a body that is too short, too long, or has a byte changed.
    (
        well,
        prop::option::weighted(0.04, (0..3, any::<prop::sample::Index>(), any::<u8>())),
    )
        .prop_map(|(message, harm)| match harm {
            Some((kind, at, byte)) => harmed(message, kind, at, byte),
            None => message,
        })
}

fn harmed(mut message: Vec<u8>, kind: i32, at: prop::sample::Index, byte: u8) -> Vec<u8> {
    let body = message.len() - HEADER;
    if Header::read(&message).unwrap().unwrap().body != body {
        // More than one message.
        return message;
    }
    // What stands in for a query that is no message takes the unnamed statement along, as a query does; the
    // message itself would not have.
    let (kind, byte) = if message[0] == b'Q' {
        (2, byte.max(1))
    } else {
        (kind, byte)
    };
    match kind {
        0 if body > 0 => message.truncate(HEADER + at.index(body)),
        1 => message.push(byte),
        _ if body > 0 => message[HEADER + at.index(body)] = byte,
        _ => {}
    }
    let length = u32::try_from(message.len() - 1).unwrap().to_be_bytes();
    message[1..HEADER].copy_from_slice(&length);
    message
}

fn text() -> impl Strategy<Value = &'static str> {
    prop::sample::select(TEXTS)
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES)
}

fn parse() -> impl Strategy<Value = Vec<u8>> {
    let types = prop::collection::vec(prop::sample::select(&[0, 23, 25, 99_999_999][..]), 0..3);
    (name(), text(), types).prop_map(|(name, text, types)| {
        let parse = wire::message(b'P', |to| {
            wire::put_string(to, name.as_bytes());
            wire::put_string(to, text.as_bytes());
            to.put_i16(i16::try_from(types.len()).unwrap());
            types.iter().for_each(|oid| to.put_i32(*oid));
        });
        parse.to_vec()
    })
}

fn formats() -> impl Strategy<Value = Vec<i16>> {
    prop::collection::vec(prop::sample::select(&[0, 0, 1, 1, 2][..]), 0..4)
}

fn bind() -> impl Strategy<Value = Vec<u8>> {
    let value = prop::option::of(prop::sample::select(VALUES));
    let values = prop::collection::vec(value, 0..3);
    (name(), name(), formats(), values, formats()).prop_map(
        |(portal, name, given, values, wanted)| {
            let bind = wire::message(b'B', |to| {
                wire::put_string(to, portal.as_bytes());
                wire::put_string(to, name.as_bytes());
                put_formats(to, &given);
                to.put_i16(i16::try_from(values.len()).unwrap());
                for value in &values {
                    match value {
                        Some(value) => {
                            to.put_i32(i32::try_from(value.len()).unwrap());
                            to.put_slice(value);
                        }
                        None => to.put_i32(-1),
                    }
                }
                put_formats(to, &wanted);
            });
            bind.to_vec()
        },
    )
}

fn put_formats(to: &mut BytesMut, formats: &[i16]) {
    to.put_i16(i16::try_from(formats.len()).unwrap());
    formats.iter().for_each(|format| to.put_i16(*format));
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    let lines = &[
        "a\t1\n", "b\t\\N\n", "c\t", "3\n", "\\.\n", "wrong\n", "half",
    ][..];
    prop::sample::select(lines)
        .prop_map(|line| wire::message(b'd', |to| to.put_slice(line.as_bytes())).to_vec())
}

fn end_of_data() -> impl Strategy<Value = Vec<u8>> {
    let failed = wire::message(b'f', |to| wire::put_string(to, b"no more"));
    let done = frontend::make_bare(b'c');
    prop::sample::select(vec![done.to_vec(), done.to_vec(), failed.to_vec()])
}

/// Data that is asked for, with its end. Whether the server has failed already when it reads a `Sync` in the
/// middle of the data is a race, directly too: it answers the ones behind its error, and ignores the others.
fn copy() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec(data(), 0..4);
    (any::<bool>(), lines, end_of_data()).prop_map(|(simple, lines, end)| {
        let text = "COPY t FROM STDIN";
        let begin = if simple {
            frontend::make_query(text).to_vec()
        } else {
            let (parse, bind) = (frontend::make_parse("", text), frontend::make_bind("", ""));
            [parse, bind, frontend::make_execute("", 0)].concat()
        };
        [begin, lines.concat(), end].concat()
    })
}

/// The usual way.
fn whole() -> impl Strategy<Value = Vec<u8>> {
    (text(), formats()).prop_map(|(text, wanted)| {
        let bind = wire::message(b'B', |to| {
            to.put_slice(b"\0\0\0\0\0\0");
            put_formats(to, &wanted);
        });
        [
            frontend::make_parse("", text),
            bind,
            frontend::make_about(b'D', Object::Portal, ""),
            frontend::make_execute("", 0),
        ]
        .concat()
    })
}

/// `version()` and `int4pl`, by number, and a number that no function has.
fn call() -> impl Strategy<Value = Vec<u8>> {
    let forms = [
        (89, &b""[..], 0),
        (177, b"\0\0\0\x04\0\0\0\x01\0\0\0\x04\0\0\0\x02", 2),
        (1, b"", 0),
    ];
    prop::sample::select(forms.to_vec()).prop_map(|(oid, arguments, count)| {
        let call = wire::message(b'F', |to| {
            to.put_i32(oid);
            put_formats(to, &[1]);
            to.put_i16(count);
            to.put_slice(arguments);
            to.put_i16(1);
        });
        call.to_vec()
    })
}

/// The replies one by one; of an error its fields.
fn told(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut told = Vec::new();
    while let Some(header) = Header::read(bytes).unwrap()
        && bytes.len() >= header.whole()
    {
        told.push((header.tag, bytes[HEADER..header.whole()].to_vec()));
        bytes = &bytes[header.whole()..];
    }
    assert!(bytes.is_empty(), "half a message");
    told
}

/// An error without its file, line and routine.
fn without_place(body: &[u8]) -> Vec<u8> {
    let fields = body.split(|byte| *byte == 0);
    let kept = fields.filter(|field| !matches!(field.first(), Some(b'F' | b'L' | b'R')));
    kept.collect::<Vec<_>>().join(&0)
}

/// Equal to the byte; but an error that the loop has made lacks its place, and where one message has several
/// mistakes, the server may have found another one first: a text that is not UTF-8, or a name that it does not
/// know.
fn is_same(looped: &(u8, Vec<u8>), directly: &(u8, Vec<u8>)) -> bool {
    if looped == directly {
        return true;
    }
    if looped.0 != b'E' || directly.0 != b'E' {
        return false;
    }
    let fields = |body: &[u8]| ErrorFields::read(body).unwrap();
    let (ours, theirs) = (fields(&looped.1), fields(&directly.1));
    let malformed = ours.sqlstate() == Some("08P01");
    let message = ours.get(b'M').unwrap_or_default();
    let unnamed = message.starts_with(b"unnamed ") || message.starts_with(b"portal \"\" ");
    ours.get(b'R').is_none()
        && (malformed || unnamed)
        && (without_place(&looped.1) == without_place(&directly.1)
            || matches!(theirs.sqlstate(), Some("08P01" | "22021"))
            || (malformed && matches!(theirs.sqlstate(), Some("26000" | "34000"))))
}

/// Whether somebody sent a message that no server takes, which ends a session here and there.
fn is_fatal(told: &[(u8, Vec<u8>)]) -> bool {
    told.last().is_some_and(|(tag, body)| {
        *tag == b'E'
            && ErrorFields::read(body).unwrap().sqlstate() == Some("08P01")
            && body.starts_with(b"SFATAL")
    })
}

/// Whether the server has lost count of its own transaction (`StartTransactionCommand`, `xact.c`): what it answers then
/// differs from one time to the next.
fn is_confused(told: &[(u8, Vec<u8>)]) -> bool {
    const LOST: &[u8] = b"StartTransactionCommand: unexpected state";
    told.iter()
        .any(|(tag, body)| *tag == b'E' && body.windows(LOST.len()).any(|part| part == LOST))
}

async fn exchange(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut client = Raw::connect(address, "oracle").await;
    told(&client.exchange_bytes(bytes).await)
}

fn shown(told: &[(u8, Vec<u8>)]) -> String {
    let one = |(tag, body): &(u8, Vec<u8>)| {
        let text: String = String::from_utf8_lossy(body).chars().take(120).collect();
        format!("{} {text:?}", char::from(*tag))
    };
    told.iter().map(one).collect::<Vec<_>>().join("\n    ")
}

fn sent(bytes: &[u8]) -> String {
    shown(&told(bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_policy_allows_all_the_same_bytes_come_back() {
    let server = Server::shared();
    server.sql("CREATE DATABASE oracle TEMPLATE template0");
    server.sql(&format!("\\c oracle\n{TABLES}"));
    let front = Front::open(&server, &["oracle"]).await;
    let mut look = Raw::connect(server.address(), "oracle").await;
    let told = std::env::var("LOOP_SEED");
    let seeds: Vec<&str> = match &told {
        Ok(seed) => vec![seed],
        Err(_) => SEEDS.lines().collect(),
    };
    let cases: usize = std::env::var("LOOP_CASES").map_or(150, |cases| cases.parse().unwrap());
    for seed in seeds {
        compare(&front, &server, &mut look, (seed, cases)).await;
    }
}

/// So many scripts of a seed, both ways.
async fn compare(front: &Front, server: &Server, look: &mut Raw, (seed, cases): (&str, usize)) {
    let bytes: Vec<u8> = seed.bytes().cycle().take(32).collect();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let scripts = prop::collection::vec(message(), 1..24);
    let mut confused = 0;
    for case in 0..cases {
        let mut script = scripts.new_tree(&mut runner).unwrap().current().concat();
        script.extend(frontend::make_bare(b'S'));
        let looped = exchange(front.address, &script).await;
        let done = front.ended().await;
        let left = look
            .rows("SELECT a, b FROM t ORDER BY 1, 2; DELETE FROM t")
            .await;
        let directly = exchange(server.address(), &script).await;
        let left_directly = look
            .rows("SELECT a, b FROM t ORDER BY 1, 2; DELETE FROM t")
            .await;
        let about = || {
            format!(
                "seed {seed:?}, case {case}\nsent\n    {}\nlooped\n    {}\ndirectly\n    {}\n{:?}",
                sent(&script),
                shown(&looped),
                shown(&directly),
                done.end
            )
        };
        // How much a client hears before it is left is a race.
        if is_fatal(&looped) || is_fatal(&directly) {
            assert!(is_fatal(&looped), "{}", about());
            continue;
        }
        if is_confused(&looped) || is_confused(&directly) {
            confused += 1;
            assert!(confused < cases / 10, "{}", about());
            continue;
        }
        let same = looped.len() == directly.len()
            && looped.iter().zip(&directly).all(|(a, b)| is_same(a, b));
        assert!(same, "{}", about());
        assert_eq!(left, left_directly, "{}", about());
    }
}
