//! Data through the loop at a real server: drivers, psql, COPY, big rows, slow readers, ends.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use interceptor::protocol::postgres::session::Why;
use interceptor::protocol::postgres::wire::error::ErrorFields;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::loop_rig::{Front, Raw, script_bytes};
use crate::server::{Server, bare, done, programs};

fn server_with(database: &str) -> Arc<Server> {
    let server = Server::shared();
    server.sql(&format!("CREATE DATABASE {database} TEMPLATE template0"));
    server.sql(&format!(
        "\\c {database}\nCREATE TABLE t (a int, b text); CREATE TABLE denied (a int);\
         GRANT ALL ON ALL TABLES IN SCHEMA public TO trusted;"
    ));
    server
}

fn psql(front: &Front, database: &str) -> Command {
    let mut psql = Command::new(programs().join("psql"));
    let url = format!(
        "host=127.0.0.1 port={} user=whoever dbname={database} sslmode=disable gssencmode=disable",
        front.address.port()
    );
    psql.args(["-X", "-A", "-t", &url]);
    psql
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_works_and_is_told_no() {
    let server = server_with("for_psql");
    let front = Front::new(&server, &["for_psql"]).await;
    let mut ok = psql(&front, "for_psql");
    ok.args(["-q", "-v", "ON_ERROR_STOP=1"]);
    for command in [
        "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 3) i",
        "\\copy t TO STDOUT",
        "\\copy t FROM PROGRAM 'seq 4 5 | sed s/$/\\\\tx/'",
        "\\d t",
        "BEGIN; SELECT count(*) FROM t; COMMIT",
        "SELECT b FROM t WHERE a = 2",
        "",
    ] {
        ok.args(["-c", command]);
    }
    let text = done(ok);
    assert!(text.contains("1\trow 1\n2\trow 2\n3\trow 3"), "{text}");
    assert!(text.contains("a|integer|||"), "{text}");
    assert!(text.contains("\n5\nrow 2"), "{text}");
    let end = front.ended().await.end;
    assert!(matches!(end.why, Why::Client), "{:?}", end.why);

    let mut refused = psql(&front, "for_psql");
    refused.args(["-c", "SELECT 1", "-c", "TABLE denied", "-c", "SELECT 2"]);
    let output = bare(&mut refused).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n2\n");
    assert!(said.starts_with("ERROR:  "), "{said}");
    assert!(
        said.contains("\nDETAIL:  rule no-denied; request "),
        "{said}"
    );
    assert!(said.contains("\nHINT:  ask for it"), "{said}");
    front.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_prepares_pipelines_and_cancels() {
    let server = server_with("for_driver");
    let front = Front::new(&server, &["for_driver"]).await;
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(front.address.port())
        .user("whoever")
        .dbname("for_driver");
    let (mut client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let insert = client
        .prepare("INSERT INTO t VALUES ($1, $2)")
        .await
        .unwrap();
    // Pipelined: the driver sends all of them before it reads.
    let rows: Vec<(i32, String)> = (0..500).map(|row| (row, format!("row {row}"))).collect();
    let many = rows.iter().map(|(a, b)| {
        let (client, insert) = (&client, &insert);
        async move { client.execute(insert, &[a, b]).await.unwrap() }
    });
    assert_eq!(join_all(many.collect()).await, 500);
    let error = client.query("SELECT * FROM denied", &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "42501");
    let block = client.transaction().await.unwrap();
    let portal = block.bind("SELECT a FROM t ORDER BY a", &[]).await.unwrap();
    let first = block.query_portal(&portal, 3).await.unwrap();
    let second = block.query_portal(&portal, 3).await.unwrap();
    let of = |rows: &[tokio_postgres::Row]| rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>();
    assert_eq!((of(&first), of(&second)), (vec![0, 1, 2], vec![3, 4, 5]));
    assert!(block.execute("DELETE FROM denied", &[]).await.is_err());
    let failed = block.execute("DELETE FROM t", &[]).await.unwrap_err();
    assert_eq!(failed.as_db_error().unwrap().code().code(), "25P02");
    block.rollback().await.unwrap();
    let count = client
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .unwrap();
    assert_eq!(count.get::<_, i64>(0), 500);
    let token = client.cancel_token();
    let sleep = client.simple_query("SELECT pg_sleep(3600)");
    let cancel = async {
        server.sql(
            "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'for_driver' \
             AND wait_event = 'PgSleep') LOOP PERFORM pg_stat_clear_snapshot(); END LOOP; END $$",
        );
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleep, cancel);
    assert_eq!(
        slept.unwrap_err().as_db_error().unwrap().code().code(),
        "57014"
    );
    drop(client);
    connection.await.unwrap().unwrap();
}

async fn join_all(futures: Vec<impl Future<Output = u64>>) -> u64 {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut sum = 0;
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(count) => {
                sum += count;
                false
            }
            std::task::Poll::Pending => true,
        });
        if futures.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_statements_are_pipelined_with_flush_alone() {
    let server = server_with("flushes");
    let front = Front::new(&server, &["flushes"]).await;
    let mut client = Raw::connect(front.address, "flushes").await;
    let mut script = "P - INSERT INTO t VALUES (1)|B - -|E -|H|".repeat(10_000);
    script.push('S');
    let told = client.exchange(&script).await;
    assert_eq!(told, "1 2 C:INSERT_0_1 ".repeat(10_000) + "Z:I");
    let done = front.ended().await;
    assert_eq!(done.end.requests, 20_000);
    assert_eq!(server.sql("\\c flushes\nSELECT count(*) FROM t"), "10000");
}

/// The memory that this process has, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_any_size_pass_and_a_slow_reader_costs_no_memory() {
    let server = server_with("big");
    let front = Front::new(&server, &["big"]).await;
    let megabytes = 1 << 20;
    for (text, at_least) in [
        ("SELECT repeat('x', 200 * 1024 * 1024)", 200 * megabytes),
        (
            "SELECT repeat('x', 10000) FROM generate_series(1, 20000)",
            190 * megabytes,
        ),
        (
            "COPY (SELECT repeat('x', 10000) FROM generate_series(1, 20000)) TO STDOUT",
            190 * megabytes,
        ),
    ] {
        let mut client = Raw::connect(front.address, "big").await;
        let before = resident();
        client.send(&format!("Q {text}")).await;
        // The server waits for somebody to read: everything between is full.
        server.sql(
            "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'big' \
             AND wait_event = 'ClientWrite') LOOP PERFORM pg_stat_clear_snapshot(); END LOOP; END $$",
        );
        let grown = resident().saturating_sub(before);
        assert!(
            grown < 96 * megabytes,
            "{text}: {grown} bytes for a reader that waits"
        );
        client.stream.write_all(&script_bytes("X")).await.unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut got = 0_u64;
        loop {
            match client.stream.read(&mut buffer).await.unwrap() {
                0 => break,
                count => got += u64::try_from(count).unwrap(),
            }
        }
        assert!(got >= at_least, "{text}: {got}");
        let grown = resident().saturating_sub(before);
        assert!(grown < 96 * megabytes, "{text}: {grown} bytes");
        let done = front.ended().await;
        assert_eq!(done.end.received, got, "{text}");
        let lines = done.gate.lines();
        assert_eq!(lines[0].outcomes[0].status, "ok");
        assert!(lines[0].outcomes[0].bytes >= at_least);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parameter_of_any_size_passes_and_costs_no_memory() {
    let server = server_with("parameters");
    let front = Front::new(&server, &["parameters"]).await;
    let mut client = Raw::connect(front.address, "parameters").await;
    client.send("P - SELECT length($1::text)").await;
    let before = resident();
    let size = 200 << 20;
    let length = 4 + 2 + 2 + 2 + 4 + size + 2_i32;
    let mut front_of_bind = vec![b'B'];
    front_of_bind.extend(length.to_be_bytes());
    front_of_bind.extend([0, 0, 0, 0, 0, 1]);
    front_of_bind.extend(size.to_be_bytes());
    client.stream.write_all(&front_of_bind).await.unwrap();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..200 {
        client.stream.write_all(&chunk).await.unwrap();
        let grown = resident().saturating_sub(before);
        assert!(grown < 96 << 20, "{grown} bytes");
    }
    client.stream.write_all(&[0, 0]).await.unwrap();
    assert_eq!(client.exchange("E -|S").await, "1 2 D C:SELECT_1 Z:I");
    front.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_is_too_long_to_read_passes_unread_where_that_is_permitted() {
    let server = server_with("long_texts");
    let front = Front::new(&server, &["long_texts"]).await;
    let mut client = Raw::connect(front.address, "long_texts").await;
    let mut text = "SELECT length('".to_owned();
    text.extend(std::iter::repeat_n('x', 3 << 20));
    write!(text, "')").unwrap();
    let told = client
        .exchange(&format!("Q {text}|P - {text}|B - -|E -|S|Q SELECT 1"))
        .await;
    assert_eq!(
        told,
        "T D C:SELECT_1 Z:I 1 2 D C:SELECT_1 Z:I T D C:SELECT_1 Z:I"
    );
    let done = front.ended().await;
    assert!(done.gate.lines()[0].text.len() < 4096);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_is_told_and_every_request_is_finished() {
    let server = server_with("ends");
    let front = Front::new(&server, &["ends"]).await;
    let mut client = Raw::connect(front.address, "ends").await;
    client
        .send("Q BEGIN|Q SELECT generate_series(1, 10), pg_sleep(3600)")
        .await;
    server.sql(
        "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'ends' \
         AND wait_event = 'PgSleep') LOOP PERFORM pg_stat_clear_snapshot(); END LOOP; END $$",
    );
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ends'");
    let told = client.read_until("never").await;
    assert!(told.ends_with("E:57P01"), "{told}");
    let done = front.ended().await;
    assert!(
        matches!(&done.end.why, Why::Fatal(state) if state == "57P01"),
        "{:?}",
        done.end.why
    );
    let last = done.gate.lines().pop().unwrap();
    assert_eq!(last.outcomes[0].status, "57P01");
}

/// What a client may see of the search path, and what it must not be fooled by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_judged_under_the_path_that_it_is_planned_under() {
    let server = server_with("paths");
    server.sql(
        "\\c paths\nCREATE SCHEMA other; CREATE TABLE other.denied (a int); CREATE TABLE other.fine (a int);\
         GRANT ALL ON SCHEMA other TO trusted; GRANT ALL ON ALL TABLES IN SCHEMA other TO trusted",
    );
    let front = Front::new(&server, &["paths"]).await;
    let major = server.major();
    for (script, replies) in [
        ("Q SELECT * FROM fine", "E:42P01 Z:I"),
        (
            "Q SET search_path = other|Q SELECT * FROM fine|Q SELECT * FROM denied",
            "C:SET Z:I T C:SELECT_0 Z:I E:42501 Z:I",
        ),
        (
            "P - SET search_path = other|B - -|E -|P - SELECT * FROM fine|B - -|E -|S",
            "1 2 C:SET 1 2 C:SELECT_0 Z:I",
        ),
        (
            "Q BEGIN|Q SET LOCAL search_path = other|Q SELECT * FROM fine|Q COMMIT|Q SELECT * FROM fine",
            "C:BEGIN Z:T C:SET Z:T T C:SELECT_0 Z:T C:COMMIT Z:I E:42P01 Z:I",
        ),
    ] {
        let mut client = Raw::connect(front.address, "paths").await;
        let told = client.exchange(script).await;
        front.ended().await;
        // From 18 on the path is reported as it changes.
        let told = match major {
            18.. => told.replace(" S ", " "),
            _ => told,
        };
        assert_eq!(told, replies, "{script}");
    }
}

/// `statement_timeout` runs on in a batch of which all is answered; the server looks at it behind the next
/// message, and that may be one that nothing is owed for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_takes_too_long_between_its_messages_fails_as_it_does_directly() {
    let server = server_with("timed");
    let front = Front::open(&server, &["timed"]).await;
    for address in [server.address(), front.address] {
        let mut client = Raw::connect(address, "timed").await;
        client.send("Q SET statement_timeout = 2000").await;
        assert_eq!(client.read_until("Z:I").await, "C:SET Z:I");
        client.send("P - SELECT 1|B - -|H").await;
        assert_eq!(client.read_until("2").await, "1 2");
        let fields = loop {
            client.send("H").await;
            let more = tokio::time::timeout(Duration::from_millis(20), client.next());
            if let Ok(more) = more.await {
                let (tag, body) = more.unwrap();
                assert_eq!(tag, b'E');
                break ErrorFields::read(&body).unwrap();
            }
        };
        assert_eq!(fields.sqlstate(), Some("57014"));
        client.send("E -|P - SELECT 1|S").await;
        assert_eq!(client.read_until("Z:I").await, "Z:I");
        client.send("P - SELECT 1|B - -|E -|S").await;
        assert_eq!(client.read_until("Z:I").await, "1 2 D C:SELECT_1 Z:I");
    }
    let end = front.ended().await.end;
    assert!(matches!(end.why, Why::Client), "{:?}", end.why);
}
