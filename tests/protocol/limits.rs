//! Limits on answers, over a real server: what passes is what may, to the row and to the byte, whichever way
//! it is asked for, and the server stops.

use std::sync::Arc;

use interceptor::protocol::postgres::wire::{self, frontend};
use tokio::io::AsyncWriteExt as _;

use crate::loop_rig::{Front, Raw, bind, script_bytes};
use crate::server::Server;

/// Tables of one row each as long as another, `few_rows` and its like, and one that is under no limit.
const SETUP: &str = "
SET ROLE trusted;
CREATE TABLE few_rows (n int, filler text);
INSERT INTO few_rows SELECT n, repeat('x', 16) FROM generate_series(1, 100) AS n;
CREATE TABLE few_bytes (n int, filler text);
CREATE TABLE few_in_all (n int);
INSERT INTO few_in_all SELECT generate_series(1, 100);
CREATE TABLE free (n int);
INSERT INTO free SELECT generate_series(1, 1000);
CREATE FUNCTION swap() RETURNS int LANGUAGE plpgsql AS 'DECLARE c refcursor := ''c'';
BEGIN CLOSE c; OPEN c FOR SELECT f.n FROM few_rows f, free; RETURN 1; END';
CREATE FUNCTION opens() RETURNS refcursor LANGUAGE plpgsql AS 'DECLARE c refcursor := ''mine'';
BEGIN OPEN c FOR SELECT f.n FROM few_rows f, free; RETURN c; END';
";

/// A database of its own for a test.
fn set_up(name: &str) -> Arc<Server> {
    let server = Server::shared();
    server.sql(&format!("CREATE DATABASE {name} OWNER trusted"));
    server.sql(&format!(
        "\\c {name}\nGRANT ALL ON SCHEMA public TO trusted;\n{SETUP}"
    ));
    server
}

/// Data that came, message by message, its bytes, the SQLSTATE or tag that ended it, and the state of the
/// transaction.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    rows: usize,
    bytes: usize,
    ends: Vec<String>,
    state: char,
}

async fn ask(raw: &mut Raw, bytes: &[u8]) -> Got {
    raw.stream.write_all(bytes).await.unwrap();
    let mut got = Got::default();
    while let Some((tag, body)) = raw.next().await {
        match tag {
            b'D' | b'd' => {
                got.rows += 1;
                got.bytes += body.len() + 5;
            }
            b'C' => got
                .ends
                .push(String::from_utf8_lossy(&body[..body.len() - 1]).into_owned()),
            b's' => got.ends.push("suspended".to_owned()),
            b'E' => {
                let fields = wire::error::ErrorFields::read(&body).unwrap();
                got.ends.push(fields.sqlstate().unwrap().to_owned());
            }
            b'Z' => {
                got.state = char::from(body[0]);
                break;
            }
            _ => {}
        }
    }
    got
}

async fn query(raw: &mut Raw, text: &str) -> Got {
    ask(raw, &frontend::make_query(text)).await
}

/// A text in the extended protocol, with rows in this format.
fn extended(text: &str, format: i16) -> Vec<u8> {
    [
        frontend::make_parse("", text).as_ref(),
        bind(&[], format).as_ref(),
        frontend::make_execute("", 0).as_ref(),
        frontend::make_bare(b'S').as_ref(),
    ]
    .concat()
}

/// What asks for a hundred rows of `few_rows`, and for more of them.
const WAYS: &[(&str, &str)] = &[
    (
        "SELECT * FROM few_rows",
        "SELECT * FROM few_rows UNION ALL SELECT n, '' FROM free",
    ),
    ("TABLE few_rows", "SELECT * FROM few_rows, free"),
    (
        "COPY few_rows TO STDOUT",
        "COPY (SELECT f.n FROM few_rows f, generate_series(1, 2)) TO STDOUT",
    ),
    (
        "COPY few_rows TO STDOUT (FORMAT csv, HEADER)",
        "COPY (SELECT f.n FROM few_rows f, generate_series(1, 2)) TO STDOUT (FORMAT csv, HEADER)",
    ),
    (
        "COPY few_rows TO STDOUT (FORMAT binary)",
        "COPY (SELECT f.n FROM few_rows f, generate_series(1, 1000)) TO STDOUT (FORMAT binary)",
    ),
    (
        "UPDATE few_rows SET n = n RETURNING n",
        "WITH x AS (UPDATE few_rows SET n = n RETURNING n) SELECT x.n FROM x, generate_series(1, 3)",
    ),
    ("EXECUTE p", "EXECUTE q"),
];

