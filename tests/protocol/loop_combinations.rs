//! Refusals in every combination: what was going on, what is refused, what comes behind it.
//!
//! Each script goes through the loop, and directly to the server with what is refused put in by what fails
//! there. The client must hear the same, message by message, transaction states among them, and the tables
//! must hold the same.

use std::sync::Arc;

use crate::loop_rig::{Front, Raw};
use crate::server::Server;

const TABLES: &str = "
CREATE TABLE t (a text); CREATE TABLE u (a text); CREATE TABLE denied (a text); CREATE TABLE late (a text);
CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'late'; END$$;
CREATE TRIGGER fails BEFORE INSERT ON late EXECUTE FUNCTION fails();
GRANT ALL ON ALL TABLES IN SCHEMA public TO trusted;
";

/// What is going on when the refused message comes.
const BEFORE: &[&str] = &[
    // Nothing.
    "",
    "Q one",
    "Q COPY t FROM STDIN|d x|c",
    "P x one|S",
    // A block, by both protocols, with a savepoint, failed already.
    "Q BEGIN|Q one",
    "P - BEGIN|B - -|E -|S|P - one|B - -|E -|S",
    "Q BEGIN; one|Q SAVEPOINT s",
    "Q BEGIN|Q one|Q SELECT 1/0",
    // A pipeline without its end: flushed, of a known statement, that has opened a block.
    "P - one|B - -|E -",
    "P - one|B - -|E -|H",
    "P x one|S|B - x|E -",
    "P - BEGIN|B - -|E -|P - one|B - -|E -",
    "P - one|B - -|E -|P - SELECT 1/0|B - -|E -",
    // Rows that are being fetched, by a portal and by a cursor.
    "Q BEGIN|P - SELECT generate_series(1, 4)|B p -|E p 2|S",
    "P - SELECT generate_series(1, 4)|B p -|E p 2",
    "Q BEGIN|Q DECLARE c CURSOR FOR SELECT generate_series(1, 4)|Q FETCH 2 FROM c",
    // Data in both directions.
    "P - COPY t FROM STDIN|B - -|E -|d x|c",
    "P - COPY t TO STDOUT|B - -|E -",
    "Q BEGIN|Q COPY t FROM STDIN|d x|c",
];

/// What is refused.
const REFUSED: &[&str] = &[
    "Q no!",
    "Q one; no!; two",
    "Q COMMIT; no!",
    "P - no!",
    "P y no!",
    "P - no!|B - -|D P -|E -",
    "P y no!|D S y|B q y|E q 1|C S y",
    "Q COPY denied FROM STDIN|d x|c",
    "Q COPY denied FROM STDIN|d x|f no",
    "P - COPY denied FROM STDIN|B - -|E -|d x|c",
    "Q COPY denied TO STDOUT",
    "P - COPY denied TO STDOUT|B - -|E -",
    "Q PREPARE y AS no!",
    "P - PREPARE y AS no!|B - -|E -",
    "Q DECLARE d CURSOR FOR TABLE denied",
    "P - EXPLAIN ANALYZE no!|B - -|E -",
    // Permitted when it was prepared, refused when it runs.
    "P - late!|B - -|E -",
    "P y late!|B q y|D P q|E q 1",
    "F",
];

/// What comes behind it. A `Sync` ends every script: what a server keeps back when its client goes is
/// another matter.
const AFTER: &[&str] = &[
    "",
    "P - three|B - -|E -",
    "H|P - three|B - -|E -|S|Q two",
    "Q two",
    "S|Q COMMIT|Q three",
    "S|Q ROLLBACK TO s|Q three|Q COMMIT",
    "S|Q ROLLBACK|P - three|B - -|E -",
    "E p 2|S|E p 2|S|Q FETCH 2 FROM c|Q COMMIT",
    "C S y|D S x|B - x|E -|S|B - x|E -",
    "d y|c|S|P - COPY u FROM STDIN|B - -|E -|d y|c",
    "S|F|Q COPY t TO STDOUT",
];

fn written_out(script: &str) -> String {
    let insert = |name: &str, word: &str| format!("INSERT INTO {name} VALUES ('{word}')");
    script
        .replace("one", &insert("t", "1"))
        .replace("two", &insert("t", "2"))
        .replace("three", &insert("t", "3"))
        .replace("no!", &insert("denied", "0"))
        .replace("late!", &insert("late", "0"))
}

