//! What is told is on disk, in order, or was not done at all.

use std::os::unix::fs::PermissionsExt as _;

use std::sync::mpsc;

use rusqlite::params;
use tokio::sync::oneshot;

use super::{Error, State};

const FIRST: &str = "create table t (n integer primary key) strict;";
const SECOND: &str = "alter table t add column more integer not null default 7;";

fn numbers(file: &std::path::Path, versions: &[&str]) -> Result<(State, Vec<i64>), Error> {
    State::open("numbers", file, versions, |database| {
        let mut all = database.prepare("select n from t order by n")?;
        let all = all.query_map([], |row| row.get(0))?;
        all.collect()
    })
}

async fn put(state: &State, number: i64) -> Result<usize, Error> {
    let write = state.write(move |to| to.execute("insert into t (n) values (?1)", params![number]));
    write.await
}

#[tokio::test]
async fn what_was_told_is_there_again_and_what_failed_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("n.db");
    let (state, found) = numbers(&file, &[FIRST]).unwrap();
    assert!(found.is_empty());
    assert_eq!(put(&state, 1).await.unwrap(), 1);
    let error = put(&state, 1).await.unwrap_err();
    assert!(
        error.to_string().contains("cannot write the numbers"),
        "{error}"
    );
    assert!(state.write_later(|to| to.execute("insert into t (n) values (2)", []).map(drop)));
    let read =
        state.write(|to| to.query_row("select count(*) from t", [], |row| row.get::<_, i64>(0)));
    assert_eq!(read.await.unwrap(), 2_i64);
    drop(state);
    assert_eq!(numbers(&file, &[FIRST]).unwrap().1, [1, 2]);
}

#[tokio::test]
async fn what_cannot_be_read_takes_nothing_with_it_that_is_written_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("n.db");
    let (state, _) = numbers(&file, &[FIRST]).unwrap();
    // The disk is busy until all of the rest waits for it.
    let (busy, begun) = oneshot::channel();
    let (go, waits) = mpsc::sync_channel::<()>(1);
    assert!(state.write_later(move |_file| {
        busy.send(()).unwrap();
        waits.recv().unwrap_err();
        Ok(())
    }));
    begun.await.unwrap();
    let torn =
        state.look(|from| from.query_row("select 'no number'", [], |row| row.get::<_, i64>(0)));
    let (before, torn, after, ()) =
        tokio::join!(put(&state, 1), torn, put(&state, 2), async { drop(go) });
    assert_eq!((before.unwrap(), after.unwrap()), (1, 1));
    assert!(torn.is_err());
    drop(state);
    assert_eq!(numbers(&file, &[FIRST]).unwrap().1, [1, 2]);
}

#[tokio::test]
async fn a_file_is_brought_to_the_newest_version_and_one_of_a_newer_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("n.db");
    put(&numbers(&file, &[FIRST]).unwrap().0, 1).await.unwrap();
    let (state, found) = numbers(&file, &[FIRST, SECOND]).unwrap();
    assert_eq!(found, [1]);
    let more = state.write(|to| to.query_row("select more from t", [], |row| row.get::<_, i64>(0)));
    assert_eq!(more.await.unwrap(), 7_i64);
    drop(state);
    let error = numbers(&file, &[FIRST]).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn nobody_else_reads_what_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let modes = |file: &std::path::Path| {
        let beside = |end: &str| format!("{}{end}", file.display());
        let files = ["", "-wal", "-shm"].map(beside);
        files.map(|file| std::fs::metadata(file).unwrap().permissions().mode() & 0o777)
    };
    let file = directory.path().join("new.db");
    let (state, _) = numbers(&file, &[FIRST]).unwrap();
    assert_eq!(modes(&file), [0o600; 3]);
    drop(state);
    // One that an older version made.
    let file = directory.path().join("old.db");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (_state, _) = numbers(&file, &[FIRST]).unwrap();
    assert_eq!(modes(&file), [0o600; 3]);
}