const PREPARED: &str =
    "PREPARE p AS SELECT n FROM few_rows; PREPARE q AS SELECT f.n FROM few_rows f, free";

#[tokio::test]
async fn a_hundred_rows_pass_and_one_more_does_not_whichever_way_they_are_asked_for() {
    let server = set_up("limited_0");
    let front = Front::limited(&server, &["limited_0"]).await;
    let mut raw = Raw::connect(front.address, "limited_0").await;
    query(&mut raw, PREPARED).await;
    for (within, beyond) in WAYS {
        // The line with the names, and the end of a binary COPY, are no rows.
        let extra = usize::from(within.contains("HEADER") || within.contains("binary"));
        let begins = usize::from(beyond.contains("HEADER"));
        for format in [None, Some(0), Some(1)] {
            let bytes = |text: &str| match format {
                None => frontend::make_query(text).to_vec(),
                Some(format) => extended(text, format),
            };
            let got = ask(&mut raw, &bytes(within)).await;
            assert_eq!(
                (got.rows, got.state),
                (100 + extra, 'I'),
                "{within}: {got:?}"
            );
            assert!(got.ends[0].ends_with("100"), "{within}: {got:?}");
            let got = ask(&mut raw, &bytes(beyond)).await;
            assert_eq!(got.ends, ["54000"], "{beyond}");
            assert_eq!((got.rows, got.state), (100 + begins, 'I'), "{beyond}");
        }
        // A transaction fails with it, on the server too.
        query(&mut raw, "BEGIN; INSERT INTO free VALUES (0)").await;
        let got = query(&mut raw, beyond).await;
        assert_eq!(
            (got.ends, got.state),
            (vec!["54000".to_owned()], 'E'),
            "{beyond}"
        );
        let got = query(&mut raw, "COMMIT").await;
        assert_eq!((got.ends, got.state), (vec!["ROLLBACK".to_owned()], 'I'));
    }
    let got = query(&mut raw, "SELECT n FROM free").await;
    assert_eq!(
        (got.rows, got.ends),
        (1_000, vec!["SELECT 1000".to_owned()])
    );
}

#[tokio::test]
async fn portals_and_cursors_give_a_hundred_rows_however_they_are_fetched() {
    let server = set_up("limited_1");
    let front = Front::limited(&server, &["limited_1"]).await;
    let mut raw = Raw::connect(front.address, "limited_1").await;
    query(&mut raw, "BEGIN").await;
    let script = "P - SELECT f.n FROM few_rows f, free|B p -|E p 60|E p 40|S";
    let got = ask(&mut raw, &script_bytes(script)).await;
    assert_eq!(
        (got.rows, got.ends.join(" ")),
        (100, "suspended suspended".to_owned())
    );
    let got = ask(&mut raw, &script_bytes("E p 1|S")).await;
    assert_eq!(
        (got.rows, got.ends.join(" "), got.state),
        (0, "54000".to_owned(), 'E')
    );
    query(&mut raw, "ROLLBACK").await;
    for fetch in ["FETCH 60 FROM c", "FETCH FORWARD 60 IN c"] {
        query(
            &mut raw,
            "BEGIN; DECLARE c CURSOR FOR SELECT f.n FROM few_rows f, free",
        )
        .await;
        assert_eq!(query(&mut raw, fetch).await.rows, 60);
        let got = query(&mut raw, fetch).await;
        assert_eq!(
            (got.rows, got.ends.join(" "), got.state),
            (40, "54000".to_owned(), 'E')
        );
        query(&mut raw, "ROLLBACK").await;
    }
    // A portal of the protocol, fetched from in SQL.
    query(&mut raw, "BEGIN").await;
    let got = ask(
        &mut raw,
        &script_bytes("P - SELECT f.n FROM few_rows f, free|B p -|S"),
    )
    .await;
    assert_eq!(got.state, 'T');
    let got = query(&mut raw, "FETCH ALL FROM p").await;
    assert_eq!(
        (got.rows, got.ends.join(" "), got.state),
        (100, "54000".to_owned(), 'E')
    );
    query(&mut raw, "ROLLBACK").await;
}