/// The script with what the gate refuses put in by what fails on the server.
fn failing(script: &str) -> String {
    let message = |one: &str| match one.split_once(' ') {
        _ if one == "F" => "F no function".to_owned(),
        Some(("P", rest)) if one.contains("denied") => {
            format!("P {} SELEC", rest.split(' ').next().unwrap_or("-"))
        }
        Some(("Q", _)) if one.contains("denied") => "Q SELEC".to_owned(),
        _ => one.to_owned(),
    };
    script.split('|').map(message).collect::<Vec<_>>().join("|")
}

/// Both sides of the comparison in one database each, and who looks into them.
struct Lane {
    front: Front,
    talks: [Raw; 2],
    looks: [Raw; 2],
}

impl Lane {
    async fn new(server: &Arc<Server>, name: &str) -> Self {
        let (looped, directly) = (format!("{name}_looped"), format!("{name}_directly"));
        for database in [&looped, &directly] {
            server.sql(&format!("CREATE DATABASE {database} TEMPLATE template0"));
            server.sql(&format!("\\c {database}\n{TABLES}"));
        }
        let front = Front::closed(server, &[&looped]).await;
        Self {
            talks: [
                Raw::connect(front.address, &looped).await,
                Raw::connect(server.address(), &directly).await,
            ],
            front,
            looks: [
                Raw::connect(server.address(), &looped).await,
                Raw::connect(server.address(), &directly).await,
            ],
        }
    }

    async fn compare(&mut self, script: &str) {
        let [looped, directly] = &mut self.talks;
        let told = talk(looped, script).await;
        let directly = talk(directly, &failing(script)).await;
        assert!(
            is_same(&told, &directly),
            "{script}:\n  {told}\ndirectly\n  {directly}"
        );
        let [looped, directly] = &mut self.looks;
        let (looped, directly) = (looped.rows(ROWS).await, directly.rows(ROWS).await);
        assert_eq!(looped, directly, "{script}");
    }
}

/// What a session hears of a script, which leaves nothing behind for the next one.
async fn talk(session: &mut Raw, script: &str) -> String {
    session
        .send(&format!("{script}|Q ROLLBACK|Q DISCARD ALL"))
        .await;
    let mut told = String::new();
    while !told.ends_with("C:DISCARD_ALL Z:I") {
        let more = session.read_until("Z:I").await;
        assert!(!more.is_empty(), "{script}: the session ended: {told}");
        told = format!("{told} {more}");
    }
    told
}

/// Whether both heard the same; what the gate refuses is whatever fails directly.
fn is_same(told: &str, directly: &str) -> bool {
    let (told, directly): (Vec<_>, Vec<_>) =
        (told.split(' ').collect(), directly.split(' ').collect());
    let same = |(told, directly): (&&str, &&str)| {
        told == directly || (*told == "E:42501" && directly.starts_with("E:"))
    };
    told.len() == directly.len() && told.iter().zip(&directly).all(same)
}

/// What is in the tables, which are empty then.
const ROWS: &str = "SELECT concat('t ', a) FROM t UNION ALL SELECT concat('u ', a) FROM u \
    UNION ALL SELECT concat('denied ', a) FROM denied UNION ALL SELECT concat('late ', a) FROM late; \
    DELETE FROM t; DELETE FROM u; DELETE FROM denied; DELETE FROM late";

/// A part of all combinations: every second one, from `first` on.
async fn every_second(first: usize) {
    let server = Server::shared();
    let mut lane = Lane::new(&server, &format!("lane{first}")).await;
    let mut number = 0;
    for before in BEFORE {
        for refused in REFUSED {
            for after in AFTER {
                number += 1;
                if number % 2 == first {
                    let parts = [before, refused, after, &"S"].map(|part| part.to_owned());
                    lane.compare(&written_out(&parts.join("|"))).await;
                }
            }
        }
    }
    drop(lane.talks);
    lane.front.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_anywhere_is_what_an_error_of_the_server_is_there() {
    every_second(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_anywhere_else_is_that_too() {
    every_second(1).await;
}