#[tokio::test]
async fn a_cursor_that_a_function_made_is_under_the_limits_of_what_called_it() {
    let server = set_up("limited_5");
    let front = Front::limited(&server, &["limited_5"]).await;
    let mut raw = Raw::connect(front.address, "limited_5").await;
    let declared = "BEGIN; DECLARE c CURSOR FOR SELECT n FROM free";
    for (before, call, name) in [
        ("BEGIN", "SELECT opens() FROM few_rows LIMIT 1", "mine"),
        // In the place of one that was declared under none.
        (declared, "SELECT swap() FROM few_rows LIMIT 1", "c"),
    ] {
        query(&mut raw, before).await;
        assert_eq!(query(&mut raw, call).await.rows, 1, "{call}");
        let fetch = format!("FETCH 60 FROM {name}");
        assert_eq!(query(&mut raw, &fetch).await.rows, 60, "{call}");
        let got = query(&mut raw, &fetch).await;
        assert_eq!(
            (got.rows, got.ends.join(" "), got.state),
            (40, "54000".to_owned(), 'E'),
            "{call}"
        );
        query(&mut raw, "ROLLBACK").await;
    }
    // In another transaction a declared one is itself again.
    query(&mut raw, declared).await;
    assert_eq!(query(&mut raw, "FETCH ALL FROM c").await.rows, 1_000);
    query(&mut raw, "ROLLBACK").await;
}

#[tokio::test]
async fn bytes_pass_to_the_last_that_is_permitted() {
    let server = set_up("limited_2");
    let front = Front::limited(&server, &["limited_2"]).await;
    let mut raw = Raw::connect(front.address, "limited_2").await;
    // A row of one text of so many bytes: five for the header, two and four for the counts.
    let text = |size: usize| {
        format!(
            "SELECT repeat('x', {size}) FROM (SELECT count(*) FROM few_bytes) AS z, generate_series(1, 4)"
        )
    };
    for format in [None, Some(0), Some(1)] {
        let bytes = |text: &str| match format {
            None => frontend::make_query(text).to_vec(),
            Some(format) => extended(text, format),
        };
        let got = ask(&mut raw, &bytes(&text(1_024 - 11))).await;
        assert_eq!(
            (got.rows, got.bytes, got.ends.join(" ")),
            (4, 4_096, "SELECT 4".to_owned())
        );
        let got = ask(&mut raw, &bytes(&text(1_024 - 10))).await;
        assert_eq!(
            (got.rows, got.bytes, got.ends.join(" ")),
            (3, 3_075, "54000".to_owned())
        );
        // One that is too long by itself is not begun.
        let got = ask(&mut raw, &bytes(&text(20 << 20))).await;
        assert_eq!(
            (got.rows, got.bytes, got.ends.join(" ")),
            (0, 0, "54000".to_owned())
        );
    }
}

#[tokio::test]
async fn a_session_has_its_rows_once() {
    let server = set_up("limited_3");
    let front = Front::limited(&server, &["limited_3"]).await;
    for _ in 0..2 {
        let mut raw = Raw::connect(front.address, "limited_3").await;
        for (rows, end) in [(100, "SELECT 100"), (50, "54000"), (0, "54000")] {
            let got = query(&mut raw, "SELECT n FROM few_in_all").await;
            assert_eq!((got.rows, got.ends.join(" ")), (rows, end.to_owned()));
        }
        assert_eq!(query(&mut raw, "SELECT n FROM free").await.rows, 1_000);
    }
}

#[tokio::test]
async fn a_statement_that_would_go_on_for_ever_is_cancelled_and_the_audit_has_what_passed() {
    let server = set_up("limited_4");
    let front = Front::limited(&server, &["limited_4"]).await;
    let mut raw = Raw::connect(front.address, "limited_4").await;
    let endless = "SELECT n, generate_series(1, 1000000000000) FROM few_rows";
    let got = query(&mut raw, endless).await;
    assert_eq!(
        (got.rows, got.ends.join(" "), got.state),
        (100, "54000".to_owned(), 'I')
    );
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%1000000000000) FROM%' AND pid <> pg_backend_pid() AND state = 'active'";
    assert_eq!(server.sql(running), "0");
    drop(raw);
    let done = front.ended().await;
    let lines = done.gate.lines();
    let outcome = &lines[0].outcomes[0];
    assert_eq!((outcome.rows, &*outcome.status), (100, "limited"));
}
